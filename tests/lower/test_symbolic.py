"""Plans of symbolic sizes, run at several sizes: one plan, the right values, texts that parse back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau as fl
from flambeau.ir import dtype as D
from flambeau.ir.loops_text import parse_plan
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import ops
from flambeau.ir.program import Extern
from flambeau.ir.symint import ShapeEnv
from flambeau.passes.pipeline import compile_to_plan

from .build import CPU, capture
from .evaluate import run_plan

_SHAPES: dict[str, tuple[Any, list[tuple[Any, ...]], int]] = {  # function of tensors, their shapes, externs expected
    "pointwise": (lambda x, y: ops.exp(x) * y + 1, [("s", 8), (8,)], 0),
    "softmax": (lambda x: ops.softmax(x, -1), [("s", "t")], 0),
    "layer_norm": (lambda x, w: ops.layer_norm(x, (8,), w, w), [("s", "t", 8), (8,)], 0),
    "linear": (lambda x, w, b: ops.gelu(ops.linear(x, w, b)), [("s", "t", 8), (16, 8), (16,)], 1),
    "sums": (lambda x: (ops.sum(x, 0), ops.sum(x), ops.mean(x, 1)), [("s", 8)], 0),
    "cat": (lambda x, y: ops.cat([x, y], 0) * 2, [("s", 8), ("t", 8)], 0),
    "transposed": (lambda x: ops.t(x) + 1, [("s", "t")], 0),
    "shifted": (lambda x: ops.narrow(x, 0, 1, x.shape[0] - 1) * 2, [("s", 4)], 0),
    "heads": (lambda x: ops.reshape(ops.permute(ops.reshape(x, (*x.shape[:2], 2, 4)), (0, 2, 1, 3)),
                                    (x.shape[0] * 2, x.shape[1], 4)) + 1, [("s", "t", 8)], 0),
}


@pytest.mark.parametrize("name", _SHAPES)
def test_one_plan_for_many_sizes(name: str) -> None:
    fn, shapes, externs = _SHAPES[name]
    env = ShapeEnv()
    symbols = {"s": env.create(6), "t": env.create(5)}
    names = {key: str(x) for key, x in symbols.items()}
    metas = [TensorMeta(tuple(symbols.get(d, d) for d in shape), D.float32) for shape in shapes]
    plan = compile_to_plan(capture(fn, *metas), CPU)
    assert parse_plan(str(plan)) == plan
    assert set(plan.sizes) == {names[d] for shape in shapes for d in shape if isinstance(d, str)}, "a size was fixed"
    assert sum(isinstance(s, Extern) for s in plan.schedule.steps) == externs
    for s, t in [(6, 5), (9, 7), (70, 3), (2, 2)]:
        _compare(fn, plan, shapes, {"s": s, "t": t}, names)


def _compare(fn: Any, plan: Any, shapes: Any, sizes: dict[str, int], names: dict[str, str]) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal([sizes.get(d, d) for d in shape]).astype(np.float32) for shape in shapes]
    wanted = fn(*[fl.from_numpy(a.copy()) for a in arrays])
    found = run_plan(plan, arrays, {names[key]: n for key, n in sizes.items()})
    for w, f in zip(wanted if isinstance(wanted, tuple) else (wanted,), found):
        np.testing.assert_allclose(f, w.numpy(), rtol=1e-4, atol=1e-5)

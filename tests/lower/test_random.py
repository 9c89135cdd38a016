"""Random graphs: whatever is fused with whatever, the values stay."""

from __future__ import annotations

import random
from typing import Any

import pytest

from flambeau.ir import dtype as D
from flambeau.ir.loops_text import parse_plan
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import ops
from flambeau.ir.program import Target

from .build import CPU, capture, check

_ONE = [lambda x: ops.tanh(x), lambda x: x * 0.5, lambda x: ops.abs(x) + 1, lambda x: ops.sigmoid(x), lambda x: -x]
_TWO = [lambda x, y: x + y, lambda x, y: x * y, lambda x, y: ops.maximum(x, y), lambda x, y: x - y]


def _step(r: random.Random, pool: list[Any]) -> Any:
    x = r.choice(pool)
    kind = r.randrange(10)
    if kind < 2:
        return r.choice(_ONE)(x)
    if kind < 5:
        partners = [y for y in pool if y.shape == x.shape]
        return r.choice(_TWO)(x, r.choice(partners))
    if kind == 5 and x.ndim:
        d = r.randrange(x.ndim)
        return ops.tanh(r.choice([ops.sum, ops.amax, ops.mean])(x, d, True)) * x
    if kind == 6 and x.ndim:
        return ops.softmax(x, r.randrange(x.ndim))
    if kind == 7 and x.ndim > 1:
        order = list(range(x.ndim))
        r.shuffle(order)
        return ops.permute(x, tuple(order))
    if kind == 8 and x.ndim:
        total = x.numel()
        return ops.reshape(x, r.choice([(total,), (4, total // 4), (2, total // 4, 2)]))
    if kind == 9 and x.ndim == 2 and x.shape[1] > 3:
        return ops.cat([ops.narrow(x, 1, 1, x.shape[1] - 1), ops.narrow(x, 1, 0, 1)], 1)
    return ops.tanh(ops.sum(x)) + x


@pytest.mark.parametrize("seed", range(60))
def test_random_graph(seed: int) -> None:
    r = random.Random(seed)

    def fn(*inputs: Any) -> Any:
        pool = list(inputs)
        for _ in range(r.randrange(3, 14)):
            pool.append(_step(r, pool))
        made = pool[len(inputs):]
        return tuple(dict.fromkeys([made[-1], *r.sample(made, min(2, len(made)))]))

    shapes = [(4, 6), (4, 6), (2, 3, 4)]
    graph = capture(fn, *[TensorMeta(s, D.float32) for s in shapes])
    plan = check(graph, [CPU, Target("cpp", threads=1), Target("cpp", parallel_work=16)][seed % 3], rtol=2e-4)
    assert parse_plan(str(plan)) == plan

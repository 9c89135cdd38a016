"""Ops on big tensors as compiled forms: the values, shapes and tape of NumPy's kernels, and a fixed point of change."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from sampling import cases, close, outputs, sampled_ops, tensors

import flambeau
import flambeau.nn.functional as F
from flambeau.codegen.build import find_compiler
from flambeau.ir.op import OPS, call
from flambeau.ir.tree import leaves
from flambeau.runtime import autograd, fused

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Every tensor is big, and forms are built at their first use."""
    for name in ("PATIENCE", "LIMIT"):
        monkeypatch.setattr(fused, name, 0)
    monkeypatch.setattr(fused, "MIN_ELEMENTS", 1)
    yield monkeypatch


def by_numpy(fn: Callable[[], Any]) -> Any:
    before, fused.MIN_ELEMENTS = fused.MIN_ELEMENTS, 1 << 60
    try:
        return fn()
    finally:
        fused.MIN_ELEMENTS = before


def runners(name: str) -> int:
    """How many compiled forms an op has."""
    forms = fused.forms_of(OPS[name])
    assert forms is not None
    return sum(form.run is not None for form in forms.found.values())


def with_gradients(fn: Callable[..., Any], *shapes: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(0)
    ins = [flambeau.from_numpy(rng.standard_normal(s, dtype=np.float32)).requires_grad_() for s in shapes]
    y = fn(*ins)
    return [y, *flambeau.autograd.grad(y, ins, flambeau.cos(y.detach()))]


CALLS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "gelu": (F.gelu, ((3, 4, 5),)),
    "relu": (F.relu, ((3, 40),)),
    "softmax": (lambda x: F.softmax(x, -1), ((3, 4, 5),)),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (4, 5), w, b), ((3, 4, 5), (4, 5), (4, 5))),
    "batch_norm_train": (lambda x, w, b: F.batch_norm(x, None, None, w, b, True), ((3, 4, 5, 2), (4,), (4,))),
}


@needs_compiler
@pytest.mark.parametrize("name", CALLS)
def test_values_and_gradients(name: str, at_once: Any) -> None:
    fn, shapes = CALLS[name]
    got, want = with_gradients(fn, *shapes), by_numpy(lambda: with_gradients(fn, *shapes))
    assert runners(name) >= 2
    for a, b in zip(got, want, strict=True):
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-5)
    assert got[0].grad_fn.name() == want[0].grad_fn.name()


@needs_compiler
def test_one_form_serves_all_shapes(at_once: Any) -> None:
    F.silu(flambeau.ones(2, 3))
    before = runners("silu")
    for shape in ((7,), (2, 3, 4), (5, 1, 6)):
        assert F.silu(flambeau.ones(*shape)).shape == shape
    assert runners("silu") == before


@needs_compiler
def test_layouts_stay(at_once: Any) -> None:
    x = flambeau.randn(3, 4).t()
    assert F.gelu(x).stride() == (1, 4)
    wide = flambeau.randn(3, 8)[:, ::2]
    np.testing.assert_allclose(F.gelu(wide).numpy(), by_numpy(lambda: F.gelu(wide)).numpy(), rtol=1e-5, atol=1e-6)


@needs_compiler
def test_results_own_their_memory(at_once: Any) -> None:
    x = flambeau.randn(3, 4)
    y = F.gelu(x)
    kept = y.clone()
    F.gelu(x + 1)
    assert flambeau.equal(y, kept) and y._storage is not x._storage and y.storage_offset() == 0
    y.view(12).zero_()
    assert float(y.sum()) == 0


@needs_compiler
def test_second_derivatives_do_not_use_forms(at_once: Any) -> None:
    x = flambeau.randn(5, dtype=flambeau.float64).requires_grad_()
    first, = flambeau.autograd.grad(F.gelu(x).sum(), x, create_graph=True)
    second, = flambeau.autograd.grad(first.sum(), x)
    h = 1e-6
    slopes = []
    for step in (h, -h):
        moved = (x.detach() + step).requires_grad_()
        slopes.append(flambeau.autograd.grad(F.gelu(moved).sum(), moved)[0])
    np.testing.assert_allclose(second.numpy(), ((slopes[0] - slopes[1]) / (2 * h)).numpy(), rtol=1e-5, atol=1e-7)


@needs_compiler
def test_refusals_stay(at_once: Any) -> None:
    """What the shapes or the data forbid is still refused."""
    with pytest.raises(RuntimeError, match="normalized_shape"):
        call(OPS["layer_norm"], (flambeau.ones(2, 3), (4,), None, None, 1e-5))
    with pytest.raises(RuntimeError, match="between 0 and 1"):
        F.binary_cross_entropy(flambeau.ones(4) * 3, flambeau.ones(4))
    with pytest.raises(RuntimeError, match="none or tanh"):
        F.gelu(flambeau.ones(4), approximate="other")
    with pytest.raises(IndexError, match="Dimension out of range"):
        F.softmax(flambeau.ones(2, 3), 5)


@needs_compiler
def test_saved_tensors_are_still_checked(at_once: Any) -> None:
    x = flambeau.randn(4).requires_grad_()
    z = x * 1
    y = F.gelu(z)
    z.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_the_change_comes_at_a_fixed_count(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Builder:
        def find(self, request: Any) -> None:
            events.append("find")

        def start(self, request: Any, at_once: bool) -> Any:
            events.append("start")
            return lambda: events.append("wait") or fused.Runner(lambda inputs: [inputs[0].clone()])

    monkeypatch.setattr(fused, "builder", Builder)
    for name, value in (("MIN_ELEMENTS", 10), ("PATIENCE", 100), ("LIMIT", 200)):
        monkeypatch.setattr(fused, name, value)
    forms = fused.Forms(OPS["relu"])
    x, small = flambeau.ones(50), flambeau.ones(9)
    assert not fused.big(small)
    steps = []
    for _ in range(6):
        found = forms.call((x,))
        steps.append((found is not None, "".join(e[0] for e in events)))
    assert steps == [(False, "f"), (False, "f"), (False, "fs"), (False, "fs"), (True, "fsw"), (True, "fsw")]


@needs_compiler
def test_what_is_not_elementwise_is_refused(at_once: Any) -> None:
    """An op that looks elementwise in one dimension has no form."""
    from flambeau.frontend import fused as made
    from flambeau.ir.dtype import float32
    from flambeau.ir.meta import TensorMeta

    op = OPS["matmul"]
    given = fused.Given(TensorMeta((12,), float32))
    with pytest.raises((ValueError, RuntimeError)):
        made._written(fused.Request(op, (given, given), flat=True))


@needs_compiler
def test_forms_are_kept_on_disk(tmp_path: Any) -> None:
    code = """
import sys, flambeau
from flambeau.ir.op import OPS
y = flambeau.nn.functional.gelu(flambeau.ones(100, 100))
forms = OPS["gelu"].extra["forms"]
print(forms and sum(f.run is not None for f in forms.found.values()), "sympy" in sys.modules, float(y[0, 0]))
"""
    env = {**os.environ, "FLAMBEAU_CACHE_DIR": str(tmp_path)}

    def run(**more: str) -> list[str]:
        return subprocess.run([sys.executable, "-c", code], env={**env, **more}, capture_output=True, text=True,
                              check=True).stdout.split()

    assert run()[0] == "0"                          # cold, and too little work to build one
    assert not list(tmp_path.iterdir())
    assert run(FLAMBEAU_FUSED="now")[0] == "1"
    assert run()[:2] == ["1", "False"]              # found, without the compiler's parts
    assert run(FLAMBEAU_FUSED="0")[0] == "None"
    without = run(FLAMBEAU_CXX="none")
    assert without[0] == "0" and float(without[2]) == pytest.approx(0.841345, rel=1e-5)


def _sample(op: Any, number: int, sample: Any, dtype: Any) -> list[Any]:
    """Results and gradients of one sample."""
    args = tensors(op, number, sample, dtype, grad=True)
    ins = [x for x in leaves(list(args)) if isinstance(x, flambeau.Tensor) and x.requires_grad]
    every = outputs(call(op, args))
    outs = [o for o in every if o.requires_grad]
    seeds = [flambeau.from_numpy(np.cos(np.arange(o.numel())).reshape(o.shape).astype(o.dtype.np)) for o in outs]
    grads = autograd.grad(outs, ins, seeds, allow_unused=True) if outs and ins else ()
    return [*every, *(g for g in grads if g is not None)]


@needs_compiler
def test_forms_are_built_beside_the_program(tmp_path: Any) -> None:
    code = """
import flambeau
from flambeau.runtime import fused
from flambeau.ir.op import OPS
fused.PATIENCE, fused.LIMIT = 10000, 30000
x = flambeau.ones(100, 100)
found = []
for _ in range(4):
    y = flambeau.nn.functional.silu(x)
    found.append(sum(f.run is not None for f in OPS["silu"].extra["forms"].found.values()))
import sys
print(found, "sympy" in sys.modules, abs(float(y[0, 0]) - 0.7310586) < 1e-6)
"""
    env = {**os.environ, "FLAMBEAU_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "[0, 0, 0, 1] False True\n" and not done.stderr


GAINING = [name for name in sampled_ops() if fused._gains(OPS[name])]


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", GAINING)
def test_every_sample(name: str, at_once: Any) -> None:
    """All samples of each op that may have a form, with gradients, against NumPy's."""
    op = OPS[name]
    for i, sample, dtype in cases(name):
        if dtype.name not in ("float32", "float64"):
            continue
        run = functools.partial(_sample, op, i, sample, dtype)
        for got, want in zip(run(), by_numpy(run), strict=True):
            assert (got.shape, got.dtype, got.stride()) == (want.shape, want.dtype, want.stride()), (i, sample)
            close(got.detach().numpy(), want.detach().numpy(), dtype)

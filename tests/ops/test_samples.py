"""What every op must satisfy, checked over the samples it carries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sampling import arrays, cases, close, outputs, sampled_ops, tensors

from flambeau.ir import dtype as dtypes
from flambeau.ir.op import OPS, call, get_op
from flambeau.ir.tree import leaves, tree_map
from flambeau.runtime import autograd
from flambeau.runtime.tensor import wrap

NAMES = sampled_ops()


def test_registry_is_complete() -> None:
    for name, op in OPS.items():
        if "graph_only" in op.tags or "bodies" in op.tags:  # for passes alone; tested in tests/compiled/test_control_flow.py
            continue
        if op.functional is not None:
            assert op.mutates, name
            continue
        meaning = op.kernel is not None or op.decompose is not None or op.family == "transfer"
        assert meaning, f"{name}: no kernel, no decomposition"
        assert op.differentiable or op.decompose is not None or op.tags & {"nograd", "random"} or op.family in (
            "create", "random"), f"{name}: neither a derivative nor the tag nograd"
        assert op.samples is not None and len(op.samples()), f"{name}: no samples"


@pytest.mark.parametrize("name", NAMES)
def test_shape_rule(name: str) -> None:
    op = OPS[name]
    if op.infer is None or op.tags & {"data_shape"}:
        pytest.skip("no shape rule")
    for i, sample, dtype in cases(name):
        args = tensors(op, i, sample, dtype)
        metas = op.infer(*args)
        for meta, out in zip(metas if isinstance(metas, tuple) else (metas,), outputs(call(op, args)), strict=True):
            assert (tuple(meta.shape), meta.dtype) == (tuple(out.shape), out.dtype), (i, dtype)


@pytest.mark.parametrize("name", [n for n in NAMES if OPS[n].kernel is not None and OPS[n].decompose is not None])
def test_kernel_agrees_with_decomposition(name: str) -> None:
    op = OPS[name]
    for i, sample, dtype in cases(name):
        if dtype.name in ("float16", "bfloat16"):
            continue  # the parts are rounded one by one
        args = tensors(op, i, sample, dtype)
        parts = op.decompose(*args)  # type: ignore[misc]
        if parts is NotImplemented:
            continue
        for got, want in zip(outputs(call(op, args)), outputs(parts), strict=True):
            assert (got.shape, got.dtype) == (want.shape, want.dtype), (i, dtype)
            close(got.numpy(), want.numpy(), dtype)


def _loss(op: Any, args: tuple, weights: list[np.ndarray]) -> Any:
    """A number made of all differentiable outputs."""
    total: Any = 0.0
    outs = [o for o in outputs(call(op, args)) if o.dtype.is_floating_point]
    while len(weights) < len(outs):
        shape = tuple(outs[len(weights)].shape)
        weights.append(np.cos(np.arange(int(np.prod(shape)), dtype="f8")).reshape(shape))
    for o, w in zip(outs, weights):
        total = total + (o * wrap(w)).sum()
    return total


def _moved(args: tuple, inputs: list[Any], step: float) -> tuple:
    """The arguments with every input moved along a fixed direction by ``step``."""
    at = {id(x): wrap(x.detach().numpy() + step * _direction(x)).requires_grad_() for x in inputs}
    return tree_map(lambda a: at.get(id(a), a), args)


def _direction(x: Any) -> np.ndarray:
    return np.sin(1.0 + np.arange(x.numel(), dtype="f8")).reshape(tuple(x.shape))


def _inputs(args: tuple) -> list[Any]:
    return [x for x in leaves(args) if hasattr(x, "requires_grad") and x.requires_grad]


def _along(op: Any, args: tuple, weights: list[np.ndarray], create_graph: bool = False) -> Any:
    """The derivative of the loss along the direction, from the op's rules."""
    inputs = _inputs(args)
    loss = _loss(op, args, weights)
    if isinstance(loss, float) or not loss.requires_grad:
        return None
    grads = autograd.grad(loss, inputs, create_graph=create_graph, allow_unused=True)
    total: Any = 0.0
    for g, x in zip(grads, inputs):
        if g is not None:
            total = total + (g * wrap(_direction(x))).sum()
    return total


# ("by_rule": ops whose gradient is not the derivative, by intention)
DIFFERENTIABLE = [n for n in NAMES if not OPS[n].tags & {"nograd", "by_rule"} and "f" in OPS[n].dtypes
                  and OPS[n].family not in ("create", "random")]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient(name: str) -> None:
    op, step = OPS[name], 1e-6
    for i, sample, dtype in cases(name):
        if dtype is not dtypes.float64:
            continue
        args = tensors(op, i, sample, dtype, grad=True)
        inputs = [x for x in _inputs(args) if x.dtype is dtypes.float64 and x.numel()]
        weights: list[np.ndarray] = []
        if not inputs or len(inputs) != len(_inputs(args)):
            continue
        got = _along(op, args, weights)
        if got is None:
            continue
        want = (_loss(op, _moved(args, inputs, step), weights).item() - _loss(op, _moved(args, inputs, -step),
            weights).item()) / (2 * step)
        assert float(got) == pytest.approx(want, rel=2e-5, abs=2e-6), (i, sample)


@pytest.mark.parametrize("name", [n for n in DIFFERENTIABLE if "once" not in OPS[n].tags])
def test_second_gradient(name: str) -> None:
    op, step = OPS[name], 1e-5
    for i, sample, dtype in cases(name):
        if dtype is not dtypes.float64:
            continue
        args = tensors(op, i, sample, dtype, grad=True)
        inputs = [x for x in _inputs(args) if x.dtype is dtypes.float64 and x.numel()]
        weights: list[np.ndarray] = []
        if not inputs or len(inputs) != len(_inputs(args)):
            continue
        first = _along(op, args, weights, create_graph=True)
        if first is None or isinstance(first, float):
            continue
        got = 0.0
        if first.requires_grad:
            for g, x in zip(autograd.grad(first, inputs, allow_unused=True), inputs):
                got += 0.0 if g is None else float((g * wrap(_direction(x))).sum())
        high, low = (_along(op, _moved(args, inputs, s), weights) for s in (step, -step))
        want = (float(high) - float(low)) / (2 * step)
        assert got == pytest.approx(want, rel=1e-4, abs=1e-4), (i, sample)


@pytest.mark.parametrize("name", [n for n in NAMES if OPS[n].inplace is not None])
def test_inplace_form(name: str) -> None:
    op = OPS[name]
    for i, sample, dtype in cases(name):
        args = tensors(op, i, sample, dtype)
        if not hasattr(args[0], "shape"):
            continue
        want = call(op, args)
        if tuple(want.shape) != tuple(args[0].shape) or want.dtype is not args[0].dtype:
            continue
        version = args[0]._version
        got = call(get_op(name + "_"), args)
        assert got is args[0] and got._version > version
        np.testing.assert_array_equal(_plain(got), _plain(want))


@pytest.mark.parametrize("name", [n for n in NAMES if "out" in OPS[n].tags])
def test_out_form(name: str) -> None:
    op = OPS[name]
    names = [p.name for p in op.schema.params]
    kwonly = [p.kwonly for p in op.schema.params]
    for i, sample, dtype in cases(name):
        args = tensors(op, i, sample, dtype)
        want = call(op, args)
        out = wrap(np.zeros((0,), _plain(want).dtype if want.dtype.np.kind != "V" else want.dtype.np).astype(want.dtype.np))
        positional = [a for a, k in zip(args, kwonly) if not k]
        got = op.method(*positional, **{n: a for n, a, k in zip(names, args, kwonly) if k}, out=out)
        assert got is out
        np.testing.assert_array_equal(_plain(out), _plain(want))


def _plain(t: Any) -> np.ndarray:
    array = t.detach().numpy()
    return array if array.dtype.kind in "biufc" else array.astype("f4")


def test_samples_are_the_same_at_every_call() -> None:
    op = OPS["add"]
    first, second = (arrays(op, 0, op.samples()[0], dtypes.float32) for _ in range(2))  # type: ignore[index, misc]
    np.testing.assert_array_equal(first[0].array, second[0].array)

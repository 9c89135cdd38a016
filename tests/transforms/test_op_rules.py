"""Every op, over its samples: vmap gives what a loop gives, forward mode what reverse mode gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sampling import _Array, arrays, cases, outputs, sampled_ops

from flambeau.func import jvp, vjp, vmap
from flambeau.ir import dtype as dtypes
from flambeau.ir.op import OPS, call
from flambeau.ir.tree import tree_map
from flambeau.runtime.tensor import Tensor, wrap

NAMES = [n for n in sampled_ops() if not OPS[n].tags & {"data_shape"} and OPS[n].functional is None]
B = 3


def _variants(array: np.ndarray) -> np.ndarray:
    """A batch of arrays like ``array``: floats scaled, others reversed and repeated (values stay in range)."""
    if array.dtype.kind in "fc":
        return np.stack([array * s for s in (1.0, 0.9, 0.8)]).astype(array.dtype)
    return np.stack([array, np.ascontiguousarray(array[::-1]) if array.ndim else array, array])


def _plans(count: int) -> list[tuple[bool, ...]]:
    """Which tensors are batched: all of them, and each alone."""
    every = tuple([True] * count)
    return [every] if count == 1 else [every, *(tuple(i == k for i in range(count)) for k in range(count))]


def _given(args: Any, plan: tuple[bool, ...]) -> tuple[list[Any], Any]:
    """The tensors of a call (batched ones as batches), and a function from tensors to arguments."""
    found: list[Any] = []

    def place(x: Any) -> Any:
        if not isinstance(x, _Array):
            return x
        found.append(wrap(_variants(x.array)) if plan[len(found)] else wrap(x.array))
        return len(found) - 1, _Array

    template = tree_map(place, args)

    def build(tensors: Any) -> Any:
        return _filled(template, tensors)

    return found, build


def _filled(template: Any, tensors: Any) -> Any:
    if isinstance(template, tuple) and len(template) == 2 and template[1] is _Array:
        return tensors[template[0]]
    if isinstance(template, (tuple, list)):
        return type(template)([_filled(t, tensors) for t in template])
    return template


def _count(args: Any) -> int:
    found = []
    tree_map(lambda x: found.append(x) if isinstance(x, _Array) else None, args)
    return len(found)




@pytest.mark.parametrize("name", NAMES)
def test_vmap_is_a_loop(name: str) -> None:
    op = OPS[name]
    for i, sample, dtype in cases(name):
        if dtype not in (dtypes.float32, dtypes.int64, dtypes.bool_) or (dtype is not dtypes.float32 and "f" in op.dtypes and i):
            continue
        args = arrays(op, i, sample, dtype)
        for plan in _plans(_count(args)):
            if not plan or not any(plan):
                continue
            tensors, build = _given(args, plan)
            dims = tuple(0 if p else None for p in plan)

            def one(*ts: Any, build: Any = build) -> Any:
                return tuple(outputs(call(op, build(ts))))

            want = _looped(one, tensors, plan)
            if want is None:
                continue
            got = vmap(one, dims)(*tensors)
            for g, w in zip(got, want, strict=True):
                assert (tuple(g.shape), g.dtype) == (tuple(w.shape), w.dtype), (i, plan, dtype)
                np.testing.assert_allclose(_plain(g), _plain(w), rtol=2e-4, atol=2e-5, err_msg=f"{i} {plan}")


def _looped(one: Any, tensors: list[Any], plan: tuple[bool, ...]) -> Any:
    rows = []
    for k in range(B):
        try:
            rows.append(one(*[t[k].clone() if p else t for t, p in zip(tensors, plan)]))
        except (RuntimeError, IndexError, ValueError):
            return None  # the changed values are none the op takes
    import flambeau  # noqa: PLC0415
    return [flambeau.stack(list(parts)) for parts in zip(*rows)]


def _plain(t: Tensor) -> np.ndarray:
    array = t.detach().numpy()
    return array if array.dtype.kind in "biufc" else array.astype("f4")


DIFFERENTIABLE = [n for n in NAMES if not OPS[n].tags & {"nograd", "by_rule"} and "f" in OPS[n].dtypes
                  and OPS[n].family not in ("create", "random")]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_forward_mode_is_the_transpose_of_reverse_mode(name: str) -> None:
    op = OPS[name]
    for i, sample, dtype in cases(name):
        if dtype not in (dtypes.float64, dtypes.complex128):
            continue
        args = arrays(op, i, sample, dtype)
        tensors, build = _given(args, tuple([False] * _count(args)))
        moving = [k for k, t in enumerate(tensors) if t.dtype.differentiable and t.numel()]
        if not moving:
            continue

        def fn(*ts: Any, build: Any = build, tensors: Any = tensors, moving: Any = moving) -> Any:
            given = list(tensors)
            for k, t in zip(moving, ts):
                given[k] = t
            return tuple(o for o in outputs(call(op, build(given))) if o.dtype.differentiable)

        primals = tuple(tensors[k] for k in moving)
        tangents = tuple(_like(p, 1.0) for p in primals)
        if not fn(*primals):
            continue
        outs, pushed = jvp(fn, primals, tangents)
        _, pull = vjp(fn, *primals)
        weights = tuple(_like(o, 2.0) for o in outs)
        pulled = pull(weights)
        pulled = pulled if isinstance(pulled, tuple) else (pulled,)
        forward = sum(_inner(w, p) for w, p in zip(weights, pushed))
        reverse = sum(_inner(t, g) for t, g in zip(tangents, pulled))
        assert forward == pytest.approx(reverse, rel=1e-7, abs=1e-9, nan_ok=True), (i, dtype, sample)


def _like(t: Any, phase: float) -> Any:
    n = t.numel()
    values = np.sin(phase + np.arange(n, dtype="f8"))
    if t.dtype.is_complex:
        values = values + 1j * np.cos(2 * phase + np.arange(n, dtype="f8"))
    return wrap(values.reshape(tuple(t.shape)).astype(t.dtype.np))


def _inner(a: Any, b: Any) -> float:
    """The real inner product."""
    return float(np.sum(np.real(np.conj(a.numpy()) * b.numpy())))

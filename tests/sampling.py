"""Tensors for the samples that ops describe (``ir/samples.py``)."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

import flambeau
from flambeau.ir import dtype as dtypes
from flambeau.ir import late
from flambeau.ir.dtype import DType
from flambeau.ir.op import OPS, Op
from flambeau.ir.samples import Sample, T
from flambeau.ir.schema import bind
from flambeau.ir.tree import tree_map
from flambeau.runtime.tensor import wrap

#: tags of ops whose values are nobody's to compare
UNDETERMINED = frozenset({"random", "undefined"})


def sampled_ops() -> list[str]:
    """The names of the registered ops that have samples and values that can be compared."""
    late.load_all()
    return sorted(name for name, op in OPS.items() if op.samples is not None and not op.tags & UNDETERMINED)


def dtypes_of(op: Op, sample: Sample) -> list[DType]:
    """The dtypes that a sample holds for."""
    kinds = op.dtypes if sample.dtypes is None else sample.dtypes
    return [d for d in dtypes.ALL if d.kind in kinds and not ("no_half" in op.tags and d.kind == "f" and d.itemsize == 2)]


def array_of(t: T, dtype: DType, rng: np.random.Generator) -> np.ndarray:
    """The array that a sample's tensor describes."""
    d = t.dtype or dtype
    if t.values is not None:
        array = np.array(t.values).astype(d.np)
    elif t.distinct:
        n = int(np.prod(t.shape))
        array = (rng.permutation(n).reshape(t.shape) * (t.high - t.low) / max(n, 1) + t.low).astype(d.np)
        if d.kind in "ui":
            array = rng.permutation(n).reshape(t.shape).astype(d.np)
    elif d.kind == "b":
        array = np.asarray(rng.random(t.shape) < 0.5)
    elif d.kind in "ui":
        low = int(np.ceil(t.low)) if d.kind == "i" else max(0, int(np.ceil(t.low)))
        array = rng.integers(low, max(int(t.high), low + 1), t.shape).astype(d.np)
    elif d.kind == "c":
        array = np.asarray(rng.uniform(t.low, t.high, t.shape) + 1j * rng.uniform(t.low, t.high, t.shape)).astype(d.np)
    else:
        array = np.asarray(rng.uniform(t.low, t.high, t.shape)).astype(d.np)
    array = np.asarray(array)
    if t.layout == "t":
        array = np.ascontiguousarray(array.T).T
    elif t.layout == "s":
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        wide[..., ::2] = array
        array = wide[..., ::2]
    return array


def arrays(op: Op, number: int, sample: Sample, dtype: DType) -> tuple[Any, ...]:
    """All arguments of the sample's call in schema order, arrays standing for tensors; the same at every call."""
    rng = np.random.default_rng([zlib.crc32(op.name.encode()), number])

    def build(value: Any) -> Any:
        return _Array(array_of(value, dtype, rng), value.grad) if isinstance(value, T) else value

    return bind(op.schema, tuple(tree_map(build, sample.args)), tree_map(build, sample.kwargs))


class _Array:
    """An array of a sample, and whether it may require a gradient."""

    def __init__(self, array: np.ndarray, grad: bool) -> None:
        self.array, self.grad = array, grad


def tensors(op: Op, number: int, sample: Sample, dtype: DType, grad: bool = False) -> tuple[Any, ...]:
    """The arguments with tensors; those that may, require a gradient when asked to."""
    wanted = grad and "nograd" not in op.tags

    def make(value: Any) -> Any:
        if not isinstance(value, _Array):
            return value
        t = wrap(value.array)
        return t.requires_grad_() if wanted and value.grad and t.dtype.differentiable else t

    return tree_map(make, arrays(op, number, sample, dtype))


def outputs(result: Any) -> list[Any]:
    """The tensors of a result, as a list."""
    return [x for x in (result if isinstance(result, (tuple, list)) else (result,)) if isinstance(x, flambeau.Tensor)]


def cases(name: str) -> list[tuple[int, Sample, DType]]:
    """Every (number, sample, dtype) of an op."""
    op = OPS[name]
    return [(i, s, d) for i, s in enumerate(op.samples()) for d in dtypes_of(op, s)]  # type: ignore[misc]


def close(got: Any, want: Any, dtype: DType) -> None:
    """Assert that two arrays agree to the precision of ``dtype``."""
    rtol, atol = {"float16": (2e-3, 2e-3), "bfloat16": (2e-2, 2e-2), "float32": (2e-5, 2e-6), "complex64": (2e-5, 2e-6)}.get(
        dtype.name, (1e-9, 1e-11))
    got, want = np.asarray(got), np.asarray(want)
    if got.dtype.kind not in "biufc":
        got = got.astype("f8")
    if want.dtype.kind not in "biufc":
        want = want.astype("f8")
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol, equal_nan=True)

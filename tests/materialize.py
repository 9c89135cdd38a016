"""Tensors and calls from the samples that ops list."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from flambeau.ir import dtype as _dtype
from flambeau.ir.op import OPS, Op
from flambeau.ir.samples import Sample, T
from flambeau.ir.schema import bind
from flambeau.ir.tree import tree_map
from flambeau.runtime.tensor import wrap


def make(spec: T, dtype: Any, rng: np.random.Generator) -> Any:
    """The tensor a :class:`T` describes."""
    dtype = spec.dtype or dtype
    shape = tuple(spec.shape)
    if spec.values is not None:
        return wrap(np.array(spec.values, dtype.np).reshape(shape or np.shape(spec.values)))
    if spec.distinct:
        count = int(np.prod(shape))
        data = np.linspace(spec.low, spec.high, count + 1)[:count] if dtype.kind in "fc" else np.arange(count)
        return wrap(rng.permutation(data).reshape(shape).astype(dtype.np))
    stored = shape[::-1] if spec.layout == "t" else tuple(2 * n for n in shape) if spec.layout == "s" else shape
    data = rng.uniform(spec.low, spec.high, stored)
    if dtype.is_complex:
        data = data + 1j * rng.uniform(spec.low, spec.high, stored)
    elif dtype.kind == "b":
        data = data > (spec.low + spec.high) / 2
    elif dtype.kind == "u":
        data = np.abs(data)
    array = np.asarray(data).astype(dtype.np)
    if spec.layout == "t":
        array = array.T
    elif spec.layout == "s":
        array = array[tuple(slice(None, None, 2) for _ in shape)]
    return wrap(array)


def calls(dtype: Any = _dtype.float32) -> Iterator[tuple[str, Op, Sample]]:
    """(name, op, sample) of every op that lists samples holding for the dtype's kind."""
    for name, op in list(OPS.items()):
        for i, sample in enumerate(op.samples() if op.samples is not None else ()):
            if dtype.kind in (sample.dtypes or op.dtypes):
                yield f"{name}-{i}", op, sample


def arguments(name: str, op: Op, sample: Sample, dtype: Any) -> tuple[tuple, list[Any], list[int]]:
    """The bound arguments with tensors replaced by positions, the tensors, and which of them may require a gradient."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    tensors: list[Any] = []
    grads: list[int] = []

    def visit(value: Any) -> Any:
        if not isinstance(value, T):
            return value
        tensors.append(make(value, dtype, rng))
        if value.grad and tensors[-1].dtype.differentiable:
            grads.append(len(tensors) - 1)
        return Place(len(tensors) - 1)

    return tree_map(visit, bind(op.schema, sample.args, sample.kwargs)), tensors, grads


class Place:
    """Stands in a call for a tensor: its position."""

    def __init__(self, position: int) -> None:
        self.position = position


def fill(args: tuple, tensors: Any) -> tuple:
    """``args`` with the tensors in their places."""
    return tree_map(lambda a: tensors[a.position] if isinstance(a, Place) else a, args)

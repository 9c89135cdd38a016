"""Views that are copied at once: ``view_copy`` and its like, the ``unsafe_`` splits, and other forms of what exists."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import dtype as _dtype
from ..family import ops, primitive, wrap_dim
from ..meta import TensorMeta
from ..op import public
from ..samples import S, T


def _delivered(result: Any, out: Any) -> Any:
    """``result``, or ``out`` with it inside."""
    if out is None:
        return result
    if isinstance(result, (tuple, list)):
        for one, target in zip(result, out, strict=True):
            _delivered(one, target)
        return None
    return out.resize_(tuple(result.shape)).copy_(result)


def _copied(result: Any) -> Any:
    return tuple(ops.clone(part) for part in result) if isinstance(result, (tuple, list)) else ops.clone(result)


def _copier(name: str, view: Callable[..., Any]) -> None:
    def copy(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        return _delivered(_copied(view(*args, **kwargs)), out)

    copy.__name__ = copy.__qualname__ = f"{name}_copy"
    copy.__doc__ = f"A copy of what ``{name}`` shows."
    public(f"torch.{name}_copy")(copy)


def _viewed(input: Any, size: Any = None, *, dtype: Any = None) -> Any:  # noqa: A002
    if dtype is None and isinstance(size, _dtype.DType):
        dtype = size
    return input.view(dtype) if dtype is not None else ops.reshape(input, tuple(size))


def _squeezed(input: Any, dim: Any = None) -> Any:  # noqa: A002
    return ops.squeeze(input, dim)


_VIEWS: dict[str, Callable[..., Any]] = {
    "alias": lambda input: input,
    "as_strided": lambda input, size, stride, storage_offset=None: ops.as_strided(
        input, tuple(size), tuple(stride), storage_offset),
    "detach": lambda input: ops.detach(input),
    "diagonal": lambda input, offset=0, dim1=0, dim2=1: ops.diagonal(input, offset, dim1, dim2),
    "expand": lambda input, size, *, implicit=False: ops.expand(input, tuple(size)),
    "permute": lambda input, dims: ops.permute(input, tuple(dims)),
    "select": lambda input, dim, index: ops.select(input, dim, index),
    "slice": lambda input, dim=0, start=None, end=None, step=1: ops.slice(input, dim, start, end, step),
    "split": lambda input, split_size, dim=0: ops.split(input, split_size, dim),
    "split_with_sizes": lambda input, split_sizes, dim=0: ops.split(input, list(split_sizes), dim),
    "squeeze": _squeezed,
    "t": lambda input: ops.t(input),
    "transpose": lambda input, dim0, dim1: ops.transpose(input, dim0, dim1),
    "unbind": lambda input, dim=0: ops.unbind(input, dim),
    "unfold": lambda input, dimension, size, step: ops.unfold(input, dimension, size, step),
    "unsqueeze": lambda input, dim: ops.unsqueeze(input, dim),
    "view": _viewed,
    "view_as_real": lambda input: ops.view_as_real(input),
    "view_as_complex": lambda input: ops.view_as_complex(input)}
for _name, _view in _VIEWS.items():
    _copier(_name, _view)


@public("torch.unsafe_chunk", "Tensor.unsafe_chunk")
def unsafe_chunk(input: Any, chunks: int, dim: int = 0) -> tuple:  # noqa: A002
    """``chunk``."""
    return ops.chunk(input, chunks, dim)


@public("torch.unsafe_split", "Tensor.unsafe_split")
def unsafe_split(tensor: Any, split_size: int, dim: int = 0) -> tuple:
    """``split`` into parts of one size."""
    return ops.split(tensor, split_size, dim)


@public("torch.unsafe_split_with_sizes", "Tensor.unsafe_split_with_sizes")
def unsafe_split_with_sizes(input: Any, split_sizes: Any, dim: int = 0) -> tuple:  # noqa: A002
    """``split`` into parts of the given sizes."""
    return ops.split(input, list(split_sizes), dim)


@public("aten.slice")
def slice_of(input: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:  # noqa: A002
    """``input[start:end:step]`` along ``dim``."""
    return ops.slice(input, dim, start, end, step)


@public("torch.as_strided_scatter", "Tensor.as_strided_scatter")
def as_strided_scatter(input: Any, src: Any, size: Any, stride: Any, storage_offset: int | None = None) -> Any:  # noqa: A002
    """A copy of ``input`` in which the elements that ``as_strided`` shows are those of ``src``."""
    if tuple(src.shape) != tuple(size):
        raise RuntimeError(f"expected src to have a size equal to the slice of self. src size = {list(src.shape)}, "
                           f"slice size = {list(size)}")
    return ops.view_scatter(input, ops.cast(src, input.dtype), "as_strided", (tuple(size), tuple(stride), storage_offset))


@public("Tensor.resize_as_", "torch.resize_as_")
def resize_as_(self: Any, the_template: Any, *, memory_format: Any = None) -> Any:
    """Change the shape to ``the_template``'s; elements beyond the old ones are undefined."""
    return self.resize_(tuple(the_template.shape))


@public("Tensor.__rdiv__")
def __rdiv__(self: Any, other: Any) -> Any:  # noqa: N807
    """``other / self``."""
    return ops.reciprocal(self) * other


@public("torch.empty_permuted")
def empty_permuted(size: Any, physical_layout: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
                   requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """Uninitialised values whose dimensions lie in memory in the order ``physical_layout``. Shape: ``size``."""
    if sorted(physical_layout) != list(range(len(size))):
        raise RuntimeError(f"Number of dimensions in size does not match the length of the physical_layout; i.e. "
                           f"len(size) = {len(size)} is not equal to len(physical_layout) = {len(physical_layout)}, or the "
                           f"layout {list(physical_layout)} is no order of the dimensions")
    where = [list(physical_layout).index(d) for d in range(len(size))]
    stored = ops.empty(tuple(size[d] for d in physical_layout), dtype=dtype, device=device)
    found = ops.permute(stored, tuple(where))
    return found.requires_grad_() if requires_grad else found


@public("Tensor.new_empty_strided")
def new_empty_strided(self: Any, size: Any, stride: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
                      requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """Uninitialised values of the given shape and strides, with this tensor's dtype and device."""
    return ops.empty_strided(size, stride, dtype=dtype or self.dtype, device=device or self.device,
                             requires_grad=requires_grad)


@public("torch._chunk_cat")
def chunk_cat(tensors: Any, dim: int, num_chunks: int, *, out: Any = None) -> Any:
    """Each tensor padded to ``num_chunks`` equal chunks along ``dim``, flattened behind it, side by side."""
    if num_chunks < 1:
        raise RuntimeError("_chunk_cat expects positive num_chunks")
    if not tensors:
        raise RuntimeError("_chunk_cat expects a non-empty input tensor list")
    if not all(t.numel() for t in tensors):
        raise RuntimeError("_chunk_cat expects non-empty tensor")
    if dim < 0 and any(t.ndim != tensors[0].ndim for t in tensors):
        raise RuntimeError("_chunk_cat expects non-negative dim when input tensors have different ndims")
    at = wrap_dim(dim, tensors[0].ndim)
    if any(tuple(t.shape[:at]) != tuple(tensors[0].shape[:at]) for t in tensors):
        raise RuntimeError("_chunk_cat expects same sizes of 0,...,dim-1 dimensions for all tensors, got "
                           + ", ".join(str(list(t.shape)) for t in tensors))
    rows = []
    for t in tensors:
        lead, n = tuple(t.shape[:at]), t.shape[at]
        each = -(-n // num_chunks)
        padded = ops.constant_pad_nd(t, (0, 0) * (t.ndim - 1 - at) + (0, each * num_chunks - n), 0)
        rest = each * math.prod(t.shape[at + 1:])
        rows.append(ops.reshape(padded, (*lead, num_chunks, rest)))
    return _delivered(ops.cat(rows, at + 1), out)


def _nonzero_rows(xp: Any, x: Any, size: int, fill_value: int) -> Any:
    found = xp.argwhere(x)[:size]
    rows = xp.full((size, x.ndim), fill_value, "i8")
    rows[:len(found)] = found
    return rows


nonzero_rows = primitive(
    "nonzero_rows(Tensor self, int size, int fill_value) -> Tensor", "sort", kernel=_nonzero_rows, tags=("extern",), api=(),
    infer=lambda x, size, fill_value: TensorMeta((size, x.ndim), _dtype.int64, x.device), dtypes="buif",
    samples=lambda: [S(T((3, 4), -1, 2, grad=False), 5, -1), S(T((3,), grad=False), 7, 0)])


@public("torch.nonzero_static", "Tensor.nonzero_static")
def nonzero_static(input: Any, *, size: int, fill_value: int = -1, out: Any = None) -> Any:  # noqa: A002
    """The first ``size`` rows of ``nonzero``, filled up with ``fill_value``. Shape: [size, dims]."""
    if size < 0:
        raise RuntimeError(f"nonzero_static: 'size' must be an non-negative integer, but got {size}")
    return _delivered(ops.nonzero_rows(input, size, fill_value), out)

"""``x[...]`` and ``x[...] = y``, and the public functions that choose between index ops."""

from __future__ import annotations

import operator
from typing import Any

from .. import dtype as _dtype
from ..family import broadcast_shapes, ops, wrap_dim
from ..op import public
from ..tensorlike import TensorLike


def _as_index(item: Any, device: Any) -> Any:
    """A sequence or array used as an index, as a tensor."""
    if hasattr(item, "tolist"):
        item = item.tolist()
    found = ops.constant(item, dtype=None, device=device)
    return ops.cast(found, _dtype.int64) if found.dtype.is_floating_point and not found.numel() else found


def _consumed(items: tuple) -> int:
    """How many dimensions of the tensor an index with an Ellipsis uses up."""
    n = 0
    for i in items:
        if isinstance(i, TensorLike) and i.dtype in (_dtype.bool_, _dtype.uint8):
            n += i.ndim
        elif i is not None and i is not Ellipsis and not isinstance(i, bool):
            n += 1
    return n


def _int_of(value: Any) -> Any:
    """A slice's bound: ints and symbolic ints as they are, tensors and NumPy integers as ints."""
    return value if value is None or type(value) is int or hasattr(value, "__flambeau_symint__") else operator.index(value)


def _is_sequence_index(index: Any) -> bool:
    """PyTorch treats a list as a tensor of indices."""
    return isinstance(index, list) or (hasattr(index, "__array__") and not isinstance(index, TensorLike))


def _plan(x: Any, index: Any) -> tuple[Any, list[Any]]:
    """The view that the plain parts of ``index`` make of ``x``, and the tensors that index it further (None: all)."""
    items = index if isinstance(index, tuple) else (index,)
    items = tuple(_as_index(i, x.device) if _is_sequence_index(i) else i for i in items)
    used = _consumed(items)
    if used > x.ndim:
        raise IndexError(f"too many indices for tensor of dimension {x.ndim}")
    dim = 0
    tensors: list[Any] = []
    for i in items:
        if type(i) is int:
            x = _selected(x, dim, i)
        elif isinstance(i, slice):
            start, stop, step = _int_of(i.start), _int_of(i.stop), 1 if i.step is None else _int_of(i.step)
            if step <= 0:
                raise ValueError("step must be greater than zero")
            if start is not None or stop is not None or step != 1:
                x = ops.slice(x, dim, start, stop, step)
            dim += 1
        elif i is None:
            x = ops.unsqueeze(x, dim)
            dim += 1
        elif i is Ellipsis:
            dim += x.ndim - dim - _consumed(items[items.index(Ellipsis) + 1:]) if _one_ellipsis(items) else 0
        elif isinstance(i, bool):
            x = ops.unsqueeze(x, dim)
            x = x if i else ops.slice(x, dim, 0, 0)
            dim += 1
        elif isinstance(i, TensorLike):
            tensors += [None] * (dim - len(tensors)) + [i if i.dtype is not _dtype.uint8 else ops.cast(i, _dtype.bool_)]
            width = i.ndim if i.dtype in (_dtype.bool_, _dtype.uint8) else 1
            tensors += [_SPANNED] * (width - 1)
            dim += width
        else:
            x = _selected(x, dim, _plain_int(i))
    return x, [t for t in tensors if t is not _SPANNED]


_SPANNED = object()  # a dimension that a mask of several dimensions covers


def _one_ellipsis(items: tuple) -> bool:
    if sum(i is Ellipsis for i in items) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    return True


def _selected(x: Any, dim: int, i: Any) -> Any:
    if not x.ndim:
        raise IndexError("invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ "
                         "to convert a "
                         "0-dim tensor to a number")
    return ops.select(x, dim, i)


def _plain_int(i: Any) -> Any:
    if hasattr(i, "__flambeau_symint__"):
        return i
    try:
        return operator.index(i)
    except TypeError:
        raise IndexError("only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices (got "
                         f"{type(i).__name__})") from None


@public("Tensor.__getitem__")
def getitem(self: Any, index: Any) -> Any:
    """``self[index]``: a view for ints, slices, None and Ellipsis; a copy where tensors, lists or masks take part."""
    if type(index) is int:
        return _selected(self, 0, index)
    x, tensors = _plan(self, index)
    if tensors:
        return ops.index(x, tensors)
    return ops.alias(x) if x is self else x


@public("Tensor.__setitem__")
def setitem(self: Any, index: Any, value: Any) -> None:
    """``self[index] = value``: ``value`` (a tensor or a number) is broadcast and converted."""
    x, tensors = _plan(self, index)
    if not isinstance(value, TensorLike) and hasattr(value, "__array__"):
        value = ops.constant(value.tolist(), dtype=None, device=self.device)
    number = not isinstance(value, TensorLike)
    if number and not isinstance(value, (int, float, complex)) and not hasattr(value, "__flambeau_symint__"):
        raise TypeError(f"can't assign a {type(value).__name__} to a torch.{self.dtype}")
    if not tensors:
        if number:
            ops.fill_(x, value)
        else:
            ops.copy_(x, _without_leading_ones(value, x.ndim))
        return
    if len(tensors) == 1 and tensors[0] is not None and tensors[0].dtype is _dtype.bool_ and (number or not value.ndim):
        mask = tensors[0]
        ops.masked_fill_(x, ops.reshape(mask, (*mask.shape, *(1,) * (x.ndim - mask.ndim))), value)
        return
    if number:
        value = ops.full((), value, dtype=x.dtype, device=x.device)
    elif value.dtype is not x.dtype and all(t is None or not t.ndim for t in tensors):
        value = ops.cast(value, x.dtype)  # a zero-dimensional index counts as an int, which converts
    ops.index_put_(x, tensors, value)


def _without_leading_ones(value: Any, ndim: int) -> Any:
    shape = tuple(value.shape)
    while len(shape) > ndim and shape[0] == 1:
        shape = shape[1:]
    return value if len(shape) == value.ndim else ops.reshape(value, shape)


@public("torch.scatter", "Tensor.scatter")
def scatter(input: Any, dim: int, index: Any, src: Any = None, *, value: Any = None,
    reduce: str | None = None) -> Any:  # noqa: A002
    """``input`` with elements of ``src`` (or ``value``) written at positions ``index`` along ``dim``."""
    src = value if src is None else src
    if reduce is None:
        return ops.scatter_src(input, dim, index, src)
    if reduce not in ("add", "multiply"):
        raise RuntimeError("reduce argument must be either add or multiply.")
    if not isinstance(src, TensorLike):
        src = ops.full(tuple(index.shape), src, dtype=input.dtype, device=input.device)
    return ops.scatter_add(input, dim, index, src) if reduce == "add" else ops.scatter_reduce(input, dim, index, src, "prod")


@public("Tensor.scatter_")
def scatter_(self: Any, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: str | None = None) -> Any:
    """In-place :func:`scatter`."""
    src = value if src is None else src
    if reduce is None:
        return ops.scatter_src_(self, dim, index, src)
    return ops.copy_(self, scatter(self, dim, index, src, reduce=reduce))


@public("torch.take_along_dim", "Tensor.take_along_dim")
def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Any:  # noqa: A002
    """Elements at ``indices`` along ``dim`` (of the flat tensor for None), both broadcast together elsewhere."""
    if indices.dtype is not _dtype.int64:
        raise RuntimeError("torch.take_along_dim(): dtype of indices should be Long but got " + str(indices.dtype))
    if dim is None:
        return _gather_wrapped(ops.reshape(input, (-1,)), 0, ops.reshape(indices, (-1,)))
    if input.ndim != indices.ndim:
        raise RuntimeError("torch.take_along_dim(): input and indices should have the same number of dimensions, but got "
                           f"{input.ndim} dimensions for input, and {indices.ndim} dimensions for indices")
    at = wrap_dim(dim, input.ndim)
    rest = broadcast_shapes((*input.shape[:at], 1, *input.shape[at + 1:]), (*indices.shape[:at], 1, *indices.shape[at + 1:]))
    grown = ops.expand(input, (*rest[:at], input.shape[at], *rest[at + 1:]))
    return _gather_wrapped(grown, at, ops.expand(indices, (*rest[:at], indices.shape[at], *rest[at + 1:])))


def _gather_wrapped(x: Any, dim: int, index: Any) -> Any:
    """``gather`` where negative indices count from the end."""
    return ops.gather(x, dim, ops.where(ops.lt(index, 0), index + x.shape[dim], index))


@public("torch.nonzero", "Tensor.nonzero")
def nonzero(input: Any, *, as_tuple: bool = False, out: Any = None) -> Any:  # noqa: A002
    """The indices of the elements that are not zero: one row each, or a tuple of one tensor per dimension."""
    found = ops.nonzero(input)
    if as_tuple:
        return tuple(ops.select(found, 1, i) for i in range(input.ndim)) if input.ndim else (ops.reshape(
            ops.nonzero(ops.reshape(input, (1,))), (-1,)),)
    return found


@public("torch.argwhere", "Tensor.argwhere")
def argwhere(input: Any) -> Any:  # noqa: A002
    """The indices of the elements that are not zero, one row each."""
    return ops.nonzero(input)


@public("torch.tril_indices")
def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = _dtype.int64, device: Any = None) -> Any:
    """The indices of the lower triangle, as two rows."""
    return ops.cast(ops.t(ops.nonzero(ops.tril(ops.full((row, col), 1, dtype=_dtype.int64, device=device), offset))), dtype)


@public("torch.triu_indices")
def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = _dtype.int64, device: Any = None) -> Any:
    """The indices of the upper triangle, as two rows."""
    return ops.cast(ops.t(ops.nonzero(ops.triu(ops.full((row, col), 1, dtype=_dtype.int64, device=device), offset))), dtype)

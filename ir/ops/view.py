"""Views: results that share their input's storage. ``lower`` maps an index of the result to one of the input.

``write`` (in ``op.extra``) is the other direction, for graphs without aliasing: the base with the part that the view
shows replaced by ``value``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..family import ops, view, wrap_dim, wrap_dims
from ..meta import TensorMeta, meta_of
from ..samples import S, T

# ---- shapes --------------------------------------------------------------------------------------------------------


def product(sizes: Sequence[Any]) -> Any:
    """The number of elements of a shape."""
    n: Any = 1
    for s in sizes:
        n = n * s
    return n


def resolve_shape(shape: Sequence[Any], size: Sequence[Any]) -> tuple:
    """``size`` with its -1 worked out for a tensor of ``shape``. Raises PyTorch's errors."""
    size = tuple(size)
    total = product(shape)
    unknown = [i for i, s in enumerate(size) if isinstance(s, int) and s == -1]
    if any(isinstance(s, int) and s < -1 for s in size):
        raise RuntimeError(f"invalid shape dimension {min(size)}")
    if len(unknown) > 1:
        raise RuntimeError("only one dimension can be inferred")
    if unknown:
        rest = product([s for i, s in enumerate(size) if i != unknown[0]])
        if isinstance(rest, int) and rest == 0:
            raise RuntimeError(f"cannot reshape tensor of 0 elements into shape {list(size)} because the unspecified "
                               "dimension size -1 can be any value and is ambiguous")
        if total % rest != 0:
            raise RuntimeError(f"shape '{list(size)}' is invalid for input of size {total}")
        return tuple(total // rest if i == unknown[0] else s for i, s in enumerate(size))
    if product(size) != total:
        raise RuntimeError(f"shape '{list(size)}' is invalid for input of size {total}")
    return size


def flat_index(index: Sequence[Any], shape: Sequence[Any]) -> Any:
    """The position of ``index`` in row-major order."""
    flat: Any = 0
    for i, n in zip(index, shape):
        flat = flat * n + i
    return flat


def unflat_index(flat: Any, shape: Sequence[Any]) -> tuple:
    """The index of row-major position ``flat``."""
    index: list[Any] = []
    for n in reversed(tuple(shape)[1:]):
        empty = isinstance(n, int) and not n  # nothing lies there, and 0 is as good as any place
        index.append(0 if empty else flat % n)
        flat = 0 if empty else flat // n
    return (flat, *reversed(index)) if len(tuple(shape)) else ()


def _reindexed(index: Sequence[Any], out_shape: Sequence[Any], in_shape: Sequence[Any]) -> tuple:
    """The index into ``in_shape`` of the element at ``index`` of the same data as ``out_shape``.

    Runs of dimensions with equal products are mapped on their own, so unchanged dimensions keep plain indices.
    """
    found: list[Any] = []
    a = b = 0
    while b < len(in_shape):
        a2, b2 = a, b + 1
        left: Any = 1
        right: Any = in_shape[b]
        while left != right:
            if a2 < len(out_shape) and (b2 >= len(in_shape) or not isinstance(right, int) or not isinstance(left, int)
                                        or left < right):
                left = left * out_shape[a2]
                a2 += 1
            elif b2 < len(in_shape):
                right = right * in_shape[b2]
                b2 += 1
            else:  # sizes that cannot be matched run by run
                return unflat_index(flat_index(index, out_shape), in_shape)
        found += unflat_index(flat_index(index[a:a2], out_shape[a:a2]), in_shape[b:b2])
        a, b = a2, b2
    return tuple(found)


# ---- the same elements in another shape ---------------------------------------------------------------------------


def _view(xp: Any, x: Any, size: Any) -> Any:
    if x.flags.c_contiguous:
        return x.reshape(size)
    result = x.reshape(resolve_shape(x.shape, size))
    if not xp.may_share_memory(result, x) and x.size:
        raise RuntimeError("view size is not compatible with input tensor's size and stride (at least one dimension spans "
                           "across two contiguous subspaces). Use .reshape(...) instead.")
    return result


def _reshaped_meta(x: Any, size: Any) -> TensorMeta:
    return TensorMeta(resolve_shape(x.shape, size), x.dtype, x.device)


def _reshape_index(index: Any, x: Any, size: Any) -> tuple:
    return _reindexed(index, resolve_shape(x.shape, size), tuple(x.shape))


def _view_rule(g: Any, out: Any, x: Any, size: Any) -> Any:
    return ops.reshape(g, tuple(x.shape))


def _write_reshaped(base: Any, value: Any, size: Any) -> Any:
    return ops.reshape(value, tuple(base.shape))


_shapes = [S(T((3, 4)), (4, 3)), S(T((3, 4)), (2, -1)), S(T((2, 3, 4)), (6, 4)), S(T(()), (1, 1)), S(T((2, 0)), (0, 5)),
           S(T((6, 4)), (2, 3, 4)), S(T((1, 4, 1)), (4,))]

view_ = view("view(Tensor self, int[] size) -> Tensor", kernel=_view, infer=_reshaped_meta, vjp=_view_rule, api=(),
             lower=_reshape_index, write=_write_reshaped, samples=lambda: _shapes)

# A view where the strides allow one, else a copy: the eager runtime looks at what the kernel returned.
reshape = view("reshape(Tensor self, int[] size) -> Tensor", infer=_reshaped_meta, vjp=_view_rule, api=(),
               kernel=lambda xp, x, size: x.reshape(size), lower=_reshape_index,
               write=_write_reshaped, tags=("maybe_copy",),
               samples=lambda: [*_shapes, S(T((3, 4), layout="t"), (12,)), S(T((3, 4), layout="t"), (3, 2, 2))])

contiguous = view("contiguous(Tensor self, *, any memory_format=None) -> Tensor", infer=lambda x, mf: meta_of(x),
                  kernel=lambda xp, x, memory_format: _contiguous(xp, x, memory_format), vjp=lambda g, out, x, mf: g,
                  lower=lambda index, x, memory_format: index, write=lambda base, value, memory_format: value,
                  tags=("maybe_copy", "maybe_self"), api=("Tensor.contiguous",),
                  samples=lambda: [S(T((3, 4))), S(T((3, 4), layout="t"))])


def _contiguous(xp: Any, x: Any, memory_format: Any) -> Any:
    """Row-major; for ``channels_last`` the same shape with the channels innermost in memory."""
    axes = getattr(memory_format, "axes", None)
    if axes is None:
        return x if x.flags.c_contiguous else xp.ascontiguousarray(x)
    if x.ndim != len(axes):
        raise RuntimeError(f"required rank {len(axes)} tensor to use {memory_format} format")
    moved = x.transpose(axes)
    if moved.flags.c_contiguous:
        return x
    back = sorted(range(len(axes)), key=axes.__getitem__)
    return xp.ascontiguousarray(moved).transpose(back)


alias = view("alias(Tensor self) -> Tensor", kernel=lambda xp, x: x.view(), infer=lambda x: meta_of(x), api=(),
             vjp=lambda g, out, x: g, lower=lambda index, x: index, write=lambda base, value: value,
             samples=lambda: [S(T((3, 4)))])

detach = view("detach(Tensor self) -> Tensor", kernel=lambda xp, x: x.view(), infer=lambda x: meta_of(x), vjp=None,
              lower=lambda index, x: index, tags=("nograd",), samples=lambda: [S(T((3, 4)))],
              write=lambda base, value: value)


def _expanded(x: Any, size: Any) -> tuple:
    lead = len(size) - x.ndim
    if lead < 0:
        raise RuntimeError(f"expand(tensor of shape {list(x.shape)}, size={list(size)}): the number of sizes provided "
                           f"({len(size)}) must be greater or equal to the number of dimensions in the tensor ({x.ndim})")
    shape = []
    for i, n in enumerate(size):
        have = x.shape[i - lead] if i >= lead else 1
        if isinstance(n, int) and n == -1:
            if i < lead:
                raise RuntimeError(f"The expanded size of the tensor (-1) isn't allowed in a leading, non-existing "
                                   f"dimension {i}")
            n = have
        if have != 1 and have != n:
            raise RuntimeError(f"The expanded size of the tensor ({n}) must match the existing size ({have}) at "
                               f"non-singleton dimension {i}.  Target sizes: {list(size)}.  Tensor sizes: {list(x.shape)}")
        shape.append(n)
    return tuple(shape)


def _expand(xp: Any, x: Any, size: Any) -> Any:
    shape = _expanded(x, size)
    lead = len(shape) - x.ndim
    strides = (0,) * lead + tuple(0 if n != have else s for n, have, s in zip(shape[lead:], x.shape, x.strides))
    return restrided(xp, x, shape, strides)


def restrided(xp: Any, x: Any, shape: Sequence[int], strides: Sequence[int]) -> Any:
    """A writable view of the memory of ``x`` with other strides (bytes)."""
    if x.flags.c_contiguous and x.size and type(x) is np.ndarray and x.dtype.isbuiltin == 1 and x.flags.writeable:
        try:
            return np.ndarray(shape, x.dtype, x, 0, strides)  # a fifth of the time of as_strided
        except ValueError:
            pass  # the view reaches beyond this array, into the one it is part of
    return xp.lib.stride_tricks.as_strided(x, shape, strides)


expand = view(
    "expand(Tensor self, int[] size) -> Tensor", kernel=_expand, api=(),
    infer=lambda x, size: TensorMeta(_expanded(x, size), x.dtype, x.device),
    vjp=lambda g, out, x, size: ops.sum_to_size(g, tuple(x.shape)),
    lower=lambda index, x, size: tuple(0 if x.shape[i] == 1 else index[len(index) - x.ndim + i] for i in range(x.ndim)),
    samples=lambda: [S(T((3, 1)), (3, 4)), S(T((1, 4)), (2, 3, 4)), S(T(()), (2, 2)), S(T((3, 1)), (-1, 5))])


def _insert_axis(x: Any, dim: int) -> Any:
    return x[(slice(None),) * dim + (None, ...)]


unsqueeze = view(
    "unsqueeze(Tensor self, int dim) -> Tensor", kernel=lambda xp, x, dim: _insert_axis(x, wrap_dim(dim, x.ndim + 1)),
    infer=lambda x, dim: meta_of(x).with_shape(_inserted(tuple(x.shape), wrap_dim(dim, x.ndim + 1))),
    vjp=lambda g, out, x, dim: ops.reshape(g, tuple(x.shape)),
    lower=lambda index, x, dim: _removed(index, wrap_dim(dim, x.ndim + 1)),
    write=lambda base, value, dim: ops.reshape(value, tuple(base.shape)),
    samples=lambda: [S(T((3, 4)), 0), S(T((3, 4)), -1), S(T((3, 4)), 1), S(T(()), 0)])


def _inserted(shape: tuple, dim: int) -> tuple:
    return (*shape[:dim], 1, *shape[dim:])


def _removed(index: tuple, dim: int) -> tuple:
    return (*index[:dim], *index[dim + 1:])


def _squeezed(shape: Sequence[Any], dim: Any) -> tuple[int, ...]:
    """The dimensions that ``squeeze`` removes."""
    dims = range(len(shape)) if dim is None else wrap_dims(dim, len(shape)) if dim != () else ()
    return tuple(d for d in dims if shape[d] == 1)


def _without(seq: Sequence[Any], dims: Sequence[int]) -> tuple:
    return tuple(s for i, s in enumerate(seq) if i not in dims)


def _squeeze_index(index: Any, x: Any, dim: Any) -> tuple:
    gone, rest = _squeezed(x.shape, dim), iter(index)
    return tuple(0 if i in gone else next(rest) for i in range(x.ndim))


squeeze = view(
    "squeeze(Tensor self, int[]? dim=None) -> Tensor",
    kernel=lambda xp, x, dim: x.reshape(x.shape) if not (gone := _squeezed(x.shape, dim)) else x.squeeze(gone),
    infer=lambda x, dim: meta_of(x).with_shape(_without(x.shape, _squeezed(x.shape, dim))),
    vjp=lambda g, out, x, dim: ops.reshape(g, tuple(x.shape)), lower=_squeeze_index,
    write=lambda base, value, dim: ops.reshape(value, tuple(base.shape)),
    samples=lambda: [S(T((3, 1, 4, 1))), S(T((3, 1, 4, 1)), 1), S(T((3, 1, 4)), 0), S(T((1, 3, 1)), (0, -1)), S(T(()))])

# ---- dimensions in another order -----------------------------------------------------------------------------------


def _order(x: Any, dims: Any) -> tuple[int, ...]:
    if len(dims) != x.ndim:
        raise RuntimeError(f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of the "
                           f"desired ordering of dimensions i.e. input.dim() = {x.ndim} is not equal to len(dims) = {len(dims)}")
    order = tuple(wrap_dim(d, x.ndim) for d in dims)
    if len(set(order)) != len(order):
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return order


def _inverse(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


permute = view(
    "permute(Tensor self, int[] dims) -> Tensor", kernel=lambda xp, x, dims: x.transpose(_order(x, dims)), api=(),
    infer=lambda x, dims: meta_of(x).with_shape(tuple(x.shape[d] for d in _order(x, dims))),
    vjp=lambda g, out, x, dims: ops.permute(g, _inverse(_order(x, dims))),
    lower=lambda index, x, dims: tuple(index[i] for i in _inverse(_order(x, dims))),
    write=lambda base, value, dims: ops.permute(value, _inverse(_order(base, dims))),
    samples=lambda: [S(T((2, 3, 4)), (2, 0, 1)), S(T((2, 3, 4)), (0, -1, 1)), S(T((3,)), (0,)), S(T(()), ())])


def _swapped(n: int, a: int, b: int) -> tuple[int, ...]:
    order = list(range(n))
    if n:
        a, b = wrap_dim(a, n), wrap_dim(b, n)
        order[a], order[b] = b, a
    else:
        wrap_dim(a, n), wrap_dim(b, n)
    return tuple(order)


transpose = view(
    "transpose(Tensor self, int dim0, int dim1) -> Tensor",
    kernel=lambda xp, x, a, b: x.transpose(_swapped(x.ndim, a, b)),
    infer=lambda x, a, b: meta_of(x).with_shape(tuple(x.shape[d] for d in _swapped(x.ndim, a, b))),
    vjp=lambda g, out, x, a, b: ops.transpose(g, a, b),
    lower=lambda index, x, a, b: tuple(index[i] for i in _swapped(x.ndim, a, b)),
    write=lambda base, value, a, b: ops.transpose(value, a, b),
    api=tuple(f"{space}.{name}" for space in ("torch", "Tensor") for name in ("transpose", "swapaxes", "swapdims")),
    samples=lambda: [S(T((3, 4)), 0, 1), S(T((2, 3, 4)), -1, 0), S(T((2, 3, 4)), 1, 1)])


def _t_meta(x: Any) -> TensorMeta:
    if x.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {x.ndim}D")
    return meta_of(x).with_shape(tuple(reversed(x.shape)))


def _t(xp: Any, x: Any) -> Any:
    if x.ndim > 2:
        _t_meta(x)
    return x.T


t = view("t(Tensor self) -> Tensor", kernel=_t, infer=_t_meta, vjp=lambda g, out, x: ops.t(g),
         lower=lambda index, x: tuple(reversed(index)), write=lambda base, value: ops.t(value),
         samples=lambda: [S(T((3, 4))), S(T((3,)))])

# ---- parts ---------------------------------------------------------------------------------------------------------


def _element(size: Any, ndim: int, dim: int, index: Any) -> Any:
    """``index`` into a dimension of ``size``, as a non-negative one."""
    if isinstance(index, int) and not -size <= index < size:
        raise IndexError(f"index {index} is out of bounds for dimension {dim} with size {size}")
    return index + size if index < 0 else index


def _select(xp: Any, x: Any, dim: int, index: int) -> Any:
    if not x.ndim:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    dim = wrap_dim(dim, x.ndim)
    _element(x.shape[dim], x.ndim, dim, index)
    return x[(slice(None),) * dim + (index, ...)]


def _select_meta(x: Any, dim: int, index: int) -> TensorMeta:
    if not x.ndim:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    dim = wrap_dim(dim, x.ndim)
    _element(x.shape[dim], x.ndim, dim, index)
    return meta_of(x).with_shape(_removed(tuple(x.shape), dim))


select = view(
    "select(Tensor self, int dim, int index) -> Tensor", kernel=_select, infer=_select_meta,
    vjp=lambda g, out, x, dim, index: _pad_dim(ops.unsqueeze(g, wrap_dim(dim, x.ndim)), wrap_dim(dim, x.ndim),
                                               _element(x.shape[dim], x.ndim, dim, index), x.shape[dim]),
    lower=lambda at, x, dim, index: (*at[:wrap_dim(dim, x.ndim)], _element(x.shape[dim], x.ndim, dim, index),
                                     *at[wrap_dim(dim, x.ndim):]),
    write=lambda base, value, dim, index: ops.select_scatter(base, value, dim, index),
    samples=lambda: [S(T((3, 4)), 0, 1), S(T((3, 4)), 1, -1), S(T((3,)), 0, 2)])


def _pad_dim(g: Any, dim: int, before: Any, size: Any) -> Any:
    """``g`` put into zeros of ``size`` along ``dim``, behind ``before`` of them."""
    pads: list[Any] = [0] * (2 * (g.ndim - dim))
    pads[-2], pads[-1] = before, size - before - g.shape[dim]
    return ops.constant_pad_nd(g, tuple(pads), 0)


def slice_bounds(size: Any, start: Any, end: Any) -> tuple[Any, Any]:
    """Python's rule for ``start:end`` of a dimension, with missing and negative ends worked out."""
    start = 0 if start is None else start
    end = size if end is None or (isinstance(end, int) and end >= 2**62) else end
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    start = 0 if start < 0 else size if start > size else start
    end = start if end < start else size if end > size else end
    return start, end


def _sliced(x: Any, dim: int, start: Any, end: Any, step: int) -> tuple[int, Any, Any, Any]:
    """``(dim, start, end, length)`` of a slice."""
    if step <= 0:
        raise RuntimeError("slice step must be positive")
    if not x.ndim:
        raise RuntimeError("slice() cannot be applied to a 0-dim tensor.")
    dim = wrap_dim(dim, x.ndim)
    start, end = slice_bounds(x.shape[dim], start, end)
    return dim, start, end, end - start if step == 1 else (end - start + step - 1) // step


def _slice(xp: Any, x: Any, dim: int, start: Any, end: Any, step: int) -> Any:
    dim, start, end, _ = _sliced(x, dim, start, end, step)
    return x[(slice(None),) * dim + (slice(start, end, step),)]


def _slice_rule(g: Any, out: Any, x: Any, dim: int, start: Any, end: Any, step: int) -> Any:
    at, first, _, _ = _sliced(x, dim, start, end, step)
    if step == 1:
        return _pad_dim(g, at, first, x.shape[at])
    return ops.slice_scatter(ops.full(tuple(x.shape), 0, dtype=g.dtype, device=g.device), g, dim, start, end, step)


def _slice_meta(x: Any, dim: int, start: Any, end: Any, step: int) -> TensorMeta:
    dim, _, _, length = _sliced(x, dim, start, end, step)
    return meta_of(x).with_shape((*x.shape[:dim], length, *x.shape[dim + 1:]))


def _slice_index(index: Any, x: Any, dim: int, start: Any, end: Any, step: int) -> tuple:
    dim, first, _, _ = _sliced(x, dim, start, end, step)
    return (*index[:dim], index[dim] * step + first, *index[dim + 1:])


slice_ = view(
    "slice(Tensor self, int dim=0, int? start=None, int? end=None, int step=1) -> Tensor", kernel=_slice, api=(),
    infer=_slice_meta, vjp=_slice_rule, lower=_slice_index,
    write=lambda base, value, dim, start, end, step: ops.slice_scatter(base, value, dim, start, end, step),
    samples=lambda: [S(T((5, 4)), 0, 1, 3), S(T((5, 4)), 1, -3, None), S(T((5, 4)), 0, 0, 5, 2), S(T((5,)), 0, 4, 2),
                     S(T((5, 4)), 0, None, 100)])


def _narrowed(x: Any, dim: int, start: Any, length: Any) -> tuple[int, Any]:
    if not x.ndim:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    dim = wrap_dim(dim, x.ndim)
    size = x.shape[dim]
    if start < -size or start > size:
        raise IndexError(f"start out of range (expected to be in range of [-{size}, {size}], but got {start})")
    if start < 0:
        start = start + size
    if start + length > size:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({size}).")
    return dim, start


def _narrow(xp: Any, x: Any, dim: int, start: int, length: int) -> Any:
    dim, start = _narrowed(x, dim, start, length)
    return x[(slice(None),) * dim + (slice(start, start + length),)]


def _narrow_meta(x: Any, dim: int, start: Any, length: Any) -> TensorMeta:
    dim, start = _narrowed(x, dim, start, length)
    return meta_of(x).with_shape((*x.shape[:dim], length, *x.shape[dim + 1:]))


def _narrow_index(index: Any, x: Any, dim: int, start: Any, length: Any) -> tuple:
    dim, start = _narrowed(x, dim, start, length)
    return (*index[:dim], index[dim] + start, *index[dim + 1:])


def _narrow_rule(g: Any, out: Any, x: Any, dim: int, start: Any, length: Any) -> Any:
    at, first = _narrowed(x, dim, start, length)
    return _pad_dim(g, at, first, x.shape[at])


def _write_narrowed(base: Any, value: Any, dim: int, start: Any, length: Any) -> Any:
    at, first = _narrowed(base, dim, start, length)
    return ops.slice_scatter(base, value, at, first, first + length)


narrow = view(
    "narrow(Tensor self, int dim, int start, int length) -> Tensor", kernel=_narrow, infer=_narrow_meta, vjp=_narrow_rule,
    lower=_narrow_index, write=_write_narrowed, api=(),
    samples=lambda: [S(T((5, 4)), 0, 1, 3), S(T((5, 4)), -1, 0, 0), S(T((5, 4)), 1, -2, 2)])

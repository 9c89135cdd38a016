"""Elements read and written through tensors of indices and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import dtype as _dtype
from .. import faults, late
from ..family import Scatter, broadcast_shapes, composite, ops, pointwise, primitive, wrap_dim
from ..meta import TensorMeta, meta_of
from ..op import type_name
from ..samples import S, T
from .create import number_in
from .view import product

if TYPE_CHECKING:
    from .. import loops
else:
    loops = late.Later("loops")

_I64 = _dtype.int64


def indices(shape: tuple, high: int, **kwargs: Any) -> T:
    """A sample's tensor of indices below ``high``."""
    return T(shape, 0, high, dtype=_I64, grad=False, **kwargs)


def check_index_dtype(name: str, index: Any) -> None:
    """Raise PyTorch's error for an index of a wrong dtype."""
    if index.dtype not in (_dtype.int64, _dtype.int32):
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")


def check_range(index: Any, size: int, dim: int, negative: bool = False, error: type[Exception] = IndexError) -> None:
    """Raise ``error`` for the first element of the array ``index`` outside a dimension of ``size``."""
    least = -size if negative else 0
    if index.size and (int(index.max()) >= size or int(index.min()) < least):
        first = int(index[(index >= size) | (index < least)].flat[0])
        raise error(f"index {first} is out of bounds for dimension {dim} with size {size}")


def wide(x: Any) -> Any:
    """Half precisions as float32, for sums."""
    return x.astype("f4") if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x


def wrapped(e: Any, size: Any) -> Any:
    """An index expression's value with negative ones counted from the end."""
    return loops.select(loops.call("lt", e, 0, dtype=_dtype.bool_), e + loops.index_value(size, e.dtype), e)


def zeros_for(g: Any, shape: Any) -> Any:
    """Zeros of ``shape`` to put gradients ``g`` into."""
    return ops.full(tuple(shape), 0, dtype=g.dtype, device=g.device)


# ---- along one dimension, an index per element --------------------------------------------------------------------


def _gather_meta(x: Any, dim: int, index: Any, sparse_grad: bool) -> TensorMeta:
    at = wrap_dim(dim, x.ndim)
    if index.dtype is not _I64 and index.dtype is not _dtype.int32 and index.numel() != 0:
        raise RuntimeError("gather(): Expected dtype int32/int64 for index")
    if any(isinstance(s, int) and s == 0 for s in index.shape):  # nothing to read: anything goes
        return TensorMeta(tuple(index.shape), x.dtype, x.device)
    if max(x.ndim, 1) != max(index.ndim, 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    for d in range(min(x.ndim, index.ndim)):
        if d != at and index.shape[d] > x.shape[d]:
            raise RuntimeError(f"Size does not match at dimension {d} expected index {list(index.shape)} to be no larger than "
                               f"self {list(x.shape)} apart from dimension {at}")
    return TensorMeta(tuple(index.shape), x.dtype, x.device)


def _along(xp: Any, index: Any, at: int) -> tuple:
    """NumPy's index that reads position ``index`` along ``at`` and its own place along the others."""
    grid = [xp.arange(n).reshape((-1,) + (1,) * (index.ndim - 1 - d)) for d, n in enumerate(index.shape)]
    grid[at] = index
    return tuple(grid)


def _gather(xp: Any, x: Any, dim: int, index: Any, sparse_grad: bool) -> Any:
    at = wrap_dim(dim, x.ndim)
    if not index.size:
        return xp.empty(index.shape, x.dtype)
    if not x.ndim:
        check_range(index, 1, 0, error=RuntimeError)
        return xp.broadcast_to(x, index.shape).copy()
    check_range(index, x.shape[at], at, error=RuntimeError)
    return x[_along(xp, index, at)]


def _gather_element(at: Any, x: Any, dim: int, index: Any, sparse_grad: bool) -> Any:
    d = wrap_dim(dim, x.ndim)
    return x.at((*at[:d], index.at(at), *at[d + 1:]) if x.ndim else ())


def _gathered_from(g: Any, x: Any, dim: int, index: Any) -> Any:
    zeros = zeros_for(g, x.shape)
    return ops.scatter_add(zeros, dim, index, g) if index.dtype in (_I64, _dtype.int32) else zeros


gather = primitive(
    "gather(Tensor self, int dim, Tensor index, *, bool sparse_grad=False) -> Tensor", "index", kernel=_gather,
    infer=_gather_meta, lower=_gather_element,
    tags=("out", "check", "apart", "same_out", "raises"), dtypes="buifc", fault=faults.GATHERED,
    vjp=(lambda g, out, x, dim, index, sparse_grad: _gathered_from(g, x, dim, index), None),
    samples=lambda: [S(T((3, 4)), 1, indices((3, 2), 4)), S(T((3, 4)), 0, indices((2, 4), 3)), S(T((5,)), 0, indices((7,), 5)),
                     S(T((3, 4)), -1, indices((2, 3), 4))])


def _put_at(index: Any, d: int, i: Any) -> tuple:
    """``index`` with ``i`` in dimension ``d``."""
    return (*index[:d], i, *index[d + 1:])


def _scatter_meta(x: Any, dim: int, index: Any, *_: Any) -> TensorMeta:
    wrap_dim(dim, x.ndim)
    check_index_dtype("scatter", index)
    if max(x.ndim, 1) != max(index.ndim, 1) and index.numel() != 0:
        raise RuntimeError("Index tensor must have the same number of dimensions as self tensor")
    return meta_of(x)


def _cut(src: Any, index: Any) -> Any:
    return src[tuple(slice(n) for n in index.shape)]


def _check_scatter(x: Any, at: int, index: Any, src: Any) -> None:
    if x.ndim and hasattr(src, "shape") and src.ndim and index.ndim != src.ndim:
        raise RuntimeError("Index tensor must have the same number of dimensions as src tensor")
    check_range(index, x.shape[at] if x.ndim else 1, at, error=RuntimeError)
    for d in range(index.ndim):
        if (d != at and index.shape[d] > x.shape[d]) or (hasattr(src, "shape") and src.ndim and index.shape[d] > src.shape[d]):
            raise RuntimeError(f"Expected index {list(index.shape)} to be no larger than self {list(x.shape)} apart from "
                               f"dimension {at} and to be no larger size than src {list(getattr(src, 'shape', ()))}")


def _scatter(xp: Any, x: Any, dim: int, index: Any, src: Any) -> Any:
    at, out = wrap_dim(dim, x.ndim), x.copy()
    if not index.size:
        return out
    if hasattr(src, "dtype") and src.dtype != x.dtype:
        raise RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")
    _check_scatter(x, at, index, src)
    if not x.ndim:
        return xp.full((), src.reshape(-1)[-1] if hasattr(src, "dtype") else src, x.dtype)
    out[_along(xp, index, at)] = _cut(src, index) if hasattr(src, "shape") and src.ndim else src
    return out


scatter_src = primitive(
    "scatter_src(Tensor self, int dim, Tensor index, Operand src) -> Tensor", "index", kernel=_scatter, infer=_scatter_meta,
    api=(), tags=("extern", "check", "raises"), dtypes="buifc", inplace=False,
    vjp=(lambda g, out, x, dim, index, src: ops.scatter_src(g, dim, index, 0), None,
         lambda g, out, x, dim, index, src: _cut_back(ops.gather(g, dim, index), src.shape)),
    samples=lambda: [S(T((3, 4)), 1, T((3, 2), dtype=_I64, grad=False, values=[[0, 3], [1, 2], [2, 0]]), T((3, 2))),
                     S(T((3, 4)), 0, T((1, 4), dtype=_I64, grad=False, values=[[0, 2, 1, 0]]), 1)])


def _cut_back(g: Any, shape: Any) -> Any:
    """The gradient of a source of which only a corner was used."""
    pads: list[Any] = []
    for have, n in reversed(list(zip(g.shape, shape))):
        pads += [0, n - have]
    return ops.constant_pad_nd(g, tuple(pads), 0) if any(pads) else g


def _scatter_add(xp: Any, x: Any, dim: int, index: Any, src: Any) -> Any:
    at, out = wrap_dim(dim, x.ndim), wide(x).copy()
    if not index.size:
        return x.copy()
    if src.dtype != x.dtype:
        raise RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")
    _check_scatter(x, at, index, src)
    if not x.ndim:
        return (out + wide(src).sum()).astype(x.dtype)
    xp.add.at(out, _along(xp, index, at), _cut(wide(src), index))
    return out.astype(x.dtype, copy=False)


scatter_add = primitive(
    "scatter_add(Tensor self, int dim, Tensor index, Tensor src) -> Tensor", "index", kernel=_scatter_add, infer=_scatter_meta,
    tags=("amp:promote@cuda", "extern", "check", "raises"), dtypes="uif", inplace=True, fault=faults.GATHERED, scatter=Scatter(
        over=lambda x, dim, index, src: index.shape if x.ndim and src.dtype is x.dtype else None,
        element=lambda at, x, dim, index, src: (_put_at(at, wrap_dim(dim, x.ndim), index.at(at)), src.at(at))),
    vjp=(lambda g, out, x, dim, index, src: g, None,
         lambda g, out, x, dim, index, src: _cut_back(ops.gather(g, dim, index), src.shape)),
    samples=lambda: [S(T((3, 4)), 1, indices((3, 6), 4), T((3, 6))), S(T((3, 4)), 0, indices((5, 4), 3), T((5, 4))),
                     S(T((3,)), 0, indices((4,), 3), T((4,)))])

_REDUCERS = {"sum": "add", "prod": "multiply", "amax": "maximum", "amin": "minimum", "mean": "add"}


def _scatter_reduce(xp: Any, x: Any, dim: int, index: Any, src: Any, reduce: str, include_self: bool) -> Any:
    at = wrap_dim(dim, x.ndim)
    if reduce not in _REDUCERS:
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")
    if src.dtype != x.dtype:
        raise RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")
    if not index.size:
        return x.copy()
    _check_scatter(x, at, index, src)
    if not x.ndim:  # one element counts as a row of one
        return _scatter_reduce(xp, x.reshape(1), 0, index.reshape(-1), src.reshape(-1), reduce, include_self).reshape(())
    if x.dtype == bool:  # sums, products and extremes of truth values are those of 0 and 1
        return _scatter_reduce(xp, x.astype("i8"), dim, index, src.astype("i8"), reduce, include_self).astype(bool)
    out, where, new = wide(x).copy(), _along(xp, index, at), _cut(wide(src), index)
    if not include_self:
        integral = out.dtype.kind in "iu"
        low = xp.iinfo(out.dtype).min if integral else -xp.inf
        high = xp.iinfo(out.dtype).max if integral else xp.inf
        out[where] = {"sum": 0, "prod": 1, "mean": 0, "amax": low, "amin": high}[reduce]
    getattr(xp, _REDUCERS[reduce]).at(out, where, new)
    if reduce == "mean":
        count = xp.full(out.shape, 1 if include_self else 0, "i8")
        xp.add.at(count, where, 1)
        count = xp.maximum(count, 1)
        out = out / count if out.dtype.kind == "f" else xp.floor_divide(out, count)
    return out.astype(x.dtype, copy=False)


def _scatter_reduce_rules() -> tuple:
    def counts(x: Any, dim: int, index: Any, src: Any, include_self: bool) -> Any:
        start = ops.full(tuple(x.shape), 1 if include_self else 0, dtype=x.dtype, device=x.device)
        return ops.clamp(ops.scatter_add(start, dim, index, ops.ones_like(src)), 1)

    def ties(out: Any, x: Any, dim: int, index: Any, src: Any, include_self: bool) -> Any:
        hit = ops.cast(ops.eq(src, ops.gather(out, dim, index)), x.dtype)
        start = ops.cast(ops.eq(x, out), x.dtype) if include_self else ops.zeros_like(x)
        return ops.scatter_add(start, dim, index, hit)

    def own(g: Any, out: Any, x: Any, dim: int, index: Any, src: Any, reduce: str, include_self: bool) -> Any:
        if not include_self:
            g = ops.scatter_src(g, dim, index, 0)
        if reduce == "mean":
            return g / counts(x, dim, index, src, include_self)
        if reduce == "prod":
            whole = ops.where(ops.eq(x, 0), 1, x)  # the product of the others, also where this one is zero
            return g * ops.scatter_reduce(whole, dim, index, src, "prod", include_self=include_self) / whole
        if reduce == "sum":
            return g
        return ops.where(ops.eq(x, out), g / ops.clamp(ties(out, x, dim, index, src, include_self), 1), 0)

    def source(g: Any, out: Any, x: Any, dim: int, index: Any, src: Any, reduce: str, include_self: bool) -> Any:
        if reduce == "mean":
            return ops.gather(g / counts(x, dim, index, src, include_self), dim, index)
        if reduce == "prod":
            zero = ops.eq(src, 0)
            zeros = ops.scatter_add(ops.zeros_like(x), dim, index, ops.cast(zero, x.dtype))
            lone = zero & ops.eq(ops.gather(zeros, dim, index), 1)  # the only zero among what is multiplied with it
            others = ops.scatter_reduce(x, dim, index, ops.where(lone, 1, src), "prod", include_self=include_self)
            plain = ops.gather(g * out, dim, index) / ops.where(zero, 1, src)
            return ops.where(lone, ops.gather(g * others, dim, index), plain)
        if reduce == "sum":
            return ops.gather(g, dim, index)
        share = g / ops.clamp(ties(out, x, dim, index, src, include_self), 1)
        return ops.where(ops.eq(src, ops.gather(out, dim, index)), ops.gather(share, dim, index), 0)

    return own, None, source


scatter_reduce = primitive(
    "scatter_reduce(Tensor self, int dim, Tensor index, Tensor src, str reduce, *, bool include_self=True) -> Tensor", "index",
    kernel=_scatter_reduce, infer=_scatter_meta, vjp=_scatter_reduce_rules(), tags=("extern", "check", "raises"), dtypes="uif",
        inplace=True,
    samples=lambda: [S(T((4,), 0.5, 2), 0, indices((6,), 4), T((6,), 0.5, 2), how, include_self=own)
                     for how in _REDUCERS for own in (True, False)])

# ---- along one dimension, an index per slice -----------------------------------------------------------------------


def _index_select_meta(x: Any, dim: int, index: Any) -> TensorMeta:
    at = wrap_dim(dim, x.ndim)
    if index.ndim > 1:
        raise IndexError("index_select(): Index is supposed to be a vector, but got dim: "
                         f"{index.ndim} with type: {type_name(index.dtype)}")
    check_index_dtype("index_select", index)
    n = index.shape[0] if index.ndim else 1
    return meta_of(x).with_shape((*x.shape[:at], n, *x.shape[at + 1:]) if x.ndim else ())


def _index_select(xp: Any, x: Any, dim: int, index: Any) -> Any:
    at = wrap_dim(dim, x.ndim)
    if index.size and (int(index.min()) < 0 or int(index.max()) >= (x.shape[at] if x.ndim else 1)):
        raise IndexError("index out of range in self")
    return xp.take(x, index.reshape(-1), axis=at) if x.ndim else x.copy()


def _index_select_at(at: Any, x: Any, dim: int, index: Any) -> Any:
    if not x.ndim:
        return x.at(())
    dim = wrap_dim(dim, x.ndim)
    return x.at((*at[:dim], index.at((at[dim],) if index.ndim else ()), *at[dim + 1:]))


index_select = primitive(
    "index_select(Tensor self, int dim, Tensor index) -> Tensor", "index", kernel=_index_select, infer=_index_select_meta,
    vjp=(lambda g, out, x, dim, index: ops.index_add(zeros_for(g, x.shape), dim, index, g), None),
        tags=("out", "check", "raises"), dtypes="buifc", fault=faults.IN_SELF,
    lower=_index_select_at,
    samples=lambda: [S(T(()), 0, indices((1,), 1)), S(T((3, 4)), 0, indices((5,), 3)),
                     S(T((3, 4)), -1, indices((2,), 4)), S(T((3, 4)), 0, indices((0,), 3))])


def add_rows(xp: Any, out: Any, at: int, index: Any, src: Any) -> None:
    """``out[..., index[i], ...] += src[..., i, ...]`` with repeated indices summed."""
    rows, new = xp.moveaxis(out, at, 0), xp.moveaxis(src, at, 0)
    width = product(rows.shape[1:])
    if index.size < 32 or width < 4:
        xp.add.at(rows, index, new)
        return
    order = xp.argsort(index, kind="stable")
    ranked = index[order]
    starts = xp.flatnonzero(xp.concatenate([xp.ones(1, bool), ranked[1:] != ranked[:-1]]))
    rows[ranked[starts]] += xp.add.reduceat(new[order], starts, axis=0)


def _check_source(name: str, x: Any, at: int, index: Any, source: Any) -> None:
    count = product(index.shape)
    want = (*x.shape[:at], count, *x.shape[at + 1:]) if x.ndim else (count,) if source.ndim else ()
    if name == "index_add" and tuple(source.shape) != tuple(want):
        raise RuntimeError("index_add(): source tensor shape must match self tensor shape, excluding the specified dimension. "
                           f"Got self.shape = {list(x.shape)} source.shape = {list(source.shape)}")
    if tuple(source.shape) != tuple(want):
        raise IndexError(f"{name}(): Source/destination tensor must have same slice shapes. Destination slice shape: "
                         f"{list(want)} "
                         f"at dimension {at} and source slice shape: {list(source.shape)} at dimension {at}.")


def _index_add(xp: Any, x: Any, dim: int, index: Any, source: Any, alpha: Any) -> Any:
    at, out = wrap_dim(dim, x.ndim), wide(x).copy()
    if source.dtype != x.dtype:
        raise RuntimeError(f"index_add_(): self ({x.dtype}) and source ({source.dtype}) must have the same scalar type")
    check_range(index, x.shape[at] if x.ndim else 1, at)
    _check_source("index_add", x, at, index, source)
    new = wide(source) if alpha == 1 else wide(source) * out.dtype.type(alpha)
    add_rows(xp, out if x.ndim else out.reshape(1), at, index.reshape(-1), new if x.ndim else new.reshape(-1))
    return out.astype(x.dtype, copy=False)


def _same_meta(x: Any, dim: int, index: Any, *_: Any) -> TensorMeta:
    wrap_dim(dim, x.ndim)
    return meta_of(x)


def _added_meta(x: Any, dim: int, index: Any, source: Any, alpha: Any = 1) -> TensorMeta:
    _check_source("index_add", x, wrap_dim(dim, x.ndim), index, source)
    return meta_of(x)


def _copied_meta(x: Any, dim: int, index: Any, source: Any) -> TensorMeta:
    _check_source("index_copy_", x, wrap_dim(dim, x.ndim), index, source)
    return meta_of(x)


index_add = primitive(
    "index_add(Tensor self, int dim, Tensor index, Tensor source, *, Number alpha=1) -> Tensor", "index", kernel=_index_add,
    infer=_added_meta, inplace=True, tags=("extern", "check", "raises"), dtypes="uifc", scatter=Scatter(
        over=lambda x, dim, index, source, alpha: source.shape if x.ndim and source.dtype is x.dtype else None,
        element=lambda at, x, dim, index, source, alpha: (
            _put_at(at, wrap_dim(dim, x.ndim), index.at((at[wrap_dim(dim, x.ndim)],) if index.ndim else ())),
            source.at(at) if alpha == 1 else loops.call("mul", source.at(at), alpha))),
    vjp=(lambda g, out, x, dim, index, source, alpha: g, None, lambda g, out, x, dim, index, source, alpha: ops.index_select(
        g, dim, index) if alpha == 1 else ops.index_select(g, dim, index) * alpha),
    samples=lambda: [S(T((3, 4)), 0, indices((5,), 3), T((5, 4))), S(T((3, 4)), 1, indices((2,), 4), T((3, 2)), alpha=2),
                     S(T((3, 8)), 0, indices((40,), 3), T((40, 8)))])


def _index_copy(xp: Any, x: Any, dim: int, index: Any, source: Any) -> Any:
    at, out = wrap_dim(dim, x.ndim), x.copy()
    if source.dtype != x.dtype:
        raise RuntimeError("index_copy_(): self and source expected to have the same dtype, but got (self) "
                           f"{x.dtype} and (source) {source.dtype}")
    check_range(index, x.shape[at] if x.ndim else 1, at)
    _check_source("index_copy_", x, at, index, source)
    rows = out if x.ndim else out.reshape(1)
    xp.moveaxis(rows, at, 0)[index.reshape(-1)] = xp.moveaxis(source if source.ndim else source.reshape(1), at, 0)
    return rows.reshape(x.shape)


index_copy = primitive(
    "index_copy(Tensor self, int dim, Tensor index, Tensor source) -> Tensor", "index", kernel=_index_copy, infer=_copied_meta,
    inplace=True, tags=("amp:promote@cpu", "extern", "check", "raises"), dtypes="buifc",
    vjp=(lambda g, out, x, dim, index, source: ops.index_fill(g, dim, index, 0), None,
         lambda g, out, x, dim, index, source: ops.index_select(g, dim, index)),
    samples=lambda: [S(T((3, 4)), 0, T((2,), dtype=_I64, grad=False, values=[2, 0]), T((2, 4)))])


def _index_fill(xp: Any, x: Any, dim: int, index: Any, value: Any) -> Any:
    at, out = wrap_dim(dim, x.ndim), x.copy()
    check_range(index, x.shape[at] if x.ndim else 1, at, negative=True)
    rows = out if x.ndim else out.reshape(1)
    xp.moveaxis(rows, at, 0)[index] = number_in(value, _dtype.from_numpy(x.dtype))
    return rows.reshape(x.shape)


def _filled(x: Any, dim: int, index: Any) -> Any:
    """Where ``index_fill`` writes."""
    nowhere = ops.full(tuple(x.shape), False, dtype=_dtype.bool_, device=x.device)
    return ops.index_fill(nowhere, dim, index, True)


index_fill = primitive(
    "index_fill(Tensor self, int dim, Tensor index, Operand value) -> Tensor", "index", kernel=_index_fill, infer=_same_meta,
    inplace=True, tags=("extern", "check", "overlap", "raises"), dtypes="buifc",
    vjp=(lambda g, out, x, dim, index, value: ops.index_fill(g, dim, index, 0), None,
         lambda g, out, x, dim, index, value: ops.sum(ops.where(_filled(x, dim, index), g, 0))),
    samples=lambda: [S(T((3, 4)), 0, indices((2,), 3), 1),
                     S(T((3, 4)), 1, T((2,), dtype=_I64, grad=False, values=[3, 1]), T(()))])

# ---- several dimensions at once ------------------------------------------------------------------------------------


def _numpy_index(indices: Sequence[Any], shape: Sequence[int]) -> tuple:
    """NumPy's form of ``[tensor or None, ...]``, with PyTorch's errors."""
    found: list[Any] = []
    d = 0
    for i in indices:
        if i is None:
            found.append(slice(None))
            d += 1
        elif i.dtype == bool:
            if i.shape != tuple(shape[d:d + i.ndim]):
                bad = next(k for k in range(i.ndim) if d + k >= len(shape) or i.shape[k] != shape[d + k])
                raise IndexError(f"The shape of the mask {list(i.shape)} at index {bad} does not match the shape of the indexed "
                                 f"tensor {list(shape)} at index {d + bad}")
            found.append(i)
            d += i.ndim
        else:
            if i.dtype.kind not in "iu":
                raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
            check_range(i, shape[d], d, negative=True)
            found.append(i)
            d += 1
    return tuple(found)


def index_geometry(indices: Sequence[Any], ndim: int) -> tuple[tuple[int, ...], int, tuple]:
    """``(indexed dimensions, where the result has the index's dimensions, the index's shape)`` for integer indices."""
    dims = tuple(d for d, i in enumerate(indices) if i is not None)
    if len(indices) > ndim:
        raise IndexError(f"too many indices for tensor of dimension {ndim}")
    try:
        shape = broadcast_shapes(*[tuple(indices[d].shape) for d in dims])
    except RuntimeError:
        raise IndexError("shape mismatch: indexing tensors could not be broadcast together with shapes " + ", ".join(
            str(list(indices[d].shape)) for d in dims)) from None
    adjacent = dims[-1] - dims[0] + 1 == len(dims)
    return dims, dims[0] if adjacent else 0, shape


def _index_meta(x: Any, indices: Any) -> TensorMeta:
    if any(i is not None and (i.dtype.is_floating_point or i.dtype.is_complex) for i in indices):
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    if any(i is not None and i.dtype in (_dtype.bool_, _dtype.uint8) for i in indices):
        raise NotImplementedError("the shape of an index with a mask depends on its data")
    dims, first, shape = index_geometry(indices, x.ndim)
    rest = [s for d, s in enumerate(x.shape) if d not in dims]
    return meta_of(x).with_shape((*rest[:first], *shape, *rest[first:]))


def _masked_shape(size: Any, x: Any, indices: Any) -> TensorMeta | None:
    """The meta of an index with one mask and nothing else: a new size in place of the dimensions that the mask covers."""
    given = [(d, i) for d, i in enumerate(indices) if i is not None]
    if len(given) != 1 or given[0][1].dtype is not _dtype.bool_ or not given[0][1].ndim:
        return None
    first, mask = given[0]
    covered = tuple(x.shape[first:first + mask.ndim])
    if len(covered) != mask.ndim or any(a is not b and a != b for a, b in zip(covered, mask.shape)):
        return None                                            # eager has the words for it
    return meta_of(x).with_shape((*x.shape[:first], size(mask), *x.shape[first + mask.ndim:]))


def _index(xp: Any, x: Any, indices: Any) -> Any:
    found = x[_numpy_index(indices, x.shape)]  # of what NumPy gathers, the indexed dimensions may lie outermost
    return found if found.flags.c_contiguous and (found.base is None or not xp.may_share_memory(found, x)) else found.copy()


def _index_element(at: Any, x: Any, indices: Any) -> Any:
    dims, first, shape = index_geometry(indices, x.ndim)
    inner = at[first:first + len(shape)]
    rest = iter((*at[:first], *at[first + len(shape):]))
    source = []
    for d in range(x.ndim):
        if d in dims:
            i = indices[d]
            own = inner[len(inner) - i.ndim:]
            value = i.at(tuple(0 if i.shape[k] == 1 else own[k] for k in range(i.ndim)))
            source.append(wrapped(value, x.shape[d]))
        else:
            source.append(next(rest))
    return x.at(tuple(source))


index_ = primitive(
    "index(Tensor self, Tensor[]? indices) -> Tensor", "index", kernel=_index, infer=_index_meta, lower=_index_element, api=(),
    vjp=(lambda g, out, x, indices: ops.index_put(zeros_for(g, x.shape), indices, g, True), None), dtypes="buifc",
        tags=("check_data", "raises"), fault=faults.WRAPPED, data_shape=_masked_shape,
    samples=lambda: [S(T((4, 5)), [indices((3,), 4)]), S(T((4, 5)), [None, indices((2, 2), 5)]),
                     S(T((4, 5)), [indices((3,), 4), indices((3,), 5)]),
                         S(T((4, 5, 3)), [indices((2, 1), 4), None, indices((3,), 3)]),
                     S(T((4, 5)), [T((3,), -4, 4, dtype=_I64, grad=False)])])


def _index_put(xp: Any, x: Any, indices: Any, values: Any, accumulate: bool) -> Any:
    where, out = _numpy_index(indices, x.shape), (wide(x) if accumulate else x).copy()
    if values.dtype != x.dtype:
        raise RuntimeError(f"Index put requires the source and destination dtypes match, got {x.dtype} for the destination and "
                           f"{values.dtype} for the source.")
    while values.ndim and values.shape[0] == 1 and values.ndim > out[where].ndim:
        values = values[0]
    try:
        if not accumulate:
            out[where] = values
        elif len(where) == 1 and where[0].dtype != bool and values.shape == (*where[0].shape, *x.shape[1:]):
            flat = where[0].reshape(-1)
            add_rows(xp, out, 0, xp.where(flat < 0, flat + x.shape[0], flat), wide(values).reshape(flat.size, *x.shape[1:]))
        else:
            xp.add.at(out, where, wide(values))
    except ValueError:
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(values.shape)} cannot be broadcast to "
                           f"indexing result of "
                           f"shape {list(out[where].shape)}") from None
    return out.astype(x.dtype, copy=False)


index_put = primitive(
    "index_put(Tensor self, Tensor[]? indices, Tensor values, bool accumulate=False) -> Tensor", "index", kernel=_index_put,
    infer=lambda x, indices, values, accumulate: meta_of(x), inplace=True,
    tags=("amp:promote@cuda", "extern", "raises"), dtypes="buifc",
    vjp=(lambda g, out, x, indices, values, accumulate: g if accumulate else ops.index_put(
        g, indices, ops.full((), 0, dtype=g.dtype, device=g.device)), None,
         lambda g, out, x, indices, values, accumulate: ops.index(g, indices)),
    samples=lambda: [S(T((4, 5)), [T((2,), dtype=_I64, grad=False, values=[3, 1])], T((2, 5))),
                     S(T((4, 5)), [indices((6,), 4)], T((6, 5)), True),
                         S(T((4, 5)), [indices((3,), 4), indices((3,), 5)], T(()), True),
                     S(T((4, 5)), [None, T((2,), dtype=_I64, grad=False, values=[0, 4])], T((4, 2)))])


# ---- masks --------------------------------------------------------------------------------------------------------


def _mask_meta(name: str, x: Any, mask: Any) -> None:
    if mask.dtype is not _dtype.bool_:
        raise RuntimeError(f"{name} only supports boolean masks, but got mask with dtype {mask.dtype}")


def _masked_fill_meta(x: Any, mask: Any, value: Any) -> TensorMeta:
    _mask_meta("masked_fill_", x, mask)
    if getattr(value, "ndim", 0):
        raise RuntimeError("masked_fill only supports a 0-dimensional value tensor, but got tensor with "
                           f"{value.ndim} dimension(s).")
    return meta_of(x).with_shape(broadcast_shapes(tuple(x.shape), tuple(mask.shape)))


def _masked_fill(xp: Any, x: Any, mask: Any, value: Any) -> Any:
    if hasattr(value, "dtype"):
        if value.dtype.kind == "c" and x.dtype.kind != "c":
            raise RuntimeError("value cannot be converted to type "
                               f"{'int64_t' if x.dtype.kind in 'iub' else 'float'} without overflow")
    else:
        if isinstance(value, complex) and x.dtype.kind != "c" or x.dtype.kind in "iub" and isinstance(value, float) and value % 1:
            raise RuntimeError("value cannot be converted to type "
                               f"{'int64_t' if x.dtype.kind in 'iub' else 'float'} without overflow")
        value = xp.asarray(value).astype(x.dtype)
    return xp.where(mask, value.astype(x.dtype, copy=False), x)


masked_fill = pointwise(
    "masked_fill(Tensor self, Tensor mask, Operand value) -> Tensor", promote="copy", kernel=_masked_fill, dtypes="buifc",
    decompose=lambda x, mask, value: ops.where(mask, _as_dtype(value, x.dtype), x), tags=("check", "overlap"),
    vjp=(lambda g, out, x, mask, value: ops.where(mask, 0, g), None, lambda g, out, x, mask,
        value: ops.sum(ops.where(mask, g, 0))),
    samples=lambda: [S(T((3, 4)), T((3, 4), dtype=_dtype.bool_, grad=False), 1),
        S(T((3, 4)), T((4,), dtype=_dtype.bool_, grad=False), T(())),
                     S(T((3, 1)), T((3, 4), dtype=_dtype.bool_, grad=False), 0)])
masked_fill.infer = _masked_fill_meta


def _as_dtype(value: Any, dtype: Any) -> Any:
    if hasattr(value, "dtype"):
        return ops.cast(value, dtype)
    return {"b": bool, "u": int, "i": int, "f": float, "c": complex}[dtype.kind](value)


def _masked_select(xp: Any, x: Any, mask: Any) -> Any:
    if mask.dtype != bool:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    x, mask = xp.broadcast_arrays(x, mask)
    return x[mask]


def _selected_shape(size: Any, x: Any, mask: Any) -> TensorMeta | None:
    """The meta of `masked_select`: as many elements as the mask selects, if nothing is broadcast."""
    if mask.dtype is not _dtype.bool_:
        return None
    whole = len(mask.shape) == len(x.shape) and all(a is b or a == b for a, b in zip(mask.shape, x.shape))
    return meta_of(x).with_shape((size(mask) if whole else size(),))


masked_select = primitive(
    "masked_select(Tensor self, Tensor mask) -> Tensor", "index", kernel=_masked_select, infer=None,
    tags=("extern", "data_shape", "out", "apart"), dtypes="buifc",
    data_shape=_selected_shape,
    vjp=(lambda g, out, x, mask: ops.sum_to_size(ops.masked_scatter(
        ops.full(_broadcast(x.shape, mask.shape), 0, dtype=g.dtype, device=g.device), mask, g), tuple(x.shape)), None),
    samples=lambda: [S(T((3, 4)), T((3, 4), dtype=_dtype.bool_, grad=False)),
        S(T((3, 4)), T((4,), dtype=_dtype.bool_, grad=False))])


def _broadcast(shape: Any, mask_shape: Any) -> tuple:
    return broadcast_shapes(tuple(shape), tuple(mask_shape))


def _masked_scatter(xp: Any, x: Any, mask: Any, source: Any) -> Any:
    if mask.dtype != bool:
        raise RuntimeError(f"masked_scatter_ only supports boolean masks, but got mask with dtype {mask.dtype}")
    if source.dtype != x.dtype:
        raise RuntimeError(f"masked_scatter: expected self and source to have same dtypes but got {x.dtype} and {source.dtype}")
    shape = broadcast_shapes(x.shape, mask.shape)
    out, where = xp.broadcast_to(x, shape).copy(), xp.broadcast_to(mask, shape)
    count = int(where.sum())
    if count > source.size:
        raise RuntimeError("masked_scatter: expected `source` to have at least as many elements as the number of ones in `mask`")
    out[where] = source.reshape(-1)[:count]
    return out


masked_scatter = primitive(
    "masked_scatter(Tensor self, Tensor mask, Tensor source) -> Tensor", "index", kernel=_masked_scatter, inplace=True,
    infer=lambda x, mask, source: meta_of(x).with_shape(_broadcast(x.shape, mask.shape)),
    tags=("extern", "raises"), dtypes="buifc",
    vjp=(lambda g, out, x, mask, source: ops.where(mask, 0, g), None,
         lambda g, out, x, mask, source: ops.masked_scatter_source(g, mask, tuple(source.shape))),
    samples=lambda: [S(T((3, 4)), T((3, 4), dtype=_dtype.bool_, grad=False), T((12,))),
                     S(T((3, 4)), T((4,), dtype=_dtype.bool_, grad=False), T((4, 4)))])


def _masked_scatter_source(xp: Any, g: Any, mask: Any, size: Any) -> Any:
    out = xp.zeros(product(size), g.dtype)
    taken = g[xp.broadcast_to(mask, g.shape)]
    out[:taken.size] = taken
    return out.reshape(size)


masked_scatter_source = primitive(
    "masked_scatter_source(Tensor self, Tensor mask, int[] size) -> Tensor", "index", kernel=_masked_scatter_source, api=(),
    infer=lambda g, mask, size: meta_of(g).with_shape(size), tags=("extern",), dtypes="f",
    vjp=(lambda g, out, x, mask, size: ops.masked_scatter(
        ops.full(tuple(x.shape), 0, dtype=g.dtype, device=g.device), mask, g), None),
    samples=lambda: [S(T((3, 4)), T((3, 4), dtype=_dtype.bool_, grad=False), (12,))],
    doc="The elements where ``mask`` holds, in order, then zeros: the gradient of ``masked_scatter``'s source.")

# ---- flat positions and others -------------------------------------------------------------------------------------


def _take(x: Any, index: Any) -> Any:
    return ops.reshape(ops.index(ops.reshape(x, (-1,)), [ops.reshape(index, (-1,))]), tuple(index.shape))


take = composite("take(Tensor self, Tensor index) -> Tensor", _take, dtypes="buifc", tags=("out", "apart", "raises"),
                 samples=lambda: [S(T((3, 4)), indices((2, 3), 12)), S(T((3, 4)), T((2,), -12, 12, dtype=_I64, grad=False))])


def _put_parts(x: Any, index: Any, source: Any, accumulate: bool) -> Any:
    flat = ops.index_put(ops.reshape(x, (-1,)), [ops.reshape(index, (-1,))], ops.reshape(source, (-1,)), accumulate)
    return ops.reshape(flat, tuple(x.shape))


put = composite("put(Tensor self, Tensor index, Tensor source, bool accumulate=False) -> Tensor", _put_parts,
                tags=("raises",), dtypes="buifc",
                inplace=True, samples=lambda: [S(T((3, 4)), T((2,), dtype=_I64, grad=False, values=[5, 0]), T((2,))),
                                               S(T((3, 4)), indices((4,), 12), T((4,)), True)])


def _nonzero(xp: Any, x: Any) -> Any:
    return xp.stack(xp.nonzero(x), 1) if x.ndim else xp.zeros((int(bool(x)), 0), "i8")


nonzero = primitive("nonzero(Tensor self) -> Tensor", "index", kernel=_nonzero, infer=None, tags=("extern", "data_shape"), api=(),
                    dtypes="buifc", samples=lambda: [S(T((3, 4), -1, 2)), S(T((5,), -1, 2))],
                    data_shape=lambda size, x: TensorMeta((size(x), x.ndim), _dtype.int64, x.device))

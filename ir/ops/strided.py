"""More views: diagonals, windows, strides of one's own, and the same bytes as another dtype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import dtype as _dtype
from ..dtype import DType
from ..family import ops, view, wrap_dim
from ..meta import TensorMeta, meta_of
from ..samples import S, T
from .view import product, restrided, unflat_index

# ---- diagonals -----------------------------------------------------------------------------------------------------


def diagonal_geometry(shape: Sequence[Any], offset: int, dim1: int, dim2: int) -> tuple[int, int, Any, int, int]:
    """``(dim1, dim2, length, first row, first column)`` of a diagonal."""
    n = len(shape)
    a, b = wrap_dim(dim1, n), wrap_dim(dim2, n)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    row, col = max(-offset, 0), max(offset, 0)
    rows, cols = shape[a] - row, shape[b] - col
    length = rows if rows < cols else cols
    return a, b, length if length > 0 else 0, row, col


def _diagonal(xp: Any, x: Any, offset: int, dim1: int, dim2: int) -> Any:
    a, b, length, row, col = diagonal_geometry(x.shape, offset, dim1, dim2)
    rest = [i for i in range(x.ndim) if i not in (a, b)]
    start = x[tuple(slice(row, None) if i == a else slice(col, None) if i == b else slice(None) for i in range(x.ndim))]
    return restrided(xp, start, (*(x.shape[i] for i in rest), length),
                     (*(x.strides[i] for i in rest), x.strides[a] + x.strides[b]))


def _diagonal_meta(x: Any, offset: int, dim1: int, dim2: int) -> TensorMeta:
    a, b, length, _, _ = diagonal_geometry(x.shape, offset, dim1, dim2)
    return meta_of(x).with_shape((*(s for i, s in enumerate(x.shape) if i not in (a, b)), length))


def _diagonal_index(index: Any, x: Any, offset: int, dim1: int, dim2: int) -> tuple:
    a, b, _, row, col = diagonal_geometry(x.shape, offset, dim1, dim2)
    rest = iter(index[:-1])
    return tuple(index[-1] + row if i == a else index[-1] + col if i == b else next(rest) for i in range(x.ndim))


def _diagonal_rule(g: Any, out: Any, x: Any, offset: int, dim1: int, dim2: int) -> Any:
    zeros = ops.full(tuple(x.shape), 0, dtype=g.dtype, device=g.device)
    return ops.diagonal_scatter(zeros, g, offset, dim1, dim2)


diagonal = view(
    "diagonal(Tensor self, int offset=0, int dim1=0, int dim2=1) -> Tensor", kernel=_diagonal, infer=_diagonal_meta,
    vjp=_diagonal_rule, lower=_diagonal_index,
    write=lambda base, value, offset, dim1, dim2: ops.diagonal_scatter(base, value, offset, dim1, dim2),
    samples=lambda: [S(T((3, 4))), S(T((3, 4)), 1), S(T((4, 3)), -1), S(T((2, 3, 4)), 0, 0, 2), S(T((2, 2)), 3)])

# ---- windows and strides -------------------------------------------------------------------------------------------


def _windows(x: Any, dimension: int, size: int, step: int) -> tuple[int, Any]:
    dim = wrap_dim(dimension, x.ndim)
    length = x.shape[dim] if x.ndim else 1
    if size > length:
        raise RuntimeError(f"maximum size for tensor at dimension {dim} is {length} but size is {size}")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    return dim, (length - size) // step + 1


def _unfold(xp: Any, x: Any, dimension: int, size: int, step: int) -> Any:
    dim, count = _windows(x, dimension, size, step)
    if not x.ndim:
        return restrided(xp, x, (size,), (x.itemsize,))
    return restrided(xp, x, (*x.shape[:dim], count, *x.shape[dim + 1:], size),
                     (*x.strides[:dim], x.strides[dim] * step, *x.strides[dim + 1:], x.strides[dim]))


def _unfold_meta(x: Any, dimension: int, size: int, step: int) -> TensorMeta:
    dim, count = _windows(x, dimension, size, step)
    if not x.ndim:
        return meta_of(x).with_shape((size,))
    return meta_of(x).with_shape((*x.shape[:dim], count, *x.shape[dim + 1:], size))


def _unfold_index(index: Any, x: Any, dimension: int, size: int, step: int) -> tuple:
    dim, _ = _windows(x, dimension, size, step)
    return (*index[:dim], index[dim] * step + index[-1], *index[dim + 1:-1]) if x.ndim else ()


def _positions(x: Any, make: Any) -> Any:
    """The flat positions in ``x`` of the elements of a view of it."""
    count = ops.arange(0, x.numel(), 1, device=x.device)
    return make(ops.reshape(count, tuple(x.shape)))


def _spread(g: Any, x: Any, positions: Any) -> Any:
    """Zeros like ``x`` with ``g`` added at flat ``positions``."""
    flat = ops.full((x.numel(),), 0, dtype=g.dtype, device=g.device)
    return ops.reshape(ops.index_add(flat, 0, ops.reshape(positions, (-1,)), ops.reshape(g, (-1,))), tuple(x.shape))


unfold = view(
    "unfold(Tensor self, int dimension, int size, int step) -> Tensor", kernel=_unfold, infer=_unfold_meta,
    vjp=lambda g, out, x, dimension, size, step: _spread(g, x, _positions(x, lambda p: ops.unfold(p, dimension, size, step))),
    lower=_unfold_index, api=("Tensor.unfold",), samples=lambda: [S(T((6,)), 0, 3, 2), S(T((2, 5)), 1, 2, 1),
        S(T((4, 3)), 0, 2, 2)],
    write=lambda base, value, dimension, size, step: _overwrite(
        base, value, _positions(base, lambda p: ops.unfold(p, dimension, size, step))))


def _overwrite(base: Any, value: Any, positions: Any) -> Any:
    flat = ops.reshape(base, (-1,))
    return ops.reshape(ops.index_put(flat, [ops.reshape(positions, (-1,))], ops.reshape(value, (-1,))), tuple(base.shape))


def _owner(x: Any) -> Any:
    while getattr(x, "base", None) is not None and hasattr(x.base, "strides"):
        x = x.base
    return x


def _as_strided(xp: Any, x: Any, size: Any, stride: Any, storage_offset: int | None) -> Any:
    owner = _owner(x)
    if storage_offset is None:
        at = x.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
    else:
        at = storage_offset * x.itemsize
    if any(s < 0 for s in stride):
        raise RuntimeError("as_strided: Negative strides are not supported at the moment, got strides: "
                           f"{list(stride)}")
    last = at // x.itemsize + sum((n - 1) * s for n, s in zip(size, stride)) + 1
    if product(size) and last > owner.nbytes // x.itemsize:
        raise RuntimeError(f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {at // x.itemsize}, and "
                           f"itemsize {x.itemsize} requiring a storage size of {last * x.itemsize} are out of bounds for "
                           f"storage of size {owner.nbytes}")
    start = restrided(xp, owner, (owner.nbytes // owner.itemsize,), (owner.itemsize,)).view(x.dtype)[at // x.itemsize:]
    return restrided(xp, start, tuple(size), tuple(s * x.itemsize for s in stride))


def _as_strided_index(index: Any, x: Any, size: Any, stride: Any, storage_offset: int | None) -> tuple:
    flat: Any = storage_offset or 0
    for i, s in zip(index, stride):
        flat = flat + i * s
    return unflat_index(flat, tuple(x.shape))


def _as_strided_positions(x: Any, size: Any, stride: Any, storage_offset: int | None) -> Any:
    return _positions(x, lambda p: ops.as_strided(p, size, stride, storage_offset or 0))


as_strided = view(
    "as_strided(Tensor self, int[] size, int[] stride, int? storage_offset=None) -> Tensor", kernel=_as_strided,
    infer=lambda x, size, stride, storage_offset: meta_of(x).with_shape(size), lower=_as_strided_index,
    vjp=lambda g, out, x, size, stride, offset: _spread(g, x, _as_strided_positions(x, size, stride, offset)),
    write=lambda base, value, size, stride, offset: _overwrite(base, value, _as_strided_positions(base, size, stride, offset)),
    samples=lambda: [S(T((4, 4)), (2, 2), (4, 1)), S(T((4, 4)), (3, 2), (1, 2), 1), S(T((6,)), (4, 3), (1, 1))])

# ---- the same bytes as another dtype -------------------------------------------------------------------------------


def _viewed(x: Any, dtype: DType) -> tuple:
    """The shape of ``x``'s bytes seen as ``dtype``."""
    have, want = x.dtype.itemsize, dtype.itemsize
    if have == want:
        return tuple(x.shape)
    if not x.ndim:
        raise RuntimeError(f"self.dim() cannot be 0 to view {x.dtype} as {dtype} (different element sizes)")
    if have > want:
        return (*x.shape[:-1], x.shape[-1] * (have // want))
    if x.shape[-1] % (want // have):
        raise RuntimeError(f"self.size(-1) must be divisible by {want // have} to view {x.dtype} as {dtype} (different "
                           f"element sizes), but got {x.shape[-1]}")
    return (*x.shape[:-1], x.shape[-1] // (want // have))


view_dtype = view(
    "view_dtype(Tensor self, dtype dtype) -> Tensor", api=(), kernel=lambda xp, x, dtype: x.view(dtype.np),
    infer=lambda x, dtype: TensorMeta(_viewed(x, dtype), dtype, x.device), vjp=None, tags=("nograd", "extern"),
    dtypes="f", samples=lambda: [S(T((2, 4), dtype=_dtype.float32, grad=False), _dtype.int32),
                                 S(T((2, 4), dtype=_dtype.float32, grad=False), _dtype.int16),
                                 S(T((2, 4), dtype=_dtype.float32, grad=False), _dtype.float64)],
    write=lambda base, value, dtype: ops.view_dtype(value, base.dtype))


def _view_as_real(xp: Any, x: Any) -> Any:
    half = x.real.dtype
    return restrided(xp, x.real, (*x.shape, 2), (*x.strides, half.itemsize))


def _real_meta(x: Any) -> TensorMeta:
    if not x.dtype.is_complex:
        raise RuntimeError("view_as_real is only supported for complex tensors")
    return TensorMeta((*x.shape, 2), x.dtype.to_real(), x.device)


view_as_real = view(
    "view_as_real(Tensor self) -> Tensor", kernel=_view_as_real, infer=_real_meta, vjp=lambda g, out, x: ops.view_as_complex(
        ops.contiguous(g)), tags=("extern",), dtypes="c", samples=lambda: [S(T((3, 4))), S(T(()))],
    write=lambda base, value: ops.view_as_complex(ops.contiguous(value)))


def _view_as_complex(xp: Any, x: Any) -> Any:
    _complex_meta_shape(x)
    kind = xp.complex64 if x.dtype.itemsize == 4 else xp.complex128
    if x.strides[-1] != x.itemsize or any(s % (2 * x.itemsize) for s in x.strides[:-1]):
        raise RuntimeError("Tensor must have a last dimension with stride 1")
    return x.view(kind)[..., 0]


def _complex_meta_shape(x: Any) -> tuple:
    if not x.ndim or x.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    return tuple(x.shape[:-1])


def _complex_meta(x: Any) -> TensorMeta:
    if x.dtype not in (_dtype.float32, _dtype.float64):
        raise RuntimeError(f"view_as_complex is only supported for half, float and double tensors, but got a tensor of "
                           f"scalar type: {x.dtype}")
    return TensorMeta(_complex_meta_shape(x), x.dtype.to_complex(), x.device)


view_as_complex = view(
    "view_as_complex(Tensor self) -> Tensor", kernel=_view_as_complex, infer=_complex_meta,
    vjp=lambda g, out, x: ops.view_as_real(g), tags=("extern",), dtypes="f",
    samples=lambda: [S(T((3, 2), dtype=_dtype.float64)), S(T((2, 3, 2), dtype=_dtype.float32))],
    write=lambda base, value: ops.view_as_real(value))


def _part_meta(x: Any) -> TensorMeta:
    return TensorMeta(tuple(x.shape), x.dtype.to_real(), x.device)


real = view("real(Tensor self) -> Tensor", kernel=lambda xp, x: x.real, infer=_part_meta, dtypes="fc",
            vjp=lambda g, out, x: ops.cast(g, x.dtype), lower=lambda index, x: index, tags=("complex_part",),
            samples=lambda: [S(T((3, 4)))], write=lambda base, value: ops.complex(value, ops.imag(base))
            if base.dtype.is_complex else value, api=("torch.real",))


def _imag(xp: Any, x: Any) -> Any:
    if x.dtype.kind != "c":
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return x.imag


imag = view("imag(Tensor self) -> Tensor", kernel=_imag, infer=_part_meta, dtypes="c", tags=("complex_part",),
            vjp=lambda g, out, x: ops.complex(ops.zeros_like(g), g), lower=lambda index, x: index,
            samples=lambda: [S(T((3, 4)))], write=lambda base, value: ops.complex(ops.real(base), value),
            api=("torch.imag",))

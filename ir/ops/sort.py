"""Order: sorting, selection, search, counting."""

from __future__ import annotations

from typing import Any

from .. import dtype as _dtype
from ..family import ops, primitive, reduced_shape, wrap_dim
from ..meta import TensorMeta, meta_of
from ..op import public, write_out
from ..samples import S, T
from ..usage import reads
from . import returns
from .reduce import place_rule
from .view import product

_I64 = _dtype.int64


def _pair(x: Any, shape: Any) -> tuple[TensorMeta, TensorMeta]:
    return TensorMeta(tuple(shape), x.dtype, x.device), TensorMeta(tuple(shape), _I64, x.device)


def _order(xp: Any, x: Any, at: int, descending: bool) -> Any:
    """Positions in stable order; NaN counts as the largest (NumPy knows no order of bfloat16's NaN)."""
    x = x.astype("f4") if x.dtype == _dtype.bfloat16.np else x
    if not descending:
        return xp.argsort(x, axis=at, kind="stable")
    turned = xp.flip(x, at)
    found = xp.flip(xp.argsort(turned, axis=at, kind="stable"), at)
    return x.shape[at] - 1 - found


def _scattered(g: Any, out: Any, x: Any, dim: int) -> Any:
    if not x.ndim:
        return g[0]
    zeros = ops.full(tuple(x.shape), 0, dtype=g[0].dtype, device=x.device)
    return ops.scatter_src(zeros, dim, out[1], g[0])


# ---- sort and top k -----------------------------------------------------------------------------------------------


def _sort(xp: Any, x: Any, dim: int, descending: bool, stable: bool) -> Any:
    at = wrap_dim(dim, x.ndim)
    if not x.ndim:
        return x.copy(), xp.zeros((), "i8")
    where = _order(xp, x, at, descending)
    return xp.take_along_axis(x, where, at), where


sort_ = primitive(
    "sort(Tensor self, int dim=-1, bool descending=False, bool stable=False) -> (Tensor, Tensor)", "sort", kernel=_sort, api=(),
    infer=lambda x, dim, descending, stable: (wrap_dim(dim, x.ndim), _pair(x, x.shape))[1],
    vjp=reads("out")(lambda g, out, x, dim, descending, stable: _scattered(g, out, x, dim)), tags=("extern", "check"),
        dtypes="buif",
    samples=lambda: [S(T((3, 4), distinct=True)), S(T((3, 4), distinct=True), 0),
        S(T((3, 4), distinct=True), -1, True), S(T(()))])


def _options(args: tuple, dim: Any, descending: bool, stable: Any) -> tuple:
    """PyTorch's two signatures: ``(dim, descending)`` by position, ``stable`` by name."""
    if args:
        dim = args[0]
        descending = args[1] if len(args) > 1 else descending
    return dim, descending, bool(stable)


@public("torch.sort", "Tensor.sort")
def sort(input: Any, *args: Any, dim: int = -1, descending: bool = False, stable: bool | None = None,
    out: Any = None) -> Any:  # noqa: A002
    """The elements along ``dim`` in order, and where they were."""
    found = returns.sort(*ops.sort(input, *_options(args, dim, descending, stable)))
    return found if out is None else returns.sort(*write_out(sort_, tuple(found), out))


@public("torch.argsort", "Tensor.argsort")
def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:  # noqa: A002
    """The positions that sort ``input`` along ``dim``."""
    return ops.sort(input, dim, descending, stable)[1]


@public("torch.msort", "Tensor.msort")
def msort(input: Any) -> Any:  # noqa: A002
    """``input`` sorted along its first dimension."""
    return ops.sort(input, 0)[0]


def _topk_meta(x: Any, k: Any, dim: int, largest: bool, is_sorted: bool) -> tuple[TensorMeta, TensorMeta]:
    at = wrap_dim(dim, x.ndim)
    if k < 0 or k > (x.shape[at] if x.ndim else 1):
        raise RuntimeError("selected index k out of range")
    return _pair(x, (*x.shape[:at], k, *x.shape[at + 1:]) if x.ndim else ())


def _topk(xp: Any, x: Any, k: int, dim: int, largest: bool, is_sorted: bool) -> Any:
    at = wrap_dim(dim, x.ndim)
    if not x.ndim:
        return x.copy(), xp.zeros((), "i8")
    where = xp.take(_order(xp, x, at, largest), xp.arange(k), axis=at)
    return xp.take_along_axis(x, where, at), where


topk_ = primitive(
    "topk(Tensor self, int k, int dim=-1, bool largest=True, bool sorted=True) -> (Tensor, Tensor)", "sort", kernel=_topk, api=(),
    infer=_topk_meta, vjp=reads("out")(lambda g, out, x, k, dim, largest, is_sorted: _scattered(g, out, x, dim)),
        tags=("extern", "check"),
    dtypes="uif", samples=lambda: [S(T((3, 5), distinct=True), 2), S(T((3, 5), distinct=True), 2, 0),
                                   S(T((3, 5), distinct=True), 3, -1, False)])


@public("torch.topk", "Tensor.topk")
def topk(input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True, *, out: Any = None) -> Any:  # noqa: A002
    """The ``k`` largest (or smallest) elements along ``dim``, and where they are."""
    found = returns.topk(*ops.topk(input, k, dim, largest, sorted))
    return found if out is None else returns.topk(*write_out(topk_, tuple(found), out))


# ---- one element in order -----------------------------------------------------------------------------------------


def _ranked(xp: Any, x: Any, at: int, rank: int, keepdim: bool) -> tuple:
    where = xp.take(_order(xp, x, at, False), xp.asarray([rank]), axis=at)
    values = xp.take_along_axis(x, where, at)
    return (values, where) if keepdim else (values.squeeze(at), where.squeeze(at))


def _kthvalue(xp: Any, x: Any, k: int, dim: int, keepdim: bool) -> Any:
    at = wrap_dim(dim, x.ndim)
    return _ranked(xp, x, at, k - 1, keepdim) if x.ndim else (x.copy(), xp.zeros((), "i8"))


def _kthvalue_meta(x: Any, k: Any, dim: int, keepdim: bool) -> tuple[TensorMeta, TensorMeta]:
    at = wrap_dim(dim, x.ndim)
    if not 1 <= k <= (x.shape[at] if x.ndim else 1):
        raise RuntimeError("kthvalue(): selected number k out of range for dimension " + str(at))
    return _pair(x, reduced_shape(x.shape, at, keepdim))


kthvalue_ = primitive(
    "kthvalue(Tensor self, int k, int dim=-1, bool keepdim=False) -> (Tensor, Tensor)", "sort", kernel=_kthvalue, api=(),
    infer=_kthvalue_meta, vjp=reads("out")(lambda g, out, x, k, dim, keepdim: place_rule(g, out, x, dim, keepdim)),
        tags=("extern", "check", "apart"),
    dtypes="uif", samples=lambda: [S(T((3, 5), distinct=True), 2), S(T((3, 5), distinct=True), 1, 0, True)])


@public("torch.kthvalue", "Tensor.kthvalue")
def kthvalue(input: Any, k: int, dim: int = -1, keepdim: bool = False, *, out: Any = None) -> Any:  # noqa: A002
    """The ``k``-th smallest element along ``dim``, and where it is."""
    found = returns.kthvalue(*ops.kthvalue(input, k, dim, keepdim))
    return found if out is None else returns.kthvalue(*write_out(kthvalue_, tuple(found), tuple(out), (input,)))


def _median(xp: Any, x: Any, dim: int, keepdim: bool) -> Any:
    if not x.ndim:
        return x.copy(), xp.zeros((), "i8")
    at = wrap_dim(dim, x.ndim)
    values, where = _ranked(xp, x, at, (x.shape[at] - 1) // 2, True)
    if x.dtype.kind not in "iub":
        missing = xp.isnan(x)
        some = missing.any(axis=at, keepdims=True)
        where = xp.where(some, xp.argmax(missing, axis=at, keepdims=True), where)
        values = xp.take_along_axis(x, where, at)
    return (values, where) if keepdim else (values.squeeze(at), where.squeeze(at))


def _median_meta(x: Any, dim: int, keepdim: bool) -> tuple[TensorMeta, TensorMeta]:
    at = wrap_dim(dim, x.ndim)
    if x.ndim and isinstance(x.shape[at], int) and not x.shape[at]:
        raise IndexError(f"median(): Expected reduction dim {at} to have non-zero size.")
    return _pair(x, reduced_shape(x.shape, at, keepdim))


median_ = primitive(
    "median(Tensor self, int dim, bool keepdim=False) -> (Tensor, Tensor)", "sort", kernel=_median, infer=_median_meta, api=(),
    vjp=place_rule, tags=("extern", "check"), dtypes="uif",
    samples=lambda: [S(T((3, 5), distinct=True), 1), S(T((4, 3), distinct=True), 0, True)])


@public("torch.median", "Tensor.median")
def median(input: Any, dim: int | None = None, keepdim: bool = False, *, out: Any = None) -> Any:  # noqa: A002
    """The (lower) median of all elements, or along ``dim`` with its position."""
    if out is not None:
        return returns.median(*write_out(median_, tuple(ops.median(input, dim, keepdim)), tuple(out)))
    if dim is None:
        if not input.numel():
            return ops.full((), float("nan"), dtype=input.dtype, device=input.device)
        return ops.median(ops.reshape(input, (-1,)), 0)[0]
    return returns.median(*ops.median(input, dim, keepdim))


def _mode(xp: Any, x: Any, dim: int, keepdim: bool) -> Any:
    if not x.ndim:
        return x.copy(), xp.zeros((), "i8")
    at = wrap_dim(dim, x.ndim)
    order = _order(xp, x, at, False)
    ranked = xp.moveaxis(xp.take_along_axis(x, order, at), at, -1)
    n = ranked.shape[-1]
    fresh = xp.concatenate([xp.ones((*ranked.shape[:-1], 1), bool), ranked[..., 1:] != ranked[..., :-1]], -1)
    start = xp.maximum.accumulate(xp.where(fresh, xp.arange(n), 0), -1)
    run = xp.arange(n) - start  # how many equal elements came before
    last = xp.argmax(run, -1)[..., None]
    where = xp.moveaxis(xp.take_along_axis(xp.moveaxis(order, at, -1), last, -1), -1, at)
    values = xp.take_along_axis(x, where, at)
    return (values, where) if keepdim else (values.squeeze(at), where.squeeze(at))


mode_ = primitive(
    "mode(Tensor self, int dim=-1, bool keepdim=False) -> (Tensor, Tensor)", "sort", kernel=_mode, infer=_median_meta, api=(),
    vjp=place_rule, tags=("extern", "check"), dtypes="uif",
    samples=lambda: [S(T((3, 5), -2, 3)), S(T((5, 3), -2, 3), 0, True)])


@public("torch.mode", "Tensor.mode")
def mode(input: Any, dim: int = -1, keepdim: bool = False, *, out: Any = None) -> Any:  # noqa: A002
    """The most frequent element along ``dim`` (the smallest of several), and where it is."""
    found = returns.mode(*ops.mode(input, dim, keepdim))
    return found if out is None else returns.mode(*write_out(mode_, tuple(found), tuple(out)))


# ---- search and counting ------------------------------------------------------------------------------------------


def _searchsorted(xp: Any, ranked: Any, values: Any, out_int32: bool, right: bool, side: Any) -> Any:
    how = side or ("right" if right else "left")
    kind = "i4" if out_int32 else "i8"
    if ranked.ndim == 1:
        return xp.asarray(xp.searchsorted(ranked, values, how), kind)
    if not values.size:
        return xp.empty(values.shape, kind)
    wanted = values.reshape(-1, values.shape[-1])
    rows = ranked.reshape(len(wanted), ranked.shape[-1])
    found = xp.stack([xp.searchsorted(r, v, how) for r, v in zip(rows, wanted)])
    return found.reshape(values.shape).astype(kind)


def _searchsorted_meta(ranked: Any, values: Any, out_int32: bool, right: bool, side: Any) -> TensorMeta:
    if ranked.ndim > 1 and tuple(ranked.shape[:-1]) != tuple(values.shape[:-1]):
        raise RuntimeError("torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions "
                           "of boundaries "
                           f"tensor and input value tensor must match, but we got boundaries tensor "
                           f"{list(ranked.shape)} and input "
                           f"value tensor {list(values.shape)}")
    if side is not None and right and side == "left":
        raise RuntimeError("torch.searchsorted(): side and right can't be set to opposites, got side of left while "
                           "right was True")
    return TensorMeta(tuple(values.shape), _dtype.int32 if out_int32 else _I64, values.device)


searchsorted_ = primitive(
    "searchsorted(Tensor sorted_sequence, Tensor values, *, bool out_int32=False, bool right=False, str? side=None) -> Tensor",
    "sort", kernel=_searchsorted, infer=_searchsorted_meta, tags=("extern", "check"), dtypes="uif", api=(),
    samples=lambda: [S(T((5,), values=[-2, -1, 0, 1, 2], grad=False), T((3, 4), -3, 3, grad=False)),
                     S(T((5,), values=[-2, -1, 0, 1, 2], grad=False), T((3, 4), -3, 3, grad=False), right=True)])


@public("torch.searchsorted")
def searchsorted(sorted_sequence: Any, input: Any, *, out_int32: bool = False, right: bool = False,
    side: str | None = None,  # noqa: A002
                 sorter: Any = None, out: Any = None) -> Any:
    """Where ``input``'s elements would have to be put into the ordered ``sorted_sequence``."""
    if not hasattr(input, "dtype"):
        input = ops.full((), input, dtype=sorted_sequence.dtype, device=sorted_sequence.device)  # noqa: A001
    if sorter is not None:
        sorted_sequence = ops.gather(sorted_sequence, -1, sorter)
    found = ops.searchsorted(sorted_sequence, input, out_int32=out_int32, right=right, side=side)
    return found if out is None else write_out(searchsorted_, found, out)


@public("torch.bucketize")
def bucketize(input: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False, out: Any = None) -> Any:  # noqa: A002
    """The number of the bucket between ordered ``boundaries`` that each element falls into."""
    if boundaries.ndim != 1:
        raise RuntimeError(f"boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})")
    return searchsorted(boundaries, input, out_int32=out_int32, right=right, out=out)


def _bincount(xp: Any, x: Any, weights: Any, minlength: int) -> Any:
    if x.ndim != 1 or x.dtype.kind not in "iu" or (x.size and int(x.min()) < 0):
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if weights is not None and weights.shape != x.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    found = xp.bincount(x, weights, minlength)
    return found if weights is None else found.astype("f4" if weights.dtype == "f4" else "f8")


bincount = primitive(
    "bincount(Tensor self, Tensor? weights=None, int minlength=0) -> Tensor", "sort", kernel=_bincount, infer=None, dtypes="ui",
    tags=("extern", "data_shape", "raises"), samples=lambda: [S(T((6,), 0, 5)), S(T((6,), 0, 5), None, 9)],
    data_shape=lambda size, x, weights, minlength: TensorMeta((size(),), _dtype.int64 if weights is None else (
        _dtype.float32 if weights.dtype is _dtype.float32 else _dtype.float64), x.device))


def _histc(xp: Any, x: Any, bins: int, low: float, high: float) -> Any:
    if low > high:
        raise RuntimeError("max must be larger than min")
    if low == high:
        low, high = (float(x.min()), float(x.max())) if x.size else (0.0, 1.0)
    if low == high:
        low, high = low - 1, high + 1
    return xp.histogram(x.astype("f8"), bins, (low, high))[0].astype(x.dtype)


histc = primitive(
    "histc(Tensor self, int bins=100, float min=0, float max=0) -> Tensor", "sort", kernel=_histc,
    tags=("extern", "out", "raises"),
    infer=lambda x, bins, low, high: meta_of(x).with_shape((bins,)),
    samples=lambda: [S(T((10,), grad=False), 5), S(T((10,), grad=False), 4, -1.0, 1.0)])

# ---- distinct elements ---------------------------------------------------------------------------------------------


def _unique(xp: Any, x: Any, dim: int | None) -> tuple:
    if dim is None:
        values, inverse, counts = xp.unique(x, return_inverse=True, return_counts=True, equal_nan=False)
        return values, inverse.reshape(x.shape), counts
    at = wrap_dim(dim, x.ndim)
    values, inverse, counts = xp.unique(x, return_inverse=True, return_counts=True, axis=at)
    return values, inverse.reshape(-1), counts


def _distinct_shapes(size: Any, x: Any, dim: int | None) -> tuple:
    """The metas of the distinct elements or slices, of which one each is, and of their counts."""
    n = size()
    where = None if dim is None else wrap_dim(dim, x.ndim)
    values = (n,) if where is None else (*x.shape[:where], n, *x.shape[where + 1:])
    inverse = tuple(x.shape) if where is None else (x.shape[where],)
    return meta_of(x).with_shape(values), TensorMeta(inverse, _dtype.int64, x.device), TensorMeta((n,), _dtype.int64, x.device)


unique_ = primitive(
    "unique(Tensor self, int? dim=None) -> (Tensor, Tensor, Tensor)", "sort", kernel=_unique, infer=None, api=(),
    tags=("extern", "data_shape"), dtypes="buif", data_shape=_distinct_shapes, samples=lambda: [S(T((3, 4), -2, 3, grad=False)),
        S(T((4, 2), -1, 2, grad=False), 0)])


def _chosen(found: tuple[Any, Any, Any], return_inverse: bool, return_counts: bool) -> Any:
    values, inverse, counts = found
    chosen = (values, *((inverse,) if return_inverse else ()), *((counts,) if return_counts else ()))
    return chosen if len(chosen) > 1 else values


@public("torch.unique", "Tensor.unique")
def unique(input: Any, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,  # noqa: A002
           dim: int | None = None) -> Any:
    """The distinct elements (or slices along ``dim``) in order, which one each element is, and how often each occurs."""
    return _chosen(ops.unique(input, dim), return_inverse, return_counts)


def _unique_consecutive(xp: Any, x: Any, dim: int | None) -> tuple:
    rows = x.reshape(-1) if dim is None else xp.moveaxis(x, wrap_dim(dim, x.ndim), 0)
    if not len(rows):
        return x.reshape(-1) if dim is None else x.copy(), xp.zeros(x.shape if dim is None else 0, "i8"), xp.zeros(0, "i8")
    changed = (rows[1:] != rows[:-1]).reshape(len(rows) - 1, product(rows.shape[1:])).any(-1)
    fresh = xp.concatenate([xp.ones(1, bool), changed])
    inverse = xp.cumsum(fresh) - 1
    counts = xp.diff(xp.append(xp.flatnonzero(fresh), len(rows)))
    values = rows[fresh] if dim is None else xp.moveaxis(rows[fresh], 0, wrap_dim(dim, x.ndim))
    return values, inverse.reshape(x.shape) if dim is None else inverse, counts


unique_consecutive_ = primitive(
    "unique_consecutive(Tensor self, int? dim=None) -> (Tensor, Tensor, Tensor)", "sort", kernel=_unique_consecutive, infer=None,
    api=(), tags=("extern", "data_shape"), dtypes="buif", data_shape=_distinct_shapes,
    samples=lambda: [S(T((12,), -1, 2, grad=False))])


@public("torch.unique_consecutive", "Tensor.unique_consecutive")
def unique_consecutive(input: Any, return_inverse: bool = False, return_counts: bool = False,
    dim: int | None = None) -> Any:  # noqa: A002
    """The elements without those that repeat their predecessor."""
    return _chosen(ops.unique_consecutive(input, dim), return_inverse, return_counts)


@public("torch.isin")
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Any:
    """Which elements occur among ``test_elements``."""
    if not hasattr(elements, "dtype"):
        elements = ops.full((), elements, dtype=test_elements.dtype, device=test_elements.device)
    if not hasattr(test_elements, "dtype"):
        test_elements = ops.full((1,), test_elements, dtype=elements.dtype, device=elements.device)
    found = ops.any(ops.eq(ops.unsqueeze(elements, -1), ops.reshape(test_elements, (-1,))), -1)
    return ops.logical_not(found) if invert else found

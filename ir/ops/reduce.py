"""Reductions: elements combined along dimensions."""

from __future__ import annotations

from typing import Any

from .. import dtype as _dtype
from ..family import composite, conj_of, ops, primitive, reduced_shape, reduction, wrap_dim, wrap_dims
from ..meta import TensorMeta
from ..op import public, type_name
from ..samples import S, T
from .view import product


def axes(dim: Any, ndim: int) -> Any:
    """``dim`` as NumPy's ``axis``."""
    return None if dim is None or dim == () or dim == [] else wrap_dims(dim, ndim)


def restore_dims(g: Any, shape: Any, dim: Any, keepdim: bool) -> Any:
    """``g`` with the dimensions that a reduction of a tensor of ``shape`` removed put back with size 1."""
    return g if keepdim else ops.view(g, reduced_shape(shape, dim, True))


def count_of(shape: Any, dim: Any) -> Any:
    """How many elements each result of a reduction combines."""
    return product([shape[d] for d in wrap_dims(dim, len(shape))])


# ---- sums ---------------------------------------------------------------------------

sum_ = reduction(
    "sum(Tensor self, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None) -> Tensor",
    kernel=lambda xp, x, dim, keepdim, dtype: x.sum(axis=axes(dim, x.ndim), keepdims=keepdim),
    reduce="sum", promote="sum", dtypes="buifc",
    vjp=lambda g, out, x, dim, keepdim, dtype: ops.expand(restore_dims(g, x.shape, dim, keepdim), tuple(x.shape)),
    tags=("amp:float32@cuda",),
    samples=lambda: [S(T((3, 4))), S(T((3, 4, 2)), 1), S(T((3, 4, 2)), (0, -1), True), S(T(())), S(T((2, 0)), 1)])


def _sum_to_size(xp: Any, x: Any, size: Any) -> Any:
    lead = x.ndim - len(size)
    axis = tuple(range(lead)) + tuple(i for i in range(lead, x.ndim) if size[i - lead] == 1 and x.shape[i] != 1)
    return x.sum(axis, keepdims=True).reshape(size) if axis else x.reshape(size)


def _sum_to_size_parts(x: Any, size: Any) -> Any:
    lead = x.ndim - len(size)
    kept = tuple(i for i in range(lead, x.ndim) if size[i - lead] == 1 and x.shape[i] != 1)
    if kept:
        x = ops.sum(x, kept, True, dtype=x.dtype)
    return ops.sum(x, tuple(range(lead)), dtype=x.dtype) if lead else x


def _sum_to_size_meta(x: Any, size: Any) -> TensorMeta:
    lead = x.ndim - len(size)
    if lead < 0 or any(n != have and n != 1 for n, have in zip(size, x.shape[lead:])):
        raise RuntimeError(f"size {{{list(size)}}} is not expandable to size {{{list(x.shape)}}}.")
    return TensorMeta(tuple(size), x.dtype, x.device)


sum_to_size = primitive(
    "sum_to_size(Tensor self, int[] size) -> Tensor", "composite", promote="keep", kernel=_sum_to_size, api=(),
    infer=_sum_to_size_meta, decompose=_sum_to_size_parts,
    vjp=lambda g, out, x, size: ops.expand(g, tuple(x.shape)), dtypes="fc",
    samples=lambda: [S(T((3, 4)), (1, 4)), S(T((2, 3, 4)), (3, 1)), S(T((3, 4)), (3, 4))])


@public("Tensor.sum_to_size")
def _sum_to_size_method(self: Any, *size: Any) -> Any:
    shape = tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
    if self.dtype.is_integral and (not shape or shape != tuple(self.shape)):
        self = ops.cast(self, _dtype.int64)  # as every sum of integers
    return ops.sum_to_size(self, shape)


nansum = composite(
    "nansum(Tensor self, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None) -> Tensor",
    lambda x, dim, keepdim, dtype: ops.sum(x if x.dtype.is_integral else ops.where(ops.isnan(x), 0, x), dim, keepdim,
        dtype=dtype),
    dtypes="buif", tags=("out",), samples=lambda: [S(T((3, 4))), S(T((2, 2), dtype=_dtype.float32, grad=False,
                                                                 values=[[1.0, float("nan")], [2.0, 3.0]]), 1)])


def _check_mean(x: Any, dtype: Any, name: str = "mean") -> None:
    if (x.dtype if dtype is None else dtype).is_integral:
        raise RuntimeError(f"{name}(): could not infer output dtype. Input dtype must be either a floating point or complex "
                           f"dtype. Got: {type_name(x.dtype if dtype is None else dtype)}")


def _mean_parts(x: Any, dim: Any, keepdim: bool, dtype: Any) -> Any:
    _check_mean(x, dtype)
    return ops.sum(x, dim, keepdim, dtype=dtype) / count_of(x.shape, dim)


def _mean(xp: Any, x: Any, dim: Any, keepdim: bool, dtype: Any) -> Any:
    if x.dtype.kind not in "fc":
        raise TypeError("integer mean")
    axis = axes(dim, x.ndim)
    total = x.sum(axis, keepdims=keepdim)
    return total / x.dtype.type(x.size if axis is None else product([x.shape[d] for d in axis]))


mean = composite(
    "mean(Tensor self, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None) -> Tensor", _mean_parts, kernel=_mean,
    promote="mean", dtypes="fc", tags=("out",),
    vjp=lambda g, out, x, dim, keepdim, dtype: ops.expand(restore_dims(g, x.shape, dim, keepdim) / count_of(x.shape,
        dim), tuple(x.shape)),
    samples=lambda: [S(T((3, 4))), S(T((3, 4, 2)), 1), S(T((3, 4, 2)), (0, -1), True), S(T(()))])


@public("torch.nanmean", "Tensor.nanmean")
def nanmean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:  # noqa: A002
    """The mean of the elements that are not NaN."""
    return ops.nansum(input, dim, keepdim, dtype=dtype) / ops.sum(ops.logical_not(ops.isnan(input)), dim, keepdim)


def _prod_rule(g: Any, out: Any, x: Any, dim: Any, keepdim: bool, dtype: Any) -> Any:
    zero = ops.eq(x, 0)
    g, out = restore_dims(g, x.shape, dim, keepdim), restore_dims(out, x.shape, dim, keepdim)
    filled = ops.where(zero, 1, x)
    others = ops.prod(filled, dim, True)
    zeros = ops.sum(zero, dim, True)
    alone = ops.where(zero & ops.eq(zeros, 1), others, 0)
    return g * conj_of(ops.where(ops.eq(zeros, 0), out / filled, alone))


prod_ = reduction(
    "prod(Tensor self, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None) -> Tensor", reduce="prod", promote="sum",
    kernel=lambda xp, x, dim, keepdim, dtype: xp.prod(x, axis=axes(dim, x.ndim), keepdims=keepdim), dtypes="buifc",
    vjp=_prod_rule, tags=("amp:float32",),
    samples=lambda: [S(T((3, 4), 0.5, 2)), S(T((3, 4)), 1), S(T((3, 2)), 0, True), S(T(()))])

# ---- truth ---------------------------------------------------------------------------


def _truth(name: str) -> Any:
    def kernel(xp: Any, x: Any, dim: Any, keepdim: bool) -> Any:
        return getattr(xp, name)(x, axis=axes(dim, x.ndim), keepdims=keepdim)
    return reduction(f"{name}(Tensor self, int[]? dim=None, bool keepdim=False) -> Tensor", kernel=kernel, reduce=name,
                     promote="truth", dtypes="buifc",
                     samples=lambda: [S(T((3, 4), -1, 2)), S(T((3, 4), -1, 2), 1), S(T((3, 4), -1, 2), (0, 1), True)])


any_ = _truth("any")
all_ = _truth("all")

count_nonzero = composite(
    "count_nonzero(Tensor self, int[]? dim=None) -> Tensor", lambda x, dim: ops.sum(ops.ne(x, 0), dim), dtypes="buifc",
    samples=lambda: [S(T((3, 4), -1, 2)), S(T((3, 4), -1, 2), 1)], tags=("nograd",))

# ---- extremes ---------------------------------------------------------------------------


def _spread_evenly(g: Any, out: Any, x: Any, dim: Any, keepdim: bool) -> Any:
    chosen = ops.eq(x, restore_dims(out, x.shape, dim, keepdim))
    chosen = ops.cast(chosen, g.dtype)
    return restore_dims(g, x.shape, dim, keepdim) * (chosen / ops.sum(chosen, dim, True))


def _check_nonempty(name: str, x: Any, dim: Any) -> None:
    for d in wrap_dims(dim, len(x.shape)):
        if isinstance(x.shape[d], int) and x.shape[d] == 0:
            if dim is None or dim == ():
                kind = IndexError if name.startswith("arg") else RuntimeError
                raise kind(f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the "
                                   "reduction dim with the 'dim' argument.")
            raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")


def _refusing_nothing(op: Any) -> Any:
    """``op``, whose shape rule raises where there is nothing to choose from."""
    shape_rule = op.infer

    def infer(x: Any, dim: Any, keepdim: bool) -> TensorMeta:
        _check_nonempty(op.name, x, dim)
        return shape_rule(x, dim, keepdim)

    op.infer = infer
    return op


def top(x: Any, dim: Any) -> Any:
    """The largest elements along ``dim``, which is kept: what exponentials are shifted by. 0 where there are no elements."""
    if any(isinstance(x.shape[d], int) and x.shape[d] == 0 for d in wrap_dims(dim, x.ndim)):
        return ops.full(reduced_shape(x.shape, dim, True), 0, dtype=x.dtype, device=x.device)
    return ops.amax(x, dim, True)


def _extreme(name: str, kind: str) -> Any:
    def kernel(xp: Any, x: Any, dim: Any, keepdim: bool) -> Any:
        _check_nonempty(name, x, dim)
        return getattr(xp, kind)(x, axis=axes(dim, x.ndim), keepdims=keepdim)
    return _refusing_nothing(reduction(
        f"{name}(Tensor self, int[]? dim=None, bool keepdim=False) -> Tensor", kernel=kernel, reduce=kind,
        vjp=_spread_evenly, dtypes="buif", refuses="c",
        samples=lambda: [S(T((3, 4), distinct=True)), S(T((3, 4), distinct=True), 1),
                         S(T((3, 4, 2), distinct=True), (0, -1), True), S(T(()))]))


amax = _extreme("amax", "max")
amin = _extreme("amin", "min")


def _position(name: str) -> Any:
    def kernel(xp: Any, x: Any, dim: Any, keepdim: bool) -> Any:
        _check_nonempty(name, x, dim)
        if dim is None:
            found = getattr(xp, name)(x)
            return xp.reshape(found, (1,) * x.ndim) if keepdim else found
        return getattr(xp, name)(x, axis=wrap_dim(dim, x.ndim), keepdims=keepdim) if x.ndim else xp.zeros((), "i8")
    return _refusing_nothing(reduction(
        f"{name}(Tensor self, int? dim=None, bool keepdim=False) -> Tensor", kernel=kernel, reduce=name,
        promote="index", dtypes="uif", refuses="bc",
        samples=lambda: [S(T((3, 4), distinct=True)), S(T((3, 4), distinct=True), 1), S(T((3, 4), distinct=True), 0, True)]))


argmax = _position("argmax")
argmin = _position("argmin")


def _along_meta(x: Any, dim: int, keepdim: bool) -> tuple[TensorMeta, TensorMeta]:
    shape = reduced_shape(x.shape, dim, keepdim)
    return TensorMeta(shape, x.dtype, x.device), TensorMeta(shape, _dtype.int64, x.device)


def place_rule(g: Any, out: Any, x: Any, dim: int, keepdim: bool) -> Any:
    """The gradient of values picked at ``out[1]`` along ``dim``."""
    if not x.ndim:
        return g[0]
    at = wrap_dim(dim, x.ndim)
    values, where = (g[0], out[1]) if keepdim else (ops.unsqueeze(g[0], at), ops.unsqueeze(out[1], at))
    return ops.place(values, where, at, x.shape[at])


def _extreme_along(name: str, value: str, position: str) -> Any:
    def kernel(xp: Any, x: Any, dim: int, keepdim: bool) -> Any:
        if not x.ndim:
            wrap_dim(dim, 0)
            return x.copy(), xp.zeros((), "i8")
        at = wrap_dim(dim, x.ndim)
        _check_nonempty(name.split("_")[0], x, at)
        where = getattr(x, position)(at, keepdims=True)
        if x.ndim == 2:  # (take_along_axis alone takes several microseconds)
            rows = xp.arange(x.shape[1 - at])
            found = x[rows, where[:, 0]][:, None] if at else x[where[0], rows][None]
        else:
            found = xp.take_along_axis(x, where, at)
        return (found, where) if keepdim else (found.squeeze(at), where.squeeze(at))

    def parts(x: Any, dim: int, keepdim: bool) -> Any:
        return getattr(ops, value)(x, dim, keepdim), getattr(ops, position)(x, dim, keepdim)

    return primitive(f"{name}(Tensor self, int dim, bool keepdim=False) -> (Tensor, Tensor)", "composite", kernel=kernel,
                     infer=_along_meta, decompose=parts, vjp=place_rule, dtypes="uif", api=(),
                     samples=lambda: [S(T((3, 4), distinct=True), 1), S(T((3, 4), distinct=True), 0, True),
                                      S(T((2, 3, 4), distinct=True), -2)])


max_dim = _extreme_along("max_dim", "amax", "argmax")
min_dim = _extreme_along("min_dim", "amin", "argmin")

place = primitive(
    "place(Tensor self, Tensor index, int dim, int size) -> Tensor", "index", tags=("raises",), api=(), dtypes="f",
    kernel=lambda xp, x, index, dim, size: _place(xp, x, index, dim, size),
    infer=lambda x, index, dim, size: TensorMeta((*x.shape[:dim], size, *x.shape[dim + 1:]), x.dtype, x.device),
    vjp=lambda g, out, x, index, dim, size: ops.gather(g, dim, index),
    lower=lambda at, x, index, dim, size: _place_element(at, x, index, dim),
    samples=lambda: [S(T((3, 1)), T((3, 1), 0, 4, dtype=_dtype.int64, grad=False), 1, 4),
                     S(T((1, 3)), T((1, 3), 0, 5, dtype=_dtype.int64, grad=False), 0, 5)],
    doc="Zeros of ``size`` along ``dim`` but for the one element that ``index`` (of size 1 there) names.")


def _place(xp: Any, x: Any, index: Any, dim: int, size: int) -> Any:
    out = xp.zeros((*x.shape[:dim], size, *x.shape[dim + 1:]), x.dtype)
    xp.put_along_axis(out, index, x, dim)
    return out


def _place_element(at: Any, x: Any, index: Any, dim: int) -> Any:
    from .. import loops  # noqa: PLC0415
    source = (*at[:dim], 0, *at[dim + 1:])
    here = loops.call("eq", index.at(source), loops.index_value(at[dim], index.dtype), dtype=_dtype.bool_)
    return loops.select(here, x.at(source), loops.const(0, x.dtype))


aminmax = composite(
    "aminmax(Tensor self, *, int? dim=None, bool keepdim=False) -> (Tensor, Tensor)",
    lambda x, dim, keepdim: (ops.amin(x, dim, keepdim), ops.amax(x, dim, keepdim)), dtypes="uif", api=(),
    samples=lambda: [S(T((3, 4), distinct=True)), S(T((3, 4), distinct=True), dim=1, keepdim=True)])

# ---- spread ---------------------------------------------------------------------------


def _var_parts(x: Any, dim: Any, keepdim: bool, correction: Any) -> Any:
    _check_mean(x, None, "var")
    deviation = x - ops.mean(x, dim, True)
    squares = ops.abs(deviation) * ops.abs(deviation) if x.dtype.is_complex else deviation * deviation
    return ops.sum(squares, dim, keepdim) / _freedom(x.shape, dim, correction)


def _freedom(shape: Any, dim: Any, correction: Any) -> Any:
    n = count_of(shape, dim) - correction
    return (0.0 if n < 0 else n) if isinstance(n, (int, float)) else n


def _divisor(shape: Any, dim: Any, correction: Any) -> float:
    n = _freedom(shape, dim, correction)
    return n if not isinstance(n, (int, float)) or n else float("nan")


def _var(xp: Any, x: Any, dim: Any, keepdim: bool, correction: Any) -> Any:
    if x.dtype.kind not in "fc":
        raise TypeError("integer variance")
    axis = axes(dim, x.ndim)
    count = x.size if axis is None else product([x.shape[d] for d in axis])
    deviation = x - x.sum(axis, keepdims=True) / x.dtype.type(count)
    squares = xp.sum(deviation * deviation.conj(), axis=axis, keepdims=keepdim)
    return squares.real / squares.real.dtype.type(max(count - correction, 0))


var_ = composite(
    "var(Tensor self, int[]? dim=None, bool keepdim=False, *, Number correction=1) -> Tensor", _var_parts, kernel=_var,
    promote="real", dtypes="fc", api=(), samples=lambda: [
        S(T((3, 4))), S(T((3, 4, 2)), 1), S(T((3, 4, 2)), (0, -1), True, correction=0), S(T((3, 4)), 0, correction=2)],
    vjp=lambda g, out, x, dim, keepdim, correction: restore_dims(g, x.shape, dim, keepdim) * (
        (x - ops.mean(x, dim, True)) * 2 / _divisor(x.shape, dim, correction)))

std_ = composite(
    "std(Tensor self, int[]? dim=None, bool keepdim=False, *, Number correction=1) -> Tensor",
    lambda x, dim, keepdim, correction: ops.sqrt(ops.var(x, dim, keepdim, correction=correction)),
    kernel=lambda xp, x, dim, keepdim, correction: xp.sqrt(_var(xp, x, dim, keepdim, correction)), promote="real", dtypes="fc",
    api=(), samples=lambda: [S(T((3, 4))), S(T((3, 4, 2)), 1), S(T((3, 4, 2)), (0, -1), True, correction=0)],
    vjp=lambda g, out, x, dim, keepdim, correction: restore_dims(
        ops.where(ops.eq(out, 0), 0, g / out), x.shape, dim, keepdim) * (x - ops.mean(x, dim, True)) / _divisor(
            x.shape, dim, correction))

# ---- norms and exponentials ---------------------------------------------------------------------------


def _norm_parts(x: Any, ord: float, dim: Any, keepdim: bool, dtype: Any) -> Any:  # noqa: A002 - PyTorch's name
    if dtype is not None:
        x = ops.cast(x, dtype)
    if x.dtype.is_integral:
        raise RuntimeError(f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {type_name(x.dtype)}")
    size = ops.abs(x) if x.dtype.is_complex or ord != 2 else x
    if ord == 2:
        return ops.sqrt(ops.sum(size * size, dim, keepdim))
    if ord == 1:
        return ops.sum(size, dim, keepdim)
    if ord == float("inf"):
        return ops.amax(size, dim, keepdim)
    if ord == float("-inf"):
        return ops.amin(size, dim, keepdim)
    if ord == 0:
        return ops.sum(ops.cast(ops.ne(size, 0), size.dtype), dim, keepdim)
    return ops.pow(ops.sum(ops.pow(size, ord), dim, keepdim), 1 / ord)


def _norm_rule(g: Any, out: Any, x: Any, ord: float, dim: Any, keepdim: bool, dtype: Any) -> Any:  # noqa: A002
    g, out = restore_dims(g, x.shape, dim, keepdim), restore_dims(out, x.shape, dim, keepdim)
    zero = ops.eq(out, 0)
    out = ops.where(zero, 1, out)  # what is masked below is divided too, and its derivative must not be NaN
    if ord == 2:
        return x * ops.where(zero, 0, g / out)
    if ord == 1:
        return ops.sgn(x) * g
    if ord == 0:
        return ops.zeros_like(x)
    size = ops.abs(x)
    if ord in (float("inf"), float("-inf")):
        chosen = ops.cast(ops.eq(size, ops.where(zero, 0, out)), size.dtype)
        return ops.sgn(x) * (g * chosen / ops.sum(chosen, dim, True))
    scale = ops.where(zero, 0, g / ops.pow(out, ord - 1))
    return ops.sgn(x) * ops.where(ops.eq(size, 0), 0, ops.pow(size, ord - 1)) * scale


vector_norm = composite(
    "vector_norm(Tensor self, float ord=2, int[]? dim=None, bool keepdim=False, *, dtype? dtype=None) -> Tensor",
    _norm_parts, vjp=_norm_rule, dtypes="fc", api=("linalg.vector_norm",), tags=("amp:float32@cuda", "out"), samples=lambda: [
        S(T((3, 4))), S(T((3, 4)), 1.0, 1), S(T((3, 4)), 3.0, 0, True), S(T((3, 4), 0.5, 2, distinct=True), float("inf"), 1),
        S(T((3, 4)), 0.5), S(T((3, 4)), 2.0, (0, 1))])

_LSE_SAMPLES = [S(T((3, 4)), 1), S(T((3, 4)), (0, 1)), S(T((3, 4)), 0, True), S(T((5,)), -1)]


def _logsumexp_parts(x: Any, dim: Any, keepdim: bool) -> Any:
    if x.dtype.is_integral:
        x = ops.cast(x, _dtype.get_default_dtype())
    high = top(ops.real(x) if x.dtype.is_complex else x, dim)
    high = ops.where(ops.isinf(high), 0, high)
    total = ops.log(ops.sum(ops.exp(x - high), dim, keepdim))
    return total + (high if keepdim else ops.view(high, tuple(total.shape)))


def _logsumexp(xp: Any, x: Any, dim: Any, keepdim: bool) -> Any:
    axis = axes(dim, x.ndim)
    high = xp.max(x.real if x.dtype.kind == "c" else x, axis=axis, keepdims=True, initial=-xp.inf)
    high = xp.where(xp.isinf(high), 0, high)
    total = xp.log(xp.sum(xp.exp(x - high), axis=axis, keepdims=True)) + high
    return total if keepdim else xp.squeeze(total, axis)


logsumexp = composite(
    "logsumexp(Tensor self, int[] dim, bool keepdim=False) -> Tensor", _logsumexp_parts, kernel=_logsumexp, promote="float",
    tags=("amp:float32@cuda", "out"), samples=lambda: _LSE_SAMPLES, vjp=lambda g, out, x, dim, keepdim: restore_dims(
        g, x.shape, dim, keepdim) * conj_of(ops.exp(x - restore_dims(out, x.shape, dim, keepdim))))


def _softmax_parts(x: Any, dim: int, dtype: Any) -> Any:
    x = _softmax_input("softmax", x, dtype)
    e = ops.exp(x - top(x, dim))
    return e / ops.sum(e, dim, True)


def _softmax_input(name: str, x: Any, dtype: Any) -> Any:
    if dtype is not None:
        return ops.cast(x, dtype)
    if x.dtype.is_integral:
        raise NotImplementedError(f'"{name}_lastdim_kernel_impl" not implemented for \'{type_name(x.dtype)}\'')
    return x


def _softmax(xp: Any, x: Any, dim: int, dtype: Any) -> Any:
    at = wrap_dim(dim, x.ndim)
    if not x.size or not x.ndim:
        return xp.ones_like(x) + (x - x)
    e = x - x.max(at, keepdims=True)
    xp.exp(e, out=e)
    e /= e.sum(at, keepdims=True)
    return e


softmax = composite(
    "softmax(Tensor self, int dim, dtype? dtype=None) -> Tensor", _softmax_parts, kernel=_softmax, promote="mean",
    collapse="rows", refuses="buic", tags=("amp:float32@cuda", "out"),
    vjp=lambda g, out, x, dim, dtype: _softmax_rule(g, out, dim),
    samples=lambda: [S(T((3, 4)), 1), S(T((3, 4)), 0), S(T((2, 3, 4)), -2), S(T((0, 4)), 1), S(T(()), 0)])


def _softmax_rule(g: Any, out: Any, dim: int) -> Any:
    weighted = g * out
    return weighted - out * ops.sum(weighted, dim, True)


def _log_softmax_parts(x: Any, dim: int, dtype: Any) -> Any:
    x = _softmax_input("log_softmax", x, dtype)
    shifted = x - top(x, dim)
    return shifted - ops.log(ops.sum(ops.exp(shifted), dim, True))


def _log_softmax(xp: Any, x: Any, dim: int, dtype: Any) -> Any:
    at = wrap_dim(dim, x.ndim)
    if not x.size or not x.ndim:
        return x - x
    shifted = x - x.max(at, keepdims=True)
    shifted -= xp.log(xp.exp(shifted).sum(at, keepdims=True))
    return shifted


log_softmax = composite(
    "log_softmax(Tensor self, int dim, dtype? dtype=None) -> Tensor", _log_softmax_parts, kernel=_log_softmax, promote="mean",
    collapse="rows", refuses="buic",
    tags=("amp:float32@cuda", "out"), vjp=lambda g, out, x, dim, dtype: g - ops.exp(out) * ops.sum(g, dim, True),
    samples=lambda: [S(T((3, 4)), 1), S(T((3, 4)), 0), S(T((2, 3, 4)), -2), S(T(()), 0)])

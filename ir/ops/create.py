"""Tensors from nothing: filled, counted, converted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import dtype as _dtype
from .. import late
from ..device import as_device
from ..family import composite, ops, pointwise, primitive
from ..meta import TensorMeta, meta_of
from ..op import Scalar, type_name
from ..samples import S, T
from ..usage import reads

if TYPE_CHECKING:
    from .. import loops
else:
    loops = late.Later("loops")


def _full_dtype(value: Any, dtype: Any) -> _dtype.DType:
    if dtype is not None and isinstance(value, complex) and not dtype.is_complex:
        raise RuntimeError(f"value cannot be converted to type {type_name(dtype)} without overflow")
    return dtype if dtype is not None else _dtype.of_number(value)


def number_in(value: Any, dtype: _dtype.DType) -> Any:
    """A number as an element of an integral ``dtype``: what is negative wraps in an unsigned one, nothing else may."""
    if type(value) is not int or dtype.kind not in "iu":
        return value
    info = np.iinfo(dtype.np)
    if not (-info.max if dtype.kind == "u" else info.min) <= value <= info.max:
        raise RuntimeError(f"value cannot be converted to type {dtype.short} without overflow: {value} is not in "
                           f"{info.min} to {info.max}")
    return value % (info.max + 1) if dtype.kind == "u" else value


def _check_size(size: Any) -> tuple:
    if any(n < 0 for n in size):
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(size)}: {list(size)}")
    return tuple(size)


full = primitive(
    "full(int[] size, Number fill_value, *, dtype? dtype=None, device? device=None) -> Tensor", "create",
    kernel=lambda xp, size, value, dtype, device: xp.full(
        _check_size(size), number_in(value, _full_dtype(value, dtype)), _full_dtype(value, dtype).np),
    infer=lambda size, value, dtype, device: TensorMeta(_check_size(size), _full_dtype(value, dtype), as_device(device)),
    lower=lambda index, size, value, dtype, device: loops.const(
        number_in(value, _full_dtype(value, dtype)), _full_dtype(value, dtype)),
    api=(), samples=lambda: [S((2, 3), 1.5), S((), 2), S((4,), True)])

empty = primitive(
    "empty(int[] size, *, dtype? dtype=None, device? device=None) -> Tensor", "create", tags=("undefined",),
    kernel=lambda xp, size, dtype, device: xp.empty(_check_size(size), (dtype or _dtype.get_default_dtype()).np),
    infer=lambda size, dtype, device: TensorMeta(_check_size(size), dtype or _dtype.get_default_dtype(), as_device(device)),
    lower=lambda index, size, dtype, device: loops.const(0, dtype or _dtype.get_default_dtype()), api=(),
    samples=lambda: [S((2, 3))])


def _arange_dtype(start: Any, end: Any, step: Any, dtype: Any) -> _dtype.DType:
    if dtype is not None:
        return dtype
    return _dtype.get_default_dtype() if any(isinstance(v, float) for v in (start, end, step)) else _dtype.int64


def _arange_length(start: Any, end: Any, step: Any, dtype: Any = None) -> Any:
    if dtype is _dtype.int64 and any(isinstance(v, float) for v in (start, end, step)) and not any(
            math.isinf(v) or math.isnan(v) for v in (start, end, step)):
        start, end, step = int(start), int(end), int(step)
        if step == 0:
            raise ValueError("step must be nonzero")
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (step > 0 and start > end) or (step < 0 and start < end):
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    if any(isinstance(v, float) for v in (start, end, step)):
        if any(math.isinf(v) or math.isnan(v) for v in (start, end)):
            raise RuntimeError(f"unsupported range: {start} -> {end}")
        return math.ceil((end - start) / step)
    return (end - start + step - (1 if step > 0 else -1)) // step


def _counts_in_ints(kind: _dtype.DType, start: Any, step: Any) -> bool:
    """Whether start and step are made integers before the numbers are counted; a step below one would be lost."""
    floats = [v for v in (start, step) if isinstance(v, float)]
    return not floats or (kind.is_integral and kind is not _dtype.bool_ and int(step) != 0)


def _arange(xp: Any, start: Any, end: Any, step: Any, dtype: Any, device: Any) -> Any:
    kind = _arange_dtype(start, end, step, dtype)
    n = _arange_length(start, end, step, dtype)
    wide = "f8" if kind.is_floating_point else "i8"
    if wide == "i8" and _counts_in_ints(kind, start, step):
        start, step = int(start), int(step)
        return xp.arange(start, start + n * step, step, dtype="i8").astype(kind.np, copy=False)
    steps = xp.arange(n, dtype="f8") * step + start
    return steps.astype(kind.np)


def _arange_element(index: Any, start: Any, end: Any, step: Any, dtype: Any, device: Any) -> Any:
    kind = _arange_dtype(start, end, step, dtype)
    if kind.is_integral and _counts_in_ints(kind, start, step):
        start, step = (int(v) if isinstance(v, float) else v for v in (start, step))
    if isinstance(start, float) or isinstance(step, float):
        count = loops.index_value(index[0], _dtype.float64)
        return loops.cast(count * loops.const(step, _dtype.float64) + loops.const(start, _dtype.float64), kind)
    return loops.cast(loops.index_value(index[0] * step + start, _dtype.int64), kind)


arange_ = primitive(
    "arange(Number start, Number end, Number step=1, *, dtype? dtype=None, device? device=None) -> Tensor", "create",
    kernel=_arange, lower=_arange_element, api=(), tags=("check",),
    infer=lambda start, end, step, dtype, device: TensorMeta(
        (_arange_length(start, end, step, dtype),), _arange_dtype(start, end, step, dtype), as_device(device)),
    samples=lambda: [S(0, 5), S(1, 8, 2), S(5, 0, -2), S(0.0, 1.0, 0.25), S(0, 4, dtype=_dtype.float32)])


def _linspace(xp: Any, start: float, end: float, steps: int, dtype: Any, device: Any) -> Any:
    kind = dtype or _dtype.get_default_dtype()
    if steps == 1:
        return xp.asarray([start]).astype(kind.np)
    if kind.is_integral:
        start, end = int(start), int(end)
        i = xp.arange(steps, dtype="f8")
        step = (end - start) / (steps - 1) if steps > 1 else 0.0
        return xp.where(i < steps // 2, start + i * step, end - (steps - 1 - i) * step).astype(kind.np)
    wide = xp.float64 if kind is _dtype.float64 else xp.complex128 if kind.is_complex else xp.float32
    i = xp.arange(steps).astype(wide)
    step = wide((wide(end) - wide(start)) / wide(steps - 1)) if steps > 1 else wide(0)
    return xp.where(i < steps // 2, wide(start) + step * i, wide(end) - step * (wide(steps - 1) - i)).astype(kind.np)


def _linspace_parts(start: Any, end: Any, steps: int, dtype: Any, device: Any) -> Any:
    kind = dtype or _dtype.get_default_dtype()
    wide = _dtype.float64 if kind.is_integral or kind is _dtype.float64 else _dtype.float32
    step: Any = 0.0
    if not isinstance(steps, int):  # a symbolic size stays one
        step = ops.full((), end - start, dtype=wide, device=device) / ops.full((), steps - 1, dtype=wide, device=device)
    elif steps > 1:
        step = (end - start) / (steps - 1)
    i = ops.arange(0, steps, 1, dtype=wide, device=device)
    both = ops.where(ops.lt(i, (steps + 1) // 2 if steps == 1 else steps // 2), i * step + start, end - (steps - 1 - i) * step)
    return ops.cast(both, kind)


linspace_ = primitive(
    "linspace(Number start, Number end, int steps, *, dtype? dtype=None, device? device=None) -> Tensor", "create",
    kernel=_linspace, decompose=_linspace_parts, api=(), tags=("nograd",),
    infer=lambda start, end, steps, dtype, device: TensorMeta((steps,), dtype or _dtype.get_default_dtype(), as_device(device)),
    samples=lambda: [S(0, 1, 5), S(-2.0, 3.0, 7), S(1, 1, 1), S(0, 10, 4, dtype=_dtype.int64)])


def _eye_element(index: Any, n: Any, m: Any, dtype: Any, device: Any) -> Any:
    kind = dtype or _dtype.get_default_dtype()
    return loops.select(loops.compare("eq", index[0] - index[1], 0), loops.const(1, kind), loops.const(0, kind))


eye_ = primitive(
    "eye(int n, int? m=None, *, dtype? dtype=None, device? device=None) -> Tensor", "create", api=(), lower=_eye_element,
    kernel=lambda xp, n, m, dtype, device: xp.eye(n, m, dtype=(dtype or _dtype.get_default_dtype()).np),
    infer=lambda n, m, dtype, device: TensorMeta((n, n if m is None else m), dtype or _dtype.get_default_dtype(),
        as_device(device)),
    samples=lambda: [S(3), S(2, 4), S(3, dtype=_dtype.int64)])

# ---- like another tensor -------------------------------------------------------------------------------------------


def _like(name: str, value: Any) -> Any:
    def parts(x: Any, dtype: Any, device: Any) -> Any:
        return ops.full(tuple(x.shape), value, dtype=dtype or x.dtype, device=x.device if device is None else device)
    return composite(f"{name}(Tensor self, *, dtype? dtype=None, device? device=None) -> Tensor", parts, api=(), tags=("nograd",),
                     dtypes="buifc", samples=lambda: [S(T((3, 4))), S(T((3,)), dtype=_dtype.int64)],
                     infer=lambda x, dtype, device: TensorMeta(tuple(x.shape), dtype or x.dtype, x.device if device is None
                                                               else as_device(device)))


zeros_like_ = _like("zeros_like", 0)
ones_like_ = _like("ones_like", 1)

fill = pointwise(
    "fill(Tensor self, Operand value) -> Tensor", promote="copy", dtypes="buifc", tags=("check", "overlap"),
    kernel=lambda xp, x, value: _filled(xp, x, value), api=("torch.fill",), store=lambda x, value: _store(x, value),
    decompose=reads("value")(lambda x, value: _copied(x, value) if hasattr(value, "dtype")
                             else ops.full(tuple(x.shape), value, dtype=x.dtype, device=x.device)),
    vjp=(lambda g, out, x, value: ops.zeros_like(g), lambda g, out, x, value: ops.sum(g)),
    samples=lambda: [S(T((3, 4)), 1), S(T((3, 4)), T(()))])


def _store(x: Any, value: Any) -> Any:
    """Write a number, or an array of the same dtype and a shape that broadcasts, into an array."""
    if hasattr(value, "dtype") and value.dtype is not x.dtype or isinstance(value, complex) and x.dtype.kind != "c":
        return NotImplemented
    if isinstance(value, int) and not isinstance(value, bool) and x.dtype.kind in "iu" and not -128 <= value < 128:
        return NotImplemented
    x[...] = value
    return None


def _filled(xp: Any, x: Any, value: Any) -> Any:
    if getattr(value, "ndim", 0):
        raise RuntimeError(f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions.")
    if isinstance(value, complex) and x.dtype.kind != "c":
        raise RuntimeError("value cannot be converted to type without overflow")
    value = number_in(value, _dtype.from_numpy(x.dtype))
    return xp.full(x.shape, xp.asarray(value).astype(x.dtype), x.dtype)


zero = composite("zero(Tensor self) -> Tensor", lambda x: ops.full(tuple(x.shape), 0, dtype=x.dtype, device=x.device),
                 kernel=lambda xp, x: xp.zeros(x.shape, x.dtype), vjp=lambda g, out, x: ops.zeros_like(g), inplace=True,
                 tags=("overlap",),
                 dtypes="buifc", api=(), infer=lambda x: meta_of(x), samples=lambda: [S(T((3, 4)))])

# ---- conversion ----------------------------------------------------------------------------------------------------


def _cast(xp: Any, x: Any, dtype: Any) -> Any:
    if x.dtype.kind == "c" and not dtype.is_complex:
        x = x.real
    if x.dtype.kind not in "biu" and dtype.kind == "u":
        x = x.astype("i8")  # through a signed integer, as C does
    return x.astype(dtype.np)


def _cast_rule(g: Any, out: Any, x: Any, dtype: Any) -> Any:
    if g.dtype.is_complex and not x.dtype.is_complex:
        g = ops.real(g)
    return ops.cast(g, x.dtype)


cast = pointwise(
    "cast(Tensor self, dtype dtype) -> Tensor", promote="cast", api=(), inplace=False, kernel=_cast,
    scalar=Scalar("fl_cast<{dtype}>({0})", "{0}.to({dtype})"), vjp=_cast_rule, dtypes="buifc", tags=("raw",),
    samples=lambda: [S(T((3, 4)), _dtype.float64), S(T((3, 4)), _dtype.int64), S(T((3, 4)), _dtype.bool_)])


def _clone(xp: Any, x: Any, memory_format: Any) -> Any:
    axes = getattr(memory_format, "axes", None)
    if axes is not None and len(axes) == x.ndim:
        back = sorted(range(x.ndim), key=axes.__getitem__)
        return xp.ascontiguousarray(x.transpose(axes)).transpose(back)
    keep = memory_format is None or getattr(memory_format, "preserves", False)
    return x.copy("K" if keep else "C")


clone = primitive(
    "clone(Tensor self, *, any memory_format=None) -> Tensor", "pointwise", kernel=_clone,
    infer=lambda x, memory_format: meta_of(x), vjp=lambda g, out, x, memory_format: g, dtypes="buifc",
    samples=lambda: [S(T((3, 4))), S(T((3, 4), layout="t"))])

copy = pointwise(
    "copy(Tensor self, Tensor src, bool non_blocking=False) -> Tensor", promote="copy", api=(), tags=("check",),
    kernel=lambda xp, x, src, non_blocking: xp.broadcast_to(src, x.shape).astype(x.dtype),
    decompose=reads("src")(lambda x, src, non_blocking: _copied(x, src)),
    store=lambda x, src, non_blocking: _store(x, src),
    vjp=(lambda g, out, x, src, nb: ops.zeros_like(g), lambda g, out, x, src, nb: g), dtypes="buifc",
    samples=lambda: [S(T((3, 4)), T((3, 4))), S(T((3, 4)), T((4,)))])


def _copied(x: Any, src: Any) -> Any:
    """``src`` like ``x``, in memory of its own: what is expanded shares elements."""
    found = ops.expand(ops.cast(src, x.dtype), tuple(x.shape))
    ones = [n for n in src.shape if type(n) is int and n == 1]
    expanded = len(src.shape) != len(x.shape) or len(ones) != len([n for n in x.shape if type(n) is int and n == 1])
    return ops.clone(found) if expanded else found


def _copy_meta(x: Any, src: Any, non_blocking: bool) -> TensorMeta:
    from .view import _expanded  # noqa: PLC0415
    try:
        _expanded(src, tuple(x.shape))
    except RuntimeError as error:
        raise RuntimeError(str(error).replace("expand(tensor of shape", "output with shape")) from None
    return meta_of(x)


copy.infer = _copy_meta

to_device = primitive(
    "to_device(Tensor self, device device, bool non_blocking=False) -> Tensor", "transfer", kernel=None, api=(),
    infer=lambda x, device, non_blocking: TensorMeta(tuple(x.shape), x.dtype, as_device(device)), tags=("extern",),
    vjp=lambda g, out, x, device, non_blocking: ops.to_device(g, x.device), dtypes="buifc",
    samples=lambda: [S(T((3, 4)), "cpu")])

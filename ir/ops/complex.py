"""Complex numbers: their parts, and tensors made of parts."""

from __future__ import annotations

from typing import Any

from .. import dtype as _dtype
from ..family import broadcast_shapes, composite, ops, pointwise, primitive
from ..meta import TensorMeta
from ..op import public, type_name
from ..samples import S, T, unary

conj = pointwise("conj(Tensor self) -> Tensor", kernel=lambda xp, x: xp.conj(x) if x.dtype.kind == "c" else x.copy(),
                 vjp=lambda g, out, x: ops.conj(g), dtypes="fc", inplace=False, samples=unary(), tags=("complex",),
                 api=("torch.conj", "torch.conj_physical", "Tensor.conj", "Tensor.conj_physical"))


@public("torch.conj_physical_", "Tensor.conj_physical_")
def conj_physical_(input: Any) -> Any:  # noqa: A002
    """In-place :func:`conj_physical`."""
    return ops.conj_(input) if input.dtype.is_complex else input


def _complex_meta(real: Any, imag: Any) -> TensorMeta:
    if real.dtype is not imag.dtype:
        raise RuntimeError(f"Expected object of scalar type {type_name(real.dtype)} but got scalar type "
                           f"{type_name(imag.dtype)} for second argument")
    if not real.dtype.is_floating_point:
        raise RuntimeError(f"Expected both inputs to be Half, Float or Double tensors but got {type_name(real.dtype)} "
                           f"and {type_name(imag.dtype)}")
    return TensorMeta(broadcast_shapes(tuple(real.shape), tuple(imag.shape)), real.dtype.to_complex(), real.device)


def _complex(xp: Any, real: Any, imag: Any) -> Any:
    kind = xp.complex64 if real.dtype.itemsize == 4 else xp.complex128
    real, imag = xp.broadcast_arrays(real, imag)
    out = xp.empty(real.shape, kind)
    out.real, out.imag = real, imag
    return out


complex_ = primitive(
    "complex(Tensor real, Tensor imag) -> Tensor", "pointwise", kernel=_complex, infer=_complex_meta,
        tags=("check", "complex", "out", "same_out"),
    vjp=(lambda g, out, real, imag: ops.real(g), lambda g, out, real, imag: ops.imag(g)), api=(),
    samples=lambda: [S(T((3, 4), dtype=_dtype.float32), T((3, 4), dtype=_dtype.float32)), S(T((3, 1), dtype=_dtype.float64),
                                                                                          T((4,), dtype=_dtype.float64))])


angle = composite(
    "angle(Tensor self) -> Tensor", lambda x: ops.atan2(ops.imag(x), ops.real(x)) if x.dtype.is_complex
    else _real_angle(x), dtypes="buifc", tags=("out",), samples=unary())


def _real_angle(x: Any) -> Any:
    kind = x.dtype if x.dtype.is_floating_point else _dtype.get_default_dtype()
    turned = ops.where(ops.lt(x, 0), ops.full((), 3.141592653589793, dtype=kind, device=x.device), 0.0)
    return turned if x.dtype.is_integral else ops.where(ops.isnan(x), x, turned)


@public("torch.is_complex")
def is_complex(input: Any) -> bool:  # noqa: A002
    """Whether the dtype is complex."""
    return input.dtype.is_complex


@public("torch.is_floating_point")
def is_floating_point(input: Any) -> bool:  # noqa: A002
    """Whether the dtype is a floating one."""
    return input.dtype.is_floating_point


@public("torch.is_conj", "Tensor.is_conj")
def is_conj(input: Any) -> bool:  # noqa: A002
    """Always False: conjugates are computed at once."""
    return False


@public("torch.resolve_neg", "torch.resolve_conj", "Tensor.resolve_neg", "Tensor.resolve_conj")
def resolve(input: Any) -> Any:  # noqa: A002
    """``input``: nothing is left to resolve."""
    return input


@public("torch.numel")
def numel(input: Any) -> Any:  # noqa: A002
    """The number of elements."""
    return input.numel()

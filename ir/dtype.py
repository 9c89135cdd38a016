"""Element types and PyTorch's promotion rules (PyTorch docs: "tensor_attributes", "type promotion").

A :class:`DType` is a singleton. It prints as PyTorch prints it (``torch.float32``), because scripts and tests compare
that text; the compiler's own texts use the short name (``f32``).
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np


class DType:
    """An element type: ``name`` (PyTorch's), ``short`` (IR text), ``np`` (NumPy dtype), and its category."""

    __slots__ = ("name", "short", "np", "itemsize", "kind", "is_floating_point", "is_complex", "is_signed", "order")

    def __init__(self, name: str, short: str, np_type: Any, kind: str, order: int) -> None:
        self.name, self.short, self.np = name, short, np.dtype(np_type)
        self.itemsize = self.np.itemsize
        self.kind = kind  # "b" bool, "u" unsigned, "i" signed, "f" floating, "c" complex
        self.is_floating_point = kind == "f"
        self.is_complex = kind == "c"
        self.is_signed = kind in "ifc"
        self.order = order

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> str:
        return _pickle_name(self)

    @property
    def is_integral(self) -> bool:
        """Integers and bool."""
        return self.kind in "bui"

    @property
    def differentiable(self) -> bool:
        """Whether a tensor of this dtype may require a gradient."""
        return self.kind in "fc"

    def to_real(self) -> DType:
        """The dtype of ``abs`` and ``real`` of this dtype."""
        return {complex64: float32, complex128: float64}.get(self, self)

    def to_complex(self) -> DType:
        """The complex dtype whose parts have this precision."""
        return {float64: complex128, complex128: complex128}.get(self, complex64)


bool_ = DType("bool", "b8", np.bool_, "b", 0)
uint8 = DType("uint8", "u8", np.uint8, "u", 1)
int8 = DType("int8", "i8", np.int8, "i", 2)
int16 = DType("int16", "i16", np.int16, "i", 3)
int32 = DType("int32", "i32", np.int32, "i", 4)
int64 = DType("int64", "i64", np.int64, "i", 5)
float16 = DType("float16", "f16", np.float16, "f", 6)
bfloat16 = DType("bfloat16", "bf16", ml_dtypes.bfloat16, "f", 7)
float32 = DType("float32", "f32", np.float32, "f", 8)
float64 = DType("float64", "f64", np.float64, "f", 9)
complex64 = DType("complex64", "c64", np.complex64, "c", 10)
complex128 = DType("complex128", "c128", np.complex128, "c", 11)

ALL = (bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64, complex64, complex128)
BY_NAME = {d.name: d for d in ALL} | {d.short: d for d in ALL}
BY_NAME |= {"float": float32, "double": float64, "half": float16, "long": int64, "int": int32, "short": int16,
            "cfloat": complex64, "cdouble": complex128}
_BY_NP = {d.np: d for d in ALL}
_BY_NP |= {np.dtype(np.uint16): int32, np.dtype(np.uint32): int64, np.dtype(np.uint64): int64}
_BY_PY = {bool: bool_, int: int64, complex: complex64}
_CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}


def _pickle_name(dtype: DType) -> str:
    return "bool_" if dtype is bool_ else dtype.name


def from_numpy(dtype: object) -> DType:
    """The :class:`DType` of a NumPy dtype. Raises ``TypeError`` for one that tensors cannot hold."""
    try:
        return _BY_NP[dtype]  # type: ignore[index]
    except KeyError:
        pass
    found = _BY_NP.get(np.dtype(dtype).newbyteorder("="))  # type: ignore[call-overload]
    if found is None:
        raise TypeError(f"can't convert np.ndarray of type {dtype}. The supported types are: float64, float32, float16, "
                        "complex64, complex128, int64, int32, int16, int8, uint8 and bool.")
    return found


_default = float32


def get_default_dtype() -> DType:
    """The dtype of floating-point tensors made from Python floats (float32 unless changed)."""
    return _default


def set_default_dtype(dtype: DType) -> None:
    """Set the default floating dtype. Raises ``TypeError`` for a non-floating one (PyTorch: ``set_default_dtype``)."""
    global _default
    if not isinstance(dtype, DType) or not dtype.is_floating_point:
        raise TypeError("only floating-point types are supported as the default type")
    _default = dtype


def of_number(value: object) -> DType:
    """The dtype PyTorch gives a Python number."""
    if isinstance(value, float):
        return _default
    if isinstance(value, complex):
        return _default.to_complex()
    for kind in (bool, int):
        if isinstance(value, kind):
            return _BY_PY[kind]
    if hasattr(value, "__flambeau_symint__"):
        return int64
    if isinstance(value, np.generic):                             # a NumPy scalar counts as the Python number it holds
        return of_number(value.item())
    return from_numpy(np.asarray(value).dtype)


def promote_types(a: DType, b: DType) -> DType:
    """The smallest dtype both convert to (PyTorch: ``torch.promote_types``)."""
    if a is b:
        return a
    if a.order > b.order:
        a, b = b, a
    if _CATEGORY[a.kind] < _CATEGORY[b.kind]:
        if b.kind == "c" and a is float64:
            return complex128
        return b
    if a is uint8:  # with a signed integer
        return int16 if b is int8 else b
    if a is float16 and b is bfloat16:
        return float32
    return b


def result_type(operands: Any) -> DType:
    """PyTorch's result dtype of ``operands`` (values with ``.dtype`` and ``.ndim``, or Python numbers).

    Tensors with dimensions decide; zero-dimensional tensors, then Python numbers, count only when of a higher
    category (bool < integer < floating < complex) than what decided before.
    """
    dims: DType | None = None
    zeros: DType | None = None
    numbers: DType | None = None
    for x in operands:
        dtype = getattr(x, "dtype", None)
        if dtype.__class__ is not DType:                          # a number, NumPy's included
            d = of_number(x)
            numbers = d if numbers is None else promote_types(numbers, d)
        elif x.ndim:
            dims = dtype if dims is None else promote_types(dims, dtype)
        else:
            zeros = dtype if zeros is None else promote_types(zeros, dtype)
    return _combine(_combine(dims, zeros), numbers)  # type: ignore[return-value]


def _combine(high: DType | None, low: DType | None) -> DType | None:
    if high is None or low is None:
        return high if low is None else low
    if _CATEGORY[low.kind] > _CATEGORY[high.kind]:
        if low.kind == "c" and high.kind == "f":  # the precision of the deciding floating type is kept
            return complex128 if high is float64 else complex64
        return low
    return high


def can_cast(src: DType, dst: DType) -> bool:
    """Whether a result of dtype ``src`` may be written into ``dst`` (PyTorch: ``torch.can_cast``)."""
    if src.kind == "c" and dst.kind != "c":
        return False
    if src.kind == "f" and dst.kind in "bui":
        return False
    return not (src.kind != "b" and dst.kind == "b")

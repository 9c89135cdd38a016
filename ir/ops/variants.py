"""Second names of ops, in-place forms under their public names, and small functions composed of ops."""

from __future__ import annotations

import itertools
import math
from typing import Any

from .. import dtype as _dtype
from ..autocast import runs_in
from ..family import ops, wrap_dim
from ..op import OPS, PUBLIC, inplace_of, public, type_name
from . import returns

#: in-place names that differ from the op's, or whose op is called otherwise
_SECOND_NAMES = {
    "absolute_": "abs", "arccos_": "acos", "arccosh_": "acosh", "arcsin_": "asin", "arcsinh_": "asinh", "arctan_": "atan",
    "arctanh_": "atanh", "arctan2_": "atan2", "clip_": "clamp", "fix_": "trunc", "greater_": "gt", "greater_equal_": "ge",
    "less_": "lt", "less_equal_": "le", "not_equal_": "ne", "negative_": "neg", "multiply_": "mul", "subtract_": "sub",
    "true_divide_": "div", "swapaxes_": "transpose", "swapdims_": "transpose"}


def publish_variants() -> None:
    """Publish the second names, and ``torch.NAME_`` for every in-place method of an op of one tensor."""
    tensor, torch = PUBLIC["Tensor"], PUBLIC["torch"]
    for name, first in _SECOND_NAMES.items():
        if first in OPS and "view" not in OPS[first].tags:
            tensor.setdefault(name, inplace_of(OPS[first]).method)
    tensor.setdefault("multiply", OPS["mul"].method)
    tensor.setdefault("subtract", OPS["sub"].method)
    torch.setdefault("multiply", OPS["mul"].fn)
    torch.setdefault("subtract", OPS["sub"].fn)
    for op in [o for o in OPS.values() if o.inplace is not None]:
        name = op.name + "_"
        if name in tensor:
            torch.setdefault(name, tensor[name])
    for name in ("zero_", "fill_"):
        tensor.setdefault(name, inplace_of(OPS[name[:-1]]).method)
        torch.setdefault(name, tensor[name])


@public("torch.complex")
def complex_of(real: Any, imag: Any, *, out: Any = None) -> Any:
    """``real + imag * 1j``, exact for infinities. Raises ``RuntimeError`` when the parts differ in dtype."""
    return ops.complex(real, imag) if out is None else ops.complex(real, imag, out=out)


@public("torch.polar")
def polar(abs: Any, angle: Any, *, out: Any = None) -> Any:  # noqa: A002
    """Complex numbers of this absolute value and angle."""
    for i, value in enumerate((abs, angle)):
        if not hasattr(value, "dtype"):
            raise TypeError(f"polar(): argument '{('abs', 'angle')[i]}' (position {i + 1}) must be Tensor, not "
                            f"{type(value).__name__}")
    return complex_of(abs * ops.cos(angle), abs * ops.sin(angle), out=out)


@public("torch.trace", "Tensor.trace")
@runs_in("float32@cpu")
def trace(input: Any) -> Any:  # noqa: A002
    """The sum of a matrix's diagonal."""
    if input.ndim != 2:
        raise RuntimeError("trace: expected a matrix, but got tensor with dim " + str(input.ndim))
    return ops.sum(ops.diagonal(input))


@public("torch.cross", "Tensor.cross")
def cross(input: Any, other: Any, dim: int | None = None) -> Any:  # noqa: A002
    """The vector product along ``dim`` (None: the first dimension of size 3)."""
    if dim is None:
        dim = next((d for d, n in enumerate(input.shape) if n == 3), None)
        if dim is None:
            raise RuntimeError("no dimension of size 3 in input")
    at = wrap_dim(dim, input.ndim)
    if input.shape[at] != 3 or other.shape[at] != 3:
        raise RuntimeError(f"linalg.cross: inputs dimension {dim} must have length 3. Got {input.shape[at]} and "
                           f"{other.shape[at]}")

    def turned(x: Any, by: int) -> Any:
        return ops.roll(x, (-by,), (at,))
    return turned(input, 1) * turned(other, 2) - turned(input, 2) * turned(other, 1)


@public("torch.nanmedian", "Tensor.nanmedian")
def nanmedian(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:  # noqa: A002
    """The (lower) median of the elements that are not NaN."""
    flat = ops.reshape(input, (-1,)) if dim is None else input
    at = 0 if dim is None else wrap_dim(dim, input.ndim)
    ranked, order = ops.sort(flat, at)  # NaN comes last
    present = ops.sum(ops.logical_not(ops.isnan(flat)), at, True)
    middle = ops.clamp(ops.floor_divide(present - 1, 2), 0)
    values, indices = ops.gather(ranked, at, middle), ops.gather(order, at, middle)
    if dim is None:
        return ops.select(values, 0, 0)
    if not keepdim:
        values, indices = ops.squeeze(values, (at,)), ops.squeeze(indices, (at,))
    return returns.nanmedian(values, indices)


@public("torch.cov", "Tensor.cov")
def cov(input: Any, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Any:  # noqa: A002
    """The covariance matrix of variables in rows."""
    if input.ndim > 2:
        raise RuntimeError(f"cov(): expected input to have two or fewer dimensions but got an input with {input.ndim} dimensions")
    x = ops.reshape(input, (1, input.numel())) if input.ndim < 2 else input
    x = ops.cast(x, _dtype.get_default_dtype()) if x.dtype.is_integral else x
    weights = None
    for name, w in (("fweights", fweights), ("aweights", aweights)):
        if w is not None:
            _check_weights(name, w, x.shape[1])
            weights = w if weights is None else weights * w
    if weights is None:
        total: Any = x.shape[1]
        freedom: Any = max(total - correction, 0)
        centred = x - ops.mean(x, (1,), True)
        product = ops.mm(centred, ops.t(_conj(centred)))
        return ops.squeeze(product / (freedom or float("nan")))
    total = ops.sum(weights)
    centred = x - ops.sum(x * weights, (1,), True) / total
    freedom = total - correction * (ops.sum(weights * aweights) / total if aweights is not None else 1)
    return ops.squeeze(ops.mm(centred * weights, ops.t(_conj(centred))) / freedom)


def _check_weights(name: str, w: Any, count: Any) -> None:
    if w.ndim > 1:
        raise RuntimeError(f"cov(): expected {name} to have one or fewer dimensions but got {name} with {w.ndim} dimensions")
    if w.dtype.is_integral != (name == "fweights") or w.dtype is _dtype.bool_:
        kind = "integral" if name == "fweights" else "floating point"
        raise RuntimeError(f"cov(): expected {name} to have {kind} dtype but got {name} with {type_name(w.dtype)} dtype")
    if w.numel() != count:
        raise RuntimeError(f"cov(): expected {name} to have the same numel as there are observations in the input but got "
                           f"{w.numel()} != {count}")
    if w.numel() and bool(ops.any(ops.lt(w, 0))):
        raise RuntimeError(f"cov(): {name} cannot be negative")


def _conj(x: Any) -> Any:
    return ops.conj(x) if x.dtype.is_complex else x


@public("torch.corrcoef", "Tensor.corrcoef")
def corrcoef(input: Any) -> Any:  # noqa: A002
    """The correlation matrix of variables in rows."""
    if input.ndim > 2:
        raise RuntimeError("corrcoef(): expected input to have two or fewer dimensions but got an input with "
                           f"{input.ndim} dimensions")
    c = cov(input)
    if not c.ndim:
        return c / c
    spread = ops.sqrt(ops.real(ops.diagonal(c)) if c.dtype.is_complex else ops.diagonal(c))
    found = c / ops.unsqueeze(spread, 1) / ops.unsqueeze(spread, 0)
    if found.dtype.is_complex:
        return ops.complex(ops.clamp(ops.real(found), -1, 1), ops.clamp(ops.imag(found), -1, 1))
    return ops.clamp(found, -1, 1)


@public("torch.vander")
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:  # noqa: N803
    """The powers of ``x`` as columns."""
    n = x.shape[0] if N is None else N
    powers = ops.arange(0, n, 1, device=x.device)
    powers = powers if increasing else ops.flip(powers, (0,))
    return ops.pow(ops.unsqueeze(x, 1), powers)


@public("torch.combinations")
def combinations(input: Any, r: int = 2, with_replacement: bool = False) -> Any:  # noqa: A002
    """The rows of all choices of ``r`` elements."""
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = list(choose(range(input.shape[0]), r))
    if not rows:
        return ops.reshape(ops.slice(input, 0, 0, 0), (0, r))
    return ops.index(input, [ops.constant(rows, dtype=_dtype.int64, device=input.device)])


@public("torch.narrow_copy", "Tensor.narrow_copy")
def narrow_copy(input: Any, dim: int, start: int, length: int) -> Any:  # noqa: A002
    """A copy of a part along ``dim``."""
    if dim >= input.ndim:
        raise RuntimeError(f"narrow_copy(): Expected dim to be in range of [{-input.ndim}, {input.ndim - 1}], but got {dim}")
    return ops.clone(ops.narrow(input, dim, start, length))


@public("torch.range")
def inclusive_range(start: float = 0, end: float | None = None, step: float = 1, *, dtype: Any = None, device: Any = None) -> Any:
    """Numbers from ``start`` to ``end``, ``end`` included."""
    if end is None:
        start, end = 0, start
    count = math.floor((end - start) / step) + 1
    return ops.arange(0, count, 1, dtype=dtype or _dtype.get_default_dtype(), device=device) * step + start


@public("torch.frexp", "Tensor.frexp")
def frexp(input: Any) -> tuple:  # noqa: A002
    """Mantissas in [0.5, 1) and exponents: ``input = mantissa * 2 ** exponent``."""
    zero = ops.eq(input, 0) | ops.logical_not(ops.isfinite(input))
    exponent = ops.where(zero, 0.0, ops.floor(ops.log2(ops.abs(ops.where(zero, 1.0, input)))) + 1)
    mantissa = input / ops.pow(2.0, exponent)
    return mantissa, ops.cast(exponent, _dtype.int32)


@public("torch.unravel_index")
def unravel_index(indices: Any, shape: Any) -> tuple:
    """Flat positions as one tensor of indices per dimension of ``shape``."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    found = []
    for n in reversed(shape):
        found.append(ops.remainder(indices, n))
        indices = ops.floor_divide(indices, n)
    return tuple(reversed(found))


@public("torch.cumulative_trapezoid")
def cumulative_trapezoid(y: Any, x: Any = None, *, dx: float = 1.0, dim: int = -1) -> Any:
    """The running integral of samples ``y`` along ``dim`` by the trapezoidal rule."""
    at = wrap_dim(dim, y.ndim)
    width = dx if x is None else ops.diff(x, 1, -1 if x.ndim == 1 else at)
    if x is not None and x.ndim == 1:
        width = ops.reshape(width, (-1,) + (1,) * (y.ndim - 1 - at))
    return ops.cumsum((ops.slice(y, at, 1, None) + ops.slice(y, at, 0, -1)) * width, at) / 2


@public("torch.is_same_size")
def is_same_size(input: Any, other: Any) -> bool:  # noqa: A002
    """Whether the shapes are equal."""
    return tuple(input.shape) == tuple(other.shape)


@public("torch.is_signed")
def is_signed(input: Any) -> bool:  # noqa: A002
    """Whether the dtype has negative numbers."""
    return input.dtype.is_signed


@public("Tensor.fill_diagonal_")
def fill_diagonal_(self: Any, fill_value: float, wrap: bool = False) -> Any:
    """Set the main diagonal to ``fill_value``; with ``wrap`` it starts again below a tall matrix's square."""
    if self.ndim < 2:
        raise RuntimeError("dimensions must larger than 1")
    size = min(self.shape)
    step = sum(math.prod(self.shape[d + 1:]) for d in range(self.ndim))
    count = size
    if self.ndim == 2 and self.shape[0] > self.shape[1] and wrap:
        count = (self.numel() + step - 1) // step
    positions = ops.arange(0, count, 1, device=self.device) * step
    mask = ops.index_fill(ops.full((self.numel(),), False, dtype=_dtype.bool_, device=self.device), 0, positions, True)
    return ops.masked_fill_(self, ops.reshape(mask, tuple(self.shape)), fill_value)

"""PyTorch's functions that make tensors: each a call of an op in :mod:`.create`."""

from __future__ import annotations

from typing import Any

from .. import dtype as _dtype
from ..family import ops
from ..op import public
from ..tensorlike import TensorLike
from .random import _done, sizes


def _default(dtype: Any) -> Any:
    return _dtype.get_default_dtype() if dtype is None else dtype


def _checked(name: str, size: tuple) -> tuple:
    """``size`` as a tuple. Raises PyTorch's errors for sizes that are negative or no integers."""
    found = sizes(size)
    for n in found:
        if isinstance(n, (float, str)) or n is None:
            raise TypeError(f"{name}(): argument 'size' must be tuple of ints, but found element of type {type(n).__name__}")
    return found


def _maker(name: str, fill: Any) -> None:
    """``torch.zeros`` and its like, the ``_like`` functions and the ``new_`` methods."""

    def create(size: tuple, dtype: Any, device: Any) -> Any:
        if fill is None:
            return ops.empty(size, dtype=dtype, device=device)
        return ops.full(size, fill, dtype=dtype, device=device)

    def make(*dims: Any, size: Any = None, out: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False, pin_memory: bool = False, memory_format: Any = None) -> Any:
        size = dims if size is None else (size,)
        return _done(create(_checked(name, size), _default(dtype), device), requires_grad, out)

    def like(input: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
             pin_memory: bool = False, memory_format: Any = None) -> Any:
        return _done(create(tuple(input.shape), dtype or input.dtype, device or input.device), requires_grad)

    def new(self: Any, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, layout: Any = None,
            pin_memory: bool = False) -> Any:
        return _done(create(_checked(name, size), dtype or self.dtype, device or self.device), requires_grad)

    what = "Uninitialised values" if fill is None else f"{name.capitalize()}"
    for fn, fn_name, space, doc in (
            (make, name, "torch", f"{what}. Shape: ``size``."),
            (like, f"{name}_like", "torch", f"{what} of ``input``'s shape, dtype and device."),
            (new, f"new_{name}", "Tensor", f"{what} with this tensor's dtype and device.")):
        fn.__name__ = fn.__qualname__ = fn_name
        fn.__doc__ = doc
        public(f"{space}.{fn_name}")(fn)


for _name, _fill in (("zeros", 0), ("ones", 1), ("empty", None)):
    _maker(_name, _fill)


@public("torch.full")
def full(size: Any, fill_value: Any, *, out: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
         requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """``fill_value`` (a number or a zero-dimensional tensor) everywhere. Shape: ``size``."""
    size = _checked("full", (size,) if isinstance(size, (tuple, list)) else ((size,),))
    if isinstance(fill_value, TensorLike):
        t = ops.clone(ops.expand(ops.cast(fill_value, dtype or fill_value.dtype), size))
    else:
        t = ops.full(size, fill_value, dtype=dtype, device=device)
    return _done(t, requires_grad, out)


@public("torch.full_like")
def full_like(input: Any, fill_value: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
              requires_grad: bool = False, pin_memory: bool = False, memory_format: Any = None) -> Any:
    """``fill_value`` in ``input``'s shape, dtype and device."""
    return full(tuple(input.shape), fill_value, dtype=dtype or input.dtype, device=device or input.device,
                requires_grad=requires_grad)


@public("Tensor.new_full")
def new_full(self: Any, size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
             layout: Any = None, pin_memory: bool = False) -> Any:
    """``fill_value`` in shape ``size``, with this tensor's dtype and device."""
    return full(size, fill_value, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad)


@public("Tensor.new_tensor")
def new_tensor(self: Any, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
               layout: Any = None, pin_memory: bool = False) -> Any:
    """A tensor of ``data`` with this tensor's dtype and device."""
    return _done(ops.constant(data, dtype=dtype or self.dtype, device=device or self.device), requires_grad)


@public("Tensor.new")
def new(self: Any, *data: Any, device: Any = None) -> Any:
    """The old constructor with this tensor's dtype and device: ``new()``, ``new(2, 3)`` and ``new(size)`` (undefined values),
    ``new([1.0, 2.0])``, ``new(tensor)``."""
    kind = {"dtype": self.dtype, "device": device or self.device}
    sized = all(isinstance(n, int) or hasattr(n, "__flambeau_symint__") for n in data)
    if sized or type(data[0]).__name__ == "Size":
        return ops.empty(_checked("new", data if data else ((0,),)), **kind)
    return ops.constant(data[0], **kind)


@public("torch.empty_strided")
def empty_strided(size: Any, stride: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
                  requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """Uninitialised values of the given shape and strides (in elements)."""
    reach = 1 + sum((n - 1) * s for n, s in zip(size, stride)) if 0 not in size else 0
    flat = ops.empty((reach,), dtype=_default(dtype), device=device)
    return _done(ops.as_strided(flat, tuple(size), tuple(stride)), requires_grad)


def _number(x: Any) -> Any:
    return x.item() if isinstance(x, TensorLike) else x


@public("torch.arange")
def arange(*bounds: Any, start: Any = None, end: Any = None, step: Any = 1, out: Any = None, dtype: Any = None,
           layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """``arange(end)``, ``arange(start, end)``, ``arange(start, end, step)``: numbers from start up to, not including, end."""
    given = list(bounds)
    if end is not None:
        given.append(end)
    if start is not None:
        given.insert(0, start)
    if not 1 <= len(given) <= 3:
        raise TypeError(f"arange() takes 1 to 3 positional arguments but {len(given)} were given")
    if len(given) == 1:
        given.insert(0, 0)
    if len(given) == 2:
        given.append(step)
    first, last, by = map(_number, given)
    kind = out.dtype if dtype is None and out is not None else dtype
    return _done(ops.arange(first, last, by, dtype=kind, device=device), requires_grad, out)


def _check_steps(name: str, steps: Any) -> None:
    if isinstance(steps, (float, TensorLike)):
        raise TypeError(f"{name}(): argument 'steps' must be int, not {type(steps).__name__}")
    if steps < 0:
        raise RuntimeError(f"number of steps must be non-negative, got {steps}")


def _as_stored(value: Any, dtype: Any) -> Any:
    """A bound as a number of ``dtype``, as PyTorch converts it before it counts."""
    if isinstance(value, complex) or dtype.is_complex:
        return value
    stored = dtype.np.type(int(value) if dtype.is_integral else value)
    return int(stored) if dtype.is_integral else float(stored)


@public("torch.linspace")
def linspace(start: Any, end: Any, steps: int, *, out: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """``steps`` numbers evenly spaced from ``start`` to ``end``, both included. Shape: [steps]."""
    _check_steps("linspace", steps)
    t = ops.linspace(_number(start), _number(end), steps, dtype=dtype, device=device)
    return _done(t, requires_grad, out)


@public("torch.logspace")
def logspace(start: Any, end: Any, steps: int, base: float = 10.0, *, out: Any = None, dtype: Any = None, layout: Any = None,
             device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """``base`` to the powers of ``linspace(start, end, steps)``. Shape: [steps]."""
    _check_steps("logspace", steps)
    kind = _default(dtype if dtype is not None or out is None else out.dtype)
    first, last = _number(start), _number(end)
    if steps != 1:
        first, last = _as_stored(first, kind), _as_stored(last, kind)
    powers = ops.linspace(first, last, steps, dtype=_dtype.complex128 if kind.is_complex else _dtype.float64, device=device)
    return _done(ops.cast(ops.pow(float(base), powers), kind), requires_grad, out)


@public("torch.eye")
def eye(n: int, m: int | None = None, *, out: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
        requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """The identity matrix. Shape: [n, m or n]."""
    if n < 0 or (m is not None and m < 0):
        raise RuntimeError(f"{'n' if n < 0 else 'm'} must be greater or equal to 0, got {n if n < 0 else m}")
    return _done(ops.eye(n, m, dtype=dtype, device=device), requires_grad, out)

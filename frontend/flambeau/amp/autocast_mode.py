"""Regions in which ops choose their dtypes (PyTorch: ``torch.amp.autocast_mode``). The rules are the ops' own tags."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from flambeau.cuda import is_available as cuda_is_there
from flambeau.ir import dtype as _dtype
from flambeau.ir.autocast import changed, setting
from flambeau.ir.dtype import DType
from flambeau.runtime.autograd import mode
from flambeau.runtime.tensor import Tensor

_DEVICES = ("cpu", "cuda")
_HALVES = (_dtype.bfloat16, _dtype.float16)


def is_autocast_available(device_type: str) -> bool:
    """Whether :class:`autocast` accepts the kind of device."""
    return device_type in _DEVICES


def _known(device_type: str) -> str:
    if device_type not in _DEVICES:
        raise RuntimeError(f"unknown device type for autocast in get_autocast_dispatch_key_from_device_type: {device_type!r}; "
                           "there are 'cpu' and 'cuda'")
    return device_type


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether autocast is on in this thread for a kind of device."""
    return setting(mode.autocast, _known(device_type))[0]


def get_autocast_dtype(device_type: str) -> DType:
    """The half precision that autocast uses: bfloat16 on CPUs and float16 on GPUs unless it was set."""
    return setting(mode.autocast, _known(device_type))[1]


def set_autocast_enabled(device_type: str, enabled: bool) -> None:
    """Switch autocast on or off in this thread, until it is switched again."""
    if isinstance(device_type, bool):
        device_type, enabled = "cuda", device_type
    now = mode.autocast
    mode.autocast = changed(now, _known(device_type), enabled, setting(now, device_type)[1], now[4])


def set_autocast_dtype(device_type: str, dtype: DType) -> None:
    """Choose the half precision in this thread."""
    now = mode.autocast
    mode.autocast = changed(now, _known(device_type), setting(now, device_type)[0], dtype, now[4])


def is_autocast_cache_enabled() -> bool:
    """Whether casts of parameters are kept until the region ends."""
    return mode.autocast[4]


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Whether casts of parameters are to be kept."""
    mode.autocast = (*mode.autocast[:4], bool(enabled))


def clear_autocast_cache() -> None:
    """Forget the casts of parameters."""
    mode._casts = None


def autocast_increment_nesting() -> int:
    """Accepted; casts are forgotten when no region is left."""
    return 1


def autocast_decrement_nesting() -> int:
    """Accepted; casts are forgotten when no region is left."""
    return 0


def is_autocast_cpu_enabled() -> bool:
    """``is_autocast_enabled("cpu")``."""
    return is_autocast_enabled("cpu")


def set_autocast_cpu_enabled(enabled: bool) -> None:
    """``set_autocast_enabled("cpu", enabled)``."""
    set_autocast_enabled("cpu", enabled)


def get_autocast_cpu_dtype() -> DType:
    """``get_autocast_dtype("cpu")``."""
    return get_autocast_dtype("cpu")


def set_autocast_cpu_dtype(dtype: DType) -> None:
    """``set_autocast_dtype("cpu", dtype)``."""
    set_autocast_dtype("cpu", dtype)


def get_autocast_gpu_dtype() -> DType:
    """``get_autocast_dtype("cuda")``."""
    return get_autocast_dtype("cuda")


def set_autocast_gpu_dtype(dtype: DType) -> None:
    """``set_autocast_dtype("cuda", dtype)``."""
    set_autocast_dtype("cuda", dtype)


class autocast:  # noqa: N801 - PyTorch's name
    """Inside, products and convolutions run in a half precision, and ops that need it in float32; also a decorator.

    Args:
        device_type: "cpu" or "cuda": which tensors it is about.
        dtype: bfloat16 or float16 (default: :func:`get_autocast_dtype`).
        enabled: False switches an outer region off.
        cache_enabled: whether a parameter is cast once for the whole region.

    Parameters stay float32, and so do their gradients. ``backward`` runs in the dtypes that the forward chose. Raises
    ``RuntimeError`` for another device; warns and does nothing for another dtype, or for "cuda" without a GPU.
    """

    def __init__(self, device_type: str, dtype: DType | None = None, enabled: bool = True,
                 cache_enabled: bool | None = None) -> None:
        if not isinstance(device_type, str):
            raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        if not is_autocast_available(device_type):
            raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'")
        self.device = device_type
        self.fast_dtype = get_autocast_dtype(device_type) if dtype is None else dtype
        self._cache_enabled = is_autocast_cache_enabled() if cache_enabled is None else cache_enabled
        if enabled and device_type == "cuda" and not cuda_is_there():
            warnings.warn("CUDA is not available or torch_xla is imported. Disabling autocast.", stacklevel=2)
            enabled = False
        if enabled and self.fast_dtype not in _HALVES:
            name = device_type.upper()
            warnings.warn(f"In {name} autocast, but the target dtype is not supported. Disabling autocast.\n{name} Autocast "
                          "only supports dtypes of torch.bfloat16, torch.float16 currently.", stacklevel=2)
            enabled = False
        self._enabled = enabled

    def __enter__(self) -> autocast:
        self.prev = mode.autocast
        mode.autocast = changed(self.prev, self.device, self._enabled, self.fast_dtype, self._cache_enabled)
        return self

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        mode.autocast = self.prev

    def __call__(self, func: Callable) -> Callable:
        if not callable(func):
            raise TypeError(f"autocast()(func) requires a callable, but got {type(func).__name__}. Did you mean to use autocast "
                            "as a context manager? For example:\n    with torch.autocast(device_type=...):\n        "
                            "output = model(input)")

        @functools.wraps(func)
        def decorated(*args: Any, **kwargs: Any) -> Any:
            with type(self)._like(self):
                return func(*args, **kwargs)

        return decorated

    def _like(self) -> autocast:
        """A region of its own with these settings, as a decorated function may call itself."""
        new = autocast.__new__(autocast)
        new.device, new.fast_dtype, new._cache_enabled, new._enabled = (self.device, self.fast_dtype, self._cache_enabled,
                                                                        self._enabled)
        return new


def _cast(value: Any, device_type: str, dtype: DType) -> Any:
    """``value`` with the floating tensors of a device inside it (float64 left out) in ``dtype``."""
    if isinstance(value, Tensor):
        fits = value.is_floating_point() and value.device.type == device_type and value.dtype is not _dtype.float64
        return value.to(dtype) if fits else value  # type: ignore[attr-defined]
    if isinstance(value, (str, bytes, np.ndarray)):
        return value
    if isinstance(value, Mapping):
        return {_cast(k, device_type, dtype): _cast(v, device_type, dtype) for k, v in value.items()}
    if isinstance(value, Iterable):
        found = (_cast(v, device_type, dtype) for v in value)
        return type(value)(found) if isinstance(value, (list, tuple)) else found  # type: ignore[call-arg]
    return value


def custom_fwd(fwd: Callable | None = None, *, device_type: str, cast_inputs: DType | None = None) -> Any:
    """Decorates the ``forward`` of an ``autograd.Function``: in a region its ops are cast, or, with ``cast_inputs``, its
    tensors are cast to that dtype and it runs with autocast off."""
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        ctx, on = args[0], is_autocast_enabled(device_type)
        ctx._dtype = get_autocast_dtype(device_type)
        ctx._fwd_used_autocast = on and cast_inputs is None
        if not on or cast_inputs is None:
            return fwd(*args, **kwargs)
        with autocast(device_type, enabled=False):
            return fwd(ctx, *_cast(args[1:], device_type, cast_inputs), **_cast(kwargs, device_type, cast_inputs))

    return decorated


def custom_bwd(bwd: Callable | None = None, *, device_type: str) -> Any:
    """Decorates the ``backward`` of an ``autograd.Function``: it runs with autocast as its ``forward`` did."""
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        with autocast(device_type, enabled=args[0]._fwd_used_autocast, dtype=args[0]._dtype):
            return bwd(*args, **kwargs)

    return decorated

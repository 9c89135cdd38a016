"""Switches of the whole program that PyTorch has: set and told, where nothing here depends on them accepted."""

from __future__ import annotations

import warnings
from typing import Any

from flambeau.ir import dtype as _dtype
from flambeau.runtime.tensor import Tensor

from . import _types

_interop_threads = 1
_warn_always = False


def set_default_tensor_type(t: Any) -> None:
    """The old way to set the default dtype, by a tensor type (``torch.DoubleTensor``) or its name."""
    name = t if isinstance(t, str) else repr(t)
    name = name.replace("<class '", "").replace("'>", "").rpartition(".")[2]
    kind = _types.LEGACY.get(name)
    if kind is None or not kind.dtype.is_floating_point:
        raise TypeError(f"invalid type object: only floating-point types are supported as the default type, got {t!r}")
    _dtype.set_default_dtype(kind.dtype)


def get_num_interop_threads() -> int:
    """What :func:`set_num_interop_threads` was last given: operations never run beside each other here."""
    return _interop_threads


def set_num_interop_threads(count: int) -> None:
    """Accepted: operations never run beside each other here."""
    global _interop_threads
    if count < 1:
        raise RuntimeError(f"expected a positive number of threads, but got {count}")
    _interop_threads = count


def set_flush_denormal(mode: bool) -> bool:
    """False: NumPy and generated code keep denormal numbers."""
    return False


def set_warn_always(b: bool) -> None:
    """Whether warnings that PyTorch gives once are to be given each time; Python's own filters decide here."""
    global _warn_always
    _warn_always = bool(b)
    if b:
        warnings.simplefilter("always", UserWarning)


def is_warn_always_enabled() -> bool:
    """What :func:`set_warn_always` was last given."""
    return _warn_always


_DEBUG_MODES = ("default", "warn", "error")
_debug_mode = 0


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """``use_deterministic_algorithms`` by "default", "warn" or "error" (0, 1, 2)."""
    global _debug_mode
    if debug_mode not in (*_DEBUG_MODES, 0, 1, 2):
        raise RuntimeError(f"invalid value of debug_mode, expected `default`, `warn`, `error`, 0, 1 or 2, but got {debug_mode!r}")
    _debug_mode = _DEBUG_MODES.index(debug_mode) if isinstance(debug_mode, str) else debug_mode
    _types.use_deterministic_algorithms(_debug_mode > 0, warn_only=_debug_mode == 1)


def get_deterministic_debug_mode() -> int:
    """What :func:`set_deterministic_debug_mode` was last given, as a number."""
    return _debug_mode


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether :func:`set_deterministic_debug_mode` was last given "warn"."""
    return _debug_mode == 1


def is_inference(input: Tensor) -> bool:  # noqa: A002
    """Whether the tensor was made in inference mode."""
    return input.is_inference()


def is_storage(obj: Any) -> bool:
    """Whether ``obj`` is a storage."""
    from . import storage  # noqa: PLC0415 - few programs have one
    return isinstance(obj, (storage.UntypedStorage, storage.TypedStorage))


def get_device(input: Tensor) -> int:  # noqa: A002
    """The number of the tensor's GPU, -1 on the CPU."""
    return input.get_device()  # type: ignore[attr-defined]


def to_dlpack(tensor: Tensor) -> Any:
    """The tensor's memory as a DLPack capsule."""
    return tensor.__dlpack__()

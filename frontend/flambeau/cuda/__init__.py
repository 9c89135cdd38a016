"""CUDA devices, reached through CuPy (PyTorch: ``torch.cuda``). Without CuPy or a GPU there are none, and nothing fails
until one is used."""

from __future__ import annotations

import importlib.util
from typing import Any

from flambeau.ir.device import as_device
from flambeau.runtime.rng import default_generator
from flambeau.runtime.storage import cupy


def is_available() -> bool:
    """Whether a CUDA device can be used."""
    return device_count() > 0


def device_count() -> int:
    """How many CUDA devices there are."""
    if importlib.util.find_spec("cupy") is None:
        return 0
    try:
        return int(cupy().cuda.runtime.getDeviceCount())
    except RuntimeError:
        return 0


def is_initialized() -> bool:
    """Whether a device is in use."""
    return is_available()


def current_device() -> int:
    """The number of the current device. Raises ``RuntimeError`` without one."""
    return int(cupy().cuda.Device().id)


def set_device(device: Any) -> None:
    """Make ``device`` the current one."""
    cupy().cuda.Device(as_device(device).index or 0).use()


def synchronize(device: Any = None) -> None:
    """Wait for all work on the device."""
    cupy().cuda.Device(None if device is None else as_device(device).index).synchronize()


def get_device_name(device: Any = None) -> str:
    """The device's name."""
    number = current_device() if device is None else as_device(device).index or 0
    return cupy().cuda.runtime.getDeviceProperties(number)["name"].decode()


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability as (major, minor)."""
    number = current_device() if device is None else as_device(device).index or 0
    text = cupy().cuda.Device(number).compute_capability
    return int(text[:-1]), int(text[-1])


def memory_allocated(device: Any = None) -> int:
    """Bytes in use by tensors."""
    return int(cupy().get_default_memory_pool().used_bytes()) if is_available() else 0


def empty_cache() -> None:
    """Return unused memory of the pool to the device."""
    if is_available():
        cupy().get_default_memory_pool().free_all_blocks()


def manual_seed(seed: int) -> None:
    """Seed the generator: numbers are drawn on the CPU and copied, so there is one for all devices."""
    if is_available():
        default_generator().manual_seed(seed)


manual_seed_all = manual_seed

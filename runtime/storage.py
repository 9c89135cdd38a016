"""Who owns the bytes: a Storage is shared by a tensor and all its views."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.ir import device as _device
from flambeau.ir.device import Device


class Storage:
    """The bytes behind one or several tensors.

    ``array`` is the array that owns them; ``version`` counts in-place writes (autograd compares it with what it saved);
    ``device`` is where they are.
    """

    version = 0  # attributes of the class, as most storages never leave them and are made in great number
    device: Device = _device.cpu
    pointer: int | None = None  # for compiled code: the address of a row-major array, 0 for others, None: not asked yet

    def __init__(self, array: Any, device: Device = _device.cpu) -> None:
        self.array = array
        if device is not _device.cpu:
            self.device = device


_cupy: Any = None


def cupy() -> Any:
    """CuPy. Raises ``RuntimeError`` naming the remedy when it is not installed or finds no GPU."""
    global _cupy
    if _cupy is None:
        try:
            import cupy as found  # noqa: PLC0415
            found.cuda.runtime.getDeviceCount()
        except ImportError:
            raise RuntimeError("flambeau reaches a CUDA device through CuPy, which is not installed: "
                               "pip install 'flambeau[gpu]'") from None
        except Exception as error:
            raise RuntimeError(f"No CUDA device is available: {error}") from None
        _cupy = found
    return _cupy


def array_module(device: Device) -> Any:
    """NumPy, or CuPy for a CUDA device."""
    if device.type == "cuda":
        return cupy()
    if device.type == "meta":
        raise NotImplementedError("tensors on the meta device have no data; make them on 'cpu' to compute")
    return np


def to_device(array: Any, source: Device, target: Device) -> Any:
    """``array`` copied from one device to the other."""
    if source.type == "cuda" and target.type == "cpu":
        return cupy().asnumpy(array)
    if target.type == "cuda":
        cp = cupy()
        with cp.cuda.Device(target.index or 0):
            return cp.asarray(array)
    return array.copy()

"""The CUDA driver API by ctypes: context, modules, launches, events. No toolkit, no torch, no compiler.

CuPy owns the arrays and the streams; this module only loads cubins and launches their functions in the device's
primary context, which CuPy uses too. ``FLAMBEAU_LIBCUDA`` names another library than ``libcuda.so.1``.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from typing import Any

_LIBRARY = "libcuda.so.1"
_STATIC_SHARED_LIMIT = 48 * 1024          # above it a kernel must opt in
_MAX_DYNAMIC_SHARED = 8                   # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_COMPUTE_CAPABILITY = (75, 76)            # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_{MAJOR,MINOR}
_SHARED_OPTIN = 97                        # CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
_MULTIPROCESSORS = 16                     # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT

_C_TYPES: dict[str, Any] = {
    "i1": ctypes.c_int8, "i8": ctypes.c_int8, "u8": ctypes.c_uint8, "i16": ctypes.c_int16, "u16": ctypes.c_uint16,
    "i32": ctypes.c_int32, "u32": ctypes.c_uint32, "i64": ctypes.c_int64, "u64": ctypes.c_uint64,
    "fp32": ctypes.c_float, "fp64": ctypes.c_double,
}


class CudaError(RuntimeError):
    """A driver call failed; the message names the call, the error and the driver's own words."""


class CudaUnavailable(CudaError):
    """There is no driver library, or no device."""


class Device:
    """One GPU and its primary context, which is made current for the calling thread by :meth:`activate`."""

    def __init__(self, index: int = 0) -> None:
        driver = _driver()
        handle, context = ctypes.c_int(), ctypes.c_void_p()
        driver.call("cuDeviceGet", ctypes.byref(handle), index)
        driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle)
        self.index = index
        self._driver, self._handle, self._context = driver, handle, context

    def activate(self) -> None:
        """Make this device's context the current one of the calling thread."""
        self._driver.call("cuCtxSetCurrent", self._context)

    @functools.cached_property
    def name(self) -> str:
        text = ctypes.create_string_buffer(256)
        self._driver.call("cuDeviceGetName", text, len(text), self._handle)
        return text.value.decode()

    @functools.cached_property
    def capability(self) -> tuple[int, int]:
        """``(9, 0)`` for a Hopper GPU."""
        major, minor = (self._attribute(number) for number in _COMPUTE_CAPABILITY)
        return major, minor

    @property
    def target(self) -> str:
        """The name under which kernels are compiled for this device: ``"cuda:90"``."""
        major, minor = self.capability
        return f"cuda:{major * 10 + minor}"

    @functools.cached_property
    def max_shared(self) -> int:
        """The most dynamic shared memory a block can opt in to, in bytes."""
        return self._attribute(_SHARED_OPTIN)

    @functools.cached_property
    def multiprocessors(self) -> int:
        return self._attribute(_MULTIPROCESSORS)

    def synchronize(self) -> None:
        """Wait for all work of the context."""
        self.activate()
        self._driver.call("cuCtxSynchronize")

    def load(self, image: bytes) -> Module:
        """Load a cubin, or PTX text as bytes, into this device's context."""
        self.activate()
        return Module(self, image)

    def event(self) -> Event:
        self.activate()
        return Event(self)

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self._driver.call("cuDeviceGetAttribute", ctypes.byref(value), number, self._handle)
        return value.value


class Module:
    """A loaded binary. Unloaded when no Function of it is left."""

    def __init__(self, device: Device, image: bytes) -> None:
        self.device = device
        self._driver = device._driver
        self._handle = ctypes.c_void_p()
        self._driver.call("cuModuleLoadData", ctypes.byref(self._handle), ctypes.c_char_p(image))

    def function(self, name: str, params: Sequence[str], *, threads: int, shared: int = 0) -> Function:
        """The kernel ``name``. ``params`` are its types in order, as Triton spells them: ``"*fp32"``, ``"i32"``."""
        return Function(self, name, params, threads, shared)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            try:
                self._driver.call("cuModuleUnload", self._handle)
            except (CudaError, TypeError):        # the driver, or the interpreter, is already shutting down
                pass


class Function:
    """A kernel ready to launch.

    A Triton binary takes its runtime arguments in order and then two pointers to scratch memory, null here: kernels
    that need scratch are refused when they are built. The argument block is packed once and refilled at each launch,
    so one Function must not be launched from two threads at once.
    """

    def __init__(self, module: Module, name: str, params: Sequence[str], threads: int, shared: int) -> None:
        device = module.device
        if shared > device.max_shared:
            raise CudaError(f"{name} needs {shared} bytes of shared memory, {device.name} allows {device.max_shared}")
        self.name, self.threads, self.shared = name, threads, shared
        self._module, self._driver = module, module._driver
        self._handle = ctypes.c_void_p()
        self._driver.call("cuModuleGetFunction", ctypes.byref(self._handle), module._handle, name.encode())
        if shared > _STATIC_SHARED_LIMIT:
            self._driver.call("cuFuncSetAttribute", self._handle, _MAX_DYNAMIC_SHARED, shared)
        self._slots = [_slot(kind, name) for kind in params]
        block = [*self._slots, ctypes.c_uint64(0), ctypes.c_uint64(0)]
        self._block = block
        self._pointers = (ctypes.c_void_p * len(block))(*(ctypes.addressof(slot) for slot in block))
        self._launch = self._driver.entry("cuLaunchKernel")

    def launch(self, grid: Sequence[int], args: Sequence[int | float], stream: int = 0) -> None:
        """Enqueue the kernel: device addresses and numbers in ``args``, at most three grid sizes.

        An empty grid does nothing. Raises TypeError for a wrong number of arguments, CudaError from the driver.
        """
        if len(args) != len(self._slots):
            raise TypeError(f"{self.name} takes {len(self._slots)} arguments, got {len(args)}")
        for slot, value in zip(self._slots, args):
            slot.value = value
        x, y, z = (*grid, 1, 1, 1)[:3]
        if 0 in (x, y, z):
            return
        status = self._launch(self._handle, x, y, z, self.threads, 1, 1, self.shared, stream, self._pointers, None)
        if status:
            raise self._driver.error("cuLaunchKernel", status)


class Event:
    """A point in a stream, for timing on the device's own clock."""

    def __init__(self, device: Device) -> None:
        self._driver = device._driver
        self._handle = ctypes.c_void_p()
        self._driver.call("cuEventCreate", ctypes.byref(self._handle), 0)

    def record(self, stream: int = 0) -> None:
        self._driver.call("cuEventRecord", self._handle, ctypes.c_void_p(stream))

    def synchronize(self) -> None:
        self._driver.call("cuEventSynchronize", self._handle)

    def milliseconds_since(self, earlier: Event) -> float:
        """Time between two recorded and finished events."""
        value = ctypes.c_float()
        self._driver.call("cuEventElapsedTime", ctypes.byref(value), earlier._handle, self._handle)
        return value.value

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            try:
                self._driver.call("cuEventDestroy_v2", self._handle)
            except (CudaError, TypeError):        # as for Module
                pass


def device_count() -> int:
    """Number of GPUs the driver shows; 0 without a driver."""
    try:
        driver = _driver()
    except CudaUnavailable:
        return 0
    count = ctypes.c_int()
    driver.call("cuDeviceGetCount", ctypes.byref(count))
    return count.value


@functools.cache
def device(index: int = 0) -> Device:
    """GPU ``index``. Raises CudaUnavailable without a driver, CudaError for an index that does not exist."""
    return Device(index)


def _slot(kind: str, kernel: str) -> Any:
    if kind.startswith("*"):
        return ctypes.c_uint64()
    if kind not in _C_TYPES:
        raise CudaError(f"{kernel}: a parameter of type {kind!r} cannot be passed by value")
    return _C_TYPES[kind]()


class _Driver:
    """The library, initialised. ``call`` checks the status that each entry point returns."""

    def __init__(self, path: str) -> None:
        try:
            self._library = ctypes.CDLL(path)
        except OSError as error:
            raise CudaUnavailable(f"no CUDA driver: {error}") from error
        self.entry("cuLaunchKernel").argtypes = (
            [ctypes.c_void_p] + [ctypes.c_uint] * 7 + [ctypes.c_void_p] * 3)
        status = self.entry("cuInit")(0)
        if status:
            raise CudaUnavailable(str(self.error("cuInit", status)))

    def entry(self, name: str) -> Any:
        return getattr(self._library, name)

    def call(self, name: str, *args: Any) -> None:
        status = self.entry(name)(*args)
        if status:
            raise self.error(name, status)

    def error(self, call: str, status: int) -> CudaError:
        name, words = ctypes.c_char_p(), ctypes.c_char_p()
        self.entry("cuGetErrorName")(status, ctypes.byref(name))
        self.entry("cuGetErrorString")(status, ctypes.byref(words))
        label = name.value.decode() if name.value else f"error {status}"
        return CudaError(f"{call}: {label}" + (f" ({words.value.decode()})" if words.value else ""))


@functools.cache
def _driver() -> _Driver:
    return _Driver(os.environ.get("FLAMBEAU_LIBCUDA") or _LIBRARY)

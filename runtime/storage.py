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
    shared: Any = None  # where several processes see these bytes: the mapping (runtime.shared)
    views: list | None = None  # weak references to views off the tape, which a recorded write to their base puts on it
    pointer: int | None = None  # for compiled code: the address of a row-major array, 0 for others, None: not asked yet

    def __init__(self, array: Any, device: Device = _device.cpu) -> None:
        self.array = array
        if device is not _device.cpu:
            self.device = device

    # ---- what PyTorch's UntypedStorage can do

    def flat(self) -> Any:
        """The bytes as a flat uint8 array that shares them: from the first element to the last."""
        array = self.array
        if not array.flags.c_contiguous:
            reach = sum((n - 1) * s for n, s in zip(array.shape, array.strides)) + array.itemsize if array.size else 0
            module = array_module(self.device)
            array = module.lib.stride_tricks.as_strided(array, (reach // array.itemsize,), (array.itemsize,))
        return array.reshape(-1).view(np.uint8)

    def nbytes(self) -> int:
        """The number of bytes."""
        return self.flat().size

    __len__ = size = nbytes

    def data_ptr(self) -> int:
        """Address of the first byte."""
        return self.array.ctypes.data if isinstance(self.array, np.ndarray) else self.array.data.ptr

    def element_size(self) -> int:
        """1."""
        return 1

    def __getitem__(self, index: Any) -> Any:
        found = self.flat()[index]
        return Storage(found, self.device) if isinstance(index, slice) else int(found)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.flat()[index] = value
        self.version += 1

    def tolist(self) -> list[int]:
        """The bytes as ints."""
        return self.flat().tolist()

    def clone(self) -> Storage:
        """A copy."""
        return Storage(self.flat().copy(), self.device)

    def cpu(self) -> Storage:
        """This storage in host memory."""
        return self if self.device.type == "cpu" else Storage(to_device(self.flat(), self.device, _device.cpu))

    def cuda(self, device: Any = None) -> Storage:
        """A copy on a CUDA device."""
        target = _device.as_device("cuda" if device is None else device)
        return Storage(to_device(self.flat(), self.device, target), target)

    def copy_(self, source: Storage, non_blocking: bool = False) -> Storage:
        """Overwrite the bytes. Raises ``ValueError`` for another length."""
        self.flat()[:] = source.flat()
        self.version += 1
        return self

    def fill_(self, value: int) -> Storage:
        """Set every byte."""
        self.flat()[:] = value
        self.version += 1
        return self

    def untyped(self) -> Storage:
        """This storage."""
        return self

    def resizable(self) -> bool:
        """False: tensors look at these very bytes."""
        return False

    def resize_(self, nbytes: int) -> Storage:
        """Only to the present size. Raises ``RuntimeError`` for another one."""
        if nbytes != self.nbytes():
            raise RuntimeError(f"a storage of {self.nbytes()} bytes cannot get {nbytes}: tensors look at these very bytes; "
                               "make a new tensor")
        return self

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def is_shared(self) -> bool:
        """Whether other processes can see these bytes."""
        return self.shared is not None or self.is_cuda

    def is_pinned(self, device: Any = None) -> bool:
        """False: host memory is never pinned here."""
        return False

    def __repr__(self) -> str:
        shown = "\n".join(f" {b}" for b in self.tolist())
        return f"{shown}\n[torch.storage.UntypedStorage(device={self.device}) of size {self.nbytes()}]"

    def __copy__(self) -> Storage:
        return self.clone()

    def __deepcopy__(self, memo: dict[int, Any]) -> Storage:
        found = memo.get(id(self))
        if found is None:  # what a copied tensor sees keeps its dtype
            found = memo[id(self)] = Storage(self.array.copy(), self.device)
        return found

    def __reduce__(self) -> tuple:
        return _from_bytes, (self.cpu().flat().tobytes(), str(self.device))


def _from_bytes(data: bytes, device: str) -> Storage:
    host = Storage(np.frombuffer(bytearray(data), np.uint8))
    return host if device == "cpu" else host.cuda(device)


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

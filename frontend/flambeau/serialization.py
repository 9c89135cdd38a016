"""``save`` and ``load`` in PyTorch's zip format: a restricted pickle beside raw storages.

A file is a zip archive of uncompressed members ``NAME/data.pkl`` (the object, with storages replaced by persistent
ids), ``NAME/data/N`` (the bytes of storage N), ``NAME/byteorder`` and ``NAME/version``. Loading never runs code from the
file unless ``weights_only=False`` is asked for by name.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import warnings
import zipfile
from typing import Any

import numpy as np

from flambeau.cuda import device_count
from flambeau.ir.device import Device
from flambeau.runtime.storage import Storage, to_device

from ._archive import Archive, Place, read_legacy, replacing, write_archive
from ._unpickling import (
    AnyReader,
    SafeReader,
    add_safe_globals,
    clear_safe_globals,
    get_safe_globals,
    globals_of,
    is_allowed,
    safe_globals,
)


def save(obj: Any, f: Any, pickle_module: Any = pickle, pickle_protocol: int = 2,
         _use_new_zipfile_serialization: bool = True) -> None:
    """Write ``obj`` to ``f``, a path or a binary file, so that PyTorch reads it too (``torch.save``).

    A path is written atomically: the old file stays until the new one is complete and on the disk. Raises
    ``RuntimeError`` when the folder does not exist, ``AttributeError`` for another kind of ``f``.
    """
    if isinstance(f, (str, os.PathLike)):
        name = os.path.splitext(os.path.basename(os.fspath(f)))[0] or "archive"
        with replacing(f) as file:
            write_archive(obj, file, name, pickle_protocol)
    elif hasattr(f, "write"):
        write_archive(obj, f, "archive", pickle_protocol)
    else:
        raise AttributeError(f"expected 'f' to be string, path, or a file-like object with a 'write' attribute, got {type(f)}")


class _Outside(Exception):
    """Carries an error that is not the file's past the handlers of damage."""


def load(f: Any, map_location: Any = None, pickle_module: Any = None, *, weights_only: bool | None = None,
         mmap: bool | None = None, **pickle_load_args: Any) -> Any:
    """Read what ``save`` (ours or PyTorch's) wrote to ``f``, a path or a binary file (``torch.load``).

    Args:
        map_location: a device, a dict from device names to device names, or a function of (storage on the CPU, location)
            that returns a storage or None.
        weights_only: False builds anything the file asks for, which can run code: do it for files you trust.
        mmap: leave the storages in the file (a path) until they are read; writes stay in memory.

    Otherwise only tensors and plain containers are built, and what :func:`add_safe_globals` was given. Raises
    ``pickle.UnpicklingError`` for names off the list and damaged files, ``FileNotFoundError`` for a missing one.
    """
    if weights_only is False:
        warnings.warn("load(weights_only=False) can run code contained in the file: only do this with files you trust.",
                      FutureWarning, stacklevel=2)
    elif pickle_module is not None:
        raise RuntimeError("Can not safely load weights when explicit pickle_module is specified")
    path = isinstance(f, (str, os.PathLike))
    if mmap and not path:
        raise ValueError("f must be a string or os.PathLike filename in order to use mmap argument")
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(f, "rb")) if path else f
        if not hasattr(file, "read") or not hasattr(file, "seek"):
            raise AttributeError("expected 'f' to be a path or a binary file with 'read' and 'seek'")
        reader = AnyReader if weights_only is False else SafeReader
        try:
            return _read(file, reader, _placer(map_location), bool(mmap))
        except _Outside as error:
            raise error.__cause__ from None  # type: ignore[misc]
        except zipfile.BadZipFile as error:
            raise pickle.UnpicklingError(f"{_shown(f)} is not a PyTorch zip archive, or is damaged or truncated: "
                                         f"{error}") from None
        except pickle.UnpicklingError as error:
            raise pickle.UnpicklingError(f"{_shown(f)}: {error}") from None
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except Exception as error:
            if reader is AnyReader and not isinstance(error, (EOFError, KeyError, IndexError)):
                raise
            raise pickle.UnpicklingError(f"{_shown(f)} is damaged: {type(error).__name__}: {str(error)[:200]}") from error


def _shown(f: Any) -> str:
    return os.fspath(f) if isinstance(f, (str, os.PathLike)) else f"the {type(f).__name__}"


def _read(file: Any, reader: Any, place: Place, mapped: bool) -> Any:
    begin = file.tell()
    signature = file.read(4)
    file.seek(begin)
    if not signature:
        raise EOFError("Ran out of input: the file is empty")
    if signature != b"PK\x03\x04":
        if mapped:
            raise RuntimeError("mmap can only be used with files saved with `torch.save(_use_new_zipfile_serialization=True)`")
        return read_legacy(file, reader, place)
    archive = Archive(file, place, mapped)
    return reader(archive.pickle(), archive.fetch).load()


def _placer(map_location: Any) -> Place:
    """What puts a storage's bytes on the device that ``map_location`` says (None: where they were)."""
    def place(content: np.ndarray, location: str) -> Storage:
        try:
            if callable(map_location):
                moved = map_location(Storage(content), location)
                return default_restore_location(Storage(content), location) if moved is None else moved
            if isinstance(map_location, dict):
                location = str(map_location.get(location, location))
            elif map_location is not None:
                location = str(map_location if isinstance(map_location, Device) else Device(map_location))
            return default_restore_location(Storage(content), location)
        except Exception as error:
            raise _Outside from error
    return place


def default_restore_location(storage: Storage, location: str) -> Storage:
    """``storage`` on the device called ``location``. Raises ``RuntimeError`` for one that is not there."""
    if location == "cpu":
        return storage
    kind = location.partition(":")[0]
    if kind == "cuda":
        if not device_count():
            raise RuntimeError("Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False. If you "
                               "are running on a CPU-only machine, please use torch.load with "
                               "map_location=torch.device('cpu') to map your storages to the CPU.")
        device = Device(location)
        return Storage(to_device(storage.array, Device("cpu"), device), device)
    raise RuntimeError(f"don't know how to restore data location of torch.storage.UntypedStorage (tagged with {location[:40]}): "
                       "give map_location='cpu'")


def get_unsafe_globals_in_checkpoint(f: Any) -> list[str]:
    """The names in a file that ``load`` would not build (``torch.serialization.get_unsafe_globals_in_checkpoint``)."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(f, "rb")) if isinstance(f, (str, os.PathLike)) else f
        archive = Archive(file, lambda content, location: Storage(content))
        return [name for name in globals_of(archive.pickle().getvalue()) if not is_allowed(name)]


__all__ = ["add_safe_globals", "clear_safe_globals", "default_restore_location", "get_safe_globals",
           "get_unsafe_globals_in_checkpoint", "load", "safe_globals", "save"]

"""The containers of PyTorch's files: the zip archive with raw storages in it, and the older row of pickles.

Both are read with every number that the file gives checked against what is there, before memory is taken for it.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pickle import UnpicklingError
from typing import Any, BinaryIO

import numpy as np

from flambeau.ir.dtype import DType
from flambeau.runtime.storage import Storage

from ._pickling import Pickler, owner_bytes

ALIGNMENT = 64  # PyTorch maps storages: they start at multiples of it
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
#: (bytes, location) -> the storage on its device
Place = Callable[[np.ndarray, str], Storage]


# ---- writing ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file that takes ``path``'s place when the block ends well, and leaves nothing behind when it does not.

    A link stays one: what it names is replaced. A device or a pipe is written to: it has no place to be taken.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as file:
            yield file
        return
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise RuntimeError(f"Parent directory {folder} does not exist.")
    handle, temporary = tempfile.mkstemp(prefix=".saving-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode(path))
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    with contextlib.suppress(OSError):  # the new name itself reaches the disk
        there = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(there)
        finally:
            os.close(there)


def _mode(path: str) -> int:
    """The permissions that writing to ``path`` would leave: its own, or those of a new file."""
    if os.path.exists(path):
        return os.stat(path).st_mode & 0o7777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def write_archive(obj: Any, file: BinaryIO, name: str, protocol: int) -> None:
    """Write ``obj`` as members ``name/data.pkl``, ``name/data/0``..."""
    data = io.BytesIO()
    pickler = Pickler(data, protocol)
    pickler.dump(obj)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        def put(member: str, content: Any) -> None:
            info = zipfile.ZipInfo(f"{name}/{member}")
            at = archive.fp.tell() if archive.fp is not None else 0
            padding = -(at + 30 + len(info.filename.encode()) + 4) % ALIGNMENT
            info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
            archive.writestr(info, content)

        put("data.pkl", data.getvalue())
        put(".format_version", b"1")
        put(".storage_alignment", str(ALIGNMENT).encode())
        put("byteorder", b"little")
        for number, storage in pickler.storages.values():
            put(f"data/{number}", owner_bytes(storage).data)
        put("version", b"3\n")


# ---- the zip archive ----------------------------------------------------------------------------------------------


class Archive:
    """A file of ``save``: the pickle, and storages by number. Raises ``UnpicklingError`` for anything not in order."""

    def __init__(self, file: BinaryIO, place: Place, mapped: bool = False) -> None:
        self._file, self._place = file, place
        with zipfile.ZipFile(file) as archive:
            self._members = _members(archive.infolist())
        self._end = file.seek(0, os.SEEK_END)
        self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if mapped else None
        self._loaded: dict[str, tuple[Storage, int]] = {}
        if "constants.pkl" in self._members and "data.pkl" in self._members:
            raise UnpicklingError("the file is a TorchScript archive, a program with its weights. Save the model's state_dict() "
                                  "with torch.save and load that")
        if "data.pkl" not in self._members:
            raise UnpicklingError("the archive has no data.pkl: it is not a file of save()")
        order = self._read("byteorder").tobytes() if "byteorder" in self._members else b"little"
        if order != b"little":
            raise UnpicklingError(f"the file's byte order is {order[:16]!r}: only b'little' is supported")

    def pickle(self) -> io.BytesIO:
        """The object's pickle."""
        return io.BytesIO(self._read("data.pkl").tobytes())

    def fetch(self, key: str, dtype: DType, numel: int, location: str) -> Storage:
        """The storage of that number, made at the first call."""
        wanted = numel * dtype.itemsize
        known = self._loaded.get(key)
        if known is None:
            name = f"data/{key}"
            if name not in self._members:
                raise UnpicklingError(f"the archive lacks storage {key[:40]!r}: the file is damaged")
            self._check_size(key, self._members[name].file_size, wanted)
            content = self._read(name) if self._map is None else self._mapped(name, dtype.itemsize)
            known = self._loaded[key] = self._place(content, location), content.nbytes
        self._check_size(key, known[1], wanted)
        return known[0]

    def _check_size(self, key: str, have: int, wanted: int) -> None:
        if have < wanted:
            raise UnpicklingError(f"storage {key[:40]} has {have} bytes where {wanted} belong: the file is damaged")

    def _read(self, name: str) -> np.ndarray:
        info = self._members[name]
        self._file.seek(self._start(info))
        content = np.empty(info.file_size, np.uint8)
        if hasattr(self._file, "readinto"):
            got = self._file.readinto(content)  # type: ignore[attr-defined]
        else:
            data = self._file.read(info.file_size)
            got = len(data)
            content[:got] = np.frombuffer(data, np.uint8)
        if got != info.file_size:
            raise UnpicklingError(f"{name} ends early: the file is truncated")
        if info.CRC and zlib.crc32(content.data) != info.CRC:  # (PyTorch can be told to write none)
            raise UnpicklingError(f"the checksum of {name} does not fit its content: the file is damaged")
        return content

    def _mapped(self, name: str, itemsize: int) -> np.ndarray:
        info = self._members[name]
        start = self._start(info)
        content = np.frombuffer(self._map, np.uint8, info.file_size, start)  # type: ignore[arg-type]
        return content if start % itemsize == 0 else content.copy()

    def _start(self, info: zipfile.ZipInfo) -> int:
        """Where a member's bytes begin, by its own header, which must agree with the directory."""
        self._file.seek(info.header_offset)
        header = self._file.read(30)
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise UnpicklingError(f"the header of {info.filename[:80]!r} is not where the directory says: the file is damaged")
        name_length, extra_length = struct.unpack("<HH", header[26:30])
        if self._file.read(name_length) != info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437"):
            raise UnpicklingError(f"the header of {info.filename[:80]!r} names another member: the file is damaged")
        start = info.header_offset + 30 + name_length + extra_length
        if start + info.file_size > self._end:
            raise UnpicklingError(f"{info.filename[:80]!r} reaches past the end of the file: it is truncated")
        return start


def _members(infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Members by the name behind the archive's own."""
    found: dict[str, zipfile.ZipInfo] = {}
    prefixes = set()
    for info in infos:
        prefix, slash, name = info.filename.partition("/")
        if not slash or not name:
            continue
        prefixes.add(prefix)
        if name in found:
            raise UnpicklingError(f"the archive has two members {name[:80]!r}: the file is damaged")
        if info.flag_bits & 1:
            raise UnpicklingError("the archive is encrypted: it is not a file of save()")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise UnpicklingError(f"{name[:80]!r} is compressed, which files of save() never are: unpack the archive and "
                                  "pack it again without compression")
        found[name] = info
    if len(prefixes) > 1:
        raise UnpicklingError("the archive holds several files of save(), or is none: its members have different prefixes")
    return found


# ---- the older format ---------------------------------------------------------------------------------------------


def read_legacy(file: BinaryIO, reader: Callable[..., Any], place: Place) -> Any:
    """What PyTorch wrote before 1.6: pickles one after the other, and storages behind them."""
    begin = file.tell()
    head = file.read(262)
    file.seek(begin)
    if head[257:262] == b"ustar":
        raise UnpicklingError("the file is a tar archive as PyTorch wrote before 0.1.10, which is not supported: load it with "
                              "PyTorch and save it again")
    end = file.seek(0, os.SEEK_END)
    file.seek(begin)
    if not head.startswith(b"\x80"):
        raise UnpicklingError("the file is neither a zip archive nor a pickle: it is not a file of save()")
    magic = reader(file).load()
    if type(magic) is not int or magic != _LEGACY_MAGIC:
        raise UnpicklingError("Invalid magic number; corrupt file? It is a pickle, but not one of save()")
    if reader(file).load() != _LEGACY_PROTOCOL:
        raise UnpicklingError("the file has a protocol version of its own: it is damaged")
    system = reader(file).load()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UnpicklingError("the file holds big-endian data, which is not supported")
    buffers: dict[str, tuple[np.ndarray, Storage, int]] = {}
    taken = 0

    def fetch(key: str, dtype: DType, numel: int, location: str) -> Storage:
        nonlocal taken
        if key not in buffers:
            taken += numel * dtype.itemsize
            if taken > end:
                raise UnpicklingError(f"the file's storages have {taken} bytes or more, and the file only {end}: it is damaged")
            content = np.zeros(numel * dtype.itemsize, np.uint8)
            buffers[key] = content, Storage(content), dtype.itemsize
            places[key] = location
        if buffers[key][0].nbytes != numel * dtype.itemsize:
            raise UnpicklingError(f"storage {key[:40]} has two sizes: the file is damaged")
        return buffers[key][1]

    places: dict[str, str] = {}
    result = reader(file, fetch).load()
    keys = reader(file).load()
    if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys) or sorted(keys) != sorted(buffers):
        raise UnpicklingError("the file's list of storages does not fit its tensors: it is damaged")
    for key in keys:
        content, storage, itemsize = buffers[key]
        count = file.read(8)
        if len(count) < 8 or struct.unpack("<q", count)[0] * itemsize != content.nbytes:
            raise UnpicklingError(f"storage {key[:40]} has another size than its tensors say: the file is damaged")
        data = file.read(content.nbytes)
        if len(data) != content.nbytes:
            raise UnpicklingError(f"storage {key[:40]} ends early: the file is truncated")
        content[:] = np.frombuffer(data, np.uint8)
        moved = place(content, places[key])
        if moved.array is not content:
            raise UnpicklingError("files of PyTorch before 1.6 are loaded to the CPU: give map_location='cpu', and move it then")
    return result

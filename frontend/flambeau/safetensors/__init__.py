"""The safetensors format: named tensors behind a JSON header, with nothing in it that could run.

A file is the header's length (8 bytes, little-endian), the header (``{"name": {"dtype", "shape", "data_offsets"}}``, and
``"__metadata__"``), and the bytes. A header is checked whole before any tensor is made: its size, its types, that the
offsets fit shapes and dtypes and cover the rest of the file without gap or overlap.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from flambeau._archive import replacing
from flambeau.ir import dtype as _dtype
from flambeau.ir.device import as_device
from flambeau.runtime.tensor import Tensor, wrap

_NAMES = {"BOOL": _dtype.bool_, "U8": _dtype.uint8, "I8": _dtype.int8, "I16": _dtype.int16, "I32": _dtype.int32,
          "I64": _dtype.int64, "F16": _dtype.float16, "BF16": _dtype.bfloat16, "F32": _dtype.float32, "F64": _dtype.float64,
          "C64": _dtype.complex64}
_NAME_OF = {d: name for name, d in _NAMES.items()}
_MAX_HEADER = 100_000_000  # as the format's own library has it


class SafetensorError(Exception):
    """A file that is not what the format says."""


# ---- writing ------------------------------------------------------------------------------------------------------


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None) -> tuple[bytes, list[str]]:
    """The header, padded to eight bytes, and the names in the order of their bytes: wide dtypes first, then by name."""
    if metadata is not None and not all(isinstance(k, str) and isinstance(v, str) for k, v in metadata.items()):
        raise TypeError("metadata must be a dict from str to str")
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    entries: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    at = 0
    for name in order:
        t = tensors[name]
        end = at + t.numel() * t.dtype.itemsize
        entries[name] = {"dtype": _NAME_OF[t.dtype], "shape": list(t.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8), order


def _check_tensors(tensors: Any) -> None:
    """Raise ``ValueError``, ``TypeError`` or ``RuntimeError`` for what the format cannot hold or would silently change."""
    if not isinstance(tensors, Mapping):
        raise ValueError(f"Expected a dict of [str, torch.Tensor] but received {type(tensors)}")
    shared: dict[int, list[str]] = {}
    for name, t in tensors.items():
        if not isinstance(name, str):
            raise ValueError(f"names of tensors are str, not {type(name).__name__}")
        if name == "__metadata__":
            raise ValueError("a tensor cannot be called '__metadata__', which is the header's own name")
        if not isinstance(t, Tensor):
            raise ValueError(f"Key `{name}` is invalid, expected torch.Tensor but received {type(t)}")
        if t.dtype not in _NAME_OF:
            raise TypeError(f"dtype {t.dtype} of `{name}` does not exist in safetensors")
        if t.numel():
            shared.setdefault(id(t._storage), []).append(name)
    same = [names for names in shared.values() if len(names) > 1]
    if same:
        raise RuntimeError(f"Some tensors share memory, this will lead to duplicate memory on disk and potential differences "
                           f"when loading them again: {same}. Save one of them, or clone() the others; save_model does that "
                           "for a Module.")
    loose = [name for name, t in tensors.items() if not t.is_contiguous()]
    if loose:
        raise ValueError(f"You are trying to save a non contiguous tensor: `{loose[0]}` which is not allowed. It either means "
                         "you are trying to save tensors which are reference of each other in which case it's recommended to "
                         "save only the full tensors, and reslice at load time, or simply call `.contiguous()` on your "
                         "tensor to pack it before saving.")


def _bytes_of(t: Tensor) -> memoryview:
    array = t.detach().cpu()._a  # type: ignore[attr-defined]
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def save(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The file's bytes. Raises as :func:`save_file` does."""
    _check_tensors(tensors)
    header, order = _header(tensors, metadata)
    return b"".join([struct.pack("<Q", len(header)), header, *(bytes(_bytes_of(tensors[name])) for name in order)])


def save_file(tensors: Mapping[str, Tensor], filename: str | os.PathLike, metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors to a file, atomically.

    Raises ``ValueError`` for tensors that are not contiguous and things that are not tensors, ``RuntimeError`` for tensors
    that share memory, ``TypeError`` for a dtype that the format lacks.
    """
    _check_tensors(tensors)
    header, order = _header(tensors, metadata)
    with replacing(filename) as file:
        file.write(struct.pack("<Q", len(header)))
        file.write(header)
        for name in order:
            file.write(_bytes_of(tensors[name]))


# ---- the header ---------------------------------------------------------------------------------------------------


class Info:
    """What the header says of one tensor."""

    __slots__ = ("dtype", "shape", "begin", "end")

    def __init__(self, dtype: _dtype.DType, shape: tuple[int, ...], begin: int, end: int) -> None:
        self.dtype, self.shape, self.begin, self.end = dtype, shape, begin, end


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        again = next(k for i, (k, _) in enumerate(pairs) if any(k == other for other, _ in pairs[:i]))
        raise SafetensorError(f"Error while deserializing header: InvalidHeaderDeserialization: {again[:80]!r} stands twice")
    return found


def _refuse_constant(text: str) -> Any:
    raise SafetensorError(f"Error while deserializing header: InvalidHeaderDeserialization: {text} is no JSON")


def parse_header(data: Any, size: int) -> tuple[dict[str, Info], dict[str, str] | None, int]:
    """Tensors by name in order of their bytes, the metadata, and where the bytes begin; ``data`` is the file, ``size`` long.

    Raises :class:`SafetensorError`.
    """
    def error(what: str) -> SafetensorError:
        return SafetensorError(f"Error while deserializing header: {what}")

    if size < 8:
        raise error(f"HeaderTooSmall: the file has {size} bytes, fewer than the header's length takes")
    length = struct.unpack("<Q", bytes(data[:8]))[0]
    if length > _MAX_HEADER:
        raise error(f"HeaderTooLarge: {length} bytes, more than {_MAX_HEADER}")
    if 8 + length > size:
        raise error(f"InvalidHeaderLength: the header is to have {length} bytes, and the file {size} in all: it is truncated, or "
                    "no safetensors file")
    text = bytes(data[8:8 + length])
    if not text.startswith(b"{"):
        raise error("InvalidHeaderStart: a header begins with {")
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_refuse_constant)
    except UnicodeDecodeError as bad:
        raise error(f"InvalidHeader: {bad}") from None
    except (ValueError, RecursionError) as bad:
        raise error(f"InvalidHeaderDeserialization: {bad}") from None
    metadata = header.pop("__metadata__", None)
    if metadata is not None and not (isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())):
        raise error("InvalidHeaderDeserialization: __metadata__ is not a dict from str to str")
    infos = {name: _info(name, entry, error) for name, entry in header.items()}
    infos = dict(sorted(infos.items(), key=lambda item: (item[1].begin, item[1].end)))
    at = 0
    for name, info in infos.items():
        if info.begin != at:
            raise error(f"InvalidOffset: {name[:80]!r} begins at {info.begin}, where {at} was expected: a gap or an overlap")
        at = info.end
    if 8 + length + at != size:
        raise error(f"MetadataIncompleteBuffer: the tensors have {at} bytes and the file {size - 8 - length} behind its header")
    return infos, metadata, 8 + length


def _info(name: str, entry: Any, error: Any) -> Info:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise error(f"InvalidHeaderDeserialization: {name[:80]!r} does not have just dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _NAMES:
        raise error(f"InvalidHeaderDeserialization: the dtype {str(kind)[:40]!r} of {name[:80]!r} is unknown or not supported; "
                    f"there are {', '.join(_NAMES)}")
    if not isinstance(shape, list) or not all(_is_size(n) for n in shape) or len(shape) > 64:
        raise error(f"InvalidHeaderDeserialization: the shape of {name[:80]!r} is not a list of sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_size(n) for n in offsets):
        raise error(f"InvalidHeaderDeserialization: data_offsets of {name[:80]!r} are not two positions")
    begin, end = offsets
    wanted = math.prod(shape) * _NAMES[kind].itemsize
    if begin > end or end - begin != wanted:
        raise error(f"TensorInvalidInfo: {name[:80]!r} of shape {shape[:8]} in {kind} takes {wanted} bytes, and data_offsets "
                    f"give it {end - begin}")
    return Info(_NAMES[kind], tuple(shape), begin, end)


def _is_size(n: Any) -> bool:
    return type(n) is int and 0 <= n < 1 << 63


# ---- reading ------------------------------------------------------------------------------------------------------


def _tensor(buffer: Any, start: int, info: Info, device: Any) -> Tensor:
    at = start + info.begin
    array = np.frombuffer(buffer, info.dtype.np, math.prod(info.shape), at) if info.end > info.begin else np.empty(
        0, info.dtype.np)
    if not array.flags.aligned or not array.flags.writeable:
        array = array.copy()
    t = wrap(array.reshape(info.shape))
    return t if device.type == "cpu" else t.to(device)  # type: ignore[attr-defined]


def load(data: bytes, device: Any = "cpu") -> dict[str, Tensor]:
    """The tensors in a file's bytes. Raises :class:`SafetensorError`."""
    infos, _, start = parse_header(data, len(data))
    return {name: _tensor(data, start, info, as_device(device)) for name, info in infos.items()}


def load_file(filename: str | os.PathLike, device: Any = "cpu") -> dict[str, Tensor]:
    """The tensors in a file, which is mapped: what is never looked at is never read. Writes stay in memory.

    Raises :class:`SafetensorError`, ``FileNotFoundError``.
    """
    with safe_open(filename, "pt", device) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict


class safe_open:  # noqa: N801 - the format's own name
    """A safetensors file, opened to read single tensors or parts of them.

    ``framework`` is "pt" (tensors) or "np" (arrays). Raises :class:`SafetensorError` for a file that is not in order.
    """

    def __init__(self, filename: str | os.PathLike, framework: str = "pt", device: Any = "cpu") -> None:
        if framework not in ("pt", "torch", "pytorch", "np", "numpy"):
            raise SafetensorError(f"framework {framework} is invalid: 'pt' or 'np'")
        self._arrays, self._device = framework in ("np", "numpy"), as_device(device)
        try:
            with open(filename, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                self._map: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if size else b""
        except FileNotFoundError:
            raise FileNotFoundError(f"No such file or directory: {os.fspath(filename)}") from None
        try:
            self._infos, self._metadata, self._start = parse_header(self._map, size)
        except SafetensorError as error:
            raise SafetensorError(f"{os.fspath(filename)}: {error}") from None

    def __enter__(self) -> safe_open:
        return self

    def __exit__(self, *exc: Any) -> None:
        """Nothing: the map lives as long as a tensor over it."""

    def metadata(self) -> dict[str, str] | None:
        """The header's ``__metadata__``."""
        return self._metadata

    def keys(self) -> list[str]:
        """The names of the tensors, sorted."""
        return sorted(self._infos)

    def offset_keys(self) -> list[str]:
        """The names of the tensors in the order of their bytes."""
        return list(self._infos)

    def _info(self, name: str) -> Info:
        if name not in self._infos:
            raise SafetensorError(f"File does not contain tensor {name}")
        return self._infos[name]

    def get_tensor(self, name: str) -> Any:
        """One tensor. Raises :class:`SafetensorError` for an unknown name."""
        t = _tensor(self._map, self._start, self._info(name), self._device)
        return t.numpy() if self._arrays else t

    def get_slice(self, name: str) -> Slice:
        """One tensor to be indexed: only the part that is asked for is read."""
        return Slice(self, name)


class Slice:
    """A tensor of a file; indexing it reads a part."""

    def __init__(self, file: safe_open, name: str) -> None:
        self._file, self._name, self._info = file, name, file._info(name)

    def get_shape(self) -> list[int]:
        """The whole tensor's shape."""
        return list(self._info.shape)

    def get_dtype(self) -> str:
        """The format's name of the dtype."""
        return _NAME_OF[self._info.dtype]

    def __getitem__(self, index: Any) -> Any:
        found = _tensor(self._file._map, self._file._start, self._info, as_device("cpu"))[index].clone()
        found = found.to(self._file._device)
        return found.numpy() if self._file._arrays else found


__all__ = ["SafetensorError", "load", "load_file", "safe_open", "save", "save_file"]

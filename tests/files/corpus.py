"""Files that are damaged or mean harm, made here: (name, bytes, a word that the error must hold).

Those that mean harm would write the file ``trap`` if anything in them ran.
"""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator

import flambeau as fl

Case = tuple[str, bytes, str]

PROTO = b"\x80\x02"


def command(trap: str) -> str:
    return f"touch {trap}"


def archive(data: bytes, storages: dict[str, bytes] | None = None, prefix: str = "archive", **more: bytes) -> bytes:
    """A file of ``save`` with this pickle and these storages."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr(f"{prefix}/data.pkl", data)
        z.writestr(f"{prefix}/byteorder", b"little")
        for key, content in (storages or {}).items():
            z.writestr(f"{prefix}/data/{key}", content)
        for name, content in more.items():
            z.writestr(f"{prefix}/{name}", content)
        z.writestr(f"{prefix}/version", b"3\n")
    return out.getvalue()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def name(module: str, what: str) -> bytes:
    return f"c{module}\n{what}\n".encode()


def reduce(module: str, what: str, *args: bytes) -> bytes:
    return name(module, what) + b"(" + b"".join(args) + b"tR"


def storage(key: str = "0", numel: int = 4, kind: str = "FloatStorage", location: str = "cpu", tail: bytes = b"") -> bytes:
    return b"(" + text("storage") + name("torch", kind) + text(key) + text(location) + integer(numel) + tail + b"tQ"


def tensor(where: bytes, offset: int = 0, size: tuple = (4,), stride: tuple = (1,), grad: bytes = b"\x89") -> bytes:
    def numbers(values: tuple) -> bytes:
        return b"(" + b"".join(integer(v) if isinstance(v, int) else v for v in values) + b"t"
    return reduce("torch._utils", "_rebuild_tensor_v2", where, integer(offset), numbers(size), numbers(stride), grad,
                  reduce("collections", "OrderedDict"))


FOUR = struct.pack("<4f", 1, 2, 3, 4)


def pickles_that_mean_harm(trap: str) -> Iterator[tuple[str, bytes, str]]:
    """(name, pickle without its frame, word)."""
    shell, never = text(command(trap)), "never allowed"
    yield "os.system", reduce("os", "system", shell), never
    yield "posix.system", reduce("posix", "system", shell), never
    yield "subprocess.Popen", reduce("subprocess", "Popen", b"(" + text("touch") + text(trap) + b"t"), never
    yield "subprocess.check_output", reduce("subprocess", "check_output", b"(" + text("touch") + text(trap) + b"t"), never
    code = text(f"open({trap!r}, 'w').close()")
    yield "builtins.exec", reduce("builtins", "exec", code), never
    yield "builtins.eval", reduce("builtins", "eval", code), never
    yield "builtins.open", reduce("builtins", "open", text(trap), text("w")), never
    yield "builtins.getattr", reduce("builtins", "getattr", name("collections", "OrderedDict"), text("__init__")), never
    yield "__builtin__.eval", reduce("__builtin__", "eval", code), "list of safe names"
    yield "importlib", reduce("importlib", "import_module", text("this")), never
    yield "runpy", reduce("runpy", "run_path", text(trap)), never
    yield "shutil.rmtree", reduce("shutil", "rmtree", text(trap)), never
    yield "operator.methodcaller", reduce("operator", "methodcaller", text("touch")), "list of safe names"
    yield "functools.partial", reduce("functools", "partial", name("os", "system"), shell), "list of safe names"
    yield "numpy.load", reduce("numpy", "load", text(trap)), "list of safe names"
    yield "numpy f2py", reduce("numpy.f2py.crackfortran", "myeval", code), "list of safe names"
    yield "flambeau's own functions", reduce("flambeau", "load", text(trap)), "list of safe names"
    yield "torch.load inside", reduce("torch", "load", text(trap)), "list of safe names"
    yield "torch.hub", reduce("torch.hub", "load", text(trap)), "list of safe names"
    yield "torch.jit", reduce("torch.jit", "load", text(trap)), "list of safe names"
    yield "storage from bytes", reduce("torch.storage", "_load_from_bytes", text("x")), "list of safe names"
    yield "types.FunctionType", reduce("types", "FunctionType"), "list of safe names"
    yield "ctypes", reduce("ctypes", "CDLL", text("libc.so.6")), "list of safe names"
    yield "webbrowser", reduce("webbrowser", "open", text("http://localhost")), "list of safe names"
    yield "socket", reduce("socket", "create_connection"), never
    yield "dotted name", name("collections", "OrderedDict.__init__.__globals__") + b"0N", "list of safe names"
    yield "STACK_GLOBAL", b"\x8c\x02os\x8c\x06system\x93(" + shell + b"tR", never
    yield "STACK_GLOBAL of numbers", b"K\x01K\x02\x93", "STACK_GLOBAL"
    yield "INST", b"(" + shell + b"ios\nsystem\n", "instruction"
    yield "OBJ", b"(" + name("os", "system") + shell + b"o", never
    yield "OBJ of a safe name", b"(" + name("collections", "OrderedDict") + b"o", "instruction"
    yield "EXT1", b"\x82\x01", "instruction"
    yield "EXT4", b"\x84\x01\x00\x00\x00", "instruction"
    yield "NEWOBJ", name("os", "system") + b"(" + shell + b"t\x81", never
    yield "NEWOBJ of a safe name", name("torch", "Tensor") + b")\x81", "create new object"
    yield "NEWOBJ_EX", name("collections", "OrderedDict") + b")}\x92", "instruction"
    yield "call of a dtype", name("torch", "float32") + b")R", "call that is not allowed"
    yield "call of a storage type", name("torch", "FloatStorage") + integer(1 << 40) + b"\x85R", "call that is not allowed"
    yield "call of a class that is a factory", name("builtins", "str") + b")R", "call that is not allowed"
    yield "call of a string", text("os.system") + b"(" + shell + b"tR", "call that is not allowed"
    yield "call with a list", name("collections", "OrderedDict") + b"]R", "call that is not allowed"
    yield "attributes of a list", b"]}" + text("__class__") + b"N" + b"sb", "Can only build"
    yield "attributes of a function", name("collections", "OrderedDict") + b"}b", "Can only build"
    yield "text persistent id", b"Pstorage\n", "instruction"
    yield "persistent id that is no tuple", text("storage") + b"Q", "malformed"
    factory = name("torch._utils", "_rebuild_tensor_v2")
    yield "defaultdict with a function", reduce("collections", "defaultdict", factory), "defaultdict"


def pickles_that_never_end(trap: str) -> Iterator[tuple[str, bytes, str]]:
    """Pickles that ask for memory or time without end."""
    yield "bytearray of a terabyte", reduce("builtins", "bytearray", integer(1 << 40)), "refused"
    yield "BYTEARRAY8 of a terabyte", b"\x96" + struct.pack("<Q", 1 << 40), "instruction"
    nested = b")" + b"".join(b"q\x01h\x01\x86" for _ in range(60))
    yield "key of nested tuples", b"}" + nested + b"Ns", "without measure"
    yield "keys of nested tuples", b"}(" + nested + b"Nu", "without measure"
    yield "set of nested tuples", reduce("builtins", "set", b"]" + nested + b"a"), "without measure"
    yield "OrderedDict of nested tuples", reduce("collections", "OrderedDict", b"]" + nested + b"N\x86a"), "without measure"
    yield "frozenset of nested tuples", b"(" + nested + b"\x91", "without measure"
    yield "string longer than the file", b"X\xff\xff\xff\x7fabc", "damaged"
    yield "BINBYTES8 longer than the file", b"\x8e" + struct.pack("<Q", 1 << 62), "damaged"
    yield "storage of an exabyte", storage(numel=1 << 57), "belong"
    yield "storage of more than all memory", storage(numel=1 << 70), "malformed"


def tensors_that_do_not_fit() -> Iterator[tuple[str, bytes, str]]:
    """Tensors over the sixteen bytes of storage 0 that claim more."""
    yield "size past the storage", tensor(storage(), 0, (5,), (1,)), "past its storage"
    yield "offset past the storage", tensor(storage(), 1), "past its storage"
    yield "stride past the storage", tensor(storage(), 0, (4,), (2,)), "past its storage"
    yield "negative offset", tensor(storage(), -1), "malformed"
    yield "negative size", tensor(storage(), 0, (-1,), (1,)), "malformed"
    yield "negative stride", tensor(storage(), 3, (4,), (-1,)), "malformed"
    yield "size of half an element", tensor(storage(), 0, (pickle.dumps(0.5, 2)[2:-1],), (1,)), "malformed"
    yield "size that is a bool", tensor(storage(), 0, (b"\x88",), (1,)), "malformed"
    yield "more strides than sizes", tensor(storage(), 0, (4,), (1, 1)), "malformed"
    yield "a thousand dimensions", tensor(storage(), 0, (1,) * 1000, (1,) * 1000), "malformed"
    yield "huge strides", tensor(storage(), 0, (2,), (1 << 62,)), "past its storage"
    yield "a size that no array has", tensor(storage(), 0, (1 << 62, 1 << 62), (0, 0)), "damaged"
    yield "storage with too few bytes", tensor(storage(numel=5)), "belong"
    yield "storage with a negative size", tensor(storage(numel=-1)), "malformed"
    yield "storage that is missing", tensor(storage(key="7")), "lacks storage"
    yield "storage outside the archive", tensor(storage(key="../../../etc/passwd")), "lacks storage"
    yield "the pickle as a storage", tensor(storage(key="../data.pkl")), "lacks storage"
    words = text("storage") + text("Float") + text("0") + text("cpu")
    yield "storage of another kind", tensor(b"(" + words + b"K\x04tQ"), "malformed"
    yield "storage that is a part of another", tensor(storage(tail=b"(" + text("0") + b"K\x00K\x02t")), "before 0.4"
    yield "no storage at all", tensor(b"N"), "where a storage belongs"
    yield "integers that require a gradient", tensor(storage(kind="IntStorage"), grad=b"\x88"), "gradients"
    yield "a parameter of a number", reduce("torch._utils", "_rebuild_parameter", b"K\x01", b"\x88", b"N"), "a tensor belongs"
    yield "a sparse tensor", reduce("torch._utils", "_rebuild_sparse_tensor", b"N", b"N"), "list of safe names"
    yield "an unknown layout", reduce("torch.serialization", "_get_layout", text("torch.sparse_coo")), "layout"
    yield "an unknown device", reduce("torch", "device", text("quantum")), "damaged"


def broken_pickles() -> Iterator[tuple[str, bytes, str]]:
    """Pickles that are not well formed."""
    yield "empty pickle", b"", "damaged"
    yield "no STOP", PROTO + b"N", "damaged"
    yield "a protocol of the future", b"\x80\x63N.", "protocol"
    yield "unknown instruction", PROTO + b"\xff.", "damaged"
    yield "empty stack", PROTO + b"R.", "damaged"
    yield "a memo that is not there", PROTO + b"h\x07.", "Memo"
    yield "MARK that never was", PROTO + b"K\x01K\x02t.", "damaged"
    yield "half a number", PROTO + b"J\x01\x02", "damaged"
    yield "a name without an end", PROTO + b"ctorch\nfloa", "list of safe names"
    yield "text that is not UTF-8", PROTO + b"X\x02\x00\x00\x00\xff\xfe.", "damaged"
    yield "an item of a number", PROTO + b"K\x01K\x02K\x03s.", "item"
    yield "a frame past the end", b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.", "exhausted"
    yield "a list as key", PROTO + b"}]Ns.", "damaged"


def whole_file() -> bytes:
    out = io.BytesIO()
    fl.save(collections.OrderedDict(a=fl.arange(100.0), b=[1, "two"], c=fl.ones(3, dtype=fl.int64)), out)
    return out.getvalue()


def damaged_containers() -> Iterator[Case]:
    """Archives that are not in order, and files that are none."""
    good = whole_file()
    member = good.index(b"archive/data/0")
    yield "empty file", b"", "empty"
    yield "one byte", b"P", "not a file of save"
    yield "text", b"hello, this is no model\n" * 20, "not a file of save"
    yield "HTML of a failed download", b"<!DOCTYPE html><html>404</html>", "not a file of save"
    yield "a git-lfs pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "not a file of save"
    yield "zeros", bytes(1000), "not a file of save"
    yield "only the signature", b"PK\x03\x04", "truncated"
    yield "cut in the middle", good[:len(good) // 2], "truncated"
    yield "cut before the directory", good[:good.index(b"PK\x01\x02")], "truncated"
    yield "cut by one byte", good[:-1], "truncated"
    yield "a bit of a storage flipped", flipped(good, member + 200), "checksum"
    yield "a bit of the pickle flipped", flipped(good, good.index(b"collections")), "checksum"
    yield "a member's header gone", good.replace(b"PK\x03\x04", b"PK\x00\x00").replace(b"PK\x00\x00", b"PK\x03\x04", 1), "header"
    yield "a member's header names another", good.replace(b"archive/data/0", b"archive/data/9", 1), "names another"
    yield "no data.pkl", archive(b"N.").replace(b"data.pkl", b"dota.pkl"), "no data.pkl"
    yield "big-endian", archive(PROTO + b"N.").replace(b"little", b"biggie"), "checksum"
    yield "big-endian indeed", rezipped(good, {"archive/byteorder": b"big"}), "byte order"
    yield "a TorchScript program", archive(PROTO + b"N.", **{"constants.pkl": b"x"}), "TorchScript"
    yield "compressed", rezipped(good, {}, zipfile.ZIP_DEFLATED), "compressed"
    yield "a bomb", rezipped(archive(b"N."), {"archive/data.pkl": bytes(50_000_000)}, zipfile.ZIP_DEFLATED), "compressed"
    yield "two pickles", twice(), "two members"
    yield "two archives in one", rezipped(good, {"other/else.pkl": PROTO + b"N."}, add=True), "prefixes"
    yield "an empty archive", rezipped(good, dict.fromkeys(zipfile.ZipFile(io.BytesIO(good)).namelist())), "not a file of save"
    yield "encrypted", good.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00"), "encrypted"
    yield "a directory that points past the end", moved_directory(good), "header"


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1:]


def rezipped(data: bytes, changes: dict, method: int = zipfile.ZIP_STORED, add: bool = False) -> bytes:
    """The archive with members replaced (None: left out)."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w", method) as target:
        for member in source.namelist():
            content = changes.get(member, source.read(member))
            if content is not None:
                target.writestr(member, content)
        for member in changes if add else ():
            target.writestr(member, changes[member])
    return out.getvalue()


def twice() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        z.writestr("archive/data.pkl", PROTO + b"N.")
        z.writestr("archive/data.pkl", PROTO + b"K\x01.")
    return out.getvalue()


def moved_directory(data: bytes) -> bytes:
    """The last entry of the directory says that its member begins elsewhere."""
    at = data.rindex(b"PK\x01\x02")
    offset = struct.unpack("<I", data[at + 42:at + 46])[0]
    last = data[at + 46:].startswith(b"archive/version")
    assert last
    first = data.index(b"PK\x01\x02")
    return data[:first + 42] + struct.pack("<I", offset + 7) + data[first + 46:]


def legacy(*parts: bytes) -> bytes:
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    return magic + b"".join(parts)


def legacy_storage(numel: int = 4) -> bytes:
    return b"(" + text("storage") + name("torch", "FloatStorage") + text("k") + text("cpu") + integer(numel) + b"NtQ"


def old_formats(trap: str) -> Iterator[Case]:
    """PyTorch's older formats, damaged or with harm in them."""
    good = PROTO + tensor(legacy_storage()) + b"."
    keys = pickle.dumps(["k"], 2)
    yield "tar", b"x" * 257 + b"ustar" + bytes(300), "tar archive"
    yield "a plain pickle", pickle.dumps({"a": 1}, 2), "not one of save"
    yield "harm as the first pickle", PROTO + reduce("os", "system", text(command(trap))) + b".", "never allowed"
    yield "old: harm in the object", legacy(PROTO + reduce("os", "system", text(command(trap))) + b"."), "never allowed"
    yield "old: another protocol", pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(7, 2), "protocol"
    yield "old: big-endian", pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2), "big-endian"
    yield "old: nothing behind the header", legacy(), "damaged"
    yield "old: storages left out", legacy(good, keys), "another size"
    yield "old: storages cut", legacy(good, keys, struct.pack("<q", 4), FOUR[:7]), "ends early"
    yield "old: another number of elements", legacy(good, keys, struct.pack("<q", 1 << 40), FOUR), "another size"
    yield "old: unknown keys", legacy(good, pickle.dumps(["z"], 2), struct.pack("<q", 4), FOUR), "list of storages"
    yield "old: a terabyte", legacy(PROTO + tensor(legacy_storage(1 << 40)) + b".", keys), "the file only"


def files_for_load(trap: str) -> Iterator[Case]:
    """All files that ``load`` must refuse."""
    for source in (pickles_that_mean_harm(trap), pickles_that_never_end(trap), tensors_that_do_not_fit()):
        for what, body, word in source:
            yield what, archive(PROTO + body + b".", {"0": FOUR}), word
    for what, body, word in broken_pickles():
        yield what, archive(body), word
    yield from damaged_containers()
    yield from old_formats(trap)


# ---- safetensors ------------------------------------------------------------------------------------------------------


def safetensors(header: str | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    header = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(dtype: str = "F32", shape: str = "[2]", offsets: str = "[0,8]", more: str = "") -> str:
    return f'{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}{more}}}'


def files_for_safetensors() -> Iterator[Case]:
    """All files that ``load_file`` must refuse."""
    eight = bytes(8)
    one: Callable[..., str] = lambda *a, **k: f'{{"a":{entry(*a, **k)}}}'
    yield "empty", b"", "HeaderTooSmall"
    yield "seven bytes", bytes(7), "HeaderTooSmall"
    yield "header longer than the file", safetensors("{}", length=1000), "InvalidHeaderLength"
    yield "header of an exabyte", safetensors("{}", length=1 << 60), "HeaderTooLarge"
    yield "header of all ones", b"\xff" * 16, "HeaderTooLarge"
    yield "no JSON", safetensors("hello!!!"), "InvalidHeaderStart"
    yield "half of JSON", safetensors('{"a":'), "InvalidHeaderDeserialization"
    yield "a list", safetensors("[]"), "InvalidHeaderStart"
    yield "not UTF-8", safetensors(b'{"\xff":1}'), "InvalidHeader"
    yield "NaN in the header", safetensors('{"a":NaN}'), "no JSON"
    yield "nested without end", safetensors('{"a":' + "[" * 100_000), "InvalidHeaderDeserialization"
    yield "a name twice", safetensors(f'{{"a":{entry()},"a":{entry()}}}', eight), "stands twice"
    yield "an unknown dtype", safetensors(one("F99"), eight), "unknown or not supported"
    yield "a dtype that is a number", safetensors('{"a":{"dtype":1,"shape":[2],"data_offsets":[0,8]}}', eight), "unknown"
    yield "a negative size", safetensors(one(shape="[-2]"), eight), "list of sizes"
    yield "half a size", safetensors(one(shape="[2.0]"), eight), "list of sizes"
    yield "a size that is true", safetensors(one(shape="[true,2]"), eight), "list of sizes"
    yield "a shape that is a number", safetensors(one(shape="2"), eight), "list of sizes"
    yield "sizes that overflow", safetensors(one(shape="[4294967296,4294967296,4294967296]"), eight), "TensorInvalidInfo"
    yield "one offset", safetensors(one(offsets="[0]"), eight), "two positions"
    yield "offsets the wrong way round", safetensors(one(offsets="[8,0]"), eight), "TensorInvalidInfo"
    yield "negative offsets", safetensors(one(offsets="[-8,0]"), eight), "two positions"
    yield "bytes that do not fit the shape", safetensors(one(shape="[3]"), eight), "TensorInvalidInfo"
    yield "offsets past the end", safetensors(one(), eight[:4]), "MetadataIncompleteBuffer"
    yield "bytes that nobody owns", safetensors(one(), eight * 2), "MetadataIncompleteBuffer"
    yield "a gap", safetensors(one(offsets="[8,16]"), eight * 2), "InvalidOffset"
    yield "an overlap", safetensors(f'{{"a":{entry()},"b":{entry(offsets="[4,12]")}}}', eight + eight[:4]), "InvalidOffset"
    yield "two tensors in one place", safetensors(f'{{"a":{entry()},"b":{entry()}}}', eight), "InvalidOffset"
    yield "a field too many", safetensors(one(more=',"x":1'), eight), "just dtype"
    yield "a field too few", safetensors('{"a":{"dtype":"F32","shape":[2]}}', eight), "just dtype"
    yield "an entry that is a list", safetensors('{"a":[]}'), "just dtype"
    yield "metadata that is a list", safetensors('{"__metadata__":[]}'), "__metadata__"
    yield "metadata of numbers", safetensors('{"__metadata__":{"a":1}}'), "__metadata__"
    yield "a pickle", pickle.dumps(os.system), "Header"
    yield "a zip archive", whole_file(), "Header"
    yield "compressed", zlib.compress(safetensors(one(), eight)), "Header"

"""What load is told: devices, maps, names it may build; and what stays shared."""

from __future__ import annotations

import collections
import io
import os
import pickle
import pickletools
import struct
import zipfile

import pytest

import flambeau as fl
from flambeau import serialization
from tests.files.corpus import PROTO, archive, integer, legacy, legacy_storage, name, reduce, storage, tensor, text

FOUR = struct.pack("<4f", 1, 2, 3, 4)


def saved(obj):
    buffer = io.BytesIO()
    fl.save(obj, buffer)
    buffer.seek(0)
    return buffer


def test_parameters_keep_class_and_attributes():
    p = fl.nn.Parameter(fl.arange(3.0))
    p.tag, t = "x", fl.ones(2)
    t.note = {"k": 1}
    frozen = fl.nn.Parameter(fl.ones(1), requires_grad=False)
    back = fl.load(saved([p, t, frozen]))
    assert type(back[0]) is fl.nn.Parameter and back[0].requires_grad and back[0].tag == "x" and back[1].note == {"k": 1}
    assert type(back[1]) is fl.Tensor and not back[2].requires_grad


def test_a_state_dict_keeps_its_metadata():
    model = fl.nn.Sequential(fl.nn.Linear(2, 2), fl.nn.BatchNorm1d(2))
    state = fl.load(saved(model.state_dict()))
    assert state._metadata == model.state_dict()._metadata and list(state) == list(model.state_dict())


def test_containers_of_all_kinds():
    obj = {"set": {1, 2}, "counter": collections.Counter("aab"), "default": collections.defaultdict(list, a=[1]), "c": 1 + 2j,
           "bytes": b"\x00\xff", "array": bytearray(b"ab"), (1, "k"): None, "frozen": frozenset([3]), "big": 1 << 100,
           "device": fl.device("cpu"), "size": fl.Size([2, 3])}
    back = fl.load(saved(obj))
    assert back == obj and back["default"].default_factory is list and type(back["size"]) is fl.Size


def test_map_location_takes_all_its_forms():
    file = io.BytesIO(archive(PROTO + tensor(storage(location="cuda:1")) + b".", {"0": FOUR}))

    def load(where):
        file.seek(0)
        return fl.load(file, map_location=where).tolist()

    for where in ("cpu", fl.device("cpu"), {"cuda:1": "cpu"}, lambda s, location: s):
        assert load(where) == [1, 2, 3, 4]
    seen = []
    load(lambda s, location: seen.append((s.nbytes(), location)) or s)
    assert seen == [(16, "cuda:1")]
    with pytest.raises(ZeroDivisionError):
        load(lambda s, location: 1 / 0)
    if not fl.cuda.is_available():
        with pytest.raises(RuntimeError, match="map_location=torch.device\\('cpu'\\)"):
            load(None)


def test_a_mapped_file_is_read_late_and_never_written(tmp_path):
    path = tmp_path / "a.pt"
    fl.save({"a": fl.arange(1000.0), "b": fl.ones(3, dtype=fl.bfloat16)}, path)
    before = path.read_bytes()
    back = fl.load(path, mmap=True)
    back["a"][0] = -5
    assert back["a"][0].item() == -5 and back["b"].tolist() == [1, 1, 1] and path.read_bytes() == before
    os.unlink(path)
    assert back["a"].sum().item() == 499495.0
    with pytest.raises(ValueError, match="filename"):
        fl.load(saved(1), mmap=True)


def test_the_older_format_is_read():
    data = legacy(PROTO + b"}" + text("t") + tensor(legacy_storage(), 1, (3,)) + b"s.", pickle.dumps(["k"], 2),
                  struct.pack("<q", 4), FOUR)
    assert fl.load(io.BytesIO(data))["t"].tolist() == [2, 3, 4]


def test_files_without_checksums_and_untyped_storages_are_read():
    data = archive(PROTO + tensor(storage()) + b".", {"0": FOUR})
    without = bytearray(data)
    for signature, at in ((b"PK\x03\x04", 14), (b"PK\x01\x02", 16)):
        start = -1
        while (start := data.find(signature, start + 1)) >= 0:
            without[start + at:start + at + 4] = bytes(4)
    assert fl.load(io.BytesIO(bytes(without))).tolist() == [1, 2, 3, 4]
    v3 = reduce("torch._utils", "_rebuild_tensor_v3", storage(numel=16, kind="UntypedStorage"), b"K\x01", b"(K\x03t", b"(K\x01t",
                b"\x89", reduce("collections", "OrderedDict"), name("torch", "float32"))
    assert fl.load(io.BytesIO(archive(PROTO + v3 + b".", {"0": FOUR}))).tolist() == [2, 3, 4]


class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return self.x == other.x


def double(x):
    return 2 * x


class Doubled:
    def __reduce__(self):
        return double, (21,)


def test_names_are_allowed_one_by_one():
    file = saved({"p": Point(fl.ones(1))})
    with pytest.raises(pickle.UnpicklingError, match="Point was not an allowed global"):
        fl.load(file)
    file.seek(0)
    with serialization.safe_globals([Point]):
        assert fl.load(file)["p"].x.item() == 1 and serialization.get_safe_globals() == [Point]
    assert serialization.get_safe_globals() == []
    serialization.add_safe_globals([(double, f"{double.__module__}.double")])
    try:
        assert fl.load(saved(Doubled())) == 42
    finally:
        serialization.clear_safe_globals()
    with pytest.raises(pickle.UnpicklingError):
        fl.load(saved(Doubled()))
    with pytest.raises(ValueError, match="length 2"):
        serialization.add_safe_globals([(1, 2, 3)])
    file.seek(0)
    assert serialization.get_unsafe_globals_in_checkpoint(file) == [f"{Point.__module__}.Point"]
    with pytest.raises(RuntimeError, match="pickle_module"):
        fl.load(file, pickle_module=pickle, weights_only=True)


def test_saving_writes_what_pytorch_expects(tmp_path):
    path = tmp_path / "name.pt"
    fl.save({"a": fl.ones(3)}, path)
    with zipfile.ZipFile(path) as z:
        assert z.testzip() is None
        for info in z.infolist():
            assert info.filename.startswith("name/")
            header = path.read_bytes()[info.header_offset:info.header_offset + 30]
            start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
            assert start % 64 == 0
        ops = {op.name for op, _, _ in pickletools.genops(z.read("name/data.pkl"))}
    assert "BINPERSID" in ops and "STACK_GLOBAL" not in ops
    with pytest.raises(RuntimeError, match="does not exist"):
        fl.save(1, tmp_path / "missing" / "a.pt")


def test_a_storage_is_an_object_of_its_own():
    t = fl.arange(4.0)
    s = t.untyped_storage()
    back = fl.load(saved({"s": s, "t": t[1:]}))
    assert isinstance(back["s"], fl.UntypedStorage) and back["s"].nbytes() == 16
    back["t"][0] = 9
    assert back["s"].data_ptr() + 4 == back["t"].data_ptr() and integer(1) == b"K\x01"

"""save and load: what comes back, what is refused, and what a failure leaves behind."""

from __future__ import annotations

import collections
import io
import os
import pickle
import zipfile

import pytest

import flambeau as fl


def round_trip(obj):
    buffer = io.BytesIO()
    fl.save(obj, buffer)
    buffer.seek(0)
    return fl.load(buffer)


DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64",
          "complex128"]


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_comes_back(name):
    t = fl.tensor([[0, 1, 2], [3, 4, 5]]).to(getattr(fl, name))
    back = round_trip(t)
    assert back.dtype is t.dtype and back.tolist() == t.tolist()


def test_containers_views_and_flags_come_back():
    base = fl.arange(12.0).reshape(3, 4)
    obj = collections.OrderedDict(base=base, row=base[1], column=base[:, 1], turned=base.t(), n=3, text="é", none=None,
                                  nested=[(1, 2.5), {"d": fl.float32}], empty=fl.zeros(0, 3),
                                  leaf=fl.ones(2, requires_grad=True), zero=fl.tensor(7), size=base.shape)
    back = round_trip(obj)
    assert type(back) is collections.OrderedDict and list(back) == list(obj)
    for key in ("base", "row", "column", "turned", "empty", "zero"):
        assert back[key].tolist() == obj[key].tolist() and back[key].shape == obj[key].shape
    assert back["turned"].stride() == obj["turned"].stride()
    assert back["leaf"].requires_grad and back["nested"] == [(1, 2.5), {"d": fl.float32}] and back["size"] == base.shape
    back["base"][1, 1] = -1
    assert back["row"][1].item() == -1 and back["column"][1].item() == -1  # views share their storage again


def test_the_same_tensor_twice_is_one_tensor():
    t = fl.ones(2)
    back = round_trip([t, t])
    assert back[0] is back[1]


def test_an_expanded_tensor_keeps_its_values():
    t = fl.arange(3.0).reshape(3, 1).expand(3, 4)
    assert round_trip(t).tolist() == t.tolist()


def test_saving_to_a_path_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    fl.save({"a": fl.ones(2)}, path)

    class Unpicklable:
        def __reduce__(self):
            raise RuntimeError("cannot be pickled")

    with pytest.raises(RuntimeError, match="cannot be pickled"):
        fl.save({"a": fl.zeros(2), "b": Unpicklable()}, path)
    assert fl.load(path)["a"].tolist() == [1, 1]
    assert os.listdir(tmp_path) == ["model.pt"]


@pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX")
def test_what_is_no_plain_file_stays_what_it_is(tmp_path):
    there, link, pipe = tmp_path / "there.pt", tmp_path / "link.pt", tmp_path / "pipe"
    there.touch(mode=0o640)
    link.symlink_to(there)
    fl.save(fl.ones(2), link)
    assert link.is_symlink() and fl.load(there).tolist() == [1, 1] and there.stat().st_mode & 0o777 == 0o640
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)          # a tensor's archive fits the pipe
    fl.save(fl.ones(3), pipe)
    assert pipe.is_fifo() and fl.load(io.BytesIO(os.read(end, 1 << 16))).tolist() == [1, 1, 1]
    os.close(end)


def test_loading_never_runs_code(tmp_path):
    mark = tmp_path / "mark"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {mark}",)

    path = tmp_path / "evil.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("evil/data.pkl", pickle.dumps({"x": Evil()}, 2))
    with pytest.raises(pickle.UnpicklingError, match="not on the list of safe names"):
        fl.load(path)
    assert not mark.exists()


def test_damaged_files_are_reported(tmp_path):
    whole = io.BytesIO()
    fl.save({"a": fl.ones(100), "b": [1, 2]}, whole)
    content = whole.getvalue()
    path = tmp_path / "damaged.pt"
    for cut in (0, 1, 10, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:cut])
        with pytest.raises(pickle.UnpicklingError):
            fl.load(path)


def rewritten(tmp_path, change):
    """A saved file with its pickle changed."""
    buffer = io.BytesIO()
    fl.save(fl.arange(4.0), buffer)
    path = tmp_path / "changed.pt"
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, change(data) if name.endswith("data.pkl") else data)
    return path


def test_a_tensor_reaching_past_its_storage_is_refused(tmp_path):
    path = rewritten(tmp_path, lambda data: data.replace(b"K\x04\x85", b"K\x64\x85"))
    with pytest.raises(pickle.UnpicklingError, match="reaches past its storage"):
        fl.load(path)


def test_missing_file_and_wrong_kind():
    with pytest.raises(FileNotFoundError):
        fl.load("no-such-file.pt")
    with pytest.raises(AttributeError):
        fl.load(3)
    with pytest.raises(AttributeError):
        fl.save(fl.ones(1), 3)


class Custom:
    def __init__(self, x):
        self.x = x


def test_other_classes_need_to_be_asked_for():
    buffer = io.BytesIO()
    fl.save(Custom(fl.ones(2)), buffer)
    buffer.seek(0)
    with pytest.raises(pickle.UnpicklingError, match="weights_only=False"):
        fl.load(buffer)
    buffer.seek(0)
    with pytest.warns(FutureWarning, match="run code"):
        assert fl.load(buffer, weights_only=False).x.tolist() == [1, 1]

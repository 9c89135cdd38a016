"""Tensors handed to PyTorch and taken from it by DLPack and NumPy, and files of both."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import flambeau as fl

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.peer

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64"]


@pytest.mark.parametrize("name", DTYPES)
def test_dlpack_both_ways(name):
    ours = fl.tensor([[0, 1, 1], [1, 0, 1]]).to(getattr(fl, name)).t()
    theirs = torch.from_dlpack(ours)
    assert theirs.dtype is getattr(torch, name) and theirs.tolist() == ours.tolist() and theirs.data_ptr() == ours.data_ptr()
    assert theirs.stride() == ours.stride()
    back = fl.from_dlpack(theirs)
    assert back.dtype is ours.dtype and back.data_ptr() == ours.data_ptr() and back.stride() == ours.stride()
    assert fl.from_dlpack(torch.utils.dlpack.to_dlpack(theirs)).tolist() == ours.tolist()
    assert fl.asarray(theirs).data_ptr() == ours.data_ptr()


def test_numpy_sits_between():
    theirs = torch.from_numpy(fl.arange(3.0).numpy())
    assert fl.as_tensor(theirs.numpy()).tolist() == [0, 1, 2]


@pytest.mark.parametrize("make", [
    lambda t: t.asarray([1, 2], copy=False), lambda t: t.asarray(np.ones(2), dtype=t.float32, copy=False),
    lambda t: t.frombuffer(bytearray(b"abc"), dtype=t.int16), lambda t: t.frombuffer(bytearray(b"abcd"), dtype=t.int16, count=3),
    lambda t: t.frombuffer(bytearray(b"abcd"), dtype=t.int16, offset=5), lambda t: t.frombuffer(bytearray(), dtype=t.int16),
    lambda t: t.from_numpy(np.ones(2, ">f4")), lambda t: t.from_numpy([1]), lambda t: t.ones(2, requires_grad=True).numpy(),
    lambda t: t.ones(2, requires_grad=True).__dlpack__(), lambda t: np.asarray(t.ones(2, requires_grad=True))])
def test_errors_are_the_same(make):
    with pytest.raises(Exception) as theirs:
        make(torch)
    with pytest.raises(Exception) as ours:
        make(fl)
    assert type(ours.value) is type(theirs.value) and str(ours.value) == str(theirs.value)


def test_torch_reads_attributes_parameters_and_storages(tmp_path):
    p = fl.nn.Parameter(fl.arange(3.0))
    p.tag = "x"
    t = fl.ones(2)
    t.note = 3
    fl.save({"p": p, "t": t, "s": t.untyped_storage(), "grad": fl.ones(1, requires_grad=True)}, tmp_path / "a.pt")
    back = torch.load(tmp_path / "a.pt")
    assert isinstance(back["p"], torch.nn.Parameter) and back["p"].tag == "x" and back["t"].note == 3
    assert back["s"].data_ptr() == back["t"].data_ptr() and back["grad"].requires_grad
    mapped = torch.load(tmp_path / "a.pt", mmap=True)
    assert mapped["p"].tolist() == [0, 1, 2]


def test_flambeau_reads_what_torch_writes_in_all_ways(tmp_path):
    p = torch.nn.Parameter(torch.arange(3.0))
    p.tag = "x"
    t = torch.arange(6.0).view(2, 3)
    t.note = 3
    obj = {"p": p, "t": t, "view": t.t()[1:], "s": torch.UntypedStorage([1, 2]), "layout": torch.strided,
           "set": {1}, "dtype": torch.int8}
    torch.save(obj, tmp_path / "new.pt")
    torch.save(obj, tmp_path / "proto4.pt", pickle_protocol=4)
    torch.save({k: v for k, v in obj.items() if k != "s"}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(obj, tmp_path / "nocrc.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    for name, mapped in (("new", False), ("new", True), ("proto4", False), ("nocrc", False), ("old", False)):
        back = fl.load(tmp_path / f"{name}.pt", mmap=mapped)
        assert type(back["p"]) is fl.nn.Parameter and back["p"].tag == "x" and back["t"].note == 3, name
        assert back["view"].tolist() == t.t()[1:].tolist() and back["view"].stride() == (1, 3)
        assert back["view"].untyped_storage() is back["t"].untyped_storage() and back["dtype"] is fl.int8
        if name != "old":
            assert back["s"].tolist() == [1, 2]
    with pytest.warns(FutureWarning):
        assert fl.load(tmp_path / "new.pt", weights_only=False)["t"].tolist() == t.tolist()


def test_a_module_and_its_optimizer_go_on_in_the_other_library(tmp_path):
    def train(t, start=None):
        t.manual_seed(0)
        model = t.nn.Sequential(t.nn.Linear(3, 4), t.nn.Tanh(), t.nn.BatchNorm1d(4), t.nn.Linear(4, 1))
        optimizer = t.optim.Adam(model.parameters(), lr=0.1)
        x = t.arange(12.0).view(4, 3) / 10
        if start is not None:
            model.load_state_dict(start["model"])
            optimizer.load_state_dict(start["optimizer"])
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
        return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, model(x).sum().item()

    for here, there in ((fl, torch), (torch, fl)):
        state, _ = train(here)
        here.save(state, tmp_path / "s.pt")
        assert train(there, there.load(tmp_path / "s.pt"))[1] == pytest.approx(train(here, state)[1], rel=1e-4)


def test_error_type_for_a_foreign_class(tmp_path):
    torch.save({"x": pytest.approx}, tmp_path / "a.pt")
    for t in (torch, fl):
        with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
            t.load(tmp_path / "a.pt")


def test_safetensors_are_those_of_the_package(tmp_path):
    package = pytest.importorskip("safetensors.torch")
    ours = {"w": fl.arange(6.0).view(2, 3), "b": fl.ones(3, dtype=fl.bfloat16), "i": fl.tensor([1, -2]), "e": fl.zeros(0, 2),
            "flag": fl.tensor([True, False]), "s": fl.tensor(2.5, dtype=fl.float64)}
    theirs = {k: torch.tensor(v.tolist(), dtype=getattr(torch, str(v.dtype)[6:])).reshape(v.shape) for k, v in ours.items()}
    fl.safetensors.save_file(ours, tmp_path / "o.st", {"k": "v"})
    package.save_file(theirs, tmp_path / "t.st", {"k": "v"})
    assert (tmp_path / "o.st").read_bytes() == (tmp_path / "t.st").read_bytes()
    back = fl.safetensors.load_file(tmp_path / "t.st")
    assert {k: (str(v.dtype), v.tolist()) for k, v in back.items()} == {k: (str(v.dtype), v.tolist()) for k, v in ours.items()}
    assert package.save(theirs) == fl.safetensors.save(ours)

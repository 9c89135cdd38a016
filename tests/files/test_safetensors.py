"""Reading and writing safetensors, and under the package's own name in scripts for PyTorch."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest

import flambeau as fl
from flambeau import safetensors
from flambeau.safetensors import numpy as arrays
from flambeau.safetensors import torch as tensors


def example():
    return {"w": fl.arange(6.0).view(2, 3), "half": fl.ones(3, dtype=fl.bfloat16), "i": fl.tensor([1, -2]),
            "none": fl.zeros(0, 2), "flag": fl.tensor([True]), "s": fl.tensor(2.5, dtype=fl.float64), "c": fl.tensor([1 + 2j])}


def seen(found):
    return {k: (str(v.dtype), tuple(v.shape), v.tolist()) for k, v in found.items()}


def test_tensors_come_back(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.save_file(example(), path, {"format": "pt"})
    assert seen(safetensors.load_file(path)) == seen(example()) == seen(safetensors.load(safetensors.save(example())))
    assert os.listdir(tmp_path) == ["a.safetensors"]
    length, = struct.unpack("<Q", path.read_bytes()[:8])
    header = json.loads(path.read_bytes()[8:8 + length])
    assert length % 8 == 0 and header["__metadata__"] == {"format": "pt"} and header["half"]["dtype"] == "BF16"


def test_a_file_is_opened_for_parts(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.save_file(example(), path)
    before = path.read_bytes()
    with safetensors.safe_open(path, framework="pt") as file:
        assert file.keys() == sorted(example()) and file.metadata() is None and set(file.offset_keys()) == set(example())
        part = file.get_slice("w")
        assert part.get_shape() == [2, 3] and part.get_dtype() == "F32" and part[:, 1:].tolist() == [[1, 2], [4, 5]]
        file.get_tensor("w")[0, 0] = 9
        with pytest.raises(safetensors.SafetensorError, match="does not contain tensor nothing"):
            file.get_tensor("nothing")
    assert path.read_bytes() == before
    with safetensors.safe_open(path, "np") as file:
        assert isinstance(file.get_tensor("i"), np.ndarray) and file.get_slice("w")[1].tolist() == [3, 4, 5]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        safetensors.load_file(tmp_path / "nowhere")
    with pytest.raises(safetensors.SafetensorError, match="framework"):
        safetensors.safe_open(path, "tf")


def test_what_would_be_lost_is_refused(tmp_path):
    base = fl.arange(6.0).view(2, 3)
    for wrong, error, words in (({"a": base, "b": base[1]}, RuntimeError, "share memory"),
                                ({"a": base.t()}, ValueError, "contiguous"), ({"a": 1}, ValueError, "expected torch.Tensor"),
                                ([base], ValueError, "Expected a dict"),
                                ({1: base}, ValueError, "str"), ({"__metadata__": base}, ValueError, "__metadata__"),
                                ({"a": base.to(fl.complex128)}, TypeError, "complex128")):
        with pytest.raises(error, match=words):
            safetensors.save_file(wrong, tmp_path / "a")
    with pytest.raises(TypeError, match="metadata"):
        safetensors.save_file({"a": base}, tmp_path / "a", {"k": 1})
    assert os.listdir(tmp_path) == []


def test_a_module_with_shared_weights(tmp_path):
    def make():
        model = fl.nn.Sequential(fl.nn.Linear(3, 3), fl.nn.Linear(3, 3))
        model[1].weight = model[0].weight
        return model

    model, other = make(), make()
    path = tmp_path / "m.safetensors"
    tensors.save_model(model, path)
    with safetensors.safe_open(path) as file:
        assert file.keys() == ["0.bias", "0.weight", "1.bias"] and file.metadata() == {"1.weight": "0.weight"}
    assert tensors.load_model(other, path) == ([], [])
    assert other[1].weight is other[0].weight and other[1].weight.tolist() == model[0].weight.tolist()
    with pytest.raises(RuntimeError, match="Missing key"):
        tensors.load_model(fl.nn.Sequential(fl.nn.Linear(3, 3), fl.nn.Linear(3, 3)), path)
    arrays.save_file({"x": np.arange(3)}, path)
    assert arrays.load_file(path)["x"].tolist() == arrays.load(arrays.save({"x": np.arange(3)}))["x"].tolist() == [0, 1, 2]


def test_scripts_import_it_by_the_packages_name(tmp_path):
    code = ("import flambeau; flambeau.as_torch()\nimport torch\nfrom safetensors import safe_open\n"
            "from safetensors.torch import load_file, save_file\nimport safetensors.torch\n"
            f"save_file({{'a': torch.ones(2)}}, {str(tmp_path / 'a')!r})\nprint(load_file({str(tmp_path / 'a')!r}), "
            f"safe_open({str(tmp_path / 'a')!r}, 'pt').keys())")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert out.stdout == "{'a': tensor([1., 1.])} ['a']\n", out.stderr

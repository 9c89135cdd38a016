"""Files exchanged with PyTorch, in both directions."""

from __future__ import annotations

import collections

import pytest

import flambeau as fl

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.peer


def example(t):
    base = t.arange(12.0).reshape(3, 4)
    return collections.OrderedDict(
        base=base, row=base[1], turned=base.t(), half=t.ones(3, dtype=t.bfloat16), flag=t.tensor([True, False]),
        c=t.tensor([1 + 2j]), n=3, nested=[("x", t.zeros(2, dtype=t.int32)), {"k": None}], empty=t.zeros(0, 2))


def flat(obj):
    if hasattr(obj, "tolist"):
        return (str(obj.dtype), tuple(obj.shape), obj.stride(), obj.tolist())
    if isinstance(obj, dict):
        return {k: flat(v) for k, v in obj.items()}
    if isinstance(obj, (list, tuple)):
        return [flat(x) for x in obj]
    return obj


def test_flambeau_reads_what_torch_wrote(tmp_path):
    torch.save(example(torch), tmp_path / "t.pt")
    assert flat(fl.load(tmp_path / "t.pt")) == flat(example(torch))


def test_torch_reads_what_flambeau_wrote(tmp_path):
    fl.save(example(fl), tmp_path / "f.pt")
    back = torch.load(tmp_path / "f.pt")
    assert flat(back) == flat(example(torch))
    assert back["row"].data_ptr() - back["base"].data_ptr() == 16


def test_a_training_state_goes_both_ways(tmp_path):
    def train(t):
        t.manual_seed(0)
        model = t.nn.Sequential(t.nn.Linear(3, 4), t.nn.ReLU(), t.nn.Linear(4, 1))
        optimizer = t.optim.Adam(model.parameters(), lr=0.1)
        model(t.ones(2, 3)).sum().backward()
        optimizer.step()
        return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}

    torch.save(train(torch), tmp_path / "t.pt")
    fl.save(train(fl), tmp_path / "f.pt")
    ours, theirs = fl.load(tmp_path / "t.pt"), torch.load(tmp_path / "f.pt")
    assert list(ours["model"]) == list(theirs["model"])
    for key, value in ours["model"].items():
        assert value.tolist() == pytest.approx(theirs["model"][key].tolist(), rel=1e-5, abs=1e-6) if value.ndim == 1 else (
            value.shape == theirs["model"][key].shape)
    assert ours["optimizer"]["param_groups"] == theirs["optimizer"]["param_groups"]

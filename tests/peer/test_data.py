"""Loaders beside PyTorch: the same seed gives the same order, and workers the same seeds; the same errors."""

from __future__ import annotations

import random

import numpy as np
import pytest

import flambeau as fl
import flambeau.utils.data
import flambeau.utils.data.distributed  # noqa: F401

torch = pytest.importorskip("torch")


pytestmark = pytest.mark.peer


def both(f):
    """What ``f(library)`` gives for each."""
    return f(fl), f(torch)


def plain(x):
    if hasattr(x, "tolist"):
        return x.tolist()
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    return [plain(v) for v in x] if isinstance(x, (list, tuple)) else x


SAMPLERS = {
    "random": lambda d, t: d.RandomSampler(range(10)), "replacement": lambda d, t: d.RandomSampler(range(10), True, 75),
    "more": lambda d, t: d.RandomSampler(range(10), num_samples=25), "subset": lambda d,
    t: d.SubsetRandomSampler([3, 1, 4, 1, 5]),
    "weighted": lambda d, t: d.WeightedRandomSampler([0.1, 0.9, 0.4, 0.7, 3.0, 0.6], 20),
    "weighted once": lambda d, t: d.WeightedRandomSampler([0.1, 0.9, 0.4, 0.7, 3.0, 0.6], 5, False),
    "batch": lambda d, t: d.BatchSampler(d.RandomSampler(range(10)), 3, False),
    "own generator": lambda d, t: d.RandomSampler(range(10), generator=t.Generator().manual_seed(5)),
    "distributed": lambda d, t: d.distributed.DistributedSampler(range(10), 3, 1, seed=4),
    "distributed drop": lambda d, t: d.distributed.DistributedSampler(range(11), 3, 2, drop_last=True)}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers(name):
    def run(t):
        t.manual_seed(11)
        sampler = SAMPLERS[name](t.utils.data, t)
        return [list(sampler), list(sampler), len(sampler), t.rand(1).item()]
    ours, theirs = both(run)
    assert ours == theirs


@pytest.mark.parametrize("kwargs", [
    {"batch_size": 3, "shuffle": True}, {"batch_size": 3, "shuffle": True, "drop_last": True},
    {"batch_size": None, "shuffle": True},
    {"batch_size": 4, "shuffle": True, "num_workers": 2},
    {"batch_size": 4, "shuffle": True, "num_workers": 1, "persistent_workers": True},
    {"batch_size": 2, "shuffle": True, "seeded": True}, {"batch_size": 2, "shuffle": True, "seeded": True, "num_workers": 2}])
def test_order_of_batches_over_two_passes(kwargs):
    def run(t):
        t.manual_seed(3)
        given = {k: v for k, v in kwargs.items() if k != "seeded"}
        if "seeded" in kwargs:
            given["generator"] = t.Generator().manual_seed(8)
        data = t.utils.data.TensorDataset(t.arange(10), t.arange(10.0) * 2)
        loader = t.utils.data.DataLoader(data, **given)
        return [plain(list(loader)), plain(list(loader)), t.rand(2).tolist(), len(loader)]
    ours, theirs = both(run)
    assert ours == theirs


class Noise:
    def __init__(self, t):
        self.t = t

    def __len__(self):
        return 4

    def __getitem__(self, i):
        info = self.t.utils.data.get_worker_info()
        return i, info.id, info.seed, self.t.initial_seed(), random.random(), float(np.random.rand()), self.t.rand(1).item()


def test_workers_draw_the_same_numbers():
    def run(t):
        t.manual_seed(3)
        return plain(list(t.utils.data.DataLoader(Noise(t), None, num_workers=2)))
    ours, theirs = both(run)
    assert ours == theirs


def test_splits_and_collating():
    def run(t):
        t.manual_seed(2)
        d = t.utils.data
        parts = d.random_split(range(10), [0.5, 0.3, 0.2]) + d.random_split(range(7), [3, 4], t.Generator().manual_seed(1))
        batch = d.default_collate([{"a": 1, "b": [1.5, np.arange(2)], "c": ("x", True)}, {"a": 2, "b": [2.5, np.arange(2)],
                                                                                      "c": ("y", False)}])
        converted = d.default_convert({"a": np.arange(3), "b": [np.float32(1)], "c": "s"})
        kinds = [str(batch["a"].dtype), str(batch["b"][0].dtype), str(batch["c"][1].dtype), str(converted["b"][0].dtype)]
        return [plain(list(p)) for p in parts], plain(batch), plain(converted), kinds
    ours, theirs = both(run)
    assert ours == theirs


@pytest.mark.parametrize("wrong", [
    lambda d, t: d.DataLoader(range(3), num_workers=-1), lambda d, t: d.DataLoader(range(3), timeout=-1),
    lambda d, t: d.DataLoader(range(3), prefetch_factor=2), lambda d, t: d.DataLoader(range(3), persistent_workers=True),
    lambda d, t: d.DataLoader(range(3), batch_size=0), lambda d, t: d.DataLoader(range(3), batch_size=None, drop_last=True),
    lambda d, t: d.DataLoader(range(3), sampler=[1], shuffle=True), lambda d,
    t: d.DataLoader(range(3), batch_sampler=[[1]], drop_last=True),
    lambda d, t: d.DataLoader(range(3), multiprocessing_context="fork"), lambda d, t: d.RandomSampler([]),
    lambda d, t: d.RandomSampler([1], replacement=1), lambda d, t: d.WeightedRandomSampler([[1.0]], 2),
    lambda d, t: d.WeightedRandomSampler([1.0], 2, 3), lambda d, t: d.BatchSampler([1], 2.0, False), lambda d,
    t: d.BatchSampler([1], 2, 0),
    lambda d, t: d.random_split(range(3), [1, 1]), lambda d, t: d.random_split(range(3), [-0.5, 1.5]), lambda d,
    t: d.ConcatDataset([]),
    lambda d, t: d.StackDataset(), lambda d, t: d.StackDataset([1], [1, 2]), lambda d, t: d.StackDataset([1], a=[1]),
    lambda d, t: d.ConcatDataset([[1]])[-2], lambda d, t: d.default_collate([object()]), lambda d,
    t: d.default_collate([[1], [1, 2]]),
    lambda d, t: d.default_collate([np.array(["a"])]), lambda d, t: d.TensorDataset(t.ones(2), t.ones(3)),
    lambda d, t: d.distributed.DistributedSampler(range(3), 2, 5), lambda d, t: setattr(d.DataLoader(range(3)), "sampler", 1)])
def test_errors(wrong):
    with pytest.raises(Exception) as theirs:
        wrong(torch.utils.data, torch)
    with pytest.raises(Exception) as ours:
        wrong(fl.utils.data, fl)
    assert type(ours.value) is type(theirs.value)
    assert str(ours.value) == str(theirs.value) or isinstance(theirs.value, AssertionError) or "fork" in str(theirs.value)

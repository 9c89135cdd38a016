"""Loaders: order, batching, seeding, worker processes, and what they do with failures."""

from __future__ import annotations

import numpy as np
import pytest

import flambeau as fl
from flambeau.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    get_worker_info,
    random_split,
)


class Squares(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, i):
        if not 0 <= i < 10:
            raise IndexError(i)
        return i, float(i * i)


class Counting(IterableDataset):
    """Each worker gives every n-th number."""

    def __iter__(self):
        info = get_worker_info()
        start, step = (0, 1) if info is None else (info.id, info.num_workers)
        return iter(range(start, 11, step))


class Failing(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        if i == 2:
            raise KeyError("item two is broken")
        return i


def firsts(loader):
    return [batch[0].tolist() for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order(workers):
    batches = list(DataLoader(Squares(), batch_size=4, num_workers=workers))
    assert [b[0].tolist() for b in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batches[0][0].dtype is fl.int64 and batches[0][1].dtype is fl.float64
    assert batches[1][1].tolist() == [16.0, 25.0, 36.0, 49.0]


@pytest.mark.parametrize("workers", [0, 2])
def test_shuffling_is_seeded_and_complete(workers):
    def order(seed):
        fl.manual_seed(seed)
        return sum(firsts(DataLoader(Squares(), batch_size=3, shuffle=True, num_workers=workers)), [])

    assert order(1) == order(1) != order(2)
    assert sorted(order(3)) == list(range(10))


def test_a_generator_of_its_own_leaves_the_global_one_alone():
    g = fl.Generator().manual_seed(5)
    fl.manual_seed(0)
    before = fl.get_rng_state().tolist()
    first = firsts(DataLoader(Squares(), shuffle=True, generator=g))
    assert fl.get_rng_state().tolist() == before
    assert firsts(DataLoader(Squares(), shuffle=True, generator=g.manual_seed(5))) == first


def test_drop_last_and_lengths():
    assert len(DataLoader(Squares(), batch_size=4)) == 3
    assert len(DataLoader(Squares(), batch_size=4, drop_last=True)) == 2
    assert firsts(DataLoader(Squares(), batch_size=4, drop_last=True)) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_no_batching_gives_items():
    assert list(DataLoader(Squares(), batch_size=None))[3] == (3, 9.0)


@pytest.mark.parametrize("workers", [0, 2])
def test_streams_are_shared_out_among_workers(workers):
    seen = sum((b.tolist() for b in DataLoader(Counting(), batch_size=2, num_workers=workers)), [])
    assert sorted(seen) == list(range(11))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_item_that_fails_raises_its_own_error(workers):
    with pytest.raises(KeyError, match="item two is broken"):
        list(DataLoader(Failing(), num_workers=workers))


def test_persistent_workers_forget_an_abandoned_pass():
    loader = DataLoader(Squares(), batch_size=2, num_workers=2, persistent_workers=True)
    for _ in loader:
        break
    assert firsts(loader) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    loader._iterator.stop()


def _mark(worker):
    fl.utils.data.worker.mark = worker


class Marked(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, i):
        return fl.utils.data.worker.mark


def test_worker_init_runs_in_each_worker():
    assert [b.item() for b in DataLoader(Marked(), num_workers=2, worker_init_fn=_mark)] == [0, 1]


def test_collate_keeps_structure():
    batch = default_collate([{"x": fl.ones(2), "n": 1, "s": "a"}, {"x": fl.zeros(2), "n": 2, "s": "b"}])
    assert batch["x"].tolist() == [[1, 1], [0, 0]] and batch["n"].tolist() == [1, 2] and batch["s"] == ["a", "b"]
    pair = default_collate([(np.float32(1), np.ones(2)), (np.float32(2), np.zeros(2))])
    assert pair[0].dtype is fl.float32 and pair[1].shape == (2, 2)
    with pytest.raises(RuntimeError, match="equal size"):
        default_collate([[1, 2], [3]])
    with pytest.raises(TypeError, match="must contain tensors"):
        default_collate([object(), object()])


def test_datasets_compose():
    data = TensorDataset(fl.arange(6), fl.arange(6) * 2)
    assert [int(x[1]) for x in Subset(data, [5, 0])] == [10, 0]
    assert len(ConcatDataset([data, data])) == 12 and int((data + data)[7][0]) == 1
    with pytest.raises(AssertionError, match="Size mismatch"):
        TensorDataset(fl.ones(2), fl.ones(3))
    parts = random_split(data, [0.5, 0.5], generator=fl.Generator().manual_seed(0))
    assert sorted(int(x[0]) for part in parts for x in part) == list(range(6))
    with pytest.raises(ValueError, match="does not equal"):
        random_split(data, [1, 2])


def test_samplers():
    assert list(BatchSampler(SequentialSampler(range(5)), 2, True)) == [[0, 1], [2, 3]]
    assert len(list(RandomSampler(range(3), replacement=True, num_samples=40))) == 40
    assert set(WeightedRandomSampler([0.0, 1.0, 0.0], 20)) == {1}


@pytest.mark.parametrize("options", [
    {"num_workers": -1}, {"timeout": -1}, {"prefetch_factor": 2}, {"shuffle": True, "sampler": [0]}, {"batch_size": 0},
    {"batch_sampler": [[0]], "batch_size": 2}, {"batch_size": None, "drop_last": True}, {"persistent_workers": True},
])
def test_options_that_contradict_each_other(options):
    with pytest.raises(ValueError):
        DataLoader(Squares(), **options)


def test_a_stream_cannot_be_shuffled():
    with pytest.raises(ValueError, match="shuffle"):
        DataLoader(Counting(), shuffle=True)

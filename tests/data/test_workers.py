"""Worker processes: shared memory, seeds, failures, passes that are left or go on."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import time
from collections import defaultdict, namedtuple

import numpy as np
import pytest

import flambeau as fl
from flambeau.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    StackDataset,
    Subset,
    TensorDataset,
    default_collate,
    get_worker_info,
    random_split,
)
from flambeau.utils.data.worker import End, pack, unpack


class Images(Dataset):
    """Items large enough for shared memory, in all kinds of containers."""

    def __len__(self):
        return 12

    def __getitem__(self, i):
        return {"image": fl.full((3, 64, 64), float(i)), "array": np.full((50, 50), i, np.int64),
                "half": fl.ones(2000, dtype=fl.bfloat16),
                "label": i, "name": f"item {i}"}


def shared_memory() -> list[str]:
    """What this process has open of memory shared with others."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own is closed by now
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sorted(link for link in links if "memfd:" in link)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_large_batches_come_through_shared_memory(context):
    if context == "spawn" and not __name__.startswith("tests."):
        pytest.skip("the test's module cannot be imported by another process")
    gc.collect()                                          # of what earlier tests left in cycles
    before = shared_memory()
    batches = list(DataLoader(Images(), 4, num_workers=2, multiprocessing_context=context))
    for k, batch in enumerate(batches):
        labels = list(range(4 * k, 4 * k + 4))
        assert batch["image"].shape == (4, 3, 64, 64) and batch["image"][:, 0, 0, 0].tolist() == labels
        assert batch["array"][:, 1, 1].tolist() == labels == batch["label"].tolist() and batch["half"].dtype is fl.bfloat16
        assert batch["name"] == [f"item {i}" for i in labels]
        batch["image"][0] = -1.0                          # it is the program's to write to
        assert batch["image"][0].sum().item() == -3 * 64 * 64
    del batches, batch
    gc.collect()
    assert shared_memory() == before  # nothing is left open


def test_packing_says_where_arrays_are():
    big, small = {"a": fl.arange(100_000.0), "b": [np.arange(7), 3, "x", None]}, (fl.ones(2), np.float64(2))
    message, fd = pack(big, True)
    assert fd is not None and len(message) < 2000
    found = unpack(message)
    os.close(fd)
    assert found["a"].tolist() == big["a"].tolist() and found["b"][0].tolist() == list(range(7)) and found["b"][1:] == [3, "x",
                                                                                                                        None]
    message, fd = pack(small, True)
    assert fd is None and unpack(message)[0].tolist() == [1, 1]
    assert isinstance(unpack(pack(End(), True)[0]), End)
    message, fd = pack(big, False)
    assert fd is None and unpack(message)["a"].tolist() == big["a"].tolist()


class Seeds(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        info = get_worker_info()
        return info.id, info.seed, fl.initial_seed(), random.random(), np.random.rand(), fl.rand(1).item()


def test_workers_are_seeded_each_its_own_way_and_again_the_same():
    fl.manual_seed(3)
    first = list(DataLoader(Seeds(), None, num_workers=2))
    fl.manual_seed(3)
    again = list(DataLoader(Seeds(), None, num_workers=2))
    assert first == again
    assert [row[0] for row in first] == [0, 1, 0, 1] and first[1][1] == first[0][1] + 1 == first[1][2]
    assert len({row[3:] for row in first}) == 4


class Broken(Dataset):
    def __init__(self, what):
        self.what = what

    def __len__(self):
        return 6

    def __getitem__(self, i):
        if i == 2:
            if self.what == "error":
                raise KeyError("item two")
            if self.what == "picky":
                raise Picky(1, 2)
            if self.what == "unpicklable":
                return lambda: 0
            if self.what == "exit":
                os._exit(3)
            time.sleep(30)
        return i


class Picky(Exception):
    def __init__(self, a, b):
        super().__init__(a, b)


def keep(x):
    return x


def test_failures_tell_where_they_come_from_and_the_pass_goes_on():
    pass_ = iter(DataLoader(Broken("error"), None, num_workers=2))
    assert [next(pass_), next(pass_)] == [0, 1]
    with pytest.raises(KeyError) as caught:
        next(pass_)
    text = str(caught.value)
    assert text.startswith("Caught KeyError in DataLoader worker process 0.\nOriginal Traceback")
    assert 'raise KeyError("item two")' in text
    assert list(pass_) == [3, 4, 5]
    with pytest.raises(RuntimeError, match="Caught Picky in DataLoader worker process 0"):
        list(DataLoader(Broken("picky"), None, num_workers=1))
    with pytest.raises(Exception, match="(?i)pickle"):
        list(DataLoader(Broken("unpicklable"), None, collate_fn=keep, num_workers=1))


def test_a_worker_that_dies_or_hangs_is_noticed():
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        list(DataLoader(Broken("exit"), None, num_workers=1))
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="timed out after 1.5 seconds"):
        list(DataLoader(Broken("hang"), None, num_workers=1, timeout=1.5))
    assert time.monotonic() - began < 15


def init(number):
    global told
    told = number * 10


class Told(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, i):
        return told


def failing_init(number):
    raise ValueError("no such worker")


def test_init_functions():
    assert list(DataLoader(Told(), None, num_workers=2, worker_init_fn=init)) == [0, 10]
    with pytest.raises(ValueError, match="Caught ValueError in DataLoader worker process 0"):
        list(DataLoader(Told(), None, num_workers=1, worker_init_fn=failing_init))


class Stream(IterableDataset):
    def __len__(self):
        return 3

    def __iter__(self):
        info = get_worker_info()
        count = 5 if info is None else 2 + 3 * info.id
        yield from (100 * (0 if info is None else info.id) + k for k in range(count))


def test_streams_of_unequal_length_and_persistent_workers():
    loader = DataLoader(Stream(), 2, num_workers=2, persistent_workers=True)
    for _ in range(3):
        assert [b.tolist() for b in loader] == [[0, 1], [100, 101], [102, 103], [104]]
    processes = loader._iterator.processes
    pass_ = iter(loader)
    assert next(pass_).tolist() == [0, 1] and loader._iterator.processes is processes
    assert [b.tolist() for b in loader] == [[0, 1], [100, 101], [102, 103], [104]]  # after a pass that was left
    loader._iterator.stop()
    short = DataLoader(Stream(), None)
    assert len(short) == 3
    with pytest.warns(UserWarning, match="Length of IterableDataset .* was reported to be 3"):
        assert list(short) == [0, 1, 2, 3, 4]


class Slow(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        time.sleep(1.0 if i == 0 else 0)
        return i


def test_order_can_be_given_up():
    assert sorted(DataLoader(Slow(), None, num_workers=2, in_order=False)) == [0, 1, 2, 3]
    assert list(DataLoader(Slow(), None, num_workers=2, in_order=False))[0] != 0
    assert list(DataLoader(Slow(), None, num_workers=2)) == [0, 1, 2, 3]


def test_the_base_seed_is_drawn_before_the_order_and_only_once_for_persistent_workers():
    class Recording(fl.Generator):
        pass

    data = TensorDataset(fl.arange(6))
    orders = []
    for workers in (0, 1):
        g = fl.Generator().manual_seed(0)
        loader = DataLoader(data, 6, shuffle=True, generator=g, num_workers=workers, persistent_workers=bool(workers))
        orders.append([batch[0].tolist() for _ in range(2) for batch in loader])
    assert orders[0][0] == orders[1][0] and orders[0][1] != orders[1][1]


def test_distributed_shares():
    data = list(range(10))
    shares = [list(DistributedSampler(data, 3, r, shuffle=False)) for r in range(3)]
    assert shares == [[0, 3, 6, 9], [1, 4, 7, 0], [2, 5, 8, 1]]
    assert [list(DistributedSampler(data, 3, r, shuffle=False, drop_last=True)) for r in range(3)] == [[0, 3, 6], [1, 4, 7],
                                                                                                       [2, 5, 8]]
    shuffled = DistributedSampler(data, 2, 0)
    before = list(shuffled)
    shuffled.set_epoch(1)
    assert list(shuffled) != before and len(shuffled) == 5
    with pytest.raises(RuntimeError, match="num_replicas"):
        DistributedSampler(data)
    with pytest.raises(ValueError, match="Invalid rank 2"):
        DistributedSampler(data, 2, 2)


class Many(Dataset):
    def __init__(self):
        self.asked = []

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return i

    def __getitems__(self, indices):
        self.asked.append(indices)
        return [-i for i in indices]


def test_datasets_are_asked_for_many_items_at_once():
    data = Many()
    assert [b.tolist() for b in DataLoader(Subset(data, [5, 6, 7]), 2)] == [[-5, -6], [-7]] and data.asked == [[5, 6], [7]]
    assert DataLoader(StackDataset(a=data, b=list(range(10))), 2).__iter__().__next__()["a"].tolist() == [0, -1]

    class Plus(Subset):
        def __getitem__(self, i):
            return super().__getitem__(i) + 1

    assert next(iter(DataLoader(Plus(data, [5, 6]), 2))).tolist() == [6, 7]
    with pytest.raises(ValueError, match="At least one dataset"):
        StackDataset()
    with pytest.raises(AssertionError):
        ConcatDataset([])
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        random_split([1, 2], [0.9, 0.1])


def test_collating_keeps_containers():
    Pair = namedtuple("Pair", "x y")
    found = default_collate([Pair(1, 2.0), Pair(3, 4.0)])
    assert type(found) is Pair and found.x.tolist() == [1, 3] and found.y.dtype is fl.float64
    nested = default_collate([defaultdict(int, a=[1, (True, "s")]), defaultdict(int, a=[2, (False, "t")])])
    assert nested.default_factory is int and nested["a"][0].tolist() == [1, 2] and nested["a"][1][1] == ("s", "t")
    assert default_collate([np.float32(1), np.float32(2)]).dtype is fl.float32
    with pytest.raises(TypeError, match="found <class 'object'>"):
        default_collate([object()])
    with pytest.raises(RuntimeError, match="equal size"):
        default_collate([[1], [1, 2]])


def test_wrong_loaders():
    data = TensorDataset(fl.arange(4))
    for kwargs, error, words in (
            ({"num_workers": -1}, ValueError, "num_workers"), ({"timeout": -1}, ValueError, "timeout"),
            ({"prefetch_factor": 2}, ValueError, "prefetch_factor"),
            ({"persistent_workers": True}, ValueError, "persistent_workers"),
            ({"multiprocessing_context": "fork"}, ValueError, "multi-process"),
            ({"multiprocessing_context": "moon", "num_workers": 1}, ValueError, "valid start method"),
            ({"multiprocessing_context": 3, "num_workers": 1}, TypeError, "valid context"),
            ({"batch_size": 0}, ValueError, "batch_size"), ({"batch_size": None, "drop_last": True}, ValueError, "drop_last"),
            ({"sampler": [0], "shuffle": True}, ValueError, "sampler"),
            ({"batch_sampler": [[0]], "shuffle": True}, ValueError, "batch")):
        with pytest.raises(error, match=words):
            DataLoader(data, **kwargs)
    with pytest.raises(ValueError, match="num_samples=0"):
        RandomSampler([])
    loader = DataLoader(data)
    with pytest.raises(ValueError, match="batch_size attribute should not be set after DataLoader is initialized"):
        loader.batch_size = 3
    loader.worker_init_fn = None

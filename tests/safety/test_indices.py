"""Indices out of range in compiled code: what eager raises, word for word, and never a read or write outside."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from outcomes import agree, outcome

import flambeau as fl
import flambeau.nn.functional as F
from flambeau.ir.stage import record_stages


def _set(x: Any, i: Any) -> Any:
    y = x.clone()
    y[i] = 0.0
    return y * 2


CASES: dict[str, Any] = {  # a function of a (12, 10) table and indices, and how the indices are shaped
    "embedding": (lambda x, i: F.embedding(i, x) * 2, (5,)),
    "gather": (lambda x, i: fl.gather(x, 1, i) + 1, (12, 3)),
    "gather rows": (lambda x, i: fl.gather(x, 0, i) + 1, (3, 10)),
    "index_select": (lambda x, i: fl.index_select(x, 0, i) * 2, (5,)),
    "x[i]": (lambda x, i: x[i] * 2, (5,)),
    "x[:, i]": (lambda x, i: x[:, i] * 2, (5,)),
    "x[i, i]": (lambda x, i: x[i, i] * 2, (7,)),
    "one element": (lambda x, i: x[i[0]] * 2, (1,)),
    "cross_entropy": (lambda x, i: F.cross_entropy(x, i), (12,)),
    "nll_loss": (lambda x, i: F.nll_loss(x, i, reduction="none"), (12,)),
    "weighted cross_entropy": (lambda x, i: F.cross_entropy(x, i, weight=x[0].abs(), label_smoothing=0.1), (12,)),
    "scatter": (lambda x, i: x.scatter(1, i, 1.0) * 2, (12, 3)),
    "scatter_add": (lambda x, i: x.scatter_add(1, i, x[:, :3] * 1), (12, 3)),
    "index_add": (lambda x, i: x.index_add(0, i, x[:5] * 1), (5,)),
    "index_put": (lambda x, i: fl.index_put(x, (i,), x[:5] * 1), (5,)),
    "accumulated index_put": (lambda x, i: fl.index_put(x, (i,), x[:5] * 1, accumulate=True), (5,)),
    "index_fill": (lambda x, i: x.index_fill(0, i, 2.0) * 2, (5,)),
    "x[i] = 0": (_set, (5,)),
    "take": (lambda x, i: fl.take(x, i) * 2, (5,)),
    "take_along_dim": (lambda x, i: fl.take_along_dim(x, i, 1) * 2, (12, 3)),
    "one_hot": (lambda x, i: F.one_hot(i, 10) * 2, (5,)),
    "padded gather": (lambda x, i: F.pad(fl.gather(x, 1, i) * 2, (1, 1)) * 2, (12, 3)),
    "computed indices": (lambda x, i: fl.gather(x, 1, i * 2 - i) + 1, (12, 3)),
}


@pytest.mark.parametrize("backend", ["cpp", "numpy"])
@pytest.mark.parametrize("name", CASES)
def test_out_of_range(name: str, backend: str) -> None:
    fn, shape = CASES[name]
    x, good = fl.randn(12, 10), fl.randint(0, 10, shape)
    compiled = fl.compile(fn, backend=backend)
    wanted = fn(x, good)
    assert agree(compiled(x, good), wanted)
    refused = 0
    for bad in (10, 12, 1000, 10**12, -1, -13, -2**63):
        index = good.clone()
        index.view(-1)[-1] = bad
        want = outcome(fn, x, index)
        refused += isinstance(want, tuple)
        assert agree(outcome(compiled, x, index), want), bad
    assert refused >= 3
    assert agree(compiled(x, good), wanted)  # and the next call is in order again


@pytest.mark.parametrize("backend", ["cpp", "numpy"])
@pytest.mark.parametrize("fn", [lambda x, i: F.embedding(i, x), lambda x, i: x[i], lambda x, i: x.index_select(0, i),
                                lambda x, i: x.index_add(0, i, x.new_ones(2, 4)),
                                lambda x, i: fl.gather(x, 0, i.view(2, 1).expand(2, 4))])
def test_an_empty_table(fn: Any, backend: str) -> None:
    x, i = fl.ones(0, 4), fl.tensor([0, 0])
    want = outcome(fn, x, i)
    assert isinstance(want, tuple)
    assert outcome(fl.compile(fn, backend=backend), x, i) == want


@pytest.mark.parametrize("n", [1, 3, 5, 17, 64, 1000])
def test_lanes_past_the_end_are_not_indices(n: int) -> None:
    """What stands behind the last element of a vector is no index, whatever is computed from it."""
    x, i = fl.randn(3, 10), fl.full((3, n), 1, dtype=fl.int64)
    fn = fl.compile(lambda x, i: fl.gather(x, 1, i - 1) * 2)
    assert fl.equal(fn(x, i), fl.gather(x, 1, i - 1) * 2)


def test_indices_behind_a_mask() -> None:
    x, i = fl.randn(6, 10), fl.full((6, 7), 1, dtype=fl.int64)
    fn = lambda x, i: F.pad(fl.gather(x, 1, i - 1), (3, 5)) + 1  # noqa: E731
    assert fl.equal(fl.compile(fn)(x, i), fn(x, i))


def test_ignored_targets_are_no_fault() -> None:
    x, y = fl.randn(8, 5), fl.tensor([0, 1, -100, 4, -100, 2, 3, -100])
    assert fl.allclose(fl.compile(F.cross_entropy)(x, y), F.cross_entropy(x, y))


@pytest.mark.parametrize("backend", ["cpp", "numpy"])
def test_nothing_is_half_written(backend: str) -> None:
    """A call that fails leaves the tensors it would have written as they were, or as the program itself leaves them."""
    def step(total: Any, x: Any, i: Any) -> Any:
        total.add_(x.sum())
        total.mul_(x[i].sum())
        return total + 1

    compiled = fl.compile(step, backend=backend)
    x, total = fl.ones(5), fl.ones(3)
    compiled(total, x, fl.tensor([0, 1]))
    assert total.tolist() == [12.0] * 3
    with pytest.raises(IndexError):
        compiled(total, x, fl.tensor([0, 7]))
    assert total.tolist() in ([12.0] * 3, [17.0] * 3)
    total.fill_(12.0)
    compiled(total, x, fl.tensor([0]))
    assert total.tolist() == [17.0] * 3


def test_a_training_step_is_refused_whole() -> None:
    table = fl.nn.Embedding(10, 4)
    optimizer = fl.optim.SGD(table.parameters(), 0.1)

    @fl.compile
    def loss(i: Any, y: Any) -> Any:
        return F.cross_entropy(table(i), y)

    def step(i: Any, y: Any) -> None:
        optimizer.zero_grad()
        loss(i, y).backward()
        optimizer.step()

    step(fl.tensor([1, 2]), fl.tensor([0, 3]))
    before = table.weight.detach().clone()
    for i, y, words in (([1, 10], [0, 3], "index out of range in self"), ([1, 2], [0, 4], "Target 4 is out of bounds."),
                        ([1, 2], [-1, 0], "Target -1 is out of bounds.")):
        with pytest.raises(IndexError, match=words):
            step(fl.tensor(i), fl.tensor(y))
        assert fl.equal(table.weight, before)
    step(fl.tensor([1, 2]), fl.tensor([0, 3]))
    assert not fl.equal(table.weight, before)


def test_each_thread_gets_its_own_error() -> None:
    fn = fl.compile(lambda x, i: F.embedding(i, x).sum(1) * 2)
    x, good, bad = fl.randn(50, 200), fl.arange(50), fl.arange(1, 51)
    want, wrong = F.embedding(good, x).sum(1) * 2, []
    fn(x, good)

    def right() -> None:
        for _ in range(200):
            if not agree(outcome(fn, x, good), want):
                wrong.append("a good call was refused")

    def broken() -> None:
        for _ in range(200):
            if outcome(fn, x, bad) != (IndexError, "index out of range in self"):
                wrong.append("a bad call was not refused")

    threads = [threading.Thread(target=f) for f in (right, broken, right, broken)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.parametrize("checks", [False, True])
def test_no_check_where_bounds_prove_the_index(checks: bool) -> None:
    """Positions made by arange need no check."""
    w = fl.randn(16, 8)
    fn = (lambda w: F.embedding(fl.arange(17) - 1, w) + 1) if checks else (lambda w: F.embedding(fl.arange(16), w) + 1)
    with record_stages() as stages:
        found = outcome(fl.compile(fn), w)
    assert found == (IndexError, "index out of range in self") if checks else fl.equal(found, w + 1)
    text = next(s.text for s in stages if s.name == "cpp")
    assert ("checked_index" in text) == checks


def test_triton_stays_inside() -> None:
    """A kernel for a GPU cannot raise: it reads the nearest row, and nothing outside."""
    pytest.importorskip("triton")
    x = fl.randn(6, 8)
    compiled = fl.compile(lambda x, i: F.embedding(i, x) * 2, backend="triton", options={"interpret": True})
    assert fl.equal(compiled(x, fl.tensor([1, 10**6, -(10**6)])), x[[1, 5, 0]] * 2)

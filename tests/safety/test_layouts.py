"""Inputs of every layout, without elements, without dimensions, overlapping and aliasing: compiled equals eager."""

from __future__ import annotations

from typing import Any

import pytest
from outcomes import agree, outcome

import flambeau as fl
import flambeau.nn.functional as F

fl.manual_seed(0)
BASE = fl.randn(8, 9)
INPUTS = {
    "no rows": fl.ones(0, 6), "no columns": fl.ones(6, 0), "nothing": fl.ones(0, 0), "no middle": fl.ones(2, 0, 3),
    "empty": fl.ones(0), "scalar": fl.tensor(1.5), "one element": fl.ones(1, 1), "transposed": BASE.t(),
    "stepped": BASE[::2, 1::3], "expanded": BASE[:, :1].expand(8, 7), "one number": fl.tensor(2.0).expand(3, 4),
    "offset": BASE[1:, 2:], "overlapping": BASE.reshape(-1).as_strided((6, 5), (2, 1)),
    "permuted": fl.randn(3, 4, 5).permute(2, 0, 1),
    "row": fl.randn(1, 70), "column": fl.randn(70, 1),
    "not numbers": fl.tensor([[float("nan"), 1.0], [float("inf"), -float("inf")]]),
}
FUNCTIONS = {
    "pointwise": lambda x: x * 2 + 1,
    "sum": lambda x: x.sum(),
    "amax of rows": lambda x: x.amax(-1) * 2,
    "argmax": lambda x: x.argmax(),
    "softmax": lambda x: F.softmax(x, -1),
    "product": lambda x: F.relu(x @ x.transpose(-1, -2)),
    "cat": lambda x: fl.cat([x, x * 2], -1),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[-1:]),
    "reshape": lambda x: x.reshape(-1) * 2,
    "pad": lambda x: F.pad(x, (1, 2)) * 2,
    "all": lambda x: (x > 0).all(-1),
    "cross_entropy": lambda x: F.cross_entropy(x, fl.zeros(x.shape[0], dtype=fl.int64)),
}


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.parametrize("backend", ["cpp", "numpy"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_layouts(name: str, backend: str) -> None:
    fn = FUNCTIONS[name]
    for kind, x in INPUTS.items():
        compiled = fl.compile(fn, backend=backend, dynamic=False)
        assert agree(outcome(compiled, x), outcome(fn, x)), kind


def writes_first(a: Any, b: Any) -> Any:
    a.add_(b * 2)
    return a * b


def writes_both(a: Any, b: Any) -> Any:
    a.mul_(2)
    b.add_(a.sum())
    return a + b


def swaps(a: Any, b: Any) -> Any:
    held = a.clone()
    a.copy_(b)
    b.copy_(held)
    return a - b


PAIRS = {
    "apart": lambda x: (x[:4], x[4:]), "the same": lambda x: (x, x), "views of one": lambda x: (x.view(2, 4), x.view(2, 4)),
    "overlapping": lambda x: (x[:6], x[2:]), "transposes": lambda x: (x[:4].view(2, 2), x[:4].view(2, 2).t()),
    "an element and all": lambda x: (x, x[3]), "reversed steps": lambda x: (x[::2], x[1::2]),
}


@pytest.mark.parametrize("backend", ["cpp", "numpy"])
@pytest.mark.parametrize("fn", [writes_first, writes_both, swaps])
def test_inputs_that_share_memory(fn: Any, backend: str) -> None:
    compiled = fl.compile(fn, backend=backend)
    for kind, views in PAIRS.items():
        mine, theirs = fl.arange(8.0), fl.arange(8.0)
        found, wanted = outcome(compiled, *views(mine)), outcome(fn, *views(theirs))
        assert agree(found, wanted), kind
        assert fl.equal(mine, theirs), kind


@pytest.mark.parametrize("backend", ["cpp", "numpy"])
def test_results_that_share_memory_with_inputs(backend: str) -> None:
    compiled = fl.compile(lambda x: (x[1:], x * 2, x), backend=backend)
    x = fl.arange(4.0)
    view, product, same = compiled(x)
    x.add_(10)
    assert view.tolist() == [11, 12, 13] and product.tolist() == [0, 2, 4, 6] and same.tolist() == x.tolist()


@pytest.mark.parametrize("backend", ["cpp", "numpy"])
def test_gradients_that_come_and_go(backend: str) -> None:
    fn = lambda x, w: (x * w).sin().sum()  # noqa: E731
    compiled = fl.compile(fn, backend=backend)
    x, w = fl.randn(5), fl.randn(5)
    for needs in ((False, False), (True, False), (True, True), (False, True), (False, False), (True, True)):
        for frozen in (False, True):
            a, b = (t.clone().requires_grad_(n) for t, n in zip((x, w), needs))
            c, d = (t.clone().requires_grad_(n) for t, n in zip((x, w), needs))
            with fl.set_grad_enabled(not frozen):
                found, wanted = compiled(a, b), fn(c, d)
            assert found.requires_grad == wanted.requires_grad == (any(needs) and not frozen)
            assert fl.allclose(found, wanted)
            if found.requires_grad:
                found.backward()
                wanted.backward()
                assert all((p.grad is None) == (q.grad is None) for p, q in ((a, c), (b, d)))
                assert all(fl.allclose(p.grad, q.grad) for p, q in ((a, c), (b, d)) if p.grad is not None)


def test_more_than_two_to_the_31_elements() -> None:
    """Sizes and strides beyond 32 bits."""
    n = 2**31 + 5
    assert fl.compile(lambda: fl.arange(n)[-3:] * 2)().tolist() == [2 * n - 6, 2 * n - 4, 2 * n - 2]
    rows = fl.compile(lambda x: x.view(1, 3).expand(2**30, 3)[2**30 - 1] * 2)
    assert rows(fl.arange(3)).tolist() == [0, 2, 4]

"""cond, while_loop, scan, map and associative_scan beside PyTorch's: values, gradients, errors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch._higher_order_ops
import torch._higher_order_ops.associative_scan
import torch.utils._pytree as torch_pytree

import flambeau
import flambeau._higher_order_ops
from flambeau.utils import _pytree

_random = np.random.default_rng(5)


def side(module: Any, tree: Any) -> Any:
    ops = module._higher_order_ops
    return SimpleNamespace(
        lib=module, cond=module.cond, while_loop=ops.while_loop, scan=ops.scan, map=ops.map,
        associative_scan=ops.associative_scan, leaves=tree.tree_leaves,
        t=lambda a, grad=False: module.tensor(np.asarray(a), requires_grad=grad))


OURS, PEER = side(flambeau, _pytree), side(torch, torch_pytree)


def a_branch(m: Any, x: Any, w: Any) -> Any:
    return m.cond(x.sum() > 0, lambda x: x.sin() * w, lambda x: x.cos() + w, (x,))


def a_tree_of_operands(m: Any, x: Any, w: Any) -> Any:
    return m.cond(x.max() > 1, lambda d, y: {"a": d["x"] * y, "b": [d["x"].sum()]},
                  lambda d, y: {"a": d["x"] - y, "b": [d["x"].prod()]}, ({"x": x}, w))


def a_branch_in_a_branch(m: Any, x: Any, w: Any) -> Any:
    def inner(x: Any) -> Any:
        return m.cond(x.max() > 0.5, lambda x: x * w, lambda x: x + 1, (x,))
    return m.cond(x.sum() > 0, inner, lambda x: inner(x * 2) * 3, (x,))


def a_python_bool(m: Any, x: Any, w: Any) -> Any:
    return m.cond(x.shape[0] > 2, lambda x: x * w, lambda x: x, (x,))


def a_loop(m: Any, x: Any, w: Any) -> Any:
    return m.while_loop(lambda i, x: i < 4, lambda i, x: (i + 1, (x * w).sin()), (m.lib.tensor(0), x))


def a_loop_on_data(m: Any, x: Any, w: Any) -> Any:
    return m.while_loop(lambda y: y.abs().sum() > 0.5, lambda y: (y * 0.6,), (x,))


def no_round(m: Any, x: Any, w: Any) -> Any:
    """Values only: PyTorch's gradient goes through one round of the body though there was none."""
    return m.while_loop(lambda y: y.sum() > 1e6, lambda y: (y * w.detach(),), (x.detach(),))[0] + x


def a_scan(m: Any, x: Any, w: Any) -> Any:
    def step(c: Any, row: Any) -> Any:
        new = (c * w + row).tanh()
        return new, new * 2
    return m.scan(step, m.lib.zeros(3), x)


def a_scan_of_trees(m: Any, x: Any, w: Any) -> Any:
    def step(c: Any, row: Any) -> Any:
        return {"s": c["s"] + row[0], "p": c["p"] * row[1]}, [c["s"] - row[1], (row[0] * w).sum()]
    return m.scan(step, {"s": m.lib.zeros(3), "p": m.lib.ones(3)}, (x, x.cos()))


def a_scan_along_columns_from_the_end(m: Any, x: Any, w: Any) -> Any:
    return m.scan(lambda c, col: (c + col * 2, c * col), m.lib.ones(x.shape[0]), x, dim=1, reverse=True)


def a_map(m: Any, x: Any, w: Any) -> Any:
    return m.map(lambda row, w: (row * w).sin(), x, w)


def a_map_of_pairs(m: Any, x: Any, w: Any) -> Any:
    return m.map(lambda pair: (pair[0] * pair[1], pair[0].sum()), [x, x.exp()])


def products(m: Any, x: Any, w: Any) -> Any:
    return m.associative_scan(lambda a, b: a * b, x, 0, combine_mode="generic")


def a_recurrence(m: Any, x: Any, w: Any) -> Any:
    return m.associative_scan(lambda a, b: (a[0] * b[0], a[1] * b[0] + b[1]), (x.sigmoid(), x), 1, reverse=True,
                              combine_mode="generic")


PROGRAMS = [(f, (3,)) for f in (a_branch, a_tree_of_operands, a_branch_in_a_branch, a_python_bool, a_loop, a_loop_on_data,
                                no_round)]
PROGRAMS += [(f, (6, 3)) for f in (a_scan, a_scan_of_trees, a_scan_along_columns_from_the_end, a_map, a_map_of_pairs, products,
                                   a_recurrence)]


def run(m: Any, fn: Any, arrays: list[np.ndarray], compiled: bool) -> list[Any]:
    """Results and gradients; a gradient of zeros and none at all are the same."""
    x, w = (m.t(a, True) for a in arrays)
    call = (lambda x, w: fn(m, x, w))
    found = m.leaves((flambeau.compile(call, backend="numpy", fullgraph=True) if compiled else call)(x, w))
    loss = sum(t.square().sum() for t in found if t.dtype.is_floating_point)
    grads = m.lib.autograd.grad(loss, [x, w], allow_unused=True)
    return [np.asarray(t.detach().numpy()) for t in found] + [
        np.zeros(a.shape, "f4") if g is None else g.numpy() for g, a in zip(grads, arrays)]


@pytest.mark.parametrize("fn,shape", PROGRAMS, ids=[f.__name__ for f, _ in PROGRAMS])
def test_values_and_gradients(fn: Any, shape: tuple[int, ...]) -> None:
    for sign in (1, -1):
        arrays = [(_random.standard_normal(s) * sign).astype("f4") for s in (shape, (3,))]
        want = run(PEER, fn, arrays, False)
        for compiled in (False, True):
            got = run(OURS, fn, arrays, compiled)
            assert len(got) == len(want)
            for a, b in zip(got, want):
                assert a.shape == b.shape and a.dtype == b.dtype
                np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)


WRONG: dict[str, Any] = {
    "a predicate of text": lambda m: m.cond("yes", lambda: m.t(1.0), lambda: m.t(2.0)),
    "a predicate of several elements": lambda m: m.cond(m.t([True, False]), lambda x: x, lambda x: x, (m.t([1.0]),)),
    "a branch that is no function": lambda m: m.cond(m.t(True), 3, lambda x: x, (m.t([1.0]),)),
    "an operand that is no tensor": lambda m: m.cond(m.t(True), lambda x: x, lambda x: x, (3,)),
    "operands that are no tuple": lambda m: m.cond(m.t(True), lambda x: x, lambda x: x, m.t([1.0])),
    "a loop without condition": lambda m: m.while_loop(3, lambda x: (x,), (m.t([1.0]),)),
    "a carried text": lambda m: m.while_loop(lambda x: x, lambda x: (x,), ("a",)),
    "a scan of no function": lambda m: m.scan(3, m.t([0.0]), m.t([[1.0]])),
    "a scan without init": lambda m: m.scan(lambda c, x: (c, x), [], m.t([[1.0]])),
    "an init that is no tensor": lambda m: m.scan(lambda c, x: (c, x), 1.0, m.t([[1.0]])),
    "reverse that is no bool": lambda m: m.scan(lambda c, x: (c, x), m.t([0.0]), m.t([[1.0]]), reverse=1),
    "a scan of nothing": lambda m: m.scan(lambda c, x: (c, x), m.t([0.0]), m.lib.zeros(0, 1)),
    "a dimension too many": lambda m: m.scan(lambda c, x: (c, x), m.t([0.0]), m.t([[1.0]]), dim=5),
    "a map of numbers": lambda m: m.map(lambda x: x, [1.0]),
    "a map of nothing": lambda m: m.map(lambda x: x, m.lib.zeros(0, 3)),
    "a map of different lengths": lambda m: m.map(lambda x: x[0], [m.lib.zeros(2), m.lib.zeros(3)]),
    "an associative scan of no function": lambda m: m.associative_scan(3, m.t([1.0]), 0, combine_mode="generic"),
    "an unknown mode": lambda m: m.associative_scan(lambda a, b: a, m.t([1.0]), 0, combine_mode="fast"),
    "pointwise on a processor": lambda m: m.associative_scan(lambda a, b: a, m.t([1.0]), 0),
    "an associative scan of nothing": lambda m: m.associative_scan(lambda a, b: a, m.lib.zeros(0), 0, combine_mode="generic")}


@pytest.mark.parametrize("name", WRONG)
def test_errors(name: str) -> None:
    with pytest.raises(Exception) as want:  # noqa: PT011 - whatever PyTorch raises
        WRONG[name](PEER)
    with pytest.raises(type(want.value)) as got:
        WRONG[name](OURS)
    first = str(want.value).splitlines()[0].split("tensor(")[0].split("<function")[0]
    assert str(got.value).startswith(first), (str(got.value), str(want.value))


def test_no_xs_give_back_init() -> None:
    for m in (OURS, PEER):
        init = m.t([1.0])
        last, rows = m.scan(lambda c, x: (c, x), init, [])
        assert last is init and rows == []


def test_a_batch_of_predicates() -> None:
    rows = _random.standard_normal((5, 3)).astype("f4")
    found = []
    for m in (OURS, PEER):
        batched = m.lib.func.vmap(lambda r, m=m: m.cond(r.sum() > 0, lambda r: r.sin(), lambda r: r * 2, (r,)))
        found.append(batched(m.t(rows)).numpy())
    np.testing.assert_allclose(*found, rtol=1e-5)

"""cond, while_loop, scan, map and associative_scan run eagerly: Python's own branches and loops, on the tape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import cond
from flambeau._higher_order_ops import associative_scan, scan, while_loop
from flambeau._higher_order_ops import map as map_rows

_random = np.random.default_rng(2)


def rand(*shape: int) -> Any:
    return flambeau.tensor(_random.standard_normal(shape), requires_grad=True)


def same(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-12)


def test_cond_runs_one_branch_and_its_closure_gets_gradients() -> None:
    x, w, ran = rand(3), rand(3), []

    def one(x: Any) -> Any:
        ran.append("one")
        return x * w

    def other(x: Any) -> Any:
        ran.append("other")
        return x + w

    no, one_element = flambeau.tensor(False), flambeau.tensor([1.0])
    for pred, name, want in ((True, "one", x), (no, "other", flambeau.ones(3)), (one_element, "one", x)):
        ran.clear()
        y = cond(pred, one, other, (x,))
        assert ran == [name]
        same(flambeau.autograd.grad(y.sum(), w)[0], want)


def test_branches_of_a_batch_must_have_one_structure() -> None:
    with pytest.raises(RuntimeError, match="same structure"):
        flambeau.func.vmap(lambda r: cond(r.sum() > 0, lambda r: (r, r), lambda r: r, (r,)))(rand(4, 3))


@pytest.mark.parametrize("n", range(1, 12))
def test_associative_scan_of_any_length(n: int) -> None:
    x = rand(n, 2)
    same(associative_scan(lambda a, b: a + b, x, 0, combine_mode="generic"), x.cumsum(0))
    same(associative_scan(lambda a, b: a + b, x, 0, True, "generic"), x.flip(0).cumsum(0).flip(0))
    same(associative_scan(lambda a, b: a @ b, x[:, :, None] * x[:, None], 0, combine_mode="generic")[-1],
         _product(x[:, :, None] * x[:, None]))


def _product(matrices: Any) -> Any:
    found = matrices[0]
    for m in matrices[1:]:
        found = found @ m
    return found


def test_scan_is_a_loop() -> None:
    x, w = rand(5, 3), rand(3)
    c, rows = flambeau.zeros(3, dtype=flambeau.float64), []
    for row in x.unbind(0):
        c = (c * w + row).tanh()
        rows.append(c.square())
    last, found = scan(lambda c, row: ((c * w + row).tanh(),) * 2, flambeau.zeros(3, dtype=flambeau.float64), x)
    same(last, c)
    same(found.square(), flambeau.stack(rows))
    for a, b in zip(flambeau.autograd.grad(found.square().sum(), [x, w]),
                    flambeau.autograd.grad(flambeau.stack(rows).sum(), [x, w])):
        same(a, b)


def test_outputs_of_fewer_dimensions_than_dim_stay_in_front() -> None:
    x = rand(2, 3, 5)
    _, (sums, columns) = scan(lambda c, s: (c + 1, (s.sum(), s[0])), flambeau.zeros(()), x, dim=2)
    assert sums.shape == (5,) and columns.shape == (5, 3)
    same(sums, x.sum((0, 1)))


def test_while_loop_copies_what_it_never_changes() -> None:
    x = rand(3)
    (y,) = while_loop(lambda x: flambeau.tensor(False), lambda x: (x * 2,), (x,))
    assert y is not x
    same(y, x)
    same(flambeau.autograd.grad(y.sum(), x)[0], flambeau.ones(3))
    n, y = while_loop(lambda n, x: n < 3, lambda n, x: (n + 1, x * 2), (0, x))
    assert n == 3
    same(y, x * 8)


def test_while_loop_wants_a_bool_and_as_many_values() -> None:
    x = rand(2)
    with pytest.raises(RuntimeError, match="boolean scalar tensor"):
        while_loop(lambda x: x.sum(), lambda x: (x,), (x,))
    with pytest.raises(AssertionError, match="same number of elements"):
        while_loop(lambda x: x.sum() < 9, lambda x: (x, x), (x,))
    with pytest.raises(AssertionError, match="should return a tuple"):
        while_loop(lambda x: x.sum() < 9, lambda x: x, (x,))


def test_map_stacks_trees() -> None:
    x, y = rand(4, 3), rand(4)
    found = map_rows(lambda d, k: {"a": d["x"] * d["y"] + k, "b": (d["x"].sum(),)}, {"x": x, "y": y}, 2.0)
    same(found["a"], x * y[:, None] + 2)
    same(found["b"][0], x.sum(1))


def test_inside_transforms() -> None:
    x = rand(4, 3)
    same(flambeau.func.vmap(lambda r: cond(r.sum() > 0, lambda r: r.sin(), lambda r: r * 2, (r,)))(x),
         flambeau.where(x.sum(1, keepdim=True) > 0, x.sin(), x * 2))
    same(flambeau.func.vmap(lambda r: scan(lambda c, v: (c + v, c * v), flambeau.zeros((), dtype=r.dtype), r)[0])(x), x.sum(1))
    g = flambeau.func.grad(lambda r: scan(lambda c, v: (c * v, v), flambeau.ones((), dtype=r.dtype), r)[0])(x[0])
    same(g, x[0].prod() / x[0])

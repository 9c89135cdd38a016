"""The tape: accumulation, higher orders, hooks, versions, views, modes."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import flambeau as torch


def _leaf(*values: float) -> Any:
    return torch.tensor(list(values), dtype=torch.float64, requires_grad=True)


def test_gradients_accumulate() -> None:
    x = _leaf(1.0, 2.0)
    (x * x).sum().backward()
    (3 * x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [5, 7])


def test_one_value_used_twice() -> None:
    x = _leaf(2.0)
    y = x * x
    (y * y + y).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [4 * 8 + 4])


def test_third_derivative() -> None:
    x = _leaf(0.7)
    y = x.sin()
    for _ in range(3):
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    np.testing.assert_allclose(y.detach().numpy(), [-np.cos(0.7)])


def test_gradient_of_intermediate_values() -> None:
    x = _leaf(1.0, 2.0)
    y = x * 3
    y.retain_grad()
    (y * y).sum().backward()
    np.testing.assert_allclose(y.grad.numpy(), [6, 12])


def test_hooks_see_and_change_gradients() -> None:
    x = _leaf(1.0)
    y = x * 2
    seen: list[float] = []
    handle = y.register_hook(lambda g: seen.append(float(g)) or g * 10)
    (y * 5).sum().backward()
    handle.remove()
    assert seen == [5.0]
    np.testing.assert_allclose(x.grad.numpy(), [100])


@pytest.mark.parametrize("change", ["input", "output"])
def test_a_saved_value_that_was_written_to_is_noticed(change: str) -> None:
    x = _leaf(1.0, 2.0)
    y = x * 1
    z = y.exp() if change == "output" else y * y
    (z if change == "output" else y).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_a_value_nobody_reads_may_be_written_to() -> None:
    x = _leaf(1.0, 2.0)
    y = x * 1
    z = y + 2
    s = y.sum()
    part = y[:1]
    total = torch.cat([y, y])
    y.detach().zero_()
    (z.sum() + s + part.sum() + total.sum()).backward()
    np.testing.assert_allclose(x.grad.numpy(), [5, 4])


def test_backward_twice_needs_the_graph_kept() -> None:
    x = _leaf(1.0)
    y = x.exp().sum()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_nothing_is_recorded_without_need() -> None:
    x = _leaf(1.0)
    with torch.no_grad():
        assert not (x * 2).requires_grad
        with torch.enable_grad():
            assert (x * 2).requires_grad
    assert not x.detach().requires_grad
    assert not (x > 0).requires_grad


def test_a_write_through_a_view_reaches_the_base() -> None:
    x = _leaf(1.0, 2.0, 3.0)
    y = x * 1
    y[1:].mul_(10)
    np.testing.assert_allclose(y.detach().numpy(), [1, 20, 30])
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [1, 10, 10])


def test_a_write_to_the_base_reaches_the_view() -> None:
    x = _leaf(1.0, 2.0, 3.0)
    y = x * 1
    v = y[1:]
    y.mul_(10)
    v.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [0, 10, 10])


def test_rows_filled_one_by_one() -> None:
    x = _leaf(1.0, 2.0)
    out = torch.zeros(2, 2, dtype=torch.float64)
    for i in range(2):
        out[i] = x * (i + 1)
    (out * out).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [2 * (1 + 4) * 1, 2 * (1 + 4) * 2])


def test_leaves_are_not_written_to_under_the_tape() -> None:
    x = _leaf(1.0, 2.0)
    for write in (lambda: x.add_(1), lambda: x[0].mul_(2), lambda: x.__setitem__(0, 1.0)):
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            write()
    with torch.no_grad():
        x.add_(1)
    np.testing.assert_allclose(x.detach().numpy(), [2, 3])


def test_broadcast_gradients_are_summed() -> None:
    x, y = torch.ones(3, 1, requires_grad=True), torch.ones(4, requires_grad=True)
    (x * y * 2).sum().backward()
    assert x.grad.shape == (3, 1) and y.grad.shape == (4,)
    np.testing.assert_allclose(x.grad.numpy(), np.full((3, 1), 8))
    np.testing.assert_allclose(y.grad.numpy(), np.full(4, 6))


def test_gradients_keep_their_inputs_dtype() -> None:
    x = torch.ones(3, dtype=torch.float32, requires_grad=True)
    y = torch.ones(3, dtype=torch.float64, requires_grad=True)
    (x * y).sum().backward()
    assert x.grad.dtype is torch.float32 and y.grad.dtype is torch.float64


def test_the_tape_is_freed_with_its_tensors() -> None:
    x = _leaf(1.0, 2.0)
    y = x.exp() * 2
    node = weakref.ref(y.grad_fn)
    gc.disable()
    try:
        del y
        assert node() is None, "the tape must not be kept alive by cycles"
    finally:
        gc.enable()


def test_unused_inputs() -> None:
    x, y = _leaf(1.0), _leaf(2.0)
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad((x * 2).sum(), [x, y])
    found = torch.autograd.grad((x * 2).sum(), [x, y], allow_unused=True)
    assert found[1] is None


@pytest.mark.parametrize("write", ["add_", "copy_", "fill_", "mul_ number", "zero_", "setitem", "out"])
def test_every_write_counts(write: str) -> None:
    x = torch.ones(2, 3)
    before = x._version
    {"add_": lambda: x.add_(torch.ones(3)), "copy_": lambda: x.copy_(torch.ones(3)), "fill_": lambda: x.fill_(2),
     "mul_ number": lambda: x.mul_(2.0), "zero_": lambda: x.zero_(), "setitem": lambda: x.__setitem__(0, 5.0),
     "out": lambda: torch.add(torch.ones(2, 3), 1, out=x)}[write]()
    assert x._version > before


def test_warnings_of_numpy_stay_with_numpy() -> None:
    import warnings  # noqa: PLC0415
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.isinf(torch.ones(2) / torch.zeros(2)).all()
        assert torch.isnan(torch.zeros(2).log() * 0).all()
        with pytest.raises(RuntimeWarning):
            np.ones(1) / np.zeros(1)


def test_integers_have_no_history_whatever_is_written_to_them():
    x = torch.rand(2, 2, requires_grad=True)
    whole = torch.zeros(2, 2, dtype=torch.int32)
    whole[...] = x * 2
    row = whole[0]
    row.copy_(x[0])
    whole.masked_fill_(whole > 1, x.sum())
    assert not whole.requires_grad and not row.requires_grad and whole.grad_fn is None

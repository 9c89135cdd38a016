"""``x[...]``, ``x[...] = y`` and writes through views, beside PyTorch: values, gradients, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import flambeau

LIBRARIES = (flambeau, torch)


def _x(lib: Any, *shape: int) -> Any:
    n = int(np.prod(shape))
    return lib.tensor((np.arange(n, dtype="f8") * 0.37 % 2.1 - 1).reshape(shape).tolist(), dtype=lib.float64)


INDICES: dict[str, Callable[[Any], Any]] = {
    "int": lambda t: 1,
    "negative": lambda t: -1,
    "slice": lambda t: slice(1, 3),
    "step": lambda t: slice(None, None, 2),
    "ints": lambda t: (1, 2),
    "mixed": lambda t: (slice(1, None), 0),
    "none": lambda t: (None, slice(1), None),
    "ellipsis": lambda t: (Ellipsis, 1),
    "ellipsis middle": lambda t: (0, Ellipsis, slice(1, 2)),
    "all": lambda t: Ellipsis,
    "list": lambda t: [0, 2],
    "tensor": lambda t: t.tensor([2, 0, 2]),
    "negative tensor": lambda t: t.tensor([-1, 0]),
    "matrix": lambda t: t.tensor([[0, 1], [2, 0]]),
    "second": lambda t: (slice(None), t.tensor([1, 3])),
    "pair": lambda t: (t.tensor([0, 2]), t.tensor([1, 3])),
    "apart": lambda t: (t.tensor([0, 2]), slice(None), t.tensor([1, 0])),
    "int and tensor": lambda t: (1, slice(None), t.tensor([1, 0])),
    "broadcast": lambda t: (t.tensor([[0], [2]]), t.tensor([1, 3])),
    "mask": lambda t: t.tensor([True, False, True]),
    "mask of two": lambda t: t.tensor([[True, False, True, True]] * 3),
    "mask second": lambda t: (slice(None), t.tensor([True, False, False, True])),
    "none and tensor": lambda t: (None, t.tensor([0, 1])),
    "slice beyond": lambda t: slice(2, 100),
    "empty slice": lambda t: slice(2, 1),
    "true": lambda t: True,
    "false": lambda t: False,
    "mask and tensor": lambda t: (t.tensor([True, False, True]), t.tensor([1, 3])),
    "empty list": lambda t: [],
    "zero-dim tensor": lambda t: t.tensor(1),
    "numpy": lambda t: np.array([0, 2]),
    "lists": lambda t: ([0, 1], [1, 2]),
}


@pytest.mark.parametrize("name", INDICES)
def test_read(name: str) -> None:
    found = []
    for lib in LIBRARIES:
        x = _x(lib, 3, 4, 2).requires_grad_()
        y = x[INDICES[name](lib)]
        (y * y).sum().backward()
        found.append((y.detach().numpy(), x.grad.numpy()))
    (ours, our_grad), (theirs, their_grad) = found
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs)
    np.testing.assert_allclose(our_grad, their_grad)


def _written(lib: Any, name: str, value: str) -> Any:
    x = _x(lib, 3, 4, 2).requires_grad_()
    y = x * 2
    index = INDICES[name](lib)
    shape = tuple(y.detach()[index].shape)
    v = {
        "number": 1.5,
        "scalar": lib.tensor(2.5, dtype=lib.float64),
        "tensor": lib.ones(shape, dtype=lib.float64) * 3,
        "other dtype": lib.ones(shape, dtype=lib.int64),
    }[value]
    try:
        y[index] = v
    except RuntimeError:
        return None  # tensors of indices do not convert
    (y * y).sum().backward()
    return y.detach().numpy(), x.grad.numpy()


@pytest.mark.parametrize("value", ["number", "scalar", "tensor", "other dtype"])
@pytest.mark.parametrize(
    "name", [n for n in INDICES if n not in ("tensor", "matrix")]
)  # repeated positions: any order is right
def test_write(name: str, value: str) -> None:
    ours, theirs = _written(flambeau, name, value), _written(torch, name, value)
    assert (ours is None) == (theirs is None)
    if ours is not None:
        np.testing.assert_allclose(ours[0], theirs[0])
        np.testing.assert_allclose(ours[1], theirs[1])


def _programs() -> dict[str, Callable[[Any, Any], Any]]:
    def view_write(lib: Any, x: Any) -> Any:
        y = x * 1
        row = y[0]
        row.mul_(3)
        return y * y

    def base_write(lib: Any, x: Any) -> Any:
        y = x * 1
        row = y[0]
        y.mul_(2)
        return row * row

    def chained_views(lib: Any, x: Any) -> Any:
        y = x * 1
        y.t()[1:].add_(x.t()[1:])
        y[:, 0] = x[:, 1] * 5
        return y.exp()

    def zero_then_fill(lib: Any, x: Any) -> Any:
        out = lib.zeros(3, 4, dtype=lib.float64)
        for i in range(3):
            out[i] = x[2 - i] * (i + 1)
        return out * out

    def masked(lib: Any, x: Any) -> Any:
        y = x.clone()
        y[y < 0] = 0
        y[y > 0.5] *= 3
        return y * x

    def augmented(lib: Any, x: Any) -> Any:
        y = x.sin()
        y += x
        y -= 2
        y *= x
        y /= 3
        return y

    def scatter(lib: Any, x: Any) -> Any:
        y = x.clone()
        y.scatter_(1, lib.tensor([[0], [1], [2]]), x[:, 3:] * 2)
        y.index_add_(0, lib.tensor([0, 0]), x[1:])
        return y * y

    def diagonal(lib: Any, x: Any) -> Any:
        y = x * 1
        y.diagonal().copy_(lib.ones(3, dtype=lib.float64) * x.sum())
        return y * y

    def reshape_view(lib: Any, x: Any) -> Any:
        y = x * 1
        y.view(-1)[::2].zero_()
        return y * x

    def detached(lib: Any, x: Any) -> Any:
        y = x * 1
        y.detach().zero_()
        return y + x

    def swapped(lib: Any, x: Any) -> Any:
        y = x * 1
        a, b = y.narrow(1, 0, 2), y.narrow(1, 2, 2)
        a.copy_(b * 2)
        return y * y * x

    return {k: v for k, v in locals().items() if callable(v)}


@pytest.mark.parametrize("name", _programs())
def test_writes_and_views(name: str) -> None:
    found = []
    for lib in LIBRARIES:
        x = _x(lib, 3, 4).requires_grad_()
        y = _programs()[name](lib, x)
        y.sum().backward()
        found.append((y.detach().numpy(), x.grad.numpy()))
    np.testing.assert_allclose(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1])


ERRORS: dict[str, Callable[[Any, Any], Any]] = {
    "index out of range": lambda lib, x: x[5],
    "too many": lambda lib, x: x[0, 0, 0],
    "tensor out of range": lambda lib, x: x[lib.tensor([7])],
    "float index": lambda lib, x: x[1.0],
    "float tensor index": lambda lib, x: x[lib.tensor([0.5])],
    "negative step": lambda lib, x: x[::-1],
    "mask shape": lambda lib, x: x[lib.tensor([True, False])],
    "unequal tensors": lambda lib, x: x[lib.tensor([0, 1, 2]), lib.tensor([0, 1])],
    "broadcast": lambda lib, x: x + lib.ones(5),
    "view": lambda lib, x: x.view(5, 2),
    "view of transposed": lambda lib, x: x.t().view(12),
    "cat": lambda lib, x: lib.cat([x, lib.ones(2, 2)]),
    "stack": lambda lib, x: lib.stack([x, lib.ones(2)]),
    "dim": lambda lib, x: x.sum(3),
    "twice": lambda lib, x: x.sum((0, 0)),
    "expand": lambda lib, x: x.expand(2, 4),
    "squeeze dim": lambda lib, x: x.squeeze(4),
    "permute": lambda lib, x: x.permute(0),
    "narrow": lambda lib, x: x.narrow(0, 2, 3),
    "gather dtype": lambda lib, x: x.gather(0, lib.ones(1, 1)),
    "select scalar": lambda lib, x: lib.tensor(1.0)[0],
    "bool of many": lambda lib, x: bool(x),
    "item of many": lambda lib, x: x.item(),
    "mean of ints": lambda lib, x: lib.ones(3, dtype=lib.int64).mean(),
    "bool minus": lambda lib, x: (x > 0) - (x > 0),
    "int pow": lambda lib, x: lib.tensor([2]) ** -1,
    "leaf in place": lambda lib, x: x.requires_grad_().add_(1),
    "numpy of grad": lambda lib, x: x.requires_grad_().numpy(),
    "int grad": lambda lib, x: lib.ones(2, dtype=lib.int64).requires_grad_(),
    "backward of vector": lambda lib, x: (x.requires_grad_() * 2).backward(),
    "no graph": lambda lib, x: x.sum().backward(),
    "in-place broadcast": lambda lib, x: lib.ones(4).add_(x),
    "in-place cast": lambda lib, x: lib.ones(4, dtype=lib.int64).add_(1.5),
    "not a tensor": lambda lib, x: lib.exp(3.0),
    "wrong type": lambda lib, x: lib.exp("a"),
    "empty cat": lambda lib, x: lib.cat([]),
    "zero step": lambda lib, x: x[::0],
    "argmax of nothing": lambda lib, x: lib.ones(0).argmax(),
    "max of nothing": lambda lib, x: lib.ones(0).max(),
    "len of scalar": lambda lib, x: len(lib.tensor(1)),
    "iterate scalar": lambda lib, x: list(lib.tensor(1)),
    "where dtype": lambda lib, x: lib.where(x, x, x),
    "masked_fill mask": lambda lib, x: x.masked_fill(x, 1),
    "index_select range": lambda lib, x: x.index_select(0, lib.tensor([9])),
    "topk": lambda lib, x: x.topk(9),
    "unflatten": lambda lib, x: x.unflatten(1, (3, 2)),
    "split sizes": lambda lib, x: x.split([1, 1], 0),
    "second backward": lambda lib, x: [(lambda y: (y.backward(), y.backward()))(x.requires_grad_().exp().sum())],
    "modified": lambda lib, x: (lambda y: [z := y.exp(), z.add_(1), z.sum().backward()])(x.requires_grad_() * 1),
    "reshape": lambda lib, x: x.reshape(5, -1),
    "two unknown": lambda lib, x: x.reshape(-1, -1),
    "unknown device": lambda lib, x: x.to("nowhere"),
    "integer division by zero": lambda lib, x: lib.tensor([1]) // lib.tensor([0]),
    "clamp of nothing": lambda lib, x: x.clamp(),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error_types(name: str) -> None:
    with pytest.raises(Exception) as theirs:  # noqa: PT011 - PyTorch's own type is what is wanted
        ERRORS[name](torch, _x(torch, 3, 4))
    with pytest.raises(theirs.type):
        ERRORS[name](flambeau, _x(flambeau, 3, 4))

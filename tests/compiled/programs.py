"""Small programs that a compiler must not change the meaning of. Each is a function and makers of its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import flambeau as ft
from flambeau.runtime.tensor import wrap


@dataclass(frozen=True)
class Program:
    """``fn(*inputs)``; ``shapes`` of its inputs, those in ``grads`` require a gradient."""

    name: str
    fn: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    grads: tuple[int, ...] = ()
    leaves: bool = True  # False: inputs are results of an operation, so they may be written to

    def inputs(self) -> list[Any]:
        """The same tensors each time."""
        rng = np.random.default_rng(7)
        found = []
        for i, shape in enumerate(self.shapes):
            t = wrap(rng.uniform(0.2, 1.5, shape).astype(np.float32))
            if i in self.grads:
                t.requires_grad_()
                if not self.leaves:
                    leaf, t = t, t * 1.0
                    t.leaf = leaf
            found.append(t)
        return found


PROGRAMS: list[Program] = []


def program(*shapes: tuple[int, ...], grads: tuple[int, ...] = (), leaves: bool = True) -> Any:
    def enter(fn: Any) -> Any:
        PROGRAMS.append(Program(fn.__name__, fn, shapes, grads, leaves))
        return fn
    return enter


# ---- values and gradients


@program((3, 4), (3, 4), grads=(0, 1))
def arithmetic(x, y):
    return x * y + x / (y + 1) - 2


@program((3, 4), (4,), grads=(0, 1))
def broadcast(x, y):
    return (x + y) * y


@program((3, 4), (4, 5), (5,), grads=(0, 1, 2))
def layer(x, w, b):
    return ft.addmm(b, x, w).abs()


@program((5, 4), (6, 4), grads=(0, 1))
def linear_then_sum(x, w):
    return ft.nn.functional.linear(x, w).sum()


@program((3, 4), grads=(0,))
def several_outputs(x):
    y = x * x
    return y, y + 1, y.sum(0)


@program((3, 4), (3, 4), grads=(0,))
def unused_and_constant(x, y):
    return x * 2, 5, y + 1


@program((2, 3, 4), grads=(0,))
def views(x):
    return x.transpose(0, 2).reshape(4, 6).unsqueeze(1) * 2


@program((3, 4), grads=(0,))
def detached(x):
    y = x * x
    return y * y.detach()


@program((3, 4), grads=(0,))
def without_grad_inside(x):
    with ft.no_grad():
        scale = x * x
    return x * scale


@program((3, 4), grads=(0,))
def chain_of_cheap_ops(x):
    y = x
    for _ in range(6):
        y = y * x + 1
    return y.sum()


# ---- aliasing


@program((3, 4), grads=(0,))
def returns_its_input(x):
    return x, x * 2


@program((3, 4), grads=(0,))
def returns_views_of_input(x):
    return x.t(), x[1], x.detach()


@program((3, 4), grads=(0,))
def returns_views_of_a_value(x):
    y = x * 2
    return y, y.t(), y[0], y


@program((3, 4))
def returns_it_twice(x):
    y = x + 1
    return y, y


# ---- mutation


@program((3, 4), grads=(0,))
def writes_a_value(x):
    y = x * 2
    y.add_(1)
    y *= x
    return y


@program((3, 4), grads=(0,))
def writes_through_a_view(x):
    y = x * 2
    y[1].mul_(3)
    y.t()[0].add_(x[:, 1])
    return y * x


@program((4, 6), (2, 6), grads=(0, 1))
def writes_a_slice(x, y):
    z = x * 1.5
    z[1:3] = y
    z[:, ::2] = 0.5
    return z * x


@program((4, 6), grads=(0,))
def reads_a_view_after_a_write(x):
    y = x + 0.5
    row = y[2]
    y.mul_(2)
    row.add_(1)
    return row * 2, y


@program((3, 4), (3, 4))
def writes_an_input(x, y):
    x.add_(y)
    return x * 2


@program((3, 4), (4,))
def writes_a_row_of_an_input(x, y):
    x[1].copy_(y)
    x.t()[2].mul_(2)
    return x.sum()


@program((3, 4), (3, 4), grads=(0, 1), leaves=False)
def writes_an_input_with_history(x, y):
    x.mul_(y)
    return x * x


@program((3, 4), (3, 4), grads=(1,))
def running_average(state, x):
    with ft.no_grad():
        state.mul_(0.9).add_(x, alpha=0.1)
    return (x - state) * x


@program((3, 4), grads=(0,))
def writes_off_the_tape(x):
    y = x * 3
    with ft.no_grad():
        y.mul_(2)
    return y * x


@program((3, 4), grads=(0,))
def writes_through_detach(x):
    y = x * 3
    y.detach().add_(1)
    return y * 2


@program((3, 4))
def a_copy_is_no_alias(x):
    y = x.t().reshape(-1)
    y.add_(1)
    x.view(-1).mul_(2)
    return y, x


@program((3, 4), (3, 4))
def writes_and_returns_the_input(x, y):
    x.sub_(y, alpha=0.5)
    return x, x[0]


@program((3, 4))
def writes_through_a_reshape_of_an_input(x):
    y = x.reshape(2, 6)
    y.add_(1)
    return y * 2


@program((3, 4))
def a_reshape_before_a_write_to_the_input(x):
    y = x.t().reshape(-1)
    x.mul_(2)
    return y + 1


@program((3, 4), grads=(0,))
def writes_through_contiguous(x):
    y = x * 2
    z, same = y.t().contiguous(), y.contiguous()
    z.add_(1)
    same.mul_(3)
    return y, z

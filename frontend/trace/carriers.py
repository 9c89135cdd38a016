"""Tensors that carry numbers of the program into a graph. Generated functions name these: nothing of the tracer is imported."""
from __future__ import annotations

import numpy as np

from flambeau.runtime.tensor import Tensor, wrap


def scalar_carrier(x: float | int) -> Tensor:
    """A float64 or int64 tensor without dimensions."""
    return wrap(np.array(x, np.float64 if type(x) is float else np.int64))


_zero = np.zeros((), dtype=np.bool_)


def size_carrier(n: int) -> Tensor:
    """A tensor of n times the same byte."""
    return wrap(np.broadcast_to(_zero, (n,)))

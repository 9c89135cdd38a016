"""Tensors that carry numbers of the program into a graph. Generated functions name these: nothing of the tracer is imported."""
from __future__ import annotations

import numpy as np

from flambeau.runtime.memory import address
from flambeau.runtime.tensor import Tensor, wrap


def scalar_carrier(x: float | int) -> Tensor:
    """A float64 or int64 tensor without dimensions."""
    return wrap(np.array(x, np.float64 if type(x) is float else np.int64))


_byte = np.zeros(1, np.bool_)
_byte_at = address(_byte)


def size_carrier(n: int) -> Tensor:
    """A tensor of n times the same byte. Graphs ask for its size alone, so it passes for dense: nobody need copy it."""
    carrier = wrap(np.ndarray((n,), np.bool_, _byte, 0, (0,)))
    carrier._storage.pointer = _byte_at
    return carrier

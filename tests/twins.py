"""What the comparisons of programs in both libraries share."""

from __future__ import annotations

from typing import Any

import numpy as np


def x_of(t: Any, *shape: int, shift: float = 0.0) -> Any:
    """The same float64 numbers in either library: smooth, none of them equal."""
    n = int(np.prod(shape)) if shape else 1
    values = np.sin(np.arange(n, dtype="f8") * 1.3 + 0.4 + shift)
    return t.tensor(values.reshape(shape).tolist(), dtype=t.float64)

"""What a call does, returned or raised, so that two of them can be compared."""

from __future__ import annotations

from typing import Any

import flambeau as fl


def outcome(fn: Any, *args: Any) -> Any:
    """What a call returns, or the type and words of what it raises."""
    try:
        return fn(*args)
    except Exception as error:  # noqa: BLE001 - whatever it is, both must agree
        return type(error), str(error)


def agree(a: Any, b: Any) -> bool:
    """Whether two outcomes are the same exception, or tensors alike in dtype, shape and values."""
    if isinstance(a, tuple) or isinstance(b, tuple):
        return isinstance(a, tuple) and isinstance(b, tuple) and a == b
    return a.dtype is b.dtype and a.shape == b.shape and bool(fl.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True))

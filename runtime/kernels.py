"""The template library for eager NumPy arrays: each function fills one block of 64-bit words and makes one call.

Every function returns None where no compiler is at hand or the arguments are outside what the template covers; the
caller then takes its NumPy form.
"""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np

from flambeau.runtime import native

#: The templates' codes for element types.
CODES = {
    np.dtype(np.float32): 0,
    np.dtype(np.float64): 1,
    np.dtype(ml_dtypes.bfloat16): 2,
    np.dtype(np.float16): 3,
}


def _call(template: native.Library, words: Sequence[int]) -> None:
    block = np.array(words, np.int64)
    template["run"](block.ctypes.data)


def _steps(array: np.ndarray) -> list[int]:
    """Return the array's strides in elements."""
    return [stride // array.itemsize for stride in array.strides]


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """Multiply matrices `a [..., m, k]` and `b [..., k, n]` (batch axes broadcast); all of one floating dtype."""
    library = native.template("gemm")
    code = CODES.get(a.dtype)
    if library is None or code is None or a.dtype != b.dtype or a.ndim < 2 or b.ndim < 2:
        return None
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if len(batch) > 3:
        return None
    out = np.empty((*batch, a.shape[-2], b.shape[-1]), a.dtype)
    full = (1,) * (3 - len(batch)) + batch
    (m, k), n = a.shape[-2:], b.shape[-1]
    a_steps = _steps(np.broadcast_to(a, (*full, m, k)))
    b_steps = _steps(np.broadcast_to(b, (*full, k, n)))
    c_steps = _steps(out.reshape(*full, m, n))
    pointers = (a.ctypes.data, b.ctypes.data, out.ctypes.data)
    _call(
        library,
        (*pointers, code, m, n, k, *a_steps[3:], *b_steps[3:], c_steps[3], 0, *full)
        + (*a_steps[:3], *b_steps[:3], *c_steps[:3], 0, 0),
    )
    return out

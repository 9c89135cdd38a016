"""Whether a result of flambeau's is PyTorch's: structure, dtypes, shapes, and values within rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import torch

import flambeau

from .values import array_of

#: relative and absolute tolerance of an element, and how many roundings of the largest element it may be off besides
TOLERANCES = {"float64": (1e-7, 1e-7, 64), "float32": (1e-5, 1e-5, 64), "bfloat16": (1.6e-2, 1e-2, 1), "float16": (2e-3, 1e-3, 2),
              "complex64": (1e-5, 1e-5, 64), "complex128": (1e-7, 1e-7, 64)}


class Differs(Exception):
    """Two results are not equal; the message says where."""


#: gives what PyTorch makes of the same inputs in double precision
Truth = Callable[[], Any]


def same(got: Any, want: Any, where: str = "result", values: bool = True, truth: Truth | None = None) -> None:
    """Raise :class:`Differs` unless flambeau's ``got`` equals PyTorch's ``want`` (``values`` False: up to the values).

    Where rounding sets the two apart, ``truth`` decides: ``got`` may be as far from it as ``want`` is (twice, at most).
    """
    if isinstance(want, torch.Tensor):
        _same_tensor(got, want, where, values, truth)
    elif isinstance(want, (list, tuple)):
        if not isinstance(got, (list, tuple)):
            raise Differs(f"{where} is a {type(got).__name__}, not a {type(want).__name__}")
        if len(got) != len(want):
            raise Differs(f"{where} has {len(got)} parts, not {len(want)}")
        for i, (g, w) in enumerate(zip(got, want)):
            same(g, w, f"{where}[{i}]", values, None if truth is None else lambda i=i: truth()[i])
    elif isinstance(want, dict):
        if not isinstance(got, dict) or list(got) != list(want):
            raise Differs(f"{where} has other keys: {list(got)[:8]}, not {list(want)[:8]}")
        for key, w in want.items():
            same(got[key], w, f"{where}[{key!r}]", values)
    elif isinstance(want, torch.dtype):
        if str(got) != str(want):
            raise Differs(f"{where} is {got}, not {want}")
    elif isinstance(want, (bool, int, float, complex)):
        _same_number(got, want, where, values)
    elif want is None and got is not None:
        raise Differs(f"{where} is a {type(got).__name__}, not None")


def _same_number(got: Any, want: Any, where: str, values: bool) -> None:
    if type(got) is not type(want):
        raise Differs(f"{where} is a {type(got).__name__}, not a {type(want).__name__}")
    if values and not (got == want or (got != got and want != want) or abs(got - want) <= 1e-5 + 1e-5 * abs(want)):
        raise Differs(f"{where} is {got}, not {want}")


def _same_tensor(got: Any, want: torch.Tensor, where: str, values: bool, truth: Truth | None) -> None:
    if not isinstance(got, flambeau.Tensor):
        raise Differs(f"{where} is a {type(got).__name__}, not a tensor")
    if str(got.dtype) != str(want.dtype):
        raise Differs(f"{where} is of {got.dtype}, not {want.dtype}")
    if tuple(got.shape) != tuple(want.shape):
        raise Differs(f"{where} has shape {tuple(got.shape)}, not {tuple(want.shape)}")
    if values:
        same_arrays(np.asarray(got.detach().numpy()), array_of(want), str(want.dtype)[6:], where, truth)


def same_arrays(got: np.ndarray, want: np.ndarray, dtype: str, where: str, truth: Truth | None = None) -> None:
    """Raise :class:`Differs` unless two arrays are equal up to what rounding in ``dtype`` may do."""
    if dtype not in TOLERANCES:
        bad = got != want
    else:
        wide = np.complex128 if want.dtype.kind == "c" else np.float64
        rtol, atol, roundings = TOLERANCES[dtype]
        eps = float(ml_dtypes.finfo(want.dtype).eps)
        got, want = got.astype(wide), want.astype(wide)
        with np.errstate(all="ignore"):
            size = np.abs(want)
            largest = np.max(size, where=np.isfinite(size), initial=0.0)
            close = np.abs(got - want) <= atol + rtol * size + roundings * eps * largest
            equal = (got == want) | (np.isnan(got) & np.isnan(want))
            if wide is np.complex128:
                equal |= _equal_parts(got, want)
        bad = ~(np.where(np.isfinite(size), close, False) | equal)
        if np.any(bad) and truth is not None:
            bad &= ~_as_close_to(truth, got, want)
    if np.any(bad):
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        raise Differs(f"{where}{list(at) if at else ''} is {got[at]}, not {want[at]} ({int(bad.sum())} of {bad.size})")


def _as_close_to(truth: Truth, got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Where ``got`` is about as near to the result in double precision as ``want``; nowhere if ``want`` is far off itself."""
    exact = truth()
    nowhere = np.zeros(want.shape, bool)
    if not isinstance(exact, torch.Tensor) or tuple(exact.shape) != want.shape:
        return nowhere
    exact = array_of(exact)
    with np.errstate(all="ignore"):
        finite = np.isfinite(want) & np.isfinite(exact)
        error = np.max(np.abs(want - exact), where=finite, initial=0.0)
        if error > max(1e-4, 0.25 * np.max(np.abs(exact), where=finite, initial=0.0)):
            return nowhere
        return np.abs(got - exact) <= 2 * error


def _equal_parts(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Complex numbers with an infinite or undefined part: parts equal each for themselves."""
    def part(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= 1e-5 + 1e-5 * np.abs(b))
    return part(got.real, want.real) & part(got.imag, want.imag)

"""Which of several equal elements an unstable sort names is not defined: positions are compared by what they point at."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from . import compare
from .compare import Differs
from .values import array_of

#: operator: which of its positional arguments is ``dim``
UNSTABLE = {"sort": 1, "argsort": 1, "topk": 2, "kthvalue": 2, "mode": 1}


def same(name: str, args: tuple, kwargs: dict[str, Any], got: Any, want: Any) -> None:
    """Raise :class:`Differs` unless values are equal, and positions are those of equal elements, no two the same."""
    place = UNSTABLE[name]
    dim = kwargs.get("dim", args[place] if len(args) > place else -1)
    if kwargs.get("stable") or not args[0].ndim:
        compare.same(got, want)
        return
    pairs = [(got, want)] if isinstance(want, torch.Tensor) else list(zip(got, want, strict=True))
    for i, (g, w) in enumerate(pairs):
        positions = w.dtype == torch.int64 and (i == 1 or name == "argsort")
        compare.same(g, w, f"result[{i}]", values=not positions)
        if positions:
            _same_choice(array_of(args[0]), g.numpy(), array_of(w), dim, f"result[{i}]")


def _same_choice(source: np.ndarray, got: np.ndarray, want: np.ndarray, dim: int, where: str) -> None:
    if got.ndim < source.ndim:  # without keepdim
        got, want = np.expand_dims(got, dim), np.expand_dims(want, dim)
    if got.size and (got.min() < 0 or got.max() >= source.shape[dim]):
        raise Differs(f"{where} is out of range")
    ranked = np.sort(got, axis=dim)
    if np.any(np.diff(ranked, axis=dim) == 0):
        raise Differs(f"{where} names a position twice")
    mine, theirs = (np.take_along_axis(source, index, dim) for index in (got, want))
    if not np.all((mine == theirs) | ((mine != mine) & (theirs != theirs))):
        raise Differs(f"{where} points at other elements")

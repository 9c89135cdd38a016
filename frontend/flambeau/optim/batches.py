"""Update rules run on parts of a good size: many small parameters as one, a large one in pieces that stay in the cache.

A rule that treats every number by itself may be given any part of the numbers. Called for each small parameter it would spend
its time on calls, and on a large one as a whole it would read and write main memory at each of its ops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.runtime.tensor import Tensor, wrap

PART = 1 << 16  # numbers
SCALARS = ("step", "mu_product", "eta", "mu")  # what is one number per parameter in the states of all optimizers

Rule = Callable[[Tensor, Tensor, dict[str, Any], dict[str, Any]], None]


def fits(p: Tensor, state: dict[str, Any]) -> bool:
    """Whether a parameter and its state are plain row-major memory of one shape and dtype."""
    if not (_plain(p) and type(p.grad) is Tensor and type(p.grad._a) is np.ndarray and p.grad._a.dtype == p._a.dtype):
        return False
    shape, dtype = p._a.shape, p._a.dtype
    return all(name in SCALARS or (_plain(t) and t._a.shape == shape and t._a.dtype == dtype) for name, t in state.items())


def _plain(t: Any) -> bool:
    if not isinstance(t, Tensor):
        return False
    a = t._a
    return type(a) is np.ndarray and a.flags.c_contiguous and a.flags.writeable and a.dtype.kind != "c"


def run(rule: Rule, entries: list[tuple[Tensor, dict[str, Any], dict[str, Any]]], options: dict[str, Any]) -> None:
    """Call ``rule(p, g, state, options)`` for parts of all entries: (parameter, state, numbers to put into the options)."""
    alike: dict[Any, list[tuple[list[Tensor], dict[str, Any]]]] = {}
    for p, state, numbers in entries:
        names = tuple(name for name in state if name not in SCALARS)
        key = (p._a.dtype, names, tuple(numbers.items()))
        alike.setdefault(key, []).append(([p, p.grad, *(state[name] for name in names)], numbers))
    for (_, names, _), members in alike.items():
        _run_alike(rule, [tensors for tensors, _ in members], names, {**options, **members[0][1]})


def _run_alike(rule: Rule, members: list[list[Tensor]], names: tuple[str, ...], options: dict[str, Any]) -> None:
    def apply(parts: list[Tensor]) -> None:
        g = -parts[1] if options.get("maximize") else parts[1]
        rule(parts[0], g, dict(zip(names, parts[2:])), options)

    waiting: list[list[Tensor]] = []
    size = 0
    for tensors in members:
        n = tensors[0]._a.size
        if n >= PART:
            flat = [t._a.reshape(-1) for t in tensors]
            for start in range(0, n, PART):
                apply([Tensor(a[start:start + PART], t._storage) for a, t in zip(flat, tensors)])
            continue
        waiting.append(tensors)
        size += n
        if size >= PART:
            _run_joined(apply, waiting)
            waiting, size = [], 0
    if waiting:
        _run_joined(apply, waiting)


def _run_joined(apply: Callable[[list[Tensor]], None], members: list[list[Tensor]]) -> None:
    """Copy small parameters behind one another, apply the rule, and copy back what it writes: all but the gradients."""
    arrays = [[t._a.reshape(-1) for t in tensors] for tensors in members]
    joined = [np.concatenate(column) for column in zip(*arrays)]
    apply([wrap(a) for a in joined])
    start = 0
    for tensors, own in zip(members, arrays):
        stop = start + own[0].size
        for i, (t, a) in enumerate(zip(tensors, own)):
            if i != 1:
                a[...] = joined[i][start:stop]
                t._storage.version += 1
        start = stop


__all__ = ["fits", "run"]

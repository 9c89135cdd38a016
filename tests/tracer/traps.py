"""Traps: programs that change something between two calls. A trap yields (compiled, eager) results after each change."""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from tracer.support import Tensor, compile, outcome, plain

Trap = Callable[[], Iterator[tuple[Any, Any]]]


def facts(value: Any) -> Any:
    """A result as comparable data: values, and what a stale graph could get wrong besides (dtypes, the tape, strides)."""
    if isinstance(value, Tensor):
        return plain(value), str(value.dtype), value.requires_grad, type(value).__name__, value.stride()
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [facts(v) for v in value]
    if isinstance(value, dict):
        return type(value).__name__, [(plain(k), facts(v)) for k, v in value.items()]
    return type(value).__name__, plain(value)


def both(fn: Any, **options: Any) -> Callable[..., tuple[Any, Any]]:
    """Calls `fn` compiled, then eager; exceptions count as results."""
    compiled = compile(fn, backend="eager", **options)
    return lambda *args, **kwargs: (result(compiled, args, kwargs), result(fn, args, kwargs))


def result(fn: Any, args: Any, kwargs: Any) -> Any:
    """What a call gives or raises."""
    return outcome(lambda: facts(fn(*args, **kwargs)), (), {})


def spring(trap: Trap) -> None:
    """Run a trap: there are at least two states, they give different results, and no result is stale."""
    seen = set()
    for k, (got, expected) in enumerate(trap()):
        assert got == expected, f"state {k}: compiled {got}, eager {expected}"
        seen.add(repr(expected))
    assert len(seen) > 1, "the trap changes nothing that shows"


def rand(*shape: int, requires_grad: bool = False, seed: int = 0) -> Tensor:
    t = Tensor(np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32))
    return t.requires_grad_() if requires_grad else t


@contextlib.contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute exchanged for a while, or added where the owner itself had none."""
    missing = object()
    before = owner.__dict__.get(name, missing)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)

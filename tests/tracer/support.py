"""Running a program eagerly and compiled and comparing results and everything it changed."""
from __future__ import annotations

import copy
from types import FunctionType
from typing import Any

import numpy as np

import flambeau  # noqa: F401 - installs the eager runtime
import flambeau.ir.ops  # noqa: F401 - registers the ops
import flambeau.runtime.eager  # noqa: F401 - runs them
from flambeau.frontend.compile import compile, context_of
from flambeau.ir.op import ops
from flambeau.runtime.tensor import Tensor, wrap

_random = np.random.default_rng(0)


def rand(*shape: int, requires_grad: bool = False) -> Tensor:
    t = Tensor(_random.standard_normal(shape).astype(np.float32))
    return t.requires_grad_() if requires_grad else t


def tensor(values: Any, dtype: str = "float32") -> Tensor:
    return wrap(np.asarray(values, dtype=dtype))


def plain(value: Any, seen: dict[int, Any] | None = None) -> Any:
    """A value as comparable data: tensors as lists, objects as their attributes."""
    seen = {} if seen is None else seen
    if isinstance(value, Tensor):
        return ("tensor", value._a.shape, repr(np.asarray(value._a, dtype=np.float64).round(4).tolist()))   # nan == nan
    if id(value) in seen:
        return "again"
    if isinstance(value, (list, tuple, set, frozenset)):
        if type(value) is not tuple:                              # which tuple it is makes no difference
            seen[id(value)] = value
        items = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
        return (type(value).__name__, [plain(v, seen) for v in items])
    if isinstance(value, dict):
        seen[id(value)] = value
        return (type(value).__name__, [(plain(k, seen), plain(v, seen)) for k, v in value.items()])
    if hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
        seen[id(value)] = value
        return (type(value).__name__, plain(vars(value), seen))
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return value


def outcome(fn: Any, args: tuple, kwargs: dict) -> Any:
    try:
        return plain(fn(*args, **kwargs))
    except Exception as error:
        return ("raised", type(error).__name__, str(error))


def copied(values: Any) -> Any:
    memo: dict[int, Any] = {}

    def one(v: Any) -> Any:
        if isinstance(v, Tensor):
            if id(v) not in memo:
                memo[id(v)] = wrap(v._a.copy())
                if v.requires_grad:
                    memo[id(v)].requires_grad_()
            return memo[id(v)]
        if type(v) in (list, tuple):
            if id(v) not in memo:
                memo[id(v)] = type(v)(one(x) for x in v)
            return memo[id(v)]
        if type(v) is dict:
            if id(v) not in memo:
                memo[id(v)] = {k: one(x) for k, x in v.items()}
            return memo[id(v)]
        if isinstance(v, (type, FunctionType)) or not hasattr(v, "__dict__"):
            return v
        return copy.deepcopy(v)

    return one(values)


def check(fn: Any, *args: Any, calls: int = 2, graphs: int | None = None, breaks: int | None = None,
          backend: str = "eager", dynamic: bool | None = None, **kwargs: Any) -> Any:
    """`fn` compiled gives, at every call, the result, the exception and the changed arguments of `fn` eager.

    Returns the compiled function's context. `graphs`, `breaks`: how many there must be after all calls.
    """
    compiled = compile(fn, backend=backend, dynamic=dynamic)
    for call in range(calls):
        here, there = copied(args), copied(args)
        expected = outcome(fn, here, kwargs)
        got = outcome(compiled, there, kwargs)
        assert got == expected, f"call {call}: compiled {got}, eager {expected}\n{events(compiled)}"
        assert plain(there) == plain(here), f"call {call}: arguments differ\n{events(compiled)}"
    context = context_of(compiled)
    assert not [e for e in context.events if e.kind == "fallback"], events(compiled)
    if graphs is not None:
        assert count(compiled, "graph") == graphs, events(compiled)
    if breaks is not None:
        assert count(compiled, "break") == breaks, events(compiled)
    return context


def count(compiled: Any, kind: str) -> int:
    return sum(e.kind == kind for e in context_of(compiled).events)


def events(compiled: Any) -> str:
    return "\n".join(f"{e.kind} {e.line}: {e.text}" for e in context_of(compiled).events)


__all__ = ["Tensor", "check", "compile", "context_of", "count", "events", "ops", "rand", "tensor"]

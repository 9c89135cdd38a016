"""Seeded compiler bugs: each breaks one place of the compiler, and names the op that a checked call must then name."""
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from flambeau.codegen import cpp
from flambeau.codegen import numpy as numpy_code
from flambeau.frontend.trace import guards
from flambeau.ir.op import get_op
from flambeau.runtime.tensor import wrap

Program = tuple[Callable[..., Any], list[Callable[[], tuple]]]


@dataclass
class Fault:
    """``plant(patch)`` breaks the compiler and returns a function and the makers of its calls' arguments.

    ``ops``: what the report may name as the op; ``stages``: the stages it may name; ``named``: False where the report is
    known to name another op.
    """

    name: str
    plant: Callable[[Any], Program]
    ops: frozenset[str]
    stages: frozenset[str]
    backend: str
    named: bool
    dynamic: bool | None

    @property
    def what(self) -> str:
        return (self.plant.__doc__ or "").strip()


FAULTS: dict[str, Fault] = {}


def fault(*ops: str, stage: str | tuple[str, ...] = (), backend: str = "numpy", named: bool = True,
          dynamic: bool | None = None) -> Any:
    """Enter a planting function as a fault."""
    def enter(plant: Callable[[Any], Program]) -> Callable[[Any], Program]:
        stages = frozenset((stage,) if isinstance(stage, str) else stage)
        assert plant.__name__ not in FAULTS
        FAULTS[plant.__name__] = Fault(plant.__name__, plant, frozenset(ops), stages, backend, named, dynamic)
        return plant
    return enter


# --------------------------------------------------------------------------- inputs

def values(*shape: int, seed: int = 0, grad: bool = False) -> Any:
    t = wrap(np.random.default_rng(seed).uniform(-1.5, 1.5, shape).astype(np.float32))
    return t.requires_grad_() if grad else t


def whole(*shape: int, high: int = 100) -> Any:
    return wrap(np.random.default_rng(3).integers(0, high, shape))


def square() -> tuple:
    return (values(5, 5),)


def two() -> tuple:
    return values(4, 4), values(4, seed=1)


def leaf() -> tuple:
    return (values(4, 5, grad=True),)


def leaves() -> tuple:
    return values(4, 5, grad=True), values(5, seed=1, grad=True)


# --------------------------------------------------------------------------- ways to break things

def numpy_text(patch: Any, pattern: str, by: str, count: int = 1) -> None:
    """Generated NumPy code is changed where `pattern` first matches."""
    text = numpy_code.PlanSource.text
    patch.setattr(numpy_code.PlanSource, "text", lambda self: re.sub(pattern, by, text(self), count=count))


def cpp_text(patch: Any, pattern: str, by: str, count: int = 1) -> None:
    """Generated C++ of a kernel is changed where `pattern` first matches."""
    source = cpp.kernel_source
    patch.setattr(cpp, "kernel_source", lambda kernel: re.sub(pattern, by, source(kernel), count=count))


def wrapped(patch: Any, owner: Any, name: str, by: Callable[..., Any]) -> None:
    """`owner.name` becomes `by(original, *args)`."""
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **kwargs: by(original, *args, **kwargs))


def decomposed(patch: Any, name: str, parts: Callable[..., Any]) -> None:
    """An op is decomposed into other parts; eager mode goes by its kernel."""
    op = get_op(name)
    assert op.kernel is not None
    patch.setattr(op, "decompose", parts)


def no_guard(patch: Any, dropped: Callable[[guards.Guard], bool]) -> None:
    """Guards of a kind are forgotten."""
    finished = guards.GuardSet.finished
    patch.setattr(guards.GuardSet, "finished", lambda self: [g for g in finished(self) if not dropped(g)])


def kind(*kinds: str) -> Callable[[guards.Guard], bool]:
    return lambda guard: guard.key[0] in kinds

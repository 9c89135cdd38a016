"""What program files import: the namespace they are written against, and how they say what they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Set by `runner.load` before a program file is loaded: flambeau's, or torch's.
torch: Any = None
nn: Any = None
F: Any = None

#: programs of the file being loaded
collected: list[Program] = []


@dataclass
class Call:
    """Arguments of one call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)


def call(*args: Any, **kwargs: Any) -> Call:
    return Call(args, kwargs)


@dataclass
class Program:
    """What is compiled, how it is called, and what is looked at besides its results."""

    name: str
    fn: Callable[..., Any]
    calls: list[Any]
    watch: Callable[[], Any] | None = None
    backward: bool = False


def program(*calls: Any, watch: Callable[[], Any] | None = None, backward: bool = False) -> Callable[[Any], Any]:
    """Make a function, or an instance of a class, a program of the corpus (see the package's docstring)."""

    def mark(fn: Any) -> Any:
        steps = [Call(c) if isinstance(c, tuple) else c for c in calls]
        target = fn() if isinstance(fn, type) else fn
        collected.append(Program(fn.__name__, target, steps or [Call(())], watch, backward))
        return fn

    return mark


def rand(*shape: int, seed: int = 0, grad: bool = False) -> Any:
    """A float32 tensor of values in [-1, 1) that both libraries agree on."""
    made = torch.from_numpy(np.random.default_rng([seed, *shape]).uniform(-1, 1, shape).astype(np.float32))
    return made.requires_grad_() if grad else made


def ints(*shape: int, high: int = 10, seed: int = 0) -> Any:
    """An int64 tensor of values in [0, high)."""
    return torch.from_numpy(np.random.default_rng([seed, *shape]).integers(0, high, shape))

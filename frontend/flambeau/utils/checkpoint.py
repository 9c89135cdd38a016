"""Activation checkpointing (PyTorch: ``torch.utils.checkpoint``).

The same numbers, but activations are kept: memory is not saved. Under ``flambeau.compile`` the partitioner decides what
is kept and what is computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def checkpoint(function: Callable, *args: Any, use_reentrant: bool | None = None, context_fn: Any = None,
               determinism_check: str = "default", debug: bool = False, preserve_rng_state: bool = True, **kwargs: Any) -> Any:
    """``function(*args, **kwargs)``."""
    return function(*args, **kwargs)


def checkpoint_sequential(functions: Any, segments: int, input: Any, use_reentrant: bool | None = None,  # noqa: A002
                          **kwargs: Any) -> Any:
    """The modules of a Sequential, or functions of a list, one after the other."""
    for function in functions:
        input = function(input)  # noqa: A001
    return input


__all__ = ["checkpoint", "checkpoint_sequential"]

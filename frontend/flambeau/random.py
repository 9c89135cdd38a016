"""The state of the random generator (PyTorch: ``torch.random``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flambeau._interop import get_rng_state, initial_seed, manual_seed, seed, set_rng_state
from flambeau.runtime.rng import default_generator as _default

default_generator = _default()


@contextmanager
def fork_rng(devices: Any = None, enabled: bool = True, device_type: str = "cuda") -> Iterator[None]:
    """Restore the generator's state at the end of the block."""
    state = get_rng_state()
    try:
        yield
    finally:
        if enabled:
            set_rng_state(state)


def thread_safe_generator() -> Any:
    """The generator of a worker thread of a data loader; None here, where workers are processes."""
    return None


__all__ = ["default_generator", "fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed", "set_rng_state",
           "thread_safe_generator"]

"""Detection of undefined gradients (PyTorch: ``torch.autograd.set_detect_anomaly``): accepted, nothing is looked for."""

from __future__ import annotations

import contextlib
from typing import Any

_enabled = False


def is_anomaly_enabled() -> bool:
    """What was last set."""
    return _enabled


class set_detect_anomaly(contextlib.ContextDecorator):  # noqa: N801 - PyTorch's name
    """Sets the flag at once; as a context manager it restores it at the end."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        global _enabled
        self.before, _enabled = _enabled, mode

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: Any) -> None:
        global _enabled
        _enabled = self.before


class detect_anomaly(set_detect_anomaly):  # noqa: N801 - PyTorch's name
    """``set_detect_anomaly(True)`` for a block."""

    def __init__(self, check_nan: bool = True) -> None:
        super().__init__(True, check_nan)


__all__ = ["detect_anomaly", "is_anomaly_enabled", "set_detect_anomaly"]

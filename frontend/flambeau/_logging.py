"""What the compiler reports while it works (PyTorch: ``torch._logging``)."""

from __future__ import annotations

from typing import Any

__all__ = ["set_logs"]


def set_logs(**settings: Any) -> None:
    """Ask for messages on stderr, such as ``graph_breaks=True, recompiles=True`` (PyTorch: ``torch._logging.set_logs``).

    Raises:
        ValueError: an unknown name.
    """
    from flambeau.frontend import logs  # noqa: PLC0415 - importing the package loads no part of the compiler

    logs.set_logs(**settings)

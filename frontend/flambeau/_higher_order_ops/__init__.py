"""Branches and loops as operators that take functions (PyTorch: ``torch.cond``, ``torch._higher_order_ops``).

Run eagerly they are Python's ``if`` and ``for``. In compiled code each is one step of the graph whose functions are graphs
themselves, so a branch on data or a loop of unknown length needs no break. Here are PyTorch's checks and the trees of
arguments; what runs is in ``runtime/control.py``.
"""

from __future__ import annotations

from .associative_scan import associative_scan
from .cond import cond
from .map import map  # noqa: A004 - PyTorch's name
from .scan import scan
from .while_loop import while_loop

__all__ = ["associative_scan", "cond", "map", "scan", "while_loop"]

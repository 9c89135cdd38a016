"""Branches and loops as operators that take functions (PyTorch: ``torch.cond``, ``torch._higher_order_ops``)."""

from __future__ import annotations

from .control import associative_scan, cond, map, scan, while_loop  # noqa: A004 - PyTorch's name

__all__ = ["associative_scan", "cond", "map", "scan", "while_loop"]

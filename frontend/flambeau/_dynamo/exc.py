"""The compiler's exceptions under PyTorch's names (``torch._dynamo.exc``)."""

from __future__ import annotations

from flambeau.frontend.points import GraphBreakError, RecompileLimitError

#: ``fullgraph=True`` and the function cannot be captured as one graph.
Unsupported = GraphBreakError
#: ``fullgraph=True`` and the function was compiled up to the limit.
FailOnRecompileLimitHit = RecompileLimitError

__all__ = ["FailOnRecompileLimitHit", "GraphBreakError", "RecompileLimitError", "Unsupported"]

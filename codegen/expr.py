"""The scalar functions of loop bodies: the ops themselves, called as NumPy functions on computed arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.ir import schema
from flambeau.ir.op import Op


def numpy_call(op: Op, xp: Any, operands: Sequence[Any], *extra: Any) -> Any:
    """Run a pointwise op's NumPy kernel on `operands`, its other parameters at their defaults.

    `extra` values fill the parameters that follow the operands (the dtype of a cast).
    """
    if op.kernel is None:
        raise TypeError(f"{op.name} has no NumPy kernel")
    given = [*operands, *extra]
    rest = [p.default for p in op.schema.params[len(given) :]]
    if any(value is schema.REQUIRED for value in rest):
        raise TypeError(f"{op.name} takes {len(op.schema.params)} arguments, a loop body gave {len(given)}")
    return op.kernel(xp, *given, *rest)

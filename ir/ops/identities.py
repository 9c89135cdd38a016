"""Algebra that the tracer and graph simplification may use, as facts about ops: neutral elements, involutions, options."""

from __future__ import annotations

from typing import Any

from ..op import OPS

#: op -> (position, number): with the number at the position, the result is the other operand (0.0 + -0.0 is 0.0).
_NEUTRAL = {"add": ((0, -0.0), (1, -0.0)), "mul": ((0, 1), (1, 1)), "sub": ((1, 0),), "div": ((1, 1),), "pow": ((1, 1),)}
#: op -> (option, a, b): with the number s as the option, the result for x, *rest is b(x, a(*rest) * s), or b(x, rest * s).
_SCALED = {"add": ("alpha", None, "add"), "sub": ("alpha", None, "sub"), "addcmul": ("value", "mul", "add"),
           "addcdiv": ("value", "div", "add")}
_INVOLUTIONS = ("neg", "conj", "logical_not", "bitwise_not")
_IDEMPOTENT = ("abs", "relu", "sign", "floor", "ceil", "round", "trunc")
_COMMUTATIVE = ("add", "mul", "maximum", "minimum", "eq", "ne", "logical_and", "logical_or")
_COPIES = ("clone", "contiguous", "alias", "detach", "to_device")


def state_identities() -> None:
    """Enter the facts with the ops, once all are defined."""
    facts: list[tuple[str, str, Any]] = [(name, "neutral", pairs) for name, pairs in _NEUTRAL.items()]
    facts += [(name, "scaled", how) for name, how in _SCALED.items()]
    facts += [(name, "involution", True) for name in _INVOLUTIONS] + [(name, "idempotent", True) for name in _IDEMPOTENT]
    facts += [(name, "commutative", True) for name in _COMMUTATIVE]
    for name, fact, value in facts:
        if name in OPS:
            OPS[name].extra[fact] = value
    OPS["view"].extra["relaxed"] = OPS["reshape"]  # among values without aliases, all that matters is the elements
    for name in _COPIES:
        if name in OPS:
            OPS[name].tags |= {"copies"}
    OPS["full"].tags |= {"filled"}

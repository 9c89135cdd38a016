"""Which indices kernels look at, so that it is known when a check can no longer be the first to fail.

The gradient of an embedding, say, checks the same indices as the embedding did.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard

from flambeau.codegen.emit import roots, statements
from flambeau.ir import index as ix
from flambeau.ir.loops import Call, Expr, Let, Load, Local, children, rewrite, walk
from flambeau.ir.program import Kernel

Check = tuple[Expr, Expr]  # what is checked at all positions of its loops, and the size


def checks_of(kernel: Kernel) -> set[Check]:
    """All checks of a kernel."""
    known = _values(kernel)
    return {_check(e, known) for s in statements(kernel.body) for root in roots(s) for e in walk(root) if _is_check(e)}


def always_made(kernel: Kernel) -> set[Check]:
    """Those that each iteration makes, whatever the data are."""
    known = _values(kernel)
    return {_check(s.value, known) for s in statements(kernel.body) if isinstance(s, Let) and _is_check(s.value)}


def _is_check(e: Any) -> TypeGuard[Call]:
    return isinstance(e, Call) and e.fn == "checked_index"


def _values(kernel: Kernel) -> dict[str, Expr]:
    """The values that the body names."""
    known: dict[str, Expr] = {}
    for s in statements(kernel.body):
        if isinstance(s, Let):
            known[s.name] = _spelled_out(s.value, known)
    return known


def _spelled_out(e: Expr, known: dict[str, Expr]) -> Expr:
    return rewrite(e, lambda part: known.get(part.name) if isinstance(part, Local) else None)


def _check(e: Call, known: dict[str, Expr]) -> Check:
    at, size = (_spelled_out(operand, known) for operand in e.operands[:2])
    names = {v: ix.var(f"k{n}", v.args[1]) for n, v in enumerate(sorted(set(_variables(at)), key=lambda v: v.args[0]))}
    return rewrite(at, lambda part: None, names), size


def _variables(e: Expr) -> Iterator[Any]:
    if isinstance(e, Load):
        for i in e.index:
            yield from ix.variables(i)
    for part in children(e):
        yield from _variables(part)

"""One walk over a kernel's body for every target: order of statements, sharing of values, what depends on what.

A target supplies the dozen methods of `Target`; its values are objects of its own (`V`), usually a piece of source text
with what must be known about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from flambeau.ir import index as ix
from flambeau.ir import loops
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Accumulate, Buffer, Call, Const, Expr, For, IndexValue, Init, Let, Load, Local, Random, Store
from flambeau.ir.program import Kernel

V = TypeVar("V")


class Target(Protocol[V]):
    """How one target language spells the parts of a loop body."""

    # values
    def const(self, e: Const) -> V: ...
    def index_value(self, e: IndexValue) -> V: ...
    def local(self, e: Local) -> V: ...
    def load(self, e: Load) -> V: ...
    def call(self, e: Call, operands: Sequence[V]) -> V: ...
    def random(self, e: Random, seed: V) -> V: ...
    def named(self, e: Expr, value: V) -> V: ...  # a value used more than once gets a name

    # statements
    def let(self, s: Let) -> None: ...
    def init(self, s: Init) -> None: ...
    def accumulate(self, s: Accumulate) -> None: ...
    def store(self, s: Store) -> None: ...
    def loop(self, s: For) -> None: ...


class Values(Generic[V]):
    """Evaluates the expressions of one statement: each distinct one once, named if it is used again."""

    def __init__(self, target: Target[V], roots: Iterable[Expr | None]) -> None:
        self._target = target
        self._memo: dict[Expr, V] = {}
        self._uses: Counter[Expr] = Counter()
        for root in roots:
            if root is not None:
                self._count(root)

    def _count(self, e: Expr) -> None:
        self._uses[e] += 1
        if self._uses[e] == 1:
            for child in loops.children(e):
                self._count(child)

    def __call__(self, e: Expr) -> V:
        """Return the target's value of `e`, spelling it out at the first request."""
        found = self._memo.get(e)
        if found is None:
            found = self._spell(e)
            if self._uses[e] > 1 and not isinstance(e, (Const, Local)):
                found = self._target.named(e, found)
            self._memo[e] = found
        return found

    def _spell(self, e: Expr) -> V:
        target = self._target
        if isinstance(e, Const):
            return target.const(e)
        if isinstance(e, Local):
            return target.local(e)
        if isinstance(e, IndexValue):
            return target.index_value(e)
        if isinstance(e, Load):
            return target.load(e)
        if isinstance(e, Random):
            return target.random(e, self(e.args[1]))
        if isinstance(e, Call):
            return target.call(e, [self(operand) for operand in e.operands])
        raise TypeError(f"a kernel body cannot hold {type(e).__name__}: {e}")


def walk_body(target: Target[Any], body: Sequence[Any]) -> None:
    """Hand every statement of `body` to its method, in order."""
    for statement in body:
        if isinstance(statement, Let):
            target.let(statement)
        elif isinstance(statement, Init):
            target.init(statement)
        elif isinstance(statement, Accumulate):
            target.accumulate(statement)
        elif isinstance(statement, Store):
            target.store(statement)
        elif isinstance(statement, For):
            target.loop(statement)
        else:
            raise TypeError(f"not a statement: {statement!r}")


# ---- questions about bodies ---------------------------------------------------------------------------------------


def statements(body: Sequence[Any]) -> Iterator[Any]:
    """Every statement of `body`, those inside loops included, outer ones first."""
    for statement in body:
        yield statement
        if isinstance(statement, For):
            yield from statements(statement.body)


def roots(statement: Any) -> list[Expr]:
    """The expressions that a statement (not a loop) evaluates, those of its indices included."""
    found: list[Expr] = []
    if isinstance(statement, (Let, Accumulate, Store)):
        found.append(statement.value)
    if isinstance(statement, Store):
        found += values_in(statement.index)
        if statement.mask is not None:
            found.append(statement.mask)
    if isinstance(statement, Accumulate) and statement.position is not None:
        found += values_in((statement.position,))
    return found


def values_in(index: Iterable[IndexLike]) -> list[Expr]:
    """The loop expressions read as indices inside `index`."""
    return [i.args[0] for part in index for i in ix.walk(part) if i.kind == "value"]


def offset(buffer: Buffer, index: Sequence[IndexLike]) -> IndexLike:
    """The position of an element in its buffer, in elements."""
    total: IndexLike = 0
    for i, stride in zip(index, buffer.strides, strict=True):
        total = ix.add(total, ix.mul(i, stride))
    return total


def buffers_of(kernel: Kernel) -> dict[str, Buffer]:
    """All buffers a kernel may touch, by name."""
    return {buffer.name: buffer for buffer in (*kernel.params, *kernel.scratch)}


def stored_in(body: Sequence[Any]) -> set[str]:
    """The names of the buffers that `body` writes."""
    return {s.buffer for s in statements(body) if isinstance(s, Store)}


def defined_in(body: Sequence[Any]) -> set[str]:
    """The names of values that `body` computes or changes."""
    return {s.name for s in statements(body) if isinstance(s, (Let, Init, Accumulate))}


class Dependence:
    """Which expressions change inside a loop: through its variables, its values, or the buffers it writes."""

    def __init__(self, variables: Iterable[Index], body: Sequence[Any]) -> None:
        self._variables = set(variables) | {s.var for s in statements(body) if isinstance(s, For)}
        self._names = defined_in(body)
        self._buffers = stored_in(body)
        self._memo: dict[Expr, bool] = {}

    def __call__(self, e: Expr) -> bool:
        """Say whether `e` may differ from one iteration to the next."""
        found = self._memo.get(e)
        if found is None:
            found = self._memo[e] = self._own(e) or any(self(child) for child in loops.children(e))
        return found

    def index(self, i: IndexLike) -> bool:
        """Say whether an index may differ from one iteration to the next."""
        return bool(ix.variables(i) & self._variables) or any(self(e) for e in values_in((i,)))

    def _own(self, e: Expr) -> bool:
        if isinstance(e, Local):
            return e.name in self._names
        if isinstance(e, Load):
            return e.buffer in self._buffers or any(ix.variables(i) & self._variables for i in e.index)
        if isinstance(e, IndexValue):
            return bool(ix.variables(e.args[0]) & self._variables)
        if isinstance(e, Random):
            return bool(ix.variables(e.args[2]) & self._variables)
        return False


def cost(body: Sequence[Any]) -> int:
    """A rough count of the operations of one pass over `body`, inner loops of unknown extent taken as 64 long."""
    total = 0
    for statement in body:
        if isinstance(statement, For):
            extent = statement.var.args[1]
            total += (extent if isinstance(extent, int) else 64) * cost(statement.body)
        else:
            total += 1 + sum(1 for root in roots(statement) for e in loops.walk(root) if isinstance(e, (Call, Load, Random)))
    return max(1, total)

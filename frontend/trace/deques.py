"""Deques: lists with two ends and, if they have one, a greatest length."""
from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.builtins import on
from flambeau.frontend.trace.sequences import ListValue
from flambeau.frontend.trace.source import Source
from flambeau.frontend.trace.values import NONE, ONE, Const, Value

if TYPE_CHECKING:
    from flambeau.frontend.trace.effects import Rebuilder
    from flambeau.frontend.trace.interp import Tracer


class DequeValue(ListValue):
    """A deque; `maxlen` None: as long as one likes."""

    def __init__(self, items: Iterable[Any], source: Source | None = None, maxlen: int | None = None) -> None:
        super().__init__(items, source, collections.deque)
        self.maxlen = maxlen

    def getattr(self, tr: Tracer, name: str) -> Value:
        return Const(self.maxlen) if name == "maxlen" else super().getattr(tr, name)

    def place(self, tr: Tracer, key: Value) -> Any:
        if key.pytype() is slice:
            raise tr.observe(TypeError("sequence index must be integer, not 'slice'"))
        return super().place(tr, key)

    def like(self, items: list[Value]) -> Value:
        return DequeValue(items, maxlen=self.maxlen)

    def rebuild(self, out: Rebuilder) -> str:
        items = ", ".join(out.expr(v) for v in self.values(out.tr))
        return f"{out.constant(collections.deque)}([{items}], {self.maxlen})"

    def _put(self, tr: Tracer, items: list[Value], left: bool) -> None:
        """Add items one by one; each pushes one out at the other end once the deque is full."""
        if self.maxlen is not None or left:
            self.look(tr)
        tr.effects.touch(self)
        self.items[:] = [*items[::-1], *self.items] if left else [*self.items, *items]
        if self.maxlen is not None:
            excess = max(0, len(self.items) - self.maxlen)
            del self.items[len(self.items) - excess if left else 0:len(self.items) if left else excess]

    def m_append(self, tr: Tracer, item: Value) -> None:
        self._put(tr, [item], False)

    def m_appendleft(self, tr: Tracer, item: Value) -> None:
        self._put(tr, [item], True)

    def m_extend(self, tr: Tracer, items: Value) -> None:
        self._put(tr, tr.unpack(items), False)

    def m_extendleft(self, tr: Tracer, items: Value) -> None:
        self._put(tr, tr.unpack(items), True)

    def m_insert(self, tr: Tracer, at: Value, item: Value) -> None:
        if self.maxlen is not None and self.length(tr) >= self.maxlen:
            raise tr.observe(IndexError("deque already at its maximum size"))
        super().m_insert(tr, at, item)

    def as_python(self, tr: Tracer) -> Any:
        return collections.deque((v.as_python(tr) for v in self.values(tr)), self.maxlen)

    def joined(self, tr: Tracer, items: list[Value]) -> DequeValue:
        """A deque like this one of these items, of which the last fit."""
        new = DequeValue([], maxlen=self.maxlen)
        new._put(tr, items, False)
        return new

    def m_pop(self, tr: Tracer) -> Value:                         # type: ignore[override]
        if not self.truth(tr):
            raise tr.observe(IndexError("pop from an empty deque"))
        return super().m_pop(tr)

    def m_popleft(self, tr: Tracer) -> Value:
        if not self.truth(tr):
            raise tr.observe(IndexError("pop from an empty deque"))
        return super().m_pop(tr, Const(0))

    def m_rotate(self, tr: Tracer, steps: Value = ONE) -> None:
        self.change(tr)
        if self.items:
            k = -tr.index(steps) % len(self.items)
            self.items[:] = self.items[k:] + self.items[:k]


@on(collections.deque)
def _deque(tr: Tracer, iterable: Value | None = None, maxlen: Value = NONE) -> Value:
    limit = None if isinstance(maxlen, Const) and maxlen.value is None else tr.index(maxlen)
    if limit is not None and limit < 0:
        raise tr.observe(ValueError("maxlen must be non-negative"))
    new = DequeValue([], maxlen=limit)
    if iterable is not None:
        new.m_extend(tr, iterable)
    return new

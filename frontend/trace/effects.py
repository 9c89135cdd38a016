"""Side effects of the traced code on outside objects, and the run function that makes everything real.

While tracing, a change is only made in the symbolic value. `Effects` remembers which values were changed, in the order of
their first change; `Rebuilder` writes the Python that runs the graph, builds the new objects, makes the changes and
returns the result.
"""
from __future__ import annotations

import collections
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.drawing import itself
from flambeau.frontend.trace.keys import HashedKey, is_known
from flambeau.frontend.trace.mappings import DictValue, SetValue
from flambeau.frontend.trace.overlaps import is_outdated, with_ban
from flambeau.frontend.trace.sequences import ListValue, Pending
from flambeau.frontend.trace.values import Const, OutsideConst, TensorValue, Unsupported, Value
from flambeau.frontend.trace.writer import Writer
from flambeau.ir.tracing import GraphTensor, tape_views

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer


class Effects:
    """Outside values that the trace has changed."""

    def __init__(self) -> None:
        self.touched: dict[int, Value] = {}
        self.barrier: Callable[[Value], None] | None = None       # asked first while a branch or loop body is traced

    def touch(self, value: Value) -> None:
        """To be called before `value` changes. Values made in the trace need no replay."""
        if self.barrier is not None:
            self.barrier(value)
        if value.source is not None:
            self.touched.setdefault(id(value), value)


class CannotRebuild(Exception):
    """A value made in the trace has no real counterpart; `value` says which."""

    def __init__(self, value: Value, error: Unsupported) -> None:
        super().__init__(str(error))
        self.value, self.error = value, error


class Rebuilder:
    """Writes the run function of an entry."""

    def __init__(self, tr: Tracer, w: Writer) -> None:
        self.tr, self.w = tr, w
        self.outputs: list[Any] = []                 # graph nodes, in the order of the compiled graph's results
        self._texts: dict[int, str] = {}
        self._named: list[Value] = []                # the values of these texts: another must not get the id of one
        self._busy: set[int] = set()
        self._late: list[Callable[[], None]] = []

    # ---- writing

    def line(self, text: str) -> None:
        self.w.line(text)

    def variable(self, expression: str) -> str:
        name = self.w.fresh("r")
        self.w.line(f"{name} = {expression}")
        return name

    def constant(self, value: Any) -> str:
        return self.w.constant(value)

    def literal(self, value: Any) -> str:
        return self.w.literal(value)

    def remember(self, value: Value, text: str) -> None:
        """`text` names `value` from now on (before its parts are filled in, so that cycles work)."""
        self._texts[id(value)] = text
        self._named.append(value)

    def later(self, action: Callable[[], None]) -> None:
        """Fill in parts once the outermost expression is complete."""
        self._late.append(action)

    def expr(self, value: Value) -> str:
        """Expression for the real object of `value`. Objects with identity are built once, in a variable."""
        text = self._texts.get(id(value))
        if text is None:
            text = self._texts[id(value)] = self._expr(value)
            self._named.append(value)
        return text

    def _expr(self, value: Value) -> str:
        if isinstance(value, Const) and not (isinstance(value, OutsideConst) and not value.looked):
            return value.rebuild(self)
        if value.source is not None:
            return self.w.fetch(value.source)
        if id(value) in self._busy:
            raise CannotRebuild(value, Unsupported("rebuild", f"a {value.pytype().__name__} contains itself"))
        self._busy.add(id(value))
        try:
            text = value.rebuild(self)
        except Unsupported as error:
            raise CannotRebuild(value, error) from None
        self._busy.discard(id(value))
        if value.mutable and not text.isidentifier():
            text = self.variable(text)
        return self._texts.get(id(value), text)

    def item(self, item: Any) -> str:
        """An item of an outside container; one never looked at is passed on as it is."""
        return self.w.fetch(item.source) if isinstance(item, Pending) else self.expr(item)

    def tensor(self, value: TensorValue) -> str:
        if not isinstance(value.tensor, GraphTensor):
            raise Unsupported("transform", "a tensor made inside a transform is kept beyond it",
                              "return it from the transformed function")
        if self.tr.tape.is_kept(value):
            raise Unsupported("tape", "a tensor that the compiled function made a leaf of the tape, or retains the gradient of, "
                              "is kept beyond it", "return the tensor's detach() beside its gradient")
        node = itself(self.tr, value.tensor.node)
        if node not in self.outputs:
            self.outputs.append(node)
        tape_views(value.tensor)
        text, ban = f"o[{self.outputs.index(node)}]", value.tensor.ban
        if ban is not None:
            return f"{self.constant(with_ban)}({text}, {ban!r}, {is_outdated(self.tr, node)})"
        return text

    def symbol(self, value: Any) -> str:
        return self.tr.shapes.code(value, self.w, lambda tensor: self.tensor(self.tr.from_python(tensor)))  # type: ignore[arg-type]

    def finish(self) -> None:
        """Run what was put off."""
        while self._late:
            self._late.pop(0)()

    # ---- replay

    def effects(self) -> list[str]:
        """Statements that make the recorded changes; everything they mention is already in variables."""
        statements: list[str] = []
        for value in list(self.tr.effects.touched.values()):
            target = self.w.fetch(value.source)      # type: ignore[arg-type]
            statements += self._replay(value, target)
            self.finish()
        return statements

    def _replay(self, value: Value, target: str) -> list[str]:
        if isinstance(value, ListValue):
            return self._replay_list(value, target)
        if isinstance(value, DictValue):
            return self._replay_dict(value, target)
        if isinstance(value, SetValue):
            gone = [v for k, v in value.before.items() if k not in value.entries]
            new = [v for k, v in value.entries.items() if k not in value.before]
            return [f"{target}.{change}([{', '.join(map(self.expr, items))}])"
                    for change, items in (("difference_update", gone), ("update", new)) if items]
        return self.tr.replay_object(self, value, target)

    def _replay_list(self, value: ListValue, target: str) -> list[str]:
        old, new = value.before, value.items
        kept = len(old)
        if len(new) >= kept and all(_same(a, b) for a, b in zip(old, new)):
            if len(new) == kept:
                return []
            return [f"{target}.extend([{', '.join(self.item(v) for v in new[kept:])}])"]
        items = f"[{', '.join(self.item(v) for v in new)}]"
        if value.cls is collections.deque:
            return [f"{target}.clear()", f"{target}.extend({items})"]
        return [f"{target}[:] = {items}"]

    def _replay_dict(self, value: DictValue, target: str) -> list[str]:
        gone = [k for k in value.before if k not in value.entries]
        stays = [k for k in value.before if k in value.entries]
        in_order = list(value.entries)[:len(stays)] == stays
        key = {k: self._key(k) for k in [*value.before, *value.entries]}
        if not in_order:
            body = ", ".join(f"{key[k]}: {self.item(v)}" for k, (_, v) in value.entries.items())
            return [f"{target}.clear()", f"{target}.update({{{body}}})"]
        changed = [k for k, (_, v) in value.entries.items() if k not in value.before or not _same(value.before[k], v)]
        return [f"del {target}[{key[k]}]" for k in gone] + \
            [f"{target}[{key[k]}] = {self.item(value.entries[k][1])}" for k in changed]


    def _key(self, key: Any) -> str:
        if is_known(key):
            return self.literal(key)
        if isinstance(key, tuple):
            return f"({''.join(self._key(part) + ', ' for part in key)})"
        return self.expr(key.value if isinstance(key, HashedKey) else key)


def _same(old: Any, new: Any) -> bool:
    """Whether an item is still the one that was there (it may have been looked at since)."""
    if old is new:
        return True
    return isinstance(old, Pending) and isinstance(new, Value) and new.source == old.source

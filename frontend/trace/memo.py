"""Guards that are looked at once: while no word of memory that they depend on changes, what they found stays true.

Most guards of a model ask what its modules look like: which class, which hooks, what their attributes and parameters are. Such
a guard reads its way from an *anchor* (an argument, a global, what a closure holds) through attributes in objects' own dicts and
entries of dicts. Here each step of that way is watched (`runtime.words`), so that after one full look the next calls compare some
words of memory, and look again only when one of them has changed. All other guards are tests in each call, as before.
"""
from __future__ import annotations

import weakref
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any

from flambeau.frontend.trace.guards import Guard, GuardFunction, ambient_test
from flambeau.frontend.trace.source import Attr, CellContents, Constant, Global, Item, KeyedItem, Root, Source
from flambeau.frontend.trace.writer import Writer
from flambeau.runtime import words
from flambeau.runtime.tensor import Tensor
from flambeau.runtime.words import Snapshot, Unwatchable, Watcher

#: Fewer watched guards than this are cheaper as tests.
WORTHWHILE = 64
_MOST = 256                                  # anchors remembered of one entry
_FIXED = (int, float, str, bytes, bool, complex, type(None), type(...), range)


def remembering(guards: GuardFunction, roots: Mapping[str, Any], replace: Callable[[Any, Any], None]) -> FunctionType:
    """A function that decides as ``guards.function`` does, quicker where much of what it asks can be watched.

    ``replace(old, new)`` is told of a better one, once it is seen what changes from call to call.
    """
    if len(guards.guards) < WORTHWHILE or not words.works():
        return guards.function
    return _function(guards, _Walk(guards, roots), replace)


def _function(guards: GuardFunction, walk: _Walk, replace: Callable[[Any, Any], None]) -> FunctionType:
    chosen = [guard for guard in guards.guards if walk.admits(guard)]
    return Memo(guards, chosen, walk, replace).function if len(chosen) >= WORTHWHILE else guards.function


class _Walk:
    """Reads values by their sources, watching what they depend on."""

    def __init__(self, guards: GuardFunction, roots: Mapping[str, Any], changing: frozenset[Source] = frozenset(),
                 moving: frozenset[Source] = frozenset()) -> None:
        self.roots, self.watcher = roots, Watcher()
        self.values: dict[Source, Any] = {}
        self.anchors: dict[Source, Any] = {}
        self.tensors: dict[Source, tuple[int, ...]] = {}           # what they looked like, by pointers
        #: Sources of other values in each call, and of tensors that get another array: both are left to tests.
        self.changing, self.moving = changing, moving
        self._refused: set[Source] = set(changing)
        self._pinned = {guard.source for guard in guards.guards
                        if guard.key[0] in _KINDS and guard.key[0] not in ("type", "exists", "len")}

    def admits(self, guard: Guard) -> bool:
        """Whether the guard's answer depends on watched words and the identity of anchors alone; they are watched from now on."""
        try:
            self.look(guard)
        except Unwatchable:
            return False
        except Exception:                                          # it cannot be fetched now: left to the test
            return False
        return True

    def look(self, guard: Guard) -> None:
        kind, key = guard.key[0], guard.key
        if kind == "absent":
            self.watcher.own(self.object(guard.source)).absent.update(key[1])
            return
        if kind == "lookups":
            self.watcher.version(key[1])
            return
        look = _KINDS.get(kind)
        if look is None or (kind == "tensor" and guard.source in self.moving):
            raise Unwatchable
        if guard.source not in self._pinned and guard.source not in self.values and not _leads_on(guard.source.fetch(self.roots)):
            raise Unwatchable                                      # a counter: nobody asks what it is
        v = self.value(guard.source)
        look(self, v, key)
        if kind == "tensor":
            self.tensors[guard.source] = (id(v._a), id(v._storage), id(v._rg))

    def value(self, source: Source) -> Any:
        """The value of a source that is reached by watched steps."""
        if source in self.values:
            return self.values[source]
        if source in self._refused:
            raise Unwatchable
        try:
            if isinstance(source, Attr):
                found = self.watcher.attribute(self.object(source.base), source.name)
            elif isinstance(source, Item):
                found = self.watcher.item(self.value(source.base), source.key)
            elif isinstance(source, KeyedItem):
                found = self.watcher.item(self.value(source.base), self.value(source.key))
            else:
                raise Unwatchable
        except Unwatchable:
            self._refused.add(source)
            raise
        self.values[source] = found
        return found

    def object(self, source: Source) -> Any:
        """The same, or an anchor's value."""
        if source in self.anchors:
            return self.anchors[source]
        if isinstance(source, (Attr, Item, KeyedItem)):
            return self.value(source)
        if not _is_anchor(source):
            raise Unwatchable
        found = source.fetch(self.roots)
        if isinstance(found, type) or not _is_object(found):
            raise Unwatchable
        self.watcher.own(found, keep=False)
        self.anchors[source] = found
        return found

    def passes(self, source: Source | None) -> bool:
        """Whether a source is reached through watched values."""
        while source is not None:
            if source in self.values:
                return True
            source = getattr(source, "base", None)
        return False


def _is_anchor(source: Source | None) -> bool:
    """Whether a source is fetched by steps that run nobody's code."""
    if isinstance(source, (Root, Constant)):
        return True
    return isinstance(source, (Global, CellContents)) and _is_anchor(source.base)


def _leads_on(v: Any) -> bool:
    """Whether more is read through a value of this kind than its class tells."""
    return type(v) in (dict, OrderedDict, defaultdict, list, tuple) or (_is_object(v) and not isinstance(v, Tensor))


def _is_object(v: Any) -> bool:
    """Whether it is of a class that a program made, and has attributes of its own."""
    return bool(type(v).__flags__ & words.HEAP and type(v).__dictoffset__)


def _fixed(walk: _Walk, v: Any, key: tuple) -> None:
    if type(v) is tuple:
        for x in v:
            _fixed(walk, x, key)
    elif type(v) not in _FIXED:
        raise Unwatchable


def _class(walk: _Walk, v: Any, key: tuple) -> None:
    if type(v).__flags__ & words.HEAP:                              # the class of others cannot be assigned
        walk.watcher.kind(v)


def _nothing(walk: _Walk, v: Any, key: tuple) -> None:
    """The value's identity is all that matters."""


def _length(walk: _Walk, v: Any, key: tuple) -> None:
    walk.watcher.whole(v)


def _untaped(walk: _Walk, v: Any, key: tuple) -> None:
    leaf, view, own, hooks, waiting = key[1:]
    if not leaf or view or own or hooks or waiting:
        raise Unwatchable
    walk.watcher.untaped(v)


def _pair(walk: _Walk, v: Any, key: tuple) -> None:
    walk.value(key[1])


def _all(walk: _Walk, v: Any, key: tuple) -> None:
    for source in key[1]:
        walk.value(source)


_KINDS: dict[str, Callable[[_Walk, Any, tuple], None]] = {
    "type": _class, "is": _nothing, "exists": _nothing, "==": _fixed, "repr": _fixed, "len": _length, "keys": _length,
    "contains": lambda walk, v, key: walk.watcher.contains(v, key[1]), "tensor": lambda walk, v, key: walk.watcher.tensor(v),
    "watchers": _untaped, "same": _pair, "differs": _pair, "distinct": _all}


class State:
    """What was found true of one set of anchors: the words it depends on, and the watched graph inputs."""

    __slots__ = ("i0", "v0", "i1", "v1", "i2", "v2", "snapshot", "inputs", "walk", "used", "idle", "refs")

    def __init__(self, snapshot: Snapshot, inputs: tuple, walk: tuple[dict, dict], idle: int, refs: Any) -> None:
        (self.i0, self.i1, self.i2), (self.v0, self.v1, self.v2) = snapshot.indices, snapshot.values
        self.snapshot, self.inputs, self.walk = snapshot, inputs, walk
        self.used, self.idle, self.refs = False, idle, refs


class Memo:
    """The guards of an entry as ``function``, which asks the one with all tests where it does not remember.

    What was found is remembered for each set of anchors, and forgotten when one of them dies.
    """

    def __init__(self, guards: GuardFunction, chosen: Sequence[Guard], walk: _Walk, replace: Callable[[Any, Any], None]) -> None:
        self.guards, self.chosen, self.replace = guards, list(chosen), replace
        self.changing, self.moving = walk.changing, walk.moving
        self._first: _Walk | None = walk
        self.states: dict[Any, State] = {}
        self.anchors = list(walk.anchors)
        self.looks = self.skips = self.renewals = 0               # full looks; memories mended, and made anew
        self._waiting: dict[Any, int] = {}
        self._seen: Counter[tuple[bool, Source]] = Counter()      # how often a value was another one, or a tensor had moved
        self._watched = [s for s in guards.inputs if s in walk.values]
        self._places = [k for k, s in enumerate(guards.inputs) if s in walk.values]
        self.function = self._write(walk)

    # ---- the functions

    def _write(self, walk: _Walk) -> FunctionType:
        parameters = self.guards.parameters
        w = Writer(parameters)
        w.line("try:")
        body = len(w.lines)
        w.line(f"if not ({' and '.join(ambient_test(w)[0])}): return None")
        chosen = set(map(id, self.chosen))
        rest = [guard for guard in self.guards.guards if id(guard) not in chosen]
        simple = [g for g in rest if g.key[0] in _KINDS and g.key[0] not in ("same", "differs", "distinct")
                  and not walk.passes(g.source)]
        for guard in simple:
            _write_test(w, guard)
        anchors = [w.fetch(s) for s in self.anchors]
        key = f"id({anchors[0]})" if len(anchors) == 1 else f"({', '.join(f'id({a})' for a in anchors)})"
        take = w.constant(words._memory().take)
        s, p = w.fresh("state"), w.fresh("found")
        self._stages = [k for k, words_of_stage in enumerate(walk.watcher.stages) if words_of_stage or k == 0]
        same = " and ".join(f"{take}({s}.i{k}).tobytes() == {s}.v{k}" for k in self._stages)
        w.line(f"{s} = {w.constant(self.states)}.get({key})")
        w.line(f"if {s} is not None and {same}:")
        w.line(f"    {p} = {s}.inputs")
        w.line(f"    {s}.used = True")
        w.line("else:")
        w.line(f"    {p} = {w.constant(self)}.look({key}, {s}, ({''.join(a + ', ' for a in parameters)}))")
        w.line(f"    if {p} is None: return None")
        for guard in rest:
            if guard not in simple:
                _write_test(w, guard)
        values = self._values(w, p)
        w.line(f"return ({', '.join(values)}{',' if values else ''})")
        w.lines[body:] = ["    " + line for line in w.lines[body:]]
        w.line("except Exception: return None")
        return w.build("guard", ", ".join(parameters), self.guards.filename.replace("guard", "quick guard"))

    def _values(self, w: Writer, p: str) -> list[str]:
        """The graph's inputs: those that are remembered in runs."""
        found: list[str] = []
        watched = set(self._watched)
        at = 0
        run = 0
        for source in [*self.guards.inputs, None]:
            if source in watched:
                run += 1
                continue
            if run:
                found.append(f"*{p}" if run == len(self._watched) else f"*{p}[{at}:{at + run}]")
                at, run = at + run, 0
            if source is not None:
                found.append(w.fetch(source))
        return found

    # ---- looking

    def look(self, key: Any, state: State | None, values: tuple) -> tuple | None:
        """The watched inputs if the watched guards hold; what they were found by is remembered."""
        if state is not None:
            renewed = state.snapshot.renewed()
            if renewed is not None:                               # only what no guard asks about has changed
                self.skips += 1
                self.states[key] = State(renewed, state.inputs, state.walk, 0, state.refs)
                return state.inputs
        self.looks += 1
        found = self._look(*values)
        waiting = self._waiting.get(key, 0)
        if found is None:
            return None
        if waiting:
            self._waiting[key] = waiting - 1
            return found
        if state is None and len(self.states) >= _MOST:            # the others are as likely to come again
            return found
        return self._remember(key, state, values, found)

    def _look(self, *values: Any) -> tuple | None:
        """The watched inputs if all guards hold."""
        inputs = self.guards.function(*values)
        return None if inputs is None else tuple([inputs[k] for k in self._places])

    def _remember(self, key: Any, state: State | None, values: tuple, found: tuple) -> tuple | None:
        roots = dict(zip(self.guards.parameters, values))
        first, self._first = self._first, None
        if first is not None and all([first.roots[name] is value for name, value in roots.items()]):
            walk = first                                           # the guards were chosen by these very values
        else:
            walk = _Walk(self.guards, roots, self.changing, self.moving)
            if not all([walk.admits(guard) for guard in self.chosen]) or set(walk.anchors) != set(self.anchors):
                return found
        snapshot = walk.watcher.snapshot()
        again = self._look(*values)                                # between the words as they were and as they still are
        if again is None or snapshot is None or not snapshot.unchanged():
            return again
        if any(len(i) and k not in self._stages for k, i in enumerate(snapshot.indices)):
            return again                                           # the function does not look at all of these words
        found = again
        self.renewals += 1
        idle = 0
        if state is not None:
            self._compare(state, walk)
            idle = 0 if state.used else state.idle + 1
        self._waiting[key] = 2 ** min(max(idle - 3, 0), 8) - 1     # what was of no use so often is made more and more rarely
        refs = [self._ref(key, walk.anchors[s]) for s in self.anchors]
        self.states[key] = State(snapshot, found, (walk.values, walk.tensors), idle, refs)
        return found

    def _compare(self, state: State, walk: _Walk) -> None:
        """Leave to tests what has changed three times: a value that each call replaces, a tensor that gets a new array."""
        values, tensors = state.walk
        for source, value in walk.values.items():
            before, base = values.get(source, value), source.base
            if before is not value and (base is None or base not in values or values[base] is walk.values.get(base)):
                self._seen[False, source] += 1
            elif source in walk.tensors and tensors.get(source) != walk.tensors[source]:
                self._seen[True, source] += 1
        often = [which for which, n in self._seen.items() if n >= 3]
        if often:
            changing = self.changing.union(s for moved, s in often if not moved)
            moving = self.moving.union(s for moved, s in often if moved)
            self.replace(self.function, _function(self.guards, _Walk(self.guards, walk.roots, changing, moving), self.replace))

    def _ref(self, key: Any, anchor: Any) -> Any:
        """What keeps the memory no longer than the anchor lives."""
        states = self.states
        try:
            return weakref.ref(anchor, lambda _: states.pop(key, None))
        except TypeError:
            return anchor


def _write_test(w: Writer, guard: Guard) -> None:
    test = guard.test(w, w.fetch(guard.source))
    if test != "True":                                            # else fetching it was the test
        w.line(f"if not ({test}): return None" + (f"  # {guard.line}" if guard.line else ""))

"""Fusion: groups of loops that share an iteration space, merged where that saves traffic with memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Buffer
from flambeau.passes.cost import Facts, Read, by_buffer, nbytes
from flambeau.passes.space import Env, covers, extent, flat, pair, renamed, solve, static_numel, variables

#: A kernel touches at most this many buffers.
MAX_BUFFERS = 48


@dataclass
class Member:
    """A loop of a group: ``env`` gives its variables in those of the group. Roles: "full" runs over the whole space,
    "outer" once per outer point, "reduce" over the inner variables for each outer point."""

    facts: Facts
    env: Env
    role: str
    reads: tuple[Read, ...]  # in the group's variables

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def index(self) -> tuple[IndexLike, ...]:
        """Where the member's value is stored, in the group's variables."""
        return renamed(self.facts.loop.index, self.env)

    def moved(self, change: Env, outer: tuple[Index, ...], inner: tuple[Index, ...] | None = None) -> Member:
        """The member in the variables that ``change`` gives the group's in; ``outer``, ``inner``: the space it moves to."""
        env = {v: renamed((i,), change)[0] for v, i in self.env.items()}
        reads = tuple(Read(r.buffer, renamed(r.index, change), r.indirect) for r in self.reads)
        role = self.role
        if role != "reduce":
            role = "full" if inner is None or variables(tuple(env.values())) - set(outer) else "outer"
        return Member(self.facts, env, role, reads)


@dataclass(eq=False)
class Unit:
    """A step being scheduled: a fused group, or an extern (which has no members). ``inner`` is None for a pointwise group,
    whose whole space is ``outer``. ``bits`` and ``before`` are sets of steps, as bit masks: its own, and all it needs."""

    members: list[Member] = field(default_factory=list)
    outer: tuple[Index, ...] = ()
    inner: tuple[Index, ...] | None = None
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    bits: int = 0
    before: int = 0
    draws: bool = False  # takes random numbers, and so stays behind those that took some before it

    @property
    def space(self) -> tuple[Index, ...]:
        return self.outer + (self.inner or ())


def unit_of(f: Facts, reads: tuple[Read, ...]) -> Unit:
    """A group of one loop."""
    inner = f.loop.reduce_ranges if f.reduces else None
    env: Env = {v: v for v in f.loop.ranges + (inner or ())}
    member = Member(f, env, "reduce" if f.reduces else "full", reads)
    return Unit([member], f.loop.ranges, inner, frozenset(r.buffer for r in reads), frozenset({f.name}), 1 << f.position)


class Fusion:
    """Merges units in program order, best partner first, until nothing is saved any more."""

    def __init__(self, units: list[Unit], buffers: dict[str, Buffer], needed: set[str]) -> None:
        self.units, self.buffers, self.needed = units, buffers, needed
        self.readers: dict[str, int] = {}
        for u in units:
            for name in u.reads:
                self.readers[name] = self.readers.get(name, 0) + 1
        self._order()

    def _order(self) -> None:
        """Fill in what each unit needs."""
        self.producer = {name: u for u in self.units for name in u.writes}
        drawn = 0
        for u in self.units:
            for name in sorted(u.reads):
                p = self.producer.get(name)
                if p is not None and p is not u:
                    u.before |= p.bits | p.before
            if u.draws:
                u.before |= drawn
                drawn = u.before | u.bits

    def run(self) -> list[Unit]:
        """The units, merged."""
        for _ in range(3):
            before = len(self.units)
            for unit in list(self.units):
                if unit.members and unit in self.units:
                    self._absorb(unit)
            if len(self.units) == before:
                break
        return self.units

    def _absorb(self, unit: Unit) -> None:
        """Merge ``unit`` with the best earlier group, again and again."""
        while True:
            place = self.units.index(unit)
            near = [(-i, u) for i, u in enumerate(self.units[:place])
                    if u.members and not (u.reads.isdisjoint(unit.reads | unit.writes) and u.writes.isdisjoint(unit.reads))]
            scored = [(self._saved(*_in_order(u, unit)), i, u) for i, u in near]
            for _, _, u in sorted((s for s in scored if s[0] > 0), key=lambda s: s[:2], reverse=True):
                merged = self._merge(*_in_order(u, unit))
                if merged is not None:
                    unit = merged
                    break
            else:
                return

    def _saved(self, x: Unit, y: Unit) -> int:
        """Bytes of memory traffic that merging saves."""
        total = sum(nbytes(self.buffers[b]) for b in x.reads & y.reads)
        for b in x.writes & y.reads:
            gone = self.readers.get(b, 0) == 1 and b not in self.needed
            total += nbytes(self.buffers[b]) * (2 if gone else 1)
        return total

    def _merge(self, x: Unit, y: Unit) -> Unit | None:
        if len(x.reads | y.reads | x.writes | y.writes) > MAX_BUFFERS or self._between(x, y):
            return None
        found = common_space(x, y, self.buffers)
        if found is None:
            return None
        change, outer, inner, y_change = found
        members = [m.moved(change, outer, inner) for m in x.members] + [m.moved(y_change, outer, inner) for m in y.members]
        writes = x.writes | y.writes
        members.sort(key=lambda m: m.facts.position)
        merged = Unit(members, outer, inner, (x.reads | y.reads) - writes, writes, x.bits | y.bits,
                      (x.before | y.before) & ~(x.bits | y.bits))
        for name in (x.reads & y.reads) | (x.writes & y.reads):
            self.readers[name] -= 1
        self._replace(x, y, merged)
        return merged

    def late(self, u: Unit, unit: Unit) -> bool:
        """Whether ``u`` needs something that is made of ``unit``'s result by yet another unit."""
        return self._between(unit, u)

    def join(self, unit: Unit, u: Unit) -> None:
        """Let ``unit`` compute what ``u`` does."""
        for name in (unit.reads & u.reads) | (unit.writes & u.reads):
            self.readers[name] -= 1
        self.units.remove(u)
        unit.writes |= u.writes
        unit.reads = (unit.reads | u.reads) - unit.writes
        unit.bits |= u.bits
        unit.before = (unit.before | u.before) & ~unit.bits
        for name in u.writes:
            self.producer[name] = unit
        for other in self.units:
            if other is not unit and other.before & unit.bits:
                other.before |= unit.bits | unit.before

    def _between(self, x: Unit, y: Unit) -> bool:
        """Whether some other unit needs one of the two and is needed by the other."""
        for a, b in ((x, y), (y, x)):
            for name in b.reads:
                p = self.producer.get(name)
                if p is not None and p is not a and p is not b and p.before & a.bits:
                    return True
        return False

    def _replace(self, x: Unit, y: Unit, merged: Unit) -> None:
        """Put ``merged`` where the later one was; whoever needed one now needs both."""
        place = max(self.units.index(x), self.units.index(y))
        self.units[place] = merged
        self.units.remove(y if self.units[place] is merged and x not in self.units else x)
        for name in merged.writes:
            self.producer[name] = merged
        wanted = merged.bits | merged.before
        for u in self.units:
            if u is not merged and u.before & merged.bits:
                u.before |= wanted


def _in_order(x: Unit, y: Unit) -> tuple[Unit, Unit]:
    """The two such that the second may read what the first writes: a merged group takes the later place in the list, which
    can be behind groups that read it."""
    return (x, y) if y.writes.isdisjoint(x.reads) else (y, x)


def order(units: list[Unit]) -> list[Unit]:
    """Units so that each comes after all it needs, otherwise in program order."""
    rest = sorted(units, key=lambda u: u.bits & -u.bits)
    done, found = 0, []
    while rest:
        ready = next(u for u in rest if not u.before & ~done)
        found.append(ready)
        rest.remove(ready)
        done |= ready.bits
    return found


# ---- a common space -----------------------------------------------------------------------------------------------

Space = tuple[Env, tuple[Index, ...], "tuple[Index, ...] | None", Env]


def common_space(x: Unit, y: Unit, buffers: dict[str, Buffer]) -> Space | None:
    """How ``x`` and the later ``y`` run in one space: x's variables in y's, the new outer and inner, y's own renaming.

    None when they cannot: when an element of ``x`` would not be computed at the point of the space where ``y`` reads it.
    """
    deps = list(_dependencies(x, y))
    for member, read in sorted(deps, key=lambda d: d[0].role != "full"):
        found = _through(x, y, buffers[member.name], member.index, read.index, member.role == "full")
        return found if found is not None and _consistent(found[0], deps, buffers) else None
    return _side_by_side(x, y, buffers)


def _dependencies(x: Unit, y: Unit) -> Iterator[tuple[Member, Read]]:
    made = {m.name: m for m in x.members}
    for m in y.members:
        for r in m.reads:
            if r.buffer in made:
                yield made[r.buffer], r


def _consistent(change: Env, deps: list[tuple[Member, Read]], buffers: dict[str, Buffer]) -> bool:
    """Whether each value of ``x`` that ``y`` reads is computed at the point where it is read."""
    for member, read in deps:
        b = buffers[member.name]
        if read.indirect or flat(b, renamed(member.index, change)) is not flat(b, read.index) and (
                flat(b, renamed(member.index, change)) != flat(b, read.index)):
            return False
    return True


def _through(x: Unit, y: Unit, buffer: Buffer, written: tuple[IndexLike, ...], read: tuple[IndexLike, ...],
             whole: bool) -> Space | None:
    """The common space found from one buffer: ``x`` writes it at ``written`` (over its whole space, or only its outer
    variables), ``y`` reads it at ``read``."""
    met = covers(buffer, read)
    if met is None or covers(buffer, written) is None:
        return None
    change = solve(buffer, written, read)
    if change is None:
        return None
    return _whole(x, y, change, met) if whole else _rows(x, y, change, met)


def _whole(x: Unit, y: Unit, change: Env, met: set[Index]) -> Space | None:
    """All of x's space is given in y's variables ``met``."""
    if set(change) != set(x.space):
        return None
    if x.inner is None:
        if met == set(y.space) or (y.inner is not None and met == set(y.outer)):
            return change, y.outer, y.inner, {}
        return None
    if met != set(y.space):
        return None
    outer, inner = variables([change[v] for v in x.outer]), variables([change[v] for v in x.inner])
    if outer & inner:
        return None
    if y.inner is None:
        return change, _ordered(y.outer, outer), _ordered(y.outer, inner), {}
    return (change, y.outer, y.inner, {}) if outer == set(y.outer) and inner == set(y.inner) else None


def _rows(x: Unit, y: Unit, change: Env, met: set[Index]) -> Space | None:
    """Only x's outer variables are given; its inner ones run along y's."""
    if x.inner is None or set(change) != set(x.outer):
        return None
    if y.inner is not None:
        rest = pair(x.inner, y.inner) if met == set(y.outer) else None
        return None if rest is None else ({**change, **rest}, y.outer, y.inner, {})
    left = tuple(v for v in y.outer if v not in met)
    if not left:  # y is computed once per row
        clear = {v: _apart(v, y.space) for v in x.inner}
        return {**change, **clear}, y.outer, tuple(clear.values()), {}
    rest = pair(x.inner, left)
    return None if rest is None else ({**change, **rest}, _ordered(y.outer, met), left, {})


def _apart(v: Index, taken: tuple[Index, ...]) -> Index:
    """``v``, renamed if another variable is called the same."""
    name = v.args[0]
    while any(t.args[0] == name for t in taken):
        name += "x"
    return Index("var", name, extent(v))


def _ordered(vars: tuple[Index, ...], chosen: set[Index]) -> tuple[Index, ...]:
    return tuple(v for v in vars if v in chosen)


def _side_by_side(x: Unit, y: Unit, buffers: dict[str, Buffer]) -> Space | None:
    """Two groups that only read the same things: through a buffer that both read whole, else with equal spaces."""
    mine, theirs = _all_reads(x), _all_reads(y)
    shared = sorted(set(mine) & set(theirs), key=lambda b: (-nbytes(buffers[b]), b))
    for b in shared:
        a, c = mine[b][0].index, theirs[b][0].index
        if covers(buffers[b], a) == set(x.space):
            found = _through(x, y, buffers[b], a, c, True)
            if found is not None and (x.inner is not None or covers(buffers[b], c) == set(y.space)):
                return found
    if (x.inner is None) != (y.inner is None) or static_numel(x.space) is None:
        return None
    if [extent(v) for v in x.outer] != [extent(v) for v in y.outer]:
        return None
    change: Env = dict(zip(x.outer, y.outer))
    if x.inner is not None and y.inner is not None:
        rest = pair(x.inner, y.inner)
        if rest is None:
            return None
        change |= rest
    if not any(renamed(p.index, change) == q.index for b in shared for p in mine[b] for q in theirs[b]):
        return None  # nothing is read at the same point
    return change, y.outer, y.inner, {}


def _all_reads(u: Unit) -> dict[str, list[Read]]:
    return by_buffer(r for m in u.members for r in m.reads if not r.indirect)

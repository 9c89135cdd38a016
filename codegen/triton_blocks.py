"""How a loop nest is laid on Triton blocks: which loops become programs, which a block's second axis, and how large.

Everything here reads a kernel and decides; ``codegen.triton`` spells what was decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flambeau.codegen.emit import offset, roots, statements
from flambeau.ir import index as ix
from flambeau.ir import loops
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Accumulate, Buffer, Expr, For, IndexValue, Load, Random, Statement, Store
from flambeau.ir.program import Kernel

PERSISTENT_LIMIT = 8192        # elements of a block that holds whole rows
CHUNK = 2048                   # elements of a block that takes rows in pieces
FLAT_BLOCK = 1024
SMALLEST_GRID = 256            # programs that keep a large GPU busy
INT32_MAX = 2**31 - 1

Shape = tuple[IndexLike, ...]


@dataclass(frozen=True)
class Blocking:
    """Block sizes asked for; None where the heuristics decide."""

    x: int | None = None
    r: int | None = None
    warps: int | None = None


@dataclass(frozen=True)
class Axis:
    """A flattened chain of loops: the block variable ``name`` runs over ``extent``, ``block`` lanes at a time.

    ``groups`` are the runs of neighbouring loops that some access walks as one: what must be known in each lane.
    """

    name: str
    chain: tuple[Index, ...]
    groups: tuple[tuple[Index, ...], ...]
    extent: IndexLike
    block: int

    @property
    def persistent(self) -> bool:
        """Whether one block holds the whole extent."""
        return isinstance(self.extent, int) and self.block >= self.extent

    @property
    def masked(self) -> bool:
        """Whether some lane of some block lies beyond the extent."""
        return not isinstance(self.extent, int) or self.extent % self.block != 0 or self.extent == 0


@dataclass(frozen=True)
class Layout:
    """A kernel's ``body`` inside its outer loops, with inner chains of loops renamed to the variables of ``rows``;
    ``x`` is the axis of the outer loops. ``wide``: indices may pass 2^31."""

    body: tuple[Statement, ...]
    x: Axis
    rows: dict[Shape, Axis]
    warps: int
    wide: bool
    buffers: dict[str, Buffer]

    @property
    def flat(self) -> bool:
        """Whether blocks have one axis only."""
        return not self.rows

    def address(self, buffer: str, index: Sequence[IndexLike]) -> IndexLike:
        """The element offset of an access, with loops that it walks as one merged into one variable."""
        address = offset(self.buffers[buffer], index)
        parts, constant = ix.terms(address)
        found: IndexLike = constant
        for axis in (self.x, *self.rows.values()):
            for group in groups_of(axis.chain, address):
                if len(group) > 1:
                    found = ix.add(found, ix.mul(merged(group), parts[group[-1]]))
                    parts = {term: step for term, step in parts.items() if term not in group}
        for term, step in parts.items():
            found = ix.add(found, ix.mul(term, step))
        return found


def layout(kernel: Kernel, blocking: Blocking) -> Layout:
    """Decide the blocks of ``kernel``."""
    buffers = {buffer.name: buffer for buffer in kernel.params}
    outer, inside = outer_chain(kernel.body)
    shapes = list(dict.fromkeys(shape_of(chain) for chain in inner_chains(inside)))
    chains = {shape: tuple(ix.var(f"r{number}_{place}", n) for place, n in enumerate(shape))
              for number, shape in enumerate(shapes)}
    body = tuple(rename_rows(statement, chains) for statement in inside)
    addresses, fixed = accesses(body, buffers)
    extent = product(v.args[1] for v in outer)
    x_block = blocking.x or outer_block(extent, shapes, walks_outward(addresses, set(outer)))
    rows = {shape: make_axis(f"r{number}", chain, blocking.r or row_block(product(shape), x_block), addresses, fixed)
            for number, (shape, chain) in enumerate(chains.items())}
    elements = x_block * max((axis.block for axis in rows.values()), default=1)
    warps = blocking.warps or min(16, power_of_two(elements // (512 if rows else 256)))
    wide = any(not isinstance(reach, int) or reach > INT32_MAX for reach in map(reach_of, kernel.params))
    return Layout(body, make_axis("x", outer, x_block, addresses, fixed), rows, warps, wide, buffers)


def make_axis(name: str, chain: Sequence[Index], block: int, addresses: Sequence[IndexLike],
              alone: set[Index]) -> Axis:
    """The axis of ``chain``; the loops in ``alone`` must be known each by itself."""
    groups = dict.fromkeys(group for address in addresses for group in groups_of(chain, address))
    groups |= dict.fromkeys((var,) for var in chain if var in alone)
    return Axis(name, tuple(chain), tuple(groups), product(shape_of(chain)), block)


def groups_of(chain: Sequence[Index], address: IndexLike) -> tuple[tuple[Index, ...], ...]:
    """The loops that ``address`` depends on, neighbours ``(a, b)`` joined where it steps by ``a`` as far as by all of
    ``b``. Loops of one iteration are left out."""
    groups: list[list[Index]] = []
    for var in reversed(chain):
        if var.args[1] == 1:
            continue
        if groups and _one_walk(var, groups[0], address):
            groups[0].insert(0, var)
        else:
            groups.insert(0, [var])
    used = ix.variables(address)
    return tuple(tuple(group) for group in groups if group[-1] in used)


def _one_walk(var: Index, group: Sequence[Index], address: IndexLike) -> bool:
    length = product(shape_of(group))
    step, last = ix.coefficient(address, var), ix.coefficient(address, group[-1])
    return isinstance(length, int) and step is not None and last is not None and step == last * length


def merged(group: Sequence[Index]) -> Index:
    """The variable that stands for a group."""
    return group[0] if len(group) == 1 else ix.var("_".join(map(str, group)), product(shape_of(group)))


# ---- block sizes --------------------------------------------------------------------------------------------------


def outer_block(extent: IndexLike, shapes: Sequence[Shape], outward: bool) -> int:
    """Outer iterations per program: many where rows are short or memory runs along them, but programs enough."""
    limit = min(FLAT_BLOCK, power_of_two(extent) if isinstance(extent, int) else FLAT_BLOCK)
    if not shapes:
        return limit
    longest = max(n if isinstance(n, int) else CHUNK for n in map(product, shapes))
    wanted, least = (64, 16) if outward else (max(1, FLAT_BLOCK // power_of_two(longest)), 1)
    if isinstance(extent, int):
        wanted = max(least, min(wanted, power_of_two(extent // SMALLEST_GRID + 1)))
    return min(wanted, limit)


def row_block(extent: IndexLike, x_block: int) -> int:
    """A whole row if the block then stays small enough, else a piece of one."""
    if isinstance(extent, int) and power_of_two(extent) * x_block <= PERSISTENT_LIMIT:
        return power_of_two(extent)
    return max(16, CHUNK // x_block)


def walks_outward(addresses: Sequence[IndexLike], outer: set[Index]) -> bool:
    """Whether most accesses that use both axes are contiguous along the outer loops, as in a sum over rows."""
    votes = 0
    for address in addresses:
        steps = {v: ix.coefficient(address, v) for v in ix.variables(address)}
        unit = {v for v, step in steps.items() if step == 1}
        if unit and set(steps) - outer and set(steps) & outer:
            votes += 1 if unit <= outer else -1
    return votes > 0


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least ``n``."""
    return 1 << max(0, n - 1).bit_length()


# ---- reading kernels ----------------------------------------------------------------------------------------------


def outer_chain(body: Sequence[Statement]) -> tuple[tuple[Index, ...], tuple[Statement, ...]]:
    """The loops that surround everything and carry nothing from one iteration to the next, and what is inside."""
    outer: list[Index] = []
    while len(body) == 1 and isinstance(body[0], For) and not accumulates_outside(body[0]):
        outer.append(body[0].var)
        body = body[0].body
    return tuple(outer), tuple(body)


def accumulates_outside(loop: For) -> bool:
    """Whether the loop adds to an accumulator declared before it."""
    inside = list(statements(loop.body))
    declared = {statement.name for statement in inside if isinstance(statement, loops.Init)}
    return any(isinstance(statement, Accumulate) and statement.name not in declared for statement in inside)


def inner_chain(loop: For) -> tuple[tuple[Index, ...], tuple[Statement, ...]]:
    """``for a: for b: body`` with nothing between, as ``((a, b), body)``."""
    chain, body = [loop.var], loop.body
    while len(body) == 1 and isinstance(body[0], For):
        chain.append(body[0].var)
        body = body[0].body
    return tuple(chain), body


def inner_chains(body: Iterable[Statement]) -> Iterator[tuple[Index, ...]]:
    """The innermost chains of loops in ``body``: those that become a block axis."""
    for statement in body:
        if isinstance(statement, For):
            chain, inside = inner_chain(statement)
            if any(isinstance(inner, For) for inner in inside):
                yield from inner_chains(inside)
            else:
                yield chain


def rename_rows(statement: Statement, chains: dict[Shape, tuple[Index, ...]],
                env: dict[Index, IndexLike] | None = None) -> Statement:
    """``statement`` with the variables of inner chains replaced by those in ``chains``: chains of equal shape then
    share variables, and with them loaded values."""
    env = env or {}
    if isinstance(statement, For):
        chain, inside = inner_chain(statement)
        names = chain
        if not any(isinstance(inner, For) for inner in inside):
            names = chains[shape_of(chain)]
            env = env | dict(zip(chain, names))
        body = tuple(rename_rows(inner, chains, env) for inner in inside)
        for var in reversed(names):
            body = (For(var, body, statement.kind),)
        return body[0]
    changes: dict[str, Any] = {}
    for name in ("value", "mask"):
        if isinstance(getattr(statement, name, None), Expr):
            changes[name] = rename(getattr(statement, name), env)
    if isinstance(statement, Store):
        changes["index"] = tuple(ix.substitute(i, env, lambda e: rename(e, env)) for i in statement.index)
    if isinstance(statement, Accumulate) and statement.position is not None:
        changes["position"] = ix.substitute(statement.position, env, lambda e: rename(e, env))
    return replace(statement, **changes)


def rename(expr: Expr, env: dict[Index, IndexLike]) -> Expr:
    """``expr`` with loop variables replaced."""
    return loops.rewrite(expr, lambda e: None, env)


def accesses(body: Sequence[Statement], buffers: dict[str, Buffer]) -> tuple[list[IndexLike], set[Index]]:
    """All flat addresses, and the loop variables that are read otherwise too (as values, in indirect indices)."""
    addresses: list[IndexLike] = []
    fixed: set[Index] = set()
    for statement in statements(body):
        if isinstance(statement, Store):
            addresses.append(offset(buffers[statement.buffer], statement.index))
        if isinstance(statement, Accumulate) and statement.position is not None:
            fixed |= ix.variables(statement.position)
        for expr in (e for root in roots(statement) for e in loops.walk(root)):
            if isinstance(expr, Load):
                addresses.append(offset(buffers[expr.buffer], expr.index))
            elif isinstance(expr, IndexValue):
                fixed |= ix.variables(expr.args[0])
            elif isinstance(expr, Random):
                fixed |= ix.variables(expr.args[2])
    return addresses, fixed


def reach_of(buffer: Buffer) -> int | None:
    """The largest element offset of a buffer; None with symbolic sizes."""
    total = 0
    for extent, stride in zip(buffer.shape, buffer.strides):
        if isinstance(extent, Index) or isinstance(stride, Index):
            return None
        total += (extent - 1) * stride
    return total


def shape_of(chain: Sequence[Index]) -> Shape:
    return tuple(v.args[1] for v in chain)


def product(extents: Iterable[IndexLike]) -> IndexLike:
    total: IndexLike = 1
    for extent in extents:
        total = ix.mul(total, extent)
    return total

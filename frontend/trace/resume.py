"""Functions that continue a code object in the middle: the original bytecode behind a short prologue.

A graph break, or giving up, hands a frame back to the real interpreter. `Resume` builds, for one offset, a code object
whose prologue restores locals, cells and the value stack and then jumps to the offset; everything after the prologue is
the user's bytecode, untouched. Works inside loops, ``with`` and ``try`` on CPython 3.10-3.13.

The state arrives in the contents of one extra closure cell, as a chain ``(rest, item)``: the three instructions
``LOAD_DEREF state; UNPACK_SEQUENCE 2; STORE_DEREF state`` push the next item and are spelled alike on every version.
The extra cell comes last, so no operand of the original code has to be renumbered.

What differs: 3.11+ keeps cells in local slots and has an exception table, which moves by the length of the prologue;
3.10 has absolute jumps (retargeted here, widened to a fixed point), a block stack (re-entered by the prologue) and cells
outside the local slots (turned into free variables).
"""
from __future__ import annotations

import dis
from collections.abc import Mapping, Sequence
from types import CellType, CodeType, FunctionType, SimpleNamespace
from typing import Any

from flambeau.frontend.trace.decode import VERSION, exception_bytes, varints
from flambeau.frontend.trace.frames import NULL, Layout

_STATE = "<state>"
_CALL = "<call>"
_EXTENDED = dis.opmap["EXTENDED_ARG"]


class Resume:
    """Continues `code` natively at byte `offset`; call it with the values of its layout."""

    def __init__(self, code: CodeType, offset: int, layout: Layout) -> None:
        self.original = code
        self.layout = layout
        self.code = _build(code, offset, layout)

    def __call__(self, globals: dict[str, Any], locals: Mapping[str, Any], cells: Mapping[str, CellType],
                 stack: Sequence[Any]) -> Any:
        """Run to the end of the frame. `cells` holds cell variables and free variables by name."""
        code, layout = self.original, self.layout
        items = [locals[name] for name in layout.locals]
        items += [_slot_value(name, cells) for name in _slot_cells(code)]
        items += _stack_items(stack)
        state: Any = None
        for item in reversed(items):
            state = (state, item)
        outer = (code.co_cellvars if VERSION < (3, 11) else ()) + code.co_freevars
        closure = tuple(cells.get(name) or CellType() for name in outer) + (CellType(state),)
        function = FunctionType(self.code, globals, code.co_name, None, closure)
        return function(*[None] * self.code.co_argcount)


def _stack_items(stack: Sequence[Any]) -> list[Any]:
    """What the prologue takes for the value stack. 3.10 has no PUSH_NULL: `LOAD_METHOD call` of an object that has
    `call` as an attribute leaves NULL and the attribute, which is all a NULL is used for there."""
    if VERSION >= (3, 11):
        return [v for v in stack if v is not NULL]
    return [SimpleNamespace(**{_CALL: v}) if k and stack[k - 1] is NULL else v
            for k, v in enumerate(stack) if v is not NULL]


def _slot_cells(code: CodeType) -> tuple[str, ...]:
    """Cell variables that the prologue stores into local slots, in order.

    3.11+: all of them. 3.10: cells live in the closure; only a first argument that is also a cell is stored (as a
    value), because zero-argument `super()` looks for it in slot 0.
    """
    if VERSION >= (3, 11):
        return code.co_cellvars
    return tuple(name for name in code.co_varnames[:1] if name in code.co_cellvars)


def _slot_value(name: str, cells: Mapping[str, CellType]) -> Any:
    cell = cells.get(name) or CellType()
    if VERSION >= (3, 11):
        return cell
    try:
        return cell.cell_contents
    except ValueError:
        return None


# --------------------------------------------------------------------------- assembling

def _caches(op: int) -> int:
    """Inline cache entries that follow `op`."""
    if VERSION < (3, 11):
        return 0
    tables: Any = dis                                # its type stubs leave this one out
    table = tables._inline_cache_entries
    return table.get(dis.opname[op], 0) if isinstance(table, dict) else table[op]


def _extended(op: int, arg: int, width: int = 0) -> bytes:
    """`op arg` behind as many EXTENDED_ARGs as the argument needs (or `width` units ask for)."""
    wide = max(width - 1, (arg > 0xFF) + (arg > 0xFFFF) + (arg > 0xFFFFFF))
    prefix = b"".join(bytes((_EXTENDED, arg >> 8 * k & 0xFF)) for k in range(wide, 0, -1))
    return prefix + bytes((op, arg & 0xFF)) + bytes(2 * _caches(op))


def _ins(name: str, arg: int = 0, width: int = 0) -> bytes:
    return _extended(dis.opmap[name], arg, width)


def _slot(code: CodeType, name: str) -> int:
    """Index of a local or (3.11+) cell among the fast slots."""
    names = code.co_varnames + tuple(c for c in code.co_cellvars if c not in code.co_varnames)
    return names.index(name)


def _state_index(code: CodeType) -> int:
    if VERSION < (3, 11):
        return len(code.co_cellvars) + len(code.co_freevars)
    return len(code.co_varnames) + len([c for c in code.co_cellvars if c not in code.co_varnames]) \
        + len(code.co_freevars)


def _prologue(code: CodeType, layout: Layout, jump: int, handlers: Sequence[tuple[int, int]]) -> bytes:
    """Restore the frame, then jump `jump` units forward. `handlers`: (position in units, level) of open blocks."""
    state = _state_index(code)
    take = _ins("LOAD_DEREF", state) + _ins("UNPACK_SEQUENCE", 2) + _ins("STORE_DEREF", state)
    out = b""
    if VERSION >= (3, 11):
        out += _ins("COPY_FREE_VARS", len(code.co_freevars) + 1) + _ins("RESUME", 0)
    bound = layout.locals + _slot_cells(code)
    for name in bound:
        out += take + _ins("STORE_FAST", _slot(code, name))
    if code.co_varnames and code.co_varnames[0] not in bound:
        out += _ins("DELETE_FAST", 0)                # slot 0 holds the dummy argument
    waiting = list(handlers)
    for position in range(layout.depth + 1):
        while waiting and waiting[0][1] == position:
            at = waiting.pop(0)[0]
            out += _ins("SETUP_FINALLY", max(0, at - len(out) // 2 - 3), width=3)
        if position < layout.depth:
            out += _stack_entry(code, layout, position, take)
    out += _ins("DELETE_DEREF", state)               # `locals()` is not to show it
    return out + _ins("JUMP_FORWARD", jump, width=3)


def _stack_entry(code: CodeType, layout: Layout, position: int, take: bytes) -> bytes:
    if VERSION >= (3, 11):
        return _ins("PUSH_NULL") if position in layout.nulls else take
    if position in layout.nulls:
        return b""
    return take + (_ins("LOAD_METHOD", len(code.co_names)) if position - 1 in layout.nulls else b"")


def _build(code: CodeType, offset: int, layout: Layout) -> CodeType:
    parts = _build_310(code, offset, layout) if VERSION < (3, 11) else _build_311(code, offset, layout)
    return code.replace(co_argcount=min(1, len(code.co_varnames)), co_posonlyargcount=0, co_kwonlyargcount=0,
                        co_flags=code.co_flags & ~_ARGUMENT_FLAGS, co_stacksize=code.co_stacksize + 4, **parts)


_ARGUMENT_FLAGS = 0x04 | 0x08 | 0x40      # *args, **kwargs, no free variables


def _build_311(code: CodeType, offset: int, layout: Layout) -> dict[str, Any]:
    prologue = _prologue(code, layout, offset // 2, ())
    units = len(prologue) // 2
    # Location entries of kind "no location" cover at most eight units each.
    nowhere = b"".join(bytes((0x80 | 15 << 3 | min(8, units - i) - 1,)) for i in range(0, units, 8))
    return dict(co_code=prologue + code.co_code, co_linetable=nowhere + code.co_linetable,
                co_exceptiontable=_shift_table(exception_bytes(code), units),
                co_freevars=code.co_freevars + (_STATE,))


def _shift_table(table: bytes, units: int) -> bytes:
    values = list(varints(table))
    out = b""
    for start, size, target, depth in zip(*[iter(values)] * 4):
        out += _varint(start + units, 0x80) + _varint(size) + _varint(target + units) + _varint(depth)
    return out


def _varint(value: int, first: int = 0) -> bytes:
    """Big-endian groups of six bits; bit 6 says that more follow, bit 7 that an entry starts."""
    groups = [value & 63]
    while value := value >> 6:
        groups.append(value & 63 | 64)
    groups.reverse()
    for k in range(len(groups) - 1):
        groups[k] |= 64
    groups[-1] &= 63
    groups[0] |= first
    return bytes(groups)


def _build_310(code: CodeType, offset: int, layout: Layout) -> dict[str, Any]:
    # Jumps in the prologue have a fixed width, so its length does not depend on where they go.
    size = len(_prologue(code, layout, 0, [(0, level) for _, level in layout.blocks]))
    body, position = _relayout_310(code.co_code, size // 2)
    handlers = [(position[h // 2], level) for h, level in layout.blocks]
    prologue = _prologue(code, layout, position[offset // 2] - size // 2, handlers)
    lines, left = b"", size
    while left:
        lines += bytes((min(254, left), 0x80))
        left -= min(254, left)
    return dict(co_code=prologue + body, co_linetable=lines + _moved_lines_310(code, position, len(body) // 2 + size // 2),
                co_names=code.co_names + (_CALL,), co_cellvars=(), co_freevars=code.co_cellvars + code.co_freevars + (_STATE,))


def _relayout_310(raw: bytes, first: int) -> tuple[bytes, dict[int, int]]:
    """Move code so that it starts at unit `first`; returns it with the new position of every old instruction."""
    instrs = []                                      # (old start, opcode, argument, old unit of the opcode itself)
    start, arg = 0, 0
    for unit in range(len(raw) // 2):
        op, low = raw[2 * unit], raw[2 * unit + 1]
        if op == _EXTENDED:
            arg = (arg | low) << 8
            continue
        instrs.append((start, op, arg | low, unit))
        start, arg = unit + 1, 0
    width = {start: 1 for start, *_ in instrs}
    while True:
        position, at = {}, first
        for start, *_ in instrs:
            position[start] = at
            at += width[start]
        moved, grown = [], False
        for start, op, arg, unit in instrs:
            if op in dis.hasjabs:
                arg = position[arg]
            elif op in dis.hasjrel:
                arg = position[unit + 1 + arg] - position[start] - width[start]
            need = 1 + (arg > 0xFF) + (arg > 0xFFFF)
            if need > width[start]:
                width[start], grown = need, True
            moved.append(_extended(op, arg, width[start]))
        if not grown:
            return b"".join(moved), position


def _moved_lines_310(code: CodeType, position: dict[int, int], end: int) -> bytes:
    """3.10 line table for moved code: pairs (bytes, line delta), a delta of -128 meaning no line."""
    out, line = b"", code.co_firstlineno
    for lo, hi, this in code.co_lines():
        stop = position.get(hi // 2, end)
        size = 2 * (stop - position[lo // 2])
        delta = 0 if this is None else this - line
        while delta and not -127 <= delta <= 127:
            step = max(-127, min(127, delta))
            out += bytes((0, step & 0xFF))
            delta -= step
        while size > 254:
            out += bytes((254, 0x80 if this is None else delta & 0xFF))
            size, delta = size - 254, 0
        out += bytes((size, 0x80 if this is None else delta & 0xFF))
        line = line if this is None else this
    return out

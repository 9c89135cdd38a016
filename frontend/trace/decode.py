"""CPython bytecode (3.10-3.13) -> about 75 canonical instructions. All knowledge of versions is here and in `resume`.

`decode(code)` gives a `Program`: a list of `Instr` whose jump targets are indices, whose names do not depend on the
Python version, and which remember the offset at which the original bytecode can be entered natively.

One original instruction may become several canonical ones (``LOAD_FAST_LOAD_FAST``), and several original ones may
become one (``KW_NAMES PRECALL CALL``). The canonical instructions of one native step form a *group*: execution can be
handed to the real interpreter only at the first instruction of a group.
"""
from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

VERSION = sys.version_info[:2]
_dis: Any = dis      # for tables that its type stubs leave out

#: What reading or deleting a local variable without a value says.
UNBOUND = "local variable '{}' referenced before assignment" if VERSION < (3, 11) else \
    "cannot access local variable '{}' where it is not associated with a value"


@dataclass(slots=True)
class Handler:
    """Where an exception raised at an instruction goes (3.11+; on 3.10 the frame keeps a block stack)."""

    target: int
    depth: int
    push_lasti: bool


@dataclass(slots=True)
class Instr:
    """One canonical instruction. `arg` is a name, a constant, a count...; `target` is an index into the program."""

    op: str
    arg: Any = None
    target: int | None = None
    offset: int = 0
    line: int | None = None
    group: int = 0
    handler: Handler | None = None

    def __str__(self) -> str:
        arg = "" if self.arg is None else f" {self.arg!r}"
        return f"{self.op}{arg}" + ("" if self.target is None else f" -> {self.target}")


@dataclass(slots=True)
class Program:
    """The canonical instructions of a code object."""

    code: CodeType
    instrs: list[Instr]
    at_offset: dict[int, int]
    _live: list[frozenset[str]] | None = field(default=None, repr=False)

    def live(self, index: int) -> frozenset[str]:
        """Names of the locals and cells that may still be read at or after instruction `index`."""
        if self._live is None:
            always = _always_live(self.code)
            self._live = [names | always for names in liveness(self.instrs)]
        return self._live[index]

    def __str__(self) -> str:
        return "\n".join(f"{k:4} {i}" for k, i in enumerate(self.instrs))


_cache: dict[int, Program] = {}


def decode(code: CodeType) -> Program:
    """Canonical form of `code` (cached: code objects are immutable)."""
    program = _cache.get(id(code))
    if program is None:
        program = _cache[id(code)] = _decode(code)     # holds `code`, so its id stays valid
    return program


# --------------------------------------------------------------------------- the walk

# Instructions that are part of the native step of the one that follows them.
_PREFIX = {"KW_NAMES", "PRECALL", "EXTENDED_ARG"}
_SILENT = {"NOP", "RESUME", "CACHE", "COPY_FREE_VARS", "EXTENDED_ARG", "PRECALL", "KW_NAMES", "END_FOR",
           "GEN_START", "SETUP_CLEANUP"}


def _decode(code: CodeType) -> Program:
    raw = list(dis.get_instructions(code))
    lines = _lines(code)
    instrs: list[Instr] = []
    at_offset: dict[int, int] = {}
    kwnames: tuple[str, ...] = ()
    start: int | None = None
    for k, ins in enumerate(raw):
        at_offset[ins.offset] = len(instrs)
        start = ins.offset if start is None else start
        if ins.opname == "KW_NAMES":
            kwnames = code.co_consts[ins.arg or 0]
        if ins.opname in _PREFIX:
            continue
        group = len(instrs)
        for new in _canonical(code, raw, k, kwnames):
            new.offset, new.line, new.group = start, lines.get(ins.offset), group
            instrs.append(new)
        if ins.opname in ("CALL", "CALL_FUNCTION_EX", "CALL_KW"):
            kwnames = ()
        start = None
    for new in instrs:
        if new.target is not None:
            new.target = at_offset[new.target]
    _attach_handlers(code, instrs, at_offset)
    return Program(code, instrs, at_offset)


def _lines(code: CodeType) -> dict[int, int | None]:
    return {o: line for lo, hi, line in code.co_lines() for o in range(lo, hi, 2)}


def _canonical(code: CodeType, raw: list[dis.Instruction], k: int, kwnames: tuple[str, ...]) -> Iterator[Instr]:
    """The canonical instructions of raw[k]; jump targets are still offsets."""
    ins = raw[k]
    name, arg = ins.opname, ins.arg
    rule = _RULES.get(name)
    if rule is not None:
        yield from rule(code, ins)
    elif name in _SILENT:
        yield Instr("NOP")
    elif name in _SAME:
        yield Instr(name, ins.argval if name in _WITH_NAME else arg)
    elif name == "LOAD_BUILD_CLASS":
        yield Instr("LOAD_GLOBAL", "__build_class__")
    elif name == "FOR_ITER":
        yield Instr("FOR_ITER", None, _after_loop(raw, ins.argval))
    elif name == "CALL":
        yield Instr("CALL", (arg, kwnames, False))
    elif name == "MAKE_CELL":
        # At the start of a frame it says what `co_cellvars` says; later it belongs to an inlined comprehension.
        yield Instr("NOP" if all(i.opname in _SILENT | {"MAKE_CELL"} for i in raw[:k]) else "MAKE_CELL", ins.argval)
    else:
        yield Instr("UNSUPPORTED", name)


def _after_loop(raw: list[dis.Instruction], target: int) -> int:
    """Where an exhausted FOR_ITER goes: 3.12+ skips END_FOR (3.13 also the POP_TOP after it)."""
    if VERSION < (3, 12):
        return target
    at = next(k for k, i in enumerate(raw) if i.offset == target)
    return raw[at + (1 if VERSION < (3, 13) else 2)].offset


# --------------------------------------------------------------------------- one rule per original instruction

# Same name and stack effect on every version that has them.
_SAME = {
    "LOAD_CONST", "LOAD_DEREF", "STORE_DEREF", "DELETE_DEREF", "LOAD_CLOSURE", "STORE_GLOBAL", "DELETE_GLOBAL",
    "STORE_ATTR", "DELETE_ATTR", "STORE_SUBSCR", "DELETE_SUBSCR", "GET_ITER", "UNPACK_SEQUENCE", "UNPACK_EX",
    "BUILD_TUPLE", "BUILD_LIST", "BUILD_SET", "BUILD_MAP", "BUILD_STRING", "BUILD_SLICE", "BUILD_CONST_KEY_MAP",
    "LIST_APPEND", "SET_ADD", "MAP_ADD", "LIST_EXTEND", "SET_UPDATE", "DICT_UPDATE", "DICT_MERGE", "LIST_TO_TUPLE",
    "POP_TOP", "COPY", "SWAP", "PUSH_NULL", "RETURN_VALUE", "YIELD_VALUE", "GET_YIELD_FROM_ITER", "END_SEND",
    "PUSH_EXC_INFO", "CHECK_EXC_MATCH", "BEFORE_WITH", "POP_BLOCK", "LOAD_ASSERTION_ERROR", "IMPORT_NAME",
    "IMPORT_FROM", "GET_LEN", "MATCH_MAPPING", "MATCH_SEQUENCE", "TO_BOOL",
    "STORE_FAST", "DELETE_FAST", "LOAD_FAST_AND_CLEAR",
}
_WITH_NAME = {"LOAD_CONST", "LOAD_DEREF", "STORE_DEREF", "DELETE_DEREF", "LOAD_CLOSURE", "STORE_GLOBAL",
              "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR", "IMPORT_NAME", "IMPORT_FROM", "STORE_FAST",
              "DELETE_FAST", "LOAD_FAST_AND_CLEAR"}
_BINARY_310 = {"ADD": "+", "AND": "&", "FLOOR_DIVIDE": "//", "LSHIFT": "<<", "MATRIX_MULTIPLY": "@", "MULTIPLY": "*",
               "MODULO": "%", "OR": "|", "POWER": "**", "RSHIFT": ">>", "SUBTRACT": "-", "TRUE_DIVIDE": "/",
               "XOR": "^"}
_UNARY = {"UNARY_NEGATIVE": "-", "UNARY_POSITIVE": "+", "UNARY_INVERT": "~", "UNARY_NOT": "not"}
_FUNCTION_PARTS = {1: "defaults", 2: "kwdefaults", 4: "annotations", 8: "closure"}


def _arg(ins: dis.Instruction) -> int:
    assert ins.arg is not None
    return ins.arg


def _load_fast(code: CodeType, name: str) -> Instr:
    """3.13 loads cells with LOAD_FAST; everywhere else a cell's slot is never read this way."""
    cell = VERSION >= (3, 13) and (name in code.co_cellvars or name in code.co_freevars)
    return Instr("LOAD_CLOSURE" if cell else "LOAD_FAST", name)


def _load_global(code: CodeType, ins: dis.Instruction) -> Iterator[Instr]:
    null = VERSION >= (3, 11) and _arg(ins) & 1
    if null and VERSION < (3, 13):
        yield Instr("PUSH_NULL")
    yield Instr("LOAD_GLOBAL", ins.argval)
    if null and VERSION >= (3, 13):
        yield Instr("PUSH_NULL")


def _method_pair() -> Iterator[Instr]:
    """After a method was loaded: the bound method and a NULL, in the order this version's CALL expects."""
    yield Instr("PUSH_NULL")
    if VERSION < (3, 13):
        yield Instr("SWAP", 2)


def _load_attr(code: CodeType, ins: dis.Instruction) -> Iterator[Instr]:
    yield Instr("LOAD_ATTR", ins.argval)
    if ins.opname == "LOAD_METHOD" or (VERSION >= (3, 12) and _arg(ins) & 1):
        yield from _method_pair()


def _load_super_attr(code: CodeType, ins: dis.Instruction) -> Iterator[Instr]:
    yield Instr("LOAD_SUPER_ATTR", ins.argval)
    if _arg(ins) & 1:
        yield from _method_pair()


def _compare(code: CodeType, ins: dis.Instruction) -> Iterator[Instr]:
    shift = {(3, 12): 4, (3, 13): 5}.get(VERSION, 0)
    yield Instr("COMPARE", dis.cmp_op[_arg(ins) >> shift])
    if VERSION >= (3, 13) and _arg(ins) & 16:
        yield Instr("TO_BOOL")


def _pop_jump(code: CodeType, ins: dis.Instruction) -> Iterator[Instr]:
    yield Instr("POP_JUMP_IF", ins.opname.rsplit("IF_", 1)[1], ins.argval)


def _jump_or_pop(code: CodeType, ins: dis.Instruction) -> Iterator[Instr]:
    yield Instr("JUMP_OR_POP_IF", "TRUE" if "TRUE" in ins.opname else "FALSE", ins.argval)


def _make_function(code: CodeType, ins: dis.Instruction) -> Iterator[Instr]:
    """The canonical form takes the code from the top, then its parts from below it, `closure` first."""
    if VERSION < (3, 11):
        yield Instr("SWAP", 2)                       # the qualified name, which the code object of 3.11+ carries
    flags = ins.arg or 0
    parts = tuple(part for bit, part in sorted(_FUNCTION_PARTS.items(), reverse=True) if flags & bit)
    yield Instr("MAKE_FUNCTION", ("qualname", *parts) if VERSION < (3, 11) else parts)


def _intrinsic_1(code: CodeType, ins: dis.Instruction) -> Iterator[Instr]:
    known = {5: Instr("UNARY", "+"), 6: Instr("LIST_TO_TUPLE"), 3: Instr("STOP_ITERATION_ERROR")}
    yield known.get(_arg(ins), Instr("UNSUPPORTED", ins.opname))


def _format_value(code: CodeType, ins: dis.Instruction) -> Iterator[Instr]:
    conversion = {0: None, 1: "str", 2: "repr", 3: "ascii"}[_arg(ins) & 3]
    yield Instr("FORMAT", (conversion, bool(_arg(ins) & 4)))


def _rotate(n: int) -> Any:
    return lambda code, ins: iter([Instr("ROT", n or ins.arg)])


def _call_310(kind: str) -> Any:
    """3.10 has no NULL below the callable except for methods: `plain` says so."""
    def rule(code: CodeType, ins: dis.Instruction) -> Iterator[Instr]:
        if kind == "FUNCTION":
            yield Instr("CALL", (ins.arg, (), True))
        elif kind == "KW":
            yield Instr("CALL_KW", (ins.arg, True))
        else:
            yield Instr("CALL", (ins.arg, (), False))
    return rule


def _copies(*depths: int) -> Any:
    return lambda code, ins: iter([Instr("COPY", d) for d in depths])


def _plain(op: str, arg: Any = None) -> Any:
    return lambda code, ins: iter([Instr(op, arg)])


def _jump(op: str, arg: Any = None) -> Any:
    return lambda code, ins: iter([Instr(op, arg, ins.argval)])


def _with_arg(op: str) -> Any:
    return lambda code, ins: iter([Instr(op, ins.arg)])


def _names(*ops: str) -> Any:
    def rule(code: CodeType, ins: dis.Instruction) -> Iterator[Instr]:
        names = ins.argval if isinstance(ins.argval, tuple) else (ins.argval,)
        for op, name in zip(ops, names):
            yield _load_fast(code, name) if op == "LOAD_FAST" else Instr(op, name)
    return rule


_RULES: dict[str, Any] = {
    "LOAD_FAST": _names("LOAD_FAST"), "LOAD_FAST_CHECK": _names("LOAD_FAST"),
    "LOAD_FAST_LOAD_FAST": _names("LOAD_FAST", "LOAD_FAST"),
    "STORE_FAST_LOAD_FAST": _names("STORE_FAST", "LOAD_FAST"),
    "STORE_FAST_STORE_FAST": _names("STORE_FAST", "STORE_FAST"),
    "LOAD_GLOBAL": _load_global, "LOAD_ATTR": _load_attr, "LOAD_METHOD": _load_attr,
    "LOAD_SUPER_ATTR": _load_super_attr,
    "BINARY_OP": lambda code, ins: iter([Instr("BINARY", _dis._nb_ops[_arg(ins)][1])]),
    "BINARY_SUBSCR": _plain("SUBSCR"),
    "BINARY_SLICE": lambda code, ins: iter([Instr("BUILD_SLICE", 2), Instr("SUBSCR")]),
    "STORE_SLICE": lambda code, ins: iter([Instr("BUILD_SLICE", 2), Instr("STORE_SUBSCR")]),
    **{f"BINARY_{n}": _plain("BINARY", s) for n, s in _BINARY_310.items()},
    **{f"INPLACE_{n}": _plain("BINARY", s + "=") for n, s in _BINARY_310.items()},
    **{n: _plain("UNARY", s) for n, s in _UNARY.items()},
    "COMPARE_OP": _compare,
    "IS_OP": _with_arg("IS_OP"), "CONTAINS_OP": _with_arg("CONTAINS_OP"),
    **{f"POP_JUMP_{d}IF_{c}": _pop_jump for d in ("", "FORWARD_", "BACKWARD_")
       for c in ("TRUE", "FALSE", "NONE", "NOT_NONE")},
    "JUMP_IF_TRUE_OR_POP": _jump_or_pop, "JUMP_IF_FALSE_OR_POP": _jump_or_pop,
    **{n: _jump("JUMP") for n in ("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_ABSOLUTE", "JUMP_BACKWARD_NO_INTERRUPT")},
    "JUMP_IF_NOT_EXC_MATCH": _jump("JUMP_IF_NOT_EXC_MATCH"),
    "SEND": _jump("SEND", VERSION < (3, 12)),  # whether a finished iterator leaves the stack; from 3.12 END_SEND drops it
    "YIELD_FROM": _plain("YIELD_FROM"),
    "MAKE_FUNCTION": _make_function,
    "SET_FUNCTION_ATTRIBUTE": lambda code, ins: iter([Instr("SET_FUNCTION_ATTRIBUTE", _FUNCTION_PARTS[ins.arg])]),
    "CALL_FUNCTION": _call_310("FUNCTION"), "CALL_METHOD": _call_310("METHOD"), "CALL_FUNCTION_KW": _call_310("KW"),
    "CALL_KW": lambda code, ins: iter([Instr("CALL_KW", (ins.arg, False))]),
    "CALL_FUNCTION_EX": lambda code, ins: iter([Instr("CALL_EX", (bool(ins.arg & 1), VERSION < (3, 11)))]),
    "CALL_INTRINSIC_1": _intrinsic_1,
    "FORMAT_VALUE": _format_value,
    "FORMAT_SIMPLE": _plain("FORMAT", (None, False)), "FORMAT_WITH_SPEC": _plain("FORMAT", (None, True)),
    "CONVERT_VALUE": lambda code, ins: iter([Instr("CONVERT", {1: "str", 2: "repr", 3: "ascii"}[ins.arg])]),
    "DUP_TOP": _copies(1), "DUP_TOP_TWO": _copies(2, 2),
    "ROT_TWO": _rotate(2), "ROT_THREE": _rotate(3), "ROT_FOUR": _rotate(4), "ROT_N": _rotate(0),
    "RETURN_CONST": lambda code, ins: iter([Instr("LOAD_CONST", ins.argval), Instr("RETURN_VALUE")]),
    # A 3.11+ generator starts by popping the None that was sent to it.
    "RETURN_GENERATOR": _plain("LOAD_CONST", None),
    "RAISE_VARARGS": _with_arg("RAISE"),
    # 3.10 leaves a flag above the result, 3.11+ makes the result None.
    "MATCH_KEYS": lambda code, ins: iter([Instr("MATCH_KEYS", VERSION < (3, 11))]),
    "MATCH_CLASS": lambda code, ins: iter([Instr("MATCH_CLASS", (ins.arg, VERSION < (3, 11)))]),
    "COPY_DICT_WITHOUT_KEYS": _plain("COPY_DICT_WITHOUT_KEYS"),
    # 3.10 unwinds to three values (traceback, value, type) where 3.11+ has one.
    "RERAISE": _plain("RERAISE", 3 if VERSION < (3, 11) else 1),
    "POP_EXCEPT": _plain("POP_EXCEPT", 3 if VERSION < (3, 11) else 1),
    "WITH_EXCEPT_START": _plain("WITH_EXCEPT_START", 7 if VERSION < (3, 11) else 4),
    "SETUP_FINALLY": _jump("SETUP_FINALLY", 0),
    "SETUP_WITH": lambda code, ins: iter([Instr("BEFORE_WITH"), Instr("SETUP_FINALLY", 1, ins.argval)]),
}


# --------------------------------------------------------------------------- exception table (3.11+)

def _attach_handlers(code: CodeType, instrs: list[Instr], at_offset: dict[int, int]) -> None:
    table = exception_table(code)
    for new in instrs:
        for lo, hi, target, depth, lasti in table:
            if lo <= new.offset < hi:
                new.handler = Handler(at_offset[target], depth, lasti)
                break


def varints(data: bytes) -> Iterator[int]:
    """The numbers of an exception table: big-endian groups of six bits."""
    it = iter(data)
    for byte in it:
        value = byte & 63
        while byte & 64:
            byte = next(it)
            value = value << 6 | byte & 63
        yield value


def exception_bytes(code: Any) -> bytes:
    """The raw exception table (3.11+)."""
    return code.co_exceptiontable


def exception_table(code: CodeType) -> list[tuple[int, int, int, int, bool]]:
    """Rows (start, end, target, depth, push_lasti), offsets in bytes; empty on 3.10."""
    if VERSION < (3, 11):
        return []
    values = list(varints(exception_bytes(code)))
    return [(2 * s, 2 * (s + n), 2 * t, d >> 1, bool(d & 1)) for s, n, t, d in zip(*[iter(values)] * 4)]


# --------------------------------------------------------------------------- liveness

_READS = {"LOAD_FAST", "LOAD_FAST_AND_CLEAR", "DELETE_FAST", "LOAD_DEREF", "STORE_DEREF", "DELETE_DEREF",
          "LOAD_CLOSURE", "MAKE_CELL"}
_ENDS = {"RETURN_VALUE", "RAISE", "RERAISE", "JUMP"}


def _always_live(code: CodeType) -> frozenset[str]:
    """Names read in ways that instructions do not show: by `locals()` and its kin, by zero-argument `super()`."""
    if {"locals", "vars", "dir", "eval", "exec"} & set(code.co_names):
        return frozenset(code.co_varnames)
    return frozenset(code.co_varnames[:1] if "super" in code.co_names else ())


def liveness(instrs: list[Instr]) -> list[frozenset[str]]:
    """Backward data flow over jumps and exception edges: per instruction, the names that may still be read."""
    live: list[frozenset[str]] = [frozenset()] * (len(instrs) + 1)
    # A 3.10 handler can be entered from anywhere in its block; taking it as a successor of every instruction is safe.
    handlers = [i.target for i in instrs if i.op == "SETUP_FINALLY" and i.target is not None]
    changed = True
    while changed:
        changed = False
        entered = frozenset().union(*(live[h] for h in handlers)) if handlers else frozenset()
        for k in range(len(instrs) - 1, -1, -1):
            ins = instrs[k]
            after = frozenset() if ins.op in _ENDS else live[k + 1]
            if ins.target is not None:
                after = after | live[ins.target]
            if ins.op == "STORE_FAST":
                after = after - {ins.arg}
            elif ins.op in _READS:
                after = after | {ins.arg}
            if ins.handler is not None:
                after = after | live[ins.handler.target]
            after = after | entered
            if after != live[k]:
                live[k], changed = after, True
    return live

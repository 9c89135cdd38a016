"""Which statement of the program changes an object, as far as names tell."""
from __future__ import annotations

import dis
import re
import types
from collections.abc import Iterator

from flambeau.frontend.checking.compare import Difference
from flambeau.frontend.checking.state import Picture

_STORES = {"STORE_ATTR", "DELETE_ATTR", "STORE_SUBSCR", "DELETE_SUBSCR", "STORE_GLOBAL", "STORE_DEREF", "DELETE_GLOBAL",
           "STORE_NAME"}
_METHODS = {"append", "extend", "insert", "pop", "remove", "clear", "update", "setdefault", "add", "discard", "reverse", "sort",
            "popitem", "appendleft", "extendleft", "popleft", "register_buffer", "__setitem__", "move_to_end", "setattr",
            "delattr", "rotate", "difference_update", "intersection_update"}
#: What a mismatch outside of objects is called -> the names that lead to it.
_CAUSES = {"printed text": {"print", "write"}, "grad mode": {"set_grad_enabled", "no_grad", "enable_grad", "inference_mode"},
           "random numbers drawn from random": {"random", "randint", "uniform", "choice", "shuffle", "sample", "gauss"},
           "random numbers drawn from NumPy": {"rand", "randn", "random", "randint", "normal", "uniform", "choice", "shuffle"},
           "grad": {"backward"}}


def changing_line(fn: types.FunctionType, before: Picture, difference: Difference) -> tuple[str, str]:
    """(line, name of the operation) of the statement that changes what is different, in the function or one it may call; for a
    result that of its `return`."""
    last = difference.path.replace("[", ".[").replace("closure of ", ".").split(".")[-1]
    missing = re.search(r"\.(\w+)|(\[\S+\])", difference.text) if "is missing" in difference.text or (
        "too much" in difference.text) else None
    if missing:
        last = missing.group(1) or missing.group(2)
    best: tuple[int, str, str] = (0, "", "")
    for code in _reached(fn, before):
        own = code is fn.__code__
        for where, ins in _lines(code):
            score, name = _score(ins, last)
            if not score and own and ins.opname in ("RETURN_VALUE", "RETURN_CONST") and difference.path.startswith("result"):
                score, name = 1, "return"
            if score > best[0]:
                best = (score, where, name)
    return best[1], best[2]


def _score(ins: dis.Instruction, last: str) -> tuple[int, str]:
    """How well an instruction fits what is different, and what to call it."""
    if ins.opname in _STORES and ins.argval == last:
        return 6, str(ins.argval)
    if "LOAD" not in ins.opname and ins.opname not in _STORES:
        return 0, ""
    if ins.opname == "LOAD_CONST":                   # the name that setattr is given
        return (3, last) if ins.argval == last else (0, "")
    if ins.argval in _CAUSES.get(last, ()):
        return 5, str(ins.argval)
    if ins.opname in ("STORE_SUBSCR", "DELETE_SUBSCR") and last[:1] == "[":
        return 4, "[]"
    return (2, str(ins.argval)) if ins.argval in _METHODS else (0, "")


def _lines(code: types.CodeType) -> Iterator[tuple[str, dis.Instruction]]:
    """The instructions of a code object, each with its line."""
    line = code.co_firstlineno
    for ins in dis.get_instructions(code):
        line = ins.starts_line if isinstance(ins.starts_line, int) and not isinstance(ins.starts_line, bool) else \
            getattr(ins, "line_number", None) or line
        yield f"{code.co_filename.rsplit('/', 1)[-1]}:{line}", ins


def _reached(fn: types.FunctionType, before: Picture) -> Iterator[types.CodeType]:
    """The code of a function, and of the program's functions that its objects lead to."""
    yield from _codes(fn.__code__)
    for held in before.held.values():
        if held.kind == "function" and held.value is not fn:
            yield from _codes(held.value.__code__)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _codes(const)

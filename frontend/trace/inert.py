"""After a break: instructions that only move values about and work on objects the tracer knows nothing of.

Each of those would be a break of its own, with nothing compiled before it. They are performed right away, up to the first
instruction that a trace could begin with. So is the next step of a loop over a container that a break is in.
"""
from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

from flambeau.frontend.trace.decode import Program
from flambeau.frontend.trace.frames import NULL
from flambeau.runtime.tensor import Tensor

_KNOWN = (int, float, complex, str, bytes, bool, type(None), type(Ellipsis), range, list, tuple, dict, set, frozenset, slice,
          type, types.ModuleType, types.FunctionType, types.MethodType, types.CellType, types.GeneratorType, Tensor)
_MOVES = {"LOAD_FAST", "STORE_FAST", "LOAD_CONST", "LOAD_GLOBAL", "PUSH_NULL", "POP_TOP", "NOP", "SWAP", "COPY"}
#: operands each instruction takes from the stack
_OPERANDS = {"LOAD_ATTR": 1, "BINARY": 2, "COMPARE": 2, "SUBSCR": 2, "UNARY": 1, "TO_BOOL": 1, "CONVERT": 1}
#: iterators over containers: the trace cannot advance one from outside, and advancing it runs no code of the program
_CONTAINERS: tuple[Any, ...] = ([], (), "", b"", bytearray(), range(0), range(1 << 99), {}, {}.values(), {}.items(), set())
_ITERATORS = (*(type(iter(x)) for x in _CONTAINERS), type(reversed([])), type(reversed({})))
_CONVERSIONS = (int, float, bool, str, len, round, abs, repr)


def is_opaque(value: Any) -> bool:
    """Whether the tracer would give up at any use of the object: one of a class written in C that it does not know."""
    cls = type(value)
    if cls in _KNOWN or value is NULL or isinstance(value, (Tensor, type)) or cls.__module__ == "builtins":
        return False
    return not cls.__flags__ & (1 << 9) and not cls.__module__.startswith(("flambeau", "functools", "itertools", "collections"))


def run(program: Program, index: int, stack: list[Any], env: Any, perform: dict[str, Callable[..., Any]]) -> tuple[int, Any]:
    """Perform such instructions from `index` on. The index of the next one, and (exception, stack before) if one raised."""
    while True:
        at, trial, local = index, list(stack), dict(env.locals)
        ins = program.instrs[at]
        while ins.op in _MOVES or ins.op == "JUMP" or _is_name_of_module(ins, trial):
            if not _move(ins, trial, local, env):
                return index, None
            at = at + 1 if ins.target is None else ins.target
            ins = program.instrs[at]
        end = _end(program, at)
        if not _is_inert(ins, trial) or ins.group != at or end is None:
            return index, None
        stack[:] = trial
        env.locals.clear()
        env.locals.update(local)
        before = list(stack)
        try:
            following = perform[ins.op](stack, ins, env)
        except BaseException as error:
            return at, (error, before)
        if following is not None:                                 # the end of a loop
            index = following
            continue
        for ins in program.instrs[at + 1:end]:
            _move(ins, stack, env.locals, env)
        index = end


def _end(program: Program, at: int) -> int | None:
    """Where the native instruction at `at` ends; None if it does more than move values after its first part."""
    end = at + 1
    while end < len(program.instrs) and program.instrs[end].group == program.instrs[at].group:
        if program.instrs[end].op not in _MOVES:
            return None
        end += 1
    return end


def _is_name_of_module(ins: Any, stack: list[Any]) -> bool:
    """`np.sort`: a name that is there can be read without any code running."""
    return ins.op == "LOAD_ATTR" and bool(stack) and type(stack[-1]) is types.ModuleType and ins.arg in stack[-1].__dict__


def _move(ins: Any, stack: list[Any], local: dict[str, Any], env: Any) -> bool:
    if ins.op == "LOAD_FAST":
        if ins.arg not in local:
            return False
        stack.append(local[ins.arg])
    elif ins.op == "STORE_FAST":
        if not stack or stack[-1] is NULL:
            return False
        local[ins.arg] = stack.pop()
    elif ins.op == "LOAD_GLOBAL":
        if ins.arg not in env.step.globals:
            return False
        stack.append(env.step.globals[ins.arg])
    elif ins.op == "LOAD_ATTR":
        stack.append(stack.pop().__dict__[ins.arg])
    elif ins.op == "LOAD_CONST":
        stack.append(ins.arg)
    elif ins.op == "PUSH_NULL":
        stack.append(NULL)
    elif ins.op == "POP_TOP":
        stack.pop()
    elif ins.op == "COPY":
        stack.append(stack[-ins.arg])
    elif ins.op == "SWAP":
        stack[-1], stack[-ins.arg] = stack[-ins.arg], stack[-1]
    return True


def _is_inert(ins: Any, stack: list[Any]) -> bool:
    if ins.op == "FOR_ITER":
        return type(stack[-1]) in _ITERATORS
    count = _OPERANDS.get(ins.op)
    if count is not None:
        operands = stack[-count:]
        return any(map(is_opaque, operands)) and not any(isinstance(v, Tensor) for v in operands)
    if ins.op not in ("CALL", "CALL_KW"):
        return False
    given = ins.arg[0] + (ins.op == "CALL_KW")
    values, below = stack[len(stack) - given:], stack[:len(stack) - given]
    callee = below[-1]
    if not ins.arg[-1]:
        first, second = below[-2:]
        callee = second if first is NULL else first
        values = values if first is NULL or second is NULL else [second, *values]
    if any(isinstance(v, Tensor) for v in values):
        return False
    owner = getattr(callee, "__self__", None) if isinstance(callee, types.BuiltinFunctionType) else None
    return is_opaque(callee) or is_opaque(owner) or _is_foreign_class(callee) or (
        any(callee is c for c in _CONVERSIONS) and any(map(is_opaque, values)))


def _is_foreign_class(callee: Any) -> bool:
    """A class of an extension module: making an object of it is C code."""
    return type(callee) is type and not callee.__flags__ & (1 << 9) and \
        callee.__module__.partition(".")[0] not in sys.stdlib_module_names

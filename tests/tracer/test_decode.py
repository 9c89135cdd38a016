"""The canonical instruction set: the same program text on every Python version where the source says so."""
import collections
import dataclasses
import inspect
import json.decoder
import pathlib
import re
import statistics
import types

import pytest

from flambeau.frontend import trace
from flambeau.frontend.trace.decode import decode


def test_no_other_file_knows_of_versions():
    tracer = pathlib.Path(trace.__file__).parent
    knowing = {path.name for path in tracer.glob("*.py") if re.search(r"version_info|hexversion|\bVERSION\b", path.read_text())}
    assert knowing == {"decode.py", "resume.py"}


def names(function):
    return [i.op for i in decode(function.__code__).instrs if i.op != "NOP"]


def test_arithmetic_is_the_same_everywhere():
    def f(a, b):
        return a + b * 2
    program = decode(f.__code__)
    assert [str(i) for i in program.instrs if i.op != "NOP"] == [
        "LOAD_FAST 'a'", "LOAD_FAST 'b'", "LOAD_CONST 2", "BINARY '*'", "BINARY '+'", "RETURN_VALUE"]


def test_conditional_jump_target_is_an_instruction():
    def f(a):
        if a < 3:
            return 1
        return 2
    program = decode(f.__code__)
    jump = next(i for i in program.instrs if i.op == "POP_JUMP_IF")
    assert jump.arg == "FALSE" and program.instrs[jump.target].arg == 2


def test_an_exhausted_loop_lands_behind_the_iterator_clean_up():
    def f(xs):
        for x in xs:
            x()
        return 7
    program = decode(f.__code__)
    loop = next(i for i in program.instrs if i.op == "FOR_ITER")
    after = program.instrs[loop.target]
    assert (after.op, after.arg) == ("LOAD_CONST", 7)


def test_call_keeps_keyword_names():
    def f(g):
        return g(1, key=2)
    ops = decode(f.__code__).instrs
    call = next(i for i in ops if i.op in ("CALL", "CALL_KW"))
    keys = call.arg[1] if call.op == "CALL" else ops[ops.index(call) - 1].arg
    assert keys == ("key",) and call.arg[0] == (1 if call.op == "CALL" and names(f)[-2] == "CALL"
                                                 and len(call.arg) == 3 and call.arg[0] == 1 else 2)


def test_every_group_starts_at_its_own_offset():
    def f(a, b):
        c, d = b, a
        return c.x(d)[1:2] < 3
    ops = decode(f.__code__).instrs
    offsets = [ops[i.group].offset for i in ops]
    assert offsets == sorted(offsets) and all(i.offset == ops[i.group].offset for i in ops)


def test_liveness_forgets_dead_temporaries():
    def f(a, b):
        t = a + b
        u = t * 2
        a.mark()
        return u
    program = decode(f.__code__)
    mark = next(k for k, i in enumerate(program.instrs) if i.arg == "mark")
    assert program.live(mark) == {"u"}


def test_liveness_keeps_what_a_handler_reads():
    def f(a, b):
        try:
            a()
        except ValueError:
            return b
        return 1
    program = decode(f.__code__)
    call = next(k for k, i in enumerate(program.instrs) if i.op == "CALL")
    assert "b" in program.live(call)


@pytest.mark.parametrize("module", [collections, dataclasses, inspect, json.decoder, statistics])
def test_functions_of_the_standard_library_decode(module):
    unknown = collections.Counter()

    def walk(code):
        if code.co_flags & inspect.CO_OPTIMIZED:
            program = decode(code)
            program.live(0)
            unknown.update(i.arg for i in program.instrs if i.op == "UNSUPPORTED")
        for const in code.co_consts:
            if isinstance(const, types.CodeType):
                walk(const)

    walk(compile(inspect.getsource(module), module.__file__, "exec"))
    assert set(unknown) <= {"LOAD_BUILD_CLASS", "CLEANUP_THROW", "CALL_INTRINSIC_1"}

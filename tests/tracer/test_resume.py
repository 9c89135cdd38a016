"""Native resumption at every instruction of a corpus of functions: the rest of the frame must give the same result.

States come from a real run: a trace function stops a frame of the original function at a line and captures its locals
and cells. Value stacks and open blocks are made by hand.
"""
import dis
import sys
from types import CellType

import pytest

from flambeau.frontend.trace.decode import VERSION, decode
from flambeau.frontend.trace.resume import NULL, Layout, Resume


class Stop(Exception):
    pass


def state_at(function, args, line, visit=1):
    """Locals and cells when `line` (relative to the def) is reached for the `visit`-th time; empty value stack."""
    code = function.__code__
    found = {}

    def tracer(frame, event, arg):
        if frame.f_code is not code:
            return None
        nonlocal visit
        if event == "line" and frame.f_lineno == code.co_firstlineno + line:
            visit -= 1
            if visit == 0:
                # Leaving by an exception runs `finally` blocks, which must not touch the captured state.
                found.update({k: list(v) if isinstance(v, list) else v for k, v in frame.f_locals.items()})
                found["<offset>"] = frame.f_lasti
                raise Stop
        return tracer

    sys.settrace(tracer)
    try:
        function(*args)
    except Stop:
        pass
    finally:
        sys.settrace(None)
    return found


def resume_at(function, args, line, stack=(), blocks=(), visit=1, offset=None):
    code = function.__code__
    found = state_at(function, args, line, visit)
    at = found.pop("<offset>") if offset is None else offset
    free = dict(zip(code.co_freevars, function.__closure__ or ()))
    cells = {**{n: CellType(found[n]) for n in code.co_cellvars if n in found}, **free}
    local = {n: v for n, v in found.items() if n in code.co_varnames and n not in code.co_cellvars}
    layout = Layout(tuple(local), tuple(cells), len(stack), tuple(k for k, v in enumerate(stack) if v is NULL), blocks)
    return Resume(code, at, layout)(function.__globals__, local, cells, stack)


def straight(a, b):
    c = a + b
    d = c * 2
    return c, d, a


def no_locals():
    return [len("abc"),
            sum([1, 2])]


def branch(a, flag):
    if flag:
        a = -a
    b = [a]
    while len(b) < 4:
        b.append(b[-1] + 1)
    return b


def make_closure(n):
    def inner(x):
        nonlocal n
        n += x
        y = n * 2
        return lambda z: x + y + z + n
    return inner


def captured_argument(x):
    def get():
        return x
    x += 1
    y = get()
    return y, x, get()


def only_cells():
    a = 1
    b = lambda: a + 1
    a = 10
    return b()


def handled(a):
    out = []
    try:
        out.append("body")
        out.append(1 // a)
    except ZeroDivisionError as e:
        out.append(str(e))
    finally:
        out.append("finally")
    return out


class Manager:
    def __init__(self, log):
        self.log = log

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.log.append(exc[0])
        return True


class Base:
    def twice(self, x):
        return 2 * x


class Derived(Base):
    def twice(self, x):
        x = x + 1
        keep = lambda: self
        return super().twice(x), keep() is self


@pytest.mark.parametrize("function, args, lines", [
    (straight, (1, 2), (1, 2, 3)), (branch, (3, True), (1, 2, 3, 4, 5, 6)), (branch, (3, False), (3, 6)),
    (captured_argument, (5,), (4, 5)), (only_cells, (), (4,)), (Derived.twice, (Derived(), 4), (2,)),
])
def test_resume_at_a_line_continues_the_frame(function, args, lines):
    for line in lines:
        assert str(resume_at(function, args, line)) == str(function(*args)), line


def test_free_variables_are_shared_with_the_original_closure():
    inner = make_closure(10)
    result = resume_at(inner, (1,), 3)          # `n += x` has run once, before the frame was left
    assert result(100) == 1 + 22 + 100 + 11
    assert inner.__closure__[0].cell_contents == 11


def test_a_loop_continues_with_its_iterator_on_the_stack():
    def loop(xs):
        total = 0
        for x in xs:
            total += x
        return total
    iterator = iter([1, 2, 3, 4])
    next(iterator), next(iterator)              # the state captured at the second visit has x == 2, total == 1
    assert resume_at(loop, ([1, 2, 3, 4],), 3, stack=(iterator,), visit=2) == 10


def test_a_null_below_a_callable_is_restored():
    def call(f, x):
        return f(x) + 1
    ops = decode(call.__code__).instrs
    at = next(i.offset for i in ops if i.op == "CALL")
    stack = {(3, 10): (abs, -3), (3, 13): (abs, NULL, -3)}.get(VERSION, (NULL, abs, -3))
    assert resume_at(call, (abs, -3), 1, stack=stack, offset=at) == 4


def test_a_null_below_a_method_is_restored():
    def call(xs, x):
        return xs.index(x) + 1
    ops = decode(call.__code__).instrs
    at = next(i.offset for i in ops if i.op == "CALL")
    bound = [5, 6].index
    stack = (bound, NULL, 6) if VERSION >= (3, 13) else (NULL, bound, 6)
    assert resume_at(call, ([5, 6], 6), 1, stack=stack, offset=at) == 2


def open_block(function, level=0):
    """The layout's blocks inside the only `try`/`with` of a function: needed on 3.10, in the table since."""
    if VERSION >= (3, 11):
        return ()
    return tuple((i.argval, level) for i in dis.get_instructions(function.__code__)
                 if i.opname in ("SETUP_WITH",) or i.opname == "SETUP_FINALLY")[:2]


@pytest.mark.parametrize("a", [0, 1])
def test_an_open_try_still_catches(a):
    assert resume_at(handled, (a,), 4, blocks=open_block(handled)) == handled(a)


def test_an_open_with_still_exits():
    def managed(m):
        with m:
            x = 1
            raise KeyError(x)
        return "after"
    log = []
    m = Manager(log)
    got = resume_at(managed, (Manager([]),), 3, stack=(m.__exit__,), blocks=open_block(managed, level=1))
    assert got == "after" and log == [KeyError]


def test_an_exception_after_resuming_names_the_users_line():
    def bad(a):
        b = a
        c = b / 0
        return c
    with pytest.raises(ZeroDivisionError) as error:
        resume_at(bad, (1,), 2)
    last = error.traceback[-1]
    assert last.name == "bad" and last.lineno + 1 == bad.__code__.co_firstlineno + 2


def test_long_functions_need_wide_jumps():
    body = "\n".join(f"    if a > {k}:\n        b = b + {k}" for k in range(200))
    space = {}
    exec(f"def long(a):\n    b = 0\n    for r in range(3):\n{body.replace('    ', '        ')}\n    return b", space)
    long = space["long"]
    offset = next(i.offset for i in decode(long.__code__).instrs if i.op == "FOR_ITER")
    layout = Layout(("a", "b"), (), 1)
    assert Resume(long.__code__, offset, layout)(space, {"a": 150, "b": 0}, {}, [iter(range(3))]) == long(150)

"""Graph breaks: the one breaking instruction performed with real values, and where execution goes next.

After the compiled prefix has run, an entry hands over the real locals, cells and value stack. `Step.take` performs the
instruction on them and names the next resume point. If the instruction raises, or is one that is not performed here, the
rest of the frame runs natively from it (`resume`), so handlers, `with` blocks and tracebacks are the interpreter's own.
"""
from __future__ import annotations

import builtins
import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any, Protocol

from flambeau.frontend.trace import inert
from flambeau.frontend.trace.again import call_original
from flambeau.frontend.trace.decode import Instr, Program
from flambeau.frontend.trace.frames import NULL, GraphBreakError, Layout, start_layout
from flambeau.frontend.trace.made import made_numbers
from flambeau.frontend.trace.resume import Resume


class Points(Protocol):
    """Where a step finds the continuation, and compiled callees."""

    def point(self, code: CodeType, globals: dict[str, Any], index: int, layout: Layout) -> Any: ...

    def call(self, fn: FunctionType, args: list[Any], kwargs: dict[str, Any]) -> Any: ...


@dataclass(eq=False, repr=False)
class Step:
    """One breaking native step of a frame. State order: locals, cells, stack (NULLs left out)."""

    points: Points
    program: Program
    globals: dict[str, Any]
    index: int
    layout: Layout
    native: bool                       # run the rest of the frame natively instead of performing the step
    compile_callee: bool               # the broken call is to a Python function whose own parts are worth compiling
    must_raise: str = ""               # the words for a program that is to be one graph and goes on after this step
    changing: set[str] = field(default_factory=set)    # locals and places on the stack that hold a number which changes
    _resume: Resume | None = None
    _next: dict[Any, Any] = field(default_factory=dict)
    _endings: dict[Any, Any] = field(default_factory=dict)

    def take(self, state: tuple[Any, ...]) -> tuple[bool, Any, Any]:
        """(True, result, None) when the frame has finished, else (False, next point, its values)."""
        n, m = len(self.layout.locals), len(self.layout.cells)
        local, cells, values = state[:n], state[n:n + m], iter(state[n + m:])
        stack = [NULL if k in self.layout.nulls else next(values) for k in range(self.layout.depth)]
        if self.native:
            return self._finished(self.finish(local, cells, stack))
        before = list(stack)
        blocks = list(self.layout.blocks)
        env = Environment(self, dict(zip(self.layout.locals, local)), dict(zip(self.layout.cells, cells)), blocks)
        raised: BaseException | None = None
        try:
            index = self._perform(stack, env)
        except BaseException as error:                            # raised again outside: it is nobody's `__context__`
            raised = error
        if raised is not None:
            state_before = _poisoned(self.program.instrs[self.index], before, raised)
            del raised                                            # its traceback leads here
            return self._finished(self.finish(local, cells, state_before))
        if self.must_raise:
            raise GraphBreakError(self.must_raise)
        index, failed = inert.run(self.program, index, stack, env, PERFORM)
        names = tuple(env.locals)
        nulls = tuple(k for k, v in enumerate(stack) if v is NULL)
        if failed is not None:
            return self._finished(self._failed(index, failed, env, names))
        ending = self._endings.get((index, names), self)
        if ending is self:
            ending = self._endings[index, names] = _ending(self.program, index, names)
        if ending is not None:
            return True, ending(stack, env.locals), None
        key = (index, len(stack), nulls, names)
        following = self._next.get(key)
        if following is None:
            live = self.program.live(index)
            kept = tuple(name for name in names if name in live)
            layout = Layout(kept, self.layout.cells, len(stack), nulls, tuple(blocks))
            point = self.points.point(self.program.code, self.globals, index, layout)
            known = dict(zip(self.layout.locals, local))
            point.made |= made_numbers(self, index, layout, (known, before), (env.locals, stack))
            following = self._next[key] = (point, kept)
        point, kept = following
        return False, point, tuple(env.locals[name] for name in kept) + cells + tuple(v for v in stack if v is not NULL)

    def _failed(self, index: int, failed: tuple[BaseException, list[Any]], env: Environment, names: tuple[str, ...]) -> Any:
        """Go on natively at an instruction after the breaking one that raised."""
        error, before = failed
        layout = Layout(names, self.layout.cells, len(before), tuple(k for k, v in enumerate(before) if v is NULL),
                        tuple(env.blocks))
        step = Step(self.points, self.program, self.globals, index, layout, True, False)
        return step.finish(tuple(env.locals.values()), tuple(env.cells.values()),
                           _poisoned(self.program.instrs[index], before, error))

    def _finished(self, result: Any) -> tuple[bool, Any, Any]:
        """The frame has returned: in a program that is to be one graph, what the trace took for its exception was none."""
        if self.must_raise:
            raise GraphBreakError(self.must_raise)
        return True, result, None

    def _perform(self, stack: list[Any], env: Environment) -> int:
        """Perform every canonical instruction of the step; returns the index of the next one."""
        instrs, index = self.program.instrs, self.index
        while True:
            ins = instrs[index]
            following = PERFORM[ins.op](stack, ins, env)
            index = index + 1 if following is None else following
            if following is not None or instrs[index].group != ins.group:
                return self._jumped(index, stack, env)

    def _jumped(self, index: int, stack: list[Any], env: Environment) -> int:
        """Past a jump that waits for the answer which the step has given."""
        ins = self.program.instrs[index]
        if ins.op != "POP_JUMP_IF" or not stack or type(stack[-1]) is not bool or \
                self.program.instrs[index + 1].group == ins.group:
            return index
        following = PERFORM["POP_JUMP_IF"](stack, ins, env)
        return index + 1 if following is None else following

    def finish(self, local: tuple[Any, ...], cells: tuple[Any, ...], stack: list[Any]) -> Any:
        """Run the rest of the frame natively from this step."""
        if self.index == 0 and not stack and self.layout == start_layout(self.program.code):
            return call_original(self.program.code, self.globals, local, cells)
        if self._resume is None:
            self._resume = Resume(self.program.code, self.program.instrs[self.index].offset,
                                  native_layout(self.layout, self.program))
        return self._resume(self.globals, dict(zip(self.layout.locals, local)), dict(zip(self.layout.cells, cells)),
                            stack)


def native_layout(layout: Layout, program: Program) -> Layout:
    """`layout` with handler offsets where it has indices."""
    blocks = tuple((program.instrs[target].offset, level) for target, level in layout.blocks)
    return Layout(layout.locals, layout.cells, layout.depth, layout.nulls, blocks)


@dataclass(eq=False, repr=False)
class Environment:
    """What a performed instruction may need besides the stack."""

    step: Step
    locals: dict[str, Any]
    cells: Mapping[str, CellType]
    blocks: list[tuple[int, int]]


_MOVES = {"POP_TOP", "NOP", "LOAD_CONST", "LOAD_FAST", "RETURN_VALUE"}


def _ending(program: Program, index: int, names: tuple[str, ...]) -> Callable[[list[Any], Mapping[str, Any]], Any] | None:
    """What is left of a frame that does no more than return something it has; None if there is more to do."""
    rest = []
    for ins in program.instrs[index:index + 6]:
        if ins.op not in _MOVES or (ins.op == "LOAD_FAST" and ins.arg not in names):
            return None
        rest.append(ins)
        if ins.op == "RETURN_VALUE":
            break
    else:
        return None

    def run(stack: list[Any], local: Mapping[str, Any]) -> Any:
        for ins in rest[:-1]:
            if ins.op == "POP_TOP":
                stack.pop()
            elif ins.op != "NOP":
                stack.append(ins.arg if ins.op == "LOAD_CONST" else local[ins.arg])
        return stack[-1]
    return run


def can_perform(program: Program, index: int) -> bool:
    """Whether every instruction of the native step at `index` is one that `Step` performs."""
    group = program.instrs[index].group
    while index < len(program.instrs) and program.instrs[index].group == group:
        if program.instrs[index].op not in PERFORM:
            return False
        index += 1
    return True


# --------------------------------------------------------------------------- raising at the user's line

class _Raiser:
    """Raises a given exception whatever is done to it, and keeps it no longer: its traceback leads to frames that hold this."""

    def __init__(self, error: BaseException) -> None:
        object.__setattr__(self, "error", error)


def _raise(self: _Raiser, *args: Any, **kwargs: Any) -> Any:
    error = object.__getattribute__(self, "error")
    object.__setattr__(self, "error", None)
    try:
        raise error
    finally:
        del error


for _name in """__call__ __getattr__ __setattr__ __delattr__ __getitem__ __setitem__ __delitem__ __iter__ __next__
        __bool__ __contains__ __enter__ __exit__ __format__ __str__ __repr__ __len__ __eq__ __ne__ __lt__ __le__ __gt__
        __ge__ __neg__ __pos__ __invert__ __index__ keys""".split():
    setattr(_Raiser, _name, _raise)
for _name in "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift".split():
    for _prefix in ("__", "__i", "__r"):
        setattr(_Raiser, f"{_prefix}{_name}__", _raise)

# Position (from the top) of the operand whose protocol the instruction runs first.
_OPERAND = {"BINARY": 2, "COMPARE": 2, "SUBSCR": 2, "STORE_SUBSCR": 2, "DELETE_SUBSCR": 2, "LOAD_ATTR": 1,
            "STORE_ATTR": 1, "DELETE_ATTR": 1, "UNARY": 1, "TO_BOOL": 1, "POP_JUMP_IF": 1, "JUMP_OR_POP_IF": 1,
            "GET_ITER": 1, "FOR_ITER": 1, "UNPACK_SEQUENCE": 1, "UNPACK_EX": 1, "CONTAINS_OP": 1, "BEFORE_WITH": 1,
            "LIST_EXTEND": 1, "CONVERT": 1}


def _poisoned(ins: Instr, stack: list[Any], error: BaseException) -> list[Any]:
    """The stack before the step with the operand that raises `error` at once, so that nothing happens twice."""
    stack, raiser = list(stack), _Raiser(error)
    if ins.op in ("CALL", "CALL_KW", "CALL_EX"):
        stack[_callee_position(ins, stack)] = raiser
    elif ins.op == "FORMAT":
        stack[-2 if ins.arg[1] else -1] = raiser
    elif ins.op in _OPERAND:
        stack[-_OPERAND[ins.op]] = raiser
    return stack


def _callee_position(ins: Instr, stack: list[Any]) -> int:
    """Index of the callable of a call instruction."""
    if ins.op == "CALL_EX":
        has_kwargs, plain = ins.arg
        above = 2 if has_kwargs else 1
    else:
        above = ins.arg[0] + (ins.op == "CALL_KW")
        plain = ins.arg[-1]
    top = len(stack) - above - 1
    if plain:
        return top
    return top if stack[top - 1] is NULL else top - 1


# --------------------------------------------------------------------------- instructions on real values

PERFORM: dict[str, Callable[[list[Any], Instr, Environment], int | None]] = {}


def on(*names: str) -> Callable[[Any], Any]:
    def mark(handler: Any) -> Any:
        for name in names:
            PERFORM[name] = handler
        return handler
    return mark


def _popn(stack: list[Any], n: int) -> list[Any]:
    taken = stack[len(stack) - n:]
    del stack[len(stack) - n:]
    return taken


_BINARY = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
           "%": operator.mod, "**": operator.pow, "@": operator.matmul, "&": operator.and_, "|": operator.or_,
           "^": operator.xor, "<<": operator.lshift, ">>": operator.rshift, "+=": operator.iadd, "-=": operator.isub,
           "*=": operator.imul, "/=": operator.itruediv, "//=": operator.ifloordiv, "%=": operator.imod,
           "**=": operator.ipow, "@=": operator.imatmul, "&=": operator.iand, "|=": operator.ior, "^=": operator.ixor,
           "<<=": operator.ilshift, ">>=": operator.irshift}
_COMPARE = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
            ">=": operator.ge}
_UNARY: dict[str, Callable[[Any], Any]] = {"-": operator.neg, "+": operator.pos, "~": operator.invert, "not": operator.not_}


@on("BINARY")
def _binary(stack: list[Any], ins: Instr, env: Environment) -> None:
    a, b = _popn(stack, 2)
    stack.append(_BINARY[ins.arg](a, b))


@on("COMPARE")
def _compare(stack: list[Any], ins: Instr, env: Environment) -> None:
    a, b = _popn(stack, 2)
    stack.append(_COMPARE[ins.arg](a, b))


@on("UNARY")
def _unary(stack: list[Any], ins: Instr, env: Environment) -> None:
    stack.append(_UNARY[ins.arg](stack.pop()))


@on("CONTAINS_OP")
def _contains(stack: list[Any], ins: Instr, env: Environment) -> None:
    a, b = _popn(stack, 2)
    stack.append((a not in b) if ins.arg else (a in b))


@on("IS_OP")
def _is(stack: list[Any], ins: Instr, env: Environment) -> None:
    a, b = _popn(stack, 2)
    stack.append((a is not b) if ins.arg else (a is b))


@on("TO_BOOL")
def _to_bool(stack: list[Any], ins: Instr, env: Environment) -> None:
    stack.append(bool(stack.pop()))


@on("SUBSCR")
def _subscr(stack: list[Any], ins: Instr, env: Environment) -> None:
    a, b = _popn(stack, 2)
    stack.append(a[b])


@on("STORE_SUBSCR")
def _store_subscr(stack: list[Any], ins: Instr, env: Environment) -> None:
    value, owner, key = _popn(stack, 3)
    owner[key] = value


@on("DELETE_SUBSCR")
def _delete_subscr(stack: list[Any], ins: Instr, env: Environment) -> None:
    owner, key = _popn(stack, 2)
    del owner[key]


@on("LOAD_ATTR")
def _load_attr(stack: list[Any], ins: Instr, env: Environment) -> None:
    stack.append(getattr(stack.pop(), ins.arg))


@on("STORE_ATTR")
def _store_attr(stack: list[Any], ins: Instr, env: Environment) -> None:
    value, owner = _popn(stack, 2)
    setattr(owner, ins.arg, value)


@on("DELETE_ATTR")
def _delete_attr(stack: list[Any], ins: Instr, env: Environment) -> None:
    delattr(stack.pop(), ins.arg)


@on("LOAD_SUPER_ATTR")
def _load_super_attr(stack: list[Any], ins: Instr, env: Environment) -> None:
    _, cls, owner = _popn(stack, 3)
    stack.append(getattr(super(cls, owner), ins.arg))


@on("LOAD_GLOBAL")
def _load_global(stack: list[Any], ins: Instr, env: Environment) -> None:
    space = env.step.globals
    if ins.arg in space:
        stack.append(space[ins.arg])
    else:
        scope = space.get("__builtins__", builtins)
        stack.append(scope[ins.arg] if isinstance(scope, dict) else getattr(scope, ins.arg))


@on("LOAD_CONST")
def _load_const(stack: list[Any], ins: Instr, env: Environment) -> None:
    stack.append(ins.arg)


@on("PUSH_NULL")
def _push_null(stack: list[Any], ins: Instr, env: Environment) -> None:
    stack.append(NULL)


@on("POP_TOP")
def _pop_top(stack: list[Any], ins: Instr, env: Environment) -> None:
    stack.pop()


@on("SWAP")
def _swap(stack: list[Any], ins: Instr, env: Environment) -> None:
    stack[-1], stack[-ins.arg] = stack[-ins.arg], stack[-1]


@on("COPY")
def _copy(stack: list[Any], ins: Instr, env: Environment) -> None:
    stack.append(stack[-ins.arg])


@on("NOP")
def _nop(stack: list[Any], ins: Instr, env: Environment) -> None:
    pass


@on("JUMP")
def _jump(stack: list[Any], ins: Instr, env: Environment) -> int | None:
    return ins.target


@on("POP_JUMP_IF")
def _pop_jump_if(stack: list[Any], ins: Instr, env: Environment) -> int | None:
    value = stack.pop()
    if ins.arg in ("NONE", "NOT_NONE"):
        return ins.target if (value is None) == (ins.arg == "NONE") else None
    return ins.target if bool(value) == (ins.arg == "TRUE") else None


@on("JUMP_OR_POP_IF")
def _jump_or_pop_if(stack: list[Any], ins: Instr, env: Environment) -> int | None:
    if bool(stack[-1]) == (ins.arg == "TRUE"):
        return ins.target
    stack.pop()
    return None


@on("GET_ITER")
def _get_iter(stack: list[Any], ins: Instr, env: Environment) -> None:
    stack.append(iter(stack.pop()))


@on("FOR_ITER")
def _for_iter(stack: list[Any], ins: Instr, env: Environment) -> int | None:
    for item in stack[-1]:
        stack.append(item)
        return None
    stack.pop()
    return ins.target


@on("UNPACK_SEQUENCE")
def _unpack_sequence(stack: list[Any], ins: Instr, env: Environment) -> None:
    items = _unpacker(ins.arg)(stack[-1])
    stack.pop()
    stack.extend(reversed(items))


@functools.cache
def _unpacker(count: int) -> Callable[[Any], tuple[Any, ...]]:
    """What an assignment to so many targets takes, as Python does it."""
    names = "".join(f"v{k}, " for k in range(count))
    space: dict[str, Any] = {}
    exec(f"def unpack(items):\n    [{names}] = items\n    return ({names})", space)
    return space["unpack"]  # type: ignore[no-any-return]


@on("BUILD_SLICE")
def _build_slice(stack: list[Any], ins: Instr, env: Environment) -> None:
    stack.append(slice(*_popn(stack, ins.arg)))


@on("BUILD_TUPLE")
def _build_tuple(stack: list[Any], ins: Instr, env: Environment) -> None:
    stack.append(tuple(_popn(stack, ins.arg)))


@on("BUILD_SET")
def _build_set(stack: list[Any], ins: Instr, env: Environment) -> None:
    stack.append(set(_popn(stack, ins.arg)))


@on("BUILD_STRING")
def _build_string(stack: list[Any], ins: Instr, env: Environment) -> None:
    stack.append("".join(_popn(stack, ins.arg)))


_CONVERT: dict[str, Callable[[Any], str]] = {"str": str, "repr": repr, "ascii": ascii}


@on("FORMAT")
def _format(stack: list[Any], ins: Instr, env: Environment) -> None:
    conversion, has_spec = ins.arg
    spec = stack.pop() if has_spec else ""
    value = stack.pop()
    stack.append(format(value if conversion is None else _CONVERT[conversion](value), spec))


@on("CONVERT")
def _convert(stack: list[Any], ins: Instr, env: Environment) -> None:
    stack.append(_CONVERT[ins.arg](stack.pop()))


@on("LIST_EXTEND")
def _list_extend(stack: list[Any], ins: Instr, env: Environment) -> None:
    items = stack.pop()
    stack[-ins.arg].extend([*items])


@on("DICT_UPDATE")
def _dict_update(stack: list[Any], ins: Instr, env: Environment) -> None:
    other = stack.pop()
    stack[-ins.arg].update({**other})


@on("LIST_TO_TUPLE")
def _list_to_tuple(stack: list[Any], ins: Instr, env: Environment) -> None:
    stack.append(tuple(stack.pop()))


def _invoke(env: Environment, fn: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Call; a Python function that broke inside is compiled by parts of its own."""
    return invoke(env.step.points, fn, args, kwargs) if env.step.compile_callee else fn(*args, **kwargs)


def invoke(points: Points, fn: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Call through the compiled parts of `fn`, or of its type's `__call__`, where it is written in Python."""
    if isinstance(fn, MethodType):
        if isinstance(fn.__func__, FunctionType):
            return _enter(points, fn.__func__, [fn.__self__, *args], kwargs)
    elif isinstance(fn, FunctionType):
        return _enter(points, fn, args, kwargs)
    elif not isinstance(fn, type) and callable(fn):
        call: Any = type(fn).__call__
        if isinstance(call, FunctionType):
            return _enter(points, call, [fn, *args], kwargs)
    return fn(*args, **kwargs)


def _enter(points: Points, fn: FunctionType, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Call a Python function by its parts; one that only leads to others is passed through."""
    through = getattr(fn, "__flambeau_through__", None)
    return points.call(fn, args, kwargs) if through is None else pass_through(points, through, args, kwargs)


def pass_through(points: Points, through: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Run what a function like `Module.__call__` does around the program's functions, and those by their parts."""
    return through(lambda f, a, k: invoke(points, f, list(a), dict(k)), args[0], tuple(args[1:]), kwargs)


def _take_callee(stack: list[Any], plain: bool) -> tuple[Any, list[Any]]:
    if plain:
        return stack.pop(), []
    first, second = _popn(stack, 2)
    if first is NULL:
        return second, []
    return first, [] if second is NULL else [second]


@on("CALL")
def _call(stack: list[Any], ins: Instr, env: Environment) -> None:
    count, names, plain = ins.arg
    args = _popn(stack, count)
    fn, first = _take_callee(stack, plain)
    split = count - len(names)
    if fn is globals:
        stack.append(env.step.globals)
    else:
        stack.append(_invoke(env, fn, first + args[:split], dict(zip(names, args[split:]))))


@on("CALL_KW")
def _call_kw(stack: list[Any], ins: Instr, env: Environment) -> None:
    count, plain = ins.arg
    names = stack.pop()
    args = _popn(stack, count)
    fn, first = _take_callee(stack, plain)
    split = count - len(names)
    stack.append(_invoke(env, fn, first + args[:split], dict(zip(names, args[split:]))))


@on("CALL_EX")
def _call_ex(stack: list[Any], ins: Instr, env: Environment) -> None:
    has_kwargs, plain = ins.arg
    kwargs = stack.pop() if has_kwargs else {}
    args = stack.pop()
    if plain:
        fn = stack.pop()
    else:
        first, second = _popn(stack, 2)
        fn = second if first is NULL else first
    if not hasattr(type(kwargs), "keys") or not (hasattr(type(args), "__iter__") or hasattr(type(args), "__getitem__")):
        fn(*args, **kwargs)                                       # refuses
    stack.append(_invoke(env, fn, list(args), dict(kwargs)))


@on("BEFORE_WITH")
def _before_with(stack: list[Any], ins: Instr, env: Environment) -> None:
    manager = stack.pop()
    cls = type(manager)
    enter, leave = cls.__enter__, cls.__exit__                    # missing ones raise before anything ran
    stack.append(leave.__get__(manager, cls))
    stack.append(enter.__get__(manager, cls)())


@on("SETUP_FINALLY")
def _setup_finally(stack: list[Any], ins: Instr, env: Environment) -> None:
    assert ins.target is not None
    env.blocks.append((ins.target, len(stack) - ins.arg))


@on("POP_BLOCK")
def _pop_block(stack: list[Any], ins: Instr, env: Environment) -> None:
    env.blocks.pop()

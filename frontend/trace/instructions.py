"""What each canonical instruction does to a symbolic frame. A handler returns None, or ("return" | "yield", value)."""
from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.arithmetic import unary as apply_unary
from flambeau.frontend.trace.asserted import is_kept_for_assertion, taken_by_assertion
from flambeau.frontend.trace.builtins import format_text
from flambeau.frontend.trace.callables import CellValue, FunctionValue, GeneratorValue
from flambeau.frontend.trace.computed import joined
from flambeau.frontend.trace.decode import UNBOUND, Instr
from flambeau.frontend.trace.frame import Frame
from flambeau.frontend.trace.guards import is_object
from flambeau.frontend.trace.identity import identical
from flambeau.frontend.trace.mappings import DictValue, SetValue, dict_pairs
from flambeau.frontend.trace.objects import ClassValue, ObjectValue, SuperValue
from flambeau.frontend.trace.said import function_name, is_iterable, is_mapping, type_name
from flambeau.frontend.trace.sequences import ListValue, SliceValue, TupleValue
from flambeau.frontend.trace.source import ClassItem, Constant, Global
from flambeau.frontend.trace.trust import can_change, depend_on_subclass, find
from flambeau.frontend.trace.values import (
    NO_TEXT,
    NONE,
    NULL_VALUE,
    Const,
    Observed,
    ScalarValue,
    SymValue,
    Unsupported,
    Value,
)

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer

Handler = Callable[["Tracer", Frame, Instr], Any]
HANDLERS: dict[str, Handler] = {}


def on(*names: str) -> Callable[[Handler], Handler]:
    def mark(handler: Handler) -> Handler:
        for name in names:
            HANDLERS[name] = handler
        return handler
    return mark


@on("NOP")
def nop(tr: Tracer, f: Frame, ins: Instr) -> None:
    pass


# --------------------------------------------------------------------------- loads and stores

@on("LOAD_CONST")
def load_const(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.push(Const(ins.arg) if not isinstance(ins.arg, tuple | frozenset) else tr.constant(ins.arg))


@on("LOAD_FAST")
def load_fast(tr: Tracer, f: Frame, ins: Instr) -> None:
    value = f.locals.get(ins.arg)
    if value is None:
        raise tr.observe(UnboundLocalError(UNBOUND.format(ins.arg)))
    f.push(value)


@on("LOAD_FAST_AND_CLEAR")
def load_fast_and_clear(tr: Tracer, f: Frame, ins: Instr) -> None:
    """Saves a name that an inlined comprehension is about to use: its value, or the cell that holds it."""
    if ins.arg in f.code.co_cellvars and ins.arg in f.cells:
        f.push(f.cells.pop(ins.arg))
    else:
        f.push(f.locals.pop(ins.arg, NULL_VALUE))


@on("STORE_FAST")
def store_fast(tr: Tracer, f: Frame, ins: Instr) -> None:
    value = f.pop()
    if value is NULL_VALUE:
        f.locals.pop(ins.arg, None)
    elif isinstance(value, CellValue) and ins.arg in f.code.co_cellvars:
        f.cells[ins.arg] = value
        f.locals.pop(ins.arg, None)
    else:
        f.locals[ins.arg] = value


@on("DELETE_FAST")
def delete_fast(tr: Tracer, f: Frame, ins: Instr) -> None:
    if f.locals.pop(ins.arg, None) is None:
        raise tr.observe(UnboundLocalError(UNBOUND.format(ins.arg)))


@on("LOAD_DEREF")
def load_deref(tr: Tracer, f: Frame, ins: Instr) -> None:
    value = f.cells[ins.arg].get(tr)
    if value is None:
        raise tr.observe(NameError(f"cannot access free variable '{ins.arg}' where it is not associated with a value"))
    f.push(value)


@on("STORE_DEREF")
def store_deref(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.cells[ins.arg].set(tr, f.pop())


@on("DELETE_DEREF")
def delete_deref(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.cells[ins.arg].set(tr, None)


@on("LOAD_CLOSURE")
def load_closure(tr: Tracer, f: Frame, ins: Instr) -> None:
    if ins.arg in f.cells:
        f.push(f.cells[ins.arg])
    else:                                            # an inlined comprehension uses the name as a plain variable
        load_fast(tr, f, ins)


@on("MAKE_CELL")
def make_cell(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.cells[ins.arg] = CellValue(f.locals.pop(ins.arg, None))


@on("LOAD_GLOBAL")
def load_global(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.push(tr.globals_of(f.globals).load(tr, ins.arg))


@on("STORE_GLOBAL")
def store_global(tr: Tracer, f: Frame, ins: Instr) -> None:
    tr.globals_of(f.globals).store(tr, ins.arg, f.pop())


@on("DELETE_GLOBAL")
def delete_global(tr: Tracer, f: Frame, ins: Instr) -> None:
    tr.globals_of(f.globals).store(tr, ins.arg, None)


@on("LOAD_ATTR")
def load_attr(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.push(f.pop().getattr(tr, ins.arg))


@on("STORE_ATTR")
def store_attr(tr: Tracer, f: Frame, ins: Instr) -> None:
    owner, value = f.pop(), f.pop()
    owner.setattr(tr, ins.arg, value)


@on("DELETE_ATTR")
def delete_attr(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.pop().delattr(tr, ins.arg)


@on("LOAD_SUPER_ATTR")
def load_super_attr(tr: Tracer, f: Frame, ins: Instr) -> None:
    owner, cls, _ = f.pop(), f.pop(), f.pop()
    if not isinstance(cls, ClassValue):
        raise Unsupported("class", "super() with a class made in the traced code")
    f.push(SuperValue(cls.raw, owner).getattr(tr, ins.arg))


@on("SUBSCR")
def subscript(tr: Tracer, f: Frame, ins: Instr) -> None:
    owner, key = f.popn(2)
    f.push(owner.getitem(tr, key))


@on("STORE_SUBSCR")
def store_subscript(tr: Tracer, f: Frame, ins: Instr) -> None:
    value, owner, key = f.popn(3)
    owner.setitem(tr, key, value)


@on("DELETE_SUBSCR")
def delete_subscript(tr: Tracer, f: Frame, ins: Instr) -> None:
    owner, key = f.popn(2)
    owner.delitem(tr, key)


# --------------------------------------------------------------------------- the stack

@on("POP_TOP", "END_SEND")
def pop_top(tr: Tracer, f: Frame, ins: Instr) -> None:
    value = f.pop()
    if ins.op == "END_SEND":
        f.pop()
        f.push(value)


@on("COPY")
def copy(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.push(f.stack[-ins.arg])


@on("SWAP")
def swap(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.stack[-1], f.stack[-ins.arg] = f.stack[-ins.arg], f.stack[-1]


@on("ROT")
def rotate(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.stack.insert(len(f.stack) - ins.arg, f.pop())


@on("PUSH_NULL")
def push_null(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.push(NULL_VALUE)


# --------------------------------------------------------------------------- operators

@on("BINARY")
def binary(tr: Tracer, f: Frame, ins: Instr) -> None:
    a, b = f.popn(2)
    f.push(tr.binary(ins.arg, a, b))


@on("UNARY")
def unary(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.push(apply_unary(tr, ins.arg, f.pop()))


@on("COMPARE")
def compare(tr: Tracer, f: Frame, ins: Instr) -> None:
    a, b = f.popn(2)
    f.push(tr.compare(ins.arg, a, b))


@on("IS_OP")
def is_op(tr: Tracer, f: Frame, ins: Instr) -> None:
    a, b = f.popn(2)
    if a is not b and all(v.pytype() in (int, float) for v in (a, b)):       # numbers that change: which object is asked
        a, b = (Const(v.as_python(tr)) if isinstance(v, ScalarValue) else Const(tr.index(v)) if isinstance(v, SymValue) else v
                for v in (a, b))
    f.push(Const(identical(tr, a, b) != bool(ins.arg)))


@on("CONTAINS_OP")
def contains_op(tr: Tracer, f: Frame, ins: Instr) -> None:
    item, owner = f.popn(2)
    f.push(Const(owner.contains(tr, item) != bool(ins.arg)))


@on("TO_BOOL")
def to_bool(tr: Tracer, f: Frame, ins: Instr) -> None:
    value = f.pop()
    f.push(value if is_kept_for_assertion(tr, f, value) else Const(tr.truth(value)))


# --------------------------------------------------------------------------- jumps and loops

@on("JUMP")
def jump(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.ip = ins.target                                             # type: ignore[assignment]


@on("POP_JUMP_IF")
def pop_jump_if(tr: Tracer, f: Frame, ins: Instr) -> None:
    value = f.pop()
    if ins.arg in ("NONE", "NOT_NONE"):
        taken = (isinstance(value, Const) and value.value is None) == (ins.arg == "NONE")
    else:
        assumed = taken_by_assertion(tr, f, ins, value)
        taken = tr.truth(value) == (ins.arg == "TRUE") if assumed is None else assumed
    if taken:
        f.ip = ins.target                                         # type: ignore[assignment]


@on("JUMP_OR_POP_IF")
def jump_or_pop_if(tr: Tracer, f: Frame, ins: Instr) -> None:
    if tr.truth(f.stack[-1]) == (ins.arg == "TRUE"):
        f.ip = ins.target                                         # type: ignore[assignment]
    else:
        f.pop()


@on("GET_ITER")
def get_iter(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.push(f.pop().iterate(tr))


@on("FOR_ITER")
def for_iter(tr: Tracer, f: Frame, ins: Instr) -> None:
    item = f.stack[-1].next(tr)
    if item is None:
        f.pop()
        f.ip = ins.target                                         # type: ignore[assignment]
    else:
        f.push(item)


@on("UNPACK_SEQUENCE")
def unpack_sequence(tr: Tracer, f: Frame, ins: Instr) -> None:
    items = _unpacked(tr, f.pop(), ins.arg + 1)
    if len(items) != ins.arg:
        few = len(items) < ins.arg
        raise tr.observe(ValueError(f"not enough values to unpack (expected {ins.arg}, got {len(items)})" if few
                                    else f"too many values to unpack (expected {ins.arg})"))
    f.stack.extend(reversed(items))


def _unpacked(tr: Tracer, value: Value, most: int | None = None) -> list[Value]:
    """The items of what is unpacked; of an iterator no more than it takes to know that they are too many."""
    if isinstance(value, (TupleValue, ListValue)):
        return value.values(tr)
    if not is_iterable(value):
        raise tr.observe(TypeError(f"cannot unpack non-iterable {type_name(value)} object"))
    iterator = value.iterate(tr)
    items: list[Value] = []
    while (most is None or len(items) < most) and (item := iterator.next(tr)) is not None:
        items.append(item)
    return items


@on("UNPACK_EX")
def unpack_ex(tr: Tracer, f: Frame, ins: Instr) -> None:
    before, after = ins.arg & 0xFF, ins.arg >> 8
    items = _unpacked(tr, f.pop())
    if len(items) < before + after:
        raise tr.observe(ValueError(f"not enough values to unpack (expected at least {before + after}, got {len(items)})"))
    stop = len(items) - after
    f.stack.extend(reversed([*items[:before], ListValue(items[before:stop]), *items[stop:]]))


# --------------------------------------------------------------------------- building

@on("BUILD_TUPLE")
def build_tuple(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.push(TupleValue(f.popn(ins.arg)))


@on("BUILD_LIST")
def build_list(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.push(ListValue(f.popn(ins.arg)))


@on("BUILD_SET")
def build_set(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.push(SetValue.make(tr, f.popn(ins.arg)))


@on("BUILD_MAP")
def build_map(tr: Tracer, f: Frame, ins: Instr) -> None:
    items = f.popn(2 * ins.arg)
    f.push(DictValue.make(tr, zip(items[::2], items[1::2])))


@on("BUILD_CONST_KEY_MAP")
def build_const_key_map(tr: Tracer, f: Frame, ins: Instr) -> None:
    keys = tr.unpack(f.pop())
    f.push(DictValue.make(tr, zip(keys, f.popn(ins.arg))))


@on("BUILD_SLICE")
def build_slice(tr: Tracer, f: Frame, ins: Instr) -> None:
    parts = f.popn(ins.arg)
    f.push(SliceValue(parts + [NONE] * (3 - len(parts))))


@on("BUILD_STRING")
def build_string(tr: Tracer, f: Frame, ins: Instr) -> None:
    parts = f.popn(ins.arg)
    f.push(joined(tr, parts) or tr.fold(lambda *texts: "".join(texts), parts, {}))


@on("FORMAT")
def format_value(tr: Tracer, f: Frame, ins: Instr) -> None:
    conversion, has_spec = ins.arg
    spec = f.pop() if has_spec else NO_TEXT
    f.push(format_text(tr, f.pop(), conversion, spec))


@on("CONVERT")
def convert(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.push(format_text(tr, f.pop(), ins.arg, NO_TEXT))


@on("LIST_APPEND")
def list_append(tr: Tracer, f: Frame, ins: Instr) -> None:
    item = f.pop()
    f.stack[-ins.arg].m_append(tr, item)                          # type: ignore[attr-defined]


@on("SET_ADD")
def set_add(tr: Tracer, f: Frame, ins: Instr) -> None:
    item = f.pop()
    f.stack[-ins.arg].m_add(tr, item)                             # type: ignore[attr-defined]


@on("MAP_ADD")
def map_add(tr: Tracer, f: Frame, ins: Instr) -> None:
    key, value = f.popn(2)
    f.stack[-ins.arg].setitem(tr, key, value)


@on("LIST_EXTEND")
def list_extend(tr: Tracer, f: Frame, ins: Instr) -> None:
    items = f.pop()
    if not is_iterable(items):
        raise tr.observe(TypeError(f"Value after * must be an iterable, not {type_name(items)}"))
    f.stack[-ins.arg].m_extend(tr, items)                         # type: ignore[attr-defined]


@on("SET_UPDATE")
def set_update(tr: Tracer, f: Frame, ins: Instr) -> None:
    items = f.pop()
    f.stack[-ins.arg].m_update(tr, items)                         # type: ignore[attr-defined]


@on("DICT_UPDATE")
def dict_update(tr: Tracer, f: Frame, ins: Instr) -> None:
    other = f.pop()
    if not is_mapping(other):
        raise tr.observe(TypeError(f"'{type_name(other)}' object is not a mapping"))
    target = f.stack[-ins.arg]
    for key, value in dict_pairs(tr, other):
        target.setitem(tr, key, value)


@on("DICT_MERGE")
def dict_merge(tr: Tracer, f: Frame, ins: Instr) -> None:
    other = f.pop()
    target, called = f.stack[-ins.arg], f.stack[-ins.arg - 2]
    if called is NULL_VALUE:
        called = f.stack[-ins.arg - 3]
    if not is_mapping(other):
        raise tr.observe(TypeError(f"{function_name(called)} argument after ** must be a mapping, not {type_name(other)}"))
    for key, value in dict_pairs(tr, other):
        if target.contains(tr, key):
            name = key.value if isinstance(key, Const) else ""
            raise tr.observe(TypeError(f"{function_name(called)} got multiple values for keyword argument '{name}'"))
        target.setitem(tr, key, value)


@on("LIST_TO_TUPLE")
def list_to_tuple(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.push(TupleValue(tr.unpack(f.pop())))


# --------------------------------------------------------------------------- calls and functions

def _callee(f: Frame, plain: bool) -> tuple[Value, list[Value]]:
    """The callable below the arguments; a NULL stands before (3.11, 3.12) or after (3.13) one that is no method."""
    if plain:
        return f.pop(), []
    first, second = f.popn(2)
    if first is NULL_VALUE:
        return second, []
    return first, [] if second is NULL_VALUE else [second]


@on("CALL")
def call(tr: Tracer, f: Frame, ins: Instr) -> None:
    count, names, plain = ins.arg
    args = f.popn(count)
    fn, first = _callee(f, plain)
    kwargs = dict(zip(names, args[count - len(names):]))
    f.push(tr.call(fn, first + args[:count - len(names)], kwargs))


@on("CALL_KW")
def call_kw(tr: Tracer, f: Frame, ins: Instr) -> None:
    count, plain = ins.arg
    names = [str(n.as_python(tr)) for n in tr.unpack(f.pop())]
    args = f.popn(count)
    fn, first = _callee(f, plain)
    f.push(tr.call(fn, first + args[:count - len(names)], dict(zip(names, args[count - len(names):]))))


@on("CALL_EX")
def call_ex(tr: Tracer, f: Frame, ins: Instr) -> None:
    has_kwargs, plain = ins.arg
    named = f.pop() if has_kwargs else None
    given = f.pop()
    if plain:
        fn = f.pop()
    else:
        first, second = f.popn(2)
        fn = second if first is NULL_VALUE else first
    if not is_iterable(given):
        raise tr.observe(TypeError(f"{function_name(fn)} argument after * must be an iterable, not {type_name(given)}"))
    if named is not None and not is_mapping(named):
        raise tr.observe(TypeError(f"{function_name(fn)} argument after ** must be a mapping, not {type_name(named)}"))
    keywords = dict_pairs(tr, named) if named is not None else []
    args = tr.unpack(given)
    f.push(tr.call(fn, args, {tr.index_key(k): v for k, v in keywords}))


@on("MAKE_FUNCTION")
def make_function(tr: Tracer, f: Frame, ins: Instr) -> None:
    code = f.pop().as_python(tr)
    fn = FunctionValue(code, f.globals, [])
    for part in ins.arg:
        _set_part(tr, fn, part, f.pop())
    f.push(fn)


@on("SET_FUNCTION_ATTRIBUTE")
def set_function_attribute(tr: Tracer, f: Frame, ins: Instr) -> None:
    fn = f.pop()
    _set_part(tr, fn, ins.arg, f.pop())
    f.push(fn)


def _set_part(tr: Tracer, fn: Any, part: str, value: Value) -> None:
    if part == "qualname":
        fn.attrs["__qualname__"] = value
        return
    setattr(fn, part, tr.unpack(value) if part == "closure" else value)


@on("RETURN_VALUE")
def return_value(tr: Tracer, f: Frame, ins: Instr) -> tuple[str, Value]:
    return "return", f.pop()


@on("IMPORT_NAME")
def import_name(tr: Tracer, f: Frame, ins: Instr) -> None:
    """A module that is already imported is a constant; importing is a side effect."""
    level, names = f.popn(2)
    module = sys.modules.get(ins.arg)
    if level.as_python(tr) or module is None or _imports_more(module, names.as_python(tr) or ()):
        raise Unsupported("import", f"{ins.arg} is imported in the compiled function",
                          "import it at the top of the file")
    name = ins.arg if not (isinstance(names, Const) and names.value is None) else ins.arg.split(".")[0]
    f.push(tr.wrap(sys.modules[name], Global(Constant(sys.modules, "sys.modules"), name)))


def _imports_more(module: ModuleType, names: tuple[str, ...]) -> bool:
    """Whether `from package import names` imports a file of the package."""
    known = vars(module)
    return "__path__" in known and "__getattr__" not in known and not all(name in known for name in names)


@on("IMPORT_FROM")
def import_from(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.push(f.stack[-1].getattr(tr, ins.arg))


# --------------------------------------------------------------------------- generators

@on("YIELD_VALUE")
def yield_value(tr: Tracer, f: Frame, ins: Instr) -> tuple[str, Value]:
    return "yield", f.pop()


@on("GET_YIELD_FROM_ITER")
def get_yield_from_iter(tr: Tracer, f: Frame, ins: Instr) -> None:
    if not isinstance(f.stack[-1], GeneratorValue):
        get_iter(tr, f, ins)


@on("SEND")
def send(tr: Tracer, f: Frame, ins: Instr) -> None:
    """3.11+: stack [iterator, value sent]; a finished iterator leaves its result and jumps."""
    sent = f.pop()
    kind, value = _advance(tr, f.stack[-1], sent)
    if kind == "return":
        if ins.arg:
            f.pop()
        f.ip = ins.target                                         # type: ignore[assignment]
    f.push(value)


@on("YIELD_FROM")
def yield_from(tr: Tracer, f: Frame, ins: Instr) -> Any:
    """3.10: stays at this instruction until the iterator is finished."""
    sent = f.pop()
    kind, value = _advance(tr, f.stack[-1], sent)
    if kind == "return":
        f.pop()
        f.push(value)
        return None
    f.ip -= 1
    return "yield", value


def _advance(tr: Tracer, iterator: Value, sent: Value) -> tuple[str, Value]:
    if isinstance(iterator, GeneratorValue):
        return iterator.resume(tr, sent, None)
    value = iterator.next(tr)
    return ("return", NONE) if value is None else ("yield", value)


@on("STOP_ITERATION_ERROR")
def stop_iteration_error(tr: Tracer, f: Frame, ins: Instr) -> None:
    if issubclass(f.stack[-1].pytype(), StopIteration):
        error = ObjectValue(RuntimeError, args=[Const("generator raised StopIteration")])
        error.attrs["__cause__"] = error.attrs["__context__"] = f.stack[-1]
        f.stack[-1] = error


# --------------------------------------------------------------------------- exceptions

@on("RAISE")
def raise_(tr: Tracer, f: Frame, ins: Instr) -> None:
    if not ins.arg:
        handled = [e for frame in tr.frames for e in frame.handled]
        if not handled:
            raise tr.observe(RuntimeError("No active exception to reraise"))
        raise Observed(handled[-1])
    parts = f.popn(ins.arg)
    error = tr.as_exception(parts[0])
    if not issubclass(error.pytype(), BaseException):
        raise tr.observe(TypeError("exceptions must derive from BaseException"))
    if len(parts) > 1 and isinstance(error, ObjectValue):
        error.attrs["__cause__"] = tr.as_exception(parts[1])
    set_context(tr, error)
    raise Observed(error)


def set_context(tr: Tracer, error: Value) -> None:
    """`error` is raised: what is being handled at the moment is its context."""
    handled = next((frame.handled[-1] for frame in reversed(tr.frames) if frame.handled), None)
    if isinstance(error, ObjectValue) and handled is not None and handled is not error:
        error.attrs["__context__"] = handled


@on("RERAISE")
def reraise(tr: Tracer, f: Frame, ins: Instr) -> None:
    raise Observed(f.popn(ins.arg)[-2 if ins.arg == 3 else -1])   # 3: type above value above traceback


@on("PUSH_EXC_INFO")
def push_exc_info(tr: Tracer, f: Frame, ins: Instr) -> None:
    error = f.pop()
    f.push(f.handled[-1] if f.handled else NONE)
    f.push(error)
    f.handled.append(error)


@on("POP_EXCEPT")
def pop_except(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.popn(ins.arg)
    f.pop_handled()
    if f.blocks and f.blocks[-1][0] < 0:
        f.blocks.pop()


def _matches(tr: Tracer, error: type, wanted: Value) -> bool:
    if isinstance(wanted, TupleValue):
        return any(_matches(tr, error, w) for w in wanted.values(tr))
    if not isinstance(wanted, ClassValue):
        raise tr.observe(TypeError("catching classes that do not inherit from BaseException is not allowed"))
    return issubclass(error, wanted.raw)


@on("CHECK_EXC_MATCH")
def check_exc_match(tr: Tracer, f: Frame, ins: Instr) -> None:
    wanted = f.pop()
    f.push(Const(_matches(tr, f.stack[-1].pytype(), wanted)))


@on("JUMP_IF_NOT_EXC_MATCH")
def jump_if_not_exc_match(tr: Tracer, f: Frame, ins: Instr) -> None:
    error, wanted = f.popn(2)
    assert isinstance(error, ClassValue)
    if not _matches(tr, error.raw, wanted):
        f.ip = ins.target                                         # type: ignore[assignment]


@on("LOAD_ASSERTION_ERROR")
def load_assertion_error(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.push(tr.class_value(AssertionError))


@on("SETUP_FINALLY")
def setup_finally(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.blocks.append((ins.target, len(f.stack) - ins.arg))         # type: ignore[arg-type]


@on("POP_BLOCK")
def pop_block(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.blocks.pop()


@on("BEFORE_WITH")
def before_with(tr: Tracer, f: Frame, ins: Instr) -> None:
    manager = f.pop()
    if not isinstance(manager, ObjectValue):
        raise Unsupported("with", f"a {manager.pytype().__name__} is used as a context manager")
    enter, leave = manager.dunder(tr, "__enter__"), manager.dunder(tr, "__exit__")
    if enter is None or leave is None:
        raise tr.observe(TypeError(f"'{manager.cls.__name__}' object does not support the context manager protocol"))
    f.push(leave)
    f.push(tr.call(enter, [], {}))


@on("WITH_EXCEPT_START")
def with_except_start(tr: Tracer, f: Frame, ins: Instr) -> None:
    leave = f.stack[-ins.arg]
    error = f.handled[-1]
    f.push(tr.call(leave, [tr.class_value(error.pytype()), error, NONE], {}))


# --------------------------------------------------------------------------- match statements

@on("GET_LEN")
def get_len(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.push(Const(f.stack[-1].length(tr)))


@on("MATCH_SEQUENCE")
def match_sequence(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.push(Const(bool(f.stack[-1].pytype().__flags__ & 1 << 5)))


@on("MATCH_MAPPING")
def match_mapping(tr: Tracer, f: Frame, ins: Instr) -> None:
    f.push(Const(bool(f.stack[-1].pytype().__flags__ & 1 << 6)))


@on("MATCH_KEYS")
def match_keys(tr: Tracer, f: Frame, ins: Instr) -> None:
    subject, keys = f.stack[-2], tr.unpack(f.stack[-1])
    found = all(subject.contains(tr, k) for k in keys)
    f.push(TupleValue([subject.getitem(tr, k) for k in keys]) if found else NONE)
    if ins.arg:
        f.push(Const(found))


@on("COPY_DICT_WITHOUT_KEYS")
def copy_dict_without_keys(tr: Tracer, f: Frame, ins: Instr) -> None:
    keys, rest = f.pop(), DictValue.make(tr, dict_pairs(tr, f.stack[-1]))
    for key in tr.unpack(keys):
        rest.delitem(tr, key)
    f.push(rest)


@on("MATCH_CLASS")
def match_class(tr: Tracer, f: Frame, ins: Instr) -> None:
    positional, keeps_subject = ins.arg
    names = [str(n.as_python(tr)) for n in tr.unpack(f.pop())]
    cls = f.pop()
    subject = f.stack[-1] if keeps_subject else f.pop()
    if not isinstance(cls, ClassValue):
        raise Unsupported("class", "a class pattern names a class made in the traced code")
    found = _class_pattern(tr, subject, cls.raw, positional, names)
    if keeps_subject:
        f.stack[-1] = subject if found is None else TupleValue(found)
        f.push(Const(found is not None))
    else:
        f.push(NONE if found is None else TupleValue(found))


_SELF_MATCH = (bool, bytearray, bytes, dict, float, frozenset, int, list, set, str, tuple)


def _class_pattern(tr: Tracer, subject: Value, cls: type, positional: int, names: list[str]) -> list[Value] | None:
    answer = issubclass(subject.pytype(), cls)
    depend_on_subclass(tr, subject.pytype(), cls, answer)
    if not answer:
        return None
    found: list[Value] = []
    if positional and cls in _SELF_MATCH:
        found.append(subject)
    else:
        owner, given = find(tr, cls, "__match_args__")
        if owner is not None and can_change(owner):
            tr.guard(ClassItem(Constant(owner, owner.__name__), "__match_args__"), is_object(given))
        names = list(() if owner is None else given)[:positional] + names
    for name in names:
        try:
            found.append(subject.getattr(tr, name))
        except Observed as error:
            if issubclass(error.value.pytype(), AttributeError):
                return None
            raise
    return found


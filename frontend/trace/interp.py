"""The tracer: wraps outside values, runs frames symbolically, records ops in a graph.

`wrap` is the one way in for values from outside; it adds the value's guard at that moment. The instruction handlers are
in `instructions`, what built-in functions do is in `builtins`, Python's attribute protocol is in `objects`.
"""
from __future__ import annotations

import collections
import functools
import math
import operator
import os
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.frontend.trace import (
    arithmetic,
    arrays,
    builtins,
    computed,
    copying,
    iterating,
    layouts,
    library,
    outside,
    standard,
)
from flambeau.frontend.trace import guards as g
from flambeau.frontend.trace.building import Builder
from flambeau.frontend.trace.callables import (
    BoundBuiltin,
    BuiltinValue,
    CellValue,
    FunctionValue,
    GeneratorValue,
    bind,
)
from flambeau.frontend.trace.decode import decode
from flambeau.frontend.trace.effects import Effects, Rebuilder
from flambeau.frontend.trace.frame import Frame
from flambeau.frontend.trace.identity import same_nan
from flambeau.frontend.trace.instructions import HANDLERS, set_context
from flambeau.frontend.trace.mappings import DictValue, SetValue
from flambeau.frontend.trace.numbers import filled_with_number, with_number_option
from flambeau.frontend.trace.objects import ClassValue, ModuleValue, ObjectValue, OpaqueValue, generic_getattr, member_attribute
from flambeau.frontend.trace.outside import PLAIN, GlobalsValue
from flambeau.frontend.trace.said import method_error, operator_error
from flambeau.frontend.trace.sequences import ListValue, SequenceIterator, SliceValue, TupleValue, solid
from flambeau.frontend.trace.shapes import Shapes
from flambeau.frontend.trace.sharing import Sharing
from flambeau.frontend.trace.source import Constant, Root, Source
from flambeau.frontend.trace.subclasses import builtin_base, make_contents
from flambeau.frontend.trace.tape import Tape
from flambeau.frontend.trace.tensors import ModeValue, set_tensor_attribute, tensor_attribute
from flambeau.frontend.trace.trust import depend_on_operator, is_plumbing
from flambeau.frontend.trace.values import (
    Const,
    NotConstant,
    Observed,
    OutsideConst,
    ScalarValue,
    SymValue,
    TensorValue,
    Unsupported,
    Value,
)
from flambeau.ir import dtype as dtypes
from flambeau.ir import op as _ir_op
from flambeau.ir.autocast import OFF, Autocast
from flambeau.ir.graph import Graph
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import ops, use_handler
from flambeau.ir.ops.constant import tensor as make_tensor
from flambeau.ir.symint import SymInt
from flambeau.ir.tensorlike import TensorLike
from flambeau.ir.tracing import NOT_KNOWN, DataDependentError, GraphTensor
from flambeau.ir.tree import leaves, tree_map
from flambeau.runtime import tensor as _tensor
from flambeau.runtime.autograd import mode
from flambeau.runtime.levels import Wrapped
from flambeau.runtime.tensor import Tensor
from flambeau.runtime.traced import Recorder, Traced

assert computed and copying and iterating and library and standard             # they fill the table of built-in functions
MAX_DEPTH = 120


# Functions that symbolic ints take part in.
_SYMBOLIC = {operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg, operator.pos, abs,
             operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne, operator.index}


# Functions that make floats of changing numbers, and the operators among them as they are spelled.
_TO_FLOAT: dict[Any, str] = {
    operator.truediv: "({} / {})", operator.add: "({} + {})", operator.sub: "({} - {})", operator.mul: "({} * {})",
    operator.pow: "({} ** {})", operator.neg: "(-{})", operator.floordiv: "({} // {})", operator.mod: "({} % {})",
    abs: "abs({})", round: "", **dict.fromkeys((float, math.sqrt, math.exp, math.log, math.log2,
                                                                        math.log10, math.log1p, math.pow, math.sin, math.cos,
                                                                        math.tanh), ""),
}


class Stop(Exception):
    """The root frame has reached the step at which it is to break."""


_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_LIBRARY = tuple(os.path.join(path, "") for path in (
    _HERE, os.path.dirname(_ir_op.__file__), os.path.dirname(_tensor.__file__), os.path.dirname(functools.__file__),
    os.path.dirname(np.__file__)
)) + ("<frozen",)


class Tracer:
    """One trace of one frame. `dynamic(source, dim, size, raw)` says whether a size (or int, dim None) is a symbol."""

    def __init__(self, name: str, dynamic: Callable[[Source, int | None, int, Any], bool]) -> None:
        self.graph = Graph(name)
        self.builder = Builder(self)
        self.recorder = Recorder(self.builder)                   # records for transforms; `transform` is the one that runs
        self.transform: Any = None
        self.sharing = Sharing(self)                             # values that share memory in eager mode, and not here
        self.asserted: list[tuple[TensorValue, bool]] = []       # conditions of assertions that are assumed to hold
        self.may_assert = True
        self.nested = ""                                         # the branch or loop body that is being traced
        self.autocast = mode.autocast                            # as the traced code has set it
        self.tape = Tape(self)
        self.guards = g.GuardSet()
        self.effects = Effects()
        self.shapes = Shapes(self.where)
        self.dynamic = dynamic
        self.frames: list[Frame] = []
        self.handling: list[Value] = []
        self.inputs: dict[Any, tuple[Source, Any]] = {}          # graph input -> (source, real tensor)
        self.tensor_attrs: dict[int, dict[str, Value]] = {}
        self.class_stores: dict[tuple[type, str], Value] = {}    # attributes of classes, as the trace has set them
        self.layouts: dict[Any, tuple[Any]] = {}                 # graph node -> an array that lies like its value, or None
        self.arrays: dict[Any, tuple[Any]] = {}                  # graph node -> an array that is likely to lie so
        self.scalars: dict[Any, ScalarValue | SymValue] = {}     # graph input -> changing number
        self._scalars: dict[int, TensorValue] = {}
        self._computed: dict[Any, ScalarValue] = {}
        self.root: Frame | None = None
        self.tick = 0                                            # native steps of the root frame so far
        self.starts: list[int] = []                              # how many ops the graph had when each of them began
        self.stop_at = 0                                         # the step at which the root frame breaks (0: never)
        self.known: dict[int, Value] = {}
        self.tensors: dict[int, TensorValue] = {}
        self.namespaces: dict[int, GlobalsValue] = {}
        self.keep: list[Any] = []                               # objects whose ids are keys above
        self.instructions = 0
        self.unrepeated: set[Source] = set()                     # of tensors that are written to
        self.inlined: list[FunctionValue] = []
        self.generators: list[tuple[GeneratorValue, str]] = []   # each with the line that made it
        self.assumed: list[tuple[dict[str, Any], str, Any]] = []  # read of trusted modules: (namespace, name, value)

    def let_go(self) -> None:
        """Nothing asks this trace any more: the program's objects that it holds are not kept until a collection."""
        self.__dict__.clear()

    # ------------------------------------------------------------------ where we are

    def inside(self) -> str:
        """The function of a library, not of its plumbing, that the user's line calls; "" where the user's own code is traced."""
        found = ""
        for frame in reversed(self.frames):
            if not frame.code.co_filename.startswith(_LIBRARY):
                break
            module = str(frame.globals.get("__name__"))
            name = getattr(frame.code, "co_qualname", frame.code.co_name)
            last = name.rpartition(".")[2]
            if frame is not self.root and "<" not in name and (not last.startswith("_") or last == "__init__"):
                found = name if "." in name or module.startswith("flambeau") else f"{module}.{name}"
        return found.removesuffix(".__init__")

    def where(self) -> str:
        """The user's line: the innermost frame outside flambeau and the standard library."""
        for frame in reversed(self.frames):
            if not frame.code.co_filename.startswith(_LIBRARY):
                return f"{os.path.basename(frame.code.co_filename)}:{frame.line}"
        return f"{os.path.basename(self.frames[-1].code.co_filename)}:{self.frames[-1].line}" if self.frames else ""

    def _module_path(self) -> str:
        """Attribute path of the innermost module being called (`block.act`)."""
        for frame in reversed(self.frames):
            owner = frame.locals.get("self")
            if isinstance(owner, ObjectValue) and owner.source is not None:
                parts = [p for p in str(owner.source).replace("']", "").replace("['", ".").split(".")
                         if p not in ("_modules", "self", "")]
                return ".".join(parts)
        return ""

    # ------------------------------------------------------------------ outside values

    def guard(self, source: Source, kind: tuple[Any, Any, str]) -> None:
        key, test, text = kind
        if isinstance(source, Constant) and key[0] in ("is", "type", "code"):
            return                                               # the very object the trace was made with
        self.guards.add(source, key, test, text, self.where)

    def guard_absent(self, source: Source | None, name: str) -> None:
        assert source is not None
        if not isinstance(source, Constant):
            self.guards.add_absent(source, name, self.where())

    def guard_equal(self, source: Source, raw: Any) -> None:
        self.guard(source, g.equals(raw))

    def is_fixed(self, source: Source | None) -> bool:
        """Whether the value at `source` is one object for as long as the guards hold (a global, a class attribute)."""
        return not isinstance(source, Root) and source is not None and isinstance(source.root, Constant) \
            and not isinstance(source, Constant)

    def outside_cell(self, raw: types.CellType, source: Source) -> CellValue:
        found = self.known.get(id(raw))
        if found is None:
            found = self.known[id(raw)] = CellValue(None, source, raw)
            self.keep.append(raw)
        return found                                             # type: ignore[return-value]

    def globals_of(self, space: dict[str, Any]) -> GlobalsValue:
        found = self.namespaces.get(id(space))
        if found is None:
            found = self.namespaces[id(space)] = GlobalsValue(space)
        return found

    def wrap(self, raw: Any, source: Source) -> Value:
        """The symbolic value of an outside object, with the guard that its use needs."""
        return outside.wrap(self, raw, source)

    def wrap_global(self, raw: Any, source: Source, module: str) -> Value:
        return outside.wrap_global(self, raw, source, module)

    def outside_attribute(self, value: Any, name: str) -> Value:
        return outside.outside_attribute(self, value, name)

    # ------------------------------------------------------------------ values made while tracing

    def constant(self, raw: Any) -> Value:
        """The value of a Python object computed while tracing."""
        if isinstance(raw, Value):
            return raw
        if isinstance(raw, TensorLike):
            return self.from_python(raw)
        if type(raw).__name__ == "SymInt":
            return SymValue(raw)
        if isinstance(raw, type):
            return self.class_value(raw)
        if isinstance(raw, tuple) and type(raw).__iter__ is tuple.__iter__:
            return TupleValue([self.constant(v) for v in raw], type(raw))
        if type(raw) is list:
            return ListValue([self.constant(v) for v in raw])
        if type(raw) in (dict, collections.OrderedDict):
            return DictValue.make(self, [(self.constant(k), self.constant(v)) for k, v in raw.items()], type(raw))
        if type(raw) in (set, frozenset):
            return SetValue.make(self, [self.constant(v) for v in raw], type(raw))
        if isinstance(raw, slice):
            return SliceValue([self.constant(v) for v in (raw.start, raw.stop, raw.step)])
        if callable(raw) or isinstance(raw, types.ModuleType):
            return self.wrap(raw, Constant(raw, getattr(raw, "__name__", "object")))
        return Const(raw)

    def new_dict(self, pairs: list[tuple[Value, Value]]) -> DictValue:
        return DictValue.make(self, pairs)

    def from_python(self, raw: Any) -> Value:
        """The value of what a pure function returned."""
        if isinstance(raw, Traced):
            raw = raw.symbol
        if isinstance(raw, (GraphTensor, Wrapped)):
            found = self.tensors.get(id(raw))
            if found is None:
                found = self.tensors[id(raw)] = TensorValue(raw, Tensor)
                self.keep.append(raw)
            return found
        if isinstance(raw, Tensor):
            return self.wrap(raw, Constant(raw, "constant"))
        if isinstance(raw, tuple) and not hasattr(raw, "_fields"):
            return TupleValue([self.from_python(v) for v in raw], type(raw))
        if isinstance(raw, tuple):
            return TupleValue([self.from_python(v) for v in raw], type(raw))
        if type(raw) is list:
            return ListValue([self.from_python(v) for v in raw])
        return self.constant(raw)

    def class_value(self, cls: type) -> Value:
        found = self.known.get(id(cls))
        if found is None:
            found = self.known[id(cls)] = ClassValue(cls, Constant(cls, cls.__name__))
            self.keep.append(cls)
        return found

    def as_exception(self, value: Value) -> Value:
        """What `raise value` raises."""
        if isinstance(value, ClassValue):
            return self.call(value, [], {})
        return value

    def observe(self, error: BaseException) -> Observed:
        """A real exception raised by a pure computation, as one of the traced program."""
        found = Observed(ObjectValue(type(error), args=[self.constant(a) if _is_plain(a) else Const(str(a))
                                                        for a in error.args]))
        found.__cause__ = error
        return found

    def refuse_arguments(self, owner: Value, name: str, args: list[Value], kwargs: dict[str, Value],
                         error: Exception) -> Observed:
        """What a method of a built-in type raises for arguments that it does not take."""
        return self.observe(method_error(owner, name, args, kwargs) or error)

    def refuse_operator(self, operator: Any, *values: Value) -> Observed:
        """What an operator raises that none of the values' types has."""
        error = operator_error(operator, *values)
        return self.observe(error or TypeError(f"unsupported operand type(s) for {operator.__name__}"))

    def observe_with(self, cls: type, args: list[Value]) -> Observed:
        return Observed(ObjectValue(cls, args=args))

    # ------------------------------------------------------------------ calling

    def call(self, fn: Value, args: list[Value], kwargs: dict[str, Value]) -> Value:
        return fn.call(self, args, kwargs)

    def call_pure(self, fn: Any, args: list[Value], kwargs: dict[str, Value]) -> Value:
        """Call a function that is pure apart from ops: its ops go into the graph."""
        args = [arrays.for_op(fn, a) if isinstance(a, (arrays.ArrayValue, Const)) else a for a in args]
        if "requires_grad" in kwargs:
            rest = {k: v for k, v in kwargs.items() if k != "requires_grad"}
            made = self.call_pure(fn, args, rest)
            if not isinstance(made, TensorValue):
                return made
            return self.tape.method(made, "requires_grad_", [kwargs["requires_grad"]], {})
        if fn is make_tensor and args and isinstance(args[0], (SymValue, ScalarValue)) and "requires_grad" not in kwargs:
            return self._tensor_of(args[0], **{k: v.as_python(self) for k, v in kwargs.items()})
        if fn is make_tensor and args and isinstance(args[0], (ListValue, TupleValue)) and not kwargs:
            numbers = args[0].values(self)
            if any(isinstance(n, (SymValue, ScalarValue)) for n in numbers) and \
                    ({n.pytype() for n in numbers} == {int} or {n.pytype() for n in numbers} == {float}):
                return self._tensor_of_numbers(numbers)
        if any(isinstance(v, ScalarValue) for v in kwargs.values()):
            found = with_number_option(self, fn, args, kwargs)
            if found is not None:
                return found
        if any(isinstance(a, ScalarValue) for a in (*args, *kwargs.values())):
            found = filled_with_number(self, fn, args, kwargs) or self._with_scalars(fn, args, kwargs)
            if found is not None:
                return found
        try:
            real = [a.as_python(self) for a in args]
            named = {k: v.as_python(self) for k, v in kwargs.items()}
        except NotConstant as error:
            raise Unsupported("argument", f"{_name(fn)} gets {error}, which is not known while tracing") from None
        if not any(isinstance(v, SymValue) for v in (*args, *kwargs.values())):
            return self.from_python(self.call_host(fn, *real, **named))
        return self._call_with_ints(fn, args, real, kwargs, named)

    def _call_with_ints(self, fn: Any, args: list[Value], real: list[Any], kwargs: dict[str, Value],
                        named: dict[str, Any]) -> Value:
        """Call with changing ints as sizes; beside tensors, where the op wants a number, as a 0-d tensor; at last at its present
        value."""
        before = len(self.builder.graph.nodes)
        for as_tensors in (False, True) if any(isinstance(r, GraphTensor) for r in leaves(real)) else (False,):
            try:
                given = [self._scalar_input(a).tensor if as_tensors and isinstance(a, SymValue) else r
                         for a, r in zip(args, real)]
                return self.from_python(self.call_host(fn, *given, **named))
            except Unsupported as error:
                if not isinstance(error.cause, TypeError) or len(self.builder.graph.nodes) != before:
                    raise
        real = [self.index(a) if isinstance(a, SymValue) else r for a, r in zip(args, real)]
        named = {k: self.index(kwargs[k]) if isinstance(kwargs[k], SymValue) else v for k, v in named.items()}
        return self.from_python(self.call_host(fn, *real, **named))

    def _with_scalars(self, fn: Any, args: list[Value], kwargs: dict[str, Value]) -> Value | None:
        """Call with changing floats as 0-d tensors, where that means the same: beside a floating tensor with sizes, or
        beside one without, whose dtype the float then takes."""
        beside = [a.tensor for a in args if isinstance(a, TensorValue) and a.tensor.dtype.is_floating_point]
        sized = any(t.shape for t in beside)
        if not sized and (any(isinstance(v, ScalarValue) for v in kwargs.values())
                          or {t.dtype for t in beside} not in ({dtypes.float32}, {dtypes.float64})):
            return None
        before = len(self.builder.graph.nodes)
        try:
            given: list[Any] = [self._scalar_input(a) if isinstance(a, ScalarValue) else a for a in args]
            kwargs = {k: self._scalar_input(v) if isinstance(v, ScalarValue) else v for k, v in kwargs.items()}
            if not sized:
                given = [self.from_python(self.call_host(ops.cast, v.tensor, beside[0].dtype)) if v is not a else v
                         for v, a in zip(given, args)]
            return self.call_pure(fn, given, kwargs)
        except Unsupported as error:
            added = self.builder.graph.nodes[before:]
            if error.code not in ("raises", "data-dependent") or any(
                    n.op is None or n.op.mutates or "random" in n.op.tags for n in added):
                raise
            del self.builder.graph.nodes[before:]                 # it wants the number itself
            return None

    def _tensor_of(self, value: ScalarValue | SymValue, dtype: Any = None, **rest: Any) -> Value:
        """`torch.tensor` of a changing number."""
        number = self._scalar_input(value).tensor
        kind = dtype or (number.dtype if isinstance(value, SymValue) else dtypes.get_default_dtype())
        return self.from_python(self.call_host(lambda: ops.clone(ops.cast(number, kind))))

    def _tensor_of_numbers(self, numbers: list[Value]) -> Value:
        """`torch.tensor` of a list of ints, or of floats, some of which change."""
        parts = [self._tensor_of(n).as_python(self) if isinstance(n, (SymValue, ScalarValue)) else
                 self.call_host(make_tensor, n.as_python(self)) for n in numbers]
        return self.from_python(self.call_host(ops.stack, parts))

    def _scalar_input(self, value: ScalarValue | SymValue) -> TensorValue:
        """A graph input that holds a number of the frame."""
        found = self._scalars.get(id(value))
        if found is None:
            self.shapes.known_before([value])
            dtype = dtypes.float64 if isinstance(value, ScalarValue) else dtypes.int64
            node = self.graph.input("scalar", TensorMeta((), dtype), False, self.where())
            self.scalars[node] = value
            found = self._scalars[id(value)] = TensorValue(GraphTensor(node), Tensor)
            self.keep.append(value)
        return found

    def number_tensor(self, value: SymValue) -> TensorValue:
        """A changing int as a 0-d tensor."""
        return self._scalar_input(value)

    def set_grad(self, enabled: bool) -> None:
        """Set the traced program's grad mode, on the way in or out of something that sets it back."""
        self.builder.grad_enabled = enabled
        known = self.known.get(id(mode))
        if isinstance(known, ModeValue):
            known.now["grad"] = enabled

    @property
    def handler(self) -> Any:
        """Where ops go: to the graph, through the transforms that run."""
        return self.transform or self.builder

    def call_host(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        """Call with the graph builder as the op handler; errors become the traced program's or a break."""
        path = self._module_path()
        self.builder.loc = self.where() + (" " + path if path else "")
        try:
            with use_handler(self.handler if self.autocast == OFF else Autocast(self.autocast, self.handler)):
                return fn(*args, **kwargs)
        except DataDependentError as error:
            raise _needs_data(fn, error) from error
        except (Unsupported, Observed):
            raise
        except NotImplementedError as error:
            raise Unsupported("op", f"{_name(fn)}: {error}") from error
        except Exception as error:
            found = Unsupported("raises", f"{_name(fn)} raises {type(error).__name__}: {error}")
            found.cause = error
            raise found from error

    def fold(self, fn: Any, args: list[Value], kwargs: dict[str, Value]) -> Value:
        """Call a pure function of constants now. Few functions keep a symbolic int symbolic; for others it is pinned."""
        if not kwargs and any(isinstance(a, (SymValue, ScalarValue)) for a in args) and type(fn).__hash__ is not None:
            if fn not in _SYMBOLIC:
                self.shapes.known_before(args)
            found = (self._changing_float(fn, args) if fn in _TO_FLOAT else None) or computed.integer(self, fn, args)
            if found is not None:
                return found
        try:
            keeps = type(fn).__hash__ is not None and fn in _SYMBOLIC
            real = [a.as_python(self) if keeps else self._without_sizes(a) for a in args]
            named = {k: self._without_sizes(v) for k, v in kwargs.items()}
        except NotConstant as error:
            raise Unsupported("builtin", f"{_name(fn)} is called with {error}, which is not known while tracing"
                              ) from None
        try:
            with use_handler(self.handler):
                result = fn(*real, **named)
            if hasattr(type(result), "__next__"):                 # each call has its own
                raise Unsupported("builtin", f"{_name(fn)} makes an iterator in C")
            return self.constant(result)
        except (Unsupported, Observed):
            raise
        except DataDependentError as error:
            raise _needs_data(fn, error) from error
        except TypeError as error:                                # of the values, not of what stands for them here
            stand_for = all(isinstance(a, (Const, SymValue, ScalarValue)) for a in args) or kwargs
            real_error = None if stand_for else operator_error(fn, *args)
            raise self.observe(real_error if isinstance(real_error, TypeError) else error) from None
        except Exception as error:
            raise self.observe(error) from None

    def _without_sizes(self, value: Value) -> Any:
        """The Python object of a value; symbolic sizes, in containers too, are pinned to what they are now."""
        if isinstance(value, SymValue):
            return self.index(value)
        found = value.as_python(self)
        if self.shapes.env is None or not any(isinstance(v, SymInt) for v in leaves(found)):
            return found
        return tree_map(lambda v: operator.index(v) if isinstance(v, SymInt) else v, found)

    def _changing_float(self, fn: Any, args: list[Value]) -> ScalarValue | None:
        """A float that a function makes of changing numbers, computed at each call; None where it makes none."""
        hints: list[Any] = []
        for a in args:
            if not isinstance(a, (Const, SymValue, ScalarValue)):
                return None
            hints.append(a.hint if isinstance(a, ScalarValue) else a.value.hint if isinstance(a, SymValue) else a.value)
        if any(type(x) not in (int, float) for x in hints):
            return None
        try:
            hint = fn(*hints)
        except (ArithmeticError, ValueError) as error:
            for a in args:
                a.as_python(self) if isinstance(a, ScalarValue) else self.index(a)
            raise self.observe(error) from None
        if type(hint) is not float:
            return None
        key = (fn, *((type(a.value), repr(a.value)) if isinstance(a, Const) else id(a) for a in args))
        found = self._computed.get(key)
        if found is None:                                         # (equal expressions are one input of the graph)
            operator_text = _TO_FLOAT[fn]
            found = self._computed[key] = ScalarValue(hint, operator_text, args) if operator_text else ScalarValue(
                hint, f"{{}}({', '.join('{}' for _ in args)})", [Const(fn), *args])
            self.keep += args
        return found

    def inline(self, fn: FunctionValue, args: list[Value], kwargs: dict[str, Value]) -> Value:
        """Trace a Python function as part of the caller."""
        if len(self.frames) > MAX_DEPTH:
            raise Unsupported("recursion", f"calls are nested more than {MAX_DEPTH} deep in {fn.label}")
        if fn.raw is not None and getattr(fn.raw, "__flambeau_disable__", False):
            name = getattr(fn.raw, "__name__", fn.label)
            if name == "graph_break":
                raise Unsupported("disabled", "graph_break() is called", "remove it")
            raise Unsupported("disabled", f"{name} is marked with disable()")
        special = library.by_code(fn.code)
        if special is not None:
            return special(self, fn, args, kwargs)
        flags = fn.code.co_flags
        if flags & 0x280:                                         # coroutine, async generator
            raise Unsupported("async", f"{fn.label} is asynchronous")
        frame = self.new_frame(fn, bind(self, fn, args, kwargs))
        if flags & 0x20:
            generator = GeneratorValue(frame)
            generator.born = self.tick                            # type: ignore[attr-defined]
            self.generators.append((generator, self.where()))
            return generator
        try:
            return self.run(frame)[1]
        except Unsupported as error:
            error.inlined = fn
            error.library = error.library and is_plumbing(fn.globals.get("__name__"), fn.code.co_name)
            raise

    def new_frame(self, fn: FunctionValue, local: dict[str, Value]) -> Frame:
        code = fn.code
        self.inlined.append(fn)
        cells = dict(zip(code.co_freevars, fn.closure))
        for name in code.co_cellvars:
            cells[name] = CellValue(local.pop(name, None))
        return Frame(decode(code), fn.globals, local, cells, fn)

    def run(self, frame: Frame) -> tuple[str, Value]:
        """Run until the frame returns ("return") or yields ("yield")."""
        self.frames.append(frame)
        frame.started = True
        instrs = frame.program.instrs
        try:
            while True:
                ins = frame.current = instrs[frame.ip]
                self.instructions += 1
                if frame is self.root and ins.group == frame.ip:
                    self.tick += 1
                    self.starts.append(len(self.graph.nodes))
                    if self.tick == self.stop_at:
                        raise Stop
                frame.ip += 1
                try:
                    handler = HANDLERS.get(ins.op)
                    if handler is None:
                        raise Unsupported("instruction", f"the instruction {ins.arg or ins.op} is not supported")
                    outcome = handler(self, frame, ins)
                except Observed as error:
                    if isinstance(error.value, ObjectValue) and "__context__" not in error.value.attrs:
                        set_context(self, error.value)
                    if not frame.handled:
                        frame.raised_at, frame.raised_line = self.tick, self.where()
                    if not frame.unwind(self, error, ins):
                        raise
                    continue
                if outcome is not None:
                    return outcome
        except Unsupported as error:
            error.inside = error.inside or self.inside()
            error.line = error.line or self.where()
            raise
        except DataDependentError as error:
            found = Unsupported("data-dependent", str(error), "keep it a tensor, or move this line out of the compiled function")
            found.cause, found.line = error, self.where()
            raise found from error
        finally:
            self.frames.pop()

    def run_generator(self, frame: Frame, sent: Value, thrown: Observed | None) -> tuple[str, Value]:
        """Resume a generator's frame, sending a value or throwing an exception at its yield."""
        if thrown is not None:
            if not frame.started or not frame.unwind(self, thrown, frame.current):
                raise thrown
        elif frame.started:
            frame.push(sent)
        return self.run(frame)

    # ------------------------------------------------------------------ Python's protocols

    def truth(self, value: Value) -> bool:
        return value.truth(self)

    def same(self, a: Value, b: Value) -> bool:
        """`a is b`."""
        if a is b:
            return True
        if isinstance(a, OutsideConst) or isinstance(b, OutsideConst):
            for v in (a, b):
                if isinstance(v, OutsideConst):
                    v.value                                      # noqa: B018 - the answer depends on it
        if isinstance(a, (SymValue, ScalarValue)) or isinstance(b, (SymValue, ScalarValue)):
            return False                                         # numbers are compared by value; see `is_op`
        if isinstance(a, Const) and isinstance(b, Const):
            if a.value != a.value and b.value != b.value:
                return same_nan(self, a, b)
            return a.value is b.value or (type(a.value) is type(b.value) and type(a.value) in (int, str, bytes)
                                          and a.value == b.value)
        if a.source is not None and b.source is not None and not isinstance(a, Const) and not isinstance(b, Const):
            first, second = a.source, b.source
            self.guards.add(first, ("differs", second), lambda w, v: f"{v} is not {w.fetch(second)}",
                            "{} is not " + g.escape(str(second)), self.where)
        return False

    def identity_hashed(self, value: Value) -> bool:
        """Whether the real object hashes by identity, so that its symbolic value can stand for it."""
        if isinstance(value, ObjectValue):
            return value.cls.__hash__ is object.__hash__ and value.cls.__eq__ is object.__eq__
        if isinstance(value, OpaqueValue):
            return value.pytype().__hash__ is object.__hash__ and value.pytype().__eq__ is object.__eq__
        return isinstance(value, (TensorValue, ClassValue, FunctionValue, BuiltinValue, ModuleValue))

    def unpack(self, value: Value) -> list[Value]:
        """All items of an iterable."""
        if isinstance(value, (TupleValue, ListValue)):
            return value.values(self)
        iterator = value.iterate(self)
        items = []
        while (item := iterator.next(self)) is not None:
            items.append(item)
        return items

    def index(self, value: Value) -> Any:
        """A Python int or slice for indexing Python containers; a symbolic one is pinned to its present value."""
        try:
            found = value.as_python(self)
            if isinstance(found, slice):
                return slice(*(None if p is None else operator.index(p)
                               for p in (found.start, found.stop, found.step)))
            return operator.index(found)
        except NotConstant:
            raise Unsupported("index", f"a {value.pytype().__name__} is used as an index") from None
        except DataDependentError as error:
            if isinstance(value, SymValue):
                raise Unsupported("data-dependent", f"Python needs a number: {error}",
                                  "keep it a tensor: `mask.sum()` in place of `x[mask].shape[0]`") from None
            raise Unsupported("data-dependent", "a tensor is used as an index of a Python container",
                              "index a tensor instead, or use .item() outside the compiled function") from None
        except TypeError as error:
            raise self.observe(error) from None

    def index_key(self, value: Value) -> str:
        """An attribute name."""
        value = value.plain(self)
        if isinstance(value, Const) and isinstance(value.value, str):
            return value.value
        if isinstance(value, (Const, TensorValue, ListValue, DictValue)):
            raise self.observe(TypeError("attribute name must be string"))
        raise Unsupported("attribute", "an attribute name is not known while tracing")

    def generic_getattr(self, value: Value, name: str) -> Value:
        return generic_getattr(self, value, name)

    def member_attribute(self, value: Const, name: str) -> Value | None:
        return member_attribute(self, value, name)

    def layout_method(self, value: TensorValue, name: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
        return layouts.layout_method(self, value, name, args, kwargs)

    def turn(self, value: TensorValue, name: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
        return layouts.turn(self, value, name, args, kwargs)

    def check_view(self, value: TensorValue, args: list[Value]) -> None:
        layouts.check_view(self, value, args)

    def is_known_contiguous(self, value: TensorValue) -> bool:
        return layouts.is_known_contiguous(self, value)

    def depend_on_operator(self, value: TensorValue, name: str) -> None:
        depend_on_operator(self, [value], name)

    def tensor_getattr(self, value: TensorValue, name: str) -> Value:
        return tensor_attribute(self, value, name)

    def tensor_setattr(self, value: TensorValue, name: str, new: Value) -> None:
        set_tensor_attribute(self, value, name, new)

    def bound_builtin(self, owner: Value, name: str) -> Value:
        return BoundBuiltin(owner, name)

    def iterator(self, items: list[Value]) -> Value:
        return SequenceIterator(items)

    def object_with_contents(self, cls: type, args: list[Value]) -> Value | None:
        kind = builtin_base(cls)
        return None if kind is None else make_contents(self, cls, kind, args)

    def solid(self, value: Value) -> Value:
        return solid(self, value)

    def knows_builtin(self, raw: Any) -> bool:
        return builtins.knows(raw)

    def call_builtin(self, raw: Any, args: list[Value], kwargs: dict[str, Value]) -> Value:
        return builtins.call_builtin(self, raw, args, kwargs)

    def binary(self, op: str, a: Value, b: Value) -> Value:
        return arithmetic.binary(self, op, a, b)

    def compare(self, op: str, a: Value, b: Value) -> Value:
        return arithmetic.compare(self, op, a, b)

    def alias_guards(self) -> list[g.Guard]:
        """Changed outside objects are none of the other objects of their type that the trace has seen."""
        groups: dict[type, list[Source]] = {}
        for value in self.known.values():
            if value.mutable and value.source is not None and not isinstance(value, (CellValue, ModeValue, OpaqueValue)):
                groups.setdefault(value.pytype(), []).append(value.source)
        changed = {v.pytype() for v in self.effects.touched.values()
                   if v.mutable and not isinstance(v, (CellValue, ModeValue, GlobalsValue))}
        return [g.all_distinct(sources, "") for cls, sources in groups.items() if cls in changed and len(sources) > 1]

    # ------------------------------------------------------------------ replay of objects

    def replay_object(self, out: Rebuilder, value: Value, target: str) -> list[str]:
        """Statements that make the changes to one outside object."""
        if isinstance(value, ModeValue):
            changed = [f"{target}.grad = {value.now['grad']}"] if value.now["grad"] != mode.grad else []
            return changed + ([f"{target}.autocast = {out.constant(self.autocast)}"] if self.autocast != mode.autocast else [])
        if isinstance(value, CellValue):
            contents = value.get(self)
            return [f"del {target}.cell_contents" if contents is None
                    else f"{target}.cell_contents = {out.expr(contents)}"]
        if isinstance(value, GlobalsValue):
            return [f"{target}.pop({n!r}, None)" if v is None else f"{target}[{n!r}] = {out.expr(v)}"
                    for n, v in value.stored.items()]
        if isinstance(value, TensorValue):
            return [f"{target}.{n} = {out.expr(v)}" for n, v in self.tensor_attrs[id(value)].items()]
        return value.replay(out, target)


def _is_plain(value: Any) -> bool:
    return type(value) in PLAIN


_OPERATORS = {operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.eq: "==", operator.ne: "!="}


def _needs_data(fn: Any, error: Exception) -> Unsupported:
    sign = _OPERATORS.get(fn) if type(fn).__hash__ is not None else None
    said = "" if str(error) == NOT_KNOWN else f": {error}"
    return Unsupported("data-dependent", f"{f'the comparison {sign}' if sign else _name(fn)} needs the data of a tensor{said}",
                       "keep it a tensor, or move this line out of the compiled function")


def _name(fn: Any) -> str:
    return getattr(fn, "__qualname__", None) or getattr(fn, "__name__", None) or repr(fn)

"""Symbolic values: what the interpreter pushes on its stack instead of Python objects.

A `Value` answers the questions the interpreter asks (attribute, item, call, truth, length, iteration) the way the real
object would, and can be rebuilt as a real object in an entry's run function. Everything it cannot answer raises
`Unsupported`, which becomes a graph break.
"""
from __future__ import annotations

import enum
import functools
import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.guards import is_type
from flambeau.frontend.trace.source import Source
from flambeau.ir.tensorlike import TensorLike

if TYPE_CHECKING:
    from flambeau.frontend.trace.effects import Rebuilder
    from flambeau.frontend.trace.interp import Tracer


class Unsupported(Exception):
    """The trace cannot go past this instruction. `code` is stable, `why` one sentence, `fix` what the user can do."""

    def __init__(self, code: str, why: str, fix: str = "") -> None:
        super().__init__(why)
        self.code, self.why, self.fix = code, why, fix
        self.line: str = ""
        self.inside = ""                  # the library's function that the user's line calls, if it happened in one
        self.escaped = False              # an exception of the traced program left its root frame
        self.native = False               # the breaking call looks at its caller's frame
        self.whole = False                # what eager mode would say depends on the frame from its start
        self.library = True               # every function inlined on the way there is the library's own
        self.inlined: Any = None          # the user function (a Value) in which it happened, if not the root frame
        self.cause: BaseException | None = None


class Observed(Exception):
    """The traced program raises; `value` is the symbolic exception."""

    def __init__(self, value: Value) -> None:
        super().__init__(str(value))
        self.value = value


class NotConstant(Exception):
    """A value has no Python object while tracing."""


class Value:
    """Base. `source` is set for values that come from outside the trace."""

    source: Source | None = None
    mutable = False

    def pytype(self) -> type:
        """The type of the real object."""
        raise NotImplementedError(type(self).__name__)

    def as_python(self, tr: Tracer) -> Any:
        """The real object (with symbolic tensors for tensors), for a pure function; raises NotConstant."""
        raise NotConstant(f"a {self.pytype().__name__}")

    def getattr(self, tr: Tracer, name: str) -> Value:
        return tr.generic_getattr(self, name)

    def setattr(self, tr: Tracer, name: str, value: Value) -> None:
        raise Unsupported("attribute-store", f"an attribute is stored on a {self.pytype().__name__}")

    def delattr(self, tr: Tracer, name: str) -> None:
        raise Unsupported("attribute-store", f"an attribute is deleted on a {self.pytype().__name__}")

    def getitem(self, tr: Tracer, key: Value) -> Value:
        raise Unsupported("subscript", f"a {self.pytype().__name__} is subscripted")

    def setitem(self, tr: Tracer, key: Value, value: Value) -> None:
        if not hasattr(self.pytype(), "__setitem__"):
            raise tr.refuse_operator(operator.setitem, self, key, value)
        raise Unsupported("subscript", f"an item of a {self.pytype().__name__} is assigned")

    def delitem(self, tr: Tracer, key: Value) -> None:
        if not hasattr(self.pytype(), "__delitem__"):
            raise tr.refuse_operator(operator.delitem, self, key)
        raise Unsupported("subscript", f"an item of a {self.pytype().__name__} is deleted")

    def contains(self, tr: Tracer, item: Value) -> bool:
        iterator = self.iterate(tr)
        while (v := iterator.next(tr)) is not None:
            if tr.same(v, item) or tr.truth(tr.compare("==", v, item)):
                return True
        return False

    def call(self, tr: Tracer, args: list[Value], kwargs: dict[str, Value]) -> Value:
        raise Unsupported("call", f"a {self.pytype().__name__} is called")

    def method(self, tr: Tracer, name: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
        """Call of a method that the real type implements in C."""
        handler = getattr(self, "m_" + name, None) or _protocol(self, name, len(args))
        if handler is None:
            owner = getattr(self, "label", "") if issubclass(self.pytype(), type) else ""
            raise Unsupported("builtin-method", f"{owner or self.pytype().__name__}.{name} is called")
        try:
            return handler(tr, *args, **kwargs) or NONE
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:         # wrong arguments
                raise tr.refuse_arguments(self, name, args, kwargs, error) from None
            raise

    def plain(self, tr: Tracer, *names: str) -> Value:
        """The number or string in an object of a subclass of their types that does not override the operators `names`."""
        return self

    def truth(self, tr: Tracer) -> bool:
        raise Unsupported("truth", f"the truth of a {self.pytype().__name__} is asked")

    def length(self, tr: Tracer) -> int:
        raise Unsupported("len", f"the length of a {self.pytype().__name__} is asked")

    def iterate(self, tr: Tracer) -> Value:
        """An iterator value."""
        raise Unsupported("iteration", f"a {self.pytype().__name__} is iterated")

    def next(self, tr: Tracer) -> Value | None:
        """The next item of an iterator; None when exhausted."""
        raise Unsupported("iteration", f"a {self.pytype().__name__} is advanced")

    def rebuild(self, out: Rebuilder) -> str:
        """Expression, in the run function, of the real object. Only called for values without a source."""
        raise Unsupported("rebuild", f"a {self.pytype().__name__} made in the traced code cannot be made for real")

    def replay(self, out: Rebuilder, target: str) -> list[str]:
        """Statements that make the trace's changes to the real object, `target`. Only called for values with a source."""
        raise Unsupported("rebuild", f"a change to a {self.pytype().__name__} cannot be replayed")

    def children(self) -> Iterator[Value]:
        """Values this one holds."""
        return iter(())


def _protocol(value: Value, name: str, count: int) -> Any:
    """What a special method of a built-in type does when it is called by its name (`xs.__getitem__(0)`); None for others."""
    found: dict[tuple[str, int], Any] = {
        ("__getitem__", 1): value.getitem, ("__setitem__", 2): value.setitem, ("__delitem__", 1): value.delitem,
        ("__iter__", 0): value.iterate, ("__len__", 0): lambda tr: tr.constant(value.length(tr)),
        ("__contains__", 1): lambda tr, item: Const(value.contains(tr, item)),
    }
    return found.get((name, count))


class Null(Value):
    """The NULL stack entry below a callable."""

    def pytype(self) -> type:
        return type(None)


NULL_VALUE = Null()


class Const(Value):
    """An immutable Python object that is known while tracing."""

    def __init__(self, value: Any, source: Source | None = None) -> None:
        self.value, self.source = value, source

    def __repr__(self) -> str:
        return f"Const({self.value!r})"

    def pytype(self) -> type:
        return type(self.value)

    def as_python(self, tr: Tracer) -> Any:
        return self.value

    def getattr(self, tr: Tracer, name: str) -> Value:
        if isinstance(self.value, enum.Enum):
            own = tr.member_attribute(self, name)
            if own is not None:
                return own
        try:
            found = getattr(self.value, name)
        except AttributeError as error:
            raise tr.observe(error) from None
        if callable(found) and getattr(found, "__self__", None) is self.value:
            return tr.bound_builtin(self, name)
        return tr.constant(found)

    def call(self, tr: Tracer, args: list[Value], kwargs: dict[str, Value]) -> Value:
        own = tr.member_attribute(self, "__call__") if isinstance(self.value, enum.Enum) else None
        return super().call(tr, args, kwargs) if own is None else tr.call(own, args, kwargs)

    def method(self, tr: Tracer, name: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
        return tr.fold(getattr(self.value, name), args if name == "format" else [tr.solid(a) for a in args], kwargs)

    def getitem(self, tr: Tracer, key: Value) -> Value:
        if not hasattr(type(self.value), "__getitem__"):              # raises whatever the key, which stays unknown
            raise tr.observe(TypeError(f"'{type(self.value).__name__}' object is not subscriptable"))
        return tr.fold(operator.getitem, [self, key], {})

    def contains(self, tr: Tracer, item: Value) -> bool:
        return tr.truth(tr.fold(operator.contains, [self, item], {}))

    def truth(self, tr: Tracer) -> bool:
        return bool(self.value)

    def length(self, tr: Tracer) -> int:
        try:
            return len(self.value)
        except TypeError as error:
            raise tr.observe(error) from None

    def iterate(self, tr: Tracer) -> Value:
        try:
            items = [tr.constant(v) for v in self.value]
        except TypeError as error:
            raise tr.observe(error) from None
        return tr.iterator(items)

    def rebuild(self, out: Rebuilder) -> str:
        return out.literal(self.value)


class OutsideConst(Const):
    """A constant from outside: its guard is added when the trace first looks at it, so passing it on costs nothing."""

    def __init__(self, raw: Any, source: Source, tr: Tracer) -> None:
        self._raw, self.source, self._tr = raw, source, tr
        self.looked = False

    @property
    def raw(self) -> Any:
        """The object, not looked at."""
        return self._raw

    @property
    def value(self) -> Any:                                       # type: ignore[override]
        if not self.looked:
            self.looked = True
            assert self.source is not None
            self._tr.guard_equal(self.source, self._raw)
        return self._raw

    def pytype(self) -> type:
        if self.looked or type(self._raw) is not float:
            return super().pytype()
        assert self.source is not None
        self._tr.guard(self.source, is_type(float))               # a float that changes is asked for its type only
        return float

    def __repr__(self) -> str:
        return f"OutsideConst({self.source})"


NONE, TRUE, FALSE = Const(None), Const(True), Const(False)
ZERO, ONE, LAST, NO_TEXT = Const(0), Const(1), Const(-1), Const("")


class SymValue(Value):
    """A Python int that is symbolic: a size of a dynamic dimension, or an int argument that changes between calls."""

    def __init__(self, value: Any, source: Source | None = None) -> None:
        self.value, self.source = value, source

    def __repr__(self) -> str:
        return f"Sym({self.value})"

    def pytype(self) -> type:
        return int

    def as_python(self, tr: Tracer) -> Any:
        return self.value

    def truth(self, tr: Tracer) -> bool:
        return bool(self.value != 0)

    def getattr(self, tr: Tracer, name: str) -> Value:
        if name in ("real", "numerator"):
            return self
        if name in ("imag", "denominator"):
            return Const(0 if name == "imag" else 1)
        if not hasattr(int, name):
            raise tr.observe(AttributeError(f"'int' object has no attribute '{name}'"))
        return tr.bound_builtin(self, name)

    def rebuild(self, out: Rebuilder) -> str:
        return out.symbol(self.value)


class ScalarValue(Value):
    """A Python float that changes between calls: an expression over outside floats, computed when the entry runs.

    Asking for its value pins it: the floats it comes from are guarded to be what they are now.
    """

    def __init__(self, hint: float, template: str, parts: list[Value], source: Source | None = None) -> None:
        self.hint, self.template, self.parts, self.source = hint, template, parts, source

    def __repr__(self) -> str:
        return f"Scalar({self.hint})"

    def pytype(self) -> type:
        return float

    def pin(self, tr: Tracer) -> float:
        if self.source is not None:
            tr.guard_equal(self.source, self.hint)
        for part in self.parts:
            if isinstance(part, SymValue):
                tr.index(part)
            else:
                part.as_python(tr)
        return self.hint

    def as_python(self, tr: Tracer) -> Any:
        return self.pin(tr)

    def truth(self, tr: Tracer) -> bool:
        return tr.truth(tr.compare("!=", self, ZERO))

    def getattr(self, tr: Tracer, name: str) -> Value:
        return Const(self.pin(tr)).getattr(tr, name)

    def children(self) -> Iterator[Value]:
        return iter(self.parts)

    def rebuild(self, out: Rebuilder) -> str:
        texts = [out.expr(p) for p in self.parts]
        return self.template.format(*(f"({t})" if t.startswith("-") else t for t in texts))


# Methods that ask for the elements of a tensor.
NEEDS_DATA = {"item", "tolist", "numpy", "data_ptr", "__array__", "__bool__", "__int__", "__float__", "__index__",
              "__complex__", "__format__"}

# Methods that run or change the tape (see `tape`).
TAPE_METHODS = {"backward", "register_hook", "requires_grad_", "retain_grad"}


# Methods that make a tensor a view of what it was.
TURNED_METHODS = {"squeeze_", "unsqueeze_", "transpose_", "swapaxes_", "swapdims_", "t_"}

LAYOUT_METHODS = ("is_contiguous", "stride", "storage_offset")


class TensorValue(Value):
    """A tensor: a node of the graph. `cls` is the real class (Tensor, Parameter)."""

    def __init__(self, tensor: TensorLike, cls: type, source: Source | None = None, raw: Any = None) -> None:
        self.tensor, self.cls, self.source, self.raw = tensor, cls, source, raw

    def __repr__(self) -> str:
        return f"Tensor({self.tensor!r})"

    def pytype(self) -> type:
        return self.cls

    def as_python(self, tr: Tracer) -> Any:
        return self.tensor if tr.transform is None else tr.recorder.dressed(self.tensor)

    def getattr(self, tr: Tracer, name: str) -> Value:
        return tr.tensor_getattr(self, name)

    def setattr(self, tr: Tracer, name: str, value: Value) -> None:
        tr.tensor_setattr(self, name, value)

    def method(self, tr: Tracer, name: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
        if name in NEEDS_DATA:
            raise Unsupported("data-dependent", f"Tensor.{name}() needs the data of a tensor",
                              "keep it a tensor, or move this line out of the compiled function")
        if name == "size" and not args and not kwargs:
            return self.getattr(tr, "shape")
        if name in LAYOUT_METHODS:
            return tr.layout_method(self, name, args, kwargs)
        if name == "view":
            tr.check_view(self, args)
        if name == "contiguous" and not args and not kwargs and tr.is_known_contiguous(self):
            return self
        if name in TAPE_METHODS:
            return tr.tape.method(self, name, args, kwargs)
        found = getattr(type(self.tensor), name, None)
        if found is None and name in TURNED_METHODS:
            return tr.turn(self, name[:-1], args, kwargs)
        if found is None:
            raise Unsupported("tensor-attribute", f"Tensor.{name}() is called, which a graph does not record")
        return tr.call_pure(found, [self, *args], kwargs)

    def getitem(self, tr: Tracer, key: Value) -> Value:
        tr.depend_on_operator(self, "__getitem__")
        return tr.call_pure(operator.getitem, [self, key], {})

    def setitem(self, tr: Tracer, key: Value, value: Value) -> None:
        tr.depend_on_operator(self, "__setitem__")
        tr.call_pure(operator.setitem, [self, key, value], {})

    def contains(self, tr: Tracer, item: Value) -> bool:
        raise Unsupported("data-dependent", "`in` on a tensor needs the tensor's data",
                          "compute the test with tensor operations, such as `(t == v).any()`")

    def truth(self, tr: Tracer) -> bool:
        raise Unsupported("data-dependent", "a branch depends on the data of a tensor",
                          "use where(), or mark the branch as data with cond()")

    def length(self, tr: Tracer) -> int:
        tr.depend_on_operator(self, "__len__")
        return self.tensor.shape[0] if self.tensor.shape else tr.call_host(len, self.tensor)

    def iterate(self, tr: Tracer) -> Value:
        tr.depend_on_operator(self, "__iter__")
        if not self.tensor.shape:
            raise tr.observe(TypeError("iteration over a 0-d tensor"))
        rows = tr.call_pure(self.tensor.unbind, [Const(0)], {})
        return tr.iterator(tr.unpack(rows))

    def rebuild(self, out: Rebuilder) -> str:
        text, stored = out.tensor(self), out.tr.tensor_attrs.get(id(self))
        if not stored:
            return text
        name = out.variable(text)
        out.remember(self, name)
        for attribute, value in stored.items():
            out.later(functools.partial(_store, out, f"{name}.{attribute}", value))
        return name


def _store(out: Rebuilder, target: str, value: Value) -> None:
    out.line(f"{target} = {out.expr(value)}")

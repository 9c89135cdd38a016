"""User objects, classes, Python modules, `super()`, exceptions: Python's attribute protocol over symbolic values."""
from __future__ import annotations

import enum
import functools
import operator
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace import guards as g
from flambeau.frontend.trace.callables import BoundBuiltin, BoundMethod, BuiltinValue
from flambeau.frontend.trace.finalizers import refuse_finalizer
from flambeau.frontend.trace.mappings import InstanceDict
from flambeau.frontend.trace.said import error_of, is_iterable, lack_error
from flambeau.frontend.trace.sequences import HostIterator, ListValue, TupleValue
from flambeau.frontend.trace.source import Attr, ClassItem, Constant, Item, Namespace, Source
from flambeau.frontend.trace.trust import (
    MISSING,
    can_change,
    depend_on_fact,
    depend_on_lookup,
    find,
    is_data_descriptor,
    mro_lookup,
    part_of,
    stored_or_found,
)
from flambeau.frontend.trace.values import Const, Observed, OutsideConst, Unsupported, Value

if TYPE_CHECKING:
    from flambeau.frontend.trace.effects import Rebuilder
    from flambeau.frontend.trace.interp import Tracer


def class_attribute(tr: Tracer, owner: type, name: str, found: Any) -> Value:
    """The value of a plain class attribute, guarded against being replaced."""
    base = Constant(owner, owner.__name__)
    source: Source = Attr(base, name) if isinstance(found, types.FunctionType) else ClassItem(base, name)
    return tr.wrap(found, source)


def bind_attribute(tr: Tracer, owner: type, name: str, found: Any, instance: Value | None, cls: Value) -> Value:
    """What access to class attribute `found` gives on an instance (None: on the class itself)."""
    at = ClassItem(Constant(owner, owner.__name__), name)
    if isinstance(found, Value):                                  # stored by the trace
        return found
    if isinstance(found, types.FunctionType):
        function = class_attribute(tr, owner, name, found)
        return function if instance is None else BoundMethod(function, instance)
    if isinstance(found, staticmethod):
        return tr.wrap(found.__func__, Attr(at, "__func__"))
    if isinstance(found, classmethod):
        return BoundMethod(tr.wrap(found.__func__, Attr(at, "__func__")), cls)
    if instance is None:
        if isinstance(found, property):
            return BuiltinValue(found)
        getter = part_of(tr, found, "__get__")
        if not isinstance(getter, types.FunctionType) or isinstance(found, functools.cached_property):
            return class_attribute(tr, owner, name, found)
        return tr.call(tr.wrap(getter, Attr(Constant(type(found), type(found).__name__), "__get__")),
                       [class_attribute(tr, owner, name, found), Const(None), cls], {})
    if isinstance(found, property):
        if found.fget is None:
            raise tr.observe(AttributeError(f"property '{name}' has no getter"))
        return tr.call(tr.wrap(found.fget, Attr(at, "fget")), [instance], {})
    if isinstance(found, functools.cached_property):
        value = tr.call(tr.wrap(found.func, Attr(at, "func")), [instance], {})
        instance.store(tr, name, value)                                     # type: ignore[attr-defined]
        return value
    if isinstance(found, (types.MethodDescriptorType, types.WrapperDescriptorType, types.BuiltinFunctionType,
                          types.ClassMethodDescriptorType)):
        return BoundBuiltin(instance, name)
    getter = part_of(tr, found, "__get__")
    if getter is not None:
        if isinstance(getter, types.FunctionType):
            return tr.call(tr.wrap(getter, Attr(Constant(type(found), type(found).__name__), "__get__")),
                           [class_attribute(tr, owner, name, found), instance, cls], {})
        if getattr(found, "__flambeau_pure__", False):
            return BoundMethod(BuiltinValue(found), instance)
        raise Unsupported("descriptor", f"{owner.__name__}.{name} is a {type(found).__name__}")
    return class_attribute(tr, owner, name, found)


def generic_getattr(tr: Tracer, value: Value, name: str) -> Value:
    """Attributes of values of built-in types: methods, and the class."""
    cls = value.pytype()
    if name == "__class__":
        return tr.class_value(cls)
    owner, found = find(tr, cls, name)
    if found is MISSING:
        raise tr.observe(AttributeError(f"'{cls.__name__}' object has no attribute '{name}'"))
    if isinstance(found, (types.FunctionType, property, classmethod, staticmethod)):
        assert owner is not None
        return bind_attribute(tr, owner, name, found, value, tr.class_value(cls))
    if callable(found):
        return BoundBuiltin(value, name)
    if name == "__doc__":
        return tr.constant(cls.__doc__)
    if owner is not None and owner.__flags__ & 1 << 9 and not hasattr(type(found), "__get__"):
        return class_attribute(tr, owner, name, found)
    raise Unsupported("attribute", f"attribute {name!r} of a {cls.__name__} is read")


def member_attribute(tr: Tracer, member: Const, name: str) -> Value | None:
    """A method or property that the program gave its enum class; None for anything else."""
    owner, found = find(tr, type(member.value), name)
    function = found.fget if type(found) is property else found
    if owner is None or not isinstance(function, (types.FunctionType, classmethod, staticmethod)) or not can_change(owner):
        return _member_data(tr, member, name)
    return bind_attribute(tr, owner, name, found, member, tr.class_value(type(member.value)))


def _member_data(tr: Tracer, member: Const, name: str) -> Value | None:
    """What a program gave a member of an enum."""
    raw, space = member.value, vars(member.value)
    at = member.source or Constant(raw, str(raw))
    if name in space and not name.startswith("_"):
        return tr.wrap(space[name], Attr(at, name))
    if name == "value" and find(tr, type(raw), name)[0] is enum.Enum:
        value, where = raw._value_, Attr(at, "_value_")
        return OutsideConst(value, where, tr) if type(value) in (int, float, str, bool) else tr.wrap(value, where)
    if not hasattr(raw, name):
        tr.guard(at, g.lacks(name))
    return None


class ClassValue(Value):
    """A class from outside."""

    def __init__(self, raw: type, source: Source | None = None) -> None:
        self.raw, self.source = raw, source

    def __repr__(self) -> str:
        return f"Class({self.raw.__name__})"

    def pytype(self) -> type:
        return type(self.raw)

    @property
    def label(self) -> str:
        return self.raw.__name__

    def as_python(self, tr: Tracer) -> Any:
        return self.raw

    def truth(self, tr: Tracer) -> bool:
        return True

    def getattr(self, tr: Tracer, name: str) -> Value:
        if name in ("__name__", "__qualname__", "__module__", "__doc__"):
            return depend_on_fact(tr, self.raw, name, getattr(self.raw, name))
        if name == "__class__":
            return tr.class_value(type(self.raw))
        if name == "__dict__":                       # of the class, not what its instances find under this name
            raise Unsupported("attribute", f"the namespace of the class {self.raw.__name__} is asked",
                              "use hasattr() or getattr() on the class")
        if name in ("__mro__", "__bases__"):
            return TupleValue(tr.class_value(c) for c in getattr(self.raw, name))
        getter = self.meta_method(tr, "__getattribute__")
        try:
            return self.default_getattr(tr, name) if getter is None else tr.call(getter, [Const(name)], {})
        except Observed as error:
            fallback = self.meta_method(tr, "__getattr__")
            if fallback is None or not issubclass(error.value.pytype(), AttributeError):
                raise
            return tr.call(fallback, [Const(name)], {})

    def default_getattr(self, tr: Tracer, name: str) -> Value:
        """`type.__getattribute__`."""
        if can_change(type(self.raw)):                            # another metaclass may be assigned
            tr.guards.add(Constant(self.raw, self.raw.__name__), *g.is_type(type(self.raw)), tr.where)
        meta, said = find(tr, type(self.raw), name)
        if meta is not None and meta is not type and is_data_descriptor(tr, said):
            return bind_attribute(tr, meta, name, said, self, tr.class_value(type(self.raw)))
        if meta is not None and can_change(meta):
            tr.guard(ClassItem(Constant(meta, meta.__name__), name), g.is_type(type(said)))
        owner, found = find(tr, self.raw, name)
        if owner is None:
            if meta is None:
                raise tr.observe(AttributeError(f"type object '{self.raw.__name__}' has no attribute '{name}'"))
            return bind_attribute(tr, meta, name, said, self, tr.class_value(type(self.raw)))
        if isinstance(found, (types.MethodDescriptorType, types.WrapperDescriptorType, types.BuiltinFunctionType)):
            return BuiltinValue(getattr(self.raw, name))
        if isinstance(found, types.ClassMethodDescriptorType):
            bound = getattr(self.raw, name)
            return BuiltinValue(bound) if tr.knows_builtin(bound) else BoundBuiltin(self, name)
        return bind_attribute(tr, owner, name, found, None, self)

    def setattr(self, tr: Tracer, name: str, value: Value) -> None:
        """Data of the program's classes may change; a function or descriptor would change what everything else means."""
        _, found = mro_lookup(self.raw.__mro__, name)
        if type(self.raw) is not type or not can_change(self.raw) or name.startswith("__") or self.source is None \
                or hasattr(type(found), "__get__") or hasattr(value.pytype(), "__get__"):
            raise Unsupported("class-store", f"attribute {name!r} of the class {self.raw.__name__} is assigned",
                              "keep state on instances")
        tr.effects.touch(self)
        tr.class_stores[self.raw, name] = value

    def replay(self, out: Rebuilder, target: str) -> list[str]:
        """The stores to the class."""
        return [f"{target}.{name} = {out.expr(v)}" for (cls, name), v in out.tr.class_stores.items() if cls is self.raw]

    # ---- what the metaclass says

    def meta_method(self, tr: Tracer, name: str) -> Value | None:
        """A special method of the class itself, bound, if its metaclass defines it in Python."""
        owner, found = find(tr, type(self.raw), name)
        if owner is None or not isinstance(found, types.FunctionType):
            return None
        return BoundMethod(class_attribute(tr, owner, name, found), self)

    def iterate(self, tr: Tracer) -> Value:
        if issubclass(self.raw, enum.Enum):
            return tr.iterator([tr.constant(m) for m in self.raw])
        method = self.meta_method(tr, "__iter__")
        return super().iterate(tr) if method is None else tr.call(method, [], {})

    def length(self, tr: Tracer) -> int:
        method = self.meta_method(tr, "__len__")
        if method is None:
            raise tr.observe(TypeError(f"object of type '{type(self.raw).__name__}' has no len()"))
        return tr.index(tr.call(method, [], {}))                  # type: ignore[no-any-return]

    def contains(self, tr: Tracer, item: Value) -> bool:
        method = self.meta_method(tr, "__contains__")
        return super().contains(tr, item) if method is None else tr.truth(tr.call(method, [item], {}))

    def getitem(self, tr: Tracer, key: Value) -> Value:
        cls: Any = self.raw
        method = None if issubclass(cls, enum.Enum) else self.meta_method(tr, "__getitem__")
        owner, own = (None, None) if method is not None else find(tr, self.raw, "__class_getitem__")
        if owner is not None and can_change(owner) and isinstance(own, classmethod):
            method = bind_attribute(tr, owner, "__class_getitem__", own, None, self)
        return tr.fold(lambda k: cls[k], [key], {}) if method is None else tr.call(method, [key], {})

    def call(self, tr: Tracer, args: list[Value], kwargs: dict[str, Value]) -> Value:
        if tr.knows_builtin(self.raw):
            return tr.call_builtin(self.raw, args, kwargs)
        return instantiate(tr, self, args, kwargs)

    def m___getattribute__(self, tr: Tracer, name: Value) -> Value:
        return self.default_getattr(tr, tr.index_key(name))

    def m___call__(self, tr: Tracer, *args: Value, **kwargs: Value) -> Value:
        return construct(tr, self, list(args), kwargs)

    def rebuild(self, out: Rebuilder) -> str:
        return out.constant(self.raw)


def instantiate(tr: Tracer, cls: ClassValue, args: list[Value], kwargs: dict[str, Value]) -> Value:
    """`cls(*args, **kwargs)` for a class written in Python (or an exception class)."""
    raw = cls.raw
    meta, maker = find(tr, type(raw), "__call__")
    if meta is not type:
        if not isinstance(maker, types.FunctionType) or meta is None:
            raise Unsupported("construct", f"{raw.__name__} is constructed by its metaclass {type(raw).__name__}")
        return tr.call(class_attribute(tr, meta, "__call__", maker), [cls, *args], kwargs)
    return construct(tr, cls, args, kwargs)


def construct(tr: Tracer, cls: ClassValue, args: list[Value], kwargs: dict[str, Value]) -> Value:
    """`type.__call__`."""
    raw = cls.raw
    refuse_finalizer(raw)
    if issubclass(raw, tuple) and hasattr(raw, "_fields") and raw.__init__ is object.__init__:
        return _namedtuple(tr, raw, args, kwargs)
    new_owner, new = find(tr, raw, "__new__")
    if issubclass(raw, BaseException) and not isinstance(new, (staticmethod, types.FunctionType)):
        instance: Value = ObjectValue(raw, args=list(args))
    elif new_owner is object:
        _refuse_abstract(tr, raw)
        instance = ObjectValue(raw)
    elif isinstance(new, (staticmethod, types.FunctionType)):
        assert new_owner is not None
        function = new.__func__ if isinstance(new, staticmethod) else new
        at = Attr(ClassItem(Constant(new_owner, new_owner.__name__), "__new__"), "__func__") \
            if isinstance(new, staticmethod) else ClassItem(Constant(new_owner, new_owner.__name__), "__new__")
        instance = tr.call(tr.wrap(function, at), [cls, *args], kwargs)
    else:
        made = tr.object_with_contents(raw, args)
        if made is None:
            raise Unsupported("construct", f"an object of the class {raw.__name__} is made by C code",
                              "make it outside the compiled function")
        instance = made
    if not issubclass(instance.pytype(), raw):
        return instance
    init_owner, init = find(tr, raw, "__init__")
    if isinstance(init, types.FunctionType):
        assert init_owner is not None
        tr.call(class_attribute(tr, init_owner, "__init__", init), [instance, *args], kwargs)
    elif isinstance(init, types.WrapperDescriptorType) and init_owner is not object and not issubclass(raw, BaseException):
        instance.method(tr, "__init__", args, kwargs)
    elif init_owner is object and new_owner is object and (args or kwargs):
        raise tr.observe(TypeError(f"{raw.__name__}() takes no arguments"))
    return instance


def _refuse_abstract(tr: Tracer, cls: type) -> None:
    """What `object.__new__` says of a class that lacks methods."""
    if cls.__flags__ & (1 << 20):
        tr.guard(Attr(Constant(cls, cls.__name__), "__abstractmethods__"), g.equals(cls.__abstractmethods__))    # type: ignore[attr-defined]
        missing = ", ".join(sorted(cls.__abstractmethods__))          # type: ignore[attr-defined]
        raise tr.observe(TypeError(f"Can't instantiate abstract class {cls.__name__} without an implementation for {missing}"))


def _namedtuple(tr: Tracer, raw: Any, args: list[Value], kwargs: dict[str, Value]) -> Value:
    items = dict(zip(raw._fields, args))
    items.update(kwargs)
    if set(items) < set(raw._fields):
        new, at = raw.__dict__["__new__"], ClassItem(Constant(raw, raw.__name__), "__new__")
        given = Attr(Attr(at, "__func__") if isinstance(new, staticmethod) else at, "__defaults__")
        defaults = tr.wrap(raw.__new__.__defaults__, given)
        known = tr.unpack(defaults) if isinstance(defaults, TupleValue) else []
        items = {**dict(zip(raw._fields[len(raw._fields) - len(known):], known)), **items}
    if len(args) > len(raw._fields) or set(items) != set(raw._fields):
        raise tr.observe(error_of(raw, *[None] * len(args), **dict.fromkeys(kwargs)) or TypeError(raw.__name__))
    return TupleValue([items[n] for n in raw._fields], raw)


def answers_itself(cls: type) -> bool:
    """Whether the program's own code runs when an attribute of an object of the class is read."""
    return isinstance(mro_lookup(cls.__mro__, "__getattribute__")[1], types.FunctionType)


def namespace_of(raw: Any) -> dict[str, Any] | None:
    """An object's own attributes, without running code of the program."""
    if not answers_itself(type(raw)):
        return getattr(raw, "__dict__", None)
    try:
        return object.__getattribute__(raw, "__dict__")
    except AttributeError:
        return None


class ObjectValue(Value):
    """An instance of a class written in Python: one from outside (`raw`), or one made in the trace.

    `attrs` holds what the trace stored (None: deleted), `read` what it has read from the real object.
    """

    mutable = True

    def __init__(self, cls: type, raw: Any = None, source: Source | None = None, args: list[Value] | None = None
                 ) -> None:
        self.cls, self.raw, self.source, self.args = cls, raw, source, args
        self.attrs: dict[str, Value | None] = {}
        self.read: dict[str, Value | None] = {}

    def __repr__(self) -> str:
        return f"Object({self.cls.__name__})"

    def pytype(self) -> type:
        return self.cls

    @property
    def label(self) -> str:
        return self.cls.__name__

    def children(self) -> Iterator[Value]:
        yield from (v for v in self.attrs.values() if v is not None)
        yield from self.args or ()

    # ---- own attributes

    def own_attribute(self, tr: Tracer, name: str) -> Value | None:
        """The instance's own attribute, or None."""
        if name in self.attrs:
            return self.attrs[name]
        if self.raw is None:
            return None
        if name not in self.read:
            space = namespace_of(self.raw)
            if space is not None and name in space:
                self.read[name] = tr.wrap(space[name], self._at(name))
            else:
                if space is not None and answers_itself(self.cls):
                    tr.guard(self._namespace(), g.contains(name, False))
                elif space is not None:
                    tr.guard_absent(self.source, name)
                self.read[name] = None
        return self.read[name]

    def _at(self, name: str) -> Source:
        """Where an own attribute is read: plain access unless a data descriptor of the class would answer instead."""
        assert self.source is not None
        kind = type(mro_lookup(self.cls.__mro__, name)[1])
        if hasattr(kind, "__set__") or hasattr(kind, "__delete__") or answers_itself(self.cls):
            return Item(self._namespace(), name)
        return Attr(self.source, name)

    def _namespace(self) -> Source:
        assert self.source is not None
        return Namespace(self.source) if answers_itself(self.cls) else Attr(self.source, "__dict__")

    def has_really(self, name: str) -> bool:
        """Whether the real object has the attribute itself."""
        space = namespace_of(self.raw) or {}
        return name in space or (name not in space and isinstance(
            mro_lookup(self.cls.__mro__, name)[1], types.MemberDescriptorType) and hasattr(self.raw, name))

    def own_names(self, tr: Tracer) -> list[str]:
        names: list[str] = []
        if self.raw is not None:
            space = namespace_of(self.raw)
            names = list(space or ())
            if space is not None:
                tr.guard(self._namespace(), g.has_keys(names))
        names += [n for n in self.attrs if n not in names
                  and not isinstance(mro_lookup(self.cls.__mro__, n)[1], types.MemberDescriptorType)]
        return [n for n in names if self.attrs.get(n, MISSING) is not None]

    def store(self, tr: Tracer, name: str, value: Value | None) -> None:
        """Set (None: delete) an own attribute, past any `__setattr__`."""
        if not self.cls.__dictoffset__ and not isinstance(mro_lookup(self.cls.__mro__, name)[1], types.MemberDescriptorType):
            error = error_of(lambda: object.__setattr__(object.__new__(self.cls), name, None))
            if not isinstance(error, AttributeError):
                raise Unsupported("attribute-store", f"attribute {name!r} of a {self.cls.__name__} is set by C code")
            raise tr.observe(error)
        if self.raw is not None:
            tr.effects.touch(self)
        if name in self.attrs and self.attrs[name] is None:
            del self.attrs[name]                 # a deleted and re-added name moves to the end
        self.attrs[name] = value

    # ---- the attribute protocol

    def getattr(self, tr: Tracer, name: str) -> Value:
        owner, override = find(tr, self.cls, "__getattribute__")
        if isinstance(override, types.FunctionType):
            assert owner is not None
            return tr.call(class_attribute(tr, owner, "__getattribute__", override), [self, Const(name)], {})
        try:
            return self.default_getattr(tr, name)
        except Observed as error:
            owner, fallback = find(tr, self.cls, "__getattr__")
            if owner is None or not issubclass(error.value.pytype(), AttributeError):
                raise
            return tr.call(class_attribute(tr, owner, "__getattr__", fallback), [self, Const(name)], {})

    def default_getattr(self, tr: Tracer, name: str) -> Value:
        """`object.__getattribute__`."""
        if name == "__class__":
            return tr.class_value(self.cls)
        if name == "__dict__":
            return InstanceDict(self)
        if self.args is not None and name == "args":
            return TupleValue(self.args)
        if issubclass(self.cls, BaseException) and name in ("__traceback__", "__cause__", "__context__"):
            return self.attrs.get(name) or Const(None)
        if issubclass(self.cls, BaseException) and name == "__suppress_context__":
            return self.attrs.get(name) or Const("__cause__" in self.attrs)
        owner, found = stored_or_found(tr, self.cls.__mro__, name)
        if isinstance(found, types.MemberDescriptorType):
            return self._slot(tr, name) if self.args is None or owner is None or can_change(owner) else self._of_exception(name)
        if owner is not None and not isinstance(found, functools.cached_property) and is_data_descriptor(tr, found) \
                and part_of(tr, found, "__get__") is not None:
            depend_on_lookup(tr, self.cls.__mro__, name, owner)
            if isinstance(found, types.GetSetDescriptorType):
                raise Unsupported("attribute", f"attribute {name!r} of a {self.cls.__name__} is computed by C code")
            return bind_attribute(tr, owner, name, found, self, tr.class_value(self.cls))
        own = self.own_attribute(tr, name)
        if own is not None:                      # fetched by plain access: a descriptor that comes later would be seen
            return own
        depend_on_lookup(tr, self.cls.__mro__, name, owner)
        if owner is not None:
            return bind_attribute(tr, owner, name, found, self, tr.class_value(self.cls))
        raise tr.observe(AttributeError(f"'{self.cls.__name__}' object has no attribute '{name}'"))

    def _of_exception(self, name: str) -> Value:
        """What C code makes of an exception's arguments."""
        args = self.args or []
        if (name, issubclass(self.cls, StopIteration)) == ("value", True):
            return args[0] if args else Const(None)
        raise Unsupported("attribute", f"attribute {name!r} of a {self.cls.__name__} is computed by C code")

    def _slot(self, tr: Tracer, name: str) -> Value:
        if name in self.attrs:
            found = self.attrs[name]
        elif self.raw is not None:
            found = self.read.get(name)
            if found is None and hasattr(self.raw, name):
                assert self.source is not None
                found = self.read[name] = tr.wrap(getattr(self.raw, name), Attr(self.source, name))
            elif found is None:
                raise Unsupported("attribute", f"slot {name!r} of a {self.cls.__name__} is empty")
        else:
            found = None
        if found is None:
            raise tr.observe(AttributeError(f"'{self.cls.__name__}' object has no attribute '{name}'"))
        return found

    def setattr(self, tr: Tracer, name: str, value: Value) -> None:
        owner, override = find(tr, self.cls, "__setattr__")
        if isinstance(override, types.FunctionType):
            assert owner is not None
            tr.call(class_attribute(tr, owner, "__setattr__", override), [self, Const(name), value], {})
        else:
            self.default_setattr(tr, name, value)

    def default_setattr(self, tr: Tracer, name: str, value: Value) -> None:
        """`object.__setattr__`."""
        owner, found = find(tr, self.cls, name)
        if isinstance(found, property):
            if found.fset is None:
                raise tr.observe(AttributeError(f"property '{name}' of '{self.cls.__name__}' object has no setter"))
            at = Attr(ClassItem(Constant(owner, self.cls.__name__), name), "fset")
            tr.call(tr.wrap(found.fset, at), [self, value], {})
        elif owner is not None and is_data_descriptor(tr, found) and \
                not isinstance(found, (types.MemberDescriptorType, functools.cached_property)):
            setter = type(found).__set__
            if not isinstance(setter, types.FunctionType) or owner is None:
                raise Unsupported("attribute-store", f"attribute {name!r} of a {self.cls.__name__} is set by C code")
            tr.call(tr.wrap(setter, Attr(Constant(type(found), type(found).__name__), "__set__")),
                    [class_attribute(tr, owner, name, found), self, value], {})
        elif name in ("__class__", "__dict__"):
            raise Unsupported("attribute-store", f"{name} of an object is assigned")
        else:
            self.store(tr, name, value)

    def delattr(self, tr: Tracer, name: str) -> None:
        owner, override = find(tr, self.cls, "__delattr__")
        if isinstance(override, types.FunctionType):
            assert owner is not None
            tr.call(class_attribute(tr, owner, "__delattr__", override), [self, Const(name)], {})
        else:
            self.default_delattr(tr, name)

    def default_delattr(self, tr: Tracer, name: str) -> None:
        owner, found = find(tr, self.cls, name)
        if owner is not None and is_data_descriptor(tr, found) and not isinstance(found, types.MemberDescriptorType):
            deleter = found.fdel if isinstance(found, property) else getattr(type(found), "__delete__", None)
            if not isinstance(deleter, types.FunctionType):
                raise Unsupported("attribute-store", f"attribute {name!r} of a {self.cls.__name__} is deleted by a descriptor")
            at = ClassItem(Constant(owner, owner.__name__), name)
            if isinstance(found, property):
                tr.call(tr.wrap(deleter, Attr(at, "fdel")), [self], {})
            else:
                tr.call(tr.wrap(deleter, Attr(Constant(type(found), type(found).__name__), "__delete__")),
                        [class_attribute(tr, owner, name, found), self], {})
            return
        if self.own_attribute(tr, name) is None:
            raise tr.observe(AttributeError(f"'{self.cls.__name__}' object has no attribute '{name}'"))
        self.store(tr, name, None)

    # ---- operators, through the class

    def dunder(self, tr: Tracer, name: str) -> Value | None:
        """The special method `name`, bound, if the class defines it in Python."""
        owner, found = find(tr, self.cls, name)
        if owner is None or owner is object or found is None:
            return None
        return bind_attribute(tr, owner, name, found, self, tr.class_value(self.cls))

    def _must(self, tr: Tracer, name: str, args: list[Value], kwargs: dict[str, Value] | None = None) -> Value:
        method = self.dunder(tr, name)
        if method is None:
            raise tr.observe(lack_error(self, name))
        return tr.call(method, args, kwargs or {})

    def call(self, tr: Tracer, args: list[Value], kwargs: dict[str, Value]) -> Value:
        return self._must(tr, "__call__", args, kwargs)

    def getitem(self, tr: Tracer, key: Value) -> Value:
        return self._must(tr, "__getitem__", [key])

    def setitem(self, tr: Tracer, key: Value, value: Value) -> None:
        self._must(tr, "__setitem__", [key, value])

    def delitem(self, tr: Tracer, key: Value) -> None:
        self._must(tr, "__delitem__", [key])

    def contains(self, tr: Tracer, item: Value) -> bool:
        if self.dunder(tr, "__contains__") is None:
            if not is_iterable(self):
                raise tr.observe(lack_error(self, "__contains__"))
            return super().contains(tr, item)
        return tr.truth(self._must(tr, "__contains__", [item]))

    def truth(self, tr: Tracer) -> bool:
        for name in ("__bool__", "__len__"):
            method = self.dunder(tr, name)
            if method is not None:
                answer = tr.call(method, [], {})
                if name == "__bool__" and answer.pytype() is not bool:
                    raise tr.observe(TypeError(f"__bool__ should return bool, returned {answer.pytype().__name__}"))
                if name == "__len__" and isinstance(answer, Const):
                    self._counted(tr, answer)
                return tr.truth(answer)
        return True

    def length(self, tr: Tracer) -> Any:
        return self._counted(tr, self._must(tr, "__len__", []))

    def _counted(self, tr: Tracer, answer: Value) -> Any:
        """What `__len__` has returned, as a length."""
        if isinstance(answer, Const) and not hasattr(answer.value, "__index__"):
            raise tr.observe(error_of(operator.index, answer.value) or TypeError("index"))
        found = tr.index(answer)
        if found < 0:
            raise tr.observe(ValueError("__len__() should return >= 0"))
        return found

    def iterate(self, tr: Tracer) -> Value:
        if self.dunder(tr, "__iter__") is not None:
            return self._must(tr, "__iter__", [])
        if self.dunder(tr, "__getitem__") is not None:
            return HostIterator(self._by_index(tr), type(iter([])))
        raise tr.observe(lack_error(self, "__iter__"))

    def _by_index(self, tr: Tracer) -> Iterator[Value]:
        k = 0
        while True:
            try:
                yield self.getitem(tr, Const(k))
            except Observed as error:
                if issubclass(error.value.pytype(), IndexError):
                    return
                raise
            k += 1

    def next(self, tr: Tracer) -> Value | None:
        try:
            return self._must(tr, "__next__", [])
        except Observed as error:
            if issubclass(error.value.pytype(), StopIteration):
                return None
            raise

    # ---- methods of `object` (and of exceptions)

    def m___setattr__(self, tr: Tracer, name: Value, value: Value) -> None:
        self.default_setattr(tr, tr.index_key(name), value)

    def m___delattr__(self, tr: Tracer, name: Value) -> None:
        self.default_delattr(tr, tr.index_key(name))

    def m___getattribute__(self, tr: Tracer, name: Value) -> Value:
        return self.default_getattr(tr, tr.index_key(name))

    def m___init__(self, tr: Tracer, *args: Value, **kwargs: Value) -> None:
        if self.args is not None:
            self.args = list(args)
        elif args or kwargs:                             # `object.__init__`
            if mro_lookup(self.cls.__mro__, "__init__")[0] is not object:
                raise tr.observe(TypeError("object.__init__() takes exactly one argument (the instance to initialize)"))
            if mro_lookup(self.cls.__mro__, "__new__")[0] is object:
                raise tr.observe(TypeError(f"{self.cls.__name__}() takes no arguments"))

    def m___init_subclass__(self, tr: Tracer) -> None:
        return None

    def m___eq__(self, tr: Tracer, other: Value) -> Value:
        self._of_object(tr, "__eq__")
        return Const(True) if other is self else Const(NotImplemented)

    def _of_object(self, tr: Tracer, name: str) -> None:
        """Identity decides only where the comparison is that of `object`."""
        owner, found = mro_lookup(self.cls.__mro__, name)
        if owner is not object and isinstance(found, types.WrapperDescriptorType):
            raise Unsupported("operator", f"{name} of a {self.cls.__name__} is written in C")

    def m___ne__(self, tr: Tracer, other: Value) -> Value:
        self._of_object(tr, "__ne__")
        if isinstance(mro_lookup(self.cls.__mro__, "__eq__")[1], types.FunctionType):         # the opposite of what that says
            answer = tr.call(self.getattr(tr, "__eq__"), [other], {})
            same = isinstance(answer, Const) and answer.value is NotImplemented
            return answer if same else Const(not tr.truth(answer))
        return Const(False) if other is self else Const(NotImplemented)

    def m_with_traceback(self, tr: Tracer, tb: Value) -> Value:
        return self

    def m_add_note(self, tr: Tracer, note: Value) -> None:
        if self.args is None:
            raise Unsupported("builtin-method", f"{self.cls.__name__}.add_note is called")
        self.attrs["__notes__"] = notes = self.attrs.get("__notes__") or ListValue([])
        notes.method(tr, "append", [note], {})

    def replay(self, out: Rebuilder, target: str) -> list[str]:
        setter, deleter = out.constant(object.__setattr__), out.constant(object.__delattr__)
        return [f"{deleter}({target}, {n!r})" if v is None else f"{setter}({target}, {n!r}, {out.expr(v)})"
                for n, v in self.attrs.items() if (self.has_really(n) if v is None else v is not self.read.get(n))]

    def rebuild(self, out: Rebuilder) -> str:
        made = ", ".join([out.constant(self.cls), *(out.expr(a) for a in self.args or ())])
        name = out.variable(f"{out.constant(native_new(self.cls))}({made})")
        if self.args:
            out.line(f"{name}.args = ({', '.join(out.expr(a) for a in self.args)},)")
        out.remember(self, name)
        for attribute, value in self.attrs.items():
            if value is not None:
                out.later(functools.partial(self._set, out, name, attribute, value))
        return name

    def _set(self, out: Rebuilder, name: str, attribute: str, value: Value) -> None:
        out.line(f"{out.constant(object.__setattr__)}({name}, {attribute!r}, {out.expr(value)})")


def made_in_c(cls: type) -> bool:
    """Whether a class has methods of its own that are written in C; from 3.12 on many of those are on the heap too."""
    return any(isinstance(v, (types.MethodDescriptorType, types.WrapperDescriptorType)) and v.__objclass__ is cls
               for v in cls.__dict__.values())


def native_new(cls: type) -> Any:
    """The `__new__` of C under the class."""
    return next(c.__new__ for c in cls.__mro__ if isinstance(c.__dict__.get("__new__"), types.BuiltinFunctionType))


class ModuleValue(Value):
    """A Python module."""

    def __init__(self, raw: types.ModuleType, source: Source) -> None:
        self.raw, self.source, self.at = raw, source, source

    def pytype(self) -> type:
        return types.ModuleType

    def truth(self, tr: Tracer) -> bool:
        return True

    def getattr(self, tr: Tracer, name: str) -> Value:
        try:
            found = getattr(self.raw, name)
        except AttributeError as error:
            tr.guard(self.at, g.lacks(name))
            raise tr.observe(error) from None
        return tr.wrap_global(found, Attr(self.at, name), self.raw.__name__)

    def setattr(self, tr: Tracer, name: str, value: Value) -> None:
        raise Unsupported("module-store", f"the module attribute {self.raw.__name__}.{name} is assigned")

    def rebuild(self, out: Rebuilder) -> str:
        return out.constant(self.raw)


class OpaqueValue(Value):
    """An object of a C type the tracer knows nothing about: it can be passed around, compared by identity, returned."""

    mutable = True

    def __init__(self, raw: Any, source: Source) -> None:
        self.raw, self.source = raw, source

    def pytype(self) -> type:
        return type(self.raw)

    @property
    def label(self) -> str:
        return type(self.raw).__name__

    def getattr(self, tr: Tracer, name: str) -> Value:
        raise Unsupported("opaque", f"attribute {name!r} of a {type(self.raw).__qualname__} is read")


class SuperValue(Value):
    """`super(cls, obj)`."""

    def __init__(self, cls: type, instance: Value) -> None:
        self.cls, self.instance = cls, instance

    def pytype(self) -> type:
        return super

    def getattr(self, tr: Tracer, name: str) -> Value:
        is_class = isinstance(self.instance, ClassValue) and issubclass(self.instance.raw, self.cls)
        kind = self.instance.raw if isinstance(self.instance, ClassValue) and is_class else self.instance.pytype()
        mro = kind.__mro__
        owner, found = find(tr, kind, name, mro[mro.index(self.cls) + 1:])
        if owner is None:
            raise tr.observe(AttributeError(f"'super' object has no attribute '{name}'"))
        if owner is object and name == "__new__":
            return BuiltinValue(object.__new__)
        if is_class and not isinstance(found, (types.FunctionType, classmethod, staticmethod)):
            return BuiltinValue(getattr(owner, name))
        return bind_attribute(tr, owner, name, found, None if is_class and not isinstance(found, classmethod)
                              else self.instance, self.instance if is_class else tr.class_value(kind))

    def rebuild(self, out: Rebuilder) -> str:
        return f"super({out.constant(self.cls)}, {out.expr(self.instance)})"

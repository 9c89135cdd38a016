"""Soundness: functions, classes and namespaces of Python change between two calls."""
import abc
import builtins
import collections
import contextlib
import dataclasses
import enum
import functools
import gc
import importlib
import math
import sys
import types

import pytest
from tracer.support import compile
from tracer.traps import both, facts, rand, spring

import flambeau
import flambeau.nn.functional as F

pytestmark = pytest.mark.filterwarnings("error::flambeau.frontend.points.FallbackWarning",
                                        "error::flambeau.frontend.points.RecompileWarning")
X = rand(4, 3)
TRAPS = {}


def trap(fn):
    TRAPS[fn.__name__] = fn
    return fn


@contextlib.contextmanager
def patched(owner, name, value):
    before = owner.__dict__.get(name, TRAPS)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is TRAPS:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


# --------------------------------------------------------------------------- functions

def helper(x, k=2, *, shift=0):
    return x * k + shift


@trap
def the_code_of_a_global_function():
    f = both(lambda x: helper(x))
    before = helper.__code__
    yield f(X)
    helper.__code__ = (lambda x, k=0, *, shift=0: x - k).__code__
    try:
        yield f(X)
    finally:
        helper.__code__ = before
    yield f(X)


@trap
def defaults_of_a_global_function():
    f = both(lambda x: helper(x))
    yield f(X)
    try:
        helper.__defaults__ = (3,)
        yield f(X)
        helper.__kwdefaults__ = {"shift": 4}
        yield f(X)
        helper.__kwdefaults__["shift"] = 6
        yield f(X)
    finally:
        helper.__defaults__, helper.__kwdefaults__ = (2,), {"shift": 0}


@trap
def a_mutable_default():
    def g(x, seen=[1]):              # noqa: B006 - the point of it
        return x * len(seen)
    f = both(lambda x: g(x))
    yield f(X)
    g.__defaults__[0].append(2)
    yield f(X)


@trap
def the_code_of_a_method():
    class Box:
        def go(self, x):
            return x + 1
    b = Box()
    f = both(lambda x: b.go(x))
    yield f(X)
    Box.go.__code__ = (lambda self, x: x * 3).__code__
    yield f(X)


@trap
def the_code_of_a_closure_function():
    def inner(x):
        return x + 1
    f = both(lambda x: inner(x))
    yield f(X)
    inner.__code__ = (lambda x: x * 3).__code__
    yield f(X)


@trap
def cells_of_an_inner_function():
    k, items = 1, [1]

    def inner(x):
        return x * k + sum(items)

    def set_k(v):
        nonlocal k
        k = v
    f = both(lambda x: inner(x))
    yield f(X)
    set_k(3)
    yield f(X)
    items.append(4)
    yield f(X)
    inner.__closure__[0].cell_contents = [7]
    yield f(X)


@trap
def a_closure_over_a_loop_variable():
    fs = []
    for k in range(3):
        fs.append(lambda x: x + k)            # noqa: B023 - the point of it
    f = both(lambda x: fs[0](x))
    yield f(X)
    for k in range(5):                        # noqa: B007
        pass
    yield f(X)


@trap
def attributes_of_a_function():
    def g(x):
        return x * g.factor
    g.factor = 2
    f = both(lambda x: g(x))
    yield f(X)
    g.factor = 3
    yield f(X)


@trap
def a_function_gains_an_attribute():
    def g(x):
        return x * getattr(g, "factor", 1) if hasattr(g, "factor") else x
    f = both(lambda x: g(x))
    yield f(X)
    g.factor = 3
    yield f(X)
    del g.factor
    yield f(X)


@trap
def a_wrapped_function():
    def wrap(fn):
        @functools.wraps(fn)
        def inner(x):
            return inner.__wrapped__(x) * 2
        return inner

    @wrap
    def g(x):
        return x + 1
    f = both(lambda x: g(x))
    yield f(X)
    g.__wrapped__ = lambda x: x - 1
    yield f(X)


@trap
def a_partial_is_changed():
    p = functools.partial(helper, k=3)
    f = both(lambda x: p(x))
    yield f(X)
    p.keywords["k"] = 4
    yield f(X)
    p.__setstate__((helper, (), {"k": 5, "shift": 1}, {}))
    yield f(X)
    p.__setstate__((F.relu, (), {}, {}))
    yield f(X)


@trap
def partials_of_other_arguments():
    f = both(lambda x, p: p(x))
    for k in (1, 2.0, 3):
        yield f(X, functools.partial(helper, k=k))
    yield f(X, functools.partial(helper, shift=1))
    yield f(X, functools.partial(functools.partial(helper, k=2), shift=5))
    yield f(X, helper)


@trap
def bound_methods_of_other_objects():
    class Box:
        def __init__(self, k):
            self.k = k

        def go(self, x):
            return x * self.k
    f = both(lambda x, g: g(x))
    a, b = Box(2), Box(3)
    yield f(X, a.go)
    yield f(X, b.go)
    a.k = 7
    yield f(X, a.go)
    yield f(X, helper)


@trap
def methods_of_builtin_objects():
    f = both(lambda x, get: x * (get("a") or 1))
    yield f(X, {"a": 2}.get)
    yield f(X, {"a": 3}.get)
    yield f(X, {}.get)
    yield f(X, {"a": 4}.__getitem__)


@trap
def a_cached_function():
    state = {"k": 2}

    @functools.cache
    def scale(n):
        return state["k"] * n
    f = both(lambda x, n: x * scale(n))
    yield f(X, 2)
    state["k"] = 5                        # what is cached stays
    yield f(X, 2)
    yield f(X, 3)
    scale.cache_clear()
    yield f(X, 2)


@trap
def a_singledispatch_function():
    @functools.singledispatch
    def g(k, x):
        return x

    @g.register
    def _(k: int, x):
        return x + k
    f = both(lambda x, k: g(k, x))
    yield f(X, 2)
    yield f(X, "a")
    g.register(str, lambda k, x: x * 5)
    yield f(X, "a")


@trap
def generators_as_arguments():
    items = [1, 2]
    f = both(lambda x, make: x * sum(make()))
    yield f(X, lambda: (v for v in items))
    items.append(4)
    yield f(X, lambda: (v for v in items))
    yield f(X, lambda: iter(items))
    compiled = compile(lambda x, xs: x * sum(xs), backend="eager")
    for n in ([1, 2], [3], [1, 2]):
        yield facts(compiled(X, (v for v in n))), facts(X * sum(n))


@trap
def a_decorator_with_state():
    calls = []

    def counted(fn):
        def inner(*a):
            return fn(*a) * (len(calls) + 1)
        return inner
    g = counted(lambda x: x + 1)
    f = both(lambda x: g(x))
    yield f(X)
    calls.append(1)
    yield f(X)


# --------------------------------------------------------------------------- classes

@trap
def a_method_below_the_class_that_has_it():
    class A:
        def go(self, x):
            return x + 1

    class B(A):
        pass
    b = B()
    f = both(lambda x: b.go(x))
    yield f(X)
    B.go = lambda self, x: x * 2
    yield f(X)
    del B.go
    yield f(X)


@trap
def a_class_attribute_below_the_class_that_has_it():
    class A:
        k = 2

    class B(A):
        pass

    class C(B):
        pass
    c = C()
    f = both(lambda x: x * c.k + C.k)
    yield f(X)
    B.k = 3
    yield f(X)
    C.k = 4
    yield f(X)
    A.k = 5
    yield f(X)
    del C.k, B.k
    yield f(X)


@trap
def a_class_attribute_that_was_missing():
    class A:
        pass
    a = A()
    f = both(lambda x: x * getattr(a, "k", 1) + (3 if hasattr(A, "j") else 0))
    yield f(X)
    A.k = 4
    yield f(X)
    A.j = 0
    yield f(X)


@trap
def a_property_is_added():
    class A:
        pass
    a = A()
    a.k = 2
    f = both(lambda x: x * a.k)
    yield f(X)
    A.k = property(lambda self: 5)
    yield f(X)
    del A.k
    yield f(X)


@trap
def the_getter_of_a_property():
    class A:
        k = property(lambda self: 1)
    a = A()
    f = both(lambda x: x * a.k)
    yield f(X)
    A.k = property(lambda self: 2)
    yield f(X)
    A.k = 3
    yield f(X)


@trap
def a_property_that_reads_a_global():
    f = both(lambda x: x * Level().value)
    yield f(X)
    with patched(sys.modules[__name__], "LEVEL", 7):
        yield f(X)


LEVEL = 3


class Level:
    @property
    def value(self):
        return LEVEL


@trap
def length_and_truth_are_added():
    class A:
        pass
    a = A()
    f = both(lambda x: x * 2 if a else x)
    yield f(X)
    A.__len__ = lambda self: 0
    yield f(X)
    A.__bool__ = lambda self: True
    yield f(X)


@trap
def the_length_of_a_custom_class():
    class A:
        n = 2

        def __len__(self):
            return self.n
    a = A()
    f = both(lambda x: x * len(a) if a else -x)
    yield f(X)
    a.n = 5
    yield f(X)
    a.n = 0
    yield f(X)


@trap
def operators_are_added_or_replaced():
    class A:
        def __add__(self, other):
            return other * 2
    a = A()
    f = both(lambda x: a + x)
    yield f(X)
    A.__add__ = lambda self, other: other * 3
    yield f(X)

    class B(A):
        pass
    a.__class__ = B
    yield f(X)
    B.__add__ = lambda self, other: other * 4
    yield f(X)


@trap
def equality_is_overridden():
    class A:
        def __eq__(self, other):
            return True

        __hash__ = None
    a = A()
    f = both(lambda x: x if a == 3 else -x)
    yield f(X)
    A.__eq__ = lambda self, other: False
    yield f(X)


@trap
def getattribute_and_getattr_are_added():
    class A:
        k = 1
    a = A()
    f = both(lambda x: x * a.k)
    yield f(X)
    A.__getattribute__ = lambda self, name: 4
    yield f(X)
    del A.__getattribute__
    yield f(X)
    del A.k
    A.__getattr__ = lambda self, name: 8
    yield f(X)


@trap
def dynamic_attributes_read_state():
    class A:
        def __init__(self):
            self.table = {"k": 2}

        def __getattr__(self, name):
            return self.table[name]
    a = A()
    f = both(lambda x: x * a.k)
    yield f(X)
    a.table["k"] = 3
    yield f(X)
    a.table = {"k": 4}
    yield f(X)


@trap
def setattr_is_added():
    class A:
        pass

    def g(x, a):
        a.k = 2
        return x * a.k
    f = both(g)
    yield f(X, A())
    A.__setattr__ = lambda self, name, value: object.__setattr__(self, name, value * 5)
    yield f(X, A())


@trap
def an_init_is_replaced():
    class A:
        def __init__(self, k):
            self.k = k
    f = both(lambda x: x * A(3).k)
    yield f(X)

    def __init__(self, k):
        self.k = k + 1
    A.__init__ = __init__
    yield f(X)


@trap
def an_init_or_new_is_added():
    class Base:
        def __init__(self, k):
            self.k = k

    class A(Base):
        pass
    f = both(lambda x: x * A(3).k)
    yield f(X)

    def __init__(self, k):
        self.k = k * 7
    A.__init__ = __init__
    yield f(X)


@trap
def a_classmethod_and_a_staticmethod():
    class A:
        k = 2

        @classmethod
        def c(cls, x):
            return x * cls.k

        @staticmethod
        def s(x):
            return x + 1
    f = both(lambda x: A.c(x) + A.s(x) + A().c(x))
    yield f(X)
    A.k = 3
    yield f(X)
    A.s = staticmethod(lambda x: x - 1)
    yield f(X)
    A.c = classmethod(lambda cls, x: x)
    yield f(X)


@trap
def a_method_of_the_metaclass():
    class Meta(type):
        def __call__(cls, x):
            return x * 2

        @property
        def k(cls):
            return 3

    class A(metaclass=Meta):
        pass
    f = both(lambda x: A(x) * A.k)
    yield f(X)
    Meta.__call__ = lambda cls, x: x * 5
    yield f(X)
    Meta.k = property(lambda cls: 4)
    yield f(X)


@trap
def bases_are_assigned():
    class A:
        def go(self, x):
            return x + 1

    class B:
        def go(self, x):
            return x * 2

    class C(A):
        pass
    c = C()
    f = both(lambda x: c.go(x))
    yield f(X)
    C.__bases__ = (B,)
    yield f(X)


@trap
def super_after_a_base_changed():
    class A:
        def go(self, x):
            return x + 1

    class M(A):
        pass

    class B(M):
        def go(self, x):
            return super().go(x) * 2
    b = B()
    f = both(lambda x: b.go(x))
    yield f(X)
    A.go = lambda self, x: x - 1
    yield f(X)
    M.go = lambda self, x: x * 7
    yield f(X)


@trap
def a_descriptor_with_state():
    class Scaled:
        def __init__(self, k):
            self.k = k

        def __get__(self, instance, owner):
            return self.k

    class A:
        v = Scaled(2)
    a = A()
    f = both(lambda x: x * a.v)
    yield f(X)
    A.__dict__["v"].k = 3
    yield f(X)
    Scaled.__get__ = lambda self, instance, owner: 10
    yield f(X)
    Scaled.__set__ = lambda self, instance, value: None           # now it comes before the instance's own attributes
    a.__dict__["v"] = 4
    yield f(X)


@trap
def a_cached_property():
    class A:
        base = 2

        @functools.cached_property
        def k(self):
            return self.base * 2
    a = A()
    f = both(lambda x, a: x * a.k)
    yield f(X, a)
    a.base = 5
    yield f(X, a)
    del a.k
    b = A()
    b.k = 9
    yield f(X, b)


@trap
def classes_registered_with_an_abc():
    class Shape(abc.ABC):                  # noqa: B024
        pass

    class A:
        pass
    a = A()
    f = both(lambda x: x * 2 if isinstance(a, Shape) else x)
    yield f(X)
    Shape.register(A)
    yield f(X)


@trap
def an_instancecheck_that_changes():
    class Meta(type):
        answer = True

        def __instancecheck__(cls, other):
            return cls.answer

    class Shape(metaclass=Meta):
        pass
    a = object()
    f = both(lambda x: x * 2 if isinstance(a, Shape) else x)
    yield f(X)
    Meta.answer = False
    yield f(X)


@trap
def a_protocol_fulfilled_later():
    class A:
        pass
    a = A()
    f = both(lambda x: x * 2 if isinstance(a, collections.abc.Sized) else x)
    yield f(X)

    class B(A):
        def __len__(self):
            return 1
    a.__class__ = B
    yield f(X)


@trap
def fields_of_dataclasses_and_namedtuples():
    @dataclasses.dataclass
    class P:
        k: int
        items: list

    @dataclasses.dataclass(frozen=True)
    class Q:
        k: float

    T = collections.namedtuple("T", "k items")
    f = both(lambda x, p: x * p.k + (len(p.items) if hasattr(p, "items") else 0))
    p = P(2, [1])
    yield f(X, p)
    p.items.append(1)
    yield f(X, p)
    yield f(X, dataclasses.replace(p, k=4))
    yield f(X, Q(2.5))
    yield f(X, Q(0.0))
    yield f(X, T(2, (1,)))


@trap
def methods_of_enum_members():
    class E(enum.Enum):
        A = 2
        B = 3

        @property
        def factor(self):
            return self.value * LEVEL

        def times(self, x):
            return x * self.factor
    f = both(lambda x, e: e.times(x) + e.factor)
    yield f(X, E.A)
    yield f(X, E.B)
    with patched(sys.modules[__name__], "LEVEL", 7):
        yield f(X, E.B)
    E.factor = property(lambda self: 100)
    yield f(X, E.B)


@trap
def slots_emptied():
    class A:
        __slots__ = ("k",)
    a = A()
    a.k = 2
    f = both(lambda x: x * a.k if hasattr(a, "k") else x)
    yield f(X)
    del a.k
    yield f(X)


@trap
def a_class_is_replaced_by_another_of_its_name():
    def make(k):
        class A:
            def go(self, x):
                return x * k
        return A
    f = both(lambda x, a: a.go(x))
    for k in (1, 2, 3):
        yield f(X, make(k)())
        gc.collect()


# --------------------------------------------------------------------------- namespaces

@trap
def a_function_of_a_trusted_module_is_patched():
    f = both(lambda x: F.relu(x) + flambeau.sin(x) * math.sqrt(4.0))
    yield f(X)
    with patched(F, "relu", lambda x: x * 2):
        yield f(X)
    with patched(flambeau, "sin", flambeau.cos):
        yield f(X)
    with patched(math, "sqrt", lambda v: 100.0):
        yield f(X)
    yield f(X)


@trap
def a_method_of_tensor_is_patched():
    f = both(lambda x: x.relu())
    yield f(X)
    with patched(flambeau.Tensor, "relu", lambda self: self * 2):
        yield f(X)


@trap
def an_imported_module_of_the_user():
    m = types.ModuleType("trap_user_module")
    exec("K = 2\ndef go(x):\n    return x * K\n", m.__dict__)
    sys.modules[m.__name__] = m
    f = both(lambda x: m.go(x) + m.K)
    yield f(X)
    m.K = 3
    yield f(X)
    m.go = lambda x: x
    yield f(X)
    vars(m)["K"] = 9
    yield f(X)
    del sys.modules[m.__name__]


@trap
def a_module_imported_in_the_function():
    name = "trap_imported_inside"

    def make(k):
        m = types.ModuleType(name)
        m.K = k
        sys.modules[name] = m

    def g(x):
        import trap_imported_inside
        return x * trap_imported_inside.K
    f = both(g)
    make(2)
    yield f(X)
    make(5)                               # another module under the same name
    yield f(X)
    sys.modules[name].K = 6
    yield f(X)
    del sys.modules[name]


@trap
def a_module_is_reloaded(path=[]):        # noqa: B006
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/trap_reloaded.py"

        def write(text):
            with open(file, "w") as out:
                out.write(text)
            importlib.invalidate_caches()
        sys.path.insert(0, folder)
        before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        try:
            write("def go(x):\n    return x + 1\n")
            import trap_reloaded
            f = both(lambda x: trap_reloaded.go(x))
            yield f(X)
            write("def go(x):\n    return x * 20\n")
            importlib.reload(trap_reloaded)
            yield f(X)
        finally:
            sys.dont_write_bytecode = before
            sys.path.remove(folder)
            sys.modules.pop("trap_reloaded", None)


@trap
def a_builtin_is_replaced():
    f = both(lambda x: x * max(2, 3))
    yield f(X)
    with patched(builtins, "max", lambda *a: 50):
        yield f(X)
    yield f(X)


@trap
def a_module_with_getattr():
    m = types.ModuleType("trap_lazy")
    m.K = 2
    f = both(lambda x: x * m.K)
    yield f(X)
    del m.K
    m.__getattr__ = lambda name: 6
    yield f(X)
    m.__getattr__ = lambda name: 7
    yield f(X)


@trap
def a_global_that_appears_and_goes():
    def g(x):
        try:
            return x * LATER                                       # noqa: F821
        except NameError:
            return -x
    f = both(g)
    yield f(X)
    globals()["LATER"] = 3
    yield f(X)
    del globals()["LATER"]
    yield f(X)


@trap
def a_default_argument_of_the_compiled_function():
    def g(x, k=2):
        return x * k
    compiled_and_eager = both(g)
    yield compiled_and_eager(X)
    yield compiled_and_eager(X, 3)
    yield compiled_and_eager(X, k=4)


@pytest.mark.parametrize("name", list(TRAPS))
def test_trap(name):
    spring(TRAPS[name])

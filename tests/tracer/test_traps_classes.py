"""Soundness: classes, their methods and attributes change between two calls."""
import abc
import collections
import dataclasses
import enum
import functools
import gc
import sys

import pytest
from tracer.traps import both, patched, rand, spring

pytestmark = pytest.mark.filterwarnings("error::flambeau.frontend.points.FallbackWarning",
                                        "error::flambeau.frontend.points.RecompileWarning")
X = rand(4, 3)
TRAPS = {}


def trap(fn):
    TRAPS[fn.__name__] = fn
    return fn


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


@pytest.mark.parametrize("name", list(TRAPS))
def test_trap(name):
    spring(TRAPS[name])

"""Soundness: between two calls something becomes another thing that is equal to it, or that has the same parts."""
import collections
import enum
import functools
import math
import types
import typing

import pytest
from tracer.traps import both, rand, spring

from flambeau import nn

pytestmark = pytest.mark.filterwarnings("error::flambeau.frontend.points.FallbackWarning",
                                        "error::flambeau.frontend.points.RecompileWarning")
X = rand(4, 3)
TRAPS = {}


def trap(fn):
    TRAPS[fn.__name__] = fn
    return fn


# --------------------------------------------------------------------------- values


@trap
def equal_members_of_a_set():
    s = {1, 2}
    f = both(lambda x: x * 2 if all(type(v) is int for v in s) else x)
    yield f(X)
    for values in ([True, 2], [1.0, 2.0], [1, 2]):
        s.clear()
        s.update(values)
        yield f(X)


@trap
def equal_frozen_sets_and_tuples():
    f = both(lambda x, s: x * 2 if all(type(v) is int for v in s) else x)
    for values in ([1], [True], [1.0], [1]):
        yield f(X, frozenset(values))
    for values in ([1], [True], [1.0], [1]):
        yield f(X, tuple(values))


@trap
def equal_keys():
    d = {1: 2}
    f = both(lambda x: x * 2 if all(type(k) is int for k in d) else x)
    for key in (1, True, 1.0, 1):
        d.clear()
        d[key] = 2
        yield f(X)


@trap
def equal_keys_that_are_tuples_or_zeros():
    d = {(1, 0): 2}
    f = both(lambda x: x * 2 if type(next(iter(d))[0]) is int else x)
    for key in ((1, 0), (True, 0), (1.0, 0)):
        d.clear()
        d[key] = 2
        yield f(X)
    z = {0.0: 1}
    g = both(lambda x: x * math.copysign(1, next(iter(z))))
    for key in (0.0, -0.0):
        z.clear()
        z[key] = 2
        yield g(X)


@trap
def the_identity_of_texts_and_numbers():
    text, number = "two words", 10 ** 6
    f = both(lambda x, v: x * 2 if v is text else x)
    yield f(X, text)
    yield f(X, " ".join(["two", "words"]))
    yield f(X, text)
    g = both(lambda x, v: x * 3 if v is number else x)
    yield g(X, number)
    yield g(X, int("1000000"))


@trap
def the_identity_of_nan():
    nan = float("nan")
    known = [nan]
    f = both(lambda x, v: x * 2 if v in known else x)
    for v in (nan, float("nan"), nan):
        yield f(X, v)


@trap
def numbers_with_operators_of_their_own():
    class Number(int):
        pass

    class Text(str):
        pass
    n, t = Number(3), Text("a")
    f = both(lambda x: x * (n + 1) if t == "a" else x)
    yield f(X)
    Number.__add__ = lambda self, other: 50
    yield f(X)
    Text.__eq__, Text.__hash__ = lambda self, other: False, str.__hash__
    yield f(X)


@trap
def values_and_attributes_of_enum_members():
    class Kind(enum.Enum):
        ONE = 1
        LIST = [2]
    Kind.ONE.extra = 3
    f = both(lambda x, k: x * (k.value if k is Kind.ONE else k.value[0]) + getattr(k, "extra", 0))
    yield f(X, Kind.ONE)
    yield f(X, Kind.LIST)
    Kind.LIST.value[0] = 7
    yield f(X, Kind.LIST)
    Kind.LIST.extra = 4
    yield f(X, Kind.LIST)
    Kind.ONE.extra = 5
    yield f(X, Kind.ONE)
    Kind.ONE._value_ = 6
    yield f(X, Kind.ONE)


@trap
def options_of_a_normalization():
    norm = nn.LayerNorm(3)
    f = both(lambda x: norm(x))
    for eps in (1e-5, 1.0, 2.0, 3.0):
        norm.eps = eps
        yield f(X)


# --------------------------------------------------------------------------- functions

@trap
def defaults_of_the_compiled_function():
    def g(x, k=2, *, j=1):
        return x * k + j
    f = both(g)
    yield f(X)
    yield f(X, 2)
    g.__defaults__ = (5,)
    yield f(X)
    yield f(X, 2)                                   # which is not the default any more
    g.__kwdefaults__ = {"j": 7}
    yield f(X)
    g.__kwdefaults__["j"] = 8
    yield f(X)


@trap
def defaults_of_a_compiled_method():
    class A(nn.Module):
        def forward(self, x, k=2):
            return x * k
    a = A()
    for f in (both(a), both(a.forward)):
        A.forward.__defaults__ = (2,)
        yield f(X)
        A.forward.__defaults__ = (9,)
        yield f(X)


@trap
def defaults_that_come_and_go():
    def h(x, k=2):
        return x * k

    def only(x, *, k):
        return x - k

    def g(x):
        try:
            x = h(x)
        except TypeError:
            x = x + 100
        try:
            return only(x)
        except TypeError:
            return x
    f = both(g)
    yield f(X)
    h.__defaults__ = None
    yield f(X)
    h.__defaults__ = (3,)
    yield f(X)
    only.__kwdefaults__ = {"k": 3}
    yield f(X)


@trap
def keywords_of_a_compiled_partial():
    p = functools.partial(lambda x, k: x * k, k=2)
    f = both(p)
    yield f(X)
    p.keywords["k"] = 3
    yield f(X)


@trap
def the_call_of_a_compiled_object():
    class A:
        def __call__(self, x):
            return x * 2

    class M(nn.Module):
        def forward(self, x):
            return x * 3
    for cls in (A, M):
        f = both(cls())
        yield f(X)
        cls.__call__ = lambda self, x: x * 7
        yield f(X)


@trap
def one_code_in_two_namespaces():
    spaces = [{"K": 2}, {"K": 3}]
    exec("def h(x): return x * K", spaces[0])
    functions = [types.FunctionType(spaces[0]["h"].__code__, space) for space in spaces]
    f = both(lambda x, h: h(x))
    for h in (*functions, functions[0]):
        yield f(X, h)
    spaces[1]["K"] = 5
    yield f(X, functions[1])


# --------------------------------------------------------------------------- classes

@trap
def a_descriptor_gains_and_loses_parts():
    class D:
        def __get__(self, instance, owner):
            return 30

    class A:
        k = D()
    a = A()
    a.__dict__["k"] = 2
    f = both(lambda x: x * a.k)
    yield f(X)
    D.__set__ = lambda self, instance, value: None
    yield f(X)
    del D.__set__
    yield f(X)
    D.__set__ = lambda self, instance, value: None
    del D.__get__
    yield f(X)


@trap
def a_plain_class_attribute_becomes_a_descriptor():
    class D:
        pass

    class A:
        k = D()
    f = both(lambda x: x * 2 if isinstance(A().k, D) else x * A.k)
    yield f(X)
    D.__get__ = lambda self, instance, owner: 31
    yield f(X)


@trap
def what_a_metaclass_answers():
    class Meta(type):
        k = 4

    class A(metaclass=Meta):
        pass
    f = both(lambda x: x * A.k + getattr(A, "missing", 1))
    yield f(X)
    A.k = 5
    yield f(X)
    Meta.k = property(lambda cls: 6)
    yield f(X)
    Meta.__getattr__ = lambda cls, name: 7
    yield f(X)
    Meta.__getattribute__ = lambda cls, name: 8
    yield f(X)


@trap
def another_metaclass():
    class One(type):
        def go(cls):
            return 2

    class Two(type):
        def go(cls):
            return 3

    class A(metaclass=One):
        pass
    f = both(lambda x: x * A.go())
    yield f(X)
    A.__class__ = Two
    yield f(X)


@trap
def views_come_onto_the_tape():
    f = both(lambda v: (v * 2, v.requires_grad))
    for change in (lambda b: b.mul_(rand(4, requires_grad=True)), lambda b: b.requires_grad_()):
        base = rand(4)
        view = base[:2]
        yield f(view)
        change(base)
        yield f(view)


@trap
def a_list_in_an_object_alone():
    class A:
        sizes = None
    a = A()
    a.sizes = [1, 2]
    f = both(lambda x, a: x * a.sizes[0])
    yield f(X, a)
    a.sizes[0] = 7
    yield f(X, a)


@trap
def what_a_class_gives_in_brackets():
    class A:
        def __class_getitem__(cls, key):
            return key * 2
    f = both(lambda x: x * A[3])
    yield f(X)
    A.__class_getitem__ = classmethod(lambda cls, key: key * 7)
    yield f(X)


@trap
def fields_and_defaults_of_a_named_tuple():
    P = collections.namedtuple("P", "a b", defaults=[3])        # noqa: PYI024
    p = P(1, 2)
    f = both(lambda x: x * p.a + P(1).b)
    yield f(X)
    P.__new__.__defaults__ = (8,)
    yield f(X)
    P.a = P.b
    yield f(X)
    P.a = property(lambda self: 12)
    yield f(X)


@trap
def the_text_of_an_object():
    class A:
        def __str__(self):
            return "a"
    a = A()
    f = both(lambda x: x * 2 if f"{a}" == "a" else x)
    yield f(X)
    A.__str__ = lambda self: "b"
    yield f(X)
    A.__format__ = lambda self, spec: "a"
    yield f(X)


@trap
def positions_in_a_class_pattern():
    class P:
        __match_args__ = ("a", "b")
        a, b = 1, 2

    def g(x):
        match P():
            case P(1, 2):
                return x * 2
        return x
    f = both(g)
    yield f(X)
    P.__match_args__ = ("b", "a")
    yield f(X)


@trap
def abstract_methods():
    import abc

    class A(abc.ABC):
        k = 3

        @abc.abstractmethod
        def go(self):
            ...

    def g(x):
        try:
            return x * A().k
        except TypeError:
            return x
    f = both(g)
    yield f(X)
    A.__abstractmethods__ = frozenset()
    yield f(X)


@trap
def the_class_and_the_attributes_of_a_module():
    class Lazy(types.ModuleType):
        def __getattr__(self, name):
            return 6
    m: typing.Any = types.ModuleType("made")
    f = both(lambda x: x * getattr(m, "k", 1))
    yield f(X)
    m.k = 2
    yield f(X)
    del m.k
    yield f(X)
    m.__class__ = Lazy
    yield f(X)


@pytest.mark.parametrize("name", list(TRAPS))
def test_trap(name):
    spring(TRAPS[name])

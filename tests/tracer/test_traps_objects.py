"""Soundness: objects that answer for themselves, containers in containers, code that is exchanged between two calls."""
import collections
import dataclasses
import functools

import pytest
from tracer.support import compile
from tracer.traps import both, rand, spring

import flambeau.nn.functional as F
from flambeau import nn

pytestmark = pytest.mark.filterwarnings("error::flambeau.frontend.points.FallbackWarning",
                                        "error::flambeau.frontend.points.RecompileWarning")
X = rand(4, 3)
TRAPS = {}


def trap(fn):
    TRAPS[fn.__name__] = fn
    return fn


@trap
def doubling_getattribute():
    class A:
        def __init__(self):
            self.k = 2
            self.j = [1]

        def __getattribute__(self, n):
            v = object.__getattribute__(self, n)
            return v * 2 if isinstance(v, int) else v
    a = A()
    f = both(lambda x: x * a.k + len(a.j))
    yield f(X)
    a.j.append(1)
    yield f(X)
    a.__dict__["k"] = 5
    yield f(X)


@trap
def counting_getattribute():
    count = [0]

    class A:
        def __init__(self):
            self.k = 2

        def __getattribute__(self, n):
            if n == "k":
                count[0] += 1
            return object.__getattribute__(self, n)
    a = A()

    def g(x):
        return x * a.k
    c = compile(g, backend="eager")
    for k in range(3):
        before = count[0]
        c(X)
        one = count[0] - before
        before = count[0]
        g(X)
        two = count[0] - before
        yield ((one, k), (two, k))


@trap
def relu_in_a_module_patched():
    m = nn.Sequential(nn.ReLU(), nn.Linear(3, 3))
    f = both(lambda x: m(x))
    yield f(X)
    old = F.relu
    F.relu = lambda x, inplace=False: x * 5
    try:
        yield f(X)
    finally:
        F.relu = old
    yield f(X)
    old = F.linear
    F.linear = lambda x, w, b=None: x * 7
    try:
        yield f(X)
    finally:
        F.linear = old


@trap
def root_code_changes():
    def g(x, k=2):
        return x * k
    f = both(g)
    yield f(X)
    g.__code__ = (lambda x, k: x - k).__code__
    yield f(X)


@trap
def counting_property():
    count = [0]

    class A:
        @property
        def k(self):
            count[0] += 1
            return count[0]
    a = A()

    def g(a, x):
        return x * a.k

    def run(fn):
        count[0] = 0
        return [float(fn(a, X).sum()) for _ in range(3)]
    c = compile(g, backend="eager")
    r1 = run(c)
    r2 = run(g)
    yield (str(r1), str(r2))
    yield (1, 1)


@trap
def swap_items_of_two_lists():
    def g(x, a, b):
        a[0], b[0] = (b[0], a[0])
        return x * a[0]
    c = compile(g, backend="eager")
    for p, q in (([1, 5], [2]), ([3], [4, 4]), ([7], [7])):
        p1, q1, p2, q2 = (list(p), list(q), list(p), list(q))
        yield ((float(c(X, p1, q1).sum()), p1, q1), (float(g(X, p2, q2).sum()), p2, q2))


@trap
def parameter_identity_in_dict():
    p, q = (nn.Parameter(rand(3)), nn.Parameter(rand(3)))
    state = {p: {"step": 1}, q: {"step": 2}}
    f = both(lambda x, w: x * w * state[w]["step"])
    yield f(X, p)
    yield f(X, q)
    state[p]["step"] = 5
    yield f(X, p)


@trap
def mutable_namedtuple_field():
    P = collections.namedtuple("P", "a b")
    p = P([1], {"k": 2})
    f = both(lambda x: x * len(p.a) + p.b["k"])
    yield f(X)
    p.a.append(1)
    yield f(X)
    p.b["k"] = 4
    yield f(X)


@trap
def dataclass_eq_in():
    @dataclasses.dataclass
    class D:
        k: int
    xs = [D(1)]
    f = both(lambda x, d: x if d in xs else -x)
    yield f(X, D(1))
    yield f(X, D(2))
    xs[0].k = 2
    yield f(X, D(2))
    xs.clear()
    yield f(X, D(2))


@trap
def str_methods_on_changing():
    s = {"name": "relu"}
    f = both(lambda x: getattr(F, s["name"].lower())(x))
    yield f(X)
    s["name"] = "SiLU"
    yield f(X)


@trap
def class_level_registry():
    class R:
        table = {}
    R.table["a"] = lambda x: x + 1
    f = both(lambda x: R.table["a"](x))
    yield f(X)
    R.table["a"] = lambda x: x * 2
    yield f(X)
    R.table = {"a": lambda x: x * 3}
    yield f(X)


@trap
def sorted_keys():
    d = {"b": 1, "a": 2}
    f = both(lambda x: x * d[min(d)] + len(max(d.keys())))
    yield f(X)
    d["A"] = 7
    yield f(X)


@trap
def zip_of_changing():
    a, b = ([1, 2], [3])
    f = both(lambda x: x * sum((p * q for p, q in zip(a, b))))
    yield f(X)
    b.append(4)
    yield f(X)
    a.append(9)
    yield f(X)


@trap
def any_all_len_of_generator():
    fl = [True, False]
    f = both(lambda x: x if all(fl) else -x if any(v for v in fl) else x * 0)
    yield f(X)
    fl[1] = True
    yield f(X)
    fl[:] = [False]
    yield f(X)


@trap
def tensor_list_reordered():
    ts = [rand(3, seed=1), rand(3, seed=2)]
    f = both(lambda x: x * ts[0] - ts[1])
    yield f(X)
    ts.reverse()
    yield f(X)
    ts[0] = ts[1]
    yield f(X)


@trap
def buffers_non_persistent_and_device():
    m = nn.Module()
    m.register_buffer("b", rand(3), persistent=False)
    f = both(lambda x: x * m.b)
    yield f(X)
    m.b.data = rand(3, seed=3)
    yield f(X)
    m.b = None
    yield f(X)


@trap
def static_class_nested():
    class Outer:
        class Inner:
            k = 2
    f = both(lambda x: x * Outer.Inner.k)
    yield f(X)
    Outer.Inner.k = 3
    yield f(X)

    class Other:
        k = 9
    Outer.Inner = Other
    yield f(X)


@trap
def instance_call_added():
    class A:
        def __call__(self, x):
            return x + 1

    class B(A):
        pass
    b = B()
    f = both(lambda x: b(x))
    yield f(X)
    B.__call__ = lambda self, x: x * 2
    yield f(X)


@trap
def iter_protocol_added():
    class A:
        def __getitem__(self, k):
            if k > 2:
                raise IndexError
            return k
    a = A()
    f = both(lambda x: x * sum(a))
    yield f(X)
    A.__iter__ = lambda self: iter([7])
    yield f(X)


@trap
def contains_added():
    class A:
        def __iter__(self):
            return iter([1, 2])
    a = A()
    f = both(lambda x: x if 2 in a else -x)
    yield f(X)
    A.__contains__ = lambda self, v: False
    yield f(X)


@trap
def subclass_property_vs_method():
    class A:
        def k(self):
            return 2
    a = A()
    f = both(lambda x: x * (a.k() if callable(a.k) else a.k))
    yield f(X)
    A.k = 5
    yield f(X)
    a.k = lambda: 7
    yield f(X)


@trap
def deep_config():
    class C:
        pass
    c = C()
    c.m = C()
    c.m.d = {"l": [C()]}
    c.m.d["l"][0].w = 2
    f = both(lambda x: x * c.m.d["l"][0].w)
    yield f(X)
    c.m.d["l"][0].w = 3
    yield f(X)
    c.m.d["l"][0] = c.m
    c.m.w = 8
    yield f(X)
    n = C()
    n.w = 9
    c.m.d = {"l": [n]}
    yield f(X)


@trap
def object_with_slots_and_dict():
    class S:
        __slots__ = ("a", "__dict__")
    s = S()
    s.a = 1
    s.b = 2
    f = both(lambda x: x * s.a + s.b + len(vars(s)))
    yield f(X)
    s.a = 4
    yield f(X)
    s.c = 1
    yield f(X)
    s.b = 7
    yield f(X)


@trap
def frozenset_default_and_tuple_of_types():
    kinds = [(int, float)]
    f = both(lambda x, v: x if isinstance(v, kinds[0]) else -x)
    yield f(X, 1)
    kinds[0] = (str,)
    yield f(X, 1)
    yield f(X, "a")


@trap
def module_training_via_dict():
    m = nn.Dropout(1.0)
    f = both(lambda x: m(x))
    yield f(X)
    m.__dict__["training"] = False
    yield f(X)


@trap
def functools_wraps_decorator_state():
    class Deco:
        def __init__(s, fn):
            functools.update_wrapper(s, fn)
            s.fn = fn
            s.k = 1

        def __call__(s, x):
            return s.fn(x) * s.k

    @Deco
    def g(x):
        return x + 1
    f = both(lambda x: g(x))
    yield f(X)
    g.k = 3
    yield f(X)
    g.fn = lambda x: x
    yield f(X)

@pytest.mark.parametrize("name", list(TRAPS))
def test_trap(name):
    spring(TRAPS[name])

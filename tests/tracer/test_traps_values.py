"""Soundness: containers and values of Python change between two calls."""
import collections
import gc
import math
import threading
import types
import weakref

import numpy as np
import pytest
from tracer.support import compile
from tracer.traps import both, facts, rand, spring

import flambeau

pytestmark = pytest.mark.filterwarnings("error::flambeau.frontend.points.FallbackWarning",
                                        "error::flambeau.frontend.points.RecompileWarning")
X = rand(4, 3)
TRAPS = {}


def trap(fn):
    TRAPS[fn.__name__] = fn
    return fn


# --------------------------------------------------------------------------- containers

@trap
def contents_deep_inside():
    c = [{"a": ({"b": collections.deque([1, {2, 3}])},)}]
    f = both(lambda x: x * len(c[0]["a"][0]["b"][1]) + c[0]["a"][0]["b"][0])
    yield f(X)
    c[0]["a"][0]["b"][1].add(4)
    yield f(X)
    c[0]["a"][0]["b"][0] = 9
    yield f(X)


@trap
def the_order_of_a_dict_of_tensors():
    d = {"a": rand(3, seed=1), "b": rand(3, seed=2)}

    def g(x):
        for v in d.values():
            x = x * 2 + v
        return x
    f = both(g)
    yield f(X)
    d["a"] = d.pop("a")
    yield f(X)


@trap
def a_key_that_in_looked_for():
    d = {"a": 1}
    f = both(lambda x: x * 2 if "flag" in d else x)
    yield f(X)
    d["flag"] = None
    yield f(X)
    del d["flag"]
    yield f(X)


@trap
def keys_of_other_types():
    d = {1: 2}
    f = both(lambda x, k: x * d.get(k, 100))
    for k in (1, 1.0, True, "1", None, (1,), 2):
        yield f(X, k)


@trap
def a_missing_method():
    class D(dict):
        k = 5

        def __missing__(self, key):
            return self.k
    d = D(a=1)
    f = both(lambda x: x * d["b"] + d["a"])
    yield f(X)
    d["b"] = 2
    yield f(X)
    del d["b"]
    D.k = 7
    yield f(X)


@trap
def a_default_factory_is_replaced():
    d = collections.defaultdict(int)

    def g(x):
        found = x + d["new"]
        del d["new"]
        return found
    f = both(g)
    yield f(X)
    d.default_factory = lambda: 8
    yield f(X)
    d.default_factory = None
    yield f(X)


@trap
def a_list_subclass_and_a_dict_subclass():
    class L(list):
        def __getitem__(self, k):
            return 10
    f = both(lambda x, xs: x * xs[0])
    yield f(X, [2])
    yield f(X, L([2]))
    L.__getitem__ = lambda self, k: 20
    yield f(X, L([2]))
    yield f(X, {0: 3})
    yield f(X, collections.Counter({0: 4}))
    yield f(X, collections.ChainMap({0: 5}))
    yield f(X, types.MappingProxyType({0: 6}))


@trap
def a_mapping_proxy():
    d = {"k": 2}
    view = types.MappingProxyType(d)
    f = both(lambda x: x * view["k"] * len(view))
    yield f(X)
    d["k"] = 3
    yield f(X)
    d["j"] = 3
    yield f(X)


@trap
def two_lists_become_one():
    class Holder:
        pass
    h = Holder()
    h.a, h.b = [1], [1]

    def g(x):
        h.a.append(2)
        found = x * len(h.b)
        h.a.pop()
        return found
    f = both(g)
    yield f(X)
    h.b = h.a
    yield f(X)


@trap
def objects_become_one():
    class Box:
        def __init__(self, k):
            self.k = k

    def g(x, a, b):
        a.k = 5
        found = x * b.k
        a.k = 2
        return found
    f = both(g)
    yield f(X, Box(2), Box(3))
    a = Box(2)
    yield f(X, a, a)


@trap
def an_iterator_that_has_advanced():
    class Holder:
        pass
    a, b = Holder(), Holder()
    a.it, b.it = iter([1, 2, 3]), iter([1, 2, 3])

    def g(h, x):
        return x * next(h.it)
    f = compile(g, backend="eager")
    for _ in range(3):
        yield facts(f(a, X)), facts(g(b, X))


@trap
def a_range_and_a_slice():
    f = both(lambda x, r: x[r] if isinstance(r, slice) else x * sum(r))
    for r in (range(3), range(4), range(0, 6, 2), slice(0, 2), slice(1, 3), slice(None)):
        yield f(X, r)


@trap
def a_set_of_objects():
    class A:
        pass
    a, b = A(), A()
    s = {a}
    f = both(lambda x: x * (b in s) + len(s))
    yield f(X)
    s.add(b)
    yield f(X)
    s.remove(a)
    yield f(X)


@trap
def weak_references():
    class A:
        k = 3
    a = A()
    r = weakref.ref(a)
    d = weakref.WeakValueDictionary(k=a)
    f = both(lambda x: (x * r().k if r() is not None else -x) * (2 if "k" in d else 1))
    yield f(X)
    a.k = 4
    yield f(X)
    del a
    gc.collect()
    yield f(X)


# --------------------------------------------------------------------------- values

@trap
def equal_values_of_other_types():
    f = both(lambda x, k: (x * k, type(k).__name__))
    for k in (1, True, 1.0, np.float32(1), np.int64(1)):
        yield f(X.double(), k)


@trap
def zeros_and_nans():
    f = both(lambda x, k: (flambeau.full_like(x, 1) / k, math.copysign(1.0, k)))
    for k in (0.0, -0.0, float("nan"), float("inf"), -float("inf")):
        yield f(X, k)


@trap
def zeros_inside_a_tuple():
    f = both(lambda x, p: math.copysign(2.0, p[0]) * x if p == (0.0,) else x)
    yield f(X, (0.0,))
    yield f(X, (-0.0,))


@trap
def complex_numbers():
    f = both(lambda x, z: x * math.copysign(1.0, z.imag) + z.real)
    yield f(X, complex(1, 0.0))
    yield f(X, complex(1, -0.0))
    yield f(X, complex(2, 1))


@trap
def big_and_negative_ints():
    f = both(lambda x, k: x + (k % 7) if k > 0 else x - k // 3)
    for k in (1, 0, -1, 2**40, -5, 2**70):
        yield f(X.double(), k)


@trap
def numpy_scalars_and_arrays():
    a = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    f = both(lambda x: x * flambeau.from_numpy(a) + float(a[0]))
    yield f(X)
    a[0] = 9
    yield f(X)
    a *= 2
    yield f(X)


@trap
def subclasses_of_str_and_int():
    class S(str):
        def __len__(self):
            return 50

    class N(int):
        def __mul__(self, other):
            return other * 3
        __rmul__ = __mul__
    f = both(lambda x, s: x * len(s))
    yield f(X, "ab")
    yield f(X, S("ab"))
    g = both(lambda x, n: n * 2)
    yield g(X, 5)
    yield g(X, N(5))


@trap
def an_object_with_a_changing_text():
    class A:
        k = 1

        def __str__(self):
            return "a" * self.k

        __repr__ = __str__
    a = A()
    f = both(lambda x: x * len(f"{a}") + len(str(a)))
    yield f(X)
    a.k = 4
    yield f(X)


@trap
def thread_locals():
    local = threading.local()
    local.k = 2
    f = both(lambda x: x * local.k)
    yield f(X)
    local.k = 3
    yield f(X)
    results = []

    def work():
        local.k = 7
        results.append(f(X))
    t = threading.Thread(target=work)
    t.start()
    t.join()
    yield results[0]


@trap
def context_variables():
    import contextvars
    var = contextvars.ContextVar("var", default=2)
    f = both(lambda x: x * var.get())
    yield f(X)
    token = var.set(5)
    yield f(X)
    var.reset(token)
    yield f(X)


@trap
def an_exception_class_that_changes():
    class E(Exception):
        pass
    box = {"kind": E}

    def g(x):
        try:
            raise E("a")
        except box["kind"]:
            return x + 1
        except Exception:
            return x - 1
    f = both(g)
    yield f(X)
    box["kind"] = KeyError
    yield f(X)


@trap
def a_context_manager_that_changes():
    class Manager:
        swallow = True

        def __enter__(self):
            return 2

        def __exit__(self, *exc):
            return self.swallow
    m = Manager()

    def g(x):
        k = 1
        try:
            with m as k:
                raise ValueError
        except ValueError:
            return -x
        return x * k
    f = both(g)
    yield f(X)
    m.swallow = False
    yield f(X)
    Manager.__exit__ = lambda self, *exc: True
    Manager.__enter__ = lambda self: 9
    yield f(X)


@trap
def the_identity_of_arguments():
    f = both(lambda x, a, b: x if a is b else -x)
    a, b = object(), object()
    yield f(X, a, a)
    yield f(X, a, b)
    yield f(X, None, None)
    yield f(X, [], [])


@trap
def an_object_replaced_by_an_equal_one():
    class A:
        def __init__(self, k):
            self.k = k

        def __eq__(self, other):
            return True

        def __hash__(self):
            return 1
    d = {A(1): 2}
    f = both(lambda x, a: x * a.k * (a in d))
    yield f(X, A(1))
    yield f(X, A(3))
    A.__eq__ = lambda self, other: self is other
    yield f(X, A(3))


@trap
def type_annotations_and_docs():
    class A:
        """one"""
        k: int = 1
    f = both(lambda x: x * len(A.__doc__) + len(A.__annotations__))
    yield f(X)
    A.__doc__ = "longer"
    yield f(X)
    A.__annotations__["j"] = int
    yield f(X)


@trap
def the_name_of_a_class_or_function():
    def g(x):
        return x

    class A:
        pass
    f = both(lambda x: x * len(g.__name__) + len(A.__name__) + len(type(A()).__qualname__))
    yield f(X)
    g.__name__ = "longer_name"
    yield f(X)
    A.__name__ = "AAAA"
    yield f(X)
    A.__qualname__ = "AAAAAAA"
    yield f(X)


@trap
def instance_dict_replaced():
    class A:
        pass
    a = A()
    a.k = 2
    f = both(lambda x: x * a.k + len(vars(a)))
    yield f(X)
    a.__dict__ = {"k": 3}
    yield f(X)
    a.__dict__.update(k=4, j=1)
    yield f(X)


@pytest.mark.parametrize("name", list(TRAPS))
def test_trap(name):
    spring(TRAPS[name])

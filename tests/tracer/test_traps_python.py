"""Soundness: functions and namespaces of Python change between two calls."""
import builtins
import functools
import importlib
import math
import sys
import types

import pytest
from tracer.support import compile
from tracer.traps import both, facts, patched, rand, spring

import flambeau
import flambeau.nn.functional as F

pytestmark = pytest.mark.filterwarnings("error::flambeau.frontend.points.FallbackWarning",
                                        "error::flambeau.frontend.points.RecompileWarning")
X = rand(4, 3)
TRAPS = {}


def trap(fn):
    TRAPS[fn.__name__] = fn
    return fn


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

"""Soundness: what a tensor is (layout, aliases, the tape, attributes, class) changes between two calls."""
import numpy as np
import pytest
from tracer.support import Tensor, compile
from tracer.traps import both, facts, rand, spring

import flambeau
from flambeau import nn

pytestmark = pytest.mark.filterwarnings("error::flambeau.frontend.points.FallbackWarning",
                                        "error::flambeau.frontend.points.RecompileWarning")
X = rand(4, 3)
TRAPS = {}


def trap(fn):
    TRAPS[fn.__name__] = fn
    return fn


@trap
def contiguity():
    f = both(lambda x: x * 2 if x.is_contiguous() else x * 3)
    yield f(X)
    yield f(rand(3, 4).t())
    yield f(rand(8, 3)[::2])
    yield f(X.t().contiguous().t())


@trap
def strides():
    f = both(lambda x: x * x.stride(0) + sum(x.stride()))
    yield f(X)
    yield f(rand(3, 4).t())
    yield f(rand(1, 3).expand(4, 3))
    yield f(rand(8, 3)[::2])


@trap
def the_layout_of_results():
    f = both(lambda x: (x * 2, x.clone(), flambeau.empty_like(x).stride(), x.view(-1) if x.is_contiguous() else x.reshape(-1)))
    yield f(X)
    yield f(rand(3, 4).t())
    yield f(rand(4, 1, 3).squeeze(1))


@trap
def views_need_the_right_strides():
    f = both(lambda x: x.view(-1))
    yield f(X)
    yield f(rand(3, 4).t())                                         # raises


@trap
def storage_offsets():
    base = rand(10)
    f = both(lambda x: x * x.storage_offset())
    yield f(base[1:5])
    yield f(base[3:7])
    yield f(base[:4])


@trap
def as_strided_reads_past_the_view():
    base = rand(16)
    f = both(lambda x: x.as_strided((2, 2), (6, 1)))
    yield f(base[:4])
    yield f(base[4:8])


@trap
def number_of_dimensions():
    f = both(lambda x: x.sum(0) if x.dim() else x * 5)
    for t in (rand(3), rand(1), rand(), rand(3, 1), rand(0)):
        yield f(t)


@trap
def sizes_zero_and_one_after_dynamic():
    f = both(lambda x: x.sum(0) + x.shape[0])
    for n in (4, 5, 6, 1, 0, 7):
        yield f(rand(n, 3))


@trap
def broadcasting_after_dynamic():
    f = both(lambda x, y: x + y)
    for n, m in ((4, 4), (5, 5), (6, 1), (1, 6), (1, 1), (0, 1), (7, 7)):
        yield f(rand(n, 3), rand(m, 3))
    yield f(rand(5, 3), rand(4, 3))                                 # raises


@trap
def sizes_that_were_equal_by_chance():
    f = both(lambda x, y: (x.sum() if x.shape[0] == y.shape[0] else x.sum() + y.sum()))
    for n, m in ((4, 4), (5, 5), (6, 7), (7, 6)):
        yield f(rand(n), rand(m))


@trap
def dtypes():
    f = both(lambda x: (x + 1, x / 2, x.sum(), x.dtype.is_floating_point))
    for name in ("float32", "float64", "int64", "bool", "bfloat16", "complex64", "uint8"):
        yield f(X.to(getattr(flambeau, name)))


@trap
def requires_grad_and_leaves():
    def g(x):
        y = x * 2
        return y, x.is_leaf, x.requires_grad, y.is_leaf
    f = both(g)
    yield f(X)
    yield f(rand(4, 3, requires_grad=True))
    yield f(rand(4, 3, requires_grad=True) * 1)
    yield f((rand(4, 3, requires_grad=True) * 1).detach())


@trap
def writing_to_leaves_and_others():
    def g(x):
        x.add_(1)
        return x * 1
    compiled = compile(g, backend="eager")

    def outcome(fn, x):
        try:
            return facts(fn(x))
        except RuntimeError as error:
            return str(error)
    for make in (lambda: rand(3), lambda: rand(3, requires_grad=True), lambda: rand(3, requires_grad=True) * 1,
                 lambda: rand(3, requires_grad=True).detach()):
        yield outcome(compiled, make()), outcome(g, make())


@trap
def gradients_come_and_go():
    x = rand(3, requires_grad=True)
    f = both(lambda x: x * 2 if x.grad is None else x * x.grad)
    yield f(x)
    (x * 3).sum().backward()
    yield f(x)
    x.grad.zero_()
    yield f(x)
    x.grad = rand(3)
    yield f(x)
    x.grad = None
    yield f(x)


@trap
def the_tape_behind_a_tensor():
    f = both(lambda x: x * 2 if x.grad_fn is None else x * 3)
    x = rand(3, requires_grad=True)
    yield f(x)
    yield f(x * 1)
    yield f(x.detach())


@trap
def attributes_of_a_tensor():
    x = rand(3)
    f = both(lambda x: x * getattr(x, "scale", 1) + (x.shift if hasattr(x, "shift") else 0))
    yield f(x)
    x.scale = 3
    yield f(x)
    x.shift = rand(3, seed=4)
    yield f(x)
    del x.scale
    yield f(x)


@trap
def one_tensor_or_two():
    def g(x, y):
        x.add_(1)
        return y * 2
    compiled = compile(g, backend="eager")
    for same in (False, True, False):
        a, b = rand(3), rand(3)
        c, d = rand(3), rand(3)
        yield facts(compiled(a, a if same else b)), facts(g(c, c if same else d))


@trap
def overlapping_views():
    def g(x, y):
        x.mul_(2)
        y.add_(1)
        return x + y
    compiled = compile(g, backend="eager")

    def views(kind):
        base = rand(8)
        return {"apart": (base[:4], base[4:]), "same": (base[:4], base[:4]), "shifted": (base[:4], base[2:6]),
                "two": (base[:4], rand(4, seed=5)), "reversed": (base[:4], base[:4].flip(0))}[kind]
    for kind in ("two", "apart", "shifted", "same", "reversed", "two"):
        yield facts(compiled(*views(kind))), facts(g(*views(kind)))


@trap
def a_view_of_another_argument():
    def g(x, y):
        y.zero_()
        return x.sum(), y
    compiled = compile(g, backend="eager")

    def make(kind):
        base = rand(4, 3)
        return {"no": (base, rand(3, seed=8)), "row": (base, base[1]), "column": (base, base[:, 0]),
                "transposed": (base, base.t()), "detached": (base, base.detach())}[kind]
    for kind in ("no", "row", "column", "transposed", "detached"):
        a, b = make(kind), make(kind)
        yield (facts(compiled(*a)), facts(a)), (facts(g(*b)), facts(b))


@trap
def a_parameter_and_its_view():
    w = nn.Parameter(rand(4))
    v = nn.Parameter(rand(4))

    def g(w, v):
        with flambeau.no_grad():
            w.add_(1)
        return v * 2
    compiled = compile(g, backend="eager")
    yield facts(compiled(w, v)), facts(v * 2)
    yield facts(compiled(w, w.detach()[:])), facts(w.detach() * 2)


@trap
def results_that_alias_inputs():
    def g(x, y):
        return x, y.view(-1), x[0]
    compiled = compile(g, backend="eager")
    a, b = rand(2, 2), rand(2, 2, seed=1)
    for p, q in ((a, b), (a, a), (b, a)):
        for fn in (g, compiled):
            r = fn(p, q)
            yield (r[0] is p, r[1].data_ptr() == q.data_ptr(), r[2].data_ptr() == p.data_ptr(), p is q), \
                (True, True, True, p is q)


@trap
def a_subclass_with_methods_of_its_own():
    class Special(Tensor):
        def relu(self):
            return Tensor.mul(self, 3)

        @property
        def extra(self):
            return 4
    f = both(lambda x: x.relu() * getattr(x, "extra", 1))
    yield f(X)
    yield f(X.as_subclass(Special))
    Special.relu = lambda self: Tensor.mul(self, 7)
    yield f(X.as_subclass(Special))
    Special.extra = 9
    yield f(X.as_subclass(Special))
    del Special.relu
    yield f(X.as_subclass(Special))


@trap
def a_subclass_with_operators_of_its_own():
    class Special(Tensor):
        def __add__(self, other):
            return Tensor.mul(self, 3)

        def __getitem__(self, key):
            return Tensor.mul(self, 10)

        def __len__(self):
            return 40
    f = both(lambda x: ((x + 1), x[0], len(x)))
    yield f(X)
    yield f(X.as_subclass(Special))


@trap
def a_subclass_with_torch_function():
    class Logged(Tensor):
        factor = 2

        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            out = super().__torch_function__(func, types, args, kwargs or {})
            return out.as_subclass(Tensor) * cls.factor if isinstance(out, Tensor) else out
    f = both(lambda x: flambeau.relu(x) + 1)
    yield f(X)
    yield f(X.as_subclass(Logged))
    Logged.factor = 5
    yield f(X.as_subclass(Logged))


@trap
def an_operator_of_tensor_is_patched():
    f = both(lambda x: (x + 1, -x, x[0], x == x))
    yield f(X)
    before = Tensor.__add__, Tensor.__neg__
    Tensor.__add__ = lambda self, other: self * 9
    Tensor.__neg__ = lambda self: self * 8
    try:
        yield f(X)
    finally:
        Tensor.__add__, Tensor.__neg__ = before
    yield f(X)


@trap
def captured_tensors_change():
    w = rand(3)
    box = {"w": w}
    f = both(lambda x: x * box["w"] + w)
    yield f(X)
    w.add_(1)
    yield f(X)
    box["w"] = rand(3, seed=3)
    yield f(X)
    box["w"].resize_(1)
    yield f(X)
    w.data = rand(4, 3)
    yield f(X)
    w.requires_grad_()
    yield f(X)


GLOBAL = rand(3)


@trap
def a_global_tensor_is_replaced():
    global GLOBAL
    f = both(lambda x: x * GLOBAL)
    yield f(X)
    GLOBAL = rand(3, seed=9)
    yield f(X)
    GLOBAL = rand(4, 1)
    yield f(X)
    GLOBAL = 3
    yield f(X)


@trap
def a_tensor_shares_memory_with_numpy():
    a = np.ones(3, dtype=np.float32)
    t = flambeau.from_numpy(a)
    f = both(lambda x: x * t)
    yield f(X)
    a[:] = 5
    yield f(X)


@trap
def conjugates_and_negated_views():
    z = X.to(flambeau.complex64) * (1 + 2j)
    f = both(lambda z: flambeau.view_as_real(z * 1) if not z.is_conj() else flambeau.view_as_real(z * 2))
    yield f(z)
    yield f(z.conj())
    yield f(z.conj().conj())


@trap
def numbers_as_tensors():
    f = both(lambda x, k: x * k)
    for k in (2, 2.0, flambeau.tensor(2), flambeau.tensor(2.0), flambeau.tensor([2.0]), flambeau.tensor(2.0).double(), True):
        yield f(X, k)


@trap
def optional_tensors():
    f = both(lambda x, y=None: x if y is None else x + y)
    for y in (None, rand(3), None, rand(1), 2):
        yield f(X, y)


@trap
def tensors_in_containers():
    f = both(lambda xs: sum(xs) if isinstance(xs, (list, tuple)) else sum(xs.values()))
    a, b = rand(3), rand(3, seed=1)
    for xs in ([a, b], [a, a], (a, b), [a], {"a": a, "b": b}, {"b": a}, [a, 1, b]):
        yield f(xs)


@trap
def a_tensor_as_a_key():
    a, b = rand(3), rand(3)
    d = {a: 2}
    f = both(lambda x, t: x * d.get(t, 100) * (3 if t in d else 1))
    yield f(X, a)
    yield f(X, b)
    d[b] = 4
    yield f(X, b)
    del d[a]
    yield f(X, a)


@trap
def an_object_as_a_key():
    class A:
        pass
    a, b = A(), A()
    d, s = {a: 2}, {a}
    f = both(lambda x, t: x * d.get(t, 100) * (3 if t in s else 1))
    yield f(X, a)
    yield f(X, b)
    s.add(b)
    yield f(X, b)
    yield f(X, a)
    s.clear()
    yield f(X, a)


@trap
def a_tensor_swapped_in_place():
    t = rand(3)
    f = both(lambda x: x + t)
    yield f(X)
    t.set_(rand(4, 3))
    yield f(X)
    t.data = rand(1)
    yield f(X)


@trap
def a_version_that_has_moved_on():
    t = rand(3)
    f = both(lambda x: x * t._version)
    yield f(X)
    t.add_(1)
    t.add_(1)
    yield f(X)


@trap
def names_of_devices():
    f = both(lambda x: x * 2 if x.device.type == "cpu" else x)
    yield f(X)
    yield f(X * 2)
    yield f(X.to("meta"))


@pytest.mark.parametrize("name", list(TRAPS))
def test_trap(name):
    spring(TRAPS[name])

"""More of the language: facts about tensors, small classes made in functions, numbers and arguments of every kind."""

import collections
import copy
import dataclasses
import enum
import functools
import inspect
import itertools
import math
import operator
import types
import typing
import weakref

from ..given import F, nn, program, rand, torch

X = rand(3, 4)
Y = rand(3, 4, seed=1)
LOG = []


@program((X, True), (X, False), (X, True))
def boolarg(a, flag):
    b = a + 1
    if flag:
        return b - a
    return b * a


@program(((X, Y), {"k": X}), ((Y, X), {"k": Y}))
def callpacked(pair, kw):
    def inner(a, b, k=None):
        return a * b + k

    return inner(*pair, **kw)


@program((X,))
def shape_unpack(x):
    a, b = x.size()
    c, *d = x.shape
    return x.reshape(b, a), a * c, d, len(x.shape), x.shape[-1], x.size(-1)


@program((X,), (rand(5, 2),), (rand(6, 3),))
def torch_size_things(x):
    s = x.shape
    t = s[:1] + (2, 3)
    n = s.numel()
    return (
        x.sin(),
        isinstance(s, tuple),
        type(t),
        n,
        tuple(s),
        list(s),
        s.index(x.size(0)),
        s == torch.Size([3, 4]),
        torch.Size((1, n)),
    )


@program((X, torch.float32), (X, torch.float64))
def finfo_iinfo(x, dt):
    fi = torch.finfo(dt)
    ii = torch.iinfo(torch.int32)
    return x.to(dt) * fi.eps + fi.max / 1e30 / fi.max, ii.max, fi.bits, x.clamp(min=fi.min, max=fi.max)


@program((X,))
def tensor_facts(x):
    y = x + 1
    out = [
        x.is_floating_point(),
        torch.is_tensor(y),
        x.numel(),
        x.dim(),
        x.ndim,
        x.dtype == torch.float32,
        x.device.type,
        x.is_complex(),
        x.layout == torch.strided,
        x.element_size(),
        x.is_contiguous(),
        x.T.is_contiguous(),
        torch.is_floating_point(y),
        x.requires_grad,
        y.is_leaf,
        x.nelement(),
        x.ndimension(),
        y.grad_fn is None,
        x.stride(),
        x.T.stride(0),
        y.storage_offset(),
    ]
    return y, out


@program((X,), (X.double(),))
def type_of_a_tensor(x):
    y = x * 2
    if type(x) is torch.Tensor and isinstance(y, torch.Tensor) and not isinstance(y, nn.Parameter):
        y = y + 1
    if x.dtype in (torch.float64, torch.bfloat16):
        y = y.float()
    return y.type(torch.float64), y.type_as(x), x.new_zeros(2), x.new_tensor([1, 2]), x.new_full((2,), 3.0)


@program((X, "relu"), (X, "tanh"), (X, "relu"), (X, "other"))
def getattr_on_functional(x, name):
    fn = getattr(torch, name, None) or F.silu
    return fn(x) + 1


@program((X,))
def compare_shapes(x):
    y = x + 1
    if x.shape == y.shape and x.shape != (1, 2) and x.shape <= (3, 5):
        y = y * 2
    if list(x.size()) == [3, 4]:
        y = y - 1
    if (4, 3) == x.T.size():
        y = y / 3
    return y


@dataclasses.dataclass
class Conf:
    scale: float = 2.0
    names: list = dataclasses.field(default_factory=list)
    opts: dict | None = None

    def total(self):
        return self.scale * len(self.names)


@program((X, Conf(1.5, ["a", "b"])), (X, Conf(2.5, ["a"])), (X, Conf(3.5, ["a"])))
def dataclass_fields(x, conf):
    kept = {f.name: getattr(conf, f.name) for f in dataclasses.fields(conf)}
    new = dataclasses.replace(conf, scale=conf.scale + 1)
    return x * new.scale + conf.total(), sorted(kept), dataclasses.is_dataclass(conf)


@program((X,))
def asdict_of_dataclass(x):
    c = Conf(3.0, ["z"])
    c.names.append("y")
    d = dataclasses.asdict(c)
    d["scale"] += 1
    return x * d["scale"], d, dataclasses.astuple(c)


class Pt(typing.NamedTuple):
    a: object
    b: object = 2

    def scaled(self, k):
        return self._replace(a=self.a * k)


@program((Pt(X),), (Pt(Y, 3),), (Pt(Y, 4),))
def namedtuple_with_defaults(p):
    q = p.scaled(p.b)
    return q, Pt._fields, p._asdict(), q[0] + q.a, Pt(**{"a": q.a + 1})._make([1, 2])


@program((X, 3), (X, 5))
def range_input(x, n):
    r = range(1, n, 2)
    for i in r:
        x = x + i
    return x, r, len(r), r[-1], list(reversed(r)), 3 in r, r.start


@program((X,))
def str_format_things(x):
    y = x.cos()
    name = "{0}-{name:>5}-{0!r}".format(x.size(0), name="q")
    other = "%d/%s" % (x.size(1), "ab")
    return y, name + other, f"{x.dtype}", f"{tuple(x.shape)}", str(x.device), repr(x.shape)


@program((X,), (Y,))
def identity_tests(x):
    y = x
    z = x + 0
    a = 1 if y is x else 2
    b = 1 if z is x else 2
    c = x in [x]
    return z * a + b, c, id(y) == id(x)


@program((X, None), (X, Y), (X, None))
def optional_tensor(x, m):
    if m is None:
        m = torch.ones_like(x)
    return x * m


class Ctr:
    n = 0

    def __init__(self):
        self.hits = 0


CT = Ctr()


@program((X,), (X,), (X,), watch=lambda: (CT, Ctr.n))
def class_and_instance_counters(x):
    CT.hits += 1
    Ctr.n = Ctr.n + 1
    return x + 1


@program((X,))
def slots_and_dict(x):
    class P:
        __slots__ = ("u", "v")

        def __init__(self, u):
            self.u = u

    p = P(x + 1)
    p.v = p.u * 2
    return p.u, p.v, hasattr(p, "w")


@program((X,), (Y,))
def class_in_function_with_methods(x):
    class Acc:
        total = 0

        def __init__(self, s):
            self.s = s

        def add(self, t):
            self.s = self.s + t
            return self

        @property
        def mean(self):
            return self.s.mean()

        @staticmethod
        def twice(t):
            return t * 2

        @classmethod
        def make(cls, t):
            return cls(cls.twice(t))

    a = Acc.make(x).add(x)
    return a.s, a.mean


@program((X,))
def class_in_function_inherits(x):
    class A:
        def f(self, t):
            return t + 1

    class B(A):
        def f(self, t):
            return super().f(t) * 2

    return B().f(x), isinstance(B(), A), issubclass(B, A), B.__name__, B.__mro__[1].__name__


@program((X,))
def exception_class_in_function(x):
    class Bad(ValueError):
        pass

    y = x.sin()
    try:
        if x.size(0) == 3:
            raise Bad("no")
    except Bad as e:
        y = y + len(e.args)
    return y


@program((X,))
def namedtuple_made_in_function(x):
    T = collections.namedtuple("T", ["p", "q"])
    t = T(x + 1, q=x * 2)
    return t.p + t.q, len(t)


@program((X,))
def enum_in_function(x):
    class E(enum.Enum):
        A = 1
        B = 2

    e = E.B
    return x * e.value, e.name


@program((X,))
def dataclass_in_function(x):
    @dataclasses.dataclass
    class D:
        a: object
        b: int = 3

    d = D(x * 2)
    return d.a + d.b


@program((X, 2), (X, 3), (X, 4))
def operator_functions(x, n):
    get = operator.itemgetter(0, 1)
    a, b = get([x, n, 5])
    ln = operator.methodcaller("sum", 1)
    at = operator.attrgetter("shape")
    return (
        operator.mul(a, b),
        ln(x),
        at(x),
        operator.getitem(x, 0),
        operator.index(n),
        operator.truth(n),
        operator.is_(x, a),
        operator.concat([1], [2]),
        operator.neg(x),
        operator.matmul(x, x.T),
    )


@program((X,))
def torch_compiler_state(x):
    y = x + 1
    if torch.jit.is_scripting():
        y = y * 100
    if torch.is_grad_enabled():
        y = y * 2
    return y


@program((X,), (Y,))
def weak_references(x):
    r = weakref.ref(LOGGER)
    return x + r().value


class _Lg:
    value = 3


LOGGER = _Lg()


@program((X,))
def callable_checks(x):
    out = [callable(x), callable(len), callable(lambda: 1), callable(nn.Linear), callable(3), callable(LOGGER)]
    return x.exp(), out


@program((X,))
def inspect_signature(x):
    def f(a, b=2, *, c=3):
        return a * b + c

    sig = inspect.signature(f)
    return f(x, c=len(sig.parameters)), list(sig.parameters)


@program((X, [1, 2, 3]), (X, [4, 5, 6]), (X, [7, 8]))
def list_of_ints_argument(x, xs):
    return x * xs[0] + sum(xs) + max(xs)


@program((X, 0.5), (X, 0.25), (X, 0.125), (X, 2.0))
def float_arithmetic(x, lr):
    decay = lr * 0.9 + 1
    return x * decay - lr**2, decay


@program((X, 0.5), (X, 0.25), (X, 0.125), (X, 1.5))
def float_branch(x, lr):
    if lr > 1:
        return x * lr
    return x + math.sqrt(lr)


@program((X, 4), (X, 5), (X, 6), (X, 7))
def int_changes_and_branches(x, n):
    y = x * n
    if n % 2 == 0:
        y = y + 1
    return y


@program((X, 3), (X, 4), (X, 5))
def int_as_dimension_argument(x, n):
    y = torch.zeros(n, 2)
    z = torch.arange(n, dtype=torch.float32)
    return y + z.unsqueeze(1), x.repeat(n, 1)


@program((X, 1), (X, 0), (X, -1))
def dim_argument_changes(x, d):
    return x.sum(dim=d), F.softmax(x, dim=d)


@program(([X, Y],), ([X, Y, X],), ([X],), ([X] * 5,))
def list_length_changes(xs):
    out = torch.zeros_like(xs[0])
    for i, t in enumerate(xs):
        out = out + t * i
    return out


@program(({"a": X},), ({"a": X, "b": Y},), ({"b": X, "a": Y},))
def dict_keys_change(d):
    out = 0
    for k, v in d.items():
        out = out + v * (2 if k == "b" else 1)
    return out, list(d)


@program((X,))
def const_dict_and_lookup(x):
    table = {torch.float32: 2, (1, "a"): 3, None: 4, 2.5: 5, nn.Linear: 6}
    return x * table[x.dtype] + table[(1, "a")] - table[None] + table[nn.Linear], table.get("zz", 9)


@program((X,))
def del_things(x):
    a = [x, x + 1, x + 2]
    del a[0]
    d = {"p": 1, "q": 2}
    del d["p"]

    b = x * 2
    c = b
    del b
    return a, d, c


@program((X,))
def tuple_iadd(x):
    out = (x,)
    out += (x + 1,)
    out *= 2
    return out, out[1:], out[::-1][0]


@program((X,), (Y,))
def itertools_more(x):
    xs = [x, x + 1, x + 2, x + 3]
    a = [p * q for p, q in itertools.pairwise(xs)]
    b = list(itertools.zip_longest([1, 2, 3], [4], fillvalue=0))
    c = list(itertools.starmap(lambda p, q: p * q, [(x, 2), (x, 3)]))
    d = list(itertools.permutations([1, 2, 3], 2))
    e = list(itertools.combinations_with_replacement("ab", 2))
    f = list(itertools.compress(xs, [1, 0, 1, 0]))
    g = list(itertools.islice(itertools.count(2, 3), 4))
    h = list(itertools.takewhile(lambda v: v < 3, [1, 2, 3, 1]))
    i = list(itertools.dropwhile(lambda v: v < 3, [1, 2, 3, 1]))
    j = list(itertools.repeat(x, 2))
    k = list(itertools.chain.from_iterable([[1, 2], [3]]))
    l = list(itertools.filterfalse(None, [0, 1, 2]))
    cyc = itertools.cycle([1, 2])
    m = [next(cyc) for _ in range(5)]
    return a, b, c, d, e, f, g, h, i, j, k, l, m


@program((X,))
def functools_more(x):
    add3 = functools.partial(lambda a, b, c=0: a + b * c, c=3)
    r = functools.reduce(lambda a, b: a * b, [x, 2, 3], x)
    cmp = sorted([3, 1, 2], key=functools.cmp_to_key(lambda a, b: b - a))
    return add3(x, 2), r, cmp, add3.keywords, add3.func is not None


@program((X,), (X,), watch=lambda: LOG)
def recursion_depth(x):
    def down(t, n):
        LOG.append(n)
        return t if n == 0 else down(t * 2, n - 1) + n

    return down(x, 4)


@program((X,))
def nested_lambda_defaults(x):
    fs = [lambda t, k=k: t * k for k in range(4)]
    late = [lambda t: t + k for k in range(4)] if (k := 2) else []  # noqa: F841
    return [f(x) for f in fs], late[0](x)


@program((X,))
def global_name_shadow(x):
    sum = lambda v: v * 2
    len = 3
    return sum(x) + len


@program((X,), (Y,))
def types_simple_namespace_and_mapping(x):
    ns = types.SimpleNamespace(a=1, b=x)
    ns.c = ns.b * 2
    mp = types.MappingProxyType({"k": x})
    return ns.c + ns.a, mp["k"] * 2, list(mp), "k" in mp, vars(ns)["a"]


@program((X,))
def deepcopy_structures(x):
    base = {"a": [1, 2, {"b": (3, 4)}], "t": x}
    c = copy.deepcopy({k: v for k, v in base.items() if k != "t"})
    c["a"][2]["b"] = 9
    s = copy.copy(base)
    s["new"] = 1
    return x + c["a"][0], base, c, list(s)


@program((X, slice(0, 2)), (X, slice(1, 3)), (X, slice(None, None, 2)))
def slice_argument(x, s):
    return x[s] + 1, x[s, 1:], s.start, s.indices(3)


@program((X, torch.nn.functional.relu), (X, torch.sigmoid), (X, torch.nn.functional.relu))
def function_argument(x, f):
    return f(x) + f(-x)


@program((X, int), (X, float), (X, bool))
def type_argument(x, t):
    return x + t(2.7), t.__name__, t is int


@program((X,))
def python_numbers(x):
    a = divmod(17, 5)
    b = round(2.567, 2)
    c = int("12") + int("ff", 16)
    d = abs(-3.5)
    e = pow(2, 10, 7)
    f = 7 // -2
    g = -7 % 3
    h = 1 << 5 | 3 ^ 1 & 7
    i = ~5
    j = complex(1, 2).imag
    k = hex(255)
    l = float("inf") > 3
    m = (3).bit_length()
    n = (0.1).as_integer_ratio()[0] > 0
    o = float.fromhex("0x1p3")
    p = bin(5).count("1")
    return x * c + b, a, d, e, f, g, h, i, j, k, l, m, n, o, p


@program((X,))
def math_things(x):
    return (
        x * math.pi + math.prod([1, 2, 3]),
        math.isclose(1.0, 1.0),
        math.gcd(12, 18),
        math.comb(5, 2),
        math.floor(2.5),
        math.ceil(x.size(0) / 2),
        math.log2(8),
        math.inf,
        math.isnan(float("nan")),
        math.hypot(3, 4),
        math.copysign(1, -2),
        math.trunc(2.7),
        math.fsum([0.1] * 10),
        math.factorial(5),
        math.isqrt(17),
    )

"""More containers: subclasses, special methods, descriptors, metaclasses, keys of every kind."""

import abc
import bisect
import copy
import enum
import functools
import heapq
import typing
from collections import ChainMap, Counter, OrderedDict, UserDict, defaultdict, deque

from ..given import nn, program, rand, torch

X = rand(3, 4)
Y = rand(3, 4, seed=1)
LOG = []


@program((X,))
def user_dict(x):
    d = UserDict(a=1)
    d["b"] = x * 2
    return d["b"] + d["a"], sorted(d.keys()), "a" in d, len(d)


@program((X, {"b": 1, "a": 2}), (X, {"b": 3, "a": 2}), (X, {"a": 2, "b": 3}))
def dict_ops_on_argument(x, d):
    d2 = {**d, "c": 3} | {"d": 4}
    d2.pop("a")
    d2.setdefault("e", x)
    last = d2.popitem()
    d2.update([("f", 1)], g=2)
    keys = list(d2.keys() - {"c"})
    both = d2.keys() & d.keys()
    return (
        x * d["b"],
        last[0],
        sorted(keys),
        both,
        list(reversed(d2)),
        d2.get("zz"),
        dict.fromkeys(["p", "q"], 0),
        d == {"a": 2, "b": 1},
    )


class MyDict(dict):
    def __missing__(self, key):
        self[key] = key * 2
        return self[key]

    def __getitem__(self, k):
        LOG.append(k)
        return super().__getitem__(k)


@program((X,), watch=lambda: LOG)
def dict_subclass_with_missing(x):
    d = MyDict(a=1)
    return x * d[3] + d["a"], dict(d), d.get("u"), isinstance(d, dict)


@program(
    (X, OrderedDict([("p", X), ("q", Y)])),
)
def ordered_dict_moves(x, od):
    od.move_to_end("p")
    first = next(iter(od.items()))
    od["r"] = x
    k, v = od.popitem(last=False)
    return v + x, k, first[0], list(od)


@program((X,), (Y,))
def defaultdict_of_lists(x):
    g = defaultdict(list)
    for i in range(5):
        g[i % 2].append(x * i)
    n = defaultdict(lambda: defaultdict(int))
    n["a"]["b"] += 3
    c = g.copy()
    return sum(g[0]), len(g[7]), n["a"]["b"], sorted(g), g.default_factory is list, type(c).__name__


@program((X,))
def counter_things(x):
    c = Counter("abracadabra")
    c.update(["a", "z"])
    c2 = c - Counter(a=3)
    return (
        x * c["a"],
        c.most_common(2),
        c["nope"],
        c2.total() if hasattr(c2, "total") else sum(c2.values()),
        sorted(c.elements())[:3],
    )


@program((X,))
def chain_map_things(x):
    m = ChainMap({"a": x}, {"b": 2, "a": 0})
    m["c"] = 5
    k = m.new_child({"b": 7})
    return m["a"] * k["b"], m["c"], sorted(m), m.maps[1]["b"], k.parents["b"]


@program((X,))
def deque_things(x):
    d = deque([1, 2, 3], maxlen=4)
    d.append(x)
    d.appendleft(0)
    d.rotate(1)
    d.extend([5])
    d.extendleft([6])
    e = d.copy()
    e.clear()
    return x + d[1] if not isinstance(d[1], torch.Tensor) else d[1], len(d), d.maxlen, d.count(2), len(e), list(d)[0]


@program((X,))
def heap_and_bisect(x):
    h = [5, 2, 8]
    heapq.heapify(h)
    heapq.heappush(h, 1)
    a = heapq.heappop(h)
    i = bisect.bisect_left([1, 3, 5], 3)
    xs = [1, 3, 5]
    bisect.insort(xs, 4)
    return x * a + i, heapq.nlargest(2, h), xs


@program((X, {1, 2, 3}), (X, {3, 2, 1}), (X, {1, 2}))
def set_algebra(x, s):
    t = {2, 3, 4}
    s2 = s | t
    s3 = s & t
    s4 = s ^ t
    s5 = s - t
    fs = frozenset([1, 2])
    u = set(s)
    u.add(9)
    u.discard(1)
    u.update({5}, [6])
    u -= {2}
    return x * len(s2), s3, s4, s5, fs <= s2, fs.union([7]), u, s.isdisjoint({100}), {fs: 1}[fs], sorted(s, reverse=True), max(s)


@program((X,))
def set_of_tensors_and_modules(x):
    y = x + 1
    s = {x, y}
    s.add(x)
    m = nn.ReLU()
    t = {m, m}
    return x * len(s) + len(t), y in s, (x + 1) in s


@program(([1, X, "s"],), ([2, X, "s"],))
def list_surgery(xs):
    xs.insert(1, 7)
    xs.extend((8, 9))
    xs[0:2] = [0]
    del xs[-1]
    xs.reverse()
    ys = xs.copy()
    ys += [1]
    ys.remove(1)
    k = xs.index("s")
    t = [v for v in xs if isinstance(v, torch.Tensor)][0]
    return t * k, ys, xs.pop(), xs * 2, xs[::2], xs.count(8)


@program((X,))
def sorting_variants(x):
    xs = [(2, "b"), (1, "c"), (2, "a")]
    a = sorted(xs, key=lambda p: (-p[0], p[1]))
    xs.sort(key=lambda p: p[1], reverse=True)
    b = sorted({"z": 1, "y": 2}.items(), key=lambda kv: kv[1])
    c = min(xs, key=lambda p: p[1])
    d = max([1, 5, 3], default=0)
    e = max([], default=-1)
    order = sorted(range(3), key=[3, 1, 2].__getitem__)
    return x + a[0][0], a, xs, b, c, d, e, order


@program((X,))
def unpacking_variants(x):
    a, (b, *c), d = 1, (2, 3, 4), 5
    *e, f = [x, x + 1, x + 2]
    ((g, h),) = [(6, 7)]

    def k(*args, **kw):
        return len(args) + sum(kw.values())

    z = [*c, *range(2), *{"u": 1}]
    return e[0] + f, a + b + d + g + h, c, k(*c, *z, **{"m": 1}, **dict(n=2)), {**{"a": 1}, "a": 2}


class Color(enum.Enum):
    RED = 1
    BLUE = "b"

    @classmethod
    def default(cls):
        return cls.RED

    @property
    def low(self):
        return self.name.lower()


@program((X, Color.RED), (X, Color.BLUE), (X, Color.RED))
def enum_branches(x, c):
    w = {Color.RED: 2, Color.BLUE: 3}
    if c is Color.default():
        x = x + 1
    return (
        x * w[c],
        c.low,
        Color["RED"] == c,
        Color("b") is c,
        [m.name for m in Color],
        len(Color),
        c in Color,
        isinstance(c, Color),
    )


class Perm(enum.IntFlag):
    R = enum.auto()
    W = enum.auto()
    X = R | W


@program((X, Perm.R), (X, Perm.X))
def int_flags(x, p):
    if Perm.W in p:
        x = x * 2
    return x + int(p) + p.value, p & Perm.R, (p | Perm.W) == Perm.X


class Vec:
    def __init__(self, *v):
        self.v = list(v)

    def __add__(self, o):
        return Vec(*[a + b for a, b in zip(self.v, o.v)])

    def __radd__(self, o):
        return self if o == 0 else NotImplemented

    def __mul__(self, k):
        return Vec(*[a * k for a in self.v])

    __rmul__ = __mul__

    def __getitem__(self, i):
        return self.v[i]

    def __setitem__(self, i, w):
        self.v[i] = w

    def __len__(self):
        return len(self.v)

    def __iter__(self):
        return iter(self.v)

    def __contains__(self, o):
        return any(o is a for a in self.v)

    def __eq__(self, o):
        return isinstance(o, Vec) and len(self) == len(o)

    def __hash__(self):
        return 7

    def __bool__(self):
        return len(self.v) > 1

    def __call__(self, x):
        return x * len(self.v)

    def __neg__(self):
        return self * -1

    def __matmul__(self, o):
        return sum(a * b for a, b in zip(self, o))

    def __iadd__(self, o):
        self.v = [a + 1 for a in self.v]
        return self

    def __enter__(self):
        return self

    def __exit__(self, *a):
        self.v.append(9)
        return False

    def __repr__(self):
        return f"Vec({len(self.v)})"

    def __lt__(self, o):
        return len(self) < len(o)

    def __index__(self):
        return 2

    def __reversed__(self):
        return reversed(self.v)

    def __delitem__(self, i):
        del self.v[i]


@program((X, Vec(X, Y)), (X, Vec(Y)), (X, Vec(Y, X, X)))
def dunder_everything(x, v):
    w = sum([v, v]) + v
    w = 2 * w * 3
    w[0] = w[0] + x
    a, *rest = w
    w += v
    out = [len(w), bool(w), x in v, v == w, hash(v), repr(v), v < w, [1, 2, 3][v], list(reversed(w))[0]]
    with w as q:
        z = -q @ q
    del w[0]
    return a + v(x), z, out, len(w), {v: 1}[w] if v == w else 0


class Desc:
    def __set_name__(self, owner, name):
        self.name = "_" + name

    def __get__(self, obj, owner=None):
        if obj is None:
            return self
        return getattr(obj, self.name, 0) * 2

    def __set__(self, obj, v):
        setattr(obj, self.name, v)

    def __delete__(self, obj):
        delattr(obj, self.name)


class HasDesc:
    d = Desc()

    def __init__(self, d):
        self.d = d

    @functools.cached_property
    def cp(self):
        LOG.append("cp")
        return self.d + 1


HD = HasDesc(X)


@program((X, HD), (X, HD), watch=lambda: (LOG, HD))
def descriptor_and_cached_property(x, h):
    a = h.cp + h.cp
    h.d = x
    b = h.d
    k = HasDesc(Y)
    del k.d
    return a + b, k.d, isinstance(HasDesc.d, Desc)


class Attr:
    def __init__(self):
        object.__setattr__(self, "store", {})

    def __getattr__(self, n):
        if n.startswith("__"):
            raise AttributeError(n)
        return self.store[n] if n in self.store else n

    def __setattr__(self, n, v):
        self.store[n] = v

    def __delattr__(self, n):
        self.store.pop(n)


@program((X,))
def attribute_protocol(x):
    a = Attr()
    a.t = x * 2
    a.u = 1
    del a.u
    return a.t, a.u, hasattr(a, "whatever"), getattr(a, "t", None) is a.t, sorted(a.store)


class Meta(type):
    registry = {}

    def __new__(m, name, bases, ns, **kw):
        cls = super().__new__(m, name, bases, ns)
        cls.tag = name.lower()
        m.registry[name] = cls
        return cls

    def __call__(cls, *a):
        o = super().__call__(*a)
        o.made = True
        return o

    def __len__(cls):
        return 4


class WithMeta(metaclass=Meta):
    def __init__(self, k):
        self.k = k


@program((X,), (X,))
def metaclass_calls(x):
    w = WithMeta(3)
    return x * w.k + len(WithMeta), w.made, WithMeta.tag, type(WithMeta) is Meta, list(Meta.registry)


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...
    def twice(self):
        return self.area() * 2


class Sq(Shape):
    def __init__(self, s):
        self.s = s

    def area(self):
        return self.s * self.s


@program((X,), (Y,))
def abstract_base(x):
    s = Sq(x)
    try:
        Shape()
        k = 0
    except TypeError:
        k = 5
    return s.twice() + k, isinstance(s, Shape), issubclass(Sq, abc.ABC)


T = typing.TypeVar("T")


class Gen(typing.Generic[T]):
    def __init__(self, v: T):
        self.v = v

    def get(self) -> T:
        return self.v


@program((X,))
def generics(x):
    g: Gen[torch.Tensor] = Gen[torch.Tensor](x)
    y: int = 3
    return g.get() * y, typing.cast(int, y), isinstance(g, Gen)


class Lst(list):
    def total(self):
        return sum(self)

    def append(self, v):
        super().append(v * 2)


class Tup(tuple):
    def __new__(cls, a, b):
        return super().__new__(cls, (a, b))

    @property
    def both(self):
        return self[0] + self[1]


class Strn(str):
    def shout(self):
        return self.upper() + "!"


class Num(int):
    def __add__(self, o):
        return Num(int(self) + int(o) + 100)


class Flt(float):
    unit = "m"


@program((X, Lst([X, Y])), (X, Lst([Y])))
def builtin_subclasses(x, l):
    l.append(x)
    t = Tup(x, 2)
    m = Num(3) + 4
    s = Strn("ab")
    n = Lst([1])
    n.append(2)
    return l.total() + t.both, m, s.shout(), s + "c", Flt(2.5) * 2, Flt.unit, n, isinstance(t, tuple), len(l)


@program((X,))
def object_protocol_functions(x):
    class_ = type("Dyn", (), {"k": 3, "f": lambda self, t: t * self.k})
    o = class_()
    o.z = 5
    return o.f(x) + o.z, getattr(o, "nope", None), hasattr(o, "k"), vars(o), type(o).__name__


@program((X,))
def string_list_ops(x):
    s = "a,b,c".split(",")
    return (
        x * len(s),
        "-".join(reversed(s)),
        "abc".replace("b", "x"),
        "abc"[::-1],
        "Hello".swapcase(),
        "x=1".partition("="),
        "%s" % (3,),
        "a" < "b",
        "abc".find("c"),
        "  q ".strip(),
        "a\nb".splitlines(),
        "é".encode(),
        b"ab".decode(),
        ord("a"),
        chr(98),
        "abc".startswith(("x", "a")),
        "A1".isalnum(),
        "z".rjust(3, "_"),
        "12".zfill(4),
        str(2.5),
        f"{3.14159:.2f}",
    )


@program((X, (1, (2, 3), {"k": [4]})), (X, (1, (2, 3), {"k": [5]})))
def nested_argument(x, tree):
    a, (b, c), d = tree
    return x * a + b + c + d["k"][0]


class Node:
    def __init__(self, v, nxt=None):
        self.v, self.nxt = v, nxt


@program((Node(X, Node(Y)),), (Node(X, Node(Y, Node(X))),))
def linked_list(n):
    total = 0
    while n is not None:
        total = total + n.v
        n = n.nxt
    return total


@program((X,))
def tree_of_objects(x):
    root = Node(x, [Node(x * 2, []), Node(x * 3, [Node(x, [])])])

    def walk(n, depth=0):
        yield depth, n.v
        for c in n.nxt:
            yield from walk(c, depth + 1)

    return sum(v * (d + 1) for d, v in walk(root)), max(d for d, _ in walk(root))


@program((X,))
def bool_and_none_arithmetic(x):
    return (
        x * True + (3 if not [] else 4),
        None or 5,
        [] or {},
        True + True,
        not None,
        bool("0"),
        1 if () else 2,
        any([0, None, 2]),
        all([]),
        sum([[1], [2]], []),
        sum(i * i for i in range(4)),
    )


@program((X, torch.tensor(3)), (X, torch.tensor(5)))
def tensors_as_keys(x, k):
    d = {x: 1, k: 2}
    return x * d[x] + d[k], x in d, len(d)


@program((X,))
def copies_with_hooks(x):
    class C:
        def __init__(self):
            self.a = [1]
            self.t = None

        def __copy__(self):
            c = C()
            c.a = self.a
            c.t = "copied"
            return c

        def __deepcopy__(self, memo):
            c = C()
            c.a = copy.deepcopy(self.a, memo)
            c.t = "deep"
            return c

    c = C()
    return x + len(c.a), copy.copy(c).t, copy.deepcopy(c).t, copy.copy(c).a is c.a

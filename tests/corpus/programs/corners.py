"""Corners of the language: orders of evaluation, live views, iterators half consumed, lookups that fall through."""

import collections
import functools
import itertools
import sys
import types
from dataclasses import InitVar, dataclass, field
from enum import Enum, IntFlag, auto, unique
from typing import ClassVar, NamedTuple

from ..given import F, call, nn, program, rand, torch

X = rand(4, 3)


@program((X,), (X,))
def order_of_evaluation(x):
    log = []

    def say(v):
        log.append(v)
        return v
    d = {say("k1"): say("v1"), say("k2"): say("v2")}
    t = (say(1), say(2)) + (say(3),)
    d[say("key")] = say("value")
    r = say(5) if say(True) else say(6)
    b = say(0) or say(7) and say(8)
    f = functools.partial(lambda *a, **k: len(a) + len(k), say("p"))(say("a"), *[say("s")], k=say("kw"), **{"z": say("zz")})
    return x * f, log, t, r, b, list(d)


@program((X,), (X,))
def dict_order_after_changes(x):
    d = dict(a=1, b=2, c=3)
    del d["a"]
    d["a"] = 4
    d["b"] = 5
    keys = d.keys()
    d["z"] = 6
    popped = d.popitem()
    return x * len(keys), list(keys), list(d.values()), popped, [*reversed(d)], d | {"b": 0}, list({**{"q": 0}, **d})


@program((X,), (X,))
def views_are_live(x):
    d = {"a": 1}
    items, values = d.items(), d.values()
    d["b"] = 2
    d["a"] = 10
    return x + len(items), list(values), ("a", 10) in items, 2 in values, d.keys() == {"a", "b"}


@program((X,), (X,))
def changing_a_dict_while_iterating(x):
    d = {"a": 1, "b": 2}
    try:
        for k in d:
            d[k + "!"] = 0
    except RuntimeError as error:
        return x + 1, str(error), sorted(d)
    return x, None, sorted(d)


@program((X,), (X,))
def growing_a_list_while_iterating(x):
    xs, seen = [1, 2, 3], []
    for v in xs:
        seen.append(v)
        if len(xs) < 6:
            xs.append(v * 10)
        if v == 2:
            xs.remove(1)
    return x * len(seen), seen, xs


@program((X,), (X,))
def iterators_half_consumed(x):
    it = iter([1, 2, 3, 4, 5])
    a, b = next(it), next(it)
    rest = list(it)
    again = list(it)
    shared = iter(range(6))
    pairs = list(zip(shared, shared))
    letters = iter("abc")
    found = "b" in letters
    return x * (a + b), rest, again, pairs, found, list(letters), next(iter(()), "none")


@program((X,), (X,))
def lazy_map_and_filter(x):
    log = []

    def note(v):
        log.append(v)
        return v % 2
    lazy = map(note, filter(note, [1, 2, 3]))
    first = next(lazy)
    before = list(log)
    return x + first, before, list(lazy), log


@program((X,), (X,))
def generator_runs_when_asked(x):
    log = []

    def gen():
        log.append("start")
        try:
            yield x * 2
            log.append("middle")
            yield x * 3
        finally:
            log.append("end")
    g = gen()
    log.append("made")
    a = next(g)
    log.append("got one")
    b = list(g)
    return a + b[0], log


@program((X,), (X,))
def stop_iteration_inside_a_generator(x):
    def gen():
        yield 1
        raise StopIteration("inner")
    try:
        list(gen())
    except RuntimeError as error:
        return x + 1, type(error.__cause__).__name__
    return x, None


@program((X,), (X,))
def nested_finally_clauses(x):
    log = []

    def walk(n):
        for k in range(n):
            try:
                if k == 1:
                    continue
                if k == 3:
                    return "returned"
                try:
                    if k == 2:
                        raise KeyError(k)
                finally:
                    log.append(f"inner {k}")
            except KeyError as e:
                log.append(f"caught {e.args[0]}")
            finally:
                log.append(f"outer {k}")
        return "ended"
    return x * len(log), walk(5), walk(1), log


@program((X,), (X,))
def deep_nonlocal(x):
    a = 1

    def outer():
        nonlocal a
        b = 10

        def inner():
            nonlocal a, b
            a += b
            b *= 2
            return lambda: (a, b)
        return inner(), inner(), lambda: b
    first, second, peek = outer()
    return x * a, first(), second(), peek()


@program((X,), (X,))
def late_and_early_binding(x):
    late = [lambda: k for k in range(3)]
    early = [lambda k=k: k for k in range(3)]
    lazy = (k * n for k in range(3))  # noqa: F821
    n = 5  # noqa: F841
    return x * late[0](), [f() for f in early], list(lazy)


@program((X,), (X,))
def slices_of_lists(x):
    xs = list(range(8))
    xs[1:3] = "ab"
    xs[::3] = [0, 0, 0]
    del xs[-2:]
    ys = xs[::-1]
    ys[:0] = [9]
    zs = xs[slice(None, None, 2)]
    try:
        xs[::2] = [1]
    except ValueError:
        zs.append("no")
    return x * len(ys), xs, ys, zs, xs[10:], xs[-100:2]


@program((X,), (X,))
def numbers_of_all_kinds(x):
    return (x * True, round(0.5), round(1.5), round(-2.675, 2), -7 // 2, -7 % 3, 7 % -3, divmod(-7, 2), 2 ** -1, 0.1 + 0.2,
            1e400, -0.0, int(-3.7), bool([]), True + True, 5 & 3 | 8 ^ 1, ~7, 1 << 10, complex(1, 2) * 1j, abs(3 + 4j),
            int("11", 2), float("1e-3"), (255).to_bytes(2, "big"), int.from_bytes(b"\x01\x00", "big"), (0.75).as_integer_ratio(),
            (10).bit_count() if hasattr(int, "bit_count") else 2, float(3).is_integer(), max(1, 2.0), min(True, 0))


class Hashed:
    def __init__(self, v):
        self.v = v

    def __eq__(self, other):
        return isinstance(other, Hashed) and self.v == other.v

    def __hash__(self):
        return hash(("hashed", self.v))


@program((X,), (X,))
def keys_with_their_own_hash(x):
    table = {Hashed(1): "one", Hashed(2): "two"}
    table[Hashed(1)] = "uno"
    return x * len(table), table[Hashed(1)], Hashed(3) in table, len({Hashed(1), Hashed(1), Hashed(2)}), table, {Hashed(5)}


@dataclass(frozen=True)
class Spec:
    kind: str
    size: int = 1


SPECS = {Spec("a"): 2, Spec("b", 3): 5}


@program((X,), (X,))
def frozen_dataclasses_as_keys(x):
    local = {Spec("q", k): k for k in range(3)}
    torch._dynamo.graph_break()
    return x * SPECS[Spec("b", 3)], Spec("a") in SPECS, local[Spec("q", 2)], Spec("z") in local


@dataclass
class Base:
    name: str
    tags: list = field(default_factory=list)
    count: ClassVar[int] = 0
    scale: InitVar[int] = 2

    def __post_init__(self, scale):
        self.scaled = len(self.name) * scale


@dataclass
class Derived(Base):
    extra: dict = field(default_factory=dict, compare=False)

    def __post_init__(self, scale):
        super().__post_init__(scale + 1)
        self.extra["seen"] = True


@program((X,), (X,))
def dataclass_inheritance(x):
    a, b = Derived("ab"), Derived("ab", extra={"k": 1})
    a.tags.append(1)
    return x * a.scaled, a.tags, b.tags, a == b, a == Derived("ab", [1]), b.extra, Derived.count, repr(Base("n"))


class Point3(NamedTuple):
    x: int
    y: int = 0
    z: int = 0

    def norm(self):
        return sum(v * v for v in self)

    @classmethod
    def origin(cls):
        return cls(0)

    def __add__(self, other):
        return Point3(*(a + b for a, b in zip(self, other)))


@program((X, Point3(1, 2, 3)), (X, Point3(1, 2, 3)), (X, Point3(3)))
def namedtuple_with_methods(x, p):
    q = p + Point3.origin()._replace(y=5)
    a, *rest = q
    return x * p.norm(), q, a, rest, q._asdict(), p == tuple(p), p < q, {p: 1}[p]


@unique
class Act(Enum):
    RELU = auto()
    GELU = auto()
    DEFAULT = "default"

    @classmethod
    def parse(cls, name):
        return cls[name.upper()] if isinstance(name, str) else cls(name)

    def __call__(self, x):
        return {Act.RELU: F.relu, Act.GELU: F.gelu}.get(self, torch.tanh)(x)

    def __str__(self):
        return self.name.lower()


class Perm(IntFlag):
    R = 4
    W = 2
    X = 1


@program((X, "relu"), (X, "gelu"), (X, "relu"))
def enum_with_behaviour(x, name):
    act = Act.parse(name)
    return act(x), str(act), f"{act}", act in (Act.RELU,), Act.parse(2).name, list(Act)[0].value, act is Act.RELU


@program((X, Perm.R | Perm.W), (X, Perm.R | Perm.W), (X, Perm.X))
def flags_combined(x, perm):
    if perm & Perm.W:
        x = x * 2
    return x + int(perm), bool(perm & Perm.X), Perm.R in perm, (perm | Perm.X) == 7, ~Perm.R & Perm.R == 0


class Missing(dict):
    def __missing__(self, key):
        self[key] = made = len(key)
        return made


@program((X,), (X,))
def missing_keys_are_made(x):
    m = Missing(a=5)
    return x * m["abc"], m["a"], dict(m), m.get("zzzz"), "abc" in m


class Meta(type):
    def __getitem__(cls, n):
        return cls.table[n]

    def __contains__(cls, n):
        return n in cls.table

    def __iter__(cls):
        return iter(cls.table.items())


class Lookup(metaclass=Meta):
    table = {"a": 2, "b": 3}

    def __class_getitem__(cls, k):
        return "never"


class Generic2:
    def __class_getitem__(cls, k):
        return (cls.__name__, k)


@program((X,), (X,))
def classes_that_are_containers(x):
    return x * Lookup["b"], "a" in Lookup, dict(Lookup), Generic2[int, "q"][0], [k for k, _ in Lookup]


class Even:
    @classmethod
    def __subclasshook__(cls, other):
        return hasattr(other, "half")


class Named:
    def __init__(self, **kwargs):
        self.name = kwargs.pop("name", "?")
        super().__init__(**kwargs)


class Sized:
    def __init__(self, size=0, **kwargs):
        self.size = size
        super().__init__(**kwargs)


class Thing(Named, Sized):
    size = property(lambda self: self._size * 2, lambda self, v: setattr(self, "_size", v))

    def __init__(self, *args, **kwargs):
        super().__init__(**dict(zip(("name", "size"), args), **kwargs))


@program((X,), (X,))
def cooperative_inheritance(x):
    t = Thing("a", 4)
    try:
        Thing(colour=1)
    except TypeError:
        refused = True
    return x * t.size, t.name, vars(t), refused, Thing.__mro__[1].__name__, Thing(size=1).size


class Switchboard:
    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        if name.startswith("on_"):
            def handler(*args, _name=name[3:]):
                self.calls.append((_name, len(args)))
                return self
            return handler
        raise AttributeError(f"no {name}")


@program((X,), (X,))
def methods_made_on_the_fly(x):
    s = Switchboard()
    s.on_start(1).on_step(1, 2).on_end()
    return x * len(s.calls), s.calls, hasattr(s, "off"), getattr(s, "on_x")().calls[-1]


class Cell:
    __slots__ = ("value", "__dict__")

    def __init__(self, value):
        self.value = value
        self.note = "n"


@program((X, Cell(2)), (X, Cell(2)))
def slots_with_a_dict(x, cell):
    own = Cell(3)
    own.value += 1
    own.more = 5
    cell.value = cell.value + own.value
    del own.note
    return x * cell.value, own, hasattr(own, "note"), sorted(vars(own))


def memoized(fn):
    cache = {}

    @functools.wraps(fn)
    def wrapper(*args):
        if args not in cache:
            cache[args] = fn(*args)
        return cache[args]
    wrapper.cache = cache
    return wrapper


@memoized
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


@program((X,), (X,), watch=lambda: sorted(fib.cache))
def memoized_recursion(x):
    return x * fib(10)


class Once:
    def __init__(self, fn):
        functools.update_wrapper(self, fn)
        self.fn, self.done = fn, False

    def __call__(self, *args):
        if not self.done:
            self.result, self.done = self.fn(*args), True
        return self.result

    def __get__(self, instance, owner):
        return types.MethodType(self, instance) if instance is not None else self


@Once
def setup(n):
    return [n]


class User:
    @Once
    def config(self):
        return {"id": 3}


@program((X,), (X,), watch=lambda: setup.done)
def decorators_that_are_classes(x):
    setup(1).append(2)
    u = User()
    return x * len(setup(99)), u.config()["id"], u.config() is u.config(), setup.__name__


@program((X,), (X,))
def swaps_and_chained_assignments(x):
    a, b = 1, 2
    a, b = b, a
    c = d = []
    c.append(1)
    i = 0
    xs = [0, 0, 0]
    i, xs[i] = 1, 5
    xs[i], xs[i - 1] = xs[i - 1], xs[i]
    (e, [f, *g]), h = (1, [2, 3, 4]), 5
    return x * a, b, d, c is d, xs, (e, f, g, h)


@program((X,), (X,))
def augmented_assignments(x):
    t = ([1],)
    try:
        t[0] += [2]
    except TypeError:
        pass
    d = {"n": 1}
    d["n"] <<= 3
    d["n"] |= 1
    obj = types.SimpleNamespace(v=2)
    obj.v **= 3
    s = {1}
    s2 = s
    s |= {2}
    y = x
    y = y + 1
    y *= 2
    return y, t, d, obj.v, s2, x is not y


@program((X,), (X,))
def identity_and_equality(x):
    a, b = [1], [1]
    y = x
    n = float("nan")
    return (x + 1, a == b, a is b, a is not b, y is x, (1, a) == (1, b), n == n, n in [n], [n] == [n], None is None, () == (),
            "a" + "b" == "ab", 1 == 1.0 == True, x is None, [x] == [x], (x,) == (y,))  # noqa: E712


@program(call(X, 1, 2, c=3, d=4), call(X, 1, c=0), call(X, 1, 2, 3))
def signatures_are_checked(x, *args, **kwargs):
    def f(a, /, b=10, *rest, c, d=20, **more):
        return a + b + c + d + len(rest) + len(more)
    try:
        return x * f(*args, **kwargs)
    except TypeError:
        return x + f(0, c=1, e=5, a=7)


@program((X,), (X,))
def strings_are_sequences(x):
    a, *b = "héllo"
    return (x + len(b), b, "".join(reversed("abc")), sorted("bca"), "a" < "b" < "c", list(zip("ab", "cd")), max("hello"),
            "é" in a + "".join(b),
            "%r %s" % ("q", [1]), "abc"[-2:], "a,b,,c".split(",", 2), "line\nline2".splitlines(), "x".isidentifier(), ord("a"),
            "{}{}".format(*"ab"),
            f"{'a':>{4}}|{3.14159:.{2}f}|{10_000:,}|{0.256:.1%}|{'b'!r:<5}|{[1]!s}")


@program((X,), (X,))
def loops_over_everything(x):
    total = 0
    for k, (a, *b) in enumerate([(1, 2, 3), (4,)]):
        total += k * a + len(b)
    for ch, n in {"a": 1, "b": 2}.items():
        total += n if ch == "b" else 0
    for v in itertools.chain((1,), [2], range(3), {4}, {"k": 0}.values(), b"\x01", (c for c in (7,))):
        total += v
    for _ in x.shape:
        total += 1
    for _, p in nn.Linear(2, 2).named_parameters():
        total += p.ndim
    return x * total


@program((X,), (X,))
def calls_with_everything(x):
    def f(*args, **kwargs):
        return len(args), sorted(kwargs)

    class C:
        def __call__(self, *a, **k):
            return f(*a, **k)

        @staticmethod
        def s(*a):
            return f(*a)

        @classmethod
        def c(cls, *a):
            return f(cls, *a)
    c = C()
    return x + 1, c(*[1, 2], *(3,), **{"a": 1}, b=2), c.s(1), C.c(1), c.c(), (lambda *a, k=1, **kw: (a, k, kw))(1, z=2)


@program((X,), (X,))
def version_checks(x):
    if sys.version_info >= (3, 8) and sys.platform.startswith(("linux", "darwin", "win")):
        x = x * sys.version_info[0]
    return x, sys.maxsize > 2 ** 32, isinstance(sys.version_info, tuple)


Window = collections.namedtuple("Window", "start stop", defaults=(None,))


@program((X, Window(1, 3)), (X, Window(1, 3)), (X, Window(2)))
def window_of_rows(x, w):
    return x[w.start:w.stop], x[w[0]], Window(*w) == w, w._fields, tuple(w)


class Temperature:
    def __init__(self):
        self.history = collections.deque(maxlen=3)

    def step(self, value):
        self.history.append(value)
        return sum(self.history) / len(self.history)


TEMPERATURE = Temperature()


@program((X, 1.0), (X, 2.0), (X, 3.0), (X, 4.0), (X, 5.0), watch=lambda: list(TEMPERATURE.history))
def history_in_an_object(x, value):
    return x * TEMPERATURE.step(value)

"""Python semantics: each program gives eager's result in one graph, without a break."""
import collections
import copy
import dataclasses
import enum
import functools
import itertools
import math
import operator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from tracer.support import check, copied, count, ops, plain, rand

import flambeau

#: a program that runs eagerly after all has not been tested
pytestmark = pytest.mark.filterwarnings("error::flambeau.frontend.points.FallbackWarning")

GLOBAL = 3


def whole(fn, *args, **kwargs):
    """One graph, no break."""
    return check(fn, *args, graphs=1, breaks=0, **kwargs)


PROGRAMS = {}


def program(*args, **kwargs):
    def mark(fn):
        PROGRAMS[fn.__name__] = (fn, args, kwargs)
        return fn
    return mark


X = rand(4, 3)
Y = rand(4, 3)


# ---- control flow

@program(X, 3)
def loop_over_range(x, n):
    for i in range(n):
        x = x * i + 1
    return x


@program(X, 5)
def while_with_break_and_continue(x, n):
    k = 0
    while True:
        k += 1
        if k % 2:
            continue
        if k > n:
            break
        x = x + k
    return x, k


@program(X, True)
def branch_on_python_value(x, flag):
    return x + 1 if flag else x - 1


@program(X)
def branch_on_shape(x):
    if x.shape[0] == 4 and x.ndim == 2 and not x.requires_grad:
        return x.sum(0) if hasattr(x, "sum") else x
    return x


@program(X, [1, 2, 3])
def loop_else(x, items):
    for i in items:
        if i > 5:
            break
    else:
        x = x * 2
    return x


@program(X)
def walrus_and_chained_comparison(x):
    if (n := x.shape[0]) > 3 and 1 < n < 10:
        return x * n
    return x


@program(X, None)
def none_tests(x, y):
    if y is None:
        y = x
    if x is not None and y is not None:
        return x + y
    return y


@program(X, "b")
def match_value(x, kind):
    match kind:
        case "a":
            return x + 1
        case "b" | "c":
            return x + 2
        case _:
            return x


@program(X, {"op": "scale", "by": 3, "more": 1})
def match_mapping(x, what):
    match what:
        case {"op": "scale", "by": k, **rest}:
            return x * k, len(rest)
        case _:
            return x


@program(X, [1, 2, 3])
def match_sequence(x, items):
    match items:
        case [a, *rest]:
            return x * a + sum(rest)
        case _:
            return x


# ---- functions

@program(X)
def nested_calls_with_defaults(x):
    def inner(a, b=2, *args, c, d=4, **kw):
        return a * b + c + d + sum(args) + kw.get("e", 0)
    return inner(x, c=1) + inner(x, 3, 4, 5, c=1, d=2, e=7)


@program(X)
def closures_and_nonlocal(x):
    total = 0

    def add(k):
        nonlocal total
        total += k
        return x * total
    return add(1) + add(2), total


@program(X)
def lambdas_in_a_loop(x):
    fs = [lambda a, k=k: a * k for k in range(3)]
    return sum(f(x) for f in fs)


@program(X)
def recursion(x):
    def power(a, n):
        return a if n == 0 else a * power(a, n - 1)
    return power(x, 3)


def helper(x, scale=GLOBAL):
    return x * scale


@program(X)
def global_function_and_global_value(x):
    return helper(x) + helper(x, 2) + GLOBAL


@program(X)
def star_calls(x):
    args, kwargs = (x, 2), {"c": 3}

    def f(a, b, c):
        return a * b + c
    return f(*args, **kwargs) + f(*[x, 1], c=2)


@program(X)
def decorated(x):
    def twice(fn):
        @functools.wraps(fn)
        def wrapper(*args):
            return fn(fn(*args))
        return wrapper

    @twice
    def step(a):
        return a * 2 + 1
    return step(x)


@program(X)
def partial_and_reduce(x):
    f = functools.partial(operator.mul, x)
    return functools.reduce(operator.add, [f(k) for k in range(3)])


@program(X)
def keyword_only_and_positional_only(x):
    def f(a, /, b, *, c=1):
        return a + b * c
    return f(x, 2, c=3) + f(x, b=4)


# ---- comprehensions, generators, iteration

@program(X, [1, 2, 3])
def comprehensions(x, ks):
    a = [x * k for k in ks if k != 2]
    d = {k: x + k for k in ks}
    s = {k % 2 for k in ks}
    return sum(a) + sum(d.values()), sorted(s)


@program(X)
def nested_comprehension_with_closure(x):
    rows = [[x[i, j] * (i + j) for j in range(2)] for i in range(2)]
    return rows[0][0] + rows[1][1]


@program(X)
def generator_consumed_in_frame(x):
    def gen(n):
        for k in range(n):
            got = yield x * k
            if got:
                return got
    return sum(gen(3))


@program(X)
def yield_from_and_send(x):
    def inner():
        a = yield 1
        return a * 2

    def outer():
        r = yield from inner()
        yield r
    g = outer()
    first = next(g)
    return x * first + g.send(5)


@program(X)
def builtins_over_iterables(x):
    total = x
    for i, (a, b) in enumerate(zip([1, 2], (3, 4), strict=True), start=1):
        total = total + a * b * i
    for k in map(lambda v: v + 1, filter(lambda v: v % 2, range(4))):
        total = total + k
    return total, any([0, 1]), all([]), max(3, 1), min([2, 5], key=lambda v: -v), list(reversed([1, 2]))


@program(X)
def iterate_a_tensor(x):
    total = 0
    for row in x:
        total = total + row.sum()
    a, b, *rest = x
    return total, a + b, len(rest)


@program(X)
def itertools_functions(x):
    k = 0
    for a, b in itertools.product([1, 2], [3]):
        k += a * b
    for c in itertools.chain([1], (2,)):
        k += c
    return x * k, list(itertools.islice(itertools.count(2), 3)), list(itertools.accumulate([1, 2, 3]))


@program(X)
def unpacking(x):
    (a, b), *c = [(1, 2), 3, 4]
    d, *e, f = range(5)
    return x * a + b + d + f, c, e


# ---- containers

@program(X, [1, 2], {"a": 1})
def mutate_arguments(x, items, table):
    items.append(x)
    items[0] = 5
    table["b"] = x * 2
    table["a"] += 1
    del items[1]
    return len(items) + table["a"]


@program(X, [3, 1, 2])
def list_methods(x, xs):
    xs.sort()
    xs.insert(1, 9)
    ys = xs[::-1] + [0]
    last = xs.pop()
    xs.extend([last, 7])
    xs.remove(9)
    return x * ys[0], xs, ys, xs.index(7), 3 in xs, xs * 2


@program(X, {"a": 1, "b": 2, "c": 3})
def dict_methods(x, d):
    d.pop("a")
    d.setdefault("e", 4)
    d["b"], d["z"] = 10, 11
    d.update({"q": 1}, w=2)
    merged = {**d, "x": 1} | {"y": 2}
    return x + sum(d.values()), list(d), "b" in d, d.get("nope", 5), list(merged.items())


@program(X)
def collections_types(x):
    d = collections.defaultdict(list)
    d["k"].append(1)
    q = collections.deque([1, 2])
    q.appendleft(0)
    o = collections.OrderedDict(a=1)
    o["b"] = 2
    o.move_to_end("a")
    return x * q.popleft(), d, list(q), list(o)


@program(X)
def sets(x):
    s = {1, 2} | {3}
    s.add(4)
    s.discard(1)
    return x * len(s & {2, 3}), 2 in s, sorted(s - {2}), s


class Point(NamedTuple):
    a: int
    b: int = 2


@program(X, Point(1, 5))
def named_tuples(x, p):
    q = p._replace(a=7)
    return x * p.a + q.b, q, Point(3), isinstance(q, tuple)


@program(X, slice(1, 3))
def slices(x, s):
    return x[s], x[..., 0], x[:, None].shape, [1, 2, 3, 4][s], x[1:3, :2]


@program(X)
def strings(x):
    name = f"{x.shape[0]:>3}|{'a'!r}|{3.14159:.2f}" + "x".upper() + ",".join(["p", "q"])
    return x + len(name), name, "%s-%d" % ("a", 3), name.split("|")      # noqa: UP031


# ---- classes

class Box:
    scale = 2

    def __init__(self, value):
        self.value = value

    @property
    def double(self):
        return self.value * self.scale

    @double.setter
    def double(self, new):
        self.value = new / 2

    @staticmethod
    def zero():
        return 0

    @classmethod
    def make(cls, v):
        return cls(v)

    def __add__(self, other):
        return Box(self.value + (other.value if isinstance(other, Box) else other))

    __radd__ = __add__

    def __call__(self, y):
        return self.value * y

    def __len__(self):
        return 3

    def __getitem__(self, k):
        return self.value + k

    def __eq__(self, other):
        return isinstance(other, Box)

    __hash__ = None

    def __contains__(self, item):
        return item == 1

    def __iter__(self):
        yield self.value
        yield self.scale


class Small(Box):
    def __init__(self, value):
        super().__init__(value)
        self.small = True

    @property
    def double(self):
        return super().double + 1

    def __getattr__(self, name):
        if name.startswith("dyn_"):
            return len(name)
        raise AttributeError(name)


@program(X)
def objects_made_in_the_trace(x):
    b = Box(x)
    b.value = b.value + 1
    c = Small.make(x) + b + 1
    return b.double + c.value + Box.zero() + b(2) + b[1] + len(b), 1 in b, b == c, bool(b)


@program(X, Small(3))
def objects_from_outside(x, s):
    s.value += 1
    s.new = x * s.double
    s.small = s.dyn_ab + getattr(s, "missing", 1)
    return hasattr(s, "dyn_x"), hasattr(s, "other"), isinstance(s, Box), type(s).__name__, [*s][1]


@program(X, Box(2))
def property_setter_and_delete(x, b):
    b.double = 10
    b.extra = 1
    del b.extra
    return x * b.value, hasattr(b, "extra")


@dataclasses.dataclass
class Config:
    width: int
    names: list = dataclasses.field(default_factory=list)

    def __post_init__(self):
        self.area = self.width ** 2


@program(X, Config(3))
def dataclass(x, c):
    d = Config(2, ["a"])
    d.names.append("b")
    return x * c.area + d.area, d, c == Config(3)


class Color(enum.Enum):
    RED = 1
    BLUE = 2


@program(X, Color.RED)
def enums(x, c):
    table = {Color.RED: 2, Color.BLUE: 3}
    return x * table[c] + c.value, c is Color.RED, c.name, [m.value for m in Color]


class Slots:
    __slots__ = ("a", "b")

    def __init__(self, a):
        self.a = a


@program(X)
def slots(x):
    s = Slots(x)
    s.b = 2
    return s.a * s.b, hasattr(s, "b")


class Positive:
    def __set_name__(self, owner, name):
        self.name = "_" + name

    def __get__(self, obj, cls=None):
        return getattr(obj, self.name)

    def __set__(self, obj, value):
        setattr(obj, self.name, abs(value))


class Described:
    size = Positive()

    def __init__(self, size):
        self.size = size


@program(X, Described(-2))
def descriptors(x, d):
    d.size = -5
    return x * d.size + Described(-3).size


class Cached:
    @functools.cached_property
    def value(self):
        self.count = getattr(self, "count", 0) + 1
        return 7


@program(X, Cached())
def cached_property(x, c):
    return x * c.value + c.value, c.count


# ---- exceptions, context managers

@program(X, {})
def try_except_else_finally(x, d):
    log = []
    try:
        x = x * d["missing"]
    except KeyError as e:
        log.append(type(e).__name__ + str(e))
    else:
        log.append("else")
    finally:
        log.append("finally")
    try:
        int("3")
    except (ValueError, TypeError):
        log.append("no")
    else:
        log.append("fine")
    return x + 1, log


class Mine(Exception):
    def __init__(self, code):
        super().__init__(f"code {code}")
        self.code = code


@program(X)
def raise_and_catch(x):
    def f(k):
        if k > 1:
            raise Mine(k)
        return k
    total = 0
    for k in range(4):
        try:
            total += f(k)
        except Mine as e:
            total += e.code * 10
            text = str(e)
    return x * total, text


@program(X)
def nested_finally_and_return(x):
    log = []

    def f():
        try:
            try:
                raise ValueError("a")
            finally:
                log.append(1)
        except ValueError:
            return x * 2
        finally:
            log.append(2)
    return f(), log


class Manager:
    def __init__(self, log):
        self.log = log

    def __enter__(self):
        self.log.append("enter")
        return self

    def __exit__(self, kind, value, tb):
        self.log.append(kind.__name__ if kind else "exit")
        return kind is ValueError


@contextmanager
def scaled(log, k):
    log.append(k)
    try:
        yield k * 2
    finally:
        log.append("done")


@program(X)
def context_managers(x):
    log = []
    with Manager(log) as m, scaled(log, 3) as k:
        y = x * k
        m.log.append("body")
    with Manager(log):
        raise ValueError("swallowed")
    return y, log


@program(X)
def stop_iteration_by_hand(x):
    it = iter([1, 2])
    total = 0
    while True:
        try:
            total += next(it)
        except StopIteration:
            break
    return x * total, next(it, 9)


# ---- constants and maths

@program(X, 7)
def arithmetic(x, n):
    return x * math.sqrt(n) + n // 2 + n % 3 - (n ** 2) / 4 + (n << 1) + (n & 3) + abs(-n), round(2.567, 1), divmod(n, 2)


@program(X)
def types_and_casts(x):
    return x * int(2.7) + float("1.5"), isinstance(x, object), isinstance(3, (int, str)), issubclass(bool, int), \
        type(x.shape[0]) is int, str(12), repr("a"), callable(len), tuple([1]), bool([])


@program(X, rand(2, 4, 3))
def tensor_facts(x, y):
    a, b = x.shape
    return x.sum() * a + b * x.numel() + x.dim() + len(x) + x.size(1), x.shape == (4, 3), tuple(y.shape[1:]), \
        y.size(), x.dtype, x.is_floating_point(), str(x.device)


@program(X, Y)
def operators_on_tensors(x, y):
    z = -x + y / 2 - (x > y) * 3
    z += x
    z *= 2
    return z @ y.T if hasattr(y, "T") else z, z[0], abs(z), 1 - z, 2 ** y, x == y


@program(rand(3, 3))
def in_place_on_an_argument(x):
    x += 1
    x.mul_(2)
    x[0] = 5
    y = x[1]
    y.add_(1)
    return x.sum()


@program([rand(2), rand(2)])
def aliases_of_a_list(xs):
    ys = xs
    ys.append(xs[0] + xs[1])
    return xs is ys, len(xs), [*ys]


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_program(name):
    fn, args, kwargs = PROGRAMS[name]
    whole(fn, *args, **kwargs)


def test_ops_are_recorded_with_the_users_line():
    def f(x):
        return ops.exp(x)
    context = check(f, rand(3), graphs=1, breaks=0)
    line = f.__code__.co_firstlineno + 1
    assert f"test_semantics.py:{line}" in context.events[0].text


def test_values_that_c_code_compares_are_compared_by_it():
    """Equality and order of objects written in C are theirs, and so is finding them as keys."""
    import datetime
    import decimal
    first, again, later = (datetime.date(2026, 1, day) for day in (1, 1, 2))
    one, same = decimal.Decimal("1.5"), decimal.Decimal("1.50")

    def f(x):
        found = [first == again, first != again, first in (later, again), (first, 1) == (again, 1), one == same, one == 1.5]
        try:
            found.append(first < later)
        except TypeError:
            found.append("no order")
        return x * 2, found, {first: 1}.get(again), sorted({"b", "a"}), [first, later].index(again)
    check(f, X)


def shows(x):
    y = x * 2
    return repr(y), repr([y]), "%r %s" % (y, y), "{}".format((y,)), str({"a": y}), f"{[y]} {y!r}"  # noqa: UP031, UP032


def copies_of_what_shares_memory(x):
    new = copy.deepcopy({"rows": x, "flat": x.view(-1)})
    new["rows"].add_(1)
    return new["flat"] * 1, x


@pytest.mark.parametrize("fn", [shows, copies_of_what_shares_memory])
def test_what_only_data_or_memory_can_tell_ends_the_graph(fn):
    assert count(compile_and_check(fn, rand(2, 2)), "break")


def compile_and_check(fn, *args):
    compiled = flambeau.compile(fn, backend="eager")
    assert plain(compiled(*copied(args))) == plain(fn(*copied(args)))
    return compiled


def test_tensors_copied_together_keep_their_memory_apart_or_not():
    def f(x, y):
        new = copy.deepcopy([x, y])
        new[0].add_(1)
        return new[1] * 1
    compiled, a, b = flambeau.compile(f, backend="eager"), rand(3), rand(3)
    for x, y in ((a, b), (a, a), (a, a.view(3)), (a, b), (a[:2], a[1:])):
        assert flambeau.equal(compiled(x, y), f(x, y))

"""functools, itertools, operator, math, copy, random, typing and others of the standard library."""

import copy
import functools
import inspect
import itertools
import math
import numbers
import operator
import random
import typing
import warnings
from functools import partial, partialmethod

from ..given import F, nn, program, rand, torch

X = rand(4, 3)


def affine(x, scale, bias=0.0):
    return x * scale + bias


HALF = partial(affine, scale=0.5)


@program((X,), (X,))
def partial_functions(x):
    shift = partial(HALF, bias=1.0)
    again = partial(partial(affine, x), 2)
    return HALF(x) + shift(x, scale=3) + again(bias=1), shift.keywords, again.args[1:], shift.func is affine


@program((X, partial(affine, scale=2)), (X, partial(affine, scale=2)), (X, partial(affine, scale=3)))
def partial_argument(x, fn):
    return fn(x, bias=1)


@program((X,), (X,))
def reduce(x):
    total = functools.reduce(operator.add, x.unbind(0))
    longest = functools.reduce(lambda a, b: a if len(a) > len(b) else b, ["a", "ccc", "bb"], "")
    return total, longest, functools.reduce(operator.mul, x.shape, 1)


@functools.lru_cache(maxsize=None)
def steps(n):
    return [k / n for k in range(n)]


@program((X,), (X,))
def cached_function(x):
    for s in steps(3):
        x = x + s
    return x, steps(3)[1]


class Grid:
    def __init__(self, n):
        self.n, self.computed = n, 0

    @functools.cached_property
    def points(self):
        self.computed += 1
        return torch.linspace(0, 1, self.n)


GRID = Grid(3)


@program((X,), (X,), watch=lambda: GRID.computed)
def cached_property_from_outside(x):
    return x * GRID.points + GRID.points


@program((X,), (X,))
def cached_property_made_inside(x):
    g = Grid(3)
    return x + g.points, x - g.points, g.computed, "points" in g.__dict__


class Layer:
    def transform(self, kind, x, scale=1):
        return getattr(F, kind)(x) * scale

    relu = partialmethod(transform, "relu")
    double_tanh = partialmethod(transform, "tanh", scale=2)


@program((X,), (X,))
def partial_methods(x):
    layer = Layer()
    return layer.relu(x) + layer.relu(x, scale=3) + layer.double_tanh(x)


@functools.singledispatch
def describe(value):
    return "object"


@describe.register
def _(value: int):
    return f"int {value}"


@describe.register(list)
def _(value):
    return [describe(v) for v in value]


@describe.register(torch.Tensor)
def _(value):
    return value.sum(0)


@program((X,), (X,))
def single_dispatch(x):
    return describe(x), describe([1, "a", [2]]), describe(2.5)


@functools.total_ordering
class Version:
    def __init__(self, text):
        self.parts = tuple(int(p) for p in text.split("."))

    def __eq__(self, other):
        return self.parts == other.parts

    def __lt__(self, other):
        return self.parts < other.parts


@program((X, "2.10"), (X, "2.10"), (X, "1.9"))
def total_ordering(x, version):
    v, limit = Version(version), Version("2.2")
    return x + 1 if v >= limit else x - 1, v > limit, v <= limit, max(v, limit).parts


def counted(fn):
    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        wrapper.calls += 1
        return fn(*args, **kwargs)
    wrapper.calls = 0
    return wrapper


@counted
def work(x):
    """Doubles."""
    return x * 2


@program((X,), (X,), watch=lambda: work.calls)
def wrapper_with_state(x):
    return work(x), work.__name__, work.__doc__, work.__wrapped__(x)


@program((X,), (X,))
def wraps_inside(x):
    def outer(fn):
        @functools.wraps(fn)
        def wrapper(v):
            return fn(v) + 1
        return wrapper

    @outer
    def named(v):
        """Text."""
        return v * 2
    return named(x), named.__name__, named.__doc__


@program((X,), (X,))
def chains_and_slices(x):
    rows = itertools.chain(x, [x[0] * 2], (r for r in x[:1]))
    taken = list(itertools.islice(rows, 1, 6, 2))
    flat = list(itertools.chain.from_iterable([[1, 2], (3,)]))
    return torch.stack(taken), flat, list(rows)


@program((X,), (X,))
def products_and_combinations(x):
    pairs = list(itertools.combinations(range(3), 2))
    for i, j in pairs:
        x = x + i * j
    cells = [(a, b) for a, b in itertools.product("ab", range(2))]
    return (x, pairs, cells, list(itertools.permutations([1, 2, 3], 2))[:3], list(itertools.product([0, 1], repeat=2))[-1],
            list(itertools.combinations_with_replacement("ab", 2)))


@program((X,), (X,))
def counting_and_repeating(x):
    names = [f"p{k}" for k in itertools.islice(itertools.count(5, 2), 3)]
    colours = itertools.cycle(["r", "g"])
    out = [next(colours) for _ in range(5)]
    for row, k in zip(x, itertools.repeat(2)):
        x = x + row * k
    return x, names, out, list(itertools.repeat("z", 2)), [a for a, _ in zip(itertools.count(), "abc")]


@program((X,), (X,))
def accumulating_and_grouping(x):
    sums = list(itertools.accumulate([1, 2, 3]))
    rows = list(itertools.accumulate(x, lambda a, b: a * 0.5 + b))
    products = list(itertools.accumulate([1, 2, 3], operator.mul, initial=2))
    groups = [(k, len(list(g))) for k, g in itertools.groupby("aabbb")]
    return rows[-1], sums, products, groups, [k for k, _ in itertools.groupby([1, 1, 2], key=lambda v: v % 2)]


@program((X,), (X,))
def filtering_iterators(x):
    evens = list(filter(lambda k: k % 2 == 0, range(6)))
    odd = list(itertools.filterfalse(lambda k: k % 2 == 0, range(6)))
    start = list(itertools.takewhile(lambda k: k < 3, range(9)))
    rest = list(itertools.dropwhile(lambda k: k < 7, range(9)))
    some = list(itertools.compress("abcd", [1, 0, 1, 0]))
    return x * evens[-1], odd, start, rest, some, list(itertools.starmap(pow, [(2, 3), (3, 2)]))


@program((X,), (X,))
def tee_and_pairs(x):
    a, b = itertools.tee(x)
    next(b)
    diffs = [n - m for m, n in zip(a, b)]
    return torch.stack(diffs), list(itertools.pairwise([1, 2, 3])), list(itertools.zip_longest([1, 2], "a", fillvalue="-"))


@program((X,), (X,))
def operators_as_functions(x):
    get = operator.itemgetter(1, 0)
    shape = operator.attrgetter("shape")
    call = operator.methodcaller("sum", dim=0)
    pairs = sorted([(1, "b"), (2, "a")], key=operator.itemgetter(1))
    xs = [1, 2]
    operator.iadd(xs, [3])
    return (call(x),
            get(["a", "b"]), shape(x)[0], pairs, xs, operator.truth([]), operator.floordiv(7, 2), operator.concat("a", "b"),
            operator.not_(0), operator.contains([1], 1), operator.countOf([1, 1], 1), operator.neg(x), operator.matmul(x, x.t()))


@program((X, 16), (X, 16))
def mathematics(x, dim):
    scale = 1 / math.sqrt(dim)
    width = 2 ** math.ceil(math.log2(dim + 1))
    return (x * scale, width, math.prod([2, 3]), math.isclose(0.1 + 0.2, 0.3), math.gcd(12, 18), math.floor(-1.5), math.inf,
            math.pi, math.hypot(3, 4), math.factorial(4), math.isnan(math.nan), math.copysign(1, -0.0), math.trunc(2.7),
            math.comb(4, 2), math.fsum([0.1] * 3), math.isinf(math.inf), math.exp(0), math.divmod if False else divmod(7, 3))


class Point:
    def __init__(self, x, tags):
        self.x, self.tags = x, tags


@program((X,), (X,))
def shallow_copies(x):
    p = Point(x, ["a"])
    q = copy.copy(p)
    q.tags.append("b")
    q.extra = 1
    d = {"k": [1]}
    e = copy.copy(d)
    e["k"].append(2)
    e["new"] = 1
    return q.x * 2, p.tags, hasattr(p, "extra"), d, sorted(e), copy.copy([1, 2]), copy.copy((1,))


@program((X, {"a": [1, {"b": 2}], "c": (3, [4])}), (X, {"a": [1, {"b": 2}], "c": (3, [4])}))
def deep_copies(x, config):
    own = copy.deepcopy(config)
    own["a"][1]["b"] = 5
    own["c"][1].append(6)
    return x * own["a"][1]["b"], config, own


@program((X,), (X,))
def deep_copy_of_objects(x):
    p = Point(1, ["a"])
    p.me = p
    q = copy.deepcopy(p)
    q.tags.append("b")
    return x + len(p.tags), q.me is q, q.tags, p.tags


@program((X,), (X,))
def random_numbers(x):
    y = x + 1
    k = random.randint(1, 6)
    r = random.random()
    return y * k + r, random.choice("abc")


@program((X,), (X,))
def seeded_generator_of_random_numbers(x):
    rng = random.Random(3)
    order = list(range(4))
    rng.shuffle(order)
    return x[order], rng.random()


@program((X, 3), (X, 3), (X, 2.5))
def numeric_towers(x, n):
    if isinstance(n, numbers.Integral):
        return x * n
    assert isinstance(n, numbers.Number) and isinstance(n, (int, float)) and not isinstance(n, bool)
    return x + n


@program((X,), (X,))
def typing_helpers(x):
    value: typing.Optional[int] = typing.cast(int, 3)
    kinds = typing.List[int], typing.Union[int, str]
    return x * value, kinds[0].__origin__ is list, typing.TYPE_CHECKING, typing.get_args(kinds[1])


@program((X,), (X,))
def warnings_do_not_disturb(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = x + 1
    return y * 2


@program((X,), (X,))
def signature_of_a_function(x):
    names = list(inspect.signature(affine).parameters)
    accepted = {k: v for k, v in {"scale": 2, "bias": 1, "zzz": 9}.items() if k in names}
    return affine(x, **accepted), names, inspect.isfunction(affine), inspect.isclass(Point)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.acts = [F.relu, torch.tanh, partial(F.leaky_relu, negative_slope=0.1)]

    def forward(self, x):
        return functools.reduce(lambda v, fn: fn(v), self.acts, x)


MODEL = Model()


@program((X,), (X,))
def functions_in_a_module(x):
    return MODEL(x)


@program((X,), (X,))
def map_with_several_iterables(x):
    sums = list(map(lambda a, b: a + b, x, x * 2))
    lengths = dict(map(lambda s: (s, len(s)), ["a", "bb"]))
    n, *rest = map(int, "123")
    return torch.stack(sums), lengths, n, rest, list(map(str.upper, "ab")), sum(map(len, ["a", "bc"]))


@program((X,), (X,))
def iter_with_a_sentinel(x):
    queue = [3, 2, 1, 0, 9]
    taken = []
    for k in iter(lambda: queue.pop(0), 0):
        taken.append(k)
    it = iter(taken)
    return x * next(it), list(it), queue, next(it, "end")

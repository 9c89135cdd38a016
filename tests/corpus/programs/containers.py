"""Tuples, lists, dicts, sets, slices, ranges, and the containers of `collections`."""

import collections
import types
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from typing import NamedTuple

from ..given import F, call, program, rand, torch

X = rand(4, 3)


@program((X,), (X,))
def list_methods(x):
    xs = [x]
    xs.append(x + 1)
    xs.insert(0, x * 2)
    xs.extend([x - 1, 7])
    xs.remove(7)
    last = xs.pop()
    xs.reverse()
    xs[1:2] = [last, last * 2]
    del xs[0]
    return xs, len(xs), xs.index(last), [1, 2, 1].count(1)


@program((X, [3, 1, 2]), (X, [3, 1, 2]))
def list_argument_is_changed(x, xs):
    xs.sort(reverse=True)
    xs += [x.shape[0]]
    xs[0] *= 10
    return x * xs[0]


@program((X, [X]), (X, [X]))
def list_of_tensors_is_appended_to(x, cache):
    cache.append(x * 2)
    cache[0] = cache[0] + cache[-1]
    return torch.cat(cache)


@program((X,), (X,))
def list_comparisons_and_arithmetic(x):
    a, b = [1, 2], [1, 3]
    return x + 1, a < b, a == [1, 2], a + b, b * 2, 3 in b, a != b, [a] > [[0]], [] or "empty"


@program((X, (1, (2, X))), (X, (1, (2, X))))
def nested_tuples(x, nested):
    a, (b, y) = nested
    return (x * a, (y * b, nested[1][0])), nested[::-1][0][0], (a,) + (b,) * 2, hash((a, b)) == hash((1, 2))


@program((X, {"a": X, "b": 2}), (X, {"a": X, "b": 2}))
def dict_methods(x, d):
    y = d["a"] + d.get("b", 1) + d.get("c", 3)
    d.setdefault("d", []).append(1)
    popped = d.pop("b")
    d.update(e=5, f=y)
    missing = d.pop("zz", "nothing")
    last = d.popitem()[0]
    return y, popped, missing, last, list(d), "a" in d, len(d)


@program((X, {"w": 1.0}), (X, {"w": 1.0}), (X, {"w": 1.0, "v": 2.0}))
def loop_over_a_dict(x, weights):
    for name, w in weights.items():
        if name.startswith("w"):
            x = x * w
        else:
            x = x + w
    for name in weights:
        weights[name] = float(len(name))
    return x, dict(weights)


@program((X,), (X,))
def dict_merging_and_views(x):
    a, b = {"p": 1, "q": 2}, {"q": 3, "r": 4}
    c = a | b
    a |= {"s": 5}
    common = a.keys() & b.keys()
    only = sorted(b.keys() - a.keys())
    return x * sum(c.values()), list(c.items()), common, only, a == {"p": 1, "q": 2, "s": 5}, ("p", 1) in a.items()


@program((X,), (X,))
def dicts_with_all_kinds_of_keys(x):
    table = {1: "int", "1": "str", (1, 2): "tuple", None: "none", 2.5: "float", True: "bool",  # noqa: F601
             torch.float32: "dtype"}
    return x + len(table), table[1], table[(1, 2)], table[None], table[x.dtype]


@program((X,), (X,))
def dict_keyed_by_tensors_and_functions(x):
    y = x + 1
    ages = {x: 1, y: 2}
    fns = {torch.relu: "relu", F.gelu: "gelu"}
    return x * ages[x] + y * ages[y], fns[torch.relu], y in ages


@program((X,), (X,))
def set_operations(x):
    a, b = {1, 2, 3}, set([3, 4])
    a.add(5)
    a.discard(99)
    union, both, rest, either = a | b, a & b, a - b, a ^ b
    b |= {7}
    frozen = frozenset(b)
    return x * len(union), both, rest, either, a.issuperset({1}), both <= a, frozen, 3 in frozen, sorted(b)


@program((X, {1, 2}), (X, {1, 2}), (X, {1, 3}))
def set_argument(x, dims):
    if 2 in dims:
        x = x.sum(1)
    dims.add(9)
    return x, max(dims)


@program((X, range(1, 4)), (X, range(1, 4)))
def ranges(x, r):
    down = range(10, 0, -3)
    return x * len(r), list(down), 4 in down, r[1], down[-1], r[::2], down.index(7), r == range(1, 4), r.stop


@program((X, slice(1, 3)), (X, slice(1, 3)), (X, slice(0, None, 2)))
def slice_objects(x, part):
    last = slice(None, -1)
    return x[part], x[last, 1:], list(range(10))[part], part.start, last.stop, part.indices(4)


class Output(NamedTuple):
    logits: torch.Tensor
    loss: object = None
    step: int = 0

    @property
    def width(self):
        return self.logits.shape[-1]


Pair = namedtuple("Pair", ["left", "right"], defaults=[None])


@program((X,), (X,))
def namedtuples(x):
    out = Output(x * 2, step=3)
    left, right = Pair(x)
    out = out._replace(loss=left.sum())
    fields = dict(out._asdict())
    return out, out.width, fields["step"], right, Pair._fields, isinstance(out, tuple), out[2], Pair(1, 2) == (1, 2)


@program((Output(X, None, 1),), (Output(X, None, 1),), (Output(X, X, 1),))
def namedtuple_argument(out):
    logits, loss, step = out
    if out.loss is None:
        return Output(logits * step, logits.mean())
    return out._replace(logits=loss)


@program((X,), (X,))
def ordered_dict(x):
    d = OrderedDict([("b", x), ("a", x + 1)])
    d.move_to_end("b")
    d["c"] = 1
    d.move_to_end("c", last=False)
    first = d.popitem(last=False)
    return d, first, list(reversed(d)), OrderedDict(a=1) == {"a": 1}


@program((X,), (X,))
def default_dict(x):
    groups = defaultdict(list)
    for k in range(5):
        groups[k % 2].append(x * k)
    counts = defaultdict(int, a=1)
    counts["b"] += 2
    nested = defaultdict(lambda: defaultdict(int))
    nested["p"]["q"] += 1
    return torch.stack(groups[1]), dict(counts), nested["p"]["q"], "zz" in groups, groups.get(7)


STATE = defaultdict(dict)


@program((X,), (X,), watch=lambda: STATE)
def default_dict_from_outside(x):
    state = STATE["layer"]
    if len(state) == 0:
        state["step"] = 0
        state["mean"] = torch.zeros_like(x)
    state["step"] += 1
    state["mean"] = state["mean"] * 0.9 + x * 0.1
    return state["mean"] / state["step"]


@program((X,), (X,))
def double_ended_queue(x):
    q = deque([1, 2, 3])
    q.appendleft(0)
    q.append(4)
    q.rotate(1)
    first, last = q.popleft(), q.pop()
    q.extendleft([8, 9])
    return x * first + last, list(q), len(q), q[0], 9 in q


@program((X, 3), (X, 3))
def deque_with_a_maximum_length(x, n):
    window = deque(maxlen=n)
    for k in range(6):
        window.append(x * k)
    window.appendleft(x)
    return sum(window), len(window), window.maxlen


WINDOW = deque(maxlen=2)


@program((X,), (X,), (X,), watch=lambda: list(WINDOW))
def bounded_history(x):
    WINDOW.append(x.mean())
    return x - sum(WINDOW) / len(WINDOW)


@program((X, "hello"), (X, "hello"), (X, "world"))
def counter(x, word):
    letters = Counter(word)
    letters.update("oo")
    letters["z"] -= 1
    (best, times), = letters.most_common(1)
    return x * times, best, letters["q"], sorted(letters.items()), sum(Counter([1, 1, 2]).values())


@program((X,), (X,))
def counter_arithmetic(x):
    a, b = Counter("aab"), Counter(a=1, c=2)
    return x * a["a"], a + b, a - b, (a & b)["a"], list((a | b).elements())


@program((X,), (X,))
def chain_map(x):
    defaults, given = {"lr": 0.1, "n": 2}, {"n": 3}
    merged = collections.ChainMap(given, defaults)
    return x * merged["n"] + merged["lr"], len(merged), sorted(merged), merged.get("none", -1)


@program((X,), (X,))
def simple_namespace(x):
    ns = types.SimpleNamespace(width=3, act="relu")
    ns.depth = 2
    return getattr(F, ns.act)(x) * ns.width, ns.depth, hasattr(ns, "nope"), vars(ns)


CONFIG = types.SimpleNamespace(scale=2.0, nested=types.SimpleNamespace(bias=1.0))


@program((X,), lambda: setattr(CONFIG.nested, "bias", 3.0), (X,))
def namespace_from_outside_changes(x):
    return x * CONFIG.scale + CONFIG.nested.bias


@program((X,), (X,))
def sorting(x):
    words = ["pear", "fig", "apple"]
    by_length = sorted(words, key=len)
    pairs = sorted([(2, "b"), (1, "z"), (2, "a")], key=lambda p: (-p[0], p[1]))
    words.sort(key=lambda w: w[-1], reverse=True)
    return x * len(by_length[0]), by_length, pairs, words, sorted({"b": 1, "a": 2}), sorted((3, 1, 2), reverse=True)


@program((X,), (X,))
def extremes(x):
    names = ["conv", "norm", "attention"]
    return (x * max(3, 1, 2), min(names, key=len), max(names, key=lambda n: n.count("n")), max([], default=None),
            min((4, 2), (4, 1)), max({"a": 1, "b": 0}, key={"a": 1, "b": 5}.get), sum([[1], [2]], []))


@program((X,), (X,))
def enumerate_zip_reversed(x):
    out = []
    for i, (row, w) in enumerate(zip(x, reversed([1, 2, 3, 4])), start=1):
        out.append(row * w + i)
    pairs = dict(zip("abc", range(3), strict=True))
    return torch.stack(out), pairs, list(reversed(range(3))), [*zip()], list(enumerate("xy"))


@program((X,), (X,))
def zip_strict_raises(x):
    try:
        list(zip([1, 2], [1], strict=True))
    except ValueError:
        return x + 1
    return x


@program(call(X, shapes=[(2, 6), (12,)]), call(X, shapes=[(2, 6), (12,)]))
def nested_structures_are_rebuilt(x, shapes):
    result = {"views": [x.reshape(s) for s in shapes], "meta": {"shapes": shapes, "n": (len(shapes),)}}
    result["first"] = result["views"][0]
    result["self"] = [result["meta"], result["meta"]]
    return result


@program((X, [[1, 2], [3]]), (X, [[1, 2], [3]]))
def aliased_inner_lists(x, rows):
    first = rows[0]
    first.append(9)
    rows.append(first)
    copied = rows.copy()
    copied[1] = "changed"
    return x + len(rows[-1]), copied


@program((X,), (X,))
def multiplication_table_by_alias(x):
    shared = [[0]] * 3
    shared[1].append(1)
    fresh = [[0] for _ in range(3)]
    fresh[1].append(1)
    return x * len(shared[0]), shared, fresh


@program((X, b"ab"), (X, b"ab"))
def bytes_and_memory(x, data):
    return x * data[0], data + b"c", list(data), data.decode(), bytes([1, 2]), bytearray(b"z")[0], len(data)

"""Every method and operator of the built-in containers and texts, on a value from outside and on one made while tracing."""
import collections
import copy
import operator
import os

import pytest
from tracer.support import compile, count, rand
from tracer.support import plain as plain_value

X = rand(3)
SAMPLES = {
    "list": (lambda: [3, 1, 2, 1], [(), (1,), (0,), (9,), (-1,), (1, 7), (0, "a"), ([4, 5],), ("ab",), (1, 0, 3), (None,)]),
    "tuple": (lambda: (3, 1, 2, 1), [(), (1,), (9,), (0,), (1, 2), ((1, 2),), (1, 0, 3), ([1],)]),
    "dict": (lambda: {"a": 1, "b": 2, 3: "c"}, [(), ("a",), ("z",), (3,), ("a", 5), ("z", 5), ({"a": 9, "q": 0},), ([("p", 1)],),
                                                (["a", "y"],), (7,), ([1],)]),
    "OrderedDict": (lambda: collections.OrderedDict([("a", 1), ("b", 2), ("c", 3)]),
                    [(), ("a",), ("z",), ("a", 5), ("a", False), (False,), ({"a": 9, "q": 0},), (True,)]),
    "defaultdict": (lambda: collections.defaultdict(list, a=[1]), [(), ("a",), ("z",), ("z", 5), ({"a": 9},)]),
    "Counter": (lambda: collections.Counter("abca"), [(), ("a",), ("z",), (2,), ("aab",), ({"a": 5},), ("z", 5)]),
    "set": (lambda: {1, 2, 3}, [(), (2,), (9,), ({2, 9},), ([3, 4],), ({1, 2, 3, 4},), (set(),), ((1, 1),), ("a",), ([[]],)]),
    "frozenset": (lambda: frozenset({1, 2, 3}), [(), (2,), ({2, 9},), ([3, 4],), (frozenset({1}),)]),
    "deque": (lambda: collections.deque([3, 1, 2], 4), [(), (1,), (9,), (-2,), (0, "a"), ([4, 5],), (7, 8, 9)]),
    "str": (lambda: "Hello, World", [(), ("l",), ("zz",), ("o", "0"), (", ",), (20,), (20, "*"), (["a", "b"],), ("l", 3),
    (("He", "x"),),
                                     (1,), (None,)]),
    "bytes": (lambda: b"abc", [(), (b"b",), (b"z",), (b"b", b"x"), (98,), (1,), ([b"x", b"y"],)]),
    "range": (lambda: range(1, 10, 3), [(), (4,), (5,), (-1,), (slice(0, 2),)]),
    "int": (lambda: 13, [(), (2,), (0,), (-3,), (2.5,), ("a",), (1, 2)]),
    "float": (lambda: 2.5, [(), (2,), (0,), (-3,), (2.5,), ("a",)]),
}
UNLIKE = {"__new__", "__init__", "__init_subclass__", "__subclasshook__", "__class__", "__reduce__", "__reduce_ex__",
    "__sizeof__",
          "__getstate__", "__setattr__", "__delattr__", "__dir__", "__doc__", "__class_getitem__", "__getnewargs__", "__module__",
          "__dict__", "__weakref__", "__hash__", "__getformat__", "fromhex", "maketrans", "from_bytes", "__format__",
          "__getattribute__",
          "__setformat__", "__alloc__", "__iter__", "__reversed__", "elements", "__length_hint__", "__buffer__", "__repr__",
          "__str__",
          "__bytes__", "encode", "__copy__"}
FUNCTIONS = [len, list, tuple, sorted, reversed, enumerate, sum, min, max, any, all, bool, iter, repr, str, dict, set, hash,
    abs, int, float,
             operator.neg, operator.not_, operator.truth, operator.length_hint, operator.index, zip, round, callable, type,
             frozenset]
BINARY = [operator.add, operator.sub, operator.mul, operator.or_, operator.and_, operator.xor, operator.mod, operator.eq,
    operator.ne,
          operator.lt, operator.le, operator.gt, operator.ge, operator.contains, operator.getitem, operator.iadd, operator.ior,
          operator.imul,
          operator.isub, operator.iand, operator.delitem, operator.concat, operator.countOf, operator.truediv,
          operator.floordiv, operator.pow]


def plain(value):
    return list(value) if hasattr(value, "__next__") or type(value).__name__.startswith("dict_") or type(value).__name__ in (
        "odict_items", "odict_keys", "odict_values") else value


def cases(name):
    make, samples = SAMPLES[name]
    methods = [m for m in dir(type(make())) if m not in UNLIKE and callable(getattr(make(), m, None))]
    for method in methods:
        for args in samples:
            yield lambda v, a, method=method: getattr(v, method)(*a), args
    for function in FUNCTIONS:
        yield lambda v, a, function=function: function(v), ()
    others = [s[0]() for s in SAMPLES.values()] + [None]
    for function in BINARY:
        for other in others:
            yield lambda v, a, function=function: function(v, a[0]), (other,)


def outcome(fn, value, args):
    try:
        return plain_value(fn(X, value, args))
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("name", SAMPLES)
def test_methods_and_operators(name):
    """Every third case of each type (all take half a minute), in turn on an argument and on a value that the program makes."""
    make, _ = SAMPLES[name]
    wrong = []
    for k, (act, args) in enumerate(list(cases(name))[::int(os.environ.get("FLAMBEAU_METHODS", "3"))]):
        def program(x, v, a, act=act, inside=k % 2 == 0):
            v = make() if inside else v
            try:
                found = plain(act(v, a))
            except Exception as error:
                found = type(error).__name__
            return x + 1, found, v
        expected = outcome(program, make(), copy.deepcopy(args))
        compiled = compile(program, backend="eager")
        got = outcome(compiled, make(), copy.deepcopy(args))
        if got != expected or count(compiled, "fallback"):
            wrong.append(f"{act.__defaults__[0]}{args}: compiled {got}, eager {expected}")
    assert not wrong, "\n".join(wrong)

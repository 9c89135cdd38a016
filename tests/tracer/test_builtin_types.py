"""Objects of Python's own types: every method and operator, with all kinds of arguments, does compiled what it does eagerly.

What is tried is made of the types themselves (`dir`), so that a new Python brings its own. A part of it is run;
FLAMBEAU_ALL_METHODS=1 runs all of it (about 100,000 programs, some minutes).
"""
from __future__ import annotations

import builtins
import collections
import contextlib
import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import io
import itertools
import math
import operator
import os
import pathlib
import re
import types
import warnings

import pytest
from tracer.support import compile

import flambeau as fl


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Flag(enum.IntFlag):
    A = 1
    B = 2


@dataclasses.dataclass(order=True)
class Record:
    a: int = 1
    b: str = "q"


Pair = collections.namedtuple("Pair", "a b", defaults=[5])

KINDS = {
    "int": "7", "negative": "-3", "float": "2.5", "bool": "True", "str": "'Hello wor'", "empty": "''", "bytes": "b'ab c'",
    "list": "[3, 1, 2]", "strings": "['b', 'a']", "tuple": "(1, 2, 1)", "dict": "{'a': 1, 'b': 2}", "set": "{1, 2, 3}",
    "frozenset": "frozenset([1, 2])", "range": "range(2, 9, 3)", "slice": "slice(1, 5, 2)", "complex": "(1 + 2j)",
    "deque": "collections.deque([1, 2, 3], maxlen=4)", "OrderedDict": "collections.OrderedDict([('a', 1), ('b', 2)])",
    "defaultdict": "collections.defaultdict(list, {'a': [1]})", "Counter": "collections.Counter('abca')",
    "namedtuple": "Pair(1, 2)",
    "Enum": "Color.RED", "IntFlag": "Flag.A | Flag.B", "dataclass": "Record(3, 'z')", "Fraction": "fractions.Fraction(1, 3)",
    "Decimal": "decimal.Decimal('1.5')", "date": "datetime.date(2020, 1, 2)", "path": "pathlib.PurePosixPath('a/b.c')",
    "bytearray": "bytearray(b'xy')", "namespace": "types.SimpleNamespace(a=1)", "keys": "{'a': 1, 'b': 2}.keys()",
    "items": "{'a': 1}.items()", "ChainMap": "collections.ChainMap({'a': 1}, {'b': 2})", "Size": "x.shape", "dtype": "x.dtype",
    "iterator": "iter([1, 2, 3])", "generator": "(q for q in [1, 2])", "zip": "zip([1, 2], [3, 4])",
    "enumerate": "enumerate('ab')",
    "class": "Record", "enum class": "Color", "partial": "functools.partial(max, 1)", "function": "(lambda a=1: a)",
    "proxy": "types.MappingProxyType({'a': 1})", "UserDict": "collections.UserDict(a=1)",
    "UserList": "collections.UserList([1, 2])",
}
ARGUMENTS = ["", "1", "'a'", "[1]", "0, 1", "'l', 'z'", "{'a': 3}", "(2,)", "None", "-1", "1, 2, 3", "len", "{1, 5}", "'b', None",
             "2.0"]
OPERATORS = "+ - * / // % ** @ & | ^ << >> == != < <= > >= in is and or".split()
OPERANDS = ["1", "'a'", "[1]", "2.5", "(1,)", "{'a': 2}", "{1}", "None", "v", "w", "True", "x"]
FUNCTIONS = """len iter list tuple set dict sorted sum max min any all abs round int float str repr bool type callable reversed
    enumerate next bytes ascii format ord chr hex bin copy.copy copy.deepcopy frozenset collections.Counter collections.deque
    collections.OrderedDict math.floor math.sqrt operator.index operator.neg operator.not_ vars range slice zip complex fl.tensor
    fl.as_tensor""".split()
EXPRESSIONS = """v[0]; v[-1]; v['a']; v[1:]; v[::-1]; v[()]; v[None]; v[5]; v[0, 1]; f'{v}'; f'{v!r:>10}'; f'{v:>10}'; '%s' % v;
    '%s' % (v,); '{}'.format(v); [*v]; {**v}; (lambda *a: a)(*v); (lambda **k: k)(**v); not v; -v; +v; ~v; [q for q in v];
    {q: 1 for q in v}; v if v else 0; hasattr(v, 'a'); getattr(v, 'a', 7); isinstance(v, (list, dict));
    isinstance(v, collections.abc.Iterable); isinstance(v, collections.abc.Mapping); isinstance(v, collections.abc.Hashable);
    isinstance(v, collections.abc.Sequence); type(v) is type(w); type(v).__name__; v(); v(1); v(a=2); x[v]; x + v; x.reshape(v);
    fl.zeros(v); issubclass(type(v), tuple); [v, v][1] is v; {0: v}[0] is v; x.sum(v); x.to(v); x * v"""
STATEMENTS = ["v[0] = 9", "v['a'] = 9", "v[1:2] = [7, 8]", "del v[0]", "del v['a']", "v.a = 5", "v.zz = 5", "del v.a",
              "a, *b = v",
              "a, b = v", "for q in v: pass", "v[5] = 1", "v[::2] = [1, 2]", *(
                  f"v {op}= {a}" for op in ("+", "-", "*", "|", "&", "^", "//", "%", "**")
                  for a in ("1", "'a'", "[1]", "{'a': 2}", "{1}", "v", "(1,)"))]

#: What looks at addresses, at the interpreter, at time, or changes a class of the test.
LEFT_OUT = set("""__class__ __init_subclass__ __subclasshook__ __dir__ __sizeof__ __reduce__ __reduce_ex__ __getstate__
    __setstate__
    __doc__ __module__ __weakref__ __dict__ __new__ __init__ __hash__ today now fromtimestamp __class_getitem__ __getattribute__
    __copy__ __annotations__ __code__ __globals__ __builtins__ __qualname__ __dataclass_fields__ __dataclass_params__
    __subclasses__
    __weakrefoffset__ mro __mro__ __base__ __bases__ __signature__ __match_args__ __text_signature__ __closure__ __firstlineno__
    __static_attributes__ __type_params__ __prepare__ __setattr__ __delattr__ __get__ __call__ __kwdefaults__ __defaults__
    __instancecheck__ __subclasscheck__ __dictoffset__ __basicsize__ __flags__ __itemsize__ __abstractmethods__ _abc_impl
    __annotate__ __annotations_cache__ __annotate_func__""".split())
#: Kinds and programs that differ, and why.
DIFFERENT = re.compile("|".join([
    r".*class v\.__str__\('a'\)",                             # object.__str__ of something else than an object
    r"(class|enum class|Enum|IntFlag|dataclass) (v\.zz? = 5|v\.a = 5|del v\.a)",          # both change what there is one of
    r"IntFlag v \*= ('a'|\[1\]|\(1,\))",                    # repeats where a class that a program has made may not
    r"dataclass v\.__repr__\(.+\)", r".* collections\.OrderedDict\(v\)", r"Counter v\.most_common\(.*",      # other words
    r"Size v \*= .*", r".* (v @ x|x @ v)", r"bool x\.sum\(v\)", r".* v\.index\('l', 'z'\)",
    r"(iterator|generator|zip|enumerate) \w+\(v\)",         # named as the list of what they give
    r"defaultdict v\.default_factory\(.*", r"deque v\.__\w+item__\(.*", r"tuple v \*= 1",
]))


def programs(kind):
    """(program, whether it is an expression)."""
    value = eval(KINDS[kind], {**globals(), "x": fl.ones(2, 3)})
    for name in dir(value):
        if name in LEFT_OUT or name.startswith("_") and not name.startswith("__"):
            continue
        if callable(getattr(value, name, None)):
            yield from ((f"v.{name}({a})", True) for a in ARGUMENTS)
        else:
            yield f"v.{name}", True
    for op, a in itertools.product(OPERATORS, OPERANDS):
        if op != "is":
            yield from ((f"v {op} {a}", True), (f"{a} {op} v", True))
    yield from ((f"{fn}(v)", True) for fn in FUNCTIONS)
    yield from ((e, True) for e in re.split(r";\s+", EXPRESSIONS))
    yield from ((s, False) for s in STATEMENTS)


def function(kind, program, is_expression, inside):
    """The program as a function: of an object made inside, with errors caught there; or of an argument."""
    body = [f"r = {program}" if is_expression else program, "return r, v, y" if is_expression else "return v, z, v is z, y"]
    head = [f"v = {KINDS[kind]}; w = {KINDS[kind]}"] if inside else []
    lines = ["def program(x):" if inside else "def program(x, v, w):", *(f"    {s}" for s in (*head, "y = x + 1; z = v"))]
    if inside:
        lines += ["    try:", *(f"        {s}" for s in body), "    except Exception as error:",
                  "        return type(error).__name__, str(error), y"]
    else:
        lines += [f"    {s}" for s in body]
    space = dict(globals())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exec(builtins.compile("\n".join(lines), "<program>", "exec"), space)
        except SyntaxError:
            return None
    return space["program"]


def seen(value, depth=0):
    """A result as comparable data; iterators as what is left in them."""
    if isinstance(value, fl.Tensor):
        return "tensor", value.tolist()
    if isinstance(value, dict) and depth < 6:
        return type(value).__name__, [(seen(k, depth + 1), seen(v, depth + 1)) for k, v in value.items()]
    if isinstance(value, (list, tuple, collections.deque)) and depth < 6:
        return type(value).__name__, [seen(v, depth + 1) for v in value]
    if isinstance(value, (set, frozenset)):
        return type(value).__name__, sorted(map(str, value))
    if hasattr(type(value), "__next__"):
        return "iterator", [seen(v, depth + 1) for v in itertools.islice(value, 20)]
    return type(value).__name__, words(repr(value))


def words(text):
    """A text without addresses, kinds of iterators, and which class has the method that gets the wrong arguments."""
    return re.sub(r" at 0x[0-9a-f]+|\b(list_reverse|list_|generator)\w*|\w+\.(?=\w+\(\) takes )", "", text)


def outcome(fn, kind, inside):
    given = [eval(KINDS[kind], {**globals(), "x": fl.ones(2, 3)}) for _ in range(0 if inside else 2)]
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return seen(fn(fl.ones(2, 3), *given))
        except Exception as error:
            return "raised", type(error).__name__, words(str(error))


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_does(kind):
    """Compiled twice over: the second call comes from the first one's graph."""
    everything = list(programs(kind))
    step = 1 if "FLAMBEAU_ALL_METHODS" in os.environ else 61
    different = {}
    for k, (program, is_expression) in enumerate(everything):
        if (k + len(kind)) % step or DIFFERENT.fullmatch(f"{kind} {program}"):
            continue
        for inside in (False, True):
            fn = function(kind, program, is_expression, inside)
            if fn is None:
                continue
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                wanted = outcome(fn, kind, inside)
                compiled = compile(fn)
                found = [outcome(compiled, kind, inside) for _ in range(2)]
            told = [str(w.message) for w in told if " eagerly" in str(w.message) and "generators" not in str(w.message)]
            if found != [wanted] * 2 or told:
                different[program, "made inside" if inside else "given"] = (wanted, found, told)
    assert not different, "\n".join(f"{k}: {v}" for k, v in different.items())
    assert copy and datetime and decimal and fractions and functools and math and operator and pathlib and types   # for `eval`

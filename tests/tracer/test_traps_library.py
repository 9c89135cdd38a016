"""Soundness: what belongs to the library, or to Python, is replaced between two calls."""
import builtins
import copy
import functools
import itertools
import math
import operator
import sys

import pytest
from tracer.traps import both, patched, rand, spring

import flambeau
from flambeau import Tensor, nn
from flambeau.nn import functional as F  # noqa: N812

pytestmark = pytest.mark.filterwarnings("error::flambeau.frontend.points.FallbackWarning",
                                        "error::flambeau.frontend.points.RecompileWarning")
X = rand(4, 3)
TRAPS = {}
LINEAR, SOFTMAX, FLATTEN = nn.Linear(3, 3), nn.Softmax(0), nn.Flatten(0)
METHOD = Tensor.sin


def changed(x):
    x = x * 1
    x += 1
    x[0] = 1
    return x


# function -> what is replaced in it, and by what
PATCHES = {
    "a method by another": (lambda x: x.sin(), Tensor, "sin", Tensor.cos),
    "a method read by its name": (lambda x: getattr(x, "tanh")(), Tensor, "tanh", Tensor.cos),   # noqa: B009
    "a method of the class": (lambda x: Tensor.sin(x), Tensor, "sin", Tensor.cos),
    "a method that is mapped": (lambda x: list(map(Tensor.sin, [x, x])), Tensor, "sin", Tensor.cos),
    "a method in a module of the library": (lambda x: FLATTEN(x), Tensor, "flatten", lambda self, *args: self * 3),
    "a reduction by another": (lambda x: x.sum(dim=0).mul(2), Tensor, "sum", Tensor.mean),
    "an operator": (lambda x: x + 1, Tensor, "__add__", Tensor.__sub__),
    "a unary operator": (lambda x: -x, Tensor, "__neg__", Tensor.abs),
    "a comparison": (lambda x: (x < 0).float(), Tensor, "__lt__", Tensor.__gt__),
    "an operator in place": (changed, Tensor, "__iadd__", Tensor.__isub__),
    "what stores items": (changed, Tensor, "__setitem__", lambda self, key, value: None),
    "what gives items": (lambda x: x[0], Tensor, "__getitem__", lambda self, key: self * 2),
    "the length": (lambda x: x * len(x), Tensor, "__len__", lambda self: 77),
    "the iterator": (lambda x: [row + 1 for row in x], Tensor, "__iter__", lambda self: iter([self])),
    "a property": (lambda x: x.T + 1, Tensor, "T", property(lambda self: self * 2)),
    "a size": (lambda x: x * x.size(0), Tensor, "size", lambda self, dim: 77),
    "a number of dimensions": (lambda x: x * x.ndim, Tensor, "ndim", property(lambda self: 50)),
    "a question of the layout": (lambda x: x * 2 if x.is_contiguous() else x, Tensor, "is_contiguous", lambda self: False),
    "an attribute that was missing": (lambda x: x * getattr(x, "gain", 1), Tensor, "gain", 5),
    "whether there is an attribute": (lambda x: x * 2 if hasattr(x, "gain") else x, Tensor, "gain", 5),
    "a method of parameters alone": (lambda x: x * LINEAR.bias.tanh(), nn.Parameter, "tanh", Tensor.cos),
    "an operator of parameters alone": (lambda x: LINEAR.bias * x, nn.Parameter, "__mul__", lambda self, other: other),
    "a global function": (lambda x: flambeau.sin(x), flambeau, "sin", flambeau.cos),
    "a function that a module calls": (lambda x: LINEAR(x), F, "linear", lambda x, w, b: x * 2),
    "the call of a module's class": (lambda x: LINEAR(x), nn.Linear, "__call__", lambda self, x: x),
    "the call of all modules": (lambda x: LINEAR(x), nn.Module, "__call__", lambda self, x: x),
    "an attribute of a module's class": (lambda x: x * getattr(LINEAR, "gain", 1), nn.Linear, "gain", 3),
    "an attribute of all modules": (lambda x: x * getattr(LINEAR, "gain", 1), nn.Module, "gain", 3),
    "a forward": (lambda x: SOFTMAX(x), nn.Softmax, "forward", lambda self, x: x),
    "an init": (lambda x: nn.Softmax(0)(x), nn.Softmax, "__init__",
                lambda self, dim: nn.Module.__init__(self) or setattr(self, "dim", 1)),
    "a class": (lambda x: nn.Identity()(x), nn, "Identity", nn.ReLU),
    "a function of math": (lambda x: x * math.sqrt(4), math, "sqrt", math.exp),
    "a number of math": (lambda x: x * math.pi, math, "pi", 3.0),
    "a function of operator": (lambda x: operator.add(x, 1), operator, "add", operator.mul),
    "a function of functools": (lambda x: functools.reduce(operator.add, [x, x]), functools, "reduce", lambda fn, xs: xs[0]),
    "an iterator of itertools": (lambda x: [a + 1 for a in itertools.chain([x], [x])], itertools, "chain", lambda *a: a[0]),
    "a copy": (lambda x: copy.copy([x, x]), copy, "copy", lambda a: a[:1]),
    "a builtin by another": (lambda x: x * max(1, 2), builtins, "max", min),
    "a method kept in a global": (lambda x: METHOD(x), sys.modules[__name__], "METHOD", Tensor.cos),
}


def _trap(fn, owner, name, value):
    def run():
        f = both(fn)
        yield f(X)
        with patched(owner, name, value):
            yield f(X)
        yield f(X)
        with patched(owner, name, value):
            yield f(X)
    return run


TRAPS.update({name.replace(" ", "_"): _trap(*patch) for name, patch in PATCHES.items()})


def test_what_is_put_back_where_it_was_inherited_is_no_patch():
    with patched(Tensor, "__add__", Tensor.__add__):
        compiled = flambeau.compile(lambda x: x + 1, backend="eager", fullgraph=True)
        assert compiled(X).equal(X + 1)


@pytest.mark.parametrize("name", list(TRAPS))
def test_trap(name):
    spring(TRAPS[name])

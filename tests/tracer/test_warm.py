"""A later process runs what an earlier one has captured, and never a result of a program that has changed since."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tracer.warm import Server, write

from flambeau.codegen.build import find_compiler

HEAD = """
import os
import flambeau as torch
import flambeau.nn.functional as F
from flambeau import nn

def args(n=3):
    return [torch.arange(1.0, 1.0 + n)]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@dataclass
class Trap:
    """A program, and what changes before its third process: files, the environment, or code that runs after the import."""

    program: str
    edit: tuple[str, str] | None = None            # in any of the files
    more: dict[str, str] = field(default_factory=dict)
    before: str = ""
    first: str = ""                                # code that runs in the first two processes
    env: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    kept: bool = True                              # whether an entry can be kept at all


TRAPS: dict[str, Trap] = {}


def trap(name: str, program: str, edit: tuple[str, str] | None = None, **how: Any) -> None:
    assert name not in TRAPS
    TRAPS[name] = Trap(program, edit, **how)


trap("the function itself", """
def fn(x):
    return x * 2 + 1
""", ("x * 2", "x * 3"))
trap("a helper", """
def helper(x):
    return x.sin()
def fn(x):
    return helper(x) + 1
""", ("x.sin", "x.cos"))
trap("a helper in another module", """
from other import helper
def fn(x):
    return helper(x) + 1
""", ("x.sin", "x.cos"), more={"other": "def helper(x):\n    return x.sin()\n"})
trap("a helper two modules away", """
import other
def fn(x):
    return other.helper(x) + 1
""", ("x.sin", "x.cos"), more={"other": "from third import deep\ndef helper(x):\n    return deep(x)\n",
                             "third": "def deep(x):\n    return x.sin()\n"})
trap("a default of a helper", """
def helper(x, by=2.0):
    return x * by
def fn(x):
    return helper(x)
""", ("by=2.0", "by=3.0"))
trap("a keyword-only default", """
def helper(x, *, by=2):
    return x * by
def fn(x):
    return helper(x)
""", ("by=2", "by=5"))
trap("a global number", """
SCALE = 2.0
def fn(x):
    return x * SCALE
""", ("SCALE = 2.0", "SCALE = 4.0"))
trap("a global from the environment", """
SCALE = float(os.environ.get("PROGRAM_SCALE", "2"))
def fn(x):
    return x * SCALE
""", env={"PROGRAM_SCALE": "7"})
trap("a function chosen by the environment", """
if os.environ.get("PROGRAM_MODE"):
    def helper(x):
        return x.cos()
else:
    def helper(x):
        return x.sin()
def fn(x):
    return helper(x)
""", env={"PROGRAM_MODE": "1"})
trap("a method chosen by the environment", """
class Model:
    if os.environ.get("PROGRAM_MODE"):
        def act(self, x):
            return x.cos()
    else:
        def act(self, x):
            return x.sin()
model = Model()
def fn(x):
    return model.act(x)
""", env={"PROGRAM_MODE": "1"})
trap("a method of a subclass that is there only now", """
class Base:
    def act(self, x):
        return x.sin()
class Model(Base):
    if os.environ.get("PROGRAM_MODE"):
        def act(self, x):
            return x.cos()
model = Model()
def fn(x):
    return model.act(x)
""", env={"PROGRAM_MODE": "1"})
trap("bases chosen by the environment", """
class A:
    def act(self, x):
        return x.sin()
class B:
    def act(self, x):
        return x.cos()
class Model(*((B, A) if os.environ.get("PROGRAM_MODE") else (A, B))):
    pass
model = Model()
def fn(x):
    return model.act(x)
""", env={"PROGRAM_MODE": "1"})
trap("a value in a closure", """
def make(by):
    def inner(x):
        return x * by
    return inner
fn = make(2.0)
""", ("make(2.0)", "make(3.0)"))
trap("a value in a closure, from outside", """
def make(by):
    def inner(x):
        return x * by
    return inner
fn = make(float(os.environ.get("PROGRAM_SCALE", "2")))
""", env={"PROGRAM_SCALE": "5"})
trap("a function in a closure, from outside", """
def sine(x):
    return x.sin()
def cosine(x):
    return x.cos()
def make(act):
    def inner(x):
        return act(x) + 1
    return inner
fn = make(cosine if os.environ.get("PROGRAM_MODE") else sine)
""", env={"PROGRAM_MODE": "1"})
trap("a lambda in a closure, from outside", """
def make(act):
    def inner(x):
        return act(x) + 1
    return inner
fn = make((lambda x: x.cos()) if os.environ.get("PROGRAM_MODE") else (lambda x: x.sin()))
""", env={"PROGRAM_MODE": "1"})
trap("the inner function", """
def fn(x):
    def inner(y):
        return y.sin()
    return inner(x) + 1
""", ("y.sin", "y.cos"))
trap("a comprehension", """
def fn(x):
    return sum([x * k for k in range(3)])
""", ("x * k", "x + k"))
trap("a generator", """
def parts(x):
    for k in range(3):
        yield x * k
def fn(x):
    return sum(parts(x))
""", ("x * k", "x - k"))
trap("a class attribute", """
class Model:
    scale = 2.0
    def act(self, x):
        return x * self.scale
model = Model()
def fn(x):
    return model.act(x)
""", ("scale = 2.0", "scale = 9.0"))
trap("a method", """
class Model:
    def act(self, x):
        return x.sin()
model = Model()
def fn(x):
    return model.act(x)
""", ("x.sin", "x.cos"))
trap("a method of the base class in another module", """
from other import Base
class Model(Base):
    pass
model = Model()
def fn(x):
    return model.act(x)
""", ("x.sin", "x.cos"), more={"other": "class Base:\n    def act(self, x):\n        return x.sin()\n"})
trap("a property", """
class Model:
    @property
    def scale(self):
        return 2.0
model = Model()
def fn(x):
    return x * model.scale
""", ("return 2.0", "return 5.0"))
trap("a static method", """
class Model:
    @staticmethod
    def act(x):
        return x.sin()
def fn(x):
    return Model.act(x)
""", ("x.sin", "x.cos"))
trap("a class method", """
class Model:
    @classmethod
    def act(cls, x):
        return x.sin()
def fn(x):
    return Model.act(x)
""", ("x.sin", "x.cos"))
trap("an operator", """
class Number:
    def __init__(self, t):
        self.t = t
    def __add__(self, other):
        return Number(self.t + other)
def fn(x):
    return (Number(x) + 1).t
""", ("self.t + other", "self.t - other"))
trap("a descriptor", """
class Twice:
    def __get__(self, owner, cls):
        return 2.0
class Model:
    scale = Twice()
model = Model()
def fn(x):
    return x * model.scale
""", ("return 2.0", "return 6.0"))
trap("__getattr__", """
class Model:
    def __getattr__(self, name):
        return 2.0
model = Model()
def fn(x):
    return x * model.scale
""", ("return 2.0", "return 6.0"))
trap("an instance's attribute", """
class Model:
    def __init__(self):
        self.scale = float(os.environ.get("PROGRAM_SCALE", "2"))
model = Model()
def fn(x):
    return x * model.scale
""", env={"PROGRAM_SCALE": "5"})
trap("an enum", """
import enum
class Mode(enum.Enum):
    A = 2
    B = 3
MODE = Mode.A
def fn(x):
    return x * MODE.value
""", ("A = 2", "A = 4"))
trap("an enum from the environment", """
import enum
class Mode(enum.Enum):
    A = int(os.environ.get("PROGRAM_SCALE", "2"))
    B = 3
MODE = Mode.A
def fn(x):
    return x * MODE.value
""", env={"PROGRAM_SCALE": "5"})
trap("which member of an enum", """
import enum
class Mode(enum.Enum):
    A = 2
    B = 3
MODE = Mode[os.environ.get("PROGRAM_MODE", "A")]
def fn(x):
    return x * MODE.value
""", env={"PROGRAM_MODE": "B"})
trap("a named tuple's default", """
from typing import NamedTuple
class Pair(NamedTuple):
    a: float = float(os.environ.get("PROGRAM_SCALE", "2"))
def fn(x):
    return x * Pair().a
""", env={"PROGRAM_SCALE": "5"})
trap("a dataclass's default", """
from dataclasses import dataclass
@dataclass
class Config:
    scale: float = float(os.environ.get("PROGRAM_SCALE", "2"))
config = Config()
def fn(x):
    return x * config.scale
""", env={"PROGRAM_SCALE": "5"})
trap("a dataclass made in the function", """
from dataclasses import dataclass
@dataclass
class Config:
    scale: float = float(os.environ.get("PROGRAM_SCALE", "2"))
def fn(x):
    return x * Config().scale
""", env={"PROGRAM_SCALE": "5"})
trap("a decorator", """
import functools
def twice(f):
    @functools.wraps(f)
    def wrapper(x):
        return f(x) * 2
    return wrapper
@twice
def helper(x):
    return x.sin()
def fn(x):
    return helper(x)
""", ("f(x) * 2", "f(x) * 3"))
trap("what a decorator wraps", """
import functools
def twice(f):
    @functools.wraps(f)
    def wrapper(x):
        return f(x) * 2
    return wrapper
@twice
def helper(x):
    return x.sin()
def fn(x):
    return helper(x)
""", ("x.sin", "x.cos"))
trap("what a decorator wraps, chosen by the environment", """
import functools
def twice(f):
    @functools.wraps(f)
    def wrapper(x):
        return f(x) * 2
    return wrapper
def sine(x):
    return x.sin()
def cosine(x):
    return x.cos()
helper = twice(cosine if os.environ.get("PROGRAM_MODE") else sine)
def fn(x):
    return helper(x)
""", env={"PROGRAM_MODE": "1"})
trap("a cached function", """
import functools
@functools.lru_cache
def scale(n):
    return n * 2
def fn(x):
    return x * scale(3)
""", ("n * 2", "n * 4"))
trap("a partial", """
import functools
def helper(x, by):
    return x * by
part = functools.partial(helper, by=float(os.environ.get("PROGRAM_SCALE", "2")))
def fn(x):
    return part(x)
""", env={"PROGRAM_SCALE": "5"})
trap("a table of functions", """
TABLE = {"a": lambda x: x.sin(), "b": lambda x: x.cos()}
def fn(x):
    return TABLE["a"](x)
""", ('"a": lambda x: x.sin()', '"a": lambda x: x.tan()'))
trap("a table filled by the environment", """
def sine(x):
    return x.sin()
def cosine(x):
    return x.cos()
TABLE = {"a": cosine if os.environ.get("PROGRAM_MODE") else sine}
def fn(x):
    return TABLE["a"](x)
""", env={"PROGRAM_MODE": "1"})
trap("a list of layers", """
LAYERS = [torch.sin, torch.cos][::int(os.environ.get("PROGRAM_STEP", "1"))]
def fn(x):
    for layer in LAYERS:
        x = layer(x)
    return x
""", env={"PROGRAM_STEP": "-1"})
trap("a pattern", """
import re
WORD = re.compile(os.environ.get("PROGRAM_PATTERN", "a+"))
def fn(x):
    return x * (2 if WORD.pattern == "a+" else 3)
""", env={"PROGRAM_PATTERN": "b+"}, kept=False)
trap("a getter", """
import operator
get = operator.itemgetter(int(os.environ.get("PROGRAM_INDEX", "0")))
def fn(x):
    return get([x.sin(), x.cos()])
""", env={"PROGRAM_INDEX": "1"}, kept=False)
trap("a string that chooses", """
MODE = os.environ.get("PROGRAM_MODE", "sin")
def fn(x):
    return getattr(x, MODE)()
""", env={"PROGRAM_MODE": "cos"})
trap("a tensor of the module", """
WEIGHT = torch.full((3,), float(os.environ.get("PROGRAM_SCALE", "2")))
def fn(x):
    return x * WEIGHT
""", env={"PROGRAM_SCALE": "5"})
trap("a tensor made in the function", """
def fn(x):
    return x * torch.tensor([1.0, 2.0, 3.0])
""", ("1.0, 2.0, 3.0]", "3.0, 2.0, 1.0]"), kept=False)
trap("a tensor in a closure", """
def make(weight):
    def inner(x):
        return x * weight
    return inner
fn = make(torch.full((3,), float(os.environ.get("PROGRAM_SCALE", "2"))))
""", env={"PROGRAM_SCALE": "5"})
trap("a function of the library that the program replaces", """
def fn(x):
    return F.relu(x - 2) + 1
""", before="""
import flambeau.nn.functional as F
F.relu = lambda x: x * 100
""")
trap("a method of the library that the program replaces", """
torch.manual_seed(0)
fn = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
""", before="""
from flambeau import nn
nn.Linear.forward = lambda self, x: x * 100
""")
trap("a method of the library that the program had replaced", """
torch.manual_seed(0)
fn = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
""", first="""
from flambeau import nn
nn.Linear.forward = lambda self, x: x * 100
""", kept=False)
trap("a function of the library that the library itself calls", """
torch.manual_seed(0)
fn = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
""", before="""
import flambeau.nn.functional as F
import sys
fake = lambda *args, **kwargs: args[0] * 100
for module in list(sys.modules.values()):
    if module.__name__.startswith("flambeau.nn"):
        for name in ("relu", "linear"):
            if callable(vars(module).get(name)):
                setattr(module, name, fake)
""")
trap("a method that appears below the library's", """
torch.manual_seed(0)
fn = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
""", before="""
from flambeau import nn
nn.Linear.__call__ = lambda self, x: x * 100
""")
trap("a builtin that the program replaces", """
def fn(x):
    return x * max(1, 2)
""", before="""
import builtins
builtins.max = lambda *args: 50
""")
trap("a builtin that the module hides", """
if os.environ.get("PROGRAM_MODE"):
    def max(*args):
        return 50
def fn(x):
    return x * max(1, 2)
""", env={"PROGRAM_MODE": "1"})
trap("the layers of a model", """
torch.manual_seed(0)
fn = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
""", ("nn.ReLU()", "nn.Tanh()"))
trap("the order of a model's layers", """
torch.manual_seed(0)
layers = [nn.Linear(3, 3), nn.Tanh()]
fn = nn.Sequential(*layers[::int(os.environ.get("PROGRAM_STEP", "1"))])
""", env={"PROGRAM_STEP": "-1"})
trap("an attribute of a layer", """
torch.manual_seed(0)
fn = nn.Sequential(nn.Linear(3, 3), nn.LeakyReLU(float(os.environ.get("PROGRAM_SCALE", "0.1"))))
""", env={"PROGRAM_SCALE": "0.9"})
trap("the forward of a model", """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 3)
    def forward(self, x):
        return self.inner(x).sin()
torch.manual_seed(0)
fn = Model()
""", (".sin", ".cos"))
trap("a hook on a layer", """
torch.manual_seed(0)
fn = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
""", before="""
program.fn[0].register_forward_hook(lambda module, inputs, output: output * 100)
""")
trap("evaluation", """
torch.manual_seed(0)
fn = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False), nn.Flatten())
def args():
    return [torch.arange(6.0).reshape(2, 3)]
""", before="program.fn.eval()")
trap("the mode of the tape", """
torch.manual_seed(0)
model = nn.Linear(3, 3)
def fn(x):
    return model(x), torch.is_grad_enabled()
""", before="flambeau.set_grad_enabled(False)")
trap("the default dtype", """
def fn(x):
    return x + torch.zeros(3)
""", before="flambeau.set_default_dtype(flambeau.float64)")
trap("the dtype of the argument", """
def fn(x):
    return x / 2, str(x.dtype)
def args():
    return [torch.ones(3, dtype=getattr(torch, os.environ.get("PROGRAM_DTYPE", "float32")))]
""", env={"PROGRAM_DTYPE": "float64"})
trap("a branch on the argument's shape", """
def fn(x):
    return x * 2 if x.shape[0] == 3 else x * 5
def args():
    return [torch.ones(int(os.environ.get("PROGRAM_SIZE", "3")))]
""", env={"PROGRAM_SIZE": "4"})
trap("an argument that is a function", """
def sine(x):
    return x.sin()
def cosine(x):
    return x.cos()
def fn(act, x):
    return act(x)
def args():
    return [cosine if os.environ.get("PROGRAM_MODE") else sine, torch.ones(3)]
""", env={"PROGRAM_MODE": "1"})
trap("an argument that is a class", """
class A:
    scale = 2
class B:
    scale = 3
def fn(cls, x):
    return x * cls.scale
def args():
    return [B if os.environ.get("PROGRAM_MODE") else A, torch.ones(3)]
""", env={"PROGRAM_MODE": "1"})
trap("an alias among the arguments", """
def fn(x, y):
    x.add_(1)
    return x * y
def args():
    x = torch.ones(3)
    return [x, x if os.environ.get("PROGRAM_MODE") else torch.ones(3)]
""", env={"PROGRAM_MODE": "1"})
trap("a module imported in the function", """
def fn(x):
    import other
    return other.helper(x)
import other
""", ("x.sin", "x.cos"), more={"other": "def helper(x):\n    return x.sin()\n"})
trap("a number of a module that is imported", """
import other
def fn(x):
    return x * other.SCALE
""", ("SCALE = 2", "SCALE = 3"), more={"other": "SCALE = 2\n"})
trap("a break, and what follows it", """
def helper(x):
    return x.sin()
def fn(x):
    y = x * 2
    print("", end="")
    return helper(y)
""", ("x.sin", "x.cos"))
trap("the instruction that breaks", """
def fn(x):
    y = x * 2
    n = max(y.tolist())
    return y + n
""", ("max(", "min("))
trap("a helper that breaks", """
def helper(x):
    y = x * 2
    print("", end="")
    return y.sin()
def fn(x):
    return helper(x) + 1
""", ("y.sin", "y.cos"))
trap("a global that is stored", """
COUNT = 0
def fn(x):
    global COUNT
    COUNT += 1
    return x * 2
""", ("COUNT += 1", "COUNT += 2"))
trap("a custom autograd function", """
class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2
    @staticmethod
    def backward(ctx, g):
        return g * 2
def fn(x):
    x = x.clone().requires_grad_()
    y = Twice.apply(x)
    return y
""", ("x * 2", "x * 3"), kept=False)
trap("a metaclass", """
class Meta(type):
    @property
    def scale(cls):
        return 2.0
class Model(metaclass=Meta):
    pass
def fn(x):
    return x * Model.scale
""", ("return 2.0", "return 5.0"))
trap("code that exec makes", """
space = {"__name__": "made"}
exec(os.environ.get("PROGRAM_CODE", "def helper(x): return x.sin()"), space)
helper = space["helper"]
def fn(x):
    return helper(x)
""", env={"PROGRAM_CODE": "def helper(x): return x.cos()"}, kept=False)
trap("a function of an instance from the environment", """
class Model:
    def __init__(self, act):
        self.act = act
def sine(x):
    return x.sin()
def cosine(x):
    return x.cos()
model = Model(cosine if os.environ.get("PROGRAM_MODE") else sine)
def fn(x):
    return model.act(x)
""", env={"PROGRAM_MODE": "1"})


PLUGIN = """
import importlib.util, sys
from pathlib import Path
def load(scale):
    spec = importlib.util.spec_from_file_location("plugin", Path(__file__).with_name("other.py"))
    module = sys.modules["plugin"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.SCALE = scale
    return module
first, second = load(2.0), load(3.0)
chosen = first if os.environ.get("PROGRAM_MODE") else second
"""
trap("a function of a module that was loaded twice", PLUGIN + """
fn = chosen.helper
""", more={"other": "SCALE = 1.0\ndef helper(x):\n    return x * SCALE\n"}, env={"PROGRAM_MODE": "1"})
trap("a helper of a module that was loaded twice", PLUGIN + """
helper = chosen.helper
def fn(x):
    return helper(x)
""", more={"other": "SCALE = 1.0\ndef helper(x):\n    return x * SCALE\n"}, env={"PROGRAM_MODE": "1"})
trap("an argument of a module that was loaded twice", PLUGIN + """
def fn(act, x):
    return act(x)
def args():
    return [chosen.helper, torch.ones(3)]
""", more={"other": "SCALE = 1.0\ndef helper(x):\n    return x * SCALE\n"}, env={"PROGRAM_MODE": "1"})
trap("an object of a module that was loaded twice", PLUGIN + """
model = chosen.Model()
def fn(x):
    return model(x)
""", more={"other": "SCALE = 1.0\nclass Model:\n    def __call__(self, x):\n        return x * SCALE\n"},
     env={"PROGRAM_MODE": "1"})
trap("a model that breaks inside", """
class Inner(nn.Module):
    def forward(self, x):
        y = x.sin()
        print("", end="")
        return y + 1
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Inner()
    def forward(self, x):
        return self.inner(x * 2) * 3
fn = Model()
""", ("x.sin", "x.cos"))


for _name, _value, _other in (
        ("a dtype", "torch.float32", "torch.float64"), ("a function of the library", "torch.sin", "torch.cos"),
        ("an activation", "F.relu", "F.gelu"), ("one", "1", "True"), ("a float of the same value", "2", "2.0"),
        ("a zero", "0.0", "-0.0"), ("a complex number", "1j", "2j"), ("nothing", "None", "3"),
        ("a tuple", "(1, 2)", "(1, 3)"), ("a list", "[1, 2]", "[1, 2, 3]"), ("a set", "{1, 2}", "{1, 3}"),
        ("the order of a dict", "{'a': 1, 'b': 2}", "{'b': 2, 'a': 1}"), ("a range", "range(3)", "range(4)"),
        ("a slice", "slice(0, 2)", "slice(1, 3)"), ("a text", "'add'", "'sub'"), ("bytes", "b'a'", "b'b'")):
    trap(f"a global that is {_name}", f"""
VALUE = {_other} if os.environ.get("PROGRAM_MODE") else {_value}
def fn(x):
    if isinstance(VALUE, torch.dtype):
        return x.to(VALUE), str(x.to(VALUE).dtype)
    if callable(VALUE):
        return VALUE(x - 2)
    if isinstance(VALUE, (int, float, complex)):
        return x * VALUE, 1 / (x * VALUE), str(type(VALUE))
    if isinstance(VALUE, (tuple, list, range, dict)):
        return [x * n * k if isinstance(n, int) else n for k, n in enumerate(VALUE)], len(VALUE)
    if isinstance(VALUE, slice):
        return x[VALUE]
    return x * 2 if VALUE in (None, "add", b"a", {{1, 2}}) else x * 3
""", env={"PROGRAM_MODE": "1"})

HELPERS = """
def sine(x):
    return x.sin()
def cosine(x):
    return x.cos()
def scaled(x, by=2):
    return x * by
def make(by):
    def inner(x):
        return x * by
    return inner
double = make(2)
class Model(nn.Module):
    scale = 2
    def __init__(self):
        super().__init__()
        self.other = 3
    def act(self, x):
        return x.sin()
    def forward(self, x):
        return self.act(x) * self.scale + self.other
torch.manual_seed(0)
model = Model()
table = {"act": sine}
def fn(x):
    return sine(x) + scaled(x) + double(x) + model(x) + table["act"](x)
"""
for _name, _before in {
        "the code of a function": "program.sine.__code__ = program.cosine.__code__",
        "the defaults of a function": "program.scaled.__defaults__ = (5,)",
        "the contents of a closure": "program.double.__closure__[0].cell_contents = 7",
        "a method": "program.Model.act = lambda self, x: x.cos()",
        "a method of one object": "program.model.act = program.cosine",
        "a class attribute": "program.Model.scale = 9",
        "an attribute of one object": "program.model.scale = 9",
        "a class by a property": "program.Model.scale = property(lambda self: 9)",
        "a global": "program.sine = program.cosine",
        "an entry of a table": "program.table['act'] = program.cosine",
        "the class of an object": "program.model.__class__ = type('Other', (program.Model,), {'scale': 9})",
        "an operator of tensors": "flambeau.Tensor.__add__ = lambda self, other: self - other",
        "a method of tensors": "flambeau.Tensor.sin = lambda self: self.cos()",
        "a function of modules": "flambeau.nn.Module.__call__ = lambda self, x: x * 100",
        "attribute access": "program.Model.__getattribute__ = lambda self, name: 9 if name == 'other' else "
                            "flambeau.nn.Module.__getattribute__(self, name)"}.items():
    trap(f"{_name}, exchanged by the program", HELPERS, before=_before)


@pytest.mark.parametrize("name", TRAPS)
def test_what_has_changed_is_captured_again(name: str, server: Server, tmp_path: Path) -> None:
    case = TRAPS[name]
    files = {"program": HEAD + textwrap.dedent(case.program), **case.more}
    write(tmp_path, files)
    first = server.run(tmp_path, case.first, options=case.options)
    assert first["same"], first["shown"]
    assert "loaded" not in first["kinds"]
    second = server.run(tmp_path, case.first, options=case.options)
    assert second["same"], second["shown"]
    if case.kept:
        assert "loaded" in second["kinds"] and "graph" not in second["kinds"], (second, first["not_kept"])
    if case.edit is not None:
        assert any(case.edit[0] in text for text in files.values())
        write(tmp_path, {k: text.replace(*case.edit) for k, text in files.items()})
    third = server.run(tmp_path, case.before, options=case.options, env=case.env)
    assert third["same"], third["shown"]


# --------------------------------------------------------------------------- shapes, recompiles, breaks

def program(folder: Path, text: str) -> None:
    write(folder, {"program": HEAD + textwrap.dedent(text)})


def test_sizes_that_one_process_saw_change_are_symbols_in_the_next(server: Server, tmp_path: Path) -> None:
    program(tmp_path, """
        def fn(x):
            return (x * 2).sum() / x.shape[0]
        """)
    first = server.run(tmp_path, calls=[[3], [4], [5]])
    assert first["same"] and first["kinds"] == ["graph", "recompile", "graph"]
    second = server.run(tmp_path, calls=[[7], [9], [3]])
    assert second["same"] and second["kinds"] == ["loaded"], second
    third = server.run(tmp_path, calls=[[1]])                # a size of its own
    assert third["same"] and third["kinds"] == ["graph"]


def test_a_size_seen_elsewhere_counts_for_what_is_dynamic(server: Server, tmp_path: Path) -> None:
    program(tmp_path, """
        def fn(x):
            return x * 2
        """)
    assert server.run(tmp_path, calls=[[3]])["kinds"] == ["graph"]
    second = server.run(tmp_path, calls=[[3], [4], [5]])     # loads the first, and the next size makes it symbolic
    assert second["same"] and second["kinds"] == ["loaded", "recompile", "graph"], second
    third = server.run(tmp_path, calls=[[11], [12]])
    assert third["same"] and third["kinds"] == ["loaded"]


def test_numbers_that_change_become_arguments(server: Server, tmp_path: Path) -> None:
    program(tmp_path, """
        def fn(x, by):
            return x * by
        def args(by):
            return [torch.arange(1.0, 4.0), by]
        """)
    assert server.run(tmp_path, calls=[[0.5], [1.5], [2.5]])["same"]
    later = server.run(tmp_path, calls=[[3.5], [4.5]])
    assert later["same"] and later["kinds"] == ["loaded"], later


def test_mark_dynamic_is_not_answered_by_a_static_entry(server: Server, tmp_path: Path) -> None:
    program(tmp_path, """
        marked = False
        def fn(x):
            return x * 2
        def args(n):
            x = torch.ones(n)
            if marked:
                from flambeau.frontend.compile import mark_dynamic
                mark_dynamic(x, 0)
            return [x]
        """)
    assert server.run(tmp_path, calls=[[3]])["kinds"] == ["graph"]
    second = server.run(tmp_path, "program.marked = True", calls=[[3], [4], [5]])
    assert second["same"] and second["kinds"] == ["graph"], second
    third = server.run(tmp_path, "program.marked = True", calls=[[6], [7]])
    assert third["same"] and third["kinds"] == ["loaded"], third


def test_a_recompile_names_what_a_loaded_entry_assumed(server: Server, tmp_path: Path) -> None:
    program(tmp_path, """
        SCALE = 2
        def fn(x):
            return x * SCALE if x.dtype == torch.float32 else x
        def args(dtype="float32"):
            return [torch.ones(3, dtype=getattr(torch, dtype))]
        """)
    calls = [["float32"], ["float64"]]
    first = server.run(tmp_path, calls=calls)
    assert first["kinds"] == ["graph", "recompile", "graph"] or first["kinds"] == ["graph", "recompile"], first
    for file in (tmp_path / "cache").rglob("*.entries"):
        file.unlink()
    assert server.run(tmp_path, calls=calls[:1])["kinds"] == ["graph"]
    second = server.run(tmp_path, calls=calls)
    assert second["kinds"][:2] == ["loaded", "recompile"], second
    strip = [text.partition(" (version")[0] for text in second["texts"]]
    assert strip == [text.partition(" (version")[0] for text in first["texts"]]


@pytest.mark.parametrize("options", [{"dynamic": True}, {"dynamic": False}, {"fullgraph": True}, {"options": {"a": 1}},
                                     {"backend": "aot_eager"}])
def test_settings_have_entries_of_their_own(options: dict[str, Any], server: Server, tmp_path: Path) -> None:
    program(tmp_path, """
        def fn(x):
            return x * 2
        """)
    assert server.run(tmp_path)["kinds"] == ["graph"]
    assert server.run(tmp_path, options=options)["kinds"] == ["graph"]
    assert server.run(tmp_path, options=options)["kinds"] == ["loaded"]
    assert server.run(tmp_path)["kinds"] == ["loaded"]


def test_an_environment_of_another_kind_has_entries_of_its_own(server: Server, tmp_path: Path) -> None:
    program(tmp_path, """
        def fn(x):
            return x * 2
        """)
    assert server.run(tmp_path)["kinds"] == ["graph"]
    for env in ({"FLAMBEAU_CXX": "none"}, {"OMP_NUM_THREADS": "1"}, {"CUDA_VISIBLE_DEVICES": "3"}):
        assert server.run(tmp_path, env=env)["kinds"] == ["graph"], env
    assert server.run(tmp_path)["kinds"] == ["loaded"]


@pytest.mark.parametrize("name, value", [("sys.version", "'3.99'"),
                                         ("store.np.__version__", "'99'"), ("store.cache.cpu_identity", "lambda: 'other'"),
                                         ("store.stamp", "lambda: 'edited'")])
def test_other_versions_and_machines_share_the_folder(name: str, value: str, server: Server, tmp_path: Path) -> None:
    program(tmp_path, """
        def fn(x):
            return x * 2
        """)
    before = f"import sys\nfrom flambeau.frontend.warm import store\n{name} = {value}"
    if name == "store.stamp":
        before += "\nstore.package_stamp = store.stamp"
    assert server.run(tmp_path)["kinds"] == ["graph"]
    assert server.run(tmp_path, before)["kinds"] == ["graph"]
    assert server.run(tmp_path)["kinds"] == ["loaded"]


def test_breaks_are_kept_with_what_follows_them(server: Server, tmp_path: Path) -> None:
    program(tmp_path, """
        LOG = []
        def fn(x):
            for k in range(3):
                x = x * 2
                LOG.append(x.sum().item())
                print("", end="")
            return x, list(LOG)
        def args():
            LOG.clear()
            return [torch.ones(3)]
        """)
    first = server.run(tmp_path, calls=[[], []])
    assert first["same"], first["shown"]
    second = server.run(tmp_path, calls=[[], []])
    assert second["same"], second["shown"]
    assert set(second["kinds"]) == {"loaded"}, second


def test_changes_to_objects_are_made(server: Server, tmp_path: Path) -> None:
    program(tmp_path, """
        class State:
            def __init__(self):
                self.count, self.seen, self.by_name = 0, [], {}
        state = State()
        def fn(x):
            state.count += 1
            state.seen.append(x * state.count)
            state.by_name["last"] = x
            x.add_(1)
            return x, state.count, state.seen, state.by_name
        def args():
            state.__init__()
            return [torch.ones(3)]
        """)
    for kinds in (["graph"], ["loaded"]):
        found = server.run(tmp_path, calls=[[], []])
        assert found["same"] and found["kinds"] == kinds, found


def test_random_numbers_are_those_of_eager_code(server: Server, tmp_path: Path) -> None:
    program(tmp_path, """
        def fn(x):
            return F.dropout(x, 0.5) + torch.rand(3)
        def args():
            torch.manual_seed(5)
            return [torch.ones(3)]
        """)
    for kinds in (["graph"], ["loaded"]):
        found = server.run(tmp_path, calls=[[], []])
        assert found["same"] and found["kinds"] == kinds, found


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_gradients_of_both_orders(backend: str, server: Server, tmp_path: Path) -> None:
    program(tmp_path, """
        weight = torch.nn.Parameter(torch.arange(1.0, 4.0))
        inner = lambda x: ((weight * x).sin() * weight).sum()
        compiled = None
        def step(f, x):
            y = f(x)
            g, = torch.autograd.grad(y, [x], create_graph=True)
            h, = torch.autograd.grad(g.sum(), [weight])
            return y, g, h
        """ + f"""
        compiled = torch.compile(inner, backend={backend!r})
        def fn(x):
            return step(inner, x)
        def args():
            return [torch.ones(3).requires_grad_()]
        """)
    check = """
        import types
        from flambeau.frontend.compile import context_of
        from flambeau.frontend.warm import store
        x, = program.args()
        found, expected = program.step(program.compiled, x), program.step(program.inner, program.args()[0])
        assert all((a - b).abs().max() < 1e-5 for a, b in zip(found, expected)), (found, expected)
        kinds = [e.kind for e in context_of(program.compiled).events]
        assert kinds == [KIND], kinds
        """
    for kind in ("graph", "loaded"):
        server.run(tmp_path, textwrap.dedent(check).replace("KIND", repr(kind)))


# --------------------------------------------------------------------------- files

SIMPLE = """
    def fn(x):
        return x * 2 + 1
    """


@pytest.mark.parametrize("damage", ["empty", "short", "flipped", "no sum", "other format", "no marshal"])
def test_damaged_entries_are_dropped(damage: str, server: Server, tmp_path: Path) -> None:
    import hashlib
    import marshal
    program(tmp_path, SIMPLE)
    assert server.run(tmp_path)["kinds"] == ["graph"]
    file, = (tmp_path / "cache").rglob("*.entries")
    data = file.read_bytes()
    total = file.with_name(file.name + ".sum")
    changed = {"empty": b"", "short": data[:len(data) // 2], "flipped": data[:50] + bytes([data[50] ^ 1]) + data[51:],
               "no sum": data, "other format": marshal.dumps((99, marshal.loads(data)[1])), "no marshal": b"hello"}[damage]
    file.write_bytes(changed)
    if damage == "no sum":
        total.unlink()
    if damage in ("other format", "no marshal"):
        total.write_text(f"{len(changed)} {hashlib.sha256(changed).hexdigest()}\n")
    found = server.run(tmp_path, suppress_errors=True)
    assert found["same"] and found["kinds"] == ["graph"], found
    assert server.run(tmp_path)["kinds"] == ["loaded"]


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    program(tmp_path, SIMPLE)
    (tmp_path / "cache").write_text("a file")
    for _ in range(2):
        found = server.run(tmp_path)
        assert found["same"] and found["kinds"] == ["graph"]


def test_a_point_keeps_its_newest_entries(server: Server, tmp_path: Path) -> None:
    import marshal
    program(tmp_path, """
        SCALE = float(os.environ.get("PROGRAM_SCALE", "2"))
        def fn(x):
            return x * SCALE
        """)
    for k in range(18):
        server.run(tmp_path, env={"PROGRAM_SCALE": str(k)})
    file, = (tmp_path / "cache").rglob("*.entries")
    assert len(marshal.loads(file.read_bytes())[1]) == 16
    assert server.run(tmp_path, env={"PROGRAM_SCALE": "17"})["kinds"] == ["loaded"]
    assert server.run(tmp_path, env={"PROGRAM_SCALE": "0"})["kinds"] == ["graph"]


def test_config_and_checked_calls_switch_it_off(server: Server, tmp_path: Path) -> None:
    program(tmp_path, SIMPLE)
    off = "from flambeau.frontend.config import config\nconfig.warm_start = False"
    assert server.run(tmp_path, off)["kinds"] == ["graph"]
    assert not list(tmp_path.rglob("*.entries"))
    assert server.run(tmp_path)["kinds"] == ["graph"]
    assert server.run(tmp_path, off)["kinds"] == ["graph"]
    assert server.run(tmp_path)["kinds"] == ["loaded"]


def test_explain_traces_for_itself(server: Server, tmp_path: Path) -> None:
    program(tmp_path, SIMPLE)
    assert server.run(tmp_path)["kinds"] == ["graph"]
    server.run(tmp_path, """
        from flambeau.frontend.explain import explain
        compiled = flambeau.compile(program.fn, backend="eager")
        compiled(*program.args())
        found = explain(compiled)(*program.args())
        assert found.graph_count == 1 and "ops.mul" in str(found), str(found)
        assert len(found.loaded) == 1 and "fn: loaded from cache" in str(found), str(found)
        """)


# --------------------------------------------------------------------------- real processes, real libraries

MODEL = """
    import json, sys, time
    import flambeau
    from flambeau import nn

    flambeau.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    x = flambeau.randn(5, 8)
    began = time.process_time()
    compiled = flambeau.compile(model)
    if "train" in sys.argv:
        compiled(x).square().sum().backward()
        found = [p.grad for p in model.parameters()]
    else:
        with flambeau.no_grad():
            found = [compiled(x)]
    seconds = time.process_time() - began
    loaded = sorted(sys.modules)
    if "train" in sys.argv:
        model.zero_grad(set_to_none=True)
        model(x).square().sum().backward()
        expected = [p.grad for p in model.parameters()]
    else:
        with flambeau.no_grad():
            expected = [model(x)]
    same = all((a - b).abs().max().item() < 1e-5 for a, b in zip(found, expected))
    from flambeau.frontend.compile import context_of
    print(json.dumps([same, [e.kind for e in context_of(compiled).events], loaded, seconds]))
    """


def in_python(folder: Path, text: str, *arguments: str, **env: str) -> Any:
    file = folder / "main.py"
    file.write_text(textwrap.dedent(text))
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    answer = subprocess.run([sys.executable, str(file), *arguments], capture_output=True, text=True, timeout=120,
                            env={**kept, "FLAMBEAU_WARM": "1", **env})
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("how", ["infer", "train"])
def test_a_second_process_imports_neither_tracer_nor_compiler(how: str, tmp_path: Path) -> None:
    env = {"FLAMBEAU_CACHE_DIR": str(tmp_path / "cache"), "PYTHONHASHSEED": "1"}
    first = in_python(tmp_path, MODEL, how, **env)
    assert first[:2] == [True, ["graph"]]
    second = in_python(tmp_path, MODEL, how, **{**env, "PYTHONHASHSEED": "2"})
    assert second[:2] == [True, ["loaded"]]
    heavy = [name for name in second[2] if name.split(".")[0] in ("sympy", "networkx", "mpmath")
             or name.startswith(("flambeau.passes", "flambeau.codegen", "flambeau.frontend.aot", "flambeau.frontend.targets"))
             or name.startswith("flambeau.frontend.trace.")]
    assert set(heavy) <= {"flambeau.codegen", "flambeau.codegen.cache", *(f"flambeau.frontend.trace.{light}" for light in (
        "breaks", "codes", "decode", "inert", "resume", "source", "writer"))}, heavy
    assert second[3] < first[3] / 4


@pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
def test_a_backward_that_no_process_has_run(tmp_path: Path) -> None:
    env = {"FLAMBEAU_CACHE_DIR": str(tmp_path / "cache")}
    forward_only = MODEL.replace('if "train" in sys.argv:\n        compiled', 'if "never" in sys.argv:\n        compiled') \
        .replace("with flambeau.no_grad():\n            found", "if True:\n            found") \
        .replace('if "train" in sys.argv:\n        model', 'if "never" in sys.argv:\n        model')
    assert in_python(tmp_path, forward_only, **env)[:2] == [True, ["graph"]]
    second = in_python(tmp_path, MODEL, "train", **env)
    assert second[:2] == [True, ["loaded"]] and "flambeau.passes.pipeline" in second[2]
    third = in_python(tmp_path, MODEL, "train", **env)
    assert third[:2] == [True, ["loaded"]] and "flambeau.passes.pipeline" not in third[2]
    for library in (tmp_path / "cache").rglob("*.so"):
        library.write_bytes(b"damaged")
    fourth = in_python(tmp_path, MODEL, "train", **env)
    assert fourth[0]


@pytest.mark.slow
@pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("how", ["infer", "train"])
def test_the_first_call_takes_sixty_milliseconds(how: str, tmp_path: Path) -> None:
    """The smallest CPU time of several processes, `compile()` with its imports included: the machine may be busy."""
    env = {"FLAMBEAU_CACHE_DIR": str(tmp_path / "cache")}
    in_python(tmp_path, MODEL, how, **env)
    assert min(in_python(tmp_path, MODEL, how, **env)[3] for _ in range(5)) < 0.06


@pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
def test_processes_that_start_together(tmp_path: Path) -> None:
    env = {**os.environ, "FLAMBEAU_CACHE_DIR": str(tmp_path / "cache"), "FLAMBEAU_WARM": "1"}
    file = tmp_path / "main.py"
    file.write_text(textwrap.dedent(MODEL))
    for _ in range(2):
        both = [subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, text=True, env=env) for _ in range(2)]
        for process in both:
            same, kinds, *_ = json.loads(process.communicate(timeout=120)[0])
            assert same and kinds in (["graph"], ["loaded"])
    assert kinds == ["loaded"]


def test_sets_have_another_order_in_each_process(tmp_path: Path) -> None:
    text = """
        import json
        import flambeau
        from flambeau.frontend.compile import context_of
        NAMES = {"sin", "cos", "tan", "exp"}
        def outside(x):
            for name in NAMES:
                x = getattr(x, name)()
            return x
        def inside(x):
            for name in {"sin", "cos", "tan", "exp"}:
                x = getattr(x, name)()
            return x
        def keys(x):
            found = {}
            for name in frozenset(("sin", "cos", "tan", "exp")):
                found[name] = getattr(x, name)()
            return list(found.values())
        x = flambeau.ones(2)
        print(json.dumps([str(flambeau.compile(f, backend="eager")(x)) == str(f(x)) for f in (outside, inside, keys)]))
        """
    for seed in ("1", "2", "3"):
        assert in_python(tmp_path, text, FLAMBEAU_CACHE_DIR=str(tmp_path / "cache"), PYTHONHASHSEED=seed) == [True] * 3

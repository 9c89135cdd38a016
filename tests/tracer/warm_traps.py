"""Programs that change between two processes: what a careless warm start would miss. `test_warm` runs them."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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

"""Classes of the user: attributes, properties, descriptors, special methods, inheritance, dataclasses, enums."""

import abc
import dataclasses
import enum
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from ..given import F, nn, program, rand, torch

X = rand(4, 3)
T = TypeVar("T")


class Running:
    decay = 0.9

    def __init__(self):
        self.mean, self.steps = 0.0, 0

    def update(self, x):
        self.steps += 1
        self.mean = self.mean * self.decay + x.mean() * (1 - self.decay)
        return x - self.mean


RUNNING = Running()


@program((X,), (X,), (X,), watch=lambda: RUNNING)
def attributes_of_an_outside_object(x):
    return RUNNING.update(x)


@program((X,), (X,))
def object_made_and_returned(x):
    r = Running()
    y = r.update(x)
    r.extra = y
    return y, r, r.decay is Running.decay


class Box:
    def __init__(self, value):
        self._value = value

    @property
    def value(self):
        return self._value * 2

    @value.setter
    def value(self, new):
        self._value = new + 1

    @value.deleter
    def value(self):
        self._value = None

    @property
    def broken(self):
        return self.nothing


@program((X, Box(X)), (X, Box(X)))
def properties(x, box):
    y = box.value
    box.value = x
    own = Box(y)
    del own.value
    return y + box.value, own._value, hasattr(box, "broken"), getattr(box, "missing", "default")


class Positive:
    def __set_name__(self, owner, name):
        self.name = "_" + name

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        return getattr(instance, self.name, 1)

    def __set__(self, instance, value):
        if value <= 0:
            raise ValueError(f"{self.name} must be positive")
        setattr(instance, self.name, value)


class Lazy:
    def __init__(self, fn):
        self.fn = fn

    def __get__(self, instance, owner):
        return self.fn(instance) if instance is not None else owner


class Validated:
    width = Positive()
    lazy = Lazy(lambda self: self.width * 10)


@program((X,), (X,))
def descriptors(x):
    v = Validated()
    before = v.width
    v.width = 3
    try:
        v.width = -1
    except ValueError as error:
        text = str(error)
    return x * v.width + before, text, v.lazy, Validated.lazy is Validated, type(Validated.width).__name__


class Proxy:
    def __init__(self, target):
        object.__setattr__(self, "_target", target)

    def __getattr__(self, name):
        return getattr(object.__getattribute__(self, "_target"), name)

    def __setattr__(self, name, value):
        setattr(self._target, name, value)

    def __delattr__(self, name):
        delattr(self._target, name)


@program((X,), (X,))
def attribute_hooks(x):
    running = Running()
    proxy = Proxy(running)
    y = proxy.update(x)
    proxy.steps = 7
    proxy.more = 1
    del proxy.more
    return y, running.steps, hasattr(proxy, "more"), proxy.decay


class Tracked:
    def __init__(self):
        self.log = []

    def __getattribute__(self, name):
        if name != "log":
            object.__getattribute__(self, "log").append(name)
        return super().__getattribute__(name)

    def work(self, x):
        return x + 1


@program((X,), (X,))
def getattribute_override(x):
    t = Tracked()
    return t.work(t.work(x)), t.log


class Vec:
    __slots__ = ("x", "y")

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __add__(self, other):
        if not isinstance(other, Vec):
            return NotImplemented
        return Vec(self.x + other.x, self.y + other.y)

    def __mul__(self, k):
        return Vec(self.x * k, self.y * k)

    __rmul__ = __mul__

    def __iadd__(self, other):
        self.x = self.x + other.x
        return self

    def __neg__(self):
        return Vec(-self.x, -self.y)

    def __matmul__(self, other):
        return self.x * other.x + self.y * other.y

    def __eq__(self, other):
        return isinstance(other, Vec) and self.y == other.y

    def __hash__(self):
        return hash(self.y)

    def __bool__(self):
        return self.y != 0

    def __len__(self):
        return 2

    def __abs__(self):
        return abs(self.y)

    def __lt__(self, other):
        return self.y < other.y

    def __float__(self):
        return float(self.y)

    def __int__(self):
        return int(self.y)

    def __index__(self):
        return int(self.y)

    def __divmod__(self, k):
        return divmod(self.y, k)

    def __invert__(self):
        return Vec(self.y, self.x)

    def __repr__(self):
        return f"Vec({self.y})"


@program((X,), (X,))
def arithmetic_methods(x):
    a, b = Vec(x, 1), Vec(x * 2, 2)
    c = 3 * (a + b) + -a
    c += b
    return c.x, c.y, a @ b, len(c), bool(Vec(x, 0)), repr(c), abs(-c), (~c).x


@program((X,), (X,))
def comparison_methods(x):
    a, b = Vec(x, 1), Vec(x, 2)
    ordered = [v.y for v in sorted([b, a])]
    same = Vec(x, 1) == a, a != b, a < b, a > b, b in [a, b], [a, b].index(b)
    return x * float(b), ordered, same, int(b), [10, 20, 30][b], divmod(b, 2)


@program((X,), (X,))
def unsupported_operands(x):
    problems = []
    for fn in (lambda: Vec(x, 1) + 3, lambda: Vec(x, 1) - Vec(x, 1), lambda: Vec(x, 1) >= 3, lambda: Vec(x, 1).z,
               lambda: Vec(x, 1)[0]):
        try:
            fn()
        except (TypeError, AttributeError) as error:
            problems.append(type(error).__name__)
    return x + len(problems), problems


@program((X, Vec(X, 2)), (X, Vec(X, 2)))
def slots_of_an_argument(x, v):
    v.x = v.x + x
    v.y += 1
    return v.x * v.y


class Table:
    def __init__(self, rows):
        self.rows = list(rows)

    def __getitem__(self, key):
        if isinstance(key, slice):
            return Table(self.rows[key])
        if isinstance(key, tuple):
            return self.rows[key[0]][key[1]]
        return self.rows[key]

    def __setitem__(self, key, value):
        self.rows[key] = value

    def __delitem__(self, key):
        del self.rows[key]

    def __contains__(self, item):
        return any(item is r for r in self.rows)

    def __len__(self):
        return len(self.rows)

    def __iter__(self):
        return iter(self.rows)

    def __reversed__(self):
        return (r * 10 for r in self.rows[::-1])

    def __call__(self, x, *, scale=1):
        return x * len(self) * scale


@program((X,), (X,))
def container_methods(x):
    t = Table(x.unbind(0))
    t[0] = t[1] + t[2, 0]
    del t[3]
    part = t[1:]
    return t(x, scale=2), len(part), t.rows[0] in t, sum(t), next(iter(reversed(t))), bool(Table([])), [*part]


class Countdown:
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return self

    def __next__(self):
        if self.n == 0:
            raise StopIteration
        self.n -= 1
        return self.n


class OldSequence:
    def __getitem__(self, k):
        if k > 2:
            raise IndexError(k)
        return k * k


@program((X,), (X,))
def iterators_of_the_user(x):
    for k in Countdown(3):
        x = x + k
    a, *rest = Countdown(4)
    return x, a, rest, list(OldSequence()), 4 in OldSequence(), sum(Countdown(3)), dict(enumerate(Countdown(2)))


class Base(nn.Module):
    registry = {}

    def __init_subclass__(cls, key=None, **kwargs):
        super().__init_subclass__(**kwargs)
        Base.registry[key or cls.__name__] = cls

    def __init__(self, width):
        super().__init__()
        self.width = width

    def forward(self, x):
        return x + self.width

    @classmethod
    def build(cls, *args):
        return cls(*args)

    @staticmethod
    def helper(x):
        return x * 2

    def extra(self):
        return "base"


class Wide(Base, key="wide"):
    def forward(self, x):
        return self.helper(super().forward(x))

    def extra(self):
        return "wide of " + super().extra()


WIDE = Base.registry["wide"].build(3)


@program((X,), (X,))
def inheritance_and_super(x):
    return WIDE(x), WIDE.extra(), isinstance(WIDE, Base), issubclass(Wide, nn.Module), sorted(Base.registry)


class A:
    def go(self, path):
        return path + ["A"]


class B(A):
    def go(self, path):
        return super().go(path + ["B"])


class C(A):
    def go(self, path):
        return super(C, self).go(path + ["C"])


class D(B, C):
    def go(self, path):
        return B.go(self, path + ["D"])


@program((X,), (X,))
def method_resolution_order(x):
    return x + len(D.__mro__), D().go([]), [c.__name__ for c in D.__mro__], D.__bases__ == (B, C), type(D()) is D


class Shape(abc.ABC):
    def __init__(self, size):
        self.size = size

    @abc.abstractmethod
    def area(self): ...

    @property
    @abc.abstractmethod
    def sides(self): ...

    def double(self):
        return self.area() * 2


class Square(Shape):
    sides = 4

    def area(self):
        return self.size ** 2


@program((X,), (X,))
def abstract_classes(x):
    s = Square(3)
    try:
        Shape(1)
        failed = False
    except TypeError:
        failed = True
    return x * s.double(), s.sides, failed, isinstance(s, Shape)


@runtime_checkable
class Sized(Protocol):
    def size_of(self) -> int: ...


class Holder(Generic[T]):
    def __init__(self, item: T) -> None:
        self.item = item

    def size_of(self) -> int:
        return len(self.item)

    def get(self) -> T:
        return self.item


@program((X,), (X,))
def protocols_and_generics(x):
    h = Holder[Any]([x, x + 1])
    return h.get()[1], h.size_of(), isinstance(h, Holder)


class Singleton(type):
    instances: dict = {}

    def __call__(cls, *args):
        if cls not in Singleton.instances:
            Singleton.instances[cls] = super().__call__(*args)
        return Singleton.instances[cls]

    def __len__(cls):
        return len(Singleton.instances)

    @property
    def label(cls):
        return cls.__name__.lower()


class Registry(metaclass=Singleton):
    def __init__(self):
        self.items = {}


Registry().items["k"] = 2


@program((X,), (X,))
def metaclass(x):
    return x * Registry().items["k"], Registry() is Registry(), len(Registry), Registry.label


@dataclass
class Config:
    width: int = 3
    act: str = "relu"
    layers: list = field(default_factory=list)
    name: str = field(default="net", repr=False)

    def __post_init__(self):
        self.total = self.width * 2

    @property
    def fn(self):
        return getattr(F, self.act)


@program((X, Config()), (X, Config()), (X, Config(act="gelu")))
def dataclass_argument(x, config):
    config.layers.append(x.shape[0])
    return config.fn(x) * config.total


@program((X,), (X,))
def dataclass_made_inside(x):
    c = Config(width=x.shape[1], layers=[x])
    d = dataclasses.replace(c, act="tanh")
    return d.fn(x) * d.total, c == d, c == Config(3, layers=c.layers), [f.name for f in dataclasses.fields(c)], c


@dataclass(frozen=True, order=True)
class Key:
    dim: int
    name: str = ""


@program((X,), (X,))
def frozen_dataclass(x):
    a, b = Key(1, "a"), Key(0)
    table = {a: 5}
    try:
        a.dim = 3
    except dataclasses.FrozenInstanceError:
        pass
    return x.sum(a.dim) * table[Key(1, "a")], a > b, sorted([a, b])[0].dim, a == Key(1, "a"), dataclasses.astuple(b)


@dataclass
class Out:
    logits: Any = None
    hidden: Any = None

    def to_tuple(self):
        return tuple(getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) is not None)

    def __getitem__(self, k):
        return self.to_tuple()[k]


@program((X,), (X,))
def dataclass_output(x):
    out = Out(logits=x @ x.t())
    return out, out[0] is out.logits, len(out.to_tuple()), dataclasses.asdict(Out(1, {"a": [2]}))


class Mode(enum.Enum):
    TRAIN = "train"
    EVAL = "eval"

    @property
    def scale(self):
        return 2 if self is Mode.TRAIN else 3


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Flags(enum.Flag):
    BIAS = enum.auto()
    NORM = enum.auto()


@program((X, Mode.TRAIN), (X, Mode.EVAL), (X, Mode.TRAIN))
def enum_argument(x, mode):
    x = x * mode.scale
    return (x.relu() if mode == Mode.TRAIN else x), mode.name, Mode("eval") is Mode.EVAL, [m.value for m in Mode]


@program((X,), (X,))
def int_enums_and_flags(x):
    both = Flags.BIAS | Flags.NORM
    table = {Level.LOW: "low", Level.HIGH: "high"}
    return x * Level.HIGH + 1, Level(1).name, Flags.NORM in both, Level.LOW < Level.HIGH, table[Level.HIGH], len(Mode), \
        Mode["TRAIN"].value


@program((X,), (X,))
def classes_and_types_as_values(x):
    kinds = [type(v) for v in (1, "a", None, x, [], Vec)]
    cls = {"vec": Vec, "run": Running}["vec"]
    v = cls(x, 4)
    checks = isinstance(v, (int, Vec)), isinstance(1, int | str), type(v) is cls, v.__class__.__name__, callable(cls)
    return v.x * v.y, [k.__name__ for k in kinds], checks, issubclass(bool, int)


@program((X,), (X,))
def getattr_setattr_delattr(x):
    r = Running()
    for name in ("alpha", "beta"):
        setattr(r, name, len(name))
    delattr(r, "beta")
    method = getattr(r, "up" + "date")
    names = sorted(vars(r))
    r.__dict__["gamma"] = 3
    return method(x), names, r.gamma, r.__dict__.get("beta"), getattr(r, "beta", None), "steps" in r.__dict__


@program((X,), (X,))
def class_defined_inside(x):
    class Local:
        factor = 3

        def __init__(self, v):
            self.v = v

        def run(self):
            return self.v * self.factor
    return Local(x).run()


class Meter:
    total = 0

    def add(self, n):
        Meter.total += n
        return Meter.total


@program((X,), (X,), watch=lambda: Meter.total)
def class_attribute_is_stored(x):
    return x * Meter().add(2)


class Dict(dict):
    """A dict with attributes, as many config libraries have."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error

    def __setattr__(self, name, value):
        self[name] = value


@program((X, Dict(scale=2, act="relu")), (X, Dict(scale=2, act="relu")))
def dict_subclass_argument(x, config):
    config.seen = x.shape[0]
    return getattr(F, config.act)(x) * config["scale"], config.get("bias"), hasattr(config, "bias"), len(config)


class Scores(list):
    def best(self):
        return max(self)


@program((X, Scores([1, 3, 2])), (X, Scores([1, 3, 2])))
def list_subclass_argument(x, scores):
    scores.append(5)
    return x * scores.best(), scores[0], len(scores)


class ModelOutput(dict):
    def __init__(self, **fields):
        super().__init__({k: v for k, v in fields.items() if v is not None})

    def to_tuple(self):
        return tuple(self.values())

    def __getattr__(self, name):
        if name in self:
            return self[name]
        raise AttributeError(name)


@program((X,), (X,))
def dict_subclass_made_inside(x):
    out = ModelOutput(logits=x * 2, loss=None)
    return out, out.logits, out.to_tuple()[0], list(out.keys()), getattr(out, "loss", None)


class Scalar(float):
    def double(self):
        return self * 2


class Name(str):
    pass


@program((X, Scalar(1.5), Name("relu")), (X, Scalar(1.5), Name("relu")))
def subclasses_of_plain_types(x, scale, name):
    return getattr(F, name)(x) * scale, scale.double(), name.upper()


class WithNew:
    def __new__(cls, value):
        made = super().__new__(cls)
        made.early = value
        return made

    def __init__(self, value):
        self.late = value * 2


@program((X,), (X,))
def construction_in_two_steps(x):
    w = WithNew(x)
    return w.early + w.late


class Chain:
    def __init__(self):
        self.ops = []

    def then(self, fn, *args):
        self.ops.append((fn, args))
        return self

    def __call__(self, x):
        for fn, args in self.ops:
            x = fn(x, *args)
        return x


@program((X,), (X,))
def fluent_interface(x):
    return Chain().then(torch.add, 1).then(torch.mul, 2).then(lambda v: v.sum(-1))(x)


class Node:
    def __init__(self, value, parent=None):
        self.value, self.parent, self.children = value, parent, []
        if parent is not None:
            parent.children.append(self)


@program((X,), (X,))
def cyclic_objects(x):
    root = Node(x)
    leaf = Node(x * 2, root)
    assert leaf.parent.children[0] is leaf
    return root, leaf.value + leaf.parent.value

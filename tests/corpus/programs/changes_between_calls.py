"""What a program read the last time is different the next time."""

import collections
import copy
import functools
import operator
import types
from dataclasses import dataclass, field

from ..given import F, call, nn, program, rand, torch

X = rand(4, 3)


class Settings(dict):
    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


SETTINGS = Settings(scale=2, bias=1)


@program((X,), lambda: SETTINGS.update(scale=3), (X,), lambda: SETTINGS.pop("bias"), (X,), lambda: SETTINGS.update(scale=2), (X,))
def settings_of_a_dict_subclass(x):
    x = x * SETTINGS.scale
    if "bias" in SETTINGS:
        x = x + SETTINGS["bias"]
    return x, len(SETTINGS)


class Counts(list):
    total = property(lambda self: sum(self))


COUNTS = Counts([1, 2])


@program((X,), lambda: COUNTS.append(3), (X,), lambda: COUNTS.__setitem__(0, 9), (X,), watch=lambda: list(COUNTS))
def list_subclass_from_outside(x):
    COUNTS.append(len(COUNTS))
    return x * COUNTS.total


def activation(x):
    return activation.fn(x) * activation.calls


activation.fn = F.relu
activation.calls = 1


@program((X,), lambda: setattr(activation, "fn", F.gelu), (X,), (X,), watch=lambda: activation.calls)
def function_with_attributes(x):
    y = activation(x)
    activation.calls += 1
    return y


class Layer:
    scale = 2
    registry = []

    def __call__(self, x):
        return x * self.scale


class Fast(Layer):
    pass


LAYERS = [Layer(), Fast()]


@program((X,), lambda: setattr(Layer, "scale", 3), (X,), lambda: setattr(Fast, "scale", 5), (X,),
         lambda: setattr(LAYERS[0], "scale", 7), (X,), lambda: delattr(Fast, "scale"), (X,))
def attribute_found_in_other_places(x):
    for layer in LAYERS:
        x = layer(x)
    return x


@program((X,), (X,), watch=lambda: (Layer.registry, Fast.scale, Layer.__dict__["scale"]))
def subclass_attribute_is_stored(x):
    before = Fast.scale
    Fast.scale = before + 1
    Fast.registry.append(Fast.scale)
    return x * Fast().scale + Layer.scale


@functools.singledispatch
def size_of(v):
    return 1


@size_of.register
def _(v: list):
    return len(v)


@program((X, (1, 2)), lambda: size_of.register(tuple, lambda v: 10 * len(v)), (X, (1, 2)), (X, [1]), (X, 3))
def dispatch_learns_a_type(x, v):
    return x * size_of(v)


FACTOR = 2


@functools.lru_cache
def table(n):
    return [FACTOR * k for k in range(n)]


def set_factor(v):
    global FACTOR
    FACTOR = v


@program((X,), lambda: set_factor(3), (X,), lambda: table.cache_clear(), (X,), watch=lambda: table(3))
def cached_table(x):
    rows = table(3)
    rows.append(1)
    return x * sum(rows), table(3) is rows


@functools.cache
def mask(n):
    return torch.ones(n, n).tril()


@program((X,), (X,), lambda: mask.cache_clear(), (X,))
def cached_tensor(x):
    m = mask(x.shape[0])
    return m @ x, m is mask(4)


@program((X, collections.deque([1, 2], maxlen=2)), (X, collections.deque([1, 2], maxlen=3)), (X, collections.deque([1, 2])))
def deques_of_other_lengths(x, q):
    q.append(3)
    q.rotate(-1)
    return x * q[0], len(q), q.maxlen


class Key:
    def __init__(self, name):
        self.name = name

    def __hash__(self):
        return len(self.name)

    def __eq__(self, other):
        return self.name == other.name


WEIGHTS = {Key("a"): 2, Key("bb"): 3}
ONE = Key("a")


@program((X,), lambda: setattr(ONE, "name", "bb"), (X,), lambda: WEIGHTS.__setitem__(Key("bb"), 7), (X,),
         lambda: setattr(ONE, "name", "zz"), (X,), watch=lambda: sorted((k.name, v) for k, v in WEIGHTS.items()))
def keys_that_change(x):
    w = WEIGHTS.get(ONE, 0)
    WEIGHTS[Key("new")] = w
    return x * w, len(WEIGHTS)


TEMPLATE = {"steps": [1, 2], "opts": {"k": X}, "self": None}
TEMPLATE["self"] = TEMPLATE["steps"]


@program((X,), lambda: TEMPLATE["steps"].append(3), (X,), watch=lambda: TEMPLATE)
def copies_of_an_outside_template(x):
    own = copy.deepcopy(TEMPLATE)
    shallow = copy.copy(TEMPLATE)
    own["steps"].append(9)
    shallow["extra"] = 1
    return x * len(own["self"]), own["self"] is own["steps"], own["opts"]["k"] is X, shallow["steps"] is TEMPLATE["steps"], own


@program((X, operator.itemgetter(0)), (X, operator.itemgetter(1)), (X, operator.attrgetter("T")),
         (X, operator.methodcaller("sum", dim=0)))
def getters_as_arguments(x, get):
    return get(x) * 2, type(get).__name__


@program((X, functools.partial(F.leaky_relu, negative_slope=0.1)), (X, functools.partial(F.leaky_relu, negative_slope=0.2)),
         (X, F.relu), (X, nn.ReLU()), (X, lambda v: v + 1))
def callables_of_all_kinds(x, fn):
    return fn(x), callable(fn)


@dataclass
class Plan:
    sizes: list = field(default_factory=lambda: [1, 2])
    notes: dict = field(default_factory=dict)
    act: object = None


PLAN = Plan()


@program((X,), lambda: PLAN.sizes.append(5), (X,), lambda: setattr(PLAN, "act", torch.tanh), (X,),
         lambda: PLAN.notes.clear(), (X,), watch=lambda: PLAN)
def plan_that_is_changed_on_both_sides(x):
    if PLAN.act is not None:
        x = PLAN.act(x)
    PLAN.notes[len(PLAN.notes)] = x.shape[0]
    PLAN.sizes[0] += 1
    return x * sum(PLAN.sizes)


STATE = types.SimpleNamespace(step=0, log=[])


@program((X,), (X,), lambda: setattr(STATE, "extra", 1), (X,), lambda: delattr(STATE, "extra"), (X,), watch=lambda: vars(STATE))
def namespace_state(x):
    STATE.step += 1
    STATE.log = [*STATE.log, STATE.step]
    return x + getattr(STATE, "extra", 10) + len(vars(STATE))


HOOKS = []


@program((X,), lambda: HOOKS.append(torch.relu), (X,), lambda: HOOKS.append(lambda v: v * 2), (X,), lambda: HOOKS.reverse(), (X,),
         lambda: HOOKS.clear(), (X,))
def list_of_functions_grows(x):
    for hook in HOOKS:
        x = hook(x)
    return x + len(HOOKS)


class Gate:
    def __init__(self, open):
        self.open = open

    def __bool__(self):
        return self.open


GATE = Gate(True)


def swap_truth():
    Gate.__bool__ = lambda self: not self.open


@program((X,), lambda: setattr(GATE, "open", False), (X,), swap_truth, (X,))
def truth_of_an_object(x):
    return x * 2 if GATE else x - 1


@program(call(X, a=1, b=2), call(X, b=2, a=1), call(X, a=1), call(X))
def order_of_keywords(x, **kwargs):
    x = x + len(kwargs)
    for k, v in kwargs.items():
        x = x * v if k == "b" else x + v
    return x, list(kwargs)


ORDER = collections.OrderedDict(a=1, b=2)


@program((X,), lambda: ORDER.move_to_end("a"), (X,), lambda: setattr(ORDER, "label", "named"), (X,))
def ordered_dict_is_reordered(x):
    for k, v in ORDER.items():
        x = x * v if k == "a" else x + v
    return x, getattr(ORDER, "label", None), next(iter(ORDER))


CELL = [0]


def make_reader():
    value = 1

    def read():
        return value

    def write(v):
        nonlocal value
        value = v
    return read, write


READ, WRITE = make_reader()


@program((X,), lambda: WRITE(5), (X,), (X,), watch=READ)
def cell_shared_by_two_functions(x):
    before = READ()
    WRITE(before + 1)
    return x * READ() + before


ALIASES = {"a": CELL, "b": CELL}


@program((X,), lambda: ALIASES.__setitem__("b", [5]), (X,), lambda: ALIASES.__setitem__("a", ALIASES["b"]), (X,),
         watch=lambda: ALIASES)
def aliases_come_apart(x):
    ALIASES["a"].append(1)
    return x * len(ALIASES["b"]), ALIASES["a"] is ALIASES["b"]


class Version:
    def __eq__(self, other):
        return True

    __hash__ = None


@program((X, Version()), (X, None), (X, 0), (X, Version()))
def equal_to_everything(x, v):
    return x + 1 if v == None else x * 2, v is None, bool(v)  # noqa: E711


@program((X, 1), (X, True), (X, 1.0), (X, 1))
def equal_numbers_of_other_types(x, n):
    table = {1: "one"}
    return x * n, table[n], type(n).__name__, str(n), isinstance(n, bool), n is True


@program((X, (1, 2)), (X, [1, 2]), (X, torch.Size((1, 2))), (X, range(1, 3)), (X, {1: 0, 2: 0}))
def equal_items_of_other_containers(x, dims):
    a, b = dims
    return x * a + b, type(dims).__name__, list(dims), dims == (1, 2)


@program((X, {0, 8}), (X, {8, 0}), (X, {"b", "a"}), (X, {16, 0, 8}))
def order_of_a_set(x, s):
    for v in s:
        x = x * 2 + (v if isinstance(v, int) else ord(v))
    return x, list(s)


@program((X, {0, 8, 3}), (X, {8, 0, 3}))
def order_of_a_set_that_changes(x, s):
    s.add(5)
    s.discard(3)
    for v in {2, 1} | {7}:
        x = x * v
    return x, list(s), [k for k in {40, 8, 0, 16}], max(s)

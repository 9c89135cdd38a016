"""Faults of the tracer: instructions, guards, effects, and what runs around the graph."""
import re

from faults.harness import fault, kind, leaf, no_guard, square, two, values, wrapped

import flambeau
from flambeau.frontend.trace import effects, guards, interp, mappings, shapes
from flambeau.frontend.trace.instructions import HANDLERS
from flambeau.frontend.trace.values import Const, TensorValue
from flambeau.ir.tracing import GraphBuilder


class Box:
    def __init__(self, k=2):
        self.k, self.items = k, []


class Layer(flambeau.nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = flambeau.nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(x) * 2


# --------------------------------------------------------------------------- instructions

@fault("sub", stage="capture", backend="eager")
def subtraction_is_reversed(patch):
    """The operands of `-` are taken from the stack in the wrong order."""
    def binary(original, tr, op, a, b):
        return original(tr, op, b, a) if op == "-" else original(tr, op, a, b)
    wrapped(patch, interp.arithmetic, "binary", binary)
    return lambda x, y: (x * 2 - y) + 1, [two]


@fault("mul", stage="capture", backend="eager")
def comparison_is_turned_around(patch):
    """`<` on numbers is traced as `>=`, so the other branch is captured."""
    wrapped(patch, interp.arithmetic, "compare", lambda compare, tr, op, a, b: compare(tr, {"<": ">="}.get(op, op), a, b))

    def f(x, k):
        if k < 3:
            return x * 2
        return x + 2
    return f, [lambda: (values(3), 1)]


@fault("neg", stage="capture", backend="eager")
def negation_is_lost(patch):
    """A unary minus is left out."""
    original = HANDLERS["UNARY"]

    def unary(tr, f, ins):
        if ins.arg != "-":
            original(tr, f, ins)
    patch.setitem(HANDLERS, "UNARY", unary)
    return lambda x: -(x * 2) + 1, [square]


@fault("sum", stage="capture", backend="eager")
def method_is_another(patch):
    """A method call is traced as another method."""
    wrapped(patch, TensorValue, "method", lambda method, self, tr, name, args, kwargs: method(
        self, tr, "mean" if name == "sum" else name, args, kwargs))
    return lambda x: (x * 2).sum(1), [square]


@fault("sum", "amax", stage="capture", backend="eager")
def keyword_argument_is_lost(patch):
    """Keyword arguments of a method are forgotten."""
    wrapped(patch, TensorValue, "method", lambda method, self, tr, name, args, kwargs: method(self, tr, name, args, {}))
    return lambda x: x / (x * x).sum(1, keepdim=True), [square]


@fault("add", stage="capture", backend="eager")
def python_arithmetic_is_off(patch):
    """Python numbers are folded wrongly."""
    def binary(original, tr, op, a, b):
        found = original(tr, op, a, b)
        return Const(found.value + 1) if op == "+" and type(found) is Const and type(found.value) is int else found
    wrapped(patch, interp.arithmetic, "binary", binary)
    return lambda x, k: (x * 2) + (k + 4), [lambda: (values(3), 3)]


@fault("mul", "exp", stage="capture", backend="eager")
def no_grad_is_ignored(patch):
    """Ops under no_grad are recorded as if they were outside."""
    original = GraphBuilder.__call__

    def call(self, op, args):
        self.grad_enabled = True
        return original(self, op, args)
    patch.setattr(GraphBuilder, "__call__", call)

    def f(x):
        with flambeau.no_grad():
            y = x.exp()
        return y * x
    return f, [leaf]


@fault("add", "mul", stage="capture", backend="eager")
def loop_runs_once_less(patch):
    """`range` is one short."""
    original = HANDLERS["FOR_ITER"]
    seen = []

    def for_iter(tr, f, ins):
        seen.append(tr)
        if seen.count(tr) == 2:
            original(tr, f, ins)
            f.pop()
        return original(tr, f, ins)
    patch.setitem(HANDLERS, "FOR_ITER", for_iter)

    def f(x):
        for k in range(4):
            x = x * 2 + k
        return x
    return f, [square]


# --------------------------------------------------------------------------- effects

@fault("append", stage="write-back", backend="eager")
def appended_items_are_lost(patch):
    """Changes of lists are not made real."""
    patch.setattr(effects.Rebuilder, "_replay_list", lambda self, value, target: [])

    def f(x, items):
        items.append(x.shape[0])
        return x + 1
    return f, [lambda: (values(3), [])]


@fault("append", "extend", stage="write-back", backend="eager")
def appended_items_are_reversed(patch):
    """New items of a list come in the wrong order."""
    wrapped(patch, effects.Rebuilder, "_replay_list", lambda replay, self, value, target: [
        re.sub(r"extend\(\[(.*), (.*)\]\)", r"extend([\2, \1])", line) for line in replay(self, value, target)])

    def f(x, items):
        items.append("a")
        items.append("b")
        return x + 1
    return f, [lambda: (values(3), [])]


@fault("[]", "a", "['a']", stage="write-back", backend="eager")
def stored_keys_are_lost(patch):
    """Changes of dicts are not made real."""
    patch.setattr(effects.Rebuilder, "_replay_dict", lambda self, value, target: [])

    def f(x, table):
        table["a"] = x * 2
        return x + 1
    return f, [lambda: (values(3), {})]


@fault("add", stage="write-back", backend="eager")
def added_elements_are_lost(patch):
    """Changes of sets are not made real."""
    original = effects.Rebuilder._replay
    patch.setattr(effects.Rebuilder, "_replay", lambda self, value, target: [] if isinstance(value, mappings.SetValue)
                  else original(self, value, target))

    def f(x, seen):
        seen.add(x.shape[0])
        return x + 1
    return f, [lambda: (values(3), set())]


@fault("k", stage="write-back", backend="eager")
def stored_attribute_is_lost(patch):
    """An attribute of an outside object keeps its old value."""
    wrapped(patch, interp.Tracer, "replay_object", lambda replay, self, out, value, target: [])

    def f(x, box):
        box.k = 7
        return x + 1
    return f, [lambda: (values(3), Box())]


COUNT = 0


@fault("COUNT", stage="write-back", backend="eager")
def stored_global_is_lost(patch):
    """A global keeps its old value."""
    wrapped(patch, interp.Tracer, "replay_object", lambda replay, self, out, value, target: [])
    patch.setitem(globals(), "COUNT", 0)

    def f(x):
        global COUNT
        COUNT = COUNT + 1
        return x + 1
    return f, [lambda: (values(3),)]


@fault("count", stage="write-back", backend="eager")
def stored_cell_is_lost(patch):
    """A variable of the enclosing function keeps its old value."""
    wrapped(patch, interp.Tracer, "replay_object", lambda replay, self, out, value, target: [])
    count = 0

    def f(x):
        nonlocal count
        count = count + 1
        return x + 1
    return f, [lambda: (values(3),)]


@fault("append", "k", stage="write-back", backend="eager")
def stored_value_is_another(patch):
    """An attribute gets the value of another statement."""
    wrapped(patch, interp.Tracer, "replay_object", lambda replay, self, out, value, target: [
        line.replace(", 7)", ", 8)") for line in replay(self, out, value, target)])

    def f(x, box):
        box.k = 7
        return x + 1
    return f, [lambda: (values(3), Box())]


# --------------------------------------------------------------------------- guards

FACTOR = 2


def changing_global(patch):
    patch.setitem(globals(), "FACTOR", 2)

    def f(x):
        return x * FACTOR

    def second():
        globals()["FACTOR"] = 3
        return square()
    return f, [square, second]


@fault("mul", stage="guard", backend="eager")
def global_is_not_guarded(patch):
    """A version is used although a global has changed."""
    no_guard(patch, lambda guard: "FACTOR" in str(guard.source))
    return changing_global(patch)


@fault("mul", stage="guard", backend="eager")
def number_is_not_guarded(patch):
    """A version is used for another number."""
    no_guard(patch, kind("=="))
    return lambda x, k: x * k + 1, [lambda: (values(3), 2), lambda: (values(3), 1)]


@fault("add", "mul", stage="guard", backend="eager")
def flag_is_not_guarded(patch):
    """A version is used for another truth value."""
    no_guard(patch, kind("is"))

    def f(x, flag):
        return x + 1 if flag else x * 2
    return f, [lambda: (values(3), True), lambda: (values(3), False)]


@fault("mul", stage="guard", backend="eager")
def attribute_is_not_guarded(patch):
    """A version is used although an attribute has changed."""
    no_guard(patch, lambda guard: ".k" in str(guard.source))
    return lambda x, box: x * box.k, [lambda: (values(3), Box(2)), lambda: (values(3), Box(1))]


@fault("mul", stage="guard", backend="eager")
def text_is_not_guarded(patch):
    """A version is used for another string."""
    no_guard(patch, kind("=="))

    def f(x, mode):
        return x * 2 if mode == "double" else x * 3
    return f, [lambda: (values(3), "double"), lambda: (values(3), "triple")]


@fault("add", "mul", "sum", stage="guard", backend="eager")
def length_is_not_guarded(patch):
    """A version is used for a longer list."""
    no_guard(patch, kind("len"))

    def f(x, items):
        for item in items:
            x = x + item
        return x
    return f, [lambda: (values(3), [1.0, 2.0]), lambda: (values(3), [1.0, 2.0, 3.0])]


@fault("add", "mul", stage="guard", backend="eager")
def keys_are_not_guarded(patch):
    """A version is used for a dict with another key."""
    no_guard(patch, kind("keys", "contains", "len"))

    def f(x, table):
        return x * 2 if "a" in table else x + 2
    return f, [lambda: (values(3), {"b": 1}), lambda: (values(3), {"a": 1})]


def loose_tensor(patch, *dropped):
    def is_tensor(original, raw, dynamic, *rest):
        key, test, text = original(raw, dynamic, *rest)

        def loose(w, v):
            parts = test(w, v).split(" and ")
            return " and ".join(p for p in parts if not any(d in p for d in dropped)) or "True"
        return key, loose, text
    wrapped(patch, guards, "is_tensor", is_tensor)


@fault("mul", "add", stage="guard", backend="eager", dynamic=False)
def shape_is_not_guarded(patch):
    """A version is used for a tensor of another shape."""
    loose_tensor(patch, ".shape")
    return lambda x: x * x.shape[0], [lambda: (values(3),), lambda: (values(4),)]


@fault("mul", "add", stage="guard", backend="eager")
def dtype_is_not_guarded(patch):
    """A version is used for a tensor of another dtype."""
    loose_tensor(patch, "dtype")
    return lambda x: x * 2 if x.dtype == flambeau.float32 else x + 1, [square, lambda: (values(5, 5).double(),)]


@fault("exp", "mul", stage="guard", backend="eager")
def requires_grad_is_not_guarded(patch):
    """A version without a backward is used for a tensor that needs one."""
    loose_tensor(patch, "_rg")
    return lambda x: x.exp() * 2, [square, lambda: (values(5, 5, grad=True),)]


@fault("exp", "mul", stage="guard", backend="eager")
def grad_mode_is_not_guarded(patch):
    """A version made under no_grad is used outside it."""
    wrapped(patch, guards, "ambient_test", lambda test, *args: tuple(
        [t for t in part if "grad" not in t] for part in test(*args)))

    def second():
        flambeau.set_grad_enabled(True)
        return leaf()

    def first():
        flambeau.set_grad_enabled(False)
        return leaf()
    patch.setattr(flambeau.runtime.autograd.mode, "grad", True)
    return lambda x: x.exp() * 2, [first, second]


@fault("bernoulli", "uniform", "dropout", "mul", "bernoulli_", "native_dropout", stage="guard", backend="eager")
def training_mode_is_not_guarded(patch):
    """A version made for training is used for evaluation."""
    no_guard(patch, lambda guard: "training" in str(guard.source))
    layer = Layer()

    def f(x):
        return layer(x)

    def second():
        layer.eval()
        return square()
    return f, [square, second]


@fault("mul", stage="guard", backend="eager")
def default_is_not_guarded(patch):
    """A version is used although a helper function was replaced."""
    no_guard(patch, lambda guard: "helper" in str(guard.source))

    def twice(x):
        return x * 2

    def thrice(x):
        return x * 3
    helper = twice

    def f(x):
        return helper(x)

    def second():
        nonlocal helper
        helper = thrice
        return square()
    return f, [square, second]


@fault("append", "items", "mul", stage=("guard", "write-back", "capture"), backend="eager")
def same_list_twice_is_not_guarded(patch):
    """A version made for two lists is used for one list given twice."""
    patch.setattr(interp.Tracer, "alias_guards", lambda self: [])

    def f(x, items, other):
        items.append(1)
        return x * len(other)
    same = []
    return f, [lambda: (values(3), [5], [6]), lambda: (values(3), same, same), lambda: (values(3), *([[7]] * 2))]


# --------------------------------------------------------------------------- sizes

@fault("mul", "add", stage="guard", backend="eager", dynamic=True)
def symbolic_size_becomes_a_constant(patch):
    """A size that may change is taken for the number it is now."""
    wrapped(patch, interp.arithmetic, "binary", lambda binary, tr, op, a, b: binary(
        tr, op, a, Const(b.value.hint) if type(b).__name__ == "SymValue" else b))
    return lambda x: x * x.shape[0], [lambda: (values(3),), lambda: (values(5),)]


@fault("mul", "add", stage="guard", backend="eager", dynamic=True)
def assumption_on_a_size_is_not_guarded(patch):
    """A branch on a size is taken without a guard on it."""
    patch.setattr(shapes.Shapes, "guards", lambda self: [])

    def f(x):
        return x * 2 if x.shape[0] > 4 else x + 2
    return f, [lambda: (values(3),), lambda: (values(6),)]


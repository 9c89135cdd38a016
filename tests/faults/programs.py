"""Faults in larger programs: transformer blocks, training steps, symbolic sizes, branches and loops, breaks."""
import dataclasses

from faults.harness import cpp_text, decomposed, fault, no_guard, square, values, wrapped

import flambeau
import flambeau.nn.functional as F
from flambeau import nn
from flambeau._higher_order_ops.scan import scan
from flambeau.frontend import runners
from flambeau.frontend.trace import bodies, breaks, effects, tape
from flambeau.ir import symint
from flambeau.ir.op import ops
from flambeau.passes import fuse, gradients, reverse
from flambeau.runtime import executor, plan_code
from flambeau.runtime.tensor import wrap


class Block(nn.Module):
    def __init__(self, d=8):
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(d), nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        a = (q @ k.transpose(-2, -1)) / 3
        a = a.masked_fill(~flambeau.ones(x.shape[1], x.shape[1], dtype=flambeau.bool).tril(), float("-inf"))
        x = x + self.out(F.softmax(a, -1) @ v)
        return x + self.down(F.gelu(self.up(x)))


def training_step():
    flambeau.manual_seed(0)
    model = nn.Sequential(Block(), Block(), nn.Linear(8, 5))
    optimizer = flambeau.optim.SGD(model.parameters(), lr=0.1)

    def step(x, target):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x).flatten(0, 1), target)
        loss.backward()
        optimizer.step()
        return loss
    return step, [lambda: (values(2, 4, 8), wrap(values(8).sin().abs().numpy().round().astype("int64")))]


def wrong_gradient(patch, name):
    wrapped(patch, reverse, "fit_gradients", lambda fit, op, found, args: [
        None if g is None else ops.mul(g, 1.5) if op.name == name else g for g in fit(op, found, args)])


# --------------------------------------------------------------------------- training steps

@fault("gelu", stage="gradients")
def derivative_inside_a_training_step(patch):
    """A derivative is wrong where the step itself asks for it."""
    wrong_gradient(patch, "gelu")
    return training_step()


@fault("cross_entropy", stage="decompose")
def loss_of_a_training_step(patch):
    """A loss decomposes wrongly in a graph of hundreds of ops."""
    parts = flambeau.ir.op.get_op("cross_entropy").decompose
    decomposed(patch, "cross_entropy", lambda *args: ops.mul(parts(*args), 1.5))
    return training_step()


@fault("gradients", stage="gradients")
def second_gradient_is_the_first(patch):
    """Of two gradients asked for, the second is lost."""
    def first_twice(original, self, node):
        found = original(self, node)
        return [found[0]] * len(found)
    wrapped(patch, gradients._Expander, "differentiate", first_twice)

    def f(x, y):
        a, b = flambeau.autograd.grad((x.exp() * y).sum(), (x, y))
        return a + 1, b
    return f, [lambda: (values(4, 5, grad=True), values(4, 5, seed=1, grad=True))]


@fault("add_", stage="write-back", backend="eager")
def gradient_replaces_what_was_there(patch):
    """`.grad` is overwritten, not added to."""
    def replaced(tr, owner, g, create):
        tr.effects.touch(owner)
        tr.tensor_attrs.setdefault(id(owner), {})["grad"] = g
    patch.setattr(tape, "_accumulate", replaced)
    w = values(4, 5, grad=True)
    w.grad = flambeau.ones(4, 5)

    def f(x):
        loss = (w * x).sum()
        loss.backward()
        return loss
    return f, [lambda: (values(4, 5),)]


# --------------------------------------------------------------------------- what runs the kernels

@fault("add", stage="kernel", backend="cpp")
def address_of_the_first_call(patch):
    """An input is read where the first call had it."""
    text = plan_code.PlanWriter.text

    def remembered(self):
        self.constants["held"] = {}
        return text(self).replace("if not p0:", "p0 = held.setdefault(0, (p0 or dense(x0)[1], x0))[0]\n    if not p0:")
    patch.setattr(plan_code.PlanWriter, "text", remembered)
    return lambda x: x * 2 + 1, [square, lambda: (values(5, 5, seed=9),)]


@fault("mul", stage="kernel", backend="cpp")
def strides_of_an_input_are_ignored(patch):
    """An input that is not dense is read as if it were."""
    patch.setattr(executor, "dense", lambda t: (t._a, executor.address(t._a)))
    return lambda x: x * 2 + 1, [square, lambda: (values(5, 5).t(),)]


@fault("mul_", stage="write-back", backend="cpp")
def write_is_not_counted(patch):
    """The version counter does not tell of a write."""
    def uncounted(original, *args):
        run = original(*args)

        def quiet(inputs):
            before = [t._storage.version for t in inputs]
            found = run(inputs)
            for t, version in zip(inputs, before):
                t._storage.version = version
            return found
        return quiet
    wrapped(patch, runners, "epilogue_runner", uncounted)

    def f(x):
        x.mul_(2)
        return x + 1
    return f, [square]


@fault("t", stage="write-back")
def result_shares_no_memory(patch):
    """A view of an input is returned as a copy."""
    def copied(original, self, run):
        inner = original(self, run)
        return lambda inputs: tuple(wrap(o._a.copy()) if any(o._storage is t._storage for t in inputs) else o
                                    for o in inner(inputs))
    wrapped(patch, runners.Ending, "after", copied)
    return lambda x: (x.t(), x.exp()), [square]


@fault("add", "mul", stage="fusion-schedule", backend="cpp")
def fused_where_elements_do_not_meet(patch):
    """A value is read at another point of the loop than where it is computed."""
    patch.setattr(fuse, "_consistent", lambda *args: True)

    def f(x):
        a = x.exp()
        return a + a.t() * 2 + a.flip(0)
    return f, [square]


@fault("add", stage="fusion-schedule", backend="cpp")
def fused_as_the_list_has_them(patch):
    """A loop that reads an element of what a group computes is put into it, if it stands before it in the list."""
    patch.setattr(fuse, "_in_order", lambda x, y: (x, y))

    def f(x):
        a = flambeau.where(x.sum() > 100, x, x.sin()) * 2
        return a, x + a[0, 0], (a > 0).long().sum()
    return f, [square]


@fault("mul", stage="kernel", backend="cpp", dynamic=True)
def symbolic_size_is_read_wrongly(patch):
    """Compiled code is told a size that is one less."""
    text = plan_code.PlanWriter.text
    patch.setattr(plan_code.PlanWriter, "text", lambda self: text(self).replace(".shape[0]", ".shape[0] - 1"))
    return lambda x: (x * 2).sum(0), [lambda: (values(6, 4),)]


# --------------------------------------------------------------------------- capture

@fault("mul", stage="capture", backend="eager", dynamic=True)
def floor_division_rounds_up(patch):
    """Arithmetic of symbolic sizes is off."""
    patch.setattr(symint.SymInt, "__floordiv__", lambda self, o: self._binary(
        o, lambda a, b: symint._sympy().FloorDiv(a + b - 1, b), lambda a, b: -(-a // b)))
    return lambda x: x * (x.shape[0] // 2), [lambda: (values(5),)]


@fault("cond", stage="capture", backend="eager")
def branches_are_exchanged(patch):
    """The branches of a cond are exchanged."""
    wrapped(patch, bodies.Bodies, "cond", lambda cond, self, pred, true, false, operands: cond(self, pred, false, true, operands))
    return lambda x: flambeau.cond(x.sum() > 0, lambda x: x * 2, lambda x: x - 1, (x,)), [square]


@fault("scan", stage="capture", backend="eager")
def carried_value_is_the_first(patch):
    """A scan returns what it began with."""
    wrapped(patch, bodies.Bodies, "scan", lambda scan, self, fn, init, xs: (list(init), scan(self, fn, init, xs)[1]))

    def f(x):
        total, rows = scan(lambda c, row: (c + row, c * row), flambeau.zeros(5), x)
        return total * 2, rows
    return f, [square]


@fault("add", "mul", stage="capture", backend="eager")
def local_is_another_after_a_break(patch):
    """A resumed frame has the value of another variable."""
    def exchanged(take, self, state):
        names, state = self.layout.locals, list(state)
        if "x" in names and "y" in names:
            state[names.index("y")] = state[names.index("x")]
        return take(self, tuple(state))
    wrapped(patch, breaks.Step, "take", exchanged)

    def f(x):
        y = x * 2
        print(end="")
        return (y + x).exp()
    return f, [square]


@fault("print", stage="write-back", backend="eager")
def print_is_made_twice(patch):
    """What is printed at a break is printed again."""
    call = breaks.PERFORM["CALL"]

    def twice(stack, ins, env):
        if print in stack:
            call(list(stack), ins, env)
        return call(stack, ins, env)
    patch.setitem(breaks.PERFORM, "CALL", twice)

    def f(x):
        y = x * 2
        print("seen")
        return y + 1
    return f, [square]


@fault("discard", stage="write-back", backend="eager")
def removed_element_stays(patch):
    """Only additions to sets are made real."""
    wrapped(patch, effects.Rebuilder, "_replay", lambda replay, self, value, target: [
        line for line in replay(self, value, target) if "difference" not in line])

    def f(x, seen):
        seen.discard(1)
        return x + 1
    return f, [lambda: (values(3), {1, 2})]


@fault("mul", stage="guard", backend="eager")
def field_of_a_local_class_is_not_guarded(patch):
    """A version is used for another value of a field, of a class that no other process can import."""
    @dataclasses.dataclass
    class Options:
        scale: float
    no_guard(patch, lambda guard: ".scale" in str(guard.source))
    return lambda x, options: x * options.scale + 1, [lambda: (values(3), Options(2.0)), lambda: (values(3), Options(3.0))]


@fault("tanh", stage=("kernel", "fusion-schedule"), backend="cpp")
def function_is_wrong_for_large_arguments(patch):
    """An op comes out wrong for some of its arguments only."""
    cpp_text(patch, r"= tanh\((\w+)\);", r"= tanh(minimum(\1, splat<f32v>(0.5f)));")
    return lambda x: (x * 2).tanh() + 1, [lambda: (values(4, 40),)]



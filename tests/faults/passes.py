"""Faults of the graph passes: functionalization, simplification, decomposition, differentiation, partition."""
from faults.harness import decomposed, fault, leaf, leaves, square, two, values, wrapped

import flambeau
import flambeau.nn.functional as F
from flambeau.frontend import aot, runners
from flambeau.ir.graph import Graph
from flambeau.ir.op import OPS, get_op, ops
from flambeau.passes import decompose as decomposing
from flambeau.passes import functionalize, manager, partition, reverse, simplify

# --------------------------------------------------------------------------- functionalize

@fault("mul_", "mul", stage="write-back")
def write_to_an_input_is_lost(patch):
    """The epilogue does not copy the new value into the input."""
    def without_copies(found, graph):
        made = found(graph)
        made.epilogue.nodes = [n for n in made.epilogue.nodes if not n.op.mutates]
        return made
    wrapped(patch, manager, "functionalize", without_copies)

    def f(x):
        x.mul_(2)
        return x.sum()
    return f, [square]


@fault("add_", "add", stage=("functionalize", "write-back"))
def write_through_a_view_misses_its_place(patch):
    """A write through a view of a view goes to the first view."""
    replay = functionalize._Functionalizer.replay

    def short(self, value, count=None):
        return replay(self, value, count if count is None or count < 1 else count)

    def store(original, self, target, new):
        if target.steps:
            first = target.steps[0]
            wrong = functionalize._Step(first.op, (first.args[0], first.args[1] - 1, *first.args[2:]), first.loc, first.grad) \
                if first.op.name == "select" else first
            target = functionalize._Value(target.storage, (wrong, *target.steps[1:]), target.tensor, target.version)
        return original(self, target, new)
    patch.setattr(functionalize._Functionalizer, "replay", short)
    wrapped(patch, functionalize._Functionalizer, "store", store)

    def f(x):
        y = x * 1
        y[2].add_(1)
        return y
    return f, [square]


@fault("add_", "add", "mul", "view", stage="functionalize")
def alias_shows_the_old_value(patch):
    """After a write, another view of the storage is read as it was before."""
    def store(original, self, target, new):
        version = target.storage.version
        original(self, target, new)
        target.storage.version = target.version = version
    wrapped(patch, functionalize._Functionalizer, "store", store)

    def f(x):
        y = x * 1
        z = y.view(-1)
        s = z.sum()
        y.add_(1)
        return z * s
    return f, [square]


@fault("mul_", "sin_", stage=("functionalize", "write-back"))
def two_writes_in_the_wrong_order(patch):
    """The second write to a tensor is overtaken by the first."""
    def swapped(found, graph):
        writes = [i for i, n in enumerate(graph.nodes) if n.op.mutates]
        if len(writes) >= 2:
            graph = Graph(graph.name, graph.inputs, list(graph.nodes), graph.outputs, graph._names)
            a, b = writes[:2]
            graph.nodes[a], graph.nodes[b] = graph.nodes[b], graph.nodes[a]
        return found(graph)
    wrapped(patch, manager, "functionalize", swapped)

    def f(x):
        y = x * 2
        y.sin_()
        y.mul_(3)
        return y
    return f, [square]


# --------------------------------------------------------------------------- simplify

@fault("mul", stage="simplify")
def any_number_is_neutral(patch):
    """Multiplication by any number is taken for one by 1."""
    patch.setattr(simplify, "_is_number", lambda value, number, dtype: isinstance(value, (int, float)))
    return lambda x: (x * 3).sin(), [square]


@fault("mul", "add", "pow", "sum", "amax", stage="simplify")
def repeats_with_other_constants(patch):
    """Two calls with different constants are taken for one."""
    def key(original, args):
        return "number" if isinstance(args, int) else original(args)
    wrapped(patch, simplify, "_key", key)
    return lambda x: (x * 2 + 1) / (x * 5 + 1).abs(), [square]


@fault("to", "cast", "long", "int", stage="simplify")
def narrowing_cast_is_dropped(patch):
    """A cast to integers and back is taken for nothing."""
    patch.setattr(simplify, "_widens", lambda narrow, wide: True)
    return lambda x: (x * 3).to(flambeau.int64).to(flambeau.float32) + 1, [square]


@fault("sin", stage="simplify")
def sine_is_idempotent(patch):
    """f(f(x)) is taken for f(x)."""
    patch.setitem(get_op("sin").extra, "idempotent", True)
    return lambda x: x.sin().sin() + 1, [square]


@fault("t", "transpose", "permute", stage="simplify")
def square_transpose_is_nothing(patch):
    """A view of the same shape is taken for the whole."""
    patch.setattr(simplify, "_same_window", lambda *args: True)
    return lambda x: x.t() + 1, [lambda: (values(5, 5),)]


@fault("add_", "mul_", "add", "mul", stage=("functionalize", "write-back", "capture"))
def needed_write_is_dead_code(patch):
    """Dead code elimination takes a write for a value that nobody reads."""
    def remove_dead(original, self, **how):
        self.nodes = [n for n in self.nodes if not n.op.mutates]
        original(self, **how)
    wrapped(patch, Graph, "remove_dead", remove_dead)

    def f(x):
        y = x * 2
        y.add_(1)
        return y
    return f, [square]


@fault("sub", stage=("simplify", "patterns"))
def constant_is_folded_wrongly(patch):
    """x - 0 becomes -x."""
    def no_neutral(original, self, node, args):
        found = original(self, node, args)
        if found is not None and node.op.name == "sub":
            return self.graph.add(get_op("neg"), (found,), node.meta, node.loc, node.requires_grad)
        return found
    rules = tuple(r if r.__name__ != "no_neutral" else (lambda self, node, args, r=r: no_neutral(r, self, node, args))
                  for r in simplify._RULES)
    patch.setattr(simplify, "_RULES", rules)
    return lambda x: (x * 2) - 0, [square]


@fault("add", "linear", "addmm", stage="patterns")
def pattern_forgets_the_bias(patch):
    """A pattern replaces a product and a sum by the product alone."""
    def use(original, graph):
        graph = original(graph)
        for node in graph.nodes:
            if node.op.name == "add":
                node.op, node.args = get_op("mul"), (node.args[0], 1)
        return graph
    wrapped(patch, manager, "use_kernels", use)
    return lambda x, y: (x @ y) + x, [two]


# --------------------------------------------------------------------------- decompose

@fault("gelu", stage="decompose")
def gelu_of_wrong_parts(patch):
    """A composite decomposes into the wrong formula."""
    decomposed(patch, "gelu", lambda x, approximate: ops.mul(x, ops.sigmoid(x)))
    return lambda x: F.gelu(x * 2) + 1, [square]


@fault("silu", stage="decompose")
def silu_forgets_a_factor(patch):
    """A factor is lost in a decomposition."""
    decomposed(patch, "silu", lambda x: ops.sigmoid(x))
    return lambda x: F.silu(x) * 2, [square]


@fault("softmax", stage="decompose")
def softmax_over_the_wrong_dimension(patch):
    """A decomposition uses another dimension."""
    parts = get_op("softmax").decompose
    decomposed(patch, "softmax", lambda x, dim, *rest: parts(x, 0, *rest))
    return lambda x: F.softmax(x * 2, 1) + 1, [square]


@fault("layer_norm", stage="decompose")
def layer_norm_without_its_weight(patch):
    """A decomposition forgets an operand."""
    parts = get_op("layer_norm").decompose
    decomposed(patch, "layer_norm", lambda x, shape, weight, bias, *rest: parts(x, shape, None, bias, *rest))
    return lambda x, w: F.layer_norm(x, (5,), w), [lambda: (values(4, 5), values(5, seed=1))]


@fault("var", stage="decompose")
def variance_divides_by_n(patch):
    """A decomposition ignores the correction."""
    parts = get_op("var").decompose
    decomposed(patch, "var", lambda x, dim, keepdim, correction: parts(x, dim, keepdim, 0))
    return lambda x: x.var(1) + 1, [square]


@fault("logsumexp", stage="decompose")
def logsumexp_without_the_logarithm(patch):
    """The last step of a decomposition is missing."""
    parts = get_op("logsumexp").decompose
    decomposed(patch, "logsumexp", lambda *args: ops.exp(parts(*args)))
    return lambda x: x.logsumexp(1) * 2, [square]


@fault("clamp", stage="decompose")
def clamp_ignores_the_maximum(patch):
    """An optional argument is ignored."""
    parts = get_op("clamp").decompose
    decomposed(patch, "clamp", lambda x, low, high: parts(x, low, None))
    return lambda x: x.clamp(-1, 0.5) * 2, [square]


@fault("stack", stage="decompose")
def stack_in_the_wrong_order(patch):
    """A decomposition takes its operands in reverse."""
    parts = get_op("stack").decompose
    decomposed(patch, "stack", lambda tensors, *rest: parts(list(reversed(tensors)), *rest))
    return lambda x: flambeau.stack([x, x * 2]).exp(), [square]


# --------------------------------------------------------------------------- gradients

@fault("mul", "add", stage="joint")
def gradients_overwrite_each_other(patch):
    """A value used twice gets the gradient of one use only."""
    patch.setattr(reverse.Reverse, "accumulate", lambda self, node, g: self.grads.__setitem__(node, g))
    return lambda x: (x * x.exp()).sum(), [leaf]


@fault("sin", stage="joint")
def derivative_with_the_wrong_sign(patch):
    """A derivative rule is wrong in compiled code."""
    def fit(original, op, found, args):
        found = original(op, found, args)
        return [None if g is None else ops.neg(g) for g in found] if op.name == "sin" else found
    wrapped(patch, reverse, "fit_gradients", fit)
    return lambda x: (x * 2).sin().sum(), [leaf]


@fault("add", "mul", stage="joint")
def broadcast_gradient_is_not_summed(patch):
    """The gradient of a broadcast operand is its largest part instead of the sum."""
    def fit(original, op, found, args):
        made = original(op, found, args)
        return [g if g is None or f is None or g.shape == f.shape else ops.amax(f, (0,), False) for g, f in zip(made, found)]
    wrapped(patch, reverse, "fit_gradients", fit)
    return lambda x, y: (x + y).exp(), [leaves]


@fault("exp", "sin", "mul", stage=("joint", "partition"))
def gradients_of_two_results_are_exchanged(patch):
    """The gradient of one result is used for the other."""
    def joint_of(original, graph):
        made = original(graph)
        places = made.graph.inputs[made.n_inputs:]
        if len(places) == 2 and str(places[0].meta) == str(places[1].meta):
            made.graph.inputs[made.n_inputs:] = places[::-1]
        return made
    wrapped(patch, manager, "joint_of", joint_of)
    return lambda x: (x.exp(), x.sin()), [leaf]


@fault("mm", "matmul", stage=("partition", "runtime"))
def saved_values_are_exchanged(patch):
    """The backward is handed the saved values in the wrong order."""
    wrapped(patch, aot._Training, "_saved_places", lambda original, self, count: original(self, count)[::-1])
    return lambda x, y: (x @ y).sum(), [lambda: (values(4, 4, grad=True), values(4, 4, seed=1, grad=True))]


@fault("mul_", "mul", "add", "sin", "cos", stage=("capture", "partition", "runtime"), named=False)
def what_the_program_may_change_is_kept_as_it_is(patch):
    """The backward computes a value again from an input that the tape does not keep, and the program has changed it."""
    patch.setattr(partition._Partition, "is_loose", lambda self, node: False)

    def f(x, y):
        z = (x + y).sin()
        if z.sum().item() < 100:  # the frame goes on behind the graph
            x.mul_(2)
        return z

    return f, [lambda: (values(4, 5), values(4, 5, seed=1, grad=True))]


@fault("mul_", "add_", "mul", "add", stage=("functionalize", "write-back", "simplify", "patterns", "partition", "runtime"))
def aliased_inputs_are_taken_for_different_ones(patch):
    """A written input shares memory with another, and nobody looks."""
    patch.setattr(runners, "_overlap", lambda inputs, written: False)

    def f(x, y):
        x.add_(1)
        return y * 2

    def aliased():
        x = values(4, 5)
        return x, x[0]
    return f, [aliased]


@fault("mul", "sum", "exp", stage=("partition", "joint", "decompose"))
def backward_recomputes_the_wrong_value(patch):
    """What the backward computes again is not what the forward computed."""
    def cut(original, *args):
        parts = original(*args)
        for node in parts.backward.nodes:
            if node.op.name == "exp":
                node.op = get_op("expm1")
        return parts
    wrapped(patch, aot, "partition", cut)
    return lambda x: (x.exp() * x).sin().sum(), [leaf]


@fault("exp", "detach", "mul", stage=("joint", "functionalize", "simplify", "patterns"))
def detached_value_gets_a_gradient(patch):
    """Differentiation goes through detach."""
    def with_grad(found, graph):
        made = found(graph)
        for node in made.graph.nodes:
            if node.op.name in ("detach", "alias"):
                node.requires_grad = True
                node.op = get_op("clone")
                node.args = (node.args[0], None)
        return made
    wrapped(patch, manager, "functionalize", with_grad)
    return lambda x: (x.exp().detach() * x).sum(), [leaf]


# --------------------------------------------------------------------------- random numbers

@fault("uniform", "sub", stage=("simplify", "patterns"))
def two_draws_become_one(patch):
    """Equal calls of a random op are taken for one."""
    for op in [op for op in OPS.values() if "random" in op.tags]:
        patch.setattr(op, "tags", op.tags - {"random"})
    return lambda x: flambeau.rand_like(x) - flambeau.rand_like(x), [square]


@fault("uniform", "normal_fill", stage=("functionalize", "simplify", "patterns"))
def draws_in_another_order(patch):
    """Two random ops change places."""
    def swapped(found, graph):
        made = found(graph)
        at = [i for i, n in enumerate(made.graph.nodes) if "random" in n.op.tags]
        if len(at) == 2:
            a, b = at
            made.graph.nodes[a], made.graph.nodes[b] = made.graph.nodes[b], made.graph.nodes[a]
        return made
    wrapped(patch, manager, "functionalize", swapped)
    return lambda x: (flambeau.rand_like(x), flambeau.randn_like(x)), [square]


@fault("softmax", stage="decompose")
def promised_dtype_is_not_kept(patch):
    """A decomposed op has its parts' dtype, not its own."""
    patch.setattr(decomposing, "_as_promised", lambda result, meta: result.node)
    return lambda x: F.softmax(x.to(flambeau.bfloat16), 1), [square]

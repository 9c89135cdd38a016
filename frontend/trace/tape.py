"""The tape inside the traced code: `backward`, `autograd.grad` and the gradients they leave.

A run of the tape is one node of the graph, `ops.gradients`; what it gives to which leaf is known while tracing, so `.grad`
is read, added to and cleared as the program does it. Where eager mode would refuse (a value that a derivative needs was
changed, the tape was freed), the trace ends and Python raises the error.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.builtins import on
from flambeau.frontend.trace.custom import register_hook
from flambeau.frontend.trace.guards import is_type
from flambeau.frontend.trace.selections import refuse_beside_selections
from flambeau.frontend.trace.sequences import TupleValue
from flambeau.frontend.trace.source import Attr, Constant, Item
from flambeau.frontend.trace.values import FALSE, NONE, TRUE, Const, OutsideConst, ScalarValue, TensorValue, Unsupported, Value
from flambeau.ir.graph import Graph, Node, as_leaf, getitem, gradients, is_view, root_of, source_of
from flambeau.ir.op import Op, changing, ops, use_handler
from flambeau.ir.tracing import GraphTensor
from flambeau.ir.tree import leaves
from flambeau.passes.decompose import Decomposer, replace_node
from flambeau.passes.functionalize import functionalize
from flambeau.passes.gradients import reached
from flambeau.passes.layout import UnknownLayout
from flambeau.passes.reverse import needs_parts
from flambeau.runtime import autograd
from flambeau.runtime.tensor import Tensor

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer


#: How often gradients are taken in one graph: each time costs as much as the graph is long.
MOST_RUNS = 16


class Tape:
    """What a trace knows of its tape: where histories lead, what they keep, and what has been freed.

    The steps are those that eager mode would record: composites without a derivative of their own are in parts.
    """

    def __init__(self, tr: Tracer) -> None:
        self.tr = tr
        self.steps = Graph("steps")
        self.builder = Decomposer(self.steps, lambda op: not (needs_parts(op) and self.builder.grad_enabled))
        self.env: dict[Node, Any] = {}
        self.done = 0
        self.leaves: dict[Node, TensorValue] = {}                 # made while tracing
        self.retained: list[TensorValue] = []                     # intermediate tensors that keep their gradient
        self._roots: dict[Node, Node] = {}                        # the value whose storage a step shows
        self._versions: dict[Node, int] = {}
        self._writes: dict[Node, list[Node]] = {}                 # recorded writes to a storage
        self._kept: dict[Node, list[tuple[Node, int]]] = {}       # storages that a step's derivative reads, with versions
        self._before: dict[Node, list[Node]] = {}                 # the steps whose results a step takes
        self._freed: set[Node] = set()
        self._leaves: set[Node] = set()

    # ---- following the trace

    def advance(self) -> None:
        """Take in what was recorded since the last look."""
        graph = self.tr.graph
        for node in graph.inputs:
            if node not in self.env:
                self.env[node] = self.steps.input(node.name, node.meta, node.requires_grad, node.loc)
        fresh = graph.nodes[self.done:]
        self.done = len(graph.nodes)
        self.builder.recorded = {n.args[0] for n in fresh if n.op is getitem and n.requires_grad}
        for node in fresh:
            start = len(self.steps.nodes)
            self.builder.grad_enabled = node.requires_grad or node in self.builder.recorded
            with use_handler(self.builder):
                self.env[node] = replace_node(self.builder, node, self.env)
            for step in self.steps.nodes[start:]:
                if self.builder.grad_enabled and not step.requires_grad and self._records(step):
                    step.requires_grad = True
                self._enter(step)

    def _root(self, node: Node) -> Node:
        return self._roots.get(node, node)

    def _recorded(self, node: Node) -> bool:
        """Whether gradients are sent to this value, as it is now."""
        return node.requires_grad or node in self._leaves or self._root(node) in self._writes

    def _records(self, step: Node) -> bool:
        """Whether a part of an op is on the tape though its argument was made without: something recorded was written to that."""
        op = step.op
        return op is not None and op.differentiable and "nograd" not in op.tags and not isinstance(step.meta, tuple) \
            and step.meta.dtype.differentiable and any(self._recorded(n) for n in step.inputs)

    def _enter(self, step: Node) -> None:
        op = step.op
        assert op is not None
        source = None if op.mutates else source_of(step, maybe=True)
        if source is not None:
            self._roots[step] = self._root(source)
        if op is as_leaf:
            self._leaves.add(step.args[0])
        before = [n for n in step.inputs if n.requires_grad or isinstance(n.meta, tuple)]
        before += [w for n in step.inputs for w in self._writes.get(self._root(n), ())]
        self._before[step] = before
        if op.mutates:
            target = self._root(step.args[op.mutates[0]])
            self._versions[target] = self._versions.get(target, 0) + 1
            if step.requires_grad:
                self._writes.setdefault(target, []).append(step)
        self._kept[step] = self._saved_by(step, op.functional or op)

    def _saved_by(self, step: Node, op: Op) -> list[tuple[Node, int]]:
        """The storages whose data the tape keeps for this step's derivative, and their versions."""
        if not op.differentiable or "nograd" in op.tags or op is getitem:
            return []
        needs = tuple(any(isinstance(x, Node) and self._recorded(x) for x in leaves(step.args[i])) for i in op.tensor_slots)
        if not any(needs):
            return []
        out, args = op.saves(needs)
        written = step.op.mutates[0] if step.op.mutates else -1   # type: ignore[union-attr]
        kept = [n for i, keep in enumerate(args) if keep and i != written for n in leaves(step.args[i])
                if isinstance(n, Node)]
        if out:
            kept.append(step.args[written] if written >= 0 else step)
        return [(root, self._versions.get(root, 0)) for root in map(self._root, kept)]

    def history(self, tensors: Iterable[Node]) -> tuple[list[Node], list[Node]]:
        """(steps, leaves) that the histories of these tensors lead through, in program order."""
        self.advance()
        stack = []
        for n in tensors:
            n = self.env[n]
            stack += [n, *self._writes.get(self._root(n), ())]
        seen: set[Node] = set()
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                stack += self._before.get(node, ())
        steps = [n for n in self.steps.nodes if n in seen and n.op is not as_leaf]
        inputs = {self.env[n]: n for n in self.tr.graph.inputs}
        found = [inputs[n] for n in self.steps.inputs if n in seen and n.requires_grad and n in inputs]
        return steps, found

    # ---- running it

    def run(self, roots: list[TensorValue], given: list[TensorValue | None], wanted: list[TensorValue] | None,
            retain: bool, create: bool) -> tuple[list[TensorValue], list[Value | None]]:
        """The leaves (or what is `wanted`), and the gradients that reach them."""
        try:
            return self._run(roots, given, wanted, retain, create)
        except Unsupported as error:  # only eager mode knows how one result of a graph depends on another
            error.whole = error.whole or any(v.source is None and not self.is_leaf(v) for v in wanted or ())
            raise

    def _run(self, roots: list[TensorValue], given: list[TensorValue | None], wanted: list[TensorValue] | None,
             retain: bool, create: bool) -> tuple[list[TensorValue], list[Value | None]]:
        tr = self.tr
        for root in roots:
            if not root.tensor.requires_grad:
                raise _refused("a tensor that does not require grad has no gradient to start from")
        if sum(n.op is gradients for n in tr.graph.nodes) >= MOST_RUNS:
            raise Unsupported("tape", f"gradients are taken for the {MOST_RUNS + 1}th time in one graph, as in a training loop "
                                      "that is unrolled", "compile one step, and call it in the loop")
        steps, inputs = self.history(_node(r) for r in roots)
        if wanted is None:
            wanted = [self._tensor_of(n) for n in inputs]
            wanted += [v for v in self.leaves.values() if any(self.env[_node(v)] in s.inputs for s in steps)]
            for value in wanted:
                self._guard_watchers(value, True)
            reached_ones = set(steps)
            wanted += [v for v in self.retained if self.latest(v) & reached_ones]
        else:
            for value in wanted:
                self._guard_watchers(value, False)
            self._refuse_detours(inputs, wanted)
            steps = self._between(steps, wanted)
            if any(self.latest(v) & set(steps) for v in self.retained):
                raise Unsupported("tape", "retain_grad() keeps an intermediate gradient while autograd.grad() asks for others",
                                  "ask autograd.grad for all of them")
        self._check(steps)
        if not retain:
            self._refuse_written_inputs(steps)
            self._freed.update(s for s in steps if self._kept[s])
        if not wanted:
            return [], []
        args = ([_node(r) for r in roots], [None if g is None else _node(g) for g in given],
                [_node(v) for v in wanted], retain, create)
        flags = self._probe(args)
        kept = [v for v, flag in zip(wanted, flags) if flag is not None]
        if not kept:
            return wanted, [None] * len(wanted)
        place = tr.where()
        refuse_beside_selections(tr, "a gradient that is taken in the compiled function")
        node = tr.graph.add(gradients, (*args[:2], [_node(v) for v in kept], retain, create),
                            tuple(_node(v).meta for v in kept), place)
        results = iter(range(len(kept)))
        found = [None if flag is None else self._result(node, next(results), place, create and flag) for flag in flags]
        return wanted, [None if g is None else self.hooked(v, g, create) for v, g in zip(wanted, found)]

    def _result(self, node: Node, i: int, place: str, recorded: bool) -> Value:
        return self.tr.from_python(GraphTensor(self.tr.graph.add(getitem, (node, i), node.meta[i], place, recorded)))

    def method(self, value: TensorValue, name: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
        """`tensor.name(...)` for one of `TAPE_METHODS`."""
        return _METHODS[name](self.tr, value, *args, **kwargs)

    def is_leaf(self, value: TensorValue) -> bool:
        if value.source is not None:
            return bool(value.raw.is_leaf)
        return not value.tensor.requires_grad or any(v is value for v in self.leaves.values())

    def is_kept(self, value: TensorValue) -> bool:
        """Whether the tape knows of a tensor made while tracing (or of what it shows a part of) what a result would not have."""
        if any(v is value for v in (*self.leaves.values(), *self.retained)):
            return True
        node = _node(value)
        if not self.leaves or node.op is None or not is_view(node.op) or not value.tensor.requires_grad:
            return False
        root = root_of(node)
        return any(_node(v) is root for v in self.leaves.values())

    def fact(self, value: TensorValue, name: str) -> Value:
        """`is_leaf` or `grad` (nothing has set it) of a tensor made while tracing."""
        if name == "is_leaf":
            return Const(self.is_leaf(value))
        if not self.is_leaf(value) and not any(v is value for v in self.retained):
            raise Unsupported("tensor-attribute", "the .grad of a tensor that is no leaf is read",
                              "ask autograd.grad for the gradient of an intermediate tensor")
        return NONE

    def _probe(self, args: tuple) -> list[bool | None]:
        """Which gradients there are, and which of them require one: known from differentiating a copy."""
        source = self.tr.graph
        scratch = Graph(source.name, list(source.inputs), list(source.nodes), [], dict(source._names))
        node = scratch.add(gradients, args, tuple(n.meta for n in args[2]))
        parts = [scratch.add(getitem, (node, i), m) for i, m in enumerate(node.meta)]
        scratch.outputs = list(parts)
        try:
            pure = functionalize(scratch).graph
            return reached(pure, next(n for n in reversed(pure.nodes) if n.op is gradients))
        except UnknownLayout as error:
            raise Unsupported("tape", f"what a gradient is depends on strides: {error}") from None
        except RuntimeError as error:  # an op without a derivative, or with none for such arguments: said where the tape runs
            raise Unsupported("tape", str(error)) from None

    def _check(self, steps: list[Node]) -> None:
        """Leave to eager mode what it would refuse."""
        for step in steps:
            if step in self._freed:
                raise _from_start("the tape is run a second time through a part that was freed",
                                  "pass retain_graph=True to the first run")
            for root, version in self._kept[step]:
                if self._versions.get(root, 0) != version:
                    raise _from_start(f"a tensor that the derivative of {step.op.name} needs was changed in place",  # type: ignore[union-attr]
                                      "use the out-of-place form of the operation that changed it")

    def _refuse_detours(self, inputs: list[Node], wanted: list[TensorValue]) -> None:
        """What is wanted must not be reached through the history that an input has outside."""
        outside = {_node(v) for v in wanted if _node(v) in self.tr.inputs}
        for node in inputs if outside else ():
            source, raw = self.tr.inputs[_node(self._tensor_of(node))]
            if not raw.is_leaf and outside != {node}:
                raise Unsupported("tape", f"the gradient runs into the history that {source} has outside the compiled function",
                                  "compute it inside the compiled function, or detach it")
            self.tr.guard(source, _same_watchers(raw))

    def _refuse_written_inputs(self, steps: list[Node]) -> None:
        """An input that gets a history which is freed at once has it from eager mode."""
        inputs = {self.env[n] for n in self.tr.graph.inputs}
        for step in steps:
            if step.op.mutates and step.requires_grad and self._root(step.args[step.op.mutates[0]]) in inputs:  # type: ignore[union-attr]
                raise Unsupported("tape", "the gradient goes through a write to a tensor from outside",
                                  "write to a clone() of the tensor")

    def latest(self, value: TensorValue) -> set[Node]:
        """The steps that made a value what it is."""
        node = self.env[_node(value)]
        return {node, *self._writes.get(self._root(node), ())}

    def _between(self, steps: list[Node], wanted: list[TensorValue]) -> list[Node]:
        """The steps that depend on what is wanted."""
        found: set[Node] = set().union(*map(self.latest, wanted))
        return [s for s in steps if any(n in found for n in (*s.inputs, *self._before[s])) and not found.add(s)]  # type: ignore[func-returns-value]

    def _tensor_of(self, node: Node) -> TensorValue:
        """The value of a graph input."""
        for value in self.tr.tensors.values():
            if _node(value) is node:
                return value
        raw = next(raw for raw, lifted in self.tr.builder.lifted.values() if lifted is node)
        source = Constant(raw, "constant")
        self.tr.inputs[node] = (source, raw)
        value = TensorValue(GraphTensor(node), type(raw), source, raw)
        self.tr.tensors[id(value.tensor)] = value
        return value

    def _guard_watchers(self, value: TensorValue, all_leaves: bool) -> None:
        """What gradients reach must be seen by nobody but the hooks of a leaf, which are traced; `all_leaves`: and be a leaf."""
        known = self.tr.inputs.get(_node(value))
        if known is None or not known[1].requires_grad:
            return
        source, raw = known
        if not raw.is_leaf:
            if all_leaves:
                raise Unsupported("tape", f"the gradient runs into the history that {source} has outside the compiled function",
                                  "compute it inside the compiled function, or detach it")
            if raw.grad_fn.pre_hooks or raw.grad_fn.retained:
                raise Unsupported("tape", f"{source} has hooks that see its gradient",
                                  "change the gradient after autograd.grad() instead")
        elif "_grad_dtype" in raw.__dict__:
            raise Unsupported("tape", f"{source} has a grad_dtype of its own", "cast the gradient after autograd.grad()")
        self.tr.guard(source, _same_watchers(raw))

    def hooked(self, value: TensorValue, g: Value, create: bool) -> Value:
        """What a leaf's hooks make of its gradient."""
        for hook in self._hooks(value, "_hooks"):
            changed = self._called(hook, g, create)
            if not (isinstance(changed, Const) and changed.value is None):
                g = changed
        return g

    def accumulated(self, value: TensorValue, create: bool) -> None:
        """Call who waits for a leaf's gradient to be there."""
        for hook in self._hooks(value, "_post_accumulate_hooks"):
            self._called(hook, value, create)

    def _called(self, hook: Value, given: Value, create: bool) -> Value:
        tr = self.tr
        before, tr.builder.grad_enabled = tr.builder.grad_enabled, create
        try:
            return tr.call(hook, [given], {})
        finally:
            tr.builder.grad_enabled = before

    def _hooks(self, value: TensorValue, table: str) -> list[Value]:
        known = self.tr.inputs.get(_node(value))
        if known is None or not known[1].is_leaf:
            return []
        source, raw = known
        at = Attr(source, table) if table == "_hooks" else Item(Attr(source, "__dict__"), table)
        found = raw._hooks if table == "_hooks" else raw.__dict__.get(table)
        return [self.tr.wrap(hook, Item(at, key)) for key, hook in (found or {}).items()]


def _same_watchers(raw: Tensor) -> tuple[Any, Any, str]:
    """The tensor is a leaf, or is none, and has the hooks that it has."""
    leaf, view, own = raw.is_leaf, raw._view is not None, bool(raw.__dict__)
    hooks, waiting = tuple(raw._hooks or ()), tuple(raw.__dict__.get("_post_accumulate_hooks", ()))

    def test(w: Any, v: str) -> str:
        if not leaf:
            return f"not {v}.is_leaf and not {v}.grad_fn.pre_hooks and not {v}.grad_fn.retained"
        parts = [f"{v}.is_leaf" if view else f"{v}._grad_fn is None"]
        parts.append(f"tuple({v}._hooks or ()) == {hooks}" if hooks else f"not {v}._hooks")
        if own:
            parts.append(f"tuple({v}.__dict__.get('_post_accumulate_hooks', ())) == {waiting}")
            parts.append(f"'_grad_dtype' not in {v}.__dict__")
        else:
            parts.append(f"not {v}.__dict__")
        return " and ".join(parts)

    words = "{} is a leaf of the tape" if leaf else "{} is no leaf of the tape"
    words += " with the hooks it has" if hooks or waiting else " without hooks"
    return ("watchers", leaf, view, own, hooks, waiting), test, words


def _refused(why: str, fix: str = "") -> Unsupported:
    return Unsupported("raises", why, fix)


def _from_start(why: str, fix: str) -> Unsupported:
    """What only the tape of the whole frame knows."""
    error = _refused(why, fix)
    error.whole = True
    return error


def _node(value: TensorValue) -> Node:
    return value.tensor.node                                      # type: ignore[attr-defined]


# ---- what the program calls


def _tensors(tr: Tracer, value: Value) -> list[Any]:
    """One tensor or several."""
    return [value] if isinstance(value, TensorValue) else [None if _is_none(v) else v for v in tr.unpack(value)]


def _is_none(value: Value) -> bool:
    return isinstance(value, Const) and value.value is None


def _start(tr: Tracer, roots: list[Any], given: Value) -> list[Any]:
    """The gradients of the roots: as given, or None for a scalar's one."""
    grads = [None] * len(roots) if _is_none(given) else _tensors(tr, given)
    if len(grads) != len(roots) or not all(isinstance(r, TensorValue) for r in roots):
        raise _refused("the gradients given do not fit the tensors that are differentiated")
    for root, g in zip(roots, grads):
        if g is None:
            if not (root.tensor.numel() == 1 and root.tensor.dtype.is_floating_point):
                raise _refused("a gradient is only implied for a real scalar", "give the gradient of the tensor")
        elif not isinstance(g, TensorValue) or tuple(g.tensor.shape) != tuple(root.tensor.shape):
            raise _refused("a gradient given does not have the shape of its tensor")
        elif g.tensor.dtype is not root.tensor.dtype:
            raise Unsupported("tape", "a gradient given has another dtype than its tensor", "cast it to the tensor's dtype")
    return grads


@on(changing)
def _changing(tr: Tracer, number: Value) -> Value:
    """A float from outside as a number that is read at each call."""
    if not isinstance(number, OutsideConst) or number.looked or type(number.raw) is not float:
        return number
    assert number.source is not None
    tr.guard(number.source, is_type(float))
    return ScalarValue(number.raw, "{}", [], number.source)


def _flag(tr: Tracer, value: Value, default: bool) -> bool:
    return default if _is_none(value) else tr.truth(value)


@on(autograd.grad)
def _grad(tr: Tracer, outputs: Value, inputs: Value, grad_outputs: Value = NONE, retain_graph: Value = NONE,
          create_graph: Value = FALSE, only_inputs: Value = TRUE, allow_unused: Value = NONE,
          is_grads_batched: Value = FALSE, materialize_grads: Value = FALSE) -> Value:
    create, zeros = tr.truth(create_graph), tr.truth(materialize_grads)
    _refuse_nested(tr)
    if tr.truth(is_grads_batched):
        raise Unsupported("tape", "gradients are batched", "use vmap over autograd.grad outside the compiled function")
    roots, wanted = _tensors(tr, outputs), _tensors(tr, inputs)
    if not all(isinstance(w, TensorValue) and w.tensor.requires_grad for w in wanted) or (
            zeros and not _is_none(allow_unused) and not tr.truth(allow_unused)):
        raise _refused("a gradient is asked for that there cannot be")
    _, found = tr.tape.run(roots, _start(tr, roots, grad_outputs), wanted, _flag(tr, retain_graph, create), create)
    if zeros:
        found = [tr.from_python(tr.call_host(ops.zeros_like, w.tensor)) if g is None else g for g, w in zip(found, wanted)]
    elif None in found and not _flag(tr, allow_unused, False):
        raise _refused("a tensor whose gradient is asked for was not used", "pass allow_unused=True")
    return TupleValue([NONE if g is None else g for g in found])


def _refuse_nested(tr: Tracer) -> None:
    """The tape is that of the whole trace, which a body or a transform has no part in."""
    if tr.nested or tr.transform is not None:
        raise Unsupported("tape", f"the tape is used inside {tr.nested or 'a transform'}",
                          "use func.grad there, or ask for gradients outside")


@on(autograd.backward)
def _backward(tr: Tracer, tensors: Value, grad_tensors: Value = NONE, retain_graph: Value = NONE,
              create_graph: Value = FALSE, grad_variables: Value = NONE, inputs: Value = NONE) -> Value:
    _refuse_nested(tr)
    create = tr.truth(create_graph)
    roots = _tensors(tr, tensors)
    wanted = None if _is_none(inputs) else _tensors(tr, inputs)
    if wanted is not None and not (wanted and all(isinstance(w, TensorValue) and w.tensor.requires_grad for w in wanted)):
        raise _refused("backward() is asked for the gradients of tensors that have none")
    grads = _start(tr, roots, grad_tensors)
    owners, found = tr.tape.run(roots, grads, wanted, _flag(tr, retain_graph, create), create)
    for owner, g in zip(owners, found):
        if g is not None:
            _accumulate(tr, owner, g, create)
    return NONE


def _accumulate(tr: Tracer, leaf: TensorValue, g: Value, create: bool) -> None:
    """Add a gradient to `.grad` as the engine does: the first becomes it, later ones are added in place."""
    before = leaf.getattr(tr, "grad")
    if not _is_none(before):                                      # (which guards what it is)
        assert isinstance(before, TensorValue)
        mode = tr.builder.grad_enabled
        tr.builder.grad_enabled = create
        try:
            if not create and tr.tape.is_leaf(leaf):
                tr.call_host(ops.add_, before.tensor, g.tensor)   # type: ignore[attr-defined]
                tr.tape.accumulated(leaf, create)
                return
            g = tr.from_python(tr.call_host(ops.add, before.tensor, g.tensor))  # type: ignore[attr-defined]
        finally:
            tr.builder.grad_enabled = mode
    if leaf.source is not None:
        tr.effects.touch(leaf)
    tr.tensor_attrs.setdefault(id(leaf), {})["grad"] = g
    tr.tape.accumulated(leaf, create)


def _tensor_backward(tr: Tracer, value: TensorValue, gradient: Value = NONE, retain_graph: Value = NONE,
                     create_graph: Value = FALSE, inputs: Value = NONE) -> Value:
    return _backward(tr, value, gradient, retain_graph, create_graph, NONE, inputs)


def _requires_grad(tr: Tracer, value: TensorValue, requires_grad: Value = TRUE) -> Value:
    """A value of the trace becomes a leaf of the tape."""
    _refuse_nested(tr)
    tensor: Any = value.tensor
    wanted = tr.truth(requires_grad)
    if wanted == tensor.requires_grad and (wanted or value.source is None):
        return value
    if value.source is not None or not wanted:
        raise Unsupported("tape", "requires_grad of a tensor from outside is changed" if value.source is not None else
                          "a tensor of the compiled function is to require no gradient any more",
                          "change it outside the compiled function" if value.source is not None else "use detach()")
    if not tensor.dtype.differentiable:
        raise _refused("only tensors of floating point and complex dtype can require gradients")
    node = tr.graph.add(as_leaf, (_node(value),), _node(value).meta, tr.where(), True)
    tensor.requires_grad = True
    tr.tape.leaves[node] = value
    value.born = tr.tick                                          # type: ignore[attr-defined]
    return value


def _retain_grad(tr: Tracer, value: TensorValue) -> Value:
    """An intermediate tensor keeps its gradient; a leaf does anyway."""
    _refuse_nested(tr)
    if value.source is not None and not value.raw.is_leaf:
        raise Unsupported("tape", "retain_grad() is called on a tensor from outside", "call it outside the compiled function")
    if not value.tensor.requires_grad:
        raise _refused("a tensor that does not require grad cannot keep its gradient")
    if not tr.tape.is_leaf(value) and not any(v is value for v in tr.tape.retained):
        tr.tape.retained.append(value)
        value.born = tr.tick                                      # type: ignore[attr-defined]
    return NONE


_METHODS: dict[str, Any] = {"backward": _tensor_backward, "register_hook": register_hook, "requires_grad_": _requires_grad,
                            "retain_grad": _retain_grad}

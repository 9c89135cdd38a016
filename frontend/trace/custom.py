"""`autograd.Function` in traced code: the user's `forward` and `backward` as the two graphs of one step.

`backward` is traced when `apply` is called, on stand-ins for the gradients. What it reads of `forward`, through `ctx` or
otherwise, becomes further results of the step. `ctx` exists only while tracing.
"""
from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.bodies import Bodies, Body, note_sharing
from flambeau.frontend.trace.callables import FunctionValue
from flambeau.frontend.trace.effects import CannotRebuild
from flambeau.frontend.trace.objects import ClassValue
from flambeau.frontend.trace.sequences import ListValue, TupleValue
from flambeau.frontend.trace.sharing import At
from flambeau.frontend.trace.source import Attr
from flambeau.frontend.trace.values import NONE, Const, TensorValue, Unsupported, Value
from flambeau.ir.graph import Graph, Node, map_nodes, root_of
from flambeau.ir.op import get_op, ops
from flambeau.ir.tracing import GraphTensor
from flambeau.runtime.traced import Traced

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer


def apply_function(tr: Tracer, raw: Any, args: list[Value], kwargs: dict[str, Value]) -> Value:
    """`cls.apply(*args, **kwargs)`; `raw` is the function behind every `apply`, `args` begins with the class."""
    cls, given = args[0], args[1:]
    assert isinstance(cls, ClassValue)
    if tr.transform is not None:
        raise Unsupported("transform", f"{cls.raw.__name__}.apply is called inside a transform",
                          "call the transform outside the compiled function")
    needs = [isinstance(a, TensorValue) and a.tensor.requires_grad for a in given]
    call = _Call(tr, raw.__globals__, cls, given, kwargs, needs)
    if not (tr.builder.grad_enabled and any(needs)):
        return call.forward(given)
    return call.recorded()


class _Call:
    """One `apply` while it is traced."""

    def __init__(self, tr: Tracer, space: dict[str, Any], cls: ClassValue, args: list[Value], kwargs: dict[str, Value],
                 needs: list[bool]) -> None:
        self.tr, self.cls, self.args, self.kwargs, self.needs = tr, cls, args, kwargs, needs
        self.real: Any = cls.raw
        self.base, self.ctx_class = space["Function"], space["FunctionCtx"]
        self.places = [i for i, a in enumerate(args) if isinstance(a, TensorValue)]
        self.ctx: Any = None
        self.output: Value = NONE

    @property
    def name(self) -> str:
        return self.cls.raw.__name__

    # ---- forward

    def forward(self, args: list[Value]) -> Value:
        """The user's `forward` (and `setup_context`) off the tape."""
        tr, grad = self.tr, self.tr.builder.grad_enabled
        self.ctx = tr.call(tr.class_value(self.ctx_class), [], {})
        self.ctx.setattr(tr, "needs_input_grad", TupleValue([Const(n) for n in self.needs]))
        tr.set_grad(False)
        try:
            if self.real.setup_context is self.base.setup_context:
                found = tr.call(self.cls.getattr(tr, "forward"), [self.ctx, *args], self.kwargs)
            else:
                found = tr.call(self.cls.getattr(tr, "forward"), args, self.kwargs)
                tr.call(self.cls.getattr(tr, "setup_context"), [self.ctx, TupleValue(args), found], {})
        finally:
            tr.set_grad(grad)
        self.ctx.setattr(tr, "_saved", self.ctx.getattr(tr, "to_save"))
        return found

    def traced_forward(self, *tensors: Traced) -> list[Any]:
        tr, args = self.tr, list(self.args)
        for i, t in zip(self.places, tensors):
            args[i] = tr.from_python(t)
        self.output = self.forward(args)
        if not tr.truth(self.ctx.getattr(tr, "materialize_grads")):
            raise Unsupported("custom-function", f"{self.name} wants None for gradients that do not arrive",
                              "do without set_materialize_grads(False)")
        if self.ctx.getattr(tr, "dirty_tensors").length(tr):
            raise Unsupported("custom-function", f"{self.name} changes one of its arguments in place",
                              "return a new tensor and do without mark_dirty()")
        return [v.tensor if isinstance(v, TensorValue) else None for v in self.results()]

    def results(self) -> list[Value]:
        return self.output.values(self.tr) if isinstance(self.output, TupleValue) else [self.output]

    # ---- backward

    def traced_backward(self, *grads: Traced) -> list[Any]:
        tr = self.tr
        rest = iter(grads)
        given = [tr.from_python(next(rest)) if isinstance(v, TensorValue) else NONE for v in self.results()]
        rule = self.cls.getattr(tr, "backward" if self.real.backward is not self.base.backward else "vjp")
        once = isinstance(rule, FunctionValue) and getattr(rule.raw, "__flambeau_once__", False)
        found = self.once(rule, given) if once else tr.call(rule, [self.ctx, *given], {})
        items = found.values(tr) if isinstance(found, (TupleValue, ListValue)) else [found]
        items = self.checked(items)
        tensors = [v.tensor if isinstance(v, TensorValue) else None for v in (items[i] for i in self.places)]
        beside = [g.symbol for g in grads]
        return [tr.call_host(ops.once, t, beside) if once and t is not None else t for t in tensors]

    def once(self, rule: Any, given: list[Value]) -> Value:
        """The function behind @once_differentiable, off the tape."""
        tr, grad = self.tr, self.tr.builder.grad_enabled
        inner = tr.wrap(rule.raw.__wrapped__, Attr(rule.source, "__wrapped__"))
        tr.set_grad(False)
        try:
            return tr.call(inner, [self.ctx, *given], {})
        finally:
            tr.set_grad(grad)

    def checked(self, items: list[Value]) -> list[Value]:
        """One gradient for each argument; an error of the user's is eager mode's to raise."""
        count = len(self.args)
        none = [isinstance(v, Const) and v.value is None for v in items]
        if len(items) < count or not all(none[count:]) or any(
                not n and (i not in self.places or not isinstance(v, TensorValue)) for i, (v, n) in enumerate(zip(items, none))
                if i < count):
            raise Unsupported("custom-function", f"{self.name}.backward returns {len(items)} gradients for {count} arguments, or "
                              "one that is no tensor", "return a tensor or None for each argument of forward")
        for i in self.places:
            got, want = (getattr(v[i], "tensor", None) for v in (items, self.args))
            if got is not None and not _sums_to(got.shape, want.shape):    # type: ignore[union-attr]
                raise Unsupported("custom-function", f"{self.name}.backward returns a gradient of shape {tuple(got.shape)} "
                                  f"for an argument of shape {tuple(want.shape)}",    # type: ignore[union-attr]
                                  "return a gradient of the argument's shape")
        return items

    # ---- both as one step

    def recorded(self) -> Value:
        tr = self.tr
        bodies = Bodies(tr)
        operands = [self.args[i].tensor for i in self.places]     # type: ignore[attr-defined]
        forward = bodies.trace(self.traced_forward, operands, f"the forward of {self.name}")
        results = [x for x in forward.outputs if x is not None]
        like = [GraphTensor(Node(f"grad_{x.node.name}", None, (), x.node.meta, "", True)) for x in results]
        backward = bodies.trace(self.traced_backward, like, f"the backward of {self.name}")
        inner = set(forward.graph.nodes)
        read = [n for n in backward.free if n in inner and n not in forward.graph.outputs]
        own = {*inner, *forward.graph.inputs}
        free = list(dict.fromkeys(bodies.carried_sizes([forward, backward], [
            *forward.free, *(n for n in backward.free if n not in own)], operands)))
        first = forward.closed(free)
        first.outputs += read
        found = _step(tr, first, _against(backward, first, free), [*operands, *map(GraphTensor, free)], len(results))
        note_sharing(tr, forward, [*(x.node for x in operands), *free], [x.node for x in found[:len(results)]],
                     f"a result of {self.name}")
        return self.returned(found)

    def returned(self, found: Sequence[GraphTensor]) -> Value:
        tr = self.tr
        apart = {id(v) for v in self.ctx.getattr(tr, "non_differentiable").values(tr)}
        rest, values = iter(found), []
        for v in self.results():
            if not isinstance(v, TensorValue):
                values.append(v)
                continue
            t = next(rest)
            if id(v) in apart:
                t.requires_grad = t.node.requires_grad = False
            values.append(tr.from_python(t))
        for t in rest:
            t.requires_grad = t.node.requires_grad = False
        return TupleValue(values) if isinstance(self.output, TupleValue) else values[0]


def _step(tr: Tracer, forward: Graph, backward: Graph, operands: list[Any], results: int) -> list[GraphTensor]:
    """The results of the step. Those that the backward does not read may be written to, as the tape does not keep them."""
    found = list(tr.builder(get_op("custom_function"), (forward, backward, operands, results)))
    read = {n for node in backward.nodes for n in node.inputs} | set(backward.output_nodes())
    for i, n in enumerate(backward.inputs[len(operands):len(operands) + results]):
        if n not in read:
            found[i] = tr.call_host(ops.clone, found[i])
    return found


def _sums_to(got: Any, want: Any) -> bool:
    """Whether a gradient of the one shape can be summed to the other, as far as the sizes are numbers."""
    pairs = zip(reversed(tuple(got)), reversed(tuple(want)))
    return len(got) >= len(want) and all(b == 1 or a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int))


# --------------------------------------------------------------------------- hooks

class HookHandle(Value):
    """What `register_hook` returns: the hook stays, so it can only be dropped."""

    def pytype(self) -> type:
        return object

    def getattr(self, tr: Tracer, name: str) -> Value:
        raise Unsupported("tape", f"{name} of a hook's handle is used", "make the hook do nothing when it is not wanted")


def register_hook(tr: Tracer, value: TensorValue, hook: Value) -> Value:
    """A hook on the gradient of a tensor made in the trace: from here on, a function that returns the tensor as it is and has
    the hook as its derivative stands for it."""
    node = getattr(value.tensor, "node", None)
    if node is None or value.source is not None or root_of(node) is not node or tr.tape.is_kept(value) or (
            not value.tensor.requires_grad or tr.nested or tr.transform is not None):
        raise Unsupported("tape", "a hook is registered on a tensor from outside, on a view or on a leaf",
                          "register it on what an op has computed")
    uses = [i for i, n in enumerate(tr.graph.nodes) if node in n.inputs]
    if uses:                                                      # they must be on a tape that the hook sees: break before them
        error = Unsupported("tape", "a hook is registered on a tensor that has been used before",
                            "register it where the tensor is made, before it is used")
        error.line = tr.where()
        raise CannotRebuild(At(bisect.bisect_right(tr.starts, uses[0])), error)
    bodies = Bodies(tr)
    forward = bodies.trace(lambda t: [tr.call_host(ops.clone, t.symbol)], [value.tensor], "a tensor with a hook")  # type: ignore[list-item]

    def on_gradient(g: Traced) -> list[Any]:
        found = tr.call(hook, [tr.from_python(g)], {})
        if isinstance(found, TensorValue):
            return [found.tensor]
        if isinstance(found, Const) and found.value is None:
            return [tr.call_host(ops.clone, g.symbol)]
        raise Unsupported("tape", f"a hook returns a {found.pytype().__name__}", "return a tensor or None")

    like = [GraphTensor(Node("grad", None, (), node.meta, "", True))]  # type: ignore[union-attr]
    backward = bodies.trace(on_gradient, like, "a tensor's hook")
    free = list(dict.fromkeys(bodies.carried_sizes([forward, backward], [n for n in backward.free
                                                                         if n not in forward.graph.inputs], [value.tensor])))  # type: ignore[list-item]
    before, tr.builder.grad_enabled = tr.builder.grad_enabled, True
    try:
        first = forward.closed(free)
        found = _step(tr, first, _against(backward, first, free), [value.tensor, *map(GraphTensor, free)], 1)
    finally:
        tr.builder.grad_enabled = before
    value.tensor = found[0]
    tr.tensors[id(found[0])] = value
    tr.keep.append(found[0])
    return HookHandle()


def _against(backward: Body, forward: Graph, free: Sequence[Node]) -> Graph:
    """The backward's graph: inputs for all that the forward takes and returns, then the gradients of its results; outputs with
    None for an operand without gradient."""
    graph = backward.graph
    grads, graph.inputs = graph.inputs, []
    taken, returned = len(forward.inputs) - len(free), forward.outputs
    env: dict[Node, Node] = {}
    for i, n in enumerate([*forward.inputs, *returned]):
        new = graph.input(n.name, n.meta, True, n.loc)
        for old in (n, free[i - taken] if taken <= i < len(forward.inputs) else n):
            env.setdefault(old, new)
    graph.inputs += grads
    for node in graph.nodes:
        node.args = map_nodes(lambda n: env.get(n, n), node.args)
    graph.outputs = [None if x is None else env.get(x.node, x.node) for x in backward.outputs]
    return graph

"""Branches and loops over graphs: ops that take functions, each a :class:`~flambeau.ir.graph.Graph` among the arguments.

The user's functions (``flambeau.cond``...) become these when they are captured; eager mode has no need of them. A body
sees nothing but its inputs: what the function closes over is one of the operands. Bodies write to nothing and return
new values.

What is an op's own here: its results' metas, how it runs (a loop in Python over bodies that whoever builds the graph has
compiled, or whose ops are called one by one), and its derivative in terms of the derivatives of its bodies.
``extra["derivative"](derive, g, out, args, needs)`` is that: ``derive(body, wanted, given)`` is the graph that computes from
the body's inputs and the gradients of the outputs ``given`` those of the inputs ``wanted``. ``g`` holds a gradient, or None,
for each result; the answer is a gradient, a list of them or None for each tensor parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flambeau.ir.family import composite
from flambeau.ir.graph import Graph, getitem, map_nodes
from flambeau.ir.interp import run_graph
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import Op, call, ops, register, state, use_handler
from flambeau.ir.samples import S, T
from flambeau.ir.schema import parse
from flambeau.ir.tracing import GraphBuilder, GraphTensor, SymbolicTensor
from flambeau.ir.tree import leaves

Derive = Callable[[Graph, Sequence[bool], Sequence[bool]], Graph]


def control(schema: str, infer: Callable[..., Any], run: Callable[..., Any], derivative: Callable[..., Any] | None = None,
            **extra: Any) -> Op:
    """An op on graphs. ``run(*args)`` computes it on tensors or on arrays, whichever its bodies take."""
    parsed = parse(schema)

    def decompose(*args: Any) -> Any:
        if any(isinstance(x, SymbolicTensor) for x in leaves(args)):
            return NotImplemented
        return tuple(run(*args))

    tags = frozenset({"extern", "any_layout", "bodies"})
    return register(Op(parsed.name, parsed, "control", infer, decompose=decompose, tags=tags, doc=run.__doc__ or "",
                       extra={"derivative": derivative, "on_arrays": run, **extra}))


def run_body(body: Graph, inputs: Sequence[Any]) -> list[Any]:
    """The outputs of a body for tensors or arrays."""
    return list(body.run(inputs)) if body.run is not None else run_graph(body, inputs)


def _metas(body: Graph) -> list[TensorMeta]:
    return [out.meta for out in body.outputs]


def _differentiable(metas: Sequence[Any]) -> list[bool]:
    return [m.dtype.differentiable for m in metas]


def _present(g: Sequence[Any]) -> list[Any]:
    return [x for x in g if x is not None]


def _spread(found: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
    """The items of ``found`` at the places where a flag stands, None at the others."""
    rest = iter(found)
    return [next(rest) if flag else None for flag in flags]


def _chosen(items: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
    return [x for x, flag in zip(items, flags) if flag]


# ---- cond ---------------------------------------------------------------------------------------------------------


def _cond_infer(pred: Any, true: Graph, false: Graph, operands: Sequence[Any]) -> tuple:
    return tuple(_metas(true))


def _cond_run(pred: Any, true: Graph, false: Graph, operands: Sequence[Any]) -> list[Any]:
    """The results of one of two bodies, as the predicate says; the other one is not run."""
    return run_body(true if bool(pred) else false, operands)


def _cond_derivative(derive: Derive, g: Sequence[Any], out: Any, args: tuple, needs: Sequence[Any]) -> list[Any]:
    """The derivative of the branch that was taken."""
    pred, true, false, operands = args
    wanted, given = needs[1], [x is not None for x in g]
    branches = [derive(body, wanted, given) for body in (true, false)]
    return [None, _spread(ops.cond(pred, *branches, [*operands, *_present(g)]), wanted)]


cond = control("cond(Tensor pred, Graph true, Graph false, Tensor[] operands) -> Tensor[]", _cond_infer, _cond_run,
               _cond_derivative)


# ---- while_loop ---------------------------------------------------------------------------------------------------


def _while_infer(cond: Graph, body: Graph, carried: Sequence[Any], extra: Sequence[Any]) -> tuple:
    return tuple(_metas(body))


def _while_run(cond: Graph, body: Graph, carried: Sequence[Any], extra: Sequence[Any]) -> list[Any]:
    """The carried values after as many rounds of the body as the condition admits; copies of them after none."""
    values, rounds = list(carried), 0
    while bool(run_body(cond, [*values, *extra])[0]):
        values, rounds = run_body(body, [*values, *extra]), rounds + 1
    return values if rounds else [_copy(v) for v in values]


def _copy(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else ops.clone(value)


def _while_derivative(derive: Derive, g: Sequence[Any], out: Any, args: tuple, needs: Sequence[Any]) -> list[Any]:
    """The rounds backwards; what each of them began with is computed again, since nobody knows how many there will be."""
    cond, body, carried, extra = args
    moves = [a and b for a, b in zip(_differentiable(_metas(body)), _reaches(body, needs[0]))]
    gradient = derive(body, [*moves, *needs[1]], moves)
    seeds = [ops.zeros_like(c) if x is None else x for c, x in zip(carried, g)]
    sums = [ops.zeros_like(x) for x in _chosen(extra, needs[1])]
    found = list(ops.while_loop_backward(cond, body, gradient, carried, extra, _chosen(seeds, moves), sums))
    n = sum(moves)
    return [_spread(found[:n], moves), _spread(found[n:], needs[1])]


def _reaches(body: Graph, needs: Sequence[bool]) -> list[bool]:
    """The carried values that are on the tape: those given so, and those that become so on the way."""
    return [need or out.requires_grad for need, out in zip(needs, body.outputs)]


def _while_backward_infer(cond: Graph, body: Graph, gradient: Graph, carried: Sequence[Any], extra: Sequence[Any],
                          grads: Sequence[Any], sums: Sequence[Any]) -> tuple:
    return tuple(_metas(gradient))


def _while_backward_run(cond: Graph, body: Graph, gradient: Graph, carried: Sequence[Any], extra: Sequence[Any],
                        grads: Sequence[Any], sums: Sequence[Any]) -> list[Any]:
    """The gradients that a ``while_loop`` sends to its carried values and, summed over the rounds, to the others."""
    states = [list(carried)]
    while bool(run_body(cond, [*states[-1], *extra])[0]):
        states.append(run_body(body, [*states[-1], *extra]))
    flowing, total = list(grads), list(sums)
    for began in reversed(states[:-1]):
        found = run_body(gradient, [*began, *extra, *flowing])
        flowing, total = found[:len(grads)], [a + b for a, b in zip(total, found[len(grads):])]
    return [_copy(x) for x in (*flowing, *total)] if len(states) == 1 else [*flowing, *total]


while_loop = control("while_loop(Graph cond, Graph body, Tensor[] carried, Tensor[] extra) -> Tensor[]", _while_infer,
                     _while_run, _while_derivative)
while_loop_backward = control(
    "while_loop_backward(Graph cond, Graph body, Graph gradient, Tensor[] carried, Tensor[] extra, Tensor[] grads, "
    "Tensor[] sums) -> Tensor[]", _while_backward_infer,
    _while_backward_run)


# ---- scan ---------------------------------------------------------------------------------------------------------


def _scan_infer(combine: Graph, init: Sequence[Any], xs: Sequence[Any], extra: Sequence[Any], reverse: bool,
                states: bool) -> tuple:
    metas, k, n = _metas(combine), len(init), xs[0].shape[0]
    return (*metas[:k], *(m.with_shape((n, *m.shape)) for m in [*metas[k:], *(metas[:k] if states else ())]))


def _scan_run(combine: Graph, init: Sequence[Any], xs: Sequence[Any], extra: Sequence[Any], reverse: bool,
              states: bool) -> list[Any]:
    """The body run along the first dimension of ``xs``: the last carried values, then the rows of all that it returned beside
    them; with ``states`` also those of the carried values that each round began with."""
    k, n = len(init), xs[0].shape[0]
    carried: list[Any] = list(init)
    rows: list[Any] = [None] * n
    slices = list(zip(*map(_rows, xs)))
    for i in reversed(range(n)) if reverse else range(n):
        found = run_body(combine, [*carried, *slices[i], *extra])
        rows[i] = [*found[k:], *carried] if states else found[k:]
        carried = found[:k]
    return [*carried, *(_stack(column) for column in zip(*rows))]


def _rows(x: Any) -> Sequence[Any]:
    return [np.asarray(row) for row in x] if isinstance(x, np.ndarray) else ops.unbind(x, 0)


def _stack(column: Sequence[Any]) -> Any:
    return np.stack(column) if isinstance(column[0], np.ndarray) else ops.stack(list(column), 0)


def _scan_with_states(combine: Graph, init: Sequence[Any], xs: Sequence[Any], extra: Sequence[Any], reverse: bool,
                      states: bool) -> tuple:
    return combine, init, xs, extra, reverse, bool(init)


def _scan_derivative(derive: Derive, g: Sequence[Any], out: Any, args: tuple, needs: Sequence[Any]) -> list[Any]:
    """A scan in the other direction that carries the gradients of the carried values, and the sums of those of ``extra``."""
    combine, init, xs, extra, reverse, states = args
    k, n = len(init), len(combine.outputs)
    began = (out if states else ops.scan(combine, init, xs, extra, reverse, True))[n:] if k else ()
    moves = [a and b for a, b in zip(_differentiable(_metas(combine)[:k]), _reaches(combine, needs[0]))]
    rows = [x is not None for x in g[k:n]]
    gradient = derive(combine, [*moves, *needs[1], *needs[2]], [*moves, *rows])
    sums = _chosen(extra, needs[2])
    step = _backward_step(gradient, k, len(xs), len(extra), sum(moves), sum(needs[1]), sums)
    seeds = [ops.zeros_like(c) if x is None else x for c, x in zip(init, g)]
    start = [*_chosen(seeds, moves), *(ops.zeros_like(x) for x in sums)]
    found = list(ops.scan(step, start, [*began, *xs, *_present(g[k:n])], extra, not reverse))
    m = sum(moves)
    to_init, to_extra, to_xs = found[:m], found[m:m + len(sums)], found[m + len(sums):]
    return [_spread(to_init, moves), _spread(to_xs, needs[1]), _spread(to_extra, needs[2])]


def _backward_step(gradient: Graph, carried: int, rows: int, extra: int, moves: int, wanted_rows: int,
                   sums: Sequence[Any]) -> Graph:
    """One round backwards, its inputs in the order of a scan: gradients and sums; state, row, the row's gradients; extra."""
    body, builder = _copy_of(gradient)
    inputs = body.inputs
    state, row, more = inputs[:carried], inputs[carried:carried + rows], inputs[carried + rows:carried + rows + extra]
    flowing, given = inputs[carried + rows + extra:][:moves], inputs[carried + rows + extra + moves:]
    totals = [body.input("total", TensorMeta(tuple(x.shape), x.dtype, x.device), True) for x in sums]
    to_carried, to_rows, to_extra = (body.outputs[:moves], body.outputs[moves:moves + wanted_rows],
                                     body.outputs[moves + wanted_rows:])
    with use_handler(builder):
        added = [ops.add(GraphTensor(a), GraphTensor(b)).node for a, b in zip(totals, to_extra)]
    body.inputs = [*flowing, *totals, *state, *row, *given, *more]
    body.outputs = [*to_carried, *added, *to_rows]
    return body


def _copy_of(graph: Graph) -> tuple[Graph, GraphBuilder]:
    """A graph of the same nodes to append to, and what appends."""
    body = Graph(graph.name, list(graph.inputs), list(graph.nodes), list(graph.outputs), dict(graph._names))
    return body, GraphBuilder(body, grad_enabled=True)


scan = control("scan(Graph combine, Tensor[] init, Tensor[] xs, Tensor[] extra, bool reverse=False, "
               "bool states=False) -> Tensor[]", _scan_infer, _scan_run, _scan_derivative, with_states=_scan_with_states)


# ---- functions whose derivative the user writes -------------------------------------------------------------------


def _custom_infer(forward: Graph, backward: Graph, operands: Sequence[Any], results: int) -> tuple:
    return tuple(_metas(forward))


def _custom_parts(forward: Graph, backward: Graph, operands: Sequence[Any], results: int) -> tuple:
    """What the user's ``forward`` computes: its results, then what ``backward`` reads of its intermediate values."""
    return tuple(run_body(forward, operands))


def _custom_gradient(g: Any, out: Any, forward: Graph, backward: Graph, operands: Sequence[Any], results: int,
                     needs: tuple) -> list[Any]:
    """What the user's ``backward`` computes of operands, results, intermediate values, and the gradients of the results."""
    inner = [ops.detach(x) for x in out[results:]]  # constants of the derivative, as what forward leaves in ctx is
    found = _as_recorded(backward, [*operands, *out[:results], *inner, *g[:results]])
    return [[*found, *[None] * (len(operands) - len(found))]]


def _as_recorded(body: Graph, inputs: Sequence[Any]) -> list[Any]:
    """A body's ops called on symbols, on the tape where its own are."""
    if body.run is not None or not isinstance(state.handler, GraphBuilder):
        return run_body(body, inputs)
    builder, env = state.handler, dict(zip(body.inputs, inputs))
    before = builder.grad_enabled
    recorded = {n.args[0] for n in body.nodes if n.op is getitem and n.requires_grad}
    for node in body.nodes:
        builder.grad_enabled = before and (node.requires_grad or node in recorded)
        args = map_nodes(env.__getitem__, node.args)
        env[node] = args[0][args[1]] if node.op is getitem else call(node.op, args)  # type: ignore[arg-type]
    builder.grad_enabled = before
    return [map_nodes(env.__getitem__, out) for out in body.outputs]


custom_function = register(Op(
    "custom_function", parse("custom_function(Graph forward, Graph backward, Tensor[] operands, int results) -> Tensor[]"),
    "composite", _custom_infer, decompose=_custom_parts, joint_vjp=_custom_gradient, tags=frozenset({"bodies", "any_layout"}),
    doc="A function of ``autograd.Function``."))


def _once_gradient(g: Any, out: Any, self: Any, beside: Sequence[Any], needs: tuple) -> list[Any]:
    raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")


once = composite("once(Tensor self, Tensor[] beside) -> Tensor", lambda self, beside: ops.clone(self), joint_vjp=_once_gradient,
                 infer=lambda self, beside: TensorMeta(tuple(self.shape), self.dtype, self.device), tags=("by_rule",), api=(),
                 samples=lambda: [S(T((3,)), [T((2,))])], dtypes="",
                 doc="A gradient that must not be differentiated again, though it depends on ``beside``.")

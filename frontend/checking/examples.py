"""Graphs on concrete inputs: copies that alias as the originals do, and what a run gives, writes and differentiates to."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flambeau.frontend.checking.compare import Difference, alike, by_way_of, compare_arrays
from flambeau.frontend.checking.state import shaken
from flambeau.ir.graph import Graph, Node, getitem, map_nodes
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import ops, state
from flambeau.runtime.autograd import GradMode, grad, mode
from flambeau.runtime.graphs import graph_function
from flambeau.runtime.rng import default_generator
from flambeau.runtime.storage import Storage
from flambeau.runtime.tensor import Tensor, wrap

Runner = Callable[[Sequence[Tensor]], Sequence[Any]]
SHAKES = 4          # how often values are moved by rounding, before a difference is believed


class Example:
    """Inputs of a graph as they were at one call, and the state of the random numbers."""

    def __init__(self, inputs: Sequence[Tensor], needs_grad: Sequence[bool] | None = None) -> None:
        self.inputs = _copied(inputs)
        self.needs_grad = [bool(t._rg) for t in inputs] if needs_grad is None else list(needs_grad)
        self.made = [t._grad_fn is not None for t in inputs]
        self.random = default_generator().get_state()
        self.grad_mode = mode.grad

    def shaken(self, seed: int) -> Example:
        """The same with values moved by rounding."""
        found = copy(self)
        found.inputs = _copied(self.inputs)
        rng = np.random.default_rng(seed)
        for storage in {id(t._storage): t._storage for t in found.inputs}.values():
            storage.array[...] = shaken(storage.array, rng)
        return found

    def copies(self) -> tuple[list[Tensor], list[Tensor]]:
        """(fresh inputs, the leaves behind those that require a gradient)."""
        found = _copied(self.inputs)
        leaves = []
        for i, needed in enumerate(self.needs_grad):
            if needed:
                leaves.append(found[i].requires_grad_())
                if self.made[i]:
                    with GradMode(True):
                        found[i] = ops.clone(found[i])
        default_generator().set_state(self.random)
        return found, leaves


def _copied(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Leaves with the same data, strides and aliases."""
    storages: dict[int, Storage] = {}
    counts = [id(t._storage) for t in inputs]
    found = []
    for t in inputs:
        base = t._storage.array
        if counts.count(id(t._storage)) > 1 and isinstance(base, np.ndarray) and base.flags.c_contiguous:
            storage = storages.setdefault(id(t._storage), Storage(base.copy()))
            offset = t._a.__array_interface__["data"][0] - base.__array_interface__["data"][0]
            copy = Tensor(np.ndarray(t._a.shape, t._a.dtype, storage.array, offset, t._a.strides), storage)
        else:
            copy = wrap(t._a.copy(order="K"))
        copy._dtype = t._dtype
        found.append(copy)
    return found


@dataclass
class Outcome:
    """What a run of a graph gives."""

    values: list[Any]
    written: list[Any]
    gradients: list[Any] = field(default_factory=list)
    error: str = ""


def run_example(run: Runner, example: Example, differentiate: bool = True, expected: Outcome | None = None) -> Outcome:
    """Run on copies of the inputs; gradients are those of a weighted sum of all results.

    Where ``expected`` is given, memory of the sizes of its values is soiled before, so that what is not written shows.
    """
    inputs, leaves = example.copies()
    if expected is not None:
        _soil(expected)
    try:
        with GradMode(example.grad_mode):
            found = list(run(inputs))
    except Exception as error:
        return Outcome([], [], error=f"{type(error).__name__}: {error}")
    values = [_data(v) for v in found]
    written = [_data(v) for v in inputs]
    gradients: list[Any] = []
    roots = [v for v in [*found, *inputs] if isinstance(v, Tensor) and v.requires_grad and v.grad_fn is not None]
    if differentiate and roots and leaves:
        try:
            gradients = [_data(g) for g in grad(roots, leaves, [weights(r, k) for k, r in enumerate(roots)], allow_unused=True)]
        except Exception as error:
            gradients = [f"{type(error).__name__}: {error}"]
    return Outcome(values, written, gradients)


def _soil(expected: Outcome) -> None:
    """Fill freed blocks of memory, which the next arrays of these sizes will get."""
    kept = [np.full(v[0].nbytes, 0x7F, np.uint8) for v in [*expected.values, *expected.gradients] if isinstance(v, tuple)
            for _ in range(3)]
    del kept


def weights(t: Tensor, number: int) -> Tensor:
    """A gradient for a result that treats its elements differently, and those of each result."""
    n = t._a.size
    w = wrap((1.0 + 0.5 * np.cos(np.arange(n, dtype=np.float64) + number)).reshape(t._a.shape).astype(t._a.dtype))
    w._dtype = t._dtype
    return w


def _data(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value._a.copy(), value.dtype.name, bool(value.requires_grad)
    return value


def compare_outcomes(expected: Outcome, actual: Outcome, moved: Sequence[Outcome] = ()) -> Difference | None:
    """The first difference of two runs of a graph. ``moved``: what came of inputs moved by rounding."""
    if expected.error or actual.error:
        if bool(expected.error) == bool(actual.error):
            return None
        return Difference("the call", f"{actual.error or 'no error'} instead of {expected.error or 'none'}")
    for kind, one, other in (("output", expected.values, actual.values), ("written input", expected.written, actual.written),
                             ("gradient of input", expected.gradients, actual.gradients)):
        if any(isinstance(e, str) for e in one):          # it cannot be differentiated (again)
            continue
        if len(one) != len(other):
            return Difference(kind, f"{len(other)} instead of {len(one)}")
        kinds = {"output": "values", "written input": "written", "gradient of input": "gradients"}
        others = [o for o in (getattr(m, kinds[kind]) for m in moved) if len(o) == len(one)]
        for k, (e, a) in enumerate(zip(one, other)):
            text = _compare(e, a, kind, [o[k] for o in others])
            if text:
                return Difference(f"{kind} {k}", text)
    return None


def _compare(e: Any, a: Any, kind: str, moved: Sequence[Any]) -> str:
    if isinstance(e, tuple) and isinstance(a, tuple):
        if e[1] != a[1]:
            return f"dtype {a[1]} instead of {e[1]}"
        if e[2] != a[2] and kind == "output":
            return f"requires_grad is {a[2]} instead of {e[2]}"
        return compare_arrays(e[0], a[0], e[1], alike(e[0], [m[0] for m in moved if isinstance(m, tuple)]))
    if e is None and isinstance(a, tuple) or a is None and isinstance(e, tuple):  # no gradient is a gradient of zero
        return "" if not np.asarray((a or e or (0,))[0]).any() else f"{'a value' if e is None else 'none'} instead of " \
            f"{'none' if e is None else 'a value'}"
    if isinstance(e, str) and isinstance(a, str):
        return ""
    return "" if type(e) is type(a) and (e is a or bool(e == a)) else f"{a!r} instead of {e!r}"


def differs(run: Runner, graph: Graph, example: Example, expected: Outcome, recorded: bool = True) -> Difference | None:
    """How a run of a graph departs from the graph op by op, beyond what rounding in the inputs does to that."""
    differentiate = recorded
    actual = run_example(run, example, differentiate, expected)
    found = compare_outcomes(expected, actual)
    if found is None or not found.of_values:
        return found
    by_ops = reference(graph, recorded)
    shaken = [run_example(by_ops, example.shaken(k), differentiate) for k in range(SHAKES)]
    metas = [m for n in graph.walk() for m in (n.meta if isinstance(n.meta, tuple) else (n.meta,)) if isinstance(m, TensorMeta)]
    with by_way_of({m.dtype.name for m in metas}):
        return compare_outcomes(expected, actual, shaken)


# --------------------------------------------------------------------------- parts of graphs

def reference(graph: Graph, recorded: bool = True) -> Runner:
    """The graph op by op on the eager runtime."""
    run = graph_function(graph, recorded)
    return lambda inputs: run(*inputs)


def prefix(graph: Graph, k: int) -> Graph | None:
    """The graph up to its node ``k``, with that node's value as its only result; None where the node has no single one."""
    node = graph.nodes[k]
    out = node
    if node.op is not None and node.op.mutates:
        out = node.args[node.op.mutates[0]]
    if not isinstance(out, Node) or not isinstance(out.meta, TensorMeta):
        return None
    cut = Graph(graph.name, list(graph.inputs), list(graph.nodes[:k + 1]), [out])
    cut._names = dict(graph._names)
    cut.remove_dead()
    return cut


def frontier(graph: Graph, k: int) -> Graph | None:
    """The graph up to its node ``k``, with all values that nobody reads up to there as its results."""
    part = prefix(graph, k)
    if part is None:
        return None
    nodes = graph.nodes[:k + 1]
    read = {n for node in nodes for n in node.inputs}
    out = part.outputs[0]
    part.nodes = list(nodes)
    ends = [n for n in nodes if n not in read and n is not out and isinstance(n.meta, TensorMeta)]
    part.outputs = [*(n for n in ends if n.op is not None and not n.op.mutates), out]
    return part


def node_values(graph: Graph, inputs: Sequence[Tensor]) -> dict[Node, Any]:
    """The value of every node of a functional graph, off the tape."""
    env: dict[Node, Any] = dict(zip(graph.inputs, inputs))
    with GradMode(False):
        for node in graph.nodes:
            args = map_nodes(env.__getitem__, node.args)
            env[node] = args[0][args[1]] if node.op is getitem else state.handler(node.op, args)  # type: ignore[arg-type]
    return env


def stretch(graph: Graph, first: int, last: int, values: dict[Node, Any]) -> tuple[Graph, list[Tensor]] | None:
    """Nodes ``first`` to ``last`` of a functional graph as a graph of its own, and its inputs' values."""
    nodes = graph.nodes[first:last + 1]
    out = nodes[-1]
    if not isinstance(out.meta, TensorMeta):
        return None
    new = Graph(graph.name)
    env: dict[Node, Node] = {}
    given: list[Tensor] = []
    needed: set[Node] = {out}
    for node in reversed(nodes):
        if node in needed:
            needed.update(node.inputs)
    for node in nodes:
        if node not in needed:
            continue
        for source in node.inputs:
            if source in env:
                continue
            if not isinstance(source.meta, TensorMeta) or not isinstance(values.get(source), Tensor):
                return None
            env[source] = new.input(source.name, source.meta, source.requires_grad, source.loc)
            given.append(values[source])
        env[node] = new.add(node.op, map_nodes(env.__getitem__, node.args), node.meta, node.loc,  # type: ignore[arg-type]
                            node.requires_grad, stem=node.name)
    new.outputs = [env[out]]
    return new, given


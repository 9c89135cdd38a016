"""Ahead-of-time compilation of one captured graph: forward, and a backward that stays differentiable.

:func:`compile_graph` turns a graph into a function of flat eager tensors. Without gradients that is the functional
graph built by the target, then the epilogue. With gradients the joint graph is cut into a forward and a backward; the
forward's results hang on one tape node, whose backward is built by the target the first time it is needed. Under
``create_graph`` the node runs the joint graph op by op on the tape instead, so derivatives of any order are right.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from flambeau.ir.grad import zeros_of
from flambeau.ir.graph import Graph, Node
from flambeau.ir.op import Op, ops
from flambeau.ir.stage import stage
from flambeau.passes import manager
from flambeau.passes.functionalize import Functional
from flambeau.passes.joint import Joint
from flambeau.passes.layout import UnknownLayout
from flambeau.passes.partition import partition
from flambeau.passes.sizes import used_sizes
from flambeau.runtime.autograd import GradMode, GradNode, Saved, edge_of, mode
from flambeau.runtime.graphs import graph_function
from flambeau.runtime.rng import default_generator
from flambeau.runtime.tensor import Tensor, tensor_meta

Runner = Callable[[Sequence[Tensor]], Sequence[Any]]


class Target(Protocol):
    """What builds graphs of pure ops: which ops it takes whole, and the function it makes of a graph.

    The built function takes the graph's inputs (eager tensors, no tape) and returns its outputs as new tensors.
    """

    name: str

    def keep(self, op: Op) -> bool: ...

    def build(self, graph: Graph, options: dict[str, Any]) -> Runner: ...


class CompileWarning(UserWarning):
    """A graph could not be compiled for the target and runs op by op instead."""


def compile_graph(graph: Graph, target: Target, options: dict[str, Any] | None = None,
                  fullgraph: bool = False) -> Runner:
    """A function of the graph's inputs (a sequence of eager tensors) that returns its outputs as a tuple.

    ``options``: ``memory_budget`` (see ``passes.partition``), and the target's own. What cannot be compiled runs op by
    op with one :class:`CompileWarning`; with ``fullgraph`` the error is raised instead.
    """
    options = dict(options or {})
    try:
        return _compile(stage("graph", graph), target, options)
    except Exception as error:
        if fullgraph and not isinstance(error, UnknownLayout):
            raise
        return _fallback(graph, target, error)


def _compile(graph: Graph, target: Target, options: dict[str, Any]) -> Runner:
    functional = manager.functional(graph)
    if any(isinstance(o, Node) and o.requires_grad for o in functional.graph.outputs):
        return _Training(graph, functional, target, options)
    pure = manager.lowered(functional.graph, target.keep)
    run = target.build(stage("forward", pure), options)
    return _with_epilogue(graph, functional, run)


def _fallback(graph: Graph, target: Target, error: Exception, recorded: bool = True) -> Runner:
    where = next((n.loc for n in graph.nodes if n.loc), "")
    warnings.warn(f"graph {graph.name}{f' ({where})' if where else ''} runs op by op: target {target.name!r} could not "
                  f"compile it: {type(error).__name__}: {error}", CompileWarning, stacklevel=4)
    run = graph_function(graph, recorded)
    return lambda inputs: run(*inputs)


# ---- what the program does besides computing values ---------------------------------------------------------------


def _with_epilogue(graph: Graph, functional: Functional, run: Runner) -> Runner:
    """``run`` for the values, then the epilogue on the real tensors; op by op where a written input has an alias."""
    outputs, epilogue = functional.graph.outputs, functional.epilogue
    if functional.row_major:
        laid_out = [i for i, n in enumerate(functional.graph.inputs) if n.name in functional.row_major]
        usual, by_op = _with_epilogue(graph, replace(functional, row_major=frozenset()), run), graph_function(graph)
        return lambda inputs: (usual(inputs) if all(inputs[i].is_contiguous() for i in laid_out) else by_op(*inputs))
    if not epilogue.nodes and [n.name for n in epilogue.outputs if isinstance(n, Node)] == [n.name for n in outputs] and (
            len(epilogue.outputs) == len(outputs)):
        return run
    finish = graph_function(epilogue)
    pick = _picker(functional)
    written = [i for i, n in enumerate(functional.graph.inputs) if n.name in functional.written]
    if not written:
        return lambda inputs: finish(*pick(inputs, run(inputs)))
    direct = graph_function(graph)

    def run_writing(inputs: Sequence[Tensor]) -> Sequence[Any]:
        if len(inputs) > 1 and _overlap(inputs, written):
            return direct(*inputs)
        return finish(*pick(inputs, run(inputs)))

    return run_writing


def _picker(functional: Functional) -> Callable[[Sequence[Tensor], Sequence[Any]], list[Any]]:
    """The epilogue's arguments from the graph's inputs and outputs."""
    at = {n.name: (0, i) for i, n in enumerate(functional.graph.inputs)}
    at |= {n.name: (1, i) for i, n in enumerate(functional.graph.outputs)}
    places = [at[n.name] for n in functional.epilogue.inputs]
    return lambda inputs, outputs: [outputs[i] if which else inputs[i] for which, i in places]


def _overlap(inputs: Sequence[Tensor], written: list[int]) -> bool:
    """Whether a written input shares its storage with another input."""
    storages = [id(t._storage) for t in inputs]
    return any(storages.count(storages[i]) > 1 for i in written)


# ---- training -----------------------------------------------------------------------------------------------------


class _Training:
    """A graph with gradients: the built forward, and the backward to be built."""

    def __init__(self, graph: Graph, functional: Functional, target: Target, options: dict[str, Any]) -> None:
        self.source, self.target, self.options = graph, target, options
        self.joint: Joint = manager.joint_of(functional.graph)
        lowered = manager.lowered_joint(self.joint, target.keep)
        parts = partition(lowered, float(options.get("memory_budget", 1.0)))
        self.forward_graph, self.backward_graph = stage("forward", parts.forward), stage("backward", parts.backward)
        self.run_forward = target.build(self.forward_graph, options)
        self._run_backward: Runner | None = None
        self._joint_function: Callable[..., tuple] | None = None
        self._lock = threading.Lock()
        self.n_outputs = self.joint.n_outputs
        self.metas = [self.joint.graph.outputs[i].meta for i in self.joint.tangents]
        self.places = self._saved_places(parts.saved)
        self.protected = self._inputs_to_protect(functional)
        self.symbolic = bool(used_sizes(self.joint.graph))
        # What a second derivative starts from; with symbolic sizes all inputs, as any shape may be asked for.
        self.again = tuple(range(self.joint.n_inputs)) if self.symbolic else self._inputs_of_gradients()
        self.random = any("random" in n.op.tags for n in graph.nodes)  # type: ignore[union-attr]
        self.epilogue = _with_epilogue(graph, functional, self.run_values)
        if self.symbolic:  # what is assumed of the sizes on the way must be known when the guards are written
            self._run_backward = self._build_backward()

    def __call__(self, inputs: Sequence[Tensor]) -> Sequence[Any]:
        return self.epilogue(inputs)

    def run_values(self, inputs: Sequence[Tensor]) -> Sequence[Any]:
        """The functional graph's outputs, on the tape."""
        if not mode.grad:
            return self.run_forward(inputs)[:self.n_outputs]
        held = list(inputs)
        for i in self.protected:
            held[i] = _copy_with_history(inputs[i])
        state = default_generator().get_state() if self.random else None
        outs = self.run_forward(inputs)
        node = CompiledBackward(self, held, outs, state)
        results = list(outs[:self.n_outputs])
        for nr, i in enumerate(self.joint.tangents):
            t = results[i]
            t._rg, t._grad_fn, t._out_nr = True, node, nr
        return results

    def backward(self, saved: list[Tensor], grads: list[Tensor]) -> Sequence[Any]:
        run = self._run_backward
        if run is None:
            with self._lock:
                run = self._run_backward = self._run_backward or self._build_backward()
        return run([*saved, *grads])

    def recorded_joint(self) -> Callable[..., tuple]:
        """The joint graph as a function that records its backward part on the tape."""
        if self._joint_function is None:
            self._joint_function = graph_function(self.joint.graph)
        return self._joint_function

    def _build_backward(self) -> Runner:
        try:
            return self.target.build(self.backward_graph, self.options)
        except Exception as error:  # the forward has run: its gradient must come, one way or the other
            if self.options.get("fullgraph"):
                raise
            return _fallback(self.backward_graph, self.target, error, recorded=False)

    # ---- what is known once

    def _saved_places(self, count: int) -> list[tuple[bool, int]]:
        """Where the backward's saved values come from: (is an output, position)."""
        inputs = {n.name: i for i, n in enumerate(self.forward_graph.inputs)}
        outputs = {n.name: i for i, n in reversed(list(enumerate(self.forward_graph.outputs)))}
        return [(False, inputs[n.name]) if n.name in inputs else (True, outputs[n.name])
                for n in self.backward_graph.inputs[:count]]

    def _inputs_of_gradients(self) -> tuple[int, ...]:
        """The inputs whose data some gradient depends on."""
        graph, found = self.joint.graph, set()
        stack = [g for g in graph.outputs[self.n_outputs:] if g is not None]
        while stack:
            node = stack.pop()
            if node not in found:
                found.add(node)
                stack += node.inputs
        return tuple(i for i, n in enumerate(graph.inputs[:self.joint.n_inputs]) if n in found)

    def _inputs_to_protect(self, functional: Functional) -> list[int]:
        """Inputs that the epilogue overwrites although a gradient depends on what they were."""
        needed = set(self._inputs_of_gradients())
        return [i for i, n in enumerate(functional.graph.inputs) if n.name in functional.written and i in needed]


class CompiledBackward(GradNode):
    """The tape's record of one run of a compiled forward."""

    __slots__ = ("owner", "held", "saved", "state")

    def __init__(self, owner: _Training, inputs: list[Tensor], outs: Sequence[Tensor], state: Any) -> None:
        metas = [tensor_meta(outs[i]) for i in owner.joint.tangents] if owner.symbolic else owner.metas
        super().__init__([edge_of(inputs[i]) for i in owner.joint.wanted], metas)
        self.owner, self.state = owner, state
        kept = {i: Saved(inputs[i]) for i in owner.again}
        self.held: Any = [kept.get(i) for i in range(len(inputs))]
        self.saved: Any = [Saved(_bare(outs[i])) if is_output else kept[i] if i in kept else Saved(inputs[i])
                           for is_output, i in owner.places]

    def name(self) -> str:
        return "CompiledBackward"

    def apply(self, grads: list[Any], needs: list[bool]) -> list[Any]:
        if self.saved is None:
            raise RuntimeError(
                "Trying to backward through the graph a second time (or directly access saved tensors after they have "
                "already been freed). Saved intermediate values of the graph are freed when you call .backward() or "
                "autograd.grad(). Specify retain_graph=True if you need to backward through the graph a second time.")
        full = [zeros_of(m) if g is None else g for g, m in zip(grads, self.metas)]  # type: ignore[arg-type]
        if mode.grad:
            return self._recorded(full)
        return list(self.owner.backward([s.get(self) for s in self.saved], full))

    def _recorded(self, grads: list[Any]) -> list[Any]:
        """The gradients computed op by op on the tape, to be differentiated again."""
        owner = self.owner
        inputs = [_placeholder(n) if s is None else s.get(self)
                  for s, n in zip(self.held, owner.joint.graph.inputs)]
        run = owner.recorded_joint()
        if self.state is None:
            return list(run(*inputs, *grads)[owner.n_outputs:])
        generator = default_generator()
        now = generator.get_state()
        generator.set_state(self.state)  # the same random numbers as in the forward
        try:
            return list(run(*inputs, *grads)[owner.n_outputs:])
        finally:
            generator.set_state(now)

    def release(self) -> None:
        self.held = self.saved = self.state = None


def _placeholder(node: Node) -> Any:
    """A stand-in for an input that no gradient depends on."""
    return zeros_of(node.meta)


def _bare(t: Tensor) -> Tensor:
    """The same data without a place in the tape (which would be a cycle)."""
    found = Tensor(t._a, t._storage)
    found._dtype = t._dtype
    return found


def _copy_with_history(t: Tensor) -> Tensor:
    with GradMode(False):
        copy = ops.clone(t)
    copy._rg, copy._grad_fn, copy._out_nr = t._rg, t.grad_fn, t._out_nr
    return copy

"""Symbolic tensors: the handlers that record ops into a graph, or only propagate shapes."""

from __future__ import annotations

import weakref
from typing import Any

from .dtype import can_cast
from .graph import Graph, Node, getitem
from .meta import TensorMeta, meta_of
from .op import Op, state, type_name, use_handler
from .symint import DataDependentError as DataDependentError
from .tensorlike import TensorLike, ban_text
from .tree import leaves, tree_map

NOT_KNOWN = "the data of a traced tensor is not known while tracing"
#: Tags of ops whose result may share the memory of their first argument.
_VIEWS = frozenset({"view", "maybe_copy"})


class SymbolicTensor(TensorLike):
    """A tensor of known meta and unknown data."""

    __slots__ = ("shape", "dtype", "device", "requires_grad")

    def __init__(self, meta: TensorMeta, requires_grad: bool = False) -> None:
        self.shape, self.dtype, self.device = meta.shape, meta.dtype, meta.device
        self.requires_grad = requires_grad

    def _no_data(self, *_: Any, **__: Any) -> Any:
        raise DataDependentError(NOT_KNOWN)

    __bool__ = __int__ = __float__ = __complex__ = __index__ = __array__ = _no_data
    item = tolist = numpy = data_ptr = _no_data

    def __format__(self, spec: str) -> str:
        return self._no_data()


class MetaTensor(SymbolicTensor):
    """Only a meta; ops on it compute metas (``infer_call``)."""

    __slots__ = ()


class GraphTensor(SymbolicTensor):
    """The value of ``node``; ops on it append nodes to the graph that is being built.

    ``base`` is the tensor that this one is a view of, as far as the tape knows: a recorded write to either gives both a
    history. ``ban`` is why a recorded write to a view is refused (see `ban_text`).
    """

    __slots__ = ("node", "base", "ban", "_recorded", "__weakref__")

    def __init__(self, node: Node, base: GraphTensor | None = None, ban: Any = None) -> None:
        self.node, self.base, self.ban = node, base, ban
        super().__init__(node.meta, node.requires_grad)

    @property
    def requires_grad(self) -> bool:  # type: ignore[override]
        return self._recorded or (self.base is not None and self.base.requires_grad)

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._recorded = value

    def __repr__(self) -> str:
        if isinstance(state.handler, GraphBuilder):  # the traced program asks, and it would see the data
            return self._no_data()
        return f"GraphTensor({self.node.name}: {meta_of(self)})"


def tape_views(tensor: GraphTensor) -> None:
    """Record the views that ``tensor`` is made of, though there is no history: what is seen outside comes onto the tape with
    what it shows, if that is written to later."""
    while tensor.base is not None and tensor.dtype.differentiable:
        tensor.node.requires_grad = True
        tensor = tensor.base


def _meta_handler(op: Op, args: tuple) -> Any:
    found = infer_call(op, args)
    return tuple(MetaTensor(m) for m in found) if isinstance(found, tuple) else MetaTensor(found)


def infer_call(op: Op, args: tuple) -> Any:
    """The meta (or metas) of ``op(*args)``: by its rule, else by its functional op or its decomposition."""
    if op.infer is not None:
        return op.infer(*args)
    if op.functional is not None:
        return meta_of(args[op.mutates[0]])
    if op.decompose is None:
        raise NotImplementedError(f"{op.name} has neither a shape rule nor a decomposition")
    metas = tree_map(lambda a: MetaTensor(meta_of(a)) if isinstance(a, TensorLike) else a, args)
    with use_handler(_meta_handler):
        found = op.decompose(*metas)
    return tuple(meta_of(m) for m in found) if isinstance(found, (tuple, list)) else meta_of(found)


class GraphBuilder:
    """The handler that records: ``with use_handler(GraphBuilder(graph))`` ops on GraphTensors become nodes.

    ``loc`` is stamped on new nodes; ``grad_enabled`` is the traced program's grad mode. Eager tensors that are met
    become extra inputs: ``lifted`` maps each to its node (by identity).
    """

    def __init__(self, graph: Graph, loc: str = "", grad_enabled: bool = False) -> None:
        self.graph, self.loc, self.grad_enabled = graph, loc, grad_enabled
        self.lifted: dict[int, tuple[Any, Node]] = {}
        self._off_tape: list[weakref.ref[GraphTensor]] = []  # views made while what they show was off the tape

    def __call__(self, op: Op, args: tuple) -> Any:
        op.schema.check(args, _is_tensor)
        args = tree_map(self._symbolic, args)
        meta = self.infer(op, args)
        grad = self.grad_enabled and "nograd" not in op.tags and any(
            isinstance(a, GraphTensor) and a.requires_grad for a in leaves(args))
        node_args = tree_map(lambda a: a.node if isinstance(a, GraphTensor) else a, args)
        if op.mutates:
            return self._mutate(op, args, node_args, meta, grad)
        single = not isinstance(meta, tuple)
        node = self.graph.add(op, node_args, meta, self.loc, single and grad and meta.dtype.differentiable)
        base = args[0] if self.grad_enabled and "nograd" not in op.tags and not _VIEWS.isdisjoint(op.tags) else None
        base = base if isinstance(base, GraphTensor) else None
        ban = self._ban(args[0]) if args and isinstance(args[0], GraphTensor) and not _VIEWS.isdisjoint(op.tags) \
            and "nograd" not in op.tags else None
        if single:
            return self._shown(GraphTensor(node, base, ban))
        return tuple(None if m is None else self._shown(GraphTensor(self.graph.add(
            getitem, (node, i), m, self.loc, grad and m.dtype.differentiable), base, ban)) for i, m in enumerate(meta))

    def _shown(self, made: GraphTensor) -> GraphTensor:
        """What an op made, noted if a later write can put it on the tape."""
        if made.base is not None and not made.node.requires_grad and made.dtype.differentiable:
            self._off_tape.append(weakref.ref(made))
        return made

    def _ban(self, source: GraphTensor) -> Any:
        """Why recorded writes to a view of ``source`` are refused; None if they are not."""
        if source.base is not None or source.ban is not None:
            return source.ban
        return "no_grad" if source.requires_grad and not self.grad_enabled else None

    def infer(self, op: Op, args: tuple) -> Any:
        """The meta (or metas) of a call."""
        return infer_call(op, args)

    def _mutate(self, op: Op, args: tuple, node_args: tuple, meta: Any, grad: bool) -> Any:
        """An op that writes: its node stands for the write, and the written tensor keeps its identity."""
        written = args[op.mutates[0]]
        if op.functional is not None:
            _check_written(written, infer_call(op.functional, args))
            if isinstance(written, GraphTensor) and written.ban is not None and (
                    grad or (self.grad_enabled and type(written.ban) is str)):
                raise RuntimeError(ban_text(written.ban))
        grad = grad and written.dtype.differentiable
        self.graph.add(op, node_args, meta, self.loc, grad)
        shown = written if grad else None
        while shown is not None:  # what a view shows a part of has the history too, and the view must be recorded for that
            shown.requires_grad = True
            shown.node.requires_grad = shown.node.requires_grad or shown.base is not None
            shown = shown.base
        if grad and self._off_tape:
            self._follow()
        return written

    def _follow(self) -> None:
        """Views of what has come onto the tape are views that the tape knows: they must be recorded where they were made."""
        still = []
        for ref in self._off_tape:
            view = ref()
            if view is not None and view.requires_grad:
                view.node.requires_grad = True
            elif view is not None:
                still.append(ref)
        self._off_tape = still

    def _symbolic(self, value: Any) -> Any:
        if isinstance(value, TensorLike) and not isinstance(value, GraphTensor):
            return GraphTensor(self.lift(value))
        return value

    def lift(self, tensor: Any) -> Node:
        """The input that stands for an eager tensor from outside."""
        found = self.lifted.get(id(tensor))
        if found is None:
            node = self.graph.input("lifted", meta_of(tensor), tensor.requires_grad)
            found = self.lifted[id(tensor)] = (tensor, node)
        return found[1]


def _check_written(target: Any, result: Any) -> None:
    """Raise PyTorch's errors for a result that does not fit the tensor it is written to."""
    if isinstance(result, tuple):
        return
    if len(result.shape) != len(target.shape) or any(a is not b and a != b for a, b in zip(result.shape, target.shape)):
        raise RuntimeError(f"output with shape {list(target.shape)} doesn't match the broadcast shape {list(result.shape)}")
    if not can_cast(result.dtype, target.dtype):
        raise RuntimeError(f"result type {type_name(result.dtype)} can't be cast to the desired output type "
                           f"{type_name(target.dtype)}")


def _is_tensor(value: Any) -> bool:
    return isinstance(value, TensorLike)

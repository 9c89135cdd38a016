"""Replace composites by their parts, where the target does not take them as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.ir.dtype import DType, float32
from flambeau.ir.family import promotion
from flambeau.ir.graph import Graph, Node, getitem, is_view, map_bodies, map_nodes
from flambeau.ir.op import Op, ops, use_handler
from flambeau.ir.tracing import GraphBuilder, GraphTensor, infer_call
from flambeau.ir.tree import leaves, tree_map

Keep = Callable[[Op], bool]


class Decomposer(GraphBuilder):
    """Records ops as :class:`GraphBuilder` does, but the parts of those that ``keep`` does not want."""

    def __init__(self, graph: Graph, keep: Keep, grad_enabled: bool = False) -> None:
        super().__init__(graph, grad_enabled=grad_enabled)
        self.keep = keep
        self.recorded: set[Node] = set()  # nodes with several results of which some require a gradient

    def __call__(self, op: Op, args: tuple) -> Any:
        if op.decompose is not None and not self.keep(op):
            args = tree_map(self._symbolic, args)
            found = parts(op, args)
            if found is not NotImplemented:
                return found if not _rounds_once(op, args) else _as_inferred(found, infer_call(op, args))
        return super().__call__(op, args)


def decompose(graph: Graph, keep: Keep) -> Graph:
    """``graph`` in which ops that ``keep(op)`` refuses are replaced by their decompositions, recursively.

    An op whose decomposition answers ``NotImplemented`` for its arguments stays. An output that is no view does not become
    one: it has memory of its own.
    """
    new = Graph(graph.name)
    env: dict[Node, Any] = {n: new.input(n.name, n.meta, n.requires_grad, n.loc) for n in graph.inputs}
    builder = Decomposer(new, keep)
    builder.recorded = {n.args[0] for n in graph.nodes if n.op is getitem and n.requires_grad}
    own = {n for n in graph.output_nodes() if not is_view(n.op)}
    with use_handler(builder):
        for node in graph.nodes:
            env[node] = replace_node(builder, node, env)
            if node in own and isinstance(env[node], Node) and is_view(env[node].op):
                builder.loc, builder.grad_enabled = node.loc, node.requires_grad
                env[node] = ops.clone(GraphTensor(env[node])).node
    new.outputs = [map_nodes(env.__getitem__, out) for out in graph.outputs]
    return new


def replace_node(builder: Decomposer, node: Node, env: dict[Node, Any]) -> Any:
    """What stands for ``node`` in the new graph: a node, or a list of nodes for an op with several results."""
    op = node.op
    assert op is not None
    if op is getitem and isinstance(env[node.args[0]], list):
        return env[node.args[0]][node.args[1]]
    if op.family == "control":
        return _copied(builder.graph, node, env, map_bodies(lambda body: decompose(body, builder.keep), node.args))
    if op.decompose is None or builder.keep(op):
        return _copied(builder.graph, node, env)
    builder.loc, builder.grad_enabled = node.loc, node.requires_grad or node in builder.recorded
    start = len(builder.graph.nodes)
    result = parts(op, map_nodes(lambda n: _tensors(env[n]), node.args))
    if result is NotImplemented:
        del builder.graph.nodes[start:]
        return _copied(builder.graph, node, env)
    if isinstance(result, (tuple, list)):
        return [None if r is None else _as_promised(r, m) for r, m in zip(result, node.meta)]
    return _as_promised(result, node.meta)


def parts(op: Op, args: tuple) -> Any:
    """The decomposition of a call. Where eager mode runs a kernel, half precisions are rounded once, behind all parts.

    The tag "by_parts" is for products: their parts take half precisions as they are.
    """
    return op.decompose(*_alike(op, tree_map(_widened, args) if _rounds_once(op, args) else args))  # type: ignore[misc]


def _alike(op: Op, args: tuple) -> tuple:
    """Operands of several dtypes in the one that the op computes in: its parts would promote them two by two."""
    if op.promote != "default" or len({a.dtype for a in leaves(args) if isinstance(a, GraphTensor)}) < 2:
        return args
    compute = promotion(op, args)[0]
    return tree_map(lambda a: ops.cast(a, compute) if isinstance(a, GraphTensor) and a.dtype is not compute else a, args)


def _rounds_once(op: Op, args: tuple) -> bool:
    if op.kernel is None or "by_parts" in op.tags:
        return False
    return any(isinstance(a, GraphTensor) and _is_half(a.dtype) for a in leaves(args))


def _is_half(dtype: DType) -> bool:
    return dtype.is_floating_point and dtype.itemsize < 4


def _widened(a: Any) -> Any:
    return ops.cast(a, float32) if isinstance(a, GraphTensor) and _is_half(a.dtype) else a


def _as_inferred(found: Any, metas: Any) -> Any:
    if isinstance(found, (tuple, list)):
        return tuple(None if r is None else GraphTensor(_as_promised(r, m)) for r, m in zip(found, metas))
    return GraphTensor(_as_promised(found, metas))


def _tensors(value: Any) -> Any:
    return [None if n is None else GraphTensor(n) for n in value] if isinstance(value, list) else GraphTensor(value)


def _as_promised(result: GraphTensor, meta: Any) -> Node:
    """The result with the dtype of the op it stands for (parts promote by their own rules)."""
    return (result if result.dtype is meta.dtype else ops.cast(result, meta.dtype)).node


def _copied(graph: Graph, node: Node, env: dict[Node, Any], args: tuple | None = None) -> Node:
    args = map_nodes(env.__getitem__, node.args if args is None else args)
    return graph.add(node.op, args, node.meta, node.loc, node.requires_grad, stem=node.name)  # type: ignore[arg-type]

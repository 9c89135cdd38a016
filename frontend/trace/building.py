"""How the tracer records ops: what eager mode would refuse is refused while tracing."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace import drawing, overlaps, selections
from flambeau.frontend.trace.refusals import refuse_dtypes
from flambeau.ir.graph import is_view
from flambeau.ir.tracing import GraphBuilder, GraphTensor
from flambeau.runtime.autograd import mode

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer


class Builder(GraphBuilder):
    """Records ops; a write that eager would refuse is refused while tracing."""

    def __init__(self, tr: Tracer) -> None:
        super().__init__(tr.graph, grad_enabled=mode.grad)
        self.tracer = tr

    def lift(self, tensor: Any) -> Any:
        graph, self.graph = self.graph, self.tracer.graph         # whatever body is traced, an input is the whole graph's
        try:
            return super().lift(tensor)
        finally:
            self.graph = graph

    def __call__(self, op: Any, args: tuple[Any, ...]) -> Any:
        if "bodies" in op.tags:
            selections.refuse_beside_selections(self.tracer, f"{op.name}, which runs functions,")
        if op.name.startswith("as_strided") and isinstance(args[0], GraphTensor):
            args = overlaps.strided(self.tracer, args)
        found = super().__call__(op, args)
        if self.tracer.shapes.unbacked:
            selections.note_sizes(self.tracer, found)
        return found

    def laid_out(self, tensor: Any) -> Any:
        """A tensor that lies as this one will; None where that is not known."""
        return drawing.laid_out(self.tracer, tensor.node) if isinstance(tensor, GraphTensor) else None

    def infer(self, op: Any, args: tuple[Any, ...]) -> Any:
        refuse_dtypes(op.functional or op, args)
        try:
            return super().infer(op, args)
        except NotImplementedError:
            meta = selections.meta_of_selection(self.tracer, self.graph, op, args)
            if meta is None:
                raise
            return meta

    def _mutate(self, op: Any, args: tuple[Any, ...], node_args: tuple[Any, ...], meta: Any, grad: bool) -> Any:
        written = args[op.mutates[0]]
        if self.tracer.sharing.found and isinstance(written, GraphTensor):
            self.tracer.sharing.refuse_write(written.node)
        if self.grad_enabled and isinstance(written, GraphTensor) and written.requires_grad and written.ban is None:
            self._check_leaf(written.node)
        if op.functional is not None and isinstance(written, GraphTensor):
            overlaps.refuse_overlap(self.tracer, op, args)
            if grad:
                overlaps.refuse_shown(self.tracer, written.node)
                overlaps.refuse_detached(written.node)
        return super()._mutate(op, args, node_args, meta, grad)

    def _check_leaf(self, node: Any) -> None:
        view = False
        while is_view(node.op):
            node, view = node.args[0], True
        known = self.tracer.inputs.get(node)
        if known is None:
            leaf = any(v.tensor.node is node and v.tensor.requires_grad for v in self.tracer.tape.leaves.values())
        else:
            source, raw = known
            is_leaf = raw.is_leaf
            self.tracer.guard(source, (("leaf", is_leaf), lambda w, v: f"{v}.is_leaf is {is_leaf}",
                                       f"{{}} is {'a' if is_leaf else 'no'} leaf of the tape"))
            leaf = is_leaf and raw.requires_grad
        if leaf:
            raise RuntimeError(f"a {'view of a ' if view else ''}leaf Variable that requires grad is being used in an "
                               "in-place operation.")
        if known is not None:
            overlaps.refuse_view(self.tracer, source, raw)

"""Writes that eager mode refuses: to elements that share memory, beside what is read, to one of several views made together.

A graph would refuse them when it runs, after the Python around it has been traced as if it went on. So the trace looks, and
guards the inputs that it writes to.
"""
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace import drawing
from flambeau.frontend.trace.values import Unsupported
from flambeau.ir.graph import Node, root_of, source_of
from flambeau.ir.tensorlike import ban_text
from flambeau.ir.tracing import GraphTensor
from flambeau.runtime.eager import check_overlap

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer

#: Inputs beyond these are not guarded (parameters, which an optimizer writes to): the graph refuses what it must.
_GUARDED = 16
_REPEATING = frozenset({"expand", "as_strided", "broadcast_to", "unfold", "diag_embed"})


def refuse_overlap(tr: Tracer, op: Any, args: tuple[Any, ...]) -> None:
    """Raise what eager mode raises for a write whose target repeats elements, or lies partly on what is read.

    A write that it allows to a part of what repeats shows in other places too, which a graph does not know: a break.
    """
    root = root_of(args[0].node)
    known = tr.inputs.get(root)
    if known is not None:
        source, raw = known
        repeats = _repeats(raw._a)
        if not repeats and len(tr.unrepeated) < _GUARDED:
            tr.unrepeated.add(source)
            zero = 0 in raw._a.strides                            # of a dimension of size one, then
            tr.guard(source, (("repeats", zero), lambda w, v: f"0 {'' if zero else 'not '}in {v}._a.strides",
                              "no elements of {} share memory"))
    else:
        repeats = False
    for node in _chain(args[0].node):
        lies = drawing.laid_out(tr, node) if node.op.name in _REPEATING else None  # type: ignore[union-attr]
        repeats = repeats or (lies is not None and _repeats(lies._a))
    beside = [a for a in args[1:] if isinstance(a, GraphTensor) and a.node is not args[0].node and root_of(a.node) is root]
    if not repeats and not beside:
        return
    like = {a.node: drawing.laid_out(tr, a.node) for a in (args[0], *beside)}
    if None not in like.values():
        for other in like.values():
            other._storage = like[args[0].node]._storage          # type: ignore[union-attr]
        check_overlap(op.functional, tuple(like.get(a.node, a) if isinstance(a, GraphTensor) else a for a in args))
    if repeats:
        raise Unsupported("sharing", "a part of a tensor is written to whose elements share memory", "clone() it before")


def _repeats(array: Any) -> bool:
    """Whether elements may share memory: some stride is no longer than what lies within it."""
    if not array.size:
        return False
    reach = array.itemsize
    for stride, n in sorted((abs(s), n) for s, n in zip(array.strides, array.shape) if n > 1):
        if stride < reach:
            return True
        reach += (n - 1) * stride
    return False


def is_whole(tensor: Any) -> bool:
    """Whether a tensor is all of its memory, row-major."""
    return bool(tensor._a.flags.c_contiguous) and tensor._a.nbytes == tensor.untyped_storage().nbytes()


def shows_all(tr: Tracer, node: Any) -> bool:
    """Whether what a node is a view of is all of its memory, row-major, so that a graph knows it. Inputs are guarded to be."""
    root = root_of(node)
    known = tr.inputs.get(root)
    if known is None:
        like = drawing.laid_out(tr, root)
        return like is not None and like.is_contiguous()
    whole = is_whole(known[1])
    if whole:
        tr.guard(known[0], (("whole", True), lambda w, v: f"{w.constant(is_whole)}({v})", "{} is all of its memory"))
    return whole


def strided(tr: Tracer, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of `as_strided`, which looks at memory, as if it were called on what the tensor is a view of: more than
    there is is refused as eager mode refuses it."""
    given, size, stride, start = (*args, None)[:4]
    root, whole = root_of(given.node), given
    if not shows_all(tr, root):
        raise Unsupported("tensor-attribute", "as_strided() of a tensor that does not lie row-major, or is a part of its memory",
                          "index it, or call as_strided() outside the compiled function")
    if given.node is not root:
        while whole.base is not None:
            whole = whole.base
        start = _start(tr, given.node, root) if start is None else start
        if start is None or whole.node is not root or given.requires_grad or root.meta.dtype is not given.dtype:
            raise Unsupported("tensor-attribute", "as_strided() of a view looks at memory that the view does not show",
                              "call it on the whole tensor, or outside the compiled function")
    if all(n > 0 for n in size) and (start or 0) + sum((n - 1) * s for n, s in zip(size, stride)) >= math.prod(
            root.meta.shape):
        raise RuntimeError("as_strided() looks beyond the tensor's memory")
    return whole, size, stride, start


def _start(tr: Tracer, node: Node, root: Node) -> int | None:
    """Where a view starts in what it is a view of, in elements; None if that is not known or not the same for each size."""
    if any(type(n) is not int for n in (*node.meta.shape, *root.meta.shape)):
        return None
    view, whole = drawing.laid_out(tr, node), drawing.laid_out(tr, root)
    if view is None or whole is None:
        return None
    return (view._a.__array_interface__["data"][0] - whole._a.__array_interface__["data"][0]) // whole._a.itemsize


def refusal(tensor: Any) -> str:
    """Why recorded writes to what may be a view are refused; "" if they are not."""
    view = tensor._view
    if view is None:
        return ""
    if view.ban is not None:
        return ban_text(view.ban)
    leaf = view.base.requires_grad and view.base.is_leaf
    return "a view of a leaf Variable that requires grad is being used in an in-place operation." if leaf else ""


def refuse_view(tr: Tracer, source: Any, raw: Any) -> None:
    """Raise what eager mode raises for a recorded write to an input that is a view made outside."""
    text = refusal(raw)
    tr.guard(source, (("written view", text), lambda w, v: f"{w.constant(refusal)}({v}) == {text!r}",
                      "recorded writes to {} are " + ("refused" if text else "not refused")))
    if text:
        raise RuntimeError(text)


def is_shown_elsewhere(tensor: Any) -> bool:
    """Whether a recorded write to a tensor off the tape puts other tensors on it: what it is a view of, or its views."""
    if tensor._view is not None:
        return not tensor._rg
    views = (ref() for ref in tensor._storage.views or ())
    return any(t is not None and t._view is not None and t._view.base is tensor and not t._rg for t in views)


def refuse_shown(tr: Tracer, node: Any) -> None:
    """End the graph where a recorded write to an input puts tensors on the tape that the trace may know to be off it."""
    known = tr.inputs.get(root_of(node))
    if known is None or known[1]._rg:
        return
    source, raw = known
    if is_shown_elsewhere(raw):
        raise Unsupported("sharing", "a write that is recorded puts another tensor on the tape, which shares memory with "
                          "what is written to", "pass a clone()")
    tr.guard(source, (("shown elsewhere", False), lambda w, v: f"not {w.constant(is_shown_elsewhere)}({v})",
                      "{} is no view, and has none that a write would put on the tape"))


def refuse_detached(node: Node) -> None:
    """End the graph where a recorded write goes through a view that is off the tape: it gives a history to that view alone."""
    if any("nograd" in n.op.tags for n in _chain(node)):          # type: ignore[union-attr]
        raise Unsupported("sharing", "a write that is recorded goes to a detached tensor, which shares memory with another",
                          "write to a clone() of the detached tensor")


def is_outdated(tr: Tracer, node: Any) -> bool:
    """Whether what a view shows a part of is written to after it."""
    root, nodes = root_of(node), tr.graph.nodes
    return any(n.op is not None and n.op.mutates and root_of(n) is root for n in nodes[nodes.index(node) + 1:])


def with_ban(tensor: Any, ban: Any, outdated: bool) -> Any:
    """A graph's output to which recorded writes are refused, as they are to the view that the program makes; and which must
    not be used on the tape any more if what it shows has been written to."""
    view = getattr(tensor, "_view", None)
    if view is not None:
        view.ban = ban
        if outdated:
            view.version = -1
    return tensor


def _chain(node: Node) -> list[Node]:
    """The views on the way from what a node shows to it."""
    found = []
    while (source := source_of(node)) is not None:
        found.append(node)
        node = source
    return found

"""Branches and loops of the traced code: their functions as graphs of their own, and the one step that takes those.

A body is traced where the call stands: guards, globals and modules are those of the whole trace. What it reads of the graphs
around it becomes operands of the step. What it would change outside itself has no place in a graph, and ends the trace.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.tensors import ModeValue
from flambeau.frontend.trace.values import Observed, Unsupported, Value
from flambeau.ir.graph import Graph, Node, map_nodes, root_of
from flambeau.ir.meta import TensorMeta, meta_of
from flambeau.ir.op import get_op, ops
from flambeau.ir.tensorlike import TensorLike
from flambeau.ir.tracing import GraphTensor
from flambeau.ir.tree import leaves
from flambeau.runtime.batched import Batched
from flambeau.runtime.control import both
from flambeau.runtime.levels import levels
from flambeau.runtime.traced import Traced

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer


class Body:
    """A function traced into a graph: its own inputs, and the values of other graphs that it reads."""

    def __init__(self, graph: Graph, outputs: list[Any]) -> None:
        self.graph, self.outputs = graph, outputs
        self.born: set[str] = set()                              # symbols of sizes that its own data decides
        own = {*graph.inputs, *graph.nodes}
        used = [n for node in graph.nodes for n in node.inputs] + [n for n in graph.output_nodes()]
        self.free = list(dict.fromkeys(n for n in used if n not in own))

    def closed(self, free: Sequence[Node]) -> Graph:
        """The graph with an input for each of ``free`` behind its own."""
        graph = self.graph
        env = {n: graph.input(n.name, n.meta, n.requires_grad, n.loc) for n in free}
        for node in graph.nodes:
            node.args = map_nodes(lambda n: env.get(n, n), node.args)
        graph.outputs = map_nodes(lambda n: env.get(n, n), graph.outputs)
        return graph


class Bodies:
    """What `runtime.control` hands its calls to while a program is traced. Functions take and return lists of tensors."""

    def __init__(self, tr: Tracer) -> None:
        self.tr = tr

    # ---- the ops

    def cond(self, pred: Any, true_fn: Callable[..., list[Any]], false_fn: Callable[..., list[Any]],
             operands: Sequence[Any]) -> list[Any]:
        if isinstance(pred, Batched):
            return both(pred, true_fn, false_fn, operands)
        self.refuse_levels("cond")
        given = [_symbol(x) for x in operands]
        true, false = (self.trace(fn, given, f"the {what} branch of cond")
                       for fn, what in ((true_fn, "true"), (false_fn, "false")))
        if len(true.outputs) != len(false.outputs):
            raise _mismatch("cond", f"its branches return {len(true.outputs)} and {len(false.outputs)} values")
        for a, b in zip(true.outputs, false.outputs):
            _same_kind("cond", "the true branch returns", a, "the false branch", b)
        free = list(dict.fromkeys(self.carried_sizes([true, false], [*true.free, *false.free], given)))
        found = self.step("cond", _symbol(pred), true.closed(free), false.closed(free), [*given, *map(GraphTensor, free)])
        for body in (true, false):
            note_sharing(self.tr, body, [*(x.node for x in given), *free], [x.node for x in found], "a result of cond")
        return _filled(true.outputs, found)

    def while_loop(self, cond_fn: Callable[..., Any], body_fn: Callable[..., list[Any]], carried: Sequence[Any]) -> list[Any]:
        self.refuse_levels("while_loop")
        given = [self.number(x) for x in carried]
        test = self.trace(lambda *values: [_truth(self, cond_fn(*values))], given, "the condition of while_loop")
        body = self.settled(body_fn, given, [], len(given), "the body of while_loop")
        if len(body.outputs) != len(given):
            raise _mismatch("while_loop", f"its body returns {len(body.outputs)} values for {len(given)} carried ones")
        for a, b in zip(given, body.outputs):
            _same_kind("while_loop", "a carried value was", a, "the body returns", b)
        free = list(dict.fromkeys(self.carried_sizes([test, body], [*test.free, *body.free], given)))
        found = self.step("while_loop", test.closed(free), body.closed(free), given, [GraphTensor(n) for n in free])
        note_sharing(self.tr, body, [*(x.node for x in given), *free], [x.node for x in found], "a result of while_loop",
                     len(given))
        return found

    def scan(self, combine_fn: Callable[..., list[Any]], init: Sequence[Any], xs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        if levels.active:
            return self.unrolled(combine_fn, init, xs)
        given, rows = [_symbol(x) for x in init], [_symbol(x) for x in xs]
        for x in rows:
            if x.shape[0] != rows[0].shape[0]:
                raise RuntimeError(f"scan: all xs leaves must be of one length, got {[tuple(x.shape) for x in rows]}")
        body = self.settled(combine_fn, given, rows, len(given), "the function of scan" if init else "the function of map")
        for a, b in zip(given, body.outputs):
            _same_kind("scan", "the carry was", a, "combine_fn returns", b)
        free = list(dict.fromkeys(self.carried_sizes([body], body.free, given)))
        found = self.step("scan", body.closed(free), given, rows, [GraphTensor(n) for n in free])
        note_sharing(self.tr, body, [*(x.node for x in (*given, *rows)), *free], [x.node for x in found[:len(given)]],
                     "the last carry of scan", len(given))
        return found[:len(given)], _filled(body.outputs[len(given):], found[len(given):])

    def unrolled(self, combine_fn: Callable[..., list[Any]], init: Sequence[Any], xs: Sequence[Any]
                 ) -> tuple[list[Any], list[Any]]:
        """Inside a transform: as many rounds as there are, each in steps of the graph."""
        carried, rows = list(init), []
        for i in range(int(xs[0].shape[0])):
            found = combine_fn(*carried, *(ops.select(x, 0, i) for x in xs))
            carried = found[:len(init)]
            rows.append(found[len(init):])
        return carried, [ops.stack(list(column), 0) for column in zip(*rows)]

    def step(self, name: str, *args: Any) -> list[Any]:
        return list(self.tr.builder(get_op(name), args if name != "scan" else (*args, False, False)))

    def refuse_levels(self, name: str) -> None:
        if levels.active:
            raise Unsupported("control-flow", f"{name} on data is called inside {levels.active[-1].name}",
                              "call the transform inside its functions, or select with where()")

    def number(self, x: Any) -> GraphTensor:
        """A carried value: an int becomes a tensor."""
        if isinstance(x, TensorLike):
            return _symbol(x)
        raise Unsupported("control-flow", "while_loop carries a Python number",
                          f"carry a tensor: torch.tensor({x})")

    # ---- tracing a body

    def settled(self, fn: Callable[..., list[Any]], carried: Sequence[GraphTensor], rows: Sequence[GraphTensor], count: int,
                what: str) -> Body:
        """The body of a loop, in which a carried value is on the tape if any round puts it there."""
        flags = [x.requires_grad for x in carried]
        while True:
            stand_ins = [_like(x, flag) for x, flag in zip(carried, flags)]
            body = self.trace(fn, [*stand_ins, *(_like(x, x.requires_grad, row=True) for x in rows)], what)
            found = [flag or isinstance(out, GraphTensor) and out.requires_grad for flag, out in zip(flags, body.outputs)]
            if found == flags:
                return body
            flags = found

    def trace(self, fn: Callable[..., list[Any]], like: Sequence[GraphTensor], what: str) -> Body:
        """`fn` as a graph, given values like these."""
        tr = self.tr
        graph, outer, nested = Graph("body"), tr.builder.graph, tr.nested
        barrier, before = tr.effects.barrier, tr.builder.grad_enabled
        shapes, known, counted = tr.shapes, dict(tr.shapes.unbacked), dict(tr.shapes.selected)
        symbols = [GraphTensor(graph.input(x.node.name, meta_of(x), x.requires_grad, tr.where())) for x in like]
        tr.builder.graph, tr.nested = graph, what
        tr.effects.barrier = inner = Barrier(tr, what, barrier)
        try:
            found = fn(*(tr.recorder.dressed(s) for s in symbols))
        except Observed as error:                                 # the program may never come here
            raise Unsupported("control-flow", f"{what} raises {error.value.pytype().__name__}") from error
        except Unsupported as error:
            if error.code != "raises":
                raise
            raise Unsupported("control-flow", f"in {what}, {error.why}") from error
        finally:
            inner.lift()
            tr.builder.graph, tr.nested, tr.effects.barrier = outer, nested, barrier
            tr.builder.grad_enabled = before
            born, shapes.unbacked, shapes.selected = set(shapes.unbacked) - set(known), known, counted
        outputs = [_symbol(x) if isinstance(x, TensorLike) else x for x in found]
        graph.outputs = [x.node for x in outputs if isinstance(x, GraphTensor)]
        self.check_writes(graph, what)
        body = Body(graph, outputs)
        body.born = born
        return body

    @staticmethod
    def check_writes(graph: Graph, what: str) -> None:
        """Raise for a write to a tensor that the body did not make."""
        own = set(graph.nodes)
        for node in graph.nodes:
            if node.op.mutates:                                   # type: ignore[union-attr]
                target = root_of(node.args[node.op.mutates[0]])   # type: ignore[union-attr]
                if target not in own:
                    raise Unsupported("control-flow", f"{what} writes to the tensor {target.name}, which it did not make",
                                      "write to a clone() of it, and return what changed")

    def carried_sizes(self, found: Sequence[Body], free: Sequence[Node], given: Sequence[GraphTensor]) -> list[Node]:
        """``free``, and values that show the sizes that the bodies speak of."""
        shapes = self.tr.shapes
        if shapes.env is None:
            return list(free)
        wanted = {s for body in found for s in self.sizes_of(body) - body.born}
        shown = {s for x in (*(g.node for g in given), *free) for d in x.meta.shape for s in shapes.names(d) if str(d) == s}
        more = []
        for name in sorted(wanted - shown):
            tensor = shapes.unbacked.get(name, (None, 0))[0]
            node = tensor.node if isinstance(tensor, GraphTensor) else next(
                (n for n in self.tr.graph.inputs if any(str(d) == name for d in n.meta.shape)), None)
            if node is None:
                raise Unsupported("control-flow", "a branch or loop depends on an int that changes between calls",
                                  "pass a tensor of that size among the operands")
            more.append(node)
        return [*free, *more]

    def sizes_of(self, body: Body) -> set[str]:
        """The symbols that a body speaks of."""
        names = self.tr.shapes.names
        return {s for node in body.graph.walk() for part in (_shapes(node.meta), leaves(node.args)) for size in part
                for s in names(size)}


class Barrier:
    """Refuses changes, while a body is traced, to what was there before it."""

    def __init__(self, tr: Tracer, what: str, outer: Any) -> None:
        self.what = what
        roots = [v for frame in tr.frames for v in (*frame.locals.values(), *frame.cells.values(), *frame.stack)]
        self.before = _reached([*roots, *tr.known.values(), *tr.tensors.values()])
        if outer is not None:
            self.before |= outer.before
        # An iterator from before must not move on: each of them is told so for as long as the body is traced.
        self.stopped = [v for v in self.before.values() if type(v).next is not Value.next and "next" not in vars(v)]
        for iterator in self.stopped:
            vars(iterator).update(next=self.refuse_next, resume=self.refuse_next)

    def lift(self) -> None:
        """The body has been traced."""
        for iterator in self.stopped:
            del iterator.next, iterator.resume                   # type: ignore[attr-defined]

    def refuse_next(self, *_: Any) -> Any:
        raise Unsupported("control-flow", f"{self.what} advances an iterator from outside itself",
                          "make a list of its items before")

    def __call__(self, value: Value) -> None:
        if isinstance(value, ModeValue):
            return                                                # set and set back: what is left set is seen at the end
        if value.source is not None or id(value) in self.before:
            raise Unsupported("control-flow", f"{self.what} changes a {value.pytype().__name__} outside itself",
                              "return the new value instead")


def _reached(roots: list[Value]) -> dict[int, Value]:
    found: dict[int, Value] = {}
    stack = list(roots)
    while stack:
        value = stack.pop()
        if isinstance(value, Value) and id(value) not in found:
            found[id(value)] = value
            stack += value.children()
    return found


def note_sharing(tr: Tracer, body: Body, given: Sequence[Node], results: Sequence[Node], what: str, carried: int = 0) -> None:
    """Tell which results of a step share memory with what it was `given`, or with each other, when eager mode runs it.

    The first `carried` inputs take the values of the first results in the next round.
    """
    inputs = body.graph.inputs
    roots = [root_of(n) for n in body.graph.outputs[:len(results)]]
    for i, (root, result) in enumerate(zip(roots, results)):
        others, at = [results[j] for j in range(i) if roots[j] is root], root
        while at in inputs and given[inputs.index(at)] not in others:
            place = inputs.index(at)
            others.append(given[place])
            at = roots[place] if place < carried else at
        tr.sharing.add(result, others, what)


# --------------------------------------------------------------------------- values and metas

def _symbol(x: Any) -> GraphTensor:
    if isinstance(x, Traced):
        return x.symbol
    assert isinstance(x, GraphTensor), x
    return x


def _like(x: GraphTensor, requires_grad: bool, row: bool = False) -> GraphTensor:
    """A stand-in for a value, or for a slice of it along dimension 0."""
    meta = meta_of(x)
    node = Node(x.node.name, None, (), meta.with_shape(meta.shape[1:]) if row else meta, "", requires_grad)
    return GraphTensor(node)


def _truth(bodies: Bodies, pred: Any) -> Any:
    if isinstance(pred, TensorLike):
        if tuple(pred.shape) or pred.dtype.kind != "b":
            raise RuntimeError(f"cond_fn must return a boolean scalar tensor or a boolean but got a tensor of shape "
                               f"{tuple(pred.shape)} and dtype {pred.dtype}")
        return pred
    raise Unsupported("control-flow", f"the condition of while_loop is {pred!r} whatever the data",
                      "return a tensor of one bool")


def _same_kind(name: str, first: str, a: Any, second: str, b: Any) -> None:
    """Raise where two values that must be alike differ in dtype, shape or device, or are different constants."""
    if not (isinstance(a, GraphTensor) and isinstance(b, GraphTensor)):
        if isinstance(a, GraphTensor) or isinstance(b, GraphTensor) or type(a) is not type(b) or a != b:
            raise _mismatch(name, f"{first} {_shown(a)} and {second} {_shown(b)}")
        return
    one, other = meta_of(a), meta_of(b)
    if one.dtype is not other.dtype or one.device != other.device or len(one.shape) != len(other.shape) or any(
            x is not y and x != y for x, y in zip(one.shape, other.shape)):
        raise _mismatch(name, f"{first} {one} and {second} {other}")


def _shown(x: Any) -> str:
    return str(meta_of(x)) if isinstance(x, GraphTensor) else repr(x)


def _mismatch(name: str, what: str) -> Unsupported:
    return Unsupported("control-flow", f"{name}: {what}", "make dtype and shape the same, with to() or expand()")


def _filled(outputs: Sequence[Any], found: Sequence[Any]) -> list[Any]:
    """The results of a step at the places of the tensors among a body's outputs; constants stay."""
    rest: Iterator[Any] = iter(found)
    return [next(rest) if isinstance(x, GraphTensor) else x for x in outputs]


def _shapes(meta: Any) -> Iterator[Any]:
    for m in meta if isinstance(meta, tuple) else (meta,):
        if isinstance(m, TensorMeta):
            yield from m.shape

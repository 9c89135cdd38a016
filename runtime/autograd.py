"""The tape: nodes that know how to turn gradients of outputs into gradients of inputs, and the engine that runs them.

A node's ``edges`` point to where its gradients go: ``(node, output number)``, a leaf tensor, or None. Nodes carry rising
sequence numbers, so running them in falling order is a topological order without counting dependencies.
"""

from __future__ import annotations

import heapq
import itertools
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flambeau.ir.autocast import Autocast
from flambeau.ir.device import cpu
from flambeau.ir.grad import fit_gradient, fit_gradients, zeros_of
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import Op, call, ops, state, use_handler

from . import off_tape
from .autocast import AutocastMode
from .hooks import HookHandle, register_hook, register_post_accumulate_grad_hook
from .quiet import hush, restore
from .storage import Storage

if TYPE_CHECKING:
    from .tensor import Tensor

_sequence = itertools.count()


class _Mode(AutocastMode):
    inference = False
    step: Any = None  # runs a node of the tape in place of `_run_node`, where somebody watches (detect_anomaly)
    run: Any = None  # the backward pass that is running

    def __init__(self) -> None:  # once in each thread: an attribute of its own is found faster than the class's
        self.grad = True


mode = _Mode()


class GradMode:
    """Context manager and decorator that sets whether operations are recorded."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(mode.grad)
        mode.grad = self.enabled

    def __exit__(self, *_: Any) -> None:
        mode.grad = self._before.pop()


# ---- nodes ---------------------------------------------------------------------------


class GradNode:
    """A step of the tape (PyTorch: ``torch.autograd.graph.Node``). Subclasses implement :meth:`apply`."""

    pre_hooks: dict[int, dict[int, Callable]] | None = None  # output number -> tensor hooks
    post_hooks: dict[int, Callable] | None = None
    retained: dict[int, Any] | None = None  # output number -> weak tensor whose .grad is kept

    def __init__(self, edges: Sequence[Any], metas: Sequence[TensorMeta | None]) -> None:
        self.edges = edges
        self.metas = metas  # of the outputs, to make zeros for those that got no gradient
        self.seq = next(_sequence)

    def apply(self, grads: list[Any], needs: list[bool]) -> list[Any]:
        """Gradients aligned with ``edges`` for the outputs' gradients ``grads`` (None: zero)."""
        raise NotImplementedError

    def release(self) -> None:
        """Drop what was saved for the backward pass."""

    def name(self) -> str:
        return type(self).__name__

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """The nodes this one's gradients go to, with output numbers."""
        return tuple((None, 0) if e is None else e if isinstance(e, tuple) else (AccumulateGrad.of(e), 0) for e in self.edges)

    @property
    def metadata(self) -> dict[str, Any]:
        """What the user notes of the node."""
        return self.__dict__.setdefault("_metadata", {})

    def _sequence_nr(self) -> int:
        return self.seq

    def register_hook(self, fn: Callable) -> HookHandle:
        """Call ``fn(grad_inputs, grad_outputs)`` after the node ran; what it returns replaces ``grad_inputs``."""
        self.post_hooks = {} if self.post_hooks is None else self.post_hooks
        return HookHandle(self.post_hooks, fn)

    def register_prehook(self, fn: Callable) -> HookHandle:
        """Call ``fn(grad_outputs)`` before the node runs; what it returns replaces ``grad_outputs``."""
        self.pre_hooks = {} if self.pre_hooks is None else self.pre_hooks
        return HookHandle(self.pre_hooks.setdefault(-1, {}), fn)

    def __repr__(self) -> str:
        return f"<{self.name()} object at {hex(id(self))}>"


class AccumulateGrad(GradNode):
    """What ``next_functions`` shows where gradients reach a leaf; its hooks are the leaf's."""

    def __init__(self, variable: Tensor) -> None:
        self.variable, self.edges, self.metas, self.seq = variable, (), (None,), 2**63 - 1

    @classmethod
    def of(cls, leaf: Tensor) -> AccumulateGrad:
        """The leaf's one (which lives as long as somebody holds it)."""
        ref = leaf.__dict__.get("_accumulate_grad")
        found = None if ref is None else ref()
        if found is None:
            found = cls(leaf)
            leaf.__dict__["_accumulate_grad"] = weakref.ref(found)
        return found

    def name(self) -> str:
        return "torch::autograd::AccumulateGrad"

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {hex(id(self))}>"

    def register_hook(self, fn: Callable) -> HookHandle:
        """Call ``fn((), (grad,))`` after the gradient was added to the leaf's."""
        return register_post_accumulate_grad_hook(self.variable, lambda leaf: fn((), (leaf._grad,)))

    def register_prehook(self, fn: Callable) -> HookHandle:
        """Call ``fn((grad,))`` before the gradient is added; what it returns replaces it."""
        return register_hook(self.variable, lambda g: None if (found := fn((g,))) is None else _as_tuple(found)[0])


class Saved:
    """An input kept for the backward pass, with the version its data had."""

    __slots__ = ("tensor", "version")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.version = tensor, tensor._storage.version

    def get(self, node: GradNode) -> Tensor:
        if self.tensor._storage.version != self.version:
            raise _stale(node, self.tensor, self.version)
        return self.tensor


class SavedOutput:
    """An output kept for the backward pass: everything but the tensor itself, which would make a cycle."""

    __slots__ = ("array", "storage", "nr", "version")

    def __init__(self, tensor: Tensor, nr: int) -> None:
        self.array, self.storage, self.nr = tensor._a, tensor._storage, nr
        self.version = tensor._storage.version

    def get(self, node: GradNode) -> Tensor:
        if self.storage.version != self.version:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: "
                f"[{list(self.array.shape)}], which is output {self.nr} of {node.name()}, is at version "
                f"{self.storage.version}; expected version {self.version} instead. Hint: use the out-of-place form of "
                "the operation that changed it.")
        t = tensor_class(self.array, self.storage)
        t._rg, t._grad_fn, t._out_nr = True, node, self.nr
        return t


class _Outputs(tuple):
    """The outputs kept of an op with several, for its derivative rule: each is looked at when the rule reads it, so that the
    program may have written to one that the rule does not need."""

    node: Any

    def __getitem__(self, nr: Any) -> Any:
        if isinstance(nr, slice):
            return tuple([self[k] for k in range(*nr.indices(len(self)))])
        found = tuple.__getitem__(self, nr)
        return found.get(self.node) if type(found) is SavedOutput else found

    def __iter__(self) -> Any:
        return (self[nr] for nr in range(len(self)))


gradients: Callable[[Op, tuple[bool, ...], Any, Any, tuple], list[Any]] = Op.gradients  # set by runtime.eager
tensor_class: Any = None  # set by runtime.eager: the Tensor class (which imports this module)


class _Like:
    """Stands for an argument whose shape, dtype and device are those of the output, and whose data nobody needs."""


LIKE = _Like()


class OpNode(GradNode):
    """The tape's record of one op call.

    ``args`` are the call's arguments: tensors whose data the derivative reads as they are, of others only the meta (or
    :data:`LIKE`). ``saved`` lists those tensors with the versions they had. ``edges`` are a tuple where the op has one
    result and each tensor parameter one edge.
    """

    __slots__ = ("op", "needs", "seq", "args", "edges")  # what every node has: stored faster than in a dict

    like = True  # whether LIKE may be among the arguments
    # of a node whose output says all that the derivative asks (runtime.fast):
    metas: Sequence[Any] = (None,)
    saved: Sequence[tuple[Any, int]] = ()
    out: Any = LIKE

    def __init__(self, op: Op, args: tuple, edges: Sequence[Any], needs: tuple[bool, ...], metas: Sequence[Any],
                 saved: Sequence[tuple[Any, int]] = ()) -> None:
        self.like = False
        self.edges, self.metas, self.seq = edges, metas, next(_sequence)
        self.op, self.needs = op, needs
        self.args: Any = args
        self.out = None
        self.saved = saved

    def name(self) -> str:
        if self.op.extra.get("grad_name"):
            return self.op.extra["grad_name"]
        from .node_names import node_name  # noqa: PLC0415 - only who asks for a name pays for the table
        return node_name(self)

    def __getattr__(self, name: str) -> Any:
        """``_saved_NAME``: what is kept of an argument, or ``_saved_result``."""
        if not name.startswith("_saved_"):
            raise AttributeError(f"'{type(self).__name__}' object has no attribute {name!r}")
        from .node_names import saved_value  # noqa: PLC0415 - as above
        return saved_value(self, name[7:], (_Like, TensorMeta))

    def apply(self, grads: list[Any], needs: list[bool]) -> list[Any]:
        if len(grads) == 1 and type(self.out) is not tuple:
            found, args = self.rules(grads[0])
        else:
            args = self.kept()
            out: Any = tuple([o.get(self) if type(o) is SavedOutput and o.storage.version == o.version else o for o in self.out])
            if any(type(o) is SavedOutput for o in out):          # written to since
                out = _Outputs(out)
                out.node = self
            full = tuple(zeros_of(m) if g is None and m is not None else g for g, m in zip(grads, self.metas))
            found = gradients(self.op, self.needs, full, out, args)
        return _fitted(self.op, found, args)

    def rules(self, g: Any) -> tuple[list[Any], tuple]:
        """What the derivative rules of an op with one result make of its gradient, and the arguments they saw."""
        args, out = self.args if not self.saved else self.kept(), self.out
        if args is None:
            args = self.kept()
        if self.like:
            args = tuple([g if a is LIKE else a for a in args])
        out = g if out is LIKE else out.get(self) if type(out) is SavedOutput else out
        return gradients(self.op, self.needs, g, out, args), args

    def kept(self) -> tuple:
        """The arguments. Raises ``RuntimeError`` where they are gone, or their data was changed."""
        if self.args is None:
            raise RuntimeError(
                "Trying to backward through the graph a second time (or directly access saved tensors after they have "
                "already been freed). Saved intermediate values of the graph are freed when you call .backward() or "
                "autograd.grad(). Specify retain_graph=True if you need to backward through the graph a second time.")
        for t, version in self.saved:
            if t._storage.version != version:
                raise _stale(self, t, version)
        return self.args

    def step(self, run: _Run, g: Any) -> None:
        """Send on what becomes of the gradient of the one result, where each tensor parameter has one edge."""
        found, args = self.rules(g)
        a = g._a
        for slot, edge, r in zip(self.op.tensor_slots, self.edges, found):
            if r is None or edge is None:
                continue
            if r is not g:
                b = r._a
                like = args[slot]
                if like is not g or b.shape != a.shape or b.dtype is not a.dtype:
                    r = _fitted_one(r, like)
            elif args[slot] is not g:
                r = _fitted_one(r, args[slot])
            run.send(edge, r)

    def release(self) -> None:
        out = self.out
        if self.saved or type(out) is SavedOutput or (type(out) is tuple and any(type(o) is SavedOutput for o in out)):
            self.args = self.out = None
            self.saved = ()


def _fitted(op: Op, found: list[Any], args: tuple) -> list[Any]:
    """``fit_gradients``, with a short way for gradients that fit already."""
    flat: list[Any] = []
    for slot, g in zip(op.tensor_slots, found):
        a = args[slot]
        if g is a:
            flat.append(None if type(a) is list or not hasattr(a, "dtype") else g)
        elif type(a) is list or type(a) is tuple:
            return fit_gradients(op, found, args)
        elif g is None or not hasattr(a, "dtype"):
            flat.append(None)
        else:
            flat.append(_fitted_one(g, a))
    return flat


def _fitted_one(g: Any, like: Any) -> Any:
    """``fit_gradient``, with a short way for one that fits."""
    own, array = like._a if isinstance(like, tensor_class) else like, g._a
    fits = array.shape == own.shape and (array.dtype is own.dtype or g.dtype is like.dtype)
    return g if fits else fit_gradient(g, like)


def _stale(node: GradNode, t: Tensor, version: int) -> RuntimeError:
    return RuntimeError(
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        f"[{t.dtype} {list(t.shape)}], which is an input of {node.name()}, is at version "
        f"{t._storage.version}; expected version {version} instead. Hint: change it before it is used, or "
        "use the out-of-place form of the operation that changed it.")


# ---- recording ---------------------------------------------------------------------------


def edge_of(t: Any) -> Any:
    """Where gradients of ``t`` go."""
    if not t._rg:
        return None
    fn = t._grad_fn if t._view is None else t.grad_fn
    return t if fn is None else (fn, t._out_nr)


def record(op: Op, args: tuple, result: Any, saved_self: Any = None) -> OpNode:
    """Make ``result`` (a tensor or tuple) outputs of a new tape node for ``op(*args)``.

    ``saved_self`` stands for the first argument where an in-place op has already overwritten it.
    """
    edges, needs = [], []
    for slot in op.tensor_slots:
        a = args[slot]
        if isinstance(a, (list, tuple)):
            found = [edge_of(x) if isinstance(x, tensor_class) else None for x in a]
            edges += found
            needs.append(any(e is not None for e in found))
        else:
            e = edge_of(a) if isinstance(a, tensor_class) else None
            edges.append(e)
            needs.append(e is not None)
    key = tuple(needs)
    save_out, save_args = op.saves(key)
    saved: list[tuple[Any, int]] = []
    kept = tuple([_keep(a, s, saved) for a, s in zip(args, save_args)])
    if saved_self is not None:
        saved = [pair for pair in saved if pair[0] is not args[0]]
        kept = (_keep(saved_self, save_args[0], saved), *kept[1:])
    outs = result if isinstance(result, tuple) else (result,)
    node = OpNode(op, kept, edges, key, [_meta(o) for o in outs], tuple(saved))
    for nr, o in enumerate(outs):
        if o is not None and o.dtype.differentiable:
            o._rg, o._grad_fn, o._out_nr = True, node, nr
    held = tuple(SavedOutput(o, nr) if save_out and o is not None else m
                 for nr, (o, m) in enumerate(zip(outs, node.metas)))
    node.out = held if isinstance(result, tuple) else held[0]
    return node


def _keep(a: Any, data: bool, saved: list[tuple[Any, int]]) -> Any:
    """What the tape keeps of an argument; tensors kept whole are entered in ``saved``."""
    if isinstance(a, tensor_class):
        if not data:
            return _meta(a)
        saved.append((a, a._storage.version))
        return a
    if type(a) in (list, tuple):
        return type(a)([_keep(x, data, saved) for x in a])
    return a


def _meta(t: Any) -> TensorMeta | None:
    return None if t is None else TensorMeta(t._a.shape, t.dtype, t._storage.device)


# ---- views and in-place writes ---------------------------------------------------------------------------


class CopySlices(GradNode):
    """A write through a view: gradients of the base go on outside the view, and through the op inside it."""

    def __init__(self, base: Tensor, steps: tuple, inner: GradNode) -> None:
        super().__init__([edge_of(base), *inner.edges[1:]], [_meta(base)])
        self.inner, self.steps = inner, steps

    def apply(self, grads: list[Any], needs: list[bool]) -> list[Any]:
        whole = ops.clone(grads[0])
        window = replay(whole, self.steps)
        inner = self.inner.apply([ops.clone(window)], needs)
        if inner[0] is None:
            ops.zero_(window)
        else:
            ops.copy_(window, inner[0])
        return [whole if needs[0] else None, *inner[1:]]

    def release(self) -> None:
        self.inner.release()


def replay(t: Any, steps: tuple) -> Any:
    """The view that ``steps`` make of ``t``."""
    for op, args, _ in steps:
        t = call(op, (t, *args[1:]))
    return t


def rebase(target: Tensor, node: GradNode) -> None:
    """After an in-place op recorded as ``node`` wrote ``target``: give target (and its base) their new history."""
    view = target._view
    if view is None:
        target._rg, target._grad_fn, target._out_nr = True, node, 0
        off_tape.put_on_tape(target, refresh_view)
        return
    base = view.base
    slices = CopySlices(base, view.steps, node)
    base._rg, base._grad_fn, base._out_nr = True, slices, 0
    target._rg = True
    view.version = -1  # refreshed at the next look
    refresh_view(target)
    off_tape.put_on_tape(base, refresh_view)


def refresh_view(t: Tensor) -> None:
    """Make the tape node of a view again when its base has been written to since."""
    view = t._view
    assert view is not None
    if view.version == t._storage.version:
        return
    base = view.base
    if base._rg and view.ban is not None:
        raise RuntimeError(off_tape.outdated(view.ban))
    view.version = t._storage.version
    if not base._rg:
        return
    source: Any = base
    edge = edge_of(base)
    for op, args, meta in view.steps:  # (args[0] is the tensor the step was taken from)
        needs = tuple(i == 0 for i in range(len(op.tensor_slots)))
        node = OpNode(op, (meta, *args[1:]), [edge], needs, [None])
        edge = (node, 0)
    node.metas = [_meta(t)]
    t._rg, t._grad_fn, t._out_nr = True, edge[0], 0
    del source


# ---- the engine ---------------------------------------------------------------------------


def backward(tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
             grad_variables: Any = None, inputs: Any = None) -> None:
    """Accumulate gradients into the leaves of ``tensors`` (PyTorch: ``torch.autograd.backward``)."""
    roots = _as_tuple(tensors)
    if inputs is not None:
        inputs = _as_tuple(inputs)
        if not inputs:
            raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
        for t in inputs:
            if not t.requires_grad:
                raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    grads = _root_gradients(roots, grad_tensors, create_graph)
    _run(roots, grads, retain_graph, create_graph, inputs, accumulate=True)


batched: Any = None  # `grad` for batches of gradients; set by flambeau.autograd


def grad(outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None,
         create_graph: bool = False, only_inputs: bool = True, allow_unused: bool | None = None,
         is_grads_batched: bool = False, materialize_grads: bool = False) -> tuple[Any, ...]:
    """The gradients of ``outputs`` with respect to ``inputs`` (PyTorch: ``torch.autograd.grad``)."""
    roots, wanted = _as_tuple(outputs), _as_tuple(inputs)
    if materialize_grads and allow_unused is False:
        raise ValueError("Expected allow_unused to be True or not passed when materialize_grads=True, but got: "
                         "allow_unused=False.")
    if is_grads_batched:
        return batched(roots, wanted, _as_tuple(grad_outputs), retain_graph, create_graph, allow_unused, materialize_grads)
    grads = _root_gradients(roots, grad_outputs, create_graph)
    for t in wanted:
        if not t.requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    found = _run(roots, grads, retain_graph, create_graph, wanted, accumulate=False)
    if materialize_grads:
        found = [zeros_of(_meta(t)) if g is None else g for g, t in zip(found, wanted)]  # type: ignore[arg-type]
    elif not allow_unused and any(g is None for g in found):
        raise RuntimeError(f"The differentiated Tensor at index {[g is None for g in found].index(True)} appears to not have "
                           "been used in the graph. Set allow_unused=True if this is the desired behavior.")
    return tuple(found)


def _as_tuple(x: Any) -> tuple:
    if hasattr(x, "output_nr") and hasattr(x, "node"):
        return (_EdgeTensor(x),)
    if isinstance(x, (tuple, list)) or not hasattr(x, "shape"):
        return tuple(_EdgeTensor(t) if hasattr(t, "ownership_token") else t for t in x)
    return (x,)


class _EdgeTensor:
    """A gradient edge in the place of the tensor it belongs to."""

    _rg = requires_grad = True
    _view = _hooks = None
    shape: Any = None  # unknown for nodes of the short recorder

    def __new__(cls, edge: Any) -> Any:
        return edge.node.variable if isinstance(edge.node, AccumulateGrad) else super().__new__(cls)

    def __init__(self, edge: Any) -> None:
        self.grad_fn = self._grad_fn = edge.node
        self._out_nr = edge.output_nr
        meta = edge.node.metas[edge.output_nr]
        if meta is not None:
            self.shape, self.dtype = tuple(meta.shape), meta.dtype

    def numel(self) -> int:
        return TensorMeta(self.shape, self.dtype).numel()


def _root_gradients(roots: tuple, given: Any, create_graph: bool) -> list[Any]:
    grads = [None] * len(roots) if given is None else list(_as_tuple(given))
    if len(grads) != len(roots):
        raise RuntimeError(f"got {len(roots)} tensors and {len(grads)} gradients")
    for i, (t, g) in enumerate(zip(roots, grads)):
        if not t.requires_grad:
            raise RuntimeError(f"element {i} of tensors does not require grad and does not have a grad_fn")
        if g is None:
            if t.numel() != 1:
                raise RuntimeError("grad can be implicitly created only for scalar outputs")
            if not t.dtype.is_floating_point:
                raise RuntimeError("grad can be implicitly created only for real scalar outputs but got " + str(t.dtype))
            if t._storage.device is cpu:
                ones = np.ones(t._a.shape, t._a.dtype)
                grads[i] = tensor_class(ones, Storage(ones))
            else:
                grads[i] = ops.full(tuple(t.shape), 1.0, dtype=t.dtype, device=t.device)
        elif not isinstance(g, tensor_class):
            raise TypeError(f"gradients can be either Tensors or None, but got {type(g).__name__}")
        elif t.shape is not None and tuple(g.shape) != tuple(t.shape):
            raise RuntimeError(f"Mismatch in shape: grad_output[{i}] has a shape of {g.shape} and output[{i}] has a shape "
                               f"of {t.shape}.")
    return grads


class _Run:
    """One run of the engine: gradients collected so far, and the nodes ready to go."""

    def __init__(self, roots: tuple, needed: set | None) -> None:
        self.roots, self.needed = roots, needed
        self.buffers: dict[GradNode, list[Any]] = {}
        self.heap: list[tuple[int, Any]] = []
        self.leaf_grads: dict[int, tuple[Tensor, Any]] = {}
        self.sums: set[Any] = set()  # edges (ids of leaves) whose gradient is a sum made here, which nobody else holds

    def send(self, edge: Any, g: Any) -> None:
        """Add ``g`` to what has arrived at ``edge``."""
        if g is None or edge is None:
            return
        if type(edge) is not tuple:
            key = id(edge)
            before = self.leaf_grads.get(key)
            self.leaf_grads[key] = (edge, g if before is None else self.sum(key, before[1], g))
            return
        node, nr = edge
        buffer = self.buffers.get(node)
        if buffer is None:
            n = len(node.metas)
            self.buffers[node] = [g] if n == 1 else [g if i == nr else None for i in range(n)]
            heapq.heappush(self.heap, (-node.seq, node))
            return
        buffer[nr] = g if buffer[nr] is None else self.sum(edge, buffer[nr], g)

    def sum(self, key: Any, a: Any, g: Any) -> Any:
        """What has arrived at an edge, and ``g``."""
        if key not in self.sums or mode.grad:
            self.sums.add(key)
            return ops.add(a, g)
        own, more = a._a, g._a
        if type(own) is type(more) is np.ndarray and own.shape == more.shape and own.dtype is more.dtype:
            token = hush()
            np.add(own, more, own)
            restore(token)
            return a
        return ops.add(a, g)


def _run(roots: tuple, grads: list[Any], retain: bool | None, create_graph: bool, inputs: tuple | None,
         accumulate: bool) -> list[Any]:
    if isinstance(state.handler, Autocast):  # derivatives run in the dtypes that the forward chose
        with use_handler(state.handler.inner):
            return _run(roots, grads, retain, create_graph, inputs, accumulate)
    retain = create_graph if retain is None else retain
    edges = None if inputs is None else [edge_of(t) for t in inputs]
    needed = None if edges is None else _reachable(roots, edges)
    wanted_nodes = {e for e in edges or () if isinstance(e, tuple)}
    step, outer = mode.step or _run_node, mode.run
    run = mode.run = _Run(roots, needed)
    try:
        captured, leaf_grads = _walk(run, grads, wanted_nodes, step, retain, create_graph)
    finally:
        mode.run = outer
    if inputs is None:
        _accumulate(leaf_grads.values(), {id(g._storage) for g in grads}, create_graph)
        return []
    found = [captured.get(e) if isinstance(e, tuple) else leaf_grads.get(id(t), (t, None))[1]
             for t, e in zip(inputs, edges or ())]
    if accumulate:
        pairs = [(t, g) for t, g in zip(inputs, found) if g is not None]
        _accumulate(pairs, {id(g._storage) for g in grads}, create_graph)
    return found


def _walk(run: _Run, grads: list[Any], wanted_nodes: set, step: Callable, retain: bool, create_graph: bool) -> tuple[dict, dict]:
    """Run the nodes: gradients captured at ``wanted_nodes``, and those that reached leaves (by id)."""
    roots, needed = run.roots, run.needed
    captured: dict[Any, Any] = {}
    with GradMode(create_graph):
        for t, g in zip(roots, grads):
            run.send(edge_of(t), g)
        heap, pop = run.heap, heapq.heappop
        plain = needed is None and not wanted_nodes and step is _run_node
        while heap:
            _, node = pop(heap)
            outs = run.buffers.pop(node)
            if plain and type(node) is OpNode and type(node.edges) is tuple and not (
                    node.pre_hooks or node.post_hooks or node.retained):
                node.step(run, outs[0])
                if not retain:
                    node.release()
                continue
            if node.pre_hooks or node.retained:
                outs = _apply_pre_hooks(node, outs)
            for nr, g in enumerate(outs) if wanted_nodes else ():
                if (node, nr) in wanted_nodes:
                    captured[(node, nr)] = g
            if needed is not None and not any(_edge_key(e) in needed for e in node.edges if e is not None):
                continue
            step(run, node, outs, needed)
            if not retain:
                node.release()
        return captured, {key: (t, _apply_hooks(t._hooks, g)) for key, (t, g) in run.leaf_grads.items()}


def _run_node(run: _Run, node: GradNode, outs: list[Any], needed: set | None) -> None:
    edges = node.edges
    if needed is None:
        needs = [e is not None for e in edges]
    else:
        needs = [e is not None and _edge_key(e) in needed for e in edges]
    found = node.apply(outs, needs)
    if node.post_hooks:
        for hook in list(node.post_hooks.values()):
            changed = hook(tuple(found), tuple(outs))
            if changed is not None:
                found = list(_as_tuple(changed))
    send = run.send
    for edge, g, need in zip(edges, found, needs):
        if need and g is not None:
            send(edge, g)


def _edge_key(edge: Any) -> Any:
    return edge[0] if isinstance(edge, tuple) else id(edge)


def _reachable(roots: tuple, edges: list[Any]) -> set:
    """Nodes (and ids of leaves) from which one of ``edges`` can be reached, the targets themselves included."""
    targets = {_edge_key(e) for e in edges if e is not None}
    memo: dict[Any, bool] = {}
    stack = [(_edge_key(e), e, False) for e in (edge_of(t) for t in roots) if e is not None]
    while stack:
        key, edge, expanded = stack.pop()
        if expanded:
            inner = [_edge_key(e) for e in edge[0].edges if e is not None]
            memo[key] = any(memo.get(k, False) or k in targets for k in inner)
        elif key not in memo:
            memo[key] = False
            if isinstance(edge, tuple):
                stack.append((key, edge, True))
                stack += [(_edge_key(e), e, False) for e in edge[0].edges if e is not None and _edge_key(e) not in memo]
    return {k for k, v in memo.items() if v} | targets


def _apply_hooks(hooks: dict[int, Callable] | None, g: Any) -> Any:
    for hook in list(hooks.values()) if hooks else ():
        changed = hook(g)
        if changed is not None:
            g = changed
    return g


def _apply_pre_hooks(node: GradNode, outs: list[Any]) -> list[Any]:
    if node.pre_hooks:
        outs = [g if g is None else _apply_hooks(node.pre_hooks.get(nr), g) for nr, g in enumerate(outs)]
        for hook in list(node.pre_hooks.get(-1, {}).values()):
            changed = hook(tuple(outs))
            outs = outs if changed is None else list(_as_tuple(changed))
    if node.retained:
        for nr, ref in node.retained.items():
            t = ref()
            if t is not None and outs[nr] is not None:
                t._grad = outs[nr] if t._grad is None else ops.add(t._grad, outs[nr])
    return outs


def _accumulate(pairs: Iterable[tuple[Tensor, Any]], taken: set[int], create_graph: bool) -> None:
    """Add gradients to ``.grad``. A fresh gradient becomes ``.grad`` itself unless somebody else holds its storage."""
    for leaf, g in pairs:
        if g is None:
            continue
        wanted = getattr(leaf, "_grad_dtype", g.dtype)
        if wanted is not g.dtype and wanted is not None:
            g = ops.cast(g, wanted)
        if leaf._grad is None:
            if create_graph:
                leaf._grad = g if id(g._storage) not in taken else ops.clone(g)
            elif id(g._storage) in taken or g._storage.array is not g._a or not _dense(g):
                with GradMode(False):
                    leaf._grad = ops.clone(g)
            else:
                leaf._grad = tensor_class(g._a, g._storage)
            taken.add(id(g._storage))
        elif create_graph:
            leaf._grad = ops.add(leaf._grad, g)
        else:
            with GradMode(False):
                ops.add_(leaf._grad, g)
        for hook in list(getattr(leaf, "_post_accumulate_hooks", {}).values()):
            hook(leaf)


def _dense(g: Any) -> bool:
    return bool(g._a.flags.c_contiguous) and bool(g._a.flags.writeable)

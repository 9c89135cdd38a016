"""What looks at the tape while it is made: saved-tensor hooks, anomaly detection, inference mode.

Each stands behind the ops' handler for as long as it is on; observers are told of the nodes an op call has made. While
nobody observes, ops run without a look at any of this.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

from flambeau.ir.op import Op, state

from . import autograd
from .autograd import CopySlices, GradMode, GradNode, OpNode, SavedOutput, mode
from .storage import Storage
from .tensor import Tensor


class Observer:
    """Told of each op call: ``seen(result, args, nodes)``, the nodes of the tape being those the call has made."""

    def seen(self, result: Any, args: tuple, nodes: list[GradNode]) -> None:
        raise NotImplementedError


class _Watch(threading.local):
    observers: tuple[Observer, ...] = ()
    inference = False


_watch = _Watch()


class _Handler:
    """The handler while somebody observes; ``inner`` runs the ops."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, op: Op, args: tuple) -> Any:
        start = next(autograd._sequence)
        result = self.inner(op, args)
        observers = _watch.observers
        if observers:
            nodes = _new_nodes(result, start)
            for observer in observers:
                observer.seen(result, args, nodes)
        return result


def _new_nodes(result: Any, start: int) -> list[GradNode]:
    """The nodes behind ``result`` that are younger than ``start`` and not among those of an op inside the call."""
    found: list[GradNode] = []
    outs = result if isinstance(result, (tuple, list)) else (result,)
    stack = [o._base.grad_fn if o._base is not None and isinstance(o._base.grad_fn, CopySlices) else o.grad_fn
             for o in outs if isinstance(o, Tensor)]
    while stack:
        node = stack.pop()
        if node is None or node.seq < start or "_seen" in node.__dict__:
            continue
        node.__dict__["_seen"] = True
        found.append(node)
        if isinstance(node, CopySlices):
            stack.append(node.inner)
        stack += [e[0] for e in node.edges if isinstance(e, tuple)]
    return found


def observe(observer: Observer) -> None:
    """Let ``observer`` see the ops of this thread from now on."""
    if not _watch.observers:
        state.handler = _Handler(state.handler)
    _watch.observers = (*_watch.observers, observer)


def unobserve(observer: Observer) -> None:
    """The end of :func:`observe`."""
    _watch.observers = tuple(o for o in _watch.observers if o is not observer)
    if not _watch.observers:
        _remove_handler(_Handler)


def _remove_handler(kind: type) -> None:
    """Take the handler of a kind away, wherever it stands among the handlers."""
    handler: Any = state.handler
    if isinstance(handler, kind):
        state.handler = handler.inner  # type: ignore[attr-defined]
        return
    while handler is not None:
        inner = getattr(handler, "inner", None)
        if isinstance(inner, kind):
            handler.inner = inner.inner  # type: ignore[attr-defined]
            return
        handler = inner


# ---- saved-tensor hooks ---------------------------------------------------------------------------------------------


class _Packed:
    """A saved tensor that a pack hook has taken: what the hook returned, and the tensor's place on the tape."""

    __slots__ = ("packed", "unpack", "edge", "nr")

    def __init__(self, hooks: SavedHooks, t: Tensor, edge: Any, nr: int = -1) -> None:
        version = t._storage.version
        with GradMode(False):
            self.packed = hooks.pack(t)
        if t._storage.version != version:
            raise RuntimeError("A saved tensor pack hook is modifying its input in place. Tensors provided as input to pack hook "
                               "can not be modified by in-place operations as this can lead to unexpected side-effects. Please "
                               "open an issue if you need to perform in-place operations on the input to a pack hook.")
        self.unpack, self.edge, self.nr = hooks.unpack, edge, nr

    def get(self, node: GradNode) -> Tensor:
        with GradMode(False):
            found = self.unpack(self.packed)
        if not isinstance(found, Tensor):
            raise TypeError("Output of saved tensor unpack_hook expected to be a Tensor but got result of type "
                            f"{type(found).__name__}")
        t = Tensor(found._a, found._storage)
        if self.nr >= 0:
            t._rg, t._grad_fn, t._out_nr = True, node, self.nr
        elif self.edge is not None:
            fn, number = self.edge if isinstance(self.edge, tuple) else (_ToLeaf(self.edge), 0)
            t._rg, t._grad_fn, t._out_nr = True, fn, number
        return t


class _ToLeaf(GradNode):
    """Passes gradients of an unpacked copy of a leaf on to the leaf."""

    def __init__(self, leaf: Tensor) -> None:
        super().__init__([leaf], [autograd._meta(leaf)])

    def apply(self, grads: list[Any], needs: list[bool]) -> list[Any]:
        return grads


class PackedNode(OpNode):
    """A node whose saved tensors were packed: they are unpacked for the time of its derivative."""

    def apply(self, grads: list[Any], needs: list[bool]) -> list[Any]:
        if self.args is None:
            return super().apply(grads, needs)
        args, out = self.args, self.out
        self.args, self.out = _unpacked(args, self), _unpacked(out, self)
        try:
            return super().apply(grads, needs)
        finally:
            if self.args is not None:
                self.args, self.out = args, out

    def release(self) -> None:
        self.args = self.out = None
        self.saved = ()


def _unpacked(kept: Any, node: GradNode) -> Any:
    if type(kept) is _Packed:
        return kept.get(node)
    if type(kept) in (tuple, list):
        return type(kept)([_unpacked(x, node) for x in kept])
    return kept


class SavedHooks(Observer):
    """A pair of hooks: ``pack`` takes each tensor the tape would keep, ``unpack`` gives it back (or one equal to it)."""

    def __init__(self, pack: Callable[[Tensor], Any], unpack: Callable[[Any], Tensor]) -> None:
        self.pack, self.unpack = pack, unpack

    def seen(self, result: Any, args: tuple, nodes: list[GradNode]) -> None:
        if innermost_hooks() is not self:
            return
        for node in nodes:
            if type(node) is OpNode:
                self._repack(node)

    def _repack(self, node: OpNode) -> None:
        kept = {id(t) for t, _ in node.saved}
        packed: dict[int, _Packed] = {}

        def pack(x: Any) -> Any:
            if id(x) in kept and isinstance(x, Tensor):
                if id(x) not in packed:
                    packed[id(x)] = _Packed(self, x, autograd.edge_of(x))
                return packed[id(x)]
            if type(x) is SavedOutput:
                return _Packed(self, Tensor(x.array, x.storage), None, x.nr)
            return type(x)([pack(v) for v in x]) if type(x) in (tuple, list) else x

        if kept or type(node.out) is SavedOutput or type(node.out) is tuple:
            node.args, node.out = pack(node.args), pack(node.out)
            node.saved = ()
            node.__class__ = PackedNode

    def keep(self, t: Tensor, nr: int = -1) -> _Packed:
        """``t``, saved by a user's function, packed."""
        return _Packed(self, t, autograd.edge_of(t) if nr < 0 else None, nr)


def innermost_hooks() -> SavedHooks | None:
    """The pair of saved-tensor hooks that is in force."""
    return next((o for o in reversed(_watch.observers) if isinstance(o, SavedHooks)), None)


# ---- anomalies -------------------------------------------------------------------------------------------------------


class Anomaly(Observer):
    """Notes for each node where in the program it was made."""

    def seen(self, result: Any, args: tuple, nodes: list[GradNode]) -> None:
        if nodes:
            import traceback  # noqa: PLC0415 - programs without anomaly detection start sooner
            lines = traceback.format_stack()[:-3]
            for node in nodes:
                node.metadata["traceback_"] = lines


class _Checked:
    """Runs a node and looks at what it returns."""

    def __init__(self, check_nan: bool) -> None:
        self.check_nan = check_nan

    def __call__(self, run: Any, node: GradNode, outs: list[Any], needed: set | None) -> None:
        apply = node.apply
        if self.check_nan:
            def checked(grads: list[Any], needs: list[bool]) -> list[Any]:
                found = apply(grads, needs)
                _check_nan(node, found, needs)
                return found
            node.apply = checked  # type: ignore[method-assign]
        try:
            autograd._run_node(run, node, outs, needed)
        except Exception:
            _warn(node)
            raise
        finally:
            node.__dict__.pop("apply", None)


def _check_nan(node: GradNode, found: list[Any], needs: list[bool]) -> None:
    for i, (g, need) in enumerate(zip(found, needs)):
        if need and g is not None and g.dtype.differentiable and bool(g.isnan().any()):
            raise RuntimeError(f"Function '{node.name()}' returned nan values in its {i}th output.")


def _warn(node: GradNode) -> None:
    lines = node.metadata.get("traceback_")
    if lines is None:
        warnings.warn(f"Error detected in {node.name()}. No forward pass information available. Enable detect anomaly during "
                      "forward pass for more information.", stacklevel=2)
    else:
        warnings.warn(f"Error detected in {node.name()}. Traceback of forward call that caused the error:\n{''.join(lines)}",
                      stacklevel=2)


_anomaly = Anomaly()


def set_anomaly(enabled: bool, check_nan: bool) -> None:
    """Turn anomaly detection on or off for this thread."""
    mode.step = _Checked(check_nan) if enabled else None
    if enabled and _anomaly not in _watch.observers:
        observe(_anomaly)
    elif not enabled and _anomaly in _watch.observers:
        unobserve(_anomaly)


def anomaly_state() -> tuple[bool, bool]:
    """(enabled, whether NaN is looked for)."""
    return mode.step is not None, mode.step is None or mode.step.check_nan


# ---- inference mode ------------------------------------------------------------------------------------------------------


class InferenceStorage(Storage):
    """The storage of tensors made in inference mode: it does not count writes, so the tape cannot rely on it."""

    inference = True

    @property
    def version(self) -> Any:  # type: ignore[override]
        return _NO_VERSION

    @version.setter
    def version(self, value: Any) -> None:
        if not mode.inference:
            raise RuntimeError("Inplace update to inference tensor outside InferenceMode is not allowed. You can make a clone to "
                               "get a normal tensor before doing inplace update. See https://github.com/pytorch/rfcs/pull/17 for "
                               "more details.")


class _NoVersion(int):
    """Stands for a version; comparing it means that the tape had kept the tensor."""

    def __ne__(self, other: object) -> bool:
        if other is self:
            raise RuntimeError("Inference tensors cannot be saved for backward. Please do not use Tensors created in inference "
                               "mode in computation tracked by autograd. To work around this, you can make a clone to get a "
                               "normal tensor and use it in autograd, or use `torch.no_grad()` instead of "
                               "`torch.inference_mode()`.")
        return True

    def __eq__(self, other: object) -> bool:
        return other is self

    def __add__(self, other: object) -> Any:
        return self

    __hash__ = int.__hash__


_NO_VERSION = _NoVersion(0)


class _InferenceHandler:
    """The handler in inference mode: what an op's kernel makes is marked (views and writes keep the storage they have, and an
    op without a kernel runs as ops that have one)."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, op: Op, args: tuple) -> Any:
        result = self.inner(op, args)
        if op.kernel is not None and op.family != "view":
            if type(result) is Tensor:
                _mark(result)
            elif isinstance(result, (tuple, list)):
                for o in result:
                    if isinstance(o, Tensor):
                        _mark(o)
        return result


def _mark(t: Tensor) -> None:
    storage = t._storage
    if type(storage) is Storage:
        storage.__dict__.pop("version", None)
        storage.__class__ = InferenceStorage


def set_inference(enabled: bool) -> None:
    """Mark what is made in this thread from now on as inference tensors, or no longer."""
    if enabled and not _watch.inference:
        state.handler = _InferenceHandler(state.handler)
    elif not enabled and _watch.inference:
        _remove_handler(_InferenceHandler)
    _watch.inference = enabled

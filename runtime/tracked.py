"""The level of ``grad`` and ``vjp``: a tape of its own, recorded on wrapped tensors.

Its nodes hold tensors of this level, and their derivative rules run through the outer levels: derivatives of
derivatives, of vmaps and of forward mode come without further rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.ir.op import Op, call, get_op, ops
from flambeau.ir.tree import tree_map

from . import autograd
from .autograd import CopySlices, GradMode, OpNode, mode
from .eager import _check_result, check_inplace_allowed
from .levels import Level, Wrapped, below, entered, stripped
from .tensor import Tensor, View


class Tracked(Wrapped):
    """A tensor on the tape of its level."""

    __slots__ = ()

    def rewrapped(self, value: Any) -> Tracked:
        found = Tracked(value, self.level)
        found._rg, found._grad_fn, found._out_nr, found._view = self._rg, self.grad_fn, self._out_nr, self._view
        return found


class _SavedValue:
    """An output kept for the backward pass by its value: the tensor itself would make a cycle."""

    __slots__ = ("value", "level", "nr", "version")

    def __init__(self, out: Tracked, nr: int) -> None:
        self.value, self.level, self.nr, self.version = out.value, out.level, nr, out._storage.version

    def get(self, node: Any) -> Tracked:
        found = Tracked(self.value, self.level)
        if found._storage.version != self.version:
            raise autograd._stale(node, found, self.version)
        found._rg, found._grad_fn, found._out_nr = True, node, self.nr
        return found


class LevelNode(OpNode):
    """The record of an op call on a level's tape."""

    def apply(self, grads: list[Any], needs: list[bool]) -> list[Any]:
        kept = self.out
        self.out = tree_map(lambda o: o.get(self) if type(o) is _SavedValue else o, kept)
        try:
            return super().apply(grads, needs)
        finally:
            self.out = kept


class LevelSlices(CopySlices):
    """A write through a view, on a level's tape. Its gradients may be batched apart from each other, so nothing is written."""

    def apply(self, grads: list[Any], needs: list[bool]) -> list[Any]:
        whole = grads[0]
        inner = self.inner.apply([autograd.replay(whole, self.steps)], needs)
        if not needs[0]:
            return [None, *inner[1:]]
        window = inner[0]
        if window is None:
            window = ops.zeros_like(autograd.replay(whole, self.steps))
        found = written(whole, self.steps, window)
        return [super().apply(grads, needs)[0] if found is None else found, *inner[1:]]


def written(base: Any, steps: tuple, value: Any) -> Any:
    """``base`` with ``value`` where the view that ``steps`` make of it shows; None where a step has no such rule."""
    if not steps:
        return value
    op, args = steps[0][:2]
    rule = op.extra.get("write")
    if rule is None:
        return None
    part = written(call(op, (base, *args[1:])), steps[1:], value)
    return None if part is None else rule(base, part, *args[1:])


class GradLevel(Level):
    """A running ``grad`` or ``vjp``. ``outer_grad``: whether the levels outside were recording."""

    name = "grad"

    def __init__(self) -> None:
        super().__init__()
        self.outer_grad = mode.grad
        self.recording = True

    def wrap(self, value: Any) -> Tracked:
        return Tracked(value, self)

    def leaf(self, value: Any) -> Tracked:
        """``value`` as something to differentiate by."""
        found = Tracked(value, self)
        found._rg = value.dtype.differentiable
        return found

    def _inner(self, x: Any) -> Any:
        return x.value if isinstance(x, Tracked) and x.level is self else x

    def _edge(self, x: Any) -> Any:
        return autograd.edge_of(x) if isinstance(x, Tracked) and x.level is self else None

    # ---- ops

    def process(self, op: Op, args: tuple) -> Any:
        if op.functional is not None:
            return self._write(op, op.functional, args)
        parts = op.decompose is not None and not op.differentiable and "nograd" not in op.tags
        recording = self.recording and mode.grad and op.differentiable
        if parts and (op.kernel is None or (self.recording and mode.grad)):
            found = op.decompose(*args)  # type: ignore[misc]
            if found is not NotImplemented:
                return found
        inner = tree_map(self._inner, args)
        with below(self), GradMode(mode.grad and self.outer_grad):
            result = call(op, inner)
        if op.family == "view" and isinstance(result, Tensor):
            return self._view(op, args, inner[0], result)
        outs = tree_map(lambda r: Tracked(r, self) if isinstance(r, Tensor) else r, result)
        if recording:
            self._record(op, args, outs)
        return outs

    def _view(self, op: Op, args: tuple, source: Any, result: Any) -> Tracked:
        if result is source:
            return args[0]
        out = Tracked(result, self)
        recording = self.recording and mode.grad and op.differentiable
        if result._storage is not source._storage:
            if recording:
                self._record(op, args, out)
            return out
        if op.differentiable:
            x = args[0]
            base, before = (x, ()) if x._view is None else (x._view.base, x._view.steps)
            out._view = View(base, (*before, (op, args, autograd._meta(x))), x._storage.version)
            if recording:
                self._record(op, args, out)
        return out

    def _record(self, op: Op, args: tuple, outs: Any, saved_output: bool = True) -> LevelNode | None:
        """Put the call on the tape, where one of its arguments is."""
        edges: list[Any] = []
        needs = []
        for slot in op.tensor_slots:
            a = args[slot]
            found = [self._edge(x) for x in a] if isinstance(a, (list, tuple)) else [self._edge(a)]
            edges += found
            needs.append(any(e is not None for e in found))
        if not any(needs):
            return None
        key = tuple(needs)
        save_out, save_args = op.saves(key)
        saved: list[tuple[Any, int]] = []
        kept = tuple([autograd._keep(a, s, saved) for a, s in zip(args, save_args)])
        results: Sequence[Any] = outs if isinstance(outs, (tuple, list)) else (outs,)
        node = LevelNode(op, kept, edges, key, [autograd._meta(o) for o in results], tuple(saved))
        for nr, o in enumerate(results):
            if o is not None and o.dtype.differentiable:
                o._rg, o._grad_fn, o._out_nr = True, node, nr
        held = tuple(_SavedValue(o, nr) if save_out and o is not None else m
                     for nr, (o, m) in enumerate(zip(results, node.metas)))
        node.out = held if isinstance(outs, (tuple, list)) else held[0]
        return node

    # ---- writes

    def _write(self, op: Op, functional: Op, args: tuple) -> Any:
        target = args[0]
        if self._inner(target) is target:
            self.captured(op)
        recording = self.recording and mode.grad and "nograd" not in functional.tags and any(
            isinstance(x, Tracked) and x._rg for i in op.tensor_slots
            for x in (args[i] if isinstance(args[i], (list, tuple)) else (args[i],)))
        if not recording:
            with below(self), GradMode(mode.grad and self.outer_grad):
                call(op, tree_map(self._inner, args))
            return target
        check_inplace_allowed(target)
        with below(self):
            old = Tracked(call(get_op("clone"), (target.value, None)), self)
        old._rg, old._grad_fn, old._out_nr = target._rg, target.grad_fn, target._out_nr
        new = call(functional, (old, *args[1:]))
        _check_result(target, new)
        with below(self), GradMode(mode.grad and self.outer_grad):
            call(get_op("copy_"), (target.value, self._inner(new), False))
        if new._rg:
            self._rebase(target, new)
        return target

    def _rebase(self, target: Tracked, new: Any) -> None:
        """Give ``target`` (and what it is a view of) the history of ``new``, which was written to it."""
        if target._view is None:
            target._rg, target._grad_fn, target._out_nr = True, new._grad_fn, new._out_nr
            if new.dtype is target.dtype:
                return
        node = self._record(get_op("copy"), (Tracked(target.value, self), new, False), ())
        assert node is not None
        node.edges = [autograd.edge_of(target) if target._rg and target._view is not None else None, *node.edges[1:]]
        node.metas = [autograd._meta(target)]
        node.out = node.metas[0]
        autograd.rebase(target, node)
        base = None if target._view is None else target._view.base
        if base is not None and type(base._grad_fn) is CopySlices:
            base._grad_fn.__class__ = LevelSlices

    # ---- the backward pass

    def gradients(self, outputs: Sequence[Any], inputs: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        """Cotangents of ``inputs`` (leaves of this level; None: no influence), as the outer levels see them."""
        live = [(o, c) for o, c in zip(outputs, cotangents) if c is not None and self._edge(o) is not None]
        if not live:
            return [None] * len(inputs)
        recording, self.recording = self.recording, False
        try:
            with entered(self):
                found = autograd._run(tuple(o for o, _ in live), [c for _, c in live], True, self.outer_grad, tuple(inputs),
                                      accumulate=False)
        finally:
            self.recording = recording
        return [None if g is None else stripped(g, self) for g in found]

"""The level of forward mode: tensors with a tangent.

What an op does to tangents is derived from its derivative rule. A view, being linear, is done to the tangent too, a product
to each of its factors' tangents; of a pointwise real op the rule itself is the answer, its Jacobian being diagonal; of any
other op the rule is a linear map from gradients of outputs to gradients of inputs, and what is wanted is its transpose: the
derivative of the rule's result by the gradient it is given. All are exact.
"""

from __future__ import annotations

import weakref
from typing import Any

from flambeau.ir.dtype import float64
from flambeau.ir.grad import fit_gradients
from flambeau.ir.op import Op, call, get_op, ops
from flambeau.ir.tree import leaves, tree_map

from . import autograd
from .autograd import GradMode, OpNode, SavedOutput, mode
from .eager import _check_result
from .levels import Level, Wrapped, below, entered, levels
from .tensor import Tensor, View
from .tracked import GradLevel, written


class Dual(Wrapped):
    """``value`` with a tangent (None: zero). It is on the tape where ``value`` is."""

    __slots__ = ()
    given: Any                      # the tangent, as the outer levels see it
    source: tuple[Any, ...] | None  # of a view: (the tensor it is taken from, steps of op and arguments)

    def __init__(self, value: Any, level: Level, tangent: Any = None, source: tuple[Any, ...] | None = None) -> None:
        self.value, self.given, self.source = value, tangent, source
        super().__init__(value, level)

    _rg = property(lambda self: self.value._rg, lambda self, value: None)  # type: ignore[assignment]
    _grad_fn = property(lambda self: self.value._grad_fn, lambda self, value: None)
    _out_nr = property(lambda self: self.value._out_nr, lambda self, value: None)  # type: ignore[assignment]
    grad_fn = property(lambda self: self.value.grad_fn)  # type: ignore[assignment]

    def rewrapped(self, value: Any) -> Dual:
        return Dual(value, self.level, self.given, self.source)

    @property
    def tangent(self) -> Any:
        """The tangent; of a view that of its source, as it is now."""
        if self.source is None:
            return self.given
        whole = self.source[0].tangent
        return None if whole is None else self._shown(whole)

    def _shown(self, whole: Any) -> Any:
        """What this view shows of the tangent of its source."""
        assert self.source is not None
        with below(self.level):
            for op, args in self.source[1]:
                whole = call(op, (whole, *args[1:]))
        return whole

    def move(self, tangent: Any) -> None:
        """Give the tensor, which was written to, another tangent; what it is a view of gets it in its place."""
        if self.source is None:
            self.given = tangent
            return
        origin, steps = self.source
        whole = origin.tangent
        if whole is None and tangent is None:
            return
        with below(self.level):
            if whole is None:
                whole = ops.zeros_like(ops.detach(origin.value))
            part = ops.zeros_like(self._shown(whole)) if tangent is None else tangent
            found = written(whole, steps, part)
            if found is None:  # a view that has no rule for it
                found = ops.clone(whole)
                ops.copy_(self._shown(found), part)
        origin.move(found)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        self.value.requires_grad_(requires_grad)
        return self

    def backward(self, *args: Any, **kwargs: Any) -> None:
        self.value.backward(*args, **kwargs)

    @property  # type: ignore[misc]
    def grad(self) -> Any:
        return self.value.grad

    def _become(self, other: Any) -> Tensor:
        self.value, self.given, self.source, self._a = other.value, other.given, other.source, other._a
        return self


class DualLevel(Level):
    """A running forward-mode differentiation."""

    name = "jvp"

    def wrap(self, value: Any) -> Dual:
        return Dual(value, self)

    def made_dual(self, value: Any, tangent: Any = None, source: Any = None) -> Dual:
        """A result of this level."""
        return Dual(value, self, tangent, source)

    def _inner(self, x: Any) -> Any:
        return x.value if isinstance(x, Dual) and x.level is self else x

    def _tangent(self, x: Any) -> Any:
        return x.tangent if isinstance(x, Dual) and x.level is self else None

    def process(self, op: Op, args: tuple) -> Any:
        if op.functional is not None:
            return self._write(op, op.functional, args)
        tangents: list[Any] = []
        for i in op.tensor_slots:
            a = args[i]
            tangents.append([self._tangent(x) for x in a] if isinstance(a, (list, tuple)) else self._tangent(a))
        moving = any(t is not None for t in _flat(tangents))
        parts = not op.differentiable or "by_parts" in op.tags
        if moving and op.decompose is not None and parts and "nograd" not in op.tags:
            found = op.decompose(*args)
            if found is not NotImplemented:
                return found
        inner = tree_map(self._inner, args)
        with below(self):
            out = call(op, inner)
            if op.family == "view":
                return self._view(op, args, inner, out)
            found = _pushed(op, inner, out, tangents) if moving and op.differentiable and "nograd" not in op.tags else None
        if isinstance(out, (tuple, list)):
            found = found or [None] * len(out)
            return type(out)([self.made_dual(o, t) if isinstance(o, Tensor) else o for o, t in zip(out, found)])
        return self.made_dual(out, found[0] if found else None)

    def _view(self, op: Op, args: tuple, inner: tuple, out: Any) -> Any:
        if out is inner[0]:
            return args[0]
        if "nograd" in op.tags:
            return self.made_dual(out)
        if out._storage is inner[0]._storage:
            return self.made_dual(out, source=(args[0], ((op, args),)))
        t = args[0].tangent
        return self.made_dual(out, None if t is None else call(op, (t, *args[1:])))

    def _write(self, op: Op, functional: Op, args: tuple) -> Any:
        target = args[0]
        if self._inner(target) is target:
            self.adopt(op, target)
        new = call(functional, args)
        _check_result(target, new)
        tangent = new.tangent if isinstance(new, Dual) else None
        with below(self):
            call(get_op("copy_"), (target.value, self._inner(new), False))
            if tangent is not None and tangent.dtype is not target.dtype:
                tangent = ops.cast(tangent, target.dtype)
        target.move(tangent)
        return target


    def adopt(self, op: Op, target: Any) -> None:
        """A dual tensor is written to a tensor from outside the level."""
        self.captured(op)


class OpenDualLevel(DualLevel):
    """A level that its user opens and closes: tensors from outside may be written to, and at the end every dual tensor
    becomes a plain one, its value."""

    name = "dual_level"
    keeps = False

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[weakref.ref[Dual], type]] = []

    def dual(self, value: Any, tangent: Any) -> Dual:
        """A dual tensor over an alias of ``value``."""
        with below(self):
            return _Restored(ops.alias(value), self, tangent)

    def wrap(self, value: Any) -> Dual:
        return _Restored(value, self)

    def made_dual(self, value: Any, tangent: Any = None, source: Any = None) -> Dual:
        return _Restored(value, self, tangent, source)

    def process(self, op: Op, args: tuple) -> Any:
        start = next(autograd._sequence)
        result = super().process(op, args)
        if mode.grad and op.family not in ("view", "inplace"):
            self._keep_tangents(args, result, start)
        return result

    def _keep_tangents(self, args: tuple, result: Any, start: int) -> None:
        """Let the step of the tape that the call has made keep dual tensors: gradients computed in the level have tangents."""
        outs = [o for o in (result if isinstance(result, (tuple, list)) else (result,)) if isinstance(o, _Restored)]
        node = next((o.value._grad_fn for o in outs if o.value._rg), None)
        if type(node) is not OpNode or node.seq < start:
            return
        duals = {id(x.value): x for x in leaves(args) if isinstance(x, _Restored) and x.level is self}
        node.args = tree_map(lambda x: duals.get(id(x), x), node.args)
        tangents = {o.value._out_nr: o.tangent for o in outs}
        kept: Any = node.out
        node.out = tree_map(lambda o: _DualOutput(o, self, tangents.get(o.nr)) if type(o) is SavedOutput else o, kept)
        node.__class__ = _DualNode

    def adopt(self, op: Op, target: Any) -> None:
        kind, view, source = type(target), target._view, None
        if isinstance(target, Wrapped):
            self.captured(op)
        if view is not None:
            if not isinstance(view.base, Dual):
                self.adopt(op, view.base)
            source = (view.base, tuple((step[0], step[1]) for step in view.steps))
        inner = Tensor(target._a, target._storage)
        inner._rg, inner._grad_fn, inner._out_nr = target._rg, target._grad_fn, target._out_nr
        inner._view = None if view is None else View(view.base.value, view.steps, view.version)  # type: ignore[attr-defined]
        target.__class__ = _Restored
        _Restored.__init__(target, inner, self, None, source, kind)

    def end(self) -> None:
        for ref, kind in self.made:
            t = ref()
            if t is not None:
                value = t.value
                for name in ("value", "given", "source", "level"):
                    t.__dict__.pop(name, None)
                t.__class__ = kind  # type: ignore[assignment]
                t._a, t._storage, t._rg, t._grad_fn = value._a, value._storage, value._rg, value._grad_fn
                t._out_nr, t._view, t._dtype = value._out_nr, value._view, value._dtype
        self.made.clear()


class _DualOutput:
    """An output kept for the backward pass, and its tangent."""

    __slots__ = ("saved", "level", "tangent")

    def __init__(self, saved: SavedOutput, level: OpenDualLevel, tangent: Any) -> None:
        self.saved, self.level, self.tangent = saved, level, tangent

    def get(self, node: Any) -> Any:
        found = self.saved.get(node)
        return found if self.tangent is None or self.level not in levels.active else self.level.made_dual(found, self.tangent)


class _DualNode(OpNode):
    """A step of the tape that keeps dual tensors."""

    def apply(self, grads: list[Any], needs: list[bool]) -> list[Any]:
        kept: Any = self.out
        self.out = tree_map(lambda o: o.get(self) if type(o) is _DualOutput else o, kept)
        try:
            return super().apply(grads, needs)
        finally:
            self.out = kept

    def release(self) -> None:
        self.args = self.out = None
        self.saved = ()


class _Restored(Dual):
    """A dual tensor that its level turns into a plain one at the end."""

    __slots__ = ()

    def __init__(self, value: Any, level: Any, tangent: Any = None, source: Any = None, kind: type = Tensor) -> None:
        super().__init__(value, level, tangent, source)
        level.made.append((weakref.ref(self), kind))


def _flat(items: Any) -> list[Any]:
    found: list[Any] = []
    for x in items:
        if isinstance(x, list):
            found += x
        else:
            found.append(x)
    return found


def _pushed(op: Op, args: tuple, out: Any, tangents: list[Any]) -> list[Any]:
    """The tangents of the outputs of ``op(*args)``, which were ``out``."""
    if op.family == "contraction":
        return [_bilinear(op, args, tangents)]
    found = _elementwise(op, args, out, tangents) if op.family == "pointwise" and isinstance(out, Tensor) else None
    return _transposed(op, args, out, tangents) if found is None else [found]


def _bilinear(op: Op, args: tuple, tangents: list[Any]) -> Any:
    """The product rule: the op is linear in each of its tensors."""
    total = None
    for slot, t in zip(op.tensor_slots, tangents):
        if t is not None:
            part = call(op, (*args[:slot], t, *args[slot + 1:]))
            total = part if total is None else ops.add(total, part)
    return total


def _elementwise(op: Op, args: tuple, out: Any, tangents: list[Any]) -> Any:
    """The sum of the rule's answers to each tangent; None where the rule is not one of elements."""
    shape, dtype = tuple(out.shape), out.dtype
    if op.joint_vjp is not None:
        return None
    if dtype.is_complex or not dtype.is_floating_point:
        return None
    total = None
    for k, t in enumerate(tangents):
        if t is None:
            continue
        x = args[op.tensor_slots[k]]
        if x.dtype.is_complex or not x.dtype.is_floating_point:
            return None
        g = t if t.dtype is dtype else ops.cast(t, dtype)
        g = g if tuple(g.shape) == shape else ops.expand(g, shape)
        found = op.gradients([i == k for i in range(len(tangents))], g, out, args)[k]
        if found is None:
            continue
        if tuple(found.shape) != shape:
            return None
        total = found if total is None else ops.add(total, found)
    return total if total is None or total.dtype is dtype else ops.cast(total, dtype)


def _transposed(op: Op, args: tuple, out: Any, tangents: list[Any]) -> list[Any]:
    """The rule's transpose applied to the tangents: the rule is run on gradients that are on a tape of their own."""
    outs = out if isinstance(out, (tuple, list)) else (out,)
    level = GradLevel()
    points = [_somewhere(o) if isinstance(o, Tensor) else None for o in outs]
    seeds = [level.leaf(p) if p is not None and p.dtype.differentiable else None for p in points]
    given = tuple(p if s is None else s for s, p in zip(seeds, points))
    with entered(level), GradMode(True):
        g = given if isinstance(out, (tuple, list)) else given[0]
        needs = [any(x is not None for x in t) if isinstance(t, list) else t is not None for t in tangents]
        found = op.gradients(needs, g, out, args)
        pulled = fit_gradients(op, found, args)
    wanted = [s for s in seeds if s is not None]
    pairs = [(p, t if t.dtype is p.dtype else ops.cast(t, p.dtype)) for p, t in zip(pulled, _aligned(op, args, tangents))
             if p is not None and t is not None]
    answers = iter(level.gradients([p for p, _ in pairs], wanted, [t for _, t in pairs]) if pairs else [None] * len(wanted))
    return [None if s is None else next(answers) for s in seeds]


def _somewhere(like: Any) -> Any:
    """A gradient to differentiate a rule at. The rule is linear, so any would do, but for rules that pass over zeros."""
    if not like.dtype.differentiable:
        return ops.zeros_like(ops.detach(like))
    steps = ops.arange(1, like.numel() + 1, 1, dtype=float64, device=like.device)
    found = ops.cast(ops.reshape(ops.sin(steps), tuple(like.shape)), like.dtype)
    return ops.mul(found, 0.8 + 0.6j) if like.dtype.is_complex else found


def _aligned(op: Op, args: tuple, tangents: list[Any]) -> list[Any]:
    """Tangents in the order of :func:`fit_gradients`."""
    found: list[Any] = []
    for slot, t in zip(op.tensor_slots, tangents):
        if isinstance(args[slot], (list, tuple)):
            found += t if isinstance(t, list) else [None] * len(args[slot])
        else:
            found.append(t)
    return found


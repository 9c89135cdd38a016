"""``Function.apply`` inside transforms: what a user's function means to ``grad``, ``jvp`` and ``vmap``."""

from __future__ import annotations

from typing import Any, NamedTuple

from flambeau.ir.op import ops
from flambeau.runtime import autograd
from flambeau.runtime.autograd import GradMode, mode
from flambeau.runtime.batched import Batched, BatchLevel
from flambeau.runtime.dual import DualLevel
from flambeau.runtime.levels import Level, below, entered
from flambeau.runtime.tensor import Tensor
from flambeau.runtime.tracked import GradLevel, Tracked, _SavedValue
from flambeau.utils._pytree import _broadcast_to_and_flatten, tree_flatten, tree_unflatten

from . import function
from .function import Function, FunctionCtx, FunctionNode, _is_one_of


class VmapInfo(NamedTuple):
    """What a ``vmap`` staticmethod is told of the batch."""

    batch_size: int
    randomness: str


def applied(cls: type[Function], level: Level, args: tuple, kwargs: dict[str, Any]) -> Any:
    """``cls.apply(*args)``, ``level`` being the innermost one among the arguments."""
    if kwargs:
        raise NotImplementedError(f"{cls.__name__}.apply: keyword arguments do not go with transforms")
    if cls.setup_context is Function.setup_context:
        raise RuntimeError("In order to use an autograd.Function with functorch transforms (vmap, grad, jvp, jacrev, ...), "
                           "it must "
                           "override the setup_context staticmethod. For more details, please see "
                           "https://pytorch.org/docs/main/notes/extending.func.html")
    if isinstance(level, GradLevel):
        return _tracked(cls, level, args)
    if isinstance(level, DualLevel):
        return _pushed(cls, level, args)
    assert isinstance(level, BatchLevel)
    return _batched(cls, level, args)


def _inner(level: Level, args: tuple) -> tuple:
    return tuple(level._inner(a) if isinstance(a, Tensor) else a for a in args)  # type: ignore[attr-defined]


def _many(output: Any) -> tuple:
    return output if isinstance(output, tuple) else (output,)


# ---- grad -------------------------------------------------------------------------------------------------------------


def _tracked(cls: type[Function], level: GradLevel, args: tuple) -> Any:
    given = _inner(level, args)
    with below(level), GradMode(mode.grad and level.outer_grad):
        output = cls.apply(*given)
    outs = tuple(_wrapped(o, level, args, given) for o in _many(output))
    result = outs if isinstance(output, tuple) else outs[0]
    ctx = FunctionCtx()
    ctx.needs_input_grad = tuple(isinstance(a, Tracked) and a.level is level and a.requires_grad for a in args)
    cls.setup_context(ctx, args, result)
    if not (level.recording and mode.grad and any(ctx.needs_input_grad)):
        ctx._saved = ctx.to_save
        return result
    node = ctx._node = FunctionNode(cls, ctx, args, level._edge)
    for nr, o in enumerate(outs):
        if isinstance(o, Tensor) and o.dtype.differentiable and not _is_one_of(o, ctx.non_differentiable):
            if o._view is not None and _is_one_of(o, ctx.dirty_tensors):
                node.metas = [autograd._meta(o)]
                autograd.rebase(o, node)
            o._rg, o._grad_fn, o._out_nr = True, node, nr
    node.metas = [autograd._meta(o) if isinstance(o, Tensor) else None for o in outs]
    ctx._saved = tuple(_SavedValue(t, t._out_nr) if isinstance(t, Tracked) and t._grad_fn is node else t for t in ctx.to_save)
    ctx.to_save, ctx.dirty_tensors, ctx.non_differentiable = (), (), ()
    return result


def _wrapped(out: Any, level: GradLevel, args: tuple, given: tuple) -> Any:
    """An output as a tensor of the level: an argument written to is that argument."""
    if not isinstance(out, Tensor):
        return out
    return next((a for a, x in zip(args, given) if x is out and isinstance(a, Tracked)), None) or level.wrap(out)


# ---- jvp --------------------------------------------------------------------------------------------------------------


def _pushed(cls: type[Function], level: DualLevel, args: tuple) -> Any:
    given = _inner(level, args)
    tangents = [level._tangent(a) if isinstance(a, Tensor) else None for a in args]
    with below(level):
        output = cls.apply(*given)
        ctx = FunctionCtx()
        ctx.needs_input_grad = tuple(t is not None for t in tangents)
        cls.setup_context(ctx, given, output)
        ctx._saved = ctx.saved_for_forward
        if ctx.materialize_grads:
            tangents = [ops.zeros_like(ops.detach(x)) if t is None and isinstance(x, Tensor) and x.dtype.differentiable else t
                        for t, x in zip(tangents, given)]
        pushed = _many(cls.jvp(ctx, *tangents)) if any(ctx.needs_input_grad) else (None,) * len(_many(output))
    outs = _many(output)
    if len(pushed) != len(outs):
        raise RuntimeError(f"{cls.__name__}.jvp returned {len(pushed)} tangents for {len(outs)} outputs")
    made = tuple(level.made_dual(o, None if _is_one_of(o, ctx.non_differentiable) else t) if isinstance(o, Tensor) else o
                 for o, t in zip(outs, pushed))
    return made if isinstance(output, tuple) else made[0]


# ---- vmap -------------------------------------------------------------------------------------------------------------


def _batched(cls: type[Function], level: BatchLevel, args: tuple) -> Any:
    own = cls.vmap is not Function.vmap
    if cls.generate_vmap_rule:
        if own:
            raise RuntimeError(f"You tried to vmap over {cls.__name__}, but it has both generate_vmap_rule=True and an "
                               f"overridden "
                               "vmap staticmethod. Please set generate_vmap_rule=False or delete the overridden vmap "
                               "staticmethod "
                               "to avoid ambiguity.")
        return _generated(cls, level, args)
    if not own:
        raise RuntimeError(f"You tried to vmap over {cls.__name__}, but it does not have vmap support. Please override and "
                           "implement the vmap staticmethod or set generate_vmap_rule=True.")
    dims = tuple(0 if level._is_batched(a) else None for a in args)
    with below(level):
        found = cls.vmap(VmapInfo(level.size, level.randomness), dims, *_inner(level, args))
    if not isinstance(found, tuple) or len(found) != 2:
        raise RuntimeError(f"Expected the vmap staticmethod of {cls.__name__} to have two returns: (output, out_dims). Got "
                           f"{f'{len(found)} returns' if isinstance(found, tuple) else f'a {type(found)}'} instead")
    flat, spec = tree_flatten(found[0])
    where = _broadcast_to_and_flatten(found[1], spec)
    if where is None:
        raise RuntimeError("The autograd.Function's vmap staticmethod returned an incompatible (output, out_dims) tuple. "
                           "Expected "
                           f"out_dims={found[1]} to be compatible with the structure of `output`.")
    with below(level):
        moved = [o if d is None else o.movedim(d, 0) for o, d in zip(flat, where)]
    return tree_unflatten([o if d is None else level.wrap(o) for o, d in zip(moved, where)], spec)


def _generated(cls: type[Function], level: BatchLevel, args: tuple) -> Any:
    """The function of a whole batch whose parts are ``cls``'s, each run on batched tensors."""
    flags = tuple(level._is_batched(a) for a in args)
    outs_batched: list[bool] = []
    single: list[bool] = []

    def wrapped(values: Any, batched: Any) -> tuple:
        return tuple(level.wrap(v) if b else v for v, b in zip(values, batched))

    class Whole(Function):
        @staticmethod
        def forward(*values: Any) -> Any:
            with entered(level):
                output = cls.forward(*wrapped(values, flags))
            outs = _many(output)
            single[:] = [not isinstance(output, tuple)]
            outs_batched[:] = [level._is_batched(o) for o in outs]
            return tuple(level._inner(o) for o in outs)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
            inner = ctx.inner = FunctionCtx()
            inner.needs_input_grad = ctx.needs_input_grad
            given = wrapped(inputs, flags)
            outs = wrapped(output, outs_batched)
            with entered(level):
                cls.setup_context(inner, given, outs[0] if single[0] else outs)
            ctx.kept = [level._is_batched(t) for t in inner.to_save]
            ctx.kept_forward = [level._is_batched(t) for t in inner.saved_for_forward]
            ctx.save_for_backward(*(level._inner(t) for t in inner.to_save))
            ctx.save_for_forward(*(level._inner(t) for t in inner.saved_for_forward))
            ctx.mark_dirty(*(x for x, g in zip(inputs, given) if _is_one_of(g, inner.dirty_tensors)))
            ctx.mark_non_differentiable(*(x for x, g in zip(output, outs) if _is_one_of(g, inner.non_differentiable)))
            ctx.set_materialize_grads(inner.materialize_grads)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            ctx.inner._saved = wrapped(ctx.saved_tensors, ctx.kept)
            with entered(level):
                found = cls.backward(ctx.inner, *(None if g is None else level.wrap(g) if b else g
                                                  for g, b in zip(grads, outs_batched)))
            return tuple(_reduced(g, b) for g, b in zip(_many(found), flags))

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Any:
            ctx.inner._saved = wrapped(ctx.saved_tensors, ctx.kept_forward)
            with entered(level):
                found = cls.jvp(ctx.inner, *(None if t is None else level.wrap(t) if b else t for t, b in zip(tangents, flags)))
            return tuple(_spread(t) if b else t for t, b in zip(_many(found), outs_batched))

    def _reduced(g: Any, batched: bool) -> Any:
        if g is None:
            return None
        if batched:
            return _spread(g)
        return ops.sum(g.value, (0,)) if level._is_batched(g) else g

    def _spread(g: Any) -> Any:
        if isinstance(g, Batched) and g.level is level:
            return g.value
        return None if g is None else ops.expand(ops.unsqueeze(g, 0), (level.size, *g.shape))

    Whole.__name__ = cls.__name__
    with below(level):
        outs = Whole.apply(*_inner(level, args))
    made = wrapped(outs, outs_batched)
    return made[0] if single[0] else made


function.applied_in_level = applied

__all__ = ["VmapInfo", "applied"]

"""Functions whose derivative the user writes (PyTorch: ``torch.autograd.Function``)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flambeau.ir.grad import fit_gradient
from flambeau.runtime import autograd
from flambeau.runtime.autograd import GradMode, GradNode, Saved, SavedOutput, edge_of
from flambeau.runtime.tensor import Tensor


class FunctionCtx:
    """What ``forward`` leaves for ``backward``."""

    def __init__(self) -> None:
        self.needs_input_grad: tuple[bool, ...] = ()
        self.materialize_grads = True
        self.to_save: tuple[Any, ...] = ()
        self.dirty_tensors: tuple[Tensor, ...] = ()
        self.non_differentiable: tuple[Tensor, ...] = ()
        self._saved: tuple[Any, ...] | None = ()
        self._node: Any = None

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep inputs and outputs (or None) for ``saved_tensors``; changing them in place is then an error."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(f"save_for_backward can only save variables, but argument 0 is of type {type(t).__name__}")
        self.to_save = tensors

    save_for_forward = save_for_backward

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What ``save_for_backward`` kept."""
        if self._saved is None:
            raise RuntimeError(
                "Trying to backward through the graph a second time (or directly access saved tensors after they have already "
                "been freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). "
                "Specify retain_graph=True if you need to backward through the graph a second time or if you need to access "
                "saved tensors after calling backward.")
        return tuple(s.get(self._node) if isinstance(s, (Saved, SavedOutput)) else s for s in self._saved)

    saved_variables = saved_tensors

    def mark_dirty(self, *args: Tensor) -> None:
        """Say which inputs ``forward`` changed in place (each must be returned)."""
        self.dirty_tensors = args

    def mark_non_differentiable(self, *args: Tensor) -> None:
        """Say which outputs have no gradient."""
        self.non_differentiable = args

    def set_materialize_grads(self, value: bool) -> None:
        """Whether outputs without a gradient give ``backward`` zeros (the default) or None."""
        self.materialize_grads = value


class FunctionNode(GradNode):
    """The tape's record of one ``apply``."""

    __slots__ = ("function", "ctx", "positions")

    def __init__(self, function: type[Function], ctx: FunctionCtx, args: tuple) -> None:
        tensors = [(i, a) for i, a in enumerate(args) if isinstance(a, Tensor)]
        super().__init__([edge_of(a) for _, a in tensors], [])
        self.function, self.ctx = function, ctx
        self.positions = (len(args), [(i, autograd._meta(a)) for i, a in tensors])

    def name(self) -> str:
        return self.function.__name__ + "Backward"

    def apply(self, grads: list[Any], needs: list[bool]) -> list[Any]:
        if self.ctx.materialize_grads:
            grads = [autograd.zeros_of(m) if g is None and m is not None else g for g, m in zip(grads, self.metas)]
        found = self.function.backward(self.ctx, *grads)
        found = found if isinstance(found, tuple) else (found,)
        count, tensors = self.positions
        if len(found) > count and all(g is None for g in found[count:]):
            found = found[:count]
        if len(found) != count:
            raise RuntimeError(f"function {self.name()} returned an incorrect number of gradients (expected {count}, got "
                               f"{len(found)})")
        places = {i for i, _ in tensors}
        for i, g in enumerate(found):
            if g is not None and i not in places:
                raise RuntimeError(f"function {self.name()} returned a gradient different from None at position {i + 1}, but the "
                                   "corresponding forward input was not a Variable")
            if g is not None and not isinstance(g, Tensor):
                raise TypeError(f"function {self.name()} returned {type(g).__name__} at position {i + 1}, expected a Tensor "
                                "or None")
        return [self._fitted(found[i], i, meta) for i, meta in tensors]

    def _fitted(self, g: Any, i: int, meta: Any) -> Any:
        if g is not None and (len(g.shape) < len(meta.shape) or not _sums_to(g.shape, meta.shape)):
            raise RuntimeError(f"Function {self.name()} returned an invalid gradient at index {i} - got {list(g.shape)} but "
                               f"expected shape compatible with {list(meta.shape)}")
        return fit_gradient(g, meta)

    def release(self) -> None:
        self.ctx._saved = None

    # what PyTorch's ctx objects, which are the nodes, show of themselves
    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        return self.ctx.saved_tensors


def _sums_to(shape: Any, target: Any) -> bool:
    """Whether ``shape`` is ``target`` broadcast."""
    lead = len(shape) - len(target)
    return all(t == 1 or s == t for s, t in zip(tuple(shape)[lead:], target))


class Function:
    """Base of functions with a derivative of their own: static ``forward(ctx, *args)`` and ``backward(ctx, *grads)``.

    ``apply`` calls them. With a static ``setup_context(ctx, inputs, output)``, ``forward`` takes no ``ctx``.
    """

    generate_vmap_rule = False

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """The value."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        """Keep in ``ctx`` what ``backward`` needs."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """One gradient (or None) per argument of ``forward``."""
        raise NotImplementedError("You must implement either the backward or vjp method for your custom autograd.Function to "
                                  "use it with backward mode AD.")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run ``forward`` and record it."""
        ctx = FunctionCtx()
        ctx.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        recording = autograd.mode.grad and any(ctx.needs_input_grad)
        with GradMode(False):
            output = _forward(cls, ctx, args, kwargs)
        if not recording:
            ctx._saved = ctx.to_save
            return output
        node = ctx._node = FunctionNode(cls, ctx, args)
        outs = output if isinstance(output, tuple) else (output,)
        results = tuple(_taped(o, nr, node, args) if isinstance(o, Tensor) else o for nr, o in enumerate(outs))
        node.metas = [autograd._meta(o) if isinstance(o, Tensor) else None for o in results]
        ctx._saved = tuple(_kept(t, outs, results) for t in ctx.to_save)
        ctx.to_save, ctx.dirty_tensors, ctx.non_differentiable = (), (), ()
        return results if isinstance(output, tuple) else results[0]


def _forward(cls: type[Function], ctx: FunctionCtx, args: tuple, kwargs: dict[str, Any]) -> Any:
    if cls.setup_context is Function.setup_context:
        return cls.forward(ctx, *args, **kwargs)
    output = cls.forward(*args, **kwargs)
    cls.setup_context(ctx, args, output)
    return output


def _is_one_of(t: Any, tensors: tuple) -> bool:
    return any(t is other for other in tensors)


def _taped(out: Tensor, nr: int, node: FunctionNode, args: tuple) -> Tensor:
    """``out`` as output ``nr`` of the node; an input that is returned unchanged becomes an alias."""
    ctx = node.ctx
    if _is_one_of(out, ctx.non_differentiable) or not out.dtype.differentiable:
        return out
    if _is_one_of(out, ctx.dirty_tensors):
        if out.grad_fn is None and out.requires_grad:
            raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
        node.metas = [autograd._meta(out)]
        autograd.rebase(out, node)
        out._out_nr = nr
        return out
    if _is_one_of(out, args) or out._view is not None:
        out = Tensor(out._a, out._storage)
    out._rg, out._grad_fn, out._out_nr = True, node, nr
    return out


def _kept(t: Any, outs: tuple, results: tuple) -> Any:
    """A tensor for the backward pass; an output is kept without its history, which would make a cycle."""
    if t is None:
        return None
    for nr, (before, after) in enumerate(zip(outs, results)):
        if t is before and after._rg:
            return SavedOutput(after, nr)
    return Saved(t)


class _OnceNode(GradNode):
    """Stands behind gradients that cannot be differentiated again."""

    __slots__ = ()

    def apply(self, grads: list[Any], needs: list[bool]) -> list[Any]:
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")


def once_differentiable(fn: Callable) -> Callable:
    """Decorates a ``backward`` that must not be differentiated itself."""
    @functools.wraps(fn)
    def wrapper(ctx: Any, *args: Any) -> Any:
        with GradMode(False):
            outputs = fn(ctx, *args)
        if not autograd.mode.grad or not any(isinstance(a, Tensor) and a.requires_grad for a in args):
            return outputs
        outs = outputs if isinstance(outputs, tuple) else (outputs,)
        node = _OnceNode([edge_of(a) for a in args if isinstance(a, Tensor)], [])
        node.metas = [autograd._meta(o) if isinstance(o, Tensor) else None for o in outs]
        marked = []
        for nr, o in enumerate(outs):
            if isinstance(o, Tensor):
                o = Tensor(o._a, o._storage)
                o._rg, o._grad_fn, o._out_nr = True, node, nr
            marked.append(o)
        return tuple(marked) if isinstance(outputs, tuple) else marked[0]

    return wrapper

"""Functions whose derivative the user writes (PyTorch: ``torch.autograd.Function``)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flambeau.ir.grad import fit_gradient
from flambeau.runtime import autograd
from flambeau.runtime.autograd import GradMode, GradNode, Saved, SavedOutput, edge_of
from flambeau.runtime.levels import highest_of, levels
from flambeau.runtime.observers import innermost_hooks
from flambeau.runtime.tensor import Tensor

applied_in_level: Any = None  # `apply` where a transform has wrapped an argument; set by function_levels


class FunctionCtx:
    """What ``forward`` leaves for ``backward``."""

    def __init__(self) -> None:
        self.needs_input_grad: tuple[bool, ...] = ()
        self.materialize_grads = True
        self.to_save: tuple[Any, ...] = ()
        self.dirty_tensors: tuple[Tensor, ...] = ()
        self.non_differentiable: tuple[Tensor, ...] = ()
        self.saved_for_forward: tuple[Any, ...] = ()
        self._saved: tuple[Any, ...] | None = ()
        self._node: Any = None

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep inputs and outputs (or None) for ``saved_tensors``; changing them in place is then an error."""
        for i, t in enumerate(tensors):
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(f"save_for_backward can only save variables, but argument {i} is of type {type(t).__name__}")
        self.to_save = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        """Keep tensors for ``saved_tensors`` in ``jvp``."""
        self.saved_for_forward = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What ``save_for_backward`` kept."""
        if self._saved is None:
            raise RuntimeError(
                "Trying to backward through the graph a second time (or directly access saved tensors after they have already "
                "been freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). "
                "Specify retain_graph=True if you need to backward through the graph a second time or if you need to access "
                "saved tensors after calling backward.")
        return tuple(s if s is None or isinstance(s, Tensor) else s.get(self._node) for s in self._saved)

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


    # what PyTorch's ctx objects, which are the nodes, do beside
    @property
    def next_functions(self) -> tuple:
        """The nodes that gradients of the arguments go to."""
        return self._node.next_functions

    @property
    def metadata(self) -> dict[str, Any]:
        """What the user notes of the node."""
        return self._node.metadata

    def name(self) -> str:
        """The node's name."""
        return self._node.name()

    def register_hook(self, fn: Callable) -> Any:
        """See ``graph.Node.register_hook``."""
        return self._node.register_hook(fn)

    def register_prehook(self, fn: Callable) -> Any:
        """See ``graph.Node.register_prehook``."""
        return self._node.register_prehook(fn)


class FunctionNode(GradNode):
    """The tape's record of one ``apply``."""

    __slots__ = ("function", "ctx", "positions")

    def __init__(self, function: type[Function], ctx: FunctionCtx, args: tuple,
                 edge: Callable[[Any], Any] = edge_of) -> None:
        tensors = [(i, a) for i, a in enumerate(args) if isinstance(a, Tensor)]
        super().__init__([edge(a) for _, a in tensors], [])
        self.function, self.ctx = function, ctx
        self.positions = (len(args), [(i, autograd._meta(a)) for i, a in tensors])

    def name(self) -> str:
        return self.function.__name__ + "Backward"

    def apply(self, grads: list[Any], needs: list[bool]) -> list[Any]:
        if self.ctx.materialize_grads:
            grads = [autograd.zeros_of(m) if g is None and m is not None else g for g, m in zip(grads, self.metas)]
        found = _backward_of(self.function)(self.ctx, *grads)
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

    def __getattr__(self, name: str) -> Any:
        """What ``forward`` has left in ``ctx``: in PyTorch that is the node."""
        if name.startswith("__") or name in ("ctx", "_metadata"):
            raise AttributeError(name)
        return getattr(self.ctx, name)


def _backward_of(cls: type[Function]) -> Callable[..., Any]:
    """The derivative, under whichever of its two names it was given."""
    own, other = cls.backward is not Function.backward, cls.vjp is not Function.vjp
    if own and other:
        raise RuntimeError("Implementing both 'backward' and 'vjp' for a custom Function is not allowed. You should only "
                           "implement "
                           "one of them.")
    return cls.vjp if other else cls.backward


def _sums_to(shape: Any, target: Any) -> bool:
    """Whether ``shape`` is ``target`` broadcast."""
    lead = len(shape) - len(target)
    return all(t == 1 or s == t for s, t in zip(tuple(shape)[lead:], target))


class Function:
    """Base of functions with a derivative of their own: static ``forward(ctx, *args)`` and ``backward(ctx, *grads)``.

    ``apply`` calls them. With a static ``setup_context(ctx, inputs, output)``, ``forward`` takes no ``ctx``.
    """

    generate_vmap_rule = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("Legacy autograd function with non-static forward method is deprecated. Please use new-style autograd "
                           "function with static forward method.")

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

    vjp = backward

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        """The outputs' tangents from those of the arguments (None: not a tensor)."""
        raise NotImplementedError("You must implement the jvp function for custom autograd.Function to use it with forward mode "
                                  "AD.")

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        """``(outputs, out_dims)`` of a batch: arguments with their batch dimension ``in_dims``; ``info.batch_size``,
        ``info.randomness``."""
        raise NotImplementedError("To use autograd.Function with vmap, you must either override the vmap staticmethod or set "
                                  "generate_vmap_rule=True.")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run ``forward`` and record it."""
        if levels.active:
            level = highest_of(args)
            if level is not None:
                return applied_in_level(cls, level, args, kwargs)
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
        ctx._saved = tuple(_kept(t, outs, results, node) for t in ctx.to_save)
        ctx.to_save, ctx.dirty_tensors, ctx.non_differentiable = (), (), ()
        return results if isinstance(output, tuple) else results[0]


def _forward(cls: type[Function], ctx: FunctionCtx, args: tuple, kwargs: dict[str, Any]) -> Any:
    if cls.setup_context is Function.setup_context:
        return cls.forward(ctx, *args, **kwargs)
    output = cls.forward(*args, **kwargs)
    cls.setup_context(ctx, args, output)
    return output


class InplaceFunction(Function):
    """A function that may work in place (PyTorch's old name for it)."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace


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


def _kept(t: Any, outs: tuple, results: tuple, node: FunctionNode) -> Any:
    """A tensor for the backward pass; an output is kept without its history, which would make a cycle."""
    if t is None:
        return None
    hooks = innermost_hooks()
    for nr, (before, after) in enumerate(zip(outs, results)):
        if t is before and after._rg and after._grad_fn is node:
            return SavedOutput(after, nr) if hooks is None else hooks.keep(after.detach(), nr)
    return Saved(t) if hooks is None else hooks.keep(t)


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

    wrapper.__flambeau_once__ = True  # type: ignore[attr-defined]
    return wrapper


Function.apply.__func__.__flambeau_higher_order__ = "custom_function"  # type: ignore[attr-defined]

"""Activation checkpointing (PyTorch: ``torch.utils.checkpoint``): what a function's backward needs is computed again.

Without reentrance, hooks on saved tensors put numbers in the place of what the tape would keep; the first tensor that is
asked back runs the function once more, under hooks that collect. With it, the function runs off the tape, and its backward
runs it once more on a tape of its own.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flambeau.autograd.function import Function
from flambeau.autograd.graph import saved_tensors_hooks
from flambeau.compiler import is_compiling
from flambeau.runtime import autograd, observers
from flambeau.runtime.autograd import GradMode, mode
from flambeau.runtime.rng import default_generator
from flambeau.runtime.tensor import Tensor

_early_stop = True
_debug: bool | None = None


class CheckpointError(RuntimeError):
    """The second run of a checkpointed function did not do what the first did."""


class _Stop(Exception):  # noqa: N818 - ends a recomputation that has all it needs
    pass


def noop_context_fn() -> tuple[Any, Any]:
    """Contexts of the first and the second run that do nothing."""
    return contextlib.nullcontext(), contextlib.nullcontext()


@contextlib.contextmanager
def set_checkpoint_early_stop(enable: bool) -> Iterator[None]:
    """A block in which second runs end as soon as everything needed is there (the default), or do not."""
    global _early_stop
    before, _early_stop = _early_stop, enable
    try:
        yield
    finally:
        _early_stop = before


@contextlib.contextmanager
def set_checkpoint_debug_enabled(enabled: bool | None) -> Iterator[None]:
    """A block in which ``debug`` of all checkpoints is set (None: as each call says)."""
    global _debug
    before, _debug = _debug, enabled
    try:
        yield
    finally:
        _debug = before


def checkpoint(function: Callable, *args: Any, use_reentrant: bool | None = None, context_fn: Callable = noop_context_fn,
               determinism_check: str = "default", debug: bool = False, early_stop: bool = True, **kwargs: Any) -> Any:
    """``function(*args, **kwargs)``, whose intermediate values are computed again for the backward pass.

    Args:
        use_reentrant: which of the two ways (False is the better one; keyword arguments need it).
        context_fn: returns the contexts of the first and of the second run.
        determinism_check: ``"default"`` compares shapes and dtypes of both runs, ``"none"`` nothing.
        preserve_rng_state: draw the same random numbers again (default True).
    """
    if use_reentrant is None:
        warnings.warn("torch.utils.checkpoint: the use_reentrant parameter should be passed explicitly. Starting in PyTorch 2.9, "
                      "calling checkpoint without use_reentrant will raise an exception. use_reentrant=False is recommended.",
                      stacklevel=2)
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if is_compiling():  # the partitioner decides what is kept and what is computed again
        return function(*args, **kwargs)
    if kwargs and use_reentrant:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    if use_reentrant:
        if context_fn is not noop_context_fn or debug:
            raise ValueError("Passing `context_fn` or `debug` is only supported when use_reentrant=False.")
        return CheckpointFunction.apply(function, preserve, *args)
    if determinism_check not in ("default", "none"):
        raise ValueError(f"determinism_check should be one of ['default', 'none'] but got {determinism_check}")
    if not mode.grad:
        return function(*args, **kwargs)
    frame = _Frame(function, args, kwargs, preserve, context_fn, determinism_check == "default", early_stop and _early_stop)
    return frame.run()


def checkpoint_sequential(functions: Any, segments: int, input: Any, use_reentrant: bool | None = None,  # noqa: A002
                          **kwargs: Any) -> Any:
    """The modules of a Sequential (or functions of a list), in ``segments`` parts of which all but the last are checkpointed."""
    if use_reentrant is None:
        warnings.warn("torch.utils.checkpoint.checkpoint_sequential: the use_reentrant parameter should be passed explicitly. "
                      "use_reentrant=False is recommended.", stacklevel=2)
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    steps = list(functions.children()) if hasattr(functions, "children") else list(functions)
    size = len(steps) // segments
    end = -1
    for start in range(0, size * (segments - 1), size):
        end = start + size - 1
        input = checkpoint(_chain(steps[start:end + 1]), input, use_reentrant=use_reentrant,  # noqa: A002
                           preserve_rng_state=preserve)
    return _chain(steps[end + 1:])(input)


def _chain(steps: Iterable[Callable]) -> Callable[[Any], Any]:
    def run(x: Any) -> Any:
        for step in steps:
            x = step(x)
        return x
    return run


class _State:
    """What a second run must find as the first did: the generator's state and autocast's settings."""

    def __init__(self, preserve: bool) -> None:
        self.rng = default_generator().get_state() if preserve else None
        self.autocast = mode.autocast

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        generator, autocast = default_generator(), mode.autocast
        now = generator.get_state() if self.rng is not None else None
        if self.rng is not None:
            generator.set_state(self.rng)
        mode.autocast = self.autocast
        try:
            yield
        finally:
            mode.autocast = autocast
            if now is not None:
                generator.set_state(now)


# ---- without reentrance ---------------------------------------------------------------------------------------------


class _Frame:
    """One checkpointed call: what it takes to run it again, and what the last such run has collected."""

    def __init__(self, function: Callable, args: tuple, kwargs: dict[str, Any], preserve: bool, context_fn: Callable,
                 check: bool, early_stop: bool) -> None:
        self.function, self.check, self.early_stop = function, check, early_stop
        self.state = _State(preserve)
        self.contexts = context_fn()
        outer = observers.innermost_hooks()  # a checkpoint around this one: our inputs are intermediate values of it
        self.args = tuple(self._kept(a, outer) for a in args)
        self.kwargs = {k: self._kept(v, outer) for k, v in kwargs.items()}
        self.given = args, kwargs
        self.metas: list[tuple] = []
        self.found: dict[int, Tensor] = {}

    @staticmethod
    def _kept(x: Any, outer: Any) -> Any:
        return outer.keep(x) if outer is not None and isinstance(x, Tensor) and x.requires_grad else x

    def run(self) -> Any:
        args, kwargs = self.given
        del self.given
        with saved_tensors_hooks(self._pack, self._unpack), self.contexts[0]:
            return self.function(*args, **kwargs)

    def _pack(self, t: Tensor) -> int:
        self.metas.append(_meta(t))
        return len(self.metas) - 1

    def _unpack(self, number: int) -> Tensor:
        if number not in self.found:
            self._recompute()
        return self.found.pop(number)

    def _recompute(self) -> None:
        self.found = {}
        count = 0

        def collect(t: Tensor) -> Tensor:
            nonlocal count
            if count >= len(self.metas):
                raise CheckpointError("torch.utils.checkpoint: trying to save more tensors during recomputation than during the "
                                      "original forward pass.")
            self.found[count] = t.detach()  # type: ignore[attr-defined]
            count += 1
            if self.early_stop and count == len(self.metas):
                raise _Stop
            return t

        args = tuple(_taken(a) for a in self.args)
        kwargs = {k: _taken(v) for k, v in self.kwargs.items()}
        with contextlib.suppress(_Stop), GradMode(True), self.state.restored(), self.contexts[1], \
                saved_tensors_hooks(collect, lambda t: t):
            self.function(*args, **kwargs)
        if count != len(self.metas):
            raise CheckpointError("torch.utils.checkpoint: A different number of tensors was saved during the original forward "
                                  f"and recomputation.\nNumber of tensors saved during forward: {len(self.metas)}\nNumber of "
                                  f"tensors saved during recomputation: {count}.")
        if self.check:
            self._compare()

    def _compare(self) -> None:
        wrong = [f"tensor at position {i}:\nsaved metadata: {meta}\nrecomputed metadata: {_meta(self.found[i])}"
                 for i, meta in enumerate(self.metas) if _meta(self.found[i]) != meta]
        if wrong:
            raise CheckpointError("torch.utils.checkpoint: Recomputed values for the following tensors have different metadata "
                                  "than during the forward pass.\n" + "\n".join(wrong))


def _meta(t: Tensor) -> tuple:
    return tuple(t.shape), t.dtype, str(t.device)


def _taken(x: Any) -> Any:
    """An argument for the second run: a leaf of its own where the first was on the tape."""
    if hasattr(x, "packed"):
        x = x.get(None)
    if not isinstance(x, Tensor) or not x.requires_grad or x.is_leaf:
        return x
    return x.detach().requires_grad_()  # type: ignore[attr-defined]


# ---- with reentrance --------------------------------------------------------------------------------------------------


class CheckpointFunction(Function):
    """The checkpointed call as one step of the tape."""

    @staticmethod
    def forward(ctx: Any, run_function: Callable, preserve_rng_state: bool, *args: Any) -> Any:  # type: ignore[override]
        if not any(isinstance(a, Tensor) and a.requires_grad for a in args):
            warnings.warn("None of the inputs have requires_grad=True. Gradients will be None", stacklevel=2)
        ctx.run_function, ctx.state = run_function, _State(preserve_rng_state)
        ctx.places = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        ctx.inputs = [None if isinstance(a, Tensor) else a for a in args]
        ctx.save_for_backward(*(args[i] for i in ctx.places))
        return run_function(*args)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        if mode.run is not None and mode.run.needed is not None:
            raise RuntimeError("When use_reentrant=True, torch.utils.checkpoint is incompatible with .grad() or passing an "
                               "`inputs` parameter to .backward(). To resolve this error, you can either set "
                               "use_reentrant=False, or call .backward() without passing the `inputs` argument.")
        inputs = list(ctx.inputs)
        for i, t in zip(ctx.places, ctx.saved_tensors):
            inputs[i] = t.detach().requires_grad_(t.requires_grad)
        with GradMode(True), ctx.state.restored():
            outputs = ctx.run_function(*inputs)
        pairs = [(o, g) for o, g in zip(outputs if isinstance(outputs, tuple) else (outputs,), grads)
                 if isinstance(o, Tensor) and o.requires_grad]
        if not pairs:
            raise RuntimeError("none of output has requires_grad=True, this checkpoint() is not necessary")
        autograd.backward([o for o, _ in pairs], [g for _, g in pairs])
        return (None, None, *(x.grad if isinstance(x, Tensor) else None for x in inputs))


__all__ = ["CheckpointError", "CheckpointFunction", "checkpoint", "checkpoint_sequential", "noop_context_fn",
           "set_checkpoint_debug_enabled", "set_checkpoint_early_stop"]

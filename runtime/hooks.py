"""Hooks on tensors, and the handles that remove them."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tensor import Tensor


class HookHandle:
    """Removes the hook it was returned for (PyTorch: ``RemovableHandle``)."""

    _ids = itertools.count()

    def __init__(self, hooks: dict[int, Callable], fn: Callable) -> None:
        self._hooks, self.id = weakref.ref(hooks) if hasattr(hooks, "__weakref__") else (lambda: hooks), next(self._ids)
        hooks[self.id] = fn

    def remove(self) -> None:
        hooks = self._hooks()
        if hooks is not None:
            hooks.pop(self.id, None)

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


def register_hook(t: Tensor, hook: Callable) -> HookHandle:
    """See ``Tensor.register_hook``."""
    if not t.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    fn = t.grad_fn
    if fn is None:
        if t._hooks is None:
            t._hooks = {}
        return HookHandle(t._hooks, hook)
    if fn.pre_hooks is None:
        fn.pre_hooks = {}
    return HookHandle(fn.pre_hooks.setdefault(t._out_nr, {}), hook)


def register_post_accumulate_grad_hook(t: Tensor, hook: Callable) -> HookHandle:
    """See ``Tensor.register_post_accumulate_grad_hook``."""
    if not t.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if t.grad_fn is not None:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    return HookHandle(t.__dict__.setdefault("_post_accumulate_hooks", {}), hook)


def retain_grad(t: Tensor) -> None:
    """See ``Tensor.retain_grad``."""
    if not t.requires_grad:
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    fn = t.grad_fn
    if fn is not None:
        fn.retained = fn.retained or {}
        fn.retained[t._out_nr] = weakref.ref(t)

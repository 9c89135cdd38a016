"""Hooks of modules: handles, the hooks that all modules share, and steps of the tape that watch gradients pass."""

from __future__ import annotations

import itertools
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from flambeau.runtime import autograd
from flambeau.runtime.tensor import Tensor


class RemovableHandle:
    """Removes the hook it was returned for; also a context manager (PyTorch: ``torch.utils.hooks.RemovableHandle``)."""

    _ids = itertools.count()

    def __init__(self, hooks: OrderedDict, *, extra_dict: Any = ()) -> None:
        self.hooks_dict_ref = weakref.ref(hooks)
        self.id = next(self._ids)
        extra = extra_dict if isinstance(extra_dict, (list, tuple)) else (extra_dict,)
        self.extra_dict_ref = tuple(weakref.ref(d) for d in extra)

    def remove(self) -> None:
        """Take the hook out; a second time does nothing."""
        for ref in (self.hooks_dict_ref, *self.extra_dict_ref):
            hooks = ref()
            if hooks is not None:
                hooks.pop(self.id, None)

    def __getstate__(self) -> tuple:
        return self.hooks_dict_ref(), self.id, [ref() for ref in self.extra_dict_ref]

    def __setstate__(self, state: tuple) -> None:
        """A copied handle removes the hook from the copied module."""
        hooks, self.id, extra = state
        self.hooks_dict_ref = weakref.ref(OrderedDict() if hooks is None else hooks)
        self.extra_dict_ref = tuple(weakref.ref(d) for d in extra if d is not None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


def add_hook(hooks: OrderedDict, hook: Callable, *, prepend: bool = False, flags: tuple[OrderedDict, ...] = (),
             extra: tuple[OrderedDict, ...] = ()) -> RemovableHandle:
    """Enter ``hook``; ``flags`` are dictionaries that mark it by its id, ``extra`` all those it must leave with it."""
    handle = RemovableHandle(hooks, extra_dict=extra)
    hooks[handle.id] = hook
    for flag in flags:
        flag[handle.id] = True
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


# ---- hooks of all modules -----------------------------------------------------------------------------------------

global_forward_pre_hooks: OrderedDict = OrderedDict()
global_forward_hooks: OrderedDict = OrderedDict()
global_forward_hooks_with_kwargs: OrderedDict = OrderedDict()
global_forward_hooks_always_called: OrderedDict = OrderedDict()
global_backward_pre_hooks: OrderedDict = OrderedDict()
global_backward_hooks: OrderedDict = OrderedDict()


def register_module_forward_pre_hook(hook: Callable) -> RemovableHandle:
    """Call ``hook(module, args)`` before every module's forward."""
    return add_hook(global_forward_pre_hooks, hook)


def register_module_forward_hook(hook: Callable, *, with_kwargs: bool = False, always_call: bool = False) -> RemovableHandle:
    """Call ``hook(module, args, output)`` after every module's forward."""
    extra = (global_forward_hooks_with_kwargs, global_forward_hooks_always_called)
    flags = tuple(d for d, on in zip(extra, (with_kwargs, always_call)) if on)
    return add_hook(global_forward_hooks, hook, flags=flags, extra=extra)


def register_module_full_backward_hook(hook: Callable) -> RemovableHandle:
    """Call ``hook(module, grad_input, grad_output)`` after every module's backward."""
    return add_hook(global_backward_hooks, hook)


register_module_backward_hook = register_module_full_backward_hook


def register_module_full_backward_pre_hook(hook: Callable) -> RemovableHandle:
    """Call ``hook(module, grad_output)`` before every module's backward."""
    return add_hook(global_backward_pre_hooks, hook)


# ---- hooks of registering: what they return takes the value's place ----------------------------------------------

parameter_registration_hooks: OrderedDict = OrderedDict()
buffer_registration_hooks: OrderedDict = OrderedDict()
module_registration_hooks: OrderedDict = OrderedDict()


def register_module_parameter_registration_hook(hook: Callable) -> RemovableHandle:
    """Call ``hook(module, name, parameter)`` whenever a parameter is registered anywhere."""
    return add_hook(parameter_registration_hooks, hook)


def register_module_buffer_registration_hook(hook: Callable) -> RemovableHandle:
    """Call ``hook(module, name, buffer)`` whenever a buffer is registered anywhere."""
    return add_hook(buffer_registration_hooks, hook)


def register_module_module_registration_hook(hook: Callable) -> RemovableHandle:
    """Call ``hook(module, name, submodule)`` whenever a module is registered in another."""
    return add_hook(module_registration_hooks, hook)


def registered(hooks: OrderedDict, owner: Any, name: str, value: Any) -> Any:
    """``value``, or what the hooks put in its place."""
    for hook in hooks.values():
        changed = hook(owner, name, value)
        if changed is not None:
            value = changed
    return value


# ---- backward hooks -----------------------------------------------------------------------------------------------


class _Gate(autograd.GradNode):
    """A step that passes the gradients of several tensors on together, through ``visit``."""

    __slots__ = ("visit",)

    def __init__(self, tensors: list[Tensor], visit: Callable[[tuple], tuple]) -> None:
        super().__init__([autograd.edge_of(t) for t in tensors], [autograd._meta(t) for t in tensors])
        self.visit = visit

    def name(self) -> str:
        return "BackwardHookFunctionBackward"

    def apply(self, grads: list[Any], needs: list[bool]) -> list[Any]:
        return list(self.visit(tuple(grads)))


def _through(values: tuple, visit: Callable[[tuple], tuple]) -> tuple[tuple, bool]:
    """``values`` with the tensors that require grad replaced by aliases behind one gate."""
    where = [i for i, v in enumerate(values) if isinstance(v, Tensor) and v.requires_grad]
    if not where or not autograd.mode.grad:
        return values, False
    found = list(values)
    gate = _Gate([values[i] for i in where], lambda grads: _spread(visit, grads, where, len(values)))
    for nr, i in enumerate(where):
        alias = Tensor(values[i]._a, values[i]._storage)
        alias._rg, alias._grad_fn, alias._out_nr = True, gate, nr
        found[i] = alias
    return tuple(found), True


def _spread(visit: Callable[[tuple], tuple], grads: tuple, where: list[int], n: int) -> tuple:
    full: list[Any] = [None] * n
    for g, i in zip(grads, where):
        full[i] = g
    result = visit(tuple(full))
    return tuple(result[i] for i in where)


class BackwardHooks:
    """One call of a module with backward hooks: gates behind its inputs and before its outputs."""

    def __init__(self, module: Any, hooks: list[Callable], pre_hooks: list[Callable]) -> None:
        self.module, self.hooks, self.pre_hooks = module, hooks, pre_hooks
        self.grad_output: tuple | None = None
        self.gated_inputs, self.inputs = False, 0

    def enter(self, args: tuple) -> tuple:
        """The arguments to call forward with."""
        self.inputs = len(args)
        found, self.gated_inputs = _through(args, self._input_grads)
        return found

    def leave(self, result: Any) -> Any:
        """The result to give the caller."""
        values = tuple(result) if isinstance(result, (tuple, list)) else (result,)
        found, _ = _through(values, self._output_grads)
        if isinstance(result, (tuple, list)):
            return type(result)(found) if type(result) in (tuple, list) else type(result)(*found)
        return found[0]

    def _output_grads(self, grads: tuple) -> tuple:
        for hook in self.pre_hooks:
            changed = hook(self.module, grads)
            if changed is not None:
                grads = changed if isinstance(changed, tuple) else (changed,)
        self.grad_output = grads
        if not self.gated_inputs:
            self._call_hooks((None,) * self.inputs, grads)
        return grads

    def _input_grads(self, grads: tuple) -> tuple:
        grad_output, self.grad_output = self.grad_output, None
        return self._call_hooks(grads, grad_output)

    def _call_hooks(self, grad_input: tuple, grad_output: Any) -> tuple:
        for hook in self.hooks:
            changed = hook(self.module, grad_input, grad_output)
            if changed is None:
                continue
            changed = changed if isinstance(changed, tuple) else (changed,)
            if len(changed) != len(grad_input):
                raise RuntimeError(f"Backward hook returned an invalid number of grad_input, got {len(changed)}, but expected "
                                   f"{len(grad_input)}")
            grad_input = changed
        return grad_input

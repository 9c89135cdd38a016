"""The Module: a plain Python object that knows its parameters, buffers and sub-modules by name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from flambeau.ir import dtype as _dtype
from flambeau.ir.device import as_device
from flambeau.ir.dtype import DType
from flambeau.ir.op import ops, type_name
from flambeau.runtime import autograd
from flambeau.runtime.tensor import Tensor

from . import hooks as _hooks
from .hooks import (
    RemovableHandle,
    add_hook,
    register_module_backward_hook,
    register_module_buffer_registration_hook,
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
    register_module_full_backward_pre_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from .parameter import Buffer, Parameter, is_lazy
from .state import StateMixin

T_destination = TypeVar("T_destination", bound=dict[str, Any])
_TABLES = ("_parameters", "_buffers", "_modules")


def type_text(value: Any) -> str:
    """The type of a value as PyTorch's messages name it."""
    kind = type(value)
    if kind is Tensor:
        return f"torch.{'cuda.' if value.is_cuda else ''}{type_name(value.dtype)}Tensor"
    module = "" if kind.__module__ in ("builtins", "__builtin__") else kind.__module__ + "."
    return module.replace("flambeau.", "torch.", 1) + kind.__name__


_Caller = Callable[[Any, tuple, dict[str, Any]], Any]


def _call(fn: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)


class Module(StateMixin):
    """Base of all neural-network modules (PyTorch: ``torch.nn.Module``).

    Parameters, buffers and modules that are assigned as attributes are registered; ``forward`` is what a call runs.
    """

    training: bool
    _is_full_backward_hook: bool | None
    dump_patches = False
    T_destination = T_destination
    call_super_init = False
    _version = 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not self.call_super_init and kwargs:
            raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument '{next(iter(kwargs))}'")
        if not self.call_super_init and args:
            raise TypeError(f"{type(self).__name__}.__init__() takes 1 positional argument but {len(args) + 1} were given")
        put = super().__setattr__
        put("training", True)
        for table in _TABLES:
            put(table, {})
        put("_non_persistent_buffers_set", set())
        put("_is_full_backward_hook", None)
        for table in _HOOK_TABLES:
            put(table, OrderedDict())
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    def forward(self, *input: Any) -> Any:
        """What a call computes; sub-classes define it."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    # ---- attributes

    def __setattr__(self, name: str, value: Any) -> None:
        params = self.__dict__.get("_parameters")
        if isinstance(value, Parameter):
            if params is None:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            self._forget(name, "_parameters")
            self.register_parameter(name, value)
            return
        if params is not None and name in params:
            if value is not None:
                raise TypeError(f"cannot assign '{type_text(value)}' as parameter '{name}' (torch.nn.Parameter or None expected)")
            self.register_parameter(name, value)
            return
        modules = self.__dict__.get("_modules")
        if isinstance(value, Module):
            if modules is None:
                raise AttributeError("cannot assign module before Module.__init__() call")
            self._forget(name, "_modules")
            modules[name] = _hooks.registered(_hooks.module_registration_hooks, self, name, value)
            return
        if modules is not None and name in modules:
            if value is not None:
                raise TypeError(f"cannot assign '{type_text(value)}' as child module '{name}' (torch.nn.Module or None expected)")
            modules[name] = _hooks.registered(_hooks.module_registration_hooks, self, name, value)
            return
        self._set_buffer_or_plain(name, value)

    def _set_buffer_or_plain(self, name: str, value: Any) -> None:
        buffers = self.__dict__.get("_buffers")
        if isinstance(value, Buffer):
            if buffers is None:
                raise AttributeError("cannot assign buffer before Module.__init__() call")
            self._forget(name, "_buffers")
            self.register_buffer(name, value, value.persistent)
        elif buffers is not None and name in buffers:
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(f"cannot assign '{type_text(value)}' as buffer '{name}' (torch.nn.Buffer, torch.Tensor or None "
                                "expected)")
            buffers[name] = _hooks.registered(_hooks.buffer_registration_hooks, self, name, value)
        else:
            super().__setattr__(name, value)

    def _forget(self, name: str, keep: str) -> None:
        """Remove ``name`` wherever it is registered, but in ``keep``."""
        self.__dict__.pop(name, None)
        for table in _TABLES:
            if table != keep:
                self.__dict__[table].pop(name, None)
        self._non_persistent_buffers_set.discard(name)

    def __getattr__(self, name: str) -> Any:
        found = self.__dict__
        for table in _TABLES:
            entries = found.get(table)
            if entries is not None and name in entries:
                return entries[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __delattr__(self, name: str) -> None:
        for table in _TABLES:
            if name in self.__dict__[table]:
                del self.__dict__[table][name]
                self._non_persistent_buffers_set.discard(name)
                return
        super().__delattr__(name)

    def __dir__(self) -> list[str]:
        names = [*dir(type(self)), *self.__dict__, *self._parameters, *self._modules, *self._buffers]
        return sorted(n for n in names if not n[0].isdigit())

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for table in _HOOK_TABLES:
            self.__dict__.setdefault(table, OrderedDict())
        self.__dict__.setdefault("_non_persistent_buffers_set", set())
        self.__dict__.setdefault("_is_full_backward_hook", None)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_compiled_call_impl", None)
        return state

    # ---- registering

    def _check_name(self, name: Any, kind: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {type_text(name)}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain "."' + (f", got: {name}" if kind == "module" else ""))
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add ``param`` (or None, a place for one) under ``name``."""
        if "_parameters" not in self.__dict__:
            raise AttributeError("cannot assign parameter before Module.__init__() call")
        self._check_name(name, "parameter")
        if hasattr(self, name) and name not in self._parameters:
            raise KeyError(f"attribute '{name}' already exists")
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"cannot assign '{type_text(param)}' object to parameter '{name}' (torch.nn.Parameter or None "
                            "required)")
        if param is not None and param.grad_fn is not None:
            raise ValueError(f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created explicitly. "
                             f"To express '{name}' as a function of another Tensor, compute the value in the forward() method.")
        if param is not None:
            param = _hooks.registered(_hooks.parameter_registration_hooks, self, name, param)
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is state but no parameter; only a ``persistent`` one is part of ``state_dict``."""
        if "_buffers" not in self.__dict__:
            raise AttributeError("cannot assign buffer before Module.__init__() call")
        self._check_name(name, "buffer")
        if hasattr(self, name) and name not in self._buffers:
            raise KeyError(f"attribute '{name}' already exists")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"cannot assign '{type_text(tensor)}' object to buffer '{name}' (torch Tensor or None required)")
        self._buffers[name] = _hooks.registered(_hooks.buffer_registration_hooks, self, name, tensor)
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a sub-module under ``name``."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type_text(module)} is not a Module subclass")
        self._check_name(name, "module")
        if hasattr(self, name) and name not in self._modules:
            raise KeyError(f"attribute '{name}' already exists")
        self._modules[name] = _hooks.registered(_hooks.module_registration_hooks, self, name, module)

    def register_module(self, name: str, module: Module | None) -> None:
        """``add_module`` under its other name."""
        self.add_module(name, module)

    # ---- looking up

    def get_submodule(self, target: str) -> Module:
        """The sub-module with the dotted name ``target`` ("": this one). Raises ``AttributeError``."""
        found = self
        for atom in target.split(".") if target else ():
            if not hasattr(found, atom):
                raise AttributeError(f"{type(found).__name__} has no attribute `{atom}`")
            found = getattr(found, atom)
            if not isinstance(found, Module):
                raise AttributeError(f"`{atom}` is not an nn.Module")
        return found

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put ``module`` where the dotted name ``target`` is (with ``strict``, only in place of an existing one)."""
        if target == "":
            raise ValueError("Cannot set the submodule without a target name!")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        if strict and not hasattr(parent, name):
            raise AttributeError(f"{type(parent).__name__} has no attribute `{name}`")
        setattr(parent, name, module)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with the dotted name ``target``. Raises ``AttributeError``."""
        return self._get_tensor(target, "_parameters", "an nn.Parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer with the dotted name ``target``. Raises ``AttributeError``."""
        return self._get_tensor(target, "_buffers", "a buffer")

    def _get_tensor(self, target: str, table: str, kind: str) -> Any:
        path, _, name = target.rpartition(".")
        owner = self.get_submodule(path)
        if not hasattr(owner, name):
            raise AttributeError(f"{type(owner).__name__} has no attribute `{name}`")
        if name not in owner.__dict__[table]:
            raise AttributeError(f"`{name}` is not {kind}")
        return getattr(owner, name)

    # ---- iterating

    def _named_members(self, get: Callable[[Module], Any], prefix: str = "", recurse: bool = True,
                       remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        seen: set[Any] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, value in get(module):
                if value is None or value in seen:
                    continue
                if remove_duplicate:
                    seen.add(value)
                yield path + ("." if path else "") + name, value

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once."""
        for _, param in self.named_parameters(recurse=recurse):
            yield param

    def named_parameters(self, prefix: str = "", recurse: bool = True,
                         remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter) pairs."""
        yield from self._named_members(lambda m: m._parameters.items(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def named_buffers(self, prefix: str = "", recurse: bool = True,
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, buffer) pairs."""
        yield from self._named_members(lambda m: m._buffers.items(), prefix, recurse, remove_duplicate)

    def children(self) -> Iterator[Module]:
        """The direct sub-modules, each once."""
        for _, module in self.named_children():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, direct sub-module) pairs."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """This module and all below it, each once."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def named_modules(self, memo: set[Module] | None = None, prefix: str = "",
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) pairs: this module, then all below it."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, prefix + ("." if prefix else "") + name, remove_duplicate)

    # ---- changing all of it

    def apply(self, fn: Callable[[Module], None]) -> Module:
        """Call ``fn`` with every module, children first."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Module:
        """Replace the data of every parameter, its gradient, and every buffer by ``fn`` of it."""
        if recurse:
            for module in self.children():
                module._apply(fn)
        for param in self._parameters.values():
            if param is None:
                continue
            if is_lazy(param):
                param.data = fn(param.data)
                continue
            with autograd.GradMode(False):
                changed = fn(param)
                grad = None if param.grad is None else fn(param.grad)
            param.data = changed
            if grad is not None:
                param._grad = grad
        for name, buffer in self._buffers.items():
            if is_lazy(buffer):
                buffer.data = fn(buffer.data)  # type: ignore[union-attr]
            elif buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Module:
        """Move and cast, in place: ``to(device)``, ``to(dtype)`` (floating tensors only), ``to(tensor)``."""
        device, dtype = _parse_to(*args, **kwargs)
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError(f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={dtype}")

        def convert(t: Tensor) -> Tensor:
            kind = dtype if dtype is not None and (t.is_floating_point() or t.is_complex()) else t.dtype
            if t.is_meta and device is not None and as_device(device).type != "meta":
                raise NotImplementedError("Cannot copy out of meta tensor; no data! Please use torch.nn.Module.to_empty() "
                                          "instead of torch.nn.Module.to() when moving module from meta to a different device.")
            return t.to(device if device is not None else t.device, kind)

        return self._apply(convert)

    def to_empty(self, *, device: Any, recurse: bool = True) -> Module:
        """Give every parameter and buffer new memory on ``device``, uninitialized, in place."""
        return self._apply(lambda t: ops.empty_like(t, device=device), recurse=recurse)

    def type(self, dst_type: Any) -> Module:
        """Cast all parameters and buffers to ``dst_type``, in place."""
        return self._apply(lambda t: t.to(dst_type))

    def _cast(self, dtype: DType) -> Module:
        return self._apply(lambda t: t.to(dtype) if t.is_floating_point() else t)

    def float(self) -> Module:
        """Cast floating parameters and buffers to float32, in place."""
        return self._cast(_dtype.float32)

    def double(self) -> Module:
        """Cast floating parameters and buffers to float64, in place."""
        return self._cast(_dtype.float64)

    def half(self) -> Module:
        """Cast floating parameters and buffers to float16, in place."""
        return self._cast(_dtype.float16)

    def bfloat16(self) -> Module:
        """Cast floating parameters and buffers to bfloat16, in place."""
        return self._cast(_dtype.bfloat16)

    def cpu(self) -> Module:
        """Move all parameters and buffers to the CPU, in place."""
        return self._apply(lambda t: t.cpu())

    def cuda(self, device: Any = None) -> Module:
        """Move all parameters and buffers to the GPU, in place."""
        return self._apply(lambda t: t.cuda(device) if device is not None else t.cuda())

    def train(self, mode: bool = True) -> Module:
        """Set training mode here and below."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self) -> Module:
        """Set evaluation mode here and below."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Set whether the parameters require gradients."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop (or zero) the gradients of all parameters."""
        for p in self.parameters():
            if p.grad is None:
                continue
            if set_to_none:
                p.grad = None
            else:
                p.grad = ops.zeros_like(ops.detach(p.grad))

    def share_memory(self) -> Module:
        """Move all tensors to memory that processes started from now on see too (``Tensor.share_memory_``)."""
        return self._apply(lambda t: t.share_memory_())

    # ---- calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        compiled = self.__dict__.get("_compiled_call_impl")
        if compiled is not None:
            return compiled(*args, **kwargs)
        return self._call_impl(*args, **kwargs)

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        if not (self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks
                or _hooks.global_forward_hooks or _hooks.global_forward_pre_hooks or _hooks.global_backward_hooks
                or _hooks.global_backward_pre_hooks):
            return self.forward(*args, **kwargs)
        return self._call_with_hooks(args, kwargs)

    def _call_with_hooks(self, args: tuple, kwargs: dict[str, Any], call: _Caller = _call) -> Any:
        done: set[int] = set()
        result = None
        try:
            args, kwargs = self._run_pre_hooks(args, kwargs, call)
            gates = self._backward_gates()
            if gates is not None:
                args = gates.enter(args)
            result = call(self.forward, args, kwargs)
            result = self._run_hooks(args, kwargs, result, done, only_always=False, call=call)
            return result if gates is None else gates.leave(result)
        except Exception:
            self._run_hooks(args, kwargs, result, done, only_always=True, call=call)
            raise

    def _run_pre_hooks(self, args: tuple, kwargs: dict[str, Any], call: _Caller = _call) -> tuple[tuple, dict[str, Any]]:
        for key, hook in (*_hooks.global_forward_pre_hooks.items(), *self._forward_pre_hooks.items()):
            if key in self._forward_pre_hooks_with_kwargs:
                changed = call(hook, (self, args, kwargs), {})
                if changed is not None:
                    if not (isinstance(changed, tuple) and len(changed) == 2):
                        raise RuntimeError(f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got "
                                           f"{changed}.")
                    args, kwargs = changed
                continue
            changed = call(hook, (self, args), {})
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        return args, kwargs

    def _run_hooks(self, args: tuple, kwargs: dict[str, Any], result: Any, done: set[int], *, only_always: bool,
                   call: _Caller = _call) -> Any:
        tables = ((_hooks.global_forward_hooks, _hooks.global_forward_hooks_with_kwargs,
                   _hooks.global_forward_hooks_always_called),
                  (self._forward_hooks, self._forward_hooks_with_kwargs, self._forward_hooks_always_called))
        for hooks, with_kwargs, always in tables:
            for key, hook in list(hooks.items()):
                if key in done or (only_always and key not in always):
                    continue
                done.add(key)
                changed = call(hook, (self, args, kwargs, result) if key in with_kwargs else (self, args, result), {})
                if changed is not None:
                    result = changed
        return result

    def _backward_gates(self) -> _hooks.BackwardHooks | None:
        hooks = [*_hooks.global_backward_hooks.values(), *self._backward_hooks.values()]
        pre_hooks = [*_hooks.global_backward_pre_hooks.values(), *self._backward_pre_hooks.values()]
        return _hooks.BackwardHooks(self, hooks, pre_hooks) if hooks or pre_hooks else None

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile this module's forward in place; arguments as for ``flambeau.compile``."""
        import flambeau  # noqa: PLC0415
        self.__dict__["_compiled_call_impl"] = flambeau.compile(self._call_impl, *args, **kwargs)

    # ---- hooks

    def register_forward_pre_hook(self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False) -> RemovableHandle:
        """Call ``hook(module, args)`` before forward; what it returns replaces the arguments."""
        extra = (self._forward_pre_hooks_with_kwargs,)
        return add_hook(self._forward_pre_hooks, hook, prepend=prepend, flags=extra if with_kwargs else (), extra=extra)

    def register_forward_hook(self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False,
                              always_call: bool = False) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after forward; what it returns replaces the output."""
        extra = (self._forward_hooks_with_kwargs, self._forward_hooks_always_called)
        flags = tuple(d for d, on in zip(extra, (with_kwargs, always_call)) if on)
        return add_hook(self._forward_hooks, hook, prepend=prepend, flags=flags, extra=extra)

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` once the gradients of the inputs are known."""
        self._backward_hooks_are(True)
        return add_hook(self._backward_hooks, hook, prepend=prepend)

    def register_backward_hook(self, hook: Callable) -> RemovableHandle:
        """The old form of :meth:`register_full_backward_hook`: here it sees the same gradients."""
        self._backward_hooks_are(False)
        return add_hook(self._backward_hooks, hook)

    def _backward_hooks_are(self, full: bool) -> None:
        if self._is_full_backward_hook is (not full):
            raise RuntimeError("Cannot use both regular backward hooks and full backward hooks on a single Module. Please use "
                               "only one of them.")
        self._is_full_backward_hook = full

    def register_full_backward_pre_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` before the gradients of the inputs are computed."""
        return add_hook(self._backward_pre_hooks, hook, prepend=prepend)

    # ---- printing

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What ``repr`` prints of the module's own settings."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        own = extra.split("\n") if extra else []
        below = [f"({name}): {_indented(repr(module))}" for name, module in self._modules.items()]
        head = self._get_name() + "("
        if not own + below:
            return head + ")"
        if len(own) == 1 and not below:
            return head + own[0] + ")"
        return head + "\n  " + "\n  ".join(own + below) + "\n)"


_HOOK_TABLES = ("_backward_pre_hooks", "_backward_hooks", "_forward_hooks", "_forward_hooks_with_kwargs",
                "_forward_hooks_always_called", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_state_dict_hooks",
                "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")


def _indented(text: str) -> str:
    """``text`` with all lines but the first moved right."""
    return text.replace("\n", "\n  ")


def _addindent(s_: str, numSpaces: int) -> str:  # noqa: N803 - PyTorch's name
    """``s_`` with all lines but the first moved right, as classes of programs print themselves."""
    return s_.replace("\n", "\n" + " " * numSpaces)


def _parse_to(*args: Any, device: Any = None, dtype: Any = None, non_blocking: bool = False, copy: bool = False,
              memory_format: Any = None, tensor: Any = None) -> tuple[Any, Any]:
    """Device and dtype (None: as they are) from the arguments of ``to``."""
    for a in args:
        if isinstance(a, Tensor):
            tensor = a
        elif isinstance(a, DType):
            dtype = a
        elif a is not None and not isinstance(a, bool):
            device = a
    if tensor is not None:
        device, dtype = tensor.device, tensor.dtype
    return device, dtype


def _call_through(call: _Caller, module: Module, args: tuple, kwargs: dict[str, Any]) -> Any:
    """``module(*args, **kwargs)`` with ``call`` for the calls of ``forward`` and of hooks: how compiled code that broke
    in a module gets to the program's own functions without compiling what is around them."""
    compiled = module.__dict__.get("_compiled_call_impl")
    if compiled is not None or type(module)._call_impl is not Module._call_impl:
        return (compiled or module._call_impl)(*args, **kwargs)
    return _call_impl_through(call, module, args, kwargs)


def _call_impl_through(call: _Caller, module: Module, args: tuple, kwargs: dict[str, Any]) -> Any:
    if _is_hooked(module):
        return module._call_with_hooks(args, kwargs, call)
    return call(module.forward, args, kwargs)


def _is_hooked(module: Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
                or _hooks.global_forward_hooks or _hooks.global_forward_pre_hooks or _hooks.global_backward_hooks
                or _hooks.global_backward_pre_hooks)


Module.__call__.__flambeau_through__ = _call_through  # type: ignore[attr-defined]
Module._call_impl.__flambeau_through__ = _call_impl_through  # type: ignore[attr-defined]

__all__ = ["Module", "register_module_backward_hook", "register_module_buffer_registration_hook", "register_module_forward_hook",
           "register_module_forward_pre_hook", "register_module_full_backward_hook", "register_module_full_backward_pre_hook",
           "register_module_module_registration_hook", "register_module_parameter_registration_hook"]

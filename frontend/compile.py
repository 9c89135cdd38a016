"""`compile()`: functions and Modules that run as compiled graphs.

The wrapper keeps compiled versions per code object and resume point (`points`); the first call that no version accepts
captures another one (`trace`) and hands its graph to the backend (`backends`).
"""
from __future__ import annotations

import functools
import warnings
import weakref
from collections.abc import Callable, Sequence
from types import FunctionType, MethodType
from typing import Any

from flambeau.frontend.backends import lookup
from flambeau.frontend.config import config
from flambeau.frontend.points import Context, FallbackWarning, Settings, compilable, make_wrapper
from flambeau.ir.op import is_compiling  # noqa: F401 - public here

_contexts: weakref.WeakSet[Context] = weakref.WeakSet()
_MODES = (None, "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def compile(model: Callable[..., Any] | None = None, *, fullgraph: bool = False, dynamic: bool | None = None,
            backend: str | Callable[..., Any] = "cpp", mode: str | None = None,
            options: dict[str, Any] | None = None, disable: bool = False) -> Any:
    """Compile a function or a Module; also a decorator, with or without arguments (PyTorch: `torch.compile`).

    Args:
        model: a Python function, a bound method, a Module, or any callable object with a Python `__call__`.
        fullgraph: raise `GraphBreakError` where the function cannot be captured as one graph.
        dynamic: True makes sizes symbolic at once, False never; None when a size is seen to change.
        backend: a name (`list_backends()`), or a callable `(graph_module, example_inputs) -> callable`.
        mode: a preset of options: "default", "reduce-overhead" or "max-autotune".
        options: options of the backend, and `recompile_limit`.
        disable: return the model as it is.

    Raises:
        TypeError: `model` is not callable.
        ValueError: unknown backend or mode, or both `mode` and `options` given.
    """
    if mode is not None and options is not None:
        raise ValueError("Either mode or options can be specified, but both can't be specified at the same time.")
    if mode not in _MODES:
        raise ValueError(f"Unrecognized mode={mode}, should be one of: {', '.join(str(m) for m in _MODES if m)}")
    if model is None:
        return functools.partial(compile, fullgraph=fullgraph, dynamic=dynamic, backend=backend, mode=mode,
                                 options=options, disable=disable)
    if not callable(model):
        raise TypeError(f"compile() takes a function or a Module, not a {type(model).__name__}")
    if disable:
        return model
    chosen = dict(options or {})
    if mode not in (None, "default"):
        chosen["mode"] = mode
    settings = Settings(lookup(backend), fullgraph, dynamic, chosen)
    return _compile(model, settings)


def _compile(model: Any, settings: Settings) -> Any:
    if isinstance(model, MethodType):
        return MethodType(_compile(model.__func__, settings), model.__self__)
    if isinstance(model, FunctionType):
        return _compile_function(model, settings)
    if isinstance(model, functools.partial):
        found = functools.partial(_compile(model.func, settings))
        found.__setstate__((found.func, model.args, model.keywords, None))       # type: ignore[attr-defined] # the very dict
        return found
    if isinstance(model, type):
        raise TypeError("compile() takes a function or a Module object, not a class")
    if isinstance(type(model).__call__, FunctionType):
        return _compile_object(model, settings)
    warnings.warn(f"{model!r} runs eagerly: it is not written in Python", FallbackWarning, stacklevel=3)
    return model


def _compile_function(fn: FunctionType, settings: Settings) -> Any:
    original = getattr(fn, "__flambeau_original__", fn)
    if any(hasattr(original, mark) for mark in _KNOWN_WHERE_CALLED):
        original = _caller_of(original)
    if not compilable(original):
        warnings.warn(f"{fn.__qualname__} runs eagerly: generators and coroutines are not compiled",
                      FallbackWarning, stacklevel=4)
        return fn
    context = Context(settings)
    _contexts.add(context)
    wrapper = make_wrapper(context, original)
    functools.update_wrapper(wrapper, original)
    if settings.options.get("check", config.check):
        from flambeau.frontend.checking import checked  # noqa: PLC0415 - loads the passes; few calls are checked
        wrapper = checked(context, original, wrapper)
    wrapper.__flambeau_original__ = original                      # type: ignore[attr-defined]
    wrapper.__flambeau_context__ = context                        # type: ignore[attr-defined]
    return wrapper


#: Marks of functions made by vmap, grad..., and of the library's own with overrides in force.
_KNOWN_WHERE_CALLED = ("__flambeau_transform__", "__flambeau_overridable__")


def _caller_of(fn: FunctionType) -> FunctionType:
    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    for mark in _KNOWN_WHERE_CALLED:
        vars(call).pop(mark, None)
    return call                                                   # type: ignore[return-value]


def _compile_object(model: Any, settings: Settings) -> Any:
    """The same object, seen through a subclass whose `__call__` is compiled.

    It shares the original's `__dict__`, so parameters, buffers, `state_dict` keys and `train()` are the same object's;
    `isinstance` still holds.
    """
    cls: Any = type(model)
    target = model.__dict__.get("_flambeau_original_module", model) if hasattr(model, "__dict__") else model
    call: Any = _compile_function(cls.__call__, settings)
    original = getattr(cls, "_orig_mod", None)
    target = original if original is not None else target

    compiled_from = type(target).__call__

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        if type(target).__call__ is not compiled_from:                           # the program has replaced it
            return target(*args, **kwargs)
        return call(target, *args, **kwargs)

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        return _same, (target,)

    def __deepcopy__(self: Any, memo: Any) -> Any:
        import copy
        return _compile_object(copy.deepcopy(target, memo), settings)

    functools.update_wrapper(__call__, cls.__call__)
    space = {"__call__": __call__, "_orig_mod": target, "__reduce_ex__": __reduce_ex__, "__deepcopy__": __deepcopy__,
             "__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__,
             "_flambeau_context": call.__flambeau_context__, "__slots__": ()}
    meta: Any = type(cls)
    seen = object.__new__(meta(cls.__name__, (cls,), space))
    object.__setattr__(seen, "__dict__", model.__dict__)
    return seen


def _same(model: Any) -> Any:
    """Compiled Modules are pickled as their originals."""
    return model


def context_of(model: Any) -> Context | None:
    """The context of something `compile` returned."""
    fn = getattr(model, "__func__", model)
    return getattr(fn, "__flambeau_context__", None) or getattr(type(model), "_flambeau_context", None)


def original_of(model: Any) -> Any:
    """What `compile` was given."""
    if isinstance(model, MethodType):
        return MethodType(original_of(model.__func__), model.__self__)
    return getattr(model, "__flambeau_original__", None) or getattr(type(model), "_orig_mod", None) or model


def reset() -> None:
    """Forget everything compiled, in all compiled functions."""
    for context in list(_contexts):
        context.reset()


def disable(fn: Any = None, recursive: bool = True) -> Any:
    """Run `fn` eagerly, and break the graph of a compiled caller there; also a decorator."""
    if fn is None:
        return functools.partial(disable, recursive=recursive)
    fn = original_of(fn)

    @functools.wraps(fn)
    def disabled(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    disabled.__flambeau_disable__ = True                          # type: ignore[attr-defined]
    return disabled


def graph_break(msg: str = "") -> None:
    """End the graph here (a no-op when run eagerly)."""


graph_break.__flambeau_disable__ = True                           # type: ignore[attr-defined]


def mark_dynamic(tensor: Any, index: int | Sequence[int]) -> None:
    """Make dimensions of an input symbolic from the first compile on (PyTorch: `torch._dynamo.mark_dynamic`).

    Sizes 0 and 1 still have compiled versions of their own.
    """
    _mark(tensor, index, "_flambeau_dynamic_dims", "_flambeau_static_dims")


def maybe_mark_dynamic(tensor: Any, index: int | Sequence[int]) -> None:
    """`mark_dynamic`, as nothing here insists that a marked size stays a symbol (PyTorch: `torch._dynamo.maybe_mark_dynamic`)."""
    mark_dynamic(tensor, index)


def mark_static(tensor: Any, index: int | Sequence[int] | None = None) -> None:
    """Never make dimensions of an input symbolic, all of them without `index` (PyTorch: `torch._dynamo.mark_static`)."""
    _mark(tensor, range(tensor.ndim) if index is None else index, "_flambeau_static_dims", "_flambeau_dynamic_dims")


def _mark(tensor: Any, index: int | Sequence[int], kind: str, other: str) -> None:
    given = (index,) if isinstance(index, int) else tuple(index)
    if not all(-tensor.ndim <= d < tensor.ndim for d in given):
        raise IndexError(f"dimensions {given} of a tensor of {tensor.ndim} dimensions are to be marked")
    dims = {d % tensor.ndim for d in given}
    setattr(tensor, kind, dims | getattr(tensor, kind, set()))
    setattr(tensor, other, getattr(tensor, other, set()) - dims)

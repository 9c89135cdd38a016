"""``__torch_function__``: classes and modes that take over what the library's functions do (PyTorch: ``torch.overrides``).

Nobody pays for this who does not use it: the functions are as they are until the first foreign subclass of Tensor is
defined, the first mode is entered, or this module is imported. Then each public function's code is exchanged for one that
looks at its arguments first; the function objects, which programs hold and compare, stay the same.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import threading
import types as _types
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flambeau.frontend.config import config
from flambeau.ir import late
from flambeau.ir.op import PUBLIC, ready
from flambeau.ir.tensorlike import TensorLike
from flambeau.runtime.tensor import Tensor, keep_as_written


class _State(threading.local):
    modes: tuple[Any, ...] = ()
    subclasses = True
    everything = True


_state = _State()
_overrides: dict[type, bool] = {}


def _disabled_torch_function_impl(cls: Any, func: Callable, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
    """The ``__torch_function__`` of classes whose operations give plain tensors."""
    with DisableTorchFunctionSubclass():
        return func(*args, **(kwargs or {}))


def _default_torch_function(cls: Any, func: Callable, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
    """What subclasses do by default: run ``func``, and make its tensors ``cls``. NotImplemented beside foreign types."""
    if not all(issubclass(cls, t) for t in types):
        return NotImplemented
    with DisableTorchFunctionSubclass():
        found = func(*args, **(kwargs or {}))
    return _converted(found, cls)


def _converted(found: Any, cls: type) -> Any:
    if cls is Tensor:
        return found
    if isinstance(found, Tensor):
        return found if isinstance(found, cls) else found.as_subclass(cls)  # type: ignore[attr-defined]
    if isinstance(found, (tuple, list)):
        items = [_converted(x, cls) for x in found]
        return type(found)(*items) if hasattr(found, "_fields") else type(found)(items)
    return found


def _is_overridden(kind: type) -> bool:
    """Whether operations on a ``kind`` are its own business."""
    found = _overrides.get(kind)
    if found is None:
        own = getattr(kind, "__torch_function__", None)
        internal = issubclass(kind, Tensor) and kind.__module__.partition(".")[0] == "flambeau"
        found = _overrides[kind] = own is not None and not internal and (
            getattr(own, "__func__", own) is not _disabled_torch_function_impl)
    return found


def _overloaded(values: Iterable[Any]) -> list[Any]:
    """The values with overrides, one of each type, subclasses before what they derive from."""
    found: list[Any] = []
    for x in values:
        kind = type(x)
        if not _is_overridden(kind) or any(type(y) is kind for y in found):
            continue
        at = next((i for i, y in enumerate(found) if issubclass(kind, type(y))), len(found))
        found.insert(at, x)
    return found


def _candidates(args: tuple, kwargs: dict[str, Any]) -> Iterable[Any]:
    for x in (*args, *kwargs.values()):
        if isinstance(x, (tuple, list)):
            yield from x
        else:
            yield x


# ---- the call ---------------------------------------------------------------------------------------------------------


def handle_torch_function(public_api: Callable, relevant_args: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
    """Let the modes and the types of ``relevant_args`` do ``public_api(*args, **kwargs)``. Raises ``TypeError`` if none does."""
    overloaded = _overloaded(relevant_args) if _state.subclasses else []
    types = tuple(type(x) for x in overloaded)
    if _state.modes and _state.everything:
        mode, before = _state.modes[-1], _state.modes
        _state.modes = before[:-1]
        try:
            found = mode.__torch_function__(public_api, types, args, kwargs)
        finally:
            _state.modes = before
        if found is not NotImplemented:
            return found
    for x in overloaded:
        found = type(x).__torch_function__(public_api, types, args, kwargs)
        if found is not NotImplemented:
            return found
    name = resolve_name(public_api) or f"{public_api.__module__}.{public_api.__name__}"
    tried = "".join(f"\n\n  - {'tensor subclass' if isinstance(x, Tensor) else 'class'} {type(x)!r}" for x in overloaded)
    raise TypeError(f"Multiple dispatch failed for '{name}'; all __torch_function__ handlers returned NotImplemented:{tried}")


def has_torch_function(relevant_args: Iterable[Any]) -> bool:
    """Whether a mode is active or one of the values has overrides that are in force."""
    if not _state.everything:
        return False
    return bool(_state.modes) or (_state.subclasses and any(_is_overridden(type(x)) for x in relevant_args))


def has_torch_function_unary(obj: Any) -> bool:
    """``has_torch_function((obj,))``."""
    return has_torch_function((obj,))


def has_torch_function_variadic(*args: Any) -> bool:
    """``has_torch_function(args)``."""
    return has_torch_function(args)


def _call(shown: Callable, original: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
    if _state.everything and (_state.modes or (_state.subclasses and any(
            _is_overridden(type(x)) for x in _candidates(args, kwargs)))):
        return handle_torch_function(shown, _candidates(args, kwargs), *args, **kwargs)
    return original(*args, **kwargs)


# ---- exchanging the functions' code -------------------------------------------------------------------------------------


@functools.cache
def _template(cells: int) -> Any:
    """Code that calls a constant with all its arguments, with as many free variables as the code it replaces."""
    names = [f"_{i}" for i in range(cells)]
    text = "def make(" + ", ".join(names) + "):\n    def call(*args, **kwargs):\n        return '@'(args, kwargs)\n"
    text += "".join(f"        {n}\n" for n in names) + "    return call\n"
    env: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        exec(text, env)  # noqa: S102 - the text above
    return env["make"](*names).__code__


def _exchange(fn: Any, shown: Any) -> None:
    if "__flambeau_overridable__" in fn.__dict__:
        return
    fn.__signature__ = inspect.signature(ready(fn))
    original = _types.FunctionType(fn.__code__, fn.__globals__, fn.__name__, fn.__defaults__, fn.__closure__)
    original.__kwdefaults__, original.__qualname__ = fn.__kwdefaults__, fn.__qualname__
    code = _template(len(fn.__code__.co_freevars))
    run = functools.partial(_call, shown, original)
    fn.__code__ = code.replace(co_consts=tuple(_Runner(run) if c == "@" else c for c in code.co_consts), co_name=fn.__name__)
    fn.__flambeau_overridable__ = original


class _Runner:
    """A constant of the exchanged code: calls with packed arguments."""

    __slots__ = ("run",)

    def __init__(self, run: Callable) -> None:
        self.run = run

    def __call__(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        return self.run(args, kwargs)


_enabled = False
_METHODS = {"truediv": "div", "invert": "bitwise_not"}
_OPERATORS = ("add", "sub", "mul", "matmul", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift", "truediv")


def enable() -> None:
    """Make the library's functions look for overrides from now on."""
    global _enabled
    if _enabled:
        return
    _enabled = True
    config.watched.append((_state, "modes", "no mode takes over what functions do"))
    if "flambeau.frontend.compile" in sys.modules:                # what is compiled so far does not look
        sys.modules["flambeau.frontend.compile"].reset()
    late.load_all()
    Tensor.__torch_function__ = classmethod(_default_torch_function)  # type: ignore[attr-defined]
    Tensor.__new__ = _new_tensor  # type: ignore[method-assign, assignment]
    _disable_for_internal(Tensor)
    plain: Any = Tensor.data
    Tensor.data = property(lambda self: _converted(plain.fget(self), type(self)) if _is_overridden(type(self))  # type: ignore
                           else plain.fget(self), plain.fset)
    keep_as_written(Tensor, "__torch_function__", "__new__", "data")
    _name_as_published()
    for space, names in PUBLIC.items():
        for name, fn in names.items():
            if isinstance(fn, _types.FunctionType):
                _exchange(fn, _shown(space, name, fn))
    for kind in (Tensor, TensorLike):
        for name, fn in list(vars(kind).items()):
            if isinstance(fn, _types.FunctionType) and not name.startswith("_") and name != "as_subclass":
                _exchange(fn, fn)


def _name_as_published() -> None:
    """Functions that were written under another name get the one they are known by: overrides look at ``__name__``."""
    names: dict[Any, list[str]] = {}
    for published in PUBLIC.values():
        for name, fn in published.items():
            if isinstance(fn, _types.FunctionType):
                names.setdefault(fn, []).append(name)
    for fn, known in names.items():
        if fn.__name__ not in known or not hasattr(fn, "op"):  # (of an op the function bears its name)
            fn.__name__ = min(known, key=len)


def _shown(space: str, name: str, fn: Any) -> Any:
    """The function that overrides are told of: for an operator the method of its name, as in PyTorch."""
    plain = name.strip("_")
    if space == "Tensor" and name.startswith("__") and plain[:1] in "ir" and plain[1:] in _OPERATORS:
        return fn
    if space == "Tensor" and name.startswith("__"):
        return PUBLIC["Tensor"].get(_METHODS.get(plain, plain), fn)
    return fn


def _disable_for_internal(kind: type) -> None:
    sub: Any
    for sub in kind.__subclasses__():
        if sub.__module__.partition(".")[0] == "flambeau":
            sub.__torch_function__ = classmethod(_disabled_torch_function_impl)  # type: ignore[attr-defined]
            keep_as_written(sub, "__torch_function__")
            _disable_for_internal(sub)


def _new_tensor(cls: type, *args: Any, **kwargs: Any) -> Any:
    """Foreign subclasses may set themselves up in ``__new__`` alone."""
    found: Any = object.__new__(cls)
    if cls.__module__.partition(".")[0] != "flambeau":
        Tensor.__init__(found, *args[:2])
    return found


# ---- modes ---------------------------------------------------------------------------------------------------------------


class TorchFunctionMode:
    """A context in which ``__torch_function__(func, types, args, kwargs)`` is called in place of every function."""

    def __init__(self) -> None:
        pass

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        raise NotImplementedError

    def __enter__(self) -> Any:
        enable()
        _state.modes = (*_state.modes, self)
        return self

    def __exit__(self, *_: Any) -> None:
        _state.modes = _state.modes[:-1]

    @classmethod
    def push(cls, *args: Any, **kwargs: Any) -> Any:
        """An instance (an old name for making one)."""
        return cls(*args, **kwargs)


class BaseTorchFunctionMode(TorchFunctionMode):
    """A mode that changes nothing."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class _Switch:
    """A block with one of the state's switches set."""

    name, value = "subclasses", False

    def __enter__(self) -> None:
        self._before = getattr(_state, self.name)
        setattr(_state, self.name, self.value)

    def __exit__(self, *_: Any) -> None:
        setattr(_state, self.name, self._before)


class DisableTorchFunctionSubclass(_Switch):
    """A block in which classes' overrides are passed over."""


class DisableTorchFunction(_Switch):
    """A block in which all overrides are passed over, those of modes too."""

    name = "everything"


class enable_reentrant_dispatch(_Switch):  # noqa: N801 - PyTorch's name
    """A block in which overrides are in force again."""

    value = True


# ---- questions ---------------------------------------------------------------------------------------------------------------


def is_tensor_like(inp: Any) -> bool:
    """Whether ``inp`` is a Tensor or has ``__torch_function__``."""
    return isinstance(inp, Tensor) or hasattr(inp, "__torch_function__")


def get_overridable_functions() -> dict[Any, list[Callable]]:
    """The functions that can be overridden, by their namespace."""
    late.load_all()
    spaces = {"torch": importlib.import_module("flambeau"), "Tensor": Tensor,
              "nn.functional": importlib.import_module("flambeau.nn.functional")}
    return {spaces[s]: [f for f in names.values() if callable(f)] for s, names in PUBLIC.items() if s in spaces}


def is_tensor_method_or_property(func: Callable) -> bool:
    """Whether ``func`` is a method of Tensor."""
    return func in PUBLIC["Tensor"].values() or getattr(func, "__name__", "") == "__get__"


def resolve_name(f: Callable) -> str | None:
    """The public name of a function, as in ``torch.Tensor.add``."""
    for space, names in PUBLIC.items():
        for name, fn in names.items():
            if fn is f:
                return f"torch.{name}" if space == "torch" else f"torch.{space}.{name}"
    return None


def wrap_torch_function(dispatcher: Callable) -> Callable:
    """Decorates a function of the user's so that it can be overridden; ``dispatcher`` returns its relevant arguments."""
    def decorate(func: Callable) -> Callable:
        @functools.wraps(func)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            relevant: Sequence[Any] = dispatcher(*args, **kwargs)
            if has_torch_function(relevant):
                return handle_torch_function(wrapped, relevant, *args, **kwargs)
            return func(*args, **kwargs)
        return wrapped
    return decorate


enable()

__all__ = ["BaseTorchFunctionMode", "TorchFunctionMode", "enable_reentrant_dispatch", "get_overridable_functions",
           "handle_torch_function", "has_torch_function", "has_torch_function_unary", "has_torch_function_variadic",
           "is_tensor_like", "is_tensor_method_or_property", "resolve_name", "wrap_torch_function"]

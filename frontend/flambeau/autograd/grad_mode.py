"""Whether operations are recorded: context managers that also decorate functions and generators."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from flambeau.runtime.autograd import mode
from flambeau.runtime.observers import set_inference


def is_grad_enabled() -> bool:
    """Whether operations are recorded in this thread."""
    return mode.grad


def is_inference_mode_enabled() -> bool:
    """Whether ``inference_mode`` is on in this thread."""
    return mode.inference


class _GradSetting:
    """A context manager for ``mode.grad``."""

    enabled = True

    def __init__(self) -> None:
        self.prev = mode.grad

    def __enter__(self) -> None:
        self.prev = mode.grad
        mode.grad = self.enabled

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        mode.grad = self.prev

    def clone(self) -> Any:
        """Another one with the same setting."""
        return type(self)()

    def __call__(self, fn: Callable) -> Callable:
        """``fn`` run under this setting, whenever it is called (generators: whenever they run)."""
        if inspect.isclass(fn):
            setattr(fn, "__init__", self(fn.__init__))  # noqa: B010 - mypy knows no assigned methods
            return fn
        if inspect.isgeneratorfunction(fn):
            return _decorated_generator(fn, self.clone)

        @functools.wraps(fn)
        def decorated(*args: Any, **kwargs: Any) -> Any:
            with self.clone():
                return fn(*args, **kwargs)

        return decorated


def _decorated_generator(fn: Callable, setting: Callable[[], Any]) -> Callable:
    @functools.wraps(fn)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        generator = fn(*args, **kwargs)
        try:
            with setting():
                value = next(generator)
            while True:
                try:
                    request = yield value
                except GeneratorExit:
                    with setting():
                        generator.close()
                    raise
                except BaseException as error:
                    with setting():
                        value = generator.throw(error)
                else:
                    with setting():
                        value = generator.send(request)
        except StopIteration as stop:
            return stop.value

    return decorated


class _Decorator(type):
    """Lets ``@no_grad`` stand without parentheses, as ``@no_grad()`` does."""

    def __call__(cls, *args: Any) -> Any:
        if args and callable(args[0]) and not isinstance(args[0], bool):
            return super().__call__()(args[0])
        return super().__call__(*args)


class no_grad(_GradSetting, metaclass=_Decorator):  # noqa: N801 - PyTorch's name
    """Nothing is recorded inside."""

    enabled = False


class enable_grad(_GradSetting, metaclass=_Decorator):  # noqa: N801 - PyTorch's name
    """Operations are recorded inside, also within ``no_grad``."""

    enabled = True


class set_grad_enabled(_GradSetting):  # noqa: N801 - PyTorch's name
    """Sets recording at once, until the end of the block if used as a context manager."""

    def __init__(self, mode: bool) -> None:
        self.prev = is_grad_enabled()
        self.enabled = self.mode = bool(mode)
        _set(self.enabled)

    def __enter__(self) -> None:
        _set(self.enabled)

    def __call__(self, fn: Callable) -> Callable:
        _set(self.prev)
        return super().__call__(fn)

    def clone(self) -> set_grad_enabled:
        return type(self)(self.mode)

    def __repr__(self) -> str:
        return f"set_grad_enabled(mode={self.mode})"


def _set(enabled: bool) -> None:
    mode.grad = enabled


class inference_mode(_GradSetting):  # noqa: N801 - PyTorch's name
    """Nothing is recorded inside, and nothing made inside is meant to be recorded later."""

    def __new__(cls, mode: Any = True) -> Any:
        found = super().__new__(cls)
        if isinstance(mode, bool):
            return found
        found.__init__(True)  # type: ignore[misc]
        return found(mode)

    def __init__(self, mode: Any = True) -> None:
        super().__init__()
        self.mode = mode if isinstance(mode, bool) else True

    def __enter__(self) -> None:
        self._before = (mode.grad, mode.inference)
        if self.mode:
            mode.grad = False
        elif mode.inference:
            mode.grad = True
        mode.inference = self.mode
        set_inference(self.mode)

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        mode.grad, mode.inference = self._before
        set_inference(mode.inference)

    def clone(self) -> inference_mode:
        return type(self)(self.mode)

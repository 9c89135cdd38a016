"""TorchScript's decorators (PyTorch: ``torch.jit``), which return what they are given: ``compile`` is the compiler here."""

from __future__ import annotations

from typing import Any, Final

ScriptModule = ScriptFunction = ()  # nothing is an instance


def script(obj: Any, *args: Any, **kwargs: Any) -> Any:
    """``obj``, uncompiled."""
    return obj


script_method = interface = export = unused = script


def trace(func: Any, example_inputs: Any = None, **kwargs: Any) -> Any:
    """``func``, untraced."""
    return func


def ignore(drop: Any = False, **kwargs: Any) -> Any:
    """The function, or a decorator that returns it."""
    return drop if callable(drop) else script


def is_scripting() -> bool:
    """False: nothing is scripted."""
    return False


def is_tracing() -> bool:
    """False: nothing is traced by TorchScript."""
    return False


def annotate(the_type: Any, the_value: Any) -> Any:
    """``the_value``."""
    return the_value




__all__ = ["Final", "ScriptFunction", "ScriptModule", "annotate", "export", "ignore", "interface", "is_scripting", "is_tracing",
           "script", "script_method", "trace", "unused"]

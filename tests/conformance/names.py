"""From PyTorch's callables and types to flambeau's of the same public name.

An entry of the database calls PyTorch through objects: builtins, methods, types, or small functions of the test suite
that call ``torch.…`` themselves. Builtins are found by their public name; functions of the test suite are rebuilt with
the PyTorch in their globals and closures replaced.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import types
from collections.abc import Callable
from typing import Any

import torch
from torch.testing._internal import common_methods_invocations as _definitions
from torch.testing._internal import common_utils as _utils

import flambeau

SPACES = ("torch", "torch.nn.functional", "torch.linalg", "torch.fft", "torch.special", "torch.masked",
          "torch.signal.windows", "torch.nn.init", "torch.nn.utils", "torch.nn.utils.rnn", "torch.nn", "torch.optim",
          "torch.optim.lr_scheduler", "torch.autograd", "torch.Tensor", "torch.nested", "torch.sparse")


class Missing(Exception):
    """flambeau has no such name, or a value has no counterpart there."""


def _follow(root: Any, path: str) -> Any:
    for part in path.split("."):
        root = getattr(root, part)
    return root


@functools.cache
def _index() -> dict[int, list[str]]:
    """Public paths (without ``torch.``) of the objects in PyTorch's namespaces, by identity."""
    found: dict[int, list[str]] = {}
    for space in SPACES:
        root = torch if space == "torch" else _follow(torch, space[6:])
        prefix = space[6:] + "." if space != "torch" else ""
        for name in dir(root):
            if prefix != "Tensor." and name.startswith("__"):
                continue
            with contextlib.suppress(Exception):
                value = getattr(root, name)
                if callable(value):
                    found.setdefault(id(value), []).append(prefix + name)
    return found


def lookup(path: str) -> Any:
    """flambeau's object of the public name ``path`` (without ``torch.``). Raises :class:`Missing`."""
    root: Any = flambeau
    parts = path.split(".")
    for i, part in enumerate(parts):
        try:
            root = getattr(root, part)
        except AttributeError:
            with contextlib.suppress(ImportError):
                root = importlib.import_module("flambeau." + ".".join(parts[:i + 1]))
                continue
            raise Missing(f"no torch.{path}") from None
        except ImportError as error:
            raise Missing(f"no torch.{path}: {error}") from error
    return root


@contextlib.contextmanager
def _freeze_rng_state(*args: Any, **kwargs: Any) -> Any:
    state = flambeau.get_rng_state()
    try:
        yield
    finally:
        flambeau.set_rng_state(state)


#: whether functions that draw random numbers are seeded where PyTorch's tests do it, in the middle of the call
seeding = True


def _wrapper_set_seed(op: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not seeding:
        return op(*args, **kwargs)
    with _freeze_rng_state():
        flambeau.manual_seed(42)
        return op(*args, **kwargs)


_REPLACED = {id(_definitions.wrapper_set_seed): _wrapper_set_seed, id(_utils.freeze_rng_state): _freeze_rng_state}


def ours(value: Any, prefer: str = "") -> Any:
    """flambeau's counterpart of a PyTorch callable, type or module, or of a test function. Raises :class:`Missing`.

    ``prefer`` is the public name to take where one object has several.
    """
    if id(value) in _REPLACED:
        return _REPLACED[id(value)]
    if isinstance(value, types.ModuleType):
        return _module(value)
    if isinstance(value, functools.partial):
        return functools.partial(ours(value.func), *value.args, **value.keywords)
    if not (getattr(value, "__module__", None) or "torch").startswith("torch"):
        return value
    paths = _index().get(id(value), [])
    if prefer in paths:
        return lookup(prefer)
    for path in paths:
        with contextlib.suppress(Missing):
            return lookup(path)
    if paths:
        raise Missing(f"no torch.{paths[0]}")
    if isinstance(value, (torch._ops.OpOverloadPacket, torch._ops.OpOverload)):
        packet = value.overloadpacket if isinstance(value, torch._ops.OpOverload) else value
        return lookup("ops." + packet._qualified_op_name.replace("::", "."))
    if isinstance(value, types.FunctionType):
        if value.__module__.startswith("torch.") and ".testing." not in value.__module__:
            raise Missing(f"no {value.__module__}.{value.__qualname__}")
        return _rebuilt(value)
    home, name = getattr(value, "__module__", None) or "", getattr(value, "__name__", "")
    if home == "torch._C._nn":  # the in-place forms of activations have no public name, but an argument
        return functools.partial(lookup(f"nn.functional.{name[:-1]}"), inplace=True) if name.endswith("_") else lookup(name)
    if ".testing." in (getattr(value, "__module__", None) or type(value).__module__ or ""):
        return value  # the test suite's own classes
    if isinstance(value, type) and value.__module__.startswith("torch") or type(value).__module__.startswith("torch"):
        raise Missing(f"no {getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}")
    return value


def _module(module: types.ModuleType) -> Any:
    name = module.__name__
    if name == "torch":
        return flambeau
    if name.startswith("torch."):
        return lookup(name[6:])
    return module


def _names(code: types.CodeType) -> set[str]:
    found = set(code.co_names)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found |= _names(const)
    return found


def _rebuilt(function: types.FunctionType) -> types.FunctionType:
    """The same code with flambeau wherever its globals, defaults and closure hold PyTorch."""
    from .values import to_ours  # noqa: PLC0415 - values holds callables, callables hold values

    env = {"__builtins__": __builtins__}
    closure = tuple(types.CellType() for _ in function.__closure__ or ())
    new = types.FunctionType(function.__code__, env, function.__name__, None, closure)
    for name in _names(function.__code__):
        if name in function.__globals__:
            found = function.__globals__[name]
            env[name] = new if found is function else to_ours(found)
    for cell, theirs in zip(closure, function.__closure__ or ()):
        cell.cell_contents = to_ours(theirs.cell_contents)
    new.__defaults__, new.__kwdefaults__ = to_ours(function.__defaults__), to_ours(function.__kwdefaults__)
    return new

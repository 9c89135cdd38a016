"""Values between the two: tensors with their strides, and everything a sample may hold."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

import ml_dtypes
import numpy as np
import torch

import flambeau
from flambeau.runtime.tensor import wrap

from .names import Missing, ours

_BITS = {torch.bfloat16: (torch.int16, ml_dtypes.bfloat16)}
_PLAIN = (int, float, complex, bool, str, bytes, type(None), type(Ellipsis), range, np.ndarray, np.generic, BaseException)


def array_of(t: torch.Tensor) -> np.ndarray:
    """A copy of a tensor's memory as an array of the same strides. Raises :class:`Missing` for a dtype without an array."""
    if t.layout is not torch.strided or t.is_nested or t.is_quantized or t.is_mkldnn:
        raise Missing(f"{t.layout} tensors")
    t = t.detach().resolve_conj().resolve_neg()
    if t.dtype in _BITS:
        storage, dtype = _BITS[t.dtype]
    else:
        storage, dtype = t.dtype, None
    try:
        extent = sum((n - 1) * s for n, s in zip(t.shape, t.stride())) + 1 if t.numel() else 0
        flat = t.as_strided((extent,), (1,)).clone().view(storage).numpy()
    except (TypeError, RuntimeError) as error:
        raise Missing(f"dtype {t.dtype}") from error
    flat = flat if dtype is None else flat.view(dtype)
    return np.lib.stride_tricks.as_strided(flat, t.shape, [s * flat.itemsize for s in t.stride()])


def to_ours(value: Any, memo: dict[int, Any] | None = None) -> Any:
    """flambeau's counterpart of ``value``: tensors copied (one tensor met twice stays one), containers rebuilt.

    Raises :class:`Missing` for what flambeau has no counterpart of.
    """
    memo = {} if memo is None else memo
    if isinstance(value, torch.Tensor):
        if id(value) not in memo:
            made = wrap(array_of(value))
            if isinstance(value, torch.nn.Parameter):
                made = flambeau.nn.Parameter(made, requires_grad=value.requires_grad)
            memo[id(value)] = made.requires_grad_() if value.requires_grad else made
        return memo[id(value)]
    if isinstance(value, torch.nn.Module):
        return _module(value)
    if isinstance(value, torch.Size):
        return flambeau.Size(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, torch.dtype):
        return _named(str(value)[6:])
    if isinstance(value, torch.device):
        return flambeau.device(str(value))
    if isinstance(value, (torch.layout, torch.memory_format)):
        return _named(str(value)[6:])
    if isinstance(value, torch.Generator):
        made = flambeau.Generator()
        made.set_state(to_ours(value.get_state()))
        return made
    if isinstance(value, slice):
        return slice(to_ours(value.start, memo), to_ours(value.stop, memo), to_ours(value.step, memo))
    if isinstance(value, (list, tuple, set, frozenset)):
        parts = [to_ours(v, memo) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return type(value)((to_ours(k, memo), to_ours(v, memo)) for k, v in value.items())
    if isinstance(value, types.ModuleType) and not value.__name__.startswith("torch"):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and ".testing." not in type(value).__module__:
        return ours(type(value))(**{f.name: to_ours(getattr(value, f.name), memo) for f in dataclasses.fields(value)})
    return ours(value)


def _remember(cls: type, *args: Any, **kwargs: Any) -> Any:
    made = object.__new__(cls)
    made.__dict__["_constructed_with"] = args, kwargs
    return made


torch.nn.Module.__new__ = staticmethod(_remember)  # type: ignore[method-assign,assignment] - modules may be arguments of others


def _module(value: torch.nn.Module) -> Any:
    """flambeau's module of the same constructor arguments and state."""
    args, kwargs = to_ours(value.__dict__["_constructed_with"])
    made = ours(type(value), f"nn.{type(value).__name__}")(*args, **kwargs)
    made.load_state_dict(to_ours(dict(value.state_dict())))
    return made.train(value.training)


def _named(name: str) -> Any:
    try:
        return getattr(flambeau, name)
    except AttributeError:
        raise Missing(f"no torch.{name}") from None


def copied(value: Any, memo: dict[int, Any] | None = None) -> Any:
    """A copy of a value of PyTorch's whose tensors are leaves with the same strides, data and ``requires_grad``."""
    memo = {} if memo is None else memo
    if isinstance(value, torch.Tensor):
        if id(value) not in memo:
            with torch.no_grad():
                source = value.detach()
                plain = source.layout is torch.strided and not source.is_nested
                made = torch.empty_strided(source.shape, source.stride(), dtype=source.dtype).copy_(source) if plain and not (
                    _overlaps(source)) else source.clone()
            if isinstance(value, torch.nn.Parameter):
                made = torch.nn.Parameter(made, requires_grad=value.requires_grad)
            memo[id(value)] = made.requires_grad_() if value.requires_grad else made
        return memo[id(value)]
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        parts = [copied(v, memo) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return type(value)((k, copied(v, memo)) for k, v in value.items())
    return value


def doubled(value: Any, memo: dict[int, Any] | None = None) -> Any:
    """A value with its floating and complex tensors in double precision, leaves as before."""
    memo = {} if memo is None else memo
    if isinstance(value, torch.Tensor):
        if id(value) not in memo:
            kind = torch.float64 if value.is_floating_point() else torch.complex128 if value.is_complex() else value.dtype
            memo[id(value)] = value.detach().to(kind).requires_grad_(value.requires_grad)
        return memo[id(value)]
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        parts = [doubled(v, memo) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return type(value)((k, doubled(v, memo)) for k, v in value.items())
    return value


def _overlaps(t: torch.Tensor) -> bool:
    return any(s == 0 and n > 1 for n, s in zip(t.shape, t.stride()))


def tensors_in(value: Any, kind: type) -> list[Any]:
    """The tensors of class ``kind`` in a value, in order, each once."""
    found: list[Any] = []

    def visit(v: Any) -> None:
        if isinstance(v, kind):
            if not any(v is f for f in found):
                found.append(v)
        elif isinstance(v, (list, tuple)):
            for part in v:
                visit(part)
        elif isinstance(v, dict):
            for part in v.values():
                visit(part)

    visit(value)
    return found

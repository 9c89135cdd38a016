"""Automatic mixed precision: what an op's tags say of the dtypes it is to run in, and the handler that obeys them.

An op's tag is ``amp:RULE`` for every kind of device, or ``amp:RULE@cpu`` / ``amp:RULE@cuda`` for one. The rules are those
of PyTorch: ``lower`` runs in the half precision that was asked for, ``float32`` in single precision (so does an op tagged
``no_half``, which has no other), ``promote`` in the widest dtype among its tensors; ``through`` means that the op's parts
are cast each by its own rule. An op without a rule runs as it is called, and what happens inside an op is never cast again.
float64 and integers are left alone. Functions written in ops are looked through, unless :func:`runs_in` gives them a rule,
of which ``whole`` casts nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from . import dtype as _dtype
from .dtype import DType
from .op import Handler, Op, ops, state
from .tensorlike import TensorLike

#: (on for the CPU, its dtype, on for CUDA, its dtype, whether casts of weights are kept)
Settings = tuple[bool, DType, bool, DType, bool]
OFF: Settings = (False, _dtype.bfloat16, False, _dtype.float16, True)
_AT = {"cpu": 0, "cuda": 2}
_HALF = (_dtype.float16, _dtype.bfloat16)


def changed(settings: Settings, device_type: str, enabled: bool, dtype: DType, cache: bool) -> Settings:
    """``settings`` with those of one kind of device replaced."""
    at = _AT[device_type]
    return (*settings[:at], enabled, dtype, *settings[at + 2:4], cache)  # type: ignore[return-value]


def setting(settings: Settings, device_type: str) -> tuple[bool, DType]:
    """Whether autocast is on for a kind of device, and its dtype."""
    at = _AT[device_type]
    return settings[at], settings[at + 1]  # type: ignore[return-value]


changed.__flambeau_pure__ = setting.__flambeau_pure__ = True  # type: ignore[attr-defined]


@functools.cache
def _rules(tags: frozenset[str]) -> dict[str, str]:
    found = {"cpu": "float32"} if "no_half" in tags else {}
    for tag in sorted(tags, key=lambda t: "@" in t):  # "amp:x" before "amp:y@cpu": the particular rule wins
        if tag.startswith("amp:"):
            rule, _, device = tag[4:].partition("@")
            found.update({d: rule for d in ([device] if device else _AT)})
    return found


def rule_of(op: Op, args: tuple, settings: Settings) -> tuple[str, DType | None]:
    """The rule for this call, and the half precision in force: ("", None) when the call is to run as it is."""
    rules = _rules(op.tags)
    if not rules or op.functional is not None:
        return "", None
    device = _device_type(op, args)
    if device not in _AT or device not in rules:
        return "", None
    on, dtype = setting(settings, device)
    return (rules[device], dtype) if on else ("", None)


def _device_type(op: Op, args: tuple) -> str:
    for i in op.tensor_slots:
        for x in args[i] if isinstance(args[i], (list, tuple)) else (args[i],):
            if isinstance(x, TensorLike):
                return x.device.type
    return ""


def target_of(rule: str, dtype: DType, tensors: list[Any]) -> DType:
    """The dtype that a rule asks for. Raises ``RuntimeError`` for ``promote`` among float64."""
    if rule == "lower":
        return dtype
    if rule == "float32":
        return _dtype.float32
    kinds = {x.dtype for x in tensors if x.dtype.is_floating_point}
    if _dtype.float64 in kinds:
        raise RuntimeError("promote type is double in at::autocast::prioritize: autocast cannot choose among float64 tensors")
    return _dtype.float32 if _dtype.float32 in kinds or len(kinds) > 1 else next(iter(kinds), dtype)


def casted(value: Any, target: DType, cast: Callable[[Any, DType], Any]) -> Any:
    """``value``, a tensor or a list of them, with floating tensors other than float64 in ``target``."""
    if isinstance(value, (list, tuple)):
        return type(value)([casted(x, target, cast) for x in value])
    if isinstance(value, TensorLike) and value.dtype.is_floating_point and value.dtype not in (target, _dtype.float64):
        return cast(value, target)
    return value


def cast_args(op: Op, args: tuple, rule: str, dtype: DType, cast: Callable[[Any, DType], Any]) -> tuple:
    """The call's arguments as its rule wants them; ``cast(tensor, dtype)`` converts one."""
    tensors = [x for i in op.tensor_slots for x in (args[i] if isinstance(args[i], (list, tuple)) else (args[i],))
               if isinstance(x, TensorLike)]
    if rule == "float32" and any(a is not None for p, a in zip(op.schema.params, args) if p.type == "dtype"):
        return args  # a dtype that was asked for wins
    target = target_of(rule, dtype, tensors)
    found = list(args)
    for i in op.tensor_slots:
        found[i] = casted(args[i], target, cast)
    return tuple(found)


class Autocast:
    """The handler of a region in which autocast is on: casts what an op is called with, then lets ``inner`` run it."""

    def __init__(self, settings: Settings, inner: Handler, cast: Callable[[Any, DType], Any] | None = None) -> None:
        self.settings, self.inner = settings, inner
        self.cast = cast or (lambda x, dtype: ops.cast(x, dtype))

    def __call__(self, op: Op, args: tuple) -> Any:
        rule, dtype = rule_of(op, args, self.settings)
        if rule == "through" and op.decompose is not None:
            found = op.decompose(*args)
            if found is not NotImplemented:
                return found
        before = state.handler
        state.handler = self.inner
        try:
            if dtype is not None and rule != "through":
                args = cast_args(op, args, rule, dtype, self.cast)
            return self.inner(op, args)
        finally:
            state.handler = before


def runs_in(*given: str) -> Callable[[Any], Any]:
    """Give a plain function written in ops rules: ``float32``, or ``float32@cpu``. It costs nothing worth naming when off."""
    def mark(fn: Any) -> Any:
        rules = _rules(frozenset(f"amp:{rule}" for rule in given))

        @functools.wraps(fn)
        def called(*args: Any, **kwargs: Any) -> Any:
            handler = state.handler
            if not isinstance(handler, Autocast):
                return fn(*args, **kwargs)
            tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, TensorLike)]
            device = tensors[0].device.type if tensors else ""
            if device not in rules or not setting(handler.settings, device)[0]:
                return fn(*args, **kwargs)
            rule = rules[device]
            state.handler = handler.inner
            try:
                if rule == "whole":
                    return fn(*args, **kwargs)
                target = target_of(rule, setting(handler.settings, device)[1], tensors)
                return fn(*[casted(a, target, handler.cast) for a in args],
                          **{k: casted(a, target, handler.cast) for k, a in kwargs.items()})
            finally:
                state.handler = handler
        return called
    return mark

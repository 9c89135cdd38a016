"""Forward mode by dual tensors (PyTorch: ``torch.autograd.forward_ad``).

Tangents flow through everything computed inside ``dual_level``. They are themselves on the tape, so that tangents can be
differentiated backwards; and gradients computed inside the level have tangents: forward over reverse mode.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

from flambeau.ir.op import ops
from flambeau.runtime.dual import Dual, OpenDualLevel
from flambeau.runtime.levels import below, entered
from flambeau.runtime.tensor import Tensor

from . import function_levels as _function_levels  # noqa: F401 - makes autograd.Function known to the level

_open: list[tuple[OpenDualLevel, Any]] = []


def enter_dual_level() -> int:
    """Start a level, whose number is returned. Raises ``RuntimeError`` inside another one."""
    if _open:
        raise RuntimeError("Nested forward mode AD is not supported at the moment")
    level = OpenDualLevel()
    context = entered(level)
    context.__enter__()
    _open.append((level, context))
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """End the level: its dual tensors become what their values are."""
    if not _open or (level is not None and level != 0):
        raise RuntimeError("Trying to exit a forward AD level that was not the last one that was created. This is not supported.")
    last, context = _open.pop()
    context.__exit__(None, None, None)
    last.end()


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """``tensor`` with a tangent (of its shape and dtype). Raises ``RuntimeError`` outside of a level."""
    if not _open or (level is not None and level < 0):
        raise RuntimeError("Trying to create a dual Tensor for forward AD but no level exists, make sure to enter_dual_level() "
                           "first.")
    for name, t in (("primal", tensor), ("tangent", tangent)):
        if not t.dtype.differentiable:
            raise ValueError(f"Expected {name} to be floating point or complex, but got: {t.dtype}")
    if tuple(tensor.shape) != tuple(tangent.shape):
        raise RuntimeError("Trying to set a forward gradient that has a different size than that of the original Tensor, this is "
                           f"not supported. Tensor is of size {list(tensor.shape)} while the given forward gradient is of size "
                           f"{list(tangent.shape)}.")
    if tensor.dtype is not tangent.dtype:
        raise RuntimeError(f"Expected tangent to have the dtype of primal, {tensor.dtype}, but got: {tangent.dtype}")
    current = _open[-1][0]
    if isinstance(tensor, Dual) and tensor.level is current and tensor.tangent is not None:
        raise RuntimeError("Trying to set a forward gradient on a Tensor that has one already")
    return current.dual(_without(tensor, current), _without(tangent, current))


def _without(x: Any, level: OpenDualLevel) -> Any:
    return x.value if isinstance(x, Dual) and x.level is level else x


class UnpackedDualTensor(NamedTuple):
    """A dual tensor's value, and its tangent (None: it has none)."""

    primal: Any
    tangent: Any


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """The value and the tangent of a tensor."""
    if not _open or not isinstance(tensor, Dual) or tensor.level is not _open[-1][0]:
        return UnpackedDualTensor(tensor, None)
    return UnpackedDualTensor(_alias(tensor), tensor.tangent)


def _alias(tensor: Dual) -> Any:
    with below(tensor.level):
        return ops.alias(tensor.value)


class dual_level(contextlib.ContextDecorator):  # noqa: N801 - PyTorch's name
    """A block in which tangents flow."""

    def __enter__(self) -> int:
        return enter_dual_level()

    def __exit__(self, *_: object) -> None:
        exit_dual_level()


__all__ = ["UnpackedDualTensor", "dual_level", "enter_dual_level", "exit_dual_level", "make_dual", "unpack_dual"]

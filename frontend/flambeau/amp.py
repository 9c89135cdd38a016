"""Mixed precision (PyTorch: ``torch.amp``): the names are here, so that scripts written with them run.

``autocast`` changes nothing: products are computed in the dtype of their operands, and half precisions compute in
float32 inside anyway, so nothing would be gained on a CPU. ``GradScaler`` scales, for models that are half themselves.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

from flambeau.ir import dtype as _dtype
from flambeau.ir.op import ops
from flambeau.runtime.autograd import GradMode


class autocast(contextlib.ContextDecorator):  # noqa: N801 - PyTorch's name
    """Accepted as a context manager and decorator; operations keep their dtypes.

    Args:
        device_type: "cpu", "cuda"...
        dtype: the dtype that PyTorch would compute in.
        enabled, cache_enabled: accepted.
    """

    def __init__(self, device_type: str = "cpu", dtype: Any = None, enabled: bool = True,
                 cache_enabled: bool | None = None) -> None:
        if not isinstance(device_type, str):
            raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        self.device, self.fast_dtype = device_type, dtype or get_autocast_dtype(device_type)

    def __enter__(self) -> autocast:
        return self

    def __exit__(self, *exc: Any) -> None:
        return None


def is_autocast_enabled(device_type: str | None = None) -> bool:
    """False: see :class:`autocast`."""
    return False


def is_autocast_available(device_type: str) -> bool:
    """Whether :class:`autocast` accepts the device."""
    return device_type in ("cpu", "cuda")


def get_autocast_dtype(device_type: str) -> Any:
    """The half precision of the device: bfloat16 on CPUs, float16 on GPUs."""
    return _dtype.bfloat16 if device_type == "cpu" else _dtype.float16


def custom_fwd(fwd: Callable | None = None, *, device_type: str = "cuda", cast_inputs: Any = None) -> Any:
    """Decorates the ``forward`` of an ``autograd.Function``; it is called as it is."""
    return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs) if fwd is None else fwd


def custom_bwd(bwd: Callable | None = None, *, device_type: str = "cuda") -> Any:
    """Decorates the ``backward`` of an ``autograd.Function``; it is called as it is."""
    return functools.partial(custom_bwd, device_type=device_type) if bwd is None else bwd


class GradScaler:
    """Multiplies losses so that gradients in half precision do not vanish, and adapts the factor (PyTorch's rule).

    After a step with an infinite or undefined gradient, which is skipped, the factor shrinks by ``backoff_factor``;
    after ``growth_interval`` good ones it grows by ``growth_factor``.
    """

    def __init__(self, device: str = "cuda", init_scale: float = 2.0**16, growth_factor: float = 2.0,
                 backoff_factor: float = 0.5, growth_interval: int = 2000, enabled: bool = True) -> None:
        self._enabled = enabled
        self._scale, self._good_steps = float(init_scale), 0
        self._growth_factor, self._backoff_factor, self._growth_interval = growth_factor, backoff_factor, growth_interval
        self._found_inf: dict[int, bool] = {}  # by id of the optimizers whose gradients are unscaled

    def is_enabled(self) -> bool:
        """Whether anything is scaled."""
        return self._enabled

    def get_scale(self) -> float:
        """The current factor."""
        return self._scale if self._enabled else 1.0

    def scale(self, outputs: Any) -> Any:
        """The tensor, or tensors in a list or tuple, times the factor."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, (list, tuple)):
            return type(outputs)(self.scale(x) for x in outputs)
        return outputs * self._scale

    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of the optimizer's parameters by the factor. Raises ``RuntimeError`` the second time."""
        if not self._enabled:
            return
        if id(optimizer) in self._found_inf:
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        with GradMode(False):
            grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            for g in grads:
                ops.mul_(g, 1.0 / self._scale)
            self._found_inf[id(optimizer)] = not all(bool(ops.all(ops.isfinite(g))) for g in grads)

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """``optimizer.step``, unless a gradient is infinite or undefined."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if id(optimizer) not in self._found_inf:
            self.unscale_(optimizer)
        return None if self._found_inf[id(optimizer)] else optimizer.step(*args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        """Adapt the factor, or set it."""
        if not self._enabled:
            return
        if new_scale is not None:
            self._scale = float(new_scale)
        elif any(self._found_inf.values()):
            self._scale, self._good_steps = self._scale * self._backoff_factor, 0
        else:
            self._good_steps += 1
            if self._good_steps == self._growth_interval:
                self._scale, self._good_steps = self._scale * self._growth_factor, 0
        self._found_inf = {}

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` needs; empty when disabled."""
        if not self._enabled:
            return {}
        return {"scale": self._scale, "growth_factor": self._growth_factor, "backoff_factor": self._backoff_factor,
                "growth_interval": self._growth_interval, "_growth_tracker": self._good_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another scaler was."""
        if self._enabled:
            self._scale, self._good_steps = state_dict["scale"], state_dict["_growth_tracker"]
            self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
            self._growth_interval = state_dict["growth_interval"]


__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "get_autocast_dtype", "is_autocast_available",
           "is_autocast_enabled"]

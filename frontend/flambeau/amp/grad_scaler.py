"""Scaling of losses for gradients in float16 (PyTorch: ``torch.amp.grad_scaler``)."""

from __future__ import annotations

import enum
import warnings
from collections.abc import Iterable
from typing import Any

from flambeau.cuda import is_available as cuda_is_there
from flambeau.ir import dtype as _dtype
from flambeau.ir.op import ops
from flambeau.runtime.autograd import GradMode
from flambeau.runtime.tensor import Tensor


class OptState(enum.Enum):
    """How far an optimizer is since the last ``update``."""

    READY = 0
    UNSCALED = 1
    STEPPED = 2


class _Progress:
    """One optimizer's stage, and whether an infinite or undefined gradient was found (None: nobody looked)."""

    def __init__(self) -> None:
        self.stage = OptState.READY
        self.found_inf: bool | None = None


class GradScaler:
    """Multiplies losses so that gradients in half precision do not vanish, and adapts the factor.

    After a step with an infinite or undefined gradient, which is skipped, the factor shrinks by ``backoff_factor``;
    after ``growth_interval`` good ones in a row it grows by ``growth_factor``. ``device`` "cuda" without a GPU: disabled,
    with a warning.
    """

    def __init__(self, device: str = "cuda", init_scale: float = 2.0**16, growth_factor: float = 2.0,
                 backoff_factor: float = 0.5, growth_interval: int = 2000, enabled: bool = True) -> None:
        if enabled and device == "cuda" and not cuda_is_there():
            warnings.warn("torch.cuda.amp.GradScaler is enabled, but CUDA is not available.  Disabling.", stacklevel=2)
            enabled = False
        if enabled and growth_factor <= 1.0:
            raise AssertionError("The growth factor must be > 1.0.")
        if enabled and backoff_factor >= 1.0:
            raise AssertionError("The backoff factor must be < 1.0.")
        self._device, self._enabled = device, enabled
        self._init_scale, self._scale = float(init_scale), None  # a float32 tensor from the first `scale` on
        self._growth_factor, self._backoff_factor, self._growth_interval = growth_factor, backoff_factor, growth_interval
        self._good_steps = 0
        self._progress: dict[int, _Progress] = {}  # by id of the optimizer

    _scale: Tensor | None

    def scale(self, outputs: Any) -> Any:
        """The tensor, or the tensors in an iterable, times the factor. Raises ``ValueError`` for anything else."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            if self._scale is None:
                self._scale = ops.full((), self._init_scale, dtype=_dtype.float32, device=outputs.device)
            return outputs * self._scale.to(device=outputs.device)  # type: ignore[attr-defined]
        if isinstance(outputs, Iterable) and not isinstance(outputs, (str, bytes)):
            scaled = map(self.scale, outputs)
            return type(outputs)(scaled) if isinstance(outputs, (list, tuple)) else scaled  # type: ignore[call-arg]
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    def _started(self, caller: str) -> Tensor:
        if self._scale is None:
            raise AssertionError(f"Attempted {caller} but _scale is None.  This may indicate your script did not use "
                                 "scaler.scale(loss or outputs) earlier in the iteration.")
        return self._scale

    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of the optimizer's parameters by the factor, and look for infinite and undefined ones.

        Raises ``RuntimeError`` the second time and after ``step``, ``ValueError`` for float16 gradients.
        """
        if not self._enabled:
            return
        scale = self._started("unscale_")
        progress = self._progress.setdefault(id(optimizer), _Progress())
        if progress.stage is OptState.UNSCALED:
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        if progress.stage is OptState.STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        factor = ops.cast(ops.reciprocal(ops.cast(scale, _dtype.float64)), _dtype.float32).item()
        progress.found_inf = _unscale(optimizer, factor)
        progress.stage = OptState.UNSCALED

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """``optimizer.step(...)``, unless a gradient is infinite or undefined; gradients are unscaled if they are not yet.

        Raises ``RuntimeError`` for a closure and for a second call before ``update``.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        self._started("step")
        progress = self._progress.setdefault(id(optimizer), _Progress())
        if progress.stage is OptState.STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if progress.stage is OptState.READY:
            self.unscale_(optimizer)
        if progress.found_inf is None:
            raise AssertionError("No inf checks were recorded for this optimizer.")
        result = None if progress.found_inf else optimizer.step(*args, **kwargs)
        progress.stage = OptState.STEPPED
        return result

    def update(self, new_scale: Any = None) -> None:
        """Adapt the factor, or set it. Raises ``AssertionError`` when nothing was stepped."""
        if not self._enabled:
            return
        scale = self._started("update")
        with GradMode(False):
            if new_scale is not None:
                ops.fill_(scale, float(new_scale))
            else:
                self._adapt(scale)
        self._progress = {}

    def _adapt(self, scale: Tensor) -> None:
        looked = [p.found_inf for p in self._progress.values() if p.found_inf is not None]
        if not looked:
            raise AssertionError("No inf checks were recorded prior to update.")
        if any(looked):
            ops.mul_(scale, self._backoff_factor)
            self._good_steps = 0
            return
        self._good_steps += 1
        if self._good_steps == self._growth_interval:
            grown = scale * self._growth_factor
            if bool(ops.isfinite(grown)):
                ops.copy_(scale, grown)
            self._good_steps = 0

    def get_scale(self) -> float:
        """The factor; 1.0 when disabled."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else self._scale.item()

    def get_growth_factor(self) -> float:
        """What the factor grows by."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Set what the factor grows by."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """What the factor shrinks by."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set what the factor shrinks by."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """How many good steps make the factor grow."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set how many good steps make the factor grow."""
        self._growth_interval = new_interval

    def _get_growth_tracker(self) -> int:
        return self._good_steps if self._enabled else 0

    def is_enabled(self) -> bool:
        """Whether anything is scaled."""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` needs; empty when disabled."""
        if not self._enabled:
            return {}
        return {"scale": self.get_scale(), "growth_factor": self._growth_factor, "backoff_factor": self._backoff_factor,
                "growth_interval": self._growth_interval, "_growth_tracker": self._good_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another scaler was. Raises ``RuntimeError`` for the state of a disabled one."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError("The source state dict is empty, possibly because it was saved from a disabled instance of "
                               "GradScaler.")
        self._init_scale = float(state_dict["scale"])
        if self._scale is not None:
            ops.fill_(self._scale, self._init_scale)
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval, self._good_steps = state_dict["growth_interval"], state_dict["_growth_tracker"]

    def __getstate__(self) -> dict[str, Any]:
        if self._progress:
            raise AssertionError("A GradScaler instance may only be pickled at the beginning of an iteration, or at the end "
                                 "after scaler.update().")
        return {**self.__dict__, "_init_scale": self.get_scale() if self._enabled else self._init_scale, "_scale": None}


def _unscale(optimizer: Any, factor: float) -> bool | None:
    """Multiply the gradients by ``factor``; whether one is not finite (None: there is no gradient)."""
    grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if any(g.dtype is _dtype.float16 for g in grads):
        raise ValueError("Attempting to unscale FP16 gradients.")
    with GradMode(False):
        good = [bool(ops.all(ops.isfinite(ops.mul_(g, factor)))) for g in grads]
    return not all(good) if good else None

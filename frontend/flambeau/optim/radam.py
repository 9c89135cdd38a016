"""RAdam: Adam whose first steps are rectified (Liu et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.ir.op import is_compiling
from flambeau.runtime.tensor import Tensor

from .optimizer import Optimizer, add_scaled, blend, blend_square, check_options, decay_weights, step_counter


class RAdam(Optimizer):
    """Adam that waits until it knows the gradients' variance well enough to divide by it (``torch.optim.RAdam``)."""

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, decoupled_weight_decay: bool = False, *, foreach: bool | None = None,
                 maximize: bool = False, capturable: bool = False, differentiable: bool = False) -> None:
        check_options(lr=lr, eps=eps, betas=betas, weight_decay=weight_decay)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize,
                                      foreach=foreach, capturable=capturable, decoupled_weight_decay=decoupled_weight_decay,
                                      differentiable=differentiable))

    def _start(self, state: dict[str, Any], p: Tensor, group: dict[str, Any]) -> None:
        state["step"] = step_counter()
        state["exp_avg"] = flambeau.zeros_like(p)
        state["exp_avg_sq"] = flambeau.zeros_like(p)

    def _update_one(self, p: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]) -> None:
        beta1, beta2 = options["betas"]
        step = options["step"]
        g = decay_weights(p, g, options)
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        blend(mean, g, 1 - beta1)
        blend_square(square, g, beta2)
        update = mean / (1 - beta1**step) * options["lr"]
        if is_compiling():  # the number of steps is a runtime number there: both ways are computed
            length = _known(step, beta2)
            factor = _factor(length, beta2)
            adapted = (1 - beta2**step) ** 0.5 / (square.sqrt() + options["eps"]) * factor
            add_scaled(p, update * flambeau.where(length > 5, adapted, flambeau.ones_like(adapted)), -1.0)
            return
        rectified = _rectification(step, beta2)
        if rectified is not None:
            update = update * ((1 - beta2**step) ** 0.5 / (square.sqrt() + options["eps"])) * rectified
        add_scaled(p, update, -1.0)


def _rectification(step: float, beta2: float) -> float | None:
    """The factor that makes up for a variance estimated from ``step`` gradients; None while those are too few."""
    length = _known(step, beta2)
    return None if length <= 5 else _factor(length, beta2)


def _known(step: Any, beta2: float) -> Any:
    """How many gradients the variance is as good as estimated from: more than 5 are enough."""
    return _limit(beta2) - 2 * step * beta2**step / (1 - beta2**step)


def _factor(length: Any, beta2: float) -> Any:
    limit = _limit(beta2)
    return abs((length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)) ** 0.5


def _limit(beta2: float) -> float:
    return 2 / (1 - beta2) - 1


__all__ = ["RAdam"]

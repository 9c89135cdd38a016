"""Adadelta (Zeiler 2012)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.runtime.tensor import Tensor

from .optimizer import Optimizer, add_scaled, blend_square, check_options, decay_weights, step_counter


class Adadelta(Optimizer):
    """Steps scaled by the ratio of the sizes of past steps and past gradients (``torch.optim.Adadelta``)."""

    def __init__(self, params: Iterable[Any], lr: Any = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0,
                 foreach: bool | None = None, *, capturable: bool = False, maximize: bool = False,
                 differentiable: bool = False) -> None:
        check_options(lr=lr, rho=rho, eps=eps, weight_decay=weight_decay)
        if rho > 1.0:
            raise ValueError(f"Invalid rho value: {rho}")
        super().__init__(params, dict(lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize,
                                      capturable=capturable, foreach=foreach, differentiable=differentiable))

    def _start(self, state: dict[str, Any], p: Tensor, group: dict[str, Any]) -> None:
        state["step"] = step_counter()
        state["square_avg"] = flambeau.zeros_like(p)
        state["acc_delta"] = flambeau.zeros_like(p)

    def _update_one(self, p: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]) -> None:
        rho, eps = options["rho"], options["eps"]
        g = decay_weights(p, g, options)
        square, steps = state["square_avg"], state["acc_delta"]
        blend_square(square, g, rho)
        delta = (steps + eps).sqrt() / (square + eps).sqrt() * g
        blend_square(steps, delta, rho)
        add_scaled(p, delta, -options["lr"])


__all__ = ["Adadelta"]

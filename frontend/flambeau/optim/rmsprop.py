"""RMSprop (Hinton's lecture 6e; the centred form of Graves 2013)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.runtime.tensor import Tensor

from .optimizer import (
    Optimizer,
    add_ratio,
    add_scaled,
    blend,
    blend_square,
    check_options,
    decay_weights,
    step_counter,
)


class RMSprop(Optimizer):
    """RMSprop with momentum and centring (``torch.optim.RMSprop``)."""

    def __init__(self, params: Iterable[Any], lr: Any = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0, momentum: float = 0, centered: bool = False, capturable: bool = False,
                 foreach: bool | None = None, maximize: bool = False, differentiable: bool = False) -> None:
        check_options(lr=lr, eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        super().__init__(params, dict(lr=lr, momentum=momentum, alpha=alpha, eps=eps, centered=centered,
                                      weight_decay=weight_decay, capturable=capturable, foreach=foreach,
                                      maximize=maximize, differentiable=differentiable))

    def _start(self, state: dict[str, Any], p: Tensor, group: dict[str, Any]) -> None:
        state["step"] = step_counter()
        state["square_avg"] = flambeau.zeros_like(p)
        if group["momentum"] > 0:
            state["momentum_buffer"] = flambeau.zeros_like(p)
        if group["centered"]:
            state["grad_avg"] = flambeau.zeros_like(p)

    def _update_one(self, p: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]) -> None:
        lr, alpha = options["lr"], options["alpha"]
        g = decay_weights(p, g, options)
        square = state["square_avg"]
        blend_square(square, g, alpha)
        if options["centered"]:
            mean = state["grad_avg"]
            blend(mean, g, 1 - alpha)
            mean = mean.clone()
            square = square.addcmul(mean, mean, value=-1)
        root = square.sqrt() + options["eps"]
        if options["momentum"] > 0:
            buffer = state["momentum_buffer"]
            buffer.mul_(options["momentum"]).add_(g / root)
            add_scaled(p, buffer, -lr)
        else:
            add_ratio(p, g, root, -lr)


__all__ = ["RMSprop"]

"""Adamax: Adam with the maximum norm (Kingma & Ba 2015, section 7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.runtime.tensor import Tensor

from .optimizer import Optimizer, add_ratio, blend, check_options, decay_weights, step_counter


class Adamax(Optimizer):
    """Adam that divides by a decaying maximum of gradients (``torch.optim.Adamax``)."""

    def __init__(self, params: Iterable[Any], lr: Any = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, foreach: bool | None = None, *, maximize: bool = False,
                 differentiable: bool = False, capturable: bool = False) -> None:
        check_options(lr=lr, eps=eps, betas=betas, weight_decay=weight_decay)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, foreach=foreach,
                                      maximize=maximize, differentiable=differentiable, capturable=capturable))

    def _start(self, state: dict[str, Any], p: Tensor, group: dict[str, Any]) -> None:
        state["step"] = step_counter()
        state["exp_avg"] = flambeau.zeros_like(p)
        state["exp_inf"] = flambeau.zeros_like(p)

    def _update_one(self, p: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]) -> None:
        beta1, beta2 = options["betas"]
        step = options["step"]
        g = decay_weights(p, g, options)
        mean, largest = state["exp_avg"], state["exp_inf"]
        blend(mean, g, 1 - beta1)
        largest.copy_(flambeau.maximum(largest * beta2, abs(g) + options["eps"]))
        add_ratio(p, mean, largest.clone(), -options["lr"] / (1 - beta1**step))


__all__ = ["Adamax"]

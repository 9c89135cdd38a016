"""NAdam: Adam with Nesterov's momentum (Dozat 2016)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.runtime.tensor import Tensor

from .optimizer import Optimizer, add_ratio, blend_square, check_options, count, decay_weights, step_counter


class NAdam(Optimizer):
    """Adam with Nesterov's momentum, which grows by ``momentum_decay`` (``torch.optim.NAdam``)."""

    def __init__(self, params: Iterable[Any], lr: Any = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False, *,
                 foreach: bool | None = None, maximize: bool = False, capturable: bool = False,
                 differentiable: bool = False) -> None:
        check_options(lr=lr, eps=eps, betas=betas, weight_decay=weight_decay, momentum_decay=momentum_decay)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay,
                                      decoupled_weight_decay=decoupled_weight_decay, maximize=maximize, foreach=foreach,
                                      capturable=capturable, differentiable=differentiable))

    def _start(self, state: dict[str, Any], p: Tensor, group: dict[str, Any]) -> None:
        state["step"] = step_counter()
        state["mu_product"] = step_counter(1.0)
        state["exp_avg"] = flambeau.zeros_like(p)
        state["exp_avg_sq"] = flambeau.zeros_like(p)

    def _update_one(self, p: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]) -> None:
        (beta1, beta2), lr, decay = options["betas"], options["lr"], options["momentum_decay"]
        step = count(state)
        g = decay_weights(p, g, options)
        now, following = (beta1 * (1.0 - 0.5 * 0.96 ** (t * decay)) for t in (step, step + 1))
        state["mu_product"] *= now
        product = state["mu_product"].item()
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(g, 1 - beta1)
        blend_square(square, g, beta2)
        denominator = (square / (1 - beta2**step)).sqrt() + options["eps"]
        add_ratio(p, g, denominator, -lr * (1.0 - now) / (1.0 - product))
        add_ratio(p, mean, denominator, -lr * following / (1.0 - product * following))


__all__ = ["NAdam"]

"""NAdam: Adam with Nesterov's momentum (Dozat 2016)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.runtime.tensor import Tensor

from .optimizer import Optimizer, add_ratio, blend, blend_square, check_options, decay_weights, number, step_counter


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

    def _count(self, state: dict[str, Any], p: Tensor, options: dict[str, Any]) -> dict[str, Any]:
        """The step, the momentum now and at the next step, and the product of all momenta."""
        found = super()._count(state, p, options)
        now, following = (options["betas"][0] * (1.0 - 0.5 * 0.96 ** (t * options["momentum_decay"]))
                          for t in (found["step"], found["step"] + 1))
        state["mu_product"] *= now
        return {**found, "now": now, "following": following, "product": number(state["mu_product"])}

    def _update_one(self, p: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]) -> None:
        (beta1, beta2), lr, step = options["betas"], options["lr"], options["step"]
        now, following, product = options["now"], options["following"], options["product"]
        g = decay_weights(p, g, options)
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        blend(mean, g, 1 - beta1)
        blend_square(square, g, beta2)
        denominator = (square / (1 - beta2**step)).sqrt() + options["eps"]
        add_ratio(p, g, denominator, -lr * (1.0 - now) / (1.0 - product))
        add_ratio(p, mean, denominator, -lr * following / (1.0 - product * following))


__all__ = ["NAdam"]

"""Averaged stochastic gradient descent (Polyak & Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.runtime.tensor import Tensor

from .optimizer import Optimizer, check_options, count, decay_weights, step_counter


class ASGD(Optimizer):
    """Gradient descent with a shrinking rate; ``state[p]["ax"]`` averages the parameters from step ``t0`` on
    (``torch.optim.ASGD``)."""

    def __init__(self, params: Iterable[Any], lr: Any = 1e-2, lambd: float = 1e-4, alpha: float = 0.75, t0: float = 1e6,
                 weight_decay: float = 0, foreach: bool | None = None, maximize: bool = False, differentiable: bool = False,
                 capturable: bool = False) -> None:
        check_options(lr=lr, weight_decay=weight_decay)
        super().__init__(params, dict(lr=lr, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay, foreach=foreach,
                                      maximize=maximize, differentiable=differentiable, capturable=capturable))

    def _start(self, state: dict[str, Any], p: Tensor, group: dict[str, Any]) -> None:
        state["step"] = step_counter()
        state["eta"] = step_counter(float(group["lr"]))
        state["mu"] = step_counter(1.0)
        state["ax"] = flambeau.zeros_like(p)

    def _update_one(self, p: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]) -> None:
        lr, shrink = options["lr"], options["lambd"]
        rate, weight, mean = state["eta"].item(), state["mu"].item(), state["ax"]
        step = count(state)
        g = decay_weights(p, g, options)
        p.mul_(1 - shrink * rate)
        p.add_(g, alpha=-rate)
        mean.copy_(p) if weight == 1 else mean.add_((p - mean) * weight)
        state["eta"].copy_(step_counter(float(lr / (1 + shrink * lr * step) ** options["alpha"])))
        state["mu"].copy_(step_counter(1 / max(1, step - options["t0"])))


__all__ = ["ASGD"]

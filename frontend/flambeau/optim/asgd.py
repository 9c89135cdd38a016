"""Averaged stochastic gradient descent (Polyak & Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.ir.op import is_compiling
from flambeau.runtime.tensor import Tensor

from .optimizer import Optimizer, add_scaled, check_options, decay_weights, number, step_counter


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

    def _count(self, state: dict[str, Any], p: Tensor, options: dict[str, Any]) -> dict[str, Any]:
        """The rate and the weight of this step; those of the next one are left in the state."""
        if is_compiling():
            return self._count_traced(state, p, options)
        lr, rate, weight = options["lr"], state["eta"].item(), state["mu"].item()
        step = super()._count(state, p, options)["step"]
        state["eta"].copy_(step_counter(float(lr / (1 + options["lambd"] * lr * step) ** options["alpha"])))
        state["mu"].copy_(step_counter(1 / max(1, step - options["t0"])))
        return {"rate": rate, "weight": weight}

    def _count_traced(self, state: dict[str, Any], p: Tensor, options: dict[str, Any]) -> dict[str, Any]:
        """The same where the numbers are tensors whose values are not known."""
        lr, rate, weight = options["lr"], number(state["eta"].clone()), number(state["mu"].clone())
        step = super()._count(state, p, options)["step"]
        state["eta"].copy_(lr / (1 + options["lambd"] * lr * step) ** options["alpha"])
        state["mu"].copy_(1 / (step - options["t0"]).clamp(min=1))
        return {"rate": rate, "weight": weight}

    def _update_one(self, p: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]) -> None:
        rate, weight, mean = options["rate"], options["weight"], state["ax"]
        g = decay_weights(p, g, options)
        p.mul_(1 - options["lambd"] * rate)
        add_scaled(p, g, -rate)
        if not is_compiling() and weight == 1:
            mean.copy_(p)
        else:
            mean.add_((p - mean) * weight)


__all__ = ["ASGD"]

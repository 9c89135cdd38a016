"""Resilient backpropagation (Riedmiller & Braun 1993)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.runtime.tensor import Tensor

from .optimizer import Optimizer, check_options, step_counter


class Rprop(Optimizer):
    """Steps by the gradient's sign, longer while it stays and shorter when it turns (``torch.optim.Rprop``)."""

    def __init__(self, params: Iterable[Any], lr: Any = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
                 step_sizes: tuple[float, float] = (1e-6, 50), *, capturable: bool = False, foreach: bool | None = None,
                 maximize: bool = False, differentiable: bool = False) -> None:
        check_options(lr=lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        super().__init__(params, dict(lr=lr, etas=etas, step_sizes=step_sizes, foreach=foreach, maximize=maximize,
                                      differentiable=differentiable, capturable=capturable))

    def _start(self, state: dict[str, Any], p: Tensor, group: dict[str, Any]) -> None:
        rate = float(group["lr"])
        state["step"] = step_counter()
        state["prev"] = flambeau.zeros_like(p)
        state["step_size"] = flambeau.full_like(p, complex(rate, rate) if p.is_complex() else rate)

    def _update_one(self, p: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]) -> None:
        shorter, longer = options["etas"]
        previous, size = state["prev"], state["step_size"]
        agreement = g * previous.clone()
        factor = flambeau.where(agreement > 0, longer, flambeau.where(agreement < 0, shorter, flambeau.ones_like(size)))
        size.copy_((size.clone() * factor).clamp(*options["step_sizes"]))
        g = flambeau.where(agreement < 0, 0.0, g)  # a turned gradient only shortens the step
        p.sub_(g.sign() * size.clone())
        previous.copy_(g)


__all__ = ["Rprop"]

"""Adagrad (Duchi, Hazan & Singer 2011)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.runtime.tensor import Tensor

from .optimizer import Optimizer, add_ratio, check_options, decay_weights, step_counter


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients (``torch.optim.Adagrad``)."""

    def __init__(self, params: Iterable[Any], lr: Any = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
                 initial_accumulator_value: float = 0, eps: float = 1e-10, foreach: bool | None = None, *,
                 maximize: bool = False, differentiable: bool = False, fused: bool | None = None) -> None:
        check_options(lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps, foreach=foreach, fused=fused,
                      initial_accumulator_value=initial_accumulator_value, differentiable=differentiable)
        super().__init__(params, dict(lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay,
                                      initial_accumulator_value=initial_accumulator_value, foreach=foreach,
                                      maximize=maximize, differentiable=differentiable, fused=fused))
        for group in self.param_groups:  # PyTorch's Adagrad, unlike others, has its state before the first step
            for p in group["params"]:
                self._start(self.state[p], p, group)

    def _start(self, state: dict[str, Any], p: Tensor, group: dict[str, Any]) -> None:
        first = self.defaults["initial_accumulator_value"]
        state["step"] = step_counter()
        state["sum"] = flambeau.full_like(p, complex(first, first) if p.is_complex() else first, requires_grad=False)

    def share_memory(self) -> None:
        """Put the state into shared memory."""
        for state in self.state.values():
            state["sum"].share_memory_()

    def _update_one(self, p: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]) -> None:
        step = options["step"]
        g = decay_weights(p, g, options)
        total = state["sum"]
        total.addcmul_(g, g, value=1)
        add_ratio(p, g, total.sqrt() + options["eps"], -options["lr"] / (1 + (step - 1) * options["lr_decay"]))


__all__ = ["Adagrad"]

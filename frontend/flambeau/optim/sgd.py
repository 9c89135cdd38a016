"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.runtime.tensor import Tensor

from .optimizer import Optimizer, add_scaled, check_options, decay_weights, plus_scaled


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, dampening, weight decay and Nesterov's variant (``torch.optim.SGD``)."""

    _complex_as_real = False  # the update is linear

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, momentum: float = 0, dampening: float = 0,
                 weight_decay: Any = 0, nesterov: bool = False, *, maximize: bool = False, foreach: bool | None = None,
                 differentiable: bool = False, fused: bool | None = None) -> None:
        check_options(lr=lr, momentum=momentum, weight_decay=weight_decay, foreach=foreach, fused=fused,
                      differentiable=differentiable)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                                      nesterov=nesterov, maximize=maximize, foreach=foreach,
                                      differentiable=differentiable, fused=fused))

    def _count(self, state: dict[str, Any], p: Tensor, options: dict[str, Any]) -> dict[str, Any]:
        """Steps are not counted, but the first one fills the buffer."""
        first = options["momentum"] != 0 and state.get("momentum_buffer") is None
        if first:
            state["momentum_buffer"] = flambeau.empty_like(p)
        return {"first": first}

    def _update_one(self, p: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]) -> None:
        g = decay_weights(p, g, options)
        momentum = options["momentum"]
        if momentum != 0:
            buffer = state["momentum_buffer"]
            if options["first"]:
                buffer.copy_(g)
            else:
                add_scaled(buffer.mul_(momentum), g, 1 - options["dampening"])
            g = plus_scaled(g, buffer, momentum) if options["nesterov"] else buffer
        add_scaled(p, g, -options["lr"])


__all__ = ["SGD"]

"""RMSprop (Hinton's lecture 6e; the centred form of Graves 2013)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau

from .optimizer import Optimizer, check_options, step_counter, with_gradients


class RMSprop(Optimizer):
    """RMSprop with momentum and centring (``torch.optim.RMSprop``)."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0, momentum: float = 0, centered: bool = False, capturable: bool = False,
                 foreach: bool | None = None, maximize: bool = False, differentiable: bool = False) -> None:
        check_options(lr=lr, eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        super().__init__(params, dict(lr=lr, momentum=momentum, alpha=alpha, eps=eps, centered=centered,
                                      weight_decay=weight_decay, capturable=capturable, foreach=foreach,
                                      maximize=maximize, differentiable=differentiable))

    def _update(self, group: dict[str, Any]) -> None:
        lr, alpha, momentum = group["lr"], group["alpha"], group["momentum"]
        for p in with_gradients(group):
            state = self.state[p]
            if not state:
                state["step"] = step_counter()
                state["square_avg"] = flambeau.zeros_like(p)
                if momentum > 0:
                    state["momentum_buffer"] = flambeau.zeros_like(p)
                if group["centered"]:
                    state["grad_avg"] = flambeau.zeros_like(p)
            state["step"] += 1
            g = -p.grad if group["maximize"] else p.grad
            if group["weight_decay"] != 0:
                g = g.add(p, alpha=group["weight_decay"])
            square = state["square_avg"]
            square.mul_(alpha).addcmul_(g, g, value=1 - alpha)
            if group["centered"]:
                mean = state["grad_avg"]
                mean.lerp_(g, 1 - alpha)
                root = square.addcmul(mean, mean, value=-1).sqrt_()
            else:
                root = square.sqrt()
            root.add_(group["eps"])
            if momentum > 0:
                state["momentum_buffer"].mul_(momentum).addcdiv_(g, root)
                p.add_(state["momentum_buffer"], alpha=-lr)
            else:
                p.addcdiv_(g, root, value=-lr)

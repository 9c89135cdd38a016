"""Adam (Kingma & Ba 2015), AMSGrad (Reddi et al. 2018) and AdamW (Loshchilov & Hutter 2019)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.runtime import kernels

from .optimizer import Optimizer, check_options, is_plain, runs_eagerly, step_counter, with_gradients


class Adam(Optimizer):
    """Adam (``torch.optim.Adam``); with ``decoupled_weight_decay`` it is AdamW."""

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, amsgrad: bool = False, *, foreach: bool | None = None, maximize: bool = False,
                 capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
                 decoupled_weight_decay: bool = False) -> None:
        check_options(lr=lr, eps=eps, betas=betas, weight_decay=weight_decay)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
                                      maximize=maximize, foreach=foreach, capturable=capturable,
                                      differentiable=differentiable, fused=fused,
                                      decoupled_weight_decay=decoupled_weight_decay))

    def _update(self, group: dict[str, Any]) -> None:
        params = with_gradients(group)
        for p in params:
            state = self.state[p]
            if not state:
                self._start(state, p, group)
            state["step"] += 1
        if not self._update_at_once(params, group):
            for p in params:
                self._update_one(p, group)

    def _update_at_once(self, params: list[Any], group: dict[str, Any]) -> bool:
        """Step all parameters in one compiled call; False (and nothing done) where that is not possible."""
        beta1, beta2 = group["betas"]
        lr, decay, decoupled = group["lr"], group["weight_decay"], group["decoupled_weight_decay"]
        numbers = (lr, beta1, beta2, decay, group["eps"])
        if group["differentiable"] or not runs_eagerly() or not all(isinstance(x, (int, float)) for x in numbers):
            return False
        found = []
        for p in params:
            state = self.state[p]
            tensors = [p, p.grad, state["exp_avg"], state["exp_avg_sq"]]
            tensors.append(state["max_exp_avg_sq"] if group["amsgrad"] else None)
            if any(t is not None and (not is_plain(t) or t.shape != p.shape) for t in tensors):
                return False
            step = state["step"].item()
            options = (-1.0 if group["maximize"] else 1.0, 1 - lr * decay if decoupled else 1.0, 0.0 if decoupled else decay,
                       1 - beta1, beta2, 1 - beta2, (1 - beta2**step) ** 0.5, group["eps"], lr / (1 - beta1**step))
            found.append((tensors, options))
        if not kernels.adam([([None if t is None else t._a for t in tensors], options) for tensors, options in found]):
            return False
        for tensors, _ in found:
            for t in (tensors[0], *tensors[2:]):
                if t is not None:
                    t._storage.version += 1
        return True

    def _update_one(self, p: Any, group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        lr, eps, decay = group["lr"], group["eps"], group["weight_decay"]
        state = self.state[p]
        step = state["step"].item()
        g = -p.grad if group["maximize"] else p.grad
        if decay != 0 and group["decoupled_weight_decay"]:
            p.mul_(1 - lr * decay)
        elif decay != 0:
            g = g.add(p, alpha=decay)
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(g, 1 - beta1)
        square.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        if group["amsgrad"]:
            flambeau.maximum(state["max_exp_avg_sq"], square, out=state["max_exp_avg_sq"])
            square = state["max_exp_avg_sq"]
        denominator = (square.sqrt() / (1 - beta2**step) ** 0.5).add_(eps)
        p.addcdiv_(mean, denominator, value=-lr / (1 - beta1**step))

    @staticmethod
    def _start(state: dict[str, Any], p: Any, group: dict[str, Any]) -> None:
        state["step"] = step_counter()
        state["exp_avg"] = flambeau.zeros_like(p)
        state["exp_avg_sq"] = flambeau.zeros_like(p)
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = flambeau.zeros_like(p)


class AdamW(Adam):
    """Adam with decoupled weight decay (``torch.optim.AdamW``)."""

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False, foreach: bool | None = None,
                 capturable: bool = False, differentiable: bool = False, fused: bool | None = None) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, foreach=foreach,
                         capturable=capturable, differentiable=differentiable, fused=fused, decoupled_weight_decay=True)

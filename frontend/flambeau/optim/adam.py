"""Adam (Kingma & Ba 2015) and AMSGrad (Reddi et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.runtime import kernels
from flambeau.runtime.tensor import Tensor

from .optimizer import (
    Optimizer,
    add_ratio,
    as_numbers,
    blend,
    blend_square,
    check_options,
    decay_weights,
    is_plain,
    runs_eagerly,
    step_counter,
    with_gradients,
)


class Adam(Optimizer):
    """Adam (``torch.optim.Adam``); with ``decoupled_weight_decay`` it is AdamW."""

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, betas: tuple[Any, Any] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: Any = 0, amsgrad: bool = False, *, foreach: bool | None = None, maximize: bool = False,
                 capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
                 decoupled_weight_decay: bool = False) -> None:
        check_options(lr=lr, eps=eps, betas=betas, weight_decay=weight_decay, foreach=foreach, fused=fused,
                      differentiable=differentiable)
        _check_tensor_options(lr, betas, bool(foreach) and not capturable)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
                                      maximize=maximize, foreach=foreach, capturable=capturable,
                                      differentiable=differentiable, fused=fused,
                                      decoupled_weight_decay=decoupled_weight_decay))

    def _update(self, group: dict[str, Any]) -> None:
        if not self._update_at_once(group):
            super()._update(group)

    def _update_at_once(self, group: dict[str, Any]) -> bool:
        """Step all parameters in one compiled call; False (and no step counted) where that is not possible."""
        if group["differentiable"] or not runs_eagerly():
            return False
        options, params = as_numbers(group), with_gradients(group)
        (beta1, beta2), lr, decay = options["betas"], options["lr"], options["weight_decay"]
        if not all(isinstance(x, (int, float)) for x in (lr, beta1, beta2, decay, options["eps"])):
            return False
        decoupled, sign = options["decoupled_weight_decay"], -1.0 if options["maximize"] else 1.0
        found = []
        for p in params:
            state = self.state[p]
            if not state:
                self._start(state, p, group)
            tensors = [p, p.grad, state["exp_avg"], state["exp_avg_sq"]]
            tensors.append(state["max_exp_avg_sq"] if options["amsgrad"] else None)
            if any(t is not None and (not is_plain(t) or t.shape != p.shape) for t in tensors):
                return False
            step = state["step"].item() + 1
            found.append((tensors, (sign, 1 - lr * decay if decoupled else 1.0, 0.0 if decoupled else decay, 1 - beta1, beta2,
                                    1 - beta2, (1 - beta2**step) ** 0.5, options["eps"], lr / (1 - beta1**step))))
        if not kernels.adam([([None if t is None else t._a for t in tensors], numbers) for tensors, numbers in found]):
            return False
        for tensors, _ in found:
            self.state[tensors[0]]["step"] += 1
            for t in (tensors[0], *tensors[2:]):
                if t is not None:
                    t._storage.version += 1
        return True

    def _update_one(self, p: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]) -> None:
        beta1, beta2 = options["betas"]
        step = options["step"]
        g = decay_weights(p, g, options)
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        blend(mean, g, 1 - beta1)
        blend_square(square, g, beta2)
        if options["amsgrad"]:
            largest = state["max_exp_avg_sq"]
            square = largest.copy_(flambeau.maximum(largest.clone(), square.clone()))
        denominator = square.sqrt() / (1 - beta2**step) ** 0.5 + options["eps"]
        add_ratio(p, mean, denominator, -options["lr"] / (1 - beta1**step))

    def _start(self, state: dict[str, Any], p: Tensor, group: dict[str, Any]) -> None:
        state["step"] = step_counter()
        state["exp_avg"] = flambeau.zeros_like(p)
        state["exp_avg_sq"] = flambeau.zeros_like(p)
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = flambeau.zeros_like(p)


def _check_tensor_options(lr: Any, betas: tuple[Any, Any], by_lists: bool) -> None:
    """Raise ``ValueError`` where PyTorch would not take tensors as options."""
    if isinstance(lr, Tensor) and by_lists:
        raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")
    if len({isinstance(beta, Tensor) for beta in betas}) > 1:
        raise ValueError("betas must be either both floats or both Tensors")
    for i, beta in enumerate(betas):
        if isinstance(beta, Tensor) and by_lists:
            raise ValueError(f"betas[{i}] as a Tensor is not supported for capturable=False and foreach=True")
        if isinstance(beta, Tensor) and beta.numel() != 1:
            raise ValueError(f"Tensor betas[{i}] must be 1-element")


__all__ = ["Adam"]

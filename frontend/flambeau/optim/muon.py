"""Muon: momentum made orthogonal by Newton-Schulz steps (Jordan et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.runtime.tensor import Tensor

from .optimizer import Optimizer, add_scaled, blend


class Muon(Optimizer):
    """Gradient descent for matrices by the nearest orthogonal matrix of their momentum (``torch.optim.Muon``)."""

    _elementwise = False

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95,
                 nesterov: bool = True, ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
                 eps: float = 1e-7, ns_steps: int = 5, adjust_lr_fn: str | None = None) -> None:
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        for name, value in (("Learning rate", lr), ("momentum", momentum), ("weight decay", weight_decay)):
            if not 0.0 <= value:
                raise ValueError(f"{name} should be >= 0 but is: {value}")
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov,
                                      ns_coefficients=ns_coefficients, eps=eps, ns_steps=ns_steps,
                                      adjust_lr_fn=adjust_lr_fn))
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(f"Muon only supports 2D parameters whereas we found a parameter with size: {p.size()}")

    def _check(self, p: Tensor) -> None:
        if p.is_complex():
            raise RuntimeError("Muon does not support complex parameters")

    def _start(self, state: dict[str, Any], p: Tensor, group: dict[str, Any]) -> None:
        state["momentum_buffer"] = flambeau.zeros_like(p.grad)

    def _count(self, state: dict[str, Any], p: Tensor, options: dict[str, Any]) -> dict[str, Any]:
        """Steps are not counted."""
        return {}

    def _update_one(self, p: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]) -> None:
        lr, momentum, buffer = options["lr"], options["momentum"], state["momentum_buffer"]
        blend(buffer, g, 1 - momentum)
        update = g.lerp(buffer, momentum) if options["nesterov"] else buffer
        update = _orthogonal(update, options["ns_coefficients"], options["ns_steps"], options["eps"])
        p.mul_(1 - lr * options["weight_decay"])
        add_scaled(p, update, -lr * _rate_factor(options["adjust_lr_fn"], *p.shape))


def _orthogonal(g: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """``g`` [m, n] with its singular values pulled towards 1, computed in bfloat16.

    Each step takes a singular value s to ``a s + b s^3 + c s^5``. The coefficients make it rise steeply at 0 and end
    somewhere near 1, which is all that is needed.
    """
    if steps >= 100:
        raise ValueError("Number of steps must be less than 100 for computational efficiency")
    if len(coefficients) != 3:
        raise ValueError("Coefficients must be a tuple of exactly 3 values")
    a, b, c = coefficients
    tall = g.shape[0] > g.shape[1]
    x = g.bfloat16().T if tall else g.bfloat16()
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = flambeau.addmm(x, flambeau.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def _rate_factor(kind: str | None, rows: int, columns: int) -> float:
    """What the learning rate is multiplied by for a matrix of this shape."""
    if kind == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))


__all__ = ["Muon"]

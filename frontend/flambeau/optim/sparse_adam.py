"""Adam for gradients in which most rows are zero."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.runtime.tensor import Tensor

from .optimizer import Optimizer


class SparseAdam(Optimizer):
    """Adam that leaves parameter and state alone where there is no gradient (``torch.optim.SparseAdam``).

    Tensors here are dense: the rows (elements of the first dimension) that hold anything but zeros are taken to be those
    that PyTorch's sparse gradient would hold. ``step`` counts in a plain int, as PyTorch's does.
    """

    _counts_in_tensors = _elementwise = False

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 maximize: bool = False) -> None:
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        for name, value in (("learning rate", lr), ("epsilon value", eps)):
            if not 0.0 < value:
                raise ValueError(f"Invalid {name}: {value}")
        for i, beta in enumerate(betas):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, maximize=maximize))
        found = [[i, k] for i, group in enumerate(self.param_groups) for k, p in enumerate(group["params"]) if p.is_complex()]
        if found:
            raise ValueError(f"Complex params at indices {found}: SparseAdam does not support complex parameters")

    def _start(self, state: dict[str, Any], p: Tensor, group: dict[str, Any]) -> None:
        state["step"] = 0
        state["exp_avg"] = flambeau.zeros_like(p)
        state["exp_avg_sq"] = flambeau.zeros_like(p)

    def _count(self, state: dict[str, Any], p: Tensor, options: dict[str, Any]) -> dict[str, Any]:
        """The step."""
        state["step"] += 1
        return {"step": state["step"]}

    def _update_one(self, p: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]) -> None:
        (beta1, beta2), lr = options["betas"], options["lr"]
        step = options["step"]
        rows = g.ne(0).reshape(g.shape[0], -1).any(1).nonzero().squeeze(1)
        if not rows.numel():
            return
        g = g[rows]
        mean, square = (state[name][rows] for name in ("exp_avg", "exp_avg_sq"))
        mean = mean + (g - mean) * (1 - beta1)
        square = square + (g * g - square) * (1 - beta2)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
        rate = lr * (1 - beta2**step) ** 0.5 / (1 - beta1**step)
        p[rows] -= mean / (square.sqrt() + options["eps"]) * rate


__all__ = ["SparseAdam"]

"""Adafactor (Shazeer & Stern 2018)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.runtime.tensor import Tensor

from .optimizer import Optimizer, step_counter


class Adafactor(Optimizer):
    """Adam in little memory: of a matrix's squared gradients only the means of rows and columns are kept
    (``torch.optim.Adafactor``)."""

    _elementwise = False

    def __init__(self, params: Iterable[Any], lr: Any = 1e-2, beta2_decay: float = -0.8,
                 eps: tuple[float | None, float] = (None, 1e-3), d: float = 1.0, weight_decay: float = 0.0, *,
                 foreach: bool | None = None, maximize: bool = False) -> None:
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not 0.0 <= lr:
            raise ValueError(f"Learning rate should be >= 0 but is: {lr}")
        if not 0.0 >= beta2_decay:
            raise ValueError(f"beta2_decay should be <= 0 but is: {beta2_decay}")
        for i, value in enumerate(eps):
            if value is not None and not 0.0 <= value:
                raise ValueError(f"epsilon{i + 1} should be >= 0 but is: {value}")
        if not 1.0 <= d:
            raise ValueError(f"Clipping threshold d should be >= 1 but is: {d}")
        if not 0.0 <= weight_decay:
            raise ValueError(f"weight_decay should be >= 0 but is: {weight_decay}")
        super().__init__(params, dict(lr=lr, beta2_decay=beta2_decay, eps=eps, d=d, weight_decay=weight_decay,
                                      foreach=foreach, maximize=maximize))

    def _check(self, p: Tensor) -> None:
        if p.is_complex():
            raise RuntimeError("Adafactor does not support complex parameters")

    def _start(self, state: dict[str, Any], p: Tensor, group: dict[str, Any]) -> None:
        state["step"] = step_counter()
        shape = tuple(p.grad.shape)
        if len(shape) > 1:
            state["row_var"] = p.grad.new_zeros((*shape[:-1], 1))
            state["col_var"] = p.grad.new_zeros((*shape[:-2], 1, shape[-1]))
        else:
            state["variance"] = flambeau.zeros_like(p.grad)

    def _update_one(self, p: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]) -> None:
        lr, (eps1, eps2) = options["lr"], options["eps"]
        eps1 = flambeau.finfo(p.dtype).eps if eps1 is None else eps1
        step = options["step"]
        rate = max(eps2, _rms(p)) * min(lr, 1 / step**0.5)
        if options["weight_decay"] != 0:
            p.mul_(1 - lr * options["weight_decay"])
        variance = self._variance(g, state, step ** options["beta2_decay"], eps1)
        update = variance.clamp_(min=eps1 * eps1).rsqrt_().mul_(g)
        p.add_(update, alpha=-rate / max(1.0, _rms(update) / options["d"]))

    @staticmethod
    def _variance(g: Tensor, state: dict[str, Any], weight: float, eps: float) -> Tensor:
        """The averaged squares of gradients, moved by ``weight`` towards ``g``'s: of a matrix from its rows and columns."""
        if g.ndim < 2:
            return state["variance"].lerp_(g * g, weight).clone()
        rows, columns = state["row_var"], state["col_var"]
        rows.lerp_(g.norm(dim=-1, keepdim=True).square().div(g.shape[-1]), weight)
        columns.lerp_(g.norm(dim=-2, keepdim=True).square().div(g.shape[-2]), weight)
        return (rows @ columns).div_(rows.mean(dim=-2, keepdim=True).clamp(min=eps))


def _rms(x: Tensor) -> float:
    """The root of the mean square."""
    return x.norm(2).item() / x.numel() ** 0.5


__all__ = ["Adafactor"]

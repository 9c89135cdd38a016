"""Averages of a model's weights over training (PyTorch: ``torch.optim.swa_utils``)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import flambeau
from flambeau.nn.module import Module
from flambeau.nn.norm import _BatchNorm
from flambeau.runtime.autograd import GradMode
from flambeau.runtime.tensor import Tensor

from .optimizer import Optimizer
from .schedule import LRScheduler, per_group


def _checked(decay: float) -> float:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")
    return decay


def get_ema_avg_fn(decay: float = 0.999) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """An ``avg_fn`` for the exponential moving average."""
    _checked(decay)

    @flambeau.no_grad()
    def ema_update(ema_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return decay * ema_param + (1 - decay) * current_param

    return ema_update


def get_swa_avg_fn() -> Callable[[Tensor, Tensor, Any], Tensor]:
    """An ``avg_fn`` for the plain average (stochastic weight averaging)."""

    @flambeau.no_grad()
    def swa_update(averaged_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)

    return swa_update


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable[[list[Tensor], list[Tensor], Any], None]:
    """A ``multi_avg_fn`` for the exponential moving average."""
    _checked(decay)

    @flambeau.no_grad()
    def ema_update(ema_param_list: list[Tensor], current_param_list: list[Tensor], num_averaged: Any) -> None:
        for average, now in zip(ema_param_list, current_param_list):
            if average.is_floating_point() or average.is_complex():
                average.lerp_(now, 1 - decay)
            else:
                average.copy_(average * decay + now * (1 - decay))

    return ema_update


def get_swa_multi_avg_fn() -> Callable[[list[Tensor], list[Tensor], Any], None]:
    """A ``multi_avg_fn`` for the plain average (stochastic weight averaging)."""

    @flambeau.no_grad()
    def swa_update(averaged_param_list: list[Tensor], current_param_list: list[Tensor], num_averaged: Any) -> None:
        for average, now in zip(averaged_param_list, current_param_list):
            if average.is_floating_point() or average.is_complex():
                average.lerp_(now, 1 / (float(num_averaged) + 1))
            else:
                average.copy_(average + (now - average) / (num_averaged + 1))

    return swa_update


class AveragedModel(Module):
    """A copy of ``model`` whose parameters average those that ``update_parameters`` is given.

    ``avg_fn(average, now, count)`` or ``multi_avg_fn(averages, nows, count)`` say how; the plain average otherwise. With
    ``use_buffers`` buffers are averaged too, else they are copied.
    """

    n_averaged: Tensor

    def __init__(self, model: Module, device: Any = None, avg_fn: Callable | None = None, multi_avg_fn: Callable | None = None,
                 use_buffers: bool = False) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", flambeau.tensor(0, dtype=flambeau.int64, device=device))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the averaged module computes."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take the parameters of ``model`` into the average."""
        pairs = [(a.detach(), b.detach().to(a.device)) for a, b in zip(self._averaged(self.module), self._averaged(model))]
        with GradMode(False):
            if self.n_averaged == 0:
                for average, now in pairs:
                    average.copy_(now)
            elif self.multi_avg_fn is not None:
                for averages, nows in _by_kind(pairs):
                    self.multi_avg_fn(averages, nows, self.n_averaged.to(averages[0].device))
            else:
                fn = get_swa_avg_fn() if self.avg_fn is None else self.avg_fn
                for average, now in pairs:
                    average.copy_(fn(average, now, self.n_averaged.to(average.device)))
            if not self.use_buffers:
                for ours, theirs in zip(self.module.buffers(), model.buffers()):
                    ours.copy_(theirs.to(ours.device))
            self.n_averaged += 1

    def _averaged(self, module: Module) -> list[Tensor]:
        return [*module.parameters(), *(module.buffers() if self.use_buffers else ())]


def _by_kind(pairs: list[tuple[Tensor, Tensor]]) -> list[tuple[list[Tensor], list[Tensor]]]:
    """The pairs as two lists for each device and dtype."""
    found: dict[tuple[str, str], tuple[list[Tensor], list[Tensor]]] = {}
    for average, now in pairs:
        averages, nows = found.setdefault((str(average.device), str(average.dtype)), ([], []))
        averages.append(average)
        nows.append(now)
    return list(found.values())


@flambeau.no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Compute the running statistics of all BatchNorm layers anew, by a pass of ``model`` over ``loader``."""
    layers = {m: m.momentum for m in model.modules() if isinstance(m, _BatchNorm)}
    if not layers:
        return
    was_training = model.training
    model.train()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain average of all batches
    for batch in loader:
        first = batch[0] if isinstance(batch, (list, tuple)) else batch
        model(first if device is None else first.to(device))
    for layer, momentum in layers.items():
        layer.momentum = momentum
    model.train(was_training)


class SWALR(LRScheduler):
    """Move every group's rate to ``swa_lr`` within ``anneal_epochs`` steps, and keep it there."""

    def __init__(self, optimizer: Optimizer, swa_lr: Any, anneal_epochs: int = 10, anneal_strategy: str = "cos",
                 last_epoch: int = -1) -> None:
        for group, lr in zip(optimizer.param_groups, per_group("swa_lr", optimizer, swa_lr)):
            group["swa_lr"] = lr
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        self._anneal_strategy, self.anneal_epochs = anneal_strategy, anneal_epochs
        super().__init__(optimizer, last_epoch)

    def anneal_func(self, t: float) -> float:
        """How far the rate has gone after a part ``t`` of the way."""
        return (1 - math.cos(math.pi * t)) / 2 if self._anneal_strategy == "cos" else t

    def _next(self) -> list[Any]:
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = (self.anneal_func(max(0, min(1, t / max(1, self.anneal_epochs)))) for t in (step - 1, step))
        rates = []
        for group in self.optimizer.param_groups:  # where the rate came from follows from where it is
            target = group["swa_lr"]
            origin = target if before == 1 else (group["lr"] - before * target) / (1 - before)
            rates.append(target * now + origin * (1 - now))
        return rates


__all__ = ["AveragedModel", "SWALR", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn", "get_swa_multi_avg_fn",
           "update_bn"]

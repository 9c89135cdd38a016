"""The base of learning-rate schedules."""

from __future__ import annotations

import types
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from flambeau.runtime.tensor import Tensor

from .optimizer import Optimizer

_ADVICE = "See more details at https://pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate"
EPOCH_DEPRECATION_WARNING = (
    "The epoch parameter in `scheduler.step()` was not necessary and is being deprecated where possible. Please use "
    "`scheduler.step()` to step the scheduler. During the deprecation, if epoch is different from None, the closed form is used "
    "instead of the new chainable form, where available. Please open an issue if you are unable to replicate your use case: "
    "https://github.com/pytorch/pytorch/issues/new/choose.")


class LRScheduler:
    """Base of schedules: after each epoch (or batch) ``step()`` sets every group's ``lr`` (PyTorch:
    ``torch.optim.lr_scheduler.LRScheduler``).

    Subclasses define ``get_lr()``, the next rates from the current ones; those of this package define ``_next()``, of which
    ``get_lr()`` is the public form. ``_get_closed_form_lr()``, if there is one, gives the rates of any epoch.
    """

    _is_initial = False                  # whether the step being taken is that of __init__
    _get_lr_called_within_step = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", _copied(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(f"param 'initial_lr' is not specified in param_groups[{i}] when resuming scheduler with "
                               "last_epoch >= 0: load the optimizer's state first, or leave last_epoch at -1 for a new run")
        self.base_lrs = [_copied(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        if not hasattr(optimizer, "_scheduled_step"):
            optimizer._opt_called = False  # steps count from the first schedule on
        optimizer._scheduled_step = vars(optimizer).get("step")  # type: ignore[attr-defined]
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        with _set(self, "_is_initial"):
            self.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer."""
        return {k: v for k, v in self.__dict__.items() if k != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.__dict__.update(state_dict)

    def get_last_lr(self) -> list[Any]:
        """The rates last set, one per group."""
        return self._last_lr

    def get_lr(self) -> list[Any]:
        """The next rates. Meant for ``step``: warns when it is called from elsewhere."""
        if not self._get_lr_called_within_step:
            warnings.warn("To get the last learning rate computed by the scheduler, please use `get_last_lr()`.", UserWarning,
                          stacklevel=2)
        return self._next()

    def _next(self) -> list[Any]:
        raise NotImplementedError(f"{type(self).__name__} must implement get_lr()")

    def step(self, epoch: int | None = None) -> None:
        """Advance one step (or to ``epoch``) and set the rates."""
        if self._step_count == 1:
            self._warn_about_order()
        self._step_count += 1
        if epoch is not None:
            warnings.warn(EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=2)
        self._update_lr(epoch)

    def _warn_about_order(self) -> None:
        if vars(self.optimizer).get("step") is not self.optimizer._scheduled_step:  # type: ignore[attr-defined]
            warnings.warn("Seems like `optimizer.step()` has been overridden after learning rate scheduler initialization. "
                          "Please, make sure to call `optimizer.step()` before `lr_scheduler.step()`. " + _ADVICE, UserWarning,
                          stacklevel=3)
        elif not self.optimizer._opt_called:
            warnings.warn("Detected call of `lr_scheduler.step()` before `optimizer.step()`. Call them in the opposite order: "
                          "`optimizer.step()` before `lr_scheduler.step()`, else the first value of the learning rate schedule "
                          "is skipped. " + _ADVICE, UserWarning, stacklevel=3)

    def _update_lr(self, epoch: int | None = None) -> None:
        with _set(self, "_get_lr_called_within_step"):
            if epoch is None:
                self.last_epoch += 1
                values = self.get_lr()
            else:
                self.last_epoch = epoch
                closed = getattr(self, "_get_closed_form_lr", None)
                values = self.get_lr() if closed is None else closed()
        self._put(values)

    def _put(self, values: Iterable[Any]) -> None:
        """Set the groups' rates."""
        for group, lr in zip(self.optimizer.param_groups, values):
            set_rate(group, lr)
        self._last_lr = self._rates()

    def _rates(self) -> list[Any]:
        """The groups' rates as they are."""
        return [_copied(group["lr"]) for group in self.optimizer.param_groups]

    def _scaled(self, factor: float) -> list[Any]:
        """Every group's current rate times ``factor``."""
        return [group["lr"] * factor for group in self.optimizer.param_groups]


_LRScheduler = LRScheduler


@contextmanager
def _set(scheduler: LRScheduler, flag: str) -> Iterator[None]:
    """``flag`` is True inside the block."""
    setattr(scheduler, flag, True)
    try:
        yield
    finally:
        setattr(scheduler, flag, False)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def set_rate(group: dict[str, Any], lr: Any) -> None:
    """Set a group's rate; one that is a tensor is written in place."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr.reshape(()) if isinstance(lr, Tensor) else lr)
    else:
        group["lr"] = lr


def per_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """An option as a list, one value for each group. Raises ``ValueError`` for a list of another length."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [_copied(value) for _ in range(groups)]
    if len(value) != groups:
        raise ValueError(f"{name} must have the same length as optimizer.param_groups. {name} has {len(value)} values, "
                         f"param_groups has {groups}.")
    return [_copied(v) for v in value]


def start_momentum(optimizer: Optimizer, base: Any, largest: Any, begin: bool) -> bool:
    """Give each group its bounds for a momentum that goes up and down, and if the schedule begins, the larger one as
    momentum. Returns whether the momentum is beta1. Raises ``ValueError`` for an optimizer without momentum."""
    if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
        raise ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
    if begin:
        for group, low, high in zip(optimizer.param_groups, per_group("base_momentum", optimizer, base),
                                    per_group("max_momentum", optimizer, largest)):
            set_momentum(group, high, "betas" in optimizer.defaults)
            group["max_momentum"], group["base_momentum"] = high, low
    return "betas" in optimizer.defaults


def set_momentum(group: dict[str, Any], momentum: float, use_beta1: bool) -> None:
    """Set a group's momentum, wherever its optimizer keeps it."""
    if use_beta1:
        group["betas"] = (momentum, *group["betas"][1:])
    else:
        group["momentum"] = momentum


def saved_function(fn: Any) -> dict[str, Any] | None:
    """What a state dict holds of a function: the attributes of a callable object, nothing of a plain function."""
    return None if isinstance(fn, types.FunctionType) or fn is None else dict(fn.__dict__)

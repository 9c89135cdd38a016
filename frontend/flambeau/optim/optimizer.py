"""The base of optimizers: parameter groups, per-parameter state, and their saving and loading."""

from __future__ import annotations

import copy
import itertools
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import flambeau
from flambeau.ir.op import state as op_state
from flambeau.runtime.autograd import GradMode, HookHandle
from flambeau.runtime.tensor import Tensor


class _Required:
    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()


class Optimizer:
    """Base of all optimizers (PyTorch: ``torch.optim.Optimizer``).

    ``params`` are tensors, ``(name, tensor)`` pairs, or dicts with the key ``params`` and options of their own.
    ``defaults`` are the options of groups that do not set them. Subclasses implement ``_update(group)``.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError("params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                            f"{type(params).__name__}")
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._pre_hooks: OrderedDict[int, Callable] = OrderedDict()
        self._post_hooks: OrderedDict[int, Callable] = OrderedDict()
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with options of its own. Raises for non-leaf or repeated parameters."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        group = dict(param_group)
        params = group["params"]
        if isinstance(params, set):
            raise TypeError("optimizer parameters need to be organized in ordered collections, but the ordering of tensors "
                            "in sets will change between runs. Please use a list instead.")
        params = [params] if isinstance(params, Tensor) else list(params)
        if params and isinstance(params[0], tuple):
            group["param_names"] = [name for name, _ in params]
            params = [p for _, p in params]
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}")
            if not (p.is_leaf or self.defaults.get("differentiable")):
                raise ValueError("can't optimize a non-leaf Tensor")
        group["params"] = params
        for name, default in self.defaults.items():
            if default is required and name not in group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            group.setdefault(name, default)
        known = {id(p) for g in self.param_groups for p in g["params"]}
        if known & {id(p) for p in params}:
            raise ValueError("some parameters appear in more than one parameter group")
        self.param_groups.append(group)

    # ---- stepping

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient. ``closure`` re-evaluates the loss and returns it."""
        for hook in list(self._pre_hooks.values()):
            hook(self, (), {})
        loss = None
        if closure is not None:
            with GradMode(True):
                loss = closure()
        with GradMode(False):
            for group in self.param_groups:
                self._update(group)
        for hook in list(self._post_hooks.values()):
            hook(self, (), {})
        return loss

    def _update(self, group: dict[str, Any]) -> None:
        raise NotImplementedError(f"{type(self).__name__} must implement step()")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or fill them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if set_to_none:
                    p.grad = None
                else:
                    p.grad = p.grad.detach()
                    p.grad.zero_()

    def register_step_pre_hook(self, hook: Callable) -> HookHandle:
        """Call ``hook(optimizer, args, kwargs)`` before each step."""
        return HookHandle(self._pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable) -> HookHandle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return HookHandle(self._post_hooks, hook)

    # ---- saving

    def state_dict(self) -> dict[str, Any]:
        """The state by parameter number, and the groups' options, as plain containers."""
        numbers = {id(p): i for i, p in enumerate(self._all_params())}
        groups, start = [], 0
        for group in self.param_groups:
            packed = {k: v for k, v in group.items() if k != "params"}
            packed["params"] = list(range(start, start + len(group["params"])))
            start += len(group["params"])
            groups.append(packed)
        state = {numbers[id(p)]: s for p, s in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state saved by :meth:`state_dict`. Raises ``ValueError`` when the groups do not match."""
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(a["params"]) != len(b["params"]) for a, b in zip(saved, self.param_groups)):
            raise ValueError("loaded state dict contains a parameter group that doesn't match the size of optimizer's group")
        by_number = dict(zip(itertools.chain.from_iterable(g["params"] for g in saved), self._all_params()))
        state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        for key, value in state_dict["state"].items():
            state[by_number.get(key, key)] = {
                k: _like_param(v, by_number[key], k) if key in by_number else copy.deepcopy(v) for k, v in value.items()}
        self.state = state
        self.param_groups = [{**copy.deepcopy({k: v for k, v in new.items() if k != "params"}), "params": old["params"]}
                             for new, old in zip(saved, self.param_groups)]

    def _all_params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pre_hooks, self._post_hooks = OrderedDict(), OrderedDict()

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines += [""] * (i > 0) + [f"Parameter Group {i}"]
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def _like_param(value: Any, param: Tensor, key: Hashable) -> Any:
    """A loaded state tensor on its parameter's device, in its dtype (step counters keep theirs)."""
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    if key == "step":
        return value.clone()
    if param.is_floating_point():
        return value.to(dtype=param.dtype, device=param.device, copy=True)
    return value.to(device=param.device, copy=True)


def step_counter() -> Tensor:
    """A step count as PyTorch keeps it in the state: a float32 tensor on the CPU."""
    return flambeau.tensor(0.0, dtype=flambeau.float32)


def with_gradients(group: dict[str, Any]) -> list[Tensor]:
    """The group's parameters that have a gradient."""
    return [p for p in group["params"] if p.grad is not None]


def runs_eagerly() -> bool:
    """Whether ops reach the eager handler: no trace or transform is looking on."""
    return op_state.handler is type(op_state).handler


def is_plain(tensor: Tensor) -> bool:
    """Whether this is a dense tensor of the CPU whose array may be handed to compiled code."""
    return isinstance(tensor, Tensor) and tensor._storage.device.type == "cpu"


def check_options(**options: Any) -> None:
    """Raise ``ValueError`` for a negative learning rate, epsilon, momentum, weight decay, or a beta outside [0, 1)."""
    names = {"lr": "learning rate", "eps": "epsilon value", "momentum": "momentum value", "weight_decay": "weight_decay value",
             "alpha": "alpha value"}
    for key, value in options.items():
        if key == "betas":
            for i, beta in enumerate(value):
                if not 0.0 <= beta < 1.0:
                    raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
        elif not 0.0 <= value:
            raise ValueError(f"Invalid {names[key]}: {value}")

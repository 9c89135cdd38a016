"""The base of optimizers: parameter groups, per-parameter state, hooks, and their saving and loading."""

from __future__ import annotations

import copy
import functools
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import flambeau
from flambeau.ir import dtype as _dtype
from flambeau.ir.op import changing, is_compiling
from flambeau.ir.op import state as op_state
from flambeau.runtime.autograd import GradMode
from flambeau.runtime.hooks import HookHandle
from flambeau.runtime.tensor import Tensor

from . import batches

ParamsT = params_t = Any  # iterables of tensors, of (name, tensor) pairs, or of dicts; for annotations


class _Required:
    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()
_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks", "_optimizer_state_dict_pre_hooks",
          "_optimizer_state_dict_post_hooks", "_optimizer_load_state_dict_pre_hooks", "_optimizer_load_state_dict_post_hooks")
_global_pre_hooks: OrderedDict[int, Callable] = OrderedDict()
_global_post_hooks: OrderedDict[int, Callable] = OrderedDict()


def register_optimizer_step_pre_hook(hook: Callable) -> HookHandle:
    """Call ``hook(optimizer, args, kwargs)`` before each step of every optimizer."""
    return HookHandle(_global_pre_hooks, hook)


def register_optimizer_step_post_hook(hook: Callable) -> HookHandle:
    """Call ``hook(optimizer, args, kwargs)`` after each step of every optimizer."""
    return HookHandle(_global_post_hooks, hook)


def _with_hooks(step: Callable) -> Callable:
    """``step`` with the hooks around it. A step that calls its base class's runs them once, outside."""

    @functools.wraps(step)
    def call(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        self._opt_called = True  # learning-rate schedules ask for it
        pre, post = self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks
        first, last = self._all_pre_hooks, self._all_post_hooks
        if self._stepping or not (pre or post or first or last):
            return step(self, *args, **kwargs)
        self._stepping = True
        try:
            for hook in (*first.values(), *pre.values()):
                changed = hook(self, args, kwargs)
                if changed is None:
                    continue
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(f"{type(self).__name__}.step: a pre-hook must return None or a tuple of (new_args, "
                                       f"new_kwargs), but got {changed}.")
                args, kwargs = changed
            result = step(self, *args, **kwargs)
            for hook in (*post.values(), *last.values()):
                hook(self, args, kwargs)
        finally:
            self._stepping = False
        return result

    return call


class Optimizer:
    """Base of all optimizers (PyTorch: ``torch.optim.Optimizer``).

    ``params`` are tensors, ``(name, tensor)`` pairs, or dicts with the key ``params`` and options of their own.
    ``defaults`` are the options of groups that do not set them. A subclass defines ``step``; those of this package define
    ``_start`` (a parameter's first state) and ``_update_one`` (one parameter's step) instead.
    """

    _complex_as_real = True   # whether the update treats a complex number as two real ones
    _elementwise = True       # whether it treats each number by itself
    _counts_in_tensors = True  # whether a loaded step count that is a number becomes a tensor
    _stepping = _opt_called = False
    _all_pre_hooks, _all_post_hooks = _global_pre_hooks, _global_post_hooks
    _optimizer_step_pre_hooks: OrderedDict[int, Callable]
    _optimizer_step_post_hooks: OrderedDict[int, Callable]
    _optimizer_state_dict_pre_hooks: OrderedDict[int, Callable]
    _optimizer_state_dict_post_hooks: OrderedDict[int, Callable]
    _optimizer_load_state_dict_pre_hooks: OrderedDict[int, Callable]
    _optimizer_load_state_dict_post_hooks: OrderedDict[int, Callable]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _with_hooks(cls.step)  # type: ignore[method-assign]

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError("params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                            f"{flambeau.typename(params)}")
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        for table in _HOOKS:
            setattr(self, table, OrderedDict())
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
        group = param_group  # kept, not copied: scripts look at the options that are filled in
        group["params"] = params = self._take_params(group)
        for name, default in self.defaults.items():
            if default is required and name not in group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            group.setdefault(name, default)
        if len({id(p) for p in params}) != len(params):
            warnings.warn("optimizer contains a parameter group with duplicate parameters; in future, this will cause an error; "
                          "see github.com/pytorch/pytorch/issues/40967 for more information", UserWarning, stacklevel=3)
        known = {id(p) for g in self.param_groups for p in g["params"]}
        if known & {id(p) for p in params}:
            raise ValueError("some parameters appear in more than one parameter group")
        self.param_groups.append(group)

    def _take_params(self, group: dict[str, Any]) -> list[Tensor]:
        """The group's parameters as a list of checked tensors; names given with them go into ``param_names``."""
        params = group["params"]
        if isinstance(params, set):
            raise TypeError("optimizer parameters need to be organized in ordered collections, but the ordering of tensors "
                            "in sets will change between runs. Please use a list instead.")
        params = [params] if isinstance(params, Tensor) else list(params)
        names = [p[0] for p in params if isinstance(p, tuple)]
        params = [p[1] if isinstance(p, tuple) else p for p in params]
        if names:
            if len(names) != len(params):
                raise ValueError("all optimizer params should be with/without names. Some param names are missing")
            group["param_names"] = names
        if self.param_groups and ("param_names" in self.param_groups[0]) != ("param_names" in group):
            raise ValueError("all optimizer param groups should be with/without names. cannot add param group "
                             f"{'without' if 'param_names' in self.param_groups[0] else 'with'} names to the optimizer")
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {flambeau.typename(p)}")
            if not (self.defaults.get("differentiable") or p.is_leaf or p.retains_grad):
                raise ValueError("can't optimize a non-leaf Tensor")
        return params

    # ---- stepping

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient. ``closure`` re-evaluates the loss and returns it."""
        loss = None
        if closure is not None:
            with GradMode(True):
                loss = closure()
        with GradMode(bool(self.defaults.get("differentiable"))):
            for group in self.param_groups:
                self._update(group)
        return loss

    def _update(self, group: dict[str, Any]) -> None:
        """Step the parameters of one group: in parts of a good size where the rule allows it, else one after another."""
        options = as_numbers(group)
        if is_compiling():
            options = {**options, "lr": changing(options["lr"])}
        in_parts = self._elementwise and runs_eagerly() and not group.get("differentiable")
        entries = []
        for p in with_gradients(group):
            self._check(p)
            state = self.state[p]
            if not state:
                self._start(state, p, group)
            numbers = self._count(state, p, options)
            if in_parts and batches.fits(p, state):
                entries.append((p, state, numbers))
            else:
                self._update_alone(p, state, {**options, **numbers})
            if not state:
                del self.state[p]  # an optimizer that remembers nothing saves nothing
        batches.run(self._update_one, entries, options)

    def _update_alone(self, p: Tensor, state: dict[str, Any], options: dict[str, Any]) -> None:
        """Step one parameter as a whole."""
        g = -p.grad if options.get("maximize") else p.grad
        if self._complex_as_real and p.is_complex():
            reals = {k: flambeau.view_as_real(v) if isinstance(v, Tensor) and v.is_complex() else v for k, v in state.items()}
            self._update_one(flambeau.view_as_real(p), flambeau.view_as_real(g), reals, options)
        else:
            self._update_one(p, g, state, options)

    def _check(self, p: Tensor) -> None:
        """Raise ``RuntimeError`` for a parameter that this optimizer cannot step."""

    def _start(self, state: dict[str, Any], p: Tensor, group: dict[str, Any]) -> None:
        """Fill the state of a parameter before its first step."""

    def _count(self, state: dict[str, Any], p: Tensor, options: dict[str, Any]) -> dict[str, Any]:
        """Count a parameter's step; the numbers that its update needs beside the options."""
        state["step"] += 1
        return {"step": number(state["step"])}

    def _update_one(self, p: Tensor, g: Tensor, state: dict[str, Any], options: dict[str, Any]) -> None:
        """Step ``p`` in place by its gradient ``g`` (negated already if maximizing); a rule that is ``_elementwise`` may be given
        parts of them."""
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

    # ---- hooks

    def register_step_pre_hook(self, hook: Callable) -> HookHandle:
        """Call ``hook(optimizer, args, kwargs)`` before each step; a pair that it returns replaces the arguments."""
        return HookHandle(self._optimizer_step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable) -> HookHandle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return HookHandle(self._optimizer_step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> HookHandle:
        """Call ``hook(optimizer)`` before ``state_dict``."""
        return _add(self._optimizer_state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> HookHandle:
        """Call ``hook(optimizer, state_dict)`` after ``state_dict``; what it returns is given instead."""
        return _add(self._optimizer_state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> HookHandle:
        """Call ``hook(optimizer, state_dict)`` before loading; what it returns is loaded instead."""
        return _add(self._optimizer_load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> HookHandle:
        """Call ``hook(optimizer)`` after loading."""
        return _add(self._optimizer_load_state_dict_post_hooks, hook, prepend)

    # ---- saving

    def state_dict(self) -> dict[str, Any]:
        """The state by parameter number, and the groups' options, as plain containers."""
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        numbers: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            packed = {k: v for k, v in group.items() if k != "params"}
            packed["params"] = [numbers.setdefault(id(p), len(numbers)) for p in group["params"]]
            groups.append(packed)
        state = {numbers[id(k)] if isinstance(k, Tensor) else k: v for k, v in self.state.items()}
        found: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in self._optimizer_state_dict_post_hooks.values():
            changed = hook(self, found)
            found = found if changed is None else changed
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state saved by :meth:`state_dict`. Raises ``ValueError`` when the groups do not match."""
        state_dict = state_dict.copy()
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        saved = copy.deepcopy(state_dict["param_groups"])
        if len(saved) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(a["params"]) != len(b["params"]) for a, b in zip(saved, self.param_groups)):
            raise ValueError("loaded state dict contains a parameter group that doesn't match the size of optimizer's group")
        owners = {number: (p, new) for old, new in zip(self.param_groups, saved)
                  for number, p in zip(new["params"], old["params"])}
        state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in owners:
                param, group = owners[key]
                state[param] = _like_param(value, param, group)
            else:
                state[key] = value
        for new, old in zip(saved, self.param_groups):
            new["params"] = old["params"]
            if "param_names" in old:
                new.setdefault("param_names", old["param_names"])
        self.__setstate__({"state": state, "param_groups": saved})
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for table in _HOOKS:
            self.__dict__.setdefault(table, OrderedDict())
        for group in self.param_groups:  # states of older versions lack some options and count steps in plain numbers
            for name, default in self.defaults.items():
                if default is not required:
                    group.setdefault(name, default)
            for p in group["params"]:
                step = self.state[p].get("step") if p in self.state else None
                if step is not None and not isinstance(step, Tensor) and self._counts_in_tensors:
                    self.state[p]["step"] = flambeau.tensor(float(step), dtype=_scalar_dtype())

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines += [""] * (i > 0) + [f"Parameter Group {i}"]
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


Optimizer.step = _with_hooks(Optimizer.step)  # type: ignore[method-assign]


def _add(hooks: OrderedDict, hook: Callable, prepend: bool) -> HookHandle:
    handle = HookHandle(hooks, hook)
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


def _like_param(value: Any, param: Tensor, group: dict[str, Any], key: Hashable = None) -> Any:
    """A loaded state with its tensors on the parameter's device, in its dtype (step counters keep theirs)."""
    if isinstance(value, Tensor):
        if key == "step":
            moves = group.get("capturable") or group.get("fused")
            return value.to(dtype=flambeau.float32, device=param.device) if moves else value
        return value.to(dtype=param.dtype if param.is_floating_point() else value.dtype, device=param.device)
    if isinstance(value, dict):
        return {k: _like_param(v, param, group, k) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_like_param(v, param, group) for v in value)
    return value


# ---- what the optimizers of this package share ------------------------------------------------------------------------------


def _scalar_dtype() -> Any:
    return flambeau.float64 if _dtype.get_default_dtype() is flambeau.float64 else flambeau.float32


def step_counter(value: float = 0.0) -> Tensor:
    """A step count (or another number of the state) as PyTorch keeps it: a zero-dimensional tensor on the CPU."""
    return flambeau.tensor(value, dtype=_scalar_dtype())


def number(x: Tensor) -> Any:
    """The value of a zero-dimensional tensor; in a trace, which must not look at it, the tensor, as exact as a number."""
    return x.double() if is_compiling() else x.item()


def with_gradients(group: dict[str, Any]) -> list[Tensor]:
    """The group's parameters that have a gradient."""
    return [p for p in group["params"] if p.grad is not None]


def as_numbers(group: dict[str, Any]) -> dict[str, Any]:
    """The group with options that are one-element tensors as numbers; as tensors, if the step is differentiated."""
    if not any(isinstance(v, (Tensor, tuple)) for v in group.values()):
        return group

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(plain(v) for v in value)
        if not isinstance(value, Tensor) or value.requires_grad or is_compiling():
            return value
        return value.item()

    return {k: v if k == "params" else plain(v) for k, v in group.items()}


def blend(average: Tensor, value: Tensor, weight: Any) -> None:
    """Move ``average`` by ``weight`` towards ``value``, in place. A weight to be differentiated meets a copy, as what it
    multiplies must be kept."""
    if is_compiling():
        average.add_((value - average) * weight)
    elif isinstance(weight, Tensor):
        average.copy_(average.clone().lerp(value, weight))
    else:
        average.lerp_(value, weight)


def blend_square(average: Tensor, g: Tensor, beta: Any) -> None:
    """Average of squares: ``beta * average + (1 - beta) * g^2``, in place."""
    if is_compiling():
        average.mul_(beta).add_(g * g * (1 - beta))
    elif isinstance(beta, Tensor):
        blend(average, g * g, 1 - beta)
    else:
        average.mul_(beta).addcmul_(g, g, value=1 - beta)


def add_scaled(p: Tensor, update: Tensor, factor: Any) -> None:
    """``p + factor * update``, in place. (A trace takes a number that changes as an operand, not as an option.)"""
    if isinstance(factor, Tensor) or is_compiling():
        p.add_(update * factor)
    else:
        p.add_(update, alpha=factor)


def plus_scaled(x: Tensor, y: Tensor, factor: Any) -> Tensor:
    """``x + factor * y``."""
    return x + y * factor if is_compiling() else x.add(y, alpha=factor)


def add_ratio(p: Tensor, above: Tensor, below: Tensor, factor: Any) -> None:
    """``p + factor * above / below``, in place; the next step may write ``above`` in place too."""
    if flambeau.is_grad_enabled() or isinstance(factor, Tensor) or is_compiling():
        p.add_(above.clone() / below * factor)
    else:
        p.addcdiv_(above, below, value=factor)


def decay_weights(p: Tensor, g: Tensor, options: dict[str, Any]) -> Tensor:
    """The gradient with the penalty on large weights in it; if that is decoupled, ``p`` is shrunk in place instead."""
    decay = options["weight_decay"]
    if isinstance(decay, (int, float)) and decay == 0:
        return g
    if options.get("decoupled_weight_decay"):
        p.mul_(1 - options["lr"] * decay)
        return g
    return g + p.clone() * decay if isinstance(decay, Tensor) else plus_scaled(g, p, decay)


def runs_eagerly() -> bool:
    """Whether ops reach the eager handler: no trace or transform is looking on."""
    return not is_compiling() and op_state.handler is type(op_state).handler


def is_plain(tensor: Tensor) -> bool:
    """Whether this is a dense tensor of the CPU whose array may be handed to compiled code."""
    return isinstance(tensor, Tensor) and tensor._storage.device.type == "cpu"


_NAMES = {"lr": "learning rate", "eps": "epsilon value", "momentum": "momentum value", "weight_decay": "weight_decay value",
          "alpha": "alpha value"}


def check_options(*, foreach: bool | None = None, fused: bool | None = None, differentiable: bool = False,
                  **options: Any) -> None:
    """Raise ``ValueError`` for a negative learning rate, epsilon, momentum..., or a beta outside [0, 1).

    ``foreach`` and ``fused`` choose among implementations that compute the same; only their contradictions matter here.
    """
    if isinstance(options.get("lr"), Tensor) and options["lr"].numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    for key, value in options.items():
        if key == "betas":
            for i, beta in enumerate(value):
                if not 0.0 <= beta < 1.0:
                    raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
        elif not 0.0 <= value:
            raise ValueError(f"Invalid {_NAMES.get(key, key + ' value')}: {value}")
    if fused and differentiable:
        raise RuntimeError("`fused` does not support `differentiable`")
    if fused and foreach:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


__all__ = ["Optimizer", "register_optimizer_step_post_hook", "register_optimizer_step_pre_hook"]

"""Weights divided by their largest singular value (Miyato et al. 2018), by a hook (PyTorch: ``torch.nn.utils.spectral_norm``)."""

from __future__ import annotations

from typing import Any

import flambeau
from flambeau.ir.op import ops
from flambeau.runtime.autograd import GradMode

from .. import functional as F
from ..conv import _ConvTransposeNd
from ..module import Module
from ..parameter import Parameter, is_lazy


def as_matrix(weight: Any, dim: int) -> Any:
    """``weight`` as a matrix whose rows are its slices along ``dim``."""
    if dim != 0:
        weight = weight.permute(dim, *(d for d in range(weight.ndim) if d != dim))
    return weight.reshape(weight.shape[0], -1)


def default_dim(module: Module) -> int:
    """The dimension of a module's weight that counts its outputs."""
    return 1 if isinstance(module, _ConvTransposeNd) else 0


class SpectralNorm:
    """The hook: before each call it computes the weight from ``NAME_orig``; ``NAME_u`` and ``NAME_v`` approach the singular
    vectors, by ``n_power_iterations`` steps each time in training."""

    _version = 1

    def __init__(self, name: str = "weight", n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        if n_power_iterations <= 0:
            raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
        self.name, self.n_power_iterations, self.dim, self.eps = name, n_power_iterations, dim, eps

    def reshape_weight_to_matrix(self, weight: Any) -> Any:
        """``weight`` as a matrix, a row for each output."""
        return as_matrix(weight, self.dim)

    def compute_weight(self, module: Module, do_power_iteration: bool) -> Any:
        """The weight over its largest singular value, as well as that is known."""
        weight, u, v = (getattr(module, self.name + end) for end in ("_orig", "_u", "_v"))
        matrix = as_matrix(weight, self.dim)
        if do_power_iteration:
            with GradMode(False):
                for _ in range(self.n_power_iterations):
                    v.copy_(F.normalize(ops.mv(matrix.t(), u), dim=0, eps=self.eps))
                    u.copy_(F.normalize(ops.mv(matrix, v), dim=0, eps=self.eps))
                u, v = u.clone(), v.clone()  # a later call changes them, and this one's backward needs them
        return weight / ops.dot(u, ops.mv(matrix, v))

    def remove(self, module: Module) -> None:
        """Make the weight one parameter again."""
        with GradMode(False):
            weight = self.compute_weight(module, do_power_iteration=False)
        for end in ("", "_u", "_v", "_orig"):
            delattr(module, self.name + end)
        module.register_parameter(self.name, Parameter(weight.detach()))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module, do_power_iteration=module.training))

    def _solve_v_and_rescale(self, matrix: Any, u: Any, sigma: Any) -> Any:
        """The ``v`` that belongs to ``u``, for checkpoints that did not keep it."""
        v = ops.mv(flambeau.linalg.pinv(matrix.t() @ matrix) @ matrix.t(), u)
        return v * (sigma / ops.dot(u, ops.mv(matrix, v)))

    @staticmethod
    def apply(module: Module, name: str, n_power_iterations: int, dim: int, eps: float) -> SpectralNorm:
        """Replace the parameter. Raises ``RuntimeError`` if that was done before."""
        if any(isinstance(hook, SpectralNorm) and hook.name == name for hook in module._forward_pre_hooks.values()):
            raise RuntimeError(f"Cannot register two spectral_norm hooks on the same parameter {name}")
        fn, weight = SpectralNorm(name, n_power_iterations, dim, eps), module._parameters[name]
        if weight is None:
            raise ValueError(f"`SpectralNorm` cannot be applied as parameter `{name}` is None")
        if is_lazy(weight):
            raise ValueError("The module passed to `SpectralNorm` can't have uninitialized parameters. Make sure to run the "
                             "dummy forward before applying spectral normalization")
        with GradMode(False):
            u, v = (F.normalize(weight.new_empty((n,)).normal_(0, 1), dim=0, eps=eps) for n in as_matrix(weight, dim).shape)
        delattr(module, name)
        module.register_parameter(name + "_orig", weight)
        setattr(module, name, weight.data)  # until the first call computes it
        module.register_buffer(name + "_u", u)
        module.register_buffer(name + "_v", v)
        module.register_forward_pre_hook(fn)
        module._register_state_dict_hook(SpectralNormStateDictHook(fn))
        module._register_load_state_dict_pre_hook(SpectralNormLoadStateDictPreHook(fn))
        return fn


class SpectralNormStateDictHook:
    """Notes the version in the metadata of a state dict."""

    def __init__(self, fn: SpectralNorm) -> None:
        self.fn = fn

    def __call__(self, module: Module, state_dict: Any, prefix: str, local_metadata: dict[str, Any]) -> None:
        local_metadata.setdefault("spectral_norm", {})[self.fn.name + ".version"] = self.fn._version


class SpectralNormLoadStateDictPreHook:
    """Gives checkpoints from before version 1, which hold the weight instead of ``v``, a ``v``."""

    def __init__(self, fn: SpectralNorm) -> None:
        self.fn = fn

    def __call__(self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], strict: bool, missing_keys: list[str],
                 unexpected_keys: list[str], error_msgs: list[str]) -> None:
        fn, key = self.fn, prefix + self.fn.name
        if local_metadata.get("spectral_norm", {}).get(fn.name + ".version") is not None or key not in state_dict:
            return
        missing = [key + end for end in ("_orig", "_u") if key + end not in state_dict]
        if missing:
            missing_keys.extend(missing if strict else [])
            return
        with GradMode(False):
            original, weight = state_dict[key + "_orig"], state_dict.pop(key)
            state_dict[key + "_v"] = fn._solve_v_and_rescale(as_matrix(original, fn.dim), state_dict[key + "_u"],
                                                             (original / weight).mean())


def spectral_norm(module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12,
                  dim: int | None = None) -> Module:
    """Divide a parameter by its largest singular value, as a matrix of rows along ``dim`` (None: the outputs)."""
    SpectralNorm.apply(module, name, n_power_iterations, default_dim(module) if dim is None else dim, eps)
    return module


def remove_spectral_norm(module: Module, name: str = "weight") -> Module:
    """Take :func:`spectral_norm` back. Raises ``ValueError`` where there is none."""
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, SpectralNorm) and hook.name == name:
            hook.remove(module)
            del module._forward_pre_hooks[key]
            break
    else:
        raise ValueError(f"spectral_norm of '{name}' not found in {module}")
    for table in (module._state_dict_hooks, module._load_state_dict_pre_hooks):
        for key in [k for k, h in table.items() if getattr(getattr(h, "fn", None), "name", None) == name]:
            del table[key]
    return module


__all__ = ["SpectralNorm", "remove_spectral_norm", "spectral_norm"]

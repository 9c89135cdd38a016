"""Layers that learn a size from their first input, and are ordinary layers from then on."""

from __future__ import annotations

from typing import Any

from . import conv, linear, norm
from .module import Module
from .parameter import UninitializedBuffer, UninitializedParameter, is_lazy


class LazyModuleMixin:
    """What lazy modules have before their ordinary class (PyTorch: ``torch.nn.modules.lazy.LazyModuleMixin``).

    A subclass makes parameters and buffers uninitialized, materializes them in ``initialize_parameters``, which is called with
    the first input, and names in ``cls_to_become`` the class it is from then on.
    """

    cls_to_become: type[Any] | None = None
    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _non_persistent_buffers_set: set[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._load_hook = self._register_load_state_dict_pre_hook(self._lazy_load_hook)  # type: ignore[attr-defined]
        self._initialize_hook = self.register_forward_pre_hook(  # type: ignore[attr-defined]
            self._infer_parameters, with_kwargs=True)

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Materialize what is uninitialized, for the arguments of the first call."""
        raise NotImplementedError(f"initialize_parameters is not implemented for {type(self).__name__}")

    def has_uninitialized_params(self) -> bool:
        """Whether the first input is still to come."""
        return any(is_lazy(t) for table in (self._parameters, self._buffers) for t in table.values())

    def _infer_parameters(self, module: Any, args: tuple, kwargs: dict[str, Any] | None = None) -> None:
        """The hook before the first call."""
        module.initialize_parameters(*args, **(kwargs or {}))
        if module.has_uninitialized_params():
            raise RuntimeError(f"module {module._get_name()} has not been fully initialized")
        module._initialize_hook.remove()
        module._load_hook.remove()
        del module._initialize_hook, module._load_hook
        if module.cls_to_become is not None:
            module.__class__ = module.cls_to_become

    def _lazy_load_hook(self, state_dict: Any, prefix: str, *_: Any) -> None:
        """The hook before loading: the tensors take the shapes of those they are loaded from."""
        for name, tensor in [*self._parameters.items(), *self._buffers.items()]:
            given = state_dict.get(prefix + name)
            if given is not None and is_lazy(tensor) and not is_lazy(given):
                tensor.materialize(given.shape)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """What is uninitialized is saved as it is."""
        kept = {k: v for k, v in self._buffers.items() if k not in self._non_persistent_buffers_set}
        for name, tensor in [*self._parameters.items(), *kept.items()]:
            if tensor is not None:
                destination[prefix + name] = tensor if keep_vars or is_lazy(tensor) else tensor.detach()


class _LazyLayer(LazyModuleMixin):
    """A lazy layer of this package: ``size_name`` is the setting to learn, ``_shapes`` follow from it."""

    size_name = ""

    def reset_parameters(self) -> None:
        """Initial values, once the sizes are known."""
        if not self.has_uninitialized_params() and getattr(self, self.size_name):
            super().reset_parameters()  # type: ignore[misc]

    def initialize_parameters(self, input: Any, *args: Any, **kwargs: Any) -> None:
        """Take the size from ``input`` and make the parameters."""
        if not self.has_uninitialized_params():
            return
        size = input.shape[self._size_dim(input)]
        setattr(self, self.size_name, size)
        for name, shape in self._shapes(size).items():
            found = getattr(self, name)
            if is_lazy(found):
                found.materialize(shape)
        self.reset_parameters()

    def _size_dim(self, input: Any) -> int:
        """The dimension of the input that has the size."""
        raise NotImplementedError

    def _shapes(self, size: int) -> dict[str, tuple]:
        """The shapes of the tensors by name."""
        raise NotImplementedError


def _uninitialize(module: Any, names: tuple[str, ...], device: Any, dtype: Any) -> None:
    for name in names:
        module._parameters[name] = UninitializedParameter(device=device, dtype=dtype)


class LazyLinear(_LazyLayer, linear.Linear):
    """A Linear that learns ``in_features``."""

    cls_to_become, size_name = linear.Linear, "in_features"

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(0, 0, False)
        self.out_features = out_features
        _uninitialize(self, ("weight", "bias") if bias else ("weight",), device, dtype)

    def _size_dim(self, input: Any) -> int:
        return -1

    def _shapes(self, size: int) -> dict[str, tuple]:
        return {"weight": (self.out_features, size), "bias": (self.out_features,)}


class _LazyConv(_LazyLayer):
    """A convolution that learns ``in_channels``."""

    size_name = "in_channels"
    transposed: bool
    groups: int
    dims: int
    kernel_size: tuple[int, ...]

    def __init__(self, out_channels: int, kernel_size: Any, *args: Any, bias: bool = True, device: Any = None, dtype: Any = None,
                 **kwargs: Any) -> None:
        super().__init__(0, 0, kernel_size, *args, bias=False, **kwargs)
        self.out_channels = out_channels
        _uninitialize(self, ("weight", "bias") if bias else ("weight",), device, dtype)

    def _size_dim(self, input: Any) -> int:
        if input.ndim not in (self.dims + 1, self.dims + 2):
            raise RuntimeError(f"Expected {self.dims + 1}D (unbatched) or {self.dims + 2}D (batched) input to "
                               f"{type(self).__name__}, but got input of size: {input.shape}")
        return input.ndim - self.dims - 1

    def _shapes(self, size: int) -> dict[str, tuple]:
        if size % self.groups:
            raise ValueError("in_channels must be divisible by groups")
        first, second = (size, self.out_channels) if self.transposed else (self.out_channels, size)
        return {"weight": (first, second // self.groups, *self.kernel_size), "bias": (self.out_channels,)}


class _LazyNorm(_LazyLayer):
    """A normalisation that learns ``num_features``."""

    size_name = "num_features"
    ndims: tuple[int, ...]

    def __init__(self, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, device: Any = None, dtype: Any = None, *, bias: bool = True) -> None:
        super().__init__(0, eps, momentum, False, track_running_stats, device, dtype)
        self.affine = affine
        if affine:
            _uninitialize(self, ("weight", "bias") if bias else ("weight",), device, dtype)
        if track_running_stats:
            for name in ("running_mean", "running_var"):
                self._buffers[name] = UninitializedBuffer(device=device, dtype=dtype)

    def _size_dim(self, input: Any) -> int:
        self._check_input_dim(input)  # type: ignore[attr-defined]
        return input.ndim - self.ndims[0] if isinstance(self, norm._InstanceNorm) else 1

    def _shapes(self, size: int) -> dict[str, tuple]:
        return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (size,))

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batches, once the sizes are known."""
        if not self.has_uninitialized_params():
            super().reset_running_stats()  # type: ignore[misc]


def _lazy(base: type[Module], mixin: type[_LazyLayer]) -> type:
    name = f"Lazy{base.__name__}"
    return type(name, (mixin, base), {"cls_to_become": base, "__module__": __name__, "__qualname__": name,
                                      "__doc__": f"A {base.__name__} that learns ``{mixin.size_name}``."})


_CLASSES = [_lazy(base, _LazyConv) for base in (conv.Conv1d, conv.Conv2d, conv.Conv3d, conv.ConvTranspose1d,
                                                conv.ConvTranspose2d, conv.ConvTranspose3d)]
_CLASSES += [_lazy(base, _LazyNorm) for base in (norm.BatchNorm1d, norm.BatchNorm2d, norm.BatchNorm3d, norm.InstanceNorm1d,
                                                 norm.InstanceNorm2d, norm.InstanceNorm3d)]
globals().update({c.__name__: c for c in _CLASSES})

__all__ = ["LazyLinear", *(c.__name__ for c in _CLASSES)]

"""Layers that learn a size from their first input, and are ordinary layers from then on."""

from __future__ import annotations

from typing import Any

from . import conv, linear, norm
from .module import Module
from .parameter import UninitializedParameter, is_lazy


class LazyModuleMixin:
    """The part of a lazy layer that waits: ``become`` is the ordinary class, ``size_name`` the setting to learn."""

    become: type[Module]
    size_name = ""
    forward: Any

    def has_uninitialized_params(self) -> bool:
        """Whether the first input is still to come."""
        return any(is_lazy(p) for p in self.parameters())  # type: ignore[attr-defined]

    def reset_parameters(self) -> None:
        """Initial values, once the sizes are known."""
        if not self.has_uninitialized_params() and getattr(self, self.size_name):
            super().reset_parameters()  # type: ignore[misc]

    def _shapes(self, size: int) -> dict[str, tuple]:
        raise NotImplementedError

    def _learn(self, input: Any) -> None:
        """Take the size from ``input``, make the parameters, and become the ordinary class."""
        size = input.shape[-1 if isinstance(self, linear.Linear) else self._channel_dim(input)]
        setattr(self, self.size_name, size)
        for name, shape in self._shapes(size).items():
            found = getattr(self, name)
            if is_lazy(found):
                found.materialize(shape)
            elif found is not None:
                self._buffers[name] = found.new_full(shape, 1.0 if name == "running_var" else 0.0)  # type: ignore[attr-defined]
        self.reset_parameters()
        self.__class__ = self.become  # type: ignore[assignment]

    def _channel_dim(self, input: Any) -> int:
        dims = getattr(self, "dims", None)
        return input.ndim - dims - 1 if dims else 1

    def _first(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        self._learn(input)
        return self.forward(input, *args, **kwargs)


def _uninitialize(module: Module, names: tuple[str, ...], device: Any, dtype: Any) -> None:
    for name in names:
        module._parameters[name] = UninitializedParameter(device=device, dtype=dtype)


class LazyLinear(LazyModuleMixin, linear.Linear):
    """A Linear that learns ``in_features``."""

    become, size_name = linear.Linear, "in_features"
    forward = LazyModuleMixin._first

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        linear.Linear.__init__(self, 0, 0, False)
        self.out_features = out_features
        _uninitialize(self, ("weight", "bias") if bias else ("weight",), device, dtype)

    def _shapes(self, size: int) -> dict[str, tuple]:
        return {"weight": (self.out_features, size), "bias": (self.out_features,)}


class _LazyConv(LazyModuleMixin):
    """A convolution that learns ``in_channels``."""

    size_name = "in_channels"
    transposed: bool
    groups: int
    kernel_size: tuple[int, ...]

    def __init__(self, out_channels: int, kernel_size: Any, *args: Any, bias: bool = True, device: Any = None, dtype: Any = None,
                 **kwargs: Any) -> None:
        super().__init__(0, 0, kernel_size, *args, bias=False, **kwargs)  # type: ignore[call-arg]
        self.out_channels = out_channels
        _uninitialize(self, ("weight", "bias") if bias else ("weight",), device, dtype)  # type: ignore[arg-type]

    def _shapes(self, size: int) -> dict[str, tuple]:
        first, second = (size, self.out_channels) if self.transposed else (self.out_channels, size)
        return {"weight": (first, second // self.groups, *self.kernel_size), "bias": (self.out_channels,)}


class _LazyNorm(LazyModuleMixin):
    """A normalisation that learns ``num_features``."""

    size_name = "num_features"

    def __init__(self, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(0, eps, momentum, False, track_running_stats, device, dtype)  # type: ignore[call-arg]
        self.affine = affine
        if affine:
            _uninitialize(self, ("weight", "bias"), device, dtype)  # type: ignore[arg-type]

    def _shapes(self, size: int) -> dict[str, tuple]:
        return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (size,))

    def _channel_dim(self, input: Any) -> int:
        return input.ndim - self.ndims[0] if isinstance(self, norm._InstanceNorm) else 1


def _lazy(base: type, mixin: type[LazyModuleMixin]) -> type:
    name = f"Lazy{base.__name__}"
    return type(name, (mixin, base), {"become": base, "forward": mixin._first, "__module__": __name__, "__qualname__": name,
                                      "__doc__": f"A {base.__name__} that learns ``{mixin.size_name}``."})


_CLASSES = [_lazy(base, _LazyConv) for base in (conv.Conv1d, conv.Conv2d, conv.Conv3d, conv.ConvTranspose1d,
                                                conv.ConvTranspose2d, conv.ConvTranspose3d)]
_CLASSES += [_lazy(base, _LazyNorm) for base in (norm.BatchNorm1d, norm.BatchNorm2d, norm.BatchNorm3d, norm.InstanceNorm1d,
                                                 norm.InstanceNorm2d, norm.InstanceNorm3d)]
globals().update({c.__name__: c for c in _CLASSES})

__all__ = ["LazyLinear", *(c.__name__ for c in _CLASSES)]

"""Tensors that a Module owns: parameters, which are trained, and buffers, which are not."""

from __future__ import annotations

from typing import Any

from flambeau.ir.op import ops
from flambeau.runtime.tensor import Tensor


class Parameter(Tensor):
    """A tensor that a :class:`~flambeau.nn.Module` registers when it is assigned as an attribute.

    It shares storage with ``data`` (None: an empty tensor) and requires a gradient unless told otherwise.
    """

    __slots__ = ()

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        source = ops.full((0,), 0.0) if data is None else data
        if not isinstance(source, Tensor):
            raise TypeError(f"Parameter data must be a tensor, but got {type(source).__name__}")
        super().__init__(source._a, source._storage)
        self.requires_grad_(requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        found = memo.get(id(self))
        if found is None:
            found = memo[id(self)] = type(self)(ops.clone(ops.detach(self)), self.requires_grad)
            found.__dict__.update(self.__dict__)
        return found

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return rebuild_parameter, (self.data, self.requires_grad, {})


def rebuild_parameter(data: Tensor, requires_grad: bool, hooks: Any) -> Parameter:
    """What a pickled parameter is made of again (PyTorch's files name such a function, with these arguments)."""
    return Parameter(data, requires_grad)


class Buffer(Tensor):
    """A tensor that a Module registers as a buffer when it is assigned as an attribute."""

    __slots__ = ()

    def __init__(self, data: Any = None, *, persistent: bool = True) -> None:
        source = ops.full((0,), 0.0) if data is None else data
        super().__init__(source._a, source._storage)
        self._rg, self.persistent = source.requires_grad, persistent


class UninitializedParameter(Parameter):
    """A parameter whose shape is told by the first input (PyTorch's lazy modules). :meth:`materialize` gives it data."""

    __slots__ = ()

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(ops.full((0,), 0.0, dtype=dtype, device=device), requires_grad)
        self.wanted = (dtype, device)

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Become an ordinary Parameter of ``shape``, uninitialized."""
        made = ops.full(tuple(shape), 0.0, dtype=dtype or self.wanted[0], device=device or self.wanted[1])
        self.data = made
        del self.wanted
        self.__class__ = Parameter  # type: ignore[assignment]


def is_lazy(value: Any) -> bool:
    """Whether ``value`` is a parameter without a shape yet."""
    return isinstance(value, UninitializedParameter)


__all__ = ["Buffer", "Parameter", "UninitializedParameter", "is_lazy"]

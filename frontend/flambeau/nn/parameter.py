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
    _is_param = True  # PyTorch's name; asked by what does not import `nn`

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


def factory_kwargs(kwargs: dict[str, Any] | None) -> dict[str, Any]:
    """Of a module's keyword arguments those for making tensors: ``device``, ``dtype``, ``memory_format``, and what is in
    ``factory_kwargs``. Raises ``TypeError`` for others, and for one given twice."""
    given = dict(kwargs or {})
    found = dict(given.pop("factory_kwargs", {}))
    unexpected = given.keys() - {"device", "dtype", "memory_format"}
    if unexpected:
        raise TypeError(f"unexpected kwargs {unexpected}")
    for name, value in given.items():
        if name in found:
            raise TypeError(f"{name} specified twice, in **kwargs and in factory_kwargs")
        found[name] = value
    return found


class UninitializedTensorMixin:
    """A tensor whose shape the first input tells (PyTorch's lazy modules): until :meth:`materialize` it has a dtype and a
    device, and whoever asks for more gets an error."""

    __slots__ = ()
    cls_to_become: type[Tensor]
    requires_grad: bool
    __dict__: dict[str, Any]

    def _wait(self, requires_grad: bool, device: Any, dtype: Any) -> None:
        """Be a tensor without data."""
        empty = ops.full((0,), 0.0, dtype=dtype, device=device)
        Tensor.__init__(self, empty._a, empty._storage)  # type: ignore[arg-type]
        self.__dict__["_waiting"] = empty
        self.requires_grad = requires_grad  # type: ignore[misc]

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Become an ordinary tensor of ``shape``, uninitialized."""
        empty = self.__dict__.pop("_waiting")
        made = ops.empty(tuple(shape), dtype=dtype or empty.dtype, device=device or empty.device)
        self.__class__ = self.cls_to_become  # type: ignore[assignment]
        self.data = made

    @property
    def _a(self) -> Any:
        kind = type(self).__name__
        raise ValueError(f"Attempted to use an uninitialized parameter. This error happens when you are using a `LazyModule` or "
                         f"explicitly manipulating `torch.nn.parameter.{kind}` objects. When using LazyModules Call `forward` "
                         "with a dummy batch to initialize the parameters before calling torch functions")

    @_a.setter
    def _a(self, value: Any) -> None:
        """Kept with the class that it becomes."""

    @property
    def data(self) -> Tensor:
        """A tensor of the dtype and on the device that this one will have."""
        return self.__dict__["_waiting"]

    @data.setter
    def data(self, value: Tensor) -> None:
        self.__dict__["_waiting"] = value

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def device(self) -> Any:
        return self.data.device

    @property
    def shape(self) -> Any:
        raise RuntimeError("Can't access the shape of an uninitialized parameter or buffer. This error usually happens in "
                           "`load_state_dict` when trying to load an uninitialized parameter into an initialized one. Call "
                           "`forward` to initialize the parameters before accessing their attributes.")

    def share_memory_(self) -> Any:
        raise RuntimeError("Can't share memory on an uninitialized parameter or buffer. Call `forward` to initialize the "
                           "parameters before calling `module.share_memory()`.")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return type(self), (self.requires_grad, str(self.device), self.dtype)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.requires_grad, self.device, self.dtype)  # type: ignore[call-arg]
        return memo[id(self)]


class UninitializedParameter(UninitializedTensorMixin, Parameter):  # type: ignore[misc, override]
    """A parameter whose shape is told by the first input."""

    __slots__ = ()
    cls_to_become = Parameter

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> None:
        self._wait(requires_grad, device, dtype)


class UninitializedBuffer(UninitializedTensorMixin, Buffer):  # type: ignore[misc, override]
    """A buffer whose shape is told by the first input."""

    __slots__ = ()
    cls_to_become = Tensor

    def __init__(self, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True) -> None:
        self._wait(requires_grad, device, dtype)
        self.persistent = persistent


def is_lazy(value: Any) -> bool:
    """Whether ``value`` is a parameter or buffer without a shape yet."""
    return isinstance(value, UninitializedTensorMixin)


__all__ = ["Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter", "is_lazy"]

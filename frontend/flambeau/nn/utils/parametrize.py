"""Parameters that are computed from others each time they are read (PyTorch: ``torch.nn.utils.parametrize``)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flambeau.runtime.autograd import GradMode
from flambeau.runtime.tensor import Tensor

from ..container import ModuleDict, ModuleList
from ..module import Module
from ..parameter import Parameter

_cache: dict[tuple[int, str], Any] = {}
_cache_enabled = 0


@contextmanager
def cached() -> Iterator[None]:
    """Inside the block each parametrized tensor is computed once, when it is first read."""
    global _cache_enabled
    _cache_enabled += 1
    try:
        yield
    finally:
        _cache_enabled -= 1
        if not _cache_enabled:
            _cache.clear()


def _register(module: Module, name: str, value: Any) -> None:
    if isinstance(value, Parameter):
        module.register_parameter(name, value)
    else:
        module.register_buffer(name, value)


def _same_kind(found: Any, expected: Any, what: str, unless: str = "") -> None:
    """Raise ``ValueError`` unless ``found`` is a tensor of the expected dtype and shape."""
    if not isinstance(found, Tensor):
        raise ValueError(f"{what} must return a tensor. Got {type(found).__name__}.")
    for trait in ("dtype", "shape"):
        if getattr(found, trait) != getattr(expected, trait):
            raise ValueError(f"{what} may not change the {trait} of the tensor{unless}: it was {getattr(expected, trait)} and "
                             f"became {getattr(found, trait)}")


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, applied one after another, and the tensors they start from.

    Those are ``original``, or if the first one takes several ``original0``, ``original1``...
    """

    def __init__(self, modules: Sequence[Module], original: Any, unsafe: bool = False) -> None:
        if len(modules) == 0:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        shape_and_dtype = original.detach()
        new = self._inverted(original)
        if not isinstance(new, (Tensor, Sequence)):
            raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). Got "
                             f"{type(new).__name__}")
        self.is_tensor, self.ntensors = isinstance(new, Tensor), 1 if isinstance(new, Tensor) else len(new)
        if isinstance(new, Tensor):
            self._keep(original, new)
        else:
            self._keep_several(original, new)
        if not unsafe:
            _same_kind(self(), shape_and_dtype, "Registering a parametrization", ", unless `unsafe` flag is enabled")

    def _inverted(self, value: Any) -> Any:
        """What to start from to arrive at ``value``, as far as the parametrizations can tell."""
        with GradMode(False):
            for module in reversed(list(self)):
                if hasattr(module, "right_inverse"):
                    try:
                        value = module.right_inverse(value)
                    except NotImplementedError:
                        pass
        return value

    def _keep(self, original: Any, new: Tensor) -> None:
        for trait in ("dtype", "device"):
            if getattr(original, trait) != getattr(new, trait):
                raise ValueError(f"When `right_inverse` outputs one tensor, it may not change the {trait}.\noriginal.{trait}: "
                                 f"{getattr(original, trait)}\nright_inverse(original).{trait}: {getattr(new, trait)}")
        with GradMode(False):
            original.set_(new)
        _register(self, "original", original)

    def _keep_several(self, original: Any, parts: Sequence[Any]) -> None:
        for i, part in enumerate(parts):
            if not isinstance(part, Tensor):
                raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). Got element "
                                 f"{i} of the sequence with type {type(part).__name__}.")
            part = Parameter(part, original.requires_grad) if isinstance(original, Parameter) else part
            _register(self, f"original{i}", part.requires_grad_(original.requires_grad))

    def originals(self) -> list[Any]:
        """The tensors that the parametrized one is computed from."""
        return [self.original] if self.is_tensor else [getattr(self, f"original{i}") for i in range(self.ntensors)]

    def right_inverse(self, value: Any) -> None:
        """Set the original tensors so that the parametrized one becomes ``value``."""
        with GradMode(False):
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(f"parametrization {type(module).__name__} does not implement right_inverse.")
                value = module.right_inverse(value)
            if self.is_tensor and not isinstance(value, Tensor):
                raise ValueError(f"`right_inverse` should return a tensor. Got {type(value).__name__}")
            if not self.is_tensor and not isinstance(value, Sequence):
                raise ValueError(f"'right_inverse' must return a sequence of tensors. Got {type(value).__name__}.")
            parts = [value] if self.is_tensor else list(value)
            if len(parts) != self.ntensors:
                raise ValueError(f"'right_inverse' must return a sequence of tensors of length {self.ntensors}. Got a sequence "
                                 f"of length {len(parts)}.")
            for i, (own, part) in enumerate(zip(self.originals(), parts)):
                name = "original" if self.is_tensor else f"original{i}"
                if not isinstance(part, Tensor):
                    raise ValueError(f"'right_inverse' must return a sequence of tensors. Got element {i} of type "
                                     f"{type(part).__name__}.")
                if part.dtype != own.dtype:
                    raise ValueError(f"The tensor returned by `right_inverse` has dtype {part.dtype} while `{name}` has dtype "
                                     f"{own.dtype}")
                own.set_(part)

    def forward(self) -> Any:
        """The parametrized tensor."""
        first, *rest = self
        x = first(*self.originals())
        for module in rest:
            x = module(x)
        return x


# ---- modules of which a tensor is parametrized ----------------------------------------------------------------------


def register_parametrization(module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False) -> Module:
    """Make ``module.NAME`` (a parameter or buffer) what ``parametrization`` computes of it.

    Its method ``right_inverse``, if it has one, says what to start from, here and when the tensor is assigned. Raises
    ``ValueError`` if the shape or dtype would change, unless that is declared ``unsafe``.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        if not unsafe:
            _check_next(module, tensor_name, parametrization)
        module.parametrizations[tensor_name].append(parametrization)
        module.parametrizations[tensor_name].unsafe |= unsafe
    elif tensor_name in module._buffers or tensor_name in module._parameters:
        made = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe=unsafe)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            module.__class__ = _parametrized_class(type(module))
            module.parametrizations = ModuleDict()
        setattr(type(module), tensor_name, _computed(tensor_name))
        module.parametrizations[tensor_name] = made
    else:
        raise ValueError(f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with name "
                         f"'{tensor_name}'")
    return module


def _check_next(module: Module, name: str, parametrization: Module) -> None:
    """Raise ``ValueError`` if one more parametrization would change the tensor's shape or dtype."""
    now = getattr(module, name)
    after = parametrization(now)
    _same_kind(after, now, "A parametrization", ", unless the `unsafe` flag is enabled")
    if hasattr(parametrization, "right_inverse"):
        try:
            _same_kind(parametrization.right_inverse(after), now, "parametrization.right_inverse",
                       ", unless the `unsafe` flag is enabled")
        except NotImplementedError:
            pass


def _parametrized_class(cls: type) -> type:
    """A class for one module: its parametrized tensors are properties."""

    def getstate(self: Module) -> Any:
        raise RuntimeError("Serialization of parametrized modules is only supported through state_dict(): save "
                           "module.state_dict(), and load it into a module with the same parametrizations")

    def deepcopy(self: Module, memo: dict[int, Any]) -> Module:
        if id(self) not in memo:
            twin = memo[id(self)] = type(self).__new__(type(self))
            twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return memo[id(self)]

    members: dict[str, Any] = {"__getstate__": getstate, "__module__": cls.__module__}
    if not hasattr(cls, "__deepcopy__"):
        members["__deepcopy__"] = deepcopy
    return type(f"Parametrized{cls.__name__}", (cls,), members)


def _computed(name: str) -> property:
    """The property that stands where the tensor was."""

    def get(self: Module) -> Any:
        parametrizations = self.parametrizations[name]
        if not _cache_enabled:
            return parametrizations()
        key = (id(self), name)
        if key not in _cache:
            _cache[key] = parametrizations()
        return _cache[key]

    def put(self: Module, value: Any) -> None:
        self.parametrizations[name].right_inverse(value)

    return property(get, put)


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether ``module`` has parametrizations (of the tensor of that name)."""
    found = getattr(module, "parametrizations", None)
    if not isinstance(found, ModuleDict):
        return False
    return len(found) > 0 if tensor_name is None else tensor_name in found


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make the tensor an ordinary one again: with its computed value, or (not ``leave_parametrized``) its original one."""
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    parametrizations = module.parametrizations[tensor_name]
    if parametrizations.is_tensor:
        kept = parametrizations.original
        if leave_parametrized:
            with GradMode(False):
                kept.set_(getattr(module, tensor_name))
    elif leave_parametrized:
        value = getattr(module, tensor_name)
        kept = Parameter(value.detach()) if value.requires_grad else value
    else:
        raise ValueError("Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is parametrized in terms of a "
                         "sequence of tensors.")
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    _register(module, tensor_name, kept)
    if not is_parametrized(module):
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class that ``module`` was made of."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(from_module: Module, to_module: Module, tensor_name: str | None = None) -> Module:
    """Give ``to_module`` the parametrizations of ``from_module`` and their tensors (of one name, or all)."""
    if not is_parametrized(from_module):
        return to_module
    for name in list(from_module.parametrizations) if tensor_name is None else [tensor_name]:
        source = from_module.parametrizations[name]
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name)))
        for parametrization in source:
            register_parametrization(to_module, name, parametrization)
        names = ["original"] if source.is_tensor else [f"original{i}" for i in range(source.ntensors)]
        for original in names:
            setattr(to_module.parametrizations[name], original, getattr(source, original))
    return to_module


__all__ = ["ParametrizationList", "cached", "is_parametrized", "register_parametrization", "remove_parametrizations",
           "transfer_parametrizations_and_params", "type_before_parametrizations"]

"""Weights set to zero and kept there (PyTorch: ``torch.nn.utils.prune``).

A pruned parameter ``NAME`` becomes ``NAME_orig``, with a buffer ``NAME_mask`` of zeros and ones; a hook multiplies the two
before each call.
"""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from flambeau.ir.op import ops

from ..module import Module
from .convert_parameters import parameters_to_vector


class BasePruningMethod(ABC):
    """A way to choose what to prune: subclasses define ``compute_mask`` and the kind ``PRUNING_TYPE``.

    ``"unstructured"`` chooses among single numbers, ``"structured"`` among slices along ``self.dim``, ``"global"`` among all.
    """

    PRUNING_TYPE: str
    _tensor_name: Any = None

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self._tensor_name, self.apply_mask(module))

    @abstractmethod
    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """A mask like ``default_mask`` with more zeros, for a tensor of which ``t`` tells the importance."""

    def apply_mask(self, module: Module) -> Any:
        """The parameter with the pruned numbers zero."""
        if self._tensor_name is None:
            raise AssertionError(f"Module {module} has to be pruned")
        original = getattr(module, self._tensor_name + "_orig")
        return getattr(module, self._tensor_name + "_mask").to(original.dtype) * original

    @classmethod
    def apply(cls, module: Module, name: str, *args: Any, importance_scores: Any = None, **kwargs: Any) -> BasePruningMethod:
        """Prune a parameter; what was pruned before stays so."""
        method = cls(*args, **kwargs)
        method._tensor_name = name
        before = _take_hook(module, name)
        if before is not None:
            container = before if isinstance(before, PruningContainer) else PruningContainer(before)
            container.add_pruning_method(method)
            method = container
        current = getattr(module, name)
        if importance_scores is not None and importance_scores.shape != current.shape:
            raise AssertionError(f"importance_scores should have the same shape as parameter {name} of {module}")
        default = ops.ones_like(current) if before is None else getattr(module, name + "_mask").detach().clone()
        mask = method.compute_mask(current if importance_scores is None else importance_scores, default_mask=default)
        if before is None:
            module.register_parameter(name + "_orig", current)
            del module._parameters[name]
        module.register_buffer(name + "_mask", mask)
        setattr(module, name, method.apply_mask(module))
        module.register_forward_pre_hook(method)
        return method

    def prune(self, t: Any, default_mask: Any = None, importance_scores: Any = None) -> Any:
        """``t``, a tensor by itself, with the pruned numbers zero."""
        if importance_scores is not None and importance_scores.shape != t.shape:
            raise AssertionError("importance_scores should have the same shape as tensor t")
        default = ops.ones_like(t) if default_mask is None else default_mask
        return t * self.compute_mask(t if importance_scores is None else importance_scores, default_mask=default)

    def remove(self, module: Module) -> None:
        """Make the parameter an ordinary one again; the zeros stay."""
        name = self._tensor_name
        if name is None:
            raise AssertionError(f"Module {module} has to be pruned before pruning can be removed")
        weight = self.apply_mask(module)
        if hasattr(module, name):
            delattr(module, name)
        original = module._parameters.pop(name + "_orig")
        original.data = weight.data
        del module._buffers[name + "_mask"]
        setattr(module, name, original)


def _take_hook(module: Module, name: str) -> BasePruningMethod | None:
    """The method that prunes the parameter so far, taken out of the module's hooks."""
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            del module._forward_pre_hooks[key]
            return hook
    return None


class PruningContainer(BasePruningMethod):
    """Several methods, each of which prunes what the ones before have left."""

    def __init__(self, *args: BasePruningMethod) -> None:
        self._pruning_methods: tuple[Any, ...] = ()
        if args:
            self._tensor_name = args[0]._tensor_name
        for method in args:
            self.add_pruning_method(method)

    def add_pruning_method(self, method: Any) -> None:
        """Add a method for the same parameter."""
        if method is not None and not isinstance(method, BasePruningMethod):
            raise TypeError(f"{type(method)} is not a BasePruningMethod subclass")
        if method is not None and self._tensor_name != method._tensor_name:
            raise ValueError(f"Can only add pruning methods acting on the parameter named '{self._tensor_name}' to "
                             f"PruningContainer {self}. Found '{method._tensor_name}'")
        self._pruning_methods += (method,)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Iterator[BasePruningMethod]:
        return iter(self._pruning_methods)

    def __getitem__(self, idx: Any) -> Any:
        return self._pruning_methods[idx]

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask of the last method, among what is left."""
        method, mask = self._pruning_methods[-1], default_mask.to(t.dtype)
        where = _left(method, t, default_mask)
        mask[where] = method.compute_mask(t[where], default_mask=default_mask[where]).to(mask.dtype)
        return mask


def _left(method: Any, t: Any, mask: Any) -> Any:
    """The index of what is not pruned yet: a mask of numbers, or of slices, or all."""
    if method.PRUNING_TYPE == "unstructured":
        return mask == 1
    if method.PRUNING_TYPE == "global":
        return (slice(None),) * t.ndim
    if method.PRUNING_TYPE != "structured":
        raise ValueError(f"Unrecognized PRUNING_TYPE {method.PRUNING_TYPE}")
    if not hasattr(method, "dim"):
        raise AttributeError('Pruning methods of PRUNING_TYPE "structured" need to have the attribute `dim` defined.')
    dim = method.dim + t.ndim if method.dim < 0 else method.dim
    if dim < 0:
        raise IndexError(f"Index is out of bounds for tensor with dimensions {t.ndim}")
    kept = mask.sum(dim=[d for d in range(t.ndim) if d != dim]) != 0
    return tuple(kept if d == dim else slice(None) for d in range(t.ndim))


# ---- methods --------------------------------------------------------------------------------------------------------


class Identity(BasePruningMethod):
    """Prunes nothing, but sets the module up as if it did."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask as it is."""
        return default_mask


class _ByAmount(BasePruningMethod):
    """Methods that prune an amount: a number, or (as a float) a part of what is there."""

    def __init__(self, amount: Any) -> None:
        if not isinstance(amount, numbers.Real):
            raise TypeError(f"Invalid type for amount: {amount}. Must be int or float.")
        if float(amount) < 0 or (not isinstance(amount, numbers.Integral) and float(amount) > 1):
            raise ValueError(f"amount={amount} should either be a float in the range [0, 1] or a non-negative integer")
        self.amount: Any = amount

    def _count(self, size: int) -> int:
        """How many of ``size`` to prune."""
        if not isinstance(self.amount, numbers.Integral):
            return round(float(self.amount) * size)
        if int(self.amount) > size:
            raise ValueError(f"amount={self.amount} should be smaller than the number of parameters to prune={size}")
        return int(self.amount)

    def _size_along(self, t: Any, dim: int) -> int:
        if t.ndim <= 1:
            raise ValueError(f"Structured pruning can only be applied to multidimensional tensors. Found tensor of shape "
                             f"{t.shape} with {t.ndim} dims")
        if dim >= t.ndim:
            raise IndexError(f"Invalid index {dim} for tensor of size {t.shape}")
        return t.shape[dim]


def _without(mask: Any, scores: Any, count: int, largest: bool) -> Any:
    """The mask with zeros where the ``count`` largest (or smallest) scores are."""
    mask = mask.clone()
    if count:
        mask.view(-1)[ops.topk(scores.reshape(-1), count, largest=largest)[1]] = 0
    return mask


def _slices_kept(t: Any, dim: int, kept: Any, mask: Any) -> Any:
    """The mask with zeros but in the slices ``kept`` (an index) along ``dim``."""
    chosen = ops.zeros_like(t)
    chosen[tuple(kept if d == dim % t.ndim else slice(None) for d in range(t.ndim))] = 1
    return chosen * mask.to(chosen.dtype)


class RandomUnstructured(_ByAmount):
    """Prunes numbers at random."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Zeros at the largest of as many random numbers."""
        count = self._count(t.numel())
        return _without(default_mask, ops.rand_like(t) if count else t, count, True)


class L1Unstructured(_ByAmount):
    """Prunes the numbers of the smallest magnitude."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Zeros at the smallest magnitudes."""
        return _without(default_mask, abs(t), self._count(t.numel()), False)


class RandomStructured(_ByAmount):
    """Prunes slices along ``dim`` at random."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: Any, dim: int = -1) -> None:
        super().__init__(amount)
        self.dim = dim

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Zeros in the slices of the smallest of as many random numbers."""
        size = self._size_along(t, self.dim)
        count = self._count(size)
        if not count:
            return default_mask
        chances = ops.rand((size,))
        return _slices_kept(t, self.dim, chances > ops.kthvalue(chances, count)[0], default_mask)


class LnStructured(_ByAmount):
    """Prunes the slices along ``dim`` of the smallest ``n``-norm."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: Any, n: Any, dim: int = -1) -> None:
        super().__init__(amount)
        self.n, self.dim = n, dim

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Zeros in the slices of the smallest norms."""
        size = self._size_along(t, self.dim)
        count = self._count(size)
        if not count:
            return default_mask
        norms = ops.norm(t, self.n, [d for d in range(t.ndim) if d != self.dim % t.ndim])
        return _slices_kept(t, self.dim, ops.topk(norms, size - count)[1], default_mask)


class CustomFromMask(BasePruningMethod):
    """Prunes by a given mask."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Any) -> None:
        self.mask = mask

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The two masks together."""
        if default_mask.shape != self.mask.shape:
            raise AssertionError(f"default_mask shape {default_mask.shape} must match self.mask shape {self.mask.shape}")
        return default_mask * self.mask.to(default_mask.dtype)


# ---- functions ------------------------------------------------------------------------------------------------------


def identity(module: Module, name: str) -> Module:
    """Set a parameter up for pruning, and prune nothing."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Module, name: str, amount: Any) -> Module:
    """Prune an amount of a parameter's numbers at random."""
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(module: Module, name: str, amount: Any, importance_scores: Any = None) -> Module:
    """Prune an amount of a parameter's numbers, those of the smallest magnitude (or score)."""
    L1Unstructured.apply(module, name, amount=amount, importance_scores=importance_scores)
    return module


def random_structured(module: Module, name: str, amount: Any, dim: int) -> Module:
    """Prune an amount of a parameter's slices along ``dim`` at random."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(module: Module, name: str, amount: Any, n: Any, dim: int, importance_scores: Any = None) -> Module:
    """Prune an amount of a parameter's slices along ``dim``, those of the smallest ``n``-norm."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: Module, name: str, mask: Any) -> Module:
    """Prune a parameter where ``mask`` is zero."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(parameters: Any, pruning_method: Any, importance_scores: Any = None, **kwargs: Any) -> None:
    """Prune numbers of several parameters, (module, name) pairs, as if those were one.

    ``importance_scores`` may give tensors by pair that tell the importance in place of the parameters.
    """
    if not isinstance(parameters, Iterable):
        raise TypeError("global_unstructured(): parameters is not an Iterable")
    scores = {} if importance_scores is None else importance_scores
    if not isinstance(scores, dict):
        raise TypeError("global_unstructured(): importance_scores must be of type dict")
    pairs = list(parameters)
    current = [getattr(module, name) for module, name in pairs]
    masks = [getattr(module, name + "_mask", ops.ones_like(p)) for (module, name), p in zip(pairs, current)]
    method = pruning_method(**kwargs)
    if method.PRUNING_TYPE != "unstructured":
        raise TypeError('Only "unstructured" PRUNING_TYPE supported for the `pruning_method`. Found method '
                        f"{pruning_method} of type {method.PRUNING_TYPE}")
    importance = parameters_to_vector([scores.get(pair, p) for pair, p in zip(pairs, current)])
    whole = PruningContainer(method).compute_mask(importance, parameters_to_vector(masks))
    start = 0
    for (module, name), p in zip(pairs, current):
        custom_from_mask(module, name, whole[start:start + p.numel()].view(p.shape))
        start += p.numel()


def remove(module: Module, name: str) -> Module:
    """Make a pruned parameter an ordinary one again; the zeros stay. Raises ``ValueError`` if it is not pruned."""
    hook = _take_hook(module, name)
    if hook is None:
        raise ValueError(f"Parameter '{name}' of module {module} has to be pruned before pruning can be removed")
    hook.remove(module)
    return module


def is_pruned(module: Module) -> bool:
    """Whether anything in ``module`` is pruned."""
    return any(isinstance(hook, BasePruningMethod) for m in module.modules() for hook in m._forward_pre_hooks.values())


__all__ = ["BasePruningMethod", "CustomFromMask", "Identity", "L1Unstructured", "LnStructured", "PruningContainer",
           "RandomStructured", "RandomUnstructured", "custom_from_mask", "global_unstructured", "identity", "is_pruned",
           "l1_unstructured", "ln_structured", "random_structured", "random_unstructured", "remove"]

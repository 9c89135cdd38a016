"""Modules as functions of their parameters (PyTorch: ``torch.func``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from flambeau.ir.op import ops


def functional_call(module: Any, parameter_and_buffer_dicts: Any, args: Any = None, kwargs: Any = None, *,
                    tie_weights: bool = True, strict: bool = False) -> Any:
    """``module(*args, **kwargs)`` with the named tensors in place of its parameters and buffers, for this one call.

    Args:
        parameter_and_buffer_dicts: a mapping from names as in ``state_dict``, or several.
        args: the positional arguments, a tuple or a single one.
        strict: raise ``RuntimeError`` unless every parameter and buffer is named, and nothing else.
    """
    tensors = _one_mapping(parameter_and_buffer_dicts)
    own = {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers(remove_duplicate=False))}
    unknown, missing = sorted(n for n in tensors if n not in own), sorted(n for n in own if n not in tensors)
    if strict and (unknown or missing):
        raise RuntimeError(f"functional_call(strict=True): unexpected {unknown}, missing {missing}")
    if tie_weights:
        replaced = {own[name]: t for name, t in tensors.items() if name in own}
        tensors = {**{name: replaced[t] for name, t in own.items() if t in replaced}, **tensors}
    positional = () if args is None else args if isinstance(args, tuple) else (args,)
    with _replaced(module, tensors):
        return module(*positional, **(kwargs or {}))


def _one_mapping(given: Any) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return dict(given)
    if not isinstance(given, (list, tuple)):
        raise ValueError("Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, "
                         f"but got {type(given)}")
    if not all(isinstance(part, Mapping) for part in given):
        raise ValueError("Expected all elements of parameter_and_buffer_dicts to be dictionaries")
    names = [name for part in given for name in part]
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        raise ValueError(f"{repeated} appeared in multiple dictionaries; behavior of functional call is ambiguous")
    return {name: t for part in given for name, t in part.items()}


@contextmanager
def _replaced(module: Any, tensors: dict[str, Any]) -> Iterator[None]:
    """Put ``tensors`` into the tables of the sub-modules that own their names, and the old ones back at the end."""
    before: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for path, tensor in tensors.items():
            prefix, _, name = path.rpartition(".")
            owner = module.get_submodule(prefix)
            table = owner._parameters if name in owner._parameters else owner._buffers
            if name not in table:
                raise AttributeError(f"{type(owner).__name__} has no parameter or buffer {name!r}")
            before.append((table, name, table[name]))
            table[name] = tensor
        yield
    finally:
        for table, name, tensor in reversed(before):
            table[name] = tensor


def stack_module_state(models: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and buffers of models of one kind, each stacked along a new dimension 0, to run an ensemble by ``vmap``.

    Raises ``RuntimeError`` for no models, models in different modes, or of different classes.
    """
    models = list(models)
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if not (all(m.training for m in models) or all(not m.training for m in models)):
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")
    if not all(type(m) is type(models[0]) for m in models):
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    params = {name: _stacked([dict(m.named_parameters())[name] for m in models]) for name, _ in models[0].named_parameters()}
    buffers = {name: _stacked([dict(m.named_buffers())[name] for m in models]) for name, _ in models[0].named_buffers()}
    return params, buffers


def _stacked(tensors: list[Any]) -> Any:
    """The stack, a leaf that requires grad as its parts do. Raises ``RuntimeError`` where they differ."""
    needs = tensors[0].requires_grad
    if not all(t.requires_grad == needs for t in tensors):
        raise RuntimeError("Expected each Tensor in tensors to have the same .requires_grad field")
    if all(t.is_leaf for t in tensors):
        return ops.detach(ops.stack(tensors, 0)).requires_grad_(needs)
    return ops.stack(tensors, 0)


def replace_all_batch_norm_modules_(root: Any) -> Any:
    """``root``, whose batch norms no longer keep running statistics (they would be written to, which ``vmap`` refuses)."""
    from flambeau.nn.norm import _BatchNorm  # noqa: PLC0415 - the transforms do without modules
    for module in root.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            module.running_mean = module.running_var = module.num_batches_tracked = None
            module.track_running_stats = False
    return root


__all__ = ["functional_call", "replace_all_batch_norm_modules_", "stack_module_state"]

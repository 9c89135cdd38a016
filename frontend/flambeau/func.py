"""Modules as functions of their parameters (PyTorch: ``torch.func``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


def functional_call(module: Any, parameter_and_buffer_dicts: Any, args: Any = None, kwargs: Any = None, *,
                    tie_weights: bool = True, strict: bool = False) -> Any:
    """``module(*args, **kwargs)`` with the named tensors in place of its parameters and buffers, for this one call.

    Args:
        parameter_and_buffer_dicts: a mapping from names as in ``state_dict``, or several.
        args: the positional arguments, a tuple or a single one.
        strict: raise ``RuntimeError`` unless every parameter and buffer is named, and nothing else.
    """
    given = parameter_and_buffer_dicts
    tensors = dict(given) if isinstance(given, Mapping) else {k: v for part in given for k, v in part.items()}
    own = {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers(remove_duplicate=False))}
    unknown, missing = sorted(tensors.keys() - own), sorted(own.keys() - tensors)
    if strict and (unknown or missing):
        raise RuntimeError(f"functional_call(strict=True): unexpected {unknown}, missing {missing}")
    if tie_weights:
        replaced = {id(own[name]): t for name, t in tensors.items() if name in own}
        tensors = {**{name: replaced[id(t)] for name, t in own.items() if id(t) in replaced}, **tensors}
    positional = () if args is None else args if isinstance(args, tuple) else (args,)
    with _replaced(module, tensors):
        return module(*positional, **(kwargs or {}))


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


__all__ = ["functional_call"]

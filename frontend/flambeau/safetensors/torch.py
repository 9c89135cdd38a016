"""``safetensors.torch``: files of tensors, and of a Module whose tensors may be shared."""

from __future__ import annotations

import os
from typing import Any

from flambeau.runtime.tensor import Tensor

from . import load, load_file, safe_open, save, save_file


def save_model(model: Any, filename: str | os.PathLike, metadata: dict[str, str] | None = None,
               force_contiguous: bool = True) -> None:
    """Write a Module's ``state_dict``; of tensors that share memory one is written, and the metadata tells the others."""
    state = model.state_dict()
    kept, metadata = _without_shared(state), dict(metadata or {})
    for name in state:
        if name not in kept:
            metadata[name] = next(k for k in kept if state[k]._storage is state[name]._storage)
    tensors = {name: t.contiguous() if force_contiguous else t for name, t in kept.items()}
    save_file(tensors, filename, metadata or None)


def _without_shared(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """One tensor for each storage: the first that shows all of it. Raises ``RuntimeError`` where none does."""
    groups: dict[int, list[str]] = {}
    for name, t in state.items():
        groups.setdefault(id(t._storage), []).append(name)
    kept: dict[str, Tensor] = {}
    for names in groups.values():
        whole = [n for n in sorted(names) if len(names) == 1 or state[n]._a.nbytes == state[n]._storage.array.nbytes]
        if not whole:
            raise RuntimeError("Error while trying to find names to remove to save state dict, but found no suitable name to "
                               f"keep for saving amongst: {sorted(names)}. None is covering the entire storage.")
        kept[whole[0]] = state[whole[0]]
    return kept


def load_model(model: Any, filename: str | os.PathLike, strict: bool = True, device: Any = "cpu") -> tuple[list, list]:
    """Load into a Module what :func:`save_model` wrote; returns missing and unexpected names. Raises ``RuntimeError``."""
    state = load_file(filename, device)
    own = model.state_dict()
    same = {name: next(k for k in own if own[k]._storage is t._storage and k in state) for name, t in own.items()
            if name not in state and any(own[k]._storage is t._storage and k in state for k in own)}
    result = model.load_state_dict(state, strict=False)
    missing = [name for name in result.missing_keys if name not in same]
    unexpected = list(result.unexpected_keys)
    if strict and (missing or unexpected):
        lines = [f"Error(s) in loading state_dict for {type(model).__name__}:"]
        lines += [f"    Missing key(s) in state_dict: {', '.join(map(repr, missing))}"] if missing else []
        lines += [f"    Unexpected key(s) in state_dict: {', '.join(map(repr, unexpected))}"] if unexpected else []
        raise RuntimeError("\n".join(lines))
    return missing, unexpected


__all__ = ["load", "load_file", "load_model", "safe_open", "save", "save_file", "save_model"]

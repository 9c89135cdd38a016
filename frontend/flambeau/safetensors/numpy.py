"""``safetensors.numpy``: the same files as NumPy arrays (bfloat16 by ml_dtypes)."""

from __future__ import annotations

import os
from typing import Any

import flambeau
from flambeau import safetensors as _tensors


def _from_arrays(arrays: Any) -> dict[str, Any]:
    return {name: flambeau.as_tensor(a) for name, a in arrays.items()}


def save(tensor_dict: dict[str, Any], metadata: dict[str, str] | None = None) -> bytes:
    """The file's bytes."""
    return _tensors.save(_from_arrays(tensor_dict), metadata)


def save_file(tensor_dict: dict[str, Any], filename: str | os.PathLike, metadata: dict[str, str] | None = None) -> None:
    """Write named arrays to a file, atomically."""
    _tensors.save_file(_from_arrays(tensor_dict), filename, metadata)


def load(data: bytes) -> dict[str, Any]:
    """The arrays in a file's bytes."""
    return {name: t.numpy() for name, t in _tensors.load(data).items()}


def load_file(filename: str | os.PathLike) -> dict[str, Any]:
    """The arrays in a file."""
    return {name: t.numpy() for name, t in _tensors.load_file(filename).items()}


__all__ = ["load", "load_file", "save", "save_file"]

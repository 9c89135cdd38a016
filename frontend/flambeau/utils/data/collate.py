"""Batches from lists of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import flambeau


def default_convert(data: Any) -> Any:
    """NumPy arrays and numbers inside ``data`` as tensors; everything else as it is."""
    if isinstance(data, flambeau.Tensor):
        return data
    if isinstance(data, (np.ndarray, np.generic)):
        return data if data.dtype.kind in "SUO" else flambeau.as_tensor(data)
    return _rebuilt(data, {k: default_convert(v) for k, v in data.items()}) if isinstance(data, Mapping) else (
        _sequence(data, [default_convert(x) for x in data])
        if isinstance(data, Sequence) and not isinstance(data, (str, bytes)) else data)


def default_collate(batch: Sequence[Any]) -> Any:
    """One batch from a list of items: tensors stacked, numbers as a tensor, containers field by field.

    Raises ``TypeError`` for items that cannot be batched, ``RuntimeError`` for containers of unequal length.
    """
    first = batch[0]
    if isinstance(first, flambeau.Tensor):
        return flambeau.stack(list(batch), 0)
    if isinstance(first, np.ndarray) or (isinstance(first, np.generic) and not isinstance(first, (str, bytes))):
        if first.dtype.kind in "SUO":
            raise TypeError(f"default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found "
                            f"{first.dtype}")
        return flambeau.stack([flambeau.as_tensor(x) for x in batch], 0)
    if isinstance(first, float):
        return flambeau.tensor(batch, dtype=flambeau.float64)
    if isinstance(first, int):
        return flambeau.tensor(batch)
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return _rebuilt(first, {key: default_collate([item[key] for item in batch]) for key in first})
    if isinstance(first, Sequence):
        if any(len(item) != len(first) for item in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        columns = [default_collate(column) for column in zip(*batch)]
        return columns if type(first) is tuple else _sequence(first, columns)
    raise TypeError("default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found "
                    f"{type(first)}")


def _rebuilt(like: Mapping, items: dict) -> Any:
    try:
        return type(like)(items)  # type: ignore[call-arg]
    except TypeError:
        return items


def _sequence(like: Sequence, items: list) -> Any:
    if hasattr(like, "_fields"):
        return type(like)(*items)
    try:
        return type(like)(items)  # type: ignore[call-arg]
    except TypeError:
        return items

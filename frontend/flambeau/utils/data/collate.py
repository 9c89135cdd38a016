"""Batches from lists of items."""

from __future__ import annotations

import collections.abc as abc
import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import flambeau

_WRONG = "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}"
#: type, or tuple of types -> function of (list of items, collate_fn_map=...)
CollateMap = dict[Any, Callable[..., Any]]


def default_convert(data: Any) -> Any:
    """NumPy arrays and numbers inside ``data`` as tensors; everything else as it is."""
    if isinstance(data, flambeau.Tensor):
        return data
    if isinstance(data, (np.ndarray, np.generic)):
        return data if data.dtype.kind in "SUO" else flambeau.as_tensor(data)
    if isinstance(data, Mapping):
        return _rebuilt(data, {k: default_convert(v) for k, v in data.items()})
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _sequence(data, [default_convert(x) for x in data])
    return data


def collate(batch: Sequence[Any], *, collate_fn_map: CollateMap | None = None) -> Any:
    """One batch by the functions of ``collate_fn_map``; containers field by field.

    Raises ``TypeError`` for items that cannot be batched, ``RuntimeError`` for containers of unequal length.
    """
    first, table = batch[0], collate_fn_map or {}
    rule = table.get(type(first)) or next((f for kind, f in table.items() if isinstance(first, kind)), None)
    if rule is not None:
        return rule(batch, collate_fn_map=table)
    if isinstance(first, Mapping):
        return _rebuilt(first, {key: collate([item[key] for item in batch], collate_fn_map=table) for key in first})
    if isinstance(first, Sequence) and not isinstance(first, (str, bytes)):
        if any(len(item) != len(first) for item in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        columns = [collate(column, collate_fn_map=table) for column in zip(*batch)]
        return columns if type(first) is tuple else _sequence(first, columns)
    raise TypeError(_WRONG.format(type(first)))


def default_collate(batch: Sequence[Any]) -> Any:
    """One batch from a list of items: tensors stacked, numbers as a tensor, containers field by field.

    Raises ``TypeError`` for items that cannot be batched, ``RuntimeError`` for containers of unequal length.
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)


def _of_tensors(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    return flambeau.stack(list(batch), 0)


def _of_arrays(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    if batch[0].dtype.kind in "SUO":
        raise TypeError(_WRONG.format(batch[0].dtype))
    return flambeau.stack([flambeau.as_tensor(x) for x in batch], 0)


def _of_floats(batch: Sequence[float], *, collate_fn_map: Any = None) -> Any:
    return flambeau.tensor(batch, dtype=flambeau.float64)


def _of_ints(batch: Sequence[int], *, collate_fn_map: Any = None) -> Any:
    return flambeau.tensor(batch)


def _as_they_are(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    return batch


#: what :func:`default_collate` does with items of a type; programs may add to it
default_collate_fn_map: CollateMap = {
    flambeau.Tensor: _of_tensors, np.ndarray: _of_arrays, (np.bool_, np.number, np.object_): _of_arrays, float: _of_floats,
    int: _of_ints, str: _as_they_are, bytes: _as_they_are}


def _rebuilt(like: Mapping, items: dict) -> Any:
    """A mapping of the same kind, which keeps what it knows besides its items (a default factory)."""
    try:
        if isinstance(like, abc.MutableMapping):
            found = copy.copy(like)
            found.update(items)
            return found
        return type(like)(items)  # type: ignore[call-arg]
    except TypeError:
        return items


def _sequence(like: Sequence, items: list) -> Any:
    if hasattr(like, "_fields"):
        return type(like)(*items)
    try:
        if isinstance(like, abc.MutableSequence):
            found = copy.copy(like)
            for i, item in enumerate(items):
                found[i] = item
            return found
        return type(like)(items)  # type: ignore[call-arg]
    except TypeError:
        return items

"""Worker processes of a loader: they fetch batches that the main process asks for by number."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import flambeau
from flambeau.ir.tree import tree_map


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker knows of itself."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """This process's :class:`WorkerInfo`; None in the main process."""
    return _info


class WorkerFailure:
    """An exception on its way from a worker to the main process."""

    def __init__(self, error: BaseException, where: str) -> None:
        self.kind, self.where = type(error), where
        self.text = "".join(traceback.format_exception(type(error), error, error.__traceback__))

    def reraise(self) -> None:
        message = f"Caught {self.kind.__name__} {self.where}.\nOriginal {self.text}"
        try:
            error = self.kind(message)
        except TypeError:
            error = RuntimeError(message)
        raise error


class End:
    """What a worker sends when its stream has ended."""


def fetch(dataset: Any, keys: Any, collate: Callable[[Any], Any], batched: bool) -> Any:
    """The batch of ``keys`` (or the single item, without batching)."""
    if not batched:
        return collate(dataset[keys])
    many = getattr(dataset, "__getitems__", None)
    return collate(many(keys) if many is not None else [dataset[k] for k in keys])


def fetch_next(stream: Any, count: int | None, collate: Callable[[Any], Any], drop_last: bool) -> Any:
    """The next batch of an iterable dataset, or :class:`End`."""
    if count is None:
        for item in stream:
            return collate(item)
        return End()
    items = []
    for item in stream:
        items.append(item)
        if len(items) == count:
            break
    if not items or (drop_last and len(items) < count):
        return End()
    return collate(items)


def to_wire(data: Any) -> Any:
    """Tensors as arrays tagged for the trip between processes."""
    return tree_map(lambda x: _Array(x.detach().numpy()) if isinstance(x, flambeau.Tensor) else x, data)


def from_wire(data: Any) -> Any:
    """The reverse of :func:`to_wire`."""
    return tree_map(lambda x: flambeau.from_numpy(x.array) if isinstance(x, _Array) else x, data)


@dataclass
class _Array:
    array: np.ndarray


def work(dataset: Any, number: int, workers: int, seed: int, tasks: Any, results: Any, collate: Callable[[Any], Any],
         batched: bool, iterable: bool, batch_size: int | None, drop_last: bool, init: Callable[[int], None] | None) -> None:
    """The life of a worker: (task number, keys) in, (task number, worker, batch) out, until None comes in."""
    global _info
    random.seed(seed)
    np.random.seed(seed % 2**32)
    flambeau.manual_seed(seed)
    _info = WorkerInfo(number, workers, seed, dataset)
    failure, stream = None, None
    try:
        if init is not None:
            init(number)
    except Exception as error:  # noqa: BLE001 - handed on to the main process
        failure = WorkerFailure(error, f"in DataLoader worker process {number}")
    while (task := tasks.get()) is not None:
        task_number, keys = task
        try:
            if failure is not None:
                batch, failure = failure, None
            elif keys == "restart":
                stream = iter(dataset) if iterable else None
                continue
            elif iterable:
                stream = iter(dataset) if stream is None else stream
                batch = to_wire(fetch_next(stream, batch_size, collate, drop_last))
            else:
                batch = to_wire(fetch(dataset, keys, collate, batched))
        except Exception as error:  # noqa: BLE001 - handed on to the main process
            batch = WorkerFailure(error, f"in DataLoader worker process {number}")
        results.put((task_number, number, batch))

"""Worker processes of a loader: they fetch batches that the main process asks for by number.

Large arrays do not pass through the queue: the worker writes them into memory of its own (a memfd), says where, and the
main process maps that memory. The worker keeps it open for as many tasks as can be on the way.
"""

from __future__ import annotations

import collections
import mmap
import os
import pickle
import queue
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import flambeau
from flambeau.ir.tree import tree_map

SHARED_FROM = 1 << 16  # bytes in a batch from which it is worth a mapping
_ALIGNMENT = 64


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
        """Raise an error of the same type, with the worker's traceback as its text."""
        message = f"Caught {self.kind.__name__} {self.where}.\nOriginal {self.text}"
        if issubclass(self.kind, KeyError):
            message = _Shown(message)
        try:
            error = self.kind(message)
        except Exception:  # an exception that wants other arguments
            raise RuntimeError(message) from None
        raise error


class _Shown(str):
    """A message that a KeyError shows as it is, with its line breaks."""

    def __repr__(self) -> str:
        return str(self)


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


# ---- batches on their way -------------------------------------------------------------------------------------------


@dataclass
class _Array:
    """An array or tensor inside a message: its own data, or where it begins in the message's shared memory."""

    tensor: bool
    shape: tuple[int, ...]
    dtype: Any
    data: Any  # an array, or the position


@dataclass
class _Message:
    content: Any
    place: str = ""  # the shared memory's path
    size: int = 0


def pack(data: Any, share: bool) -> tuple[bytes, int | None]:
    """``data`` as bytes, and the shared memory that belongs to it (a file descriptor to be kept open), if any."""
    arrays: list[np.ndarray] = []
    marked = tree_map(lambda x: _marked(x, arrays), data)
    sizes = [a.nbytes for a in arrays]
    if not share or sum(sizes) < SHARED_FROM:
        return pickle.dumps(_Message(tree_map(lambda x: _filled(x, arrays), marked)), 5), None
    at, positions = 0, []
    for size in sizes:
        positions.append(at)
        at += -(-size // _ALIGNMENT) * _ALIGNMENT
    fd = os.memfd_create("flambeau-batch", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, at)
        with mmap.mmap(fd, at) as memory:
            for array, position in zip(arrays, positions):
                np.ndarray(array.shape, array.dtype, memory, position)[...] = array
        message = _Message(tree_map(lambda x: _placed(x, positions), marked), f"/proc/{os.getpid()}/fd/{fd}", at)
        return pickle.dumps(message, 5), fd
    except BaseException:
        os.close(fd)
        raise


def _marked(x: Any, arrays: list[np.ndarray]) -> Any:
    tensor = isinstance(x, flambeau.Tensor)
    if tensor and x.device.type != "cpu":
        return x
    if not tensor and not (type(x) is np.ndarray and not x.dtype.hasobject):
        return x
    array = x.detach().numpy() if tensor else x
    arrays.append(array)
    return _Array(tensor, array.shape, array.dtype, len(arrays) - 1)


def _filled(x: Any, arrays: list[np.ndarray]) -> Any:
    return _Array(x.tensor, x.shape, x.dtype, arrays[x.data]) if isinstance(x, _Array) else x


def _placed(x: Any, positions: list[int]) -> Any:
    return _Array(x.tensor, x.shape, x.dtype, positions[x.data]) if isinstance(x, _Array) else x


def unpack(message: bytes) -> Any:
    """The reverse of :func:`pack`; arrays in shared memory are mapped, not copied."""
    found: _Message = pickle.loads(message)
    memory: Any = None
    if found.place:
        fd = os.open(found.place, os.O_RDWR | os.O_CLOEXEC)
        try:
            memory = mmap.mmap(fd, found.size)
        finally:
            os.close(fd)

    def brought(x: Any) -> Any:
        if not isinstance(x, _Array):
            return x
        array = x.data if memory is None else np.ndarray(x.shape, x.dtype, memory, x.data)
        if not x.tensor:
            return array
        return flambeau.from_numpy(array if array.flags.writeable else array.copy())

    return tree_map(brought, found.content)


# ---- the process ----------------------------------------------------------------------------------------------------


@dataclass
class Orders:
    """What a worker is told when it starts."""

    dataset: Any
    number: int
    workers: int
    base_seed: int
    collate: Callable[[Any], Any]
    batched: bool
    iterable: bool
    batch_size: int | None
    drop_last: bool
    init: Callable[[int], None] | None
    share: bool
    kept: int  # how many batches' shared memory is kept open

    @property
    def where(self) -> str:
        return f"in DataLoader worker process {self.number}"


def numpy_seed(base_seed: int, number: int) -> np.ndarray:
    """The seed of NumPy's old generator in a worker: words mixed from the base seed and the worker's number."""
    return np.random.SeedSequence([number, base_seed & 0xFFFFFFFF, base_seed >> 32, 0]).generate_state(4)


def work(orders: Orders, tasks: Any, results: Any) -> None:
    """The life of a worker: (task number, keys) in, (task number, worker, message) out, until None comes in."""
    global _info
    seed = orders.base_seed + orders.number
    random.seed(seed)
    np.random.seed(numpy_seed(orders.base_seed, orders.number))
    flambeau.manual_seed(seed)
    flambeau.set_num_threads(1)
    _info = WorkerInfo(orders.number, orders.workers, seed, orders.dataset)
    failure = stream = None
    try:
        if orders.init is not None:
            orders.init(orders.number)
    except Exception as error:  # noqa: BLE001 - handed on to the main process
        failure = WorkerFailure(error, orders.where)
    open_memory: collections.deque[int | None] = collections.deque()
    parent = os.getppid()
    while (task := _next_task(tasks, parent)) is not None:
        task_number, keys = task
        if keys == "restart":
            stream = None
            continue
        if failure is None and orders.iterable and stream is None:
            try:
                stream = iter(orders.dataset)
            except Exception as error:  # noqa: BLE001 - handed on to the main process
                failure = WorkerFailure(error, orders.where)
        batch: Any = failure
        failure = None
        message, fd = _answer(orders, stream, keys) if batch is None else pack(batch, False)
        results.put((task_number, orders.number, message))
        open_memory.append(fd)
        if len(open_memory) > orders.kept and (done := open_memory.popleft()) is not None:
            os.close(done)


def _next_task(tasks: Any, parent: int) -> Any:
    """The next task; None also when the main process is gone."""
    while True:
        try:
            return tasks.get(timeout=5)
        except queue.Empty:
            if os.getppid() != parent:
                return None


def _answer(orders: Orders, stream: Any, keys: Any) -> tuple[bytes, int | None]:
    try:
        if orders.iterable:
            batch = fetch_next(stream, orders.batch_size, orders.collate, orders.drop_last)
        else:
            batch = fetch(orders.dataset, keys, orders.collate, orders.batched)
        return pack(batch, orders.share)
    except Exception as error:  # noqa: BLE001 - handed on to the main process
        return pack(WorkerFailure(error, orders.where), False)

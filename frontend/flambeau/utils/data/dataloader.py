"""The loader: batches of a dataset in a sampler's order, fetched here or by worker processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.context
import os
import queue
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .collate import default_collate, default_convert
from .dataset import Dataset, IterableDataset
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, fresh_seed
from .worker import End, Orders, WorkerFailure, fetch, fetch_next, unpack, work


class _Endless(Sampler[None]):
    """Keys for an iterable dataset: there are none, and always one more."""

    def __iter__(self) -> Iterator[None]:
        while True:
            yield None


class DataLoader:
    """Iterate over batches of ``dataset`` (PyTorch: ``torch.utils.data.DataLoader``).

    With ``num_workers`` > 0 worker processes fetch ahead and batches still come in the sampler's order (with ``in_order``
    False as they are ready). Each worker is seeded with a base seed, drawn from ``generator``, plus its number. Large
    arrays come from workers through shared memory. ``pin_memory`` has no effect.
    """

    def __init__(self, dataset: Dataset, batch_size: int | None = 1, shuffle: bool | None = None,
                 sampler: Iterable | None = None, batch_sampler: Iterable | None = None, num_workers: int = 0,
                 collate_fn: Callable[[Any], Any] | None = None, pin_memory: bool = False, drop_last: bool = False,
                 timeout: float = 0, worker_init_fn: Callable[[int], None] | None = None, multiprocessing_context: Any = None,
                 generator: Any = None, *, prefetch_factor: int | None = None, persistent_workers: bool = False,
                 pin_memory_device: str = "", in_order: bool = True) -> None:
        if num_workers < 0:
            raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
        if timeout < 0:
            raise ValueError("timeout option should be non-negative")
        if num_workers == 0 and prefetch_factor is not None:
            raise ValueError("prefetch_factor option could only be specified in multiprocessing.let num_workers > 0 to enable "
                             "multiprocessing, otherwise set prefetch_factor to None.")
        if prefetch_factor is not None and prefetch_factor < 0:
            raise ValueError("prefetch_factor option should be non-negative")
        if persistent_workers and num_workers == 0:
            raise ValueError("persistent_workers option needs num_workers > 0")
        self.dataset, self.num_workers, self.pin_memory, self.timeout = dataset, num_workers, pin_memory, timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = _context(multiprocessing_context, num_workers)
        self.prefetch_factor = 2 if prefetch_factor is None and num_workers else prefetch_factor
        self.persistent_workers, self.pin_memory_device, self.in_order = persistent_workers, pin_memory_device, in_order
        self.generator = generator
        self._iterable = isinstance(dataset, IterableDataset)
        self._choose_samplers(batch_size, shuffle, sampler, batch_sampler, drop_last)
        self.collate_fn = collate_fn or (default_collate if self.batched else default_convert)
        self._iterator: _Workers | None = None
        self._ready = True

    _ready = False
    _FIXED = frozenset({"batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers"})

    def __setattr__(self, name: str, value: Any) -> None:
        if self._ready and name in self._FIXED:
            raise ValueError(f"{name} attribute should not be set after {type(self).__name__} is initialized")
        super().__setattr__(name, value)

    def _choose_samplers(self, batch_size: int | None, shuffle: bool | None, sampler: Any, batch_sampler: Any,
                         drop_last: bool) -> None:
        if self._iterable:
            if shuffle:
                raise ValueError(f"DataLoader with IterableDataset: expected unspecified shuffle option, but got {shuffle=}")
            if sampler is not None:
                raise ValueError(f"DataLoader with IterableDataset: expected unspecified sampler option, but got {sampler=}")
            if batch_sampler is not None:
                raise ValueError("DataLoader with IterableDataset: expected unspecified batch_sampler option, but got "
                                 f"{batch_sampler=}")
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError("batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last")
            batch_size, drop_last = None, False
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")
        if sampler is None:
            if self._iterable:
                sampler = _Endless()
            elif shuffle:
                sampler = RandomSampler(self.dataset, generator=self.generator)  # type: ignore[arg-type]
            else:
                sampler = SequentialSampler(self.dataset)  # type: ignore[arg-type]
        if batch_size is not None and batch_sampler is None and not self._iterable:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size, self.drop_last, self.sampler, self.batch_sampler = batch_size, drop_last, sampler, batch_sampler

    @property
    def batched(self) -> bool:
        """Whether items are collated into batches."""
        return self.batch_sampler is not None or (self._iterable and self.batch_size is not None)

    def __len__(self) -> int:
        if self._iterable:
            n = self._told_length = len(self.dataset)  # type: ignore[arg-type]
            if self.batch_size is None:
                return n
            return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]

    _told_length: int | None = None  # of an iterable dataset, when somebody asked

    def __iter__(self) -> Iterator[Any]:
        if not self.num_workers:
            return _Here(self)
        if not self.persistent_workers:
            return _Workers(self)
        if self._iterator is None:
            self._iterator = _Workers(self)
        else:
            self._iterator.restart()
        return self._iterator

    def _keys(self) -> Iterator[Any]:
        return iter(self.sampler if self.batch_sampler is None else self.batch_sampler)


def _context(context: Any, num_workers: int) -> Any:
    """The ``multiprocessing`` context that is asked for by name or itself. Raises ``ValueError`` or ``TypeError``."""
    if context is None:
        return None
    if not num_workers:
        raise ValueError("multiprocessing_context can only be used with multi-process loading (num_workers > 0), but got "
                         f"{num_workers=}")
    if isinstance(context, str):
        names = multiprocessing.get_all_start_methods()
        if context not in names:
            raise ValueError(f"multiprocessing_context option should specify a valid start method in {names!r}, but got "
                             f"multiprocessing_context={context!r}")
        return multiprocessing.get_context(context)
    if not isinstance(context, multiprocessing.context.BaseContext):
        raise TypeError("multiprocessing_context option should be a valid context object or a string specifying the start "
                        f"method, but got multiprocessing_context={context}")
    return context


class _Pass:
    """One pass over the data. The base seed is drawn before the sampler draws, as PyTorch does."""

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader
        self.base_seed = fresh_seed(loader.generator)
        self.yielded = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __len__(self) -> int:
        return len(self.loader)

    def __next__(self) -> Any:
        batch = self._next()
        self.yielded += 1
        told = self.loader._told_length
        if told is not None and self.yielded > len(self.loader):
            warnings.warn(f"Length of IterableDataset {self.loader.dataset} was reported to be {told}(when accessing "
                          f"len(dataloader)), but {self.yielded} samples have been fetched. "
                          + ("For multiprocessing data-loading, this could be caused by not properly configuring the "
                             "IterableDataset replica at each worker." if self.loader.num_workers else ""), stacklevel=2)
        return batch

    def _next(self) -> Any:
        raise NotImplementedError

    def __getstate__(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} cannot be pickled: it is a pass that has begun")


class _Here(_Pass):
    """A pass in this process."""

    def __init__(self, loader: DataLoader) -> None:
        super().__init__(loader)
        self.keys = loader._keys()
        self.stream = iter(loader.dataset) if loader._iterable else None  # type: ignore[call-overload]
        self.ended = False

    def _next(self) -> Any:
        loader = self.loader
        if not loader._iterable:
            return fetch(loader.dataset, next(self.keys), loader.collate_fn, loader.batched)
        batch = End() if self.ended else fetch_next(self.stream, loader.batch_size, loader.collate_fn, loader.drop_last)
        if isinstance(batch, End):
            self.ended = True
            raise StopIteration
        return batch


class _Workers(_Pass):
    """Passes by worker processes; tasks are numbered on from pass to pass, so what an abandoned pass left is known."""

    def __init__(self, loader: DataLoader) -> None:
        super().__init__(loader)
        context = loader.multiprocessing_context or multiprocessing.get_context()
        ahead = (loader.prefetch_factor or 2) * loader.num_workers
        self.results = context.Queue()
        self.tasks = [context.Queue() for _ in range(loader.num_workers)]
        self.processes: list[Any] = []
        self.sent = 0
        for number, tasks in enumerate(self.tasks):
            orders = Orders(loader.dataset, number, loader.num_workers, self.base_seed, loader.collate_fn, loader.batched,
                            loader._iterable, loader.batch_size, loader.drop_last, loader.worker_init_fn, _CAN_SHARE, ahead + 1)
            process = context.Process(target=work, daemon=True, args=(orders, tasks, self.results))
            with warnings.catch_warnings():  # Python warns of fork beside threads; ours are stopped in the child
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            self.processes.append(process)
        self._begin()

    def restart(self) -> None:
        """Another pass with the same workers."""
        for tasks in self.tasks:
            tasks.put((-1, "restart"))
        self.yielded = 0
        self._begin()

    def _begin(self) -> None:
        loader = self.loader
        self.keys = loader._keys()
        self.alive = set(range(loader.num_workers))  # workers whose stream goes on
        self.first = self.wanted = self.sent
        self.ready: dict[int, bytes] = {}
        self.turn = self.pending = 0
        for _ in range((loader.prefetch_factor or 2) * loader.num_workers):
            if not self._send():
                break

    def _send(self) -> bool:
        """Give the next task to the next worker; False when there is none."""
        if not self.alive:
            return False
        try:
            keys = next(self.keys)
        except StopIteration:
            return False
        while self.turn % len(self.tasks) not in self.alive:
            self.turn += 1
        self.tasks[self.turn % len(self.tasks)].put((self.sent, keys))
        self.turn += 1
        self.sent += 1
        self.pending += 1
        return True

    def _next(self) -> Any:
        while self.pending or self.ready:
            while self.pending and not (self.wanted in self.ready if self.loader.in_order else self.ready):
                self._take(*self._receive())
            number = self.wanted if self.loader.in_order else next(iter(self.ready))
            if number not in self.ready:  # what was wanted ended a stream
                self.wanted += 1
                continue
            batch = self.ready.pop(number)
            self.wanted += 1
            self._send()
            if isinstance(batch, WorkerFailure):
                batch.reraise()
            if not isinstance(batch, End):
                return batch
        if not self.loader.persistent_workers:
            self.stop()
        raise StopIteration

    def _take(self, task: int, worker: int, message: bytes) -> None:
        if task < self.first:  # of a pass that was abandoned
            return
        self.pending -= 1
        batch = self.ready[task] = unpack(message)
        if isinstance(batch, End):
            self.alive.discard(worker)

    def _receive(self) -> Any:
        timeout = self.loader.timeout
        until = time.monotonic() + timeout if timeout else None
        while True:
            try:
                left = 0.5 if until is None else min(0.5, max(until - time.monotonic(), 0.001))
                return self.results.get(timeout=left)
            except queue.Empty:
                pass
            dead = [p.pid for p in self.processes if not p.is_alive()]
            if dead:
                raise RuntimeError(f"DataLoader worker (pid(s) {', '.join(map(str, dead))}) exited unexpectedly")
            if until is not None and time.monotonic() >= until:
                raise RuntimeError(f"DataLoader timed out after {timeout} seconds")

    def stop(self) -> None:
        """End the processes."""
        for tasks in self.tasks:
            with contextlib.suppress(OSError, ValueError):
                tasks.put(None)
        for process in self.processes:
            process.join(timeout=2)
            if process.is_alive():
                process.terminate()
        self.processes = []

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.stop()


_CAN_SHARE = hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd")

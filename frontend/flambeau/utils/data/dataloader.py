"""The loader: batches of a dataset in a sampler's order, fetched here or by worker processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .collate import default_collate, default_convert
from .dataset import Dataset, IterableDataset
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, fresh_seed
from .worker import End, WorkerFailure, fetch, fetch_next, from_wire, work


class _Endless(Sampler[None]):
    """Keys for an iterable dataset: there are none, and always one more."""

    def __iter__(self) -> Iterator[None]:
        while True:
            yield None


class DataLoader:
    """Iterate over batches of ``dataset`` (PyTorch: ``torch.utils.data.DataLoader``).

    With ``num_workers`` > 0 worker processes fetch ahead and batches still come in the sampler's order. Each worker is
    seeded with a base seed, drawn from ``generator``, plus its number. ``pin_memory`` has no effect on CPU tensors.
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
            raise ValueError("prefetch_factor option could only be specified in multiprocessing. let num_workers > 0 to enable "
                             "multiprocessing, otherwise set prefetch_factor to None.")
        if persistent_workers and num_workers == 0:
            raise ValueError("persistent_workers option needs num_workers > 0")
        self.dataset, self.num_workers, self.pin_memory, self.timeout = dataset, num_workers, pin_memory, timeout
        self.worker_init_fn, self.multiprocessing_context = worker_init_fn, multiprocessing_context
        self.prefetch_factor = 2 if prefetch_factor is None and num_workers else prefetch_factor
        self.persistent_workers, self.pin_memory_device, self.in_order = persistent_workers, pin_memory_device, in_order
        self.generator = generator
        self._iterable = isinstance(dataset, IterableDataset)
        self._choose_samplers(batch_size, shuffle, sampler, batch_sampler, drop_last)
        self.collate_fn = collate_fn or (default_collate if self.batched else default_convert)
        self._workers: _Workers | None = None

    def _choose_samplers(self, batch_size: int | None, shuffle: bool | None, sampler: Any, batch_sampler: Any,
                         drop_last: bool) -> None:
        if self._iterable:
            if shuffle:
                raise ValueError(f"DataLoader with IterableDataset: expected unspecified shuffle option, but got {shuffle=}")
            if sampler is not None or batch_sampler is not None:
                raise ValueError("DataLoader with IterableDataset: expected unspecified sampler and batch_sampler options")
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
            n = len(self.dataset)  # type: ignore[arg-type]
            if self.batch_size is None:
                return n
            return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        seed = fresh_seed(self.generator)
        if not self.num_workers:
            return self._here()
        if self.persistent_workers:
            if self._workers is None:
                self._workers = _Workers(self, seed)
            return self._workers.batches()
        return self._with_fresh_workers(seed)

    def _keys(self) -> Iterator[Any]:
        return iter(self.sampler if self.batch_sampler is None else self.batch_sampler)

    def _here(self) -> Iterator[Any]:
        if not self._iterable:
            for keys in self._keys():
                yield fetch(self.dataset, keys, self.collate_fn, self.batched)
            return
        stream = iter(self.dataset)  # type: ignore[call-overload]
        while not isinstance(batch := fetch_next(stream, self.batch_size, self.collate_fn, self.drop_last), End):
            yield batch

    def _with_fresh_workers(self, seed: int) -> Iterator[Any]:
        workers = _Workers(self, seed)
        try:
            yield from workers.batches()
        finally:
            workers.stop()


class _Workers:
    """The worker processes of one loader."""

    def __init__(self, loader: DataLoader, seed: int) -> None:
        self.loader = loader
        context = loader.multiprocessing_context
        if context is None or isinstance(context, str):
            context = multiprocessing.get_context(context)
        self.results = context.Queue()
        self.next_task = 0  # numbers run on from pass to pass, so that what an abandoned pass left is recognised
        self.tasks = [context.Queue() for _ in range(loader.num_workers)]
        self.processes = []
        for number, tasks in enumerate(self.tasks):
            process = context.Process(target=work, daemon=True, args=(
                loader.dataset, number, loader.num_workers, seed + number, tasks, self.results, loader.collate_fn,
                loader.batched, loader._iterable, loader.batch_size, loader.drop_last, loader.worker_init_fn))
            with warnings.catch_warnings():  # Python warns of fork beside threads; ours are stopped in the child
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            self.processes.append(process)

    def batches(self) -> Iterator[Any]:
        """One pass over the data, in order."""
        loader = self.loader
        for tasks in self.tasks:
            tasks.put((-1, "restart"))
        first = self.next_task
        keys = enumerate(loader._keys(), first)
        alive = set(range(loader.num_workers))  # workers whose stream goes on
        ready: dict[int, Any] = {}
        pending, wanted, turn = 0, first, 0

        def send() -> bool:
            nonlocal pending, turn
            if not alive:
                return False
            task = next(keys, None)
            if task is None:
                return False
            while turn % loader.num_workers not in alive:
                turn += 1
            number = turn % loader.num_workers
            turn += 1
            self.tasks[number].put(task)
            self.next_task = task[0] + 1
            pending += 1
            return True

        for _ in range((loader.prefetch_factor or 2) * loader.num_workers):
            if not send():
                break
        while pending or wanted in ready:
            while wanted not in ready:
                task, number, batch = self._receive()
                if task < first:
                    continue
                pending -= 1
                ready[task] = batch
                if isinstance(batch, End):
                    alive.discard(number)
            batch = ready.pop(wanted)
            wanted += 1
            send()
            if isinstance(batch, WorkerFailure):
                self.stop()
                batch.reraise()
            if not isinstance(batch, End):
                yield from_wire(batch)

    def _receive(self) -> Any:
        waited = 0.0
        while True:
            try:
                return self.results.get(timeout=0.5)
            except queue.Empty:
                waited += 0.5
            if self.loader.timeout and waited >= self.loader.timeout:
                raise RuntimeError(f"DataLoader timed out after {self.loader.timeout} seconds")
            dead = [p.pid for p in self.processes if not p.is_alive()]
            if dead:
                raise RuntimeError(f"DataLoader worker (pid(s) {', '.join(map(str, dead))}) exited unexpectedly")

    def stop(self) -> None:
        """End the processes."""
        for tasks in self.tasks:
            with contextlib.suppress(OSError, ValueError):
                tasks.put(None)
        for process in self.processes:
            process.join(timeout=2)
            if process.is_alive():
                process.terminate()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.stop()

"""Python's ``multiprocessing`` under PyTorch's name (``torch.multiprocessing``): tensors are sent as shared memory.

What goes through a queue or into a process's arguments is moved to shared memory first, so that both processes see the
same numbers; tensors with views, and those that cannot be shared, are copied. A process that sends a tensor must live until the
tensor has been received, as with PyTorch.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import signal
import traceback
from collections.abc import Callable
from multiprocessing import *  # noqa: F403
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np

from flambeau.nn.parameter import Parameter
from flambeau.runtime import shared
from flambeau.runtime.tensor import Tensor


def set_sharing_strategy(new_strategy: str) -> None:
    """Accepted: there is one strategy, file descriptors. Raises ``AssertionError`` for an unknown name."""
    if new_strategy not in get_all_sharing_strategies():
        raise AssertionError(f"unknown sharing strategy {new_strategy!r}: there are {sorted(get_all_sharing_strategies())}")


def get_sharing_strategy() -> str:
    """How memory is shared."""
    return "file_descriptor"


def get_all_sharing_strategies() -> set[str]:
    """The names that :func:`set_sharing_strategy` accepts."""
    return {"file_descriptor", "file_system"}


# ---- tensors on their way -------------------------------------------------------------------------------------------


def _reduced(t: Tensor) -> tuple:
    if t.requires_grad and not t.is_leaf:
        raise RuntimeError("Cowardly refusing to serialize non-leaf tensor which requires_grad, since autograd does not support "
                           "crossing process boundaries.  If you just want to transfer the data, call detach() on the tensor "
                           "before serializing (e.g., putting it on the queue).")
    try:
        t.share_memory_()
    except (RuntimeError, OSError):
        return t.__reduce_ex__(5)
    if not isinstance(t._a, np.ndarray):
        return t.__reduce_ex__(5)
    start = t.storage_offset() * t.element_size()
    return _rebuilt, (type(t), shared.send(t._storage), tuple(t.shape), t._a.dtype, t._a.strides, start, t.requires_grad)


def _rebuilt(kind: type[Tensor], sent: tuple, shape: tuple, dtype: Any, strides: tuple, start: int, grad: bool) -> Tensor:
    storage = shared.receive(*sent)
    memory = storage.shared.memory
    plain = Tensor(np.ndarray(shape, dtype, memory, start, strides), storage)
    return Parameter(plain, grad) if issubclass(kind, Parameter) else plain.requires_grad_(grad)


ForkingPickler.register(Tensor, _reduced)
ForkingPickler.register(Parameter, _reduced)


# ---- processes ------------------------------------------------------------------------------------------------------


class ProcessException(Exception):
    """A process of :func:`spawn` failed."""

    def __init__(self, msg: str, error_index: int, pid: int) -> None:
        super().__init__(msg)
        self.msg, self.error_index, self.pid = msg, error_index, pid


class ProcessRaisedException(ProcessException):
    """It raised an error, whose traceback is the text."""


class ProcessExitedException(ProcessException):
    """It ended with an exit code or by a signal."""

    def __init__(self, msg: str, error_index: int, error_pid: int, exit_code: int, signal_name: str | None = None) -> None:
        super().__init__(msg, error_index, error_pid)
        self.exit_code, self.signal_name = exit_code, signal_name


def _run(fn: Callable[..., Any], number: int, args: tuple, errors: Any) -> None:
    try:
        fn(number, *args)
    except KeyboardInterrupt:
        pass
    except Exception:
        errors.put(traceback.format_exc())
        errors.close()
        errors.join_thread()  # the text is on its way before the process ends
        raise SystemExit(1) from None


class ProcessContext:
    """The processes of :func:`spawn`."""

    def __init__(self, processes: list[Any], errors: list[Any]) -> None:
        self.processes, self.error_queues = processes, errors

    def pids(self) -> list[int]:
        """The processes' ids."""
        return [int(p.pid) for p in self.processes]

    def join(self, timeout: float | None = None) -> bool:
        """Wait until all have ended (True), or one has failed: then the others are ended, and its error is raised."""
        sentinels = {p.sentinel: i for i, p in enumerate(self.processes) if p.exitcode is None}
        if sentinels:
            for ended in multiprocessing.connection.wait(sentinels, timeout):
                self.processes[sentinels[ended]].join()  # type: ignore[index]
        failed = next((i for i, p in enumerate(self.processes) if p.exitcode not in (None, 0)), None)
        if failed is None:
            return all(p.exitcode == 0 for p in self.processes)
        for p in self.processes:
            if p.is_alive():
                p.terminate()
            p.join()
        raise self._error(failed)

    def _error(self, number: int) -> ProcessException:
        process = self.processes[number]
        if not self.error_queues[number].empty():
            text = self.error_queues[number].get()
            told = f"\n\n-- Process {number} terminated with the following error:\n{text}"
            return ProcessRaisedException(told, number, process.pid)
        code = process.exitcode
        if code < 0:
            name = signal.Signals(-code).name
            return ProcessExitedException(f"process {number} terminated with signal {name}", number, process.pid, code, name)
        return ProcessExitedException(f"process {number} terminated with exit code {code}", number, process.pid, code)


SpawnContext = ProcessContext


def start_processes(fn: Callable[..., Any], args: tuple = (), nprocs: int = 1, join: bool = True, daemon: bool = False,
                    start_method: str = "spawn") -> ProcessContext | None:
    """Run ``fn(i, *args)`` in ``nprocs`` processes; with ``join`` wait for them, else return what to wait with.

    Raises :class:`ProcessRaisedException` or :class:`ProcessExitedException` for the first that fails.
    """
    context: Any = multiprocessing.get_context(start_method)
    errors = [context.Queue() for _ in range(nprocs)]
    processes = [context.Process(target=_run, args=(fn, i, args, errors[i]), daemon=daemon) for i in range(nprocs)]
    for p in processes:
        p.start()
    found = ProcessContext(processes, errors)
    if not join:
        return found
    while not found.join():
        pass
    return None


def spawn(fn: Callable[..., Any], args: tuple = (), nprocs: int = 1, join: bool = True, daemon: bool = False,
          start_method: str = "spawn") -> ProcessContext | None:
    """:func:`start_processes` by the "spawn" method."""
    return start_processes(fn, args, nprocs, join, daemon, start_method)

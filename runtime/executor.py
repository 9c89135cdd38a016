"""Run a built plan: buffers in place, one call into compiled code per stretch of steps, eager kernels between them.

What a plan needs at each call is written out as one Python function, with everything constant computed beforehand: for a
small graph the call costs about two microseconds. Compiled entries take the address of a block of 64-bit words:
the addresses of the inputs, of the output buffers and of the arena, then the symbolic sizes, then what tells of a wrong
index.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np

from flambeau.ir.faults import FAULTS
from flambeau.ir.tree import tree_map

from . import native
from .autograd import GradMode
from .code import PlanCode
from .eager import dispatch
from .fast import fresh
from .memory import address, block, dense_pointer, new_array
from .storage import Storage
from .tensor import Tensor, wrap

if TYPE_CHECKING:
    from flambeau.ir.program import Artifact

Entry = Callable[[int], Any]
Runner = Callable[[Sequence[Tensor]], tuple]


class Executor:
    """A built plan as a function of eager tensors."""

    def __init__(self, artifact: Artifact) -> None:
        from .plan_code import plan_code  # noqa: PLC0415 - not needed where the code is at hand
        self._start(Path(artifact.library), tuple(artifact.needs), plan_code(artifact), None)

    @classmethod
    def of_code(cls, library: Path, needs: tuple[str, ...], code: PlanCode, compiled: CodeType) -> Executor:
        """The executor of a plan whose code is at hand, ``compiled`` being its text."""
        found = cls.__new__(cls)
        found._start(library, needs, code, compiled)
        return found

    def _start(self, path: Path, needs: tuple[str, ...], code: PlanCode, compiled: CodeType | None) -> None:
        library = native.Library(path, needs=needs)
        self.path, self.needs, self.code = path, needs, code
        self.source = code.text
        self.compiled = compiled or compile(self.source, "<plan>", "exec")
        #: What is called in order: functions of the library, and numbers of steps done by eager kernels.
        self.entries: list[Entry | int] = [e if isinstance(e, int) else library[e] for e in self.code.entries]
        self._spare: list[Runner] = []
        self._lock = threading.Lock()
        self.run = self._instance()

    def __call__(self, inputs: Sequence[Tensor]) -> tuple:
        return self.run(inputs)

    def _instance(self) -> Runner:
        """A function with a block (and small arena) of its own."""
        words = (ctypes.c_int64 * self.code.words)()
        env: dict[str, Any] = {
            "Tensor": Tensor, "fresh": fresh, "dense": dense, "new_array": new_array, "block": block,
            "words": words, "words_at": ctypes.addressof(words), "pack": struct.Struct(f"{self.code.words}q").pack_into,
            "lock": threading.Lock(), "busy": self.busy, "run_extern": run_extern, "refuse_index": refuse_index,
            "empty": np.empty, "address": ctypes.addressof, "array_address": address,
            "from_buffer": ctypes.c_char.from_buffer, "ndarray": np.ndarray, **self.code.constants}
        for i, entry in enumerate(self.entries):
            if not isinstance(entry, int):
                env[f"entry{i}"] = entry
        if self.code.arena is not None:
            arena = np.empty(self.code.arena, np.uint8)
            env["arena"] = arena
            env["arena_at"] = -(-address(arena) // 64) * 64
            env["arena_skip"] = env["arena_at"] - address(arena)
        exec(self.compiled, env)  # noqa: S102 - written by `plan_code`
        return env["run"]

    def busy(self, inputs: Sequence[Tensor]) -> tuple:
        """A call while another thread is in the first instance."""
        with self._lock:
            run = self._spare.pop() if self._spare else self._instance()
        try:
            return run(inputs)
        finally:
            with self._lock:
                self._spare.append(run)


def array_runner(artifact: Artifact) -> Runner:
    """An artifact that is a function of arrays, as a function of tensors; views of one buffer share its storage."""
    from flambeau.ir.program import Ref  # noqa: PLC0415 - plans are no part of running compiled code

    schedule, compute = artifact.plan.schedule, artifact.run
    assert compute is not None
    position = {name: i for i, name in enumerate(schedule.inputs)}
    bases = [o.buffer if isinstance(o, Ref) else o if isinstance(o, str) else None for o in schedule.outputs]

    def run(inputs: Sequence[Tensor]) -> tuple:
        found = compute([dense(t)[0] for t in inputs])
        storages: dict[str, Storage] = {name: inputs[position[name]]._storage for name in bases if name in position}
        results: list[Any] = []
        for base, value in zip(bases, found):
            if base is None:
                results.append(value)
                continue
            array = np.asarray(value)
            if base not in storages:
                storages[base] = Storage(array.base if isinstance(array.base, np.ndarray) else array)
            results.append(Tensor(array, storages[base]))
        return tuple(results)

    return run


def dense(t: Tensor) -> tuple[np.ndarray, int]:
    """A row-major array of the tensor's data (itself if it is one) and its address."""
    a, storage = t._a, t._storage
    if a is storage.array:
        at = storage.pointer if storage.pointer is not None else dense_pointer(storage)
        if at:
            return a, at
    if not a.flags.c_contiguous:
        a = np.ascontiguousarray(a)
    return a, address(a)


def refuse_index(number: int, index: int, size: int, dim: int) -> None:
    """Raise for an index that compiled code found out of range."""
    raise FAULTS[number - 1].exception(index, size, dim)


def run_extern(op: Any, args: tuple, outs: Sequence[np.ndarray | None]) -> None:
    """Compute an op by its eager kernel and put its results where the plan wants them."""
    with GradMode(False):
        found = dispatch(op, tree_map(lambda a: wrap(a) if isinstance(a, np.ndarray) else a, args))
    for result, out in zip(found if isinstance(found, tuple) else (found,), outs):
        if out is not None:
            out[...] = result._a

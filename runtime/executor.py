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
from typing import Any

import numpy as np

from flambeau.ir.faults import FAULTS
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Buffer
from flambeau.ir.op import get_op
from flambeau.ir.program import Artifact, Extern, Ref
from flambeau.ir.tree import tree_map

from . import native
from .autograd import GradMode
from .eager import dispatch
from .fast import fresh
from .memory import BIG, address, block, dense_pointer, new_array
from .storage import Storage
from .tensor import Tensor, wrap

Entry = Callable[[int], Any]
Runner = Callable[[Sequence[Tensor]], tuple]


class Executor:
    """A built plan as a function of eager tensors."""

    def __init__(self, artifact: Artifact) -> None:
        library = native.Library(Path(artifact.library), needs=artifact.needs)
        self.plan = artifact.plan
        #: What is called in order: functions of the library, and numbers of steps done by eager kernels.
        self.entries: list[Entry | int] = [e if isinstance(e, int) else library[e] for e in artifact.entries]
        self.checks = artifact.checks
        self.source = _Writer(self).text()
        self._spare: list[Runner] = []
        self._lock = threading.Lock()
        self.run = self._instance()

    def __call__(self, inputs: Sequence[Tensor]) -> tuple:
        return self.run(inputs)

    def _instance(self) -> Runner:
        """A function with a block (and small arena) of its own."""
        writer = _Writer(self)
        writer.text()
        env = writer.env
        exec(self.source, env)  # noqa: S102 - written below
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
                storages[base] = Storage(array if array.base is None else array.base)
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


class _Writer:
    """Writes the function. Sizes known only at the call stay expressions; all else is a number."""

    def __init__(self, owner: Executor) -> None:
        self.owner, self.plan = owner, owner.plan
        self.schedule = owner.plan.schedule
        self.lines: list[str] = []
        self.consts = 0
        self.inputs = list(self.schedule.inputs)
        #: Output buffers by position; positions of constants and of second views of a buffer stay unused.
        self.outputs: dict[int, str] = {s.position: n for n, s in self.plan.slots.items() if s.kind == "output"}  # type: ignore[misc]
        self.n_outputs = max(self.outputs, default=-1) + 1
        self.words = len(self.inputs) + self.n_outputs + 1 + len(self.plan.sizes) + 4 * owner.checks
        words = (ctypes.c_int64 * self.words)()
        self.arena_is_big = not isinstance(self.plan.arena, int) or self.plan.arena >= BIG
        self.env: dict[str, Any] = {
            "Tensor": Tensor, "fresh": fresh, "dense": dense, "new_array": new_array, "block": block,
            "words": words, "words_at": ctypes.addressof(words), "pack": struct.Struct(f"{self.words}q").pack_into,
            "lock": threading.Lock(), "busy": owner.busy, "run_extern": run_extern, "refuse_index": refuse_index,
            "empty": np.empty, "address": ctypes.addressof, "array_address": address,
            "from_buffer": ctypes.c_char.from_buffer, "ndarray": np.ndarray}
        for i, entry in enumerate(owner.entries):
            if not isinstance(entry, int):
                self.env[f"entry{i}"] = entry
        if not self.arena_is_big:
            arena = np.empty(max(int(self.plan.arena), 64) + 64, np.uint8)  # type: ignore[arg-type]
            self.env["arena"] = arena
            self.env["arena_at"] = -(-address(arena) // 64) * 64
            self.env["arena_skip"] = self.env["arena_at"] - address(arena)

    def text(self) -> str:
        """The function's source."""
        self.lines = ["def run(inputs):"]
        self.add(f"{''.join(f'x{i}, ' for i in range(len(self.inputs)))} = inputs" if self.inputs else "")
        for i in range(len(self.inputs)):
            self.input(i)
        self.sizes()
        self.add("if not lock.acquire(False):", "    return busy(inputs)", "try:")
        start = len(self.lines)
        self.body()
        self.lines[start:] = ["    " + line for line in self.lines[start:]]
        self.add("finally:", "    lock.release()")
        return "\n".join(self.lines) + "\n"

    def add(self, *lines: str) -> None:
        self.lines += ["    " + line for line in lines if line]

    def const(self, value: Any) -> str:
        self.consts += 1
        self.env[f"c{self.consts}"] = value
        return f"c{self.consts}"

    # ---- inputs and sizes

    def input(self, i: int) -> None:
        self.add(f"a{i} = x{i}._a", f"s = x{i}._storage", f"p{i} = s.pointer if a{i} is s.array else 0",
                 f"if not p{i}:", f"    a{i}, p{i} = dense(x{i})")

    def sizes(self) -> None:
        """Each symbolic size from the first input dimension that is it."""
        for name in self.plan.sizes:
            i, d = next((i, d) for i, b in enumerate(self.inputs)
                        for d, n in enumerate(self.schedule.buffers[b].shape)
                        if isinstance(n, Index) and n.kind == "size" and n.args[0] == name)
            self.add(f"{name} = a{i}.shape[{d}]")

    @staticmethod
    def tuple_of(items: Sequence[IndexLike]) -> str:
        return f"({''.join(f'{n}, ' for n in items)})"

    # ---- buffers

    def body(self) -> None:
        for j, name in self.outputs.items():
            self.output(j, self.schedule.buffers[name], self.plan.slots[name].nbytes)
        if self.arena_is_big:
            self.add(f"arena, arena_at = block({self.plan.arena})")
        self.segments()
        self.results()

    def output(self, j: int, buffer: Buffer, nbytes: IndexLike) -> None:
        shape, dtype = self.tuple_of(buffer.shape), self.const(buffer.dtype.np)
        if not isinstance(nbytes, int) or nbytes >= BIG:
            self.add(f"b{j}, q{j} = new_array({shape}, {dtype}, {nbytes})")
        elif nbytes:
            known = buffer.dtype.np.char in "?bBhilqfdFD"  # what the buffer protocol has a letter for
            self.add(f"b{j} = empty({shape}, {dtype})",
                     f"q{j} = address(from_buffer(b{j}))" if known else f"q{j} = array_address(b{j})")
        else:
            self.add(f"b{j} = empty({shape}, {dtype})", f"q{j} = 0")

    def array(self, name: str) -> str:
        """A row-major array over a buffer."""
        if name in self.inputs:
            return f"a{self.inputs.index(name)}"
        buffer, slot = self.schedule.buffers[name], self.plan.slots[name]
        if slot.kind != "arena":
            return f"{'b' if slot.kind == 'output' else 'a'}{slot.position}"
        at = f"{slot.position}" if self.arena_is_big else f"arena_skip + {slot.position}"
        return f"ndarray({self.tuple_of(buffer.shape)}, {self.const(buffer.dtype.np)}, arena, {at})"

    def view(self, ref: Ref) -> str:
        """The array that a Ref shows; strides and offsets from elements to bytes."""
        buffer = self.schedule.buffers[ref.buffer]
        if ref.shape == buffer.shape and ref.strides == buffer.strides and ref.offset == 0:
            return self.array(ref.buffer)
        size = buffer.dtype.itemsize
        if 0 in ref.shape:  # no element, and strides that NumPy may find too long for the buffer
            return f"ndarray({self.tuple_of(ref.shape)}, {self.const(buffer.dtype.np)})"
        strides = self.tuple_of([_scaled(s, size) for s in ref.strides])  # type: ignore[misc]
        return (f"ndarray({self.tuple_of(ref.shape)}, {self.const(buffer.dtype.np)}, {self.array(ref.buffer)}, "
                f"{_scaled(ref.offset, size)}, {strides})")

    # ---- steps

    def segments(self) -> None:
        """A call for each stretch of compiled steps; what has no compiled form runs eagerly between them."""
        pointers = [f"p{i}" for i in range(len(self.inputs))]
        pointers += [f"q{j}" if j in self.outputs else "0" for j in range(self.n_outputs)]
        faults = ["0"] * (4 * self.owner.checks)
        self.add(f"pack(words, 0, {', '.join([*pointers, 'arena_at', *self.plan.sizes, *faults])})")
        for i, entry in enumerate(self.owner.entries):
            if isinstance(entry, int):
                self.extern(self.schedule.steps[entry])  # type: ignore[arg-type]
            else:
                self.add(f"entry{i}(words_at)")
                if self.owner.checks:
                    self.add(f"if words[{self.words - 4}]:", f"    refuse_index(*words[{self.words - 4}:])")

    def extern(self, step: Extern) -> None:
        args = "".join(self.expr(a) + ", " for a in step.args)
        outs = "".join((self.array(n) if n else "None") + ", " for n in step.outs)
        self.add(f"run_extern({self.const(get_op(step.op))}, ({args}), ({outs}))")

    def expr(self, value: Any) -> str:
        if isinstance(value, Ref):
            return self.view(value)
        if isinstance(value, tuple):
            return f"({''.join(self.expr(x) + ', ' for x in value)})"
        if isinstance(value, list):
            return f"[{', '.join(map(self.expr, value))}]"
        return str(value) if isinstance(value, Index) else self.const(value)

    # ---- results

    def results(self) -> None:
        """Tensors over the output buffers; views of one buffer (or of an input) share its storage."""
        for j, name in self.outputs.items():
            dtype = self.const(self.schedule.buffers[name].dtype)
            self.add(f"t{j} = fresh(b{j})", f"t{j}._storage.pointer, t{j}._dtype = q{j}, {dtype}")
        found: list[str] = []
        for out in self.schedule.outputs:
            if not isinstance(out, (str, Ref)):
                found.append(self.const(out))
                continue
            name = out if isinstance(out, str) else out.buffer
            slot = self.plan.slots[name]
            owner = f"t{slot.position}" if slot.kind == "output" else f"x{slot.position}"
            if isinstance(out, str) and slot.kind == "output" and owner not in found:
                found.append(owner)
            else:
                array = self.array(name) if isinstance(out, str) else self.view(out)
                found.append(f"Tensor({array}, {owner}._storage)")
        self.add(f"return ({''.join(f + ', ' for f in found)})")


def _scaled(x: IndexLike, size: int) -> IndexLike:
    return x * size

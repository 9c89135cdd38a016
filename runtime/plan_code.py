"""Writes the function that runs a plan: which addresses go where, and the tensors that come back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Buffer
from flambeau.ir.op import get_op
from flambeau.ir.program import Artifact, Extern, Ref

from .code import PlanCode
from .memory import BIG


def plan_code(artifact: Artifact) -> PlanCode:
    """The code of a built plan."""
    return PlanWriter(artifact).code()


class PlanWriter:
    """Writes the function. Sizes known only at the call stay expressions; all else is a number."""

    def __init__(self, artifact: Artifact) -> None:
        self.plan, self.entries, self.checks = artifact.plan, artifact.entries, artifact.checks
        self.late_errors = artifact.late_errors
        self.schedule = artifact.plan.schedule
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        self.inputs = list(self.schedule.inputs)
        #: Output buffers by position; positions of constants and of second views of a buffer stay unused.
        self.outputs: dict[int, str] = {s.position: n for n, s in self.plan.slots.items() if s.kind == "output"}  # type: ignore[misc]
        self.n_outputs = max(self.outputs, default=-1) + 1
        self.words = len(self.inputs) + self.n_outputs + 1 + len(self.plan.sizes) + 4 * self.checks
        self.arena_is_big = not isinstance(self.plan.arena, int) or self.plan.arena >= BIG

    def code(self) -> PlanCode:
        arena = None if self.arena_is_big else max(int(self.plan.arena), 64) + 64  # type: ignore[arg-type]
        return PlanCode(self.text(), self.constants, tuple(self.entries), self.words, arena, self.late_errors)

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
        name = f"c{len(self.constants) + 1}"
        self.constants[name] = value
        return name

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
        faults = ["0"] * (4 * self.checks)
        self.add(f"pack(words, 0, {', '.join([*pointers, 'arena_at', *self.plan.sizes, *faults])})")
        for i, entry in enumerate(self.entries):
            if isinstance(entry, int):
                self.extern(self.schedule.steps[entry])  # type: ignore[arg-type]
            else:
                self.add(f"entry{i}(words_at)")
                if self.checks:
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

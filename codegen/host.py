"""A plan as one C++ library: its kernels, the calls of templates, and an entry for each stretch of steps without Python.

An entry takes one block of 64-bit words: the inputs' pointers, the outputs' pointers, the arena's, then the sizes
and, where a kernel checks indices, four words for the first one out of range.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from flambeau.codegen import build, cpp, library, prelude, template_calls
from flambeau.codegen.checks import Check, always_made, checks_of
from flambeau.codegen.cpp_text import FAILED, identifier, memory_type, size_text
from flambeau.ir.index import IndexLike
from flambeau.ir.loops import Buffer
from flambeau.ir.program import Artifact, Extern, Kernel, Plan

#: A library of more kernels than this is compiled as two units side by side.
KERNELS_PER_UNIT = 20


def build_plan(plan: Plan) -> Artifact | None:
    """Generate, compile and return the plan's artifact for the C++ target; None without a compiler.

    `Artifact.entries` lists what to do in order: the name of an entry of the library, or the number of a step that the
    runtime has to perform with the op's own kernel. Raises `Unsupported` for a kernel that C++ is not generated for.
    """
    source = PlanSource(plan)
    with library.building(source.needs):
        path = build.build(source.units())
    if path is None:
        return None
    text = source.text()
    return Artifact("cpp", plan, {"cpp": text}, str(path), tuple(source.entries), tuple(sorted(source.needs)),
                    source.checks, source.late_errors)


@dataclasses.dataclass(frozen=True)
class Block:
    """Where things stand in the block of words that an entry takes."""

    inputs: int
    outputs: int

    @staticmethod
    def of(plan: Plan) -> Block:
        slots = list(plan.slots.values())

        def count(kind: str) -> int:
            return max([s.position + 1 for s in slots if s.kind == kind and isinstance(s.position, int)], default=0)

        return Block(max(count("input"), len(plan.schedule.inputs)), count("output"))

    @property
    def arena(self) -> int:
        return self.inputs + self.outputs

    @property
    def sizes(self) -> int:
        return self.arena + 1


class PlanSource:
    """The C++ text of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.block = Block.of(plan)
        self.functions: list[tuple[str, str]] = []  # declaration, definition
        self.needs: set[str] = set()
        self.checks = False  # whether some kernel checks indices
        self.unseen = False  # ... and nobody has looked since whether it found one out of range
        self.late_errors = False  # whether a step may raise when the memory of an input has been written to
        self.wrote = False
        self.passed: set[Check] = set()
        #: Buffers whose memory is that of an input: what writes them must not run once an index was out of range.
        self.kept = {n for n, s in plan.slots.items() if s.kind == "input" and n not in plan.schedule.inputs}
        self.entries: list[str | int] = []
        self.bodies: list[list[str]] = []
        for number, step in enumerate(plan.schedule.steps):
            self._step(number, step)

    # ---- steps -----------------------------------------------------------------------------------------------------

    def _step(self, number: int, step: object) -> None:
        writes = not self.kept.isdisjoint(_touched(step))
        self.wrote = self.wrote or writes
        if self.unseen and writes:
            self._run([f"if (block[{self.block.sizes + len(self.plan.sizes)}]) return;"])
            self.unseen = False
        if isinstance(step, Kernel):
            head = self._define(cpp.kernel_source(step))
            arguments = [self.pointer(b) for b in step.params] + [identifier(s) for s in step.sizes]
            if head.endswith(f"i64* {FAILED});"):
                arguments.append(f"block + {self.block.sizes + len(self.plan.sizes)}")
                self.checks = self.unseen = True
                self.late_errors = self.late_errors or self.wrote and not checks_of(step) <= self.passed
                self.passed |= always_made(step)
            self._run([f"{identifier(step.name)}({', '.join(arguments)});"])
        elif isinstance(step, Extern):
            call = template_calls.write(step, self)
            if call is None:
                self.entries.append(number)
                self.late_errors = self.late_errors or self.wrote
            else:
                self._run(call)
        else:
            raise TypeError(f"a plan for C++ holds kernels and externs, not {type(step).__name__}")

    def define(self, kernel: Kernel) -> None:
        """Add a kernel's function without calling it."""
        self._define(cpp.kernel_source(kernel))

    def _define(self, text: str) -> str:
        """Add a function; return its declaration."""
        head = next(line for line in text.splitlines() if line.startswith("static void "))
        declaration = head.removeprefix("static ").removesuffix(" {") + ";"
        self.functions.append((declaration, text))
        return declaration

    def define_text(self, text: str) -> None:
        """Add a function that is written already; its definition starts with `static void`."""
        self._define(text)

    def _run(self, lines: Sequence[str]) -> None:
        if not self.entries or isinstance(self.entries[-1], int):
            self.entries.append(f"run{len(self.bodies)}")
            self.bodies.append([])
        self.bodies[-1] += lines

    # ---- what steps refer to ---------------------------------------------------------------------------------------

    def pointer(self, buffer: Buffer, offset: IndexLike = 0) -> str:
        """Return the C++ text of a buffer's address, `offset` elements on."""
        slot = self.plan.slots[buffer.name]
        kind = memory_type(buffer.dtype)
        if slot.kind in ("input", "output"):
            assert isinstance(slot.position, int)
            base = f"({kind}*)block[{slot.position + (self.block.inputs if slot.kind == 'output' else 0)}]"
        else:
            at = size_text(slot.position)
            base = f"({kind}*)(arena{'' if at == '0' else f' + {at}'})"
        return base if offset == 0 else f"({base} + {size_text(offset)})"

    # ---- text ------------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """Return all that was generated for the plan, without the shared headers."""
        parts = ["static const Runtime* host;", *(definition for _, definition in self.functions), *self._entry_texts()]
        return "\n".join([*parts, _ATTACH])

    def units(self) -> list[str]:
        """Return the complete translation units."""
        headers = sorted({library.base(name) for name in self.needs})
        if len(self.functions) <= KERNELS_PER_UNIT:
            return [prelude.unit(self.text(), headers)]
        half = len(self.functions) // 2
        declarations = [declaration for declaration, _ in self.functions]
        definitions = [definition.replace("static void", "void", 1) for _, definition in self.functions]
        first = ["const Runtime* host;", *declarations, *definitions[:half], *self._entry_texts(), _ATTACH]
        second = ["extern const Runtime* host;", *declarations, *definitions[half:]]
        return [prelude.unit("\n".join(first), headers), prelude.unit("\n".join(second))]

    def _entry_texts(self) -> list[str]:
        texts = []
        for name, body in zip((e for e in self.entries if isinstance(e, str)), self.bodies, strict=True):
            head = [f'extern "C" void {name}(i64* block) {{']
            if any("arena" in line for line in body):
                head.append(f"  char* arena = (char*)block[{self.block.arena}];")
            for number, size in enumerate(self.plan.sizes):
                if any(identifier(size) in line for line in body):
                    head.append(f"  const i64 {identifier(size)} = block[{self.block.sizes + number}];")
            texts.append("\n".join([*head, *(f"  {line}" for line in body), "}"]))
        return texts


def _touched(step: object) -> set[str]:
    """The buffers that a step is given or writes."""
    if isinstance(step, Extern):
        return {name for name in step.written if name}
    return {b.name for b in step.params} if isinstance(step, Kernel) else set()


_ATTACH = 'extern "C" void attach(Runtime* table) { host = table; }\n'

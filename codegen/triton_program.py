"""A schedule as Triton kernels and the calls between them: source, lowering to every stage, and a run on some device.

The device is whatever can hold arrays and launch kernels: here the interpreter on NumPy arrays; the frontend brings
one that launches cubins on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from flambeau.codegen.triton import GeneratedKernel, generate
from flambeau.codegen.triton_build import STAGES, LoweredKernel, TritonSource, lower
from flambeau.codegen.triton_extern import template_kernels
from flambeau.codegen.triton_interp import interpret
from flambeau.codegen.triton_values import TritonUnsupported
from flambeau.ir import index as ix
from flambeau.ir.dtype import DType
from flambeau.ir.index import Index, IndexLike
from flambeau.ir.loops import Buffer
from flambeau.ir.op import OPS
from flambeau.ir.program import Extern, Kernel, Ref, Schedule
from flambeau.ir.tree import tree_map


class Device(Protocol):
    """Where a program runs. Arrays are the device's own; they have ``shape`` and ``strides`` (in bytes) as NumPy's."""

    def empty(self, shape: Sequence[int], dtype: DType) -> Any:
        """A new contiguous array."""

    def view(self, array: Any, shape: Sequence[int], strides: Sequence[int], offset: int) -> Any:
        """Part of an array's memory; ``strides`` and ``offset`` in elements."""

    def launch(self, kernels: Sequence[GeneratedKernel], grids: Sequence[tuple[int, ...]], args: Sequence[Any]) -> None:
        """Run one of several kernels that compute the same; ``args`` are arrays, then sizes."""

    def call(self, op: str, args: Sequence[Any]) -> Any:
        """Run an op's own kernel on arrays and constants; one array, or a tuple of them."""


@dataclass(frozen=True)
class Launch:
    """A step on the device: kernels that compute the same, of which the device may choose the fastest."""

    name: str
    kernels: tuple[GeneratedKernel, ...]
    reads: tuple[str, ...]


@dataclass
class TritonProgram:
    """A schedule, built. ``refused`` says for each step that runs as an op's own kernel why it is no Triton kernel."""

    schedule: Schedule
    steps: tuple[Launch | Extern, ...]
    refused: dict[str, str] = field(default_factory=dict)

    # ---- texts

    @property
    def sources(self) -> list[TritonSource]:
        """The first candidate of every launch: what the stages show."""
        return [step.kernels[0].source for step in self.steps if isinstance(step, Launch)]

    def text(self) -> str:
        """All kernels, with the calls between them as comments."""
        parts = []
        for step in self.steps:
            if isinstance(step, Launch):
                first = step.kernels[0]
                parts.append(f"# ---- {step.name}: grid {_shown(first.grid)}, {first.source.num_warps} warps\n"
                             + first.source.source)
            else:
                why = f": {self.refused[step.name]}" if step.name in self.refused else ""
                parts.append(f"# ---- {step.name}: {step.op} by its own kernel{why}\n")
        return "\n".join(parts)

    def lowered(self, target: str) -> dict[str, str]:
        """The texts of all kernels by stage (``ttir ttgir llir`` and ``ptx`` or ``amdgcn``) for ``target``."""
        kernels = [lower(source, target) for source in self.sources]
        return {stage: "\n".join(f"// ---- {kernel.name}\n{kernel.stages[stage]}" for kernel in kernels)
                for stage in STAGES if all(stage in kernel.stages for kernel in kernels)} if kernels else {}

    # ---- running

    def run(self, inputs: Sequence[Any], device: Device) -> list[Any]:
        """The outputs for arrays ``inputs``, which have the shapes and strides that the schedule gives them."""
        sizes = self.sizes(inputs)
        return _Run(self, dict(zip(self.schedule.inputs, inputs)), device, sizes).outputs()

    def sizes(self, inputs: Sequence[Any]) -> dict[str, int]:
        """The symbolic sizes, read off the shapes of the inputs."""
        found: dict[str, int] = {}
        for name, array in zip(self.schedule.inputs, inputs):
            for extent, real in zip(self.schedule.buffers[name].shape, array.shape):
                if isinstance(extent, Index) and extent.kind == "size":
                    found[extent.args[0]] = int(real)
        return found


def build(schedule: Schedule) -> TritonProgram:
    """Spell the kernels of ``schedule``, whose groups have been tiled.

    A step without a Triton form that is an op keeps its own kernel. Raises TritonUnsupported for a loop nest without
    one: then the whole graph must run otherwise.
    """
    program = TritonProgram(schedule, ())
    program.steps = tuple(_step(step, schedule.buffers, program.refused) for step in schedule.steps)
    return program


def _step(step: Any, buffers: dict[str, Buffer], refused: dict[str, str]) -> Launch | Extern:
    if isinstance(step, Kernel):
        kernels: Sequence[GeneratedKernel] = [generate(step)]
    elif step.template:
        try:
            kernels = template_kernels(step, buffers)
        except TritonUnsupported as reason:
            if step.epilogue:
                raise
            refused[step.name] = str(reason)
            return step
    else:
        return step
    return Launch(step.name, tuple(kernels), kernels[0].args)


class _Run:
    """One run: arrays by buffer name, each dropped after its last use."""

    def __init__(self, program: TritonProgram, arrays: dict[str, Any], device: Device, sizes: Mapping[str, int]) -> None:
        self.program, self.arrays, self.device = program, arrays, device
        self.sizes = dict(sizes)
        self.known: dict[Index, IndexLike] = {ix.size(name): value for name, value in sizes.items()}

    def outputs(self) -> list[Any]:
        schedule = self.program.schedule
        last = _last_uses(self.program)
        for place, step in enumerate(self.program.steps):
            if isinstance(step, Launch):
                self.launch(step)
            else:
                self.call(step)
            for name in last.get(place, ()):
                del self.arrays[name]
        return [self.argument(self.arrays[x] if isinstance(x, str) else x) for x in schedule.outputs]

    def launch(self, step: Launch) -> None:
        for name in step.reads:
            if name not in self.arrays and name not in self.sizes:
                buffer = self.program.schedule.buffers[name]
                self.arrays[name] = self.device.empty(self.numbers(buffer.shape), buffer.dtype)
        args = [self.arrays[name] if name in self.arrays else self.sizes[name] for name in step.reads]
        self.device.launch(step.kernels, [kernel.grid_for(self.sizes) for kernel in step.kernels], args)

    def call(self, step: Extern) -> None:
        results = self.device.call(step.op, tree_map(self.argument, step.args))
        for name, array in zip(step.outs, results if isinstance(results, tuple) else (results,)):
            if name:
                self.arrays[name] = array

    def argument(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return self.device.view(self.arrays[value.buffer], self.numbers(value.shape), self.numbers(value.strides),
                                    self.numbers((value.offset,))[0])
        return self.numbers((value,))[0] if isinstance(value, Index) else value

    def numbers(self, extents: Sequence[IndexLike]) -> tuple[int, ...]:
        return tuple(int(ix.substitute(extent, self.known)) for extent in extents)  # type: ignore[arg-type]


def _last_uses(program: TritonProgram) -> dict[int, list[str]]:
    """After which step each temporary is needed no more."""
    last: dict[str, int] = {}
    for place, step in enumerate(program.steps):
        if isinstance(step, Launch):
            names = [name for name in step.reads if name in program.schedule.buffers]
        else:
            names = [*(ref.buffer for ref in _refs(step.args)), *filter(None, step.outs)]
        last |= dict.fromkeys(names, place)
    kept = {x.buffer if isinstance(x, Ref) else x for x in program.schedule.outputs if isinstance(x, (str, Ref))}
    found: dict[int, list[str]] = {}
    for name, place in last.items():
        if name not in kept:
            found.setdefault(place, []).append(name)
    return found


def _refs(args: Any) -> list[Ref]:
    found: list[Ref] = []
    tree_map(lambda x: found.append(x) if isinstance(x, Ref) else None, args)
    return found


def _shown(grid: tuple[IndexLike, ...]) -> str:
    return " x ".join(str(extent) for extent in grid)


class InterpreterDevice:
    """Triton's interpreter on NumPy arrays."""

    def empty(self, shape: Sequence[int], dtype: DType) -> np.ndarray:
        return np.empty(shape, dtype.np)

    def view(self, array: np.ndarray, shape: Sequence[int], strides: Sequence[int], offset: int) -> np.ndarray:
        memory = np.lib.stride_tricks.as_strided(array, (offset + 1,), (array.itemsize,))
        return np.lib.stride_tricks.as_strided(memory[offset:], shape, [step * array.itemsize for step in strides])

    def launch(self, kernels: Sequence[GeneratedKernel], grids: Sequence[tuple[int, ...]], args: Sequence[Any]) -> None:
        interpret(kernels[0].source, grids[0], args)

    def call(self, op: str, args: Sequence[Any]) -> Any:
        return tree_map(lambda x: np.asarray(x, order="C"), OPS[op].kernel(np, *args))  # type: ignore[misc]


def load_kernel(kernel: GeneratedKernel, target: str, aligned: bool = True) -> LoweredKernel:
    """Lower a kernel for a launch; ``aligned`` is False when a pointer is no multiple of 16 bytes."""
    source = kernel.source
    if not aligned:
        source = TritonSource(source.name, source.source, source.signature, source.constants, frozenset(),
                              source.num_warps, source.num_stages)
    return lower(source, target)

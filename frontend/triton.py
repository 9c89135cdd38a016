"""The Triton target of ``compile``: graphs become Triton kernels, launched on CUDA tensors through the driver API.

Kernels are lowered for ``options["target"]`` ("cuda:90", "hip:gfx942"), else for the GPU at hand. On CPU tensors there is
nothing to launch on: the kernels are still made, so that every stage can be read, and the graph runs op by op (with
``options["interpret"]``, by Triton's interpreter instead, which is slow and meant for tests).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flambeau.codegen.triton import GeneratedKernel
from flambeau.codegen.triton_extern import EPILOGUES, TEMPLATE_DTYPES, TEMPLATES
from flambeau.codegen.triton_program import InterpreterDevice, TritonProgram, build, load_kernel
from flambeau.frontend.bodies import build_bodies
from flambeau.ir.device import Device
from flambeau.ir.dtype import DType
from flambeau.ir.graph import Graph
from flambeau.ir.op import OPS, Op
from flambeau.ir.program import Group, Schedule, Target
from flambeau.ir.stage import stage
from flambeau.ir.tree import tree_map
from flambeau.passes.lower import lower_graph
from flambeau.passes.schedule import schedule
from flambeau.passes.tile_gpu import tile_gpu
from flambeau.runtime import cuda
from flambeau.runtime.autograd import mode
from flambeau.runtime.eager import dispatch
from flambeau.runtime.graphs import graph_function
from flambeau.runtime.storage import array_module, cupy
from flambeau.runtime.tensor import Tensor, wrap

_CPU = Device("cpu")
_DEFAULT = "cuda:90"
_LOWERED = {"cuda": ("ttir", "ttgir", "llir", "ptx"), "hip": ("ttir", "ttgir", "llir", "amdgcn")}
_TIMED_RUNS = 5


class TritonTarget:
    """Builds graphs as Triton programs (see ``aot.Target``)."""

    name = "triton"

    @staticmethod
    def keep(op: Op) -> bool:
        return op.extra.get("template") in TEMPLATES

    @staticmethod
    def build(graph: Graph, options: dict[str, Any]) -> Callable[[Sequence[Tensor]], Sequence[Any]]:
        """The function of ``graph``'s inputs. Raises TritonUnsupported for what has no Triton form, TritonUnavailable
        without Triton."""
        target = options.get("target") or _target_at_hand()
        build_bodies(graph, lambda body: TritonTarget.build(body, options))
        program = make_program(graph, target)
        by_ops = graph_function(graph, recorded=False)

        def run(inputs: Sequence[Tensor]) -> Sequence[Any]:
            where = next((t.device for t in inputs if t.device.type != "cpu"), None)
            if where is None and not options.get("interpret"):
                return by_ops(*inputs)
            device = _Interpreter() if where is None else gpu(where.index or 0)
            arrays = [array_module(t.device).asarray(t._a, order="C") for t in inputs]
            outputs = program.run(arrays, device)
            return tuple(wrap(x, where or _CPU) if hasattr(x, "shape") else x for x in outputs)

        return run


def make_program(graph: Graph, target: str) -> TritonProgram:
    """Every stage from a functional graph to the lowered kernels; lowering happens only if someone keeps the texts."""
    facts = _facts(target)
    suffix = "/backward" if graph.name == "backward" else ""
    lowered = stage("loops" + suffix, lower_graph(graph, facts))
    fused = stage("schedule" + suffix, schedule(lowered, facts))
    buffers = {**lowered.buffers, **fused.buffers}
    steps = tuple(tile_gpu(step, buffers) if isinstance(step, Group) else step for step in fused.steps)
    plan = stage("plan" + suffix, Schedule(steps, fused.buffers, fused.inputs, fused.outputs))
    program = build(plan)
    stage("triton" + suffix, _Text(program.text))
    texts = functools.cache(lambda: program.lowered(target))
    for name in _LOWERED[target.partition(":")[0]]:
        stage(name + suffix, _Text(functools.partial(_one_of, texts, name)))
    return program


def _one_of(texts: Callable[[], dict[str, str]], name: str) -> str:
    return texts().get(name, "")


class _Text:
    """A stage whose text is made when it is asked for."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make

    def __str__(self) -> str:
        return self._make()


def _facts(target: str) -> Target:
    """What passes need to know of a GPU: its multiprocessors are its threads."""
    if target.partition(":")[0] not in _LOWERED:
        raise ValueError(f"unknown GPU target {target!r}: expected cuda:80, cuda:90 or hip:gfx942")
    return Target(kind="triton", threads=128, templates=TEMPLATES, epilogues=EPILOGUES, template_dtypes=TEMPLATE_DTYPES)


def _target_at_hand() -> str:
    return cuda.device().target if cuda.device_count() else _DEFAULT


class _Interpreter(InterpreterDevice):
    """The interpreter, with ops that are no kernels run as in eager mode."""

    def call(self, op: str, args: Sequence[Any]) -> Any:
        return _eager(op, args, _CPU, np)


def _eager(op: str, args: Sequence[Any], device: Device, xp: Any) -> Any:
    """Run an op on arrays as eager mode does (half precisions, promotion and all); contiguous arrays."""
    before, mode.grad = mode.grad, False
    try:
        result = dispatch(OPS[op], tree_map(lambda x: wrap(x, device) if hasattr(x, "strides") else x, tuple(args)))
    finally:
        mode.grad = before
    return tree_map(lambda t: xp.asarray(t._a, order="C") if isinstance(t, Tensor) else t, result)


@functools.cache
def gpu(index: int) -> GpuDevice:
    """The GPU as a device for Triton programs."""
    return GpuDevice(index)


class GpuDevice:
    """CuPy's arrays, our launcher. Kernels are lowered and loaded at their first launch, one at a time: a Function must
    not be launched from two threads at once, and neither may a program."""

    def __init__(self, index: int) -> None:
        self.cupy = cupy()
        self.place = Device("cuda", index)
        self.cupy.cuda.Device(index).use()
        self.cupy.empty(1)                     # CuPy makes the primary context, which the driver layer then shares
        self.driver = cuda.device(index)
        self.functions: dict[tuple[int, bool], cuda.Function] = {}
        self.chosen: dict[tuple[int, bool], int] = {}
        self.kept: list[Any] = []              # what the keys above are the identities of

    def empty(self, shape: Sequence[int], dtype: DType) -> Any:
        return self.cupy.empty(shape, dtype.np)

    def view(self, array: Any, shape: Sequence[int], strides: Sequence[int], offset: int) -> Any:
        memory = array.data + offset * array.itemsize
        return self.cupy.ndarray(shape, array.dtype, memory, [step * array.itemsize for step in strides])

    def call(self, op: str, args: Sequence[Any]) -> Any:
        return _eager(op, args, self.place, self.cupy)

    def launch(self, kernels: Sequence[GeneratedKernel], grids: Sequence[tuple[int, ...]], args: Sequence[Any]) -> None:
        """Launch the fastest of ``kernels``, found by timing each once they are more than one."""
        self.driver.activate()
        stream = self.cupy.cuda.get_current_stream().ptr
        values = [arg.data.ptr if hasattr(arg, "strides") else arg for arg in args]
        aligned = all(value % 16 == 0 for value, arg in zip(values, args) if hasattr(arg, "strides"))
        key = (id(kernels), aligned)
        if key not in self.chosen:
            self.kept.append(kernels)
            self.chosen[key] = self._fastest(kernels, grids, values, aligned, stream) if len(kernels) > 1 else 0
        which = self.chosen[key]
        self._function(kernels[which], aligned).launch(grids[which], values, stream)

    def _function(self, kernel: GeneratedKernel, aligned: bool) -> cuda.Function:
        key = (id(kernel), aligned)
        if key not in self.functions:
            lowered = load_kernel(kernel, self.driver.target, aligned)
            self.kept.append(kernel)
            self.functions[key] = self.driver.load(lowered.binary).function(
                lowered.name, lowered.params, threads=lowered.num_warps * lowered.warp_size, shared=lowered.shared)
        return self.functions[key]

    def _fastest(self, kernels: Sequence[GeneratedKernel], grids: Sequence[tuple[int, ...]], values: Sequence[Any],
                 aligned: bool, stream: int) -> int:
        """The position of the fastest kernel; one that asks for more than the device has is passed over."""
        times: dict[int, float] = {}
        failed: cuda.CudaError | None = None
        for which, (kernel, grid) in enumerate(zip(kernels, grids)):
            try:
                times[which] = self._time(self._function(kernel, aligned), grid, values, stream)
            except cuda.CudaError as error:
                failed = error
        if not times:
            raise failed or cuda.CudaError("no kernel to launch")
        return min(times, key=lambda which: times[which])

    def _time(self, function: cuda.Function, grid: tuple[int, ...], values: Sequence[Any], stream: int) -> float:
        start, end = self.driver.event(), self.driver.event()
        function.launch(grid, values, stream)
        start.record(stream)
        for _ in range(_TIMED_RUNS):
            function.launch(grid, values, stream)
        end.record(stream)
        end.synchronize()
        return end.milliseconds_since(start)

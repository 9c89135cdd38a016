"""oneDNN's C API by ctypes: the library, loaded when first wanted, and programs made of its primitives.

A forked child does not use it: its OpenMP runtime waits for threads that the fork did not copy.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from flambeau.runtime import native

WHEEL = "onednn-cpu-gomp"
_MOST_PROGRAMS = 512
_ALIGNMENT = 64

# Numbers of the C API (major version 3).
TYPES = {np.dtype(np.float32): 3, np.dtype(ml_dtypes.bfloat16): 2, np.dtype(np.float16): 1}
_CPU, _IN_ORDER, _LAYOUT_ANY, _SCRATCHPAD_USER, _OPENMP = 1, 1, 1, 1, 2
SRC, DST, WEIGHTS, BIAS, _SCRATCHPAD = 1, 17, 33, 41, 80  # roles of a primitive's arguments
DIFF_SRC, DIFF_DST, DIFF_WEIGHTS = 129, 145, 161
_QUERY_NAME, _QUERY_SCRATCHPAD = 8, 136
_QUERY_LAYOUT = {SRC: 129, DIFF_SRC: 130, WEIGHTS: 131, DIFF_WEIGHTS: 132, DST: 133, DIFF_DST: 134}

Pointer = ctypes.c_void_p


class Unsupported(Exception):
    """oneDNN has no kernel, or none worth having, for these operands."""


class _Version(ctypes.Structure):
    _fields_ = [("major", ctypes.c_int), ("minor", ctypes.c_int), ("patch", ctypes.c_int), ("hash", ctypes.c_char_p),
                ("cpu_runtime", ctypes.c_uint), ("gpu_runtime", ctypes.c_uint)]


class _Argument(ctypes.Structure):
    _fields_ = [("role", ctypes.c_int), ("memory", Pointer)]


# ---- the library --------------------------------------------------------------------------------------------------


class _Library:
    """The loaded library with one engine (the CPU) and one stream, and the OpenMP runtime that it runs on."""

    def __init__(self, path: Path) -> None:
        self.openmp = _load_openmp()
        self.c = ctypes.CDLL(os.fspath(path))
        self.c.dnnl_version.restype = ctypes.POINTER(_Version)
        version = self.c.dnnl_version().contents
        if version.major != 3 or version.cpu_runtime != _OPENMP:
            raise OSError(f"{path} is not oneDNN 3 on OpenMP")
        self.version = f"{version.major}.{version.minor}.{version.patch}"
        self.c.dnnl_primitive_desc_query_md.restype = Pointer
        self.c.dnnl_memory_desc_get_size.restype = ctypes.c_size_t
        self.engine = self.make("dnnl_engine_create", _CPU, ctypes.c_size_t(0))
        self.stream = self.make("dnnl_stream_create", self.engine, _IN_ORDER)
        self.attributes = self.make("dnnl_primitive_attr_create")
        self.c.dnnl_primitive_attr_set_scratchpad_mode(self.attributes, _SCRATCHPAD_USER)

    def make(self, function: str, *args: Any) -> Pointer:
        """Call a function whose first parameter receives the object that it makes."""
        made = Pointer()
        if getattr(self.c, function)(ctypes.byref(made), *args):
            raise Unsupported(function)
        return made


def _load_openmp() -> ctypes.CDLL:
    """Load GNU's OpenMP, whose threads spin for milliseconds after each use unless told otherwise as it loads.

    They would take that time from our own pool's threads: with it, a training step of a small convolutional network
    on two threads took 140 ms of CPU time instead of 106; without, 87.
    """
    settings = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    if any(name in os.environ for name in settings):
        return ctypes.CDLL("libgomp.so.1")
    os.environ[settings[0]] = "1000"
    try:
        return ctypes.CDLL("libgomp.so.1")
    finally:
        del os.environ[settings[0]]


_lock = threading.Lock()  # programs keep their operands' addresses in themselves while they run
_in_forked_child = False


def _after_fork() -> None:
    global _in_forked_child
    _in_forked_child = True


def library() -> _Library | None:
    """Return the loaded library; None without the wheel, with FLAMBEAU_ONEDNN=0 and in a forked child."""
    return None if _in_forked_child else _loaded()


@functools.cache
def _loaded() -> _Library | None:
    if os.environ.get("FLAMBEAU_ONEDNN") == "0":
        return None
    from importlib import metadata  # noqa: PLC0415 - a slow import, for those who come here
    try:
        files = metadata.distribution(WHEEL).files or ()
        found = _Library(next(Path(str(f.locate())) for f in files if f.name == "libdnnl.so.3"))
    except (metadata.PackageNotFoundError, StopIteration, OSError, Unsupported):
        return None
    os.register_at_fork(after_in_child=_after_fork)
    return found


# ---- programs: primitives with the copies between layouts ---------------------------------------------------------


class Program:
    """Primitives that run one after the other: operands into oneDNN's layouts, the work, the result back.

    Memory for those layouts and for scratch is allocated for each run; a program keeps none.
    """

    def __init__(self, lib: _Library, build: Callable[[Program, contextlib.ExitStack], None]) -> None:
        self.lib, self.primitives, self.operands = lib, [], []  # type: ignore[var-annotated]
        self.inner: list[tuple[Pointer, int]] = []  # memory within the block of a run, and where it starts
        self.bytes = 0
        self._keep = contextlib.ExitStack()
        with contextlib.ExitStack() as temporary:
            try:
                build(self, temporary)
            except Unsupported:
                self._keep.close()
                raise

    def __del__(self) -> None:
        self._keep.close()

    def layout(self, a: np.ndarray, temporary: contextlib.ExitStack, free: bool = False) -> Pointer:
        """Describe an array; with `free`, its shape and dtype only: the primitive chooses the layout."""
        sizes, kind = dims(a.shape), TYPES[a.dtype]
        if free:
            made = self.lib.make("dnnl_memory_desc_create_with_tag", a.ndim, sizes, kind, _LAYOUT_ANY)
        else:
            steps = dims([s // a.itemsize for s in a.strides])
            made = self.lib.make("dnnl_memory_desc_create_with_strides", a.ndim, sizes, kind, steps)
        temporary.callback(self.lib.c.dnnl_memory_desc_destroy, made)
        return made

    def operand(self, layout: Pointer) -> Pointer:
        """Return memory that each run binds to an array, in the order of the calls of this method."""
        made = self._memory(layout)
        self.operands.append(made)
        return made

    def block(self, layout: Pointer) -> Pointer:
        """Return memory within the block that each run allocates."""
        made = self._memory(layout)
        self.inner.append((made, self.bytes))
        size = self.lib.c.dnnl_memory_desc_get_size(layout)
        self.bytes += -(-size // _ALIGNMENT) * _ALIGNMENT
        return made

    def _memory(self, layout: Pointer) -> Pointer:
        made = self.lib.make("dnnl_memory_create", layout, self.lib.engine, None)
        self._keep.callback(self.lib.c.dnnl_memory_destroy, made)
        return made

    def describe(self, temporary: contextlib.ExitStack, function: str, *args: Any) -> Pointer:
        """Make a primitive's description: the choice of its kernel and layouts."""
        made = self.lib.make(function, self.lib.engine, *args)
        temporary.callback(self.lib.c.dnnl_primitive_desc_destroy, made)
        return made

    def kernel_of(self, description: Pointer) -> str:
        """Name the kernel that oneDNN chose."""
        name = ctypes.c_char_p()
        self.lib.c.dnnl_primitive_desc_query(description, _QUERY_NAME, 0, ctypes.byref(name))
        return (name.value or b"").decode()

    def wanted(self, description: Pointer, role: int) -> Pointer:
        """Return the layout that a primitive wants for its argument of this role."""
        return self._query(description, _QUERY_LAYOUT[role])

    def _query(self, description: Pointer, what: int) -> Pointer:
        return Pointer(self.lib.c.dnnl_primitive_desc_query_md(description, what, 0))

    def add(self, description: Pointer, arguments: dict[int, Pointer]) -> None:
        """Append the primitive with this description; its scratch memory comes from the block."""
        scratch = self._query(description, _QUERY_SCRATCHPAD)
        if scratch and self.lib.c.dnnl_memory_desc_get_size(scratch):
            arguments = {**arguments, _SCRATCHPAD: self.block(scratch)}
        made = self.lib.make("dnnl_primitive_create", description)
        self._keep.callback(self.lib.c.dnnl_primitive_destroy, made)
        listed = (_Argument * len(arguments))(*[_Argument(role, memory) for role, memory in arguments.items()])
        self.primitives.append((made, len(listed), listed))

    def copy(self, temporary: contextlib.ExitStack, source: tuple[Pointer, Pointer], to: tuple[Pointer, Pointer]) -> None:
        """Append a copy between two layouts; each side is (layout, memory)."""
        description = self.lib.make("dnnl_reorder_primitive_desc_create", source[0], self.lib.engine, to[0], self.lib.engine,
                                    self.lib.attributes)
        temporary.callback(self.lib.c.dnnl_primitive_desc_destroy, description)
        self.add(description, {SRC: source[1], DST: to[1]})

    def run(self, arrays: Sequence[np.ndarray]) -> bool:
        """Run on these operands; False if oneDNN reports an error."""
        bind, execute = self.lib.c.dnnl_memory_set_data_handle, self.lib.c.dnnl_primitive_execute
        scratch = np.empty(self.bytes + _ALIGNMENT, np.uint8)
        start = -(-scratch.ctypes.data // _ALIGNMENT) * _ALIGNMENT
        for memory, array in zip(self.operands, arrays, strict=True):
            bind(memory, Pointer(array.ctypes.data))
        for memory, offset in self.inner:
            bind(memory, Pointer(start + offset))
        return not any(execute(made, self.lib.stream, count, listed) for made, count, listed in self.primitives)


_programs: dict[tuple, Program | None] = {}


def perform(what: tuple, arrays: Sequence[np.ndarray],
             build: Callable[[Program, contextlib.ExitStack], None]) -> bool:
    """Run the program for `what` on operands like these, made when there is none; False if oneDNN does not do it."""
    lib = library()
    if lib is None:
        return False
    threads = native.get_num_threads()
    key = (what, threads, *[(a.shape, a.strides, a.dtype) for a in arrays])
    with _lock:
        before = lib.openmp.omp_get_max_threads()
        lib.openmp.omp_set_num_threads(threads)
        try:
            if key not in _programs:
                if len(_programs) >= _MOST_PROGRAMS:
                    del _programs[next(iter(_programs))]
                _programs[key] = _made(lib, build)
            program = _programs[key]
            return program is not None and program.run(arrays)
        finally:
            lib.openmp.omp_set_num_threads(before)


def _made(lib: _Library, build: Callable[[Program, contextlib.ExitStack], None]) -> Program | None:
    try:
        return Program(lib, build)
    except Unsupported:
        return None


def dims(values: Sequence[int]) -> Any:
    return (ctypes.c_int64 * 12)(*values)


def plain(a: np.ndarray) -> np.ndarray:
    """Return the array, copied if a stride is one that oneDNN does not take."""
    fits = a.flags.aligned and all(n == 1 or (s > 0 and s % a.itemsize == 0) for n, s in zip(a.shape, a.strides, strict=True))
    return a if fits else np.ascontiguousarray(a)

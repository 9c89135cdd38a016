"""Compiled code as Python sees it: the runtime table, loaded libraries, one pointer block per call.

This module builds nothing. What needs a compiler comes through `template_builder`, which the public namespace sets to
a function that returns the path of a built template (or None where no compiler is found).
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from pathlib import Path

#: Returns the library of the template with this name, building it when needed; None without a compiler.
template_builder: Callable[[str], Path | None] = lambda name: None

#: Libraries of templates by name: where each was found, or was built.
_paths: dict[str, Path] = {}

_without_pool = 0  # threads asked for, which oneDNN uses where no compiler built the pool; 0: not asked


class Library:
    """A loaded shared library that has been given the runtime table.

    `library[name]` is the C function `void name(void* block)`; the GIL is released while it runs.
    """

    def __init__(self, path: Path, *, needs: tuple[str, ...] = ()) -> None:
        """Load `path` and attach it to the runtime table, with the templates that it `needs` in the table."""
        self.path = path
        self._handle = ctypes.CDLL(os.fspath(path))
        for name in needs:
            template(name)
        attach = getattr(self._handle, "attach", None)
        if attach is not None:
            attach.argtypes = [ctypes.c_void_p]
            attach.restype = None
            attach(_table())

    def __getitem__(self, name: str) -> Callable[[int], None]:
        function = getattr(self._handle, name)
        function.argtypes = [ctypes.c_void_p]
        function.restype = None
        return function


def provide(name: str, path: Path) -> None:
    """Say where the library of a template is, so that nobody needs to be asked for it."""
    _paths.setdefault(name, path)


def known_paths() -> dict[str, Path]:
    """The libraries of templates that were asked for so far."""
    return dict(_paths)


def path_of(name: str) -> Path | None:
    """Where the library of a template is; built if need be, None where it cannot be."""
    path = _paths.get(name)
    if path is None:
        path = template_builder(name)
        if path is not None:
            _paths[name] = path
    return path


@functools.cache
def template(name: str) -> Library | None:
    """Return the loaded template library `name`; None where it cannot be built."""
    path = path_of(name)
    return None if path is None or _pool() is None else Library(path)


def available() -> bool:
    """Say whether compiled code can run here: a compiler, or its cached output, is at hand."""
    return _pool() is not None


def set_num_threads(count: int) -> None:
    """Set how many threads compiled code and NumPy's matrix products use, the caller included; at least 1."""
    global _without_pool
    if count < 1:
        raise RuntimeError(f"expected a positive number of threads, but got {count}")
    _without_pool = count
    for setter in _blas_setters():
        setter(count)
    pool = _pool()
    if pool is not None:
        pool.set_threads(count)


#: What OpenBLAS calls its setter: as NumPy's and SciPy's wheels build it, and as distributions do.
_BLAS_NAMES = ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads", "openblas_set_num_threads64_",
               "openblas_set_num_threads")


def _blas_setters() -> list[Callable[[int], None]]:
    """The functions that set the threads of each OpenBLAS that this process has loaded (other libraries have none)."""
    try:
        maps = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    paths = dict.fromkeys(line.split(maxsplit=5)[-1] for line in maps if "openblas" in line)
    found = []
    for path in paths:
        try:
            library = ctypes.CDLL(path)
        except OSError:  # a file of that name that is no library, or was replaced since
            continue
        found += [getattr(library, name) for name in _BLAS_NAMES if hasattr(library, name)][:1]
    return found


def get_num_threads() -> int:
    """Return how many threads compiled code uses (1 in a forked child)."""
    pool = _pool()
    return _without_pool or default_threads() if pool is None else pool.get_threads()


@functools.cache
def default_threads() -> int:
    """Return `FLAMBEAU_NUM_THREADS`, else the number of physical cores that this process may run on."""
    chosen = os.environ.get("FLAMBEAU_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
    if chosen.isdigit() and int(chosen) > 0:
        return int(chosen)
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    return max(1, len({_core_of(cpu) for cpu in allowed}))


def _core_of(cpu: int) -> str:
    """Name the physical core of a logical CPU by the CPUs that share it."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
    except OSError:
        return str(cpu)


@functools.cache
def _pool() -> ctypes.CDLL | None:
    path = path_of("pool")
    if path is None:
        return None
    pool = ctypes.CDLL(os.fspath(path))
    pool.runtime_table.restype = ctypes.c_void_p
    pool.set_threads.argtypes = [ctypes.c_int64]
    pool.get_threads.restype = ctypes.c_int64
    pool.set_threads(default_threads())
    return pool


def _table() -> int:
    pool = _pool()
    assert pool is not None, "a compiled library was loaded where the runtime table could not be built"
    return pool.runtime_table()

"""What the process asks of the C library and of OpenBLAS: freed arrays are kept, threads are as many as was said."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import flambeau
from flambeau.runtime import memory, native

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks glibc")


def faults_of(setup: str) -> int:
    """Page faults of making a megabyte two hundred times, in a process of its own."""
    code = f"""
import resource, numpy as np
{setup}
a = np.ones(1 << 18, np.float32)
b = a + 1
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200):
    b = a + 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    return int(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout)


@linux
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="not glibc")
def test_freed_arrays_are_used_again() -> None:
    assert faults_of("import flambeau") < 2000  # a megabyte has 256 pages: else 51200


@linux
def test_user_settings_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "100000")
    assert not memory.keep_freed_memory()
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_")
    monkeypatch.setenv("FLAMBEAU_KEEP_MEMORY", "0")
    assert not memory.keep_freed_memory()


@linux
def test_threads_of_matrix_products_follow() -> None:
    np.ones((4, 4), np.float32) @ np.ones((4, 4), np.float32)
    setters = native._blas_setters()
    if not setters:
        pytest.skip("this NumPy is not built on OpenBLAS")
    path = next(line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "openblas" in line)
    library, name = ctypes.CDLL(path), setters[0].__name__.replace("_set_", "_get_")
    before = flambeau.get_num_threads()
    try:
        flambeau.set_num_threads(1)
        assert getattr(library, name)() == 1
        flambeau.set_num_threads(2)
        assert getattr(library, name)() == 2
    finally:
        flambeau.set_num_threads(before)
    with pytest.raises(RuntimeError, match="positive number of threads"):
        flambeau.set_num_threads(0)

"""`flambeau doctor`: what is on this machine, what is missing, and the one command that mends it."""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import os
import platform
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import flambeau
from flambeau.codegen import build, cache
from flambeau.runtime import onednn, onednn_api


@dataclass(frozen=True)
class Finding:
    """One line of the report. `fix` is the command that mends it; without one there is nothing to mend."""

    subject: str
    found: str
    fix: str = ""
    required: bool = False

    @property
    def mark(self) -> str:
        return "ok" if not self.fix else "MISSING" if self.required else "-"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("doctor", help="what is installed, what is missing, how to mend it",
                                 description="Exit status 1 if something that flambeau cannot do without is missing.")
    parser.set_defaults(handler=lambda args: doctor())


def doctor() -> int:
    """Print every finding; returns 1 if something required is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")   # what a check stumbles over, such as the cache, has a finding of its own
        findings = [check() for check in CHECKS]
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        print(f"{finding.mark:<8}{finding.subject:<{width}}  {finding.found}")
        if finding.fix:
            print(f"{'':<8}{'':<{width}}  to mend: {finding.fix}")
    return int(any(finding.fix and finding.required for finding in findings))


def _python() -> Finding:
    return Finding("python", f"{platform.python_version()} ({platform.system()} {platform.machine()})")


def _flambeau() -> Finding:
    return Finding("flambeau", f"{flambeau.__version__} in {Path(flambeau.__file__).parent}")


def _numpy() -> Finding:
    old = int(np.__version__.split(".")[0]) < 2
    return Finding("numpy", np.__version__, "pip install -U 'numpy>=2'" if old else "", required=True)


def _blas() -> Finding:
    config = np.show_config(mode="dicts")
    blas = config.get("Build Dependencies", {}).get("blas", {}) if isinstance(config, dict) else {}
    core = os.environ.get("OPENBLAS_CORETYPE")
    forced = f", OPENBLAS_CORETYPE={core} (matmul in eager mode runs with that core's kernels)" if core else ""
    return Finding("BLAS", f"{blas.get('name', 'unknown')} {blas.get('version', '')}{forced}")


def _compiler() -> Finding:
    compiler = build.find_compiler()
    if compiler is not None:
        return Finding("C++ compiler", f"{' '.join(compiler.command)}: {compiler.version}")
    if os.environ.get("FLAMBEAU_CXX"):
        return Finding("C++ compiler", f"FLAMBEAU_CXX={os.environ['FLAMBEAU_CXX']} does not run; compiled code uses "
                       "the slower NumPy target", "unset FLAMBEAU_CXX")
    return Finding("C++ compiler", "none; compiled code uses the slower NumPy target",
                   "apt-get install g++   (or: pip install 'flambeau[compiler]')")


# From the widest vectors to the narrowest; /proc/cpuinfo names them as flags (x86) or features (ARM).
_ISAS = ("avx512f", "avx2", "avx", "sse4_2", "sve", "asimd")


def _isa() -> Finding:
    flags = set(build.cpu_identity().split())
    found = [isa for isa in _ISAS if isa in flags]
    extras = sorted(flags & {"fma", "avx512_bf16", "amx_bf16", "amx_tile", "bf16"})
    return Finding("vector ISA", " ".join(found[:1] + extras) or "unknown")


def _threads() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS")
    return Finding("threads", f"{flambeau.get_num_threads()} used, {usable} cores usable"
                   + (f", OMP_NUM_THREADS={asked}" if asked else ""))


def _package(subject: str, module: str, distribution: str, use: str, fix: str) -> Callable[[], Finding]:
    """A check for an optional package: only looked up, not imported (Triton alone takes a second)."""
    def check() -> Finding:
        if importlib.util.find_spec(module) is None:
            return Finding(subject, f"not installed; {use}", fix)
        try:
            version = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            version = "of unknown version"
        return Finding(subject, version)
    return check


def _onednn() -> Finding:
    try:
        version = metadata.version(onednn_api.WHEEL)
    except metadata.PackageNotFoundError:
        return Finding("oneDNN", "not installed; faster convolutions in eager mode, and products in bfloat16 with AVX-512",
                       "pip install 'flambeau[onednn]'")
    if os.environ.get("FLAMBEAU_ONEDNN") == "0":
        return Finding("oneDNN", f"{version}, turned off", "unset FLAMBEAU_ONEDNN")
    library = onednn_api.library()
    if library is None:
        return Finding("oneDNN", f"{version}, cannot be loaded; it needs libgomp.so.1", "apt-get install libgomp1")
    half = [name for name, dtype in (("bfloat16", ml_dtypes.bfloat16), ("float16", np.float16)) if _multiplies(dtype)]
    return Finding("oneDNN", f"{version} (library {library.version}): convolutions in eager mode; products in "
                   f"{' and '.join(half) or 'half precision stay NumPy-made, as oneDNN wants AVX-512 for them'}")


def _multiplies(dtype: Any) -> bool:
    """Say whether oneDNN has a matrix product in this dtype for this processor."""
    square = np.zeros((128, 128), dtype)
    return onednn.matmul(square, square) is not None


def _gpu() -> Finding:
    for library, kind in (("libcuda.so.1", "NVIDIA"), ("libamdhip64.so", "AMD")):
        try:
            driver = ctypes.CDLL(library)
        except OSError:
            continue
        if kind == "AMD":
            return Finding("GPU driver", f"{library} (code is generated for it; nothing launches it yet)")
        version, count = ctypes.c_int(), ctypes.c_int()
        status = driver.cuInit(0)
        if status:
            return Finding("GPU driver", f"{library} is there, cuInit says {status}: no usable GPU")
        driver.cuDriverGetVersion(ctypes.byref(version))
        driver.cuDeviceGetCount(ctypes.byref(count))
        return Finding("GPU driver", f"CUDA {version.value // 1000}.{version.value % 1000 // 10}, {count.value} GPU(s)")
    return Finding("GPU driver", "none: GPU kernels can be lowered and printed here, not run")


def _cache() -> Finding:
    folder = cache.root()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding("kernel cache", f"{folder} cannot be written ({error.strerror}); every process builds its "
                       "kernels anew", "export FLAMBEAU_CACHE_DIR=/a/folder/you/can/write", required=False)
    files = cache.entries()
    size = sum(path.stat().st_size for path in files if path.exists())
    libraries, functions = (sum(path.suffix == suffix for path in files) for suffix in (".so", ".entries"))
    return Finding("kernel cache", f"{folder}, writable, {libraries} libraries, {functions} functions that later processes load "
                   f"from it, {size / 1e6:.1f} MB")


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python, _flambeau, _numpy, _blas, _compiler, _isa, _threads, _onednn,
    _package("Triton", "triton", "triton", "needed for the Triton target", "pip install 'flambeau[gpu]'"),
    _gpu,
    _package("CuPy", "cupy", "cupy-cuda13x", "needed for tensors on a GPU", "pip install 'flambeau[gpu]'"),
    _cache,
)

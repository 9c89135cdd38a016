"""CUDA tensors compiled by the Triton target, on a paper GPU: what reaches the driver, launch by launch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(shutil.which("gcc") is None, reason="the stand-in libcuda is built by gcc")]

HERE = Path(__file__).parent

PRELUDE = """
import sys
sys.path.insert(0, {tests!r})
import gpu.paper_cupy
import numpy as np
import flambeau
from flambeau.frontend.compile import compile
from flambeau.frontend.triton import gpu

def on_gpu(*shape):
    return flambeau.tensor(np.ones(shape, np.float32)).to("cuda")

def compiled(fn):
    return compile(fn, backend="triton", fullgraph=True)

def pointer(tensor):
    return hex(tensor._a.data.ptr)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("fake") / "libcuda_fake.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", target, HERE / "fake_cuda.c"], check=True)
    return target


def run(script: str, library: Path, tmp_path: Path, params: int = 3) -> tuple[str, list[str]]:
    """Run ``script`` on the paper GPU: what it prints, and the launches that the driver saw, with ``params`` pointers
    (every kernel has three at least: one of its own, and two for scratch)."""
    log = tmp_path / "log"
    environment = {**os.environ, "FLAMBEAU_LIBCUDA": str(library), "FAKE_CUDA_LOG": str(log),
                   "FAKE_CUDA_TYPES": "p " * params}
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c",
                           PRELUDE.format(tests=str(HERE.parent)) + script],
                          env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in log.read_text().splitlines() if line.startswith("launch")]


def test_a_pointwise_function_is_one_launch_of_its_arguments(library: Path, tmp_path: Path) -> None:
    printed, launches = run("""
fn = compiled(lambda x, y: flambeau.exp(x) * y)
x, y = on_gpu(40, 64), on_gpu(40, 64)
out = fn(x, y)
assert out.device.type == "cuda" and tuple(out.shape) == (40, 64)
print(pointer(x), pointer(y), pointer(out))
""", library, tmp_path, params=5)
    (launch,) = launches
    assert re.match(r"launch 3,1,1 x \d+,1,1 shared \d+ stream 7:", launch)     # ceil(40 * 64 / 1024) programs
    assert launch.split(": ")[1].split()[:5] == [*printed.split(), "0x0", "0x0"]


def test_a_second_call_compiles_and_loads_nothing(library: Path, tmp_path: Path) -> None:
    printed, launches = run("""
fn = compiled(lambda x: flambeau.softmax(x, -1))
fn(on_gpu(8, 100))
loaded = len(gpu(0).functions)
fn(on_gpu(8, 100))
print(loaded, len(gpu(0).functions))
""", library, tmp_path)
    assert printed.split() == ["1", "1"] and len(launches) == 2


def test_the_fastest_of_several_tiles_is_kept(library: Path, tmp_path: Path) -> None:
    _, launches = run("""
fn = compiled(lambda x, w: flambeau.relu(x @ w))
for _ in range(3):
    fn(on_gpu(256, 256), on_gpu(256, 256))
(kernels,) = {len(kernels) for kernels in gpu(0).kept if isinstance(kernels, tuple)}
assert kernels > 1 and list(gpu(0).chosen.values()) == [0], gpu(0).chosen
""", library, tmp_path)
    assert len({launch.split(" shared")[0] for launch in launches}) > 1          # all were tried
    assert len(set(launches[-3:])) <= 3


def test_a_misaligned_view_gets_a_kernel_without_the_hint(library: Path, tmp_path: Path) -> None:
    printed, _ = run("""
fn = compiled(lambda x: x * 2)
whole = on_gpu(1025)
aligned, shifted = whole[:1024], whole[1:]
fn(aligned)
fn(shifted)
print(sorted(aligned for _, aligned in gpu(0).functions))
""", library, tmp_path)
    assert printed.strip() == "[False, True]"


def test_an_op_between_kernels_runs_on_the_gpu_arrays(library: Path, tmp_path: Path) -> None:
    printed, launches = run("""
fn = compiled(lambda x: flambeau.exp(flambeau.sort(flambeau.exp(x))[0]))
out = fn(on_gpu(4, 70))
print(out.device, type(out._a).__name__)
""", library, tmp_path)
    assert printed.split() == ["cuda:0", "ndarray"] and len(launches) == 2


def test_gradients_stay_on_the_gpu(library: Path, tmp_path: Path) -> None:
    printed, launches = run("""
fn = compiled(lambda x: flambeau.tanh(x).sum())
x = on_gpu(4, 70).requires_grad_()
fn(x).backward()
print(x.grad.device, tuple(x.grad.shape))
""", library, tmp_path)
    assert printed.strip() == "cuda:0 (4, 70)" and len(launches) >= 2

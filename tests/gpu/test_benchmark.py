"""The GPU benchmark, rehearsed: every case is right at a tiny size, and the report is complete."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "gpu.py"


# What the benchmark uses of CuPy, on NumPy arrays: enough to walk the GPU path against the stand-in libcuda.
PAPER_CUPY = """
import types
import numpy

class ndarray(numpy.ndarray):
    data = property(lambda self: types.SimpleNamespace(ptr=self.ctypes.data))
    get = lambda self: numpy.asarray(self)

asarray = lambda array: array.copy().view(ndarray)
empty = numpy.empty
"""


def run(tmp_path: Path, *options: str) -> tuple[int, dict]:
    done = subprocess.run([sys.executable, SCRIPT, "--out", tmp_path, *options], capture_output=True, text=True)
    (report,) = tmp_path.glob("*.json")
    return done.returncode, json.loads(report.read_text())


def test_every_case_is_right_when_rehearsed(tmp_path: Path) -> None:
    status, report = run(tmp_path, "--rehearse")
    assert [row for row in report["rows"] if not row.get("ok")] == []
    assert len(report["rows"]) >= 16 and status == 0
    table = (tmp_path / "gpu-rehearsal.md").read_text()
    assert all(f"| {row['name']} | yes |" in table for row in report["rows"])


def test_a_machine_without_a_gpu_leaves_a_report_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAMBEAU_LIBCUDA", "libno_such_driver.so")
    status, report = run(tmp_path)
    assert status == 1
    assert "cupy" in report["error"] or "no CUDA driver" in report["error"]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the stand-in libcuda is built by gcc")
def test_the_gpu_path_runs_to_the_end_on_a_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is computed, so nothing may be called right; but every step up to the launch is taken."""
    library, modules, out = tmp_path / "libcuda_fake.so", tmp_path / "modules", tmp_path / "out"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, Path(__file__).with_name("fake_cuda.c")], check=True)
    modules.mkdir()
    (modules / "cupy.py").write_text(PAPER_CUPY)
    monkeypatch.setenv("FLAMBEAU_LIBCUDA", str(library))
    monkeypatch.setenv("FAKE_CUDA_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("PYTHONPATH", str(modules))
    status, report = run(out, "--tiny", "--only", "batch")
    assert status == 1 and "error" not in report
    assert report["device"]["target"] == "cuda:90"
    launched = [facts for row in report["rows"] for facts in row.get("candidates", {}).values()]
    assert launched and all("error" not in facts and not facts["ok"] for facts in launched)
    assert sum(line.startswith("launch") for line in (tmp_path / "log").read_text().splitlines()) >= len(launched)

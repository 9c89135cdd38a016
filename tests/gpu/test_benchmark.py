"""The GPU benchmark, rehearsed: every case is right at a tiny size, and the report is complete."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "gpu.py"


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

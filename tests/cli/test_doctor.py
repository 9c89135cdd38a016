"""The doctor says what is there, and names the command that mends what is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def doctor(**env: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", "flambeau", "doctor"], capture_output=True, text=True, timeout=60,
                          env={**os.environ, **env})
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def line(report: str, subject: str) -> str:
    return next(text for text in report.splitlines() if text[8:].startswith(subject))


def test_reports_every_subject() -> None:
    status, report = doctor()
    assert status == 0
    for subject in ("python", "flambeau", "numpy", "BLAS", "C++ compiler", "vector ISA", "threads", "oneDNN", "Triton",
                    "GPU driver", "CuPy", "kernel cache"):
        assert line(report, subject).startswith(("ok ", "-  ")), report


def test_missing_compiler_is_no_error_and_has_a_fix() -> None:
    status, report = doctor(FLAMBEAU_CXX="none")
    assert status == 0
    assert line(report, "C++ compiler").startswith("-")
    assert "to mend: unset FLAMBEAU_CXX" in report


def test_no_compiler_on_the_path() -> None:
    status, report = doctor(PATH="/nonexistent", FLAMBEAU_CXX="")
    assert status == 0 and ("apt-get install g++" in report or "ziglang" in line(report, "C++ compiler"))


def test_cache_folder_is_named_and_tried(tmp_path: Path) -> None:
    _, report = doctor(FLAMBEAU_CACHE_DIR=str(tmp_path / "new"))
    assert str(tmp_path / "new") in line(report, "kernel cache") and "writable" in line(report, "kernel cache")
    (tmp_path / "file").write_text("")
    status, report = doctor(FLAMBEAU_CACHE_DIR=str(tmp_path / "file"))
    assert status == 0 and "cannot be written" in line(report, "kernel cache")
    assert "export FLAMBEAU_CACHE_DIR=" in report

"""flambeau as torch, each case in a process of its own: the name `torch` is process-wide."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run_code(code: str, *, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, timeout=60)


def run_cli(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "flambeau", *args], capture_output=True, text=True, cwd=cwd,
                          timeout=60, env={**os.environ, "PYTHONPATH": ""})


def printed(code: str) -> list[str]:
    done = run_code(code)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_torch_is_the_same_module_object() -> None:
    assert printed(
        "import flambeau; flambeau.as_torch()\n"
        "import torch, torch.nn.functional as F, torch.nn as nn\n"
        "from torch.utils.data import DataLoader\n"
        "import flambeau.nn.functional, flambeau.utils.data\n"
        "print(torch is flambeau, nn is flambeau.nn, F is flambeau.nn.functional,\n"
        "      DataLoader is flambeau.utils.data.DataLoader, nn.__name__, nn.__spec__.name)"
    ) == ["True", "True", "True", "True", "flambeau.nn", "flambeau.nn"]


def test_no_module_is_loaded_a_second_time() -> None:
    assert printed(
        "import flambeau; flambeau.as_torch()\n"
        "import torch.optim.lr_scheduler, torch.nn.init, sys\n"
        "files = {}\n"
        "for name, m in list(sys.modules.items()):\n"
        "    if name.split('.')[0] in ('torch', 'flambeau'): files.setdefault(m.__file__, set()).add(id(m))\n"
        "print(max(map(len, files.values())))") == ["1"]


def test_version_can_be_compared() -> None:
    version, = printed("import flambeau; flambeau.as_torch(); import torch; print(torch.__version__)")
    assert version.startswith("2.13.0+flambeau.")
    assert tuple(map(int, version.split("+")[0].split("."))) >= (2, 0)


def test_second_call_changes_nothing() -> None:
    assert printed("import flambeau as f, sys; f.as_torch(); n = len(sys.meta_path); v = f.__version__; f.as_torch();"
                   "print(len(sys.meta_path) == n, f.__version__ == v)") == ["True", "True"]


def test_missing_submodule_names_both() -> None:
    done = run_code("import flambeau; flambeau.as_torch(); import torch.no_such_part")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError") and "torch.no_such_part" in last and "flambeau.no_such_part" in last


def test_refuses_when_torch_is_already_there(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("")
    done = run_code("import torch, flambeau; flambeau.as_torch()", cwd=tmp_path)
    assert done.returncode == 1 and "RuntimeError" in done.stderr and "already imported" in done.stderr


def test_wins_over_an_installed_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('the wrong torch')")
    assert run_code("import flambeau; flambeau.as_torch(); import torch; torch.nn", cwd=tmp_path).returncode == 0


def test_run_gives_the_script_its_arguments_and_folder(tmp_path: Path) -> None:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "helper.py").write_text("VALUE = 41\n")
    (folder / "train.py").write_text(
        "import sys, helper, torch\n"
        "if __name__ == '__main__':\n"
        "    print(helper.VALUE + int(torch.ones(1).item()), sys.argv, __file__)\n")
    done = run_cli("run", "scripts/train.py", "--lr", "0.1", "-m", cwd=tmp_path)
    assert done.stdout.strip() == "42 ['scripts/train.py', '--lr', '0.1', '-m'] scripts/train.py", done.stderr


def test_run_module(tmp_path: Path) -> None:
    package = tmp_path / "tool"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "train.py").write_text("import sys, torch\nprint(__name__, sys.argv[1:], torch.ones(2).sum().item())\n")
    done = run_cli("run", "-m", "tool.train", "--x", cwd=tmp_path)
    assert done.stdout.strip() == "__main__ ['--x'] 2.0", done.stderr


@pytest.mark.parametrize(("body", "status"), [("import sys; sys.exit(7)", 7), ("raise SystemExit('bye')", 1),
                                              ("pass", 0), ("1 / 0", 1), ("raise KeyboardInterrupt", -2)])
def test_run_keeps_the_exit_status(tmp_path: Path, body: str, status: int) -> None:
    (tmp_path / "s.py").write_text(body + "\n")
    assert run_cli("run", "s.py", cwd=tmp_path).returncode == status


def test_run_tracebacks_start_in_the_script(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("import torch\ndef f():\n    return torch.nope\nf()\n")
    done = run_cli("run", "s.py", cwd=tmp_path)
    frames = [line for line in done.stderr.splitlines() if line.lstrip().startswith("File ")]
    assert [frame.split(",")[1].strip() for frame in frames[:2]] == ["line 4", "line 3"]
    assert "nope" in done.stderr.splitlines()[-1] and "cli/run.py" not in done.stderr


def test_run_reports_a_syntax_error_as_python_does(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("def f(:\n")
    done = run_cli("run", "s.py", cwd=tmp_path)
    assert done.returncode == 1 and "SyntaxError" in done.stderr and "cli/run.py" not in done.stderr


def test_run_of_a_missing_file(tmp_path: Path) -> None:
    done = run_cli("run", "nope.py", cwd=tmp_path)
    assert done.returncode == 2 and "nope.py" in done.stderr and "Traceback" not in done.stderr

"""The package list names every source folder, and what is built from it installs and runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from imports import ROOT, sources

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENV = {**os.environ, "PYTHONPATH": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def test_every_source_folder_is_listed() -> None:
    found = {module for module, path in sources().items() if path.name == "__init__.py"}
    assert found == set(PYPROJECT["tool"]["setuptools"]["packages"])


def test_every_folder_with_python_is_a_package() -> None:
    bare = {str(path.parent.relative_to(ROOT)) for path in sources().values()
            if not (path.parent / "__init__.py").exists()}
    assert not bare, f"no __init__.py in {bare}"


def test_version_is_the_same_everywhere() -> None:
    # in a process of its own: as_torch(), which other tests may have called in this one, puts PyTorch's number before ours
    said = subprocess.run([sys.executable, "-c", "import flambeau; print(flambeau.__version__)"], capture_output=True, text=True,
                          timeout=60, check=True).stdout.strip()
    assert said == PYPROJECT["project"]["version"]
    assert f"## {said}" in (ROOT / "CHANGELOG.md").read_text()


def test_declared_python_versions_agree() -> None:
    project = PYPROJECT["project"]
    oldest = project["requires-python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {oldest}" in project["classifiers"]
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")


def data_files() -> set[str]:
    """Files in the source folders that are not Python, by the path they must have in the wheel."""
    skip = re.compile(r"__pycache__|\.egg-info|\.pyc$")
    found = set()
    for folder, installed in (("codegen", "flambeau/codegen"), ("frontend/flambeau", "flambeau"),
                              ("ir", "flambeau/ir"), ("passes", "flambeau/passes"), ("runtime", "flambeau/runtime")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix != ".py" and not skip.search(str(path)):
                found.add(f"{installed}/{path.relative_to(ROOT / folder).as_posix()}")
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the tracked and new files, so that no build/lib of an earlier install leaks in."""
    pytest.importorskip("setuptools", minversion="77")
    copy = tmp_path_factory.mktemp("source")
    for path in [*sources().values(), *(ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE"))]:
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    for room in ("codegen", "frontend/flambeau", "ir", "passes", "runtime"):
        for path in (ROOT / room).rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                (copy / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
                (copy / path.relative_to(ROOT)).write_bytes(path.read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out),
                    str(copy)], check=True, env=ENV, timeout=240)
    return next(out.glob("*.whl"))


@pytest.mark.slow
def test_wheel_holds_exactly_the_sources(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    python = {path.as_posix() for path in map(installed_path, sources())}
    assert {name for name in names if name.endswith(".py")} == python
    assert {name for name in names if not name.endswith(".py")} == data_files()


def installed_path(module: str) -> Path:
    base = Path(*module.split("."))
    return base / "__init__.py" if sources()[module].name == "__init__.py" else base.with_suffix(".py")


@pytest.mark.slow
def test_installed_wheel_runs_away_from_the_tree(wheel: Path, tmp_path: Path) -> None:
    """In a fresh environment: `python -m flambeau`, the console script and a computation, none from the checkout."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=120)
    python = venv / "bin" / "python"
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index",
                    str(wheel)], check=True, env=ENV, timeout=120)
    # The dependencies come from the running environment, at the end of sys.path: the wheel's own files win.
    site = subprocess.run([str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
                          capture_output=True, text=True, check=True).stdout.strip()
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")

    def run(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=ENV,
                              timeout=120).stdout

    assert "dump" in run(str(python), "-m", "flambeau", "--help")
    assert "dump" in run(str(venv / "bin" / "flambeau"), "--help")
    out = run(str(python), "-c", "import flambeau as f; print(f.__file__); print((f.ones(3) + 1).tolist())")
    file, values = out.splitlines()
    assert file.startswith(str(venv)) and values == "[2.0, 2.0, 2.0]"

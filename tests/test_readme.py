"""What the README tells the reader to do works as written: its Python runs, its `flambeau` commands succeed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from imports import ROOT


@dataclass(frozen=True)
class Block:
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that a Python block says it is, in a comment on its first line."""
        match = re.match(r"# (\w+\.py)\n", self.text)
        return match[1] if match else None


def blocks() -> list[Block]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [Block(language, text) for language, text in found]


def commands() -> list[list[str]]:
    lines = [line for block in blocks() if block.language == "sh" for line in block.text.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("flambeau ")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for block in blocks():
        if block.file:
            (tmp_path / block.file).write_text(block.text)
    for name in ("examples", "LICENSE"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_there_is_something_to_run() -> None:
    assert {words[1] for words in commands()} == {"run", "dump", "explain", "doctor"}


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in blocks() if b.language == "python" and not b.file],
                         ids=lambda block: block.text.splitlines()[0])
def test_python_block_runs(block: Block, folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", block.text], capture_output=True, text=True, cwd=folder, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_command_works(words: list[str], folder: Path) -> None:
    if "cuda:90" in words and find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, cwd=folder, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


def test_linked_files_exist() -> None:
    for page in ("README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/gpu.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
            assert ((ROOT / page).parent / link).exists(), f"{page} links to {link}"

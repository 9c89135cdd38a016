"""From C++ source text to a shared library: which compiler, which flags, built once and cached."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from flambeau.codegen import cache

#: Never -ffast-math: it would assume that neither infinities nor NaN exist, and masked softmax lives on -inf.
FLAGS = (
    "-std=c++17",
    "-O2",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-exceptions",
    "-fno-rtti",
    "-fPIC",
    "-Wno-psabi",
)
NATIVE = "-march=native"


class CompileError(RuntimeError):
    """The compiler rejected generated source. `source` holds the text, the message the compiler's own words."""

    def __init__(self, command: Sequence[str], output: str, source: str) -> None:
        super().__init__(f"{shlex.join(command)} failed:\n{output}")
        self.source = source


@dataclasses.dataclass(frozen=True)
class Compiler:
    """A C++ compiler: the words that start it, its kind ("gcc", "clang" or "zig") and its version line."""

    command: tuple[str, ...]
    kind: str
    version: str


def build(sources: Sequence[str], flags: Sequence[str] = ()) -> Path | None:
    """Compile translation units into one shared library and return its path; None without a compiler.

    Several sources are compiled in parallel. The result is cached by content: source, flags, compiler and CPU.
    Raises `CompileError` when the compiler refuses the source.
    """
    compiler = find_compiler()
    if compiler is None:
        return None
    words = (*compiler.command, *FLAGS, NATIVE, *flags)
    key = cache.key_of(*sources, "\0flags", *words, compiler.version, cpu_identity())
    return cache.fetch(key, ".so", lambda path: _compile(words, sources, path))


def find_compiler() -> Compiler | None:
    """Return the compiler in use: `FLAMBEAU_CXX` if set ("none" for no compiler), else g++, clang++, ziglang."""
    return _find_compiler(os.environ.get("FLAMBEAU_CXX", ""), os.environ.get("PATH", ""))


@functools.lru_cache(maxsize=8)
def _find_compiler(chosen: str, path: str) -> Compiler | None:
    if chosen == "none":
        return None
    if chosen:
        return _probe(tuple(shlex.split(chosen)))
    for name in ("g++", "clang++"):
        found = shutil.which(name, path=path)
        if found and (compiler := _probe((found,))):
            return compiler
    if importlib.util.find_spec("ziglang"):
        return _probe((sys.executable, "-m", "ziglang", "c++"))
    return None


def _probe(command: tuple[str, ...]) -> Compiler | None:
    """Ask a candidate for its version; None when it does not run."""
    try:
        answer = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=120, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    version = answer.stdout.splitlines()[0] if answer.stdout else "unknown"
    kind = "zig" if "ziglang" in command else "clang" if "clang" in version else "gcc"
    return Compiler(command, kind, version)


cpu_identity = cache.cpu_identity


def _compile(words: Sequence[str], sources: Sequence[str], output: Path) -> None:
    """Compile one unit straight into a library; several to objects side by side, then link them."""
    with tempfile.TemporaryDirectory(prefix="flambeau-build-") as folder:
        if len(sources) == 1:
            _wait(_start([*words, "-shared", "-o", str(output)], sources[0], folder, "unit0"))
            return
        objects = [str(Path(folder) / f"unit{number}.o") for number in range(len(sources))]
        running = [
            _start([*words, "-c", "-o", target], source, folder, f"unit{number}")
            for number, (source, target) in enumerate(zip(sources, objects, strict=True))
        ]
        for job in running:
            _wait(job)
        link = [*words, "-shared", "-o", str(output), *objects]
        answer = subprocess.run(link, capture_output=True, text=True)
        if answer.returncode:
            raise CompileError(link, answer.stdout + answer.stderr, "")


_Job = tuple[Sequence[str], str, "subprocess.Popen[str]"]


def _start(words: Sequence[str], source: str, folder: str, name: str) -> _Job:
    file = Path(folder) / f"{name}.cpp"
    file.write_text(source)
    command = [*words, str(file)]
    return command, source, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _wait(job: _Job) -> None:
    command, source, process = job
    output = process.communicate()[0]
    if process.returncode:
        raise CompileError(command, output, source)

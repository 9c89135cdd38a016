"""Caches that fail, compilers that fail, builds cut short, forks, threads and backends that raise: never a wrong number."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import flambeau as fl

PROGRAM = """
    import warnings
    import flambeau as fl
    x = fl.arange(12.0).view(3, 4)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        f = fl.compile(lambda x: fl.nn.functional.softmax(x * 2, 1).sum(0))
        g = fl.compile(lambda x: (x + 1) * x)
        assert fl.allclose(f(x), fl.nn.functional.softmax(x * 2, 1).sum(0)), f(x)
        assert fl.equal(g(x), (x + 1) * x)
    for w in said:
        print(type(w.message).__name__, w.message)
    print("right")
"""


def start(program: str = PROGRAM, **environment: str) -> subprocess.Popen[str]:
    """A Python of its own with these environment variables."""
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], env=os.environ | environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(program: str = PROGRAM, **environment: str) -> str:
    """What a program prints; it must end well."""
    process = start(program, **environment)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return printed


def libraries(folder: Path) -> list[Path]:
    """The compiled libraries in a cache."""
    return sorted(folder.glob("*/*.so"))


# ---- the cache ----------------------------------------------------------------------------------------------------


def test_a_cache_that_cannot_be_made() -> None:
    printed = run(FLAMBEAU_CACHE_DIR="/proc/nowhere")
    assert printed.count("cannot be written") == 1 and printed.endswith("right\n")


def test_a_cache_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "cache"
    file.write_text("not a folder")
    assert run(FLAMBEAU_CACHE_DIR=str(file)).endswith("right\n")
    assert file.read_text() == "not a folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_may_only_be_read(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    printed = run(FLAMBEAU_CACHE_DIR=str(tmp_path))
    tmp_path.chmod(stat.S_IRWXU)
    assert "cannot be written" in printed and printed.endswith("right\n") and not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def full_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    assert run(FLAMBEAU_CACHE_DIR=str(folder)) == "right\n"
    assert len(libraries(folder)) >= 2
    return folder


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "one byte", "no sum", "wrong sum", "a folder"])
def test_damaged_entries_are_built_again(full_cache: Path, damage: str) -> None:
    intact = {path: path.read_bytes() for path in libraries(full_cache)}
    for path, data in intact.items():
        total = path.with_name(path.name + ".sum")
        if damage == "truncated":
            path.write_bytes(data[: len(data) // 2])
        elif damage == "empty":
            path.write_bytes(b"")
        elif damage == "garbage":
            path.write_bytes(b"\x00" * len(data))
        elif damage == "one byte":
            path.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
        elif damage == "no sum":
            total.unlink()
        elif damage == "wrong sum":
            total.write_bytes(b"\xff\xfe nonsense")
        else:
            path.unlink()
            path.mkdir()
    assert run(FLAMBEAU_CACHE_DIR=str(full_cache)).endswith("right\n")
    if damage == "a folder":
        for path in intact:
            if path.is_dir():
                path.rmdir()
    assert run(FLAMBEAU_CACHE_DIR=str(full_cache)) == "right\n"


def test_processes_that_compile_the_same_at_once(tmp_path: Path) -> None:
    running = [start(FLAMBEAU_CACHE_DIR=str(tmp_path)) for _ in range(3)]
    for process in running:
        printed, errors = process.communicate(timeout=120)
        assert printed == "right\n" and process.returncode == 0, errors
    assert not list(tmp_path.rglob(".building-*")) and not list(tmp_path.rglob(".writing-*"))


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.4])
def test_a_build_cut_short_leaves_a_usable_cache(tmp_path: Path, delay: float) -> None:
    process = start(FLAMBEAU_CACHE_DIR=str(tmp_path))
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob(".building-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for path in libraries(tmp_path):
        if path.name.startswith(".building-"):
            continue
        total = path.with_name(path.name + ".sum")
        assert not total.exists() or total.read_text().split()[0] == str(path.stat().st_size)
    assert run(FLAMBEAU_CACHE_DIR=str(tmp_path)) == "right\n"


# ---- the compiler -------------------------------------------------------------------------------------------------


def test_without_a_compiler(tmp_path: Path) -> None:
    printed = run(FLAMBEAU_CACHE_DIR=str(tmp_path), PATH=str(tmp_path))
    assert printed.count("no C++ compiler was found") == 1 and printed.endswith("right\n")


@pytest.mark.parametrize("body", ["exit 1", "kill -9 $$", "echo nonsense > \"$out\"", "exit 0"])
def test_a_compiler_that_fails(tmp_path: Path, body: str) -> None:
    """It says its version and then does not do its work."""
    compiler = tmp_path / "broken-cxx"
    compiler.write_text("#!/bin/sh\n"
                        'if [ "$1" = --version ]; then echo broken 1.0; exit 0; fi\n'
                        'while [ $# -gt 0 ]; do if [ "$1" = -o ]; then out="$2"; fi; shift; done\n' + body + "\n")
    compiler.chmod(0o755)
    printed = run(FLAMBEAU_CACHE_DIR=str(tmp_path / "cache"), FLAMBEAU_CXX=str(compiler))
    assert "Warning" in printed and printed.endswith("right\n"), printed


# ---- forks and threads --------------------------------------------------------------------------------------------


def test_a_child_runs_compiled_code(tmp_path: Path) -> None:
    printed = run("""
        import os
        import flambeau as fl
        x = fl.randn(400, 500)
        f = fl.compile(lambda x: (x.sin() + 1).sum(0))
        g = fl.compile(lambda x: (x * 3).sum(1))
        want = f(x)
        pid = os.fork()
        if pid == 0:
            same = fl.equal(f(x), want) and fl.allclose(g(x), (x * 3).sum(1), atol=1e-3)
            os._exit(0 if same else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert fl.equal(f(x), want)
        print("right")
    """)
    assert printed == "right\n"


@pytest.mark.parametrize("backend", ["cpp", "numpy"])
def test_threads_that_call_one_function(backend: str) -> None:
    weight = fl.randn(64, 64)
    compiled = fl.compile(lambda x: fl.softmax(x @ weight, 1).sum(0) * x.sum(), backend=backend)
    inputs = [fl.randn(100, 64) for _ in range(4)]
    wanted = [fl.softmax(x @ weight, 1).sum(0) * x.sum() for x in inputs]
    compiled(inputs[0])
    wrong: list[Any] = []

    def work(which: int) -> None:
        for _ in range(50):
            found = compiled(inputs[which])
            if not fl.allclose(found, wanted[which], rtol=1e-3, atol=1e-3):
                wrong.append(which)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_threads_that_compile_at_once() -> None:
    compiled = fl.compile(lambda x: (x * 5).cos() + x.shape[0])
    found: dict[int, Any] = {}
    threads = [threading.Thread(target=lambda n=n: found.__setitem__(n, compiled(fl.ones(n)))) for n in (3, 4, 5, 6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(fl.allclose(found[n], (fl.ones(n) * 5).cos() + n) for n in (3, 4, 5, 6))


# ---- backends of users --------------------------------------------------------------------------------------------


def test_a_backend_that_raises_when_it_runs() -> None:
    calls = []

    def backend(graph: Any, examples: Any) -> Any:
        def broken(*inputs: Any) -> Any:
            calls.append(1)
            if len(calls) == 1:
                raise ZeroDivisionError("the backend is broken")
            return graph(*inputs)
        return broken

    compiled = fl.compile(lambda x: x + 1, backend=backend)
    with pytest.warns(UserWarning, match="ran eagerly: its compiled graph raised ZeroDivisionError: the backend is broken"):
        assert compiled(fl.ones(2)).tolist() == [2, 2]
    assert compiled(fl.ones(2)).tolist() == [2, 2]


def test_a_backend_that_raises_when_it_compiles() -> None:
    def backend(graph: Any, examples: Any) -> Any:
        raise ValueError("cannot do this")

    compiled = fl.compile(lambda x: x + 1, backend=backend)
    with pytest.warns(UserWarning, match="runs eagerly: ValueError: cannot do this"):
        assert compiled(fl.ones(2)).tolist() == [2, 2]
    with pytest.raises(ValueError, match="cannot do this"):
        fl.compile(lambda x: x + 1, backend=backend, fullgraph=True)(fl.ones(2))

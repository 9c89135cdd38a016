"""Building and caching: content keys, damage, locks, unwritable folders, missing and failing compilers."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import warnings

import pytest

from flambeau.codegen import build, cache

needs_compiler = pytest.mark.skipif(build.find_compiler() is None, reason="no C++ compiler")
SOURCE = 'extern "C" int answer() { return 42; }\n'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FLAMBEAU_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_private_root", None)
    return tmp_path / "cache"


def answer(path):
    return ctypes.CDLL(str(path)).answer()


@needs_compiler
def test_a_library_is_built_once(monkeypatch):
    first = build.build([SOURCE])
    assert answer(first) == 42
    monkeypatch.setattr(build, "_compile", lambda *_: pytest.fail("compiled again"))
    assert build.build([SOURCE]) == first


@needs_compiler
def test_several_units_make_one_library():
    path = build.build(["int half();\n" + SOURCE.replace("42", "2 * half()"), "int half() { return 21; }\n"])
    assert answer(path) == 42


@needs_compiler
def test_source_and_flags_change_the_key():
    paths = {build.build([SOURCE]), build.build([SOURCE.replace("42", "43")]), build.build([SOURCE], ["-DX=1"])}
    assert len(paths) == 3


def test_parts_of_a_key_keep_their_boundaries():
    assert cache.key_of("ab", "c") != cache.key_of("a", "bc")
    assert cache.key_of("a", "") != cache.key_of("a")


@needs_compiler
@pytest.mark.parametrize("damage", [b"", b"garbage", None], ids=["empty", "garbage", "truncated"])
def test_a_damaged_entry_is_built_again(damage):
    path = build.build([SOURCE])
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert not cache.intact(path)
    again = build.build([SOURCE])
    assert again.read_bytes() == whole and answer(again) == 42


@needs_compiler
def test_a_missing_or_broken_checksum_means_damage():
    path = build.build([SOURCE])
    path.with_name(path.name + ".sum").write_bytes(b"\xff\xfe")
    assert not cache.intact(path)
    assert cache.intact(build.build([SOURCE]))


@needs_compiler
def test_a_source_that_does_not_compile_leaves_nothing(folder):
    with pytest.raises(build.CompileError, match="nonsense") as caught:
        build.build(["nonsense;"])
    assert caught.value.source == "nonsense;"
    assert [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"] == []


def test_a_build_that_fails_leaves_nothing(folder):
    def fail(path):
        path.write_text("half an artifact")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        cache.fetch("ab12", ".so", fail)
    assert [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"] == []


def test_an_unwritable_cache_is_replaced_with_one_warning(folder):
    folder.write_text("a file where the folder should be")
    with pytest.warns(RuntimeWarning, match="FLAMBEAU_CACHE_DIR"):
        first = cache.fetch("ab12", ".txt", lambda path: path.write_text("made"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = cache.fetch("cd34", ".txt", lambda path: path.write_text("made too"))
    assert first.read_text() == "made" and second.read_text() == "made too"
    assert folder.read_text() == "a file where the folder should be"


def test_two_threads_build_an_entry_once():
    runs, results = [], []
    gate = threading.Barrier(2)

    def make(path):
        runs.append(1)
        path.write_text("made")

    def want():
        gate.wait()
        results.append(cache.fetch("ab12", ".txt", make))

    threads = [threading.Thread(target=want) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(runs) == 1 and len(set(results)) == 1


def test_entries_are_listed_and_cleared():
    made = [cache.fetch(key, ".txt", lambda path: path.write_text("made")) for key in ("ab12", "cd34")]
    assert cache.entries() == sorted(made)
    assert cache.clear() == 2
    assert cache.entries() == [] and not any(path.exists() for path in made)


def test_where_the_cache_lives(monkeypatch, tmp_path):
    monkeypatch.delenv("FLAMBEAU_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.root() == tmp_path / "flambeau"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.root() == tmp_path / "home" / ".cache" / "flambeau"


def test_without_a_compiler_nothing_is_built(monkeypatch):
    monkeypatch.setenv("FLAMBEAU_CXX", "none")
    assert build.build([SOURCE]) is None
    monkeypatch.setenv("FLAMBEAU_CXX", "/no/such/compiler")
    assert build.build([SOURCE]) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@needs_compiler
def test_a_forked_child_computes_with_one_thread():
    code = """
import os, sys, numpy as np, flambeau
from flambeau.runtime import kernels, native
native.set_num_threads(2)
a = np.random.default_rng(0).standard_normal((300, 300)).astype("f")
before = kernels.matmul(a, a)
child = os.fork()
if child == 0:
    same = (kernels.matmul(a, a) == before).all() and native.get_num_threads() == 1
    native.set_num_threads(2)
    os._exit(0 if same and (kernels.matmul(a, a) == before).all() else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = {k: v for k, v in os.environ.items() if k != "FLAMBEAU_CACHE_DIR"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr


@needs_compiler
def test_threads_that_call_at_once_get_right_answers():
    code = """
import threading, numpy as np, flambeau
from flambeau.runtime import kernels, native
native.set_num_threads(2)
a = np.random.default_rng(0).standard_normal((120, 130)).astype("f")
expected = kernels.matmul(a, a.T)
wrong = []
def work():
    for _ in range(200):
        if not (kernels.matmul(a, a.T) == expected).all():
            wrong.append(1)
workers = [threading.Thread(target=work) for _ in range(4)]
[w.start() for w in workers]; [w.join() for w in workers]
assert not wrong
"""
    environment = {k: v for k, v in os.environ.items() if k != "FLAMBEAU_CACHE_DIR"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr


def test_the_number_of_threads_is_at_least_one():
    from flambeau.runtime import native

    with pytest.raises(RuntimeError, match="positive"):
        native.set_num_threads(0)


def test_the_folder_keeps_to_a_size_and_what_was_used_last_stays(folder, monkeypatch):
    made = [cache.fetch(f"{k}{k}12", ".txt", lambda path: path.write_bytes(bytes(1 << 19))) for k in "abcd"]
    week = 7 * 86400
    for age, path in zip((4, 3, 2, 1), made):
        total = path.with_name(path.name + ".sum")
        stat = total.stat()
        os.utime(total, (stat.st_atime, stat.st_mtime - age * week))
    half_written = made[0].parent / ".building-left.txt"
    half_written.write_text("half")
    os.utime(half_written, (0, 0))
    assert cache.find("aa12", ".txt") == made[0]                  # used: it is young again
    monkeypatch.setenv("FLAMBEAU_CACHE_MB", "1")
    cache.update("ee12", ".bin", lambda old: b"x")
    assert [path.exists() for path in made] == [True] * 4         # trimmed within the day
    os.utime(folder / "trimmed", (0, 0))
    cache.update("ee12", ".bin", lambda old: b"y")
    assert [path.exists() for path in made] == [True, False, False, False]
    assert not half_written.exists() and cache.read("ee12", ".bin") == b"y"
    assert cache.find("bb12", ".txt") is None
    assert cache.fetch("bb12", ".txt", lambda path: path.write_text("again")).read_text() == "again"


@pytest.mark.parametrize("limit", ["0", "none"])
def test_a_limit_that_makes_no_sense_breaks_nothing(folder, limit, monkeypatch):
    monkeypatch.setenv("FLAMBEAU_CACHE_MB", limit)
    assert cache.fetch("ab12", ".txt", lambda path: path.write_text("made")).read_text() == "made"

"""Hand-written kernels through Triton's compiler with no GPU and no torch: stages, determinism, lines, errors."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

from gpu.hand_kernels import gelu_add, matmul_bias_relu, row_sum, softmax  # noqa: E402

from flambeau.codegen.triton_build import LoweredKernel, TritonSource, TritonUnavailable, lower  # noqa: E402

TARGETS = {"cuda:80": "ptx", "cuda:90": "ptx", "hip:gfx942": "amdgcn"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAMBEAU_CACHE_DIR", str(tmp_path))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kernel", [gelu_add("bf16"), softmax(), row_sum("fp16")], ids=lambda kernel: kernel.name)
def test_every_stage_is_there_and_names_the_users_line(kernel: TritonSource, target: str) -> None:
    lowered = lower(kernel, target)
    assert list(lowered.stages) == ["ttir", "ttgir", "llir", TARGETS[target]]
    lines = set(re.findall(r"# (model\.py:\d+)", kernel.source))
    for stage, text in lowered.stages.items():
        assert any(line in text for line in lines), f"no line of the user in {stage}"
    assert set(re.findall(r"model\.py:\d+", lowered.stages["ttir"])) == lines
    assert lowered.binary[:4] == b"\x7fELF"
    assert lowered.params == kernel.runtime_types


@pytest.mark.slow
def test_matmul_uses_tensor_cores() -> None:
    kernel = matmul_bias_relu("bf16", tile=(128, 128, 64), warps=8)
    assert "wgmma.mma_async" in ptx(kernel, "cuda:90")
    assert "mma.sync" in ptx(kernel, "cuda:80")
    assert "v_mfma_" in lower(kernel, "hip:gfx942").stages["amdgcn"]


def test_the_divisibility_hint_makes_vector_loads() -> None:
    hinted = gelu_add()
    plain = TritonSource(hinted.name, hinted.source, hinted.signature, hinted.constants)
    assert "ld.global.v4" in ptx(hinted, "cuda:80")
    assert "ld.global.v4" not in ptx(plain, "cuda:80")


def ptx(kernel: TritonSource, target: str) -> str:
    return lower(kernel, target).stages["ptx"]


def test_the_binary_takes_the_arguments_and_two_scratch_pointers() -> None:
    entry = re.search(r"\.entry gelu_add\((.*?)\)", ptx(gelu_add(), "cuda:90"), flags=re.DOTALL)
    assert entry
    parameters = re.findall(r"\.param \.(\w+)", entry.group(1))
    assert parameters == ["u64", "u64", "u64", "u32", "u64", "u64"]


@pytest.mark.slow
def test_two_processes_in_two_places_print_the_same_text(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "bb"
    texts = [printed_in(folder) for folder in (first, second)]
    assert texts[0] == texts[1]
    assert str(tmp_path) not in texts[0]
    assert sys.prefix not in texts[0]


def printed_in(folder: Path) -> str:
    folder.mkdir()
    script = """
from flambeau.codegen.triton_build import lower
from gpu.hand_kernels import softmax
for target in ("cuda:90", "hip:gfx942"):
    for stage, text in lower(softmax(), target).stages.items():
        print(stage, text)
import sys
assert "torch" not in sys.modules
"""
    tests = str(Path(__file__).parent.parent)
    environment = {"PYTHONPATH": tests, "FLAMBEAU_CACHE_DIR": str(folder), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_warm_cache_answers_with_the_same_kernel() -> None:
    first = lower(softmax(), "cuda:80")
    assert lower(softmax(), "cuda:80") == first
    assert isinstance(first, LoweredKernel)


def test_an_unwritable_cache_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("FLAMBEAU_CACHE_DIR", str(blocked))
    assert lower(softmax(), "cuda:80").binary


def test_unknown_targets_are_refused() -> None:
    for target in ("cuda", "cuda:sm_90", "hip:942", "tpu:5"):
        with pytest.raises(ValueError, match=f"unknown GPU target '{target}'"):
            lower(softmax(), target)


def test_a_kernel_that_triton_refuses_is_quoted() -> None:
    good = softmax()
    bad = TritonSource("softmax", good.source.replace("tl.exp(x", "tl.exp(unknown"), good.signature, good.constants)
    with pytest.raises(Exception, match="unknown is not defined"):
        lower(bad, "cuda:80")


def test_a_source_states_its_constants_and_alignment_truly() -> None:
    good = softmax()
    with pytest.raises(ValueError, match="constexpr parameters"):
        TritonSource("softmax", good.source, good.signature, {})
    with pytest.raises(ValueError, match="not all runtime parameters"):
        TritonSource("softmax", good.source, good.signature, good.constants, frozenset({"BLOCK"}))


def test_without_triton_the_error_names_the_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(TritonUnavailable, match=r"pip install 'flambeau\[gpu\]'"):
        lower(softmax(), "cuda:80")

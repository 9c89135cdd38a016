"""`flambeau dump` and `flambeau explain` on files that the package has never seen."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from imports import ROOT

from flambeau.cli import dump, subject
from flambeau.ir.stage import Stage

FILE = """\
import torch
import torch.nn.functional as F
from torch import nn


def block(x, bias):
    y = x + bias
    return F.softmax(F.gelu(y), dim=-1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x):
        return torch.tanh(self.linear(x)).sum()


net = nn.Linear(8, 4)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)


def step(x, target):
    optimizer.zero_grad()
    loss = F.cross_entropy(net(x), target)
    loss.backward()
    optimizer.step()
    return loss


def written(x):
    x.mul_(2)
    return x.t()


class Sized(nn.Module):
    def __init__(self, size):
        super().__init__()


def example_inputs():
    return torch.randn(6, 8), torch.randn(8)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(FILE)
    return tmp_path


def flambeau(folder: Path, *words: str, seed: int = 0) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with its own order of sets and dicts of hashes."""
    return subprocess.run([sys.executable, "-m", "flambeau", *words], capture_output=True, text=True, cwd=folder,
                          timeout=120, env=os.environ | {"PYTHONHASHSEED": str(seed)})


def headings(text: str) -> list[str]:
    return re.findall(r"^======== (\S+)", text, re.MULTILINE)


def test_prints_every_cpu_stage_of_a_function(folder: Path) -> None:
    done = flambeau(folder, "dump", "net.py:block")
    assert done.returncode == 0, done.stderr
    kinds = {name.partition("/")[0] for name in headings(done.stdout)}
    assert kinds == {"guards", "graph", "functional", "joint", "forward", "backward", "loops", "schedule", "plan", "cpp", "numpy"}
    assert "net.py:7" in done.stdout and "net.py:8" in done.stdout


@pytest.mark.parametrize("words", [["net.py:Net", "--input", "6x8:f32"], ["net.py:block", "--stage", "all"]], ids=" ".join)
def test_prints_the_same_whatever_the_order_of_sets(folder: Path, words: list[str]) -> None:
    first, second = (flambeau(folder, "dump", *words, seed=seed).stdout for seed in (1, 77))
    assert first == second and "backward" in first


@pytest.mark.slow
def test_the_demo_prints_the_same_and_its_kernels_name_its_lines() -> None:
    first, second = (flambeau(ROOT, "dump", "examples/digits/model.py:Net", "--stage", "all", seed=s) for s in (1, 77))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    lines = first.stdout.splitlines()
    nests = [line for line in lines if line.startswith("with kernel(")]
    assert len(nests) > 10 and all("model.py:" in line for line in nests)
    written = {f"static void {line.split(chr(39))[1]}(" for line in nests}
    kernels = [at for at, line in enumerate(lines) if line.startswith(tuple(written))]
    assert len(kernels) >= len(written)
    for at in kernels:
        assert lines[at - 1].startswith("// model.py:"), lines[at]


def test_chosen_stages_in_their_order(folder: Path) -> None:
    done = flambeau(folder, "dump", "net.py:block", "--stage", "cpp", "--stage", "graph", "--no-grad")
    assert done.returncode == 0, done.stderr
    assert headings(done.stdout) == ["graph", "cpp"]


def test_diff_shows_what_a_pass_changed(folder: Path) -> None:
    done = flambeau(folder, "dump", "net.py:block", "--stage", "joint", "--diff")
    assert done.returncode == 0, done.stderr
    assert "(against functional)" in done.stdout
    assert re.search(r"^\+ ", done.stdout, re.MULTILINE)


def test_a_training_step_is_one_graph(folder: Path) -> None:
    done = flambeau(folder, "dump", "net.py:step", "--input", "4x8:f32", "--input", "4:i64<4", "--target", "numpy")
    assert done.returncode == 0, done.stderr
    assert headings(done.stdout) == "guards graph functional gradients forward loops schedule plan numpy".split()


def test_an_input_may_be_written_to_and_sizes_be_symbols(folder: Path) -> None:
    done = flambeau(folder, "dump", "net.py:written", "--input", "4x8:f32", "--dynamic", "--target", "numpy")
    assert done.returncode == 0, done.stderr
    assert "joint" in headings(done.stdout) and "x: f32[s0, s1" in done.stdout


def test_a_stage_that_is_not_there_is_named_with_those_that_are(folder: Path) -> None:
    done = flambeau(folder, "dump", "net.py:block", "--stage", "graph", "--stage", "ptx")
    assert done.returncode == 1 and headings(done.stdout) == ["graph"]
    assert "no stage ptx for target cpu" in done.stderr and "functional" in done.stderr


def test_a_backend_is_a_target(folder: Path) -> None:
    done = flambeau(folder, "dump", "net.py:block", "--target", "numpy")
    assert done.returncode == 0, done.stderr
    assert "numpy/backward" in headings(done.stdout) and "cpp" not in done.stdout


def test_explain_counts_graphs_and_names_the_break(folder: Path) -> None:
    (folder / "broken.py").write_text("def f(x):\n    y = x + 1\n    print('hello')\n    return y * 2\n")
    done = flambeau(folder, "explain", "broken.py:f", "--input", "4:f32")
    assert done.returncode == 0, done.stderr
    assert "broken.py:3" in done.stdout
    listed = [line for part in re.findall(r"^Guards of graph \d+:\n((?:    .*\n?)+)", done.stdout, re.MULTILINE)
              for line in part.splitlines()]
    assert listed and f" {len(listed)} guards," in done.stdout


@pytest.mark.parametrize(("words", "message"), [
    (["nope.py:f"], "no such file"),
    (["net.py"], "expected FILE.py:NAME"),
    (["net.py:nope"], "it defines block, Net"),
    (["net.py:Sized"], "constructed without arguments"),
    (["net.py:block", "--input", "8by4:f32"], "expected SHAPE:DTYPE"),
    (["net.py:block", "--input", "8x4:f31"], "unknown dtype 'f31'"),
    (["net.py:block", "--target", "tpu"], "expected cpu, cuda:90"),
])
def test_bad_subjects_are_named(folder: Path, words: list[str], message: str) -> None:
    done = flambeau(folder, "dump", *words)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_no_inputs_to_be_had(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text("def f(x): return x\n")
    done = flambeau(tmp_path, "dump", "f.py:f")
    assert done.returncode == 2 and "example_inputs()" in done.stderr


@pytest.mark.parametrize(("spec", "shape", "dtype"), [
    ("8x128:f32", (8, 128), "torch.float32"), ("5:bf16", (5,), "torch.bfloat16"), (":f64", (), "torch.float64"),
    ("3x2:i64<7", (3, 2), "torch.int64"), ("4:b8", (4,), "torch.bool"), ("2x0:float16", (2, 0), "torch.float16")])
def test_input_specs(spec: str, shape: tuple[int, ...], dtype: str) -> None:
    made = subject.parse_input(spec)
    assert (tuple(made.shape), str(made.dtype)) == (shape, dtype)


def test_integer_inputs_stay_below_their_bound() -> None:
    values = subject.parse_input("1000:i64<3")
    assert set(values.tolist()) == {0, 1, 2}


@pytest.mark.parametrize(("text", "value"), [("3", 3), ("-1.5", -1.5), ("True", True), ("None", None), ("[1]", [1])])
def test_literal_inputs(text: str, value: object) -> None:
    assert subject.parse_input(text) == value


def test_render_diffs_against_the_stage_it_was_made_from() -> None:
    stages = [Stage("graph", "a\nb\n", 0.0), Stage("functional", "a\nc\n", 0.0), Stage("plan", "p\n", 0.0)]
    lines = list(dump.render(stages, stages[1:], diff=True))
    assert lines[0] == "======== functional (against graph)"
    assert "-b" in lines and "+c" in lines and " a" in lines
    assert lines[-3:] == ["======== plan", "p", ""]


def test_stages_of_the_same_name_are_told_apart() -> None:
    def named(*names: str) -> list[str]:
        return [stage.name for stage in dump.label([Stage(name, "", 0.0) for name in names])]

    assert named("graph", "loops", "plan") == ["graph", "loops", "plan"]
    assert named("graph", "loops", "plan", "loops", "plan") == [
        "graph", "loops/forward", "plan/forward", "loops/backward", "plan/backward"]
    assert named("graph", "loops", "graph", "loops") == ["graph/1", "loops/1", "graph/2", "loops/2"]

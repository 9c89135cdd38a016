"""What the documents say is so: their excerpts are what the compiler prints, their examples run, what they name exists."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from imports import ROOT

from flambeau.cli import dump, subject
from flambeau.codegen.build import find_compiler
from flambeau.passes.manager import run_pass

PAGES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))
CONTROL_FLOW = "docs/control-flow.md"  # has an example of its own
INPUTS = ["8x128:f32", "128:f32"]


def fences(page: str) -> list[tuple[str, str, str]]:
    """The (language, stage, text) of each code block; the stage stands behind the language of an excerpt."""
    return re.findall(r"^```(\w*) ?(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def excerpts() -> list[tuple[str, str, str]]:
    return [(page, stage, text) for page in PAGES if page != CONTROL_FLOW for _, stage, text in fences(page) if stage]


def example(page: str, beginning: str) -> str:
    found = [text for language, stage, text in fences(page) if language == "python" and not stage and text.startswith(beginning)]
    assert len(found) == 1, f"{page} has {len(found)} blocks that begin with {beginning!r}"
    return found[0]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The stages of the README's example, compiled for inference, by name."""
    file = tmp_path_factory.mktemp("documents") / "gelu.py"
    file.write_text(example("README.md", "# gelu.py"))
    chosen = subject.load(f"{file}:block", INPUTS)
    found = dump.collect(chosen, ["cpp"], "cpu", gradients=False)
    if any(stage == "triton" for _, stage, _ in excerpts()) and _has_triton():
        found += [s for s in dump.collect(chosen, ["triton"], "cuda:90", gradients=False) if s.name == "triton"]
    return {stage.name: stage.text for stage in found}


def _has_triton() -> bool:
    return find_spec("triton") is not None


def test_there_are_excerpts_of_every_stage() -> None:
    assert {stage for _, stage, _ in excerpts()} >= {"graph", "forward", "loops", "schedule", "plan", "cpp", "triton"}


def assert_in_order(parts: list[str], text: str, where: str) -> None:
    at = 0
    for part in parts:
        found = text.find(part, at)
        assert found >= 0, f"{where} does not go on with\n{part}\nbut is\n{text}"
        at = found + len(part)


def test_the_branch_that_control_flow_follows(tmp_path: Path) -> None:
    file = tmp_path / "decay.py"
    file.write_text(example(CONTROL_FLOW, "# decay.py"))
    chosen = subject.load(f"{file}:decay", ["8:f32"] * 2)
    stages = {s.name: s.text for s in dump.collect(chosen, ["numpy"], "cpu", gradients=True)}
    shown = [(stage, text) for _, stage, text in fences(CONTROL_FLOW) if stage]
    assert [stage for stage, _ in shown] == ["graph", "joint", "plan"]
    for stage, text in shown:
        printed = stages[stage] if stage in stages else stages[f"{stage}/forward"]
        assert_in_order(re.split(r"^ *\.\.\.\n", text.rstrip("\n"), flags=re.MULTILINE), printed, f"{CONTROL_FLOW}: {stage}")


def test_the_per_sample_gradients_of_control_flow(capsys: pytest.CaptureFixture[str]) -> None:
    exec(example(CONTROL_FLOW, "import flambeau"), {})  # noqa: S102 - the page's own example
    assert capsys.readouterr().out == "{'weight': (16, 1, 4), 'bias': (16, 1)}\n"


@pytest.mark.parametrize(("page", "stage", "text"), [pytest.param(*e, id=f"{e[0]}-{e[1]}") for e in excerpts()])
def test_excerpts_are_what_is_printed(page: str, stage: str, text: str, printed: dict[str, str]) -> None:
    if (stage == "triton" and not _has_triton()) or (stage == "cpp" and find_compiler() is None):
        pytest.skip(f"nothing here makes {stage}")
    at = 0
    for part in re.split(r"^ *\.\.\.\n", text, flags=re.MULTILINE):
        found = printed[stage].find(part, at)
        assert found >= 0, f"{page}: the stage {stage} does not go on with\n{part}\nbut is\n{printed[stage]}"
        at = found + len(part)


def test_the_stages_that_the_readme_lists_are_those_of_a_compile(printed: dict[str, str]) -> None:
    listed = re.search(r"The stages are `([\w ]+)`, then the code: `(\w+)`", (ROOT / "README.md").read_text())
    assert listed is not None
    order = [*listed[1].split(), listed[2]]
    assert [name for name in order if name in printed] == [name for name in printed if name != "triton"]
    assert set(order) - set(printed) == {"joint", "backward"}  # not without gradients


def test_lines_of_stages_that_are_quoted_in_running_text_are_printed(printed: dict[str, str]) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("## Read a dump")[2]
    quoted = [q for q in re.findall(r"`([^`\n]{15,})`", text) if re.match(r"\w+: f32|\w+\[|'\d", q)]
    assert len(quoted) == 3
    for quote in quoted:
        assert any(quote in stage for stage in printed.values()), quote


def test_the_op_that_the_architecture_shows_is_in_the_source() -> None:
    shown = example("docs/architecture.md", "mul = ")
    assert any(shown in path.read_text() for path in (ROOT / "ir" / "ops").glob("*.py"))


def test_the_op_that_contributing_adds_has_all_its_uses(tmp_path: Path) -> None:
    """In a process of its own: the registry is not to be taken back."""
    program = tmp_path / "program.py"
    program.write_text(f"""\
import numpy as np
import flambeau as fl
from flambeau.ir.family import Scalar, pointwise
from flambeau.ir.samples import unary
from flambeau.ir.tensorlike import attach_methods
{example("CONTRIBUTING.md", "squareplus = ")}
attach_methods()   # which ir/ops does after the last op

def loss(x):
    return fl.squareplus(x).sum()

x = fl.linspace(-3, 3, 7, dtype=fl.float64).requires_grad_()
assert fl.autograd.gradcheck(fl.squareplus, x) and fl.autograd.gradgradcheck(fl.squareplus, x)
assert fl.arange(3).squareplus().dtype is fl.float32 and fl.zeros(2).squareplus_().tolist() == [1, 1]
wanted, = fl.autograd.grad(loss(x), x)
for backend, options in (("numpy", None), ("cpp", None), *([("triton", {{"interpret": True}})] if {_has_triton()} else [])):
    found, = fl.autograd.grad(fl.compile(loss, backend=backend, options=options)(x), x)
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-12)
""")
    done = subprocess.run([sys.executable, "-W", "error", str(program)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_pass_that_contributing_tests() -> None:
    block = example("CONTRIBUTING.md", "from flambeau.passes.manager import run_pass")
    names: dict[str, object] = {"run_pass": run_pass}
    exec(block, names)  # noqa: S102 - the page's own example
    assert str(names["found"]) == "def forward(x: f32[3, 4]):\n    b: f32[3, 4] = ops.exp(x)\n    return (b,)\n"


def test_the_table_of_tests_names_every_folder() -> None:
    rows = re.findall(r"^\| (`tests/.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`tests/(\w+)`", row)}
    there = {path.parent.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").glob("*/*.py")}
    assert named == there


@pytest.mark.parametrize("page", PAGES)
def test_files_and_folders_that_are_named_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    folders = "ir|runtime|passes|codegen|frontend|tests|benchmarks|examples|docs|scripts"
    named = set(re.findall(rf"`((?:{folders})/[\w./-]*)`", text)) | set(re.findall(r"\b(docs/\w+\.md|[A-Z]+\.md)\b", text))
    absent = {"tests/triton", "benchmarks/results/gpu.json"}  # named for not being there
    assert len(named) >= 1
    for name in named - absent:
        assert (ROOT / name).exists(), f"{page} names {name}"


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_that_are_named_exist(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", (ROOT / page).read_text(), re.MULTILINE)):
        assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE), f"{page} names make {target}"


"""`flambeau dump FILE.py:NAME`: print the stages of compiling one call, from the graph to the target's code."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import flambeau
from flambeau.cli import subject
from flambeau.frontend.compile import original_of
from flambeau.ir.stage import Stage, record_stages
from flambeau.ir.tree import leaves, tree_map

# With --diff a stage is shown against the one it was made from.
_MADE_FROM = {"functional": "graph", "joint": "functional", "forward": "joint", "schedule": "loops"}
_WITH_GRADIENTS = {"joint", "forward", "backward", "all"}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "dump", help="print the stages of compiling a function or Module",
        description="Compiles one call (and its backward, where something requires a gradient) and prints the stages. "
                    "A GPU target needs no GPU: the code is generated and lowered, not run.")
    subject.add_arguments(parser)
    parser.add_argument("--target", default="cpu", metavar="cpu|cuda:90|hip:gfx942",
                        help="cpu (the default) shows C++ and NumPy; or the name of a compile backend")
    parser.add_argument("--stage", action="append", metavar="NAME",
                        help="a stage as the headings name it (graph, loops, cpp...); may be repeated; all is the default")
    parser.add_argument("--diff", action="store_true", help="show a stage as a diff to the one it was made from")
    parser.add_argument("--no-grad", action="store_true", help="compile for inference: no joint graph, no backward")
    parser.add_argument("--dynamic", action="store_true", help="compile for any sizes: symbols in place of those given")
    parser.set_defaults(handler=_handle)


def _handle(args: argparse.Namespace) -> int:
    wanted = set(args.stage or ["all"])
    try:
        chosen = subject.load(args.subject, args.input)
        gradients = not args.no_grad and (chosen.has_parameters or bool(wanted & _WITH_GRADIENTS))
        stages = collect(chosen, backends_for(args.target, wanted), args.target, gradients, args.dynamic)
    except subject.BadSubject as error:
        print(f"flambeau dump: {error}", file=sys.stderr)
        return 2
    shown = [stage for stage in stages if kind_of(stage) in wanted or "all" in wanted]
    for line in render(stages, shown, args.diff):
        print(line)
    kinds = list(dict.fromkeys(kind_of(stage) for stage in stages))
    missing = sorted(wanted - {"all", *kinds})
    if missing:
        print(f"flambeau dump: no stage {', '.join(missing)} for target {args.target}"
              + ("" if gradients else " without gradients") + f"; there are {', '.join(kinds)}", file=sys.stderr)
        return 1
    return 0


def backends_for(target: str, wanted: set[str]) -> list[str]:
    """The compile backends that make the wanted stages of a target.

    Raises:
        BadSubject: an unknown target.
    """
    kind, _, arch = target.partition(":")
    if kind in ("cuda", "hip") and arch:
        return ["triton"]
    if target in flambeau.compiler.list_backends():
        return [target]
    if target != "cpu":
        raise subject.BadSubject(f"--target {target}: expected cpu, cuda:90, hip:gfx942 or the name of a backend")
    if wanted == {"numpy"}:
        return ["numpy"]
    return ["cpp", "numpy"] if wanted & {"numpy", "all"} else ["cpp"]


def collect(chosen: subject.Subject, backends: Iterable[str], target: str, gradients: bool, dynamic: bool = False) -> list[Stage]:
    """Compile once per backend and return the stages in order; a later backend adds only its own code."""
    found: list[Stage] = []
    for backend in backends:
        flambeau.compiler.reset()
        with record_stages() as stages:
            _compile_and_run(chosen, backend, target, gradients, dynamic)
        found += [stage for stage in label(stages) if not found or kind_of(stage) == backend]
    return found


def label(stages: list[Stage]) -> list[Stage]:
    """Tell stages of the same name apart: "loops/forward" and "loops/backward"; numbered if there are several graphs."""
    total = Counter(stage.name for stage in stages)
    seen: Counter[str] = Counter()
    labelled = []
    for stage in stages:
        which = seen[stage.name]
        seen[stage.name] += 1
        if total[stage.name] == 2 and total["graph"] == 1:
            stage = stage._replace(name=f"{stage.name}/{('forward', 'backward')[which]}")
        elif total[stage.name] > 1:
            stage = stage._replace(name=f"{stage.name}/{which + 1}")
        labelled.append(stage)
    return labelled


def _compile_and_run(chosen: subject.Subject, backend: str, target: str, gradients: bool, dynamic: bool) -> None:
    options = {"target": target} if ":" in target else {}
    compiled = flambeau.compile(chosen.fn, backend=backend, options=options, dynamic=dynamic or None)
    if not gradients:
        with flambeau.no_grad():
            compiled(*chosen.inputs)
        return
    given: Any = chosen.inputs
    if not chosen.has_parameters and not _records(chosen):
        given = tree_map(lambda v: _asking(v) if isinstance(v, flambeau.Tensor) and v.is_floating_point() else v, given)
    for out in leaves(compiled(*given)):
        if isinstance(out, flambeau.Tensor) and out.requires_grad:
            try:
                out.backward(flambeau.ones_like(out), retain_graph=True)   # the backward is compiled when it is first run
            except RuntimeError as error:
                if "backward through the graph a second time" not in str(error):   # (the program has run it itself)
                    raise


def _asking(value: Any) -> Any:
    """A copy that asks for a gradient; it is no leaf, which could not be written to."""
    return value.detach().clone().requires_grad_().clone()


def _records(chosen: subject.Subject) -> bool:
    """Whether a function finds what asks for gradients itself: a model beside it, or in a training step."""
    given: Any = tree_map(lambda v: v.clone() if isinstance(v, flambeau.Tensor) else v, chosen.inputs)
    with contextlib.redirect_stdout(io.StringIO()):
        found = leaves(original_of(chosen.fn)(*given))
    return any(isinstance(v, flambeau.Tensor) and v.requires_grad for v in found)


def kind_of(stage: Stage) -> str:
    """The stage's name without what tells its graph: "loops/backward" is of kind "loops"."""
    return stage.name.partition("/")[0]


def render(stages: list[Stage], shown: list[Stage], diff: bool) -> Iterator[str]:
    """The lines of the report: a heading and the text of every shown stage, or its diff."""
    for stage in shown:
        source = _source_of(stage, stages) if diff else None
        yield f"======== {stage.name}" + (f" (against {source.name})" if source else "")
        if source:
            yield from difflib.unified_diff(source.text.splitlines(), stage.text.splitlines(), source.name, stage.name,
                                            n=1, lineterm="")
        else:
            yield stage.text.rstrip("\n")
        yield ""


def _source_of(stage: Stage, stages: list[Stage]) -> Stage | None:
    """The latest stage before this one of the kind that this one is made from."""
    wanted: Any = _MADE_FROM.get(kind_of(stage))
    before = stages[: stages.index(stage)]
    return next((other for other in reversed(before) if kind_of(other) == wanted), None)


def write(stages: list[Stage], folder: Path) -> None:
    """Write each stage to `folder` as NN-name.txt, numbered in the order of the compile."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, stage in enumerate(stages):
        (folder / f"{number:02}-{stage.name.replace('/', '-')}.txt").write_text(stage.text)

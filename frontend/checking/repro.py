"""Scripts of at most 30 lines that show a mismatch again, and what those scripts call."""
from __future__ import annotations

import ast
import inspect
import os
import pickle
import re
import tempfile
import textwrap
import types
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flambeau.frontend.backends import _backends, lookup
from flambeau.frontend.checking.examples import Example, differs, reference, run_example
from flambeau.frontend.checking.report import CheckError, Report
from flambeau.frontend.checking.saving import Pickler, save_call
from flambeau.frontend.checking.sizes import is_symbolic, parse_for, whole
from flambeau.frontend.checking.stages import Finding
from flambeau.frontend.checking.state import code_names, is_library
from flambeau.frontend.points import Settings
from flambeau.ir.graph import Graph, parse_graph
from flambeau.runtime.tensor import Tensor, wrap

LINES = 30          # of a script, at most
_SMALL = 24         # numbers written out in a script


def replay(graph: str | Graph, inputs: Sequence[Any], backend: str = "cpp", grad: bool = True) -> None:
    """Run a graph's text op by op and compiled, on the same inputs. Raises ``CheckError`` where they differ."""
    graph = parse_for(str(graph), [x.shape for x in inputs])
    example = Example([_tensor(x, n.meta.dtype) for x, n in zip(inputs, graph.inputs)], [n.requires_grad for n in graph.inputs])
    if any(n.op is not None and n.op.mutates for n in graph.nodes):
        example.made = list(example.needs_grad)      # a leaf that requires a gradient could not be written to
    expected = run_example(reference(graph), example, grad)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            run = whole(graph, lookup(backend))(graph, example.inputs, {}, True)
        except Exception as error:
            raise AssertionError(f"the compiler raises {type(error).__name__}: {error}") from error
        difference = differs(run, graph, example, expected, grad)
    if difference is not None:
        raise CheckError(Report(graph.name, 1, difference, graph=str(graph)))


def random_inputs(graph: str | Graph, seed: int = 0) -> list[np.ndarray]:
    """Numbers for the inputs of a graph: the same for the same seed."""
    graph = parse_graph(graph) if isinstance(graph, str) else graph
    rng = np.random.default_rng(seed)
    found = []
    for node in graph.inputs:
        shape, dtype = tuple(int(n) for n in node.meta.shape), node.meta.dtype
        values = rng.uniform(0.1, 2.0, shape) if dtype.is_floating_point or dtype.is_complex else rng.integers(0, 2, shape)
        found.append(np.asarray(values).astype(dtype.np))
    return found


def load_inputs(path: str) -> list[Tensor]:
    """The inputs saved beside a script, with the strides and aliases they had."""
    with open(path, "rb") as file:
        return pickle.load(file)


def _tensor(value: Any, dtype: Any) -> Tensor:
    found = wrap(np.array(value)) if not isinstance(value, Tensor) else value
    if found.dtype is not dtype:
        found = wrap(found._a.view(dtype.np) if found._a.dtype.itemsize == dtype.itemsize else found._a.astype(dtype.np))
        found._dtype = dtype
    return found


# --------------------------------------------------------------------------- a graph

def write_graph_repro(report: Report, finding: Finding, settings: Settings) -> str:
    """A script for a graph that is compiled wrongly; its path, or "" where compiling it anew does not show it."""
    graph, example = finding.graph, finding.example
    assert graph is not None and example is not None
    backend = next((n for n, b in _backends.items() if b is settings.backend), "cpp")
    for node, needed in zip(graph.inputs, example.needs_grad):
        node.requires_grad = node.requires_grad and needed
    text = str(graph).rstrip()
    path = _path(report, finding.op)
    given = _inputs_text(text, example.inputs, backend, path)
    if not given:
        return ""
    body = text.splitlines()
    if len(body) > LINES - 12:
        Path(path).with_suffix(".graph").write_text(text + "\n")
        shown = [f"GRAPH = open({str(Path(path).with_suffix('.graph'))!r}).read()"]
    else:
        shown = ['GRAPH = """', *body, '"""']
    title = _title(report, finding.stage, finding.op, finding.line)
    lines = [f'"""{title}"""', "import numpy as np", "", "import flambeau  # noqa: F401",
             "from flambeau.frontend.checking import load_inputs, random_inputs, replay", "", *shown, given,
             f"replay(GRAPH, inputs, backend={backend!r})", 'print("compiled and op by op agree")']
    return _write(path, lines)


def _inputs_text(text: str, inputs: list[Tensor], backend: str, path: str) -> str:
    """How the script gets its inputs: from a seed if that shows the mismatch, written out, or from a file; "" if none does."""
    alike = len({id(t._storage) for t in inputs}) == len(inputs) and all(t.is_contiguous() for t in inputs)
    for seed in range(3 if alike and not is_symbolic(text) else 0):
        if _fails(text, seed, backend):
            return f"inputs = random_inputs(GRAPH, seed={seed})"
    if not _fails(text, inputs, backend):
        return ""
    arrays = [t._a for t in inputs]
    if alike and sum(a.size for a in arrays) <= _SMALL and all(a.dtype.kind in "iub" for a in arrays):
        return f"inputs = [{', '.join(f'np.array({a.tolist()!r}, {str(a.dtype)!r})' for a in arrays)}]"
    file = str(Path(path).with_suffix(".inputs"))
    with open(file, "wb") as out:
        Pickler(out).dump(inputs)
    return f"inputs = load_inputs({file!r})"


def _fails(text: str, inputs: list[Tensor] | int, backend: str) -> bool:
    """Whether a replay shows a mismatch, on inputs or on those of a seed."""
    try:
        replay(text, random_inputs(text, inputs) if isinstance(inputs, int) else inputs, backend)
    except AssertionError:
        return True
    except Exception:                                 # values that ops refuse
        return False
    return False


# --------------------------------------------------------------------------- calls

def write_call_repro(report: Report, checker: Any, args: tuple, kwargs: dict[str, Any]) -> str:
    """A script that makes the last calls again, checked; its path, or "" with a note where the calls cannot be saved."""
    path = _path(report, report.stage)
    kept = [*checker.earlier, save_call(checker.fn, args, kwargs)]
    if isinstance(kept[-1], str):
        report.note += f"\nno repro: {kept[-1]}"
        return ""
    with open(str(Path(path).with_suffix(".calls")), "wb") as file:
        pickle.dump([k for k in kept if isinstance(k, bytes)], file)
    settings = checker.context.settings
    backend = next((n for n, b in _backends.items() if b is settings.backend), "eager")
    name, source = _source(checker.fn, path)
    lines = [f'"""{_title(report, report.stage, report.op, report.line)}"""', *_imports(checker.fn), "import flambeau",
             "from flambeau.frontend.checking import load_calls", "", "", *source, "", "",
             f"fn = flambeau.compile({name}, backend={backend!r}, dynamic={settings.dynamic}, "
             "options={'check': True})",
             f"for call in load_calls({str(Path(path).with_suffix('.calls'))!r}):", "    call.run(fn, globals())",
             'print("compiled and original agree")']
    return _write(path, lines)


def _source(fn: types.FunctionType, path: str) -> tuple[str, list[str]]:
    """(name, definition as lines) of a function; a long one from a file of its own."""
    name = fn.__name__ if fn.__name__.isidentifier() else "original"
    try:
        text = _definition(fn, textwrap.dedent(inspect.getsource(fn)))
    except (OSError, TypeError, SyntaxError):
        text = f"raise SystemExit('the source of {fn.__qualname__} is not known')"
    lines = text.rstrip().splitlines()
    free = fn.__code__.co_freevars
    if free and any(line.strip().startswith("nonlocal ") for line in lines):  # its variables are globals of the script
        lines = [line.replace("nonlocal ", "global ", 1) if line.strip().startswith("nonlocal ") else line for line in lines]
    if len(lines) <= LINES - 17:
        return name, lines
    file = str(Path(path).with_name(Path(path).stem + "_function.py"))
    Path(file).write_text("\n".join(lines) + "\n")
    return name, [f"exec(open({file!r}).read())"]


def _definition(fn: types.FunctionType, text: str) -> str:
    """The text of the function alone: without decorators, or of a lambda as an assignment."""
    wanted = list(fn.__code__.co_varnames[:fn.__code__.co_argcount])
    try:
        tree = ast.parse(text)
    except SyntaxError:                              # a line from the middle of an expression
        text = "(" + text.strip().rstrip(",") + ")"
        tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == fn.__name__:
            node.decorator_list, node.returns = [], None
            return ast.unparse(node)
        if isinstance(node, ast.Lambda) and fn.__name__ == "<lambda>" and [a.arg for a in node.args.args] == wanted:
            return f"original = {ast.unparse(node)}"
    return text


def _imports(fn: types.FunctionType) -> list[str]:
    names = sorted(code_names(fn.__code__))
    modules = {n: fn.__globals__[n].__name__ for n in names if isinstance(fn.__globals__.get(n), types.ModuleType)}
    found = [f"import {m}" if m == n else f"import {m} as {n}" for n, m in modules.items() if m != "flambeau"]
    found += [f"import flambeau as {n}" for n, m in modules.items() if m == "flambeau" and n != "flambeau"]
    for name in names:
        value = fn.__globals__.get(name)
        module = getattr(value, "__module__", None)
        if callable(value) and isinstance(module, str) and is_library(module) and getattr(value, "__name__", None) == name:
            found.append(f"from {module} import {name}")
    return found[:8]


# --------------------------------------------------------------------------- files

def _title(report: Report, stage: str, op: str, line: str) -> str:
    words = f"{report.function}: compiled differs from eager. Stage {stage}" + (f", op {op}" if op else "")
    return (words + (f", {line}" if line else "") + ".").replace('"', "'").replace("\\", "/")


def _path(report: Report, name: str) -> str:
    folder = os.environ.get("FLAMBEAU_CHECK_DIR") or tempfile.mkdtemp(prefix="flambeau-check-")
    os.makedirs(folder, exist_ok=True)
    stem = re.sub(r"\W+", "_", f"{report.function.rpartition('.')[2]}_{name}").strip("_") or "repro"
    path, k = Path(folder) / f"{stem}.py", 1
    while path.exists():
        path, k = Path(folder) / f"{stem}_{k}.py", k + 1
    return str(path)


def _write(path: str, lines: list[str]) -> str:
    Path(path).write_text("\n".join(lines) + "\n")
    return path

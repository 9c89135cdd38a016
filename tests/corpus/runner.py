"""Loading program files, running programs, comparing what they did, counting what was compiled."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import random
import re
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import given

FOLDER = Path(__file__).parent / "programs"
RECORDED = Path(__file__).parent / "dynamo.json"


# --------------------------------------------------------------------------- loading

def files() -> list[str]:
    """Names of the program files for this Python."""
    return sorted(p.stem for p in FOLDER.glob("*.py") if not p.stem.startswith("_") and _fits(p.stem))


def _fits(stem: str) -> bool:
    wanted = re.search(r"_3_(\d+)$", stem)
    return wanted is None or sys.version_info >= (3, int(wanted[1]))


def load(stem: str, torch: Any) -> dict[str, given.Program]:
    """The programs of one file, loaded anew against `torch` (flambeau, or torch itself)."""
    given.torch, given.nn, given.F = torch, torch.nn, torch.nn.functional
    name = f"{__package__}.programs.{stem}"
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{stem}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module                                    # dataclasses look their module up
    given.collected.clear()
    spec.loader.exec_module(module)
    found = {p.name: p for p in given.collected}
    assert len(found) == len(given.collected), f"two programs of {stem}.py have one name"
    return found


# --------------------------------------------------------------------------- running

@dataclass
class Counts:
    """What was compiled over all calls of a program."""

    graphs: int = 0
    compiles: int = 0
    runs: list[int] = field(default_factory=list)                 # how many graphs ran in each call
    running: int = 0

    def backend(self, compile: Callable[..., Any]) -> Callable[..., Any]:
        """A backend that counts the graphs it is given, and how often they run."""
        def counting(*given: Any) -> Any:
            self.graphs += 1
            compiled = compile(*given)

            def run(*inputs: Any) -> Any:
                self.running += 1
                return compiled(*inputs)
            return run
        return counting

    def called(self) -> None:
        """A call has ended."""
        self.runs.append(self.running)
        self.running = 0


@dataclass
class Report:
    """A program's two runs: where they differ (empty: nowhere), and what was compiled."""

    differences: list[str]
    counts: Counts
    events: str = ""


def run(program: given.Program, fn: Callable[..., Any], torch: Any, counts: Counts | None = None) -> list[Any]:
    """What each call of the program did, `fn` being its function or a compiled version of it, whose graphs `counts` counts."""
    torch.manual_seed(0)
    random.seed(0)
    outcomes: list[Any] = []
    for step in program.calls:
        if not isinstance(step, given.Call):
            step()
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore", category=UserWarning)
            try:
                result: Any = fn(*step.args, **step.kwargs)
                if program.backward:
                    _backward(result, torch)
            except Exception as error:
                cause = error.__cause__
                result = ("raised", type(error), type(cause) if cause is not None else None)
        if counts is not None:
            counts.called()
        look = _Look(torch)
        state = None if program.watch is None else program.watch()
        outcomes.append({"result": look(result), "arguments": look([step.args, step.kwargs]), "watched": look(state),
                         "printed": printed.getvalue()})
    return outcomes


def _backward(result: Any, torch: Any) -> None:
    total: Any = 0
    for t in _tensors(result, torch):
        if t.requires_grad:
            total = total + t.sum()
    total.backward()


def _tensors(value: Any, torch: Any) -> list[Any]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in _tensors(v, torch)] if isinstance(value, (list, tuple)) else []


class _Look:
    """Makes values comparable data: tensors as numbers, objects as attributes; says which are the same object."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.seen: dict[int, int] = {}
        self.keep: list[Any] = []
        self.storages: dict[int, int] = {}

    def __call__(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, range)):
            return (type(value).__name__, value)
        if isinstance(value, tuple):
            return (type(value).__name__, [self(v) for v in value])
        if id(value) in self.seen:
            return ("object", self.seen[id(value)])
        self.seen[id(value)] = len(self.seen)
        self.keep.append(value)
        if isinstance(value, self.torch.Tensor):
            return self._tensor(value)
        if isinstance(value, (set, frozenset)):
            return (type(value).__name__, sorted((self(v) for v in value), key=repr))
        if isinstance(value, dict) or type(value).__name__ == "mappingproxy":
            return (type(value).__name__, [(self(k), self(v)) for k, v in value.items()], self._own(value))
        if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)):
            return ("name", getattr(value, "__qualname__", value.__name__))
        if isinstance(value, BaseException):
            return (type(value).__name__, self(value.args), self(value.__cause__), self._own(value))
        if hasattr(value, "__next__") or isinstance(value, (list, type({}.keys()), type({}.values()), type({}.items()))) \
                or type(value).__name__ == "deque":
            return (type(value).__name__, [self(v) for v in value], self._own(value))
        return (type(value).__name__, self._own(value))

    def _own(self, value: Any) -> Any:
        """Attributes and slots."""
        space = dict(getattr(value, "__dict__", {}))
        for cls in type(value).__mro__:
            slots = cls.__dict__.get("__slots__", ())
            for name in [slots] if isinstance(slots, str) else slots:
                if name != "__dict__" and hasattr(value, name):
                    space[name] = getattr(value, name)
        return [(k, self(v)) for k, v in space.items() if isinstance(k, str) and not k.startswith(("_backward", "_flambeau"))]

    def _tensor(self, t: Any) -> Any:
        storage = None
        if t.numel():
            storage = self.storages.setdefault(t.untyped_storage().data_ptr(), len(self.storages))
        grad = self(t.grad) if t.is_leaf and t.requires_grad else None
        return ("tensor", type(t).__name__, str(t.dtype), tuple(t.shape), t.requires_grad, storage, grad,
                Numbers(t.detach().reshape(-1).tolist()))


class Numbers:
    """Elements of a tensor, compared up to rounding."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Numbers) and len(self.values) == len(other.values) and \
            all(map(_close, self.values, other.values))

    def __repr__(self) -> str:
        return f"[{', '.join(f'{v:.5g}' for v in self.values[:8])}{', ...' if len(self.values) > 8 else ''}]"


def _close(a: Any, b: Any) -> bool:
    return a == b or (a != a and b != b) or (isinstance(a, (float, complex)) and abs(a - b) <= 1e-5 * max(1, abs(a)))


def differences(expected: list[Any], got: list[Any]) -> list[str]:
    """Where the outcomes of two runs differ, in words."""
    found = []
    for k, (a, b) in enumerate(zip(expected, got, strict=True)):
        found += [f"call {k + 1}, {part}: {_short(b[part])}, eagerly {_short(a[part])}" for part in a if a[part] != b[part]]
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 600 else text[:600] + "..."


# --------------------------------------------------------------------------- counting

def recorded() -> dict[str, dict[str, Any]]:
    """What Dynamo was measured to do, by `file.program`."""
    return json.loads(RECORDED.read_text())["programs"] if RECORDED.exists() else {}


def standing(counts: Counts, theirs: dict[str, Any]) -> str:
    """"worse", "better" or "" (equal) than Dynamo; or why there is nothing to compare with."""
    if not theirs:
        return "not measured"
    if "wrong" in theirs:
        return "Dynamo is wrong"
    if "skipped" in theirs or counts.graphs and not theirs["graphs"]:
        return "Dynamo gives up"
    if counts.graphs > theirs["graphs"] or counts.compiles > theirs["compiles"]:
        left = any(ours and not run for ours, run in zip(counts.runs, theirs["runs"]))
        return "Dynamo gives up" if left else "worse"             # from some call on it runs eagerly
    return "better" if counts.graphs < theirs["graphs"] or counts.compiles < theirs["compiles"] else ""



def report(stem: str, names: list[str] | None = None) -> dict[str, Report]:
    """Every program of a file (or those named) under flambeau: compiled beside eager."""
    import flambeau

    eager, compiled = load(stem, flambeau), load(stem, flambeau)
    return {name: _report(eager[name], compiled[name]) for name in eager if names is None or name in names}


def _report(eager: given.Program, program: given.Program) -> Report:
    import flambeau
    from flambeau.frontend.compile import context_of

    expected = run(eager, eager.fn, flambeau)
    fn = flambeau.compile(program.fn, backend="eager")
    context = context_of(fn)
    assert context is not None, f"{program.name} is not compiled at all"
    counts = Counts()
    context.settings.backend = counts.backend(context.settings.backend)
    got = run(program, fn, flambeau, counts)
    events = context.events
    found = differences(expected, got)
    found += [f"{e.line}: {e.text}" for e in events if e.kind == "fallback" and "recompile_limit" not in e.text]
    counts.compiles = sum(len(p.entries) for p in context._points.values())
    return Report(found, counts, "\n".join(f"{e.kind} {e.line}: {e.text}" for e in events))

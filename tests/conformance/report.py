"""The record of a run: scores, what fails and why, as text, as JSON, and as the block in README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "conformance"
BEGIN, END = "<!-- conformance: begin (written by make conformance) -->", "<!-- conformance: end -->"

TITLES = {"f32": "float32 forward", "bwd32": "float32 backward", "f64": "float64 forward", "bwd64": "float64 backward",
          "i64": "int64 forward", "bool": "bool forward", "bf16": "bfloat16 forward", "c64": "complex64 forward",
          "bwdc64": "complex64 backward", "method": "methods", "inplace": "in-place variants", "operator": "operators",
          "alias": "aliases", "errors": "error inputs", "seeded": "same numbers from the same seed",
          "modules": "modules, training and evaluating", "init": "modules' initial parameters from the same seed",
          "optimizers": "optimizers", "optim options": "optimizers' options, resumed ones too",
          "compiled": "compiled as one graph, beside eager",
          "compiled bwd": "compiled, gradients beside eager's"}


class Record:
    """What became of each entry: ``{area: {entry: {column: outcome}}}``."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, dict[str, Any]]] = {}

    def __len__(self) -> int:
        return sum(len(entries) for entries in self.found.values())

    def add(self, task: tuple[str, str, tuple[str, ...]], outcomes: dict[str, Any] | None) -> None:
        """Enter an entry; None stands for a process that was lost."""
        area, entry, columns = task
        if outcomes is None:
            outcomes = {c: {"units": 1, "passed": 0, "samples": 0, "failures": ["crash: the process was lost"]} for c in columns}
        self.found.setdefault(area, {})[entry] = outcomes

    def scores(self) -> dict[str, tuple[int, int]]:
        """``(passed, counted)`` by column."""
        sums: dict[str, list[int]] = {}
        for entries in self.found.values():
            for outcomes in entries.values():
                for column, outcome in outcomes.items():
                    sums.setdefault(column, [0, 0])
                    sums[column][0] += outcome["passed"]
                    sums[column][1] += outcome["units"]
        return {column: (a, b) for column, (a, b) in sums.items()}

    def failures(self, task: tuple[str, str, tuple[str, ...]]) -> list[str]:
        """The columns that fail of an entry, with the first reasons."""
        area, entry, _ = task
        return [f"{area}: {entry}: {line}" for line in _failures(self.found[area][entry])]

    def text(self) -> str:
        """A score a line."""
        lines = [f"{column:13s} {a:5d} of {b:5d}   {TITLES.get(column, column)}" for column, (a, b) in self.scores().items()]
        return "\n".join(["", *lines])

    def write(self, whole: bool) -> None:
        """The record as JSON, in a folder that git ignores."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / ("all.json" if whole else "part.json")).write_text(json.dumps(self.found, indent=1))

    def write_readme(self) -> None:
        """Put the scores between the markers in README.md."""
        path = ROOT / "README.md"
        before, rest = path.read_text().split(BEGIN)
        after = rest.split(END)[1]
        rows = [f"| {TITLES.get(c, c)} | {a} | {b} |" for c, (a, b) in self.scores().items() if b]
        table = "\n".join(["| | flambeau | PyTorch |", "|---|---|---|", *rows])
        path.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


def _failures(outcomes: dict[str, Any]) -> list[str]:
    """The failing columns of an entry, those of one first reason together."""
    by_reason: dict[str, list[str]] = {}
    for column, outcome in outcomes.items():
        if outcome["passed"] < outcome["units"]:
            reason = outcome["failures"][0] if outcome["failures"] else "?"
            by_reason.setdefault(reason, []).append(column)
    return [f"{','.join(columns)}: {reason}" for reason, columns in by_reason.items()]

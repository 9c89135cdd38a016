"""What a failed check says: the facts, the error that carries them, and the text."""
from __future__ import annotations

from dataclasses import dataclass

from flambeau.frontend.checking.compare import Difference


@dataclass
class Report:
    """A mismatch between a function and its compiled form.

    ``stage``: "capture", "guard", "functionalize", "write-back", "simplify", "patterns", "gradients", "joint", "partition",
    "decompose", "fusion-schedule", "kernel", "runtime" or "backend". ``op``: the first op that diverges, or what was changed
    wrongly; ``within``: the op of the program that it is a part of; ``line``: the program's line behind it; ``repro``: the file
    of a script that shows the mismatch.
    """

    function: str
    call: int
    difference: Difference
    stage: str = ""
    op: str = ""
    within: str = ""
    node: str = ""
    line: str = ""
    note: str = ""
    graph: str = ""
    repro: str = ""

    def __str__(self) -> str:
        lines = [f"{self.function}, call {self.call}: compiled differs from the original in {self.difference}"]
        op = f"op {self.op}" + (f" (part of {self.within})" if self.within else "") if self.op else ""
        where = [f"stage {self.stage}" if self.stage else "", op,
                 f"value {self.node}" if self.node else "", self.line]
        lines.append(f"first departs at: {', '.join(w for w in where if w) or 'unknown'}")
        if self.note:
            lines.append(self.note)
        if self.graph:
            lines += ["smallest graph that shows it:", *("    " + line for line in self.graph.splitlines()[:24])]
        if self.repro:
            lines.append(f"repro: python {self.repro}")
        return "\n".join(lines)


class CheckError(AssertionError):
    """A compiled function differs from the original (`FLAMBEAU_CHECK=1`). ``report`` has the facts."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report

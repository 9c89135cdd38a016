"""The corpus: every program compiled does what it does eagerly, with no more graphs and compiles than Dynamo's record."""

from __future__ import annotations

from functools import cache

import pytest

from corpus.runner import Report, files, recorded, report, standing

DYNAMO = recorded()
ENOUGH = 0.95


@cache
def reports(stem: str) -> dict[str, Report]:
    return report(stem)


@pytest.mark.parametrize("stem", files())
def test_programs_do_what_they_do_eagerly(stem: str) -> None:
    wrong = {name: r.differences for name, r in reports(stem).items() if r.differences}
    assert not wrong, "\n".join(f"{name}:\n  " + "\n  ".join(found) for name, found in wrong.items())


def test_dynamo_was_measured_on_every_program() -> None:
    here = {f"{stem}.{name}" for stem in files() for name in reports(stem) if "_3_" not in stem}
    missing = here - set(DYNAMO)
    assert not missing, f"run `.venv-peer/bin/python -m tests.corpus.record`; not in dynamo.json: {sorted(missing)}"


def test_no_more_graphs_and_compiles_than_dynamo() -> None:
    counts = {f"{stem}.{name}": r.counts for stem in files() for name, r in reports(stem).items()}
    measured = {name: standing(c, DYNAMO.get(name, {})) for name, c in counts.items()}
    worse = [f"{name}: {counts[name].graphs} graphs, {counts[name].compiles} compiles; Dynamo {DYNAMO[name]}"
             for name, found in measured.items() if found == "worse"]
    compared = sum(found in ("worse", "better", "") for found in measured.values())
    print("\n".join(worse))
    assert len(worse) <= (1 - ENOUGH) * compared, f"{len(worse)} of {compared} are worse:\n" + "\n".join(worse)

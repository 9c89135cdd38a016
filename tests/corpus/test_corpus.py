"""The corpus: every program compiled does what it does eagerly, with no more graphs and compiles than Dynamo's record."""

from __future__ import annotations

import json
from functools import cache

import pytest
from corpus.runner import RECORDED, Report, files, report

DYNAMO = json.loads(RECORDED.read_text())["programs"]
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
    measured = {name: DYNAMO[name] for name in counts if name in DYNAMO and "wrong" not in DYNAMO[name]}
    worse = [f"{name}: {counts[name].graphs} graphs, {counts[name].compiles} compiles; Dynamo {theirs}"
             for name, theirs in measured.items()
             if counts[name].graphs > theirs["graphs"] or counts[name].compiles > theirs["compiles"]]
    print("\n".join(worse))
    assert len(worse) <= (1 - ENOUGH) * len(measured), f"{len(worse)} of {len(measured)} are worse:\n" + "\n".join(worse)

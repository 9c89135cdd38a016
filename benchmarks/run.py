"""flambeau beside torch: eager and compiled, interleaved in one run, on two threads. `make bench` runs it.

Prints a table and writes benchmarks/results/NAME.json and .md. All times are wall times; each contender's turn comes
round again and again, so that what the machine does meanwhile falls on all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import probes
from cases import CASES
from peers import Peer
from report import machine, render

CONTENDERS = (("flambeau", "eager"), ("flambeau", "compiled"), ("torch", "eager"), ("torch", "compiled"))
RESULTS = Path(__file__).parent / "results"
TOLERANCE = 2e-3
#: before each turn: idle BLAS and OpenMP threads of the contender before it spin for up to 0.1 s
SETTLE_SECONDS = 0.2


def run_case(name: str, peers: dict[tuple[str, str], Peer], rounds: int, block_seconds: float) -> dict[str, Any]:
    """Medians and minima per contender, and how far the values of all of them lie apart."""
    row: dict[str, Any] = {}
    prepared: dict[tuple[str, str], dict[str, Any]] = {}
    for library, mode in CONTENDERS:
        answer = peers[library, mode].ask(do="prepare", case=name, mode=mode)
        if "error" in answer:
            row[f"{library} {mode}"] = {"error": answer["error"]}
        else:
            prepared[library, mode] = answer
    samples: dict[tuple[str, str], list[list[float]]] = {key: [] for key in prepared}
    plans = {key: _plan(peers[key], name, key[1], block_seconds) for key in prepared}
    for _ in range(rounds):
        for library, mode in prepared:
            calls, inner = plans[library, mode]
            time.sleep(SETTLE_SECONDS)
            turn = peers[library, mode].ask(do="time", case=name, mode=mode, calls=calls, inner=inner)
            samples[library, mode].append(turn["seconds"])
    for (library, mode), turns in samples.items():
        seconds = [second for turn in turns for second in turn]
        row[f"{library} {mode}"] = {"median_ms": statistics.median(seconds) * 1e3, "min_ms": min(seconds) * 1e3,
                                    "calls": len(seconds)}
        peers[library, mode].ask(do="drop", case=name, mode=mode)
    row["ratio"] = {mode: _ratio(samples["torch", mode], samples["flambeau", mode]) for mode in ("eager", "compiled")
                    if {("torch", mode), ("flambeau", mode)} <= prepared.keys()}
    row["difference"] = _difference(list(prepared.values()))
    return row


def _ratio(theirs: list[list[float]], ours: list[list[float]]) -> float:
    """The median over the rounds of their time over ours: turns of one round are beside each other in time, so that a
    spell of other work on the machine falls on both or is one round among many."""
    return statistics.median(statistics.median(a) / statistics.median(b) for a, b in zip(theirs, ours, strict=True))


def _plan(peer: Peer, case: str, mode: str, block_seconds: float) -> tuple[int, int]:
    """How many timings, of how many calls each, fill one turn; short calls are timed in bundles."""
    once = min(peer.ask(do="time", case=case, mode=mode, calls=3, inner=1)["seconds"])
    inner = max(1, int(2e-4 / once))
    return max(1, int(block_seconds / (once * inner))), inner


def _difference(answers: list[dict[str, Any]]) -> float:
    """The largest difference between the contenders' values, relative to their spread."""
    if len(answers) < 2:
        return 0.0
    first = answers[0]
    scale = max(first["std"], abs(first["mean"]), 1e-12)
    return max(abs(a - b) for other in answers[1:] for a, b in zip(first["sample"], other["sample"])) / scale


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="few repetitions, no probes")
    parser.add_argument("--no-probes", action="store_true", help="leave out compile time, import, size and memory")
    parser.add_argument("--no-write", action="store_true")
    parser.add_argument("--name", default="cpu", help="results are written as results/NAME.json and .md")
    args = parser.parse_args()
    rounds, block = (3, 0.05) if args.quick else (args.rounds, 0.2)

    results: dict[str, Any] = {"machine": machine(), "cases": {}, "probes": {}}
    with contextlib.ExitStack() as stack:
        peers = {contender: stack.enter_context(Peer(contender[0])) for contender in CONTENDERS}
        for name in args.cases:
            print(f"{name} ...", file=sys.stderr, flush=True)
            results["cases"][name] = run_case(name, peers, rounds, block)
    if not (args.quick or args.no_probes):
        results["probes"] = probes.run()
    text = render(results)
    print(text)
    if not args.no_write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{args.name}.json").write_text(json.dumps(results, indent=1) + "\n")
        (RESULTS / f"{args.name}.md").write_text(text)
    wrong = [name for name, row in results["cases"].items() if row["difference"] > TOLERANCE]
    failed = [name for name, row in results["cases"].items() if any("error" in c for c in row.values() if
                                                                   isinstance(c, dict))]
    for name in wrong:
        print(f"{name}: the contenders' values differ by {results['cases'][name]['difference']:.2g}", file=sys.stderr)
    return 1 if wrong or failed else 0


if __name__ == "__main__":
    os.chdir(Path(__file__).parent)
    sys.exit(main())

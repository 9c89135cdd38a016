"""``python -m tests.conformance``: run the entries, print the scores and what is missing, write the record."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import time
import warnings
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.simplefilter("ignore")

import torch  # noqa: E402

from . import compiled, modules, operators, optimizers, report  # noqa: E402
from .names import SPACES, Missing, lookup  # noqa: E402
from .outcome import Late, Outcome, reason_of, time_limit  # noqa: E402
from .pool import spread  # noqa: E402

AREAS = {"ops": operators, "modules": modules, "optim": optimizers, "compiled": compiled}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--only", default="", metavar="REGEX", help="entries whose name matches (linalg, ^add$)")
    parser.add_argument("--area", default=",".join(AREAS), help=f"of {', '.join(AREAS)}; default: all")
    parser.add_argument("--columns", default="", help="comma-separated; default: all of the area: " + "; ".join(
        f"{name}: {','.join(area.COLUMNS)}" for name, area in AREAS.items()))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds of the processor for one column of one entry")
    parser.add_argument("--brief", action="store_true", help="scores only")
    parser.add_argument("--readme", action="store_true", help="write the scores into README.md (whole runs only)")
    return parser.parse_args()


def tasks(options: argparse.Namespace) -> list[tuple[str, str, tuple[str, ...]]]:
    """(area, entry, columns) of all that was asked for."""
    wanted = tuple(c for c in options.columns.split(",") if c)
    found = []
    for name in options.area.split(","):
        area = AREAS[name]
        columns = tuple(c for c in area.COLUMNS if not wanted or c in wanted)
        found += [(name, entry, columns) for entry in area.entries() if columns and re.search(options.only, entry)]
    return found


def _load() -> None:
    """Import all of flambeau before the children are made: each then runs the same code."""
    for name in SPACES:
        with contextlib.suppress(Missing):
            lookup(name[6:] or "nn")


def main() -> int:
    options = arguments()
    _load()
    torch.set_num_threads(1)
    started, record = time.monotonic(), report.Record()

    def work(task: tuple[str, str, tuple[str, ...]]) -> dict[str, Any]:
        name, entry, columns = task
        area = AREAS[name]
        return {column: measured(lambda c=column: area.run(area.entries()[entry], c), options.timeout).as_json()
                for column in columns}

    for task, found in spread(work, tasks(options), options.jobs, 60 + options.timeout * 30):
        record.add(task, found)
        if not options.brief:
            print("".join(line + "\n" for line in record.failures(task)), end="", flush=True)
        if sys.stderr.isatty():
            print(f"\r{len(record)} {task[1]:60.60s}", end="", file=sys.stderr)
    whole = not (options.only or options.columns) and {"ops", "modules", "optim"} <= set(options.area.split(","))
    record.write(whole)
    print(record.text())
    print(f"{len(record)} entries in {time.monotonic() - started:.0f} s")
    if options.readme and whole:
        record.write_readme()
    return 0


def measured(run: Any, seconds: float) -> Outcome:
    """The outcome of a column, whatever happens."""
    try:
        with time_limit(seconds):
            return run()
    except Late:
        return Outcome(counted=True, failures=[f"late: not done after {seconds:.0f} s"])
    except Exception as error:
        return Outcome(counted=True, failures=[f"runner: {reason_of(error)}"])


if __name__ == "__main__":
    raise SystemExit(main())

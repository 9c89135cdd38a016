"""`python -m tests.corpus [NAME...] [-v]`: each program's graphs and compiles, flambeau's beside Dynamo's."""

from __future__ import annotations

import json
import sys

from .runner import RECORDED, files, report


def main(arguments: list[str]) -> int:
    verbose = "-v" in arguments
    wanted = [a for a in arguments if not a.startswith("-")]
    recorded = json.loads(RECORDED.read_text())["programs"] if RECORDED.exists() else {}
    total = wrong = worse = better = 0
    print(f"{'program':58} {'graphs':>7} {'dynamo':>7} {'compiles':>9} {'dynamo':>7}")
    for stem in files():
        names = None if not wanted or stem in wanted else [w.removeprefix(stem + ".") for w in wanted]
        for name, found in report(stem, names).items():
            theirs = recorded.get(f"{stem}.{name}", {})
            graphs, compiles = found.counts.graphs, found.counts.compiles
            note = ""
            if theirs and "wrong" in theirs:
                note = "Dynamo is wrong"
            elif theirs:
                note = "WORSE" if graphs > theirs["graphs"] or compiles > theirs["compiles"] else \
                    "better" if graphs < theirs["graphs"] or compiles < theirs["compiles"] else ""
            worse, better = worse + (note == "WORSE"), better + (note == "better")
            total, wrong = total + 1, wrong + bool(found.differences)
            if found.differences:
                note = "WRONG " + note
            print(f"{stem + '.' + name:58} {graphs:7} {theirs.get('graphs', '?'):>7} {compiles:9} "
                  f"{theirs.get('compiles', '?'):>7}  {note}")
            for text in found.differences:
                print("    " + text)
            if verbose:
                print("    " + found.events.replace("\n", "\n    "))
    print(f"{total} programs: {wrong} differ from eager, {worse} take more graphs or compiles than Dynamo, {better} fewer")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

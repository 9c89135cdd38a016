"""`python -m tests.corpus [NAME...] [-v]`: each program's graphs and compiles, flambeau's beside Dynamo's."""

from __future__ import annotations

import sys
from collections import Counter

from .runner import files, recorded, report, standing


def main(arguments: list[str]) -> int:
    verbose = "-v" in arguments
    wanted = [a for a in arguments if not a.startswith("-")]
    dynamo, notes = recorded(), Counter[str]()
    print(f"{'program':66} {'graphs':>7} {'dynamo':>7} {'compiles':>9} {'dynamo':>7}")
    for stem in files():
        names = None if not wanted or stem in wanted else [w.removeprefix(stem + ".") for w in wanted]
        for name, found in report(stem, names).items():
            theirs = dynamo.get(f"{stem}.{name}", {})
            note = standing(found.counts, theirs)
            notes.update([note, "all"] + ["WRONG"] * bool(found.differences))
            print(f"{stem + '.' + name:66} {found.counts.graphs:7} {theirs.get('graphs', '?'):>7} {found.counts.compiles:9} "
                  f"{theirs.get('compiles', '?'):>7}  {'WRONG ' if found.differences else ''}{note}")
            for text in found.differences:
                print("    " + text)
            if verbose:
                print("    " + found.events.replace("\n", "\n    "))
    print(f"{notes['all']} programs: {notes['WRONG']} differ from eager; beside Dynamo {notes['worse']} take more graphs or "
          f"compiles, {notes['better']} fewer, {notes['']} as many; it gives up {notes['Dynamo gives up']}, and gets "
          f"{notes['Dynamo is wrong']} wrong")
    return 1 if notes["WRONG"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

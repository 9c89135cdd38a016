"""`flambeau explain FILE.py:NAME`: graphs, breaks, guards and recompilations, each with its line and the fix."""

from __future__ import annotations

import argparse
import sys

import flambeau
from flambeau.cli import subject


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("explain", help="what a function compiles to: graphs, breaks, guards")
    subject.add_arguments(parser)
    parser.set_defaults(handler=lambda args: explain(args.subject, args.input))


def explain(text: str, inputs: list[str]) -> int:
    """Print the compiler's account of one call; returns the exit status."""
    try:
        chosen = subject.load(text, inputs)
    except subject.BadSubject as error:
        print(f"flambeau explain: {error}", file=sys.stderr)
        return 2
    print(flambeau.compiler.explain(chosen.fn)(*chosen.inputs))
    return 0

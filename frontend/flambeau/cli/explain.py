"""`flambeau explain FILE.py:NAME`: graphs, breaks, guards and recompilations, each with its line and the fix."""

from __future__ import annotations

import argparse
import sys

import flambeau
from flambeau.cli import subject


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("explain", help="what a function compiles to: graphs, breaks, guards")
    subject.add_arguments(parser)
    parser.add_argument("--backend", default="cpp", help="what compiles the graphs, whose stages are timed (default: cpp)")
    parser.set_defaults(handler=lambda args: explain(args.subject, args.input, args.backend))


def explain(text: str, inputs: list[str], backend: str = "cpp") -> int:
    """Print the compiler's account of one call; returns the exit status."""
    try:
        chosen = subject.load(text, inputs)
    except subject.BadSubject as error:
        print(f"flambeau explain: {error}", file=sys.stderr)
        return 2
    print(flambeau.compiler.explain(chosen.fn, backend=backend)(*chosen.inputs))
    return 0

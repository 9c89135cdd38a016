"""`flambeau COMMAND ...` and `python -m flambeau COMMAND ...`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

import flambeau

COMMANDS = ("run", "dump", "explain", "doctor")


def build_parser(wanted: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """A parser of these commands, each a file in `cli` that is imported for it."""
    parser = argparse.ArgumentParser(
        prog="flambeau", description="A PyTorch-compatible deep-learning framework and graph compiler.")
    parser.add_argument("--version", action="version", version=f"flambeau {flambeau.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in wanted:
        importlib.import_module(f"flambeau.cli.{command}").add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    args = build_parser(argv[:1] if argv and argv[0] in COMMANDS else COMMANDS).parse_args(argv)
    try:
        return int(args.handler(args))
    except BrokenPipeError:   # `flambeau dump ... | head`
        sys.stderr.close()
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""`flambeau COMMAND ...` and `python -m flambeau COMMAND ...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import flambeau
from flambeau.cli import doctor, dump, explain, run


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flambeau", description="A PyTorch-compatible deep-learning framework and graph compiler.")
    parser.add_argument("--version", action="version", version=f"flambeau {flambeau.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (run, dump, explain, doctor):
        command.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = build_parser().parse_args(argv)
    try:
        return int(args.handler(args))
    except BrokenPipeError:   # `flambeau dump ... | head`
        sys.stderr.close()
        return 1


if __name__ == "__main__":
    sys.exit(main())

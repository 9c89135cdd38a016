"""`flambeau run SCRIPT [args]`: run a PyTorch script unchanged, with flambeau under the name torch."""

from __future__ import annotations

import argparse
import importlib.machinery
import io
import os
import runpy
import signal
import sys
import types
from collections.abc import Callable
from types import TracebackType

from flambeau.dropin import as_torch


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("run", help="run a PyTorch script unchanged, on flambeau",
                                 description="Runs SCRIPT as `python SCRIPT args` would, with flambeau as torch.")
    parser.add_argument("-m", dest="module", action="store_true", help="SCRIPT is a module name, as in `python -m`")
    parser.add_argument("script", metavar="SCRIPT")
    parser.add_argument("args", nargs=argparse.REMAINDER, metavar="...", help="the script's own arguments")
    parser.set_defaults(handler=lambda args: run(args.script, args.args, module=args.module))


def run(script: str, args: list[str], *, module: bool = False) -> int:
    """Run a script file (or, with `module`, a module by name) as `__main__`; returns the exit status."""
    if not module and not os.path.exists(script):
        print(f"flambeau run: can't open file {script!r}: no such file", file=sys.stderr)
        return 2
    as_torch()
    sys.argv = [script, *args]
    sys.path[0] = os.getcwd() if module else os.path.dirname(os.path.abspath(script))
    return _status_of(_module_main(script) if module else _file_main(script))


def _module_main(name: str) -> Callable[[], object]:
    return lambda: runpy.run_module(name, run_name="__main__", alter_sys=True)


def _file_main(path: str) -> Callable[[], object]:
    if os.path.isdir(path):   # a folder with a __main__.py, as python runs it
        return lambda: runpy.run_path(path, run_name="__main__")

    def execute() -> None:
        with io.open_code(os.path.abspath(path)) as file:
            code = compile(file.read(), path, "exec")
        main = types.ModuleType("__main__")
        main.__file__ = path
        main.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
        # It stays there after the run: objects that outlive it, such as exit handlers, still find their globals.
        sys.modules["__main__"] = main
        exec(code, main.__dict__)

    return execute


def _status_of(execute: Callable[[], object]) -> int:
    """Run, and report errors as the interpreter does: a traceback that starts in the script, and its status."""
    try:
        execute()
    except SystemExit:
        raise
    except KeyboardInterrupt as error:
        _report(error)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException as error:
        _report(error)
        return 1
    return 0


def _report(error: BaseException) -> None:
    frames: TracebackType | None = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__") in (__name__, "runpy"):
        frames = frames.tb_next
    sys.stdout.flush()
    sys.excepthook(type(error), error.with_traceback(frames), frames)

"""Programs run by several processes over one cache: a server forks a process for each request.

The server has imported flambeau and the tracer, and nothing of the program, so each process costs little and starts like
a fresh one as far as the program goes.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Server:
    """Runs programs, each in a process of its own."""

    def __init__(self) -> None:
        env = {**os.environ, "FLAMBEAU_WARM": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen([sys.executable, "-W", "ignore", str(HERE / "warm.py")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=env)

    def run(self, folder: Path, before: str = "", **how: Any) -> dict[str, Any]:
        """Import `program` from `folder`, run `before` (in the process, after the import), call its `fn` on its `args()`."""
        assert self.process.stdin is not None and self.process.stdout is not None
        request = {"folder": str(folder), "cache": str(folder / "cache"), "before": textwrap.dedent(before), **how}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve() -> None:
    import flambeau
    import flambeau.autograd
    import flambeau.compiler
    import flambeau.frontend.trace.capture
    import flambeau.nn.functional
    import flambeau.runtime.graphs
    from flambeau.frontend.warm import keeping, store  # noqa: F401

    stamp = store.package_stamp()
    store.package_stamp = lambda: stamp           # somebody may be at work on flambeau while the tests run
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                answer = answer_of(flambeau, store, request)
                code = 0
            except BaseException as error:
                import traceback
                answer = {"error": f"{type(error).__name__}: {error}\n{traceback.format_exc()}"}
            os.write(1, (json.dumps(answer) + "\n").encode())
            os._exit(code)
        os.waitpid(child, 0)


def answer_of(flambeau: Any, store: Any, request: dict[str, Any]) -> dict[str, Any]:
    """What the compiled and the original function return, and the events of the compiled one."""
    import importlib

    from flambeau.frontend.compile import context_of
    flambeau.frontend.config.config.suppress_errors = request.get("suppress_errors", False)
    os.environ.update(request.get("env", {}), FLAMBEAU_CACHE_DIR=request["cache"])
    sys.path.insert(0, request["folder"])
    program = importlib.import_module("program")
    exec(request["before"], {"program": program, "flambeau": flambeau, "__name__": "before"})
    compiled = flambeau.compile(program.fn, **{"backend": "eager", **request.get("options", {})})
    same, shown = True, ""
    for arguments in request.get("calls") or [[]]:
        expected, got = plain(program.fn(*program.args(*arguments))), plain(compiled(*program.args(*arguments)))
        same = same and expected == got
        shown = f"{got} where eager gives {expected}"
    store.finish_writing()
    events = [e for context in [context_of(compiled)] if context is not None for e in context.events]
    return {"same": same, "shown": shown[:400], "kinds": [e.kind for e in events],
            "not_kept": [e.captured.not_kept for e in events if e.kind == "graph"],
            "texts": [e.text for e in events if e.kind in ("recompile", "fallback")]}


def plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    return value.detach().tolist() if hasattr(value, "detach") else repr(value)


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))


if __name__ == "__main__":
    serve()

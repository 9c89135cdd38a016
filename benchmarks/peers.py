"""A worker process, spoken to in JSON lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

THREADS = 2
WORKER = Path(__file__).parent / "worker.py"


def environment(**extra: str) -> dict[str, str]:
    """Two threads everywhere, whatever library reads which variable; bytecode is kept, as on a user's machine."""
    count = str(THREADS)
    base = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**base, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, **extra}


class Peer:
    """One library's worker. Use as a context manager; `ask` sends one request and waits for its answer."""

    def __init__(self, library: str, **env: str) -> None:
        self.process = subprocess.Popen([sys.executable, str(WORKER), library], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=environment(**env), cwd=WORKER.parent)
        self._read()

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker {self.process.args} ended with status {self.process.wait()}")
        return json.loads(line)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)

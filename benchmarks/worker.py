"""One contender in one process: prepares and times cases as the parent asks, a JSON line per request and per answer.

Each library lives in a process of its own, eager and compiled too, so that nobody's idle threads, allocator or patches
touch another; the parent lets them work in turn. (NumPy's BLAS keeps its threads spinning for some 50 ms after a call.)
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from cases import CASES

THREADS = 2


def load(library: str) -> Any:
    os.environ.setdefault("FLAMBEAU_FUSED", "now")  # what the second run on a machine has: forms of eager ops from the start
    module = importlib.import_module(library)
    module.set_num_threads(THREADS)
    if library == "flambeau":   # submodules that `import torch` loads by itself
        for name in ("nn.functional", "optim", "utils.data"):
            importlib.import_module(f"flambeau.{name}")
    return module


def compiler_of(module: Any, mode: str) -> Callable[[Any], Any]:
    return module.compile if mode == "compiled" else lambda fn: fn


class Worker:
    def __init__(self, library: str) -> None:
        self.module = load(library)
        self.runs: dict[tuple[str, str], Callable[[], Any]] = {}

    def prepare(self, case: str, mode: str) -> dict[str, Any]:
        """Build and run once; says how long that took and, for the comparison, what came out."""
        start = time.perf_counter()
        run = CASES[case](self.module, compiler_of(self.module, mode))
        built = time.perf_counter()
        out = np.asarray(run().detach().numpy(), dtype=np.float64)
        first = time.perf_counter() - built
        self.runs[case, mode] = run
        return {"build_s": built - start, "first_s": first, "mean": float(out.mean()), "std": float(out.std()),
                "sample": out.ravel()[:: max(1, out.size // 64)].tolist()}

    def time(self, case: str, mode: str, calls: int, inner: int) -> dict[str, Any]:
        """Seconds per call of `calls` timings of `inner` calls each, after one call that wakes threads and caches."""
        run, clock = self.runs[case, mode], time.perf_counter
        run()
        seconds = []
        for _ in range(calls):
            start = clock()
            for _ in range(inner):
                run()
            seconds.append((clock() - start) / inner)
        return {"seconds": seconds}

    def drop(self, case: str, mode: str) -> dict[str, Any]:
        del self.runs[case, mode]
        return {}

    def peak(self, case: str, mode: str, calls: int) -> dict[str, Any]:
        """Peak memory in MB, before the case and after some calls (for a process that does only this)."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.prepare(case, mode)
        for _ in range(calls):
            self.runs[case, mode]()
        return {"before_mb": before, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    # Requests come on stdin, answers go to the original stdout; whatever a library prints goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(sys.argv[1])
    print(json.dumps({"ready": sys.argv[1]}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:   # the parent notes the failure and goes on with the other cases
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

"""What is measured once per fresh process: cold compiles, imports, sizes on disk, peak memory."""

from __future__ import annotations

import importlib.metadata
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers import Peer, environment

COLD_CASES = ("pointwise_cached", "mlp", "gpt_step")
WARM_CASES = ("mlp", "mlp_training", "small_whole_step")
WARM_REPEATS = {"flambeau": 9, "torch": 3}      # torch takes seconds each
MEMORY_CASE = "gpt_step"
ROOT = Path(__file__).parent.parent
SOURCES = ("ir", "runtime", "passes", "codegen", "frontend")


def run() -> dict[str, Any]:
    return {"cold_compile_s": cold_compiles(), "warm_start_s": warm_starts(), **others()}


def others() -> dict[str, Any]:
    return {"import_s": imports(), "installed_mb": sizes(), "memory_mb": memory()}


def cold_compiles() -> dict[str, dict[str, Any]]:
    """Seconds from calling the compiled function to its first result: a fresh process, an empty cache."""
    found: dict[str, dict[str, Any]] = {}
    for case in COLD_CASES:
        print(f"cold compile of {case} ...", file=sys.stderr, flush=True)
        found[case] = {}
        for library in ("flambeau", "torch"):
            with tempfile.TemporaryDirectory() as cache:
                caches = {"FLAMBEAU_CACHE_DIR": cache, "TORCHINDUCTOR_CACHE_DIR": cache, "XDG_CACHE_HOME": cache,
                          "TRITON_CACHE_DIR": cache}
                with Peer(library, **caches) as peer:
                    answer = peer.ask(do="prepare", case=case, mode="compiled")
            found[case][library] = answer.get("error") or answer["first_s"]
    return found


def warm_starts(cases: Sequence[str] = WARM_CASES) -> dict[str, dict[str, Any]]:
    """Seconds of the first call in a process that finds all it needs in the caches: another process has filled them.

    The median of some processes. A step is forward, backward and update. ``"... from import"`` counts from the end of
    the library's import, with making the model and its inputs.
    """
    found: dict[str, dict[str, Any]] = {}
    for case in cases:
        print(f"warm start of {case} ...", file=sys.stderr, flush=True)
        row: dict[str, Any] = {}
        found[case] = row
        for library, repeats in WARM_REPEATS.items():
            with tempfile.TemporaryDirectory() as cache:
                caches = {"FLAMBEAU_CACHE_DIR": cache, "TORCHINDUCTOR_CACHE_DIR": cache, "XDG_CACHE_HOME": cache,
                          "TRITON_CACHE_DIR": cache, "TORCHINDUCTOR_FX_GRAPH_CACHE": "1", "TORCHINDUCTOR_AUTOGRAD_CACHE": "1"}
                answers = []
                for _ in range(1 + repeats):
                    with Peer(library, **caches) as peer:
                        answers.append(peer.ask(do="prepare", case=case, mode="compiled"))
            failed = [a["error"] for a in answers if "error" in a]
            row[library] = failed[0] if failed else statistics.median(a["first_s"] for a in answers[1:])
            row[f"{library} from import"] = failed[0] if failed else statistics.median(
                a["build_s"] + a["first_s"] for a in answers[1:])
    return found


def imports(repeats: int = 7) -> dict[str, float]:
    """The smallest wall time of an import in a fresh process."""
    code = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    return {name: min(float(subprocess.run([sys.executable, "-c", code.format(name)], capture_output=True, text=True,
                                           check=True, env=environment()).stdout) for _ in range(repeats))
            for name in ("numpy", "flambeau", "torch")}


def sizes() -> dict[str, float]:
    """MB on disk of the package alone, and with what it needs (extras left out)."""
    own = sum(path.stat().st_size for room in SOURCES for path in (ROOT / room).rglob("*")
              if path.is_file() and path.suffix != ".pyc") / 1e6
    ours = _closure("flambeau") - {"flambeau"}
    theirs = _closure("torch")
    return {"flambeau": own, "flambeau with dependencies": own + sum(map(_distribution_mb, ours)),
            "torch": _distribution_mb("torch"), "torch with dependencies": sum(map(_distribution_mb, theirs))}


def _closure(name: str) -> set[str]:
    """A distribution and all that it requires without extras, as far as installed."""
    found: set[str] = set()
    todo = [name]
    while todo:
        current = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if current in found:
            continue
        try:
            requires = importlib.metadata.requires(current) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(current)
        todo += [re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0] for text in requires if "extra ==" not in text]
    return found


def _distribution_mb(name: str) -> float:
    files = importlib.metadata.files(name) or []
    paths = (Path(str(file.locate())) for file in files if not str(file).endswith(".pyc"))
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def memory() -> dict[str, dict[str, Any]]:
    """Peak resident memory of a few training steps, a fresh process per contender."""
    found = {}
    for library in ("flambeau", "torch"):
        for mode in ("eager", "compiled"):
            print(f"memory of {library} {mode} ...", file=sys.stderr, flush=True)
            with Peer(library) as peer:
                found[f"{library} {mode}"] = peer.ask(do="peak", case=MEMORY_CASE, mode=mode, calls=5)
    return found


if __name__ == "__main__":   # python benchmarks/probes.py mlp mlp_training: the warm starts of these cases alone
    print(json.dumps(warm_starts(sys.argv[1:] or WARM_CASES), indent=1))

"""The results as a page of tables."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("flambeau eager", "flambeau compiled", "torch eager", "torch compiled")


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    models = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
              if line.startswith("model name")] if Path("/proc/cpuinfo").exists() else []
    return {"cpu": models[0] if models else platform.processor(), "cores": os.cpu_count(),
            "python": platform.python_version(), "load_before": os.getloadavg()[0],
            "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE", ""),
            **{name: importlib.metadata.version(name) for name in ("numpy", "torch", "flambeau")}}


def render(results: dict[str, Any]) -> str:
    return "\n".join(_lines(results)) + "\n"


def _lines(results: dict[str, Any]) -> Iterator[str]:
    facts = results["machine"]
    yield "# flambeau beside torch on a CPU, two threads\n"
    yield ", ".join(f"{key} {value}" for key, value in facts.items() if value != "") + "\n"
    yield "Milliseconds, median (minimum). `eager` and `compiled` are torch's time over flambeau's, the median of the"
    yield "rounds' ratios: above 1, flambeau is faster. `difference` is the largest between the four contenders' values,"
    yield "relative to their spread.\n"
    yield "| case | " + " | ".join(NAMES) + " | eager | compiled | difference |"
    yield "|---|" + "---:|" * 7
    for name, row in results["cases"].items():
        cells = [_cell(row[contender]) for contender in NAMES]
        ratios = [f"{row['ratio'][mode]:.2f}" if mode in row["ratio"] else "-" for mode in ("eager", "compiled")]
        yield f"| {name} | " + " | ".join([*cells, *ratios]) + f" | {row['difference']:.1e} |"
    yield from _symbolic_lines(results["cases"])
    probes = results["probes"]
    if probes:
        yield from _probe_lines(probes)


def _symbolic_lines(cases: dict[str, Any]) -> Iterator[str]:
    """What symbolic sizes cost: the same work by a function for each length, and by one for all."""
    one, each = cases.get("many_lengths"), cases.get("many_lengths_static")
    if one is None or each is None:
        return
    shares = [f"{library} {each[name]['median_ms'] / one[name]['median_ms']:.2f}" for library in ("flambeau", "torch")
              for name in [f"{library} compiled"] if "error" not in one[name] and "error" not in each[name]]
    yield f"\nOne function for all lengths: the time of functions made for each over its own: {', '.join(shares)}.\n"


def _cell(entry: dict[str, Any]) -> str:
    if "error" in entry:
        return "failed"
    return f"{entry['median_ms']:.4g} ({entry['min_ms']:.4g})"


def _probe_lines(probes: dict[str, Any]) -> Iterator[str]:
    yield "\nCold compile: seconds from the call to the first result, in a fresh process with an empty cache.\n"
    yield "| case | flambeau | torch | ratio |"
    yield "|---|---:|---:|---:|"
    for case, row in probes["cold_compile_s"].items():
        ours, theirs = row["flambeau"], row["torch"]
        numbers = isinstance(ours, float) and isinstance(theirs, float)
        yield f"| {case} | {_seconds(ours)} | {_seconds(theirs)} | {f'{theirs / ours:.1f}' if numbers else '-'} |"
    if "warm_start_s" in probes:
        yield "\nWarm start: seconds of the first call in a process that finds all it needs in the caches; in brackets from the"
        yield "end of the library's import, with making the model.\n"
        yield "| case | flambeau | torch | ratio |"
        yield "|---|---:|---:|---:|"
        for case, row in probes["warm_start_s"].items():
            ours, theirs = row["flambeau"], row["torch"]
            numbers = isinstance(ours, float) and isinstance(theirs, float)
            cells = [f"{_thousandths(row[name])} ({_thousandths(row[f'{name} from import'])})" for name in ("flambeau", "torch")]
            yield f"| {case} | {cells[0]} | {cells[1]} | {f'{theirs / ours:.1f}' if numbers else '-'} |"
    yield "\n| | " + " | ".join(probes["import_s"]) + " |"
    yield "|---|" + "---:|" * len(probes["import_s"])
    yield "| import, seconds | " + " | ".join(f"{value:.3f}" for value in probes["import_s"].values()) + " |"
    yield "\n| | " + " | ".join(probes["installed_mb"]) + " |"
    yield "|---|" + "---:|" * len(probes["installed_mb"])
    yield "| on disk, MB | " + " | ".join(f"{value:.1f}" for value in probes["installed_mb"].values()) + " |"
    yield "\nPeak memory of six GPT training steps, MB: after the import, at the peak.\n"
    yield "| | " + " | ".join(probes["memory_mb"]) + " |"
    yield "|---|" + "---:|" * len(probes["memory_mb"])
    cells = [f"{entry['before_mb']:.0f}, {entry['peak_mb']:.0f}" if "error" not in entry else "failed"
             for entry in probes["memory_mb"].values()]
    yield "| peak | " + " | ".join(cells) + " |"


def _thousandths(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "failed"


def _seconds(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else "failed"

"""Checks and times every kind of GPU kernel on a real GPU, in one command.

    python benchmarks/gpu.py              all cases on the first GPU, at most about six minutes
    python benchmarks/gpu.py --rehearse   the same cases, tiny, by Triton's interpreter: no GPU, no times

Needs Triton and CuPy (`pip install 'flambeau[gpu]'`); flambeau itself may be installed or not. torch is used for
comparison where it is present. Writes `gpu.json` and `gpu.md` under `benchmarks/results/` (`--out`), again after each
case, so that a run that dies leaves what it has measured. Exit status 1 if any case failed or was wrong.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    options = arguments()
    make_importable()
    run = Run(options)
    try:
        run.all()
    except Exception:
        run.report["error"] = traceback.format_exc()
        print(run.report["error"], file=sys.stderr)
    run.write()
    return run.status()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes by the interpreter, without a GPU")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to try the whole path on the GPU quickly")
    parser.add_argument("--seconds", type=float, default=330, help="start no new work after this time (default 330)")
    parser.add_argument("--only", default="", help="only the cases whose name contains this")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="where the results go")
    return parser.parse_args()


def make_importable() -> None:
    """Without an installed flambeau, lay the source folders out as the package they are, by links."""
    sys.path.insert(0, str(ROOT / "tests" / "gpu"))        # the hand-written kernels are shared with the tests
    try:
        import flambeau.codegen  # noqa: F401
        return
    except ImportError:
        sys.modules.pop("flambeau", None)
    package = Path(tempfile.mkdtemp()) / "flambeau"
    package.mkdir()
    for entry in (ROOT / "frontend" / "flambeau").iterdir():
        (package / entry.name).symlink_to(entry)
    for folder in ("ir", "runtime", "passes", "codegen", "frontend"):
        (package / folder).symlink_to(ROOT / folder)
    sys.path.insert(0, str(package.parent))


class Run:
    """One run of the benchmark: its clock, its results, its files."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.began = time.monotonic()
        self.rows: list[dict[str, Any]] = []
        self.report: dict[str, Any] = {"environment": environment(), "rows": self.rows}
        self.torch = optional("torch") if not options.rehearse else None

    def left(self) -> float:
        return self.options.seconds - (time.monotonic() - self.began)

    def all(self) -> None:
        from gpu_cases import cases
        from gpu_device import Gpu, Paper

        self.device = Paper() if self.options.rehearse else Gpu()
        if self.device.timed:
            self.report["device"] = device_facts(self.device)
            self.attempt("launch overhead", lambda: launch_overhead(self.device))
        for name, make in cases(small=self.options.rehearse or self.options.tiny):
            if self.options.only in name:
                self.attempt(name, lambda make=make: self.measure(make()))
        from gpu_compiled import functions

        for function in functions():
            if self.options.only in function.name:
                self.attempt(f"compiled {function.name}", lambda function=function: self.compiled(function))

    def attempt(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        row: dict[str, Any] = {"name": name}
        began = time.monotonic()
        if self.left() < 0:
            row["skipped"] = "out of time"
        else:
            try:
                row.update(work())
            except Exception as error:
                row["error"] = f"{type(error).__name__}: {error}"
                row["traceback"] = traceback.format_exc()
        row["took_s"] = round(time.monotonic() - began, 1)
        self.rows.append(row)
        print(line(row), flush=True)
        self.write()

    def measure(self, case: Any) -> dict[str, Any]:
        """Check every candidate, time the correct ones, then the peer."""
        device = self.device
        inputs = [device.upload(array) for array in case.inputs]
        row: dict[str, Any] = {"unit": case.unit, "tolerance": case.tolerance, "candidates": {}}
        for label, source, grid in case.candidates:
            if row["candidates"] and self.left() < 0:
                break
            row["candidates"][label] = self.candidate(case, source, grid, inputs)
        good = {label: facts for label, facts in row["candidates"].items() if facts.get("ok")}
        row["ok"] = bool(good) and all(facts.get("ok") or "error" in facts for facts in row["candidates"].values())
        row["worst_error"] = max((facts["error_size"] for facts in good.values()), default=None)
        if good and device.timed:
            row["best"] = min(good, key=lambda label: good[label]["ms"])
            row["ms"] = good[row["best"]]["ms"]
            row["rate"] = rate(case, row["ms"])
            row.update(self.peer(case, inputs))
        return row

    def candidate(self, case: Any, source: Any, grid: Any, inputs: list[Any]) -> dict[str, Any]:
        """A candidate may ask for more than the device has; that is its own error, not the case's."""
        device = self.device
        outputs = [device.empty(shape, dtype) for shape, dtype in case.outputs]
        began = time.monotonic()
        try:
            launch = device.prepare(source, grid, [*inputs, *outputs, *case.numbers])
            facts: dict[str, Any] = {"prepare_s": round(time.monotonic() - began, 2)}
            launch()
            device.synchronize()
            results = [device.download(array, dtype) for array, (_, dtype) in zip(outputs, case.outputs)]
            facts["error_size"] = worst_error(case, results)
            facts["ok"] = facts["error_size"] <= case.tolerance
            if device.timed:
                facts["ms"] = device.milliseconds(launch)
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}
        return facts

    def peer(self, case: Any, inputs: list[Any]) -> dict[str, Any]:
        if self.torch is None:
            return {}
        try:
            tensors = [as_torch(self.torch, array, host.dtype) for array, host in zip(inputs, case.inputs)]
            facts = {"torch_ms": self.device.milliseconds(lambda: case.peer(self.torch, *tensors))}
            if case.peer_compiles and self.left() > 60:
                compiled = self.torch.compile(case.peer, dynamic=False)
                facts["torch_compile_ms"] = self.device.milliseconds(lambda: compiled(self.torch, *tensors))
        except Exception as error:
            return {"torch_error": f"{type(error).__name__}: {error}"}
        facts["torch_rate"] = rate(case, facts["torch_ms"])
        return facts

    def compiled(self, function: Any) -> dict[str, Any]:
        """Eager on CuPy and compiled to Triton: right at a small size against the CPU, timed at a large one."""
        from gpu_compiled import Runner, arrays, host, worst

        import flambeau

        where, options = ("cuda", {}) if self.device.timed else ("cpu", {"interpret": True})
        call = compiler()(lambda *tensors: function.fn(flambeau, *tensors), backend="triton", options=options,
                          fullgraph=True)
        small = arrays(function.check)
        wanted = host(Runner(function, flambeau, small, "cpu")())
        row: dict[str, Any] = {"unit": function.unit, "tolerance": function.tolerance}
        runner = Runner(function, flambeau, small, where)
        for name, how in (("eager", None), ("compiled", call)):
            row[f"{name}_error"] = worst(host(runner(how)), wanted)
        row["worst_error"] = row["compiled_error"]
        row["ok"] = max(row["eager_error"], row["compiled_error"]) <= function.tolerance
        if self.device.timed and not self.options.tiny:
            large = arrays(function.shapes)
            runner = Runner(function, flambeau, large, where)
            began = time.monotonic()
            runner(call)
            row["prepare_s"] = round(time.monotonic() - began, 1)
            row["best"] = "compiled"
            row["ms"] = self.device.milliseconds(lambda: runner(call))
            row["eager_ms"] = self.device.milliseconds(runner, repeats=5)
            row["rate"] = rate(function, row["ms"])
            row.update(self.compiled_peer(function, large))
        return row

    def compiled_peer(self, function: Any, large: list[Any]) -> dict[str, Any]:
        if self.torch is None:
            return {}
        from gpu_compiled import Runner

        try:
            runner = Runner(function, self.torch, large, "cuda")
            facts = {"torch_ms": self.device.milliseconds(runner)}
            if self.left() > 60:
                compiled = self.torch.compile(runner.call, dynamic=False)
                facts["torch_compile_ms"] = self.device.milliseconds(lambda: runner(compiled))
        except Exception as error:
            return {"torch_error": f"{type(error).__name__}: {error}"}
        facts["torch_rate"] = rate(function, facts["torch_ms"])
        return facts

    def status(self) -> int:
        failed = "error" in self.report or not self.rows
        return int(failed or any(not row.get("ok", False) for row in self.rows if "skipped" not in row))

    def write(self) -> None:
        self.report["took_s"] = round(time.monotonic() - self.began, 1)
        self.options.out.mkdir(parents=True, exist_ok=True)
        stem = "gpu-rehearsal" if self.options.rehearse else "gpu"
        (self.options.out / f"{stem}.json").write_text(json.dumps(self.report, indent=1) + "\n")
        (self.options.out / f"{stem}.md").write_text(table(self.report))


def environment() -> dict[str, Any]:
    names = ("numpy", "triton", "cupy", "torch")
    versions = {name: getattr(module, "__version__", "?") for name in names if (module := optional(name))}
    return {"python": platform.python_version(), **versions, "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}


def optional(name: str) -> Any:
    try:
        return __import__(name)
    except Exception:                      # a broken optional package is an absent one
        return None


def device_facts(device: Any) -> dict[str, Any]:
    gpu = device.device
    return {"name": gpu.name, "target": gpu.target, "multiprocessors": gpu.multiprocessors,
            "max_shared": gpu.max_shared}


def launch_overhead(device: Any) -> dict[str, Any]:
    """Host microseconds per launch of a small kernel through ctypes, without waiting for it."""
    import numpy as np
    from hand_kernels import gelu_add

    x = device.upload(np.ones(1024, np.float32))
    launch = device.prepare(gelu_add(), (1,), [x, x, x, 1024])
    launch()
    device.synchronize()
    count = 500
    began = time.perf_counter()
    for _ in range(count):
        launch()
    took = time.perf_counter() - began
    device.synchronize()
    return {"ok": True, "host_us_per_launch": round(took / count * 1e6, 2)}


def worst_error(case: Any, results: list[Any]) -> float:
    """Largest error relative to max(1, |expected|); NaN where none belongs counts as infinite."""
    import numpy as np

    worst = 0.0
    for got, expected in case.exact(*results):
        error = np.abs(got.astype(np.float64) - expected) / np.maximum(1, np.abs(expected))
        worst = max(worst, float(np.nan_to_num(error, nan=np.inf).max()))
    return worst


def as_torch(torch: Any, array: Any, dtype: Any) -> Any:
    if array.dtype == dtype:
        return torch.from_dlpack(array)
    return torch.from_dlpack(array.view(f"i{dtype.itemsize}")).view(getattr(torch, dtype.name))


def compiler() -> Any:
    """``flambeau.compile``."""
    from flambeau.frontend.compile import compile

    return compile


def rate(case: Any, milliseconds: float) -> float:
    return round(case.amount / milliseconds / (1e6 if case.unit == "GB/s" else 1e9), 1)


def line(row: dict[str, Any]) -> str:
    name = f"{row['name']:32}"
    if "skipped" in row or "error" in row:
        return f"{name} {row.get('skipped') or row['error']}"
    text = f"{name} {'ok   ' if row['ok'] else 'WRONG'}"
    if row.get("worst_error") is not None:
        text += f" error {row['worst_error']:.1e}"
    if "ms" in row:
        text += f"  {row['ms']:8.4f} ms {row['rate']:8.1f} {row['unit']:7} [{row['best']}]"
    if "eager_ms" in row:
        text += f"  eager {row['eager_ms']:.4f}"
    if "torch_ms" in row:
        text += f"  torch {row['torch_ms']:.4f}"
    if "torch_compile_ms" in row:
        text += f"  compiled {row['torch_compile_ms']:.4f}"
    if "host_us_per_launch" in row:
        text += f" {row['host_us_per_launch']} us per launch"
    for label, facts in row.get("candidates", {}).items():
        if not facts.get("ok"):
            text += f"\n    {label}: {facts.get('error') or 'error ' + format(facts['error_size'], '.1e')}"
    return text + (f"\n    torch: {row['torch_error']}" if "torch_error" in row else "")


def table(report: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in report["environment"].items())
    lines = ["# GPU kernels", "", f"{report.get('device', {}).get('name', 'no GPU: rehearsed by the interpreter')}; "
             f"{versions}; {report['took_s']} s in all.", "",
             "| kernel | correct | worst error | ms | rate | eager ms | torch ms | torch.compile ms | chosen |",
             "|---|---|---|---|---|---|---|---|---|"]
    for row in report["rows"]:
        note = row.get("skipped") or row.get("error")
        if note:
            lines.append(f"| {row['name']} | {note.splitlines()[0].replace('|', '/')} | | | | | | | |")
            continue
        error = "" if row.get("worst_error") is None else f"{row['worst_error']:.1e}"
        rated = f"{row['rate']} {row['unit']}" if "rate" in row else ""
        if "host_us_per_launch" in row:
            rated = f"{row['host_us_per_launch']} us of host time"
        times = [f"{row[key]:.4f}" if key in row else "" for key in ("ms", "eager_ms", "torch_ms", "torch_compile_ms")]
        cells = [row["name"], "yes" if row["ok"] else "NO", error, times[0], rated, *times[1:], row.get("best", "")]
        lines.append(f"| {' | '.join(cells)} |")
    if "error" in report:
        lines += ["", "```", report["error"].rstrip(), "```"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

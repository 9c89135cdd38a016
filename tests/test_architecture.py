"""Who may know whom, read from the source of every module; and what `import flambeau` loads and costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import networkx as nx
import pytest
from imports import ROOT, imports_of, room_of, sources

ALLOWED = {
    "ir": {"ir"},
    "runtime": {"ir", "runtime"},
    "passes": {"ir", "passes"},
    "codegen": {"ir", "codegen"},
    "frontend": {"ir", "runtime", "passes", "codegen", "frontend"},
    "public": {"ir", "runtime", "passes", "codegen", "frontend", "public"},
}
# What each room may import from outside the package and the standard library. The public namespace is free, as far
# as the declared dependencies go.
THIRD_PARTY = {"numpy", "scipy", "sympy", "networkx", "ml_dtypes"}
OPTIONAL = {"triton", "cupy", "ziglang"}
IR_THIRD_PARTY = {"numpy", "scipy", "sympy", "ml_dtypes"}


def ours(target: str) -> bool:
    return target == "flambeau" or target.startswith("flambeau.")


def test_the_walker_sees_the_tree() -> None:
    assert {"flambeau", "flambeau.ir", "flambeau.frontend.trace", "flambeau.cli"} <= set(sources())
    assert room_of("flambeau.ir.op") == "ir" and room_of("flambeau.nn.linear") == "public"


def test_imports_point_one_way() -> None:
    wrong = [f"{module} ({room_of(module)}) imports {target} ({room_of(target)})"
             for module in sources() for target in sorted(imports_of(module))
             if ours(target) and room_of(target) not in ALLOWED[room_of(module)]]
    assert not wrong, "\n".join(wrong)


def test_imports_name_modules_that_exist() -> None:
    wrong = [f"{module} imports {target}" for module in sources() for target in sorted(imports_of(module))
             if ours(target) and target not in sources()]
    assert not wrong, "\n".join(wrong)


def test_no_import_cycles() -> None:
    """No module reaches itself through imports, lazy ones included.

    `import flambeau` is the one module left out: the names of the public package are what everything public uses,
    and it reaches the compiler lazily, on the first `compile`.
    """
    graph = nx.DiGraph()
    for module in sources():
        graph.add_edges_from((module, target) for target in imports_of(module)
                             if target in sources() and target != module and "flambeau" not in (module, target))
    cycles = [sorted(group) for group in nx.strongly_connected_components(graph) if len(group) > 1]
    assert not cycles, "\n".join(" <-> ".join(cycle) for cycle in cycles)


def test_third_party_imports_are_declared() -> None:
    def allowed(module: str) -> set[str]:
        return IR_THIRD_PARTY if room_of(module) == "ir" else THIRD_PARTY | OPTIONAL

    wrong = []
    for module in sources():
        for target in imports_of(module):
            top = target.split(".")[0]
            if top not in sys.stdlib_module_names | {"flambeau"} | allowed(module):
                wrong.append(f"{module} imports {target}")
            if top in OPTIONAL and target in imports_of(module, lazy=False):
                wrong.append(f"{module} imports the optional {target} at import time")
    assert not wrong, "\n".join(wrong)


def test_no_package_at_the_root() -> None:
    assert not (ROOT / "__init__.py").exists(), "pytest would load every module twice"


def test_files_stay_readable() -> None:
    long = {module: lines for module, path in sources().items()
            if (lines := len(path.read_text().splitlines())) > 1000}
    assert not long, f"split these, none above 1,000 lines: {long}"


def run_fresh(code: str) -> str:
    # Compiled bytecode may be kept, as on a user's machine: without it every import compiles every file.
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env,
                          timeout=60).stdout


def test_import_flambeau_loads_no_compiler() -> None:
    loaded = json.loads(run_fresh("import flambeau, sys, json; print(json.dumps(sorted(sys.modules)))"))
    heavy = [name for name in loaded
             if name.split(".")[0] in ("sympy", "networkx", "triton", "torch", "cupy", "mpmath")
             or any(name == room or name.startswith(room + ".")
                    for room in ("flambeau.frontend", "flambeau.passes", "flambeau.codegen"))]
    assert not heavy, heavy


def test_no_module_is_loaded_twice() -> None:
    names = json.loads(run_fresh(
        "import flambeau, sys, json\n"
        "print(json.dumps([[n, getattr(m, '__file__', None) or ''] for n, m in list(sys.modules.items())]))"))
    seen: dict[str, str] = {}
    for name, file in names:
        if file.startswith(str(ROOT)) and ".venv" not in file:
            assert seen.setdefault(file, name) == name, (file, seen[file], name)


@pytest.mark.slow
def test_import_time_is_at_most_twice_numpys() -> None:
    """The smallest of several CPU times: the machine may be busy with other tests."""
    def seconds(module: str) -> float:
        return float(run_fresh(f"import time; t = time.process_time(); import {module}; "
                               "print(time.process_time() - t)"))

    seconds("flambeau")   # warms the file cache and leaves the bytecode
    times = [(seconds("flambeau"), seconds("numpy")) for _ in range(7)]
    ours_s, numpy_s = (min(column) for column in zip(*times))
    assert ours_s <= 2 * numpy_s, f"import flambeau {ours_s:.3f} s, import numpy {numpy_s:.3f} s"

"""The package's import graph, read from the source: every import statement, those inside functions included."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("ir", "runtime", "passes", "codegen", "frontend")


def module_name(path: Path) -> str:
    """The name a source file is installed under: ir/ops/view.py is flambeau.ir.ops.view."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[:2] == ["frontend", "flambeau"]:
        parts = parts[2:]
    if parts[-1:] == ["__init__"]:
        parts.pop()
    return ".".join(["flambeau", *parts])


@functools.cache
def sources() -> dict[str, Path]:
    """Every module of the package by its installed name."""
    paths = (path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))
    return {module_name(path): path for path in paths}


def room_of(module: str) -> str:
    """The room a module lives in: one of ROOMS, or "public" for the public namespace."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "public"


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING")


def _import_nodes(tree: ast.AST, lazy: bool) -> Iterator[ast.Import | ast.ImportFrom | ast.Call]:
    """Imports under `tree`, without those for the type checker; those in functions too if `lazy`."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and _is_type_checking(child.test):
            for other in child.orelse:
                yield from _import_nodes(other, lazy)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not lazy:
            continue
        else:
            if isinstance(child, ast.Call) and _imports_by_string(child):
                yield child
            yield from _import_nodes(child, lazy)


def _imports_by_string(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    literal = bool(call.args) and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)
    return name in ("import_module", "__import__") and literal


def _targets(node: ast.Import | ast.ImportFrom | ast.Call, package: str) -> Iterator[str]:
    if isinstance(node, ast.Call):
        first = node.args[0]
        assert isinstance(first, ast.Constant)
        yield str(first.value)
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    else:
        base = node.module or ""
        if node.level:
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, base] if base else above)
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            yield inner if inner in sources() else base


@functools.cache
def imports_of(module: str, lazy: bool = True) -> frozenset[str]:
    """The modules of any package that `module` imports; without those inside functions if not `lazy`."""
    path = sources()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text(), str(path))
    return frozenset(target for node in _import_nodes(tree, lazy) for target in _targets(node, package))

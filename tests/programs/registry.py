"""Programs in ordinary PyTorch style, to be run with any library that has PyTorch's API, and how their results compare.

A program is a function of the library (``torch`` or ``flambeau``) that returns what a script would print: tensors,
numbers, texts, types of exceptions. ``outcome`` turns that into plain JSON data; ``differences`` compares two of them.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

Program = Callable[[Any], Any]
PROGRAMS: dict[str, Program] = {}


def program(function: Program) -> Program:
    """Register a program under the name of its file and its own."""
    name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
    assert name not in PROGRAMS, name
    PROGRAMS[name] = function
    return function


def load() -> dict[str, Program]:
    """All programs, by name: file after file, whichever was imported first."""
    for module in sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)])):
        if not module.startswith("test_") and module not in ("registry", "make_goldens"):
            importlib.import_module(f"programs.{module}")
    return {name: PROGRAMS[name] for name in sorted(PROGRAMS, key=lambda name: name.partition(".")[0])}


def raised(call: Callable[[], Any]) -> str:
    """The name of the type of exception that ``call`` raises (RuntimeError for those derived from it), or "nothing"."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - the program prints what it met
        return "RuntimeError" if isinstance(error, RuntimeError) else type(error).__name__
    return "nothing"


def message(call: Callable[[], Any]) -> str:
    """The type and the text of the exception that ``call`` raises."""
    try:
        call()
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"
    return "nothing"


def outcome(function: Program, library: Any) -> Any:
    """What ``function`` returns under ``library`` from seed 0, as plain data."""
    library.manual_seed(0)
    random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return plain(function(library), library)


def plain(value: Any, library: Any) -> Any:
    """``value`` as JSON data: a tensor keeps dtype, shape, whether it needs a gradient, and its numbers."""
    if isinstance(value, library.Tensor):
        numbers = value.detach()
        if numbers.is_complex():
            numbers = library.view_as_real(numbers.resolve_conj())
        if numbers.dtype in (library.bfloat16, library.float16):
            numbers = numbers.float()
        kind = f"{value.dtype} {tuple(value.shape)}{' grad' if value.requires_grad else ''}"
        return {"tensor": kind, "numbers": _rounded(numbers.flatten().tolist())}
    if isinstance(value, dict):
        return {str(key): plain(part, library) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part, library) for part in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return _rounded([value])[0]
    if isinstance(value, complex):
        return _rounded([value.real, value.imag])
    return str(value)


def _rounded(numbers: list[Any]) -> list[Any]:
    """Six significant digits; numbers that JSON does not have as texts."""
    return [x if not isinstance(x, float) else float(f"{x:.6g}") if math.isfinite(x) else str(x) for x in numbers]


def differences(got: Any, want: Any, where: str = "", tolerance: float = 2e-4) -> list[str]:
    """Where two outcomes differ: numbers by more than the tolerance, anything else at all."""
    if isinstance(want, dict) and isinstance(got, dict):
        if list(got) != list(want):
            return [f"{where}: keys {list(got)} instead of {list(want)}"]
        return [d for key in want for d in differences(got[key], want[key], f"{where}.{key}", tolerance)]
    if isinstance(want, list) and isinstance(got, list):
        if len(got) != len(want):
            return [f"{where}: {len(got)} parts instead of {len(want)}: {got!r:.200} {want!r:.200}"]
        return [d for i, (a, b) in enumerate(zip(got, want)) for d in differences(a, b, f"{where}[{i}]", tolerance)]
    if _is_number(got) and _is_number(want) and (isinstance(got, float) or isinstance(want, float)):
        close = math.isclose(got, want, rel_tol=tolerance, abs_tol=tolerance / 10)
        return [] if close else [f"{where}: {got} instead of {want}"]
    return [] if type(got) is type(want) and got == want else [f"{where}: {got!r} instead of {want!r}"]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

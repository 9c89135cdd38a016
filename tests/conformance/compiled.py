"""An entry of ``op_db`` compiled: one graph, equal to flambeau's own eager results, forward and backward.

Counted are the samples that run eagerly. What the compiler refuses is said by an exception or a warning (``fell back``);
a result that differs is ``wrong``. Compiling takes much longer than running, so a few samples stand for the entry.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.testing._internal.opinfo.core import OpInfo

import flambeau
from flambeau.frontend.aot import CompileWarning
from flambeau.frontend.points import FallbackWarning, RecompileWarning

from . import names
from .compare import Differs, same_arrays
from .names import Missing, ours
from .operators import SEED, UNWRITTEN, Call, calls, describe, entries, first_dtype
from .outcome import Outcome, Uncounted, reason_of
from .values import tensors_in, to_ours

__all__ = ["COLUMNS", "entries", "run"]

COLUMNS = ("compiled", "compiled bwd")
#: how many samples of an entry are compiled: the first, the last, and between them
SAMPLES = 3
_REFUSALS = (CompileWarning, FallbackWarning, RecompileWarning)


def run(op: OpInfo, column: str) -> Outcome:
    """The outcome of one column of an entry."""
    try:
        grad = column == "compiled bwd"
        if op.name in UNWRITTEN:
            raise Uncounted
        if grad and torch.float32 not in op.supported_backward_dtypes("cpu"):
            raise Uncounted
        return _compare(op, grad)
    except (Uncounted, Missing):
        return Outcome()


def _compare(op: OpInfo, grad: bool) -> Outcome:
    outcome = Outcome(notes={"wrong": 0, "fell back": 0})
    names.seeding = False  # the call is seeded from outside: a compiled function cannot seed
    our = ours(op.op, op.name)
    for call in _chosen(list(calls(op, torch.float32 if grad else first_dtype(op), grad))):
        call.convert()
        weights: list[Any] = []
        try:
            want = _results(call, our, grad, weights)
        except Exception:  # noqa: S112 - what eager refuses is another column's
            continue
        if grad and not want[2]:
            continue
        outcome.counted = True
        flambeau.compiler.reset()
        compiled = flambeau.compile(_apply, fullgraph=True, dynamic=False)
        call.convert()
        outcome.check(lambda call=call, compiled=compiled, want=want, weights=weights: _check(
            outcome, call, lambda *a, **k: compiled(our, a, k), grad, weights, want), describe(call))
    return outcome


def _apply(function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)


def _chosen(found: list[Call]) -> list[Call]:
    if len(found) <= SAMPLES:
        return found
    return [found[round(i * (len(found) - 1) / (SAMPLES - 1))] for i in range(SAMPLES)]


class Refused(Exception):
    """The compiler said that it does not compile this."""


@contextlib.contextmanager
def _no_refusals() -> Iterator[None]:
    with warnings.catch_warnings():
        for kind in _REFUSALS:
            warnings.simplefilter("error", kind)
        try:
            yield
        except Exception as error:
            raise Refused(reason_of(error)) from error


def _check(outcome: Outcome, call: Call, function: Callable[..., Any], grad: bool, weights: list, want: tuple) -> None:
    try:
        with _no_refusals():
            got = _results(call, function, grad, weights)
    except Refused as error:
        outcome.notes["fell back"] += 1
        raise Differs(f"fell back: {error}") from error
    try:
        for part, name in zip(range(3), ("result", "input after the call", "gradient"), strict=True):
            _same(got[part], want[part], name)
    except Differs as error:
        outcome.notes["wrong"] += 1
        raise Differs(f"WRONG: {error}") from error


def _results(call: Call, function: Callable[..., Any], grad: bool, weights: list[Any]) -> tuple[Any, list, list]:
    """What came out, what the inputs are afterwards, their gradients. Makes ``weights`` on the first run."""
    out = call.ours(function)
    inputs = tensors_in((call.our_args, call.our_kwargs), flambeau.Tensor)
    if not grad:
        return out, [t.detach() for t in inputs], []
    wanted = [t for t in inputs if t.requires_grad]
    roots = [t for t in tensors_in(out, flambeau.Tensor) if t.requires_grad]
    if not wanted or not roots:
        return out, [], []
    if not weights:
        generator = torch.Generator().manual_seed(SEED)
        weights += [to_ours(torch.randn(tuple(t.shape), dtype=getattr(torch, str(t.dtype)[6:]), generator=generator))
                    for t in roots]
    return out, [], list(flambeau.autograd.grad(roots, wanted, weights, allow_unused=True))


def _same(got: Any, want: Any, where: str) -> None:
    if isinstance(want, flambeau.Tensor):
        if not isinstance(got, flambeau.Tensor) or got.dtype is not want.dtype or got.shape != want.shape:
            raise Differs(f"{where} is {_kind(got)}, not {_kind(want)}")
        same_arrays(_array(got), _array(want), str(want.dtype)[6:], where)
    elif isinstance(want, (list, tuple)):
        if type(got) is not type(want) or len(got) != len(want):
            raise Differs(f"{where} is {_kind(got)}, not {_kind(want)}")
        for i, (g, w) in enumerate(zip(got, want)):
            _same(g, w, f"{where}[{i}]")
    elif not (got is want or got == want or (got != got and want != want)):
        raise Differs(f"{where} is {got}, not {want}")


def _array(t: Any) -> np.ndarray:
    return np.asarray(t.detach().numpy())


def _kind(value: Any) -> str:
    if isinstance(value, flambeau.Tensor):
        return f"{value.dtype.short}{list(value.shape)}"
    return f"{type(value).__name__}" + (f" of {len(value)}" if isinstance(value, (list, tuple)) else "")

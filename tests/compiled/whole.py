"""Whole programs, run eagerly and compiled: what a user sees of both must be the same.

A program is a function of ``compile``. It is called once with a ``compile`` that does nothing and once with one that
compiles with some backend, after the same seed; its result is a tree of tensors and Python values.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import flambeau as ft

Program = Callable[..., Any]


@dataclass(frozen=True)
class Whole:
    """``run(compile)``; ``graphs`` is how many graphs a backend gets in all (None: not counted)."""

    name: str
    run: Program
    graphs: int | None = 1
    full: bool = True
    rtol: float = 2e-5
    atol: float = 2e-6


def entered(into: list[Whole]) -> Any:
    """A decorator that enters programs into a list: ``@program(graphs=..., full=...)``."""
    def program(**how: Any) -> Any:
        how.setdefault("full", how.get("graphs", 1) == 1)

        def enter(run: Program) -> Program:
            into.append(Whole(run.__name__, run, **how))
            return run
        return enter
    return program


def trained(fn: Any, *args: Any, leaves: Any = (), **kwargs: Any) -> Any:
    """The outputs of a call, and the gradients of their weighted sum to tensors or to a Module's parameters."""
    out = fn(*args, **kwargs)
    losses = [o for o in tensors_in(out) if o.requires_grad]
    leaves = list(leaves.parameters()) if isinstance(leaves, ft.nn.Module) else list(leaves)
    leaves += [a for a in args if isinstance(a, ft.Tensor) and a.requires_grad and a.is_leaf]
    total = sum((abs(o) if o.is_complex() else o).float().mean() * (k + 1) for k, o in enumerate(losses))
    grads = ft.autograd.grad(total, leaves, allow_unused=True)
    return out, list(grads)


def tensors_in(tree: Any) -> list[Any]:
    """The tensors in a tree of containers, in order."""
    if isinstance(tree, ft.Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, (list, tuple)):
        return [t for x in tree for t in tensors_in(x)]
    if hasattr(tree, "__dataclass_fields__"):
        return tensors_in(list(vars(tree).values()))
    return []


def not_compiled(fn: Any = None, **settings: Any) -> Any:
    """The ``compile`` of eager runs."""
    return fn if fn is not None else lambda f: f


class Compiler:
    """``compile`` with one backend, as the programs call it."""

    def __init__(self, backend: Any, full: bool) -> None:
        self.backend, self.full = backend, full

    def __call__(self, fn: Any = None, **settings: Any) -> Any:
        settings.setdefault("fullgraph", self.full)
        return ft.compile(fn, backend=self.backend, **settings)


class Counting:
    """A user's backend: runs the graph module, and counts the graphs it gets."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph_module: Any, examples: list[Any]) -> Any:
        self.count += 1
        assert len(examples) == len(graph_module.graph.inputs)
        return graph_module


def seen(whole: Whole, compile: Any) -> Any:
    """What a run shows: its result or error, what it printed, and the state of the generator afterwards."""
    ft.manual_seed(11)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        result = whole.run(compile)
    return result, printed.getvalue(), ft.get_rng_state()


def same(actual: Any, expected: Any, rtol: float, atol: float, at: str = "result") -> None:
    """Raise ``AssertionError``, naming the place, where two trees differ."""
    assert type(actual) is type(expected), f"{at}: {type(actual)} for {type(expected)}"
    if isinstance(expected, ft.Tensor):
        for what in ("dtype", "shape", "requires_grad", "is_leaf"):
            assert getattr(actual, what) == getattr(expected, what), \
                f"{at}.{what}: {getattr(actual, what)} for {getattr(expected, what)}"
        if expected.dtype in (ft.bfloat16, ft.float16):
            actual, expected = actual.detach().float(), expected.detach().float()
        np.testing.assert_allclose(actual.detach().numpy(), expected.detach().numpy(), rtol, atol, err_msg=at)
    elif isinstance(expected, dict):
        assert list(actual) == list(expected), at
        for key in expected:
            same(actual[key], expected[key], rtol, atol, f"{at}[{key!r}]")
    elif isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected), at
        for k, (a, e) in enumerate(zip(actual, expected)):
            same(a, e, rtol, atol, f"{at}[{k}]")
    elif hasattr(expected, "__dataclass_fields__"):
        same(vars(actual), vars(expected), rtol, atol, at)
    elif isinstance(expected, float):
        np.testing.assert_allclose(actual, expected, rtol, atol, err_msg=at)
    else:
        assert actual == expected, f"{at}: {actual!r} for {expected!r}"


def check(whole: Whole, backend: Any) -> None:
    """Run eagerly and compiled, and compare."""
    expected, printed, rng = seen(whole, not_compiled)
    found, found_printed, found_rng = seen(whole, Compiler(backend, whole.full))
    same(found, expected, whole.rtol, whole.atol)
    assert found_printed == printed
    assert bool((found_rng == rng).all()), "the generator is in another state"
    if isinstance(backend, Counting) and whole.graphs is not None:
        assert backend.count == whole.graphs, f"{backend.count} graphs for {whole.graphs}"

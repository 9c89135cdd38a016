"""Ops that raise when the graph runs: the program's own handlers see the error, and what it had done before is done once."""

from __future__ import annotations

import warnings

import pytest

import flambeau as fl
from flambeau.frontend.points import FallbackWarning


def reads(x, i):
    try:
        return x[i] + 1
    except IndexError as error:
        return f"caught {error}"


def writes_to_its_own(x, i):
    y = x.clone()
    y.view(-1)[-1] = 3.0
    try:
        return y[i] + 1
    except IndexError as error:
        return f"caught {error}"


def has_cells(x, i, *more, k=2, **named):
    given = lambda: (x, more, k, named)  # noqa: E731
    try:
        return given()[0][i] + k
    except IndexError as error:
        return f"caught {error} with {more} {k} {named}"


def writes_to_an_input(x, i):
    x.add_(1)
    try:
        return x[i] + 1
    except IndexError as error:
        return f"caught {error}"


def call(fn, x, i):
    found = fn(x, i, 5, z=7) if "has_cells" in fn.__name__ else fn(x, i)
    return found if isinstance(found, str) else found.tolist(), x.tolist()


@pytest.mark.parametrize("backend", ["aot_eager", "numpy", "cpp"])
@pytest.mark.parametrize("fn", [reads, writes_to_its_own, has_cells, writes_to_an_input])
def test_the_program_s_handlers_see_what_the_graph_raises(fn, backend):
    if fn is writes_to_an_input and backend == "cpp":
        pytest.skip("a plan that writes new values where the old ones are may have begun to")
    compiled = fl.compile(fn, backend=backend)
    with warnings.catch_warnings():
        warnings.simplefilter("error")                # neither a fallback nor a graph that the target cannot compile
        for i in (fl.tensor([0, 1]), fl.tensor([0, 9]), fl.tensor([1, 3])):
            assert call(compiled, fl.arange(4.0), i) == call(fn, fl.arange(4.0), i)


def test_an_error_that_is_the_compiler_s_is_told():
    def backend(graph, examples):
        def run(*inputs):
            raise ValueError("out of registers")
        return run

    with pytest.warns(FallbackWarning, match="its compiled graph raised ValueError: out of registers, which the program itself"):
        assert fl.compile(lambda x: x + 1, backend=backend)(fl.ones(2)).tolist() == [2, 2]


def of_a_leaf(leaf):
    leaf.add_(1)


def of_a_view(leaf):
    leaf[0].add_(1)


@pytest.mark.parametrize("write", [of_a_leaf, of_a_view])
@pytest.mark.parametrize("make", [lambda: fl.tensor([1.0, 2.0], requires_grad=True), lambda: fl.ones(2).requires_grad_()])
def test_leaves_made_while_tracing_are_not_written_to(make, write):
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad is being used in an in-place operation"):
        fl.compile(lambda: write(make()), backend="aot_eager")()

"""The conformance runner: it passes what agrees with PyTorch, sees what does not, and counts what PyTorch passes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import flambeau
from tests.conformance import compare, modules, operators, optimizers, ties
from tests.conformance.compare import Differs
from tests.conformance.names import Missing, ours
from tests.conformance.pool import spread
from tests.conformance.values import array_of, to_ours

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("column", ["f32", "i64", "bf16", "c64", "bwd32", "bwdc64", "method", "inplace", "operator", "alias"])
def test_subtraction_passes(column: str) -> None:
    outcome = operators.run(operators.entries()["sub"], column)
    assert outcome.ok and outcome.samples > 0, outcome.failures


def test_what_pytorch_does_not_have_is_not_counted() -> None:
    assert not operators.run(operators.entries()["sub"], "bool").counted
    assert not operators.run(operators.entries()["bitwise_and"], "bwd32").counted


@pytest.mark.parametrize("wrong", [
    lambda x, y, **kwargs: flambeau.add(x, y), lambda x, y, **kwargs: flambeau.sub(x, y, **kwargs).double(),
    lambda x, y, **kwargs: flambeau.sub(x, y, **kwargs)[None], lambda x, y, **kwargs: flambeau.sub(x, y, **kwargs).detach()])
def test_a_wrong_function_is_seen(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flambeau, "sub", wrong)
    outcomes = [operators.run(operators.entries()["sub"], column) for column in ("f32", "bwd32")]
    assert all(o.counted for o in outcomes) and not all(o.ok for o in outcomes)


def test_a_missing_function_counts_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: Any) -> None:
        raise Missing("no torch.sub")

    monkeypatch.setattr(operators, "ours", missing)
    outcome = operators.run(operators.entries()["sub"], "f32")
    assert outcome.counted and outcome.failures == ["missing: no torch.sub"]


def test_errors_are_compared_by_type(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = operators.entries()["t"]
    assert operators.run(entry, "errors").as_json()["passed"] == 1
    theirs = flambeau.t

    def other(x: Any) -> Any:
        if x.ndim > 2:
            raise KeyError("t")
        return theirs(x)

    monkeypatch.setattr(flambeau, "t", other)
    outcome = operators.run(entry, "errors")
    assert outcome.passed == 0 and "KeyError" in outcome.failures[0]


def test_double_precision_decides_where_rounding_does() -> None:
    want, exact = torch.tensor([1.0, 2.001]), torch.tensor([1.0, 2.0], dtype=torch.float64)
    compare.same(flambeau.tensor([1.0, 1.9995]), want, truth=lambda: exact)
    with pytest.raises(Differs):
        compare.same(flambeau.tensor([1.0, 1.9995]), want)
    with pytest.raises(Differs):
        compare.same(flambeau.tensor([1.0, 1.99]), want, truth=lambda: exact)


def test_positions_of_equal_elements_may_be_exchanged() -> None:
    source = torch.tensor([3, 1, 1, 2])
    want = torch.sort(source)
    ties.same("sort", (source,), {}, (flambeau.tensor([1, 1, 2, 3]), flambeau.tensor([2, 1, 3, 0])), want)
    for positions in ([1, 1, 3, 0], [1, 3, 2, 0]):
        with pytest.raises(Differs):
            ties.same("sort", (source,), {}, (flambeau.tensor([1, 1, 2, 3]), flambeau.tensor(positions)), want)


def test_values_keep_strides_dtypes_and_identity() -> None:
    x = torch.arange(12.0).reshape(3, 4).t()[1:, ::2]
    a, b, kind = to_ours((x, x, torch.bfloat16))
    assert a is b and a.stride() == x.stride() and a.tolist() == x.tolist() and kind is flambeau.bfloat16
    half = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    assert to_ours(half).tolist() == half.tolist() and array_of(torch.tensor([1j]).conj())[0] == -1j
    with pytest.raises(Missing):
        to_ours(torch.eye(2).to_sparse())


def test_test_functions_are_rebuilt_with_ours() -> None:
    def theirs(x: Any) -> Any:
        return torch.nn.functional.relu(x) + torch.ones(2)

    theirs.__module__ = "torch.testing._internal.example"
    assert ours(theirs)(flambeau.tensor([-1.0, 2.0])).tolist() == [1.0, 3.0]


def test_a_module_and_an_optimizer_pass() -> None:
    assert modules.run(modules.entries()["nn.Linear"], "modules").ok
    outcome = optimizers.run(optimizers.entries()["SGD"], "optim options")
    assert outcome.units > 5 and outcome.passed == outcome.units, outcome.failures


def _work(task: str) -> str:
    if task == "crash":
        os._exit(1)
    while task == "hang":
        pass
    return task + "!"


def test_a_lost_process_costs_its_own_task() -> None:
    found = dict(spread(_work, ["a", "crash", "b", "hang", "c"], 2, 2.0))
    assert found == {"a": "a!", "b": "b!", "c": "c!", "crash": None, "hang": None}


def test_the_readme_has_a_place_for_the_scores() -> None:
    from tests.conformance.report import BEGIN, END  # noqa: PLC0415
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    assert text.index(BEGIN) < text.index(END)

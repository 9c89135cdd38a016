"""Models in many styles: compiled, the forward is one graph and a whole training step too, with the numbers of eager mode."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from compiled.whole import Counting, same, tensors_in
from programs.models import MODELS, Model

import flambeau as ft

ROUNDING = {"rtol": 2e-4, "atol": 2e-5}


def made(name: str) -> Model:
    ft.manual_seed(0)
    return MODELS[name](ft)


def forwards(model: Model, call: Any) -> list[Any]:
    """Results and gradients of two sizes while training, then results without gradients."""
    shown: list[Any] = []
    for k, n in enumerate((2, 2, 3)):
        model.module.zero_grad()
        args = model.batch(k, n)
        out = call(*args)
        model.loss_of(out, *args).backward()
        shown += [[t.detach() for t in tensors_in(out)], [p.grad for p in model.module.parameters()]]
    model.module.eval()
    with ft.no_grad():
        shown.append([t.detach() for t in tensors_in(call(*model.batch(0, 2)))])
    return [*shown, [b.clone() for b in model.module.buffers()]]


@pytest.mark.parametrize("name", MODELS)
def test_forward_is_one_graph(name: str) -> None:
    eager, model, backend = made(name), made(name), Counting()
    ft.manual_seed(1)
    expected = forwards(eager, eager.module)
    ft.manual_seed(1)
    found = forwards(model, ft.compile(model.module, backend=backend, fullgraph=True))
    same(found, expected, **ROUNDING)
    assert backend.count == 3                                        # one size, any size, without gradients


def steps(model: Model, compile: Any) -> list[Any]:
    optimizer = ft.optim.AdamW(model.module.parameters(), lr=0.01, eps=1e-3)

    def step(*args: Any) -> Any:
        optimizer.zero_grad()
        loss = model.loss_of(model.module(*args), *args)
        loss.backward()
        ft.nn.utils.clip_grad_norm_(model.module.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    step = compile(step)
    losses = [step(*model.batch(k, 2)) for k in range(3)]
    return [losses, [t.detach() for t in (*model.module.parameters(), *model.module.buffers())]]


@pytest.mark.parametrize("name", MODELS)
def test_training_step_is_one_graph(name: str) -> None:
    backend = Counting()
    ft.manual_seed(1)
    eager = made(name)
    expected = steps(eager, lambda f: f)
    found = steps(made(name), lambda f: ft.compile(f, backend=backend, fullgraph=True))
    same(found, expected, **ROUNDING)
    assert backend.count == 2                                        # the first makes the optimizer's state


def test_models_are_functions_of_the_library() -> None:
    assert all(list(inspect.signature(make).parameters) == ["torch"] for make in MODELS.values())

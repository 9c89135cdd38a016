"""``compile(backend="triton")``: values by the interpreter, gradients included, and every stage for every target."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("triton")

import flambeau  # noqa: E402
from flambeau import nn  # noqa: E402
from flambeau.frontend.compile import compile as compile_  # noqa: E402
from flambeau.ir.stage import record_stages  # noqa: E402

INTERPRET = {"interpret": True}


def compiled(fn: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    return compile_(fn, backend="triton", fullgraph=True, options=options or INTERPRET)


def same(got: Any, wanted: Any) -> None:
    np.testing.assert_allclose(got.detach().numpy(), wanted.detach().numpy(), rtol=2e-5, atol=2e-5)


def drawn(*shape: int, grad: bool = False) -> Any:
    return flambeau.tensor(np.random.default_rng(sum(shape)).standard_normal(shape).astype("float32"),
                           requires_grad=grad)


def test_a_function_and_its_gradient() -> None:
    def fn(x: Any, w: Any) -> Any:
        return flambeau.softmax(x @ w, -1).sum()

    grads = []
    for call in (fn, compiled(fn)):
        x, w = drawn(8, 16, grad=True), drawn(16, 70, grad=True)
        (call(x, w) * 3).backward()
        grads.append((x.grad, w.grad))
    same(grads[1][0], grads[0][0])
    same(grads[1][1], grads[0][1])


def test_a_module_trains() -> None:
    def trained(wrap: Callable[[Any], Any]) -> list[float]:
        flambeau.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 4))
        call, losses = wrap(model), []
        optimizer = flambeau.optim.SGD(model.parameters(), lr=0.1)
        x, y = drawn(20, 16), flambeau.arange(20) % 4
        for _ in range(3):
            loss = nn.functional.cross_entropy(call(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    np.testing.assert_allclose(trained(compiled), trained(lambda model: model), rtol=1e-4)


def test_attention_in_plain_operations() -> None:
    def fn(q: Any, k: Any, v: Any) -> Any:
        score = q @ k.transpose(-2, -1) / 4.0
        hidden = flambeau.triu(flambeau.ones(20, 20, dtype=flambeau.bool), 1)
        return flambeau.softmax(score.masked_fill(hidden, float("-inf")), -1) @ v

    args = [drawn(2, 3, 20, 16), drawn(2, 3, 20, 16) + 1, drawn(2, 3, 20, 16) - 1]
    same(compiled(fn)(*args), fn(*args))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_attention_function_is_one_kernel(dtype: str, causal: bool) -> None:
    def fn(q: Any, k: Any, v: Any) -> Any:
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    args = [(drawn(2, 3, 20, 16) * scale).to(getattr(flambeau, dtype)) for scale in (1, 2, -1)]
    with record_stages() as stages:
        got = compiled(fn)(*args)
    np.testing.assert_allclose(got.float().numpy(), fn(*args).float().numpy(), rtol=2e-2, atol=2e-2 if dtype[0] == "b" else 1e-5)
    (text,) = [stage.text for stage in stages if stage.name == "triton"]
    assert text.count("# ---- ") == 1 and "tl.dot(query, key" in text


def test_gradients_of_attention() -> None:
    def fn(q: Any, k: Any, v: Any) -> Any:
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).square().sum()

    grads = []
    for call in (fn, compiled(fn)):
        args = [(drawn(1, 2, 20, 16) * scale).requires_grad_() for scale in (1, 2, -1)]
        call(*args).backward()
        grads.append([arg.grad for arg in args])
    for got, wanted in zip(*reversed(grads)):
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=1e-4, atol=1e-4)


def test_dynamic_sizes() -> None:
    def fn(x: Any) -> Any:
        return flambeau.exp(x - x.mean(-1, keepdim=True))

    call = compile_(fn, backend="triton", dynamic=True, options=INTERPRET)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rows in (3, 5, 9):
            same(call(drawn(rows, 80)), fn(drawn(rows, 80)))


@pytest.mark.parametrize("target, last", [("cuda:80", "ptx"), ("cuda:90", "ptx"), ("hip:gfx942", "amdgcn")])
def test_every_stage_is_there_and_names_the_users_line(target: str, last: str) -> None:
    def fn(x: Any, w: Any) -> Any:
        return flambeau.relu(x @ w).sum()

    call = compiled(fn, target=target)
    x, w = drawn(16, 16, grad=True), drawn(16, 16, grad=True)
    with record_stages() as stages:
        call(x, w).backward()
    texts = {stage.name: stage.text for stage in stages}
    for name in ("loops", "schedule", "plan", "triton", "ttir", "ttgir", "llir", last):
        assert "test_backend.py:" in texts[name], name
        assert texts[f"{name}/backward"], name


def test_cpu_tensors_run_op_by_op_and_are_right() -> None:
    def fn(x: Any) -> Any:
        return flambeau.tanh(x) * 2

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(compiled(fn, target="cuda:90")(drawn(5)), fn(drawn(5)))


@pytest.mark.slow
def test_a_convolutional_net_with_pooling_and_attention() -> None:
    """Pooling reads its input at mixed positions, and normalisation reduces around the channel."""
    flambeau.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(2))
    x = drawn(2, 1, 8, 8)

    def fn(x: Any) -> Any:
        tokens = net(x)
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).square().mean()

    grads = []
    for call in (fn, compiled(fn)):
        net.zero_grad()
        call(x).backward()
        grads.append([parameter.grad for parameter in net.parameters()])
    for got, wanted in zip(*reversed(grads)):
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=1e-3, atol=1e-5)

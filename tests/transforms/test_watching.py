"""What watches the tape: nothing is paid while nobody does, checkpoints free memory, overrides leave functions what they are."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

import flambeau
from flambeau import nn
from flambeau.autograd import forward_ad, graph
from flambeau.func import grad, jvp, vjp, vmap
from flambeau.ir.op import state
from flambeau.utils.checkpoint import checkpoint, checkpoint_sequential


def test_the_handler_is_the_runtime_again_when_nobody_watches() -> None:
    before = state.handler
    x = flambeau.ones(3, requires_grad=True)
    with graph.saved_tensors_hooks(lambda t: t, lambda t: t), flambeau.autograd.set_detect_anomaly(True):
        assert state.handler is not before
        x.exp().sum().backward()
    with flambeau.inference_mode():
        x * 2
    with forward_ad.dual_level():
        forward_ad.make_dual(x, x)
    vmap(grad(lambda t: t.sin()))(x.detach())
    assert state.handler is before


def test_the_handler_is_restored_after_errors() -> None:
    before = state.handler

    def broken(t: Any) -> Any:
        raise KeyError("in the user's function")

    for run in (lambda: vmap(broken)(flambeau.ones(2)), lambda: grad(broken)(flambeau.ones(())),
                lambda: jvp(broken, (flambeau.ones(2),), (flambeau.ones(2),))):
        with pytest.raises(KeyError):
            run()
        assert state.handler is before
    assert float(flambeau.ones(2).sum()) == 2.0


def _deep() -> tuple[Any, Any]:
    flambeau.manual_seed(0)
    net = nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.GELU()) for _ in range(8)])
    return net, flambeau.randn(512, 64, requires_grad=True)


def _held(run: Any) -> int:
    """Bytes that the tape of ``run()`` keeps alive."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        out = run()
        after = tracemalloc.get_traced_memory()[0]
        assert out.requires_grad
        return after - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_free_activations(reentrant: bool) -> None:
    net, x = _deep()
    net(x)  # what is cached at the first call is no activation
    plain = _held(lambda: net(x))
    thrifty = _held(lambda: checkpoint_sequential(net, 8, x, use_reentrant=reentrant))
    assert plain > 8 * 3 * x.nbytes  # three activations a block
    assert thrifty < plain * 0.5


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_draw_the_same_numbers(reentrant: bool) -> None:
    drop = nn.Dropout(0.5)
    x = flambeau.ones(100, requires_grad=True)
    out = checkpoint(lambda t: drop(t) * 3, x, use_reentrant=reentrant)
    flambeau.rand(7)
    after = flambeau.get_rng_state().clone()
    out.sum().backward()
    assert flambeau.equal(x.grad, out.detach())  # the mask of the second run is that of the first
    assert flambeau.equal(flambeau.get_rng_state(), after)


def test_packed_tensors_are_let_go() -> None:
    x = flambeau.ones(3, requires_grad=True)
    seen: list[int] = []
    with graph.saved_tensors_hooks(lambda t: seen.append(t.numel()) or len(seen), lambda n: flambeau.full((3,), float(n))):
        y = x.exp()
    y.sum().backward()
    assert seen == [3]
    assert x.grad.tolist() == [1.0, 1.0, 1.0]  # what unpack gave back, not the exponential


def test_functions_stay_what_they_are_when_overridden() -> None:
    add, method = flambeau.add, flambeau.Tensor.add
    x = flambeau.ones(2)

    class Counted(flambeau.Tensor):
        calls: list[str] = []

        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            cls.calls.append(func.__name__)
            return super().__torch_function__(func, types, args, kwargs or {})

    assert flambeau.add is add
    assert flambeau.Tensor.add is method
    out = flambeau.nn.functional.linear(x.as_subclass(Counted), flambeau.ones(3, 2)) + 1
    assert type(out) is Counted
    assert Counted.calls == ["linear", "add"]  # what linear does inside is not told of
    assert type(flambeau.add(x, x)) is flambeau.Tensor
    compiled = flambeau.compile(lambda t: flambeau.add(t, 1).softmax(0), backend="eager")
    assert flambeau.allclose(compiled(x), (x + 1).softmax(0))


def test_tensors_that_outlive_their_transform_are_refused() -> None:
    kept: list[Any] = []
    vmap(lambda t: (kept.append(t), t)[1])(flambeau.ones(3))
    grad(lambda t: (kept.append(t * 2), t * 3)[1])(flambeau.ones(()))
    for t in kept:
        with pytest.raises(RuntimeError, match="after it had ended"):
            t + 1
    assert kept[1].item() == 2.0


def test_rules_that_treat_zeros_apart_are_pushed_through_exactly() -> None:
    a = flambeau.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=flambeau.float64)
    d = flambeau.tensor([[0.3, 0.1], [0.1, -0.2]], dtype=flambeau.float64)
    values, moved = jvp(flambeau.linalg.eigh, (a,), (d,))
    step = 1e-6
    high, low = flambeau.linalg.eigh(a + step * d), flambeau.linalg.eigh(a - step * d)
    for got, h, l in zip(moved, high, low):
        assert flambeau.allclose(got, (h - l) / (2 * step), atol=1e-8)
    assert type(values).__name__ == "linalg_eigh"


def test_a_pulled_back_tape_can_be_used_again() -> None:
    x = flambeau.tensor([1.0, 2.0])
    out, pull = vjp(lambda t: (t ** 2, t.sum()), x)
    first = pull((flambeau.ones(2), flambeau.tensor(0.0)))[0]
    second = pull((flambeau.zeros(2), flambeau.tensor(1.0)))[0]
    assert (first.tolist(), second.tolist()) == ([2.0, 4.0], [1.0, 1.0])
    assert not out[0].requires_grad

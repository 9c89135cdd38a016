"""A compiled graph is one step of the tape: what it saves, checks, frees and warns of."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
from capture import capture

import flambeau as ft
from flambeau.frontend import aot
from flambeau.frontend.backends import EagerTarget, list_backends, lookup, register_backend
from flambeau.frontend.points import FallbackWarning

BACKENDS = [name for name in ("aot_eager", "numpy", "cpp") if name in list_backends()]
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def compiled(fn, *inputs, backend="aot_eager", options=None):
    run = lookup(backend)(capture(fn, inputs), inputs, options or {}, True)
    return lambda *given: run(given)


def leaf(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return ft.from_numpy(rng.uniform(0.5, 1.5, shape).astype(np.float32)).requires_grad_()


@each_backend
def test_backward_twice_needs_retain_graph(backend):
    x = leaf(3)
    out, = compiled(lambda x: (x * x).sum(), x, backend=backend)(x)
    out.backward(retain_graph=True)
    out.backward()
    np.testing.assert_allclose(x.grad.numpy(), 4 * x.detach().numpy(), rtol=1e-6)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        out.backward()


@each_backend
def test_a_saved_input_written_to_is_noticed(backend):
    x = leaf(3) * 1.0
    out, = compiled(lambda x: (x * x).sum(), x, backend=backend)(x)
    x.detach().add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


@each_backend
def test_a_saved_output_written_to_is_noticed(backend):
    x = leaf(3, 3)
    y, = compiled(lambda x: ft.exp(x @ x), x, backend=backend)(x)
    total = y.sum()
    y.detach().add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


@each_backend
def test_outputs_without_gradient_count_as_zero(backend):
    x = leaf(3)
    a, b = compiled(lambda x: (x * 2, x * x), x, backend=backend)(x)
    a.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 2, 2])
    assert b.requires_grad


@each_backend
def test_an_input_without_influence_gets_none(backend):
    x, y = leaf(3), leaf(3)
    out, = compiled(lambda x, y: (x * 2).sum(), x, y, backend=backend)(x, y)
    assert ft.autograd.grad(out, [x, y], allow_unused=True)[1] is None


@each_backend
def test_gradients_flow_on_to_what_made_the_inputs(backend):
    x = leaf(3)
    run = compiled(lambda y: y * y, x * 2, backend=backend)
    out, = run(x * 2)
    out, = run(out)
    out.sum().backward()
    y = leaf(3)
    (((y * 2) ** 2) ** 2).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-5)


@each_backend
def test_hooks_and_names(backend):
    x = leaf(3)
    out, = compiled(lambda x: x * 3, x, backend=backend)(x)
    seen = []
    out.register_hook(lambda g: seen.append(g) or g * 2)
    assert out.grad_fn.name() == "CompiledBackward"
    out.sum().backward()
    assert len(seen) == 1
    np.testing.assert_array_equal(x.grad.numpy(), [6, 6, 6])


@each_backend
def test_the_gradient_of_the_gradient_of_the_gradient(backend):
    x = leaf(3)
    value, = compiled(lambda x: (x ** 4).sum(), x, backend=backend)(x)
    for k in (4, 12, 24):
        value = ft.autograd.grad(value, [x], create_graph=True)[0].sum()
        np.testing.assert_allclose(value.detach().numpy(), (k * x.detach().numpy() ** (4 - {4: 1, 12: 2, 24: 3}[k])).sum(),
                                   rtol=1e-4)


@each_backend
def test_dropout_draws_the_numbers_of_eager(backend):
    def fn(x):
        return ft.nn.functional.dropout(x, 0.5) * x

    x, y = leaf(64), leaf(64)
    run = compiled(fn, x, backend=backend)
    ft.manual_seed(5)
    out, = run(x)
    ft.manual_seed(5)
    expected = fn(y)
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol=1e-6)
    gx, = ft.autograd.grad(out.sum(), [x], create_graph=True)
    gy, = ft.autograd.grad(expected.sum(), [y], create_graph=True)
    np.testing.assert_allclose(gx.detach().numpy(), gy.detach().numpy(), rtol=1e-5)
    ggx, = ft.autograd.grad(gx.sum(), [x])
    ggy, = ft.autograd.grad(gy.sum(), [y])
    np.testing.assert_allclose(ggx.numpy(), ggy.numpy(), rtol=1e-5)


@each_backend
@pytest.mark.parametrize("budget", [0.0, 0.5, 1.0])
def test_gradients_are_the_same_for_every_budget(backend, budget):
    def fn(x, w):
        return ft.tanh(ft.tanh(x @ w) @ w).sum()

    x, w = leaf(4, 4), leaf(4, 4, seed=1).detach().mul_(0.2).requires_grad_()
    out, = compiled(fn, x, w, backend=backend, options={"memory_budget": budget})(x, w)
    actual = ft.autograd.grad(out, [x, w])
    for a, e in zip(actual, ft.autograd.grad(fn(x, w), [x, w])):
        np.testing.assert_allclose(a.numpy(), e.numpy(), rtol=1e-4, atol=1e-6)


@each_backend
def test_two_inputs_that_share_storage(backend):
    def fn(x, y):
        x.add_(1)
        return y * 2

    a, b = ft.zeros(3), ft.zeros(3)
    run = compiled(fn, a, b, backend=backend)
    np.testing.assert_array_equal(run(a, b)[0].numpy(), [0, 0, 0])
    np.testing.assert_array_equal(run(a, a)[0].numpy(), [4, 4, 4])


@each_backend
def test_inputs_of_any_layout(backend):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(6, 8)).astype(np.float32)
    views = [ft.from_numpy(data)[::2, 1::2], ft.from_numpy(data[:4, :3]).t(), ft.from_numpy(data[:3, :1]).expand(3, 4),
             ft.from_numpy(data)[1:4, 4:]]
    run = compiled(lambda x: x * 2 + 1, views[0], backend=backend)
    for view in views:
        np.testing.assert_allclose(run(view)[0].numpy(), view.numpy() * 2 + 1, rtol=1e-6)


@each_backend
def test_results_belong_to_the_caller(backend):
    x = ft.ones(70_000)
    run = compiled(lambda x: x + 1, x, backend=backend)
    kept = [run(ft.full((70_000,), float(k)))[0] for k in range(4)]
    assert [float(t[0]) for t in kept] == [1, 2, 3, 4]
    assert len({t.data_ptr() for t in kept}) == 4


@each_backend
def test_threads_do_not_meet(backend):
    x = ft.ones(1000)
    run = compiled(lambda x: ft.softmax(x * 2, 0).cumsum(0) * x, x, backend=backend)
    wrong = []

    def work(k):
        for _ in range(50):
            given = ft.full((1000,), float(k))
            if not np.allclose(run(given)[0].numpy()[-1], k, rtol=1e-4):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


class Broken(EagerTarget):
    name = "broken"

    @staticmethod
    def build(graph, options):
        raise ArithmeticError("out of registers")


def test_what_cannot_be_compiled_runs_op_by_op_and_says_so():
    x = leaf(3)
    graph = capture(lambda x: x * 2, [x])
    with pytest.warns(aot.CompileWarning, match="test.py:1.*runs op by op.*broken.*out of registers"):
        run = aot.compile_graph(graph, Broken())
    out, = run([x])
    out.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 2, 2])
    with pytest.raises(ArithmeticError):
        aot.compile_graph(capture(lambda x: x * 2, [x]), Broken(), fullgraph=True)


def test_a_backend_of_the_user():
    seen = []

    @register_backend(name="spy")
    def spy(graph_module, example_inputs):
        seen.append((graph_module.code, len(example_inputs)))
        return graph_module.forward

    x = leaf(3)
    out, = lookup("spy")(capture(lambda x: x * 2, [x]), [x], {}, True)([x])
    assert "ops.mul(x, 2)" in seen[0][0] and seen[0][1] == 1 and "spy" in list_backends()
    out.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 2, 2])


def test_an_unknown_backend_is_named():
    with pytest.raises(ValueError, match="no_such.*Known backends.*cpp"):
        lookup("no_such")


@each_backend
def test_the_second_derivative_goes_through_results_that_the_program_does_not_read(backend):
    """Of what eigh, svd and qr return, one is read; the derivative of it reads the others."""
    la = ft.linalg
    given = np.random.default_rng(0).standard_normal((4, 4))
    direction = ft.tensor(np.cos(np.arange(16.0)).reshape(4, 4))
    for read in (lambda a: la.eigh(a + a.T).eigenvalues[0].exp(), lambda a: la.eigh(a + a.T)[1].square()[0].sum(),
                 lambda a: la.svd(a)[1][1], lambda a: la.qr(a)[1].square()[0].sum(), lambda a: la.slogdet(a)[1]):
        def second(a, read=read):
            first, = ft.autograd.grad(read(a), [a], create_graph=True)
            return ft.autograd.grad((first * direction).sum(), [a])[0]

        a = ft.tensor(given).requires_grad_()
        np.testing.assert_allclose(ft.compile(second, backend=backend)(a).numpy(), second(a).numpy(), rtol=1e-7, atol=1e-9)


def test_what_has_no_derivative_says_so_where_the_tape_runs():
    def fn(x):
        try:
            ft.linalg.qr(x, mode="complete").R.sum().backward()
        except RuntimeError as error:
            return str(error)

    with warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        assert "not differentiable when mode='complete'" in ft.compile(fn, backend="aot_eager")(leaf(4, 2))


def writes_then_reads(w):
    with ft.no_grad():
        w.sub_(0.5)
    return (w * w * w).sum()


def writes_through_a_view(w):
    w.detach()[0] = 2.0
    return (w * w * w).sum()


def steps_first(w):
    first, = ft.autograd.grad((w * w).sum(), [w])
    with ft.no_grad():
        w.sub_(first, alpha=0.1)
    return (w * w * w).sum()


@each_backend
@pytest.mark.parametrize("fn", [writes_then_reads, writes_through_a_view, steps_first])
def test_gradients_reach_an_input_that_the_graph_has_written_to(backend, fn):
    found = []
    for run in (fn, ft.compile(fn, backend=backend)):
        w = leaf(3)
        first, = ft.autograd.grad(run(w), [w], create_graph=True)
        second, = ft.autograd.grad(first.sum(), [w])
        run(w).backward()
        found.append((first.detach().numpy(), second.numpy(), w.grad.numpy(), w.detach().numpy()))
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_loop_of_many_steps_is_not_one_graph():
    """Each run of the tape costs the graph's length: a training loop is cut, and goes on in pieces."""
    def train(n):
        w = ft.full((3,), 2.0, requires_grad=True)
        for _ in range(n):
            loss = ((w - 1) * w).sum()
            loss.backward()
            with ft.no_grad():
                w.sub_(w.grad, alpha=0.05)
            w.grad = None
        return w.detach()

    run = ft.compile(train, backend="aot_eager")
    np.testing.assert_allclose(run(40).numpy(), train(40).numpy(), rtol=1e-6)
    events = run.__flambeau_context__.events
    assert any("17th time in one graph" in e.text for e in events if e.kind == "break")
    assert max(str(e.captured.graph).count("ops.gradients(") for e in events if e.kind == "graph") == 16


@pytest.mark.parametrize("name", ["elu", "selu", "softshrink", "relu6", "hardtanh", "softplus", "log_softmax"])
def test_history_goes_through_parts_of_what_was_written_to(name: str) -> None:
    """The argument was made without a history; only the write to it has one."""
    def gradient(x, w):
        y = ft.zeros(3, 2).add_(x @ w)
        (getattr(ft.nn.functional, name)(y) * x).sum().backward()
        return w.grad

    x = ft.tensor([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5]])
    found = []
    for run in (gradient, ft.compile(gradient, backend="eager", fullgraph=True)):
        found.append(run(x, ft.tensor([[1.0, -0.5], [0.25, 2.0]], requires_grad=True)))
    assert found[1] is not None and ft.allclose(found[1], found[0])

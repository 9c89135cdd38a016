"""Whole training steps in one graph and one call: forward, backward and the optimizer's update equal eager ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled.training_programs import MAKERS, OPTIMIZERS, mlp, with_optimizer
from tracer.warm import Server, write

import flambeau as ft
from flambeau.autograd import backward, grad
from flambeau.frontend.compile import context_of


def events(compiled: Any, kind: str) -> list[Any]:
    return [e for e in context_of(compiled).events if e.kind == kind]


def same(actual: Any, expected: Any, where: str, rtol: float = 2e-4, atol: float = 2e-5) -> None:
    if isinstance(expected, (tuple, list)):
        assert len(actual) == len(expected), where
        for k, (a, e) in enumerate(zip(actual, expected)):
            same(a, e, f"{where}, {k}", rtol=rtol, atol=atol)
    elif isinstance(expected, ft.Tensor):
        assert a_kind(actual) == a_kind(expected), where
        np.testing.assert_allclose(actual.detach().numpy(), expected.detach().numpy(), rtol=rtol, atol=atol, err_msg=where)
    else:
        assert actual == expected, where


def a_kind(t: ft.Tensor) -> tuple:
    return type(t), t.dtype, tuple(t.shape), t.requires_grad


def train(make: Any, backend: str, steps: int = 4, rates: bool = True, **tolerance: float) -> Any:
    """Train eagerly and compiled side by side, the rate changing at every step from the third on; the compiled function."""
    eager, seen, inputs, optimizers = make()
    step, seen_compiled, _, others = make()
    compiled = ft.compile(step, backend=backend, fullgraph=True)
    for k in range(steps):
        for opt in (*optimizers, *others) if rates and k >= 2 else ():
            for group in opt.param_groups:
                if isinstance(group["lr"], float):
                    group["lr"] /= k
        ft.manual_seed(k)
        expected = eager(*inputs(k))
        ft.manual_seed(k)
        actual = compiled(*inputs(k))
        same(actual, expected, f"step {k}", **tolerance)
        same(seen_compiled(), seen(), f"after step {k}", **tolerance)
    return compiled


def one_graph(compiled: Any, graphs: int = 2) -> None:
    """No break, no fallback, and not more compiles than one for the first step and one for all others."""
    assert not events(compiled, "break") and not events(compiled, "fallback"), [str(e.text) for e in context_of(compiled).events]
    assert len(events(compiled, "graph")) <= graphs, [e.text for e in events(compiled, "recompile")]


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", list(MAKERS))
def test_programs(name: str, backend: str) -> None:
    one_graph(train(MAKERS[name], backend))


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_optimizers(name: str) -> None:
    loose = {"rtol": 2e-2, "atol": 2e-3} if name == "muon" else {}     # it computes in bfloat16
    one_graph(train(lambda: with_optimizer(name), "aot_eager", **loose))


def test_gpt_compiled_to_code() -> None:
    one_graph(train(MAKERS["gpt"], "cpp", steps=3))


# ---- what the tape leaves behind


def leaf(*shape: int, seed: int = 0) -> ft.Tensor:
    return ft.randn(*shape, generator=ft.Generator().manual_seed(seed)).requires_grad_()


BACKENDS = pytest.mark.parametrize("backend", ["eager", "aot_eager", "numpy"])


def both(fn: Any, make: Any, backend: str, calls: int = 2, graphs: int | None = 1, breaks: int = 0) -> Any:
    """Call ``fn`` eagerly and compiled on arguments of their own; results, errors, arguments and their gradients agree."""
    compiled = ft.compile(fn, backend=backend)
    here, there = make(), make()
    for call in range(calls):
        expected, actual = outcome(fn, here), outcome(compiled, there)
        same(actual, expected, f"call {call}")
        for a, e in zip(there, here):
            if isinstance(e, ft.Tensor):
                same([a, a.grad], [e, e.grad], f"arguments after call {call}")
    assert len(events(compiled, "break")) == breaks, [str(e.text) for e in context_of(compiled).events]
    assert not events(compiled, "fallback")
    if graphs is not None:
        assert len(events(compiled, "graph")) == graphs, [str(e.text) for e in context_of(compiled).events]
    return compiled


def outcome(fn: Any, args: Any) -> Any:
    try:
        return fn(*args)
    except RuntimeError as error:
        return type(error).__name__, str(error)[:40]


@BACKENDS
def test_gradients_accumulate_in_place(backend: str) -> None:
    def step(x, w):
        (x * w).tanh().sum().backward()

    compiled = both(step, lambda: (leaf(3), leaf(3, seed=1)), backend, calls=3, graphs=2)
    x, w = leaf(3), leaf(3, seed=1)
    compiled(x, w)
    first = w.grad
    value, version = first.clone(), first._version
    compiled(x, w)
    assert w.grad is first and first._version > version
    np.testing.assert_allclose(first.numpy(), 2 * value.numpy(), rtol=1e-6)


@BACKENDS
def test_one_gradient_for_two_leaves_is_two_tensors(backend: str) -> None:
    def step(x, w):
        (x + w).sum().backward()

    compiled = both(step, lambda: (leaf(3), leaf(3, seed=1)), backend, graphs=2)
    x, w = leaf(3), leaf(3)
    compiled(x, w)
    x.grad.add_(1)
    assert w.grad.tolist() == [1, 1, 1] and w.grad.is_contiguous()


@BACKENDS
@pytest.mark.parametrize("retain", [False, True])
def test_the_tape_of_a_result(backend: str, retain: bool) -> None:
    """Freed: a second backward raises; retained: it runs."""
    def step(x):
        loss = (x * x).sum()
        loss.backward(retain_graph=retain)
        return loss

    compiled = both(step, lambda: (leaf(3),), backend, graphs=2)
    x = leaf(3)
    loss = compiled(x)
    assert loss.requires_grad and not loss.is_leaf
    if retain:
        loss.backward()
        np.testing.assert_allclose(x.grad.numpy(), 4 * x.detach().numpy(), rtol=1e-6)
    else:
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()


@BACKENDS
def test_what_is_not_on_the_freed_part_keeps_its_tape(backend: str) -> None:
    def step(x, w):
        (x * x).sum().backward()
        return (w * w * x.detach()).sum()

    compiled = both(step, lambda: (leaf(3), leaf(3, seed=1)), backend, graphs=2)
    x, w = leaf(3), leaf(3, seed=1)
    compiled(x, w).backward()
    np.testing.assert_allclose(w.grad.numpy(), (2 * w * x).detach().numpy(), rtol=1e-6)


@BACKENDS
def test_a_history_that_keeps_nothing_can_be_run_again(backend: str) -> None:
    def step(x):
        loss = (x + 1).sum()
        loss.backward()
        loss.backward()
        return loss

    both(step, lambda: (leaf(3),), backend, graphs=2)


@BACKENDS
def test_gradients_of_intermediates(backend: str) -> None:
    """Equal values are different places of the tape, and a write makes a new one."""
    def step(x):
        a, b, c = x * 2, x * 2, x * 3
        h = a * b + c.exp()
        h.mul_(2)
        found = grad(h.sum(), [a, b, c, h, x], retain_graph=True)
        view = h[0]
        return *found, *grad((view * h.detach()[0]).sum() + h.sum(), [view, h], allow_unused=True)

    both(step, lambda: (leaf(3),), backend)


@BACKENDS
def test_unused_and_materialized(backend: str) -> None:
    def step(x, w):
        y = (x * x).sum()
        return grad(y, [x, w], allow_unused=True, retain_graph=True) + grad(y, [x, w], materialize_grads=True)

    both(step, lambda: (leaf(3), leaf(2, seed=1)), backend)


@BACKENDS
def test_given_gradients_and_several_roots(backend: str) -> None:
    def step(x, w, g):
        a, b = x * w, (x + w).sum()
        first = grad([a, b], [x, w], [g, None], retain_graph=True)
        backward([a, b], [g, None], inputs=[w])
        return first

    both(step, lambda: (leaf(3), leaf(3, seed=1), leaf(3, seed=2).detach()), backend, graphs=2)


@BACKENDS
def test_third_derivatives(backend: str) -> None:
    def step(x):
        y = x.sin().sum()
        for _ in range(2):
            y = grad(y, x, create_graph=True)[0].sum()
        y.backward()
        return y

    both(step, lambda: (leaf(4),), backend, graphs=2)


@BACKENDS
def test_create_graph_leaves_a_gradient_with_a_history(backend: str) -> None:
    def step(x):
        (x * x * x).sum().backward(create_graph=True)
        return x.grad.sum()

    compiled = ft.compile(step, backend=backend)
    x, y = leaf(3), leaf(3)
    for out, t in ((compiled(x), x), (step(y), y)):
        t.grad = None
        out.backward()
    same(x.grad, y.grad, "the second derivative")
    assert not events(compiled, "break")


@BACKENDS
def test_writes_behind_the_tape(backend: str) -> None:
    """A leaf written to under no_grad between forward and backward, where no derivative reads it."""
    def step(x, w):
        y = (w + 1) * x
        with ft.no_grad():
            w.mul_(0.5)
        z = (w * x).sum()
        (y.sum() + z).backward()

    both(step, lambda: (leaf(3).detach(), leaf(3, seed=1)), backend, graphs=2)


@BACKENDS
def test_a_write_through_a_view_gives_a_history(backend: str) -> None:
    def step(x, w):
        base = x * 2
        base[0] = w
        base.t().mul_(3)
        found = grad((base * base).sum() + base[0].sum(), [w, base], retain_graph=True)
        with ft.no_grad():
            base.t().mul_(0.5)
        return *found, *grad(base.sum(), [w, base]), base.requires_grad

    both(step, lambda: (leaf(2, 3).detach(), leaf(3, seed=1)), backend)


@BACKENDS
def test_derivatives_that_read_their_result(backend: str) -> None:
    """The gradient of a gradient goes through the result that the first derivative reads, which is asked about."""
    def step(q):
        s, equal = q.sigmoid(), q.sigmoid()
        g, = grad(s.sum(), q, create_graph=True)
        return grad((g * g).sum() + equal.sum(), [s, equal, q], allow_unused=True)

    both(step, lambda: (leaf(3),), backend)


@BACKENDS
@pytest.mark.parametrize("program", ["stale_input", "stale_output", "freed", "no_grad", "no_scalar", "unused", "stale_view"])
def test_errors_are_the_eager_ones(program: str, backend: str) -> None:
    def stale_input(x):
        y = x * 2
        z = (y * y).sum()
        y.add_(1)
        z.backward()

    def stale_output(x):
        y = x.exp()
        z = y.sum()
        y.add_(1)
        z.backward()

    def stale_view(x):
        y = x * 2
        z = (y * y).sum()
        y[0].zero_()
        z.backward()

    def freed(x):
        y = (x * x).sum()
        y.backward()
        y.backward()

    def no_grad(x):
        x.detach().sum().backward()

    def no_scalar(x):
        (x * 2).backward()

    def unused(x):
        return grad((x * 2).sum(), [x, (x + 1)])

    fn = locals()[program]
    compiled = ft.compile(fn, backend=backend)
    for _ in range(2):
        x, y = leaf(3), leaf(3)
        with pytest.raises(RuntimeError) as expected:
            fn(x)
        with pytest.raises(RuntimeError) as actual:
            compiled(y)
        assert str(actual.value)[:30] == str(expected.value)[:30]
        same(y.grad, x.grad, "the gradient before the error")


@BACKENDS
def test_relu_in_place_after_batch_norm_is_no_error(backend: str) -> None:
    def step(x, w):
        y = ft.nn.functional.batch_norm(x * w, None, None, training=True)
        y = ft.relu_(y)
        y.square().sum().backward()

    both(step, lambda: (leaf(4, 3).detach(), leaf(3, seed=1)), backend, graphs=2)


# ---- what breaks, or is seen by guards


def breaks_once(fn: Any, make: Any, code: str) -> None:
    compiled = ft.compile(fn, backend="eager")
    for _ in range(2):
        here, there = make(), make()
        same(compiled(*there), fn(*here), "results")
        for a, e in zip(there, here):
            same(getattr(a, "grad", None) if a.is_leaf else None, getattr(e, "grad", None) if e.is_leaf else None, "gradients")
    assert [e.captured.broke.code for e in events(compiled, "break")] == [code]


def test_a_history_from_outside_breaks() -> None:
    def step(w, x):
        (x * w).sum().backward()
        return w.grad * 2

    def make():
        w = leaf(3)
        return w, w * 2

    breaks_once(step, make, "tape")


@BACKENDS
def test_hooks_of_leaves_are_traced_and_guarded(backend: str) -> None:
    def step(x):
        (x * x).sum().backward()
        return grad((x * 3).sum(), x)[0]

    compiled = ft.compile(step, backend=backend)
    plain, hooked, after = leaf(3), leaf(3), leaf(3)
    assert compiled(plain).tolist() == [3, 3, 3]
    handle = hooked.register_hook(lambda g: g * 10)
    after.register_post_accumulate_grad_hook(lambda t: t.grad.mul_(10))
    assert compiled(hooked).tolist() == [30, 30, 30]
    assert compiled(after).tolist() == [3, 3, 3]
    for t in (hooked, after):
        np.testing.assert_allclose(t.grad.numpy(), 10 * plain.grad.numpy(), rtol=1e-6)
    handle.remove()
    hooked.grad = None
    compiled(hooked)
    np.testing.assert_allclose(hooked.grad.numpy(), plain.grad.numpy(), rtol=1e-6)
    assert not events(compiled, "break")


@BACKENDS
def test_retained_gradients(backend: str) -> None:
    def step(x):
        h = x * 2
        h.retain_grad()
        (h * h).sum().backward()
        (h * 3).sum().backward()
        return h.grad + 0

    both(step, lambda: (leaf(3),), backend, graphs=2)


def test_a_leaf_is_guarded_to_be_one() -> None:
    def step(x):
        (x * x).sum().backward()

    compiled = ft.compile(step, backend="eager")
    compiled(leaf(3))
    w = leaf(3)
    compiled(w * 1)
    assert w.grad is not None


def test_a_leaf_made_inside_that_is_returned_breaks() -> None:
    def step(x):
        y = (x * 2).requires_grad_()
        (y * y).sum().backward()
        return y

    compiled = ft.compile(step, backend="eager")
    y = compiled(ft.arange(3.0))
    assert y.is_leaf and y.requires_grad and y.grad.tolist() == [0, 4, 8]


def test_another_model_and_optimizer_share_the_compiled_step() -> None:
    def step(model, opt, x):
        opt.zero_grad()
        model(x).square().sum().backward()
        opt.step()

    compiled = ft.compile(step, backend="eager")
    shown = []
    for _ in range(3):
        step_models = []
        for run in (step, compiled):
            ft.manual_seed(3)
            model = ft.nn.Linear(3, 2)
            opt = ft.optim.Adam(model.parameters(), lr=0.1)
            for k in range(2):
                run(model, opt, ft.ones(4, 3) * k)
            step_models.append([p.detach() for p in model.parameters()])
        same(step_models[1], step_models[0], "parameters")
        shown.append(len(events(compiled, "graph")))
    assert shown == [2, 2, 2]


def test_tied_and_shared_storages_run_op_by_op() -> None:
    """Two parameters over one memory: what one step writes, the other reads."""
    def step(a, b):
        (a * b).sum().backward()
        with ft.no_grad():
            a.sub_(0.1 * a.grad)
            b.sub_(0.1 * b.grad)

    def make():
        base = ft.arange(6.0)
        return base[:4].requires_grad_(), base[2:].detach().requires_grad_()

    compiled = ft.compile(step, backend="numpy")
    here, there = make(), make()
    compiled(*make())
    step(*here)
    compiled(*there)
    same(there, here, "parameters")


def test_no_parameter_is_written_when_an_index_is_out_of_range() -> None:
    table = ft.nn.Embedding(4, 3)
    opt = ft.optim.SGD(table.parameters(), lr=0.1)

    @ft.compile
    def step(ids):
        opt.zero_grad()
        table(ids).square().sum().backward()
        opt.step()

    ids = ft.tensor([0, 1])
    for _ in range(3):
        step(ids)
    before = table.weight.detach().clone()
    with pytest.raises((IndexError, RuntimeError)):
        step(ft.tensor([1, 9]))
    np.testing.assert_array_equal(table.weight.detach().numpy(), before.numpy())


@pytest.mark.parametrize("backend", ["numpy", "cpp"])
def test_parameters_of_any_layout_are_written(backend: str) -> None:
    def step(w, x):
        (x @ w).tanh().sum().backward()
        with ft.no_grad():
            w.sub_(0.1 * w.grad)
        w.grad = None

    def make():
        return leaf(4, 3).detach().t().requires_grad_(), leaf(2, 3, seed=1).detach()

    both(step, make, backend, calls=3)


@pytest.mark.parametrize("backend", ["numpy", "cpp"])
def test_a_result_is_not_the_memory_it_is_written_to(backend: str) -> None:
    def step(w, v):
        new = w * 2
        w.copy_(new)
        v.copy_(new)
        return new

    compiled = both(step, lambda: (ft.ones(300), ft.zeros(300)), backend, calls=3)
    w, v = ft.ones(300), ft.zeros(300)
    new = compiled(w, v)
    new.zero_()
    assert w.tolist() == v.tolist() == [2.0] * 300


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_later_process_trains_without_tracing(backend: str, tmp_path: Path) -> None:
    write(tmp_path, {"program": """
        import flambeau as torch
        from flambeau import nn
        model = nn.Linear(3, 2)
        start = {k: v.clone() for k, v in model.state_dict().items()}
        opt = None
        def fn(x):
            opt.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            opt.step()
            return loss, [p.detach().clone() for p in model.parameters()]
        def args(fresh):
            global opt
            if fresh:
                torch.manual_seed(0)
                for p in model.parameters():
                    torch.nn.init.uniform_(p.data)
                opt = torch.optim.AdamW(model.parameters(), lr=0.1)
                model.zero_grad()
            return [torch.ones(4, 3)]
        """})
    server = Server()
    try:
        before = "program.args(True)"
        first = server.run(tmp_path, before, calls=[[True]], options={"backend": backend})
        second = server.run(tmp_path, before, calls=[[True]], options={"backend": backend})
    finally:
        server.close()
    assert first["same"] and first["kinds"] == ["graph"], first
    assert second["same"] and second["kinds"] == ["loaded"], second


# ---- what it costs


def test_updates_are_fused_and_written_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates are done where the gradients are made; no new value of a parameter or a moment takes memory of its own."""
    from flambeau.frontend import targets
    plans = []
    original = targets.compile_to_plan
    monkeypatch.setattr(targets, "compile_to_plan", lambda *a, **k: plans.append(original(*a, **k)) or plans[-1])
    ft.manual_seed(0)
    model = mlp(32, 32, 32, 32)
    opt = ft.optim.Adam(model.parameters(), lr=1e-2)

    def step(x):
        loss = model(x).square().mean()
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss.detach()

    compiled = ft.compile(step)
    for _ in range(3):
        compiled(ft.ones(4, 32))
    plan = plans[-1]
    outputs = [n for n, s in plan.slots.items() if s.kind == "output"]
    assert len(outputs) == 1                                      # the loss
    in_place = [n for n, s in plan.slots.items() if s.kind == "input" and n not in plan.schedule.inputs]
    assert len(in_place) == 4 * 6                                 # parameter, two moments and step of each
    kernels = [s for s in plan.schedule.steps if any(b.name.endswith("exp_avg") for b in getattr(s, "params", ()))]
    assert len(kernels) == 1                                      # all vectors in one; matrices behind the products
    by_products = [s for s in plan.schedule.steps if {*getattr(s, "stores", ())} & {*in_place}]
    assert len(by_products) == 3


@BACKENDS
def test_a_leaf_made_of_a_copy_is_not_what_was_copied(backend: str) -> None:
    start = ft.tensor([0.7, -0.4])

    def f(x):
        p = start.clone().requires_grad_()
        p = p * 1
        p.grad = x * x
        return p.add_(p.grad)

    compiled = ft.compile(f, backend=backend)
    for _ in range(3):
        assert ft.equal(compiled(ft.ones(2)), ft.tensor([1.7, 0.6]))
    assert ft.equal(start, ft.tensor([0.7, -0.4])) and not start.requires_grad


@BACKENDS
def test_what_was_detached_from_a_freed_tape_has_none(backend: str) -> None:
    def f(x):
        loss = (x * x).sum()
        g, = ft.autograd.grad(loss, [x])
        return loss.detach(), loss, g

    detached, loss, g = ft.compile(f, backend=backend)(ft.ones(2, requires_grad=True))
    assert not detached.requires_grad and loss.requires_grad and not g.requires_grad

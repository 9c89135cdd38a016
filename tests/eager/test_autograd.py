"""The tape as users see it: leaves, hooks, modes, versions, higher orders, in-place writes and custom functions."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.autograd import Function, gradcheck, gradgradcheck
from flambeau.autograd.function import once_differentiable


def leaf(*values: float) -> Any:
    return flambeau.tensor(list(values), dtype=flambeau.float64, requires_grad=True)


def test_backward_accumulates_into_leaves_only() -> None:
    x = leaf(1.0, 2.0)
    y = x * 3
    z = (y * y).sum()
    z.backward()
    assert x.grad.tolist() == [18.0, 36.0] and y.grad is None
    (x * 1).sum().backward()
    assert x.grad.tolist() == [19.0, 37.0]
    assert x.is_leaf and not y.is_leaf and y.grad_fn.name() == "MulBackward0" and y.grad_fn.next_functions[0][0].variable is x


def test_second_backward_needs_retain_graph() -> None:
    x = leaf(2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [8.0]
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()


@pytest.mark.parametrize("make,text", [
    (lambda x: (x * 2).backward(), "grad can be implicitly created only for scalar outputs"),
    (lambda x: x.detach().sum().backward(), "does not require grad and does not have a grad_fn"),
    (lambda x: (x * 2).backward(flambeau.ones(3, dtype=flambeau.float64)), "Mismatch in shape"),
    (lambda x: flambeau.autograd.grad(x.sum(), flambeau.ones(2)), "does not require grad"),
    (lambda x: flambeau.autograd.grad(x.sum(), leaf(1.0)), "appears to not have been used in the graph"),
    (lambda x: x.add_(1), "a leaf Variable that requires grad is being used in an in-place operation"),
    (lambda x: x[0].add_(1), "a view of a leaf Variable that requires grad is being used in an in-place operation"),
    (lambda x: x.numpy(), "Can't call numpy"),
    (lambda x: (x * 2).requires_grad_(False), "you can only change requires_grad flags of leaf variables"),
])
def test_refusals(make: Any, text: str) -> None:
    with pytest.raises(RuntimeError, match=text):
        make(leaf(1.0, 2.0))


def test_integer_tensors_cannot_require_grad() -> None:
    with pytest.raises(RuntimeError, match="only Tensors of floating point"):
        flambeau.ones(2, dtype=flambeau.int64).requires_grad_()


def test_grad_of_inputs_does_not_accumulate() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    gx, gy = flambeau.autograd.grad((x * y).sum(), (x, y))
    assert gx.tolist() == [3.0, 4.0] and gy.tolist() == [1.0, 2.0] and x.grad is None
    unused = flambeau.autograd.grad(x.sum(), (x, y), allow_unused=True)
    assert unused[1] is None
    zeros = flambeau.autograd.grad(x.sum(), (x, y), materialize_grads=True)
    assert zeros[1].tolist() == [0.0, 0.0]


def test_grad_with_respect_to_an_intermediate() -> None:
    x = leaf(2.0)
    y = x * x
    (g,) = flambeau.autograd.grad((y * y).sum(), y)
    assert g.tolist() == [8.0]


def test_backward_with_inputs_reaches_only_those() -> None:
    x, y = leaf(1.0), leaf(2.0)
    (x * y).sum().backward(inputs=[x])
    assert x.grad.tolist() == [2.0] and y.grad is None


def test_any_order_of_derivative() -> None:
    x = leaf(3.0)
    found, y = [], x ** 4
    for _ in range(4):
        (y,) = flambeau.autograd.grad(y.sum(), x, create_graph=True)
        found.append(y.item())
    assert found == [108.0, 108.0, 72.0, 24.0]


def test_backward_with_create_graph_is_differentiable() -> None:
    x = leaf(3.0)
    (x ** 3).sum().backward(create_graph=True)
    assert x.grad.requires_grad
    (g,) = flambeau.autograd.grad(x.grad.sum(), x)
    assert g.tolist() == [18.0]


def test_shared_subexpressions_run_once() -> None:
    x = leaf(1.0)
    calls = []
    y = x * 2
    y.register_hook(lambda g: calls.append(g.item()))
    (y * 3 + y * 4).sum().backward()
    assert calls == [7.0] and x.grad.tolist() == [14.0]


def test_broadcasting_sums_gradients() -> None:
    x, y = leaf(1.0, 2.0), flambeau.ones(3, 1, dtype=flambeau.float64, requires_grad=True)
    (x * y).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0] and y.grad.tolist() == [[3.0], [3.0], [3.0]]


def test_gradients_take_the_dtype_of_their_tensor() -> None:
    x = flambeau.ones(2, requires_grad=True)
    (x * flambeau.ones(2, dtype=flambeau.float64)).sum().backward()
    assert x.grad.dtype is flambeau.float32


def test_long_chains_need_no_recursion() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(5000):
        y = y + 1
    y.sum().backward()
    assert x.grad.tolist() == [1.0]
    del y


def test_the_tape_is_freed_without_the_collector() -> None:
    x = leaf(1.0)
    gc.disable()
    try:
        y = (x * 2).exp()
        held = weakref.ref(y)
        del y
        assert held() is None
    finally:
        gc.enable()


# ---- hooks --------------------------------------------------------------------------------------------------------


def test_tensor_hooks_see_and_replace_gradients() -> None:
    x = leaf(1.0)
    y = x * 2
    handle = y.register_hook(lambda g: g * 10)
    y.sum().backward()
    assert x.grad.tolist() == [20.0]
    handle.remove()
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0]
    x.register_hook(lambda g: g + 1)
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [3.0]


def test_retain_grad() -> None:
    x = leaf(1.0)
    y = x * 2
    y.retain_grad()
    (y * 3).sum().backward()
    assert y.grad.tolist() == [3.0]


def test_node_hooks() -> None:
    x = leaf(1.0)
    y = x * 2
    seen = []
    y.grad_fn.register_hook(lambda gin, gout: seen.append((gin[0].item(), gout[0].item())))
    y.sum().backward()
    assert seen == [(2.0, 1.0)]


# ---- modes --------------------------------------------------------------------------------------------------------


def test_modes_nest_and_decorate() -> None:
    x = leaf(1.0)
    with flambeau.no_grad():
        assert not (x * 2).requires_grad and not flambeau.is_grad_enabled()
        with flambeau.enable_grad():
            assert (x * 2).requires_grad
        with flambeau.set_grad_enabled(True):
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert flambeau.is_grad_enabled()

    @flambeau.no_grad()
    def quiet() -> bool:
        return (x * 2).requires_grad

    @flambeau.no_grad
    def bare() -> bool:
        return (x * 2).requires_grad

    @flambeau.inference_mode()
    def infer() -> tuple[bool, bool]:
        return (x * 2).requires_grad, flambeau.is_inference_mode_enabled()

    assert quiet() is False and bare() is False and infer() == (False, True)
    assert flambeau.is_grad_enabled() and not flambeau.is_inference_mode_enabled()


def test_mode_is_restored_after_an_error() -> None:
    with pytest.raises(ValueError), flambeau.no_grad():
        raise ValueError
    assert flambeau.is_grad_enabled()


def test_set_grad_enabled_works_at_once() -> None:
    flambeau.set_grad_enabled(False)
    try:
        assert not (leaf(1.0) * 2).requires_grad
    finally:
        flambeau.set_grad_enabled(True)


def test_decorated_generators_set_the_mode_only_inside() -> None:
    @flambeau.no_grad()
    def steps() -> Any:
        for _ in range(2):
            yield flambeau.is_grad_enabled()

    seen = [(inside, flambeau.is_grad_enabled()) for inside in steps()]
    assert seen == [(False, True), (False, True)]


def test_modes_belong_to_their_thread() -> None:
    import threading
    seen = []
    with flambeau.no_grad():
        thread = threading.Thread(target=lambda: seen.append(flambeau.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


# ---- in-place writes ----------------------------------------------------------------------------------------------


def test_writing_what_backward_needs_is_an_error() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    z = y * y
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_writing_what_backward_does_not_need_is_fine() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    z = y + 1
    y.mul_(5)
    z.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_in_place_ops_are_differentiated() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    y.mul_(x)
    y.exp_()
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 4 * np.array([1.0, 2.0]) * np.exp(2 * np.array([1.0, 4.0])))


def test_writes_through_views_reach_the_base() -> None:
    x, v = leaf(1.0, 2.0, 3.0), leaf(5.0)
    y = x * 2
    y[1:2] = v * v
    y[0].mul_(3)
    (y * y).sum().backward()
    assert x.grad.tolist() == [72.0, 0.0, 24.0] and v.grad.tolist() == [500.0]


def test_views_made_before_a_write_see_it() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    first = y[0]
    y.mul_(3)
    first.backward()
    assert x.grad.tolist() == [3.0, 0.0]


def test_detach_shares_data_not_history() -> None:
    x = leaf(1.0)
    y = x.detach()
    y.add_(1)
    assert x.tolist() == [2.0] and not y.requires_grad


# ---- custom functions ---------------------------------------------------------------------------------------------


class Cube(Function):
    @staticmethod
    def forward(ctx: Any, x: Any, scale: float) -> Any:
        ctx.save_for_backward(x)
        ctx.scale = scale
        return x * x * x * scale

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        assert ctx.needs_input_grad == (True, False)
        return g * 3 * x * x * ctx.scale, None


def test_function_is_recorded_and_differentiable_again() -> None:
    x = leaf(2.0, 3.0)
    y = Cube.apply(x, 2.0)
    assert y.grad_fn.name() == "CubeBackward"
    y.sum().backward()
    assert x.grad.tolist() == [24.0, 54.0]
    assert gradcheck(lambda t: Cube.apply(t, 2.0), (x,)) and gradgradcheck(lambda t: Cube.apply(t, 2.0), (x,))


class SplitSetup(Function):
    @staticmethod
    def forward(x: Any, y: Any) -> Any:
        return x * y, x + y

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Any, h: Any) -> Any:
        x, y = ctx.saved_tensors
        return g * y + h, g * x + h


def test_function_with_setup_context_and_two_outputs() -> None:
    x, y = leaf(2.0), leaf(3.0)
    a, _ = SplitSetup.apply(x, y)  # the other output gets zeros
    a.sum().backward()
    assert x.grad.tolist() == [3.0] and y.grad.tolist() == [2.0]
    assert gradcheck(SplitSetup.apply, (x, y))


class SavesOutput(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * ctx.saved_tensors[0]


def test_function_may_save_its_output_without_a_cycle() -> None:
    x = leaf(0.5)
    assert gradcheck(SavesOutput.apply, (x,)) and gradgradcheck(SavesOutput.apply, (x,))
    gc.disable()
    try:
        y = SavesOutput.apply(x)
        held = weakref.ref(y)
        del y
        assert held() is None
    finally:
        gc.enable()


class Rounds(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        whole = x.round()
        ctx.mark_non_differentiable(whole)
        return x * 2, whole

    @staticmethod
    def backward(ctx: Any, g: Any, h: Any) -> Any:
        return g * 2


def test_marked_outputs_have_no_gradient() -> None:
    doubled, whole = Rounds.apply(leaf(1.3))
    assert doubled.requires_grad and not whole.requires_grad


class DoublesInPlace(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * 2


def test_dirty_inputs_take_the_function_as_history() -> None:
    x = leaf(1.0)
    y = x * 3
    z = DoublesInPlace.apply(y)
    assert z is y
    z.sum().backward()
    assert x.grad.tolist() == [6.0]


class Once(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Any) -> Any:
        return g * 2 * ctx.saved_tensors[0]


def test_once_differentiable_refuses_the_second_time() -> None:
    x, seed = leaf(3.0), leaf(1.0)
    (g,) = flambeau.autograd.grad(Once.apply(x), x, seed, create_graph=True)
    assert g.tolist() == [6.0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


class WrongCount(Once):
    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g, g


class WrongShape(Once):
    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return flambeau.ones(7)


@pytest.mark.parametrize("function,text", [(WrongCount, "incorrect number of gradients"), (WrongShape, "invalid gradient")])
def test_wrong_gradients_are_refused(function: Any, text: str) -> None:
    with pytest.raises(RuntimeError, match=text):
        function.apply(leaf(1.0, 2.0)).sum().backward()


def test_saved_tensors_are_checked_and_freed() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    z = Once.apply(y)
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()
    z = Once.apply(x)
    z.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        z.sum().backward()


# ---- gradcheck itself ---------------------------------------------------------------------------------------------


class Wrong(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * 2.1


def test_gradcheck_finds_a_wrong_derivative() -> None:
    with pytest.raises(flambeau.autograd.GradcheckError, match="Jacobian mismatch"):
        gradcheck(Wrong.apply, (leaf(1.0),))
    assert gradcheck(Wrong.apply, (leaf(1.0),), raise_exception=False) is False
    with pytest.raises(ValueError, match="at least one input tensor to require gradient"):
        gradcheck(lambda x: x, (flambeau.ones(1),))


def test_gradgradcheck_finds_a_wrong_second_derivative() -> None:
    class WrongSecond(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x ** 3

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            x = ctx.saved_tensors[0]
            return g * 3 * x * x.detach()

    assert gradcheck(WrongSecond.apply, (leaf(1.0),))
    with pytest.raises(flambeau.autograd.GradcheckError):
        gradgradcheck(WrongSecond.apply, (leaf(1.0),))


def test_an_output_that_the_derivative_does_not_read_may_be_written_to():
    x = flambeau.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]], requires_grad=True)
    for select in (lambda y: y.topk(2, dim=-1), lambda y: y.sort(-1), lambda y: y.max(-1), lambda y: y.kthvalue(2, -1)):
        x.grad = None
        values, places = select(x * 2)
        values *= 3
        values.sum().backward()
        assert x.grad.sum().item() == 6 * places.numel()


def test_an_output_that_the_derivative_reads_may_not():
    q, r = flambeau.linalg.qr(flambeau.tensor([[1.0, 2.0], [3.0, 1.0]], requires_grad=True))
    q.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (q.sum() + r.sum()).backward()


@pytest.mark.parametrize("number", [np.sqrt(3.0), np.float32(2), np.int64(3)])
@pytest.mark.parametrize("shape", [(), (2,)])
def test_numbers_of_numpy_are_numbers(number, shape):
    x, y = (flambeau.ones(shape, requires_grad=True) for _ in range(2))
    for a, n in ((x, number), (y, number.item())):
        (a / n + a * n - n / a + n * a ** n + flambeau.add(a, a, alpha=n)).sum().backward()
    assert x.grad.dtype is flambeau.float32 and flambeau.allclose(x.grad, y.grad)
    assert (flambeau.ones(shape, dtype=flambeau.int64) * np.float64(0.5)).dtype is flambeau.float32


def test_old_constructors_give_the_default_dtype():
    assert flambeau.Tensor(np.zeros(3)).dtype is flambeau.float32 and flambeau.Tensor(np.arange(3)).dtype is flambeau.float32
    shared = np.zeros(3, np.float32)
    flambeau.Tensor(shared).fill_(1)
    assert shared.tolist() == [1, 1, 1]
    x = flambeau.ones(2, dtype=flambeau.float64)
    assert [x.new(3).shape, x.new(x.size()).shape, x.new().numel()] == [(3,), (2,), 0]
    assert x.new([1, 2]).dtype is flambeau.float64 and x.new([1, 2]).tolist() == [1, 2]

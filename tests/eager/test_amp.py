"""autocast: which op runs in which dtype, where regions begin and end, and the scaler."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest

import flambeau as fl
import flambeau.nn.functional as F
from flambeau.ir.op import OPS, state


@pytest.fixture
def matrices():
    fl.manual_seed(0)
    return fl.randn(3, 4, requires_grad=True), fl.randn(4, 5, requires_grad=True)


def test_rules_by_kind(matrices):
    a, b = matrices
    half = fl.ones(3, 4, dtype=fl.bfloat16)
    with fl.autocast("cpu"):
        assert (a @ b).dtype is fl.bfloat16                                # lower
        assert F.mse_loss(half, fl.zeros(3, 4)).dtype is fl.float32        # float32
        assert fl.cat([half, a]).dtype is fl.float32                       # promote
        assert (half + a).dtype is fl.float32 and fl.exp(half).dtype is fl.bfloat16   # no rule: the op's own promotion
        assert fl.einsum("ij,jk->ik", a, b).dtype is fl.bfloat16           # through its parts
        assert (a.double() @ b.double()).dtype is fl.float64               # double precision is left alone
    with fl.autocast("cpu", dtype=fl.float16):
        assert (a @ b).dtype is fl.float16
    assert (a @ b).dtype is fl.float32


def test_gradients_and_parameters_stay_in_single_precision(matrices):
    a, b = matrices
    with fl.autocast("cpu"):
        loss = (a @ b).float().square().mean()
        loss.backward()                                  # also inside a region: derivatives keep the forward's dtypes
    assert a.grad.dtype is fl.float32 and b.grad.dtype is fl.float32
    exact = (a.detach().bfloat16().float() @ b.detach().bfloat16().float()) * 2 / 15 @ b.detach().bfloat16().float().t()
    assert fl.allclose(a.grad, exact, rtol=0.05, atol=0.02)


def test_regions_nest_and_end(matrices):
    a, b = matrices
    bottom = state.handler
    with fl.autocast("cpu"):
        with fl.autocast("cpu", enabled=False):
            assert not fl.is_autocast_enabled("cpu") and (a @ b).dtype is fl.float32
            with fl.autocast("cpu", dtype=fl.float16):
                assert fl.get_autocast_dtype("cpu") is fl.float16 and (a @ b).dtype is fl.float16
        assert fl.is_autocast_enabled("cpu") and (a @ b).dtype is fl.bfloat16
        seen = []
        thread = threading.Thread(target=lambda: seen.append((a @ b).dtype))
        thread.start()
        thread.join()
        assert seen == [fl.float32]                      # a region is its thread's
    with pytest.raises(ZeroDivisionError), fl.autocast("cpu"):
        raise ZeroDivisionError
    assert state.handler is bottom


def test_decorator_may_recurse(matrices):
    a, b = matrices

    @fl.autocast("cpu")
    def product(depth):
        return product(depth - 1) if depth else a @ b

    assert product(3).dtype is fl.bfloat16 and not fl.is_autocast_enabled("cpu")
    with pytest.raises(TypeError, match="requires a callable"):
        fl.autocast("cpu")(3)


def test_a_parameter_is_cast_once_unless_it_changes(matrices):
    a, b = matrices
    with fl.autocast("cpu"):
        first, again = (a @ b).grad_fn, (a @ b).grad_fn
        assert first.next_functions[1][0] is again.next_functions[1][0]
        with fl.no_grad():
            without = a @ b
            b.mul_(2)
        assert not without.requires_grad and fl.allclose((a @ b).detach(), 2 * without, rtol=0.02)
    with fl.autocast("cpu", cache_enabled=False):
        first, again = (a @ b).grad_fn, (a @ b).grad_fn
        assert first.next_functions[1][0] is not again.next_functions[1][0]


def test_wrong_arguments(matrices):
    with pytest.raises(ValueError, match="Expected `device_type` of type `str`"):
        fl.autocast(fl.device("cpu"))
    with pytest.raises(RuntimeError, match="unsupported autocast device_type 'tpu'"):
        fl.autocast("tpu")
    with pytest.warns(UserWarning, match="target dtype is not supported"), fl.autocast("cpu", dtype=fl.float32):
        assert not fl.is_autocast_enabled("cpu")


def test_every_rule_is_one_that_the_handler_knows():
    rules = {tag for op in OPS.values() for tag in op.tags if tag.startswith("amp:")}
    assert rules and {r[4:].partition("@")[0] for r in rules} <= {"lower", "float32", "promote", "through"}
    assert {r.partition("@")[2] for r in rules} <= {"", "cpu", "cuda"}


@pytest.mark.parametrize("fullgraph", [True, False])
def test_compiled_code_honours_a_region_inside_and_around_it(matrices, fullgraph):
    a, b = matrices

    def inside(a, b):
        with fl.autocast("cpu"):
            y = a @ b
        return y, y.float() @ y.float().t()

    def plain(a, b):
        return a @ b

    y, z = fl.compile(inside, fullgraph=fullgraph)(a, b)
    assert y.dtype is fl.bfloat16 and z.dtype is fl.float32 and fl.allclose(y, inside(a, b)[0], rtol=0.02, atol=0.02)
    z.sum().backward()
    assert a.grad.dtype is fl.float32
    compiled = fl.compile(plain, fullgraph=fullgraph)
    for _ in range(2):                                   # one version for each setting
        assert compiled(a, b).dtype is fl.float32
        with fl.autocast("cpu"):
            assert compiled(a, b).dtype is fl.bfloat16


def test_a_region_goes_on_behind_a_graph_break_and_is_seen_by_traced_code(matrices):
    a, _ = matrices

    def broken(x):
        with fl.autocast("cpu"):
            y = x @ x.t()
            if y.sum().item() > -1e30:       # the region's second half is another graph
                y = y * 2
            z = y @ y
        return y, z, z.float() @ z.float(), fl.is_autocast_enabled("cpu")

    *found, inside = fl.compile(broken)(a.detach())
    *expected, _ = broken(a.detach())
    assert not inside and [t.dtype for t in found] == [fl.bfloat16, fl.bfloat16, fl.float32]
    assert all(fl.allclose(x.float(), y.float(), rtol=0.02, atol=0.02) for x, y in zip(found, expected))
    asks = fl.compile(lambda x: x * 2 if fl.is_autocast_enabled("cpu") else x * 3, fullgraph=True)
    one = fl.ones(1)
    with fl.autocast("cpu"):
        assert asks(one).item() == 2
    assert asks(one).item() == 3


def test_custom_functions_run_as_they_ask():
    seen = []

    class Cast(fl.autograd.Function):
        @staticmethod
        @fl.amp.custom_fwd(device_type="cpu", cast_inputs=fl.float32)
        def forward(ctx, x):
            seen.append((x.dtype, fl.is_autocast_enabled("cpu")))
            return x * 2

        @staticmethod
        @fl.amp.custom_bwd(device_type="cpu")
        def backward(ctx, g):
            seen.append(fl.is_autocast_enabled("cpu"))
            return g * 2

    x = fl.ones(2, dtype=fl.bfloat16, requires_grad=True)
    with fl.autocast("cpu"):
        y = Cast.apply(x)
    y.sum().backward()
    assert seen == [(fl.float32, False), False] and x.grad.tolist() == [2, 2]


def scaled_model():
    fl.manual_seed(0)
    model = fl.nn.Linear(2, 1)
    return model, fl.optim.SGD(model.parameters(), lr=0.1)


def test_the_scaler_skips_and_adapts():
    model, optimizer = scaled_model()
    scaler = fl.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    before = copy.deepcopy(model.state_dict())
    scaler.scale(model(fl.ones(1, 2)).sum() * float("inf")).backward()
    assert scaler.step(optimizer) is None
    scaler.update()
    assert scaler.get_scale() == 4.0 and all((before[k] == v).all() for k, v in model.state_dict().items())
    for _ in range(2):
        optimizer.zero_grad()
        scaler.scale(model(fl.ones(1, 2)).sum()).backward()
        scaler.unscale_(optimizer)
        assert model.weight.grad.tolist() == [[1.0, 1.0]]
        with pytest.raises(RuntimeError, match="already been called"):
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        with pytest.raises(RuntimeError, match="step\\(\\) has already been called"):
            scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == 8.0 and scaler.state_dict()["_growth_tracker"] == 0
    other = fl.amp.GradScaler("cpu")
    other.load_state_dict(scaler.state_dict())
    assert other.state_dict() == scaler.state_dict() == pickle.loads(pickle.dumps(scaler)).state_dict()


def test_the_scaler_says_what_is_wrong():
    model, optimizer = scaled_model()
    scaler = fl.amp.GradScaler("cpu")
    with pytest.raises(AssertionError, match="did not use"):
        scaler.step(optimizer)
    scaler.scale(fl.ones(1))
    with pytest.raises(AssertionError, match="No inf checks"):
        scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="Closure"):
        scaler.step(optimizer, closure=lambda: 0)
    model.half()
    for p in model.parameters():
        p.grad = fl.ones_like(p)
    with pytest.raises(ValueError, match="FP16"):
        fl.amp.GradScaler("cpu").scale(fl.ones(1)) and None
        scaler.update(2.0)
        scaler.unscale_(optimizer)
    off = fl.amp.GradScaler("cpu", enabled=False)
    assert off.scale(3) == 3 and off.state_dict() == {} and off.get_scale() == 1.0


def test_ops_without_a_half_precision_run_in_single():
    half = (fl.eye(3) * 2).bfloat16()
    with fl.autocast("cpu"):
        assert fl.linalg.inv(half).dtype is fl.float32 and fl.linalg.qr(half)[0].dtype is fl.float32
        assert F.pad(half[None], (1, 1), "reflect").dtype is fl.float32 and F.pad(half, (1, 1)).dtype is fl.bfloat16
        assert F.adaptive_avg_pool2d(fl.ones(1, 1, 4, 4), 2).dtype is fl.float32    # one op in PyTorch, products here

"""Transforms, functions with derivatives of their own and checkpoints inside compiled code: one graph, equal to eager mode."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn
from flambeau.autograd import Function
from flambeau.autograd.function import once_differentiable
from flambeau.frontend.explain import explain
from flambeau.func import (
    functional_call,
    grad,
    grad_and_value,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    stack_module_state,
    vjp,
    vmap,
)
from flambeau.utils._pytree import tree_leaves
from flambeau.utils.checkpoint import checkpoint

_random = np.random.default_rng(11)


def rand(*shape: int, requires_grad: bool = False) -> Any:
    return flambeau.tensor(_random.standard_normal(shape).astype("f4"), requires_grad=requires_grad)


W = rand(3, 3, requires_grad=True)
MODEL = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
PARAMS = {name: p.detach() for name, p in MODEL.named_parameters()}
ENSEMBLE = [nn.Linear(3, 2) for _ in range(3)]


def scalar(x: Any) -> Any:
    return (x @ W).sin().sum()


def vector(x: Any) -> Any:
    return (x @ W).tanh()


def loss(params: Any, x: Any) -> Any:
    return functional_call(MODEL, params, (x,)).square().sum()


made_outside = types.SimpleNamespace(grad=grad(scalar), jac=jacrev(vector))
grad_outside, per_sample_outside = grad(scalar), vmap(grad(scalar))
hessian_outside, jacrev_outside = hessian(scalar), jacrev(vector)


def of_vjp(x: Any) -> Any:
    out, pull = vjp(vector, x)
    return out, pull(out * 2)[0], pull(flambeau.ones(3))[0]


def of_closures(x: Any) -> Any:
    scale = x.sum()

    def inner(y: Any) -> Any:
        return (y * scale).sin().sum()
    return grad(inner)(x) + scale


def of_trees(x: Any) -> Any:
    found = grad(lambda d, k: (d["a"] * d["b"][0]).sum() * k)({"a": x, "b": [x.cos()]}, 2.0)
    return found["a"], found["b"][0]


def written_inside(x: Any) -> Any:
    def inner(y: Any) -> Any:
        z = y * 2
        z.add_(y)
        z[0] = 3.0
        return z.square().sum()
    return grad(inner)(x)


def off_the_tape(x: Any) -> Any:
    def inner(y: Any) -> Any:
        with flambeau.no_grad():
            k = y.exp()
        return (y * k * y.detach()).sum()
    return grad(inner)(x)


def without_grad_outside(x: Any) -> Any:
    with flambeau.no_grad():
        return grad(scalar)(x) * 2


def one_of_many(x: Any) -> Any:
    params, buffers = stack_module_state(ENSEMBLE)
    return vmap(lambda p, b: functional_call(ENSEMBLE[0], (p, b), (x,)))(params, buffers)


def select_by_data(x: Any) -> Any:
    return vmap(lambda r: flambeau.cond(r.sum() > 0, lambda r: r.sin(), lambda r: r * 2, (r,)))(x)


VECTORS: dict[str, Callable[..., Any]] = {
    "grad": lambda x: grad(scalar)(x), "grad made outside": lambda x: grad_outside(x) + 1,
    "hessian made outside": lambda x: hessian_outside(x), "jacrev made outside": lambda x: jacrev_outside(x),
    "attributes": lambda x: made_outside.grad(x) + made_outside.jac(x).sum(0),
    "grad_and_value": lambda x: grad_and_value(scalar)(x), "vjp": of_vjp, "jvp": lambda x: jvp(vector, (x,), (x.cos(),)),
    "jacrev": lambda x: jacrev(vector)(x), "jacfwd": lambda x: jacfwd(vector)(x), "hessian": lambda x: hessian(scalar)(x),
    "grad of grad": lambda x: grad(lambda y: grad(scalar)(y).square().sum())(x),
    "jacfwd of jacrev": lambda x: jacfwd(jacrev(lambda y: (y ** 3).sum()))(x),
    "linearize": lambda x: linearize(vector, x)[1](x * 2), "aux": lambda x: grad(lambda y: (scalar(y), y * 2), has_aux=True)(x),
    "argnums": lambda x: grad(lambda a, b: (a * b.sin()).sum(), argnums=(0, 1))(x, x * 2),
    "closures": of_closures, "trees": of_trees, "written inside": written_inside, "off the tape": off_the_tape,
    "without grad outside": without_grad_outside, "method": lambda x: jacrev(MODEL.forward)(x)}
MATRICES: dict[str, Callable[..., Any]] = {
    "vmap": lambda x: vmap(vector)(x), "vmap of scalars": lambda x: vmap(scalar)(x),
    "per-sample gradients": lambda x: vmap(grad(scalar))(x), "made outside": lambda x: per_sample_outside(x),
    "in_dims and out_dims": lambda x: vmap(lambda a, b: a * b, in_dims=(1, None), out_dims=1)(x, x[:, 0]),
    "vmap of vmap": lambda x: vmap(vmap(lambda a: a * a.cos()))(x), "chunks": lambda x: vmap(vector, chunk_size=2)(x),
    "indexing": lambda x: vmap(lambda r: r[1:] * r[0])(x), "vmap of jacobians": lambda x: vmap(jacrev(vector))(x),
    "jvp of vmap": lambda x: jvp(vmap(vector), (x,), (x * 2,)), "module": lambda x: vmap(MODEL)(x),
    "functional_call": lambda x: functional_call(MODEL, PARAMS, (x,)), "gradients of parameters": lambda x: grad(loss)(PARAMS, x),
    "per-sample gradients of parameters": lambda x: vmap(grad(loss), (None, 0))(PARAMS, x), "an ensemble": one_of_many,
    "cond under vmap": select_by_data}
PROGRAMS = {**{n: (f, (3,)) for n, f in VECTORS.items()}, **{n: (f, (5, 3)) for n, f in MATRICES.items()}}


def run(fn: Callable[..., Any], x: Any) -> list[Any]:
    """Results, whether they are on the tape, and their gradients."""
    found = tree_leaves(fn(x))
    taped = [t for t in found if t.requires_grad]
    flags = [flambeau.tensor(t.requires_grad) for t in found]
    wanted = [t for t in (x, W) if t.requires_grad]
    given = flambeau.autograd.grad(sum(t.square().sum() for t in taped), wanted, allow_unused=True) if taped else []
    return [*found, *flags, *(flambeau.zeros_like(t) if g is None else g for t, g in zip(wanted, given))]


def assert_close(got: list[Any], want: list[Any]) -> None:
    assert len(got) == len(want)
    for a, b in zip(got, want):
        assert a.dtype is b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=2e-4, atol=2e-5)


CASES = [(name, "eager") for name in PROGRAMS] + [(name, "cpp") for name in (
    "hessian", "vjp", "written inside", "per-sample gradients of parameters", "jvp of vmap", "grad of grad")]


@pytest.mark.parametrize("name,backend", CASES, ids=map("-".join, CASES))
def test_transform(name: str, backend: str) -> None:
    fn, shape = PROGRAMS[name]
    compiled = flambeau.compile(fn, backend=backend, fullgraph=True)
    for requires_grad in (False, True):
        x = rand(*shape, requires_grad=requires_grad)
        assert_close(run(compiled, x), run(fn, x))


def test_transforms_of_compiled_functions() -> None:
    compiled = flambeau.compile(scalar, backend="eager")
    x = rand(3)
    assert_close([grad(compiled)(x), hessian(compiled)(x)], [grad(scalar)(x), hessian(scalar)(x)])
    rows = rand(4, 3)
    assert_close([vmap(compiled)(rows), vmap(grad(compiled))(rows)], [vmap(scalar)(rows), vmap(grad(scalar))(rows)])
    assert_close([flambeau.compile(grad(compiled), backend="eager")(x)], [grad(scalar)(x)])
    assert_close([flambeau.compile(vmap(grad(scalar)), backend="eager", fullgraph=True)(rows)], [vmap(grad(scalar))(rows)])


def test_the_transformed_function_is_guarded() -> None:
    """Another function, or other options, behind the same name: traced again, not taken for the first."""
    def fn(x: Any, transform: Any) -> Any:
        return transform(x)

    compiled = flambeau.compile(fn, backend="eager", fullgraph=True)
    x = rand(3)
    for f in (grad(scalar), grad(lambda y: y.square().sum()), jacrev(vector), jacfwd(lambda y: y * 2)):
        assert_close([compiled(x, f)], [f(x)])
    scale = types.SimpleNamespace(k=1.0)
    g = grad(lambda y: (y * scale.k).sum())
    for k in (1.0, 2.0, 5.0):
        scale.k = k
        assert_close([compiled(x, g)], [g(x)])


def leaks(x: Any) -> Any:
    kept = []

    def inner(y: Any) -> Any:
        kept.append(y * 2)
        return y.sum()
    return grad(inner)(x) + len(kept)


def depends_on_data(x: Any) -> Any:
    return grad(lambda y: y.sum() * 2 if y.sum() > 0 else y.sum())(x)


def prints(x: Any) -> Any:
    return vmap(lambda y: print(end="") or y * 2)(x.reshape(3, 1))


def while_inside(x: Any) -> Any:
    from flambeau._higher_order_ops import while_loop
    return grad(lambda y: while_loop(lambda z: z.sum() < 10, lambda z: (z * 2 + 1,), (y,))[0].sum())(x)


@pytest.mark.parametrize("fn", [leaks, depends_on_data, prints, while_inside], ids=lambda f: f.__name__)
def test_what_cannot_be_traced_runs_as_eager_mode_does(fn: Callable[..., Any]) -> None:
    compiled = flambeau.compile(fn, backend="eager")
    for sign in (1, -1):
        x = rand(3).abs() * sign
        assert_close([compiled(x)], [fn(x)])


def test_errors_are_those_of_eager_mode() -> None:
    for fn in (lambda x: grad(vector)(x), lambda x: vmap(vector, in_dims=4)(x), lambda x: vmap(lambda y: y.item())(x)):
        with pytest.raises(Exception) as want:  # noqa: PT011 - whatever eager mode raises
            fn(rand(3))
        with pytest.raises(type(want.value)) as got:
            flambeau.compile(fn, backend="eager")(rand(3))
        assert str(got.value) == str(want.value)


# ---- functions with derivatives of their own ------------------------------------------------------------------------


class Exp(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (y,) = ctx.saved_tensors
        return g * y * 2


class Two(Function):
    """Two results, one of them without gradient; attributes of ctx, intermediate values among them."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any, k: float, flag: bool = True) -> Any:
        m = x * w
        ctx.k, ctx.m = k, m.sin()
        ctx.save_for_backward(x, w)
        found, sign = m * k, (m > 0).float()
        ctx.mark_non_differentiable(sign)
        return found, sign

    @staticmethod
    def backward(ctx: Any, g: Any, _: Any) -> Any:
        x, w = ctx.saved_tensors
        to_x = g * w * ctx.k + ctx.m if ctx.needs_input_grad[0] else None
        return to_x, (g * x).sum(0) * ctx.k if ctx.needs_input_grad[1] else None, None, None


class Reversed(Function):
    @staticmethod
    def forward(ctx: Any, x: Any, k: float) -> Any:
        ctx.k = k
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return -ctx.k * g, None


class WithSetup(Function):
    @staticmethod
    def forward(x: Any, w: Any) -> Any:
        return x @ w

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, w = ctx.saved_tensors
        return g @ w.t(), x.t() @ g


class Once(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Any) -> Any:
        return g * ctx.saved_tensors[0].cos() * 3


class Straight(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x.round()

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g


class Changes(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * 2


class Lazy(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.set_materialize_grads(False)
        return x * 2, x * 3

    @staticmethod
    def backward(ctx: Any, a: Any, b: Any) -> Any:
        assert a is None or b is None
        return a if b is None else b


class Batchable(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Any) -> Any:
        return x.sin()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * ctx.saved_tensors[0].cos() * 2


K = rand(3, requires_grad=True)


def writes_to_an_alias(x: Any) -> Any:
    y = x * 1
    z = Reversed.apply(y, 2.0)
    with flambeau.no_grad():
        y.mul_(3)
    return z * K


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": lambda x: Exp.apply(x * 2) + 1, "two": lambda x: sum(Two.apply(x, K, 3.0)), "twice": lambda x: Exp.apply(Exp.apply(x)),
    "needs": lambda x: Two.apply(x.detach(), K, 2.0, False)[0], "reversed": lambda x: Reversed.apply(x.sin(), 0.5) * K,
    "reversed input": lambda x: Reversed.apply(x, 0.5) * K, "setup": lambda x: WithSetup.apply(x, W).relu(),
    "once": lambda x: Once.apply(x * K), "straight": lambda x: Straight.apply(x * 3) * K,
    "no gradient": lambda x: Exp.apply(x.detach()) * 2,
    "in a branch": lambda x: flambeau.cond(x.sum() > 0, lambda x: Exp.apply(x), lambda x: Straight.apply(x), (x,))}
NOT_TRACED: dict[str, Callable[..., Any]] = {
    "changes": lambda x: Changes.apply(x * 1) + 1, "lazy": lambda x: Lazy.apply(x)[0], "alias": writes_to_an_alias,
    "alias outside": lambda x: Reversed.apply(x, 3.0), "under vmap": lambda x: vmap(lambda r: Batchable.apply(r))(x)}


def run_twice(fn: Callable[..., Any], x: Any) -> list[Any]:
    """Results, first and second derivatives; of an error the words."""
    y = fn(x)
    wanted = [x, K, W]
    if not y.requires_grad:
        return [y]
    grads = flambeau.autograd.grad(y.square().sum(), wanted, create_graph=True, allow_unused=True)
    try:
        again = flambeau.autograd.grad(sum(g.square().sum() for g in grads if g is not None), wanted, allow_unused=True)
    except RuntimeError as error:
        again = [str(error)]
    return [y, *grads, *again]


def assert_same(got: list[Any], want: list[Any]) -> None:
    assert len(got) == len(want)
    for a, b in zip(got, want):
        if isinstance(b, str):
            assert a == b
        elif a is not None and b is not None:
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-3, atol=1e-4)
        else:
            assert all(t is None or not t.any() for t in (a, b))


FUNCTION_CASES = [(n, "eager") for n in FUNCTIONS] + [(n, "numpy") for n in FUNCTIONS] + [("two", "cpp"), ("reversed", "cpp")]


@pytest.mark.parametrize("name,backend", FUNCTION_CASES, ids=map("-".join, FUNCTION_CASES))
def test_function(name: str, backend: str) -> None:
    fn = FUNCTIONS[name]
    compiled = flambeau.compile(fn, backend=backend, fullgraph=True)
    x = rand(4, 3, requires_grad=True)
    assert_same(run_twice(compiled, x), run_twice(fn, x))
    with flambeau.no_grad():
        assert_same([compiled(x)], [fn(x)])


@pytest.mark.parametrize("name", NOT_TRACED)
def test_function_that_no_graph_can_show(name: str) -> None:
    fn = NOT_TRACED[name]
    x = rand(4, 3, requires_grad=True)
    assert_same(run_twice(flambeau.compile(fn, backend="eager"), x), run_twice(fn, x))
    told = [r.code for r in explain(fn, backend="eager")(x).break_reasons]
    assert told[0] in ("custom-function", "transform", "sharing"), told


# ---- checkpoints and hooks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint(reentrant: bool) -> None:
    def fn(x: Any) -> Any:
        return checkpoint(lambda y: (y @ W).sin().exp(), x * 2, use_reentrant=reentrant) * K

    for backend in ("eager", "numpy"):
        x = rand(4, 3, requires_grad=True)
        found = []
        for f in (fn, flambeau.compile(fn, backend=backend, fullgraph=True)):
            y = f(x)
            y.sum().backward()
            found.append([y, x.grad, W.grad])
            x.grad = W.grad = K.grad = None
        assert_same(*found)


def scaled(x: Any) -> Any:
    y = x.sin()
    y.register_hook(lambda g: g * 3)
    return y * K


def chained(x: Any) -> Any:
    y = x.sin()
    y.register_hook(lambda g: None)
    z = y * K
    z.register_hook(lambda g: g * K.detach())
    return z


def written_after(x: Any) -> Any:
    y = x * 2
    y.register_hook(lambda g: g * 3)
    y.add_(1)
    y[1:].mul_(2)
    return y


def seen_by_backward(x: Any) -> Any:
    y = x * 2
    y.register_hook(lambda g: g.clamp(-1, 1))
    (g,) = flambeau.autograd.grad((y * K).sum(), x, create_graph=True)
    return g * x


def used_before(x: Any) -> Any:
    """The hook sees the whole gradient, that of earlier uses too: the graph ends before those."""
    y = x * 2
    z = y + 1
    y.register_hook(lambda g: g * 3)
    return y * z


RECORDED: list[Any] = []


def records(x: Any) -> Any:
    y = x.sin()
    y.register_hook(RECORDED.append)
    return y * K


def removed(x: Any) -> Any:
    y = x * 2
    y.register_hook(lambda g: g * 3).remove()
    return y * K


HOOKS = {scaled: 1, chained: 1, written_after: 1, seen_by_backward: 1, used_before: 3, records: 2, removed: 2}


@pytest.mark.parametrize("fn", HOOKS, ids=lambda f: f.__name__)
def test_tensor_hooks(fn: Callable[..., Any]) -> None:
    x = rand(4, 3, requires_grad=True)
    assert len(explain(fn, backend="eager")(x).graphs) <= HOOKS[fn]
    for backend in ("eager", "numpy"):
        compiled = flambeau.compile(fn, backend=backend, fullgraph=HOOKS[fn] == 1)
        RECORDED.clear()
        for _ in range(2):
            y, z = fn(x), compiled(x)
            assert_same([z, *flambeau.autograd.grad(z.square().sum(), [x])], [y, *flambeau.autograd.grad(y.square().sum(), [x])])
        for a, b in zip(RECORDED[::2], RECORDED[1::2]):
            assert_same([a], [b])


def with_saved_tensor_hooks(x: Any) -> Any:
    with flambeau.autograd.graph.saved_tensors_hooks(lambda t: t * 1, lambda t: t):
        y = x.exp()
    return (y * K).sum()


def forward_mode(x: Any) -> Any:
    with flambeau.autograd.forward_ad.dual_level():
        d = flambeau.autograd.forward_ad.make_dual(x, x * 2)
        return flambeau.autograd.forward_ad.unpack_dual(d.sin() * K).tangent


@pytest.mark.parametrize("fn", [with_saved_tensor_hooks, forward_mode], ids=lambda f: f.__name__)
def test_watchers_of_the_tape(fn: Callable[..., Any]) -> None:
    x = rand(4, 3, requires_grad=True)
    compiled = flambeau.compile(fn, backend="eager")
    for _ in range(2):
        y, z = fn(x), compiled(x)
        assert_same([z, *flambeau.autograd.grad(z.sum(), [x])], [y, *flambeau.autograd.grad(y.sum(), [x])])

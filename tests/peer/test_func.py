"""``func``: each program run in flambeau and in PyTorch gives the same values, or the same kind of error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from twins import x_of

import flambeau

PROGRAMS: dict[str, Callable[[Any], Any]] = {}
ERRORS: dict[str, Callable[[Any], Any]] = {}


def program(fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    PROGRAMS[fn.__name__] = fn
    return fn


def error(fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    ERRORS[fn.__name__] = fn
    return fn


def flat(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return [x for v in tree.values() for x in flat(v)]
    if isinstance(tree, (tuple, list)):
        return [x for v in tree for x in flat(v)]
    return [tree]


def plain(x: Any) -> Any:
    return x.detach().cpu().numpy() if hasattr(x, "detach") else x


# ---- grad, vjp ---------------------------------------------------------------------------------------------------


@program
def grad_of_scalar(t: Any) -> Any:
    return t.func.grad(lambda x: (x.sin() * x).sum())(x_of(t, 4))


@program
def grad_third_order(t: Any) -> Any:
    f = lambda x: t.tanh(x) * x  # noqa: E731
    return t.func.grad(t.func.grad(t.func.grad(f)))(x_of(t))


@program
def grad_no_confusion(t: Any) -> Any:
    g = t.func.grad
    return g(lambda x: x * g(lambda y: x * y + y ** 2)(x))(x_of(t))


@program
def grad_argnums(t: Any) -> Any:
    f = lambda x, y: (x * y.exp()).sum()  # noqa: E731
    return [t.func.grad(f, a)(x_of(t, 3), x_of(t, 3, shift=1)) for a in (0, 1, -1, (0, 1), (1,))]


@program
def grad_of_trees(t: Any) -> Any:
    f = lambda p, x: ((p["w"] @ x + p["b"][0]) ** 2).sum()  # noqa: E731
    return t.func.grad(f)({"w": x_of(t, 2, 3), "b": [x_of(t, 2)]}, x_of(t, 3))


@program
def grad_aux(t: Any) -> Any:
    return t.func.grad(lambda x: (x.sum(), (x * 2, {"k": x.max()})), has_aux=True)(x_of(t, 3))


@program
def grad_and_value(t: Any) -> Any:
    return (t.func.grad_and_value(lambda x: x.prod())(x_of(t, 3)),
            t.func.grad_and_value(lambda x: (x.prod(), x.sum()), has_aux=True)(x_of(t, 3)))


@program
def grad_with_closure_on_the_tape(t: Any) -> Any:
    w = x_of(t, 3).requires_grad_()
    g = t.func.grad(lambda x: (w * x ** 2).sum())(x_of(t, 3, shift=2))
    return g, t.autograd.grad(g.sum(), w), g.requires_grad


@program
def grad_of_input_on_the_tape(t: Any) -> Any:
    x = x_of(t, 3).requires_grad_()
    g = t.func.grad(lambda x: (x ** 3).sum())(x)
    return g, t.autograd.grad(g.sum(), x)


@program
def grad_result_off_the_tape(t: Any) -> Any:
    return t.func.grad(lambda x: (x ** 3).sum())(x_of(t, 3)).requires_grad


@program
def grad_inside_no_grad(t: Any) -> Any:
    x = x_of(t, 3).requires_grad_()
    with t.no_grad():
        g = t.func.grad(lambda x: (x ** 2).sum())(x)
    return g, g.requires_grad


@program
def no_grad_inside_grad(t: Any) -> Any:
    def f(x: Any) -> Any:
        with t.no_grad():
            c = x ** 2
        return (x * c).sum()
    return t.func.grad(f)(x_of(t, 3))


@program
def grad_detach(t: Any) -> Any:
    return t.func.grad(lambda x: (x * x.detach()).sum())(x_of(t, 3))


@program
def grad_independent(t: Any) -> Any:
    return t.func.grad(lambda x, y: y.sum())(x_of(t, 3), x_of(t, 2))


@program
def grad_inplace(t: Any) -> Any:
    def f(x: Any) -> Any:
        y = x.clone()
        y[0] = y[1] * 2
        y.mul_(x)
        z = t.zeros(3, dtype=t.float64)
        z[1:] = y[1:] * x[0]
        y.t_() if y.ndim == 2 else None
        z.add_(1).exp_()
        return z.sum() + y.sum()
    return t.func.grad(f)(x_of(t, 3)), t.func.grad(lambda x: t.func.grad(f)(x).sum())(x_of(t, 3))


@program
def grad_data_dependent(t: Any) -> Any:
    return t.func.grad(lambda x: x.sin() if x > 0 else x.cos())(x_of(t))


@program
def grad_kwargs(t: Any) -> Any:
    return t.func.grad(lambda x, *, k: (x * k).sum())(x_of(t, 3), k=x_of(t, 3, shift=3))


@program
def vjp_tree(t: Any) -> Any:
    out, pull = t.func.vjp(lambda x, y: {"a": x * y, "b": (y.sum(),)}, x_of(t, 3), x_of(t, 3, shift=1))
    return out, pull({"a": x_of(t, 3, shift=2), "b": (t.tensor(2.0, dtype=t.float64),)})


@program
def vjp_single(t: Any) -> Any:
    out, pull = t.func.vjp(lambda x: t.softmax(x, 0), x_of(t, 3))
    return out, pull(x_of(t, 3, shift=1)), pull(x_of(t, 3, shift=2))


@program
def vjp_aux(t: Any) -> Any:
    out, pull, aux = t.func.vjp(lambda x: (x * 2, x.sum()), x_of(t, 3), has_aux=True)
    return out, pull(x_of(t, 3)), aux


@program
def vjp_of_vjp(t: Any) -> Any:
    def f(x: Any) -> Any:
        _, pull = t.func.vjp(lambda y: y.sin() * x, x)
        return pull(x)[0] if isinstance(pull(x), tuple) else pull(x)
    return t.func.vjp(f, x_of(t, 3))[1](x_of(t, 3, shift=1))


# ---- jvp --------------------------------------------------------------------------------------------------------------


@program
def jvp_simple(t: Any) -> Any:
    return t.func.jvp(lambda x: x.sin() * x, (x_of(t, 3),), (x_of(t, 3, shift=1),))


@program
def jvp_two_inputs_tree(t: Any) -> Any:
    return t.func.jvp(lambda x, y: {"a": x @ y, "b": (x.sum(), y)}, (x_of(t, 2, 3), x_of(t, 3, 2, shift=1)),
                      (x_of(t, 2, 3, shift=2), x_of(t, 3, 2, shift=3)))


@program
def jvp_aux(t: Any) -> Any:
    return t.func.jvp(lambda x: (x ** 2, x + 1), (x_of(t, 3),), (x_of(t, 3),), has_aux=True)


@program
def jvp_nested(t: Any) -> Any:
    f = lambda x: (x.exp() * x).sum()  # noqa: E731
    d = lambda x: t.func.jvp(f, (x,), (t.ones_like(x),))[1]  # noqa: E731
    return t.func.jvp(d, (x_of(t, 3),), (x_of(t, 3, shift=1),))


@program
def jvp_of_grad(t: Any) -> Any:
    return t.func.jvp(t.func.grad(lambda x: (x.sin() * x.prod()).sum()), (x_of(t, 3),), (x_of(t, 3, shift=1),))


@program
def grad_of_jvp(t: Any) -> Any:
    return t.func.grad(lambda x: t.func.jvp(lambda y: (y.exp() * y).sum(), (x,), (x * 2,))[1])(x_of(t, 3))


@program
def jvp_inplace(t: Any) -> Any:
    def f(x: Any) -> Any:
        y = x * 1
        y[1:].mul_(x[0])
        z = t.zeros(2, 3, dtype=t.float64)
        z[1] = y
        z[:, 0] += 1
        return z.t() @ z
    return t.func.jvp(f, (x_of(t, 3),), (x_of(t, 3, shift=1),))


@program
def jvp_independent(t: Any) -> Any:
    return t.func.jvp(lambda x: t.ones(2), (x_of(t, 3),), (x_of(t, 3),))


@program
def jvp_complex(t: Any) -> Any:
    x = t.complex(x_of(t, 3), x_of(t, 3, shift=1))
    return t.func.jvp(lambda z: t.view_as_real(z.exp() * z.abs()), (x,), (x * 0.5j,))


@program
def linearize(t: Any) -> Any:
    out, push = t.func.linearize(lambda x, y: (x.sin() * y).sum(), x_of(t, 3), x_of(t, 3, shift=1))
    return out, push(x_of(t, 3, shift=2), x_of(t, 3, shift=3))


# ---- Jacobians -------------------------------------------------------------------------------------------------------


@program
def jacobians(t: Any) -> Any:
    f = lambda x: t.stack([x.sin(), x.prod() * x], 0)  # noqa: E731
    return [j(f)(x_of(t, 3)) for j in (t.func.jacrev, t.func.jacfwd)]


@program
def jacobians_chunked(t: Any) -> Any:
    f = lambda x: (x.outer(x)).exp()  # noqa: E731
    return [t.func.jacrev(f, chunk_size=c)(x_of(t, 3)) for c in (1, 2, 100)]


@program
def jacobians_trees(t: Any) -> Any:
    f = lambda x, y: {"a": x * y.sum(), "b": [y ** 2]}  # noqa: E731
    return [j(f, argnums=a)(x_of(t, 3), x_of(t, 2, shift=1)) for j in (t.func.jacrev, t.func.jacfwd) for a in (0, 1, (0, 1))]


@program
def jacobians_aux(t: Any) -> Any:
    f = lambda x: (x ** 2, x.sum())  # noqa: E731
    return [j(f, has_aux=True)(x_of(t, 3)) for j in (t.func.jacrev, t.func.jacfwd)]


@program
def hessians(t: Any) -> Any:
    f = lambda x: (x.sin() * x.prod()).sum()  # noqa: E731
    fr = t.func
    return (fr.hessian(f)(x_of(t, 3)), fr.jacrev(fr.jacrev(f))(x_of(t, 3)), fr.jacfwd(fr.jacfwd(f))(x_of(t, 3)),
            fr.jacrev(fr.jacfwd(f))(x_of(t, 3)),
            fr.hessian(lambda x, y: (x * y).sum() ** 2, argnums=(0, 1))(x_of(t, 2), x_of(t, 2)))


@program
def jacobian_of_module(t: Any) -> Any:
    net = t.nn.Sequential(t.nn.Linear(3, 4), t.nn.Tanh(), t.nn.Linear(4, 2)).double()
    params = {k: x_of(t, *p.shape, shift=i) for i, (k, p) in enumerate(net.named_parameters())}
    return t.func.jacrev(lambda p: t.func.functional_call(net, p, (x_of(t, 3),)))(params)


# ---- vmap ----------------------------------------------------------------------------------------------------------


@program
def vmap_dims(t: Any) -> Any:
    f = lambda x, y: x @ y  # noqa: E731
    x, y = x_of(t, 2, 3, 4), x_of(t, 4, 2, 5)
    return (t.func.vmap(f, (0, 1))(x, y), t.func.vmap(f, (0, 1), 1)(x, y), t.func.vmap(f, (0, -2), -1)(x, y),
            t.func.vmap(f, (0, None))(x, y[:, 0]), t.vmap(f, (None, 1))(x[0], y))


@program
def vmap_nested_trees(t: Any) -> Any:
    f = lambda d, k: {"s": d["a"] * k[0], "t": (d["b"].sum(), k[1])}  # noqa: E731
    d = {"a": x_of(t, 3, 2), "b": x_of(t, 2, 3)}
    return t.func.vmap(f, in_dims=({"a": 0, "b": 1}, (None, 0)), out_dims={"s": 1, "t": (0, 0)})(d, (2.0, x_of(t, 3)))


@program
def vmap_of_vmap(t: Any) -> Any:
    v = t.func.vmap
    dist = lambda a, b: (a - b).square().sum().sqrt()  # noqa: E731
    return v(v(dist, (None, 0)), (0, None))(x_of(t, 3, 2), x_of(t, 4, 2, shift=1))


@program
def vmap_out_none(t: Any) -> Any:
    return t.func.vmap(lambda x: (x.sum(), 3), out_dims=(0, None))(x_of(t, 3, 2))


@program
def vmap_unbatched_output(t: Any) -> Any:
    return t.func.vmap(lambda x: t.ones(2))(x_of(t, 3, 2))


@program
def vmap_chunks(t: Any) -> Any:
    f = lambda x: x.softmax(0) * x  # noqa: E731
    return [t.func.vmap(f, chunk_size=c)(x_of(t, 5, 3)) for c in (1, 2, 5, 9)] + [
        t.func.vmap(f, in_dims=1, out_dims=1, chunk_size=2)(x_of(t, 5, 3))]


@program
def vmap_per_sample_gradients(t: Any) -> Any:
    net = t.nn.Sequential(t.nn.Linear(3, 4), t.nn.ReLU(), t.nn.Linear(4, 2)).double()
    params = {k: x_of(t, *p.shape, shift=i) for i, (k, p) in enumerate(net.named_parameters())}

    def loss(p: Any, x: Any, y: Any) -> Any:
        return t.nn.functional.cross_entropy(t.func.functional_call(net, p, (x.unsqueeze(0),)), y.unsqueeze(0))
    return t.func.vmap(t.func.grad(loss), (None, 0, 0))(params, x_of(t, 5, 3), t.tensor([0, 1, 1, 0, 1]))


@program
def vmap_convolution_gradients(t: Any) -> Any:
    w, b = x_of(t, 4, 1, 3, 3), x_of(t, 4)
    f = lambda w, b, x: t.nn.functional.max_pool2d(t.nn.functional.conv2d(x, w, b, padding=1), 2).square().sum()  # noqa: E731
    return t.func.vmap(t.func.grad(f, (0, 1, 2)), (None, None, 0))(w, b, x_of(t, 3, 2, 1, 6, 6))


@program
def vmap_ensemble(t: Any) -> Any:
    models = [t.nn.Linear(3, 2).double() for _ in range(3)]
    for i, m in enumerate(models):
        m.load_state_dict({"weight": x_of(t, 2, 3, shift=i), "bias": x_of(t, 2, shift=i)})
    params, buffers = t.func.stack_module_state(models)
    run = lambda p, b, x: t.func.functional_call(models[0], (p, b), (x,))  # noqa: E731
    return t.func.vmap(run, (0, 0, None))(params, buffers, x_of(t, 4, 3)), sorted(params)


@program
def vmap_of_hessian(t: Any) -> Any:
    return t.func.vmap(t.func.hessian(lambda x: (x.sin() * x.prod()).sum()))(x_of(t, 4, 3))


@program
def vmap_of_jvp_and_back(t: Any) -> Any:
    f = lambda x: (x.exp() @ x.outer(x)).sum()  # noqa: E731
    push = lambda x, d: t.func.jvp(f, (x,), (d,))[1]  # noqa: E731
    x = x_of(t, 4, 3)
    return (t.func.vmap(push)(x, x * 2), t.func.vmap(push, (None, 0))(x[0], x),
            t.func.jvp(t.func.vmap(f), (x,), (x.cos(),)), t.func.grad(lambda x: t.func.vmap(f)(x).sum())(x))


@program
def vmap_of_vjp_inside(t: Any) -> Any:
    def f(x: Any, v: Any) -> Any:
        _, pull = t.func.vjp(lambda y: y.sin() * y.sum(), x)
        return pull(v)[0]
    return t.func.vmap(f, (0, None))(x_of(t, 4, 3), x_of(t, 3)), t.func.vmap(f, (None, 0))(x_of(t, 3), x_of(t, 4, 3))


@program
def vmap_inplace(t: Any) -> Any:
    def f(x: Any, y: Any) -> Any:
        z = x.clone()
        z[0] = y
        z.add_(1)
        z[1:].mul_(2)
        return z.squeeze_().unsqueeze_(0)
    return t.func.vmap(f)(x_of(t, 3, 4), x_of(t, 3)), t.func.grad(lambda x: t.func.vmap(f)(x, x[:, 0]).prod())(x_of(t, 3, 4))


@program
def vmap_promotion(t: Any) -> Any:
    i, s = t.arange(6).reshape(3, 2), t.tensor([1.5, 2.5, 0.5], dtype=t.float64)
    f = lambda i, s: (i + s, i.float() * s, s * 2, i > s, t.where(i > 2, s, i))  # noqa: E731
    found = t.func.vmap(f)(i, s)
    return found, [str(x.dtype) for x in found]


@program
def vmap_indexing(t: Any) -> Any:
    x, i = x_of(t, 3, 4, 5), t.tensor([[0, 1], [2, 3], [3, 0]])
    fs = [lambda x, i: x[i], lambda x, i: x[:, i], lambda x, i: x[i, 1:3], lambda x, i: x[i[0]], lambda x, i: x[None, ..., 0],
          lambda x, i: x[i, i], lambda x, i: t.index_select(x, 0, i), lambda x, i: t.gather(x, 1, i.expand(4, 2)),
          lambda x, i: x.index_fill(0, i, 0.0), lambda x, i: x.scatter(0, i[None], 1.0), lambda x, i: x.index_put((i,), x[0])]
    return [t.func.vmap(f)(x, i) for f in fs[:3]] + [t.func.vmap(f, (0, 0))(x, i) for f in fs[4:]] + [
        t.func.vmap(f, (0, None))(x, i[0]) for f in (*fs[:3], *fs[4:])] + [t.func.vmap(f, (None, 0))(x[0], i) for f in fs[:3]]


@program
def vmap_many_ops(t: Any) -> Any:
    x = x_of(t, 3, 4, 5)
    F = t.nn.functional  # noqa: N806
    fs = [lambda x: x.sum(), lambda x: x.sum(0, keepdim=True), lambda x: x.mean(-1), lambda x: x.max(1), lambda x: x.argmax(),
          lambda x: x.sort(0), lambda x: x.topk(2, 1), lambda x: x.cumsum(1), lambda x: x.flip(0), lambda x: x.roll(1),
          lambda x: x.t(), lambda x: x.permute(1, 0), lambda x: x.reshape(-1), lambda x: x.flatten(), lambda x: x[0].expand(2, 5),
          lambda x: t.cat([x, x], 1), lambda x: t.stack([x, x], -1), lambda x: x.chunk(2, 0), lambda x: x.split(2, 1),
          lambda x: x.unbind(0), lambda x: t.einsum("ij,kj->ik", x, x), lambda x: x @ x.t(), lambda x: F.layer_norm(x, (5,)),
          lambda x: F.gelu(x), lambda x: F.log_softmax(x, 1), lambda x: x.std(), lambda x: x.var(0), lambda x: x.norm(),
          lambda x: x.tril(), lambda x: F.pad(x, (1, 1)), lambda x: x.diagonal(), lambda x: x.unfold(1, 2, 1),
          lambda x: x.repeat(2, 1),
          lambda x: t.linalg.svdvals(x), lambda x: t.linalg.inv(x @ x.t() + t.eye(4, dtype=t.float64)),
          lambda x: x.clamp(-0.5, 0.5),
          lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None]), lambda x: x.masked_fill(x > 0, 0.0),
          lambda x: t.atleast_3d(x), lambda x: x.prod(1), lambda x: x.logsumexp(0), lambda x: x.any(0), lambda x: x.movedim(0, 1)]
    return [t.func.vmap(f)(x) for f in fs]


@program
def vmap_batch_norm_eval_and_group_norm(t: Any) -> Any:
    F = t.nn.functional  # noqa: N806
    x = x_of(t, 3, 2, 4, 5, 5)
    return (t.func.vmap(lambda x: F.batch_norm(x, t.zeros(4).double(), t.ones(4).double()))(x),
            t.func.vmap(lambda x: F.batch_norm(x, None, None, training=True))(x), t.func.vmap(lambda x: F.group_norm(x, 2))(x))


@program
def functional_call_ties(t: Any) -> Any:
    class Tied(t.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = t.nn.Linear(2, 2).double()
            self.b = self.a

        def forward(self, x: Any) -> Any:
            return self.b(self.a(x))
    net = Tied()
    given = {"a.weight": x_of(t, 2, 2), "a.bias": x_of(t, 2)}
    return t.func.functional_call(net, given, x_of(t, 2)), t.func.functional_call(net, given, (x_of(t, 2),), tie_weights=True)


@program
def batch_norms_without_statistics(t: Any) -> Any:
    net = t.nn.Sequential(t.nn.Linear(3, 4), t.nn.BatchNorm1d(4)).double()
    for i, p in enumerate(net.parameters()):
        p.data = x_of(t, *p.shape, shift=i)
    t.func.replace_all_batch_norm_modules_(net)
    params = dict(net.named_parameters())
    loss = lambda p, x: t.func.functional_call(net, p, (x,)).square().sum()  # noqa: E731
    return t.func.vmap(t.func.grad(loss), (None, 0))(params, x_of(t, 2, 5, 3)), sorted(dict(net.named_buffers()))


# ---- errors ----------------------------------------------------------------------------------------------------------


@error
def grad_of_vector(t: Any) -> Any:
    t.func.grad(lambda x: x)(x_of(t, 3))


@error
def grad_of_number(t: Any) -> Any:
    t.func.grad(lambda x: 3.0)(x_of(t, 3))


@error
def grad_by_number(t: Any) -> Any:
    t.func.grad(lambda x: x)(3.0)


@error
def grad_argnum_range(t: Any) -> Any:
    t.func.grad(lambda x: x.sum(), argnums=2)(x_of(t, 3))


@error
def grad_argnum_twice(t: Any) -> Any:
    t.func.grad(lambda x: x.sum(), argnums=(0, 0))(x_of(t, 3))


@error
def grad_mutates_captured(t: Any) -> Any:
    w = x_of(t, 3)
    t.func.grad(lambda x: (w.add_(x)).sum())(x_of(t, 3))


@error
def grad_backward_inside(t: Any) -> Any:
    t.func.grad(lambda x: (x.sum().backward(), x.sum())[1])(x_of(t, 3))


@error
def vjp_integer_output(t: Any) -> Any:
    t.func.vjp(lambda x: x.argmax(), x_of(t, 3))


@error
def vjp_cotangent_structure(t: Any) -> Any:
    t.func.vjp(lambda x: (x, x), x_of(t, 3))[1](x_of(t, 3))


@error
def jvp_not_a_tuple(t: Any) -> Any:
    t.func.jvp(lambda x: x, x_of(t, 3), (x_of(t, 3),))


@error
def jvp_structure(t: Any) -> Any:
    t.func.jvp(lambda x: x, (x_of(t, 3),), (x_of(t, 3), x_of(t, 3)))


@error
def jvp_strict(t: Any) -> Any:
    t.func.jvp(lambda x: t.ones(3), (x_of(t, 3),), (x_of(t, 3),), strict=True)


@error
def vmap_item(t: Any) -> Any:
    t.func.vmap(lambda x: x.item())(x_of(t, 3))


@error
def vmap_control_flow(t: Any) -> Any:
    t.func.vmap(lambda x: x if x > 0 else -x)(x_of(t, 3))


@error
def vmap_dynamic_shape(t: Any) -> Any:
    t.func.vmap(lambda x: x.nonzero())(x_of(t, 3, 2))


@error
def vmap_in_dims_range(t: Any) -> Any:
    t.func.vmap(lambda x: x, in_dims=2)(x_of(t, 3, 2))


@error
def vmap_in_dims_structure(t: Any) -> Any:
    t.func.vmap(lambda x: x, in_dims=(0, 0))(x_of(t, 3, 2))


@error
def vmap_in_dims_type(t: Any) -> Any:
    t.func.vmap(lambda x: x, in_dims="no")(x_of(t, 3, 2))


@error
def vmap_sizes(t: Any) -> Any:
    t.func.vmap(lambda x, y: x)(x_of(t, 3), x_of(t, 4))


@error
def vmap_no_tensor(t: Any) -> Any:
    t.func.vmap(lambda x: x, in_dims=(None,))(x_of(t, 3))


@error
def vmap_number(t: Any) -> Any:
    t.func.vmap(lambda x, y: x)(x_of(t, 3), 2.0)


@error
def vmap_returns_number(t: Any) -> Any:
    t.func.vmap(lambda x: 3)(x_of(t, 3))


@error
def vmap_out_none_batched(t: Any) -> Any:
    t.func.vmap(lambda x: x, out_dims=None)(x_of(t, 3))


@error
def vmap_out_dims_structure(t: Any) -> Any:
    t.func.vmap(lambda x: x, out_dims=(0, 0))(x_of(t, 3))


@error
def vmap_inplace_unbatched(t: Any) -> Any:
    t.func.vmap(lambda x: t.zeros(2, dtype=t.float64).add_(x))(x_of(t, 3, 2))


@error
def vmap_random(t: Any) -> Any:
    t.func.vmap(lambda x: t.randn(2) + x)(x_of(t, 3, 2))


@error
def vmap_randomness_name(t: Any) -> Any:
    t.func.vmap(lambda x: x, randomness="often")(x_of(t, 3, 2))


@error
def vmap_no_arguments(t: Any) -> Any:
    t.func.vmap(lambda: 1)()


@error
def jacrev_chunk(t: Any) -> Any:
    t.func.jacrev(lambda x: x, chunk_size=0)(x_of(t, 2))


@error
def functional_call_twice(t: Any) -> Any:
    t.func.functional_call(t.nn.Linear(2, 2), ({"weight": t.ones(2, 2)}, {"weight": t.ones(2, 2)}), (t.ones(2),))


@error
def stack_different(t: Any) -> Any:
    t.func.stack_module_state([t.nn.Linear(2, 2), t.nn.ReLU()])


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_agree(name: str) -> None:
    got, want = flat(PROGRAMS[name](flambeau)), flat(PROGRAMS[name](torch))
    assert len(got) == len(want)
    for i, (g, w) in enumerate(zip(got, want)):
        if hasattr(w, "detach"):
            assert tuple(g.shape) == tuple(w.shape), i
            assert str(g.dtype) == str(w.dtype), i
            np.testing.assert_allclose(plain(g), plain(w), rtol=1e-9, atol=1e-11, err_msg=str(i))
        else:
            assert g == w, i


@pytest.mark.parametrize("name", ERRORS)
def test_errors_agree(name: str) -> None:
    with pytest.raises(Exception) as theirs:  # noqa: PT011 - whatever PyTorch raises
        ERRORS[name](torch)
    with pytest.raises(type(theirs.value)):
        ERRORS[name](flambeau)


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_randomness(randomness: str) -> None:
    for t in (flambeau, torch):
        t.manual_seed(0)
        found = t.func.vmap(lambda x, t=t: x + t.randn(4), randomness=randomness)(t.zeros(3, 4))
        rows = plain(found)
        assert (np.abs(rows - rows[0]).max() == 0) == (randomness == "same")
        dropped = plain(t.func.vmap(lambda x, t=t: t.nn.functional.dropout(x, 0.5), randomness=randomness)(t.ones(5, 64)))
        if randomness == "same":
            assert (dropped == dropped[0]).all()
        else:
            assert not (dropped == dropped[0]).all()


# ---- any nesting of the transforms ------------------------------------------------------------------------------------


def _functions(t: Any) -> dict[str, Callable[[Any], Any]]:
    """Functions from a vector to a vector of three."""
    F = t.nn.functional  # noqa: N806
    w = x_of(t, 3, 3, shift=2)

    def written(x: Any) -> Any:
        y = x.clone()
        y[0] = x[1] * x[2]
        y[1:].mul_(2).add_(x[0])
        return y

    def normed(x: Any) -> Any:
        y = x.outer(x)
        return ((y - y.mean(-1, keepdim=True)) * (y.var(-1, keepdim=True) + 0.01).rsqrt()).sum(0)

    def solved(x: Any) -> Any:
        return t.linalg.solve(w + 3 * t.eye(3, dtype=w.dtype) + 0.1 * x.outer(x), x)

    return {"pointwise": lambda x: (x * x.exp()).tanh() + x.sigmoid() / (1 + x * x), "product": lambda x: w @ x.sin(),
            "reduced": lambda x: x * x.prod() + x.sum().cos(), "softmax": lambda x: F.softmax(w @ x, 0) * x, "written": written,
            "indexed": lambda x: x[t.tensor([2, 0, 1])] * x.flip(0).cumsum(0),
            "joined": lambda x: t.cat([x[:1] ** 2, x[1:] * x[0]]),
            "normed": normed, "solved": solved,
            "conv": lambda x: F.conv1d(x[None, None], w[None, :1], padding=1)[0, 0]}


def _layers(t: Any) -> dict[str, Callable[[Any], Any]]:
    """Transforms that make a function from vectors to vectors of three out of another one."""
    fr = t.func
    v = x_of(t, 3, shift=5)
    return {"grad": lambda f: fr.grad(lambda x: (f(x) * v).sum()), "jvp": lambda f: lambda x: fr.jvp(f, (x,), (v,))[1],
            "vjp": lambda f: lambda x: fr.vjp(f, x)[1](v)[0], "jacrev": lambda f: lambda x: fr.jacrev(f)(x) @ v,
            "jacfwd": lambda f: lambda x: (fr.jacfwd(f)(x) * v).sum(0),
            "vmap": lambda f: lambda x: fr.vmap(lambda s: f(x * s))(v).sum(0),
            "vmap over x": lambda f: lambda x: fr.vmap(f, out_dims=1)(t.stack([x, x * v, x + v])).diagonal(),
            "tape": lambda f: lambda x: f(x.detach() * 1 + x)}


_NAMES = ("grad", "jvp", "vjp", "jacrev", "jacfwd", "vmap", "vmap over x", "tape")
_NESTINGS = [(a, b) for a in _NAMES for b in _NAMES] + [
    ("jvp", "vmap", "grad"), ("vmap", "jvp", "grad"), ("grad", "vmap over x", "jvp"), ("jacfwd", "jacrev", "vmap"),
    ("vmap over x", "jacfwd", "jacrev"), ("grad", "grad", "vmap over x"), ("jvp", "jvp", "jvp"), ("vmap", "vmap over x", "vjp")]


@pytest.mark.parametrize("nesting", _NESTINGS, ids="-".join)
def test_nestings_agree(nesting: tuple[str, ...]) -> None:
    names = list(_functions(torch))
    start = sum(map(len, nesting)) % len(names)
    for name in (names[start], names[(start + 3) % len(names)], "written") if len(nesting) == 2 else (names[start],):
        try:
            want = _nested(torch, name, nesting)
        except RuntimeError:
            assert name == "written"  # (PyTorch's tangents are written in place, which vmap refuses)
            continue
        np.testing.assert_allclose(_nested(flambeau, name, nesting), want, rtol=1e-8, atol=1e-9, err_msg=name)


def _nested(t: Any, name: str, nesting: tuple[str, ...]) -> Any:
    f = _functions(t)[name]
    for layer in nesting:
        f = _layers(t)[layer](f)
    return plain(f(x_of(t, 3, shift=1) * 0.5))

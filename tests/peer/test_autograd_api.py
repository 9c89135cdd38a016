"""autograd's wider surface beside PyTorch: hooks, forward mode, functional, checkpoints, user functions, overrides."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from twins import x_of

import flambeau

PROGRAMS: dict[str, Callable[[Any], Any]] = {}


def program(fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    PROGRAMS[fn.__name__] = fn
    return fn


def sub(t: Any, name: str) -> Any:
    return importlib.import_module(f"{t.__name__}.{name}")


def outcome(fn: Callable[[], Any]) -> Any:
    """The value, or the type of the error."""
    try:
        return fn()
    except Exception as error:
        return type(error).__name__


# ---- functional -----------------------------------------------------------------------------------------------------


def _functions(t: Any) -> Any:
    return t.autograd.functional


@program
def functional_jacobian(t: Any) -> Any:
    f = lambda x, y: (x * y.sum(), x.exp())  # noqa: E731
    g = lambda x: x.outer(x)  # noqa: E731
    x, y = x_of(t, 3), x_of(t, 2, shift=1)
    fn = _functions(t).jacobian
    return [fn(f, (x, y)), fn(g, x), fn(g, x, vectorize=True), fn(f, (x, y), vectorize=True),
            fn(g, x, vectorize=True, strategy="forward-mode"), fn(f, (x, y), vectorize=True, strategy="forward-mode"),
            fn(g, x, strict=True), fn(g, x, create_graph=True).requires_grad]


@program
def functional_hessian(t: Any) -> Any:
    f = lambda x, y: (x.sin() * y.sum()).prod()  # noqa: E731
    g = lambda x: (x ** 3).sum()  # noqa: E731
    x, y = x_of(t, 3), x_of(t, 2, shift=1)
    fn = _functions(t).hessian
    return [fn(f, (x, y)), fn(g, x), fn(g, x, vectorize=True), fn(f, (x, y), vectorize=True),
            fn(g, x, vectorize=True, outer_jacobian_strategy="forward-mode"),
            fn(f, (x, y), vectorize=True, outer_jacobian_strategy="forward-mode")]


@program
def functional_products(t: Any) -> Any:
    f = lambda x: (x ** 3).sum()  # noqa: E731
    x, v = x_of(t, 3), x_of(t, 3, shift=1)
    F = _functions(t)  # noqa: N806
    return [F.vjp(lambda x: x.exp() * x[0], x, v), F.jvp(lambda x: x.exp() * x[0], x, v), F.vhp(f, x, v), F.hvp(f, x, v),
            F.vjp(f, x), F.jvp(lambda x, y: (x * y, x), (x, v), (v, x)), F.hvp(lambda x, y: (x * y).sum() ** 2, (x, v), (v, x))]


@program
def functional_errors(t: Any) -> Any:
    F, x = _functions(t), x_of(t, 3)  # noqa: N806
    return [outcome(lambda: F.jacobian(lambda x: t.ones(2), x, strict=True)),
            outcome(lambda: F.jacobian(lambda x: x, x, strict=True, vectorize=True)),
            outcome(lambda: F.jacobian(lambda x: x, x, strategy="forward-mode")),
            outcome(lambda: F.jacobian(lambda x: x, x, strategy="sideways")),
            outcome(lambda: F.jacobian(lambda x: x, x, create_graph=True, vectorize=True, strategy="forward-mode")),
            outcome(lambda: F.jacobian(lambda x: 3, x)), outcome(lambda: F.jacobian(lambda x: x, 3)),
            outcome(lambda: F.hessian(lambda x: x, x)), outcome(lambda: F.vjp(lambda x: x, x)),
            outcome(lambda: F.vjp(lambda x: x, x, x_of(t, 2))), outcome(lambda: F.vhp(lambda x: x, x, x)),
            outcome(lambda: F.vhp(lambda x: x.sum(), x, x, strict=True)),
            outcome(lambda: F.hvp(lambda x: x.sum(), x, x, strict=True))]


# ---- forward mode -----------------------------------------------------------------------------------------------------


@program
def forward_ad_basics(t: Any) -> Any:
    fwad = sub(t, "autograd.forward_ad")
    x, v = x_of(t, 3).requires_grad_(), x_of(t, 3, shift=1)
    buffer = t.zeros(3, dtype=t.float64)
    with fwad.dual_level():
        d = fwad.make_dual(x, v)
        y = d.sin() * d
        primal, tangent = fwad.unpack_dual(y)
        buffer[1:] = y[1:] * 2
        moved = fwad.unpack_dual(buffer).tangent.detach().clone()
        of_tangent = t.autograd.grad(tangent.sum(), x, retain_graph=True)[0].clone()
        y.sum().backward()
        with t.no_grad():
            quiet = fwad.unpack_dual(d * 2).tangent
        cut = fwad.unpack_dual(d.detach()).tangent
        plain = fwad.unpack_dual(t.ones(2)).tangent
        found = [primal.detach().clone(), tangent.detach().clone(), moved, quiet.clone(), cut is None, plain is None]
    return [*found, x.grad, buffer, y, fwad.unpack_dual(y).tangent is None, (y * 2).sum(), of_tangent.shape]


@program
def forward_ad_modules(t: Any) -> Any:
    fwad = sub(t, "autograd.forward_ad")
    net = t.nn.Sequential(t.nn.Linear(3, 4), t.nn.LayerNorm(4), t.nn.GELU(), t.nn.Linear(4, 2)).double()
    for i, p in enumerate(net.parameters()):
        p.data = x_of(t, *p.shape, shift=i)
    with fwad.dual_level():
        for name, p in list(net.named_parameters()):
            owner = net.get_submodule(name.rpartition(".")[0])
            delattr(owner, name.rpartition(".")[2])
            setattr(owner, name.rpartition(".")[2], fwad.make_dual(p, x_of(t, *p.shape, shift=7)))
        out = net(x_of(t, 5, 3))
        return [x.detach().clone() for x in fwad.unpack_dual(out)]


@program
def forward_over_reverse(t: Any) -> Any:
    fwad = sub(t, "autograd.forward_ad")
    x, v, w = x_of(t, 3).requires_grad_(), x_of(t, 3, shift=1), x_of(t, 3, 3).requires_grad_()
    with fwad.dual_level():
        d = fwad.make_dual(x, v)
        y = ((w @ d).exp() * d.softmax(0)).sum() + d.prod().sin()
        g, gw = t.autograd.grad(y, (d, w), create_graph=True)
        found = [p.detach().clone() for p in (*fwad.unpack_dual(g), *fwad.unpack_dual(gw))]
        (d.sin() * d.tanh()).sum().backward()
    return found, x.grad


@program
def forward_ad_errors(t: Any) -> Any:
    fwad = sub(t, "autograd.forward_ad")

    def nested() -> None:
        with fwad.dual_level(), fwad.dual_level():
            pass

    def wrong(v: Any) -> Any:
        with fwad.dual_level():
            fwad.make_dual(x_of(t, 3), v)
    return [outcome(lambda: fwad.make_dual(x_of(t, 3), x_of(t, 3))), outcome(nested), outcome(lambda: wrong(x_of(t, 2))),
            outcome(lambda: wrong(t.ones(3, dtype=t.int64)))]


# ---- the tape ------------------------------------------------------------------------------------------------------------


@program
def nodes(t: Any) -> Any:
    a, b = x_of(t, 3, 3).requires_grad_(), x_of(t, 3, 3, shift=1).requires_grad_()
    outs = [a + b, a * b, a @ b, a.exp(), a.sum(), a.sum(0), a.t(), a[0], a.relu(), a.view(9), a - b, a / b, -a, a ** 2, a.mean(),
            a.softmax(0), a.clone(), a.unsqueeze(0), a.log1p(), t.cat([a, b]), t.stack([a, b]), a.transpose(0, 1),
            t.nn.functional.linear(a, b, b[0]), a.max(), a.max(0)[0], a.std(), a.permute(1, 0), t.where(a > 0, a, b),
            a.expand(2, 3, 3)]
    names = [o.grad_fn.name() for o in outs]
    edges = (a * 2 + b).grad_fn.next_functions
    return [*names, edges[0][0].name(), edges[1][0].name(), edges[1][0].variable is b, edges[1][1], repr(outs[0].grad_fn)[:21],
            (a.exp()).grad_fn._saved_result.detach(), (a * b).grad_fn._saved_other.detach(), (a + b).grad_fn.metadata,
            outcome(lambda: _freed(a))]


def _freed(a: Any) -> Any:
    y = (a * a).sum()
    fn = y.grad_fn.next_functions[0][0]
    y.backward()
    return fn._saved_self


@program
def node_hooks(t: Any) -> Any:
    log: list[Any] = []
    a = x_of(t, 3).requires_grad_()
    y = a.exp()
    z = (y * 2).sum()
    y.grad_fn.register_hook(lambda gi, go: log.append(("post", gi[0].clone(), go[0].clone())))
    y.grad_fn.register_prehook(lambda go: (go[0] * 3,))
    y.register_hook(lambda g: g + 1)
    a.register_post_accumulate_grad_hook(lambda p: log.append(("acc", p.grad.clone())))
    z.backward()
    acc = (a * 1).grad_fn.next_functions[0][0]
    acc.register_prehook(lambda g: (g[0] * 10,))
    acc.register_hook(lambda gi, go: log.append("after"))
    (a * 1).sum().backward()
    return log, a.grad


@program
def multi_grad_hooks(t: Any) -> Any:
    graph, log = sub(t, "autograd.graph"), []
    a, b = x_of(t, 2).requires_grad_(), x_of(t, 2, shift=1).requires_grad_()
    c, d = a * b, a * b
    h = graph.register_multi_grad_hook((a, b, c, d), lambda gs: log.append([g is not None for g in gs]))
    graph.register_multi_grad_hook((a, b), lambda g: log.append(tuple(g.shape)), mode="any")
    c.sum().backward(retain_graph=True)
    c.sum().backward(inputs=(a,), retain_graph=True)
    h.remove()
    (c + d).sum().backward()
    return log, outcome(lambda: graph.register_multi_grad_hook((a,), print, mode="some"))


@program
def saved_hooks(t: Any) -> Any:
    graph, sizes = sub(t, "autograd.graph"), []
    a = x_of(t, 3).requires_grad_()

    def pack(x: Any) -> Any:
        sizes.append(tuple(x.shape))
        return x * 2
    with graph.saved_tensors_hooks(pack, lambda x: x / 2):
        z = (a.exp() * a.sin()).sum()
    g = t.autograd.grad(z, a, create_graph=True)[0]
    second = t.autograd.grad(g.sum(), a)[0]
    with graph.save_on_cpu():
        w = (a ** 3).sum()
    w.backward()

    def modify() -> None:
        with graph.saved_tensors_hooks(lambda x: x.add_(1), lambda x: x):
            a.exp()

    def disabled() -> None:
        with graph.disable_saved_tensors_hooks("no"), graph.saved_tensors_hooks(pack, pack):
            pass

    def bad() -> None:
        with graph.saved_tensors_hooks(lambda x: 1, lambda x: 1):
            y = a.exp()
        y.sum().backward()
    with graph.allow_mutation_on_saved_tensors():
        q = a.exp()
        r = (q * q).sum()
        q.mul_(0)
        r.backward()
    return g, second, a.grad, len(sizes), outcome(modify), outcome(disabled), outcome(bad)


@program
def gradient_edges(t: Any) -> Any:
    graph = sub(t, "autograd.graph")
    a = x_of(t, 3).requires_grad_()
    y = a.exp()
    z = (y * y).sum()
    e = graph.get_gradient_edge(y)
    first = t.autograd.grad(z, e, retain_graph=True)
    z.backward(inputs=(graph.get_gradient_edge(a),), retain_graph=True)
    return first, a.grad, t.autograd.grad(e, a, x_of(t, 3)), outcome(lambda: graph.get_gradient_edge(x_of(t, 2)))


@program
def batched_gradients(t: Any) -> Any:
    a, b = x_of(t, 3).requires_grad_(), x_of(t, 3, shift=1).requires_grad_()
    y = a.exp() * b[0]
    rows = t.eye(3, dtype=t.float64)
    return t.autograd.grad(y, (a, b), rows, is_grads_batched=True), outcome(
        lambda: t.autograd.grad(y, a, t.ones(3, 2), is_grads_batched=True))


@program
def anomalies(t: Any) -> Any:
    a = x_of(t, 3).requires_grad_()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with t.autograd.detect_anomaly():
            y = (a * 0 - 1).sqrt().sum()
            found = outcome(y.backward)
            inside = t.is_anomaly_enabled()
        with t.autograd.set_detect_anomaly(True, check_nan=False):
            (a * 0 - 1).sqrt().sum().backward()
    return found, inside, t.is_anomaly_enabled(), any("anomalies" in str(w.message) for w in seen)


@program
def inference(t: Any) -> Any:
    w = x_of(t, 3).requires_grad_()
    with t.inference_mode():
        a, c = w * 2, w.view(3)
        a.add_(1)
        with t.inference_mode(False):
            d = t.ones(2) * 2
            enabled = t.is_grad_enabled()
    return [a.is_inference(), c.is_inference(), d.is_inference(), enabled, outcome(lambda: a.add_(1)),
            outcome(lambda: a._version), outcome(a.requires_grad_), a * 2, a.view(3).is_inference(), a.clone().add_(1),
            outcome(lambda: (a * w).sum().backward())]


# ---- checkpoints -----------------------------------------------------------------------------------------------------------


@program
def checkpoints(t: Any) -> Any:
    ck = sub(t, "utils.checkpoint")
    net = t.nn.Sequential(*[t.nn.Sequential(t.nn.Linear(4, 4), t.nn.Tanh()) for _ in range(4)]).double()
    for i, p in enumerate(net.parameters()):
        p.data = x_of(t, *p.shape, shift=i)
    found = []
    for reentrant in (True, False):
        x = x_of(t, 3, 4).requires_grad_()
        ck.checkpoint_sequential(net, 2, x, use_reentrant=reentrant).sin().sum().backward()
        y = ck.checkpoint(lambda a, k: (net(a) * k, k), x, 2.0, use_reentrant=reentrant)[0]
        y.sum().backward()
        found += [x.grad, [p.grad.clone() for p in net.parameters()]]
        net.zero_grad()
    x = x_of(t, 3, 4).requires_grad_()
    inner = lambda a: ck.checkpoint(net[1], ck.checkpoint(net[0], a, use_reentrant=False), use_reentrant=False)  # noqa: E731
    found.append(t.autograd.grad(ck.checkpoint(inner, x, use_reentrant=False).sum(), x))
    found.append(t.autograd.grad(ck.checkpoint(lambda a, *, k: net(a) * k, x, k=3, use_reentrant=False).sum(), x))

    def through_grad() -> None:
        t.autograd.grad(ck.checkpoint(net, x, use_reentrant=True).sum(), x)
    calls: list[int] = []

    def unsteady(a: Any) -> Any:
        calls.append(1)
        return a.exp() if len(calls) == 1 else a[:1].exp().expand(3, 4) * 1
    return [found, outcome(through_grad), outcome(lambda: ck.checkpoint(unsteady, x, use_reentrant=False).sum().backward()),
            outcome(lambda: ck.checkpoint(net, x, use_reentrant=True, nonsense=1))]


# ---- user functions ----------------------------------------------------------------------------------------------------------


@program
def user_functions(t: Any) -> Any:
    F, Function = sub(t, "func"), t.autograd.Function  # noqa: N806

    class Cube(Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x: Any) -> Any:
            return x ** 3, 3 * x ** 2

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(inputs[0], output[1])
            ctx.save_for_forward(inputs[0], output[1])

        @staticmethod
        def backward(ctx: Any, g: Any, gd: Any) -> Any:
            x, dx = ctx.saved_tensors
            return g * dx + gd * 6 * x

        @staticmethod
        def jvp(ctx: Any, v: Any) -> Any:
            x, dx = ctx.saved_tensors
            return v * dx, 6 * x * v

    class Mul(Function):
        @staticmethod
        def forward(a: Any, b: Any) -> Any:
            return a * b

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            a, b = ctx.saved_tensors
            return g * b, g * a

        @staticmethod
        def vmap(info: Any, in_dims: Any, a: Any, b: Any) -> Any:
            a = a.unsqueeze(0) if in_dims[0] is None else a
            b = b.unsqueeze(0) if in_dims[1] is None else b
            return Mul.apply(a, b), 0

    class Old(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x

    class NoRule(Mul):
        vmap = Function.vmap

    f = lambda x: Cube.apply(x)[0].sum()  # noqa: E731
    x, xs = x_of(t, 3), x_of(t, 2, 3)
    m = lambda a, b: Mul.apply(a, b).sum()  # noqa: E731
    return [F.grad(f)(x), F.jvp(f, (x,), (x,)), F.vmap(F.grad(f))(xs), F.vmap(f)(xs), F.hessian(f)(x), F.jacrev(F.jacrev(f))(x),
            F.grad(lambda xs: F.vmap(f)(xs).prod())(xs), F.vmap(Mul.apply, (0, None))(xs, x),
            F.vmap(F.grad(m, (0, 1)), (0, None))(xs, x), outcome(lambda: F.vmap(NoRule.apply)(xs, xs)),
            outcome(lambda: F.grad(lambda x: Old.apply(x).sum())(x)), outcome(lambda: F.jvp(m, (x, x), (x, x)))]


@program
def user_function_details(t: Any) -> Any:
    Function = t.autograd.Function  # noqa: N806

    class Two(Function):
        @staticmethod
        def forward(ctx: Any, x: Any, flag: Any, y: Any) -> Any:
            ctx.set_materialize_grads(flag)
            ctx.note = "kept"
            found = x * 2, y * 3, t.arange(2)
            ctx.mark_non_differentiable(found[2])
            return found

        @staticmethod
        def backward(ctx: Any, a: Any, b: Any, c: Any) -> Any:
            seen.append((a is None, b is None, ctx.needs_input_grad))
            return None if a is None else a * 2, None, None if b is None else b * 3

    class Inplace(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.mark_dirty(x)
            return x.mul_(2)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2

    class Once(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * x

        @staticmethod
        @t.autograd.function.once_differentiable
        def backward(ctx: Any, g: Any) -> Any:
            return g

    class Wrong(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g, g

    seen: list[Any] = []
    x, y = x_of(t, 3).requires_grad_(), x_of(t, 3, shift=1)
    for flag in (True, False):
        a, b, c = Two.apply(x, flag, y)
        (a if flag else a + b).sum().backward()
    z = (x * 1)
    w = Inplace.apply(z)
    w.sum().backward()
    node = a.grad_fn
    return [seen, x.grad, b.requires_grad, c.requires_grad, w is z, type(node).__name__ != "", node.name(), node.note,
            outcome(lambda: Inplace.apply(x)), outcome(lambda: Wrong.apply(x).sum().backward()),
            outcome(lambda: t.autograd.grad(t.autograd.grad(Once.apply(x).sum(), x, create_graph=True)[0].sum(), x))]


@program
def gradchecks(t: Any) -> Any:
    A, Function = t.autograd, t.autograd.Function  # noqa: N806
    x, y = x_of(t, 2, 2).requires_grad_(), x_of(t, 2, shift=1).requires_grad_()
    z = t.complex(x_of(t, 2), x_of(t, 2, shift=2)).requires_grad_()
    real, cplx = lambda x, y: (x @ y, x.sin() * y), lambda z: z.exp() * z.abs()  # noqa: E731

    class Bad(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 3

    class Undefined(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.set_materialize_grads(False)
            return x * 2, x * 3

        @staticmethod
        def backward(ctx: Any, g: Any, h: Any) -> Any:
            return g * 2 + h * 3

    options: list[dict[str, Any]] = [{}, {"fast_mode": True}, {"check_forward_ad": True}, {"check_batched_grad": True},
                                     {"check_forward_ad": True, "fast_mode": True}, {"check_grad_dtypes": True},
                                     {"check_forward_ad": True, "check_batched_forward_grad": True}]
    f = lambda x, y: (x @ y).exp() * y  # noqa: E731
    return [[outcome(lambda o=o: A.gradcheck(real, (x, y), **o)) for o in options],
            [outcome(lambda o=o: A.gradcheck(cplx, (z,), **o)) for o in options],
            outcome(lambda: A.gradgradcheck(f, (x, y), check_fwd_over_rev=True)),
            outcome(lambda: A.gradgradcheck(f, (x, y), fast_mode=True)), outcome(lambda: A.gradgradcheck(cplx, (z,))),
            outcome(lambda: A.gradcheck(Bad.apply, (x,))), outcome(lambda: A.gradcheck(Bad.apply, (x,), fast_mode=True)),
            outcome(lambda: A.gradcheck(Bad.apply, (x,), raise_exception=False)),
            outcome(lambda: A.gradcheck(Undefined.apply, (x,))),
            outcome(lambda: A.gradcheck(Undefined.apply, (x,), check_undefined_grad=False)),
            outcome(lambda: A.gradcheck(lambda x: x * 2, (x.detach(),))),
            outcome(lambda: A.gradcheck(lambda x: x.detach(), (x,))),
            outcome(lambda: A.gradcheck(lambda x: x, (t.ones(1).double().requires_grad_().expand(2),))),
            outcome(lambda: A.gradcheck(lambda x: x, (x,), check_backward_ad=False))]


@program
def writes_to_views(t: Any) -> Any:
    x = t.ones(4, dtype=t.float64, requires_grad=True)

    def write(view: Any) -> Any:
        y = x * 1
        view(y)[0].mul_(2)
        y.sum().backward()

    def inside_no_grad() -> Any:
        y = x * 1
        with t.no_grad():
            y.split(2)[0].mul_(2)
        return y

    def text(fn: Any) -> str:
        try:
            fn()
        except RuntimeError as error:
            return str(error)
        return "fine"
    views: list[Any] = [lambda y: y.split(2), lambda y: y.unbind(), lambda y: y.chunk(2), lambda y: y.tensor_split(2), list,
                        lambda y: y.view(2, 2), lambda y: y.split([1, 3])]
    return [[text(lambda v=v: write(v)) for v in views], inside_no_grad(), text(lambda: x.mul_(2)),
            text(lambda: x.view(4).mul_(2))]


# ---- overrides -----------------------------------------------------------------------------------------------------------------


@program
def overrides(t: Any) -> Any:
    lib = sub(t, "overrides")
    F = t.nn.functional  # noqa: N806

    class Sub(t.Tensor):
        pass

    class Log(t.Tensor):
        log: list[str] = []

        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            cls.log.append(func.__name__)
            return super().__torch_function__(func, types, args, kwargs or {})

    class Mode(lib.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            modes.append(func.__name__)
            return func(*args, **(kwargs or {}))

    class Meta(t.Tensor):
        @staticmethod
        def __new__(cls, data: Any, meta: Any = None) -> Any:
            return t.Tensor._make_subclass(cls, t.as_tensor(data))

        def __init__(self, data: Any, meta: Any = None) -> None:
            self.meta = meta

    class Scalar:
        table: dict[Any, Any] = {}

        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return cls.table[func](*args) if func in cls.table else NotImplemented

    modes: list[str] = []
    Scalar.table[t.mean] = lambda x: "mean"
    Scalar.table[t.add] = lambda x, y: "add"
    x = t.ones(3).as_subclass(Sub)
    kinds = [type(v).__name__ for v in (x, x + 1, 1 + x, x.sum(), t.add(x, x), x[0], x.split(1)[0], F.relu(x), t.stack([x, x]),
                                        x.clone().add_(1), t.ones(3) * x, x.detach(), x.max(0)[0], t.nn.Linear(3, 2)(x),
                                        t.nn.Parameter(t.ones(2)) * 2)]
    y = t.arange(4.0).as_subclass(Log)
    (y * 2 + y).softmax(0), y @ y, F.gelu(y), t.cat([y, y]), -y, y > 0, y / 2, 1 - y, y.mean(dim=0), y[1:], y.reshape(2, 2)
    y.chunk(2), y.size(), y.dim(), y.numel(), y[0].item(), y.tolist()
    with Mode():
        t.add(t.ones(2), 1)
        F.softmax(t.ones(2), 0)
        t.ones(2).sum()
    m = Meta([1.0, 2.0], meta="hi")
    w = t.ones(3, requires_grad=True)
    (w.as_subclass(Sub) * 2).sum().backward()
    return [kinds, Log.log, modes, type(m * 2).__name__, m.meta, w.grad, t.mean(Scalar()), t.add(t.ones(2), Scalar()),
            outcome(lambda: t.mul(Scalar(), 1)), lib.has_torch_function((x,)), lib.has_torch_function((t.ones(1),)),
            lib.is_tensor_like(Scalar()), lib.resolve_name(t.add), lib.resolve_name(t.Tensor.add)]


def flat(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return [x for v in tree.values() for x in flat(v)]
    if isinstance(tree, (tuple, list)):
        return [x for v in tree for x in flat(v)]
    return [tree]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.filterwarnings("ignore")
def test_programs_agree(name: str) -> None:
    got, want = flat(PROGRAMS[name](flambeau)), flat(PROGRAMS[name](torch))
    assert len(got) == len(want)
    for i, (g, w) in enumerate(zip(got, want)):
        if hasattr(w, "detach"):
            assert tuple(g.shape) == tuple(w.shape), i
            assert str(g.dtype) == str(w.dtype), i
            np.testing.assert_allclose(g.detach().numpy(), w.detach().numpy(), rtol=1e-9, atol=1e-11, err_msg=str(i))
        else:
            assert g == w, i

"""Functions of tensors: selection, assembly, dtypes, odd sizes and layouts, views, writes, gradients."""

from __future__ import annotations

from compiled.whole import Whole, entered, trained

import flambeau as ft
from flambeau.nn import functional as F

TENSORS: list[Whole] = []
program = entered(TENSORS)


@program()
def selections(compile):
    def f(x):
        v, i = x.topk(3, dim=1)
        s, at = x.sort(dim=0, descending=True)
        m, where = x.max(dim=1)
        return v, i, s, at, m, where, x.argmax(), x.argmin(1), x.median(), x.kthvalue(2, 1)[0], x.argsort(1)
    return trained(compile(f), ft.randn(4, 6, requires_grad=True))


@program()
def scans(compile):
    def f(x):
        return x.cumsum(1), x.cumprod(0), x.logcumsumexp(1), x.cummax(1)[0], (x > 0).cumsum(0), x.diff(dim=1)
    return trained(compile(f), ft.randn(3, 5, requires_grad=True))


@program()
def assembly(compile):
    def f(x, y):
        a, b = x.split([1, 3], dim=1)
        return (ft.cat([x, y], 1), ft.stack([x, y], -1), F.pad(x, (1, 2, 0, 1), value=3.0),
                F.pad(x[None], (1, 1), mode="reflect"),
                x.roll((1, -1), (0, 1)), x.flip(0, 1), x.repeat(2, 1), x.expand(2, 3, 4), a * 2, b, x.tile(1, 2),
                x.repeat_interleave(2, 0), ft.hstack([x, y]), ft.meshgrid(x[0], y[0], indexing="ij")[1], x.chunk(3)[1],
                x.unfold(1, 2, 1), ft.block_diag(x, y), x.rot90())
    return trained(compile(f), ft.randn(3, 4, requires_grad=True), ft.randn(3, 4, requires_grad=True))


@program()
def indexing(compile):
    def f(x, i, mask):
        return (x[i], x[:, i], x[i, i], x[1:, ::2], x[..., None, -1], x[i[:2, None], i], x.index_select(1, i),
                x.gather(1, i.expand(4, 3)), x.take_along_dim(i[None], 1), x[0, 1], x.take(i), x.masked_fill(mask, -1.0),
                x.select(0, 2), x.narrow(1, 1, 2), x.diagonal(), x.tril(), x.triu(1))
    return trained(compile(f), ft.randn(4, 5, requires_grad=True), ft.tensor([3, 0, 1]), ft.rand(4, 5) > 0.5)


@program()
def assignments(compile):
    def f(x, v, i, mask):
        y = x.clone()
        y[0] = v
        y[i, 1] = 7.0
        y[:, ::2] += 1
        y[mask] = 0.0
        z = x.index_put((i, i), v[:2], accumulate=True)
        w = x.scatter(1, i[None], v[None, :2]).scatter_add(1, i[None], v[None, 2:4])
        u = x.index_add(0, i, x[:2]).index_fill(1, i, 3.0).index_copy(0, i, x[2:4])
        return y, z, w, u, ft.where(mask, x, v), x.scatter_reduce(1, i[None], v[None, :2], "amax")
    return trained(compile(f), ft.randn(4, 5, requires_grad=True), ft.randn(5, requires_grad=True), ft.tensor([2, 0]),
                   ft.rand(4, 5) > 0.5)


@program()
def contractions(compile):
    def f(a, b, c):
        return (ft.einsum("bij,bjk->bik", a, b), ft.einsum("bij,bij->b", a, a), ft.einsum("ii->i", c), a @ b, a @ b[0],
                ft.bmm(a, b), ft.tensordot(a, b, dims=([2], [1])), ft.outer(c[0], c[1]), c.mv(c[0]), c.dot(c[0]) if c.ndim == 1
                else c[0].dot(c[1]), ft.baddbmm(a @ b, a, b, beta=0.5), ft.linalg.norm(c), ft.cdist(a, a),
                ft.einsum("...i,...i", a, a), c.trace())
    return trained(compile(f), ft.randn(2, 3, 4, requires_grad=True), ft.randn(2, 4, 3, requires_grad=True),
                   ft.randn(3, 3, requires_grad=True), leaves=[])


@program()
def reductions(compile):
    def f(x):
        return (x.sum(), x.sum((0, 2), keepdim=True), x.mean(1), x.prod(2), x.amax((0, 1)), x.std(0), x.var(unbiased=False),
                x.norm(), x.norm(1, dim=1), x.logsumexp(2), x.all(), (x > 0).any(1), x.count_nonzero(), x.aminmax()[1],
                ft.std_mean(x, 1)[1], x.nansum(), (x > 0).sum())
    return trained(compile(f), ft.randn(3, 4, 5, requires_grad=True))


def _arithmetic(x, y):
    return x + y, x * 2, x / 3, x - 1.5, y // 2, x % 3, -x, x ** 2, 2 - x, x > y, x == 1, (x + 1) * True, x * y, x.sum(), x.mean(
        dtype=ft.float64)


@program(graphs=8, full=True)
def dtypes(compile):
    f = compile(_arithmetic)
    base = ft.tensor([[0, 1, 2], [5, -4, 3]])
    seen = []
    for dtype in (ft.float32, ft.float64, ft.bfloat16, ft.float16, ft.int64, ft.int32, ft.int8, ft.uint8):
        seen.append(f(base.abs().to(dtype), (base.flip(1).abs() + 1).to(dtype)))
    return seen


@program()
def promotion(compile):
    def f(b, i, h, x, d):
        return (b + i, b * 1.5, i + h, h + x, x + d, i / i, i * 2.5, b & (i > 0), ft.add(i, i, alpha=2), h * d[0], x * d.sum(),
                i.float() + h, ft.where(b, i, x), ft.cat([i, h]), i ** 2, 2 ** i, i.sum(), b.sum(), h.sum(dtype=ft.float32),
                ft.maximum(i, x), i.mean(dtype=ft.float32), x.long(), x.to(ft.int8), h.double(), ~b, i << 1, i | 1,
                i.bitwise_xor(3))
    return compile(f)(ft.tensor([True, False]), ft.tensor([3, 1]), ft.tensor([0.5, 2]).half(), ft.tensor([0.1, 7]),
                      ft.tensor([1.25, 2]).double())


@program(atol=4e-3)  # one cast serves three uses, so that their gradients add up in half precision
def half_precisions_round(compile):
    def f(x, y):
        return x.bfloat16().float() + 1, (x.half() * y.half()).float() * 3, F.softmax(x.bfloat16(), 1), F.gelu(x.half()) * 0.1, \
            F.linear(x.bfloat16(), y.bfloat16()).float(), F.layer_norm(x.half(), (8,)), x.bfloat16().cumsum(1)
    return trained(compile(f), ft.randn(6, 8, requires_grad=True), ft.randn(6, 8, requires_grad=True))


@program(rtol=1e-4)
def complex_numbers(compile):
    def f(z, x):
        w = z * (1 + 2j) + x
        return (w, w.real, w.imag, w.abs(), w.conj() * z, ft.complex(x, x), w.angle(), ft.view_as_real(w), w.exp(),
                (w * w.conj()).real)
    z = ft.complex(ft.randn(4), ft.randn(4)).requires_grad_()
    return trained(compile(f), z, ft.randn(4, requires_grad=True))


@program(graphs=4, full=True)
def empty_and_0d(compile):
    def f(x):
        return x * 2 + 1, x.sum(), x.exp(), ft.cat([x.reshape(-1), x.reshape(-1)])
    g = compile(f, dynamic=False)
    return [trained(g, ft.ones(s, requires_grad=True)) for s in ((), (0,), (0, 3), (1,))]


@program(graphs=1)
def layouts(compile):
    def f(x, y):
        return x + y, x.sum(0), (x * y).t(), x @ y.t(), F.softmax(x, 1)
    g = compile(f)
    base = ft.arange(40.0).reshape(5, 8) / 10
    pairs = ((ft.randn(4, 5), ft.randn(4, 5)), (ft.randn(5, 4).t(), base[:4, :5]),
             (base[:4, ::2][:, :4].repeat(1, 2)[:, :5], ft.ones(4, 1).expand(4, 5)), (base.t()[:4, :5], base[1:, 3:]))
    return [g(*p) for p in pairs]


@program()
def what_is_returned(compile):
    def f(x, y):
        z = x * 2
        return x, z, z, z[0], x.view(-1), {"a": y, "b": (z.t(), None, 3, "s")}, [x[1:]]
    x, y = ft.randn(3, 4), ft.randn(2)
    out = compile(f)(x, y)
    assert out[0] is x and out[5]["a"] is y and out[1] is out[2]
    out[4].zero_()
    out[3].fill_(9.0)
    return out, x


@program()
def writes_to_inputs(compile):
    def f(x, y, z):
        x.add_(1).mul_(y)
        z[:, 1] = y[:, 0]
        z.t()[0].copy_(x[:, 0])
        y.clamp_(min=0.0)
        return (x + z).sum()
    args = [ft.randn(3, 3) for _ in range(3)]
    return compile(f)(*args), args


@program(graphs=None, full=False)
def aliased_inputs(compile):
    def f(x, y):
        x.mul_(2)
        return x + y
    g = compile(f)
    a = ft.randn(6)
    return g(a, a), g(a[:3], a[3:]), g(a[1:4], a[2:5]), a


@program()
def output_aliases_written_input(compile):
    def f(x):
        x.add_(1)
        return x[1:], x.t(), x
    x = ft.randn(3, 3)
    outs = compile(f)(x)
    outs[0].zero_()
    assert outs[2] is x
    return outs, x


@program()
def grad_modes_inside(compile):
    def f(x, w):
        with ft.no_grad():
            scale = (x * w).norm()
        with ft.enable_grad():
            y = x / scale
        return y * w.detach(), scale, (x * w).detach().sum() * w
    return trained(compile(f), ft.randn(4, requires_grad=True), ft.randn(4, requires_grad=True))


@program(graphs=3, full=True)
def grad_flips_between_calls(compile):
    f = compile(lambda x: (x * x).sum())
    x = ft.randn(3)
    first = f(x)
    x.requires_grad_()
    second = f(x)
    second.backward()
    with ft.no_grad():
        return first, second, x.grad, f(x.detach())


@program()
def second_derivatives(compile):
    f = compile(lambda x, w: (F.tanh(x @ w) ** 2).sum() + (w ** 3).mean())
    x, w = ft.randn(3, 4, requires_grad=True), ft.randn(4, 2, requires_grad=True)
    gx, gw = ft.autograd.grad(f(x, w), (x, w), create_graph=True)
    penalty = (gx.norm(dim=1) - 1).pow(2).mean() + gw.sum()
    return gx, gw, ft.autograd.grad(penalty, (x, w))


class Squash(ft.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x)
        ctx.scale = scale
        return ft.tanh(x) * scale

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * ctx.scale * 0.5 * (1 - ft.tanh(x) ** 2), None


@program(graphs=None, full=False)
def own_function(compile):
    f = compile(lambda x: Squash.apply(x * 2, 3.0) + 1)
    return trained(f, ft.randn(4, requires_grad=True))


@program(graphs=None, full=False)
def hooks(compile):
    seen = []

    def f(x):
        y = x * 2
        if y.requires_grad:
            y.register_hook(lambda g: g * 10)
        return y * y
    x = ft.randn(3, requires_grad=True)
    x.register_hook(lambda g: seen.append(g.clone()))
    compile(f)(x).sum().backward()
    return x.grad, seen


@program()
def random_numbers(compile):
    def f(x):
        a = ft.rand(3) + ft.randn(3) * x
        b = F.dropout(x, 0.4, training=True)
        return (a, b, ft.randint(0, 9, (4,)), ft.bernoulli(x.sigmoid()), ft.randperm(5), ft.rand_like(x),
                ft.empty(3).uniform_(-1, 1))
    g = compile(f)
    return trained(g, ft.randn(3, requires_grad=True)), trained(g, ft.randn(3, requires_grad=True)), ft.rand(2)


@program()
def clamps_and_wheres(compile):
    def f(x, lo):
        return (x.clamp(-1, 1), x.clamp(min=lo), ft.where(x > 0, x, 0.1), x.nan_to_num(), ft.minimum(x, lo), x.clip(max=0.3),
                x.masked_fill(x < 0, float("-inf")).softmax(0), ft.sign(x), x.lerp(lo, 0.3), ft.addcmul(x, lo, x, value=0.5),
                x.hypot(lo),
                F.threshold(x, 0.1, 20.0), x.fmod(0.7), x.round(decimals=1))
    return trained(compile(f), ft.randn(5, requires_grad=True), ft.randn(5, requires_grad=True))


@program()
def creation(compile):
    def f(x):
        n = x.shape[0]
        return (ft.arange(n), ft.zeros(n, 2), ft.ones_like(x, dtype=ft.int64), ft.full((2, n), 3.5), ft.eye(n),
                ft.linspace(0, 1, n), x.new_zeros(3), ft.tensor([1.0, 2.0]) * x[:2], ft.tril(ft.ones(n, n)), ft.empty(0),
                F.one_hot(ft.arange(n) % 3, 4),
                ft.zeros_like(x).fill_(2), ft.scalar_tensor(3.0), x.new_tensor([1, 2]))
    return compile(f)(ft.randn(4))

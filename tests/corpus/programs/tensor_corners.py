"""More tensors: writes, views, aliases, autograd in the region, transforms, optimizers."""

import math

from ..given import F, ints, nn, program, rand, torch

X = rand(3, 4)
Y = rand(3, 4, seed=1)
P = rand(4, 4)


@program((X.clone(),), (Y.clone(),))
def inplace_family(x):
    y = x + 1
    y.add_(2).mul_(3).clamp_(min=0)
    y[0] = 5
    y[:, 1] += 2
    y[y > 10] = 0
    y.t_()
    y.zero_()
    return y, x.sub_(1)


@program((X.clone(),))
def inplace_views(x):
    v = x.view(4, 3)
    r = x[1]
    r.mul_(2)
    v[0].fill_(7)
    d = x.diagonal()
    d.zero_()
    t = x.T
    t += 1
    return v, r, x.unsqueeze(0).squeeze_(0), x.flatten()


@program((X.clone(),))
def shape_changing_inplace(x):
    y = x * 1
    y.unsqueeze_(0)
    y.transpose_(0, 1)
    y.squeeze_()
    y.swapaxes_(0, 1)
    return y, y.shape


@program((X.clone(),))
def unsqueeze_of_argument(x):
    x.unsqueeze_(-1)
    return x + 1


@program((X.clone(), P.clone()))
def resize_and_set(x, p):
    y = p * 2
    y.resize_(2, 8)
    z = torch.empty(0)
    torch.add(x, 1, out=z)
    return y.shape, z


@program((X.clone(), torch.zeros(3, 4)), (Y.clone(), torch.zeros(3, 4)))
def out_argument(x, o):
    torch.mul(x, 2, out=o)
    r = torch.sin(x, out=torch.empty_like(x))
    return o + r, o


@program((X.clone(),), (Y.clone(),))
def alias_returns(x):
    y = x.view(-1)
    z = y[2:]
    return x, y, z, x.detach(), x.T, x.expand(2, 3, 4), x


SAME = rand(3, 4, seed=5)


@program((SAME, SAME), (X.clone(), Y.clone()), (SAME, SAME))
def same_input_twice(a, b):
    a.add_(1)
    return a + b, a is b


BASE = rand(6, 4)


@program((BASE[:3], BASE[2:5]), (BASE[:3], BASE[3:]))
def overlapping_inputs(a, b):
    a.mul_(2)
    return b + 1


@program((X,))
def indexing_kinds(x):
    i = torch.tensor([0, 2])
    m = x > 0
    return (
        x[i],
        x[i, i],
        x[..., None],
        x[:, [1, 3]],
        x[-1],
        x[1:, ::2],
        x[i][:, i],
        x[None],
        x[0, 1],
        torch.where(m, x, -x),
        x.masked_fill(m, 0),
        x.take_along_dim(i[None].expand(3, 2), 1),
        x[(0, 1)],
        x[[True, False, True]],
    )


@program((X.clone(),))
def setitem_kinds(x):
    i = torch.tensor([0, 2])
    x[i] = 1.0
    x[..., -1] = torch.arange(3.0)
    x[1, 1:3] = x[2, :2]
    x[:, None, 0] += 1
    x.index_fill_(1, i, 9.0)
    x.scatter_(1, i[None].expand(3, 2), 4.0)
    x.index_add_(0, i, torch.ones(2, 4))
    return x.sum()


@program((X,), (X.requires_grad_(False),))
def creations(x):
    a = torch.zeros(2, 3, dtype=torch.int64)
    b = torch.full_like(x, 2)
    c = torch.arange(0, 10, 3)
    d = torch.linspace(0, 1, 5)
    e = torch.eye(3)
    f = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    g = torch.tril(torch.ones(3, 3))
    h = torch.empty(0)
    i = torch.stack([x, x]).mean(0)
    j = x.new_ones(2, 2)
    k = torch.zeros_like(x, dtype=torch.bool)
    l = torch.ones((2,) + x.shape)
    m = torch.scalar_tensor(3.0)
    n = torch.as_tensor([1, 2])
    o = torch.ones(x.shape[0], x.size(1), device=x.device)
    return a, b, c, d, e, f, g, h, i, j, k, l, m, n, o


@program((X,))
def tensor_from_tensors(x):
    a = torch.tensor([x.size(0), 2.5])
    b = torch.tensor([[1, 2], [3, x.shape[1]]])
    c = torch.tensor(math.pi)
    return x.sum() * a, b, c


@program((X,), (Y,))
def detach_and_requires_grad(x):
    w = x.detach().clone().requires_grad_()
    y = (w * 2).sum()
    (g,) = torch.autograd.grad(y, w)
    return g, w.requires_grad


@program((X,), (Y,))
def backward_in_region(x):
    w = torch.ones(3, 4, requires_grad=True)
    (w * x).sum().backward()
    return w.grad


W = rand(4, grad=True)


@program((X,), (X,), (Y,), watch=lambda: W.grad)
def backward_on_outside_leaf(x):
    loss = (x * W).pow(2).sum()
    loss.backward()
    return loss.detach()


@program((X,), (Y,))
def double_backward(x):
    x = x.clone().requires_grad_()
    y = (x**3).sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x)
    return g, h


@program((rand(3, 4, grad=True),), (rand(3, 4, seed=3, grad=True),), backward=True)
def grad_input(x):
    y = x.clone()
    y[0] = 0
    y.mul_(x)
    return y.detach() + y, y * 2


class Sq(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, k=2):
        ctx.save_for_backward(x)
        ctx.k = k
        return x * x * k

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 2 * x * ctx.k, None


@program((rand(3, grad=True),), (rand(3, seed=2, grad=True),), backward=True)
def autograd_function(x):
    return Sq.apply(x) + Sq.apply(x, 3)


class MultiF(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        ctx.mark_non_differentiable(s := a.sign())
        ctx.set_materialize_grads(False)
        return a * b, s

    @staticmethod
    def backward(ctx, g, gs):
        a, b = ctx.saved_tensors
        assert gs is None
        return (g * b if ctx.needs_input_grad[0] else None), (g * a if ctx.needs_input_grad[1] else None)


@program((rand(3, grad=True), rand(3, seed=1)), backward=True)
def autograd_function_two_outputs(a, b):
    p, s = MultiF.apply(a, b)
    return p * 2 + s.detach()


class SetupCtx(torch.autograd.Function):
    @staticmethod
    def forward(x, y):
        return x * y

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y, g * x


@program((rand(3, grad=True), rand(3, seed=1, grad=True)), backward=True)
def autograd_function_setup_context(a, b):
    return SetupCtx.apply(a, b)


def blk(m, x):
    return m(x).relu()


LL = nn.Linear(4, 4)
with torch.no_grad():
    LL.weight.copy_(rand(4, 4))
    LL.bias.zero_()


@program((rand(3, 4, grad=True),), backward=True, watch=lambda: LL.weight.grad)
def checkpoint_region(x):
    from torch.utils.checkpoint import checkpoint

    return checkpoint(blk, LL, x, use_reentrant=False) + checkpoint(lambda t: t.sin().cos(), x, use_reentrant=False)


@program((X,), (Y,))
def func_transforms(x):
    f = lambda t: (t.sin() * t).sum()
    return (
        torch.func.grad(f)(x),
        torch.func.vmap(lambda t: t * t.sum())(x),
        torch.func.vmap(torch.func.grad(f))(x),
        torch.func.jacrev(lambda t: t**2)(x[0]),
        torch.func.jvp(torch.sin, (x,), (torch.ones_like(x),)),
        torch.func.vjp(torch.cos, x)[1](x),
    )


@program((X,))
def vmap_in_dims(x):
    return (
        torch.vmap(lambda a, b: a @ b, in_dims=(0, None))(x, x[0]),
        torch.vmap(lambda a: a * 2, in_dims=1, out_dims=1)(x),
        torch.func.grad_and_value(lambda a: a.pow(2).sum())(x),
        torch.func.hessian(lambda a: (a**3).sum())(x[0]),
    )


@program((X,))
def functional_call_region(x):
    ps = {k: v.detach() * 2 for k, v in LL.named_parameters()}

    def loss(p, t):
        return torch.func.functional_call(LL, p, (t,)).pow(2).sum()

    g = torch.func.grad(loss)(ps, x)
    return g["weight"], torch.func.functional_call(LL, {"bias": torch.ones(4)}, x)


@program((rand(3, 4, grad=True),), backward=True)
def tensor_hooks(x):
    y = x * 2
    seen = []
    y.register_hook(lambda g: g * 3)
    h = y.register_hook(lambda g: seen.append(1))
    h.remove()
    return y.sin()


@program((X,))
def einsum_family(x):
    return (
        torch.einsum("ij,kj->ik", x, x),
        torch.einsum("...i,...i", x, x),
        torch.tensordot(x, x, dims=([1], [1])),
        torch.bmm(x[None], x.T[None]),
        torch.outer(x[0], x[1]),
        torch.kron(x, x).sum(),
        torch.cdist(x, x),
        torch.addmm(torch.zeros(3), x, x.T),
    )


@program((X,))
def reductions(x):
    v, i = x.max(1)
    s, j = torch.sort(x, 1, descending=True)
    t = x.topk(2)
    return (
        v,
        i,
        s,
        j,
        t.values,
        t.indices,
        x.max(dim=0).values,
        torch.aminmax(x),
        x.std_mean(1) if hasattr(x, "std_mean") else torch.std_mean(x, 1),
        x.norm(p=1),
        x.cumsum(0),
        x.logsumexp(1),
        x.argsort(1),
        x.median(1),
        x.prod(),
        x.all(),
        x.any(1),
        x.unique(return_counts=True) if False else 0,
        torch.var(x, (0, 1), unbiased=False),
        x.count_nonzero(),
        x.kthvalue(2, 1),
    )


@program((X,))
def splitting(x):
    a, b = x.chunk(2, 1)
    c = x.split([1, 2], 0)
    d = x.unbind(1)
    e = torch.hsplit(x, 2)
    f = x.tensor_split(2, 1)
    g, *h = x
    return (
        a * b,
        c,
        d[0] + d[1],
        e,
        f,
        g,
        h,
        torch.cat(d),
        torch.meshgrid(d[0], d[1], indexing="ij"),
        x.unfold(1, 2, 1),
        len(x),
        [r.sum() for r in x],
    )


@program((X,))
def operators_of_tensors(x):
    b = x > 0
    i = ints(3, 4)
    return (
        -x,
        +x,
        abs(x),
        x**2,
        2**x,
        x // 0.3,
        x % 0.3,
        1 / (x + 2),
        3 - x,
        ~b,
        b & b,
        b | ~b,
        b ^ b,
        i << 1,
        i >> 1,
        i // 2,
        i % 3,
        x == x,
        x != 0,
        x >= 0.1,
        1 < x,
        x @ x.T,
        divmod(x, 0.5),
        round(x),
        x.__rsub__(1),
        pow(x, 2),
        i & 1,
    )


@program((rand(2, 3, 8, 8),), (rand(4, 3, 8, 8),))
def vision_functional(x):
    w = rand(4, 3, 3, 3)
    y = F.conv2d(x, w, stride=2, padding=1)
    y = F.batch_norm(y, torch.zeros(4), torch.ones(4))
    y = F.group_norm(y, 2)
    y = F.max_pool2d(F.pad(y, (1, 1, 1, 1)), 2)
    return (
        F.adaptive_avg_pool2d(y, 1).flatten(1),
        F.layer_norm(y, y.shape[1:]),
        F.avg_pool2d(x, 2),
        F.pixel_shuffle(rand(1, 4, 2, 2), 2),
    )


@program((rand(3, 5), ints(3, high=5)), (rand(6, 5), ints(6, high=5)), (rand(7, 5), ints(7, high=5)))
def losses(x, t):
    lp = F.log_softmax(x, -1)
    return (
        F.cross_entropy(x, t),
        F.nll_loss(lp, t),
        F.mse_loss(x, x * 2),
        F.kl_div(lp, lp.exp(), reduction="batchmean"),
        F.binary_cross_entropy_with_logits(x, (x > 0).float()),
        F.smooth_l1_loss(x, x + 1),
        F.cross_entropy(x, t, label_smoothing=0.1, ignore_index=2),
    )


@program((X,))
def manual_random(x):
    torch.manual_seed(3)
    a = torch.rand(2)
    b = torch.randn_like(x)
    c = F.dropout(x, 0.5)
    d = torch.randint(0, 5, (3,))
    e = torch.randperm(4)
    f = torch.bernoulli(torch.full((2,), 0.5))
    return a, b, c, d, e, f, torch.rand(1)


@program((X,), (X,), (X,))
def random_without_seed(x):
    return x + torch.rand_like(x), F.dropout(x, 0.3, training=True)


@program((X,))
def conversions(x):
    return (
        x.int(),
        x.long().float(),
        x.to(torch.float64),
        x.half().float(),
        x.bool(),
        x.to("cpu"),
        x.cpu(),
        x.to(x.double()),
        x.to(device="cpu", dtype=torch.int32),
        x.bfloat16().dtype,
        x.byte().dtype,
        torch.promote_types(torch.int8, torch.float32),
        torch.result_type(x, 1),
        torch.can_cast(torch.float32, torch.int32),
        x.type(),
    )


class TSub(torch.Tensor):
    pass


@program((X,))
def subclass_trivial(x):
    y = x.as_subclass(TSub) if hasattr(x, "as_subclass") else x
    return y + 1


@program((X,))
def tensor_attributes(x):
    y = x + 1
    y.tag = "t"
    y.extra = x
    z = y * 2
    return z, y.tag, hasattr(z, "tag"), y.extra is x


@program((rand(3, 4, grad=True),), backward=True)
def retain_and_grad_attr(x):
    y = x * 3
    return y + y.detach(), x.grad is None, y.grad_fn is not None, x.is_leaf, y.requires_grad


PR = nn.Parameter(rand(4))


@program((X,), (X,), (X,), watch=lambda: (PR, PR.grad))
def manual_sgd_step(x):
    loss = ((x * PR) ** 2).mean()
    (g,) = torch.autograd.grad(loss, [PR])
    with torch.no_grad():
        PR.sub_(0.1 * g)
    return loss.detach()


MM = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
with torch.no_grad():
    for k, p in enumerate(MM.parameters()):
        p.copy_(rand(*p.shape, seed=k))
OPT = torch.optim.SGD(MM.parameters(), lr=0.1, momentum=0.9)


@program((X,), (X,), (Y,), watch=lambda: [p for p in MM.parameters()])
def full_training_step_sgd(x):
    OPT.zero_grad()
    loss = MM(x).pow(2).mean()
    loss.backward()
    OPT.step()
    return loss.detach()


MA = nn.Linear(4, 2)
with torch.no_grad():
    for k, p in enumerate(MA.parameters()):
        p.copy_(rand(*p.shape, seed=k))
OPA = torch.optim.AdamW(MA.parameters(), lr=0.01)


@program((X,), (X,), (Y,), watch=lambda: [p for p in MA.parameters()])
def full_training_step_adamw(x):
    OPA.zero_grad(set_to_none=True)
    loss = MA(x).pow(2).mean()
    loss.backward()
    nn.utils.clip_grad_norm_(MA.parameters(), 0.5)
    OPA.step()
    return loss.detach()


@program((X,))
def complex_numbers(x):
    z = torch.complex(x, x * 2)
    return (
        z.abs(),
        z.real,
        torch.view_as_real(z),
        (z * 1j).imag,
        torch.fft.fft(x).abs(),
        torch.polar(x.abs(), x).real,
        z.conj().imag,
    )


@program((X,))
def where_and_nonzero(x):
    nz = (x > 0).nonzero()
    return nz.shape[1], x[x > 0].sum(), torch.where(x > 0, 1.0, 0.0)


@program((rand(3, 4),), (rand(3, 4, seed=9),))
def masked_select_size(x):
    y = x[x > 0]
    return y * 2, torch.nonzero(x > 0.5)


@program((X,))
def scan_style_loop(x):
    h = torch.zeros(4)
    hs = []
    for t in range(x.size(0)):
        h = torch.tanh(h + x[t])
        hs.append(h)
    return torch.stack(hs)

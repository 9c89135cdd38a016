"""Tensors as values: indexing, arithmetic, broadcasting, contractions, sorting, random numbers, how they print."""

from __future__ import annotations

from .registry import program, raised


@program
def advanced_indexing(torch):
    x = torch.arange(24).view(2, 3, 4)
    i, m = torch.tensor([0, 1, 1]), x[0, :, 0] > 3
    return [
        x[1],
        x[..., -1],
        x[:, None, 1:, ::2],
        x[i],
        x[:, i, i],
        x[i, :, i],
        x[0, [0, 2]],
        x[[0, 1], [2, 1], [3, 0]],
        x[x > 20],
        x[:, m],
        x[:, m, 0],
        x[:, m, i[:2]],
        x[None, ..., None].shape,
        x[i[:, None], torch.tensor([2, 0])],
        x[True].shape,
        x[False].shape,
        x[torch.tensor(1)],
        x[1, 2, 3],
        x[:, torch.tensor([], dtype=torch.long)].shape,
        x[-1, -2:],
        x[slice(None), slice(0, 10)].shape,
        x[(x % 5 == 0).nonzero(as_tuple=True)],
        x[i, None, 0].shape,
        x.numpy()[::-1].copy().tolist(),
        x[torch.tensor([True, False])],
        x[[True, False]],
        x[i.int()].shape,
        raised(lambda: x[2]),
        raised(lambda: x[0, 0, 0, 0]),
        raised(lambda: x[i + 5]),
        raised(lambda: x[::-1]),
        raised(lambda: x[1.0]),
        raised(lambda: x[torch.ones(4, dtype=torch.bool)]),
    ]


@program
def assignment(torch):
    def after(write):
        x = torch.zeros(3, 4)
        write(x)
        return x

    def each(x):
        x[0] = 1
        x[:, 1] = torch.arange(3)
        x[1:, 2:] = torch.tensor([[5.0], [6.0]])
        x[..., 3] += 2

    def fancy(x):
        x[[0, 2]] = torch.ones(4)
        x[torch.tensor([0, 1]), torch.tensor([1, 2])] = torch.tensor([7.0, 8.0])
        x[:, [0, 3]] *= 3

    def masked(x):
        x[torch.eye(3, 4, dtype=torch.bool)] = torch.tensor([1.0, 2.0, 3.0])
        x[x == 0] = float("nan")
        x[torch.isnan(x)] = -1
        x[torch.tensor([True, False, True]), 1] = 9

    def methods(x):
        x.index_put_((torch.tensor([0, 0]), torch.tensor([1, 1])), torch.tensor(2.0), accumulate=True)
        x.index_fill_(1, torch.tensor([3]), 4).masked_fill_(x == 2, 5).index_copy_(0, torch.tensor([2]), torch.ones(1, 4))
        x.scatter_(1, torch.tensor([[0], [1], [2]]), 6.0).put_(torch.tensor([0, -1]), torch.tensor([10.0, 11.0]))
        x.masked_scatter_(x == 1, torch.arange(20.0))

    def newaxis(x):
        x[None, 0] = 3
        x[1, None] = torch.tensor([[1.0, 2, 3, 4]])
        x[2, 1:3] = 7
        x.select(0, 2).fill_(8)
        x.diagonal().zero_()

    x = torch.zeros(2, 2, dtype=torch.long)
    x[0, 0] = 3.7
    x[1] = True
    return (
        [after(f) for f in (each, fancy, masked, methods, newaxis)]
        + [x]
        + [
            raised(lambda: after(lambda x: x.__setitem__(0, torch.ones(3)))),
            raised(lambda: after(lambda x: x.__setitem__(5, 1))),
            raised(lambda: after(lambda x: x.__setitem__(x > -1, torch.ones(3)))),
        ]
    )


@program
def indexing_gradients(torch):
    x = torch.arange(12.0).view(3, 4).requires_grad_()
    i = torch.tensor([0, 2, 2])
    y = (
        x[i].sum()
        + (x[:, i] ** 2).sum()
        + x[x > 5].prod().log()
        + x[i, i].sum()
        + x[1:, ::2].sum()
        + x.gather(1, i.view(3, 1)).sum()
        + torch.take_along_dim(x, i[[0, 1, 2, 0]].view(1, 4), 0).sum()
        + x.index_select(1, i).mean()
    )
    y.backward()
    src = torch.ones(2, 4, requires_grad=True)
    base = torch.zeros(3, 4)
    base[torch.tensor([0, 2])] = src * 2
    base.index_add(0, torch.tensor([1, 1]), src).scatter_add(1, torch.tensor([[0, 0, 1, 1]]), src[:1]).pow(2).sum().backward()
    return [x.grad, src.grad]


@program
def integer_arithmetic(torch):
    a = torch.tensor([7, -7, 7, -7, 0])
    b = torch.tensor([2, 2, -2, -2, 3])
    u = torch.tensor([250, 10], dtype=torch.uint8)
    i8 = torch.tensor([127, -128], dtype=torch.int8)
    return [
        a / b,
        a // b,
        a % b,
        torch.div(a, b, rounding_mode="trunc"),
        torch.div(a, b, rounding_mode="floor"),
        torch.fmod(a, b),
        a.float() // b,
        a.float() % b,
        torch.fmod(a.float(), b),
        7 // b,
        7 % b,
        7 / b,
        u + 10,
        u * 2,
        -u,
        ~u,
        i8 + 1,
        i8.abs(),
        ~a,
        a & b,
        a | b,
        a ^ b,
        a << 1,
        a >> 1,
        1 << b.abs(),
        a**2,
        2 ** b.abs(),
        a.pow(2.0),
        a.bool(),
        a.bool() & b.bool(),
        a.bool() + b.bool(),
        a.bool() * 3,
        ~a.bool(),
        a.bool() ^ True,
        torch.gcd(a, b),
        torch.lcm(a, b),
        a.clamp(-3, 3.5),
        a.float().int(),
        torch.tensor([1.9, -1.9, 300.5]).to(torch.int32),
        torch.tensor([3.99]).long(),
        a.sum(),
        a.bool().sum(),
        a.float().mean(),
        raised(lambda: a.mean()),
        raised(lambda: a // 0),
        raised(lambda: a.bool() - b.bool()),
        raised(lambda: -a.bool()),
        raised(lambda: a & b.float()),
        raised(lambda: a**-1),
        divmod(7, 2),
        a.float() / 0,
        torch.tensor(5) // 2,
        int(torch.tensor(5)),
        torch.bitwise_left_shift(a, 2),
        a.eq(7),
        a.ne(b),
        a.gt(0).all(),
        (a >= b).any(),
        torch.equal(a, a.clone()),
        bool(torch.tensor(0)),
    ]


@program
def complex_numbers(torch):
    z = torch.tensor([1 + 2j, -3 - 1j, 0.5j], requires_grad=True)
    w = torch.complex(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, -1.0, 1.0]))
    loss = (
        (z * w).abs().pow(2).sum()
        + (z.real * z.imag).sum()
        + torch.view_as_real(z**2).sum()
        + (z / w).angle().sum()
        + z.exp().real.sum()
        + (z.conj() * z).real.sum()
    )
    loss.backward()
    x = torch.randn(3, requires_grad=True)
    torch.polar(x.abs(), x).imag.sum().backward()
    q = torch.randn(2, 2, 4)
    rope = torch.view_as_complex(q.reshape(2, 2, 2, 2)) * torch.polar(torch.ones(2, 2), torch.arange(4.0).view(2, 2))
    return [
        z.grad,
        x.grad,
        loss,
        z + 1,
        z - w,
        z / w,
        z * 2j,
        z**2,
        z.abs(),
        z.angle(),
        z.conj().resolve_conj(),
        z.real,
        z.imag,
        z.exp(),
        z.sqrt(),
        z.sin(),
        z.log(),
        z.sum(),
        z.mean(),
        z.prod(),
        z.detach() == z.detach(),
        torch.view_as_real(rope).flatten(2),
        z.is_complex(),
        z.dtype,
        z.to(torch.complex128),
        torch.randn(2, dtype=torch.cfloat),
        (z.detach()[:, None] @ w[None]),
        raised(lambda: z.detach() < w),
        raised(lambda: z.float().sum().backward()),
        raised(lambda: z.sum().backward()),
        raised(lambda: z.max()),
        complex(z[0].item()),
        str(z.detach()),
    ]


@program
def broadcasting_and_shapes(torch):
    a, b = torch.arange(6.0).view(2, 3), torch.tensor([1.0, 2.0])
    x = torch.arange(24).view(2, 3, 4)
    return [
        a * b[:, None],
        a + torch.ones(3, 1, 1),
        (a[:, :, None] - a[:, None, :]).abs().sum(-1),
        torch.broadcast_tensors(b, a.T)[0],
        a.expand(2, 2, 3).shape,
        b.expand(3, -1),
        a.repeat(2, 1, 2).shape,
        b.repeat_interleave(2),
        a.repeat_interleave(torch.tensor([1, 2]), 0),
        torch.repeat_interleave(torch.tensor([0, 2, 1])),
        a.tile(2).shape,
        x.permute(2, 0, 1).shape,
        x.transpose(0, -1).reshape(4, -1),
        x.movedim(0, -1).shape,
        x.flatten(1).shape,
        x.unflatten(-1, (2, 2)).shape,
        x.squeeze().shape,
        x[:, :1].squeeze(1).shape,
        torch.cat([a, a], -1).shape,
        torch.stack([a, a], 1).shape,
        torch.vstack([b, b]),
        torch.hstack([b, b]),
        torch.dstack([b, b]).shape,
        [s.shape for s in x.split([1, 2], 1)],
        [c.shape for c in x.chunk(3, -1)],
        [t.tolist() for t in x[0, 0].tensor_split(3)],
        torch.meshgrid(b, b, indexing="ij"),
        torch.cartesian_prod(b, b),
        torch.combinations(torch.arange(4)),
        x.unbind(1)[0],
        torch.tril(a),
        torch.triu(a, 1),
        torch.tril_indices(3, 3),
        torch.diag(b),
        torch.diagonal(x, dim1=1, dim2=2),
        torch.diag_embed(a).shape,
        x.flip(0, 2)[0, 0],
        x.roll((1, -1), (0, 2))[0, 0],
        torch.rot90(a),
        x.unfold(2, 2, 1).shape,
        a.view(-1),
        a.t().reshape(-1),
        x.stride(),
        x.transpose(1, 2).is_contiguous(),
        x.numel(),
        x.dim(),
        x.size(-1),
        x.shape[1:],
        tuple(x.shape),
        str(x.shape),
        len(x),
        torch.block_diag(b, a),
        torch.kron(b, a),
        torch.outer(b, b),
        torch.vander(b),
        torch.atleast_2d(b).shape,
        a.view_as(a.clone()).shape,
        torch.nn.functional.pad(a, (1, 1, 1, 0), value=9),
        torch.nn.functional.pad(a[None], (2, 1), mode="circular"),
        torch.nn.functional.pad(a[None], (1, 1), mode="replicate"),
        raised(lambda: a + torch.ones(2)),
        raised(lambda: a.view(4)),
        raised(lambda: a.T.view(-1)),
        raised(lambda: torch.cat([a, b])),
        raised(lambda: a.squeeze(5)),
        raised(lambda: a.expand(4, 3)),
    ]


@program
def einsum_and_products(torch):
    a, b, c = torch.randn(2, 3), torch.randn(3, 4), torch.randn(2, 4)
    x, y = torch.randn(2, 3, 4), torch.randn(2, 4, 5)
    v, e = torch.randn(3), torch.einsum
    return [
        e("ij,jk->ik", a, b),
        e("ij,jk", a, b),
        e("ij->ji", a),
        e("ii", torch.eye(3)),
        e("ii->i", torch.eye(3)),
        e("ij->", a),
        e("ij->j", a),
        e("i,j->ij", v, v),
        e("i,i", v, v),
        e("bij,bjk->bik", x, y),
        e("bij,bjk->ik", x, y),
        e("...ij,...jk->...ik", x, y),
        e("ij,jk,ik->", a, b, c),
        e("bhd,bgd->bhg", x, x),
        e("...d,d->...", x, torch.ones(4)),
        e("b n d -> b d n", x),
        e("ij,ij->i", a, a),
        e("a...,...->a", x, torch.ones(3, 4)),
        e(a, [0, 1], b, [1, 2], [0, 2]),
        e("i j, k -> i j k", a, v).shape,
        e("Bi,iC->BC", a, b),
        torch.matmul(v, b),
        a @ v,
        v @ v,
        x @ y[0],
        torch.bmm(x, y),
        torch.addmm(c, a, b, beta=0.5, alpha=2),
        torch.baddbmm(torch.ones(2, 3, 5), x, y),
        torch.mv(a, v),
        torch.dot(v, v),
        torch.chain_matmul(a, b, c.T),
        torch.tensordot(x, y, dims=([2, 0], [1, 0])),
        torch.tensordot(a, b, 1),
        torch.linalg.norm(a),
        torch.linalg.vector_norm(x, 1, (0, 1)),
        torch.linalg.multi_dot([a, b, c.T]),
        a.norm(dim=1),
        a.norm(1),
        a.norm(float("inf")),
        torch.cross(v, v.flip(0), dim=0),
        torch.trace(a @ a.T),
        torch.linalg.matrix_power(torch.eye(2) * 2, 3),
        torch.inner(v, v),
        raised(lambda: e("ij,jk", a, c)),
        raised(lambda: e("ij", v)),
    ]


@program
def sorting_and_searching(torch):
    x = torch.tensor([[3.0, 1.0, 2.0, 1.0], [0.0, float("nan"), -1.0, 5.0]])
    i = torch.tensor([4, 2, 2, 9, 4])
    g = torch.randn(3, 5)
    return [
        x[0].sort(),
        x.sort(dim=1, descending=True, stable=True),
        x.argsort(stable=True),
        g.topk(2),
        g.topk(2, dim=0, largest=False),
        g.kthvalue(2),
        g.median(),
        g.median(1),
        g.mode(1).values,
        g.max(1),
        g.min(0),
        g.argmax(),
        g.argmax(1, keepdim=True),
        x.max(),
        x.amax(1),
        g.aminmax(dim=0),
        x.nanmean(),
        x.nansum(1),
        x.nanmedian(),
        torch.quantile(g, torch.tensor([0.25, 0.5]), dim=1),
        i.unique(return_inverse=True, return_counts=True),
        i.unique_consecutive(),
        torch.searchsorted(torch.tensor([1, 3, 5]), torch.tensor([0, 3, 9])),
        torch.bucketize(g, torch.tensor([-1.0, 0.0, 1.0])),
        torch.histc(g, 4, -2, 2),
        torch.bincount(i),
        torch.isin(i, torch.tensor([2, 9])),
        g.cumsum(1),
        g.cumprod(0),
        g.cummax(1),
        g.diff(dim=1),
        g.logcumsumexp(1),
        torch.where(g > 0),
        g.nonzero(),
        (g > 0).any(1),
        (g > -9).all(),
        g.count_nonzero(0),
        torch.gather(g, 1, torch.tensor([[0, 4], [1, 1], [2, 0]])),
        torch.zeros(3, 5).scatter(1, torch.tensor([[0, 1], [2, 3], [4, 4]]), g),
        torch.zeros(5).scatter_reduce(0, i % 5, torch.arange(5.0), "mean"),
        torch.ones(4).scatter_(0, torch.tensor([1]), torch.tensor([5.0]), reduce="multiply"),
        torch.std_mean(g, 1),
        torch.var_mean(g, 0),
        g.msort(),
        torch.clamp(g, torch.tensor(-0.5), torch.tensor(0.5)),
        torch.trapezoid(g),
        g.var(1, unbiased=False),
        g.std((0, 1)),
        g.std(correction=0),
        g.logsumexp((0, 1)),
        raised(lambda: g.topk(9)),
        raised(lambda: g.max(5)),
        raised(lambda: torch.tensor([]).max()),
        raised(lambda: torch.gather(g, 1, i[None] + 9)),
        str(g.max(1))[:22],
    ]


@program
def random_by_seed(torch):
    torch.manual_seed(7)
    g = torch.Generator().manual_seed(5)
    results = [
        torch.rand(3),
        torch.randn(2, 3),
        torch.randn(17),
        torch.randint(5, (4,)),
        torch.randint(-3, 3, (2, 2), generator=g),
        torch.randperm(8),
        torch.normal(0.0, 1.0, (3,)),
        torch.normal(torch.zeros(2), torch.ones(2)),
        torch.bernoulli(torch.full((5,), 0.5)),
        torch.empty(3).uniform_(-1, 1),
        torch.empty(3).normal_(2, 3),
        torch.multinomial(torch.tensor([0.1, 0.2, 0.7]), 2),
        torch.rand(2, dtype=torch.float64),
        torch.randn(2, dtype=torch.float64),
        torch.rand(2, generator=g),
        torch.empty(3).exponential_(),
        torch.empty(4).bernoulli_(0.3),
        torch.randn(3, dtype=torch.half),
        torch.nn.functional.dropout(torch.ones(8), 0.5),
        torch.nn.functional.gumbel_softmax(torch.zeros(2, 3), hard=True),
        torch.rand_like(torch.ones(2)),
        torch.nn.Dropout2d(0.5)(torch.ones(1, 4, 1, 2)),
        torch.empty(4).random_(10),
    ]
    state = torch.get_rng_state()
    a = torch.rand(2)
    torch.set_rng_state(state)
    with torch.random.fork_rng():
        torch.manual_seed(1)
    gs = g.get_state()
    first = torch.rand(1, generator=g)
    g.set_state(gs)
    return [
        *results,
        torch.equal(a, torch.rand(2)),
        torch.equal(first, torch.rand(1, generator=g)),
        torch.initial_seed(),
        g.initial_seed(),
    ]


@program
def printing_tensors(torch):
    t = torch.tensor
    x = torch.arange(12.0).view(3, 4) / 8
    values = [
        t(1),
        t(1.5),
        t([1, 2, 3]),
        t([1.0, 2.0]),
        t([0.1, 100.5]),
        t([1e-6, 1.0]),
        t([1e10, 1.0]),
        t([1e-3, 1e3]),
        t([float("inf"), 1.0]),
        t([float("nan"), -1.0]),
        t([True, False]),
        t([]),
        torch.zeros(0, 3),
        torch.zeros(2, 0),
        x,
        x.double(),
        x.half(),
        x.bfloat16(),
        x.int(),
        t([[1 + 2j, -0.5j]]),
        torch.arange(2000),
        torch.zeros(30, 30),
        torch.zeros(2, 2, 2),
        t(3.0, requires_grad=True),
        t([1.0], requires_grad=True) * 2,
        torch.nn.Parameter(torch.ones(2)),
        t([1, 2], dtype=torch.int8),
        t([-1.5, 22.25]),
        torch.ones(3, requires_grad=True).sum(),
        x[:, 0].clone().view(3, 1).expand(3, 2),
        t(float("-inf")),
        torch.full((40,), 0.5),
        t([1234567.0]),
        t([0.00001234]),
        t([99999999, 1]),
        t([[[-1.0]]]),
        torch.ones(2, requires_grad=True).relu(),
        torch.ones(2, 2, requires_grad=True).t(),
        torch.ones(2, requires_grad=True)[0],
        x.requires_grad_(),
        torch.eye(3, dtype=torch.bool),
    ]
    texts = [repr(v) for v in values]
    texts += [
        f"{t(3.14159):.2f} {t(7)} {t([1.0, 2.0])}",
        str(torch.Size([2, 3])),
        repr(torch.float32),
        repr(torch.device("cpu")),
        repr(torch.device("cuda", 1)),
        str(torch.strided),
    ]
    torch.set_printoptions(precision=2, sci_mode=False, threshold=5, edgeitems=1, linewidth=40)
    texts += [repr(torch.arange(10.0)), repr(t([1e-5, 3.14159]))]
    torch.set_printoptions(profile="default")
    return [
        *texts,
        repr(t([3.14159])),
        t([1.5]).tolist(),
        t([[1, 2]]).type(),
        torch.finfo(torch.float32).eps,
        torch.iinfo(torch.int8).max,
        str(torch.finfo(torch.float16)),
    ]


@program
def constructors_and_conversions(torch):
    import numpy as np

    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    shared = torch.from_numpy(array)
    array[0, 0] = 9
    alias = shared.numpy()
    alias[1, 1] = 7
    back = torch.ones(2, requires_grad=True)
    return [
        torch.tensor(3),
        torch.tensor([1, 2.5]),
        torch.tensor([True, 2]),
        torch.tensor([[1, 2], [3, 4]], dtype=torch.float64),
        torch.Tensor([1, 2]),
        torch.Tensor(2, 3).shape,
        torch.tensor(np.float64(2)),
        torch.tensor(np.array([1, 2], dtype=np.int16)),
        torch.as_tensor([1.0]),
        shared,
        torch.asarray(alias),
        torch.zeros(2, 3, dtype=torch.int),
        torch.ones((2,)),
        torch.full((2,), 7),
        torch.full((2,), 7.0),
        torch.arange(5),
        torch.arange(0, 1, 0.25),
        torch.arange(5, 0, -2),
        torch.linspace(0, 1, 5),
        torch.logspace(0, 2, 3),
        torch.eye(2, 3),
        torch.empty(0).shape,
        torch.zeros_like(shared, dtype=torch.bool),
        torch.tensor([torch.tensor(1), torch.tensor(2)]),
        torch.tensor([np.float32(1.5), 2]),
        shared.tolist(),
        shared[0, 1].item(),
        float(shared[0, 1]),
        int(torch.tensor(3.7)),
        bool(torch.tensor([1])),
        np.asarray(shared).sum(),
        np.mean(shared.numpy()),
        shared.double().dtype,
        shared.to("cpu", torch.float16).dtype,
        shared.type(torch.long),
        shared.type("torch.DoubleTensor").dtype,
        shared.type_as(torch.ones(1).int()).dtype,
        torch.FloatTensor([1, 2]),
        torch.LongTensor([1, 2]),
        torch.LongTensor(2).shape,
        isinstance(shared, torch.FloatTensor),
        isinstance(shared, torch.Tensor),
        torch.is_tensor(3),
        torch.is_floating_point(shared),
        torch.numel(shared),
        shared.element_size(),
        shared.nbytes,
        shared.device.type,
        shared.layout,
        shared.is_cuda,
        shared.cpu() is shared,
        shared.contiguous() is shared,
        shared.get_device(),
        [float(v) for v in shared[0]],
        raised(lambda: back.numpy()),
        raised(lambda: torch.tensor([[1], [2, 3]])),
        raised(lambda: torch.tensor("a")),
        raised(lambda: float(shared)),
        raised(lambda: bool(shared)),
        raised(lambda: torch.zeros(-1)),
        raised(lambda: torch.tensor([1]) + "a"),
        raised(lambda: iter(torch.tensor(1))),
        raised(lambda: len(torch.tensor(1))),
        2 in torch.arange(4),
        hash(shared) == hash(shared),
        torch.tensor(2).__index__(),
        list(range(torch.tensor(3))),
        np.array([1.0, 2.0]) * torch.ones(2).numpy(),
        torch.arange(3).numpy().dtype.name,
        torch.scalar_tensor(2.0),
        torch.empty_like(shared).shape,
        shared.new_full((2,), 3.0),
        shared.new_ones(1, dtype=torch.long),
        torch.get_default_dtype(),
    ]


@program
def out_arguments(torch):
    x = torch.tensor([1.0, 4.0, 9.0])
    out = torch.zeros(3)
    r = torch.sqrt(x, out=out)
    values, index = torch.empty(2), torch.empty(2, dtype=torch.long)
    torch.topk(x, 2, out=(values, index))
    m = torch.empty(3, 3)
    torch.matmul(x[:, None], x[None], out=m)
    resized = torch.empty(0)
    torch.add(x, 1, out=resized)
    summed = torch.empty(())
    torch.sum(x, 0, out=summed)
    c = torch.empty(2, 3)
    torch.stack([x, x], out=c)
    d = torch.zeros(3, dtype=torch.float64)
    torch.mul(x, 2, out=d)
    a = torch.zeros(6)
    torch.add(x, x, out=a[::2])
    return [
        r is out,
        out,
        values,
        index,
        m,
        resized,
        summed,
        c,
        d,
        a,
        raised(lambda: torch.mul(x, 1.5, out=torch.empty(3, dtype=torch.long))),
        raised(lambda: torch.add(x.requires_grad_(), 1, out=out)),
    ]

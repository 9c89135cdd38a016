"""Autograd: rules of leaves and graphs, custom functions, hooks, higher derivatives, mutation under autograd."""

from __future__ import annotations

from .registry import message, program, raised


@program
def leaves_and_accumulation(torch):
    w = torch.ones(2, requires_grad=True)
    y = w * 2
    results = [w.is_leaf, y.is_leaf, y.grad_fn is not None, w.grad, raised(lambda: y.backward()), (w.detach() is w)]
    y.retain_grad()
    y.sum().backward()
    (w * 3).sum().backward()
    results += [w.grad, y.grad, y.retains_grad, raised(lambda: torch.ones(2, dtype=torch.long, requires_grad=True))]
    results += [raised(lambda: w.add_(1)), raised(lambda: setattr(y, "requires_grad", False))]
    with torch.no_grad():
        w -= 0.1 * w.grad
    w.grad.zero_()
    w.grad = None
    results += [w, w.requires_grad_(False).requires_grad, torch.ones(1).requires_grad_().requires_grad]
    x = torch.ones(3, requires_grad=True)
    x.data.mul_(2)
    x.data = torch.zeros(2)
    results += [x, message(lambda: torch.ones(2).sum().backward())]
    results += [message(lambda: (x * 2).backward())]
    return results


@program
def grad_modes(torch):
    x = torch.ones(2, requires_grad=True)
    with torch.no_grad():
        a = x * 2
        with torch.enable_grad():
            b = x * 2
    with torch.set_grad_enabled(False):
        c = x * 2
    with torch.inference_mode():
        d = x * 2

    @torch.no_grad()
    def evaluate(x):
        return x * 2, torch.is_grad_enabled()

    @torch.inference_mode()
    def infer(x):
        return x * 3

    prior = torch.is_grad_enabled()
    torch.set_grad_enabled(False)
    e = x * 2
    torch.set_grad_enabled(prior)
    return [a, b, c, d, evaluate(x), infer(x), e, torch.is_inference_mode_enabled(), x.detach().requires_grad]


@program
def retain_graph(torch):
    x = torch.tensor(2.0, requires_grad=True)
    y = x**3
    y.backward(retain_graph=True)
    y.backward()
    return [x.grad, message(lambda: y.backward())[:60], raised(lambda: torch.autograd.grad(y, x))]


@program
def version_counter_errors(torch):
    x = torch.rand(3, requires_grad=True)
    results = []

    def saved_output():
        y = x.exp()
        y += 1
        y.sum().backward()

    def saved_input():
        a = x * 1
        b = a * a
        a.zero_()
        b.sum().backward()

    def view_of_saved():
        a = x * 1
        b = a.sin()
        a[0] = 5
        b.sum().backward()

    def harmless():
        a = x * 1
        b = a + 2
        a.zero_()
        b.sum().backward()

    for function in (saved_output, saved_input, view_of_saved, harmless):
        results.append(raised(function))
    text = message(saved_output)
    y = torch.zeros(2)
    before = y._version
    y.add_(1).mul_(2)
    y[0] = 3
    results += ["modified by an inplace operation" in text, "is at version 1; expected version 0" in text, y._version - before]
    leaf = torch.zeros(2, requires_grad=True)
    results += [message(lambda: leaf.mul_(2)), raised(lambda: leaf[0:1].mul_(2))]
    return results


@program
def inplace_and_views(torch):
    x = torch.arange(6.0, requires_grad=True)
    y = x * 1
    v = y.view(2, 3)
    v[0] *= 2
    v.t()[1].add_(x[:2])
    y[-1] = 7.0
    y[torch.tensor([0, 0])] = y[torch.tensor([1, 2])].detach()
    z = y.clone()
    z[z > 4] = 0
    out = torch.empty(6)
    torch.mul(z.detach(), 2, out=out)
    (z * torch.arange(6.0)).sum().backward()
    w = torch.zeros(2, 2)
    row = w[0]
    row.copy_(torch.tensor([1.0, 2.0]).requires_grad_())
    base = torch.zeros(4)
    base.view(2, 2)[1] = torch.ones(2, requires_grad=True)
    return [
        y,
        z,
        x.grad,
        out,
        w.requires_grad,
        w,
        base.requires_grad,
        v._base is y,
        v.data_ptr() == y.data_ptr(),
        v.is_contiguous(),
        v.t().stride(),
        y[2:].storage_offset(),
    ]


@program
def custom_functions(torch):
    Function = torch.autograd.Function
    results = []

    class Scale(Function):
        @staticmethod
        def forward(ctx, x, w, alpha):
            ctx.save_for_backward(x, w)
            ctx.alpha = alpha
            return x * w * alpha

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.saved_tensors
            results.append(ctx.needs_input_grad)
            gx = g * w * ctx.alpha if ctx.needs_input_grad[0] else None
            gw = g * x * ctx.alpha if ctx.needs_input_grad[1] else None
            return gx, gw, None

    class TopTwo(Function):
        @staticmethod
        def forward(ctx, x):
            values, index = x.sort(descending=True)
            ctx.mark_non_differentiable(index)
            ctx.save_for_backward(index)
            ctx.shape = x.shape
            return values[:2], index

        @staticmethod
        def backward(ctx, g, _):
            (index,) = ctx.saved_tensors
            out = torch.zeros(ctx.shape)
            out[index[:2]] = g
            return out

    class StraightThrough(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return (x > 0).float()

        @staticmethod
        def backward(ctx, g):
            return None if g is None else g.clamp(-0.5, 0.5)

    class Increment(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            return x.add_(1)

        @staticmethod
        def backward(ctx, g):
            return g * 3

    class NewStyle(Function):
        @staticmethod
        def forward(x):
            return x.exp()

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(output)

        @staticmethod
        def backward(ctx, g):
            (y,) = ctx.saved_tensors
            return g * y

    class Wrong(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g, g

    x, w = torch.randn(4, requires_grad=True), torch.randn(4)
    Scale.apply(x, w, 2.0).sum().backward()
    w.requires_grad_()
    Scale.apply(x, w, 2.0).sum().backward()
    values, index = TopTwo.apply(x)
    (values * torch.tensor([1.0, 10.0])).sum().backward()
    results += [x.grad, w.grad, values, index.requires_grad, StraightThrough.apply(x)]
    (g,) = torch.autograd.grad(StraightThrough.apply(x).mul(3).sum(), x)
    a = x * 1
    b = Increment.apply(a)
    results += [g, b is a, torch.autograd.grad(b.sum(), x)]
    y = NewStyle.apply(x)
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((first * first).sum(), x)
    results += [first, second, y.grad_fn.name(), raised(lambda: Wrong.apply(x).sum().backward())]
    results.append(torch.autograd.gradcheck(NewStyle.apply, torch.randn(3, dtype=torch.float64, requires_grad=True)))
    return results


@program
def hooks(torch):
    nn, log = torch.nn, []
    x = torch.ones(2, requires_grad=True)
    handle = x.register_hook(lambda g: g * 2)
    y = x * 3
    y.register_hook(lambda g: log.append(("y", g.tolist())))
    y.sum().backward()
    handle.remove()
    first = x.grad.clone()
    (x * 3).sum().backward()
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    activations = {}

    def save(name):
        def hook(module, args, output):
            activations[name] = (args[0].shape, output.detach())

        return hook

    handles = [m.register_forward_hook(save(n)) for n, m in model.named_children()]
    handles.append(model[0].register_forward_pre_hook(lambda m, args: (args[0] + 1,)))
    handles.append(model[2].register_full_backward_hook(lambda m, gi, go: log.append((type(m).__name__, gi[0].shape, go[0]))))
    handles.append(model[1].register_forward_hook(lambda m, a, out: out * 2))
    handles.append(model[0].register_full_backward_pre_hook(lambda m, go: (go[0] * 0.5,)))
    handles.append(model.register_forward_hook(lambda m, a, kw, out: log.append(sorted(kw)), with_kwargs=True))
    out = model(x)
    out.sum().backward()
    for h in handles:
        h.remove()
    plain = model(x)
    p = nn.Parameter(torch.ones(2))
    p.register_post_accumulate_grad_hook(lambda t: log.append(("post", t.grad.tolist())))
    (p * 2).sum().backward()
    return [first, x.grad, log, activations, out, plain, model[0].weight.grad, raised(lambda: torch.ones(1).register_hook(print))]


@program
def higher_derivatives(torch):
    grad = torch.autograd.grad
    x = torch.tensor([0.3, -1.2, 2.0], requires_grad=True)
    f = (x.sin() * x**2).sum() + torch.logsumexp(x, 0)
    (g,) = grad(f, x, create_graph=True)
    v = torch.tensor([1.0, 2.0, -1.0])
    (hvp,) = grad(g, x, grad_outputs=v, retain_graph=True)
    (hvp2,) = grad(g @ v, x, retain_graph=True)
    hessian = torch.stack([grad(g[i], x, retain_graph=True)[0] for i in range(3)])
    t = torch.tensor(0.7, requires_grad=True)
    y, derivatives = torch.tanh(t) * t.exp(), []
    for _ in range(4):
        (y,) = grad(y, t, create_graph=True)
        derivatives.append(y)
    fun = torch.autograd.functional
    return [g, hvp, hvp2, hessian, derivatives, fun.hessian(lambda z: (z**3).prod(), x), fun.jacobian(lambda z: z.exp(), x)]


@program
def grad_with_unused_inputs(torch):
    grad = torch.autograd.grad
    a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    y = (a * 2).sum()
    results = [
        raised(lambda: grad(y, [a, b], retain_graph=True)),
        grad(y, [a, b], allow_unused=True, retain_graph=True),
        grad(y, [a, b], materialize_grads=True, retain_graph=True),
        a.grad,
    ]
    results += [raised(lambda: grad(a * 2, a)), grad([a * 2, b * 3], [a, b], [torch.ones(2), torch.full((2,), 2.0)])]
    results += [raised(lambda: grad(a * 2, a, torch.ones(3))), raised(lambda: grad(y.detach(), a))]
    torch.autograd.backward([(a * 2).sum(), (b * 3).sum()])
    m = a.clone()
    (m * b).sum().backward(inputs=[b])
    return [*results, a.grad, b.grad]


@program
def meta_learning_step(torch):
    F = torch.nn.functional
    w, b = torch.randn(3, 1, requires_grad=True), torch.zeros(1, requires_grad=True)
    x, y = torch.randn(8, 3), torch.randn(8, 1)
    inner = F.mse_loss(x[:4] @ w + b, y[:4])
    gw, gb = torch.autograd.grad(inner, (w, b), create_graph=True)
    fast_w, fast_b = w - 0.1 * gw, b - 0.1 * gb
    outer = F.mse_loss(x[4:] @ fast_w + fast_b, y[4:])
    outer.backward()
    return [inner, outer, w.grad, b.grad]


@program
def physics_informed_network(torch):
    net = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    t = torch.linspace(0, 1, 6).view(-1, 1).requires_grad_(True)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        u = net(t)
        du = torch.autograd.grad(u, t, torch.ones_like(u), create_graph=True)[0]
        d2u = torch.autograd.grad(du.sum(), t, create_graph=True)[0]
        loss = (d2u + du + u).pow(2).mean() + (net(torch.zeros(1, 1)) - 1).pow(2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@program
def second_derivatives_of_layers(torch):
    F = torch.nn.functional
    results = []
    x = torch.randn(2, 2, 5, 5, requires_grad=True)
    w = torch.randn(3, 2, 3, 3, requires_grad=True)
    for f in (
        lambda: F.conv2d(x, w, padding=1).square().mean(),
        lambda: F.layer_norm(x, (5, 5)).pow(3).mean(),
        lambda: F.softmax(x, 1).square().sum(),
        lambda: F.batch_norm(x, None, None, training=True).pow(3).mean(),
        lambda: F.max_pool2d(x, 2).pow(2).sum(),
        lambda: F.gelu(x).mul(x).sum(),
        lambda: F.avg_pool2d(x, 3).pow(3).sum(),
        lambda: F.cross_entropy(x, torch.zeros(2, 5, 5, dtype=torch.long)),
        lambda: x.norm() + x.std(),
        lambda: F.interpolate(x, scale_factor=2, mode="bilinear").pow(2).sum(),
        lambda: x.prod(-1).sum(),
    ):
        (g,) = torch.autograd.grad(f(), x, create_graph=True)
        g.pow(2).sum().backward()
        results.append(x.grad.flatten()[::9].clone())
        x.grad = None
    return [*results, w.grad.abs().sum()]


@program
def gradients_at_the_edges(torch):
    results = []
    x = torch.tensor([0.0, -1.0, 2.0, 2.0])
    for f in (
        torch.relu,
        torch.abs,
        lambda t: t.clamp(0, 2),
        torch.sign,
        lambda t: t.max(),
        lambda t: t.amax(),
        lambda t: t.max(0).values,
        lambda t: torch.maximum(t, t.flip(0)),
        lambda t: t.norm(),
        lambda t: t.median(),
        lambda t: t.sort().values,
        lambda t: torch.where(t > 0, t.sqrt(), 0.0),
        lambda t: t.prod(),
        lambda t: t.cumprod(0),
        lambda t: t.pow(0),
        lambda t: torch.pow(2.0, t),
        lambda t: t.round() + t.floor(),
        lambda t: torch.nn.functional.hardtanh(t),
        lambda t: t % 1.5,
        lambda t: torch.atan2(t, t + 1),
        lambda t: t.logcumsumexp(0),
        lambda t: t.std(),
        lambda t: t.var(unbiased=False),
        lambda t: torch.special.xlogy(t.abs(), 2.0),
        lambda t: t.nan_to_num(),
        lambda t: t.cummax(0).values,
        lambda t: t.kthvalue(2).values,
        lambda t: t.softmax(0)[1],
    ):
        leaf = x.clone().requires_grad_()
        f(leaf).sum().backward()
        results.append(leaf.grad)
    return results

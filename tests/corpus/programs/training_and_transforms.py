"""Gradients, optimizers, function transforms and control flow operators inside the compiled function."""

from ..given import F, nn, program, rand, torch

torch.manual_seed(2)
X = rand(4, 3)


def weights(*shape, seed=1):
    return nn.Parameter(rand(*shape, seed=seed))


W = weights(3, 3)


@program((X,), (rand(4, 3, seed=3),), watch=lambda: W.grad)
def backward_inside(x):
    loss = (x @ W).square().mean()
    loss.backward()
    return loss.detach()


@program((X,), (X,))
def autograd_grad_inside(x):
    w = W.detach().requires_grad_()
    y = (x @ w).sin().sum()
    (g,) = torch.autograd.grad(y, w)
    return g * 2, y.detach()


@program((rand(4, 3, grad=True),), (rand(4, 3, seed=3, grad=True),), backward=True)
def gradient_penalty(x):
    y = (x ** 3).sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    return (g.norm() - 1) ** 2 + y


MODEL = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
SGD = torch.optim.SGD(MODEL.parameters(), lr=0.1, momentum=0.9)


@program((X, rand(4, 1)), (X, rand(4, 1)), (X, rand(4, 1)), watch=lambda: [p.detach() for p in MODEL.parameters()])
def training_step_with_momentum(x, y):
    SGD.zero_grad()
    loss = F.mse_loss(MODEL(x), y)
    loss.backward()
    SGD.step()
    return loss.detach()


OTHER = nn.Linear(3, 2)
ADAM = torch.optim.AdamW(OTHER.parameters(), lr=0.01)


@program((X,), (X,), (X,), watch=lambda: [p.detach() for p in OTHER.parameters()])
def training_step_with_adam_and_clipping(x):
    ADAM.zero_grad(set_to_none=True)
    loss = OTHER(x).square().sum()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(OTHER.parameters(), 1.0)
    ADAM.step()
    return loss.detach(), norm


ACCUMULATED = nn.Linear(3, 1)


@program((X,), (X,), watch=lambda: [p.grad for p in ACCUMULATED.parameters()])
def accumulates_gradients(x):
    for part in x.chunk(2):
        (ACCUMULATED(part).sum() / 2).backward()
    return x.sum()


@program((X,), (X,))
def gradient_of_a_function(x):
    def loss(w):
        return (x @ w).tanh().sum()
    g = torch.func.grad(loss)(W.detach())
    both = torch.func.grad_and_value(loss)(W.detach())
    return g, both


@program((X,), (X,))
def mapped_over_a_batch(x):
    return torch.vmap(lambda r: r * r.sum())(x), torch.vmap(torch.dot)(x, x * 2), torch.vmap(lambda r: r + 1, in_dims=1)(x)


@program((X,), (X,))
def gradients_per_sample(x):
    def loss(w, row):
        return (row @ w).square().sum()
    return torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(W.detach(), x)


@program((rand(3),), (rand(3, seed=2),))
def jacobians_and_tangents(v):
    def f(u):
        return u.sin() * u.sum()
    return torch.func.jacrev(f)(v), torch.func.jvp(f, (v,), (torch.ones(3),)), torch.func.vjp(f, v)[1](torch.ones(3))


@program((X,), (rand(4, 3, seed=4),))
def ensemble_by_functional_call(x):
    stacked = {k: torch.stack([p, p * 2]) for k, p in MODEL.named_parameters()}

    def one(params):
        return torch.func.functional_call(MODEL, params, (x,))
    return torch.vmap(one)({k: v.detach() for k, v in stacked.items()})


@program((X,), (X.abs(),))
def branches_as_data(x):
    return torch.cond(x.sum() > 0, lambda v: v + 1, lambda v: v * 2, (x,))


@program((rand(4, 3, grad=True),), (rand(4, 3, seed=1, grad=True),), backward=True)
def frozen_and_trained_parts(x):
    with torch.no_grad():
        features = MODEL[0](x)
    return OTHER(x) + features[:, :2]


@program((rand(4, 3, grad=True),), (rand(4, 3, seed=1, grad=True),), watch=lambda: None)
def gradients_stopped_and_kept(x):
    y = (x.detach() * x).sum()
    y.backward()
    g = x.grad
    x.grad = None
    return g

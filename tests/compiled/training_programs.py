"""Training steps as people write them: each maker gives (step, state), where step(k) trains once and state() shows everything
that training changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flambeau as ft
import flambeau.nn.functional as F
from flambeau import nn
from flambeau.autograd import grad
from flambeau.utils.checkpoint import checkpoint

MAKERS: dict[str, Callable[[], tuple[Callable[..., Any], Any]]] = {}


def program(fn: Any) -> Any:
    MAKERS[fn.__name__] = fn
    return fn


def batch(k: int, *shape: int) -> ft.Tensor:
    return ft.randn(*shape, generator=ft.Generator().manual_seed(100 + k))


def mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def everything(*owners: Any) -> Callable[[], list[Any]]:
    """Parameters, their gradients, buffers, and the states of optimizers."""
    def show() -> list[Any]:
        found: list[Any] = []
        for owner in owners:
            if isinstance(owner, nn.Module):
                found += [t.detach().clone() for t in (*owner.parameters(), *owner.buffers())]
                found += [None if p.grad is None else p.grad.clone() for p in owner.parameters()]
            elif isinstance(owner, ft.optim.Optimizer):
                for group in owner.param_groups:
                    for p in group["params"]:
                        state = owner.state.get(p, {})
                        found += [(name, v.clone() if isinstance(v, ft.Tensor) else v) for name, v in sorted(state.items())]
            else:
                found += [owner.detach().clone(), None if owner.grad is None else owner.grad.clone()]
        return found
    return show


OPTIMIZERS: dict[str, Callable[[Any], ft.optim.Optimizer]] = {
    "sgd": lambda p: ft.optim.SGD(p, lr=0.1),
    "nesterov": lambda p: ft.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "dampened": lambda p: ft.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, maximize=True),
    "adam": lambda p: ft.optim.Adam(p, lr=0.02, weight_decay=1e-2),
    "amsgrad": lambda p: ft.optim.Adam(p, lr=0.02, amsgrad=True),
    "adamw": lambda p: ft.optim.AdamW(p, lr=0.02),
    "tensor_rate": lambda p: ft.optim.Adam(p, lr=ft.tensor(0.02)),
    "rmsprop": lambda p: ft.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adagrad": lambda p: ft.optim.Adagrad(p, lr=0.05, lr_decay=0.1),
    "adadelta": lambda p: ft.optim.Adadelta(p, lr=0.5),
    "adamax": lambda p: ft.optim.Adamax(p, lr=0.02),
    "nadam": lambda p: ft.optim.NAdam(p, lr=0.02),
    "radam": lambda p: ft.optim.RAdam(p, lr=0.02),
    "asgd": lambda p: ft.optim.ASGD(p, lr=0.05, t0=2),
    "rprop": lambda p: ft.optim.Rprop(p, lr=0.02),
    "muon": lambda p: ft.optim.Muon([x for x in p if x.ndim == 2], lr=0.02),
}


def with_optimizer(name: str) -> tuple[Callable[..., Any], Any]:
    ft.manual_seed(0)
    model = mlp(3, 8, 2)
    opt = OPTIMIZERS[name](model.parameters())

    def step(x: ft.Tensor, y: ft.Tensor) -> Any:
        opt.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        opt.step()
        return loss

    return (step, everything(model, opt), lambda k: (batch(k, 5, 3), batch(k + 50, 5, 2)), [opt])  # type: ignore[return-value]


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln1, self.ln2, self.heads = nn.LayerNorm(width), nn.LayerNorm(width), heads
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: ft.Tensor) -> ft.Tensor:
        b, t, c = x.shape
        q, k, v = (a.view(b, t, self.heads, c // self.heads).transpose(1, 2) for a in self.qkv(self.ln1(x)).split(c, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.ln2(x))))


class GPT(nn.Module):
    def __init__(self, words: int = 17, length: int = 8, width: int = 16, layers: int = 2) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(words, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, 2) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, ids: ft.Tensor, targets: ft.Tensor) -> ft.Tensor:
        x = self.wte(ids) + self.wpe(ft.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


@program
def gpt() -> Any:
    """Tied weights, weight decay for matrices only, gradients clipped by their norm."""
    ft.manual_seed(0)
    model = GPT()
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    opt = ft.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=1e-2)

    def step(ids: ft.Tensor, targets: ft.Tensor) -> Any:
        loss = model(ids, targets)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        return loss.detach(), norm

    def inputs(k: int) -> Any:
        g = ft.Generator().manual_seed(k)
        return ft.randint(0, 17, (2, 8), generator=g), ft.randint(0, 17, (2, 8), generator=g)

    return step, everything(model, opt), inputs, [opt]


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.Conv2d(width, width, 3, padding=1)
        self.bn1, self.bn2, self.relu = nn.BatchNorm2d(width), nn.BatchNorm2d(width), nn.ReLU(inplace=True)

    def forward(self, x: ft.Tensor) -> ft.Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x
        return self.relu(y)


@program
def resnet() -> Any:
    """Batch norms with their buffers, relu in place, a residual added in place."""
    ft.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), Residual(4), nn.MaxPool2d(2), Residual(4), nn.Flatten(),
                          nn.Linear(36, 3))
    opt = ft.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def step(x: ft.Tensor, y: ft.Tensor) -> Any:
        opt.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        opt.step()
        return loss.detach(), (out.argmax(1) == y).float().mean()

    return step, everything(model, opt), lambda k: (batch(k, 4, 1, 6, 6), ft.arange(4) % 3), [opt]


@program
def gan() -> Any:
    """Two models, two optimizers, two backwards; the first does not reach the generator."""
    ft.manual_seed(0)
    generator, critic = mlp(2, 8, 3), mlp(3, 8, 1)
    opt_g, opt_c = ft.optim.Adam(generator.parameters(), lr=1e-2), ft.optim.Adam(critic.parameters(), lr=1e-2)

    def step(real: ft.Tensor, noise: ft.Tensor) -> Any:
        fake = generator(noise)
        opt_c.zero_grad()
        loss_c = F.softplus(critic(fake.detach())).mean() + F.softplus(-critic(real)).mean()
        loss_c.backward()
        opt_c.step()
        opt_g.zero_grad()
        loss_g = F.softplus(-critic(fake)).mean()
        loss_g.backward()
        opt_g.step()
        return loss_c.detach(), loss_g.detach()

    return step, everything(generator, critic, opt_g, opt_c), lambda k: (batch(k, 6, 3), batch(k + 50, 6, 2)), [opt_g, opt_c]


@program
def accumulation() -> Any:
    """Gradients of several small batches add up; clipped by value."""
    ft.manual_seed(0)
    model = mlp(3, 6, 1)
    opt = ft.optim.SGD(model.parameters(), lr=0.1)

    def step(x: ft.Tensor) -> Any:
        total = 0.0
        for part in x.chunk(3):
            loss = model(part).pow(2).mean() / 3
            loss.backward()
            total = total + loss.detach()
        nn.utils.clip_grad_value_(model.parameters(), 0.05)
        opt.step()
        opt.zero_grad(set_to_none=False)
        return total

    return step, everything(model), lambda k: (batch(k, 6, 3),), [opt]


@program
def gradient_penalty() -> Any:
    """A double backward: the norm of the gradient to the input is part of the loss."""
    ft.manual_seed(0)
    critic = mlp(3, 8, 1)
    opt = ft.optim.Adam(critic.parameters(), lr=1e-2)

    def step(real: ft.Tensor, fake: ft.Tensor, t: ft.Tensor) -> Any:
        opt.zero_grad()
        between = (t * real + (1 - t) * fake).requires_grad_(True)
        scores = critic(between)
        slope, = grad(scores, between, ft.ones_like(scores), create_graph=True, retain_graph=True)
        penalty = (slope.norm(2, dim=1) - 1).pow(2).mean()
        loss = critic(fake).mean() - critic(real).mean() + 10 * penalty
        loss.backward()
        opt.step()
        return loss.detach(), penalty.detach()

    return step, everything(critic, opt), lambda k: (batch(k, 4, 3), batch(k + 9, 4, 3), ft.rand(4, 1, generator=ft.Generator(
        ).manual_seed(k))), [opt]


@program
def maml() -> Any:
    """An inner step of gradient descent that the outer gradient goes through."""
    ft.manual_seed(0)
    w, b = ft.randn(3, 1, requires_grad=True), ft.zeros(1, requires_grad=True)
    opt = ft.optim.SGD([w, b], lr=0.1)

    def model(x: ft.Tensor, weights: list[ft.Tensor]) -> ft.Tensor:
        return (x @ weights[0] + weights[1]).tanh()

    def step(x: ft.Tensor, y: ft.Tensor) -> Any:
        opt.zero_grad()
        fast = [w, b]
        for _ in range(2):
            inner = F.mse_loss(model(x, fast), y)
            fast = [p - 0.4 * g for p, g in zip(fast, grad(inner, fast, create_graph=True))]
        outer = F.mse_loss(model(x + 1, fast), y)
        outer.backward()
        opt.step()
        return outer.detach()

    return step, everything(w, b), lambda k: (batch(k, 4, 3), batch(k + 9, 4, 1)), [opt]


@program
def closure() -> Any:
    """The optimizer calls back for the loss."""
    ft.manual_seed(0)
    model = mlp(3, 4, 1)
    opt = ft.optim.Adam(model.parameters(), lr=1e-2)

    def step(x: ft.Tensor) -> Any:
        def evaluate() -> Any:
            opt.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss
        return opt.step(evaluate)

    return step, everything(model, opt), lambda k: (batch(k, 5, 3),), [opt]


@program
def frozen_and_unused() -> Any:
    """Some parameters want no gradient, some are not used, one section is without the tape."""
    ft.manual_seed(0)
    model, unused = mlp(3, 6, 4, 1), nn.Linear(2, 2)
    for p in model[0].parameters():
        p.requires_grad_(False)
    opt = ft.optim.AdamW([*model.parameters(), *unused.parameters()], lr=1e-2)

    def step(x: ft.Tensor) -> Any:
        opt.zero_grad()
        with ft.no_grad():
            target = model(x).abs()
        with ft.no_grad(), ft.enable_grad():
            loss = (model(x) - target).square().sum()
        loss.backward()
        opt.step()
        return loss.detach(), target

    return step, everything(model, unused, opt), lambda k: (batch(k, 5, 3),), [opt]


class Cube(ft.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: ft.Tensor) -> ft.Tensor:
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, g: ft.Tensor) -> ft.Tensor:
        x, = ctx.saved_tensors
        return g * 3 * x * x + 0.25


@program
def dropout_and_function() -> Any:
    """Random numbers come as they come eagerly; a function with a backward of its own."""
    ft.manual_seed(0)
    first, second = nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Dropout(0.5)), nn.Linear(8, 2)
    opt = ft.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)

    def step(x: ft.Tensor) -> Any:
        opt.zero_grad()
        loss = Cube.apply(second(first(x)).tanh()).square().mean()
        loss.backward()
        opt.step()
        return loss.detach()

    return step, everything(first, second), lambda k: (batch(k, 5, 3),), [opt]


@program
def checkpointed() -> Any:
    """A part whose values are computed again in the backward."""
    ft.manual_seed(0)
    first, second = mlp(3, 8, 8), nn.Linear(8, 2)
    opt = ft.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)

    def step(x: ft.Tensor) -> Any:
        opt.zero_grad()
        loss = second(checkpoint(first, x, use_reentrant=False)).square().mean()
        loss.backward()
        opt.step()
        return loss.detach()

    return step, everything(first, second), lambda k: (batch(k, 5, 3),), [opt]


@program
def half_precision() -> Any:
    """The forward under autocast, the backward outside."""
    ft.manual_seed(0)
    model = mlp(3, 8, 2)
    opt = ft.optim.SGD(model.parameters(), lr=0.1)

    def step(x: ft.Tensor, y: ft.Tensor) -> Any:
        opt.zero_grad()
        with ft.autocast("cpu", dtype=ft.bfloat16):
            loss = F.mse_loss(model(x), y)
        loss.backward()
        opt.step()
        return loss.detach()

    return step, everything(model), lambda k: (batch(k, 5, 3), batch(k + 50, 5, 2)), [opt]


@program
def ema_and_own_update() -> Any:
    """The update written out under no_grad, and an average of the weights kept beside."""
    ft.manual_seed(0)
    model, average = mlp(3, 4, 1), mlp(3, 4, 1)
    average.load_state_dict(model.state_dict())

    def step(x: ft.Tensor) -> Any:
        loss = model(x).square().mean()
        loss.backward()
        with ft.no_grad():
            for p, a in zip(model.parameters(), average.parameters()):
                p -= 0.1 * p.grad
                p.grad.zero_()
                a.mul_(0.9).add_(p, alpha=0.1)
        return loss.detach()

    return step, everything(model, average), lambda k: (batch(k, 5, 3),), []


__all__ = ["MAKERS", "OPTIMIZERS", "Cube", "checkpoint", "everything", "with_optimizer"]

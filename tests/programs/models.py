"""Models in the styles that are met in the wild, each with batches and a loss: trained a few steps here, compiled in
``tests/compiled/test_models.py``, where every forward is one graph and every training step too."""

from __future__ import annotations

import inspect
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np

from .registry import program


@dataclass
class Model:
    """``batch(k, n)`` gives the arguments of the k-th call, with n samples; ``loss(result, *arguments)`` a scalar."""

    module: Any
    batch: Callable[..., tuple]
    loss: Callable[..., Any] | None = None

    def loss_of(self, out: Any, *args: Any) -> Any:
        return out.square().mean() if self.loss is None else self.loss(out, *args)


MODELS: dict[str, Callable[[Any], Model]] = {}


def model(make: Callable[[Any], Model]) -> Callable[[Any], Model]:
    """Enter a maker of a model, and a program that trains it."""
    MODELS[make.__name__] = make

    def trained(torch):
        made = make(torch)
        optimizer = torch.optim.SGD(made.module.parameters(), lr=0.02, momentum=0.9)
        losses = []
        for k, n in enumerate((2, 2, 3)):
            optimizer.zero_grad()
            args = made.batch(k, n)
            loss = made.loss_of(made.module(*args), *args)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return [losses, sum(p.detach().abs().sum() for p in made.module.parameters())]

    trained.__name__, trained.__module__ = make.__name__, make.__module__
    program(trained)
    return make


def normal(torch, k, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(300 + k))


def numbers(torch, k, high, *shape):
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(400 + k))


# ---- language


@model
def encoder_with_output_classes(torch):
    nn, F = torch.nn, torch.nn.functional

    class Output(OrderedDict):
        def __post_init__(self):
            for f in fields(self):
                if getattr(self, f.name) is not None:
                    self[f.name] = getattr(self, f.name)

        def __getitem__(self, key):
            return dict(self.items())[key] if isinstance(key, str) else tuple(self.values())[key]

        def __setitem__(self, key, value):
            super().__setitem__(key, value)
            super().__setattr__(key, value)

    @dataclass
    class Encoded(Output):
        last: Any = None
        pooled: Any = None
        all_states: Any = None

    def in_chunks(fn, size, *tensors):
        if len(inspect.signature(fn).parameters) != len(tensors):
            raise ValueError(f"{fn} takes another number of tensors")
        parts = zip(*(t.split(size, dim=1) for t in tensors))
        return torch.cat([fn(*p) for p in parts], dim=1)

    class Layer(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
            self.up, self.down = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
            self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(2))
            self.drop = nn.Dropout(0.1)

        def feed(self, x):
            return self.down(F.gelu(self.up(x)))

        def forward(self, x, mask=None, *, heads=2, **unused):
            b, s, d = x.shape
            q, k, v = (t.view(b, s, heads, -1).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
            scores = q @ k.transpose(-1, -2) / np.sqrt(q.size(-1))
            if mask is not None:
                scores = scores + mask
            y = (self.drop(scores.softmax(-1)) @ v).permute(0, 2, 1, 3).contiguous().view(x.size())
            x = self.norms[0](x + self.out(y))
            return (self.norms[1](x + in_chunks(self.feed, 2, x)), scores)

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(20, 8, padding_idx=0), nn.Embedding(12, 8)
            self.register_buffer("ids", torch.arange(12).expand((1, -1)), persistent=False)
            self.layers = nn.ModuleList(Layer(8) for _ in range(2))
            self.pool = nn.ModuleDict({"dense": nn.Linear(8, 8), "act": nn.Tanh()})

        def forward(self, ids, mask=None, keep=True, as_dict=None, **options):
            mask = (1.0 - mask[:, None, None, :].to(self.words.weight.dtype)) * torch.finfo(torch.float32).min
            x = self.words(ids)
            x += self.places(self.ids[:, :ids.size()[1]])
            states = () if keep else None
            for layer in self.layers:
                states = states + (x,) if keep else None
                x = layer(x, mask=mask, **options)[0]
            found = Encoded(last=x, pooled=self.pool["act"](self.pool.dense(x[:, 0])), all_states=states)
            return found if as_dict is not False else found[:]

    def batch(k, n):
        mask = torch.ones(n, 6)
        mask[0, 4:] = 0
        return numbers(torch, k, 20, n, 6), mask

    return Model(Encoder(), batch, lambda o, *_: o.pooled.square().mean() + o[0].mean() + o["all_states"][1].mean())


@model
def decoder_that_writes_a_cache(torch):
    nn, F = torch.nn, torch.nn.functional

    class Attention(nn.Module):
        def __init__(self, d=8, heads=4, shared=2):
            super().__init__()
            self.heads, self.shared, self.size = heads, shared, d // heads
            self.q, self.kv = nn.Linear(d, d, bias=False), nn.Linear(d, 2 * shared * self.size, bias=False)
            self.keys = torch.zeros(4, 10, shared, self.size)
            self.values = torch.zeros(4, 10, shared, self.size)

        def forward(self, x, start, turns, cached):
            b, s, _ = x.shape
            q, (k, v) = self.q(x).view(b, s, self.heads, -1), self.kv(x).view(b, s, 2, self.shared, -1).unbind(2)
            turned = []
            for t in (q, k):
                pairs = torch.view_as_complex(t.float().reshape(*t.shape[:-1], -1, 2))
                shape = [n if i in (1, 3) else 1 for i, n in enumerate(pairs.shape)]
                turned.append(torch.view_as_real(pairs * turns.view(*shape)).flatten(3).type_as(t))
            q, k = turned
            if cached:
                self.keys[:b, start:start + s], self.values[:b, start:start + s] = k, v
                k, v = self.keys[:b, :start + s], self.values[:b, :start + s]
            times = self.heads // self.shared
            k, v = (t[:, :, :, None].expand(-1, -1, -1, times, -1).flatten(2, 3).transpose(1, 2) for t in (k, v))
            y = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, is_causal=s > 1)
            return y.transpose(1, 2).reshape(b, s, -1)

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.attention, self.head = nn.Embedding(16, 8), Attention(), nn.Linear(8, 16, bias=False)
            self.head.weight = self.words.weight
            angles = torch.outer(torch.arange(10.0), 1.0 / 100 ** torch.arange(0, 2, 2).float())
            self.turns = torch.polar(torch.ones_like(angles), angles)

        def step(self, ids, start=0, cached=False):
            x = self.words(ids)
            return self.head(x + self.attention(x, start, self.turns[start:start + ids.shape[1]], cached))

        @torch.no_grad()
        def generate(self, ids, n):
            found = [ids]
            logits = self.step(ids, 0, cached=True)
            for at in range(ids.shape[1], ids.shape[1] + n):
                found.append(logits[:, -1:].argmax(-1))
                logits = self.step(found[-1], at, cached=True)
            return torch.cat(found, 1)

        def forward(self, ids):
            longer = self.generate(ids[:, :3], 3)
            return self.step(longer), longer

    return Model(Decoder(), lambda k, n: (numbers(torch, k, 16, n, 5),),
                 lambda o, ids: F.cross_entropy(o[0][:, :-1].flatten(0, 1), o[1][:, 1:].flatten()))


@model
def attention_with_masks_of_numpy(torch):
    nn, F = torch.nn, torch.nn.functional

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
            self.scale = nn.Parameter(torch.ones([]) * np.log(1 / 0.07))

        def places(self, n):
            table = np.array([[p / np.power(100, 2 * (j // 2) / 8) for j in range(8)] for p in range(n)])
            return torch.from_numpy(table.astype(np.float32)).unsqueeze(0)

        def forward(self, x):
            n = x.size(1)
            x = x + self.places(n) + torch.Tensor([0.5]).expand(x.shape[-1]) + x.new(1, 8).fill_(0.25)
            q, k, v = (m(x) for m in self.maps)
            hidden = torch.from_numpy(np.triu(np.ones((1, n, n)), k=1).astype("uint8")) == 0
            scores = (q @ k.transpose(-2, -1) / np.sqrt(8)).masked_fill(hidden == 0, -1e9)
            bias = torch.zeros(1, n, n)
            bias.requires_grad = self.training
            return F.softmax(scores + bias, -1) @ v * self.scale.exp() / float(np.prod((2, n)))

    return Model(Attention(), lambda k, n: (normal(torch, k, n, 4, 8),))


@model
def experts_by_choice(torch):
    nn, F = torch.nn, torch.nn.functional

    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(6, 4, bias=False)
            self.experts = nn.ModuleList(nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 6)) for _ in range(4))

        def forward(self, x):
            rows = x.view(-1, 6)
            weights, chosen = torch.topk(F.softmax(self.gate(rows), -1), 2, dim=-1)
            weights /= weights.sum(-1, keepdim=True)
            sent = F.one_hot(chosen, num_classes=4).permute(2, 1, 0)
            total = torch.zeros_like(rows)
            for i, expert in enumerate(self.experts):
                total += expert(rows) * (sent[i] * weights.t()).sum(0)[:, None]
            return total.view_as(x)

    return Model(Experts(), lambda k, n: (normal(torch, k, n, 3, 6),))


@model
def scan_over_states(torch):
    nn, F = torch.nn, torch.nn.functional

    class Scan(nn.Module):
        def __init__(self, d=4, states=3):
            super().__init__()
            self.into, self.conv = nn.Linear(d, 2 * d, bias=False), nn.Conv1d(d, d, 3, groups=d, padding=2)
            self.steps, self.speed = nn.Linear(d, 1 + 2 * states), nn.Linear(1, d)
            self.decay = nn.Parameter(torch.log(torch.arange(1, states + 1).float()).repeat(d, 1))

        def forward(self, x):
            b, s, d = x.shape
            x, gate = self.into(x).split(split_size=[d, d], dim=-1)
            x = F.silu(self.conv(x.transpose(1, 2))[:, :, :s].transpose(1, 2))
            speed, write, read = self.steps(x).split(split_size=[1, 3, 3], dim=-1)
            speed = F.softplus(self.speed(speed))
            keep = torch.exp(torch.einsum("bsd,dn->bsdn", speed, -self.decay.exp()))
            new = torch.einsum("bsd,bsn,bsd->bsdn", speed, write, x)
            state, out = torch.zeros((b, d, 3), device=x.device), []
            for t in range(s):
                state = keep[:, t] * state + new[:, t]
                out.append(torch.einsum("bdn,bn->bd", state, read[:, t]))
            return torch.stack(out, 1) * F.silu(gate)

    return Model(Scan(), lambda k, n: (normal(torch, k, n, 4, 4),))


@model
def recogniser_with_lengths(torch):
    nn, F = torch.nn, torch.nn.functional

    class Recogniser(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.out = nn.Conv1d(4, 6, 3, 2, 1), nn.Linear(6, 5)

        def forward(self, x, targets, lengths):
            steps = F.log_softmax(self.out(F.relu(self.conv(x)).transpose(1, 2)), -1).transpose(0, 1)
            inputs = torch.full((x.size(0),), steps.size(0), dtype=torch.long)
            return F.ctc_loss(steps, targets, inputs, lengths, blank=0, zero_infinity=True)

    def batch(k, n):
        targets = numbers(torch, k, 4, n, 3) + 1
        targets[0, 2:] = -1
        return normal(torch, k, n, 4, 16), targets, torch.tensor([2] + [3] * (n - 1))

    return Model(Recogniser(), batch, lambda o, *_: o)


@model
def tagger_with_transitions(torch):
    nn = torch.nn

    class Tagger(nn.Module):
        def __init__(self, tags=3):
            super().__init__()
            self.emit = nn.Linear(4, tags)
            self.first, self.next = (nn.Parameter(torch.empty(*s).uniform_(-1, 1)) for s in ((tags,), (tags, tags)))

        def forward(self, x, tags):
            scores, rows = self.emit(x), torch.arange(len(x))
            path = self.first[tags[:, 0]]
            path += scores[rows, 0, tags[:, 0]]
            table = torch.zeros(*scores.shape)
            table[:, 0, :] = self.first + scores[:, 0]
            for t in range(1, x.shape[1]):
                path += self.next[tags[:, t - 1], tags[:, t]]
                path += scores[rows, t, tags[:, t]]
                table[:, t, :] = torch.logsumexp(table[:, t - 1].clone().unsqueeze(2) + self.next, dim=1) + scores[:, t]
            return torch.logsumexp(table[:, -1], -1) - path

    return Model(Tagger(), lambda k, n: (normal(torch, k, n, 4, 4), numbers(torch, k, 3, n, 4)), lambda o, *_: o.mean())


@model
def beams_without_gradients(torch):
    nn, F = torch.nn, torch.nn.functional

    class Beams(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.cell, self.out = nn.Embedding(7, 6), nn.GRUCell(6, 6), nn.Linear(6, 7)

        @torch.no_grad()
        def search(self, h, width=2, steps=3):
            b = h.size(0)
            found, scores, h = torch.zeros(b, 1, 1, dtype=torch.long), torch.zeros(b, 1), h[:, None]
            for _ in range(steps):
                live = h.size(1)
                h = self.cell(self.words(found[..., -1]).flatten(0, 1), h.flatten(0, 1)).view(b, live, -1)
                scores, at = (scores[..., None] + F.log_softmax(self.out(h), -1)).view(b, -1).topk(width, -1)
                beam, word = torch.div(at, 7, rounding_mode="floor"), at % 7
                found = torch.cat([found.gather(1, beam[..., None].expand(-1, -1, found.size(-1))), word[..., None]], -1)
                h = h.gather(1, beam[..., None].expand(-1, -1, h.size(-1)))
            return found[:, 0], scores

        def forward(self, h):
            words, _ = self.search(h)
            loss = 0
            for t in range(words.size(1) - 1):
                h = self.cell(self.words(words[:, t]), h)
                loss = loss + F.cross_entropy(self.out(h), words[:, t + 1])
            return loss

    return Model(Beams(), lambda k, n: (normal(torch, k, n, 6),), lambda o, *_: o)


# ---- pictures


@model
def shifted_windows(torch):
    nn = torch.nn

    class Windows(nn.Module):
        def __init__(self, d=4, side=4, shift=2):
            super().__init__()
            self.side, self.shift = side, shift
            self.patch, self.qkv = nn.Conv2d(3, d, 2, 2), nn.Linear(d, 3 * d)
            self.table = nn.Parameter(torch.zeros((2 * side - 1) ** 2, 1))
            nn.init.trunc_normal_(self.table, std=0.02)
            at = torch.stack(torch.meshgrid([torch.arange(side), torch.arange(side)], indexing="ij")).flatten(1)
            apart = (at[:, :, None] - at[:, None, :]).permute(1, 2, 0) + side - 1
            apart[..., 0] *= 2 * side - 1
            self.register_buffer("apart", apart.sum(-1))
            region = torch.zeros(1, 8, 8, 1)
            for i, rows in enumerate((slice(0, -side), slice(-side, -shift), slice(-shift, None))):
                region[:, rows] += i
            cut = self.cut(region)[..., 0]
            self.register_buffer("mask", (cut[:, None] != cut[:, :, None]).float() * -100.0)

        def cut(self, x):
            b, h, w, c = x.shape
            n = self.side
            return x.view(b, h // n, n, w // n, n, c).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, n * n, c)

        def drop(self, x, p=0.2):
            if not self.training:
                return x
            kept = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1 - p)
            return x * kept.div_(1 - p)

        def forward(self, x):
            x = self.patch(x).permute(0, 2, 3, 1)
            b, h, w, d = x.shape
            assert h % self.side == 0 and w % self.side == 0, f"{h}x{w} is not made of windows"
            moved = torch.roll(x, shifts=(-self.shift, -self.shift), dims=(1, 2))
            q, k, v = self.qkv(self.cut(moved)).chunk(3, -1)
            scores = q @ k.mT * d ** -0.5 + self.table[self.apart.view(-1)].view(*self.apart.shape)
            scores = (scores.view(b, -1, *self.apart.shape) + self.mask.unsqueeze(0)).flatten(0, 1)
            y = (scores.softmax(-1) @ v).view(b, h // self.side, w // self.side, self.side, self.side, d)
            y = y.permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, d)
            return x + self.drop(torch.roll(y, (self.shift, self.shift), dims=(1, 2)))

    return Model(Windows(), lambda k, n: (normal(torch, k, n, 3, 16, 16),))


@model
def features_by_hooks(torch):
    nn, F = torch.nn, torch.nn.functional

    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(OrderedDict(a=nn.Conv2d(3, 4, 3, 2, 1), b=nn.ReLU(inplace=True), c=nn.Conv2d(4, 6, 3, 2, 1)))
            self.side = nn.ModuleDict({"b": nn.Conv2d(4, 2, 1), "c": nn.Conv2d(6, 2, 1)})
            self.found = OrderedDict()
            for name in self.side:
                self.net.get_submodule(name).register_forward_hook(partial(self.keep, name))

        def keep(self, name, module, inputs, output):
            self.found[name] = output

        def forward(self, x):
            self.found.clear()
            self.net(x)
            levels, last = [], None
            for name in list(self.found)[::-1]:
                here = self.side[name](self.found[name])
                last = here if last is None else here + F.interpolate(last, size=here.shape[-2:], mode="bilinear")
                levels.insert(0, last)
            self.found.clear()
            return OrderedDict(zip(self.side.keys(), levels))

    return Model(Pyramid(), lambda k, n: (normal(torch, k, n, 3, 8, 8),), lambda o, x: sum(v.square().mean() for v in o.values()))


@model
def splatting(torch):
    nn, F = torch.nn, torch.nn.functional

    class Splat(nn.Module):
        def __init__(self):
            super().__init__()
            self.flow = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x):
            b, c, h, w = x.shape
            gy, gx = torch.meshgrid(torch.arange(h, dtype=x.dtype), torch.arange(w, dtype=x.dtype), indexing="ij")
            flow = torch.tanh(self.flow(x))
            tx, ty = gx + flow[:, 0], gy + flow[:, 1]
            out = x.new_zeros(b, c, h * w)
            for dx in (0, 1):
                for dy in (0, 1):
                    xi, yi = tx.detach().floor() + dx, ty.detach().floor() + dy
                    part = (1 - (tx - xi).abs()) * (1 - (ty - yi).abs()) * ((xi >= 0) & (xi < w) & (yi >= 0) & (yi < h))
                    at = (yi.clamp(0, h - 1) * w + xi.clamp(0, w - 1)).long().view(b, 1, -1).expand(-1, c, -1)
                    out.scatter_add_(2, at, (x * part[:, None]).flatten(2))
            grid = torch.stack([2 * tx / (w - 1) - 1, 2 * ty / (h - 1) - 1], -1)
            return out.view_as(x) + F.grid_sample(x, grid, align_corners=True, padding_mode="border")

    return Model(Splat(), lambda k, n: (normal(torch, k, n, 2, 5, 5),))


@model
def adversaries_with_spectral_norm(torch):
    nn = torch.nn

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.make = nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.ReLU(True), nn.Linear(6, 3), nn.Tanh())
            self.judge = nn.Sequential(nn.utils.spectral_norm(nn.Linear(3, 6)), nn.LeakyReLU(0.2, inplace=True),
                                       nn.utils.parametrizations.weight_norm(nn.Linear(6, 1)), nn.Sigmoid())

        def forward(self, real):
            fake = self.make(torch.randn(real.size(0), 2))
            label = torch.full((real.size(0),), 1.0, device=real.device)
            loss = nn.BCELoss()
            return sum(loss(self.judge(x).view(-1), label * y) for x, y in ((real, 1), (fake.detach(), 0), (fake, 1)))

    return Model(Pair(), lambda k, n: (normal(torch, k, n, 3),), lambda o, *_: o)


# ---- training that changes more than parameters


@model
def quantized_with_observers(torch):
    nn, F = torch.nn, torch.nn.functional

    class Round(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, scale, low, high):
            q = torch.round(x / scale)
            ctx.save_for_backward((q >= low) & (q <= high))
            return q.clamp(low, high) * scale

        @staticmethod
        def backward(ctx, g):
            return g * ctx.saved_tensors[0], None, None, None

    class Quantized(nn.Linear):
        def __init__(self, *sizes):
            super().__init__(*sizes)
            self.register_buffer("least", torch.tensor(float("inf")))
            self.register_buffer("most", torch.tensor(float("-inf")))

        def forward(self, x):
            if self.training:
                least, most = torch.aminmax(x.detach())
                self.least.copy_(torch.min(least, self.least))
                self.most.copy_(torch.max(most, self.most))
            scale = ((self.most - self.least) / 255).clamp(min=torch.finfo(torch.float32).eps)
            weight = Round.apply(self.weight, self.weight.detach().abs().max() / 7, -8, 7)
            return F.linear(Round.apply(x, scale, -128, 127), weight, self.bias)

    return Model(nn.Sequential(Quantized(4, 6), nn.ReLU6(), Quantized(6, 2)), lambda k, n: (normal(torch, k, n, 4),))


@model
def adapters_that_merge(torch):
    nn, F = torch.nn, torch.nn.functional

    class Mergeable:
        def __init__(self, rank):
            self.rank, self.merged = rank, False

    class Adapted(nn.Linear, Mergeable):
        def __init__(self, i, o, rank=2, **options):
            nn.Linear.__init__(self, i, o, **options)
            Mergeable.__init__(self, rank)
            self.a, self.b = nn.Parameter(self.weight.new_zeros((rank, i))), nn.Parameter(self.weight.new_zeros((o, rank)))
            self.weight.requires_grad = False
            nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
            nn.init.normal_(self.b)

        def train(self, mode=True):
            nn.Linear.train(self, mode)
            if mode == self.merged:
                self.weight.data += (self.b @ self.a) * (-1 if mode else 1)
                self.merged = not mode
            return self

        def forward(self, x):
            result = F.linear(x, self.weight, bias=self.bias)
            if self.rank > 0 and not self.merged:
                result += F.dropout(x, 0.1, self.training) @ self.a.transpose(0, 1) @ self.b.transpose(0, 1)
            return result

    return Model(nn.Sequential(Adapted(4, 6), nn.ReLU(), Adapted(6, 3)), lambda k, n: (normal(torch, k, n, 4),))


@model
def meta_learner(torch):
    nn, F = torch.nn, torch.nn.functional

    class Meta(nn.Module):
        def __init__(self):
            super().__init__()
            self.vars = nn.ParameterList([nn.Parameter(torch.randn(*s) * 0.3) for s in ((6, 1), (6,), (1, 6), (1,))])

        def net(self, x, vars):
            return F.linear(torch.tanh(F.linear(x, vars[0], vars[1])), vars[2], vars[3])

        def forward(self, x, y):
            losses = []
            for i in range(2):
                fast = list(self.vars)
                with torch.enable_grad():
                    for _ in range(2):
                        slopes = torch.autograd.grad(F.mse_loss(self.net(x[i], fast), y[i]), fast, create_graph=True)
                        fast = [p - 0.1 * g for p, g in zip(fast, slopes)]
                losses.append(F.mse_loss(self.net(y[i], fast), x[i]))
            return torch.stack(losses).mean()

    return Model(Meta(), lambda k, n: (normal(torch, k, 2, n, 1), normal(torch, k + 1, 2, n, 1)), lambda o, *_: o)


@model
def coupled_flow(torch):
    nn = torch.nn

    class Coupling(nn.Module):
        def __init__(self, mask):
            super().__init__()
            self.register_buffer("mask", mask)
            self.s, self.t = (nn.Sequential(nn.Linear(2, 6), nn.LeakyReLU(), nn.Linear(6, 2), end)
                              for end in (nn.Tanh(), nn.Identity()))

        def forward(self, x, back=False):
            held = x * self.mask
            s, t = (f(held) * (1 - self.mask) for f in (self.s, self.t))
            y = (x - t) * torch.exp(-s) if back else x * torch.exp(s) + t
            return held + (1 - self.mask) * y, s.sum(1)

    class Flow(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList(Coupling(m) for m in torch.tensor([[0.0, 1.0], [1.0, 0.0]] * 2))
            self.register_buffer("zero", torch.zeros(2))
            self.register_buffer("eye", torch.eye(2))

        @property
        def prior(self):
            return torch.distributions.MultivariateNormal(self.zero, self.eye)

        def forward(self, x):
            change, z = torch.zeros(x.shape[0]), x
            for part in self.parts:
                z, d = part(z)
                change = change + d
            back = z
            for part in reversed(self.parts):
                back, _ = part(back, back=True)
            return -(self.prior.log_prob(z) + change).mean() + (back - x).abs().max()

    return Model(Flow(), lambda k, n: (normal(torch, k, n, 2),), lambda o, *_: o)


@model
def gaussian_process(torch):
    nn, F = torch.nn, torch.nn.functional

    class Process(nn.Module):
        def __init__(self):
            super().__init__()
            self.raw = nn.ParameterDict({k: nn.Parameter(torch.tensor(v)) for k, v in (("length", 0.5), ("noise", -1.0))})

        def kernel(self, a, b):
            return torch.exp(-0.5 * torch.cdist(a, b).pow(2) / F.softplus(self.raw["length"]) ** 2)

        def forward(self, x, y, new):
            n = x.shape[0]
            lower = torch.linalg.cholesky(self.kernel(x, x) + (F.softplus(self.raw.noise) + 1e-4) * torch.eye(n))
            weights = torch.cholesky_solve(y.unsqueeze(-1), lower)
            loss = 0.5 * (y @ weights.squeeze(-1)) + torch.log(torch.diagonal(lower)).sum() + 0.5 * n * math.log(2 * math.pi)
            beside = torch.linalg.solve_triangular(lower, self.kernel(x, new), upper=False)
            return loss / n, (self.kernel(x, new).T @ weights).squeeze(-1), 1 - (beside * beside).sum(0)

    return Model(Process(), lambda k, n: (normal(torch, k, n + 2, 2), normal(torch, k + 1, n + 2), normal(torch, k + 2, 3, 2)),
                 lambda o, *_: o[0])


@model
def messages_on_a_graph(torch):
    nn, F = torch.nn, torch.nn.functional

    class Messages(nn.Module):
        def __init__(self, how):
            super().__init__()
            self.how, self.lin = how, nn.Linear(4, 4)
            self.takes = [p for p in inspect.signature(self.message).parameters]

        def message(self, source, weight=None):
            return source if weight is None else source * weight[:, None]

        def gather(self, found, index, n):
            if self.how == "max":
                at = index[:, None].expand_as(found)
                return torch.zeros(n, found.size(-1)).scatter_reduce_(0, at, found, "amax", include_self=False)
            return torch.zeros(n, found.size(-1)).index_add_(0, index, found)

        def forward(self, x, edges):
            n, x = x.size(0), self.lin(x)
            edges = torch.cat([edges, torch.arange(n).repeat(2, 1)], dim=1)
            degree = torch.zeros(n).scatter_add_(0, edges[1], torch.ones(edges.size(1)))
            scale = degree.pow(-0.5)
            scale[scale == float("inf")] = 0
            given = {"source": x.index_select(0, edges[0]), "weight": scale[edges[0]] * scale[edges[1]], "edges": edges}
            return F.elu(self.gather(self.message(**{k: v for k, v in given.items() if k in self.takes}), edges[1], n))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([Messages("sum"), Messages("max")])

        def forward(self, x, edges):
            for layer in self.layers:
                x = layer(x, edges)
            return F.log_softmax(x, -1)

    return Model(Net(), lambda k, n: (normal(torch, k, n + 3, 4), numbers(torch, k, n + 3, 2, 9)), lambda o, *_: -o[:, 0].mean())

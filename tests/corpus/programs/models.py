"""Models and steps of algorithms as people write them: attention with caches, mixtures, recurrences, samplers, losses."""

import math
from collections import namedtuple
from dataclasses import dataclass
from typing import List, Optional, Tuple

from ..given import F, call, nn, program, rand, torch

torch.manual_seed(11)
X = rand(2, 5, 8)
IMAGE = rand(2, 3, 8, 8)
TOKENS = torch.tensor([[1, 4, 2, 0, 3], [5, 5, 6, 1, 0]])


def rotate_half(x):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((-b, a), dim=-1)


def rope(q, k, positions, base=10000.0):
    d = q.shape[-1]
    inverse = 1.0 / (base ** (torch.arange(0, d, 2).float() / d))
    angles = torch.outer(positions.float(), inverse)
    angles = torch.cat((angles, angles), dim=-1)
    cos, sin = angles.cos()[None, None], angles.sin()[None, None]
    return q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin


class CachedAttention(nn.Module):
    def __init__(self, d=8, heads=2):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)

    def forward(self, x, cache: Optional[Tuple] = None, causal=True):
        b, t, c = x.shape
        q, k, v = (z.view(b, t, self.heads, c // self.heads).transpose(1, 2) for z in self.qkv(x).split(c, dim=-1))
        past = 0 if cache is None else cache[0].shape[2]
        q, k = rope(q, k, torch.arange(past, past + t))
        if cache is not None:
            k, v = torch.cat((cache[0], k), 2), torch.cat((cache[1], v), 2)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        if causal and t > 1:
            mask = torch.ones(t, k.shape[2], dtype=torch.bool).tril(past)
            scores = scores.masked_fill(~mask, float("-inf"))
        y = scores.softmax(-1) @ v
        return self.out(y.transpose(1, 2).contiguous().view(b, t, c)), (k, v)


@program((X,), (rand(2, 5, 8, seed=1),))
class AttentionWithRotaryPositions(CachedAttention):
    pass


ATTENTION = CachedAttention()


@program((X,), (rand(2, 5, 8, seed=1),))
def prefill_then_decode(x):
    y, cache = ATTENTION(x)
    outs = [y]
    for _ in range(2):
        y, cache = ATTENTION(y[:, -1:], cache)
        outs.append(y)
    return torch.cat(outs, 1), cache[0].shape


class StaticCache:
    def __init__(self, length, d):
        self.k, self.v, self.at = torch.zeros(1, length, d), torch.zeros(1, length, d), 0

    def update(self, k, v):
        n = k.shape[1]
        self.k[:, self.at:self.at + n] = k
        self.v[:, self.at:self.at + n] = v
        self.at += n
        return self.k[:, :self.at], self.v[:, :self.at]


CACHE = StaticCache(16, 8)


@program((rand(1, 3, 8),), (rand(1, 3, 8, seed=1),), lambda: setattr(CACHE, "at", 0), (rand(1, 3, 8, seed=2),),
         watch=lambda: (CACHE.k, CACHE.at))
def static_cache_attention(x):
    k, v = CACHE.update(x * 2, x + 1)
    return F.softmax(x @ k.transpose(1, 2), -1) @ v


@program((X,), (rand(2, 5, 8, seed=1),), backward=True)
class MixtureOfExperts(nn.Module):
    def __init__(self, d=8, experts=3, k=2):
        super().__init__()
        self.k = k
        self.gate = nn.Linear(d, experts)
        self.experts = nn.ModuleList([nn.Sequential(nn.Linear(d, d), nn.SiLU()) for _ in range(experts)])

    def forward(self, x):
        flat = x.reshape(-1, x.shape[-1])
        weights, chosen = self.gate(flat).softmax(-1).topk(self.k, dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        out = torch.zeros_like(flat)
        for e, expert in enumerate(self.experts):
            share = (weights * (chosen == e)).sum(-1, keepdim=True)
            out = out + expert(flat) * share
        return out.view_as(x)


@program((X,), (rand(2, 5, 8, seed=1),))
class SparseRouting(nn.Module):
    def __init__(self, d=8, experts=3):
        super().__init__()
        self.gate = nn.Linear(d, experts)
        self.experts = nn.ModuleList([nn.Linear(d, d) for _ in range(experts)])

    def forward(self, x):
        flat = x.reshape(-1, x.shape[-1])
        best = self.gate(flat).argmax(-1)
        out = torch.zeros_like(flat)
        for e, expert in enumerate(self.experts):
            rows = (best == e).nonzero().flatten()
            if rows.numel():
                out[rows] = expert(flat[rows])
        return out.view_as(x)


@program((X,), (rand(2, 5, 8, seed=1),), backward=True)
class LSTMByHand(nn.Module):
    def __init__(self, d=8, h=4):
        super().__init__()
        self.h = h
        self.x, self.w = nn.Linear(d, 4 * h), nn.Linear(h, 4 * h, bias=False)

    def forward(self, x, state=None):
        h, c = state if state is not None else (x.new_zeros(x.shape[0], self.h), x.new_zeros(x.shape[0], self.h))
        out = []
        for t in range(x.shape[1]):
            i, f, g, o = (self.x(x[:, t]) + self.w(h)).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            out.append(h)
        return torch.stack(out, 1), (h, c)


@program((rand(2, 6),), (rand(2, 6, seed=1),))
def beam_search_step(logits):
    scores = torch.tensor([[0.0, -1.0], [0.0, -0.5]])
    candidates = scores[:, :, None] + logits.view(2, 2, 3).log_softmax(-1)
    best, index = candidates.view(2, -1).topk(2)
    return best, index // 3, index % 3


@program((rand(2, 10), 3, 0.9), (rand(2, 10, seed=1), 3, 0.9), watch=lambda: torch.rand(1))
def top_k_top_p_sampling(logits, k, p):
    kept = torch.topk(logits, k).values[:, -1:]
    logits = torch.where(logits < kept, float("-inf"), logits)
    ordered, index = logits.sort(descending=True)
    total = ordered.softmax(-1).cumsum(-1)
    drop = total > p
    drop[:, 1:] = drop[:, :-1].clone()
    drop[:, 0] = False
    logits = logits.masked_fill(torch.zeros_like(drop).scatter(1, index, drop), float("-inf"))
    return torch.multinomial(logits.softmax(-1), 1)


@program((TOKENS,), (TOKENS.flip(1),), backward=True)
class TinyGPT(nn.Module):
    def __init__(self, vocabulary=8, d=8):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, d), nn.Embedding(16, d)
        self.blocks = nn.ModuleList([nn.ModuleDict({"n1": nn.LayerNorm(d), "attn": CachedAttention(d), "n2": nn.LayerNorm(d),
                                                    "mlp": nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))})
                                     for _ in range(2)])
        self.head = nn.Linear(d, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens, targets=None):
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = x + block["attn"](block["n1"](x))[0]
            x = x + block["mlp"](block["n2"](x))
        logits = self.head(x)
        if targets is None:
            return logits
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1), ignore_index=0)


GPT = TinyGPT()


@program((TOKENS[:1, :3], 3), (TOKENS[1:, :3], 3))
@torch.no_grad()
def greedy_generation(tokens, n):
    for _ in range(n):
        logits = GPT(tokens[:, -8:])
        tokens = torch.cat((tokens, logits[:, -1].argmax(-1, keepdim=True)), 1)
    return tokens


class Residual(nn.Module):
    expansion = 1

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        identity = x
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return F.relu(out, inplace=True)


@program((IMAGE,), (rand(2, 3, 8, 8, seed=1),), backward=True)
class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.layers = nn.Sequential(*[Residual(i, o, s) for i, o, s in ((4, 4, 1), (4, 6, 2))])
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.layers(F.relu(self.stem(x)))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


@program((IMAGE,), (rand(2, 3, 8, 8, seed=1),), backward=True)
class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)])
        self.middle = nn.Conv2d(6, 6, 3, padding=1)
        self.up = nn.ModuleList([nn.Conv2d(12, 4, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)])

    def forward(self, x):
        skips: List = []
        for layer in self.down:
            x = F.silu(layer(x))
            skips.append(x)
            x = F.avg_pool2d(x, 2)
        x = F.silu(self.middle(x))
        for layer in self.up:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = layer(torch.cat((x, skips.pop()), 1))
        return x


@program((IMAGE,), (rand(2, 3, 8, 8, seed=1),), backward=True)
class VisionTransformer(nn.Module):
    def __init__(self, d=8, patch=4):
        super().__init__()
        self.patch = nn.Conv2d(3, d, patch, stride=patch)
        self.cls = nn.Parameter(rand(1, 1, d))
        self.positions = nn.Parameter(rand(1, 5, d, seed=2))
        self.block = nn.TransformerEncoderLayer(d, 2, 16, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(d, 3)

    def forward(self, x):
        b = x.shape[0]
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(b, -1, -1), x), 1) + self.positions
        return self.head(self.block(x)[:, 0])


@dataclass
class Detection:
    logits: torch.Tensor
    boxes: torch.Tensor
    loss: Optional[torch.Tensor] = None


@program((X, None), (X, rand(2, 4, seed=4)))
class DetectionHead(nn.Module):
    def __init__(self, d=8):
        super().__init__()
        self.queries = nn.Embedding(3, d)
        self.attend = nn.MultiheadAttention(d, 2, batch_first=True)
        self.classes, self.boxes = nn.Linear(d, 4), nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, 4))

    def forward(self, memory, target):
        q = self.queries.weight.unsqueeze(0).repeat(memory.shape[0], 1, 1)
        h, weights = self.attend(q, memory, memory)
        out = Detection(self.classes(h), self.boxes(h).sigmoid())
        if target is not None:
            cost = torch.cdist(out.boxes, target[:, None], p=1).squeeze(-1)
            best = cost.argmin(-1)
            out.loss = out.boxes.gather(1, best[:, None, None].expand(-1, 1, 4)).squeeze(1).sub(target).abs().mean()
        return out


@program((rand(2, 6),), (rand(2, 6, seed=1),), backward=True)
class VariationalAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(6, 4), nn.Linear(2, 6)

    def reparameterize(self, mu, logvar):
        std = (0.5 * logvar).exp()
        return mu + torch.full_like(std, 0.3) * std

    def forward(self, x):
        mu, logvar = self.encode(x).chunk(2, -1)
        back = self.decode(self.reparameterize(mu, logvar))
        kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum()
        return F.mse_loss(back, x, reduction="sum") + kl, back


Step = namedtuple("Step", "sample predicted")
BETAS = torch.linspace(1e-4, 0.02, 10)
ALPHAS = (1 - BETAS).cumprod(0)
DENOISER = nn.Sequential(nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 8))


@program((rand(2, 8), torch.tensor(7)), (rand(2, 8, seed=1), torch.tensor(3)))
def diffusion_step(x, t):
    noise = DENOISER(x + t.float() / 10)
    a, previous = ALPHAS[t], torch.where(t > 0, ALPHAS[(t - 1).clamp(min=0)], torch.tensor(1.0))
    clean = (x - (1 - a).sqrt() * noise) / a.sqrt()
    clean = clean.clamp(-1, 1)
    return Step(previous.sqrt() * clean + (1 - previous).sqrt() * noise, clean)


@program((rand(2, 8),), (rand(2, 8, seed=1),))
@torch.no_grad()
def diffusion_sampling_loop(x):
    for t in reversed(range(3)):
        noise = DENOISER(x + t / 10)
        a = ALPHAS[t]
        x = (x - (1 - a).sqrt() * noise) / a.sqrt() + (0.0 if t == 0 else 0.1)
    return x


GENERATOR, CRITIC = nn.Linear(4, 6), nn.Linear(6, 1)


@program((rand(3, 4), rand(3, 6)), (rand(3, 4, seed=1), rand(3, 6, seed=1)), backward=True)
def adversarial_losses(z, real):
    fake = GENERATOR(z)
    critic = F.softplus(CRITIC(fake.detach())).mean() + F.softplus(-CRITIC(real)).mean()
    generator = F.softplus(-CRITIC(fake)).mean()
    return critic, generator


STUDENT, TEACHER = nn.Linear(4, 4), nn.Linear(4, 4)


@program((rand(3, 4),), (rand(3, 4, seed=1),), watch=lambda: [p.detach() for p in TEACHER.parameters()])
def teacher_by_moving_average(x):
    with torch.no_grad():
        for t, s in zip(TEACHER.parameters(), STUDENT.parameters()):
            t.mul_(0.9).add_(s, alpha=0.1)
        target = TEACHER(x)
    return F.mse_loss(STUDENT(x), target)


@program((rand(4, 4, grad=True), 1.0), (rand(4, 4, seed=1, grad=True), 0.5))
def clips_gradients_by_hand(w, limit):
    g = w * 3
    total = torch.sqrt(sum(v.pow(2).sum() for v in (g, g[0])))
    scale = (limit / (total + 1e-6)).clamp(max=1.0)
    return g * scale, total


@program((rand(3, 4), rand(3, 4, seed=1)), (rand(3, 4, seed=2), rand(3, 4, seed=3)), backward=True)
def contrastive_loss(a, b):
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    logits = a @ b.t() * TEMPERATURE.exp()
    labels = torch.arange(len(a))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.t(), labels)) / 2


TEMPERATURE = torch.tensor(1.0, requires_grad=True)


def build_masks(lengths, size, window=None):
    positions = torch.arange(size)
    padding = positions[None] < lengths[:, None]
    causal = positions[None] <= positions[:, None]
    mask = padding[:, None, :] & causal[None]
    if window is not None:
        mask = mask & (positions[:, None] - positions[None] < window)
    return torch.where(mask, 0.0, torch.finfo(torch.float32).min)


@program((X, torch.tensor([5, 3])), (X, torch.tensor([2, 4])))
def masks_of_all_kinds(x, lengths):
    size = x.shape[1]
    full = build_masks(lengths, size)
    band = build_masks(lengths, size, window=2)
    upper = torch.triu(torch.full((size, size), float("-inf")), diagonal=1)
    return (x @ x.transpose(1, 2) + full).softmax(-1), band, upper, torch.tril(torch.ones(3, 3)).bool()


@program(call(input_ids=TOKENS), call(input_ids=TOKENS, attention_mask=torch.ones(2, 5)),
         call(inputs_embeds=X, output_hidden=True), call(input_ids=TOKENS, return_dict=False))
class KeywordHeavyModel(nn.Module):
    def __init__(self, d=8):
        super().__init__()
        self.embed, self.layer = nn.Embedding(8, d), nn.Linear(d, d)

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, output_hidden=None, return_dict=None, **kwargs):
        output_hidden = output_hidden if output_hidden is not None else False
        return_dict = True if return_dict is None else return_dict
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("one of input_ids and inputs_embeds")
        h = self.embed(input_ids) if inputs_embeds is None else inputs_embeds
        b, t = h.shape[:2]
        mask = torch.ones(b, t) if attention_mask is None else attention_mask
        every = (h,) if output_hidden else None
        h = self.layer(h) * mask[:, :, None]
        if output_hidden:
            every = every + (h,)
        if not return_dict:
            return tuple(v for v in (h, every) if v is not None)
        return {"last": h, "hidden": every}


@program((X,), (rand(2, 5, 8, seed=1),), backward=True)
class GatedLinearUnits(nn.Module):
    def __init__(self, d=8):
        super().__init__()
        self.norm = nn.RMSNorm(d)
        self.gate, self.up, self.down = (nn.Linear(d, 12, bias=False), nn.Linear(d, 12, bias=False), nn.Linear(12, d, bias=False))

    def forward(self, x):
        return x + self.down(F.silu(self.gate(self.norm(x))) * self.up(self.norm(x)))


@program((rand(2, 3, 16),), (rand(2, 3, 16, seed=1),), backward=True)
class DilatedConvolutions(nn.Module):
    def __init__(self, c=3, layers=3):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv1d(c, 2 * c, 3, dilation=2 ** k, padding=2 ** k) for k in range(layers)])

    def forward(self, x):
        skip = 0
        for layer in self.layers:
            a, b = layer(x).chunk(2, 1)
            y = a.tanh() * b.sigmoid()
            x, skip = x + y, skip + y
        return skip


@program((rand(6, 3), torch.tensor([[0, 1, 2, 3], [1, 2, 3, 5]])),
         (rand(6, 3, seed=1), torch.tensor([[0, 0, 4, 3], [5, 2, 1, 1]])))
def message_passing(nodes, edges):
    source, target = edges
    messages = nodes[source] * 2
    gathered = torch.zeros_like(nodes).index_add(0, target, messages)
    degree = torch.zeros(len(nodes)).scatter_add(0, target, torch.ones(len(target))).clamp(min=1)
    return gathered / degree[:, None]


@program((rand(5, 4), rand(4)), (rand(5, 4, seed=1), rand(4, seed=1)), watch=lambda: BUFFER)
def replay_buffer_write(states, reward):
    at = len(BUFFER["steps"]) % 8
    BUFFER["states"][at] = states[0]
    BUFFER["rewards"][at] = reward.sum()
    BUFFER["steps"].append(at)
    returns, total = [], torch.tensor(0.0)
    for r in reversed(reward.unbind()):
        total = r + 0.9 * total
        returns.insert(0, total)
    return torch.stack(returns)


BUFFER = {"states": torch.zeros(8, 4), "rewards": torch.zeros(8), "steps": []}


@program((rand(3, 2), rand(3, 2, seed=1)), (rand(3, 2, seed=2), rand(3, 2, seed=3)), backward=True)
def proximal_policy_loss(new, old):
    ratio = (new.log_softmax(-1) - old.log_softmax(-1)).exp()
    advantage = (old - old.mean()) / (old.std() + 1e-8)
    clipped = ratio.clamp(0.8, 1.2)
    return -torch.min(ratio * advantage, clipped * advantage).mean()


@program((TOKENS, torch.tensor([5, 3])), (TOKENS, torch.tensor([2, 4])))
class BagOfWordsClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(8, 4, padding_idx=0)
        self.head = nn.Linear(4, 2)

    def forward(self, tokens, lengths):
        mask = torch.arange(tokens.size(1)).expand(len(lengths), -1) < lengths.unsqueeze(1)
        e = self.embed(tokens) * mask.unsqueeze(-1)
        return self.head(e.sum(1) / lengths.clamp(min=1).unsqueeze(-1)).log_softmax(-1)


@program((rand(2, 4, 4),), (rand(2, 4, 4, seed=1),))
def newton_schulz(a):
    x = a / (a.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(3):
        y = x @ x.mT
        x = 3.4445 * x + (-4.7750 * y + 2.0315 * y @ y) @ x
    return x


@program((rand(4, 6),), (rand(4, 6, seed=1),))
def sinkhorn(cost):
    u, v = torch.zeros(4), torch.zeros(6)
    k = -cost / 0.5
    for _ in range(4):
        u = -torch.logsumexp(k + v[None], 1)
        v = -torch.logsumexp(k + u[:, None], 0)
    return (k + u[:, None] + v[None]).exp()

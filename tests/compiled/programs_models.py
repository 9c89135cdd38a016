"""Models as people write them, run forward and trained for a step or two."""

from __future__ import annotations

import math

from compiled.whole import Whole, entered, trained

import flambeau as ft
from flambeau import nn
from flambeau.nn import functional as F

MODELS: list[Whole] = []
program = entered(MODELS)


@program()
def mlp(compile):
    model = nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 3))
    return trained(compile(model), ft.randn(7, 12), leaves=model)


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.n1 = nn.BatchNorm2d(8)
        self.dw = nn.Conv2d(8, 8, 3, padding=1, stride=2, groups=8)
        self.n2 = nn.BatchNorm2d(8, momentum=0.3)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.n1(self.c1(x)))
        x = F.max_pool2d(x, 2)
        x = F.silu(self.n2(self.dw(x)))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.head(x)


@program(graphs=2)
def batch_norm_flips(compile):
    model = ConvNet()
    f = compile(model, fullgraph=True)
    x = ft.randn(4, 3, 12, 12)
    seen = []
    for flip in (True, True, False, True, False):
        f.train(flip)
        seen.append(f(x).detach())
    return seen, model.state_dict(), model.n1.num_batches_tracked.item()


@program()
def conv_net_gradients(compile):
    model = ConvNet()
    return trained(compile(model), ft.randn(4, 3, 12, 12, requires_grad=True), leaves=model), model.state_dict()


@program()
def convs_of_all_kinds(compile):
    model = nn.ModuleDict({
        "c1": nn.Conv1d(4, 6, 3, padding=2, dilation=2), "t1": nn.ConvTranspose1d(6, 4, 4, stride=2, padding=1),
        "c3": nn.Conv3d(1, 2, (2, 3, 3), padding=(0, 1, 1)), "t2": nn.ConvTranspose2d(2, 3, 2, stride=2, groups=1),
        "same": nn.Conv1d(4, 4, 5, padding="same", padding_mode="circular")})

    def f(a, b):
        a = model["same"](model["t1"](F.relu(model["c1"](a))))
        b = model["c3"](b)[:, :, 0]
        return a, model["t2"](b)

    return trained(compile(f), ft.randn(2, 4, 9), ft.randn(2, 1, 3, 5, 5), leaves=model)


class UNet(nn.Module):
    def __init__(self, c=4):
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(1, c, 3, padding=1), nn.Conv2d(c, 2 * c, 3, padding=1)])
        self.norm = nn.GroupNorm(2, 2 * c)
        self.mid = nn.Conv2d(2 * c, 2 * c, 3, padding=1)
        self.up = nn.ModuleList([nn.ConvTranspose2d(2 * c, 2 * c, 2, 2), nn.ConvTranspose2d(3 * c + c, c, 2, 2)])
        self.out = nn.Conv2d(2 * c, 1, 1)

    def forward(self, x):
        skips = []
        for conv in self.down:
            x = F.relu(conv(x))
            skips.append(x)
            x = F.avg_pool2d(x, 2)
        x = F.leaky_relu(self.mid(self.norm(x)))
        for up, skip in zip(self.up, reversed(skips)):
            x = ft.cat([up(x), skip], dim=1)
        return self.out(x)


@program()
def unet(compile):
    model = UNet()
    return trained(compile(model), ft.randn(2, 1, 8, 8), leaves=model)


@program()
def pooling(compile):
    def f(x, y):
        a, at = F.max_pool2d(x, 3, stride=2, padding=1, return_indices=True)
        return (a, at, F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False), F.adaptive_max_pool2d(x, (3, 2)),
                F.adaptive_avg_pool2d(x, (None, 3)), F.max_pool1d(y, 2, dilation=2), F.avg_pool1d(y, 3),
                F.lp_pool2d(x.abs() + 0.1, 2, 2))
    return trained(compile(f), ft.randn(2, 3, 7, 8, requires_grad=True), ft.randn(2, 3, 9, requires_grad=True))


@program()
def attention_with_masks(compile):
    def f(q, k, v, mask, bias):
        return (F.scaled_dot_product_attention(q, k, v), F.scaled_dot_product_attention(q, k, v, is_causal=True),
                F.scaled_dot_product_attention(q, k, v, attn_mask=mask),
                F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=0.3))
    q, k, v = (ft.randn(2, 2, 6, 8, requires_grad=True) for _ in range(3))
    mask = ft.ones(6, 6, dtype=ft.bool).tril()
    return trained(compile(f), q, k, v, mask, ft.randn(2, 1, 6, 6, requires_grad=True))


@program(rtol=1e-4)
def grouped_attention(compile):
    def f(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return trained(compile(f), ft.randn(2, 4, 5, 8, requires_grad=True), ft.randn(2, 2, 5, 8, requires_grad=True),
                   ft.randn(2, 2, 5, 8, requires_grad=True))


class Block(nn.Module):
    def __init__(self, width, heads, drop):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width),
                                 nn.Dropout(drop))
        self.heads, self.drop = heads, drop

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(self.ln1(x)).split(c, dim=2)
        q, k, v = (z.view(b, t, self.heads, c // self.heads).transpose(1, 2) for z in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = y.transpose(1, 2).contiguous().view(b, t, c)
        x = x + F.dropout(self.proj(y), self.drop, self.training)
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self, vocab=17, width=16, depth=2, context=12, drop=0.0):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.drop = nn.Dropout(drop)
        self.blocks = nn.ModuleList([Block(width, 2, drop) for _ in range(depth)])
        self.ln = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, tokens, targets=None):
        b, t = tokens.shape
        pos = ft.arange(0, t, dtype=ft.long, device=tokens.device)
        x = self.drop(self.wte(tokens) + self.wpe(pos))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.ln(x))
        if targets is None:
            return logits[:, [-1], :], None
        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)


@program(graphs=2)
def gpt_tied(compile):
    model = GPT()
    f = compile(model, fullgraph=True)
    tokens = ft.randint(0, 17, (3, 8))
    targets = tokens.roll(-1, 1)
    targets[:, -1] = -1
    opt = ft.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        logits, loss = f(tokens, targets)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        losses.append(loss.item())
    with ft.no_grad():
        return losses, f(tokens)[0], model.state_dict()


@program()
def gpt_with_dropout(compile):
    model = GPT(drop=0.3)
    f = compile(model)
    tokens = ft.randint(0, 17, (3, 8))
    losses = []
    for _ in range(3):
        _, loss = f(tokens, tokens)
        loss.backward()
        losses.append(loss.detach())
    return losses, [p.grad for p in model.parameters()], ft.rand(2)


@program()
def transformer_encoder(compile):
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=True)
    model = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(16), enable_nested_tensor=False)
    pad = ft.zeros(2, 5, dtype=ft.bool)
    pad[0, 3:] = True
    return trained(compile(model), ft.randn(2, 5, 16), src_key_padding_mask=pad, leaves=model)


@program(graphs=2)
def transformer_encoder_dropout(compile):
    layer = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.1, activation="gelu")
    model = nn.TransformerEncoder(layer, 1)
    f = compile(model, fullgraph=True)
    x, mask = ft.randn(6, 2, 16), nn.Transformer.generate_square_subsequent_mask(6)
    first = trained(f, x, mask=mask, leaves=model)
    f.eval()
    return first, f(x, mask=mask, is_causal=True)


@program(rtol=1e-4)
def lstm(compile):
    model = nn.LSTM(5, 6, num_layers=2, batch_first=True, bidirectional=True)
    return trained(compile(model), ft.randn(3, 4, 5, requires_grad=True), leaves=model)


@program()
def gru_in_a_model(compile):
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.rnn, self.out = nn.Embedding(9, 5, padding_idx=0), nn.GRU(5, 7), nn.Linear(7, 4)

        def forward(self, tokens, h=None):
            y, h = self.rnn(self.emb(tokens), h)
            return F.log_softmax(self.out(y), -1), h

    model = Tagger()
    return trained(compile(model), ft.randint(0, 9, (6, 2)), leaves=model)


@program()
def hand_written_rnn(compile):
    w, u, b = (ft.randn(*s, requires_grad=True) for s in ((4, 6), (6, 6), (6,)))

    def f(xs, h):
        outs = []
        for x in xs.unbind(0):
            h = ft.tanh(x @ w + h @ u + b)
            outs.append(h)
        return ft.stack(outs), h
    return trained(compile(f), ft.randn(5, 3, 4), ft.zeros(3, 6), leaves=[w, u, b])


@program()
def lstm_cells(compile):
    cell, gru = nn.LSTMCell(4, 5), nn.GRUCell(5, 5)

    def f(xs):
        h, c, g = ft.zeros(2, 5), ft.zeros(2, 5), ft.zeros(2, 5)
        for t in range(xs.shape[0]):
            h, c = cell(xs[t], (h, c))
            g = gru(h, g)
        return h, c, g
    return trained(compile(f), ft.randn(4, 2, 4), leaves=[*cell.parameters(), *gru.parameters()])


@program()
def embeddings(compile):
    model = nn.ModuleList([nn.Embedding(10, 4, padding_idx=2), nn.EmbeddingBag(10, 4, mode="mean"),
                           nn.EmbeddingBag(10, 4, mode="sum"), nn.EmbeddingBag(10, 4, mode="max")])

    def f(at, bags):
        return model[0](at), model[1](at), model[2](bags, ft.tensor([0, 3, 5])), model[3](at)
    return trained(compile(f), ft.tensor([[1, 2, 3], [2, 9, 0]]), ft.tensor([1, 4, 4, 7, 8, 1]), leaves=model)


@program()
def norms(compile):
    model = nn.ModuleList([nn.LayerNorm((4, 5)), nn.GroupNorm(3, 6), nn.InstanceNorm1d(6, affine=True),
                           nn.RMSNorm(5), nn.LocalResponseNorm(2), nn.BatchNorm1d(6)])

    def f(x):
        return (model[0](x[:, :4]), model[1](x), model[2](x), model[3](x), model[4](x), model[5](x),
                F.normalize(x, dim=1), F.normalize(x, p=1, dim=-1))
    return trained(compile(f), ft.randn(3, 6, 5, requires_grad=True), leaves=model), model.state_dict()


@program()
def cross_entropies(compile):
    w = ft.rand(5) + 0.5

    def f(x, t, soft, pix):
        return (F.cross_entropy(x, t, ignore_index=3), F.cross_entropy(x, t, weight=w, label_smoothing=0.1),
                F.cross_entropy(x, soft), F.cross_entropy(x, t, reduction="none"), F.cross_entropy(x, t, reduction="sum"),
                F.nll_loss(F.log_softmax(x, 1), t, weight=w, ignore_index=0),
                F.cross_entropy(x.view(2, 3, 5).transpose(1, 2), pix, ignore_index=-100))
    t = ft.tensor([0, 3, 4, 1, 3, 2])
    return trained(compile(f), ft.randn(6, 5, requires_grad=True), t, F.softmax(ft.randn(6, 5), 1),
                   ft.tensor([[0, -100, 1], [2, 4, 4]]))


@program()
def losses(compile):
    def f(x, y, p, s):
        return (F.mse_loss(x, y), F.l1_loss(x, y, reduction="sum"), F.smooth_l1_loss(x, y, beta=0.5), F.huber_loss(x, y),
                F.binary_cross_entropy(p, (y > 0).float()),
                F.binary_cross_entropy_with_logits(x, (y > 0).float(), pos_weight=ft.full((4,), 2.0)),
                F.kl_div(F.log_softmax(x, 1), F.softmax(y, 1), reduction="batchmean"), F.soft_margin_loss(x, s),
                F.poisson_nll_loss(x, p), F.gaussian_nll_loss(x, y, p), F.hinge_embedding_loss(x, s),
                F.margin_ranking_loss(x, y, s), F.triplet_margin_loss(x, y, p), F.cosine_embedding_loss(x, y, s[:, 0]),
                F.multi_margin_loss(x, ft.tensor([0, 1, 3])), F.multilabel_soft_margin_loss(x, (y > 0).float()))
    return trained(compile(f), ft.randn(3, 4, requires_grad=True), ft.randn(3, 4, requires_grad=True),
                   (ft.rand(3, 4) * 0.8 + 0.1).requires_grad_(), ft.randn(3, 4).sign())


@program()
def activations(compile):
    def f(x):
        return [g(x) for g in (F.relu, F.relu6, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.softplus, F.softsign,
                               F.hardtanh, F.hardswish, F.hardsigmoid, F.logsigmoid, F.tanhshrink, F.softshrink,
                               F.hardshrink, ft.sigmoid, F.glu)] + [F.prelu(x, ft.tensor([0.2])), F.softmin(x, 0)]
    return trained(compile(f), (ft.randn(4, 6) * 3).requires_grad_())


@program()
def variational_autoencoder(compile):
    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc, self.mu, self.var, self.dec = nn.Linear(8, 6), nn.Linear(6, 2), nn.Linear(6, 2), nn.Linear(2, 8)

        def forward(self, x):
            h = F.relu(self.enc(x))
            mu, logvar = self.mu(h), self.var(h)
            z = mu + ft.randn_like(mu) * ft.exp(0.5 * logvar)
            return self.dec(z), -0.5 * ft.sum(1 + logvar - mu.pow(2) - logvar.exp())
    model = VAE()
    f = compile(model)
    return trained(f, ft.randn(5, 8), leaves=model), trained(f, ft.randn(5, 8), leaves=model)


@program()
def mixture_of_experts(compile):
    class MoE(nn.Module):
        def __init__(self, n=4, k=2, d=6):
            super().__init__()
            self.gate, self.k = nn.Linear(d, n), k
            self.experts = nn.ModuleList(nn.Linear(d, d) for _ in range(n))

        def forward(self, x):
            score, which = self.gate(x).topk(self.k, dim=-1)
            score = score.softmax(-1)
            out = ft.zeros_like(x)
            for i, expert in enumerate(self.experts):
                w = ft.where(which == i, score, ft.zeros_like(score)).sum(-1, keepdim=True)
                out = out + w * expert(x)
            return out
    model = MoE()
    return trained(compile(model), ft.randn(7, 6), leaves=model)


@program()
def rotary_llama_block(compile):
    class Llama(nn.Module):
        def __init__(self, d=16, h=2):
            super().__init__()
            self.norm, self.q, self.k, self.v = nn.RMSNorm(d), *(nn.Linear(d, d, bias=False) for _ in range(3))
            self.up, self.gate, self.down = nn.Linear(d, 32, False), nn.Linear(d, 32, False), nn.Linear(32, d, False)
            self.h = h
            inv = 1.0 / (10000 ** (ft.arange(0, d // h, 2).float() / (d // h)))
            self.register_buffer("inv", inv, persistent=False)

        def rotate(self, x):
            t = ft.arange(x.shape[-2], device=x.device).float()
            emb = ft.outer(t, self.inv)
            cos, sin = ft.cat([emb, emb], -1).cos(), ft.cat([emb, emb], -1).sin()
            a, b = x.chunk(2, dim=-1)
            return x * cos + ft.cat((-b, a), dim=-1) * sin

        def forward(self, x):
            b, t, d = x.shape
            n = self.norm(x)
            q, k, v = (m(n).view(b, t, self.h, -1).transpose(1, 2) for m in (self.q, self.k, self.v))
            att = (self.rotate(q) @ self.rotate(k).transpose(-2, -1)) / math.sqrt(d // self.h)
            att = att.masked_fill(ft.triu(ft.ones(t, t, dtype=ft.bool), diagonal=1), float("-inf")).softmax(-1)
            x = x + (att @ v).transpose(1, 2).reshape(b, t, d)
            return x + self.down(F.silu(self.gate(x)) * self.up(x))
    model = Llama()
    return trained(compile(model), ft.randn(2, 5, 16), leaves=model)


@program(graphs=1)
def training_with_sgd_and_schedule(compile):
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 3))
    opt = ft.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3, nesterov=True)
    schedule = ft.optim.lr_scheduler.CosineAnnealingLR(opt, 5)
    x, y = ft.randn(10, 6), ft.randint(0, 3, (10,))

    @compile
    def loss_of(x, y):
        return F.cross_entropy(model(x), y)
    seen = []
    for _ in range(5):
        opt.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        opt.step()
        schedule.step()
        seen.append(loss.item())
    return seen, model.state_dict()


@program()
def ctc_and_interpolation(compile):
    def f(x, img):
        up = F.interpolate(img, scale_factor=2, mode="nearest")
        return up, F.interpolate(img, size=(5, 7), mode="bilinear", align_corners=False), F.pixel_shuffle(x, 2)
    return trained(compile(f), ft.randn(1, 8, 3, 3, requires_grad=True), ft.randn(1, 2, 4, 4, requires_grad=True))


@program()
def multihead_attention_module(compile):
    model = nn.MultiheadAttention(8, 2, batch_first=True)
    x, y = ft.randn(2, 3, 8), ft.randn(2, 5, 8)
    return trained(compile(model), x, y, y, leaves=model)


@program(graphs=3)
def gan_step(compile):
    gen, dis = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4)), nn.Sequential(nn.Linear(4, 1))
    g, d = compile(gen, fullgraph=True), compile(dis, fullgraph=True)
    fake = g(ft.randn(5, 3))
    loss = F.binary_cross_entropy_with_logits(d(fake.detach()), ft.zeros(5, 1))
    loss.backward()
    for p in dis.parameters():
        p.requires_grad_(True)
    F.softplus(-d(fake)).mean().backward()
    return [p.grad for p in (*gen.parameters(), *dis.parameters())]

"""Models of many kinds: a forward and a backward pass, or a few steps of training."""

from __future__ import annotations

import math

from .registry import program


def train(torch, model, loss_of, steps=4, lr=0.05, optimizer=None):
    """The losses of a few steps."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@program
def mlp_classifier(torch):
    nn, F = torch.nn, torch.nn.functional

    class MLP(nn.Module):
        def __init__(self, sizes):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
            self.drop = nn.Dropout(0.25)

        def forward(self, x):
            for layer in self.layers[:-1]:
                x = self.drop(F.relu(layer(x)))
            return self.layers[-1](x)

    x, y = torch.randn(32, 8), torch.randint(0, 3, (32,))
    model = MLP([8, 16, 16, 3])
    losses = train(torch, model, lambda: F.cross_entropy(model(x), y, label_smoothing=0.1))
    model.eval()
    with torch.no_grad():
        accuracy = (model(x).argmax(dim=-1) == y).float().mean()
    return [losses, accuracy, str(model), sum(p.numel() for p in model.parameters())]


@program
def resnet(torch):
    nn = torch.nn

    class Block(nn.Module):
        expansion = 1

        def __init__(self, inplanes, planes, stride=1):
            super().__init__()
            self.conv1 = nn.Conv2d(inplanes, planes, 3, stride=stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(planes)
            self.relu = nn.ReLU(inplace=True)
            self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(planes)
            self.downsample = None
            if stride != 1 or inplanes != planes:
                self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

        def forward(self, x):
            identity = x if self.downsample is None else self.downsample(x)
            out = self.relu(self.bn1(self.conv1(x)))
            out = self.bn2(self.conv2(out))
            out += identity
            return self.relu(out)

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(
                nn.Conv2d(3, 8, 7, 2, 3, bias=False),
                nn.BatchNorm2d(8),
                nn.ReLU(True),
                nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
            )
            self.layer1 = nn.Sequential(Block(8, 8), Block(8, 8))
            self.layer2 = nn.Sequential(Block(8, 16, 2), Block(16, 16))
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.fc = nn.Linear(16, 10)
            for m in self.modules():
                if isinstance(m, nn.Conv2d):
                    nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                elif isinstance(m, nn.BatchNorm2d):
                    nn.init.constant_(m.weight, 1)
                    nn.init.constant_(m.bias, 0)

        def forward(self, x):
            x = self.layer2(self.layer1(self.stem(x)))
            return self.fc(torch.flatten(self.avgpool(x), 1))

    model = ResNet()
    x, y = torch.randn(4, 3, 32, 32), torch.tensor([1, 3, 5, 7])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, nesterov=True)
    criterion = nn.CrossEntropyLoss()
    losses = train(torch, model, lambda: criterion(model(x), y), 3, optimizer=optimizer)
    model.eval()
    return [
        losses,
        model(x)[0, :3],
        list(model.state_dict())[:9],
        model.layer2[0].bn1.running_var[:4],
        model.layer1[0].bn1.num_batches_tracked,
    ]


@program
def unet(torch):
    nn = torch.nn

    def double(i, o):
        return nn.Sequential(
            nn.Conv2d(i, o, 3, padding=1),
            nn.GroupNorm(2, o),
            nn.SiLU(),
            nn.Conv2d(o, o, 3, padding="same", padding_mode="reflect"),
            nn.InstanceNorm2d(o, affine=True),
            nn.LeakyReLU(0.1),
        )

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.mid = double(1, 4), double(4, 8)
            self.pool = nn.MaxPool2d(2)
            self.up = nn.ConvTranspose2d(8, 4, kernel_size=2, stride=2)
            self.out, self.head = double(8, 4), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            skip = self.down(x)
            x = self.up(self.mid(self.pool(skip)))
            x = torch.nn.functional.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            return self.head(self.out(torch.cat([x, skip], dim=1)))

    model = UNet()
    x, y = torch.randn(2, 1, 18, 18), torch.randint(0, 2, (2, 18, 18))
    weight = torch.tensor([1.0, 3.0])
    losses = train(torch, model, lambda: torch.nn.functional.cross_entropy(model(x), y, weight=weight, ignore_index=0))
    return [losses, model(x).shape, model.up.weight.grad.abs().mean(), str(model)]


@program
def depthwise_separable(torch):
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8, momentum=0.01, eps=1e-3),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, bias=False),
        nn.Hardswish(),
        nn.Conv2d(8, 16, 1),
        nn.ELU(),
        nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.LazyLinear(5),
    )
    x = torch.randn(2, 3, 17, 19, requires_grad=True)
    y = model(x)
    y.logsumexp(-1).sum().backward()
    return [y, x.grad.sum((2, 3)), model[3].weight.grad.flatten()[:5], str(model[3]), str(model[-1])]


@program
def conv1d_and_3d(torch):
    nn, F = torch.nn, torch.nn.functional
    audio = nn.Sequential(
        nn.Conv1d(2, 6, 5, padding=2, dilation=1, groups=2),
        nn.BatchNorm1d(6),
        nn.GLU(dim=1),
        nn.MaxPool1d(2),
        nn.ConvTranspose1d(3, 2, 4, stride=2, padding=1, output_padding=1),
    )
    x = torch.randn(3, 2, 16, requires_grad=True)
    y = audio(x)
    video = nn.Sequential(
        nn.Conv3d(1, 3, (3, 3, 1), padding=(1, 0, 0)),
        nn.BatchNorm3d(3),
        nn.MaxPool3d(2, ceil_mode=True),
        nn.ConvTranspose3d(3, 1, 2, bias=False),
    )
    z = video(torch.randn(1, 1, 4, 6, 5))
    (y.pow(2).mean() + z.abs().sum()).backward()
    causal = F.conv1d(F.pad(x, (4, 0)), torch.ones(2, 1, 5), groups=2)
    unbatched = nn.Conv2d(1, 1, 2)(torch.ones(1, 4, 4))
    return [
        y,
        z,
        x.grad,
        causal.shape,
        unbatched,
        F.unfold(torch.arange(16.0).view(1, 1, 4, 4), 2, stride=2),
        F.fold(torch.ones(1, 4, 4), (4, 4), 2, stride=2),
    ]


@program
def transformer_of_its_own(torch):
    nn, F = torch.nn, torch.nn.functional

    class Attention(nn.Module):
        def __init__(self, dim, heads, length):
            super().__init__()
            self.heads = heads
            self.qkv = nn.Linear(dim, 3 * dim, bias=False)
            self.proj = nn.Linear(dim, dim)
            self.register_buffer("mask", torch.tril(torch.ones(length, length)).view(1, 1, length, length))

        def forward(self, x):
            B, T, C = x.size()
            q, k, v = self.qkv(x).split(C, dim=2)
            q, k, v = (y.view(B, T, self.heads, C // self.heads).transpose(1, 2) for y in (q, k, v))
            att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            att = att.masked_fill(self.mask[:, :, :T, :T] == 0, float("-inf"))
            y = F.softmax(att, dim=-1) @ v
            same = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            assert torch.allclose(y, same, atol=1e-5)
            return self.proj(y.transpose(1, 2).contiguous().view(B, T, C))

    class Block(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim, bias=False)
            self.attn = Attention(dim, 2, 8)
            self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim))

        def forward(self, x):
            x = x + self.attn(self.ln1(x))
            return x + self.mlp(self.ln2(x))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.transformer = nn.ModuleDict(
                {
                    "wte": nn.Embedding(11, 8),
                    "wpe": nn.Embedding(8, 8),
                    "h": nn.ModuleList([Block(8) for _ in range(2)]),
                    "ln_f": nn.LayerNorm(8),
                }
            )
            self.lm_head = nn.Linear(8, 11, bias=False)
            self.transformer.wte.weight = self.lm_head.weight
            self.apply(self._init_weights)
            for name, p in self.named_parameters():
                if name.endswith("proj.weight"):
                    torch.nn.init.normal_(p, mean=0.0, std=0.02 / math.sqrt(4))

        def _init_weights(self, module):
            if isinstance(module, nn.Linear):
                torch.nn.init.normal_(module.weight, mean=0.0, std=0.2)
                if module.bias is not None:
                    torch.nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                torch.nn.init.normal_(module.weight, mean=0.0, std=0.2)

        def forward(self, idx, targets=None):
            pos = torch.arange(0, idx.size(1), dtype=torch.long, device=idx.device)
            x = self.transformer.wte(idx) + self.transformer["wpe"](pos)
            for block in self.transformer.h:
                x = block(x)
            logits = self.lm_head(self.transformer.ln_f(x))
            if targets is None:
                return logits[:, [-1], :], None
            return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)

        @torch.no_grad()
        def generate(self, idx, n, temperature=1.0, top_k=None):
            for _ in range(n):
                logits, _ = self(idx[:, -8:])
                logits = logits[:, -1, :] / temperature
                if top_k is not None:
                    v, _ = torch.topk(logits, min(top_k, logits.size(-1)))
                    logits[logits < v[:, [-1]]] = -float("Inf")
                idx = torch.cat((idx, torch.multinomial(F.softmax(logits, dim=-1), num_samples=1)), dim=1)
            return idx

    model = GPT()
    decay = {n: p for n, p in model.named_parameters() if p.dim() >= 2}
    plain = {n: p for n, p in model.named_parameters() if p.dim() < 2}
    optimizer = torch.optim.AdamW(
        [{"params": list(decay.values()), "weight_decay": 0.1}, {"params": list(plain.values()), "weight_decay": 0.0}],
        lr=1e-2,
        betas=(0.9, 0.95),
    )
    data = torch.randint(11, (64,))
    ix = torch.randint(len(data) - 8, (4,))
    x = torch.stack([data[i : i + 8] for i in ix])
    y = torch.stack([data[i + 1 : i + 9] for i in ix])
    losses = train(torch, model, lambda: model(x, y)[1], 4, optimizer=optimizer)
    model.eval()
    return [losses, list(decay), model.generate(x[:2, :3], 6, temperature=0.8, top_k=4), str(optimizer), str(model)]


@program
def transformer_layers(torch):
    nn = torch.nn
    results = []
    layer = nn.TransformerEncoderLayer(
        d_model=8, nhead=2, dim_feedforward=16, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    encoder = nn.TransformerEncoder(layer, num_layers=2, norm=nn.LayerNorm(8), enable_nested_tensor=False)
    src = torch.randn(3, 5, 8)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 4 + [True]])
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    results += [
        causal,
        encoder(src),
        encoder(src, mask=causal),
        encoder(src, src_key_padding_mask=padding),
        encoder(src, mask=causal, is_causal=True),
    ]
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, dropout=0.0, batch_first=True), 1)
    tgt = torch.randn(3, 4, 8)
    mask = nn.Transformer.generate_square_subsequent_mask(4)
    out = decoder(tgt, encoder(src), tgt_mask=mask, memory_key_padding_mask=padding)
    out.sum().backward()
    results += [out, decoder.layers[0].linear1.weight.grad]
    whole = nn.Transformer(d_model=8, nhead=4, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=8, dropout=0.1)
    results += [whole(torch.randn(5, 2, 8), torch.randn(3, 2, 8)), list(whole.state_dict())[:6], str(layer)]
    encoder.eval()
    with torch.no_grad():
        results.append(encoder(src, src_key_padding_mask=padding)[0])
    return results


@program
def multihead_attention_masks(torch):
    nn = torch.nn
    mha = nn.MultiheadAttention(embed_dim=8, num_heads=2, batch_first=True)
    q, k = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    boolean = torch.tensor([[False, True, False, False, True]] * 3)
    additive = torch.zeros(3, 5).masked_fill(boolean, float("-inf"))
    per_head = torch.rand(4, 3, 5) > 0.7
    padding = torch.tensor([[False] * 5, [False, False, True, True, True]])
    float_padding = torch.zeros(2, 5).masked_fill(padding, float("-inf"))
    results = [
        mha(q, k, k),
        mha(q, k, k, attn_mask=boolean),
        mha(q, k, k, attn_mask=additive),
        mha(q, k, k, attn_mask=per_head, average_attn_weights=False),
        mha(q, k, k, key_padding_mask=padding),
        mha(q, k, k, key_padding_mask=float_padding, attn_mask=additive),
        mha(q, k, k, need_weights=False)[1],
        mha(q[0], k[0], k[0]),
    ]
    cross = nn.MultiheadAttention(8, 4, kdim=6, vdim=5, bias=False, add_zero_attn=True)
    results += [cross(torch.randn(3, 2, 8), torch.randn(4, 2, 6), torch.randn(4, 2, 5)), list(cross.state_dict())]
    biased = nn.MultiheadAttention(8, 2, add_bias_kv=True)
    y, w = biased(q, q, q, is_causal=True, attn_mask=nn.Transformer.generate_square_subsequent_mask(2))
    y.sum().backward()
    return results + [y, w, biased.bias_k.grad, biased.in_proj_weight.grad.abs().sum(1)]


@program
def scaled_dot_product_attention(torch):
    F = torch.nn.functional
    q, k, v = (torch.randn(2, 4, 3, 8, requires_grad=True) for _ in range(3))
    bias = torch.randn(3, 3)
    keep = torch.ones(3, 3, dtype=torch.bool).tril()
    results = [
        F.scaled_dot_product_attention(q, k, v),
        F.scaled_dot_product_attention(q, k, v, attn_mask=bias),
        F.scaled_dot_product_attention(q, k, v, attn_mask=keep, scale=0.5),
        F.scaled_dot_product_attention(q, k[:, :2], v[:, :2], is_causal=True, enable_gqa=True),
    ]
    sum((r * (i + 1)).sum() for i, r in enumerate(results)).backward()
    return [*results, q.grad, k.grad, v.grad]


@program
def vae(torch):
    nn, F = torch.nn, torch.nn.functional

    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc, self.mu, self.logvar = nn.Linear(12, 8), nn.Linear(8, 2), nn.Linear(8, 2)
            self.dec = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 12), nn.Sigmoid())

        def reparameterize(self, mu, logvar):
            std = torch.exp(0.5 * logvar)
            return mu + torch.randn_like(std) * std

        def forward(self, x):
            h = F.relu(self.enc(x))
            mu, logvar = self.mu(h), self.logvar(h)
            return self.dec(self.reparameterize(mu, logvar)), mu, logvar

    model, x = VAE(), torch.rand(6, 12)

    def loss():
        recon, mu, logvar = model(x)
        kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        return F.binary_cross_entropy(recon, x, reduction="sum") + kld

    return train(torch, model, loss, 5, optimizer=torch.optim.Adam(model.parameters(), lr=1e-2))


@program
def gan_step(torch):
    nn = torch.nn
    G = nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    D = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2, inplace=True), nn.Dropout(0.3), nn.Linear(8, 1))
    g_opt = torch.optim.Adam(G.parameters(), lr=1e-2, betas=(0.5, 0.999))
    d_opt = torch.optim.RMSprop(D.parameters(), lr=1e-3, centered=True, momentum=0.1)
    bce, history = nn.BCEWithLogitsLoss(), []
    for _ in range(3):
        real = torch.randn(8, 2) * 0.5 + 1
        z = torch.randn(8, 4)
        fake = G(z)
        d_opt.zero_grad()
        d_loss = bce(D(real), torch.ones(8, 1)) + bce(D(fake.detach()), torch.zeros(8, 1))
        d_loss.backward()
        d_opt.step()
        g_opt.zero_grad(set_to_none=True)
        g_loss = bce(D(fake), torch.full((8, 1), 1.0))
        g_loss.backward()
        g_opt.step()
        history.append((d_loss.item(), g_loss.item()))
    return [history, G[0].weight.grad.norm(), G[1].running_mean]


@program
def wgan_gradient_penalty(torch):
    critic = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1))
    real, fake = torch.randn(5, 3), torch.randn(5, 3)
    eps = torch.rand(5, 1)
    mixed = (eps * real + (1 - eps) * fake).requires_grad_(True)
    score = critic(mixed)
    (grad,) = torch.autograd.grad(
        outputs=score, inputs=mixed, grad_outputs=torch.ones_like(score), create_graph=True, retain_graph=True, only_inputs=True
    )
    penalty = ((grad.norm(2, dim=1) - 1) ** 2).mean()
    loss = critic(fake).mean() - critic(real).mean() + 10 * penalty
    loss.backward()
    return [loss, grad, [p.grad for p in critic.parameters()]]


@program
def dqn(torch):
    nn, F = torch.nn, torch.nn.functional
    policy = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    target = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    target.load_state_dict(policy.state_dict())
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-2, amsgrad=True)
    state, nxt = torch.randn(16, 4), torch.randn(16, 4)
    action, reward = torch.randint(2, (16, 1)), torch.randn(16)
    final = torch.rand(16) < 0.25
    losses = []
    for _ in range(4):
        q = policy(state).gather(1, action)
        future = torch.zeros(16)
        with torch.no_grad():
            future[~final] = target(nxt[~final]).max(1).values
        loss = nn.SmoothL1Loss()(q, (reward + 0.99 * future).unsqueeze(1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(policy.parameters(), 0.05)
        optimizer.step()
        t, p = target.state_dict(), policy.state_dict()
        for key in p:
            t[key] = p[key] * 0.1 + t[key] * 0.9
        target.load_state_dict(t)
        losses.append(loss.item())
    greedy = policy(state[:1]).max(1)[1].view(1, 1)
    return [losses, greedy, F.huber_loss(q, torch.zeros_like(q), delta=0.5), target[0].bias]


@program
def graph_network(torch):
    nn = torch.nn

    class GCN(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin1, self.lin2 = nn.Linear(5, 8), nn.Linear(8, 3)

        def propagate(self, x, src, dst):
            deg = torch.zeros(x.size(0)).scatter_add_(0, dst, torch.ones(dst.size(0)))
            norm = deg.clamp(min=1).rsqrt()
            messages = x[src] * (norm[src] * norm[dst]).unsqueeze(-1)
            return torch.zeros_like(x).index_add_(0, dst, messages)

        def forward(self, x, edges):
            src, dst = edges
            x = torch.relu(self.propagate(self.lin1(x), src, dst))
            return self.propagate(self.lin2(x), src, dst).log_softmax(dim=1)

    edges = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 2], [1, 2, 3, 4, 5, 0, 3, 5]])
    x, y = torch.randn(6, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    train_mask = torch.tensor([1, 1, 0, 1, 0, 1], dtype=torch.bool)
    model = GCN()
    losses = train(torch, model, lambda: torch.nn.functional.nll_loss(model(x, edges)[train_mask], y[train_mask]), 4, 0.2)
    scores = torch.randn(8)
    index = edges[1]
    peak = torch.full((6,), float("-inf")).scatter_reduce(0, index, scores, reduce="amax", include_self=True)
    weights = (scores - peak[index]).exp()
    weights = weights / torch.zeros(6).index_add(0, index, weights)[index]
    adjacency = torch.zeros(6, 6)
    adjacency[edges[0], edges[1]] = 1.0
    return [losses, weights, adjacency.sum(0), adjacency.nonzero(), torch.bincount(index, minlength=6)]


@program
def contrastive(torch):
    nn, F = torch.nn, torch.nn.functional
    encoder = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    x = torch.randn(5, 6)
    a, b = encoder(x + 0.1 * torch.randn_like(x)), encoder(x + 0.1 * torch.randn_like(x))
    z = F.normalize(torch.cat([a, b]), dim=1)
    sim = z @ z.T / 0.5
    sim = sim.masked_fill(torch.eye(10, dtype=torch.bool), -1e9)
    labels = torch.cat([torch.arange(5) + 5, torch.arange(5)])
    loss = F.cross_entropy(sim, labels)
    loss.backward()
    triplet = F.triplet_margin_loss(a.detach(), b.detach(), b.detach().roll(1, 0), margin=0.3, p=2)
    cosine = F.cosine_embedding_loss(a.detach(), b.detach(), torch.tensor([1, -1, 1, -1, 1]), margin=0.1)
    pairs = torch.cdist(a.detach(), b.detach())
    return [
        loss,
        encoder[0].weight.grad,
        triplet,
        cosine,
        F.cosine_similarity(a, b),
        pairs,
        F.pairwise_distance(a.detach(), b.detach()),
        F.margin_ranking_loss(a[:, 0], b[:, 0], torch.ones(5)),
    ]


@program
def diffusion_step(torch):
    nn, F = torch.nn, torch.nn.functional
    T = 10
    betas = torch.linspace(1e-4, 0.02, T)
    alphas_cumprod = torch.cumprod(1.0 - betas, dim=0)
    prev = F.pad(alphas_cumprod[:-1], (1, 0), value=1.0)

    def embedding(t, dim):
        freq = torch.exp(torch.arange(dim // 2) * -(math.log(10000) / (dim // 2 - 1)))
        args = t[:, None] * freq[None, :]
        return torch.cat((args.sin(), args.cos()), dim=-1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.time, self.inp, self.out = nn.Linear(8, 16), nn.Linear(2, 16), nn.Linear(16, 2)

        def forward(self, x, t):
            return self.out(F.silu(self.inp(x) + self.time(embedding(t, 8))))

    def extract(a, t, shape):
        return a.gather(-1, t).reshape(t.shape[0], *((1,) * (len(shape) - 1)))

    model, x0 = Net(), torch.randn(6, 2)
    t = torch.randint(0, T, (6,)).long()
    noise = torch.randn_like(x0)
    noisy = extract(alphas_cumprod.sqrt(), t, x0.shape) * x0 + extract((1 - alphas_cumprod).sqrt(), t, x0.shape) * noise
    losses = train(torch, model, lambda: F.mse_loss(model(noisy, t), noise), 3)
    with torch.inference_mode():
        x = torch.randn(2, 2)
        for i in reversed(range(T)):
            step = torch.full((2,), i, dtype=torch.long)
            mean = (x - betas[i] * model(x, step) / (1 - alphas_cumprod[i]).sqrt()) / (1 - betas[i]).sqrt()
            variance = betas[i] * (1 - prev[i]) / (1 - alphas_cumprod[i])
            x = mean if i == 0 else mean + variance.sqrt() * torch.randn_like(x)
    return [losses, x, embedding(t, 8)[0]]


@program
def mixture_of_experts(torch):
    nn, F = torch.nn, torch.nn.functional

    class MoE(nn.Module):
        def __init__(self, dim=4, experts=3, k=2):
            super().__init__()
            self.k, self.gate = k, nn.Linear(dim, experts, bias=False)
            self.experts = nn.ModuleList([nn.Sequential(nn.Linear(dim, 8), nn.SiLU(), nn.Linear(8, dim)) for _ in range(experts)])

        def forward(self, x):
            weights, chosen = torch.topk(self.gate(x), self.k)
            weights = F.softmax(weights, dim=1, dtype=torch.float).to(x.dtype)
            out = torch.zeros_like(x)
            for i, expert in enumerate(self.experts):
                rows, nth = torch.where(chosen == i)
                out[rows] += weights[rows, nth, None] * expert(x[rows])
            return out

    model, x = MoE(), torch.randn(6, 4, requires_grad=True)
    y = model(x)
    y.square().sum().backward()
    return [y, x.grad, model.gate.weight.grad, [e[0].bias.grad is None for e in model.experts]]


@program
def vision_transformer(torch):
    nn = torch.nn

    class ViT(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = nn.Conv2d(3, 8, kernel_size=4, stride=4)
            self.cls = nn.Parameter(torch.zeros(1, 1, 8))
            self.pos = nn.Parameter(torch.empty(1, 5, 8))
            nn.init.trunc_normal_(self.pos, std=0.02)
            self.norm, self.attn = nn.LayerNorm(8, eps=1e-6), nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            x = self.patch(x).flatten(2).transpose(1, 2)
            x = torch.cat((self.cls.expand(x.shape[0], -1, -1), x), dim=1) + self.pos
            y = self.norm(x)
            x = x + self.attn(y, y, y, need_weights=False)[0]
            return self.head(x[:, 0])

    model = ViT()
    y = model(torch.randn(2, 3, 8, 8))
    y.sum().backward()
    patches = torch.arange(2 * 16.0).reshape(1, 2, 4, 4).unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).flatten(3)
    return [y, model.cls.grad, model.pos.grad.sum(), patches, [n for n, _ in model.named_parameters()]]

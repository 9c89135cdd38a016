"""More dynamic shapes and changing numbers."""

import math

from ..given import F, ints, nn, program, rand, torch

X = rand(3, 4)


def lens(*ns, d=4):
    return [(rand(n, d),) for n in ns]


@program(*lens(3, 5, 7, 9))
def batch_changes(x):
    return (x * 2).sum(0) / x.size(0)


@program(*lens(3, 5, 7, 1, 9))
def batch_one_special(x):
    return x + x.mean(0, keepdim=True)


@program(*lens(4, 6, 8, 10))
def reshape_symbolic(x):
    n, d = x.shape
    y = x.reshape(n // 2, 2 * d)
    z = y.view(-1, d)
    return y.sum(1), z.permute(1, 0), x.view(n * d), x.flatten().unflatten(0, (n, d))


@program(*lens(3, 5, 8, 9))
def slicing_symbolic(x):
    n = len(x)
    return x[: n // 2], x[n // 2 :], x[-2:], x[1:-1], x[::2], x.narrow(0, 1, n - 2), x[n - 1]


@program(*lens(3, 5, 8, 9))
def cat_and_pad(x):
    n = x.shape[0]
    p = torch.zeros(16 - n, 4)
    y = torch.cat([x, p])
    z = F.pad(x, (0, 0, 0, 16 - n))
    return y, z, torch.cat([x, x], 1), torch.stack([x, x])


@program(*lens(3, 5, 8, 9))
def arange_mask(x):
    n = x.size(0)
    pos = torch.arange(n)
    mask = pos[None] <= pos[:, None]
    return (x @ x.T).masked_fill(~mask, -1e9).softmax(-1), pos * 2, torch.full((n, n), 1.0).triu(1), torch.ones(n, n).tril()


@program(*lens(8, 16, 24, 32))
def divisibility_guard(x):
    if x.size(0) % 8 == 0:
        return x.view(8, -1).sum(0)
    return x.sum()


@program(*lens(8, 16, 9, 24, 11))
def divisibility_guard_mixed(x):
    if x.size(0) % 8 == 0:
        return x.view(8, -1).sum(1)
    return x.sum(0)


@program(*lens(3, 6, 12, 24))
def comparison_guard(x):
    if x.shape[0] > 10:
        return x * 2
    return x + 1


@program((rand(3, 4), rand(3, 4)), (rand(5, 4), rand(5, 4)), (rand(7, 4), rand(7, 4)))
def two_inputs_same_size(a, b):
    return a + b, torch.cat([a, b]).shape


@program((rand(3, 4), rand(5, 4)), (rand(5, 4), rand(7, 4)), (rand(7, 4), rand(2, 4)))
def two_inputs_other_sizes(a, b):
    return a @ b.T


@program((rand(2, 3), rand(3)), (rand(4, 5), rand(5)), (rand(6, 7), rand(7)))
def broadcasting_symbolic(a, b):
    return a * b + b.unsqueeze(0).expand_as(a), b.expand(a.shape[0], -1), torch.broadcast_to(b, a.shape)


@program((X, 2), (X, 3), (X, 4), (X, 5))
def repeat_by_int(x, n):
    return x.repeat(n, 1).sum(0) + n, x * n**2, x.unsqueeze(0).expand(n, 3, 4).sum(0)


@program((X, 0.1), (X, 0.2), (X, 0.3), (X, 0.4))
def float_in_ops(x, p):
    return torch.clamp(x, -p, p), x * p, F.leaky_relu(x, p), torch.full((2,), p), x.pow(p + 1)


@program((X, 1), (X, 2), (X, 3), (X, 4))
def int_as_loop_count(x, n):
    for i in range(n):
        x = x * 2 + i
    return x


@program((X, (3, 4)), (X, (4, 3)), (X, (2, 6)), (X, (12, 1)))
def shape_as_argument(x, s):
    return x.reshape(s) + 1, math.prod(s)


@program(*[([rand(n, 4) for n in ns],) for ns in ((2, 3), (4, 5), (6, 3))])
def padded_batch(xs):
    m = max(x.size(0) for x in xs)
    return torch.stack([F.pad(x, (0, 0, 0, m - x.size(0))) for x in xs])


@program((ints(2, 5, high=9),), (ints(3, 6, high=9),), (ints(4, 8, high=9),))
def embedding_positions(i):
    w = rand(9, 4)
    p = torch.arange(i.size(1)).unsqueeze(0).expand_as(i)
    return F.embedding(i, w) + F.embedding(p, w)


@program((rand(1, 3, 8, 8),), (rand(1, 3, 10, 10),), (rand(1, 3, 12, 14),), (rand(1, 3, 16, 12),))
def conv_sizes(x):
    w = rand(4, 3, 3, 3)
    y = F.conv2d(x, w, padding=1)
    y = F.max_pool2d(y, 2)
    return F.conv_transpose2d(y, w.transpose(0, 1)[:3].reshape(3, 4, 3, 3).transpose(0, 1), stride=2)[
        ..., : x.shape[2], : x.shape[3]
    ].mean()


@program((rand(1, 3, 8, 8),), (rand(1, 3, 10, 10),), (rand(1, 3, 12, 14),), (rand(1, 3, 16, 12),))
def interpolate_sizes(x):
    h, w = x.shape[-2:]
    a = F.interpolate(x, size=(h * 2, w * 2), mode="bilinear", align_corners=False)
    b = F.interpolate(x, scale_factor=2, mode="nearest")
    return a.mean(), b.mean(), (a - b).shape


@program((rand(2, 6),), (rand(2, 8),), (rand(2, 10),))
def windows(x):
    return x.unfold(1, 2, 2), x.view(2, -1, 2).mean(-1), x.chunk(2, 1)[0], x.split(2, 1)[0]


@program((rand(2, 6),), (rand(2, 7),), (rand(2, 8),), (rand(2, 9),))
def round_up(x):
    n = x.size(1)
    m = (n + 3) // 4 * 4
    y = F.pad(x, (0, m - n))
    return y.view(2, m // 4, 4).sum(-1), m, math.ceil(n / 4), n / 2


@program((rand(2, 6),), (rand(2, 7),), (rand(2, 8),), (rand(2, 9),))
def sizes_as_results(x):
    n = x.size(1)
    return x + n, n, n * 2 + 1, (n, [n]), {"n": n}, float(n), x.shape, x.numel(), n > 3, -n, n**2, min(n, 100), int(n)


@program((rand(2, 6),), (rand(2, 7),), (rand(2, 8),))
def tensor_of_sizes(x):
    n = x.size(1)
    return torch.tensor(n) * x, torch.tensor([n, n + 1]), x.sum() / n, math.sqrt(n) * x


@program((rand(5, 4), 2), (rand(6, 4), 3), (rand(7, 4), 4))
def topk_by_int(x, k):
    v, i = x.topk(k, 0)
    return v, x.sort(0)[0][:k], x[k:], x.roll(k, 0)


@program((rand(5, 4),), (rand(6, 4),), (rand(7, 4),))
def gather_scatter(x):
    i = x.argmax(1, keepdim=True)
    return (
        x.gather(1, i),
        torch.zeros_like(x).scatter(1, i, 1.0),
        x.index_select(0, torch.arange(x.size(0) - 1)),
        torch.zeros(x.size(0), 5).index_put((torch.arange(x.size(0)), i[:, 0]), torch.ones(x.size(0))),
    )


@program((rand(5, 4), ints(5, high=4)), (rand(6, 4), ints(6, high=4)), (rand(7, 4), ints(7, high=4)))
def class_loss(x, t):
    return F.cross_entropy(x, t) * x.size(0), (x.argmax(-1) == t).float().mean()


class Seq(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.LSTM(4, 3, batch_first=True)
        self.lin = nn.Linear(3, 2)
        with torch.no_grad():
            for k, p in enumerate(self.parameters()):
                p.copy_(rand(*p.shape, seed=k))

    def forward(self, x):
        o, (h, c) = self.rnn(x)
        return self.lin(o[:, -1])


S = Seq()


@program((rand(2, 5, 4),), (rand(3, 6, 4),), (rand(4, 7, 4),))
def lstm_lengths(x):
    return S(x)


@program((rand(2, 5, 4),), (rand(3, 5, 4),), (rand(4, 5, 4),))
def loop_over_time(x):
    h = torch.zeros(x.size(0), 4)
    for t in range(x.size(1)):
        h = torch.tanh(x[:, t] + h)
    return h


TB = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
with torch.no_grad():
    for k, p in enumerate(TB.parameters()):
        p.copy_(rand(*p.shape, seed=k) * 0.1)


@program((rand(2, 5, 8),), (rand(2, 6, 8),), (rand(2, 9, 8),))
def encoder_layer_lengths(x):
    return TB(x)


@program((rand(2, 5, 8), rand(2, 5, 8)), (rand(2, 6, 8), rand(2, 7, 8)), (rand(2, 9, 8), rand(2, 4, 8)))
def sdpa_lengths(q, k):
    return F.scaled_dot_product_attention(q, k, k), F.scaled_dot_product_attention(q, q, q, is_causal=True)


@program((rand(3, 4), 1), (rand(3, 4), 2), (rand(3, 4), 0))
def int_used_as_index(x, i):
    return x[i], x[:, i], x[i, i], x.select(0, i)


@program((rand(3, 4), "a", 1), (rand(3, 4), "b", 1), (rand(3, 4), "a", 2))
def static_arguments(x, s, k):
    return x * len(s) * k


@program((rand(3, 4), [1, 2]), (rand(3, 4), [2, 3]), (rand(3, 4), [3, 4]))
def list_of_changing_ints(x, ns):
    a, b = ns
    return x * a + b


@program((rand(3, 4), {"n": 3, "f": 0.5}), (rand(3, 4), {"n": 4, "f": 0.6}), (rand(3, 4), {"n": 5, "f": 0.7}))
def dict_of_changing_numbers(x, d):
    return x * d["n"] + d["f"]


class St:
    step = 0
    lr = 1.0


ST = St()


@program((X,), (X,), (X,), (X,), watch=lambda: (ST.step, ST.lr))
def object_counter_and_rate(x):
    ST.step += 1
    ST.lr *= 0.5
    return x * ST.lr + ST.step


@program((X,), (X,), (X,), (X,))
class StepCounter(nn.Module):
    def __init__(self):
        super().__init__()
        self.step = 0
        self.every = 3

    def forward(self, x):
        self.step += 1
        if self.step % self.every == 0:
            x = x * 2
        return x + 1


@program((rand(3, 4),), (rand(3, 5),), (rand(6, 5),), (rand(7, 9),))
def each_dim_in_turn(x):
    return x.sum(0), x.sum(1), x.T @ x


@program((rand(4, 4),), (rand(5, 5),), (rand(6, 6),), (rand(6, 7),))
def square_or_not(x):
    if x.size(0) == x.size(1):
        return x @ x
    return x.sum()


@program((rand(0, 4),), (rand(3, 4),), (rand(0, 4),), (rand(5, 4),))
def empty_batches(x):
    return x.sum(0), x.shape[0], x * 2


def _md(x):
    torch._dynamo.mark_dynamic(x, 0) if hasattr(torch, "_dynamo") else None
    return x


@program((rand(12, 2), 3), (rand(12, 2), 4), (rand(12, 2), 6))
def reshape_by_int(x, n):
    return x.view(n, -1).sum(1), x.view(12 // n, n, 2).mean(1)


@program((rand(3, 4), 3), (rand(3, 4), 4), (rand(3, 4), 5))
def range_by_int_sum(x, n):
    return x * sum(range(n)), [i for i in range(n)][-1]


@program((rand(6, 4), torch.tensor([2, 4])), (rand(8, 4), torch.tensor([3, 5])))
def split_by_tensor_sizes(x, sizes):
    return x[:2] + 1, torch.repeat_interleave(sizes, 2)


@program((rand(3, 4), 0), (rand(3, 4), 2), (rand(3, 4), 1), (rand(3, 4), 5))
def zero_one_ints(x, n):
    return x * n + (1 if n else 2)

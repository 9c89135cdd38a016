"""Arithmetic of Python numbers and of sizes that change between calls."""

import math

from ..given import F, call, program, rand, torch

SIZES = (rand(4, 6),), (rand(6, 6),), (rand(10, 6),), (rand(12, 6),)


@program(*SIZES)
def halves(x):
    n = x.shape[0] // 2
    return x[:n] + x[n:], n


@program(*SIZES)
def arithmetic_on_sizes(x):
    rows, columns = x.shape
    total = rows * columns
    mean = x.sum() / total
    return x.reshape(total // 2, 2) - mean, rows + columns - 1, -rows, rows % 2, divmod(total, 4)


@program(*SIZES)
def true_division_of_sizes(x):
    ratio = x.shape[0] / x.shape[1]
    return x * ratio, x.shape[0] ** 0.5, float(x.shape[0])


@program(*SIZES)
def sizes_in_containers(x):
    info = {"shape": x.shape, "sizes": [x.size(0), x.size(-1)], "numel": x.numel(), "dim": x.dim()}
    return x * info["sizes"][0], info, x.shape[::-1], (x.shape[0], *x.shape[1:])


@program(*SIZES)
def views_by_computed_sizes(x):
    b, d = x.shape
    heads = 3
    y = x.view(b, heads, d // heads).transpose(0, 1)
    return y.reshape(heads, -1).sum(-1), torch.arange(b), torch.zeros(b, b)


@program(*SIZES)
def padding_to_a_multiple(x):
    extra = (8 - x.shape[0] % 8) % 8
    return F.pad(x, (0, 0, 0, extra))


@program(*SIZES)
def mask_from_sizes(x):
    n = x.size(0)
    mask = torch.ones(n, n).tril() == 0
    return (x @ x.t()).masked_fill(mask, -1.0).softmax(-1)


@program(*SIZES)
def branch_on_a_changing_size(x):
    if x.shape[0] > 8:
        return x.mean(0)
    return x.sum(0)


@program((rand(4, 6), 2), (rand(4, 6), 3), (rand(4, 6), 4), (rand(4, 6), 5))
def changing_int_as_a_factor(x, n):
    return x * n + n // 2


@program((rand(8, 6), 2), (rand(8, 6), 3), (rand(8, 6), 4), (rand(8, 6), 5))
def changing_int_as_a_bound(x, n):
    return x[:n] * 2, x[n:].sum()


@program((rand(4, 6), 0.5), (rand(4, 6), 0.25), (rand(4, 6), 0.125), (rand(4, 6), 3.5))
def changing_float(x, p):
    return x * p + (1 - p), F.leaky_relu(x, p)


@program((rand(4, 6), 2), (rand(4, 6), 2.0), (rand(4, 6), True), (rand(4, 6), 2))
def number_types_change(x, n):
    return x * n, n + 1, type(n).__name__


@program(call(rand(4, 6), lr=0.1, step=1), call(rand(4, 6), lr=0.05, step=2), call(rand(4, 6), lr=0.01, step=3),
         call(rand(4, 6), lr=0.001, step=4))
def schedule(x, lr, step):
    warm = min(1.0, step / 3)
    return x - lr * warm * x


@program((rand(4, 6),), (rand(4, 6),))
def integer_arithmetic(x):
    bits = 0b1010 & 0xC | 1 << 3 ^ 2
    return (x * bits, 7 // 2, -7 // 2, -7 % 3, 2 ** 10, ~5, 1_000, round(2.5), round(2.567, 1), abs(-3), int("0x1f", 16),
            int(3.9), bool(0), (5).bit_length(), 10 ** -2, 5 .__add__(3), pow(2, 5, 7), 0.1 + 0.2, 3j * 2, float("inf") > 1)


@program(*SIZES)
def min_max_sum_of_sizes(x):
    return x[: min(x.shape[0], 5)], max(x.shape), sum(x.shape), math.prod(x.shape), sorted(x.shape), len(x)


@program(*SIZES)
def loop_bounded_by_a_fixed_size(x):
    out = []
    for k in range(x.shape[1]):
        out.append(x[:, k].sum() * k)
    return torch.stack(out)


@program(*SIZES)
def chunks_by_size(x):
    half, rest = x.split([2, x.shape[0] - 2])
    parts = x.chunk(2, dim=1)
    return half.sum() + rest.mean(), torch.cat(parts[::-1], dim=1)


@program((rand(1, 6),), (rand(3, 6),), (rand(5, 6),))
def size_one_is_special(x):
    y = torch.ones(3, 1, 6)
    return (y + x).sum(0), x.squeeze(0).ndim


@program((rand(4, 6), [2, 2]), (rand(4, 6), [1, 3]), (rand(4, 6), [3, 1]))
def sizes_from_a_list(x, sizes):
    assert sum(sizes) == x.shape[0]
    return [part.sum(0) for part in x.split(sizes)]


@program((rand(2, 3), rand(3, 4)), (rand(5, 3), rand(3, 6)), (rand(7, 3), rand(3, 8)))
def two_changing_sizes(a, b):
    out = a @ b
    assert out.shape == (a.shape[0], b.shape[1])
    return out / math.sqrt(a.size(1)), out.shape[0] * out.shape[1]


@program(*SIZES)
def text_with_sizes(x):
    return x + 1, f"{x.shape[0]} rows"


@program((rand(4, 6), (2, 12)), (rand(4, 6), (3, 8)), (rand(4, 6), (6, -1)))
def shape_argument(x, shape):
    return x.reshape(*shape), x.reshape(shape).shape[-1]

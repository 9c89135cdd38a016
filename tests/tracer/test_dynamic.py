"""Dynamic shapes and numbers: static first, then symbolic; few compiles for many sizes."""
import math

import numpy as np
import pytest
from tracer.support import compile, context_of, count, events, ops, plain, rand, tensor

import flambeau
import flambeau.nn as nn
import flambeau.nn.functional as F
from flambeau.frontend.compile import mark_dynamic, mark_static, maybe_mark_dynamic

#: a program that runs eagerly after all has not been tested
pytestmark = pytest.mark.filterwarnings("error::flambeau.frontend.points.FallbackWarning")


def compiles(fn, inputs, limit, backend="eager", **kwargs):
    compiled = compile(fn, backend=backend, **kwargs)
    for args in inputs:
        assert plain(compiled(*args)) == plain(fn(*args)), args
    assert not count(compiled, "fallback"), events(compiled)
    assert count(compiled, "graph") <= limit, events(compiled)
    return compiled


def sizes(n, start=2, step=1):
    return [start + k * step for k in range(n)]


def test_a_size_that_changes_becomes_a_symbol():
    compiled = compiles(lambda x: x * 2 + 1, [(rand(n, 3),) for n in sizes(30)], 2)
    assert "s0" in context_of(compiled).events[-1].text


def test_two_sizes_and_their_product():
    def f(x):
        a, b = x.shape
        return x.reshape(a * b).sum() / (a + b), x.view(b, a).shape, x.numel()
    compiles(f, [(rand(n, 2 * n + 1),) for n in sizes(10)], 2)


@pytest.mark.parametrize("fn", [
    lambda x: x / math.sqrt(x.shape[0]),
    lambda x: x * x.shape[0] ** -0.5,
    lambda x: x * (1 / x.shape[0]) + float(x.shape[1]),
    lambda x: x.sum() / (x.shape[0] / 3),
    lambda x: (x.std(0), x.var(0, correction=0), x.shape[0] / 2),
    lambda x: x * math.log(x.shape[0]) if x.shape[1] > 1 else x,
])
def test_floats_of_a_size_are_computed_at_each_call(fn):
    compiles(fn, [(rand(n, 3),) for n in sizes(8, 3)], 2)


def test_a_branch_on_a_float_that_a_size_makes_is_guarded():
    def f(x):
        return x * 2 if x.shape[0] / 3 > 2 and math.sqrt(x.shape[0]) else x
    compiles(f, [(rand(n, 3),) for n in (3, 5, 7, 9, 4, 11, 6)], 3)


def test_division_by_zero_is_the_caller_s_at_each_call():
    def f(x, k):
        try:
            return x * (1 / k)
        except ZeroDivisionError:
            return x
    compiles(f, [(rand(3), k) for k in (2.5, 3.5, 4.5, 0.0, 5.5)], 3)


def test_a_backend_s_assumptions_are_guarded():
    """Whether pooled rows fill the image is asked when the gradient is lowered, after the guards of the trace."""
    def f(x):
        return F.max_pool2d(x, 2)
    compiled = compile(f, backend="numpy", dynamic=True)
    for n in (8, 9, 11, 8, 12, 6, 7):
        x, y = (flambeau.arange(3.0 * n * n).reshape(1, 3, n, n).requires_grad_() for _ in "ab")
        compiled(x).sum().backward()
        f(y).sum().backward()
        assert plain(x.grad) == plain(y.grad), n


def test_slicing_cat_and_arange_with_sizes():
    def f(x):
        n = x.shape[0]
        half = n // 2
        y = ops.cat([x[:half], x[half:]], 0)
        return y * ops.arange(0, n).reshape(n, 1), y[-1], n - half
    compiles(f, [(rand(n, 2),) for n in sizes(10, 3)], 3)


def test_sizes_zero_and_one_stay_special():
    compiles(lambda x: (x + rand_like(x)).shape, [(rand(n, 3),) for n in (5, 1, 0, 7, 1, 9, 0)], 4)


def rand_like(x):
    return x * 0


def test_broadcast_of_equal_sizes():
    compiles(lambda x, y: x + y, [(rand(n, 3), rand(n, 3)) for n in sizes(8)] + [(rand(5, 3), rand(1, 3))], 3)


def test_symbols_that_are_no_longer_equal():
    def f(x, y):
        return x.sum(0) + y.sum(0)
    compiles(f, [(rand(4, 2), rand(4, 2)), (rand(5, 2), rand(5, 2)), (rand(6, 2), rand(9, 2)), (rand(3, 2), rand(7, 2)),
                 (rand(8, 2), rand(8, 2))], 3)


def test_a_branch_on_a_size_is_guarded():
    def f(x):
        return x * 2 if x.shape[0] > 6 else x - 1
    compiles(f, [(rand(n),) for n in (3, 4, 5, 6, 7, 8, 9, 2, 12)], 4)


def test_a_loop_over_a_size_is_a_graph_for_each():
    def f(x):
        total = x[0]
        for k in range(1, x.shape[0]):
            total = total * x[k]
        return total
    compiles(f, [(rand(n),) for n in (3, 4, 5)], 3)


def test_divisibility_is_guarded_only_where_needed():
    def f(x):
        n = x.shape[0]
        return x.view(2, n // 2) if n % 2 == 0 else x
    compiles(f, [(rand(n),) for n in (4, 6, 8, 7, 10, 9, 11)], 4)


def test_ints_become_arguments():
    def f(x, k):
        return x * k + k, k + 1
    compiles(f, [(rand(3), k) for k in (5, 6, 7, 100, 8, 9)], 2)


def test_int_sizes():
    def f(x, k):
        return x[:k].sum() + flambeau.zeros(k).sum(), k * 2
    compiles(f, [(rand(20), k) for k in (5, 6, 7, 18, 8, 9)], 2)


def test_floats_become_arguments():
    def f(x, lr):
        return x * (1 - lr * 2) + lr
    compiles(f, [(rand(3), lr) for lr in (0.1, 0.2, 0.25, 0.3, 1e-5)], 2)


def test_float_branches_are_guarded():
    def f(x, p):
        return x * p if p > 0.5 else x
    compiled = compile(f, backend="eager")
    for p in (0.1, 0.9, 0.2, 0.8):
        assert plain(compiled(rand(3) * 0 + 1, p)) == plain(f(rand(3) * 0 + 1, p))


def test_dynamic_true_compiles_once():
    compiles(lambda x: x + 1, [(rand(n, 4),) for n in sizes(6, 3)], 1, dynamic=True)


def test_dynamic_false_compiles_for_each():
    compiled = compiles(lambda x: x + 1, [(rand(n, 4),) for n in sizes(4, 3)], 4, dynamic=False)
    assert count(compiled, "graph") == 4


def test_mark_dynamic():
    def f(x):
        return x + 1
    compiled = compile(f, backend="eager")
    for n in sizes(5, 3):
        x = rand(n, 4)
        mark_dynamic(x, 0)
        assert plain(compiled(x)) == plain(f(x))
    assert count(compiled, "graph") == 1


def test_two_hundred_lengths_through_a_transformer_layer():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(8)
            self.qkv = nn.Linear(8, 24)
            self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

        def forward(self, x):
            b, t, c = x.shape
            q, k, v = self.qkv(self.norm(x)).split(c, dim=2)
            q, k, v = (z.view(b, t, 2, c // 2).transpose(1, 2) for z in (q, k, v))
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + y.transpose(1, 2).reshape(b, t, c)
            return x + self.mlp(x)
    model = Layer()
    compiled = compile(model, backend="eager", fullgraph=True)
    lengths = [2 + (k * 37) % 61 for k in range(200)]
    for k, n in enumerate(lengths):
        x = rand(2, n, 8)
        got = compiled(x)
        if k % 20 == 0:
            assert plain(got) == plain(model(x))
    assert count(compiled, "graph") <= 2, events(compiled)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_shape_guards_print_their_origin(n):
    def f(x):
        return x if x.shape[0] < 100 else -x
    compiled = compile(f, backend="eager", dynamic=True)
    compiled(tensor([1.0] * n))
    assert "x.shape[0]" in str(context_of(compiled)._points[next(iter(context_of(compiled)._points))]
                               .entries[0].captured.guards)


@pytest.mark.parametrize("fn", [
    lambda x: x[: int(x.shape[0] * 0.5)],
    lambda x: x[: int(x.shape[0] / 2)] * x.shape[0] ** 2,
    lambda x: x[: math.ceil(x.shape[0] / 3)],
    lambda x: x[: math.floor(x.shape[0] / 2.5) + 1],
    lambda x: flambeau.zeros(round(x.shape[0] * 1.5), 2) + x.sum(),
    lambda x: flambeau.zeros(x.shape[0] << 1).sum() + x * (x.shape[0] & 1022) * (x.shape[0] >> 1),
    lambda x: x[: math.gcd(x.shape[0] * 6, 12) // 6 + 1],
    lambda x: x.reshape(int(x.shape[0] * 0.5) * 2 - 2 * (x.shape[0] // 2) + x.shape[0], 3),
    lambda x: x * len(x) + math.isqrt(x.shape[0] * 16),
    lambda x: flambeau.tensor(x.shape[0]) + flambeau.tensor(x.shape[0] / 7, dtype=flambeau.float64) + x,
    lambda x: x * 2 if x.shape[0] > 2.5 and x.shape[0] <= 1e6 and x.shape[0] != 3.5 else x,
    lambda x: (x + 1, f"{x.shape[0]:>4} rows, {x.shape[0] / 2:.1f} pairs", str(x.shape[0])),
    lambda x: [x, {"n": x.shape[0], "half": x.shape[0] / 2}][1]["half"] * x,
], ids=range(13))
def test_numbers_that_python_computes_of_a_size(fn):
    compiles(fn, [(rand(n, 3),) for n in sizes(7, 6, 2)], 2)


@pytest.mark.parametrize("backend", ["numpy", "cpp"])
def test_computed_sizes_in_generated_code(backend):
    def f(x, p):
        k = int(x.shape[0] * p)
        return x[:k] * k + flambeau.zeros(k, 3) + x[:k].sum(), flambeau.arange(k), flambeau.tensor(p) * x.sum()
    def whole(n):
        return (rand(n, 3) * 4).round()
    compiles(f, [(whole(n), p) for n, p in ((9, 0.5), (12, 0.7), (20, 0.3), (31, 0.9), (12, 0.25))], 3, backend)


def test_a_computed_size_of_one_is_a_version_of_its_own():
    compiles(lambda x: x[: int(x.shape[0] * 0.25)] + x, [(rand(n, 3),) for n in (4, 5, 6, 7, 1)], 3)
    compiles(lambda x: x[: int(x.shape[0] * 0.25)] * 2, [(rand(n, 3),) for n in (9, 10, 5, 4, 7, 13)], 3)


def test_a_text_of_a_size_is_taken_as_it_is_where_it_is_looked_at():
    def f(x, table):
        return x * table[f"k{x.shape[0]}"]
    compiles(f, [(rand(n), {"k3": 1, "k4": 2, "k5": 3}) for n in (3, 4, 5, 4, 3)], 3)


def test_a_size_as_a_key():
    compiles(lambda x: x * {3: 2, 4: 5}.get(x.shape[0], 7), [(rand(n),) for n in (3, 4, 5, 4, 3, 6)], 4)


def test_a_number_that_changes_is_told_to_be_an_argument_from_now_on():
    compiled = compiles(lambda x, p: x * p, [(rand(3), p) for p in (0.1, 0.2, 0.3)], 2)
    assert "from now on it is an argument" in events(compiled)


def marked(mark, n, *where):
    x = rand(n, 4)
    mark(x, *where)
    return (x,)


def test_marks():
    def f(x):
        return x * 2 + x.shape[0]
    compiles(f, [marked(maybe_mark_dynamic, n, -2) for n in sizes(5, 3)], 1)
    compiles(f, [marked(mark_dynamic, n, [0, 1]) for n in (3, 4, 1, 5, 0, 6, 1)], 3)
    for where in ((), (0,), ((0, 1),)):
        compiled = compiles(f, [marked(mark_static, n, *where) for n in sizes(4, 3)], 4)
        assert count(compiled, "graph") == 4
    x, = marked(mark_static, 3)
    mark_dynamic(x, 0)                                          # the last mark counts
    compiles(f, [(x,), (rand(5, 4),)], 1)
    with pytest.raises(IndexError, match="3 of a tensor of 2|marked"):
        mark_dynamic(x, 3)


def test_dynamic_true_makes_numbers_arguments_at_once():
    def f(x, k, p, sizes):
        return x * k + p - sizes["n"] * sizes["p"]
    compiles(f, [(rand(n, 4), n + 7, n / 3, {"n": n * 3, "p": n / 7}) for n in sizes(5, 3)], 1, dynamic=True)


def test_dynamo_s_settings_are_the_compiler_s():
    from flambeau._dynamo import config
    before = config.recompile_limit
    try:
        config.cache_size_limit = 2
        compiled = compile(lambda x, k: x + len(k), backend="eager")
        with pytest.warns(UserWarning, match="compiled 2 times"):
            for k in ("a", "bb", "ccc"):
                compiled(rand(2), k)
    finally:
        config.recompile_limit = before


def test_a_causal_transformer_with_positions_compiles_twice_for_two_hundred_lengths():
    class Block(nn.Module):
        def __init__(self, dim, heads):
            super().__init__()
            self.heads = heads
            self.norm, self.qkv, self.out = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

        def forward(self, x, mask):
            b, t, c = x.shape
            q, k, v = self.qkv(self.norm(x)).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
            scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
            scores = scores.masked_fill(mask[:t, :t] == 0, float("-inf"))
            y = F.softmax(scores, -1) @ v
            return x + self.out(y.transpose(1, 2).reshape(b, t, c))

    class Model(nn.Module):
        def __init__(self, most, dim):
            super().__init__()
            self.token, self.position = nn.Embedding(11, dim), nn.Parameter(flambeau.randn(1, most, dim))
            self.register_buffer("mask", flambeau.tril(flambeau.ones(most, most)))
            self.blocks, self.head = nn.ModuleList([Block(dim, 2) for _ in range(2)]), nn.Linear(dim, 11)

        def forward(self, ids):
            t = ids.shape[1]
            assert t <= self.position.shape[1], f"{t} is too long"
            x = self.token(ids) + self.position[:, :t]
            for block in self.blocks:
                x = block(x, self.mask)
            return self.head(x)
    model = Model(64, 8)
    compiled = compile(model, backend="eager", fullgraph=True)
    rng = np.random.default_rng(0)
    for k, n in enumerate(rng.integers(2, 65, 200)):
        ids = flambeau.from_numpy(rng.integers(0, 11, (2, int(n))))
        got = compiled(ids)
        if k % 20 == 0:
            np.testing.assert_allclose(got.detach().numpy(), model(ids).detach().numpy(), rtol=1e-4, atol=1e-5)
    assert count(compiled, "graph") <= 2, events(compiled)

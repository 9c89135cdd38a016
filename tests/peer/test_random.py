"""The same seed gives PyTorch's CPU numbers, bit for bit, and leaves the generator where PyTorch's is left."""

from __future__ import annotations

import numpy as np
import pytest

import flambeau as fl

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.peer

FLOATS = ["float32", "float64", "float16", "bfloat16"]
INTEGERS = ["int64", "int32", "int16", "int8", "uint8", "bool"]
SIZES = [1, 2, 7, 15, 16, 17, 31, 32, 37, 1000]


def _numbers(t):
    return t.float().numpy() if str(t.dtype) == "torch.bfloat16" else t.numpy()


def same(make, seed=3):
    """``make(torch)`` and ``make(flambeau)`` draw the same numbers, and so do the next draws of both kinds."""
    torch.manual_seed(seed)
    fl.manual_seed(seed)
    theirs, ours = make(torch), make(fl)
    assert str(ours.dtype) == str(theirs.dtype)
    np.testing.assert_array_equal(_numbers(ours), _numbers(theirs))
    assert fl.randn(1).item() == torch.randn(1).item(), "a normal is kept or it is not"
    assert fl.rand(1).item() == torch.rand(1).item(), "another number of draws"


FILLS = {
    "uniform_": lambda x, t: x.uniform_(-1.3, 2.7), "normal_": lambda x, t: x.normal_(0.3, 1.7),
    "standard": lambda x, t: x.normal_(), "exponential_": lambda x, t: x.exponential_(1.7),
    "bernoulli_": lambda x, t: x.bernoulli_(0.3), "cauchy_": lambda x, t: x.cauchy_(0.3, 1.7),
    "log_normal_": lambda x, t: x.log_normal_(0.3, 1.7), "geometric_": lambda x, t: x.geometric_(0.3),
    "random_": lambda x, t: x.random_(), "random_(n)": lambda x, t: x.random_(9),
    "bernoulli_(p)": lambda x, t: x.bernoulli_(t.full(x.shape, 0.3)),
    "bernoulli_(p64)": lambda x, t: x.bernoulli_(t.full(x.shape, 0.3, dtype=t.float64)),
}
LAYOUTS = {
    "rows": lambda n, dtype, t: t.empty(n, dtype=dtype), "matrix": lambda n, dtype, t: t.empty(2, n, dtype=dtype),
    "transposed": lambda n, dtype, t: t.empty(3, n, dtype=dtype).t(),
    "gaps": lambda n, dtype, t: t.zeros(3, 2 * n, dtype=dtype)[:, ::2],
    "permuted": lambda n, dtype, t: t.empty(2, n, 3, dtype=dtype).permute(1, 2, 0),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FILLS)
def test_fills(name, layout, dtype):
    for n in SIZES:
        same(lambda t, n=n: FILLS[name](LAYOUTS[layout](n, getattr(t, dtype), t), t))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(dtype):
    for n in (1, 16, 37):
        for fill in ("random_", "bernoulli_", "geometric_"):
            if (fill, dtype) != ("geometric_", "bool"):
                same(lambda t, n=n, fill=fill: FILLS[fill](t.empty(n, dtype=getattr(t, dtype)), t))
        same(lambda t, n=n: t.randint(0, 2, (n,), dtype=getattr(t, dtype)))
        if dtype != "bool":
            same(lambda t, n=n: t.randperm(n, dtype=getattr(t, dtype)))


@pytest.mark.parametrize("bounds", [(-2**63, 2**63 - 1), (0, 2**32), (0, 2**31), (0, 2**28 - 1), (0, 2**28), (-2**62, 2**62),
                                    (0, 2**63 - 1), (-5, 7)])
def test_ranges(bounds):
    same(lambda t: t.randint(*bounds, (20,)))
    same(lambda t: t.empty(20, dtype=t.int64).random_(*bounds))


def test_all_64_bits():
    same(lambda t: t.empty(9, dtype=t.int64).random_(-2**63, None))
    same(lambda t: t.empty(9, dtype=t.int64).random_(-7, None))


@pytest.mark.parametrize("n", [0, 1, 2, 20, 1000, 29999, 30001, 70000])
def test_permutations(n):
    same(lambda t: t.randperm(n))


def _ones(t, dtype, *shape):
    return t.ones(*shape, dtype=getattr(t, dtype))


@pytest.mark.parametrize("dtype", [*FLOATS, "complex64", "complex128"])
def test_functions(dtype):
    for n in SIZES:
        same(lambda t, n=n: t.rand(n, dtype=getattr(t, dtype)))
        same(lambda t, n=n: t.randn(n, dtype=getattr(t, dtype)))
        same(lambda t, n=n: t.rand_like(t.empty(3, n, dtype=getattr(t, dtype)).t()))
        same(lambda t, n=n: t.randn_like(t.empty(3, n, dtype=getattr(t, dtype)).t()))
        if dtype.startswith("c"):
            same(lambda t, n=n: t.empty(n, dtype=getattr(t, dtype)).normal_(0.5, 2.0))
            continue
        same(lambda t, n=n: t.randint(3, 100, (n,), dtype=getattr(t, dtype)))
        same(lambda t, n=n: t.normal(_ones(t, dtype, n), _ones(t, dtype, n) * 2))
        same(lambda t, n=n: t.normal(_ones(t, dtype, n), 2.0))
        same(lambda t, n=n: t.normal(1.0, _ones(t, dtype, n) * 2))
        same(lambda t, n=n: t.bernoulli(_ones(t, dtype, n) * 0.3))


def test_many_float32_normals():
    """Every branch of the logarithm, sine and cosine."""
    same(lambda t: t.randn(1 << 18))
    same(lambda t: t.empty(1 << 18).normal_(-3, 0.02))
    same(lambda t: t.empty(1 << 16, dtype=t.float64).normal_(-3, 0.02))
    same(lambda t: t.empty(1 << 18).uniform_(-0.05, 0.049))


@pytest.mark.parametrize("dtype", FLOATS)
def test_multinomial(dtype):
    rows = [[0.1, 0.5, 0.2, 0.7, 0.9], [0.3, 0.1, 0.1, 0.1, 0.1], [0, 0, 1, 1, 1]]
    for n in (1, 2, 3):
        same(lambda t, n=n: t.multinomial(t.tensor(rows[0], dtype=getattr(t, dtype)), n))
        same(lambda t, n=n: t.multinomial(t.tensor(rows, dtype=getattr(t, dtype)), n))
        same(lambda t, n=n: t.multinomial(t.tensor(rows[:2], dtype=getattr(t, dtype)), 5 * n - 4, True))
    same(lambda t: t.multinomial(t.arange(1, 1001).to(getattr(t, dtype)), 500, True))
    if dtype in ("float32", "float64"):  # the order of equal halves is the C++ library's
        same(lambda t: t.multinomial(t.arange(1, 1001).to(getattr(t, dtype)), 500))


@pytest.mark.parametrize("dtype", FLOATS)
def test_dropout(dtype):
    def ones(t, *shape):
        return _ones(t, dtype, *shape)
    for n in (1, 15, 40):
        same(lambda t, n=n: t.nn.functional.dropout(ones(t, n), 0.3))
        same(lambda t, n=n: t.nn.functional.dropout(ones(t, 3, n).t(), 0.3))
    same(lambda t: t.nn.functional.dropout1d(ones(t, 2, 3, 5), 0.4))
    same(lambda t: t.nn.functional.dropout2d(ones(t, 2, 3, 5, 5), 0.4))
    same(lambda t: t.nn.functional.dropout3d(ones(t, 2, 3, 5, 5, 2), 0.4))
    same(lambda t: t.nn.functional.feature_alpha_dropout(ones(t, 2, 3, 5), 0.4, True))
    if dtype != "float16":
        same(lambda t: t.nn.functional.rrelu((t.arange(-20, 10) / 8).to(getattr(t, dtype)), training=True))


def test_dropout_of_attention_and_alpha():
    same(lambda t: t.nn.functional.alpha_dropout(t.ones(2, 3, 5), 0.4, True))
    same(lambda t: t.nn.functional.scaled_dot_product_attention(*[t.ones(1, 2, 4, 8)] * 3, dropout_p=0.3))


SHAPES = [(3, 4), (20, 30), (7, 3, 3, 3), (64, 64)]
FAMILIES = ["uniform_", "normal_", "trunc_normal_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_init(name, shape):
    same(lambda t: getattr(t.nn.init, name)(t.empty(*shape)))
    same(lambda t: getattr(t.nn.init, name)(t.empty(*shape, dtype=t.float64)))


@pytest.mark.parametrize("options", [{"a": -1, "b": 0.1}, {"a": -0.2, "b": 0.3}, {"mean": 1.0, "std": 0.5, "a": 0.0, "b": 3.0},
                                     {"std": 0.02}, {"a": 1.5, "b": 4.0}])
def test_truncated_normals(options):
    for shape in SHAPES:
        same(lambda t, shape=shape: t.nn.init.trunc_normal_(t.empty(*shape), **options))


def test_other_inits():
    same(lambda t: t.nn.init.sparse_(t.empty(50, 60), 0.3))
    for gain in ("relu", "tanh"):
        same(lambda t, gain=gain: t.nn.init.kaiming_normal_(t.empty(20, 30), mode="fan_out", nonlinearity=gain))


def test_orthogonal_is_close():
    """The factorisation is another library's: the last places differ, signs and columns do not."""
    torch.manual_seed(3)
    fl.manual_seed(3)
    for shape in SHAPES:
        theirs, ours = torch.nn.init.orthogonal_(torch.empty(*shape)), fl.nn.init.orthogonal_(fl.empty(*shape))
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=2e-6)


LAYERS = {
    "linear": lambda n: n.Linear(5, 7), "conv": lambda n: n.Conv2d(3, 8, 3), "embedding": lambda n: n.Embedding(11, 6),
    "lstm": lambda n: n.LSTM(4, 6, 2), "attention": lambda n: n.MultiheadAttention(8, 2),
    "bilinear": lambda n: n.Bilinear(3, 4, 5),
    "transformer": lambda n: n.TransformerEncoderLayer(8, 2, 16),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_begin_alike(name):
    same(lambda t: t.cat([p.detach().reshape(-1) for p in LAYERS[name](t.nn).parameters()]))


def test_own_generators():
    same(lambda t: t.randn(20, generator=t.Generator().manual_seed(11)))
    same(lambda t: t.randperm(9, generator=t.Generator().manual_seed(2**40 + 5)))


@pytest.mark.parametrize("count", [0, 1, 17, 311, 312, 623, 624, 625, 1000])
@pytest.mark.parametrize("kept", [False, True])
def test_states_are_the_same_bytes(count, kept):
    for t in (torch, fl):
        t.manual_seed(2**40 + 3)
        t.rand(count)
        if kept:
            t.randn(1)
    state = torch.get_rng_state()
    np.testing.assert_array_equal(fl.get_rng_state().numpy(), state.numpy())
    fl.manual_seed(1)
    fl.set_rng_state(fl.from_numpy(state.numpy().copy()))
    assert fl.randn(3).tolist() == torch.randn(3).tolist()
    torch.set_rng_state(torch.from_numpy(fl.get_rng_state().numpy()))
    assert fl.rand(3).tolist() == torch.rand(3).tolist()

"""Generated kernels: C++ and NumPy source of the same fused loops against each other and against eager execution."""

from __future__ import annotations

import numpy as np
import pytest

import flambeau as fl
import flambeau.nn.functional as F
from flambeau.codegen import host
from flambeau.codegen import numpy as numpy_target
from flambeau.frontend.targets import cpp_target
from flambeau.ir.graph import Graph
from flambeau.ir.meta import meta_of
from flambeau.ir.op import use_handler
from flambeau.ir.program import Target
from flambeau.ir.tracing import GraphBuilder, GraphTensor
from flambeau.passes.manager import functional, lowered
from flambeau.passes.pipeline import compile_to_plan
from flambeau.runtime import native
from flambeau.runtime.executor import Executor

needs_compiler = pytest.mark.skipif(not native.available(), reason="no C++ compiler")


def captured(fn, inputs):
    """The graph of `fn`, pure and in the ops that every target takes; its operations come from the line of the lambda."""
    graph = Graph("program")
    symbols = [GraphTensor(graph.input("x", meta_of(x))) for x in inputs]
    loc = f"test_generated.py:{fn.__code__.co_firstlineno}"
    with use_handler(GraphBuilder(graph, loc)):
        outputs = fn(*symbols)
    graph.outputs = [x.node for x in (outputs if isinstance(outputs, tuple) else (outputs,))]
    return lowered(functional(graph).graph, cpp_target().keep), inputs


def by_numpy(graph, inputs):
    """The graph's outputs by its NumPy source."""
    plan = compile_to_plan(graph, Target("numpy", 1, templates=frozenset(), epilogues=frozenset()))
    return numpy_target.build_plan(plan).run([x.numpy() for x in inputs])


def by_cpp(graph, inputs):
    """The graph's outputs by its C++ library."""
    artifact = host.build_plan(compile_to_plan(graph, cpp_target().machine))
    return [x.numpy() for x in Executor(artifact).run(inputs)]


TOLERANCE = {"float32": 3e-5, "float64": 1e-12, "float16": 4e-3, "bfloat16": 3e-2}


def assert_same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        if b.dtype.name in TOLERANCE:
            near = TOLERANCE[b.dtype.name]
            np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol=near, atol=near)
        else:
            np.testing.assert_array_equal(a, b)


def check(fn, *inputs):
    eager = fn(*inputs)
    expected = [x.numpy() for x in (eager if isinstance(eager, tuple) else (eager,))]
    graph, examples = captured(fn, inputs)
    assert_same(by_numpy(graph, examples), expected)
    if native.available():
        assert_same(by_cpp(graph, examples), expected)


def data(*shape, dtype=fl.float32, seed=0, low=-3.0, high=3.0):
    values = np.random.default_rng(seed).uniform(low, high, shape)
    return fl.tensor(values.astype(np.float64)).to(dtype)


SHAPES = [(1, 1), (3, 5), (16, 16), (37, 83), (2, 1000), (1, 4099), (700, 130)]
SAME_SPACE = {
    "pointwise": lambda x: (fl.sigmoid(x) * fl.tanh(x) + x * 2 - 1,),
    "several outputs": lambda x: (x + 1, fl.exp(x) * 2, (x > 0) & (x < 1)),
    "softmax of rows": lambda x: fl.softmax(2 * x + 1, -1),
    "softmax of columns": lambda x: fl.softmax(x, 0),
    "log-softmax": lambda x: fl.log_softmax(x, -1),
    "layer norm": lambda x: F.layer_norm(x, (x.shape[1],)),
    "sums": lambda x: (x.sum(), x.sum(0), x.mean(1), (x * x).sum(1)),
    "extremes": lambda x: (x.amax(), x.amin(0), x.amax(1), x.argmax(), x.argmax(0), x.argmin(1)),
    "truths": lambda x: ((x > 2.5).any(), (x > 2.5).any(0), (x > -2.5).all(1)),
    "product": lambda x: (x * 0.5).prod(1) * 1e-3,
    "variance": lambda x: x.var(1, unbiased=False),
    "transposed": lambda x: x.t() * 2 + 1,
    "reversed": lambda x: x.flip(1) * 2 + x,
    "lower triangle": lambda x: fl.tril(x) + fl.arange(x.shape[1]),
    "padded": lambda x: F.pad(x, (1, 2, 0, 1), value=3.0) * 2,
    "pieces": lambda x: x[:, ::2] * 2 + x[:, ::2],
    "broadcast": lambda x: x - x.mean(1, keepdim=True) + x[0],
    "joined": lambda x: fl.cat((x, x * 2), 1) + 1,
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", SAME_SPACE)
def test_programs_of_one_matrix(name, shape):
    check(SAME_SPACE[name], data(*shape))


@pytest.mark.parametrize("dtype", [fl.float64, fl.float16, fl.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["pointwise", "softmax of rows", "sums", "extremes", "transposed", "layer norm"])
def test_floating_dtypes(name, dtype):
    check(SAME_SPACE[name], data(37, 83, dtype=dtype))


@pytest.mark.parametrize("dtype", [fl.int64, fl.int32, fl.int16, fl.int8, fl.uint8], ids=str)
def test_integers(dtype):
    x, y = data(9, 21, dtype=dtype, low=0, high=9), data(9, 21, dtype=dtype, low=1, high=5, seed=1)
    check(lambda x, y: (x + y, x * y - 2, x // y, x % y, x.sum(1), x.amax(0), x.argmax(1), x > y, x * 1.5), x, y)
    check(lambda x, y: (x & y, x | y, x ^ y, ~x, fl.where(x > y, x, y), x.to(fl.float32), x == y, x.abs()), x, y)


def test_bools():
    x, y = data(9, 21) > 0, data(9, 21, seed=1) > 0
    check(lambda x, y: (x & y, x | y, x ^ y, ~x, x == y, x != y, x.to(fl.float32), x.to(fl.int64), x.sum(1)), x, y)
    check(lambda x, y: (x < y, x >= y, fl.maximum(x, y), fl.minimum(x, y), fl.where(x, y, ~y), x * y), x, y)


def test_conversions():
    x = data(11, 19, high=100, low=0)
    check(lambda x: tuple(x.to(d) for d in (fl.int64, fl.int32, fl.int16, fl.uint8, fl.bool, fl.float64)), x)
    check(lambda x: (x.to(fl.bfloat16), x.to(fl.float16), (x * 2).to(fl.bfloat16)), x)


def test_edge_values_pass_through():
    edges = [0.0, -0.0, 1e-45, -1e-45, 1e-38, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan, 1.0, -1.0, 88.8, -104.0]
    x = fl.tensor(np.resize(np.array(edges, np.float32), (3, 21)))
    check(lambda x: (fl.exp(x), fl.tanh(x), fl.sigmoid(x), fl.erf(x), x.abs(), -x, fl.relu(x), x.sign()), x)
    check(lambda x: (fl.isnan(x), fl.isinf(x), fl.maximum(x, -x), fl.fmin(x, x + 1), x == x, fl.floor(x)), x)
    check(lambda x: (x.amax(1), x.argmax(1), x.amin(0), x.argmin(0)), x)


def test_masked_rows_keep_minus_infinity_apart():
    x = data(5, 19)
    hidden = fl.tensor(np.tril(np.ones((5, 19), bool)))
    check(lambda x, m: fl.softmax(fl.where(m, x, -float("inf")), -1), x, hidden)


def test_indirect_access():
    table, rows = data(30, 17), fl.tensor(np.random.default_rng(0).integers(0, 30, (4, 6)))
    columns = fl.tensor(np.random.default_rng(1).integers(0, 17, (30, 5)))
    check(lambda t, r: F.embedding(r, t) * 2, table, rows)
    check(lambda t, r: t[r] + 1, table, rows)
    check(lambda t, c: fl.gather(t, 1, c) * 2, table, columns)


def test_empty_tensors():
    check(lambda x: (x * 2 + 1, x.sum(), x.sum(0), x.sum(1)), data(0, 5))
    check(lambda x: (x * 2 + 1, x.sum(), x.sum(0), x.sum(1)), data(5, 0))


EPILOGUES = {
    "relu": lambda x, w, b: F.relu(x @ w + b),
    "gelu of linear": lambda x, w, b: F.gelu(F.linear(x, w.t(), b)),
    "product kept": lambda x, w, b: (x @ w, fl.tanh(x @ w) * b),
    "softmax": lambda x, w, b: fl.softmax(x @ w + b, -1),
    "residual": lambda x, w, b: (x @ w) * 0.5 + (x * x) @ w,
}


@pytest.mark.parametrize("name", EPILOGUES)
@pytest.mark.parametrize("m,k,n", [(1, 1, 1), (3, 40, 70), (37, 83, 50), (200, 300, 130)])
def test_matrix_products_with_what_follows(name, m, k, n):
    check(EPILOGUES[name], data(m, k), data(k, n, seed=1, low=-0.3, high=0.3), data(n, seed=2))


def test_batches_of_products_with_what_follows():
    check(lambda q, b: F.relu(q @ q.transpose(-1, -2) + b), data(3, 2, 10, 8), data(10, seed=1))


def test_attention_and_convolution_in_a_graph():
    q = data(2, 3, 18, 8)
    check(lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True) * 2, q)
    x, w, b = data(2, 3, 9, 10), data(4, 3, 3, 3, seed=1), data(4, seed=2)
    check(lambda x, w, b: F.max_pool2d(F.relu(F.conv2d(x, w, b, padding=1)), 2), x, w, b)


@needs_compiler
def test_many_kernels_are_built_in_two_units():
    def steps(x, w):
        for n in range(24):
            x = fl.softmax(x @ w + n, -1)
        return x

    x, w = data(5, 12), data(12, 12, seed=1)
    graph, examples = captured(steps, (x, w))
    source = host.PlanSource(compile_to_plan(graph, cpp_target().machine))
    assert len(source.units()) == 2
    check(steps, x, w)


@needs_compiler
def test_text_is_deterministic_and_names_the_users_line():
    def step(x):
        return fl.softmax(x * 2, -1)

    texts = set()
    for _ in range(2):
        graph, _ = captured(step, (data(37, 83),))
        texts.add(host.PlanSource(compile_to_plan(graph, cpp_target().machine)).text())
    (text,) = texts
    assert f"test_generated.py:{step.__code__.co_firstlineno}" in text


@pytest.mark.parametrize("dtype", [fl.float32, fl.float64, fl.float16, fl.bfloat16, fl.int64, fl.uint8, fl.bool],
                         ids=lambda d: d.name if hasattr(d, "name") else str(d))
def test_masks_within_vectors(dtype):
    """Masks that change inside a vector, at a unit step and at others, whole vectors and what is left."""
    x, y = data(5, 37, low=0, high=3).to(dtype), data(5, 24, low=0, high=3).to(dtype)
    check(lambda x, y: (fl.cat([x, y, x[:, :9]], 1), fl.cat([y, y], 1), fl.roll(x, 3, 1), fl.flip(y, (1,)),
                       fl.cat([x[:, ::3], y], 1)), x, y)


@pytest.mark.parametrize("size", [3, 9, 16, 37])
def test_padding_and_windows(size):
    x = data(2, 3, size, size + 1)
    check(lambda x: (F.pad(x, (1, 2, 1, 1)) * 2, F.pad(x, (1, 1, 0, 1), value=-1.5)), x)
    check(lambda x: (F.avg_pool2d(x, 3, 2, 1), F.max_pool2d(x * 2, 2), F.avg_pool2d(x + 1, 2, 1)), x)


@pytest.mark.parametrize("terms", [1, 3, 10])
@pytest.mark.parametrize("rows", [5, 1003])
def test_short_reductions_beside_each_other(rows, terms):
    x = data(rows, terms)
    check(lambda x: (fl.softmax(x, -1), x.argmax(-1), x.sum(1), x / (x * x).sum(-1, keepdim=True)), x)
    check(lambda x: (x.argmin(0), x.amax(0), x.half().sum(-1), (x > 0).any(1)), x)


@pytest.mark.parametrize("shape", [(3, 5, 4, 8), (64, 16, 7, 7), (2, 3, 1, 33)])
def test_accumulators_held_through_outer_loops(shape):
    check(lambda x: (x.mean((0, 2, 3)), x.amax((0, 3)), (x * 2).argmax(0), x - x.mean((0, 2, 3), keepdim=True)), data(*shape))


@pytest.mark.parametrize("kernel, stride, pad", [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 0), (5, 2, 2)])
def test_gradients_of_pooling(kernel, stride, pad):
    """Windows that tile, overlap or leave gaps, with and without padding."""
    x = data(2, 3, 11, 13)
    for pool in (F.avg_pool2d, F.max_pool2d):
        fn = fl.compile(lambda x, pool=pool: (pool(x, kernel, stride, pad) ** 2).sum())
        found, wanted = x.clone().requires_grad_(), x.clone().requires_grad_()
        fn(found).backward()
        (pool(wanted, kernel, stride, pad) ** 2).sum().backward()
        np.testing.assert_allclose(found.grad.numpy(), wanted.grad.numpy(), rtol=2e-5, atol=2e-5)

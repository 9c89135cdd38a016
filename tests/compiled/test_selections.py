"""Sizes that data decides: masks, `nonzero` and their like stay in the graph, which runs in pieces around them."""

from __future__ import annotations

import numpy as np
import pytest

import flambeau as torch
import flambeau.nn.functional as F
from flambeau.frontend.backends import list_backends
from flambeau.frontend.compile import context_of, mark_dynamic
from flambeau.frontend.points import GraphBreakError

BACKENDS = [name for name in ("eager", "numpy", "cpp") if name in list_backends()]
pytestmark = pytest.mark.filterwarnings("error::UserWarning")

WEIGHT = torch.from_numpy(np.random.default_rng(1).normal(size=(4, 3)).astype("f4"))


def means(x):
    return x[x > 0].mean() + x[x < 0].sum(), x[x > 0].std()


def rows(x):
    y = x[x[:, 0] > 0]
    return F.softmax(y * 2, -1), F.layer_norm(y, (4,)).exp() @ WEIGHT, torch.cat([y, x], 0), y.t() @ y


def one_mask_twice(x):
    m = x > 0
    return F.mse_loss(x[m], (x * 2)[m]) + (torch.masked_select(x, m) * x[m]).sum()


def sizes(x):
    y = x[x > 0]
    return y.shape[0], y.numel() * 2 + x.shape[0], len(y), y * y.shape[0] + torch.arange(y.shape[0]), y.sum() / len(y)


def nested(x):
    y = x[x[:, 0] > 0]
    return y[y[:, 1] > 0].sum(0), y.reshape(-1), y.view(-1, 2)


def scattered(x):
    y, m = torch.zeros(x.shape), x > 0
    y[m] = x[m] * 2
    z = x.clone()
    row = z[0]
    z.add_(1)
    return y, row * 2, z[z > 1] + 1


def indices(x):
    i, j = torch.where(x > 0)
    return x[i, j] * 2, torch.argwhere(x > 0).sum(0), x.nonzero().float().mean(0), x[(x[:, 1] > 0).nonzero().squeeze(1)]


def counted(x):
    values, which, counts = torch.unique(x.round(), return_inverse=True, return_counts=True)
    return values * 2, values[which] - x.round(), counts.sum(), torch.bincount(x.abs().long().view(-1)) + 1


def repeated(x):
    return torch.repeat_interleave(x, x[:, 0].abs().long(), dim=0) * 2


def partly_without_gradient(x):
    with torch.no_grad():
        y = x[x > 0] * 2
    return y, x[x < 0].sum()


def looped(x):
    total = 0
    for k in range(3):
        total = total + x[x > k * 0.5].sum()
    return total


PROGRAMS = [means, rows, one_mask_twice, sizes, nested, scattered, indices, counted, repeated, partly_without_gradient, looped]


def inputs():
    """Some elements, all, none, one row."""
    for seed, n in enumerate((4, 5, 6, 7, 3, 8)):
        data = np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32) * 1.5
        data = {3: abs(data), 4: -abs(data)}.get(seed, data)
        if seed == 5:
            data = -abs(data)
            data[2] *= -1
        yield data


def results(fn, data):
    """Flat values of the results, and the gradient of their squares."""
    x = torch.from_numpy(data.copy()).requires_grad_()
    mark_dynamic(x, 0)
    found = fn(x)
    flat = list(found) if isinstance(found, tuple) else [found]
    wanted = [t for t in flat if isinstance(t, torch.Tensor) and t.requires_grad]
    if wanted:
        sum((t * t).sum() for t in wanted).backward()
    return [t.detach().numpy() if isinstance(t, torch.Tensor) else t for t in [*flat, *([] if x.grad is None else [x.grad])]]


@pytest.mark.parametrize(("fn", "backend"), [(fn, backend) for fn in PROGRAMS for backend in BACKENDS
                                             if backend != "cpp" or fn in (means, sizes)])
def test_one_graph_with_the_values_and_gradients_of_eager(fn, backend):
    run = torch.compile(fn, backend=backend, fullgraph=True)
    with np.errstate(all="ignore"):
        for data in inputs():
            expected, found = results(fn, data), results(run, data)
            assert len(found) == len(expected)
            for e, f in zip(expected, found):
                assert type(f) is type(e)
                np.testing.assert_allclose(f, e, rtol=1e-3, atol=1e-4)
                assert not isinstance(e, np.ndarray) or e.dtype == f.dtype
    assert sum(e.kind == "graph" for e in context_of(run).events) == 1


@pytest.mark.parametrize("fn", [
    lambda x: x[x > 0].sum() if x[x > 0].shape[0] > 2 else x.sum(),
    lambda x: x[x > 0][:2] * 2,
    lambda x: x[x > 0] + x[x < 0],
    lambda x: [float(k) for k in range(x[x > 0].shape[0])] and x,
    lambda x: torch.autograd.grad(x[x > 0].sum(), [x])[0] * 2,
], ids=range(5))
def test_a_question_about_such_a_size_breaks_the_graph(fn):
    data = np.array([[1.0, -2.0, 3.0, -4.0]], dtype=np.float32)
    run = torch.compile(fn, backend="eager")
    for _ in range(2):
        for sign in (1, -1):
            x, y = (torch.from_numpy(sign * data).requires_grad_() for _ in "ab")
            np.testing.assert_array_equal(run(x).detach().numpy(), fn(y).detach().numpy())
    kinds = [e.captured.broke.code for e in context_of(run).events if e.kind == "break"]
    assert "data-dependent" in kinds, kinds
    with pytest.raises(GraphBreakError, match="data-dependent.*(how many elements|as many elements)"):
        torch.compile(fn, backend="eager", fullgraph=True)(x)


def test_eagers_errors_come_from_the_op_itself():
    run = torch.compile(lambda x: x[x > 5].max() * 2, backend="eager", fullgraph=True)
    assert run(torch.tensor([1.0, 6.0, 7.0])).item() == 14
    for _ in range(2):
        with pytest.raises((RuntimeError, IndexError)) as found:
            run(torch.zeros(3))
        with pytest.raises(type(found.value)):
            torch.zeros(0).max()


def test_a_piece_is_compiled_for_all_sizes_it_sees():
    compiles = []

    def backend(module, examples):
        compiles.append(str(module.graph))
        return module

    run = torch.compile(lambda x: x[x > 0].exp().sum(), backend=backend, fullgraph=True)
    for n in (2, 3, 5, 8):
        x = torch.cat([torch.ones(n), torch.zeros(12 - n)])
        np.testing.assert_allclose(run(x).item(), n * np.e, rtol=1e-5)
    assert len(compiles) == 2 and "gt" in compiles[0] and "exp" in compiles[1], compiles


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("fn", [lambda x: x * 2, lambda x: x[x > 0] * 2], ids=["all", "some"])
def test_enable_grad_within_a_call_without_gradients(fn, backend):
    def f(x):
        with torch.enable_grad():
            y = fn(x)
        return y, x + 1
    x = torch.tensor([1.0, -1.0], requires_grad=True)
    run = torch.compile(f, backend=backend, fullgraph=True)
    for _ in range(2):
        with torch.no_grad():
            y, z = run(x)
        assert y.requires_grad and not z.requires_grad
        assert torch.autograd.grad(y.sum(), x)[0].tolist() == torch.autograd.grad(fn(x).sum(), x)[0].tolist()

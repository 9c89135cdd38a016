"""What raises for its data raises in compiled code too, whether or not the program reads what it computes."""

import pytest
from capture import capture

import flambeau as ft
from flambeau import nn
from flambeau.passes.functionalize import functionalize

BACKENDS = ("eager", "aot_eager", "numpy", "cpp")
X = ft.arange(12).float().reshape(4, 3)
NEAR, FAR = ft.tensor([0, 1]), ft.tensor([0, 7])
FINE, SINGULAR = ft.eye(2), ft.zeros(2, 2)


def handled(x):
    try:
        ft.linalg.cholesky(x)
        ok = True
    except ft.linalg.LinAlgError:
        ok = False
    return x + 1, ok


def inverted(x):
    ft.linalg.inv(x)
    return x + 1


def reported(x):
    ft.linalg.inv_ex(x)
    return x + 1


def indexed(i):
    X[i]
    return i + 1


def gathered(i):
    X.gather(0, i[:, None])
    return i + 1


def indexed_twice(i):
    X[i + 1][i]
    return X[i - 1]


def nothing_else(i):
    X[i]


def on_the_tape(i):
    w = ft.ones(4, 3, requires_grad=True)
    (w * 2)[i].sum()
    return ft.autograd.grad((w * 3).sum(), w)[0]


def with_a_history(i, w):
    (w * 2)[i].sum()
    return (w * 3).sum().detach()


def looked_up(i):
    nn.functional.embedding(i, X)
    return i + 1


def loss(i):
    nn.functional.nll_loss(X[:2], i)
    return i + 1


def classes(i):
    nn.functional.one_hot(i, 5)
    return i + 1


def divided(i):
    ft.arange(2) // (i - 7)
    return i + 1


def drawn(i):
    ft.bernoulli(i / 2)
    return i + 1


def written(i):
    y = ft.zeros(4)
    y[i] = 1.0
    return i + 1


def written_and_cleared(i):
    y = ft.zeros(4)
    y[i] = 1.0
    y.zero_()
    return y + 1


def written_and_replaced(i):
    y = ft.zeros(4)
    y.scatter_(0, i, 1.0)
    y[:] = 2
    return y + 1


def written_and_copied_over(i):
    y = ft.zeros(2)
    y.copy_(X[i].sum(1))
    y.copy_(ft.ones(2))
    return y


def filled(i):
    return X[i].fill_(3)


def shape_of(i):
    return ft.ones_like(X[i])


CASES = [(f, (NEAR,), (FAR,)) for f in (
    indexed, gathered, indexed_twice, nothing_else, on_the_tape, looked_up, loss, classes, divided, drawn, written,
    written_and_cleared, written_and_replaced, written_and_copied_over, filled, shape_of)]
CASES += [(f, (FINE,), (SINGULAR,)) for f in (handled, inverted, reported)]
CASES += [(with_a_history, (NEAR, ft.ones(4, 3, requires_grad=True)), (FAR, ft.ones(4, 3, requires_grad=True)))]


def outcome(f, args):
    try:
        return str(f(*args))
    except Exception as error:  # noqa: BLE001
        return type(error).__name__, str(error)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("f", "good", "bad"), CASES, ids=[f.__name__ for f, *_ in CASES])
def test_raises_as_eager(f, good, bad, backend):
    compiled = ft.compile(f, backend=backend, dynamic=False)
    for args in (good, bad, good):
        assert outcome(compiled, args) == outcome(f, args)
    assert f in (handled, reported) or type(outcome(f, bad)) is tuple


@pytest.mark.parametrize("backend", BACKENDS)
def test_with_symbolic_sizes(backend):
    def f(x, i):
        x[i]
        return x + 1
    compiled = ft.compile(f, backend=backend, dynamic=True)
    for n in (4, 5, 6):
        x = ft.rand(n, 3)
        assert outcome(compiled, (x, NEAR)) == outcome(f, (x, NEAR))
        assert outcome(compiled, (x, FAR)) == outcome(f, (x, FAR)) and "7" in outcome(f, (x, FAR))[1]


def test_only_what_may_raise_is_kept():
    def f(i, x):
        y = x.sin()
        y.add_(1)
        i.sum()
        i // 2
        ft.linalg.inv_ex(x)
        ft.cat([i, i])
        ft.gather(x, 0, i[None])[0]
        return i + 1
    found = functionalize(capture(f, [NEAR, FINE])).graph
    assert [n.op.name for n in found.nodes] == ["unsqueeze", "gather", "add"]
    assert [n.op.name for n in found.outputs] == ["add", "gather"]

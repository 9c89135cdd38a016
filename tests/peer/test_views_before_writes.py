"""Views made while their base is off the tape, and recorded writes to the base after that: as PyTorch has it."""
import itertools

import pytest
import torch

import flambeau

VIEWS = {
    "slice": lambda b: b[:2], "view": lambda b: b.view(3, 2), "t": lambda b: b.t(), "chain": lambda b: b.t()[0],
    "unbind": lambda b: b.unbind(0)[0], "chunk": lambda b: b.chunk(2)[1], "detach": lambda b: b.detach(),
    "data": lambda b: b.data,
    "expand": lambda b: b[:1].expand(2, 3), "reshape": lambda b: b.reshape(6), "select": lambda b: b[0],
    "unsqueeze": lambda b: b.unsqueeze(0).squeeze(0),
}
WRITES = {
    "add": lambda m, b, w: b.add_(w), "mul": lambda m, b, w: b.mul_(w), "copy": lambda m, b, w: b.copy_(w),
    "row": lambda m, b, w: b.__setitem__(0, w[0]), "all": lambda m, b, w: b.__setitem__(slice(None), w),
    "through a view": lambda m, b, w: b[1].add_(w[1]), "through the transpose": lambda m, b, w: b.t().add_(w.t()),
    "a number of it": lambda m, b, w: b.fill_(w[0, 0]),
    "zero": lambda m, b, w: b.zero_(), "no tape": lambda m, b, w: b.add_(w.detach()),
    "twice": lambda m, b, w: b.mul_(w).relu_(), "leaf": lambda m, b, w: b.requires_grad_(),
    "leaf and back": lambda m, b, w: b.requires_grad_().requires_grad_(False),
}
THEN = {
    "look": lambda m, x, b, w: None, "use": lambda m, x, b, w: facts(x * 2), "use first": None,
    "view": lambda m, x, b, w: facts(x[0]), "write": lambda m, x, b, w: (x.mul_(2), facts(x), facts(b))[1:],
    "gradient": lambda m, x, b, w: ((x * 3).sum().backward(), w.grad is None or w.grad.tolist())[1],
}


def facts(t):
    return t.requires_grad, t.is_leaf, t.grad_fn is not None


def story(m, view, write, then):
    base, w = m.zeros(2, 3), m.ones(2, 3, requires_grad=True)
    try:
        x = VIEWS[view](base)
        WRITES[write](m, base, w)
        if THEN[then] is None:
            return facts(x * 2)
        return facts(x), facts(base), THEN[then](m, x, base, w)
    except RuntimeError as error:
        text = str(error)
        return "raised", "inplace" if "modified inplace" in text else text


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_on_the_tape_once_its_base_is(view):
    for write, then in itertools.product(WRITES, THEN):
        assert story(flambeau, view, write, then) == story(torch, view, write, then), (write, then)


def test_only_what_still_lives_is_remembered():
    base = flambeau.zeros(4, 4)
    kept = base[1]
    for _ in range(1000):
        base[0]
    assert len(base._storage.views) < 200
    base.mul_(flambeau.ones(4, 4, requires_grad=True))
    assert kept.requires_grad

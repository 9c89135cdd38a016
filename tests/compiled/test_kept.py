"""What a compiled call keeps for its backward, the program may write to wherever eager mode lets it."""

from __future__ import annotations

import pytest
from capture import capture

import flambeau as ft
import flambeau.nn.functional as F
from flambeau.passes.manager import functional
from flambeau.passes.tape import loose_values

PROGRAMS = {
    "sum": lambda x, y: (y * y + x).abs(),
    "two": lambda x, y: ((x + y).sin(), (x - y).exp()),
    "steps": lambda x, y: (x * 2 + y, ((x * 2 + y) * 3).sin()),
    "results read": lambda x, y: _with_its_parts(y + 1, lambda v: (v * 2).cos()),
    "a copy": lambda x, y: x.clone() * y,
    "a copy is returned": lambda x, y: _with_its_parts(x.clone(), lambda v: v * y),
    "a view": lambda x, y: (y.t() + x.t()).sin(),
    "a reshape": lambda x, y: (y.reshape(-1) + x.reshape(-1)).tanh() * 2,
    "of parts": lambda x, y: ft.lerp(x, y, 0.3).cos() + ft.addcmul(x, x, y),
    "reversed": lambda x, y: (1 - x).mul(y).sigmoid(),
    "a mask": lambda x, y: y.masked_fill(x > 1, 0.0),
    "where": lambda x, y: ft.where(x > 0.8, y * x, y.exp()),
    "softmax": lambda x, y: F.softmax(x + y, -1),
    "layer norm": lambda x, y: F.layer_norm(y + x, (4,)),
    "products": lambda x, y: (x + 1) @ y.t(),
    "several results": lambda x, y: _with_its_parts((y + x).sort(-1)[0], lambda v: v.exp()),
    "gathered": lambda x, y: y.gather(1, (x * 0).long()).square(),
    "written inside": lambda x, y: x.mul_(0.5) + y.sin(),
    "grad of a part": lambda x, y: (y[1:] + x[1:]).sin(),
    "in half": lambda x, y: (x.bfloat16() * y.bfloat16()).float(),
}


def _with_its_parts(v, fn):
    return v, fn(v)


def ran(fn, write):
    """Gradients of one call after ``write`` (inputs, results) has run; None where the tape refuses them."""
    ft.manual_seed(0)
    x, y = ft.rand(3, 4) + 0.5, ft.rand(3, 4) + 0.5
    base = y.clone().requires_grad_()
    y = base * 1.0                        # no leaf: it may be written to
    results = fn(x, y)
    results = results if isinstance(results, tuple) else (results,)
    with ft.no_grad():
        write([x, y], results)
    results = [r for r in results if r.requires_grad]
    try:
        return ft.autograd.grad(results, base, [ft.ones_like(r) for r in results])
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
        return None


def write_input(i):
    return lambda inputs, results: inputs[i].mul_(0.25)


def write_result(i):
    return lambda inputs, results: results[i % len(results)].add_(3)


WRITES = {"x": write_input(0), "y": write_input(1), "first result": write_result(0), "last result": write_result(-1),
          "all but what is kept": lambda inputs, results: [t.zero_() for t in (inputs[0], results[0])]}


@pytest.mark.parametrize("backend", ["aot_eager", "numpy", "cpp"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_eager_mode_does_not_keep_may_be_written_to(name, backend):
    fn = PROGRAMS[name]
    compiled, free = ft.compile(fn, backend=backend, fullgraph=True), 0
    for write in WRITES.values():
        expected = ran(fn, write)
        if expected is not None:
            free += 1
            found = ran(compiled, write)
            assert found is not None, "refused, which eager mode does not"
            for a, b in zip(found, expected):
                ft.testing.assert_close(a, b)
    assert free, "every write is refused"


def test_parameters_are_kept_as_they_are():
    def is_kept(second):
        first = ft.rand(3, 4, requires_grad=True)
        node = ft.compile(lambda x, y: (x * x + y).sin(), backend="numpy")(first, second).grad_fn
        return any(s.tensor is second for s in node.saved)

    assert not is_kept(ft.rand(3, 4))
    assert is_kept(ft.nn.Parameter(ft.rand(3, 4), requires_grad=False))


def test_what_the_tape_does_not_keep_is_known():
    x, y = ft.rand(3, 4), ft.rand(3, 4, requires_grad=True)
    graph = capture(lambda x, y: ((x + y).sin(), x * y, (y * 2).exp()), [x, y])
    assert loose_values(functional(graph).graph) == ([1], [0, 1])
    assert functional(graph).loose == {graph.inputs[1].name, *(o.name for o in functional(graph).graph.outputs[:2])}
    assert functional(graph, lasting=[1]).loose == {o.name for o in functional(graph).graph.outputs[:2]}

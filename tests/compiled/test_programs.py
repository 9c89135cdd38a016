"""Compiled programs compute what they compute eagerly: values, gradients, second derivatives, writes, aliases."""

from __future__ import annotations

import numpy as np
import pytest
from capture import capture
from compiled.programs import PROGRAMS, Program

import flambeau as ft
from flambeau.frontend.backends import list_backends, lookup

BACKENDS = [name for name in ("aot_eager", "numpy", "cpp") if name in list_backends()]
each_program = pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def compiled(program: Program, backend: str):
    run = lookup(backend)(capture(program.fn, program.inputs()), program.inputs(), {}, True)
    return lambda *inputs: run(inputs)


def outputs_of(found):
    return list(found) if isinstance(found, (tuple, list)) else [found]


def tensors(values):
    return [v for v in values if isinstance(v, ft.Tensor)]


def same(actual, expected):
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected):
        if e is None or not isinstance(e, ft.Tensor):
            assert a == e if e is not None else a is None
            continue
        assert a.dtype == e.dtype and tuple(a.shape) == tuple(e.shape)
        np.testing.assert_allclose(a.detach().numpy(), e.detach().numpy(), rtol=2e-5, atol=1e-6)


def gradients(program, outs, inputs, order=1):
    """The gradients of the outputs' weighted sum to the inputs, differentiated ``order`` times."""
    wanted = [getattr(inputs[i], "leaf", inputs[i]) for i in program.grads]
    total = sum((o * (k + 2)).sum() for k, o in enumerate(tensors(outs)) if o.requires_grad)
    for n in range(order):
        found = ft.autograd.grad(total, wanted, create_graph=n + 1 < order, allow_unused=True)
        if n + 1 < order:
            total = sum((g * g).sum() for g in found if g is not None and g.requires_grad)
            if not isinstance(total, ft.Tensor):
                return found
    return found


@each_backend
@each_program
def test_values_and_writes(program, backend):
    eager_in, compiled_in = program.inputs(), program.inputs()
    expected = outputs_of(program.fn(*eager_in))
    actual = outputs_of(compiled(program, backend)(*compiled_in))
    same(actual, expected)
    same(compiled_in, eager_in)
    assert [o.requires_grad for o in tensors(actual)] == [o.requires_grad for o in tensors(expected)]


@each_backend
@each_program
def test_aliases(program, backend):
    """Outputs share storage with the inputs, and with each other, as they do eagerly."""
    def pattern(run):
        inputs = program.inputs()
        found = inputs + tensors(outputs_of(run(*inputs)))
        return [[a._storage is b._storage for b in found] for a in found]

    assert pattern(compiled(program, backend)) == pattern(program.fn)


@each_backend
@each_program
@pytest.mark.parametrize("order", [1, 2, 3])
def test_gradients(program, backend, order):
    if not program.grads:
        pytest.skip("nothing requires a gradient")
    eager_in, compiled_in = program.inputs(), program.inputs()
    expected = gradients(program, outputs_of(program.fn(*eager_in)), eager_in, order)
    actual = gradients(program, outputs_of(compiled(program, backend)(*compiled_in)), compiled_in, order)
    same(actual, expected)


@each_backend
@each_program
def test_in_inference(program, backend):
    with ft.no_grad():
        run = compiled(program, backend)
        expected = outputs_of(program.fn(*program.inputs()))
        actual = outputs_of(run(*program.inputs()))
    same(actual, expected)
    assert [o.requires_grad for o in tensors(actual)] == [o.requires_grad for o in tensors(expected)]

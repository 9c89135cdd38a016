"""Every sample of every op, compiled: values and gradients are those of eager execution on each target."""

from __future__ import annotations

import numpy as np
import pytest
from capture import capture
from materialize import arguments, calls, fill

import flambeau as ft
from flambeau.frontend.backends import list_backends, lookup
from flambeau.ir import dtype as _dtype
from flambeau.ir.op import call
from flambeau.ir.tree import leaves

BACKENDS = [name for name in ("aot_eager", "numpy", "cpp") if name in list_backends()]
# Random ops have tests of their own; what has no shape rule has a result whose size depends on data, and is never captured.
SAMPLES = {name: (op, sample) for name, op, sample in calls()
           if not {"random", "undefined"} & op.tags and (op.infer is not None or op.decompose is not None)}


def tensors_of(found):
    return [x for x in leaves((found,)) if isinstance(x, ft.Tensor)]


def close(actual, expected, what):
    assert (actual is None) == (expected is None), what
    if expected is None:
        return
    assert actual.dtype is expected.dtype and tuple(actual.shape) == tuple(expected.shape), what
    np.testing.assert_allclose(np.asarray(actual.detach()._a, np.complex128 if actual.is_complex() else None),
                               expected.detach()._a, rtol=2e-4, atol=2e-5, err_msg=what)


def gradients(outs, wanted):
    outs = [o for o in outs if o.requires_grad]
    if not outs or not wanted:
        return []
    weights = [ft.ones_like(o) * (0.5 + k) for k, o in enumerate(outs)]
    return ft.autograd.grad(outs, wanted, weights, allow_unused=True)


def _cases():
    """Every sample on every target; where a compiler has to run, those beyond an op's second are for the long run."""
    for name in SAMPLES:
        for backend in BACKENDS:
            more = backend == "cpp" and int(name.rpartition("-")[2]) > 1
            yield pytest.param(name, backend, marks=pytest.mark.slow if more else ())


@pytest.mark.parametrize(("name", "backend"), _cases())
def test_compiled_as_eager(name, backend):
    op, sample = SAMPLES[name]
    args, tensors, grads = arguments(name, op, sample, _dtype.float32)
    if "nograd" not in op.tags:
        for i in grads:
            tensors[i].requires_grad_()
    wanted = [tensors[i] for i in grads if tensors[i].requires_grad]
    expected = tensors_of(call(op, fill(args, tensors)))

    def fn(*given):
        found = call(op, fill(args, given))
        return tuple(found) if isinstance(found, (tuple, list)) else found

    run = lookup(backend)(capture(fn, tensors), tensors, {}, True)
    actual = tensors_of(run(tensors))
    assert len(actual) == len(expected)
    for i, (a, e) in enumerate(zip(actual, expected)):
        close(a, e, f"output {i}")
    for i, (a, e) in enumerate(zip(gradients(actual, wanted), gradients(expected, wanted))):
        close(a, e, f"gradient {i}")

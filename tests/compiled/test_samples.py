"""Every sample of every op, compiled: values and gradients are those of eager execution on each target."""

from __future__ import annotations

import numpy as np
import pytest
from capture import capture
from sampling import dtypes_of, outputs, sampled_ops, tensors

import flambeau as ft
from flambeau.frontend.backends import list_backends, lookup
from flambeau.ir import dtype as _dtype
from flambeau.ir.op import OPS, call
from flambeau.ir.tree import leaves, tree_map

# Every target: eager compiles nothing, inductor is another name of cpp, Triton's spellings are tested in tests/gpu.
BACKENDS = [name for name in list_backends() if name not in ("eager", "inductor", "triton")]
# What has no shape rule has a result whose size depends on data, and is never captured.
NAMES = [name for name in sampled_ops() if OPS[name].infer is not None or OPS[name].decompose is not None]
DTYPES = (_dtype.float32, _dtype.int64, _dtype.bool_, _dtype.complex64)  # the first that a sample holds for
SAMPLES = {f"{name}-{i}": (OPS[name], i, sample) for name in NAMES for i, sample in enumerate(OPS[name].samples())
           if dtypes_of(OPS[name], sample)}


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


@pytest.mark.parametrize(("name", "backend"), list(_cases()))
def test_compiled_as_eager(name, backend):
    op, i, sample = SAMPLES[name]
    held = dtypes_of(op, sample)
    args = tensors(op, i, sample, next(d for d in DTYPES if d in held), grad=True)
    given = [x for x in leaves(args) if isinstance(x, ft.Tensor)]
    wanted = [x for x in given if x.requires_grad]
    expected = outputs(call(op, args))

    def fn(*given):
        rest = iter(given)
        found = call(op, tree_map(lambda a: next(rest) if isinstance(a, ft.Tensor) else a, args))
        return tuple(found) if isinstance(found, (tuple, list)) else found

    run = lookup(backend)(capture(fn, given), given, {}, True)
    actual = outputs(run(given))
    assert len(actual) == len(expected)
    for i, (a, e) in enumerate(zip(actual, expected)):
        close(a, e, f"output {i}")
    for i, (a, e) in enumerate(zip(gradients(actual, wanted), gradients(expected, wanted))):
        close(a, e, f"gradient {i}")

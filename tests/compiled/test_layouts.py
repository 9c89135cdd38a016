"""Results lie in memory as they do eagerly, and writing through ``reshape``, ``contiguous`` or ``as_strided`` reaches what it
reaches eagerly, for inputs of any strides."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import flambeau as ft
from flambeau.frontend.aot import CompileWarning

LAYOUTS = [lambda: ft.arange(6.0).reshape(2, 3), lambda: ft.arange(6.0).reshape(3, 2).t(),
           lambda: ft.arange(12.0).reshape(2, 6)[:, ::2]]


def through_the_input(x):
    y = x.reshape(-1)
    y.add_(1)
    return y


def before_the_write(x):
    y = x.t().reshape(-1)
    x.mul_(2)
    return y + 1


def of_a_value(x):
    y = x * 2
    z = y.reshape(-1)
    z.add_(1)
    return y, z


def copied(x):
    y = x * 2
    z = y.t().contiguous()
    z.add_(1)
    return y, z


def agrees(fn, backend):
    compiled = ft.compile(fn, backend=backend)
    for layout in LAYOUTS:
        x, y = layout(), layout()
        expected, found = fn(x), compiled(y)
        for e, f in zip(expected if isinstance(expected, tuple) else [expected], found if isinstance(found, tuple) else [found]):
            np.testing.assert_array_equal(f.numpy(), e.numpy())
        np.testing.assert_array_equal(y.numpy(), x.numpy())


@pytest.mark.parametrize("backend", ["aot_eager", "numpy", "cpp"])
@pytest.mark.parametrize("fn", [through_the_input, before_the_write, of_a_value, copied])
def test_writes_reach_what_they_reach_eagerly(fn, backend):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agrees(fn, backend)


def test_an_unknown_layout_is_left_to_eager():
    def unknown(x):
        y = x.t() * 2
        z = y.reshape(-1)
        z.add_(1)
        return y, z

    with pytest.warns(CompileWarning, match="depending on strides"):
        agrees(unknown, "aot_eager")


# --------------------------------------------------------------------------- results, where they lie and whose memory they are

def of(make, *results):
    """A program that returns a value and what ``results`` make of it."""
    def program(x):
        value = make(x)
        return value, *(result(value) for result in results)
    return program


def filled(shape, view, value):
    def program(x):
        new = ft.zeros(shape)
        view(new).copy_(value(x))
        return new, value(x).sum()
    return program


RESULTS = {
    "sum": of(lambda x: x + 1),
    "several": of(lambda x: x * 2, ft.exp, lambda y: y.t() + y, lambda y: y.neg().neg(), lambda y: y * 1),
    "views": of(lambda x: x + 1, lambda y: y.t(), lambda y: y[1:], lambda y: y[:, 1], lambda y: y.unsqueeze(0)),
    "one view": lambda x: (x + 1).t(),
    "turned": lambda x: (x * 1).t_(),
    "part of a view": lambda x: (x + 1).t()[1:, :2],
    "copies": of(lambda x: x + 1, ft.clone, lambda y: y.t().clone(), lambda y: y.to(ft.float32, copy=True),
                 lambda y: y.double().float()),
    "reshapes": of(lambda x: x + 1, lambda y: y.reshape(-1), lambda y: y.t().reshape(-1), lambda y: y.flatten(),
                   lambda y: y.ravel()),
    "contiguous": of(lambda x: x + 1, lambda y: y.contiguous(), lambda y: y.t().contiguous()),
    "only contiguous": lambda x: (x + 1).t().contiguous(),
    "expanded": of(lambda x: x.sum(), lambda y: y.expand(2, 3), lambda y: y.expand(2, 3).clone(), lambda y: y.repeat(4)),
    "expanded part": of(lambda x: x + 1, lambda y: y[:1].expand(3, 3), lambda y: y[:1].expand(3, 3).contiguous()),
    "strided": of(lambda x: x.contiguous() + 1, lambda y: y.as_strided((2, 2), (1, 1)), lambda y: y[:, 1:].as_strided((2,), (3,)),
                  lambda y: y[:, 1:].as_strided((2,), (1,), 4)),
    "strided alone": lambda x: (x.contiguous() * 2).as_strided((2, 2), (1, 1), 1),
    "strided part": lambda x: (x.contiguous() * 2)[1:, 1:].as_strided((2, 2), (2, 1)),
    "product": of(lambda x: x.t() @ x, lambda y: y.t(), lambda y: y.contiguous()),
    "concatenated": of(lambda x: x.t() + 1, lambda y: ft.cat([y, y]), lambda y: ft.stack([y])),
    "selected": of(lambda x: x * 2, lambda y: y[ft.tensor([0, 2])], lambda y: y[:, ft.tensor([1, 0])]),
    "looked up": lambda x: (x.t() * 2, ft.nn.functional.embedding(ft.tensor([[0, 2], [1, 1]]), x.t()),
                            x.t().gather(0, ft.tensor([[0, 1, 2], [2, 1, 0]]))),
    "of composites": of(lambda x: ft.nn.functional.gelu(x.t()), lambda y: ft.nn.functional.hardtanh(y)),
    "filled with one": filled((2, 3), lambda v: v, lambda x: x.sum()),
    "filled with rows": filled((2, 3), lambda v: v.t(), lambda x: x[:, :1].expand(3, 2)),
    "filled with columns": filled((3, 3), lambda v: v, lambda x: x.t() * 2),
    "a filled view": lambda x: ft.zeros(2, 3).t().copy_(x[:, :2]),
    "assigned": lambda x: _assigned(ft.zeros(3, 3), x + 1),
    "four dimensions": lambda x: (x.reshape(1, 3, 3, 1).permute(0, 3, 1, 2) * 2).permute(0, 2, 3, 1),
    "channels last": lambda x: x.reshape(1, 3, 3, 1).expand(2, 3, 3, 2).contiguous(memory_format=ft.channels_last) + 1,
}


def _assigned(new, value):
    new[:] = value.t()
    return new, value


def laid_out(fn, x):
    """Strides of the results, and what all of them show when each has been written to in turn."""
    results = fn(x)
    results = results if isinstance(results, tuple) else (results,)
    strides, refused = [[s for s, n in zip(r.stride(), r.shape) if n != 1] for r in results], []
    with ft.no_grad():
        for k, result in enumerate(results):
            try:
                result[(-1,) * result.ndim] = 100.0 + k
                result.mul_(1)
            except RuntimeError as error:
                refused.append((k, str(error)))
    return strides, refused, [r.tolist() for r in results], x.tolist()


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("backend", ["numpy", "cpp"])
@pytest.mark.parametrize("name", RESULTS)
def test_results_lie_as_they_do_eagerly(name, backend, dynamic):
    fn = RESULTS[name]
    compiled = ft.compile(fn, backend=backend, dynamic=dynamic)
    square = ft.arange(9.0).reshape(3, 3)
    for make in (lambda: square.clone(), lambda: square.clone().t(), lambda: ft.arange(12.0).reshape(3, 4)[:, 1:],
                 lambda: square.clone().requires_grad_().t()):
        (strides, *shown), (expected, *wanted) = laid_out(compiled, make()), laid_out(fn, make())
        assert strides == expected
        assert shown[0] == wanted[0]
        for found, value in zip((*shown[1], shown[2]), (*wanted[1], wanted[2])):
            np.testing.assert_allclose(found, value, 1e-5)


def test_a_contiguous_tensor_is_its_own_contiguous_form():
    def program(x):
        y = x + 1
        z = y.contiguous()
        return y is z, y.t() is y.t().contiguous(), [y, z]

    compiled = ft.compile(program, backend="numpy", fullgraph=True)
    for x in (ft.ones(2, 3), ft.ones(3, 2).t(), ft.ones(2, 3)):
        same, never, (y, z) = compiled(x)
        assert (same, never, y is z) == (x.is_contiguous(), not x.is_contiguous() and False, x.is_contiguous())


def test_a_recorded_write_to_a_detached_tensor_gives_it_alone_a_history():
    def program(w):
        whole = ft.zeros(2, 3)
        part = whole.detach()
        part.copy_(w)
        return whole, part

    for fn in (program, ft.compile(program, backend="numpy")):
        whole, part = fn(ft.ones(2, 3, requires_grad=True))
        assert (whole.requires_grad, part.requires_grad) == (False, True) and whole.tolist() == part.tolist()


def test_parts_compute_in_the_dtype_of_the_whole():
    def program(x):
        large = (x * 50000).int()
        return x.addcmul(large, large, value=2), x.double().addcdiv(large, large + 1), ft.add(x, large, alpha=100000)

    x = ft.arange(1.0, 5.0)
    for backend in ("aot_eager", "numpy", "cpp"):
        for found, expected in zip(ft.compile(program, backend=backend)(x), program(x)):
            ft.testing.assert_close(found, expected)

"""Derivatives held against finite differences (PyTorch: ``torch.autograd.gradcheck``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flambeau.ir.op import ops
from flambeau.runtime import autograd
from flambeau.runtime.tensor import Tensor


class GradcheckError(RuntimeError):
    """An analytical gradient that differs from the numerical one, or a wrong use of ``gradcheck``."""


def _tuple(x: Any) -> tuple:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def _checked(inputs: tuple) -> list[Tensor]:
    found = [t for t in inputs if isinstance(t, Tensor) and t.requires_grad]
    if not found:
        raise ValueError("gradcheck expects at least one input tensor to require gradient, but none of the them have "
                         "requires_grad=True.")
    return found


def _outputs(fn: Callable, inputs: tuple) -> list[Tensor]:
    return [o for o in _tuple(fn(*inputs)) if isinstance(o, Tensor) and o.dtype.differentiable]


def _flat(t: Any) -> np.ndarray:
    return np.array(t.detach().numpy(), copy=True).reshape(-1)


def _numerical(fn: Callable, inputs: tuple, x: Tensor, eps: float) -> list[np.ndarray]:
    """For each output, d(output)/d(x) as [x elements, output elements] by central differences (complex x: as if real)."""
    columns: list[list[np.ndarray]] = []
    data, kind = x._a, x._a.dtype.kind
    for where in np.ndindex(data.shape):
        before = data[where].copy()
        parts = []
        for step in (eps, eps * 1j) if kind == "c" else (eps,):
            data[where] = before + step
            high = [_flat(o) for o in _outputs(fn, inputs)]
            data[where] = before - step
            low = [_flat(o) for o in _outputs(fn, inputs)]
            data[where] = before
            parts.append([(h - l) / (2 * eps) for h, l in zip(high, low)])
        columns.append([p[0] if len(parts) == 1 else p[0] + 1j * p[1] for p in zip(*parts)])
    if not columns:
        return [np.zeros((0, o.numel())) for o in _outputs(fn, inputs)]
    return [np.stack([c[i] for c in columns]) for i in range(len(columns[0]))]


def _analytical(outputs: Sequence[Tensor], inputs: list[Tensor]) -> list[list[np.ndarray]]:
    """For each output (all real) and input, the same matrix by one backward pass per output element."""
    found = []
    for out in outputs:
        rows: list[list[np.ndarray]] = [[] for _ in inputs]
        for where in np.ndindex(tuple(out.shape)):
            for row, g in zip(rows, _one_gradient(out, inputs, where)):
                row.append(g)
        found.append([np.stack(r, 1) if r else np.zeros((x.numel(), 0)) for r, x in zip(rows, inputs)])
    return found


def _one_gradient(out: Tensor, inputs: list[Tensor], where: tuple) -> list[np.ndarray]:
    seed = np.zeros(out.shape, out._a.dtype)
    seed[where] = 1
    grads = autograd.grad(out, inputs, Tensor(seed), retain_graph=True, allow_unused=True)
    return [np.zeros(x.numel(), x._a.dtype) if g is None else _flat(g) for g, x in zip(grads, inputs)]


def gradcheck(func: Callable, inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
              raise_exception: bool = True, nondet_tol: float = 0.0, check_undefined_grad: bool = True,
              check_grad_dtypes: bool = False, check_batched_grad: bool = False, check_batched_forward_grad: bool = False,
              check_forward_ad: bool = False, check_backward_ad: bool = True, fast_mode: bool = False,
              masked: bool | None = None) -> bool:
    """Whether the gradients of ``func(*inputs)`` agree with finite differences.

    ``inputs`` are tensors, best of float64; those that require grad are checked. Raises :class:`GradcheckError` unless
    ``raise_exception`` is False. Of complex outputs both parts are checked.
    """
    try:
        return _gradcheck(func, _tuple(inputs), eps, atol, rtol, nondet_tol)
    except GradcheckError:
        if raise_exception:
            raise
        return False


def _gradcheck(func: Callable, inputs: tuple, eps: float, atol: float, rtol: float, nondet_tol: float) -> bool:
    wanted = _checked(inputs)
    fn = _as_real(func)
    outputs = _outputs(fn, inputs)
    if not outputs or not any(o.requires_grad for o in outputs):
        raise GradcheckError("gradcheck: no output of the function requires a gradient")
    live = [i for i, o in enumerate(outputs) if o.requires_grad]
    analytical = _analytical([outputs[i] for i in live], wanted)
    again = _analytical([outputs[i] for i in live], wanted)
    for x_index, x in enumerate(wanted):
        with autograd.GradMode(False):
            numerical = _numerical(fn, inputs, x, eps)
        for row, i in enumerate(live):
            mine, truth = analytical[row][x_index], numerical[i]
            if not np.allclose(mine, again[row][x_index], rtol=0, atol=nondet_tol or 1e-12):
                raise GradcheckError("Backward is not reentrant, i.e., running backward with same input and grad_output multiple "
                                     f"times gives different values for output {i} and input {x_index}")
            if not np.allclose(mine, truth, rtol=rtol, atol=atol):
                raise GradcheckError(f"Jacobian mismatch for output {i} with respect to input {x_index},\nnumerical:{truth}\n"
                                     f"analytical:{mine}\n")
    return True


def _as_real(func: Callable) -> Callable:
    """``func`` with each complex output as its real and imaginary parts."""
    def real(*args: Any) -> tuple:
        found: list[Any] = []
        for o in _tuple(func(*args)):
            if isinstance(o, Tensor) and o.dtype.is_complex:
                found += [ops.real(o), ops.imag(o)]
            else:
                found.append(o)
        return tuple(found)
    return real


def gradgradcheck(func: Callable, inputs: Any, grad_outputs: Any = None, *, eps: float = 1e-6, atol: float = 1e-5,
                  rtol: float = 1e-3, gen_non_contig_grad_outputs: bool = False, raise_exception: bool = True,
                  nondet_tol: float = 0.0, check_undefined_grad: bool = True, check_grad_dtypes: bool = False,
                  check_batched_grad: bool = False, check_fwd_over_rev: bool = False, check_rev_over_rev: bool = True,
                  fast_mode: bool = False, masked: bool = False) -> bool:
    """Whether the second derivatives of ``func(*inputs)`` agree with finite differences of the first."""
    inputs = _tuple(inputs)
    wanted = _checked(inputs)
    outputs = [o for o in _outputs(func, inputs) if o.requires_grad]
    given = list(_tuple(grad_outputs)) if grad_outputs is not None else [_seed(o, i) for i, o in enumerate(outputs)]

    def first_order(*args: Any) -> tuple:
        xs, gs = args[:len(inputs)], args[len(inputs):]
        outs = [o for o in _outputs(func, xs) if o.requires_grad]
        with autograd.GradMode(True):
            targets = [x for x, original in zip(xs, inputs) if any(original is w for w in wanted)]
            grads = autograd.grad(outs, targets, list(gs), create_graph=True, allow_unused=True)
        return tuple(g for g in grads if g is not None and g.requires_grad)

    def check(*args: Any) -> tuple:
        with autograd.GradMode(True):
            return first_order(*args)

    probe = check(*inputs, *given)
    if not probe:
        return True  # the gradient does not depend on the inputs: nothing to differentiate
    return gradcheck(check, (*inputs, *given), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception,
                     nondet_tol=nondet_tol)


def _seed(out: Tensor, number: int) -> Tensor:
    """A gradient of the output for the second derivative: fixed, of mixed signs, itself differentiated."""
    rng = np.random.default_rng(number)
    made = Tensor(rng.standard_normal(out.shape).astype(out._a.dtype))
    return made.requires_grad_()

"""Derivatives held against finite differences (PyTorch: ``torch.autograd.gradcheck``)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flambeau.ir import dtype as _dtype
from flambeau.ir.op import ops
from flambeau.runtime import autograd
from flambeau.runtime.autograd import GradNode
from flambeau.runtime.tensor import Tensor, wrap


class GradcheckError(RuntimeError):
    """An analytical gradient that differs from the numerical one, or a wrong use of ``gradcheck``."""


def gradcheck(func: Callable, inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
              raise_exception: bool = True, nondet_tol: float = 0.0, check_undefined_grad: bool = True,
              check_grad_dtypes: bool = False, check_batched_grad: bool = False, check_batched_forward_grad: bool = False,
              check_forward_ad: bool = False, check_backward_ad: bool = True, fast_mode: bool = False,
              masked: bool | None = None) -> bool:
    """Whether the derivatives of ``func(*inputs)`` agree with finite differences.

    Args:
        inputs: tensors, best of float64; those that require grad are checked. Of complex outputs both parts are checked.
        nondet_tol: by how much two backward passes may differ.
        check_undefined_grad: whether functions of several outputs stand outputs without a gradient.
        check_grad_dtypes: whether gradients have the dtypes of the inputs.
        check_batched_grad, check_batched_forward_grad: whether ``vmap`` of the derivative is a loop over it.
        check_forward_ad, check_backward_ad: which modes to check.
        fast_mode: compare along random directions instead of all elements.
    Raises :class:`GradcheckError` unless ``raise_exception`` is False, ``ValueError`` for no input that requires grad.
    """
    if not (check_forward_ad or check_backward_ad):
        raise AssertionError("Expected at least one of check_forward_ad or check_backward_ad to be True")
    if check_batched_grad and not check_backward_ad:
        raise AssertionError("Setting check_batched_grad=True requires check_backward_ad to be True")
    if check_batched_forward_grad and not check_forward_ad:
        raise AssertionError("Setting check_batched_forward_grad=True requires check_forward_ad to be True")
    check = _Check(func, _tuple(inputs), eps, atol, rtol, nondet_tol, fast_mode)
    try:
        check.run(check_backward_ad, check_forward_ad, check_undefined_grad, check_grad_dtypes, check_batched_grad,
                  check_batched_forward_grad)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(func: Callable, inputs: Any, grad_outputs: Any = None, *, eps: float = 1e-6, atol: float = 1e-5,
                  rtol: float = 1e-3, gen_non_contig_grad_outputs: bool = False, raise_exception: bool = True,
                  nondet_tol: float = 0.0, check_undefined_grad: bool = True, check_grad_dtypes: bool = False,
                  check_batched_grad: bool = False, check_fwd_over_rev: bool = False, check_rev_over_rev: bool = True,
                  fast_mode: bool = False, masked: bool = False) -> bool:
    """Whether the second derivatives of ``func(*inputs)`` agree with finite differences of the first (see :func:`gradcheck`)."""
    if not (check_fwd_over_rev or check_rev_over_rev):
        raise AssertionError("Expected at least one of check_fwd_over_rev or check_rev_over_rev to be True")
    inputs = _tuple(inputs)
    wanted = _checked(inputs)
    outputs = [o for o in _outputs(func, inputs) if o.requires_grad]
    given = list(_tuple(grad_outputs)) if grad_outputs is not None else [
        _seed(o, i, gen_non_contig_grad_outputs) for i, o in enumerate(outputs)]

    def first_order(*args: Any) -> tuple:
        xs, gs = args[:len(inputs)], args[len(inputs):]
        with autograd.GradMode(True):
            outs = [o for o in _outputs(func, xs) if o.requires_grad]
            targets = [x for x, original in zip(xs, inputs) if any(original is w for w in wanted)]
            grads = autograd.grad(outs, targets, list(gs), create_graph=True, allow_unused=True)
        return tuple(g for g in grads if g is not None and g.requires_grad)

    if not first_order(*inputs, *given):
        return True  # the gradient does not depend on the inputs: nothing to differentiate
    settings: dict[str, Any] = {"eps": eps, "atol": atol, "rtol": rtol, "raise_exception": raise_exception,
                                "nondet_tol": nondet_tol, "fast_mode": fast_mode}
    fine = True
    if check_rev_over_rev:
        fine = gradcheck(first_order, (*inputs, *given), check_undefined_grad=check_undefined_grad,
                         check_grad_dtypes=check_grad_dtypes, check_batched_grad=check_batched_grad, **settings)
    if fine and check_fwd_over_rev:
        fine = gradcheck(_transformed_gradient(func, inputs, wanted), (*inputs, *given), check_forward_ad=True,
                         check_backward_ad=False, check_undefined_grad=False, **settings)
    return fine


def _transformed_gradient(func: Callable, inputs: tuple, wanted: list[Tensor]) -> Callable[..., tuple]:
    """The gradient by ``func.vjp``, which forward mode sees through."""
    from flambeau.func import vjp  # noqa: PLC0415 - the transforms load with their first use
    places = [i for i, x in enumerate(inputs) if any(x is w for w in wanted)]

    def gradient(*args: Any) -> tuple:
        xs, gs = list(args[:len(inputs)]), args[len(inputs):]

        def of_wanted(*moving: Any) -> tuple:
            for i, x in zip(places, moving):
                xs[i] = x
            return tuple(_outputs(func, tuple(xs)))

        return vjp(of_wanted, *(args[i] for i in places))[1](tuple(gs))

    return gradient


def _seed(out: Tensor, number: int, spread: bool) -> Tensor:
    """A gradient of the output for the second derivative: fixed, of mixed signs, itself differentiated."""
    values = np.random.default_rng(number).standard_normal(out.shape).astype(out._a.dtype)
    if spread and values.ndim:
        values = np.repeat(values, 2, -1)[..., ::2]
    return wrap(values).requires_grad_()


# ---- the checks ------------------------------------------------------------------------------------------------------------


def _tuple(x: Any) -> tuple:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def _checked(inputs: tuple) -> list[Tensor]:
    found = [t for t in inputs if isinstance(t, Tensor) and t.requires_grad]
    if not found:
        raise ValueError("gradcheck expects at least one input tensor to require gradient, but none of the them have "
                         "requires_grad=True.")
    for i, t in enumerate(inputs):
        if not isinstance(t, Tensor) or not t.requires_grad:
            continue
        if t.dtype not in (_dtype.float64, _dtype.complex128):
            warnings.warn(f"Input #{i} requires gradient and is not a double precision floating point or complex. This "
                          f"check will "
                          "likely fail if all the inputs are not of double precision floating point or complex.", stacklevel=4)
        if any(s == 0 and n > 1 for s, n in zip(t.stride(), t.shape)):
            raise RuntimeError(f"The {i}th input has a dimension with stride 0. gradcheck only supports inputs that are "
                               "non-overlapping to be able to compute the numerical gradients correctly. You should call "
                               ".contiguous "
                               "on the input before passing it to gradcheck.")
    return found


def _outputs(fn: Callable, inputs: tuple) -> list[Tensor]:
    return [o for o in _tuple(fn(*inputs)) if isinstance(o, Tensor) and o.dtype.differentiable]


def _flat(t: Any) -> np.ndarray:
    return np.array(t.detach().numpy(), copy=True).reshape(-1)


class _Check:
    """One ``gradcheck``."""

    def __init__(self, func: Callable, inputs: tuple, eps: float, atol: float, rtol: float, nondet_tol: float,
                 fast: bool) -> None:
        self.func, self.inputs = func, inputs
        self.fn = _as_real(func)
        self.eps, self.atol, self.rtol, self.nondet_tol, self.fast = eps, atol, rtol, nondet_tol, fast

    def run(self, backward: bool, forward: bool, undefined: bool, dtypes: bool, batched: bool, batched_forward: bool) -> None:
        wanted = _checked(self.inputs)
        outputs = _outputs(self.fn, self.inputs)
        live = [i for i, o in enumerate(outputs) if o.requires_grad]
        if backward and not live:
            self._no_influence(wanted)
            return
        numerical = self._numerical_along if self.fast else self._numerical
        with autograd.GradMode(False):
            truth = [numerical(x, k) for k, x in enumerate(wanted)]
        if forward:
            self._forward(wanted, truth, batched_forward)
        if not backward:
            return
        self._backward([outputs[i] for i in live], live, wanted, truth)
        if dtypes:
            self._dtypes([outputs[i] for i in live], wanted)
        if batched:
            self._batched([outputs[i] for i in live], wanted)
        if undefined:
            self._undefined(wanted)

    # numerical derivatives: for each output, [x elements, output elements]; in fast mode along one direction

    def _moved(self, x: Tensor, by: Any) -> list[np.ndarray]:
        data = x._a
        before = data.copy()
        data[...] = before + by
        found = [_flat(o) for o in _outputs(self.fn, self.inputs)]
        data[...] = before
        return found

    def _difference(self, x: Tensor, direction: Any) -> list[np.ndarray]:
        high, low = (self._moved(x, s * self.eps * direction) for s in (1, -1))
        return [(h - l) / (2 * self.eps) for h, l in zip(high, low)]

    def _numerical(self, x: Tensor, _: int) -> list[np.ndarray]:
        columns = []
        for where in np.ndindex(x._a.shape):
            direction = np.zeros_like(x._a)
            direction[where] = 1
            parts = [self._difference(x, direction)]
            if x._a.dtype.kind == "c":
                parts.append(self._difference(x, direction * 1j))
            columns.append([p[0] if len(parts) == 1 else p[0] + 1j * p[1] for p in zip(*parts)])
        if not columns:
            return [np.zeros((0, o.numel())) for o in _outputs(self.fn, self.inputs)]
        return [np.stack([c[i] for c in columns]) for i in range(len(columns[0]))]

    def _numerical_along(self, x: Tensor, number: int) -> list[np.ndarray]:
        return [d.reshape(1, -1) for d in self._difference(x, _direction(x, number))]

    # comparisons

    def _no_influence(self, wanted: list[Tensor]) -> None:
        with autograd.GradMode(False):
            for k, x in enumerate(wanted):
                for d in self._numerical_along(x, k) if self.fast else self._numerical(x, k):
                    if not np.allclose(d, 0, rtol=self.rtol, atol=self.atol):
                        raise GradcheckError("Numerical gradient for function expected to be zero")

    def _compare(self, mine: np.ndarray, truth: np.ndarray, output: int, number: int, kind: str = "") -> None:
        if mine.shape != truth.shape:
            raise GradcheckError("Analytical gradient has incorrect size")
        if not np.allclose(mine, truth, rtol=self.rtol, atol=self.atol):
            raise GradcheckError(f"Jacobian {kind}mismatch for output {output} with respect to input "
                                 f"{number},\nnumerical:{truth}\n"
                                 f"analytical:{mine}\n")

    def _backward(self, outputs: list[Tensor], live: list[int], wanted: list[Tensor], truth: list[list[np.ndarray]]) -> None:
        first, again = _analytical(outputs, wanted), _analytical(outputs, wanted)
        for row, i in enumerate(live):
            for k, x in enumerate(wanted):
                mine = first[row][k]
                if self.fast:
                    mine = np.real(np.conj(_direction(x, k).reshape(1, -1)) @ mine)
                self._compare(mine, truth[k][i], i, k)
                if not np.allclose(first[row][k], again[row][k], rtol=0, atol=self.nondet_tol or 1e-12):
                    raise GradcheckError("Backward is not reentrant, i.e., running backward with same input and grad_output "
                                         "multiple times gives different values, although analytical gradient matches numerical "
                                         f"gradient. The tolerance for nondeterminism was {self.nondet_tol}.")

    def _forward(self, wanted: list[Tensor], truth: list[list[np.ndarray]], batched: bool) -> None:
        from flambeau.func import jvp, vmap  # noqa: PLC0415 - the transforms load with their first use
        for k, x in enumerate(wanted):
            def of_x(moving: Any, x: Any = x) -> tuple:
                return tuple(_outputs(self.fn, tuple(moving if t is x else t for t in self.inputs)))

            def push(direction: Any, of_x: Any = of_x, x: Any = x) -> tuple:
                return jvp(of_x, (x.detach(),), (direction,))[1]

            directions = [_direction(x, k)] if self.fast else list(_units(x))
            columns = [[_flat(o) for o in push(wrap(np.ascontiguousarray(d)))] for d in directions]
            for i in range(len(columns[0]) if columns else 0):
                rows = np.stack([c[i] for c in columns])
                if x._a.dtype.kind == "c" and not self.fast:
                    rows = rows[0::2] + 1j * rows[1::2]
                self._compare(rows, truth[k][i], i, k, "computed with forward mode ")
            if batched and len(directions) > 1:
                together = vmap(push)(wrap(np.stack(directions)))
                for i, o in enumerate(together):
                    whole = o.detach().numpy().reshape(len(directions), -1)  # type: ignore[attr-defined]
                    if not np.allclose(whole, np.stack([c[i] for c in columns]), rtol=self.rtol, atol=self.atol):
                        raise GradcheckError(f"For output {i} and input {k}: the forward derivative under vmap is not what "
                                             f"it is one "
                                             "by one")

    def _dtypes(self, outputs: list[Tensor], wanted: list[Tensor]) -> None:
        for o in outputs:
            for g, x in zip(autograd.grad(o, wanted, _ones(o), retain_graph=True, allow_unused=True), wanted):
                if g is not None and g.dtype is not x.dtype:
                    raise GradcheckError("Gradient has dtype mismatch")

    def _batched(self, outputs: list[Tensor], wanted: list[Tensor]) -> None:
        for i, o in enumerate(outputs):
            seeds = np.random.default_rng(i).standard_normal((3, *o.shape)).astype(o._a.dtype)
            loop = [autograd.grad(o, wanted, wrap(np.array(s)), retain_graph=True, allow_unused=True) for s in seeds]
            try:
                whole = autograd.grad(o, wanted, wrap(seeds), retain_graph=True, allow_unused=True, is_grads_batched=True)
            except RuntimeError as error:
                raise GradcheckError(f"While computing batched gradients, got: {error}") from error
            for k, g in enumerate(whole):
                if g is not None and not np.allclose(g.detach().numpy(), np.stack([r[k].detach().numpy() for r in loop]),
                                                     rtol=self.rtol, atol=self.atol):
                    raise GradcheckError(f"For output {i} and input {k}: the gradient under vmap is not what it is one by one")

    def _undefined(self, wanted: list[Tensor]) -> None:
        """Outputs without a gradient must count as zero."""
        outputs = [o for o in _outputs(self.func, self.inputs) if o.requires_grad]
        for absent in ([*range(len(outputs))], *([i] for i in range(len(outputs)) if len(outputs) > 1)):
            outs = [o for o in _outputs(self.func, self.inputs) if o.requires_grad]
            shown = [_without_gradient(o) if i in absent else o for i, o in enumerate(outs)]
            seeds = [ops.zeros_like(ops.detach(o)) for o in outs]
            try:
                grads = autograd.grad(shown, wanted, seeds, allow_unused=True)
            except RuntimeError as error:
                raise GradcheckError("Expected backward function to handle undefined output grads. Please look at 'Notes about "
                                     f"undefined output gradients' in 'tools/autograd/derivatives.yaml'\n{error}") from error
            if any(g is not None and not bool(ops.all(ops.eq(g, 0))) for g in grads):
                raise GradcheckError("Expected all input grads to be undefined or zero when all output grads are undefined "
                                     "or zero. "
                                     "Please look at 'Notes about undefined output gradients' in "
                                     "'tools/autograd/derivatives.yaml'")


class _Undefined(GradNode):
    """Passes no gradient on."""

    def apply(self, grads: list[Any], needs: list[bool]) -> list[Any]:
        return [None] * len(needs)


def _without_gradient(o: Tensor) -> Tensor:
    found = Tensor(o._a, o._storage)
    found._rg, found._grad_fn = True, _Undefined([autograd.edge_of(o)], [autograd._meta(o)])
    return found


def _direction(x: Tensor, number: int) -> np.ndarray:
    """A fixed random direction of length one."""
    rng = np.random.default_rng(1000 + number)
    found = rng.standard_normal(x.shape)
    if x._a.dtype.kind == "c":
        found = found + 1j * rng.standard_normal(x.shape)
    return np.asarray(found / max(float(np.linalg.norm(found)), 1e-30)).astype(x._a.dtype)


def _units(x: Tensor) -> Any:
    """Every unit direction (of a complex tensor the real and the imaginary one)."""
    for where in np.ndindex(x._a.shape):
        for step in (1, 1j) if x._a.dtype.kind == "c" else (1,):
            found = np.zeros(x._a.shape, x._a.dtype)
            found[where] = step
            yield found


def _ones(o: Tensor) -> Tensor:
    return wrap(np.ones(o.shape, o._a.dtype))


def _analytical(outputs: Sequence[Tensor], inputs: list[Tensor]) -> list[list[np.ndarray]]:
    """For each output (all real) and input, [x elements, output elements], by one backward pass per output element."""
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
    grads = autograd.grad(out, inputs, wrap(seed), retain_graph=True, allow_unused=True)
    for g, x in zip(grads, inputs):
        if g is not None and tuple(g.shape) != tuple(x.shape):
            raise GradcheckError("Analytical gradient has incorrect size")
    return [np.zeros(x.numel(), x._a.dtype) if g is None else _flat(g) for g, x in zip(grads, inputs)]


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

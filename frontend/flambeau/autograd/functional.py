"""Jacobians, Hessians and their products with vectors (PyTorch: ``torch.autograd.functional``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.ir.op import ops
from flambeau.runtime import autograd
from flambeau.runtime.tensor import Tensor


def _tuple(x: Any, what: str) -> tuple[tuple, bool]:
    """``x`` as a tuple of tensors, and whether it was one. Raises ``TypeError`` for other things."""
    many = isinstance(x, (tuple, list))
    found = tuple(x) if many else (x,)
    for i, t in enumerate(found):
        if not isinstance(t, Tensor):
            raise TypeError(f"The {what} must be either a Tensor or a tuple of Tensors but the value at index {i} has type "
                            f"{type(t)}.")
    return found, many


def _fresh(inputs: tuple, create_graph: bool) -> tuple:
    """Inputs to differentiate by: views that keep their history, or leaves of their own."""
    if create_graph:
        return tuple(ops.alias(x) if x.requires_grad else ops.detach(x).requires_grad_() for x in inputs)
    return tuple(ops.detach(x).requires_grad_() for x in inputs)


def _call(func: Callable, inputs: tuple) -> tuple[tuple, bool]:
    with autograd.GradMode(True):
        return _tuple(func(*inputs), "outputs of the user-provided function")


def _grad(outputs: Any, inputs: tuple, seeds: Any, create_graph: bool, strict: bool) -> tuple:
    """Gradients with zeros for what is independent (an error when ``strict``)."""
    live = [(o, s) for o, s in zip(outputs, seeds) if o.requires_grad]
    if live:
        found = autograd.grad([o for o, _ in live], inputs, [s for _, s in live], retain_graph=True, create_graph=create_graph,
                              allow_unused=True)
    else:
        found = (None,) * len(inputs)
    if strict and any(g is None for g in found):
        raise RuntimeError("The output of the user-provided function is independent of an input. This is not allowed in strict "
                           "mode.")
    return tuple(ops.zeros_like(ops.detach(x)) if g is None else g for g, x in zip(found, inputs))


def _finished(x: Any, create_graph: bool) -> Any:
    return x if create_graph else ops.detach(x)


def _vectors(v: Any, like: tuple, name: str) -> tuple:
    """The vectors, checked against the tensors they belong to (None: for one scalar)."""
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(f"The vector v can only be None if the {name} is a single Tensor with a single element.")
        return (ops.ones_like(ops.detach(like[0])),)
    found, _ = _tuple(v, "vectors")
    if len(found) != len(like):
        raise RuntimeError(f"v has invalid length: should be {len(like)} but got {len(found)}.")
    for i, (x, t) in enumerate(zip(found, like)):
        if x.shape != t.shape:
            raise RuntimeError(f"Entry {i} in v has invalid size: should be {t.shape} but got {x.shape}.")
    return found


def jacobian(func: Callable, inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
             strategy: str = "reverse-mode") -> Any:
    """d(output)/d(input) for every pair: [*output, *input] each, nested as outputs and inputs are."""
    _check_strategy("jacobian", "strategy", strategy, vectorize, strict, create_graph)
    given, many_inputs = _tuple(inputs, "inputs")
    if strategy == "forward-mode":
        return _forward_jacobian(func, given, many_inputs)
    xs = _fresh(given, create_graph)
    outputs, many_outputs = _call(func, xs)
    table = []
    for i, out in enumerate(outputs):
        if strict and not out.requires_grad:
            raise RuntimeError(f"Output {i} of the user-provided function does not require gradients. The outputs must be "
                               f"computed "
                               "in a differentiable manner from the input when running in strict mode.")
        rows = (_rows_at_once if vectorize else _rows)(out, xs, create_graph, strict)
        table.append(tuple(_finished(_matrix([r[j] for r in rows], out, x), create_graph) for j, x in enumerate(xs)))
    found = [row if many_inputs else row[0] for row in table]
    return tuple(found) if many_outputs else found[0]


def _rows(out: Any, xs: tuple, create_graph: bool, strict: bool) -> list[tuple]:
    """The gradients of each element of ``out``, one backward pass after the other."""
    with autograd.GradMode(True):
        flat = ops.reshape(out, (out.numel(),))
        elements = [ops.select(flat, 0, i) for i in range(out.numel())]
    return [_grad([one], xs, [ops.ones_like(ops.detach(one))], create_graph, strict) for one in elements]


def _rows_at_once(out: Any, xs: tuple, create_graph: bool, strict: bool) -> list[tuple]:
    """The same in one pass over batches of gradients."""
    n = out.numel()
    if not out.requires_grad or not n:
        return _rows(out, xs, create_graph, strict)
    basis = ops.reshape(ops.eye(n, n, dtype=out.dtype, device=out.device), (n, *out.shape))
    found = autograd.grad(out, xs, basis, retain_graph=True, create_graph=create_graph, allow_unused=True, is_grads_batched=True)
    whole = [ops.full((n, *x.shape), 0.0, dtype=x.dtype, device=x.device) if g is None else g for g, x in zip(found, xs)]
    return [tuple(ops.select(g, 0, i) for g in whole) for i in range(n)]


def _check_strategy(name: str, parameter: str, strategy: str, vectorize: bool, strict: bool, create_graph: bool) -> None:
    if strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError(f"Expected {parameter} to be either 'forward-mode' or 'reverse-mode'. Hint: If your function has "
                             "more outputs than inputs, 'forward-mode' tends to be faster. Otherwise, prefer 'reverse-mode'.")
    what = f"torch.autograd.functional.{name}: "
    if strict and vectorize:
        raise RuntimeError(f"{what}`strict=True` and `vectorized=True` are not supported together. Please either set "
                           "`strict=False` or `vectorize=False`.")
    if strategy == "forward-mode":
        if create_graph:
            raise NotImplementedError(f"{what}`create_graph=True` and `{parameter}='forward-mode'` are not supported together "
                                      "(yet). Please either set `create_graph=False` or choose 'reverse-mode'.")
        if not vectorize:
            raise NotImplementedError(f"{what}`{parameter}='forward-mode'` is only supported with `vectorize=True`")


def _forward_jacobian(func: Callable, inputs: tuple, many_inputs: bool) -> Any:
    """The Jacobian column by column, in forward mode."""
    from flambeau.func import jacfwd  # noqa: PLC0415 - the transforms load with their first use
    many: list[bool] = []

    def tupled(*xs: Any) -> tuple:
        outputs, is_tuple = _tuple(func(*xs), "outputs of the user-provided function")
        many[:] = [is_tuple]
        return outputs

    found = jacfwd(tupled, tuple(range(len(inputs))))(*(ops.detach(x) for x in inputs))
    table = [tuple(ops.detach(g) for g in row) if many_inputs else ops.detach(row[0]) for row in found]
    return tuple(table) if many[0] else table[0]


def _matrix(rows: list, out: Any, x: Any) -> Any:
    shape = (*out.shape, *x.shape)
    return ops.reshape(ops.stack(rows, 0), shape) if rows else ops.full(shape, 0.0, dtype=x.dtype, device=x.device)


def hessian(func: Callable, inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
            outer_jacobian_strategy: str = "reverse-mode") -> Any:
    """Second derivatives of a scalar function: [*input_i, *input_j] for every pair of inputs."""
    given, many = _tuple(inputs, "inputs")

    def slope(*xs: Any) -> Any:
        out, _ = _call(func, xs)
        if len(out) != 1 or out[0].numel() != 1:
            raise RuntimeError("The Tensor returned by the function given to hessian should contain a single element")
        return _grad([ops.reshape(out[0], ())], xs, [ops.full((), 1.0, dtype=out[0].dtype, device=out[0].device)], True, strict)

    if outer_jacobian_strategy == "forward-mode":
        _check_strategy("hessian", "outer_jacobian_strategy", outer_jacobian_strategy, vectorize, strict, create_graph)
        return _forward_hessian(func, given, many)
    found = jacobian(slope, given, create_graph, strict, vectorize)
    return found if many else found[0][0]


def _forward_hessian(func: Callable, given: tuple, many: bool) -> Any:
    """Forward over reverse mode."""
    from flambeau.func import hessian as forward_over_reverse  # noqa: PLC0415 - the transforms load with their first use

    def scalar(*xs: Any) -> Any:
        return ops.reshape(func(*xs), ())

    found = forward_over_reverse(scalar, tuple(range(len(given))))(*(ops.detach(x) for x in given))
    return found if many else found[0][0]


def vjp(func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """The outputs, and the vector ``v`` (shaped as they are) times the Jacobian."""
    given, many_inputs = _tuple(inputs, "inputs")
    xs = _fresh(given, create_graph)
    outputs, many_outputs = _call(func, xs)
    grads = _grad(outputs, xs, _vectors(v, outputs, "user-provided function's output"), create_graph, strict)
    values = tuple(_finished(o, create_graph) for o in outputs)
    grads = tuple(_finished(g, create_graph) for g in grads)
    return values if many_outputs else values[0], grads if many_inputs else grads[0]


def jvp(func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """The outputs, and the Jacobian times the vector ``v`` (shaped as the inputs): the derivative of a vjp in its vector."""
    given, _ = _tuple(inputs, "inputs")
    xs = _fresh(given, create_graph)
    vectors = _vectors(v, given, "input")
    outputs, many_outputs = _call(func, xs)
    seeds = tuple(ops.zeros_like(ops.detach(o)).requires_grad_() for o in outputs)
    with autograd.GradMode(True):
        backward = _grad(outputs, xs, seeds, True, strict)
        found = _grad(backward, seeds, vectors, create_graph, strict)
    values = tuple(_finished(o, create_graph) for o in outputs)
    found = tuple(_finished(g, create_graph) for g in found)
    return (values, found) if many_outputs else (values[0], found[0])


def vhp(func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """The value of a scalar function, and the vector ``v`` (shaped as the inputs) times its Hessian."""
    given, many = _tuple(inputs, "inputs")
    xs = _fresh(given, create_graph)
    outputs, _ = _call(func, xs)
    if len(outputs) != 1 or outputs[0].numel() != 1:
        raise RuntimeError("The Tensor returned by the function given to vhp should contain a single element")
    with autograd.GradMode(True):
        slope = _grad(outputs, xs, [ops.ones_like(ops.detach(outputs[0]))], True, strict)
        found = _grad(slope, xs, _vectors(v, given, "input"), create_graph, strict)
    found = tuple(_finished(g, create_graph) for g in found)
    return _finished(outputs[0], create_graph), found if many else found[0]


hvp = vhp  # the Hessian of a scalar function is symmetric

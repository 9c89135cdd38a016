"""Derivatives as functions of functions: ``vjp``, ``grad``, ``jvp`` and what is made of them (PyTorch: ``torch.func``)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flambeau.ir.op import ops
from flambeau.runtime.autograd import GradMode, mode
from flambeau.runtime.batched import Batched
from flambeau.runtime.dual import Dual, DualLevel
from flambeau.runtime.levels import entered, stripped
from flambeau.runtime.tensor import Tensor
from flambeau.runtime.traced import higher_order, transformed
from flambeau.runtime.tracked import GradLevel
from flambeau.utils._pytree import tree_flatten, tree_map, tree_unflatten

from .batching import vmap

Argnums = Any  # int | tuple[int, ...]


# ---- reverse mode ------------------------------------------------------------------------------------------------


@higher_order
def vjp(func: Callable, *primals: Any, has_aux: bool = False) -> Any:
    """``func(*primals)`` and a function from cotangents of the outputs to those of ``primals``.

    With ``has_aux`` the function returns (outputs, aux), and aux is returned third. Cotangents have the outputs' structure;
    the result is a tuple with an entry for each primal.
    """
    return _vjp(func, primals, None, has_aux)


def _vjp(func: Callable, args: tuple, argnums: Argnums, has_aux: bool) -> Any:
    level = GradLevel()
    with entered(level), GradMode(True):
        given = [tree_map(functools.partial(_constant, level), a) for a in args]
        for i in _chosen(argnums, len(args)):
            given[i] = tree_map(functools.partial(_leaf, level), args[i])
        chosen = tuple(given) if argnums is None else _sliced(tuple(given), argnums)
        found, aux = _split_aux(func(*given), has_aux, "vjp(f, *primals)")
        flat, spec = tree_flatten(found)
        _check_outputs(flat, found, "vjp(f, *primals)")
        for o in flat:
            if not o.dtype.differentiable:
                raise RuntimeError("vjp(f, ...): All outputs of f must be floating-point or complex Tensors, got Tensor "
                                   "with dtype "
                                   f"{o.dtype}")
        outputs, aux = _outside(level, found), _outside(level, aux)
    inputs, in_spec = tree_flatten(chosen)

    def vjp_fn(cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        given, given_spec = tree_flatten(cotangents)
        if given_spec != spec:
            raise RuntimeError("Expected pytree structure of cotangents to be the same as pytree structure of outputs to the "
                               f"function. cotangents: {given_spec}, primal output: {spec}")
        for i, (c, o) in enumerate(zip(given, flat)):
            if tuple(c.shape) != tuple(o.shape):
                raise RuntimeError(f"Mismatch in shape: grad_output[{i}] has a shape of {c.shape} and output[{i}] has a shape of "
                                   f"{o.shape}.")
        with GradMode(mode.grad if create_graph is None else create_graph):
            grads = level.gradients(flat, inputs, given)
        return tree_unflatten([_zeros(x) if g is None else g for g, x in zip(grads, inputs)], in_spec)

    vjp_fn.__flambeau_disable__ = True  # type: ignore[attr-defined]  # it is bound to the tape of this call
    return (outputs, vjp_fn, aux) if has_aux else (outputs, vjp_fn)


def _zeros(x: Any) -> Any:
    return ops.zeros_like(ops.detach(x.value))


def _leaf(level: GradLevel, x: Any) -> Any:
    if not isinstance(x, Tensor):
        raise ValueError(f"Thing passed to transform API must be Tensor, got {type(x)}")
    return level.leaf(x)


def _constant(level: GradLevel, x: Any) -> Any:
    return level.wrap(x) if isinstance(x, Tensor) else x


def _outside(level: GradLevel, tree: Any) -> Any:
    """A result as the level outside sees it."""
    return tree_map(lambda x: stripped(x, level) if isinstance(x, Tensor) else x, tree)


def _split_aux(found: Any, has_aux: bool, what: str) -> tuple[Any, Any]:
    if not has_aux:
        return found, None
    if not (isinstance(found, tuple) and len(found) == 2):
        raise RuntimeError(f"{what}: output of function f should be a tuple: (output, aux) if has_aux is True")
    return found


def _check_outputs(flat: list[Any], found: Any, what: str) -> None:
    if not flat or found is None:
        raise RuntimeError(f"{what}: Expected f to be a function that has non-empty output (got output = {found})")
    for o in flat:
        if not isinstance(o, Tensor):
            raise RuntimeError(f"{what}: expected f(*primals) to return only tensors, got unsupported type {type(o)}")


def _chosen(argnums: Argnums, count: int) -> tuple[int, ...]:
    """``argnums`` as non-negative positions. Raises ``RuntimeError`` for wrong ones."""
    if argnums is None:
        return tuple(range(count))
    if not isinstance(argnums, (int, tuple)):
        raise RuntimeError(f"argnums must be int or Tuple[int, ...], got: {type(argnums)}")
    numbers = argnums if isinstance(argnums, tuple) else (argnums,)
    if not numbers:
        raise RuntimeError("argnums must be non-empty")
    found = []
    for n in numbers:
        if not isinstance(n, int):
            raise RuntimeError(f"argnum must be int, got: {type(n)}")
        if not -count <= n < count:
            raise RuntimeError(f"Got argnum={n}, but only {count} positional inputs")
        found.append(n % count)
    if len(set(found)) != len(found):
        raise RuntimeError(f"argnums elements must be unique, got {tuple(found)}")
    return tuple(found)


def _sliced(args: tuple, argnums: Argnums) -> Any:
    """The arguments chosen: one, or a tuple of them."""
    chosen = tuple(args[i] for i in _chosen(argnums, len(args)))
    return chosen[0] if isinstance(argnums, int) else chosen


@higher_order
def grad_and_value(func: Callable, argnums: Argnums = 0, has_aux: bool = False) -> Callable:
    """A function that returns the gradient of the scalar ``func`` by the arguments ``argnums``, and its value.

    With ``has_aux`` (gradient, (value, aux)).
    """
    @transformed(func, grad_and_value, argnums, has_aux)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        level = GradLevel()
        with entered(level), GradMode(True):
            given = [tree_map(functools.partial(_constant, level), a) for a in args]
            for i in _chosen(argnums, len(args)):
                given[i] = tree_map(functools.partial(_leaf, level), args[i])
            constants = tree_map(functools.partial(_constant, level), kwargs)
            output, aux = _split_aux(func(*given, **constants), has_aux, "grad_and_value(f)(*args)")
            if not isinstance(output, Tensor):
                raise RuntimeError(f"grad_and_value(f)(*args): Expected f(*args) to return a Tensor, got {type(output)}")
            if output.dim() != 0:
                raise RuntimeError("grad_and_value(f)(*args): Expected f(*args) to return a scalar Tensor, got tensor with "
                                   f"{output.dim()} dims. Maybe you wanted to use the vjp or jacrev APIs instead?")
            inputs, spec = tree_flatten(_sliced(tuple(given), argnums))
            value, aux = _outside(level, output), _outside(level, aux)
        with GradMode(level.outer_grad):
            grads = level.gradients([output], inputs, [ops.ones_like(ops.detach(value))])
        found = tree_unflatten([_zeros(x) if g is None else g for g, x in zip(grads, inputs)], spec)
        return (found, (value, aux)) if has_aux else (found, value)

    return wrapper


@higher_order
def grad(func: Callable, argnums: Argnums = 0, has_aux: bool = False) -> Callable:
    """A function that returns the gradient of the scalar ``func`` by the arguments ``argnums`` (with ``has_aux``: and aux)."""
    both = grad_and_value(func, argnums, has_aux)

    @transformed(func, grad, argnums, has_aux)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        found, rest = both(*args, **kwargs)
        return (found, rest[1]) if has_aux else found

    return wrapper


# ---- forward mode -----------------------------------------------------------------------------------------------------


@higher_order
def jvp(func: Callable, primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False) -> Any:
    """``func(*primals)`` and its derivative in the direction ``tangents`` (with ``has_aux``: and aux).

    ``primals`` and ``tangents`` are tuples of the same structure. ``strict``: an output that depends on no input is an error.
    """
    return _jvp(func, primals, tangents, None, strict, has_aux)


def _jvp(func: Callable, primals: Any, tangents: Any, argnums: Argnums, strict: bool, has_aux: bool) -> Any:
    what = "jvp(f, primals, tangents)"
    if not isinstance(primals, tuple):
        raise RuntimeError(f"{what}: Expected primals to be a tuple. E.g. it should be valid to call f(*primals).")
    chosen = primals if argnums is None else _sliced(primals, argnums)
    flat, spec = tree_flatten(chosen)
    directions, direction_spec = tree_flatten(tangents)
    if spec != direction_spec:
        raise RuntimeError(f"{what}: Expected primals and tangents to have the same python structure. For example, if "
                           f"primals is a "
                           f"tuple of 3 tensors, tangents also must be. Got primals with structure {spec} and tangents with "
                           f"structure {direction_spec}")
    for name, items in (("primals", flat), ("tangents", directions)):
        if not items:
            raise RuntimeError(f"{what}: Expected {name} to contain at least one Tensor.")
        for x in items:
            if not isinstance(x, Tensor):
                raise RuntimeError(f"{what}: Expected {name} to only contain Tensors, got {type(x)}")
    level = DualLevel()
    with entered(level):
        duals = tree_unflatten([_dual(level, x, t) for x, t in zip(flat, directions)], spec)
        given = list(primals)
        if argnums is None:
            given = list(duals)
        else:
            for i, x in zip(_chosen(argnums, len(primals)), duals if isinstance(argnums, tuple) else (duals,)):
                given[i] = x
        found, aux = _split_aux(func(*given), has_aux, what)
        aux = tree_map(lambda x: stripped(x, level) if isinstance(x, Tensor) else x, aux)
        outs, out_spec = tree_flatten(found)
        _check_outputs(outs, found, what)
    pairs = [_primal_and_tangent(level, o, strict) for o in outs]
    values = tree_unflatten([p for p, _ in pairs], out_spec)
    slopes = tree_unflatten([t for _, t in pairs], out_spec)
    return (values, slopes, aux) if has_aux else (values, slopes)


def _dual(level: DualLevel, x: Any, t: Any) -> Dual:
    if tuple(x.shape) != tuple(t.shape):
        raise RuntimeError(f"Expected tangent to have the same shape as primal, got {tuple(t.shape)} and {tuple(x.shape)}")
    if not x.dtype.differentiable:
        raise ValueError(f"Expected primal to be floating point or complex, but got: {x.dtype}")
    return Dual(x, level, t if t.dtype is x.dtype else ops.cast(t, x.dtype))


def _primal_and_tangent(level: DualLevel, out: Any, strict: bool) -> tuple[Any, Any]:
    if not isinstance(out, Dual) or out.level is not level:
        primal, tangent = stripped(out, level), None
    else:
        primal, tangent = out.value, out.tangent
    if tangent is None:
        if strict:
            raise RuntimeError("jvp(f, primals, tangents, strict=True): The output of f is independent of the inputs. This "
                               "is not "
                               "allowed with strict=True.")
        tangent = ops.zeros_like(ops.detach(primal))
    return primal, tangent


# ---- Jacobians and Hessians -------------------------------------------------------------------------------------------


@higher_order
def jacrev(func: Callable, argnums: Argnums = 0, *, has_aux: bool = False, chunk_size: int | None = None,
           _preallocate_and_copy: bool = False) -> Callable:
    """A function that returns the Jacobian of ``func`` by the arguments ``argnums``, [*output, *input] for each pair, row by
    row in reverse mode. ``chunk_size``: how many rows at once (None: all)."""
    if not (chunk_size is None or chunk_size > 0):
        raise ValueError("jacrev: `chunk_size` should be greater than 0.")

    @transformed(func, jacrev, argnums, has_aux=has_aux, chunk_size=chunk_size)
    def wrapper(*args: Any) -> Any:
        _refuse_complex("jacrev", args, "inputs")
        found = _vjp(func, args, argnums, has_aux)
        output, vjp_fn = found[:2]
        outs, out_spec = tree_flatten(output)
        _refuse_complex("jacrev", outs, "outputs")
        inputs, in_spec = tree_flatten(_sliced(args, argnums))
        rows = _swept(lambda basis: vjp_fn(tree_unflatten(basis, out_spec)), outs, chunk_size)
        table: list[list[Any]] = [[] for _ in outs]  # by output, then by input
        for whole, x in zip(rows, inputs):
            start = 0
            for k, o in enumerate(outs):
                part = ops.narrow(whole, 0, start, o.numel())
                table[k].append(ops.reshape(part, (*o.shape, *x.shape)))
                start += o.numel()
        result = tree_unflatten([tree_unflatten(row, in_spec) for row in table], out_spec)
        return (result, found[2]) if has_aux else result

    return wrapper


@higher_order
def jacfwd(func: Callable, argnums: Argnums = 0, has_aux: bool = False, *, randomness: str = "error") -> Callable:
    """As :func:`jacrev`, column by column in forward mode."""
    @transformed(func, jacfwd, argnums, has_aux, randomness=randomness)
    def wrapper(*args: Any) -> Any:
        _refuse_complex("jacfwd", args, "inputs")
        inputs, in_spec = tree_flatten(_sliced(args, argnums))
        shapes: list[Any] = []

        def push(basis: list[Any]) -> Any:
            found = _jvp(func, args, tree_unflatten(basis, in_spec), argnums, False, has_aux)
            outs, spec = tree_flatten(found[1])
            _refuse_complex("jacfwd", outs, "outputs")
            shapes[:] = [spec, found[2] if has_aux else None, [tuple(o.shape) for o in outs]]
            return outs

        columns = _swept(push, inputs, None, randomness, shapes)
        out_spec, aux, out_shapes = shapes
        table: list[list[Any]] = [[] for _ in out_shapes]
        for k, (whole, shape) in enumerate(zip(columns, out_shapes)):
            start = 0
            for x in inputs:
                part = ops.narrow(whole, 0, start, x.numel())
                n = len(shape)
                last = ops.permute(part, (*range(1, n + 1), 0))
                table[k].append(ops.reshape(last, (*shape, *x.shape)))
                start += x.numel()
        result = tree_unflatten([tree_unflatten(row, in_spec) for row in table], out_spec)
        return (result, aux) if has_aux else result

    return wrapper


def _refuse_complex(name: str, tree: Any, what: str) -> None:
    for x in tree_flatten(tree)[0]:
        if isinstance(x, Tensor) and x.dtype.is_complex:
            raise RuntimeError(f"{name}: Expected all {what} to be real but received complex tensor at flattened {what[:-1]}.")


def _swept(fn: Callable, tensors: list[Any], chunk_size: int | None, randomness: str = "error",
           aux: list[Any] | None = None) -> list[Any]:
    """``fn`` of every vector of the standard basis of ``tensors``, taken together: each result with a row per vector."""
    total = sum(t.numel() for t in tensors)
    chunk = min(chunk_size or max(total, 1), max(total, 1))
    parts = []
    for start in range(0, max(total, 1), chunk):
        basis = _basis(tensors, start, min(chunk, total - start))
        if chunk_size == 1:
            rows = tree_flatten(fn([ops.select(b, 0, 0) for b in basis]))[0]
            parts.append([ops.unsqueeze(r, 0) for r in rows])
            continue
        found = vmap(lambda b: tree_flatten(fn(b))[0], randomness=randomness)(basis)
        if aux and len(aux) > 1 and aux[1] is not None:
            aux[1] = _first_of_batch(aux[1])
        parts.append(tree_flatten(found)[0])
    return parts[0] if len(parts) == 1 else [ops.cat(list(p), 0) for p in zip(*parts)]


def _first_of_batch(aux: Any) -> Any:
    """What does not depend on the basis, without the batch it was seen in."""
    return tree_map(lambda x: ops.select(x.value, 0, 0) if isinstance(x, Batched) else x, aux)


def _basis(tensors: list[Any], start: int, count: int) -> list[Any]:
    """Vectors ``start`` to ``start + count`` of the standard basis: a stack of them for each tensor."""
    found, offset = [], 0
    for t in tensors:
        n = t.numel()
        rows = ops.unsqueeze(ops.arange(start, start + count, 1, device=t.device), 1)
        columns = ops.unsqueeze(ops.arange(offset, offset + n, 1, device=t.device), 0)
        found.append(ops.reshape(ops.cast(ops.eq(rows, columns), t.dtype), (count, *t.shape)))
        offset += n
    return found


@higher_order
def hessian(func: Callable, argnums: Argnums = 0) -> Callable:
    """A function that returns the second derivatives of ``func``: forward over reverse mode."""
    return jacfwd(jacrev(func, argnums), argnums)


@higher_order
def linearize(func: Callable, *primals: Any) -> tuple[Any, Callable]:
    """``func(*primals)``, and its linear approximation there: a function from tangents to their image.

    The function is run once; its approximation is the transpose of its vjp.
    """
    flat_in, spec = tree_flatten(primals)
    output, vjp_fn = vjp(func, *primals)
    outs, out_spec = tree_flatten(output)

    def pull(*cotangents: Any) -> tuple:
        pulled = vjp_fn(tree_unflatten(cotangents, out_spec))
        return tuple(tree_flatten(pulled)[0])

    zeros = [ops.zeros_like(ops.detach(o)) for o in outs]
    _, transposed = vjp(pull, *zeros)

    def jvp_fn(*tangents: Any) -> Any:
        given, given_spec = tree_flatten(tangents)
        if given_spec != spec:
            raise RuntimeError(f"Expected the tangents {given_spec} to have the same argspec as the primals {spec}")
        for i, (t, x) in enumerate(zip(given, flat_in)):
            for name, a, b in (("shape", tuple(t.shape), tuple(x.shape)), ("device", t.device, x.device),
                               ("dtype", t.dtype, x.dtype)):
                if a != b:
                    raise RuntimeError(f"tangent:{i} with {name} {a} in flattened pytree doesn't match the {name} {b} of the "
                                       "corresponding primal.")
        found = transposed(tuple(given))
        return tree_unflatten(list(found) if isinstance(found, tuple) else [found], out_spec)

    return output, jvp_fn


__all__ = ["grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "linearize", "vjp"]


"""``vmap`` (PyTorch: ``torch.func.vmap``): a function of one element, run over a batch of them at once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flambeau.ir.op import ops
from flambeau.runtime.batched import Batched, BatchLevel
from flambeau.runtime.levels import entered
from flambeau.runtime.rng import default_generator
from flambeau.runtime.tensor import Tensor
from flambeau.runtime.traced import higher_order, transformed
from flambeau.utils._pytree import TreeSpec, _broadcast_to_and_flatten, tree_flatten, tree_leaves, tree_unflatten


@higher_order
def vmap(func: Callable, in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error", *,
         chunk_size: int | None = None) -> Callable:
    """A function that maps ``func`` over dimension ``in_dims`` of its arguments and stacks results along ``out_dims``.

    Args:
        in_dims: an int, or a tree of ints and None (not mapped) as a prefix of the arguments.
        out_dims: the same of the outputs; None for an output that does not depend on the batch.
        randomness: ``"error"``, ``"same"`` numbers for all elements or ``"different"`` ones.
        chunk_size: how many elements run at once (None: all).
    Raises ``ValueError`` for arguments that do not fit ``in_dims``, ``RuntimeError`` for what cannot be mapped.
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}")
    if not (chunk_size is None or chunk_size > 0):
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")

    @transformed(func, vmap, in_dims, out_dims, randomness, chunk_size=chunk_size)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _check_out_dims(func, out_dims)
        size, dims, flat, spec = _inputs(func, in_dims, args)
        if chunk_size is None or chunk_size >= size:
            return _run(func, size, dims, flat, spec, out_dims, randomness, kwargs)
        return _chunked(func, chunk_size, size, dims, flat, spec, out_dims, randomness, kwargs)

    return wrapped


def _name(func: Any) -> str:
    if hasattr(func, "__name__"):
        return func.__name__
    return f"functools.partial({_name(func.func)}, ...)" if isinstance(func, functools.partial) else repr(func)


def _check_out_dims(func: Callable, out_dims: Any) -> None:
    for x in tree_leaves(out_dims):
        if not isinstance(x, int) and x is not None:
            raise ValueError(f"vmap({_name(func)}, ..., out_dims={out_dims}): `out_dims` must be an int, None or a python "
                             "collection of ints representing where in the outputs the vmapped dimension should appear.")


def _inputs(func: Callable, in_dims: Any, args: tuple) -> tuple[int, list[int | None], list[Any], TreeSpec]:
    """The batch size, and arguments and their dimensions as flat lists."""
    what = f"vmap({_name(func)}, in_dims={in_dims}, ...)(<inputs>): "
    if not isinstance(in_dims, (int, tuple, list)):
        raise ValueError(f"{what}expected `in_dims` to be int or a (potentially nested) tuple matching the structure of inputs, "
                         f"got: {type(in_dims)}.")
    in_dims = tuple(in_dims) if isinstance(in_dims, list) else in_dims
    if not args:
        raise ValueError(f"vmap({_name(func)})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you are trying "
                         f"to vmap "
                         "over a function with no inputs. The latter is unsupported.")
    flat, spec = tree_flatten(args)
    dims = _broadcast_to_and_flatten(in_dims, spec)
    if dims is None:
        raise ValueError(f"{what}in_dims is not compatible with the structure of `inputs`. in_dims has structure "
                         f"{tree_flatten(in_dims)[1]} but inputs has structure {spec}.")
    for i, (arg, dim) in enumerate(zip(flat, dims)):
        if dim is None:
            continue
        if not isinstance(dim, int):
            raise ValueError(f"{what}Got in_dim={dim} for an input but in_dim must be either an integer dimension or None.")
        if not isinstance(arg, Tensor):
            raise ValueError(f"{what}Got in_dim={dim} for an input but the input is of type {type(arg)}. We cannot vmap over "
                             "non-Tensor arguments, please use None as the respective in_dim")
        if not -arg.dim() <= dim < arg.dim():
            raise ValueError(f"{what}Got in_dim={dim} for some input, but that input is a Tensor of dimensionality "
                             f"{arg.dim()} so "
                             f"expected in_dim to satisfy -{arg.dim()} <= in_dim < {arg.dim()}.")
        dims[i] = dim % arg.dim()
    sizes = [arg.shape[dim] for arg, dim in zip(flat, dims) if dim is not None]
    if not sizes:
        raise ValueError("vmap: Expected at least one Tensor to vmap over")
    if any(s != sizes[0] for s in sizes):
        raise ValueError("vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
                         f"{sizes} for the mapped dimension")
    return sizes[0], dims, flat, spec


def _run(func: Callable, size: int, dims: list[int | None], flat: list[Any], spec: TreeSpec, out_dims: Any, randomness: str,
         kwargs: dict[str, Any]) -> Any:
    level = BatchLevel(size, randomness)
    with entered(level):
        given = [x if d is None else Batched(_front(x, d), level) for x, d in zip(flat, dims)]
        return _outputs(func, func(*tree_unflatten(given, spec), **kwargs), out_dims, level)


def _front(x: Any, dim: int) -> Any:
    """``x`` with dimension ``dim`` first (always a tensor of its own: marks of levels hang on it)."""
    return ops.alias(x) if not dim else ops.permute(x, (dim, *(d for d in range(x.ndim) if d != dim)))


def _outputs(func: Callable, found: Any, out_dims: Any, level: BatchLevel) -> Any:
    flat, spec = tree_flatten(found)
    if isinstance(found, Tensor):
        dims = [out_dims] if isinstance(out_dims, int) or out_dims is None else list(out_dims) if (
            isinstance(out_dims, tuple) and len(out_dims) == 1) else None
    else:
        dims = _broadcast_to_and_flatten(out_dims, spec)
    if dims is None:
        raise ValueError(f"vmap({_name(func)}, ..., out_dims={out_dims})(<inputs>): out_dims is not compatible with the "
                         f"structure "
                         f"of `outputs`. out_dims has structure {tree_flatten(out_dims)[1]} but outputs has structure {spec}.")
    return tree_unflatten([_output(_name(func), x, d, level) for x, d in zip(flat, dims)], spec)


def _output(name: str, x: Any, dim: int | None, level: BatchLevel) -> Any:
    batched = isinstance(x, Batched) and x.level is level
    if dim is None:
        if batched:
            raise ValueError(f"vmap({name}, ...): `{name}` can not return a BatchedTensor when out_dim is None")
        return x
    if not isinstance(x, Tensor):
        raise ValueError(f"vmap({name}, ...): `{name}` must only return Tensors, got type {type(x)}. Did you mean to set "
                         f"out_dims= "
                         "to None for output?")
    n = x.ndim + 1
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    whole = x.value if batched else ops.expand(ops.unsqueeze(x, 0), (level.size, *x.shape))  # type: ignore[attr-defined]
    dim %= n
    return whole if not dim else ops.permute(whole, (*range(1, dim + 1), 0, *range(dim + 1, n)))


def _chunked(func: Callable, chunk: int, size: int, dims: list[int | None], flat: list[Any], spec: TreeSpec, out_dims: Any,
             randomness: str, kwargs: dict[str, Any]) -> Any:
    generator = default_generator()
    state = generator.get_state() if randomness == "same" else None
    pieces: list[list[Any]] = []
    out_spec: Any = None
    for start in range(0, size, chunk):
        if state is not None:
            generator.set_state(state)
        n = min(chunk, size - start)
        part = [x if d is None else ops.narrow(x, d, start, n) for x, d in zip(flat, dims)]
        leaves, out_spec = tree_flatten(_run(func, n, dims, part, spec, out_dims, randomness, kwargs))
        pieces.append(leaves)
    where = _broadcast_to_and_flatten(out_dims, out_spec) or [out_dims[0]] * out_spec.num_leaves
    joined = [parts[0] if d is None else ops.cat(list(parts), d) for parts, d in zip(zip(*pieces), where)]
    return tree_unflatten(joined, out_spec)


__all__ = ["vmap"]

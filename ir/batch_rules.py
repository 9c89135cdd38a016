"""Batching rules of the ops whose family has none: products, convolutions, indexing, joining, and those composites that
are faster whole than in parts. Loaded with the first ``vmap``."""

from __future__ import annotations

from typing import Any

from .batching import Call, along, batch_rule, leading, spread, view
from .family import wrap_dim, wrap_dims
from .op import call, get_op, ops

batch_rule("tril", "triu", "constant_pad_nd", "sum_pool", "windows_sum", "one_hot", "max_pool")(leading)
batch_rule("max_pool_backward")(leading)
batch_rule("sum", "mean", "var", "std", "logsumexp", "softmax", "log_softmax", "max_dim", "min_dim")(along)


# ---- products -------------------------------------------------------------------------------------------------------


@batch_rule("mm", "bmm")
def _product(c: Call) -> Any:
    x, y = c.args[:2]
    if c.op.name == "mm" and c.batched[0] and not c.batched[1] and x.ndim == 3 and y.ndim == 2:
        flat = ops.mm(ops.reshape(x, (x.shape[0] * x.shape[1], x.shape[2])), y)
        return ops.reshape(flat, (x.shape[0], x.shape[1], y.shape[1]))
    if c.op.name == "mm" and c.ndim(0) == c.ndim(1) == 2:
        return ops.bmm(c.whole(0), c.whole(1))
    if c.ndim(0) != 3 or c.ndim(1) != 3:
        c.result()  # raises what a wrong shape deserves
    xs, ys = c.whole(0), c.whole(1)
    c.result()
    out = ops.bmm(ops.reshape(xs, (-1, *xs.shape[2:])), ops.reshape(ys, (-1, *ys.shape[2:])))
    return ops.reshape(out, (c.size, -1, *out.shape[1:]))


# ---- convolutions: the batch becomes more samples, or more groups of channels ---------------------------------------------


def _into(x: Any, dim: int) -> Any:
    """The batch dimension 0 merged into dimension ``dim`` of the rest, in front."""
    x = ops.permute(x, (*range(1, dim + 1), 0, *range(dim + 1, x.ndim)))
    return ops.reshape(x, (*x.shape[:dim], x.shape[dim] * x.shape[dim + 1], *x.shape[dim + 2:]))


def _out_of(x: Any, dim: int, size: int) -> Any:
    """The inverse of :func:`_into`."""
    x = ops.reshape(x, (*x.shape[:dim], size, x.shape[dim] // size, *x.shape[dim + 1:]))
    return ops.permute(x, (dim, *range(dim), *range(dim + 1, x.ndim)))


@batch_rule("conv")
def _conv(c: Call) -> Any:
    x, w, b, *geometry, groups = c.args
    if not c.batched[1]:
        out = call(c.op, (_into(x, 0), w, None if c.batched.get(2) else b, *geometry, groups)) if c.batched[0] else None
        if out is None:  # only the bias is batched
            return _with_bias(spread(call(c.op, (x, w, None, *geometry, groups)), c.size), b)
        out = _out_of(out, 0, c.size)
        return _with_bias(out, b) if c.batched.get(2) else out
    if not c.batched[0] and groups == 1:
        out = call(c.op, (x, _into(w, 0), None, *geometry, 1))
    else:
        out = call(c.op, (_into(c.whole(0), 1), _into(w, 0), None, *geometry, groups * c.size))
    out = _out_of(out, 1, c.size)
    return out if b is None else _with_bias(out, c.whole(2))


def _with_bias(out: Any, b: Any) -> Any:
    """[B, N, C, *] + [B, C]."""
    return ops.add(out, ops.reshape(b, (b.shape[0], 1, b.shape[1], *(1,) * (out.ndim - 3))))


@batch_rule("conv_input_grad")
def _conv_input_grad(c: Call) -> Any:
    g, w, *geometry, groups = c.args
    if not c.batched[1]:
        return _out_of(call(c.op, (_into(g, 0), *c.args[1:])), 0, c.size)
    out = call(c.op, (_into(c.whole(0), 1), _into(w, 0), *geometry, groups * c.size))
    return _out_of(out, 1, c.size)


@batch_rule("conv_weight_grad")
def _conv_weight_grad(c: Call) -> Any:
    *geometry, groups = c.args[2:]
    out = call(c.op, (_into(c.whole(0), 1), _into(c.whole(1), 1), *geometry, groups * c.size))
    return _out_of(out, 0, c.size)


# ---- joining and reordering ------------------------------------------------------------------------------------------


@batch_rule("cat", "stack")
def _join(c: Call) -> Any:
    tensors = [x if b else spread(x, c.size) for x, b in zip(c.args[0], c.batched[0])]
    rank = max((x.ndim - 1 for x in tensors), default=0)
    if c.op.name == "cat":
        tensors = [x for x in tensors if x.ndim > 2 or x.shape[1:] != (0,)] or tensors  # PyTorch passes over empty vectors
    return call(c.op, (tensors, wrap_dim(c.args[1], rank + (c.op.name == "stack")) + 1))


@batch_rule("flip")
def _flip(c: Call) -> Any:
    n = c.ndim(0)
    return ops.alias(c.args[0]) if not tuple(c.args[1]) else c.run((c.args[0], tuple(d + 1 for d in wrap_dims(c.args[1], n))))


@batch_rule("roll")
def _roll(c: Call) -> Any:
    x, shifts, dims = c.args
    dims = dims if isinstance(dims, (tuple, list)) else (dims,)
    if not dims:
        flat = ops.reshape(x, (c.size, -1))
        return ops.reshape(c.run((flat, shifts, (1,))), tuple(x.shape))
    return c.run((x, shifts, tuple(wrap_dim(d, c.ndim(0)) + 1 for d in dims)))


@batch_rule("repeat")
def _repeat(c: Call) -> Any:
    x, repeats = c.args
    lead = len(repeats) - c.ndim(0)
    if lead < 0:
        return NotImplemented
    return c.run((ops.reshape(x, (c.size, *(1,) * lead, *x.shape[1:])), (1, *repeats)))


# ---- indexing -----------------------------------------------------------------------------------------------------------


@batch_rule("gather", "scatter_src", "scatter_add", "scatter_reduce", "at_class", "place")
def _aligned(c: Call) -> Any:
    """Tensors of one rank, all with the batch in front."""
    args = list(c.args)
    n = c.ndim(0)
    dim = next(i for i, p in enumerate(c.op.schema.params) if p.name == "dim")
    for i in c.op.tensor_slots:
        if hasattr(args[i], "dtype"):
            args[i] = c.whole(i)
            if not c.ndim(i):
                args[i] = ops.unsqueeze(args[i], 1)
    args[dim] = wrap_dim(args[dim], n) + 1
    found = c.run(args)
    alike = all(c.ndim(i) for i in c.op.tensor_slots if hasattr(c.args[i], "dtype"))
    return found if alike else ops.reshape(found, (c.size, *c.result().shape))


@batch_rule("select_scatter", "slice_scatter", "diagonal_scatter")
def _scatter_view(c: Call) -> Any:
    args, n = list(c.args), c.ndim(0)
    args[0], args[1] = c.whole(0), c.whole(1)
    for i, p in enumerate(c.op.schema.params):
        if p.name in ("dim", "dim1", "dim2"):
            args[i] = wrap_dim(args[i], n) + 1
    return c.run(args)


@batch_rule("index_select")
def _index_select(c: Call) -> Any:
    x, dim, index = c.args
    n = c.ndim(0)
    if not n:
        return NotImplemented
    dim = wrap_dim(dim, n)
    if not c.batched[2]:
        return c.run((x, dim + 1, index))
    xs, rest = c.whole(0), len(c.shape(0)) - dim - 1
    ids = ops.reshape(index, (c.size, *(1,) * dim, -1, *(1,) * rest))
    ids = ops.expand(ids, (c.size, *xs.shape[1:dim + 1], ids.shape[dim + 1], *xs.shape[dim + 2:]))
    found = ops.gather(xs, dim + 1, ids)
    return found if c.ndim(2) else ops.reshape(found, (c.size, *c.result().shape))


@batch_rule("index_add", "index_copy", "index_fill")
def _by_index(c: Call) -> Any:
    if c.batched[2] or not c.ndim(0) or (c.op.name == "index_fill" and c.batched.get(3)):
        return NotImplemented
    args = [c.whole(0), wrap_dim(c.args[1], c.ndim(0)) + 1, c.args[2], *c.args[3:]]
    if c.op.name != "index_fill":
        if c.ndim(3) != c.ndim(0):
            return NotImplemented
        args[3] = c.whole(3)
    return c.run(args)


@batch_rule("embedding")
def _embedding(c: Call) -> Any:
    weight, index, padding = c.args
    if not c.batched[0]:
        return c.run((weight, index, padding))
    rows = weight.shape[1]
    offset = ops.reshape(ops.arange(0, c.size, 1, dtype=index.dtype, device=index.device), (c.size, *(1,) * c.ndim(1)))
    if padding >= 0:  # each batch element has a padding row of its own
        weight = ops.where(ops.reshape(ops.eq(ops.arange(0, rows, 1, device=weight.device), padding), (1, rows, 1)),
                           ops.detach(weight), weight)
    flat = ops.reshape(weight, (c.size * rows, weight.shape[2]))
    return call(c.op, (flat, ops.add(index, ops.mul(offset, rows)), -1))


def _leading_indices(c: Call) -> tuple[Any, list[Any], list[int], int]:
    """For ``index`` and ``index_put``: the tensor with the indexed dimensions right behind the batch, the index tensors
    (that of the batch first), the order its dimensions have now, and the rank of what the indices make."""
    x, indices = c.whole(0), list(c.args[1])
    flags = c.batched[1]
    n = c.ndim(0)
    used = [d for d, i in enumerate(indices) if i is not None]
    if any(indices[d].dtype.name in ("bool", "uint8") for d in used):
        raise NotImplementedError
    rank = max(indices[d].ndim - bool(flags[d]) for d in used)
    order = [0, *(d + 1 for d in used), *(d + 1 for d in range(n) if d not in used)]
    given = []
    for d in used:
        i = indices[d]
        if flags[d]:
            i = ops.reshape(i, (c.size, *(1,) * (rank - i.ndim + 1), *i.shape[1:]))
        given.append(i)
    counts = ops.reshape(ops.arange(0, c.size, 1, dtype=get_op("index").extra.get("dtype"), device=x.device),
                         (c.size, *(1,) * rank))
    return ops.permute(x, tuple(order)), [counts, *given], order, rank


def _place(c: Call, rank: int) -> int:
    """Where the indices' dimensions stand in the result of one element."""
    used = [d for d, i in enumerate(c.args[1]) if i is not None]
    return used[0] if used == list(range(used[0], used[-1] + 1)) else 0


@batch_rule("index")
def _index(c: Call) -> Any:
    try:
        x, indices, _, rank = _leading_indices(c)
    except NotImplementedError:
        return NotImplemented
    found = ops.index(x, indices)
    at = _place(c, rank)
    return _moved(found, 1, rank, at)


def _moved(x: Any, start: int, count: int, by: int) -> Any:
    """The ``count`` dimensions from ``start`` on, moved behind the ``by`` ones that follow them."""
    if not by or not count:
        return x
    dims = list(range(x.ndim))
    block, rest = dims[start:start + count], dims[start + count:]
    return ops.permute(x, (*dims[:start], *rest[:by], *block, *rest[by:]))


@batch_rule("index_put")
def _index_put(c: Call) -> Any:
    values, accumulate = c.args[2], c.args[3]
    try:
        x, indices, order, rank = _leading_indices(c)
    except NotImplementedError:
        return NotImplemented
    at = _place(c, rank)
    total = rank + c.ndim(0) - (len(indices) - 1)  # dimensions of what is written, for one element
    if c.batched[2]:
        values = ops.reshape(values, (c.size, *(1,) * (total - c.ndim(2)), *values.shape[1:]))
    else:
        values = ops.reshape(values, (1, *(1,) * (total - c.ndim(2)), *values.shape))
    if at and rank:  # the indices' block goes to the front
        dims = list(range(1, total + 1))
        values = ops.permute(values, (0, *dims[at:at + rank], *dims[:at], *dims[at + rank:]))
    found = ops.index_put(x, indices, values, accumulate)
    return ops.permute(found, tuple(sorted(range(len(order)), key=order.__getitem__)))


__all__ = ["view"]

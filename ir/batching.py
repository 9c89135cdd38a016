"""How an op runs over a batch of calls at once: rules derived from its family, with every batch in dimension 0.

A rule takes a :class:`Call` and returns what the op gives for the whole batch, or NotImplemented where it does not apply;
the caller then runs the calls one by one, which is always right. Ops of no family with a shared rule (products,
convolutions, indexing) have theirs in :mod:`flambeau.ir.batch_rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .family import promotion, wrap_dim, wrap_dims
from .meta import TensorMeta
from .op import Op, call, ops
from .tracing import MetaTensor, infer_call

Rule = Callable[["Call"], Any]
RULES: dict[str, Rule] = {}
_DIMS = {"dim", "dims", "dim0", "dim1", "dim2", "dimension"}


class Call:
    """One op call over ``size`` batch elements. ``args`` are whole tensors; ``batched[i]`` says of each tensor argument
    (of each tensor of a list) whether its dimension 0 is the batch."""

    def __init__(self, op: Op, args: tuple, batched: dict[int, Any], size: int) -> None:
        self.op, self.args, self.batched, self.size = op, args, batched, size

    def ndim(self, i: int) -> int:
        """Dimensions of tensor argument ``i`` as one batch element sees it."""
        return self.args[i].ndim - bool(self.batched[i])

    def shape(self, i: int) -> tuple[int, ...]:
        return tuple(self.args[i].shape[1:] if self.batched[i] else self.args[i].shape)

    def whole(self, i: int) -> Any:
        """Tensor argument ``i`` with the batch in front, expanded where it had none."""
        return self.args[i] if self.batched[i] or not _is_tensor(self.args[i]) else spread(self.args[i], self.size)

    def one(self, i: int) -> Any:
        """The meta of argument ``i`` for one batch element (anything else as it is)."""
        a, b = self.args[i], self.batched.get(i)
        if isinstance(b, list):
            return [_meta(x, y) for x, y in zip(a, b)]
        return _meta(a, bool(b))

    def result(self) -> Any:
        """Meta (or metas) of the result for one batch element."""
        return infer_call(self.op, tuple(self.one(i) for i in range(len(self.args))))

    def run(self, args: Sequence[Any]) -> Any:
        return call(self.op, tuple(args))


def _is_tensor(x: Any) -> bool:
    return hasattr(x, "dtype") and hasattr(x, "ndim")


def _meta(x: Any, batched: bool) -> Any:
    return MetaTensor(TensorMeta(tuple(x.shape[1:] if batched else x.shape), x.dtype, x.device)) if _is_tensor(x) else x


def spread(x: Any, size: int) -> Any:
    """``x`` as each element of a batch (a view)."""
    return ops.expand(ops.unsqueeze(x, 0), (size, *x.shape))


def batch_rule(*names: str) -> Callable[[Rule], Rule]:
    """Enter the rule of the ops called ``names``."""
    def enter(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule
    return enter


def rule_of(op: Op) -> Rule | None:
    """The op's own rule, or its family's; None for a composite, which runs as its parts, and for what is run in a loop."""
    return RULES.get(op.name) or (None if op.family == "composite" else _FAMILIES.get(op.family))


# ---- corresponding elements ---------------------------------------------------------------------------------------


def pointwise(c: Call) -> Any:
    """Broadcasting, with the batch in front of the longest shape."""
    tensors = [i for i in c.op.tensor_slots if _is_tensor(c.args[i])]
    if "check" in c.op.tags and c.op.decompose is not None and any(c.batched[i] for i in tensors[1:]):
        return NotImplemented  # it asks for shapes that a batch does not have; its parts do not
    args = list(c.args)
    if any(c.batched[i] and not c.ndim(i) for i in tensors):
        _settle_dtypes(c, args, tensors)
    rank = max(c.ndim(i) for i in tensors)
    if "check" in c.op.tags and not c.batched[tensors[0]]:
        args[tensors[0]] = spread(args[tensors[0]], c.size)
    for i in tensors:
        x = args[i]
        if c.batched[i] and c.ndim(i) < rank:
            args[i] = ops.reshape(x, (c.size, *(1,) * (rank - c.ndim(i)), *x.shape[1:]))
    return c.run(args)


def _settle_dtypes(c: Call, args: list[Any], tensors: list[int]) -> None:
    """Promote by what one batch element sees: a batch of zero-dimensional tensors is no zero-dimensional tensor."""
    if c.op.promote in (None, "copy", "cast", "keep") or len({args[i].dtype for i in tensors}) < 2:
        return
    compute, _ = promotion(c.op, tuple(c.one(i) for i in range(len(args))))
    skip = tensors[0] if c.op.promote == "select" else -1
    for i in tensors:
        if i != skip and compute is not None and args[i].dtype is not compute:
            args[i] = ops.cast(args[i], compute)


# ---- along dimensions ------------------------------------------------------------------------------------------------


def along(c: Call) -> Any:
    """One tensor, and dimensions counted from behind the batch: reductions, scans, sorts."""
    if len(c.op.tensor_slots) != 1 or not any(p.name in _DIMS for p in c.op.schema.params):
        return NotImplemented
    at = c.op.tensor_slots[0]
    x, n = c.args[at], c.ndim(at)
    if not n:
        x, n = ops.unsqueeze(x, 1), 1
    args = list(c.args)
    args[at] = x
    for i, p in enumerate(c.op.schema.params):
        if p.name not in _DIMS:
            continue
        dim = args[i]
        if p.type == "int" and dim is None:  # of all elements in a row
            args[at], args[i] = ops.reshape(x, (c.size, -1)), 1
        elif p.type == "int":
            args[i] = wrap_dim(dim, n) + 1
        else:
            args[i] = tuple(d + 1 for d in wrap_dims(dim, n))
    found = c.run(args)
    metas = c.result()
    if isinstance(found, tuple):
        return tuple(_shaped(r, m, c.size) for r, m in zip(found, metas))
    return _shaped(found, metas, c.size)


def _shaped(found: Any, meta: Any, size: int) -> Any:
    shape = (size, *meta.shape)
    return found if tuple(found.shape) == shape else ops.reshape(found, shape)


# ---- views ------------------------------------------------------------------------------------------------------------


def view(c: Call) -> Any:
    """The same view of every element: dimensions move up by one, sizes get the batch in front."""
    x, n = c.args[0], c.ndim(0)
    args = list(c.args)
    names = {p.name: i for i, p in enumerate(c.op.schema.params)}
    rank = n + (c.op.name == "unsqueeze")
    if not rank and _DIMS & names.keys() and c.result().shape == ():
        return call(_op("alias"), (x,))  # dimension 0 of a number, which is none
    for name in _DIMS & names.keys():
        i = names[name]
        dim = args[i]
        if dim is None or (dim == () and name == "dim"):
            shape = c.shape(0)
            args[i] = () if dim == () else tuple(d + 1 for d in range(n) if shape[d] == 1)
            if not args[i]:
                return call(_op("alias"), (x,))
        elif isinstance(dim, (tuple, list)):
            args[i] = tuple(wrap_dim(d, n) + 1 for d in dim)
        else:
            if not rank:
                return NotImplemented
            args[i] = wrap_dim(dim, rank) + 1
    if c.op.name == "permute":
        c.result()  # what one element's rule says of wrong dimensions
        args[1] = (0, *args[1])
    size = names.get("size")
    if size is not None and c.op.schema.params[size].type == "int[]":
        args[size] = (c.size, *c.result().shape)
        if c.op.name == "expand":
            lead = len(args[size]) - 1 - n
            args[0] = ops.reshape(x, (c.size, *(1,) * lead, *x.shape[1:])) if lead else x
        elif c.op.name == "as_strided":
            args[names["stride"]] = (x.stride()[0], *args[names["stride"]])
    elif c.op.name == "t":
        return ops.transpose(x, 1, 2) if n == 2 else call(_op("alias"), (x,))
    return c.run(args)


def _op(name: str) -> Op:
    from .op import get_op  # noqa: PLC0415
    return get_op(name)


def leading(c: Call) -> Any:
    """An op that leaves leading dimensions alone: a batch is one more of them."""
    if len(c.op.tensor_slots) == 1:
        return c.run(c.args)
    args = list(c.args)
    for i in c.op.tensor_slots:
        args[i] = c.whole(i)
    return c.run(args)


def matrices(c: Call) -> Any:
    """Linear algebra: leading dimensions are a batch already. They broadcast, counted from the matrices (or pivots) on."""
    core = {i: 1 if c.op.schema.params[i].name == "pivots" else 2 for i in c.op.tensor_slots}
    rank = max(c.ndim(i) - n for i, n in core.items())
    args = list(c.args)
    for i, n in core.items():
        missing = rank - (c.ndim(i) - n)
        if 1 in core.values() and not c.batched[i]:
            args[i] = c.whole(i)  # pivots and their factor go together
        if (c.batched[i] or args[i] is not c.args[i]) and missing:
            args[i] = ops.reshape(args[i], (c.size, *(1,) * missing, *args[i].shape[1:]))
    metas = c.result()
    wanted = metas if isinstance(metas, tuple) else (metas,)
    if any(tuple(m.shape) == (0,) for m in wanted):
        return NotImplemented  # stands for a result that is not computed
    return c.run(args)


def transform(c: Call) -> Any:
    """Fourier transforms of dimensions counted from the front, in their order."""
    at = next((i for i, p in enumerate(c.op.schema.params) if p.name == "dim"), None)
    if at is None:
        return leading(c)
    return c.run([*c.args[:at], [d + 1 for d in c.args[at]], *c.args[at + 1:]])


_FAMILIES: dict[str, Rule] = {"pointwise": pointwise, "reduction": along, "scan": along, "sort": along, "view": view,
                              "transfer": leading, "linalg": matrices, "fft": transform}

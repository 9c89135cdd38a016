"""How symbolic tensors lie in memory, where the trace can know it: inputs (guarded), their views, fresh results of ops.

Strides are not part of a tensor's guard, and few programs ask for them. One that does (`is_contiguous()`, `stride()`)
gets the answer for the example, and a guard on the strides of the inputs it follows from.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flambeau.frontend.trace.values import Const, TensorValue, Unsupported, Value
from flambeau.ir.graph import root_of
from flambeau.ir.symint import SymInt
from flambeau.runtime.tensor import wrap

if TYPE_CHECKING:
    from flambeau.frontend.trace.interp import Tracer

def layout_method(tr: Tracer, value: TensorValue, name: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
    """`is_contiguous()`, `stride()`, `storage_offset()` of a symbolic tensor."""
    given = [a.as_python(tr) for a in args] + [v.as_python(tr) for v in kwargs.values()]
    node = value.tensor.node                                      # type: ignore[attr-defined]
    array = _array(tr, node)
    if array is None or (name == "is_contiguous" and given) or (name == "storage_offset" and value.source is None):
        raise Unsupported("tensor-attribute", f"Tensor.{name}() of a result is not known while tracing",
                          "ask it of the inputs, or call contiguous() in any case")
    if name == "storage_offset":
        offset = value.raw.storage_offset()
        assert value.source is not None
        tr.guard(value.source, (("offset", offset), lambda w, v: f"{v}.storage_offset() == {offset}",
                                f"{{}} starts at element {offset} of its memory"))
        return Const(offset)
    if name == "is_contiguous":
        return Const(bool(array.flags.c_contiguous))
    try:
        return tr.constant(wrap(array).stride(*given))
    except (IndexError, TypeError) as error:
        raise tr.observe(error) from None


def is_known_contiguous(tr: Tracer, value: TensorValue) -> bool:
    """Whether `contiguous()` gives the tensor itself; adds guards only where an input is asked directly."""
    if value.source is None:
        return False
    node = value.tensor.node                                      # type: ignore[attr-defined]
    if node in tr.inputs and not _is_resized(tr, node):
        return _is_row_major(tr, node)
    array = _array(tr, node)
    return array is not None and bool(array.flags.c_contiguous)


def _is_row_major(tr: Tracer, node: Any) -> bool:
    """Whether an input lies row-major, guarded."""
    source, raw = tr.inputs[node]
    found = bool(raw._a.flags.c_contiguous)
    tr.guard(source, (("row-major", found), lambda w, v: f"{v}._a.flags.c_contiguous is {found}",
                      f"{{}} is {'' if found else 'not '}contiguous"))
    return found


def check_view(tr: Tracer, value: TensorValue, args: list[Value]) -> None:
    """`view` refuses what would need a copy: guard that inputs lie so that it does as it did, and refuse as it does."""
    node = root_of(value.tensor.node)                             # type: ignore[attr-defined]
    if node not in tr.inputs:
        return
    if _is_row_major(tr, node):
        return
    array = _array(tr, value.tensor.node)                         # type: ignore[attr-defined]
    if array is None:
        raise Unsupported("tensor-attribute", "view() depends on the strides of a tensor that is not contiguous",
                          "use reshape(), or contiguous() before it")
    try:
        wrap(array).view(*(a.as_python(tr) for a in args))
    except RuntimeError as error:
        raise tr.observe(error) from None


def _array(tr: Tracer, node: Any) -> Any:
    """An array without memory of its own that lies as the node's value does; None where that is not known."""
    known = tr.layouts.get(node)
    if known is None:
        known = tr.layouts[node] = (_find(tr, node),)
    return known[0]


def _find(tr: Tracer, node: Any) -> Any:
    shape = node.meta.shape if not isinstance(node.meta, tuple) else None
    if shape is None or any(type(n) is not int for n in shape):
        return None
    if node in tr.inputs:
        source, raw = tr.inputs[node]
        if _is_resized(tr, node):
            return None
        strides = raw._a.strides
        tr.guard(source, (("strides", strides), lambda w, v: f"{v}._a.strides == {strides}",
                          f"{{}} has the strides {raw.stride()}"))
        return dummy(raw._a.dtype, shape, strides)
    op = node.op
    if op is None or node in tr.scalars:
        return None
    if op.family == "view" or op.name == "clone":
        base = _array(tr, node.args[0])
        return None if base is None else _viewed(op, base, node)
    if "random" in op.tags or not node.inputs:
        return None if node.inputs else rows(node)
    arrays = [_array(tr, n) for n in node.inputs]
    keeps = op.family in ("pointwise", "creation") or op.name == "cast"
    if keeps and all(a is not None and a.flags.c_contiguous for a in arrays):
        return rows(node)
    return None


def _is_resized(tr: Tracer, node: Any) -> bool:
    """Whether an op that writes may have changed more of an input than its elements."""
    return any(n.op is not None and n.op.mutates and n.op.functional is None and node in n.inputs for n in tr.graph.nodes)


def _viewed(op: Any, base: Any, node: Any) -> Any:
    try:
        found = op.kernel(np, base, *node.args[1:])
    except Exception:
        return None
    return found if isinstance(found, np.ndarray) and found.shape == tuple(node.meta.shape) else None


def dummy(dtype: Any, shape: Any, strides: Any) -> Any:
    """Memory that nobody writes to, so that it takes no room; a view that cannot be had without a copy copies it."""
    span = dtype.itemsize + sum((n - 1) * s for n, s in zip(shape, strides) if n)
    if span > _LARGEST or any(s < 0 for s in strides):
        return None
    return np.ndarray(shape, dtype, np.empty(span, np.uint8), 0, strides)


_LARGEST = 1 << 26


def rows(node: Any) -> Any:
    """Row-major, as ops make their results; a symbolic size as it is in the example."""
    dtype, sizes, strides = node.meta.dtype.np, tuple(n.hint if isinstance(n, SymInt) else n for n in node.meta.shape), []
    step = dtype.itemsize
    for n in reversed(sizes):
        strides.append(step)
        step *= max(n, 1)
    return dummy(dtype, sizes, tuple(reversed(strides)))


def turn(tr: Tracer, value: TensorValue, name: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
    """`x.unsqueeze_(0)` and its like: the tensor object shows a view of what it was. Only of tensors made in the trace, of
    which nobody else knows the shape."""
    ban = getattr(value.tensor, "ban", None)
    if value.source is not None or tr.transform is not None or tr.nested or tr.tape.is_kept(value) or ban is not None:
        raise Unsupported("tensor-attribute", f"Tensor.{name}_() is called, which a graph does not record")
    old = value.tensor
    view = tr.call_pure(getattr(type(old), name), [value, *args], kwargs)
    assert isinstance(view, TensorValue)
    tr.tensors.pop(id(old), None)
    value.tensor = view.tensor
    tr.tensors[id(view.tensor)] = value
    return value

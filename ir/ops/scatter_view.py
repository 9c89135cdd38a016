"""What writes become in a graph without writes: a base with a window replaced, and a value replaced off the tape."""

from __future__ import annotations

from typing import Any

from .. import dtype as _dtype
from ..family import ops, primitive
from ..meta import meta_of
from ..op import call, get_op
from ..samples import S, T


def _written(xp: Any, base: Any, src: Any, view: str, args: tuple) -> Any:
    out = xp.array(base, copy=True, order="C")  # any view fits it
    get_op(view).kernel(xp, out, *args)[...] = src  # type: ignore[misc]
    return out


def _replace_window(base: Any, src: Any, view: str, args: tuple) -> Any:
    write = get_op(view).extra.get("write")
    found = NotImplemented if write is None else write(base, src, *args)
    return _by_position(base, src, view, args) if found is NotImplemented else found


def _by_position(base: Any, src: Any, view: str, args: tuple) -> Any:
    """The general rule: view the positions as the base is viewed, and scatter there."""
    n = base.numel()
    at = ops.reshape(ops.arange(0, n, 1, dtype=_dtype.int64, device=base.device), tuple(base.shape))
    at = ops.reshape(call(get_op(view), (at, *args)), (-1,))
    return ops.reshape(ops.scatter(ops.reshape(base, (-1,)), 0, at, ops.reshape(src, (-1,))), tuple(base.shape))


view_scatter = primitive(
    "view_scatter(Tensor self, Tensor src, str view, any args) -> Tensor", "scatter_view",
    kernel=_written, infer=lambda base, src, view, args: meta_of(base), decompose=_replace_window, api=(),
    vjp=(lambda g, out, base, src, view, args: ops.view_scatter(
        g, ops.full(tuple(src.shape), 0, dtype=g.dtype, device=g.device), view, args),
         lambda g, out, base, src, view, args: call(get_op(view).extra.get("relaxed", get_op(view)), (g, *args))),
    samples=lambda: [S(T((3, 4)), T((4, 3)), "t", ()), S(T((3, 4)), T((3, 1, 4)), "unsqueeze", (1,)),
                     S(T((3, 4)), T((4,)), "select", (0, 1)), S(T((3, 4)), T((3,)), "select", (-1, 2))],
    doc="A copy of ``self`` in which the elements that the view op ``view(self, *args)`` shows are those of ``src``.")

overwrite = primitive(
    "overwrite(Tensor self, Tensor src) -> Tensor", "composite", kernel=lambda xp, x, src: src.copy(),
    infer=lambda x, src: meta_of(x), decompose=lambda x, src: src, api=(),
    vjp=(lambda g, out, x, src: g, None), samples=lambda: [S(T((3, 4)), T((3, 4), grad=False))], tags=("by_rule",),
    doc="The data of ``src`` with the history of ``self``: what a tensor is after a write that was not recorded.")

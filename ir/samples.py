"""Descriptions of example calls: each op lists its own, and every generic test runs over them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .dtype import DType


@dataclass(eq=False)
class T:
    """A tensor to be made by the test: values uniform in [low, high) (integers included), or ``values`` themselves.

    ``dtype`` None means the dtype under test. ``layout`` "t" makes it a transposed (non-contiguous) view, "s" a strided one.
    ``grad`` False: never differentiated. ``distinct``: all values differ (for max, sort, median).
    """

    shape: tuple[int, ...] = ()
    low: float = -2.0
    high: float = 2.0
    dtype: DType | None = None
    layout: str = ""
    grad: bool = True
    distinct: bool = False
    values: Any = None


@dataclass(eq=False)
class Sample:
    """One call: ``args`` and ``kwargs`` hold :class:`T` where tensors belong. ``dtypes`` overrides the op's."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    dtypes: str | None = None
    name: str = ""


def S(*args: Any, **kwargs: Any) -> Sample:
    """A sample written as the call it stands for."""
    return Sample(args, kwargs)


def unary(low: float = -2.0, high: float = 2.0) -> Any:
    """Samples of a pointwise op of one tensor."""
    return lambda: [S(T((3, 5), low, high)), S(T((), low, high)), S(T((0, 3), low, high)), S(T((4, 3), low, high, layout="t"))]


def binary(low: float = -2.0, high: float = 2.0, low2: float | None = None, high2: float | None = None) -> Any:
    """Samples of a pointwise op of two tensors: equal shapes, broadcasting, zero-dimensional, a Python number."""
    lo, hi = (low if low2 is None else low2), (high if high2 is None else high2)
    return lambda: [S(T((3, 5), low, high), T((3, 5), lo, hi)), S(T((3, 1), low, high), T((1, 4), lo, hi)),
                    S(T((2, 3), low, high), T((), lo, hi)), S(T((4, 3), low, high, layout="t"), T((3,), lo, hi)),
                    S(T((3, 2), low, high), max(1, int(hi)))]

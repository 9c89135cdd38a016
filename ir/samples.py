"""Descriptions of example calls: each op lists its own, and every generic test runs over them."""

from __future__ import annotations

from typing import Any

from .dtype import DType


class T:
    """A tensor to be made by the test: values uniform in [low, high) (integers included), or ``values`` themselves.

    ``dtype`` None means the dtype under test. ``layout`` "t" makes it a transposed (non-contiguous) view, "s" a strided one.
    ``grad`` False: never differentiated. ``distinct``: all values differ (for max, sort, median).
    """

    def __init__(self, shape: tuple[int, ...] = (), low: float = -2.0, high: float = 2.0, dtype: DType | None = None,
                 layout: str = "", grad: bool = True, distinct: bool = False, values: Any = None) -> None:
        self.shape, self.low, self.high, self.dtype = shape, low, high, dtype
        self.layout, self.grad, self.distinct, self.values = layout, grad, distinct, values

    def __repr__(self) -> str:
        return f"T({self.shape})"


class Sample:
    """One call: ``args`` and ``kwargs`` hold :class:`T` where tensors belong. ``dtypes`` overrides the op's."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], dtypes: str | None = None, name: str = "") -> None:
        self.args, self.kwargs, self.dtypes, self.name = args, kwargs, dtypes, name

    def __repr__(self) -> str:
        return f"S{self.args}{self.kwargs or ''}"


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

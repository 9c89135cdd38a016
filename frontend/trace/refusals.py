"""Dtypes that an op does not take: a trace looks at shapes and would go on where eager mode raises."""
from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.ir.op import Op, base, use_handler
from flambeau.ir.tensorlike import TensorLike
from flambeau.runtime.autograd import GradMode
from flambeau.runtime.tensor import Tensor

#: What eager mode said to an op and the dtypes (and numbers) of its operands: nothing, or an exception.
_said: dict[Any, Exception | None] = {}


def refuse_dtypes(op: Op, args: tuple[Any, ...]) -> None:
    """Raise what eager mode raises for the dtypes of a pointwise op's operands, if they are not those it is listed with."""
    if op.family != "pointwise" or all(_kind(a) in op.dtypes for a in args if isinstance(a, (TensorLike, float))):
        return
    key = (op, *((a.dtype if isinstance(a, TensorLike) else (type(a), a)) for a in args))
    try:
        known = key in _said
    except TypeError:
        return
    if not known:
        small = tuple(Tensor(np.ones(1, a.dtype.np)) if isinstance(a, TensorLike) else a for a in args)
        if len(_said) > 4096:
            _said.clear()
        _said[key] = None
        try:
            with use_handler(base.handler), GradMode(False), np.errstate(all="ignore"):
                base.handler(op, small)
        except (NotImplementedError, TypeError, RuntimeError) as error:
            _said[key] = type(error)(str(error))
    said = _said[key]
    if said is not None:
        raise type(said)(str(said))


def _kind(value: Any) -> str:
    kind = value.dtype.np.kind if isinstance(value, TensorLike) else "f"
    return "f" if kind == "V" else kind

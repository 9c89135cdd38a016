"""Operators under their names in ATen: ``ops.aten.NAME``, with or without an overload (PyTorch: ``torch.ops``)."""

from __future__ import annotations

from typing import Any

from flambeau.ir import late
from flambeau.ir.op import PUBLIC, get_op

for _module in ("copies", "native"):
    late.load_module(_module)


class _Operator:
    """A function whose overloads (``default``, ``Tensor``...) are itself."""

    def __init__(self, name: str, function: Any) -> None:
        self.__name__, self._function = name, function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __getattr__(self, name: str) -> _Operator:
        if name.startswith("_"):
            raise AttributeError(name)
        return self

    def __repr__(self) -> str:
        return f"aten.{self.__name__}"


class _Namespace:
    """The operators of one library by name."""

    def __getattr__(self, name: str) -> _Operator:
        for space in ("aten", "torch", "nn.functional"):
            late.load(space, name)
            if name in PUBLIC.get(space, {}):
                return _Operator(name, PUBLIC[space][name])
        try:
            return _Operator(name, get_op(name).method)
        except KeyError:
            raise AttributeError(f"no operator aten::{name}") from None


aten = _Namespace()

__all__ = ["aten"]

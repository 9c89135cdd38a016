"""Functions behind the layers (PyTorch: ``torch.nn.functional``): those that the ops publish, and a few of their own."""

from __future__ import annotations

from typing import Any

from flambeau.ir import late as _late
from flambeau.ir.op import PUBLIC as _PUBLIC

from . import _reduction as _Reduction  # noqa: F401 - programs look for it here

globals().update(_PUBLIC["nn.functional"])


def __getattr__(name: str) -> Any:
    _late.load("nn.functional", name)
    try:
        return _PUBLIC["nn.functional"][name]
    except KeyError:
        raise AttributeError(f"module 'flambeau.nn.functional' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*_PUBLIC["nn.functional"], *_late.names("nn.functional")})

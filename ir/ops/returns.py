"""Named results of ops that return several tensors, as PyTorch names and prints them."""

from __future__ import annotations

from collections import namedtuple
from typing import Any


def _named(name: str, fields: str) -> Any:
    base = namedtuple(name, fields)  # type: ignore[misc]

    def show(self: Any) -> str:
        inner = ",\n".join(f"{f}={v!r}" for f, v in zip(self._fields, self))
        return f"torch.return_types.{name}(\n{inner})"

    return type(name, (base,), {"__slots__": (), "__repr__": show, "__module__": __name__})


max = _named("max", "values indices")  # noqa: A001
min = _named("min", "values indices")  # noqa: A001
median = _named("median", "values indices")
nanmedian = _named("nanmedian", "values indices")
mode = _named("mode", "values indices")
kthvalue = _named("kthvalue", "values indices")
sort = _named("sort", "values indices")
topk = _named("topk", "values indices")
cummax = _named("cummax", "values indices")
cummin = _named("cummin", "values indices")
aminmax = _named("aminmax", "min max")

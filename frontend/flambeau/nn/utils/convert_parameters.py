"""Parameters as one vector (PyTorch: ``torch.nn.utils.convert_parameters``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flambeau.ir.op import ops
from flambeau.runtime.tensor import Tensor


def parameters_to_vector(parameters: Iterable[Any]) -> Any:
    """All parameters as one vector. Raises ``TypeError`` when they are on several devices."""
    found = list(parameters)
    if len({str(p.device) for p in found}) > 1:
        raise TypeError("Found two parameters on different devices, this is currently not supported.")
    return ops.cat([ops.reshape(p, (p.numel(),)) for p in found], 0)


def vector_to_parameters(vec: Any, parameters: Iterable[Any]) -> None:
    """Set the parameters to consecutive parts of ``vec``."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected torch.Tensor, but got: {type(vec)}")
    start = 0
    for p in parameters:
        p.data = ops.reshape(ops.narrow(vec, 0, start, p.numel()), tuple(p.shape)).data
        start += p.numel()


__all__ = ["parameters_to_vector", "vector_to_parameters"]

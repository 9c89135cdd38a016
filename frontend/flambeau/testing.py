"""Comparison of results in tests (PyTorch: ``torch.testing``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from flambeau.ir import dtype as _dtype
from flambeau.runtime.tensor import Tensor, wrap

_TOLERANCES = {  # relative and absolute, by dtype; anything else is compared exactly
    _dtype.float16: (1e-3, 1e-5), _dtype.bfloat16: (1.6e-2, 1e-5), _dtype.float32: (1.3e-6, 1e-5),
    _dtype.float64: (1e-7, 1e-7), _dtype.complex64: (1.3e-6, 1e-5), _dtype.complex128: (1e-7, 1e-7)}


def assert_close(actual: Any, expected: Any, *, allow_subclasses: bool = True, rtol: float | None = None,
                 atol: float | None = None, equal_nan: bool = False, check_device: bool = True, check_dtype: bool = True,
                 check_layout: bool = True, check_stride: bool = False, msg: Any = None) -> None:
    """Raise ``AssertionError`` unless ``|actual - expected| <= atol + rtol * |expected|``, elementwise.

    Tensors, arrays and numbers, and sequences and mappings of these. The tolerances default to the dtype's. Raises
    ``ValueError`` when only one of them is given.
    """
    if (rtol is None) != (atol is None):
        raise ValueError("rtol and atol must both be specified or both be unspecified")

    def compare(a: Any, b: Any, where: str) -> None:
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            _require(set(a) == set(b), f"The keys of the mappings do not match{where}", msg)
            for key in b:
                compare(a[key], b[key], f"{where} at key {key!r}")
        elif _is_sequence(a) and _is_sequence(b):
            _require(len(a) == len(b), f"The length of the sequences mismatch{where}: {len(a)} != {len(b)}", msg)
            for i, (x, y) in enumerate(zip(a, b)):
                compare(x, y, f"{where} at index {i}")
        elif a is None or b is None:
            _require(a is b, f"None mismatch{where}: {a} is not {b}", msg)
        else:
            left, right = _tensor(a), _tensor(b)
            if isinstance(a, Tensor) and isinstance(b, Tensor):
                _same_kind(left, right, where, check_dtype, check_device, check_stride, msg)
            _close(left, right, where, (rtol, atol), equal_nan, msg)

    compare(actual, expected, "")


def _is_sequence(x: Any) -> bool:
    return isinstance(x, Sequence) and not isinstance(x, str)


def _tensor(x: Any) -> Tensor:
    if isinstance(x, Tensor):
        return x.detach()  # type: ignore[attr-defined]
    array = np.asarray(x)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"No comparison pair was able to handle inputs of type {type(x)}")
    return wrap(array)


def _require(holds: bool, text: str, msg: str | Callable[[str], str] | None) -> None:
    if not holds:
        raise AssertionError(text if msg is None else msg(text) if callable(msg) else msg)


def _same_kind(a: Tensor, b: Tensor, where: str, dtype: bool, device: bool, stride: bool, msg: Any) -> None:
    _require(a.shape == b.shape, f"The values for attribute 'shape' do not match{where}: {a.shape} != {b.shape}.", msg)
    _require(not dtype or a.dtype is b.dtype,
             f"The values for attribute 'dtype' do not match{where}: {a.dtype} != {b.dtype}.", msg)
    _require(not device or a.device == b.device,
             f"The values for attribute 'device' do not match{where}: {a.device} != {b.device}.", msg)
    _require(not stride or a.stride() == b.stride(),
             f"The values for attribute 'stride()' do not match{where}: {a.stride()} != {b.stride()}.", msg)


def _close(a: Tensor, b: Tensor, where: str, tolerances: tuple[float | None, float | None], equal_nan: bool, msg: Any) -> None:
    _require(a.shape == b.shape, f"The values for attribute 'shape' do not match{where}: {a.shape} != {b.shape}.", msg)
    defaults = [_TOLERANCES.get(t.dtype, (0.0, 0.0)) for t in (a, b)]
    rtol, atol = (max(d[i] for d in defaults) if t is None else t for i, t in enumerate(tolerances))
    wide = np.complex128 if a.dtype.is_complex or b.dtype.is_complex else np.float64
    if a.dtype.is_integral and b.dtype.is_integral and not rtol and not atol:
        left, right = a._a, b._a
        matches = left == right
    else:
        left, right = a._a.astype(wide), b._a.astype(wide)
        matches = np.isclose(left, right, rtol=rtol, atol=atol, equal_nan=equal_nan)
    if not matches.all():
        count, worst = int((~matches).sum()), np.abs(left.astype(wide) - right.astype(wide)).max()
        _require(False, f"Tensor-likes are not close{where}!\n\nMismatched elements: {count} / {matches.size} "
                 f"({100 * count / matches.size:.1f}%)\nGreatest absolute difference: {worst} (up to {atol} allowed, beside "
                 f"{rtol} of the expected value)", msg)


__all__ = ["assert_close"]

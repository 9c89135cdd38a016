"""How tensors print: PyTorch's layout, digit for digit (PyTorch: ``torch.set_printoptions``)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from flambeau.ir import device as _device
from flambeau.ir import dtype as _dtype

if TYPE_CHECKING:
    from .tensor import Tensor


class PrintOptions:
    """What ``set_printoptions`` sets."""

    def __init__(self, precision: int = 4, threshold: float = 1000, edgeitems: int = 3) -> None:
        self.precision, self.threshold, self.edgeitems, self.linewidth = precision, threshold, edgeitems, 80
        self.sci_mode: bool | None = None


options = PrintOptions()
_PROFILES = {"default": PrintOptions(), "short": PrintOptions(precision=2, edgeitems=2), "full": PrintOptions(threshold=math.inf)}


def set_printoptions(precision: int | None = None, threshold: float | None = None, edgeitems: int | None = None,
                     linewidth: int | None = None, profile: str | None = None, sci_mode: bool | None = None) -> None:
    """Set how tensors print: digits, when to summarise and how much, line width, scientific notation, or a ``profile``
    ("default", "short", "full") of these."""
    if profile is not None:
        for name, value in vars(_PROFILES[profile.lower()]).items():
            if name != "sci_mode":
                setattr(options, name, value)
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    for name, value in given.items():
        if value is not None:
            setattr(options, name, value)
    options.sci_mode = sci_mode


class _Formatter:
    """One width and one notation for all numbers of a tensor."""

    def __init__(self, values: np.ndarray) -> None:
        self.floating = values.dtype.kind == "f"
        self.int_mode, self.sci_mode, self.max_width = True, False, 1
        flat = values.reshape(-1)
        if not self.floating:
            self.max_width = max([self.max_width, *(len(str(v)) for v in flat.tolist())])
            return
        finite = flat[np.isfinite(flat) & (flat != 0)]
        if not finite.size:
            return
        size = np.abs(finite.astype(np.float64))
        low, high = size.min(), size.max()
        self.int_mode = bool((finite == np.ceil(finite)).all())
        self.sci_mode = bool(high / low > 1000.0 or high > 1e8 or (not self.int_mode and low < 1e-4))
        if self.sci_mode if options.sci_mode is None else options.sci_mode:
            widths = (len(f"{v:.{options.precision}e}") for v in finite.tolist())
        elif self.int_mode:
            widths = (len(f"{v:.0f}") + 1 for v in finite.tolist())
        else:
            widths = (len(f"{v:.{options.precision}f}") for v in finite.tolist())
        self.max_width = max(self.max_width, max(widths))
        if options.sci_mode is not None:
            self.sci_mode = options.sci_mode

    def format(self, value: Any) -> str:
        if not self.floating:
            text = str(value)
        elif self.sci_mode:
            text = f"{value:{self.max_width}.{options.precision}e}"
        elif self.int_mode:
            text = f"{value:.0f}" + ("" if math.isinf(value) or math.isnan(value) else ".")
        else:
            text = f"{value:.{options.precision}f}"
        return text.rjust(self.max_width)


class _Layout:
    """Lays a (possibly summarised) array out in lines."""

    def __init__(self, shown: np.ndarray, summarize: bool) -> None:
        self.complex = shown.dtype.kind == "c"
        self.summarize = summarize
        self.first = _Formatter(shown.real if self.complex else shown)
        self.second = _Formatter(shown.imag) if self.complex else None

    def value(self, v: Any) -> str:
        if self.second is None:
            return self.first.format(v)
        imaginary = (self.second.format(v.imag) + "j").lstrip()
        return self.first.format(v.real) + ("" if imaginary[0] in "+-" else "+") + imaginary

    def lay(self, a: np.ndarray, indent: int) -> str:
        if a.ndim == 0:
            return self.value(a.item())
        edge = options.edgeitems
        short = self.summarize and len(a) > 2 * edge
        if a.ndim == 1:
            return self.vector(a, indent, edge if short else None)
        rows = [*a[:edge], None, *a[-edge:]] if short else list(a)
        parts = ["..." if row is None else self.lay(row, indent + 1) for row in rows]
        return "[" + ("," + "\n" * (a.ndim - 1) + " " * (indent + 1)).join(parts) + "]"

    def vector(self, a: np.ndarray, indent: int, edge: int | None) -> str:
        width = self.first.max_width + 2 + (self.second.max_width + 1 if self.second else 0)
        per_line = max(1, int(math.floor((options.linewidth - indent) / width)))
        if edge is None:
            shown = [self.value(v) for v in a.tolist()]
        else:
            shown = [*map(self.value, a[:edge].tolist()), " ...", *map(self.value, a[-edge:].tolist())]
        lines = [", ".join(shown[i:i + per_line]) for i in range(0, len(shown), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _summarized(a: np.ndarray) -> np.ndarray:
    """The elements that a summary shows (they decide the format)."""
    edge = options.edgeitems
    if a.ndim == 0:
        return a
    if len(a) > 2 * edge:
        a = np.concatenate([a[:edge], a[-edge:]])
    return a if a.ndim == 1 else np.stack([_summarized(x) for x in a])


def _layout(a: np.ndarray, indent: int) -> str:
    if not a.size:
        return "[]"
    summarize = a.size > options.threshold
    return _Layout(_summarized(a) if summarize else a, summarize).lay(a, indent)


def tensor_str(t: Tensor) -> str:
    """``repr`` of a tensor."""
    kind = type(t)
    prefix = "tensor(" if kind.__module__.partition(".")[0] == "flambeau" else kind.__name__ + "("  # a program's own class
    if t.is_meta:
        return _described(t, prefix)
    a = t._a if t.device.type == "cpu" else t._a.get()
    if t.dtype in (_dtype.float16, _dtype.bfloat16):
        a = a.astype(np.float32)
    default = _dtype.get_default_dtype()
    plain = t.dtype in (default, _dtype.int64, _dtype.bool_, default.to_complex())
    suffixes = [] if t.device == _device.cpu else [f"device='{t.device}'"]
    if not a.size and a.ndim != 1:
        suffixes.append(f"size={tuple(t.shape)}")
    if (not plain) if a.size else t.dtype is not default:
        suffixes.append(f"dtype={t.dtype}")
    grad_fn = t.grad_fn
    if grad_fn is not None:
        suffixes.append(f"grad_fn=<{grad_fn.name()}>")
    elif t.requires_grad:
        suffixes.append("requires_grad=True")
    return _with_suffixes(prefix + _layout(a, len(prefix)), suffixes, len(prefix))


def _described(t: Tensor, prefix: str) -> str:
    """A tensor without data."""
    suffixes = ["device='meta'", f"size={tuple(t.shape)}"]
    if t.dtype is not _dtype.get_default_dtype():
        suffixes.append(f"dtype={t.dtype}")
    if t.requires_grad:
        suffixes.append("requires_grad=True" if t.grad_fn is None else f"grad_fn=<{t.grad_fn.name()}>")
    return _with_suffixes(prefix + "...", suffixes, len(prefix))


def _with_suffixes(text: str, suffixes: list[str], indent: int) -> str:
    used = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if used + len(suffix) + 2 > options.linewidth:
            text += ",\n" + " " * indent + suffix
            used = indent + len(suffix)
        else:
            text += ", " + suffix
            used += len(suffix) + 2
    return text + ")"

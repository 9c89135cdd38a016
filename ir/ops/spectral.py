"""Short-time Fourier transforms: the windows of a signal, transformed, and a signal put together from them."""

from __future__ import annotations

import warnings
from typing import Any

from ..family import ops, primitive
from ..meta import meta_of
from ..op import public, type_name
from ..samples import S, T


def _shown(name: str, x: Any, **options: Any) -> str:
    """The call, as the errors of the two transforms begin."""
    kind = f"torch.{type_name(x.dtype)}Tensor[{', '.join(map(str, x.shape))}]"
    found = {k: int(v) if isinstance(v, bool) else f"torch.{type_name(v.dtype)}Tensor{{{list(v.shape)}}}" if hasattr(v, "dtype")
             else v for k, v in options.items()}
    return f"{name}({kind}, {', '.join(f'{k}={v}' for k, v in found.items())}) : "


def _full_window(window: Any, length: int, n_fft: int, like: Any) -> Any:
    """The window (ones, where none is given) with zeros on both sides, up to ``n_fft`` elements."""
    if window is None:
        window = ops.full((length,), 1, dtype=like.dtype.to_real(), device=like.device)
    before = (n_fft - length) // 2
    return window if length == n_fft else ops.constant_pad_nd(window, [before, n_fft - length - before])


# ---- forward ------------------------------------------------------------------------------------------------------


def _check_stft(x: Any, n_fft: int, hop: int, length: int, window: Any, given: dict[str, Any]) -> None:
    called = _shown("stft", x, n_fft=n_fft, hop_length=hop, win_length=length, window=window, **given)
    if x.dtype.is_integral:
        raise RuntimeError(called + "expected a tensor of floating point or complex values")
    if x.ndim not in (1, 2):
        raise RuntimeError(called + "expected a 1D or 2D tensor")
    if n_fft <= 0 or n_fft > x.shape[-1]:
        raise RuntimeError(called + f"expected 0 < n_fft < {x.shape[-1]}, but got n_fft={n_fft}")
    if hop <= 0:
        raise RuntimeError(called + f"expected hop_length > 0, but got hop_length={hop}")
    if length <= 0 or length > n_fft:
        raise RuntimeError(called + f"expected 0 < win_length <= n_fft, but got win_length={length}")
    if window is not None and (window.ndim != 1 or window.shape[0] != length):
        raise RuntimeError(called + f"expected a 1D window tensor of size equal to win_length={length}, but got window with "
                           f"size {list(window.shape)}")


def _centred(x: Any, n_fft: int, mode: str) -> Any:
    """The signal with half a window more at both ends."""
    wide = ops.reshape(x, (1,) * (3 - x.ndim) + tuple(x.shape))
    found = _pad(wide, [n_fft // 2, n_fft // 2], mode)
    return ops.reshape(found, tuple(found.shape[3 - x.ndim:]))


def _pad(x: Any, sizes: list[int], mode: str) -> Any:
    from .assemble import pad  # noqa: PLC0415 - a function of nn.functional, which is no op
    return pad(x, sizes, mode)


@public("torch.stft", "Tensor.stft")
def stft(input: Any, n_fft: int, hop_length: int | None = None, win_length: int | None = None, window: Any = None,  # noqa: A002
         center: bool = True, pad_mode: str = "reflect", normalized: bool = False, onesided: bool | None = None,
         return_complex: bool | None = None, align_to_window: bool | None = None) -> Any:
    """The Fourier transforms of windows of ``n_fft`` elements, ``hop_length`` apart. Shapes: [(B,) L] -> [(B,) N, frames].

    N is ``n_fft // 2 + 1`` if ``onesided`` (the default for real signals), else ``n_fft``. Raises ``RuntimeError`` for a
    real signal when ``return_complex`` is not given; False appends a dimension of real and imaginary parts.
    """
    if center and align_to_window is not None:
        raise RuntimeError("stft align_to_window should only be set when center = false")
    x = _centred(input, n_fft, pad_mode) if center else input
    hop, length = n_fft // 4 if hop_length is None else hop_length, n_fft if win_length is None else win_length
    given = {"normalized": normalized, "onesided": onesided, "return_complex": return_complex,
             "align_to_window": align_to_window}
    has_complex = input.dtype.is_complex or (window is not None and window.dtype.is_complex)
    if return_complex is None and not has_complex:
        raise RuntimeError("stft requires the return_complex parameter be given for real inputs, and will further require "
                           "that return_complex=True in a future PyTorch release.")
    if align_to_window:
        side = (n_fft - length) // 2
        x = ops.constant_pad_nd(x, [side, side])
    _check_stft(x, n_fft, hop, length, window, given)
    onesided = not has_complex if onesided is None else onesided
    if onesided and has_complex:
        raise RuntimeError("Cannot have onesided output if window or input is complex")
    frames = ops.windows(x, (n_fft,), (hop,), (1,))
    if window is not None or length < n_fft:
        frames = frames * _full_window(window, length, n_fft, x)
    scale, last = "sqrt" if normalized else "none", frames.ndim - 1
    found = (ops.fft_c2c(frames, [last], scale, True) if frames.dtype.is_complex
             else ops.fft_r2c(frames, [last], scale, onesided))
    found = ops.transpose(found, -2, -1)
    return found if return_complex or return_complex is None else ops.view_as_real(found)


# ---- inverse ------------------------------------------------------------------------------------------------------


def _envelope_kernel(xp: Any, x: Any) -> Any:
    low = float(xp.abs(x).min()) if x.size else 0.0
    if not low > 1e-11:
        raise RuntimeError(f"istft(...) window overlap add min: {low:g}: the windows do not cover every element of the signal; "
                           "choose a smaller hop_length or another window")
    return x.copy()


covered = primitive(
    "istft_covered(Tensor self) -> Tensor", "fft", kernel=_envelope_kernel, infer=lambda x: meta_of(x), api=(),
    vjp=lambda g, out, x: g, tags=("extern", "no_half", "raises"), samples=lambda: [S(T((5,), 0.5, 2))],
    doc="The sum of squared windows itself. Raises ``RuntimeError`` where it is 0: nothing is known of that element.")


def _check_istft(x: Any, n_fft: int, hop: int, length: int, window: Any, onesided: bool, given: dict[str, Any]) -> None:
    called = _shown("istft", x, n_fft=n_fft, hop_length=hop, win_length=length, window=window, **given)
    if not x.numel():
        raise RuntimeError(called + "input tensor cannot be empty.")
    if x.ndim not in (2, 3):
        raise RuntimeError(called + f"expected a tensor with 3 or 4 dimensions, but got {x.ndim + 1}")
    have = x.shape[-2]
    if onesided and n_fft // 2 + 1 != have:
        raise RuntimeError(called + "expected the frequency dimension (3rd to the last) of the input tensor to match n_fft / 2 "
                           f"+ 1 when onesided=True, but got {have}")
    if not onesided and n_fft != have:
        raise RuntimeError(called + "expected the frequency dimension (3rd to the last) of the input tensor to match n_fft when "
                           f"onesided=False, but got {have}")
    if not 0 < hop <= length:
        raise RuntimeError(called + "expected 0 < hop_length <= win_length")
    if not 0 < length <= n_fft:
        raise RuntimeError(called + "expected 0 < win_length <= n_fft")
    if window is not None and (window.ndim != 1 or window.shape[0] != length):
        raise RuntimeError(called + "Invalid window shape. window has to be 1D and length of `win_length`")


def _frames_of(x: Any, n_fft: int, scale: str, onesided: bool, return_complex: bool) -> Any:
    """The windows [(B,) frames, n_fft] that spectra [(B,) N, frames] are of."""
    x = ops.transpose(x, -2, -1)
    last = x.ndim - 1
    if return_complex:
        return ops.fft_c2c(x, [last], scale, False)
    if not onesided:
        x = ops.narrow(x, last, 0, n_fft // 2 + 1)
    return ops.fft_c2r(x, [last], scale, n_fft)


@public("torch.istft", "Tensor.istft")
def istft(input: Any, n_fft: int, hop_length: int | None = None, win_length: int | None = None, window: Any = None,  # noqa: A002
          center: bool = True, normalized: bool = False, onesided: bool | None = None, length: int | None = None,
          return_complex: bool = False) -> Any:
    """The signal whose ``stft`` comes closest to ``input``. Shapes: [(B,) N, frames] -> [(B,) L].

    Raises ``RuntimeError`` where the windows leave an element of the signal uncovered.
    """
    if not input.dtype.is_complex:
        raise RuntimeError("istft requires a complex-valued input tensor matching the output from stft with return_complex=True.")
    size = n_fft if win_length is None else win_length
    hop = n_fft // 4 if hop_length is None else hop_length
    has_complex = return_complex or (window is not None and window.dtype.is_complex)
    given = {"center": center, "normalized": normalized, "onesided": onesided, "length": length,
             "return_complex": return_complex}
    sided = (input.shape[-2] != n_fft) if onesided is None else onesided
    _check_istft(input, n_fft, hop, size, window, sided, given)
    if sided and has_complex:
        raise RuntimeError("Cannot have onesided output if window or input is complex")
    full = _full_window(window, size, n_fft, input)
    frames = _frames_of(input, n_fft, "sqrt" if normalized else "n", sided, return_complex) * full
    total = n_fft + hop * (frames.shape[-2] - 1)
    signal = ops.windows_sum(frames, (total,), (hop,), (1,))
    squares = ops.expand(full * full, (frames.shape[-2], n_fft))
    envelope = ops.windows_sum(squares, (total,), (hop,), (1,))
    start = n_fft // 2 if center else 0
    end = total - start if length is None else min(start + length, total)
    signal, envelope = (ops.narrow(x, -1, start, end - start) for x in (signal, envelope))
    found = signal / ops.istft_covered(envelope)
    if length is not None and length > end - start:
        warnings.warn("The length of signal is shorter than the length parameter. Result is being padded with zeros in the tail. "
                      "Please check your center and hop_length settings.", stacklevel=2)
        found = ops.constant_pad_nd(found, [0, length - (end - start)])
    return found

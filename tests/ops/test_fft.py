"""Transforms beside NumPy's, their inverses, and signals taken apart and put together again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau as ft

ONE = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
SEVERAL = ("fftn", "ifftn", "rfftn", "irfftn", "fft2", "ifft2", "rfft2", "irfft2")


def values(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    rng = np.random.default_rng(len(shape))
    found = rng.standard_normal(shape)
    return (found + 1j * rng.standard_normal(shape) if dtype.startswith("complex") else found).astype(dtype)


def operand(name: str, shape: tuple[int, ...], double: bool = True) -> np.ndarray:
    real = name.startswith(("rfft", "ihfft"))
    return values(shape, ("float64" if real else "complex128") if double else ("float32" if real else "complex64"))


@pytest.mark.parametrize("norm", [None, "backward", "ortho", "forward"])
@pytest.mark.parametrize("name", ONE)
def test_one_dimension(name: str, norm: str | None) -> None:
    for n, dim, shape in ((None, -1, (3, 8)), (5, 0, (7, 2)), (9, 1, (2, 6)), (None, 0, (5,))):
        x = operand(name, shape)
        want = getattr(np.fft, name)(x, n, dim, norm)
        np.testing.assert_allclose(getattr(ft.fft, name)(ft.tensor(x), n, dim, norm).numpy(), want, atol=1e-12)


@pytest.mark.parametrize("norm", [None, "ortho", "forward"])
@pytest.mark.parametrize("name", SEVERAL)
def test_several_dimensions(name: str, norm: str | None) -> None:
    for s, dim in ((None, (0, 2)), ((4, 5), (1, 2)), ((3, 6), (2, 0))):
        x = operand(name, (3, 4, 6))
        want = getattr(np.fft, name)(x, s, dim, norm)
        np.testing.assert_allclose(getattr(ft.fft, name)(ft.tensor(x), s, dim, norm).numpy(), want, atol=1e-12)


@pytest.mark.parametrize("norm", [None, "ortho", "forward"])
def test_mirrored_signals_have_real_spectra(norm: str | None) -> None:
    x = ft.tensor(values((3, 4, 6), "float64"))
    for fn, inverse, options in ((ft.fft.ihfftn, ft.fft.hfftn, {"s": (3, 4, 6)}), (ft.fft.ihfft2, ft.fft.hfft2, {"s": (4, 6)})):
        np.testing.assert_allclose(inverse(fn(x, norm=norm), norm=norm, **options).numpy(), x.numpy(), atol=1e-12)


def test_precision_is_kept_and_integers_become_floats() -> None:
    assert ft.fft.fft(ft.ones(4)).dtype is ft.complex64
    assert ft.fft.fft(ft.ones(4, dtype=ft.float64)).dtype is ft.complex128
    assert ft.fft.irfft(ft.ones(3, dtype=ft.complex64)).dtype is ft.float32
    assert ft.fft.rfft(ft.arange(4)).dtype is ft.complex64
    with pytest.raises(RuntimeError, match="Unsupported dtype Half"):
        ft.fft.fft(ft.ones(4, dtype=ft.float16))


def test_wrong_arguments_raise() -> None:
    x = ft.ones(3, 4)
    for call, words in ((lambda: ft.fft.fft(x, 0), r"Invalid number of data points \(0\) specified"),
                        (lambda: ft.fft.fft(x, norm="unit"), 'Invalid normalization mode: "unit"'),
                        (lambda: ft.fft.fftn(x, dim=(1, 1)), "FFT dims must be unique"),
                        (lambda: ft.fft.fftn(x, s=(2,), dim=(0, 1)), "must have the same length"),
                        (lambda: ft.fft.rfft(x + 0j), "expects a real input tensor, but got ComplexFloat")):
        with pytest.raises(RuntimeError, match=words):
            call()


@pytest.mark.parametrize("name", (*ONE, "fft2", "irfft2", "hfft2", "ihfftn"))
def test_gradients_of_first_and_second_order(name: str) -> None:
    x = ft.tensor(operand(name, (3, 4))).requires_grad_()
    fn = getattr(ft.fft, name)

    def real(t: Any) -> Any:
        found = fn(t)
        return (found.abs() + found.real).sin() if found.is_complex() else found.sin()

    assert ft.autograd.gradcheck(real, (x,))
    assert ft.autograd.gradgradcheck(real, (x,))


def test_frequencies_and_shifts() -> None:
    for n in (4, 5):
        np.testing.assert_allclose(ft.fft.fftfreq(n, 0.5).numpy(), np.fft.fftfreq(n, 0.5), rtol=1e-6)
        np.testing.assert_allclose(ft.fft.rfftfreq(n, 0.5).numpy(), np.fft.rfftfreq(n, 0.5), rtol=1e-6)
        x = ft.arange(3 * n).reshape(3, n)
        np.testing.assert_array_equal(ft.fft.fftshift(x).numpy(), np.fft.fftshift(x.numpy()))
        np.testing.assert_array_equal(ft.fft.ifftshift(x, 1).numpy(), np.fft.ifftshift(x.numpy(), 1))


@pytest.mark.parametrize("onesided", [True, False])
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("length", [None, 12])
def test_signals_are_put_together_again(onesided: bool, normalized: bool, length: int | None) -> None:
    x = ft.tensor(values((2, 64), "float64"))
    options = {"n_fft": 16, "hop_length": 4, "win_length": length, "normalized": normalized, "onesided": onesided,
               "window": ft.hann_window(length or 16, dtype=x.dtype)}
    spectra = ft.stft(x, return_complex=True, **options)
    assert tuple(spectra.shape) == (2, 9 if onesided else 16, 17)
    np.testing.assert_allclose(ft.istft(spectra, **options).numpy(), x.numpy(), atol=1e-12)
    assert tuple(ft.stft(x, return_complex=False, **options).shape) == (2, 9 if onesided else 16, 17, 2)


def test_short_time_transforms_say_what_is_wrong() -> None:
    x = ft.ones(20)
    with pytest.raises(RuntimeError, match="requires the return_complex parameter be given for real inputs"):
        ft.stft(x, 8)
    with pytest.raises(RuntimeError, match="expected 0 < n_fft < 20, but got n_fft=30"):
        ft.stft(x, 30, center=False, return_complex=True)
    with pytest.raises(RuntimeError, match=r"window of size equal|window tensor of size equal to win_length=8"):
        ft.stft(x, 8, window=ft.ones(5), return_complex=True)
    window = ft.hann_window(8)
    spectra = ft.stft(x, 8, window=window, return_complex=True)
    with pytest.raises(RuntimeError, match="window overlap add min"):
        ft.istft(spectra, 8, window=window, center=False)
    with pytest.raises(RuntimeError, match="complex-valued input tensor"):
        ft.istft(spectra.real, 8)


@pytest.mark.parametrize("backend", ["numpy", "cpp"])
def test_compiled_as_eager(backend: str) -> None:
    def fn(x: Any, window: Any) -> Any:
        spectra = ft.stft(x, 16, window=window, return_complex=True)
        return ft.istft(spectra * spectra.abs(), 16, window=window).square().mean()

    x, window = ft.tensor(values((64,), "float64")).requires_grad_(), ft.hann_window(16, dtype=ft.float64)
    want, got = fn(x, window), ft.compile(fn, fullgraph=True, backend=backend)(x, window)
    np.testing.assert_allclose(got.item(), want.item(), rtol=1e-10)
    np.testing.assert_allclose(ft.autograd.grad(got, [x])[0].numpy(), ft.autograd.grad(want, [x])[0].numpy(), rtol=1e-9)

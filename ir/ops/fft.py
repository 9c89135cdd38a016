"""Fourier transforms: three primitives (complex, from real, to real) on pocketfft; all of ``torch.fft`` is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtype as _dtype
from ..family import conj_of, ops, primitive, wrap_dim, wrap_dims
from ..meta import TensorMeta
from ..op import public, type_name, write_out
from ..samples import S, T
from .linalg_common import on_host

_TAGS = ("extern", "no_half")
#: How a transform of n elements is scaled: not, by 1 / sqrt(n), by 1 / n. As SciPy names it, forward and inverse.
_SCALES = {"none": ("backward", "forward"), "sqrt": ("ortho", "ortho"), "n": ("forward", "backward")}


# ---- primitives ---------------------------------------------------------------------------------------------------


def _fft() -> Any:
    from scipy import fft  # noqa: PLC0415 - loaded when first called
    return fft


@on_host
def _c2c(x: Any, dim: Any, scale: str, forward: bool) -> Any:
    if not dim or not x.size:
        return x.copy()
    return (_fft().fftn if forward else _fft().ifftn)(x, axes=dim, norm=_SCALES[scale][not forward])


def _as_complex(x: Any) -> TensorMeta:
    if not x.dtype.is_complex:
        raise RuntimeError(f"fft_c2c: expected a complex tensor, got {type_name(x.dtype)}")
    return TensorMeta(tuple(x.shape), x.dtype, x.device)


fft_c2c = primitive(
    "fft_c2c(Tensor self, int[] dim, str scale='none', bool forward=True) -> Tensor", "fft", kernel=_c2c, api=(), tags=_TAGS,
    infer=lambda x, dim, scale, forward: _as_complex(x), dtypes="c",
    vjp=lambda g, out, x, dim, scale, forward: ops.fft_c2c(g, dim, scale, not forward),
    samples=lambda: [S(T((5,)), [0]), S(T((3, 4)), [0, 1], "sqrt"), S(T((2, 3, 4)), [1], "n", False)],
    doc="The complex transform of the dimensions ``dim``, scaled as told, in either direction.")


@on_host
def _r2c(x: Any, dim: Any, scale: str, onesided: bool) -> Any:
    found = _fft().rfftn(x, axes=dim, norm=_SCALES[scale][0])
    if onesided:
        return found
    last = dim[-1]
    n = x.shape[last]
    full = np.empty(x.shape, found.dtype)  # what is missing mirrors what is there
    half = found.shape[last]
    head = [slice(None)] * x.ndim
    head[last] = slice(0, half)
    full[tuple(head)] = found
    tail = np.arange(half, n)
    source = np.take(found, n - tail, last)
    for d in dim[:-1]:
        source = np.take(source, -np.arange(x.shape[d]) % x.shape[d], d)
    head[last] = slice(half, n)
    full[tuple(head)] = source.conj()
    return full


def _halved(n: Any) -> Any:
    return n // 2 + 1


def _replaced(shape: Any, dim: int, n: Any) -> tuple:
    return tuple(n if d == dim else s for d, s in enumerate(shape))


def _r2c_meta(x: Any, dim: Any, scale: str, onesided: bool) -> TensorMeta:
    last = dim[-1]
    shape = _replaced(x.shape, last, _halved(x.shape[last])) if onesided else tuple(x.shape)
    return TensorMeta(shape, x.dtype.to_complex(), x.device)


def _r2c_rule(g: Any, out: Any, x: Any, dim: Any, scale: str, onesided: bool) -> Any:
    if onesided:
        g = _resized(g, dim[-1], x.shape[dim[-1]])
    return ops.real(ops.fft_c2c(g, dim, scale, False))


fft_r2c = primitive(
    "fft_r2c(Tensor self, int[] dim, str scale='none', bool onesided=True) -> Tensor", "fft", kernel=_r2c, infer=_r2c_meta,
    vjp=_r2c_rule, api=(), tags=_TAGS,
    samples=lambda: [S(T((5,)), [0]), S(T((3, 4)), [0, 1], "sqrt"), S(T((2, 3, 4)), [1], "n"), S(T((3, 4)), [0, 1], "n", False),
                     S(T((3, 5)), [1, 0], "none", False)],
    doc="The forward transform of real dimensions ``dim``; ``onesided`` leaves out what mirrors in the last of them.")


@on_host
def _c2r(x: Any, dim: Any, scale: str, last_size: int) -> Any:
    sizes = [x.shape[d] for d in dim[:-1]] + [last_size]
    return _fft().irfftn(x, s=sizes, axes=dim, norm=_SCALES[scale][1])


def _c2r_meta(x: Any, dim: Any, scale: str, last_size: Any) -> TensorMeta:
    return TensorMeta(_replaced(x.shape, dim[-1], last_size), x.dtype.to_real(), x.device)


def _c2r_rule(g: Any, out: Any, x: Any, dim: Any, scale: str, last_size: Any) -> Any:
    """What mirrors was read twice."""
    last = dim[-1]
    found = ops.fft_r2c(g, dim, scale, True)
    n = found.shape[last]
    counts = ops.arange(0, n, 1, dtype=_dtype.int64, device=g.device)
    twice = ops.logical_and(ops.gt(counts, 0), ops.lt(counts, (last_size + 1) // 2))
    weight = ops.reshape(ops.where(twice, 2.0, 1.0), tuple(n if d == last else 1 for d in range(g.ndim)))
    return found * ops.cast(weight, g.dtype)


fft_c2r = primitive(
    "fft_c2r(Tensor self, int[] dim, str scale='none', int last_size=1) -> Tensor", "fft", kernel=_c2r, infer=_c2r_meta,
    vjp=_c2r_rule, api=(), tags=_TAGS, dtypes="c",
    samples=lambda: [S(T((3,)), [0], "n", 5), S(T((3, 3)), [0, 1], "sqrt", 4), S(T((2, 2, 4)), [1], "none", 3)],
    doc="The inverse transform of half of a mirrored spectrum, which is real; ``last_size`` elements in the last dimension.")


# ---- arguments ----------------------------------------------------------------------------------------------------


def _scale(norm: Any, forward: bool) -> str:
    if norm is None or norm == "backward":
        return "none" if forward else "n"
    if norm == "forward":
        return "n" if forward else "none"
    if norm == "ortho":
        return "sqrt"
    raise RuntimeError(f'Invalid normalization mode: "{norm}"')


def _promoted(x: Any, name: str, complex_: bool) -> Any:
    """``x`` in the dtype the transform computes in: integers become floats, and with ``complex_`` all becomes complex."""
    dtype = x.dtype
    if dtype.is_integral:
        dtype = _dtype.get_default_dtype()
    if dtype.itemsize == 2:
        raise RuntimeError(f"Unsupported dtype {type_name(dtype)}")
    if complex_:
        dtype = dtype.to_complex()
    elif dtype.is_complex:
        raise RuntimeError(f"{name} expects a real input tensor, but got {type_name(x.dtype)}")
    return ops.cast(x, dtype) if dtype is not x.dtype else x


def _resized(x: Any, dim: int, n: Any) -> Any:
    """``x`` cut, or filled up with zeros, to ``n`` elements along ``dim``."""
    have = x.shape[dim]
    if have is n or have == n:
        return x
    if have > n:
        return ops.narrow(x, dim, 0, n)
    behind = x.ndim - 1 - dim
    return ops.constant_pad_nd(x, [0, 0] * behind + [0, n - have])


def _one(x: Any, n: Any, dim: int, name: str) -> tuple[Any, int]:
    """The axis and the size of a transform of one dimension."""
    at = wrap_dim(dim, x.ndim)
    if not x.ndim:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    size = x.shape[at] if n is None else n
    if isinstance(size, int) and size < 1:
        raise RuntimeError(f"Invalid number of data points ({size}) specified")
    return size, at


def _many(x: Any, s: Any, dim: Any, name: str) -> tuple[list, list[int]]:
    """The axes and sizes of a transform of several dimensions: ``dim``, else the last ``len(s)``, else all."""
    sizes = None if s is None else [s] if isinstance(s, int) else list(s)
    if dim is not None:
        axes = [wrap_dim(d, x.ndim) for d in ((dim,) if isinstance(dim, int) else dim)]
        if axes and not x.ndim:
            raise IndexError(f"Dimension specified as {axes[0]} but tensor has no dimensions")
        if len(set(axes)) != len(axes):
            raise RuntimeError("FFT dims must be unique")
        if sizes is not None and len(sizes) != len(axes):
            raise RuntimeError("When given, dim and shape arguments must have the same length")
    elif sizes is not None:
        if len(sizes) > x.ndim:
            raise RuntimeError(f"Got shape with {len(sizes)} values but input tensor only has {x.ndim} dimensions.")
        axes = list(range(x.ndim - len(sizes), x.ndim))
    else:
        axes = list(range(x.ndim))
    found = [x.shape[d] for d in axes] if sizes is None else [x.shape[d] if n == -1 else n for n, d in zip(sizes, axes)]
    for n in found:
        if isinstance(n, int) and n < 1:
            raise RuntimeError(f"Invalid number of data points ({n}) specified")
    return found, axes


def _all_resized(x: Any, axes: list[int], sizes: list) -> Any:
    for d, n in zip(axes, sizes):
        x = _resized(x, d, n)
    return x


def _written(found: Any, out: Any) -> Any:
    return found if out is None else write_out(fft_c2c, found, out)


# ---- one dimension ------------------------------------------------------------------------------------------------


def _complex_1d(x: Any, n: Any, dim: int, norm: Any, forward: bool, name: str) -> Any:
    size, at = _one(x, n, dim, name)
    scale = _scale(norm, forward)
    if forward and not x.dtype.is_complex:  # the whole spectrum of real numbers
        return ops.fft_r2c(_resized(_promoted(x, name, False), at, size), [at], scale, False)
    return ops.fft_c2c(_resized(_promoted(x, name, True), at, size), [at], scale, forward)


@public("fft.fft")
def fft(input: Any, n: Any = None, dim: int = -1, norm: Any = None, *, out: Any = None) -> Any:  # noqa: A002
    """The discrete Fourier transform of one dimension, cut or filled up to ``n`` elements."""
    return _written(_complex_1d(input, n, dim, norm, True, "fft"), out)


@public("fft.ifft")
def ifft(input: Any, n: Any = None, dim: int = -1, norm: Any = None, *, out: Any = None) -> Any:  # noqa: A002
    """The inverse of ``fft``."""
    return _written(_complex_1d(input, n, dim, norm, False, "ifft"), out)


@public("fft.rfft")
def rfft(input: Any, n: Any = None, dim: int = -1, norm: Any = None, *, out: Any = None) -> Any:  # noqa: A002
    """The first half of the spectrum of a real signal, which the other half mirrors."""
    return _written(_from_real_1d(input, n, dim, norm, True, "rfft"), out)


def _from_real_1d(x: Any, n: Any, dim: int, norm: Any, forward: bool, name: str) -> Any:
    x = _promoted(x, name, False)
    size, at = _one(x, n, dim, name)
    found = ops.fft_r2c(_resized(x, at, size), [at], _scale(norm, forward), True)
    return found if forward else conj_of(found)


def _to_real_1d(x: Any, n: Any, dim: int, norm: Any, forward: bool, name: str) -> Any:
    x = _promoted(x, name, True)
    at = wrap_dim(dim, x.ndim)
    if not x.ndim:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    size = 2 * (x.shape[at] - 1) if n is None else n
    if isinstance(size, int) and size < 1:
        raise RuntimeError(f"Invalid number of data points ({size}) specified")
    x = _resized(x, at, _halved(size))
    return ops.fft_c2r(conj_of(x) if forward else x, [at], _scale(norm, forward), size)


@public("fft.irfft")
def irfft(input: Any, n: Any = None, dim: int = -1, norm: Any = None, *, out: Any = None) -> Any:  # noqa: A002
    """The inverse of ``rfft``: a real signal of ``n`` elements (2 (k - 1) unless given)."""
    return _written(_to_real_1d(input, n, dim, norm, False, "irfft"), out)


@public("fft.hfft")
def hfft(input: Any, n: Any = None, dim: int = -1, norm: Any = None, *, out: Any = None) -> Any:  # noqa: A002
    """The real spectrum of a signal whose second half mirrors the first, of which ``input`` is the first half."""
    return _written(_to_real_1d(input, n, dim, norm, True, "hfft"), out)


@public("fft.ihfft")
def ihfft(input: Any, n: Any = None, dim: int = -1, norm: Any = None, *, out: Any = None) -> Any:  # noqa: A002
    """The inverse of ``hfft``."""
    return _written(_from_real_1d(input, n, dim, norm, False, "ihfft"), out)


# ---- several dimensions -------------------------------------------------------------------------------------------


def _complex_nd(x: Any, s: Any, dim: Any, norm: Any, forward: bool, name: str) -> Any:
    x = _promoted(x, name, True)
    sizes, axes = _many(x, s, dim, name)
    return ops.fft_c2c(_all_resized(x, axes, sizes), axes, _scale(norm, forward), forward)


def _needs_axis(name: str, axes: list[int]) -> None:
    if not axes:
        raise RuntimeError(f"{name} must transform at least one axis")


def _from_real_nd(x: Any, s: Any, dim: Any, norm: Any, forward: bool, name: str) -> Any:
    x = _promoted(x, name, False)
    sizes, axes = _many(x, s, dim, name)
    _needs_axis(name, axes)
    x, scale = _all_resized(x, axes, sizes), _scale(norm, forward)
    if forward:
        return ops.fft_r2c(x, axes, scale, True)
    found = conj_of(ops.fft_r2c(x, axes[-1:], scale, True))
    return ops.fft_c2c(found, axes[:-1], scale, False) if axes[:-1] else found


def _to_real_nd(x: Any, s: Any, dim: Any, norm: Any, forward: bool, name: str) -> Any:
    x = _promoted(x, name, True)
    sizes, axes = _many(x, s, dim, name)
    _needs_axis(name, axes)
    given = None if s is None else ([s] if isinstance(s, int) else list(s))[-1]
    last = 2 * (x.shape[axes[-1]] - 1) if given is None or given == -1 else given
    if isinstance(last, int) and last < 1:
        raise RuntimeError(f"Invalid number of data points ({last}) specified")
    x, scale = _all_resized(x, axes, [*sizes[:-1], _halved(last)]), _scale(norm, forward)
    if not forward:
        return ops.fft_c2r(x, axes, scale, last)
    x = ops.fft_c2c(x, axes[:-1], scale, True) if axes[:-1] else x
    return ops.fft_c2r(conj_of(x), axes[-1:], scale, last)


_KINDS = {"fft": (_complex_nd, True), "ifft": (_complex_nd, False), "rfft": (_from_real_nd, True), "irfft": (_to_real_nd, False),
          "hfft": (_to_real_nd, True), "ihfft": (_from_real_nd, False)}


def _publish_several(kind: str) -> None:
    transform, forward = _KINDS[kind]

    @public(f"fft.{kind}n")
    def n_dims(input: Any, s: Any = None, dim: Any = None, norm: Any = None, *, out: Any = None) -> Any:  # noqa: A002
        return _written(transform(input, s, dim, norm, forward, f"{kind}n"), out)

    @public(f"fft.{kind}2")
    def two_dims(input: Any, s: Any = None, dim: Any = (-2, -1), norm: Any = None, *, out: Any = None) -> Any:  # noqa: A002
        return _written(transform(input, s, dim, norm, forward, f"{kind}2"), out)

    for fn, name, which in ((n_dims, f"{kind}n", "the dimensions ``dim`` (all)"), (two_dims, f"{kind}2", "two dimensions")):
        fn.__name__ = fn.__qualname__ = name
        fn.__doc__ = f"``{kind}`` over {which}, cut or filled up to the sizes ``s``."


for _kind in _KINDS:
    _publish_several(_kind)


# ---- frequencies and shifts ---------------------------------------------------------------------------------------


def _frequencies(numbers: Any, n: int, d: float, options: tuple) -> Any:
    dtype, device, requires_grad, out = options
    dtype = _dtype.get_default_dtype() if dtype is None else dtype
    found = ops.cast(numbers(device), dtype) * (1.0 / (n * d))
    found = found if out is None else write_out(fft_c2c, found, out)
    return found.requires_grad_() if requires_grad else found


@public("fft.fftfreq")
def fftfreq(n: int, d: float = 1.0, *, out: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
            requires_grad: bool = False) -> Any:
    """The frequencies of ``fft``'s results for samples ``d`` apart: 0 ... (n - 1) // 2, then the negative ones."""
    def numbers(device: Any) -> Any:
        half = (n + 1) // 2
        return ops.cat([ops.arange(0, half, 1, dtype=_dtype.int64, device=device),
                        ops.arange(-(n // 2), 0, 1, dtype=_dtype.int64, device=device)], 0)
    return _frequencies(numbers, n, d, (dtype, device, requires_grad, out))


@public("fft.rfftfreq")
def rfftfreq(n: int, d: float = 1.0, *, out: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False) -> Any:
    """The frequencies of ``rfft``'s results for samples ``d`` apart."""
    return _frequencies(lambda device: ops.arange(0, n // 2 + 1, 1, dtype=_dtype.int64, device=device), n, d,
                        (dtype, device, requires_grad, out))


def _shifted(x: Any, dim: Any, back: bool) -> Any:
    axes = wrap_dims(dim, x.ndim) if dim is None else [wrap_dim(d, x.ndim) for d in ((dim,) if isinstance(dim, int) else dim)]
    if not x.ndim:
        return ops.clone(x)
    return ops.roll(x, tuple((x.shape[d] + 1) // 2 if back else x.shape[d] // 2 for d in axes), tuple(axes))


@public("fft.fftshift")
def fftshift(input: Any, dim: Any = None) -> Any:  # noqa: A002
    """The dimensions ``dim`` (all) rolled so that frequency 0 stands in the middle."""
    return _shifted(input, dim, False)


@public("fft.ifftshift")
def ifftshift(input: Any, dim: Any = None) -> Any:  # noqa: A002
    """The inverse of ``fftshift``."""
    return _shifted(input, dim, True)


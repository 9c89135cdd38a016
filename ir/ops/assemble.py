"""Values put together from others: cat, pad, flip, roll, repeat, triangles, and writes of a part into a copy of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import late
from ..autocast import runs_in
from ..dtype import result_type
from ..family import common_device, composite, ops, primitive, wrap_dim, wrap_dims
from ..meta import TensorMeta, meta_of
from ..op import public, write_out
from ..samples import S, T
from ..usage import reads
from .strided import _diagonal, diagonal_geometry
from .view import _element, _removed, _select, _slice, _sliced
from .view_api import sizes_of

if TYPE_CHECKING:
    from .. import loops
else:
    loops = late.Later("loops")

# ---- cat and stack -------------------------------------------------------------------------------------------------


def _parts(tensors: Sequence[Any]) -> list[Any]:
    """The tensors that count: PyTorch skips one-dimensional empty ones."""
    if not len(tensors):
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    kept = [t for t in tensors if not (t.ndim == 1 and isinstance(t.shape[0], int) and t.shape[0] == 0)]
    return kept or [tensors[0]]


def _cat_meta(tensors: Any, dim: int) -> TensorMeta:
    kept = _parts(tensors)
    first = kept[0]
    if any(not t.ndim for t in kept):
        raise RuntimeError("zero-dimensional tensor (at position 0) cannot be concatenated")
    at = wrap_dim(dim, first.ndim)
    total: Any = 0
    for i, t in enumerate(kept):
        if t.ndim != first.ndim:
            raise RuntimeError(f"Tensors must have same number of dimensions: got {first.ndim} and {t.ndim}")
        for d in range(first.ndim):
            if d != at and t.shape[d] != first.shape[d]:
                raise RuntimeError(f"Sizes of tensors must match except in dimension {at}. Expected size {first.shape[d]} but "
                                   f"got size {t.shape[d]} for tensor number {i} in the list.")
        total = total + t.shape[at]
    return TensorMeta((*first.shape[:at], total, *first.shape[at + 1:]), result_type(tensors), common_device(cat, (tensors, dim)))


@reads()
def _cat_rule(g: Any, out: Any, tensors: Any, dim: int) -> list[Any]:
    kept = _parts(tensors)
    at, start, found = wrap_dim(dim, kept[0].ndim), 0, []
    for t in tensors:
        if not any(t is k for k in kept):
            found.append(ops.full((0,), 0, dtype=g.dtype, device=g.device))
            continue
        part = ops.narrow(g, at, start, t.shape[at])
        found.append(ops.real(part) if g.dtype.is_complex and not t.dtype.is_complex else part)
        start = start + t.shape[at]
    return found


def _cat_element(index: Any, tensors: Any, dim: int) -> Any:
    kept = _parts(tensors)
    at, dtype = wrap_dim(dim, kept[0].ndim), result_type(tensors)
    ends, end = [], 0
    for t in kept:
        end = end + t.shape[at]
        ends.append(end)
    starts = [0, *ends[:-1]]
    value = None
    for t, start, end in reversed(list(zip(kept, starts, ends))):
        below, above = loops.compare("lt", index[at], end), loops.compare("ge", index[at], start)
        own = loops.cast(t.at((*index[:at], index[at] - start, *index[at + 1:]), loops.both(above, below)), dtype)
        value = own if value is None else loops.select(below, own, value)
    return value


def _cat(xp: Any, tensors: Any, dim: int) -> Any:
    kept = _parts(tensors)
    return xp.concatenate(kept, axis=wrap_dim(dim, kept[0].ndim))


cat = primitive(
    "cat(Tensor[] tensors, int dim=0) -> Tensor", "index", kernel=_cat, infer=_cat_meta, vjp=_cat_rule, promote="default",
    lower=_cat_element,
    tags=("amp:promote@cpu", "out", "check", "apart"), dtypes="buifc", api=("torch.cat", "torch.concat", "torch.concatenate"),
    samples=lambda: [S([T((3, 4)), T((2, 4))]), S([T((3, 4)), T((3, 1)), T((3, 2))], 1), S([T((3,)), T((2,))], -1),
                     S([T((2, 3))], 0)])


def _check_stack(tensors: Any) -> None:
    if not len(tensors):
        raise RuntimeError("stack expects a non-empty TensorList")
    first = tensors[0]
    for i, t in enumerate(tensors):
        if tuple(t.shape) != tuple(first.shape):
            raise RuntimeError(f"stack expects each tensor to be equal size, but got {list(first.shape)} at entry 0 and "
                               f"{list(t.shape)} at entry {i}")


def _stack_parts(tensors: Any, dim: int) -> Any:
    _check_stack(tensors)
    at = wrap_dim(dim, tensors[0].ndim + 1)
    return ops.cat([ops.unsqueeze(t, at) for t in tensors], at)


def _stack(xp: Any, tensors: Any, dim: int) -> Any:
    _check_stack(tensors)
    return xp.stack(tensors, wrap_dim(dim, tensors[0].ndim + 1))


@reads()
def _stack_rule(g: Any, out: Any, tensors: Any, dim: int) -> list[Any]:
    at = wrap_dim(dim, g.ndim)
    parts = [ops.select(g, at, i) for i in range(len(tensors))]
    return [ops.real(p) if p.dtype.is_complex and not t.dtype.is_complex else p for p, t in zip(parts, tensors)]


stack = composite(
    "stack(Tensor[] tensors, int dim=0) -> Tensor", _stack_parts, kernel=_stack, vjp=_stack_rule, promote="default",
    tags=("amp:promote@cpu", "out"), dtypes="buifc", api=("torch.stack",),
    samples=lambda: [S([T((3, 4)), T((3, 4))]), S([T((3,)), T((3,)), T((3,))], -1), S([T(()), T(())])])


def _stacker(name: str, dim: Any, grow: str | None) -> None:
    @public(f"torch.{name}")
    def stacked(tensors: Any, *, out: Any = None) -> Any:
        """The tensors joined along one dimension, made to have it first."""
        from ..op import PUBLIC  # noqa: PLC0415
        if not tensors:
            raise RuntimeError(f"{name} expects a non-empty TensorList")
        parts = [PUBLIC["torch"][grow](t) for t in tensors] if grow else list(tensors)
        result = ops.cat(parts, dim(parts[0]))
        return result if out is None else write_out(cat, result, out)
    stacked.__name__ = name


_stacker("hstack", lambda t: 0 if t.ndim == 1 else 1, "atleast_1d")
_stacker("vstack", lambda t: 0, "atleast_2d")
_stacker("row_stack", lambda t: 0, "atleast_2d")
_stacker("dstack", lambda t: 2, "atleast_3d")


@public("torch.column_stack")
def column_stack(tensors: Any, *, out: Any = None) -> Any:
    """One- and zero-dimensional tensors as columns, joined with the others along dimension 1."""
    parts = [ops.reshape(t, (-1, 1)) if t.ndim <= 1 else t for t in tensors]
    result = ops.cat(parts, 1)
    return result if out is None else write_out(cat, result, out)


# ---- padding ------------------------------------------------------------------------------------------------------


def _padded(x: Any, pad: Sequence[Any]) -> list[tuple[Any, Any]]:
    """``(before, after)`` of each dimension; PyTorch gives them from the last one on."""
    if len(pad) % 2:
        raise RuntimeError(f"Length of pad must be even but instead it equals {len(pad)}")
    if len(pad) > 2 * x.ndim:
        raise RuntimeError("Length of pad should be no more than twice the number of dimensions of the input. Pad length is "
                           f"{len(pad)} while the input has {x.ndim} dimensions.")
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    return [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1]


def _pad_meta(x: Any, pad: Any, value: Any) -> TensorMeta:
    shape = tuple(n + a + b for n, (a, b) in zip(x.shape, _padded(x, pad)))
    for n, d, (a, b) in zip(shape, x.shape, _padded(x, pad)):
        if n < 0:
            raise RuntimeError(f"The input size {d}, plus negative padding {a} and {b} resulted in a negative output size, "
                               "which is invalid. Check dimension of your input.")
    return meta_of(x).with_shape(shape)


def _pad(xp: Any, x: Any, pad: Any, value: Any) -> Any:
    pairs = _padded(x, pad)
    shape = tuple(n + a + b for n, (a, b) in zip(x.shape, pairs))
    out = xp.full(shape, value, x.dtype) if value else xp.zeros(shape, x.dtype)
    source = tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, pairs))
    target = tuple(slice(max(a, 0), n - max(b, 0)) for n, (a, b) in zip(shape, pairs))
    out[target] = x[source]
    return out


def _pad_element(index: Any, x: Any, pad: Any, value: Any) -> Any:
    inside, at = None, []
    for i, n, (a, b) in zip(index, x.shape, _padded(x, pad)):
        at.append(i - a)
        if not (isinstance(a, int) and a <= 0):
            inside = loops.both(inside, loops.compare("ge", i - a, 0))
        if not (isinstance(b, int) and b <= 0):
            inside = loops.both(inside, loops.compare("lt", i - a, n))
    return x.at(tuple(at), inside, value)


constant_pad_nd = primitive(
    "constant_pad_nd(Tensor self, int[] pad, Number value=0) -> Tensor", "index", kernel=_pad, infer=_pad_meta,
    vjp=lambda g, out, x, pad, value: ops.constant_pad_nd(g, tuple(-p for p in pad), 0), lower=_pad_element,
    tags=("check",), dtypes="buifc", api=("torch.constant_pad_nd",),
    samples=lambda: [S(T((3, 4)), (1, 2)), S(T((3, 4)), (1, 0, 0, 2), 1.5), S(T((3, 4)), (-1, 2, -1, -1)), S(T((3,)), (1, 1))])


def _source_positions(n: Any, before: Any, after: Any, mode: str, device: Any) -> Any:
    """Where each element of a padded dimension comes from."""
    i = ops.arange(-before, n + after, 1, device=device)
    if mode == "replicate":
        return ops.clamp(i, 0, n - 1)
    if mode == "circular":
        return ops.remainder(i, n)
    i = ops.abs(i)
    return (n - 1) - ops.abs((n - 1) - i)


@public("nn.functional.pad")
def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:  # noqa: A002
    """``input`` with elements added around it: a constant, its reflection, its edge or its other end."""
    if mode == "constant":
        return ops.constant_pad_nd(input, tuple(pad), 0 if value is None else value)
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if value is not None and value != 0:
        raise ValueError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if mode == "circular" or (mode == "reflect" and len(pad) == 6):  # those that autocast leaves as they are
        return _pad_from_itself(input, pad, mode)
    return _pad_wide(input, pad, mode)


def _pad_from_itself(input: Any, pad: Sequence[int], mode: str) -> Any:  # noqa: A002
    pairs = _padded(input, pad)
    if len(pad) // 2 not in (input.ndim - 1, input.ndim - 2):
        raise NotImplementedError("Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now")
    for d, (a, b) in enumerate(pairs):
        n = input.shape[d]
        if mode == "reflect" and (a >= n or b >= n) and (a or b):
            raise RuntimeError(f"Argument #4: Padding size should be less than the corresponding input dimension, but got: "
                               f"padding ({a}, {b}) at dimension {d} of input {list(input.shape)}")
        if mode == "circular" and (a > n or b > n):
            raise RuntimeError("Padding value causes wrapping around more than once.")
        if mode == "circular" and (a < 0 or b < 0):  # what is cut off does not come in again at the other end
            cut = max(-a, 0)
            input = ops.narrow(input, d, cut, n - cut - max(-b, 0))  # noqa: A001
            n, a, b = input.shape[d], max(a, 0), max(b, 0)
        if a or b:
            input = ops.index_select(input, d, _source_positions(n, a, b, mode, input.device))  # noqa: A001
    return input


_pad_wide = runs_in("float32@cpu")(_pad_from_itself)


# ---- order and repetition -----------------------------------------------------------------------------------------


def _flip_element(index: Any, x: Any, dims: Any) -> Any:
    turned = wrap_dims(dims, x.ndim) if len(tuple(dims)) else ()
    return x.at(tuple(x.shape[d] - 1 - i if d in turned else i for d, i in enumerate(index)))


def _flip(xp: Any, x: Any, dims: Any) -> Any:
    return xp.flip(x, wrap_dims(dims, x.ndim)).copy() if len(tuple(dims)) else x.copy()


flip = primitive(
    "flip(Tensor self, int[] dims) -> Tensor", "index", kernel=_flip, infer=lambda x, dims: (
        wrap_dims(dims, x.ndim) if len(tuple(dims)) else None, meta_of(x))[1],
    vjp=lambda g, out, x, dims: ops.flip(g, dims), lower=_flip_element, dtypes="buifc", api=(),
    samples=lambda: [S(T((3, 4)), (0,)), S(T((3, 4)), (0, 1)), S(T((3, 4)), (-1,)), S(T((3, 4)), ())])


@public("Tensor.flip")
def _flip_method(self: Any, *args: Any, dims: Any = None) -> Any:
    return flip_dims(self, sizes_of(args) if dims is None else dims)


@public("torch.flip")
def flip_dims(input: Any, dims: Any) -> Any:  # noqa: A002
    """``input`` with the order of elements along ``dims`` reversed."""
    return ops.flip(input, (dims,) if isinstance(dims, int) else tuple(dims))


@public("torch.fliplr", "Tensor.fliplr")
def fliplr(input: Any) -> Any:  # noqa: A002
    """Columns in reverse order."""
    if input.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return ops.flip(input, (1,))


@public("torch.flipud", "Tensor.flipud")
def flipud(input: Any) -> Any:  # noqa: A002
    """Rows in reverse order."""
    if input.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return ops.flip(input, (0,))


def _shifts(ndim: int, shifts: Any, dims: Any) -> tuple[tuple, tuple]:
    shifts = tuple(shifts) if isinstance(shifts, (tuple, list)) else (shifts,)
    dims = tuple(dims) if isinstance(dims, (tuple, list)) else (dims,)
    if len(shifts) != len(dims):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}")
    if not ndim and dims:
        raise IndexError(f"Dimension specified as {dims[0]} but tensor has no dimensions")
    return shifts, tuple(wrap_dim(d, ndim) for d in dims)


def _roll_element(index: Any, x: Any, shifts: Any, dims: Any) -> Any:
    at = list(index)
    for s, d in zip(*_shifts(x.ndim, shifts, dims)):
        at[d] = (at[d] + (x.shape[d] - s % x.shape[d])) % x.shape[d]
    return x.at(tuple(at))


roll_dims = primitive(
    "roll(Tensor self, int[] shifts, int[] dims) -> Tensor", "index", api=(), lower=_roll_element, dtypes="buifc",
    kernel=lambda xp, x, shifts, dims: xp.roll(x, *_shifts(x.ndim, shifts, dims)),
    infer=lambda x, shifts, dims: (_shifts(x.ndim, shifts, dims), meta_of(x))[1],
    vjp=lambda g, out, x, shifts, dims: ops.roll(g, tuple(-s for s in _shifts(x.ndim, shifts, dims)[0]), dims),
    samples=lambda: [S(T((3, 4)), (1,), (0,)), S(T((3, 4)), (-5, 2), (0, 1))])


@public("torch.roll", "Tensor.roll")
def roll(input: Any, shifts: Any, dims: Any = ()) -> Any:  # noqa: A002
    """``input`` with elements moved by ``shifts`` along ``dims``, coming in again at the other end."""
    if dims is None or dims == () or dims == []:
        return ops.reshape(ops.roll(ops.reshape(input, (-1,)), _shifts(1, shifts, (0,))[0], (0,)), tuple(input.shape))
    return ops.roll(input, shifts if isinstance(shifts, (tuple, list)) else (shifts,), dims if isinstance(dims, (tuple, list))
                    else (dims,))


def _repeated(x: Any, repeats: Any) -> tuple:
    lead = len(repeats) - x.ndim
    if lead < 0:
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    if any(r < 0 for r in repeats):
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(repeats)}: {list(repeats)}")
    return tuple(r * (x.shape[i - lead] if i >= lead else 1) for i, r in enumerate(repeats))


def _repeat_rule(g: Any, out: Any, x: Any, repeats: Any) -> Any:
    shape = tuple(x.shape)
    lead = len(repeats) - len(shape)
    pairs = [n for i, r in enumerate(repeats) for n in ((r, shape[i - lead]) if i >= lead else (r, 1))]
    if any(isinstance(r, int) and r == 0 for r in repeats):
        return ops.full(shape, 0, dtype=g.dtype, device=g.device)
    summed = ops.sum(ops.reshape(g, tuple(pairs)), tuple(range(0, 2 * len(repeats), 2)))
    return ops.reshape(summed, shape)


repeat = primitive(
    "repeat(Tensor self, int[] repeats) -> Tensor", "index", api=(), dtypes="buifc", tags=("check",),
    kernel=lambda xp, x, repeats: xp.tile(x, tuple(repeats)).reshape(_repeated(x, repeats)),
    infer=lambda x, repeats: meta_of(x).with_shape(_repeated(x, repeats)), vjp=_repeat_rule,
    lower=lambda index, x, repeats: x.at(tuple(i % n for i, n in zip(index[len(index) - x.ndim:], x.shape))),
    samples=lambda: [S(T((3, 4)), (2, 1)), S(T((3,)), (2, 3)), S(T((3, 4)), (1, 1))])


@public("Tensor.repeat")
def _repeat_method(self: Any, *repeats: Any) -> Any:
    return ops.repeat(self, sizes_of(repeats))


@public("torch.tile")
def tile(input: Any, dims: Any) -> Any:  # noqa: A002
    """``input`` repeated ``dims`` times along its last dimensions."""
    dims = tuple(dims)
    return ops.repeat(input, (1,) * (input.ndim - len(dims)) + dims)


@public("Tensor.tile")
def _tile_method(self: Any, *dims: Any) -> Any:
    return tile(self, sizes_of(dims))


@public("torch.repeat_interleave", "Tensor.repeat_interleave")
def repeat_interleave(input: Any, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None) -> Any:  # noqa: A002
    """Each element of ``input`` along ``dim`` (of the flat tensor for None) repeated."""
    if repeats is None:
        return ops.repeat_counts(input)
    if dim is None:
        input, dim = ops.reshape(input, (-1,)), 0  # noqa: A001
    dim = wrap_dim(dim, input.ndim)
    if isinstance(repeats, int):
        if repeats < 0:
            raise RuntimeError("Repeats must be non-negative")
        shape = tuple(input.shape)
        wide = ops.expand(ops.unsqueeze(input, dim + 1), (*shape[:dim + 1], repeats, *shape[dim + 1:]))
        return ops.reshape(ops.clone(wide), (*shape[:dim], shape[dim] * repeats, *shape[dim + 1:]))
    if repeats.ndim == 0 or repeats.shape[0] == 1:
        repeats = ops.expand(ops.reshape(repeats, (1,)), (input.shape[dim],))
    if repeats.shape[0] != input.shape[dim]:
        raise RuntimeError(f"repeats must have the same size as input along dim, but got repeats.size(0) = {repeats.shape[0]} "
                           f"and input.size({dim}) = {input.shape[dim]}")
    return ops.index_select(input, dim, ops.repeat_counts(repeats))


def _repeat_counts(xp: Any, repeats: Any) -> Any:
    if (repeats < 0).any():
        raise RuntimeError("repeats can not be negative")
    return xp.repeat(xp.arange(repeats.shape[0], dtype=repeats.dtype), repeats)


repeat_counts = primitive(
    "repeat_counts(Tensor repeats) -> Tensor", "index", kernel=_repeat_counts, infer=None, api=(),
    tags=("extern", "data_shape", "raises"),
    dtypes="i", samples=lambda: [S(T((4,), 0, 4))],
    data_shape=lambda size, repeats: meta_of(repeats).with_shape((size(),)))


@public("torch.rot90", "Tensor.rot90")
def rot90(input: Any, k: int = 1, dims: Any = (0, 1)) -> Any:  # noqa: A002
    """``input`` turned by ``k`` quarters in the plane of ``dims``."""
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if input.ndim < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {input.ndim}")
    if dims[0] == dims[1] or abs(dims[0] - dims[1]) == input.ndim:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    a, b = wrap_dims(dims, input.ndim) if tuple(dims) == tuple(sorted(dims)) else tuple(wrap_dim(d, input.ndim) for d in dims)
    k %= 4
    if k == 1:
        return ops.transpose(ops.flip(input, (b,)), a, b)
    if k == 2:
        return ops.flip(input, (a, b))
    return ops.transpose(ops.flip(input, (a,)), a, b) if k == 3 else ops.clone(input)


# ---- triangles and diagonals --------------------------------------------------------------------------------------


def _triangle(name: str, relation: str) -> Any:
    def infer(x: Any, diagonal: int) -> TensorMeta:
        if x.ndim < 2:
            raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
        return meta_of(x)

    def element(index: Any, x: Any, diagonal: int) -> Any:
        inside = loops.compare(relation, index[-1] - index[-2], diagonal)
        return x.at(index, inside, 0)

    return primitive(f"{name}(Tensor self, int diagonal=0) -> Tensor", "index", infer=infer, lower=element, inplace=True,
                     kernel=lambda xp, x, diagonal: getattr(xp, name)(x, diagonal), dtypes="buifc",
                     tags=("out", "check", "overlap"), vjp=lambda g, out, x, diagonal: getattr(ops, name)(g, diagonal),
                     samples=lambda: [S(T((3, 4))), S(T((3, 4)), 1), S(T((2, 4, 3)), -1)])


tril = _triangle("tril", "le")
triu = _triangle("triu", "ge")


@public("torch.diag", "Tensor.diag")
def diag(input: Any, diagonal: int = 0) -> Any:  # noqa: A002
    """The diagonal of a matrix, or the matrix with this diagonal."""
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    if input.ndim != 2:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")
    return ops.clone(ops.diagonal(input, diagonal))


@public("torch.diag_embed", "Tensor.diag_embed")
def diag_embed(input: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:  # noqa: A002
    """Zeros with the last dimension of ``input`` as diagonals in the plane of ``dim1`` and ``dim2``."""
    n = input.ndim + 1
    a, b = wrap_dim(dim1, n), wrap_dim(dim2, n)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    size = input.shape[-1] + abs(offset)
    rest = iter(input.shape[:-1])
    shape = tuple(size if d in (a, b) else next(rest) for d in range(n))
    zeros = ops.full(shape, 0, dtype=input.dtype, device=input.device)
    return ops.diagonal_scatter(zeros, input, offset, a, b)


@public("torch.diagflat", "Tensor.diagflat")
def diagflat(input: Any, offset: int = 0) -> Any:  # noqa: A002
    """The matrix with the elements of ``input`` as its diagonal."""
    return diag_embed(ops.reshape(input, (-1,)), offset)


@public("torch.block_diag")
def block_diag(*tensors: Any) -> Any:
    """The matrices along the diagonal of a larger one."""
    blocks = [ops.reshape(t, (1, -1)) if t.ndim < 2 else t for t in tensors]
    width = sum(b.shape[1] for b in blocks)
    rows, left = [], 0
    for b in blocks:
        rows.append(ops.constant_pad_nd(b, (left, width - left - b.shape[1]), 0))
        left += b.shape[1]
    return ops.cat(rows, 0)


@public("torch.meshgrid")
def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple:
    """Coordinates of the grid that one-dimensional tensors span."""
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    if indexing not in ("ij", "xy"):
        raise RuntimeError(f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    swap = indexing == "xy" and len(tensors) >= 2
    axes = [ops.reshape(t, (-1,)) for t in tensors]
    if swap:
        axes[0], axes[1] = axes[1], axes[0]
    shape = tuple(a.shape[0] for a in axes)
    n = len(axes)
    grids = [ops.expand(ops.reshape(a, (1,) * i + (-1,) + (1,) * (n - 1 - i)), shape) for i, a in enumerate(axes)]
    if swap:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


@public("torch.cartesian_prod")
def cartesian_prod(*tensors: Any) -> Any:
    """The rows of all combinations of the tensors' elements."""
    if len(tensors) == 1:
        return tensors[0]
    return ops.stack([ops.reshape(g, (-1,)) for g in meshgrid(*tensors)], 1)


# ---- a part written into a copy of the whole ----------------------------------------------------------------------


def _scatter_family(name: str, params: str, view_kernel: Any, read: Any, element: Any, samples: Any) -> Any:
    """``name(self, src, *where)``: self with the part that ``view_kernel`` shows replaced by src."""
    def kernel(xp: Any, x: Any, src: Any, *where: Any) -> Any:
        out = x.copy()
        part = view_kernel(xp, out, *where)
        if part.shape != src.shape:
            raise RuntimeError(f"expected src to have a size equal to the {name.split('_')[0]} of self. src size = "
                               f"{list(src.shape)}, {name.split('_')[0]} size = {list(part.shape)}")
        part[...] = src
        return out

    def base_rule(g: Any, out: Any, x: Any, src: Any, *where: Any) -> Any:
        zeros = ops.full(tuple(src.shape), 0, dtype=g.dtype, device=g.device)
        return getattr(ops, name)(g, zeros, *where)

    return primitive(f"{name}(Tensor self, Tensor src, {params}) -> Tensor", "index", kernel=kernel, promote="keep",
                     infer=lambda x, src, *where: meta_of(x), lower=element, dtypes="buifc",
                     vjp=(base_rule, lambda g, out, x, src, *where: read(g, *where)), samples=samples)


def _select_scatter_element(index: Any, x: Any, src: Any, dim: int, at: Any) -> Any:
    dim = wrap_dim(dim, x.ndim)
    here = loops.compare("eq", index[dim], _element(x.shape[dim], x.ndim, dim, at))
    return loops.select(here, loops.cast(src.at(_removed(index, dim), here), x.dtype), x.at(index))


def _slice_scatter_element(index: Any, x: Any, src: Any, dim: int, start: Any, end: Any, step: int) -> Any:
    dim, first, last, _ = _sliced(x, dim, start, end, step)
    i = index[dim]
    inside = loops.both(loops.compare("ge", i, first), loops.compare("lt", i, last))
    if step != 1:
        inside = loops.both(inside, loops.compare("eq", (i - first + step * x.shape[dim]) % step, 0))
    if inside is None:
        return loops.cast(src.at((*index[:dim], (i - first) // step, *index[dim + 1:])), x.dtype)
    new = src.at((*index[:dim], (i - first) // step, *index[dim + 1:]), inside)
    return loops.select(inside, loops.cast(new, x.dtype), x.at(index))


def _diagonal_scatter_element(index: Any, x: Any, src: Any, offset: int, dim1: int, dim2: int) -> Any:
    a, b, _, row, col = diagonal_geometry(x.shape, offset, dim1, dim2)
    here = loops.compare("eq", index[b] - index[a], col - row)
    rest = tuple(i for d, i in enumerate(index) if d not in (a, b))
    return loops.select(here, loops.cast(src.at((*rest, index[a] - row), here), x.dtype), x.at(index))


select_scatter = _scatter_family(
    "select_scatter", "int dim, int index", _select, lambda g, dim, index: ops.select(g, dim, index), _select_scatter_element,
    lambda: [S(T((3, 4)), T((4,)), 0, 1), S(T((3, 4)), T((3,)), 1, -1)])
slice_scatter = _scatter_family(
    "slice_scatter", "int dim=0, int? start=None, int? end=None, int step=1", _slice,
    lambda g, dim, start, end, step: ops.slice(g, dim, start, end, step), _slice_scatter_element,
    lambda: [S(T((5, 4)), T((2, 4)), 0, 1, 3), S(T((5, 4)), T((5, 2)), 1, 0, None, 2), S(T((5, 4)), T((5, 4)))])
diagonal_scatter = _scatter_family(
    "diagonal_scatter", "int offset=0, int dim1=0, int dim2=1", _diagonal,
    lambda g, offset, dim1, dim2: ops.diagonal(g, offset, dim1, dim2), _diagonal_scatter_element,
    lambda: [S(T((3, 4)), T((3,))), S(T((4, 3)), T((2,)), 1), S(T((4, 3)), T((3,)), -1)])

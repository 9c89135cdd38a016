"""Public functions over the views: the spellings PyTorch gives them, and those that return several."""

from __future__ import annotations

from typing import Any

from .. import dtype as _dtype
from ..family import not_scalar, ops, wrap_dim
from ..op import public
from .view import product


def sizes_of(args: tuple) -> tuple:
    """``f(2, 3)`` and ``f((2, 3))`` alike."""
    if len(args) == 1 and isinstance(args[0], (tuple, list)):
        return tuple(args[0])
    return args


@public("Tensor.view")
def _view(self: Any, *size: Any, dtype: Any = None) -> Any:
    if dtype is None and len(size) == 1 and isinstance(size[0], _dtype.DType):
        dtype = size[0]
    if dtype is not None:
        return self if dtype is self.dtype else ops.view_dtype(self, dtype)
    return ops.view(self, sizes_of(size))


@public("Tensor.reshape")
def _reshape(self: Any, *shape: Any) -> Any:
    return ops.reshape(self, sizes_of(shape))


@public("torch.reshape")
def reshape(input: Any, shape: Any) -> Any:  # noqa: A002
    """``input``'s elements in another shape: a view if the strides allow it."""
    return ops.reshape(input, tuple(shape))


@public("Tensor.view_as")
def _view_as(self: Any, other: Any) -> Any:
    return ops.view(self, tuple(other.shape))


@public("Tensor.reshape_as")
def _reshape_as(self: Any, other: Any) -> Any:
    return ops.reshape(self, tuple(other.shape))


@public("Tensor.expand")
def _expand(self: Any, *size: Any) -> Any:
    return ops.expand(self, sizes_of(size))


@public("Tensor.expand_as")
def _expand_as(self: Any, other: Any) -> Any:
    return ops.expand(self, tuple(other.shape))


@public("torch.broadcast_to", "Tensor.broadcast_to")
def broadcast_to(input: Any, size: Any) -> Any:  # noqa: A002
    """A view of ``input`` expanded to ``size``."""
    return ops.expand(input, tuple(size))


@public("Tensor.permute")
def _permute(self: Any, *dims: Any) -> Any:
    return ops.permute(self, sizes_of(dims))


@public("torch.permute")
def permute(input: Any, dims: Any) -> Any:  # noqa: A002
    """A view with the dimensions in the order ``dims``."""
    return ops.permute(input, tuple(dims))


@public("torch.flatten", "Tensor.flatten")
def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:  # noqa: A002
    """Dimensions ``start_dim`` to ``end_dim`` as one."""
    n = input.ndim
    a, b = wrap_dim(start_dim, n), wrap_dim(end_dim, n)
    if not n:
        return ops.reshape(input, (1,))
    if a > b:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if a == b:
        return input
    shape = tuple(input.shape)
    return ops.reshape(input, (*shape[:a], product(shape[a:b + 1]), *shape[b + 1:]))


@public("torch.ravel", "Tensor.ravel")
def ravel(input: Any) -> Any:  # noqa: A002
    """All elements in one dimension."""
    return ops.reshape(ops.contiguous(input), (-1,))


@public("torch.unflatten", "Tensor.unflatten")
def unflatten(input: Any, dim: int, sizes: Any) -> Any:  # noqa: A002
    """Dimension ``dim`` as several."""
    at = wrap_dim(dim, input.ndim)
    if not input.ndim:
        raise RuntimeError(f"unflatten got an unexpected error: Dimension specified as {dim} but tensor has no dimensions")
    sizes = tuple(sizes)
    known = product([s for s in sizes if s != -1])
    if -1 not in sizes and known != input.shape[at] or -1 in sizes and input.shape[at] % known:
        raise RuntimeError(f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {at} "
                           f"({input.shape[at]}) in the input tensor")
    sizes = tuple(input.shape[at] // known if s == -1 else s for s in sizes)
    return ops.view(input, (*input.shape[:at], *sizes, *input.shape[at + 1:]))


@public("torch.movedim", "torch.moveaxis", "Tensor.movedim", "Tensor.moveaxis")
def movedim(input: Any, source: Any, destination: Any) -> Any:  # noqa: A002
    """A view with dimensions ``source`` at ``destination``."""
    n = input.ndim
    src = [wrap_dim(d, n) for d in (source if isinstance(source, (tuple, list)) else (source,))]
    dst = [wrap_dim(d, n) for d in (destination if isinstance(destination, (tuple, list)) else (destination,))]
    shown = [list(d) if isinstance(d, (tuple, list)) else [d] for d in (source, destination)]
    if len(src) != len(dst):
        raise RuntimeError(f"movedim: Invalid source or destination dims: source ({shown[0]} dims) should contain the same "
                           f"number of dims as destination ({shown[1]} dims)")
    for name, dims, given in (("source", src, shown[0]), ("destination", dst, shown[1])):
        if len(set(dims)) != len(dims):
            raise RuntimeError(f"movedim: repeated dim in `{name}` ({given})")
    if not n:
        return ops.permute(input, ())
    order: list[Any] = [None] * n
    for s, d in zip(src, dst):
        order[d] = s
    rest = iter(d for d in range(n) if d not in src)
    return ops.permute(input, tuple(next(rest) if d is None else d for d in order))


@public("torch.adjoint", "Tensor.adjoint")
def adjoint(input: Any) -> Any:  # noqa: A002
    """The conjugate transpose of the last two dimensions."""
    turned = ops.transpose(input, -2, -1)
    return ops.conj(turned) if input.dtype.is_complex else turned


def _matrix_transpose(self: Any) -> Any:
    if self.ndim < 2:
        raise RuntimeError(f"tensor.mT is only supported on matrices or batches of matrices. Got {self.ndim}-D tensor.")
    return ops.transpose(self, -2, -1)


def _reversed_dims(self: Any) -> Any:
    return ops.t(self) if self.ndim == 2 else ops.permute(self, tuple(range(self.ndim - 1, -1, -1)))


def _imag_part(self: Any) -> Any:
    return ops.imag(self)


def _real_part(self: Any) -> Any:
    return ops.real(self) if self.dtype.is_complex else self


def _set_real(self: Any, value: Any) -> None:
    ops.copy_(ops.real(self), value)


def _set_imag(self: Any, value: Any) -> None:
    ops.copy_(ops.imag(self), value)


for _name, _get, _set in (("T", _reversed_dims, None), ("mT", _matrix_transpose, None), ("H", adjoint, None),
                          ("mH", adjoint, None), ("real", _real_part, _set_real), ("imag", _imag_part, _set_imag)):
    public(f"Tensor.{_name}")(property(_get, _set))

# ---- several views -------------------------------------------------------------------------------------------------


@public("torch.split", "Tensor.split")
def split(tensor: Any, split_size_or_sections: Any = None, dim: int = 0, *, split_size: Any = None) -> tuple:
    """Views of consecutive parts of ``tensor`` along ``dim``: of one size (the last may be smaller), or of these sizes (the
    method calls them ``split_size``)."""
    if split_size_or_sections is None:
        split_size_or_sections = split_size
    if split_size_or_sections is None:
        raise TypeError("split() missing 1 required positional arguments: \"split_size_or_sections\"")
    not_scalar("split", tensor.ndim)
    if isinstance(split_size_or_sections, int) and split_size_or_sections < 0:
        raise RuntimeError(f"split expects split_size be non-negative, but got split_size={split_size_or_sections}")
    at = wrap_dim(dim, tensor.ndim)
    size = tensor.shape[at]
    if isinstance(split_size_or_sections, (tuple, list)):
        if sum(split_size_or_sections) != size:
            raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {size} (input tensor's size at "
                               f"dimension {dim}), but got split_sizes={list(split_size_or_sections)}")
        sizes = list(split_size_or_sections)
    else:
        step = split_size_or_sections
        if step == 0 and size != 0:
            raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {size}")
        count = max((size + step - 1) // step, 1) if step else 1
        sizes = [step] * (count - 1) + [size - step * (count - 1)]
    name = "SplitWithSizes" if isinstance(split_size_or_sections, (tuple, list)) else "Split"
    return _one_of_several(_parts(tensor, at, sizes), name)


def _parts(x: Any, dim: int, sizes: list) -> tuple:
    found, start = [], 0
    for n in sizes:
        found.append(ops.narrow(x, dim, start, n))
        start = start + n
    return tuple(found)


def _one_of_several(views: tuple, node: str) -> tuple:
    """Views made together may not be written to while the tape records."""
    for i, x in enumerate(views):
        view = x if hasattr(x, "ban") else getattr(x, "_view", None)   # (a symbol knows itself that it is a view)
        if view is not None:
            view.ban = (i, node)
    return views


@public("torch.narrow", "Tensor.narrow")
def narrow(input: Any, dim: int, start: Any, length: int) -> Any:  # noqa: A002
    """A view of ``length`` elements along ``dim`` from ``start`` (an int, or a 0-dimensional tensor of one) on."""
    if hasattr(start, "dtype"):
        if start.ndim or not start.dtype.is_integral or start.dtype is _dtype.bool_:
            raise RuntimeError("start must be an 0-dim integral Tensor.")
        start = int(start)
    return ops.narrow(input, dim, start, length)


@public("Tensor.split_with_sizes", "torch.split_with_sizes")
def split_with_sizes(input: Any, split_sizes: Any, dim: int = 0) -> tuple:  # noqa: A002
    """Views of consecutive parts of these sizes."""
    return split(input, list(split_sizes), dim)


@public("torch.chunk", "Tensor.chunk")
def chunk(input: Any, chunks: int, dim: int = 0) -> tuple:  # noqa: A002
    """At most ``chunks`` views of consecutive parts of equal size (the last may be smaller)."""
    if chunks <= 0:
        raise RuntimeError("chunk expects `chunks` to be greater than 0, got: " + str(chunks))
    not_scalar("chunk", input.ndim)
    size = input.shape[wrap_dim(dim, input.ndim)]
    step = (size + chunks - 1) // chunks
    return split(input, [0] * chunks if not step else step, dim)


@public("torch.tensor_split", "Tensor.tensor_split")
def tensor_split(input: Any, indices_or_sections: Any, dim: int = 0) -> tuple:  # noqa: A002
    """Views of parts: this many of nearly equal size, or cut at these indices."""
    if not input.ndim:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    at = wrap_dim(dim, input.ndim)
    size = input.shape[at]
    if hasattr(indices_or_sections, "tolist"):
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, int):
        n = indices_or_sections
        if n <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {n}")
        return _parts(input, at, [size // n + (1 if i < size % n else 0) for i in range(n)])
    cuts = [0, *indices_or_sections, size]
    return tuple(ops.slice(input, at, a, b) for a, b in zip(cuts, cuts[1:]))


@public("torch.unbind", "Tensor.unbind")
def unbind(input: Any, dim: int = 0) -> tuple:  # noqa: A002
    """The slices along ``dim``, as views without it."""
    if not input.ndim:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    at = wrap_dim(dim, input.ndim)
    return _one_of_several(tuple(ops.select(input, at, i) for i in range(input.shape[at])), "Unbind")


@public("Tensor.__iter__")
def _iterate(self: Any) -> Any:
    if not self.ndim:
        raise TypeError("iteration over a 0-d tensor")
    return iter(unbind(self, 0))


def _splitter(name: str, dim: Any, least: int) -> None:
    @public(f"torch.{name}", f"Tensor.{name}")
    def split_along(input: Any, indices_or_sections: Any) -> tuple:  # noqa: A002
        """Parts along one dimension (see ``tensor_split``)."""
        if input.ndim < least:
            raise RuntimeError(f"torch.{name} requires a tensor with at least {least} dimension, but got a tensor with "
                               f"{input.ndim} dimensions!")
        at = dim(input)
        if isinstance(indices_or_sections, str):
            raise TypeError(f"{name}() received an invalid combination of arguments. The second must be an int or ints")
        if isinstance(indices_or_sections, int) and (not indices_or_sections or input.shape[at] % indices_or_sections):
            raise RuntimeError(f"torch.{name} attempted to split along dimension {at}, but the size of the dimension "
                               f"{input.shape[at]} is not divisible by the split_size {indices_or_sections}!")
        return tensor_split(input, indices_or_sections, at)
    split_along.__name__ = name


_splitter("hsplit", lambda x: 0 if x.ndim == 1 else 1, 1)
_splitter("vsplit", lambda x: 0, 2)
_splitter("dsplit", lambda x: 2, 3)


@public("torch.broadcast_tensors")
def broadcast_tensors(*tensors: Any) -> tuple:
    """The tensors expanded to one shape."""
    from ..family import broadcast_shapes as shapes  # noqa: PLC0415
    size = shapes(*[tuple(t.shape) for t in tensors])
    return tuple(ops.expand(t, size) for t in tensors)


def _at_least(name: str, grow: Any) -> None:
    @public(f"torch.{name}")
    def at_least(*tensors: Any) -> Any:
        """The tensors with at least so many dimensions."""
        if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
            tensors = tuple(tensors[0])
        found = tuple(grow(t) for t in tensors)
        return found[0] if len(found) == 1 else found
    at_least.__name__ = name


_at_least("atleast_1d", lambda t: t if t.ndim else ops.reshape(t, (1,)))
_at_least("atleast_2d", lambda t: t if t.ndim >= 2 else ops.reshape(t, (1, 1)) if not t.ndim else ops.unsqueeze(t, 0))
_at_least("atleast_3d", lambda t: t if t.ndim >= 3 else ops.unsqueeze(t, -1) if t.ndim == 2 else ops.reshape(
    t, (1, -1, 1) if t.ndim else (1, 1, 1)))

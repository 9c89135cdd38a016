"""The interface that eager tensors and symbolic tensors share: every method and operator is an op call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import dtype as _dtype
from .device import Device
from .op import PUBLIC


def ban_text(ban: Any) -> str:
    """Why a recorded write to a view is refused: it is one of several, (number, node), or was made in the mode ``ban``."""
    if type(ban) is tuple:
        return (f"Output {ban[0]} of {ban[1]} is a view and is being modified inplace. This view is the output of a function "
                "that returns multiple views. Such functions do not allow the output views to be modified inplace. You should "
                "replace the inplace operation by an out-of-place one.")
    return (f"A view was created in {ban} mode and is being modified inplace with grad mode enabled. Given that this use case "
            "is ambiguous and error-prone, it is forbidden. You can clarify your code by moving both the view and the inplace "
            f"either both inside the {ban} block (if you don't want the inplace to be tracked) or both outside (if you want the "
            "inplace to be tracked).")


class TensorLike:
    """Base of tensors. Subclasses give ``shape`` (a tuple), ``dtype``, ``device`` and ``requires_grad``.

    The methods of the ops (``exp``, ``add_``, ``sum``...) are attached by :func:`attach_methods` once the ops are defined.
    """

    __slots__ = ()
    __hash__ = object.__hash__

    shape: tuple[Any, ...]
    dtype: _dtype.DType
    device: Device
    requires_grad: bool

    if TYPE_CHECKING:  # what attach_methods adds is not visible to a type checker
        def __getattr__(self, name: str) -> Any: ...
        def __add__(self, other: Any) -> Any: ...
        def __radd__(self, other: Any) -> Any: ...
        def __sub__(self, other: Any) -> Any: ...
        def __rsub__(self, other: Any) -> Any: ...
        def __mul__(self, other: Any) -> Any: ...
        def __rmul__(self, other: Any) -> Any: ...
        def __truediv__(self, other: Any) -> Any: ...
        def __neg__(self) -> Any: ...
        def __matmul__(self, other: Any) -> Any: ...
        def __getitem__(self, index: Any) -> Any: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def dim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    ndimension = dim

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dimension. Raises ``IndexError`` for a dimension that does not exist."""
        if dim is None:
            return self.shape
        if not -max(self.ndim, 1) <= dim < max(self.ndim, 1) or not self.ndim:
            raise IndexError(f"Dimension out of range (expected to be in range of [{-max(self.ndim, 1)}, "
                             f"{max(self.ndim, 1) - 1}], but got {dim})")
        return self.shape[dim]

    def numel(self) -> Any:
        """The number of elements."""
        n: Any = 1
        for s in self.shape:
            n = n * s
        return n

    nelement = numel

    def element_size(self) -> int:
        """Bytes per element."""
        return self.dtype.itemsize

    def is_floating_point(self) -> bool:
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        return self.dtype.is_complex

    def is_signed(self) -> bool:
        return self.dtype.is_signed

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def is_cpu(self) -> bool:
        return self.device.type == "cpu"

    is_sparse = is_sparse_csr = is_quantized = is_nested = is_mkldnn = False  # what tensors never are here
    is_mps = is_xpu = is_xla = is_ipu = is_maia = is_mtia = is_vulkan = False

    @property
    def is_meta(self) -> bool:
        return self.device.type == "meta"

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> Any:
        return self.numel() * self.dtype.itemsize

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __contains__(self, item: Any) -> bool:
        return bool((self == item).any())  # type: ignore[attr-defined]


def attach_methods() -> None:
    """Give :class:`TensorLike` the methods that ops have published so far."""
    for name, method in PUBLIC["Tensor"].items():
        if getattr(TensorLike, name, None) is not method:
            setattr(TensorLike, name, method)

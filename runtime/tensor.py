"""The eager tensor: an array view over a storage, and its place in the autograd tape."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.ir import device as _device
from flambeau.ir import dtype as _dtype
from flambeau.ir.dtype import DType, from_numpy
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import ops
from flambeau.ir.tensorlike import TensorLike

from . import autograd, hooks, off_tape
from .printing import tensor_str
from .storage import Storage, to_device


class Size(tuple):
    """A shape (PyTorch: ``torch.Size``)."""

    __slots__ = ()

    def numel(self) -> int:
        n = 1
        for s in self:
            n *= s
        return n

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    def __add__(self, other: Any) -> Size:
        return Size(tuple.__add__(self, other)) if isinstance(other, tuple) else NotImplemented

    def __radd__(self, other: Any) -> Size:
        return Size(tuple.__add__(other, self)) if isinstance(other, tuple) else NotImplemented

    def __mul__(self, times: Any) -> Size:
        if isinstance(times, np.ndarray):
            return NotImplemented
        if not hasattr(times, "__index__"):
            raise TypeError(f"can't multiply sequence by non-int of type '{type(times).__name__}'")
        return Size(tuple.__mul__(self, times))

    __rmul__ = __mul__

    def __getitem__(self, key: Any) -> Any:
        found = tuple.__getitem__(self, key)
        return Size(found) if isinstance(key, slice) else found


class View:
    """How a view was made: from ``base`` by the ``steps`` (op, args with None for self, meta of the op's input)."""

    __slots__ = ("base", "steps", "version", "ban")

    def __init__(self, base: Tensor, steps: tuple, version: int) -> None:
        self.base, self.steps, self.version = base, steps, version
        self.ban: Any = None  # why recorded writes are refused: (number, node) of several views, or the mode it was made in


on_subclass: Callable[[], None] = lambda: None  # told when a program derives a class from Tensor; set by flambeau


_written: dict[type, dict[str, Any]] = {}  # what Tensor and the library's classes of tensors say themselves


class Tensor(TensorLike):
    """A multi-dimensional array of one dtype that records operations for differentiation (PyTorch: ``torch.Tensor``).

    ``_a`` is the array; ``_grad_fn`` the tape node that made it (read it through :attr:`grad_fn`: in-place writes to
    the base of a view change it); ``_view`` is set on differentiable views.
    """

    __slots__ = ("_a", "_storage", "_rg", "_grad_fn", "_out_nr", "_view", "_grad", "_hooks", "_dtype", "__dict__",
                 "__weakref__")

    def __init__(self, array: Any = None, storage: Any = None, *sizes: int) -> None:
        if storage is None or not hasattr(array, "strides"):
            array, storage = _legacy_array(array, storage, sizes), None
        self._a = array
        self._storage = Storage(array) if storage is None else storage
        self._rg = False
        self._grad_fn: Any = None
        self._out_nr = 0
        self._view: View | None = None
        self._grad: Tensor | None = None
        self._hooks: dict[int, Callable] | None = None
        self._dtype: DType | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.partition(".")[0] != "flambeau":
            on_subclass()
        else:
            _written[cls] = dict(cls.__dict__)

    def as_subclass(self, cls: type) -> Any:
        """This tensor as an instance of ``cls``: same memory, same history."""
        found: Any = object.__new__(cls)
        Tensor.__init__(found, self._a, self._storage)
        found._rg, found._grad_fn, found._out_nr, found._view = self._rg, self.grad_fn, self._out_nr, self._view
        if self._rg and self._grad_fn is None:  # of a leaf: a step of the tape, for gradients go to the leaf
            history = ops.alias(self) if autograd.mode.grad else None
            found._rg, found._grad_fn = history is not None, None if history is None else history.grad_fn
        return found

    @staticmethod
    def _make_subclass(cls: type, data: Any, require_grad: bool = False) -> Any:
        """``data`` off the tape, as an instance of ``cls``."""
        return data.detach().as_subclass(cls).requires_grad_(require_grad)

    # ---- what it is

    @property
    def shape(self) -> Size:  # type: ignore[override]
        return Size(self._a.shape)

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        found = self._dtype
        if found is None:
            found = self._dtype = from_numpy(self._a.dtype)
        return found

    @property
    def device(self) -> _device.Device:  # type: ignore[override]
        return self._storage.device

    @property
    def ndim(self) -> int:
        return self._a.ndim

    @property
    def layout(self) -> Layout:
        return strided

    @property
    def data(self) -> Tensor:
        """This tensor's data outside the tape: shares storage, not history and not the version counter."""
        return Tensor(self._a, Storage(self._storage.array, self._storage.device))

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
        if value._storage.array is not self._storage.array:  # `t.data -= x` leaves the memory what it is
            self._storage = value._storage
        self._a, self._dtype, self._view = value._a, None, None

    def numel(self) -> int:
        return self._a.size

    nelement = numel

    def stride(self, dim: int | None = None) -> Any:
        """Strides in elements, all of them or one."""
        step = self._a.itemsize
        if dim is None:
            return tuple(s // step for s in self._a.strides)
        return self._a.strides[dim] // step

    def storage_offset(self) -> int:
        """Elements between the start of the storage and this tensor's first element."""
        start = self._storage.array
        return (_pointer(self._a) - _pointer(start)) // self._a.itemsize if self._a.size else 0

    def data_ptr(self) -> int:
        """Address of the first element."""
        return _pointer(self._a)

    def storage(self) -> Any:
        """The storage seen in this tensor's dtype (deprecated by PyTorch: use :meth:`untyped_storage`)."""
        from .typed_storage import TypedStorage  # noqa: PLC0415 - few programs ask
        return TypedStorage(wrap_storage=self._storage, dtype=self.dtype)

    def untyped_storage(self) -> Storage:
        return self._storage

    @property
    def _version(self) -> int:
        if self.is_inference():
            raise RuntimeError("Inference tensors do not track version counter.")
        return self._storage.version

    def is_inference(self) -> bool:
        """Whether the tensor was made in inference mode."""
        return getattr(self._storage, "inference", False)

    # ---- the tape

    @property
    def requires_grad(self) -> bool:  # type: ignore[override]
        return self._rg

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Start (or stop, for a leaf) recording operations on this tensor. Raises ``RuntimeError`` for integer dtypes."""
        if requires_grad and not self.dtype.differentiable:
            raise RuntimeError("only Tensors of floating point dtype can require gradients")
        if requires_grad and self.is_inference() and not autograd.mode.inference:
            raise RuntimeError("Setting requires_grad=True on inference tensor outside InferenceMode is not allowed.")
        if not requires_grad and self.grad_fn is not None:
            raise RuntimeError("you can only change requires_grad flags of leaf variables. If you want to use a computed "
                               "variable in a subgraph that doesn't require differentiation use var_no_grad = var.detach().")
        self._rg = bool(requires_grad)
        if self._storage.views is not None:
            off_tape.follow_base(self)
        return self

    @property
    def grad_fn(self) -> Any:
        """The tape node that made this tensor; None for leaves."""
        if self._view is not None:
            autograd.refresh_view(self)
        return self._grad_fn

    @property
    def is_leaf(self) -> bool:
        return self.grad_fn is None

    @property
    def output_nr(self) -> int:
        return self._out_nr

    @property
    def grad(self) -> Any:
        """The gradient accumulated by ``backward``."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"assigned grad expected to be a Tensor or None but got {type(value).__name__}")
            if value.shape != self.shape:
                raise RuntimeError(f"assigned grad has data of a different size: got {list(value.shape)}, "
                                   f"expected {list(self.shape)}")
            wanted = getattr(self, "_grad_dtype", self.dtype)
            if wanted is not None and value.dtype is not wanted:
                raise RuntimeError(f"attempting to assign a gradient with dtype '{value.dtype}' to a tensor with grad_dtype "
                                   f"'{wanted}'. The gradient must match the tensor's grad_dtype (defaults to the tensor's "
                                   "dtype). You can set the tensor's grad_dtype attribute with a specific dtype, or None to "
                                   "allow any dtype. Set grad_dtype with caution.")
        self._grad = value

    @property
    def grad_dtype(self) -> Any:
        """The dtype that ``grad`` has (None: any), the tensor's own unless it is set. Only of leaves."""
        if not self.is_leaf:
            raise RuntimeError("grad_dtype can only be accessed on leaf tensors.")
        return getattr(self, "_grad_dtype", self.dtype)

    @grad_dtype.setter
    def grad_dtype(self, value: Any) -> None:
        if not self.is_leaf:
            raise RuntimeError("grad_dtype can only be set on leaf tensors.")
        if self._grad is not None and value is not None and self._grad.dtype is not value:
            raise RuntimeError(f"Cannot set grad_dtype to '{value}' because there is already a gradient with dtype "
                               f"'{self._grad.dtype}'. Please clear the gradient (.grad = None) before changing grad_dtype, or "
                               "ensure the new grad_dtype matches the existing gradient's dtype.")
        self.__dict__["_grad_dtype"] = value

    @property
    def _base(self) -> Tensor | None:
        return None if self._view is None else self._view.base

    def backward(self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
                 inputs: Any = None) -> None:
        """Add the gradient of this tensor with respect to every leaf to the leaf's ``grad`` (PyTorch: ``Tensor.backward``)."""
        autograd.backward(self, gradient, retain_graph, create_graph, inputs=inputs)

    def register_hook(self, hook: Callable[[Tensor], Any]) -> hooks.HookHandle:
        """Call ``hook(grad)`` whenever this tensor's gradient is computed; what it returns replaces the gradient."""
        return hooks.register_hook(self, hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], Any]) -> hooks.HookHandle:
        """Call ``hook(self)`` whenever ``backward`` has added to ``grad``. Raises ``RuntimeError`` for a non-leaf."""
        return hooks.register_post_accumulate_grad_hook(self, hook)

    @property
    def retains_grad(self) -> bool:
        """Whether :meth:`retain_grad` was called on this non-leaf tensor."""
        fn = self.grad_fn
        return fn is not None and self._out_nr in (fn.retained or {})

    def retain_grad(self) -> None:
        """Keep the gradient of this non-leaf tensor in ``grad``."""
        hooks.retain_grad(self)

    # ---- its data

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """The data as an ndarray that shares memory. Raises ``RuntimeError`` when that would hide a gradient."""
        if self._rg and not force:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if self._storage.device.type != "cpu":
            if not force:
                raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy the "
                                "tensor to host memory first.")
            return self.cpu()._a  # type: ignore[attr-defined]
        return self._a

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """NumPy's description of the memory. (bfloat16 has none, and a tensor with a gradient says so by ``__array__``.)"""
        if self._rg or self._a.dtype.char not in "?bBhilqefdFDI":
            raise AttributeError("__array_interface__")
        return self.numpy().__array_interface__

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None) -> Any:
        """A DLPack capsule over the memory. Raises ``BufferError`` for a tensor that requires a gradient."""
        given = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}
        from .dlpack import export  # noqa: PLC0415 - few programs do this
        return export(self, **{name: value for name, value in given.items() if value is not None})

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's kind of device, and its number."""
        return (2, self.device.index or 0) if self._storage.device.type == "cuda" else (1, 0)

    __array_priority__ = 1000  # ndarray (op) tensor is the tensor's to answer

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Tensor:
        """What NumPy's functions make of this tensor is a tensor again."""
        return wrap(array)

    def item(self) -> Any:
        """The value of a one-element tensor as a Python number. Raises ``RuntimeError`` for more elements."""
        if self._a.size != 1:
            raise RuntimeError(f"a Tensor with {self._a.size} elements cannot be converted to Scalar")
        value = self._a.item()
        return float(value) if self.dtype.is_floating_point else value

    def tolist(self) -> Any:
        """The values as (nested) Python lists, or a number for a zero-dimensional tensor."""
        array = self.detach().cpu()._a  # type: ignore[attr-defined]
        if self.dtype is _dtype.bfloat16:
            array = array.astype(np.float32)
        return array.tolist()

    def __bool__(self) -> bool:
        if self._a.size != 1:
            kind = "no values" if not self._a.size else "more than one value"
            raise RuntimeError(f"Boolean value of Tensor with {kind} is ambiguous")
        return bool(self._a.item())

    def _only(self) -> Any:
        if self._a.size != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        return self.item()

    def __int__(self) -> int:
        return int(self._only())

    def __float__(self) -> float:
        return float(self._only())

    def __complex__(self) -> complex:
        return complex(self._only())

    def __index__(self) -> int:
        if not self.dtype.is_integral or self._a.size != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self._a.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if not self.ndim else object.__format__(self, spec)

    def __repr__(self) -> str:
        return tensor_str(self)

    # ---- changing what it is, in place

    def is_contiguous(self, memory_format: Any = None) -> bool:
        """Whether the elements lie in memory in row-major order."""
        return bool(self._a.flags.c_contiguous)

    def resize_(self, *size: Any, memory_format: Any = None) -> Tensor:
        """Give the tensor another shape: elements are kept in memory order, new ones are undefined."""
        shape = tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
        if self._rg:
            raise RuntimeError("cannot resize variables that require grad")
        if shape != self._a.shape:
            new = np.zeros(shape, self._a.dtype) if self._storage.device.type == "cpu" else type(self._a)(shape, self._a.dtype)
            n = min(new.size, self._a.size)
            new.reshape(-1)[:n] = self._a.reshape(-1)[:n]
            version = self._storage.version
            self._a, self._storage, self._view = new, Storage(new, self._storage.device), None
            self._storage.version = version + 1
        return self

    def set_(self, source: Tensor) -> Tensor:
        """Share ``source``'s memory from now on."""
        self._a, self._storage, self._dtype, self._view = source._a, source._storage, None, None
        return self

    def detach_(self) -> Tensor:
        """Cut this tensor off from the tape. Raises ``RuntimeError`` for a view, whose base would still know of it."""
        if self._view is not None and self._rg:
            raise RuntimeError("Can't detach views in-place. Use detach() instead.")
        self._rg, self._grad_fn, self._out_nr = False, None, 0
        return self

    def _become(self, other: Tensor) -> Tensor:
        """Take over another tensor's data and history (in-place views)."""
        if self._rg and self.is_leaf and autograd.mode.grad:
            raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
        self._a, self._rg = other._a, other._rg
        self._view = None if other._view is None or other._view.base is self else other._view
        self._grad_fn, self._out_nr = other._grad_fn, other._out_nr
        self._storage.version += 1
        return self

    def squeeze_(self, *dim: Any) -> Tensor:
        """In-place ``squeeze``."""
        return self._become(self.squeeze(*dim))

    def unsqueeze_(self, dim: int) -> Tensor:
        """In-place ``unsqueeze``."""
        return self._become(self.unsqueeze(dim))

    def transpose_(self, dim0: int, dim1: int) -> Tensor:
        """In-place ``transpose``."""
        return self._become(self.transpose(dim0, dim1))

    swapaxes_ = swapdims_ = transpose_

    def as_strided_(self, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
        """In-place ``as_strided``."""
        return self._become(self.as_strided(size, stride, storage_offset))

    def t_(self) -> Tensor:
        """In-place ``t``."""
        return self._become(self.t())

    def share_memory_(self) -> Tensor:
        """Move the memory to where processes started from now on see it too. Raises ``RuntimeError`` when it has views."""
        if not self._storage.is_shared():
            from .shared import share  # noqa: PLC0415 - few programs do this
            owner = self._storage.array
            share(self)
            new = self._storage.array
            self._a = new if self._a is owner else _window(self._a, owner, new)
        return self

    def is_shared(self) -> bool:
        """Whether other processes can see the memory (:meth:`share_memory_`)."""
        return self._storage.is_shared()

    # ---- copies

    def __reduce_ex__(self, protocol: Any) -> tuple:
        """Pickle as the array and what it takes to wrap it again; views become tensors of their own."""
        array = self.numpy(force=True)
        return _rebuild, (type(self), array, str(self.device), self._rg and self.is_leaf, self.__dict__)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at "
                               "the moment. If you were attempting to deepcopy a module, this may be because of a tensor "
                               "stored in it that was computed with gradients: detach() it")
        if id(self) in memo:
            return memo[id(self)]
        storage = memo.get(id(self._storage))
        if storage is None:
            owner = self._storage.array.copy()
            storage = memo[id(self._storage)] = Storage(owner, self._storage.device)
        new = _rebuild(type(self), _same_window(self, storage), str(self.device), self._rg, {}, storage)
        memo[id(self)] = new
        if self._grad is not None:
            new._grad = copy.deepcopy(self._grad, memo)
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new

    def __copy__(self) -> Tensor:
        new = _rebuild(type(self), self._a, str(self.device), self._rg, dict(self.__dict__), self._storage)
        new._grad_fn, new._out_nr, new._view = self._grad_fn, self._out_nr, self._view
        return new


def _window(array: Any, owner: Any, new: Any) -> Any:
    """The part of ``new``, a copy of ``owner``'s memory, that ``array`` is of ``owner``."""
    flat = np.lib.stride_tricks.as_strided(new, (new.size,), (new.itemsize,)).view(np.uint8)
    return np.ndarray(array.shape, array.dtype, flat, _pointer(array) - _pointer(owner), array.strides)


def _legacy_array(first: Any, second: Any, more: tuple) -> np.ndarray:
    """The data of PyTorch's old constructor: ``Tensor()``, ``Tensor(2, 3)`` (undefined values), ``Tensor([1, 2])``, always
    of the default dtype. ``Tensor(ndarray)`` shares the array's memory if it is of that dtype."""
    kind = _dtype.get_default_dtype().np
    if hasattr(first, "strides"):
        return first if first.dtype == kind else first.astype(kind)
    if first is None:
        return np.empty(0, kind)
    if isinstance(first, int):
        return np.zeros((first, *(() if second is None else (second,)), *more), kind)
    if isinstance(first, Tensor):
        return first._a.astype(kind)
    return np.array(first if not isinstance(first, Size) else np.zeros(first), kind)


def _same_window(t: Tensor, storage: Storage) -> Any:
    """The part of ``storage``, a copy of ``t``'s, that corresponds to ``t``."""
    owner = t._storage.array
    if t._a is owner:
        return storage.array
    if not (owner.flags.c_contiguous and isinstance(owner, np.ndarray)):
        return t._a.copy()
    start = (_pointer(t._a) - _pointer(owner)) // t._a.itemsize if t._a.size else 0
    flat = storage.array.reshape(-1).view(t._a.dtype)
    return np.lib.stride_tricks.as_strided(flat[start:], t._a.shape, t._a.strides)


def _rebuild(kind: type[Tensor], array: Any, device: str, requires_grad: bool, attributes: dict[str, Any],
             storage: Storage | None = None) -> Tensor:
    """A tensor of class ``kind`` over ``array`` (moved to ``device`` unless it has a storage there already)."""
    where = _device.Device(device)
    if storage is None:
        storage = Storage(array if where.type == "cpu" else to_device(array, _device.cpu, where), where)
        array = storage.array
    new = kind.__new__(kind)
    Tensor.__init__(new, array, storage)
    new._rg = requires_grad
    new.__dict__.update(attributes)
    return new


def keep_as_written(cls: type, *names: str) -> None:
    """What the class says now under these names is the library's own."""
    _written[cls].update({name: cls.__dict__[name] for name in names})


_written[Tensor] = dict(Tensor.__dict__)


def is_replaced(cls: type, name: str) -> bool:
    """Whether the program has put something of its own under a name of Tensor or of a class derived from it."""
    now = written = _MISSING
    for base in cls.__mro__:
        if now is _MISSING:
            now = base.__dict__.get(name, _MISSING)
        if written is _MISSING:
            written = _written.get(base, base.__dict__).get(name, _MISSING)
    return now is not written


_MISSING: Any = object()


class Layout:
    """How a tensor's elements are laid out (PyTorch: ``torch.layout``). Tensors here are strided, all of them."""

    __flambeau_constant__ = True  # traced code holds it as it is

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"


strided = Layout("strided")


def _pointer(array: Any) -> int:
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr


def tensor_meta(t: Tensor) -> TensorMeta:
    """Shape, dtype and device, without the data."""
    return TensorMeta(t._a.shape, t.dtype, t._storage.device)


def wrap(array: Any, device: _device.Device = _device.cpu) -> Tensor:
    """A tensor that owns ``array`` (NumPy scalars become zero-dimensional arrays)."""
    if not hasattr(array, "strides") or isinstance(array, np.generic):
        array = np.asarray(array)
    return Tensor(array, Storage(array, device))

"""What the ops of linear algebra share: checks in PyTorch's words, LAPACK over batches, adjoints, samples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..family import broadcast_shapes, conj_of, ops
from ..meta import TensorMeta
from ..op import Op, public, type_name, write_out
from ..samples import T


class LinAlgError(RuntimeError):
    """A factorization or solver failed on the values it was given (PyTorch: ``torch.linalg.LinAlgError``)."""


LinAlgError.__module__ = "torch.linalg"


# ---- checks -------------------------------------------------------------------------------------------------------


def check_dtype(name: str, x: Any, half: bool = False) -> None:
    """Raise ``RuntimeError`` unless ``x`` is floating or complex, and of at least single precision unless ``half``."""
    if x.dtype.is_integral:
        raise RuntimeError(f"{name}: Expected a floating point or complex tensor as input. Got {type_name(x.dtype)}")
    if not half and x.dtype.is_floating_point and x.dtype.itemsize < 4:
        raise RuntimeError(f"{name}: Low precision dtypes not supported. Got {type_name(x.dtype)}")


def check_matrix(name: str, x: Any, what: str = "A", half: bool = False) -> None:
    """Raise ``RuntimeError`` unless ``x`` holds matrices of a dtype that LAPACK computes in."""
    if x.ndim < 2:
        raise RuntimeError(f"{name}: The input tensor {what} must have at least 2 dimensions.")
    check_dtype(name, x, half)


def check_square(name: str, x: Any, what: str = "A", half: bool = False) -> None:
    """As :func:`check_matrix`, and the matrices must be square."""
    check_matrix(name, x, what, half)
    rows, columns = x.shape[-2:]
    if rows is not columns and rows != columns:
        raise RuntimeError(f"{name}: {what} must be batches of square matrices, but they are {rows} by {columns} matrices")


def check_same(name: str, a: Any, b: Any) -> None:
    """Raise ``RuntimeError`` unless ``a`` and ``b`` have one dtype."""
    if a.dtype is not b.dtype:
        raise RuntimeError(f"{name}: Expected A and B to have the same dtype, but found A of type {type_name(a.dtype)} and "
                           f"B of type {type_name(b.dtype)} instead")


def check_system(name: str, a: Any, b: Any, left: bool) -> None:
    """Raise ``RuntimeError`` unless ``a`` [n, n] and ``b`` ([n, k], from the right [k, n]) make a linear system."""
    check_same(name, a, b)
    check_square(name, a)
    check_matrix(name, b, "B")
    rows = b.shape[-2 if left else -1]
    if a.shape[-2] != rows:
        equation = "AX = B" if left else "XA = B"
        raise RuntimeError(f"{name}: Incompatible shapes of A and B for the equation {equation} "
                           f"({a.shape[-2]}x{a.shape[-1]} and {b.shape[-2]}x{b.shape[-1]})")


def raise_for(name: str, info: np.ndarray, words: str, exception: type[Exception] = LinAlgError) -> None:
    """Raise for the first matrix of a batch whose LAPACK ``info`` is not zero; ``{info}`` in ``words`` stands for it."""
    if not np.any(info):
        return
    flat = info.reshape(-1)
    first = int(np.flatnonzero(flat)[0])
    where = f"(Batch element {first}): " if info.ndim else ""
    raise exception(f"{name}: {where}" + words.format(info=int(flat[first])))


# ---- kernels ------------------------------------------------------------------------------------------------------


def on_host(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel whose libraries know NumPy arrays only: another module's arrays come to the host and go back."""
    @functools.wraps(kernel)
    def run(xp: Any, *args: Any) -> Any:
        if xp is np:
            return kernel(*args)
        found = kernel(*[a.get() if hasattr(a, "get") and hasattr(a, "dtype") else a for a in args])
        return tuple(xp.asarray(r) for r in found) if isinstance(found, tuple) else xp.asarray(found)
    return run


def each(fn: Callable[..., tuple], *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """``fn`` of each matrix of the ``arrays`` (which have one batch shape), the results stacked to that shape."""
    lead = arrays[0].shape[:-2]
    count = int(np.prod(lead))
    if not lead:
        return tuple(np.asarray(r) for r in fn(*arrays))
    rows = [a.reshape(count, *a.shape[-2:]) for a in arrays]
    if count:
        found = [fn(*[r[i] for r in rows]) for i in range(count)]
    else:  # there is none, but the results have shapes
        found = [fn(*[(np.ones if a.dtype.kind == "i" else np.eye)(*_sizes(a)).astype(a.dtype) for a in arrays])]
    return tuple(np.stack(r)[:count].reshape(*lead, *np.shape(r[0])) for r in zip(*found))


def _sizes(a: np.ndarray) -> tuple:
    return (a.shape[-2:],) if a.dtype.kind == "i" else a.shape[-2:]


def lapack(name: str, *arrays: np.ndarray) -> Any:
    """The LAPACK routine for the arrays' dtype."""
    from scipy.linalg import lapack as routines  # noqa: PLC0415 - loaded when first called
    return routines.get_lapack_funcs(name, arrays)


def factor_lu(a: np.ndarray) -> tuple:
    """LAPACK's LU of one matrix: both factors in one array, pivots from 1, and the first zero pivot from 1 (0: none)."""
    k = min(a.shape)
    if not k:
        return a.copy(), np.zeros(0, np.int32), np.int32(0)
    lu, pivots, info = lapack("getrf", a)(a)
    return lu, (pivots + 1).astype(np.int32), np.int32(info)


def spread(*arrays: np.ndarray) -> list[np.ndarray]:
    """Matrices broadcast to one batch shape."""
    lead = np.broadcast_shapes(*[a.shape[:-2] for a in arrays])
    return [np.broadcast_to(a, (*lead, *a.shape[-2:])) for a in arrays]


# ---- in ops -------------------------------------------------------------------------------------------------------


def adjoint(x: Any) -> Any:
    """The conjugate transpose of matrices."""
    return conj_of(ops.transpose(x, -2, -1))


def over(x: Any, d: Any) -> Any:
    """``x / d``, but 0 / 0 is 0: a derivative that nobody asked for does not become NaN. Linear in ``x`` where ``d`` is not 0."""
    none = ops.eq(d, 0)
    return ops.where(ops.logical_and(none, ops.ne(x, 0)), float("inf"), x / ops.where(none, 1, d))


def eye_like(x: Any, n: Any = None) -> Any:
    """The identity of ``x``'s dtype, of the size of its columns unless told otherwise."""
    n = x.shape[-1] if n is None else n
    return ops.eye(n, n, dtype=x.dtype, device=x.device)


def matvec(a: Any, v: Any) -> Any:
    """``a @ v`` for batches of vectors."""
    return ops.squeeze(ops.matmul(a, ops.unsqueeze(v, -1)), -1)


def trace_of(x: Any) -> Any:
    """The sums of the diagonals of matrices."""
    return ops.sum(ops.diagonal(x, 0, -2, -1), (-1,))


def batch(*xs: Any) -> tuple:
    """The batch shape that matrices broadcast to."""
    return broadcast_shapes(*[tuple(x.shape[:-2]) for x in xs])


def meta(x: Any, shape: Sequence[Any], dtype: Any = None) -> TensorMeta:
    """The meta of a result of ``x``'s dtype (unless told otherwise) and device."""
    return TensorMeta(tuple(shape), x.dtype if dtype is None else dtype, x.device)


def named_result(op: Op, kind: Any, *targets: str) -> None:
    """Publish ``op``, which returns several tensors, as a function that names them and takes ``out=``."""
    fn = op.method

    def call(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        found = kind(*fn(*args, **_self_named(kwargs, op)))
        return found if out is None else kind(*write_out(op, tuple(found), tuple(out)))

    call.__name__ = call.__qualname__ = targets[0].rpartition(".")[2]
    call.__doc__, call.__module__ = op.doc or None, "flambeau"
    public(*targets)(call)


def _self_named(kwargs: dict[str, Any], op: Op) -> dict[str, Any]:
    """PyTorch calls a first tensor ``input`` or ``A``; the schema calls it ``self`` or ``A``."""
    first = op.schema.params[0].name
    return {first if name in ("input", "A") else name: value for name, value in kwargs.items()}


# ---- samples ------------------------------------------------------------------------------------------------------


def well(*shape: int) -> T:
    """Matrices that are far from singular."""
    values = np.cos(1.0 + 2.3 * np.arange(int(np.prod(shape)))).reshape(shape)
    return T(shape, values=values + 2 * np.eye(shape[-2], shape[-1]))


def definite(*shape: int) -> T:
    """Symmetric, positive-definite matrices."""
    a = well(*shape).values
    return T(shape, values=a @ np.swapaxes(a, -1, -2) / shape[-1] + np.eye(shape[-1]))


def triangle(*shape: int, upper: bool) -> T:
    """Triangular matrices without small elements on the diagonal."""
    a = well(*shape).values
    return T(shape, values=np.triu(a) if upper else np.tril(a))

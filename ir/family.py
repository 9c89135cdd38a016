"""Families of ops: factories that supply what all members share (shape rule, promotion, variants, public names)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import dtype as _dtype
from .dtype import DType, result_type
from .meta import TensorMeta
from .op import _NUMBERS, OPS, PUBLIC, Op, Scalar, base, code_of, inplace_of, ops, register, state, type_name
from .schema import parse
from .tensorlike import TensorLike
from .usage import parameter_uses  # noqa: F401 - re-exported for tests of derivative rules

if TYPE_CHECKING:
    from .index import IndexLike
    from .loops import Expr

# ---- shapes -------------------------------------------------------------------------------------------------------


def broadcast_shapes(*shapes: Sequence[Any]) -> tuple[Any, ...]:
    """The shape that ``shapes`` broadcast to. Raises ``RuntimeError`` naming the sizes and the axis."""
    longest: Sequence[Any] = max(shapes, key=len)
    out = list(longest)
    for shape in shapes:
        for i in range(1, len(shape) + 1):
            a, b = out[-i], shape[-i]
            if a is b or (isinstance(b, int) and b == 1) or a == b:
                continue
            if isinstance(a, int) and a == 1:
                out[-i] = b
            elif a == 1:
                out[-i] = b
            elif not b == 1:
                raise RuntimeError(f"The size of tensor a ({a}) must match the size of tensor b ({b}) at non-singleton "
                                   f"dimension {len(out) - i}")
    return tuple(out)


def wrap_dim(dim: int, ndim: int) -> int:
    """``dim`` as a non-negative axis of a tensor of ``ndim`` dimensions. Raises ``IndexError`` outside."""
    n = max(ndim, 1)
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return dim + n if dim < 0 else dim


def not_scalar(name: str, ndim: int) -> None:
    """Raise ``RuntimeError`` for a tensor without dimensions, which ``name`` cannot cut."""
    if not ndim:
        raise RuntimeError(f"{name} expects at least a 1-dimensional tensor")


def wrap_dims(dim: Any, ndim: int) -> tuple[int, ...]:
    """``dim`` (None and (): all; an int; ints) as sorted axes. Raises for a repeated one."""
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(ndim))
    dims = [wrap_dim(d, ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))]
    if len(set(dims)) != len(dims):
        again = next(d for d in dims if dims.count(d) > 1)
        raise RuntimeError(f"dim {again} appears multiple times in the list of dims")
    return tuple(sorted(d for d in dims if d < ndim))


def reduced_shape(shape: Sequence[Any], dim: Any, keepdim: bool) -> tuple[Any, ...]:
    """``shape`` with the dimensions ``dim`` removed, or of size 1."""
    dims = wrap_dims(dim, len(shape))
    if keepdim:
        return tuple(1 if i in dims else s for i, s in enumerate(shape))
    return tuple(s for i, s in enumerate(shape) if i not in dims)


# ---- promotion ----------------------------------------------------------------------------------------------------


def operands(op: Op, args: tuple) -> list[Any]:
    """The tensors and numbers that stand in tensor positions, lists flattened, None left out."""
    found: list[Any] = []
    for i in op.tensor_slots:
        a = args[i]
        if isinstance(a, (tuple, list)):
            found += [x for x in a if x is not None]
        elif a is not None:
            found.append(a)
    return found


def promotion(op: Op, args: tuple) -> tuple[DType, DType]:
    """The dtype an op computes in and the dtype of its result. Raises ``NotImplementedError`` for one it refuses."""
    if "no_bool" in op.tags and any(x is True or x is False or getattr(x, "dtype", None) is _dtype.bool_ for x in args):
        raise RuntimeError(f"{op.name}: subtraction with a bool tensor is not supported. If you are trying to invert a mask, "
                           "use the `~` or `logical_not()` operator instead.")
    compute, out = _promoted(op, args)
    if compute is not None and compute.kind in op.refuses:
        raise NotImplementedError(f'"{op.name}" not implemented for \'{type_name(compute)}\'')
    return compute, out


def _promoted(op: Op, args: tuple) -> tuple[DType, DType]:
    """The dtype an op computes in and the dtype of its result.

    Kinds: "default" PyTorch's result type; "float" also makes integers the default float; "bool" result bool;
    "truth" bool, but uint8 for uint8;
    "real" complex becomes real; "sum" integers become int64 (an explicit ``dtype`` argument wins); "same" all tensors
    must agree; "select" the first tensor is a condition and does not count; "index" result int64; "keep" the first
    tensor's dtype; "cast" the ``dtype`` argument; "copy" the first tensor's, operands as they are. Half precisions
    compute in float32 everywhere (the runner sees to it).
    """
    kind = op.promote
    found = operands(op, args)
    if kind == "cast":
        return found[0].dtype, explicit_dtype(op, args)  # type: ignore[return-value]
    if kind == "copy":
        return None, found[0].dtype  # type: ignore[return-value]
    if kind in ("sum", "float", "mean"):
        explicit = explicit_dtype(op, args)
        if explicit is not None:
            return explicit, explicit
    if kind == "select":
        found = found[1:]
    if kind == "keep":
        first = next(x.dtype for x in found if isinstance(x, TensorLike) or hasattr(x, "dtype"))
        return first, first
    if kind == "same":
        return (_same_dtype(op, found),) * 2
    dtype = result_type(found)
    if kind == "float" and dtype.is_integral:
        dtype = _dtype.get_default_dtype()
    if kind == "sum" and dtype.is_integral:
        dtype = _dtype.int64
    if kind == "bool":
        return dtype, _dtype.bool_
    if kind == "truth":
        return dtype, _dtype.uint8 if dtype is _dtype.uint8 else _dtype.bool_
    if kind == "index":
        return dtype, _dtype.int64
    if kind == "real":
        return dtype, dtype.to_real()
    return dtype, dtype


def explicit_dtype(op: Op, args: tuple) -> DType | None:
    """The value of the op's ``dtype`` parameter, if it has one."""
    for p, a in zip(op.schema.params, args):
        if p.type == "dtype":
            return a
    return None


def _same_dtype(op: Op, found: Iterable[Any]) -> DType:
    dtypes = [x.dtype for x in found if hasattr(x, "dtype")]
    for d in dtypes[1:]:
        if d is not dtypes[0]:
            raise RuntimeError(f"{op.name}: expected all tensors to have the same dtype, but got {type_name(dtypes[0])} "
                               f"and {type_name(d)}; convert one with .to(dtype)")
    return dtypes[0]


def common_device(op: Op, args: tuple) -> Any:
    """The device of the result. Raises ``RuntimeError`` for tensors on two devices (zero-dimensional CPU ones may mix)."""
    device, zero_dim = None, False
    for x in operands(op, args):
        if not hasattr(x, "device"):
            continue
        if device is None or (device != x.device and device.type == "cpu" and zero_dim):
            device, zero_dim = x.device, not x.ndim
        elif x.device != device and (x.ndim or x.device.type != "cpu"):
            raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, {device} "
                               f"and {x.device}! (when checking the arguments of {op.name})")
    return device


def conj_of(x: Any) -> Any:
    """The complex conjugate, for derivative rules: real tensors and numbers cost nothing."""
    dtype = getattr(x, "dtype", None)
    if dtype.__class__ is not _dtype.DType:                       # a number, NumPy's included
        return x.conjugate() if isinstance(x, complex) else x
    return ops.conj(x) if dtype.is_complex else x


# ---- factories ----------------------------------------------------------------------------------------------------


def default_api(name: str, *, inplace: bool = False) -> tuple[str, ...]:
    """``torch.NAME`` and ``Tensor.NAME``."""
    return (f"torch.{name}", f"Tensor.{name}")


def _finish(op: Op, inplace: bool, dunder: str | None) -> Op:
    register(op)
    if inplace:
        PUBLIC["Tensor"][op.name + "_"] = inplace_of(op).method
    if dunder:
        _install_operators(op, dunder)
    return op


_OPERATOR = """def operator(self, other):
{guard}    if type(other) in _known or _is_operand(other):
        if _state.handler is _base.handler and _op.run is not None:
            return _op.run(({first}, {second}{rest}))
        return _state.handler(_op, ({first}, {second}{rest}))
    if isinstance(other, _ndarray):
        other = _as_tensor(other)
        return _state.handler(_op, ({first}, {second}{rest}))
    return NotImplemented
"""
_GUARD = """    if type(self) in _numbers:
        raise TypeError(f"descriptor of {_op.name!r} for 'torch.Tensor' objects doesn't apply to a "
                        f"{type(self).__name__!r} object")
"""
_known_operands: set[type] = {int, float, complex, bool}  # exact types met as operands


def _is_operand(value: Any) -> bool:
    """Whether an operator handles ``value`` itself; an operand of a foreign type is Python's to resolve."""
    if isinstance(value, (TensorLike, int, float, complex)) or hasattr(value, "__flambeau_symint__"):
        _known_operands.add(type(value))
        return True
    return hasattr(value, "__array__") and not isinstance(value, np.ndarray)


def _as_tensor(array: Any) -> Any:
    return PUBLIC["torch"]["tensor"](array)


def _install_operators(op: Op, name: str) -> None:
    """``__add__``, ``__radd__`` and ``__iadd__`` in terms of ``op``."""
    rest = "".join(f", {p.default!r}" for p in op.schema.params[2:])
    for prefix, target, operands in (("", op, ("self", "other")), ("r", op, ("other", "self")),
                                     ("i", inplace_of(op), ("self", "other"))):
        text = _OPERATOR.format(first=operands[0], second=operands[1], rest=rest, guard=_GUARD if prefix == "r" else "")
        env: dict[str, Any] = {"_op": target, "_state": state, "_base": base, "_known": _known_operands,
                               "_is_operand": _is_operand, "_ndarray": np.ndarray, "_as_tensor": _as_tensor, "_numbers": _NUMBERS}
        exec(code_of(text), env)  # noqa: S102 - the text above
        fn = env["operator"]
        fn.__name__ = fn.__qualname__ = f"__{prefix}{name}__"
        fn.__module__, fn.__flambeau_pure__ = "flambeau", True
        PUBLIC["Tensor"][fn.__name__] = fn


class Scatter(NamedTuple):
    """How an op adds into places that data decides: ``extra["scatter"]`` of an op whose result starts as its first tensor.

    ``over(*args)`` is the shape of what is added (None: no loops for these arguments); ``element(point, *args)`` gives
    the index into the result and the value for one point of it. Tensors are Sources, as for ``lower``.
    """

    over: Callable[..., Sequence[IndexLike] | None]
    element: Callable[..., tuple[Sequence[Any], Expr]]
    combine: str = "add"


def _given(**facts: Any) -> dict[str, Any]:
    return {name: fact for name, fact in facts.items() if fact}


def pointwise(schema: str, *, kernel: Callable[..., Any], vjp: Any = None, scalar: Scalar | None = None,
              promote: str = "default", decompose: Callable[..., Any] | None = None, samples: Any = None,
              dtypes: str = "f", refuses: str = "", tags: Iterable[str] = (), api: tuple[str, ...] | None = None,
              inplace: bool = True,
              dunder: str | None = None, ufunc: str = "", store: Callable[..., Any] | None = None, doc: str = "") -> Op:
    """An op on corresponding elements of broadcast tensors. Tensor arguments reach ``kernel`` in the computing dtype.

    ``ufunc`` names the NumPy ufunc that equals the kernel when parameters beyond the operands have their defaults;
    ``store(array, ...)`` is the in-place form on arrays (or returns NotImplemented).
    """
    parsed = parse(schema)
    tags = set(tags) | {"out"} | (set() if vjp is not None or decompose is not None else {"nograd"})

    def infer(*args: Any) -> TensorMeta:
        shape = broadcast_shapes(*[x.shape for x in operands(op, args) if hasattr(x, "shape")])
        return TensorMeta(shape, promotion(op, args)[1], common_device(op, args))

    op = Op(parsed.name, parsed, "pointwise", infer, kernel, vjp, scalar=scalar, promote=promote, decompose=decompose,
            samples=samples, tags=frozenset(tags), dtypes=dtypes, refuses=refuses, doc=doc,
            extra=_given(ufunc=ufunc, store=store),
            api=default_api(parsed.name) if api is None else api)
    return _finish(op, inplace, dunder)


def reduction(schema: str, *, kernel: Callable[..., Any], reduce: str, vjp: Any = None, promote: str = "keep",
              samples: Any = None, dtypes: str = "f", refuses: str = "", tags: Iterable[str] = (),
              api: tuple[str, ...] | None = None, doc: str = "") -> Op:
    """An op ``(self, dim, keepdim, ...)`` that combines elements along ``dim``.

    ``dim`` reaches ``kernel`` as it was given (None: all). ``reduce`` names the combination for the loop IR.
    """
    parsed = parse(schema)
    tags = set(tags) | {"out"} | (set() if vjp is not None else {"nograd"})

    def infer(*args: Any) -> TensorMeta:
        shape = reduced_shape(args[0].shape, args[1], args[2])
        return TensorMeta(shape, promotion(op, args)[1], args[0].device)

    op = Op(parsed.name, parsed, "reduction", infer, kernel, vjp, promote=promote, reduce=reduce, samples=samples,
            tags=frozenset(tags), dtypes=dtypes, refuses=refuses, doc=doc,
            api=default_api(parsed.name) if api is None else api)
    return register(op)


def view(schema: str, *, kernel: Callable[..., Any], infer: Callable[..., Any], vjp: Any, samples: Any = None,
         lower: Callable[..., Any] | None = None, write: Callable[..., Any] | None = None, tags: Iterable[str] = (),
         api: tuple[str, ...] | None = None, dtypes: str = "buifc", doc: str = "") -> Op:
    """An op whose result shares the storage of its first argument: ``kernel`` returns a NumPy view.

    ``lower(index, *args)`` maps the indices of the result to those of the input, for the loop IR. ``write(base, value,
    *args)`` (kept in ``extra["write"]``) is, in ops, the base with the part that the view shows replaced by ``value``.
    """
    parsed = parse(schema)
    op = Op(parsed.name, parsed, "view", infer, kernel, vjp, samples=samples, lower=lower,
            tags=frozenset({"view", *tags}), dtypes=dtypes, doc=doc, extra={"write": write},
            api=default_api(parsed.name) if api is None else api)
    return register(op)


def composite(schema: str, decompose: Callable[..., Any], *, kernel: Callable[..., Any] | None = None, vjp: Any = None,
              joint_vjp: Any = None, infer: Callable[..., Any] | None = None, promote: str | None = None,
              samples: Any = None, dtypes: str = "f", refuses: str = "", tags: Iterable[str] = (),
              api: tuple[str, ...] | None = None, inplace: bool = False, collapse: str = "",
              store: Callable[..., Any] | None = None, doc: str = "") -> Op:
    """An op that means its decomposition. A ``kernel`` makes eager faster, a ``vjp`` the backward, ``store`` (on arrays) the
    in-place form; they must agree with it.

    ``collapse`` says how its compiled form in eager mode (``runtime.fused``) may see tensors: "rows" as [leading,
    trailing] (one trailing dimension, or those of ``normalized_shape``), "channels" as [batch, channels, places],
    "static" as they are, a form for each shape; "none": its kernel looks at the data and may refuse them, which no form
    does. Without it the op has a form if it is elementwise.
    """
    parsed = parse(schema)
    op = Op(parsed.name, parsed, "composite", infer, kernel, vjp, joint_vjp, decompose, promote=promote, samples=samples,
            tags=frozenset(tags), dtypes=dtypes, refuses=refuses, doc=doc, extra=_given(collapse=collapse, store=store),
            api=default_api(parsed.name) if api is None else api)
    return _finish(op, inplace, None)


def primitive(schema: str, family: str, *, kernel: Callable[..., Any] | None, infer: Callable[..., Any] | None,
              vjp: Any = None, joint_vjp: Any = None, promote: str | None = None, lower: Callable[..., Any] | None = None,
              decompose: Callable[..., Any] | None = None, samples: Any = None, dtypes: str = "f",
              tags: Iterable[str] = (), api: tuple[str, ...] | None = None, inplace: bool = False, doc: str = "",
              **extra: Any) -> Op:
    """An op of any other family ("contraction", "index", "create", "random", "sort", "scan", ...), with its own rules."""
    parsed = parse(schema)
    tags = set(tags) | (set() if vjp or joint_vjp or decompose else {"nograd"})
    op = Op(parsed.name, parsed, family, infer, kernel, vjp, joint_vjp, decompose, promote=promote, lower=lower,
            samples=samples, tags=frozenset(tags), dtypes=dtypes, doc=doc, extra=extra,
            api=default_api(parsed.name) if api is None else api)
    return _finish(op, inplace, None)


__all__ = ["OPS", "Scalar", "broadcast_shapes", "common_device", "composite", "conj_of", "operands", "ops",
    "pointwise", "primitive",
           "promotion", "reduced_shape", "reduction", "view", "wrap_dim", "wrap_dims"]

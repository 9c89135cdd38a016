"""Contractions: products summed over shared dimensions.

``mm`` and ``bmm`` are the primitives; every other product arranges its operands for them.
"""

from __future__ import annotations

import math
from typing import Any

from .. import dtype as _dtype
from ..family import broadcast_shapes, common_device, composite, conj_of, ops, primitive, promotion, wrap_dim
from ..meta import TensorMeta
from ..op import Op, public, type_name
from ..samples import S, T
from . import einsum as _einsum


def _same_types(op: Op, a: Any, b: Any) -> None:
    if a.dtype is not b.dtype:
        raise RuntimeError(f"{op.name}: expected mat1 and mat2 to have the same dtype, but got {type_name(a.dtype)} and "
                           f"{type_name(b.dtype)}; convert one with .to(dtype)")


def _mm_meta(a: Any, b: Any) -> TensorMeta:
    if a.ndim != 2 or b.ndim != 2:
        raise RuntimeError(f"mm: self and mat2 must be 2-D matrices, but got {a.ndim}-D and {b.ndim}-D")
    if a.shape[1] != b.shape[0]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({a.shape[0]}x{a.shape[1]} and "
                           f"{b.shape[0]}x{b.shape[1]})")
    _same_types(mm, a, b)
    return TensorMeta((a.shape[0], b.shape[1]), promotion(mm, (a, b))[1], common_device(mm, (a, b)))


mm = primitive(
    "mm(Tensor self, Tensor mat2) -> Tensor", "contraction", promote="same", infer=_mm_meta,
    kernel=lambda xp, a, b: xp.matmul(a, b), tags=("amp:lower", "out", "check"), dtypes="ifc",
    vjp=(lambda g, out, a, b: ops.mm(g, conj_of(ops.t(b))), lambda g, out, a, b: ops.mm(conj_of(ops.t(a)), g)),
    samples=lambda: [S(T((3, 4)), T((4, 5))), S(T((3, 4)), T((4, 5), layout="t")), S(T((0, 4)), T((4, 2))),
                     S(T((3, 0)), T((0, 2)))],
    doc="Matrix product. Shapes: [m, k] @ [k, n] -> [m, n]; both of one dtype.")


def _bmm_meta(a: Any, b: Any) -> TensorMeta:
    if a.ndim != 3 or b.ndim != 3:
        raise RuntimeError(f"bmm: batch1 and batch2 must be 3D tensors, but got {a.ndim}-D and {b.ndim}-D")
    if a.shape[0] != b.shape[0] or a.shape[2] != b.shape[1]:
        raise RuntimeError(f"Expected size for first two dimensions of batch2 tensor to be: [{a.shape[0]}, {a.shape[2]}] "
                           f"but got: [{b.shape[0]}, {b.shape[1]}].")
    _same_types(bmm, a, b)
    return TensorMeta((a.shape[0], a.shape[1], b.shape[2]), promotion(bmm, (a, b))[1], common_device(bmm, (a, b)))


def _swap(x: Any) -> Any:
    """The matrices of ``x``, transposed."""
    return ops.transpose(x, -1, -2)


bmm = primitive(
    "bmm(Tensor self, Tensor mat2) -> Tensor", "contraction", promote="same", infer=_bmm_meta,
    kernel=lambda xp, a, b: xp.matmul(a, b), tags=("amp:lower", "out", "check"), dtypes="ifc",
    vjp=(lambda g, out, a, b: ops.bmm(g, conj_of(_swap(b))), lambda g, out, a, b: ops.bmm(conj_of(_swap(a)), g)),
    samples=lambda: [S(T((2, 3, 4)), T((2, 4, 5))), S(T((0, 3, 4)), T((0, 4, 5))), S(T((2, 1, 4)), T((2, 4, 1)))],
    doc="Matrix products of a batch. Shapes: [b, m, k] @ [b, k, n] -> [b, m, n]; both of one dtype.")


# ---- matmul: any number of dimensions -----------------------------------------------------------------------------


def _matmul_meta(a: Any, b: Any) -> TensorMeta:
    if not a.ndim or not b.ndim:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {a.ndim}D and {b.ndim}D")
    rows, cols = a.shape[:-1], b.shape[-1:] if b.ndim > 1 else ()
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        if a.ndim == b.ndim == 1:
            raise RuntimeError(f"inconsistent tensor size, expected tensor [{a.shape[0]}] and src [{inner}] to have the "
                               f"same number of elements, but got {a.shape[0]} and {inner} elements respectively")
        m = math.prod(rows) if b.ndim <= 2 else rows[-1] if rows else 1
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({m}x{a.shape[-1]} and "
                           f"{inner}x{cols[0] if cols else 1})")
    _same_types(matmul, a, b)
    batch = broadcast_shapes(tuple(a.shape[:-2]), tuple(b.shape[:-2]))
    return TensorMeta((*batch, *rows[-1:], *cols), promotion(matmul, (a, b))[1], common_device(matmul, (a, b)))


def _matmul_parts(a: Any, b: Any) -> Any:
    if a.ndim == 1 and b.ndim == 1:
        return ops.sum(a * b, dtype=a.dtype)
    if b.ndim == 1:
        return ops.squeeze(_matmul_parts(a, ops.unsqueeze(b, 1)), -1)
    if a.ndim == 1:
        return ops.squeeze(_matmul_parts(ops.unsqueeze(a, 0), b), -2)
    if b.ndim == 2:
        k, n = b.shape
        flat = a if a.ndim == 2 else ops.reshape(a, (math.prod(a.shape[:-1]), k))
        out = ops.mm(flat, b)
        return out if a.ndim == 2 else ops.reshape(out, (*a.shape[:-1], n))
    return _batched(a, b)


def _batched(a: Any, b: Any) -> Any:
    batch = broadcast_shapes(tuple(a.shape[:-2]), tuple(b.shape[:-2]))
    count = math.prod(batch)
    left = ops.reshape(ops.expand(a, (*batch, *a.shape[-2:])), (count, *a.shape[-2:]))
    right = ops.reshape(ops.expand(b, (*batch, *b.shape[-2:])), (count, *b.shape[-2:]))
    return ops.reshape(ops.bmm(left, right), (*batch, a.shape[-2], b.shape[-1]))


def _matmul_grad_left(g: Any, a_dims: int, b: Any) -> Any:
    if a_dims == 1 and b.ndim == 1:
        return g * conj_of(b)
    if b.ndim == 1:
        return ops.unsqueeze(g, -1) * conj_of(b)
    if a_dims == 1:
        return ops.matmul(ops.unsqueeze(g, -2), conj_of(_swap(b))).squeeze(-2)
    return ops.matmul(g, conj_of(_swap(b)))


def _matmul_grad_right(g: Any, a: Any, b_dims: int) -> Any:
    if a.ndim == 1 and b_dims == 1:
        return g * conj_of(a)
    if b_dims == 1:
        return ops.sum(ops.unsqueeze(g, -1) * conj_of(a), tuple(range(a.ndim - 1)))
    if a.ndim == 1:
        return ops.unsqueeze(conj_of(a), -1) * ops.unsqueeze(g, -2)
    if b_dims == 2 and a.ndim > 2:  # one product instead of a batch of them, summed
        rows = math.prod(a.shape[:-1])
        return ops.mm(conj_of(ops.t(ops.reshape(a, (rows, a.shape[-1])))), ops.reshape(g, (rows, g.shape[-1])))
    return ops.matmul(conj_of(_swap(a)), g)


def _matmul_kernel(xp: Any, a: Any, b: Any) -> Any:
    if b.ndim == 2 and a.ndim > 2 and a.size:  # one large product; NumPy would make a loop of small ones
        return xp.matmul(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])
    return xp.matmul(a, b)


matmul = composite(
    "matmul(Tensor self, Tensor other) -> Tensor", _matmul_parts, kernel=_matmul_kernel, infer=_matmul_meta,
    promote="same", tags=("amp:lower", "out", "check", "by_parts"), dtypes="ifc",
    vjp=(lambda g, out, a, b: _matmul_grad_left(g, a.ndim, b), lambda g, out, a, b: _matmul_grad_right(g, a, b.ndim)),
    samples=lambda: [S(T((4,)), T((4,))), S(T((3, 4)), T((4,))), S(T((4,)), T((4, 5))), S(T((3, 4)), T((4, 5))),
                     S(T((2, 3, 4)), T((4, 5))), S(T((2, 3, 4)), T((2, 4, 5))), S(T((2, 1, 3, 4)), T((5, 4, 2))),
                     S(T((4,)), T((2, 4, 3))), S(T((2, 3, 4)), T((4,))), S(T((3, 4)), T((2, 4, 3)))],
    doc="Matrix product of the last two dimensions, batch dimensions broadcast; 1-D operands are row or column vectors.")


@public("Tensor.__matmul__")
def _matmul_operator(self: Any, other: Any) -> Any:
    return ops.matmul(self, other)


@public("Tensor.__rmatmul__")
def _rmatmul_operator(self: Any, other: Any) -> Any:
    return ops.matmul(other, self)


# ---- linear -------------------------------------------------------------------------------------------------------


def _linear_meta(x: Any, weight: Any, bias: Any) -> TensorMeta:
    k = weight.shape[-1]
    if not x.ndim or x.shape[-1] != k:
        rows = math.prod(x.shape[:-1])
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({rows}x{x.shape[-1] if x.ndim else 1} and "
                           f"{k}x{weight.shape[0]})")
    _same_types(linear, x, weight)
    out = tuple(weight.shape[:-1])
    if bias is not None and tuple(bias.shape) not in (out, (1,)):
        raise RuntimeError(f"linear: bias of shape {list(bias.shape)} does not fit {weight.shape[0]} output features")
    return TensorMeta((*x.shape[:-1], *out), x.dtype, common_device(linear, (x, weight, bias)))


def _linear_parts(x: Any, weight: Any, bias: Any) -> Any:
    out = ops.matmul(x, ops.t(weight))
    return out if bias is None else out + bias


def _linear_kernel(xp: Any, x: Any, weight: Any, bias: Any) -> Any:
    if x.ndim == 2 and weight.ndim == 2:
        out = xp.matmul(x, weight.T)
        if bias is not None:
            out += bias
        return out
    out = xp.matmul(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), weight.T)
    if bias is not None:
        out += bias
    return out.reshape(*x.shape[:-1], *weight.shape[:-1])


linear = composite(
    "linear(Tensor self, Tensor weight, Tensor? bias=None) -> Tensor", _linear_parts, kernel=_linear_kernel,
    infer=_linear_meta, promote="same", api=("nn.functional.linear",), tags=("amp:lower", "check", "by_parts"), dtypes="fc",
    vjp=(lambda g, out, x, w, b: _matmul_grad_left(g, x.ndim, ops.t(w)),
         lambda g, out, x, w, b: _linear_weight_grad(g, x, tuple(w.shape)),
         lambda g, out, x, w, b: g if g.ndim == 1 else ops.sum(g, tuple(range(g.ndim - b.ndim)))),
    samples=lambda: [S(T((3, 4)), T((5, 4)), T((5,))), S(T((2, 3, 4)), T((5, 4))), S(T((4,)), T((5, 4)), T((5,))),
                     S(T((0, 4)), T((5, 4)), T((5,))), S(T((3, 4)), T((4,)))],
    doc="``x @ weight.T + bias``. Shapes: [..., in], [out, in], [out] -> [..., out]; all of one dtype.")


def _linear_weight_grad(g: Any, x: Any, shape: tuple) -> Any:
    if len(shape) == 1:
        return _matmul_grad_right(g, x, 1)
    rows = math.prod(x.shape[:-1])
    return ops.mm(ops.t(ops.reshape(g, (rows, shape[0]))), conj_of(ops.reshape(x, (rows, shape[1]))))


for _op, _provider in ((mm, "matmul"), (bmm, "matmul"), (matmul, "matmul"), (linear, "linear")):
    _op.extra["half"] = _provider  # what eager mode asks for a product in half precision


def _bilinear_parts(x1: Any, x2: Any, weight: Any, bias: Any) -> Any:
    """out[..., o] = x1[..., i] weight[o, i, j] x2[..., j]: one product with x1, one sum with x2."""
    o, i, j = weight.shape
    lead = tuple(x1.shape[:-1])
    rows = math.prod(lead)
    left = ops.reshape(ops.mm(ops.reshape(x1, (rows, i)), ops.reshape(ops.permute(weight, (1, 0, 2)), (i, o * j))),
                       (rows, o, j))
    out = ops.reshape(ops.bmm(left, ops.reshape(x2, (rows, j, 1))), (*lead, o))
    return out if bias is None else out + bias


bilinear = composite(
    "bilinear(Tensor input1, Tensor input2, Tensor weight, Tensor? bias=None) -> Tensor", _bilinear_parts,
    api=("torch.bilinear", "nn.functional.bilinear"),
    tags=("amp:promote@cuda",),
    samples=lambda: [S(T((3, 4)), T((3, 5)), T((2, 4, 5)), T((2,))), S(T((2, 3, 4)), T((2, 3, 2)), T((3, 4, 2)))],
    doc="``x1 weight x2 + bias``. Shapes: [..., i], [..., j], [out, i, j], [out] -> [..., out].")


# ---- products plus a matrix ---------------------------------------------------------------------------------------


def _plus(base: Any, product: Any, beta: Any, alpha: Any) -> Any:
    if product.dtype.is_integral:  # the factors are converted to the integers' dtype
        beta, alpha = int(beta), int(alpha)
    if product.dtype is _dtype.bool_:
        product = product if alpha else ops.logical_and(product, ops.zeros_like(product))
        return ops.logical_or(product, base) if beta else product
    if alpha != 1:
        product = product * alpha
    if beta == 0:  # base is ignored, NaN or not
        return product
    return product + (base if beta == 1 else base * beta)


_MATRICES = lambda: [S(T((3, 5)), T((3, 4)), T((4, 5))), S(T((5,)), T((3, 4)), T((4, 5))),
                     S(T((3, 5)), T((3, 4)), T((4, 5)), beta=0.5, alpha=2.0)]

addmm = composite(
    "addmm(Tensor self, Tensor mat1, Tensor mat2, *, Number beta=1, Number alpha=1) -> Tensor",
    lambda c, a, b, beta, alpha: _plus(c, ops.mm(a, b), beta, alpha), tags=("amp:lower", "out"), inplace=True, samples=_MATRICES,
    doc="``beta * input + alpha * (mat1 @ mat2)``. Shapes: [m, n] (or broadcastable), [m, k], [k, n] -> [m, n].")

baddbmm = composite(
    "baddbmm(Tensor self, Tensor batch1, Tensor batch2, *, Number beta=1, Number alpha=1) -> Tensor",
    lambda c, a, b, beta, alpha: _plus(c, ops.bmm(a, b), beta, alpha), tags=("amp:lower", "out"), inplace=True,
    samples=lambda: [S(T((2, 3, 5)), T((2, 3, 4)), T((2, 4, 5))), S(T((5,)), T((2, 3, 4)), T((2, 4, 5)), beta=2.0)],
    doc="``beta * input + alpha * (batch1 @ batch2)``. Shapes: [b, m, n], [b, m, k], [b, k, n] -> [b, m, n].")

addbmm = composite(
    "addbmm(Tensor self, Tensor batch1, Tensor batch2, *, Number beta=1, Number alpha=1) -> Tensor",
    lambda c, a, b, beta, alpha: _plus(c, ops.sum(ops.bmm(a, b), 0), beta, alpha), tags=("amp:lower", "out"), inplace=True,
    samples=lambda: [S(T((3, 5)), T((2, 3, 4)), T((2, 4, 5)))],
    doc="``beta * input + alpha * sum_b(batch1[b] @ batch2[b])``. Shapes: [m, n], [b, m, k], [b, k, n] -> [m, n].")

addmv = composite(
    "addmv(Tensor self, Tensor mat, Tensor vec, *, Number beta=1, Number alpha=1) -> Tensor",
    lambda c, a, b, beta, alpha: _plus(c, ops.mv(a, b), beta, alpha), tags=("amp:lower@cuda", "out"), inplace=True,
    samples=lambda: [S(T((3,)), T((3, 4)), T((4,))), S(T((3,)), T((3, 4)), T((4,)), alpha=2.0)],
    doc="``beta * input + alpha * (mat @ vec)``. Shapes: [m], [m, k], [k] -> [m].")

addr = composite(
    "addr(Tensor self, Tensor vec1, Tensor vec2, *, Number beta=1, Number alpha=1) -> Tensor",
    lambda c, a, b, beta, alpha: _plus(c, ops.outer(a, b), beta, alpha), tags=("amp:lower@cuda", "out"), inplace=True,
    samples=lambda: [S(T((3, 4)), T((3,)), T((4,)), beta=0.5)],
    doc="``beta * input + alpha * outer(vec1, vec2)``. Shapes: [m, n], [m], [n] -> [m, n].")


# ---- vectors ------------------------------------------------------------------------------------------------------


def _needs_dims(name: str, *wanted: tuple[Any, int]) -> None:
    for x, ndim in wanted:
        if x.ndim != ndim:
            raise RuntimeError(f"{name}: expected {ndim}-D argument, but got {x.ndim}-D")


def _mv_parts(a: Any, b: Any) -> Any:
    _needs_dims("mv", (a, 2), (b, 1))
    return ops.matmul(a, b)


def _dot_parts(a: Any, b: Any) -> Any:
    if a.ndim != 1 or b.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {a.ndim}D and {b.ndim}D tensors")
    return ops.matmul(a, b)


def _outer_parts(a: Any, b: Any) -> Any:
    _needs_dims("outer", (a, 1), (b, 1))
    return ops.unsqueeze(a, 1) * b


mv = composite("mv(Tensor self, Tensor vec) -> Tensor", _mv_parts, tags=("amp:lower@cuda", "out"), dtypes="ifc",
               samples=lambda: [S(T((3, 4)), T((4,)))], doc="Matrix-vector product. Shapes: [m, k], [k] -> [m].")
dot = composite("dot(Tensor self, Tensor tensor) -> Tensor", _dot_parts, tags=("amp:promote@cuda", "out"), dtypes="ifc",
                samples=lambda: [S(T((4,)), T((4,)))], doc="Inner product of two vectors. Shapes: [k], [k] -> [].")
vdot = composite("vdot(Tensor self, Tensor other) -> Tensor", lambda a, b: _dot_parts(conj_of(a), b), dtypes="ifc",
                 tags=("amp:promote@cuda", "out"), samples=lambda: [S(T((4,)), T((4,)))],
                 doc="Inner product of two vectors, the first conjugated. Shapes: [k], [k] -> [].")
outer = composite("outer(Tensor self, Tensor vec2) -> Tensor", _outer_parts, tags=("out",), dtypes="ifc",
                  api=("torch.outer", "Tensor.outer", "torch.ger", "Tensor.ger"),
                  samples=lambda: [S(T((4,)), T((3,)))], doc="Outer product of two vectors. Shapes: [m], [n] -> [m, n].")


def _inner_parts(a: Any, b: Any) -> Any:
    if not a.ndim or not b.ndim:
        return a * b
    return ops.tensordot(a, b, [[-1], [-1]])


inner = composite("inner(Tensor self, Tensor other) -> Tensor", _inner_parts, tags=("out",), dtypes="ifc",
                  samples=lambda: [S(T((4,)), T((4,))), S(T((2, 4)), T((3, 4)))],
                  doc="Products summed over the last dimensions. Shapes: [*a, k], [*b, k] -> [*a, *b].")


# ---- any pairing of dimensions ------------------------------------------------------------------------------------


def _tensordot_parts(a: Any, b: Any, dims: Any) -> Any:
    if isinstance(dims, int):
        if dims > min(a.ndim, b.ndim):
            raise RuntimeError(f"tensordot: dims={dims} is more than the {min(a.ndim, b.ndim)} dimensions of an argument")
        left, right = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        left, right = [wrap_dim(d, a.ndim) for d in dims[0]], [wrap_dim(d, b.ndim) for d in dims[1]]
    if len(left) != len(right):
        raise RuntimeError(f"both dimension lists should have same length, got {left} and {right}")
    for i, j in zip(left, right):
        if a.shape[i] == 1 and b.shape[j] != 1:  # as if repeated
            b = ops.cast(ops.sum(b, (j,), True), b.dtype)
        elif b.shape[j] == 1 and a.shape[i] != 1:
            a = ops.cast(ops.sum(a, (i,), True), a.dtype)
        elif a.shape[i] != b.shape[j]:
            raise RuntimeError(f"contracted dimensions need to match, but first has size {a.shape[i]} in dim {i} and "
                               f"second has size {b.shape[j]} in dim {j}")
    rows = [i for i in range(a.ndim) if i not in left]
    cols = [i for i in range(b.ndim) if i not in right]
    inner_size = math.prod(a.shape[i] for i in left)
    row_shape, col_shape = [a.shape[i] for i in rows], [b.shape[i] for i in cols]
    x = ops.reshape(ops.permute(a, (*rows, *left)), (math.prod(row_shape), inner_size))
    y = ops.reshape(ops.permute(b, (*right, *cols)), (inner_size, math.prod(col_shape)))
    return ops.reshape(ops.mm(x, y), (*row_shape, *col_shape))


tensordot = composite(
    "tensordot(Tensor a, Tensor b, any dims=2) -> Tensor", _tensordot_parts,
    tags=("amp:through", "out"), api=("torch.tensordot",),
    samples=lambda: [S(T((2, 3, 4)), T((3, 4, 5))), S(T((2, 3)), T((3, 4)), 1), S(T((2,)), T((3,)), 0),
                     S(T((2, 3, 4)), T((4, 2, 5)), [[0, 2], [1, 0]])],
    doc="Products summed over pairs of dimensions: the last and first ``dims``, or two lists of dimensions.")

einsum = composite(
    "einsum(str equation, Tensor[] operands) -> Tensor", _einsum.decompose, api=(),
    tags=("amp:through",),
    samples=lambda: [S("ij,jk->ik", [T((2, 3)), T((3, 4))]), S("bij,bjk->bik", [T((2, 3, 4)), T((2, 4, 5))]),
                     S("ij->ji", [T((2, 3))]), S("ii->i", [T((3, 3))]), S("ii", [T((3, 3))]), S("i,j->ij", [T((2,)), T((3,))]),
                     S("...ij,...jk->...ik", [T((2, 3, 4)), T((4, 5))]), S("bhqd,bhkd->bhqk", [T((1, 2, 3, 4)), T((1, 2, 5, 4))]),
                     S("ij,j,ik->k", [T((2, 3)), T((3,)), T((2, 4))]), S("ij", [T((2, 3))]), S("ij->", [T((2, 3))])],
    doc="Sums of products named by index letters, as pairwise batched matrix products.")


@public("torch.einsum")
def einsum_call(equation: Any, *operands: Any) -> Any:
    """``einsum("bij,bjk->bik", x, y)``; also ``einsum(x, [0, 1], y, [1, 2], [0, 2])``, and the operands as one list."""
    if not isinstance(equation, str):
        equation, operands = _einsum.equation_of((equation, *operands))
    elif len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    return ops.einsum(equation, list(operands))


@public("torch.chain_matmul")
def chain_matmul(*matrices: Any, out: Any = None) -> Any:
    """The product of 2-D matrices, in the order that needs the fewest multiplications."""
    result = _chain(list(matrices), _cheapest_splits([m.shape for m in matrices]), 0, len(matrices) - 1)
    return result if out is None else out.copy_(result)


def _cheapest_splits(shapes: list[Any]) -> dict[tuple[int, int], int]:
    """Where to split each run (first, last) of matrices: the classic dynamic programme."""
    n = len(shapes)
    cost = {(i, i): 0 for i in range(n)}
    split: dict[tuple[int, int], int] = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            options = [(cost[i, k] + cost[k + 1, j] + shapes[i][0] * shapes[k][1] * shapes[j][1], k) for k in range(i, j)]
            cost[i, j], split[i, j] = min(options)
    return split


def _chain(matrices: list[Any], split: dict[tuple[int, int], int], i: int, j: int) -> Any:
    if i == j:
        return matrices[i]
    k = split[i, j]
    return ops.mm(_chain(matrices, split, i, k), _chain(matrices, split, k + 1, j))


def _kron_parts(a: Any, b: Any) -> Any:
    n = max(a.ndim, b.ndim)
    left, right = (1,) * (n - a.ndim) + tuple(a.shape), (1,) * (n - b.ndim) + tuple(b.shape)
    x = ops.reshape(a, tuple(s for size in left for s in (size, 1)))
    y = ops.reshape(b, tuple(s for size in right for s in (1, size)))
    return ops.reshape(x * y, tuple(p * q for p, q in zip(left, right)))


kron = composite("kron(Tensor self, Tensor other) -> Tensor", _kron_parts, dtypes="ifc", tags=("out",),
                 samples=lambda: [S(T((2, 2)), T((3, 4))), S(T((2,)), T((2, 3)))],
                 doc="Kronecker product. Shapes: [a0, a1...], [b0, b1...] -> [a0*b0, a1*b1...].")

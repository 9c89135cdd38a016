"""Contractions: products summed over shared dimensions."""

from __future__ import annotations

from typing import Any

from ..family import common_device, conj_of, ops, primitive, promotion
from ..meta import TensorMeta
from ..samples import S, T


def _mm_meta(a: Any, b: Any) -> TensorMeta:
    if a.ndim != 2 or b.ndim != 2:
        raise RuntimeError(f"mm: self and mat2 must be 2-D matrices, but got {a.ndim}-D and {b.ndim}-D")
    if a.shape[1] != b.shape[0]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({a.shape[0]}x{a.shape[1]} and "
                           f"{b.shape[0]}x{b.shape[1]})")
    return TensorMeta((a.shape[0], b.shape[1]), promotion(mm, (a, b))[1], common_device(mm, (a, b)))


mm = primitive(
    "mm(Tensor self, Tensor mat2) -> Tensor", "contraction", promote="same", infer=_mm_meta,
    kernel=lambda xp, a, b: xp.matmul(a, b), tags=("out",), dtypes="ifc",
    vjp=(lambda g, out, a, b: ops.mm(g, conj_of(ops.t(b))), lambda g, out, a, b: ops.mm(conj_of(ops.t(a)), g)),
    samples=lambda: [S(T((3, 4)), T((4, 5))), S(T((3, 4)), T((4, 5), layout="t")), S(T((0, 4)), T((4, 2)))])

"""Every op beside PyTorch's function of the same name: values, dtypes and gradients over the op's samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sampling import _Array, arrays, cases, outputs, sampled_ops

from flambeau.ir.dtype import ALL
from flambeau.ir.op import OPS, Op, call
from flambeau.ir.tree import leaves, tree_map
from flambeau.runtime.tensor import wrap

#: PyTorch's dtypes by our names
DTYPES = {dtype.name: getattr(torch, dtype.name) for dtype in ALL}

#: what our op is called there, or how it is spelt: only for ops whose schema is not that of a public function
SPELLING: dict[str, Any] = {
    "cast": lambda x, dtype: x.to(dtype),
    "copy": lambda x, src, nb: x.clone().copy_(src),
    "t": torch.t,
    "expand": lambda x, size: x.expand(size),
    "view": lambda x, size: x.view(size),
    "permute": torch.permute,
    "slice": lambda x, d, a, b, step: torch.ops.aten.slice(x, d, a, b, step),
    "alias": torch.ops.aten.alias,
    "contiguous": lambda x, mf: x.contiguous(),
    "unfold": lambda x, d, n, s: x.unfold(d, n, s),
    "view_dtype": lambda x, dtype: x.view(dtype),
    "detach": lambda x: x.detach(),
    "sum_to_size": lambda x, size: x.sum_to_size(size),
    "trunc_divide": lambda x, y: torch.div(x, y, rounding_mode="trunc"),
    "max_dim": lambda x, d, k: torch.max(x, d, k),
    "min_dim": lambda x, d, k: torch.min(x, d, k),
    "vector_norm": lambda x, o, d, k, dtype: torch.linalg.vector_norm(x, o, d, k, dtype=dtype),
    "var": lambda x, d, k, c: torch.var(x, d, correction=c, keepdim=k),
    "std": lambda x, d, k, c: torch.std(x, d, correction=c, keepdim=k),
    "i1": torch.special.i1,
    "scatter_src": lambda x, d, i, s: torch.scatter(x, d, i, s),
    "index": lambda x, i: torch.ops.aten.index(x, i),
    "index_put": lambda x, i, v, acc: (
        torch.index_put(x, tuple(i) if None not in i else i, v, acc)
        if None not in i
        else torch.ops.aten.index_put(x, i, v, acc)
    ),
    "roll": torch.roll,
    "repeat": lambda x, r: x.repeat(r),
    "put": lambda x, i, s, a: x.put(i, s, a),
    "linspace": lambda a, b, n, dtype, device: torch.linspace(a, b, n, dtype=dtype),
    "arange": lambda a, b, s, dtype, device: torch.arange(a, b, s, dtype=dtype),
    "eye": lambda n, m, dtype, device: torch.eye(n, n if m is None else m, dtype=dtype),
    "full": lambda size, v, dtype, device: torch.full(size, v, dtype=dtype),
    "constant": lambda v, dtype, device: torch.tensor(v, dtype=dtype),
    "fill": torch.fill,
    "zero": torch.zeros_like,
    "diff": torch.diff,
    "embedding": lambda w, i, p: torch.embedding(w, i, p),
    "sort": lambda x, d, desc, stable: torch.sort(x, dim=d, descending=desc, stable=stable),
    "searchsorted": lambda a, v, o, r, s: torch.searchsorted(a, v, out_int32=o, right=r, side=s),
    "unique": lambda x, d: torch.unique(x, return_inverse=True, return_counts=True, dim=d),
    "unique_consecutive": lambda x, d: torch.unique_consecutive(x, return_inverse=True, return_counts=True, dim=d),
    "to_device": lambda x, device, nb: x.to(device),
    "complex": torch.complex,
    "clone": lambda x, mf: x.clone(),
    "repeat_counts": lambda r: torch.repeat_interleave(r),
}
#: ops of our own that PyTorch has no function for; their meaning is their decomposition, or another op's gradient
OURS = {"place", "masked_scatter_source", "view_scatter", "overwrite", "windows"}
#: what PyTorch itself computes by a short series, or in an order in which the terms cancel: how far it is off
APPROXIMATE = {"_dirichlet_grad": 2e-3, "_standard_gamma_grad": 2e-4, "chebyshev_polynomial_t": 1.0}
#: gradients that jump where a quotient is rounded to half precision
ROUNDED_QUOTIENT = {"fmod", "remainder"}


def _reference(op: Op) -> Any:
    """PyTorch's function for an op, taking all arguments in our schema's order; None where there is none."""
    if op.name in SPELLING:
        return _positional(SPELLING[op.name])
    for target in op.api:
        space, _, name = target.rpartition(".")
        home = {
            "torch": torch,
            "Tensor": torch.Tensor,
            "nn.functional": torch.nn.functional,
            "linalg": torch.linalg,
            "special": torch.special,
        }.get(space)
        found = getattr(home, name, None)
        if found is not None:
            return _by_name(op, found)
    found = getattr(torch, op.name, None)
    return None if found is None else _by_name(op, found)


def _positional(fn: Any) -> Any:
    return lambda args: fn(*_trimmed(fn, args))


def _trimmed(fn: Any, args: tuple) -> tuple:
    return args if hasattr(fn, "__code__") else tuple(a for a in args if a is not None)


def _by_name(op: Op, fn: Any) -> Any:
    params = op.schema.params

    def run(args: tuple) -> Any:
        positional = [a for p, a in zip(params, args) if not p.kwonly]
        while (
            positional
            and positional[-1] is params[len(positional) - 1].default
            and not isinstance(positional[-1], torch.Tensor)
        ):
            positional.pop()
        named = {
            p.name: a
            for p, a in zip(params, args)
            if p.kwonly and a is not None and p.name not in ("device",) and a != p.default
        }
        return fn(*positional, **named)

    return run


def _theirs(value: Any, grad: bool, wanted: bool) -> torch.Tensor:
    array = value.array
    if array.dtype.kind not in "biufc":
        t = torch.from_numpy(array.astype("f4")).to(torch.bfloat16)
    else:
        t = torch.from_numpy(np.array(array))
    if array.ndim > 1 and not array.flags.c_contiguous and array.size:
        t = t.t().contiguous().t() if array.ndim == 2 else t
    return t.requires_grad_() if grad and wanted and value.grad and (t.is_floating_point() or t.is_complex()) else t


def _call_both(op: Op, reference: Any, i: int, sample: Any, dtype: Any) -> tuple[Any, Any, list, list]:
    values = arrays(op, i, sample, dtype)
    wanted = "nograd" not in op.tags

    def mine(v: Any) -> Any:
        if not isinstance(v, _Array):
            return v
        t = wrap(v.array.copy("K"))
        return t.requires_grad_() if wanted and v.grad and t.dtype.differentiable else t

    ours = tree_map(mine, values)
    peer = tree_map(
        lambda v: (
            _theirs(v, True, wanted) if isinstance(v, _Array) else DTYPES[v.name] if type(v).__name__ == "DType" else v
        ),
        values,
    )
    pairs = [(a, b) for a, b in zip(leaves(ours), leaves(peer)) if isinstance(b, torch.Tensor) and b.requires_grad]
    return call(op, ours), reference(peer), [a for a, _ in pairs], [b for _, b in pairs]


def _plain(t: Any) -> np.ndarray:
    if isinstance(t, torch.Tensor):
        t = t.detach()
        return (t.float() if t.dtype in (torch.bfloat16, torch.float16) else t).resolve_conj().numpy(force=True)
    array = t.detach().numpy()
    return array.astype("f4") if array.dtype.itemsize == 2 and array.dtype.kind not in "iu" else array


_TOLERANCE = {"float16": (4e-3, 4e-3), "bfloat16": (3e-2, 3e-2), "float32": (3e-5, 3e-6), "complex64": (5e-5, 1e-5)}


def _same(got: Any, want: Any, dtype: Any, what: str) -> None:
    assert str(got.dtype) == str(want.dtype), f"{what}: dtype {got.dtype}, theirs {want.dtype}"
    assert tuple(got.shape) == tuple(want.shape), f"{what}: shape {tuple(got.shape)}, theirs {tuple(want.shape)}"
    rtol, atol = max(_TOLERANCE.get(name, (1e-8, 1e-10)) for name in (dtype.name, got.dtype.name))
    rtol = max(rtol, APPROXIMATE.get(what.partition(" ")[0], 0.0))
    if what.endswith("gradient") and dtype.name in ("float16", "bfloat16"):
        rtol, atol = 3 * rtol, 3 * atol  # several roundings
    np.testing.assert_allclose(_plain(got), _plain(want), rtol=rtol, atol=atol, equal_nan=True, err_msg=what)


@pytest.mark.parametrize("name", [n for n in sampled_ops() if n not in OURS])
def test_values_and_gradients(name: str) -> None:
    op = OPS[name]
    reference = _reference(op)
    if reference is None:
        pytest.skip("no function of this name")
    for i, sample, dtype in cases(name):
        try:
            got, want, ours, theirs = _call_both(op, reference, i, sample, dtype)
        except (RuntimeError, NotImplementedError, TypeError) as error:
            if "not implemented for" in str(error) or "not supported" in str(error) or "does not support" in str(error):
                continue  # PyTorch lacks the op for this dtype
            raise
        got, want = outputs(got), [x for x in (want if isinstance(want, (tuple, list)) else (want,)) if x is not None]
        what = f"{name} sample {i} {dtype}"
        for a, b in zip(got, want, strict=True):
            _same(a, b, dtype, what)
        if not (name in ROUNDED_QUOTIENT and dtype.itemsize == 2):
            _compare_gradients(got, want, ours, theirs, dtype, what)


def _compare_gradients(got: list, want: list, ours: list, theirs: list, dtype: Any, what: str) -> None:
    pairs = [(a, b) for a, b in zip(got, want) if b.requires_grad]
    if not pairs or not theirs:
        return
    assert all(a.requires_grad for a, _ in pairs), f"{what}: our result does not require grad"
    rng = np.random.default_rng(7)
    for a, b in pairs:
        w = rng.uniform(0.5, 1.5, tuple(b.shape))
        weight = torch.as_tensor(w).to(b.dtype)
        try:
            b.backward(weight, retain_graph=True)
        except (RuntimeError, NotImplementedError) as error:
            if "not implemented" in str(error) or "modified by an inplace operation" in str(error):
                return  # PyTorch has no derivative (for this dtype), or spoils it itself
            raise
        array = weight.float().numpy() if b.dtype in (torch.bfloat16, torch.float16) else weight.numpy()
        a.backward(wrap(np.asarray(array).astype(a.dtype.np)), retain_graph=True)
    for a, b in zip(ours, theirs):
        if b.grad is None:
            assert a.grad is None or not np.any(_plain(a.grad)), f"{what}: theirs has no gradient"
            continue
        assert a.grad is not None, f"{what}: no gradient"
        _same(a.grad, b.grad, dtype, f"{what}, gradient")

"""Random programs of views, in-place ops, mixed dtypes and gradients: flambeau and PyTorch agree step by step.

A program is a list of small integers, so that hypothesis can shrink it: each step picks an op, the tensors it works on,
and its numbers. Every step must give the same values, dtype, shape, strides and version, the same sharing of memory, or
the same type of exception.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flambeau

DTYPES = ("float32", "float64", "int64", "int32", "uint8", "bool", "bfloat16", "complex64")
EXAMPLES = 700  # of each of the three properties
RUN = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
               suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
SIZES = st.lists(st.integers(0, 4), max_size=4)
NUMBERS = st.tuples(*[st.integers(-3, 7)] * 4)


def steps_of(table: dict[str, Any], most: int) -> st.SearchStrategy[Any]:
    return st.lists(st.tuples(st.sampled_from(sorted(table)), st.integers(0, 9), st.integers(0, 9), NUMBERS), min_size=1,
                    max_size=most)


def start(m: Any, size: list[int], dtype: str) -> Any:
    """The same numbers in both: small, so that no dtype overflows in a few steps."""
    count = int(np.prod(size, dtype=int))
    numbers = m.arange(count, dtype=m.int64) * 7 % 11 - (0 if dtype in ("uint8", "bool") else 4)
    return numbers.to(getattr(m, dtype)).reshape(size)


def _dim(x: Any, n: int) -> int:
    return n % max(x.dim(), 1) if n >= 0 else n


VIEWS = {
    "transpose": lambda m, x, y, n: x.transpose(_dim(x, n[0]), _dim(x, n[1])),
    "t": lambda m, x, y, n: x.mT if n[0] % 2 and x.dim() > 1 else x.t(),
    "permute": lambda m, x, y, n: x.permute(sorted(range(x.dim()), key=lambda d: (d * (2 * n[0] + 1)) % (x.dim() + 2))),
    "slice": lambda m, x, y, n: x[n[0]:n[1]:abs(n[2]) + 1],
    "slice_last": lambda m, x, y, n: x[..., n[0]:n[1]],
    "select": lambda m, x, y, n: x.select(_dim(x, n[0]), n[1]),
    "index": lambda m, x, y, n: x[n[0]],
    "narrow": lambda m, x, y, n: x.narrow(_dim(x, n[0]), n[1], n[2]),
    "unsqueeze": lambda m, x, y, n: x.unsqueeze(n[0]) if x.dim() < 6 else x,
    "squeeze": lambda m, x, y, n: x.squeeze() if n[0] % 2 else x.squeeze(_dim(x, n[1])),
    "expand": lambda m, x, y, n: x.expand(abs(n[0]), *x.shape) if x.dim() < 6 else x,
    "expand_as": lambda m, x, y, n: x.expand_as(y),
    "view": lambda m, x, y, n: x.view(-1),
    "view_two": lambda m, x, y, n: x.view(abs(n[0]) + 1, -1),
    "reshape": lambda m, x, y, n: x.reshape(-1, abs(n[0]) + 1),
    "flatten": lambda m, x, y, n: x.flatten(_dim(x, n[0]), _dim(x, n[1])),
    "unflatten": lambda m, x, y, n: x.unflatten(_dim(x, n[0]), (-1, abs(n[1]) + 1)),
    "diagonal": lambda m, x, y, n: x.diagonal(n[0], 0, -1),
    "unfold": lambda m, x, y, n: x.unfold(_dim(x, n[0]), abs(n[1]), abs(n[1]) + abs(n[2])),
    "movedim": lambda m, x, y, n: x.movedim(_dim(x, n[0]), _dim(x, n[1])),
    "chunk": lambda m, x, y, n: x.chunk(abs(n[0]) + 1, _dim(x, n[1]))[0],
    "split": lambda m, x, y, n: x.split(n[0], _dim(x, n[1]))[-1],
    "unbind": lambda m, x, y, n: x.unbind(_dim(x, n[0]))[n[1]],
    "real": lambda m, x, y, n: m.view_as_real(x) if x.is_complex() else x.real,
    "detach": lambda m, x, y, n: x.detach(),
    "swapaxes": lambda m, x, y, n: x.swapaxes(_dim(x, n[0]), _dim(x, n[1])),
    "as_strided": lambda m, x, y, n: x.as_strided((abs(n[0]), 2), (2, 1), abs(n[1])),
}
WRITES = {
    "add_": lambda m, x, y, n: x.add_(n[0]),
    "add_tensor_": lambda m, x, y, n: x.add_(y, alpha=n[0]) if x is not y else x.add_(1),
    "mul_": lambda m, x, y, n: x.mul_(n[0]),
    "sub_tensor_": lambda m, x, y, n: x.sub_(y) if x.numel() < 5000 else x,
    "div_": lambda m, x, y, n: x.div_(2),
    "copy_": lambda m, x, y, n: x.copy_(y),
    "fill_": lambda m, x, y, n: x.fill_(n[0]),
    "zero_": lambda m, x, y, n: x.zero_(),
    "clamp_": lambda m, x, y, n: x.clamp_(n[0], n[1]),
    "neg_": lambda m, x, y, n: x.neg_(),
    "abs_": lambda m, x, y, n: x.abs_(),
    "masked_fill_": lambda m, x, y, n: x.masked_fill_(x == x, n[0]),
    "setitem": lambda m, x, y, n: x.__setitem__(n[0], n[1]),
    "setslice": lambda m, x, y, n: x.__setitem__(slice(n[0], n[1]), n[2]),
    "setmask": lambda m, x, y, n: x.__setitem__(x == n[0], n[1]),
    "t_": lambda m, x, y, n: x.t_(),
    "unsqueeze_": lambda m, x, y, n: x.unsqueeze_(n[0]) if x.dim() < 6 else x,
    "squeeze_": lambda m, x, y, n: x.squeeze_(),
    "iadd": lambda m, x, y, n: x.__iadd__(y),
    "logical_not_": lambda m, x, y, n: x.logical_not_(),
    "index_fill_": lambda m, x, y, n: x if not x.numel() else x.index_fill_(_dim(x, n[0]), m.tensor([0]), n[1]),
    "tril_": lambda m, x, y, n: x.tril_(n[0]),
}
COMPUTES = {
    "add": lambda m, x, y, n: x + y,
    "sub": lambda m, x, y, n: x - n[0],
    "mul": lambda m, x, y, n: x * y,
    "mul_float": lambda m, x, y, n: x * 0.5,
    "true_div": lambda m, x, y, n: x / (y * y + 1),
    "floor_div": lambda m, x, y, n: x // (abs(n[0]) + 1),
    "remainder": lambda m, x, y, n: x % (abs(n[0]) + 2),
    "eq": lambda m, x, y, n: x == y,
    "lt": lambda m, x, y, n: x < y,
    "where": lambda m, x, y, n: m.where(x > n[0], x, y),
    "maximum": lambda m, x, y, n: m.maximum(x, y),
    "and": lambda m, x, y, n: x & y,
    "shift": lambda m, x, y, n: x << 1,
    "neg": lambda m, x, y, n: -x,
    "square": lambda m, x, y, n: x.square(),
    "sum": lambda m, x, y, n: x.sum(_dim(x, n[0]), keepdim=n[1] > 0),
    "sum_all": lambda m, x, y, n: x.sum(),
    "mean": lambda m, x, y, n: x.mean(),
    "amax": lambda m, x, y, n: x if x.is_complex() else x.amax(_dim(x, n[0])),
    "prod": lambda m, x, y, n: (x % 3).prod(_dim(x, n[0])),
    "any": lambda m, x, y, n: x.any(_dim(x, n[0])),
    "cumsum": lambda m, x, y, n: x.cumsum(_dim(x, n[0])),
    "cat": lambda m, x, y, n: m.cat([x, y], _dim(x, abs(n[0]))),
    "stack": lambda m, x, y, n: m.stack([x, x], n[0]) if x.dim() < 6 else x,
    "clone": lambda m, x, y, n: x.clone(),
    "contiguous": lambda m, x, y, n: x.contiguous(),
    "to": lambda m, x, y, n: x.to(getattr(m, DTYPES[n[0] % len(DTYPES)])),
    "matmul": lambda m, x, y, n: x @ y if x.numel() and y.numel() and x.dtype != m.bool else x,
    "take": lambda m, x, y, n: x[m.tensor([0, -1])],
    "flip": lambda m, x, y, n: x.flip(_dim(x, n[0])),
    "roll": lambda m, x, y, n: x.roll(n[0], _dim(x, n[1])) if x.numel() else x,
    "zeros_like": lambda m, x, y, n: m.zeros_like(x),
    "full_like": lambda m, x, y, n: m.full_like(x, n[0]),
    "repeat": lambda m, x, y, n: x.repeat(*[1] * x.dim(), 2) if x.numel() < 5000 else x,
    "masked_select": lambda m, x, y, n: x[x > n[0]],
}
_SMOOTH = ("sub", "mul", "mul_float", "true_div", "neg", "square", "sum", "mean", "cumsum", "cat", "stack", "clone", "contiguous",
           "matmul", "take", "flip", "roll", "repeat", "add", "where")
_DIFFERENTIABLE = {**{k: v for k, v in VIEWS.items() if k not in ("as_strided", "detach", "expand_as")},
                   **{k: COMPUTES[k] for k in _SMOOTH},
                   **{k: WRITES[k] for k in ("add_", "mul_", "copy_", "fill_", "neg_", "setitem", "masked_fill_",
                                             "add_tensor_", "zero_", "clamp_")}}


class Program:
    """One library's side of a program: the tensors so far."""

    def __init__(self, m: Any, size: list[int], dtypes: tuple[str, ...], grad: bool = False) -> None:
        self.m, self.pool, self.leaves = m, [], []
        for dtype in dtypes:
            x = start(m, size, dtype)
            if grad:
                self.leaves.append(x.requires_grad_())
                x = x * 1
            self.pool.append(x)

    def step(self, op: Any, a: int, b: int, numbers: tuple[int, ...]) -> tuple[str, ...]:
        """Perform a step; the names of the classes of what was raised, if anything was."""
        x, y = self.pool[a % len(self.pool)], self.pool[b % len(self.pool)]
        try:
            made = op(self.m, x, y, numbers)
        except Exception as error:
            return tuple(kind.__name__ for kind in type(error).__mro__)
        if made is not None and not any(made is t for t in self.pool):
            self.pool.append(made)
        return ()


def numbers_of(t: Any) -> np.ndarray:
    t = t.detach()
    t = t.float() if str(t.dtype) == "torch.bfloat16" else t
    return np.asarray(t.resolve_conj().numpy() if isinstance(t, torch.Tensor) else t.numpy())


def agree(ours: Any, theirs: Any, where: str, strides: bool = True) -> None:
    assert str(ours.dtype) == str(theirs.dtype), where
    assert tuple(ours.shape) == tuple(theirs.shape), where
    if strides and theirs.numel():
        assert [s for s, n in zip(ours.stride(), ours.shape) if n > 1] == \
            [s for s, n in zip(theirs.stride(), theirs.shape) if n > 1], where
    loose = {"torch.bfloat16": 2e-2, "torch.float32": 1e-5, "torch.complex64": 1e-5}.get(str(theirs.dtype), 1e-12)
    np.testing.assert_allclose(numbers_of(ours), numbers_of(theirs), rtol=loose, atol=loose, err_msg=where)


VIEWS_AND_WRITES = {**VIEWS, **WRITES}  # what an op computes may lie in memory in another order than PyTorch's


def run(table: dict[str, Any], size: list[int], dtypes: tuple[str, ...], steps: list[Any], grad: bool = False) -> None:
    ours, theirs = Program(flambeau, size, dtypes, grad), Program(torch, size, dtypes, grad)
    for k, (name, a, b, numbers) in enumerate(steps):
        where = f"step {k}: {name} of {a % len(ours.pool)}, {b % len(ours.pool)}, {numbers}"
        got, want = ours.step(table[name], a, b, numbers), theirs.step(table[name], a, b, numbers)
        assert got[:1] == want[:1] or want and want[0] in got, f"{where}: raises {got or 'nothing'}, not {want or 'nothing'}"
        if want and name in WRITES:
            return  # what a write that was refused half-way leaves behind is nobody's promise
        assert len(ours.pool) == len(theirs.pool), where
        for i, (x, y) in enumerate(zip(ours.pool, theirs.pool)):
            agree(x, y, f"{where}: tensor {i}", strides=table is VIEWS_AND_WRITES)
            assert table is not VIEWS_AND_WRITES or x._version == y._version, f"{where}: version of tensor {i}"
            tape = _tape(y)
            if tape is None:
                return
            assert _tape(x) == tape, f"{where}: tape of tensor {i}"
    if grad:
        _agree_on_gradients(ours, theirs)


def _tape(t: Any) -> tuple[bool, bool] | None:
    """Whether a tensor requires grad, and is a leaf; None where a write has made that a forbidden question."""
    try:
        return t.requires_grad, t.is_leaf
    except RuntimeError:
        return None


def _agree_on_gradients(ours: Program, theirs: Program) -> None:
    found = []
    for side in (ours, theirs):
        roots = [x.sum() for x in side.pool if x.requires_grad]
        try:
            found.append([None if g is None else g for g in side.m.autograd.grad(roots, side.leaves, allow_unused=True)])
        except RuntimeError as error:
            found.append(type(error).__name__)
    got, want = found
    assert isinstance(got, str) == isinstance(want, str), (got, want)
    if isinstance(want, str):
        return
    for k, (g, w) in enumerate(zip(got, want)):
        assert (g is None) == (w is None), f"gradient {k}"
        if w is not None:
            agree(g, w, f"gradient {k}", strides=False)


@RUN
@given(SIZES, st.sampled_from(DTYPES), st.sampled_from(DTYPES), steps_of(VIEWS_AND_WRITES, 8))
def test_views_and_writes(size: list[int], first: str, second: str, steps: list[Any]) -> None:
    run(VIEWS_AND_WRITES, size, (first, second), steps)


@RUN
@given(SIZES, st.sampled_from(DTYPES), st.sampled_from(DTYPES), steps_of({**VIEWS, **COMPUTES}, 6))
def test_views_and_results(size: list[int], first: str, second: str, steps: list[Any]) -> None:
    run({**VIEWS, **COMPUTES}, size, (first, second), steps)


@RUN
@given(SIZES, steps_of(_DIFFERENTIABLE, 7))
@pytest.mark.filterwarnings("ignore")
def test_gradients_through_views_and_writes(size: list[int], steps: list[Any]) -> None:
    run(_DIFFERENTIABLE, size, ("float64", "float64"), steps, grad=True)


@pytest.mark.parametrize("key", [(slice(None), [1, 0]), ([1, 0],), (slice(None), slice(None), [1, 0, 1]), (slice(1, 2), [0, 1]),
                                 (slice(None), [[0, 1], [1, 0]])], ids=str)
def test_what_is_gathered_of_a_row_major_tensor_is_row_major(key: tuple[Any, ...]) -> None:
    ours, theirs = (m.arange(24.0).reshape(3, 4, 2) for m in (flambeau, torch))
    agree(ours[key], theirs[key], str(key))

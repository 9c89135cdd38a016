"""Every op with a spelling for one element: as Triton text it computes what the op computes, and Triton accepts the text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("triton")

from capture import capture  # noqa: E402
from sampling import close, dtypes_of, outputs, tensors  # noqa: E402

import flambeau as fl  # noqa: E402
from flambeau.codegen import triton_prelude  # noqa: E402
from flambeau.codegen.triton_program import InterpreterDevice, TritonProgram  # noqa: E402
from flambeau.frontend.triton import TritonTarget, make_program  # noqa: E402
from flambeau.ir import dtype as D  # noqa: E402
from flambeau.ir import late  # noqa: E402
from flambeau.ir.op import OPS, call  # noqa: E402
from flambeau.ir.tree import leaves, tree_map  # noqa: E402
from flambeau.passes.manager import functional, lowered  # noqa: E402

late.load_all()
NAMES = sorted(name for name, op in OPS.items() if op.scalar is not None and op.samples is not None)
DTYPES = (D.float32, D.int64, D.float64, D.float16, D.uint8, D.bool_)


class Device(InterpreterDevice):
    """Runs the steps that are no kernels by their op's own, as eager mode does."""

    def call(self, op: str, args: Any) -> Any:
        found = call(OPS[op], tree_map(lambda a: fl.from_numpy(a) if isinstance(a, np.ndarray) else a, tuple(args)))
        return tree_map(lambda t: np.ascontiguousarray(t._a) if isinstance(t, fl.Tensor) else t, found)


def program_of(fn: Callable[..., Any], given: list[Any], target: str = "cuda:90") -> TritonProgram:
    return make_program(lowered(functional(capture(fn, given)).graph, TritonTarget.keep), target)


def interpreted(fn: Callable[..., Any], *given: Any) -> np.ndarray:
    found = program_of(fn, list(given)).run([np.ascontiguousarray(x._a) for x in given], Device())
    assert len(found) == 1
    return found[0]


def calls(name: str) -> Iterator[tuple[Callable[..., Any], list[Any], D.DType]]:
    """The op's samples as functions of their tensors, in every dtype that Triton has."""
    op = OPS[name]
    for number, sample in enumerate(op.samples()):  # type: ignore[misc]
        for dtype in dtypes_of(op, sample):
            if dtype in DTYPES:
                args = tensors(op, number, sample, dtype)

                def fn(*given: Any, args: Any = args) -> Any:
                    rest = iter(given)
                    return call(op, tree_map(lambda a: next(rest) if isinstance(a, fl.Tensor) else a, args))

                yield fn, [x for x in leaves(args) if isinstance(x, fl.Tensor)], dtype


def check(name: str, fn: Callable[..., Any], given: list[Any], dtype: D.DType) -> None:
    expected, = outputs(fn(*given))
    found = interpreted(fn, *given)
    assert found.dtype == expected._a.dtype, (name, dtype)
    close(found, expected._a, dtype)


@pytest.mark.parametrize("name", NAMES)
def test_values(name: str) -> None:
    fn, given, dtype = next(calls(name))
    check(name, fn, given, dtype)
    if dtype.kind == "f" and OPS[name].scalar.triton:  # type: ignore[union-attr]
        assert program_of(fn, given).sources, "no kernel was generated"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_all_values(name: str) -> None:
    for fn, given, dtype in calls(name):
        check(name, fn, given, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", ["cuda:90", "hip:gfx942"])
def test_lowering(name: str, target: str) -> None:
    seen: set[D.DType] = set()
    for fn, given, dtype in calls(name):
        if dtype not in seen and dtype is not D.float16:   # held as float32
            seen.add(dtype)
            program_of(fn, given, target).lowered(target)


NUMBERS = fl.tensor([-7.5, -1.0, -0.3, 0.0, 0.3, 1.0, 2.0, 7.5, float("inf"), float("-inf"), float("nan")])
WHOLE = fl.tensor([-9, -3, -1, 0, 1, 2, 3, 8])


@pytest.mark.parametrize("fn", [
    lambda x: x // 0.1, lambda x: x // -0.3, lambda x: x // 0.0, lambda x: 2.5 // x,
    lambda x: x % 0.3, lambda x: x % -0.3, lambda x: 2.5 % x,
    lambda x: fl.fmod(x, 0.3), lambda x: fl.div(x, 0.3, rounding_mode="trunc"),
    fl.sign, fl.sgn, fl.signbit, fl.isinf, fl.isfinite, fl.isnan, fl.round, fl.trunc], ids=range(17))
def test_numbers_at_the_edges(fn: Callable[..., Any]) -> None:
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(interpreted(fn, NUMBERS), fn(NUMBERS)._a)


@pytest.mark.parametrize("fn", [
    lambda x: x // 3, lambda x: x // -3, lambda x: x % 3, lambda x: x % -3, lambda x: fl.fmod(x, -3),
    lambda x: fl.div(x, 2, rounding_mode="trunc"), lambda x: x ** 5, lambda x: 3 ** x.abs(), fl.sign, fl.round, fl.isfinite],
    ids=range(11))
@pytest.mark.parametrize("dtype", [D.int64, D.int32, D.int8], ids=str)
def test_whole_numbers(fn: Callable[..., Any], dtype: D.DType) -> None:
    x = WHOLE.to(dtype)
    found = interpreted(fn, x)
    assert found.dtype == fn(x)._a.dtype
    np.testing.assert_array_equal(found, fn(x)._a)


def test_the_sum_of_truth_values_is_their_union() -> None:
    x, y = fl.tensor([True, True, False, False]), fl.tensor([True, False, True, False])
    assert interpreted(lambda x, y: x + y, x, y).tolist() == [True, True, True, False]


def test_functions_of_the_prelude_have_names_of_their_own() -> None:
    assert not triton_prelude.FUNCTIONS.keys() & OPS.keys()


def test_the_interpreter_knows_no_more_functions_than_the_device_library() -> None:
    for name in ("floor_divide", "sign", "remainder"):   # NumPy's; the device library lacks the first two
        with pytest.raises(AttributeError, match=name):
            getattr(interpreter_library(), name)


def interpreter_library() -> Any:
    from flambeau.codegen.triton_interp import _NumpyLibdevice
    return _NumpyLibdevice()

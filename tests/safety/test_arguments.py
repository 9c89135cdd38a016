"""Wrong arguments to compiled functions: the exception of eager, and the next call in order again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bad_calls import CALLS
from outcomes import outcome

import flambeau as fl
import flambeau.nn.functional as F

LINEAR = fl.nn.Linear(4, 3)
FUNCTIONS = {  # functions of two arguments, and good ones
    "add": (lambda a, b: a + b, (fl.ones(2, 3), fl.ones(2, 3))),
    "matmul": (lambda a, b: a @ b, (fl.ones(2, 3), fl.ones(3, 4))),
    "layer": (lambda a, b: LINEAR(a) * b, (fl.ones(2, 4), fl.ones(3))),
    "cat": (lambda a, b: fl.cat([a, b]), (fl.ones(2, 4), fl.ones(3, 4))),
    "embedding": (lambda a, b: F.embedding(a, b), (fl.tensor([1]), fl.ones(3, 4))),
    "cross_entropy": (lambda a, b: F.cross_entropy(a, b), (fl.ones(3, 4), fl.tensor([1, 2, 3]))),
    "conv2d": (lambda a, b: F.conv2d(a, b), (fl.ones(1, 3, 5, 5), fl.ones(2, 3, 3, 3))),
    "where": (lambda a, b: fl.where(a > 0, a, b), (fl.ones(3, 4), fl.ones(3, 4))),
    "in place": (lambda a, b: a.clone().add_(b), (fl.ones(3, 4), fl.ones(3, 4))),
    "view": (lambda a, b: a.view(6) + b, (fl.ones(2, 3), fl.ones(6))),
}
WRONG = [fl.ones(5, 7), fl.ones(2, 3, dtype=fl.float64), fl.ones(2, 3, dtype=fl.int64), fl.ones(2, 3, dtype=fl.bool),
         fl.ones(2, 3, dtype=fl.complex64), fl.ones(()), fl.ones(0, 3), None, "abc", [1.0, 2.0], 3, 2.5, np.ones((2, 3), "f4"),
         object(), fl.float32, {"a": 1}, fl.ones(1, 3, 5, 5), 2**70]


def alike(a: Any, b: Any) -> bool:
    """The same type of exception, or equal results."""
    if isinstance(a, tuple) or isinstance(b, tuple):
        return isinstance(a, tuple) and isinstance(b, tuple) and a[0] is b[0]
    return a.dtype is b.dtype and a.shape == b.shape and bool(fl.allclose(a, b, atol=1e-5))


@pytest.mark.filterwarnings("ignore")  # of so many versions, and of graphs that no target takes
@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_arguments(name: str) -> None:
    fn, good = FUNCTIONS[name]
    compiled, wanted = fl.compile(fn), fn(*good)
    assert alike(compiled(*good), wanted)
    for position in (0, 1):
        for wrong in WRONG:
            args = [wrong if i == position else a for i, a in enumerate(good)]
            assert alike(outcome(compiled, *args), outcome(fn, *args)), (position, wrong)
    assert alike(compiled(*good), wanted)


# Compiled code is more generous here: a view whose strides would not allow it is a copy, and an integer divided by 0 is 0.
GENEROUS = {"view-strides"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name,call,kind", [c for c in CALLS if c[0] not in GENEROUS],
                         ids=lambda x: x if isinstance(x, str) else "")
def test_refused_calls(name: str, call: Any, kind: Any) -> None:
    """What eager refuses is refused inside compiled code, with the same words."""
    wanted = outcome(call, fl)
    assert isinstance(wanted, tuple) and issubclass(wanted[0], kind)
    found = outcome(fl.compile(call), fl)
    assert isinstance(found, tuple) and found[0] is wanted[0], found
    x = fl.ones(3)
    assert fl.compile(lambda x: x * 2)(x).tolist() == [2, 2, 2]


def test_another_device() -> None:
    compiled = fl.compile(lambda x: x.to("cuda") + 1)
    fn = lambda x: x.to("cuda") + 1  # noqa: E731
    x = fl.ones(2)
    wanted, found = outcome(fn, x), outcome(compiled, x)
    assert alike(found, wanted)
    assert isinstance(wanted, tuple) or wanted.device.type == "cuda"

"""Ops that refuse some data say so by the tag "raises", which keeps compiled code from leaving them out."""

import numpy as np
import pytest
from sampling import array_of, dtypes_of, sampled_ops

from flambeau.ir.op import OPS, Op, call
from flambeau.ir.samples import T
from flambeau.ir.schema import bind
from flambeau.ir.tree import tree_map
from flambeau.runtime.tensor import wrap

WRONG = (0, -7777, 7777, float("nan"))
#: Calls that only passes make, in loops and derivatives: they see what the op before them has let through.
INSIDE = {"checked_index"}


def refuses(op: Op) -> bool:
    """Whether a sample that works is refused with other numbers in one of its tensors."""
    for sample in op.samples()[:4]:
        for dtype in [d for d in dtypes_of(op, sample) if d.name in ("float64", "int64", "complex128")][:2]:
            def run(k, number, sample=sample, dtype=dtype):
                rng, seen = np.random.default_rng(0), []

                def one(x):
                    if not isinstance(x, T):
                        return x
                    array = array_of(x, dtype, rng)
                    if len(seen) == k and array.dtype != bool:
                        array = np.full_like(array, number if array.dtype.kind in "fc" or number == number else 0)
                    seen.append(array)
                    return wrap(array)
                call(op, tree_map(one, bind(op.schema, sample.args, sample.kwargs)))
                return len(seen)
            try:
                count = run(-1, 0)
            except (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError):
                continue
            for k in range(count):
                for number in WRONG:
                    try:
                        run(k, number)
                    except (RuntimeError, IndexError, ValueError, OverflowError):
                        return True
    return False


@pytest.mark.filterwarnings("ignore")
def test_ops_that_refuse_data_say_so():
    names = [n for n in sampled_ops() if not OPS[n].tags & {"raises", "divides", "random"} and n not in INSIDE]
    assert len(names) > 300
    assert [n for n in names if refuses(OPS[n])] == []

"""The dtype of every result: pairs of operands, Python scalars, functions."""

from __future__ import annotations

import itertools
import operator

from .registry import program

DTYPES = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex64",
    "complex128",
)


def dtype_or_error(call, *args):
    """The dtype of a result, or the type of the exception."""
    try:
        return str(call(*args).dtype).removeprefix("torch.")
    except Exception as error:  # noqa: BLE001
        return "RuntimeError" if isinstance(error, RuntimeError) else type(error).__name__


@program
def promotion_of_pairs(torch):
    values = {name: torch.ones(2, dtype=getattr(torch, name)) for name in DTYPES}
    table = {}
    for op in (
        torch.add,
        torch.div,
        torch.mul,
        torch.sub,
        torch.pow,
        torch.floor_divide,
        torch.remainder,
        torch.maximum,
        torch.atan2,
        torch.eq,
        torch.lt,
        torch.bitwise_and,
        torch.logical_or,
        torch.fmod,
        torch.hypot,
    ):
        table[op.__name__.replace("divide", "div")] = " ".join(
            dtype_or_error(op, values[a], values[b]) for a, b in itertools.product(DTYPES, DTYPES)
        )
    return table


@program
def promotion_of_scalars(torch):
    table = {}
    values = {name: torch.ones(2, dtype=getattr(torch, name)) for name in DTYPES}
    zero_dim = {name: torch.ones((), dtype=getattr(torch, name)) for name in DTYPES}
    for name, call in {
        "add": lambda x, s: x + s,
        "radd": lambda x, s: s + x,
        "div": lambda x, s: x / s,
        "rdiv": lambda x, s: s / x,
        "pow": lambda x, s: x**s,
        "rpow": lambda x, s: s**x,
        "floordiv": lambda x, s: x // s,
        "sub": lambda x, s: x - s,
        "mod": lambda x, s: x % s,
        "lt": lambda x, s: x < s,
        "and": lambda x, s: x & s,
        "where": lambda x, s: torch.where(x == x, x, s),
        "inplace": lambda x, s: x.clone().mul_(s),
        "fill": lambda x, s: torch.full_like(x, s),
        "clamp": lambda x, s: x.clamp(min=s),
    }.items():
        table[name] = " ".join(
            dtype_or_error(call, values[a], s) for a in DTYPES[1:] for s in (True, 2, 2.0, 1j) if (a, s) != ("float16", 1j)
        )
    table["zero-dim"] = " ".join(
        dtype_or_error(operator.add, values[a], zero_dim[b])
        for a, b in itertools.product(DTYPES, DTYPES)
        if (a, b[:7]) != ("float16", "complex")
    )
    table["zero-dim in place"] = " ".join(
        dtype_or_error(operator.iadd, values[a].clone(), zero_dim[b]) for a, b in itertools.product(DTYPES, DTYPES)
    )
    table["result_type"] = " ".join(str(torch.result_type(values[a], 1.5)) for a in DTYPES)
    table["can_cast"] = [torch.can_cast(getattr(torch, a), getattr(torch, b)) for a, b in itertools.product(DTYPES, DTYPES)]
    return table


@program
def dtypes_of_functions(torch):
    table = {}
    values = {name: torch.ones(2, 2, dtype=getattr(torch, name)) for name in DTYPES}
    F = torch.nn.functional
    for name in (
        "abs neg exp sqrt sin sigmoid floor round sign square reciprocal logical_not bitwise_not isnan isfinite angle real "
        "conj positive rsqrt tanh relu frac erf log1p trunc sum prod mean var std max min argmax argmin all any cumsum "
        "cumprod logsumexp norm count_nonzero nonzero flip tril triu diag"
    ).split():
        function = getattr(torch, name)

        def first(x, function=function):
            y = function(x)
            return y[0] if isinstance(y, tuple) else y

        table[name] = " ".join(dtype_or_error(first, values[a]) for a in DTYPES)
    for name, call in {
        "sum0": lambda x: x.sum(0),
        "mean0": lambda x: x.mean(0, dtype=torch.float64),
        "softmax": lambda x: x.softmax(0),
        "amax": lambda x: x.amax(1),
        "cat": lambda x: torch.cat([x, values["int32"]]),
        "stack": lambda x: torch.stack([x, values["float16"]]),
        "where": lambda x: torch.where(values["bool"], x, values["float32"]),
        "bincount": lambda x: torch.bincount(x[0]),
        "gelu": F.gelu,
        "one_hot": lambda x: F.one_hot(x),
        "softplus": F.softplus,
        "addcmul": lambda x: torch.addcmul(x, x, x),
        "rand": torch.rand_like,
        "randn": torch.randn_like,
        "new": lambda x: x.new_zeros(2),
        "tensor": lambda x: x.new_tensor([1, 2]),
        "item": lambda x: torch.tensor(x[0, 0].item()),
        "to": lambda x: x.to(torch.int16),
        "half": lambda x: x.half(),
    }.items():
        table[name] = " ".join(dtype_or_error(call, values[a]) for a in DTYPES)
    for name, call in {
        "sort": lambda x: x.sort().values,
        "median": torch.median,
        "unique": torch.unique,
        "max0": lambda x: x.max(0).values,
        "argsort": lambda x: x.argsort(),
        "topk": lambda x: x.topk(1).values,
        "linear": lambda x: F.linear(x, x),
        "einsum": lambda x: torch.einsum("ij,jk", x, x),
        "arange": lambda x: torch.arange(0, 3, dtype=x.dtype),
        "linspace": lambda x: torch.linspace(0, 1, 3, dtype=x.dtype),
        "randint": lambda x: torch.randint_like(x, 3),
    }.items():
        table[name] = " ".join(dtype_or_error(call, values[a]) for a in DTYPES[1:-2])  # numbers that have an order
    return table

"""`match` statements."""

import enum
from collections import namedtuple
from dataclasses import dataclass

from ..given import F, program, rand, torch

X = rand(4, 3)


@program((X, "relu"), (X, "gelu"), (X, "relu"), (X, "other"))
def literals(x, name):
    match name:
        case "relu" | "silu":
            return F.relu(x)
        case "gelu":
            return F.gelu(x)
        case _:
            raise ValueError(f"unknown activation {name}")


@program((X, (2, 3)), (X, [4]), (X, (1, 2, 3, 4)), (X, ()))
def sequences(x, shape):
    x = x + 1
    match shape:
        case []:
            return x.sum()
        case [n]:
            return x * n
        case [a, b]:
            return x * a - b
        case [first, *_, last]:
            return x + first + last, shape


@program((X, {"type": "linear", "scale": 2}), (X, {"type": "conv", "k": 3, "pad": 1}), (X, {"type": "linear", "scale": 2}))
def mappings(x, config):
    match config:
        case {"type": "linear", "scale": scale}:
            return x * scale
        case {"type": "conv", **rest}:
            return x + rest["k"], sorted(rest)
        case {}:
            return x


@dataclass
class Linear:
    width: int
    bias: bool = True


@dataclass
class Drop:
    p: float


Pair = namedtuple("Pair", "a b")


@program((X, Linear(3)), (X, Drop(0.5)), (X, Linear(3, False)), (X, Pair(1, Linear(2))))
def classes(x, layer):
    match layer:
        case Linear(width=w, bias=True):
            return x * w + 1
        case Linear(w):
            return x * w
        case Drop(p) if p < 1:
            return x * (1 - p)
        case Pair(a, Linear(width=w)):
            return x + a + w
    return x


class Mode(enum.Enum):
    MEAN = "mean"
    SUM = "sum"


@program((X, Mode.MEAN), (X, Mode.SUM))
def dotted_names(x, mode):
    match mode:
        case Mode.MEAN:
            return x.mean()
        case Mode.SUM:
            return x.sum()


@program((X, 3), (X, -1), (X, 2.5), (X, None), (X, X), (X, True))
def types_and_guards(x, v):
    x = x * 2
    match v:
        case bool():
            return x, "bool"
        case int(n) if n > 0:
            return x * n
        case int() | float():
            return x - v
        case None:
            return x
        case torch.Tensor(shape=(rows, _)):
            return x + v * rows


@program((X, ["scale", 2, "shift", 1]), (X, ["scale", 2, "shift", 1]))
def loop_with_captures(x, tokens):
    while tokens:
        match tokens:
            case ["scale", n, *tokens]:
                x = x * n
            case ["shift", int(n), *tokens]:
                x = x + n
            case _:
                break
    return x, tokens


@program((X, {"op": ["add", {"by": 3}]}), (X, {"op": ["add", {"by": 3}]}), (X, {"op": [("neg", "abs"), {}]}))
def nested_patterns(x, tree):
    match tree:
        case {"op": [("add" | "sub") as op, {"by": by}]}:
            return (x + by if op == "add" else x - by), op
        case {"op": [(first, *_), {}]}:
            return getattr(torch, first)(x)


@program((X, (4, 3)), (X, (4, 3)))
def match_on_a_shape(x, expected):
    match x.shape:
        case (rows, columns) if (rows, columns) == expected:
            return x.t() * rows
        case (n,):
            return x * n

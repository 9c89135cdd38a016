"""Syntax and library of Python 3.12."""

import itertools
from dataclasses import dataclass
from typing import override

from ..given import nn, program, rand, torch

X = rand(4, 3)

type Pair[T] = tuple[T, T]


def first[T](pair: Pair[T]) -> T:
    return pair[0]


@dataclass
class Box[T]:
    item: T

    def get(self) -> T:
        return self.item


@program((X,), (X,))
def type_parameters(x):
    def inner[U: int](v: U) -> U:
        return v * 2
    return first((x, x)) + Box(x).get(), inner(3), Box[int](2).item


@program((X, "relu"), (X, "relu"))
def nested_quotes(x, name):
    d = {"k": [1, 2]}
    return getattr(torch, name)(x), f"{name.upper()} {", ".join(str(v) for v in d["k"])} {f"{f"{1 + 1}"}"}"


@program((X,), (X,))
def batches(x):
    parts = [torch.stack(rows).sum(0) for rows in itertools.batched(x, 3)]
    return parts, list(itertools.batched("abcde", 2))


class Base(nn.Module):
    def scale(self):
        return 1

    def forward(self, x):
        return x * self.scale()


class Derived(Base):
    @override
    def scale(self):
        return 3


MODEL = Derived()


@program((X,), (X,))
def inlined_comprehensions(x):
    k = 5
    squares = {k: [k * j for j in range(k)] for k in range(3)}
    return MODEL(x) * k, squares, [(lambda: k)() for k in range(2)], [[k for k in range(j)] for j in range(3)]

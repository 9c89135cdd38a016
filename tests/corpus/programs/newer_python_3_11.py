"""Syntax and library of Python 3.11."""

import enum
import operator

from ..given import F, nn, program, rand, torch

X = rand(4, 3)


@program((X,), (X,))
def exception_groups(x):
    log = []
    try:
        raise ExceptionGroup("several", [ValueError("a"), KeyError("b"), ValueError("c")])
    except* ValueError as group:
        log.append(len(group.exceptions))
    except* KeyError as group:
        log.append(str(group.exceptions[0]))
    return x * len(log), log


@program((X,), (X,))
def notes_on_exceptions(x):
    try:
        error = ValueError("v")
        error.add_note("first")
        error.add_note("second")
        raise error
    except ValueError as caught:
        return x + 1, caught.__notes__


class Kind(enum.StrEnum):
    MEAN = enum.auto()
    SUM = enum.auto()


@program((X, Kind.MEAN), (X, Kind.SUM), (X, Kind.MEAN))
def string_enums(x, kind):
    return getattr(x, kind)(), f"{kind}", kind == "mean", kind.upper(), Kind("sum") is Kind.SUM


@program((X, (1, 2)), (X, (1, 2)))
def stars_in_subscripts(x, at):
    table = {(0, 1, 2): 5}
    return x[*at], table[0, *at], x[..., *at[:1]], operator.call(F.relu, x)


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.count = 0

    def forward(self, x):
        self.count += 1
        return x * 2


COUNTER = Counter()


@program((X,), (X,), (X,), watch=lambda: COUNTER.count)
def with_several_managers_in_parentheses(x):
    with (
        torch.no_grad(),
        torch.enable_grad() as inner,
    ):
        y = COUNTER(x)
    return y, inner is None

"""Breaks wherever they can be: in loops, `with`, `try`, comprehensions, nested calls; and what Python does with real data."""

import contextlib
import io
import math
import os
import queue
import sys
import tempfile
import threading
import time
from functools import reduce

import numpy as np

from ..given import F, nn, program, rand, torch

X = rand(4, 3)
POSITIVE = rand(4, 3).abs()


@program((X,), (POSITIVE,), (X,))
def branch_on_data(x):
    y = x * 2
    if y.sum() > 0:
        y = y + 1
    else:
        y = y - 1
    return y * 3


@program((X,), (POSITIVE,))
def nested_branches_on_data(x):
    y = x.sin()
    if y.min() < 0:
        y = y.abs()
        if y.max() > 0.5:
            y = y / 2
        elif y.mean() > 0.1:
            y = y * 2
    return y + 1


@program((rand(3),), (rand(3, seed=2),))
def loop_until_converged(x):
    steps = 0
    while x.norm() > 0.5:
        x = x * 0.7
        steps += 1
    return x, steps


@program((X, 3), (X, 2))
def break_in_a_for_loop(x, n):
    total = x.sum()
    for k in range(n):
        x = x * 2
        total = total + x.sum().item() * k
        x = x - 1
    return x, total


@program((X,), (X,))
def item_in_the_middle(x):
    y = x.relu()
    n = int((y > 0).sum().item())
    return y * n, n


@program((X,), (X,))
def items_and_lists(x):
    y = x * 2
    values = y[0].tolist()
    z = y + values[0]
    return z, [round(v, 3) for v in values], y.sum().item()


@program((X,), (X,))
def numpy_in_the_middle(x):
    y = x + 1
    a = y.numpy() * 2
    b = np.sort(a, axis=0)
    return torch.from_numpy(b) + y


@program((X,), (X,))
def numpy_functions_of_tensors(x):
    y = np.asarray(x)
    return torch.as_tensor(np.where(y > 0, y, 0)) * 2, float(np.float32(1.5)), int(np.argmax(y))


@program((X,), (X,))
def print_between(x):
    y = x * 2
    print("mean", round(y.mean().item(), 4))
    return y + 1


@program((rand(2),), (rand(2),))
def f_string_of_a_tensor(x):
    y = x.round() + 0.0
    text = f"{y.sum():.2f} and {y.shape[0]}"
    return y, text


@program((X,), (POSITIVE,))
def break_in_a_with_block(x):
    with torch.no_grad():
        y = x * 2
        if y.sum() > 0:
            y = y + 1
        z = y.sum()
    return y, z, torch.is_grad_enabled()


class Tracked:
    log = []

    def __enter__(self):
        self.log.append("in")
        return self

    def __exit__(self, kind, value, tb):
        self.log.append(kind.__name__ if kind else "out")
        return kind is ValueError


@program((X,), (POSITIVE,), watch=lambda: Tracked.log)
def break_in_the_users_with_block(x):
    with Tracked():
        y = x + 1
        k = y.sum().item()
        z = y * k
        if k < 0:
            raise ValueError("negative")
        z = z + 1
    return z if k > 0 else y


@contextlib.contextmanager
def scope(name):
    Tracked.log.append(name)
    try:
        yield name
    finally:
        Tracked.log.append("end " + name)


@program((X,), (X,), watch=lambda: Tracked.log)
def break_in_a_contextmanager_block(x):
    with scope("a") as name:
        y = x * len(name)
        n = y.sum().item()
        with scope("b"):
            z = y + n
    return z * 2


@program((X,), (POSITIVE,))
def break_in_a_try_block(x):
    try:
        y = x * 2
        if y.min() < 0:
            raise ValueError("negative")
        y = y + 1
    except ValueError:
        y = x.abs()
        if y.max() > 0.5:
            y = y / 2
    finally:
        z = x.sum()
    return y + z


@program((X,), (X,))
def break_in_a_comprehension(x):
    rows = [row.sum().item() for row in x]
    scaled = [row * s for row, s in zip(x, rows)]
    return torch.stack(scaled), len(rows)


def inner(x):
    y = x * 2
    if y.sum() > 0:
        y = y + 1
    return y.sin()


def middle(x):
    y = inner(x + 1)
    return inner(y) * 2


@program((X,), (POSITIVE,))
def break_in_nested_calls(x):
    a = x.cos()
    b = middle(a)
    return b + middle(b).sum()


@program((X,), (X,))
def break_in_a_closure(x):
    scale = x.mean().item()

    def apply(v):
        n = v.sum().item()
        return v * scale + n
    return apply(x) + apply(x * 2)


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3, bias=False)
        nn.init.eye_(self.layer.weight)

    def forward(self, x):
        y = self.layer(x)
        if y.sum() > 0:
            y = y * 2
        return self.layer(y)


@program((X,), (POSITIVE,), backward=True)
class BreakInASubmodule(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Gate(), Gate()

    def forward(self, x):
        return self.second(F.relu(self.first(x)) + 1)


@program((X,), (POSITIVE,), backward=True)
class BreakInASequential(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Tanh(), Gate(), nn.ReLU(), Gate())

    def forward(self, x):
        return self.body(x) * 2


@program((X,), (X,))
def break_in_an_argument(x):
    return torch.add(x * 2, x.sum().item(), alpha=int(x.max().item()) + 1)


@program((X,), (X,))
def break_inside_an_expression(x):
    return (x * 2)[0] + [x.sum().item(), 2, x.min().item()][0] * (3 if x.sum().item() > -100 else 4)


@program((X,), (POSITIVE,))
def boolean_operators_of_data(x):
    if x.sum() > 0 and x.min() >= 0 or not x.any():
        return x + 1
    return x - 1 if x.max() < 2 else x


@program((X,), (X,))
def assertions_on_data(x):
    assert x.shape[1] == 3, "three columns"
    assert not torch.isnan(x).any(), "no nan"
    return x * 2


@program((X,), (X * float("nan"),))
def assertion_that_fails(x):
    y = x * 2
    try:
        assert not torch.isnan(y).any(), "nan"
    except AssertionError as error:
        return x * 0, str(error)
    return y


@program((torch.tensor([3, 1, 2]),), (torch.tensor([1, 1, 0]),))
def data_as_indices(i):
    table = ["a", "b", "c", "d"]
    return [table[k] for k in i], table[int(i[0])], range(i[0].item()), i * 2


@program((torch.tensor([0.0, 1.5, 0.0, 2.0]),), (torch.tensor([1.0, 0.0, 0.0, 0.0]),))
def sizes_that_depend_on_data(x):
    picked = x[x > 0]
    at = torch.nonzero(x).flatten()
    return picked * 2, at + 1, picked.shape[0], torch.unique(x)


@program((X,), (X,), watch=lambda: sorted(FILES))
def files(x):
    y = x * 2
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "t.txt")
        with open(path, "w") as f:
            f.write(str(tuple(y.shape)))
        with open(path) as f:
            text = f.read()
    FILES.append(text)
    return y + len(text)


FILES = []


@program((X,), (X,))
def threads(x):
    y = x * 2
    results = queue.Queue()
    workers = [threading.Thread(target=lambda k=k: results.put((k, y.sum() * k))) for k in range(2)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    found = sorted((results.get() for _ in range(2)), key=lambda p: p[0])
    return y + sum(v for _, v in found)


@program((X,), (X,))
def generator_that_escapes(x):
    y = x * 2

    def rows():
        for k in range(y.shape[0]):
            yield y[k] * k
    return rows(), y


def numbers(x):
    for k in range(3):
        n = yield x * k
        if n:
            x = x + n


@program((X,), (X,))
def generator_with_a_break_outside(x):
    g = numbers(x)
    a = next(g)
    b = g.send(a.sum().item() + 1)
    return b + next(g)


@program((X,), (X,))
def clocks(x):
    began = time.perf_counter()
    y = x * 2
    return y + 1, time.perf_counter() >= began, time.time() > 0


@program((X,), (X,))
def captured_output(x):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        print("inside", x.shape[0])
    return x * 2, out.getvalue()


@program((X,), (X,))
def looks_at_frames(x):
    y = x * 2
    names = sorted(locals())
    name = sys._getframe().f_code.co_name
    return y + len(names), name


@program((X, "x + 1"), (X, "x * 2"))
def evaluates_text(x, text):
    y = eval(text, {"x": x})
    return y * 2


@program((X,), (X,))
def sorts_by_data(x):
    rows = sorted(x, key=lambda r: r.sum().item())
    best = max(x, key=lambda r: float(r[0]))
    return torch.stack(rows), best


@program((X,), (X,))
def reduces_with_data(x):
    return reduce(lambda a, r: a + r * math.copysign(1, r[0].item()), x, torch.zeros(3))


@program((X,), (POSITIVE,))
def early_returns(x):
    if x.dim() != 2:
        return None
    y = x.exp()
    if y.max() > 2.5:
        return y
    z = y.log()
    if z.min() < -0.5:
        return z, "low"
    return z


@torch._dynamo.disable
def not_compiled(x):
    return x * 2 if x.sum() > 0 else x * 3


@program((X,), (POSITIVE,))
def calls_a_disabled_function(x):
    y = x + 1
    return not_compiled(y) + not_compiled(x).sin()


@program((X,), (X,))
def explicit_graph_breaks(x):
    y = x * 2
    torch._dynamo.graph_break()
    y = y + 1
    torch._dynamo.graph_break()
    return y.sin()


@program((X,), (POSITIVE,), backward=True)
def gradients_through_breaks(x):
    w = WEIGHT * 2
    y = x @ w
    if y.sum() > 0:
        y = y * w.sum()
    return y.tanh()


WEIGHT = rand(3, 3, seed=8, grad=True)


@program((X,), (X,))
def dict_and_set_of_data(x):
    d = {round(v.item(), 2): k for k, v in enumerate(x[0])}
    s = {int(v > 0) for v in x[1].tolist()}
    return x * len(d), sorted(s), min(d.values())


@program((X,), (POSITIVE,))
def exception_from_a_callee_with_breaks(x):
    def check(v):
        n = v.sum().item()
        if n < 0:
            raise ArithmeticError(f"{n < 0}")
        return v / n
    try:
        return check(x + 0) * 2
    except ArithmeticError as error:
        return x, str(error)


@program((X,), (X,))
def break_in_a_class_body(x):
    class Local:
        k = 2

        def go(self, v):
            return v * self.k
    return Local().go(x) + x.sum().item()


@program((X,), (X,), (X,))
def recursion_with_breaks(x):
    def halve(v, depth):
        if depth == 0 or v.norm().item() < 0.1:
            return v
        return halve(v / 2, depth - 1) + 0.01
    return halve(x, 3)


@program((X,), (X,))
def default_argument_of_data(x):
    def scaled(v, by=x.sum().item()):
        return v * by
    return scaled(x), scaled(x, 2)


@program((X,), (X,))
def break_under_a_decorator(x):
    @torch.no_grad()
    def step(v):
        n = v.sum().item()
        return v * n
    return step(x) + 1, torch.is_grad_enabled()


@program((X,), (POSITIVE,))
def while_with_break_and_else(x):
    k = 0
    while k < 4:
        x = x * 1.5
        k += 1
        if x.max() > 2:
            break
        if x.min() < -1:
            continue
        x = x + 0.1
    else:
        x = x - 1
    return x, k


@program((X,), (X,))
def in_of_data(x):
    return x + 1 if 3.0 in x else x - 1, torch.tensor(2) in torch.arange(3)


@program((X,), (X,))
def copies_to_numpy_scalars(x):
    k = np.float64(x.sum().item())
    return x * float(k), x + np.float32(2), x[: np.int64(2)]

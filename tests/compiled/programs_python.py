"""Python around tensors: arguments, containers, state, control flow, breaks, recompiles, wrappers."""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import io
import pickle
import threading
from typing import Any

import numpy as np
from compiled.whole import Whole, entered, trained

import flambeau as ft
from flambeau import nn
from flambeau.nn import functional as F

PYTHON: list[Whole] = []
program = entered(PYTHON)

Pair = collections.namedtuple("Pair", "first second")
SCALE = 3.0


@dataclasses.dataclass
class Output:
    logits: Any
    loss: Any = None
    extra: dict = dataclasses.field(default_factory=dict)


@program()
def structures_in_and_out(compile):
    def f(batch, pair, items, out):
        x = batch["x"] * pair.first + items[0][1]
        return Output(x, x.mean(), {"k": [pair.second]}), Pair(x, *items[1:]), {**batch, "y": x}, (out.logits + 1,)
    t = [ft.randn(3) for _ in range(5)]
    return compile(f)({"x": t[0], "n": 3}, Pair(t[1], 2), [(1, t[2]), t[3]], Output(t[4]))


@program(graphs=3, full=True)
def arguments_of_all_kinds(compile):
    def f(x, /, y=2.0, *rest, scale, shift=0, **more):
        for r in rest:
            x = x + r
        return x * y * scale + shift + sum(more.values())
    g, x = compile(f), ft.randn(3)
    return g(x, scale=1), g(x, 3.0, x, x, scale=2, shift=1), g(x, scale=1, a=x, b=2 * x)


@program(graphs=1)
def closures_and_globals(compile):
    weight, n = ft.randn(3, requires_grad=True), 2

    def outer(x):
        def inner(y):
            nonlocal_total.append(n)
            return y * weight * SCALE + n
        nonlocal_total: list[int] = []
        return inner(inner(x)), len(nonlocal_total)
    return trained(compile(outer), ft.randn(3), leaves=[weight])


@program(graphs=3, full=True)
def control_flow_on_shapes(compile):
    def f(x, mode="a"):
        if x.ndim == 1:
            return x * 2
        if x.shape[0] > 3 and mode != "a":
            x = x[:3]
        for k in range(min(x.shape[0], 4)):
            if k % 2:
                continue
            x = x + k
        return x if mode == "a" else -x
    g = compile(f, dynamic=False)
    return g(ft.randn(3)), g(ft.randn(5, 2)), g(ft.randn(5, 2), mode="b")


@program(graphs=2, full=False)
def a_print_breaks(compile):
    def f(x):
        y = x + 1
        print("sum is", y.sum().item() > -1e9)
        return y * 2
    g = compile(f, fullgraph=False)
    return trained(g, ft.randn(3, requires_grad=True)), g.__name__ if hasattr(g, "__name__") else ""


@program(graphs=None, full=False)
def prints_of_python_values(compile):
    @compile
    def f(x, n):
        print("n is", n, x.shape)
        return x * n
    return f(ft.randn(3), 2), f(ft.randn(3), 2)


@program(graphs=None, full=False)
def data_dependent_branches(compile):
    @compile
    def f(x):
        y = x * 2
        if y.sum() > 0:
            y = y - 1
        else:
            y = y + 1
        while y.max() < 5:
            y = y + y.abs() + 1
        return y
    return [trained(f, (ft.ones(3) * s).requires_grad_()) for s in (1.0, -1.0, 0.1)]


@program(graphs=None, full=False)
def breaks_in_loops_and_withs(compile):
    def callee(x, k):
        y = x * k
        if float(y.sum()) > 1e9:
            return x
        return y + 1

    @compile
    def f(x):
        total, log = 0.0, []
        for k in range(3):
            with ft.no_grad():
                s = x.sum().item()
            log.append(round(s, 3))
            x = callee(x, k + 1)
            total = total + x.mean()
        return total, x, log
    return trained(f, ft.randn(4, requires_grad=True))


@program(graphs=None, full=False)
def numpy_inside(compile):
    @compile
    def f(x):
        a = np.tanh(x.detach().numpy())
        return ft.from_numpy(a) * x + float(np.float32(2.5))
    return trained(f, ft.randn(4, requires_grad=True))


@program(graphs=None, full=False)
def exceptions(compile):
    @compile
    def f(x, n):
        try:
            if n > 2:
                raise ValueError(f"n is {n}")
            return x * n
        except ValueError as error:
            return str(error)
        finally:
            x = x + 1
    seen = []
    for n in (1, 3):
        seen.append(f(ft.ones(2), n))

    @compile
    def g(x):
        return x @ ft.ones(5)
    try:
        g(ft.ones(3))
    except RuntimeError as error:
        seen.append(type(error).__name__)
    return seen


@program(graphs=5, full=True)
def recompiles(compile):
    f = compile(lambda x, flag=True: x.sum() * (2 if flag else 3))
    return (f(ft.ones(3)), f(ft.ones(3, dtype=ft.float64)), f(ft.ones(3, 3)), f(ft.ones(3), False),
            f(ft.ones(3, requires_grad=True)), f(ft.ones(3)))


@program(graphs=2, full=True)
def twenty_lengths(compile):
    emb, rnn = nn.Embedding(20, 8), nn.Linear(8, 8)

    @compile
    def f(tokens):
        b, t = tokens.shape
        x = emb(tokens)
        att = (x @ x.transpose(1, 2)) / 8 ** 0.5
        att = att.masked_fill(ft.ones(t, t, dtype=ft.bool).triu(1), float("-inf")).softmax(-1)
        return rnn(att @ x).mean(1)
    return [trained(f, ft.randint(0, 20, (3, n)), leaves=[*emb.parameters(), *rnn.parameters()])
            for n in (5, 9, 12, 3, 7, 30, 2, 14, 21, 6, 8, 17, 4, 10, 11, 25, 13, 16, 19, 28)]


@program(graphs=3, full=True)
def changing_batch(compile):
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4))
    f = compile(model)
    seen = [trained(f, ft.randn(n, 1, 8, 8), leaves=model) for n in (4, 8, 6, 3, 7)]
    model.eval()
    return seen, f(ft.randn(5, 1, 8, 8)), model.state_dict()


@program(graphs=1)
def dynamic_from_the_start(compile):
    f = compile(lambda x: (x.sum(0) / x.shape[0], x.view(-1)[: x.numel() // 2], x.shape[0] * 2), dynamic=True)
    return [f(ft.randn(n, 5)) for n in (4, 6, 9)]


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(3, 3)
        self.register_buffer("seen", ft.zeros((), dtype=ft.int64))
        self.register_buffer("ema", ft.zeros(3))
        self.calls, self.log, self.cache = 0, [], {}

    def forward(self, x):
        self.seen += x.shape[0]
        self.ema = self.ema * 0.9 + x.detach().mean(0) * 0.1
        self.cache["last"] = x * 2
        self.log.append(tuple(x.shape))
        return self.lin(x) - self.ema


@program(graphs=2, full=True)
def modules_with_state(compile):
    model = Counter()
    f = compile(model)
    outs = [trained(f, ft.randn(4, 3), leaves=model) for _ in range(3)]
    return outs, model.state_dict(), model.log, model.cache


@program(graphs=None, full=False)
def counting_calls(compile):
    class Warm(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x * min(self.calls, 3)
    model = Warm()
    f = compile(model)
    return [f(ft.ones(2)) for _ in range(6)], model.calls


@program()
def module_containers(compile):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
            self.heads = nn.ModuleDict({"a": nn.Linear(4, 1), "b": nn.Linear(4, 2)})
            self.scale = nn.ParameterList([nn.Parameter(ft.ones(4) * k) for k in range(1, 3)])
            self.act = F.relu

        def forward(self, x):
            for i, layer in enumerate(self.layers):
                x = self.act(layer(x)) if i < len(self.layers) - 1 else layer(x)
            for s in self.scale:
                x = x * s
            return {name: head(x) for name, head in self.heads.items()}
    model = Net()
    return trained(compile(model), ft.randn(2, 4), leaves=model)


@program(graphs=None)
def callables_of_all_kinds(compile):
    class Helper:
        k = 3

        def __init__(self, w):
            self.w = w

        def method(self, x):
            return x * self.w

        @staticmethod
        def fixed(x):
            return x + 1

        @classmethod
        def made(cls, x):
            return x * cls.k

        def __call__(self, x):
            return self.method(x) + self.fixed(x)

    x, h = ft.randn(3), Helper(ft.randn(3))
    part = functools.partial(lambda a, b, c=1: a * b + c, 2.0, c=5)
    nested = compile(lambda f: f(x))
    return (compile(h.method)(x), compile(Helper.fixed)(x), compile(Helper.made)(x), compile(h)(x), compile(lambda x: part(x))(x),
            compile(part)(x), nested(lambda y: y * 4))


@program(graphs=None)
def decorators(compile):
    @compile
    def plain(x):
        """Doubles."""
        return x * 2

    @compile(dynamic=False)
    def given(x):
        return plain(x) + 1

    @ft.no_grad()
    def untaped(x):
        return x * 3

    def logged(fn):
        @functools.wraps(fn)
        def call(*args, **kwargs):
            return fn(*args, **kwargs) * 10
        return call

    @compile
    @logged
    def wrapped(x):
        return untaped(x) - 1
    x = ft.randn(3, requires_grad=True)
    return given(x), wrapped(x), plain.__name__, plain.__doc__, wrapped.__name__, compile(plain, mode="default")(x)


@program(graphs=None)
def module_through_the_wrapper(compile):
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    f = compile(model)
    f.eval()
    x = ft.randn(2, 3)
    keys = list(f.state_dict())
    again = copy.deepcopy(f)
    with ft.no_grad():
        model[0].weight.add_(1)
    loaded = pickle.loads(pickle.dumps(f))
    file = io.BytesIO()
    ft.save(f.state_dict(), file)
    file.seek(0)
    other = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    other.load_state_dict(ft.load(file))
    other.eval()
    double = f(x)
    f.double()
    return (keys, again(x), double, loaded(x), other(x), f(x.double()), f.training, model.training, len(f), f[0].in_features,
            [n for n, _ in f.named_parameters()], isinstance(f, nn.Sequential), repr(f) == repr(model))


@program(graphs=None)
def nested_compiled_modules(compile):
    inner = compile(nn.Linear(3, 3))
    outer = nn.Sequential(inner, nn.ReLU(), compile(nn.Linear(3, 2)))
    f = compile(outer)
    return trained(f, ft.randn(2, 3), leaves=outer), list(outer.state_dict()), f(ft.randn(2, 3))


@program(graphs=None)
def module_compiled_in_place(compile):
    model = nn.Linear(3, 2)
    forward = model.forward
    model.forward = compile(forward)
    return trained(model, ft.randn(4, 3), leaves=model)


@program()
def recursion(compile):
    def f(x, n):
        return x if n == 0 else f(x * 2, n - 1) + 1

    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)
    return trained(compile(lambda x: f(x, 4) * fib(7)), ft.randn(2, requires_grad=True))


@program(graphs=None)
def python_inside(compile):
    def f(x, names):
        parts = {n: x * i for i, n in enumerate(names)}
        chosen = sorted(parts, key=len, reverse=True)[0]
        total = sum(v for k, v in parts.items() if k != chosen)
        first, *rest = [p.sum() for p in parts.values()]
        text = f"{chosen}:{len(rest)}" + "".join(map(str.upper, names))
        gen = list(zip(range(3), reversed(rest)))
        return total, first, rest, text, gen, any(n == "b" for n in names), {*names} == {"a", "bb", "c"}, isinstance(x, ft.Tensor)
    return compile(f)(ft.randn(3), ("a", "bb", "c"))


@program(graphs=None, full=False)
def disabled_parts(compile):
    @ft.compiler.disable
    def secret(x):
        return x * float(x.sum() > 0)

    @compile
    def f(x):
        return secret(x + 1) * 2
    return trained(f, ft.rand(3).requires_grad_()), compile(lambda x: x + 1, disable=True)(ft.ones(2))


@program(graphs=None)
def reset_between(compile):
    f = compile(lambda x: x * 2 + 1)
    first = f(ft.ones(2))
    ft.compiler.reset()
    return first, f(ft.ones(2)), f(ft.ones(3))


@program(graphs=None)
def threads(compile):
    f = compile(lambda x: F.softmax(x * 2, -1).sum(0))
    inputs = [ft.randn(4, 5, requires_grad=True) for _ in range(8)]
    seen: list[Any] = [None] * 8

    def work(k):
        for _ in range(5):
            seen[k] = trained(f, inputs[k])
    workers = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    return seen


@program(graphs=1)
def scalar_arguments_that_change(compile):
    @compile
    def f(x, lr):
        return x - lr * x
    return [f(ft.ones(3), lr) for lr in (0.1,)]


@program(graphs=None)
def many_learning_rates(compile):
    @compile
    def f(x, lr, step):
        return x - lr * x + step
    return [f(ft.ones(3), 0.1 / (k + 1), k + 2) for k in range(12)]


@program()
def early_returns_in_modules(compile):
    class Net(nn.Module):
        def __init__(self, deep):
            super().__init__()
            self.a, self.b, self.deep = nn.Linear(2, 2), nn.Linear(2, 2), deep

        def forward(self, x, stop=False):
            x = self.a(x)
            if stop or not self.deep:
                return x
            return self.b(x)
    model = Net(False)
    return compile(model)(ft.randn(1, 2)), model.b.weight.grad

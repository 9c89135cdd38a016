"""Random programs: compiled and eager agree on results, on what was changed, and on exceptions.

Each program is made from a seed; a failure prints the seed and the program. FLAMBEAU_FUZZ_SECONDS runs new seeds for
that long instead of the fixed few.
"""
import linecache
import os
import random
import time
import warnings

import pytest
from tracer.support import compile, copied, events, ops, outcome, plain, rand

import flambeau
from flambeau.frontend.compile import graph_break


class Box:
    def __init__(self, k):
        self.k, self.seen = k, []

    def scale(self, t):
        self.seen.append(self.k)
        return t * self.k

    @property
    def twice(self):
        return self.k * 2

    def __enter__(self):
        self.k += 1
        return self

    def __exit__(self, kind, value, tb):
        self.k -= 1
        return kind is KeyError


class Maker:
    """Writes one random function of (x, y, n, items, table, box)."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.lines = ["def program(x, y, n, items, table, box):", "    a, b, k = x, y, 1"]
        self.loops = 0

    def tensor(self):
        return self.r.choice(["x", "y", "a", "b", "(a + k)", "(x * 2)", "a[0] * b", "ops.tanh(a)", "box.scale(b)",
                              "(a - b.mean())", "b.reshape(a.shape)", "a.flatten()[:4].sum()"])

    def number(self):
        return self.r.choice(["1", "2", "k", "n", "len(items)", "box.k", "box.twice", "x.shape[0]", "(k + n)", "(n % 3)",
                              "table['p']", "sum(v for v in items if isinstance(v, int))"])

    def test(self):
        return self.r.choice([f"{self.number()} > {self.number()}", f"{self.number()} % 2 == 0", "'q' in table",
                              "k < 4 and n", "not items", f"({self.tensor()}).sum() > 0", "a is b", "isinstance(n, int)",
                              "a.requires_grad or k > 2"])

    def block(self, depth, indent):
        for _ in range(self.r.randint(1, 3)):
            self.statement(depth, indent)

    def statement(self, depth, indent):
        simple = [self.assign, self.assign, self.number_step, self.container, self.in_place, self.effect, self.break_]
        nested = [self.branch, self.loop, self.try_, self.with_, self.closure, self.comprehension]
        self.r.choice(simple + (nested * 2 if depth else []))(depth, "    " * indent, indent)

    def put(self, text):
        self.lines.append(text)

    def assign(self, depth, pad, indent):
        self.put(f"{pad}{self.r.choice('ab')} = {self.tensor()} {self.r.choice('+-*')} {self.tensor()}")

    def number_step(self, depth, pad, indent):
        self.put(f"{pad}k = {self.number()} {self.r.choice(['+', '-', '*'])} {self.r.randint(1, 3)}")
        self.put(f"{pad}k = k % 11")

    def container(self, depth, pad, indent):
        self.put(pad + self.r.choice([
            f"items.append({self.number()})", f"table['q'] = {self.number()}", "items.reverse()", "table.pop('q', None)",
            f"items[0:1] = [{self.number()}, k]", f"table.setdefault('z', []).append({self.number()})",
            f"items += [{self.number()}]", "items.insert(0, k)", "items = list(items)", "table = dict(table, r=k)"]))

    def in_place(self, depth, pad, indent):
        self.put(pad + self.r.choice([f"a = a.clone(); a += {self.number()}", "x.mul_(0.5)", f"y[0] = {self.number()}",
                                      f"b = b * 1; b[..., 0] = {self.number()}", "a = x; a.add_(1)"]))

    def effect(self, depth, pad, indent):
        self.put(pad + self.r.choice([f"box.k = {self.number()}", "box.last = a", "box.seen.append(k)",
                                      f"box.seen = [{self.number()}]", "box.made = {'k': k, 'a': [b]}"]))

    def break_(self, depth, pad, indent):
        self.put(pad + self.r.choice(["graph_break()", "k = k + int(a.sum().item()) % 3", "str(a.tolist())",
                                      "hash(k)"]))

    def branch(self, depth, pad, indent):
        self.put(f"{pad}if {self.test()}:")
        self.block(depth - 1, indent + 1)
        if self.r.random() < 0.6:
            self.put(f"{pad}else:")
            self.block(depth - 1, indent + 1)

    def loop(self, depth, pad, indent):
        kind = self.r.random()
        self.loops += 1
        if kind < 0.5:
            self.put(f"{pad}for i{self.loops} in range({self.r.choice(['2', '3', 'n % 4', 'len(items) % 3'])}):")
        elif kind < 0.8:
            self.put(f"{pad}for i{self.loops}, v in enumerate(list(items)[:3]):")
        else:
            self.put(f"{pad}w{self.loops} = 0")
            self.put(f"{pad}while w{self.loops} < 3:")
            self.put(f"{pad}    w{self.loops} += 1")
        self.block(depth - 1, indent + 1)
        if self.r.random() < 0.3:
            self.put(f"{pad}    if {self.test()}: {self.r.choice(['break', 'continue'])}")

    def try_(self, depth, pad, indent):
        self.put(f"{pad}try:")
        self.block(depth - 1, indent + 1)
        raises = ["k = table[chr(k + 65)]", "k = items[9]", "raise KeyError(k)", "k = 1 // (n - 2)", "k = 3"]
        self.put(f"{pad}    {self.r.choice(raises)}")
        self.put(f"{pad}except ({self.r.choice(['KeyError', 'LookupError'])}, ZeroDivisionError) as e:")
        self.put(f"{pad}    items.append(str(type(e).__name__))")
        self.block(depth - 1, indent + 1)
        if self.r.random() < 0.5:
            self.put(f"{pad}finally:")
            self.block(0, indent + 1)

    def with_(self, depth, pad, indent):
        self.put(f"{pad}with {self.r.choice(['box as m', 'flambeau.no_grad()'])}:")
        self.block(depth - 1, indent + 1)
        if self.r.random() < 0.2:
            self.put(f"{pad}    if {self.test()}: raise KeyError('w')" if "box" in self.lines[-1] else f"{pad}    pass")

    def closure(self, depth, pad, indent):
        self.put(f"{pad}def step(t, by={self.number()}):")
        self.put(f"{pad}    nonlocal k")
        self.put(f"{pad}    k = (k + by) % 7")
        if self.r.random() < 0.3:
            self.put(f"{pad}    graph_break()")
        self.put(f"{pad}    return t + k")
        self.put(f"{pad}a = step({self.tensor()}) + step({self.tensor()}, by=2)")

    def comprehension(self, depth, pad, indent):
        self.put(pad + self.r.choice([
            "a = sum([a * j for j in range(3) if j != k])", "k = len({j % 2 for j in range(n)})",
            "table = {key: v for key, v in table.items() if key != 'q'} | {'c': k}",
            "k = max((v for v in items if isinstance(v, int)), default=k) % 9",
            "b = ops.stack([b, b + k]).sum(0)"]))

    def source(self):
        self.block(3, 1)
        self.block(3, 1)
        self.put("    return a, b, k, items, table")
        return "\n".join(self.lines) + "\n"


def run(seed):
    text = Maker(seed).source()
    name = f"<program {seed}>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    space = {"ops": ops, "graph_break": graph_break, "flambeau": flambeau}
    exec(compile_text(text, name), space)
    fn = space["program"]
    compiled = compile(fn, backend="eager")
    r = random.Random(seed)
    for call in range(4):
        rows = r.choice([2, 2, 3, 4])
        args = (rand(rows, 4), rand(rows, 4, requires_grad=r.random() < 0.3), r.choice([1, 2, 2, 5]), [3, 1][:r.randint(0, 2)],
                {"p": r.choice([1, 2])}, Box(r.choice([2, 2, 3])))
        here, there = copied(args), copied(args)
        expected, got = outcome(fn, here, {}), outcome(compiled, there, {})
        where = f"seed {seed}, call {call}\n{text}\n{events(compiled)[:6000]}"
        assert got == expected, where
        assert plain(there) == plain(here), where
        assert flambeau.is_grad_enabled(), where


def compile_text(text, name):
    return __builtins__["compile"](text, name, "exec") if isinstance(__builtins__, dict) else \
        __builtins__.compile(text, name, "exec")


@pytest.mark.parametrize("group", range(6))
def test_random_programs(group):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("ignore", UserWarning)
        for seed in range(group * 10, group * 10 + 10):
            run(seed)


@pytest.mark.skipif("FLAMBEAU_FUZZ_SECONDS" not in os.environ, reason="set FLAMBEAU_FUZZ_SECONDS to fuzz")
def test_fuzz():
    end, seed = time.monotonic() + float(os.environ["FLAMBEAU_FUZZ_SECONDS"]), int(time.time())
    print("first seed", seed)
    while time.monotonic() < end:
        run(seed)
        seed += 1

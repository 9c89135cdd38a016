"""Random programs for the fuzzer: made of statements in a tree, so that a failing one can be made smaller.

A program is a function ``program(x, y, z, n, items, table, box, fn)`` over tensors, numbers, containers and objects that
change from call to call, with globals, helper functions and classes around it.
"""
from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

PRELUDE = '''\
import collections, contextlib, dataclasses, functools, itertools, math, operator
import flambeau
import flambeau.nn.functional as F
from flambeau.frontend.compile import disable, graph_break

LEVEL, SCALES, STATE = 1, [1.0, 0.5, 2.0], {"seen": 0}
WEIGHT = flambeau.arange(4).float() / 4 + 0.5
Pair = collections.namedtuple("Pair", "left right")


@dataclasses.dataclass
class Record:
    value: object
    count: int = 0

    def bumped(self):
        return dataclasses.replace(self, count=self.count + 1)


class Vec:
    total = 0

    def __init__(self, t):
        self.t = t

    def __add__(self, other):
        return Vec(self.t + (other.t if isinstance(other, Vec) else other))

    def __mul__(self, k):
        return Vec(self.t * k)

    def __len__(self):
        return self.t.shape[0]

    def __getitem__(self, i):
        return self.t[i]

    def __iter__(self):
        return iter([self.t[0], self.t[-1]])

    @classmethod
    def count(cls, k):
        cls.total += k
        return cls.total

    @staticmethod
    def half(t):
        return t * 0.5


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

    def __getattr__(self, name):
        if name.startswith("auto_"):
            return len(name)
        raise AttributeError(name)


class Sub(Box):
    def scale(self, t):
        return super().scale(t) + 1

    @property
    def twice(self):
        return super().twice + 1


@contextlib.contextmanager
def scaled(box, by):
    old, box.k = box.k, box.k * by % 7
    try:
        yield box.k
    finally:
        box.k = old


def numbers(k):
    for i in range(k):
        yield i
        if i == 4:
            return


def rows(t):
    for i in range(t.shape[0]):
        yield t[i]


def power(t, k):
    return t if k <= 0 else power(t, k - 1) * 0.5 + t


def mixed(a, /, b=1, *rest, key=2, **more):
    return a * b + key + len(rest) + sum(more.values())


def risky(k):
    if k % 3 == 0:
        raise ValueError(f"bad {k}")
    return k + 1


@disable
def outside(t):
    STATE["seen"] += 1
    return t + 1


def note(*args):
    STATE.setdefault("log", []).append(tuple(a for a in args if not hasattr(a, "dtype")))
'''


@dataclass
class Statement:
    """A line, or a head with suites below it; ``suites`` are (head, statements)."""

    text: str = ""
    suites: list[tuple[str, list[Statement]]] = field(default_factory=list)

    def lines(self, indent: int) -> Iterator[str]:
        pad = "    " * indent
        for line in self.text.splitlines():
            yield pad + line
        for head, body in self.suites:
            yield pad + head
            if not body:
                yield pad + "    pass"
            for statement in body:
                yield from statement.lines(indent + 1)


class Program:
    """The tree of a program, and what its calls are given."""

    def __init__(self, body: list[Statement], seed: int) -> None:
        self.body, self.seed = body, seed

    def source(self) -> str:
        lines = ["def program(x, y, z, n, items, table, box, fn):", "    global LEVEL", "    a, b, c, k, p = x, y, z, 1, None"]
        for statement in self.body:
            lines += statement.lines(1)
        return "\n".join([*lines, "    return a, b, c, k, p, items, table"]) + "\n"

    def smaller(self) -> Iterator[Program]:
        """Programs with one statement less, or with a compound statement replaced by one of its suites."""
        yield from (Program(body, self.seed) for body in _smaller(self.body))


def _smaller(body: list[Statement]) -> Iterator[list[Statement]]:
    for size in (len(body) // 2, 1):
        for i in range(0, len(body), max(size, 1)):
            if size:
                yield body[:i] + body[i + size:]
        if size <= 1:
            break
    for i, statement in enumerate(body):
        for head, suite in statement.suites:
            if "def " not in head and "for " not in head and "except" not in head:
                yield body[:i] + suite + body[i + 1:]
        for j, (head, suite) in enumerate(statement.suites):
            for less in _smaller(suite):
                suites = [*statement.suites[:j], (head, less), *statement.suites[j + 1:]]
                yield [*body[:i], Statement(statement.text, suites), *body[i + 1:]]


def shrink(program: Program, fails: Callable[[Program], bool], tries: int = 250) -> Program:
    """The smallest failing program that is found."""
    while tries > 0:
        for less in program.smaller():
            tries -= 1
            if fails(less):
                program = less
                break
            if tries <= 0:
                break
        else:
            return program
    return program


class Maker:
    """Makes one random program. ``tame``: nothing that lets rounding errors grow or decide."""

    def __init__(self, seed: int, tame: bool = False) -> None:
        self.r, self.tame, self.seed = random.Random(seed), tame, seed
        self.names = 0

    def program(self) -> Program:
        return Program([*self.block(2), *self.block(2), *self.block(1)], self.seed)

    def fresh(self, stem: str) -> str:
        self.names += 1
        return f"{stem}{self.names}"

    def block(self, depth: int, inside: str = "") -> list[Statement]:
        return [self.statement(depth, inside) for _ in range(self.r.randint(1, 3))]

    def statement(self, depth: int, inside: str) -> Statement:
        simple = [self.assign, self.assign, self.assign, self.view, self.in_place, self.number_step, self.container,
            self.container,
                  self.effect, self.objects, self.call, self.break_, self.dtype, self.sizes, self.grad, self.iterate, self.unpack]
        nested = [self.branch, self.branch, self.loop, self.loop, self.try_, self.with_, self.closure, self.comprehension,
                  self.match, self.generator, self.while_]
        if inside == "loop" and self.r.random() < 0.15:
            return Statement(f"if {self.test()}: {self.r.choice(['break', 'continue'])}")
        if depth < 3 and self.r.random() < 0.03:
            return Statement(f"if {self.test()}: return a, k, items")
        return self.r.choice(simple + (nested * 2 if depth else []))(depth)

    # ---- expressions

    def tensor(self, depth: int = 1) -> str:
        r = self.r
        leaf = r.choice(["x", "y", "a", "b", "a", "b"])
        if not depth or r.random() < 0.3:
            return leaf
        t, u = self.tensor(depth - 1), self.tensor(depth - 1)
        return r.choice([
            f"({t} + k)", f"({t} * 2)", f"({t} - {u}.mean())", f"{t}[0] * {u}", f"flambeau.tanh({t})", f"box.scale({t})",
            f"{u}.reshape({t}.shape)", f"{t}.flatten()[:4].sum()", f"({t} * WEIGHT)", f"{t}.abs().amax(-1, keepdim=True)",
            f"flambeau.where({t} > 0, {t}, {u})", f"{t}.clamp(-2, {self.number()} + 0.5)", f"F.relu({t})",
            f"({t} @ {t}.mT).tanh()",
            f"flambeau.cat([{t}.reshape(-1), {u}.reshape(-1)])[:4]", f"{t}.softmax(-1)", f"{t}.detach()", f"({t} > {u}).float()",
            f"-{t}", f"({t} if {self.test()} else {u})", f"{t}.sum(-1, keepdim=True)", f"power({t}, {self.r.randint(0, 2)})",
            f"mixed({t}, 2, key={self.number()})", f"Vec({t})[0]", f"fn({t})", f"outside({t})", f"{t}.clone()",
            f"SCALES[k % 3] * {t}", f"flambeau.stack([{t}, {t}]).mean(0)", f"(Vec({t}) + 1).t"])

    def number(self) -> str:
        return self.r.choice(["1", "2", "k", "n", "len(items)", "box.k", "box.twice", "x.shape[0]", "(k + n)", "(n % 3)", "LEVEL",
                              "table['p']", "sum(v for v in items if isinstance(v, int))", "a.ndim", "a.shape[-1]",
                              "int(n > 2)", "max(k, n)", "min(items or [k], key=str) if 0 else 3", "box.auto_x", "len(table)",
                              "x.numel()", "abs(k - n)", "getattr(box, 'extra', 2)", "(k or 5)", "len(Vec(x))", "int('3')"])

    def test(self) -> str:
        n = self.number
        tests = [f"{n()} > {n()}", f"{n()} % 2 == 0", "'q' in table", "k < 4 and n", "not items", "a is b", "isinstance(n, int)",
                 "a.requires_grad or k > 2", "a.shape == b.shape", "a.dtype == b.dtype", "hasattr(box, 'made')",
                 f"k in (1, {n()})",
                 "x is y", "isinstance(box, Sub)", f"1 < {n()} < 4", "callable(fn)", "p is None", "table.get('p', 0) == 2",
                 "any(v == 1 for v in items)", "flambeau.is_grad_enabled()", f"(j := {n()}) > 2"]
        if not self.tame:
            tests.append(f"({self.tensor(0)}).sum() > 0")
        return self.r.choice(tests)

    # ---- simple statements

    def assign(self, depth: int) -> Statement:
        return Statement(f"{self.r.choice('ab')} = {self.tensor(2)} {self.r.choice('+-*')} {self.tensor(1)}")

    def view(self, depth: int) -> Statement:
        t = self.r.choice("abxy")
        return Statement(self.r.choice([
            f"v = {t}[..., 1:3]; a = a + v.sum()", f"v = {t}.view(-1); b = b + v[0]",
            f"v = {t}.t() if {t}.ndim == 2 else {t}; a = v.sum(0)",
            f"v, w = {t}.chunk(2, -1) if {t}.ndim else ({t}, {t}); a = v.sum() + b",
            f"v = {t}.unsqueeze(0).expand(2, *{t}.shape); b = v[1] * 1",
            f"v = {t}.clone(); w = v[..., 0]; w += 1; a = v", f"v = ({t} * 1).view(-1); v[0:2] = k; b = v.sum() + b",
            f"v = {t} * 1; w = v.reshape(-1); v.add_(1); a = w.sum() + a", f"a = {t}.squeeze(0)", f"b = {t}[::2].sum() + b",
            f"a = {t}[None, ..., -1].sum() + a", f"v = {t}.flatten().unbind()[0]; b = b * v", f"a = {t}.contiguous()"]))

    def in_place(self, depth: int) -> Statement:
        n = self.number()
        return Statement(self.r.choice([
            f"a = a.clone(); a += {n}", "x.mul_(0.5)", f"y[0] = {n}", f"b = b * 1; b[..., 0] = {n}", "a = x; a.add_(1)",
            "a = a * 1; b = a.view(-1)[:2]; b.zero_()", "x[..., 1:] -= 1", "a = a.clone(); a.copy_(a * 2)",
            "x.t_() if 0 else x.neg_()",
            f"a = flambeau.add(x, {n}, out=flambeau.empty_like(x))", "a = a * 1.0; a.fill_(k)",
            f"WEIGHT.mul_(1.0); a = WEIGHT + {n}",
            "b = b.clone(); b.masked_fill_(b > 0, 1.0)", "a = x.detach(); a.mul_(2)", "c = c.clone(); c[0] = k"]))

    def number_step(self, depth: int) -> Statement:
        return Statement(self.r.choice([
            f"k = ({self.number()} {self.r.choice(['+', '-', '*'])} {self.r.randint(1, 3)}) % 11",
            f"k += {self.number()}; k %= 9",
            f"k = divmod({self.number()}, 3)[1]", f"k, j = {self.number()} % 5, k", f"k = {self.number()} // 2 if k else 4",
            f"k = len(f'{{k}}-{{{self.number()}:>3}}')", f"k = math.floor({self.number()} / 2 + 0.3)",
            f"k = round({self.number()} * 0.7)",
            f"k = (k << 1 | 1) ^ {self.r.randint(0, 3)}; k &= 7"]))

    def container(self, depth: int) -> Statement:
        n = self.number()
        return Statement(self.r.choice([
            f"items.append({n})", f"table['q'] = {n}", "items.reverse()", "table.pop('q', None)", f"items[0:1] = [{n}, k]",
            f"table.setdefault('z', []).append({n})", f"items += [{n}]", "items.insert(0, k)", "items = list(items)",
            "table = dict(table, r=k)", "items.extend(range(k % 3))", "del items[:1]", "p = items.pop() if items else None",
            "table.update(s=k, **{'t': n})", "p = {**table, 'u': a}", "p = (a, [b, k], {'x': x})", "items.sort(key=str)",
            "p = Pair(a, k)", "p = Record(a, k).bumped()", "p = dataclasses.asdict(Record(k, n))",
            "p = collections.deque([k, n], maxlen=2); p.append(3)",
            "p = collections.defaultdict(list); p[k].append(a)", "p = sorted({k, n, 3})", "p = collections.Counter([k, n, k])",
            "p = collections.OrderedDict(table); p.move_to_end('p')", "p = items[-1:] + items[:1]", "p = [*items, *range(2)]",
            "p = tuple(reversed(items))", "p = list(zip(items, 'ab'))", "p = dict(enumerate(items))",
            "table['p'] = table.pop('p')",
            "p = [[0] * 2 for _ in range(2)]; p[0][1] = k", "p = items; p.append(k)", "p = items.copy(); p.clear()",
            "p = {k: v for v, k in enumerate(table)}", "p = frozenset([k]) | {n}", "SCALES[0] = SCALES[0] * 1.0 + 0.5"]))

    def effect(self, depth: int) -> Statement:
        n = self.number()
        return Statement(self.r.choice([
            f"box.k = {n}", "box.last = a", "box.seen.append(k)", f"box.seen = [{n}]", "box.made = {'k': k, 'a': [b]}",
            "LEVEL += 1; LEVEL %= 4", f"STATE['seen'] = {n}", "note('at', k)", "print('k is', k, n)", "STATE['t'] = a",
            f"Vec.count({n} % 3)",
            "setattr(box, 'extra', k)", "del box.seen[:]", "box.__dict__.pop('made', None)",
            "table['box'] = box.k; table['fn'] = 1",
            "globals()['LEVEL'] = k % 3", "box.k, box.other = box.twice % 5, n", "flambeau.manual_seed(k)"]))

    def objects(self, depth: int) -> Statement:
        return Statement(self.r.choice([
            "v = Vec(a) + Vec(b) * 2; a = v.t", "first, last = Vec(a); b = first + last", "p = Vec.half(a)",
            "v = Pair(a, b)._replace(left=b); a = v.left * 1",
            "r = Record(a); r.count += k; p = r", "a = Sub(2).scale(a)", "p = type(box).__name__, box.twice",
            "p = isinstance(box, (Sub, Vec))",
            "b = getattr(flambeau, 'sin' if k % 2 else 'cos')(b)", "v = Vec(b); v.t = v.t + 1; v.extra = k; p = v.extra; b = v.t",
            "a = operator.mul(a, 2) if hasattr(box, 'scale') else b", "p = vars(Record(k))", "a = Box.scale(box, a)",
            "p = [f.name for f in dataclasses.fields(Record)]"]))

    def call(self, depth: int) -> Statement:
        t = self.tensor(1)
        return Statement(self.r.choice([
            f"a = mixed({t}, *[2, 3], **{{'key': 1, 'w': k}})", f"b = fn({t})", f"a = functools.partial(mixed, b=2)({t})",
            f"a = functools.reduce(lambda s, v: s * 0.5 + v, [a, b, {t}])", f"a, b = (lambda s, u=k: (s + u, s))({t})",
            f"a = (lambda *v, **w: v[0] + w['q'])({t}, q=k)", f"b = power(b, k % 3) + {t}", "k = risky(k) if k % 3 else k",
            f"fs = [lambda t, i=i: t + i for i in range(2)]; a = fs[1](fs[0]({t}))", "p = list(map(risky, [1, 2]))",
            f"a = sum([{t}, b])", "k = max(numbers(n % 4 + 1))",
            f"a = F.linear({t}, flambeau.ones(2, {t}.shape[-1])) if {t}.ndim else a",
            f"b = F.layer_norm({t}, {t}.shape[-1:]) if {t}.ndim else b", f"a = flambeau.nn.functional.gelu({t})"]))

    def break_(self, depth: int) -> Statement:
        choices = ["graph_break()", "str(a.tolist())", "hash(k)", "a = a + outside(b)", "p = [outside(a), k]",
                   "outside(a); items.append(k)",
                   "k = k + len(str(a.shape)) % 2", "a = mixed(outside(a), key=k)",
                   "b = (outside(b) + a) * (k + int(graph_break() is None))",
                   "p = a.detach().numpy().shape", "p = {'v': outside(a), 'k': n}"]
        if not self.tame:
            choices += ["k = k + int(a.sum().nan_to_num(0, 0, 0).clamp(-99, 99).item()) % 3", "p = bool((a > 0).any())"]
        return Statement(self.r.choice(choices))

    def dtype(self, depth: int) -> Statement:
        return Statement(self.r.choice([
            "c = c + k", "c = c * 2 - 1", "b = b + c.sum()", "a = a.double().mul(2).float()", "c = (a > 0).long().sum() + c",
            "c = c // 2",
            "c = c % 3 == 1; c = c.int()", "b = b * c[0]", "a = a.to(flambeau.float16).to(a.dtype)",
            "c = c.bool() | (c > 1); c = c + 1",
            "a = a / (c.float().abs().sum() + 1)", "p = c.dtype, (c + 1.5).dtype, (c / 2).dtype", "b = b.masked_fill(b > 1, 0.5)",
            "a = flambeau.where(a > b.mean(), 1.0, a)", "c = c[c.argmax() % c.shape[0]] + c", "b = b + flambeau.tensor(k)",
            "b = flambeau.full_like(b, k)", "c = flambeau.arange(c.numel()) + c.flatten()", "b = b.bfloat16().float()"]))

    def sizes(self, depth: int) -> Statement:
        return Statement(self.r.choice([
            "a = x.reshape(-1)[: x.shape[0]].sum() + b", "b = x.view(x.shape[0], -1).sum(1).mean() * b",
            "k = x.shape[0] * x.shape[1] % 7",
            "a = flambeau.zeros(x.shape[0], 2).sum() + a", "a = flambeau.arange(x.shape[0]).float().sum() + a",
            "b = flambeau.cat([x, x]).sum(0)",
            "a = x[: x.shape[0] // 2].sum() + a", "p = x.size(), x.shape[0] + n", "a = x.expand(2, *x.shape)[0] * 1",
            "p = [i for i in range(x.shape[0])]", "a = x.new_ones(len(items) + 1).sum() * a", "b = x.repeat(2, 1).mean(0)",
            "a = x * (x.shape[0] ** 0.5)", "k = k + (x.shape[0] if x.shape[0] > 2 else 0)",
            "a = x.narrow(0, 0, 2) if x.shape[0] > 2 else a",
            "v = list(rows(x)); a = v[-1] + len(v)", "a = flambeau.split(x, 2)[0] * 1"]))

    def grad(self, depth: int) -> Statement:
        return Statement(self.r.choice([
            "a = a.detach()", "a = (a * y).sum()", "b = y * y", "p = a.requires_grad, b.is_leaf", "a = a + y.detach() * 2",
            "b = flambeau.no_grad()(fn)(b)",
            "a = F.dropout(a, 0.5, training=k > 3)", "a = a + flambeau.rand(1)", "a = a * 1 if a.requires_grad else a"]))

    def iterate(self, depth: int) -> Statement:
        return Statement(self.r.choice([
            "for v in rows(a): b = b + v.sum()" if self.r.random() < 0.5 else "for i, v in enumerate(numbers(3)): k += i * v",
            "g = numbers(4); k = next(g) + next(g); p = list(g)", "p = [i + j for i, j in itertools.product(range(2), range(2))]",
            "p = list(itertools.chain(items, [k]))", "it = iter(items); p = next(it, None)",
            "p = list(itertools.accumulate([1, k, n]))",
            "p = any(i > 2 for i in numbers(5)), all(items)", "p = next((v for v in items if v == k), None)",
            "*p, j = numbers(3); k = j",
            "p = list(zip(numbers(2), items))", "p = dict(zip('ab', numbers(2)))",
            "p = list(itertools.islice(itertools.count(k), 3))",
            "p = list(filter(None, items))", "p = max(items, default=k) if all(isinstance(v, int) for v in items) else k"]))

    def unpack(self, depth: int) -> Statement:
        return Statement(self.r.choice([
            "a, b = b, a", "a, (k, j) = a * 1, (n, k)", "first, *rest = [a, b, k]; a = first + len(rest)",
            "(v := a + 1); b = v * 2",
            "a, k = (lambda t: (t, 2))(a)", "p, = [k]", "k, n = n, k", "a = b = a + b", "table['p'], k = k % 3 + 1, table['p']"]))

    # ---- compound statements

    def branch(self, depth: int) -> Statement:
        suites = [(f"if {self.test()}:", self.block(depth - 1))]
        if self.r.random() < 0.25:
            suites.append((f"elif {self.test()}:", self.block(depth - 1)))
        if self.r.random() < 0.6:
            suites.append(("else:", self.block(depth - 1)))
        return Statement("", suites)

    def loop(self, depth: int) -> Statement:
        i = self.fresh("i")
        head = self.r.choice([f"for {i} in range({self.r.choice(['2', '3', 'n % 4', 'len(items) % 3', 'x.shape[0] % 3'])}):",
                              f"for {i}, v in enumerate(list(items)[:3]):", f"for {i} in numbers(n % 3 + 1):",
                              f"for {i} in sorted(table)[:2]:",
                              f"for {i}, v in list(table.items())[:2]:", f"for {i} in (a, b):", f"for {i} in rows(x):"])
        suites = [(head, self.block(depth - 1, "loop"))]
        if self.r.random() < 0.2:
            suites.append(("else:", self.block(0)))
        return Statement("", suites)

    def while_(self, depth: int) -> Statement:
        w = self.fresh("w")
        head = f"while ({w} := {w} + 1) < {self.r.choice(['3', '4', 'n % 4'])}:"
        return Statement(f"{w} = 0", [(head, self.block(depth - 1, "loop"))])

    def try_(self, depth: int) -> Statement:
        raises = ["k = table[chr(k + 65)]", "k = items[9]", "raise KeyError(k)", "k = 1 // (n - 2)", "k = 3", "k = risky(k)",
                  "a = a.view(3, 5)",
                  "a = a @ a", "raise ValueError('v', k) from KeyError(1)", "box.missing", "assert k > 2, k", "int('x')",
                  "next(iter([]))"]
        kinds = self.r.choice(["(KeyError, IndexError)", "LookupError", "(ValueError, ZeroDivisionError)", "Exception",
                               "RuntimeError",
                               "(AttributeError, AssertionError)", "StopIteration"])
        suites = [("try:", [*self.block(depth - 1), Statement(self.r.choice(raises)), *self.block(0)]),
                  (f"except {kinds} as e:", [Statement("items.append(type(e).__name__)"), *self.block(depth - 1)])]
        if self.r.random() < 0.3:
            suites[1][1].append(Statement(self.r.choice(["raise", "raise RuntimeError('again') from e", "p = str(e)"])))
        if self.r.random() < 0.6 and suites[1][0] != "except Exception as e:":
            suites.append(("except Exception as e:", [Statement("p = type(e).__name__")]))
        if self.r.random() < 0.3:
            suites.append(("else:", self.block(0)))
        if self.r.random() < 0.4:
            suites.append(("finally:", self.block(0)))
        return Statement("", suites)

    def with_(self, depth: int) -> Statement:
        head = self.r.choice(["with box as m:", "with flambeau.no_grad():", "with scaled(box, 2) as k:",
                              "with contextlib.suppress(KeyError):",
                              "with box as m, flambeau.enable_grad():", "with flambeau.set_grad_enabled(k > 2):",
                              "with contextlib.nullcontext(k) as j:"])
        body = self.block(depth - 1)
        if self.r.random() < 0.2:
            body.append(Statement(f"if {self.test()}: raise KeyError('w')"))
        return Statement("", [(head, body)])

    def closure(self, depth: int) -> Statement:
        name = self.fresh("step")
        body = [Statement("nonlocal k"), Statement("k = (k + by) % 7")]
        if self.r.random() < 0.5:
            body.append(Statement(self.r.choice(["graph_break()", "items.append(by)", "box.k = by", "t = t * n",
                                                 "if by > 2: return t - k",
                                                 "t = outside(t)", "t = t + a.sum()"])))
        define = Statement("", [(f"def {name}(t, by={self.number()}):", [*body, Statement("return t + k")])])
        use = self.r.choice([f"a = {name}({self.tensor()}) + {name}({self.tensor()}, by=2)", f"a = {name}({self.tensor()}, 1)",
                             f"b = functools.reduce({name}, [1, 2], a)", f"p = [{name}(a, j) for j in range(2)]"])
        return Statement("", [("if True:", [define, Statement(use)])])

    def comprehension(self, depth: int) -> Statement:
        return Statement(self.r.choice([
            "a = sum([a * j for j in range(3) if j != k])", "k = len({j % 2 for j in range(n)})",
            "table = {key: v for key, v in table.items() if key != 'q'} | {'c': k}",
            "k = max((v for v in items if isinstance(v, int)), default=k) % 9", "b = flambeau.stack([b, b + k]).sum(0)",
            "p = [[i * j for j in range(i)] for i in range(3)]", "p = {j: [a, b][j % 2] for j in range(2)}",
            "p = [outside(a) for _ in range(2)]",
            "a = flambeau.stack([v for v in rows(x)]).mean()", "p = [y2 for i in range(3) if (y2 := i * k) > 1]",
            "p = [fn(t) for t in (a, b)]", "p = {f'{key}!': v for key, v in sorted(table.items())[:1]}"]))

    def match(self, depth: int) -> Statement:
        cases = self.r.sample(["case 1 | 2:", "case int(j) if j > 3:", "case [a1, *_]:", "case {'p': 1}:", "case Pair(left=q):",
                               "case Record(count=0):",
                               "case None:", "case str():"], 3)
        subject = self.r.choice(["k", "items", "table", "n", "Pair(k, n)", "Record(k)", "p"])
        return Statement("", [(f"match {subject}:", [Statement("", [(case, self.block(depth - 1))]) for case in cases]
                               + [Statement("", [("case _:", self.block(0))])])])

    def generator(self, depth: int) -> Statement:
        name = self.fresh("gen")
        body = [Statement("", [(f"for j in range({self.r.choice(['2', '3', 'n % 3'])}):",
                                [*([Statement("items.append(j)")] if self.r.random() < 0.3 else []), Statement("yield t + j"),
                                 *([Statement("if j == k: return")] if self.r.random() < 0.3 else [])])])]
        use = self.r.choice([f"a = sum({name}(a))", f"p = [v.sum() for v in {name}(b)]", f"g = {name}(a); b = next(g) + b",
                             f"for v in {name}(b): a = a + v.sum()", f"p = list({name}(1))", f"a = max({name}(k)) + a",
                             f"g = {name}(a); p = (next(g, None), next(g, None))"])
        return Statement("", [("if True:", [Statement("", [(f"def {name}(t):", body)]), Statement(use)])])

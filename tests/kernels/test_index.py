"""Index expressions: what they simplify to, and that simplifying never changes a value."""

from __future__ import annotations

import ast
import itertools
import operator
import random
from typing import Any

import pytest

from flambeau.ir import index as ix
from flambeau.ir import loops
from flambeau.ir.index import var

i, j, c = var("i", 8), var("j", 64), var("c", 384)


def evaluate(x: Any, env: dict) -> int:
    if not isinstance(x, ix.Index):
        return x
    if x.kind in ("var", "size"):
        return env[x]
    a, b = (evaluate(y, env) for y in x.args)
    return {"add": a + b, "mul": a * b, "div": a // b if b else 0, "mod": a % b if b else 0, "min": min(a, b),
            "max": max(a, b)}[x.kind]


@pytest.mark.parametrize("found, wanted", [
    ((i * 64 + j) // 64, i), ((i * 64 + j) % 64, j), ((c // 64) * 64 + c % 64, c), (c // 16 // 4, c // 64),
    (c % 12 % 4, c % 4), (((c % 192) // 64) * 64 + c % 64, c % 192), ((i * 384 + c) // 768, i // 2),
    ((i * 384 + c) % 768, (i % 2) * 384 + c), (j // 64, 0), (j % 100, j), (i * 0, 0), (i + j - i, j), (c // 1, c),
    ((i + 1) * 2 - 2, i * 2), (i // 0, 0), (i % 0, 0)])
def test_simplified(found: Any, wanted: Any) -> None:
    assert found is wanted or found == wanted


def test_equal_expressions_are_one_object() -> None:
    assert i * 3 + j is j + 3 * i and var("i", 8) is i and var("i", 9) is not i


def test_symbolic_sizes() -> None:
    s = ix.size("s0")
    v, w = var("v", 4), var("w", s)
    assert (v * s + w) // s is v and (v * s + w) % s is w
    assert ix.bounds(w) == (0, None) and ix.bounds(v * 3 + 1) == (1, 10)


@pytest.mark.parametrize("a", [0, 1, 2, 7, 8])
def test_a_number_divided_by_a_symbolic_size(a: int) -> None:
    s = ix.size("s0")
    for n, (b, double) in itertools.product(range(1, 10), [(s, 1), (s * 2, 2)]):
        assert evaluate(ix.div(a, b), {s: n}) == a // (n * double)
        assert evaluate(ix.mod(a, b), {s: n}) == a % (n * double)


def test_values_survive() -> None:
    """Random expressions against plain integer arithmetic at every point."""
    r = random.Random(0)
    vars = [var("a", 4), var("b", 6), var("d", 5)]
    for _ in range(300):
        parts = [*vars, 1, 2]
        plain: list[Any] = [*(lambda e, v=v: e[v] for v in vars), lambda e: 1, lambda e: 2]
        for _ in range(r.randrange(2, 7)):
            m, n = r.randrange(len(parts)), r.randrange(len(parts))
            k = r.choice([2, 3, 4, 6, 12])
            op = r.randrange(5)
            x, f, g = parts[m], plain[m], plain[n]
            if op == 0:
                parts.append(ix.add(x, parts[n]))
                plain.append(lambda e, f=f, g=g: f(e) + g(e))
            elif op == 1:
                parts.append(ix.mul(x, k))
                plain.append(lambda e, f=f, k=k: f(e) * k)
            elif op == 2:
                parts.append(ix.div(x, k))
                plain.append(lambda e, f=f, k=k: f(e) // k)
            elif op == 3:
                parts.append(ix.mod(x, k))
                plain.append(lambda e, f=f, k=k: f(e) % k)
            else:
                parts.append(ix.minimum(x, parts[n]))
                plain.append(lambda e, f=f, g=g: min(f(e), g(e)))
        for point in itertools.product(*(range(v.args[1]) for v in vars)):
            env = dict(zip(vars, point))
            assert evaluate(parts[-1], env) == plain[-1](env), str(parts[-1])
            low, high = ix.bounds(parts[-1])
            assert (low is None or low <= evaluate(parts[-1], env)) and (high is None or high >= evaluate(parts[-1], env))


def test_text_parses_back() -> None:
    names = {"i": i, "j": j, "c": c}
    for x in (i * 64 + j, (i * 7 + c) // 5 - 3, ix.minimum(i + 1, 4) * 2, ix.size("s0") * i - c % 7, c // 5 % 3 * 2):
        tree = ast.parse(str(x), mode="eval").body
        assert ix.parse_index(tree, lambda n: names.get(n) or ix.size(n), lambda e: None) is x


def test_conditions_are_what_they_were_before_simplifying() -> None:
    """A condition on two indices, folded or made coarser, holds where it held before."""
    pick = random.Random(2)
    k = var("k", 3)
    for _ in range(2000):
        a = i * pick.choice([0, 1, 64, 192, -64]) + j * pick.choice([0, 1, 3, -1]) + k * pick.choice([0, 64, -64, 1, 2])
        b, fn = pick.randint(-300, 300), pick.choice(loops.COMPARISONS)
        env = {v: pick.randrange(v.args[1]) for v in (i, j, k)}
        wanted = getattr(operator, fn)(evaluate(a + b, env), b)
        found = loops.compare(fn, a + b, b)
        if isinstance(found, loops.Const):
            assert found.args[0] == wanted
        else:
            assert getattr(operator, fn)(*(evaluate(o.args[0], env) for o in found.operands)) == wanted


def test_conditions_lose_the_variables_that_cannot_decide() -> None:
    assert str(loops.compare("lt", i * 64 + j, 128)) == "lt[b8](index(i), 2)"
    assert str(loops.compare("ge", i * 64 + j - 128, 0)) == "ge[b8](index(i), 2)"
    assert str(loops.compare("gt", i * 64 + j, 127)) == "gt[b8](index(i), 1)"
    assert str(loops.compare("lt", i * 64 + j, 120)) == "lt[b8](index(i*64 + j), 120)"

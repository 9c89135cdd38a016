"""Random programs of numbers: what Python computes of sizes, ints and floats is, compiled, what it is eagerly, at every call."""
import math
import random

import pytest
from tracer.support import compile, context_of, count, events, plain, rand

pytestmark = pytest.mark.filterwarnings("error::flambeau.frontend.points.FallbackWarning",
                                        "ignore::flambeau.frontend.points.RecompileWarning")

SEEDS = range(14)
_INT = ["n", "m", "k", "2", "3", "7", "len(x)", "x.shape[1]", "x.numel()"]
_FLOAT = ["p", "0.5", "1.7", "q"]


def whole(r, depth):
    """The text of an expression that is an int."""
    if depth == 0 or r.random() < 0.15:
        return r.choice(_INT)
    a, b = (lambda: whole(r, depth - 1)), (lambda: floating(r, depth - 1))
    return r.choice([
        lambda: f"({a()} + {a()})", lambda: f"({a()} - {a()})", lambda: f"({a()} * {r.choice('2 3 n'.split())})",
        lambda: f"({a()} // {r.choice('2 3 4'.split())})", lambda: f"({a()} % {r.choice('3 4 5 m'.split())})",
        lambda: f"({a()} // (abs({a()}) + 1))", lambda: f"abs({a()})", lambda: f"(-{a()})", lambda: f"min({a()}, {a()})",
        lambda: f"max({a()}, {a()})", lambda: f"int({b()})", lambda: f"round({b()})", lambda: f"math.floor({b()})",
        lambda: f"math.ceil({b()})", lambda: f"({a()} & 6)", lambda: f"({a()} | 1)", lambda: f"({a()} >> 1)",
        lambda: f"math.gcd({a()}, 6)", lambda: f"({a()} if {test(r, depth - 1)} else {a()})", lambda: f"divmod({a()}, 3)[1]",
        lambda: f"({a()} ** 2 % 11)", lambda: f"sum([{a()}, {a()}])", lambda: f"math.prod(x.shape) // {r.choice('23')}",
        lambda: f"int(str({a()}))", lambda: f"{{'a': {a()}}}['a']",
    ])()


def floating(r, depth):
    """The text of an expression that is a float."""
    if depth == 0 or r.random() < 0.2:
        return r.choice(_FLOAT)
    a, b = (lambda: whole(r, depth - 1)), (lambda: floating(r, depth - 1))
    return r.choice([
        lambda: f"({a()} / {r.choice('2 3 7'.split())})", lambda: f"({a()} * {b()})", lambda: f"({b()} + {a()})",
        lambda: f"({b()} - {b()})", lambda: f"float({a()})", lambda: f"math.sqrt(abs({a()}))", lambda: f"({b()} % 3)",
        lambda: f"({b()} // 2)", lambda: f"round({b()}, 1)", lambda: f"min({b()}, {b()})", lambda: f"abs({b()})",
        lambda: f"({b()} if {test(r, depth - 1)} else {b()})",
    ])()


def test(r, depth):
    """The text of a comparison."""
    kind = r.choice([whole, floating])
    return f"{kind(r, max(depth, 0))} {r.choice(['<', '<=', '>', '>=', '==', '!='])} {r.choice([kind, whole])(r, max(depth, 0))}"


test.__test__ = False


def program(seed):
    r = random.Random(seed)
    uses = ["x * {w}", "x + {f}", "x[: abs({w}) % 9]", "x.new_zeros(abs({w}) % 7).sum() + {f}", "torch.arange(abs({w}) % 13)",
            "x.sum() / (1 + abs({w}))", "(x, {w}, {f})", "torch.tensor({w}) + x", "torch.tensor({f})", "x * 2 if {t} else x - 1",
            "torch.full((3,), {f})", "x.reshape(-1)[{w} % 3]", "F.pad(x, (0, abs({w}) % 4))", 'f"""{{({w})}} {{({f}):.3f}}"""']
    lines = [f"    out{k} = " + r.choice(uses).format(w=whole(r, 3), f=floating(r, 2), t=test(r, 2)) for k in range(4)]
    return "\n".join(["def f(x, k, p, q=0.25):", "    n, m = x.shape", *lines, "    return out0, out1, out2, out3"])


def outcome(fn, *args):
    try:
        return plain(fn(*args))
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("seed", SEEDS)
def test_numbers_are_pythons_own(seed):
    import flambeau
    import flambeau.nn.functional as F
    text = program(seed)
    space = {"math": math, "torch": flambeau, "F": F}
    exec(text, space)                                                     # noqa: S102 - the program above
    fn = space["f"]
    compiled = compile(fn, backend="eager", options={"recompile_limit": 6})
    r = random.Random(seed + 1)
    for _ in range(8):
        args = rand(r.randint(1, 9), r.randint(2, 6)), r.randint(0, 12), round(r.uniform(-3, 9), 2)
        assert outcome(compiled, *args) == outcome(fn, *args), f"{args[0].shape, *args[1:]}\n{text}\n{events(compiled)}"
    assert count(compiled, "graph") and context_of(compiled), text

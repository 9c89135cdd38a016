"""Random programs: compiled and eager agree on results, on what was changed, and on exceptions.

Each program is made from a seed and called several times with changing inputs and globals; every call is checked as
`FLAMBEAU_CHECK=1` checks it, or (every third program) on copies. A failure prints the seed and the program, made small, as
a script. `FLAMBEAU_FUZZ_SECONDS` runs new seeds for that long instead of the fixed ones (from `FLAMBEAU_FUZZ_SEED` on).
"""
import builtins
import contextlib
import io
import linecache
import os
import random
import sys
import time
import types
import warnings

import numpy as np
import pytest
from tracer.fuzzing import PRELUDE, Maker, shrink
from tracer.support import compile, copied, events, outcome, plain

import flambeau
from flambeau.frontend.checking import CheckError
from flambeau.runtime.tensor import wrap

CALLS = 3


def module_of(source, seed):
    """The program with its globals as a module of its own."""
    text = PRELUDE + "\n\n" + source
    name = f"<program {seed}>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    module = types.ModuleType(f"fuzz_{seed}")
    sys.modules[module.__name__] = module             # dataclasses look their module up
    exec(builtins.compile(text, name, "exec"), module.__dict__)
    return module


def tensor(r, rows, dtype="float32", grad=False):
    rng = np.random.default_rng(r.randrange(1 << 30))
    array = rng.standard_normal((rows, 4)).astype(dtype) if dtype != "int64" else rng.integers(0, 5, (rows, 4))
    t = wrap(array)
    return t.requires_grad_() if grad else t


def arguments(r, m):
    """Arguments of one call: mostly alike, now and then of another size, dtype, type, or aliased."""
    rows = r.choice([2, 2, 2, 3, 4, 1 if r.random() < 0.1 else 5])
    x = tensor(r, rows)
    y = x if r.random() < 0.07 else tensor(r, rows, "float32" if r.random() < 0.93 else "float64", r.random() < 0.35)
    if r.random() < 0.1:
        x = tensor(r, rows + 1)[:rows] if r.random() < 0.5 else wrap(np.tile(x._a, 2))[:, 2:6]
    kind = m.Box if r.random() < 0.8 else m.Sub
    fn = r.choice([m.Vec.half, lambda t: t + 1, m.Box(2).scale]) if r.random() < 0.3 else m.Vec.half
    items = [3, 1, "s"][:r.randint(0, 2 if r.random() < 0.9 else 3)]
    table = {"p": r.choice([1, 2])} if r.random() < 0.9 else {"q": 1, "p": 2}
    return x, y, tensor(r, rows, r.choice(["int64", "int64", "int64", "float32"])), r.choice([1, 2, 2, 5, True]), items, table, \
        kind(r.choice([2, 2, 3])), fn


def between(r, m):
    """What the program's surroundings do between two calls."""
    if r.random() < 0.15:
        m.LEVEL = r.choice([1, 2, 3])
    if r.random() < 0.1:
        m.SCALES[1] = r.choice([0.5, 0.25])
    if r.random() < 0.05:
        m.Box.twice = property(lambda self: self.k + 5)
    if r.random() < 0.05:
        m.WEIGHT = m.WEIGHT.clone()
    flambeau.manual_seed(r.randrange(100))


def failure(program, backend="eager", on_copies=False, dynamic=None):
    """What is wrong with a program, as text; empty if nothing."""
    try:
        module = module_of(program.source(), program.seed)
    except SyntaxError:
        return ""
    fn = module.program
    compiled = compile(fn, backend=backend, dynamic=dynamic, options={} if on_copies else {"check": True})
    r = random.Random(program.seed)
    for call in range(CALLS):
        between(r, module)
        given = arguments(r, module)
        with flambeau.set_grad_enabled(r.random() < 0.9), contextlib.redirect_stdout(io.StringIO()):
            if on_copies:
                found = _compared_on_copies(fn, compiled, module, given)
            else:
                found = _checked(compiled, given)
        if found:
            return f"call {call}: {found}\n{events(compiled)[:3000]}"
        if not flambeau.is_grad_enabled():
            flambeau.set_grad_enabled(True)
            return f"call {call}: grad mode is left off"
    internal = [e.text for e in compiled.__flambeau_context__.events if e.kind == "fallback" and "compiled" not in e.text]
    return f"the compiler gave up: {internal[0]}" if internal else ""


def _checked(compiled, given):
    try:
        compiled(*given)
    except CheckError as error:
        return str(error)
    except Exception:                                 # the original raises it too, or the check had failed
        return ""
    return ""


def _compared_on_copies(fn, compiled, module, given):
    here, there = copied(given), copied(given)
    before = plain({k: v for k, v in vars(module).items() if k in ("LEVEL", "SCALES", "STATE")})
    kept = {"LEVEL": module.LEVEL, "SCALES": list(module.SCALES), "STATE": dict(module.STATE), "total": module.Vec.total,
            "WEIGHT": module.WEIGHT._a.copy()}
    kept["STATE"] = {k: list(v) if isinstance(v, list) else v for k, v in kept["STATE"].items()}
    random_state = flambeau.get_rng_state()
    expected = outcome(fn, here, {}), plain(here), _space(module)
    module.LEVEL, module.SCALES[:], module.Vec.total = kept["LEVEL"], kept["SCALES"], kept["total"]
    module.WEIGHT._a[...] = kept["WEIGHT"]
    module.STATE.clear()
    module.STATE.update(kept["STATE"])
    flambeau.set_rng_state(random_state)
    got = outcome(compiled, there, {}), plain(there), _space(module)
    for name, e, a in zip(("result", "arguments", "globals"), expected, got):
        if repr(e) != repr(a):
            return f"{name}: compiled {a}\n{' ' * len(name)}     eager {e}\nbefore: {before}"
    return ""


def _space(module):
    return plain([module.LEVEL, module.SCALES, module.STATE, module.Vec.total, module.WEIGHT])


def plan(seed):
    """(backend, on copies, dynamic) for a seed: most programs test the tracer alone."""
    backend = "numpy" if seed % 8 == 5 else "cpp" if seed % 40 == 7 else "eager"
    return backend, seed % 3 == 0 and backend == "eager", (None, None, True, False)[seed // 3 % 4]


def run(seed):
    backend, on_copies, dynamic = plan(seed)
    program = Maker(seed, tame=backend != "eager").program()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = failure(program, backend, on_copies, dynamic)
        if not found:
            sys.modules.pop(f"fuzz_{seed}", None)
            return
        program = shrink(program, lambda p: bool(failure(p, backend, on_copies, dynamic)))
        found = failure(program, backend, on_copies, dynamic) or found
    pytest.fail(f"seed {seed}, backend {backend!r}, {'on copies' if on_copies else 'checked'}, dynamic={dynamic}\n"
                f"{program.source()}\n{found}", pytrace=False)


@pytest.mark.parametrize("group", range(24))
def test_random_programs(group):
    for seed in range(group * 25, group * 25 + 25):
        run(seed)


@pytest.mark.timeout(0)
@pytest.mark.skipif("FLAMBEAU_FUZZ_SECONDS" not in os.environ, reason="set FLAMBEAU_FUZZ_SECONDS to fuzz")
def test_fuzz():
    seed = int(os.environ.get("FLAMBEAU_FUZZ_SEED", time.time()))
    first, end, failed = seed, time.monotonic() + float(os.environ["FLAMBEAU_FUZZ_SECONDS"]), 0
    while time.monotonic() < end and failed < 40:
        try:
            run(seed)
        except pytest.fail.Exception as error:
            failed += 1
            print(f"\n=== {error}", flush=True)
        seed += 1
    print(f"seeds {first} to {seed - 1}: {failed} fail")
    assert not failed

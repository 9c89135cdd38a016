"""Soundness: state of the thread or the process (modes, defaults, flags, clocks, generators) changes between two calls."""
import os
import random
import time
import warnings

import numpy as np
import pytest
from tracer.support import compile
from tracer.traps import both, facts, rand, spring

import flambeau
import flambeau.nn.functional as F
from flambeau import nn

pytestmark = pytest.mark.filterwarnings("error::flambeau.frontend.points.FallbackWarning",
                                        "error::flambeau.frontend.points.RecompileWarning")
X = rand(4, 3)
TRAPS = {}


def trap(fn):
    TRAPS[fn.__name__] = fn
    return fn


@trap
def grad_mode_and_inference_mode():
    x = rand(3, requires_grad=True)

    def g(x):
        y = x * 2
        return y, y.requires_grad, y.is_inference(), flambeau.is_grad_enabled(), flambeau.is_inference_mode_enabled()
    f = both(g)
    yield f(x)
    with flambeau.no_grad():
        yield f(x)
        with flambeau.enable_grad():
            yield f(x)
    with flambeau.inference_mode():
        yield f(x)
    with flambeau.set_grad_enabled(False):
        yield f(x)
    yield f(x)


@trap
def autocast_around_the_call():
    m = nn.Linear(3, 3)
    f = both(lambda x: (m(x), m(x).softmax(-1), x @ x.t(), flambeau.is_autocast_enabled("cpu"),
                        flambeau.get_autocast_dtype("cpu")))
    yield f(X)
    with flambeau.autocast("cpu"):
        yield f(X)
    with flambeau.autocast("cpu", dtype=flambeau.float16):
        yield f(X)
        with flambeau.autocast("cpu", enabled=False):
            yield f(X)
    with flambeau.autocast("cuda", enabled=False):
        yield f(X)
    yield f(X)


@trap
def autocast_chosen_by_a_flag():
    flags = {"on": True, "dtype": flambeau.bfloat16}

    def g(x):
        with flambeau.autocast("cpu", dtype=flags["dtype"], enabled=flags["on"]):
            return x @ x.t()
    f = both(g)
    yield f(X)
    flags["on"] = False
    yield f(X)
    flags.update(on=True, dtype=flambeau.float16)
    yield f(X)


@trap
def the_default_dtype():
    f = both(lambda x: (flambeau.zeros(2), flambeau.tensor([1.5]), flambeau.ones(1) / 3, flambeau.arange(0, 1, 0.5),
                        x.long() / 2, flambeau.get_default_dtype()))
    yield f(X)
    flambeau.set_default_dtype(flambeau.float64)
    try:
        yield f(X)
    finally:
        flambeau.set_default_dtype(flambeau.float32)
    yield f(X)


@trap
def the_default_device():
    f = both(lambda x: (flambeau.zeros(2).device.type, flambeau.arange(3).device.type, x.device.type))
    yield f(X)
    flambeau.set_default_device("meta")
    try:
        yield f(X)
    finally:
        flambeau.set_default_device("cpu")
    with flambeau.device("meta"):
        yield f(X)
    yield f(X)


@trap
def deterministic_algorithms():
    f = both(lambda x: x * 2 if flambeau.are_deterministic_algorithms_enabled() else x)
    yield f(X)
    flambeau.use_deterministic_algorithms(True)
    try:
        yield f(X)
    finally:
        flambeau.use_deterministic_algorithms(False)


@trap
def number_of_threads():
    before = flambeau.get_num_threads()
    f = both(lambda x: x * flambeau.get_num_threads())
    try:
        for n in (1, 2):
            flambeau.set_num_threads(n)
            yield f(X)
    finally:
        flambeau.set_num_threads(before)


@trap
def matmul_precision():
    f = both(lambda x: x * len(flambeau.get_float32_matmul_precision()))
    before = flambeau.get_float32_matmul_precision()
    try:
        for p in ("highest", "high", "medium"):
            flambeau.set_float32_matmul_precision(p)
            yield f(X)
    finally:
        flambeau.set_float32_matmul_precision(before)


@trap
def backend_flags():
    f = both(lambda x: (x * 2 if flambeau.backends.cudnn.benchmark else x) * (3 if flambeau.backends.cudnn.enabled else 1))
    before = flambeau.backends.cudnn.benchmark
    try:
        for flambeau.backends.cudnn.benchmark in (False, True):
            yield f(X)
    finally:
        flambeau.backends.cudnn.benchmark = before


@trap
def environment_variables():
    f = both(lambda x: x * int(os.environ.get("FLAMBEAU_TRAP", "2")) + ("FLAMBEAU_TRAP" in os.environ))
    yield f(X)
    os.environ["FLAMBEAU_TRAP"] = "5"
    try:
        yield f(X)
        os.environ["FLAMBEAU_TRAP"] = "6"
        yield f(X)
        g = both(lambda x: x * int(os.getenv("FLAMBEAU_TRAP")))
        yield g(X)
        os.environ["FLAMBEAU_TRAP"] = "7"
        yield g(X)
    finally:
        del os.environ["FLAMBEAU_TRAP"]


@trap
def the_random_generator_of_tensors():
    def g(x):
        return x + flambeau.rand(3) + F.dropout(x, 0.5)
    compiled = compile(g, backend="eager")
    for seed in (0, 0, 1, 2):
        results = []
        for fn in (compiled, g):
            flambeau.manual_seed(seed)
            results.append((facts(fn(X)), facts(fn(X)), facts(flambeau.rand(1))))
        yield tuple(results)


@trap
def a_generator_object():
    def g(x, generator):
        return x + flambeau.rand(3, generator=generator)
    compiled = compile(g, backend="eager")
    for seed in (0, 1):
        a, b = flambeau.Generator().manual_seed(seed), flambeau.Generator().manual_seed(seed)
        yield tuple(facts(compiled(X, a)) for _ in range(2)), tuple(facts(g(X, b)) for _ in range(2))


@trap
def python_and_numpy_random():
    def g(x):
        return x * random.random() + float(np.random.rand()) + random.randint(0, 9)          # noqa: NPY002
    compiled = compile(g, backend="eager")
    for seed in (0, 1, 2):
        results = []
        for fn in (compiled, g):
            random.seed(seed)
            np.random.seed(seed)                                                              # noqa: NPY002
            results.append((facts(fn(X)), facts(fn(X)), random.random()))
        yield tuple(results)


@trap
def the_clock():
    now = [1.0]

    def fake():
        return now[0]
    f = both(lambda x: x * (2 if time.time() > 0 else 1) + fake())
    yield f(X)
    now[0] = 2.0
    yield f(X)
    compiled = compile(lambda x: (x, time.perf_counter(), time.monotonic()), backend="eager")
    first, second = compiled(X)[1:], compiled(X)[1:]
    yield (second[0] > first[0], second[1] >= first[1]), (True, True)


@trap
def a_torch_function_mode():
    from flambeau.overrides import TorchFunctionMode

    class Double(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            return out * 2 if func is flambeau.sin else out
    f = both(lambda x: flambeau.sin(x))
    yield f(X)
    with Double():
        yield f(X)
    yield f(X)


@trap
def saved_tensor_hooks():
    x = rand(3, requires_grad=True)
    packed = []

    def g(x):
        return (x * x).sum()
    compiled = compile(g, backend="eager")
    for within in (False, True, False):
        counts = []
        for fn in (compiled, g):
            packed.clear()
            x.grad = None
            hooks = flambeau.autograd.graph.saved_tensors_hooks(lambda t: (packed.append(1), t)[1], lambda t: t)
            if within:
                with hooks:
                    fn(x).backward()
            else:
                fn(x).backward()
            counts.append((bool(packed), facts(x.grad)))
        yield tuple(counts)


@trap
def transforms_around_the_call():
    def g(x):
        return x * x.sum()
    compiled = compile(g, backend="eager")
    yield facts(compiled(X)), facts(g(X))
    yield facts(flambeau.func.vmap(compiled)(X)), facts(flambeau.func.vmap(g)(X))
    v = rand(3)
    grads = [facts(flambeau.func.grad(lambda t, fn=fn: fn(t).sum())(v)) for fn in (compiled, g)]
    yield tuple(grads)
    tangents = [facts(flambeau.func.jvp(fn, (v,), (v,))) for fn in (compiled, g)]
    yield tuple(tangents)
    yield facts(compiled(X)), facts(g(X))


@trap
def anomaly_mode():
    x = rand(3, requires_grad=True)
    f = both(lambda x: x * 2 if flambeau.is_anomaly_enabled() else x * 3)
    yield f(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with flambeau.autograd.set_detect_anomaly(True):
            yield f(x)
    yield f(x)


@trap
def print_options():
    f = both(lambda x: (x + 1, f"{x}")[1])
    t = flambeau.tensor([1.23456789])
    yield f(t)
    flambeau.set_printoptions(precision=2)
    try:
        yield f(t)
    finally:
        flambeau.set_printoptions(profile="default")


@trap
def float_flags_of_numpy():
    f = both(lambda x, k: x / k)
    with np.errstate(divide="ignore", invalid="ignore"):
        yield f(X, flambeau.zeros(3))
        yield f(X, flambeau.ones(3))


@trap
def a_compile_flag_read_in_the_code():
    f = both(lambda x: x * 2 if flambeau.compiler.is_compiling() else x * 2 + 0)
    yield f(X)
    yield f(X * 3)


@trap
def the_mode_left_behind():
    """A function that changes the grad mode for its caller."""
    def g(x, on):
        flambeau.set_grad_enabled(on)
        return x * 2
    x = rand(3, requires_grad=True)
    compiled = compile(g, backend="eager")
    for on in (True, False, True):
        got = []
        for fn in (compiled, g):
            try:
                got.append((facts(fn(x, on)), flambeau.is_grad_enabled()))
            finally:
                flambeau.set_grad_enabled(True)
        yield tuple(got)


@trap
def grad_mode_from_other_threads():
    import threading
    x = rand(3, requires_grad=True)
    f = both(lambda x: x * 2)
    yield f(x)
    found = []

    def work():
        with flambeau.no_grad():
            found.append(f(x))
    t = threading.Thread(target=work)
    t.start()
    t.join()
    yield found[0]
    yield f(x)


@pytest.mark.parametrize("name", list(TRAPS))
def test_trap(name):
    spring(TRAPS[name])

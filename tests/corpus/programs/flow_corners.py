"""More control flow: exceptions through frames, generators, context managers, decorators, patterns."""

import contextlib
import functools
import io
import logging

from ..given import program, rand, torch

X = rand(3, 4)
Y = rand(3, 4, seed=1)
P = rand(3, 4).abs()
LOG = []


@program((X,), (Y,))
def try_in_loop(x):
    out = []
    for k in ["a", 2, None, 3.5]:
        try:
            v = k + 1
        except TypeError as e:
            out.append(type(e).__name__)
            continue
        else:
            x = x * v
        finally:
            out.append(k)
    return x, out


class E1(Exception):
    def __init__(self, code, *a):
        super().__init__(code, *a)
        self.code = code


class E2(E1):
    pass


def thrower(x, n):
    if n == 0:
        raise E2(5, "deep")
    try:
        return thrower(x + 1, n - 1)
    finally:
        LOG.append(n)


@program((X, 2), (X, 3), watch=lambda: LOG)
def raises_through_frames(x, n):
    try:
        thrower(x, n)
    except (KeyError, E1) as e:
        return x * e.code, e.args, isinstance(e, E2), str(e)


@program((X,))
def chained(x):
    try:
        try:
            {}["k"]
        except KeyError as e:
            raise ValueError("v") from e
    except ValueError as v:
        return x + 1, type(v.__cause__).__name__, v.__suppress_context__, v.__cause__.args


@program((X, 1), (X, 0), (X, 1))
def uncaught(x, n):
    y = x * 2
    if n == 0:
        raise RuntimeError(f"bad {n}")
    return y


@program((X,))
def catches_shape_error(x):
    try:
        return x @ x
    except RuntimeError:
        return x @ x.T


@program((X,))
def index_errors(x):
    n = 0
    for f in (
        lambda: [1][3],
        lambda: {}["q"],
        lambda: int("z"),
        lambda: None.foo,
        lambda: 1 / 0,
        lambda: x.nope,
        lambda: (1, 2)[5],
        lambda: undefined_name,  # noqa: F821
        lambda: next(iter([])),
        lambda: [].pop(),
        lambda: "a" + 1,
        lambda: len(3),
        lambda: (lambda a: a)(),
        lambda: {}.popitem(),
        lambda: [1].index(2),
        lambda: [].remove(1),
        lambda: set().pop(),
        lambda: float("q"),
        lambda: chr(-1),
        lambda key=None: [][key],
    ):
        try:
            f()
        except (IndexError, KeyError, ValueError, AttributeError, ZeroDivisionError, NameError, StopIteration, TypeError) as e:
            n = n * 2 + len(type(e).__name__) % 2
    return x * 2, n


@program((X,), watch=lambda: LOG)
def finally_order(x):
    def f():
        for i in range(3):
            try:
                if i == 1:
                    return i
            finally:
                LOG.append(("f", i))
                if i == 0:
                    continue
        return 7

    def g():
        while True:
            try:
                break
            finally:
                LOG.append("g")
        return 2

    return x * f() + g()


@program((X,))
def exception_group_like(x):
    errs = []
    for i in range(3):
        try:
            if i:
                raise ValueError(i)
        except ValueError as e:
            errs.append(e)
    return x * sum(e.args[0] for e in errs), [str(e) for e in errs]


@program((X,))
def with_traceback_and_reraise(x):
    try:
        try:
            raise E1(3)
        except E1:
            x = x + 1
            raise
    except Exception as e:
        return x * e.code, e.__context__ is None


@program((X,))
def stop_iteration_value(x):
    def g():
        r = yield x
        s = yield r + 1
        return s * 2

    it = g()
    a = next(it)
    b = it.send(x * 3)
    try:
        it.send(x)
    except StopIteration as e:
        return a + b + e.value


@program((X,))
def generator_close_and_throw(x):
    log = []

    def g():
        try:
            while True:
                try:
                    yield x * len(log)
                except ValueError as e:
                    log.append(str(e))
        finally:
            log.append("closed")

    it = g()
    a = next(it)
    b = it.throw(ValueError("v"))
    it.close()
    return a + b, log


@program((X,))
def generator_pipelines(x):
    def src():
        for i in range(6):
            yield x * i

    def ev(it):
        for i, v in enumerate(it):
            if i % 2 == 0:
                yield v

    def pair(it):
        it = iter(it)
        for a in it:
            yield a, next(it, None)

    total = 0
    for a, b in pair(ev(src())):
        total = total + a if b is None else total + a * b
    return total


@program((X,))
def generator_expression_scopes(x):
    k = 2
    g = (x * i * k for i in range(3) if i != 1)
    k = 5
    return (
        list(g),
        tuple(j for j in (1, 2)),
        dict((i, i * i) for i in range(2)),
        {i for i in "aab"},
        "".join(c for c in "xyz"),
        max((i for i in [3, 1]), default=0),
        sorted(v for v in [2, 1]),
        set(map(str, range(2))),
    )


def gen_outside():
    while True:
        got = yield 1
        LOG.append(got)


@program((X,))
def generator_returned_unconsumed(x):
    y = x + 1
    return (y * i for i in range(2))


@program((X,), (Y,))
def nested_withs(x):
    @contextlib.contextmanager
    def scale(k):
        LOG.append(("in", k))
        try:
            yield k
        finally:
            LOG.append(("out", k))

    with scale(2) as a, scale(3) as b:
        x = x * a + b
        with torch.no_grad(), scale(4) as c:
            x = x * c
    return x, LOG[-1]


class Swallow:
    def __init__(self, kinds):
        self.kinds = kinds

    def __enter__(self):
        LOG.append("enter")
        return self

    def __exit__(self, t, v, tb):
        LOG.append((t.__name__ if t else None, str(v)))
        return t is not None and issubclass(t, self.kinds)


@program((X,), watch=lambda: LOG)
def swallowing(x):
    with Swallow((ValueError,)):
        x = x + 1
        raise ValueError("gone")
    with Swallow((ValueError,)) as s:
        x = x + len(s.kinds)
    try:
        with Swallow((ValueError,)):
            raise KeyError("stays")
    except KeyError:
        x = x * 2
    return x


@program((X,), (P,))
def context_exit_and_stack(x):
    with contextlib.ExitStack() as st:
        for k in range(3):
            st.enter_context(Swallow(()))
        st.callback(LOG.append, "cb")
        x = x * 2
    with contextlib.suppress(ZeroDivisionError):
        1 // 0
    with contextlib.nullcontext(x * 3) as n:
        x = x + n
    with contextlib.closing(io.StringIO()) as f:  # noqa: F841
        pass
    return x


class Deco(contextlib.ContextDecorator):
    def __enter__(self):
        LOG.append("d-in")
        return self

    def __exit__(self, *e):
        LOG.append("d-out")
        return False


@Deco()
def decorated(x):
    return x * 2


@program((X,), watch=lambda: LOG)
def context_decorator(x):
    return decorated(x) + 1


@program((X,), (X,))
def grad_modes(x):
    w = torch.ones(4, requires_grad=True)
    with torch.no_grad():
        a = x * w
    with torch.enable_grad():
        b = x * w
    with torch.set_grad_enabled(False):
        c = x * w

    @torch.no_grad()
    def f(t):
        return t * w

    d = f(x)
    prev = torch.is_grad_enabled()
    torch.set_grad_enabled(False)
    e = x * w
    torch.set_grad_enabled(prev)
    return a.requires_grad, b.requires_grad, c.requires_grad, d.requires_grad, e.requires_grad, a + b.detach()


@program((X,))
def inference_mode_region(x):
    with torch.inference_mode():
        y = x * 2
    return y.sin(), y.is_inference()


@torch.inference_mode()
def infer(x):
    return x * 3


@program((X,))
def inference_mode_decorator(x):
    return infer(x + 1)


@program((X,))
def autocast_nest(x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = x @ x.T
        with torch.autocast("cpu", enabled=False):
            z = x @ x.T
        w = torch.is_autocast_enabled("cpu")
    return y.float(), z, y.dtype, w


@program((X, 3), (X, 12), (X, "s"), (X, [1, 2]), (X, {"k": 2, "z": 1}), (X, (1, 2, 3)), (X, None))
def match_everything(x, v):
    match v:
        case None:
            return x
        case int(n) if n > 10:
            return x * n
        case 1 | 2 | 3:
            return x + 1
        case str() as s:
            return x * len(s)
        case [a, b]:
            return x * a + b
        case [a, *rest]:
            return x + len(rest)
        case {"k": k, **rest}:
            return x * k + len(rest)
        case _:
            return x


@program((X, 5), (X, 6))
def while_else_and_walrus(x, n):
    i = 0
    while (i := i + 1) < n:
        if i == 4:
            continue
        x = x + i
        if i > 100:
            break
    else:
        x = x * 2
    if (m := n * 2) > 11:
        x = x - m
    return x, i


@program((X,), (Y,), watch=lambda: LOG)
def logging_and_warnings(x):
    logging.getLogger("quiet").debug("size %s", x.shape)
    y = x * 2
    LOG.append("mid")
    return y


def deco(n):
    def wrap(f):
        @functools.wraps(f)
        def inner(*a, **k):
            LOG.append((f.__name__, n))
            return f(*a, **k) * n

        inner.calls = 0
        return inner

    return wrap


@deco(2)
@deco(3)
def target(x, *, b=1):
    "doc"
    return x + b


@program((X,), (X,), watch=lambda: LOG)
def stacked_decos(x):
    target.calls += 1
    return target(x, b=2), target.__name__, target.__doc__, target.calls, target.__wrapped__ is not None


def closure_maker():
    n = 0
    hist = []

    def bump(x):
        nonlocal n
        n += 1
        hist.append(n)
        return x * n

    return bump, hist


BUMP, HIST = closure_maker()


@program((X,), (X,), (X,), watch=lambda: HIST)
def outside_closure_nonlocal(x):
    return BUMP(x) + BUMP(x)


COUNT = 0


@program((X,), (X,), (X,), watch=lambda: COUNT)
def global_store(x):
    global COUNT
    COUNT += 1
    return x + COUNT


NEWG = None


@program((X,), (X,), watch=lambda: NEWG)
def global_tensor_store(x):
    global NEWG
    if NEWG is None:
        NEWG = x.clone()
    NEWG = NEWG * 2
    return NEWG + x


@program((X,))
def kwonly_and_posonly(x):
    def f(a, /, b, *c, d=4, **e):
        return a * b + sum(c) + d + sum(e.values())

    g = functools.partial(f, x, d=1)
    return f(x, 2), g(2, 3, z=4), f(x, b=2, q=1)


@program((X,))
def recursion_mutual(x):
    def ev(n, t):
        return t if n == 0 else od(n - 1, t + 1)

    def od(n, t):
        return t * 0 if n == 0 else ev(n - 1, t * 2)

    return ev(4, x), od(3, x)


@functools.lru_cache(None)
def cached_pow(n):
    return n**2


@program((X, 2), (X, 3), (X, 2))
def lru_cached(x, n):
    return x * cached_pow(n)


@functools.singledispatch
def render(v):
    return 1


@render.register
def _(v: int):
    return v * 2


@render.register(list)
def _(v):
    return len(v)


@program((X,))
def single_dispatch(x):
    return x * render(3) + render([1, 2]) + render("s")


@program((X,))
def comprehension_with_conditions(x):
    a = [[i * j for j in range(3) if j] for i in range(3) if i != 1]
    b = {k: v for k, v in zip("abc", [x, x + 1, x * 2]) if k != "b"}
    c = [y := i for i in range(3)]
    return x + a[1][1] + y, b, c, [*map(lambda t: t.sum(), b.values())]


@program((X, [1, 2, 3, 4]), (X, [1, 3]), (X, [2, 5, 9]))
def for_else_search(x, xs):
    for i, v in enumerate(xs):
        if v == 3:
            x = x * i
            break
    else:
        x = x - 1
    return x


@program((X,))
def iter_protocols(x):
    class It:
        def __init__(self, n):
            self.n = n

        def __iter__(self):
            return self

        def __next__(self):
            if self.n == 0:
                raise StopIteration
            self.n -= 1
            return x * self.n

    class Seq:
        def __getitem__(self, i):
            if i > 2:
                raise IndexError
            return i

        def __len__(self):
            return 3

    a = list(It(3))
    b = list(Seq())
    c = list(reversed(Seq()))
    d = list(zip(It(2), Seq()))
    e = 2 in Seq()
    n = iter(lambda q=[0]: q.append(1) or len(q), 4)
    return a, b, c, d, e, list(n), sum(It(3)), list(iter([1, 2])), dict(enumerate("ab", 1))


@program((X,), (Y,))
def assert_statements(x):
    assert x.dim() == 2, "two dims"
    assert isinstance(x, torch.Tensor)
    y = x + 1
    try:
        assert x.size(0) == 99, f"got {x.size(0)}"
    except AssertionError as e:
        return y, str(e)


@program((X,), (Y,), watch=lambda: LOG)
def lambda_side_effects(x):
    push = lambda v: (LOG.append(v), v)[1]
    a = push(1) and push(0) or push(3)
    return x * a if push(True) else x


@program((X,))
def star_expr_and_ternary(x):
    f = (lambda a: a * 2) if x.size(0) > 2 else (lambda a: a)
    a = [*(x, x + 1)] if True else []
    return f(a[1]), (1, *a)[0], 1 < x.size(0) <= 3 != 5


@program((X,))
def delegation_yield_from(x):
    def inner():
        a = yield 1
        b = yield a
        return a + b

    def outer():
        r = yield from inner()
        yield r * 2

    g = outer()
    next(g)
    g.send(x)
    z = g.send(x * 2)
    return z


@program((X,))
def simulated_coroutine(x):
    def averager():
        total, n, avg = 0, 0, None
        while True:
            v = yield avg
            total = total + v
            n += 1
            avg = total / n

    g = averager()
    next(g)
    return [g.send(x * i) for i in range(3)]


@program((X,))
def except_var_scoping(x):
    e = 5
    try:
        raise KeyError("k")
    except KeyError:
        pass
    try:
        e
        n = 1
    except UnboundLocalError:
        n = 2
    return x * n


@program((X,))
def global_builtin_lookups(x):
    import math as m
    from operator import add as plus

    return plus(x, m.pi)

"""Closures, cells, global and nonlocal stores, signatures, decorators, recursion."""

import functools

from ..given import F, call, nn, program, rand, torch

X = rand(4, 3)
COUNT = 0
HISTORY = []


@program((X,), (X,), (X,), watch=lambda: COUNT)
def global_counter(x):
    global COUNT
    COUNT += 1
    return x + 1


@program((X,), (X,), (X,), watch=lambda: HISTORY)
def global_list_grows(x):
    HISTORY.append(x.shape[0])
    return x * 2


def make_counter():
    calls = 0

    def count():
        nonlocal calls
        calls += 1
        return calls
    return count


COUNTER = make_counter()


@program((X,), (X,), (X,), watch=lambda: COUNTER.__closure__[0].cell_contents)
def nonlocal_counter_from_outside(x):
    return x * COUNTER() / COUNTER()


@program((X,), (X,))
def nonlocal_inside(x):
    total = x

    def add(v):
        nonlocal total
        total = total + v
        return total
    add(1)
    add(total)
    return total


def scaled_by(factor):
    def scale(x, *, bias=0.0):
        return x * factor + bias
    return scale


DOUBLE, TRIPLE = scaled_by(2), scaled_by(3)


@program((X,), (X,))
def closures_of_one_function(x):
    return DOUBLE(x) + TRIPLE(x, bias=1.0)


@program((X, 1), (X, 2), (X, 3))
def makes_and_returns_a_closure(x, n):
    y = x + n

    def later(z):
        return y * z
    return later(2), later


def variadic(x, *rest, scale=1, **named):
    for r in rest:
        x = x + r
    for name in sorted(named):
        x = x * named[name]
    return x * scale


@program((X, 1, 2), (X, 1, 2), call(X, 1, b=3, a=2, scale=4))
def star_arguments_passed_on(x, *rest, **named):
    return variadic(x, *rest, **named), len(rest), sorted(named)


def many(a, b=2, /, c=3, *, d, e=5):
    return a * b + c * d - e


@program((X,), (X,))
def every_kind_of_parameter(x):
    return many(x, d=4), many(x, 1, c=0, d=1, e=0), many(*[x, 5], **{"d": 6})


@program(call(X, k=2), call(X, k=2, flag=True), call(X, k=2))
def keyword_only_arguments(x, *, k, flag=False):
    return x.pow(k) if flag else x * k


def fresh(x, into=None):
    into = [] if into is None else into
    into.append(x.sum())
    return into


def shared(x, into=[]):  # noqa: B006 - the classic
    into.append(len(into))
    return x * len(into)


@program((X,), (X,), (X,), watch=lambda: shared.__defaults__)
def mutable_default(x):
    return shared(x), len(fresh(x))


@program((X,), (X,))
def wrong_arguments_raise_type_error(x):
    problems = []
    for args, kwargs in [((), {}), ((x, 1, 2, 3), {}), ((x,), {"z": 1}), ((x,), {"a": 1, "d": 1})]:
        try:
            many(*args, **kwargs)
        except TypeError:
            problems.append(len(args))
    return x * sum(problems), problems


def logged(fn):
    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        HISTORY.append(fn.__name__)
        return fn(*args, **kwargs)
    return wrapper


def repeated(times):
    def decorate(fn):
        def wrapper(x):
            for _ in range(times):
                x = fn(x)
            return x
        return wrapper
    return decorate


@logged
@repeated(times=3)
def halve(x):
    return x / 2


@program((X,), (X,), watch=lambda: HISTORY[-3:])
def stacked_decorators(x):
    return halve(x)


@program((X,), (X,))
def decorator_applied_inside(x):
    @repeated(2)
    def bump(v):
        return v + 1
    return bump(x), bump.__name__


def power(x, n):
    return torch.ones_like(x) if n == 0 else x * power(x, n - 1)


@program((X, 4), (X, 4))
def recursion(x, n):
    return power(x, n)


def is_even(n):
    return n == 0 or is_odd(n - 1)


def is_odd(n):
    return n != 0 and is_even(n - 1)


@program((X, 6), (X, 6))
def mutual_recursion(x, n):
    return x if is_odd(n) else -x


@program((X,), (X,))
def recursive_inner_function(x):
    def total(node):
        return node if not isinstance(node, (list, tuple)) else sum(total(n) for n in node)
    return total([x, [1, (2.0, x)], []])


@program((X,), (X,))
def lambdas_in_containers(x):
    table = {"double": lambda v: v * 2, "square": lambda v: v * v, "id": lambda v: v}
    order = sorted(table, key=lambda name: -len(name))
    for name in order:
        x = table[name](x)
    return x, order


def compose(*fns):
    return functools.reduce(lambda f, g: lambda x: g(f(x)), fns)


@program((X,), (X,))
def composed_functions(x):
    return compose(torch.abs, torch.sqrt, lambda v: v.sum(0), F.relu)(x)


class Apply:
    scale = 3

    @staticmethod
    def twice(fn, x):
        return fn(fn(x))

    def method(self, x):
        return x * self.scale


@program((X,), (X,))
def functions_as_values(x):
    owner = Apply()
    bound = owner.method
    unbound = Apply.method
    return Apply.twice(bound, x) + unbound(owner, x), bound.__self__ is owner, bound.__func__ is unbound


def tagged(x):
    return x * tagged.factor


tagged.factor = 2


@program((X,), lambda: setattr(tagged, "factor", 5), (X,))
def function_attribute_changes(x):
    return tagged(x)


FACTOR = 2


def set_factor(v):
    global FACTOR
    FACTOR = v


@program((X,), lambda: set_factor(3), (X,), lambda: set_factor(2), (X,))
def global_changes_between_calls(x):
    return x * FACTOR


@program((X,), (X,))
def default_argument_is_an_expression(x):
    width = x.shape[-1]

    def pad(v, n=width + 1, value=x.dtype.itemsize):
        return F.pad(v, (0, n), value=value)
    return pad(x), pad(x, 1)


@program((X, print), (X, print))
def callable_passed_in(x, hook):
    return x + callable(hook) + callable(3) + callable(Apply) + callable(Apply())


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.post = lambda v: v * 2

    def forward(self, x, *extras, gate=None):
        x = x * self.weight
        for e in extras:
            x = x + e
        return self.post(x if gate is None else x * gate)


LAYER = Layer()


@program((X,), (X, 1), call(X, gate=0.5), (X,))
def module_with_a_flexible_forward(x, *args, **kwargs):
    return LAYER(x, *args, **kwargs)


@program((X,), (X,))
def immediately_called_lambdas(x):
    return (lambda v, k=2: v * k)(x) + (lambda *a: a[0] * len(a))(x, x)


def trace_calls(log):
    def decorate(cls):
        cls.calls = log
        return cls
    return decorate


@trace_calls(HISTORY)
class Decorated:
    def __call__(self, x):
        self.calls.append("called")
        return x + 1


@program((X,), (X,), watch=lambda: HISTORY[-2:])
def decorated_class(x):
    return Decorated()(x)

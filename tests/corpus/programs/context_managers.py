"""`with`: ours, the user's, and those of `contextlib`."""

import contextlib
from contextlib import ExitStack, contextmanager, nullcontext, suppress

from ..given import nn, program, rand, torch

X = rand(4, 3)
W = rand(3, 3, seed=5, grad=True)
LOG = []


@program((X,), (X,))
def no_grad_block(x):
    y = x @ W
    with torch.no_grad():
        z = x @ W
        inside = torch.is_grad_enabled()
    return y, z, inside, torch.is_grad_enabled()


@torch.no_grad()
def evaluate(x):
    return x @ W


@program((X,), (X,))
def no_grad_as_a_decorator(x):
    return evaluate(x), (x @ W).requires_grad


@program((X, True), (X, False), (X, True))
def set_grad_enabled_by_argument(x, training):
    with torch.set_grad_enabled(training):
        y = x @ W
        with torch.enable_grad():
            z = y @ W
    return y, z


class Recorder:
    def __init__(self, name, log):
        self.name, self.log = name, log

    def __enter__(self):
        self.log.append("enter " + self.name)
        return self

    def __exit__(self, kind, error, traceback):
        self.log.append(f"exit {self.name} {kind.__name__ if kind else None}")
        return kind is not None and issubclass(kind, KeyError)


@program((X,), (X,), watch=lambda: LOG)
def user_context_manager(x):
    with Recorder("a", LOG) as outer, Recorder("b", LOG):
        x = x + len(outer.name)
    return x * 2


@program((X, []), (X, []))
def exception_swallowed_by_exit(x, log):
    with Recorder("a", log):
        x = x + 1
        raise KeyError("swallowed")
    with Recorder("b", log):
        x = x * 2
    return x


@program((X, []), (X, []))
def exception_passes_through_exit(x, log):
    try:
        with Recorder("outer", log):
            with Recorder("inner", log):
                raise ValueError("kept")
    except ValueError as error:
        log.append(str(error))
        x = x * len(log)
    return x


@program((X, []), (X, []))
def return_and_break_inside_with(x, log):
    for k in range(4):
        with Recorder(str(k), log):
            if k == 1:
                continue
            if k == 2:
                break
            x = x + k
    with Recorder("last", log):
        return x * 3


@contextmanager
def scaled(module, factor):
    before = module.scale
    module.scale = before * factor
    try:
        yield before
    finally:
        module.scale = before


class Scaler(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = 2.0

    def forward(self, x):
        return x * self.scale


SCALER = Scaler()


@program((X,), (X,), watch=lambda: SCALER.scale)
def generator_context_manager(x):
    with scaled(SCALER, 3) as before:
        y = SCALER(x)
    return y + SCALER(x), before


@program((X,), (X,), watch=lambda: SCALER.scale)
def generator_context_manager_with_an_error(x):
    try:
        with scaled(SCALER, 5):
            y = SCALER(x)
            raise RuntimeError("inside")
    except RuntimeError:
        y = SCALER(x) + y
    return y


@contextmanager
def swallow(*kinds):
    try:
        yield
    except kinds:
        LOG.append("swallowed")


@program((X,), (X,), watch=lambda: LOG[-1:])
def generator_context_manager_swallows(x):
    with swallow(ValueError, IndexError):
        x = x + 1
        [][3]
    return x


@program((X, True), (X, False))
def null_context(x, grad):
    with nullcontext() if grad else torch.no_grad():
        y = x @ W
    with nullcontext(5) as five:
        return y * five


@program((X,), (X,))
def suppressed_exceptions(x):
    with suppress(KeyError, AttributeError):
        x = x + 1
        x.nothing
        x = x + 100
    with suppress(ZeroDivisionError):
        1 / 0
    return x


@program((X, []), (X, []))
def exit_stack(x, log):
    with ExitStack() as stack:
        for name in "ab":
            stack.enter_context(Recorder(name, log))
        stack.callback(log.append, "callback")
        stack.enter_context(torch.no_grad())
        y = x @ W
    return y


class Switch(contextlib.ContextDecorator):
    depth = 0

    def __enter__(self):
        Switch.depth += 1
        return self

    def __exit__(self, *exc):
        return False


@contextmanager
def entered(log):
    log.append("in")
    yield
    log.append("out")


@program((X, []), (X, []))
def context_manager_as_decorator(x, log):
    @entered(log)
    def work(v):
        log.append("work")
        return v * 2
    return work(x)


@program((X, []), (X, []))
def manager_kept_in_a_variable(x, log):
    manager = Recorder("m", log)
    with manager as same:
        x = x + (same is manager)
    with manager:
        x = x * 2
    return x


class Resource:
    def __init__(self, log):
        self.log = log

    def close(self):
        self.log.append("closed")


@program((X, []), (X, []))
def closing(x, log):
    with contextlib.closing(Resource(log)) as resource:
        resource.log.append("used")
        return x + len(log)


@program((X, []), (X, []))
def try_finally_with_return(x, log):
    def inner(v):
        try:
            return v + 1
        finally:
            log.append("finally")
    return inner(x) * len(log)

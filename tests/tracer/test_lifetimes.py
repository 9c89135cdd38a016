"""What a compiled call was given, and what it made, ends when an eager call's would: nothing waits for a collection."""
from __future__ import annotations

import gc
import weakref

import pytest
from tracer.support import compile

import flambeau as fl


class Thing:
    pass


def whole(x, thing):
    return (x * 2).sum()


def broken(x, thing):
    y = x * 2
    print(end="")
    return y.sum()


def decided(x, thing):
    for _ in range(2):
        if x.sum() > 0:
            x = x + 1
    return x


def refused(x, thing):
    made = Thing()
    thing.made = weakref.ref(made)
    try:
        x.view(3, 5)
    except RuntimeError:
        x = x * 2
    return x


@pytest.fixture(autouse=True)
def no_collection():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "cpp"])
@pytest.mark.parametrize("fn", [whole, broken, decided, refused], ids=lambda fn: fn.__name__)
@pytest.mark.parametrize("grad", [False, True], ids=["", "grad"])
def test_arguments_may_go(fn, backend, grad):
    compiled = compile(fn, backend=backend)
    for rows in (2, 3, 4, 4):                                  # captured, captured for any size, kept
        x, thing = fl.ones(rows, 4, requires_grad=grad), Thing()
        tensor, other = weakref.ref(x), weakref.ref(thing)
        result = compiled(x, thing)
        assert getattr(thing, "made", int)() in (None, 0)
        del x, thing, result
        assert tensor() is None and other() is None


def test_an_error_that_leaves_keeps_nothing_once_it_is_handled():
    def program(x, thing):
        y = x + 1
        return y.view(7, 7), thing

    compiled = compile(program)
    for _ in range(3):
        thing = Thing()
        other = weakref.ref(thing)
        with pytest.raises(RuntimeError, match="invalid"):
            compiled(fl.ones(2, 2), thing)
        del thing
        gc.collect()                                           # the traceback went through the test's own frame
        assert other() is None

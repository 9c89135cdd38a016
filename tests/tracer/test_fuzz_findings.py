"""What random programs have found: each a small program that once gave something else than eager."""
import contextlib
import io

import pytest
from tracer.support import check, compile, context_of, count, rand, tensor

import flambeau

LOG: list[str] = []


def _rows(x):
    try:
        yield x + 1
        yield x + 2
    finally:
        LOG.append("closed")


def test_a_generator_left_within_try_is_closed_where_its_last_reference_goes():
    def first(x):
        LOG.append("begin")
        y = next(_rows(x)) * 2
        LOG.append("end")
        return y

    def searched(x):
        return any(i > 1 for i in (v.shape[0] for v in _rows(x))), len(LOG)

    def left(x):
        for v in _rows(x):
            break
        LOG.append("after")
        return v

    for fn in (first, searched, left):
        x = rand(2)
        LOG.clear()
        fn(x)
        expected = list(LOG)
        compiled = compile(fn, backend="eager")
        for _ in range(2):
            LOG.clear()
            compiled(x)
            assert LOG == expected
        assert any("finalizer" in e.text for e in context_of(compiled).events if e.kind == "break")


def test_a_generator_left_outside_try_does_not_break():
    def plain(x):
        def rows():
            yield x + 1
            yield x + 2
        return next(rows())

    check(plain, rand(2), graphs=1, breaks=0)


def test_an_object_with_a_finalizer_is_made_for_real():
    class Handle:
        def __init__(self, name):
            self.name = name

        def __del__(self):
            LOG.append(self.name)

    def fn(x):
        handle = Handle("first")
        y = x + len(handle.name)
        LOG.append("made")
        del handle
        LOG.append("gone")
        return y

    compiled = compile(fn, backend="eager")
    for run in (fn, compiled, compiled):
        LOG.clear()
        run(rand(2))
        assert LOG == ["made", "first", "gone"]


def test_what_a_break_raises_has_no_context_of_ours():
    def undefined(x):
        y = x * 2
        return y + not_there                               # noqa: F821

    def refused(x):
        y = x * 2
        return int("z") + y

    for fn in (undefined, refused):
        with pytest.raises(Exception) as found:
            compile(fn, backend="eager")(rand(2))
        assert found.value.__context__ is None


def test_a_stride_that_is_not_there_raises():
    def fn(x):
        try:
            return x.stride(1), x + 1
        except IndexError as error:
            return str(error), x + 2

    context = check(fn, tensor(1.0))
    assert not [e for e in context.events if e.kind == "fallback"]

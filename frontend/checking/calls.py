"""Checked calls: the original and the compiled function on the same objects, one after the other, and the comparison."""
from __future__ import annotations

import contextlib
import functools
import io
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from flambeau.frontend.checking.compare import Difference, by_way_of
from flambeau.frontend.checking.examples import SHAKES, weights
from flambeau.frontend.checking.program import original_ops
from flambeau.frontend.checking.report import CheckError
from flambeau.frontend.checking.runs import Run, compare_runs
from flambeau.frontend.checking.saving import save_call
from flambeau.frontend.checking.search import diagnose, wrongly_raised
from flambeau.frontend.checking.state import Picture, roots_of
from flambeau.frontend.points import Context, GraphBreakError, Point
from flambeau.frontend.trace.frames import on_graph_error
from flambeau.ir.autocast import Autocast
from flambeau.ir.op import _State as _op_state_class
from flambeau.ir.op import state as op_state
from flambeau.runtime.autograd import GradMode, grad
from flambeau.runtime.tensor import Tensor, wrap


class CheckWarning(UserWarning):
    """A call that could not be checked."""


_raised: list[str] = []                 # what compiled graphs have raised in this process
on_graph_error.append(lambda error: _raised.append(f"{type(error).__name__}: {error}"))


class _Running(threading.local):
    what: str = ""                       # "original" or "compiled" inside a checked call


_running = _Running()


@contextlib.contextmanager
def _inside(what: str) -> Iterator[None]:
    before, _running.what = _running.what, what
    try:
        yield
    finally:
        _running.what = before


def checked(context: Context, fn: FunctionType, wrapper: FunctionType) -> Any:
    """``wrapper``, every call of which is compared with a call of the original ``fn``.

    Raises:
        CheckError: they differ in result, exception, printed text, gradients, random numbers drawn, or in anything
            reachable from arguments, closure and globals.
    """
    checker = Checker(context, fn, wrapper)

    @functools.wraps(fn)
    def run(*args: Any, **kwargs: Any) -> Any:
        if _running.what == "original":
            return fn(*args, **kwargs)
        if _running.what or not _ordinary():
            return wrapper(*args, **kwargs)
        return checker.call(args, kwargs)

    return run


def _ordinary() -> bool:
    """Whether ops run eagerly here: no transform, no trace."""
    handler = op_state.handler
    if isinstance(handler, Autocast):
        handler = handler.inner
    return handler is _op_state_class.handler


class Checker:
    """The checks of one compiled function."""

    def __init__(self, context: Context, fn: FunctionType, wrapper: FunctionType) -> None:
        self.context, self.fn, self.wrapper = context, fn, wrapper
        self.calls = 0
        self.earlier: list[bytes] = []                 # the calls that made versions
        self._said: set[str] = set()

    def call(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The compiled function's result, compared with the original's."""
        roots = roots_of(self.fn, args, kwargs)
        before = Picture(roots)
        if before.one_way:
            self._say(f"a call of {self.fn.__qualname__} is not checked: it is given a {before.one_way[0]}, which cannot be run "
                      "through twice. Give it a list instead")
            return self.wrapper(*args, **kwargs)
        self.calls += 1
        expected = self.observe(self.fn, "original", args, kwargs, before)
        before.restore()
        versions, raised = self._versions(), len(_raised)
        actual = self.observe(self.wrapper, "compiled", args, kwargs, before)
        if isinstance(actual.error, GraphBreakError) or _from_the_compiler(actual.error):
            raise actual.error                       # type: ignore[misc]
        difference = compare_runs(before, expected, actual)
        if difference is not None and difference.of_values and self.unstable(args, kwargs, before, expected, actual):
            difference = None
        if difference is None and len(_raised) > raised and wrongly_raised(self, args, kwargs, before, actual.after):
            difference = Difference("the compiled graph", f"raises {_raised[-1]}, which the program does not")
        if difference is not None:
            left = actual.after
            before.restore()
            report = diagnose(self, args, kwargs, before, expected, difference)
            left.restore()
            raise CheckError(report)
        if self._versions() > versions:
            self._keep(args, kwargs, before, actual.after)
        if actual.text:
            sys.stdout.write(actual.text)
        if actual.error is not None:
            raise actual.error
        return actual.value

    def unstable(self, args: tuple, kwargs: dict[str, Any], before: Picture, expected: Run, actual: Run) -> bool:
        """Whether the original itself moves as far where its values are moved by rounding, or rounds as coarsely on the way."""
        before.restore()
        recorder, _ = original_ops(self, args, kwargs, before)
        actual.after.restore()
        with by_way_of(recorder.dtypes):
            if compare_runs(before, expected, actual) is None:
                return True
            shaken = []
            for seed in range(SHAKES):
                before.restore()
                before.shake(seed)
                shaken.append(self.observe(self.fn, "original", args, kwargs, before))
            actual.after.restore()
            if compare_runs(before, expected, actual, shaken) is not None:
                return False
        self._say(f"some results of {self.fn.__qualname__} are not checked: rounding in what it is given moves them as much as "
                  "they differ")
        return True

    def _versions(self) -> int:
        return sum(len(p.entries) for p in self.context._points.values())

    def _keep(self, args: tuple, kwargs: dict[str, Any], before: Picture, after: Picture) -> None:
        """Remember a call that made a version, for a script that shows what the version does to later calls."""
        before.restore()
        saved = save_call(self.fn, args, kwargs)
        after.restore()
        if isinstance(saved, bytes):
            self.earlier.append(saved)

    def observe(self, fn: Callable[..., Any], what: str, args: tuple, kwargs: dict[str, Any], before: Picture) -> Run:
        """Run, and record all that it gave and changed."""
        found = Run()
        printed = io.StringIO()
        with _inside(what), contextlib.redirect_stdout(printed), _warnings(what):
            try:
                found.value = fn(*args, **kwargs)
            except Exception as error:
                found.error = error
        found.text = printed.getvalue()
        found.after = Picture({"result": found.value, **before.roots})
        with _inside(what), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.gradients = _gradients(before, found.after)
        found.after.restore()
        return found

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            warnings.warn(text, CheckWarning, stacklevel=5)


def _from_the_compiler(error: BaseException | None) -> bool:
    """Whether an exception arose while a version was made."""
    at = None if error is None else error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        if code.co_name == "_capture" and code.co_filename == Point.miss.__code__.co_filename:
            return True
        at = at.tb_next
    return False


@contextlib.contextmanager
def _warnings(what: str) -> Iterator[None]:
    """The original's warnings are kept back: the compiled run gives them again."""
    if what != "original":
        yield
        return
    with warnings.catch_warnings(record=True):
        yield


def _gradients(before: Picture, after: Picture) -> list[Any]:
    """The gradients of what the call made, to the tensors that were there before."""
    roots = []
    for held in after.tensors:
        t = held.value
        known = before.held.get(id(t))
        if t.requires_grad and t.grad_fn is not None and (known is None or known.data[0]["_grad_fn"] is not t._grad_fn):
            roots.append(t)
    wanted = [_as_it_was(h.data[0]) for h in before.tensors if h.data[3] and h.data[2].differentiable]
    if not roots or not wanted:
        return []
    try:
        with GradMode(True):
            found = grad(roots, wanted, [weights(r, k) for k, r in enumerate(roots)], retain_graph=True, allow_unused=True)
    except Exception as error:
        return [type(error).__name__]
    return [g if g is None else wrap(g._a.copy()) for g in found]


def _as_it_was(slots: dict[str, Any]) -> Tensor:
    """A tensor at the place in the tape that another had; for a leaf the leaf itself must be asked."""
    if slots["_grad_fn"] is None:
        return slots["leaf"]
    found = Tensor(slots["_a"], slots["_storage"])
    found._rg, found._grad_fn, found._out_nr, found._dtype = True, slots["_grad_fn"], slots["_out_nr"], slots["_dtype"]
    return found

"""Functions that take functions: transforms (`vmap`, `grad`, `jvp`...) and branches and loops (`cond`, `scan`...).

The real function runs while tracing, on tensors that stand for values of the graph (`runtime.traced`). The functions it is
given are the program's, symbolic ones: when it calls one, the tracer goes on interpreting there. So a transform needs no
description here, and what it computes becomes steps of the same graph. Branches and loops are taken over from
`runtime.control`: their functions are traced into graphs of their own (`bodies`), and the whole is one step.
"""
from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.bodies import Bodies
from flambeau.frontend.trace.callables import BuiltinValue
from flambeau.frontend.trace.custom import apply_function
from flambeau.frontend.trace.mappings import DictValue
from flambeau.frontend.trace.sequences import ListValue, TupleValue
from flambeau.frontend.trace.source import Attr, Source
from flambeau.frontend.trace.values import Const, Observed, ScalarValue, SymValue, TensorValue, Unsupported, Value
from flambeau.ir.autocast import OFF, Autocast
from flambeau.ir.op import state, use_handler
from flambeau.ir.tracing import DataDependentError
from flambeau.runtime.autograd import mode
from flambeau.runtime.control import taken
from flambeau.runtime.levels import levels
from flambeau.runtime.tensor import Tensor

if TYPE_CHECKING:
    from flambeau.frontend.trace.effects import Rebuilder
    from flambeau.frontend.trace.interp import Tracer


def takes_functions(raw: Any) -> bool:
    """Whether calling `raw` is done by the real function on symbolic tensors, or `raw` was made by one that is."""
    return type(raw) is types.FunctionType and bool(raw.__dict__.keys() & {"__flambeau_higher_order__", "__flambeau_transform__"})


class _AsOneStep:
    """A break inside is a break of the call, which eager mode then does as a whole, not of a function it was given."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, Unsupported):
            error.inlined = None


class HigherOrder(BuiltinValue):
    """A function for which `takes_functions` holds."""

    def call(self, tr: Tracer, args: list[Value], kwargs: dict[str, Value]) -> Value:
        with _AsOneStep():
            return _call(tr, self.raw, self.source, args, kwargs)


def _call(tr: Tracer, raw: Any, source: Source | None, args: list[Value], kwargs: dict[str, Value]) -> Value:
    if raw.__dict__.get("__flambeau_higher_order__") == "custom_function":
        return apply_function(tr, raw, args, kwargs)
    made = raw.__dict__.get("__flambeau_transform__")
    if made is None:
        if raw.__name__ == "cond" and args and not isinstance(args[0], TensorValue):
            return _decided(tr, args, kwargs)
        found = HostCall(raw).call(tr, args, kwargs)
        if isinstance(found, HostCall):
            found.made_by = raw, args, kwargs
        return found
    maker, given, named = made                                    # a transformed function from outside: transform it here
    inner = tr.wrap(given[0], Attr(source, "__wrapped__")) if source is not None else tr.constant(given[0])
    wrapped = HostCall(maker).on_host(tr, [to_host(tr, inner), *given[1:]], dict(named))
    return HostCall(wrapped).call(tr, args, kwargs)


def _decided(tr: Tracer, args: list[Value], kwargs: dict[str, Value]) -> Value:
    """`cond` with a Python bool: one branch, as an `if` would take it."""
    named = dict(zip(("pred", "true_fn", "false_fn", "operands"), args)) | kwargs
    chosen = named["true_fn" if tr.truth(named["pred"]) else "false_fn"]
    return tr.call(chosen, tr.unpack(named["operands"]) if "operands" in named else [], {})


# --------------------------------------------------------------------------- the two sides

class Callback:
    """A symbolic function as the real one sees it."""

    def __init__(self, tr: Tracer, value: Value) -> None:
        self.tr, self.value = tr, value
        self.__name__ = self.__qualname__ = str(getattr(value, "label", value.pytype().__name__))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tr = self.tr
        with _Inside(tr):
            found = tr.call(self.value, [from_host(tr, a) for a in args], {k: from_host(tr, v) for k, v in kwargs.items()})
            return to_host(tr, found)


class _Inside:
    """While one of the program's functions runs inside a real one: ops go where that one sends them."""

    def __init__(self, tr: Tracer) -> None:
        self.tr = tr

    def __enter__(self) -> None:
        tr = self.tr
        self.before, self.grad = (tr.transform, tr.builder.grad_enabled, taken.by), mode.grad
        tr.transform = state.handler if levels.active else None
        taken.by = None
        tr.set_grad(mode.grad)

    def __exit__(self, *error: Any) -> None:
        tr, changed = self.tr, self.tr.builder.grad_enabled is not self.grad
        tr.transform, before, taken.by = self.before
        mode.grad = self.grad
        tr.set_grad(before)
        if changed and error[0] is None:
            raise Unsupported("autograd-mode", "a function given to a transform, a branch or a loop leaves the grad mode changed")


class Held:
    """A symbolic value that the real function only passes on."""

    def __init__(self, value: Value) -> None:
        self.value = value


class HostCall(Value):
    """A real function, such as a transform or what one returns, called on symbolic values."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.made_by: tuple[Any, list[Value], dict[str, Value]] | None = None

    def pytype(self) -> type:
        return types.FunctionType

    @property
    def label(self) -> str:
        return getattr(self.fn, "__name__", "function")

    def truth(self, tr: Tracer) -> bool:
        return True

    def children(self) -> Iterator[Value]:
        _, args, kwargs = self.made_by or (None, [], {})
        yield from (*args, *kwargs.values())

    def rebuild(self, out: Rebuilder) -> str:
        if self.made_by is None:
            return super().rebuild(out)
        maker, args, kwargs = self.made_by
        given = [out.expr(a) for a in args] + [f"{k}={out.expr(v)}" for k, v in kwargs.items()]
        return out.variable(f"{out.constant(maker)}({', '.join(given)})")

    def call(self, tr: Tracer, args: list[Value], kwargs: dict[str, Value]) -> Value:
        with _AsOneStep():
            given = [to_host(tr, a) for a in args], {k: to_host(tr, v) for k, v in kwargs.items()}
            return from_host(tr, self.on_host(tr, *given))

    def on_host(self, tr: Tracer, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run the function with ops recorded; its errors are those of the traced program, or a break."""
        before, by, wanted = mode.grad, taken.by, tr.builder.grad_enabled
        handler = tr.transform or tr.recorder
        tr.builder.loc = tr.where()
        mode.grad, taken.by = wanted, Bodies(tr)
        try:
            with use_handler(handler if tr.autocast == OFF or tr.transform else Autocast(tr.autocast, handler)):
                return self.fn(*args, **kwargs)
        except DataDependentError as error:
            raise Unsupported("data-dependent", f"{self.label} needs the data of a tensor: {error}") from error
        except (Unsupported, Observed):
            raise
        except NotImplementedError as error:
            raise Unsupported("op", f"{self.label}: {error}") from error
        except Exception as error:
            found = Unsupported("raises", f"{self.label} raises {type(error).__name__}: {error}")
            found.cause = error
            raise found from error
        finally:
            mode.grad, taken.by, tr.builder.grad_enabled = before, by, wanted


def to_host(tr: Tracer, value: Value) -> Any:
    """A symbolic value as the real function may see it: trees of tensors, numbers, functions to call, things to pass on."""
    if isinstance(value, TensorValue):
        return tr.recorder.dressed(value.tensor)
    if isinstance(value, (ListValue, TupleValue)):
        items = [to_host(tr, v) for v in value.values(tr)]
        kind = value.pytype()
        return kind(*items) if hasattr(kind, "_fields") else kind(items)
    if isinstance(value, DictValue):
        return value.cls((k.as_python(tr), to_host(tr, v)) for k, v in value.pairs(tr))
    if isinstance(value, (Const, SymValue, ScalarValue)):
        return value.as_python(tr)
    if isinstance(value, HostCall):
        return value.fn
    return Callback(tr, value) if _can_be_called(value) else Held(value)


def _can_be_called(value: Value) -> bool:
    return any("__call__" in c.__dict__ for c in value.pytype().__mro__)


def from_host(tr: Tracer, raw: Any) -> Value:
    """What the real function returns, or passes to one of the program's."""
    if isinstance(raw, (Callback, Held)):
        return raw.value
    if isinstance(raw, Tensor):
        return tr.from_python(raw)
    if isinstance(raw, tuple):
        return TupleValue([from_host(tr, v) for v in raw], type(raw))
    if type(raw) is list:
        return ListValue([from_host(tr, v) for v in raw])
    if isinstance(raw, dict):
        return DictValue.make(tr, [(tr.constant(k), from_host(tr, v)) for k, v in raw.items()], type(raw))
    if isinstance(raw, (types.FunctionType, functools.partial)):
        return HostCall(raw)
    return tr.constant(raw)

"""One entry of ``op_db`` in flambeau and in PyTorch: forward and backward by dtype, variants, and calls that must fail.

A column of an entry is *counted* if PyTorch itself runs all of the entry's samples there, and *passed* if flambeau agrees
on every one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import OpInfo, SampleInput

import flambeau

from . import ties
from .compare import Differs, Truth, same
from .names import Missing, ours
from .outcome import Outcome, Uncounted, reason_of
from .values import copied, doubled, tensors_in, to_ours

FORWARD = {"f32": torch.float32, "f64": torch.float64, "i64": torch.int64, "bool": torch.bool, "bf16": torch.bfloat16,
           "c64": torch.complex64}
BACKWARD = {"bwd32": torch.float32, "bwd64": torch.float64, "bwdc64": torch.complex64}
VARIANTS = ("method", "inplace", "operator", "alias")
COLUMNS = (*FORWARD, *BACKWARD, *VARIANTS, "errors", "seeded")

# The databases' module forbids the process to set flags such as `torch.backends.cudnn.benchmark`; programs do.
torch.backends.disable_global_flags.__globals__["__allow_nonbracketed_mutation_flag"] = True

#: what these return is memory that nobody has written to
UNWRITTEN = frozenset({"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided", "resize_",
                       "resize_as_"})
SEED = 7


def entries() -> dict[str, OpInfo]:
    """The operators by their full names (``normal.number_mean``)."""
    return {op.full_name: op for op in op_db}


def run(op: OpInfo, column: str) -> Outcome:
    """The outcome of one column of an entry."""
    try:
        if column in FORWARD:
            return forward(op, FORWARD[column])
        if column in BACKWARD:
            return backward(op, BACKWARD[column])
        return {"errors": errors, "seeded": seeded, "method": methods, "inplace": inplaces, "operator": operators,
                "alias": aliases}[column](op)
    except Uncounted:
        return Outcome()


# ---- calls --------------------------------------------------------------------------------------------------------


@dataclass
class Call:
    """A sample's call in both libraries, each on tensors of its own."""

    sample: SampleInput
    args: tuple
    kwargs: dict[str, Any]
    our_args: tuple = ()
    our_kwargs: dict[str, Any] = field(default_factory=dict)

    def convert(self) -> None:
        """Make flambeau's arguments. Raises :class:`Missing`."""
        self.our_args, self.our_kwargs = to_ours((self.args, self.kwargs))

    def in_double(self) -> Call:
        """The same call in double precision."""
        return Call(self.sample, *doubled(copied(((self.sample.input, *self.sample.args), self.sample.kwargs))))

    def theirs(self, function: Callable[..., Any]) -> Any:
        torch.manual_seed(SEED)
        return self.sample.output_process_fn_grad(function(*self.args, **self.kwargs))

    def ours(self, function: Callable[..., Any]) -> Any:
        flambeau.manual_seed(SEED)
        return to_ours(self.sample.output_process_fn_grad)(function(*self.our_args, **self.our_kwargs))


def calls(op: OpInfo, dtype: torch.dtype, grad: bool = False) -> Iterator[Call]:
    """The entry's samples. Raises :class:`Uncounted` if there are none, or PyTorch fails to make them."""
    if not op.supports_dtype(dtype, "cpu"):
        raise Uncounted
    count = 0
    try:
        for sample in op.sample_inputs("cpu", dtype, requires_grad=grad):
            args, kwargs = copied(((sample.input, *sample.args), sample.kwargs))
            yield Call(sample, args, kwargs)
            count += 1
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, ImportError) as error:
        raise Uncounted from error
    if not count:
        raise Uncounted


Reference = Callable[[Call, Callable[..., Any]], Any]
Check = Callable[[Call, Callable[..., Any], Any], None]


def compare(found: Iterator[Call], theirs: Callable[..., Any], find: Callable[[], Any], reference: Reference, check: Check,
            optional: bool = False) -> Outcome:
    """``check(call, our function, reference(call, their function))`` for every call.

    ``find`` gives flambeau's function. Raises :class:`Uncounted` where PyTorch fails on a call, or on all of them if they
    are ``optional``.
    """
    outcome, our, ran = Outcome(counted=True), None, 0
    try:
        our = find()
    except Missing as missing:
        outcome.fail(reason_of(missing))
    for call in found:
        ready = our is not None
        if ready:
            try:
                call.convert()
            except Missing as missing:
                outcome.fail(reason_of(missing))
                ready = False
        try:
            want = reference(call, theirs)
        except Exception as error:
            if optional:
                continue
            raise Uncounted from error
        ran += 1
        if ready:
            outcome.check(lambda call=call, want=want: check(call, our, want), describe(call))
        elif our is None:
            break  # PyTorch runs it: enough to count what flambeau lacks
    if not ran:
        raise Uncounted
    return outcome


def describe(call: Call) -> str:
    """The arguments of a call, shortly."""
    parts = [_brief(a) for a in call.args] + [f"{k}={_brief(v)}" for k, v in call.kwargs.items()]
    return ", ".join(parts)[:160]


def _brief(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype)[6:]}{list(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"({', '.join(_brief(v) for v in value)})"
    return repr(value)


def first_dtype(op: OpInfo) -> torch.dtype:
    """float32 if the entry has it, otherwise the first dtype of the columns that it has."""
    for dtype in FORWARD.values():
        if op.supports_dtype(dtype, "cpu"):
            return dtype
    raise Uncounted


# ---- forward, backward --------------------------------------------------------------------------------------------


@functools.cache
def is_random(op_name: str) -> bool:
    """Whether PyTorch's generator is used when the entry runs."""
    op = entries()[op_name]
    call = next(calls(op, first_dtype(op)))
    seeds = 0

    def watched(*args: Any) -> Any:
        nonlocal seeds
        seeds += 1
        return seed(*args)

    torch.manual_seed(SEED)
    before = torch.get_rng_state()
    seed, torch.manual_seed = torch.manual_seed, watched
    try:
        op.op(*call.args, **call.kwargs)
    except Exception as error:
        raise Uncounted from error
    finally:
        torch.manual_seed = seed
    return seeds > 0 or not torch.equal(before, torch.get_rng_state())


def forward(op: OpInfo, dtype: torch.dtype) -> Outcome:
    """Results; of an op that draws random numbers their shapes and dtypes (their values: column ``seeded``)."""
    values = op.name not in UNWRITTEN and not is_random(op.full_name)
    if op.name in ties.UNSTABLE:
        return compare(calls(op, dtype), op.op, lambda: ours(op.op, op.name), Call.theirs,
                       lambda call, our, want: ties.same(op.name, call.args, call.kwargs, call.ours(our), want))
    return compare(calls(op, dtype), op.op, lambda: ours(op.op, op.name), Call.theirs, lambda call, our, want: same(
        call.ours(our), want, values=values, truth=functools.cache(lambda: call.in_double().theirs(op.op))))


def seeded(op: OpInfo) -> Outcome:
    """The numbers that a random op draws after the same ``manual_seed``."""
    if op.name in UNWRITTEN or not is_random(op.full_name):
        raise Uncounted
    return compare(calls(op, first_dtype(op)), op.op, lambda: ours(op.op, op.name), Call.theirs,
                   lambda call, our, want: same(call.ours(our), want))


def backward(op: OpInfo, dtype: torch.dtype) -> Outcome:
    """Gradients of every differentiable input, for the same cotangents."""
    if dtype not in op.supported_backward_dtypes("cpu"):
        raise Uncounted
    differentiated = 0

    def reference(call: Call, function: Callable[..., Any]) -> tuple[list, list, list]:
        nonlocal differentiated
        outs = _differentiable(call.theirs(function), torch.Tensor)
        inputs = _differentiable((call.args, call.kwargs), torch.Tensor)
        generator = torch.Generator().manual_seed(SEED)
        weights = [torch.randn(t.shape, dtype=torch.complex64 if t.is_complex() else torch.float32, generator=generator).to(
            t.dtype) for t in outs]  # the same numbers whatever the precision
        if not outs or not inputs:
            return outs, weights, []
        differentiated += 1
        return outs, weights, list(torch.autograd.grad(outs, inputs, weights, allow_unused=True))

    def check(call: Call, our: Callable[..., Any], want: Any) -> None:
        random = is_random(op.full_name)
        _check_gradients(call, our, want, None if random else functools.cache(lambda: reference(call.in_double(), op.op)[2]))

    outcome = compare(calls(op, dtype, grad=True), op.op, lambda: ours(op.op, op.name), reference, check)
    if not differentiated:
        raise Uncounted
    return outcome


def _check_gradients(call: Call, our: Callable[..., Any], want: tuple[list, list, list], truth: Truth | None) -> None:
    outs, weights, wanted = want
    found = _differentiable(call.ours(our), flambeau.Tensor)
    if not wanted:
        return
    if len(found) != len(outs):
        raise Differs(f"{len(found)} outputs require grad, not {len(outs)}")
    inputs = _differentiable((call.our_args, call.our_kwargs), flambeau.Tensor)
    grads = flambeau.autograd.grad(found, inputs, to_ours(weights), allow_unused=True)
    for i, (g, w) in enumerate(zip(grads, wanted, strict=True)):
        if g is None and w is None:
            continue
        if w is None:  # an undefined gradient and zeros mean the same
            w = torch.zeros(tuple(g.shape), dtype=getattr(torch, str(g.dtype)[6:]))
        elif g is None:
            g = flambeau.zeros(tuple(w.shape), dtype=to_ours(w.dtype))
        same(g, w if w.layout is torch.strided else w.to_dense(), f"gradient[{i}]",
             truth=None if truth is None else lambda i=i: truth()[i])


def _differentiable(value: Any, kind: type) -> list[Any]:
    return [t for t in tensors_in(value, kind) if t.requires_grad]


# ---- variants -----------------------------------------------------------------------------------------------------


def variant(op: OpInfo, theirs: Callable[..., Any] | None, path: str, writes: bool = False) -> Outcome:
    """The outcome of another way to call the entry: the name ``path``, which for ``writes`` works in place."""
    if theirs is None:
        raise Uncounted

    def reference(call: Call, function: Callable[..., Any]) -> Any:
        if writes and call.sample.broadcasts_input:
            raise RuntimeError("broadcasts the tensor it would write to")
        result = call.theirs(function)
        return (result, call.args[0]) if writes else result

    values = op.name not in UNWRITTEN and not is_random(op.full_name)

    def check(call: Call, our: Callable[..., Any], want: Any) -> None:
        result = call.ours(our)
        if writes:
            if result is not call.our_args[0] and isinstance(result, flambeau.Tensor) and want[0] is call.args[0]:
                raise Differs("the result is not the tensor written to")
            result = (result, call.our_args[0])
        same(result, want, values=values)

    return compare(calls(op, first_dtype(op)), theirs, lambda: ours(theirs, path), reference, check, optional=True)


def _together(parts: list[Outcome | None]) -> Outcome:
    """Several names of one entry in one column."""
    counted = [p for p in parts if p is not None and p.counted]
    total = Outcome(counted=bool(counted), units=len(counted), passed=sum(p.ok for p in counted),
                    samples=sum(p.samples for p in counted))
    for part in counted:
        for reason in part.failures:
            total.fail(reason)
    return total


def _try(run: Callable[[], Outcome]) -> Outcome | None:
    try:
        return run()
    except Uncounted:
        return None


def methods(op: OpInfo) -> Outcome:
    """``Tensor.NAME``."""
    return variant(op, op.get_method(), f"Tensor.{op.name}")


def inplaces(op: OpInfo) -> Outcome:
    """``Tensor.NAME_``, and ``+=`` and its like."""
    return _together([_try(lambda: variant(op, op.get_inplace(), f"Tensor.{op.name}_", writes=True)),
                      _try(lambda: variant(op, op.inplace_operator_variant, "", writes=True))])


def operators(op: OpInfo) -> Outcome:
    """``a + b`` and its like."""
    return variant(op, op.operator_variant, "")


def aliases(op: OpInfo) -> Outcome:
    """The entry's other names: functions, methods, in-place methods."""
    found = []
    for alias in op.aliases:
        found += [_try(lambda a=alias: variant(op, a.op, a.name)),
                  _try(lambda a=alias: variant(op, a.method_variant, f"Tensor.{a.name}")),
                  _try(lambda a=alias: variant(op, a.inplace_variant, f"Tensor.{a.name}_", writes=True))]
    return _together(found)


# ---- errors -------------------------------------------------------------------------------------------------------


def errors(op: OpInfo) -> Outcome:
    """Calls that PyTorch refuses: the same type of exception. Counted as failed where the good calls do not work."""
    if op.error_inputs_func is None:
        raise Uncounted
    works = forward(op, first_dtype(op))
    total = Outcome(counted=True, units=0, notes={"words": 0})
    for bad in op.error_inputs("cpu"):
        packed = (bad.sample_input.input, *bad.sample_input.args), bad.sample_input.kwargs
        if any(t.device.type != "cpu" for t in tensors_in(packed, torch.Tensor)):
            continue
        call = Call(bad.sample_input, *copied(packed))
        try:
            call.theirs(op.op)
        except Exception as error:
            if not isinstance(error, bad.error_type):
                continue
            raised = error
        else:
            continue
        total.units += 1
        if works.failures:
            total.fail(f"good calls fail: {works.failures[0]}")
            continue
        words: list[bool] = []
        if total.check(lambda call=call, bad=bad, raised=raised, words=words: _must_fail(op, call, bad, raised, words),
                       describe(call)):
            total.passed += 1
            total.notes["words"] += words[0]
    if not total.units:
        raise Uncounted
    return total


def _must_fail(op: OpInfo, call: Call, bad: Any, raised: Exception, words: list[bool]) -> None:
    our = ours(op.op, op.name)
    call.convert()
    try:
        call.ours(our)
    except Exception as error:
        kind = bad.error_type if isinstance(bad.error_type, tuple) else (bad.error_type,)
        names = {k.__name__ for k in kind}
        lacking = isinstance(error, NotImplementedError) and not isinstance(raised, NotImplementedError)
        if lacking or not any(k.__name__ in names for k in type(error).__mro__):
            raise Differs(f"raises {reason_of(error)[:120]}, not {type(raised).__name__}: {str(raised)[:160]}") from error
        words.append(_says(bad.error_regex, str(error)))
    else:
        raise Differs(f"raises nothing, not {type(raised).__name__}: {str(raised)[:160]}")


def _says(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


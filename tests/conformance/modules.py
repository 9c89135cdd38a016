"""One entry of ``module_db``: the module of the same arguments and state, trained and evaluated."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.testing._internal.common_modules import ModuleInfo, ModuleInput, module_db

import flambeau

from .compare import Differs, same
from .names import Missing, ours
from .outcome import Outcome, reason_of
from .values import copied, tensors_in, to_ours

COLUMNS = ("modules", "init")
SEED = 7


@functools.cache
def entries() -> dict[str, ModuleInfo]:
    """The modules by name (``nn.Linear``)."""
    return {info.name: info for info in module_db}


def run(info: ModuleInfo, column: str) -> Outcome:
    """The outcome of one column of an entry."""
    outcome = Outcome(counted=True)
    try:
        our_class = ours(info.module_cls, f"nn.{info.module_cls.__name__}")
    except Missing as missing:
        our_class = None
        outcome.fail(reason_of(missing))
    counted: Any = None
    for found in itertools.chain(inputs(info, torch.float32), inputs(info, torch.float64)):
        if counted and found.dtype is not counted:
            break  # float64 is for those that PyTorch itself does not run in float32
        given = found.module
        what = f"{given.desc or given.constructor_input.kwargs}, {'train' if found.training else 'eval'}"
        try:
            theirs = _Theirs(info, given, found.training)
        except Exception:
            continue  # PyTorch itself fails
        counted = found.dtype
        if our_class is None:
            break
        check = _check_initial if column == "init" else _check
        outcome.check(lambda t=theirs, check=check: check(t, our_class), what[:120])
    return outcome if counted is not None and (column != "init" or outcome.samples) else Outcome()


@dataclass
class Given:
    """An input of the entry, its dtype, and whether the module trains."""

    module: ModuleInput
    dtype: torch.dtype
    training: bool


def inputs(info: ModuleInfo, dtype: torch.dtype) -> Iterator[Given]:
    """The entry's inputs of one dtype, for training and for evaluating."""
    for training in (True, False) if dtype in info.supported_dtypes("cpu") else ():
        torch.manual_seed(SEED)
        try:
            found = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=training)
        except Exception:
            continue
        yield from (Given(given, dtype, training) for given in found if given.forward_input is not None)


class _Theirs:
    """What PyTorch's module gives: initial state, output, state afterwards, gradients."""

    def __init__(self, info: ModuleInfo, given: ModuleInput, training: bool) -> None:
        self.training = training
        self.constructed = copied((tuple(given.constructor_input.args), given.constructor_input.kwargs))
        self.args, self.kwargs = copied((tuple(given.forward_input.args), given.forward_input.kwargs))
        self.our_inputs = functools.partial(to_ours, copied((self.args, self.kwargs)))
        module = _made(torch, info.module_cls, *self.constructed, training)
        if info.is_lazy:
            module(*self.args, **self.kwargs)
        self.lazy = info.is_lazy
        self.initial = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in module.state_dict().items()}
        torch.manual_seed(SEED)
        self.output = module(*self.args, **self.kwargs)
        self.afterwards = module.state_dict()
        self.weights, self.gradients, self.parameters = [], [], {}
        outs = [t for t in tensors_in(self.output, torch.Tensor) if t.requires_grad]
        if outs:
            generator = torch.Generator().manual_seed(SEED)
            self.weights = [torch.randn(t.shape, dtype=t.dtype, generator=generator) for t in outs]
            torch.autograd.backward(outs, self.weights)
        self.gradients = [t.grad for t in tensors_in((self.args, self.kwargs), torch.Tensor)]
        self.parameters = {name: p.grad for name, p in module.named_parameters()}
        self.written = repr(module)


def _made(library: Any, cls: Any, args: tuple, kwargs: dict[str, Any], training: bool) -> Any:
    library.manual_seed(SEED)
    module = cls(*args, **kwargs)
    return module.train(training)


def _ours(theirs: _Theirs, cls: Any) -> Any:
    args, kwargs = to_ours(theirs.constructed)
    return _made(flambeau, cls, args, kwargs, theirs.training)


def _check_initial(theirs: _Theirs, cls: Any) -> None:
    """The parameters that the constructor draws."""
    module = _ours(theirs, cls)
    if theirs.lazy:
        args, kwargs = theirs.our_inputs()
        module(*args, **kwargs)
    same(dict(module.state_dict()), dict(theirs.initial), "state_dict")


def _check(theirs: _Theirs, cls: Any) -> None:
    """Everything else, from PyTorch's initial state."""
    module = _ours(theirs, cls)
    if theirs.lazy:
        args, kwargs = theirs.our_inputs()
        module(*args, **kwargs)
    if list(module.state_dict()) != list(theirs.initial):
        raise Differs(f"state_dict has the keys {list(module.state_dict())}, not {list(theirs.initial)}")
    module.load_state_dict(to_ours(theirs.initial))
    args, kwargs = theirs.our_inputs()
    flambeau.manual_seed(SEED)
    output = module(*args, **kwargs)
    same(output, theirs.output, "output")
    same(dict(module.state_dict()), dict(theirs.afterwards), "state_dict afterwards")
    if theirs.weights:
        outs = [t for t in tensors_in(output, flambeau.Tensor) if t.requires_grad]
        if len(outs) != len(theirs.weights):
            raise Differs(f"{len(outs)} outputs require grad, not {len(theirs.weights)}")
        flambeau.autograd.backward(outs, to_ours(theirs.weights))
    for i, (t, want) in enumerate(zip(tensors_in((args, kwargs), flambeau.Tensor), theirs.gradients, strict=True)):
        _same_gradient(t.grad, want, f"gradient of input {i}")
    ours_by_name = dict(module.named_parameters())
    for name, want in theirs.parameters.items():
        _same_gradient(ours_by_name[name].grad, want, f"gradient of {name}")
    if repr(module) != theirs.written:
        raise Differs(f"prints as {repr(module)[:80]}, not {theirs.written[:80]}")


def _same_gradient(got: Any, want: torch.Tensor | None, where: str) -> None:
    if (got is None) != (want is None):
        raise Differs(f"{where} is {'None' if got is None else 'not None'}")
    if want is not None:
        same(got, want if want.layout is torch.strided else want.to_dense(), where)

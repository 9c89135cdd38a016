"""One entry of ``optim_db``: each of its options over several steps, and a resume from ``state_dict`` in between."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.testing._internal.common_optimizers import OptimizerInfo, OptimizerInput, optim_db

import flambeau

from .compare import Differs, same
from .names import Missing, ours
from .outcome import Outcome, reason_of
from .values import copied, to_ours

COLUMNS = ("optimizers", "optim options")
STEPS = 6


@functools.cache
def entries() -> dict[str, OptimizerInfo]:
    """The optimizers by name."""
    return {info.name: info for info in optim_db}


def run(info: OptimizerInfo, column: str) -> Outcome:
    """The outcome of an entry; ``optim options`` counts each of its options."""
    outcome = Outcome(counted=True)
    try:
        our_class = ours(info.optim_cls, f"optim.{info.name}")
    except Missing as missing:
        our_class = None
        outcome.fail(reason_of(missing))
    units = 0
    for given in info.optim_inputs_func("cpu"):
        for resume in (False, True):
            try:
                theirs = _trace(torch, info.optim_cls, given, info, resume)
            except Exception:
                continue  # PyTorch itself refuses
            units += 1
            if our_class is not None:
                what = f"{given.desc or given.kwargs}{', resumed' if resume else ''}"
                outcome.passed += outcome.check(
                    lambda g=given, r=resume, t=theirs: _check(_trace(flambeau, our_class, g, info, r), t), what)
    if column == "optim options":
        outcome.units = units
    return outcome


def _numbers(seed: int, info: OptimizerInfo) -> list[torch.Tensor]:
    """Tensors like the parameters, for a line search in float64."""
    dtype = torch.float64 if info.step_requires_closure else torch.float32
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in ((5, 3), (3,), (4, 1, 2))]


def _trace(library: Any, cls: Any, given: OptimizerInput, info: OptimizerInfo, resume: bool) -> Iterator[Any]:
    """The parameters after each step, then the state; with ``resume`` a new optimizer takes over in the middle."""
    convert: Callable[[Any], Any] = to_ours if library is flambeau else copied
    params = [library.nn.Parameter(p) for p in convert(_numbers(7, info))]
    optimizer = _optimizer(convert, cls, given, params)
    found: list[Any] = []
    steps = 2 if info.step_requires_closure else STEPS  # a line search multiplies rounding
    for step in range(steps):
        if resume and step == steps // 2:
            state = optimizer.state_dict()
            optimizer = _optimizer(convert, cls, given, params)
            optimizer.load_state_dict(state)
        _step(library, optimizer, params, convert(_numbers(100 + step, info)), info)
        found.append([convert(p.detach()) if library is torch else p.detach().clone() for p in params])
    state = optimizer.state_dict()
    return [found, {k: dict(v) for k, v in state["state"].items()}, state["param_groups"]]


def _optimizer(convert: Callable[[Any], Any], cls: Any, given: OptimizerInput, params: list[Any]) -> Any:
    groups: Any = params
    if isinstance(given.params, list) and given.params and isinstance(given.params[0], dict):
        groups = [{**group, "params": [p]} for group, p in zip(given.params, params)]
    return cls(groups, **convert(given.kwargs))


def _step(library: Any, optimizer: Any, params: list[Any], targets: list[Any], info: OptimizerInfo) -> None:
    def closure() -> Any:
        optimizer.zero_grad()
        loss = sum(((p - t) ** 2 * (1 + t * t)).sum() for p, t in zip(params, targets))
        loss.backward()
        if info.only_supports_sparse_grads and library is torch:  # flambeau's takes the dense gradient
            for p in params:
                p.grad = p.grad.to_sparse()
        return loss

    if info.step_requires_closure:
        optimizer.step(closure)
    else:
        closure()
        optimizer.step()


def _check(got: list[Any], want: list[Any]) -> None:
    for step, (g, w) in enumerate(zip(got[0], want[0])):
        same(g, w, f"parameters after step {step + 1}")
    if list(got[1]) != list(want[1]):
        raise Differs(f"the state is of {list(got[1])}, not {list(want[1])}")
    for i, w in want[1].items():
        if sorted(got[1][i], key=str) != sorted(w, key=str):
            raise Differs(f"state has the keys {sorted(got[1][i], key=str)}, not {sorted(w, key=str)}")
        for key, value in w.items():
            same(got[1][i][key], value, f"state[{i}][{key!r}]")
    for g, w in zip(got[2], want[2], strict=True):
        if sorted(g) != sorted(w):
            raise Differs(f"a parameter group has the keys {sorted(g)}, not {sorted(w)}")
        for key, value in w.items():
            same(g[key], value, f"param_groups[{key!r}]")

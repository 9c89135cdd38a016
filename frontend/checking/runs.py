"""What one run of a call gave and left behind, and how two of them compare."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from flambeau.frontend.checking.compare import Comparison, Difference, compare_arrays, compare_tensors, same_text
from flambeau.frontend.checking.state import Picture


@dataclass
class Run:
    """What one of the two runs gave and left behind."""

    value: Any = None
    error: BaseException | None = None
    text: str = ""
    after: Any = None
    gradients: list[Any] = field(default_factory=list)


def compare_runs(before: Picture, expected: Run, actual: Run, shaken: Sequence[Run] = ()) -> Difference | None:
    """The first difference between the original's run and the compiled one. ``shaken``: runs of the original on values moved by
    rounding; what they move by much is unstable, and need not be the same."""
    one, other = expected.error, actual.error
    if one is not None or other is not None:
        text = _compare_errors(one, other)
        if text:
            return Difference("result", text)
    found = Comparison(before, expected.after, actual.after, [s.after for s in shaken]).difference()
    if found is not None:
        return found
    if not same_text(expected.text, actual.text) and not any(s.text != expected.text for s in shaken):
        return Difference("printed text", f"{actual.text!r} instead of {expected.text!r}")
    for name, a, b in (("random numbers drawn", expected.after.generator, actual.after.generator),
                       ("random numbers drawn from NumPy", expected.after.numpy[1], actual.after.numpy[1])):
        if compare_arrays(a, b):
            return Difference(name, "the generator is left in another state")
    if expected.after.grad_mode != actual.after.grad_mode:
        return Difference("grad mode", f"{actual.after.grad_mode} instead of {expected.after.grad_mode} after the call")
    if expected.after.random != actual.after.random:
        return Difference("random numbers drawn from random", "the generator is left in another state")
    return _compare_gradients(before, expected.gradients, actual.gradients, [s.gradients for s in shaken])


def _compare_errors(one: BaseException | None, other: BaseException | None) -> str:
    if one is None or other is None:
        return f"{_error(other)} instead of {_error(one)}"
    if type(one) is not type(other) or not same_text(str(one), str(other)):
        return f"{_error(other)} instead of {_error(one)}"
    return ""


def _error(error: BaseException | None) -> str:
    return "no exception" if error is None else f"{type(error).__name__}: {error}"


def _compare_gradients(before: Picture, expected: list[Any], actual: list[Any], shaken: list[list[Any]]) -> Difference | None:
    if any(isinstance(e, str) for e in expected):
        return None                                  # the program's tape is freed, or does not allow it
    if len(expected) != len(actual):
        return Difference("gradients", f"{len(actual)} instead of {len(expected)}: {actual} instead of {expected}"[:200])
    names = [_name_of(before, h.value) for h in before.tensors if h.data[3] and h.data[2].differentiable]
    for k, (name, e, a) in enumerate(zip(names or ["gradients"], expected, actual)):
        if e is None or a is None:
            some = a if e is None else e
            if some is None or not some._a.any():
                continue
        text = compare_tensors(e, a, [s[k] for s in shaken if len(s) == len(expected)])
        if text:
            return Difference(f"gradient of {name}", text)
    return None


def _name_of(picture: Picture, t: Any) -> str:
    """The shortest way from a root to an object."""
    queue: list[tuple[str, Any]] = list(picture.roots.items())
    seen: set[int] = set()
    while queue:
        path, value = queue.pop(0)
        if value is t:
            return path
        held = picture.held.get(id(value))
        if held is None or id(value) in seen:
            continue
        seen.add(id(value))
        queue += [(path if k in ("globals", "storage") else f"{path}{k}" if k[:1] in "[." else k, v)
                  for k, v in held.parts.items()]
    return "a tensor"

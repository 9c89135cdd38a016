"""Why a function is compiled once more: what was assumed, what it is now, which line assumed it, and the edit that avoids it."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flambeau.frontend.trace.guards import Guard
from flambeau.frontend.trace.source import Attr, Global, Source
from flambeau.runtime.tensor import Tensor


@dataclass(frozen=True)
class Change:
    """One assumption that no longer holds. `was` and `now` are texts; `line` is the user's line that made the assumption."""

    what: str
    was: str
    now: str
    line: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what} was {self.was} and is {self.now}" + (f" (needed at {self.line})" if self.line else "") + \
            (f". Fix: {self.fix}" if self.fix else "")


@dataclass(frozen=True)
class Asked:
    """What the fix depends on besides the guard: `compile(dynamic=)`, and which numbers have changed before."""

    dynamic: bool | None = None
    changed: Callable[[Source], bool] = lambda source: True


def change(text: str, guard: Guard | None, new: Any, asked: Asked = Asked()) -> Change:      # noqa: B008 - it is frozen
    """The sentence of a failed guard; `text` is the guard's own, `new` the value that it rejects."""
    if guard is None:
        what, _, was = text.rpartition(" is ")
        return Change(what, was, "not", "", _ambient_fix(text))
    make = _KINDS.get(guard.key[0], _other)
    what, was, now, fix = make(guard, new, asked)
    return Change(what, was, now, guard.line, fix)


Parts = tuple[str, str, str, str]


def _tensor(guard: Guard, new: Any, asked: Asked) -> Parts:
    """The first fact of a tensor that differs."""
    _, cls, sizes, array_dtype, device, requires_grad = guard.key[:6]
    name = str(guard.source)
    if type(new) is not cls:
        return name, f"a {cls.__name__}", _short(new), "pass values of one type, or compile a function for each"
    shape = tuple(new.shape)
    if len(shape) != len(sizes):
        return f"the rank of {name}", str(len(sizes)), str(len(shape)), \
            "each number of dimensions takes a compile: reshape before the call to have one"
    changed = [k for k, n in enumerate(sizes) if n is not None and n != shape[k]]
    if changed:
        k = changed[0]
        return f"{name}.shape[{k}]", str(sizes[k]), str(shape[k]), _size_fix(name, changed, sizes[k], shape[k], asked)
    if new._a.dtype != array_dtype:
        return f"{name}.dtype", str(array_dtype), str(new._a.dtype), \
            "each dtype takes a compile: cast before the call to have one"
    if new.device != device:
        return f"{name}.device", str(device), str(new.device), "move the tensor before the call"
    return f"{name}.requires_grad", str(requires_grad), str(bool(new.requires_grad)), \
        "with and without gradients take a compile each: detach() the input, or call under no_grad(), where none is wanted"


def _size_fix(name: str, dims: list[int], old: int, new: int, asked: Asked) -> str:
    if old < 2 or new < 2:
        return "sizes 0 and 1 have compiled versions of their own, as they broadcast; pad to at least 2 to avoid one"
    if asked.dynamic is False:
        return "dynamic=False compiles every size; leave it out"
    if name.startswith("("):
        return "compile(..., dynamic=True) makes sizes symbols at once; later sizes need no compile"
    shown = str(dims[0]) if len(dims) == 1 else str(tuple(dims))
    return f"mark_dynamic({name}, {shown}) before the first call, or compile(..., dynamic=True); later sizes need no compile"


def _size(guard: Guard, new: Any, asked: Asked) -> Parts:
    return str(guard.source), "at least 2", str(new), _size_fix("", [], 2, 0, asked)


def _equal(guard: Guard, new: Any, asked: Asked) -> Parts:
    """A value that the trace took as it was."""
    old: Any = guard.key[2] if guard.key[0] == "==" else guard.text.partition(" == ")[2] or guard.text.rpartition(" is ")[2]
    now = _short(new)
    if type(new) in (int, float) and not isinstance(old, str):
        fix = _number_fix(guard.source, now, asked)
        if isinstance(guard.source, Global):
            fix = "pass it as an argument instead of changing a global"
    else:
        fix = "each value takes a compile: keep it the same between calls, or pass what differs as a tensor"
    return str(guard.source), old if isinstance(old, str) and guard.key[0] != "==" else _short(old), now, fix


def _number_fix(source: Source, now: str, asked: Asked) -> str:
    if asked.dynamic is False:
        return "dynamic=False compiles every number; leave it out"
    if not asked.changed(source):
        return f"from now on it is an argument where that will do; pass a tensor, torch.tensor({now}), to have no compile at all"
    return f"its value is used where only a known number will do: pass it as a tensor, torch.tensor({now})"


def _identity(guard: Guard, new: Any, asked: Asked) -> Parts:
    """`x is None`, `flag is True`, or one certain object."""
    old = guard.text.rpartition(" is ")[2]
    if isinstance(guard.source, Attr) and guard.source.name == "training":
        return str(guard.source), old, _short(new), "train() and eval() take a compile each; switch rarely"
    if old in ("True", "False"):
        return str(guard.source), old, _short(new), "each value takes a compile: pass it as a tensor and use where() to have one"
    if old == "None" or new is None:
        return str(guard.source), old, _short(new), "with and without it take a compile each; pass a value always to have one"
    return str(guard.source), old, _short(new), "keep using one object; pass what differs as an argument"


def _type(guard: Guard, new: Any, asked: Asked) -> Parts:
    return f"the type of {guard.source}", guard.key[1].__name__, type(new).__name__, "each type takes a compile: pass one type"


def _code(guard: Guard, new: Any, asked: Asked) -> Parts:
    return str(guard.source), guard.text.rpartition(" runs ")[2], _short(new), \
        "pass the same function, and as arguments what differs between them"


def _length(guard: Guard, new: Any, asked: Asked) -> Parts:
    return f"len({guard.source})", str(guard.key[1]), _length_of(new), \
        "each length takes a compile, as Python loops over it are unrolled: pass one stacked tensor, or lists of one length"


def _keys(guard: Guard, new: Any, asked: Asked) -> Parts:
    return f"the keys of {guard.source}", repr(guard.key[1]), _short(tuple(new) if isinstance(new, dict) else new), \
        "give the dict the same keys in the same order at every call"


def _assumed(guard: Guard, new: Any, asked: Asked) -> Parts:
    relation, _, where = guard.text.rpartition(" (")
    return f"{relation} ({where}", "true", f"false for {_short(new)}", \
        "the line needs the number itself (to loop, to index a list), and each takes a compile; use tensor operations instead" \
        if " == " in relation else \
        "a branch on a size takes a compile for each side; write it with where() or minimum() on tensors to have one"


def _same(guard: Guard, new: Any, asked: Asked) -> Parts:
    if " == " in guard.text:
        other = guard.text.rpartition(" == ")[2]
        return str(guard.source), f"equal to {other}", _short(new), "" if asked.dynamic is False else \
            "call it first with sizes that differ, so that they are separate symbols at once"
    return str(guard.source), f"the same object as {guard.text.rpartition(' is ')[2]}", "another", \
        "pass the object in both places always, or never"


def _other(guard: Guard, new: Any, asked: Asked) -> Parts:
    return f"that {guard.text}", "true", "false", "keep it the same between calls"


_KINDS: dict[Any, Callable[[Guard, Any, Asked], Parts]] = {
    "tensor": _tensor, "size": _size, "==": _equal, "repr": _equal, "is": _identity, "type": _type, "code": _code,
    "len": _length, "keys": _keys, "assumed": _assumed, "same": _same,
}


def _ambient_fix(text: str) -> str:
    for word, fix in (("grad mode", "calls with and without no_grad() take a compile each; keep to one"),
                      ("dtype", "set the default dtype once, before the first call"),
                      ("autocast", "enter autocast around every call, or inside the function"),
                      ("inference", "calls inside and outside inference_mode() take a compile each; keep to one")):
        if word in text:
            return fix
    return ""


def _short(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a {value.dtype.short}[{', '.join(map(str, value.shape))}]"
    try:
        shown = repr(value)
    except Exception:
        shown = f"a {type(value).__name__}"
    return shown if len(shown) < 60 else shown[:57] + "..."


def _length_of(value: Any) -> str:
    try:
        return str(len(value))
    except TypeError:
        return _short(value)


__all__ = ["Change", "Source", "change"]

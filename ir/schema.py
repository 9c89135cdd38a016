"""Op schemas: ``name(Tensor self, *, float beta=1) -> Tensor`` parsed into parameters, and checks of arguments.

Types: ``Tensor``, ``Operand`` (a Tensor or a Python number), ``Tensor[]``, ``Number``, ``int``, ``float``, ``bool``,
``str``, ``int[]``, ``bool[]``, ``dtype``, ``device``, ``any``; a ``?`` behind a type admits None.
"""

from __future__ import annotations

import ast
import numbers
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

REQUIRED = object()
_TENSOR_TYPES = {"Tensor", "Operand", "Tensor[]"}


class Param(NamedTuple):
    """One parameter: ``type`` without the ``?``, ``optional`` for the ``?``, ``kwonly`` behind the ``*``."""

    name: str
    type: str
    optional: bool = False
    default: Any = REQUIRED
    kwonly: bool = False

    @property
    def is_tensor(self) -> bool:
        """Whether tensors may stand here (alone or in a list)."""
        return self.type in _TENSOR_TYPES


class Schema:
    """A schema, parsed when first asked about: most ops that a program loads it never calls."""

    __slots__ = ("name", "_parts", "_found")

    def __init__(self, name: str, parts: Callable[[], tuple[tuple[Param, ...], int]]) -> None:
        self.name, self._parts = name, parts
        self._found: tuple[tuple[Param, ...], int] | None = None

    @property
    def params(self) -> tuple[Param, ...]:
        """The parameters in order."""
        if self._found is None:
            self._found = self._parts()
        return self._found[0]

    @property
    def returns(self) -> int:
        """The number of outputs; -1: a list whose length depends on the arguments."""
        if self._found is None:
            self._found = self._parts()
        return self._found[1]

    @property
    def tensors(self) -> tuple[int, ...]:
        """The positions of parameters that may hold tensors."""
        return tuple(i for i, p in enumerate(self.params) if p.is_tensor)

    def check(self, args: tuple[Any, ...], is_tensor: Any) -> None:
        """Raise ``TypeError`` naming the first argument of a wrong type. ``is_tensor`` tells tensors."""
        for position, (p, value) in enumerate(zip(self.params, args), 1):
            if value is None and p.optional:
                continue
            if not _accepts(p, value, is_tensor):
                kind = "None" if value is None else type(value).__name__
                name = "input" if p.name == "self" else p.name
                where = f"'{name}' (position {position})" if not p.kwonly else f"'{name}'"
                wanted = {"Operand": "Tensor or Number", "Tensor[]": "tuple of Tensors", "int[]": "tuple of ints"}
                raise TypeError(f"{self.name}(): argument {where} must be {wanted.get(p.type, p.type)}, not {kind}")


def _accepts(p: Param, value: Any, is_tensor: Any) -> bool:
    kind = p.type
    if kind == "Tensor":
        return is_tensor(value)
    if kind == "Operand":
        return is_tensor(value) or isinstance(value, numbers.Number) or hasattr(value, "__flambeau_symint__")
    if kind == "Tensor[]":
        return isinstance(value, (tuple, list)) and all(is_tensor(x) or (p.optional and x is None) for x in value)
    if kind == "int":
        return _is_int(value)
    if kind in ("float", "Number"):
        return isinstance(value, numbers.Number) or hasattr(value, "__float__") and not isinstance(value, str)
    if kind == "int[]":
        return _is_int(value) or isinstance(value, (tuple, list)) and all(_is_int(x) for x in value)
    if kind == "str":
        return isinstance(value, str)
    return True


def _is_int(value: Any) -> bool:
    if hasattr(value, "__flambeau_symint__"):  # asking a symbolic int for its index would fix its value
        return True
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def parse(text: str) -> Schema:
    """The schema of a text. Raises ``ValueError`` for a malformed one."""
    head, arrow, result = text.partition("->")
    name, paren, rest = head.strip().partition("(")
    if not arrow or not paren or not rest.rstrip().endswith(")"):
        raise ValueError(f"malformed op schema: {text!r}")
    return Schema(name.strip(), lambda: _parts(rest, result))


def _parts(rest: str, result: str) -> tuple[tuple[Param, ...], int]:
    """The parameters that stand in ``rest``, and how many outputs ``result`` names."""
    params, kwonly = [], False
    for part in _split(rest.rstrip()[:-1]):
        if part == "*":
            kwonly = True
            continue
        declared, equals, default = part.partition("=")
        kind, _, pname = declared.strip().rpartition(" ")
        optional = kind.endswith("?")
        kind = kind.rstrip("?")
        value = ast.literal_eval(default.strip()) if equals else REQUIRED
        if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        params.append(Param(pname, kind, optional, value, kwonly))
    result = result.strip()
    returns = -1 if result == "Tensor[]" else result.count("Tensor")
    return tuple(params), returns


def _split(text: str) -> list[str]:
    """Split at commas outside brackets and quotes."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        if c in "([":
            depth += 1
        elif c in ")]":
            depth -= 1
        elif c == "," and not depth:
            parts.append(text[start:i].strip())
            start = i + 1
    if text[start:].strip():
        parts.append(text[start:].strip())
    return parts


def bind(schema: Schema, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """All arguments in schema order, defaults filled in. Raises ``TypeError`` for missing or unknown ones."""
    bound = list(args)
    rest = dict(kwargs)
    for p in schema.params[len(bound):]:
        if p.name in rest:
            bound.append(rest.pop(p.name))
        elif p.default is not REQUIRED:
            bound.append(p.default)
        else:
            raise TypeError(f"{schema.name}() missing required argument {p.name!r}")
    if rest or len(bound) > len(schema.params):
        raise TypeError(f"{schema.name}() got unexpected arguments {sorted(rest) or list(args)}")
    return tuple(bound)


def shown(schema: Schema, args: tuple[Any, ...]) -> tuple[list[Any], list[tuple[str, Any]]]:
    """The positional and keyword arguments to print: arguments at their default at the end are left out."""
    positional: list[Any] = []
    keywords: list[tuple[str, Any]] = []
    plain = [(p, a) for p, a in zip(schema.params, args) if not p.kwonly]
    while plain and _is_default(plain[-1][0], plain[-1][1]):
        plain.pop()
    positional = [a for _, a in plain]
    keywords = [(p.name, a) for p, a in zip(schema.params, args) if p.kwonly and not _is_default(p, a)]
    return positional, keywords


def _is_default(p: Param, value: Any) -> bool:
    return p.default is not REQUIRED and type(value) is type(p.default) and value == p.default

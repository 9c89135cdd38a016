"""Einstein sums: an equation taken apart into sums, permutations and batched matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..family import ops

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def equation_of(args: tuple) -> tuple[str, tuple]:
    """The equation and operands of the list form ``x, [0, 1], y, [1, 2], [0, 2]``."""
    operands, texts = args[0:len(args) // 2 * 2:2], [_letters(s) for s in args[1::2]]
    text = ",".join(texts)
    if len(args) % 2:
        text += "->" + _letters(args[-1])
    return text, tuple(operands)


def _letters(sublist: Sequence[Any]) -> str:
    return "".join("..." if s is Ellipsis else _LETTERS[s] for s in sublist)


def _fail(message: str) -> None:
    raise RuntimeError(f"einsum(): {message}")


def _parse(equation: str, operands: Sequence[Any]) -> tuple[list[list[Any]], list[Any], int]:
    """Labels of each operand's dimensions, of the result, and how many dimensions ``...`` covers.

    Labels are letters; integers number the dimensions that ``...`` covers, from the left.
    """
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        _fail(f"more operands were provided than specified in the equation, or fewer: the equation names {len(terms)}, "
              f"got {len(operands)}")
    covered = [_covered(term, x) for term, x in zip(terms, operands)]
    wide = max((n for n in covered if n is not None), default=0)
    labels = [_labels(term, n or 0, wide) for term, n in zip(terms, covered)]
    if arrow:
        result = _labels(right, wide, wide)
        known = {x for term in labels for x in term}
        for x in result:
            if result.count(x) > 1 or x not in known:
                _fail(f"output subscript {x} appears more than once in the output or in no input")
    else:
        names = sorted({x for term in labels for x in term if isinstance(x, str)})
        result = [*range(wide), *(x for x in names if sum(term.count(x) for term in labels) == 1)]
    return labels, result, wide


def _covered(term: str, x: Any) -> int | None:
    names = len(term.replace("...", ""))
    if "..." not in term:
        if names != x.ndim:
            _fail(f"the number of subscripts in the equation ({names}) does not match the number of dimensions "
                  f"({x.ndim}) for operand {term!r}")
        return None
    if names > x.ndim:
        _fail(f"the number of subscripts in the equation ({names}) is more than the number of dimensions ({x.ndim})")
    return x.ndim - names


def _labels(term: str, covered: int, wide: int) -> list[Any]:
    head, dots, tail = term.partition("...")
    for c in head + tail:
        if c not in _LETTERS:
            _fail(f"invalid subscript given: {c!r}; subscripts must be in [a-zA-Z]")
    return [*head, *(range(wide - covered, wide) if dots else ()), *tail]


def decompose(equation: str, operands: Sequence[Any]) -> Any:
    """The value of the equation, in ops. Raises ``RuntimeError`` for a malformed one or sizes that do not match."""
    if not operands:
        _fail("must provide at least one operand")
    labels, result, _ = _parse(equation, operands)
    _check_sizes(labels, operands)
    terms = [_diagonal(x, names) for x, names in zip(operands, labels)]
    value, names = terms[0]
    for i, (other, other_names) in enumerate(terms[1:], 2):
        later = {x for _, rest in terms[i:] for x in rest} | set(result)
        value, names = _pair(value, names, other, other_names, later)
    value, names = _sum_out(value, names, set(result))
    return value if names == result else ops.permute(value, tuple(names.index(x) for x in result))


def _check_sizes(labels: list[list[Any]], operands: Sequence[Any]) -> None:
    sizes: dict[Any, Any] = {}
    for names, x in zip(labels, operands):
        for name, size in zip(names, x.shape):
            known = sizes.setdefault(name, size)
            if known == 1:
                sizes[name] = size
            elif size != 1 and size != known:
                _fail(f"operands do not broadcast with remapped shapes: subscript {name} has size {size} in one operand "
                      f"and {known} in another")


def _diagonal(x: Any, names: list[Any]) -> tuple[Any, list[Any]]:
    """``x`` with each repeated label reduced to the diagonal of its dimensions."""
    names = list(names)
    for name in dict.fromkeys(names):
        while names.count(name) > 1:
            i = names.index(name)
            j = names.index(name, i + 1)
            x = ops.diagonal(x, 0, i, j)  # the diagonal becomes the last dimension
            del names[j], names[i]
            names.append(name)
    return x, names


def _sum_out(x: Any, names: list[Any], keep: set) -> tuple[Any, list[Any]]:
    drop = tuple(i for i, name in enumerate(names) if name not in keep)
    return (ops.sum(x, drop), [n for n in names if n in keep]) if drop else (x, names)


def _pair(a: Any, a_names: list[Any], b: Any, b_names: list[Any], keep: set) -> tuple[Any, list[Any]]:
    """The product of two operands, summed over the labels that nothing else needs."""
    a, a_names = _sum_out(a, a_names, keep | set(b_names))
    b, b_names = _sum_out(b, b_names, keep | set(a_names))
    shared = [x for x in a_names if x in b_names]
    size_a, size_b = dict(zip(a_names, a.shape)), dict(zip(b_names, b.shape))
    contracted = [x for x in shared if x not in keep]
    for x in list(contracted):  # size 1 against n: sum the longer first, then it is no contraction
        if size_a[x] != size_b[x]:
            a, a_names = _collapse(a, a_names, x)
            b, b_names = _collapse(b, b_names, x)
            contracted.remove(x)
    shared = [x for x in a_names if x in b_names]
    if not contracted:
        return _multiply(a, a_names, b, b_names)
    batch = [x for x in shared if x not in contracted]
    rows = [x for x in a_names if x not in shared]
    cols = [x for x in b_names if x not in shared]
    return _product(_arrange(a, a_names, [batch, rows, contracted]), _arrange(b, b_names, [batch, contracted, cols]),
                    (size_a, size_b), (batch, rows, cols))


def _collapse(x: Any, names: list[Any], name: Any) -> tuple[Any, list[Any]]:
    return ops.sum(x, (names.index(name),)), [n for n in names if n != name]


def _multiply(a: Any, a_names: list[Any], b: Any, b_names: list[Any]) -> tuple[Any, list[Any]]:
    """A product without a sum: one broadcast multiplication."""
    names = [*a_names, *(x for x in b_names if x not in a_names)]
    for _ in range(len(names) - len(a_names)):
        a = ops.unsqueeze(a, -1)
    present = [x for x in names if x in b_names]
    b = ops.permute(b, tuple(b_names.index(x) for x in present))
    for i, x in enumerate(names):
        if x not in b_names:
            b = ops.unsqueeze(b, i)
    return a * b, names


def _arrange(x: Any, names: list[Any], groups: list[list[Any]]) -> Any:
    """``x`` with its dimensions in the order of ``groups``."""
    order = [names.index(n) for group in groups for n in group]
    return x if order == list(range(len(order))) else ops.permute(x, tuple(order))


def _product(a: Any, b: Any, sizes: tuple[dict, dict], groups: tuple[list, list, list]) -> tuple[Any, list[Any]]:
    """A batched matrix product; ``a`` is [batch, rows, inner] and ``b`` [batch, inner, cols], each part many dims."""
    (size_a, size_b), (batch, rows, cols) = sizes, groups
    lead = [size_b[x] if size_a[x] == 1 else size_a[x] for x in batch]
    inner = a.shape[len(batch) + len(rows):]
    m, n, k = [size_a[x] for x in rows], [size_b[x] for x in cols], list(inner)
    a, b = ops.expand(a, (*lead, *m, *k)), ops.expand(b, (*lead, *k, *n))
    mp, np_, kp = math.prod(m), math.prod(n), math.prod(k)
    if batch:
        count = math.prod(lead)
        out = ops.bmm(ops.reshape(a, (count, mp, kp)), ops.reshape(b, (count, kp, np_)))
    else:
        out = ops.mm(ops.reshape(a, (mp, kp)), ops.reshape(b, (kp, np_)))
    return ops.reshape(out, (*lead, *m, *n)), [*batch, *rows, *cols]

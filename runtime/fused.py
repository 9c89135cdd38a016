"""Ops on big tensors in eager mode, done by code that the compiler makes of their own decompositions.

NumPy takes an op like ``gelu`` in many passes over memory; compiled, it is one. What is compiled here is the op itself
(or its derivative rule) on symbolic sizes, with the dimensions that it treats alike made one: so a *form* serves every
shape, and a program needs few of them. This module only looks forms up and runs them; they come from ``builder``, which
the public namespace sets, and which finds nothing where no compiler is.

Forms are kept on disk. The first time that a machine meets one, NumPy goes on working: after :data:`PATIENCE` elements
the form is ordered from a process that builds it beside the program, and after :data:`LIMIT` it is waited for (which
takes no time, as a rule) and taken. Both are counts, not times, so the same program computes the same numbers however
fast it runs; a later process, which finds the form, takes it at once, and its last digits may differ from the first's.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from flambeau.ir.device import cpu
from flambeau.ir.dtype import from_numpy
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import Op

from .tensor import Tensor

#: Smaller tensors are left to NumPy.
MIN_ELEMENTS = 1 << 13
#: Elements that an op takes through NumPy before its form is ordered, and before it is waited for.
PATIENCE, LIMIT = 1 << 21, 1 << 26
#: Forms of one op; more than that (a number that changes at each call) are left to NumPy.
MOST_FORMS = 24


class Runner(NamedTuple):
    """A built form: ``run`` takes the Given tensors, of g, out and args in this order, and returns new tensors; of
    gradients only those that are ``present``."""

    run: Callable[[Sequence[Tensor]], Sequence[Any]]
    present: tuple[bool, ...] = ()


class Given:
    """An argument whose data the form reads; a bare TensorMeta stands for one of which only the shape is known."""

    __slots__ = ("meta",)

    def __init__(self, meta: TensorMeta) -> None:
        self.meta = meta


class Request(NamedTuple):
    """What is to be compiled: ``op(*args)``, or with ``needs`` its gradients, from ``g`` and ``out`` (as ``Op.gradients``).

    Equal sizes are one size; all sizes but 1 are symbolic, unless ``static``. In ``args`` the ints of a parameter named
    ``normalized_shape`` are trailing sizes. ``flat`` asks for nothing but elementwise work.
    """

    op: Op
    args: tuple
    needs: tuple[bool, ...] | None = None
    g: Any = None
    out: Any = None
    static: bool = False
    flat: bool = False


class Builder(Protocol):
    """Where forms come from."""

    def find(self, request: Request) -> Runner | Literal[False] | None:
        """The form if it was built before; False where it cannot be; None: not known yet."""

    def start(self, request: Request, at_once: bool) -> Callable[[], Runner | None]:
        """Begin to build the form; the function returned waits for it, and gives None where there is none."""


#: Imports the builder; the public namespace sets it.
builder: Callable[[], Builder] | None = None

#: ``FLAMBEAU_FUSED``: "0" leaves all to NumPy, "now" builds a form at its first use.
_CHOICE = os.environ.get("FLAMBEAU_FUSED", "")
if _CHOICE == "now":
    PATIENCE = LIMIT = 0


class _Form:
    """One form of an op, or the way to it."""

    __slots__ = ("run", "request", "work", "pending")

    def __init__(self, request: Request) -> None:
        self.run: Runner | None = None
        self.request: Request | None = request
        self.work = 0
        self.pending: Callable[[], Runner | None] | None = None

    def ready(self, elements: int) -> Runner | None:
        """The runner, once it is there."""
        if self.request is None or builder is None:
            return self.run
        try:
            self._look(self.request, builder(), elements)
        except Exception as error:  # a form that is damaged, or a machine that lets no process start: NumPy is there
            self.request = None
            warnings.warn(f"compiled forms of eager ops are left out: {type(error).__name__}: {error}", RuntimeWarning,
                          stacklevel=2)
        return self.run

    def _look(self, request: Request, source: Builder, elements: int) -> None:
        if not self.work:
            found = source.find(request)
            if found is not None:
                self.run, self.request = found or None, None
                return
        self.work += elements
        if self.pending is None and self.work > PATIENCE:
            self.pending = source.start(request, LIMIT == 0)
        if self.pending is not None and self.work > LIMIT:
            self.run, self.request = self.pending(), None


class Forms:
    """The forms of one op: of itself, and of its gradients."""

    def __init__(self, op: Op) -> None:
        self.op = op
        self.collapse = op.extra.get("collapse", "flat")
        self.found: dict[tuple, _Form] = {}
        self.slots = frozenset(op.tensor_slots)
        self.names = tuple(p.name for p in op.schema.params)
        self.shaped = self.names.index("normalized_shape") if "normalized_shape" in self.names else -1
        self.along = self.names.index("dim") if self.collapse == "rows" and "dim" in self.names else -1

    def call(self, args: tuple) -> Any:
        """The result (or results) of the op on a :func:`big` first argument, untaped; None where NumPy is to do it."""
        a = args[0]._a  # (results keep the layout of what is no row-major array: NumPy sees to that)
        return _Call(self, a.shape, args).run(None, None, None, args) if a.flags.c_contiguous else None

    def gradients(self, needs: tuple[bool, ...], g: Any, out: Any, args: tuple) -> list[Any] | None:
        """What ``op.gradients`` returns; None where that is to do it."""
        first = g[0] if type(g) is tuple else g
        return _Call(self, first._a.shape, args).run(needs, g, out, args) if big(first) else None


def big(t: Any) -> bool:
    """Whether a tensor is one that a form may take: on the CPU, f32 or f64, and large."""
    if not isinstance(t, Tensor):
        return False
    a = t._a
    return type(a) is np.ndarray and a.size >= MIN_ELEMENTS and a.dtype.char in "fd"


class _Call:
    """One call: its tensors in collapsed shapes, and what tells its form."""

    def __init__(self, forms: Forms, lead: tuple[int, ...], args: tuple) -> None:
        self.forms, self.lead = forms, lead
        self.inputs: list[Tensor] = []
        self.key: list[Any] = []
        self.shapes: dict[tuple, tuple] = {}  # collapsed shape -> that of the user's tensor
        self.whole = True  # whether everything met so far fits the form
        self.trailing = len(args[forms.shaped]) if forms.shaped >= 0 else 1
        self.full = self._full(forms.collapse)
        if self.full is not None:
            self.shapes[self.full] = lead
            if forms.collapse == "rows":
                self.shapes.setdefault(self.full[1:], lead[len(lead) - self.trailing:])

    def _full(self, collapse: str) -> tuple[int, ...] | None:
        """The collapsed form of the leading shape: all in one, [rows, columns] or [batch, channels, places]."""
        lead = self.lead
        if collapse == "flat":
            return (math.prod(lead),)
        if collapse == "rows" and len(lead) >= self.trailing:
            at = len(lead) - self.trailing
            return math.prod(lead[:at]), math.prod(lead[at:])
        if collapse == "channels" and len(lead) >= 2:
            return (*lead[:2], math.prod(lead[2:])) if len(lead) > 2 else lead
        return lead if collapse == "static" else None

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """``shape`` collapsed."""
        if shape == self.lead:
            return self.full  # type: ignore[return-value]
        collapse = self.forms.collapse
        if collapse == "static" or (collapse == "channels" and len(shape) == 1):
            return shape
        if collapse == "rows" and shape == self.lead[len(self.lead) - self.trailing:]:
            return (math.prod(shape),)
        self.whole = False
        return shape

    def tensor(self, t: Any, same: Any = None) -> Any:
        """A tensor that is read; ``same``: the one whose shape alone matters when ``t`` is it."""
        if t is None:
            self.key.append(None)
            return None
        if isinstance(t, TensorMeta):
            return self.meta(t)
        a = t._a
        if type(a) is not np.ndarray or t._storage.device is not cpu:
            self.whole = False
            return None
        if t is same:
            return self.meta(TensorMeta(a.shape, t.dtype))
        shape = self.shape(a.shape)
        self.key += (a.dtype.char, shape)
        if a.shape != shape:
            self.shapes.setdefault(shape, a.shape)
            t = Tensor(a.reshape(shape), t._storage)  # a copy where it is not row-major
        self.inputs.append(t)
        return Given(TensorMeta(shape, from_numpy(a.dtype)))

    def meta(self, m: TensorMeta) -> TensorMeta:
        shape = self.shape(m.shape)
        self.key += ("meta", m.dtype, shape)
        return m if shape is m.shape else TensorMeta(shape, m.dtype)

    def results(self, t: Any) -> Any:
        return tuple([self.tensor(x) for x in t]) if isinstance(t, tuple) else self.tensor(t)

    def argument(self, i: int, a: Any, g: Any) -> Any:
        if i in self.forms.slots and (a is None or isinstance(a, (Tensor, TensorMeta))):
            return self.tensor(a, g)
        if i == self.forms.shaped:
            if tuple(a) != self.lead[len(self.lead) - self.trailing:]:
                self.whole = False
            a = (math.prod(a),)
            self.key.append("shape")
            return a
        if i == self.forms.along:
            if a not in (-1, len(self.lead) - 1):
                self.whole = False
            return -1
        if isinstance(a, (Tensor, list)):
            self.whole = False
        self.key += (type(a), a)
        return a

    def run(self, needs: Any, g: Any, out: Any, args: tuple) -> Any:
        if self.full is None:
            return None
        forms = self.forms
        metas = self.results(g) if g is not None else None, self.results(out) if out is not None else None
        found = tuple([self.argument(i, a, g) for i, a in enumerate(args)])
        if not self.whole:
            return None
        static = forms.collapse == "static"
        key = (needs, *(self.key if static else _classes(self.key)))
        form = forms.found.get(key)
        if form is None:
            if len(forms.found) >= MOST_FORMS:
                return None
            form = forms.found[key] = _Form(Request(forms.op, found, needs, *metas, static, forms.collapse == "flat"))
        runner = form.run or form.ready(math.prod(self.lead))
        if runner is None:
            return None
        results = [self._restored(t) for t in runner.run(self.inputs)]
        if needs is not None:
            values = iter(results)
            return [next(values) if there else None for there in runner.present]
        return results[0] if forms.op.schema.returns == 1 else tuple(results)

    def _restored(self, t: Tensor) -> Tensor:
        """A result in the shape that the user's tensors have."""
        a = t._a
        shape, storage = self.shapes.get(a.shape, a.shape), t._storage
        if shape != a.shape:
            t._a = a = a.reshape(shape)
        if storage.array is not a:
            storage.array, storage.pointer = a, None
        return t


def _classes(key: list[Any]) -> list[Any]:
    """The key with a number for each size but 1, the same for equal ones."""
    seen: dict[int, int] = {1: 1}
    return [tuple([seen.setdefault(n, len(seen) + 1) for n in k]) if type(k) is tuple else k for k in key]


def forms_of(op: Op) -> Forms | None:
    """The op's forms; None for an op that gains nothing from being compiled."""
    found = op.extra.get("forms", False)
    if found is False:
        found = op.extra["forms"] = Forms(op) if _gains(op) else None
    return found


def _gains(op: Op) -> bool:
    """Whether NumPy needs several passes for an op: composites that map element to element or say how they collapse,
    and the transcendental functions, which generated code calls by name."""
    if _CHOICE == "0" or op.mutates or "random" in op.tags or "extern" in op.tags or op.schema.returns < 1 or not op.tensor_slots:
        return False
    if any(op.schema.params[i].type == "Tensor[]" for i in op.tensor_slots) or op.tensor_slots[0] != 0:
        return False
    if "collapse" in op.extra or "template" in op.extra:
        return op.extra.get("collapse", "none") != "none"
    if op.family == "composite":
        numbers = all(p.is_tensor or p.type in ("Number", "float", "bool", "str", "dtype") for p in op.schema.params)
        return numbers and (op.kernel is not None or op.differentiable)
    return op.promote == "float" and op.scalar is not None and op.scalar.cpp[0].isalpha()

"""The level of ``vmap``: each op runs once over the whole batch, by the rule of its family; what has no rule is run for
one element after the other."""

from __future__ import annotations

from typing import Any

from flambeau.ir import batch_rules  # noqa: F401 - enters the rules
from flambeau.ir.batching import Call, rule_of, spread
from flambeau.ir.op import Op, call, get_op, ops
from flambeau.ir.tree import tree_map

from .eager import _check_result
from .levels import Level, Wrapped, below
from .tensor import Tensor


class Batched(Wrapped):
    """One element of a batch, whichever: ``value`` has the batch in dimension 0. It is on the tape where ``value`` is."""

    __slots__ = ()

    def __init__(self, value: Any, level: BatchLevel) -> None:
        self.value = value  # before the properties below are asked
        super().__init__(value, level, 1)

    def rewrapped(self, value: Any) -> Batched:
        return Batched(value, self.level)  # type: ignore[arg-type]

    _rg = property(lambda self: self.value._rg, lambda self, value: None)  # type: ignore[assignment]
    _grad_fn = property(lambda self: self.value._grad_fn, lambda self, value: None)
    grad_fn = property(lambda self: self.value.grad_fn)  # type: ignore[assignment]

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        self.value.requires_grad_(requires_grad)
        return self

    def _become(self, other: Any) -> Tensor:
        self.value, self._a = other.value, other._a
        return self

    def item(self) -> Any:
        raise RuntimeError("vmap: It looks like you're calling .item() on a Tensor. We don't support vmap over calling .item() "
                           "on a Tensor, please try to rewrite what you're doing with other operations.")

    def tolist(self) -> Any:
        return self.item()

    def numpy(self, *, force: bool = False) -> Any:
        raise RuntimeError("vmap: a batched tensor has no array of its own; return it from the vmapped function first")

    def __bool__(self) -> bool:
        raise RuntimeError("vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow. We don't "
                           "support that yet; use where() instead")

    __index__ = __int__ = __float__ = __complex__ = item


class BatchLevel(Level):
    """A running ``vmap`` over ``size`` elements."""

    name = "vmap"
    keeps = survives = False

    def __init__(self, size: int, randomness: str = "error") -> None:
        super().__init__()
        self.size, self.randomness = size, randomness

    def wrap(self, value: Any) -> Any:
        return Batched(value, self)

    def _is_batched(self, x: Any) -> bool:
        return isinstance(x, Batched) and x.level is self

    def _inner(self, x: Any) -> Any:
        return x.value if isinstance(x, Batched) and x.level is self else x

    # ---- ops

    def process(self, op: Op, args: tuple) -> Any:
        if op.functional is not None:
            return self._write(op, op.functional, args)
        if "data_shape" in op.tags:
            raise RuntimeError(f"vmap: We do not support batching operators that can output dynamic shape. Attempted to "
                               f"vmap over "
                               f"{op.name}. Compute a mask of fixed shape instead")
        if "random" in op.tags:
            self._check_randomness()
        rule = rule_of(op)
        found = NotImplemented
        if rule is not None:
            with below(self):
                found = rule(self._call(op, args))
        if found is NotImplemented and op.decompose is not None:
            parts = op.decompose(*args)
            if parts is not NotImplemented:
                return parts
        if found is NotImplemented:
            with below(self):
                found = self._loop(self._call(op, args))
        return self._wrapped(found)

    def _call(self, op: Op, args: tuple) -> Call:
        batched = {i: [self._is_batched(x) for x in args[i]] if isinstance(args[i], (list, tuple)) else self._is_batched(args[i])
                   for i in op.tensor_slots}
        return Call(op, tree_map(self._inner, args), batched, self.size)

    def _wrapped(self, found: Any) -> Any:
        if isinstance(found, Tensor):
            return Batched(found, self)
        return type(found)([None if x is None else Batched(x, self) for x in found])

    def _loop(self, c: Call) -> Any:
        """One call per element, and the results stacked."""
        results = []
        for k in range(self.size):
            args = list(c.args)
            for i, b in c.batched.items():
                if isinstance(b, list):
                    args[i] = [ops.select(x, 0, k) if f else x for x, f in zip(args[i], b)]
                elif b:
                    args[i] = ops.select(args[i], 0, k)
            results.append(call(c.op, tuple(args)))
        if not results:
            return tree_map(lambda m: ops.full((0, *m.shape), 0, dtype=m.dtype, device=m.device), c.result())
        if isinstance(results[0], (tuple, list)):
            return tuple(None if parts[0] is None else ops.stack(list(parts), 0) for parts in zip(*results))
        return ops.stack(results, 0)

    # ---- writes

    def _write(self, op: Op, functional: Op, args: tuple) -> Any:
        target = args[0]
        if not self._is_batched(target):
            raise RuntimeError(
                f"vmap: {op.name}(self, *extra_args) is not possible because there exists a Tensor `other` in extra_args that "
                "has more elements than `self`. This happened due to `other` being vmapped over but `self` not being vmapped "
                f"over in a vmap. Please try to use out-of-place operators instead of {op.name}.")
        if functional.name == "copy":
            new = args[1]
            shape = tuple(target.shape)
            new = new if tuple(new.shape) == shape else ops.expand(new, shape)
        else:
            new = self.process(functional, args)
            _check_result(target, new)
        with below(self):
            call(get_op("copy_"), (target.value, self._inner(new), False))
        return target

    # ---- random numbers

    def _check_randomness(self) -> None:
        if self.randomness == "error":
            raise RuntimeError("vmap: called random operation while in randomness error mode. Please either use the 'same' or "
                               "'different' randomness flags on vmap or perform the randomness operation out of vmap")

    def random(self, op: Op, args: tuple) -> Any:
        """A random op on nothing of this level: once for all elements, or for each."""
        self._check_randomness()
        if self.randomness == "same":
            return NotImplemented
        at = next((i for i, p in enumerate(op.schema.params) if p.name == "size"), None)
        with below(self):
            if at is not None:
                size = args[at] if isinstance(args[at], (tuple, list)) else (args[at],)
                return Batched(call(op, (*args[:at], (self.size, *size), *args[at + 1:])), self)
            if op.tensor_slots and all(p.type != "int" for p in op.schema.params):
                return Batched(call(op, tuple(spread(a, self.size) if isinstance(a, Tensor) else a for a in args)), self)
            found = [call(op, args) for _ in range(self.size)]
            return Batched(ops.stack(found, 0), self)

"""The tape as users see it: nodes, edges, and hooks on what it keeps (PyTorch: ``torch.autograd.graph``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from flambeau.ir.op import ops
from flambeau.runtime import autograd, observers
from flambeau.runtime.autograd import AccumulateGrad
from flambeau.runtime.autograd import GradNode as Node
from flambeau.runtime.hooks import HookHandle
from flambeau.runtime.tensor import Tensor


class GradientEdge(NamedTuple):
    """Where gradients of a tensor go: a node and the number of its output. ``backward`` and ``grad`` take it for the tensor."""

    node: Any
    output_nr: int
    ownership_token: Any = None


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The edge of ``tensor``. Raises ``RuntimeError`` for one that requires no gradient."""
    if not tensor.requires_grad:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    return GradientEdge(_node_of(tensor), tensor.output_nr)


def _node_of(t: Any) -> Any:
    if isinstance(t, GradientEdge):
        return t.node
    return t.grad_fn or AccumulateGrad.of(t)


def increment_version(tensor: Any) -> None:
    """Count a write to ``tensor`` (or to several) that was made behind the library's back."""
    for t in (tensor,) if isinstance(tensor, Tensor) else tensor:
        t._storage.version += 1


# ---- what the tape keeps --------------------------------------------------------------------------------------------

_disabled: list[str] = []


class saved_tensors_hooks:  # noqa: N801 - PyTorch's name
    """A block in which ``pack_hook(tensor)`` is called for each tensor the tape would keep, and what it returns is kept.

    ``unpack_hook`` gets that back when the derivative is computed, and returns a tensor equal to the one packed.
    """

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]) -> None:
        self.pack_hook, self.unpack_hook = pack_hook, unpack_hook

    def __enter__(self) -> None:
        if _disabled:
            raise RuntimeError(_disabled[-1])
        self._hooks = observers.SavedHooks(self.pack_hook, self.unpack_hook)
        observers.observe(self._hooks)

    def __exit__(self, *_: object) -> None:
        observers.unobserve(self._hooks)

    __enter__.__flambeau_disable__ = True  # type: ignore[attr-defined]  # a graph has no tape that could ask


class save_on_cpu(saved_tensors_hooks):  # noqa: N801 - PyTorch's name
    """A block in which the tape keeps tensors in the host's memory, and takes them back to their device when needed."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        def pack(tensor: Any) -> tuple[Any, Any]:
            return tensor.device, (ops.clone(tensor) if tensor.device.type == "cpu" and pin_memory else tensor.cpu())

        super().__init__(pack, lambda packed: packed[1].to(packed[0]))


@contextmanager
def disable_saved_tensors_hooks(error_message: str) -> Iterator[None]:
    """A block in which ``saved_tensors_hooks`` raises ``RuntimeError(error_message)``."""
    _disabled.append(error_message)
    try:
        if observers.innermost_hooks() is not None:
            raise RuntimeError(error_message)
        yield
    finally:
        _disabled.pop()


@contextmanager
def allow_mutation_on_saved_tensors() -> Iterator[None]:
    """A block in which tensors that the tape keeps may be written to: it keeps copies."""
    with saved_tensors_hooks(lambda t: ops.clone(ops.detach(t)), lambda t: t):
        yield


# ---- hooks on several tensors -------------------------------------------------------------------------------------------


class _MultiHandle:
    """Removes several hooks at once."""

    def __init__(self, handles: tuple[HookHandle, ...]) -> None:
        self.handles = handles

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()

    def __enter__(self) -> _MultiHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def register_multi_grad_hook(tensors: Sequence[Tensor], fn: Callable[..., Any], *, mode: str = "all") -> _MultiHandle:
    """Call ``fn`` once in each backward pass: with all gradients (None: not computed) when the last of the tensors has its
    own (``"all"``), or with the first gradient that there is (``"any"``)."""
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    found: dict[int, list[Any]] = {}
    last: list[Any] = [None]

    def arrived(number: int, grad: Tensor) -> None:
        run = autograd.mode.run
        if last[0] is not run:
            last[0] = run
            found.clear()
        grads = found.get(id(run))
        if grads is None:
            grads = found[id(run)] = [None] * len(tensors)
            if mode == "any":
                fn(grad)
        grads[number] = grad
        if mode == "all" and all(g is not None or not _will_run(run, t) for g, t in zip(grads, tensors)):
            fn(grads)

    def hook(number: int) -> Callable[[Tensor], None]:
        return lambda grad: arrived(number, grad)

    return _MultiHandle(tuple(t.register_hook(hook(i)) for i, t in enumerate(tensors) if mode == "all" or t.requires_grad))


def _will_run(run: Any, t: Any) -> bool:
    """Whether the gradient of ``t`` is computed in the backward pass ``run``."""
    edge = autograd.edge_of(t)
    if edge is None:
        return False
    if run.needed is None:
        run.needed_by_hooks = getattr(run, "needed_by_hooks", None) or _reachable_from(run.roots)
        return autograd._edge_key(edge) in run.needed_by_hooks
    return autograd._edge_key(edge) in run.needed


def _reachable_from(roots: tuple) -> set:
    """Nodes (and ids of leaves) that gradients of ``roots`` reach."""
    found: set = set()
    stack = [e for e in (autograd.edge_of(t) for t in roots) if e is not None]
    while stack:
        edge = stack.pop()
        key = autograd._edge_key(edge)
        if key not in found:
            found.add(key)
            stack += [e for e in edge[0].edges if e is not None] if isinstance(edge, tuple) else []
    return found


def set_warn_on_accumulate_grad_stream_mismatch(enabled: bool) -> None:
    """Accepted; there are no streams to differ."""


__all__ = ["GradientEdge", "Node", "allow_mutation_on_saved_tensors", "disable_saved_tensors_hooks", "get_gradient_edge",
           "increment_version", "register_multi_grad_hook", "save_on_cpu", "saved_tensors_hooks",
           "set_warn_on_accumulate_grad_stream_mismatch"]

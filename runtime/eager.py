"""The eager runtime: each op's runner, built at its first call from what its family says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.ir import device as _device
from flambeau.ir import dtype as _dtype
from flambeau.ir.family import common_device, promotion
from flambeau.ir.op import Op, set_base_handler, type_name
from flambeau.ir.randomness import set_source
from flambeau.ir.tensorlike import TensorLike
from flambeau.ir.tree import leaves

from . import autograd
from .autograd import mode
from .storage import array_module
from .tensor import Tensor, View, wrap

Runner = Callable[[tuple], Any]
_HALF = (_dtype.float16, _dtype.bfloat16)


def dispatch(op: Op, args: tuple) -> Any:
    """Run ``op`` eagerly; ``args`` are all its arguments in schema order."""
    run = op.run
    if run is None:
        run = op.run = _make_runner(op)
    return run(args)


def _make_runner(op: Op) -> Runner:
    if op.functional is not None:
        return _inplace_runner(op)
    if op.family == "view":
        return _view_runner(op)
    if op.kernel is None:
        return _decomposed_runner(op)
    return _kernel_runner(op)


# ---- ops with a kernel ------------------------------------------------------------------------------------------------


def _kernel_runner(op: Op) -> Runner:
    differentiable = op.differentiable
    parts = op.decompose is not None and not differentiable and "nograd" not in op.tags
    check = op.infer if "check" in op.tags else None

    def run(args: tuple) -> Any:
        needs = mode.grad and _any_requires_grad(op, args)
        if needs and parts:
            found = op.decompose(*args)  # type: ignore[misc]
            if found is not NotImplemented:
                return found
        if check is not None:
            op.schema.check(args, _is_tensor)
            check(*args)
        result = run_kernel(op, args)
        if needs and differentiable:
            autograd.record(op, args, result)
        return result

    return run


def _decomposed_runner(op: Op) -> Runner:
    decompose = op.decompose
    if decompose is None:
        raise NotImplementedError(f"{op.name} has neither a kernel nor a decomposition")

    def run(args: tuple) -> Any:
        try:
            return decompose(*args)
        except (AttributeError, TypeError) as error:
            _explain(op, args, error)
            raise

    def run_recorded(args: tuple) -> Any:
        """A composite with a derivative of its own and no kernel: computed untaped, recorded as one step."""
        if not (mode.grad and _any_requires_grad(op, args)):
            return run(args)
        with autograd.GradMode(False):
            result = run(args)
        autograd.record(op, args, result)
        return result

    return run_recorded if op.differentiable else run


def _any_requires_grad(op: Op, args: tuple) -> bool:
    for i in op.tensor_slots:
        a = args[i]
        if isinstance(a, Tensor):
            if a._rg:
                return True
        elif type(a) in (list, tuple):
            for x in a:
                if isinstance(x, Tensor) and x._rg:
                    return True
    return False


def _is_tensor(x: Any) -> bool:
    return isinstance(x, Tensor)


def run_kernel(op: Op, args: tuple) -> Any:
    """Cast as the op promotes, call its kernel, and wrap what it returns."""
    try:
        device = _device_of(op, args)
        if op.promote is None:
            compute, out_dtype = None, None
            arrays = _raw_arrays(op, args)
        else:
            compute, out_dtype = promotion(op, args)
            arrays = _raw_arrays(op, args) if compute is None else _cast_arrays(op, args, (_dtype.float32 if compute in _HALF else compute).np)
        result = op.kernel(np if device is _device.cpu else array_module(device), *arrays)  # type: ignore[misc]
    except Exception as error:
        _explain(op, args, error)
        raise
    if isinstance(result, tuple):
        return tuple([None if r is None else wrap(_finish(r, compute, out_dtype), device) for r in result])
    return wrap(_finish(result, compute, out_dtype), device)


def _finish(result: Any, compute: Any, out_dtype: Any) -> Any:
    """Half-precision results, computed in float32, are rounded; reductions may ask for another dtype."""
    if out_dtype is None or result.dtype == out_dtype.np:
        return result
    if compute in _HALF and result.dtype.kind != "f" and out_dtype in _HALF:
        return result  # an index beside values
    if result.dtype.kind == "i" and out_dtype.kind in "fc":
        return result
    return result.astype(out_dtype.np)


def _device_of(op: Op, args: tuple) -> _device.Device:
    device = None
    for i in op.tensor_slots:
        a = args[i]
        for x in a if type(a) in (list, tuple) else (a,):
            if isinstance(x, Tensor):
                d = x._storage.device
                if device is None:
                    device = d
                elif d is not device and d != device:
                    return common_device(op, args)
    if device is not None:
        return device
    for p, a in zip(op.schema.params, args):
        if p.type == "device":
            return _device.as_device(a)
    return _device.cpu


def _raw_arrays(op: Op, args: tuple) -> list[Any]:
    found = list(args)
    for i in op.tensor_slots:
        a = found[i]
        if isinstance(a, Tensor):
            found[i] = a._a
        elif type(a) in (list, tuple):
            found[i] = [x._a if isinstance(x, Tensor) else x for x in a]
    return found


def _cast_arrays(op: Op, args: tuple, np_dtype: np.dtype) -> list[Any]:
    found = list(args)
    skip = op.tensor_slots[0] if op.promote == "select" else -1
    for i in op.tensor_slots:
        a = found[i]
        if isinstance(a, Tensor):
            a = a._a
            found[i] = a if a.dtype == np_dtype or i == skip else a.astype(np_dtype)
        elif type(a) in (list, tuple):
            found[i] = [x if x is None else x._a.astype(np_dtype, copy=False) for x in a]
    return found


def _explain(op: Op, args: tuple, error: Exception) -> None:
    """Turn a kernel's failure into PyTorch's error: wrong argument types first, then what the shape rule says."""
    if isinstance(error, NotImplementedError):
        return
    try:
        op.schema.check(args, _is_tensor)
        if op.infer is not None:
            op.infer(*args)
    except Exception as better:
        raise better from None


# ---- views ----------------------------------------------------------------------------------------------------------------


def _view_runner(op: Op) -> Runner:
    differentiable = op.differentiable and "nograd" not in op.tags
    may_copy = "maybe_copy" in op.tags  # reshape, contiguous: a view only where the layout allows it

    def run(args: tuple) -> Any:
        source = args[0]
        try:
            result = op.kernel(np, source._a, *args[1:])  # type: ignore[misc]
        except Exception as error:
            _explain(op, args, error)
            raise
        if may_copy and not np.may_share_memory(result, source._a):
            return _copy_of(op, args, result, source, differentiable)
        if type(result) is tuple:  # split, chunk, unbind: several views
            return tuple([_view_of(op, args, r, source, differentiable, nr) for nr, r in enumerate(result)])
        return _view_of(op, args, result, source, differentiable, None)

    return run


def _copy_of(op: Op, args: tuple, array: Any, source: Tensor, differentiable: bool) -> Tensor:
    out = wrap(array, source._storage.device)
    if differentiable and mode.grad and source._rg:
        autograd.record(op, args, out)
    return out


def _view_of(op: Op, args: tuple, array: Any, source: Tensor, differentiable: bool, nr: int | None) -> Tensor:
    if nr is not None:
        raise NotImplementedError(f"{op.name}: a view op returns one view")
    out = Tensor(array, source._storage)
    out._dtype = source._dtype if array.dtype == source._a.dtype else None
    if differentiable:
        step = ((op, (None, *args[1:]), autograd._meta(source)),)
        view = source._view
        base, steps = (source, step) if view is None else (view.base, view.steps + step)
        if mode.grad or base._rg or view is not None:
            out._view = View(base, steps, source._storage.version)
        if mode.grad and source._rg:
            autograd.record(op, args, out)
    return out


# ---- in-place ---------------------------------------------------------------------------------------------------------------


def _inplace_runner(op: Op) -> Runner:
    functional = op.functional
    assert functional is not None

    def run(args: tuple) -> Any:
        target = args[0]
        if not isinstance(target, Tensor):
            op.schema.check(args, _is_tensor)
        grad = mode.grad and "nograd" not in functional.tags and _any_requires_grad(functional, args)
        if grad:
            check_inplace_allowed(target)
        with autograd.GradMode(False):
            result = dispatch(functional, args)
        _check_result(op, target, result)
        before = _old_value(functional, args) if grad and functional.differentiable else None
        node = None
        if grad:
            node = _inplace_node(functional, args, before)
        write(target, result._a)
        if node is not None:
            _attach(node, target, functional)
        return target

    return run


def check_inplace_allowed(target: Tensor) -> None:
    """Raise ``RuntimeError`` for recorded writes to a leaf that requires grad, or to a view of one."""
    if target._rg and target.grad_fn is None:
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
    view = target._view
    if view is not None and view.base._rg and view.base.grad_fn is None:
        raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation.")


def _check_result(op: Op, target: Tensor, result: Tensor) -> None:
    if result._a.shape != target._a.shape:
        raise RuntimeError(f"output with shape {list(target.shape)} doesn't match the broadcast shape "
                           f"{list(result.shape)}")
    if not _dtype.can_cast(result.dtype, target.dtype):
        raise RuntimeError(f"result type {type_name(result.dtype)} can't be cast to the desired output type "
                           f"{type_name(target.dtype)}")
    if 0 in target._a.strides and any(s == 0 and n > 1 for s, n in zip(target._a.strides, target._a.shape)):
        raise RuntimeError("unsupported operation: more than one element of the written-to tensor refers to a single "
                           "memory location. Please clone() the tensor before performing the operation.")


def _old_value(op: Op, args: tuple) -> Tensor:
    """The written tensor as it was, data copied only when a derivative reads it."""
    target = args[0]
    needs = tuple(_needs_of(args[i]) for i in op.tensor_slots)
    keeps = op.saves(needs)[1][0]
    old = Tensor(target._a.copy() if keeps else target._a, None if keeps else target._storage)
    old._rg, old._grad_fn, old._out_nr = target._rg, target.grad_fn, target._out_nr
    return old


def _needs_of(a: Any) -> bool:
    return any(isinstance(x, Tensor) and x._rg for x in (a if type(a) in (list, tuple) else (a,)))


def _inplace_node(op: Op, args: tuple, before: Tensor | None) -> Any:
    """The tape node of an in-place call; for an op differentiated through its parts, those parts run on the old value."""
    if before is not None:
        return autograd.record(op, args, (), saved_self=before)
    old = Tensor(args[0]._a.copy())
    old._rg, old._grad_fn, old._out_nr = args[0]._rg, args[0].grad_fn, args[0]._out_nr
    return dispatch(op, (old, *args[1:]))


def _attach(node: Any, target: Tensor, op: Op) -> None:
    if isinstance(node, Tensor):  # recorded through its parts: the result's history becomes the target's
        history = autograd.record(_copy_op(), (_without_history(target), node), ())
        history.edges[0] = autograd.edge_of(target) if target._rg else None
        node = history
    node.metas = [autograd._meta(target)]
    if type(node.out) is tuple or node.out is None:
        save_out = node.op.saves(node.needs)[0]
        node.out = autograd.SavedOutput(target, 0) if save_out else node.metas[0]
    autograd.rebase(target, node)


def _without_history(t: Tensor) -> Tensor:
    return Tensor(t._a, t._storage)


def _copy_op() -> Op:
    from flambeau.ir.op import get_op  # noqa: PLC0415
    return get_op("copy")


def write(target: Tensor, array: Any) -> None:
    """Overwrite ``target``'s elements and count the write."""
    a = target._a
    if a.flags.writeable:
        a[...] = array
    else:
        raise RuntimeError("this tensor shares read-only memory and cannot be written to; clone() it first")
    target._storage.version += 1


def from_array(array: Any, device: _device.Device = _device.cpu) -> Tensor:
    """A tensor over ``array`` itself (no copy)."""
    return wrap(array, device)


def unwrap_all(args: tuple) -> list[Tensor]:
    """The tensors among ``args``, in order."""
    return [x for x in leaves(args) if isinstance(x, TensorLike)]


def generator(given: Any) -> Any:
    """The generator a random op draws from."""
    from .rng import generator_or_default  # noqa: PLC0415 - numpy.random is only loaded by who draws numbers
    return generator_or_default(given)


autograd.tensor_class = Tensor
set_base_handler(dispatch)
set_source(generator)

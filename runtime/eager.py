"""The eager runtime: each op's runner, built at its first call from what its family says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.ir import device as _device
from flambeau.ir import dtype as _dtype
from flambeau.ir.family import common_device, promotion
from flambeau.ir.meta import TensorMeta
from flambeau.ir.op import Op, get_op, set_base_handler, type_name
from flambeau.ir.randomness import set_source
from flambeau.ir.tensorlike import ban_text
from flambeau.ir.tree import leaves

from . import autograd, fast, fused, hollow, kernels, off_tape
from .autograd import mode
from .quiet import hush, restore
from .storage import Storage, array_module, to_device
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
        return fast.inplace(op, op.functional, _inplace_runner(op))
    if op.family == "view":
        return _view_runner(op)
    if op.family == "transfer":
        return _transfer
    if op.family == "tape":
        from .tape_ops import runner  # noqa: PLC0415 - only graphs hold them
        return runner(op)
    if op.kernel is None:
        return _decomposed_runner(op)
    slow = _kernel_runner(op)
    return fast.runner(op, slow) if op.family in ("pointwise", "composite") else slow


# ---- ops with a kernel --------------------------------------------------------------------------------------------


def _kernel_runner(op: Op) -> Runner:
    differentiable = op.differentiable
    parts = op.decompose is not None and not differentiable and "nograd" not in op.tags
    check = op.infer if "check" in op.tags else None
    checked: set[tuple] = set()  # what schema and shape rule have admitted
    kernel, opened, record = op.kernel, _opener(op), fast.recorder(op)
    compiled = kernels.EAGER.get(op.extra.get("template", ""))
    half = kernels.HALF.get(op.extra.get("half", ""))
    forms = fused.forms_of(op)

    def run(args: tuple) -> Any:
        if forms is not None and fused.big(args[0]):
            grad = mode.grad and _any_requires_grad(op, args)
            formed = None if grad and parts else forms.call(args)
            if formed is not None:
                if grad and differentiable:
                    autograd.record(op, args, formed)
                return formed
        arrays, plan, device, grad = opened(args)
        grad = grad and mode.grad
        if grad and parts:
            found = op.decompose(*args)  # type: ignore[misc]
            if found is not NotImplemented:
                return found
        if device is _device.meta:
            return _without_data(op, args, grad and differentiable)
        if check is not None:
            signature = _signature(args) if device is _device.cpu else None
            if signature is None or signature not in checked:
                op.schema.check(args, _is_tensor)
                check(*args)
                if signature is not None and len(checked) < 4096:
                    checked.add(signature)
        cast, compute, out_dtype = plan
        token = hush()
        try:
            result = half(*arrays) if half is not None and compute in _HALF and device is _device.cpu else None
            if cast is not None and result is None:
                _cast(op, arrays, cast)
            if compiled is not None and result is None and device is _device.cpu:
                result = compiled(*arrays)
            if result is None:
                result = kernel(np if device is _device.cpu else array_module(device), *arrays)  # type: ignore[misc]
        except Exception as error:
            _explain(op, args, error)
            raise
        finally:
            restore(token)
        if isinstance(result, np.generic):
            result = np.asarray(result)
        if type(result) is tuple:
            out: Any = tuple([None if r is None else wrap(_finish(r, compute, out_dtype), device) for r in result])
        elif type(result) is np.ndarray and (out_dtype is None or result.dtype is out_dtype.np) and device is _device.cpu:
            out = fast.fresh(result)
        else:
            out = wrap(_finish(result, compute, out_dtype), device)
        if grad and differentiable and (out_dtype is None or out_dtype.differentiable):
            if record is not None:
                record(args, out)
            else:
                autograd.record(op, args, out)
        return out

    return run


def _without_data(op: Op, args: tuple, grad: bool) -> Any:
    out = hollow.run(op, args)
    if grad:
        autograd.record(op, args, out)
    return out


def _signature(args: tuple) -> tuple | None:
    """All that schema and shape rule look at: shapes, dtypes, other arguments. None where that is not hashable."""
    found: list[Any] = []
    for a in args:
        if isinstance(a, Tensor):
            found += (a._a.shape, a._a.dtype)
        elif (type(a) is list or type(a) is tuple) and a and all([isinstance(x, Tensor) for x in a]):
            found.append(tuple([(x._a.shape, x._a.dtype) for x in a]))
        elif type(a) is list or (type(a) is tuple and not all(type(x) is int for x in a)):
            return None
        else:
            found += (type(a), a)
    try:
        hash(signature := tuple(found))
    except TypeError:
        return None
    return signature


#: what to do with operands: the NumPy dtype to cast them to (None: nothing), computing dtype, dtype of the result
Plan = tuple[Any, Any, Any]


def _opener(op: Op) -> Callable[[tuple], tuple[list[Any], Plan, _device.Device, bool]]:
    """A function from an op's arguments to (arguments with arrays for tensors, plan, device, whether one requires grad).

    Promotion is worked out once for each combination of operand dtypes.
    """
    slots = op.tensor_slots
    dtype_at = next((i for i, p in enumerate(op.schema.params) if p.type == "dtype"), None)
    strict = {i for i in slots if op.schema.params[i].type != "Operand"}
    lists = {i for i in slots if op.schema.params[i].type == "Tensor[]"}
    required = {i for i in strict if not op.schema.params[i].optional}
    promote = op.promote is not None
    plans: dict[tuple, Plan] = {}

    def opened(args: tuple) -> tuple[list[Any], Plan, _device.Device, bool]:
        found, grad, mixed = list(args), False, False
        device, key = None, []
        for i in slots:
            a = found[i]
            if isinstance(a, Tensor):
                array = found[i] = a._a
                grad = grad or a._rg
                here = a._storage.device
                mixed = mixed or (device is not None and here is not device)
                device = here
                key.append(array.dtype)
                key.append(array.ndim == 0)
            elif i in lists and (type(a) is list or type(a) is tuple):
                found[i] = [x._a if isinstance(x, Tensor) else x for x in a]
                for x in a:
                    if isinstance(x, Tensor):
                        grad = grad or x._rg
                        mixed = mixed or (device is not None and x._storage.device is not device)
                        device = x._storage.device
                        key += (x._a.dtype, x._a.ndim == 0)
            else:
                if (i in strict and (a is not None or i in required)) or type(a) is list or type(a) is tuple:
                    op.schema.check(args, _is_tensor)
                key.append(type(a))
        if device is None or mixed:
            device = _device_of(op, args)
        if not promote:
            return found, _RAW, device, grad
        key.append(_dtype._default)
        if dtype_at is not None:
            key.append(args[dtype_at])
        plan = plans.get(tuple(key))
        if plan is None:
            plan = plans[tuple(key)] = _plan(op, args)
        return found, plan, device, grad

    return opened


_RAW: Plan = (None, None, None)


def _plan(op: Op, args: tuple) -> Plan:
    try:
        compute, out = promotion(op, args)
    except Exception as error:
        _explain(op, args, error)
        raise
    if compute is None:
        return None, None, out
    wanted = (_dtype.float32 if compute in _HALF else compute).np
    skip = op.tensor_slots[0] if op.promote == "select" else -1
    tensors = [x for i in op.tensor_slots if i != skip
               for x in (args[i] if type(args[i]) in (list, tuple) else (args[i],)) if isinstance(x, Tensor)]
    plain = all(x._a.dtype == wanted for x in tensors) and all(
        not isinstance(args[i], int) or wanted.kind not in "iu" for i in op.tensor_slots)
    return None if plain else wanted, compute, out


def _cast(op: Op, arrays: list[Any], wanted: np.dtype) -> None:
    """Convert the tensors among an op's arguments to the computing dtype; Python integers wrap as C's do."""
    skip = op.tensor_slots[0] if op.promote == "select" else -1
    for i in op.tensor_slots:
        a = arrays[i]
        if i == skip or a is None:
            continue
        if type(a) is list:
            arrays[i] = [x if x is None else x.astype(wanted, copy=False) for x in a]
        elif hasattr(a, "astype"):
            arrays[i] = a if a.dtype == wanted else a.astype(wanted)
        elif type(a) is int and wanted.kind in "iu":
            info = np.iinfo(wanted)
            if not info.min <= a <= info.max:
                arrays[i] = (a - info.min) % (1 << info.bits) + info.min


def _decomposed_runner(op: Op) -> Runner:
    decompose = op.decompose
    if decompose is None:
        raise NotImplementedError(f"{op.name} has neither a kernel nor a decomposition")
    forms = fused.forms_of(op)

    def run(args: tuple) -> Any:
        try:
            return decompose(*args)
        except (AttributeError, TypeError) as error:
            _explain(op, args, error)
            raise

    def run_recorded(args: tuple) -> Any:
        """A composite with a derivative of its own and no kernel: computed untaped, recorded as one step."""
        result = forms.call(args) if forms is not None and fused.big(args[0]) else None
        grad = mode.grad and _any_requires_grad(op, args)
        if result is None:
            if not grad:
                return run(args)
            with autograd.GradMode(False):
                result = run(args)
        if grad:
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


def _finish(result: Any, compute: Any, out_dtype: Any) -> Any:
    """Half-precision results, computed in float32, are rounded; reductions may ask for another dtype."""
    if out_dtype is None or result.dtype == out_dtype.np:
        return result
    if compute in _HALF and result.dtype.kind != "f" and out_dtype in _HALF:
        return result  # an index beside values
    if result.dtype.kind == "i" and out_dtype.kind in "fc":
        return result
    token = hush()  # a half overflows without a word
    try:
        return result.astype(out_dtype.np)
    finally:
        restore(token)


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


def _explain(op: Op, args: tuple, error: Exception) -> None:
    """Turn a kernel's failure into PyTorch's error: wrong argument types first, then what the shape rule says."""
    if isinstance(error, NotImplementedError):
        return
    for a in leaves(args):
        if isinstance(a, Tensor) and hasattr(a, "level"):
            raise RuntimeError(f"{op.name}: a tensor made inside {a.level.name} was used after it had ended; return it from the "
                               "transformed function instead") from None
    try:
        op.schema.check(args, _is_tensor)
        if op.infer is not None:
            op.infer(*args)
        elif op.decompose is not None and op.kernel is not None:
            with autograd.GradMode(False):
                op.decompose(*args)
    except NotImplementedError:
        return  # the shape depends on the data: the kernel's own error is the better one
    except Exception as better:
        raise better from None


# ---- views --------------------------------------------------------------------------------------------------------


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
        if may_copy:
            if result is source._a:
                return source
            if result.size and not np.may_share_memory(result, source._a):
                return _copy_of(op, args, result, source, differentiable)
        return _view_of(op, args, result, source, differentiable)

    return run


def _transfer(args: tuple) -> Tensor:
    """A copy on another device; the tensor itself where it is there already."""
    source, device = args[0], _device.as_device(args[1])
    if device == source._storage.device:
        return source
    if source._storage.device is _device.meta:
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")
    if device is _device.meta:
        return _without_data(get_op("to_device"), args, mode.grad and source._rg)
    array = to_device(source._a, source._storage.device, device)
    out = Tensor(array, Storage(array, device))
    if mode.grad and source._rg:
        autograd.record(get_op("to_device"), args, out)
    return out


def _copy_of(op: Op, args: tuple, array: Any, source: Tensor, differentiable: bool) -> Tensor:
    out = wrap(array, source._storage.device)
    if differentiable and mode.grad and source._rg:
        autograd.record(op, args, out)
    return out


def _view_of(op: Op, args: tuple, array: Any, source: Tensor, differentiable: bool) -> Tensor:
    out = fast.window(array, source)
    if differentiable:
        view, grad = source._view, mode.grad
        base = source if view is None else view.base
        if grad or base._rg or view is not None:
            step = ((op, args, _meta_of(source)),)
            made = out._view = View(base, step if view is None else view.steps + step, source._storage.version)
            if view is not None:
                made.ban = view.ban
            elif not grad:
                made.ban = "inference" if mode.inference else "no_grad"
            if grad and source._rg:
                _record_view(op, args, step[0][2], source, out)
            else:
                off_tape.remember_view(out)
    return out


def _meta_of(t: Tensor) -> TensorMeta:
    return TensorMeta(t._a.shape, t.dtype, t._storage.device)


_ONE, _FIRST = (None,), (True,)


def _record_view(op: Op, args: tuple, meta: TensorMeta, source: Tensor, out: Tensor) -> None:
    """The tape node of a view: its derivative needs no data."""
    node = autograd.OpNode(op, (meta, *args[1:]), (autograd.edge_of(source),), _FIRST, _ONE)
    out._rg, out._grad_fn = True, node


# ---- in-place -----------------------------------------------------------------------------------------------------


def _inplace_runner(op: Op) -> Runner:
    functional = op.functional
    assert functional is not None

    def run(args: tuple) -> Any:
        target = args[0]
        if not isinstance(target, Tensor):
            op.schema.check(args, _is_tensor)
        grad = mode.grad and target.dtype.differentiable and "nograd" not in functional.tags and _any_requires_grad(
            functional, args)
        if grad or (mode.grad and target._view is not None and type(target._view.ban) is str and target._view.base._rg):
            check_inplace_allowed(target)
        with autograd.GradMode(False):
            result = dispatch(functional, args)
        if functional.promote == "real" and target.dtype.is_complex:
            raise RuntimeError(f"In-place {functional.name} is not supported for complex tensors.")
        _check_result(target, result)
        check_overlap(functional, args)
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
    view = target._view
    if target._rg and (view is None or not view.base._rg) and target.grad_fn is None:
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
    if view is not None and view.ban is not None:
        raise RuntimeError(ban_text(view.ban))
    if view is not None and view.base._rg and view.base.grad_fn is None:
        raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation.")


def _check_result(target: Tensor, result: Tensor) -> None:
    if result._a.shape != target._a.shape:
        raise RuntimeError(f"output with shape {list(target.shape)} doesn't match the broadcast shape "
                           f"{list(result.shape)}")
    if not _dtype.can_cast(result.dtype, target.dtype):
        raise RuntimeError(f"result type {type_name(result.dtype)} can't be cast to the desired output type "
                           f"{type_name(target.dtype)}")


def check_overlap(op: Op, args: tuple) -> None:
    """Refuse writes to elements that share memory, or that lie beside what is read in memory of the same tensor.

    As PyTorch does, only what is plain from the strides is refused, and not for ops that write one value everywhere.
    """
    target = args[0]
    a = target._a
    if not a.size:
        return
    if 0 in a.strides and "overlap" not in op.tags and any(s == 0 and n > 1 for s, n in zip(a.strides, a.shape)) and not (
            op is _copy_op() and args[1] is target):
        raise RuntimeError("unsupported operation: more than one element of the written-to tensor refers to a single "
                           "memory location. Please clone() the tensor before performing the operation.")
    for other in args[1:]:
        if isinstance(other, Tensor) and other._storage is target._storage and other is not target and (
                _beside(a, other._a)):
            raise RuntimeError("unsupported operation: some elements of the input tensor and the written-to tensor refer to a "
                               "single memory location. Please clone() the tensor before performing the operation.")


def _beside(a: Any, b: Any) -> bool:
    """Whether two arrays, each without gaps, share some of their memory without being laid out alike."""
    if type(a) is hollow.Hollow or not b.size:
        return False
    (a0, a1), (b0, b1) = np.lib.array_utils.byte_bounds(a), np.lib.array_utils.byte_bounds(b)
    if a1 - a0 != a.nbytes or b1 - b0 != b.nbytes or a1 <= b0 or b1 <= a0:
        return False
    return (a0, a1) != (b0, b1) or a.strides != b.strides


def _old_value(op: Op, args: tuple) -> Tensor:
    """The written tensor as it was, data copied only when a derivative reads it."""
    target = args[0]
    needs = tuple(_needs_of(args[i]) for i in op.tensor_slots)
    keeps = op.saves(needs)[1][0]
    old = wrap(target._a.copy()) if keeps else Tensor(target._a, target._storage)
    old._rg, old._grad_fn, old._out_nr = target._rg, target.grad_fn, target._out_nr
    return old


def _needs_of(a: Any) -> bool:
    return any(isinstance(x, Tensor) and x._rg for x in (a if type(a) in (list, tuple) else (a,)))


def _inplace_node(op: Op, args: tuple, before: Tensor | None) -> Any:
    """The tape node of an in-place call; for an op differentiated through its parts, those parts run on the old value."""
    if before is not None:
        return autograd.record(op, args, (), saved_self=before)
    old = wrap(args[0]._a.copy())
    old._rg, old._grad_fn, old._out_nr = args[0]._rg, args[0].grad_fn, args[0]._out_nr
    return dispatch(op, (old, *args[1:]))


def _attach(node: Any, target: Tensor, op: Op) -> None:
    if isinstance(node, Tensor):  # recorded through its parts: the result's history becomes the target's
        history = autograd.record(_copy_op(), (_without_history(target), node, False), ())
        history.edges = [autograd.edge_of(target) if target._rg else None, *history.edges[1:]]
        node = history
    node.metas = [autograd._meta(target)]
    if type(node.out) is tuple or node.out is None:
        save_out = node.op.saves(node.needs)[0]
        node.out = autograd.SavedOutput(target, 0) if save_out else node.metas[0]
    autograd.rebase(target, node)


def _without_history(t: Tensor) -> Tensor:
    return Tensor(t._a, t._storage)


def _copy_op() -> Op:
    return get_op("copy")


def write(target: Tensor, array: Any) -> None:
    """Overwrite ``target``'s elements and count the write."""
    a = target._a
    if type(a) is hollow.Hollow:
        pass
    elif a.flags.writeable:
        a[...] = array
    else:
        raise RuntimeError("this tensor shares read-only memory and cannot be written to; clone() it first")
    target._storage.version += 1


def generator(given: Any) -> Any:
    """The generator a random op draws from."""
    from .rng import generator_or_default  # noqa: PLC0415 - numpy.random is only loaded by who draws numbers
    return generator_or_default(given)


def _gradients(op: Op, needs: tuple[bool, ...], g: Any, out: Any, args: tuple) -> list[Any]:
    """``op.gradients``, by the op's compiled form where it has one and the work is large."""
    if op.extra.get("forms", op) is not None and not mode.grad:  # (most ops have none, which is soon said)
        forms = fused.forms_of(op)
        found = None if forms is None else forms.gradients(needs, g, out, args)
        if found is not None:
            return found
    return op.gradients(needs, g, out, args)


autograd.tensor_class = Tensor
autograd.gradients = _gradients
set_base_handler(dispatch)
set_source(generator)

"""Ops: everything the system knows about an operation, in one object, and the way a call reaches its handler.

An op function (``ops.exp``, ``flambeau.exp``, ``Tensor.exp``) binds its arguments and calls the current handler with the
:class:`Op` and *all* arguments in schema order, defaults filled in. The handler at the bottom runs the op eagerly
(``runtime.eager``); tracing, export and transforms push handlers of their own for the time of a ``with`` block.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from . import late
from . import schema as _schema
from .dtype import DType
from .schema import Schema
from .usage import parameter_uses

Handler = Callable[["Op", tuple], Any]


class Scalar(NamedTuple):
    """How one element of a pointwise op is spelled in generated code; ``{0}``, ``{1}`` stand for the operands.

    ``cpp`` works on vectors as well as scalars, and may call the functions of ``codegen/templates/maths.h``; ``triton`` on
    Triton blocks, and may call those of ``codegen/triton_prelude.py``. ``{dtype}`` stands for the element type of the
    result, in C++ ``{part}`` for the lanes that take part, in Triton ``{kind}`` for "float" or "int", as the operands are.
    """

    cpp: str
    triton: str


@dataclass(eq=False, repr=False)
class Op:
    """An operation. ``CONTRIBUTING.md`` ("Add an op") tells how to define one; ``family.py`` has the factories."""

    name: str
    schema: Schema
    family: str                                   # "pointwise", "reduction", "view", "composite", "contraction", ...
    infer: Callable[..., Any] | None = None       # (*args) -> TensorMeta or tuple; raises PyTorch's errors
    kernel: Callable[..., Any] | None = None      # (xp, *args) -> array or tuple; tensors are arrays here
    vjp: Any = None                               # see `gradients`
    joint_vjp: Callable[..., Any] | None = None   # (g, out, *args, needs) -> one gradient per tensor parameter
    decompose: Callable[..., Any] | None = None   # (*args) -> value in ops, or NotImplemented for "primitive here"
    scalar: Scalar | None = None                  # pointwise: spelling in generated code
    promote: str | None = None                    # pointwise and reductions: promotion kind, see family.py
    reduce: str | None = None                     # reductions: combining function ("sum", "prod", "max", ...)
    lower: Callable[..., Any] | None = None       # how the loop IR is made, when the family's rule does not apply
    samples: Callable[[], Sequence[Any]] | None = None
    tags: frozenset[str] = frozenset()            # "nograd", "random", "view", "check", "extern", ...
    mutates: tuple[int, ...] = ()                 # positions of the arguments written to
    functional: Op | None = None                  # of an in-place op: the op that computes what is written
    inplace: Op | None = None
    api: tuple[str, ...] = ()                     # public names: "torch.exp", "Tensor.exp", "nn.functional.gelu"
    doc: str = ""
    run: Callable[[tuple], Any] | None = None     # eager runner, built by the runtime at the first call
    extra: dict[str, Any] = field(default_factory=dict)  # family-specific facts
    dtypes: str = "f"                             # dtype kinds its samples hold for: letters of "buifc"
    refuses: str = ""                             # pointwise and reductions: kinds it does not compute in
    _saves: dict[tuple[bool, ...], tuple[bool, tuple[bool, ...]]] = field(default_factory=dict)

    @functools.cached_property
    def tensor_slots(self) -> tuple[int, ...]:
        """The positions of the parameters that may hold tensors."""
        return self.schema.tensors

    @functools.cached_property
    def fn(self) -> Any:
        """The public function: PyTorch names its first tensor ``input``."""
        return _make_function(self, "input")

    @functools.cached_property
    def method(self) -> Any:
        """The function under ``ops.NAME`` and on tensors: its first tensor is ``self``."""
        return _make_function(self, "self")

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.method(*args, **kwargs)

    def __reduce__(self) -> tuple:
        return get_op, (self.name,)

    @property
    def differentiable(self) -> bool:
        """Whether the op has a derivative of its own (a composite without one is differentiated through its parts)."""
        return self.vjp is not None or self.joint_vjp is not None

    def saves(self, needs: tuple[bool, ...]) -> tuple[bool, tuple[bool, ...]]:
        """Whether the derivatives asked for by ``needs`` read the data of the output, and of each argument."""
        found = self._saves.get(needs)
        if found is None:
            found = self._saves[needs] = _data_uses(self, needs)
        return found

    def gradients(self, needs: Sequence[bool], g: Any, out: Any, args: tuple) -> list[Any]:
        """The gradients of the tensor parameters (``needs`` aligned with ``tensor_slots``); None where not needed.

        ``vjp`` is one function ``f(g, out, *args)`` for ops with one differentiable tensor parameter, or a tuple of
        such functions (None: not differentiable) in order of the tensor parameters. For an op with several outputs
        ``g`` and ``out`` are tuples. A ``Tensor[]`` parameter's gradient is a list.
        """
        if self.joint_vjp is not None:
            return list(self.joint_vjp(g, out, *args, needs=tuple(needs)))
        if type(self.vjp) is not tuple and len(needs) == 1:
            return [self.vjp(g, out, *args) if self.vjp is not None else None]
        rules = self.vjp if isinstance(self.vjp, tuple) else (self.vjp,)
        found: list[Any] = []
        for i, need in enumerate(needs):
            rule = rules[i] if i < len(rules) else None
            found.append(rule(g, out, *args) if need and rule is not None else None)
        return found


def _data_uses(op: Op, needs: tuple[bool, ...]) -> tuple[bool, tuple[bool, ...]]:
    """Which of (out, *args) the needed derivative rules read beyond shape, dtype and device."""
    if op.joint_vjp is not None:
        rules = [op.joint_vjp]
    else:
        own = op.vjp if isinstance(op.vjp, tuple) else (op.vjp,)
        rules = [rule for rule, need in zip(own, needs) if need and rule is not None]
    n = len(op.schema.params)
    if op.family == "view":
        return False, (False,) * n  # where elements come from depends on shapes alone
    out, params = False, [False] * n
    for rule in rules:
        uses = parameter_uses(rule)  # aligned with (g, out, *args)
        if uses is None:
            return True, (True,) * n
        out |= uses[1]
        for i in range(n):
            params[i] |= 2 + i >= len(uses) or uses[2 + i]
    return out, tuple(params)


class _Ops:
    """The op functions by name, for derivatives and decompositions: ``ops.exp(x)``. Late bound, so order is free."""

    def __getattr__(self, name: str) -> Any:
        try:
            found = self.__dict__[name] = get_op(name).method
        except KeyError:
            if not late.load("torch", name):
                raise AttributeError(f"no op is named {name!r}") from None
            found = self.__dict__[name]
        return found


ops = _Ops()
OPS: dict[str, Op] = {}
PUBLIC: dict[str, dict[str, Any]] = {"torch": {}, "Tensor": {}, "nn.functional": {}}


def register(op: Op) -> Op:
    """Enter ``op`` in the registry, under ``ops.NAME`` and its public names. Raises ``ValueError`` for a second one."""
    if op.name in OPS:
        raise ValueError(f"op {op.name!r} is defined twice")
    OPS[op.name] = op
    setattr(ops, op.name, op.method)
    for target in op.api:
        space, _, name = target.rpartition(".")
        _publish(space, name, op.method if space == "Tensor" else op.fn)
    return op


def _publish(space: str, name: str, fn: Any) -> None:
    names = PUBLIC.setdefault(space, {})
    if name in names and not hasattr(names[name], "__flambeau_late__"):
        raise ValueError(f"{space}.{name} is published twice")
    names[name] = fn
    if space != "Tensor" and type(fn) is FunctionType and "__flambeau_home__" not in fn.__dict__:
        fn.__module__ = "flambeau" if space == "torch" else f"flambeau.{space}"  # where pickle finds it again
        fn.__qualname__, fn.__flambeau_home__ = name, True  # type: ignore[attr-defined]


def public(*targets: str) -> Callable[..., Any]:
    """Publish a plain function written in ops under ``targets`` (``"torch.max"``, ``"Tensor.max"``, ...).

    Such a function must be pure apart from the ops it calls: tracers call it with symbolic tensors.
    """
    def mark(fn: Any) -> Any:
        found: tuple[Any, ...] = (fn.fget, fn.fset) if isinstance(fn, property) else (fn,)
        for plain in found:
            if plain is not None:
                plain.__flambeau_pure__ = True
        for target in targets:
            space, _, name = target.rpartition(".")
            _publish(space, name, fn)
            if space == "torch" and name not in OPS:
                setattr(ops, name, fn)  # derivatives and decompositions may use it too; an op of that name replaces it
        return fn
    return mark


def get_op(name: str) -> Op:
    """The op called ``name``; an in-place name (``add_``) is made from its functional op when first asked for."""
    found = OPS.get(name)
    if found is None and (late.load("ops", name) or late.load("ops", name.removesuffix("_"))):
        found = OPS.get(name)
    if found is None and name.endswith("_") and name[:-1] in OPS:
        return inplace_of(OPS[name[:-1]])
    if found is None:
        raise KeyError(f"no op is named {name!r}")
    return found


def inplace_of(op: Op) -> Op:
    """The op that writes ``op``'s result into its first argument."""
    if op.inplace is None:
        text = Schema(op.name + "_", lambda: (op.schema.params, 1))
        op.inplace = Op(op.name + "_", text, "inplace", mutates=(0,), functional=op, tags=op.tags - {"view"})
        OPS[op.inplace.name] = op.inplace
        setattr(ops, op.inplace.name, op.inplace.method)
    return op.inplace


# ---- handlers ---------------------------------------------------------------------------------------------------


def _no_runtime(op: Op, args: tuple) -> Any:
    raise RuntimeError(f"{op.name}: no handler runs ops; import flambeau (or flambeau.runtime.eager) first")


class _State(threading.local):
    handler: Handler = staticmethod(_no_runtime)  # type: ignore[assignment]

    def __init__(self) -> None:  # once in each thread: an attribute of its own is found faster than the class's
        self.handler = type(self).handler


class _Base:
    """The handler that runs ops when no transform is active: calls that see it in force go to the op's runner themselves."""

    __slots__ = ("handler",)
    handler: Handler


state, base = _State(), _Base()
base.handler = _no_runtime


def is_compiling() -> bool:
    """Whether the calling code is being traced: False when run, True in a trace (PyTorch: `torch.compiler.is_compiling`)."""
    return False


def changing(number: Any) -> Any:
    """``number``; a trace takes it for one that may be another at each call, as a learning rate is."""
    return number


def set_base_handler(handler: Handler) -> None:
    """Install what runs an op when no transform is active (the eager runtime), for all threads."""
    _State.handler = staticmethod(handler)  # type: ignore[assignment]
    state.handler = base.handler = handler


@contextmanager
def use_handler(handler: Handler) -> Iterator[Handler]:
    """Send the ops called in this block (and this thread) to ``handler``."""
    before = state.handler
    state.handler = handler
    try:
        yield handler
    finally:
        state.handler = before


def call(op: Op, args: tuple) -> Any:
    """Send a call with fully bound arguments to the current handler."""
    return state.handler(op, args)


def _make_function(op: Op, self_name: str) -> Any:
    """A Python function with the op's exact signature, so that Python itself reports wrong arguments.

    It is the function at once, but gets its code at the first call: compiling all would be the larger part of
    ``import flambeau``.
    """
    env: dict[str, Any] = {"_op": op, "_self_name": self_name, "_ready": ready, "_state": state, "_base": base,
                           "_write_out": write_out, "_numbers": _NUMBERS, "_refuse_number": _refuse_number}
    fn = env["_fn"] = FunctionType(_UNREADY, env, op.name)
    fn.__qualname__, fn.__doc__, fn.__module__ = op.name, op.doc or None, "flambeau"
    fn.__flambeau_pure__, fn.op = True, op  # type: ignore[attr-defined]
    return fn


def _unready(*args: Any, **kwargs: Any) -> Any:
    return _ready(_fn)(*args, **kwargs)  # type: ignore[name-defined]  # noqa: F821 - globals of each function


_UNREADY = _unready.__code__


def ready(fn: Any) -> Any:
    """``fn``; if it is an op's function that nobody has called yet, it gets its code and its defaults now."""
    if fn.__code__ is _UNREADY:
        env = fn.__globals__
        made = _compiled(env["_op"], env["_self_name"])
        fn.__defaults__, fn.__kwdefaults__, fn.__code__ = made.__defaults__, made.__kwdefaults__, made.__code__
    return fn


def _compiled(op: Op, self_name: str) -> Any:
    """A function with the code and the defaults; its globals are its own, so that threads may make it twice."""
    names, parts, env, kwonly = [], [], {}, False
    for i, p in enumerate(op.schema.params):
        if p.kwonly and not kwonly:
            parts.append("*")
            kwonly = True
        names.append(p.name)
        if p.default is _schema.REQUIRED:
            parts.append(p.name)
        else:
            env[f"_d{i}"] = p.default
            parts.append(f"{p.name}=_d{i}")
    has_out = "out" in op.tags
    if has_out:
        parts += ([] if kwonly else ["*"]) + ["out=None"]
    packed = "".join(n + ", " for n in names)
    body = [f"def _call({', '.join(parts)}):", *(_number_guard(op) if self_name == "input" else ())]
    if has_out:
        body += ["    if out is not None:", f"        return _write_out(_op, _state.handler(_op, ({packed})), out, ({packed}))"]
    body += ["    if _state.handler is _base.handler and _op.run is not None:", f"        return _op.run(({packed}))",
             f"    return _state.handler(_op, ({packed}))"]
    exec(code_of("\n".join(body)), env)  # noqa: S102 - generated from the schema above
    made: Any = env["_call"]
    variables = tuple(self_name if v == "self" else v for v in made.__code__.co_varnames)
    made.__code__ = made.__code__.replace(co_name=op.name, co_varnames=variables)
    return made


_NUMBERS = frozenset({bool, int, float, complex})


def _number_guard(op: Op) -> list[str]:
    """Which Python numbers the public function of an op of several operands refuses: PyTorch admits one in the first place
    only for arithmetic (tag "numbers") and beside a tensor (tag "number_first"); tag "tensors": nowhere."""
    found = [p for p in op.schema.params if p.type in ("Tensor", "Operand") and not p.optional][:2]
    if len(found) < 2 or "numbers" in op.tags or op.family not in ("pointwise", "composite"):
        return []
    tests = [f"type({p.name}) in _numbers" for p in found]
    test = " and ".join(tests) if "number_first" in op.tags else " or ".join(
        text for i, (p, text) in enumerate(zip(found, tests)) if not i or p.type == "Tensor" or "tensors" in op.tags)
    return [f"    if {test}:", f"        _refuse_number(_op, {', '.join(p.name for p in found)})"]


def _refuse_number(op: Op, *values: Any) -> None:
    at = next(i for i, v in enumerate(values) if type(v) in _NUMBERS)
    p = [p for p in op.schema.params if p.type in ("Tensor", "Operand") and not p.optional][at]
    raise TypeError(f"{op.name}(): argument '{'input' if p.name == 'self' else p.name}' (position "
                    f"{op.schema.params.index(p) + 1}) must be Tensor, not {type(values[at]).__name__}; make one with "
                    f"torch.tensor({values[at]!r})")


@functools.cache
def code_of(text: str) -> CodeType:
    """Compiled once for all ops that share the text."""
    return compile(text, "<op>", "exec")


def write_out(op: Op, result: Any, out: Any, args: tuple = ()) -> Any:
    """Write an op's result into ``out=`` as PyTorch does: shapes are made equal, dtypes must be castable.

    Ops tagged "same_out" want the dtype itself, those tagged "apart" an ``out`` that shares no memory with ``args``.
    """
    from .dtype import can_cast  # noqa: PLC0415
    if isinstance(result, tuple):
        for r, o in zip(result, out, strict=True):
            write_out(op, r, o, args)
        return out
    if "same_out" in op.tags and result.dtype is not out.dtype:
        raise RuntimeError(f"{op.name}: Expected out tensor to have dtype {result.dtype}, but got {out.dtype} instead")
    if "apart" in op.tags and any(_share_memory(x, out) for x in args):
        raise RuntimeError(f"{op.name}: unsupported operation: some elements of the input tensor and the written-to tensor refer "
                           "to a single memory location. Please clone() the tensor before performing the operation.")
    if not can_cast(result.dtype, out.dtype):
        raise RuntimeError(f"result type {type_name(result.dtype)} can't be cast to the desired output type "
                           f"{type_name(out.dtype)}")
    if result.device != out.device:
        raise RuntimeError(f"Expected all tensors to be on the same device, but {op.name}'s out= is on {out.device} and "
                           f"its result on {result.device}")
    if result.requires_grad or out.requires_grad:
        raise RuntimeError(f"{op.name}(): functions with out=... arguments don't support automatic differentiation, "
                           "but one of the arguments requires grad.")
    if tuple(out.shape) != tuple(result.shape):
        out.resize_(tuple(result.shape))
    return out.copy_(result)


def _share_memory(x: Any, out: Any) -> bool:
    if isinstance(x, (list, tuple)):
        return any(_share_memory(part, out) for part in x)
    return hasattr(x, "untyped_storage") and hasattr(out, "untyped_storage") and x.untyped_storage() is out.untyped_storage()


_TYPE_NAMES = {"bool": "Bool", "uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int", "int64": "Long",
               "float16": "Half", "bfloat16": "BFloat16", "float32": "Float", "float64": "Double",
               "complex64": "ComplexFloat", "complex128": "ComplexDouble"}


def type_name(dtype: DType) -> str:
    """PyTorch's scalar type name of a dtype (``Float``, ``Long``), as its messages use it."""
    return _TYPE_NAMES[dtype.name]

"""Runs Triton kernels numerically on NumPy arrays: no GPU, no torch, no compiler.

Triton ships an interpreter that expects torch tensors and a process-wide switch set before the import. Here arrays
are dressed as what the interpreter asks of a tensor (:class:`_ArrayArgument`), and the switch is a scope: inside it
``triton.language`` is the interpreter's, outside it the compiler's, so that one process can do both.

Two numeric faults of the interpreter (3.6 and 3.9) are mended in the scope, for a test must see what a GPU computes:
float32 is truncated to bfloat16 instead of rounded, and ``tl.dot`` multiplies the raw bits of bfloat16. A third mend
lets 3.6 loop to a runtime bound under NumPy 2.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np

from flambeau.codegen.triton_build import TritonSource, import_triton, load_function


def interpret(kernel: TritonSource, grid: tuple[int, ...], args: Sequence[Any]) -> None:
    """Run ``kernel`` over ``grid``; ``args`` are its runtime parameters in order: NumPy arrays, ints and floats.

    Arrays stand for pointers to their first element, and are written in place. Raises Triton's InterpreterError for
    an error inside the kernel, TypeError for a wrong number of arguments. Out-of-range accesses are not detected:
    they are memory errors, as on a GPU.
    """
    if len(args) != len(kernel.runtime_types):
        raise TypeError(f"{kernel.name} takes {len(kernel.runtime_types)} arguments, got {len(args)}")
    values = iter(args)
    named = {name: kernel.constants[name] if kind == "constexpr" else _argument(next(values))
             for name, kind in kernel.signature.items()}
    with _interpreting(), np.errstate(all="ignore"):
        function = load_function(kernel)
        if "libdevice" in function.fn.__globals__:
            function.fn.__globals__["libdevice"] = _NumpyLibdevice()
        function[grid](**named)


def _argument(value: Any) -> Any:
    return _ArrayArgument(value) if isinstance(value, np.ndarray) else value


class _ArrayArgument:
    """A NumPy array with the dozen tensor methods that Triton's interpreter calls; it is its own storage."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.dtype = str(array.dtype)

    def data_ptr(self) -> int:
        return self._array.ctypes.data

    def untyped_storage(self) -> _ArrayArgument:
        return self

    def cpu(self) -> _ArrayArgument:
        return self

    def copy_(self, other: _ArrayArgument) -> None:
        """Host and device copy are the same memory: nothing to bring back."""

    def new_empty(self, *size: int, device: str) -> _ArrayArgument:
        return _ArrayArgument(self._array)

    def set_(self, storage: _ArrayArgument, offset: int, size: Any, stride: Any) -> None:
        self._array = storage._array

    def storage_offset(self) -> int:
        return 0

    def size(self) -> tuple[int, ...]:
        return self._array.shape

    def stride(self) -> tuple[int, ...]:
        return tuple(step // self._array.itemsize for step in self._array.strides)


@contextmanager
def _interpreting() -> Iterator[None]:
    """Puts the interpreter's versions into ``triton.language``, and everything back at the end.

    Triton's own patching leaves parts behind when one kernel function calls another, hence the snapshot.
    """
    triton = import_triton()
    import triton.runtime.interpreter as interpreter

    tl = triton.language
    modules = [tl, tl.core, tl.math, tl.standard, tl.random, interpreter]
    classes = [tl.core.tensor, tl.core.dtype, tl.core.tensor_descriptor_base, interpreter.InterpreterBuilder]
    if hasattr(tl.core, "condition"):
        classes.append(tl.core.condition)
    before = [(owner, dict(vars(owner))) for owner in modules + classes]
    with triton.knobs.runtime.scope():
        triton.knobs.runtime.interpret = True
        try:
            for module in modules[:-1]:
                _replace_compiled_helpers(module, interpreter)
            _mend_bfloat16(tl, interpreter)
            _mend_loop_bounds(interpreter)
            interpreter._patch_lang(SimpleNamespace(__globals__={"tl": tl, "core": tl.core}))
            yield
        finally:
            for owner, attributes in before:
                _restore(owner, attributes)


def _restore(owner: Any, attributes: dict[str, Any]) -> None:
    """Names added to a module stay: rewritten helpers look up the interpreter's own names in their module."""
    for name, value in list(vars(owner).items()):
        if name not in attributes:
            if isinstance(owner, type):
                delattr(owner, name)
        elif attributes[name] is not value:
            setattr(owner, name, attributes[name])


def _replace_compiled_helpers(module: Any, interpreter: Any) -> None:
    """``tl.sum`` and its like were decorated for the compiler at import: use their plain Python functions."""
    from triton.runtime.jit import JITFunction

    for name, member in list(vars(module).items()):
        if isinstance(member, JITFunction):
            setattr(module, name, _helper(member.fn, interpreter))


_HELPERS: dict[Callable[..., Any], Any] = {}


def _helper(function: Callable[..., Any], interpreter: Any) -> Any:
    """One object per function: the interpreter recognises sums and maxima by the identity of their combiner."""
    if function not in _HELPERS:
        _HELPERS[function] = _Helper(function, interpreter)
    return _HELPERS[function]


class _Helper:
    """A library function of Triton as a plain call; its text is rewritten for the interpreter at first use."""

    def __init__(self, function: Callable[..., Any], interpreter: Any) -> None:
        self.fn = function
        self.__name__ = function.__name__
        self._interpreter = interpreter
        self._rewritten: Callable[..., Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._rewritten is None:
            self._rewritten = self._interpreter.FunctionRewriter(self.fn).rewrite_ast()
        return self._rewritten(*args, **kwargs)


def _mend_bfloat16(tl: Any, interpreter: Any) -> None:
    convert, builder = interpreter._convert_float, interpreter.InterpreterBuilder
    dot = builder.create_dot

    def convert_float(data: np.ndarray, source: Any, target: Any, rounding: Any) -> np.ndarray:
        if source == tl.float32 and target == tl.bfloat16:
            return data.astype(ml_dtypes.bfloat16).view(np.uint16)
        return convert(data, source, target, rounding)

    def widened(handle: Any) -> Any:
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        return interpreter.TensorHandle(handle.data.view(ml_dtypes.bfloat16).astype(np.float32), tl.float32)

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return dot(self, widened(a), widened(b), *rest)

    interpreter._convert_float = convert_float
    builder.create_dot = create_dot


def _mend_loop_bounds(interpreter: Any) -> None:
    """Triton 3.6 makes a loop bound an ``int`` in a way that NumPy 2.4 refuses for arrays of one element."""
    patch = interpreter._patch_lang_tensor

    def patch_lang_tensor(tensor: Any, *rest: Any) -> None:
        patch(tensor, *rest)
        tensor.__index__ = lambda self: int(self.handle.data.item())

    interpreter._patch_lang_tensor = patch_lang_tensor


class _NumpyLibdevice:
    """The device maths library, by NumPy's or the standard library's function of the same meaning.

    It has no more functions than the real one, and none that NumPy has under the same name with another meaning.
    """

    _OTHERWISE = {"remainder", "round"}  # to the nearest, and halves away from zero

    _RENAMED = {"acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh", "atan": "arctan",
                "atan2": "arctan2", "atanh": "arctanh", "pow": "power", "rint": "rint", "nearbyint": "rint",
                "fdim": "subtract", "abs": "abs", "isinf": "isinf", "isnan": "isnan", "finitef": "isfinite",
                "signbit": "signbit", "div_rn": "divide", "mod": "fmod", "llrint": "rint"}
    _SCALAR = {"erf": math.erf, "erfc": math.erfc, "tgamma": math.gamma, "lgamma": math.lgamma}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        import triton.language.extra.cuda.libdevice as real

        if not hasattr(real, name) or name in self._OTHERWISE:
            raise AttributeError(f"libdevice.{name} cannot be interpreted: the device library has no such function, or NumPy's "
                                 "means something else")
        if name in self._SCALAR:
            function: Callable[..., Any] = np.vectorize(_guarded(self._SCALAR[name]), otypes=[np.float64])
        else:
            function = getattr(np, self._RENAMED.get(name, name))
        return lambda *args: _apply(function, args)


def _guarded(function: Callable[[float], float]) -> Callable[[float], float]:
    """The standard library raises where a GPU returns infinity."""
    def call(x: float) -> float:
        try:
            return function(x)
        except (OverflowError, ValueError):
            return math.inf

    return call


def _apply(function: Callable[..., Any], args: Sequence[Any]) -> Any:
    """Call a NumPy function on the interpreter's tensors; the result has the first one's type, truth values int32."""
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    first = next(arg for arg in args if isinstance(arg, tl.tensor))
    result = np.asarray(function(*(arg.handle.data if isinstance(arg, tl.tensor) else arg for arg in args)))
    kind = tl.int32 if result.dtype == np.bool_ else first.dtype
    data = result.astype(np.int32 if result.dtype == np.bool_ else first.handle.data.dtype)
    shape = tl.block_type(kind, list(data.shape)) if first.type.is_block() else kind
    return tl.tensor(TensorHandle(data, kind), shape)

"""flambeau: PyTorch's eager API in plain Python on NumPy, with a graph compiler one can read.

What every script needs is here at once. Sub-packages (``nn``, ``optim``, ``utils``...) are imported when first asked
for, and the compiler arrives with the first ``compile``: so ``import flambeau`` costs little more than NumPy.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from typing import Any

from flambeau.ir import dtype as _dtype
from flambeau.ir import late as _late
from flambeau.ir import ops as _ops  # noqa: F401 - registers the ops
from flambeau.ir.device import Device as device  # noqa: N813 - PyTorch's name
from flambeau.ir.dtype import DType as dtype  # noqa: N813 - PyTorch's name
from flambeau.ir.dtype import can_cast, get_default_dtype, promote_types, set_default_dtype
from flambeau.ir.op import PUBLIC as _PUBLIC
from flambeau.ir.ops.convert import LEGACY_TYPES as _LEGACY_TYPES
from flambeau.runtime import eager as _eager  # noqa: F401 - installs the eager handler
from flambeau.runtime import fused as _fused
from flambeau.runtime import memory as _memory
from flambeau.runtime import native as _native
from flambeau.runtime import tensor as _tensor
from flambeau.runtime.printing import set_printoptions
from flambeau.runtime.tensor import Size, Tensor, strided

__version__ = "0.1.0"

globals().update(_dtype.BY_NAME)
bool = _dtype.bool_  # noqa: A001 - PyTorch's name
globals().update(_PUBLIC["torch"])
pi, e, inf, nan, newaxis = math.pi, math.e, math.inf, math.nan, None

from flambeau._interop import (  # noqa: E402 - they need the ops above
    as_tensor,
    asarray,
    from_dlpack,
    from_numpy,
    frombuffer,
    get_rng_state,
    initial_seed,
    is_tensor,
    manual_seed,
    seed,
    set_rng_state,
)


def _build_template(name: str) -> Any:
    """Where eager kernels get compiled templates from; codegen is imported when the first one is wanted."""
    return importlib.import_module("flambeau.codegen.library").build_template(name)


def _form_builder() -> Any:
    """Where eager ops get compiled forms from; imported when the first one is wanted."""
    return importlib.import_module("flambeau.frontend.fused")


def _look_for_overrides() -> None:
    """What a program's own subclasses of Tensor bring with them; the functions are as they are until there is one."""
    importlib.import_module("flambeau.overrides").enable()


_native.template_builder = _build_template
_tensor.on_subclass = _look_for_overrides
_fused.builder = _form_builder
_memory.keep_freed_memory()

_LAZY = {  # public names that live in a sub-module which is imported when they are first used
    "Generator": "_interop", "UntypedStorage": "storage", "TypedStorage": "storage",
    "save": "serialization", "load": "serialization",
    "cond": "_higher_order_ops", "compile": "compiler", "is_compiling": "compiler", "as_torch": "dropin",
    "default_generator": "random",
    **dict.fromkeys(("autocast", "clear_autocast_cache", "autocast_increment_nesting", "autocast_decrement_nesting",
                     *(f"{verb}_autocast_{what}" for verb in ("get", "set") for what in ("dtype", "cpu_dtype", "gpu_dtype")),
                     *(f"{verb}_autocast_{what}enabled" for verb in ("is", "set") for what in ("", "cpu_", "cache_"))), "amp"),
    "layout": "_types",
    **dict.fromkeys(("is_anomaly_enabled", "is_anomaly_check_nan_enabled", "set_anomaly_enabled"), "autograd"), "vmap": "func",
    **dict.fromkeys(("no_grad", "enable_grad", "set_grad_enabled", "inference_mode", "is_grad_enabled",
                     "is_inference_mode_enabled"), "autograd.grad_mode"),
    **dict.fromkeys(("sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc", "jagged"), "_types"),
    **dict.fromkeys(("finfo", "iinfo", "memory_format", "contiguous_format", "preserve_format", "channels_last",
                     "channels_last_3d", "set_default_device", "get_default_device", "use_deterministic_algorithms",
                     "are_deterministic_algorithms_enabled", "set_float32_matmul_precision",
                     "get_float32_matmul_precision", "typename", "broadcast_shapes", *_LEGACY_TYPES), "_types"),
    **dict.fromkeys(("get_num_threads", "set_num_threads"), "runtime.native"),
    **dict.fromkeys(("set_default_tensor_type", "get_num_interop_threads", "set_num_interop_threads", "set_flush_denormal",
                     "set_warn_always", "is_warn_always_enabled", "set_deterministic_debug_mode",
                     "get_deterministic_debug_mode", "is_deterministic_algorithms_warn_only_enabled", "is_inference",
                     "is_storage", "get_device", "to_dlpack"), "_switches"),
}


def __getattr__(name: str) -> Any:
    """Import sub-modules, and the names of :data:`_LAZY`, when they are first asked for."""
    if name in _LAZY:
        found = getattr(importlib.import_module(f"flambeau.{_LAZY[name]}"), name)
    elif name in _PUBLIC["torch"] or _late.load("torch", name):
        found = _PUBLIC["torch"][name]
    elif not name.startswith("__") and importlib.util.find_spec(f"flambeau.{name}") is not None:
        found = importlib.import_module(f"flambeau.{name}")
    else:
        raise AttributeError(f"module 'flambeau' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_late.names("torch"), "autograd", "compiler", "nn", "optim", "utils"})

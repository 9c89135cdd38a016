"""What PyTorch calls the tape's nodes: programs and debuggers look at ``grad_fn.name()``. Loaded when a name is asked for.

A node is named after its op, ``AddBackward0``; the number tells forms of one function apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

#: ops that PyTorch knows by another name
_NAMES = {
    "amax": "MaxBackward1", "amin": "MinBackward1", "max_dim": "MaxBackward0", "min_dim": "MinBackward0",
    "batch_norm_train": "NativeBatchNormBackward0", "batch_norm_eval": "NativeBatchNormBackward0", "cast": "ToCopyBackward0",
    "to_device": "ToCopyBackward0", "conv": "ConvolutionBackward0", "copy": "CopyBackwards",
    "layer_norm": "NativeLayerNormBackward0",
    "group_norm": "NativeGroupNormBackward0", "max_pool": "MaxPool2DWithIndicesBackward0", "narrow": "SliceBackward0",
    "relu6": "HardtanhBackward0", "scatter_src": "ScatterBackward0", "square": "PowBackward0", "floor_divide": "DivBackward2",
    "trunc_divide": "DivBackward2", "vector_norm": "LinalgVectorNormBackward0", "logsigmoid": "LogSigmoidBackward0",
    "linalg_eigvals": "LinalgEigBackward0", "linalg_eigvalsh": "LinalgEighBackward0", "linalg_svdvals": "LinalgSvdBackward0",
    "linalg_solve_matrices": "LinalgSolveExBackward0", "linalg_lstsq_matrices": "LinalgLstsqBackward0",
    "linalg_cholesky_ex": "LinalgCholeskyExBackward0", "attention": "ScaledDotProductFlashAttentionForCpuBackward0",
    "sum_to_size": "SumBackward1", "binary_cross_entropy": "BinaryCrossEntropyBackward0",
}
#: ops whose functions PyTorch keeps in torch.special
_SPECIAL = frozenset({"entr", "erfcx", "i0e", "i1", "i1e", "log_ndtr", "ndtri", "xlog1py", "zeta"})


def _given(argument: int) -> Callable[[Any], bool]:
    """Whether an argument was given (neither None nor an empty tuple)."""
    return lambda node: node.args[argument] not in (None, ())


def _tensor(argument: int) -> Callable[[Any], bool]:
    """Whether an argument was a tensor."""
    return lambda node: not isinstance(node.args[argument], (int, float, complex, type(None)))


#: ops with two forms: when it is the one that PyTorch numbers 1
_SECOND: dict[str, Callable[[Any], bool]] = {
    "sum": _given(1), "mean": _given(1), "prod": _given(1), "nansum": _given(1), "squeeze": _given(1), "pow": _tensor(1),
    "remainder": _tensor(1), "fmod": _tensor(1), "clamp_min": _tensor(1), "clamp_max": _tensor(1), "masked_fill": _tensor(2),
    "index_fill": _tensor(3),
}


def node_name(node: Any) -> str:
    """The name of an op's node."""
    name = node.op.name.rstrip("_")
    if name == "linear":
        return _linear(node)
    if name in ("matmul", "reshape"):
        return _by_rank(name, node)
    if name in _NAMES:
        return _NAMES[name]
    words = "".join(_capital(part) for part in name.strip("_").split("_"))
    number = int(name in _SECOND and node.args is not None and _SECOND[name](node))
    return f"{'Special' if name in _SPECIAL else ''}{words}Backward{number}"


def _capital(word: str) -> str:
    """``log1p`` -> ``Log1P``: a letter behind a digit starts anew."""
    return re.sub(r"(?<=\d)[a-z]", lambda m: m.group().upper(), word[:1].upper() + word[1:])


def _rank(x: Any) -> int:
    return len(x.shape) if hasattr(x, "shape") else 2


def _linear(node: Any) -> str:
    if node.args is None:
        return "AddmmBackward0"
    if _rank(node.args[0]) > 2:
        return "UnsafeViewBackward0" if node.args[2] is None else "ViewBackward0"
    return "MmBackward0" if node.args[2] is None else "AddmmBackward0"


def _by_rank(name: str, node: Any) -> str:
    if name == "reshape":
        return "ViewBackward0"
    ranks = (_rank(node.args[0]), _rank(node.args[1])) if node.args is not None else (2, 2)
    if ranks == (1, 1):
        return "DotBackward0"
    if ranks == (2, 1):
        return "MvBackward0"
    return {(2, 2): "MmBackward0", (1, 2): "SqueezeBackward4"}.get(ranks, "UnsafeViewBackward0")


def saved_value(node: Any, name: str, unkept: tuple[type, ...]) -> Any:
    """What a node keeps under ``name``; values of the types ``unkept`` stand for what it does not.

    Raises ``RuntimeError`` when it was freed, ``AttributeError`` when it never was there.
    """
    if node.args is None:
        raise RuntimeError("Trying to backward through the graph a second time (or directly access saved tensors after they have "
                           "already been freed). Saved intermediate values of the graph are freed when you call .backward() or "
                           "autograd.grad(). Specify retain_graph=True if you need to backward through the graph a second time "
                           "or if you need to access saved tensors after calling backward.")
    if name == "result":
        out = node.out[0] if type(node.out) is tuple else node.out
        if hasattr(out, "get"):
            return out.get(node)
    for p, a in zip(node.op.schema.params, node.args):
        if p.name == name and not isinstance(a, unkept):
            return a.get(node) if hasattr(a, "packed") else a
    raise AttributeError(f"{node.name()} keeps nothing called {name!r}")


__all__ = ["node_name", "saved_value"]

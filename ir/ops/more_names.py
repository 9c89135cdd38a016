"""Functions of ``torch`` that say again what a layer's function or another name says, under signatures of their own."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

from .. import dtype as _dtype
from ..family import ops
from ..op import PUBLIC, inplace_of, public
from . import rnn

_F = PUBLIC["nn.functional"]

# ---- dropouts and losses under other signatures ---------------------------------------------------------------------


def _dropout(name: str, inner: str) -> None:
    def drop(input: Any, p: float, train: bool) -> Any:  # noqa: A002
        return _F[inner](input, p, train)

    def drop_(input: Any, p: float, train: bool) -> Any:  # noqa: A002
        return _F[inner](input, p, train, True)

    for fn, full in ((drop, name), (drop_, f"{name}_")):
        fn.__name__ = fn.__qualname__ = full
        fn.__doc__ = f"``nn.functional.{inner}`` with its arguments by position."
        if full != "dropout":
            public(f"torch.{full}")(fn)


for _name, _inner in (("dropout", "dropout"), ("alpha_dropout", "alpha_dropout"), ("feature_dropout", "dropout2d"),
                      ("feature_alpha_dropout", "feature_alpha_dropout")):
    _dropout(_name, _inner)


@public("torch.kl_div")
def kl_div(input: Any, target: Any, reduction: int = 1, *, log_target: bool = False) -> Any:  # noqa: A002
    """``nn.functional.kl_div`` with the reduction as a number: 0 none, 1 mean, 2 sum."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _F["kl_div"](input, target, reduction=("none", "mean", "sum")[reduction], log_target=log_target)


@public("torch.instance_norm")
def instance_norm(input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, use_input_stats: bool,  # noqa: A002
                  momentum: float, eps: float, cudnn_enabled: bool) -> Any:
    """``nn.functional.instance_norm`` with its arguments in another order."""
    return _F["instance_norm"](input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


# ---- recurrent layers -----------------------------------------------------------------------------------------------


def _recurrent(name: str, mode: str, several: bool) -> None:
    def layers(input: Any, *args: Any) -> tuple:  # noqa: A002
        if isinstance(args[2], bool):
            sizes = None
            hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first = args
        else:
            (sizes, hx, params, has_biases, num_layers, dropout, train, bidirectional), batch_first = args, False
        directions = 2 if bidirectional else 1
        each = len(params) // (num_layers * directions)
        groups = [list(params[i:i + each]) for i in range(0, len(params), each)]
        weights = [g if has_biases else [*g[:2], None, None, *g[2:]] for g in groups]
        x = ops.transpose(input, 0, 1) if batch_first else input
        steps = None if sizes is None else [int(n) for n in sizes.tolist()]
        out, last = rnn.run_layers(mode, x, steps, tuple(hx) if several else (hx,), weights, directions=directions,
                                   dropout=dropout, training=train)
        return (ops.transpose(out, 0, 1) if batch_first else out, *last)

    layers.__name__ = layers.__qualname__ = name
    layers.__doc__ = ("Stacked recurrent layers over [T, B, I] (or packed data with batch sizes), with a flat list of weights: "
                      "outputs and last states.")
    public(f"torch.{name}")(layers)


for _name, _mode, _several in (("lstm", "LSTM", True), ("gru", "GRU", False), ("rnn_tanh", "RNN_TANH", False),
                               ("rnn_relu", "RNN_RELU", False)):
    _recurrent(_name, _mode, _several)

# ---- convolutions and images ----------------------------------------------------------------------------------------


@public("torch.convolution")
def convolution(input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,  # noqa: A002
                output_padding: Any, groups: int) -> Any:
    """A convolution of 1 to 3 dimensions, or its transpose."""
    n = weight.ndim - 2
    several = [tuple(v) * n if len(tuple(v)) == 1 else tuple(v) for v in (stride, padding, dilation, output_padding)]
    if transposed:
        return _F[f"conv_transpose{n}d"](input, weight, bias, several[0], several[1], several[3], groups, several[2])
    return _F[f"conv{n}d"](input, weight, bias, several[0], several[1], several[2], groups)


@public("torch.conv_tbc", "nn.functional.conv_tbc")
def conv_tbc(input: Any, weight: Any, bias: Any, pad: int = 0) -> Any:  # noqa: A002
    """A convolution over time. Shapes: [T, B, C], [K, C, O], [O] -> [T + 2 pad - K + 1, B, O]."""
    found = _F["conv1d"](ops.permute(input, (1, 2, 0)), ops.permute(weight, (2, 1, 0)), bias, 1, pad)
    return ops.permute(found, (2, 0, 1))


@public("torch.native_channel_shuffle", "nn.functional.native_channel_shuffle")
def native_channel_shuffle(input: Any, groups: int) -> Any:  # noqa: A002
    """Channels dealt out over ``groups``. Shapes: [N, C, *] -> same."""
    return _F["channel_shuffle"](input, groups)


@public("torch.affine_grid_generator")
def affine_grid_generator(theta: Any, size: Any, align_corners: bool) -> Any:
    """``nn.functional.affine_grid``."""
    return _F["affine_grid"](theta, size, align_corners)


# ---- norms ----------------------------------------------------------------------------------------------------------


@public("torch.norm_except_dim")
def norm_except_dim(v: Any, pow: float = 2, dim: int = 0) -> Any:  # noqa: A002
    """The norm over all dimensions but ``dim``, which stay with size 1."""
    if dim == -1:
        return ops.norm(v, pow)
    others = [d for d in range(v.ndim) if d != dim]
    return PUBLIC["linalg"]["vector_norm"](v, pow, others, True) if others else abs(v)


@public("torch.frobenius_norm")
def frobenius_norm(input: Any, dim: Any = None, keepdim: bool = False) -> Any:  # noqa: A002
    """The root of the sum of squares along ``dim`` (None: all)."""
    return PUBLIC["linalg"]["vector_norm"](input, 2, dim, keepdim)


@public("torch.native_norm")
def native_norm(input: Any, p: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:  # noqa: A002
    """The ``p``-norm of a tensor."""
    return PUBLIC["linalg"]["vector_norm"](input, 2 if p is None else p, dim, keepdim, dtype=dtype)


# ---- methods --------------------------------------------------------------------------------------------------------


@public("Tensor.float_power_")
def float_power_(self: Any, exponent: Any) -> Any:
    """``self ** exponent`` in place; only of float64 (or complex128) tensors, which that is computed in."""
    complexes = self.dtype.is_complex or getattr(exponent, "dtype", _dtype.float64).is_complex
    wide = _dtype.complex128 if complexes else _dtype.float64
    if self.dtype is not wide:
        raise RuntimeError(f"the base given to float_power_ has dtype {self.dtype} but the operation's result requires dtype "
                           f"{wide}")
    return inplace_of(ops.pow.op)(self, exponent)


@public("Tensor.polygamma_")
def polygamma_(self: Any, n: int) -> Any:
    """The derivative number ``n`` of ``digamma``, in place."""
    return self.copy_(ops.polygamma(n, self))


for _name in ("detach_", "as_strided_", "ldexp_", "arccos_", "arccosh_", "arcsin_", "arcsinh_", "arctan_", "arctanh_", "clip_",
              "fix_", "negative_"):
    def _in_place(input: Any, *args: Any, _name: str = _name, **kwargs: Any) -> Any:  # noqa: A002
        return getattr(input, _name)(*args, **kwargs)

    _in_place.__name__ = _in_place.__qualname__ = _name
    _in_place.__doc__ = f"``input.{_name}(...)``."
    public(f"torch.{_name}")(_in_place)


def _elementwise(name: str, count: int) -> None:
    def apply(self: Any, *args: Any) -> Any:
        *others, function = args
        rows = [x.expand(tuple(self.shape)).reshape(-1).tolist() for x in (self, *others)]
        values = [function(*row) for row in zip(*rows)]
        return self.copy_(ops.reshape(ops.constant(values, dtype=self.dtype, device=self.device), tuple(self.shape)))

    apply.__name__ = apply.__qualname__ = name
    what = "it" if count == 1 else "those in its place"
    apply.__doc__ = f"Replace each element by what a Python function makes of {what}. Slow."
    public(f"Tensor.{name}")(apply)


for _name, _count in (("apply_", 1), ("map_", 2), ("map2_", 3)):
    _elementwise(_name, _count)


@public("Tensor.dim_order")
def dim_order(self: Any, *, ambiguity_check: Any = False) -> tuple[int, ...]:
    """The dimensions from the widest stride to the narrowest."""
    return tuple(sorted(range(self.ndim), key=lambda d: -self.stride()[d]))


@public("Tensor.is_set_to")
def is_set_to(self: Any, tensor: Any) -> bool:
    """Whether both are the same window of the same memory."""
    return (self.data_ptr(), tuple(self.shape), self.stride()) == (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())


@public("Tensor.resize_as", "Tensor.resize")
def resize(self: Any, *size: Any) -> Any:
    """A copy of another shape, with undefined elements beyond the old ones."""
    shape = tuple(size[0].shape) if hasattr(size[0], "shape") else tuple(
        itertools.chain(*(s if isinstance(s, (tuple, list)) else (s,) for s in size)))
    return self.clone().resize_(shape)


_constants: dict[str, Callable[[Any], bool]] = {"is_neg": lambda x: False, "is_distributed": lambda x: False}
for _name, _fn in _constants.items():
    _fn.__name__ = _fn.__qualname__ = _name
    _fn.__doc__ = "False for every tensor here."
    public(f"torch.{_name}", f"Tensor.{_name}")(_fn)

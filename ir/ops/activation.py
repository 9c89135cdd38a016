"""Activations: composites of elementwise maths; hot ones have a kernel for eager and a derivative that saves little."""

from __future__ import annotations

import math
from typing import Any

from ..family import composite, ops
from ..op import OPS, public
from ..samples import S, T, unary
from .norm import upcast

_F = "nn.functional."
_SMOOTH = unary(-3.0, 3.0)
_ROOT_HALF = math.sqrt(0.5)
_ROOT_2_OVER_PI = math.sqrt(2 / math.pi)


def _kernel(name: str) -> Any:
    """The kernel of another op, looked up when called."""
    return lambda *args: OPS[name].kernel(*args)  # type: ignore[misc]


_erf, _sigmoid_kernel, _tanh = _kernel("erf"), _kernel("sigmoid"), _kernel("tanh")

# ---- rectifiers ---------------------------------------------------------------------------------------------------

relu = composite(
    "relu(Tensor self) -> Tensor", lambda x: ops.where(x <= 0, 0, x), kernel=lambda xp, x: xp.maximum(x, x.dtype.type(0)),
    vjp=lambda g, out, x: ops.where(out <= 0, 0, g), inplace=True, dtypes="uif", refuses="bc", promote="default",
    samples=_SMOOTH, doc="``max(x, 0)``, elementwise.")

relu6 = composite("relu6(Tensor self) -> Tensor", lambda x: ops.clamp(x, 0, 6), api=(), samples=unary(-3.0, 9.0),
                  vjp=lambda g, out, x: ops.where((out > 0) & (out < 6), g, 0), inplace=True,
                  doc="``min(max(x, 0), 6)``, elementwise.")

leaky_relu = composite(
    "leaky_relu(Tensor self, Number negative_slope=0.01) -> Tensor", lambda x, slope: ops.where(x > 0, x, x * slope),
    vjp=lambda g, out, x, slope: ops.where(x > 0, g, g * slope), api=(), inplace=True, samples=_SMOOTH,
    doc="``x`` where positive, ``negative_slope * x`` elsewhere.")


def _prelu_parts(x: Any, weight: Any) -> Any:
    if weight.ndim > 1:
        raise RuntimeError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.ndim}")
    if weight.ndim and weight.shape[0] != 1:
        if not x.ndim:
            raise RuntimeError("Not allow zero-dim input tensor.")
        if x.ndim < 2 or weight.ndim != 1 or x.shape[1] != weight.shape[0]:
            raise RuntimeError(f"Mismatch of parameter numbers and input channel size. Found parameter numbers = "
                               f"{weight.numel()} and channel size = {x.shape[1] if x.ndim > 1 else 1}.")
        weight = ops.reshape(weight, (1, -1, *(1,) * (x.ndim - 2)))
    elif not x.ndim:
        weight = ops.reshape(weight, ())
    return ops.where(x > 0, x, x * weight)


prelu = composite(
    "prelu(Tensor self, Tensor weight) -> Tensor", _prelu_parts, api=("torch.prelu", "nn.functional.prelu", "Tensor.prelu"),
    tags=("amp:lower",), samples=lambda: [S(T((2, 3, 4)), T((3,))), S(T((2, 3)), T((1,)))],
    doc="``x`` where positive, ``weight * x`` elsewhere; one weight, or one per channel (dimension 1).")

threshold = composite(
    "threshold(Tensor self, Number threshold, Number value) -> Tensor",
    lambda x, threshold, value: ops.where(x > threshold, x, value), inplace=True, api=("torch.threshold",),
    samples=lambda: [S(T((3, 5)), 0.1, 20.0)], doc="``x`` where above ``threshold``, ``value`` elsewhere.")

def _hardtanh_parts(x: Any, low: Any, high: Any) -> Any:
    if low > high:
        raise ValueError("min_val cannot be greater than max_val")
    if x.dtype.is_integral:
        low, high = int(low), int(high)
    return ops.clamp(x, low, high)


hardtanh = composite(
    "hardtanh(Tensor self, Number min_val=-1.0, Number max_val=1.0) -> Tensor", _hardtanh_parts,
    vjp=lambda g, out, x, low, high: ops.where((x > low) & (x < high), g, 0), api=(), inplace=True, samples=_SMOOTH,
    doc="``x`` kept within [min_val, max_val].")

hardsigmoid = composite(
    "hardsigmoid(Tensor self) -> Tensor", lambda x: ops.clamp(x + 3, 0, 6) / 6, api=(), inplace=True,
    vjp=lambda g, out, x: ops.where((x > -3) & (x < 3), g / 6, 0), samples=unary(-5.0, 5.0),
    doc="``relu6(x + 3) / 6``, elementwise.")

hardswish = composite(
    "hardswish(Tensor self) -> Tensor", lambda x: x * ops.clamp(x + 3, 0, 6) / 6, api=(), inplace=True,
    vjp=lambda g, out, x: ops.where(x <= -3, 0, ops.where(x < 3, g * (x / 3 + 0.5), g)), samples=unary(-5.0, 5.0),
    doc="``x * relu6(x + 3) / 6``, elementwise.")

hardshrink = composite(
    "hardshrink(Tensor self, Number lambd=0.5) -> Tensor", lambda x, lambd: ops.where(abs(x) <= lambd, 0, x),
    api=("torch.hardshrink", "Tensor.hardshrink", _F + "hardshrink"), samples=_SMOOTH,
    doc="``x`` where its magnitude exceeds ``lambd``, 0 elsewhere.")

softshrink = composite(
    "softshrink(Tensor self, Number lambd=0.5) -> Tensor",
    lambda x, lambd: _softshrink_parts(x, lambd), api=(_F + "softshrink",),
    samples=_SMOOTH, doc="``x`` moved towards 0 by ``lambd``, 0 where it is nearer.")

def _softshrink_parts(x: Any, lambd: Any) -> Any:
    if lambd < 0:
        raise RuntimeError(f"softshrink: lambda must be in range [0, max] for input dtype {x.dtype}, but found {lambd}")
    return ops.where(x > lambd, x - lambd, ops.where(x < -lambd, x + lambd, x * 0))


tanhshrink = composite("tanhshrink(Tensor self) -> Tensor", lambda x: x - ops.tanh(x), api=(_F + "tanhshrink",),
                       samples=_SMOOTH, doc="``x - tanh(x)``, elementwise.")

# ---- exponential units --------------------------------------------------------------------------------------------


def _elu_parts(x: Any, alpha: Any, scale: Any, input_scale: Any) -> Any:
    negative = ops.expm1(x if input_scale == 1 else x * input_scale) * (alpha * scale)
    return ops.where(x > 0, x if scale == 1 else x * scale, negative)


elu = composite(
    "elu(Tensor self, Number alpha=1.0, Number scale=1, Number input_scale=1) -> Tensor", _elu_parts, api=(), inplace=True,
    samples=lambda: [S(T((3, 5))), S(T((4,)), 2.0)], doc="``x`` where positive, ``alpha * (exp(x) - 1)`` elsewhere.")

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946

selu = composite("selu(Tensor self) -> Tensor", lambda x: _elu_parts(x, _SELU_ALPHA, _SELU_SCALE, 1), inplace=True,
                 api=("torch.selu",), samples=_SMOOTH, doc="Self-normalizing exponential unit: a scaled ``elu``.")

celu = composite("celu(Tensor self, Number alpha=1.0) -> Tensor", lambda x, alpha: _elu_parts(x, alpha, 1, 1 / alpha),
                 inplace=True, api=("torch.celu",), samples=lambda: [S(T((3, 5))), S(T((4,)), 2.0)],
                 doc="``max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))``, elementwise.")

# ---- smooth units -------------------------------------------------------------------------------------------------


def _gelu_parts(x: Any, approximate: str) -> Any:
    if approximate == "tanh":
        return 0.5 * x * (1 + ops.tanh(_gelu_inner(x)))
    if approximate != "none":
        raise RuntimeError("approximate argument must be either none or tanh.")
    return x * 0.5 * (1 + ops.erf(x * _ROOT_HALF))


def _gelu_inner(x: Any) -> Any:
    return _ROOT_2_OVER_PI * (x + 0.044715 * (x * x * x))


def _gelu_kernel(xp: Any, x: Any, approximate: str) -> Any:
    if approximate == "tanh":
        t = _tanh(xp, x.dtype.type(_ROOT_2_OVER_PI) * (x + x.dtype.type(0.044715) * (x * x * x)))
    elif approximate == "none":
        t = _erf(xp, x * x.dtype.type(_ROOT_HALF))
    else:
        raise RuntimeError("approximate argument must be either none or tanh.")
    t += 1
    t *= x
    t *= x.dtype.type(0.5)
    return t


def _gelu_grad(g: Any, out: Any, x: Any, approximate: str) -> Any:
    if approximate == "tanh":
        t = ops.tanh(_gelu_inner(x))
        slope = _ROOT_2_OVER_PI * (1 + 3 * 0.044715 * (x * x))
        return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)
    below = 0.5 * (1 + ops.erf(x * _ROOT_HALF))
    density = ops.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
    return g * (below + x * density)


gelu = composite(
    "gelu(Tensor self, *, str approximate='none') -> Tensor", _gelu_parts, kernel=_gelu_kernel, vjp=_gelu_grad,
    promote="default", refuses="buic", api=(_F + "gelu",), samples=lambda: [*_SMOOTH(), S(T((3, 5)), approximate="tanh")],
    doc="``x`` times the normal distribution function of ``x``; ``approximate='tanh'`` for the tanh formula.")


def _silu_kernel(xp: Any, x: Any) -> Any:
    out = _sigmoid_kernel(xp, x)
    out *= x
    return out


def _silu_grad(g: Any, out: Any, x: Any) -> Any:
    s = ops.sigmoid(x)
    return g * s * (1 + x * (1 - s))


silu = composite("silu(Tensor self) -> Tensor", lambda x: x * ops.sigmoid(x), kernel=_silu_kernel, vjp=_silu_grad,
                 promote="default", api=(), inplace=True, samples=_SMOOTH, doc="``x * sigmoid(x)``, elementwise.")

def _softplus_kernel(xp: Any, x: Any, beta: float, threshold: float) -> Any:
    scaled = x * x.dtype.type(beta)
    soft = xp.log1p(xp.exp(xp.minimum(scaled, x.dtype.type(threshold)))) / x.dtype.type(beta)
    return xp.where(scaled > threshold, x, soft)


softplus = composite(
    "softplus(Tensor self, float beta=1, float threshold=20) -> Tensor",
    lambda x, beta, threshold: ops.where(x * beta > threshold, x, ops.log1p(ops.exp(x * beta)) / beta),
    kernel=_softplus_kernel, promote="default", refuses="buic", api=(_F + "softplus",), inplace=True,
    vjp=lambda g, out, x, beta, threshold: ops.where(x * beta > threshold, g, g * ops.sigmoid(x * beta)),
    tags=("amp:float32@cuda",), samples=lambda: [S(T((3, 5))), S(T((4,)), 2.0, 1.0), S(T((4,), 50.0, 200.0))],
    doc="``log(1 + exp(beta x)) / beta``, linear where ``beta x`` exceeds ``threshold``.")

mish = composite("mish(Tensor self) -> Tensor", lambda x: x * ops.tanh(ops.softplus(x)), api=(), inplace=True,
                 samples=_SMOOTH, doc="``x * tanh(softplus(x))``, elementwise.")

logsigmoid = composite(
    "logsigmoid(Tensor self) -> Tensor", lambda x: ops.clamp(x, None, 0) - ops.log1p(ops.exp(-abs(x))), api=(_F + "logsigmoid",),
    vjp=lambda g, out, x: g * ops.sigmoid(-x), samples=_SMOOTH, doc="``log(sigmoid(x))``, stable for large ``-x``.")

softsign = composite("softsign(Tensor self) -> Tensor", lambda x: x / (abs(x) + 1), api=(_F + "softsign",),
                     samples=_SMOOTH, doc="``x / (1 + |x|)``, elementwise.")


def _glu_parts(x: Any, dim: int) -> Any:
    if not x.ndim:
        raise RuntimeError("glu does not support 0-dimensional tensors")
    n = x.shape[dim]
    if n % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {dim} is size {n}")
    return ops.narrow(x, dim, 0, n // 2) * ops.sigmoid(ops.narrow(x, dim, n // 2, n // 2))


glu = composite("glu(Tensor self, int dim=-1) -> Tensor", _glu_parts, api=(_F + "glu",),
                samples=lambda: [S(T((3, 4))), S(T((4, 3)), 0)],
                doc="The first half along ``dim`` times the sigmoid of the second half.")

softmin = composite("softmin(Tensor self, int dim) -> Tensor", lambda x, dim: ops.softmax(-x, dim), api=(),
                    samples=lambda: [S(T((3, 4)), 1)], doc="``softmax(-x, dim)``.")

# ---- functions with PyTorch's flags ---------------------------------------------------------------------------------


def _flagged(op: Any, name: str, *targets: str) -> Any:
    """Publish ``F.name(input, ..., inplace=False)`` for ``op``, the arguments between being the op's own."""
    params = op.schema.params[1:]

    def function(input: Any, *args: Any, inplace: bool = False, **kwargs: Any) -> Any:
        if len(args) > len(params):  # inplace passed by position
            args, inplace = args[:-1], args[-1]
        run = getattr(ops, op.name + "_") if inplace else op.method
        return run(input, *args, **kwargs)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = op.doc + " With ``inplace`` the input is overwritten."
    return public(_F + name, *targets)(function)


for _op in (relu, relu6, leaky_relu, threshold, hardtanh, hardsigmoid, hardswish, selu, celu, silu, mish):
    _flagged(_op, _op.name)
for _op in (relu, relu6, leaky_relu, threshold, hardtanh, elu, selu, celu):
    public(_F + _op.name + "_")(getattr(ops, _op.name + "_"))
for _op in (selu, celu, threshold):
    public("torch." + _op.name + "_")(getattr(ops, _op.name + "_"))


@public(_F + "elu")
def elu_call(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """``x`` where positive, ``alpha * (exp(x) - 1)`` elsewhere. With ``inplace`` the input is overwritten."""
    return ops.elu_(input, alpha) if inplace else ops.elu(input, alpha)


@public(_F + "rrelu", "torch.rrelu")
def rrelu(input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False) -> Any:
    """Leaky ReLU whose slope is drawn from [lower, upper) for each element in training, and their mean otherwise."""
    if lower > upper:
        raise RuntimeError(f"Lower bound should be less than or equal to the upper bound, but got {lower} and {upper}")
    if not training:
        return (ops.leaky_relu_ if inplace else ops.leaky_relu)(input, (lower + upper) / 2)
    if lower > upper:
        raise RuntimeError(f"Lower bound should be less than or equal to the upper bound, but got {lower} and {upper}")
    x = upcast(input)
    out = x * ops.rrelu_slopes(ops.detach(x), lower, upper)
    out = out if x is input else ops.cast(out, input.dtype)
    return ops.copy_(input, out) if inplace else out


@public(_F + "rrelu_", "torch.rrelu_")
def rrelu_inplace(input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False) -> Any:
    """``rrelu`` written into its input."""
    return rrelu(input, lower, upper, training, True)


@public(_F + "softmax")
def softmax_call(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """Exponentials that sum to 1 along ``dim`` (None: 0 for 0-, 1- and 3-D input, else 1)."""
    return ops.softmax(input, implicit_dim(input, dim), dtype)


@public(_F + "log_softmax")
def log_softmax_call(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """``log(softmax(input))`` along ``dim`` (None: 0 for 0-, 1- and 3-D input, else 1)."""
    return ops.log_softmax(input, implicit_dim(input, dim), dtype)


@public(_F + "softmin")
def softmin_call(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """``softmax(-input)`` along ``dim`` (None: 0 for 0-, 1- and 3-D input, else 1)."""
    return ops.softmax(-input, implicit_dim(input, dim), dtype)


def implicit_dim(x: Any, dim: int | None) -> int:
    """The dimension that ``softmax`` and its kin use when none is given."""
    return dim if dim is not None else 0 if x.ndim in (0, 1, 3) else 1


@public(_F + "gumbel_softmax")
def gumbel_softmax(logits: Any, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Any:
    """A sample of the Gumbel-softmax distribution; with ``hard`` one-hot, with the soft sample's gradient."""
    noise = -ops.log(ops.exponential(tuple(logits.shape), 1, dtype=logits.dtype, device=logits.device))
    soft = ops.softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    index = ops.argmax(soft, dim, True)
    one = ops.scatter(ops.zeros_like(logits), dim, index, ops.ones_like(soft))
    return one - ops.detach(soft) + soft

"""What the code of real models does in Python: configurations, registries, caches, output classes, masks, blocks by name."""

import math
from collections import OrderedDict
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from ..given import F, call, nn, program, rand, torch

torch.manual_seed(7)
X = rand(2, 5, 8)


class Config:
    model_type = "toy"

    def __init__(self, hidden=8, heads=2, act="gelu", layers=2, eps=1e-5, **kwargs):
        self.hidden, self.heads, self.act, self.layers, self.eps = hidden, heads, act, layers, eps
        self.use_cache = kwargs.pop("use_cache", True)
        for key, value in kwargs.items():
            setattr(self, key, value)

    @property
    def head_dim(self):
        return self.hidden // self.heads

    def __getattribute__(self, key):
        if key != "attribute_map" and key in {"hidden_size": "hidden", "num_heads": "heads"}:
            key = {"hidden_size": "hidden", "num_heads": "heads"}[key]
        return super().__getattribute__(key)


ACT2FN: Dict[str, Callable] = {"gelu": F.gelu, "relu": F.relu, "silu": nn.SiLU(), "quick": lambda x: x * torch.sigmoid(1.7 * x)}
REGISTRY: Dict[str, type] = {}


def register(name: str):
    def wrap(cls):
        assert name not in REGISTRY
        REGISTRY[name] = cls
        return cls
    return wrap


class Output(OrderedDict):
    """Fields by name, by position and as attributes."""

    def __post_init__(self):
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None:
                super().__setitem__(f.name, value)

    def __getitem__(self, k):
        if isinstance(k, str):
            return dict(self.items())[k]
        return self.to_tuple()[k]

    def to_tuple(self):
        return tuple(self[k] for k in self.keys())


@dataclass
class ModelOutput(Output):
    last_hidden: Optional[Any] = None
    past: Optional[Tuple] = None
    attentions: Optional[Tuple] = None


class Attention(nn.Module):
    def __init__(self, config: Config, layer_idx: Optional[int] = None):
        super().__init__()
        self.config, self.layer_idx = config, layer_idx
        self.num_heads, self.head_dim = config.num_heads, config.head_dim
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out = nn.Linear(config.hidden_size, config.hidden_size)

    def _split(self, t):
        return t.view(*t.shape[:-1], self.num_heads, self.head_dim).transpose(1, 2)

    def forward(self, x, mask=None, past=None, output_attentions=False, **kwargs):
        q, k, v = map(self._split, self.qkv(x).chunk(3, dim=-1))
        if past is not None and len(past) > self.layer_idx:
            k, v = (torch.cat([p, n], dim=2) for p, n in zip(past[self.layer_idx], (k, v)))
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.head_dim)
        if mask is not None:
            scores = scores + mask[..., : scores.shape[-1]]
        weights = scores.softmax(-1)
        y = (weights @ v).transpose(1, 2).flatten(2)
        return self.out(y), (k, v), weights if output_attentions else None


@register("block")
class Block(nn.Module):
    def __init__(self, config: Config, idx: int):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden, eps=config.eps)
        self.attn = Attention(config, idx)
        self.fn = ACT2FN[config.act]

    def forward(self, x, **kwargs):
        y, cache, weights = self.attn(self.norm(x), **kwargs)
        return (x + self.fn(y),) + ((cache,) if kwargs.get("use_cache") else ()) + ((weights,) if weights is not None else ())


class Model(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(REGISTRY["block"](config, k) for k in range(config.layers))

    def forward(self, x, past=None, output_attentions: Optional[bool] = None, use_cache=None, return_dict=True):
        use_cache = use_cache if use_cache is not None else self.config.use_cache
        output_attentions = bool(output_attentions)
        caches: Tuple = ()
        attentions: Optional[Tuple] = () if output_attentions else None
        for block in self.blocks:
            out = block(x, past=past, output_attentions=output_attentions, use_cache=use_cache)
            x = out[0]
            if use_cache:
                caches += (out[1],)
            if output_attentions:
                attentions = attentions + (out[-1],)
        if not return_dict:
            return tuple(v for v in (x, caches, attentions) if v is not None)
        return ModelOutput(last_hidden=x, past=caches or None, attentions=attentions)


MODEL = Model(Config()).eval()


@program(call(X, return_dict=False), call(X, return_dict=False, output_attentions=True), call(X, return_dict=False))
def transformer_with_tuples(x, **kwargs):
    with torch.no_grad():
        return MODEL(x, **kwargs)


@program((X,), (X,))
def transformer_with_an_output_class(x):
    out = MODEL(x, output_attentions=True)
    return out.last_hidden, out["last_hidden"] is out[0], len(out), list(out.keys())


@program((rand(1, 3, 8), rand(1, 1, 8)), (rand(1, 3, 8), rand(1, 1, 8)))
def decoding_with_a_cache(prompt, token):
    past, steps = None, []
    for x in (prompt, token, token):
        y, past = MODEL(x, past=past, return_dict=False)
        steps.append(y[:, -1])
    return torch.cat(steps), past[0][0].shape


LAYERS = nn.ModuleDict({"embed": nn.Linear(8, 4), "norm": nn.LayerNorm(4), "head": nn.Linear(4, 2)})
ORDER = ["embed", "norm", "head"]


@program((X,), lambda: ORDER.pop(), (X,))
def layers_by_name_in_an_order_that_changes(x):
    for name in ORDER:
        x = LAYERS[name](x)
    return x


HANDLERS = {}


def handles(*kinds):
    def wrap(fn):
        for kind in kinds:
            HANDLERS[kind] = fn
        return fn
    return wrap


@handles("mean", "avg")
def pool_mean(x, dim):
    return x.mean(dim)


@handles("max")
def pool_max(x, dim):
    return x.amax(dim)


@program((X, "avg"), (X, "max"), (X, "avg"), (X, "none"))
def dispatch_table_by_decorator(x, kind):
    fn = HANDLERS.get(kind, lambda v, dim: v)
    return fn(x, dim=1) * 2


class Pipeline:
    def __init__(self, *steps, **options):
        self.steps, self.options = list(steps), {"verbose": False, **options}

    def __or__(self, step):
        return Pipeline(*self.steps, step, **self.options)

    def __call__(self, x):
        history = []
        for k, step in enumerate(self.steps):
            x = step(x)
            if self.options["verbose"]:
                history.append((k, getattr(step, "__name__", "step"), tuple(x.shape)))
        return (x, history) if history else x


PIPE = Pipeline(torch.abs, verbose=True) | torch.sqrt | (lambda v: v.sum(-1))


@program((X,), (X,))
def pipeline_object(x):
    return PIPE(x), (Pipeline() | torch.exp)(x)


def to_2tuple(v):
    return tuple(v) if isinstance(v, (tuple, list)) else (v, v)


def make_divisible(v, divisor=8, min_value=None, limit=0.9):
    new = max(min_value or divisor, int(v + divisor / 2) // divisor * divisor)
    return new + divisor if new < limit * v else new


@program((rand(1, 4, 6, 6), 3, 1), (rand(1, 4, 6, 6), (3, 1), (1, 0)), (rand(1, 4, 6, 6), 3, 1))
def convolution_helpers(x, kernel, padding):
    kh, kw = to_2tuple(kernel)
    w = torch.ones(make_divisible(x.shape[1] * 1.5), x.shape[1], kh, kw)
    return F.conv2d(x, w, padding=to_2tuple(padding)).mean((2, 3))


class DropPath(nn.Module):
    def __init__(self, p: float = 0.0):
        super().__init__()
        self.p = p

    def forward(self, x):
        if self.p == 0.0 or not self.training:
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        return x * x.new_empty(shape).fill_(1 - self.p)


RATES = [r.item() for r in torch.linspace(0, 0.2, 3)]
PATHS = nn.Sequential(OrderedDict((f"drop{k}", DropPath(r)) for k, r in enumerate(RATES)))


@program((X,), lambda: PATHS.eval(), (X,), lambda: PATHS.train(), (X,))
def stochastic_depth_flags(x):
    for name, layer in PATHS.named_children():
        x = layer(x) if name != "drop1" else x + 1
    return x


def get_parameter_groups(model, skip=()):
    decay, rest = [], []
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        (rest if p.ndim <= 1 or name.endswith(".bias") or name in skip else decay).append(name)
    return {"decay": decay, "rest": rest}


@program((X,), (X,))
def parameters_by_name(x):
    groups = get_parameter_groups(LAYERS, skip={"head.weight"})
    total = sum(p.numel() for p in LAYERS.parameters())
    norm = sum(p.pow(2).sum() for n, p in LAYERS.named_parameters() if n in groups["decay"])
    return x * norm, groups, total


class RotaryCache(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.register_buffer("inv_freq", 1.0 / (100 ** (torch.arange(0, dim, 2) / dim)), persistent=False)
        self.cached: Optional[Tuple] = None
        self.length = 0

    def forward(self, n):
        if self.cached is None or n > self.length:
            angles = torch.arange(n)[:, None] * self.inv_freq
            self.cached, self.length = (angles.cos(), angles.sin()), n
        cos, sin = self.cached
        return cos[:n], sin[:n]


ROTARY = RotaryCache(8)


def rotate_half(x):
    a, b = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2:]
    return torch.cat((-b, a), dim=-1)


@program((X,), (X,), (X,), watch=lambda: ROTARY.length)
def rotary_cache(x):
    cos, sin = ROTARY(x.shape[1])
    cos, sin = (torch.cat([t, t], dim=-1) for t in (cos, sin))
    return x * cos + rotate_half(x) * sin


def masked(lengths: List[int], size: Optional[int] = None, *, causal: bool = False, dtype=None):
    size = size or max(lengths)
    mask = torch.arange(size)[None] < torch.tensor(lengths)[:, None]
    if causal:
        mask = mask[:, None] & torch.ones(size, size, dtype=torch.bool).tril()
    return mask.to(dtype or torch.bool)


@program(([5, 3],), ([5, 3],), ([5, 2],))
def masks_from_lengths(lengths):
    return X * masked(lengths)[..., None], masked(lengths, causal=True, dtype=torch.float32).sum()


class EMA:
    def __init__(self, model, decay=0.9):
        self.decay = decay
        self.shadow = {k: v.detach().clone() for k, v in model.state_dict().items()}

    def update(self, model):
        for k, v in model.state_dict().items():
            self.shadow[k] = self.shadow[k] * self.decay + v.detach() * (1 - self.decay)


SMALL = nn.Linear(8, 2)
EMA_OF_SMALL = EMA(SMALL)


@program((X,), (X,), watch=lambda: EMA_OF_SMALL.shadow)
def moving_average_of_parameters(x):
    EMA_OF_SMALL.update(SMALL)
    return F.linear(x, EMA_OF_SMALL.shadow["weight"], EMA_OF_SMALL.shadow["bias"])


@dataclass
class TrainState:
    step: int = 0
    best: float = float("inf")
    history: Optional[List[float]] = None

    def advance(self, loss):
        self.step += 1
        self.history = [*(self.history or []), self.step]
        return loss / self.step


@program((X, TrainState()), (X, TrainState(step=3)))
def state_dataclass_advances(x, state):
    return state.advance(x.pow(2).mean()), state.step


class Registry(dict):
    def build(self, spec: Union[str, dict], **extra):
        spec = {"type": spec} if isinstance(spec, str) else dict(spec)
        kind = spec.pop("type")
        return self[kind](**{**spec, **extra})


LOSSES = Registry(mse=lambda reduction="mean": partial(F.mse_loss, reduction=reduction), l1=lambda: F.l1_loss)


@program((X, "l1"), (X, {"type": "mse", "reduction": "sum"}), (X, "l1"))
def losses_built_from_a_spec(x, spec):
    return LOSSES.build(spec)(x, torch.zeros_like(x))


def tree_map(fn, tree):
    if isinstance(tree, dict):
        return {k: tree_map(fn, v) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        made = [tree_map(fn, v) for v in tree]
        return type(tree)(*made) if hasattr(tree, "_fields") else type(tree)(made)
    return fn(tree)


@program(({"a": X, "b": [X, (X, 2)]},), ({"a": X, "b": [X, (X, 2)]},))
def mapped_tree(tree):
    return tree_map(lambda v: v * 2, tree)


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)
        self.callbacks: List[Callable] = []

    def on(self, fn):
        self.callbacks.append(fn)
        return fn

    def forward(self, x):
        x = self.inner(x)
        for fn in self.callbacks:
            x = fn(self, x) if fn is not None else x
        return x


HOOKED = Hooked()
FEATURES: Dict[str, Any] = {}


@HOOKED.on
def keep(module, x):
    FEATURES[type(module).__name__] = x.mean()
    return x * 2


@program((X,), (X,), watch=lambda: sorted(FEATURES))
def callbacks_of_a_module(x):
    return HOOKED(x) + FEATURES["Hooked"]


@program((X, None), (X, 3), (X, None), (X, (1, 2)))
def normalised_arguments(x, k: Union[None, int, Tuple[int, ...]] = None):
    dims = tuple(range(1, x.ndim)) if k is None else (k % x.ndim,) if isinstance(k, int) else tuple(sorted(k))
    return x.mean(dim=dims, keepdim=True) + len(dims)

"""Modules: containers, state, sharing, attributes made in forward, flags that flip, parameters walked and replaced."""

from collections import OrderedDict

from ..given import F, call, nn, program, rand, torch

X = rand(4, 3)
torch.manual_seed(3)


def linear(inputs=3, outputs=3):
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(rand(*p.shape, seed=p.dim()))
    return layer


@program((X,), (X,))
class Submodules(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.act, self.last = linear(3, 5), nn.ReLU(), linear(5, 2)

    def forward(self, x):
        return self.last(self.act(self.first(x)))


@program((X,), (X,), backward=True)
class SequentialOfSequentials(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(linear(), nn.Sequential(nn.Tanh(), linear()), nn.Sequential(OrderedDict(act=nn.GELU())))

    def forward(self, x):
        return self.body(x) + self.body[1](x) + self.body[2].act(x)


@program((X,), (X,))
class ModuleListLoop(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([linear() for _ in range(3)])

    def forward(self, x):
        outs = []
        for k, layer in enumerate(self.layers):
            x = F.relu(layer(x)) * (k + 1)
            outs.append(x)
        return outs, self.layers[-1](x), len(self.layers[:2]), self.layers[1:][0](x)


@program((X, "a"), (X, "b"), (X, "a"))
class ModuleDictByName(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleDict({"a": linear(), "b": nn.Sequential(linear(), nn.ReLU())})

    def forward(self, x, name):
        out = self.heads[name](x)
        for key, head in self.heads.items():
            out = out + head(x) * len(key)
        return out, list(self.heads.keys()), "c" in self.heads


@program((X,), (X,), backward=True)
class ParameterContainers(nn.Module):
    def __init__(self):
        super().__init__()
        self.scales = nn.ParameterList([nn.Parameter(rand(3, seed=k)) for k in range(3)])
        self.table = nn.ParameterDict({"w": nn.Parameter(rand(3, seed=7)), "v": nn.Parameter(rand(1, seed=8))})

    def forward(self, x):
        for s in self.scales:
            x = x * s + 1
        for name in self.table:
            x = x + self.table[name]
        return x, len(self.scales), self.scales[0] * 2


@program((X,), (X,), backward=True)
class SharedParameters(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = linear(), linear()
        self.out.weight = self.embed.weight
        self.alias = self.embed

    def forward(self, x):
        return self.out(self.alias(self.embed(x))), self.out.weight is self.embed.weight


@program((X,), (X,), (X,), watch=lambda: COUNTING.__dict__["_buffers"])
class BufferCounts(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("mean", torch.zeros(3))
        global COUNTING
        COUNTING = self

    def forward(self, x):
        self.steps += 1
        self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return x - self.mean


@program((X,), (X,), (X,), watch=lambda: REPLACING.__dict__["_buffers"])
class BufferReplaced(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("maybe", None)
        global REPLACING
        REPLACING = self

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        if self.maybe is None:
            self.maybe = x.sum(0)
        return x - self.mean + self.maybe


@program((X,), (X,), (X,), watch=lambda: (LAZY.cached, LAZY.calls))
class AttributesMadeInForward(nn.Module):
    calls = 0

    def __init__(self):
        super().__init__()
        self.cached = None
        global LAZY
        LAZY = self

    def forward(self, x):
        self.calls += 1
        if self.cached is None:
            self.cached = torch.arange(x.shape[1]).float()
        self.last_input_shape = tuple(x.shape)
        return x * self.cached


@program((X,), lambda: TRAINED.eval(), (X,), lambda: TRAINED.train(), (X,), lambda: TRAINED.norm.eval(), (X,))
class TrainAndEval(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(3), nn.Dropout(0.0)
        global TRAINED
        TRAINED = self

    def forward(self, x):
        y = self.drop(self.norm(x))
        return (y, y * 2) if self.training else y


@program((X,), (X,), watch=lambda: (NORMED.running_mean, NORMED.running_var, NORMED.num_batches_tracked))
def batch_norm_statistics(x):
    return NORMED(x) * 2


NORMED = nn.BatchNorm1d(3, momentum=0.3)


@program((rand(2, 3, 6, 6),), (rand(2, 3, 6, 6, seed=1),), backward=True)
class ConvNormPool(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
        return self.head(x.mean((2, 3)))


@program((X,), (X,))
class InheritedForward(nn.Module):
    class Base(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.layer = linear(3, width)

        def features(self, x):
            return self.layer(x)

        def forward(self, x):
            return self.head(self.features(x))

        def head(self, x):
            raise NotImplementedError

    class Derived(Base):
        def __init__(self):
            super().__init__(3)

        def features(self, x):
            return super().features(x) + x

        def head(self, x):
            return x.tanh()

    def __init__(self):
        super().__init__()
        self.inner = self.Derived()

    def forward(self, x):
        return self.inner(x)


@program((X,), (X,))
class NestedFunctionsOfModules(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = linear()
        self.norm = lambda x: x / x.norm()
        self.steps = [self.one, self.two]

    def one(self, x):
        return self.layer(x)

    def two(self, x):
        return self.norm(x)

    def forward(self, x):
        for step in self.steps:
            x = step(x)
        return x


@program((X,), (X,))
def module_made_outside_called_in_a_function(x):
    return NET(x) + sum(p.sum() for p in NET.parameters())


NET = nn.Sequential(linear(), nn.ReLU(), linear())


@program((X,), (X,))
def walks_named_things(x):
    total = x.sum() * 0
    names = []
    for name, p in NET.named_parameters():
        total = total + p.square().sum()
        names.append(name)
    return total, names, [type(m).__name__ for m in NET.modules()], [n for n, _ in NET.named_children()]


@program((X,), (X,))
def state_dict_in_the_region(x):
    state = NET.state_dict()
    return x @ state["0.weight"].t(), sorted(state)


@program((X,), (X,))
def applies_modules_functionally(x):
    params = {k: v * 2 for k, v in NET.named_parameters()}
    return torch.func.functional_call(NET, params, (x,))


@program((X,), (X,), backward=True)
def functional_call_of_new_weights(x):
    w = {"0.weight": rand(3, 3, seed=4) * SCALE, "0.bias": rand(3, seed=5) * SCALE}
    return torch.func.functional_call(NET, w, (x,), strict=False)


SCALE = torch.tensor(1.5, requires_grad=True)


@program((X, 2), (X, 3), (X, 4))
class ConfigDriven(nn.Module):
    def __init__(self):
        super().__init__()
        self.config = {"act": "relu", "norm": True, "depth": 2, "residual": "pre"}
        self.layers = nn.ModuleList([linear() for _ in range(self.config["depth"])])

    def forward(self, x, scale):
        act = {"relu": F.relu, "gelu": F.gelu}[self.config["act"]]
        for layer in self.layers[:self.config["depth"]]:
            y = act(layer(x))
            if self.config.get("norm"):
                y = F.layer_norm(y, (3,))
            x = x + y if self.config["residual"] == "pre" else y
        return x * scale


@program((X,), lambda: setattr(SWITCH, "mode", "b"), (X,), lambda: setattr(SWITCH, "mode", "a"), (X,))
class ModeSwitched(nn.Module):
    mode = "a"

    def __init__(self):
        super().__init__()
        self.a, self.b = linear(), nn.Identity()
        global SWITCH
        SWITCH = self

    def forward(self, x):
        return getattr(self, self.mode)(x) + 1


@program((X,), lambda: FROZEN.requires_grad_(False), (X,), lambda: FROZEN.requires_grad_(True), (X,))
class FrozenAndNot(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = linear()
        global FROZEN
        FROZEN = self.layer

    def forward(self, x):
        y = self.layer(x)
        return y, y.requires_grad


@program((X,), lambda: GROWING.append(nn.Tanh()), (X,), lambda: GROWING.append(linear()), (X,))
class GrowingSequential(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(linear())
        global GROWING
        GROWING = self.body

    def forward(self, x):
        return self.body(x)


@program((X,), (X,))
class GetattrFallback(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = linear()

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.inner, name)

    def forward(self, x):
        return self.inner(x) @ self.weight


@program((X,), (X,))
class PropertyOverParameters(nn.Module):
    def __init__(self):
        super().__init__()
        self.raw = nn.Parameter(rand(3))

    @property
    def scale(self):
        return F.softplus(self.raw)

    @property
    def device(self):
        return next(self.parameters()).device

    def forward(self, x):
        return x.to(self.device) * self.scale


@program((X,), (X,))
class ReturnsModulesAndParameters(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = linear()

    def forward(self, x):
        return self.layer.weight, self.layer(x), self.layer.weight.data, self.layer.bias.detach()


@program((X,), (X,))
class CallsForwardDirectly(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = linear()

    def forward(self, x):
        return self.layer.forward(x) + nn.Linear.forward(self.layer, x) + self.layer.__call__(x)


@program(call(X, scale=2.0), call(X, shift=1.0, scale=3.0), call(x=X))
class KeywordForward(nn.Module):
    def forward(self, x, *, scale=1.0, shift=None, **rest):
        x = x * scale
        return x if shift is None else x + shift


@program((X, None), (X, rand(3)), (X, None))
class OptionalInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = linear()

    def forward(self, x, mask):
        x = self.proj(x)
        if mask is not None:
            x = x * mask
        return x


@program(({"x": X, "y": rand(4, 3, seed=2)},), ({"x": X, "y": rand(4, 3, seed=3)},))
class DictOfTensors(nn.Module):
    def __init__(self):
        super().__init__()
        self.towers = nn.ModuleDict({"x": linear(), "y": linear()})

    def forward(self, batch):
        out = {name: self.towers[name](value) for name, value in batch.items()}
        out["sum"] = sum(out.values())
        return out


@program((X,), (X,))
def weight_norm_by_parametrization(x):
    return PARAMETRIZED(x)


PARAMETRIZED = torch.nn.utils.parametrizations.weight_norm(linear())


@program((X,), (X,))
class ModulesInPlainLists(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = [linear(), nn.ReLU(), (linear(), {"k": nn.Tanh()})]

    def forward(self, x):
        for layer in self.hidden[:2]:
            x = layer(x)
        last, named = self.hidden[2]
        return named["k"](last(x))


@program((X,), (X,), (X,), watch=lambda: (EMA.shadow, EMA.updates))
class ExponentialAverage(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = linear()
        self.shadow = {k: v.detach().clone() for k, v in self.layer.named_parameters()}
        self.updates = 0
        global EMA
        EMA = self

    def forward(self, x):
        y = self.layer(x)
        with torch.no_grad():
            for name, p in self.layer.named_parameters():
                self.shadow[name].lerp_(p * 2, 0.1)
        self.updates += 1
        return y


@program((X,), (X,), watch=lambda: (SWAPPED.a.weight, SWAPPED.order))
class SwapsWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = linear(), linear()
        self.order = "ab"
        global SWAPPED
        SWAPPED = self

    def forward(self, x):
        y = self.a(x) * 2 + self.b(x)
        self.order = self.order[::-1]
        return y


@program((X,), (X,))
class CopiesItself(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = linear()

    def extra_repr(self):
        return "of the corpus"

    def forward(self, x):
        return self.layer(x), self.layer.in_features, isinstance(self.layer, nn.Linear), type(self) is CopiesItself, \
            callable(self.layer), hasattr(self, "nothing"), self.training


@program((torch.tensor([1, 2, 0]),), (torch.tensor([3, 3, 1]),), backward=True)
class EmbeddingBagOfHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4, padding_idx=0)
        self.heads = nn.ModuleList([linear(4, 1) for _ in range(2)])

    def forward(self, tokens):
        e = self.embed(tokens)
        return torch.cat([head(e) for head in self.heads], -1)


@program((rand(5, 2, 3),), (rand(5, 2, 3, seed=2),))
class RecurrentLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(3, 4)
        self.cell = nn.LSTMCell(4, 4)

    def forward(self, x):
        y, h = self.rnn(x)
        state = (torch.zeros(2, 4), torch.zeros(2, 4))
        for t in range(y.shape[0]):
            state = self.cell(y[t], state)
        return y, h, state


@program((X,), (X,))
class LayerChosenByType(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(linear(), nn.ReLU(), nn.LayerNorm(3), nn.Dropout(0.0))

    def forward(self, x):
        for layer in self.body:
            if isinstance(layer, (nn.ReLU, nn.GELU)):
                x = layer(x) * 2
            elif isinstance(layer, nn.LayerNorm):
                x = F.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)
            elif type(layer) is nn.Linear:
                x = x @ layer.weight.t() + layer.bias
            else:
                x = layer(x)
        return x


@program((X,), (X,))
def makes_a_module_inside(x):
    layer = nn.ReLU()
    return layer(x)


@program((X, True), (X, False), (X, True))
def picks_one_of_two_models(x, which):
    return (NET if which else OTHER)(x)


OTHER = nn.Sequential(linear(), nn.Sigmoid())

"""More modules: properties, buffers, caches, hooks that come and go, surgery between calls."""

import collections
import functools
import math

from ..given import F, nn, program, rand, torch

X = rand(3, 4)
Y = rand(3, 4, seed=1)


def lin(i, o, seed=0):
    m = nn.Linear(i, o)
    with torch.no_grad():
        m.weight.copy_(rand(o, i, seed=seed))
        m.bias.copy_(rand(o, seed=seed))
    return m


@program((X,), (Y,), backward=True)
class BasicModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = lin(4, 4)
        self.scale = rand(1, 4)

    def forward(self, x):
        return F.relu(self.l(x)) * self.scale


class Sub(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.k = k
        self.l = lin(4, 4, k)

    def forward(self, x, *, extra=0):
        return self.l(x) * self.k + extra

    @property
    def size(self):
        return self.l.in_features

    @staticmethod
    def helper(x):
        return x + 1

    @classmethod
    def build(cls, k):
        return cls(k)


@program((X,), (Y,))
class PropertiesAndStatics(nn.Module):
    def __init__(self):
        super().__init__()
        self.s = Sub.build(2)

    def forward(self, x):
        return self.s(x, extra=self.s.size) + Sub.helper(x) + self.s.helper(x)


@program((X,), (Y,))
class EnumeratesLists(nn.Module):
    def __init__(self):
        super().__init__()
        self.ls = nn.ModuleList([Sub(i) for i in range(3)])
        self.d = nn.ModuleDict({"a": Sub(4), "b": Sub(5)})

    def forward(self, x):
        for i, l in enumerate(self.ls):
            x = x + l(x) * i
        for k, m in self.d.items():
            x = m(x) if k == "a" else x
        for m in reversed(self.ls):
            x = m(x)
        x = self.ls[1:][0](x) + self.ls[-1](x)
        return x, len(self.ls), "a" in self.d, list(self.d.keys())


@program((X,), (X,), (X,), watch=lambda: (CB.n, CB.calls))
def buffer_counter(x):
    return CB(x)


class _CB(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("n", torch.zeros(()))
        self.calls = 0

    def forward(self, x):
        self.n += 1
        self.calls += 1
        return x * self.n


CB = _CB()


class Cache(nn.Module):
    def __init__(self):
        super().__init__()
        self.cache = None
        self.l = lin(4, 4)

    def forward(self, x):
        if self.cache is None:
            self.cache = self.l(x).detach()
        else:
            self.cache = torch.cat([self.cache, self.l(x).detach()], 0)
        return self.cache.sum(0)


CA = Cache()


@program((X,), (X,), (X,), (X,), watch=lambda: CA.cache)
def grows_cache_on_module(x):
    return CA(x)


TR = nn.Sequential(lin(4, 4), nn.Dropout(0.0), nn.BatchNorm1d(4))


@program((X,), lambda: TR.eval(), (X,), lambda: TR.train(), (X,), watch=lambda: [b for b in TR.buffers()])
def train_eval_flip(x):
    return TR(x), TR.training


SH = lin(4, 4)


@program((X,), (X,), backward=True, watch=lambda: SH.weight.grad)
def shared_parameters(x):
    return F.linear(SH(x), SH.weight).relu()


@program((X,))
class TiedWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        with torch.no_grad():
            self.emb.weight.copy_(rand(7, 4))
        self.head.weight = self.emb.weight

    def forward(self, x):
        return self.head(x + self.emb(torch.tensor([1, 2, 3])))


@program((X,))
class ModuleIterations(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = Sub(1)
        self.b = nn.Sequential(Sub(2), nn.ReLU())

    def forward(self, x):
        n = 0
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                x = x + p.sum()
            n += p.numel()
        for m in self.modules():
            if isinstance(m, nn.Linear):
                x = m(x)
        for c in self.children():
            x = x * 1.5
        kids = dict(self.named_children())
        return x, n, sorted(kids), [type(m).__name__ for _, m in self.named_modules()], len(list(self.buffers()))


@program((X,))
class SequentialIndexing(nn.Module):
    def __init__(self):
        super().__init__()
        self.s = nn.Sequential(collections.OrderedDict([("one", lin(4, 4)), ("act", nn.Tanh()), ("two", lin(4, 4, 2))]))

    def forward(self, x):
        x = self.s[0](x)
        x = self.s.one(x)
        x = self.s[-1](x)
        x = self.s[:2](x)
        for l in self.s:
            x = l(x)
        return x


@program((X, "a"), (X, "b"), (X, "a"))
class ModuleDictByKey(nn.Module):
    def __init__(self):
        super().__init__()
        self.d = nn.ModuleDict({"a": lin(4, 2), "b": lin(4, 3)})

    def forward(self, x, key):
        return self.d[key](x)


@program((X,), (Y,))
class ParameterListAndDict(nn.Module):
    def __init__(self):
        super().__init__()
        self.ps = nn.ParameterList([nn.Parameter(rand(4, seed=i)) for i in range(3)])
        self.pd = nn.ParameterDict({"u": nn.Parameter(rand(4, seed=9))})

    def forward(self, x):
        for i, p in enumerate(self.ps):
            x = x * self.ps[i] + p
        return x + self.pd["u"] + self.pd.u


@program((X,))
class UserGetattr(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = lin(4, 4)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "magic":
                return 3
            return getattr(super().__getattr__("inner"), name)

    def forward(self, x):
        return self.inner(x) * self.magic + self.weight.sum() + self.in_features


@program((X,), (X,))
class CallMethodOfModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = lin(4, 4)

    def encode(self, x, n=1):
        for _ in range(n):
            x = self.l(x)
        return x

    def forward(self, x):
        return self.encode(x, n=2) + self.__class__.encode(self, x) + type(self).__name__.count("M")


@program((X,))
class LambdaAttributes(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = lambda t: t.relu() + 1
        self.fns = [torch.sin, F.gelu, nn.Tanh()]
        self.part = functools.partial(F.leaky_relu, negative_slope=0.3)

    def forward(self, x):
        for f in self.fns:
            x = f(x)
        return self.part(self.act(x))


OUT = []
HK = nn.Sequential(lin(4, 4), nn.ReLU(), lin(4, 2))


def _hook(m, i, o):
    OUT.append(o.detach().sum())


H = []


@program((X,), lambda: H.append(HK[1].register_forward_hook(_hook)), (X,), lambda: H.pop().remove(), (X,), watch=lambda: len(OUT))
def hook_added_and_removed_between_calls(x):
    return HK(x)


@program((X,), backward=True)
class HookKwargs(nn.Module):
    def __init__(self):
        super().__init__()
        self.s = Sub(3)
        self.s.register_forward_pre_hook(lambda m, a, k: (a, {"extra": k.get("extra", 0) + 5}), with_kwargs=True)
        self.s.register_forward_hook(lambda m, a, k, o: o + k["extra"], with_kwargs=True)

    def forward(self, x):
        return self.s(x, extra=2)


@program((X,))
class HookInForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = lin(4, 4)

    def forward(self, x):
        seen = []
        h = self.l.register_forward_hook(lambda m, i, o: seen.append(o.sum()))
        y = self.l(x)
        h.remove()
        return y, len(seen)


@program((X,), (X,))
class StateOnSelf(nn.Module):
    def __init__(self):
        super().__init__()
        self.history = []
        self.info = {}
        self.l = lin(4, 4)

    def forward(self, x):
        y = self.l(x)
        self.history.append(y.shape)
        self.info["last"] = y
        self.last_mean = y.mean()
        setattr(self, "dyn_" + str(len(self.history)), y.sum())
        return y * len(self.history)


@program((X,))
class UninitModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = lin(4, 4)

    def forward(self, x):
        if not hasattr(self, "made"):
            self.made = True
            self.register_buffer("scale", torch.full((4,), 2.0))
        return self.l(x) * self.scale


@program((X,), (Y,))
class ReassignParameterData(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = lin(4, 4)

    def forward(self, x):
        with torch.no_grad():
            self.l.weight.mul_(0.5)
            self.l.bias.copy_(x[0])
        return self.l(x)


class Base(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.d = d
        self.proj = lin(4, d)

    def forward(self, x):
        return self.post(self.proj(x))

    def post(self, x):
        raise NotImplementedError


class D1(Base):
    def post(self, x):
        return x.relu()


class D2(D1):
    def post(self, x):
        return super().post(x) + super().forward.__name__.__len__()


@program((X,))
class AbstractInherit(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = D1(4)
        self.b = D2(2)

    def forward(self, x):
        return self.b(self.a(x))


@program((X,))
class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.r = nn.GRUCell(4, 5)
        with torch.no_grad():
            for i, p in enumerate(self.r.parameters()):
                p.copy_(rand(*p.shape, seed=i))

    def forward(self, x):
        h = x.new_zeros(1, 5)
        out = []
        for t in x.split(1, 0):
            h = self.r(t, h)
            out.append(h)
        return torch.cat(out), h


@program((rand(2, 5, 8),), (rand(2, 7, 8),), (rand(2, 9, 8),), backward=True)
class AttentionDyn(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = lin(8, 24)
        self.o = lin(8, 8)
        self.h = 2
        self.register_buffer("mask", torch.tril(torch.ones(16, 16)).view(1, 1, 16, 16))

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = self.qkv(x).split(C, dim=2)
        q = q.view(B, T, self.h, C // self.h).transpose(1, 2)
        k = k.view(B, T, self.h, C // self.h).transpose(1, 2)
        v = v.view(B, T, self.h, C // self.h).transpose(1, 2)
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        att = att.masked_fill(self.mask[:, :, :T, :T] == 0, float("-inf"))
        y = F.softmax(att, -1) @ v
        return self.o(y.transpose(1, 2).contiguous().view(B, T, C))


@program((rand(2, 3, 8, 8),), (rand(2, 3, 12, 12),), (rand(2, 3, 16, 16),))
class InterpolateDyn(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3, padding=1)
        with torch.no_grad():
            self.c.weight.copy_(rand(4, 3, 3, 3))
            self.c.bias.copy_(rand(4))

    def forward(self, x):
        y = F.max_pool2d(self.c(x).relu(), 2)
        y = F.interpolate(y, size=x.shape[-2:], mode="nearest")
        z = F.interpolate(y, scale_factor=0.5, mode="bilinear", align_corners=False)
        return y.mean((2, 3)), F.adaptive_avg_pool2d(z, 1)


MODS = {"k": [lin(4, 4), lin(4, 4, 1)]}


@program((X, 0), (X, 1), (X, 0))
def modules_in_containers(x, i):
    return MODS["k"][i](x)


@program((X,))
def module_built_and_run_inside(x):
    m = nn.LayerNorm(4, elementwise_affine=False)
    r = nn.Sequential(nn.ReLU(), nn.Flatten(0))
    return r(m(x)), nn.Softmax(dim=-1)(x)


@program((X, nn.ReLU()), (X, nn.Tanh()), (X, nn.ReLU()))
def module_argument(x, act):
    return act(x * 2)


@program((X,))
class ZeroGradAndTrainInside(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = lin(4, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        was = self.training
        self.eval()
        y = self.drop(self.l(x))
        self.train(was)
        return y


@program((X,))
def state_dict_and_load_inside(x):
    m = SH
    sd = m.state_dict()
    return F.linear(x, sd["weight"]) + sd["bias"], list(sd)


@program((X,))
class RequiresGradInside(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = lin(4, 4)

    def forward(self, x):
        for p in self.l.parameters():
            p.requires_grad_(False)
        y = self.l(x)
        self.l.requires_grad_(True)
        return y, y.requires_grad


class Wrapper(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)


@program((X,), (Y,))
class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = Wrapper(Wrapper(Sub(2)))

    def forward(self, x):
        return self.w(x, extra=x.mean())


@program((X,))
class ModuleEquality(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.ReLU()
        self.b = self.a
        self.c = nn.ReLU()

    def forward(self, x):
        t = {self.a: 1, self.c: 2}
        return x * t[self.b] + (self.a is self.b) + (self.a == self.c), self.a in [self.c]


@program((X,), (rand(5, 4),), (rand(7, 4),))
class DropPathAndEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.pos = nn.Parameter(rand(1, 10, 4))

    def forward(self, x):
        n = x.shape[0]
        return (x.unsqueeze(0) + self.pos[:, :n]).mean(1)


SWAP = nn.Sequential(lin(4, 4), nn.ReLU())


@program(
    (X,),
    lambda: SWAP.__setitem__(1, nn.Tanh()),
    (X,),
    lambda: SWAP.append(nn.Sigmoid()),
    (X,),
    lambda: setattr(SWAP[0], "weight", nn.Parameter(rand(4, 4, seed=5))),
    (X,),
)
def module_surgery_between_calls(x):
    return SWAP(x)


@program((X,))
class OneHot(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x):
        idx = x.argmax(1)
        return F.one_hot(idx, num_classes=4).float() @ x.T, F.one_hot(idx % 4, 4)


@program((X,))
def one_hot_unknown_classes(x):
    return F.one_hot(x.argmax(1)) + 1

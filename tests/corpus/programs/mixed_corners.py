"""Programs of several topics: control flow operators, training steps, sizes, breaks and classes together."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import math
import operator

from ..given import F, call, ints, nn, program, rand, torch

X = rand(3, 4)
Y = rand(3, 4, seed=1)


def lin(i, o, seed=0):
    m = nn.Linear(i, o)
    with torch.no_grad():
        m.weight.copy_(rand(o, i, seed=seed))
        m.bias.copy_(rand(o, seed=seed))
    return m


# ---- control flow operators
def _cond():
    return torch.cond


@program((X,), (-X.abs(),), (X.abs(),))
def cond_simple(x):
    return torch.cond(x.sum() > 0, lambda t: t.sin(), lambda t: t.cos(), (x,))


@program((rand(3, grad=True),), (rand(3, seed=4, grad=True),), backward=True)
def cond_with_closure_grad(x):
    w = x * 2

    def a(t):
        return t * w

    def b(t):
        return t + w.sum()

    return torch.cond(x.mean() > 0, a, b, (x,))


@program((X, 3), (X, 5))
def cond_on_python_bool(x, n):
    return torch.cond(x.shape[0] > 2, lambda t: t + 1, lambda t: t - 1, (x,)) * n


@program((X,), (Y,))
def nested_cond(x):
    def inner(t):
        return torch.cond(t.max() > 0.5, lambda u: u * 2, lambda u: u * 3, (t,))

    return torch.cond(x.sum() > 0, inner, lambda t: t - 1, (x,))


@program((X,), (Y,))
def while_loop_counter(x):
    from torch._higher_order_ops.while_loop import while_loop

    i, y = while_loop(lambda i, y: i < 4, lambda i, y: (i + 1, y * 1.5), (torch.tensor(0), x))
    return y, i


@program((X,), (Y,))
def scan_cumulative(x):
    from torch._higher_order_ops.scan import scan

    return scan(lambda c, t: (c + t, c * t), torch.zeros(4), x)


@program((X,), (Y,))
def map_rows(x):
    from torch._higher_order_ops.map import map as hmap

    return hmap(lambda r, w: r * w.sum(), x, x)


# ---- module things
class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(lin(4, 4, k) for k in range(6))
        self.norm = nn.LayerNorm(4)
        self.flags = {"skip": 2, "res": True}

    def forward(self, x, *, collect=False):
        outs = []
        for k, b in enumerate(self.blocks):
            if k == self.flags["skip"]:
                continue
            y = F.gelu(b(x))
            x = x + y if self.flags["res"] else y
            if collect:
                outs.append(x)
        x = self.norm(x)
        return (x, tuple(outs)) if collect else x


TOWER = Tower()


@program((X,), call(X, collect=True), (Y,), lambda: TOWER.flags.update(res=False), (X,))
def tower_with_flags(x, collect=False):
    return TOWER(x, collect=collect)


class EMAUpdate(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = lin(4, 2)
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("count", torch.tensor(0), persistent=False)

    def forward(self, x):
        y = self.l(x)
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(y.mean(0), 0.1)
                self.count += 1
        return y - self.mean


EM = EMAUpdate()


@program((X,), (Y,), lambda: EM.eval(), (X,), watch=lambda: (EM.mean, EM.count))
def ema_buffers(x):
    return EM(x)


class WeightNormed(nn.Module):
    def __init__(self):
        super().__init__()
        self.v = nn.Parameter(rand(2, 4))
        self.g = nn.Parameter(rand(2, 1).abs())

    @property
    def weight(self):
        return self.g * self.v / self.v.norm(dim=1, keepdim=True)

    def forward(self, x):
        return F.linear(x, self.weight)


@program((rand(3, 4, grad=True),), backward=True)
class WeightNormProperty(WeightNormed):
    pass


class Rec(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.l = lin(4, 4, depth)
        self.child = Rec(depth - 1) if depth else None

    def forward(self, x):
        x = self.l(x).tanh()
        return self.child(x) if self.child is not None else x


@program((X,), (rand(5, 4),), (rand(6, 4),))
class RecursiveModule(Rec):
    def __init__(self):
        super().__init__(3)


class Multi(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleDict({"a": lin(4, 2), "b": lin(4, 3)})
        self.out = collections.namedtuple("Out", "a b")

    def forward(self, x):
        return self.out(**{k: h(x) for k, h in self.heads.items()})


@program((X,), (Y,))
class NamedtupleOutputs(Multi):
    pass


@dataclasses.dataclass
class Cfg:
    dim: int = 4
    act: str = "relu"
    dropout: float = 0.0
    layers: tuple = (4, 8, 2)


class FromCfg(nn.Module):
    def __init__(self, cfg=Cfg()):
        super().__init__()
        self.cfg = cfg
        s = cfg.layers
        self.net = nn.Sequential(*[lin(a, b) for a, b in zip(s, s[1:])])

    def forward(self, x):
        for i, l in enumerate(self.net):
            x = l(x)
            if i < len(self.net) - 1:
                x = getattr(F, self.cfg.act)(x)
        return F.dropout(x, self.cfg.dropout, self.training)


FC = FromCfg()


@program((X,), lambda: setattr(FC.cfg, "act", "tanh"), (X,), lambda: setattr(FC, "cfg", Cfg(act="sigmoid")), (X,))
def config_changes(x):
    return FC(x)


class SaveActs:
    def __init__(self, m):
        self.acts = {}
        self.hs = [l.register_forward_hook(self.hook(n)) for n, l in m.named_modules() if isinstance(l, nn.Linear)]

    def hook(self, name):
        def fn(m, i, o):
            self.acts[name] = o.detach()

        return fn


HM = nn.Sequential(lin(4, 4), nn.ReLU(), lin(4, 2))
SA = SaveActs(HM)


@program((X,), (Y,), lambda: [h.remove() for h in SA.hs], (X,), watch=lambda: SA.acts)
def activation_recorder(x):
    return HM(x)


# ---- tensors
@program((X.clone(), Y.clone()), (Y.clone(), X.clone()))
def swap_contents(a, b):
    t = a.clone()
    a.copy_(b)
    b.copy_(t)
    return a - b


@program((rand(2, 3, 4),))
def dims_by_name_and_neg(x):
    return (
        x.transpose(-1, -2),
        x.permute(2, 0, 1).contiguous(),
        x.movedim(0, -1),
        x.flatten(start_dim=1),
        x.mean((-1, -2)),
        x.squeeze(),
        x[..., 0],
        x.swapaxes(0, 1),
        x.rot90(1, (1, 2)),
        x.T.shape if x.dim() == 2 else x.mT,
    )


@program((X.clone(),), (Y.clone(),))
def slice_assign_loop(x):
    out = torch.zeros(3, 8)
    for i in range(4):
        out[:, 2 * i] = x[:, i]
        out[:, 2 * i + 1] += i
    out[out < 0] = 0
    out[1:, ::2] *= 2
    x[:, 0], x[:, 1] = x[:, 1].clone(), x[:, 0].clone()
    return out


@program((X,), (Y,))
def inplace_on_result_of_view_chain(x):
    y = x.clone()
    a = y.view(2, 6)
    b = a[0]
    c = b.view(2, 3)[1]
    c.add_(10)
    with torch.no_grad():
        a.t()[0].mul_(2)
    return y, b, c


@program((rand(4, 3, grad=True),), backward=True)
def masks_and_grad(x):
    m = x > 0
    y = torch.where(m, x, 0.1 * x)
    z = x.masked_fill(~m, 0).cumsum(0)
    return (y * z).sum(1) + x[0].detach()


@program((rand(4, grad=True), rand(4, seed=3, grad=True)), backward=True)
def partial_grads(a, b):
    with torch.no_grad():
        c = a * b
    return a * c, (b * 2).detach(), b.sum()


class Clamp01(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mask = (x > 0) & (x < 1)
        return x.clamp(0, 1)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.mask


class Straight(nn.Module):
    def forward(self, x):
        return Clamp01.apply(x * 2) + Clamp01.apply(x)


@program((rand(4, grad=True),), (rand(4, seed=2, grad=True),), backward=True)
class FunctionInModule(Straight):
    pass


@program((X,), (Y,))
def per_sample_norms(x):
    w = rand(4)

    def loss(w, r):
        return ((r * w).sum() - 1) ** 2

    return torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(w, x).norm(dim=1)


MW = nn.Parameter(rand(4))
MB = nn.Parameter(rand(1))
OPTS = torch.optim.Adam([MW, MB], lr=0.05)
SCH = torch.optim.lr_scheduler.StepLR(OPTS, 2, 0.5)


@program((X,), (Y,), lambda: SCH.step(), (X,), lambda: SCH.step(), (Y,), watch=lambda: (MW, MB))
def adam_with_scheduler(x):
    OPTS.zero_grad()
    loss = ((x @ MW + MB) ** 2).mean()
    loss.backward()
    OPTS.step()
    return loss.detach()


GA = lin(4, 1)
GOPT = torch.optim.SGD(GA.parameters(), lr=0.1)


@program((X, 0), (Y, 1), (X, 2), (Y, 3), watch=lambda: list(GA.parameters()))
def gradient_accumulation(x, step):
    loss = GA(x).pow(2).mean() / 2
    loss.backward()
    if step % 2 == 1:
        GOPT.step()
        GOPT.zero_grad()
    return loss.detach()


# ---- dynamic
@program(*[(rand(n, 4), rand(n, 4, seed=1)) for n in (3, 5, 6)])
def pairwise_distance(a, b):
    d = ((a[:, None] - b[None]) ** 2).sum(-1)
    return d.argmin(1), d.min(1).values, d + torch.eye(a.size(0)), d.diagonal()


@program(*[(ints(2, n, high=7),) for n in (3, 5, 6)])
def padding_mask_dyn(i):
    mask = i != 0
    n = mask.sum(1)
    causal = torch.ones(i.size(1), i.size(1)).tril().bool()
    full = mask[:, None] & causal
    return full.float().sum(), n, F.pad(i, (1, 0))[:, :-1], torch.full_like(i, 2), i.new_zeros(i.shape[0], 1)


@program(*[(rand(2, n, 6),) for n in (3, 5, 6)])
def multihead_split(x):
    b, n, d = x.shape
    q = x.view(b, n, 2, d // 2).permute(0, 2, 1, 3)
    a = (q @ q.transpose(-1, -2) / math.sqrt(d // 2)).softmax(-1)
    return (a @ q).transpose(1, 2).reshape(b, n, d)


@program((X, 0.1), (X, 0.2), (X, 0.3), (X, 0.7))
def float_compare_and_compute(x, p):
    q = 1 - p
    k = int(p * 10)
    y = x * q + (p if p < 0.5 else 2 * p)
    return y / (1 - p**2), round(q, 3), min(p, 0.5), max(0.0, p - 0.2), abs(-p), k


@program((X, 2, 3), (X, 3, 4), (X, 4, 5))
def ints_in_arithmetic(x, a, b):
    return x * (a + b) // 2, a * b, a - b, b**2, a / b, divmod(b, a), -a, a % b, min(a, b), f"{a}", (a, b), a < b


@program(*[(rand(n, 3), n // 2) for n in (4, 6, 10)])
def size_and_int_related(x, k):
    return x[:k] * x[k:], torch.cat([x[k:], x[:k]])


@program(*[([rand(n, 3), rand(m, 3)],) for n, m in ((2, 3), (4, 5), (6, 3))])
def ragged_cat(xs):
    y = torch.cat(xs)
    return y.sum(0), torch.split(y, [x.size(0) for x in xs])[1] * 2, sum(x.size(0) for x in xs)


@program((rand(8, 3), 0), (rand(8, 3), 2), (rand(8, 3), 4), (rand(8, 3), 6))
def window_offset(x, start):
    return x[start : start + 2] * 2


@program((rand(8, 3), -1), (rand(8, 3), -2), (rand(8, 3), -3))
def negative_ints(x, k):
    return x[k:] + k, x.roll(k, 0)


CTR = {"n": 0}


@program((X,), (X,), (X,), (X,), watch=lambda: CTR)
def counter_in_dict(x):
    CTR["n"] += 1
    return x * CTR["n"]


class Sched:
    def __init__(self):
        self.t = 0
        self.base = 0.1

    def lr(self):
        self.t += 1
        return self.base * 0.5 * (1 + math.cos(math.pi * self.t / 10))


SC = Sched()


@program((X,), (X,), (X,), (X,), watch=lambda: SC.t)
def cosine_schedule(x):
    return x - SC.lr() * x.sign()


# ---- breaks
class Logger:
    def __init__(self):
        self.lines = []

    def log(self, msg, *args):
        self.lines.append(msg % args if args else msg)


LG = Logger()


@program((X,), (Y,), watch=lambda: LG.lines)
def python_logger_object(x):
    LG.log("shape %s", tuple(x.shape))
    y = x * 2
    LG.log("done")
    return y


@program((X,), (Y,))
def early_exit_on_data(x):
    for k in range(4):
        x = x * 1.5
        if x.abs().max() > 1.5:
            break
    return x, k


@program((X,), (Y,))
def item_into_shape(x):
    n = int((x > 0).sum().item())
    return torch.zeros(n) + x.sum(), n


@program((X,), (Y,))
def accumulate_items(x):
    tot = 0.0
    for r in x:
        tot += r.sum().item()
    return x * tot


@program((X,), (Y,))
def break_inside_nested_function_with_cells(x):
    seen = []

    def visit(t, k):
        seen.append(float(t.sum()))
        return t * k

    y = visit(x, 2)
    z = visit(y, 3)
    return z, len(seen)


class Finder(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = lin(4, 4)

    def forward(self, x):
        y = self.l(x)
        best = y.sum(1).argmax().item()
        return y[best], best


@program((X,), (Y,))
class ArgmaxItem(Finder):
    pass


@program((X,), (Y,))
def try_finally_with_break(x):
    out = []
    try:
        y = x * 2
        out.append(y.sum().item())
        y = y + 1
    finally:
        out.append("end")
    return y, len(out)


@program((X,), (Y,))
def with_and_item(x):
    with torch.no_grad():
        s = x.std().item()
    y = x / (s + 1)
    return y.relu()


@program((X,), (Y,))
def str_join_of_items(x):
    y = x + 1
    return y, ",".join(f"{v:.1f}" for v in y[0].tolist())


@program((X,), (Y,))
def sorted_by_norm(x):
    rows = sorted(x.unbind(0), key=lambda r: float(r.norm()))
    return torch.stack(rows) * 2


@program((X,), (Y,))
def isinstance_chain_and_print(x):
    def show(v):
        if isinstance(v, torch.Tensor):
            return v * 2
        if isinstance(v, (list, tuple)):
            return type(v)(show(u) for u in v)
        if isinstance(v, dict):
            return {k: show(u) for k, u in v.items()}
        return v

    out = show({"a": [x, (x + 1, 3)], "b": "s"})
    print(sorted(out))
    return out


# ---- python
@program((X,), (Y,))
def property_setter_and_slots(x):
    class P:
        __slots__ = ("_v", "log")

        def __init__(self, v):
            self.log = []
            self.v = v

        @property
        def v(self):
            return self._v

        @v.setter
        def v(self, n):
            self.log.append(1)
            self._v = n * 2

    p = P(x)
    p.v = p.v + 1
    return p.v, len(p.log)


def memo(fn):
    cache = {}

    @functools.wraps(fn)
    def inner(n):
        if n not in cache:
            cache[n] = fn(n)
        return cache[n]

    return inner


@memo
def tri(n):
    return n * (n + 1) // 2


@program((X, 3), (X, 4), (X, 3))
def memo_decorator(x, n):
    return x * tri(n)


@program((X,), (Y,))
def partition_and_groupby(x):
    rows = [(i % 2, x[i]) for i in range(3)]
    g = collections.defaultdict(list)
    for k, r in rows:
        g[k].append(r)
    return {k: torch.stack(v).sum(0) for k, v in sorted(g.items())}, [
        list(map(operator.itemgetter(0), v)) for _, v in itertools.groupby(rows, key=lambda p: p[0])
    ]


@program((X,), (Y,))
def generator_chain_sum(x):
    evens = (i for i in itertools.count() if i % 2 == 0)
    return sum(x * k for k in itertools.islice(evens, 3)), next(evens)


@program((X,), (Y,))
def unpack_star_in_call_and_kw_defaults(x):
    def f(a, b=1, *r, k, z=2, **kw):
        return a * b + sum(r) * k + z + len(kw)

    args, kws = [x, 2, 3], {"k": 4, "q": 0}
    return f(*args, **kws), f(x, k=1), f(x, *(5,), k=2, **{"z": 0})


@program((X,), (Y,))
def nonlocal_chain(x):
    a = 0

    def f():
        nonlocal a
        a += 1

        def g():
            nonlocal a
            a *= 3
            return a

        return g() + a

    r = f() + f()
    return x * r, a


@program((X,), (Y,))
def class_attribute_mutation(x):
    class K:
        hist = []

    K.hist.append(1)
    K.z = 5
    return x * (len(K.hist) + K.z)


@program((X, "mean"), (X, "sum"), (X, "none"), (X, "bad"))
def reduction_dispatch(x, how):
    table = {"mean": torch.mean, "sum": torch.sum, "none": lambda t: t}
    try:
        return table[how](x * 2)
    except KeyError as e:
        raise ValueError(f"unknown {how}") from e


@program((X,), (Y,))
def context_stack_of_modes(x):
    w = rand(4).requires_grad_()
    with contextlib.ExitStack() as s:
        s.enter_context(torch.no_grad())
        a = w * x
    b = w * x
    return a.requires_grad, b.requires_grad, a


@program((X,), (Y,))
def zip_longest_dict_and_sets(x):
    names = ("a", "b", "c")
    d = dict(zip(names, x))
    keep = {"a", "c"}
    return {k: v for k, v in d.items() if k in keep}, len(keep | {"z"}), sorted(keep ^ {"a"}), [*d][-1]


@program((X,), (Y,))
def bytes_and_slices_and_ellipsis(x):
    idx = (Ellipsis, slice(None, None, 2))
    return x[idx], bytes([1, 2])[0], x[tuple([0, slice(1, 3)])], [1, 2, 3][slice(1, None)]


@program((X,), (Y,))
def chained_method_builder(x):
    class B:
        def __init__(self):
            self.ops = []

        def add(self, f, *a):
            self.ops.append((f, a))
            return self

        def run(self, t):
            for f, a in self.ops:
                t = f(t, *a)
            return t

    return B().add(torch.add, 1).add(torch.mul, 2).add(lambda t: t.relu()).run(x)


@program((X,), (Y,))
def except_star_free_groups(x):
    errs = []
    for f in (lambda: 1 / 0, lambda: [][0], lambda: x.sum()):
        try:
            f()
        except ArithmeticError:
            errs.append("a")
        except LookupError:
            errs.append("l")
        else:
            errs.append("ok")
    return x * len(errs), errs

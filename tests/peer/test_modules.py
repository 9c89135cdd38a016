"""What modules can do beside computing, beside PyTorch's: hooks, registering, saving, loading, copying, containers, lazy layers.

Each scenario is run with both libraries; what it returns must be the same.
"""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections import OrderedDict

import numpy as np
import pytest

import flambeau as fl

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
SCENARIOS = []


def scenario(fn):
    SCENARIOS.append(fn)
    return fn


def plain(x):
    """A result as something that can be compared."""
    if isinstance(x, (torch.Tensor, fl.Tensor)):
        return [tuple(x.shape), str(x.dtype), x.requires_grad, np.asarray(x.detach()).round(4).tolist()]
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [plain(v) for v in x]
    return x


def raised(fn, words=True):
    """The type of the exception of ``fn``, and its words."""
    try:
        fn()
    except Exception as e:
        text = str(e).replace("flambeau", "torch")
        return [type(e).__name__, text] if words else type(e).__name__
    return "nothing"


def warned(fn):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fn()
    return [w.category.__name__ for w in caught]


def net(t):
    class Net(t.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = t.nn.Linear(3, 4)
            self.norm = t.nn.BatchNorm1d(4)
            self.last = t.nn.Sequential(t.nn.ReLU(), t.nn.Linear(4, 2, bias=False))
            self.register_buffer("scale", t.ones(2))
            self.register_buffer("hidden", t.zeros(1), persistent=False)
            self.register_parameter("nothing", None)

        def forward(self, x, factor=1.0):
            return self.last(self.norm(self.first(x))) * self.scale * factor

    return Net()


def data(t, *shape):
    return t.tensor(np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape))


# ---- hooks ----


@scenario
def forward_hooks(t):
    model, seen = net(t), []
    model.register_forward_pre_hook(lambda m, a: seen.append(("pre", len(a))))
    model.register_forward_pre_hook(lambda m, a, k: (a, {**k, "factor": 2.0}), with_kwargs=True)
    model.register_forward_pre_hook(lambda m, a: seen.append("first"), prepend=True)
    model.first.register_forward_pre_hook(lambda m, a: a[0] * 2)
    model.register_forward_hook(lambda m, a, k, out: seen.append(sorted(k)), with_kwargs=True)
    handle = model.register_forward_hook(lambda m, a, out: out + 1)
    model.register_forward_hook(lambda m, a, out: seen.append("early"), prepend=True)
    out = model(data(t, 4, 3), factor=3.0)
    handle.remove()
    return [out, seen, model(data(t, 4, 3)), len(model._forward_hooks), len(model._forward_pre_hooks)]


@scenario
def hooks_called_always(t):
    model, seen = net(t), []
    model.register_forward_hook(lambda m, a, out: seen.append(out), always_call=True)
    model.register_forward_hook(lambda m, a, out: seen.append("not"))
    return [raised(lambda: model("no"), words=False), seen]


@scenario
def bad_hooks(t):
    model = net(t)
    model.register_forward_pre_hook(lambda m, a, k: 3, with_kwargs=True)
    return raised(lambda: model(data(t, 4, 3)), words=False)


@scenario
def backward_hooks(t):
    model, seen = net(t), []
    model.register_full_backward_hook(lambda m, gi, go: seen.append(("model", gi, go)))
    model.last[1].register_full_backward_hook(lambda m, gi, go: (gi[0] * 2,))
    model.first.register_full_backward_pre_hook(lambda m, go: (go[0] * 3,))
    model.first.register_full_backward_hook(lambda m, gi, go: seen.append(("first", gi, go)), prepend=True)
    x = data(t, 4, 3).requires_grad_()
    model(x).sum().backward()
    found = [x.grad, [p.grad for p in model.parameters()], seen]
    model2 = net(t)
    model2.first.register_full_backward_hook(lambda m, gi, go: (gi[0], gi[0]))
    return [*found, raised(lambda: model2(data(t, 4, 3).requires_grad_()).sum().backward())]


@scenario
def backward_hooks_without_gradient_of_inputs(t):
    model, seen = net(t), []
    model.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
    model(data(t, 4, 3)).sum().backward()
    with t.no_grad():
        model(data(t, 4, 3))
    return seen


@scenario
def hooks_of_all_modules(t):
    module, seen = t.nn.modules.module, []
    handles = [module.register_module_forward_pre_hook(lambda m, a: seen.append(type(m).__name__)),
               module.register_module_forward_hook(lambda m, a, out: seen.append(tuple(out.shape))),
               module.register_module_full_backward_hook(lambda m, gi, go: seen.append(len(gi))),
               module.register_module_full_backward_pre_hook(lambda m, go: seen.append("back"))]
    x = data(t, 4, 3).requires_grad_()
    net(t)(x).sum().backward()
    for handle in handles:
        handle.remove()
    net(t)(x)
    return seen


@scenario
def hooks_of_registration(t):
    module, seen = t.nn.modules.module, []
    handles = [module.register_module_parameter_registration_hook(lambda m, name, p: seen.append(name)),
               module.register_module_buffer_registration_hook(lambda m, name, b: seen.append((name, b is None))),
               module.register_module_module_registration_hook(lambda m, name, s: seen.append((name, type(s).__name__)))]
    model = net(t)
    model.first.weight = t.nn.Parameter(t.ones(4, 3))
    model.scale = t.zeros(2)
    model.last = t.nn.Identity()
    for handle in handles:
        handle.remove()
    net(t)
    return seen


# ---- registering and looking up ----


@scenario
def registering(t):
    model = net(t)
    return [
        raised(lambda: model.register_parameter("a.b", None)), raised(lambda: model.register_parameter("", None)),
        raised(lambda: model.register_parameter("first", None)), raised(lambda: model.register_parameter("new", t.ones(1))),
        raised(lambda: model.register_parameter("new", t.nn.Parameter(t.ones(1)) * 2), words=False),
        raised(lambda: model.register_buffer("forward", t.ones(1))), raised(lambda: model.register_buffer("b", 3)),
        raised(lambda: model.register_buffer(3, None)), raised(lambda: model.add_module("a.b", None)),
        raised(lambda: model.add_module("x", 3)), raised(lambda: model.register_module("first", None)),
        raised(lambda: setattr(model, "first", 3)), raised(lambda: setattr(model, "scale", 3)),
        raised(lambda: setattr(model.first, "weight", t.ones(2))), raised(lambda: model.absent),
        raised(lambda: t.nn.Module(3)), raised(lambda: t.nn.Module(a=3)), raised(lambda: t.nn.Module()(3)),
        raised(lambda: model.get_submodule("first.x")), raised(lambda: model.get_submodule("scale")),
        raised(lambda: model.get_parameter("first.norm")), raised(lambda: model.get_parameter("scale")),
        raised(lambda: model.get_buffer("first.weight")), raised(lambda: model.train("yes")),
        raised(lambda: model.to(t.int64)), raised(lambda: model.set_submodule("", t.nn.ReLU())),
    ]


@scenario
def not_initialized(t):
    class Early(t.nn.Module):
        def __init__(self, value):
            self.value = value
            super().__init__()
    return [raised(lambda v=v: Early(v)) for v in (t.nn.Parameter(t.ones(1)), t.nn.ReLU(), t.nn.Buffer(t.ones(1)), 3)]


@scenario
def looking_up(t):
    model = net(t)
    model.set_submodule("last.0", t.nn.Tanh())
    return [[n for n, _ in model.named_modules()], [n for n, _ in model.named_parameters()],
            [n for n, _ in model.named_buffers()],
            [n for n, _ in model.named_children()], model.get_submodule("last.1").weight, model.get_parameter("first.bias"),
            model.get_buffer("norm.running_var"), repr(model), len(list(model.buffers())), "scale" in dir(model),
            "0" in dir(model.last),
            [n for n, _ in model.named_parameters(prefix="p", recurse=False)], "nothing" in model._parameters]


@scenario
def shared_parameters(t):
    model = t.nn.Sequential(t.nn.Linear(2, 2), t.nn.Linear(2, 2))
    model[1].weight = model[0].weight
    model.add_module("again", model[0])
    return [[n for n, _ in model.named_parameters()], [n for n, _ in model.named_parameters(remove_duplicate=False)],
            [n for n, _ in model.named_modules(remove_duplicate=False)], sorted(model.state_dict()),
            len(list(model.modules())), len(list(model.children()))]


@scenario
def moving_between_kinds(t):
    model = net(t)
    del model.scale
    model.scale = t.nn.Parameter(t.ones(2))
    model.first.weight = None
    model.thing = t.nn.ReLU()
    model.thing = None
    model.buffer = t.nn.Buffer(t.ones(1), persistent=False)
    return [sorted(n for n, _ in model.named_parameters()), sorted(n for n, _ in model.named_buffers()),
            sorted(model.state_dict()),
            model.first.weight, raised(lambda: setattr(model, "first", t.ones(1)))]


@scenario
def conversions(t):
    model = net(t).double()
    found = [plain(dict(model.state_dict())), model.half().first.weight.dtype is t.float16,
             model.to(t.float32) is model, model.bfloat16().scale.dtype is t.bfloat16, model.float().scale.dtype is t.float32,
             model.type(t.float64).scale.dtype is t.float64, model.to(t.ones(1)).scale.dtype is t.float32,
             model.eval().training, model.last[0].training, model.train().last[0].training,
             [p.requires_grad for p in model.requires_grad_(False).parameters()]]
    weight = model.first.weight
    model.double()
    return [*found, weight is model.first.weight]


@scenario
def applying(t):
    model, seen = net(t), []
    with t.no_grad():
        model.apply(lambda m: seen.append(type(m).__name__) or (hasattr(m,
        "weight") and m.weight is not None and m.weight.fill_(0.5)))
    return [seen, dict(model.state_dict())]


@scenario
def gradients_to_zero(t):
    model = net(t)
    model(data(t, 4, 3)).sum().backward()
    model.zero_grad(set_to_none=False)
    zeros = [p.grad for p in model.parameters()]
    model.zero_grad()
    return [zeros, [p.grad for p in model.parameters()]]


@scenario
def empty_ones(t):
    model = net(t).to_empty(device="cpu")
    return [{k: list(v.shape) for k, v in model.state_dict().items()}, type(model.first.weight).__name__,
            model.first.weight.requires_grad, model.to_empty(device="cpu", recurse=False) is model]


@scenario
def made_without_data(t):
    model = t.nn.Sequential(t.nn.Linear(3, 2, device="meta"), t.nn.BatchNorm1d(2, device="meta"),
                            t.nn.Conv1d(2, 2, 1, device="meta"))
    shapes = [[n, list(p.shape), str(p.device), p.is_meta] for n, p in model.state_dict().items()]
    real = model.to_empty(device="cpu")
    t.manual_seed(3)
    skipped = t.nn.utils.skip_init(t.nn.Linear, 2, 3)
    after = t.rand(2)  # nothing was drawn
    return [shapes, [list(p.shape) for p in real.parameters()], str(real[0].weight.device), list(skipped.weight.shape), after,
            raised(lambda: net(t).to("meta").to("cpu"), words=False),
            raised(lambda: t.nn.Linear(2, 2, device="meta").weight.detach().numpy(), words=False)]


@scenario
def made_where_the_context_says(t):
    with t.device("meta"):
        inside = t.nn.Linear(2, 2)
    return [inside.weight.is_meta, t.nn.Linear(2, 2).weight.is_meta]


@scenario
def loading_into_what_has_no_data(t):
    source = t.nn.Linear(3, 2)
    with t.no_grad():
        for p in source.parameters():
            p.fill_(0.5)
    target = t.nn.Linear(3, 2, device="meta")
    result = target.load_state_dict(source.state_dict(), assign=True)
    return [str(result), target.weight, target(t.ones(1, 3)), isinstance(target.weight, t.nn.Parameter)]


# ---- saving and loading ----


@scenario
def state_dicts(t):
    model = net(t)
    state = model.state_dict()
    into = OrderedDict()
    model.state_dict(destination=into, prefix="x.")
    return [list(state), list(into), [v.requires_grad for v in model.state_dict(keep_vars=True).values()],
            dict(state._metadata), warned(lambda: model.state_dict(OrderedDict(), "y."))]


@scenario
def loading(t):
    model, other = net(t), net(t)
    with t.no_grad():
        for p in model.parameters():
            p.fill_(0.25)
    result = other.load_state_dict(model.state_dict())
    state = model.state_dict()
    state["extra"] = t.ones(1)
    del state["scale"], state["first.weight"]
    state["norm.weight"] = t.ones(5)
    state["last.2.weight"] = t.ones(1)
    return [str(result), dict(other.state_dict()), raised(lambda: other.load_state_dict(state)),
            raised(lambda: other.load_state_dict(state, strict=False)), raised(lambda: other.load_state_dict(3)),
            str(net(t).load_state_dict({"first.bias": t.zeros(4), "z": t.ones(1)}, strict=False)),
            raised(lambda: other.load_state_dict({"first.weight": 3}, strict=False))]


@scenario
def assigning(t):
    model, other = net(t), net(t)
    state = model.state_dict()
    before = other.first.weight
    other.load_state_dict(state, assign=True)
    return [other.first.weight is before, other.first.weight.requires_grad, type(other.first.weight).__name__,
            other.scale is state["scale"], other.first.weight.data_ptr() == model.first.weight.data_ptr(),
            raised(lambda: other.load_state_dict({"scale": t.ones(3)}, strict=False, assign=True))]


@scenario
def hooks_of_states(t):
    model, seen = net(t), []
    model.register_state_dict_pre_hook(lambda m, prefix, keep: seen.append((prefix, keep)))
    model.register_state_dict_post_hook(lambda m, state, prefix, meta: state.update(post=1))
    model._register_state_dict_hook(lambda m, state, prefix, meta: OrderedDict(state, hidden=2))
    model.first.register_load_state_dict_pre_hook(lambda m, state, prefix,
    *rest: seen.append((prefix, len(rest), type(m).__name__)))
    model.register_load_state_dict_post_hook(lambda m, keys: keys.unexpected_keys.clear())
    state = model.state_dict()
    result = model.load_state_dict(state)
    model.register_load_state_dict_post_hook(lambda m, keys: 3)
    return [list(state), seen, str(result), raised(lambda: model.load_state_dict(state))]


@scenario
def extra_state(t):
    class Extra(t.nn.Linear):
        def get_extra_state(self):
            return {"n": 3}

        def set_extra_state(self, state):
            self.got = state

    model = t.nn.Sequential(Extra(1, 1))
    state = model.state_dict()
    model.load_state_dict(state)
    found = [list(state), model[0].got]
    del state["0._extra_state"]
    plain_model = t.nn.Sequential(t.nn.Linear(1, 1))
    return [*found, raised(lambda: model.load_state_dict(state)),
            raised(lambda: plain_model.load_state_dict(model.state_dict())),
            raised(lambda: t.nn.Linear(1, 1).get_extra_state(), words=False)]


@scenario
def copies(t):
    model = net(t)
    model.register_forward_hook(print_nothing)
    model.again = model.first
    twins = [copy.deepcopy(model), copy.copy(model)]
    found = []
    for twin in twins:
        found += [dict(twin.state_dict()), twin.first.weight is model.first.weight, twin.again is twin.first,
                  len(twin._forward_hooks), twin(data(t, 4, 3))]
    layer = t.nn.Sequential(t.nn.Linear(2, 2), t.nn.Dropout(0.3), t.nn.LSTM(2, 2))
    again = pickle.loads(pickle.dumps(layer))
    buffer = io.BytesIO()
    t.save(layer.state_dict(), buffer)
    buffer.seek(0)
    return [*found, repr(again),
            dict(again.state_dict()) == {} or [bool((a == b).all()) for a, b in zip(again.parameters(), layer.parameters())],
            str(layer.load_state_dict(t.load(buffer)))]


def print_nothing(module, args, out):
    return None


# ---- containers ----


@scenario
def sequences(t):
    nn = t.nn
    named = nn.Sequential(OrderedDict([("a", nn.Linear(2, 3)), ("b", nn.ReLU())]))
    s = nn.Sequential(*named)
    s *= 2
    s += named
    s.append(nn.Linear(3, 1)).extend([nn.Tanh()]).insert(1, nn.Dropout(0.1))
    found = [repr(named), repr(s), len(s), repr(s[1]), repr(s[-1]), repr(s[1:3]), repr(s + nn.Sequential(nn.ReLU())),
             repr(nn.Sequential(nn.ReLU()) * 2)]
    popped = s.pop(1)
    del s[-1]
    s[0] = nn.Identity()
    return [*found, repr(popped), repr(s), [type(m).__name__ for m in s], raised(lambda: s[9]),
            raised(lambda: s + 3, words=False),
            raised(lambda: s * -1, words=False), list(nn.Sequential(nn.ReLU()).state_dict())]


@scenario
def lists(t):
    nn = t.nn
    m = nn.ModuleList([nn.Linear(1, 1), nn.ReLU()])
    m.append(nn.Tanh())
    m.insert(0, nn.Identity())
    m += [nn.ReLU(), nn.ReLU()]
    m.extend(nn.ModuleList([nn.Sigmoid()]))
    found = [repr(m), len(m), repr(m[1:3]), repr(m[-1]), nn.ReLU() in m, m[0] in m, repr(m.pop(0)),
             repr(m + nn.ModuleList([nn.ELU()]))]
    del m[1:3]
    m[0] = nn.Linear(2, 2)
    return [*found, repr(m), [n for n, _ in m.named_parameters()], raised(lambda: m[7]),
            raised(lambda: m.extend(3), words=False),
            raised(lambda: m(1), words=False), repr(nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1), nn.ReLU()]))]


@scenario
def dictionaries(t):
    nn = t.nn
    m = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Linear(1, 1)})
    m["c"] = nn.Tanh()
    m.update([("d", nn.ELU())])
    m.update(OrderedDict(a=nn.Identity()))
    found = [repr(m), list(m), list(m.keys()), [type(v).__name__ for v in m.values()], [k for k, _ in m.items()], "a" in m,
             len(m)]
    del m["a"]
    popped = m.pop("b")
    return [*found, repr(popped), repr(m), raised(lambda: m["z"]), raised(lambda: m.update(3), words=False), m.clear(), len(m)]


@scenario
def parameter_lists(t):
    P = t.nn.Parameter
    p = t.nn.ParameterList([P(t.ones(2)), P(t.zeros(1, 2)), t.ones(3), 5])
    p.append(P(t.ones(1)))
    p.extend([t.zeros(2)])
    p += [P(t.ones(1))]
    found = [repr(p), len(p), list(p.state_dict()), repr(p[1:3]), p[-1], p[3], [n for n, _ in p.named_parameters()]]
    p[0] = P(t.zeros(3))
    popped = p.pop() if hasattr(p, "pop") else None
    return [*found, p[0], popped, raised(lambda: p(1), words=False), raised(lambda: p[9]),
            raised(lambda: p.extend(3), words=False)]


@scenario
def parameter_dictionaries(t):
    P = t.nn.Parameter
    p = t.nn.ParameterDict({"a": P(t.ones(2)), "b": t.zeros(1)})
    p["c"] = P(t.ones(1, 1))
    p.update({"d": P(t.ones(1))})
    found = [repr(p), list(p), len(p), "a" in p, p.get("z", 3), p.setdefault("e", P(t.ones(1))), list(p.state_dict()),
             [k for k, _ in p.items()], list(reversed(p)), repr(p | t.nn.ParameterDict({"f": P(t.ones(1))}))]
    p |= {"g": P(t.ones(1))}
    del p["a"]
    return [*found, p.pop("b"), p.popitem()[0], list(p.copy().keys()),
            list(t.nn.ParameterDict.fromkeys(p, ["x", "y"], P(t.ones(1)))) if False else 0,
            raised(lambda: p["z"], words=False), raised(lambda: p(1), words=False), p.clear(), len(p)]


# ---- lazy layers ----


@scenario
def lazy_layers(t):
    nn, found = t.nn, []
    for make, shape in [(lambda: nn.LazyLinear(3), (2, 4)), (lambda: nn.LazyConv2d(3, 2), (1, 2, 4, 4)),
                        (lambda: nn.LazyConvTranspose1d(4, 2, groups=2), (1, 2, 4)), (lambda: nn.LazyBatchNorm1d(), (4, 3)),
                        (lambda: nn.LazyInstanceNorm2d(affine=True, track_running_stats=True), (2, 3, 4, 4)),
                        (lambda: nn.LazyLinear(3, bias=False), (4,)), (lambda: nn.LazyConv1d(2, 1), (3, 4))]:
        t.manual_seed(0)
        layer = make()
        found += [repr(layer), layer.has_uninitialized_params() if hasattr(layer, "has_uninitialized_params") else None,
                  type(layer.weight).__name__, raised(lambda w=layer.weight: w.shape, words=False), sorted(layer.state_dict())]
        x = data(t, *shape)
        out = layer(x)
        found += [list(out.shape), repr(layer), type(layer).__name__, type(layer.weight).__name__, dict(layer.state_dict())]
    return found


@scenario
def lazy_layers_load_and_are_loaded(t):
    lazy, ready = t.nn.LazyLinear(3), t.nn.Linear(4, 3)
    lazy.load_state_dict(ready.state_dict())
    out = (lazy(t.ones(1, 4)) - ready(t.ones(1, 4))).abs().max()
    twin = t.nn.LazyLinear(3)
    other = copy.deepcopy(twin)
    state = twin.state_dict()
    fresh = t.nn.LazyLinear(3)
    fresh.load_state_dict(state)
    return [out, other(t.ones(2, 5)).shape[1], type(fresh.weight).__name__,
            raised(lambda: ready.load_state_dict(state), words=False),
            raised(lambda: t.nn.LazyLinear(3).weight + 1, words=False),
            t.nn.LazyLinear(2).double()(t.ones(1, 3).double()).dtype is t.float64]


@scenario
def lazy_layers_of_ones_own(t):
    from_module = t.nn.modules.lazy

    class LazyScale(from_module.LazyModuleMixin, t.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = t.nn.parameter.UninitializedParameter()
            self.seen = t.nn.parameter.UninitializedBuffer()

        def initialize_parameters(self, x):
            if self.has_uninitialized_params():
                with t.no_grad():
                    self.scale.materialize((x.shape[-1],))
                    self.scale.fill_(2.0)
                    self.seen.materialize((1,))
                    self.seen.zero_()

        def forward(self, x):
            return x * self.scale

    layer = LazyScale()
    before = [layer.has_uninitialized_params(), repr(layer.scale)]
    return [*before, layer(t.ones(2, 3)), type(layer.scale).__name__, layer.has_uninitialized_params(),
            dict(layer.state_dict())]


# ---- other ----


@scenario
def signatures_and_names(t):
    return [t.nn.Module.dump_patches, hasattr(t.nn.Module, "T_destination"), t.nn.modules.Module is t.nn.Module,
            t.nn.DataParallel(t.nn.Linear(2, 2))(t.ones(3, 2)).shape[0],
            sorted(t.nn.factory_kwargs({"device": "cpu", "dtype": None})),
            raised(lambda: t.nn.factory_kwargs({"x": 1})), t.nn.Container.__name__ if hasattr(t.nn, "Container") else ""]


@scenario
def gradients_of_convolutions(t):
    x, w, g = data(t, 2, 4, 6, 6), data(t, 6, 2, 3, 3), data(t, 2, 6, 3, 3)
    settings = dict(stride=2, padding=1, groups=2)
    return [t.nn.grad.conv2d_input(x.shape, w, g, **settings), t.nn.grad.conv2d_weight(x, w.shape, g, **settings),
            t.nn.grad.conv1d_weight(data(t, 1, 2, 5), (3, 2, 2), data(t, 1, 3, 3), dilation=2)]


@scenario
def compiled_in_place(t):
    model = t.nn.Linear(2, 2)
    model.compile(backend="eager")
    with t.no_grad():
        model.weight.fill_(1)
        model.bias.zero_()
    return [model(t.ones(1, 2)), sorted(model.state_dict())]


@pytest.mark.parametrize("fn", SCENARIOS, ids=lambda f: f.__name__)
def test_same(fn):
    results = []
    for t in (torch, fl):
        t.manual_seed(0)
        results.append(plain(fn(t)))
    compare(results[1], results[0], "")


def compare(ours, theirs, where):
    if isinstance(theirs, (list, dict)) and type(ours) is type(theirs) and len(ours) == len(theirs):
        keys = theirs if isinstance(theirs, dict) else range(len(theirs))
        if isinstance(theirs, dict):
            assert list(ours) == list(theirs), where
        for k in keys:
            compare(ours[k], theirs[k], f"{where}[{k}]")
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, abs=2e-4, nan_ok=True), where
    else:
        assert ours == theirs, where

"""Soundness: a Module's structure, state, hooks and classes change between two calls."""
from collections import OrderedDict

import pytest
from tracer.support import compile
from tracer.traps import both, facts, rand, spring

import flambeau
import flambeau.nn.functional as F
from flambeau import nn
from flambeau.nn.utils import parametrize

pytestmark = pytest.mark.filterwarnings("error::flambeau.frontend.points.FallbackWarning",
                                        "error::flambeau.frontend.points.RecompileWarning")
X = rand(4, 3)
TRAPS = {}


def trap(fn):
    TRAPS[fn.__name__] = fn
    return fn


class Net(nn.Module):
    k = 2

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.register_buffer("scale", flambeau.tensor(2.0))
        self.bias = None
        self.act = F.relu

    def forward(self, x):
        y = self.act(self.layer(x)) * self.scale * self.k
        return y if self.bias is None else y + self.bias


def net(seed=0):
    flambeau.manual_seed(seed)
    return Net()


def linear(out=3, seed=1):
    flambeau.manual_seed(seed)
    return nn.Linear(3, out)


@trap
def a_submodule_is_replaced():
    m = net()
    f = both(lambda x: m(x))
    yield f(X)
    m.layer = linear()
    yield f(X)
    m.layer = nn.Identity()
    yield f(X)
    m.layer = nn.Sequential(linear(seed=2), linear(seed=3))
    yield f(X)


@trap
def a_submodule_is_replaced_past_setattr():
    m = net()
    f = both(lambda x: m(x))
    yield f(X)
    m._modules["layer"] = linear()
    yield f(X)
    m.__dict__["_modules"] = {"layer": linear(seed=4)}
    yield f(X)
    vars(m)["_modules"].update(layer=nn.Identity())
    yield f(X)
    object.__setattr__(m, "layer", linear(seed=5))               # now before _modules
    yield f(X)


@trap
def a_submodule_hidden_by_an_instance_attribute():
    m = net()
    f = both(lambda x: m(x))
    yield f(X)
    m.__dict__["layer"] = lambda x: x * 5
    yield f(X)
    del m.__dict__["layer"]
    yield f(X)


@trap
def a_parameter_is_replaced():
    m = net()
    f = both(lambda x: m(x))
    yield f(X)
    m.layer.weight = nn.Parameter(rand(3, 3))
    yield f(X)
    m.layer._parameters["weight"] = nn.Parameter(rand(3, 3, seed=9))
    yield f(X)
    m.layer._parameters["bias"] = None
    yield f(X)
    m.layer.register_parameter("bias", nn.Parameter(rand(3)))
    yield f(X)


@trap
def the_data_of_a_parameter_is_replaced():
    m = net()
    f = both(lambda x: m(x))
    yield f(X)
    m.layer.weight.data = rand(3, 3)
    yield f(X)
    m.layer.weight.data = rand(5, 3)
    m.layer.bias.data = rand(5)
    yield f(X)
    m.layer.weight.data = m.layer.weight.data.double()
    m.layer.bias.data = m.layer.bias.data.double()
    yield f(X.double())


@trap
def a_parameter_changes_in_place():
    m = net()
    f = both(lambda x: m(x))
    yield f(X)
    with flambeau.no_grad():
        m.layer.weight.mul_(2)
    yield f(X)
    m.layer.weight.data.copy_(rand(3, 3))
    yield f(X)
    m.load_state_dict(net(7).state_dict())
    yield f(X)


@trap
def weights_are_tied_and_untied():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = linear(), linear(seed=2)

        def forward(self, x):
            return self.b(self.a(x)), self.a.weight is self.b.weight
    m = Two()
    f = both(lambda x: m(x))
    yield f(X)
    m.b.weight = m.a.weight
    yield f(X)
    m.b.weight = nn.Parameter(rand(3, 3))
    yield f(X)
    m.b = m.a
    yield f(X)


@trap
def a_parameter_is_frozen():
    m = net()

    def step(x):
        y = m(x)
        return y, y.requires_grad, m.layer.weight.requires_grad
    f = both(step)
    yield f(X)
    m.layer.weight.requires_grad_(False)
    yield f(X)
    m.requires_grad_(False)
    yield f(X)
    m.requires_grad_(True)
    yield f(X)


@trap
def a_buffer_is_resized_or_replaced():
    m = net()
    f = both(lambda x: m(x))
    yield f(X)
    m.scale = rand(3)
    yield f(X)
    m.scale.resize_(1).fill_(3)
    yield f(X)
    m._buffers["scale"] = flambeau.tensor(3)
    yield f(X)
    m.scale = None
    yield f(X)


@trap
def a_buffer_becomes_a_plain_number():
    m = net()
    f = both(lambda x: m(x))
    yield f(X)
    del m.scale
    m.scale = 3
    yield f(X)
    m.scale = 4.5
    yield f(X)


@trap
def register_buffer_and_delete():
    class Layer(nn.Module):
        def forward(self, x):
            return x + self.shift if hasattr(self, "shift") else x
    m = Layer()
    f = both(lambda x: m(x))
    yield f(X)
    m.register_buffer("shift", rand(3))
    yield f(X)
    del m.shift
    yield f(X)
    m.shift = nn.Parameter(rand(3, seed=3))
    yield f(X)


@trap
def train_and_eval():
    m = nn.Sequential(nn.Linear(3, 3), nn.Dropout(1.0), nn.BatchNorm1d(3))
    f = both(lambda x: m(x) if not m.training else m(x).sum() * 0 + 7)
    yield f(X)
    m.eval()
    yield f(X)
    m[1].train()
    yield f(X)
    m.train(False)
    yield f(X)


@trap
def only_one_submodule_in_training():
    m = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Dropout(1.0)))
    m.eval()
    f = both(lambda x: m(x))
    yield f(X)
    m[1][0].training = True
    yield f(X)
    m[1][0].training = False
    m[1][0].p = 0.5
    yield f(X)


@trap
def dropout_probability():
    m = nn.Dropout(0.0)
    f = both(lambda x: m(x))
    yield f(X)
    m.p = 1.0
    yield f(X)


@trap
def forward_hooks_come_and_go():
    m = net()
    f = both(lambda x: m(x))
    yield f(X)
    first = m.layer.register_forward_hook(lambda mod, args, out: out * 2)
    yield f(X)
    second = m.register_forward_hook(lambda mod, args, out: out + 1)
    yield f(X)
    first.remove()
    yield f(X)
    second.remove()
    yield f(X)


@trap
def pre_hooks_come_and_go():
    m = net()
    f = both(lambda x: m(x))
    yield f(X)
    handle = m.register_forward_pre_hook(lambda mod, args: (args[0] * 3,))
    yield f(X)
    m.layer.register_forward_pre_hook(lambda mod, args, kwargs: ((args[0] + 1,), kwargs), with_kwargs=True)
    yield f(X)
    handle.remove()
    yield f(X)


@trap
def a_hook_is_exchanged_in_its_dict():
    m = net()
    handle = m.register_forward_hook(lambda mod, args, out: out * 2)
    f = both(lambda x: m(x))
    yield f(X)
    m._forward_hooks[handle.id] = lambda mod, args, out: out * 3
    yield f(X)
    m._forward_hooks.clear()
    yield f(X)


@trap
def global_hooks():
    m = net()
    f = both(lambda x: m(x))
    yield f(X)
    handle = nn.modules.module.register_module_forward_hook(lambda mod, args, out: out + 1)
    try:
        yield f(X)
    finally:
        handle.remove()
    yield f(X)
    handle = nn.modules.module.register_module_forward_pre_hook(lambda mod, args: (args[0] + 1,))
    try:
        yield f(X)
    finally:
        handle.remove()
    yield f(X)


@trap
def what_a_hook_closes_over():
    m = net()
    k = [1]
    m.register_forward_hook(lambda mod, args, out: out * k[0])
    f = both(lambda x: m(x))
    yield f(X)
    k[0] = 5
    yield f(X)


@trap
def order_of_hooks():
    m = net()
    a = m.register_forward_hook(lambda mod, args, out: out * 2)
    m.register_forward_hook(lambda mod, args, out: out + 1)
    f = both(lambda x: m(x))
    yield f(X)
    m._forward_hooks.move_to_end(a.id)
    yield f(X)


@trap
def forward_is_replaced_on_the_instance():
    m = net()
    f = both(lambda x: m(x))
    yield f(X)
    m.forward = lambda x: x * 9
    yield f(X)
    m.layer.forward = lambda x: x
    del m.forward
    yield f(X)


@trap
def forward_is_replaced_on_the_class():
    class Layer(nn.Module):
        def forward(self, x):
            return x + 1
    m = nn.Sequential(Layer())
    f = both(lambda x: m(x))
    yield f(X)
    Layer.forward = lambda self, x: x * 2
    yield f(X)


@trap
def forward_is_added_below_the_class_that_has_it():
    class Base(nn.Module):
        def forward(self, x):
            return x + 1

    class Layer(Base):
        pass
    m = Layer()
    f = both(lambda x: m(x))
    yield f(X)
    Layer.forward = lambda self, x: x * 2
    yield f(X)
    del Layer.forward
    yield f(X)


@trap
def forward_of_a_library_class_is_patched():
    m = net()
    f = both(lambda x: m(x))
    yield f(X)
    before = nn.Linear.forward
    nn.Linear.forward = lambda self, x: before(self, x) * 2
    try:
        yield f(X)
    finally:
        nn.Linear.forward = before
    yield f(X)


@trap
def a_class_attribute_of_a_module():
    m = net()
    f = both(lambda x: m(x))
    yield f(X)
    try:
        Net.k = 3
        yield f(X)
        m.k = 5
        yield f(X)
    finally:
        Net.k = 2
    yield f(X)


@trap
def a_class_attribute_hides_a_parameter():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(rand(3))

        def forward(self, x):
            return x * self.w
    m = Layer()
    f = both(lambda x: m(x))
    yield f(X)
    Layer.w = 3
    yield f(X)
    del Layer.w
    yield f(X)


@trap
def a_function_held_by_a_module():
    m = net()
    f = both(lambda x: m(x))
    yield f(X)
    m.act = F.gelu
    yield f(X)
    m.act = lambda x: x
    yield f(X)
    m.act = nn.Tanh()
    yield f(X)


@trap
def a_sequential_grows_and_shrinks():
    m = nn.Sequential(linear(), nn.ReLU())
    f = both(lambda x: m(x))
    yield f(X)
    m.append(linear(seed=2))
    yield f(X)
    del m[1]
    yield f(X)
    m.insert(0, nn.Tanh())
    yield f(X)
    m[0] = nn.Sigmoid()
    yield f(X)


@trap
def a_sequential_is_reordered():
    m = nn.Sequential(OrderedDict(a=nn.ReLU(), b=nn.Tanh(), c=linear()))
    f = both(lambda x: m(x))
    yield f(X)
    m._modules["a"] = m._modules.pop("a")
    yield f(X)


@trap
def a_module_list_and_dict():
    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.many = nn.ModuleList([linear(), linear(seed=2)])
            self.named = nn.ModuleDict({"a": linear(seed=3)})
            self.weights = nn.ParameterList([nn.Parameter(rand(3))])
            self.table = nn.ParameterDict({"w": nn.Parameter(rand(3, seed=1))})

        def forward(self, x):
            for layer in self.many:
                x = layer(x)
            for name in self.named:
                x = self.named[name](x) * len(name)
            for w in self.weights:
                x = x * w
            return x + sum(self.table.values()) + ("b" in self.named)
    m = Layers()
    f = both(lambda x: m(x))
    yield f(X)
    m.many.append(nn.ReLU())
    yield f(X)
    m.named["b"] = nn.Tanh()
    yield f(X)
    m.weights.append(nn.Parameter(rand(3, seed=2)))
    yield f(X)
    m.table["v"] = nn.Parameter(rand(3, seed=3))
    yield f(X)
    m.many[0], m.many[1] = m.many[1], m.many[0]
    yield f(X)
    del m.named["a"]
    yield f(X)


@trap
def parametrized_weights():
    class Double(nn.Module):
        def forward(self, w):
            return w * 2
    m = net()
    f = both(lambda x: m(x))
    yield f(X)
    parametrize.register_parametrization(m.layer, "weight", Double())
    yield f(X)
    parametrize.remove_parametrizations(m.layer, "weight")
    with flambeau.no_grad():
        m.layer.weight.div_(4)
    yield f(X)


@trap
def state_made_in_forward():
    class Counter(nn.Module):
        def forward(self, x):
            if not hasattr(self, "calls"):
                self.calls = 0
            self.calls += 1
            return x * self.calls
    a, b = Counter(), Counter()
    compiled = compile(lambda m, x: m(x), backend="eager")
    for reset in (False, False, True, False):
        if reset:
            del a.calls, b.calls
        yield facts(compiled(a, X)), facts(b(X))


@trap
def running_statistics():
    a, b = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    compiled = compile(lambda m, x: (m(x), m.running_mean.clone(), m.num_batches_tracked.clone()), backend="eager")
    for change in (None, lambda m: setattr(m, "momentum", None), lambda m: m.reset_running_stats(),
                   lambda m: setattr(m, "track_running_stats", False), lambda m: m.eval()):
        if change is not None:
            change(a)
            change(b)
        yield facts(compiled(a, X)), facts((b(X), b.running_mean.clone(), b.num_batches_tracked.clone()))


@trap
def the_device_or_dtype_of_a_model():
    m = net()
    f = both(lambda x: m(x.to(m.layer.weight.dtype)))
    yield f(X)
    m.double()
    yield f(X)
    m.bfloat16()
    yield f(X)
    m.float()
    yield f(X)


@trap
def the_class_of_a_module_is_assigned():
    class A(nn.Module):
        def forward(self, x):
            return x + 1

    class B(nn.Module):
        def forward(self, x):
            return x - 1
    m = nn.Sequential(A())
    f = both(lambda x: m(x))
    yield f(X)
    m[0].__class__ = B
    yield f(X)


@trap
def a_getattr_is_added_to_the_class():
    class Layer(nn.Module):
        def forward(self, x):
            return x * getattr(self, "extra", 1)
    m = Layer()
    f = both(lambda x: m(x))
    yield f(X)

    def __getattr__(self, name):
        return 7 if name == "extra" else nn.Module.__getattr__(self, name)
    Layer.__getattr__ = __getattr__
    yield f(X)


@trap
def a_gradient_appears():
    m = net()
    f = both(lambda x: m(x) if m.layer.weight.grad is None else m(x) + m.layer.weight.grad.sum())
    yield f(X)
    m(X).sum().backward()
    yield f(X)
    m.zero_grad()
    yield f(X)
    m(X).sum().backward()
    m(X).sum().backward()
    yield f(X)


@trap
def another_model_of_the_same_class():
    f = both(lambda m, x: m(x))
    a, b = net(), net(5)
    yield f(a, X)
    yield f(b, X)
    b.bias = rand(3)
    yield f(b, X)
    yield f(a, X)


@trap
def a_module_in_a_list_in_a_dict():
    c = {"layers": [linear(), (linear(seed=2), {"k": linear(seed=3)})]}
    f = both(lambda x: c["layers"][1][1]["k"](c["layers"][0](x)))
    yield f(X)
    c["layers"][1][1]["k"] = linear(seed=4)
    yield f(X)
    c["layers"][0] = c["layers"][1][0]
    yield f(X)
    c["layers"][1] = (None, {"k": nn.Identity()})
    yield f(X)


@trap
def named_parameters_walked_in_the_region():
    m = net()

    def f(x):
        total = x.sum() * 0
        for name, p in m.named_parameters():
            total = total + p.sum() * len(name)
        return total, len(list(m.buffers())), len(list(m.children()))
    g = both(f)
    yield g(X)
    m.layer.extra = nn.Parameter(rand(2))
    yield g(X)
    m.register_buffer("more", rand(1))
    yield g(X)
    m.other = nn.ReLU()
    yield g(X)


@trap
def call_is_replaced():
    class Layer(nn.Module):
        def forward(self, x):
            return x + 1
    m = nn.Sequential(Layer())
    f = both(lambda x: m(x))
    yield f(X)
    Layer.__call__ = lambda self, x: x * 3
    yield f(X)


@pytest.mark.parametrize("name", list(TRAPS))
def test_trap(name):
    spring(TRAPS[name])

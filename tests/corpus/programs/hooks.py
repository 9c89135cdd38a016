"""Hooks on Modules and on tensors: what they change, when they run, how they come and go."""

from ..given import F, nn, program, rand, torch

X = rand(4, 3)
SEEN = []


def linear(seed=0):
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        layer.weight.copy_(rand(3, 3, seed=seed))
        layer.bias.zero_()
    return layer


def hooked():
    m = linear()
    m.register_forward_hook(lambda module, args, out: out * 2)
    return m


@program((X,), (X,))
class ForwardHookChangesTheResult(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = hooked()

    def forward(self, x):
        return self.layer(x)


@program((X,), (X,), watch=lambda: SEEN)
class ForwardHookRecords(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = linear(1)
        self.layer.register_forward_hook(self.record)

    def record(self, module, args, out):
        SEEN.append((tuple(args[0].shape), out.mean()))

    def forward(self, x):
        return self.layer(x) + self.layer(x * 2)


@program((X,), (X,))
class PreHookChangesTheInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = linear()
        self.layer.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
        self.layer.register_forward_pre_hook(lambda module, args: args[0] * 2)

    def forward(self, x):
        return self.layer(x)


@program((X,), (X,))
class HooksWithKeywords(nn.Module):
    class Scaled(nn.Module):
        def forward(self, x, scale=1.0):
            return x * scale

    def __init__(self):
        super().__init__()
        self.scaled = self.Scaled()
        self.scaled.register_forward_pre_hook(lambda m, args, kwargs: (args, {**kwargs, "scale": 3.0}), with_kwargs=True)
        self.scaled.register_forward_hook(lambda m, args, kwargs, out: out + kwargs["scale"], with_kwargs=True)

    def forward(self, x):
        return self.scaled(x, scale=2.0)


FEATURES = {}


@program((X,), (X,), watch=lambda: FEATURES)
class FeatureExtractor(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(linear(1), nn.ReLU(), linear(2))
        for name, layer in self.body.named_children():
            layer.register_forward_hook(self.save(name))

    def save(self, name):
        def hook(module, args, out):
            FEATURES[name] = out
        return hook

    def forward(self, x):
        return self.body(x)


@program((X,), lambda: HANDLES.append(LATER.register_forward_hook(lambda m, a, out: out - 1)), (X,),
         lambda: HANDLES.pop().remove(), (X,))
class HookAddedAndRemoved(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = linear()
        global LATER
        LATER = self.layer

    def forward(self, x):
        return self.layer(x)


HANDLES = []
GRADS = []


@program((rand(4, 3, grad=True),), (rand(4, 3, seed=1, grad=True),), watch=lambda: GRADS, backward=True)
class FullBackwardHook(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = linear()
        self.layer.register_full_backward_hook(lambda m, grad_in, grad_out: GRADS.append(grad_out[0]))

    def forward(self, x):
        return self.layer(x) * 2


@program((rand(4, 3, grad=True),), (rand(4, 3, seed=1, grad=True),), backward=True)
class FullBackwardHookScales(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = linear()
        self.layer.register_full_backward_hook(lambda m, grad_in, grad_out: (grad_in[0] * 10,))

    def forward(self, x):
        return self.layer(x)


@program((rand(4, 3, grad=True),), (rand(4, 3, seed=1, grad=True),), backward=True)
def tensor_hook_in_the_region(x):
    y = x * 2
    y.register_hook(lambda g: g * 5)
    return y + 1


TENSOR_GRADS = []


@program((rand(4, 3, grad=True),), (rand(4, 3, seed=1, grad=True),), watch=lambda: TENSOR_GRADS, backward=True)
def tensor_hook_that_records(x):
    y = x.sin()
    y.register_hook(TENSOR_GRADS.append)
    return y * x


W = rand(3, 3, seed=9, grad=True)
W.register_hook(lambda g: g * 3)


@program((X,), (X,), backward=True)
def hook_on_a_leaf_from_outside(x):
    return x @ W


@program((X,), (X,), watch=lambda: ORDER)
class OrderOfHooks(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = linear()
        for k in range(3):
            self.layer.register_forward_hook(lambda m, a, out, k=k: ORDER.append(k))
        self.layer.register_forward_hook(lambda m, a, out: ORDER.append("first"), prepend=True)

    def forward(self, x):
        ORDER.append("before")
        y = self.layer(x)
        ORDER.append("after")
        return y


ORDER = []


@program((X,), (X,))
class HookThatPrints(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = linear()
        self.layer.register_forward_hook(lambda m, a, out: print(type(m).__name__, tuple(out.shape)))

    def forward(self, x):
        return F.relu(self.layer(x)) + 1


@program((X,), (X,))
class HookRaises(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = linear()
        self.layer.register_forward_hook(self.refuse)

    def refuse(self, module, args, out):
        raise ValueError("no")

    def forward(self, x):
        y = x + 1
        try:
            return self.layer(y)
        except ValueError:
            return y * 2


@program((rand(4, 3, grad=True),), backward=True)
def retained_gradients(x):
    y = x * 2
    y.retain_grad()
    return y.sin()


@program((X,), (X,))
class HooksOnTheCompiledModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.k = 2
        self.register_forward_pre_hook(lambda m, args: (args[0] * m.k,))
        self.register_forward_hook(lambda m, args, out: (out, args[0]))

    def forward(self, x):
        return x + 1


@program((X,), (X,))
def adds_and_removes_a_hook_inside(x):
    handle = PLAIN.register_forward_hook(lambda m, a, out: out * 7)
    y = PLAIN(x)
    handle.remove()
    return y, PLAIN(x)


PLAIN = linear()

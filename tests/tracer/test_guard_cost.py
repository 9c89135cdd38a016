"""What guards cost: how often modules are looked at, and that no way around `setattr` goes unseen."""
from __future__ import annotations

import copy
import gc
import threading
import weakref
from collections import OrderedDict

import pytest
from tracer import test_traps_modules, test_traps_state, test_traps_tensors
from tracer.support import compile, context_of
from tracer.traps import facts, rand, spring

import flambeau
from flambeau import nn
from flambeau.frontend.trace import memo
from flambeau.runtime import words

X = rand(4, 3)


@pytest.fixture(autouse=True)
def always_remembered(monkeypatch):
    monkeypatch.setattr(memo, "WORTHWHILE", 1)


def test_this_python_can_be_watched():
    assert words.works()


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.0)
        self.gain, self.sizes = 2.0, (1, 2)
        self.unread, self.parts = 0, [1.0, nn.Identity()]

    def forward(self, x):
        return self.parts[1](self.drop(self.linear(x))) * self.gain + self.sizes[1] + self.parts[0] * len(self.parts)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        flambeau.manual_seed(0)
        self.layers = nn.Sequential(*[Layer() for _ in range(3)])
        self.norm = nn.BatchNorm1d(3)
        self.step = 0

    def forward(self, x):
        return self.layers(x) + self.norm(x)


class Counting(Net):
    def forward(self, x):
        self.step += 1
        return super().forward(x)


def memos(compiled):
    """What the entries of a compiled callable remember."""
    found = [value for point in context_of(compiled)._points.values() for entry in point.entries
             for value in entry.guard.__globals__.values() if isinstance(value, memo.Memo)]
    assert found
    return found


def looks(compiled):
    return sum(m.looks for m in memos(compiled))


# --------------------------------------------------------------------------- counts

def test_a_model_is_looked_at_once():
    m = Net()
    c = compile(m, backend="eager")
    c(X)
    before = looks(c)
    for _ in range(20):
        c(X)
    [found] = memos(c)
    assert looks(c) == before == 1 and found.skips == 0 and found.renewals == 1
    assert m.norm.num_batches_tracked.item() == 21
    assert len(found.chosen) > 100 and len(found.guards.guards) - len(found.chosen) < 60


def test_training_does_not_make_it_look_again():
    m = Net()
    c = compile(m, backend="eager")
    optimizer = flambeau.optim.SGD(m.parameters(), lr=0.1, momentum=0.9)
    for k in range(6):
        optimizer.zero_grad()
        c(X).sum().backward()
        optimizer.step()
        if k == 1:
            before = looks(c)
    for p in m.parameters():
        p.data -= 0.1 * p.grad
    c(X)
    assert looks(c) == before


def test_a_whole_training_step_is_looked_at_once():
    m, again = Net(), Net()

    def step_of(model):
        optimizer = flambeau.optim.Adam(model.parameters(), lr=0.1)

        def step(x):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            return loss.detach()
        return step, optimizer
    (step, optimizer), (eager, expected) = step_of(m), step_of(again)
    c = compile(step, backend="eager")
    for k in range(12):
        if k == 8:
            before = looks(c)
        assert facts(c(X)) == facts(eager(X))
    assert looks(c) == before
    for o in (optimizer, expected):
        o.param_groups[0]["betas"] = (0.5, 0.9)
        o.state[o.param_groups[0]["params"][3]]["exp_avg"] = rand(3)
    for _ in range(2):
        assert facts(c(X)) == facts(eager(X))
    for o in (optimizer, expected):
        o.param_groups[0]["params"].pop()
    for _ in range(3):
        assert facts(c(X)) == facts(eager(X))


def test_a_counter_of_the_module_costs_no_look():
    m = Counting()
    c = compile(m, backend="eager")
    for _ in range(6):
        c(X)
    before = looks(c)
    for _ in range(10):
        c(X)
    assert m.step == 16 and looks(c) == before


def test_what_nobody_asks_about_costs_no_look():
    m = Net()
    c = compile(m, backend="eager")
    c(X)
    before = looks(c)
    for k in range(5):
        m.layers[1].unread = k
        m.layers[0].new = [k]
        m.layers[0].linear.weight.grad = None
        c(X)
    assert looks(c) == before and memos(c)[0].skips == 5


def test_what_each_call_replaces_is_left_to_tests():
    class Keeping(Net):
        def __init__(self):
            super().__init__()
            self.register_buffer("last", flambeau.zeros(3))

        def forward(self, x):
            y = super().forward(x)
            self.last = (y + self.last).mean(0).detach()
            return y + self.last
    m, again = Keeping(), Keeping()
    c = compile(m, backend="eager")
    for k in range(20):
        assert facts(c(X)) == facts(again(X))
        if k == 12:
            before = looks(c)
    assert looks(c) == before


def test_new_arrays_in_each_call_are_left_to_tests():
    m, again = Net(), Net()
    c = compile(m, backend="eager")
    for k in range(20):
        for p, q in zip(m.parameters(), again.parameters()):
            p.data, q.data = p.data * 0.9, q.data * 0.9
        assert facts(c(X)) == facts(again(X))
        if k == 12:
            before = looks(c)
    assert looks(c) == before
    m.layers[0].linear.weight.data = m.layers[0].linear.weight.data.double()
    with pytest.raises(RuntimeError):
        c(X)


def test_what_changes_without_use_is_remembered_more_rarely():
    m = Net()
    c = compile(m, backend="eager")
    c(X)
    [found] = memos(c)
    for k in range(12):
        m.layers[k % 3].gain = float("2.0")          # another float, equal to the one before
        c(X)
    assert found.renewals < 8


def test_two_models_of_one_entry_are_remembered_apart():
    one, two = Net(), Net()

    def call(m, x):
        return m(x)
    c = compile(call, backend="eager")
    for _ in range(5):
        c(one, X), c(two, X)
    [found] = memos(c)
    assert len(found.states) == 2 and found.looks == 2
    two.layers[1].gain = 3.0
    one.eval(), two.eval()
    assert facts(c(one, X)) == facts(one(X)) and facts(c(two, X)) == facts(two(X)) != facts(one(X))


def test_memory_ends_with_the_model():
    def call(m, x):
        return m(x)
    c = compile(call, backend="eager")
    m = Net()
    c(m, X), c(m, X)
    [found] = memos(c)
    ref, inner = weakref.ref(m), weakref.ref(m.layers[0])
    assert len(found.states) == 1
    del m
    gc.collect()
    assert ref() is None and inner() is None and not found.states


# --------------------------------------------------------------------------- ways around

def _swap_names(m):
    layer = m.layers[0]
    layer.gain, layer.unread = layer.unread, layer.gain


def _another_table(m):
    object.__setattr__(m.layers, "_modules", dict(reversed(m.layers._modules.items())))
    m.layers._modules["1"] = nn.Identity()


def _new_dict(m):
    m.layers[0].__dict__ = {**m.layers[0].__dict__, "gain": 5.0}


def _hidden_forward(m):
    object.__setattr__(m.layers[1], "forward", lambda x: x * 7)


def _property(m):
    class Layer(type(m.layers[0])):
        gain = property(lambda self: 9.0, lambda self, value: None)
    m.layers[0].__class__ = Layer


def _getattribute(m):
    class Odd(Layer):
        def __getattribute__(self, name):
            return 4.0 if name == "gain" else super().__getattribute__(name)
    m.layers[2].__class__ = Odd


def _hook(m):
    OrderedDict.__setitem__(m.layers[1]._forward_hooks, 7, lambda module, args, out: out + 1)


def _hook_table(m):
    table = OrderedDict()
    table[1] = lambda module, args, out: out * 3
    object.__setattr__(m.layers[0].linear, "_forward_hooks", table)


def _new_weight(m):
    m.layers[0].linear._parameters["weight"] = nn.Parameter(rand(3, 3, seed=5))


def _equal_weight_without_grad(m):
    w = m.layers[0].linear.weight
    dict.__setitem__(m.layers[0].linear._parameters, "weight", nn.Parameter(w.detach().clone() * 2, requires_grad=False))


def _other_buffer(m):
    m.norm._buffers["running_mean"] = flambeau.ones(3) * 7
    m.eval()


def _no_bias(m):
    m.layers[0].linear.bias = None


def _no_buffers(m):
    m.norm.eval()
    m.norm.running_mean = m.norm.running_var = None


WAYS = {
    "setattr": lambda m: setattr(m.layers[1], "gain", 3.0),
    "object.__setattr__": lambda m: object.__setattr__(m.layers[1], "gain", 3.0),
    "object.__setattr__ of training": lambda m: object.__setattr__(m.norm, "training", False),
    "__dict__": lambda m: m.layers[2].__dict__.__setitem__("gain", 3.0),
    "vars": lambda m: vars(m.layers[2]).update(gain=3.0),
    "dict.__setitem__": lambda m: dict.__setitem__(vars(m.layers[2]), "gain", 3.0),
    "a tuple": lambda m: object.__setattr__(m.layers[2], "sizes", (1, 5)),
    "an int for a float": lambda m: object.__setattr__(m.layers[2], "gain", 1),
    "eval": lambda m: m.eval(),
    "a list": lambda m: m.layers[1].parts.__setitem__(0, 5.0),
    "a longer list": lambda m: m.layers[1].parts.append(5.0),
    "a list turned round": lambda m: m.layers[1].parts.__setitem__(slice(None), [3.0, nn.ReLU(), 2]),
    "a module in a list": lambda m: vars(m.layers[1].parts[1]).update(forward=lambda x: x * 3),
    "another dict": _new_dict,
    "_modules": lambda m: m.layers._modules.update({"1": nn.Identity()}),
    "_modules popped": lambda m: m.layers._modules.pop("1"),
    "another _modules": _another_table,
    "swapped": _swap_names,
    "forward of the object": lambda m: setattr(m.layers[1], "forward", lambda x: x * 7),
    "hidden forward of the object": _hidden_forward,
    "hook": lambda m: m.layers[1].register_forward_hook(lambda module, args, out: out + 1),
    "hook in the table": _hook,
    "another table of hooks": _hook_table,
    "class": lambda m: setattr(m.layers[1], "__class__", type("Other", (Layer,), {"forward": lambda self, x: x - 1})),
    "class of the object, hidden": lambda m: object.__setattr__(
        m.layers[1], "__class__", type("Other", (Layer,), {"forward": lambda self, x: x - 1})),
    "property of another class": _property,
    "__getattribute__ of another class": _getattribute,
    "new weight": _new_weight,
    "new weight of another kind": _equal_weight_without_grad,
    "other buffer": _other_buffer,
    "no bias": _no_bias,
    "requires_grad": lambda m: m.layers[0].linear.weight.requires_grad_(False),
    "all requires_grad": lambda m: m.requires_grad_(False),
    "data of another dtype": lambda m: (m.double(), None)[1],
    "data of another shape": lambda m: setattr(m.norm.weight, "data", rand(1)),
    "deleted": lambda m: delattr(m.layers[1], "gain"),
    "deleted from the dict": lambda m: vars(m.layers[1]).pop("gain"),
    "momentum": lambda m: setattr(m.norm, "momentum", None),
    "no buffers": _no_buffers,
}


UNSEEN = {"requires_grad"}  # in the result: it shows in the gradients


def result(fn, *args):
    model = getattr(type(fn), "_orig_mod", args[0] if isinstance(args[0], nn.Module) else fn)
    try:
        return facts(fn(*args)), facts(model.norm.running_mean if hasattr(model, "norm") else None)
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("name", list(WAYS))
def test_no_way_around_goes_unseen(name):
    def fresh():
        flambeau.manual_seed(1)
        return Net()
    m, again = fresh(), fresh()
    c = compile(m, backend="eager")
    for _ in range(3):
        c(X), again(X)
    assert memos(c)[0].looks == 1
    before = result(Net.__call__, copy.deepcopy(again), X)
    flambeau.manual_seed(2)
    WAYS[name](m)
    flambeau.manual_seed(2)
    WAYS[name](again)
    assert (result(Net.__call__, copy.deepcopy(again), X) == before) == (name in UNSEEN), "the change is to show"
    for _ in range(3):
        assert result(c, X) == result(again, X)
    assert name not in UNSEEN or gradients(c) == gradients(again)


def gradients(fn):
    owner = getattr(type(fn), "_orig_mod", fn)
    fn(X).sum().backward()
    found = [p.grad is not None for p in owner.parameters()]
    owner.zero_grad()
    return found


def test_classes_are_watched():
    class Mine(Layer):
        pass
    m = Net()
    m.layers[1] = Mine()
    c = compile(m, backend="eager")
    c(X), c(X)
    Mine.gain = property(lambda self: 11.0, lambda self, value: None)
    assert facts(c(X)) == facts(m(X))
    del Mine.gain
    c(X), c(X)
    Mine.__getattribute__ = lambda self, name: 6.0 if name == "gain" else object.__getattribute__(self, name)
    assert facts(c(X)) == facts(m(X))
    del Mine.__getattribute__

    class Base(Layer):
        gain = property(lambda self: 12.0, lambda self, value: None)
    c(X), c(X)
    Mine.__bases__ = (Base,)
    assert facts(c(X)) == facts(m(X))


def test_an_array_reshaped_behind_a_tensor():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Identity()
            self.w = nn.Parameter(rand(3, 4), requires_grad=False)

        def forward(self, x):
            return self.inner(x).sum() + self.w.sum(0)
    m = Scaled()
    c = compile(m, backend="eager")
    c(X), c(X)
    m.w.numpy().shape = (4, 3)
    assert facts(c(X)) == facts(m(X))
    m.w.numpy().dtype = "int32"
    m.w._dtype = None
    assert result(c, X) == result(m, X)
    m.w.data = rand(4, 3)
    c(X), c(X)
    m.w.t_()
    assert facts(c(X)) == facts(m(X))


def test_keys_that_change_their_hash():
    class Key:
        k = 1

        def __hash__(self):
            return self.k

        def __eq__(self, other):
            return self.k == getattr(other, "k", None)
    watcher, key = words.Watcher(), Key()
    with pytest.raises(words.Unwatchable):
        watcher.item({key: 1}, key)
    with pytest.raises(words.Unwatchable):
        watcher.contains({}, (1, key))
    assert watcher.item({X: 5}, X) == 5


def test_globals_and_cells_name_another_model():
    m = Net()

    def call(x):
        return m(x)
    c = compile(call, backend="eager")
    c(X), c(X)
    flambeau.manual_seed(9)
    m = Net().eval()
    m.layers[0].gain = 4.0
    assert facts(c(X)) == facts(call(X))


def test_threads_that_change_a_model():
    m = nn.Sequential(*[Layer() for _ in range(3)]).eval()

    def call(x):
        return m(x)
    c = compile(call, backend="eager", options={"recompile_limit": 100})
    zero, wrong, gains = flambeau.zeros(1, 3), [], [float(k) for k in range(6)]
    for layer in m:
        nn.init.zeros_(layer.linear.weight)
        nn.init.ones_(layer.linear.bias)
    expected = {}
    for g in gains:
        m[2].gain = g
        expected[g] = facts(c(zero))
    allowed = set(map(repr, expected.values()))
    stop = threading.Event()

    def reads():
        while not stop.is_set():
            if repr(facts(c(zero))) not in allowed:
                wrong.append(1)
    readers = [threading.Thread(target=reads) for _ in range(2)]
    for t in readers:
        t.start()
    for k in range(150):
        object.__setattr__(m[2], "gain", gains[k % 6])
        if facts(c(zero)) != expected[gains[k % 6]]:
            wrong.append(2)
    stop.set()
    for t in readers:
        t.join()
    assert not wrong


TRAPS = {f"{module.__name__.rpartition('_')[2]} {name}": trap for module in (
    test_traps_modules, test_traps_state, test_traps_tensors) for name, trap in getattr(module, "TRAPS", {}).items()}


@pytest.mark.parametrize("name", list(TRAPS))
@pytest.mark.filterwarnings("ignore::flambeau.frontend.points.RecompileWarning")
def test_no_trap_springs_on_what_is_remembered(name):
    spring(TRAPS[name])


def test_so_many_models_are_remembered_and_no_more(monkeypatch):
    monkeypatch.setattr(memo, "_MOST", 3)

    def call(m, x):
        return m(x)
    c = compile(call, backend="eager")
    models = [Layer() for _ in range(5)]
    for _ in range(3):
        for m in models:
            assert facts(c(m, X)) == facts(m(X))
    [found] = memos(c)
    assert len(found.states) == 3 and found.renewals == 3 and found.looks == 3 + 3 * 2
    del m, models[0]
    gc.collect()
    assert len(found.states) == 2

"""Module: registration, iteration, state, hooks, modes, copies; containers."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.nn.functional as F
from flambeau import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.rest = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 1, bias=False))
        self.scale = nn.Parameter(flambeau.ones(1))
        self.register_buffer("offset", flambeau.zeros(1))
        self.register_buffer("scratch", flambeau.zeros(1), persistent=False)

    def forward(self, x: Any) -> Any:
        return self.rest(self.first(x)) * self.scale + self.offset


KEYS = ["scale", "offset", "first.weight", "first.bias", "rest.0.weight", "rest.0.bias", "rest.0.running_mean",
        "rest.0.running_var", "rest.0.num_batches_tracked", "rest.2.weight"]


def test_names_of_everything() -> None:
    net = Net()
    assert list(net.state_dict()) == KEYS
    assert [n for n, _ in net.named_parameters()] == ["scale", "first.weight", "first.bias", "rest.0.weight", "rest.0.bias",
                                                      "rest.2.weight"]
    assert [n for n, _ in net.named_buffers()] == ["offset", "scratch", "rest.0.running_mean", "rest.0.running_var",
                                                   "rest.0.num_batches_tracked"]
    assert [n for n, _ in net.named_modules()] == ["", "first", "rest", "rest.0", "rest.1", "rest.2"]
    assert [n for n, _ in net.named_children()] == ["first", "rest"]
    assert net.get_submodule("rest.2") is net.rest[2] and net.get_parameter("rest.2.weight") is net.rest[2].weight
    assert net.get_buffer("rest.0.running_mean") is net.rest[0].running_mean


def test_shared_parameters_are_listed_once() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    assert len(list(net.parameters())) == 3 and len(net.state_dict()) == 4
    assert len(list(net.named_parameters(remove_duplicate=False))) == 4


def test_assignment_rules() -> None:
    net = nn.Linear(2, 3)
    with pytest.raises(TypeError, match="cannot assign 'torch.FloatTensor' as parameter 'weight'"):
        net.weight = flambeau.ones(3, 2)
    net.bias = None
    assert net._parameters["bias"] is None and "bias" not in net.state_dict()
    net.extra = nn.Parameter(flambeau.ones(1))
    assert "extra" in net._parameters and "extra" not in net.__dict__
    net.extra = None
    del net.extra
    assert not hasattr(net, "extra")
    net.child = nn.ReLU()
    with pytest.raises(TypeError, match="as child module 'child'"):
        net.child = 3
    net.plain = flambeau.ones(1)
    assert "plain" not in net.state_dict()
    with pytest.raises(AttributeError, match="cannot assign module before Module.__init__"):
        class Early(nn.Module):
            def __init__(self) -> None:
                self.child = nn.ReLU()
        Early()


@pytest.mark.parametrize("use,kind,text", [
    (lambda m: m.register_parameter("weight.x", None), KeyError, "can.*t contain"),
    (lambda m: m.register_parameter("", None), KeyError, "empty string"),
    (lambda m: m.register_buffer("weight", None), KeyError, "already exists"),
    (lambda m: m.register_buffer("b", 3), TypeError, "torch Tensor or None required"),
    (lambda m: m.register_parameter("p", flambeau.ones(1)), TypeError, "torch.nn.Parameter or None required"),
    (lambda m: m.add_module("x", 3), TypeError, "is not a Module subclass"),
    (lambda m: m.nothing, AttributeError, "'Linear' object has no attribute 'nothing'"),
    (lambda m: m.get_submodule("nothing"), AttributeError, "Linear has no attribute `nothing`"),
    (lambda m: m.train("yes"), ValueError, "training mode is expected to be boolean"),
    (lambda m: m.to(flambeau.int64), TypeError, "only accepts floating point or complex dtypes"),
    (lambda m: nn.Module()(1), NotImplementedError, 'Module \\[Module\\] is missing the required "forward" function'),
    (lambda m: nn.Module(3), TypeError, "takes 1 positional argument but 2 were given"),
])
def test_refusals(use: Any, kind: type, text: str) -> None:
    with pytest.raises(kind, match=text):
        use(nn.Linear(2, 3))


def test_repr() -> None:
    assert repr(Net()) == """Net(
  (first): Linear(in_features=2, out_features=3, bias=True)
  (rest): Sequential(
    (0): BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
    (1): ReLU()
    (2): Linear(in_features=3, out_features=1, bias=False)
  )
)"""


# ---- state --------------------------------------------------------------------------------------------------------


def test_state_dict_shares_storage_and_loads_in_place() -> None:
    net, other = Net(), Net()
    weight = net.first.weight
    assert net.state_dict()["first.weight"].data_ptr() == weight.data_ptr()
    assert not net.state_dict()["first.weight"].requires_grad and net.state_dict(keep_vars=True)["first.weight"] is weight
    result = net.load_state_dict(other.state_dict())
    assert repr(result) == "<All keys matched successfully>"
    assert net.first.weight is weight and weight.tolist() == other.first.weight.tolist()
    assert net.state_dict()._metadata["rest.0"] == {"version": 2}


def test_load_state_dict_reports_everything_at_once() -> None:
    state = OrderedDict(Net().state_dict())
    del state["scale"], state["rest.2.weight"]
    state["rest.9.weight"] = flambeau.ones(1)
    state["first.bias"] = flambeau.ones(4)
    with pytest.raises(RuntimeError) as info:
        Net().load_state_dict(state)
    assert str(info.value) == (
        'Error(s) in loading state_dict for Net:\n\tMissing key(s) in state_dict: "scale", "rest.2.weight". \n\t'
        'Unexpected key(s) in state_dict: "rest.9.weight". \n\tsize mismatch for first.bias: copying a param with shape '
        'torch.Size([4]) from checkpoint, the shape in current model is torch.Size([3]).')
    del state["first.bias"]
    result = Net().load_state_dict(state, strict=False)
    assert result.missing_keys == ["scale", "first.bias", "rest.2.weight"] and result.unexpected_keys == ["rest.9.weight"]


def test_load_with_assign_takes_the_tensors() -> None:
    net, state = nn.Linear(2, 3), nn.Linear(2, 3).double().state_dict()
    net.load_state_dict(state, assign=True)
    assert net.weight.dtype is flambeau.float64 and isinstance(net.weight, nn.Parameter) and net.weight.requires_grad
    assert net.weight.data_ptr() == state["weight"].data_ptr()


def test_extra_state_travels() -> None:
    class Extra(nn.Module):
        value = 1

        def get_extra_state(self) -> int:
            return self.value

        def set_extra_state(self, state: int) -> None:
            self.value = state

    a, b = Extra(), Extra()
    a.value = 7
    b.load_state_dict(a.state_dict())
    assert list(a.state_dict()) == ["_extra_state"] and b.value == 7


def test_pickle_and_deepcopy() -> None:
    net = Net()
    for other in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert repr(other) == repr(net) and list(other.state_dict()) == KEYS
        for a, b in zip(net.parameters(), other.parameters()):
            assert a.tolist() == b.tolist() and a.data_ptr() != b.data_ptr() and b.requires_grad


# ---- changing all of it -------------------------------------------------------------------------------------------


def test_train_eval_apply_and_grads() -> None:
    net = Net()
    assert net.training and not net.eval().training and not net.rest[0].training
    seen: list[str] = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "BatchNorm1d", "ReLU", "Linear", "Sequential", "Net"]
    net(flambeau.ones(4, 2)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert net.first.weight.grad.tolist() == [[0.0] * 2] * 3
    net.zero_grad()
    assert net.first.weight.grad is None
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())


def test_casts_keep_identity_and_spare_integers() -> None:
    net = Net()
    weight, seen = net.first.weight, net.rest[0].num_batches_tracked
    net(flambeau.ones(4, 2)).sum().backward()
    net.double()
    assert net.first.weight is weight and weight.dtype is flambeau.float64 and weight.grad.dtype is flambeau.float64
    assert net.rest[0].running_mean.dtype is flambeau.float64 and net.rest[0].num_batches_tracked.dtype is seen.dtype
    assert net.to(flambeau.float32)(flambeau.ones(4, 2)).dtype is flambeau.float32


# ---- hooks --------------------------------------------------------------------------------------------------------


def test_forward_hooks_in_order() -> None:
    net, calls = nn.Linear(1, 1), []
    net.register_forward_pre_hook(lambda m, args: calls.append("pre"))
    net.register_forward_pre_hook(lambda m, args: (args[0] * 2,), prepend=True)
    after = net.register_forward_hook(lambda m, args, out: calls.append(args[0].item()))
    net.register_forward_hook(lambda m, args, out: out * 0 + 5)
    assert net(flambeau.ones(1)).item() == 5.0 and calls == ["pre", 2.0]
    after.remove()
    net(flambeau.ones(1))
    assert calls == ["pre", 2.0, "pre"]


def test_hooks_with_kwargs_and_always_called() -> None:
    class Adds(nn.Module):
        def forward(self, x: Any, *, y: Any = 0) -> Any:
            if y == 13:
                raise ValueError
            return x + y

    net, calls = Adds(), []
    net.register_forward_pre_hook(lambda m, args, kwargs: (args, {"y": kwargs["y"] + 1}), with_kwargs=True)
    net.register_forward_hook(lambda m, args, kwargs, out: calls.append(kwargs["y"]), with_kwargs=True, always_call=True)
    assert net(1, y=2) == 4 and calls == [3]
    with pytest.raises(ValueError):
        net(1, y=12)
    assert calls == [3, 13]


def test_backward_hooks() -> None:
    net, seen = nn.Linear(2, 1, bias=False), []
    net.register_full_backward_pre_hook(lambda m, grads: (grads[0] * 2,))
    net.register_full_backward_hook(lambda m, gin, gout: seen.append((gin[0].tolist(), gout[0].tolist())))
    x = flambeau.ones(1, 2, requires_grad=True)
    net(x).sum().backward()
    weight = net.weight.tolist()[0]
    np.testing.assert_allclose(x.grad.numpy(), [[2 * w for w in weight]], rtol=1e-6)
    np.testing.assert_allclose(seen[0][0], x.grad.numpy())
    assert seen[0][1] == [[2.0]]


def test_backward_hook_without_input_gradients() -> None:
    net, seen = nn.Linear(2, 1), []
    net.register_full_backward_hook(lambda m, gin, gout: seen.append((gin, gout[0].tolist())))
    net(flambeau.ones(1, 2)).sum().backward()
    assert seen == [((None,), [[1.0]])]


def test_global_hooks() -> None:
    from flambeau.nn import hooks
    seen = []
    with hooks.register_module_forward_hook(lambda m, args, out: seen.append(type(m).__name__)):
        nn.Sequential(nn.Linear(1, 1))(flambeau.ones(1))
    nn.Linear(1, 1)(flambeau.ones(1))
    assert seen == ["Linear", "Sequential"]


def test_state_dict_hooks() -> None:
    net = nn.Linear(1, 1)
    net.register_state_dict_post_hook(lambda m, state, prefix, meta: state.update({prefix + "more": flambeau.ones(1)}))
    assert list(net.state_dict()) == ["weight", "bias", "more"]
    other = nn.Linear(1, 1)
    other.register_load_state_dict_pre_hook(lambda m, state, prefix, *rest: state.pop(prefix + "more"))
    other.register_load_state_dict_post_hook(lambda m, keys: keys.missing_keys.clear())
    other.load_state_dict(net.state_dict())


# ---- containers ---------------------------------------------------------------------------------------------------


def test_sequential() -> None:
    a, b, c = nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)
    net = nn.Sequential(OrderedDict(a=a, b=b)).append(c)
    assert list(net._modules) == ["a", "b", "2"] and net[-1] is c and net.a is a and len(net) == 3
    assert list(net[:2]._modules) == ["a", "b"]
    net.insert(1, nn.Tanh())
    assert [type(m).__name__ for m in net] == ["Linear", "Tanh", "ReLU", "Linear"]
    del net[1]
    assert net.pop(-1) is c and len(net + nn.Sequential(c)) == 3
    with pytest.raises(IndexError, match="out of range"):
        net[5]


def test_module_list_and_dict() -> None:
    items = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])
    items.insert(0, nn.ReLU())
    items += [nn.Tanh()]
    assert len(items) == 4 and type(items[1:]) is nn.ModuleList and "1.weight" in items.state_dict()
    assert repr(items) == ("ModuleList(\n  (0): ReLU()\n  (1-2): 2 x Linear(in_features=1, out_features=1, bias=True)\n"
                           "  (3): Tanh()\n)")
    named = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Tanh()})
    named.update([("c", nn.Linear(1, 1))])
    assert list(named) == ["a", "b", "c"] and "a" in named and named.pop("a") and len(named) == 2


def test_parameter_containers() -> None:
    items = nn.ParameterList([flambeau.ones(2), flambeau.ones(3)])
    items.append(nn.Parameter(flambeau.ones(1)))
    assert [n for n, _ in items.named_parameters()] == ["0", "1", "2"] and len(items) == 3
    assert repr(items).splitlines()[1] == "    (0): Parameter containing: [torch.float32 of size 2]"
    named = nn.ParameterDict({"a": flambeau.ones(2)})
    named["b"] = nn.Parameter(flambeau.ones(1))
    assert list(named.keys()) == ["a", "b"] and isinstance(named["a"], nn.Parameter) and len(list(named.parameters())) == 2


# ---- parameters ---------------------------------------------------------------------------------------------------


def test_parameter() -> None:
    data = flambeau.ones(2)
    p = nn.Parameter(data)
    assert isinstance(p, flambeau.Tensor) and p.requires_grad and p.is_leaf and p.data_ptr() == data.data_ptr()
    assert repr(p) == "Parameter containing:\ntensor([1., 1.], requires_grad=True)"
    assert not isinstance(p * 1, nn.Parameter)
    with pytest.raises(RuntimeError, match="only Tensors of floating point"):
        nn.Parameter(flambeau.ones(2, dtype=flambeau.int64))


def test_gradients_can_be_clipped() -> None:
    p = nn.Parameter(flambeau.ones(4))
    p.grad = flambeau.ones(4) * 3
    assert nn.utils.clip_grad_norm_([p], 1.5).item() == pytest.approx(6.0)
    np.testing.assert_allclose(p.grad.numpy(), 0.75, rtol=1e-5)
    nn.utils.clip_grad_value_(p, 0.5)
    np.testing.assert_allclose(p.grad.numpy(), 0.5)
    vector = nn.utils.parameters_to_vector([p, p])
    nn.utils.vector_to_parameters(vector[:4] * 2, [p])
    assert p.tolist() == [2.0] * 4


def test_functional_names_reach_the_ops() -> None:
    x = flambeau.tensor([-1.0, 2.0])
    assert F.relu(x).tolist() == [0.0, 2.0] and x.tolist() == [-1.0, 2.0]
    assert F.relu(x, inplace=True) is x and x.tolist() == [0.0, 2.0]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        F.nothing()

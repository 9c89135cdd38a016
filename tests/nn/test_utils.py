"""What parametrizations, hooks on weights, pruning and modules without data promise, by its own meaning."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest

import flambeau as fl
from flambeau import nn
from flambeau.nn.utils import parametrizations, parametrize, prune


def test_orthogonal_matrices_stay_orthogonal_while_they_are_trained():
    layers = [parametrizations.orthogonal(nn.Linear(4, 4)), parametrizations.orthogonal(nn.Linear(3, 5), orthogonal_map="cayley"),
              parametrizations.orthogonal(nn.Linear(5, 3), orthogonal_map="householder")]
    for layer in layers:
        before = layer.weight.detach().clone()
        optimizer = fl.optim.SGD(layer.parameters(), lr=0.1)
        (layer(fl.ones(2, layer.in_features)) ** 2).sum().backward()
        optimizer.step()
        w = layer.weight.detach().numpy()
        small = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
        np.testing.assert_allclose(small, np.eye(len(small)), atol=1e-5)
        assert not np.allclose(w, before.numpy())


def test_an_orthogonal_matrix_can_be_assigned():
    layer = parametrizations.orthogonal(nn.Linear(3, 3))
    wanted = fl.tensor([[0.0, 1, 0], [0, 0, -1], [1, 0, 0]])
    layer.weight = wanted
    np.testing.assert_allclose(layer.weight.detach().numpy(), wanted.numpy(), atol=1e-6)


@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_the_largest_singular_value_becomes_one(norm):
    layer = norm(nn.Linear(6, 4), n_power_iterations=50)
    layer(fl.ones(1, 6))
    layer.eval()
    assert np.linalg.svd(layer.weight.detach().numpy(), compute_uv=False)[0] == pytest.approx(1, abs=1e-4)
    u = dict(layer.named_buffers())
    layer(fl.ones(1, 6))  # in evaluation nothing moves
    assert all((a == b).all() for a, b in zip(u.values(), dict(layer.named_buffers()).values()))


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, nn.utils.weight_norm])
def test_length_and_direction_make_the_same_weight(norm):
    layer = nn.Linear(4, 3)
    before = layer.weight.detach().clone()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = norm(layer)
    np.testing.assert_allclose(layer.weight.detach().numpy(), before.numpy(), rtol=1e-6)
    assert sorted(tuple(p.shape) for p in layer.parameters()) == [(3,), (3, 1), (3, 4)]


class Double(nn.Module):
    calls = 0

    def forward(self, x):
        Double.calls += 1
        return x * 2

    def right_inverse(self, x):
        return x / 2


def test_a_parametrized_tensor_is_computed_at_each_reading_or_once_in_a_cache():
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Double())
    Double.calls = 0
    assert layer.weight is not layer.weight and Double.calls == 2
    with parametrize.cached():
        assert layer.weight is layer.weight and Double.calls == 3
    assert layer.weight is not layer.weight


def test_parametrized_modules_are_copied_but_not_pickled():
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Double())
    twin = copy.deepcopy(layer)
    with fl.no_grad():
        twin.weight = fl.ones(2, 2)
    assert (twin.weight == 1).all() and not (layer.weight == 1).all()
    assert type(layer).__name__ == "ParametrizedLinear" and "parametrizations" in repr(layer)
    with pytest.raises(RuntimeError, match="state_dict"):
        pickle.dumps(layer)
    assert type(parametrize.remove_parametrizations(layer, "weight")) is nn.Linear
    assert list(layer.state_dict()) == ["bias", "weight"]


def test_parametrized_modules_are_compiled():
    layer = parametrizations.weight_norm(nn.Linear(3, 2))
    x = fl.ones(2, 3)
    np.testing.assert_allclose(fl.compile(layer)(x).detach().numpy(), layer(x).detach().numpy(), rtol=1e-5)


def test_pruned_numbers_stay_zero_in_training():
    layer = prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5)
    optimizer = fl.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (layer(fl.ones(2, 4)) ** 2).sum().backward()
        optimizer.step()
    layer(fl.ones(2, 4))
    assert (layer.weight == 0).sum() == 8 and prune.is_pruned(layer)
    prune.remove(layer, "weight")
    assert (layer.weight == 0).sum() == 8 and not prune.is_pruned(layer)


def test_modules_without_data_cost_nothing_and_are_filled_later():
    with_shapes = nn.Sequential(nn.Linear(1 << 20, 1 << 12, device="meta"), nn.BatchNorm1d(1 << 12, device="meta"))  # 16 GiB
    out = with_shapes(fl.empty(2, 1 << 20, device="meta"))
    assert out.shape == (2, 1 << 12) and out.is_meta and out.requires_grad
    with pytest.raises(NotImplementedError, match="to_empty"):
        with_shapes.to("cpu")
    with pytest.raises(RuntimeError, match="meta"):
        out.sum().item()
    small, source = nn.Linear(3, 2, device="meta"), nn.Linear(3, 2)
    with pytest.warns(UserWarning, match="assign=True"):
        small.load_state_dict(source.state_dict())
    small.load_state_dict(source.state_dict(), assign=True)
    assert (small(fl.ones(1, 3)) == source(fl.ones(1, 3))).all()
    assert nn.Linear(3, 2, device="meta").to_empty(device="cpu").weight.device.type == "cpu"


def test_skipping_initial_values_draws_nothing():
    fl.manual_seed(5)
    first = fl.rand(3)
    fl.manual_seed(5)
    assert nn.utils.skip_init(nn.Linear, 4, 3).weight.shape == (3, 4)
    assert (fl.rand(3) == first).all()


def test_copies_of_lazy_layers_learn_for_themselves():
    layer = nn.LazyConv2d(2, 3)
    twin = copy.deepcopy(layer)
    assert twin(fl.ones(1, 3, 5, 5)).shape == (1, 2, 3, 3)
    assert twin.in_channels == 3 and type(twin) is nn.Conv2d
    assert layer.has_uninitialized_params() and repr(layer.weight) == "<UninitializedParameter>"
    assert layer(fl.ones(1, 4, 5, 5)).shape == (1, 2, 3, 3)
    with pytest.raises(ValueError, match="uninitialized"):
        nn.LazyLinear(2).weight + 1


def test_registration_hooks_replace_what_is_registered():
    from flambeau.nn.modules.module import register_module_parameter_registration_hook as register  # noqa: PLC0415
    with register(lambda module, name, p: nn.Parameter(p.detach() * 0) if name == "bias" else None):
        layer = nn.Linear(2, 2)
        layer.bias = nn.Parameter(fl.ones(2))
    assert (layer.bias == 0).all() and not (layer.weight == 0).all()


def test_fused_normalisation_computes_the_same():
    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    x = fl.randn(2, 3, 6, 6)
    norm(conv(x))
    conv.eval(), norm.eval()
    fused = nn.utils.fuse_conv_bn_eval(conv, norm)
    np.testing.assert_allclose(fused(x).detach().numpy(), norm(conv(x)).detach().numpy(), atol=1e-5)
    with pytest.raises(AssertionError, match="eval"):
        nn.utils.fuse_conv_bn_eval(conv.train(), norm)

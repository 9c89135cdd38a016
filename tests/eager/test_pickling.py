"""What programs pickle besides tensors: functions by name, modules, losses, optimizers, generators."""

from __future__ import annotations

import copy
import io
import pickle

import pytest

import flambeau as fl
import flambeau.nn.functional as F
from flambeau.ir import late
from flambeau.ir.op import PUBLIC


def test_public_functions_are_found_again():
    late.load_all()
    for space, names in PUBLIC.items():
        for name, fn in names.items() if space not in ("Tensor", "aten") else ():
            assert pickle.loads(pickle.dumps(fn)) is fn, (space, name)
    assert pickle.loads(pickle.dumps([fl.relu, F.gelu, fl.linalg.inv, fl.special.erf])) == [fl.relu, F.gelu, fl.linalg.inv,
                                                                                            fl.special.erf]


def modules():
    return [fl.nn.TransformerEncoderLayer(8, 2, 16), fl.nn.LSTM(3, 4, 2),
            fl.nn.Sequential(fl.nn.Conv2d(1, 2, 3), fl.nn.BatchNorm2d(2)),
            fl.nn.MultiheadAttention(8, 2), fl.nn.ModuleDict({"a": fl.nn.Linear(2, 2)}), fl.nn.ParameterList([fl.ones(2)]),
            fl.nn.Embedding(5, 3, padding_idx=0), fl.nn.CrossEntropyLoss(weight=fl.ones(3)), fl.nn.Flatten(), fl.nn.GELU("tanh")]


@pytest.mark.parametrize("number", range(len(modules())))
def test_modules_come_back_whole(number):
    module = modules()[number].eval()
    file = io.BytesIO()
    fl.save(module, file)
    file.seek(0)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        fl.load(file)
    file.seek(0)
    with pytest.warns(FutureWarning):
        loaded = fl.load(file, weights_only=False)
    for again in (pickle.loads(pickle.dumps(module)), loaded, copy.deepcopy(module)):
        assert repr(again) == repr(module) and not again.training and type(again) is type(module)
        state = again.state_dict()
        assert list(state) == list(module.state_dict())
        assert all(state[k].tolist() == v.tolist() for k, v in module.state_dict().items())


def test_optimizers_generators_and_distributions():
    model = fl.nn.Linear(2, 2)
    optimizer = fl.optim.Adam(model.parameters())
    model(fl.ones(1, 2)).sum().backward()
    optimizer.step()
    (again_model, again) = pickle.loads(pickle.dumps((model, optimizer)))
    assert again.param_groups[0]["params"][0] is again_model.weight and again.state[again_model.weight]["step"].item() == 1
    g = fl.Generator().manual_seed(5)
    fl.rand(3, generator=g)
    assert fl.rand(2, generator=pickle.loads(pickle.dumps(g))).tolist() == fl.rand(2, generator=g).tolist()
    d = pickle.loads(pickle.dumps(fl.distributions.LogNormal(0.0, 1.0)))
    assert d.log_prob(fl.tensor(1.0)).item() == pytest.approx(-0.9189385)

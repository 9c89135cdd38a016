"""Programs and libraries import from the files that PyTorch keeps things in, private names among them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from flambeau import nn, optim

IMPORTS = """
from torch.nn.common_types import _size_2_t, _size_any_t
from torch.nn.functional import _Reduction
from torch.nn.grad import conv2d_input
from torch.nn.init import _calculate_correct_fan, _calculate_fan_in_and_fan_out, _no_grad_normal_
from torch.nn.modules.adaptive import AdaptiveLogSoftmaxWithLoss
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.container import ModuleList, Sequential
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.distance import PairwiseDistance
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.modules.loss import _Loss, _WeightedLoss
from torch.nn.modules.module import Module, _addindent, register_module_forward_hook
from torch.nn.modules.padding import _ConstantPadNd
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd
from torch.nn.modules.rnn import RNNBase, RNNCellBase
from torch.nn.modules.transformer import _get_activation_fn, _get_clones
from torch.nn.modules.upsampling import Upsample
from torch.nn.modules.utils import _ntuple, _pair, _quadruple, _reverse_repeat_tuple, _single, _triple
from torch.nn.parallel import DataParallel
from torch.nn.parameter import Parameter, UninitializedParameter
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import prune, parametrize, remove_weight_norm, spectral_norm, weight_norm
from torch.nn.utils.convert_parameters import parameters_to_vector
from torch.nn.utils.parametrizations import orthogonal
from torch.nn.utils.stateless import functional_call
import torch.nn.utils.prune
from torch.optim.adamw import AdamW
from torch.optim.lr_scheduler import LRScheduler, _LRScheduler
from torch.optim.optimizer import Optimizer, ParamsT, required
from torch.optim.swa_utils import AveragedModel
assert _pair(3) == (3, 3) and _pair([1, 2]) == (1, 2) and _reverse_repeat_tuple((1, 2), 2) == (2, 2, 1, 1)
assert _BatchNorm in torch.nn.BatchNorm2d.__mro__ and _Reduction.get_enum("sum") == 2
"""


def test_names_are_where_programs_look_for_them() -> None:
    program = "import flambeau\nflambeau.as_torch()\nimport torch\n" + IMPORTS
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_each_class_is_where_the_table_of_lazy_imports_says() -> None:
    files = {file: names.split() for file, names in nn._FAMILIES.items()}
    for file, names in files.items():
        module = importlib.import_module(f"flambeau.nn.{file}")
        assert sorted(names) == sorted(module.__all__), file
        assert all(getattr(nn, name) is getattr(module, name) for name in names)
    folder = Path(nn.__file__).parent
    known = {*files, *nn._FILES, "functional", "init", "parameter", "module"}
    assert {path.stem for path in folder.glob("*.py")} - {"__init__", "_reduction", "common_types", "hooks", "state"} <= known
    with pytest.raises(AttributeError, match="has no attribute 'Linaer'"):
        nn.Linaer  # noqa: B018


def test_each_optimizer_is_where_the_lazy_import_looks() -> None:
    folder = Path(optim.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} == {"__init__", "optimizer", *optim._FILES}
    for name in optim.__all__:
        assert getattr(optim, name).__name__.rpartition(".")[2] == name
    with pytest.raises(AttributeError, match="has no attribute 'Adma'"):
        optim.Adma  # noqa: B018


def test_a_small_model_imports_few_files() -> None:
    text = "import sys; from flambeau import nn; nn.Sequential(nn.Linear(2, 2), nn.ReLU()); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout.split()
    assert not {f"flambeau.nn.{file}" for file in ("conv", "rnn", "transformer", "utils", "modules")} & set(found)
    assert "numpy.random" not in found

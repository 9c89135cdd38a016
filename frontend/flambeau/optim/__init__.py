"""Optimizers and learning-rate schedules (PyTorch: ``torch.optim``). A file is imported when its class is first asked for."""

import importlib
from typing import TYPE_CHECKING, Any

from .optimizer import Optimizer

if TYPE_CHECKING:
    from . import lr_scheduler, swa_utils
    from .adadelta import Adadelta
    from .adafactor import Adafactor
    from .adagrad import Adagrad
    from .adam import Adam
    from .adamax import Adamax
    from .adamw import AdamW
    from .asgd import ASGD
    from .lbfgs import LBFGS
    from .muon import Muon
    from .nadam import NAdam
    from .radam import RAdam
    from .rmsprop import RMSprop
    from .rprop import Rprop
    from .sgd import SGD
    from .sparse_adam import SparseAdam

__all__ = ["ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "Muon", "NAdam", "Optimizer", "RAdam",
           "RMSprop", "Rprop", "SGD", "SparseAdam", "lr_scheduler", "swa_utils"]
#: class -> its file
_FILE_OF = {name: {"SparseAdam": "sparse_adam"}.get(name, name.lower()) for name in __all__ if not name.islower()}
_FILES = {"lr_scheduler", "swa_utils", "batches", "cycles", "schedule", "schedules", *_FILE_OF.values()}


def __getattr__(name: str) -> Any:
    if name in _FILE_OF:
        found = getattr(importlib.import_module(f"flambeau.optim.{_FILE_OF[name]}"), name)
    elif name in _FILES:
        found = importlib.import_module(f"flambeau.optim.{name}")
    else:
        raise AttributeError(f"module 'flambeau.optim' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_FILE_OF, *_FILES})

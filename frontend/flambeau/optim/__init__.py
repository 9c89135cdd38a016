"""Optimizers and learning-rate schedules (PyTorch: ``torch.optim``). A file is imported when its class is first asked for."""

from typing import TYPE_CHECKING

from .._lazy import attributes
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

__getattr__, __dir__ = attributes(globals(), _FILE_OF, _FILES)

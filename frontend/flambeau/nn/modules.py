"""The modules under the names of the files that PyTorch keeps them in (``torch.nn.modules.conv``...)."""

from __future__ import annotations

import sys

from . import (
    activation,
    arguments,
    attention,
    container,
    conv,
    dropout,
    embedding,
    lazy,
    linear,
    loss,
    module,
    norm,
    output,
    pooling,
    rnn,
    shape,
)
from . import transformer as _transformer

__path__: list[str] = []  # a package, so that its modules can be imported under torch's name too
_FILES = {"activation": activation, "adaptive": output, "batchnorm": norm, "channelshuffle": shape, "container": container,
          "conv": conv, "distance": shape, "dropout": dropout, "flatten": shape, "fold": shape, "instancenorm": norm,
          "lazy": lazy, "linear": linear, "linear_cross_entropy_options": output, "loss": loss, "module": module,
          "normalization": norm, "padding": shape, "pixelshuffle": shape, "pooling": pooling, "rnn": rnn, "sparse": embedding,
          "transformer": _transformer, "upsampling": shape, "utils": arguments}

for _name, _file in _FILES.items():
    sys.modules[f"{__name__}.{_name}"] = globals()[_name] = _file  # for `from torch.nn.modules.conv import ...`

Module = module.Module
for _file in {*_FILES.values(), attention} - {module}:
    globals().update({_name: getattr(_file, _name) for _name in _file.__all__})

"""Neural-network modules (PyTorch: ``torch.nn``)."""

from . import (
    activation,
    attention,
    container,
    conv,
    dropout,
    embedding,
    functional,
    grad,
    init,
    lazy,
    linear,
    loss,
    modules,
    norm,
    output,
    parallel,
    parameter,
    pooling,
    rnn,
    shape,
    transformer,
    utils,
)
from .activation import *  # noqa: F403
from .attention import *  # noqa: F403
from .container import *  # noqa: F403
from .conv import *  # noqa: F403
from .dropout import *  # noqa: F403
from .embedding import *  # noqa: F403
from .lazy import *  # noqa: F403
from .linear import *  # noqa: F403
from .loss import *  # noqa: F403
from .module import Module
from .norm import *  # noqa: F403
from .output import *  # noqa: F403
from .parallel import DataParallel
from .parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter, factory_kwargs
from .pooling import *  # noqa: F403
from .rnn import *  # noqa: F403
from .shape import *  # noqa: F403
from .transformer import *  # noqa: F403

_FAMILIES = (activation, attention, container, conv, dropout, embedding, lazy, linear, loss, norm, output, pooling, rnn,
             shape, transformer)

__all__ = ["Buffer", "DataParallel", "Module", "Parameter", "UninitializedBuffer", "UninitializedParameter", "factory_kwargs",
           "functional", "grad", "init", "modules", "parallel", "parameter", "utils"]
__all__ += [name for family in _FAMILIES for name in family.__all__]

"""Neural-network modules (PyTorch: ``torch.nn``)."""

from . import activation, container, conv, dropout, embedding, functional, init, linear, norm, parameter, pooling, utils
from .activation import *  # noqa: F403
from .container import *  # noqa: F403
from .conv import *  # noqa: F403
from .dropout import *  # noqa: F403
from .embedding import *  # noqa: F403
from .linear import *  # noqa: F403
from .module import Module
from .norm import *  # noqa: F403
from .parameter import Buffer, Parameter, UninitializedParameter
from .pooling import *  # noqa: F403

__all__ = ["Buffer", "Module", "Parameter", "UninitializedParameter", "functional", "init", "parameter", "utils",
           *activation.__all__, *container.__all__, *conv.__all__, *dropout.__all__, *embedding.__all__, *linear.__all__,
           *norm.__all__, *pooling.__all__]

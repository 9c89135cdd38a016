"""Neural-network modules (PyTorch: ``torch.nn``). A file is imported when one of its classes is first asked for."""

from typing import TYPE_CHECKING

from .._lazy import attributes
from . import functional, init, parameter
from .module import Module
from .parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter, factory_kwargs

if TYPE_CHECKING:
    from . import grad, modules, parallel, utils
    from .activation import *  # noqa: F403
    from .attention import *  # noqa: F403
    from .container import *  # noqa: F403
    from .conv import *  # noqa: F403
    from .dropout import *  # noqa: F403
    from .embedding import *  # noqa: F403
    from .lazy import *  # noqa: F403
    from .linear import *  # noqa: F403
    from .loss import *  # noqa: F403
    from .norm import *  # noqa: F403
    from .output import *  # noqa: F403
    from .parallel import DataParallel
    from .pooling import *  # noqa: F403
    from .rnn import *  # noqa: F403
    from .shape import *  # noqa: F403
    from .transformer import *  # noqa: F403

#: file -> its classes: what its ``__all__`` says, which a test compares with this
_FAMILIES = {
    "activation": "CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid LogSoftmax Mish PReLU "
        "RReLU ReLU ReLU6 SELU SiLU Sigmoid Softmax Softmax2d Softmin Softplus Softshrink Softsign Tanh Tanhshrink "
        "Threshold",
    "attention": "MultiheadAttention",
    "container": "Container ModuleDict ModuleList ParameterDict ParameterList Sequential",
    "conv": "Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d",
    "dropout": "AlphaDropout Dropout Dropout1d Dropout2d Dropout3d FeatureAlphaDropout",
    "embedding": "Embedding EmbeddingBag",
    "lazy": "LazyLinear LazyConv1d LazyConv2d LazyConv3d LazyConvTranspose1d LazyConvTranspose2d LazyConvTranspose3d "
        "LazyBatchNorm1d LazyBatchNorm2d LazyBatchNorm3d LazyInstanceNorm1d LazyInstanceNorm2d LazyInstanceNorm3d",
    "linear": "Bilinear Identity Linear",
    "loss": "BCELoss BCEWithLogitsLoss CTCLoss CosineEmbeddingLoss CrossEntropyLoss GaussianNLLLoss HingeEmbeddingLoss "
        "HuberLoss KLDivLoss L1Loss MSELoss MarginRankingLoss MultiLabelMarginLoss MultiLabelSoftMarginLoss "
        "MultiMarginLoss NLLLoss NLLLoss2d PoissonNLLLoss SmoothL1Loss SoftMarginLoss TripletMarginLoss "
        "TripletMarginWithDistanceLoss",
    "norm": "BatchNorm1d BatchNorm2d BatchNorm3d CrossMapLRN2d GroupNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d "
        "LayerNorm LocalResponseNorm RMSNorm SyncBatchNorm",
    "output": "AdaptiveLogSoftmaxWithLoss LinearCrossEntropyLoss LinearCrossEntropyOptions",
    "pooling": "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d "
        "AdaptiveMaxPool3d AvgPool1d AvgPool2d AvgPool3d FractionalMaxPool2d FractionalMaxPool3d LPPool1d LPPool2d "
        "LPPool3d MaxPool1d MaxPool2d MaxPool3d MaxUnpool1d MaxUnpool2d MaxUnpool3d",
    "rnn": "GRU GRUCell LSTM LSTMCell RNN RNNBase RNNCell RNNCellBase",
    "shape": "ChannelShuffle CosineSimilarity Flatten Fold PairwiseDistance PixelShuffle PixelUnshuffle Unflatten "
        "Unfold Upsample UpsamplingBilinear2d UpsamplingNearest2d CircularPad1d CircularPad2d CircularPad3d "
        "ConstantPad1d ConstantPad2d ConstantPad3d ReflectionPad1d ReflectionPad2d ReflectionPad3d "
        "ReplicationPad1d ReplicationPad2d ReplicationPad3d ZeroPad1d ZeroPad2d ZeroPad3d",
    "transformer": "Transformer TransformerDecoder TransformerDecoderLayer TransformerEncoder TransformerEncoderLayer",
    "parallel": "DataParallel",
}
_FILE_OF = {name: file for file, names in _FAMILIES.items() for name in names.split()}
_FILES = ("activation", "arguments", "attention", "container", "conv", "dimensional", "dropout", "embedding", "grad", "lazy",
          "linear", "loss", "modules", "norm", "output", "parallel", "pooling", "rnn", "shape", "transformer", "utils")

__getattr__, __dir__ = attributes(globals(), _FILE_OF, _FILES)


__all__ = ["Buffer", "DataParallel", "Module", "Parameter", "UninitializedBuffer", "UninitializedParameter", "factory_kwargs",
           "functional", "grad", "init", "modules", "parallel", "parameter", "utils"]
__all__ += [name for name in _FILE_OF if name != "DataParallel"]

"""The ops: each defined once, with everything anybody needs to know about it. Importing this package registers them."""

from .. import late
from ..op import PUBLIC
from ..tensorlike import attach_methods
from . import (
    activation,
    assemble,
    attention,
    compare,
    complex,
    constant,
    conv,
    convert,
    create,
    create_api,
    cross_entropy,
    ctc,
    dropout,
    einsum,
    embedding,
    guards,
    identities,
    index,
    index_api,
    loss,
    maths,
    matmul,
    multihead,
    norm,
    pointwise,
    pool,
    random,
    reduce,
    reduce_api,
    resize,
    rnn,
    scan,
    scatter_view,
    sort,
    special,
    strided,
    variants,
    view,
    view_api,
    windows,
)

__all__ = [
    "activation", "assemble", "attention", "compare", "complex", "constant", "conv", "convert", "create",
    "create_api", "cross_entropy", "ctc", "dropout", "einsum", "embedding", "guards", "identities", "index", "index_api",
    "loss", "maths", "matmul", "multihead", "norm", "pointwise", "pool", "random", "reduce", "reduce_api", "resize",
    "rnn", "scan", "scatter_view", "sort", "special", "strided", "variants", "view", "view_api", "windows",
]

identities.state_identities()
variants.publish_variants()
late.install(PUBLIC["Tensor"], variants.publish_variants, attach_methods)
attach_methods()

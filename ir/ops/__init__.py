"""The ops: each defined once, with everything anybody needs to know about it. Importing this package registers them."""

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
    dropout,
    einsum,
    embedding,
    identities,
    index,
    index_api,
    loss,
    maths,
    matmul,
    norm,
    pointwise,
    pool,
    random,
    reduce,
    reduce_api,
    scan,
    scatter_view,
    sort,
    special,
    strided,
    view,
    view_api,
)

__all__ = [
    "activation", "assemble", "attention", "compare", "complex", "constant", "conv", "convert", "create",
    "create_api", "dropout", "einsum", "embedding", "identities", "index", "index_api", "loss", "maths", "matmul",
    "norm", "pointwise", "pool", "random", "reduce", "reduce_api", "scan", "scatter_view", "sort", "special",
    "strided", "view", "view_api",
]

identities.state_identities()
attach_methods()

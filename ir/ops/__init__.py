"""The ops: each defined once, with everything anybody needs to know about it. Importing this package registers them."""

from ..tensorlike import attach_methods
from . import create, identities, matmul, pointwise, reduce, scatter_view, view

__all__ = ["create", "identities", "matmul", "pointwise", "reduce", "scatter_view", "view"]

identities.state_identities()
attach_methods()

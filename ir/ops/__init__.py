"""The ops: each defined once, with everything anybody needs to know about it. Importing this package registers them."""

from ..tensorlike import attach_methods
from . import create, matmul, pointwise, reduce, view

__all__ = ["create", "matmul", "pointwise", "reduce", "view"]

attach_methods()

"""Ops that few programs use: their modules load when one of their names is first asked for.

``import flambeau`` may take no longer than twice ``import numpy``, and an op costs it 40 us. :data:`MODULES` says which
module of ``ir/ops`` publishes which names; a test holds the table equal to what the modules publish.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

#: module of ``ir/ops`` -> space ("ops": registered ops; "torch", "Tensor", "nn.functional": public names) -> names
MODULES: dict[str, dict[str, str]] = {
    "special_functions": {
        "ops": "airy_ai airy_ai_prime bessel_j0 bessel_j1 bessel_y0 bessel_y1 chebyshev_polynomial_t chebyshev_polynomial_u "
               "chebyshev_polynomial_v chebyshev_polynomial_w entr erfcx hermite_polynomial_h hermite_polynomial_he i0e i1e "
               "igamma igammac laguerre_polynomial_l legendre_polynomial_p log_ndtr modified_bessel_i0 modified_bessel_i1 "
               "modified_bessel_k0 modified_bessel_k1 ndtr ndtri scaled_modified_bessel_k0 scaled_modified_bessel_k1 "
               "shifted_chebyshev_polynomial_t shifted_chebyshev_polynomial_u shifted_chebyshev_polynomial_v "
               "shifted_chebyshev_polynomial_w spherical_bessel_j0 xlog1py zeta",
        "torch": "igamma igammac", "Tensor": "igamma igammac igamma_ igammac_"},
}

_loaded: set[str] = set()
_after: list[Callable[[], None]] = []


@functools.cache
def _homes() -> dict[tuple[str, str], str]:
    return {(space, name): module for module, spaces in MODULES.items() for space, names in spaces.items()
            for name in names.split()}


def load(space: str, name: str) -> bool:
    """Load the module that publishes ``name``; False where none does, or it is here already."""
    module = _homes().get((space, name))
    if module is None or module in _loaded:
        return False
    load_module(module)
    return True


def load_module(module: str) -> None:
    """Import one module of the table, and publish what comes with its ops (methods, in-place forms)."""
    if module in _loaded:
        return
    importlib.import_module(f"{__package__}.ops.{module}")
    _loaded.add(module)
    for publish in _after:
        publish()


def load_all() -> None:
    """Import every module of the table: for tests, which walk over all ops."""
    for module in MODULES:
        load_module(module)


def names(space: str) -> list[str]:
    """The names that the table's modules publish in ``space``."""
    return [name for home, name in _homes() if home == space]


def install(methods: dict[str, Any], *publish: Callable[[], None]) -> None:
    """Put methods into ``methods`` that load their module when called; ``publish`` runs after each load."""
    _after.extend(publish)
    for name in names("Tensor"):
        methods[name] = _method(name, methods)


def _method(name: str, methods: dict[str, Any]) -> Any:
    def late(self: Any, *args: Any, **kwargs: Any) -> Any:
        load("Tensor", name)
        return methods[name](self, *args, **kwargs)

    late.__name__ = late.__qualname__ = name
    late.__flambeau_pure__ = late.__flambeau_late__ = True  # type: ignore[attr-defined]
    return late

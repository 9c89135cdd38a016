"""flambeau under the import name `torch`, so that a script written for PyTorch runs without a change."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import flambeau

# What `torch.__version__` says: the PyTorch release whose names and signatures flambeau follows, then our own version
# as PEP 440's local part, so that a script's `parse(torch.__version__) >= parse("2.0")` works.
TORCH_VERSION = "2.13.0"


def as_torch() -> ModuleType:
    """Make `import torch` mean flambeau in this process, from now on.

    `torch` and every `torch.x.y` that exists as `flambeau.x.y` become the same module object under a second name, so
    classes, registries and state are shared. Calling it again changes nothing.

    `__version__` then reads "2.13.0+flambeau.<ours>": scripts compare it with PyTorch's release numbers.

    Returns:
        The flambeau module.

    Raises:
        RuntimeError: the real torch has already been imported; two frameworks cannot share the name.
    """
    present = sys.modules.get("torch")
    if present is flambeau:
        return flambeau
    if present is not None:
        raise RuntimeError("flambeau.as_torch(): torch is already imported in this process; call as_torch() before "
                           "the first `import torch`")
    sys.meta_path.insert(0, _TorchFinder())
    sys.modules["torch"] = flambeau
    flambeau.__version__ = f"{TORCH_VERSION}+flambeau.{flambeau.__version__}"
    return flambeau


class _TorchFinder(MetaPathFinder):
    """Answers for every `torch.x`, and never declines one: the next finder could load a second copy of a file.

    `safetensors` is ours too, as the package of that name hands tensors to PyTorch's own binary core.
    """

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
                  ) -> ModuleSpec | None:
        root, _, rest = fullname.partition(".")
        if root not in ("torch", "safetensors"):
            return None
        parts = ["flambeau", *([root] if root != "torch" else []), *([rest] if rest else [])]
        ours = ".".join(parts)
        return ModuleSpec(fullname, _Alias(_import(ours, fullname)))


class _Alias(Loader):
    """Puts an existing module into sys.modules under the name that is being imported.

    The machinery fills in the spec of whatever `create_module` returns, so that is a throw-away: the module's own
    `__spec__` and `__name__` keep saying flambeau.
    """

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return ModuleType(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = self.module
        inner = self.module.__name__ + "."
        for name in [n for n in sys.modules if n.startswith(inner)]:  # else the import of one would bind its name in the
            sys.modules.setdefault(f"{module.__name__}.{name[len(inner):]}", sys.modules[name])  # package, over a function's


def _import(ours: str, asked: str) -> ModuleType:
    try:
        return importlib.import_module(ours)
    except ModuleNotFoundError as error:
        if error.name is None or not (ours == error.name or ours.startswith(error.name + ".")):
            raise   # the module is there, and something that it needs is not
        raise ModuleNotFoundError(f"No module named {asked!r}: torch is flambeau here, and {ours!r} does not exist",
                                  name=asked) from None

"""What this build has (PyTorch: ``torch.version``)."""

from __future__ import annotations

import flambeau

__version__ = flambeau.__version__
cuda = hip = git_version = None
debug = False

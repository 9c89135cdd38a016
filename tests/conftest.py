"""What every test shares: a cache of its own, and no peer tests where there is no peer."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Set before anything imports flambeau. The cache is keyed by content, so keeping it between runs is safe, and it
# never mixes with the user's; `make clean` removes it.
os.environ.setdefault("FLAMBEAU_CACHE_DIR", str(ROOT / "build" / "test-cache"))
# Tests count captures, which an earlier run's entries would spare; those of the warm start switch it on for their processes.
os.environ.setdefault("FLAMBEAU_WARM", "0")

collect_ignore = [] if importlib.util.find_spec("torch") else ["peer"]

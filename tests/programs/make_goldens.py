"""Write ``goldens.json``, what PyTorch answers to every program: ``python tests/programs/make_goldens.py`` (needs torch)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
GOLDENS = HERE / "goldens.json"


def main() -> None:
    sys.path.insert(0, str(HERE.parent))
    import torch
    from programs.registry import load, outcome

    torch.set_num_threads(1)
    lines = [f"{json.dumps(name)}: {json.dumps(outcome(run, torch), separators=(',', ':'))}" for name, run in load().items()]
    GOLDENS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()

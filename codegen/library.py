"""The C++ templates: kernels written by hand once, compiled once per machine, called by eager and compiled code."""

from __future__ import annotations

import re
from pathlib import Path

from flambeau.codegen import build

_HERE = Path(__file__).parent / "templates"
_INCLUDE = re.compile(r'^#include "(.+)"$', re.MULTILINE)

#: The templates that can be asked for. "pool" is the runtime table itself: threads and scratch memory.
NAMES = ("pool", "gemm", "attention", "conv", "adam")

#: Flags of templates that leave the vectors to the compiler.
_FLAGS = {"adam": ("-O3",)}


def source(name: str) -> str:
    """Return the complete C++ text of a template, its own headers written out in place."""
    return _INCLUDE.sub(lambda match: (_HERE / match[1]).read_text(), (_HERE / f"{name}.cpp").read_text())


def build_template(name: str) -> Path | None:
    """Compile the template `name` (or find it in the cache) and return its library; None without a compiler."""
    if name not in NAMES:
        raise KeyError(f"no template named {name!r}: there are {', '.join(NAMES)}")
    return build.build([source(name)], _FLAGS.get(name, ()))

"""The C++ templates: kernels written by hand once, compiled once per machine, called by eager and compiled code."""

from __future__ import annotations

import re
from pathlib import Path

from flambeau.codegen import build

_HERE = Path(__file__).parent / "templates"
_INCLUDE = re.compile(r'^#include "(.+)"$', re.MULTILINE)

#: The templates that can be asked for. "pool" is the runtime table itself: threads and scratch memory.
NAMES = ("pool", "gemm", "attention", "conv", "adam")

#: Templates built as two units at once, the second with this macro defined.
_SPLIT = {"gemm": "HALVES"}

#: Flags of templates that leave the vectors to the compiler.
_FLAGS = {"adam": ("-O3",)}


def source(name: str) -> str:
    """Return the complete C++ text of a template, its own headers written out in place."""
    return _INCLUDE.sub(lambda match: (_HERE / match[1]).read_text(), (_HERE / f"{name}.cpp").read_text())


def build_template(name: str) -> Path | None:
    """Compile the template `name` (or find it in the cache) and return its library; None without a compiler."""
    if name not in NAMES:
        raise KeyError(f"no template named {name!r}: there are {', '.join(NAMES)}")
    text = source(name)
    units = [text, f"#define {_SPLIT[name]}\n{text}"] if name in _SPLIT else [text]
    return build.build(units, _FLAGS.get(name, ()))

"""The C++ that generated kernels share: types, and those maths functions that a source really uses."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path

_TEMPLATES = Path(__file__).parent / "templates"
_SECTION = re.compile(r"^//# (\w+):(.*)$", re.MULTILINE)
_CALL = re.compile(r"\b([a-z_]\w*)(?=\s*[(<])")


@functools.cache
def sections() -> dict[str, tuple[tuple[str, ...], str]]:
    """Return the sections of `maths.h` by name, in order: the names each one needs, and its text."""
    text = (_TEMPLATES / "maths.h").read_text()
    marks = list(_SECTION.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return {
        mark[1]: (tuple(mark[2].split()), text[mark.end() : end].strip("\n") + "\n")
        for mark, end in zip(marks, ends, strict=True)
    }


def maths_for(source: str) -> str:
    """Return the maths sections that `source` calls, with all that these need."""
    known = sections()
    wanted = {name for name in _CALL.findall(source) if name in known}
    pending = list(wanted)
    while pending:
        for name in known[pending.pop()][0]:
            if name not in wanted:
                wanted.add(name)
                pending.append(name)
    return "\n".join(text for name, (_, text) in known.items() if name in wanted)


@functools.cache
def header(name: str) -> str:
    """Return the text of one header of the templates folder."""
    return (_TEMPLATES / name).read_text()


@functools.cache
def functions() -> frozenset[str]:
    """The names that the headers give to functions and types: no generated name may hide one."""
    text = "\n".join(header(name) for name in ("runtime.h", "vector.h", "kernel.h", "maths.h"))
    return frozenset(re.findall(r"\b([A-Za-z_]\w*)\s*[(<]", text)) | frozenset(sections())


def unit(body: str, templates: Sequence[str] = ()) -> str:
    """Return a complete translation unit around `body`: shared headers, those of the templates, the maths it uses."""
    outside = [header(f"{name}.h") for name in ("runtime", "vector", *templates)]
    return "\n".join([*outside, "namespace flambeau_kernels {", header("kernel.h"), maths_for(body), body, "}"])

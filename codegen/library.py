"""The C++ templates: kernels written by hand once, compiled once per machine, called by eager and compiled code."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

from flambeau.codegen import build

_HERE = Path(__file__).parent / "templates"
_INCLUDE = re.compile(r'^#include "(.+)"$', re.MULTILINE)

#: What can be asked for, with the macros its text is built under. "pool" is the runtime table itself: threads and
#: scratch memory. A matrix product is a library per element type, as few programs want more than one.
_MACROS: dict[str, dict[str, str]] = {
    "pool": {}, "attention": {}, "conv": {}, "adam": {}, "random": {},
    "gemm_f32": {"ELEMENT": "float", "CODE": "0"},
    "gemm_f64": {"ELEMENT": "double", "CODE": "1"},
    "gemm_bf16": {"ELEMENT": "bf16", "CODE": "2"},
    "gemm_f16": {"ELEMENT": "_Float16", "CODE": "3"},
}
NAMES = tuple(_MACROS)

#: Flags of templates that leave the vectors to the compiler.
_FLAGS = {"adam": ("-O3",), "random": ("-O3", "-ffp-contract=off")}


def base(name: str) -> str:
    """Return the file that the template `name` is made of, which is also the name of its header."""
    return name.partition("_")[0]


def source(name: str) -> str:
    """Return the complete C++ text of a template, its own headers written out in place.

    Raises `KeyError` for a name that is not in `NAMES`.
    """
    if name not in _MACROS:
        raise KeyError(f"no template named {name!r}: there are {', '.join(NAMES)}")
    macros = "".join(f"#define {macro} {value}\n" for macro, value in _MACROS[name].items())
    return macros + _INCLUDE.sub(lambda match: (_HERE / match[1]).read_text(), (_HERE / f"{base(name)}.cpp").read_text())


def build_template(name: str) -> Path | None:
    """Compile the template `name` (or find it in the cache) and return its library; None without a compiler."""
    return build.build([source(name)], _FLAGS.get(name, ()))


@contextlib.contextmanager
def building(names: Collection[str]) -> Iterator[None]:
    """Build the pool and the named templates while the body runs, so that whoever loads them finds them in the cache."""
    threads = [threading.Thread(target=_prepare, args=(name,)) for name in ("pool", *names)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()


def _prepare(name: str) -> None:
    with contextlib.suppress(build.CompileError):  # whoever loads the template builds it again, and is told
        build_template(name)

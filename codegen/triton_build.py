"""Lowers Triton kernels on a machine that has neither a GPU nor torch.

A :class:`TritonSource` is the text of one kernel and what the compiler must know about its parameters. :func:`lower`
runs Triton's own compiler for a named target and returns every stage as text, together with the binary and what a
launcher must know (:class:`LoweredKernel`). Nothing here touches Triton's drivers, which want torch and a device.
"""

from __future__ import annotations

import linecache
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from flambeau.codegen import cache

STAGES = ("ttir", "ttgir", "llir", "ptx", "amdgcn")
_BINARIES = ("cubin", "hsaco")
_CONSTEXPR = "constexpr"


class TritonUnavailable(RuntimeError):
    """Triton is not installed, or is too old for this package."""


@dataclass(frozen=True)
class TritonSource:
    """One Triton kernel as text.

    ``source`` is a module that defines ``name`` under ``@triton.jit``. ``signature`` gives each parameter's type in
    order (``"*fp32"``, ``"i32"``, ``"constexpr"``), ``constants`` the values of the ``constexpr`` ones, and ``aligned``
    the parameters known to be divisible by 16: pointers by address, sizes by value. Without the hint Triton emits no
    vector load.
    """

    name: str
    source: str
    signature: Mapping[str, str]
    constants: Mapping[str, Any] = field(default_factory=dict)
    aligned: frozenset[str] = frozenset()
    num_warps: int = 4
    num_stages: int = 3

    def __post_init__(self) -> None:
        constexprs = {name for name, kind in self.signature.items() if kind == _CONSTEXPR}
        if constexprs != set(self.constants):
            raise ValueError(f"{self.name}: constexpr parameters {sorted(constexprs)} but constants for "
                             f"{sorted(self.constants)}")
        if not self.aligned <= set(self.signature) - constexprs:
            raise ValueError(f"{self.name}: {sorted(self.aligned)} are not all runtime parameters")

    @property
    def file(self) -> str:
        """The name under which Triton's locations cite this text."""
        return f"{self.name}.triton.py"

    @property
    def runtime_types(self) -> tuple[str, ...]:
        """Types of the parameters that exist in the binary, in order."""
        return tuple(kind for kind in self.signature.values() if kind != _CONSTEXPR)


@dataclass(frozen=True)
class LoweredKernel:
    """A kernel lowered for one target: ``stages`` as text by name, and the ``binary`` with its launch facts.

    The binary's parameters are ``params`` in order, followed by two scratch pointers (global and profile), which are
    null. A block has ``num_warps * warp_size`` threads.
    """

    name: str
    target: str
    stages: Mapping[str, str]
    binary: bytes
    params: tuple[str, ...]
    num_warps: int
    warp_size: int
    shared: int


def lower(kernel: TritonSource, target: str) -> LoweredKernel:
    """Compile ``kernel`` for ``target`` (``"cuda:80"``, ``"cuda:90"``, ``"hip:gfx942"``).

    Raises TritonUnavailable without Triton, ValueError for an unknown target or a kernel that wants scratch memory, and
    Triton's CompilationError, with the offending line of the kernel, for a kernel that it refuses.
    """
    triton = import_triton()
    from triton.compiler import ASTSource

    gpu = gpu_target(target)
    attributes = {(place,): [["tt.divisibility", 16]]
                  for place, name in enumerate(kernel.signature) if name in kernel.aligned}
    source = ASTSource(load_function(kernel), dict(kernel.signature), dict(kernel.constants), attributes)
    # AMD's pipeliner counts differently, and 64 KiB of local memory hold no more than two stages.
    stages_wanted = min(kernel.num_stages, 2) if gpu.backend == "hip" else kernel.num_stages
    options = {"num_warps": kernel.num_warps, "num_stages": stages_wanted, "enable_fp_fusion": True}
    with _triton_cache(triton):
        compiled = triton.compile(source, target=gpu, options=options)
    texts = _TextCleaner(kernel, Path(str(triton.__file__)).parent.parent)
    stages = {stage: texts.clean(stage, compiled.asm[stage]) for stage in STAGES if stage in compiled.asm}
    binary = next(compiled.asm[kind] for kind in _BINARIES if kind in compiled.asm)
    facts = compiled.metadata
    if getattr(facts, "global_scratch_size", 0):
        raise ValueError(f"{kernel.name} asks for {facts.global_scratch_size} bytes of global scratch memory, "
                         "which launches here do not provide")
    return LoweredKernel(kernel.name, target, stages, binary, kernel.runtime_types, facts.num_warps, gpu.warp_size,
                         facts.shared)


def gpu_target(target: str) -> Any:
    """``"cuda:90"`` or ``"hip:gfx942"`` as Triton's GPUTarget."""
    import_triton()
    from triton.backends.compiler import GPUTarget

    kind, _, arch = target.partition(":")
    if kind == "cuda" and arch.isdigit():
        return GPUTarget("cuda", int(arch), 32)
    if kind == "hip" and re.fullmatch(r"gfx\w+", arch):
        return GPUTarget("hip", arch, 32 if arch.startswith(("gfx10", "gfx11", "gfx12")) else 64)
    raise ValueError(f"unknown GPU target {target!r}: expected cuda:80, cuda:90 or hip:gfx942")


def import_triton() -> ModuleType:
    """Triton itself, or TritonUnavailable with the command that installs it."""
    try:
        import triton
        import triton.language
    except ImportError as error:
        raise TritonUnavailable(f"Triton is not installed ({error}): pip install 'flambeau[gpu]'") from error
    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < (3, 6):
        raise TritonUnavailable(f"Triton {triton.__version__} is older than 3.6: pip install -U 'flambeau[gpu]'")
    return triton


def load_function(kernel: TritonSource) -> Any:
    """The kernel's function, decorated by ``triton.jit``.

    Triton reads a function's text through ``inspect``, so the text is registered with ``linecache`` under a short
    name: no file is written, and no machine path reaches the printed stages.
    """
    linecache.cache[kernel.file] = (len(kernel.source), None, kernel.source.splitlines(keepends=True), kernel.file)
    namespace: dict[str, Any] = {"__name__": kernel.name}
    exec(compile(kernel.source, kernel.file, "exec"), namespace)
    return namespace[kernel.name]


@contextmanager
def _triton_cache(triton: ModuleType) -> Iterator[None]:
    """Triton's own kernel cache inside ours, so that one variable moves both; a temporary one if it is unwritable."""
    folder = str(cache.root() / "triton")
    with triton.knobs.cache.scope(), tempfile.TemporaryDirectory() as scratch:
        triton.knobs.cache.dir = folder if _writable(folder) else scratch
        yield


def _writable(folder: str) -> bool:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


_ORIGIN = re.compile(r"#\s*(\S+\.py:\d+.*?)\s*$")


class _TextCleaner:
    """Makes stage texts the same on every machine, and adds the user's line to each of Triton's own locations.

    Triton cites the generated text (``softmax.triton.py:14``). Where that line carries a comment ``# model.py:12``,
    the citation gets the same comment, so a user's line can be followed down to the assembly.
    """

    def __init__(self, kernel: TritonSource, site_packages: Path) -> None:
        self.file = re.escape(kernel.file)
        self.site = str(site_packages) + os.sep
        self.origins: dict[int, str] = {}
        for number, line in enumerate(kernel.source.splitlines(), start=1):
            if match := _ORIGIN.search(line):
                self.origins[number] = match.group(1)

    def clean(self, stage: str, text: str) -> str:
        text = text.replace(self.site, "")
        if stage in ("ttir", "ttgir"):
            return self._mark(text, rf'^#loc\d* = loc\("{self.file}":(\d+):\d+\)', "//")
        if stage == "llir":
            return self._mark_llir(text)
        return self._mark(text, rf"^\s+\.loc.*?{self.file}:(\d+):.*", "<-")

    def _mark(self, text: str, pattern: str, sign: str) -> str:
        def add(match: re.Match[str]) -> str:
            origin = self.origins.get(int(match.group(1)))
            return f"{match.group(0)} {sign} {origin}" if origin else match.group(0)

        return re.sub(pattern, add, text, flags=re.MULTILINE)

    def _mark_llir(self, text: str) -> str:
        """LLVM's line entries name a scope, and the scope a file: only those in our file are marked."""
        own_files = set(re.findall(rf'^(!\d+) = !DIFile\(filename: "{self.file}"', text, flags=re.MULTILINE))
        scopes = re.findall(r"^(!\d+) = (?:distinct )?!DI(?:Subprogram|LexicalBlock\w*)\(.*?file: (!\d+)", text,
                            flags=re.MULTILINE)
        own_scopes = {scope for scope, file in scopes if file in own_files}

        def add(match: re.Match[str]) -> str:
            origin = self.origins.get(int(match.group(1)))
            return f"{match.group(0)}  ; {origin}" if origin and match.group(2) in own_scopes else match.group(0)

        return re.sub(r"^!\d+ = (?:distinct )?!DILocation\(line: (\d+),.*?scope: (!\d+).*$", add, text,
                      flags=re.MULTILINE)

"""The on-disk store of built artifacts: content-addressed, atomic, verified.

An entry is two files, `<key><suffix>` and `<key><suffix>.sum`; the second holds the size and a hash of the first.
Both are written to a temporary name, flushed to disk and renamed, so that a reader sees a whole entry or none, and
an entry whose bytes do not match its sum is built again rather than loaded.

The folder keeps to a size (`FLAMBEAU_CACHE_MB`, 4096): about once a day, who writes to it removes what was not used for longest.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

try:
    from _blake2 import blake2b  # type: ignore[import-not-found]  # `hashlib` loads OpenSSL, which takes longer than an entry
except ImportError:
    from hashlib import blake2b

_DAY = 86400.0
_private_root: Path | None = None
_making_private_root = threading.Lock()  # kernels are built by several threads


def new_digest() -> Any:
    """A hash of 128 bits to feed (BLAKE2b)."""
    return blake2b(digest_size=16)


def key_of(*parts: str) -> str:
    """Return a key that changes when any of the strings does (their boundaries count too)."""
    digest = new_digest()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return str(digest.hexdigest())


def root() -> Path:
    """Return the cache folder: `FLAMBEAU_CACHE_DIR`, else `flambeau` in the XDG cache folder."""
    chosen = os.environ.get("FLAMBEAU_CACHE_DIR")
    if chosen:
        return Path(chosen)
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "flambeau"


def fetch(key: str, suffix: str, build: Callable[[Path], None]) -> Path:
    """Return the path of the entry `key`, building it first when it is missing or damaged.

    `build(path)` writes the artifact at `path`; whatever it raises passes through and leaves no entry behind.
    A cache folder that cannot be written is replaced, with one warning, by a private one that ends with the process.
    """
    path = _entry(root(), key, suffix)
    if intact(path):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if not intact(path):
                _build_into(path, build)
                _trim_daily()
        return path
    except _Unwritable as error:
        reason: OSError = error.__cause__  # type: ignore[assignment]
    except OSError as error:
        reason = error
    path = _entry(_fallback_root(reason), key, suffix)
    if not intact(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _build_into(path, build)
    return path


def find(key: str, suffix: str) -> Path | None:
    """Return the path of the entry `key` if it is there and whole."""
    path = _entry(root(), key, suffix)
    return path if intact(path) else None


def read(key: str, suffix: str) -> bytes | None:
    """Return the contents of the entry `key` if it is there and whole."""
    return _read(_entry(root(), key, suffix))


def update(key: str, suffix: str, change: Callable[[bytes | None], bytes]) -> None:
    """Replace the contents of the entry `key` by what `change` makes of them; None stands for no (whole) entry.

    Processes that update one entry wait for each other. A folder that cannot be written is left as it is.
    """
    path = _entry(root(), key, suffix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            data = change(_read(path))
            _build_into(path, lambda temporary: _write(temporary, data))
        _trim_daily()
    except (_Unwritable, OSError):
        return


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _read(path: Path) -> bytes | None:
    total = _sum_path(path)
    try:
        recorded = total.read_text()
        data = path.read_bytes()
    except (OSError, UnicodeDecodeError):
        return None
    if recorded != _sum_of(data):
        return None
    with contextlib.suppress(OSError):  # when it was used last, to the day
        if time.time() - total.stat().st_mtime > _DAY:
            os.utime(total)
    return data


@functools.lru_cache(maxsize=1)
def cpu_identity() -> str:
    """Describe what `-march=native` means here, so that a cache shared between machines keeps their code apart."""
    wanted = ("model name", "flags", "Features", "CPU part")
    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as file:  # of the first processor: the rest takes long to make up
            text = b""
            while b"\n\n" not in text and (more := file.read(4096)):
                text += more
        lines = text.split(b"\n\n", 1)[0].decode(errors="replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join([platform.machine(), *(line for line in lines if line.startswith(wanted))])


def intact(path: Path) -> bool:
    """Say whether the artifact at `path` exists and matches its recorded size and checksum."""
    return _read(path) is not None


def entries() -> list[Path]:
    """List the artifacts in the cache folder, damaged ones included, in order of name."""
    folder = root()
    sums = folder.glob("*/*.sum") if folder.is_dir() else ()
    return sorted(path.with_suffix("") for path in sums)


def clear() -> int:
    """Remove every artifact (and lock) from the cache folder; return how many artifacts there were."""
    found = entries()
    for path in found:
        for victim in (path, _sum_path(path), _lock_path(path)):
            victim.unlink(missing_ok=True)
    return len(found)


def trim(limit: int) -> int:
    """Remove entries, those that were not used for longest first, until the rest take `limit` bytes; return how many went.

    What was used within the hour stays: somebody may be about to load it. What ended processes have left half written goes.
    """
    found, total = [], 0
    for path in entries():
        with contextlib.suppress(OSError):
            size = path.stat().st_size if path.exists() else 0
            found.append((_sum_path(path).stat().st_mtime, size, path))
            total += size
    for left in root().glob("*/.[bw]*ing-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _DAY:
                left.unlink()
    removed = 0
    for used, size, path in sorted(found):
        if total <= limit or time.time() - used < _DAY / 24:
            break
        with contextlib.suppress(OSError):
            for victim in (_sum_path(path), path, _lock_path(path)):  # an artifact without a sum is none
                victim.unlink(missing_ok=True)
            total, removed = total - size, removed + 1
    return removed


def _trim_daily() -> None:
    """Trim the folder unless some process has done so within a day."""
    mark = root() / "trimmed"
    with contextlib.suppress(OSError, ValueError):
        if mark.exists() and time.time() - mark.stat().st_mtime < _DAY:
            return
        mark.touch()
        limit = int(os.environ.get("FLAMBEAU_CACHE_MB") or 4096) << 20
        trim(limit)


class _Unwritable(Exception):
    """The entry could not be written, although the build itself went well."""


def _entry(folder: Path, key: str, suffix: str) -> Path:
    return folder / key[:2] / f"{key}{suffix}"


def _sum_path(path: Path) -> Path:
    return path.with_name(path.name + ".sum")


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _sum_of(data: bytes) -> str:
    return f"{len(data)} {blake2b(data, digest_size=32).hexdigest()}\n"


def _build_into(path: Path, build: Callable[[Path], None]) -> None:
    """Build beside `path`, then move artifact and checksum into place."""
    import tempfile  # noqa: PLC0415 - who only reads the cache starts sooner without it
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".building-", suffix=path.suffix)
    except OSError as error:
        raise _Unwritable from error
    os.close(handle)
    temporary = Path(name)
    try:
        build(temporary)
        try:
            data = temporary.read_bytes()
            _flush(temporary)
            # The old sum goes first: an artifact without a sum is merely built again, a mismatched pair is too.
            _sum_path(path).unlink(missing_ok=True)
            os.replace(temporary, path)
            _write_atomically(_sum_path(path), _sum_of(data))
        except OSError as error:
            raise _Unwritable from error
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _write_atomically(path: Path, text: str) -> None:
    import tempfile  # noqa: PLC0415
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the entry's lock: other processes wait for this build instead of repeating it."""
    try:
        import fcntl  # noqa: PLC0415 - who only reads the cache starts sooner without it
    except ImportError:  # no flock: atomic renames alone keep entries whole, a build may merely run twice
        yield
        return
    with open(_lock_path(path), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fallback_root(reason: OSError) -> Path:
    """Return a private temporary folder, made on first use with a warning that names the reason."""
    import atexit  # noqa: PLC0415
    import shutil  # noqa: PLC0415
    import tempfile  # noqa: PLC0415
    global _private_root
    with _making_private_root:
        if _private_root is None:
            _private_root = Path(tempfile.mkdtemp(prefix="flambeau-"))
            atexit.register(shutil.rmtree, _private_root, ignore_errors=True)
            warnings.warn(
                f"the kernel cache at {root()} cannot be written ({reason}); kernels compiled by this process are kept in "
                "a temporary folder and lost at its end. Set FLAMBEAU_CACHE_DIR to a writable folder.",
                RuntimeWarning,
                stacklevel=3,
            )
    return _private_root

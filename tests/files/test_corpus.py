"""Damaged and malicious files: nothing in them runs, and each is refused with an error that says what is wrong."""

from __future__ import annotations

import io
import pickle
import resource
import sys
import time

import pytest

import flambeau as fl
from flambeau import safetensors
from tests.files.corpus import files_for_load, files_for_safetensors, whole_file

TRAP = "/tmp/flambeau-trap-that-nothing-may-make"
PYTORCH = list(files_for_load(TRAP))
SAFE = list(files_for_safetensors())
_watching: list[str] | None = None
_HARM = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "exec", "compile", "socket.connect",
         "shutil.rmtree", "os.remove", "ctypes.dlopen", "webbrowser.open", "import")


def _audit(event: str, args: tuple) -> None:
    if _watching is not None and (event in _HARM or (event == "open" and TRAP in str(args[0]))):
        _watching.append(f"{event} {str(args)[:80]}")


sys.addaudithook(_audit)


@pytest.fixture(scope="module", autouse=True)
def warm():
    """Whatever the readers import by themselves is imported before anybody watches."""
    fl.load(io.BytesIO(whole_file()))
    with pytest.raises(pickle.UnpicklingError):
        fl.load(io.BytesIO(PYTORCH[0][1]))


class watched:
    """Fails if anything harmful is done inside, or if it takes a second or a gigabyte."""

    def __enter__(self):
        global _watching
        _watching = self.seen = []
        self.began, self.memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def __exit__(self, *exc):
        global _watching
        _watching = None
        assert not self.seen, f"the file made the reader do this: {self.seen}"
        assert time.process_time() - self.began < 5
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.memory < 1 << 20


def test_there_are_enough():
    assert len(PYTORCH) >= 100 and len(SAFE) >= 30
    assert len({name for name, _, _ in PYTORCH}) == len(PYTORCH) and len({name for name, _, _ in SAFE}) == len(SAFE)


@pytest.mark.parametrize(("data", "word"), [c[1:] for c in PYTORCH], ids=[c[0] for c in PYTORCH])
def test_load_refuses(data, word, tmp_path):
    path = tmp_path / "file.pt"
    path.write_bytes(data)
    with watched(), pytest.raises(pickle.UnpicklingError) as caught:
        fl.load(path)
    assert word in str(caught.value) and "file.pt" in str(caught.value) and len(str(caught.value)) < 1000
    with watched(), pytest.raises(pickle.UnpicklingError):
        fl.load(io.BytesIO(data))


@pytest.mark.parametrize("data", [c[1] for c in PYTORCH if c[1][:4] == b"PK\x03\x04"],
                         ids=[c[0] for c in PYTORCH if c[1][:4] == b"PK\x03\x04"])
def test_load_refuses_when_mapped(data, tmp_path):
    path = tmp_path / "file.pt"
    path.write_bytes(data)
    try:
        with watched():
            fl.load(path, mmap=True)
    except pickle.UnpicklingError:
        return
    # a mapped storage is not read, and so its checksum is not computed
    with pytest.raises(pickle.UnpicklingError, match="checksum of data/"):
        fl.load(path)


@pytest.mark.parametrize(("data", "word"), [c[1:] for c in SAFE], ids=[c[0] for c in SAFE])
def test_safetensors_refuses(data, word, tmp_path):
    path = tmp_path / "file.safetensors"
    path.write_bytes(data)
    with watched(), pytest.raises(safetensors.SafetensorError) as caught:
        safetensors.load_file(path)
    assert word in str(caught.value) and "file.safetensors" in str(caught.value)
    with watched(), pytest.raises(safetensors.SafetensorError):
        safetensors.load(data)


def test_random_damage_is_refused_or_harmless(tmp_path):
    """Bytes changed at random: an error of the right kind, or the same tensors, since a few bytes of a zip mean nothing."""
    import random
    chance = random.Random(0)
    good = whole_file()
    expected = fl.load(io.BytesIO(good))
    for _ in range(300):
        data = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            with watched():
                found = fl.load(io.BytesIO(bytes(data)))
        except pickle.UnpicklingError:
            continue
        assert list(found) == list(expected) and found["a"].tolist() == expected["a"].tolist()


def test_random_truncation_is_refused():
    good = whole_file()
    for end in range(0, len(good), 37):
        with pytest.raises(pickle.UnpicklingError):
            fl.load(io.BytesIO(good[:end]))

"""Random numbers: PyTorch's CPU generator (mt19937), and how it turns bits into numbers.

For one seed, the draws below equal PyTorch's on CPUs where it does not use MKL's streams (it does for ``bernoulli_`` on
Intel); ``normal_`` of 16 and more float32 numbers agrees to the last place of ``log``, ``sin`` and ``cos``.
"""

from __future__ import annotations

import math
import os
import threading
from typing import Any

import numpy as np

from flambeau.ir import device as _device
from flambeau.ir.device import Device, as_device

DEFAULT_SEED = 67280421310721
_STATE_BYTES = 8 + 4 + 624 * 4 + 1 + 8  # seed, position, key, whether a normal is kept, that normal


class Generator:
    """A stream of random numbers (PyTorch: ``torch.Generator``). All draws advance it under a lock."""

    def __init__(self, device: Any = "cpu") -> None:
        self.device: Device = as_device(device)
        if self.device.type != "cpu":
            raise RuntimeError(f"generators live on the CPU, not on {self.device}: numbers are drawn there and copied")
        self._bits = np.random.MT19937()
        self._lock = threading.Lock()
        self._seed = DEFAULT_SEED
        self._kept: float | None = None  # the second number of the last pair of normals
        self.manual_seed(DEFAULT_SEED)

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream that ``seed`` names. Raises ``ValueError`` for a seed outside 64 bits."""
        seed = int(seed)
        if not -(1 << 63) <= seed < 1 << 64:
            raise ValueError(f"Overflow when unpacking long long: the seed {seed} does not fit in 64 bits")
        self._seed = seed % (1 << 64)
        self._bits._legacy_seeding(self._seed & 0xFFFFFFFF)
        self._kept = None
        return self

    def seed(self) -> int:
        """Start a stream from the operating system's entropy; returns its seed."""
        seed = int.from_bytes(os.urandom(8), "little")
        self.manual_seed(seed)
        return seed

    def initial_seed(self) -> int:
        """The seed the stream was started with."""
        return self._seed

    def get_state(self) -> Any:
        """The whole state as a uint8 tensor."""
        from .tensor import wrap  # noqa: PLC0415 - tensors print and pickle without ever drawing numbers
        state = self._bits.state["state"]
        kept = 0.0 if self._kept is None else self._kept
        packed = (self._seed.to_bytes(8, "little") + int(state["pos"]).to_bytes(4, "little")
                  + state["key"].astype("<u4").tobytes() + bytes([self._kept is not None]) + np.float64(kept).tobytes())
        return wrap(np.frombuffer(packed, np.uint8).copy())

    def set_state(self, state: Any) -> Generator:
        """Go to a state that :meth:`get_state` returned. Raises ``TypeError`` or ``RuntimeError`` for anything else."""
        array = getattr(state, "_a", None)
        if array is None or array.dtype != np.uint8:
            raise TypeError("expected a torch.ByteTensor holding a generator's state")
        packed = array.tobytes()
        if len(packed) != _STATE_BYTES:
            raise RuntimeError(f"a generator's state has {_STATE_BYTES} bytes, got {len(packed)}")
        self._seed = int.from_bytes(packed[:8], "little")
        key = np.frombuffer(packed[12:12 + 2496], "<u4").astype(np.uint32)
        self._bits.state = {"bit_generator": "MT19937",
                            "state": {"key": key, "pos": int.from_bytes(packed[8:12], "little")}}
        self._kept = float(np.frombuffer(packed[-8:], np.float64)[0]) if packed[-9] else None
        return self

    def clone_state(self) -> Generator:
        """A generator that goes on from here on its own."""
        return Generator().set_state(self.get_state())

    def __reduce__(self) -> tuple:
        return _restore, (self.get_state()._a,)

    # ---- bits and numbers; arrays of ``n`` draws, in the order PyTorch draws them

    def bits32(self, n: int) -> np.ndarray:
        """32-bit words, as uint64."""
        with self._lock:
            return self._bits.random_raw(n)

    def bits64(self, n: int) -> np.ndarray:
        """64-bit words: the first of two draws is the high half."""
        words = self.bits32(2 * n)
        return (words[0::2] << np.uint64(32)) | words[1::2]

    def uniform32(self, n: int) -> np.ndarray:
        """float32 in [0, 1) with 24 random bits."""
        return (self.bits32(n) & np.uint64(0xFFFFFF)).astype(np.float32) * np.float32(2.0**-24)

    def uniform64(self, n: int) -> np.ndarray:
        """float64 in [0, 1) with 53 random bits."""
        return (self.bits64(n) & np.uint64((1 << 53) - 1)).astype(np.float64) * 2.0**-53

    def normal(self, n: int, double: bool) -> np.ndarray:
        """Standard normals by Box and Muller: PyTorch draws fewer than 16 one by one, more in blocks of 16."""
        if n < 16:
            return np.array([self._next_normal() for _ in range(n)], np.float64)
        uniform = self.uniform64 if double else self.uniform32
        data = uniform(n)
        whole = n // 16 * 16
        data[:whole] = _normal_blocks(data[:whole])
        if n % 16:
            data[n - 16:] = _normal_blocks(uniform(16))
        return data

    def _next_normal(self) -> float:
        if self._kept is not None:
            found, self._kept = self._kept, None
            return found
        u1, u2 = self.uniform64(2)
        radius, angle = math.sqrt(-2.0 * math.log1p(-u2)), 2.0 * math.pi * u1
        self._kept = radius * math.sin(angle)
        return radius * math.cos(angle)

    def permutation(self, n: int) -> np.ndarray:
        """A random order of ``range(n)`` (Fisher and Yates, from the front)."""
        order = list(range(n))
        if n > 1:
            draws = (self.bits32(n - 1) % np.arange(n, 1, -1, dtype=np.uint64)).tolist()
            for i, step in enumerate(draws):
                if step:
                    order[i], order[i + step] = order[i + step], order[i]
        return np.array(order, np.int64)

    def integers(self, n: int, low: int, high: int) -> np.ndarray:
        """int64 in [low, high)."""
        span = high - low
        bits = self.bits64(n) if span >= 1 << 28 else self.bits32(n)
        return (bits % np.uint64(span)).astype(np.int64) + low


def _normal_blocks(data: np.ndarray) -> np.ndarray:
    """Uniforms in blocks of 16 to normals: eight radii, then eight angles."""
    blocks = data.reshape(-1, 2, 8)
    one, two = data.dtype.type(1), data.dtype.type(-2)
    radius = np.sqrt(two * np.log(one - blocks[:, 0]))
    angle = data.dtype.type(2.0 * math.pi) * blocks[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)


def _restore(state: np.ndarray) -> Generator:
    from .tensor import wrap  # noqa: PLC0415
    return Generator().set_state(wrap(state))


_default: Generator | None = None


def default_generator() -> Generator:
    """The generator that draws when none is given; made when first needed."""
    global _default
    if _default is None:
        _default = Generator()
    return _default


def generator_or_default(given: Any, device: Device = _device.cpu) -> Generator:
    """``given``, or the default one. Raises ``TypeError`` for anything else."""
    if given is None:
        return default_generator()
    if not isinstance(given, Generator):
        raise TypeError(f"expected a torch.Generator, got {type(given).__name__}")
    return given

"""Random numbers: PyTorch's CPU generator (mt19937), and how it turns bits into numbers.

For one seed, the draws below equal PyTorch's bit for bit on CPUs with AVX2 where it does not use MKL's streams (it does for
``bernoulli_`` and ``exponential_`` on Intel): docs/random.md tells the rest. :mod:`.draws` has the arithmetic.
"""

from __future__ import annotations

import math
import os
import threading
from typing import Any

import numpy as np

from flambeau.ir import device as _device
from flambeau.ir.device import Device, as_device

from . import draws
from .mersenne import WORDS, Words

DEFAULT_SEED = 67280421310721
_LOW24, _LOW53, _HIGH, _UNIT24 = np.uint64(0xFFFFFF), np.uint64((1 << 53) - 1), np.uint64(32), np.float32(2.0**-24)
#: PyTorch's state of a CPU generator, so that states saved by one are read by the other
_STATE = np.dtype([
    ("seed", "<u8"), ("left", "<i4"), ("seeded", "<i4"), ("next", "<u8"), ("key", "<u8", (WORDS,)), ("unused", "<f8"),
    ("kept", "<f8"), ("unused2", "<f8"), ("is_kept", "<i4"), ("gap", "<i4"), ("kept32", "<f4"), ("is_kept32", "?"),
    ("gap2", "u1", (3,))])
_LEGACY_BYTES = _STATE.itemsize - 8  # older states end before the kept float32


class Generator:
    """A stream of random numbers (PyTorch: ``torch.Generator``). All draws advance it under a lock."""

    def __init__(self, device: Any = "cpu") -> None:
        self.device: Device = as_device(device)
        if self.device.type != "cpu":
            raise RuntimeError(f"generators live on the CPU, not on {self.device}: numbers are drawn there and copied")
        self._words = Words(DEFAULT_SEED)
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
        self._words.seed(self._seed & 0xFFFFFFFF)
        self._kept, self._fresh = None, True
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
        """The whole state as a uint8 tensor, laid out as PyTorch's."""
        from .tensor import wrap  # noqa: PLC0415 - tensors print and pickle without ever drawing numbers
        state = np.zeros((), _STATE)
        key, position = self._words.state
        state["seed"], state["seeded"], state["key"] = self._seed, 1, key
        state["left"] = 1 if self._fresh else WORDS + 1 - position
        state["next"] = 0 if self._fresh else position
        if self._kept is not None:
            state["is_kept"], state["kept"] = 1, self._kept
        return wrap(np.frombuffer(state.tobytes(), np.uint8).copy())

    def set_state(self, state: Any) -> Generator:
        """Go to a state that :meth:`get_state` returned, here or in PyTorch.

        Raises ``TypeError`` for anything but bytes, ``RuntimeError`` for bytes that are no state.
        """
        array = getattr(state, "_a", None)
        if array is None or array.dtype != np.uint8:
            raise TypeError("expected a torch.ByteTensor, but got "
                            + (f"{state.dtype}" if array is not None else type(state).__name__))
        packed = array.tobytes()
        if len(packed) not in (_STATE.itemsize, _LEGACY_BYTES):
            raise RuntimeError(f"Expected a CPUGeneratorImplState of size {_STATE.itemsize} but found the input RNG state "
                               f"size to be {len(packed)}")
        found = np.frombuffer(packed.ljust(_STATE.itemsize, b"\0"), _STATE)[0]
        left, position = int(found["left"]), int(found["next"])
        if not found["seeded"] or not 1 <= left <= WORDS or position > WORDS:
            raise RuntimeError("Invalid mt19937 state")
        self._seed, self._fresh = int(found["seed"]), left == 1 and position == 0
        self._words.state = found["key"].astype(np.uint32), WORDS if left == 1 else position
        self._kept = float(found["kept"]) if found["is_kept"] else None
        return self

    def mark(self) -> tuple[Any, ...]:
        """Where the stream is, for :meth:`back_to`."""
        return self._words.state, self._seed, self._fresh, self._kept

    def back_to(self, mark: tuple[Any, ...]) -> None:
        """Go on from where the stream was."""
        self._words.state, self._seed, self._fresh, self._kept = mark

    def get_offset(self) -> int:
        """Raises ``RuntimeError``: only GPU generators count an offset."""
        raise RuntimeError("CPU Generator does not use offset")

    def set_offset(self, offset: int) -> Generator:
        """Raises ``RuntimeError``: only GPU generators count an offset."""
        raise RuntimeError("CPU Generator does not use offset")

    def clone_state(self) -> Generator:
        """A generator that goes on from here on its own."""
        return Generator().set_state(self.get_state())

    def __reduce__(self) -> tuple:
        return _restore, (self.get_state()._a,)

    # ---- bits and numbers; arrays of ``n`` draws, in the order PyTorch draws them

    def bits32(self, n: int) -> np.ndarray:
        """32-bit words, as uint64."""
        with self._lock:
            self._fresh = self._fresh and not n
            return self._words.draw(n)

    def bits64(self, n: int) -> np.ndarray:
        """64-bit words: the first of two draws is the high half."""
        words = self.bits32(2 * n)
        found = words[0::2] << _HIGH
        found |= words[1::2]
        return found

    def uniform32(self, n: int) -> np.ndarray:
        """float32 in [0, 1) with 24 random bits."""
        bits = self.bits32(n)
        bits &= _LOW24
        found = bits.astype(np.float32)
        found *= _UNIT24
        return found

    def uniform64(self, n: int) -> np.ndarray:
        """float64 in [0, 1) with 53 random bits."""
        bits = self.bits64(n)
        bits &= _LOW53
        found = bits.astype(np.float64)
        found *= 2.0**-53
        return found

    def uniform(self, n: int, low: float, high: float, kind: np.dtype) -> np.ndarray:
        """Uniforms in [low, high) of a floating dtype. Halves are drawn as float32."""
        data = self.uniform64(n) if kind == draws.F8 else self.uniform32(n)
        if low != 0 or high != 1:
            low, high = data.dtype.type(low), data.dtype.type(high)
        return draws.bounded(draws.scaled(data, high - low, low), kind, low, high)

    def normal(self, n: int, mean: float, std: float, kind: np.dtype, serial: bool = False) -> np.ndarray:
        """Normals of a floating dtype by Box and Muller, PyTorch's way.

        Fewer than 16, and those for memory with gaps (``serial``), are drawn in pairs, of which the second is kept for the
        next call; more in blocks of 16. A rest is made by drawing the last 16 again.
        """
        if n < 16 or serial:
            return draws.rounded(draws.scaled(self._pairs(n), std, mean), kind)
        uniform = self.uniform64 if kind == draws.F8 else self.uniform32
        whole = n // 16 * 16
        data = uniform(n if kind.itemsize > 2 else whole)
        draws.normal_blocks(data[:whole], mean, std)
        if n % 16:
            last = uniform(16)
            draws.normal_blocks(last, mean, std)
            data = np.concatenate([data[:n - 16], last])
        return data.astype(kind, copy=False)

    def _pairs(self, n: int) -> np.ndarray:
        """Standard normals in float64, the one kept from before first."""
        found = np.empty(n, np.float64)
        first = 0
        if n and self._kept is not None:
            found[0], self._kept, first = self._kept, None, 1
        u = self.uniform64((n - first + 1) // 2 * 2)
        even, odd = draws.normal_pairs(u[0::2], u[1::2])
        found[first::2], rest = even, (n - first) // 2
        found[first + 1::2] = odd[:rest]
        if rest < len(odd):
            self._kept = float(odd[-1])
        return found

    def exponential(self, n: int, rate: float) -> np.ndarray:
        """Exponentially distributed numbers (float64)."""
        return (-1.0 / rate) * draws.log1p(-self.uniform64(n))

    def cauchy(self, n: int, median: float, sigma: float) -> np.ndarray:
        """Numbers of Cauchy's distribution (float64)."""
        return draws.scaled(draws.tan(math.pi * (self.uniform64(n) - 0.5)), sigma, median)

    def log_normal(self, n: int, mean: float, std: float) -> np.ndarray:
        """Exponentials of normals, drawn in pairs (float64)."""
        return draws.exp(draws.scaled(self._pairs(n), std, mean))

    def geometric(self, n: int, p: float) -> np.ndarray:
        """How many trials of probability ``p`` it takes to succeed (float64)."""
        return np.ceil(draws.log(self.uniform64(n)) / math.log1p(-p))

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
        if span >= 1 << 64:
            return self.bits64(n).astype(np.int64)
        bits = self.bits64(n) if span >= 1 << 28 else self.bits32(n)
        return (bits % np.uint64(span)).astype(np.int64) + np.int64(low)


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

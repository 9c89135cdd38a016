"""The bits of PyTorch's CPU generator: Mersenne Twister (mt19937), of which both Python and NumPy have an implementation.

NumPy's makes a million words in a third of the time, but `numpy.random` takes longer to import than a small model to fill. So
a stream starts with Python's and goes over to NumPy's when it has been asked for many words; the words are the same.
"""
from __future__ import annotations

from random import Random
from typing import Any

import numpy as np

WORDS = 624
#: words after which NumPy's stream goes on
MANY = 1 << 17


class Words:
    """A stream of 32-bit words. It has no lock."""

    def __init__(self, seed: int) -> None:
        self._left = MANY
        self._python: Random | None = Random(0)
        self._numpy: Any = None
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Start the stream of a 32-bit number."""
        if self._python is None:
            self._numpy._legacy_seeding(seed)
            return
        key = [seed]
        for k in range(1, WORDS):      # Matsumoto and Nishimura's `init_genrand`; Python's own seeding is another
            seed = (1812433253 * (seed ^ seed >> 30) + k) & 0xFFFFFFFF
            key.append(seed)
        self._python.setstate((3, (*key, WORDS), None))

    def draw(self, n: int) -> np.ndarray:
        """The next `n` words, as uint64."""
        if self._python is not None:
            self._left -= n
            if self._left >= 0:
                return np.frombuffer(self._python.getrandbits(32 * n).to_bytes(4 * n, "little") if n else b"",
                                     "<u4").astype(np.uint64)
            state = self.state
            self._numpy, self._python = np.random.MT19937(), None
            self.state = state
        return self._numpy.random_raw(n)

    @property
    def state(self) -> tuple[np.ndarray, int]:
        """The 624 words of the state (uint32), and how many of them have been used."""
        if self._python is None:
            found = self._numpy.state["state"]
            return found["key"], int(found["pos"])
        *key, position = self._python.getstate()[1]
        return np.array(key, np.uint32), position

    @state.setter
    def state(self, state: tuple[np.ndarray, int]) -> None:
        key, position = state
        if self._python is None:
            self._numpy.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": position}}
        else:
            self._python.setstate((3, (*key.tolist(), position), None))

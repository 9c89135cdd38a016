"""Generators, and numbers that PyTorch is known to draw."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.runtime import draws, mersenne

GOLDEN = {  # after torch.manual_seed(0), on a CPU with AVX2
    "rand": (lambda: flambeau.rand(3), [0.49625658988952637, 0.7682217955589294, 0.08847743272781372]),
    "randn": (lambda: flambeau.randn(3), [1.5409960746765137, -0.293428897857666, -2.1787893772125244]),
    "randn-blocks": (lambda: flambeau.randn(16)[:3], [-1.1258398294448853, -1.152360200881958, -0.2505785822868347]),
    "randint": (lambda: flambeau.randint(0, 10, (5,)), [4, 9, 3, 0, 3]),
    "randperm": (lambda: flambeau.randperm(6), [2, 5, 3, 0, 1, 4]),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_known_numbers(name: str) -> None:
    make, wanted = GOLDEN[name]
    flambeau.manual_seed(0)
    assert make().tolist() == wanted


def test_states_go_back_and_forth() -> None:
    g = flambeau.Generator().manual_seed(7)
    flambeau.randn(3, generator=g)  # one normal is kept
    state = g.get_state()
    assert state.dtype is flambeau.uint8 and state.numel() == 5056
    wanted = flambeau.randn(5, generator=g).tolist()
    for other in (flambeau.Generator().set_state(state), copy.deepcopy(flambeau.Generator().set_state(state)),
                  pickle.loads(pickle.dumps(flambeau.Generator().set_state(state)))):
        assert flambeau.randn(5, generator=other).tolist() == wanted
    g.set_state(state)
    copied = g.clone_state()
    assert flambeau.randn(5, generator=g).tolist() == wanted == flambeau.randn(5, generator=copied).tolist()
    assert g.initial_seed() == 7


@pytest.mark.parametrize("state", [np.zeros(5056, np.uint8), np.zeros(7, np.uint8)])
def test_no_state(state: np.ndarray) -> None:
    with pytest.raises(RuntimeError, match="Invalid mt19937 state|size 5056"):
        flambeau.Generator().set_state(flambeau.from_numpy(state))
    with pytest.raises(TypeError):
        flambeau.Generator().set_state(flambeau.zeros(5056))


def test_fork_rng() -> None:
    flambeau.manual_seed(3)
    with flambeau.random.fork_rng():
        inside = flambeau.rand(2).tolist()
    assert flambeau.rand(2).tolist() == inside


def test_memory_order() -> None:
    """A transposed tensor is filled as its memory lies."""
    flambeau.manual_seed(3)
    plain = flambeau.empty(3, 4).uniform_()
    flambeau.manual_seed(3)
    turned = flambeau.empty(3, 4).t().uniform_()
    assert turned.t().tolist() == plain.tolist()


def test_fused_products_round_once() -> None:
    """Against exact fractions: the result is the float next to the exact one."""
    from fractions import Fraction

    rng = np.random.default_rng(0)
    x, b = rng.normal(size=200) * 10.0 ** rng.integers(-6, 6, 200), 1.7
    for c in (0.3, -1e-9, 1e7, -2.5):
        found = draws.scaled(x, b, c)
        assert found.tolist() == [float(Fraction(v) * Fraction(b) + Fraction(c)) for v in x.tolist()]


def test_default_device_of_a_block() -> None:
    with flambeau.device("meta") as device:
        assert flambeau.ones(2).device == device == flambeau.tensor([1.0]).device
        with flambeau.device("cpu"):
            assert flambeau.ones(2).device.type == "cpu"
        assert flambeau.rand(2).device.type == "meta"
    assert flambeau.ones(2).device.type == "cpu"
    with pytest.raises(ZeroDivisionError), flambeau.device("meta"):
        _ = 1 / 0
    assert flambeau.get_default_device().type == "cpu"


@pytest.mark.parametrize("call", [
    lambda x: x.normal_(0, -1), lambda x: x.exponential_(0), lambda x: x.uniform_(2, 1), lambda x: x.cauchy_(0, 0),
    lambda x: x.log_normal_(0, 0), lambda x: x.geometric_(1.0), lambda x: x.random_(3, 3), lambda x: x.bernoulli_(1.5)])
def test_wrong_parameters(call: Any) -> None:
    with pytest.raises(RuntimeError):
        call(flambeau.empty(3))


@pytest.mark.parametrize("bounds", [(-2.0, 2.0), (-0.2, 0.3), (1.5, 4.0)])
def test_truncated_normals_stay_inside(bounds: tuple[float, float]) -> None:
    flambeau.manual_seed(0)
    x = flambeau.nn.init.trunc_normal_(flambeau.empty(2000), a=bounds[0], b=bounds[1])
    assert bounds[0] <= x.min() and x.max() <= bounds[1]
    assert len(set(x.tolist())) > 1900
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning):
            flambeau.nn.init.trunc_normal_(flambeau.empty(3), mean=9.0)


def test_compiled_normals_are_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "_WORTH_COMPILING", 1 << 62)
    data = np.random.default_rng(0).random(1 << 14).astype(np.float32)
    data[:3] = 0, np.nextafter(np.float32(1), np.float32(0)), 2.0**-24
    by_numpy, compiled = data.copy(), data.copy()
    if not draws._compiled_blocks(compiled, 0.3, 1.7):
        pytest.skip("no compiler")
    draws.normal_blocks(by_numpy, 0.3, 1.7)
    np.testing.assert_array_equal(compiled, by_numpy)


@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1])
def test_the_words_are_numpys_before_and_after_numpy_makes_them(seed: int) -> None:
    expected = np.random.MT19937()
    expected._legacy_seeding(seed)
    words = mersenne.Words(seed)
    for n in (0, 1, 623, 7, mersenne.MANY - 700, 300, 1000):      # the last but one goes over to NumPy
        assert np.array_equal(words.draw(n), expected.random_raw(n))
        key, position = words.state
        other = mersenne.Words(1)
        other.state = key, position
        copy = np.random.MT19937()
        copy.state = expected.state
        assert np.array_equal(other.draw(700), copy.random_raw(700))
    words.seed(seed)
    expected._legacy_seeding(seed)
    assert np.array_equal(words.draw(5), expected.random_raw(5))

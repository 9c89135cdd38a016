"""nanoGPT, minGPT, a ResNet, a VAE, a recurrent language model and a DQN train under `flambeau run` to PyTorch's losses."""

from __future__ import annotations

import pytest
from scripts.registry import NAMES, goldens, losses, run_in_flambeau


def test_every_script_has_its_losses() -> None:
    assert set(goldens()) == set(NAMES) and len(NAMES) >= 6
    assert all(len(values) >= 20 for values in goldens().values())


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_pytorch_s_from_the_same_seed(name: str) -> None:
    assert losses(run_in_flambeau(name)) == pytest.approx(goldens()[name], rel=1e-4)

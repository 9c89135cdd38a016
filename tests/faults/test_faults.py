"""Every seeded bug is found by a checked call, which names stage and op and leaves a script that shows it."""
from __future__ import annotations

import runpy
import warnings
from pathlib import Path

import pytest
from faults import capturing, kernels, passes, programs  # noqa: F401 - they enter their faults
from faults.harness import FAULTS

import flambeau
from flambeau.frontend.checking import CheckError


@pytest.fixture(autouse=True)
def scripts_go_to(tmp_path, monkeypatch):
    monkeypatch.setenv("FLAMBEAU_CHECK_DIR", str(tmp_path))


def run(fault, patch):
    """Plant the fault and make the calls; the report of the first that fails."""
    fn, calls = fault.plant(patch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = flambeau.compile(fn, backend=fault.backend, dynamic=fault.dynamic, options={"check": True})
        for arguments in calls:
            try:
                compiled(*arguments())
            except CheckError as error:
                return error.report
    return None


@pytest.mark.parametrize("name", list(FAULTS))
def test_fault_is_found_and_named(name, monkeypatch):
    fault = FAULTS[name]
    report = run(fault, monkeypatch)
    assert report is not None, f"not found: {fault.what}"
    assert not fault.stages or report.stage in fault.stages, report
    assert (report.op in fault.ops) is fault.named, f"{report.op} is named, not {set(fault.ops)}\n{report}"
    if report.repro:
        assert len(Path(report.repro).read_text().splitlines()) <= 30
        with pytest.raises(AssertionError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runpy.run_path(report.repro)


def test_rounding_alone_is_no_mismatch():
    """Adam makes a whole step of a gradient that is zero but for rounding, as that of a key's bias is."""
    flambeau.manual_seed(0)
    block = programs.Block()
    optimizer = flambeau.optim.AdamW(block.parameters(), lr=1e-2)

    @flambeau.compile(backend="numpy", options={"check": True})
    def step(x):
        optimizer.zero_grad()
        loss = block(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(3):
            step(programs.values(2, 4, 8, seed=seed))


def test_there_are_enough_faults_and_nine_of_ten_are_named():
    assert len(FAULTS) >= 60
    assert sum(f.named for f in FAULTS.values()) >= 0.9 * len(FAULTS)

"""Generated code and templates under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -g"


@pytest.mark.slow
@pytest.mark.timeout(600)  # everything is compiled anew, at several times the usual cost
@pytest.mark.skipif(shutil.which("g++") is None, reason="the sanitizers are g++'s")
@pytest.mark.parametrize(
    "file,chosen",
    [
        ("test_generated.py", "37-83 or attention"),
        ("test_generated.py", "integers or bools or edge or (masks and float32) or indirect or empty"),
        ("test_templates.py", "one and (f32 or attention or convolution)"),
    ],
)
def test_no_access_outside_and_nothing_undefined(tmp_path, file, chosen):
    libraries = [
        subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    if not all(Path(library).is_absolute() for library in libraries):
        pytest.skip("the sanitizers' libraries are not installed")
    environment = os.environ | {
        "FLAMBEAU_CXX": f"g++ {FLAGS}",
        "FLAMBEAU_CACHE_DIR": str(tmp_path),
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", chosen,
               str(Path(__file__).parent / file)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=580)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

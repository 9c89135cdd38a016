"""The driver layer against a stand-in ``libcuda`` that writes down what it was asked to do."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flambeau.runtime import cuda

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="the stand-in libcuda is built by gcc")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("fake") / "libcuda_fake.so"
    source = Path(__file__).with_name("fake_cuda.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", target, source], check=True)
    return target


@pytest.fixture
def log(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setenv("FAKE_CUDA_LOG", str(path))
    monkeypatch.setenv("FLAMBEAU_LIBCUDA", str(library))
    forget_driver()
    yield lambda: path.read_text().splitlines()
    forget_driver()


def forget_driver() -> None:
    cuda.device.cache_clear()
    cuda._driver.cache_clear()


def test_device_facts(log: Callable[[], list[str]]) -> None:
    gpu = cuda.device()
    assert (gpu.name, gpu.capability, gpu.target) == ("Paper GPU", (9, 0), "cuda:90")
    assert (gpu.max_shared, gpu.multiprocessors) == (232448, 132)
    assert cuda.device_count() == 1
    assert log() == ["init"]


def test_arguments_arrive_in_order_then_two_null_scratch_pointers(log: Callable[[], list[str]]) -> None:
    function = cuda.device().load(b"p p i l f d b p p").function(
        "kernel", ["*fp32", "*bf16", "i32", "i64", "fp32", "fp64", "i1"], threads=128, shared=1024)
    function.launch((7, 2), [0xDEADBEEF0000, 0x10, -5, 1 << 40, 0.5, 1e-300, True], stream=42)
    function.launch((3,), [1, 2, 3, 4, 5.0, 6.0, False])
    assert log()[2:] == [
        "launch 7,2,1 x 128,1,1 shared 1024 stream 42: 0xdeadbeef0000 0x10 -5 1099511627776 0.5 1e-300 1 0x0 0x0",
        "launch 3,1,1 x 128,1,1 shared 1024 stream 0: 0x1 0x2 3 4 5 6 0 0x0 0x0",
    ]


def test_large_shared_memory_is_opted_in_and_bounded(log: Callable[[], list[str]]) -> None:
    module = cuda.device().load(b"p p")
    module.function("kernel", [], threads=32, shared=48 * 1024)
    assert "attribute" not in log()[-1]
    module.function("kernel", [], threads=32, shared=100_000)
    assert log()[-1] == "attribute 8 = 100000"
    with pytest.raises(cuda.CudaError, match="needs 300000 bytes of shared memory, Paper GPU allows 232448"):
        module.function("kernel", [], threads=32, shared=300_000)


def test_an_empty_grid_launches_nothing(log: Callable[[], list[str]]) -> None:
    cuda.device().load(b"i p p").function("kernel", ["i32"], threads=32).launch((0,), [1])
    assert not any(line.startswith("launch") for line in log())


def test_the_module_lives_as_long_as_its_function(log: Callable[[], list[str]]) -> None:
    function = cuda.device().load(b"p p").function("kernel", [], threads=32)
    function.launch((1,), [])
    assert "unload" not in log()
    del function
    assert log()[-1] == "unload"


def test_errors_name_the_call_and_the_driver_words(log: Callable[[], list[str]]) -> None:
    gpu = cuda.device()
    with pytest.raises(cuda.CudaError, match="cuModuleLoadData: CUDA_ERROR_INVALID_IMAGE"):
        gpu.load(b"broken")
    module = gpu.load(b"i p p")
    with pytest.raises(cuda.CudaError, match="cuModuleGetFunction: CUDA_ERROR_NOT_FOUND"):
        module.function("absent", [], threads=32)
    with pytest.raises(cuda.CudaError, match=r"cuLaunchKernel: CUDA_ERROR_LAUNCH_FAILED \(unspecified launch failure"):
        module.function("faulty", ["i32"], threads=32).launch((1,), [1])
    with pytest.raises(cuda.CudaError, match="'fp16' cannot be passed by value"):
        module.function("kernel", ["fp16"], threads=32)
    with pytest.raises(TypeError, match="takes 1 arguments, got 2"):
        module.function("kernel", ["i32"], threads=32).launch((1,), [1, 2])
    with pytest.raises(cuda.CudaError, match="cuDeviceGet: CUDA_ERROR_INVALID_DEVICE"):
        cuda.device(3)


def test_events_measure_on_the_device_clock(log: Callable[[], list[str]]) -> None:
    gpu = cuda.device()
    start, end = gpu.event(), gpu.event()
    start.record()
    end.record()
    end.synchronize()
    assert end.milliseconds_since(start) == pytest.approx(1.5)


def test_no_driver_and_no_device(monkeypatch: pytest.MonkeyPatch, log: Callable[[], list[str]]) -> None:
    monkeypatch.setenv("FAKE_CUDA_NO_DEVICE", "1")
    with pytest.raises(cuda.CudaUnavailable, match="CUDA_ERROR_NO_DEVICE"):
        cuda.device()
    monkeypatch.setenv("FLAMBEAU_LIBCUDA", "libno_such_driver.so")
    with pytest.raises(cuda.CudaUnavailable, match="no CUDA driver"):
        cuda.device()
    assert cuda.device_count() == 0


def test_pointers_use_all_64_bits(log: Callable[[], list[str]]) -> None:
    function = cuda.device().load(b"p p p").function("kernel", ["*i8"], threads=32)
    function.launch((1,), [2**64 - 1])
    assert log()[-1].endswith(f"{hex(2**64 - 1)} 0x0 0x0")
    assert ctypes.sizeof(function._slots[0]) == 8

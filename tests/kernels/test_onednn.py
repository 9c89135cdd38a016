"""oneDNN as a provider of eager kernels: it agrees with the reference, and nothing depends on its being there."""

import os
import subprocess
import sys
import threading
from importlib import metadata

import ml_dtypes
import numpy as np
import pytest

import flambeau
from flambeau.ir.op import OPS
from flambeau.runtime import native, onednn, onednn_api

F = flambeau.nn.functional
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT32, FLOAT16 = np.dtype(np.float32), np.dtype(np.float16)
#: relative to the largest element: sums in float32, rounded once
TOLERANCES = {FLOAT32: 1e-5, BFLOAT16: 2.0**-7, FLOAT16: 2.0**-9}
DTYPES = [pytest.param(dtype, id=dtype.name) for dtype in TOLERANCES]

needs_onednn = pytest.mark.skipif(onednn_api.library() is None, reason="onednn-cpu-gomp is not installed, or turned off")


def _random(shape, dtype=FLOAT32, seed=0):
    return np.random.default_rng(seed + len(shape)).standard_normal(shape).astype(dtype)


def _require(dtype):
    """Skip where this processor has no instructions for oneDNN's kernels in a half precision."""
    square = np.zeros((128, 128), dtype)
    if onednn.matmul(square, square) is None:
        pytest.skip(f"oneDNN has no {dtype.name} for this processor")


def _same(found, wanted, dtype):
    assert found is not None and found.dtype == dtype and found.shape == wanted.shape
    difference = np.abs(found.astype(np.float64) - wanted)
    assert difference.max() <= TOLERANCES[dtype] * np.abs(wanted).max()


def _reference(name, *args):
    """What the op's NumPy kernel gives, in double precision."""
    double = [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in args]
    return OPS[name].kernel(np, *double)


@needs_onednn
@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_any_layout(dtype):
    _require(dtype)
    a, b = _random((230, 100), dtype), _random((100, 190), dtype, 1)
    batch = _random((3, 1, 130, 100), dtype), _random((2, 100, 90), dtype, 1)
    backwards = _random((230, 100), dtype)[::-1, ::-1]
    spread = np.broadcast_to(_random((100,), dtype), (230, 100))
    for left, right in ((a, b), (np.asfortranarray(a), np.asfortranarray(b)), (a[::2], b[:, 3:]), batch, (a, batch[1]),
                        (backwards, b), (spread, b)):
        _same(onednn.matmul(left, right), _reference("matmul", left, right), dtype)


@needs_onednn
@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_adds_its_bias_before_rounding(dtype):
    _require(dtype)
    x, weight, bias = _random((4, 33, 100), dtype), _random((90, 100), dtype), _random((90,), dtype)
    _same(onednn.linear(x, weight, bias), _reference("linear", x, weight, bias), dtype)
    _same(onednn.linear(x, weight), _reference("linear", x, weight, None), dtype)


CONVOLUTIONS = {  # input, weight, stride, padding, dilation, groups
    "1d": ((8, 32, 100), (32, 32, 5), (1,), (2,), (1,), 1),
    "3x3": ((2, 32, 20, 24), (64, 32, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    "uneven": ((2, 32, 20, 24), (32, 32, 3, 5), (1, 1), (0, 3), (2, 1), 1),
    "groups": ((4, 64, 20, 24), (64, 16, 3, 3), (1, 1), (1, 1), (1, 1), 4),
    "depthwise": ((8, 64, 28, 28), (64, 1, 3, 3), (1, 1), (1, 1), (1, 1), 64),
    "3d": ((2, 16, 8, 10, 12), (16, 16, 3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1), 1),
}


@needs_onednn
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions(case, dtype):
    _require(dtype)
    x_shape, w_shape, *geometry = CONVOLUTIONS[case]
    x, weight, bias = _random(x_shape, dtype), _random(w_shape, dtype), _random(w_shape[:1], dtype)
    wanted = _reference("conv", x, weight, bias, *geometry)
    found = onednn.conv(x, weight, bias, *geometry)
    if found is None and case != "3x3":
        pytest.skip("oneDNN has no kernel of its own for this shape on this processor")
    _same(found, wanted, dtype)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)  # channels last in memory
    _same(onednn.conv(last, weight, None, *geometry), _reference("conv", x, weight, None, *geometry), dtype)

    grad = _random(wanted.shape, dtype, 2)
    size, kernel = x_shape[2:], w_shape[2:]
    found = onednn.conv_input_grad(grad, weight, size, *geometry)
    if found is not None or dtype == FLOAT32:  # half precision: not on every processor that has it forward
        _same(found, _reference("conv_input_grad", grad, weight, size, *geometry), dtype)
    found = onednn.conv_weight_grad(grad, x, kernel, *geometry)
    if dtype == FLOAT32:
        assert found is None  # by the stated rule
    elif found is not None:
        _same(found, _reference("conv_weight_grad", grad, x, kernel, *geometry), dtype)


@needs_onednn
def test_weight_gradients_are_right_where_they_are_allowed(monkeypatch):
    """The path that only half precision takes, in float32, which every processor has."""
    monkeypatch.setattr(onednn, "_takes", lambda *args: True)
    for case in ("3x3", "groups", "depthwise"):
        x_shape, w_shape, *geometry = CONVOLUTIONS[case]
        x = _random(x_shape)
        grad = _random(_reference("conv", x, _random(w_shape), None, *geometry).shape, seed=2)
        found = onednn.conv_weight_grad(grad, x, w_shape[2:], *geometry)
        _same(found, _reference("conv_weight_grad", grad, x, w_shape[2:], *geometry), FLOAT32)


def test_what_it_does_not_take_it_leaves():
    x, weight = _random((2, 64, 20, 20)), _random((64, 64, 3, 3))
    plain = ((1, 1), (1, 1), (1, 1), 1)
    assert onednn.conv(x, weight, None, (2, 2), *plain[1:]) is None  # strides, in float32
    assert onednn.conv(x, weight[:, :, :1, :1], None, *plain) is None  # one place
    assert onednn.conv(x.astype(np.float64), weight.astype(np.float64), None, *plain) is None
    assert onednn.conv(x[:, :32], weight, None, *plain) is None  # channels that do not fit: the reference says why
    assert onednn.conv(x, weight, _random((63,)), *plain) is None
    assert onednn.conv(x[:0], weight, None, *plain) is None
    assert onednn.conv(x[:1, :, :3, :3], weight[:4], None, *plain) is None  # too little work
    assert onednn.conv_input_grad(x, weight, (7, 7), *plain) is None
    assert onednn.matmul(_random((200, 200)), _random((201, 200))) is None
    assert onednn.matmul(_random((200, 200)), _random((200, 200)).astype(FLOAT16)) is None
    assert onednn.matmul(_random((8, 8)), _random((8, 8))) is None


def _eager_results():
    """Forward and gradients of what has a provider, through the public functions."""
    found = []
    for dtype in (flambeau.float32, flambeau.bfloat16, flambeau.float16):
        x = flambeau.tensor(_random((2, 32, 24, 24))).to(dtype).requires_grad_()
        w = flambeau.tensor(_random((32, 32, 3, 3)) / 16).to(dtype).requires_grad_()
        m = flambeau.tensor(_random((128, 120)) / 11).to(dtype).requires_grad_()
        y = F.conv2d(x, w, padding=1)
        z = F.linear(y.reshape(-1, 128)[:, :120], m) @ m
        z.float().square().mean().backward()
        found += [t.detach().float().numpy() for t in (y, z, x.grad, w.grad, m.grad)]
    return found


@needs_onednn
def test_eager_ops_come_here_and_agree_with_the_path_without(monkeypatch):
    taken = []
    perform = onednn_api.perform

    def counted(what, arrays, build):
        done = perform(what, arrays, build)
        taken.append((what[0], arrays[0].dtype, done))
        return done

    monkeypatch.setattr(onednn_api, "perform", counted)
    with_it = _eager_results()
    assert ("conv", FLOAT32, True) in taken
    assert {("matmul", BFLOAT16), ("matmul", FLOAT16), ("conv", BFLOAT16)} <= {entry[:2] for entry in taken}
    monkeypatch.setattr(onednn_api, "library", lambda: None)
    monkeypatch.setattr(onednn_api, "perform", perform)
    for one, other in zip(with_it, _eager_results(), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-2 * np.abs(other).max())


@needs_onednn
def test_threads_are_flambeaus_and_openmp_is_left_as_it_was():
    openmp = onednn_api.library().openmp
    x, weight = _random((2, 64, 20, 20)), _random((64, 64, 3, 3))
    geometry = ((1, 1), (1, 1), (1, 1), 1)
    wanted = _reference("conv", x, weight, None, *geometry)
    before, mine = native.get_num_threads(), openmp.omp_get_max_threads()
    try:
        for count in (1, 2, 3):
            native.set_num_threads(count)
            _same(onednn.conv(x, weight, None, *geometry), wanted, FLOAT32)
            assert openmp.omp_get_max_threads() == mine
    finally:
        native.set_num_threads(before)
    assert {1, 2, 3} <= {key[1] for key in onednn_api._programs}


@needs_onednn
def test_calls_from_many_threads(monkeypatch):
    monkeypatch.setattr(onednn_api, "_MOST_PROGRAMS", 3)  # programs come and go meanwhile
    geometry = ((1, 1), (1, 1), (1, 1), 1)
    weight, wrong = _random((64, 64, 3, 3)), []

    def work(seed):
        for rows in (12, 13, 14, 15):
            x = _random((2, 64, rows, 16), seed=seed)
            wanted = _reference("conv", x, weight, None, *geometry)
            found = onednn.conv(x, weight, None, *geometry)
            if found is None or np.abs(found - wanted).max() > 1e-5 * np.abs(wanted).max():
                wrong.append((seed, rows))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def _run(code, **environment):
    kept = {k: v for k, v in os.environ.items() if k not in ("FLAMBEAU_ONEDNN", "FLAMBEAU_CACHE_DIR")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env={**kept, **environment})
    assert done.returncode == 0, done.stderr


CONVOLVE = """
import os, sys, numpy as np, flambeau
from flambeau.runtime import onednn_api
flambeau.set_num_threads(2)
x = flambeau.tensor(np.random.default_rng(0).standard_normal((2, 64, 20, 20)).astype("f"))
w = flambeau.tensor(np.random.default_rng(1).standard_normal((64, 64, 3, 3)).astype("f"))
def compute():
    half = x.reshape(-1, 160).bfloat16()
    return flambeau.conv2d(x, w, padding=1), (half @ half.T).float()
before = compute()
"""


@needs_onednn
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_computes_without_it():
    _run(CONVOLVE + """
assert any(onednn_api._programs.values())
child = os.fork()
if child == 0:
    same = [np.allclose(a.numpy(), b.numpy(), rtol=1e-2, atol=1e-3 * abs(b.numpy()).max()) for a, b in zip(compute(), before)]
    os._exit(0 if all(same) and onednn_api.library() is None else 1)
assert onednn_api.library() is not None
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")


def test_turned_off_or_absent_everything_still_works():
    check = CONVOLVE + """
assert onednn_api.library() is None and not onednn_api._programs
assert np.allclose(before[0][0, 0, 0, 0].item(), (x[0, :, :2, :2] * w[0, :, 1:, 1:]).sum().item(), atol=1e-3)
"""
    _run(check, FLAMBEAU_ONEDNN="0")
    _run("from flambeau.runtime import onednn_api\nonednn_api.WHEEL = 'no-such-distribution'\n" + check)


@needs_onednn
def test_importing_flambeau_does_not_load_it():
    _run("import flambeau\nfrom flambeau.runtime import onednn_api\nassert not onednn_api._loaded.cache_info().currsize\n"
         "assert 'libdnnl' not in open('/proc/self/maps').read()")


@needs_onednn
def test_the_environment_is_left_as_it_was():
    _run("import os\nset_before = dict(os.environ)\n" + CONVOLVE + "assert dict(os.environ) == set_before")


@pytest.mark.skipif(onednn_api.library() is not None or os.environ.get("FLAMBEAU_ONEDNN") == "0", reason="it loads")
def test_an_installed_wheel_loads():
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.distribution(onednn_api.WHEEL)

"""Memory shared with NumPy and others: what is shared, what is copied, and what is refused."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import flambeau as fl


def test_from_numpy_shares_in_both_directions():
    a = np.arange(6.0).reshape(2, 3)
    t = fl.from_numpy(a.T)
    a[0, 1] = 7
    t[2, 0] = 8
    assert t[1, 0].item() == 7 and a[0, 2] == 8 and t.stride() == (1, 3) and t.numpy() is not None
    assert np.shares_memory(t.numpy(), a) and fl.from_numpy(np.zeros(())).shape == ()


@pytest.mark.parametrize(("array", "error", "words"), [
    (np.arange(3.0)[::-1], ValueError, "stride in the given numpy array is negative"),
    (np.array(["a"]), TypeError, "can't convert np.ndarray of type"), ([1.0], TypeError, "expected np.ndarray"),
    (np.ones(2, ">f4"), ValueError, "byte order"),
    (np.zeros(2, [("a", "i1"), ("b", "<f4")])["b"], ValueError, "not a multiple of the element byte size")])
def test_from_numpy_refuses(array, error, words):
    with pytest.raises(error, match=words):
        fl.from_numpy(array)
    if isinstance(array, np.ndarray) and array.dtype.kind == "f":
        with pytest.raises(error, match=words):
            fl.as_tensor(array)


def test_a_read_only_array_is_warned_of_once():
    code = ("import warnings, numpy as np, flambeau as fl\na = np.ones(2); a.flags.writeable = False\n"
            "with warnings.catch_warnings(record=True) as found:\n    warnings.simplefilter('always')\n"
            "    t = fl.from_numpy(a); fl.from_numpy(a); fl.frombuffer(b'ab', dtype=fl.uint8)\n"
            "print([str(w.message)[:20] for w in found])")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert out.stdout == "['The given NumPy arra', 'The given buffer is ']\n", out.stderr


def test_arrays_of_tensors():
    t = fl.arange(3.0)
    assert np.shares_memory(np.asarray(t), t.numpy())
    assert not np.shares_memory(np.array(t), t.numpy()) and np.asarray(t, dtype=np.int32).dtype == np.int32
    assert t.__array_interface__["data"][0] == t.data_ptr() and t.__array_interface__["typestr"] == "<f4"
    assert np.asarray(fl.ones(2, dtype=fl.bfloat16)).dtype == ml_dtypes.bfloat16
    with pytest.raises(RuntimeError, match="requires grad"):
        np.asarray(fl.ones(2, requires_grad=True))
    with pytest.raises(RuntimeError, match="Use tensor.detach"):
        fl.ones(2, requires_grad=True).numpy()
    assert fl.ones(2, requires_grad=True).numpy(force=True).tolist() == [1, 1]
    assert np.asarray(fl.ones(2, dtype=fl.bool)).dtype == bool and (np.ones(3) * t).dtype is fl.float64


DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64",
          "complex128"]


@pytest.mark.parametrize("name", DTYPES)
def test_dlpack_goes_round_and_shares(name):
    t = fl.tensor([[0, 1, 1], [1, 0, 1]]).to(getattr(fl, name))

    class Foreign:
        """Another library's tensor: nothing but the protocol."""

        def __dlpack__(self, **options):
            return t.__dlpack__(**options)

        def __dlpack_device__(self):
            return t.__dlpack_device__()

    back = fl.from_dlpack(Foreign())
    assert back.dtype is t.dtype and back.tolist() == t.tolist() and back.data_ptr() == t.data_ptr()
    assert fl.utils.dlpack.from_dlpack(fl.utils.dlpack.to_dlpack(t.t())).stride() == (1, 3)
    if name != "bfloat16":
        assert np.from_dlpack(t).tolist() == t.tolist()
    copied = fl.from_dlpack(Foreign(), copy=True)
    copied[0, 0] = 1
    assert t[0, 0].item() == 0


def test_dlpack_refuses():
    with pytest.raises(BufferError, match="require gradient"):
        fl.ones(2, requires_grad=True).__dlpack__()
    capsule = fl.ones(2).__dlpack__()
    fl.from_dlpack(capsule)
    with pytest.raises(BufferError, match="only once"):
        fl.from_dlpack(capsule)
    assert fl.from_dlpack(np.arange(3)).tolist() == [0, 1, 2] and fl.ones(1).__dlpack_device__() == (1, 0)


def test_frombuffer():
    data = bytearray(b"abcd")
    t = fl.frombuffer(data, dtype=fl.int16)
    data[0] = 0
    assert t.tolist() == [0x6200, 0x6463] and fl.frombuffer(data, dtype=fl.uint8, count=2, offset=1).tolist() == [98, 99]
    for kwargs, words in (({"count": 3}, "requested buffer length"), ({"offset": 4}, "offset"), ({"offset": 1}, "multiple"),
                          ({"count": 0}, "must not be 0")):
        with pytest.raises(ValueError, match=words):
            fl.frombuffer(data, dtype=fl.int16, **kwargs)


def test_as_tensor_and_asarray_share_when_they_can():
    a = np.ones(3, np.float32)
    for make in (fl.as_tensor, fl.asarray):
        assert np.shares_memory(make(a).numpy(), a) and not np.shares_memory(make(a, dtype=fl.float64).numpy(), a)
        t = fl.ones(2)
        assert make(t) is t and make(t, dtype=fl.int32).dtype is fl.int32 and make([1, 2.5]).tolist() == [1, 2.5]
    assert not np.shares_memory(fl.asarray(a, copy=True).numpy(), a) and fl.asarray(np.float32(3)).dtype is fl.float32
    assert fl.asarray(bytearray(b"ab"), dtype=fl.uint8).tolist() == [97, 98]
    for wrong, words in (([1, 2], "arbitrary sequence"), (np.ones(2), "'Double' into dtype 'Float'")):
        with pytest.raises(ValueError, match=words):
            fl.asarray(wrong, dtype=fl.float32, copy=False)
    leaf = fl.ones(2, requires_grad=True)
    assert not fl.asarray(leaf).requires_grad and fl.asarray([1.0], requires_grad=True).requires_grad


def test_copies_keep_what_is_shared():
    base = fl.arange(6.0)
    obj = {"base": base, "row": base.view(2, 3)[1], "same": base}
    new = copy.deepcopy(obj)
    assert new["same"] is new["base"]
    new["base"][4] = -1
    assert new["row"].tolist() == [3, -1, 5] and base[4].item() == 4
    for again in (pickle.loads(pickle.dumps(obj)), pickle.loads(pickle.dumps(obj, 2))):
        assert again["same"] is again["base"] and again["row"].tolist() == [3, 4, 5]
    t = fl.ones(2, requires_grad=True)
    t.grad, t.mark = fl.zeros(2), "x"
    for again in (copy.deepcopy(t), pickle.loads(pickle.dumps(t))):
        assert again.requires_grad and again.is_leaf and again.mark == "x"
    assert copy.copy(t).data_ptr() == t.data_ptr() and copy.deepcopy(t).grad.tolist() == [0, 0]
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(t * 2)


def test_storages():
    t = fl.arange(4, dtype=fl.int16)
    s = t[2:].untyped_storage()
    assert s.nbytes() == len(s) == s.size() == 8 and s.tolist() == [0, 0, 1, 0, 2, 0, 3, 0] and s.data_ptr() == t.data_ptr()
    s[0] = 9
    assert t[0].item() == 9 and t._version == 1 and isinstance(s, fl.UntypedStorage) and s[2] == 1
    clone = s.clone().fill_(1)
    assert t[0].item() == 9 and s.copy_(clone)[7] == 1 and t.tolist() == [257] * 4
    assert fl.UntypedStorage(3).tolist() == [0, 0, 0]
    assert copy.deepcopy(s).tolist() == s.tolist() != copy.deepcopy(s).fill_(0).tolist()
    assert "of size 8]" in repr(s) and pickle.loads(pickle.dumps(s)).tolist() == s.tolist() and s.device == fl.device("cpu")
    with pytest.raises(RuntimeError, match="look at these very bytes"):
        s.resize_(100)
    strided = fl.from_numpy(np.arange(6, dtype=np.int8)[::2])
    assert strided.untyped_storage().tolist() == [0, 1, 2, 3, 4]


def test_typed_storages():
    t = fl.arange(4, dtype=fl.int16)
    s = t[1:].storage()
    assert s.size() == len(s) == 4 and s.tolist() == [0, 1, 2, 3] and s[2] == 2 and s[1:3].tolist() == [1, 2] and s.nbytes() == 8
    s[0] = 7
    assert t[0].item() == 7 and s.clone().fill_(1).tolist() == [1] * 4 and t[1].item() == 1 and s.untyped() is t.untyped_storage()
    assert fl.storage.FloatStorage([1, 2]).tolist() == [1.0, 2.0] and isinstance(fl.storage.FloatStorage(3), fl.TypedStorage)
    assert "TypedStorage(dtype=torch.int16" in repr(s) and s.data_ptr() == t.data_ptr() and s.element_size() == 2

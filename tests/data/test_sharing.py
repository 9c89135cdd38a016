"""Tensors that several processes see, and processes that are started and waited for."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

import flambeau as fl
import flambeau.multiprocessing as mp

FORK = mp.get_context("fork")


def add_one(t, done=None, received=None):
    t += 1
    if done is not None:
        done.put(t)
        received.wait(20)  # who sends memory stays until it has arrived


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64"])
def test_children_write_where_the_parent_reads(dtype):
    t = fl.zeros(5, dtype=getattr(fl, dtype)).share_memory_()
    child = FORK.Process(target=add_one, args=(t,))
    child.start()
    child.join(20)
    assert child.exitcode == 0 and t.tolist() == [1] * 5 and t.is_shared() and t[1:].is_shared()


def test_what_goes_through_a_queue_is_the_same_memory():
    t, q = fl.arange(6.0).view(2, 3), FORK.Queue()
    base = fl.arange(6.0)
    received = FORK.Event()
    child = FORK.Process(target=add_one, args=(base.share_memory_(), q, received))
    child.start()
    back = q.get(timeout=20)
    received.set()
    child.join(20)
    assert back.tolist() == [1, 2, 3, 4, 5, 6] and back.data_ptr() != base.data_ptr()
    back[0] = 100.0
    assert base[0].item() == 100
    q.put(fl.nn.Parameter(fl.ones(2)))
    assert type(q.get(timeout=20)) is fl.nn.Parameter
    turned = fl.from_numpy(np.arange(6.0).reshape(2, 3).T)  # column by column, and the tensor with a view is copied
    q.put([turned, t])
    found, copied = q.get(timeout=20)
    assert found.tolist() == turned.tolist() and found.stride() == turned.stride() and copied.tolist() == t.tolist()
    with pytest.raises(RuntimeError, match="Cowardly refusing"):
        mp._reduced(fl.ones(1, requires_grad=True) * 2)


def test_a_tensor_with_views_is_not_left_in_two_places():
    base = fl.zeros(4)
    view = base[1:]
    with pytest.raises(RuntimeError, match="before making views"):
        base.share_memory_()
    del view
    assert base.share_memory_().is_shared() and not fl.ones(1).is_shared()
    with fl.no_grad():
        window = fl.arange(6.0)[2:4]  # (of a tensor that nobody holds)
    window.share_memory_()
    assert window.tolist() == [2, 3] and window.untyped_storage().nbytes() == 24 and window.storage_offset() == 2


def train(number, model):
    optimizer = fl.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        (model(fl.ones(4, 2)) - 3).square().mean().backward()
        optimizer.step()


def test_a_model_is_trained_by_two_processes_at_once():
    model = fl.nn.Linear(2, 1)
    model.share_memory()
    before = (model(fl.ones(1, 2)) - 3).abs().item()
    mp.start_processes(train, (model,), 2, start_method="fork")
    assert all(p.is_shared() for p in model.parameters()) and (model(fl.ones(1, 2)) - 3).abs().item() < before / 4


def fail(number, how):
    if number == 1:
        if how == "raise":
            raise ValueError("number one")
        if how == "exit":
            os._exit(7)
        os.kill(os.getpid(), signal.SIGKILL)


def test_failures_of_processes_are_told():
    with pytest.raises(mp.ProcessRaisedException, match="(?s)Process 1 terminated with the following error.*number one"):
        mp.start_processes(fail, ("raise",), 2, start_method="fork")
    with pytest.raises(mp.ProcessExitedException, match="process 1 terminated with exit code 7") as caught:
        mp.start_processes(fail, ("exit",), 2, start_method="fork")
    assert caught.value.exit_code == 7 and caught.value.error_index == 1
    with pytest.raises(mp.ProcessExitedException, match="signal SIGKILL"):
        mp.start_processes(fail, ("kill",), 2, start_method="fork")
    running = mp.start_processes(fail, ("no",), 1, join=False, start_method="fork")
    assert running.join(20) and len(running.pids()) == 1
    with pytest.raises(AssertionError, match="sharing strategy"):
        mp.set_sharing_strategy("telepathy")

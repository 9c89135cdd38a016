"""NumPy on known numbers, and PyTorch's old constructors, in traced code: one graph, with what eager mode gives."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from tracer.support import compile, context_of

import flambeau as torch

X = torch.arange(6.0).view(2, 3)


class Table:
    def row(self, a, b=2, *, c=3):
        return a


def free(a, *, c=1):
    return a


PROGRAMS = {
    "scaled": lambda x: x / np.sqrt(x.shape[-1]) * np.float32(2) + np.log(3.0),
    "from_numpy": lambda x: x + torch.from_numpy(np.array([1, 2, 3]).astype(np.float32)).view(1, 3),
    "mask": lambda x: x.masked_fill(torch.from_numpy(np.triu(np.ones((2, 3)), k=1).astype("uint8")) == 0, -1.0),
    "tensor": lambda x: x + torch.tensor(np.linspace(0, 1, 3), dtype=torch.float32),
    "table": lambda x: x + torch.FloatTensor(np.array([[p / np.power(10, j) for j in range(3)] for p in range(2)])),
    "loop": lambda x: sum((x * v for v in np.arange(3) * 2), x),
    "facts": lambda x: (x * np.eye(3).size, np.zeros((2, 3)).shape, len(np.ones(4)), bool(np.ones(1)), np.prod((2, 3)).item()),
    "dtype": lambda x: (x * np.float64(0.5), torch.tensor(np.float64(0.5)), torch.tensor(np.arange(2))),
    "escapes": lambda x: (x, np.arange(3) * 2, np.float64(1.5)),
    "old": lambda x: x + torch.Tensor([1.0, 2.0, 3.0]) + torch.Tensor(1, 3).fill_(2.0) + torch.Tensor(x.size()).zero_(),
    "old_types": lambda x: x + torch.LongTensor([1, 2, 3]) + torch.BoolTensor([True, False, True]) + x.new([1, 2, 3]),
    "leaf": lambda x: x * torch.zeros(3).requires_grad_(),
    "signature": lambda x: x * len(inspect.signature(Table().row).parameters) + ("c" in inspect.signature(free).parameters),
    "code": lambda x: x * Table.row.__code__.co_argcount,
}


def plain(value):
    if isinstance(value, (tuple, list)):
        return [plain(v) for v in value]
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        elements = value.detach() if isinstance(value, torch.Tensor) else value
        return (type(value), str(value.dtype), np.asarray(elements.tolist()).round(4).tolist())
    return value


@pytest.mark.parametrize("name", PROGRAMS)
def test_one_graph_that_gives_the_eager_result(name):
    run = compile(PROGRAMS[name], backend="eager", fullgraph=True)
    for x in (X, X + 1):
        assert plain(run(x)) == plain(PROGRAMS[name](x))


def test_a_signature_is_guarded_by_the_defaults():
    def call(x):
        return x * inspect.signature(table.row).parameters["b"].default

    table = Table()
    run = compile(call, backend="eager")
    assert run(X).tolist() == (X * 2).tolist()
    before = Table.row.__defaults__
    try:
        Table.row.__defaults__ = (5,)
        assert run(X).tolist() == (X * 5).tolist()
    finally:
        Table.row.__defaults__ = before


@pytest.mark.parametrize("write", [lambda a: a.fill(7), lambda a: a.__setitem__(0, 7), lambda a: np.add(a, 1, out=a)])
def test_a_write_to_an_array_ends_the_graph(write):
    def call(x):
        a = np.arange(3)
        b = a
        write(a)
        return x + torch.from_numpy(a), b

    run = compile(call, backend="eager")
    for _ in range(2):
        assert plain(run(X)) == plain(call(X))
    assert any(e.kind == "break" for e in context_of(run).events)


def test_arrays_that_share_memory_stay_shared():
    def call(x):
        a = np.arange(6)
        b = a.reshape(2, 3)
        return x * 2, a, b, torch.from_numpy(a)

    y, a, b, t = compile(call, backend="eager")(X)
    a[0] = 9
    assert b[0, 0] == 9 and t[0].item() == 9


def test_an_array_is_made_anew_at_each_call():
    run = compile(lambda x: (x, np.arange(3)), backend="eager")
    run(X)[1][:] = 7
    assert run(X)[1].tolist() == [0, 1, 2]


def test_a_subscript_of_a_number_raises_whatever_the_key():
    def call(x):
        skip = 0
        try:
            skip = skip[:, -x.size(1):]
        except TypeError as error:
            return x + skip, str(error)

    run = compile(call, backend="eager", fullgraph=True, dynamic=True)
    for n in (3, 4, 5):
        assert run(torch.ones(2, n))[1] == "'int' object is not subscriptable"
    assert sum(e.kind == "graph" for e in context_of(run).events) == 1


def test_what_is_written_to_a_tensor_is_seen_in_the_array_it_lies_in():
    def filled(make, of=np.float32):
        a = np.zeros(3, of)
        part = a[1:]
        make(a).fill_(1)
        return a.tolist(), part.sum().item(), a.shape

    for make in (torch.from_numpy, torch.as_tensor, torch.Tensor, lambda a: torch.from_numpy(a[1:]), torch.tensor):
        run = compile(filled, backend="eager")
        assert run(make) == run(make) == filled(make)
    assert compile(filled, backend="eager")(torch.Tensor, np.float64) == filled(torch.Tensor, np.float64) == ([0] * 3, 0, (3,))

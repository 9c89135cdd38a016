"""A graph that raises after it has written to the program's tensors or drawn random numbers leaves all to the program."""
import pytest
from tracer.support import compile, context_of
from tracer.traps import facts, rand

import flambeau
from flambeau import nn

X, GOOD, BAD = rand(4, 3), flambeau.tensor([0, 3]), flambeau.tensor([0, 9])


def written():
    log, t = [], flambeau.zeros(3)

    def f(index):
        log.append("before")
        t.add_(1)
        y = X[index]
        log.append("after")
        t.mul_(2)
        return y + t
    return f, lambda: (log, t, t._storage.version > 0)


def written_through_a_view():
    log, base = [], flambeau.zeros(4)
    view = base[1:]

    def f(index):
        view.add_(1)
        log.append(base.shape)
        return X[index] + view
    return f, lambda: (log, base)


def written_and_recorded():
    log, t, w = [], flambeau.zeros(3), flambeau.ones(3, requires_grad=True)

    def f(index):
        t.add_(w)
        log.append("written")
        try:
            y = X[index]
        except IndexError:
            log.append("caught")
            return t * 2
        return y + t
    return f, lambda: (log, t.requires_grad, t.detach())


def drawn():
    log = []

    def f(index):
        log.append("before")
        r = flambeau.rand(3)
        y = X[index] + r
        log.append("after")
        return y
    return f, lambda: (log, flambeau.rand(2))


def drawn_and_written():
    norm, log = nn.BatchNorm1d(3), []

    def f(index):
        y = nn.functional.dropout(norm(X), 0.5)
        log.append(norm.training)
        try:
            return y[index]
        finally:
            log.append("end")
    return f, lambda: (log, norm.running_mean, norm.num_batches_tracked, flambeau.rand(2))


def one(f, index):
    try:
        return facts(f(index))
    except Exception as error:
        return type(error).__name__, str(error)


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "numpy"])
@pytest.mark.parametrize("program", [written, written_through_a_view, written_and_recorded, drawn, drawn_and_written])
def test_as_if_the_graph_had_not_run(program, backend):
    found = []
    for how in (lambda f: f, lambda f: compile(f, backend=backend)):
        flambeau.manual_seed(0)
        f, state = program()
        run = how(f)
        found.append([(one(run, index), facts(state())) for index in (GOOD, BAD, GOOD, BAD)])
    assert found[1] == found[0]
    assert all(e.kind != "fallback" for e in context_of(run).events)


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "numpy", "cpp"])
@pytest.mark.parametrize("wrong", ["token", "target"])
def test_a_training_step_that_refuses_its_data_does_what_the_program_does_until_then(backend, wrong):
    def train(compiled):
        flambeau.manual_seed(0)
        embed, head = flambeau.nn.Embedding(7, 4), flambeau.nn.Linear(4, 7)
        parameters = [*embed.parameters(), *head.parameters()]
        optimizer = flambeau.optim.AdamW(parameters, lr=0.1)
        seen = []

        def step(x, y):
            seen.append("begun")
            optimizer.zero_grad()
            loss = flambeau.nn.functional.cross_entropy(head(embed(x)), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        run = flambeau.compile(step, backend=backend) if compiled else step
        good, bad = flambeau.tensor([1, 5]), flambeau.tensor([1, 7])
        run(good, good), run(good, good)
        with pytest.raises(IndexError) as caught:
            run(bad if wrong == "token" else good, bad if wrong == "target" else good)
        values = [p.detach().numpy().round(5).tolist() for p in parameters]
        return str(caught.value), seen, [p.grad for p in parameters], values

    assert train(True) == train(False)


@pytest.mark.parametrize("backend", ["aot_eager", "cpp"])
def test_a_refused_write_beside_what_is_read_leaves_what_came_before(backend):
    def program(x, y, log, t):
        log.append(1)
        t.grad = t * 2
        x.swapaxes(0, -1).sub_(y)
        log.append(2)
        return x

    outcomes = []
    for run in (program, compile(program, backend=backend)):
        whole, t, log = flambeau.arange(20.0), flambeau.ones(2), []
        with pytest.raises(RuntimeError, match="unsupported operation: some elements"):
            run(whole[:9].view(3, 3), whole[3:12].view(3, 3), log, t)
        outcomes.append((whole.tolist(), t.grad.tolist(), log))
    assert outcomes[0] == outcomes[1] == (flambeau.arange(20.0).tolist(), [2, 2], [1])

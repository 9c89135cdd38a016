"""cond, while_loop, scan, map and associative_scan in compiled code: values and gradients as in eager mode, one graph each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.nn.functional as F
from flambeau import cond, nn
from flambeau._higher_order_ops import associative_scan, scan, while_loop
from flambeau._higher_order_ops import map as map_rows
from flambeau.frontend.aot import CompileWarning
from flambeau.frontend.explain import explain
from flambeau.frontend.points import GraphBreakError
from flambeau.ir.graph import bodies, parse_graph
from flambeau.ir.stage import record_stages
from flambeau.utils._pytree import tree_leaves

_random = np.random.default_rng(7)


def rand(*shape: int, grad: bool = True) -> Any:
    return flambeau.tensor(_random.standard_normal(shape).astype("f4"), requires_grad=grad)


W, V = rand(3), rand(3, 3)
LAYER = nn.Linear(3, 3)
TABLE = {"scale": rand(3)}


def closes_over_tensors(x: Any) -> Any:
    return cond(x.sum() > 0, lambda x: x.sin() * W, lambda x: x.cos() @ V, (x,))


def without_operands(x: Any) -> Any:
    return cond(x.mean() > 0, lambda: x * W, lambda: x - W)


def trees(x: Any) -> Any:
    found = cond(x.sum() > 0, lambda d: {"a": d["x"] * 2, "b": [d["w"], d["x"].sum()]},
                 lambda d: {"a": d["x"] / 2, "b": [d["w"] + 1, d["x"].prod()]}, ({"x": x, "w": W},))
    return found["a"] + found["b"][0], found["b"][1]


def modules(x: Any) -> Any:
    return cond(x.sum() > 0, LAYER, lambda x: F.relu(LAYER(x)) * TABLE["scale"], (x,))


def writes_to_its_own(x: Any) -> Any:
    def grow(x: Any) -> Any:
        y = x.clone()
        y[0] = 1.0
        y.mul_(W)
        return y
    return cond(x.sum() > 0, grow, lambda x: x.clone().add_(1), (x,))


def returns_its_operand(x: Any) -> Any:
    y = x * 1
    return cond(y.sum() > 0, lambda y: y, lambda y: y.view(-1).view_as(y), (y,)) + 1


def nested(x: Any) -> Any:
    def inner(x: Any) -> Any:
        return cond(x.max() > 1, lambda x: x * V[0], lambda x: x + 1, (x,))
    return cond(x.sum() > 0, inner, lambda x: inner(-x) * 2, (x,))


def mixed_kinds(x: Any) -> Any:
    n, flag, y = cond(x.sum() > 0, lambda x: (x.argmax(), x > 0, x * 1), lambda x: (x.argmin(), x < 0, x.detach() * W), (x,))
    return y + n + flag


def off_the_tape(x: Any) -> Any:
    def constant(x: Any) -> Any:
        with flambeau.no_grad():
            y = x.exp()
        return y * x
    return cond(x.sum() > 0, constant, lambda x: x * 3, (x,))


def one_result_off_the_tape(x: Any) -> Any:
    a, b = cond(x.sum() > 0, lambda x: (x * 2, x.detach() * W.detach()), lambda x: (x * 3, x.sin()), (x,))
    return a * b


def counts(x: Any) -> Any:
    return while_loop(lambda i, x: i < 5, lambda i, x: (i + 1, (x * W).sin()), (flambeau.tensor(0), x))


def until_it_is_small(x: Any) -> Any:
    return while_loop(lambda y: y.abs().max() > 0.1, lambda y: (y * 0.5,), (x,))[0]


def no_round(x: Any) -> Any:
    return while_loop(lambda y: y.sum() > 1e9, lambda y: (y * W,), (x,))[0] * 2


def carries_a_tree(x: Any) -> Any:
    found = while_loop(lambda i, d: i < 3, lambda i, d: (i + 1, {"a": d["b"] * W, "b": d["a"] + 1}),
                       (flambeau.zeros((), dtype=flambeau.int64), {"a": x, "b": x * 2}))
    return found[1]["a"] + found[1]["b"]


def becomes_taped_on_the_way(x: Any) -> Any:
    """The first value needs no gradient; what later rounds make of it does."""
    return while_loop(lambda i, a, b: i < 3, lambda i, a, b: (i + 1, b, a * W + 1),
                      (flambeau.tensor(0), x.detach(), x.detach() * 2))[1:]


def loop_of_branches(x: Any) -> Any:
    def body(i: Any, y: Any) -> Any:
        return i + 1, cond(i % 2 == 0, lambda y: y * W, lambda y: (y + 1).sin(), (y,))
    return while_loop(lambda i, y: i < 4, body, (flambeau.tensor(0), x))[1]


def rnn(x: Any) -> Any:
    def step(h: Any, row: Any) -> Any:
        h = (row @ V + h * W).tanh()
        return h, h * 2
    last, rows = scan(step, flambeau.zeros(3), x)
    return last, rows


def scan_of_trees(x: Any) -> Any:
    def step(c: Any, row: Any) -> Any:
        return {"s": c["s"] + row["a"], "n": c["n"] + 1}, (c["s"] * row["b"], row["a"].sum())
    last, (rows, sums) = scan(step, {"s": flambeau.zeros(3), "n": flambeau.tensor(0)}, {"a": x, "b": x.cos()})
    return last["s"] * last["n"], rows, sums


def scan_backwards(x: Any) -> Any:
    return scan(lambda c, row: (c * W + row, c.clone()), flambeau.ones(3), x, reverse=True)[1]


def scan_of_columns(x: Any) -> Any:
    return scan(lambda c, column: (c + column, (c * column).sin()), flambeau.zeros(x.shape[0]), x, dim=1)[1]


def rows_apart(x: Any) -> Any:
    return map_rows(lambda row, w: (row * w).sin() @ V, x, W)


def rows_of_pairs(x: Any) -> Any:
    return map_rows(lambda pair: (pair[0] * pair[1].sum(), pair[0].max()), (x, x.sin()))


def running_products(x: Any) -> Any:
    return associative_scan(lambda a, b: a * b, x, 0, combine_mode="generic")


def linear_recurrence(x: Any) -> Any:
    def combine(a: Any, b: Any) -> Any:
        return a[0] * b[0], a[1] * b[0] + b[1]
    return associative_scan(combine, (x.sigmoid(), x), 1, reverse=True, combine_mode="generic")[1]


def between_other_work(x: Any) -> Any:
    y = F.layer_norm(x, (3,))
    z = cond(y[0].sum() > 0, lambda y: F.gelu(y), lambda y: y * W, (y,))
    return F.softmax(z + y, -1)


VECTORS = [closes_over_tensors, without_operands, trees, modules, writes_to_its_own, returns_its_operand, nested, mixed_kinds,
           off_the_tape, one_result_off_the_tape, counts, until_it_is_small, no_round, carries_a_tree,
           becomes_taped_on_the_way, loop_of_branches]
MATRICES = [rnn, scan_of_trees, scan_backwards, scan_of_columns, rows_apart, rows_of_pairs, running_products, linear_recurrence,
            between_other_work]
PROGRAMS = {**{f.__name__: (f, (3,)) for f in VECTORS}, **{f.__name__: (f, (5, 3)) for f in MATRICES}}
PARAMETERS = [W, V, LAYER.weight, LAYER.bias, TABLE["scale"]]


def run(fn: Callable[..., Any], x: Any) -> list[Any]:
    """Results, and the gradients of their squares; no gradient is one of zeros."""
    found = tree_leaves(fn(x))
    taped = [t for t in found if t.requires_grad]
    grads: list[Any] = []
    if taped:
        wanted = [t for t in (x, *PARAMETERS) if t.requires_grad]
        given = flambeau.autograd.grad(sum(t.square().sum() for t in taped), wanted, allow_unused=True)
        grads = [flambeau.zeros_like(t) if g is None else g for t, g in zip(wanted, given)]
    return [*found, *grads]


def assert_close(got: list[Any], want: list[Any]) -> None:
    assert len(got) == len(want)
    for a, b in zip(got, want):
        assert a.dtype is b.dtype
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=2e-4, atol=2e-5)


BUILT = ["closes_over_tensors", "nested", "counts", "loop_of_branches", "rnn", "rows_of_pairs", "linear_recurrence"]
CASES = [(name, backend) for backend, names in (("eager", PROGRAMS), ("numpy", PROGRAMS), ("aot_eager", BUILT), ("cpp", BUILT))
         for name in names]


@pytest.mark.parametrize("name,backend", CASES, ids=map("-".join, CASES))
def test_program(name: str, backend: str) -> None:
    fn, shape = PROGRAMS[name]
    compiled = flambeau.compile(fn, backend=backend, fullgraph=True)
    x = rand(*shape)
    for sign in (1, -1):  # both branches, by the same compiled code
        y = (x * sign).detach().requires_grad_()
        assert_close(run(compiled, y), run(fn, y))
        with flambeau.no_grad():
            assert_close(tree_leaves(compiled(y)), tree_leaves(fn(y)))


@pytest.mark.parametrize("name", ["closes_over_tensors", "counts", "rnn", "rows_apart"])
def test_second_derivatives(name: str) -> None:
    fn, shape = PROGRAMS[name]

    def twice(f: Any, x: Any) -> Any:
        taped = [t for t in tree_leaves(f(x)) if t.requires_grad]
        (g,) = flambeau.autograd.grad(sum(t.pow(3).sum() for t in taped), x, create_graph=True)
        return flambeau.autograd.grad(g.square().sum(), [x, W])

    x = rand(*shape).detach().abs().requires_grad_()
    assert_close(twice(flambeau.compile(fn, backend="numpy"), x), twice(fn, x))


# ---- what stands in the graph ---------------------------------------------------------------------------------------


def stages(fn: Callable[..., Any], *args: Any) -> dict[str, str]:
    with record_stages() as kept:
        flambeau.compile(fn, backend="numpy", fullgraph=True)(*args)
    return {s.name: s.text for s in reversed(kept)}


@pytest.mark.parametrize("name", ["nested", "loop_of_branches", "rnn", "rows_of_pairs"])
def test_bodies_print_and_parse_back(name: str) -> None:
    fn, shape = PROGRAMS[name]
    for stage, text in stages(fn, rand(*shape)).items():
        if stage in ("graph", "forward", "backward"):
            graph = parse_graph(text)
            assert str(graph) == text and parse_graph(text) == graph, stage
    assert any(bodies(node) for node in parse_graph(stages(fn, rand(*shape))["graph"]).nodes)


def test_one_step_with_both_branches_closed_over_what_they_read() -> None:
    graph = parse_graph(stages(closes_over_tensors, rand(3))["graph"])
    (node,) = [n for n in graph.nodes if bodies(n)]
    true, false = bodies(node)
    assert [n.op.name for n in true.nodes] == ["sin", "mul"] and [n.op.name for n in false.nodes] == ["cos", "matmul"]
    assert len(true.inputs) == len(false.inputs) == len(node.args[3]) == 3  # x, W, V


def test_a_branch_runs_only_when_it_is_taken() -> None:
    """An index out of range in the branch that is not taken is nobody's error."""
    table, compiled = rand(4, grad=False), None

    def fn(i: Any) -> Any:
        return cond(i < 4, lambda i: table[i], lambda i: table[0] * 0, (i,))

    for backend in ("numpy", "cpp"):
        compiled = flambeau.compile(fn, backend=backend, fullgraph=True)
        assert compiled(flambeau.tensor(2)).item() == table[2].item() and compiled(flambeau.tensor(9)).item() == 0


def draws(x: Any) -> Any:
    y = flambeau.rand(3)
    z = cond(x.sum() > 0, lambda x: F.dropout(x, 0.5) * W, lambda x: x + flambeau.randn(3), (x,))
    return y + z * flambeau.rand(3)


def test_random_numbers_in_a_branch_are_those_of_eager_mode() -> None:
    """The derivative of a branch computes it again, which must not draw again: such a graph runs op by op, and says so."""
    compiled = flambeau.compile(draws, backend="cpp")
    for grad in (False, True):
        for sign in (1, -1):
            x = (rand(3).abs() * sign).detach()
            with flambeau.set_grad_enabled(grad):
                flambeau.manual_seed(3)
                want = run(draws, x)
                flambeau.manual_seed(3)
                if grad and sign == 1:
                    with pytest.warns(CompileWarning, match="draws random numbers"):
                        got = run(compiled, x)
                else:
                    got = run(compiled, x)
            assert_close(got, want)


def test_a_branch_that_draws_keeps_its_place_among_the_draws() -> None:
    def fn(x: Any) -> Any:
        cond(x.sum() > 0, lambda x: x + flambeau.rand(3), lambda x: x, (x.detach(),))
        return x + flambeau.rand(3)

    compiled = flambeau.compile(fn, backend="numpy", fullgraph=True)
    for sign in (1, -1):
        x = (rand(3).abs() * sign).detach().requires_grad_()
        flambeau.manual_seed(5)
        want = run(fn, x)
        flambeau.manual_seed(5)
        assert_close(run(compiled, x), want)


def test_sizes_that_change() -> None:
    def fn(x: Any) -> Any:
        y = cond(x.sum() > 0, lambda x: x.reshape(x.shape[0] // 2, 2).sum(1), lambda x: x[: x.shape[0] // 2] * 2, (x,))
        last, rows = scan(lambda c, r: (c + r, c * r), flambeau.zeros(()), x)
        return y, last, rows

    for backend in ("eager", "numpy", "cpp"):
        compiled = flambeau.compile(fn, backend=backend, dynamic=True, fullgraph=True)
        for n in (4, 6, 10):
            x = rand(n)
            assert_close(run(compiled, x), run(fn, x))


def test_python_predicates_pick_a_branch() -> None:
    def fn(x: Any, flag: bool) -> Any:
        return cond(flag, lambda x: x + 1, lambda x: x - 1, (x,)) * cond(x.shape[0] > 3, lambda x: x, lambda x: -x, (x,))

    compiled = flambeau.compile(fn, backend="eager", fullgraph=True)
    for n, flag in ((3, True), (3, False), (5, True)):
        x = rand(n)
        assert_close([compiled(x, flag)], [fn(x, flag)])


# ---- what has no place in a graph -----------------------------------------------------------------------------------


def appends(x: Any, seen: list[int]) -> Any:
    def body(x: Any) -> Any:
        seen.append(1)
        return x + 1
    return cond(x.sum() > 0, body, lambda x: x - 1, (x,))


def counts_in_a_cell(x: Any, seen: list[int]) -> Any:
    n = 0

    def body(x: Any) -> Any:
        nonlocal n
        n += 1
        return x + 1
    y = cond(x.sum() > 0, body, lambda x: x - 1, (x,))
    return y * n


def writes_to_its_operand(x: Any, seen: list[int]) -> Any:
    y = x * 1
    z = cond(y.sum() > 0, lambda y: y.mul_(2) + 1, lambda y: y - 1, (y,))
    return y + z


def writes_to_what_it_closes_over(x: Any, seen: list[int]) -> Any:
    y = flambeau.zeros(3)
    z = cond(x.sum() > 0, lambda x: x + y.add_(1), lambda x: x - 1, (x,))
    return y + z


def prints(x: Any, seen: list[int]) -> Any:
    return cond(x.sum() > 0, lambda x: print(end="") or x + 1, lambda x: x - 1, (x,))


def other_shapes(x: Any, seen: list[int]) -> Any:
    return cond(x.sum() > 0, lambda x: x[:2], lambda x: x, (x,))


def other_dtypes(x: Any, seen: list[int]) -> Any:
    return cond(x.sum() > 0, lambda x: x.double(), lambda x: x, (x,))


def other_constants(x: Any, seen: list[int]) -> Any:
    return cond(x.sum() > 0, lambda x: (x, 1), lambda x: (x, 2), (x,))


def a_carry_that_grows(x: Any, seen: list[int]) -> Any:
    return scan(lambda c, r: (flambeau.cat([c, r.reshape(1)]), r + 1), x[:0], x)[0]


def a_number_carried(x: Any, seen: list[int]) -> Any:
    return while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * 2), (0, x))[1]


def advances_an_iterator(x: Any, seen: list[int]) -> Any:
    steps = iter([1.0, 2.0, 3.0])
    y = cond(x.sum() > 0, lambda x: x * next(steps), lambda x: x - next(steps), (x,))
    return y * next(steps)


def advances_a_generator(x: Any, seen: list[int]) -> Any:
    steps = (float(k) for k in range(2, 5))
    y = cond(x.sum() > 0, lambda x: x * next(steps), lambda x: x - 1, (x,))
    return y * next(steps)


def raises_where_nobody_goes(x: Any, seen: list[int]) -> Any:
    def bad(x: Any) -> Any:
        raise ValueError("never")
    try:
        return cond(x.abs().sum() >= 0, lambda x: x * 2, bad, (x,))
    except ValueError:
        return x


def fails_where_nobody_goes(x: Any, seen: list[int]) -> Any:
    return cond(x.abs().sum() >= 0, lambda x: x * 2, lambda x: x @ flambeau.ones(7), (x,))


REFUSED = {appends: "changes a list outside itself", counts_in_a_cell: "changes a cell outside itself",
           writes_to_its_operand: "writes to the tensor", writes_to_what_it_closes_over: "writes to the tensor",
           prints: "print", other_shapes: "the true branch returns f32[2] and the false branch f32[3]",
           other_dtypes: "the true branch returns f64[3] and the false branch f32[3]", other_constants: "returns 1 and",
           a_carry_that_grows: "the carry was f32[0] and combine_fn returns f32[1]", a_number_carried: "a Python number",
           advances_an_iterator: "advances an iterator", advances_a_generator: "a generator made in the traced code",
           raises_where_nobody_goes: "the false branch of cond raises ValueError",
           fails_where_nobody_goes: "in the false branch of cond, "}


@pytest.mark.parametrize("fn", REFUSED, ids=lambda f: f.__name__)
def test_refused_with_a_sentence_and_run_as_eager_mode_does(fn: Callable[..., Any]) -> None:
    told = [str(r) for r in explain(fn, backend="eager")(rand(3, grad=False).abs(), []).break_reasons]
    assert any(REFUSED[fn] in text and "Fix: " in text for text in told), told
    with pytest.raises(GraphBreakError):
        flambeau.compile(fn, backend="eager", fullgraph=True)(rand(3), [])
    compiled = flambeau.compile(fn, backend="eager")
    for sign in (1, -1):
        x, seen, again = rand(3, grad=False).abs() * sign, [], []
        assert_close(tree_leaves(compiled(x, again))[:1], tree_leaves(fn(x, seen))[:1])
        assert seen == again


def test_a_branch_on_data_suggests_cond() -> None:
    def fn(x: Any) -> Any:
        return x + 1 if x.sum() > 0 else x
    assert "cond()" in str(explain(fn, backend="eager")(rand(3)).break_reasons[0])

"""What the compiler says: breaks, recompiles, the limit and `explain`, each with line, cost and a fix that works."""
import ast
import datetime
import logging
import re

import pytest
from imports import ROOT
from tracer.support import compile, context_of, count, events, plain, rand, tensor

import flambeau
from flambeau._logging import set_logs
from flambeau.frontend import logs
from flambeau.frontend.compile import mark_dynamic
from flambeau.frontend.explain import explain
from flambeau.frontend.points import GraphBreakError, RecompileLimitError
from flambeau.frontend.trace.codes import CODES

X = rand(4, 3)


# --------------------------------------------------------------------------- breaks

def raised_codes():
    """(code, place) of every `Unsupported(...)` in the tracer; a code must be spelled where it is raised."""
    for path in sorted((ROOT / "frontend").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Unsupported":
                assert isinstance(node.args[0], ast.Constant), f"{path.name}:{node.lineno} computes its code"
                yield node.args[0].value, f"{path.relative_to(ROOT)}:{node.lineno}"


def test_every_break_has_a_registered_code_and_every_code_is_raised():
    found = list(raised_codes())
    assert not [f"{place} raises {code!r}" for code, place in found if code not in CODES]
    assert not set(CODES) - {code for code, _ in found}


def test_codes_are_stable_words_with_titles():
    for code, kind in CODES.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code) and kind.title and (kind.fix or code == "raises")


def branch(x):
    y = x * 2 + 1
    if y.sum() > 0:
        y = y + 1
    return y


def test_a_break_is_told_with_construct_line_cost_and_fix():
    text = str(explain(branch)(X).break_reasons[0])
    line = branch.__code__.co_firstlineno + 2
    assert text.startswith(f"[data-dependent] test_words.py:{line}: a branch depends on the data of a tensor.")
    assert re.search(r" Cost: the graph ends after [34] ops, the data must be computed before Python can go on, what follows is "
                     r"another graph\. ", text)                    # (3.13 compares and branches in one step)
    assert text.endswith("Fix: use where(), or mark the branch as data with cond()")


def logs_a_line(x):
    logging.getLogger("flambeau.tests").debug("hidden")
    return x * 2


def makes_a_class(x):
    class Scale:
        by = 2
    return x * Scale.by


def sorts_tensors(x):
    return sorted([x[0, 0], x[0, 1]])[0]


def looks_at_locals(x):
    return locals()["x"] * 2


@flambeau.compiler.disable
def not_compiled(x):
    return x


def calls_what_is_disabled(x):
    return not_compiled(x) * 2


def asks_the_time(x):
    return x * datetime.datetime.now().year


@pytest.mark.parametrize("fn, code, construct, fix", [
    (logs_a_line, "truth with", "(in logging.getLogger)", "call logging.getLogger outside the compiled function"),
    (makes_a_class, "class", "the class Scale is made", "define classes outside"),
    (sorts_tensors, "sort", "tensors are sorted, whose order depends on their data", "torch.sort() sorts a tensor"),
    (looks_at_locals, "frame", "locals() is called, which looks at its caller's frame", "outside the compiled function"),
    (calls_what_is_disabled, "disabled", "not_compiled is marked with disable()", "remove disable()"),
    (asks_the_time, "builtin-method", "datetime.now is called", "outside the compiled function"),
])
def test_a_break_names_what_the_users_line_does(fn, code, construct, fix):
    found = next(b for b in explain(fn)(X).break_reasons)
    text = str(found)
    assert found.code in code.split() and found.line.startswith("test_words.py:")
    assert construct in text.partition("Cost:")[0] and fix in text.partition("Fix:")[2]


def test_fullgraph_raises_with_the_same_words():
    words = str(explain(branch)(X).break_reasons[0])
    with pytest.raises(GraphBreakError) as error:
        compile(branch, backend="eager", fullgraph=True)(X)
    assert words in str(error.value) and "docs/graph-breaks.md#data-dependent" in str(error.value)


def test_fullgraph_surfaces_the_exception_that_eager_raises():
    def f(x, y):
        return x @ y
    with pytest.raises(RuntimeError) as expected:
        f(X, X)
    for _ in range(2):
        with pytest.raises(RuntimeError) as found:
            compile(f, backend="eager", fullgraph=True)(X, X)
        assert str(found.value) == str(expected.value) and not isinstance(found.value, GraphBreakError)


def test_fullgraph_does_not_hide_an_exception_that_only_the_tracer_sees(monkeypatch):
    """An op that fails on symbols and not on tensors: without fullgraph a break, with it an error that says so."""
    def odd(x):
        if not isinstance(x, flambeau.Tensor) or type(x).__name__ == "GraphTensor":
            raise AttributeError("nothing of the program's")
        return x
    odd.__flambeau_pure__ = True

    def f(x):
        return odd(x * 2) + 1
    assert plain(compile(f, backend="eager")(X)) == plain(f(X))
    with pytest.raises(GraphBreakError, match="nothing of the program's.*goes on"):
        compile(f, backend="eager", fullgraph=True)(X)


def test_fullgraph_refuses_a_handler_that_it_could_not_trace():
    def f(x):
        try:
            y = flambeau.cat([x, x[:, :2]], 0)
        except RuntimeError:
            y = x
        return y + 1
    assert plain(compile(f, backend="eager")(X)) == plain(f(X))
    with pytest.raises(GraphBreakError):
        compile(f, backend="eager", fullgraph=True)(X)


# --------------------------------------------------------------------------- recompiles

def recompiles(fn, calls, **kwargs):
    compiled = compile(fn, backend="eager", **kwargs)
    for args in calls:
        assert plain(compiled(*args)) == plain(fn(*args))
    return [e.text for e in context_of(compiled).events if e.kind == "recompile"]


def test_a_size():
    def f(x):
        return x + 1
    told, = recompiles(f, [(rand(4, 3),), (rand(5, 3),), (rand(6, 3),)])
    assert re.match(r"x\.shape\[0\] was 4 and is 5 \(needed at test_words\.py:\d+\)\. Fix: ", told)
    assert "mark_dynamic(x, 0)" in told and re.search(r"\(version 2 of at most 8, [\d.e-]+ s\)", told)

    def marked(n):
        x = rand(n, 3)
        mark_dynamic(x, 0)
        return x
    assert not recompiles(f, [(marked(4),), (marked(5),)])
    assert not recompiles(f, [(rand(4, 3),), (rand(5, 3),)], dynamic=True)


@pytest.mark.parametrize(("fn", "before", "after", "told", "mended"), [
    (lambda x, k: x if k == 3 else x + k, (X, 3), (X, 4), "k was 3 and is 4",
     (lambda x, k: flambeau.where(k == 3, x, x + k), flambeau.tensor)),
    (lambda x, k: x * k, (X, True), (X, False), "k was True and is False",
     (lambda x, k: flambeau.where(k, x, x * 0), flambeau.tensor)),
    (lambda x, k: sum(k) + x, (X, [1.0] * 3), (X, [1.0] * 4), "len(k) was 3 and is 4",
     (lambda x, k: k.sum() + x, lambda k: flambeau.tensor((k + [0.0])[:4]))),
    (lambda x, k: x + len(k), (X, {"a": 1}), (X, {"b": 1, "c": 2}), "the keys of k", None),
    (lambda x, k: x + len(k), (X, "a"), (X, "bb"), "k was 'a' and is 'bb'", None),
    (lambda x, k: x + k, (X, rand(4, 3)), (X, X[0]), "the rank of k was 2 and is 1", None),
    (lambda x, k: x + k, (X, X), (X, rand(4, 3)), "k was the same object as x and is another", None),
    (lambda x, k: x + k, (X, rand(3)), (X, rand(3).double()), "k.dtype was float32 and is float64", None),
    (lambda x, k: x + k, (X, rand(3)), (X, rand(3, requires_grad=True)), "k.requires_grad was False and is True", None),
    (lambda x, k: x + k, (X, rand(3)), (X, 2), "k was a Tensor and is 2", None),
    (lambda x, k: x if k is None else x + k, (X, None), (X, rand(3)), "k was None and is a f32[3]", None),
    (lambda x, k: x + k.shape[0], (X, rand(5)), (X, rand(1)), "k.shape[0] was 5 and is 1", None),
    (lambda x, k: k(x), (X, lambda x: x + 1), (X, lambda x: x + 2), "k was", None),
], ids=lambda v: v if isinstance(v, str) else "")
def test_what_changed(fn, before, after, told, mended):
    found, = recompiles(fn, [before, after])
    assert found.startswith(told), found
    assert ". Fix: " in found
    if mended is not None:
        better, convert = mended
        assert not recompiles(better, [(x, convert(k)) for x, k in (before, after)])


def test_an_assumption_about_a_size():
    def f(x):
        return x * 2 if x.shape[0] > 6 else x - 1
    told = recompiles(f, [(rand(n),) for n in (3, 4, 8)])[-1]
    assert told.startswith("6 >= s0 (s0 = x.shape[0]) was true and is false for 8"), told
    assert f"test_words.py:{f.__code__.co_firstlineno + 1}" in told


def test_grad_mode():
    compiled = compile(lambda x: x + 1, backend="eager")
    compiled(X)
    with flambeau.no_grad():
        compiled(X)
    assert "grad mode was on and is not. Fix: " in events(compiled)


def test_the_limit_warns_once_then_runs_eagerly_and_is_an_error_for_one_graph():
    def f(x, name):
        return x + len(name)
    compiled = compile(f, backend="eager", options={"recompile_limit": 2})
    with pytest.warns(UserWarning, match=r"compiled 2 times, its limit.*name was 'bb' and is 'ccc'") as found:
        for name in ("a", "bb", "ccc", "dddd"):
            assert plain(compiled(X, name)) == plain(f(X, name))
    assert len(found) == 1 and count(compiled, "graph") == 2
    strict = compile(f, backend="eager", fullgraph=True, options={"recompile_limit": 1})
    strict(X, "a")
    for _ in range(2):
        with pytest.raises(RecompileLimitError, match="compiled 1 times.*Last reason: name was 'a' and is 'bb'"):
            strict(X, "bb")
    assert plain(strict(X, "a")) == plain(f(X, "a"))


# --------------------------------------------------------------------------- who listens

@pytest.fixture
def quiet():
    before = set(logs.wanted)
    yield
    logs.wanted.clear()
    logs.wanted.update(before)


def test_logs_that_are_asked_for(quiet, capsys):
    set_logs(graph_breaks=True, recompiles=True)
    compiled = compile(branch, backend="eager")
    compiled(X)
    compiled(rand(5, 3))
    text = capsys.readouterr().err
    assert text.count("[graph_breaks] branch (test_words.py:") == 2
    assert "[recompiles] branch" in text and "x.shape[0] was 4 and is 5" in text and "def branch" not in text
    set_logs(graph_code=True, guards=True, bytecode=True, aot_graphs=True, output_code=True)
    compile(lambda x: x + 7, backend="numpy")(X)
    text = capsys.readouterr().err
    assert "ops.add(x, 7)" in text and "x is a Tensor f32[4, 3]" in text and "LOAD_FAST 'x'" in text
    assert "[aot_graphs] forward" in text and "[output_code] numpy" in text and "[graph_breaks]" not in text
    set_logs()
    compile(branch, backend="eager")(X)
    assert not capsys.readouterr().err


def test_logs_of_the_environment_and_unknown_names(quiet):
    logs.from_environment("+dynamo,-guards, schedule", strict=True)
    assert logs.wanted >= {"graph_breaks", "recompiles", "graph_code", "schedule"}
    logs.from_environment("inductor,recompiles", strict=False)
    for ask in (lambda: set_logs(typo=True), lambda: logs.from_environment("typo", strict=True)):
        with pytest.raises(ValueError, match="unknown log 'typo': choose among graph_breaks, recompiles"):
            ask()


def test_explain_times_the_stages_of_the_backend_that_is_named():
    found = explain(lambda x: (x + 1).exp(), backend="numpy")(X)
    assert {"guards", "forward", "schedule", "numpy"} <= set(found.stages) and "Seconds of each stage:" in str(found)
    assert all(seconds >= 0 for seconds in found.stages.values()) and sum(found.stages.values()) <= found.seconds * 1.5 + 0.01


def test_a_break_in_a_module_is_told_once():
    class Model(flambeau.nn.Module):
        def forward(self, x):
            return branch(x)
    text = str(explain(Model())(tensor([1.0])))
    assert text.count("[data-dependent]") == 1, text


def test_errors_have_pytorchs_names_too():
    from flambeau import _dynamo
    assert _dynamo.exc.Unsupported is GraphBreakError and _dynamo.exc.FailOnRecompileLimitHit is RecompileLimitError

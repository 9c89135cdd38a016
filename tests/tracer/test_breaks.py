"""Graph breaks: anywhere, the result, the side effects and their order are eager's; the rest stays compiled."""
import warnings
from contextlib import contextmanager

import pytest
from tracer.support import check, compile, context_of, copied, count, events, ops, plain, rand, tensor

from flambeau.frontend.compile import disable, graph_break
from flambeau.frontend.points import GraphBreakError

X = rand(4, 3)
LOG = []


def note(*args):
    LOG.append(args)


note = disable(note)


@pytest.fixture(autouse=True)
def clear():
    LOG.clear()


def same_with_log(fn, *args, **kwargs):
    """`check`, and what `note` was called with is the same too."""
    fn(*copied(args))
    expected = [plain(entry) for entry in LOG]
    LOG.clear()
    compile(fn, backend="eager")(*copied(args))
    assert [plain(entry) for entry in LOG] == expected
    return check(fn, *args, **kwargs)


def test_break_in_the_middle():
    def f(x):
        y = x * 2
        note("here", y.shape[0])
        return y + 1
    same_with_log(f, X, graphs=2, breaks=1)


def test_data_dependent_branch_both_ways():
    def f(x):
        y = x * 2
        if y.sum() > 0:
            return y + 1
        return y - 1
    compiled = compile(f, backend="eager")
    for t in (tensor([1.0, 2.0]), tensor([-1.0, -2.0]), tensor([3.0, 4.0])):
        assert plain(compiled(t)) == plain(f(t))
    assert count(compiled, "graph") == 3 and count(compiled, "break") == 1, events(compiled)


def test_item_of_a_tensor():
    def f(x):
        k = x.sum().item()
        return x * k, k > 0
    check(f, X, breaks=1)


def test_breaks_in_a_loop_do_not_recompile_for_every_iteration():
    def f(x):
        total = 0.0
        for _ in range(20):
            x = x + 0.5
            total += x.sum().item()
        return x, total
    context = check(f, X, calls=1)
    assert sum(e.kind == "graph" for e in context.events) <= 4, [e.text for e in context.events]


def test_ten_thousand_breaks_do_not_nest():
    def f(x):
        k = 0
        while k < 10000:
            k += 1
            graph_break()
        return x + k
    compiled = compile(f, backend="eager")
    assert plain(compiled(X)) == plain(f(X))


def test_break_inside_with_keeps_the_manager_open():
    class Manager:
        def __enter__(self):
            note("enter")
            return 5

        def __exit__(self, *exc):
            note("exit", exc[0])
            return False

    def f(x):
        with Manager() as k:
            x = x * k
            note("body")
            x = x + 1
        return x * 2
    same_with_log(f, X)


def test_break_inside_a_generator_context_manager():
    @contextmanager
    def manager(k):
        note("enter")
        try:
            yield k + 1
        finally:
            note("exit")

    def f(x):
        with manager(2) as k:
            x = x * k
            note("body")
        return x
    same_with_log(f, X)


def test_break_inside_try_with_exception_after_it():
    def f(x, d):
        log = []
        try:
            x = x * 2
            note("before")
            log.append(d["missing"])
            x = x * 3
        except KeyError as e:
            log.append(str(e))
            note("handler")
        finally:
            note("finally")
            log.append("finally")
        return x + 1, log
    same_with_log(f, X, {"a": 1})


def test_the_breaking_call_raises_inside_try():
    @disable
    def bad():
        note("called once")
        raise ValueError("no")

    def f(x):
        x = x + 1
        try:
            x = x * 2
            bad()
        except ValueError as e:
            x = x - 1
            note(str(e))
        return x * 3
    same_with_log(f, X)


def test_the_breaking_call_raises_to_the_caller_with_the_users_line():
    @disable
    def bad():
        raise ValueError("no")

    def f(x):
        y = x + 1
        bad()
        return y
    compiled = compile(f, backend="eager")
    for _ in range(2):
        with pytest.raises(ValueError) as error:
            compiled(X)
        lines = [entry.lineno + 1 for entry in error.traceback if entry.name == "f"]
        assert f.__code__.co_firstlineno + 2 in lines


def test_break_in_a_comprehension():
    def f(xs):
        return sum([x.sum().item() for x in xs]) * xs[0]
    check(f, [rand(2), rand(2), rand(2)])


def test_break_in_a_callee_compiles_its_parts():
    def inner(x, k):
        y = x * k
        note("in")
        return y + 1

    def f(x):
        x = x + 1
        x = inner(x, 2) + inner(x, 3)
        return x * 2
    same_with_log(f, X)
    compiled = compile(f, backend="eager")
    compiled(X)
    texts = [e.text for e in context_of(compiled).events if e.kind == "graph"]
    assert any("def inner" in t for t in texts), texts


def test_break_in_a_method_of_a_callee_object():
    class Layer:
        def __init__(self, k):
            self.k = k

        def __call__(self, x):
            y = x * self.k
            note("layer", self.k)
            return y + 1

    def f(x, layers):
        for layer in layers:
            x = layer(x)
        return x
    same_with_log(f, X, (Layer(2), Layer(3)))


def test_side_effects_keep_their_order_around_breaks():
    class Holder:
        pass

    def f(x, items, holder):
        items.append(1)
        holder.a = x * 2
        note(list(items), holder.a.shape[0])
        items.append(2)
        holder.a = None
        note(list(items), holder.a)
        items[0] = 9
        return x
    same_with_log(f, X, [0], Holder())


def test_live_values_of_every_kind_cross_a_break():
    def f(x, n):
        made = [1, x, (2, {"k": x})]
        alias = made
        fn = lambda a: a * n          # noqa: E731
        count = 0

        def bump():
            nonlocal count
            count += 1
            return count
        bump()
        it = iter(made)
        next(it)
        pairs = enumerate([x, x], start=n)
        next(pairs)
        s = {1, 2}
        r = range(n)
        note("break")
        alias.append(3)
        bump()
        s.add(5)
        return made, fn(x), bump(), count, [*it][-1], next(pairs)[0], s, list(r), made is alias
    same_with_log(f, X, 4)


def test_expression_stack_crosses_a_break():
    @disable
    def two():
        return 2

    def f(x):
        return [x + 1, x * two(), {"a": x - 1, "b": two()}, f"{two():>3}", x[two():]]
    check(f, X)


def test_attribute_store_and_subscript_store_break():
    class Picky:
        __slots__ = ()

        def __setattr__(self, name, value):
            note(name, value)

        def __setitem__(self, key, value):
            note(key, value)

        def __getitem__(self, key):
            note("get", key)
            return 4

        def __iadd__(self, other):
            note("iadd", other)
            return self

    def f(x, p):
        p.a = 3
        p["k"] = 4
        p += 1
        p["k"] += 2
        return x * p["k"]
    same_with_log(f, X, Picky())


def test_generator_function_that_escapes():
    def f(x):
        y = x * 2
        return (y + k for k in range(3))
    compiled = compile(f, backend="eager")
    for _ in range(2):
        assert plain(list(compiled(X))) == plain(list(f(X)))


def test_shape_error_is_eagers():
    def f(x, y):
        return ops.mm(x, y)
    check(f, X, rand(4, 3))


def test_print_and_locals(capsys):
    def f(x):
        y = x + 1
        print("sum", y.shape[0])
        return sorted(locals())
    check(f, X)


def test_import_inside():
    def f(x):
        import colorsys
        from math import floor
        return x * colorsys.rgb_to_hsv(1, 0, 0)[2] + floor(2.5)
    check(f, X)


def test_exec_class_definition_and_global_store():
    def f(x):
        global MADE

        class Local:
            k = 3
        MADE = Local.k
        return x * Local.k + MADE
    check(f, X)


def test_fullgraph_raises_with_line_and_fix():
    def f(x):
        y = x + 1
        if y.sum() > 0:
            y = y * 2
        return y
    compiled = compile(f, backend="eager", fullgraph=True)
    with pytest.raises(GraphBreakError, match=rf"test_breaks.py:{f.__code__.co_firstlineno + 2}.*where\(\)"):
        compiled(X)


def test_fullgraph_allows_the_programs_own_exceptions():
    def f(x):
        raise KeyError("mine")
    with pytest.raises(KeyError, match="mine"):
        compile(f, backend="eager", fullgraph=True)(X)


def test_compiling_a_generator_warns_and_runs():
    def f(x):
        yield x
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        compiled = compile(f, backend="eager")
    assert "generators" in str(found[0].message) and plain(list(compiled(X))) == plain([X])


def test_backend_errors_fall_back_once_with_a_warning():
    def broken(gm, examples):
        raise RuntimeError("backend exploded")

    def f(x):
        return x + 1
    compiled = compile(f, backend=broken)
    with pytest.warns(UserWarning, match="backend exploded"):
        assert plain(compiled(X)) == plain(f(X))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plain(compiled(X)) == plain(f(X))
    with pytest.raises(RuntimeError, match="exploded"):
        compile(f, backend=broken, fullgraph=True)(X)


def test_threads_of_breaks_in_nested_functions_with_closures():
    def f(x):
        k = 1

        def step(a):
            nonlocal k
            k += 1
            note("step", k)
            return a * k
        for _ in range(3):
            x = step(x)
        return x, k
    same_with_log(f, X)


def test_super_after_a_break():
    class A:
        def go(self, x):
            return x * 2

    class B(A):
        def go(self, x):
            x = x + 1
            note("in B")
            return super().go(x)

    def f(x, b):
        return b.go(x)
    same_with_log(f, X, B())

"""What random programs have found: each a small program that once gave something else than eager."""

import copy
import gc
import weakref

import pytest
from tracer.support import check, compile, context_of, count, outcome, rand, tensor

import flambeau

LOG: list[str] = []


def _rows(x):
    try:
        yield x + 1
        yield x + 2
    finally:
        LOG.append("closed")


def test_a_generator_left_within_try_is_closed_where_its_last_reference_goes():
    def first(x):
        LOG.append("begin")
        y = next(_rows(x)) * 2
        LOG.append("end")
        return y

    def searched(x):
        return any(i > 1 for i in (v.shape[0] for v in _rows(x))), len(LOG)

    def left(x):
        for v in _rows(x):
            y = v * 2
            break
        LOG.append("after")
        return y

    for fn in (first, searched, left):
        x = rand(2)
        LOG[:] = ["before"]
        fn(x)
        expected = list(LOG)
        compiled = compile(fn, backend="eager")
        for _ in range(2):
            LOG[:] = ["before"]
            compiled(x)
            assert LOG == expected
        assert any("finalizer" in e.text for e in context_of(compiled).events if e.kind == "break")


def test_a_generator_that_breaks_inside_is_closed_where_its_last_reference_goes():
    def fn(x):
        def rows():
            try:
                for k in range(3):
                    yield x.sum().item() + k
            finally:
                LOG.append("closed")
        items = rows()
        found = next(items), next(items)
        LOG.append("two")
        return found

    compiled = compile(fn, backend="eager")
    for run in (fn, compiled, compiled):
        LOG.clear()
        run(rand(2))
        assert LOG == ["two", "closed"]


def test_a_generator_left_outside_try_does_not_break():
    def plain(x):
        def rows():
            yield x + 1
            yield x + 2
        return next(rows())

    check(plain, rand(2), graphs=1, breaks=0)


def test_an_object_with_a_finalizer_is_made_for_real():
    class Handle:
        def __init__(self, name):
            self.name = name

        def __del__(self):
            LOG.append(self.name)

    def fn(x):
        handle = Handle("first")
        y = x + len(handle.name)
        LOG.append("made")
        del handle
        LOG.append("gone")
        return y

    compiled = compile(fn, backend="eager")
    for run in (fn, compiled, compiled):
        LOG.clear()
        run(rand(2))
        assert LOG == ["made", "first", "gone"]


def test_what_a_break_raises_has_no_context_of_ours():
    def undefined(x):
        y = x * 2
        return y + not_there                               # noqa: F821

    def refused(x):
        y = x * 2
        return int("z") + y

    for fn in (undefined, refused):
        with pytest.raises(Exception) as found:
            compile(fn, backend="eager")(rand(2))
        assert found.value.__context__ is None


def test_a_stride_that_is_not_there_raises():
    def fn(x):
        try:
            return x.stride(1), x + 1
        except IndexError as error:
            return str(error), x + 2

    context = check(fn, tensor(1.0))
    assert not [e for e in context.events if e.kind == "fallback"]


# --------------------------------------------------------------------------- what eager mode refuses to write to

def _expanded(x, log):
    log.append("before")
    x.add_(1)
    log.append("after")
    return x


def _handled(x, log):
    try:
        x.uniform_()
    except RuntimeError:
        log.append("handled")
    return x + 1


def _beside(x, log):
    log.append("before")
    x[1:].add_(x[:-1])
    return x


@pytest.mark.parametrize("fn", [_expanded, _handled, _beside])
def test_a_write_that_lies_badly_is_refused_where_the_program_makes_it(fn):
    compiled = compile(fn, backend="eager")
    for make in (lambda: rand(2, 3), lambda: rand(1, 3).expand(2, 3), lambda: rand(3, 1).t().expand(2, 3), lambda: rand(2, 3)):
        outcomes = []
        for run in (fn, compiled):
            log: list[str] = []
            flambeau.manual_seed(0)
            try:
                flambeau.manual_seed(0)
                shape = run(make(), log).shape
            except RuntimeError as error:
                shape = str(error)
            outcomes.append((shape, log))
        assert outcomes[0] == outcomes[1]


def _chunk(w):
    a, b = (w * 1).chunk(2)
    a.add_(1)
    return b


def _rows_of(w):
    t = w * 1
    for row in t:
        row.mul_(2)
    return t


def _without_grad(w):
    with flambeau.no_grad():
        a = (w * 1)[0], w[0]
    a[1].add_(1)
    return a


def _allowed(w):
    with flambeau.no_grad():
        a, b = (w * 1).chunk(2)
        a.add_(1)
    t = (w * 1).detach()
    for row in t:
        row.add_(1)
    return a, t


@pytest.mark.parametrize("fn", [_chunk, _rows_of, _without_grad, _allowed])
def test_views_made_together_are_not_written_to_while_the_tape_records(fn):
    check(fn, rand(2, 3, requires_grad=True))


def test_views_handed_out_are_not_written_to_either():
    def fn(w):
        t = w * 1
        return t.unbind()

    w = rand(2, 3, requires_grad=True)
    for run in (fn, compile(fn, backend="eager")):
        with pytest.raises(RuntimeError, match="Output 1 of Unbind is a view"):
            run(w)[1].add_(1)


# --------------------------------------------------------------------------- random numbers fill memory

_DRAWS = {
    "rand_like": flambeau.rand_like,
    "randn_like of a result": lambda x: flambeau.randn_like(x * 2 + 1),
    "uniform_": lambda x: x.uniform_(),
    "of a view": lambda x: x.t()[1:].random_(9),
    "dropout": lambda x: flambeau.nn.functional.dropout(flambeau.nn.functional.gelu(x), 0.5),
    "bernoulli": lambda x: flambeau.bernoulli(x.sigmoid()),
    "of a stack": lambda x: flambeau.rand_like(flambeau.stack([x, x])),
    "of a product": lambda x: flambeau.rand_like(x @ x.mT),
    "made here": lambda x: flambeau.zeros(3, 2).t().uniform_(),
}


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("name", _DRAWS)
def test_draws_fill_a_transposed_tensor_in_the_order_of_its_memory(name, dynamic):
    fn = _DRAWS[name]
    compiled = compile(fn, backend="eager", dynamic=dynamic)
    for make in (lambda: rand(2, 3), lambda: rand(3, 2).t(), lambda: rand(5, 4).t()[1:4:2, :3], lambda: rand(3, 4)):
        x = make()
        flambeau.manual_seed(1)
        expected, state = fn(x.clone()), flambeau.get_rng_state()
        flambeau.manual_seed(1)
        assert flambeau.equal(compiled(x.clone()), expected)
        assert flambeau.equal(flambeau.get_rng_state(), state)


def test_arguments_may_bear_the_names_of_symbols():
    def fn(s0, inf, z0, f32):
        kept = s0[s0 > 0]                                     # decided by the data: the graph runs in pieces, made from its text
        return kept * (z0 + 1), inf * float("inf"), flambeau.ones(z0) * f32[:z0]

    compiled = compile(fn, backend="eager")
    for n in (2, 3, 4):
        args = rand(n).abs() + 1, rand(n + 1), n, rand(n + 3)
        for got, expected in zip(compiled(*args), fn(*args)):
            assert flambeau.equal(got, expected)
    assert not count(compiled, "fallback")


@pytest.mark.parametrize("backend", ["eager", "numpy"])
def test_as_strided_sees_the_memory_that_a_tensor_is_part_of(backend):
    def strided(x):
        return x.as_strided((3,), (1,), 1) * 1

    def of_a_result(x):
        return (x * 2).as_strided((2, 2), (1, 1)) + 1

    def written(x):
        x.as_strided((2,), (2,), 1).add_(1)
        return x + 1

    memory = flambeau.arange(24.0)
    views = [lambda m: m, lambda m: m[3:9], lambda m: m.view(4, 6), lambda m: m.view(4, 6).t(), lambda m: m.view(4, 6)[1:, 2:],
             lambda m: m[:1].expand(4), lambda m: m[7:]]
    for fn in (strided, written, *([of_a_result] if backend == "eager" else [])):   # (what numpy makes lies row-major)
        compiled = compile(fn, backend=backend)
        for view in views:
            here, there = memory.clone(), memory.clone()
            assert outcome(compiled, (view(there),), {}) == outcome(fn, (view(here),), {})
            assert flambeau.equal(here, there)


def test_a_break_does_not_keep_the_frames_of_its_callers():
    def rebuilt(x):
        items = [x + 1]
        items.append(items)
        return x.sum()

    def decided(x):
        y = x * 2
        return y if y.sum() > 0 else -y

    class Held:
        pass

    def call(fn):
        held = Held()
        compile(fn, backend="eager")(rand(2, 2))
        return weakref.ref(held)

    gc.collect()
    gc.disable()
    try:
        for fn in (rebuilt, decided):
            assert call(fn)() is None, fn.__name__
    finally:
        gc.enable()


def test_a_view_made_outside_is_not_written_to_where_eager_mode_refuses():
    def fn(y, log):
        log.append("before")
        y.view(-1).div_(2)
        return y + 1

    def given(kind):
        w = rand(2, 3, requires_grad=True)
        return {"fresh": rand(2, 3), "leaf": w, "of a leaf": w[:], "of a result": (w * 1)[:],
                "of several": (w * 1).chunk(1)[0]}[kind]

    compiled = compile(fn, backend="eager")
    for kind in ("fresh", "of a result", "of a leaf", "of several", "leaf", "of a result"):
        outcomes = []
        for run in (fn, compiled):
            log: list[str] = []
            try:
                outcomes.append((run(given(kind), log).shape, log))
            except RuntimeError as error:
                outcomes.append((str(error), log))
        assert outcomes[0] == outcomes[1], kind


def test_a_size_that_is_found_to_be_one_is_broadcast():
    def fn(x, i):
        return x + i.chunk(2)[0]

    compiled = compile(fn, backend="numpy", dynamic=True)
    for rows in (3, 2, 5, 4):
        x, i = rand((rows + 1) // 2 if rows != 2 else 4, 3), flambeau.arange(rows * 3).reshape(rows, 3)
        assert flambeau.allclose(compiled(x, i), fn(x, i))


def test_variables_without_a_value_say_what_python_says():
    def fn(x):
        found = []
        for step in range(2):
            try:
                if step:
                    del y                                         # noqa: F821
                else:
                    x = x + y                                     # noqa: F821
            except UnboundLocalError as error:
                found.append(str(error))
        if len(found) > 5:
            y = 1                                                 # noqa: F841
        return x, found

    check(fn, rand(2))


@pytest.mark.parametrize("backend", ["eager", "numpy"])
def test_a_write_to_a_part_of_what_repeats_shows_everywhere(backend):
    def one(x):
        x[0, 1] += 3
        return x + 1

    def row(x):
        x[0].zero_()
        return x * 1

    def made(x):
        t = (x * 1)[:1].expand(2, x.shape[1])
        t[0, 1] = 7
        return t

    memory = flambeau.arange(9.0)
    views = [lambda m: m[:6].view(2, 3), lambda m: m[:3].expand(2, 3), lambda m: m.as_strided((2, 3), (1, 2)),
             lambda m: m.as_strided((2, 3), (2, 1)), lambda m: m[:3][None]]
    for fn in (one, row, *([made] if backend == "eager" else [])):    # (what numpy makes repeats nothing)
        compiled = compile(fn, backend=backend)
        for view in views:
            here, there = memory.clone(), memory.clone()
            assert outcome(compiled, (view(there),), {}) == outcome(fn, (view(here),), {})
            assert flambeau.equal(here, there)


def test_a_deep_copy_lies_as_the_tensor_does():
    def fn(items):
        return copy.deepcopy(items)[0], items[0] + 1

    compiled = compile(fn, backend="eager")
    for x in (rand(3, 4), rand(3, 5)[:, 1:4], rand(4, 3).t(), rand(3, 4)[1:]):
        assert compiled([x])[0].stride() == fn([x])[0].stride()


def test_shapes_that_do_not_fit_are_refused_where_a_handler_is():
    def fn(w, y):
        try:
            w.index_add_(0, flambeau.tensor([0]), y[:1])
        except RuntimeError as error:
            return str(error)
        return w

    for y in (rand(2, 3), rand(3), rand(2, 4)):
        check(fn, rand(2, 3), y)


def test_dtypes_that_an_op_does_not_take_are_refused_where_a_handler_is():
    def fn(x):
        try:
            x & 1                                                 # noqa: B018 - nobody reads what it gives
        except NotImplementedError as error:
            return str(error), x + 1
        return x - 1

    def written(x):
        try:
            x |= True
        except NotImplementedError:
            return x * 2
        return x

    def inverted(x):
        try:
            return ~x
        except NotImplementedError:
            return x * 3

    for program in (fn, written, inverted):
        for values, dtype in (([1.5, 2.0], "float32"), ([1, 2], "int64"), ([True, False], "bool"), ([1.5], "float64")):
            check(program, tensor(values, dtype))


def _place(t):
    """What the tape knows of a tensor."""
    try:
        return t.requires_grad, t.is_leaf, t.grad_fn is None
    except RuntimeError as error:
        return str(error)


def _gradient(fn, *args):
    """The places of the results and inputs, and the gradients they give."""
    found = [t for t in (*fn(*args), *args)]
    places = [_place(t) for t in found]
    fit = [t for t, place in zip(found, places) if isinstance(place, tuple) and t.requires_grad]
    sum((t * (i + 2)).sum() for i, t in enumerate(fit)).backward()
    return places, [None if t.grad is None else t.grad.tolist() for t in args if t.is_leaf]


@pytest.mark.parametrize("backend", ["eager", "numpy"])
def test_a_recorded_write_puts_the_views_made_before_on_the_tape(backend):
    def made(x, y, w):
        t = x + 1
        v, first, part = t.view(-1), t.t()[0], t[:, 1:].flatten()
        t *= w
        return v, first, part, t

    def through_a_view(x, y, w):
        t = x * 2
        v, row = t.view(-1), t[0]
        row *= w
        return v, row, t

    def given(x, y, w):
        v = x.view(-1)
        y *= w
        return v, v * 2, x * 3

    def several(x, y, w):
        v, *_ = x.unbind()
        y *= w
        return v, x * 2

    for fn in (made, through_a_view, given, several):
        compiled = compile(fn, backend=backend)
        for alias in (lambda x: x, lambda x: x[0], lambda x: x.view(-1), lambda x: x.detach(), lambda x: x.clone()):
            found = []
            for run in (fn, compiled):
                x, w = tensor([[1.0, 2, 3], [4, 5, 6]], "float32"), tensor(2.0, "float32").requires_grad_()
                found.append(_gradient(run, x, alias(x), w))
            assert found[0] == found[1]


@pytest.mark.parametrize("backend", ["eager", "numpy"])
def test_views_that_are_returned_come_onto_the_tape_with_what_they_show(backend):
    def of_an_input(x):
        return x, x.view(-1), x.t()[0], x.detach().view(-1)

    def of_a_result(x):
        y = x + 1
        return y, y.view(-1), y[0]

    def not_recorded(x):
        with flambeau.no_grad():
            return x, x.view(-1)

    for fn in (of_an_input, of_a_result, not_recorded):
        found = []
        for run in (fn, compile(fn, backend=backend)):
            x, w = tensor([[1.0, 2], [3, 4]], "float32"), tensor(2.0, "float32").requires_grad_()
            results = run(x)
            results[0].mul_(w)
            found.append(_gradient(lambda *_, r=results: r, w))
        assert found[0] == found[1]


def test_a_deep_copy_has_the_attributes_of_the_tensor():
    def set_here(x):
        x.tag = [1]
        y = copy.deepcopy(x)
        return y.tag, y.tag is x.tag, y + 1

    def set_outside(x):
        y = copy.deepcopy(x)
        return getattr(y, "tag", None), y.grad, y + 1

    for fn in (set_here, set_outside):
        compiled = compile(fn, backend="eager")
        for tag, grad in ((None, None), ("a", None), ("b", rand(2)), (None, rand(2)), (None, None)):
            found = []
            for run in (fn, compiled):
                x = tensor([1.0, 2.0], "float32")
                if tag is not None:
                    x.tag = tag
                x.grad = grad
                found.append(outcome(run, (x,), {}))
            assert found[0] == found[1]


@pytest.mark.parametrize("backend", ["numpy", "aot_eager"])
def test_gradients_that_do_not_fit_a_graph_are_refused(backend):
    compiled = compile(lambda w: w * 1.5, backend=backend)
    for data, error in ((flambeau.ones(3), "at index 0 - got [3] but"), (flambeau.ones(2, 1), "invalid gradient"),
                        (flambeau.ones(4, 4), "invalid gradient"), (flambeau.ones(2, 4), "")):
        w = rand(2, 4).requires_grad_()
        y = compiled(w)
        y.data = data
        if error:
            with pytest.raises(RuntimeError) as raised:
                y.sum().backward()
            assert error in str(raised.value)
        else:
            y.sum().backward()
            assert w.grad.tolist() == [[1.5] * 4] * 2


def test_what_a_view_may_not_be_used_for_is_so_after_squeeze():
    def fn(x):
        t = x.unbind(-1)[0]
        t.squeeze_()
        return x * 1, t

    found = [_place(run(rand(2, 3).requires_grad_())[1]) for run in (fn, compile(fn, backend="eager"))]
    assert found[0] == found[1]


@pytest.mark.parametrize("backend", ["eager", "numpy"])
def test_outputs_share_the_copy_that_they_are_views_of(backend):
    def returned(x):
        flat = x.flatten()
        return flat, flat[1:], flat.view(-1, 1)

    def between(x):
        flat = (x + 0).t().contiguous()
        return flat[0], flat.view(-1)

    def after_a_break(x):
        flat = x.flatten()
        part = flat.unfold(-1, 2, 1)
        part.add_(-1)
        return flat * 1, part + 0

    for fn in (returned, between, after_a_break):
        compiled = compile(fn, backend=backend)
        for x in (rand(3, 2).t(), rand(2, 3), rand(1, 3).expand(2, 3), rand(3, 5)[1:, 1:4]):
            found = []
            for run in (fn, compiled):
                first, *views = run(x.clone() if x.is_contiguous() else x)
                first.mul_(5)
                found.append([t.tolist() for t in (first, *views)])
            assert found[0] == found[1]


@pytest.mark.parametrize("backend", ["eager", "numpy"])
def test_what_is_recorded_within_no_grad_is_so_beside_writes(backend):
    def counted(x, b, w):
        with flambeau.enable_grad():
            b.add_(1)
            return x * w

    def written(x, b, w):
        with flambeau.enable_grad():
            b.mul_(w)
            y = x * w
        b.add_(1)
        return y, y * 3, b.view(-1), b

    def views(x, b, w):
        v = b.view(-1)
        b.add_(1)
        with flambeau.enable_grad():
            y = x * w
            part = y.view(-1)
            y.mul_(2)
        return v, y, part

    for fn in (counted, written, views):
        compiled, found = compile(fn, backend=backend), []
        for run in (fn, compiled, compiled):
            x, b, w = (tensor(v, "float32") for v in ([1.0, 2], [3.0, 4], [5.0, 6]))
            w.requires_grad_()
            with flambeau.no_grad():
                results = run(x, b, w)
            results = results if isinstance(results, tuple) else (results,)
            places = [(t.tolist(), _place(t)) for t in (*results, x, b, w)]
            sum((t * (i + 2)).sum() for i, t in enumerate(results) if t.requires_grad).backward()
            found.append((places, w.grad.tolist()))
        assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("backend", ["numpy", "aot_eager"])
def test_what_is_filled_from_less_has_elements_of_its_own(backend):
    def copied(x):
        y = flambeau.zeros(2, 3)
        y.copy_(x[0])
        return y

    def stored(x):
        y = flambeau.zeros(2, 3)
        y[:] = x
        return y

    def filled(x):
        return flambeau.zeros(2, 3).fill_(x[0])

    for fn in (copied, stored, filled):
        compiled = compile(fn, backend=backend)
        for dtype in ("int32", "float32", "float64"):
            y = compiled(tensor([2], dtype))
            y[0, 1] = 7
            assert y.tolist() == [[2, 7, 2], [2, 2, 2]]


def test_a_copy_does_not_come_onto_the_tape_with_what_it_is_a_copy_of():
    def fn(x, w):
        y = x * 1
        part, whole = y[:, 1:].flatten(), y.reshape(-1)
        y *= w
        return (part * 2 if part.requires_grad else part - 1), whole.requires_grad, part.is_leaf

    w = tensor(2.0, "float32").requires_grad_()
    assert outcome(compile(fn, backend="eager"), (flambeau.ones(2, 3), w), {}) == outcome(fn, (flambeau.ones(2, 3), w), {})


def test_contiguous_of_any_size_is_the_tensor_itself_or_a_copy():
    def program(x):
        y = x.contiguous()
        return y is x, y

    compiled = compile(program, dynamic=True)
    for x in (rand(3, 4), rand(5, 4), rand(4, 5).t(), rand(4, 6).t(), rand(6, 4)):
        assert compiled(x)[0] == program(x)[0] == x.is_contiguous()


def test_an_op_of_tensors_refuses_a_number_that_changes():
    def program(x, n):
        try:
            return flambeau.sin(n)
        except TypeError as error:
            return str(error)

    compiled = compile(program)
    for n in (1, 2, 3, 2.5, 3.5, 4.5):
        assert compiled(rand(2), n) == program(rand(2), n)


def test_values_made_for_a_moment_keep_their_texts_apart():
    """What is handed over at a break is written down value by value; a value of the same address is another one."""
    log = []

    def record(a, b):
        exec("log.append(a[0] + b[0])", {"log": log, "a": a, "b": b})

    def program(d, e):
        for number, values in d.items():
            for key, value in values.items():
                record(e[number][key].tolist(), value.tolist())

    def nested(n):
        return {k: {name: flambeau.ones(2) * k for name in "abc"} for k in range(n)}

    for n in (8, 10, 12):
        log.clear()
        compile(program)(nested(n), nested(n))
        assert log == [2.0 * k for k in range(n) for _ in "abc"]


_is_even = _also_even = frozenset({2, 4}).__contains__


def test_a_method_of_a_constant_under_two_names():
    def program(x):
        return x + (1 if _is_even(4) else 2) + (3 if _also_even(3) else 4)

    check(program, rand(2), breaks=0)

"""What a comparison with Dynamo on programs that nobody had seen found: numbers, assertions, tensors that turn, small classes."""
import collections
import contextlib
import functools
import gc
import inspect
import itertools
import os
import types
import weakref

import pytest
from tracer.support import check, compile, count, events, plain, rand, tensor

import flambeau
import flambeau.nn.functional as F
from flambeau.overrides import TorchFunctionMode

pytestmark = pytest.mark.filterwarnings("error::flambeau.frontend.points.FallbackWarning")


def compiles(fn, inputs, limit, **kwargs):
    compiled = compile(fn, backend="eager", **kwargs)
    for args in inputs:
        assert plain(compiled(*args)) == plain(fn(*args)), args
    assert count(compiled, "graph") <= limit, events(compiled)
    return compiled


# --------------------------------------------------------------------------- numbers

def test_a_number_from_a_tensor_is_an_argument_of_what_follows_at_once():
    compiles(lambda x: x / x.abs().max().item(), [(rand(3),) for _ in range(4)], 2)


def test_a_number_that_changes_is_an_argument_after_the_next_break_too():
    def f(x):
        s = x.abs().max().item()
        print(end="")
        y = x / s
        print(end="")
        return y * s + x.sum().item() * (x + s)
    compiles(f, [(rand(3),) for _ in range(4)], 4)


def test_the_count_of_a_loop_with_a_break_is_an_argument_from_the_first_turn():
    def f(x):
        n = 0
        while x.norm() > 0.5:
            x = x * 0.7
            n += 1
        return x, n * x, n
    compiles(f, [(tensor([3.0, 4.0]),), (tensor([0.1, 0.1]),), (tensor([30.0, 4.0]),)], 4)


@pytest.mark.parametrize("ints", [(3, 4, 1, 0, 7), (0, 1, 2, 3), (5, 6, 0)])
def test_a_changing_int_may_be_zero_or_one(ints):
    compiles(lambda x, n: x * n + n, [(rand(3), n) for n in ints], 2)
    compiles(lambda x, n: (x * n, n // 2, n > 2 or None), [(rand(3), n) for n in ints], 4)


def test_a_changing_int_as_a_size_may_be_zero_or_one():
    compiles(lambda x, n: (x[:n].sum(), flambeau.zeros(n, 2), x.repeat(n, 1)), [(rand(5), n) for n in (3, 4, 1, 0, 2, 6)], 5)


def test_sizes_that_are_equal_by_chance_are_different_ones():
    compiles(lambda x: (x * 2, x.sum(0)), [(rand(8, 8),), (rand(10, 10),), (rand(12, 14),)], 2)
    compiles(lambda x, y: (x * 2, y + 1), [(rand(3), rand(3)), (rand(5), rand(5)), (rand(6), rand(7))], 2)
    compiles(lambda x, y: x + y, [(rand(3), rand(3)), (rand(5), rand(5)), (rand(6), rand(6))], 2)


def test_an_op_on_sizes_that_come_apart_is_compiled_anew_or_refused():
    f = compile(lambda x, y: x + y, backend="eager")
    for n in (3, 5):
        f(rand(n), rand(n))
    with pytest.raises(RuntimeError):
        f(rand(6), rand(7))
    assert f(rand(6), rand(1)).shape == (6,)


def test_the_larger_of_sizes_is_computed_at_each_call():
    def padded(a, b):
        n = max(a.shape[0], b.shape[0])
        return flambeau.stack([F.pad(t, (0, n - t.shape[0])) for t in (a, b)]), min(a.shape[0], 4)
    compiles(padded, [(rand(a), rand(b)) for a, b in ((2, 3), (4, 6), (9, 5), (5, 8))], 3)
    compiles(lambda x, p: x * max(p, 0.25) + min(p, 0.3, 0.9), [(rand(3), p) for p in (0.1, 0.2, 0.5, 0.7)], 2)


def test_the_larger_of_an_int_and_a_float_keeps_its_type():
    compiles(lambda x, p: (x * max(p, 1), type(max(p, 1)).__name__), [(rand(3), p) for p in (0.5, 0.7, 1.5, 2.5)], 4)


@pytest.mark.parametrize("f", [
    lambda x, p: F.layer_norm(x, (4,), eps=p), lambda x, p: x.clamp(min=-p, max=p),
    lambda x, p: flambeau.full((2,), p) * x[:2, :2],
    lambda x, p: flambeau.tensor([p, 1.0]), lambda x, p: F.pad(x, (1, 1), value=p), lambda x, p: F.softplus(x, beta=p + 1)])
def test_a_changing_float_as_an_option(f):
    compiles(f, [(rand(3, 4), p) for p in (0.1, 0.2, 0.3, 0.4)], 2)


@pytest.mark.parametrize("f", [lambda x, p: F.dropout(x, p, False), lambda x, p: x.norm(p=p + 1),
                               lambda x, p: F.hardtanh(x, -p, p)])
def test_an_option_that_must_be_known_is(f):
    assert not count(compiles(f, [(rand(3, 4), p) for p in (0.1, 0.2, 0.3)], 3), "break")


@pytest.mark.parametrize("f", [
    lambda x: F.interpolate(x, scale_factor=2, mode="nearest"), lambda x: F.interpolate(x, scale_factor=1.5, mode="bicubic"),
    lambda x: F.interpolate(x, size=(x.shape[2] * 2, 9), mode="bilinear", align_corners=True),
    lambda x: F.interpolate(x, size=(x.shape[2] * 3 // 2, 7), mode="nearest"),
    lambda x: F.grid_sample(x, F.affine_grid(flambeau.eye(2, 3)[None], x.shape, align_corners=False), align_corners=False)])
def test_images_of_many_sizes_are_resized_by_one_graph(f):
    compiles(f, [(rand(1, 2, n, m),) for n, m in ((4, 6), (6, 8), (8, 10), (10, 14), (12, 20))], 2)


# --------------------------------------------------------------------------- assertions

def program(text, **names):
    """A function whose assertions pytest leaves as they are."""
    space = dict(names)
    exec(text, space)                                             # noqa: S102 - the text above
    return space["f"]


def test_assertions_on_data_are_asked_when_the_graph_has_run():
    log = []
    f = program("""
def f(x, y):
    log.append("begun")
    z = x * 2
    assert not z.isnan().any(), "nan"
    log.append("checked")
    assert (y > 0).all() and y.sum() < 100, f"bad {y.sum()}"
    return z + y
""", log=log)
    compiled = compile(f, backend="eager", fullgraph=True)
    for a, b in ((1.0, 1.0), (1.0, -1.0), (float("nan"), 1.0), (-1.0, 2.0), (1.0, 200.0)):
        said = []
        for fn in (f, compiled):
            log.clear()
            try:
                said.append((fn(tensor([a]), tensor([b])).tolist(), list(log)))
            except AssertionError as error:
                said.append((str(error), list(log)))
        assert said[0] == said[1]


def test_an_assertion_after_a_write_is_a_break():
    f = program("""
def f(x):
    x.add_(1)
    assert x.sum() > 0
    x.mul_(2)
    return x * 2
""")
    check(f, tensor([1.0]), graphs=2)
    check(f, tensor([-5.0]))


def test_an_assertion_that_the_program_catches():
    f = program("""
def f(x, y):
    try:
        assert x.sum() > 0
    except AssertionError:
        return y
    return x
""")
    compiled = compile(f, backend="eager")
    for a in (1.0, -1.0, 2.0):
        assert compiled(tensor([a]), tensor([9.0])).item() == f(tensor([a]), tensor([9.0])).item()


# --------------------------------------------------------------------------- tensors

def test_a_tensor_made_in_the_trace_turns_in_place():
    def f(x):
        y = x * 2
        row, held = y[0], [y]
        y.unsqueeze_(0)
        row.add_(1)
        y.mul_(3)
        y.transpose_(0, 1)
        same = y.squeeze_(1) is y
        return y.t_(), row, held, same, y.shape, held[0].stride()
    check(f, rand(2, 3), graphs=1, breaks=0)


def test_a_tensor_turned_in_place_has_its_gradient():
    def f(x):
        y = x.sin()
        y.t_()
        y.unsqueeze_(0)
        return (y.squeeze_() * x.T).sum()
    for fn in (f, compile(f, backend="aot_eager", fullgraph=True)):
        x = flambeau.ones(2, 3, requires_grad=True)
        fn(x).backward()
        assert abs(x.grad[0, 0].item() - 1.3818) < 1e-3


def test_what_a_function_keeps_in_its_context_is_read_by_its_derivative():
    class Clamped(flambeau.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.inside = (x > 0) & (x < 1)
            return x.clamp(0, 1)

        @staticmethod
        def backward(ctx, g):
            return g * ctx.inside

    compiled = compile(lambda x: Clamped.apply(x * 2) + Clamped.apply(x), backend="eager", fullgraph=True)
    x = flambeau.tensor([-0.5, 0.25, 0.75, 2.0], requires_grad=True)
    compiled(x).sum().backward()
    assert x.grad.tolist() == [0, 3, 1, 0]


def test_tensors_are_made_with_requires_grad():
    def f(x):
        w = flambeau.ones(3, requires_grad=True)
        (w * x).sum().backward()
        return w.grad, flambeau.tensor([1.0, 2.0], requires_grad=True).requires_grad
    check(f, rand(3), graphs=1, breaks=0)


# --------------------------------------------------------------------------- small classes

class Holder:
    def __init__(self, value):
        self.value = value


def test_weak_references():
    holder = Holder(2)
    ref = weakref.ref(holder)
    compiled = compile(lambda x: x * ref().value if ref() is not None else x, backend="eager")
    x = tensor([1.0])
    assert compiled(x).item() == 2
    holder.value = 3
    assert compiled(x).item() == 3
    del holder
    gc.collect()
    assert compiled(x).item() == 1


def test_namespaces_and_read_only_dicts():
    def f(x):
        ns = types.SimpleNamespace(a=1, b=x)
        ns.c = ns.b * 2
        view = types.MappingProxyType({"k": x})
        return ns.c + ns.a, view["k"] * 2, list(view), "k" in view, vars(ns)["a"], view.get("z", 4), len(view), ns, dict(view)
    check(f, rand(3), graphs=1, breaks=0)


def test_what_a_dict_of_the_programs_class_holds():
    class Logged(dict):
        log = []

        def __getitem__(self, key):
            self.log.append(key)
            return super().__getitem__(key)

    def f(x):
        d = Logged(a=1, b=x)
        return dict(d), {**d}, d["a"], list(Logged.log)
    compiled = compile(f, backend="eager")
    x = rand(3)
    expected = plain(f(x))
    Logged.log.clear()
    assert plain(compiled(x)) == expected


def test_special_methods_by_their_names():
    def f(x):
        xs, d = [3, 1, 2], collections.defaultdict(list)
        d["k"].append(x)
        return (sorted(range(3), key=xs.__getitem__), d.default_factory is list, xs.__len__(), xs.__contains__(2),
                list(map({"a": x}.__getitem__, "a")), list([1].__iter__()))
    check(f, rand(3), graphs=0, breaks=0)


def test_the_value_of_a_stop_iteration():
    def f(x):
        def gen():
            got = yield x
            return got * 2
        it = gen()
        next(it)
        try:
            it.send(x + 1)
        except StopIteration as stop:
            return stop.value
    check(f, rand(3), graphs=1, breaks=0)


def test_what_c_code_computes_of_an_exception_is_a_break():
    def f(x):
        y = x * 2
        try:
            raise OSError(2, "none")
        except OSError as error:
            return y, error.errno
    check(f, rand(3))


def test_paths_and_shapes():
    def f(x):
        s = x.shape
        return os.path.join("a", "b"), type(s + (1,)), type((1,) + s), type(s * 2), type(s[:1]), functools.reduce(max, s) * x
    check(f, rand(3, 4), graphs=1, breaks=0)
    assert type((1,) + rand(2).shape) is flambeau.Size


def test_a_file_of_a_package_is_imported_where_the_program_does(tmp_path, monkeypatch):
    (tmp_path / "rooms_of_a_house").mkdir()
    (tmp_path / "rooms_of_a_house" / "__init__.py").write_text("")
    (tmp_path / "rooms_of_a_house" / "cellar.py").write_text("DEPTH = 3")
    monkeypatch.syspath_prepend(tmp_path)
    import rooms_of_a_house  # noqa: F401, PLC0415 - the package is known, its file is not

    def call(x):
        from rooms_of_a_house import cellar  # noqa: PLC0415
        return x + cellar.DEPTH

    run = compile(call)
    assert run(tensor(1.0)).item() == run(tensor(1.0)).item() == 4


@pytest.mark.parametrize("backend", ["aot_eager", "numpy", "cpp"])
def test_values_without_data_stay_without_data(backend):
    def call(x, shapes):
        return x + 1, flambeau.ones(2, 3, device="meta") @ shapes.T

    for run in (call, flambeau.compile(call, backend=backend)):
        values, product = run(flambeau.ones(2), flambeau.empty(4, 3, device="meta"))
        assert values.tolist() == [2, 2] and product.is_meta and product.shape == (2, 4)
    with pytest.raises(RuntimeError, match="same device"):
        flambeau.compile(lambda x: x + flambeau.ones(2, device="meta"), backend=backend)(flambeau.ones(2))


def _numbers(log):
    for k in range(5):
        log.append(k)
        yield k


def _unpack_generator(x, log):
    try:
        a, b = _numbers(log)
    except ValueError as error:
        return str(error), x * 2


def _unpack_endless(x, log):
    try:
        a, b = itertools.count()
    except ValueError as error:
        return str(error), x * 2


def _unpack_part(x, log):
    it = iter([1, 2, 3, 4, 5])
    with contextlib.suppress(ValueError):
        a, b = it
    return list(it), x + 1


def _unpack_given(x, log):
    try:
        a, b = log[0]
    except ValueError:
        return next(log[0]), x + 1


@pytest.mark.parametrize("fn", [_unpack_generator, _unpack_endless, _unpack_part, _unpack_given], ids=lambda fn: fn.__name__)
def test_unpacking_takes_one_item_more_than_it_needs(fn):
    log, other = ([itertools.count()], [itertools.count()]) if fn is _unpack_given else ([], [])
    wanted, found = fn(rand(2), log), compile(fn)(rand(2), other)
    assert found[0] == wanted[0]
    if fn is not _unpack_given:
        assert other == log


def test_a_function_may_have_more_defaults_than_parameters():
    def call(x, *rest, **named):
        return x * 2 + len(rest) + len(named)

    call.__defaults__, call.__kwdefaults__ = (tensor(1.0), tensor(5.0)), {"gone": 1}
    run = compile(call, backend="eager")
    assert run().item() == call().item() == 10                    # the last default is the first parameter's
    assert run(tensor(2.0), 1, named=3).item() == call(tensor(2.0), 1, named=3).item() == 6


def test_the_librarys_functions_compile_while_overrides_are_in_force():
    with TorchFunctionMode():
        pass                                                      # from now on each function looks for overrides
    x = rand(3, 4)
    for fn, args in ((flambeau.rand_like, ()), (flambeau.softmax, (-1,)), (flambeau.sort, ()), (flambeau.sum, (0,))):
        run = compile(fn, backend="eager", fullgraph=True)
        flambeau.manual_seed(1)
        expected = fn(x, *args)
        flambeau.manual_seed(1)
        assert plain(run(x, *args)) == plain(expected) and count(run, "graph") == 1
        assert inspect.signature(run) == inspect.signature(fn)
    with pytest.raises(TypeError, match=r"softmax\(\) missing 1 required positional argument: 'dim'"):
        flambeau.softmax(x)

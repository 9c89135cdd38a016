"""Who is who, and what happens first: one object under several names, changes seen through another, errors after changes."""

from collections import OrderedDict, defaultdict

from ..given import F, nn, program, rand

X = rand(4, 3)


class Box:
    def __init__(self, **values):
        self.__dict__.update(values)


@program((X,), (X,))
def one_list_twice_in_another(x):
    inner = [1]
    outer = [inner, inner]
    outer[0].append(2)
    outer.append(outer[1])
    outer[2][0] = 5
    return x * sum(outer[1]), outer


@program((X, [[1], [2]]), (X, [[3]]))
def an_argument_shares_its_items(x, xs):
    xs.append(xs[0])
    xs[0].append(9)
    xs[-1] += [7]
    return x * len(xs[-1]), xs


@program((X, Box(a=1)), (X, Box(a=2)))
def two_names_for_an_argument(x, box):
    holder = {"box": box, "same": box}
    holder["box"].a += 1
    holder["same"].b = holder["box"].a * 2
    return x * box.b, holder["box"] is holder["same"]


CYCLE = Box(k=1)
CYCLE.me = CYCLE


@program((X,), (X,), watch=lambda: CYCLE.k)
def an_object_that_holds_itself(x):
    CYCLE.me.me.k += 1
    return x * CYCLE.k


@program((X,), (X,))
def makes_a_cycle(x):
    xs = [x + 1]
    xs.append(xs)
    d = {"x": x}
    d["self"] = d
    return xs[1][0], d["self"]["x"] * 2


@program((X,), (X,))
def one_result_twice(x):
    y = x * 2
    return y, [y, y], {"y": y}, y is y


@program((rand(4, 3),), (rand(4, 3, seed=1),))
def a_tensor_stored_then_written(x):
    saved = [x, x.view(-1), x.clone()]
    x.add_(1)
    saved[1][0] = 100
    return saved, x.sum()


@program((rand(4, 3),), (rand(4, 3, seed=1),))
def error_after_a_write(x):
    x.mul_(2)
    x[0] = 7
    raise ValueError("too late")


@program((rand(4, 3), [1]), (rand(4, 3), [2]))
def error_after_changes_is_caught(x, xs):
    try:
        xs.append(2)
        x.add_(1)
        xs[5] = 3
    except IndexError as error:
        xs.append(type(error).__name__)
    return x * len(xs)


SHARED = [1, 2]


@program((X, SHARED), (X, [5]), (X, SHARED), watch=lambda: SHARED)
def an_argument_that_is_a_global(x, xs):
    xs.append(len(SHARED))
    SHARED[0] += 10
    return x * xs[0]


@program((X,), (X,))
def dict_order_after_changes(x):
    d = {"a": 1, "b": 2, "c": 3}
    del d["a"]
    d["a"] = 4
    d["b"] = 5
    d = {**d, "c": 6, "z": 7}
    o = OrderedDict(d)
    o.move_to_end("b", last=False)
    return x * d["a"], list(d), list(o.items())


@program((X, {"a": 1, "b": 2, "c": 3}), (X, {"b": 1, "a": 0}))
def order_of_an_argument_changes(x, d):
    first = next(iter(d))
    d[first] = d.pop(first)
    d.pop("c", None)
    d["new"] = list(d)
    return x * len(d)


class Tracked:
    def __init__(self):
        object.__setattr__(self, "log", [])
        self.k = 1

    def __setattr__(self, name, value):
        self.log.append(("set", name))
        object.__setattr__(self, name, value)

    def __delattr__(self, name):
        self.log.append(("del", name))
        object.__delattr__(self, name)


TRACKED = Tracked()


@program((X,), (X,), watch=lambda: (TRACKED.log, TRACKED.k))
def attribute_stores_are_logged(x):
    TRACKED.k = TRACKED.k + 1
    TRACKED.j = x
    del TRACKED.j
    return x * TRACKED.k * len(TRACKED.log)


class Linked:
    def __init__(self):
        self.raw, self.writes = 1, 0

    @property
    def value(self):
        return self.raw

    @value.setter
    def value(self, v):
        self.raw = v * 2
        self.writes += 1


LINKED = Linked()


@program((X,), (X,), (X,), watch=lambda: (LINKED.raw, LINKED.writes))
def setters_with_effects(x):
    LINKED.value = LINKED.value + 1
    LINKED.value += 1
    return x + LINKED.writes


class Hidden:
    k = 5


HIDDEN = Hidden()


@program((X,), (X,), watch=lambda: vars(HIDDEN))
def deleting_shows_the_class_attribute(x):
    HIDDEN.k = 1
    y = x * HIDDEN.k
    del HIDDEN.k
    return y + HIDDEN.k


def cells():
    count = 0

    def up(n):
        nonlocal count
        count += n
        return count

    def read():
        return count
    return up, read


UP, READ = cells()


@program((X,), (X,), watch=lambda: READ())
def two_closures_of_one_cell(x):
    UP(1)
    y = x * READ()
    UP(READ())
    return y + READ()


@program((X,), (X,))
def a_generator_half_consumed(x):
    g = (k * k for k in range(5))
    a = next(g)
    b = [v for _, v in zip(range(2), g)]
    return x * (a + sum(b)), list(g)


@program((X,), (X,))
def defaults_shared_between_calls(x):
    def push(v, into=[]):                          # noqa: B006
        into.append(v)
        return len(into)
    return x * push(1) + push(2), push(3)


GROUPS = defaultdict(list)


@program((X,), (X,), watch=lambda: dict(GROUPS))
def missing_keys_made_by_looking(x):
    n = len(GROUPS["a"])
    GROUPS["b"].append(n)
    "c" in GROUPS
    GROUPS.get("d")
    return x * len(GROUPS)


@program((X,), (X,))
def swaps_of_tensors_and_names(x):
    a, b = x + 1, x + 2
    a, b = b, a
    t = (a, b)
    a = t[1]
    xs = [a, b]
    xs[0], xs[1] = xs[1], xs[0]
    return xs, a is xs[1]


@program((rand(3), rand(3)), (rand(3), rand(3)))
def writes_seen_through_a_stack_of_views(x, y):
    views = [x[:2], x[1:], x.view(3, 1)]
    for k, v in enumerate(views):
        v.add_(k + 1)
    views[0].copy_(y[:2])
    return [v.sum() for v in views], x


class Base:
    made = 0

    def __new__(cls, *args):
        self = super().__new__(cls)
        self.order = ["new"]
        return self

    def __init__(self, x):
        self.order.append("init")
        self.x = x


@program((X,), (X,))
def order_of_construction(x):
    b = Base(x * 2)
    b.order.append("use")
    return b.x, b.order, b


@program((X, 0), (X, 1), (X, 2))
def finally_and_returns(x, how):
    log = []

    def inner():
        try:
            log.append("try")
            if how == 0:
                return x + 1
            if how == 1:
                raise KeyError(how)
            log.append("end")
        except KeyError:
            log.append("except")
            return x + 2
        else:
            log.append("else")
        finally:
            log.append("finally")
        return x + 3
    return inner(), log


@program((X,), (X,), watch=lambda: (MODEL.calls, MODEL.cache.keys()))
def a_module_that_keeps_results(x):
    return MODEL(x) + MODEL(x * 2)


class Keeping(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls, self.cache = 0, {}

    def forward(self, x):
        self.calls += 1
        self.cache[self.calls] = x.detach()
        self.last = x
        return F.relu(x) + len(self.cache)


MODEL = Keeping()


@program((X,), (X,))
def in_place_operators_of_containers(x):
    a = b = [1]
    a += [2]
    a = a + [3]
    s = t = {1}
    s |= {2}
    u = v = (1,)
    u += (2,)
    d = e = {"a": 1}
    d |= {"b": 2}
    return x * len(b), a, s is t, v, e


@program((rand(4, 3), Box(t=None)), (rand(4, 3), Box(t=None)))
def a_tensor_put_into_an_object_then_written(x, box):
    box.t = x
    box.t.add_(1)
    box.u = box.t[0]
    box.u.zero_()
    return x.sum(), box.t is x


@program((X,), (X,))
def shadowed_names(x):
    len = lambda v: 40                              # noqa: A001, E731
    sum = [1, 2]                                    # noqa: A001
    return x * len(x) + sum[0]


@program((X,), (X,))
def late_binding(x):
    fs = [lambda v: v * k for k in range(3)]        # noqa: B023
    k = 10
    gs = [lambda v, k=k: v + k for k in (1, 2)]
    return fs[0](x), gs[0](x), k


@program((X,), (X,), watch=lambda: RESULTS)
def results_kept_outside(x):
    y = x * 2
    RESULTS.append(y)
    y.add_(1)
    RESULTS.append(y[0])
    return y


RESULTS = []


@program((X,), (X,))
def conditional_definitions(x):
    if x.dim() == 2:
        def f(v):
            return v + 1
        z = 3
    else:
        f = None
    try:
        w = z + undefined_later                     # noqa: F821
    except NameError:
        w = z
    del z
    return f(x) * w


@program((rand(4, 3), rand(4, 3)), (rand(4, 3), rand(4, 3)))
def arguments_rebound_and_written(x, y):
    x, y = y, x
    x += 1
    y = y * 2
    y += 1
    return x, y


@program((X,), (X,))
def iterates_while_changing_elsewhere(x):
    xs = [1, 2, 3]
    seen = []
    for k, v in enumerate(xs):
        seen.append(v)
        if v == 2:
            xs.pop(0)
    for v in reversed(xs):
        seen.append(v)
    return x * sum(seen), xs

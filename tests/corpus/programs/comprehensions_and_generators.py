"""List, dict and set comprehensions, generator expressions, generators consumed in the frame."""

from ..given import nn, program, rand, torch

X = rand(4, 3)


@program((X, 3), (X, 3))
def list_comprehension(x, n):
    return torch.stack([x * k for k in range(n) if k != 1])


@program((X,), (X,))
def nested_comprehension(x):
    rows = [[x[i, j] * (i + j) for j in range(3)] for i in range(2)]
    return torch.stack([v for row in rows for v in row])


@program((X,), (X,))
def dict_and_set_comprehension(x):
    parts = {f"part{k}": x[k] for k in range(x.shape[0])}
    lengths = {len(name) for name in parts}
    flipped = {tuple(v.shape): k for k, v in parts.items()}
    return parts["part2"] + len(lengths), flipped


@program((X, [1, 2]), (X, [1, 2]))
def comprehension_over_a_closure_variable(x, scales):
    offset = 2
    fns = [lambda v, s=s: v * s + offset for s in scales]
    late = [lambda v: v * s for s in scales]
    offset = 5
    return [f(x) for f in fns], [f(x) for f in late]


@program((X,), (X,))
def generator_expression_in_sum(x):
    return sum(row * k for k, row in enumerate(x)), max(row.shape[0] for row in x)


@program((X,), (X,))
def any_and_all_stop_early(x):
    seen = []

    def note(k):
        seen.append(k)
        return k
    return x + any(note(k) > 1 for k in range(5)), all(note(k) < 1 for k in range(5)), seen


def countdown(n):
    while n > 0:
        yield n
        n -= 1


@program((X, 3), (X, 4))
def generator_in_a_loop(x, n):
    for k in countdown(n):
        x = x / k
    return x


def running_mean():
    total, count, mean = 0.0, 0, None
    while True:
        value = yield mean
        total, count = total + value, count + 1
        mean = total / count


@program((X,), (X,))
def generator_with_send(x):
    means = running_mean()
    next(means)
    return [means.send(row) for row in x][-1]


def chunks(x, size):
    for start in range(0, x.shape[0], size):
        yield x[start:start + size]
    return "done"


def all_chunks(x):
    end = yield from chunks(x, 3)
    yield from (c * 2 for c in chunks(x, 2))
    yield end


@program((X,), (X,))
def yield_from_with_a_result(x):
    *parts, end = all_chunks(x)
    return torch.cat(parts), end


@program((X,), (X,))
def next_with_default(x):
    found = next((row for row in x if row.ndim == 7), None)
    first = next(k for k in range(10) if k * k > 20)
    gen = countdown(1)
    return x * first, found, next(gen), next(gen, "empty")


def closing(log):
    try:
        yield 1
        yield 2
    finally:
        log.append("closed")


@program((X, []), (X, []))
def generator_closed_explicitly(x, log):
    gen = closing(log)
    x = x * next(gen)
    gen.close()
    log.append("after")
    return x, list(gen)


@program((X,), (X,))
def generator_that_throws(x):
    def guarded():
        value = 1
        while True:
            try:
                value = yield value * 2
            except ValueError as error:
                value = len(error.args)
    gen = guarded()
    next(gen)
    a = gen.send(4)
    b = gen.throw(ValueError("a", "b"))
    return x * a + b


class Tree:
    def __init__(self, value, children=()):
        self.value, self.children = value, children

    def __iter__(self):
        yield self.value
        for child in self.children:
            yield from child


@program((X,), (X,))
def recursive_generator(x):
    tree = Tree(1, [Tree(2, [Tree(3)]), Tree(4)])
    for depth, value in enumerate(tree):
        x = x + depth * value
    return x, list(tree)


@program((X,), (X,))
def zipped_generators(x):
    evens = (k for k in range(0, 10, 2))
    return [row * k for row, k in zip(x, evens)], next(evens)


@program((X, {"b": 2, "a": 1}), (X, {"b": 2, "a": 1}), (X, {"a": 1, "c": 3}))
def comprehension_over_dict_items(x, weights):
    scaled = {k: x * v for k, v in sorted(weights.items())}
    inverse = {v: k for k, v in weights.items()}
    return scaled, inverse


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(3)])

    def states(self, x):
        yield x
        for layer in self.layers:
            x = layer(x).relu()
            yield x


torch.manual_seed(1)
STACK = Stack()


@program((X,), (X,), backward=True)
def hidden_states_from_a_generator(x):
    states = tuple(STACK.states(x))
    return states[-1], len(states)


@program((X,), (X,))
def generator_is_left_half_way(x):
    for k, c in enumerate(chunks(x, 1)):
        if k == 2:
            break
    return c, k


@program((X,), (X,))
def returns_a_generator(x):
    y = x * 2
    return (row + 1 for row in y)


@program((X, 3), (X, 3))
def walrus_leaks_out_of_a_comprehension(x, n):
    if any((hit := k) * k > n for k in range(5)):
        return x * hit, hit
    return x, None


@program((X,), (X,))
def comprehension_shadows_names(x):
    k = 10
    a = [k for k in range(3)]
    x = x + k
    b = {k: v for k, v in zip("ab", a)}
    return x, b, k


@program((X,), (X,))
def unpacking_of_displays(x):
    a, b = [1, 2], (3,)
    d = {**{"p": x * 2}, "q": [*a, *b], **dict(r=1)}
    return d, [*map(str, a)], {*a, *b} == {1, 2, 3}


@program((X, 10), (X, 10))
def cell_variable_around_a_comprehension(x, k):
    keep = lambda: k  # noqa: E731
    fns = [lambda: k * 2 for k in range(3)]
    torch._dynamo.graph_break()
    more = {k: (lambda: k + 1) for k in range(2)}
    return x * keep(), k, [f() for f in fns], [f() for f in more.values()]

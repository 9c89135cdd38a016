"""Loops, branches and expressions on Python values and shapes."""

from ..given import F, call, program, rand, torch

X = rand(4, 3)


@program((X, 3), (X, 3), (rand(4, 3, seed=1), 3))
def loop_over_range(x, n):
    for i in range(n):
        x = x * i + 1
    return x


@program((X, 5), (X, 5))
def while_with_break_and_continue(x, n):
    k = 0
    while True:
        k += 1
        if k % 2:
            continue
        if k > n:
            break
        x = x + k
    return x, k


@program((X, True), (X, False), (X, True))
def branch_on_a_flag(x, training):
    if training:
        x = F.dropout(x, 0.0, training)
    return x.relu() if training else x.tanh()


@program((X,), (rand(2, 3),), (rand(4, 3),))
def branch_on_a_shape(x):
    rows, columns = x.shape
    if rows > columns:
        return x.t().reshape(-1)
    elif rows == columns:
        return x.diagonal()
    return x.sum(dim=-1, keepdim=True)


@program((X, [1, 2, 3]), (X, [1, 9, 3]))
def loop_with_an_else(x, items):
    for item in items:
        if item > 5:
            found = item
            break
        x = x + item
    else:
        found = -1
        x = x * 2
    return x, found


@program((X,), (rand(2, 3),))
def walrus_in_conditions_and_comprehensions(x):
    if (n := x.shape[0]) > 3 and 1 < n < 10:
        x = x * n
    squares = [y for k in range(5) if (y := k * k) % 2 == 0]
    return x + sum(squares), n, y


@program((X, None), (X, X), (X, None))
def optional_arguments(x, mask=None):
    if mask is not None:
        x = x.masked_fill(mask > 0, float("-inf"))
    return x.softmax(-1)


@program((X, 3), (X, 1), (X, 2), (X, 0))
def chain_of_elifs_on_an_int(x, mode):
    if mode == 0:
        return x
    elif mode == 1:
        return x.exp()
    elif mode == 2:
        return x.abs().sqrt()
    else:
        return -x


@program(call(X, lengths=[2, 3]), call(X, lengths=[1, 1]))
def nested_loops_with_early_return(x, lengths):
    for a in lengths:
        for b in range(a):
            if a * b > 3:
                return x * a, b
            x = x + b
    return x, None


@program((X, 3),)
def raises_out_of_the_function(x, n):
    if x.shape[-1] == n:
        raise ValueError(f"expected anything but {n} columns, got {tuple(x.shape)}")
    return torch.zeros_like(x)


@program((X, 3), (X, 4), (X, 5))
def number_of_steps_changes(x, steps):
    for step in range(1, steps + 1):
        x = x + 1.0 / step
    return x


@program((X,), (rand(5, 3),), (rand(6, 3),))
def loop_over_rows(x):
    total = torch.zeros(3)
    for row in x:
        total = total + row * row
    return total


@program((X, (0.5, None, 2.0)), (X, (0.5, None, 2.0)))
def continue_past_nothing(x, scales):
    out = []
    for scale in scales:
        if scale is None:
            continue
        out.append(x * scale)
    return torch.stack(out).mean(0)


@program((X, "relu"), (X, "gelu"), (X, "relu"))
def conditional_expressions_in_a_row(x, name):
    act = F.relu if name == "relu" else F.gelu if name == "gelu" else torch.tanh
    y = act(x)
    return y if y.ndim == 2 else y.flatten()


@program((X, 2.0, 1), (X, 2.0, 1))
def and_or_give_operands(x, a, b):
    c = a and b
    d = None or "" or 0 or a
    e = not (a and None)
    return x * c + d, e, c


@program((X, [3, 1, 2]), (X, [3, 1, 2]))
def while_over_a_worklist(x, work):
    seen = []
    while work:
        k = work.pop()
        if k in seen or k < 0:
            continue
        seen.append(k)
        work.append(k - 2)
        x = x + k
    else:
        x = x.neg()
    return x, seen


@program((X, 2), (X, 2))
def deletes_locals(x, n):
    y = x * n
    del x
    values = [1, 2, 3, 4]
    del values[1:3]
    box = {"a": y, "b": n}
    del box["b"]
    try:
        n = n + x  # noqa: F821
    except UnboundLocalError:
        n = -1
    return y, values, sorted(box), n


@program((X,), (rand(4, 3, seed=2),))
def star_unpacking(x):
    first, *middle, last = x.unbind(0)
    (a, b), *rest = [(1, 2), 3, 4]
    *head, tail = x.shape
    return first + last, torch.stack(middle), a + b, rest, head, tail


@program((X, 4), (X, 4))
def chained_comparisons_evaluate_once(x, n):
    asked = []

    def ask(v):
        asked.append(v)
        return v
    inside = 1 < ask(n) <= 4 != ask(5)
    outside = 5 < ask(1) < ask(9)
    return x * inside, outside, asked


@program((X, 3), (X, 3))
def assert_passes(x, width):
    assert x.shape[-1] == width, f"expected {width} columns"
    assert isinstance(x, torch.Tensor) and x.dtype is torch.float32
    return x.cumsum(dim=0)


@program((X, 5), (X, 5))
def assert_fails(x, width):
    y = x + 1
    assert y.shape[-1] == width, "columns"
    return y


@program((X, 8), (X, 8))
def ternary_in_arguments_and_slices(x, n):
    half = n // 2 if n % 2 == 0 else n
    y = torch.full((half, 3), 1.0 if half > 2 else 0.0)
    return torch.cat([x[: -1 if n > 9 else None], y], dim=0 if x.ndim == 2 else -1)


@program((X, 3), (X, 2), (X, 3))
def labels_found_by_for_else(x, wanted):
    for i, row in enumerate([(1, 2), (3, 4)]):
        for j, v in enumerate(row):
            if v == wanted:
                break
        else:
            continue
        break
    else:
        return x
    return x[i, j] * wanted

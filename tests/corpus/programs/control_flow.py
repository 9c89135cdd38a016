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

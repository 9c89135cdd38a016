"""More breaks: data, prints, NumPy, files, threads, random numbers, in every place."""

import json
import math
import os
import random
import re
import sys
import threading
import time

import numpy as np

from ..given import nn, program, rand, torch

X = rand(3, 4)
Y = rand(3, 4, seed=1)
P = rand(3, 4).abs()
LOG = []


@program((X,), (P,))
def item_branch(x):
    y = x.sum()
    if y.item() > 0:
        return x + 1
    return x - 1


@program((X,), (P,))
def item_arithmetic(x):
    s = x.max().item()
    return x / s, s


@program((X,), (P,))
def print_middle(x):
    y = x * 2
    print("hello", tuple(y.shape))
    return y + 1


@program((X,), (P,))
def print_tensor(x):
    y = x * 2
    print(y.sum())
    return y + 1


@program((X,), (P,))
def print_in_loop(x):
    for i in range(3):
        x = x + i
        print(i)
    return x


def helper_breaks(x):
    y = x + 1
    print("h")
    return y * 2


@program((X,), (P,))
def nested_break(x):
    y = helper_breaks(x.sin())
    return helper_breaks(y).cos()


@program((X,), (P,))
def graph_break_explicit(x):
    x = x + 1
    torch._dynamo.graph_break()
    return x * 2


@program((X,), (P,))
def numpy_roundtrip(x):
    a = x.numpy()
    b = np.sin(a) + 1
    return torch.from_numpy(b) * x


@program((X,), (P,))
def numpy_scalar(x):
    k = np.float32(2.5)
    n = np.sqrt(2.0)
    return x * float(k) + float(n)


@program((X,), (P,))
def numpy_constant_array(x):
    t = torch.tensor(np.array([1.0, 2.0, 3.0, 4.0], dtype=np.float32))
    return x * t


@program((X,), (P,))
def tolist_and_sum(x):
    return x + sum(x[0].tolist())


@program((X,), (P,))
def while_data(x):
    n = 0
    while x.abs().sum() > 1 and n < 10:
        x = x / 2
        n += 1
    return x, n


@program((X,), (P,))
def break_in_with(x):
    with torch.no_grad():
        y = x + 1
        print("w")
        y = y * 2
    return y


@program((X,), (P,))
def break_in_try(x):
    try:
        y = x + 1
        print("t")
        if y.sum() > 5:
            raise ValueError("big")
        y = y * 2
    except ValueError:
        y = x - 1
    finally:
        LOG.append(1)
    return y


@program((X,), (P,))
def break_in_comprehension(x):
    return [x * i if (x[i].sum() > 0) else x + i for i in range(3)]


@program((X,), (P,))
def break_in_generator(x):
    def g():
        for i in range(3):
            print(i)
            yield x * i

    return sum(g())


@program((X,), (P,))
def break_in_lambda_argument(x):
    xs = sorted([x[0], x[1], x[2]], key=lambda t: t.sum().item())
    return torch.stack(xs) + 1


@program((X,), (P,))
def break_in_subscript_store(x):
    d = {}
    d["a"] = x + 1
    d["n"] = (x > 0).sum().item()
    d["b"] = d["a"] * d["n"]
    return d


class Noisy:
    def __enter__(self):
        print("in")
        return self

    def __exit__(self, *a):
        print("out")


@program((X,), (P,))
def noisy_context(x):
    with Noisy():
        y = x + 1
    return y * 2


class NoisyMod(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.k = k

    def forward(self, x):
        y = x * self.k
        print("mod", self.k)
        return y + 1


@program((X,), (P,))
class StackNoisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.ms = nn.ModuleList([NoisyMod(2), NoisyMod(3)])

    def forward(self, x):
        for m in self.ms:
            x = m(x).relu()
        return x


@program((X,), (P,))
def random_module(x):
    random.seed(1)
    return x * random.random() + random.randint(1, 5) + random.choice([1, 2, 3]), random.uniform(0, 1)


@program((X,), (X,), (X,))
def random_unseeded(x):
    return x * random.random()


@program((X,), (P,))
def random_shuffle(x):
    xs = [1, 2, 3, 4]
    random.Random(3).shuffle(xs)
    return x * xs[0]


@program((X,), (P,))
def time_calls(x):
    t = time.time()
    y = x + 1
    return y * (1 if time.time() >= t else 2)


@program((X,), (P,))
def environment(x):
    k = int(os.environ.get("NOT_SET_ANYWHERE", "3"))
    return x * k, os.path.join("a", "b")


@program((X,), (P,))
def json_inside(x):
    d = json.loads('{"a": 2}')
    y = x * d["a"]
    s = json.dumps({"n": x.size(0)})
    return y, s


@program((X,), (P,))
def regex_inside(x):
    m = re.match(r"(\d+)x", "12x")
    return x * int(m.group(1))


@program((X,), (P,))
def thread_inside(x):
    out = []
    y = x + 1
    t = threading.Thread(target=lambda: out.append(y * 2))
    t.start()
    t.join()
    return out[0] + 1


@program((X,), (P,))
def file_inside(x):
    y = x + 1
    with open(os.devnull, "w") as f:
        f.write("x")
    return y * 2


@program((X,), (P,))
def stdout_write(x):
    y = x + 1
    sys.stdout.write("s")
    return y * 2


@program((X,), (P,))
def eval_exec(x):
    y = x + 1
    k = eval("3 + 4")
    ns = {}
    exec("z = 5", ns)
    return y * k + ns["z"]


@program((X,), (P,))
def locals_globals(x):
    y = x + 1
    n = len(locals())
    g = "LOG" in globals()
    return y * n, g


def rec_break(x, n):
    if n == 0:
        return x
    y = x + n
    print(n)
    return rec_break(y, n - 1) * 2


@program((X,), (P,))
def recursion_break(x):
    return rec_break(x, 2)


@program((X, 1), (X, 2), (X, 3))
def break_with_stack(x, n):
    return x + n * helper_breaks(x) - helper_breaks(x + n)


@program((X,), (P,), watch=lambda: LOG)
def effects_around_break(x):
    LOG.append("a")
    y = x + 1
    print("p")
    LOG.append(y.sum())
    z = y * 2
    LOG.append("c")
    return z


@torch._dynamo.disable
def disabled(x):
    return x * 3


@program((X,), (P,))
def disabled_function(x):
    return disabled(x + 1) + 1


@program((X,), (P,))
def bool_of_tensor_and_or(x):
    a = x.sum() > 0
    b = x.mean() > 0
    return (x + 1) if a and not b else (x - 1)


@program((X,), (P,))
def int_float_of_tensor(x):
    return x * int(x.abs().sum()) + float(x[0, 0]), math.floor(x.abs().max() * 10)


@program((X,), (P,))
def assert_data(x):
    y = x + 1
    assert y.abs().sum() > -1, "neg"
    return y * 2


@program((X,), (P,))
def nonzero_unpack(x):
    i, j = torch.where(x > 0)
    return x[i, j].sum() + i.numel()


@program((X,), (P,))
def loop_over_data_size(x):
    out = x.sum()
    for r in x[x.sum(1) > 0]:
        out = out + r.sum()
    return out


@program((X,), (P,))
def unique_values(x):
    u = torch.unique((x * 2).round())
    return u + 1, u.numel()


@program((X,), (P,))
def range_of_item(x):
    n = int((x > 0).sum())
    for i in range(n):
        x = x + 1
    return x


@program((X,), (P,))
def tensor_in_list(x):
    xs = [1, 2]
    y = x + 1
    return y * (2 if torch.tensor(2) in xs else 3)


@program((X,), (P,))
def string_of_tensor(x):
    y = x * 2
    s = str(y[0, 0].item()) + repr(y.shape)
    return y + len(s) * 0, f"{x.size(0)}"


@program((X,), (P,))
def format_item(x):
    y = x * 2
    msg = f"loss {y.sum().item():.3f}"
    return y + 1, msg


@program((X,), (P,))
def try_except_break_reraise(x):
    def f(t):
        print("f")
        raise KeyError("k")

    y = x + 1
    try:
        f(y)
    except KeyError:
        y = y * 2
    return y


@program((X,), (P,))
def break_in_default_and_kwargs(x):
    def f(a, b=None, **k):
        return a + b + k["c"]

    return f(x, b=x.sum().item(), c=helper_breaks(x))


@program((X,), (P,))
def break_in_dict_comprehension(x):
    return {k: helper_breaks(x * i) for i, k in enumerate("ab")}


@program((X,), (P,))
def break_in_closure_cell(x):
    n = 0

    def inc(t):
        nonlocal n
        n += 1
        print(n)
        return t + n

    x = inc(x)
    x = inc(x)
    return x, n


@program((X,), (P,))
def break_between_unpacking(x):
    a, b = helper_breaks(x), x.sin()
    (c, d), e = (a, b), print("q")  # noqa: F841
    return a + d, e


@program((X,), (P,))
def return_in_with_after_break(x):
    with torch.no_grad():
        y = helper_breaks(x)
        if y.sum() > 0:
            return y + 1
    return y - 1


@program((rand(3, grad=True),), backward=True)
def gradient_across_breaks(x):
    y = x * 2
    print("mid")
    return y.sin()


@program((X,), (P,))
def deepcopy_of_tensor(x):
    import copy

    y = copy.deepcopy(x)
    y += 1
    return y, copy.copy(x) + 1


@program((X,), (P,))
def hash_and_id(x):
    y = x + 1
    d = {id(x): 1, hash(x): 2}
    return y * len(d), id(x) in d


@program((X,), (P,))
def data_ptr_and_storage(x):
    y = x + 1
    return y * (1 if x.data_ptr() == x.view(-1).data_ptr() else 2)


@program((X,), (P,))
def numpy_ops_many(x):
    a = x.detach().numpy()
    m = np.mean(a, axis=0)
    s = np.stack([a, a]).sum(0)
    c = np.clip(a, -0.5, 0.5)
    return torch.tensor(m) + torch.from_numpy(s)[0] + torch.as_tensor(c)[0]


@program((X,), (P,))
def iter_of_dataloader_like(x):
    total = 0
    for b in torch.utils.data.DataLoader([1, 2, 3], batch_size=2):
        total = total + x.sum() * b.sum()
    return total


@program((X,), (P,))
def sys_and_platform(x):
    return x * (2 if sys.version_info >= (3, 8) else 3) + (1 if sys.platform == "linux" else 0)


@program((X,), (P,))
def collections_abc_checks(x):
    from collections.abc import Callable, Iterable, Mapping, Sequence

    return x + isinstance([1], Sequence) + isinstance({}, Mapping) + isinstance(x, Iterable) + isinstance(len, Callable)

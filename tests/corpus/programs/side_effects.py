"""What a program changes outside itself, in which order: objects, lists, dicts, prints, warnings, logs, random state."""

import logging
import warnings
from collections import Counter, OrderedDict, defaultdict, deque

from ..given import program, rand, torch

X = rand(4, 3)


class Box:
    def __init__(self, **values):
        self.__dict__.update(values)


BOX = Box(k=1, items=[], table={}, tensor=torch.zeros(3))


@program((X,), (X,), (X,), watch=lambda: BOX)
def stores_on_an_object(x):
    BOX.k += 1
    BOX.last = x * 2
    BOX.items.append(BOX.k)
    BOX.table[BOX.k] = x.shape
    return x + BOX.k


@program((X, [1]), (X, [1, 2]), (X, []))
def changes_a_list_argument(x, xs):
    xs.append(x)
    xs.insert(0, "first")
    if len(xs) > 3:
        xs.pop()
        del xs[0]
    xs.extend([1, 2])
    xs.reverse()
    return x * len(xs)


@program((X, {"a": 1}), (X, {"b": 2, "a": 3}), (X, {}))
def changes_a_dict_argument(x, d):
    d["new"] = x
    d.setdefault("a", 5)
    d.update(z=1, a=d["a"] + 1)
    d.pop("b", None)
    d["a"] = d.pop("a")
    return x * d["a"]


@program((X, {1, 2}), (X, {3}), (X, set()))
def changes_a_set_argument(x, s):
    s.add(2)
    s.discard(3)
    s |= {7, 8}
    return x * len(s)


QUEUE = deque([1, 2], maxlen=3)
COUNTS, GROUPS, ORDERED = Counter(), defaultdict(list), OrderedDict(a=1, b=2)


@program((X,), (X,), (X,), watch=lambda: (list(QUEUE), dict(COUNTS), dict(GROUPS), list(ORDERED)))
def changes_collections(x):
    QUEUE.append(x.shape[0] + len(QUEUE))
    COUNTS["calls"] += 1
    GROUPS[x.dim()].append(len(GROUPS))
    ORDERED.move_to_end("a")
    return x * COUNTS["calls"]


@program((X,), (X,))
def prints_between_ops(x):
    print("before")
    y = x * 2
    print("shape", tuple(y.shape), y.dtype)
    z = y + 1
    print(f"sum {float(z.sum()):.3f}")
    return z


@program((X, 3), (X, 2))
def prints_in_a_loop(x, n):
    for k in range(n):
        x = x + k
        print(k, x.mean().item() > 0)
    return x


MESSAGES = []


class Collect(logging.Handler):
    def emit(self, record):
        MESSAGES.append((record.levelname, record.getMessage()))


LOGGER = logging.Logger("corpus")
LOGGER.addHandler(Collect())
LOGGER.setLevel(logging.INFO)


@program((X,), (X,), watch=lambda: list(MESSAGES))
def logs_between_ops(x):
    y = x * 2
    LOGGER.info("shape %s", tuple(y.shape))
    LOGGER.debug("not shown")
    return y + 1


WARNED = []


@program((X,), (X,), watch=lambda: list(WARNED))
def warns(x):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        y = x * 2
        warnings.warn("careful", RuntimeWarning)
        z = y + 1
    WARNED.extend(str(w.message) for w in found)
    return z


EVENTS = []


def note(name):
    EVENTS.append(name)
    return name


@program((X,), (X,), watch=lambda: list(EVENTS))
def order_of_evaluation(x):
    table = {note("k"): note("v"), **{note("k2"): note("v2")}}
    y = [note("a"), x, note("b")][1] * len(note("c"))
    note("d") if y.dim() == 2 else note("e")
    return y, table


@program((X,), (X,), watch=lambda: BOX.tensor)
def writes_a_tensor_of_an_object(x):
    BOX.tensor.add_(x[0])
    before = BOX.tensor.clone()
    BOX.tensor.mul_(2)
    return before


SEEN = {}


@program((X, "a"), (X, "b"), (X, "a"), watch=lambda: SEEN)
def caches_results(x, key):
    if key not in SEEN:
        SEEN[key] = x * (len(SEEN) + 1)
    return SEEN[key] + 1


class Meter:
    def __init__(self):
        self.reset()

    def reset(self):
        self.total, self.count, self.history = 0.0, 0, []

    def update(self, value, n=1):
        self.total = self.total + value * n
        self.count += n
        self.history.append(value)

    @property
    def average(self):
        return self.total / max(self.count, 1)


METER = Meter()


@program((X,), (X,), (X,), lambda: METER.reset(), (X,), watch=lambda: METER)
def running_meter(x):
    loss = (x ** 2).mean()
    METER.update(loss.detach(), x.shape[0])
    return loss / (METER.average + 1)


@program((X,), (X,), watch=lambda: vars(BOX).get("path"))
def exception_after_effects(x):
    BOX.path = ["start"]
    y = x + 1
    BOX.path.append(y.shape)
    if y.dim() == 2:
        raise ValueError("after two effects")
    BOX.path.append("never")
    return y


@program((X,), (X,), watch=lambda: BOX.__dict__.get("done"))
def effects_in_finally(x):
    BOX.done = "no"
    try:
        y = x * 2
        {}["missing"]
    except KeyError:
        y = x * 3
    finally:
        BOX.done = "yes"
    return y


@program((X,), (X,), watch=lambda: hasattr(BOX, "temporary"))
def sets_and_deletes_an_attribute(x):
    BOX.temporary = 3
    y = x * BOX.temporary
    del BOX.temporary
    return y


@program((X, Box(k=1)), (X, Box(k=5)))
def changes_an_object_argument(x, box):
    box.k, box.j = box.k + 1, box.k
    setattr(box, f"made_{box.k}", x)
    return x * box.k


def once(fn):
    def inner(*args):
        inner.calls += 1
        return fn(*args)
    inner.calls = 0
    return inner


@once
def counted(x):
    return x * 2


@program((X,), (X,), (X,), watch=lambda: counted.calls)
def attribute_of_a_function(x):
    return counted(counted(x))


class Registry:
    made = []
    total = 0

    def __init__(self, x):
        self.x = x
        Registry.made.append(tuple(x.shape))


@program((X,), (X,), watch=lambda: Registry.made)
def objects_register_themselves(x):
    return Registry(x * 2).x + Registry(x[0]).x


@program((X,), (X,), (X,), watch=lambda: Registry.total)
def stores_on_a_class(x):
    Registry.total += 1
    return x * Registry.total


@program((X,), (X,))
def swaps_and_unpacks(x):
    a, (b, *c) = x, (1, 2, 3)
    a, b = b, a
    xs = [0, 1, 2]
    k, xs[0] = 1, 5
    xs[k], xs[xs[k]] = 7, 8
    return b * a, c, xs


@program((X,), (X,), watch=lambda: (LEFT, RIGHT))
def two_names_of_one_list(x):
    LEFT.append(1)
    RIGHT.append(2)
    LEFT[0] += 1
    return x * sum(RIGHT)


LEFT = [0]
RIGHT = LEFT


@program((X,), (X,), (X,), watch=lambda: (STATE["step"], STATE["exp_avg"]))
def optimizer_like_state(x):
    STATE["step"] += 1
    STATE["exp_avg"].mul_(0.9).add_(x.mean(0), alpha=0.1)
    bias = 1 - 0.9 ** STATE["step"]
    return STATE["exp_avg"] / bias


STATE = {"step": 0, "exp_avg": torch.zeros(3)}


@program((X,), (X,))
def mutates_what_it_iterates(x):
    d = {"a": 1, "b": 2}
    for k in list(d):
        d[k + k] = d.pop(k) * 2
    xs = [3, 1, 2]
    xs.sort()
    for v in xs:
        if len(xs) < 5:
            xs.append(v)
    return x * sum(d.values()), d, xs


@program((X,), (X,), watch=lambda: LINES)
def writes_to_a_stream(x):
    class Stream:
        def write(self, text):
            LINES.append(text)
            return len(text)
    out = Stream()
    out.write("one")
    y = x + 1
    print("two", file=out)
    return y


LINES = []

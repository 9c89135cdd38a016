"""Strings: f-strings, formatting, methods, building of names."""

import re
import string
import textwrap

from ..given import F, nn, program, rand, torch

X = rand(4, 3)


@program((X, 3.14159, "ab"), (X, 3.14159, "ab"))
def f_strings(x, v, s):
    name = f"{s}_{x.shape[0]}x{x.shape[1]}"
    return x + len(name), name, f"{v:.2f}|{s:>5}|{s!r}|{42:#06x}|{v=:.1f}", f"{'nested' + f'{len(s)}'}", f"{s:{'^'}{6}}"


@program((X,), (X,))
def older_formatting(x):
    a = "%s has %d rows, %.1f%%" % ("x", x.shape[0], 99.5)
    b = "{0}-{name}-{0!r:>6}".format("v", name=3)
    c = "{:,} {:<4}|".format(1234567, "ab")
    d = "%(k)s" % {"k": 1}
    return x * len(a), a, b, c, d, "%5.2f" % 3.14159


@program((X, "Conv2d.weight"), (X, "Conv2d.weight"), (X, "Norm.bias"))
def string_methods(x, name):
    module, _, param = name.rpartition(".")
    snake = "".join("_" + c.lower() if c.isupper() else c for c in module).lstrip("_")
    words = " a  b ".split(), "a,b".split(","), "-".join(["x", "y"]), name.replace(".", "/"), "abc"[::-1], "ab" * 2
    tests = name.startswith(("Conv", "Norm")), param.endswith("t"), name.find("."), "12".isdigit(), "b" in name
    return x * len(module), snake, words, tests, name.title(), param.upper().center(9, "*"), "x=1".partition("=")


@program((X, "encoder.layers.0.weight"), (X, "encoder.layers.0.weight"))
def dispatch_on_a_name(x, key):
    parts = key.split(".")
    layer = int(parts[2])
    if parts[-1] == "weight" and parts[0].removesuffix("r") == "encode":
        x = x * (layer + 2)
    return x, parts, key.count("."), ".".join(parts[:-1])


@program((X, 4), (X, 4))
def string_building(x, n):
    text = ""
    for k in range(n):
        text += chr(ord("a") + k)
    lines = "\n".join(f"{i}: {c}" for i, c in enumerate(text))
    return x[:, : len(text) - 2], text, lines.splitlines(), text.zfill(6), sorted("hello"), set("aab") == {"a", "b"}


@program((X,), (X,))
def string_module(x):
    letters = string.ascii_lowercase[:3]
    template = string.Template("$who has $n").substitute(who="x", n=x.shape[0])
    table = str.maketrans("abc", "xyz")
    return x + len(letters), template, letters.translate(table), string.digits


@program((X, "layer_12_norm"), (X, "layer_12_norm"))
def regular_expression(x, name):
    found = re.match(r"layer_(\d+)_(\w+)", name)
    number = int(found.group(1))
    return x * number, found.group(2), re.sub(r"\d", "#", name), re.findall(r"[a-z]+", name), bool(re.search("xyz", name))


PATTERN = re.compile(r"^(q|k|v)_proj$")


@program((X, ["q_proj", "out", "v_proj"]), (X, ["q_proj", "out", "v_proj"]))
def compiled_pattern(x, names):
    hits = [n for n in names if PATTERN.match(n)]
    return x * len(hits), hits


@program((X,), (X,))
def text_of_values(x):
    return (x.exp(), str(3), repr("a"), str([1, "b"]), str((1,)), repr({"k": None}), str(1.5), str(True), str(x.shape),
            str(x.dtype), f"{x.shape}", f"{[1, 2]}", str(torch.float16), format(255, "b"), ascii("é"))


@program((X,), (X,))
def text_of_objects(x):
    class Named:
        def __init__(self, n):
            self.n = n

        def __str__(self):
            return f"Named {self.n}"

        def __repr__(self):
            return f"<{self.n}>"

        def __format__(self, spec):
            return f"{spec or 'none'}:{self.n}"
    n = Named(3)
    return x * n.n, str(n), f"{n} {n!r} {n:>4}", "%s" % n, str([n])


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        for k in range(3):
            setattr(self, f"fc{k}", nn.Linear(3, 3))

    def forward(self, x):
        for k in range(3):
            x = getattr(self, f"fc{k}")(x)
            x = getattr(F, ("relu", "gelu", "tanh")[k])(x)
        return x


torch.manual_seed(2)
BLOCK = Block()


@program((X,), (X,))
def attribute_names_are_built(x):
    return BLOCK(x)


@program((X,), (X,))
def string_comparisons(x):
    words = ["b", "A", "a10", "a9"]
    return (x + 1, sorted(words), sorted(words, key=str.lower), "abc" < "abd", "a" in "cat", max(words), "x".join("abc"),
            "abc".index("c"), "tEST".swapcase(), "a\tb".expandtabs(2), textwrap.dedent("  a"), "Straße".casefold())


@program((X, "einsum:ij,jk->ik"), (X, "einsum:ij,jk->ik"))
def equations_from_text(x, spec):
    kind, _, equation = spec.partition(":")
    ins, out = equation.split("->")
    assert len(ins.split(",")) == 2 and set(out) <= set(ins)
    return getattr(torch, kind)(equation, x, x.t())

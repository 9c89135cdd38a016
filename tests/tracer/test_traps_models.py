"""Soundness by chance: a small model is changed in random ways between calls; seeds are in the tests' names."""
import random

import pytest
from tracer.support import compile
from tracer.traps import facts

import flambeau
from flambeau import nn
from flambeau.frontend.config import config
from flambeau.frontend.trace import memo

pytestmark = pytest.mark.filterwarnings("error::flambeau.frontend.points.FallbackWarning",
                                        "error::flambeau.frontend.points.RecompileWarning")
STATES = 9


class Block(nn.Module):
    scale = 1

    def __init__(self, d=4):
        super().__init__()
        self.a, self.act, self.norm = nn.Linear(d, d), nn.ReLU(), nn.LayerNorm(d)
        self.k, self.cfg, self.more = 1, {"p": 1, "l": [1, 2]}, None
        self.register_buffer("buf", flambeau.ones(d))

    def forward(self, x):
        y = self.norm(x + self.act(self.a(x))) * self.k * self.scale * self.cfg["p"] * sum(self.cfg["l"]) * self.buf
        if self.more is not None:
            y = y + self.more
        return y if self.training else y * 2


def toggle(owner, name, value):
    setattr(owner, name, value if getattr(owner, name) is None else None)


def hook(block):
    if block._forward_hooks:
        block._forward_hooks.clear()
    else:
        block.register_forward_hook(lambda module, args, out: out + 1)


def own_forward(block):
    if block.__dict__.pop("forward", None) is None:
        block.forward = lambda x: x * 3


CHANGES = {
    "number": lambda b, r: setattr(b, "k", r.randrange(1, 4)),
    "item of a dict": lambda b, r: b.cfg.update(p=r.randrange(1, 4)),
    "list in a dict": lambda b, r: b.cfg["l"].append(1),
    "another dict": lambda b, r: setattr(b, "cfg", {"p": 2, "l": [3]}),
    "dict past setattr": lambda b, r: b.__dict__.update(cfg={"l": [2], "p": 3}),
    "training": lambda b, r: b.train(not b.training),
    "none or tensor": lambda b, r: toggle(b, "more", flambeau.ones(4)),
    "submodule": lambda b, r: setattr(b, "a", nn.Linear(4, 4)),
    "class of a submodule": lambda b, r: setattr(b, "act", r.choice([nn.ReLU, nn.Tanh, nn.GELU])()),
    "data of a parameter": lambda b, r: setattr(b.a.weight, "data", b.a.weight.data * 1.5),
    "parameter": lambda b, r: setattr(b.a, "weight", nn.Parameter(b.a.weight.detach() + 0.1)),
    "no bias": lambda b, r: toggle(b.a, "bias", nn.Parameter(flambeau.ones(4))),
    "buffer": lambda b, r: setattr(b, "buf", flambeau.full((4,), float(r.randrange(1, 3)))),
    "buffer written": lambda b, r: b.buf.mul_(2),
    "data of a buffer": lambda b, r: setattr(b.buf, "data", flambeau.rand(4)),
    "attribute that hides": lambda b, r: setattr(b, "scale", r.randrange(1, 3)),
    "attribute that hid": lambda b, r: b.__dict__.pop("scale", None),
    "hook": lambda b, r: hook(b),
    "frozen": lambda b, r: b.a.weight.requires_grad_(not b.a.weight.requires_grad),
    "forward of its own": lambda b, r: own_forward(b),
    "epsilon": lambda b, r: setattr(b.norm, "eps", r.choice([1e-5, 1e-2])),
    "gradient": lambda b, r: setattr(b.a.weight, "grad", flambeau.ones(4, 4)),
}


@pytest.mark.parametrize("watched", [False, True], ids=["tested", "watched"])
@pytest.mark.parametrize("seed", range(4))
def test_random_changes(seed, watched, monkeypatch):
    if watched:
        monkeypatch.setattr(memo, "WORTHWHILE", 1)
    monkeypatch.setattr(config, "warm_start", False)
    r = random.Random(seed)
    flambeau.manual_seed(seed)
    model = nn.Sequential(Block(), Block())
    compiled = compile(model, backend="eager", options={"recompile_limit": 2 * STATES})
    x = flambeau.randn(2, 4)
    done = []
    for _ in range(STATES):
        for _ in range(r.randrange(1, 4)):
            assert facts(compiled(x)) == facts(model(x)), f"after {done}"
        done.append(r.choice(list(CHANGES)))
        CHANGES[done[-1]](r.choice(list(model)), r)

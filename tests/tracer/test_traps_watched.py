"""The traps again, with guards that are watched instead of tested (`frontend/trace/memo.py`), as those of models are."""
import importlib

import pytest
from tracer import traps
from tracer.support import compile

from flambeau.frontend.config import config
from flambeau.frontend.trace import memo
from flambeau.runtime import words

pytestmark = [pytest.mark.filterwarnings("error::flambeau.frontend.points.FallbackWarning",
                                         "error::flambeau.frontend.points.RecompileWarning"),
              pytest.mark.skipif(not words.works(), reason="this Python's objects cannot be watched")]
FILES = [importlib.import_module(f"{__package__}.test_traps_{topic}" if __package__ else f"tracer.test_traps_{topic}")
         for topic in ("modules", "python", "classes", "values", "tensors", "state", "objects", "library", "twins")]
CALLS = 3                                    # enough for what changes from call to call to be known as such


def often(fn, **options):
    """As `traps.both`, calling the compiled function several times in each state."""
    compiled = compile(fn, backend="eager", **options)

    def run(*args, **kwargs):
        got = [traps.result(compiled, args, kwargs) for _ in range(CALLS)]
        assert got.count(got[0]) == CALLS, "calls in one state differ"
        return got[0], traps.result(fn, args, kwargs)
    return run


@pytest.mark.parametrize("name", [f"{file.__name__.rpartition('_')[2]}.{name}" for file in FILES for name in file.TRAPS])
def test_trap(name, monkeypatch):
    topic, _, which = name.partition(".")
    file = next(f for f in FILES if f.__name__.endswith("_" + topic))
    monkeypatch.setattr(memo, "WORTHWHILE", 1)
    monkeypatch.setattr(config, "warm_start", False)
    monkeypatch.setattr(file, "both", often)
    traps.spring(file.TRAPS[which])

"""The pages about capture say what happens: every code of a break has an example that breaks and one that does not."""
import re
import sys

import pytest
from imports import ROOT
from tracer.support import compile, context_of, count, events, plain

import flambeau
import flambeau.func  # noqa: F401 - as `import torch` does
import flambeau.nn.functional as F
from flambeau.frontend.trace.codes import CODES, PAGE

SECTIONS = dict(re.findall(r"^## ([a-z-]+)\n(.*?)(?=^## |\Z)", (ROOT / PAGE).read_text(), re.MULTILINE | re.DOTALL))


def test_every_code_has_its_section_in_order():
    assert list(SECTIONS) == sorted(CODES)
    for code, text in SECTIONS.items():
        assert text.strip().startswith(f"{CODES[code].title[0].upper()}{CODES[code].title[1:]}."), code


@pytest.fixture
def tensor_class_untouched():
    before = dict(vars(flambeau.Tensor))
    yield
    for name in set(vars(flambeau.Tensor)) - set(before):
        delattr(flambeau.Tensor, name)
    for name, value in before.items():
        if vars(flambeau.Tensor)[name] is not value:
            setattr(flambeau.Tensor, name, value)


def outcome(fn):
    try:
        return plain(fn(flambeau.ones(4, 3)))
    except Exception as error:
        return type(error).__name__, str(error)


@pytest.mark.parametrize("which", ["breaks", "mended"])
@pytest.mark.parametrize("code", SECTIONS)
def test_the_examples_of_a_code(code, which, tensor_class_untouched):
    block, = re.findall(rf"^```python\n# {which}[^\n]*\n(.*?)^```", SECTIONS[code], re.MULTILINE | re.DOTALL)
    try:
        program = __builtins__["compile"](block, f"{code}.py", "exec")
    except SyntaxError:
        pytest.skip("in the words of a later Python")
    sys.modules.pop("sched", None)
    spaces = [{"torch": flambeau, "F": F, "__name__": "example"} for _ in "ab"]
    for space in spaces:
        exec(program, space)                                                          # noqa: S102 - the page's example
    eager, compiled = spaces[0]["f"], compile(spaces[1]["f"], backend="eager")
    for _ in range(2):
        if code == "random" or "rand(" in block:
            outcome(compiled)
        else:
            assert outcome(compiled) == outcome(eager)
    broke = [e.captured.broke for e in context_of(compiled).events if e.kind == "break"]
    assert not count(compiled, "fallback"), events(compiled)
    if which == "mended":
        assert not broke and count(compiled, "graph") == 1, events(compiled)
    else:
        assert broke and broke[0].code == code, events(compiled)
        assert re.match(rf"{code}\.py:\d+$", broke[0].line) or code == "autograd-mode", broke[0]

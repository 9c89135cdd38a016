"""The pages about capture say what happens: every code of a break has an example that breaks and one that does not."""
import dis
import re
import sys

import pytest
from imports import ROOT
from tracer.support import compile, context_of, count, events, plain

import flambeau
import flambeau.func  # noqa: F401 - as `import torch` does
import flambeau.nn.functional as F
from flambeau.frontend.trace.codes import CODES, PAGE
from flambeau.frontend.trace.resume import Resume

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


# --------------------------------------------------------------------------- docs/capture.md

CAPTURE = (ROOT / "docs" / "capture.md").read_text()


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """Everything that the page on capture shows, by the name under which it shows it."""
    source = re.search(r"^```python\n(# scale\.py\n.*?)^```", CAPTURE, re.MULTILINE | re.DOTALL)[1]
    file = tmp_path_factory.mktemp("capture") / "scale.py"
    file.write_text(source)
    space = {"__name__": "scale"}
    exec(__builtins__["compile"](source, str(file), "exec"), space)                       # noqa: S102 - the page's example
    scale = space["scale"]
    compiled = compile(scale, backend="eager")
    assert plain(compiled(flambeau.ones(2, 3), 4)) == plain(scale(flambeau.ones(2, 3), 4))
    first, second = context_of(compiled)._points.values()
    captured, rest = first.entries[0].captured, second.entries[0].captured
    end = next(i for i in first.program.instrs if i.line == 6)
    resume = Resume(scale.__code__, end.offset, second.layout)
    assert plain(resume(space, {"y": flambeau.ones(2)}, {}, [])) == plain(flambeau.ones(2) + 1)
    instructions = [f"{i.opname} {i.argval}" for i in dis.get_instructions(resume.code)]
    return {"bytecode": str(first.program), "graph": str(captured.graph), "guards": str(captured.guards),
            "guard function": captured.guards.source_text, "run": captured.writer.text, "break": str(captured.broke),
            "layout": str(second.layout), "second graph": str(rest.graph), "resume": "\n".join(instructions)}


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the page shows Python 3.11")
@pytest.mark.parametrize(("name", "text"), re.findall(r"^<!-- prints: ([\w ]+) -->\n```text\n(.*?)^```", CAPTURE,
                                                       re.MULTILINE | re.DOTALL))
def test_the_page_on_capture_shows_what_is_printed(name, text, printed):
    whole, at = printed[name], 0
    if name == "break":
        whole, text = whole + "\n", text.replace("must be\ncomputed", "must be computed")
    for part in re.split(r"^\.\.\.\n", text, flags=re.MULTILINE):
        for line in ([part] if name not in ("resume", "guard function", "run") else part.splitlines()):
            found = f"{whole}\n".find(line, at)
            assert found >= 0, f"{name} does not go on with\n{line}\nbut is\n{whole}"
            at = found + len(line)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the page shows Python 3.11")
def test_the_page_on_capture_shows_every_stage(printed):
    assert re.findall(r"^<!-- prints: ([\w ]+) -->", CAPTURE, re.MULTILINE) == list(printed)


def test_only_decode_and_resume_know_the_python_version():
    """A new Python is a matter of these two files."""
    asks = re.compile(r"version_info|hexversion|\bVERSION\b|import dis\b|opcode\b|python_version|PY_3")
    files = {path.name for path in (ROOT / "frontend" / "trace").rglob("*.py") if asks.search(path.read_text())}
    assert files == {"decode.py", "resume.py"}

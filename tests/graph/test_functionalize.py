"""Functionalization: texts in, texts out. The epilogue is what the caller sees of writes and aliases."""

from __future__ import annotations

from textwrap import dedent

import pytest

import flambeau  # noqa: F401 - registers the ops
from flambeau.passes.functionalize import parse_functional
from flambeau.passes.manager import run_pass


def functionalized(text: str) -> str:
    found = run_pass("functionalize", dedent(text))
    found.check()
    assert str(parse_functional(str(found))) == str(found)
    return str(found)


def golden(text: str) -> str:
    return dedent(text).lstrip("\n")


def test_a_pure_graph_stays_as_it_is():
    assert functionalized("""
        def forward(x: f32[3], y: f32[3, "grad"]):
            add: f32[3, "grad"] = ops.add(x, y)  # model.py:1
            return add,
    """) == golden("""
        def forward(x: f32[3], y: f32[3, "grad"]):
            add: f32[3, "grad"] = ops.add(x, y)  # model.py:1
            return (add,)

        def epilogue(add: f32[3, "grad"]):
            return (add,)
    """)


def test_a_write_makes_a_new_value_that_later_reads_see():
    assert functionalized("""
        def forward(x: f32[3]):
            y: f32[3] = ops.neg(x)
            add_: f32[3] = ops.add_(y, 1)
            z: f32[3] = ops.mul(y, x)
            return z,
    """) == golden("""
        def forward(x: f32[3]):
            y: f32[3] = ops.neg(x)
            add: f32[3] = ops.add(y, 1)
            z: f32[3] = ops.mul(add, x)
            return (z,)

        def epilogue(z: f32[3]):
            return (z,)
    """)


def test_a_written_input_is_copied_back():
    assert functionalized("""
        def forward(x: f32[3], y: f32[3]):
            add_: f32[3] = ops.add_(x, y)
            return x,
    """) == golden("""
        def forward(x: f32[3], y: f32[3]):
            add: f32[3] = ops.add(x, y)
            return (add,)

        def epilogue(x: f32[3], add: f32[3]):
            copy: f32[3] = ops.copy_(x, add)
            return (x,)
    """)


def test_a_write_through_a_view_replaces_a_window_of_the_base():
    text = functionalized("""
        def forward(x: f32[3, 4]):
            y: f32[3, 4] = ops.neg(x)
            t: f32[4, 3] = ops.t(y)
            row: f32[3] = ops.select(t, 0, 1)
            mul_: f32[3] = ops.mul_(row, 2)
            return y,
    """)
    assert text == golden("""
        def forward(x: f32[3, 4]):
            y: f32[3, 4] = ops.neg(x)
            t: f32[4, 3] = ops.t(y)
            row: f32[3] = ops.select(t, 0, 1)
            mul: f32[3] = ops.mul(row, 2)
            t_1: f32[4, 3] = ops.t(y)
            view_scatter: f32[4, 3] = ops.view_scatter(t_1, mul, 'select', (0, 1))
            view_scatter_1: f32[3, 4] = ops.view_scatter(y, view_scatter, 't', ())
            return (view_scatter_1,)

        def epilogue(view_scatter_1: f32[3, 4]):
            return (view_scatter_1,)
    """).replace("row: f32[3] = ops.select", "select: f32[3] = ops.select").replace("mul(row", "mul(select")


def test_outputs_that_view_an_input_or_each_other_are_made_in_the_epilogue():
    assert functionalized("""
        def forward(x: f32[3, 4]):
            t: f32[4, 3] = ops.t(x)
            y: f32[3, 4] = ops.neg(x)
            row: f32[4] = ops.select(y, 0, 1)
            return t, y, row, 5
    """) == golden("""
        def forward(x: f32[3, 4]):
            y: f32[3, 4] = ops.neg(x)
            return (y,)

        def epilogue(x: f32[3, 4], y: f32[3, 4]):
            t: f32[4, 3] = ops.t(x)
            select: f32[4] = ops.select(y, 0, 1)
            return (t, y, select, 5)
    """)


def test_a_write_off_the_tape_keeps_the_history():
    assert "ops.overwrite(y, mul)" in functionalized("""
        def forward(x: f32[3, "grad"]):
            y: f32[3, "grad"] = ops.neg(x)
            mul_: f32[3] = ops.mul_(y, 2)
            return y,
    """)


def test_a_reshape_that_copies_is_no_alias():
    text = functionalized("""
        def forward(x: f32[3, 4]):
            t: f32[4, 3] = ops.t(x)
            r: f32[12] = ops.reshape(t, (12,))
            add_: f32[12] = ops.add_(r, 1)
            return r,
    """)
    assert "copy_" not in text and "view_scatter" not in text


def test_nothing_is_left_that_writes():
    found = run_pass("functionalize", dedent("""
        def forward(x: f32[3, 4]):
            y: f32[12] = ops.view(x, (12,))
            add_: f32[12] = ops.add_(y, 1)
            copy_: f32[3, 4] = ops.copy_(x, x)
            return y,
    """))
    assert not any(n.op.mutates for n in found.graph.nodes)
    assert found.written == {"x"}


@pytest.mark.parametrize("text", ["def forward(x: f32[3]):\n    return x,\n"])
def test_returning_an_input_computes_nothing(text):
    found = run_pass("functionalize", text)
    assert not found.graph.nodes and not found.graph.outputs
    assert [n.name for n in found.epilogue.outputs] == ["x"]

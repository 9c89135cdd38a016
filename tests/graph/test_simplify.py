"""Simplification and decomposition of graphs."""

from __future__ import annotations

from textwrap import dedent

import pytest

import flambeau  # noqa: F401 - registers the ops
from flambeau.ir.graph import parse_graph
from flambeau.passes.decompose import decompose
from flambeau.passes.manager import run_pass
from flambeau.passes.simplify import simplify


def simplified(body: str, inputs: str = "x: f32[3, 4]") -> list[str]:
    """The calls left of a graph with this body."""
    text = f"def forward({inputs}):\n" + "".join(f"    {line}\n" for line in dedent(body).strip().splitlines())
    found = run_pass("simplify", text)
    found.check()
    assert str(simplify(parse_graph(str(found)))) == str(found), "simplifying twice changes nothing more"
    return [line.strip().partition(" = ")[2] or line.strip() for line in str(found).splitlines()[1:]]


@pytest.mark.parametrize("call", ["ops.mul(x, 1)", "ops.mul(1.0, x)", "ops.add(x, -0.0)", "ops.sub(x, 0)", "ops.div(x, 1)",
                                  "ops.clone(x)", "ops.cast(x, f32)", "ops.reshape(x, (3, 4))", "ops.permute(x, (0, 1))",
                                  "ops.expand(x, (3, 4))"])
def test_no_ops_vanish(call):
    assert simplified(f"a: f32[3, 4] = {call}\nb: f32[3, 4] = ops.exp(a)\nreturn b,") == ["ops.exp(x)", "return (b,)"]


@pytest.mark.parametrize("call", ["ops.sub(0, x)", "ops.div(1, x)", "ops.mul(x, 2)", "ops.add(x, 1)", "ops.mul(x, True)",
                                  "ops.add(x, 0)", "ops.sub(x, -0.0)"])  # (of zeros with a sign they change it)
def test_what_computes_something_stays(call):
    assert simplified(f"a: f32[3, 4] = {call}\nreturn a,")[0] == call


def test_a_neutral_operand_that_broadcasts_stays():
    text = "a: f32[2, 3, 4] = ops.full((2, 3, 4), 1.0)\nb: f32[2, 3, 4] = ops.mul(x, a)\nreturn b,"
    assert simplified(text)[1] == "ops.mul(x, a)"


def test_equal_calls_are_one():
    assert simplified("""
        a: f32[3, 4] = ops.exp(x)
        b: f32[3, 4] = ops.exp(x)
        c: f32[3, 4] = ops.mul(a, b)
        return c,
    """) == ["ops.exp(x)", "ops.mul(a, a)", "return (c,)"]


def test_numbers_of_different_type_or_sign_are_not_equal():
    assert len(simplified("""
        a: f32[3, 4] = ops.mul(x, 0.0)
        b: f32[3, 4] = ops.mul(x, -0.0)
        c: f32[3, 4] = ops.mul(x, 2)
        d: f32[3, 4] = ops.mul(x, 2.0)
        return a, b, c, d
    """)) == 5


def test_chains_of_views_that_cancel():
    assert simplified("""
        a: f32[4, 3] = ops.t(x)
        b: f32[1, 4, 3] = ops.unsqueeze(a, 0)
        c: f32[1, 3, 4] = ops.transpose(b, 1, 2)
        d: f32[3, 4] = ops.reshape(c, (3, 4))
        e: f32[3, 4] = ops.exp(d)
        return e,
    """) == ["ops.exp(x)", "return (e,)"]


def test_a_view_of_what_was_just_put_there():
    assert simplified("""
        a: f32[3, 4] = ops.view_scatter(x, y, 'select', (0, 1))
        b: f32[4] = ops.select(a, 0, 1)
        c: f32[4] = ops.exp(b)
        return c,
    """, "x: f32[3, 4], y: f32[4]") == ["ops.exp(y)", "return (c,)"]


def test_outputs_stay_values_of_their_own():
    assert simplified("""
        a: f32[3, 4] = ops.sub(x, 0)
        b: f32[3, 4] = ops.exp(x)
        c: f32[3, 4] = ops.exp(x)
        return a, b, c
    """) == ["ops.clone(x)", "ops.exp(x)", "ops.clone(b)", "return (a, b, c)"]


def test_the_end_of_the_tape_stays():
    """A detach looks like its input, and is what keeps a gradient from flowing."""
    assert simplified("""
        a: f32[3, 4] = ops.detach(x)
        b: f32[3, 4, "grad"] = ops.mul(x, a)
        return b,
    """, 'x: f32[3, 4, "grad"]')[0] == "ops.detach(x)"


def test_composites_become_their_parts():
    graph = parse_graph(dedent("""
        def forward(b: f32[5], x: f32[3, 4], w: f32[4, 5]):
            out: f32[3, 5] = ops.addmm(b, x, w)  # model.py:3
            return out,
    """))
    parts = decompose(graph, lambda op: False)
    assert {"mm"} <= {n.op.name for n in parts.nodes} and "addmm" not in {n.op.name for n in parts.nodes}
    assert {n.loc for n in parts.nodes} == {"model.py:3"}
    assert [n.op.name for n in decompose(graph, lambda op: op.name == "addmm").nodes] == ["addmm"]


def test_parts_have_the_dtype_that_the_whole_promised():
    graph = parse_graph("def forward(x: f16[3]):\n    a: f16[3] = ops.add(x, x, alpha=2)\n    return a,\n")
    parts = decompose(graph, lambda op: False)
    assert parts.outputs[0].meta == graph.outputs[0].meta

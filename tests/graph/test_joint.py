"""Joint graphs and their partition into forward and backward."""

from __future__ import annotations

from dataclasses import replace
from textwrap import dedent

import pytest

import flambeau  # noqa: F401 - registers the ops
from flambeau.ir.graph import parse_graph
from flambeau.passes.joint import joint, parse_joint
from flambeau.passes.manager import run_pass
from flambeau.passes.partition import kept_names, partition

LAYER = dedent("""
    def forward(x: f32[8, 64, "grad"], w: f32[64, 64, "grad"], b: f32[64, "grad"]):
        mm: f32[8, 64, "grad"] = ops.mm(x, w)  # model.py:1
        add: f32[8, 64, "grad"] = ops.add(mm, b)  # model.py:1
        exp: f32[8, 64, "grad"] = ops.exp(add)  # model.py:2
        mul: f32[8, 64, "grad"] = ops.mul(exp, add)  # model.py:3
        return mul,
""")


def names(nodes):
    return [n.op.name for n in nodes]


def test_gradients_are_returned_behind_the_outputs():
    found = joint(parse_graph(LAYER))
    assert (found.n_inputs, found.n_outputs, found.tangents, found.wanted) == (3, 1, (0,), (0, 1, 2))
    assert [str(o.meta) for o in found.graph.outputs] == ["f32[8, 64]", "f32[8, 64]", "f32[64, 64]", "f32[64]"]


@pytest.mark.parametrize("loose", [((), ()), ((0, 2), ()), ((), (0,)), ((1,), (0,))])
def test_text_parses_back(loose):
    found = replace(joint(parse_graph(LAYER)), loose=loose)
    assert str(parse_joint(str(found))) == str(found)
    assert parse_joint(str(found)) == found


def test_backward_steps_name_the_line_of_their_forward():
    found = joint(parse_graph(LAYER))
    assert all(n.loc.startswith("model.py:") for n in found.graph.nodes)


def test_gradient_of_an_input_without_influence_is_none():
    found = joint(parse_graph(dedent("""
        def forward(x: f32[3, "grad"], y: f32[3, "grad"]):
            neg: f32[3, "grad"] = ops.neg(x)
            return neg,
    """)))
    assert found.graph.outputs[-1] is None


def test_what_was_not_recorded_gets_no_gradient():
    found = joint(parse_graph(dedent("""
        def forward(x: f32[3, "grad"]):
            exp: f32[3] = ops.exp(x)
            mul: f32[3, "grad"] = ops.mul(x, exp)
            return mul,
    """)))
    assert names(found.graph.nodes) == ["exp", "mul", "mul"]


def test_an_op_without_a_derivative_is_named():
    graph = parse_graph(dedent("""
        def forward(x: f32[3, "grad"]):
            a: f32[3, "grad"] = ops.floor_divide(x, 2)  # model.py:7
            return a,
    """))
    graph.nodes[0].op = replace(graph.nodes[0].op, tags=frozenset(), vjp=None, decompose=None)
    with pytest.raises(NotImplementedError, match=r"floor_divide.*model.py:7"):
        joint(graph)


def test_contractions_are_kept_and_cheap_values_computed_again():
    parts = run_pass("partition", str(joint(parse_graph(LAYER))))
    assert "mm" in names(parts.forward.nodes)
    assert names(parts.backward.nodes).count("mm") == 2  # the gradients of x and w; the forward's own is not run again
    kept = [n for n in kept_names(parts) if n not in ("x", "w", "b")]
    assert len(kept) == 1, "one value of the layer's size is enough: the others follow from it"


def test_both_parts_print_and_parse():
    parts = partition(joint(parse_graph(LAYER)))
    for graph in (parts.forward, parts.backward):
        graph.check()
        assert str(parse_graph(str(graph))) == str(graph)


def test_what_may_be_written_to_is_kept_as_a_copy_if_at_all():
    found = replace(joint(parse_graph(LAYER)), loose=((0, 1, 2), (0,)))  # the derivatives of mm need x and w
    parts = partition(found)
    assert names(parts.forward.nodes).count("clone") == 2
    assert not set(kept_names(parts)) & {"x", "w", "b", "mul"}
    assert not set(kept_names(partition(replace(found, loose=((2,), (0,)))))) & {"b", "mul"}
    assert kept_names(partition(found, budget=0.0)) == kept_names(partition(joint(parse_graph(LAYER)), budget=0.0))


def test_budget_zero_keeps_inputs_only():
    parts = partition(joint(parse_graph(LAYER)), budget=0.0)
    assert set(kept_names(parts)) <= {"x", "w", "b"}
    assert len(parts.forward.outputs) == 1


def test_texts_are_the_same_each_time():
    texts = {str(partition(joint(parse_graph(LAYER))).backward) for _ in range(5)}
    assert len(texts) == 1

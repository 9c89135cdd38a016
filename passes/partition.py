"""Cut the joint graph into forward and backward: which values the forward keeps, and which the backward computes again.

A minimum cut of a flow network (networkx): each value of the forward costs its bytes when kept, nothing when it can be
computed again from kept ones. Inputs and parameters are alive anyway and cost (nearly) nothing, unless the program may
write to them before the backward runs: what eager mode would not keep is kept as a copy. What is expensive to compute
again (contractions, convolutions, whole-array reductions) or would come out differently (random numbers) is not.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from flambeau.ir.graph import Graph, Node, copy_into, draws_inside, map_nodes, root_of
from flambeau.ir.op import get_op
from flambeau.ir.program import Partitioned
from flambeau.ir.tree import leaves

from .joint import Joint
from .sizes import carriers

#: Families that are cheap to compute again inside a backward kernel. Reductions only when they shrink little.
_CHEAP = frozenset({"pointwise", "view", "create", "getitem", "scatter_view", "index", "pad"})
_SHRINKS = 4


def partition(joint: Joint, budget: float = 1.0) -> Partitioned:
    """Cut ``joint`` in two.

    ``budget`` 1 keeps what is expensive to compute again; 0 keeps only inputs and random numbers and computes all else
    again; between, the largest of the expensive values are dropped until the kept bytes are that share. Below 1 the
    inputs must stay as they are until the backward has run.
    """
    return _Partition(joint if budget >= 1 else replace(joint, loose=((), ()))).cut(budget)


def kept_names(parts: Partitioned) -> list[str]:
    """The names of the values that the backward takes from the forward, in order."""
    return [n.name for n in parts.backward.inputs[:parts.saved]]


class _Partition:
    def __init__(self, joint: Joint) -> None:
        self.joint, graph = joint, joint.graph
        self.tangents = graph.inputs[joint.n_inputs:]
        self.inputs = graph.inputs[:joint.n_inputs]
        self.outputs = graph.outputs[:joint.n_outputs]
        self.gradients = graph.outputs[joint.n_outputs:]
        self.loose = {nodes[i] for nodes, at in zip((self.inputs, self.outputs), joint.loose) for i in at}
        self.users = graph.users()
        self.late = self._reached_from(self.tangents)
        self.needed = self._needed_for(self.gradients)
        self.early = [n for n in graph.inputs + graph.nodes if n not in self.late]

    def cut(self, budget: float) -> Partitioned:
        banned = {n for n in self.early if self.is_banned(n)}
        kept = self.minimum_cut(banned)
        if budget < 1:
            kept = self.within_budget(banned, kept, budget)
        return self.split(kept)

    # ---- what depends on what

    def _reached_from(self, starts: list[Node]) -> set[Node]:
        found = set(starts)
        for node in self.joint.graph.nodes:
            if any(source in found for source in node.inputs):
                found.add(node)
        return found

    @staticmethod
    def _needed_for(ends: list[Any]) -> set[Node]:
        found: set[Node] = set()
        stack = [n for n in leaves(ends) if isinstance(n, Node)]
        while stack:
            node = stack.pop()
            if node not in found:
                found.add(node)
                stack += node.inputs
        return found

    # ---- costs

    def is_banned(self, node: Node) -> bool:
        """Whether the backward must not compute ``node`` again."""
        if node.op is None:
            return False
        op = node.op
        if "random" in op.tags:
            return True
        if op.family == "reduction":
            return _bytes(node.meta) * _SHRINKS <= sum(_bytes(n.meta) for n in node.inputs)
        return op.family not in _CHEAP  # a composite that is still whole is one the target has a kernel for

    def minimum_cut(self, banned: set[Node]) -> list[Node]:
        """The values to keep: the cheapest set through which everything the backward reads can be made."""
        import networkx as nx  # noqa: PLC0415 - only compiles that differentiate pay for the import
        net: Any = nx.DiGraph()
        position = {n: i for i, n in enumerate(self.early)}
        crossing = False
        for node in self.early:
            if node not in self.needed:
                continue
            inside, outside = (position[node], 0), (position[node], 1)
            net.add_edge(inside, outside, capacity=self.keeping_cost(node))
            if node.op is None or node in banned or not node.inputs and "random" in node.op.tags:
                net.add_edge("source", inside)
            for user in self.users[node]:
                if user in self.late and user in self.needed:
                    net.add_edge(outside, "sink")
                    crossing = True
                elif user not in self.late and user in self.needed and user not in banned:
                    net.add_edge(outside, (position[user], 0))
            if any(node is g for g in self.gradients):
                net.add_edge(outside, "sink")
                crossing = True
        if not crossing or "source" not in net:
            return []
        _, (_, far) = nx.minimum_cut(net, "source", "sink")
        return [n for n in self.early if (position[n], 0) in net and (position[n], 0) not in far and (position[n], 1) in far]

    def keeping_cost(self, node: Node) -> float:
        if isinstance(node.meta, tuple):
            return math.inf  # its results are kept, each by itself
        size = _bytes(node.meta) + 1
        if self.is_loose(node):
            return size * 2.002  # a copy is stored, and read back; the value that is made of it is better
        if node.op is None:
            return size * 1e-6  # alive anyway
        if node in self.outputs:
            return size * 0.5   # stored anyway, read again
        # storing a value and reading it back; a value that a view shows is better kept unviewed
        return size * (2.0 if node.op.family != "view" else 2.001)

    def is_loose(self, node: Node) -> bool:
        """Whether the program may write to the memory of ``node`` before the backward runs."""
        return root_of(node, maybe=True) in self.loose

    def within_budget(self, banned: set[Node], kept: list[Node], budget: float) -> list[Node]:
        """Allow more and more to be computed again, the largest first, until the kept bytes are within the budget."""
        def total(nodes: list[Node]) -> int:
            return sum(_bytes(n.meta) for n in nodes if n.op is not None)
        limit = total(kept) * budget
        movable = sorted((n for n in banned if "random" not in n.op.tags), key=lambda n: (-_bytes(n.meta), n.name))  # type: ignore[union-attr]
        while total(kept) > limit and movable:
            share = max(1, len(movable) // 8)
            banned = banned - set(movable[:share])
            movable = movable[share:]
            kept = self.minimum_cut(banned)
        return kept

    # ---- the two graphs

    def split(self, kept: list[Node]) -> Partitioned:
        kept = [n for n in kept if n in self.needed]
        forward = Graph("forward")
        env: dict[Node, Any] = {n: forward.input(n.name, n.meta, n.requires_grad, n.loc) for n in self.inputs}
        drawn = [n for n in self.early if n.op is not None and ("random" in n.op.tags or draws_inside(n))]
        copy_into(forward, self._order(self._needed_for([*self.outputs, *kept, *drawn])), env)
        outputs = [map_nodes(env.__getitem__, o) for o in self.outputs]
        saved = [self.copied(n, forward, env) if self.is_loose(n) else env[n] for n in kept]
        extra = [n for n in saved if n.op is not None and not any(n is o for o in outputs)]
        forward.outputs = [*outputs, *dict.fromkeys(extra)]
        backward = Graph("backward")
        back: dict[Node, Any] = {}
        for n, as_saved in zip(kept, saved):
            back[n] = backward.input(as_saved.name, n.meta, False, n.loc)
        tangents = len(kept)
        for n in self.tangents:
            back[n] = backward.input(n.name, n.meta, False, n.loc)
        again = [n for n in self._order(self._needed_for_given(kept)) if n not in back]
        copy_into(backward, again, back)
        backward.outputs = [map_nodes(back.__getitem__, g) for g in self.gradients]
        for n in carriers(backward, [n for n in self.inputs if n not in kept]):
            backward.inputs.insert(tangents, backward.input(env[n].name, n.meta, False, n.loc))
            backward.inputs.pop()
            tangents += 1
        return Partitioned(forward, backward, tangents)

    def copied(self, node: Node, forward: Graph, env: dict[Node, Any]) -> Node:
        """A copy of ``node``, made for the sake of the first call that reads it."""
        loc = node.loc or next((user.loc for user in self.users[node] if user.loc), "")
        return forward.add(get_op("clone"), (env[node], None), node.meta, loc)

    def _needed_for_given(self, kept: list[Node]) -> set[Node]:
        """What the gradients need when ``kept`` is at hand."""
        have, found = set(kept), set()
        stack = [n for n in leaves(self.gradients) if isinstance(n, Node)]
        while stack:
            node = stack.pop()
            if node in found or node in have:
                continue
            found.add(node)
            stack += node.inputs
        return found

    def _order(self, nodes: set[Node]) -> list[Node]:
        return [n for n in self.joint.graph.nodes if n in nodes]


def _bytes(meta: Any) -> int:
    if isinstance(meta, tuple):
        return sum(_bytes(m) for m in meta if m is not None)
    n = 1
    for s in meta.shape:
        n *= s if isinstance(s, int) else getattr(s, "hint", 64) or 64
    return n * meta.dtype.itemsize

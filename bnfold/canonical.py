"""In which order are nodes looked at? In one that follows from the graph, not from its file.

Of two folds that exclude each other the first one asked is made. Files may hold the same graph in
many orders and under any names; from the graph's outputs back, input by input, there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnfold.graph import Node, Scope, Value

Captured = dict["Node", dict["Value", None]]
"""By node, the values that its subgraphs read from outside of it."""


def number(scopes: Sequence[Scope]) -> None:
    """Give all nodes their positions, and each value's readers that order.

    A node comes after what it reads, and those of its subgraphs right after it. `scopes` has each
    graph before those within it, and is never empty.
    """
    captured: Captured = {}
    inner: dict[Node, list[Scope]] = {}
    for scope in reversed(scopes):
        scope.nodes = dict.fromkeys(ordered(scope, captured))
        note_captures(scope, captured)
        if scope.holder is not None:
            inner.setdefault(scope.holder, []).insert(0, scope)
    for place, node in zip(count(1), nodes_in(scopes[0], inner), strict=False):
        node.position = (place,)
        for index, value in enumerate(node.inputs):
            if value is not None:
                del value.uses[node, index]
                value.uses[node, index] = None


def nodes_in(scope: Scope, inner: dict[Node, list[Scope]]) -> Iterator[Node]:
    """The nodes of a graph, each with those of its subgraphs behind it."""
    for node in scope.nodes:
        yield node
        for within in inner.get(node, ()):
            yield from nodes_in(within, inner)


def ordered(scope: Scope, captured: Captured) -> list[Node]:
    """The nodes of one graph, each after what it reads; what no output needs comes last."""
    outputs = (scope.values.get(info.name) for info in scope.proto.output)
    makers = (value.producer for value in outputs if value is not None)
    waiting = [*(node for node in makers if node is not None), *scope.nodes][::-1]
    opened: set[Node] = set()
    placed: dict[Node, None] = {}
    while waiting:
        node = waiting[-1]
        if node in opened:
            placed[waiting.pop()] = None
            continue
        opened.add(node)
        waiting += [n for n in needs(node, captured) if n not in opened][::-1]
    return list(placed)


def needs(node: Node, captured: Captured) -> Iterator[Node]:
    """The nodes of the same graph that a node reads from, itself or within its subgraphs."""
    for value in (*node.inputs, *captured.get(node, ())):
        maker = None if value is None else value.producer
        if maker is not None and maker.scope is node.scope:
            yield maker


def captures(scopes: Sequence[Scope]) -> Captured:
    """What the subgraphs of each node read from outside of it."""
    captured: Captured = {}
    for scope in scopes:
        note_captures(scope, captured)
    return captured


def note_captures(scope: Scope, captured: Captured) -> None:
    """Add what a graph's own nodes read from outside, for all nodes that it is within."""
    for value in reads(scope):
        around: Scope | None = scope
        while around is not None and around is not value.scope and around.holder is not None:
            captured.setdefault(around.holder, {})[value] = None
            around = around.parent


def reads(scope: Scope) -> Iterator[Value]:
    """The values that a graph's own nodes read, or that it hands out as they are."""
    for node in scope.nodes:
        yield from (value for value in node.inputs if value is not None)
    for info in scope.proto.output:
        value = scope.find(info.name)
        if value is not None:
            yield value

"""Which graphs stand within which? Nodes such as If and Loop hold graphs in their attributes."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto

from bnfold.errors import ModelError

DEEPEST = 33
"""Levels of graphs within each other that are followed: what protobuf reads from a file."""


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def has_subgraphs(node: NodeProto) -> bool:
    """Whether a node holds any graph."""
    return next(subgraphs(node), None) is not None


def graphs(outer: GraphProto) -> Iterator[GraphProto]:
    """A graph and all within it, each before those within it, in the order of their nodes.

    Raises ModelError where they nest deeper than DEEPEST. A graph may be changed when it comes:
    what is within it is looked for afterwards.
    """
    yield outer
    yield from inner_graphs(outer)


def inner_graphs(outer: GraphProto | FunctionProto) -> Iterator[GraphProto]:
    """The graphs within a graph or function, as `graphs` has them. Raises ModelError."""
    levels = [_within(outer)]
    while levels:
        graph = next(levels[-1], None)
        if graph is None:
            levels.pop()
            continue
        if len(levels) == DEEPEST:
            raise ModelError(
                f"its subgraphs nest deeper than {DEEPEST} levels",
                "export the model again, or repair it with the tool that made it",
            )
        yield graph
        levels.append(_within(graph))


def nodes_within(outer: GraphProto | FunctionProto) -> Iterator[NodeProto]:
    """The nodes of a graph or function and of the graphs within it. Raises ModelError."""
    yield from outer.node
    for graph in inner_graphs(outer):
        yield from graph.node


def all_nodes(model: ModelProto) -> Iterator[NodeProto]:
    """The nodes of a model's graph and functions, at any depth. Raises ModelError."""
    for outer in (model.graph, *model.functions):
        yield from nodes_within(outer)


def _within(outer: GraphProto | FunctionProto) -> Iterator[GraphProto]:
    return (graph for node in outer.node for graph in subgraphs(node))

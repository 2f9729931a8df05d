"""In which order can the nodes of a graph run?"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from onnx import GraphProto, ModelProto, NodeProto

from bnfold.nesting import graphs, subgraphs


def in_order(model: ModelProto) -> ModelProto:
    """The model itself if every node stands after those it reads from; otherwise a sorted copy.

    ONNX demands that order, yet runtimes accept any and such files exist. Nodes of a cycle stay
    at the end, so that a check for order still finds them.
    """
    if all(map(_is_sorted, graphs(model.graph))):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    for graph in graphs(copy.graph):
        nodes = [graph.node[index] for index in _sorted_indices(graph)]
        graph.ClearField("node")
        graph.node.extend(nodes)
    return copy


def reads(node: NodeProto) -> Iterator[str]:
    """The names that a node reads, those that its subgraphs may capture included."""
    yield from node.input
    for inner in subgraphs(node):
        for graph in graphs(inner):
            for reader in graph.node:
                yield from reader.input
            yield from (output.name for output in graph.output)


def _is_sorted(graph: GraphProto) -> bool:
    later = _makers(graph)
    for node in graph.node:
        if any(name in later for name in reads(node)):
            return False
        for name in node.output:
            later.pop(name, None)
    return True


def _makers(graph: GraphProto) -> dict[str, int]:
    return {name: i for i, node in enumerate(graph.node) for name in node.output if name}


def _sorted_indices(graph: GraphProto) -> list[int]:
    """Topological order that moves no node without need (Kahn, lowest index first)."""
    makers = _makers(graph)
    waits = [{makers[name] for name in reads(node) if name in makers} for node in graph.node]
    readers: list[list[int]] = [[] for _ in waits]
    for index, others in enumerate(waits):
        for other in others:
            readers[other].append(index)
    missing = [len(others) for others in waits]
    ready = [index for index, count in enumerate(missing) if count == 0]
    order = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers[index]:
            missing[reader] -= 1
            if missing[reader] == 0:
                heapq.heappush(ready, reader)
    placed = set(order)
    return order + [index for index in range(len(waits)) if index not in placed]

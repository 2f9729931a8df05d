"""How is onnx's shape inference asked so that it cannot end this process, or last for hours?

Inside a Slice of a negative dimension onnx (1.23) trips over an assertion, which is the end of
the process and no exception. A negative dimension is what it makes of a kernel that is larger
than its input. So a Slice is shown to it only once its input is known to have none. An Einsum
whose equation is none ("a-b") it may read for ever: it is never shown one. And what would take it
too long (`effort.py`) is not asked, or without following sizes element by element.
"""

from __future__ import annotations

import re

import onnx
from onnx import ModelProto, NodeProto

from bnfold.effort import effort
from bnfold.nesting import graphs, nodes_within
from bnfold.nodewise import agrees, first_type, is_whole, types_of

DANGEROUS = "Slice"
EQUATION = re.compile(rb"(?:[A-Za-z,\s]|\.\.\.)*(?:->(?:[A-Za-z\s]|\.\.\.)*)?")
"""Of Einsum: letters, commas and whole ellipses, and letters and ellipses behind one arrow."""
HIDDEN = "bnfold.hidden"
"""The domain that a node is moved to so that onnx does not look at it."""
PASSES = 8
VISITS = 1 << 16
"""Each pass shows the next Slice of a row. Behind so many passes, or so many nodes in all of them
where that is more, Slices stay hidden: what they make is then found without onnx."""


class TooLarge(Exception):
    """Inference would take far longer than a file of this size may."""


def infer_shapes(model: ModelProto, *, data_prop: bool = False) -> ModelProto:
    """As `onnx.shape_inference.infer_shapes`, which it may raise what it likes from.

    Raises TooLarge where it would not end. The model is changed while this runs, and as it was
    afterwards. A Slice in a function of the model is never shown: what is known of a value there
    is another thing at each call.
    """
    needed = effort(model)
    if needed is None:
        raise TooLarge("the shapes of this model would take too long to infer")
    data_prop = data_prop and needed.is_short
    outer = [*nodes_within(model.graph)]
    seen = [node for node in outer if is_dangerous(node)]
    inner = [node for function in model.functions for node in nodes_within(function)]
    unseen = [node for node in inner if is_dangerous(node)]
    unseen += [node for node in (*outer, *inner) if is_endless(node)]
    nodes = seen + unseen
    if not nodes or (not unseen and are_harmless(seen, model)):
        return onnx.shape_inference.infer_shapes(model, data_prop=data_prop)
    domains = [node.domain for node in nodes]
    model.opset_import.add(domain=HIDDEN, version=1)
    hidden = dict(enumerate(seen))
    for node in nodes:
        node.domain = HIDDEN
    try:
        for _ in range(max(PASSES, VISITS // max(1, needed.nodes))):
            inferred = onnx.shape_inference.infer_shapes(model, data_prop=data_prop)
            known = harmless(inferred)
            safe = [index for index, node in hidden.items() if set(node.input[:1]) <= known]
            for index in safe:
                hidden.pop(index).domain = domains[index]
            if not safe:
                break
        return inferred
    finally:
        for node, domain in zip(nodes, domains, strict=True):
            node.domain = domain
        del model.opset_import[-1]


def is_dangerous(node: NodeProto) -> bool:
    """Whether onnx's inference may end the process at this node."""
    return node.op_type == DANGEROUS and node.domain in ("", "ai.onnx")


def is_endless(node: NodeProto) -> bool:
    """Whether onnx's inference may read this node's equation without an end."""
    return (
        node.op_type == "Einsum"
        and node.domain in ("", "ai.onnx")
        and any(a.name == "equation" and not EQUATION.fullmatch(a.s) for a in node.attribute)
    )


def are_harmless(nodes: list[NodeProto], model: ModelProto) -> bool:
    """Whether each node reads what is known, node by node, to have no negative dimension.

    Nothing is asked twice so, however many Slices stand in a row. What a file declares of its
    values is no knowledge here, but onnx believes it: it must not say more.
    """
    graph = model.graph
    types = types_of(graph, model.opset_import, is_dangerous)
    declared = (*graph.value_info, *graph.output)
    return all(is_whole(first_type(node, types)) for node in nodes) and all(
        agrees(info.type, types.get(info.name)) for info in declared
    )


def harmless(model: ModelProto) -> set[str]:
    """The names of what has a shape in which each dimension is told, and none is negative."""
    found: set[str] = set()
    for graph in graphs(model.graph):
        infos = (*graph.input, *graph.value_info, *graph.output)
        found.update(info.name for info in infos if is_whole(info.type))
        found.update(tensor.name for tensor in graph.initializer)
    return found

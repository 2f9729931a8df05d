"""Which movement is left behind where an affine was taken out, and undoes itself?

Exporters put a batch normalization between two Transposes or Reshapes, to bring the channels to
axis 1 and back. With the affine gone the two meet, and where together they move nothing, both go.
"""

from __future__ import annotations

from collections.abc import Iterable

from bnfold.constants import FLOATS
from bnfold.graph import Graph, Node, Shape, Value

RESHAPES = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that keep all elements in their order."""


def close(graph: Graph, seams: Iterable[Value]) -> int:
    """Take out the pairs around these values, and around what comes together then.

    Returns the number of nodes that went.
    """
    before = sum(1 for _ in graph.nodes)
    open_seams = dict.fromkeys(seams)
    while open_seams:
        value, _ = open_seams.popitem()
        first = value.producer
        if first is None or first not in first.scope.nodes:
            continue
        for second, index in list(value.uses):
            if index == 0 and second.scope is first.scope and undoes(first, second):
                outer = join(graph, first, second)
                if outer is not None:
                    open_seams[outer] = None
    return before - sum(1 for _ in graph.nodes)


def undoes(first: Node, second: Node) -> bool:
    """Whether two nodes in a row give back what the first one read."""
    if first.domain or second.domain or len(first.outputs) != 1 or len(second.outputs) != 1:
        return False
    source, result = first.inputs[0], second.outputs[0]
    if source is None or result is None:
        return False
    kinds = {first.op_type, second.op_type}
    if kinds == {"Transpose"}:
        return is_identity(first, second)
    if kinds == {"Cast"}:
        return is_lossless(source, first.outputs[0], result)
    return kinds <= RESHAPES and same_shape(source.shape, result.shape)


def is_identity(first: Node, second: Node) -> bool:
    """Whether two permutations cancel; without one the axes are reversed."""
    inner, outer = (node.attributes.get("perm") for node in (first, second))
    if inner is None or outer is None:
        return inner is outer
    return all(inner[axis] == place for place, axis in enumerate(outer))


def is_lossless(source: Value, middle: Value | None, result: Value) -> bool:
    """Whether a Cast widens and the next one brings the same type back."""
    if middle is None or source.elem_type != result.elem_type:
        return False
    narrow, wide = (FLOATS.get(value.elem_type) for value in (source, middle))
    return narrow is not None and wide is not None and narrow.itemsize < wide.itemsize


def same_shape(first: Shape | None, second: Shape | None) -> bool:
    """Whether two shapes of equal totals are equal for certain: one dimension may be unknown."""
    if first is None or second is None or len(first) != len(second):
        return False
    unsure = [a for a, b in zip(first, second, strict=True) if a is None or a != b]
    differing = [
        1
        for a, b in zip(first, second, strict=True)
        if isinstance(a, int) and isinstance(b, int) and a != b
    ]
    return len(unsure) <= 1 and not differing


def join(graph: Graph, first: Node, second: Node) -> Value | None:
    """Let the readers of the second read what the first reads; the value where they now meet."""
    source, result = first.inputs[0], second.outputs[0]
    assert source is not None
    assert result is not None
    name = result.name
    if result.is_output and not may_take_name(source):
        return None
    was_output = result.is_output
    graph.replace_uses(result, source)
    graph.remove(second)
    if was_output:
        graph.rename(source, name)
    middle = first.outputs[0]
    if middle is not None and not middle.uses and not middle.is_output:
        graph.remove(first)
    return source


def may_take_name(value: Value) -> bool:
    """Whether a value can become a graph output under another name."""
    return value.producer is not None and not value.is_output and not value.is_captured

"""What holds of a value's elements, whatever the model reads?

No rule passes the operators that a fact begins with, so a fold cannot make it untrue.
"""

from __future__ import annotations

from bnfold.constants import FLOATS
from bnfold.graph import Node, Value

NORMALIZED = frozenset({"Softmax", "Hardmax"})
"""Operators whose results add up to one along an axis."""


def sums_to_one(value: Value | None, axis: int) -> bool:
    """Whether the elements add up to one along `axis`, which is counted from the back (-1, -2).

    Looked for through operators that keep every element, in its place along that axis.
    """
    while value is not None and (node := value.producer) is not None:
        if node.domain or value is not node.outputs[0]:
            return False
        if node.op_type in NORMALIZED:
            # Of no elements the sum is 0.
            return is_normalized(node, axis) and 0 not in (value.shape or ())
        before = axis_before(node, axis)
        if before is None:
            return False
        value, axis = node.inputs[0], before
    return False


def is_normalized(node: Node, axis: int) -> bool:
    """Whether a Softmax runs along this axis; before opset 13 it runs over all from its own on."""
    rank = node.outputs[0].rank if node.outputs[0] is not None else None
    own = node.attributes.get("axis", -1 if node.version >= 13 else 1)
    if rank is None:
        return node.version >= 13 and own == axis
    if not -rank <= own < rank:
        return False
    return own % rank == rank + axis and (node.version >= 13 or axis == -1)


def axis_before(node: Node, axis: int) -> int | None:
    """The axis of the first input that is `axis` of the output; None where it may not be kept."""
    source = node.inputs[0] if node.inputs else None
    result = node.outputs[0]
    if source is None or result is None:
        return None
    if node.op_type == "Identity" or (node.op_type == "Dropout" and is_inference(node)):
        return axis
    if node.op_type == "Cast":
        return axis if {source.elem_type, result.elem_type} <= FLOATS.keys() else None
    if node.op_type == "Transpose" and source.rank is not None:
        order = node.attributes.get("perm") or list(range(source.rank))[::-1]
        return int(order[axis]) - source.rank
    if node.op_type in ("Reshape", "Squeeze", "Unsqueeze", "Flatten") and axis == -1:
        # Row-major order: the last axis of the same size holds the same rows.
        sizes = [shape[-1] if shape else None for shape in (source.shape, result.shape)]
        return axis if isinstance(sizes[0], int) and sizes[0] == sizes[1] else None
    return None


def is_inference(node: Node) -> bool:
    """Whether a Dropout drops nothing for certain."""
    return node.version >= 7 and (len(node.inputs) < 3 or node.inputs[2] is None)

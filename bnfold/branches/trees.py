"""Which values does a sum add up, over all the Add, Sub and Sum nodes that make it?"""

from __future__ import annotations

from dataclasses import dataclass, field

from bnfold.branches.reading import is_exclusive
from bnfold.graph import Node, Value

SUMS = frozenset({"Add", "Sub", "Sum"})
LOOK_THROUGH = 4
"""Additions of constants in a row behind which another sum is looked for."""


@dataclass(frozen=True, slots=True)
class Addend:
    """A value that a node adds, or subtracts: `sign` is 1 or -1."""

    value: Value
    sign: int
    node: Node


@dataclass(slots=True)
class Tree:
    """A sum: the nodes that make it, the last first, and its addends in order."""

    root: Node
    nodes: list[Node] = field(default_factory=list)
    addends: list[Addend] = field(default_factory=list)

    @property
    def result(self) -> Value:
        """What it makes."""
        value = self.root.outputs[0]
        assert value is not None
        return value


def is_sum(node: Node | None) -> bool:
    """Whether the node adds values; with attributes (opset 6 and before) it may broadcast."""
    if node is None or node.domain or node.op_type not in SUMS or node.attributes:
        return False
    return all(v is not None for v in node.inputs)


def joins(node: Node | None, depth: int = LOOK_THROUGH) -> bool:
    """Whether the node adds computed values, itself or behind the constants that it adds."""
    if not depth or node is None or not is_sum(node):
        return False
    computed = [v for v in node.inputs if v is not None and not v.is_constant]
    if len(computed) != 1:
        return bool(computed)
    return is_exclusive(computed[0]) and joins(computed[0].producer, depth - 1)


def is_root(node: Node) -> bool:
    """Whether a sum is not a part of a larger one."""
    result = node.outputs[0] if node.outputs else None
    if result is None or not joins(node):
        return False
    if not is_exclusive(result):
        return True
    reader, _ = next(iter(result.uses))
    return not joins(reader)


def tree(root: Node) -> Tree:
    """All addends of a sum, in the order in which they are written."""
    result = Tree(root)
    waiting: list[tuple[Node | Addend, int]] = [(root, 1)]
    while waiting:
        item, sign = waiting.pop()
        if isinstance(item, Addend):
            result.addends.append(item)
            continue
        result.nodes.append(item)
        parts: list[tuple[Node | Addend, int]] = []
        for index, value in enumerate(item.inputs):
            assert value is not None
            own = -sign if item.op_type == "Sub" and index == 1 else sign
            node = value.producer
            if node is not None and is_exclusive(value) and joins(node):
                parts.append((node, own))
            else:
                parts.append((Addend(value, own, item), own))
        waiting += reversed(parts)
    return result

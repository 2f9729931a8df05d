"""Which constants belong to a pattern that runtimes compute in one kernel of their own?

A GELU or LayerNormalization written out is many nodes in the file and one in the runtime. Taking
one of its constants away saves a node in the file and costs the kernel, so such stay.
Source of the patterns: the fusions that ONNX Runtime documents for its level "extended".
"""

from __future__ import annotations

from collections.abc import Iterator

from bnfold.graph import Node

ARITHMETIC = frozenset({"Add", "Div", "Mul", "Pow", "Sub"})
MOMENTS = ARITHMETIC | {"Reciprocal", "ReduceMean", "Sqrt"}
REACH = 3
"""Operators between a constant and the function that gives a pattern away."""


def kernel_of(node: Node) -> str | None:
    """The pattern that an arithmetic node with a constant belongs to; None for none."""
    if is_scalar(node):
        if any(near.op_type == "Erf" for near in around(node)):
            return "a GELU"
        if is_quick_gelu(node):
            return "a QuickGELU"
        if any(near.op_type == "Tanh" for near in around(node)) and cubes(node):
            return "a GELU"
    elif follows_moments(node):
        return "a LayerNormalization"
    return None


def is_quick_gelu(node: Node) -> bool:
    """Whether it is the product in `x * Sigmoid(alpha * x)`."""
    if node.op_type != "Mul":
        return False
    data = {v for v in node.inputs if v is not None and not v.is_constant}
    gates = (reader for reader in readers(node) if reader.op_type == "Sigmoid")
    return any(
        product.op_type == "Mul" and data & set(product.inputs)
        for gate in gates
        for product in readers(gate)
    )


def is_scalar(node: Node) -> bool:
    """Whether the constant is one number."""
    constants = [v.constant for v in node.inputs if v is not None and v.is_constant]
    return any(constant is not None and constant.size == 1 for constant in constants)


def producers(node: Node) -> Iterator[Node]:
    """The nodes that make what it reads, constants left out."""
    for value in node.inputs:
        if value is not None and value.producer is not None and not value.is_constant:
            yield value.producer


def readers(node: Node) -> Iterator[Node]:
    """The nodes that read what it makes."""
    for value in node.outputs:
        if value is not None:
            yield from (reader for reader, _ in value.uses)


def around(node: Node) -> Iterator[Node]:
    """All nodes within reach, over arithmetic alone, in either direction."""
    seen = {node}
    edge = [node]
    for _ in range(REACH):
        nearby = [n for at in edge for n in (*producers(at), *readers(at)) if n not in seen]
        seen.update(nearby)
        yield from nearby
        edge = [n for n in nearby if n.op_type in ARITHMETIC]


def cubes(node: Node) -> bool:
    """Whether a third power is near: the GELU that is made of a Tanh has one."""
    return any(near.op_type == "Pow" for near in (node, *around(node))) or any(
        near.op_type == "Mul" and len(set(near.inputs)) < len(near.inputs)
        for near in (node, *around(node))
    )


def follows_moments(node: Node) -> bool:
    """Whether it scales or shifts `(x - mean(x)) / sqrt(var(x) + epsilon)`, within two steps."""
    edge = [node]
    for _ in range(2):
        edge = [n for at in edge for n in producers(at) if n.op_type in ("Div", "Mul")]
        if any(is_standardized(at) for at in edge):
            return True
    return False


def is_standardized(node: Node) -> bool:
    """Whether a product or quotient has a root of a mean as one operand."""
    seen: set[str] = set()
    edge = [node]
    for _ in range(2 * REACH):
        edge = [n for at in edge for n in producers(at) if n.op_type in MOMENTS][:8]
        seen.update(n.op_type for n in edge)
    return {"Sqrt", "ReduceMean", "Sub"} <= seen

"""How does one operator take the place of many? The only file here that changes a graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnfold.apply import rounded
from bnfold.branches.linear import Linear
from bnfold.branches.reading import Family
from bnfold.constants import Constant
from bnfold.graph import Graph, Node, Value

Stored = tuple[Constant, Any]
"""A constant and what is written of it, in its own type."""


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """The operator to make: its type, parameters in their own type, and attributes.

    `rest` is a bias that the operator cannot hold, to be added behind it.
    """

    op_type: str
    base: Value
    parameters: tuple[Stored, ...]
    attributes: dict[str, Any]
    kernel: tuple[int, ...]
    multiplications: int
    rest: Stored | None = None

    @property
    def flushed(self) -> int:
        """Subnormal numbers that became zero."""
        return sum(constant.flushed for constant, _ in self.parameters)

    @property
    def nodes(self) -> int:
        """How many nodes it takes."""
        return 1 + (self.rest is not None)


def operator(
    graph: Graph, linear: Linear, family: Family, base: Value, model: Node | None
) -> Operator:
    """The operator that computes this, rounded once. Raises Refusal where that cannot be held.

    The graph is not changed. `model` is a node that it replaces: a Gemm where the merged one can
    be such a one too.
    """
    shape, dtype = linear.geometry.shape, family.dtype
    work = linear.geometry.multiplications
    bias = Constant.of_array(np.array(linear.bias), dtype) if linear.bias.any() else None
    if family.op_type == "Conv":
        parameters: list[Stored] = [stored(graph, Constant(linear.evaluate, shape, dtype))]
        if bias is not None:
            parameters.append(stored(graph, bias))
        return Operator("Conv", base, tuple(parameters), conv_attributes(linear), shape, work)
    if model is not None and model.op_type == "Gemm" and family.rank == 2:
        weight = stored(graph, Constant(linear.evaluate, shape, dtype))
        offset = stored(graph, Constant.of_array(np.array(linear.bias), dtype))
        return Operator("Gemm", base, (weight, offset), {"transB": 1}, shape, work)
    turned = Constant(lambda: linear.evaluate().T, shape[::-1], dtype)
    rest = None if bias is None else stored(graph, bias)
    return Operator("MatMul", base, (stored(graph, turned),), {}, shape[::-1], work, rest)


def stored(graph: Graph, constant: Constant) -> Stored:
    """A constant with what is written of it. Raises Refusal."""
    return constant, rounded(graph, constant, is_costly=True)


def conv_attributes(linear: Linear) -> dict[str, Any]:
    """The attributes of a Conv with this geometry."""
    windows = linear.geometry.windows
    attributes: dict[str, Any] = {
        "dilations": [w.step for w in windows],
        "group": linear.geometry.group,
        "kernel_shape": [w.count for w in windows],
        "strides": [w.stride for w in windows],
    }
    anchor = next((w.anchor for w in windows if w.anchor), None)
    if anchor:
        return attributes | {"auto_pad": anchor}
    pads = [w.pads for w in windows]
    return attributes | {"pads": [p[0] for p in pads] + [p[1] for p in pads]}


# ----------------------------------------------------------------------- changing


def insert(
    graph: Graph, place: Node, operator: Operator, result: Value, model: Node | None
) -> Node:
    """Make the operator at a place; it makes `result`, and has the name of the node it follows."""
    scope = place.scope
    names = ("weight", "bias")
    constants = [
        graph.add_constant(scope, f"{result.name}_{name}", constant, array)
        for name, (constant, array) in zip(names, operator.parameters, strict=False)
    ]
    output = result
    if operator.rest is not None:
        output = graph.new_value(scope, f"{result.name}_product", result)
    node = graph.insert_after(
        place, operator.op_type, [operator.base, *constants], [output], **operator.attributes
    )
    if model is not None:
        node.proto.name = model.proto.name
        node.proto.doc_string = model.proto.doc_string
    if operator.rest is not None:
        constant, array = operator.rest
        bias = graph.add_constant(scope, f"{result.name}_bias", constant, array)
        graph.insert_after(node, "Add", [output, bias], [result])
    return node


def total(graph: Graph, place: Node, terms: list[tuple[Value, int]], result: Value) -> int:
    """Add up values with their signs, the first of which is positive; the number of nodes."""
    if place.op_type == "Sum" and len(terms) > 2 and all(sign > 0 for _, sign in terms):
        graph.insert_after(place, "Sum", [value for value, _ in terms], [result])
        return 1
    running, last = terms[0][0], len(terms) - 1
    for index, (value, sign) in enumerate(terms[1:], 1):
        output = result if index == last else partial(graph, running, value, result)
        kind = "Add" if sign > 0 else "Sub"
        place = graph.insert_after(place, kind, [running, value], [output])
        running = output
    return last


def shorten(graph: Graph, concat: Node, inputs: list[Value | None], result: Value) -> Node:
    """The same concatenation of fewer values."""
    node = graph.insert_after(concat, "Concat", inputs, [result], axis=concat.attributes["axis"])
    node.proto.name, node.proto.doc_string = concat.proto.name, concat.proto.doc_string
    return node


def partial(graph: Graph, first: Value, second: Value, result: Value) -> Value:
    """A sum on the way; its shape is known where both operands have the same."""
    value = graph.new_value(result.scope, f"{result.name}_part", result)
    value.shape = first.shape if first.shape == second.shape else None
    return value


def remove(graph: Graph, nodes: Iterable[Node]) -> None:
    """Take nodes out that nobody reads any more, readers first."""
    for node in sorted(nodes, key=lambda n: n.position, reverse=True):
        graph.remove(node)

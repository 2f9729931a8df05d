"""Which whole numbers may an input hold? Read from what its consumers do with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx
from onnx import AttributeProto, NodeProto

from bnfold.nesting import nodes_within

Sizes = Mapping[str, tuple[int | None, ...]]
"""Shapes by tensor name, None where a size is not known."""

MOVES = frozenset(
    {
        *("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"),
        *("Slice", "Concat", "Split", "Expand", "Tile", "Pad", "Where", "ReduceMax", "ReduceMin"),
        *("Max", "Min"),
    }
)
"""Operators that hand the numbers of their first inputs on as they are."""

COUNTS = frozenset({"TopK", "Tile", "Loop", "ConstantOfShape", "Expand", "Reshape", "Range"})
"""Operators that read a number as a count or a size: zero of them may be no model at all."""


@dataclass(frozen=True, slots=True)
class IntegerRange:
    """Whole numbers `low <= i < high`."""

    low: int = 0
    high: int = 8

    def narrowed(self, low: int, high: int) -> IntegerRange:
        """What this range and another have in common; never empty."""
        best = max(self.low, low)
        return IntegerRange(best, max(best + 1, min(self.high, high)))


def integer_range(graph: onnx.GraphProto, tensor: str, sizes: Sizes) -> IntegerRange:
    """The range that every consumer of `tensor` accepts, as far as the graph tells."""
    found = IntegerRange(0, 256)
    limited = False
    for node, position in _readers(graph, tensor):
        limit = _limit(node, position, sizes)
        if limit is not None:
            found, limited = found.narrowed(*limit), True
    return found if limited else IntegerRange()


def _readers(graph: onnx.GraphProto, tensor: str) -> Iterator[tuple[NodeProto, int]]:
    """Every (node, input position) that the numbers of `tensor` reach, through movements."""
    reached, pending = {tensor}, [tensor]
    nodes = list(nodes_within(graph))
    while pending:
        name = pending.pop()
        for node in nodes:
            for position, input_name in enumerate(node.input):
                if input_name != name:
                    continue
                yield node, position
                if _moves(node, position):
                    fresh = [output for output in node.output if output not in reached]
                    reached.update(fresh)
                    pending.extend(fresh)


def _moves(node: NodeProto, position: int) -> bool:
    if node.op_type == "Gather":
        return position == 0
    # a shape, a repeat or a pad amount stands behind the data and does not flow on
    data_only = node.op_type in {"Reshape", "Expand", "Tile", "Pad", "Slice", "Unsqueeze"}
    return node.op_type in MOVES and (position == 0 or not data_only)


def _limit(node: NodeProto, position: int, sizes: Sizes) -> tuple[int, int] | None:
    """The range [low, high) that one reader accepts; None where it takes anything."""
    if node.op_type in {"Gather", "GatherElements"} and position == 1:
        return 0, _size(sizes, node.input[0], _attribute(node, "axis", 0)) or 2
    if node.op_type in {"GatherND", "ScatterND", "ScatterElements"} and position == 1:
        return 0, _smallest(sizes, node.input[0]) or 1
    if node.op_type == "EmbedLayerNormalization" and position in (0, 1):
        return 0, _size(sizes, node.input[position + 2], 0) or 2
    if node.op_type == "OneHot" and position == 0:
        return 0, 2
    if node.op_type in COUNTS and (position > 0 or node.op_type in {"Loop", "ConstantOfShape"}):
        return 1, 2
    if node.op_type in {"Div", "Mod"} and position == 1:
        return 1, 8
    return None


def _size(sizes: Sizes, tensor: str, axis: int) -> int | None:
    shape = sizes.get(tensor, ())
    return shape[axis] if -len(shape) <= axis < len(shape) else None


def _smallest(sizes: Sizes, tensor: str) -> int | None:
    return min((size for size in sizes.get(tensor, ()) if size is not None), default=None)


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def known_sizes(model: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    """Shapes of initializers, and of the values whose shape the model declares."""
    sizes: dict[str, tuple[int | None, ...]] = {}
    graph = model.graph
    for value in (*graph.value_info, *graph.input, *graph.output):
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            sizes[value.name] = tuple(
                d.dim_value if d.HasField("dim_value") else None for d in dims
            )
    sizes.update((i.name, tuple(i.dims)) for i in graph.initializer)
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.type == AttributeProto.TENSOR:
                    sizes[node.output[0]] = tuple(attribute.t.dims)
    return sizes

"""Which nodes compute with sizes, and which with features? Only features are folded.

Graphs compute the sizes for a Reshape or a Resize as they compute anything else, often in floats
that a Floor or a Cast ends. A number rounded otherwise on the way would change a shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from bnfold.canonical import captures
from bnfold.graph import SHAPE_READERS, Graph, Node, Value

ELEMENTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("ConstantOfShape", "EyeLike"), ()),
    **dict.fromkeys(("CastLike", "Expand", "Reshape", "Slice", "Squeeze", "Unsqueeze"), (0,)),
    **dict.fromkeys(("CenterCropPad", "Compress", "Resize", "Split", "TopK", "Trilu"), (0,)),
    **dict.fromkeys(("Gather", "GatherElements", "GatherND", "Tile", "Upsample"), (0,)),
    **dict.fromkeys(("ScatterElements", "ScatterND", "Pad"), (0, 2)),
    **dict.fromkeys(("Where",), (1, 2)),
    **dict.fromkeys(("OneHot",), (2,)),
    **dict.fromkeys(("If",), ()),
}
"""The inputs whose elements an output is made of, where others only say how many, which or where.
What subgraphs capture counts too."""

LEARNED = frozenset(
    (
        "BatchNormalization Conv ConvTranspose Cos DeformConv Einsum Erf GRU Gelu Gemm "
        "GridSample GroupNormalization InstanceNormalization LSTM LayerNormalization LogSoftmax "
        "MatMul RMSNormalization RNN Sigmoid Sin Softmax Tanh"
    ).split()
)
"""Operators that no size goes through: what they make are features, whatever they read."""


class Kind(Enum):
    """What a value holds, where it follows from shapes and constants alone."""

    SIZES = "numbers computed from sizes"
    FEATURES = "floats that a size only chose, cut or repeated, or that a layer made of sizes"


def size_arithmetic(graph: Graph) -> set[Node]:
    """The nodes that compute with sizes alone, in subgraphs too."""
    captured = captures(graph.scopes)
    kinds: dict[Node, Kind] = {}
    for node in sorted(graph.nodes, key=lambda n: n.position):
        kind = kind_of(node, captured.get(node, {}), kinds)
        if kind is not None:
            kinds[node] = kind
    return {node for node, kind in kinds.items() if kind is Kind.SIZES}


def kind_of(node: Node, captured: dict[Value, None], kinds: dict[Node, Kind]) -> Kind | None:
    """What a node makes; None where it reads data, or nothing that is not constant."""
    if node.op_type in SHAPE_READERS and not node.domain:
        return Kind.SIZES
    read = [*(v for v in node.inputs if v is not None), *captured]
    read = [value for value in read if not value.is_constant]
    if not read or any(held(value, kinds) is None for value in read):
        return None
    if not node.domain and node.op_type in LEARNED:
        return Kind.FEATURES
    if not any(value is not None and value.is_float for value in node.outputs):
        return Kind.SIZES
    made_of = {held(value, kinds) for value in (*elements(node), *captured)} - {None}
    return Kind.SIZES if made_of == {Kind.SIZES} else Kind.FEATURES


def elements(node: Node) -> Iterator[Value]:
    """The inputs that are not constant and whose elements the outputs are made of."""
    places = None if node.domain else ELEMENTS.get(node.op_type)
    for index, value in enumerate(node.inputs):
        if value is not None and not value.is_constant and (places is None or index in places):
            yield value


def held(value: Value, kinds: dict[Node, Kind]) -> Kind | None:
    """What a value holds; the inputs of a loop's body hold what the loop computes with."""
    maker = value.producer or value.scope.holder
    return None if maker is None else kinds.get(maker)

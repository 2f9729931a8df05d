"""How much has onnx's shape inference to do for a model? Bounds of it, without doing it.

A file of some hundred bytes can ask for hours: functions that each call another one twice, a
vector that is joined to itself again and again, a dimension more at every node. What is counted
here is never less than what inference would do, and about that for the models that exist.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TypeAlias

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

from bnfold.nesting import all_nodes, subgraphs

NODES = 1 << 15
DIMS = 1 << 21
ELEMENTS = 1 << 20
COPIES = 1 << 25
"""What inference does in some seconds, beside what a file of many nodes has to cost anyway."""
PER_NODE = 16
"""Dimensions, and elements of sizes, that each node of a file may cost."""
DEEPEST = 64
"""Functions and subgraphs within each other that are followed; more count as endless."""

TOGETHER = frozenset({"Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Where"})
"""Operators whose result is as long as the longest of their inputs."""
WHOLE = frozenset({TensorProto.INT64, TensorProto.INT32})


class Endless(Exception):
    """More than any limit."""


@dataclass(frozen=True, slots=True)
class Size:
    """What is known of a value: its rank, and the elements that are followed of it."""

    rank: int = 0
    length: int = 0


Sizes = MutableMapping[str, Size]
Key = tuple[str, str]
"""Domain and name of a function."""
Call: TypeAlias = "tuple[Effort, list[Size]]"
"""What a call costs, and what it makes."""


@dataclass(slots=True)
class Effort:
    """What inference has to do, functions being entered at each call."""

    nodes: int = 0
    dims: int = 0
    elements: int = 0
    """Elements of vectors that hold sizes, which are computed along with shapes."""
    copies: int = 0
    """Names that are handed to subgraphs: each is given all that stands before it."""
    stored: int = 0
    """Nodes that the file holds."""
    functions: dict[Key, FunctionProto] = field(default_factory=dict)
    memo: dict[tuple[Key, tuple[Size, ...]], Call] = field(default_factory=dict)

    @property
    def is_bounded(self) -> bool:
        """Whether shapes can be inferred in some seconds."""
        more = PER_NODE * self.stored
        return (
            self.nodes <= NODES + more
            and self.dims <= DIMS + more
            and self.copies <= COPIES + more
        )

    @property
    def is_short(self) -> bool:
        """Whether sizes can be followed element by element."""
        return self.elements <= ELEMENTS + PER_NODE * self.stored

    def enter(self, nodes: Iterable[NodeProto], sizes: Sizes, depth: int = 0) -> None:
        """Add up what these nodes cost; `sizes` gains their outputs. Raises Endless."""
        if depth > DEEPEST:
            raise Endless
        for node in nodes:
            self.nodes += 1
            for inner in subgraphs(node):
                self.copies += self.nodes
                self.enter(inner.node, ChainMap(known(inner), sizes), depth + 1)
            key = node.domain, node.op_type
            if key in self.functions:
                made = self.call(key, tuple(sizes.get(n, Size()) for n in node.input), depth)
            else:
                made = [result(node, sizes)]
            for index, name in enumerate(node.output):
                size = sizes[name] = made[min(index, len(made) - 1)]
                self.dims += size.rank
                self.elements += size.length

    def call(self, key: Key, given: tuple[Size, ...], depth: int) -> list[Size]:
        """Add up what a call of a function costs; what it makes. Raises Endless."""
        if (key, given) not in self.memo:
            function = self.functions[key]
            inner = Effort(functions=self.functions, memo=self.memo)
            sizes: Sizes = dict(zip(function.input, given, strict=False))
            inner.enter(function.node, sizes, depth + 1)
            made = [sizes.get(name, Size()) for name in function.output] or [Size()]
            self.memo[key, given] = inner, made
        cost, made = self.memo[key, given]
        self.nodes += cost.nodes
        self.dims += cost.dims
        self.elements += cost.elements
        self.copies += cost.copies
        return made


def effort(model: ModelProto) -> Effort | None:
    """What inference has to do for a model; None where that is more than `is_bounded` allows."""
    functions = {(f.domain, f.name): f for f in model.functions}
    stored = sum(1 for _ in all_nodes(model))
    found = Effort(stored=stored, functions=functions)
    try:
        found.enter(model.graph.node, known(model.graph))
    except Endless:
        return None
    return found if found.is_bounded else None


def known(graph: GraphProto) -> Sizes:
    """What a graph says of its inputs and constants."""
    inputs = {i.name: Size(rank=len(i.type.tensor_type.shape.dim)) for i in graph.input}
    return inputs | {t.name: of_tensor(t) for t in graph.initializer}


def of_tensor(tensor: TensorProto) -> Size:
    """A constant; one of whole numbers may be a vector of sizes."""
    is_vector = tensor.data_type in WHOLE and len(tensor.dims) < 2
    return Size(len(tensor.dims), max(0, *tensor.dims, 1) if is_vector else 0)


def result(node: NodeProto, sizes: Mapping[str, Size]) -> Size:
    """The largest that each output of a node can be."""
    if node.op_type == "Constant":
        return next((of_tensor(a.t) for a in node.attribute if a.HasField("t")), Size(1, 1))
    given = [sizes.get(name, Size()) for name in node.input] or [Size()]
    return Size(rank(node, given), length(node, given))


def length(node: NodeProto, given: list[Size]) -> int:
    """How many elements are followed of what a node makes."""
    first = given[0].length
    if node.op_type == "Shape":
        return given[0].rank
    if node.op_type == "Concat":
        return sum(size.length for size in given)
    if node.op_type == "Gather" and first and len(given) > 1:
        return max(given[1].length, 1)
    return max(size.length for size in given) if node.op_type in TOGETHER else first


def rank(node: NodeProto, given: list[Size]) -> int:
    """How many dimensions has what a node makes."""
    first, second = given[0], given[1] if len(given) > 1 else Size()
    if node.op_type == "Unsqueeze":
        return first.rank + (axes(node, second) or 1)
    if node.op_type == "Squeeze":
        return max(0, first.rank - axes(node, second))
    if node.op_type == "Gather":
        return max(0, first.rank + second.rank - 1)
    if node.op_type in ("Shape", "Flatten"):
        return 2
    if node.op_type == "Reshape" and second.length:
        return second.length
    if node.op_type == "Expand":
        return max(first.rank, second.length)
    if node.op_type == "ConstantOfShape":
        return first.length
    return max(size.rank for size in given) + (node.op_type == "OneHot")


def axes(node: NodeProto, second: Size) -> int:
    """How many axes a node names; 0 where that is not known."""
    return next((len(a.ints) for a in node.attribute if a.name == "axes"), second.length)

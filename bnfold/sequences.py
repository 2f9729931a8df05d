"""Which SplitToSequence, read by SequenceAt alone, is a Split in other words?

PyTorch's newer exporter writes `x.split(sizes)` so. No affine goes through a sequence, and no
shape either, whereas both go through a Split, which computes the same: its outputs are the parts
that the SequenceAt pick, under their own names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from bnfold.nesting import graphs
from bnfold.nodewise import held_by

Array = NDArray[np.generic]

SIZES_ARE_INPUT = 13
"""From this opset on the sizes of a Split are an input."""


@dataclass(frozen=True, slots=True)
class Parting:
    """A SplitToSequence and what reads it."""

    node: NodeProto
    axis: int
    sizes: tuple[int, ...]
    picks: Mapping[str, int]
    """Which part each SequenceAt gives, by the name of its output."""

    @property
    def outputs(self) -> list[str]:
        """The outputs of the Split: a part that nobody picks gets a name of its own."""
        names = [f"{self.node.output[0]}/{part}" for part in range(len(self.sizes))]
        for name, part in reversed([*self.picks.items()]):
            names[part] = name
        return names

    @property
    def sizes_name(self) -> str:
        """The constant that the Split reads its sizes from."""
        return f"{self.node.output[0]}/sizes"


def has_sequences(model: ModelProto) -> bool:
    """Whether anything in the main graph is split into a sequence."""
    return any(node.op_type == "SplitToSequence" for node in model.graph.node)


def with_splits(model: ModelProto) -> ModelProto | None:
    """A copy of the model in which they are Splits; None where there are none.

    Looks at the main graph. The protobuf must hold the small constants.
    """
    found = _Partings(model.graph).all()
    if not found:
        return None
    copy = ModelProto()
    copy.CopyFrom(model)
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    made = {parting.node.output[0]: parting for parting in found}
    picked = {name: parting for parting in found for name in parting.picks}
    nodes = list(copy.graph.node)
    del copy.graph.node[:]
    for node in nodes:
        name = node.output[0] if node.output else ""
        if name in made:
            copy.graph.node.append(_split(copy.graph, made[name], opset))
        elif name in picked:
            copy.graph.node.extend(_again(node, picked[name]))
        else:
            copy.graph.node.append(node)
    places = {node.input[1] for node in nodes if node.output and node.output[0] in picked}
    _drop(copy.graph, {*made, *places, *(parting.node.input[1] for parting in found)})
    return copy


def _split(graph: GraphProto, parting: Parting, opset: int) -> NodeProto:
    """The Split; its sizes become an initializer where they are an input."""
    read, name = [parting.node.input[0]], parting.node.name
    if opset < SIZES_ARE_INPUT:
        split = helper.make_attribute("split", parting.sizes)
        node = helper.make_node("Split", read, parting.outputs, name, axis=parting.axis)
        node.attribute.append(split)
        return node
    sizes = np.array(parting.sizes, np.int64)
    graph.initializer.append(numpy_helper.from_array(sizes, parting.sizes_name))
    read.append(parting.sizes_name)
    return helper.make_node("Split", read, parting.outputs, name, axis=parting.axis)


def _again(node: NodeProto, parting: Parting) -> Iterator[NodeProto]:
    """What is left of a SequenceAt: nothing, or a second name for a part that has one."""
    first = parting.outputs[parting.picks[node.output[0]]]
    if first != node.output[0]:
        yield helper.make_node("Identity", [first], node.output, node.name)


def _drop(graph: GraphProto, names: set[str]) -> None:
    """Take out what is known of these values, and the constants among them that nobody reads."""
    gone = names - set(_readers(graph))
    for field in (graph.node, graph.initializer, graph.value_info):
        kept = [item for item in field if _name(item) not in gone]
        del field[:]
        field.extend(kept)


def _name(item: object) -> str:
    if isinstance(item, NodeProto):
        return item.output[0] if len(item.output) == 1 else ""
    return str(getattr(item, "name", ""))


def _readers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    """Who reads a value, at any depth; the graph's outputs are read by nobody that is named."""
    found: dict[str, list[NodeProto]] = {}
    for inner in graphs(graph):
        for node in inner.node:
            for name in node.input:
                found.setdefault(name, []).append(node)
        for output in inner.output:
            found.setdefault(output.name, []).append(NodeProto())
    return found


class _Partings:
    """Looks for the sequences of a graph that are Splits."""

    def __init__(self, graph: GraphProto) -> None:
        self.graph = graph
        self.readers = _readers(graph)
        self.makers = {name for node in graph.node for name in node.output}
        self.infos = {i.name: i for i in (*graph.value_info, *graph.input, *graph.output)}
        self.constants = {t.name: t for t in graph.initializer}
        for node in graph.node:
            held = held_by(node) if node.op_type == "Constant" else None
            if held is not None and node.output:
                self.constants[node.output[0]] = held

    def all(self) -> list[Parting]:
        """All of them, in order."""
        split = (n for n in self.graph.node if n.op_type == "SplitToSequence" and not n.domain)
        found = (self.read(node) for node in split if len(node.input) > 1)
        return [parting for parting in found if parting is not None]

    def read(self, node: NodeProto) -> Parting | None:
        """One of them; None where anything is not known or anything else reads the sequence."""
        axis = next((int(a.i) for a in node.attribute if a.name == "axis"), 0)
        sizes = self.sizes(node, axis)
        readers = self.readers.get(node.output[0], [])
        picks = {r.output[0]: self.place(r) for r in readers if r.op_type == "SequenceAt"}
        if sizes is None or len(picks) != len(readers) or not self.makers >= {*picks}:
            return None
        count = len(sizes)
        places = {n: p for n, p in picks.items() if p is not None and -count <= p < count}
        if len(places) != len(picks) or not picks:
            return None
        found = Parting(node, axis, sizes, {n: p % count for n, p in places.items()})
        fresh = {found.sizes_name, *found.outputs} - {*picks}
        return None if fresh & (self.makers | {*self.infos, *self.constants}) else found

    def place(self, node: NodeProto) -> int | None:
        """Which part a SequenceAt picks, as it says it."""
        value = self.constant(node.input[1])
        return int(value.item()) if value is not None and value.size == 1 else None

    def sizes(self, node: NodeProto, axis: int) -> tuple[int, ...] | None:
        """The sizes of the parts: as they stand, or all of one size but for the last."""
        value = self.constant(node.input[1])
        if value is None or value.ndim == 1:
            return None if value is None else tuple(int(size) for size in value)
        total, each = self.total(node.input[0], axis), int(value.item())
        if total is None or each < 1:
            return None
        return tuple(min(each, total - start) for start in range(0, total, each))

    def total(self, name: str, axis: int) -> int | None:
        """The size of a value along an axis, where the model says it."""
        if name not in self.infos:
            return None
        dims = self.infos[name].type.tensor_type.shape.dim
        known = -len(dims) <= axis < len(dims) and dims[axis].HasField("dim_value")
        return int(dims[axis].dim_value) if known else None

    def constant(self, name: str) -> Array | None:
        """What a constant holds, where the protobuf holds it."""
        tensor = self.constants.get(name)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return None
        return numpy_helper.to_array(tensor)

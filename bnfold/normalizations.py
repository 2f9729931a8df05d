"""Whose statistics can be replaced? Every BatchNormalization, and which must come before which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bnfold import functions
from bnfold.constants import Array, Constant
from bnfold.evaluate import mark_constants
from bnfold.graph import Graph, Node, Value
from bnfold.order import reads
from bnfold.plan import Draft
from bnfold.reasons import Reason, Refusal
from bnfold.rules.sources import epsilon, is_by_element, require_inference
from bnfold.shapes import infer_shapes
from bnfold.stored import StoredModel

OPERATOR = "BatchNormalization"

MEAN, VARIANCE = 3, 4
"""Which inputs of the operator are its statistics."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Normalization:
    """One node whose statistics are constants, and what they are now."""

    node: Node
    level: int
    """How many other normalizations stand before it on the longest way from an input."""
    mean: Float64
    variance: Float64
    epsilon: float
    by_element: bool
    """One statistic for every element and not for every channel (`spatial=0`, before opset 9)."""

    @property
    def tensor(self) -> str:
        """The node's output, which names it."""
        return self.node.name

    @property
    def source(self) -> str:
        """The tensor that it normalizes."""
        value = self.node.inputs[0]
        assert value is not None  # it was read
        return value.name


class Normalizations:
    """The normalizations of a model, which this changes: it must be the caller's own copy."""

    def __init__(self, model: StoredModel) -> None:
        wanted = functions.holding(model.proto, OPERATOR)
        self.model = model.over(functions.inlined(model.proto, wanted)) if wanted else model
        gone = wanted - functions.called(self.model.proto)
        self.inlined = tuple(sorted(name for _, name in gone))
        """Functions that were replaced by their bodies: each call needs statistics of its own."""
        self._graph = Graph(self.model.proto, self.model.weights, keep_overridable=True)
        infer_shapes(self._graph)
        mark_constants(self._graph)
        self.refused: dict[str, str] = {}
        """Nodes that stay as they are, by output, and why."""
        self.found = tuple(self._read())

    def levels(self) -> Iterator[tuple[Normalization, ...]]:
        """Those that depend only on levels before them, level by level."""
        for level in sorted({normalization.level for normalization in self.found}):
            yield tuple(n for n in self.found if n.level == level)

    def replace(self, which: Normalization, mean: Float64, variance: Float64) -> bool:
        """Give a node these statistics, rounded once to the type that it keeps them in.

        False, and a line in `refused`, where that type cannot hold them.
        """
        exact = {
            MEAN: mean.reshape(which.mean.shape),
            VARIANCE: variance.reshape(which.mean.shape),
        }
        try:
            if not (variance + which.epsilon > 0).all():
                raise Refusal(Reason.BAD_STATISTIC, "a channel has no variance, and no epsilon")
            constants = {
                index: Constant.of_array(array, self._stored(which.node, index).dtype)
                for index, array in exact.items()
            }
            arrays = {index: constant.stored() for index, constant in constants.items()}
        except Refusal as refusal:
            self.refused[which.tensor] = f"its exact statistics cannot be kept: {refusal.detail}"
            return False
        for index, constant in constants.items():
            self._put(which.node, index, constant, arrays[index])
        self._graph.flush()
        return True

    def _put(self, node: Node, index: int, constant: Constant, array: Array) -> None:
        """A tensor of the node's own is rewritten, any other replaced by one of its own."""
        value = _value(node, index)
        root = self._graph.root
        if value.is_stored and len(value.uses) == 1 and not value.is_output:
            tensor = self._tensor(value)
            tensor.CopyFrom(numpy_helper.from_array(array, value.name))
            return
        own = self._graph.add_constant(root, value.name, constant, array)
        self._graph.replace_input(node, index, own)

    def _read(self) -> Iterator[Normalization]:
        """Every node that can be dealt with, in the order of the graph; the others are refused."""
        levels: dict[str, int] = {}
        for node in sorted(self._graph.nodes, key=lambda node: node.line):
            is_ours = node.op_type == OPERATOR and not node.domain
            if node.scope is not self._graph.root:
                if is_ours:
                    self.refused[node.name] = "it stands in a subgraph of an If, Loop or Scan"
                continue
            level = max((levels.get(name, 0) for name in reads(node.proto)), default=0)
            found = self._normalization(node, level) if is_ours else None
            if found is not None:
                yield found
            after = level if found is None else level + 1
            levels |= dict.fromkeys(filter(None, node.proto.output), after)

    def _normalization(self, node: Node, level: int) -> Normalization | None:
        """The node as it is now; None where its statistics are not ours to replace."""
        draft = Draft(node)
        try:
            require_inference(draft)
            _require_data(node)
            mean, variance = (self._stored(node, index).exact() for index in (MEAN, VARIANCE))
            if mean.shape != variance.shape:
                raise Refusal(Reason.BAD_STATISTIC, "mean and variance have different shapes")
        except Refusal as refusal:
            self.refused[node.name] = refusal.detail
            return None
        return Normalization(node, level, mean, variance, epsilon(draft), is_by_element(draft))

    def _stored(self, node: Node, index: int) -> Constant:
        """A parameter's value, also where a caller might feed another. Raises Refusal."""
        value = _value(node, index)
        if value.is_stored and value.is_overridable:
            return self.model.weights.constant(self._tensor(value))
        return Draft(node).constant(index)

    def _tensor(self, value: Value) -> onnx.TensorProto:
        found: onnx.TensorProto = next(
            tensor for tensor in self.model.proto.graph.initializer if tensor.name == value.name
        )
        return found


def _require_data(node: Node) -> None:
    """Refuse a node that normalizes what is known before anything runs."""
    if Draft(node).is_constant(0):
        raise Refusal(Reason.NOT_CONSTANT, "what it normalizes does not depend on any input")


def _value(node: Node, index: int) -> Value:
    return Draft(node).value(index)

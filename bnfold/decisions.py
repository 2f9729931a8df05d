"""What decided a whole number? The values that an ArgMax or a comparison looked at, and how near.

An index or a boolean jumps where the values behind it nearly tie, and two right evaluations of
one network then decide differently. Whether a jump is a fault is said by how far apart the
deciding values were, not by how many jump: a tie within rounding may fall either way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
)

from bnfold.weights import Weights

Array = NDArray[Any]

CHOICES = frozenset({"ArgMax", "ArgMin", "TopK"})
COMPARISONS = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"})
ROUNDINGS = frozenset({"Floor", "Ceil", "Round", "Sign"})
DECIDERS = CHOICES | COMPARISONS | ROUNDINGS

SAME_ORDER = frozenset({"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})
"""Operators whose elements are those of their first input, one after the other."""
HANDS_ON = SAME_ORDER | frozenset(
    {
        *("Transpose", "Gather", "GatherElements", "GatherND", "Slice", "Concat", "Split"),
        *("Expand", "Tile", "Where", "And", "Or", "Not", "Xor", "Add", "Sub", "Mul"),
        *("Min", "Max", "ReduceMin", "ReduceMax", "ReduceSum"),
    }
)
"""Operators that make whole numbers of whole numbers."""

DEEPEST = 64
"""Nodes behind an output that are followed."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A node that turns floating-point values into whole numbers or booleans."""

    op_type: str
    inputs: tuple[str, ...]
    """The values that it looked at: one tensor, or the two that it compared."""
    output: str
    axis: int = -1
    to: int = TensorProto.UNDEFINED
    """What a Cast casts to."""
    in_order: bool = True
    """Whether the graph output holds the decisions one after the other, and nothing else."""

    def margins(self, values: Sequence[Array], ours: Array, theirs: Array) -> Array:
        """How far from a tie the values were wherever two decisions differ, in their own unit.

        `values` are those of `inputs`; the decisions are in the order of `output`, of any shape.
        """
        differs = (ours != theirs).ravel()
        if self.op_type in CHOICES:
            gaps = _between(values[0], self.axis, ours, theirs)
        elif self.op_type in COMPARISONS:
            gaps = np.abs(np.subtract(*values))
        else:
            gaps = _to_the_edge(self, values[0])
        gaps = gaps.ravel()
        found = gaps[differs] if gaps.size == differs.size else np.full(differs.sum(), np.inf)
        return np.asarray(np.nan_to_num(found, nan=np.inf, posinf=np.inf))

    def scale(self, values: Sequence[Array]) -> float:
        """The largest magnitude that was looked at."""
        return max(float(np.abs(v[np.isfinite(v)]).max(initial=0.0)) for v in values)


def _between(values: Array, axis: int, ours: Array, theirs: Array) -> Array:
    """How far apart the chosen elements are; infinity for an index that is none."""
    size = values.shape[axis]
    many = ours.size * size // values.size if values.size else 0
    shape = list(values.shape)
    shape[axis] = many
    if ours.size != np.prod(shape) or theirs.shape != ours.shape:
        return np.full(ours.shape, np.inf)
    chosen = [indices.reshape(shape).astype(np.int64) for indices in (ours, theirs)]
    known = np.logical_and(*((-size <= c) & (c < size) for c in chosen))
    left, right = (np.take_along_axis(values, np.where(known, c, 0), axis) for c in chosen)
    return np.where(known, np.abs(left - right), np.inf)


def _to_the_edge(decision: Decision, values: Array) -> Array:
    """How far each value is from where its rounding jumps."""
    if decision.op_type == "Sign" or decision.to == TensorProto.BOOL:
        return np.abs(values)
    distance = np.abs(values - np.rint(values))
    return np.asarray(0.5 - distance if decision.op_type == "Round" else distance)


# --- finding them --------------------------------------------------------------------------


def decisions(graph: GraphProto, output: str) -> tuple[Decision, ...]:
    """The decisions behind a graph output of whole numbers; none where not all are known."""
    return _Search(graph).behind(output, in_order=True, depth=0) or ()


class _Search:
    """Walks from an output to what decided it."""

    def __init__(self, graph: GraphProto) -> None:
        self.makers = {name: node for node in graph.node for name in node.output if name}
        self.whole = {port.name for port in graph.input if _holds_whole(port)}
        self.whole |= {t.name for t in graph.initializer if _is_whole_type(t.data_type)}
        self.seen: dict[tuple[str, bool], tuple[Decision, ...] | None] = {}

    def behind(self, name: str, *, in_order: bool, depth: int) -> tuple[Decision, ...] | None:
        """The decisions that made a tensor; None where something else did."""
        if (name, in_order) not in self.seen:
            self.seen[name, in_order] = None  # what a walk in a circle finds
            self.seen[name, in_order] = self._behind(name, in_order, depth)
        return self.seen[name, in_order]

    def _behind(self, name: str, in_order: bool, depth: int) -> tuple[Decision, ...] | None:
        node = self.makers.get(name)
        if node is None:  # whole numbers from outside are the same in both models
            return () if name in self.whole else None
        if depth > DEEPEST or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type in DECIDERS:
            return (replace(_decision(node, name), in_order=in_order),)
        if node.op_type not in HANDS_ON:
            return () if node.op_type in {"Shape", "Size"} or _is_whole_constant(node) else None
        in_order = in_order and node.op_type in SAME_ORDER
        read = [n for n in node.input[: 1 if in_order else None] if n]
        found = [self.behind(n, in_order=in_order, depth=depth + 1) for n in read]
        if found == [None] and _is_whole_type(_number(node, "to", TensorProto.UNDEFINED)):
            return (replace(_decision(node, name), in_order=in_order),)  # a Cast of numbers
        if any(decided is None for decided in found):
            return None
        return tuple(dict.fromkeys(d for decided in found for d in decided or ()))


def _is_whole_type(kind: int) -> bool:
    if kind in {TensorProto.UNDEFINED, TensorProto.STRING}:
        return False
    return helper.tensor_dtype_to_np_dtype(kind).kind in "iub"


def _holds_whole(port: ValueInfoProto) -> bool:
    return _is_whole_type(port.type.tensor_type.elem_type)


def _is_whole_constant(node: NodeProto) -> bool:
    if node.op_type != "Constant":
        return False
    value = helper.get_attribute_value(node.attribute[0])
    if isinstance(value, TensorProto):
        return _is_whole_type(value.data_type)
    return np.asarray(value).dtype.kind in "iub"


def _decision(node: NodeProto, output: str) -> Decision:
    inputs = node.input[:2] if node.op_type in COMPARISONS else node.input[:1]
    axis = _number(node, "axis", -1 if node.op_type == "TopK" else 0)
    to = _number(node, "to", TensorProto.UNDEFINED)
    return Decision(node.op_type, tuple(inputs), output, axis, to)


def _number(node: NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


@dataclass(frozen=True, slots=True)
class Deciding:
    """What the outputs of whole numbers in a model rest on."""

    by_output: Mapping[str, tuple[Decision, ...]] = field(default_factory=dict)
    watched: tuple[str, ...] = ()
    """Tensors that were looked at, computed by the original and not among its outputs."""
    shared: tuple[str, ...] = ()
    """Those of them that the candidate computes too."""
    constants: Mapping[str, Array] = field(default_factory=dict)
    """The thresholds and the like."""

    def sole(self, output: str) -> Decision | None:
        """The one decision whose results an output is, element by element."""
        found = self.by_output.get(output, ())
        return found[0] if len(found) == 1 and found[0].in_order else None


def deciding(
    original: ModelProto, candidate: ModelProto, weights: Weights | None = None
) -> Deciding:
    """What to look at besides the outputs. Names tell which values the two models share.

    `weights` are those of the original that its protobuf does not hold.
    """
    graph = original.graph
    known = {o.name: decisions(graph, o.name) for o in graph.output if _holds_whole(o)}
    wanted = {name for found in known.values() for d in found for name in d.inputs}
    outputs = {o.name for o in graph.output}
    computed = [n for node in graph.node if node.op_type != "Constant" for n in node.output]
    watched = tuple(n for n in computed if n in wanted and n not in outputs)
    theirs = {name for node in candidate.graph.node for name in node.output}
    shared = tuple(name for name in watched if name in theirs)
    return Deciding(known, watched, shared, known_constants(graph, wanted, weights or Weights()))


def known_constants(graph: GraphProto, names: set[str], weights: Weights) -> dict[str, Array]:
    """The values of those of `names` that are initializers or Constants."""
    found = {t.name: weights.constant(t).value() for t in graph.initializer if t.name in names}
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] in names:
            found[node.output[0]] = _constant(node, weights)
    return found


def _constant(node: NodeProto, weights: Weights) -> Array:
    value = helper.get_attribute_value(node.attribute[0])
    if isinstance(value, TensorProto):
        return weights.constant(value).value()
    return np.asarray(value)

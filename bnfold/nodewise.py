"""Which types do values have, found one node at a time?

That is onnx's inference without what it generates: a dimension is a number, a symbol of an input,
or not known. Sizes are followed only where constants are arranged, as exporters write the bounds
of a Slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx
from onnx import (
    AttributeProto,
    GraphProto,
    NodeProto,
    OperatorSetIdProto,
    TensorProto,
    TypeProto,
    numpy_helper,
)
from onnx.helper import make_tensor_type_proto

from bnfold.effort import WHOLE
from bnfold.nesting import has_subgraphs

ARRANGING = frozenset({"Cast", "Concat", "Reshape", "Squeeze", "Unsqueeze"})
LONGEST = 1 << 10
"""Numbers that are followed of a vector: joined to itself again and again it fills any memory."""

Types = dict[str, TypeProto]
Data = dict[str, TensorProto]


def types_of(
    graph: GraphProto,
    opsets: Iterable[OperatorSetIdProto],
    is_dangerous: Callable[[NodeProto], bool],
) -> Types:
    """The types of a graph's values, as far as they are found.

    A dangerous node is asked for only where each dimension of its first input is told and none is
    negative, and a node that holds a graph never.
    """
    types = {info.name: info.type for info in graph.input}
    types |= {t.name: make_tensor_type_proto(t.data_type, t.dims) for t in graph.initializer}
    data = {tensor.name: tensor for tensor in graph.initializer}
    versions = list(opsets)
    for node in graph.node:
        value = constant_of(node, data)
        if value is not None:
            data[node.output[0]] = value
        is_asked = not is_dangerous(node) or is_whole(first_type(node, types))
        if is_asked and not has_subgraphs(node):
            types |= made_by(node, types, data, versions)
    return types


def is_whole(kind: TypeProto | None) -> bool:
    """Whether every dimension of a type is a symbol, or a number that is not negative."""
    return kind is not None and (
        kind.tensor_type.HasField("shape")
        and all(
            dim.dim_param or (dim.HasField("dim_value") and dim.dim_value >= 0)
            for dim in kind.tensor_type.shape.dim
        )
    )


def agrees(declared: TypeProto, found: TypeProto | None) -> bool:
    """Whether a declared type has no number for a dimension that was not found as well."""
    dims = declared.tensor_type.shape.dim
    known = () if found is None else found.tensor_type.shape.dim
    return not dims or (
        len(dims) == len(known)
        and all(
            not one.HasField("dim_value")
            or (other.HasField("dim_value") and one.dim_value == other.dim_value)
            for one, other in zip(dims, known, strict=True)
        )
    )


def first_type(node: NodeProto, types: Types) -> TypeProto | None:
    """The type of a node's first input."""
    return types.get(next(iter(node.input), ""))


def made_by(node: NodeProto, types: Types, data: Data, opsets: list[OperatorSetIdProto]) -> Types:
    """What onnx tells of a node's outputs; nothing where it cannot tell, or is in doubt."""
    names = [name for name in node.input if name]
    if not all(name in types for name in names):
        return {}
    version = next((entry.version for entry in opsets if entry.domain == node.domain), 0)
    try:
        return onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(node.op_type, version, node.domain),
            node,
            {name: types[name] for name in names},
            {name: data[name] for name in names if name in data},
            opset_imports=opsets,
        )
    except Exception:  # as inference of a whole model goes on where it is not strict
        return {}


def constant_of(node: NodeProto, data: Data) -> TensorProto | None:
    """What a node holds, or the whole numbers that it makes of constants by arranging them."""
    if node.op_type == "Constant":
        return held_by(node)
    held = [data[name] for name in node.input if name in data]
    if node.op_type not in ARRANGING or not held or len(held) < len(node.input):
        return None
    if any(tensor.data_type not in WHOLE or len(tensor.dims) > 1 for tensor in held):
        return None
    if sum(tensor.dims[0] if tensor.dims else 1 for tensor in held) > LONGEST:
        return None
    try:
        parts = [numpy_helper.to_array(tensor).astype(np.int64) for tensor in held]
    except ValueError:  # its data is elsewhere
        return None
    return arranged(node, parts)


def arranged(node: NodeProto, parts: list[np.ndarray]) -> TensorProto | None:
    """Numbers and vectors of numbers, as a node arranges them."""
    if node.op_type == "Concat":
        return numpy_helper.from_array(np.concatenate([part.reshape(-1) for part in parts]))
    if node.op_type == "Cast":
        to_whole = any(a.name == "to" and a.i == TensorProto.INT64 for a in node.attribute)
        return numpy_helper.from_array(parts[0]) if to_whole else None
    if node.op_type == "Squeeze":
        return numpy_helper.from_array(parts[0].reshape(())) if parts[0].size == 1 else None
    return numpy_helper.from_array(parts[0].reshape(-1))


def held_by(node: NodeProto) -> TensorProto | None:
    """The tensor or the whole numbers that a Constant holds; None where it holds anything else."""
    return next(filter(None, map(_held_in, node.attribute)), None)


def _held_in(attribute: AttributeProto) -> TensorProto | None:
    if attribute.HasField("t"):
        return attribute.t
    if attribute.name == "value_int":
        return numpy_helper.from_array(np.array(attribute.i))
    if attribute.name == "value_ints":
        return numpy_helper.from_array(np.array(attribute.ints, np.int64))
    return None

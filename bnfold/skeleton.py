"""What of a model does onnx's checker need to see? All but the weights."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
)

EXPERIMENTAL = frozenset(
    {"ATen", "Affine", "ConstantFill", "Crop", "DynamicSlice", "GRUUnit", "GivenTensorFill"}
    | {"ImageScaler", "ParametricSoftplus", "Scale", "ScaledTanh"}
)
"""Operators of long ago that the checker accepts with a warning on standard error."""


def skeleton(model: ModelProto) -> ModelProto:
    """The model with every tensor empty, so that the checker copies no weights.

    It claims IR version 4 at least: files of older versions list initializers that are no graph
    inputs, or import opsets before that was foreseen, and runtimes accept them.
    """
    bare = ModelProto(ir_version=max(model.ir_version, 4))
    bare.opset_import.extend(model.opset_import)
    if not model.opset_import:
        bare.opset_import.add(version=1)
    bare.opset_import.add(domain="experimental", version=1)
    bare.metadata_props.extend(model.metadata_props)
    bare.graph.CopyFrom(_bare_graph(model.graph))
    bare.functions.extend(map(_bare_function, model.functions))
    return bare


def _bare_graph(graph: GraphProto) -> GraphProto:
    return GraphProto(
        name=graph.name or "graph",  # the checker wants one, runtimes do not
        input=map(_bare_value, graph.input),
        output=map(_bare_value, graph.output),
        initializer=map(_bare_tensor, graph.initializer),
        sparse_initializer=graph.sparse_initializer,
        node=map(_bare_node, graph.node),
    )


def _bare_value(value: ValueInfoProto) -> ValueInfoProto:
    """A value of some type: the checker wants one with a shape, runtimes infer what is missing."""
    some = onnx.helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    return ValueInfoProto(name=value.name, type=some)


def _bare_function(function: FunctionProto) -> FunctionProto:
    bare = FunctionProto()
    bare.CopyFrom(function)
    del bare.node[:]
    bare.node.extend(map(_bare_node, function.node))
    return bare


def _bare_node(node: NodeProto) -> NodeProto:
    experimental = not node.domain and node.op_type in EXPERIMENTAL
    return NodeProto(
        name=node.name,
        op_type=node.op_type,
        domain="experimental" if experimental else node.domain,
        input=node.input,
        output=node.output,
        attribute=map(_bare_attribute, node.attribute),
    )


def _bare_attribute(attribute: AttributeProto) -> AttributeProto:
    heavy: dict[str, Any] = {}
    if attribute.HasField("t"):
        heavy["t"] = _bare_tensor(attribute.t)
    if attribute.HasField("g"):
        heavy["g"] = _bare_graph(attribute.g)
    if attribute.tensors:
        heavy["tensors"] = map(_bare_tensor, attribute.tensors)
    if attribute.graphs:
        heavy["graphs"] = map(_bare_graph, attribute.graphs)
    if not heavy:
        return attribute
    return AttributeProto(name=attribute.name, type=attribute.type, **heavy)


def _bare_tensor(tensor: TensorProto) -> TensorProto:
    return TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[0])

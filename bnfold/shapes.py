"""Which shapes does a graph have? onnx's inference on a copy of the model without its weights."""

from __future__ import annotations

from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    numpy_helper,
)

from bnfold import inference
from bnfold.graph import Graph, describe
from bnfold.nesting import graphs, has_subgraphs

LARGEST = 256
"""Elements up to which a tensor keeps its data: shapes and axes are computed from such."""

LONG = 1 << 20
"""Elements above which a vector's values are not followed: it holds no sizes."""
INFINITE = (1 << 31) - 1
"""Where exporters end a Slice that has no end."""


def infer_shapes(graph: Graph) -> None:
    """Tell each value its type and shape, where they can be inferred."""
    bare = skeleton(graph.model)
    try:
        inferred = inference.infer_shapes(bare)
        if not (is_complete(inferred.graph) or asks_for_long_vectors(inferred.graph)):
            inferred = inference.infer_shapes(bare, data_prop=True)
    except Exception:
        # A graph that inference stumbles on is still folded by what its value infos say.
        return
    for scope, proto in zip(graph.scopes, graphs(inferred.graph), strict=True):
        # An output that the file leaves open is told its shape as any other value is.
        for info in (*proto.value_info, *proto.output):
            value = scope.values.get(info.name)
            if value is not None:
                describe(value, info)


def is_complete(graph: GraphProto) -> bool:
    """Whether every value of a graph without subgraphs has a static shape already."""
    known = {
        info.name
        for info in (*graph.value_info, *graph.output)
        if info.type.tensor_type.HasField("shape")
        and all(dim.HasField("dim_value") for dim in info.type.tensor_type.shape.dim)
    }
    made = (name for node in graph.node for name in node.output if name)
    return not any(map(has_subgraphs, graph.node)) and known.issuperset(made)


def asks_for_long_vectors(graph: GraphProto) -> bool:
    """Whether a vector is, or may be made, so long that following its elements takes minutes."""
    for inner in graphs(graph):
        for info in (*inner.input, *inner.value_info, *inner.output):
            shape = info.type.tensor_type.shape.dim
            if len(shape) == 1 and shape[0].dim_value > LONG:
                return True
        held = [a.t for node in inner.node for a in node.attribute if a.HasField("t")]
        if any(map(holds_long_size, (*inner.initializer, *held))):
            return True
    return False


def holds_long_size(tensor: TensorProto) -> bool:
    """Whether a tensor of sizes holds one above LONG; the largest integers mean "to the end"."""
    if tensor.data_type != TensorProto.INT64 or not (tensor.raw_data or tensor.int64_data):
        return False
    try:
        sizes = numpy_helper.to_array(tensor)
    except ValueError:
        return False
    return bool(((sizes > LONG) & (sizes < INFINITE)).any())


def skeleton(model: ModelProto) -> ModelProto:
    """The model without the data of its large tensors."""
    # Before IR version 4 inference would overlook initializers that are not listed as inputs.
    copy = ModelProto(ir_version=max(model.ir_version, 4), opset_import=model.opset_import)
    copy.functions.extend(model.functions)
    copy.graph.CopyFrom(graph_skeleton(model.graph))
    return copy


def graph_skeleton(graph: GraphProto) -> GraphProto:
    """The same for one graph."""
    copy = GraphProto(name=graph.name)
    copy.input.extend(graph.input)
    copy.output.extend(graph.output)
    copy.value_info.extend(graph.value_info)
    copy.initializer.extend(tensor_skeleton(tensor) for tensor in graph.initializer)
    for node in graph.node:
        copy.node.append(node_skeleton(node))
    return copy


def tensor_skeleton(tensor: TensorProto) -> TensorProto:
    """The same for one tensor; a small one stays whole."""
    size = 1
    for dim in tensor.dims:
        size *= dim
    if size <= LARGEST and tensor.data_location != TensorProto.EXTERNAL:
        return tensor
    return TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)


def node_skeleton(node: NodeProto) -> NodeProto:
    """The same for one node, with the tensors and subgraphs in its attributes."""
    plain = all(
        a.type not in (AttributeProto.TENSOR, AttributeProto.GRAPH, AttributeProto.GRAPHS)
        for a in node.attribute
    )
    if plain:
        return node
    copy = NodeProto(
        op_type=node.op_type, domain=node.domain, input=node.input, output=node.output
    )
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            slim = AttributeProto(name=attribute.name, type=attribute.type)
            slim.t.CopyFrom(tensor_skeleton(attribute.t))
        elif attribute.type == AttributeProto.GRAPH:
            slim = AttributeProto(name=attribute.name, type=attribute.type)
            slim.g.CopyFrom(graph_skeleton(attribute.g))
        else:
            slim = attribute
        copy.attribute.append(slim)
    return copy

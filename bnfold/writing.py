"""How do changes of a graph reach its protobufs? In place, so that what stays is not copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import onnx
from onnx import GraphProto, TensorProto

from bnfold.constants import Array
from bnfold.weights import Computed, Weights, as_bytes

if TYPE_CHECKING:
    from bnfold.graph import Node, Scope, Value


def write_scope(scope: Scope, weights: Weights) -> None:
    """Bring one GraphProto up to date: nodes, initializers and value infos."""
    proto = scope.proto
    for node in scope.nodes:
        if node.is_dirty:
            write_node(node)
    if scope.is_reordered:
        protos = [n.proto for n in sorted(scope.nodes, key=lambda n: n.line)]
        del proto.node[:]
        proto.node.extend(protos)
    delete_where(proto.initializer, lambda tensor: tensor.name in scope.unread)
    for value, array in scope.added:
        if value.uses or value.is_output:
            write_tensor(proto.initializer.add(), value, array, weights)
    scope.added.clear()
    delete_where(proto.value_info, lambda info: info.name not in scope.values)


def write_tensor(tensor: TensorProto, value: Value, array: Array | None, weights: Weights) -> None:
    """Fill a TensorProto where it stands: large ones are not copied once more."""
    assert value.constant is not None
    tensor.name, tensor.data_type = value.name, value.elem_type
    tensor.dims.extend(value.constant.shape)
    if array is not None:
        tensor.raw_data = bytes(as_bytes(array))
    else:
        weights.hold(tensor, Computed(value.constant))


def delete_where(repeated: Any, condition: Callable[[Any], bool]) -> None:
    """Delete from a repeated field in place, so that what stays is not copied."""
    for index in reversed([i for i, item in enumerate(repeated) if condition(item)]):
        del repeated[index]


def write_node(node: Node) -> None:
    """Bring one NodeProto up to date."""
    proto = node.proto
    proto.op_type = node.op_type
    # What the file itself ends with an absent input stays so: of a variadic operator it counts.
    said = {place for place, name in enumerate(proto.input) if not name}
    while node.inputs and node.inputs[-1] is None and len(node.inputs) - 1 not in said:
        node.inputs.pop()
    proto.input[:] = ["" if v is None else v.name for v in node.inputs]
    proto.output[:] = ["" if v is None else v.name for v in node.outputs]
    for name, value in node.attributes_changed.items():
        kept = [a for a in proto.attribute if a.name != name]
        del proto.attribute[:]
        proto.attribute.extend(kept)
        if value is not None:
            proto.attribute.append(onnx.helper.make_attribute(name, value))
    node.attributes_changed.clear()
    node.is_dirty = False


def drop_overridable(graph: GraphProto, unread: set[str]) -> None:
    """Initializers leave the graph inputs, and so do those that are gone."""
    names = {tensor.name for tensor in graph.initializer} | unread
    delete_where(graph.input, lambda info: info.name in names)


def list_initializers(graph: GraphProto, unread: set[str]) -> None:
    """Before IR version 4 every initializer is a graph input: new ones come, old ones go."""
    delete_where(graph.input, lambda info: info.name in unread)
    listed = {info.name for info in graph.input}
    graph.input.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
        for t in graph.initializer
        if t.name not in listed
    )

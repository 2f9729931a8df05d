"""Does a node contradict what it reads? No rule is asked about what no runtime could run.

First onnx's own inference is asked of the node alone, with the shapes that are known; then comes
what it does not look at: sizes of parameters, labels, blocks. A rule may rely on all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, TypeProto, numpy_helper
from onnx.helper import make_opsetid, make_tensor_type_proto

from bnfold.elements import shape_at
from bnfold.equation import read_equation
from bnfold.graph import Dim, Node, Shape, Value, dimension
from bnfold.inference import DANGEROUS, is_endless
from bnfold.nesting import has_subgraphs

FOLLOWED = 64
"""Numbers of a constant that onnx is shown: no vector of axes or sizes has more."""
AS_PLAIN = {"FusedConv": "Conv", "FusedGemm": "Gemm"}
"""com.microsoft's operators with the shapes of a standard one, by name."""
BY_RULE = frozenset({"BatchNormalization"})
"""What says by itself, and with a reason of its own, which parameters it cannot have."""
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def contradiction(node: Node) -> str | None:
    """What does not fit together, in words; None where nothing is known against the node."""
    if node.contradiction is None:
        node.contradiction = _found(node)
    return node.contradiction or None


def _found(node: Node) -> str:
    op_type = AS_PLAIN.get(node.op_type, node.op_type)
    shapes = [shape_at(node, i) for i in range(len(node.inputs))]
    if op_type == DANGEROUS and any(isinstance(d, int) and d < 0 for d in shapes[0] or ()):
        return "a dimension is negative"
    if op_type in BY_RULE:
        return ""
    said = _said_by_inference(node, op_type)
    check = CHECKS.get(op_type)
    if said or check is None or shapes[:1] == [None]:
        return said
    return next(check(node), "")


# --------------------------------------------------------------- what onnx says of it


def _said_by_inference(node: Node, op_type: str) -> str:
    """Why onnx's inference refuses the node, or what it finds that is not what is known."""
    proto = _alone(node, op_type)
    types = {f"i{i}": _type(v) for i, v in enumerate(node.inputs) if v is not None}
    if not all(v.elem_type for v in node.inputs if v is not None) or is_endless(proto):
        return ""
    version = node.version if not node.domain else 17
    try:
        made = onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(op_type, version, ""),
            proto,
            types,
            {f"i{i}": tensor for i, tensor in _numbers(node)},
            opset_imports=[make_opsetid("", version)],
        )
    except onnx.shape_inference.InferenceError as error:
        return str(error).split("] ", 1)[-1].splitlines()[0]
    except Exception:  # there is no schema, or inference has no words for it: nothing is told
        return ""
    return next(_unlike(node, made), "")


def _alone(node: Node, op_type: str) -> NodeProto:
    """The node with names of its own for what it reads and makes."""
    names = [[f"{side}{i}" if v is not None else "" for i, v in enumerate(values)]
             for side, values in (("i", node.inputs), ("o", node.outputs))]  # fmt: skip
    proto = NodeProto(op_type=op_type, input=names[0], output=names[1])
    if not has_subgraphs(node.proto):
        proto.attribute.extend(node.proto.attribute)
    return proto


def _type(value: Value) -> TypeProto:
    shape = value.shape
    if shape is None and value.constant is not None:
        shape = value.constant.shape
    return make_tensor_type_proto(value.elem_type, shape)


def _numbers(node: Node) -> Iterator[tuple[int, TensorProto]]:
    """The constant axes, sizes and pads among the inputs."""
    for index, value in enumerate(node.inputs):
        if value is None or value.elem_type not in (TensorProto.INT64, TensorProto.INT32):
            continue
        constant = value.constant
        if constant is not None and constant.size <= FOLLOWED:
            yield index, numpy_helper.from_array(np.ascontiguousarray(constant.value()))


def _unlike(node: Node, made: dict[str, TypeProto]) -> Iterator[str]:
    """Outputs of which the model says another shape than follows from the inputs."""
    for index, value in enumerate(node.outputs):
        kind = made.get(f"o{index}")
        if value is None or value.shape is None or kind is None:
            continue
        if not kind.tensor_type.HasField("shape"):
            continue
        shape = tuple(map(dimension, kind.tensor_type.shape.dim))
        if not _may_be(value.shape, shape):
            yield f"{value.name} has the shape {_text(shape)} and not {_text(value.shape)}"


def _may_be(one: Shape, other: Shape) -> bool:
    """Whether both can describe one value."""
    return len(one) == len(other) and all(map(_may_equal, one, other))


def _may_equal(one: Dim, other: Dim) -> bool:
    return one == other or not isinstance(one, int) or not isinstance(other, int)


def _text(shape: Shape) -> str:
    return "x".join("?" if d is None else str(d) for d in shape) or "of one number"


# ------------------------------------------------------------- what onnx does not look at


def _differs(what: str, actual: Dim, wanted: Dim) -> Iterator[str]:
    if not _may_equal(actual, wanted):
        yield f"{what} has {actual} where {wanted} are needed"


def _vector(node: Node, index: int, size: Dim, what: str) -> Iterator[str]:
    """A parameter that must be a vector of so many numbers, where it is there."""
    shape = shape_at(node, index)
    if shape is not None and len(shape) != 1:
        yield f"{what} is no vector"
    elif shape is not None:
        yield from _differs(what, shape[0], size)


def _times(dim: Dim, factor: int) -> Dim:
    return dim * factor if isinstance(dim, int) else None


def _conv(node: Node) -> Iterator[str]:
    data, weight = shape_at(node, 0), shape_at(node, 1)
    group = node.attributes.get("group", 1)
    if data is None or weight is None:
        return
    if len(data) != len(weight) or len(data) < 3 or group < 1:
        yield "the weight has another rank than the data, or there is no group"
        return
    is_transposed = node.op_type == "ConvTranspose"
    fan_in, grouped = (weight[0], weight[0]) if is_transposed else (weight[1], weight[0])
    yield from _differs("the weight", fan_in if is_transposed else _times(fan_in, group), data[1])
    if isinstance(grouped, int) and grouped % group:
        yield f"{grouped} channels make no {group} groups"
    outputs = _times(weight[1], group) if is_transposed else weight[0]
    yield from _vector(node, 2, outputs, "the bias")
    kernel = node.attributes.get("kernel_shape")
    if kernel is not None and not _may_be(tuple(kernel), weight[2:]):
        yield "the attribute kernel_shape is not that of the weight"


def _recurrent(node: Node) -> Iterator[str]:
    data, weight, bias = (shape_at(node, i) for i in (0, 1, 3))
    if data is None or weight is None:
        return
    if len(data) != 3 or len(weight) != 3:
        yield "the data or the weight has not three dimensions"
        return
    yield from _differs("the weight", weight[2], data[2])
    if isinstance(weight[1], int) and weight[1] % GATES[node.op_type]:
        yield f"the weight has {weight[1]} rows for {GATES[node.op_type]} gates"
    if bias is not None and not _may_be(bias, (weight[0], _times(weight[1], 2))):
        yield "the bias has another size than the weight"


def _norm_by_channel(node: Node) -> Iterator[str]:
    data = shape_at(node, 0)
    if data is None or len(data) < 2:
        yield "there are no channels"
        return
    size = data[1]
    if node.op_type == "GroupNormalization":
        groups = node.attributes.get("num_groups", 1)
        if groups < 1 or (isinstance(size, int) and size % groups):
            yield f"{size} channels make no {groups} groups"
        size = groups if node.version < 21 else size
    for index, what in ((1, "the scale"), (2, "the bias")):
        yield from _vector(node, index, size, what)


def _into_data(node: Node, indices: tuple[int, ...]) -> Iterator[str]:
    """Parameters that must broadcast into the data."""
    for index in indices:
        yield from _broadcasts(node, index, shape_at(node, 0))


def _addend(node: Node) -> Iterator[str]:
    """What a Gemm adds must broadcast into its result."""
    result = node.outputs[0]
    yield from _broadcasts(node, 2, None if result is None else result.shape)


def _broadcasts(node: Node, index: int, into: Shape | None) -> Iterator[str]:
    shape = shape_at(node, index) or ()
    fits = into is None or (
        len(shape) <= len(into)
        and all(
            size == 1 or _may_equal(size, dim)
            for size, dim in zip(shape, into[len(into) - len(shape) :], strict=True)
        )
    )
    if not fits:
        yield f"input {index} does not broadcast to {_text(into or ())}"


def _einsum(node: Node) -> Iterator[str]:
    read = read_equation(node.attributes.get("equation", ""))
    if read is None:
        return
    operands, result = read
    if len(operands) != len(node.inputs) or not set(result) <= set("".join(operands)):
        yield "the equation names other operands or labels than there are"
        return
    sizes: dict[str, int] = {}
    for index, term in enumerate(operands):
        shape = shape_at(node, index)
        if shape is not None and len(shape) != len(term):
            yield f"input {index} has not the rank that the equation says"
            return
        for label, size in zip(term, shape or (), strict=False):
            if isinstance(size, int) and size != 1 and sizes.setdefault(label, size) != size:
                yield f"the label {label} has the sizes {sizes[label]} and {size}"


def _transpose(node: Node) -> Iterator[str]:
    data, order = shape_at(node, 0), node.attributes.get("perm")
    if data is not None and order is not None and sorted(order) != list(range(len(data))):
        yield f"the order {order} is none of {len(data)} axes"


def _blocks(node: Node) -> Iterator[str]:
    data, size = shape_at(node, 0), node.attributes.get("blocksize", 0)
    if data is None:
        return
    if len(data) != 4 or size < 1:
        yield "it has not four dimensions, or no blocks"
        return
    parted = data[1:2] if node.op_type == "DepthToSpace" else data[2:]
    unit = size * size if node.op_type == "DepthToSpace" else size
    if any(isinstance(d, int) and d % unit for d in parted):
        yield f"a dimension makes no blocks of {unit}"


def _reshape(node: Node) -> Iterator[str]:
    data, result = shape_at(node, 0), node.outputs[0].shape if node.outputs[0] else None
    counts = [_count(shape) for shape in (data, result)]
    if data is not None and not _may_equal(counts[0], counts[1]):
        yield f"{counts[0]} elements become {counts[1]}"


def _count(shape: Shape | None) -> Dim:
    """The number of elements, where all dimensions are known."""
    sizes = [d for d in shape or () if isinstance(d, int)]
    return math.prod(sizes) if shape is not None and len(sizes) == len(shape) else None


def _tile(node: Node) -> Iterator[str]:
    data, counts = shape_at(node, 0), shape_at(node, 1)
    if node.version >= 6 and data is not None and counts is not None:
        yield from _vector(node, 1, len(data), "the repetition")


def _gather(node: Node) -> Iterator[str]:
    data, picks = shape_at(node, 0), node.inputs[1]
    axis = node.attributes.get("axis", 0)
    if data is None or not -len(data) <= axis < len(data):
        return
    size, constant = data[axis], picks.constant if picks is not None else None
    if not isinstance(size, int) or constant is None or constant.dtype.kind not in "iu":
        return
    indices = constant.value()
    if ((indices < -size) | (indices >= size)).any():
        yield f"it picks what is not among {size}"


def _clip(node: Node) -> Iterator[str]:
    for index in (1, 2) if node.version >= 11 else ():
        shape = shape_at(node, index)
        if shape is not None and (len(shape) > 1 or shape == (0,)):
            yield "a bound is not one number"


CHECKS: dict[str, Callable[[Node], Iterator[Any]]] = {
    **dict.fromkeys(("Conv", "ConvTranspose"), _conv),
    **dict.fromkeys(GATES, _recurrent),
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), _norm_by_channel),
    **dict.fromkeys(("LayerNormalization",), lambda node: _into_data(node, (1, 2))),
    **dict.fromkeys(("RMSNormalization", "PRelu"), lambda node: _into_data(node, (1,))),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _blocks),
    "Clip": _clip,
    "Einsum": _einsum,
    "Gather": _gather,
    "Gemm": _addend,
    "Reshape": _reshape,
    "Tile": _tile,
    "Transpose": _transpose,
}
"""What is asked of each operator beside its inference; the first that does not fit is told."""

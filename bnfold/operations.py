"""How much work is in a model? Operations and bytes by operator type, where shapes are known.

Counts are of the file as it stands: a runtime that merges operators moves fewer bytes than that.
A multiply-add counts as two operations; an operator reads each input and writes each output once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import onnx
from onnx import TensorProto, helper

from bnfold import inference
from bnfold.modelio import byte_size
from bnfold.nesting import has_subgraphs
from bnfold.timings import Work

Shapes = Mapping[str, Sequence[int]]

LARGEST = 1 << 30
"""Bytes of a model above which shapes are not inferred; that would copy it twice."""
MOVEMENT = frozenset(
    "Identity Dropout Cast Reshape Flatten Squeeze Unsqueeze Transpose Concat Split Slice Gather "
    "Expand Tile Pad DepthToSpace SpaceToDepth Shape Constant ConstantOfShape".split()
)
"""Operators that compute nothing."""
RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
FUSED = {"FusedConv": "Conv", "FusedGemm": "Gemm", "FusedMatMul": "MatMul"}
"""ONNX Runtime's own operators that cost what a standard one does."""
UNCOUNTED = frozenset(
    "Attention ConvInteger DeformConv Einsum MatMulInteger QLinearConv QLinearMatMul".split()
)
"""Operators that multiply more than their outputs tell, which is not counted here."""
PASSES = {"BatchNormalization": 2, "Sigmoid": 4, "Softmax": 5}
"""Operations for each element of the output, where that is not one."""


def count(model: onnx.ModelProto, shapes: Shapes) -> dict[str, Work]:
    """Work by operator type at these input shapes, the most bytes first; empty where unknown.

    `unknown` counts the nodes whose shapes could not be told, or what they cost.
    """
    if byte_size(model) > LARGEST:
        return {}
    known = _tensors(model, shapes)
    total: dict[str, list[int]] = {}
    for node in model.graph.node:
        sums = total.setdefault(node.op_type, [0, 0, 0, 0])
        for index, value in enumerate(_work(node, known)):
            sums[index] += value
    order = sorted(total.items(), key=lambda item: -item[1][2])
    return {op_type: Work(*sums) for op_type, sums in order}


def parameters(model: onnx.ModelProto) -> int:
    """Elements of the floating-point initializers."""
    return sum(
        prod(tensor.dims)
        for tensor in model.graph.initializer
        if helper.tensor_dtype_to_np_dtype(tensor.data_type).kind not in "iubOSU"
    )


Tensor = tuple[tuple[int, ...], int]
"""A shape, and the bytes of an element."""


def _tensors(model: onnx.ModelProto, shapes: Shapes) -> dict[str, Tensor]:
    """Every tensor whose shape is known."""
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for port in sized.graph.input:
        if port.name in shapes:
            dims = port.type.tensor_type.shape
            dims.ClearField("dim")
            for size in shapes[port.name]:
                dims.dim.add().dim_value = size
    del sized.graph.value_info[:]  # they hold the symbols of before
    try:
        sized = inference.infer_shapes(sized, data_prop=True)
    except Exception:  # its errors share no base; a model that it cannot follow has no counts
        return {}
    ports = (*sized.graph.input, *sized.graph.value_info, *sized.graph.output)
    known = {p.name: t for p in ports if (t := _of_port(p)) is not None}
    return known | {t.name: (tuple(t.dims), _width(t.data_type)) for t in sized.graph.initializer}


def _of_port(port: onnx.ValueInfoProto) -> Tensor | None:
    kind = port.type.tensor_type
    if not kind.HasField("shape") or not all(d.HasField("dim_value") for d in kind.shape.dim):
        return None
    return tuple(d.dim_value for d in kind.shape.dim), _width(kind.elem_type)


def _width(elem_type: int) -> int:
    if elem_type in {TensorProto.UNDEFINED, TensorProto.STRING}:
        return 0
    return int(helper.tensor_dtype_to_np_dtype(elem_type).itemsize)


def _work(node: onnx.NodeProto, known: Mapping[str, Tensor]) -> tuple[int, int, int, int]:
    """Nodes, operations, bytes, and nodes of unknown shape or cost."""
    names = [name for name in (*node.input, *node.output) if name]
    if not all(name in known for name in names) or not _is_counted(node):
        return 1, 0, 0, 1
    moved = sum(prod(known[name][0]) * known[name][1] for name in dict.fromkeys(names))
    return 1, _operations(node, known), moved, 0


def _is_counted(node: onnx.NodeProto) -> bool:
    """Whether it is known what a node of this type costs: not with a graph of its own inside."""
    if has_subgraphs(node):
        return False
    if node.domain not in {"", "ai.onnx"}:
        return node.op_type in FUSED
    return node.op_type not in UNCOUNTED


def _operations(node: onnx.NodeProto, known: Mapping[str, Tensor]) -> int:
    kind = FUSED.get(node.op_type, node.op_type)
    if kind in MOVEMENT or not node.output:
        return 0
    made = prod(known[node.output[0]][0])
    if kind not in {"Conv", "ConvTranspose", "Gemm", "MatMul", *RECURRENT}:
        return PASSES.get(kind, 1) * made
    data, weight = (known[name][0] for name in node.input[:2])
    if kind == "Conv":  # (C_out, C_in/group, *k): each output reads one row of it
        return 2 * made * prod(weight[1:])
    if kind == "ConvTranspose":  # (C_in, C_out/group, *k): each input feeds one row of it
        return 2 * prod(data) * prod(weight[1:])
    if kind in RECURRENT:  # each step of each sequence reads both weights whole
        return 2 * prod(data[:2]) * (prod(weight) + prod(known[node.input[2]][0]))
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return 2 * made * (data[-2] if transposed else data[-1])

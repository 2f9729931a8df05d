"""Which values are constant, because they follow from constants, types and shapes alone?"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx

from bnfold.constants import CACHED_ELEMENTS, DEEPEST, FLOATS, Array, Constant
from bnfold.graph import Graph, Node, Shape
from bnfold.nesting import has_subgraphs
from bnfold.slicing import cut_out, is_ambiguous

DETERMINISTIC = frozenset(
    (
        "Abs Add Cast CastLike Ceil Clip Concat ConstantOfShape DequantizeLinear Div Equal Erf "
        "Exp Expand Flatten Floor Gather Greater GreaterOrEqual Identity "
        "Less LessOrEqual Log MatMul Max Mean Min Mod Mul Neg Not OneHot Pad Pow Range "
        "Reciprocal ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Reshape Round "
        "Shape Sigmoid Sign Size Slice Split Sqrt Squeeze Sub Sum Tanh Tile Transpose Trilu "
        "Unsqueeze Where"
    ).split()
)
"""Operators of the default domain whose outputs are computed when all their inputs are known."""

RANDOM = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormalLike", "RandomUniformLike"}
)
"""Operators that read something and make another thing each time, or may do so."""

BROADCASTING = frozenset(
    (
        "Add Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Pow Sub Sum "
        "Where"
    ).split()
)
"""Those whose inputs are broadcast to one shape."""

GROWING = frozenset({"ConstantOfShape", "Expand", "OneHot", "Pad", "Range", "Tile"})
"""Those whose output can be far larger than their inputs."""

LARGEST = 1 << 24
"""Elements that a growing constant may have; a file of some bytes can ask for terabytes."""


def mark_constants(graph: Graph) -> None:
    """Mark every value that is constant; each is computed when somebody asks for it."""
    for node in sorted(graph.nodes, key=lambda n: n.position):
        fix(node)
        if node.domain or node.op_type not in DETERMINISTIC or not node.outputs:
            continue
        if knows_inputs(node):
            for index, output in enumerate(node.outputs):
                if output is not None and not output.is_constant:
                    output.put_off(partial(evaluate, node, index))


def fix(node: Node) -> None:
    """Note of what a node makes that it follows from constants, if it does."""
    read = [value for value in node.inputs if value is not None]
    follows = bool(read) and all(v.is_constant or v.is_fixed for v in read)
    if follows and node.op_type not in RANDOM and not has_subgraphs(node.proto):
        for output in node.outputs:
            if output is not None:
                output.is_fixed = True


def knows_inputs(node: Node) -> bool:
    """Whether all that the outputs depend on is known."""
    inputs = [value for value in node.inputs if value is not None]
    if node.op_type in ("Shape", "Size"):
        shape = inputs[0].shape if inputs else None
        return shape is not None and all(isinstance(d, int) for d in cut(node, shape))
    if node.op_type == "CastLike":
        return inputs[0].is_constant and inputs[-1].elem_type in FLOATS
    return bool(inputs) and all(value.is_constant for value in inputs)


def evaluate(node: Node, index: int) -> Constant | None:
    """One output of a node of constants; None where it cannot be computed."""
    settle(node)
    constants = [None if value is None else value.constant for value in node.inputs]
    if node.op_type == "Transpose":
        return transposed(node, constants)
    dtype = output_dtype(node)
    array = computed(node, index, constants)
    if array is None:
        return None
    quantized = node.op_type == "DequantizeLinear" or any(
        c is not None and c.is_quantized for c in constants
    )
    shape, kind = array.shape, dtype or array.dtype
    if array.size <= CACHED_ELEMENTS:
        return Constant(lambda: array, shape, kind, is_quantized=quantized)
    # A large one is computed again when it is needed: a model may have more than memory holds.
    depth = 1 + sum(c.depth for c in constants if c is not None)  # each computes its own again
    if depth > DEEPEST:
        return None
    again = partial(computed, node, index, constants)
    constant = Constant(partial(present, again), shape, kind, is_quantized=quantized)
    constant.depth = depth
    return constant


def settle(node: Node) -> None:
    """Compute what a node's inputs wait for, from the first on: Python's stack is short."""
    waiting = [node]
    while waiting:
        makers = [v.producer for v in waiting[-1].inputs if v is not None and v.is_put_off]
        if makers:
            waiting += [maker for maker in makers if maker is not None]
            continue
        done = waiting.pop()
        for value in done.outputs if done is not node else ():
            if value is not None:
                value.settle()


def transposed(node: Node, constants: list[Constant | None]) -> Constant | None:
    """A constant with other axes first, of which no number has to be read to know that."""
    (base,) = constants
    if base is None:
        return None
    axes = node.attributes.get("perm") or list(range(base.rank))[::-1]
    if sorted(axes) != list(range(base.rank)):
        return None
    return Constant(
        lambda: base.value().transpose(axes),
        tuple(base.shape[axis] for axis in axes),
        base.dtype,
        is_quantized=base.is_quantized,
    )


def present(compute: Callable[[], Array | None]) -> Array:
    """What was computed once, once more."""
    array = compute()
    assert array is not None
    return array


def computed(node: Node, index: int, constants: list[Constant | None]) -> Array | None:
    """The output as an array; None where it cannot be computed, or would be too large."""
    run = SIMPLE.get(node.op_type)
    if run is not None:
        return run(node, constants)
    known = [(v is None) == (c is None) for v, c in zip(node.inputs, constants, strict=True)]
    if not all(known) or not is_in_proportion(node, constants):
        return None
    return by_reference(node, index, [None if c is None else c.value() for c in constants])


def cut(node: Node, shape: Shape) -> Shape:
    """The dimensions that a Shape takes, with `start` and `end` from opset 15 on."""
    return shape[node.attributes.get("start", 0) : node.attributes.get("end")]


def output_dtype(node: Node) -> np.dtype[Any] | None:
    """The type that inference knows, where it is one of weights."""
    output = node.outputs[0]
    return FLOATS.get(output.elem_type) if output is not None else None


def by_reference(node: Node, index: int, arrays: list[Array | None]) -> Array | None:
    """Run one node on onnx's reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    names = ["" if a is None else f"x{i}" for i, a in enumerate(arrays)]
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    proto.input[:] = names
    proto.output[:] = [f"y{i}" for i in range(len(node.outputs))]
    feeds = {name: array for name, array in zip(names, arrays, strict=True) if name}
    try:
        inputs = [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in feeds.items()
            if array is not None
        ]
        outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in proto.output]
        graph = onnx.helper.make_graph([proto], "constant", inputs, outputs)
        opsets = [onnx.helper.make_opsetid("", node.version)]
        model = onnx.helper.make_model(graph, opset_imports=opsets)
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, feeds)
    except Exception:
        # Whatever the reference evaluator cannot do is not a constant to us; the walk stops there.
        return None
    return np.asarray(list(results)[index])


def is_in_proportion(node: Node, constants: list[Constant | None]) -> bool:
    """Whether the output is not far larger than what the file holds."""
    if node.op_type in GROWING:
        return is_small(node, constants)
    given = [c for c in constants if c is not None]
    try:
        count = math.prod(result_shape(node, given))
    except (LookupError, ValueError):  # inputs that do not fit together have no result
        return False
    return count < LARGEST or count <= 2 * max(c.size for c in given)


def result_shape(node: Node, given: list[Constant]) -> tuple[int, ...]:
    """The shape of the output, or one with as many elements or more. Raises ValueError."""
    shapes = [c.shape for c in given]
    if node.op_type == "MatMul" and len(given) == 2 and min(len(s) for s in shapes) > 1:
        rows, columns = shapes
        return (*np.broadcast_shapes(rows[:-2], columns[:-2]), rows[-2], columns[-1])
    if node.op_type == "Gather" and len(given) == 2:
        axis = node.attributes.get("axis", 0)
        return (*shapes[0][:axis], *shapes[1], *shapes[0][axis + 1 or len(shapes[0]) :])
    if node.op_type in BROADCASTING:
        return np.broadcast_shapes(*shapes)
    return max(shapes, key=math.prod)


def is_small(node: Node, constants: list[Constant | None]) -> bool:
    """Whether the output of a growing operator stays within reason."""
    known = [c.value() for c in constants if c is not None]
    if any(array.dtype.kind in "cOSU" for array in known):  # no size is complex, or a text
        return False
    if node.op_type == "Range":
        start, limit, delta = (float(v) for v in known[:3])
        return delta != 0 and abs((limit - start) / delta) < LARGEST
    size = float(np.prod([c.size for c in constants[:1] if c is not None], dtype=np.float64))
    if node.op_type == "ConstantOfShape":
        return float(np.prod(known[0], dtype=np.float64)) < LARGEST
    if node.op_type == "OneHot":
        return size * float(known[1].reshape(-1)[0]) < LARGEST
    if node.op_type == "Pad":
        # Before opset 11 an attribute; 7 has both.
        pads = known[1] if len(known) > 1 else np.array(node.attributes.get("pads", ()))
        return size + float(np.abs(pads).sum()) * size < LARGEST
    return size * float(np.prod(np.maximum(known[1], 1), dtype=np.float64)) < LARGEST


def static_shape(node: Node) -> tuple[int, ...]:
    """The shape of the first input, which is known to be static."""
    value = node.inputs[0]
    return tuple(d for d in (value.shape if value else None) or () if isinstance(d, int))


def shape_of(node: Node, _: list[Constant | None]) -> Array | None:
    """Shape of a static shape, with `start` and `end` from opset 15 on."""
    value = node.inputs[0]
    shape = value.shape if value is not None else None
    return None if shape is None else np.array(cut(node, shape), np.int64)


def size_of(node: Node, _: list[Constant | None]) -> Array | None:
    """Number of elements of a static shape."""
    return np.array(np.prod(static_shape(node), dtype=np.int64))


def cast_like(node: Node, constants: list[Constant | None]) -> Array | None:
    """A constant in the type that the other operand is known to have."""
    like = node.inputs[1]
    if constants[0] is None or like is None:
        return None
    return constants[0].value().astype(FLOATS[like.elem_type])


def identity(_: Node, constants: list[Constant | None]) -> Array | None:
    """The constant itself."""
    return None if constants[0] is None else constants[0].value()


def sliced(node: Node, constants: list[Constant | None]) -> Array | None:
    """What a Slice takes, which the evaluator takes as Python would."""
    arrays = [None if c is None else c.value() for c in constants]
    if arrays[0] is None:
        return None
    bounds: list[list[int] | None] = [
        None if a is None else [int(v) for v in a.reshape(-1)] for a in arrays[1:]
    ]
    bounds += [node.attributes.get(n) for n in ("starts", "ends", "axes")][len(bounds) :]
    starts, ends, axes, steps = (*bounds, None) if len(bounds) < 4 else bounds
    pairs = zip(ends or (), steps or (), strict=False)
    if starts is None or ends is None or any(is_ambiguous(*pair) for pair in pairs):
        return None
    return cut_out(arrays[0], starts, ends, axes, steps)


SIMPLE: dict[str, Callable[[Node, list[Constant | None]], Array | None]] = {
    "Shape": shape_of,
    "Size": size_of,
    "CastLike": cast_like,
    "Identity": identity,
    "Slice": sliced,
}
"""What needs no evaluator."""

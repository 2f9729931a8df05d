"""What can be wrong with a model file? One change of it, in its structure or in its bytes.

Each function of CHANGES takes a model and a source of choices, and changes the model; most leave
it valid, so that the change is seen by the engine and not by the checker alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper
from onnx import numpy_helper as arrays

Change = Callable[[ModelProto, random.Random], None]

NUMBERS = (-1, 0, 1, 2, 3, -2, 2**31, -(2**63), 2**63 - 1)
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
VALUES = (0.0, -1.0, 1.0, np.nan, np.inf, 1e-30, -1e-8, 1e30, 3.4e38)
LIKE = (
    ("Relu", "Abs", "Neg", "LeakyRelu", "Sigmoid", "Identity", "Sqrt", "Exp", "Floor", "Sign"),
    ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Mean", "Sum", "MatMul", "PRelu"),
    ("MaxPool", "AveragePool", "LpPool"),
    ("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"),
    ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd"),
    ("Conv", "ConvTranspose"),
    ("Squeeze", "Unsqueeze", "Reshape", "Expand", "Tile"),
    ("DepthToSpace", "SpaceToDepth"),
)
"""Operators that take each other's place and are still well-formed."""


class Inapplicable(Exception):
    """The model has nothing that this change could change."""


def pick(rng: random.Random, options: Any) -> Any:
    """One of several; Inapplicable where there is none."""
    found = list(options)
    if not found:
        raise Inapplicable
    return rng.choice(found)


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and its subgraphs."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from graphs(inner)


def nodes(model: ModelProto) -> list[NodeProto]:
    """Every node, at any depth."""
    return [node for graph in graphs(model.graph) for node in graph.node]


def names(model: ModelProto) -> list[str]:
    """Every tensor name of the main graph."""
    graph = model.graph
    made = [name for node in graph.node for name in node.output if name]
    return [*made, *(v.name for v in graph.input), *(t.name for t in graph.initializer)]


# -- nodes --------------------------------------------------------------------------------------


def attribute_changed(model: ModelProto, rng: random.Random) -> None:
    attribute = pick(rng, (a for node in nodes(model) for a in node.attribute))
    kind = attribute.type
    if kind == AttributeProto.INT:
        attribute.i = rng.choice((*NUMBERS, 1 - attribute.i, attribute.i + 1))
    elif kind == AttributeProto.INTS and attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(NUMBERS)
    elif kind == AttributeProto.FLOAT:
        attribute.f = rng.choice(VALUES)
    elif kind == AttributeProto.STRING:
        attribute.s = rng.choice((b"", b"\xff", b"SAME_UPPER", b"VALID", b"reflect", b"nearest"))
    elif kind == AttributeProto.TENSOR:
        change_values(attribute.t, rng)
    else:
        raise Inapplicable


def attribute_dropped(model: ModelProto, rng: random.Random) -> None:
    node = pick(rng, (n for n in nodes(model) if n.attribute))
    del node.attribute[rng.randrange(len(node.attribute))]


def attribute_resized(model: ModelProto, rng: random.Random) -> None:
    lists = (a.ints for node in nodes(model) for a in node.attribute if a.ints)
    ints = pick(rng, lists)
    if rng.random() < 0.5:
        ints.append(rng.choice((0, 1, 2)))
    else:
        ints.pop()


def attribute_added(model: ModelProto, rng: random.Random) -> None:
    name, value = pick(
        rng,
        {
            "axis": rng.choice((-1, 0, 1, 2)),
            "group": 2,
            "auto_pad": rng.choice(("SAME_UPPER", "SAME_LOWER", "VALID")),
            "pads": [rng.choice((0, 1)) for _ in range(4)],
            "strides": [2, 1],
            "dilations": [1, 2],
            "ceil_mode": 1,
            "count_include_pad": 1,
            "training_mode": 1,
            "epsilon": rng.choice(VALUES),
            "alpha": rng.choice(VALUES),
            "beta": rng.choice(VALUES),
            "transA": 1,
            "transB": 1,
            "keepdims": 0,
            "allowzero": 1,
            "noop_with_empty_axes": 1,
        }.items(),
    )
    node = pick(rng, nodes(model))
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def operator_changed(model: ModelProto, rng: random.Random) -> None:
    places = [(n, kin) for n in nodes(model) for kin in LIKE if n.op_type in kin]
    node, kin = pick(rng, places)
    node.op_type = rng.choice(kin)


def input_rewired(model: ModelProto, rng: random.Random) -> None:
    node = pick(rng, (n for n in nodes(model) if n.input))
    node.input[rng.randrange(len(node.input))] = rng.choice([*names(model), ""])


def inputs_swapped(model: ModelProto, rng: random.Random) -> None:
    node = pick(rng, (n for n in nodes(model) if len(n.input) > 1))
    order = rng.sample(range(len(node.input)), len(node.input))
    node.input[:] = [node.input[index] for index in order]


def input_dropped(model: ModelProto, rng: random.Random) -> None:
    node = pick(rng, (n for n in nodes(model) if n.input))
    if rng.random() < 0.5:
        node.input.pop()
    else:
        node.input[rng.randrange(len(node.input))] = ""


def input_repeated(model: ModelProto, rng: random.Random) -> None:
    node = pick(rng, (n for n in nodes(model) if n.input))
    node.input.append(rng.choice(node.input))


def output_renamed(model: ModelProto, rng: random.Random) -> None:
    node = pick(rng, (n for n in nodes(model) if n.output))
    node.output[rng.randrange(len(node.output))] = rng.choice([*names(model), "", "fresh"])


def output_added(model: ModelProto, rng: random.Random) -> None:
    pick(rng, nodes(model)).output.append("another")


def node_dropped(model: ModelProto, rng: random.Random) -> None:
    graph = pick(rng, (g for g in graphs(model.graph) if g.node))
    del graph.node[rng.randrange(len(graph.node))]


def node_bypassed(model: ModelProto, rng: random.Random) -> None:
    """Readers of a node read its first input instead."""
    node = pick(rng, (n for n in model.graph.node if n.input and n.output))
    for reader in model.graph.node:
        reader.input[:] = [node.input[0] if i == node.output[0] else i for i in reader.input]


def node_doubled(model: ModelProto, rng: random.Random) -> None:
    """A node stands behind itself once more."""
    at = pick(rng, (i for i, n in enumerate(model.graph.node) if n.input and n.output))
    node = model.graph.node[at]
    twin = NodeProto()
    twin.CopyFrom(node)
    twin.input[0] = inner = f"{node.output[0]}_inner"
    del twin.output[1:]
    node.output[0] = inner
    model.graph.node.insert(at + 1, twin)


def node_inserted(model: ModelProto, rng: random.Random) -> None:
    """Something that moves, or an affine, comes between a value and its readers."""
    at = pick(rng, (i for i, n in enumerate(model.graph.node) if n.output and n.output[0]))
    node = model.graph.node[at]
    old, node.output[0] = node.output[0], f"{node.output[0]}_before"
    kind = rng.choice(("Mul", "Add", "Sub", "Div", "Transpose", "Neg", "Relu", "Identity", "Cast"))
    inputs, attributes = [node.output[0]], {}
    if kind in ("Mul", "Add", "Sub", "Div"):
        inputs.insert(rng.randrange(2), constant(model, rng))
    if kind == "Transpose":
        attributes["perm"] = rng.sample(range(4), 4)
    if kind == "Cast":
        attributes["to"] = rng.choice((TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16))
    made = helper.make_node(kind, inputs, [old], **attributes)
    model.graph.node.insert(at + 1, made)


def constant(model: ModelProto, rng: random.Random) -> str:
    """A new initializer of a shape that may well broadcast."""
    channels = rng.choice((1, 2, 3, 4, 5, 8))
    shape = [*rng.choice(([], [channels], [channels, 1], [channels, 1, 1], [1, channels, 1, 1]))]
    values = np.asarray([rng.uniform(-2, 2) for _ in range(int(np.prod(shape)))], np.float32)
    dtype = helper.tensor_dtype_to_np_dtype(float_type(model))
    name = f"made{len(model.graph.initializer)}"
    model.graph.initializer.append(arrays.from_array(values.reshape(shape).astype(dtype), name))
    return name


def float_type(model: ModelProto) -> int:
    """The float type that the model's weights have."""
    floats = (t.data_type for t in model.graph.initializer if t.data_type in FLOATS)
    return next(floats, TensorProto.FLOAT)


def nodes_shuffled(model: ModelProto, rng: random.Random) -> None:
    kept = list(model.graph.node)
    rng.shuffle(kept)
    del model.graph.node[:]
    model.graph.node.extend(kept)


# -- tensors ------------------------------------------------------------------------------------


def values_changed(model: ModelProto, rng: random.Random) -> None:
    change_values(pick(rng, model.graph.initializer), rng)


def change_values(tensor: TensorProto, rng: random.Random) -> None:
    """One value, or all, become another."""
    array = arrays.to_array(tensor).copy()
    if not array.size or array.dtype.kind not in "fiu":
        raise Inapplicable
    value = rng.choice(VALUES if array.dtype.kind == "f" else (-1, 0, 1, 2, 3, 7))
    with np.errstate(all="ignore"):
        if rng.random() < 0.3:
            array[...] = np.asarray(value).astype(array.dtype)
        else:
            array.flat[rng.randrange(array.size)] = np.asarray(value).astype(array.dtype)
    tensor.CopyFrom(arrays.from_array(array, tensor.name))


def shape_changed(model: ModelProto, rng: random.Random) -> None:
    """A tensor of another shape, with as many values as that needs."""
    tensor = pick(rng, model.graph.initializer)
    array = arrays.to_array(tensor)
    if array.dtype.kind not in "fiu":
        raise Inapplicable
    shape = list(array.shape)
    what = rng.randrange(4)
    if what == 0:
        shape.insert(rng.randint(0, len(shape)), 1)
    elif what == 1 and shape:
        shape.pop(rng.randrange(len(shape)))
    elif what == 2:
        rng.shuffle(shape)
    elif shape:
        shape[rng.randrange(len(shape))] = rng.choice((0, 1, 2, 3, 5))
    tensor.CopyFrom(arrays.from_array(np.resize(array, shape).astype(array.dtype), tensor.name))


def dims_changed(model: ModelProto, rng: random.Random) -> None:
    """Dims that do not fit the data."""
    tensor = pick(rng, (t for t in model.graph.initializer if t.dims))
    tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)


def type_changed(model: ModelProto, rng: random.Random) -> None:
    pick(rng, model.graph.initializer).data_type = rng.randrange(30)


def initializer_dropped(model: ModelProto, rng: random.Random) -> None:
    """A weight becomes an input."""
    at = pick(rng, range(len(model.graph.initializer)))
    tensor = model.graph.initializer[at]
    if rng.random() < 0.5:
        model.graph.input.add().CopyFrom(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )
    if rng.random() < 0.7:
        del model.graph.initializer[at]


def initializer_shared(model: ModelProto, rng: random.Random) -> None:
    """One weight takes the place of another of the same shape."""
    kept, gone = pick(rng, model.graph.initializer), pick(rng, model.graph.initializer)
    for node in nodes(model):
        node.input[:] = [kept.name if name == gone.name else name for name in node.input]


# -- the graph ----------------------------------------------------------------------------------


def tapped(model: ModelProto, rng: random.Random) -> None:
    """A tensor in the middle becomes an output."""
    made = [name for node in model.graph.node for name in node.output if name]
    model.graph.output.add().CopyFrom(
        helper.make_tensor_value_info(pick(rng, made), float_type(model), None)
    )


def input_shape_changed(model: ModelProto, rng: random.Random) -> None:
    value = pick(rng, [*model.graph.input, *model.graph.value_info, *model.graph.output])
    kind = value.type.tensor_type
    if rng.random() < 0.2 or not kind.shape.dim:
        kind.ClearField("shape")
        return
    dim = pick(rng, kind.shape.dim)
    dim.Clear()
    if rng.random() < 0.5:
        dim.dim_param = rng.choice(("N", "M"))
    else:
        dim.dim_value = rng.choice((0, 1, 2, 3, 4, 5, -1, 2**40))


def input_type_changed(model: ModelProto, rng: random.Random) -> None:
    value = pick(rng, [*model.graph.input, *model.graph.output])
    value.type.tensor_type.elem_type = rng.choice((1, 1, 10, 11, 16, 6, 7, 9, 8))


def opset_changed(model: ModelProto, rng: random.Random) -> None:
    pick(rng, model.opset_import).version = rng.choice((1, 6, 7, 8, 9, 11, 13, 15, 17, 18, 21))


def ir_changed(model: ModelProto, rng: random.Random) -> None:
    model.ir_version = rng.randrange(1, 12)


CHANGES: tuple[Change, ...] = (
    attribute_changed,
    attribute_dropped,
    attribute_resized,
    attribute_added,
    operator_changed,
    input_rewired,
    inputs_swapped,
    input_dropped,
    input_repeated,
    output_renamed,
    output_added,
    node_dropped,
    node_bypassed,
    node_doubled,
    node_inserted,
    nodes_shuffled,
    values_changed,
    shape_changed,
    dims_changed,
    type_changed,
    initializer_dropped,
    initializer_shared,
    tapped,
    input_shape_changed,
    input_type_changed,
    opset_changed,
    ir_changed,
)
OFTEN = (node_inserted, node_bypassed, operator_changed, tapped, values_changed, inputs_swapped)
"""Changes that leave most models valid."""


def damaged(model: ModelProto, rng: random.Random) -> tuple[bytes, list[str]]:
    """The model's bytes after a few changes, and which they were."""
    done: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change = rng.choice(OFTEN if rng.random() < 0.5 else CHANGES)
        try:
            change(model, rng)
        except (Inapplicable, ValueError, TypeError, OverflowError, KeyError):
            continue
        done.append(change.__name__)
    data = model.SerializeToString()
    if rng.random() < 0.12:
        data = flipped(data, rng)
        done.append("flipped")
    return data, done


def flipped(data: bytes, rng: random.Random) -> bytes:
    """The bytes with some changed, cut out, or put in."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, what = rng.randrange(len(found)), rng.randrange(4)
        if what < 2:
            found[at] ^= 1 << rng.randrange(8)
        elif what == 2:
            del found[at : at + rng.choice((1, 4, 64))]
        else:
            found[at:at] = bytes([rng.randrange(256)] * rng.choice((1, 3)))
        if not found:
            break
    return bytes(found)


def load(data: bytes) -> ModelProto:
    """A model from bytes that are one."""
    return onnx.load_model_from_string(data)

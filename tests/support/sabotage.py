"""Small networks, ways to break them, and ways to write them differently; each from a seed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser

Rng = np.random.Generator
Fault = Callable[[onnx.ModelProto, Rng], str | None]
"""Breaks a model in place; the tensor where it shows first, None where it does not apply."""

TRAINED = Path(__file__).parents[2] / "models" / "trained"
SMALL = ("digits-relu-bn2", "digits-sigmoid-bn4", "fashion", "textbook-relu")

GENERATED = {
    "plain": """g (float[N,3,10,11] x) => (float[N,P,Q,R] y, float[N,S,T,U] z) {
        a = Conv<pads=[1,1,1,1]>(x, w1{6,3,3,3}, b1{6})
        b = BatchNormalization(a, s1{6}, t1{6}, m1{6}, v1{6})
        c = Relu(b)
        d = Conv<pads=[1,1,1,1]>(c, w2{5,6,3,3}, b2{5})
        y = BatchNormalization(d, s2{5}, t2{5}, m2{5}, v2{5})
        e = Conv<pads=[1,1,1,1]>(c, w3{5,6,3,3})
        f = BatchNormalization(e, s3{5}, t3{5}, m3{5}, v3{5})
        z = Sigmoid(f) }""",
    "residual": """g (float[N,4,9,9] x) => (float[N,4,P,Q] y) {
        a = BatchNormalization(x, s1{4}, t1{4}, m1{4}, v1{4})
        b = Relu(a)
        c = Conv<pads=[1,1,1,1]>(b, w1{8,4,3,3})
        d = BatchNormalization(c, s2{8}, t2{8}, m2{8}, v2{8})
        e = Clip(d, zero, six)
        f = Conv<pads=[1,1,1,1], group=8>(e, w2{8,1,3,3}, b2{8})
        g1 = BatchNormalization(f, s3{8}, t3{8}, m3{8}, v3{8})
        h = Conv(g1, w3{4,8,1,1}, b3{4})
        i = BatchNormalization(h, s4{4}, t4{4}, m4{4}, v4{4})
        y = Add(i, x) }""",
    "head": """g (float[N,2,8,8] x) => (float[N,P] y) {
        a = Conv<strides=[2,2], pads=[0,0,1,1]>(x, w1{6,2,3,3}, b1{6})
        b = BatchNormalization(a, s1{6}, t1{6}, m1{6}, v1{6})
        c = LeakyRelu(b)
        d = ConvTranspose<strides=[2,2]>(c, w2{6,4,2,2}, b2{4})
        e = BatchNormalization(d, s2{4}, t2{4}, m2{4}, v2{4})
        f = GlobalAveragePool(e)
        h = Flatten(f)
        i = Gemm<transB=1>(h, w3{7,4}, b3{7})
        j = BatchNormalization(i, s3{7}, t3{7}, m3{7}, v3{7})
        k = Relu(j)
        y = Gemm(k, w4{7,3}, b4{3}) }""",
}
NETWORKS = (*SMALL, *GENERATED)


def network(name: str, seed: int) -> onnx.ModelProto:
    """A trained network as it is, or a generated one with weights of this seed."""
    if name in SMALL:
        return onnx.load(TRAINED / f"{name}.onnx")
    return _generated(GENERATED[name], np.random.default_rng(seed))


def _generated(text: str, rng: Rng) -> onnx.ModelProto:
    """The text declares each weight where it is used: `w1{6,3,3,3}`."""
    shapes = dict(re.findall(r"(\w+)\{([\d,]+)\}", text))
    plain = re.sub(r"(\w)\{[\d,]+\}", r"\1", text)
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]>\n{plain}')
    arrays = {
        name: _weight(name, tuple(map(int, s.split(","))), rng) for name, s in shapes.items()
    }
    arrays |= {"zero": np.array(0.0), "six": np.array(6.0)} if "zero" in text else {}
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    return model


def _weight(name: str, shape: tuple[int, ...], rng: Rng) -> Any:
    values = rng.standard_normal(shape)
    if name[0] == "v":
        return rng.uniform(0.3, 3.0, shape)
    if name[0] == "s":
        return rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape, p=[0.2, 0.8])
    return values / np.sqrt(np.prod(shape[1:])) if name[0] == "w" else 0.5 * values


# -------------------------------------------------------------------------- faults

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def _stored(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {t.name: t for t in model.graph.initializer}


def _pick(model: onnx.ModelProto, rng: Rng, kinds: Sequence[str], index: int) -> Any:
    """A random node of these types whose input `index` is stored, with that tensor."""
    stored = _stored(model)
    found = [
        (node, stored[node.input[index]])
        for node in model.graph.node
        if node.op_type in kinds and len(node.input) > index and node.input[index] in stored
    ]
    return found[rng.integers(len(found))] if found else (None, None)


def _edit(tensor: onnx.TensorProto, change: Callable[[Any], Any]) -> None:
    array = change(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), tensor.name))


def one_percent(model: onnx.ModelProto, rng: Rng) -> str | None:
    """One weight of one layer changed by one per cent."""
    node, weight = _pick(model, rng, LINEAR, 1)
    if node is None:
        return None
    _edit(weight, lambda a: a * np.float32(1.01))
    return str(node.output[0])


def a_tenth_of_a_percent(model: onnx.ModelProto, rng: Rng) -> str | None:
    """One channel of one weight changed by 0.1 %."""
    node, weight = _pick(model, rng, LINEAR, 1)
    if node is None:
        return None

    def change(array: Any) -> Any:
        array[rng.integers(array.shape[0])] *= np.float32(1.001)
        return array

    _edit(weight, change)
    return str(node.output[0])


def bias_dropped(model: onnx.ModelProto, rng: Rng) -> str | None:
    """A bias becomes zero."""
    node, bias = _pick(model, rng, (*LINEAR, "BatchNormalization"), 2)
    if node is None:
        return None
    _edit(bias, np.zeros_like)
    return str(node.output[0])


def channels_swapped(model: onnx.ModelProto, rng: Rng) -> str | None:
    """Two output channels of a layer trade places."""
    node, weight = _pick(model, rng, ("Conv", "BatchNormalization"), 1)
    if node is None or weight.dims[0] < 2:
        return None
    first, second = rng.choice(weight.dims[0], 2, replace=False)

    def change(array: Any) -> Any:
        array[[first, second]] = array[[second, first]]
        return array

    _edit(weight, change)
    return str(node.output[0])


def pad_moved(model: onnx.ModelProto, rng: Rng) -> str | None:
    """A row of padding goes from one side to the other."""
    padded = [
        (node, attribute)
        for node in model.graph.node
        for attribute in node.attribute
        if node.op_type == "Conv" and attribute.name == "pads" and any(attribute.ints)
    ]
    if not padded:
        return None
    node, attribute = padded[rng.integers(len(padded))]
    sides = len(attribute.ints) // 2
    axis = int(rng.integers(sides))
    if attribute.ints[axis]:
        attribute.ints[axis] -= 1
        attribute.ints[axis + sides] += 1
    else:
        attribute.ints[axis] += 1
        attribute.ints[axis + sides] -= 1
    return str(node.output[0])


def wrong_epsilon(model: onnx.ModelProto, rng: Rng) -> str | None:
    """An epsilon of 1e-3 in the place of 1e-5."""
    nodes = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    if not nodes:
        return None
    node = nodes[rng.integers(len(nodes))]
    kept = [attribute for attribute in node.attribute if attribute.name != "epsilon"]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("epsilon", 1e-3)])
    return str(node.output[0])


def outputs_swapped(model: onnx.ModelProto, rng: Rng) -> str | None:
    """Two tensors that the outputs are made of trade places."""
    names = [output.name for output in model.graph.output]
    if len(names) < 2:
        return None
    other = dict(zip(names[:2], names[1::-1], strict=True))
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            node.output[index] = other.get(name, name)
    made = [name for node in model.graph.node for name in node.output]
    return min(names[:2], key=made.index)


FAULTS: dict[str, Fault] = {
    f.__name__: f
    for f in (one_percent, a_tenth_of_a_percent, bias_dropped, channels_swapped, pad_moved)
} | {f.__name__: f for f in (wrong_epsilon, outputs_swapped)}


# ------------------------------------------------------------------- the same, differently


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def renamed(model: onnx.ModelProto, rng: Rng) -> onnx.ModelProto:
    """Every tensor that is no input or output of the model has another name."""
    model = copied(model)
    fixed = {value.name for value in (*model.graph.input, *model.graph.output)} | {""}
    salt = int(rng.integers(1000))

    def fresh(name: str) -> str:
        return name if name in fixed else f"r{salt}_{name}"

    for tensor in model.graph.initializer:
        tensor.name = fresh(tensor.name)
    for node in model.graph.node:
        node.name = node.name and f"n{salt}_{node.name}"
        node.input[:] = [fresh(name) for name in node.input]
        node.output[:] = [fresh(name) for name in node.output]
    del model.graph.value_info[:]
    return model


def reordered(model: onnx.ModelProto, rng: Rng) -> onnx.ModelProto:
    """Nodes in another order in which each follows its inputs; initializers shuffled."""
    model = copied(model)
    waiting = list(model.graph.node)
    made = {name for node in waiting for name in node.output}
    placed: set[str] = set()
    nodes = []
    while waiting:
        ready = [n for n in waiting if all(i not in made or i in placed for i in n.input)]
        node = ready[rng.integers(len(ready))]
        waiting.remove(node)
        placed.update(node.output)
        nodes.append(node)
    tensors = list(model.graph.initializer)
    order = rng.permutation(len(tensors))
    nodes, shuffled = [copied_node(n) for n in nodes], [copied_tensor(tensors[i]) for i in order]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(shuffled)
    return model


def copied_node(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def copied_tensor(tensor: onnx.TensorProto) -> onnx.TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    return copy

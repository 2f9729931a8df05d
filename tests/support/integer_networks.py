"""Random networks of whole numbers in float types, as integer exports write them.

Layers of small whole weights, scales and shifts by design (powers of two, whole numbers, and a
fortieth or a tenth, which are rounded), activations and steps between, a step at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
Layer = Callable[["Builder", str], str]

TYPES: dict[str, tuple[int, Any]] = {
    "float": (TensorProto.FLOAT, np.float32),
    "double": (TensorProto.DOUBLE, np.float64),
}
CHANNEL = (4, 1, 1)
SCALES = [0.25, 0.5, 2, 3, 7, 0.1, 1 / 40]
DIVISORS = [2, 3, 4, 8, 10, 40]
SHIFTS = [0.5, 1, 3, 128]


@dataclass(slots=True)
class Builder:
    """A network that grows."""

    rng: np.random.Generator
    name: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, array: Any) -> str:
        """A new initializer of the network's type."""
        name = f"k{len(self.weights)}"
        values = np.asarray(array).astype(TYPES[self.name][1])
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """A new node; what it makes."""
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [output], **attributes))
        return output

    def pick(self, values: list[Any]) -> str:
        """One of some numbers."""
        return self.constant(self.rng.choice(values))


def product(b: Builder, x: str) -> str:
    """A Conv or, as no Conv of doubles is at hand everywhere, a MatMul of the channels."""
    weight = b.rng.integers(-4, 5, (4, 4))
    if b.name == "double":
        turned = b.add("Transpose", x, perm=[0, 2, 3, 1])
        sums = b.add("MatMul", turned, b.constant(weight))
        return b.add("Transpose", sums, perm=[0, 3, 1, 2])
    bias = [b.constant(b.rng.integers(-9, 9, 4))] if b.rng.random() < 0.4 else []
    return b.add("Conv", x, b.constant(weight.reshape(4, 4, 1, 1)), *bias)


def normalization(b: Builder, x: str) -> str:
    """One whose scale is a small fraction."""
    parts = [
        b.rng.choice([1, 2, 4], 4),
        b.rng.integers(-3, 4, 4),
        b.rng.integers(-5, 6, 4),
        b.rng.choice([1, 4, 9, 16], 4),
    ]
    return b.add("BatchNormalization", x, *(b.constant(p) for p in parts), epsilon=0.0)


def to_whole(b: Builder, x: str) -> str:
    """To whole numbers and back."""
    return b.add("Cast", b.add("Cast", x, to=TensorProto.INT32), to=TYPES[b.name][0])


LAYERS: list[Layer] = [
    product,
    product,
    product,
    normalization,
    to_whole,
    lambda b, x: b.add("Mul", x, b.pick(SCALES)),
    lambda b, x: b.add("Div", x, b.pick(DIVISORS)),
    lambda b, x: b.add("Sub", x, b.pick(SHIFTS)),
    lambda b, x: b.add("Add", x, b.constant(b.rng.integers(-9, 9, CHANNEL))),
    lambda b, x: b.add("Mul", x, b.constant(b.rng.choice([0.125, 0.5, 1, 2, 3], CHANNEL))),
    lambda b, x: b.add(str(b.rng.choice(["Relu", "Abs"])), x),
    lambda b, x: b.add(str(b.rng.choice(["Floor", "Ceil", "Round", "Sign"])), x),
    lambda b, x: b.add("Add", x, b.add("Div", x, b.constant(5))),
    lambda b, x: b.add("Clip", x, b.constant(-20000), b.constant(20000)),
    lambda b, x: b.add("Concat", x, x, axis=2),
    lambda b, x: b.add("AveragePool", x, kernel_shape=[2, 2]) if b.name == "float" else x,
]


def integer_network(seed: int) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A network, and an input of whole numbers from 0 to 255."""
    rng = np.random.default_rng(seed)
    builder = Builder(rng, "double" if rng.random() < 0.2 else "float")
    value = "x"
    for _ in range(int(rng.integers(3, 9))):
        value = LAYERS[int(rng.integers(len(LAYERS)))](builder, value)
    value = builder.add(str(rng.choice(["Floor", "Ceil", "Round"])), value)
    elem_type, dtype = TYPES[builder.name]
    graph = helper.make_graph(
        builder.nodes,
        "integers",
        [helper.make_tensor_value_info("x", elem_type, [2, 4, 8, 8])],
        [helper.make_tensor_value_info(value, elem_type, None)],
        builder.weights,
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return model, {"x": rng.integers(0, 256, (2, 4, 8, 8)).astype(dtype)}


def every_value(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all that it computes as outputs."""
    whole = onnx.ModelProto()
    whole.CopyFrom(onnx.shape_inference.infer_shapes(model))
    whole.graph.output.extend(whole.graph.value_info)
    return whole

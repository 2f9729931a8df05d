"""Models as one line of text, all numbers small and dyadic, and what holds of them exactly.

    h = Conv<group=2>(X[2,4,5,5], w[6,2,3,3]); y = BN(h, 6)

- `NAME[dims]` declares a tensor where it is read first: capitals are inputs of the graph, the
  others initializers of small integers. `NAME+[...]`: positive ones; `NAME^[...]`: powers of two,
  by which float arithmetic divides exactly; `NAME@[...]`: pairs like (3, 4) along the last axis,
  whose norms are rational; `NAME:int8[...]`, `NAME:bool[...]`: of another type.
- `NAME{1,2}`: an int64 vector; `NAME:float{1,2}` of another type; `NAME=0.5`: a scalar.
- `BN(x, C, flags)`: a BatchNormalization whose variances have rational roots. Its scales are
  powers of two of both signs; flags: `+` none is negative, `-` all are, `0` no shift, `1` all
  channels alike, `z` the first one is zero.
- Ahead of it `@opset=9`; `@keep=g,h`: sites that are to stay; `@left=1`: so many others that do;
  `@rank=h:4`: what no inference knows.

What nothing reads is an output of the graph. With numbers like these every product, sum and
quotient of a fold has few digits, so float64 and float32 hold it exactly, and folded equals
original with `==` or the rule is wrong.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import rational
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bnfold import fold
from bnfold.report import FoldResult

Array = NDArray[Any]

EPSILON = 0.25
ROOTS = (0.5, 1.0, 1.5, 2.0)
"""Square roots of variance plus epsilon."""
SCALES = (0.5, 2.0, 4.0)
TYPES = {
    "float": TensorProto.FLOAT,
    "double": TensorProto.DOUBLE,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}
STATEMENT = re.compile(
    r"^(?P<outputs>[^=]+)=\s*(?P<op>[\w.]+)\s*(?P<attributes><.*>)?\s*\((?P<inputs>.*)\)$"
)
TENSOR = re.compile(
    r"(?P<name>[A-Za-z_]\w*)(?P<sign>[+^@]?)(?::(?P<type>\w+))?"
    r"(?:\[(?P<dims>[^\]]*)\]|\{(?P<values>[^}]*)\}|=(?P<scalar>-?[\d.]+))"
)


@dataclass
class Model:
    """A model with values for its inputs."""

    proto: onnx.ModelProto
    feeds: dict[str, Array]
    keep: tuple[str, ...] = ()
    left: int = 0


@dataclass
class Builder:
    """Reads the statements of one row."""

    rng: np.random.Generator
    dtype: str = "float"
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)
    feeds: dict[str, Array] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def numbers(self, shape: list[int], kind: str, sign: str) -> Array:
        """Random small numbers of a type."""
        if kind == "bool":
            return self.rng.integers(0, 2, shape)
        if kind != self.dtype:
            return self.rng.integers(0, 3, shape)
        if sign == "@":
            pairs = np.array([(3, 4), (-5, 12), (8, -15), (4, 3), (12, 5)])
            return pairs[self.rng.integers(0, len(pairs), shape[:-1])]
        if sign == "^":
            return self.rng.choice([0.5, 2.0, 4.0], shape)
        magnitude = self.rng.integers(1, 4, shape)
        return magnitude if sign == "+" else magnitude * self.rng.choice([-1, 1], shape)

    def declare(self, match: re.Match[str]) -> str:
        """A tensor where it is read first; its name."""
        name, kind = match["name"], match["type"] or self.dtype
        if match["values"] is not None:
            values = np.array([float(v) for v in match["values"].split(",") if v])
            self.store(name, match["type"] or "int64", values)
        elif match["scalar"] is not None:
            self.store(name, kind, np.array(float(match["scalar"])))
        else:
            shape = [int(d) for d in match["dims"].split(",") if d]
            values = self.numbers(shape, kind, match["sign"])
            if name[0].isupper():
                halves = values / 2 if kind == self.dtype and match["sign"] != "@" else values
                self.inputs.append(helper.make_tensor_value_info(name, TYPES[kind], shape))
                self.feeds[name] = halves.astype(helper.tensor_dtype_to_np_dtype(TYPES[kind]))
            else:
                self.store(name, kind, values)
        return name

    def store(self, name: str, kind: str, values: Array) -> None:
        """An initializer."""
        array = values.astype(helper.tensor_dtype_to_np_dtype(TYPES[kind]))
        self.initializers.append(numpy_helper.from_array(array, name))

    def normalization(self, output: str, count: int, flags: str) -> list[str]:
        """The parameters of a BatchNormalization; the names of its inputs but for the first."""
        parts = statistics(self.rng, count, flags)
        for name, values in parts.items():
            self.store(f"{output}_{name}", self.dtype, values)
        return [f"{output}_{name}" for name in parts]

    def statement(self, text: str) -> None:
        """One node."""
        match = STATEMENT.match(text.strip())
        assert match, f"{text!r} is not a statement"
        outputs = [name.strip() for name in match["outputs"].split(",")]
        inputs = TENSOR.sub(self.declare, match["inputs"])
        op, attributes = match["op"], match["attributes"] or ""
        if op == "BN":
            data, count, *flags = [part.strip() for part in inputs.split(",")]
            names = self.normalization(outputs[0], int(count), "".join(flags))
            op, attributes = "BatchNormalization", attributes or f"<epsilon={EPSILON}>"
            inputs = ", ".join([data, *names])
        # The parser knows no absent outputs, and wants "" for absent inputs.
        inputs = ", ".join(part.strip() or '""' for part in inputs.split(","))
        kept = [name or f"absent_{place}" for place, name in enumerate(outputs)]
        node = onnx.parser.parse_node(f"{', '.join(kept)} = {op} {attributes} ({inputs})")
        node.output[:] = outputs
        self.nodes.append(node)

    def model(self, opset: int) -> Model:
        """The graph, with what nothing reads as outputs."""
        read = {name for node in self.nodes for name in node.input}
        made = [name for node in self.nodes for name in node.output if name]
        outputs = [
            helper.make_tensor_value_info(name, TYPES[self.dtype], None)
            for name in made
            if name not in read
        ]
        graph = helper.make_graph(self.nodes, "row", self.inputs, outputs, self.initializers)
        opsets = [helper.make_opsetid("", opset)]
        if any(node.domain == "com.microsoft" for node in self.nodes):
            opsets.append(helper.make_opsetid("com.microsoft", 1))
        return Model(helper.make_model(graph, opset_imports=opsets, ir_version=10), self.feeds)


def statistics(rng: np.random.Generator, count: int, flags: str) -> dict[str, Array]:
    """Parameters of a BatchNormalization: `gamma / sqrt(var + EPSILON)` is a power of two."""
    drawn = 1 if "1" in flags else count
    root = rng.choice(ROOTS, drawn)
    scale = rng.choice(SCALES, drawn) * rng.choice([-1, 1], drawn)
    if "+" in flags or "-" in flags:
        scale = abs(scale) * (1 if "+" in flags else -1)
    if "z" in flags:
        scale[0] = 0
    beta, mean = rng.integers(1, 8, (2, drawn)) / 4 * rng.choice([-1, 1], (2, drawn))
    if "0" in flags:
        beta, mean = np.zeros(drawn), np.zeros(drawn)
    parts = {"gamma": scale * root, "beta": beta, "mean": mean, "var": root**2 - EPSILON}
    return {name: np.broadcast_to(values, count) for name, values in parts.items()}


def build(text: str, *, dtype: str = "float") -> Model:
    """A row as a model; the same every time."""
    settings: dict[str, str] = {}
    while match := re.match(r"@(\w+)=(\S+)\s*", text):
        settings[match[1]], text = match[2], text[match.end() :]
    builder = Builder(np.random.default_rng(zlib.crc32(text.encode())), dtype)
    for part in text.split(";"):
        builder.statement(part)
    model = builder.model(int(settings.get("opset", 18)))
    model.keep = tuple(settings.get("keep", "").split(",")) if "keep" in settings else ()
    model.left = int(settings.get("left", 0))
    if "rank" in settings:
        name, rank = settings["rank"].split(":")
        described = helper.make_tensor_value_info(name, TYPES[dtype], [None] * int(rank))
        model.proto.graph.value_info.append(described)
    return model


# ------------------------------------------------------------------ what holds of it


def differences(
    original: Model, folded: onnx.ModelProto, before: dict[str, Any] | None = None
) -> list[str]:
    """Names of tensors in both models that do not hold the very same rational numbers.

    `before` is what the original computes, where that is known.
    """
    if before is None:
        before = rational.evaluate(original.proto, original.feeds)
    after = rational.evaluate(folded, original.feeds)
    outputs = {output.name for output in original.proto.graph.output}
    assert outputs <= set(after), f"outputs are missing: {outputs - set(after)}"
    return [n for n in before if n in after and not is_same(before[n], after[n])]


def is_same(one: Array | list[Array], other: Array | list[Array]) -> bool:
    """Whether two tensors, or two sequences of them, hold the same numbers."""
    if isinstance(one, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return np.array_equal(one, other)


def check(model: Model) -> FoldResult:
    """Fold, and assert that nothing is left and that all is equal; the result of the fold."""
    result = fold(model.proto, keep=model.keep)
    sources = {(node.output[0], node.op_type) for node in model.proto.graph.node}
    kept = [
        site
        for site in result.sites
        if site.verdict == "kept"
        and site.tensor not in model.keep
        and (site.tensor, site.op_type) in sources
    ]
    stays = "\n".join(f"{s.tensor} ({s.op_type}): {s.code} {s.detail}" for s in kept)
    assert len(kept) == model.left, stays
    wrong = differences(model, result.model)
    assert not wrong, f"differ: {', '.join(wrong)}"
    return result

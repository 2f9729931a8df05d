"""Models as one line of text: the notation of the tables in `tests/rules`.

A row is a few statements, `;` between them, each in ONNX's own syntax for nodes. On top of it:

    h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h)

- `NAME[dims]` declares a tensor where it is read first: capitals are inputs of the graph, the
  others are initializers with random values. Sizes are letters (see `SIZES`) or expressions of
  them; a small letter is a symbolic dimension of the size that the capital has.
- `NAME+[dims]`, `NAME-[dims]`: positive or negative values only; `NAME:int64%4[dims]`: of another
  type, below a bound.
- `NAME{1,C,-1}`: an int64 vector of these values; `NAME:float{0.5}` of another type;
  `NAME:float=0.5` a scalar.
- `_` as an operand: an optional one that is absent.
- `BN[C,flags](x)`: a BatchNormalization with random parameters: gammas of both signs and a zero.
  Flags: `+` and `-` all gammas of that sign, `!` none is zero, `z` the first one is,
  `0` no shift, `1` all channels alike.
- `h[dims] = ...` says the shape of a result, where inference cannot tell.
- `@opset=13`, `@type=float16`, ... ahead of it set what `Row` names.

What nothing reads is an output of the graph, unless its name begins with `_`. Every row is built
twice: with all sizes different, and with all sizes equal, where a wrong axis hides.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZES = {
    "different": dict(zip("NCOHWDEMKLT", (2, 6, 10, 7, 9, 5, 3, 11, 8, 13, 4), strict=True)),
    "equal": dict.fromkeys("NCOHWDEMKLT", 4),
}
"""Sizes of the letters; C, O and K are even, so they can be cut in two groups."""

TYPES = {
    "float": (TensorProto.FLOAT, np.float32),
    "double": (TensorProto.DOUBLE, np.float64),
    "float16": (TensorProto.FLOAT16, np.float16),
    "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
    "int64": (TensorProto.INT64, np.int64),
    "int32": (TensorProto.INT32, np.int32),
    "int8": (TensorProto.INT8, np.int8),
    "uint8": (TensorProto.UINT8, np.uint8),
    "bool": (TensorProto.BOOL, np.bool_),
}

STATEMENT = re.compile(
    r"^(?P<outputs>[^=(]+?)\s*=\s*(?P<op>[\w.]+?)(?:\[(?P<bn>[^\]]*)\])?"
    r"\s*(?P<attributes><.*>)?\s*\((?P<inputs>.*)\)\s*$"
)
TENSOR = re.compile(
    r"(?P<name>[A-Za-z_]\w*)(?P<sign>[+-]?)(?::(?P<type>\w+))?(?:%(?P<below>\w+))?"
    r"(?:\[(?P<dims>[^\]]*)\]|\{(?P<values>[^}]*)\}|=(?P<scalar>-?[\w.]+))"
)


@dataclass(frozen=True)
class Row:
    """One line of a table, read: what `@name=value` may set."""

    name: str
    text: str
    opset: int = 18
    ir: int = 10
    type: str = "float"
    stats: str = ""
    """The type of BatchNormalization's statistics, where it is another one."""
    kept: tuple[str, ...] = ()
    """Sites that stay."""
    keep: tuple[str, ...] = ()
    """Sites that are asked to stay, so that others have to pass."""
    judge: bool = False
    """ONNX Runtime has no kernel: only the float64 evaluation compares."""
    runtime: bool = False
    """There is no float64 evaluation: only ONNX Runtime compares."""
    since: str = ""
    """The version of ONNX Runtime that runs it first, where that is not the lowest one."""
    teeth: str = ""
    """Why a fault of one percent cannot show in this row."""


def parse_row(name: str, text: str) -> Row:
    """The settings in front of a row, and the rest."""
    settings: dict[str, Any] = {}
    while match := re.match(r"\s*@(\w+)(?:=(\"[^\"]*\"|\S+))?\s*", text):
        key, value = match.groups()
        text = text[match.end() :]
        kinds = {"opset": int, "ir": int, "judge": bool, "runtime": bool}
        kinds |= dict.fromkeys(("kept", "keep"), lambda v: tuple(v.split(",")))
        settings[key] = kinds.get(key, lambda v: v.strip('"'))(value or "yes")
    return Row(name, text, **settings)


@dataclass
class Built:
    """A row as a model, with data for its inputs."""

    row: Row
    model: onnx.ModelProto
    feeds: dict[str, np.ndarray]


@dataclass
class Builder:
    """Reads the statements of one row for one set of sizes."""

    row: Row
    sizes: dict[str, int]
    rng: np.random.Generator
    inputs: dict[str, onnx.ValueInfoProto] = field(default_factory=dict)
    initializers: dict[str, TensorProto] = field(default_factory=dict)
    feeds: dict[str, np.ndarray] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    known: list[onnx.ValueInfoProto] = field(default_factory=list)

    def number(self, text: str) -> Any:
        """A size, an expression of sizes, or a number."""
        text = text.strip()
        if text.islower() and text.upper() in self.sizes:
            return self.sizes[text.upper()]
        return eval(text, {"__builtins__": {}}, {**self.sizes, "inf": np.inf, "nan": np.nan})

    def numbers(self, text: str) -> list[Any]:
        """A list of them."""
        return [self.number(part) for part in text.split(",")] if text.strip() else []

    def random(self, shape: list[int], kind: str, sign: str, below: str | None) -> np.ndarray:
        """Values of a type: normal ones, or integers below a bound."""
        dtype = TYPES[kind][1]
        if kind == "bool":
            return self.rng.integers(0, 2, shape).astype(dtype)
        if kind.startswith(("int", "uint")):
            lowest = 1 if sign == "+" else 0
            return self.rng.integers(lowest, self.number(below or "2"), shape).astype(dtype)
        values = self.rng.standard_normal(shape)
        if sign:
            values = (np.abs(values) + 0.2) * (1 if sign == "+" else -1)
        return np.asarray(values).astype(dtype)

    def declare(self, match: re.Match[str]) -> str:
        """A tensor where it is read first; its name."""
        name, kind = match["name"], match["type"]
        if match["dims"] is None:
            text = match["values"] if match["scalar"] is None else match["scalar"]
            values = np.array(self.numbers(text), TYPES[kind or "int64"][1])
            self.store(name, values if match["scalar"] is None else values.reshape(()))
            return name
        kind = kind or self.row.type
        shape = self.numbers(match["dims"])
        values = self.random(shape, kind, match["sign"], match["below"])
        if name[0].isupper():
            symbols = [d.strip() for d in match["dims"].split(",")] if shape else []
            dims = [s if s.islower() else n for s, n in zip(symbols, shape, strict=True)]
            self.inputs[name] = helper.make_tensor_value_info(name, TYPES[kind][0], dims)
            self.feeds[name] = values
        else:
            self.store(name, values)
        return name

    def store(self, name: str, values: np.ndarray) -> None:
        """An initializer."""
        self.initializers[name] = numpy_helper.from_array(values, name)

    def normalization(self, output: str, text: str) -> str:
        """The parameters of a BatchNormalization; its inputs but for the first."""
        size, *flags = [part.strip() for part in text.split(",")]
        count = self.number(size)
        draw = 1 if "1" in flags else count
        gamma = (0.3 + np.abs(self.rng.standard_normal(draw))) * self.rng.choice([-1, 1], draw)
        beta, mean = self.rng.standard_normal((2, draw)) + 0.3
        var = self.rng.uniform(0.3, 2.0, draw)
        if draw > 2:
            gamma[0], gamma[1], gamma[2], var[2] = -0.8, 0.0, 1.3, 0.01
        if "!" in flags:
            gamma = np.where(gamma == 0, 0.7, gamma)
        if "+" in flags or "-" in flags:
            gamma = np.abs(np.where(gamma == 0, 0.7, gamma)) * (1 if "+" in flags else -1)
        if "z" in flags:
            gamma[0] = 0.0
        if "0" in flags:
            beta = mean = np.zeros(draw)
        data, stats = (TYPES[kind][1] for kind in (self.row.type, self.row.stats or self.row.type))
        if self.row.stats and self.row.opset >= 15:
            data = stats
        parts = {"gamma": gamma, "beta": beta, "mean": mean, "var": var}
        for part, values in parts.items():
            kind = data if part in ("gamma", "beta") else stats
            self.store(f"{output}_{part}", np.broadcast_to(values, count).astype(kind))
        return ", ".join(f"{output}_{part}" for part in parts)

    def describe(self, match: re.Match[str]) -> str:
        """A result whose shape is said; its name."""
        element = TYPES[match["type"] or self.row.type][0]
        shape = self.numbers(match["dims"])
        self.known.append(helper.make_tensor_value_info(match["name"], element, shape))
        return match["name"]

    def statement(self, text: str) -> None:
        """One node."""
        match = STATEMENT.match(" ".join(text.split()))
        assert match, f"{text!r} is not a statement"
        op, attributes = match["op"], match["attributes"] or ""
        attributes = re.sub(
            r"(?<![\w\"])[A-Z](?![\w\"])", lambda m: str(self.sizes[m[0]]), attributes
        )
        inputs = TENSOR.sub(self.declare, match["inputs"])
        outputs = TENSOR.sub(self.describe, match["outputs"])
        if op == "BN":
            op = "BatchNormalization"
            first = outputs.split(",")[0].strip()
            inputs = f"{inputs}, {self.normalization(first, match['bn'])}"
        node = onnx.parser.parse_node(f"{outputs} = {op} {attributes} ({inputs})")
        node.input[:] = ["" if name == "_" else name for name in node.input]
        self.nodes.append(node)

    def model(self) -> onnx.ModelProto:
        """The graph with what nothing reads as outputs."""
        read = {name for node in self.nodes for name in node.input}
        made = [name for node in self.nodes for name in node.output if name]
        loose = [name for name in made if name not in read and name[0] != "_"]
        element = TYPES[self.row.type][0]
        outputs = [helper.make_tensor_value_info(name, element, None) for name in loose]
        proto = helper.make_graph(
            self.nodes,
            "row",
            list(self.inputs.values()),
            outputs,
            list(self.initializers.values()),
        )
        proto.value_info.extend(info for info in self.known if info.name in read)
        said = {info.name: info for info in self.known}
        for output in proto.output:
            if output.name in said:
                output.CopyFrom(said[output.name])
        opsets = [helper.make_opsetid("", self.row.opset)]
        if any(node.domain == "com.microsoft" for node in self.nodes):
            opsets.append(helper.make_opsetid("com.microsoft", 1))
        model = helper.make_model(proto, opset_imports=opsets, ir_version=self.row.ir)
        if self.row.ir < 4:
            graph_inputs = model.graph.input
            graph_inputs.extend(
                helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
                for t in model.graph.initializer
            )
        return typed(model)


def typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """With the types of the outputs that inference finds."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for output in bare.graph.output:
        if not output.type.tensor_type.HasField("shape"):
            output.ClearField("type")
    inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    for output, found in zip(model.graph.output, inferred.graph.output, strict=True):
        if found.type.HasField("tensor_type") and found.type.tensor_type.elem_type:
            output.CopyFrom(found)
    return model


def build(row: Row, regime: str) -> Built:
    """A row with one set of sizes; the same every time."""
    seed = zlib.crc32(f"{row.name} {regime}".encode())
    builder = Builder(row, SIZES[regime], np.random.default_rng(seed))
    for text in row.text.split(";"):
        if text.strip():
            builder.statement(text)
    return Built(row, builder.model(), builder.feeds)


def row(text: str) -> Built:
    """A row outside of a table, with all sizes different."""
    return build(parse_row("", text), "different")


def parameters(name: str, size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """The parameters of a BatchNormalization, called `{name}g`, `b`, `m` and `v`."""
    rng = np.random.default_rng([seed, size])
    values = {
        "g": (0.3 + np.abs(rng.standard_normal(size))) * rng.choice([-1, 1], size),
        "b": rng.standard_normal(size),
        "m": rng.standard_normal(size),
        "v": rng.uniform(0.3, 2.0, size),
    }
    return {f"{name}{part}": array.astype(np.float32) for part, array in values.items()}


def graph(text: str, arrays: dict[str, np.ndarray], *, opset: int = 18, ir: int = 10) -> Built:
    """A model from ONNX's own text, with initializers, and random data for its inputs."""
    header = f'<ir_version: {ir}, opset_import: ["": {opset}]>'
    model = onnx.parser.parse_model(f"{header} agraph {text}")
    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in arrays.items()]
    model.graph.initializer.extend(tensors)
    rng, feeds = np.random.default_rng(1), {}
    for info in model.graph.input:
        kind = info.type.tensor_type
        shape = [d.dim_value or 2 for d in kind.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        feeds[info.name] = np.asarray(rng.standard_normal(shape) * 2).astype(dtype)
    return Built(Row("", text, opset=opset, ir=ir), model, feeds)

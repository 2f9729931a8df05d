"""Files that a hostile hand could make: a name, what makes the file, and what is said of it.

`expected` is a piece of the error, or None where the model is handled: whatever is said then, it
is said without an error of bnfold's own making.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

TEXT = """
<ir_version: 8, opset_import: ["": 17]>
net (float[1,2,3] x) => (float[1,2,3] y)
<float[2,2,1] w = {1, 2, 3, 4}, float[2] one = {1, 1}, float[2] zero = {0, 0}> {
  h = Conv(x, w)
  y = BatchNormalization(h, one, zero, zero, one)
}
"""
OUTSIDE = "outside of the model's folder"
FAR = 1 << 34
"""A size of which no machine holds as many numbers."""


@dataclass(frozen=True)
class Hostile:
    """One file: `make` writes it into a folder and gives its path."""

    make: Callable[[Path], Path]
    expected: str | None
    is_slow: bool = False


def small() -> ModelProto:
    """A model without fault."""
    return onnx.parser.parse_model(TEXT)


def written(folder: Path, data: bytes) -> Path:
    path = folder / "bad.onnx"
    path.write_bytes(data)
    return path


def changed(change: Callable[[ModelProto], object], expected: str | None) -> Hostile:
    """The small model after a change."""

    def make(folder: Path) -> Path:
        model = small()
        change(model)
        return written(folder, model.SerializeToString())

    return Hostile(make, expected)


def text(body: str, expected: str | None = None, **arrays: Any) -> Hostile:
    """A model as text, with some initializers."""

    def make(folder: Path) -> Path:
        model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {body}')
        for name, values in arrays.items():
            array = np.asarray(values)
            array = array.astype(np.float32) if array.dtype == np.float64 else array
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        return written(folder, model.SerializeToString())

    return Hostile(make, expected)


# -- external data ------------------------------------------------------------------------------


def external(
    expected: str, prepare: Callable[[Path], object] = lambda _: None, **entries: object
) -> Hostile:
    """A weight in another file, described by `entries`; 16 bytes lie at w.bin and outside."""

    def make(folder: Path) -> Path:
        (folder / "w.bin").write_bytes(bytes(16))
        (folder.parent / "secret.bin").write_bytes(bytes(16))
        prepare(folder)
        model = small()
        weight = model.graph.initializer[0]
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in ({"location": "w.bin"} | entries).items():
            weight.external_data.add(key=key, value=str(value))
        return written(folder, model.SerializeToString())

    return Hostile(make, expected)


def link(target: str, name: str = "link.bin") -> Callable[[Path], object]:
    return lambda folder: (folder / name).symlink_to(target)


def folder_link(folder: Path) -> None:
    (folder / "sub").symlink_to("..", target_is_directory=True)


def linked_twice(folder: Path) -> None:
    (folder / "one.bin").symlink_to("two.bin")
    (folder / "two.bin").symlink_to("../secret.bin")


# -- graphs -------------------------------------------------------------------------------------


def tensor(model: ModelProto, **fields: object) -> None:
    """Change fields of the weight."""
    weight = model.graph.initializer[0]
    for name, value in fields.items():
        weight.ClearField(name)  # type: ignore[arg-type]
        if isinstance(value, list):
            getattr(weight, name).extend(value)
        elif value is not None:
            setattr(weight, name, value)


def strings(model: ModelProto) -> None:
    """A convolution by words."""
    weight = model.graph.initializer[0]
    weight.CopyFrom(helper.make_tensor("w", TensorProto.STRING, [2, 2, 1], ["a", "b", "c", "d"]))


def sparse(indices: list[int], dims: list[int], values: int = 1) -> Callable[[ModelProto], None]:
    """The weight as a sparse tensor."""

    def change(model: ModelProto) -> None:
        del model.graph.initializer[0]
        made = model.graph.sparse_initializer.add(dims=dims)
        made.values.CopyFrom(numpy_helper.from_array(np.ones(values, np.float32), "w"))
        made.indices.CopyFrom(numpy_helper.from_array(np.array(indices, np.int64), "i"))

    return change


def reference(model: ModelProto) -> None:
    """An attribute that a function would get from its caller, where there is none."""
    model.graph.node[0].attribute.add(name="axis", ref_attr_name="axis", type=2)


def unnamed(model: ModelProto) -> None:
    model.graph.node[0].output[0] = ""
    model.graph.node[1].input[0] = ""


def names(model: ModelProto) -> None:
    """Node names that repeat, or are empty, are legal."""
    for node in model.graph.node:
        node.name = "twice"


def loop_of_functions(model: ModelProto) -> None:
    """A function that calls itself."""
    model.graph.node[0].CopyFrom(helper.make_node("Again", ["x"], ["h"], domain="own"))
    model.opset_import.add(domain="own", version=1)
    inner = [helper.make_node("Again", ["a"], ["b"], domain="own")]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", "Again", ["a"], ["b"], inner, imports))


def wide(count: int) -> Callable[[Path], Path]:
    """A node with so many inputs, written without onnx's slow helpers."""

    def make(folder: Path) -> Path:
        node = onnx.NodeProto(op_type="Sum", input=["x"] * count, output=["y"])
        value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
        graph = helper.make_graph([node], "g", [value], [output])
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, ir_version=8, opset_imports=opset)
        return written(folder, model.SerializeToString())

    return make


def long(count: int, op_type: str = "Sigmoid", *more: str) -> Callable[[Path], Path]:
    """A chain of so many nodes, in reverse order; `more` are inputs that all of them read."""

    def make(folder: Path) -> Path:
        model = small()
        del model.graph.node[:]
        chain = [f"t{i}" for i in range(count)]
        for before, after in reversed(list(zip(["x", *chain], [*chain, "y"], strict=True))):
            model.graph.node.add(op_type=op_type, input=[before, *more], output=[after])
        del model.graph.output[0].type.tensor_type.shape.dim[:]
        model.graph.output[0].type.tensor_type.ClearField("shape")
        model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "axis"))
        return written(folder, model.SerializeToString())

    return make


def computed(count: int, size: int) -> Callable[[Path], Path]:
    """A weight that so many nodes in a row compute from an initializer of this size."""

    def make(folder: Path) -> Path:
        model = onnx.parser.parse_model(
            f'<ir_version: 8, opset_import: ["": 17]> g (float[{size}] x) => (float[{size}] y)'
            f" {{ y = Mul(x, k{count}) }}"
        )
        last = model.graph.node.pop()
        for i in range(count):
            model.graph.node.add(op_type="Neg", input=[f"k{i}"], output=[f"k{i + 1}"])
        model.graph.node.append(last)
        ones = np.ones(size, np.float32)
        model.graph.initializer.append(numpy_helper.from_array(ones, "k0"))
        return written(folder, model.SerializeToString())

    return make


def factors(count: int) -> Callable[[Path], Path]:
    """So many multiplications behind one large weight, which takes in all of them."""

    def make(folder: Path) -> Path:
        model = small()
        del model.graph.node[1:]
        model.graph.node[0].output[0] = "t0"
        for i in range(count):
            output = "y" if i == count - 1 else f"t{i + 1}"
            model.graph.node.add(op_type="Mul", input=[f"t{i}", "f"], output=[output])
        for dims in (model.graph.input, model.graph.output):
            dims[0].type.tensor_type.shape.dim[1].dim_value = 128
        for name, shape in (("w", (128, 128, 1)), ("f", (128, 1))):
            array = np.random.default_rng(0).uniform(0.99, 1.01, shape).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        del model.graph.initializer[:3]
        return written(folder, model.SerializeToString())

    return make


def doubled_functions(levels: int) -> Callable[[Path], Path]:
    """Functions of which each calls the one before twice: two to that power operators run."""

    def make(folder: Path) -> Path:
        model = small()
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        inner = [helper.make_node("Relu", ["a"], ["b"])]
        for i in range(levels):
            name = f"F{i}"
            made = helper.make_function("own", name, ["a"], ["b"], inner, opsets)
            model.functions.append(made)
            inner = [
                helper.make_node(name, ["a"], ["h"], domain="own"),
                helper.make_node(name, ["h"], ["b"], domain="own"),
            ]
        model.graph.node[0].output[0] = "g"
        model.graph.node.insert(1, helper.make_node(f"F{levels - 1}", ["g"], ["h"], domain="own"))
        model.opset_import.append(opsets[1])
        return written(folder, model.SerializeToString())

    return make


def doubled_vector(times: int) -> Callable[[Path], Path]:
    """A vector of sizes, joined to itself so often; how long it was at first is computed."""
    joins = " ".join(f"v{i + 1} = Concat<axis=0>(v{i}, v{i})" for i in range(times))
    return text(
        f"""(float[4,4,4] x) => (float[a,b,c] y) <int64[1] one = {{1}}, int64[1] zero = {{0}}> {{
            s = Shape(x) s0 = Shape<start=0,end=1>(x) e = Sub(s0, one) v0 = Slice(s, zero, e)
            {joins} r = Gather<axis=0>(v{times}, zero) y = Expand(x, r) }}"""
    ).make


def nested(levels: int) -> Callable[[Path], Path]:
    """Graphs within each other, in wire format: no library writes so many."""

    def make(folder: Path) -> Path:
        inner = b""
        for _ in range(levels):
            for key in (b"\x32", b"\x2a", b"\x0a"):  # a graph of an attribute of a node of a graph
                inner = key + varint(len(inner)) + inner
        return written(folder, b"\x08\x08\x3a" + varint(len(inner)) + inner)

    return make


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    found = b""
    while number > 127:
        found += bytes([number & 127 | 128])
        number >>= 7
    return found + bytes([number])


def long_length(folder: Path) -> Path:
    """A field that claims to be longer than the file, by terabytes."""
    return written(folder, b"\x08\x08\x3a" + varint(1 << 42) + b"\x0a\x00")


def many_empty(folder: Path) -> Path:
    """A million nodes of two bytes each: small in the file, large once it is read."""
    graph = b"\x0a\x00" * 1_000_000
    return written(folder, b"\x08\x08\x42\x02\x10\x11\x3a" + varint(len(graph)) + graph)


BN = {"s": [1.0, 2.0], "z": [0.0, 0.0]}
W = np.ones((2, 2, 1, 1))
M = np.array([[[1.0]], [[2.0]]])
COLUMN, ROW = np.arange(1.0, 100_001).reshape(-1, 1), np.arange(1.0, 100_001).reshape(1, -1)

CASES: dict[str, Hostile] = {
    # -- where weights are
    "data in the parent": external(OUTSIDE, location="../secret.bin"),
    "data by a detour": external(OUTSIDE, location="sub/../../secret.bin"),
    "data by an absolute path": external(OUTSIDE, location=os.path.abspath("/etc/passwd")),
    "data behind a link": external(OUTSIDE, link("../secret.bin"), location="link.bin"),
    "data behind two links": external(OUTSIDE, linked_twice, location="one.bin"),
    "data behind a linked folder": external(OUTSIDE, folder_link, location="sub/secret.bin"),
    "data on a device": external(OUTSIDE, link("/dev/zero"), location="link.bin"),
    "data in a pipe": external("", lambda f: os.mkfifo(f / "p.bin"), location="p.bin"),
    "data in a loop of links": external("", link("link.bin"), location="link.bin"),
    "data in a folder": external("does not exist", location="."),
    "data past the end": external("too short", offset=4),
    "data far past the end": external("too short", offset=2**62),
    "data before the start": external("offset '-4'", offset=-4),
    "data without end": external("", length=2**62),
    "data of another length": external("has 12 bytes", length=12),
    "data at no number": external("offset '0x10'", offset="0x10"),
    # -- nothing at all, and what is nowhere
    **{
        f"a constant of no elements: {op}": text(
            f"(float[2,0] x) => (float[2,0] y) {{ y = {op}(x, s) }}", None, s=np.zeros(0)
        )
        for op in ("Add", "Sub", "Mul", "Div")
    },
    "a convolution of no channels": text(
        "(float[2,2,4] x) => (float[2,0,4] y) { r = Conv(x, w) "
        "y = BatchNormalization(r, s, s, s, s) }",
        None,
        w=np.zeros((0, 2, 1)),
        s=np.zeros(0),
    ),
    "branches of no channels": text(
        "(float[n,4] x) => (float[n,0] y) { a = MatMul(x, w) b = MatMul(x, w) c = Add(a, b) "
        "y = Add(c, s) }",
        None,
        w=np.zeros((4, 0)),
        s=np.zeros(0),
    ),
    "an attribute by reference": changed(reference, "is in no function"),
    # -- dims and types
    "negative dims": changed(lambda m: tensor(m, dims=[-2, -2, 1]), "negative dimension"),
    "absurd dims": changed(lambda m: tensor(m, dims=[2**62]), "needs 4611686018427387904"),
    "overflowing dims": changed(lambda m: tensor(m, dims=[2**32, 2**32]), "holds 4 values"),
    "dims that overflow to what is there": changed(
        lambda m: tensor(m, dims=[2**62, 4, 4, 2**62]), "holds 4 values"
    ),
    "a weight of the wrong size": changed(lambda m: tensor(m, dims=[2, 3, 1]), "`w` holds 4"),
    "no weight at all": changed(lambda m: tensor(m, float_data=None), "`w` holds 0"),
    "an odd number of bytes": changed(
        lambda m: tensor(m, float_data=None, raw_data=b"123"), "holds 3 bytes"
    ),
    "a weight of strings": changed(strings, None),
    "a weight of no type": changed(lambda m: tensor(m, data_type=0), "unknown type 0"),
    "a weight of a type to come": changed(lambda m: tensor(m, data_type=99), "unknown type 99"),
    "a sparse weight": changed(sparse([0], [2, 2, 1]), None),
    "a sparse weight past its end": changed(sparse([99], [2, 2, 1]), "valid ONNX model"),
    "an endless sparse weight": changed(sparse([0], [2**62, 2**62, 1]), "valid ONNX model"),
    "a sparse weight of no indices": changed(sparse([], [2, 2, 1]), "valid ONNX model"),
    # -- names and order
    "a cycle": changed(lambda m: m.graph.node[0].input.__setitem__(0, "y"), "form a cycle"),
    "a name twice": changed(lambda m: m.graph.node[1].output.append("h"), "more than one"),
    "empty names": changed(unnamed, ""),
    "node names that repeat": changed(names, None),
    "nodes out of order": changed(lambda m: m.graph.node.reverse(), None),
    "an unknown operator": changed(lambda m: setattr(m.graph.node[0], "op_type", "Konv"), "Konv"),
    "a name that is not UTF-8": Hostile(
        lambda folder: written(folder, small().SerializeToString().replace(b"\x01h", b"\x01\xff")),
        "not UTF-8",
    ),
    "a function of itself": changed(loop_of_functions, ""),
    # -- size and depth
    "ten thousand levels": Hostile(nested(10_000), "bad.onnx"),
    "a hundred thousand inputs": Hostile(wide(100_000), None),
    "a million inputs": Hostile(wide(1_000_000), None, is_slow=True),
    "ten thousand nodes backwards": Hostile(long(10_000), None),
    "ten thousand signs": Hostile(long(10_000, "Neg"), None, is_slow=True),
    "ten thousand dimensions": Hostile(long(10_000, "Unsqueeze", "axis"), None, is_slow=True),
    "two thousand constants in a row": Hostile(computed(2_000, 2), None),
    "large constants in a row": Hostile(computed(400, 10_000), None),
    "more folds than Python's stack": Hostile(factors(400), None),
    "functions that double": Hostile(doubled_functions(40), None),
    "a vector that doubles": Hostile(doubled_vector(40), None),
    "a million empty nodes": Hostile(many_empty, "has no operator"),
    "a field of terabytes": Hostile(long_length, "is damaged"),
    # -- what asks for terabytes
    "a constant of terabytes": text(
        "(float[1] x) => (float[a] y) { o = ConstantOfShape(i) y = Mul(x, o) }", i=[2**20] * 3
    ),
    "a range without end": text(
        "(int64[1] x) => (int64[a] y) { o = Range(a0, b0, c0) y = Mul(x, o) }",
        a0=np.array(0),
        b0=np.array(2**60),
        c0=np.array(1),
    ),
    "a complex size": text(
        "(float[1] x) => (float[a] y) { o = ConstantOfShape(i) y = Mul(x, o) }",
        i=np.array([2 + 1j]),
    ),
    "complex pads": text(
        "(float[1,2,4,4] x) => (float[1,2,a,b] y) { p = Pad(x, i) q = Mul(p, k) y = Conv(q, w) }",
        i=np.array([0, 0, 0, 0, 0, 0, 0, 0], np.complex64),
        k=2.0,
        w=W,
    ),
    "a shape of billions": text(
        f"(float[1,2,4,4] x, int64[{FAR}] s) => (float y)"
        " { r = Reshape(x, s) e = Expand(r, s) y = Mul(e, k) }",
        k=2.0,
    ),
    "an equation that is none": text(
        "(float[2,3] x, float[3,4] z) => (float y)"
        ' { e = Einsum<equation="a-b">(x, z) y = Mul(e, k) }',
        k=2.0,
    ),
    "a constant of nothing": text(
        "(float[1,2,4,4] x) => (float y) { c = Constant() m = Mul(c, x) y = Mul(m, k) }", k=2.0
    ),
    "an empty bias": text(
        "(float[2,4,5] x) => (float[2,4,5] y)"
        " { l = LayerNormalization<axis=1>(x, f, e) y = Mul(l, k) }",
        f=np.ones((4, 5)),
        e=np.ones((0, 5)),
        k=2.0,
    ),
    "a repetition without end": text(
        "(float[1] x) => (float[a] y) { o = Tile(r, i) y = Mul(x, o) }",
        r=[1.0, 2.0],
        i=[2**40],
    ),
    "a computed repetition": text(
        "(float[1] x) => (float[a] y) { p = Mul(i, i) o = Tile(r, p) y = Mul(x, o) }",
        r=[1.0, 2.0],
        i=[2**21],
    ),
    "padding without end": text(
        "(float[1] x) => (float[a] y) { o = Pad(r, i) y = Mul(x, o) }",
        r=[1.0, 2.0],
        i=[2**40, 0],
    ),
    "a sum of a row and a column": text(
        "(float[1] x) => (float[a,b] y) { o = Add(c, r) y = Mul(x, o) }", c=COLUMN, r=ROW
    ),
    "a product of a column and a row": text(
        "(float[1] x) => (float[a,b] y) { o = MatMul(c, r) y = Mul(x, o) }", c=COLUMN, r=ROW
    ),
    "an affine of a row and a column": text(
        "(float[100000,100000] x) => (float[100000,100000] y)"
        " { q = MatMul(x, w) o = Mul(q, c) y = Mul(o, r) }",
        c=COLUMN,
        r=ROW,
        w=COLUMN,
    ),
    "an affine that is repeated": text(
        "(float[1,2,1,1] x) => (float[1,b,1,1] y) { c = Mul(x, m) t = Tile(c, i) y = Conv(t, w) }",
        w=W,
        m=M,
        i=[1, FAR, 1, 1],
    ),
    "few channels beside billions": text(
        f"(float[1,2,1,1] x, float[1,{FAR},1,1] v) => (float[1,c,1,1] y)"
        " { b = BatchNormalization(x,s,z,z,s) k = Concat<axis=1>(b, v) y = Conv(k, w) }",
        **BN,
        w=W,
    ),
    "few channels of billions": text(
        f"(float[1,{FAR},1,1] x) => (float[1,2,1,1] y)"
        " { c = Relu(x) k = Slice(c, a, e, i) y = BatchNormalization(k,s,z,z,s) }",
        **BN,
        a=[0],
        e=[2],
        i=[1],
    ),
    "a vector of billions": text(
        f"(float[2,{FAR}] x) => (float[{2 * FAR}] y)"
        " { c = Mul(x, m) t = Reshape(c, i) y = Neg(t) }",
        m=[[1.0], [2.0]],
        i=[2 * FAR],
    ),
    "a pool as large as a house": text(
        "(float[1,2,h,w] x) => (float[1,2,a,b] y)"
        " { c = Conv(x, v) p = AveragePool<kernel_shape=[60001,60001],"
        "pads=[30000,30000,30000,30000],count_include_pad=1>(x) y = Add(c, p) }",
        v=W,
    ),
    "two billion groups": text(
        "(float[1,2,h,w] x) => (float[1,2,a,b] y)"
        " { c = Conv<group=2000000000>(x, v) y = BatchNormalization(c,s,z,z,s) }",
        **BN,
        v=np.ones((2, 1, 1, 1)),
    ),
    "an axis twice": text(
        "(float[2,4,5] x) => (float[a,b,c] y)"
        " { t = Unsqueeze(x, i) y = BatchNormalization(t,s,z,z,s) }",
        i=[1, 1, 2],
        s=[1.0],
        z=[0.0],
    ),
    "a thousand dimensions": text(
        f"(float[{','.join(['1'] * 1000)}] x) => (float y) {{ a = Relu(x) y = Mul(a, k) }}", k=2.0
    ),
    "an input that nobody can fill": text(
        f"(float[1,2,{FAR},4] x) => (float[1,2,a,b] y)"
        " { h = Conv(x, w) y = BatchNormalization(h,s,z,z,s) }",
        **BN,
        w=W,
    ),
}

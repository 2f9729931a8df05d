"""The data of large tensors comes out of a serialized model, and back in where it was."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnfold import wire
from bnfold.target import Target, Task
from bnfold.validation import tensors
from bnfold.wire import Unreadable, cut, spliced

LARGE = np.arange(8192, dtype=np.float32)
UNKNOWN = b"\xa2\x3e\x03abc"  # field 1,000


def everywhere() -> onnx.ModelProto:
    """A model with a large tensor as an initializer, a constant, in a branch and in a function."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "own": 1]>
        g (bool c, float[8192] x) => (float[8192] y) {
          h = Add(x, w) k = own.Shift(h)
          y = If(c) <then_branch = t () => (float[8192] a) { a = Add(k, v) },
                    else_branch = e () => (float[8192] b) { b = Neg(k) }>
        }
        <domain: "own", opset_import: ["": 17]> Shift (x) => (y) { y = Identity(x) }"""
    )
    model.graph.initializer.append(numpy_helper.from_array(LARGE, "w"))
    model.graph.initializer[0].doc_string = "behind the data"
    branch = model.graph.node[-1].attribute[0].g
    branch.initializer.append(numpy_helper.from_array(LARGE + 1, "v"))
    for nodes, name in ((model.graph.node, "c1"), (model.functions[0].node, "c2")):
        value = numpy_helper.from_array(LARGE + 2, "")
        nodes.insert(0, helper.make_node("Constant", [], [name], value=value))
    return model


class Part:
    """A range of a serialized model."""

    def __init__(self, data: bytes, tensor: TensorProto) -> None:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        start = int(entries["offset"])
        self.data = data[start : start + int(entries["length"])]
        self.length = len(self.data)

    def tasks(self, target: Target, place: int) -> Iterator[Task]:
        yield lambda: target.write(self.data, place)


def whole(data: bytes, light: bytes) -> bytes:
    pieces = spliced(light, lambda tensor: Part(data, tensor))
    return b"".join(piece if isinstance(piece, bytes) else piece.data for piece in pieces)  # type: ignore[attr-defined]


def test_out_and_back() -> None:
    """Cutting leaves next to nothing, wherever a tensor stands; splicing gives the same bytes."""
    data = everywhere().SerializeToString(deterministic=True) + UNKNOWN
    light = cut(memoryview(data), "m.onnx")
    assert len(light) < 2000 < 4 * LARGE.nbytes < len(data)
    assert whole(data, light) == data
    model = onnx.ModelProto.FromString(light)
    assert sum(t.data_location == TensorProto.EXTERNAL for _, t in tensors(model)) == 4
    model_again = onnx.ModelProto.FromString(whole(data, model.SerializeToString()))
    assert model_again == onnx.ModelProto.FromString(data)


def test_references_are_ranges_of_the_file() -> None:
    """A tensor that was cut says at which bytes of the file its data is."""
    data = everywhere().SerializeToString()
    light = onnx.ModelProto.FromString(cut(memoryview(data), "m.onnx"))
    for _, tensor in tensors(light):
        found = np.frombuffer(Part(data, tensor).data, np.float32)
        assert found[0] in (0, 1, 2)
        np.testing.assert_array_equal(found - found[0], LARGE)


def one(**fields: object) -> bytes:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[8192] x) => (float[8192] y)'
        " { y = Add(x, w) }"
    )
    tensor = numpy_helper.from_array(LARGE, "w")
    for name, value in fields.items():
        tensor.ClearField(name)  # type: ignore[arg-type]
        if isinstance(value, list):
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)
    model.graph.initializer.append(tensor)
    return model.SerializeToString()


@pytest.mark.parametrize(
    "fields",
    [
        {"dims": [8191]},
        {"dims": [-8192]},
        {"data_type": 99},
        {"data_type": TensorProto.STRING},
        {"data_location": TensorProto.EXTERNAL},
        {"doc_string": "x" * 20_000},
    ],
    ids=str,
)
def test_what_is_odd_stays(fields: dict[str, object]) -> None:
    """A tensor that is not plainly what its dims say stays whole, for the checks to see."""
    data = one(**fields)
    assert cut(memoryview(data), "m.onnx") == data


def test_data_that_is_said_to_be_here() -> None:
    """A tensor that says that its data is in the file, as `onnx.load` leaves it, is cut too."""
    data = one(data_location=TensorProto.DEFAULT)
    light = cut(memoryview(data), "m.onnx")
    assert len(light) < 1000
    tensor = onnx.ModelProto.FromString(light).graph.initializer[0]
    assert tensor.data_location == TensorProto.EXTERNAL
    assert Part(data, tensor).data == LARGE.tobytes()


def test_data_twice_stays() -> None:
    """Raw data that comes twice, of which protobuf takes the last, is left to protobuf."""
    tensor = numpy_helper.from_array(LARGE, "w").SerializeToString()
    twice = tensor + TensorProto(raw_data=LARGE[::-1].tobytes()).SerializeToString()
    field = b"\x2a" + wire.encoded(len(twice)) + twice
    data = b"\x3a" + wire.encoded(len(field)) + field
    assert cut(memoryview(data), "m.onnx") == data


@pytest.mark.parametrize(
    "data",
    [b"\x00" * 20_000, b"\x0b\x0c", b"\x3a\xff\xff\x03ab", b"\xff" * 20, b"\x3a"],
    ids=["zeros", "groups", "too short", "long number", "nothing behind a key"],
)
def test_unreadable(data: bytes) -> None:
    """What is no message is refused, and never walked past its end."""
    with pytest.raises(Unreadable):
        cut(memoryview(data), "m.onnx")


def test_too_many_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of endless fields is given up, so that it costs no time here."""
    monkeypatch.setattr(wire, "MOST_FIELDS", 10)
    with pytest.raises(Unreadable):
        cut(memoryview(everywhere().SerializeToString()), "m.onnx")

"""Models come in checked and go out whole or not at all."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnfold import layout
from bnfold.errors import ModelError, OutputError
from bnfold.modelio import check_output, load_model, open_model, save_model

SMALL = """
<ir_version: 8, opset_import: ["": 17]>
small (float[1,2,3] x) => (float[1,2,3] y)
<float[2,2,1] w = {1, 2, 3, 4}, float[2] one = {1, 1}, float[2] zero = {0, 0}> {
  h = Conv(x, w)
  y = BatchNormalization(h, one, zero, zero, one)
}
"""


def small() -> onnx.ModelProto:
    return onnx.parser.parse_model(SMALL)


def graph(text: str, header: str = '<ir_version: 8, opset_import: ["": 17]>') -> onnx.ModelProto:
    return onnx.parser.parse_model(f"{header}\n{text}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "small.onnx"


def refusal(model: onnx.ModelProto | Path | str) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(model)
    assert caught.value.hint
    assert "\n" not in str(caught.value) + caught.value.hint
    return str(caught.value)


# -- reading ------------------------------------------------------------------------------------


def test_round_trip(path: Path) -> None:
    """What was saved is what is loaded."""
    save_model(small(), path)
    assert load_model(path) == small() == load_model(str(path))


def test_proto_passes_through() -> None:
    """A ModelProto comes back itself, and unchanged."""
    model = small()
    assert load_model(model) is model
    assert model == small()


def test_unknown_domain() -> None:
    """Operators of domains that nobody here knows do not stop a model."""
    model = graph(
        "g (float[1] x) => (float[1] y) { h = com.microsoft.FusedMatMul(x, x) "
        "y = my.own.Thing <a = 1> (h) }",
        '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1, "my.own": 3]>',
    )
    assert load_model(model) is model


def test_unsorted_nodes_are_sorted() -> None:
    """Nodes out of order, which runtimes accept, come sorted; the argument stays as it was."""
    model = graph("g (float[1] x) => (float[1] y) { h = Relu(x) y = Abs(h) }")
    model.graph.node.reverse()
    loaded = load_model(model)
    assert [n.op_type for n in loaded.graph.node] == ["Relu", "Abs"]
    assert [n.op_type for n in model.graph.node] == ["Abs", "Relu"]


def test_sorting_sees_captures() -> None:
    """A subgraph's captured value counts as read by the node that holds the subgraph."""
    model = graph(
        "g (bool c, float[1] x) => (float[1] y) { h = Relu(x) "
        "y = If(c) <then_branch = t () => (float[1] a) { a = Abs(h) }, "
        "else_branch = e () => (float[1] b) { b = Neg(x) }> }"
    )
    model.graph.node.reverse()
    assert [n.op_type for n in load_model(model).graph.node] == ["Relu", "If"]


def test_old_files_that_runtimes_accept() -> None:
    """IR version 3 with an initializer that is no graph input loads, as in runtimes."""
    model = small()
    model.ir_version = 3
    assert load_model(model) is model


def test_shapes_and_types_that_runtimes_infer() -> None:
    """An input without a shape and an output without a type load, as in runtimes."""
    model = small()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    model.graph.output[0].ClearField("type")
    assert load_model(model) is model


def test_unknown_fields_survive(path: Path) -> None:
    """Protobuf fields of a later onnx are written as they were read."""
    path.write_bytes(small().SerializeToString() + b"\xa2\x3e\x03abc")  # field 1,000
    copy = path.with_name("copy.onnx")
    save_model(load_model(path), copy)
    assert b"\xa2\x3e\x03abc" in copy.read_bytes()


# -- files that are no models -------------------------------------------------------------------


FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "text": (b"hello world\n" * 9, "is text"),
    "truncated": (small().SerializeToString()[:-40], "is truncated: at least 34 bytes"),
    "damaged": (b"\x08\x08\xff\xff\xff" + bytes(range(256)), "damaged"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
    "page": (b"\n<!DOCTYPE html><html>", "web page"),
    "archive": (b"PK\x03\x04whatever", "PyTorch checkpoint"),
    "gzip": (b"\x1f\x8b\x08\x00", "gzip"),
    "no graph": (b"\x08\x08", "holds no graph"),
}


@pytest.mark.parametrize("fault", FILES)
def test_no_model(path: Path, fault: str) -> None:
    """A file that is something else is called what it is."""
    data, expected = FILES[fault]
    path.write_bytes(data)
    assert expected in refusal(path)


def test_missing_file_suggests(path: Path) -> None:
    """A misspelt name is answered with the name that is there."""
    save_model(small(), path)
    with pytest.raises(ModelError, match=r"smal\.onnx does not exist") as caught:
        load_model(path.with_name("smal.onnx"))
    assert "small.onnx" in caught.value.hint


def test_folder(path: Path) -> None:
    """A folder is refused with a model in it as the suggestion."""
    save_model(small(), path)
    with pytest.raises(ModelError, match="is a folder") as caught:
        load_model(path.parent)
    assert "small.onnx" in caught.value.hint


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_does_not_hang(path: Path) -> None:
    """A named pipe that nobody writes to is refused at once."""
    os.mkfifo(path)
    assert "not a regular file" in refusal(path)


@pytest.mark.parametrize("name", ["a\0b.onnx", "x" * 5000])
def test_impossible_paths(name: str) -> None:
    """A path that no system accepts is an error about the path."""
    assert "cannot be read" in refusal(name)


# -- models that are broken ---------------------------------------------------------------------


def tensor(model: onnx.ModelProto, **fields: object) -> None:
    """Change fields of the first initializer."""
    target = model.graph.initializer[0]
    for name, value in fields.items():
        target.ClearField(name)  # type: ignore[arg-type]
        if isinstance(value, list):
            getattr(target, name).extend(value)
        elif value is not None:
            setattr(target, name, value)


def nest(model: onnx.ModelProto, levels: int) -> None:
    inner = model.graph
    for _ in range(levels):
        node = inner.node.add(op_type="If", output=["y"])
        attribute = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH)
        inner = attribute.g


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "y"


def unmake(model: onnx.ModelProto) -> None:
    model.graph.node[0].output[0] = "other"


def rename(name: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[1].output[0] = name

    return change


BROKEN: dict[str, tuple[Callable[[onnx.ModelProto], object], str]] = {
    "negative dim": (lambda m: tensor(m, dims=[-2, 2]), "negative dimension, -2"),
    "absurd dim": (lambda m: tensor(m, dims=[2**62]), "needs 4611686018427387904"),
    "overflowing dims": (lambda m: tensor(m, dims=[2**62] * 4), "`w` holds 4 values"),
    "short raw": (lambda m: tensor(m, float_data=None, raw_data=b"123"), "3 bytes where 2×2×1"),
    "no data": (lambda m: tensor(m, float_data=None), "`w` holds 0 values"),
    "unknown type": (lambda m: tensor(m, data_type=99), "unknown type 99"),
    "type zero": (lambda m: tensor(m, data_type=0), "unknown type 0"),
    "new opset": (lambda m: setattr(m.opset_import[0], "version", 999), "opset 999 of ai.onnx"),
    "opset zero": (lambda m: setattr(m.opset_import[0], "version", 0), "opset 0"),
    "new IR": (lambda m: setattr(m, "ir_version", 99), "IR version 99"),
    "no IR": (lambda m: m.ClearField("ir_version"), "IR version is missing"),
    "no opset": (lambda m: m.ClearField("opset_import"), "which opset it uses"),
    "cycle": (cycle, "form a cycle"),
    "name twice": (rename("h"), "`h` is given to more than one tensor"),
    "name of an input": (rename("x"), "`x` is given to more than one tensor"),
    "dangling": (unmake, "BatchNormalization of `y` reads `h`, which nothing makes"),
    "no type": (lambda m: m.graph.input[0].ClearField("type"), "input `x` has no type"),
    "no maker": (lambda m: m.graph.node.pop(), "no node makes its output `y`"),
    "unknown operator": (lambda m: setattr(m.graph.node[0], "op_type", "Konv"), "Konv"),
    "too few inputs": (lambda m: m.graph.node[0].input.pop(), "Conv"),
    "two initializers": (
        lambda m: m.graph.initializer.append(m.graph.initializer[0]),
        "`w` is given to more than one tensor",
    ),
    "deep": (lambda m: nest(m, 40), "nest deeper than 33"),
    "very deep": (lambda m: nest(m, 3000), "nest deeper than 33"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_model(fault: str) -> None:
    """Each fault is named with the user's own tensor, in one line, and with a hint."""
    change, expected = BROKEN[fault]
    model = small()
    change(model)
    assert expected in refusal(model)


@pytest.mark.parametrize("fault", [c for c in BROKEN if "deep" not in c])
def test_broken_file(path: Path, fault: str) -> None:
    """The same faults in a file are told with the file's name."""
    model = small()
    BROKEN[fault][0](model)
    path.write_bytes(model.SerializeToString())
    message = refusal(path)
    assert message.startswith(f"{path} ")
    assert BROKEN[fault][1] in message


def test_deep_file(path: Path) -> None:
    """Ten thousand levels of subgraphs in a file neither crash nor hang."""
    inner = b""
    for _ in range(10_000):
        for key in (b"\x32", b"\x2a", b"\x0a"):  # g of an attribute of a node of a graph
            size, length = len(inner), b""
            while size > 127:
                length, size = length + bytes([size & 127 | 128]), size >> 7
            inner = key + length + bytes([size]) + inner
    size, length = len(inner), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    path.write_bytes(b"\x08\x08\x3a" + length + bytes([size]) + inner)
    assert re.search("too deeply|damaged", refusal(path))  # older parsers do not say which


def test_many_inputs() -> None:
    """A node with a hundred thousand inputs is handled."""
    names = [f"i{i}" for i in range(100_000)]
    node = helper.make_node("Sum", names, ["y"])
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in names]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    model = helper.make_model(helper.make_graph([node], "g", inputs, [output]), ir_version=8)
    assert load_model(model) is model


def test_constant_sizes_are_checked() -> None:
    """A tensor in a Constant node, in a subgraph too, is checked like an initializer."""
    constant = helper.make_node(
        "Constant", [], ["k"], value=TensorProto(data_type=1, dims=[3], raw_data=b"1234")
    )
    model = small()
    model.graph.node.insert(0, constant)
    assert "`k` holds 4 bytes where 3 float needs 12" in refusal(model)


PACKED = [
    *(name for name in ("INT4", "UINT4", "FLOAT4E2M1", "INT2", "UINT2")),
    *(name for name in ("BFLOAT16", "FLOAT16", "FLOAT8E4M3FN", "COMPLEX64", "COMPLEX128")),
    *(name for name in ("BOOL", "INT8", "UINT64", "DOUBLE")),
]


@pytest.mark.parametrize("name", [n for n in PACKED if n in TensorProto.DataType.keys()])  # noqa: SIM118  (an enum wrapper, not a dict)
@pytest.mark.parametrize("raw", [False, True])
def test_every_type_has_its_size(name: str, raw: bool) -> None:
    """Packed, wide and complex elements are counted as onnx's own helper stores them."""
    kind = TensorProto.DataType.Value(name)
    values = np.ones(5, helper.tensor_dtype_to_np_dtype(kind))
    held = (
        numpy_helper.from_array(values, "k")
        if raw
        else helper.make_tensor("k", kind, [5], values.tolist())
    )
    model = small()
    model.graph.initializer.append(held)
    assert load_model(model) is model


def test_strings() -> None:
    """A string tensor is counted by its strings."""
    model = small()
    model.graph.initializer.append(helper.make_tensor("s", TensorProto.STRING, [2], ["a", "b"]))
    load_model(model)
    model.graph.initializer[-1].dims[0] = 3
    assert "`s` holds 2 values where 3 string needs 3" in refusal(model)


# -- external data ------------------------------------------------------------------------------


WEIGHT = np.arange(4, dtype=np.float32)
LARGE = np.arange(2**16, dtype=np.float32)


def external(path: Path, **entries: object) -> Path:
    """Write a model whose weight is in another file, described by `entries`."""
    model = small()
    weight = model.graph.initializer[0]
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": "w.bin"} | entries).items():
        weight.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_is_loaded(path: Path) -> None:
    """Data beside the model is read from its offset, and the model holds it itself."""
    path.with_name("w.bin").write_bytes(b"12345678" + WEIGHT.tobytes() + b"rest")
    loaded = load_model(external(path, offset=8, length=16))
    assert not loaded.graph.initializer[0].external_data
    np.testing.assert_array_equal(
        numpy_helper.to_array(loaded.graph.initializer[0]).ravel(), WEIGHT
    )


def large_external(path: Path) -> Path:
    """A model with one weight that is too large to be read at once, in a file beside it."""
    model = small()
    model.graph.initializer.append(numpy_helper.from_array(LARGE, "large"))
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=1024)
    return path


def test_large_weights_are_left(path: Path) -> None:
    """Opening checks where large weights are, and reads none of them."""
    stored = open_model(large_external(path))
    assert stored.proto.graph.initializer[-1].data_location == TensorProto.EXTERNAL
    assert stored.whole().graph.initializer[-1].raw_data == LARGE.tobytes()
    path.with_name("w.bin").unlink()
    with pytest.raises(ModelError, match="does not exist"):
        open_model(path)


def test_cache_of_links(tmp_path: Path) -> None:
    """Model and data as links into one other folder, as in the Hugging Face cache, load."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    external(blobs / "abc").with_name("def").write_bytes(WEIGHT.tobytes())
    (snapshot / "model.onnx").symlink_to(blobs / "abc")
    (snapshot / "w.bin").symlink_to(blobs / "def")
    assert load_model(snapshot / "model.onnx").graph.initializer[0].raw_data == WEIGHT.tobytes()


def test_unloaded_proto_is_refused(path: Path) -> None:
    """A ModelProto whose data is elsewhere has no folder to look in."""
    path.with_name("w.bin").write_bytes(WEIGHT.tobytes())
    model = onnx.load(external(path), load_external_data=False)
    assert "was not loaded" in refusal(model)


OUTSIDE = "outside of the model's folder"
REFERENCES: dict[str, tuple[dict[str, object], str]] = {
    "missing": ({"location": "v.bin"}, "v.bin does not exist"),
    "parent": ({"location": "../secret.bin"}, OUTSIDE),
    "parent of a folder": ({"location": "sub/../../secret.bin"}, OUTSIDE),
    "absolute": ({"location": "/etc/passwd"}, OUTSIDE),
    "link": ({"location": "link.bin"}, OUTSIDE),
    "folder": ({"location": "."}, "does not exist"),
    "no location": ({"location": ""}, "does not exist"),
    "null character": ({"location": "a\0b"}, "not a usable path"),
    "loop": ({"location": "loop.bin"}, ""),
    "offset past the end": ({"offset": 10**6}, "too short"),
    "end past the end": ({"offset": 4}, "too short"),
    "huge offset": ({"offset": 10**18}, "too short"),
    "negative offset": ({"offset": -4}, "offset '-4'"),
    "no number": ({"offset": "four"}, "offset 'four'"),
    "astronomic": ({"length": "9" * 5000}, "length '999"),
    "wrong length": ({"length": 12}, "has 12 bytes in w.bin where its dims need 16"),
}


@pytest.mark.parametrize("fault", REFERENCES)
def test_bad_reference(path: Path, fault: str) -> None:
    """Data outside of the folder or past the end of its file is refused before it is read."""
    entries, expected = REFERENCES[fault]
    folder = path.parent / "models"
    folder.mkdir()
    (path.parent / "secret.bin").write_bytes(WEIGHT.tobytes())
    (folder / "w.bin").write_bytes(WEIGHT.tobytes())
    (folder / "link.bin").symlink_to(path.parent / "secret.bin")
    (folder / "loop.bin").symlink_to(folder / "loop.bin")
    assert expected in refusal(external(folder / "m.onnx", **entries))


# -- writing ------------------------------------------------------------------------------------


def test_same_bytes(path: Path) -> None:
    """The same model gives the same bytes."""
    save_model(small(), path)
    first = path.read_bytes()
    save_model(small(), path)
    assert path.read_bytes() == first
    assert [entry.name for entry in path.parent.iterdir()] == ["small.onnx"]


def test_nothing_is_left_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure at any step keeps the old file and removes the temporary one."""
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            if step == "replace":
                patch.setattr(Path, "replace", fail)
            with pytest.raises(OutputError, match="No space left"):
                save_model(small(), path)
        assert path.read_bytes() == b"old"
        assert [entry.name for entry in path.parent.iterdir()] == ["small.onnx"]


def test_interrupt_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt while writing leaves no file at all."""

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_model(small(), path)
    assert not list(path.parent.iterdir())


def test_existing_file(path: Path) -> None:
    """Without force an existing file stays, and the error says how to go on."""
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="already exists") as caught:
        save_model(small(), path, force=False)
    assert "--force" in caught.value.hint
    assert path.read_bytes() == b"old"
    save_model(small(), path)
    assert load_model(path) == small()


def test_bad_targets(tmp_path: Path) -> None:
    """A folder, a missing folder and an impossible name are errors about the path."""
    cases = {
        tmp_path: "is a folder",
        tmp_path / "no" / "m.onnx": "there is no folder",
        tmp_path / "a\0b": "cannot be written",
        tmp_path / ("x" * 300): "cannot be written",
    }
    for target, expected in cases.items():
        with pytest.raises(OutputError, match=expected):
            save_model(small(), target)
    assert not list(tmp_path.iterdir())


def test_unwritable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without permission is an error before any work is done."""
    monkeypatch.setattr(os, "access", lambda *_: False)  # real permissions do not bind root
    with pytest.raises(OutputError, match="no permission"):
        check_output(tmp_path / "m.onnx", force=True)


def test_mode_and_link_survive(tmp_path: Path) -> None:
    """Replacing a file keeps its permissions; a link keeps pointing at what was replaced."""
    real, link = tmp_path / "real.onnx", tmp_path / "link.onnx"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    save_model(small(), link)
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert load_model(real) == small()


def test_past_two_gibibytes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that protobuf cannot write keeps its weights in a file beside it, whole."""
    model = small()
    weight = np.arange(2**20, dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "large"))
    model.graph.node.insert(
        0, helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(weight))
    )
    model.metadata_props.add(key="a", value="b")
    expected = onnx.ModelProto()
    expected.CopyFrom(model)
    monkeypatch.setattr(layout, "PROTOBUF_LIMIT", 2**16)
    save_model(model, path)
    assert model == expected, "the argument is not changed"
    assert path.stat().st_size < 2**16
    monkeypatch.undo()
    loaded = load_model(path)
    assert loaded.graph.initializer[-1].raw_data == weight.tobytes()
    assert onnx.load(path).graph.node[0].attribute[0].t.raw_data == weight.tobytes()
    assert loaded == expected
    for entry in onnx.load(path, load_external_data=False).graph.initializer[-1].external_data:
        if entry.key == "offset":
            assert int(entry.value) % layout.ALIGNMENT == 0


# -- corpus -------------------------------------------------------------------------------------


CORPUS = Path(__file__).parents[2] / "shared" / "corpus" / "models"


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the corpus beside the project")
def test_real_models_load(path: Path) -> None:
    """Every real model that runtimes accept loads, and is written with the same contents."""
    for model in sorted(CORPUS.glob("*.onnx")):
        loaded = load_model(model)
        save_model(loaded, path)
        assert load_model(path) == loaded, model.name


def test_messages_name_no_internals() -> None:
    """No message speaks of protobuf's or the checker's internals."""
    for change, _ in BROKEN.values():
        model = small()
        change(model)
        assert not re.search(r"==>|Proto\b|Traceback", refusal(model))


@pytest.mark.parametrize("old", [b"Conv", b"small", b"h\n\x03one"])
def test_text_that_is_not_utf8(path: Path, old: bytes) -> None:
    """A name that is not UTF-8 is refused, wherever it stands."""
    data = small().SerializeToString()
    assert old in data
    path.write_bytes(data.replace(old, b"\xff" + old[1:]))
    assert re.search(r"is not UTF-8|which nothing makes", refusal(path))

"""Large weights stay in their files until they are needed, and what comes out is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnfold import constants, folding, graph, weights, wire
from bnfold.branches import kernels
from bnfold.constants import AffineConstant, Constant
from bnfold.culprit import distances
from bnfold.equivalence import verify
from bnfold.errors import ModelError
from bnfold.folding import fold, inspect
from bnfold.modelio import load_model, open_model
from bnfold.weights import Range

TEXT = """
<ir_version: 8, opset_import: ["": 17]>
g (float[N,128] x) => (float[N,128] y, float[N,64] z) {
  a = MatMul(x, w1) b = BatchNormalization(a, s, s, s, s) c = Relu(b)
  d = Gemm(c, w2, s) e = Relu(d) f = BatchNormalization(e, s, s, s, s) i = Gemm(f, w3, s)
  j = Relu(i) y = MatMul(j, w4) k = MatMul(j, w5) l = Transpose<perm = [1, 0]>(w6) m = MatMul(j, l)
  n = Add(k, m) z = Sigmoid(n)
}
"""
SHAPES = {"w1": (128, 256), "w2": (256, 256), "w3": (256, 256), "w4": (256, 128), "w5": (256, 64)}


@pytest.fixture
def model() -> onnx.ModelProto:
    """Products with a normalization behind and in front, and some that nothing touches."""
    rng = np.random.default_rng(5)
    model = onnx.parser.parse_model(TEXT)
    for name, shape in {**SHAPES, "w6": (64, 256), "s": (256,)}.items():
        values = (rng.random(shape) + 0.5).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


@pytest.fixture
def path(model: onnx.ModelProto, tmp_path: Path) -> Path:
    """The model with its weights in a data file."""
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.data")
    return tmp_path / "net.onnx"


def by_tensor(model: onnx.ModelProto, path: Path) -> None:
    """One file a tensor, some of them below the model's folder, and no lengths."""
    (path.parent / "parts").mkdir()
    for index, tensor in enumerate(model.graph.initializer):
        location = f"parts/{tensor.name}" if index % 2 else f"{tensor.name}.bin"
        (path.parent / location).write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
    onnx.save(model, path)


def unaligned(model: onnx.ModelProto, path: Path) -> None:
    """One file with the tensors back to front at odd offsets, two of them on the same bytes."""
    data = b"?"
    for tensor in reversed(model.graph.initializer):
        if tensor.name != "w3":
            wire.refer(tensor, "all.bin", len(data), len(tensor.raw_data))
            data += tensor.raw_data + b"!"
            tensor.ClearField("raw_data")
    held = {t.name: t for t in model.graph.initializer}
    _, offset, length = (entry.value for entry in held["w2"].external_data)
    held["w3"].ClearField("raw_data")
    wire.refer(held["w3"], "all.bin", int(offset), int(length))
    path.with_name("all.bin").write_bytes(data)
    onnx.save(model, path)


def inside(model: onnx.ModelProto, path: Path) -> None:
    """All in the model file."""
    onnx.save(model, path)


@pytest.mark.parametrize("layout", [by_tensor, unaligned, inside])
@pytest.mark.parametrize("kind", [True, False])
def test_every_layout(model: onnx.ModelProto, tmp_path: Path, layout: object, kind: bool) -> None:
    """Wherever the weights are, the fold is that of the model in memory, and so is its file."""
    layout(model, tmp_path / "net.onnx")  # type: ignore[operator]
    original = onnx.load(tmp_path / "net.onnx")
    for tensor in original.graph.initializer:
        tensor.ClearField("data_location")  # onnx leaves it, as a default
    expected = fold(original)
    found = fold(tmp_path / "net.onnx")
    assert (
        [s.verdict for s in found.sites] == [s.verdict for s in expected.sites] == ["folded"] * 2
    )
    target = tmp_path / "out.onnx"
    found.save(target, external=kind)
    assert load_model(target) == found.model == expected.model
    onnx.checker.check_model(target)
    assert target.with_name("out.onnx.data").exists() == kind
    assert verify(tmp_path / "net.onnx", target, samples=2, isolate=False)


def test_only_what_a_fold_needs_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of large weights only those are looked at that take something in, and none before."""
    looked: list[tuple[int, ...]] = []
    array = Range.array

    def noted(self: Range, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        looked.append(shape)
        return array(self, dtype, shape)

    def small_only(self: Range) -> bytes:
        assert self.length < wire.SMALL
        return read(self)

    read = Range.read
    monkeypatch.setattr(Range, "array", noted)
    monkeypatch.setattr(Range, "read", small_only)
    open_model(path)
    assert not looked
    monkeypatch.setattr(Range, "read", read)
    report = inspect(path, reparameterize=False)
    assert len(report.folded) == 2
    assert set(looked) <= {SHAPES["w1"], SHAPES["w3"]}, "w2, w4, w5 and w6 take in nothing"


@pytest.mark.parametrize(("held", "large"), [(0, 1 << 25), (1 << 27, 0), (0, 0)])
def test_computed_again(
    path: Path, held: int, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that are not held, and computed again when they are written, are the same bytes."""
    expected = path.with_name("expected.onnx"), path.with_name("again.onnx")
    fold(path).save(expected[0], external=False)
    monkeypatch.setattr(graph, "HELD", held)
    monkeypatch.setattr(graph, "LARGE", large)
    monkeypatch.setattr(graph, "TINY", 0)
    result = fold(path)
    assert result.stored.weights.kept, "something is computed again"
    result.save(expected[1], external=False)
    assert expected[0].read_bytes() == expected[1].read_bytes()
    assert result.model == load_model(expected[0])
    assert verify(path, result.model, samples=2, isolate=False)


def counted(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> list[object]:
    """The first argument of every call, from now on."""
    calls: list[object] = []
    function = getattr(owner, name)

    def noted(*arguments: object, **keywords: object) -> object:
        calls.append(arguments[0])
        return function(*arguments, **keywords)

    monkeypatch.setattr(owner, name, noted)
    return calls


def test_a_weight_is_computed_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not held is computed when it is written, and not for the check before."""
    expected = fold(path, reparameterize=False).model
    monkeypatch.setattr(graph, "HELD", 0)
    monkeypatch.setattr(graph, "TINY", 1 << 12)
    monkeypatch.setattr(constants, "BLOCK_ELEMENTS", 1 << 10)
    rows = counted(monkeypatch, AffineConstant, "rows")
    blocks = counted(monkeypatch, Constant, "_stored_rows")
    exact = counted(monkeypatch, Constant, "exact")
    result = fold(path, reparameterize=False)
    large = [c for c in (*rows, *blocks, *exact) if c.nbytes > graph.TINY]
    assert not large, "nothing was computed to check it"
    result.save(path.with_name("out.onnx"))
    assert {c.shape for c in rows} == {SHAPES["w1"], SHAPES["w3"]}
    assert len(rows) == 2
    assert sum(c is rows[0] for c in blocks) == len(constants.row_blocks(rows[0].shape)) > 4
    assert load_model(path.with_name("out.onnx")) == expected


@pytest.mark.parametrize("large", [0, graph.LARGE])
def test_a_product_is_computed_once(
    large: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weight of two operators that became one is kept for what is folded into it later."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N,200] x) => (float[N,300] y) '
        "{ a = MatMul(x, u) b = MatMul(a, v) y = BatchNormalization(b, s, s, s, s) }"
    )
    rng = np.random.default_rng(2)
    for name, shape in {"u": (200, 400), "v": (400, 300), "s": (300,)}.items():
        values = (rng.random(shape) + 0.5).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True)
    expected = fold(tmp_path / "net.onnx").model
    monkeypatch.setattr(graph, "LARGE", large)
    products = counted(monkeypatch, kernels, "composed")
    result = fold(tmp_path / "net.onnx")
    assert result.merged
    assert result.folded
    result.save(tmp_path / "out.onnx")
    assert len(products) == 1
    assert load_model(tmp_path / "out.onnx") == expected


def test_what_is_shared_is_told_without_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Operators that want the same of one weight share it, though it is not computed yet."""
    text = "".join(
        f"c{i} = {kind}(x) d{i} = MatMul(c{i}, u) e{i} = BatchNormalization(d{i}, s, s, s, s) "
        f"y{i} = Sin(e{i}) "
        for i, kind in enumerate(("Relu", "Sigmoid", "Tanh"))
    )
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N,200] x) => (float[N,300] y) '
        f"{{ {text} y = Sum(y0, y1, y2) }}"
    )
    rng = np.random.default_rng(2)
    for name, shape in {"u": (200, 300), "s": (300,)}.items():
        values = (rng.random(shape) + 0.5).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True)
    expected = fold(tmp_path / "net.onnx").model
    monkeypatch.setattr(graph, "LARGE", 0)
    result = fold(tmp_path / "net.onnx")
    assert len(result.stored.weights.kept) < 3
    assert result.model == expected


def test_an_inspection_reads_no_weight(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at is the graph and what is small; the report is that of a fold."""
    expected = fold(path)

    def unread(self: Range, *_: object) -> np.ndarray:
        raise AssertionError(f"{self.length} bytes were read")

    monkeypatch.setattr(folding, "GLANCE", 0)
    monkeypatch.setattr(Range, "array", unread)
    report = inspect(path)
    assert len(report.folded) == 2
    assert report.sites == expected.sites
    assert report.notes == (folding.UNCHECKED.format(4),), "w1, w3, the bias that w3 made, w5 + w6"


def test_an_inspection_checks_what_it_reads(path: Path) -> None:
    """As long as weights are few, an inspection refuses what a fold refuses."""
    held = {t.name: t for t in open_model(path).proto.graph.initializer}
    with path.with_name("net.data").open("r+b") as file:
        for name in ("w1", "w2", "w3"):
            offset = next(e.value for e in held[name].external_data if e.key == "offset")
            file.seek(int(offset))
            file.write(np.float32([np.inf]).tobytes())
    report = inspect(path)
    assert [site.code for site in report.sites] == ["BNF304"] * 2
    assert report.sites == fold(path).sites
    assert not report.notes


def test_mapped_as_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight that is mapped into memory holds what one that is read holds."""
    expected = fold(path).model
    monkeypatch.setattr(weights, "MAPPED", 0)
    assert fold(path).model == expected


@pytest.mark.parametrize("change", ["longer", "gone"])
def test_a_file_that_changed(path: Path, change: str) -> None:
    """Data that changed meanwhile is an error that names the file, and nothing is written."""
    result = fold(path)
    data = path.with_name("net.data")
    if change == "gone":
        data.unlink()
    else:
        data.write_bytes(data.read_bytes() + b"more")
    for use in (lambda: result.model, lambda: result.save(path.with_name("out.onnx"))):
        with pytest.raises(ModelError, match=r"net\.data, which holds weights"):
            use()
    assert not [p for p in path.parent.iterdir() if "out" in p.name]


def test_tensors_within_are_compared(path: Path) -> None:
    """A session that exposes what is inside finds the weights of a model that was not loaded."""
    fold(path).save(path.with_name("out.onnx"))
    models = open_model(path), open_model(path.with_name("out.onnx"))
    feeds = {"x": np.ones((2, 128), np.float32)}
    found = distances(*models, ["c", "e", "j"], feeds)
    assert found.keys() >= {"j"}
    assert max(found.values()) < 1e-5


def test_packed_elements(tmp_path: Path) -> None:
    """A large tensor of elements that are less than a byte is unpacked as onnx does it."""
    values = np.arange(1 << 16) % 16 - 8
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[65536] x) => (float[65536] y)'
        " { d = DequantizeLinear(q, s) y = Add(x, d) }"
    )
    kind = TensorProto.INT4
    model.graph.initializer.append(helper.make_tensor("q", kind, values.shape, values))
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(model.graph.initializer[0]), "q")
    )
    model.graph.initializer.append(numpy_helper.from_array(np.float32(2), "s"))
    onnx.save(model, tmp_path / "packed.onnx")
    stored = open_model(tmp_path / "packed.onnx")
    tensor = stored.proto.graph.initializer[0]
    assert tensor.data_location == TensorProto.EXTERNAL
    found = stored.weights.constant(tensor)
    assert found.shape == values.shape
    np.testing.assert_array_equal(found.value().astype(int), values)


def test_byte_size(path: Path) -> None:
    """The size of a model is that of all its data, wherever it is."""
    assert abs(open_model(path).byte_size - onnx.load(path).ByteSize()) < 1000

"""Bad input ends in two lines and exit code 2: nothing written, the input as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from bnfold_cli import app

MODEL = """
<ir_version: 8, opset_import: ["": 17]>
net (float[batch,2,3] image) => (float[batch,2,3] y)
<float[2,2,1] w = {1, 2, 3, 4}, float[2] one = {1, 1}, float[2] zero = {0, 0}> {
  h = Conv(image, w)
  y = BatchNormalization(h, one, zero, zero, one)
}
"""


def net() -> onnx.ModelProto:
    return onnx.parser.parse_model(MODEL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a good model in it, to work in."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "net.onnx").write_bytes(net().SerializeToString())
    monkeypatch.chdir(folder)
    return folder


def contents(folder: Path) -> dict[str, str]:
    """Every file below the folder's parent with a digest of its bytes."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.parent.rglob("*")
        if path.is_file()
    }


def refused(folder: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that cannot be done; its error message."""
    before = contents(folder)
    code = app.run(arguments)
    out, err = capsys.readouterr()
    assert code == 2, err
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("error: ")
    assert second.startswith("hint: ")
    assert len(second) > len("hint: ")
    assert "Traceback" not in err
    assert contents(folder) == before
    return first


# -- model files --------------------------------------------------------------------------------


def unsound(model: onnx.ModelProto) -> None:
    model.graph.node[0].input.pop()


def unknown_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 4711


def outside(location: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        weight = model.graph.initializer[0]
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=location)

    return change


BYTES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "bad.onnx is empty"),
    "text": (b"this is no model\n", "bad.onnx is text"),
    "truncated": (net().SerializeToString()[:-90], "bad.onnx is truncated"),
}
FAULTS: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "checker": (unsound, "bad.onnx is not a valid ONNX model"),
    "opset": (unknown_opset, "opset 4711"),
    "missing data": (outside("gone.bin"), "gone.bin does not exist"),
    "data outside": (outside("../secret.bin"), "outside of the model's folder"),
    "absolute data": (outside("/etc/hostname"), "outside of the model's folder"),
}
COMMANDS = {
    "inspect": ["inspect", "bad.onnx"],
    "optimize": ["optimize", "bad.onnx"],
    "in place": ["optimize", "bad.onnx", "--in-place"],
    "verify": ["verify", "bad.onnx", "net.onnx"],
    "verify candidate": ["verify", "net.onnx", "bad.onnx"],
    "bench": ["bench", "net.onnx", "bad.onnx"],
    "recalibrate": ["recalibrate", "bad.onnx", "--data", "data.npz"],
}
commands = pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))


@commands
@pytest.mark.parametrize("fault", BYTES)
def test_bytes_that_are_no_model(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str], fault: str
) -> None:
    """Empty, text and truncated files are named as such by every command."""
    data, expected = BYTES[fault]
    (folder / "bad.onnx").write_bytes(data)
    assert expected in refused(folder, command, capsys)


@commands
@pytest.mark.parametrize("fault", FAULTS)
def test_broken_model(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str], fault: str
) -> None:
    """Models that are broken, too new, or without their data are refused by every command."""
    change, expected = FAULTS[fault]
    model = net()
    change(model)
    (folder.parent / "secret.bin").write_bytes(bytes(16))
    (folder / "bad.onnx").write_bytes(model.SerializeToString())
    assert expected in refused(folder, command, capsys)


@commands
def test_no_file(folder: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    """A missing file and a folder are errors about the path."""
    assert "bad.onnx does not exist" in refused(folder, command, capsys)
    (folder / "bad.onnx").mkdir()
    assert "bad.onnx is a folder" in refused(folder, command, capsys)


# -- inputs, data, providers --------------------------------------------------------------------


def unknown_rank(folder: Path) -> None:
    model = net()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    (folder / "net.onnx").write_bytes(model.SerializeToString())


VERIFY = ["verify", "net.onnx", "net.onnx"]


def test_unknown_rank(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An input of unknown rank asks for --input, and is content with it."""
    unknown_rank(folder)
    assert "image" in refused(folder, VERIFY, capsys)
    assert app.run([*VERIFY, "--input", "image=1x2x3"]) == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--provider", "abacus"], "abacus"),
        (["--provider", "cuda"], "CUDAExecutionProvider"),
        (["--dim", "depth=3"], "depth"),
        (["--input", "picture=1x2x3"], "picture"),
        (["--input", "image=1x5x3"], "image"),
        (["--data", "gone.npz"], "gone.npz"),
        (["--data", "net.onnx"], "net.onnx"),
    ],
)
def test_options_that_do_not_fit(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    """Providers, dimensions, shapes and data that are not there are named."""
    if "cuda" in arguments:
        onnxruntime = pytest.importorskip("onnxruntime")
        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("this runtime has CUDA")
    assert expected in refused(folder, [*VERIFY, *arguments], capsys)
    assert expected in refused(folder, ["optimize", "net.onnx", *arguments], capsys)


@pytest.mark.parametrize(
    "arrays",
    [
        {"picture": np.zeros((1, 2, 3), np.float32)},
        {"image": np.zeros((1, 2, 3), np.float64)},
        {"image": np.zeros((2, 3), np.float32)},
        {"image": np.zeros((1, 5, 3), np.float32)},
        {"image": np.zeros((1, 2, 3), np.float32), "more": np.zeros(1, np.float32)},
        {"image": np.array([["a"]])},
        {},
    ],
    ids=["name", "type", "rank", "size", "extra", "strings", "empty"],
)
def test_data_that_does_not_fit(
    folder: Path, capsys: pytest.CaptureFixture[str], arrays: dict[str, np.ndarray]
) -> None:
    """An .npz with wrong names, types or shapes is refused with what the model expects."""
    np.savez(folder / "data.npz", **arrays)
    for arguments in (VERIFY, ["optimize", "net.onnx"], ["bench", "net.onnx", "net.onnx"]):
        message = refused(folder, [*arguments, "--data", "data.npz"], capsys)
        assert "image" in message or "data.npz" in message


# -- output -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-o", "there.onnx"], "there.onnx already exists"),
        (["-o", "gone/there.onnx"], "there is no folder"),
        (["-o", "."], "is a folder"),
        (["-o", "net.onnx", "--force"], "net.onnx is the input itself"),
        (["-o", "x" * 300], "cannot be written"),
    ],
)
def test_output_that_cannot_be_written(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    """An output that exists or cannot be written is refused before any work."""
    (folder / "there.onnx").write_bytes(b"something else")
    assert expected in refused(folder, ["optimize", "net.onnx", *arguments], capsys)

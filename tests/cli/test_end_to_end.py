"""The main job on a real file: fold, prove, measure, write, and check what was written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bnfold_cli import app

MODEL = """
<ir_version: 8, opset_import: ["": 17]>
net (float[batch,2,6] image) => (float[batch,3,6] y)
<float[3,2,1] w = {1, 2, 3, 4, 5, 6}, float[3] gamma = {1, -2, 3}, float[3] beta = {0, 1, 2},
 float[3] mean = {1, 0, 2}, float[3] var = {1, 4, 9}> {
  h = Conv(image, w)
  y = BatchNormalization(h, gamma, beta, mean, var)
}
"""
QUICK = ["--budget", "0.2"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_optimize(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One command folds, proves, measures and writes; a second one finds nothing left."""
    original = (folder / "net.onnx").read_bytes()
    assert app.run(["optimize", "net.onnx", *QUICK]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "Folded 1 of 1 BatchNormalization node, into Conv"
    assert lines[1].startswith("Verified  CPUExecutionProvider  error against float64: original ")
    assert lines[-1].startswith("Wrote net.folded.onnx (2 → 1 nodes, ")
    assert err == ""
    assert (folder / "net.onnx").read_bytes() == original
    assert sorted(path.name for path in folder.iterdir()) == ["net.folded.onnx", "net.onnx"]
    assert app.run(["inspect", "--check", "net.onnx"]) == 1
    assert app.run(["inspect", "--check", "net.folded.onnx"]) == 0
    assert app.run(["verify", "net.onnx", "net.folded.onnx"]) == 0


def test_same_bytes(folder: Path) -> None:
    """The same input gives the same bytes."""
    for name in ("a.onnx", "b.onnx"):
        assert app.run(["optimize", "net.onnx", "-o", name, "--no-bench", "-q"]) == 0
    assert (folder / "a.onnx").read_bytes() == (folder / "b.onnx").read_bytes()


def test_planted_fault(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A weight that is one percent wrong is not equivalent: exit code 1, with its numbers."""
    assert app.run(["optimize", "net.onnx", "--no-bench", "-q"]) == 0
    model = onnx.load("net.folded.onnx")
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.ndim == 3:
            weight.CopyFrom(numpy_helper.from_array(values * np.float32(1.01), weight.name))
    onnx.save(model, "wrong.onnx")
    assert app.run(["verify", "net.onnx", "wrong.onnx"]) == 1
    assert capsys.readouterr().out.startswith("Not equivalent (")


def test_dry_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--dry-run does everything and writes nothing."""
    assert app.run(["optimize", "net.onnx", "--dry-run", *QUICK]) == 0
    assert "Wrote nothing (--dry-run)" in capsys.readouterr().out
    assert [path.name for path in folder.iterdir()] == ["net.onnx"]


def test_in_place(folder: Path) -> None:
    """--in-place replaces the input, and leaves nothing beside it."""
    assert app.run(["optimize", "net.onnx", "--in-place", "--no-bench"]) == 0
    assert [node.op_type for node in onnx.load("net.onnx").graph.node] == ["Conv"]
    assert [path.name for path in folder.iterdir()] == ["net.onnx"]


def test_nothing_to_fold(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to fold is 0, and the output that a pipeline waits for is there."""
    assert app.run(["optimize", "net.onnx", "-o", "once.onnx", "--no-bench"]) == 0
    assert app.run(["optimize", "once.onnx", "-o", "twice.onnx", "--no-bench"]) == 0
    assert "Nothing to fold" in capsys.readouterr().out
    assert (folder / "twice.onnx").read_bytes() == (folder / "once.onnx").read_bytes()


def test_keep(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A node that the user keeps stays, with that reason."""
    assert app.run(["inspect", "net.onnx", "--keep", "y", "-v"]) == 0
    assert "BNF104" in capsys.readouterr().out


def test_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The user's own data takes the place of generated inputs."""
    np.savez(folder / "inputs.npz", image=np.ones((5, 2, 6), np.float32))
    arguments = ["optimize", "net.onnx", "--no-bench", "--data", "inputs.npz", "--json"]
    assert app.run(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["equivalence"]["samples"]) == 1
    assert document["equivalence"]["judge"] == "float64"


def test_bench(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`bench` measures at the levels asked for; its JSON has every round."""
    assert app.run(["optimize", "net.onnx", "--no-bench", "-q"]) == 0
    arguments = [
        "bench",
        "net.onnx",
        "net.folded.onnx",
        "--ort-level",
        "basic",
        "--dim",
        "batch=2",
    ]
    assert app.run([*arguments, *QUICK, "--json"]) == 0
    (measurement,) = json.loads(capsys.readouterr().out)["measurements"]
    assert measurement["level"] == "basic"
    assert measurement["shapes"] == {"image": [2, 2, 6]}
    assert len(measurement["times_ms"]["original"]) == measurement["rounds"]

"""`bnfold recalibrate`: what it prints, writes, and how it exits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from bnfold.recalibration import KeptLayer, RecalibratedLayer, RecalibrationResult
from bnfold.stored import StoredModel
from bnfold_cli import render
from bnfold_cli.app import run
from bnfold_cli.lines import text_of

SHIPPED = Path(__file__).parents[2] / "models" / "trained" / "textbook-relu.onnx"

LAYER = RecalibratedLayer(
    tensor="/bn/out",
    channels=64,
    values=1000,
    mean_off=0.0123,
    worst_mean_off=1.5,
    variance_ratio=(0.5, 0.98765, 12.0),
    constant_channels=0,
)
RESULT = RecalibrationResult(
    layers=(LAYER,),
    kept=(KeptLayer("/if/bn", "it stands in a subgraph of an If, Loop or Scan"),),
    rows=1000,
    passes=1,
    notes=("it changes the function",),
    output="out.onnx",
    stored=StoredModel(onnx.ModelProto()),
)


def text(result: RecalibrationResult, *, verbose: bool = False) -> str:
    return "\n".join(map(text_of, render.recalibrate(result, verbose=verbose)))


def test_words() -> None:
    """How far each was off, what stayed and why, what it means, and where it went."""
    assert text(RESULT).splitlines() == [
        "Recalibrated 1 of 2 BatchNormalization nodes on 1,000 rows of data in 1 pass",
        "  tensor   channels  mean off by  at worst  old variance over exact",
        "  /bn/out  64        0.012 sd     1.5 sd    ×0.988 (×0.5 to ×12)",
        "Kept 1",
        "  /if/bn  it stands in a subgraph of an If, Loop or Scan",
        "Note: it changes the function",
        "Wrote out.onnx",
    ]


def test_many_layers_are_cut_to_the_worst() -> None:
    """The one that was off by most is listed; -v lists all."""
    calm = tuple(replace(LAYER, tensor=f"/calm{i}", worst_mean_off=0.1) for i in range(30))
    result = replace(RESULT, layers=(*calm, LAYER))
    assert "/bn/out" in text(result)
    assert "and 19 more that were off by less; -v lists all" in text(result)
    assert "/calm29" not in text(result)
    assert "/calm29" in text(result, verbose=True)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    np.savez(path, input=np.random.default_rng(0).random((40, 1, 8, 8), np.float32))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(SHIPPED.read_bytes())
    return path


def test_it_writes_beside_the_input(
    model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says that the function is another one."""
    assert run(["recalibrate", str(model), "--data", str(data)]) == 0
    printed = capsys.readouterr().out
    assert "Recalibrated 3 of 3" in printed
    assert "another function" in printed
    assert model.read_bytes() == SHIPPED.read_bytes()
    assert (model.parent / "net.recalibrated.onnx").exists()


def test_json_says_the_same(model: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["recalibrate", str(model), "--data", str(data), "--json", "--batch-size", "7"]
    assert run(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["command"]) == (1, "recalibrate")
    assert (document["rows"], document["passes"]) == (40, 3)
    assert [layer["channels"] for layer in document["layers"]] == [256, 128, 64]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["net.onnx"], "missing option '--data'"),
        (["net.onnx", "--data", "nothing.npz"], "nothing.npz cannot be read"),
        (
            ["net.onnx", "--data", "data.npz", "-o", "net.onnx"],
            "net.onnx is the input itself\nhint: choose another",
        ),
        (["net.onnx", "--data", "data.npz", "-o", "data.npz"], "data.npz already exists"),
    ],
)
def test_what_cannot_be_done(
    arguments: list[str],
    message: str,
    model: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line about the user's own input, exit code 2, and no file."""
    monkeypatch.chdir(model.parent)
    assert run(["recalibrate", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in model.parent.iterdir()) == ["data.npz", "net.onnx"]

"""The shipped files are small, valid, well trained, and can be made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from bnfold_models import REGISTRY, build
from bnfold_models.__main__ import main
from bnfold_models.data import Dataset
from bnfold_models.network import normalizations
from bnfold_models.recipes import accuracy
from bnfold_models.trained import RECIPES, remake

FOLDER = Path(__file__).parents[2] / "models" / "trained"

LARGEST = 1_500_000
"""Bytes; a shipped file stays well under 2 MB."""

ALL_TOGETHER = 12_000_000

every_file = pytest.mark.parametrize("name", RECIPES)


def _load(name: str) -> onnx.ModelProto:
    return onnx.load(FOLDER / f"{name}.onnx")


def _batch_norms(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "BatchNormalization"]


def test_every_recipe_has_its_file_and_nothing_else_lies_there() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.onnx" for name in RECIPES}


def test_every_small_normalized_network_is_shipped() -> None:
    """Left out are those of 28x28 MNIST, too large, without a BN, and textbook variants."""
    variants = ("bn0", "-bias", "-after")
    left_out = {n for n in REGISTRY if n.startswith("mnist") or n.endswith(variants)}
    assert set(RECIPES) == set(REGISTRY) - left_out


def test_files_are_small() -> None:
    sizes = [path.stat().st_size for path in FOLDER.iterdir()]
    assert max(sizes) < LARGEST
    assert sum(sizes) < ALL_TOGETHER


@every_file
def test_the_file_is_valid_and_has_every_normalization(name: str) -> None:
    model = _load(name)
    onnx.checker.check_model(model, full_check=True)
    assert len(_batch_norms(model)) == len(normalizations(build(name)))


@every_file
def test_statistics_are_not_the_initial_ones(name: str) -> None:
    model = _load(name)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in _batch_norms(model):
        _, gamma, beta, mean, variance = (constants.get(name) for name in node.input)
        assert np.abs(mean).max() > 0.01
        assert np.abs(variance - 1).max() > 0.01
        assert np.abs(gamma - 1).max() > 1e-4
        assert np.abs(beta).max() > 1e-4


@every_file
def test_onnx_runtime_runs_any_batch(name: str) -> None:
    session = onnxruntime.InferenceSession(
        FOLDER / f"{name}.onnx", providers=["CPUExecutionProvider"]
    )
    shape = build(name).input_shape
    for batch in (1, 3):
        (output,) = session.run(["output"], {"input": np.zeros((batch, *shape), np.float32)})
        assert output.shape == (batch, 2 if name.startswith("images") else 10)
        assert np.isfinite(output).all()


@pytest.mark.parametrize("name", ["digits-sigmoid-bn1", "fashion", "textbook-relu"])
def test_digits_that_were_not_trained_on_are_told(name: str, digits: Dataset) -> None:
    """As well as the file itself says."""
    test = digits.fit(build(name).input_shape).test
    session = onnxruntime.InferenceSession(
        FOLDER / f"{name}.onnx", providers=["CPUExecutionProvider"]
    )
    (scores,) = session.run(["output"], {"input": test.images.astype(np.float32) / 255})
    told = (scores.argmax(axis=1) == test.labels).mean()
    assert told > 0.9
    assert told == pytest.approx(accuracy(_load(name)), abs=0.01)


@every_file
def test_the_file_says_what_it_was_trained_on(name: str) -> None:
    properties = {entry.key: entry.value for entry in _load(name).metadata_props}
    assert set(properties) == {"network", "data", "training", "test_accuracy"}
    assert properties["network"] == name
    assert accuracy(_load(name)) > 0.9


@every_file
def test_the_file_names_no_machine(name: str) -> None:
    model = _load(name)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")  # any three bytes may stand in a million
    content = model.SerializeToString()
    for trace in (b".py", b"/lib/", b"\\lib\\", b"site-packages", b"stack_trace"):
        assert trace not in content


def test_the_command_writes_the_files_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a file made twice on one machine has the same bytes."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        assert main(["trained", "--out", str(folder), "--only", "textbook-relu"]) == 0
    assert [path.name for path in first.iterdir()] == ["textbook-relu.onnx"]
    assert (first / "textbook-relu.onnx").read_bytes() == (
        second / "textbook-relu.onnx"
    ).read_bytes()
    assert "test accuracy 0.9" in capsys.readouterr().out


def test_an_unknown_name_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["trained", "--out", "x", "--only", "resnet"])
    assert stopped.value.code == 2
    assert "textbook-relu" in capsys.readouterr().err


@pytest.mark.slow
@every_file
def test_the_shipped_file_is_made_again(name: str, tmp_path: Path) -> None:
    """Same structure, same metadata but for the accuracy, weights as near as processors agree.

    On the machine that made them the bytes are equal; another processor adds in another order,
    and training carries that on.
    """
    (path,) = remake(tmp_path, [name])
    again, shipped = onnx.load(path), _load(name)
    assert [node.op_type for node in again.graph.node] == [
        node.op_type for node in shipped.graph.node
    ]
    assert accuracy(again) == pytest.approx(accuracy(shipped), abs=0.03)
    if path.read_bytes() != (FOLDER / path.name).read_bytes():
        pytest.skip("another machine than that which made the files: bytes differ")

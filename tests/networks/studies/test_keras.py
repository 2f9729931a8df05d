"""The same networks by Keras on torch: defined, trained, exported, folded and proven."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest

import bnfold
from bnfold.testing import assert_equivalent
from bnfold_models import REGISTRY, build
from bnfold_models.__main__ import main
from bnfold_models.data import Dataset
from bnfold_models.network import count_parameters
from bnfold_models.recipes import Recipe
from bnfold_models.train import TrainOptions

if importlib.util.find_spec("keras") is None:
    pytest.skip("Keras is not installed", allow_module_level=True)

from bnfold_models.studies.kerasing import define, make_by_keras

BRIEFLY = TrainOptions(epochs=1, batch_size=4)


@pytest.mark.parametrize("name", REGISTRY)
def test_the_definition_has_the_same_parameters(name: str) -> None:
    """In all and those that can be trained: moving statistics are parameters for Keras."""
    network = build(name)
    model = define(network)
    counts = count_parameters(network)
    assert model.count_params() == counts.total
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == counts.trainable


@pytest.mark.parametrize("name", ["digits-sigmoid-bn1", "digits-relu-bn4", "textbook-relu"])
def test_a_network_by_keras_folds_and_is_proven(name: str, few_digits: Dataset) -> None:
    """Its BN comes as Sub, Mul and Add, and goes wholly into the products."""
    model, history = make_by_keras(Recipe(name, "digits", BRIEFLY), few_digits)
    onnx.checker.check_model(model, full_check=True)
    kinds = {node.op_type for node in model.graph.node}
    assert "BatchNormalization" not in kinds
    assert {"Sub", "Mul", "Add", "MatMul"} <= kinds
    result = bnfold.fold(model)
    left = {node.op_type for node in result.model.graph.node}
    assert not left & {"Sub", "Mul", "Add"}
    assert_equivalent(model, result.model)
    assert len(history) == 1


def test_channels_last_are_transposed_and_folded(few_pictures: Dataset) -> None:
    """The convolution behind a BN of the pixels: a Transpose stands between them."""
    model, _ = make_by_keras(Recipe("images-wide", "images", BRIEFLY), few_pictures)
    assert "Transpose" in {node.op_type for node in model.graph.node}
    result = bnfold.fold(model)
    assert not {node.op_type for node in result.model.graph.node} & {"Sub", "Mul"}
    assert_equivalent(model, result.model, samples=2, dims={"batch": 1})


def test_the_same_seed_gives_the_same_bytes(few_digits: Dataset) -> None:
    recipe = Recipe("digits-relu-bn1", "digits", BRIEFLY)
    first, again = (make_by_keras(recipe, few_digits) for _ in range(2))
    assert first[1] == again[1]
    assert first[0].SerializeToString() == again[0].SerializeToString()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["speedup", "networks"])
def test_a_study_runs_by_keras(name: str, tmp_path: Path) -> None:
    """To the table at its end, from the command line."""
    arguments = ["--epochs", "1", "--out", str(tmp_path), "--budget", "0.1", "--keras"]
    assert main([name, *arguments]) == 0
    page = (tmp_path / name / "summary.md").read_text("utf-8")
    assert "exported by Keras" in page
    assert page.rstrip().splitlines()[-1].count("×") >= 2

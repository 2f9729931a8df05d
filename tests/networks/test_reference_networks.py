"""Every reference network, from either exporter, is folded and proven; only one BN may stay."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bnfold
from bnfold.testing import assert_equivalent
from bnfold_models import REGISTRY, build
from bnfold_models.data import Dataset
from bnfold_models.export import EXPORTERS, Exporter, export
from bnfold_models.network import Network, normalizations
from bnfold_models.train import TrainOptions, train
from bnfold_models.trained import RECIPES

SHIPPED = Path(__file__).parents[2] / "models" / "trained"

NORMALIZED = [
    # The digits family is that of mnist with fewer pixels, and its files are tested below.
    pytest.param(
        name,
        marks=[pytest.mark.slow] if name.startswith(("digits", "mnist-textbook")) else [],
    )
    for name in REGISTRY
    if not name.endswith("bn0")
]

KEPT = {"images-deep": ["BNF302"]}
"""Codes of the BN that stay: the deep network's Conv reads zero padding."""

BRIEFLY = TrainOptions(epochs=1, batch_size=4)


def _batch_norms(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "BatchNormalization" for node in model.graph.node)


def _kept_codes(result: bnfold.FoldResult) -> list[str | None]:
    return [site.code for site in result.normalizations if site.verdict == "kept"]


@pytest.fixture(scope="module")
def trained(few: dict[int, Dataset]):
    """name -> the network, trained for a moment so that its statistics are real."""

    @cache
    def trained(name: str) -> Network:
        network = build(name)
        train(network, few[network.input_shape[0]], BRIEFLY)
        return network

    return trained


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", NORMALIZED)
def test_a_trained_network_folds_and_is_proven(name: str, exporter: Exporter, trained) -> None:
    network = trained(name)
    model = export(network, exporter=exporter)
    assert _batch_norms(model) == len(normalizations(network))
    result = bnfold.fold(model)
    expected = KEPT.get(name, [])
    assert _kept_codes(result) == expected
    assert _batch_norms(result.model) == len(expected)
    assert_equivalent(model, result.model)


@pytest.mark.parametrize("name", RECIPES)
def test_a_shipped_file_folds_and_is_proven(name: str) -> None:
    model = onnx.load(SHIPPED / f"{name}.onnx")
    result = bnfold.fold(model)
    assert _kept_codes(result) == KEPT.get(name, [])
    assert_equivalent(model, result.model)


@pytest.mark.parametrize("name", ["mnist-relu-bn4", "textbook-sigmoid", "fashion"])
def test_shared_statistics_fold_too(name: str) -> None:
    """Untrained, gamma equals the variance and beta the mean, and this exporter shares them."""
    model = export(build(name), exporter="torchscript")
    assert "Identity" in {node.op_type for node in model.graph.node}
    result = bnfold.fold(model)
    assert _batch_norms(result.model) == 0
    assert_equivalent(model, result.model)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_network_without_normalization_has_no_site(exporter: Exporter) -> None:
    result = bnfold.fold(export(build("digits-relu-bn0"), exporter=exporter))
    assert result.normalizations == ()


@pytest.mark.parametrize("name", ["digits-relu-bn4", "digits-sigmoid-bn1", "fashion"])
def test_a_folded_weight_one_percent_wrong_is_not_proven(name: str) -> None:
    model = onnx.load(SHIPPED / f"{name}.onnx")
    wrong = bnfold.fold(model).model
    weight = max(wrong.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name)
    )
    with pytest.raises(AssertionError):
        assert_equivalent(model, wrong)

"""Both exporters keep every BN, with the statistics of training, and name no machine."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from bnfold_models import build
from bnfold_models.data import Dataset
from bnfold_models.export import EXPORTERS, OPSET, Exporter, ExportError, export
from bnfold_models.network import Network, normalizations
from bnfold_models.train import TrainOptions, train

NAMES = [
    "mnist-sigmoid-bn3",
    "fashion",
    "textbook-relu",
    "images-logistic",
    "images-wide",
    "images-deep",
]


@pytest.fixture(scope="module")
def trained(few_digits: Dataset) -> Network:
    network = build("fashion")
    train(network, few_digits, TrainOptions(epochs=2, batch_size=32))
    return network


@pytest.fixture(scope="module")
def exported(trained: Network) -> dict[Exporter, onnx.ModelProto]:
    return {exporter: export(trained, exporter=exporter) for exporter in EXPORTERS}


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _batch_norms(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "BatchNormalization"]


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_the_network(name: str, exporter: Exporter) -> None:
    """A valid model, as many BN, the same names and values, for two sizes of the batch."""
    network = build(name).eval()
    model = export(network, exporter=exporter)
    onnx.checker.check_model(model, full_check=True)
    assert len(_batch_norms(model)) == len(normalizations(network))
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": OPSET}
    session = _session(model)
    for batch in (1, 5):
        images = torch.rand(batch, *network.input_shape)
        (output,) = session.run(["output"], {"input": images.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(output, network(images).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_statistics_are_those_of_training(
    trained: Network, exported: dict[Exporter, onnx.ModelProto], exporter: Exporter
) -> None:
    """Mean and variance of every node are those of its layer, and not the initial 0 and 1."""
    model = exported[exporter]
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node, layer in zip(_batch_norms(model), normalizations(trained), strict=True):
        mean, variance = constants[node.input[3]], constants[node.input[4]]
        np.testing.assert_array_equal(mean, layer.running_mean.numpy())
        np.testing.assert_array_equal(variance, layer.running_var.numpy())
        assert np.abs(mean).max() > 0.01
        assert np.abs(variance - 1).max() > 0.01


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_same_network_gives_the_same_bytes(
    trained: Network, exported: dict[Exporter, onnx.ModelProto], exporter: Exporter
) -> None:
    again = export(trained, exporter=exporter)
    first, second = (m.SerializeToString(deterministic=True) for m in (exported[exporter], again))
    assert first == second


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_no_trace_of_the_machine_is_left(
    exported: dict[Exporter, onnx.ModelProto], exporter: Exporter
) -> None:
    """Neither paths nor source lines, which the exporters write beside every node."""
    content = exported[exporter].SerializeToString()
    for trace in (b".py", b"/lib/", b"\\lib\\", b"forward", b"stack_trace", b"pkg.torch"):
        assert trace not in content


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_convolution_keeps_its_normalization(exporter: Exporter) -> None:
    """Conv then BN is what both exporters fold by themselves unless told not to."""
    layers = {"conv": nn.Conv2d(1, 4, 3), "norm": nn.BatchNorm2d(4), "flatten": nn.Flatten()}
    model = export(Network(layers, input_shape=(1, 5, 5)), exporter=exporter)
    assert len(_batch_norms(model)) == 1


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_export_leaves_the_network_in_its_mode(exporter: Exporter) -> None:
    network = build("textbook-relu").train()
    export(network, exporter=exporter)
    assert network.training


def test_a_lost_normalization_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnfold_models.export.normalizations", lambda _: [None] * 9)
    with pytest.raises(ExportError, match="the network has 9 BN, its ONNX model 3"):
        export(build("textbook-relu"))


def test_only_while_exporting_torch_is_kept_quiet() -> None:
    export(build("textbook-relu"))
    assert logging.getLogger("torch.onnx").level == logging.NOTSET
    with pytest.warns(DeprecationWarning, match="heard"):
        warnings.warn("heard", DeprecationWarning, stacklevel=1)

"""Real models, where the corpus stands beside the project: folds pass, faults do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bnfold.equivalence import verify
from bnfold.folding import fold

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus" / "models"
SMALL = (
    *("deeploy_autoencoder1d", "deeploy_autoencoder2d", "fastai_tabular", "gtcrn_simple"),
    *("fuse-conv-bn-add-mul-float16", "fuse-matmul-bn-with-reshape", "mesonet"),
    "neg_silero_vad_if_subgraphs",
)

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(not CORPUS.is_dir(), reason=f"there is no corpus at {CORPUS}"),
]


def load(name: str) -> onnx.ModelProto:
    return onnx.load(CORPUS / f"{name}.onnx")


@pytest.mark.parametrize("name", SMALL)
def test_a_fold_is_equivalent(name: str) -> None:
    """What fold makes of a real model passes, near to the original's own error."""
    model = load(name)
    report = verify(model, fold(model).model, samples=4)
    assert report, report.outputs
    assert report.judge == "float64"


@pytest.mark.parametrize("name", SMALL[:-1])
def test_one_per_cent_of_one_weight_is_seen(name: str) -> None:
    """One weight tensor of a real model, off by one per cent, cannot pass."""
    model = load(name)
    wrong = onnx.ModelProto()
    wrong.CopyFrom(model)
    linear = {"Conv", "Gemm", "MatMul", "ConvTranspose"}
    read = {n.input[1] for n in wrong.graph.node if n.op_type in linear}
    weight = next(t for t in wrong.graph.initializer if t.name in read)
    array = numpy_helper.to_array(weight)
    scaled = (array * np.float64(1.01)).astype(array.dtype)
    weight.CopyFrom(numpy_helper.from_array(scaled, weight.name))
    report = verify(model, wrong, samples=4)
    assert not report
    assert report.culprit is not None

"""The rational interpreter says what ONNX Runtime says: it is the judge of all exact tests."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import rational
from exact_rows import build
from exact_table import TABLE

from bnfold.judge import Judge


def plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same without the runtime's own operators, which it runs only with an activation."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type == "FusedGemm":
            node.op_type, node.domain = "Gemm", ""
    return copy


def run(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    """All outputs, by ONNX Runtime with optimizations off; by the judge where it has no kernel."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    data = model.SerializeToString()
    try:
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return list(session.run(None, feeds))
    except Exception:
        return list(Judge(model).run(feeds).values())


@pytest.mark.parametrize("row", sorted({row for _, row in TABLE}))
def test_agrees_with_the_runtime(row: str) -> None:
    """Every row's original, with the true functions for the stand-ins: equal to a few ULPs."""
    model = build(row)
    exact = rational.evaluate(model.proto, model.feeds, rational.TRUE)
    actuals = run(plain(model.proto), model.feeds)
    for output, actual in zip(model.proto.graph.output, actuals, strict=True):
        expected = exact[output.name].astype(np.float64)
        np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-5, err_msg=output.name)


def test_rejects_an_irrational_root() -> None:
    """A variance without a rational root is an error, never an approximation."""
    with pytest.raises(ValueError, match="no rational root"):
        rational.root(Fraction(2))

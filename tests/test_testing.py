"""assert_equivalent: silent when equal, telling when not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from bnfold.errors import InputError
from bnfold.testing import assert_equivalent


def model(factor: float = 1.0) -> onnx.ModelProto:
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]>'
        "g (float[N,3] x) => (float[N,2] y) { h = MatMul(x, w) y = Relu(h) }"
    )
    weight = factor * np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), "w"))
    return proto


def test_equal_models_pass() -> None:
    """Nothing is raised, and the report comes back."""
    assert assert_equivalent(model(), model(), samples=2)


def test_a_difference_is_shown_as_numpy_shows_it() -> None:
    """The text holds the output, both values, both errors and the first tensor to depart."""
    with pytest.raises(AssertionError) as caught:
        assert_equivalent(model(), model(1.01), seed=4)
    text = str(caught.value)
    for words in ("Not equivalent", "y (float32) on CPUExecutionProvider", "seed 4"):
        assert words in text
    for words in ("Max absolute difference:", " ACTUAL:", " DESIRED:", "allowed"):
        assert words in text
    assert "First tensor to depart: h" in text


def test_keywords_reach_verify() -> None:
    """Tolerances and data go where `verify` takes them."""
    data = {"x": np.ones((1, 3), np.float32)}
    assert_equivalent(model(), model(1.01), rtol=0.02, data=data)
    with pytest.raises(AssertionError, match=r"tolerance atol=0, rtol=0\.001"):
        assert_equivalent(model(), model(1.01), rtol=1e-3, data=data)


def test_what_could_not_be_compared_is_no_assertion() -> None:
    """Bad data is an InputError, not a failed assertion."""
    with pytest.raises(InputError):
        assert_equivalent(model(), model(), data={"z": np.ones(3)})

"""Model-local functions: inlined only where a fold needs it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper, parser

from bnfold import functions
from bnfold.folding import fold

BLOCKS = """<ir_version: 9, opset_import: ["" : 18, "local" : 1]>
g (float[N,3,8,8] x) => (float[N,4,8,8] y) {
  h = local.block(x, w, s, b, m, v)
  y = local.act(h)
}
<domain: "local", opset_import: ["" : 18]>
block (x, w, s, b, m, v) => (z) { h = Conv(x, w) z = BatchNormalization(h, s, b, m, v) }
<domain: "local", opset_import: ["" : 18]>
act (x) => (z) { z = Relu(x) }
"""
ACROSS = """<ir_version: 9, opset_import: ["" : 18, "local" : 1]>
g (float[N,3,8,8] x) => (float[N,4,8,8] y) {
  h = local.block(x, w)
  y = BatchNormalization(h, s, b, m, v)
}
<domain: "local", opset_import: ["" : 18]>
block (x, w) => (z) { h = Conv(x, w) z = Identity(h) }
"""
SHAPES = {"w": (4, 3, 1, 1), "s": (4,), "b": (4,), "m": (4,), "v": (4,)}


def model(text: str) -> ModelProto:
    """A model with seeded parameters."""
    rng = np.random.default_rng(3)
    built = parser.parse_model(text)
    for name, shape in SHAPES.items():
        array = rng.uniform(0.5, 2.0, shape).astype(np.float32)
        built.graph.initializer.append(numpy_helper.from_array(array, name))
    return built


@pytest.mark.parametrize("text", [BLOCKS, ACROSS])
def test_a_fold_through_a_function_inlines_it(text: str) -> None:
    """A normalization in a function, or behind one, is folded, and the model stays the same."""
    from bnfold.testing import assert_equivalent

    original = model(text)
    before = original.SerializeToString(deterministic=True)
    result = fold(original)
    assert functions.count(result.model, "BatchNormalization") == 0
    assert original.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(result.model)
    assert_equivalent(original, result.model)


def test_a_function_that_no_fold_needs_stays() -> None:
    """Only what stands in the way is inlined."""
    result = fold(model(BLOCKS))
    assert [node.op_type for node in result.model.graph.node] == ["Conv", "act"]


def test_a_call_counts_what_its_body_holds() -> None:
    """An operator in a function is counted for each call."""
    assert functions.count(model(BLOCKS), "BatchNormalization") == 1
    assert functions.holding(model(BLOCKS), "BatchNormalization") == {("local", "block")}

"""Model-local functions: inlined only where a fold needs it."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, numpy_helper, parser

from bnfold import functions
from bnfold.folding import fold
from bnfold.judge import Judge
from bnfold.modelio import open_model
from bnfold.normalizations import Normalizations

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


# ----------------------------------------------------------------------- defaults


DEFAULTS = """<ir_version: 9, opset_import: ["" : 18, "local" : 1]>
g (float[N,3,8,8] x) => (float[N,4,OH,OW] y) {{ {graph} }}
<domain: "local", opset_import: ["" : 18, "local" : 1]>
outer <given{forwarded}> (x, w, s, b, m, v) => (z) {{ {outer} }}
<domain: "local", opset_import: ["" : 18]>
inner <eps: float = 0.5, pads: ints = [2, 0, 0, 2], mode: string = "SAME_UPPER",
       alpha: float = 0.3> (x, w, s, b, m, v) => (z) {{ {inner} }}
"""
CALL = "(x, w, s, b, m, v)"
NORM = "BatchNormalization <epsilon: float = @eps> (h, s, b, m, v)"
BODY = f"h = Conv <pads: ints = @pads> (x, w) z = {NORM}"
BODIES = {
    "left out": {"graph": f"y = local.inner {CALL}"},
    "given": {"graph": f"y = local.inner <eps = 0.1, pads = [0, 0, 1, 1]> {CALL}"},
    "text": {
        "graph": f"y = local.inner {CALL}",
        "inner": f"h = Conv <auto_pad: string = @mode> (x, w) z = {NORM}",
    },
    "forwarded": {
        "graph": f"y = local.outer <given = 0.2> {CALL}",
        "outer": f"z = local.inner <eps: float = @given> {CALL}",
    },
    "forwarded and left out": {
        "graph": f"y = local.outer {CALL}",
        "outer": f"z = local.inner <eps: float = @given> {CALL}",
    },
    "a default forwarded to one": {
        "graph": f"y = local.outer {CALL}",
        "forwarded": ", e: float = 0.7",
        "outer": f"z = local.inner <eps: float = @e> {CALL}",
    },
    "in a branch": {
        "graph": f"y = local.inner {CALL}",
        "inner": "h = Conv <pads: ints = @pads> (x, w) "
        "c = Constant <value = bool {1}> () "
        "n = If (c) <then_branch = t () => (float[N,4,OH,OW] p) "
        "{ p = LeakyRelu <alpha: float = @alpha> (h) }, "
        "else_branch = e () => (float[N,4,OH,OW] q) { q = Identity(h) }> "
        "z = BatchNormalization <epsilon: float = @eps> (n, s, b, m, v)",
    },
}


def with_defaults(**parts: str) -> ModelProto:
    """A model of two functions, the inner of which has defaults."""
    unused = f"z = local.inner <eps: float = @given> {CALL}"
    filled = {"forwarded": "", "outer": unused, "inner": BODY, **parts}
    return model(DEFAULTS.format(**filled))


@pytest.mark.parametrize("case", BODIES)
def test_an_attribute_that_a_call_leaves_out_has_its_default(case: str) -> None:
    """Fold, judge and runtime agree on what a function does whose call names no attribute."""
    original = with_defaults(**BODIES[case])
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    (expected,) = run(original, x)
    result = fold(original)
    assert functions.count(result.model, "BatchNormalization") == ("branch" in case)
    (folded,) = run(result.model, x)
    (judged,) = Judge(original).run({"x": x}).values()
    for values in (folded, judged):
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)


def test_recalibration_keeps_the_defaults() -> None:
    """Statistics are measured behind the function's own padding, not behind the operator's."""
    original = with_defaults(**BODIES["left out"])
    x = np.random.default_rng(1).standard_normal((4, 3, 8, 8)).astype(np.float32)
    work = Normalizations(open_model(original))
    assert work.inlined == ("inner", "outer")
    (norm,) = work.found
    assert norm.epsilon == 0.5
    np.testing.assert_allclose(run(work.model.proto, x)[0], run(original, x)[0], atol=1e-6)


def test_a_function_of_another_opset_stays() -> None:
    """What its body means in the graph's opset nobody knows, so it stays a function."""
    original = model(BLOCKS)
    original.functions[0].opset_import[0].version = 17
    result = fold(original)
    assert [node.op_type for node in result.model.graph.node] == ["block", "act"]


def test_a_domain_that_only_a_body_uses_is_imported() -> None:
    """An inlined body's operators keep the opset that the function names for them."""
    original = model(BLOCKS)
    block = original.functions[0]
    block.node.append(onnx.helper.make_node("Gelu", ["z"], ["r"], domain="com.microsoft"))
    block.output[0] = "r"
    block.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    result = fold(original)
    assert functions.count(result.model, "BatchNormalization") == 0
    assert {o.domain: o.version for o in result.model.opset_import}["com.microsoft"] == 1
    x = np.ones((1, 3, 8, 8), np.float32)
    np.testing.assert_allclose(run(result.model, x)[0], run(original, x)[0], rtol=1e-5)


def run(built: ModelProto, x: np.ndarray) -> list[np.ndarray]:
    """On ONNX Runtime, optimizations off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers = ["CPUExecutionProvider"]
    return ort.InferenceSession(built.SerializeToString(), options, providers).run(None, {"x": x})

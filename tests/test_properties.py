"""What holds for every graph: random ones of all operators, types and ways to share.

The number of examples is modest by default and always the same ones; with the environment variable
BNFOLD_EXAMPLES=5000 it is that many new ones.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import rational
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutants import Rule, fault_in
from numpy.typing import NDArray
from onnx import TensorProto, helper
from random_graphs import Draw, Grown, Normal, Seeded, grow
from rowtests import require_no_contradiction
from versions import RUNS_RANDOM_GRAPHS

from bnfold import fold

Array = NDArray[Any]
EXAMPLES = os.environ.get("BNFOLD_EXAMPLES")
PROFILE = settings(
    max_examples=int(EXAMPLES or 120),
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
ULPS: dict[int, float] = {
    TensorProto.FLOAT: 2.0**-23,
    TensorProto.FLOAT16: 2.0**-10,
    TensorProto.DOUBLE: 2.0**-52,
}
"""The spacing of numbers about 1."""
FACTOR = 8
"""How much further from float64 the folded model may be than the original."""
FLOOR = 64
"""And so many ULPs of the largest value in the graph."""
LARGEST = 100
"""Values of float16 beyond this lose too much, in either model, to compare."""


class Drawn:
    """Choices that hypothesis makes, and makes simpler when a test fails."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw

    def integer(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return self.draw(st.integers(low, high))

    def pick(self, options: Any) -> Any:
        """One of several."""
        return options[self.draw(st.integers(0, len(options) - 1))]


def example(draw: Draw, elem_type: int, seed: int) -> Grown:
    """A graph that looks like a trained network."""
    return grow(draw, Normal(seed), elem_type, size=draw.integer(1, 14))


@st.composite
def graphs(draw: st.DrawFn) -> Grown:
    """Graphs of float32, now and then of float64 and float16."""
    floats = [TensorProto.FLOAT] * 4 + [TensorProto.DOUBLE, TensorProto.FLOAT16]
    return example(Drawn(draw), draw(st.sampled_from(floats)), draw(st.integers(0, 2**31)))


def elem_type(model: onnx.ModelProto) -> int:
    """The float type of a model."""
    return int(model.graph.input[0].type.tensor_type.elem_type)


def run(model: onnx.ModelProto, feeds: dict[str, Array], names: list[str]) -> list[Array]:
    """Values of any tensors: ONNX Runtime with optimizations off; float64 by our own evaluator."""
    if elem_type(model) == TensorProto.DOUBLE:
        values = rational.evaluate(model, feeds, rational.TRUE, float)
        return [values[name].astype(np.float64) for name in names]
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(
        helper.make_tensor_value_info(name, elem_type(model), None) for name in names
    )
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    data = exposed.SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return [np.asarray(v, np.float64) for v in session.run(names, feeds)]


def computed(model: onnx.ModelProto) -> set[str]:
    """Names of what the nodes make."""
    return {name for node in model.graph.node for name in node.output}


def count(model: onnx.ModelProto) -> int:
    """How many BatchNormalizations there are."""
    return sum(node.op_type == "BatchNormalization" for node in model.graph.node)


def check_values(grown: Grown) -> None:
    """Every float tensor of both models is as near to float64 in one as in the other."""
    result = fold(grown.proto)
    require_no_contradiction(result)
    folded = result.model
    names = sorted(set(grown.floats) & computed(folded))
    if not names:
        return
    exact = rational.evaluate(grown.proto, grown.feeds, rational.TRUE, float)
    truth = [exact[name].astype(np.float64) for name in names]
    largest = max((abs(v).max() for v in truth if v.size), default=0.0)
    kind = elem_type(grown.proto)
    if kind == TensorProto.FLOAT16 and largest > LARGEST:
        return
    before, after = (run(model, grown.feeds, names) for model in (grown.proto, folded))
    for name, true, own, new in zip(names, truth, before, after, strict=True):
        assert new.shape == own.shape, name
        error, limit = (abs(v - true).max(initial=0) for v in (new, own))
        limit = FACTOR * limit + FLOOR * ULPS[kind] * max(largest, 1)
        assert error <= limit, f"{name}: error {error:.3g}, allowed {limit:.3g}"


def check_structure(grown: Grown) -> None:
    """Nothing else changes: inputs, outputs, names, the argument; and no run differs."""
    given_bytes = grown.proto.SerializeToString(deterministic=True)
    folded = fold(grown.proto).model
    assert grown.proto.SerializeToString(deterministic=True) == given_bytes
    assert list(folded.graph.output) == list(grown.proto.graph.output)
    assert list(folded.graph.input) == list(grown.proto.graph.input)
    assert folded.opset_import == grown.proto.opset_import
    assert len(folded.graph.node) <= len(grown.proto.graph.node)
    assert count(folded) <= count(grown.proto)
    onnx.checker.check_model(folded, full_check=True)
    written = folded.SerializeToString(deterministic=True)
    assert fold(grown.proto).model.SerializeToString(deterministic=True) == written


def check_idempotence(grown: Grown) -> None:
    """What was folded once has nothing left to fold."""
    once = fold(grown.proto).model
    twice = fold(once).model
    assert twice.SerializeToString(deterministic=True) == once.SerializeToString(
        deterministic=True
    )


@RUNS_RANDOM_GRAPHS
@PROFILE
@given(graphs())
def test_any_tensor_keeps_its_value(grown: Grown) -> None:
    """A name in both models is the same value, as near to float64 as it was."""
    check_values(grown)


@PROFILE
@given(graphs())
def test_nothing_else_changes(grown: Grown) -> None:
    """Inputs, outputs and the argument stay, nodes never grow, every run gives the same bytes."""
    check_structure(grown)


@PROFILE
@given(graphs())
def test_folding_twice_changes_nothing(grown: Grown) -> None:
    """A second fold gives the same bytes."""
    check_idempotence(grown)


@RUNS_RANDOM_GRAPHS
@pytest.mark.slow
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_thousands_of_graphs(kind: int) -> None:
    """All of it for many more graphs."""
    for seed in range(2000):
        grown = example(Seeded(seed), kind, seed)
        check_values(grown)
        check_structure(grown)


@RUNS_RANDOM_GRAPHS
def test_a_wrong_fold_shows() -> None:
    """With one rule one percent wrong, a graph among the first hundred differs."""
    grown = [example(Seeded(seed), TensorProto.FLOAT, seed) for seed in range(100)]
    rule = Rule("backward", "", "Conv")
    with fault_in(rule, "inputs[1].scale"), pytest.raises(AssertionError, match="error"):
        list(map(check_values, grown))

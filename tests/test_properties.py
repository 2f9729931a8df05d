"""What holds for every graph: random ones of all operators, types and ways to share.

The number of examples is modest by default and always the same ones; with the environment variable
BNFOLD_EXAMPLES=5000 it is that many new ones.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutants import Rule, fault_in
from onnx import TensorProto
from properties import (
    GENERATORS,
    SWITCHES,
    check_all,
    check_idempotence,
    check_order,
    check_repeatability,
    check_structure,
    check_values,
    example,
)
from random_graphs import Grown
from versions import RUNS_RANDOM_GRAPHS

from bnfold import fold

EXAMPLES = os.environ.get("BNFOLD_EXAMPLES")
PROFILE = settings(
    max_examples=int(EXAMPLES or 120),
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


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


@st.composite
def graphs(draw: st.DrawFn) -> Grown:
    """Graphs of float32, now and then of float64 and float16."""
    floats = [TensorProto.FLOAT] * 4 + [TensorProto.DOUBLE, TensorProto.FLOAT16]
    return example(Drawn(draw), draw(st.sampled_from(floats)), draw(st.integers(0, 2**31)))


@RUNS_RANDOM_GRAPHS
@PROFILE
@given(graphs())
def test_any_tensor_keeps_its_value(grown: Grown) -> None:
    """A name in both models is the same value, as near to float64 as it was."""
    check_values(grown, fold(grown.proto))


@PROFILE
@given(graphs())
def test_nothing_else_changes(grown: Grown) -> None:
    """Inputs, outputs and the argument stay, nodes never grow, every run gives the same bytes."""
    result = fold(grown.proto)
    check_structure(grown, result)
    check_repeatability(grown, result)


@PROFILE
@given(graphs())
def test_folding_twice_changes_nothing(grown: Grown) -> None:
    """A second fold gives the same bytes, however it was asked for."""
    for switches in SWITCHES:
        check_idempotence(fold(grown.proto, **switches), **switches)


@PROFILE
@given(graphs(), st.integers(0, 2**31))
def test_a_file_may_have_any_order_and_names(grown: Grown, seed: int) -> None:
    """What is folded follows from the graph, not from the order of its nodes in the file."""
    check_order(grown, fold(grown.proto), seed)


@RUNS_RANDOM_GRAPHS
@pytest.mark.slow
@pytest.mark.parametrize("kind", GENERATORS)
def test_thousands_of_graphs(kind: str) -> None:
    """All of it for many more graphs."""
    for seed in range(2000):
        check_all(GENERATORS[kind](seed), seed)


@RUNS_RANDOM_GRAPHS
def test_a_wrong_fold_shows() -> None:
    """With one rule one percent wrong, a graph among the first hundred differs."""
    grown = [GENERATORS["float32"](seed) for seed in range(100)]
    rule = Rule("backward", "", "Conv")
    with fault_in(rule, "inputs[1].scale"):
        folded = [fold(each.proto) for each in grown]
    with pytest.raises(AssertionError, match="error"):
        list(map(check_values, grown, folded))

"""Random graphs of all operators are folded without changing a single rational number."""

from __future__ import annotations

from collections import Counter

import pytest
from exact_rows import Model, build, differences
from onnx.numpy_helper import to_array
from random_graphs import Dyadic, Grown, Seeded, grow

from bnfold import fold

SEEDS = 250
SLOW_SEEDS = 4000


def graph(seed: int) -> Grown:
    """A graph of 4 to 16 nodes; doubles, lest a long chain of exact numbers outgrows a float."""
    return grow(Seeded(seed), Dyadic(seed), size=4 + seed % 13)


def check(seed: int) -> Counter[str]:
    """Fold one graph and assert that it is the same; how many of what there were before."""
    grown = graph(seed)
    result = fold(grown.proto)
    wrong = differences(Model(grown.proto, grown.feeds), result.model)
    assert not wrong, f"differ: {', '.join(wrong)}"
    counts = Counter({"nodes": len(grown.proto.graph.node)})
    for name, model in (("before", grown.proto), ("after", result.model)):
        counts[name] = sum(n.op_type == "BatchNormalization" for n in model.graph.node)
    assert len(result.model.graph.node) <= counts["nodes"]
    assert counts["after"] <= counts["before"]
    return counts


@pytest.mark.parametrize("seed", range(SEEDS))
def test_folded_equals_original(seed: int) -> None:
    """Every tensor whose name is in both models holds the same rational numbers in both."""
    check(seed)


@pytest.mark.slow
def test_thousands_of_graphs() -> None:
    """The same for many more."""
    for seed in range(SEEDS, SLOW_SEEDS):
        check(seed)


def test_most_of_it_folds() -> None:
    """The graphs are no empty proof: half of their batch normalizations fold."""
    counts: Counter[str] = sum((check(seed) for seed in range(60)), Counter())
    assert counts["after"] < 0.6 * counts["before"], counts


TWICE = {
    "a bias in the place of one that beta scaled": "a = BN(X[3,4], 4);"
    "g = Gemm<beta=2.0>(a, w[4,5]); y = Sub(c[5], g)",
    "an operator that carries nothing yet": "n = Neg(X[3,4]); k = Concat<axis=1>(n, X);"
    "a = BN(k, 8); d = Div(a, e^[8]); g = Gemm<alpha=0.5, beta=2.0, transB=1>(d, w[4,8]);"
    "y = Mul(c[1], g); z = BN(g, 4)",
}
"""Graphs of which only a second fold folded all."""


@pytest.mark.parametrize("text", TWICE.values(), ids=TWICE)
def test_one_fold_is_enough(text: str) -> None:
    """A second fold finds nothing to do."""
    once = fold(build(text).proto).model
    assert fold(once).model == once


def test_nodes_stand_behind_what_they_read() -> None:
    """A bias that was added and a product that was merged come in the right order."""
    text = "h = MatMul(X[2,2,4,5], w[5,5]); a = BN(h, 2); g = MatMul(a, v[5,3]);"
    text += "k = Transpose<perm=[0,1,3,2]>(g); y = BN(k, 2)"
    model = build(text)
    assert not differences(model, fold(model.proto).model)


@pytest.mark.parametrize(
    "first", ["MatMul(X[3,5], v[5,5])", "LayerNormalization(X[3,5], s[5], b[5])"]
)
def test_no_shift_goes_round_and_round(first: str) -> None:
    """A sum of two paths from one value: no parameter grows to what cancels later."""
    model = build(f"n = {first}; a = BN(n, 5); m = MatMul(n, w[5,5]); y = Mean(a, m)")
    result = fold(model.proto)
    assert not differences(model, result.model)
    assert all(abs(to_array(tensor)).max() < 1e4 for tensor in result.model.graph.initializer)

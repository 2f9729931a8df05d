"""A fold follows from the graph: a second finds nothing, and the order of the file is nothing."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper
from rows import Built, row
from rowtests import faults, truth
from shuffles import function_of, shuffled

import bnfold

COMPETING = {
    "two affines of one convolution": """c = Conv(X[N,C,H,W], w[O,C,3,3]);
        a = Mul(c, s+[O,1,1]); y = Sigmoid(a); b = Mul(c, t+[O,1,1]); z = Tanh(b)""",
    "one of two behind a pad": """c = Conv(X[N,C,H,W], w[O,C,3,3]); d = Mul(c, s+[O,1,1]);
        p = Pad(d, q{0,0,0,1,0,0,0,0}); a = Mul(p, u+[O,1,1]); y = Sigmoid(a);
        b = Mul(c, t+[O,1,1]); m = GlobalMaxPool(b); z = Tanh(m)""",
    "two normalizations of one product": """c = MatMul(X[N,H,C], w[C,O]);
        a = Transpose<perm=[0,2,1]>(c); n = BN[O,0!](a); y = Tanh(n); m = Mul(c, s[O]);
        z = Sigmoid(m)""",
    "branches of one value": """a = Conv<pads=[1,1,1,1]>(X[N,C,H,W], w[C,C,3,3]); n = BN[C](a);
        b = Conv(X, u[C,C,1,1]); m = BN[C](b); i = BN[C](X); s = Add(n, m); y = Add(s, i);
        z = Tanh(m)""",
    "a chain into two sums": """a = Conv(X[N,C,H,W], w[C,C,1,1]); n = BN[C,+](a); r = Relu(n);
        b = Mul(r, s[C,1,1]); y = Add(b, n); z = Conv(b, v[O,C,3,3])""",
}
"""Graphs in which one fold is in the way of another."""

NEIGHBOURS = {
    "behind a pair of Transposes": """a = Conv(X[N,C,H,W], w[O,C,1,1]);
        t = Transpose<perm=[0,2,3,1]>(a); n = Mul(t, s+[O]); m = Add(n, b[O]);
        u = Transpose<perm=[0,3,1,2]>(m); y = Conv(u, v[C,O,1,1])""",
    "behind a pair of Reshapes": """a = MatMul(X[N,H,C], w[C,C]); t = Unsqueeze(a, q{1});
        n = Mul(t, s+[C]); u = Squeeze(n, q); y = MatMul(u, v[C,C])""",
    "behind a normalization": """a = Conv(X[N,C,H,W], w[O,C,1,1]); n = BN[O](a);
        p = Conv(n, v[C,O,1,1]); q = BN[C](p); y = BN[C](q)""",
}
"""Two operators that one makes, once nothing is left between them."""


def open_outputs(built: Built) -> onnx.ModelProto:
    """The model with outputs of which the file does not tell the shape."""
    for output in built.model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return built.model


@pytest.mark.parametrize("text", COMPETING.values(), ids=COMPETING)
def test_any_order_of_the_nodes_folds_the_same(text: str) -> None:
    """Which of two folds is made does not depend on the order of the nodes, nor on names."""
    built = row(text)
    one = bnfold.fold(built.model)
    for seed in range(8):
        other = bnfold.fold(shuffled(built.model, seed))
        assert function_of(other.model) == function_of(one.model), seed
    assert faults(built, one.model, truth(built)) == []


@pytest.mark.parametrize("text", [*COMPETING.values(), *NEIGHBOURS.values()])
def test_a_second_fold_finds_nothing(text: str) -> None:
    """The same bytes come out, also where the file does not say what shape its outputs have."""
    model = open_outputs(row(text))
    once = bnfold.fold(model).model
    assert bnfold.fold(once).model == once


@pytest.mark.parametrize("text", NEIGHBOURS.values(), ids=NEIGHBOURS)
def test_what_becomes_neighbours_is_merged(text: str) -> None:
    """One operator is left in the first run, and the report says of both what became of them."""
    built = row(text)
    result = bnfold.fold(built.model)
    assert [node.op_type for node in result.model.graph.node if node.op_type != "Add"] in (
        ["Conv"],
        ["MatMul"],
    )
    assert len(result.merged) == 1
    assert {site.verdict for site in result.sites} == {"folded"}
    assert faults(built, result.model, truth(built)) == []


def test_a_file_keeps_the_order_of_its_nodes() -> None:
    """Nodes are looked at in an order of their own, and written in that of the file."""
    built = row("a = Relu(X[N,C,H,W]); b = Conv(X, w[C,C,1,1]); n = BN[C](b); y = Add(n, a)")
    names = [node.output[0] for node in bnfold.fold(built.model).model.graph.node]
    assert names == ["a", "n", "y"]


def test_subgraphs_are_looked_at_behind_what_they_read() -> None:
    """An If that captures values of nodes far from it folds in any order of those around it."""
    built = row("""c = Conv(X[N,C,H,W], w[C,C,1,1]); n = BN[C](c); r = Relu(n);
        q = Conv(X, v[C,C,1,1]); m = BN[C](q); t = Tanh(m); y = Add(r, t)""")
    graph = built.model.graph
    arms = [
        helper.make_graph(
            [helper.make_node(op, [name], [f"{name}_arm"])],
            f"{name}_graph",
            [],
            [helper.make_tensor_value_info(f"{name}_arm", onnx.TensorProto.FLOAT, None)],
        )
        for op, name in (("Relu", "r"), ("Exp", "t"))
    ]
    graph.node.pop()
    graph.node.append(helper.make_node("ReduceMax", ["r"], ["top"], keepdims=0))
    graph.node.append(helper.make_node("Greater", ["top", "zero"], ["k"]))
    graph.node.append(
        helper.make_node("If", ["k"], ["y"], then_branch=arms[0], else_branch=arms[1])
    )
    graph.initializer.append(helper.make_tensor("zero", onnx.TensorProto.FLOAT, [], [0.0]))
    before = bnfold.fold(built.model)
    assert {site.verdict for site in before.sites} == {"folded"}
    nodes = [graph.node[i] for i in (3, 4, 5, 0, 1, 2, 6, 7, 8)]
    moved = onnx.ModelProto()
    moved.CopyFrom(built.model)
    del moved.graph.node[:]
    moved.graph.node.extend(nodes)
    assert function_of(bnfold.fold(moved).model) == function_of(before.model)

"""What decided a whole number is found, and how far from a tie it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

from bnfold.decisions import Decision, deciding, decisions

HEADER = '<ir_version: 8, opset_import: ["": 17]>'
F = np.array


def graph(kind: str, nodes: str) -> Any:
    text = (
        f"{HEADER} g (float[2,3] x, int64[2,3] i) => ({kind} y) <float k = {{0.5}}> {{ {nodes} }}"
    )
    return parser.parse_model(text)


FOUND = [
    ("int64", "a = Exp(x) y = ArgMax<axis=1>(a)", [("ArgMax", ("a",), True)]),
    ("int32", "a = ArgMin(x) b = Squeeze(a) y = Cast<to=6>(b)", [("ArgMin", ("x",), True)]),
    ("bool", "a = Exp(x) y = Greater(a, k)", [("Greater", ("a", "k"), True)]),
    ("bool", "b = Less(x, k) y = Not(b)", [("Less", ("x", "k"), False)]),
    ("bool", "b = Less(x, k) c = Greater(x, k) y = Or(b, c)", ["Less", "Greater"]),
    ("int64", "a = Exp(x) y = Cast<to=7>(a)", [("Cast", ("a",), True)]),
    ("int64", "a = Mul(x, k) y = Cast<to=7>(a)", [("Cast", ("a",), True)]),
    ("int64", "a = Round(x) y = Cast<to=7>(a)", [("Round", ("x",), True)]),
    ("int64", "t = Constant<value_ints=[1]>() v, y = TopK(x, t)", [("TopK", ("x",), True)]),
    ("int64", "y = Add(i, i)", []),
    ("int64", "y = Shape(x)", []),
    ("int64", "a = Exp(x) y = NonZero(a)", []),
    ("int64", "a = Exp(x) b = Cast<to=1>(a) c = NonZero(b) y = Add(c, i)", []),
]


@pytest.mark.parametrize(("kind", "nodes", "expected"), FOUND, ids=[n for _, n, _ in FOUND])
def test_what_decided(kind: str, nodes: str, expected: list[Any]) -> None:
    """The nodes that made whole numbers of floats, and whether the output holds just theirs."""
    found = decisions(graph(kind, nodes).graph, "y")
    if expected and isinstance(expected[0], str):
        assert [d.op_type for d in found] == expected
    else:
        assert [(d.op_type, d.inputs, d.in_order) for d in found] == expected


MARGINS = [
    ("ArgMax", -1, [[[1.0, 1.25, 0.0]]], [[0]], [[1]], [0.25]),
    ("ArgMin", 0, [[[3.0, 5.0], [3.5, 5.0]]], [0, 0], [1, 0], [0.5]),
    ("TopK", -1, [[[4.0, 3.0, 2.5]]], [[0, 1]], [[0, 2]], [0.5]),
    ("Greater", -1, [[1.0, 2.0], [1.5, 9.0]], [True, False], [False, False], [0.5]),
    ("Floor", -1, [[0.9, 2.5]], [0, 2], [1, 2], [0.1]),
    ("Round", -1, [[0.4, 2.0]], [0, 2], [1, 2], [0.1]),
    ("Sign", -1, [[-0.25, 2.0]], [-1, 1], [1, 1], [0.25]),
    ("ArgMax", -1, [[[1.0, 1.25, 0.0]]], [[0]], [[7]], [np.inf]),
]


@pytest.mark.parametrize(("op_type", "axis", "values", "ours", "theirs", "expected"), MARGINS)
def test_margins(
    op_type: str, axis: int, values: Any, ours: Any, theirs: Any, expected: list[float]
) -> None:
    """How far from a tie the values were, of the elements that differ and of no others."""
    decision = Decision(op_type, ("a", "b")[: len(values)], "y", axis)
    found = decision.margins([F(v) for v in values], F(ours), F(theirs))
    np.testing.assert_allclose(found, expected)


def test_what_is_looked_at_besides_the_outputs() -> None:
    """Computed values only, those that the candidate has under the same name, and constants."""
    original = graph("bool", "a = Exp(x) y = Greater(a, k)")
    same = deciding(original, original)
    assert (same.watched, same.shared) == (("a",), ("a",))
    assert same.constants["k"] == np.float32(0.5)
    other = deciding(original, graph("bool", "b = Exp(x) y = Greater(b, k)"))
    assert (other.watched, other.shared) == (("a",), ())

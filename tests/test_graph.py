"""Who makes and who reads what: the index over a protobuf, and what it writes back."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from rows import graph, parameters, row

from bnfold.constants import Constant
from bnfold.graph import Graph, Value, constant_of

WEIGHT = np.ones((6, 4), np.float32)


def read(text: str, **arrays: np.ndarray) -> Graph:
    """A graph from text."""
    return Graph(graph(text, arrays).model)


def value(built: Graph, name: str) -> Value:
    """A value of the outermost graph."""
    found = built.root.find(name)
    assert found is not None
    return found


SIMPLE = "(float[N,6] X) => (float[N,4] y) { h = Gemm(X, w) y = Relu(h) }"


def test_producers_and_readers() -> None:
    """Each value knows who makes it and where it is read."""
    built = read(SIMPLE, w=WEIGHT)
    h = value(built, "h")
    assert h.producer is not None
    assert h.producer.op_type == "Gemm"
    assert [(node.op_type, index) for node, index in h.readers] == [("Relu", 0)]
    assert value(built, "X").is_input
    assert value(built, "y").is_output
    assert value(built, "w").is_stored
    assert value(built, "w").constant is not None


def test_shapes_are_numbers_symbols_or_nothing() -> None:
    """As the file says."""
    built = read("(float[N,6,?] X, float s, float[] u) => (float y) { y = Foo(X, s, u) }")
    assert value(built, "X").shape == ("N", 6, None)
    assert value(built, "s").shape == ()
    assert value(built, "u").shape is None
    assert value(built, "X").elem_type == TensorProto.FLOAT


def test_an_untouched_graph_is_written_as_it_was() -> None:
    """No change, no difference."""
    built = row("h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h); m, _q = Dropout(y); z = Sin(m)")
    before = built.model.SerializeToString(deterministic=True)
    Graph(built.model).flush()
    assert built.model.SerializeToString(deterministic=True) == before


SCOPES = """(float[2,6] X, bool flag) => (float[2,4] y) {
    h = Gemm(X, w)
    y = If(flag) <
      then_branch = t () => (float[2,4] a) { v = Relu(h) a = Add(v, h) },
      else_branch = e () => (float[2,4] c) { v = Sin(X) c = Gemm(v, w) }>
}"""


def test_a_captured_value_is_one_value() -> None:
    """A subgraph reads the outer value itself; its own names are its own."""
    built = read(SCOPES, w=WEIGHT)
    h = value(built, "h")
    assert h.is_captured
    assert [node.op_type for node, _ in h.readers] == ["Relu", "Add"]
    assert not value(built, "X").constant
    inner = [scope.values["v"] for scope in built.scopes[1:]]
    assert inner[0] is not inner[1]
    assert all(v.scope is scope for v, scope in zip(inner, built.scopes[1:], strict=True))
    assert built.scopes[2].find("w") is value(built, "w")


def test_a_name_of_the_inner_scope_hides_the_outer_one() -> None:
    """Each scope finds its own first."""
    built = read(
        """(float[2,4] X, bool flag) => (float[2,4] y) {
            y = If(flag) <
              then_branch = t () => (float[2,4] a) <float[4] w = {1, 2, 3, 4}> { a = Add(X, w) },
              else_branch = e () => (float[2,4] c) { c = Add(X, w) }>
        }""",
        w=np.zeros(4, np.float32),
    )
    then = built.scopes[1].find("w")
    assert then is not value(built, "w")
    assert built.scopes[2].find("w") is value(built, "w")


def test_fresh_names_are_fresh_everywhere() -> None:
    """Neither a name of the graph nor one of a subgraph is given again."""
    built = read(SCOPES, w=WEIGHT)
    assert [built.fresh_name("v") for _ in range(2)] == ["v_2", "v_3"]
    assert built.fresh_name("new") == "new"


def test_replaced_inputs_fill_up_with_absent_ones() -> None:
    """A bias behind an input that is not there."""
    model = row("y = Conv(X[N,C,H,W], w[O,C,3,3])").model
    built = Graph(model)
    (node,) = built.nodes
    bias = built.add_constant(
        built.root, "b", Constant.of_array(np.zeros(10, np.float32)), np.zeros(10, np.float32)
    )
    built.replace_input(node, 4, bias)
    built.flush()
    assert list(model.graph.node[0].input) == ["X", "w", "", "", "b"]
    assert [t.name for t in model.graph.initializer] == ["w", "b"]


def test_initializers_that_lose_their_last_reader_go() -> None:
    """With what computed them."""
    built = graph(
        """(float[N,6] X) => (float[N,4] y) {
            t = Transpose(w) s = Transpose(t) y = Gemm(X, s) }""",
        {"w": WEIGHT},
    )
    index = Graph(built.model)
    from bnfold.evaluate import mark_constants

    mark_constants(index)
    node = next(n for n in index.nodes if n.op_type == "Gemm")
    new = index.add_constant(index.root, "w_folded", Constant.of_array(WEIGHT), WEIGHT)
    index.replace_input(node, 1, new)
    index.flush()
    assert [n.op_type for n in built.model.graph.node] == ["Gemm"]
    assert [t.name for t in built.model.graph.initializer] == ["w_folded"]


def test_initializers_that_nobody_read_stay() -> None:
    """What was there without a reader is not ours to take."""
    built = graph(SIMPLE, {"w": WEIGHT, "unread": WEIGHT})
    Graph(built.model).flush()
    assert [t.name for t in built.model.graph.initializer] == ["w", "unread"]


def test_renaming_reaches_readers_in_subgraphs() -> None:
    """A value is called by one name wherever it is read."""
    built = graph(SCOPES, {"w": WEIGHT})
    index = Graph(built.model)
    index.rename(value(index, "h"), "other")
    index.flush()
    onnx.checker.check_model(built.model, full_check=True)
    text = str(built.model.graph.node)
    assert '"other"' in text
    assert '"h"' not in text


def test_inserted_nodes_stand_behind_their_place() -> None:
    """The order of the file stays topological."""
    built = graph(SIMPLE, {"w": WEIGHT})
    index = Graph(built.model)
    gemm = next(index.nodes)
    h = value(index, "h")
    product = index.new_value(index.root, "h_product", h)
    gemm.outputs[0], product.producer, gemm.is_dirty = product, gemm, True
    bias = index.add_constant(
        index.root, "b", Constant.of_array(np.ones(4, np.float32)), np.ones(4, np.float32)
    )
    index.insert_after(gemm, "Add", [product, bias], [h])
    index.flush()
    onnx.checker.check_model(built.model, full_check=True)
    assert [n.op_type for n in built.model.graph.node] == ["Gemm", "Add", "Relu"]


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ({"value_float": 0.5}, np.float32(0.5)),
        ({"value_floats": [0.5, 2.0]}, np.float32([0.5, 2])),
        ({"value_int": 3}, np.int64(3)),
        ({"value_ints": [3, 4]}, np.int64([3, 4])),
        ({"value": helper.make_tensor("", TensorProto.DOUBLE, [1], [0.1])}, np.array([0.1])),
        ({"value_string": "text"}, None),
    ],
)
def test_constant_nodes(attribute: dict[str, object], expected: np.ndarray | None) -> None:
    """Of every kind that holds numbers."""
    node = helper.make_node("Constant", [], ["k"], **attribute)
    output = helper.make_tensor_value_info("k", TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph([node], "g", [], [output]))
    built = Graph(model)
    constant = constant_of(next(built.nodes), built.weights)
    if expected is None:
        assert constant is None
    else:
        assert constant is not None
        assert constant.dtype == expected.dtype
        np.testing.assert_array_equal(constant.value(), expected)


@pytest.mark.parametrize("keep", [False, True])
def test_overridable_initializers(keep: bool) -> None:
    """Constants, unless the caller says that somebody overrides them."""
    built = graph(SIMPLE, {"w": WEIGHT}, ir=8)
    built.model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [6, 4]))
    index = Graph(built.model, keep_overridable=keep)
    w = value(index, "w")
    assert w.is_overridable
    assert (w.constant is None) is keep
    index.flush()
    assert [i.name for i in built.model.graph.input] == (["X", "w"] if keep else ["X"])


def test_inputs_of_a_body_are_no_constants() -> None:
    """A body's own initializer may be an input of it: then the caller gives it."""
    built = graph(
        """(float[2,4] X) => (float[2,4] y) {
            y = Loop(times, true, X) <body = step (int64 i, bool go, float[2,4] s)
                => (bool same, float[2,4] t) {
                  same = Identity(go)
                  t = BatchNormalization(s, g, b, m, v)
                }>
        }""",
        {"times": np.array(3), "true": np.array(True), **parameters("", 4)},
    )
    index = Graph(built.model)
    s = index.scopes[1].values["s"]
    assert s.is_input
    assert s.constant is None
    assert index.scopes[1].values["t"].is_output

"""Features and sizes: what a size decided, cut or repeated is data still, and folds as data."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, parser

import bnfold
from bnfold.features import size_arithmetic
from bnfold.graph import Graph

Array = NDArray[Any]
RNG = np.random.default_rng(8)
SIZES = """s = Shape(x)
    d = Gather(s, two)
    k = Greater(d, eight)"""
"""The shape of x, its last dimension as a scalar, and whether that is above eight."""

FEATURES = {
    "if": """f = If(k) <
        then_branch = a () => (float[N,4,L] p) {p = Relu(x)},
        else_branch = b () => (float[N,4,L] q) {q = Neg(x)}>""",
    "if of a constant and of data": """f = If(k) <
        then_branch = a () => (float[N,4,L] p) {p = Expand(row, s)},
        else_branch = b () => (float[N,4,L] q) {q = Neg(x)}>""",
    "if of constants": """t = If(k) <
        then_branch = a () => (float[1,4,1] p) {p = Identity(row)},
        else_branch = b () => (float[1,4,1] q) {q = Neg(row)}>
        f = Expand(t, s)""",
    "nested if": """f = If(k) <
        then_branch = a () => (float[N,4,L] p) {p = If(k) <
            then_branch = c () => (float[N,4,L] u) {u = Relu(x)},
            else_branch = e () => (float[N,4,L] v) {v = Neg(x)}>},
        else_branch = b () => (float[N,4,L] q) {q = Tanh(x)}>""",
    "loop that carries data": """f = Loop(d, , x) <
        body = a (int64 i, bool c, float[N,4,L] v) => (bool o, float[N,4,L] w)
            {o = Identity(c)
             w = Tanh(v)}>""",
    "loop that captures data": """z = ConstantOfShape(s)
        f = Loop(d, , z) <
        body = a (int64 i, bool c, float[N,4,L] v) => (bool o, float[N,4,L] w)
            {o = Identity(c)
             w = Max(v, x)}>""",
    "if in a loop": """z = ConstantOfShape(s)
        f = Loop(d, , z) <
        body = a (int64 i, bool c, float[N,4,L] v) => (bool o, float[N,4,L] w)
            {o = Identity(c)
             w = If(k) <
                then_branch = t () => (float[N,4,L] p) {p = Max(v, x)},
                else_branch = e () => (float[N,4,L] q) {q = Min(v, x)}>}>""",
    "scan": """f = Scan <num_scan_inputs = 1,
        body = a (float[4,L] v) => (float[4,L] w) {w = Tanh(v)}> (x)""",
    "where": """y0 = Neg(x)
        f = Where(k, x, y0)""",
    "slice up to a size": """e = Unsqueeze(d, zero)
        f = Slice(x, zero, e, last)""",
    "reshape to a size": """g = Reshape(x, s)
        f = Tanh(g)""",
    "expand to a size": "f = Expand(row, s)",
    "fill to a size": "f = ConstantOfShape <value = float[1] {0.5}> (s)",
    "a table up to a size": """e = Unsqueeze(d, zero)
        f = Slice(table, zero, e, last)""",
    "a table by positions": """r = Range(none, d, one)
        f = Gather <axis = 2> (table, r)""",
    "positions": """r = Range(none, d, one)
        v = Cast <to = 1> (r)
        f = Expand(v, s)""",
}
"""How `f`, of shape [N,4,L], comes from x and its sizes."""

ARITHMETIC = {
    "scaled": """c = Cast <to = 1> (d)
        m = Mul(c, half)
        t = Add(m, half)""",
    "chosen by an if": """c = Cast <to = 1> (d)
        m = If(k) <
            then_branch = a () => (float p) {p = Mul(c, half)},
            else_branch = b () => (float q) {q = Identity(c)}>
        t = Mul(m, half)""",
    "within an if": """c = Cast <to = 1> (d)
        t = If(k) <
            then_branch = a () => (float p) {g = Mul(c, half)
                p = Add(g, half)},
            else_branch = b () => (float q) {q = Identity(c)}>""",
    "carried by a loop": """c = Cast <to = 1> (d)
        t = Loop(one, , c) <
            body = a (int64 i, bool k0, float v) => (bool o, float w)
                {o = Identity(k0)
                 g = Mul(v, half)
                 w = Add(g, half)}>""",
    "of a constant that sizes cut": """n = Unsqueeze(d, zero)
        r = Slice(numbers, zero, n)
        u = ReduceSum <keepdims = 0> (r, zero)
        c = Cast <to = 1> (u)
        m = Mul(c, half)
        t = Add(m, half)""",
}
"""How the float `t` comes from sizes alone, by at least two affines."""

CONSTANTS: dict[str, Array] = {
    "two": np.array(2),
    "eight": np.array(8),
    "one": np.array(1),
    "none": np.array(0),
    "zero": np.array([0]),
    "last": np.array([2]),
    "numbers": np.arange(64),
    "half": np.array(0.5, np.float32),
    "row": RNG.standard_normal((1, 4, 1)).astype(np.float32),
    "table": RNG.standard_normal((1, 4, 64)).astype(np.float32),
    "kernel": RNG.standard_normal((4, 4, 1)).astype(np.float32),
    **{
        name: RNG.uniform(0.5, 2, 4).astype(np.float32)
        for name in ("gamma", "beta", "mean", "var")
    },
}


def model(body: str, output: str = "float[n,4,l] y") -> onnx.ModelProto:
    """A model of x that may read the constants above."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,4,L] x) => ({output}) {{ {SIZES}
        {body} }}"""
    made = parser.parse_model(text)
    made.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in CONSTANTS.items()
    )
    onnx.checker.check_model(made, full_check=True)
    return made


def run(made: onnx.ModelProto, length: int) -> Array:
    """The output for an x of that length, by a runtime that optimizes nothing."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(
        made.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(length).standard_normal((2, 4, length)).astype(np.float32)
    return np.asarray(session.run(None, {"x": x})[0])


def same_function(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Equal outputs on both sides of what the sizes decide."""
    for length in (5, 11):
        np.testing.assert_allclose(run(after, length), run(before, length), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FEATURES)
def test_what_a_size_decides_is_data(name: str) -> None:
    """A normalization behind a convolution of it folds."""
    made = model(f"""{FEATURES[name]}
        h = Conv(f, kernel)
        y = BatchNormalization(h, gamma, beta, mean, var)""")
    result = bnfold.fold(made)
    assert "BatchNormalization" not in [node.op_type for node in result.model.graph.node]
    same_function(made, result.model)


@pytest.mark.parametrize("name", FEATURES)
def test_a_normalization_is_always_told_of(name: str) -> None:
    """One right behind a value that a size decides folds forward, or says why not."""
    made = model(f"""{FEATURES[name]}
        h = BatchNormalization(f, gamma, beta, mean, var)
        y = Conv(h, kernel)""")
    result = bnfold.fold(made)
    reason = "unknown-shape" if "loop" in name else None  # onnx infers no shape behind a Loop
    assert [site.reason for site in result.sites if site.tensor == "h"] == [reason]
    same_function(made, result.model)


@pytest.mark.parametrize("name", ARITHMETIC)
def test_sizes_are_left_alone(name: str) -> None:
    """Numbers computed from sizes are rounded to a shape later: none is computed otherwise."""
    made = model(
        f"""{ARITHMETIC[name]}
        j = Mul(t, half)
        i = Floor(j)
        e = Cast <to = 7> (i)
        y = Unsqueeze(e, zero)""",
        "int64[1] y",
    )
    result = bnfold.fold(made)
    assert result.model.graph.node == made.graph.node
    assert result.sites == ()


def test_an_operator_of_another_domain_is_no_shape_reader() -> None:
    """Somebody's own operator named Shape may compute anything of its input."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], domain="some.where"),
        helper.make_node("Neg", ["s"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3]) for n in "xy"]
    made = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]))
    assert size_arithmetic(Graph(made)) == set()

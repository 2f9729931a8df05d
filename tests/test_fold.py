"""The traps: each a graph in which another tool was seen to fold wrongly, or a promise of ours."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rows import Built, graph, parameters, row
from rowtests import constants, content, data_inputs, faults, refused, same_bits, tensors, truth

import bnfold
from bnfold import search
from bnfold.reasons import Reason

RNG = np.random.default_rng(20)


def normal(*shape: int) -> np.ndarray:
    """Random weights."""
    return RNG.standard_normal(shape).astype(np.float32)


def folded(built: Built, *, left: int = 0, **options: Any) -> bnfold.FoldResult:
    """Fold; the same function must come out, with so many normalizations left."""
    onnx.checker.check_model(built.model, full_check=True)
    before = content(built.model)
    result = bnfold.fold(built.model, **options)
    assert content(built.model) == before
    onnx.checker.check_model(result.model, full_check=True)
    assert normalizations(result.model.graph) == left, [s for s in result.sites if s.code]
    assert faults(built, result.model, truth(built)) == []
    assert data_inputs(result.model) == data_inputs(built.model)
    assert result.model.graph.output == built.model.graph.output
    return result


def normalizations(proto: onnx.GraphProto) -> int:
    """How many there are, subgraphs included."""
    return sum(
        (node.op_type == "BatchNormalization")
        + sum(normalizations(a.g) for a in node.attribute if a.HasField("g"))
        for node in proto.node
    )


def operators(result: bnfold.FoldResult) -> list[str]:
    """The operators that are left, in order."""
    return [node.op_type for node in result.model.graph.node]


# ----------------------------------------------------------------- names and tensors


def test_the_output_keeps_its_name() -> None:
    """A normalization that makes a graph output hands its name to the operator before."""
    result = folded(row("h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h)"))
    assert [node.output[0] for node in result.model.graph.node] == ["y"]
    (site,) = result.sites
    assert (site.tensor, site.verdict, site.direction, site.target) == (
        "y",
        "folded",
        "backward",
        "h",
    )


def test_a_name_does_not_grow_with_the_folds() -> None:
    """A weight that took in many affines is called as if it had taken in one."""
    text = "h = Conv(X[N,C,H,W], w[O,C,3,3]); a = BN[O](h); b = BN[O](a); y = BN[O](b)"
    result = folded(row(text))
    names = [tensor.name for tensor in result.model.graph.initializer]
    assert names[0].startswith("w_folded")
    assert all(name.count("_folded") < 2 for name in names)


def test_a_value_that_moved_has_a_fresh_name() -> None:
    """What is crossed holds something else, so it is called something else."""
    built = row("""h = Conv(X[N,C,H,W], w[O,C,3,3]); p = MaxPool<kernel_shape=[2,2]>(h);
        y = BN[O,+](p)""")
    result = folded(built)
    assert not {"h", "p"} & set(tensors(result.model))
    assert result.sites[0].path == ("MaxPool",)


@pytest.mark.parametrize("name", ["", "same"])
def test_node_names_do_not_matter(name: str) -> None:
    """Nodes without names, and nodes with the same name twice, fold as others do."""
    built = row("""h = Conv(X[N,C,H,W], w[O,C,3,3]); a = BN[O](h); r = Relu(a);
        i = Conv(r, v[K,O,3,3]); y = BN[K](i)""")
    for node in built.model.graph.node:
        node.name = name
    result = folded(replace(built, row=replace(built.row, judge=True)))  # the runtime refuses
    assert {node.name for node in result.model.graph.node} == {name}
    assert [site.tensor for site in result.folded] == ["a", "y"]


def test_new_names_are_not_taken() -> None:
    """A tensor that already has the name a new initializer would get is left alone."""
    built = row("""h = Conv(X[N,C,H,W], w[O,C,3,3]); b = BN[O](h); r = Add(b, w_folded[O,1,1]);
        y = Add(r, h_bias[1]); z = Sin(w_folded); q = Sin(h_bias)""")
    result = folded(built)
    names = [t.name for t in result.model.graph.initializer] + tensors(result.model)
    assert len(names) == len(set(names))
    assert {"w_folded", "h_bias"} <= set(names)


def test_new_names_are_not_taken_in_a_subgraph() -> None:
    """Nor is a name of a subgraph, which would hide the outer tensor there."""
    built = graph(
        """(float[2,6] X, bool flag) => (float[2,4] y) {
            h = Gemm(X, w)
            n = BatchNormalization(h, g, b, m, v)
            y = If(flag) <
              then_branch = t () => (float[2,4] a) { w_folded = Sin(n) a = Add(w_folded, n) },
              else_branch = e () => (float[2,4] c) { h_bias = Cos(n) c = Add(h_bias, n) }>
        }""",
        {"w": normal(6, 4), **parameters("", 4)},
    )
    folded(built)


def test_an_absent_bias_given_as_the_empty_name() -> None:
    """An optional input may be there by name only: an empty one."""
    result = folded(row("h = Conv(X[N,C,H,W], w[O,C,3,3], _); y = BN[O](h)"))
    (node,) = result.model.graph.node
    assert len(node.input) == 3
    assert all(node.input)


def test_a_weight_that_is_an_output_stays() -> None:
    """A weight that the graph also returns is copied."""
    built = row("h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h)")
    built.model.graph.output.append(
        helper.make_tensor_value_info("w", TensorProto.FLOAT, [10, 6, 3, 3])
    )
    result = folded(built)
    assert same_bits(constants(result.model)["w"], constants(built.model)["w"])


# ------------------------------------------------------------------- shared tensors


def test_a_shared_weight_is_copied() -> None:
    """A weight shared with another Conv is never modified."""
    built = row("h = Conv(X[N,C,H,W], w[O,C,3,3], b[O]); y = BN[O](h); z = Conv(Z[N,C,H,W], w, b)")
    result = folded(built)
    assert same_bits(constants(result.model)["w"], constants(built.model)["w"])
    assert same_bits(constants(result.model)["b"], constants(built.model)["b"])


def test_a_weight_shared_by_two_normalizations() -> None:
    """One weight, two normalizations: two weights, none of them the old one."""
    built = row("""h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h);
        i = Conv(Z[N,C,H,W], w); z = BN[O](i)""")
    result = folded(built)
    assert "w" not in constants(result.model)


def test_a_module_used_twice() -> None:
    """Weight and statistics are shared: a layer that is called two times."""
    folded(
        row("""h = Conv(X[N,C,H,W], w[O,C,3,3]); i = Conv(Z[N,C,H,W], w);
        y = BatchNormalization(h, g[O], b[O], m[O], v+[O]);
        z = BatchNormalization(i, g, b, m, v)""")
    )


def test_gamma_is_also_the_variance() -> None:
    """Tensors of equal content are one after deduplication."""
    folded(row("h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BatchNormalization(h, p+[O], b[O], b, p)"))


def test_beta_is_also_the_bias() -> None:
    """The bias of the Conv and the beta behind it are one tensor."""
    folded(
        row("h = Conv(X[N,C,H,W], w[O,C,3,3], b[O]); y = BatchNormalization(h, g[O], b, b, v+[O])")
    )


def test_one_weight_in_both_operands() -> None:
    """A tensor that enters a product twice: as data computed from it and as weight."""
    folded(row("h = Gemm(X[N,C], w[C,C], b[C]); i = Gemm(h, w, b); y = BN[C](i)"))


def test_the_untouched_weights_keep_their_bytes() -> None:
    """Raw bytes stay raw bytes, typed data stays typed data."""
    built = row("h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h); z = Gemm(Z[N,C], u[C,D])")
    typed = helper.make_tensor("u", TensorProto.FLOAT, [6, 5], np.arange(30.0))
    built.model.graph.initializer[-1].CopyFrom(typed)
    result = folded(built)
    assert typed in list(result.model.graph.initializer)


# ------------------------------------------------------------------ who else looks


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (Reason.SHARED_VALUE, "h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O,0](h); z = Sin(h)"),
        (
            Reason.SHARED_VALUE,
            "h = Gemm(X[N,C], w[C,O]); r = Relu(h); y = BN[O,+,0](r); z = Sin(h)",
        ),
        (Reason.OPAQUE_OP, "h = Sin(X[N,C]); n = BN[C,0](h); y = Tanh(n)"),
        (Reason.NO_PRODUCER, "n = BN[C,0](X[N,C]); y = Gemm(Z[D,N], n)"),
        (Reason.GRAPH_OUTPUT, "y = BN[C,0](X[N,C,H,W])"),
    ],
)
def test_refusals_of_the_search(reason: Reason, text: str) -> None:
    """What lies beyond any one rule: who else reads a value, and where the graph ends."""
    refused(row(text), reason, Reason.WRONG_AXIS, Reason.NO_PRODUCER)


def test_the_product_is_an_output() -> None:
    """The Conv's own result is asked for: it stays what it is."""
    built = row("h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h)")
    built.model.graph.output.append(
        helper.make_tensor_value_info("h", TensorProto.FLOAT, [2, 10, 5, 7])
    )
    refused(built, Reason.GRAPH_OUTPUT)


def test_a_crossed_value_is_an_output() -> None:
    """So does a value on the way."""
    built = row("h = Gemm(X[N,C], w[C,O]); r = Relu(h); y = BN[O,+,0](r)")
    built.model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, [2, 10]))
    refused(built, Reason.GRAPH_OUTPUT)


def test_the_result_is_read_and_an_output() -> None:
    """The normalization's result is an output and goes on: that is no obstacle backward."""
    built = row("""h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h); z = Relu(y);
        q = Conv(y, v[K,O,3,3])""")
    built.model.graph.output.append(
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 10, 5, 7])
    )
    folded(built)


def test_the_result_is_an_output_and_goes_forward() -> None:
    """Forward it is one: the value that the caller sees would change."""
    built = row("y = BN[C](X[N,C,H,W]); z = Conv(y, w[O,C,3,3])")
    built.model.graph.output.append(
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 6, 7, 9])
    )
    refused(built, Reason.GRAPH_OUTPUT, Reason.NO_PRODUCER)


@pytest.mark.parametrize("reader", ["Shape", "Size"])
def test_readers_of_the_shape_do_not_count(reader: str) -> None:
    """Shape and Size look at no element."""
    built = row(
        f"h = Conv(X[n,C,H,W], w[O,C,3,3]); y = BN[O](h); i = {reader}(h); s = Identity(i)"
    )
    for output in built.model.graph.output:
        if output.name == "s":
            output.type.tensor_type.elem_type = TensorProto.INT64
    folded(built)


def test_both_readers_take_it() -> None:
    """Forward into two products at once."""
    result = folded(
        row("x = BN[C](X[N,C,H,W]); y = Conv(x, w[O,C,3,3]); z = Conv(x, v[K,C,1,1], b[K])")
    )
    assert operators(result) == ["Conv", "Conv"]


def test_a_reader_that_does_not_take_it_stops_the_others() -> None:
    """All readers or none."""
    refused(
        row("x = BN[C](X[N,C,H,W]); y = Conv(x, w[O,C,3,3]); z = Sin(x)"),
        Reason.OPAQUE_OP,
        Reason.NO_PRODUCER,
    )


# ------------------------------------------------------- initializers that are inputs


def overridable(ir: int, names: list[str] | None = None) -> Built:
    """A model that lists initializers among its inputs."""
    built = row("h = Conv(X[N,C,H,W], w[O,C,3,3], b[O]); y = BN[O](h)")
    built.model.ir_version = ir
    for tensor in built.model.graph.initializer:
        if names is None or tensor.name in names:
            built.model.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return built


def test_ir_3_lists_all_initializers() -> None:
    """Before version 4 every initializer is an input too: old ones go, new ones come."""
    result = folded(overridable(3), keep_overridable=True)
    names = [info.name for info in result.model.graph.input]
    assert names == ["X", *(t.name for t in result.model.graph.initializer)]


@pytest.mark.parametrize("ir", [4, 8])
def test_overridable_initializers_are_constants(ir: int) -> None:
    """From version 4 on nobody overrides them in earnest: they leave the inputs, with a note."""
    result = folded(overridable(ir))
    assert [info.name for info in result.model.graph.input] == ["X"]
    assert set(result.frozen_inputs) == {"w", "b", "y_gamma", "y_beta", "y_mean", "y_var"}


@pytest.mark.parametrize("name", ["w", "b", "y_gamma", "y_var"])
def test_overridable_initializers_can_be_kept(name: str) -> None:
    """Whoever overrides them says so, and nothing that depends on one is folded."""
    built = overridable(8, [name])
    reasons = (Reason.NOT_CONSTANT, Reason.GRAPH_OUTPUT)
    result = refused(built, *reasons, keep_overridable=True)
    assert result.model.graph.input == built.model.graph.input
    assert result.frozen_inputs == ()


# ------------------------------------------------------------------------ constants


CONSTANTS = {
    "initializer": "k = Identity(s)",
    "tensor": "k = Constant<value = float[4] {0.5, -2.0, 0.0, 3.0}>()",
    "floats": "k = Constant<value_floats = [0.5, -2.0, 0.0, 3.0]>()",
    "one float": "k = Constant<value_float = -2.0>()",
    "computed": "a = Abs(s) r = Sqrt(a) k = Neg(r)",
    "reshaped": "p = Constant<value_ints = [-1]>() r = Reshape(t, p) k = Identity(r)",
    "cast": "c = Cast<to=10>(s) k = Cast<to=1>(c)",
    "integers": "i = Constant<value = int64[4] {1, -2, 0, 3}>() k = Cast<to=1>(i)",
    "transposed": "r = Transpose<perm=[1,0]>(t) q = Squeeze(r, o) k = Identity(q)",
    "of its shape": "c = Shape(s) k = ConstantOfShape<value = float[1] {0.5}>(c)",
    "of the other's shape": """c = Shape<start=1>(h) d = ConstantOfShape<value = float[1] {2}>(c)
        k = Mul(d, s)""",
    "of the other's type": "i = Constant<value = int64[4] {1, -2, 0, 3}>() k = CastLike(i, h)",
    "cut": "a, k = Split<axis=0>(u, n)",
    "of quantized numbers": """q = Constant<value = int8[4] {1, -2, 0, 3}>()
        k = DequantizeLinear(q, one)""",
}


@pytest.mark.parametrize("kind", CONSTANTS)
def test_constants_wherever_they_hide(kind: str) -> None:
    """Initializers, Constant nodes of every kind, and all that follows from them."""
    built = graph(
        f"""(float[N,6] X) => (float[N,4] y) {{
            h = Gemm(X, w) {CONSTANTS[kind]} y = Mul(h, k)
        }}""",
        {
            "w": normal(6, 4),
            "s": np.float32([0.5, -2.0, 0.0, 3.0]),
            "t": normal(1, 4),
            "u": normal(7),
            "n": np.array([3, 4]),
            "o": np.array([1]),
            "one": np.float32(0.1),
        },
        opset=19,
    )
    assert operators(folded(built)) == ["Gemm"]


@pytest.mark.parametrize(
    "weight",
    [
        "k = Transpose<perm=[1,0]>(w)",
        "a = Identity(v) k = Identity(a)",
        "k = Mul(v, two)",
        "k = Constant<value = float[2,3] {1, 2, 3, 4, 5, 6}>()",
        "a = Cast<to=1>(d) k = Identity(a)",
        "k = Reshape(f, n)",
    ],
)
def test_weights_that_are_computed_from_constants(weight: str) -> None:
    """A weight is what it is worth, however it is written."""
    built = graph(
        f"""(float[N,2] X) => (float[N,3] y) {{
            {weight} h = Gemm(X, k) y = BatchNormalization(h, g, b, m, v_)
        }}""".replace("v_", "var"),
        {
            "w": normal(3, 2),
            "v": normal(2, 3),
            "two": np.float32(2),
            "d": normal(2, 3).astype(np.float64),
            "f": normal(6),
            "n": np.array([2, 3]),
            "g": normal(3),
            "b": normal(3),
            "m": normal(3),
            "var": np.abs(normal(3)) + np.float32(0.1),
        },
    )
    assert operators(folded(built)) == ["Gemm"]


# ---------------------------------------------------------------------- decomposed


@pytest.mark.parametrize(
    "text",
    [
        "h = Conv(X[N,C,H,W], w[O,C,3,3]); a = Mul(h, s[O,1,1]); y = Add(a, t[O,1,1])",
        """h = Conv(X[N,C,H,W], w[O,C,3,3], b[O]); a = Sub(h, m[1,O,1,1]); c = Mul(a, s[1,O,1,1]);
        y = Add(c, t[1,O,1,1])""",
        """h = Conv(X[N,C,H,W], w[O,C,3,3]); a = Sub(h, m[O,1,1]);
        e = Add(v+[O,1,1], k:float=0.001); r = Sqrt(e); d = Div(a, r); c = Mul(d, s[O,1,1]);
        y = Add(c, t[O,1,1])""",
        """h = Conv(X[N,C,H,W], w[O,C,3,3]); e = Add(v+[O], k:float=0.001); r = Sqrt(e);
        i = Reciprocal(r); g = Mul(i, s[O]); gg = Reshape(g, p{O,1,1}); a = Mul(h, gg);
        n = Mul(m[O], g); u = Sub(t[O], n); uu = Unsqueeze(u, q{1,2}); y = Add(a, uu)""",
        "h = MatMul(X[N,C], w[C,O]); b = Add(h, c[O]); a = Mul(b, s[O]); y = Add(a, t[O])",
        "a = Sub(X[N,C,H,W], m[C,1,1]); d = Div(a, s+[C,1,1]); y = Conv(d, w[O,C,3,3])",
        "a = Div(X[N,C,H,W], k:float=255.0); d = Sub(a, m[C,1,1]); y = Conv(d, w[O,C,3,3])",
        "h = Conv(X[N,C,H,W], w[O,C,3,3]); n = Neg(h); y = Sub(t[O,1,1], n)",
    ],
)
def test_decomposed_normalizations(text: str) -> None:
    """All the forms that exporters leave end in the one product."""
    built = row(text)
    result = folded(built)
    assert len(operators(result)) == 1
    assert all(site.verdict == "folded" for site in result.sites)


def test_transposes_around_a_normalization_go_too() -> None:
    """Channels last: Transpose, BN, Transpose behind a product leave only the product."""
    built = row("""h = MatMul(X[N,T,C], w[C,O]); a = Add(h, b[O]); t = Transpose<perm=[0,2,1]>(a);
        n = BN[O](t); u = Transpose<perm=[0,2,1]>(n); y = Relu(u)""")
    result = folded(built)
    assert operators(result) == ["MatMul", "Add", "Relu"]
    assert result.removed_movement == 2


def test_a_layer_normalization_written_out_stays() -> None:
    """It is no affine by constants, and its scale and bias belong to it."""
    built = row("""h = Gemm(X[N,C], w[C,O]); m = ReduceMean(h, a{1}); d = Sub(h, m); q = Mul(d, d);
        v = ReduceMean(q, a); e = Add(v, k:float=0.001); s = Sqrt(e); n = Div(d, s);
        g = Mul(n, p[O]); y = Add(g, t[O])""")
    assert faults(built, bnfold.fold(built.model).model, truth(built)) == []


# -------------------------------------------------------------------------- chains


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("x = BN[C](X[N,C]); h = Gemm(x, w[C,O], b[O]); y = BN[O](h)", ["Gemm"]),
        (
            """a = Mul(X[N,C,H,W], s[C,1,1]); b = Add(a, t[C,1,1]); h = Conv(b, w[O,C,3,3]);
            y = BN[O](h)""",
            ["Conv"],
        ),
        ("h = Conv(X[N,C,H,W], w[O,C,3,3]); a = BN[O](h); b = BN[O](a); y = BN[O](b)", ["Conv"]),
        ("x = BN[C](X[N,C]); a = BN[C](x); y = Gemm(a, w[C,O])", ["Gemm"]),
        (
            """x = BN[C](X[N,C]); f = Gemm(x, w[C,D]); a = BN[D](f); r = Relu(a);
            g = Gemm(r, v[D,E]); b = BN[E](g); q = Sigmoid(b); c = BN[E](q);
            y = Gemm(c, u[E,O])""",
            ["Gemm", "Relu", "Gemm", "Sigmoid", "Gemm"],
        ),
        (
            """h = Conv(X[N,C,H,W], w[K,C,3,3]); a = BN[K](h); r = Relu(a);
         i = Conv<group=K, pads=[1,1,1,1]>(r, v[K,1,3,3]); b = BN[K](i); s = Relu(b);
         j = Conv(s, u[C,K,1,1]); c = BN[C](j); p = Slice(X, f{1,1}, e{-1,-1}, d{2,3});
            z = Add(c, p); y = Relu(z)""",
            ["Conv", "Relu", "Conv", "Relu", "Conv", "Slice", "Add", "Relu"],
        ),
        (
            """a = Conv(X[N,C,H,W], w[O,C,3,3]); m = BN[O](a); b = Conv(X, v[O,C,1,1]);
            n = BN[O](b); p = Slice(n, f{1,1}, e{-1,-1}, d{2,3}); s = Add(m, p); y = BN[O](s)""",
            ["Conv", "Conv", "Slice", "Add"],
        ),
    ],
)
def test_chains_collapse(text: str, left: list[str]) -> None:
    """Normalizations in a row, and products between them, until nothing changes."""
    assert operators(folded(row(text), reparameterize=False)) == left


def test_dense_bias_before_a_normalization_changes_nothing() -> None:
    """The mean takes a bias away again, so both forms fold into the same numbers of weights."""
    bare = folded(row("h = Gemm(X[N,C], w[C,O]); y = BN[O](h)")).model
    biased = folded(row("h = Gemm(X[N,C], w[C,O], b[O]); y = BN[O](h)")).model
    assert [n.op_type for n in bare.graph.node] == [n.op_type for n in biased.graph.node]
    assert [t.dims for t in bare.graph.initializer] == [t.dims for t in biased.graph.initializer]


# ------------------------------------------------------------------------ mixed plans


PREACTIVATION = """h = Conv(X[N,C,H,W], w[O,C,3,3], b[O]); n = BN[O,+](h); r = Relu(n);
    y = Conv<pads=[1,1,1,1]>(r, v[K,O,3,3])"""


def test_pre_activation_folds_backward() -> None:
    """With nobody else looking, the whole affine goes back."""
    result = folded(row(PREACTIVATION))
    assert result.sites[0].direction == "backward"


def test_pre_activation_splits_where_the_value_is_shared() -> None:
    """Who else reads the value gets the opposite, which the next residual bias takes in."""
    built = row("""h = Conv(X[N,C,H,W], w[O,C,3,3], b[O]); n = BN[O,+](h); r = Relu(n);
        i = Conv<pads=[1,1,1,1]>(r, v[O,O,3,3], c[O]); s = Add(h, i); t = Relu(s);
        y = Conv(t, u[K,O,1,1])""")
    result = folded(built)
    assert all(site.verdict == "folded" for site in result.sites)


def test_pre_activation_splits_where_a_branch_takes_no_scale() -> None:
    """The shift goes into the one branch that has a bias, the scale forward through the Relu."""
    built = row("""c = Conv(X[N,C,H,W], w[O,C,3,3], b[O]); q = Sin(Z[N,O,1,1]); h = Add(c, q);
        n = BN[O,+](h); r = Relu(n); y = Conv<pads=[1,1,1,1]>(r, v[K,O,3,3])""")
    result = folded(built)
    assert result.sites[0].direction == "mixed"


@pytest.mark.parametrize("flags", ["O", "O,+,z"])
def test_pre_activation_stays_with_other_scales(flags: str) -> None:
    """A negative gamma does not pass the Relu, a zero one has no inverse."""
    built = row(f"""h = Conv(X[N,C,H,W], w[O,C,3,3], b[O]); n = BN[{flags}](h); r = Relu(n);
        i = Conv<pads=[1,1,1,1]>(r, v[O,O,3,3], c[O]); s = Add(h, i); t = Relu(s);
        y = Conv(t, u[K,O,1,1])""")
    folded(built, left=1)


def test_readers_that_want_different_shifts_keep_theirs() -> None:
    """DenseNet: every reader of a join has a normalization of its own."""
    built = row("""h = Conv(X[N,C,H,W], w[O,C,3,3]); n = BN[O,+](h); r = Relu(n);
        i = Conv<pads=[1,1,1,1]>(r, v[K,O,3,3]); j = Concat<axis=1>(h, i); m = BN[O+K,+](j);
        s = Relu(m); y = Conv<pads=[1,1,1,1]>(s, u[D,O+K,3,3])""")
    result = bnfold.fold(built.model)
    assert faults(built, result.model, truth(built)) == []


# --------------------------------------------------------------------------- numbers


def test_weights_are_rounded_once() -> None:
    """The folded weight is the float64 product, rounded: to the last bit."""
    built = row("h = Conv(X[N,C,H,W], w[O,C,3,3], c[O]); y = BN[O](h)")
    old = {name: array.astype(np.float64) for name, array in constants(built.model).items()}
    scale = old["y_gamma"] / np.sqrt(old["y_var"] + np.float64(np.float32(1e-5)))
    (node,) = (result := folded(built)).model.graph.node
    new = constants(result.model)
    weight = (old["w"] * scale.reshape(-1, 1, 1, 1)).astype(np.float32)
    bias = (old["c"] * scale + (old["y_beta"] - old["y_mean"] * scale)).astype(np.float32)
    np.testing.assert_array_equal(new[node.input[1]], weight)
    np.testing.assert_array_max_ulp(new[node.input[2]], bias, 1)


def test_a_chain_is_rounded_once() -> None:
    """Factors that would overflow and come back, were they rounded in between."""
    big, small = np.float32(3e38), np.float32(1e-38)
    text = "(float[N,4] X) => (float[N,4] y) { h = Gemm(X, w) a = Mul(h, k) y = Mul(a, q) }"
    built = graph(text, {"w": normal(4, 4) * 30, "k": np.full(4, big), "q": np.full(4, small)})
    result = bnfold.fold(built.model)
    exact = constants(built.model)["w"].astype(np.float64) * np.float64(big) * np.float64(small)
    (name,) = {n.input[1] for n in result.model.graph.node} & set(constants(result.model))
    if len(result.folded) == 2:
        np.testing.assert_allclose(constants(result.model)[name], exact, rtol=1e-7)


def test_tiny_scales_leave_no_subnormal_weights() -> None:
    """Subnormal weights carry nothing and cost much: they become zero, and are counted."""
    built = graph(
        """(float[2,6,5,5] X) => (float[2,4,3,3] y) {
            h = Conv(X, w) y = BatchNormalization(h, g, b, m, v) }""",
        {
            "w": normal(4, 6, 3, 3),
            "g": np.float32([1, 1e-38, 2, 1e-39]),
            "b": normal(4),
            "m": normal(4),
            "v": np.float32([1, 1, 1, 1]),
        },
    )
    result = folded(built)
    values = np.concatenate([a.ravel() for a in constants(result.model).values()])
    magnitudes = np.abs(values[values != 0])
    assert magnitudes.min() >= np.finfo(np.float32).tiny
    assert result.flushed >= 54


def test_subnormals_of_float16_stay() -> None:
    """In float16 they still carry weight."""
    built = row(
        """@type=float16 h = Gemm(X[N,C], w[C,4]); y = Mul(h, s:float16{0.0001,0.5,1,2})"""
    )
    result = folded(built)
    (weight,) = (a for a in constants(result.model).values() if a.ndim == 2)
    magnitudes = np.abs(weight[weight != 0])
    assert magnitudes.min() < np.finfo(np.float16).smallest_normal
    assert result.flushed == 0


@pytest.mark.parametrize(
    ("scale", "reason"), [("60000", Reason.OVERFLOW), ("0.00000006", Reason.UNDERFLOW)]
)
def test_float16_that_cannot_hold_the_weight(scale: str, reason: Reason) -> None:
    """A scale that the type cannot take stays where it is."""
    built = row(f"@type=float16 h = Gemm(X[N,C], w[C,O]); y = Mul(h, s:float16={scale})")
    refused(built, reason)


def test_float16_with_float_statistics_that_overflow() -> None:
    """gamma / sqrt(var + epsilon) beyond 65504, in a model whose own values are small."""
    built = row("""@type=float16 @opset=15 h = Conv(X[N,C,H,W], w[4,C,3,3]);
        y = BatchNormalization<epsilon=0.0>(h, g:float{1,1,1,1}, b:float{0,0,0,0},
        m:float{0,0,0,0}, v:float{1,0.0000000001,1,1})""")
    refused(built, Reason.OVERFLOW)


def test_float32_that_cannot_hold_the_weight() -> None:
    """The same in float32."""
    built = row("h = Gemm(X[N,C], w[C,4]); y = Mul(h, s:float{1,3e38,1,1})")
    refused(built, Reason.OVERFLOW)


@pytest.mark.parametrize("variance", ["0.0000000001", "0", "-0.000001"])
def test_variances_that_epsilon_saves(variance: str) -> None:
    """A variance near zero, at zero, and a little below it: epsilon keeps the root real."""
    built = row(f"""h = Conv(X[N,C,H,W], w[4,C,3,3]); y = BatchNormalization(h, g[4], b[4], m[4],
        v:float{{1,{variance},2,0.5}})""")
    folded(built)


def test_epsilon_is_the_float_that_the_file_holds() -> None:
    """1e-5 as float32; with a variance of zero the difference is large enough to see."""
    text = """h = Gemm(X[N,C], w[C,4]); y = BatchNormalization{}(h, g[4], b[4], m[4],
        v:float{{0,0,0,0}})"""
    implicit, explicit = (row(text.format(e)) for e in ("", "<epsilon=0.00001>"))
    assert content(bnfold.fold(implicit.model).model) == content(bnfold.fold(explicit.model).model)


# ------------------------------------------------------------------------- subgraphs


BRANCHES = """(float[N,6] X, bool flag) => (float[N,4] y) {{
    {outside}
    y = If(flag) <
      then_branch = t () => (float[N,4] a) {{ {then} }},
      else_branch = e () => (float[N,4] c) {{ {otherwise} }}>
}}"""


def branches(then: str, otherwise: str, outside: str = "") -> Built:
    """A model with an If, run with both conditions."""
    arrays = {"w": normal(6, 4), "u": normal(4, 4), **parameters("", 4), **parameters("k", 4, 1)}
    return graph(BRANCHES.format(outside=outside, then=then, otherwise=otherwise), arrays)


@pytest.mark.parametrize("flag", [True, False])
def test_inside_one_branch(flag: bool) -> None:
    """A weight of the enclosing graph is folded for one branch and stays for the other."""
    built = branches("h = Gemm(X, w) a = BatchNormalization(h, g, b, m, v)", "c = Gemm(X, w)")
    built.feeds["flag"] = np.array(flag)
    result = folded(built)
    assert same_bits(constants(result.model)["w"], constants(built.model)["w"])


@pytest.mark.parametrize("flag", [True, False])
def test_inside_both_branches(flag: bool) -> None:
    """Each branch has its own weight then."""
    built = branches(
        "h = Gemm(X, w) a = BatchNormalization(h, g, b, m, v)",
        "i = Gemm(X, w) c = BatchNormalization(i, kg, kb, km, kv)",
    )
    built.feeds["flag"] = np.array(flag)
    folded(built)


def test_a_product_read_inside_a_branch() -> None:
    """The Conv's result is captured: it stays what it is."""
    built = branches(
        "a = Sin(h)", "c = Cos(n)", "h = Gemm(X, w) n = BatchNormalization(h, g, b, m, v)"
    )
    refused(built, Reason.CAPTURED, Reason.SHARED_VALUE)


@pytest.mark.parametrize("flag", [True, False])
def test_a_result_read_inside_a_branch(flag: bool) -> None:
    """The normalization's result is captured: backward that is no obstacle, its name stays."""
    built = branches(
        "a = Sin(n)", "c = Gemm(n, u)", "h = Gemm(X, w) n = BatchNormalization(h, g, b, m, v)"
    )
    built.feeds["flag"] = np.array(flag)
    result = folded(built)
    assert "n" in tensors(result.model)


@pytest.mark.parametrize("flag", [True, False])
def test_a_weight_read_inside_a_branch(flag: bool) -> None:
    """The weight is captured: it is copied."""
    built = branches(
        "a = Gemm(n, u)", "c = Gemm(X, w)", "h = Gemm(X, w) n = BatchNormalization(h, g, b, m, v)"
    )
    built.feeds["flag"] = np.array(flag)
    result = folded(built)
    assert same_bits(constants(result.model)["w"], constants(built.model)["w"])


def test_a_product_outside_of_a_branch() -> None:
    """A normalization inside whose product is outside is not moved over the border."""
    built = branches("a = BatchNormalization(h, g, b, m, v)", "c = Sin(h)", "h = Gemm(X, w)")
    refused(built, Reason.CAPTURED, Reason.SHARED_VALUE, Reason.GRAPH_OUTPUT)


def test_inside_a_loop() -> None:
    """A body's weights may stand in it or around it."""
    built = graph(
        """(float[2,4] X) => (float[2,4] y, float[L,2,4] z) {
            y, z = Loop(times, true, X) <body = step (int64 i, bool go, float[2,4] s)
                => (bool same, float[2,4] t, float[2,4] scan) {
                  same = Identity(go)
                  h = Gemm(s, w)
                  t = BatchNormalization(h, g, b, m, v)
                  q = BatchNormalization(t, kg, kb, km, kv)
                  scan = Gemm(q, inner)
                }>
        }""",
        {
            "times": np.array(3),
            "true": np.array(True),
            "w": normal(4, 4) / 4,
            **parameters("", 4),
            **parameters("k", 4, 1),
        },
    )
    inner = numpy_helper.from_array(normal(4, 4), "inner")
    built.model.graph.node[0].attribute[0].g.initializer.append(inner)
    folded(built)


def test_inside_a_scan() -> None:
    """As in a Loop."""
    built = graph(
        """(float[3,2,4] X, float[2,4] S) => (float[2,4] y, float[3,2,4] z) {
            y, z = Scan(S, X) <num_scan_inputs = 1, body = step (float[2,4] s, float[2,4] x)
                => (float[2,4] t, float[2,4] scan) {
                  t = Add(s, x)
                  h = Gemm(x, w)
                  scan = BatchNormalization(h, g, b, m, v)
                }>
        }""",
        {"w": normal(4, 4), **parameters("", 4)},
    )
    folded(built)


def test_a_value_that_a_body_carries_stays() -> None:
    """What goes round in a Loop is an output of its body, and an input."""
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
    refused(built, Reason.GRAPH_OUTPUT, Reason.NO_PRODUCER)


# --------------------------------------------------------------- what cannot be known


def test_an_unknown_rank_is_refused() -> None:
    """A normalization of a value of which nothing is known."""
    built = row("n = BN[C](X[N,C,H,W]); y = Conv(n, w[O,C,3,3])")
    built.model.graph.input[0].type.tensor_type.ClearField("shape")
    built.model.graph.output[0].type.tensor_type.shape.dim[0].Clear()
    result = bnfold.fold(built.model)
    assert faults(built, result.model, truth(built)) == []


def test_an_einsum_tells_the_shape_of_its_result() -> None:
    """Behind an operator that onnx does not know, a label has one size wherever it stands."""
    built = row(
        """@runtime f = com.microsoft.FusedMatMul(X[N,C,T,D], u[D,D]);
        e = Einsum<equation="nctv,cvw->nctw">(f, a[C,D,M]); r = Relu(e);
        g = Mul(r, s+[C,1,1]); y[N,C,T,M] = Sigmoid(g)"""
    )
    folded(built)


def test_an_unknown_operator_is_opaque() -> None:
    """A model with an operator of somebody's own folds everywhere else."""
    built = row("h = Conv(X[N,C,H,W], w[O,C,3,3]); a = BN[O](h); r = Relu(a)")
    node = helper.make_node("Mystery", ["r"], ["q"], domain="some.where")
    last = helper.make_node("BatchNormalization", ["q", *(f"a_{p}" for p in PARTS)], ["y"])
    built.model.graph.node.extend([node, last])
    built.model.opset_import.append(helper.make_opsetid("some.where", 3))
    built.model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    )
    result = bnfold.fold(built.model)
    assert [node.op_type for node in result.model.graph.node] == [
        "Conv",
        "Relu",
        "Mystery",
        "BatchNormalization",
    ]
    assert {site.tensor: site.verdict for site in result.sites} == {"a": "folded", "y": "kept"}


PARTS = ("gamma", "beta", "mean", "var")


@pytest.mark.parametrize(("scale", "left"), [("c[2,1], a{2,C//2}", 1), ("c[3,1], a{3,2}", 2)])
def test_group_normalization_of_opset_18(scale: str, left: int) -> None:
    """One scale a group: channels that are alike within a group, and channels that are not.

    onnx's checker calls the operator deprecated, yet files hold it and runtimes run it.
    """
    built = row(f"""n[N,C,H,W] = GroupNormalization<num_groups=2>(X[N,C,H,W], g[2], b[2]);
        e = Expand({scale}); k = Reshape(e, d{{C,1,1}}); y[N,C,H,W] = Mul(n, k)""")
    result = bnfold.fold(built.model)
    assert len([op for op in operators(result) if op in ("GroupNormalization", "Mul")]) == left
    assert faults(built, result.model, truth(built)) == []


# -------------------------------------------------------------------------- the rest


def test_what_is_asked_for_is_kept() -> None:
    """`keep` names the output of a normalization."""
    built = row("""h = Conv(X[N,C,H,W], w[O,C,3,3]); a = BN[O](h); r = Relu(a);
        i = Conv(r, v[K,O,1,1]); y = BN[K](i)""")
    result = folded(built, left=1, keep=["a"])
    kept = {site.tensor: site.code for site in result.sites}
    assert kept == {"a": Reason.KEPT_BY_REQUEST.code, "y": None}


def test_an_unknown_tensor_to_keep() -> None:
    """A name that no normalization makes is a mistake of the caller."""
    with pytest.raises(bnfold.InputError, match="nothing"):
        bnfold.fold(row("h = Gemm(X[N,C], w[C,O]); y = BN[O](h)").model, keep=["nothing"])


def test_inspect_says_what_fold_does() -> None:
    """The same report, and no model."""
    built = row("h = Conv(X[N,C,H,W], w[O,C,3,3]); a = BN[O](h); r = Sin(a); y = BN[O](r)")
    before = content(built.model)
    report, result = bnfold.inspect(built.model), bnfold.fold(built.model)
    assert report.to_dict() == {k: v for k, v in result.to_dict().items() if k in report.to_dict()}
    assert content(built.model) == before


def test_the_rest_of_the_file_stays() -> None:
    """Metadata, doc strings, versions and the names of surviving nodes."""
    built = row("h = Conv(X[N,C,H,W], w[O,C,3,3]); a = BN[O](h); y = Relu(a)")
    model = built.model
    model.producer_name, model.doc_string, model.domain = "somebody", "a note", "org.here"
    model.model_version = 7
    model.metadata_props.add(key="author", value="them")
    model.graph.doc_string, model.graph.name = "inside", "net"
    model.graph.node[0].name, model.graph.node[2].name = "first", "last"
    model.graph.node[0].doc_string = "a convolution"
    new = folded(built).model
    for field in ("producer_name", "doc_string", "domain", "model_version", "ir_version"):
        assert getattr(new, field) == getattr(model, field)
    assert new.metadata_props == model.metadata_props
    assert new.opset_import == model.opset_import
    assert (new.graph.doc_string, new.graph.name) == ("inside", "net")
    assert [node.name for node in new.graph.node] == ["first", "last"]
    assert new.graph.node[0].doc_string == "a convolution"


def test_no_description_of_what_is_gone() -> None:
    """value_info names only what is there, with the right shapes."""
    built = row("h = Conv(X[N,C,H,W], w[O,C,3,3]); a = BN[O](h); y = Relu(a)")
    inferred = onnx.shape_inference.infer_shapes(built.model)
    result = bnfold.fold(inferred)
    names = {info.name for info in result.model.graph.value_info}
    assert names <= set(tensors(result.model))


def test_bytes_do_not_depend_on_the_process(tmp_path: Path) -> None:
    """The same input gives the same bytes, whatever the seed of Python's hashes is."""
    built = row("""x = BN[C](X[N,C,H,W]); h = Conv(x, w[O,C,3,3]); i = Conv(x, v[K,C,3,3]);
        a = BN[O](h); b = BN[K](i); c = Concat<axis=1>(a, b); y = BN[O+K](c)""")
    path = tmp_path / "model.onnx"
    onnx.save(built.model, path)
    script = """import sys, bnfold, hashlib
model = bnfold.fold(sys.argv[1]).model
print(hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest())"""
    digests = {
        subprocess.run(
            [sys.executable, "-c", script, str(path)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_a_path_is_as_good_as_a_model(tmp_path: Path) -> None:
    """A file folds as its content does, and is not changed."""
    built = row("h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h)")
    path = tmp_path / "model.onnx"
    onnx.save(built.model, path)
    before = path.read_bytes()
    assert content(bnfold.fold(path).model) == content(bnfold.fold(built.model).model)
    assert path.read_bytes() == before


def test_order_of_nodes_does_not_matter_beyond_topology() -> None:
    """An initializer's place in the file does not decide anything."""
    built = row("h = Conv(X[N,C,H,W], w[O,C,3,3], b[O]); y = BN[O](h)")
    turned = copy.deepcopy(built.model)
    del turned.graph.initializer[:]
    turned.graph.initializer.extend(reversed(built.model.graph.initializer))
    new, other = (constants(bnfold.fold(m).model) for m in (built.model, turned))
    assert new.keys() == other.keys()
    assert all(same_bits(new[name], other[name]) for name in new)


# ----------------------------------------------------------------------------- time


def signs(count: int) -> Built:
    """So many changes of sign, of which none can go anywhere, and a normalization that can."""
    chain = "; ".join(f"t{i + 1} = Neg(t{i})" for i in range(count))
    return row(f"t0 = Sigmoid(X[N,C,H,W]); {chain}; h = Conv(t{count}, w[O,C,3,3]); y = BN[O](h)")


def test_walks_in_vain_become_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the patience for a model each source asks a few rules, which is enough nearby."""
    asked: list[int] = []
    lose = search.Patience.lose

    def count(patience: search.Patience, walks: search.Search) -> None:
        asked.append(walks.asked)
        lose(patience, walks)

    monkeypatch.setattr(search.Patience, "lose", count)
    monkeypatch.setattr(search, "PATIENCE", 400)
    result = folded(signs(100))
    passes = 2
    assert asked[0] > 5 * search.NEAREST
    assert sum(asked) < 400 + search.BUDGET + passes * 100 * (search.NEAREST + 1)
    assert result.sites[-1].verdict == "folded"


def test_a_weight_takes_in_any_number_of_affines() -> None:
    """Large weights are computed one from the other, and not deeper than Python's stack."""
    chain = "; ".join(f"t{i + 1} = Mul(t{i}, s{i}+[O,1,1])" for i in range(300))
    built = row(f"t0 = Conv(X[N,C,H,W], w[O,C,30,30]); {chain}")
    result = bnfold.fold(built.model)
    assert operators(result) == ["Conv"]

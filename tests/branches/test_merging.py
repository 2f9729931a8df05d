"""Blocks of parallel branches as models: what is merged, what stays, and what is said of it.

Every case is built twice, with all sizes different and with all sizes equal, and compared with
the original on ONNX Runtime with optimizations off and in float64.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from rows import Built, build, parse_row
from rowtests import content, faults, truth

import bnfold
from bnfold.branches import kernels, linear, surgery
from bnfold.constants import Constant

P1, P2 = "pads=[1,1,1,1]", "pads=[2,2,2,2]"

SUMS: dict[str, tuple[str, str]] = {
    "two copies": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[O,C,3,3]); b = Conv<{P1}>(X, v[O,C,3,3], u[O]); "
        "y = Add(a, b)",
        "Conv",
    ),
    "RepVGG": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[C,C,3,3]); p = BN[C](a); b = Conv(X, v[C,C,1,1]); "
        "q = BN[C](b); r = BN[C,z](X); s = Add(p, q); t = Add(s, r); y = Relu(t)",
        "Conv Relu",
    ),
    "RepVGG, strided and grouped": (
        f"a = Conv<group=2,strides=[2,2],{P1}>(X[N,C,H,W], w[O,C//2,3,3]); p = BN[O](a); "
        "b = Conv<group=2,strides=[2,2]>(X, v[O,C//2,1,1]); q = BN[O](b); y = Add(p, q)",
        "Conv",
    ),
    "MobileOne": (
        f"a = Conv<group=C,{P1}>(X[N,C,H,W], w[C,1,3,3]); p = BN[C](a); "
        f"b = Conv<group=C,{P1}>(X, v[C,1,3,3]); q = BN[C](b); "
        "c = Conv<group=C>(X, u[C,1,1,1]); r = BN[C](c); i = BN[C](X); "
        "s = Add(i, r); t = Add(s, p); y = Add(t, q)",
        "Conv",
    ),
    "RepMixer": (
        f"a = Conv<group=C,{P1}>(X[N,C,H,W], w[C,1,3,3]); p = BN[C](a); i = BN[C](X); "
        "s = Add(p, i); j = BN[C](X); d = Sub(s, j); m = Mul(g[C,1,1], d); y = Add(X, m)",
        "Conv",
    ),
    "RepViT": (
        f"a = Conv<group=C,{P1}>(X[N,C,H,W], w[C,1,3,3]); p = BN[C](a); "
        "b = Conv<group=C>(X, v[C,1,1,1], u[C]); s = Add(p, b); t = Add(s, X); y = BN[C](t)",
        "Conv",
    ),
    "ACNet": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[O,C,3,3]); p = BN[O](a); "
        "b = Conv<pads=[1,0,1,0]>(X, v[O,C,3,1]); q = BN[O](b); "
        "c = Conv<pads=[0,1,0,1]>(X, u[O,C,1,3]); r = BN[O](c); y = Sum(p, q, r)",
        "Conv",
    ),
    "a large and a small kernel": (
        f"a = Conv<group=C,pads=[3,3,3,3]>(X[N,C,H,W], w[C,1,7,7]); "
        f"b = Conv<group=C,{P2}>(X, v[C,1,5,5]); y = Add(a, b)",
        "Conv",
    ),
    "one spatial axis": (
        "a = Conv<pads=[2,2],dilations=[2]>(X[N,C,L], w[C,C,3]); b = Conv(X, v[C,C,1]); "
        "s = Add(b, a); y = Add(s, X)",
        "Conv",
    ),
    "three spatial axes": (
        "a = Conv<pads=[1,1,1,1,1,1]>(X[N,C,D,E,D], w[C,C,3,3,3]); y = Add(a, X)",
        "Conv",
    ),
    "an even kernel": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[O,C,3,3]); b = Conv<pads=[1,0,0,1]>(X, v[O,C,2,2]); "
        "y = Add(a, b)",
        "Conv",
    ),
    "SAME of stride one": (
        'a = Conv<auto_pad="SAME_UPPER">(X[N,C,H,W], w[O,C,4,3]); '
        'b = Conv<auto_pad="SAME_LOWER">(X, v[O,C,2,3]); y = Add(a, b)',
        "Conv",
    ),
    "SAME of a known size": (
        'a = Conv<auto_pad="SAME_UPPER",strides=[2,2]>(X[N,C,H,W], w[O,C,3,3]); '
        'b = Conv<auto_pad="VALID",strides=[2,2]>(X, v[O,C,1,1]); y = Add(a, b)',
        "Conv",
    ),
    "SAME of an unknown size, twice": (
        'a = Conv<auto_pad="SAME_UPPER",strides=[2,2]>(X[N,C,h,w], w[O,C,3,3]); '
        'b = Conv<auto_pad="SAME_UPPER",strides=[2,2]>(X, v[O,C,3,3]); y = Add(a, b)',
        "Conv",
    ),
    "a symbolic size": (
        f"a = Conv<{P1}>(X[n,C,h,w], w[C,C,3,3]); b = Conv(X, v[C,C,1,1]); "
        "s = Add(a, X); y = Add(b, s)",
        "Conv",
    ),
    "a dilated kernel and a point": (
        f"a = Conv<{P2},dilations=[2,2]>(X[N,C,H,W], w[O,C,3,3]); b = Conv(X, v[O,C,1,1]); "
        "y = Add(a, b)",
        "Conv",
    ),
    "depthwise into dense": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[C,C,3,3]); b = Conv<group=C,{P1}>(X, v[C,1,3,3]); "
        "y = Add(a, b)",
        "Conv",
    ),
    "a pool without padding": (
        "a = Conv<strides=[2,2]>(X[N,C,H,W], w[C,C,2,2]); "
        "b = AveragePool<kernel_shape=[2,2],strides=[2,2]>(X); y = Add(a, b)",
        "Conv",
    ),
    "a pool that counts its padding": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[C,C,3,3]); q = BN[C](a); "
        f"b = AveragePool<kernel_shape=[3,3],{P1},count_include_pad=1>(X); y = Add(q, b)",
        "Conv",
    ),
    "a pointwise convolution before the pool": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[O,C,3,3]); c = Conv(X, v[O,C,1,1]); "
        f"b = AveragePool<kernel_shape=[3,3],{P1},count_include_pad=1>(c); y = Add(a, b)",
        "Conv",
    ),
    "a bottleneck beside its size": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[O,C,3,3]); c = Conv(X, v[2,C,1,1]); "
        f"b = Conv<{P1}>(c, u[O,2,3,3]); y = Add(a, b)",
        "Conv",
    ),
    "a layer scale": (
        f"a = Conv<group=C,{P1}>(X[N,C,H,W], w[C,1,3,3]); m = Mul(X, g[1,C,1,1]); "
        "o = Neg(m); y = Sub(a, o)",
        "Conv",
    ),
    "subtracted": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[C,C,3,3], u[C]); b = Conv(X, v[C,C,1,1], t[C]); "
        "s = Sub(X, b); y = Sub(s, a)",
        "Conv",
    ),
    "constants between": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[O,C,3,3]); b = Conv(X, v[O,C,1,1]); "
        "s = Add(a, t[1,O,1,1]); r = Sub(u[O,1,1], b); y = Add(r, s)",
        "Conv",
    ),
    "the input twice": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[C,C,3,3]); y = Sum(X, a, X)",
        "Conv",
    ),
    "other addends stay": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[O,C,3,3]); b = Conv(X, v[O,C,1,1]); "
        "s = Add(Z[N,O,H,W], a); t = Sub(s, V[N,O,H,W]); y = Add(t, b)",
        "Add Conv Sub",
    ),
    "other addends of a Sum stay": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[O,C,3,3]); b = Conv(X, v[O,C,1,1]); "
        "y = Sum(Z[N,O,H,W], a, V[O,1,1], b)",
        "Conv Sum",
    ),
    "two inputs": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[O,C,3,3]); b = Conv(X, v[O,C,1,1]); "
        f"c = Conv<{P1}>(Z[N,C,H,W], t[O,C,3,3]); d = Conv(Z, u[O,C,1,1]); "
        "s = Add(a, c); t2 = Sub(s, b); y = Sub(t2, d)",
        "Add Conv Conv",
    ),
    "a branch that is read elsewhere stays": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[O,C,3,3]); b = Conv(X, v[O,C,1,1]); "
        "c = Conv(X, u[O,C,1,1]); s = Add(a, b); y = Add(s, c); z = Relu(c)",
        "Add Conv Conv Relu",
    ),
    "a branch whose weight is computed stays": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[O,C,3,3]); b = Conv(X, v[O,C,1,1]); "
        "c = Conv(X, V[O,C,1,1]); s = Add(a, c); y = Add(s, b)",
        "Add Conv Conv",
    ),
    "matrix products": (
        "a = MatMul(X[N,L,C], w[C,C]); b = MatMul(X, v[C,C]); s = Add(a, t[C]); r = Add(s, X); "
        "y = Add(r, b)",
        "Add MatMul",
    ),
    "a product of low rank": (
        "a = MatMul(X[N,L,C], w[C,O]); b = MatMul(X, v[C,2]); c = MatMul(b, u[2,O]); "
        "d = Mul(c, k:float=0.5); y = Add(a, d)",
        "MatMul",
    ),
    "Gemm": (
        "a = Gemm<transB=1,alpha=0.5>(X[N,C], w[O,C], t[O]); "
        "b = Gemm<beta=2.0>(X, v[C,O], u[1,O]); c = MatMul(X, m[C,O]); s = Add(a, c); "
        "y = Add(s, b)",
        "Gemm",
    ),
    "half precision": (
        f"@type=float16 a = Conv<{P1}>(X[N,C,H,W], w[C,C,3,3]); b = Conv(X, v[C,C,1,1]); "
        "s = Add(a, b); y = Add(s, X)",
        "Conv",
    ),
    "double precision": (
        f"@type=double @judge a = Conv<{P1}>(X[N,C,H,W], w[C,C,3,3]); b = Conv(X, v[C,C,1,1]); "
        "s = Add(a, b); y = Add(s, X)",
        "Conv",
    ),
}
"""Name: the row, and the operators that are left."""

CHAINS: dict[str, tuple[str, str]] = {
    "pointwise, then 3x3": (
        "a = Conv(X[N,C,H,W], w[8*O,C,1,1], t[8*O]); p = BN[8*O](a); "
        "y = Conv(p, v[O,8*O,3,3], u[O])",
        "Conv",
    ),
    "pointwise without a bias, then 3x3 with padding": (
        f"a = Conv(X[N,C,H,W], w[8*O,C,1,1]); y = Conv<{P1}>(a, v[O,8*O,3,3])",
        "Conv",
    ),
    "two products": (
        "a = MatMul(X[N,L,C], w[C,8*O]); b = Add(a, t[8*O]); y = MatMul(b, v[8*O,O])",
        "Add MatMul",
    ),
    "two Gemms": (
        "a = Gemm(X[N,C], w[C,8*O], t[8*O]); y = Gemm<transB=1>(a, v[O,8*O], u[O])",
        "Gemm",
    ),
}

CONCATS: dict[str, tuple[str, str]] = {
    "of the same kernel": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[O,C,3,3], t[O]); b = Conv<{P1}>(X, v[K,C,3,3]); "
        "p = BN[K](b); y = Concat<axis=1>(a, p)",
        "Conv",
    ),
    "of sums": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[C,C,3,3]); s = Add(a, X); "
        f"b = Conv<{P1}>(X, v[O,C,3,3]); c = Conv(X, u[O,C,1,1]); r = Add(b, c); "
        "y = Concat<axis=-3>(s, r)",
        "Conv",
    ),
    "with another operand": (
        "a = Conv(X[N,C,H,W], w[O,C,1,1]); b = Conv(X, v[K,C,1,1]); c = Conv(X, u[O,C,1,1]); "
        "y = Concat<axis=1>(a, Z[N,O,H,W], b, c)",
        "Concat Conv Conv",
    ),
    "of products": (
        "a = MatMul(X[N,L,C], w[C,O]); b = MatMul(X, v[C,K]); y = Concat<axis=-1>(a, b)",
        "MatMul",
    ),
}

TABLE = SUMS | CHAINS | CONCATS


def case(name: str, regime: str) -> Built:
    return build(parse_row(name, TABLE[name][0]), regime)


def operators(model: onnx.ModelProto) -> list[str]:
    return sorted(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("regime", ["different", "equal"])
@pytest.mark.parametrize("name", TABLE)
def test_merges_to_the_same_function(name: str, regime: str) -> None:
    """The operators are those of the deploy form, and every tensor that is left has its value."""
    built = case(name, regime)
    onnx.checker.check_model(built.model, full_check=True)
    before = content(built.model)
    result = bnfold.fold(built.model)
    assert operators(result.model) == TABLE[name][1].split()
    assert content(built.model) == before
    onnx.checker.check_model(result.model, full_check=True)
    assert not faults(built, result.model, truth(built))
    assert all(site.verdict == "folded" for site in result.sites)
    assert result.merged
    assert content(bnfold.fold(built.model).model) == content(result.model)
    assert not bnfold.fold(result.model).merged


def spoil(_: Any, constant: Any) -> Any:
    """What is stored, its largest element one percent off."""
    array = np.array(constant.stored())
    place = np.unravel_index(np.abs(array.astype(np.float64)).argmax(), array.shape)
    array[place] *= 1.01 if array.dtype != np.float16 else 1.05
    return Constant.of_array(array.astype(np.float64), constant.dtype), array


@pytest.mark.parametrize("name", TABLE)
def test_one_percent_in_a_merged_parameter_shows(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These comparisons have teeth."""
    built = case(name, "different")
    monkeypatch.setattr(surgery, "stored", spoil)
    assert faults(built, bnfold.fold(built.model).model, truth(built))


@pytest.mark.parametrize("name", [name for name in TABLE if "half" not in name])
def test_one_percent_in_the_arithmetic_shows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So have they for each function that a case uses."""
    built, used = case(name, "different"), 0
    exact = truth(built)
    for module, function in (
        *((kernels, f) for f in ("diagonal", "averaging", "scaled", "composed", "carried")),
        *((kernels, f) for f in ("regrouped", "embedded")),
        (linear, "added"),
    ):
        right, calls = getattr(module, function), []

        def wrong(*arguments: Any, right: Any = right, calls: list[int] = calls) -> Any:
            result = right(*arguments)
            if isinstance(result, linear.Linear):
                result = replace(result, bias=result.bias + 0.01)
            elif len(arguments) > 1 and result is arguments[0]:
                return result
            else:
                result = result * 1.01
            calls.append(1)
            return result

        with monkeypatch.context() as patch:
            patch.setattr(module, function, wrong)
            if function == "added":
                patch.setattr("bnfold.branches.clusters.added", wrong)
            folded = bnfold.fold(built.model).model
        if calls:
            used += 1
            assert faults(built, folded, exact), function
    assert used or name in CHAINS or name in CONCATS


# ---------------------------------------------------------------------- refusals

REFUSALS: dict[str, str] = {
    "another stride": (
        "a = Conv(X[N,C,1,1], w[O,C,1,1]); b = Conv<strides=[2,2]>(X, v[O,C,1,1]); y = Add(a, b)"
    ),
    "other outputs": (
        "a = Conv<pads=[1,0,1,0]>(X[N,C,1,1], w[O,C,3,1]); "
        "b = Conv<pads=[1,0,1,0]>(X, v[O,C,1,1]); y = Add(a, b)"
    ),
    "another input": (
        "a = Conv(X[N,C,H,W], w[O,C,1,1]); b = Conv(Z[N,C,H,W], v[O,C,1,1]); y = Add(a, b)"
    ),
    "an input of one channel": "a = Conv(X[N,1,H,W], w[O,1,1,1]); y = Add(a, X)",
    "two affines alone": "a = Mul(X[N,C,H,W], g[C,1,1]); b = Add(a, X); y = Relu(b)",
    "no linear operator": "a = Relu(X[N,C,H,W]); y = Add(a, X)",
    "a weight that is computed": (
        "a = Conv(X[N,C,H,W], w[O,C,1,1]); b = Conv(X, V[O,C,1,1]); y = Add(a, b)"
    ),
    "a bias that is computed": (
        "a = Conv(X[N,C,H,W], w[O,C,1,1]); b = Conv(X, v[O,C,1,1], V[O]); y = Add(a, b)"
    ),
    "a branch with another reader": (
        "a = Conv(X[N,C,H,W], w[O,C,1,1]); b = Conv(X, v[O,C,1,1]); y = Add(a, b); z = Relu(b)"
    ),
    "an affine along another axis": (
        "a = Conv(X[N,C,H,W], w[C,C,1,1]); b = Mul(X, g[H,1]); y = Add(a, b)"
    ),
    "a pool that leaves its padding out": (
        f"a = Conv<{P1}>(X[N,C,H,W], w[C,C,3,3]); "
        f"b = AveragePool<kernel_shape=[3,3],{P1}>(X); y = Add(a, b)"
    ),
    "a pool of whole windows only where they fit": (
        "a = Conv<strides=[2,2]>(X[N,C,H+1-H%2,3], w[C,C,1,1]); "
        "b = AveragePool<kernel_shape=[2,2],strides=[2,2],ceil_mode=1>(X); y = Add(a, b)"
    ),
    "a pool in the place of a pointwise convolution": (
        f"a = Conv(X[N,C,H,W], w[C,C,1,1]); b = AveragePool<kernel_shape=[3,3],{P1},"
        "count_include_pad=1>(X); y = Add(a, b)"
    ),
    "depthwise into a smaller dense kernel": (
        f"a = Conv(X[N,C,H,W], w[C,C,1,1]); b = Conv<group=C,{P1}>(X, v[C,1,3,3]); y = Add(a, b)"
    ),
    "1x3 and 3x1 without a 3x3": (
        "a = Conv<pads=[0,1,0,1]>(X[N,4*C,H,W], w[O,4*C,1,3]); "
        "b = Conv<pads=[1,0,1,0]>(X, v[O,4*C,3,1]); y = Add(a, b)"
    ),
    "SAME of an unknown size": (
        'a = Conv<auto_pad="SAME_UPPER",strides=[2,2]>(X[N,C,h,w], w[O,C,3,3]); '
        "b = Conv<strides=[2,2]>(X, v[O,C,1,1]); y = Add(a, b)"
    ),
    "a chain with a bias before padding": (
        f"a = Conv(X[N,C,H,W], w[8*O,C,1,1], t[8*O]); y = Conv<{P1}>(a, v[O,8*O,3,3])"
    ),
    "a chain that would cost more": (
        f"a = Conv<group=C,{P1}>(X[N,C,H,W], w[C,1,3,3]); y = Conv(a, v[O,C,1,1])"
    ),
    "a Gemm whose bias differs by row": (
        "a = Gemm(X[2,C], w[C,O], t[2,O]); b = Gemm(X, v[C,O]); y = Add(a, b)"
    ),
    "a transposed Gemm": (
        "a = Gemm<transA=1>(X[C,C], w[C,C]); b = MatMul(X, v[C,C]); y = Add(a, b)"
    ),
    "a constant on the left": "a = MatMul(w[C,C], X[C,C]); b = MatMul(X, v[C,C]); y = Add(a, b)",
    "Concat along another axis": (
        "a = Conv(X[N,C,H,W], w[O,C,1,1]); b = Conv(X, v[O,C,1,1]); y = Concat<axis=2>(a, b)"
    ),
    "Concat with the input": "a = Conv(X[N,C,H,W], w[O,C,1,1]); y = Concat<axis=1>(a, X)",
    "Concat of depthwise convolutions": (
        f"a = Conv<group=C,{P1}>(X[N,C,H,W], w[C,1,3,3]); "
        f"b = Conv<group=C,{P1}>(X, v[C,1,3,3]); y = Concat<axis=1>(a, b)"
    ),
    "weights of two types": (
        "a = Conv(X[N,C,H,W], w[O,C,1,1]); c = Cast<to=11>(X); d = Conv(c, v:double[O,C,1,1]); "
        "b = Cast<to=1>(d); y = Add(a, b)"
    ),
}


@pytest.mark.parametrize("regime", ["different", "equal"])
@pytest.mark.parametrize("name", REFUSALS)
def test_leaves_what_is_not_one_operator(name: str, regime: str) -> None:
    """The model is as if nobody had looked for branches."""
    built = build(parse_row(name, REFUSALS[name]), regime)
    result = bnfold.fold(built.model)
    assert result.merged == ()
    assert content(result.model) == content(bnfold.fold(built.model, reparameterize=False).model)


def block(**changes: np.ndarray) -> Built:
    """A RepVGG block whose weights can be set."""
    built = case("RepVGG", "different")
    for tensor in built.model.graph.initializer:
        if tensor.name in changes:
            values = changes[tensor.name].astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return built


def test_what_a_type_cannot_hold_stays() -> None:
    """Two weights of float16 whose sum is not one."""
    row = parse_row(
        "",
        "@type=float16 a = Conv(X[N,C,H,W], w[O,C,1,1]); b = Conv(X, v[O,C,1,1]); y = Add(a, b)",
    )
    built = build(row, "different")
    for tensor in built.model.graph.initializer:
        shape = tuple(tensor.dims)
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(shape, 6e4, np.float16), tensor.name))
    result = bnfold.fold(built.model)
    assert result.merged == ()
    assert content(result.model) == content(built.model)


def test_a_branch_that_is_an_output_stays() -> None:
    """Its tensor has to be there; the others merge."""
    built = case("MobileOne", "different")
    value = helper.make_tensor_value_info("q", onnx.TensorProto.FLOAT, None)
    built.model.graph.output.append(value)
    result = bnfold.fold(built.model)
    assert operators(result.model) == ["Add", "Conv", "Conv"]
    # ONNX Runtime 1.31.1 loads no Conv with a bias that an Add reads and that is an output.
    judged = replace(built, row=replace(built.row, judge=True))
    assert not faults(judged, result.model, truth(built))


def test_a_branch_that_a_subgraph_reads_stays() -> None:
    """As one that any other node reads."""
    built = case("two copies", "different")
    graph = built.model.graph
    body = helper.make_graph(
        [helper.make_node("Relu", ["b"], ["inner"])],
        "body",
        [],
        [helper.make_tensor_value_info("inner", onnx.TensorProto.FLOAT, None)],
    )
    graph.input.append(helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, []))
    graph.node.append(helper.make_node("If", ["flag"], ["z"], then_branch=body, else_branch=body))
    graph.output.append(helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, None))
    result = bnfold.fold(built.model)
    assert result.merged == ()
    assert operators(result.model) == ["Add", "Conv", "Conv", "If"]


def test_branches_inside_a_subgraph_merge() -> None:
    """Over a value that the subgraph captures."""
    inner = case("two copies", "different")
    graph = inner.model.graph
    nodes = list(graph.node)
    body = helper.make_graph(
        nodes, "body", [], [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)]
    )
    del graph.node[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, []))
    graph.node.append(helper.make_node("If", ["flag"], ["z"], then_branch=body, else_branch=body))
    graph.output.append(helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, None))
    result = bnfold.fold(inner.model)
    assert len(result.merged) == 2
    (node,) = result.model.graph.node
    assert [[n.op_type for n in a.g.node] for a in node.attribute] == [["Conv"], ["Conv"]]
    feeds = inner.feeds | {"flag": np.array(True)}
    assert not faults(replace(inner, feeds=feeds), result.model, None)


# ------------------------------------------------------------------ what is kept, and said


def test_a_weight_of_another_node_is_copied() -> None:
    """The other user of a merged weight computes what it did."""
    row = (
        f"a = Conv<{P1}>(X[N,C,H,W], w[C,C,3,3]); b = Conv(X, v[C,C,1,1]); s = Add(a, b); "
        f"r = Relu(s); c = Conv<{P1}>(r, w); d = Relu(c); y = Conv(d, v)"
    )
    built = build(parse_row("", row), "different")
    result = bnfold.fold(built.model)
    assert operators(result.model) == ["Conv", "Conv", "Conv", "Relu", "Relu"]
    kept = {t.name: t for t in result.model.graph.initializer}
    for tensor in built.model.graph.initializer:
        assert kept[tensor.name].raw_data == tensor.raw_data
    assert not faults(built, result.model, truth(built))


def test_the_sum_keeps_its_name_and_the_operator_that_of_the_largest() -> None:
    """Same name, same value; a node of the deploy form is called as the main branch was."""
    built = case("RepVGG", "different")
    for node in built.model.graph.node:
        node.name = f"node of {node.output[0]}"
    result = bnfold.fold(built.model)
    conv, relu = result.model.graph.node
    assert (conv.name, conv.output[0]) == ("node of a", "t")
    assert (relu.input[0], relu.output[0]) == ("t", "y")


def test_each_block_is_reported() -> None:
    """Branches, kernel, nodes and operations before and after."""
    result = bnfold.fold(case("RepVGG", "different").model)
    (merged,) = result.merged
    assert merged.branches == ("Conv 3x3", "Conv 1x1", "BatchNormalization")
    assert (merged.tensor, merged.op_type, merged.kernel) == ("t", "Conv", (6, 6, 3, 3))
    assert (merged.nodes_before, merged.nodes_after) == (7, 1)
    positions = 7 * 9
    assert merged.operations_after == 6 * 6 * 9 * positions
    assert merged.operations_before == (6 * 6 * (9 + 1) + 6 + 2 * 6) * positions
    assert [(s.tensor, s.verdict, s.direction, s.target) for s in result.sites] == [
        ("p", "folded", "backward", "t"),
        ("q", "folded", "backward", "t"),
        ("r", "folded", "forward", "t"),
    ]


def test_a_block_in_a_block_is_reported_as_one() -> None:
    """A sum that is a branch of another sum."""
    result = bnfold.fold(case("RepMixer", "different").model)
    (merged,) = result.merged
    assert merged.tensor == "y"
    assert (merged.nodes_before, merged.nodes_after) == (8, 1)
    assert merged.branches == ("identity", "Conv 3x3", "BatchNormalization", "BatchNormalization")
    assert {site.target for site in result.sites} == {"y"}


def test_operations_of_an_unknown_size_are_not_told() -> None:
    """A symbolic height has no number of operations."""
    (merged,) = bnfold.fold(case("a symbolic size", "different").model).merged
    assert merged.operations_before is None
    assert merged.operations_after is None


def test_the_caller_can_keep_branches() -> None:
    """All of them, one sum by its name, or one affine."""
    built = case("RepVGG", "different")
    assert bnfold.fold(built.model, reparameterize=False).merged == ()
    assert bnfold.fold(built.model, keep=["t"]).merged == ()
    result = bnfold.fold(built.model, keep=["r"])
    assert operators(result.model) == ["Add", "BatchNormalization", "Conv", "Relu"]
    assert not faults(built, result.model, truth(built))


def test_subnormal_weights_become_zero() -> None:
    """And are counted, as in any other fold."""
    tiny = np.full((6, 6, 3, 3), 1e-42)
    built = block(w=tiny, v=np.zeros((6, 6, 1, 1)), r_scale=np.zeros(6))
    result = bnfold.fold(built.model)
    assert result.merged
    assert result.flushed > 200


@pytest.mark.parametrize("operator", ["Add", "Sub"])
def test_a_constant_beside_what_is_not_known(operator: str) -> None:
    """A constant becomes a bias also where the rank of what it is added to is not known."""
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 17]>
    net (float[n,2,8,8] x, float[n,3,8,8] z) => (float[n,3,8,8] y)
    <float[3,2,1,1] w = {{1, 2, 3, 4, 5, 6}}, float[3,2,1,1] v = {{6, 5, 4, 3, 2, 1}},
     float[3,1,1] c = {{1, 2, 3}}> {{
      a = Conv(x, w)
      b = Conv(x, v)
      s = Add(a, b)
      t = Add(s, z)
      y = {operator}(t, c)
    }}""")
    model.graph.input[1].type.tensor_type.ClearField("shape")
    result = bnfold.fold(model)
    assert [node.op_type for node in result.model.graph.node] == ["Conv", "Add"]
    assert bnfold.verify(model, result.model, samples=1, dims={"z": (2, 3, 8, 8), "n": 2})
    (site,) = result.folded
    assert site.shift_range in {(1.0, 3.0), (-3.0, -1.0)}

"""What contradicts its own shapes is refused by name; an error of ours is no refusal."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rows import row
from rowtests import refused

from bnfold.folding import fold
from bnfold.reasons import Reason
from bnfold.rules.registry import BACKWARD

BEHIND = "; y = BN[O](h)"
CONTRADICTIONS = {
    "a weight for other channels": "h = Conv(X[N,C,H,W], w[O,C+1,3,3])",
    "a weight of another rank": "h[N,O,H,W] = Conv(X[N,C,H,W], w[O,C,3])",
    "a bias of another size": "h = Conv(X[N,C,H,W], w[O,C,3,3], b[O+1])",
    "channels that make no groups": "h = Conv<group=4>(X[N,8,H,W], w[O,2,3,3])",
    "another kernel": "h = Conv<kernel_shape=[2,2]>(X[N,C,H,W], w[O,C,3,3])",
    "pads of another rank": "h[N,O,H,W] = Conv<pads=[1,1]>(X[N,C,H,W], w[O,C,3,3])",
    "a transposed weight": "h = ConvTranspose(X[N,C,H,W], w[C+1,O,3,3])",
    "a product of other sizes": "h[N,O] = MatMul(X[N,C], w[C+1,O])",
    "an addend of another size": "h[N,O] = Gemm(X[N,C], w[C,O], c[O+1])",
    "fewer scales than channels": "h = InstanceNormalization(X[N,O,H], s[O+1], b[O+1])",
    "channels that make no blocks": "h = DepthToSpace<blocksize=2>(X[N,4*O+1,H,W])",
    "an order of other axes": "h[N,O,H] = Transpose<perm=[0,2]>(X[N,H,O])",
    "a label of two sizes": 'h = Einsum<equation="nc,co->no">(X[N,C], w[C+1,O])',
    "a repetition of other axes": "h[N,O,H] = Tile(X[N,O,H], r{1,1})",
    "elements that come from nowhere": "h[N,O,H] = Reshape(X[N,H,2*O], r{N,O,H})",
    "what is not there to be picked": "h = Gather<axis=1>(X[N,C,H], r{0,1,2,3,4,5,6,7,8,9})",
    "a result of another shape": "h[N,O,H+1] = Relu(X[N,O,H])",
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_node_that_no_runtime_could_run_is_named(name: str) -> None:
    """Behind such a node an affine stays, and the sentence says what does not fit."""
    try:
        built = row(CONTRADICTIONS[name] + BEHIND)
    except onnx.shape_inference.InferenceError as error:
        pytest.fail(f"the row itself cannot be made: {error}")
    refused(built, Reason.CONTRADICTION)
    (site,) = fold(built.model).sites
    assert "contradict" in (site.detail or "")


@pytest.mark.parametrize("error", [IndexError, ValueError, KeyError, TypeError, AttributeError])
def test_an_error_of_a_rule_is_no_refusal(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a rule raises by mistake comes out."""

    def broken(*_: Any) -> Any:
        raise error("ours")

    monkeypatch.setitem(BACKWARD, ("", "Conv"), broken)
    with pytest.raises(error, match="ours"):
        fold(row("h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h)").model)


def model(nodes: list[onnx.NodeProto], channels: int, opset: int, **arrays: Any) -> Any:
    """A model of one input x of shape (2, 3, 8), with a BN behind what makes `h`."""
    rng = np.random.default_rng(0)
    arrays |= {name: rng.uniform(0.5, 2, channels) for name in "sbmv"}
    nodes = [*nodes, helper.make_node("BatchNormalization", ["h", *"sbmv"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(a, np.float32), n) for n, a in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def held(name: str, array: np.ndarray) -> onnx.NodeProto:
    """A Constant node."""
    tensor = numpy_helper.from_array(array.astype(np.float32))
    return helper.make_node("Constant", [], [name], value=tensor)


CHAINS = {
    "nothing": (lambda k: ([], k), (8, 5)),
    "Identity": (lambda k: ([helper.make_node("Identity", [k], ["i"])], "i"), (8, 5)),
    "Transpose": (lambda k: ([helper.make_node("Transpose", [k], ["i"])], "i"), (5, 8)),
    "Reshape": (
        lambda k: (
            [
                helper.make_node("Constant", [], ["r"], value_ints=[8, 5]),
                helper.make_node("Reshape", [k, "r"], ["i"]),
            ],
            "i",
        ),
        (5, 8),
    ),
    "Unsqueeze": (
        lambda k: (
            [
                helper.make_node("Constant", [], ["r"], value_ints=[0]),
                helper.make_node("Unsqueeze", [k, "r"], ["i"]),
            ],
            "i",
        ),
        (8, 5),
    ),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_a_weight_that_is_a_constant_node_takes_an_affine(chain: str) -> None:
    """A product's weight may be a Constant, and what follows from it."""
    make, shape = CHAINS[chain]
    between, weight = make("k")
    nodes = [held("k", np.random.default_rng(1).standard_normal(shape)), *between]
    nodes.append(helper.make_node("MatMul", ["x", weight], ["p"]))
    nodes.append(helper.make_node("Transpose", ["p"], ["h"], perm=[0, 2, 1]))
    result = fold(model(nodes, 5, 13))
    assert result.folded, [site.detail for site in result.sites]


@pytest.mark.parametrize("opset", [7, 10])
def test_a_weight_that_is_padded_takes_an_affine(opset: int) -> None:
    """Before opset 11 the pads of a Pad are an attribute, of a constant one too."""
    nodes = [
        helper.make_node("Pad", ["k"], ["w"], pads=[0, 0, 1, 0, 0, 1]),
        helper.make_node("Conv", ["x", "w"], ["h"]),
    ]
    k = np.random.default_rng(1).standard_normal((4, 3, 1))
    result = fold(model(nodes, 4, opset, k=k))
    assert result.folded, [site.detail for site in result.sites]

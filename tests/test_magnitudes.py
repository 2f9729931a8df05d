"""A fold in 16 bits holds and resolves what the statistics tell of its values, or is not made."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from bnfold import fold
from bnfold.bounds import LOST, RESOLVED, UNITS
from bnfold.extents import LARGEST
from bnfold.judge import Judge
from bnfold.magnitudes import REACH

TYPES: dict[str, Any] = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
NORMALIZE = "BatchNormalization({}, gamma, beta, mean, var)"
CODES = {"float16": 10, "bfloat16": 16}

AHEAD = f"n = {NORMALIZE.format('x')} h = Cast<to=TO>(n) y = Conv(h, w)"
"""A normalization in float32, in front of a Cast and a product in 16 bits."""
BEHIND = f"h = Cast<to=TO>(x) c = Conv(h, w) f = Cast<to=1>(c) y = {NORMALIZE.format('f')}"
"""One behind a product in 16 bits and a Cast to float32."""
WITHIN = f"h = Cast<to=TO>(x) c = Conv(h, w) y = {NORMALIZE.format('c')}"
"""Both in 16 bits."""


def network(body: str, name: str = "float16", **parameters: Any) -> onnx.ModelProto:
    """A network that reads float32; weights are of a 16-bit type, statistics of what they meet."""
    wide = "f = Cast" in body or "n = B" in body or "n = Mul(x" in body
    model = parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 19]>
        g (float[2,4,8,8] x) => (float y) {{ {body.replace("TO", str(CODES[name]))} }}"""
    )
    rng = np.random.default_rng(3)
    known: dict[str, Any] = {"w": rng.standard_normal((4, 4, 1, 1)) / 2, "beta": np.zeros(4)}
    known |= {"gamma": np.ones(4), "mean": np.zeros(4), "var": np.ones(4)} | parameters
    read = {n for node in model.graph.node for n in node.input}
    for key in sorted(read & set(known)):
        dtype = np.float32 if wide and key != "w" else TYPES[name]
        array = np.asarray(known[key], np.float64).astype(dtype)
        model.graph.initializer.append(numpy_helper.from_array(array, key))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    del model.graph.output[:]
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    model.graph.output.extend(v for v in inferred if v.name == "y")
    return model


def reasons(model: onnx.ModelProto) -> list[str | None]:
    """Why affines stay."""
    return [site.reason for site in fold(model).kept]


def error(model: onnx.ModelProto, mean: float, std: float) -> float:
    """How far a run in 16 bits is from float64, on data as the statistics tell it."""
    from onnx.reference import ReferenceEvaluator

    x = (mean + std * np.random.default_rng(4).standard_normal((2, 4, 8, 8))).astype(np.float32)
    exact = Judge(model).run({"x": x})["y"]
    ran: Any = ReferenceEvaluator(model).run(None, {"x": x})
    distance = np.abs(np.asarray(ran[0], np.float64) - exact)
    return float(distance.max() / np.abs(exact).max())


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("body", [AHEAD, BEHIND, WITHIN], ids=["ahead", "behind", "within"])
def test_ordinary_statistics_fold(body: str, name: str) -> None:
    """Means and variances as trained networks have them, and as images do."""
    assert reasons(network(body, name)) == []
    spread: dict[str, Any] = {"mean": np.array([0.3, -1, 2, 0.1]), "var": np.array([0.5, 1, 2, 4])}
    assert reasons(network(body, name, **spread)) == []
    image: dict[str, Any] = {
        "mean": np.full(4, 120.0),
        "var": np.full(4, 60.0**2),
        "beta": np.full(4, 0.1),
    }
    assert reasons(network(body, name, **image)) == []


@pytest.mark.parametrize("name", TYPES)
def test_a_cast_keeps_the_digits_that_a_subtraction_saved(name: str) -> None:
    """A mean far above the standard deviation is subtracted in float32 and stays there."""
    for mean in (2 * LOST, 1e2, 1e3, 1e4):
        assert reasons(network(AHEAD, name, mean=np.full(4, mean))) == ["ill-conditioned"]


@pytest.mark.parametrize("mean", [0.0, 0.5, 2.0, 4.0])
def test_what_folds_across_a_cast_is_about_as_exact(mean: float) -> None:
    """On such data as the statistics tell, it loses no more units than a proof lets pass."""
    model = network(AHEAD, mean=np.full(4, mean))
    result = fold(model)
    assert [s.verdict for s in result.sites] == ["folded"]
    assert error(result.model, mean, 1.0) <= 2 * LOST * UNITS["float16"]


@pytest.mark.parametrize(
    ("body", "most"), [(AHEAD, 4), (BEHIND, 3), (WITHIN, 3)], ids=["ahead", "behind", "within"]
)
def test_random_statistics(body: str, most: int) -> None:
    """Of any size: what is folded is finite, and little farther from float64 than the original."""
    folded = kept = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        mean, std = 10.0 ** rng.uniform(-1, most), 10.0 ** rng.uniform(-3, most - 1)
        parts: dict[str, Any] = {
            "mean": np.full(4, mean),
            "var": np.full(4, std**2),
            "w": np.eye(4),
        }
        parts |= {"gamma": np.full(4, 10.0 ** rng.uniform(-1, 4))}
        parts["w"] = parts["w"].reshape(4, 4, 1, 1)
        model = network(body, **parts)
        result = fold(model)
        if result.kept:
            kept += 1
            continue
        folded += 1
        after = error(result.model, mean, std)
        with np.errstate(all="ignore"):
            before = error(model, mean, std)  # not finite where the original overflows
        if np.isfinite(before):
            assert after <= before + 2 * LOST * UNITS["float16"], f"seed {seed}"
    assert min(folded, kept) > 5, "both were seen"


def test_a_cast_is_not_passed_by_what_its_type_does_not_hold() -> None:
    """Inputs beyond 65504 stay in front of it; bfloat16 has the range of float32."""
    large: dict[str, Any] = {"mean": np.full(4, 1e4), "var": np.full(4, 1e8)}
    assert LARGEST[np.dtype(np.float16)] < REACH * 2e4
    assert reasons(network(AHEAD, **large)) == ["overflow"]
    assert reasons(network(AHEAD, "bfloat16", **large)) == []
    small: dict[str, Any] = {"mean": np.zeros(4), "var": np.full(4, 1e-12)}
    assert reasons(network(AHEAD, **small)) == ["underflow"]


def test_a_product_in_sixteen_bits_does_not_pass_them() -> None:
    """A result that float32 holds behind the Cast is not brought in front of it."""
    assert reasons(network(BEHIND, gamma=np.full(4, 1e4))) == ["overflow"]
    assert reasons(network(BEHIND, beta=np.full(4, 3e4))) == ["overflow"]
    assert reasons(network(BEHIND, gamma=np.full(4, 1e-6))) == ["underflow"]
    assert reasons(network(BEHIND, gamma=np.full(4, 10.0))) == []
    assert reasons(network(BEHIND, "bfloat16", gamma=np.full(4, 1e4))) == []


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("body", [BEHIND, WITHIN], ids=["behind", "within"])
def test_a_bound_that_the_type_does_not_resolve(body: str, name: str) -> None:
    """Above the stated bound the fold stays; above half of it it is flagged."""
    unit = UNITS[name]
    for share, verdict in ((1.5, "kept"), (0.7, "folded")):
        mean = np.full(4, RESOLVED[unit] * share / unit / 2)
        site = fold(network(body, name, mean=mean)).sites[-1]
        assert site.verdict == verdict
        assert site.flagged == (verdict == "folded")
        assert site.reason == ("ill-conditioned" if verdict == "kept" else None)


MIXING = {
    "ReduceSum": "s = ReduceSum<keepdims=1>(m, axes)",
    "AveragePool": "s = GlobalAveragePool(m)",
    "ReduceMean": "s = ReduceMean<keepdims=1>(m, axes)",
    "Add": "s = Add(m, g)",
}
"""Operators that add values up."""


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("operator", MIXING.values(), ids=MIXING)
@pytest.mark.parametrize("number", [0.001, 1000.0])
def test_scales_across_sums(operator: str, number: float, name: str) -> None:
    """Nothing tells how large values are that a sum adds up, so a constant makes none larger."""
    start = "axes = Constant<value_ints=[2,3]>() h = Cast<to=TO>(x) t = Tanh(h) g = Conv(t, w)"
    forward = f"{start} p = Tanh(h) m = Mul(p, k) {operator} y = Conv(s, w)"
    backward = f"{start} m = Conv(h, w) {operator} y = Mul(s, k)"
    assert reasons(network(forward, name, k=number)) == (["overflow"] if number < 1 else [])
    assert reasons(network(backward, name, k=number)) == (["overflow"] if number > 1 else [])


@pytest.mark.parametrize(("spread", "want"), [(1.0, []), (50.0, ["overflow"])])
def test_statistics_across_a_sum(spread: float, want: list[str]) -> None:
    """Those of a normalization in front tell whether the sum of 64 elements is held."""
    body = f"""axes = Constant<value_ints=[2,3]>() h = Cast<to=TO>(x) p = Relu(h)
        m = {NORMALIZE.format("p")} s = ReduceSum<keepdims=1>(m, axes) y = Conv(s, w)"""
    big: dict[str, Any] = {"var": np.full(4, (4 * spread) ** 2), "mean": np.zeros(4)}
    assert reasons(network(body, **big)) == want


def test_half_of_a_residual_sum() -> None:
    """An operand of a sum that would be divided by a tiny scale stays as it is."""
    body = f"""h = Cast<to=TO>(x) p = Tanh(h) a = {NORMALIZE.format("p")} b = Conv(h, w)
        s = Add(a, b) y = Conv(s, w)"""
    assert reasons(network(body, gamma=np.full(4, 1e-4))) == ["overflow"]
    assert reasons(network(body, gamma=np.full(4, 0.5))) == []


def test_all_sixteen_bit_types_are_known() -> None:
    """Each has a largest number and a unit of rounding."""
    assert {np.dtype(t) for t in TYPES.values()} == set(LARGEST)
    for dtype, largest in LARGEST.items():
        assert np.isfinite(np.float64(largest).astype(dtype))
        assert float(np.float64(largest).astype(dtype)) == largest
    assert {helper.tensor_dtype_to_np_dtype(c) for c in CODES.values()} == set(LARGEST)

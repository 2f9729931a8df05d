"""Integer networks in float types: what they compute exactly, a fold keeps to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from integer_networks import every_value, integer_network
from onnx import TensorProto, helper, numpy_helper, parser

from bnfold import fold
from bnfold.bits import FEW, Bits, are_coarse, are_powers_of_two, has_few_bits, largest_sum
from bnfold.constants import Constant
from bnfold.reasons import Reason

Array = np.ndarray[Any, Any]
TYPES = {"float": np.float32, "double": np.float64, "float16": np.float16}

STEPS = {
    "Floor": "y = Floor(v)",
    "Ceil": "y = Ceil(v)",
    "Round": "y = Round(v)",
    "Sign": "y = Sign(v)",
    "int8": "q = Clip(v, low, high) y = Cast<to=3>(q)",
    "int32": "y = Cast<to=6>(v)",
    "int64": "r = Relu(v) y = Cast<to=7>(r)",
    "bool": "y = Cast<to=9>(v)",
    "Mod": "y = Mod<fmod=1>(v, one)",
    "Greater": "y = Greater(v, one)",
    "LessOrEqual": "y = LessOrEqual(v, one)",
    "Equal": "y = Equal(v, one)",
    "QuantizeLinear": "y = QuantizeLinear(v, one, zero)",
    "ArgMax": "y = ArgMax<axis=1>(v)",
    "TopK": "k = Constant<value_ints=[2]>() values, y = TopK<axis=1>(v, k)",
    "Where": "mask = Less(v, one) y = Where(mask, v, one)",
    "IsInf": "inverse = Div(one, v) wide = Cast<to=1>(inverse) y = IsInf(wide)",
    "behind more": "pool = ReduceMax(v) magnitude = Abs(pool) y = Floor(magnitude)",
    "behind a sum": "sum = Add(v, v) turned = Transpose(sum) y = Floor(turned)",
    "inside an If": """yes = Constant<value_ints=[1]>() flag = Cast<to=9>(yes)
        s = Squeeze(flag)
        y = If(s) <then_branch = th () => (float z) { z = Floor(v) },
                   else_branch = el () => (float z2) { z2 = Ceil(v) }>""",
}
"""Operators that jump at a tie, by what they make of `v`."""

INEXACT = {
    "Div": "c = Conv(x, w) v = Div(c, forty)",
    "Div by channel": "c = Conv(x, w) v = Div(c, factors)",
    "Mul by a reciprocal": "c = Conv(x, w) v = Mul(c, fortieth)",
    "Mul by a trained number": "c = Conv(x, w) v = Mul(c, trained)",
    "Div behind Add": "c = Conv(x, w, b) a = Add(c, seven) v = Div(a, forty)",
    "Div behind Relu": "c = Conv(x, w, b) r = Relu(c) v = Div(r, forty)",
    "Div ahead": "d = Div(x, forty) v = Conv(d, w)",
    "Mul ahead": "d = Mul(x, fortieth) v = Conv(d, w)",
    "BatchNormalization": "c = Conv(x, w) v = BatchNormalization(c, gamma, ints, ints, var)",
    "MatMul": "t = Transpose<perm=[0,2,3,1]>(x) m = MatMul(t, wm) v = Div(m, forty)",
    "Einsum": """t = Transpose<perm=[0,2,3,1]>(x) m = Einsum<equation="nhwc,co->nhwo">(t, wm)
        v = Div(m, forty)""",
    "Gemm": """n = Constant<value_ints=[-1,4]>() t = Reshape(x, n) m = Gemm(t, wm)
        k = Constant<value_ints=[2,4,8,8]>() d = Div(m, forty) v = Reshape(d, k)""",
    "branches": "c = Conv(x, w) e = Conv(x, w2) d = Div(c, forty) f = Div(e, forty) v = Add(d, f)",
    "Concat": "c = Conv(x, w) e = Conv(x, w2) j = Concat<axis=1>(c, e) v = Div(j, forty)",
    "average": "c = Conv(x, w) p = AveragePool<kernel_shape=[2,2]>(c) v = Div(p, forty)",
    "Slice": """c = Conv(x, w) s = Constant<value_ints=[0]>() e = Constant<value_ints=[3]>()
        a = Constant<value_ints=[2]>() l = Slice(c, s, e, a) v = Div(l, forty)""",
    "uint8": "i = Cast<to=2>(x) f = Cast<to=TYPE>(i) c = Conv(f, w) v = Div(c, forty)",
    "scale of a Dequantize": """i = Cast<to=2>(x) f = DequantizeLinear(i, one, zero)
        c = Conv(f, w) v = Div(c, forty)""",
    "gate": "c = Conv(x, w) e = Conv(x, w2) g = Mul(c, e) v = Div(g, forty)",
    "two layers": """c = Conv(x, w) d = Div(c, forty) f = Floor(d) e = Conv(f, w2)
        v = Div(e, forty)""",
    "steps inside": "c = Conv(x, w) d = Div(c, forty) v = Floor(d)",
}
"""Integer networks whose affine is rounded in a weight."""

EXACT = {
    "Mul by a power of two": "c = Conv(x, w) v = Mul(c, quarter)",
    "Div by a power of two": "c = Conv(x, w, b) v = Div(c, eight)",
    "power of two ahead": "d = Mul(x, quarter) v = Conv(d, w)",
    "powers by channel": "c = Conv(x, w) v = Mul(c, powers)",
}
"""Such that a weight takes in and keeps its digits, in any type."""

WHOLE = {
    "Mul": "c = Conv(x, w) v = Mul(c, three)",
    "Add": "c = Conv(x, w, b) v = Add(c, seven)",
    "Mul ahead": "d = Mul(x, three) v = Conv(d, w)",
    "Sub by channel": "c = Conv(x, w) v = Sub(c, factors)",
    "Mul, Add": "c = Conv(x, w) m = Mul(c, three) v = Add(m, seven)",
    "exact normalization": """c = Conv(x, w)
        v = BatchNormalization<epsilon=0.0>(c, ints, ints, ints, four)""",
    "branches": "c = Conv(x, w) e = Conv(x, w2) v = Add(c, e)",
}
"""Such that stay exact where a type has digits for the sums: not in 16 bits."""

TRAINED = {
    "weights": ("c = Conv(x, wt) v = Div(c, forty)", STEPS["Floor"]),
    "a curve between": ("c = Conv(x, w) v0 = Div(c, forty) v = Softplus(v0)", STEPS["Round"]),
    "statistics": (
        "c = Conv(x, w) v = BatchNormalization(c, gamma, trained_shift, trained_shift, var)",
        STEPS["Sign"],
    ),
    "decomposed statistics": (
        "c = Conv(x, w) m = Mul(c, trained) v = Add(m, trained)",
        "y = Sign(v)",
    ),
    "another layer": ("c = Conv(x, w) d = Div(c, forty) v = Conv(d, wt)", STEPS["Floor"]),
    "no step": ("c = Conv(x, w) v = Div(c, forty)", "y = Relu(v)"),
    "a step elsewhere": ("c = Conv(x, w) v = Div(c, forty)", "y = Relu(v) z = Floor(x)"),
    "a shape": ("c = Conv(x, w) v = Div(c, forty)", "y = Shape(v) z = Relu(v)"),
}
"""What is not exact, and what no step looks at."""


def arrays(dtype: Any) -> dict[str, Array]:
    """Parameters by name."""
    rng = np.random.default_rng(30)
    kernel, channel = (4, 4, 3, 3), (1, 4, 1, 1)
    found: dict[str, Any] = {
        "w": rng.integers(-9, 10, kernel),
        "w2": rng.integers(-3, 4, kernel),
        "wm": rng.integers(-9, 10, (4, 4)),
        "wt": rng.standard_normal(kernel),
        "b": rng.integers(-40, 41, 4),
        "factors": rng.integers(3, 50, channel),
        "powers": 2.0 ** rng.integers(-4, 3, channel),
        "trained": rng.uniform(0.01, 0.1, channel),
        "trained_shift": rng.standard_normal(4),
        "gamma": rng.uniform(0.01, 0.1, 4),
        "var": rng.uniform(0.5, 2.0, 4),
        "ints": rng.integers(1, 9, 4),
        "four": np.full(4, 4),
        "fortieth": 1 / 40,
        "quarter": 0.25,
        "low": -100,
        "high": 100,
    }
    found |= {"forty": 40, "eight": 8, "three": 3, "seven": 7, "one": 1}
    arrays = {k: np.asarray(v).astype(dtype) for k, v in found.items()}
    return arrays | {"zero": np.array(0, np.uint8)}


def network(body: str, name: str = "float") -> onnx.ModelProto:
    """A network of this type over whole numbers, with the parameters that it names."""
    dtype = np.dtype(TYPES[name])
    body = body.replace("TYPE", str(helper.np_dtype_to_tensor_dtype(dtype)))
    body = body.replace("(float z", f"({name} z")
    model = parser.parse_model(
        f"""<ir_version: 9, opset_import: ["": 19]>
        g ({name}[2,4,8,8] x) => ({name} y) {{ {body} }}"""
    )
    read = {n for node in model.graph.node for n in node.input}
    known = arrays(dtype).items()
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in known if k in read)
    return with_outputs(model)


def with_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with y, and z where there is one, as outputs of the types that they have."""
    del model.graph.output[:]
    types = {v.name: v for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    model.graph.output.extend(types[name] for name in ("y", "z") if name in types)
    return model


def run(model: onnx.ModelProto, feeds: dict[str, Array] | None = None) -> list[Array]:
    """What the runtime makes of whole numbers from 0 to 255, with nothing optimized."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    if feeds is None:
        dtype = helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
        rng = np.random.default_rng(9)
        feeds = {"x": rng.integers(0, 256, (2, 4, 8, 8)).astype(dtype)}
    return list(session.run(None, feeds))


def assert_same_bits(model: onnx.ModelProto, folded: onnx.ModelProto) -> None:
    """Both compute the same numbers, to the last bit."""
    for before, after in zip(run(model), run(folded), strict=True):
        np.testing.assert_array_equal(after, before)


def left(model: onnx.ModelProto) -> list[str]:
    """The affines that fold left, told by their reasons."""
    return [site.reason or "" for site in fold(model).kept]


@pytest.mark.parametrize("body", INEXACT.values(), ids=INEXACT)
@pytest.mark.parametrize("name", ["float", "float16"])
def test_what_a_step_looks_at_is_not_rounded(name: str, body: str) -> None:
    """Behind each kind of weight: the affine that would round it stays, by a reason of its own."""
    model = network(f"{body} {STEPS['Floor']}", name)
    assert Reason.INEXACT.slug in left(model)
    assert_same_bits(model, fold(model).model)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_every_step_is_seen(step: str) -> None:
    """In front of each operator that jumps, also behind others and in a subgraph."""
    model = network(f"{INEXACT['Div']} {step}")
    assert left(model) == [Reason.INEXACT.slug]
    assert_same_bits(model, fold(model).model)


@pytest.mark.parametrize("step", [s for n, s in STEPS.items() if n != "QuantizeLinear"])
def test_double_networks_too(step: str) -> None:
    """A double holds 53 digits, and a fortieth of a whole number in none of them."""
    model = network(
        f"t = Transpose<perm=[0,2,3,1]>(x) m = MatMul(t, wm) v = Div(m, forty) {step}", "double"
    )
    assert left(model) == [Reason.INEXACT.slug]
    assert_same_bits(model, fold(model).model)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("body", EXACT.values(), ids=EXACT)
@pytest.mark.parametrize("name", ["float", "float16"])
def test_powers_of_two_fold(name: str, body: str, step: str) -> None:
    """They change no digit, so weights take them in, in front of any step."""
    model = network(f"{body} {step}", name)
    assert left(model) == []
    assert_same_bits(model, fold(model).model)


@pytest.mark.parametrize("body", WHOLE.values(), ids=WHOLE)
def test_whole_factors_fold_where_sums_stay_exact(body: str) -> None:
    """A float32 has digits left for the sums of small whole weights."""
    model = network(f"{body} half = Mul(v, quarter) y = Floor(half)")
    assert left(model) == []
    assert_same_bits(model, fold(model).model)


@pytest.mark.parametrize("body", WHOLE.values(), ids=WHOLE)
def test_whole_factors_stay_in_sixteen_bits(body: str) -> None:
    """There sums pass the digits, and each rounding is one that the step sees."""
    model = network(f"{body} y = Floor(v)", "float16")
    assert_same_bits(model, fold(model).model)


def test_a_factor_too_large_for_the_sums_stays() -> None:
    """Three times a weight is exact, and 30,001 times it no more when it is added up."""
    model = network("c = Conv(x, w) v = Mul(c, three) y = Floor(v)")
    three = next(t for t in model.graph.initializer if t.name == "three")
    three.CopyFrom(numpy_helper.from_array(np.array(30001, np.float32), "three"))
    assert left(model) == [Reason.INEXACT.slug]


@pytest.mark.parametrize(("body", "step"), TRAINED.values(), ids=TRAINED)
def test_what_is_not_exact_folds(body: str, step: str) -> None:
    """Where a value is rounded by chance, or no step looks at it, nothing is in the way."""
    assert left(network(f"{body} {step}")) == []


def test_merged_branches_of_whole_weights_stay_whole() -> None:
    """Kernels of whole numbers add up to one; with a rounded affine in a branch they do not."""
    whole = fold(network(f"{WHOLE['branches']} y = Floor(v)"))
    assert len(whole.merged) == 1
    rounded = fold(network(f"{INEXACT['branches']} y = Floor(v)"))
    assert not rounded.merged


EXACT_BELOW = 2.0**20
"""Sums of larger numbers may pass the digits of a float32 themselves."""


@pytest.mark.parametrize("start", range(0, 400, 50))
def test_random_integer_networks_keep_every_bit(start: int) -> None:
    """Whatever is folded of layers, scales, shifts and steps, no result is another number."""
    folded = kept = 0
    for seed in range(start, start + 50):
        model, feeds = integer_network(seed)
        result = fold(model)
        folded, kept = folded + len(result.folded), kept + len(result.kept)
        if (
            max(np.abs(v.astype(float)).max() for v in run(every_value(model), feeds))
            < EXACT_BELOW
        ):
            for before, after in zip(run(model, feeds), run(result.model, feeds), strict=True):
                np.testing.assert_array_equal(after, before, err_msg=f"seed {seed}")
    assert min(folded, kept) > 20, "both were seen"


def test_bits() -> None:
    """The digits of some numbers are those between the lowest and the highest one set."""
    assert Bits.of(np.array([0.0])) is None
    assert Bits.of(np.array([1.0])) == Bits(0, 1)
    assert Bits.of(np.array([0.5, -6.0])) == Bits(-1, 3)
    assert are_powers_of_two(np.array([0.25, -1, 4]))
    assert not are_powers_of_two(np.array([3.0]))
    assert list(are_coarse(np.array([0.1, 40, 2.0**-8, 2.0**-9]))) == [False, True, True, False]
    assert largest_sum(np.array([[1.0, 2], [3, -4]])) == 7
    assert largest_sum(np.array([0.5, -8])) == 16


@pytest.mark.parametrize("name", FEW)
def test_few_digits(name: str) -> None:
    """Whole weights of a byte have few; trained weights of any type have more."""
    dtype = helper.tensor_dtype_to_np_dtype(
        TensorProto.BFLOAT16
        if name == "bfloat16"
        else helper.np_dtype_to_tensor_dtype(np.dtype(name))
    )
    rng = np.random.default_rng(2)
    whole = rng.integers(-127, 128, (600, 1000))
    assert has_few_bits(Constant.of_array((whole / 64).astype(dtype)))
    trained = rng.standard_normal((600, 1000))
    assert not has_few_bits(Constant.of_array(trained.astype(dtype)))
    whole = whole.astype(float)
    whole[-1, -1] = 0.37
    assert not has_few_bits(Constant.of_array(whole.astype(dtype)))

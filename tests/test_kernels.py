"""Each kernel against ONNX's plain evaluator or, where that is wrong, against ONNX Runtime."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator
from versions import runtime_since

from bnfold import kernels
from bnfold.judge import Evaluator
from bnfold.kernels import Array
from bnfold.runtime import open_session

SAME = ("SAME_UPPER", "SAME_LOWER")


def tensor(*shape: int, seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


def evaluate(text: str, feeds: dict[str, Array], *, plain: bool = False, opset: int = 17) -> Array:
    """One node's result, by our evaluator or by onnx's."""
    shapes = {name: ",".join(map(str, array.shape)) for name, array in feeds.items()}
    inputs = ", ".join(f"double[{shape}] {name}" for name, shape in shapes.items())
    header = f'<ir_version: 8, opset_import: ["": {opset}]>'
    source = f"{header} g ({inputs}) => (double y) {{ {text} }}"
    model = parser.parse_model(source)
    evaluator: Any = (ReferenceEvaluator if plain else Evaluator)(model)
    return np.asarray(evaluator.run(None, feeds)[0])


def by_runtime(text: str, feeds: dict[str, Array], opset: int = 17) -> Array:
    """One node's result by ONNX Runtime in float32."""
    narrow = {name: array.astype(np.float32) for name, array in feeds.items()}
    shapes = {name: ",".join(map(str, array.shape)) for name, array in feeds.items()}
    inputs = ", ".join(f"float[{shape}] {name}" for name, shape in shapes.items())
    source = f'<ir_version: 8, opset_import: ["": {opset}]> g ({inputs}) => (float y) {{ {text} }}'
    return open_session(parser.parse_model(source), level="disable").run(narrow)["y"]


CONVS = [
    *("", "strides=[2,1]", "pads=[1,2,0,1]", "dilations=[2,1], pads=[2,2,2,2]"),
    *(f'auto_pad="{same}", strides=[2,2]' for same in SAME),
    'auto_pad="VALID"',
]


@pytest.mark.parametrize("attributes", CONVS)
@pytest.mark.parametrize("group", [1, 2])
def test_conv(attributes: str, group: int) -> None:
    """Conv of two dimensions, with every way to pad, stride and group."""
    feeds = {"x": tensor(2, 4, 7, 8), "w": tensor(6, 4 // group, 3, 2), "b": tensor(6)}
    text = f"y = Conv<{', '.join(filter(None, (f'group={group}', attributes)))}>(x, w, b)"
    expected = by_runtime(text, feeds)
    np.testing.assert_allclose(evaluate(text, feeds), expected, 1e-4, 1e-4)


@pytest.mark.parametrize("multiplier", [1, 3, 8])
@pytest.mark.parametrize("cache", [1, 1000, 1 << 20])
def test_depthwise_conv(multiplier: int, cache: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One channel to a group, with one kernel or several, a few channels at a time or all."""
    monkeypatch.setattr(kernels, "CACHE_BYTES", cache)
    feeds = {"x": tensor(2, 4, 7, 8), "w": tensor(4 * multiplier, 1, 3, 2)}
    text = "y = Conv<group=4, strides=[2,1], pads=[1,0,1,1], dilations=[1,2]>(x, w)"
    np.testing.assert_allclose(evaluate(text, feeds), by_runtime(text, feeds), 1e-4, 1e-4)


@pytest.mark.parametrize("rank", [1, 3])
def test_conv_of_other_ranks(rank: int) -> None:
    """Conv over one and three axes, against the plain evaluator."""
    feeds = {"x": tensor(2, 3, *(6,) * rank), "w": tensor(4, 3, *(3,) * rank)}
    text = f"y = Conv<strides={[2] * rank}, pads={[1] * 2 * rank}>(x, w)"
    np.testing.assert_allclose(evaluate(text, feeds), evaluate(text, feeds, plain=True), 1e-12)


def test_conv_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cutting the columns into steps changes nothing."""
    x, w = tensor(2, 4, 9, 8), tensor(4, 2, 3, 3)
    args = {"strides": (1, 2), "dilations": (1, 1), "pads": ((1, 1), (0, 1)), "group": 2}
    whole = kernels.conv(x, w, **args)  # type: ignore[arg-type]
    monkeypatch.setattr(kernels, "COLUMN_BYTES", 1)
    np.testing.assert_allclose(kernels.conv(x, w, **args), whole, 1e-13)  # type: ignore[arg-type]


TRANSPOSED = [
    *("", "strides=[2,3]", "strides=[2,2], pads=[1,0,1,2]", "dilations=[2,2]"),
    "strides=[2,2], output_padding=[1,1]",
    "strides=[3,2], output_shape=[10,9]",
    *(f'auto_pad="{same}", strides=[2,2]' for same in SAME),
]


@pytest.mark.parametrize("attributes", TRANSPOSED)
@pytest.mark.parametrize("group", [1, 2])
def test_conv_transpose(attributes: str, group: int) -> None:
    """ConvTranspose, grouped too, with every way to give its size."""
    feeds = {"x": tensor(2, 4, 3, 4), "w": tensor(4, 6 // group, 3, 2), "b": tensor(6)}
    text = f"y = ConvTranspose<{', '.join(filter(None, (f'group={group}', attributes)))}>(x, w, b)"
    np.testing.assert_allclose(evaluate(text, feeds), by_runtime(text, feeds), 1e-4, 1e-4)


POOLS = [
    *("", "strides=[2,2]", "pads=[1,1,0,1]"),
    "strides=[2,2], pads=[1,1,1,1], ceil_mode=1",
    *(f'auto_pad="{same}", strides=[2,2]' for same in SAME),
]


PAST_THE_END = "strides=[3,2], ceil_mode=1"
AVERAGED_PAST_THE_END = pytest.param(
    PAST_THE_END, marks=runtime_since("1.29", "a window past the end is divided by what it holds")
)


@pytest.mark.parametrize("attributes", [*POOLS, PAST_THE_END])
def test_max_pool(attributes: str) -> None:
    """MaxPool with padding that never wins, though every value is negative."""
    feeds = {"x": -1 - np.abs(tensor(2, 3, 7, 8))}
    text = f"y = MaxPool<{', '.join(filter(None, ('kernel_shape=[3,2]', attributes)))}>(x)"
    np.testing.assert_allclose(evaluate(text, feeds), by_runtime(text, feeds), 1e-5)


@pytest.mark.parametrize("attributes", [*POOLS, AVERAGED_PAST_THE_END])
@pytest.mark.parametrize("counted", [0, 1])
def test_average_pool(attributes: str, counted: int) -> None:
    """AveragePool, with padding counted and not, as ONNX Runtime divides."""
    feeds = {"x": tensor(2, 3, 7, 8)}
    options = filter(None, ("kernel_shape=[3,2]", f"count_include_pad={counted}", attributes))
    text = f"y = AveragePool<{', '.join(options)}>(x)"
    np.testing.assert_allclose(evaluate(text, feeds), by_runtime(text, feeds), 1e-5, 1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 4)])
def test_global_max_pool(shape: tuple[int, ...]) -> None:
    """GlobalMaxPool over whatever axes there are."""
    feeds = {"x": tensor(*shape)}
    text = "y = GlobalMaxPool(x)"
    np.testing.assert_allclose(evaluate(text, feeds), by_runtime(text, feeds), 1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_local_response(size: int) -> None:
    """LRN with odd and even windows."""
    feeds = {"x": tensor(2, 6, 3, 3)}
    text = f"y = LRN<size={size}, alpha=0.3, beta=0.6, bias=1.5>(x)"
    if size % 2 == 0:
        with pytest.raises(Exception, match="size"):
            by_runtime(text, feeds)
        squares = np.zeros((2, 6, 3, 3))
        for c in range(6):  # the operator page's formula, word for word
            low, high = max(0, c - (size - 1) // 2), min(5, c + math.ceil((size - 1) / 2))
            squares[:, c] = (feeds["x"][:, low : high + 1] ** 2).sum(axis=1)
        expected = feeds["x"] / (1.5 + 0.3 / size * squares) ** 0.6
    else:
        expected = by_runtime(text, feeds)
    np.testing.assert_allclose(evaluate(text, feeds), expected, 1e-5)


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("options", ["", "<axis=0>", "<axis=1>", "<axis=2>"])
@pytest.mark.parametrize("opset", [11, 17])
def test_softmax(name: str, options: str, opset: int) -> None:
    """Softmax before and after opset 13, when it began to mean one axis, and the last one."""
    feeds = {"x": tensor(2, 3, 4)}
    text = f"y = {name}{options}(x)"
    expected = by_runtime(text, feeds, opset)
    np.testing.assert_allclose(evaluate(text, feeds, opset=opset), expected, 1e-5, 1e-6)


@pytest.mark.parametrize("slope", ["", "<alpha=0.3>", "<alpha=0.0>", "<alpha=-2.0>"])
def test_leaky_relu(slope: str) -> None:
    """LeakyRelu for slopes of either sign and none, at zero and NaN too."""
    feeds = {"x": np.array([-2.0, -0.0, 0.0, 3.0, 1e300, math.nan, -1e-310])}
    text = f"y = LeakyRelu{slope}(x)"
    expected = evaluate(text, feeds, plain=True)
    np.testing.assert_allclose(evaluate(text, feeds), expected, 1e-7, 1e-300)


def test_erf_keeps_float64() -> None:
    """Erf is math.erf to a rounding or two, near zero and far out too."""
    ends = [0.0, 1e-310, 1e-9, 5.99, 6.0, 40.0, math.inf, -math.inf]
    x = np.concatenate([np.linspace(-7, 7, 5001), ends])
    np.testing.assert_allclose(kernels.erf(x), [math.erf(v) for v in x], 4.5e-16, 0)
    assert np.isnan(kernels.erf(np.array([math.nan]))).all()


def test_batch_normalization() -> None:
    """BatchNormalization follows gamma * (x - mean) / sqrt(var + epsilon) + beta."""
    x, (g, b, m) = tensor(2, 3, 4, 5), tensor(3, 3, seed=1)
    v = np.array([0.5, 2.0, 1e-3])
    c = (slice(None), None, None)
    expected = g[c] * (x - m[c]) / np.sqrt(v[c] + 1e-3) + b[c]
    np.testing.assert_allclose(kernels.batch_normalization(x, g, b, m, v, 1e-3), expected, 1e-12)


def test_conv_is_wrong_when_a_weight_is() -> None:
    """The comparison can fail: one per cent of one weight shows."""
    feeds = {"x": tensor(1, 2, 5, 5), "w": tensor(2, 2, 3, 3)}
    right = evaluate("y = Conv(x, w)", feeds)
    feeds["w"] = feeds["w"].copy()
    feeds["w"][0, 0, 0, 0] *= 1.01
    assert np.abs(evaluate("y = Conv(x, w)", feeds) - right).max() > 1e-4

"""The proof: equal models pass, a planted fault does not, and the report says where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from bnfold import equivalence, evaluation, runtime, yardstick
from bnfold.equivalence import verify
from bnfold.errors import InputError, ProviderUnavailable
from bnfold.judge import Judge, OutOfTime
from bnfold.sessions import Sessions

HEADER = '<ir_version: 8, opset_import: ["": 17]>\n'


def parse(text: str) -> onnx.ModelProto:
    return parser.parse_model(HEADER + text)


def with_weights(model: onnx.ModelProto, **shapes: tuple[int, ...]) -> onnx.ModelProto:
    """Adds random float32 initializers; statistics named v are positive."""
    for index, (name, shape) in enumerate(shapes.items()):
        array = np.random.default_rng(index).standard_normal(shape).astype(np.float32)
        array = np.abs(array) + np.float32(0.1) if name.startswith("v") else array
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def network() -> onnx.ModelProto:
    """Conv, BN, Relu, depthwise Conv, BN, pool, Gemm: each kind of weight that is folded into."""
    model = parse(
        """
        net (float[N,3,H,W] x) => (float[N,5] y) {
            c = Conv<pads=[1,1,1,1]>(x, w1)
            b = BatchNormalization(c, s1, s1, m1, v1)
            r = Relu(b)
            d = Conv<group=4>(r, w2)
            e = BatchNormalization(d, s1, m1, s1, v1)
            p = GlobalAveragePool(e)
            f = Flatten(p)
            y = Gemm<transB=1>(f, w3, b3)
        }
        """
    )
    shapes = {"w1": (4, 3, 3, 3), "w2": (4, 1, 3, 3), "w3": (5, 4), "b3": (5,)}
    return with_weights(model, **shapes, s1=(4,), m1=(4,), v1=(4,))


def changed(model: onnx.ModelProto, name: str, change: Callable[[Any], Any]) -> onnx.ModelProto:
    """A copy with one initializer replaced."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name == name:
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(change(array).astype(array.dtype), name))
            return copy
    raise KeyError(name)


def one_percent(array: Any) -> Any:
    return array * 1.01


# --- the rule


def test_a_model_equals_itself() -> None:
    """The same model passes on every output, provider and level, judged in float64."""
    report = verify(network(), network())
    assert report
    assert report.judge == "float64"
    assert {(c.tensor, c.level) for c in report.outputs} == {("y", "disable"), ("y", "all")}
    assert all(c.original_error is not None and c.original_error < 1e-5 for c in report.outputs)


@pytest.mark.parametrize("name", ["w1", "w2", "w3", "b3", "s1", "m1", "v1"])
def test_one_per_cent_of_a_weight_fails(name: str) -> None:
    """A weight tensor that is off by one per cent cannot pass."""
    report = verify(network(), changed(network(), name, one_percent))
    assert not report
    worst = report.outputs[0]
    assert worst.candidate_error is not None
    assert worst.limit is not None
    assert worst.candidate_error > 10 * worst.limit


FAULTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "one channel": ("w1", lambda a: np.concatenate([a[:1] * 1.01, a[1:]])),
    "channels swapped": ("s1", lambda a: a[[1, 0, 2, 3]]),
    "bias dropped": ("b3", lambda a: a * 0),
    "epsilon 1e-3": ("v1", lambda a: a + 1e-3),
    "sign": ("w2", lambda a: -a),
    "transposed": ("w1", lambda a: a.swapaxes(2, 3)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_a_wrong_fold(fault: str) -> None:
    """What wrong folds were seen to do is caught."""
    name, change = FAULTS[fault]
    assert not verify(network(), changed(network(), name, change))


def test_rounding_is_no_fault() -> None:
    """Weights that moved by one rounding pass: a correct fold does no more than that."""
    for seed in range(5):
        rng = np.random.default_rng(seed)

        def rounded(array: Any, rng: np.random.Generator = rng) -> Any:
            return array * (1 + 1e-7 * rng.uniform(-1, 1, array.shape))

        assert verify(network(), changed(network(), "w1", rounded), seed=seed)


def test_cancellation_is_judged_by_float64() -> None:
    """Two float32 results that differ by a third pass, where the original is as far from truth."""
    text = "g (float[8] x) => (float[8] y) <float[1] big = {1e6}> {"
    left = parse(text + "a = Add(x, big) b = Add(a, a) c = Sub(b, big) y = Sub(c, big) }")
    right = parse(text + "a = Add(big, x) c = Sub(a, big) y = Add(c, c) }")
    data = {"x": np.linspace(0.01, 0.11, 8).astype(np.float32)}
    assert verify(left, right, data=data)
    wrong = parse(text + "y = Add(x, big) }")
    assert not verify(left, wrong, data=data)


def test_float16_tells_one_per_cent() -> None:
    """In float16 too a weight off by one per cent fails, and rounding passes."""
    text = "g (float16[N,8] x) => (float16[N,4] y) { y = MatMul(x, w) }"
    model = parse(text)
    weight = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float16)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    assert verify(model, model)
    assert not verify(model, changed(model, "w", one_percent))


def test_rule_is_monotone() -> None:
    """A larger error of the original allows more, and the floor is below one per cent."""
    for dtype in (np.float16, np.float32, np.float64):
        rule = yardstick.rule_for(np.dtype(dtype))
        assert rule.limit(0.0) == rule.floor < 5e-3
        assert rule.limit(1e-3) > rule.limit(1e-4)


def test_values_far_below_the_output_are_held_against_its_scale() -> None:
    """A sigmoid is exact to an absolute error: what it rounds to zero elsewhere is no fault."""
    text = "g (float[4] x) => (float[4] y) {{ {} }}"
    original = parse(text.format("y = Sigmoid(x)"))
    mirrored = "n = Neg(x) s = Sigmoid(n) o = Constant<value_float=1.0>() y = Sub(o, s)"
    other = parse(text.format(mirrored))
    data = [{"x": np.full(4, v, np.float32)} for v in (0.3, -18.0)]
    assert verify(original, other, data=data)


# --- NaN, infinity, other types


def test_nan_must_stand_in_the_same_places() -> None:
    """A model that gives NaN equals itself; one that gives a number there does not."""
    text = "g (float[4] x) => (float[4] y) {{ s = Sqrt(x) y = {} }}"
    data = {"x": np.array([1, -1, 4, -4], np.float32)}
    original = parse(text.format("Identity(s)"))
    assert verify(original, original, data=data)
    report = verify(original, parse(text.format("Abs(x)")), data=data)
    assert not report
    assert report.outputs[0].mismatched == 2
    assert "NaN or infinity" in report.outputs[0].detail


def test_overflow_of_the_original_is_no_fault_of_the_candidate() -> None:
    """A candidate that avoids an overflow is nearer to the truth, and passes."""
    text = "g (float[2] x) => (float[2] y) <float[1] k = {1e30}, float[1] r = {1e-30}> {"
    original = parse(text + "a = Mul(x, k) y = Mul(a, r) }")
    better = parse(text + "a = Mul(x, r) y = Mul(a, k) }")
    data = [{"x": np.array([1e20, 1], np.float32)}, {"x": np.array([2, 1], np.float32)}]
    assert verify(original, better, data=data)
    assert not verify(better, original, data=data)


def test_whole_numbers_must_be_equal() -> None:
    """A whole number that no rounding flips fails, with the flips and how far off they were."""
    text = """g (float[6] x) => (int64[6] y) <float[1] k = {{{}}}> {{
        a = Mul(x, k) y = Cast<to=7>(a) }}"""
    data = {"x": np.arange(6, dtype=np.float32) + np.float32(0.5)}
    original = parse(text.format("1.0"))
    assert verify(original, original, data=data)
    report = verify(original, parse(text.format("1.3")), data=data)
    assert not report
    assert report.outputs[0].mismatched == 4
    assert report.outputs[0].margin == pytest.approx(0.5 / 5.5)


LABELS = "g (float[1,3] x) => (int64[1] y) { a = Mul(x, k) y = ArgMax<axis=1, keepdims=0>(a) }"


def test_a_tie_may_fall_either_way() -> None:
    """An index may flip between two values that rounding cannot tell apart."""
    model = changed(with_weights(parse(LABELS), k=(3,)), "k", lambda a: np.ones_like(a))
    moved = changed(model, "k", lambda _: np.array([1, 1 + 2e-7, 1]))
    report = verify(model, moved, data={"x": np.array([[1, 1, 0]], np.float32)})
    assert report
    assert report.outputs[0].mismatched == 1
    assert report.outputs[0].margin == 0
    far = {"x": np.array([[1, 1.1, 0]], np.float32)}
    assert not verify(model, changed(model, "k", lambda _: np.array([1.2, 1, 1])), data=far)


def test_labels_that_agree_do_not_hide_a_fault() -> None:
    """The values that an ArgMax looked at are compared too: no label need flip."""
    model = with_weights(parse(LABELS), k=(3,))
    data = {"x": np.array([[1, 0.1, 0.1]], np.float32)}
    wrong = changed(model, "k", lambda a: a * np.array([1, 1.01, 1], np.float32))
    report = verify(model, wrong, data=data)
    assert not report
    assert [(o.tensor, o.passed) for o in report.outputs][-1] == ("a", False)


MAP = "g (float[1,400,400] x) => (bool[1,400,400] y) {{ {a} = Add(x, k) {y} }}"


def test_a_pixel_that_is_no_tie_may_not_flip() -> None:
    """In a map of yes and no a value near the threshold may fall the other way, no other may."""
    text = MAP.format(a="a", y="y = Greater(a, x)")
    original = changed(
        with_weights(parse(text), k=(1, 400, 400)), "k", lambda a: _set(a, [1e-7, 0.1])
    )
    x = {"x": np.zeros((1, 400, 400), np.float32)}
    report = verify(original, changed(original, "k", lambda a: _set(a, [-1e-7, 0.1])), data=x)
    assert report
    assert report.outputs[0].mismatched == 1
    wrong = changed(original, "k", lambda a: _set(a, [1e-7, -0.1]))
    assert not any(o.passed for o in verify(original, wrong, data=x).outputs)


def _set(array: Any, values: list[float]) -> Any:
    copy = array.copy()
    copy.reshape(-1)[: len(values)] = values
    return copy


def test_one_flip_in_a_large_map_is_no_fault() -> None:
    """Where nothing tells what decided, one pixel may differ; one in a hundred may not."""
    texts = [MAP.format(a=a, y=f"b = Greater({a}, x) y = Not(b)") for a in ("a", "other")]
    original, other = (with_weights(parse(text), k=(1, 400, 400)) for text in texts)
    x = {"x": np.zeros((1, 400, 400), np.float32)}
    assert verify(original, changed(other, "k", lambda a: _flipped(a, 1)), data=x)
    assert not verify(original, changed(other, "k", lambda a: _flipped(a, 1600)), data=x)


def _flipped(array: Any, count: int) -> Any:
    copy = array.copy()
    copy.reshape(-1)[:count] *= -1
    return copy


def test_infinities_equal_themselves() -> None:
    """A model that gives infinity equals itself, by every rule and without a warning."""
    model = parse("g (float[2] x) => (float[2] y) { y = Log(x) }")
    data = {"x": np.array([0, 2], np.float32)}
    assert verify(model, model, data=data)
    assert verify(model, model, data=data, rtol=1e-5)


def test_sequences_are_compared() -> None:
    """An output that is a sequence is compared element by element."""
    text = """g (float[N,2] x) => (seq(float[N,2]) y) {{
        a = Neg(x) b = {}(x) y = SequenceConstruct(a, b) }}"""
    original = parse(text.format("Relu"))
    assert verify(original, original)
    assert not verify(original, parse(text.format("Abs")))


def test_strings_are_compared() -> None:
    """An output of strings is equal or not."""
    text = "g (int64[N] x) => (string[N] y) {{ {} y = Cast<to=8>(a) }}"
    original = parse(text.format("a = Identity(x)"))
    assert verify(original, original)
    report = verify(original, parse(text.format("a = Neg(x)")))
    assert not report
    assert report.outputs[0].mismatched > 0


def test_tolerance_replaces_the_rule() -> None:
    """With atol and rtol the plain elementwise rule decides, and no judge is asked."""
    fault = changed(network(), "w1", one_percent)
    loose, tight = (
        verify(network(), fault, rtol=1.0, atol=1.0),
        verify(network(), fault, rtol=1e-5),
    )
    assert loose
    assert not tight
    assert loose.judge == tight.judge == "tolerance"
    assert "outside of atol 0 + rtol 1e-05" in tight.outputs[0].detail


# --- what is compared


def test_different_inputs_are_an_error() -> None:
    """Models that take different inputs cannot be compared at all."""
    other = parse("g (float[N,3,H,W] z) => (float[N,5] y) { y = Flatten(z) }")
    with pytest.raises(InputError, match="different inputs") as caught:
        verify(network(), other)
    assert "z float32" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(float[2] x) => (float[2] z) { z = Relu(x) }", "no such output"),
        ("(float[2] x) => (double[2] y) { y = Cast<to=11>(x) }", "expected float32, got float64"),
        (
            "(float[2] x) => (float[1,2] y) <int64[1] a = {0}> { y = Unsqueeze(x, a) }",
            "expected shape (2,), got (1, 2)",
        ),
    ],
    ids=["missing", "type", "shape"],
)
def test_outputs_that_do_not_correspond_fail(text: str, words: str) -> None:
    """A missing output, another type and another shape fail, and say so."""
    report = verify(parse("g (float[2] x) => (float[2] y) { y = Relu(x) }"), parse("g " + text))
    assert not report
    assert words in report.outputs[0].detail


def test_a_candidate_that_does_not_run_fails() -> None:
    """A candidate that the runtime refuses is a failed comparison with its message."""
    original = parse("g (float[2,2] x) => (float[2,2] y) { y = Relu(x) }")
    broken = parse("g (float[2,2] x) => (float[P,Q] y) <int64[1] s = {3}> { y = Reshape(x, s) }")
    report = verify(original, broken)
    assert not report
    assert "Reshape" in report.outputs[0].detail


def test_absent_provider_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that is not there ends in an error, never in a pass on another one."""
    monkeypatch.setattr(runtime, "available_providers", lambda: (runtime.CPU,))
    with pytest.raises(ProviderUnavailable):
        verify(network(), network(), providers=["cuda"])


def test_the_report_says_what_was_done() -> None:
    """Seed, samples, provider, levels and versions stand in the report, and it becomes JSON."""
    import json

    report = verify(network(), changed(network(), "w1", one_percent), seed=7, samples=3)
    assert report.seed == 7
    assert len(report.samples) == 3
    assert report.providers == ("CPUExecutionProvider",)
    assert "onnxruntime" in report.environment
    worst = report.outputs[0]
    assert worst.expected != worst.actual
    assert worst.max_abs == pytest.approx(abs(worst.expected - worst.actual))  # type: ignore[operator]
    assert json.loads(json.dumps(report.to_dict()))["equivalent"] is False


def test_same_seed_same_report() -> None:
    """The proof is reproducible."""
    first, again = (verify(network(), network(), samples=3, seed=3) for _ in range(2))
    assert first == again


# --- culprit


@pytest.mark.parametrize(("name", "tensor"), [("w1", "c"), ("w2", "d"), ("w3", "y")])
def test_the_culprit_is_the_first_tensor_that_departs(name: str, tensor: str) -> None:
    """The tensor that the faulty weight makes is named, not those it spoils later."""
    report = verify(network(), changed(network(), name, one_percent))
    assert report.culprit == tensor
    assert any(f"the first tensor to depart is {tensor}" in note for note in report.notes)


def test_culprit_in_float16() -> None:
    """In a narrow type a departure is told from its coarse rounding."""
    text = """g (float16[N,8] x) => (float16[N,8] y) {
        a = MatMul(x, w) b = Relu(a) y = MatMul(b, u) }"""
    model = parse(text)
    for name in "wu":
        weight = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float16)
        model.graph.initializer.append(numpy_helper.from_array(weight, name))
    assert verify(model, changed(model, "u", lambda a: a * 1.05)).culprit == "y"


# --- yardsticks other than float64


def test_without_a_judge_noise_is_the_yardstick() -> None:
    """An operator without a float64 evaluation is named, and a fault still fails."""
    text = """<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>
    g (float[N,4] x) => (float[N,4] y) { a = MatMul(x, w) y = com.microsoft.FastGelu(a) }"""
    model = with_weights(parser.parse_model(text), w=(4, 4))
    report = verify(model, model)
    assert report
    assert report.judge == "noise"
    assert any("FastGelu" in note for note in report.notes)
    assert not verify(model, changed(model, "w", one_percent))


def test_out_of_time_falls_back_to_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that is too slow leaves the rest to the noise, says so, and faults still fail."""
    calls = []
    run = Judge.run

    def slow(self: Judge, feeds: Any, seconds: float | None = None) -> Any:
        calls.append(1)
        if len(calls) % 8 == 3:
            raise OutOfTime
        return run(self, feeds, seconds)

    monkeypatch.setattr(Judge, "run", slow)
    report = verify(network(), network())
    assert report
    assert report.judge == "float64"
    assert any("2 of 8 samples" in note for note in report.notes)
    calls.clear()
    assert not verify(network(), changed(network(), "w2", one_percent))


def test_the_largest_batch_that_fits_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a batch that takes too long the first rows are judged, run as well, and named."""
    run = Judge.run

    def slow(self: Judge, feeds: Any, seconds: float | None = None, **options: Any) -> Any:
        if len(feeds["x"]) > 5:
            raise OutOfTime
        return run(self, feeds, seconds, **options)

    monkeypatch.setattr(Judge, "run", slow)
    monkeypatch.setattr(evaluation, "rows_that_fit", lambda *_, **__: 5)
    shape = (40, 3, 10, 11)
    data = [{"x": np.full(shape, v, np.float32)} for v in (0.5, -1.0)]
    report = verify(network(), network(), data=data)
    assert report
    assert report.judge == "float64"
    names = ["given 0", "given 1", "given 0, first 5", "given 1, first 5"]
    assert list(report.samples) == names
    assert len(report.digests) == 2
    assert any("it judged the first 5 of each" in note for note in report.notes)
    assert not verify(network(), changed(network(), "w1", one_percent), data=data)


def test_as_many_rows_as_the_time_holds() -> None:
    """Half of what is left, shared by all samples; at least one row, never the whole batch."""
    assert evaluation.rows_that_fit(64, 1.0, 40.0, samples=2) == 10
    assert evaluation.rows_that_fit(8, 0.001, 40.0, samples=2) == 7
    assert evaluation.rows_that_fit(64, 100.0, 40.0, samples=2) == 1


def test_no_time_at_all() -> None:
    """With no seconds for the judge the yardstick is the noise."""
    report = verify(network(), network(), judge_seconds=0)
    assert report
    assert report.judge == "noise"


def test_a_judge_that_is_wrong_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation far from the runtime on most samples is given up, not held against it."""
    run = Judge.run

    def wrong(self: Judge, feeds: Any, seconds: float | None = None, **options: Any) -> Any:
        values = run(self, feeds, seconds, **options)
        return {name: 1.5 * value for name, value in values.items()}

    monkeypatch.setattr(Judge, "run", wrong)
    report = verify(network(), network())
    assert report
    assert report.judge == "noise"
    assert not verify(network(), changed(network(), "w2", one_percent))


# --- the runtime is judged too

MISFUSED = """
g (float[4,4] x) => (float[4,4] y) {
    a = MatMul(x, w)
    t = Transpose<perm=[1,0]>(a)
    y = BatchNormalization(t, s, s, m, v)
}
"""


def test_the_runtimes_own_mistake_is_told() -> None:
    """ONNX Runtime fuses MatMul, Transpose, BN wrongly when sizes are equal: a note says so."""
    model = with_weights(parse(MISFUSED), w=(4, 4), s=(4,), m=(4,), v=(4,))
    report = verify(model, model)
    if not any("breaks the original" in note for note in report.notes):
        pytest.skip("this runtime no longer makes that mistake")
    assert report  # the same model behaves the same
    assert not any("the candidate avoids it" in note for note in report.notes)

    s, m, v = (numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer[1:])
    scale = s / np.sqrt(v + 1e-5)
    folded = parse(
        """g (float[4,4] x) => (float[4,4] y) {
            a = MatMul(x, w) t = Transpose(a) u = Mul(t, k) y = Add(u, h) }"""
    )
    folded.graph.initializer.append(model.graph.initializer[0])
    for name, array in {"k": scale, "h": s - m * scale}.items():
        folded.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    report = verify(model, folded)
    assert report
    assert any("the candidate avoids it" in note for note in report.notes)


def test_any_mistake_of_the_runtime_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong result of the original at level all, whatever runtime is installed."""
    original, other = network(), network()
    opened = Sessions.open
    broken = {id(original)}

    def open_session(self: Sessions, model: Any, *, level: Any = "all", **options: Any) -> Any:
        session = opened(self, model, level=level, **options)
        return _Wrong(session) if level == "all" and id(model) in broken else session

    monkeypatch.setattr(Sessions, "open", open_session)
    report = verify(original, other)
    assert report
    (note,) = (n for n in report.notes if "breaks the original" in n)
    assert note.endswith("the candidate avoids it")
    broken.add(id(other))
    report = verify(original, other)
    assert report
    (note,) = (n for n in report.notes if "breaks the original" in n)
    assert "avoids" not in note


class _Wrong:
    """A session whose results are a tenth too large."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def run(self, feeds: Any) -> Any:
        return {name: np.float32(1.1) * v for name, v in self.session.run(feeds).items()}


def test_an_output_that_never_changes_proves_little() -> None:
    """A model that ignores its input passes with a note that this says little."""
    text = "g (float[N,2] x) => (float[1,2] y) <float[1,2] k = {1, 2}> { z = Relu(x) y = Neg(k) }"
    report = verify(parse(text), parse(text))
    assert report
    assert any("same on every sample" in note for note in report.notes)
    assert not any("same on every sample" in note for note in verify(network(), network()).notes)


def test_a_model_that_amplifies_rounding_says_so() -> None:
    """Where the original itself is far from exact, the report says what it cannot tell."""
    text = "g (float[8] x) => (float[8] y) <float[1] k = {1e7}> { a = Add(x, k) y = Sub(a, k) }"
    report = verify(parse(text), parse(text), data={"x": np.linspace(0.1, 0.9, 8, dtype="f4")})
    assert report
    assert any("cannot be told from rounding" in note for note in report.notes)


def test_progress_is_told() -> None:
    """A caller can show how far the proof is."""
    stages: list[str] = []
    verify(network(), network(), samples=2, progress=lambda stage, *_: stages.append(stage))
    assert "judge" in stages
    assert "run CPUExecutionProvider" in stages


def test_paths_and_external_data(tmp_path: Path) -> None:
    """Models are given as paths too, with their weights in another file."""
    paths = [tmp_path / "right.onnx", tmp_path / "wrong.onnx"]
    for path, model in zip(paths, (network(), changed(network(), "w1", one_percent)), strict=True):
        onnx.save_model(
            model, path, save_as_external_data=True, location=f"{path.stem}.data", size_threshold=0
        )
    assert verify(paths[0], str(paths[0]))
    assert verify(network(), paths[0])
    assert verify(*paths).culprit == "c"


@pytest.mark.gpu
def test_proof_on_cuda() -> None:
    """On a GPU machine the proof runs there, names the provider, and sees a fault."""
    if "CUDAExecutionProvider" not in runtime.available_providers():
        pytest.skip("onnxruntime has no CUDAExecutionProvider here")
    report = verify(network(), network(), providers=["cpu", "cuda"])
    assert report
    assert {c.provider for c in report.outputs} == set(report.providers)
    assert not verify(network(), changed(network(), "w1", one_percent), providers=["cuda"])


def test_deployment_levels() -> None:
    """The candidate is always run as written and as it will be deployed."""
    assert equivalence.DEPLOYED == ("disable", "all")

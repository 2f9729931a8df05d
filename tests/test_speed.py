"""Timing: what is reported, not how fast this machine is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from bnfold import pairing, speed
from bnfold.errors import InputError
from bnfold.report import SpeedReport
from bnfold.runtime import Session, open_session
from bnfold.speed import bench

HEADER = '<ir_version: 8, opset_import: ["": 17]>\n'
TINY = "g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"
CONV_BN = """
g (float[N,2,H,W] x) => (float[N,2,P,Q] y)
<float[2,2,1,1] w = {1,2,3,4}, float[2] s = {1,2}> {
    c = Conv(x, w)
    y = BatchNormalization(c, s, s, s, s)
}"""
BN_ONLY = """
g (float[N,2,H,W] x) => (float[N,2,H,W] y) <float[2] s = {1,2}> {
    r = Relu(x)
    y = BatchNormalization(r, s, s, s, s)
}"""


def parse(text: str) -> onnx.ModelProto:
    return parser.parse_model(HEADER + text)


@pytest.fixture(scope="module")
def report() -> SpeedReport:
    """One measurement of a tiny model against itself."""
    return bench(parse(TINY), parse(TINY), budget_s=0.6, seed=3)


def test_levels_in_order(report: SpeedReport) -> None:
    """The deployment level comes first, and the properties speak of it."""
    assert [m.level for m in report.measurements] == ["all", "disable"]
    assert report.primary is report.measurements[0]
    assert report.speedup == report.primary.speedup


def test_every_round_is_kept(report: SpeedReport) -> None:
    """All three streams hold one time for each round, and the medians are theirs."""
    for m in report.measurements:
        assert set(m.times_ms) == {"original", "again", "candidate"}
        assert {len(times) for times in m.times_ms.values()} == {m.rounds}
        assert m.original_ms == pytest.approx(np.median(m.times_ms["original"]))
        assert m.candidate_ms == pytest.approx(np.median(m.times_ms["candidate"]))
        assert m.rounds >= 3
        assert m.warmup >= 1


def test_every_number_has_its_scale(report: SpeedReport) -> None:
    """A ratio lies in its interval, with shapes, threads and versions beside it."""
    for m in report.measurements:
        assert m.interval[0] <= m.speedup <= m.interval[1]
        assert m.control_interval[0] <= m.control <= m.control_interval[1]
        assert m.shapes == {"x": (1, 4)}
        assert m.threads >= 1
    assert report.seed == 3
    assert "onnxruntime" in report.environment
    assert json.loads(json.dumps(report.to_dict()))["measurements"]


def test_sizes(report: SpeedReport) -> None:
    """Bytes and nodes of both models are told."""
    assert report.original_nodes == report.candidate_nodes == 1
    assert report.original_bytes > 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CONV_BN, "folds all 1 BatchNormalization nodes by itself"),
        (BN_ONLY, "folds none of the 1 BatchNormalization nodes by itself"),
        (TINY, "no BatchNormalization node"),
    ],
)
def test_the_sentence_says_what_the_runtime_folds(text: str, words: str) -> None:
    """ONNX Runtime folds Conv and BN by itself, and not Relu and BN; the sentence says so."""
    model = parse(text)
    assert words in speed.own_folding(model, model)


def test_part_of_what_the_runtime_folds() -> None:
    """Where the runtime folds some, the sentence has both numbers."""
    model = parse(
        """g (float[N,2,H,W] x) => (float[N,2,P,Q] y)
        <float[2,2,1,1] w = {1,2,3,4}, float[2] s = {1,2}> {
            c = Conv(x, w)
            b = BatchNormalization(c, s, s, s, s)
            r = Relu(b)
            y = BatchNormalization(r, s, s, s, s)
        }"""
    )
    sentence = speed.own_folding(model, model)
    assert "folds 1 of the 2" in sentence
    assert "1 it cannot fold" in sentence


def test_streams_alternate_in_random_order() -> None:
    """Each round calls every stream once, not always in the same order."""
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in speed.STREAMS}
    times = speed._rounds(calls, repeats=1, budget_s=0.05, seed=0)
    rounds = [tuple(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert all(set(r) == set(speed.STREAMS) for r in rounds)
    assert len(set(rounds)) > 1
    assert len(times["original"]) == len(rounds)


def test_a_known_cost_is_found() -> None:
    """With a clock that we set, a stream of half the cost is a speedup of two."""
    clock = [0.0]
    costs = {"original": 2.0, "again": 2.0, "candidate": 1.0}

    def call(name: str) -> Any:
        return lambda: clock.__setitem__(0, clock[0] + costs[name])

    calls = {name: call(name) for name in speed.STREAMS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "_time", lambda run, repeats=1: _elapsed(clock, run, repeats))
        times = speed._rounds(calls, repeats=1, budget_s=5, seed=0)
    assert pairing.paired_ratio(times["original"], times["candidate"], 0).median == 2.0
    assert len(times["original"]) == speed.ROUNDS[0]  # narrow at once, so no more were needed


def _elapsed(clock: list[float], run: Any, repeats: int) -> float:
    before = clock[0]
    for _ in range(repeats):
        run()
    return (clock[0] - before) / repeats


def test_tiny_models_are_repeated_within_a_sample() -> None:
    """A call of microseconds is repeated until a sample is far above the clock's resolution."""
    model = parse(TINY)
    call = speed.caller(open_session(model), {"x": np.ones((1, 4), np.float32)})
    assert speed._repeats({"original": call}) > 1
    assert speed._repeats({"original": lambda: __import__("time").sleep(0.01)}) == 1


def test_given_data_is_what_is_timed(tmp_path: Path) -> None:
    """The shapes are those of the data, of paths as of protos."""
    onnx.save(parse(TINY), tmp_path / "m.onnx")
    data = {"x": np.ones((7, 4), np.float32)}
    path = tmp_path / "m.onnx"
    made = bench(path, path, data=data, levels=("basic",), budget_s=0.2, threads=1)
    assert made.primary.shapes == {"x": (7, 4)}
    assert made.primary.threads == 1


def test_no_budget_is_refused() -> None:
    """Zero seconds measure nothing."""
    with pytest.raises(InputError):
        bench(parse(TINY), parse(TINY), budget_s=0)


def test_an_unstable_control_claims_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the original against itself is off, the measurement is not stable."""
    rng = np.random.default_rng(0)

    def rounds(*_: Any, **__: Any) -> dict[str, Any]:
        base = 1 + 0.01 * rng.random(50)
        return {"original": base, "again": base / 1.5, "candidate": base / 3}

    monkeypatch.setattr(speed, "_rounds", rounds)
    made = bench(parse(TINY), parse(TINY), budget_s=0.1, levels=("all",))
    assert made.speedup == pytest.approx(3, rel=0.05)
    assert not made.significant
    assert not made.primary.stable


def test_on_a_gpu_inputs_and_outputs_are_bound() -> None:
    """A GPU session runs with a binding on the device, and waits for it."""
    log: list[str] = []

    class Binding:
        def bind_ortvalue_input(self, name: str, _: object) -> None:
            log.append(f"in {name}")

        def bind_output(self, name: str, device: str) -> None:
            log.append(f"out {name} {device}")

        def synchronize_outputs(self) -> None:
            log.append("wait")

    class Handle:
        def io_binding(self) -> Binding:
            return Binding()

        def run_with_iobinding(self, _: Binding) -> None:
            log.append("run")

    real = open_session(parse(TINY))
    session = Session(
        "CUDAExecutionProvider", "all", real.inputs, real.outputs, create_ms=0.0, handle=Handle()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "_device_value", lambda array: array)
        speed.caller(session, {"x": np.ones((1, 4), np.float32)})()
    assert log == ["in x", "out y cuda", "run", "wait"]


def test_subgraphs_are_counted() -> None:
    """BatchNormalization nodes inside an If count too."""
    inner = parse(BN_ONLY).graph
    outer = parse(TINY)
    node = onnx.helper.make_node("If", ["b"], ["z"], then_branch=inner, else_branch=inner)
    outer.graph.node.append(node)
    assert speed._count(outer.graph) == 2


def test_open_dimensions_are_timed_at_a_usual_size() -> None:
    """An image of unknown size is timed at 224, not at the smallest that runs."""
    made = bench(parse(CONV_BN), parse(CONV_BN), budget_s=0.2, levels=("all",))
    assert made.primary.shapes == {"x": (1, 2, 224, 224)}


def test_what_the_runtime_folds_itself_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own folds are off for the original and on for the candidate, once more than the rest."""
    opened: list[tuple[str, tuple[str, ...]]] = []

    def watched(model: Any, **options: Any) -> Session:
        opened.append((options.get("level", "all"), tuple(options.get("without", ()))))
        return open_session(model, **options)

    monkeypatch.setattr(speed, "open_session", watched)
    dims = {"H": 4, "W": 4}
    made = bench(
        *(parse(CONV_BN), parse(CONV_BN)),
        dims=dims,
        budget_s=0.4,
        levels=("all",),
        attribution=True,
    )
    off = ("ConvBNFusion", "MatMul_BatchNormalization_Fusion")
    assert opened.count(("all", off)) == 2
    assert made.own_folds is not None
    assert len(made.measurements) == 1


@pytest.mark.parametrize(("text", "levels"), [(BN_ONLY, ("all",)), (CONV_BN, ("disable",))])
def test_where_the_runtime_folds_nothing(text: str, levels: Any) -> None:
    """Nothing is timed for it."""
    dims = {"H": 4, "W": 4}
    model = parse(text)
    made = bench(model, model, dims=dims, budget_s=0.2, levels=levels, attribution=True)
    assert made.own_folds is None

"""Timing: what is reported, not how fast this machine is."""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from bnfold import cpus, measuring, ownfolds, pairing, speed, turns
from bnfold.errors import InputError
from bnfold.runtime import Session, open_session
from bnfold.speed import bench
from bnfold.timings import SpeedReport

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
        (CONV_BN, "folds the one BatchNormalization node by itself"),
        (BN_ONLY, "does not fold the one BatchNormalization node by itself"),
        (TINY, "no BatchNormalization node"),
    ],
)
def test_the_sentence_says_what_the_runtime_folds(text: str, words: str) -> None:
    """ONNX Runtime folds Conv and BN by itself, and not Relu and BN; the sentence says so."""
    model = parse(text)
    assert words in ownfolds.own_folds(model, model).sentence


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
    sentence = ownfolds.own_folds(model, model).sentence
    assert "folds 1 of the 2" in sentence
    assert "1 it cannot fold" in sentence


def never(_: turns.Times) -> bool:
    return False


def test_streams_alternate_in_random_order() -> None:
    """Each round calls every stream once, variants too, and not always in the same order."""
    names = (*measuring.STREAMS, "variant")
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in names}
    times = turns.rounds(calls, repeats=1, budget_s=0.05, seed=0, enough=never)
    rounds = [tuple(order[i : i + 4]) for i in range(0, len(order), 4)]
    assert all(set(r) == set(names) for r in rounds)
    assert len(set(rounds)) > 1
    assert len(times["original"]) == len(times["variant"]) == len(rounds)


def test_a_known_cost_is_found() -> None:
    """With a clock that we set, a stream of half the cost is a speedup of two."""
    clock = [0.0]
    costs = {"original": 2.0, "again": 2.0, "candidate": 1.0}

    def call(name: str) -> Any:
        return lambda: clock.__setitem__(0, clock[0] + costs[name])

    enough = partial(measuring.is_narrow, seed=0, precision=0.005)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "seconds", lambda run, repeats=1: _elapsed(clock, run, repeats))
        calls = {name: call(name) for name in costs}
        times = turns.rounds(calls, repeats=1, budget_s=5, seed=0, enough=enough)
    assert pairing.paired_ratio(times["original"], times["candidate"], 0).median == 2.0
    assert len(times["original"]) == turns.ROUNDS[0]  # narrow at once, so no more were needed


def _elapsed(clock: list[float], run: Any, repeats: int) -> float:
    before = clock[0]
    for _ in range(repeats):
        run()
    return (clock[0] - before) / repeats


def test_tiny_models_are_repeated_within_a_sample() -> None:
    """A call of microseconds is repeated until a sample is far above the clock's resolution."""
    model = parse(TINY)
    call = measuring.caller(open_session(model), {"x": np.ones((1, 4), np.float32)})
    assert turns.repeats_of({"original": call}) > 1
    assert turns.repeats_of({"original": lambda: time.sleep(0.01)}) == 1


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

    monkeypatch.setattr(turns, "rounds", rounds)
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
        patch.setattr(measuring, "device_value", lambda array: array)
        measuring.caller(session, {"x": np.ones((1, 4), np.float32)})()
    assert log == ["in x", "out y cuda", "run", "wait"]


def test_subgraphs_are_counted() -> None:
    """BatchNormalization nodes inside an If count too."""
    inner = parse(BN_ONLY).graph
    outer = parse(TINY)
    node = onnx.helper.make_node("If", ["b"], ["z"], then_branch=inner, else_branch=inner)
    outer.graph.node.append(node)
    assert ownfolds.count(outer.graph) == 2


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

    monkeypatch.setattr(measuring, "open_session", watched)
    dims = {"H": 4, "W": 4}
    made = bench(
        *(parse(CONV_BN), parse(CONV_BN)),
        dims=dims,
        budget_s=0.4,
        levels=("all",),
        attribution=True,
    )
    off = ("ConvBNFusion", "MatMul_BatchNormalization_Fusion")
    assert opened.count(("all", off)) >= 2
    assert made.own_folds is not None
    assert len(made.measurements) == 1


@pytest.mark.parametrize(("text", "levels"), [(BN_ONLY, ("all",)), (CONV_BN, ("disable",))])
def test_where_the_runtime_folds_nothing(text: str, levels: Any) -> None:
    """Nothing is timed for it."""
    dims = {"H": 4, "W": 4}
    model = parse(text)
    made = bench(model, model, dims=dims, budget_s=0.2, levels=levels, attribution=True)
    assert made.own_folds is None


# -- variants -----------------------------------------------------------------------------------


def test_a_variant_takes_its_turns() -> None:
    """It is timed once a round beside the others, at the deployment level only; its worth is held
    against the candidate, and what is left without it against the original."""
    made = bench(*(parse(TINY), parse(TINY)), variants={"part": parse(TINY)}, budget_s=0.6, seed=1)
    (variant,) = made.variants
    assert variant.name == "part"
    assert len(variant.times_ms) == made.primary.rounds
    candidate = np.array(made.primary.times_ms["candidate"])
    original = np.array(made.primary.times_ms["original"])
    own = np.array(variant.times_ms)
    assert variant.worth == pytest.approx(np.median(own / candidate))
    assert variant.speedup == pytest.approx(np.median(original / own))
    assert variant.worth_interval[0] <= variant.worth <= variant.worth_interval[1]
    assert not made.measurements[1].variants


def test_a_variant_that_does_not_load_is_told_of() -> None:
    """The bench goes on without it."""
    wrong = parse("g (float[N,4] x) => (float[N,4] y) { y = Sqrt(x) }")
    wrong.graph.node[0].domain = "nowhere"
    wrong.opset_import.add(domain="nowhere", version=1)
    made = bench(
        parse(TINY), parse(TINY), variants={"wrong": wrong}, budget_s=0.2, levels=("all",)
    )
    assert made.variants == ()
    assert "wrong: what it is worth was not timed" in made.notes[0]


def test_variants_are_left_out_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for first is timed all the same, and a note tells of the rest."""
    size = parse(TINY).ByteSize()
    monkeypatch.setattr(
        speed, "shortage", lambda needed: "it needs too much" if needed > 4 * size else None
    )
    made = bench(
        *(parse(TINY), parse(TINY)),
        variants={"one": parse(TINY), "two": parse(TINY)},
        budget_s=0.2,
        levels=("all",),
    )
    assert made.variants == ()
    assert made.notes == ("one, two: what each is worth was not timed, since it needs too much",)


# -- sessions and processors --------------------------------------------------------------------


def test_both_are_read_from_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a session means the same for both models, and they take turns in it too."""
    opened: list[Any] = []

    def watched(model: Any, **options: Any) -> Session:
        opened.append(model)
        return open_session(model, **options)

    monkeypatch.setattr(measuring, "open_session", watched)
    made = bench(parse(TINY), parse(TINY), budget_s=1, levels=("all",))
    assert {type(model) for model in opened} == {type(Path())}
    again = [str(model) for model in opened[measuring.STREAMS.index("candidate") + 1 :]]
    assert again.count(str(opened[0])) == again.count(str(opened[2])) <= measuring.LOADS
    assert made.primary.original_session_ms > 0


def test_threads_are_set() -> None:
    """Where no number is given it is that of the cores, and the session is told it."""
    made = bench(parse(TINY), parse(TINY), budget_s=0.2, levels=("all",))
    assert made.primary.threads == cpus.cores()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no choice on this system")
def test_pinned() -> None:
    """While timing only the chosen processors are used, and all of before afterwards."""
    before = os.sched_getaffinity(0)
    one = min(before)
    made = bench(parse(TINY), parse(TINY), budget_s=0.2, levels=("all",), pin=[one])
    assert made.environment["processors"].startswith(f"{one} of ")
    assert made.environment["processors"].endswith("pinned")
    assert made.primary.threads == 1
    assert os.sched_getaffinity(0) == before
    with pytest.raises(InputError, match="processor 4096 is not among"):
        bench(parse(TINY), parse(TINY), pin=[4096])
    assert os.sched_getaffinity(0) == before


def test_processors_without_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has none it is said, and asking for one is refused."""
    monkeypatch.setattr(cpus, "allowed", lambda: None)
    assert "is not told on" in cpus.described()
    assert cpus.cores() == (os.cpu_count() or 1)
    with pytest.raises(InputError, match=f"cannot be chosen on {sys.platform}"):
        bench(parse(TINY), parse(TINY), pin=[0])


def test_threads_of_one_core_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processors that share a core are one core; an unknown one is its own."""
    monkeypatch.setattr(cpus, "TOPOLOGY", str(tmp_path / "{}"))
    monkeypatch.setattr(cpus, "allowed", lambda: (0, 1, 2))
    for number in (0, 1):
        (tmp_path / str(number)).write_text("0-1\n")
    assert cpus.cores() == 2

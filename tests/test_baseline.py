"""Is a speedup held against an earlier one only where that can be done?"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import parser

from bnfold import bench, speed
from bnfold.baseline import compare
from bnfold.batches import batch_dims
from bnfold.errors import InputError
from bnfold.timings import SpeedMeasurement, SpeedReport
from bnfold_cli import app

HEADER = '<ir_version: 8, opset_import: ["": 17]>\n'
OPEN = "g (float[N,4] x, float[N,4] z) => (float[N,4] y) { y = Add(x, z) }"


def parse(text: str) -> onnx.ModelProto:
    return parser.parse_model(HEADER + text)


def measured(ratio: float, half: float = 0.01, **others: Any) -> SpeedMeasurement:
    facts: dict[str, Any] = {
        "provider": "CPUExecutionProvider",
        "level": "all",
        "threads": 1,
        "shapes": {"x": (1, 4)},
        "rounds": 30,
        "original_ms": ratio,
        "original_spread_ms": 0.1,
        "candidate_ms": 1.0,
        "candidate_spread_ms": 0.1,
        "speedup": ratio,
        "interval": (ratio - half, ratio + half),
        "control": 1.0,
        "control_interval": (0.99, 1.01),
        "significant": True,
        "stable": True,
    }
    return SpeedMeasurement(**facts | others)


def report(*measurements: SpeedMeasurement) -> SpeedReport:
    return SpeedReport(measurements=measurements, seed=0, sentence="")


def document(*measurements: SpeedMeasurement) -> Any:
    return json.loads(json.dumps(report(*measurements).to_dict()))


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        (measured(1.3), measured(1.1), "less"),
        (measured(1.1), measured(1.3), "more"),
        (measured(1.1), measured(1.11), "as before"),
        (measured(1.3, stable=False), measured(1.1), "cannot tell"),
        (measured(1.3), measured(1.1, stable=False), "cannot tell"),
    ],
)
def test_intervals_decide(before: SpeedMeasurement, now: SpeedMeasurement, change: str) -> None:
    """A change is claimed where the intervals do not overlap and both controls were at 1."""
    (comparison,) = compare(report(now), document(before))
    assert comparison.change == change
    assert comparison.before == before.speedup
    assert comparison.now == now.speedup


@pytest.mark.parametrize("other", [{"threads": 2}, {"level": "basic"}, {"shapes": {"x": (8, 4)}}])
def test_other_conditions_are_not_compared(other: dict[str, Any]) -> None:
    """Where nothing was measured alike, that is an error and not a pass."""
    with pytest.raises(InputError):
        compare(report(measured(1.1)), document(measured(1.3, **other)))


def test_a_result_of_optimize_will_do() -> None:
    """Its timing stands one level deeper."""
    (comparison,) = compare(report(measured(1.1)), {"speed": document(measured(1.3))})
    assert comparison.change == "less"


@pytest.mark.parametrize(
    "broken",
    [
        *({}, [], 3, None, {"speed": None}, {"measurements": 3}, {"measurements": [{}]}),
        {"measurements": [dataclasses.asdict(measured(1.1)) | {"interval": None}]},
    ],
)
def test_a_broken_baseline_is_refused(broken: Any) -> None:
    with pytest.raises(InputError, match="baseline"):
        compare(report(measured(1.1)), broken)


# -- batches ------------------------------------------------------------------------------------


def test_a_batch_is_what_stands_in_front() -> None:
    """The symbol in front of the inputs, once, and not that of an initializer."""
    assert batch_dims(parse(OPEN), 8) == {"N": 8}


@pytest.mark.parametrize(
    ("text", "batch"),
    [
        (OPEN, 0),
        ("g (float[2,4] x) => (float[2,4] y) { y = Relu(x) }", 8),
        ("g (float[?,4] x) => (float[?,4] y) { y = Relu(x) }", 8),
        ("g (float x) => (float y) { y = Relu(x) }", 8),
    ],
)
def test_no_batch(text: str, batch: int) -> None:
    """A size that cannot be given is an error that says so."""
    with pytest.raises(InputError):
        batch_dims(parse(text), batch)


def test_a_sweep_times_everything_at_each() -> None:
    """Every batch with every thread count, in order."""
    model = parse(OPEN)
    made = bench(model, model, batches=(1, 3), threads=(1, 2), levels=("basic",), budget_s=0.8)
    swept = [(m.shapes["x"][0], m.threads) for m in made.measurements]
    assert swept == [(1, 1), (1, 2), (3, 1), (3, 2)]


def test_data_and_batches_exclude_each_other() -> None:
    with pytest.raises(InputError):
        bench(parse(OPEN), parse(OPEN), batches=(2,), data=[{}])


# -- the command line ---------------------------------------------------------------------------


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`bnfold bench` on a machine that always measures this."""

    def run(now: SpeedMeasurement, *options: str) -> int:
        monkeypatch.setattr(speed, "bench", lambda *_, **__: report(now))
        monkeypatch.setattr("bnfold.bench", lambda *_, **__: report(now), raising=False)
        return app.run(["bench", "a.onnx", "b.onnx", *options])

    return run


@pytest.mark.parametrize(
    ("now", "code", "words"),
    [
        (measured(1.1), 1, "Less than before:  ×1.30 [1.29, 1.31] → ×1.10 [1.09, 1.11]"),
        (measured(1.3), 0, "As before:  ×1.30 [1.29, 1.31] → ×1.30 [1.29, 1.31]"),
        (measured(1.3, stable=False), 2, "Cannot tell:  ×1.30"),
    ],
)
def test_baseline_gates(
    timed: Any,
    now: SpeedMeasurement,
    code: int,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Less than then is exit code 1, a busy machine 2."""
    path = tmp_path / "then.json"
    path.write_text(json.dumps(document(measured(1.3))))
    assert timed(now, "--baseline", str(path)) == code
    assert words in capsys.readouterr().out


def test_baseline_in_json(timed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "then.json"
    path.write_text(json.dumps(document(measured(1.3))))
    assert timed(measured(1.1), "--baseline", str(path), "--json", "--fail-below", "1.05") == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["baseline"][0]["change"] == "less"


@pytest.mark.parametrize(
    ("now", "least", "code"),
    [(measured(1.1), 1.05, 0), (measured(1.1), 1.2, 1), (measured(1.1, stable=False), 1.05, 2)],
)
def test_fail_below(timed: Any, now: SpeedMeasurement, least: float, code: int) -> None:
    """Met, not met, and a machine too busy to tell."""
    assert timed(now, "--fail-below", str(least)) == code


@pytest.mark.parametrize("option", ["--batch", "--threads"])
@pytest.mark.parametrize("text", ["", "0", "1,,2", "a", "1.5", "-1"])
def test_counts_are_checked(
    option: str, text: str, timed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole numbers between commas, and nothing else."""
    assert timed(measured(1.1), f"{option}={text}") == 2
    assert "whole number" in capsys.readouterr().err

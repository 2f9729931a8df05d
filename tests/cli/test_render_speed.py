"""What `bench` says beside the measurements: golden lines."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bnfold.baseline import Comparison
from bnfold.report import Footprint, SpeedMeasurement, SpeedReport, Work
from bnfold_cli import render
from bnfold_cli.lines import text_of

MEASURED = SpeedMeasurement(
    provider="CPUExecutionProvider",
    level="all",
    threads=1,
    shapes={"x": (8, 3)},
    rounds=30,
    original_ms=2.0,
    original_spread_ms=0.1,
    candidate_ms=1.0,
    candidate_spread_ms=0.1,
    speedup=2.0,
    interval=(1.9, 2.1),
    control=1.0,
    control_interval=(0.99, 1.01),
    significant=True,
    stable=True,
)
REPORT = SpeedReport(
    (MEASURED,),
    seed=0,
    sentence="",
    original_parameters=1_234_567,
    candidate_parameters=1_234_000,
    original_work={"Conv": Work(1, 120, 100, 0)},
    candidate_work={"Conv": Work(1, 100, 50, 0)},
    original_footprint=Footprint(20.0, 3.0, 40_000_000),
    candidate_footprint=Footprint(18.0, 2.0, 30_000_000),
    own_folds=MEASURED,
)


def said(report: SpeedReport) -> list[str]:
    return [text_of(spans) for spans in render.bench(report)]


def test_costs() -> None:
    """What a session costs, what the models hold, and what the counts would predict."""
    assert said(REPORT)[-5:] == [
        "  runtime's own folds  worth ×2.00 [1.90, 2.10] of the original, level all",
        "  load + first run     20 + 3 → 18 + 2 ms",
        "  peak memory          40 → 30 MB",
        "  parameters           1,234,567 → 1,234,000",
        "  counts predict       ×1.20 by operations, ×2.00 by bytes",
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"significant": False}, "worth nothing that can be measured, ×2.00 [1.90, 2.10]"),
        ({"stable": False}, "cannot tell, ×2.00 [1.90, 2.10] (original against itself ×1.00"),
    ],
)
def test_the_runtimes_own_folds(change: dict[str, Any], words: str) -> None:
    """No claim where there is none."""
    own = dataclasses.replace(MEASURED, **change)
    (told,) = (t for t in said(dataclasses.replace(REPORT, own_folds=own)) if "own folds" in t)
    assert words in told


def test_what_is_not_known_is_left_out() -> None:
    """A report without counts and footprints ends with its measurement."""
    assert said(SpeedReport((MEASURED,), 0, ""))[-1].endswith("1 thread, input x 8x3")


def test_baseline() -> None:
    """Then and now, with the conditions."""
    facts = ("CPUExecutionProvider", "all", 1, {"x": (8, 3)})
    compared = Comparison(*facts, 1.3, (1.29, 1.31), 1.1, (1.09, 1.11), "less")
    assert [text_of(spans) for spans in render.baseline([compared], "then.json")][1:] == [
        "Speedup in then.json → now",
        "  Less than before:  ×1.30 [1.29, 1.31] → ×1.10 [1.09, 1.11]  CPUExecutionProvider, "
        "level all, 1 thread, input x 8x3",
    ]

"""What `bench` says beside the measurements: golden lines."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import results

from bnfold.baseline import Comparison
from bnfold.timings import Footprint, SpeedReport, Variant, Work
from bnfold_cli import render
from bnfold_cli.lines import text_of

MEASURED = dataclasses.replace(
    results.MEASURED,
    shapes={"x": (8, 3)},
    rounds=30,
    original_session_ms=12.0,
    candidate_session_ms=11.0,
)
REPORT = SpeedReport(
    (MEASURED,),
    seed=0,
    sentence="",
    original_bytes=5_000_000,
    candidate_bytes=4_000_000,
    original_nodes=9,
    candidate_nodes=7,
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
    assert said(REPORT)[-9:] == [
        "  runtime's own folds  worth ×2.00 [1.90, 2.10] of the original, level all",
        "",
        "  session made in   12 → 11 ms",
        "  load + first run  20 + 3 → 18 + 2 ms, in a new process",
        "  peak memory       40 → 30 MB",
        "  model             5 → 4 MB",
        "  nodes             9 → 7",
        "  parameters        1,234,567 → 1,234,000",
        "  counts predict    ×1.20 by operations, ×2.00 by bytes; measured ×2.00",
    ]


def test_work() -> None:
    """Under -v, nodes, operations and bytes by operator type, before and after."""
    known = dataclasses.replace(
        REPORT,
        original_work={"Conv": Work(2, 1_500_000, 3_000_000, 0), "If": Work(1, 0, 0, 1)},
        candidate_work={"Conv": Work(1, 1_000_000, 2_000_000, 0), "If": Work(1, 0, 0, 1)},
    )
    lines = [text_of(spans) for spans in render.bench(known, verbose=True)]
    assert lines[-3:] == [
        "Work by operator type, in the files as they stand:",
        "  Conv  2 → 1 nodes  1.5 → 1 M operations  3 → 2 MB",
        "  If    1 → 1 nodes  shapes or cost unknown",
    ]
    assert not any("Work by" in text for text in said(known))


VARIANT = Variant("folding", 1.5, 1.33, (1.3, 1.36), 1.5, (1.45, 1.55), significant=True)


def attributed(*variants: Variant, **changes: Any) -> list[str]:
    measured = dataclasses.replace(MEASURED, variants=variants, **changes)
    report = dataclasses.replace(REPORT, measurements=(measured,))
    lines = [text_of(spans) for spans in render.bench(report)]
    return lines[lines.index("What each part is worth, by switching it off:") + 1 :]


def test_what_each_part_is_worth() -> None:
    """The part that gains most stands first; what gains nothing says so, and what costs too."""
    small = dataclasses.replace(VARIANT, name="frozen inputs", worth=1.01, significant=False)
    dear = dataclasses.replace(VARIANT, name="merged branches", worth=0.9)
    told = attributed(dear, small, VARIANT)
    left = "; without it ×1.33 is left of ×2.00"
    assert told[:4] == [
        f"  folding              worth ×1.50 [1.45, 1.55]{left}",
        f"  frozen inputs        worth nothing that can be measured, ×1.01 [1.45, 1.55]{left}",
        f"  merged branches      costs time: ×0.90 [1.45, 1.55]{left}",
        "  runtime's own folds  worth ×2.00 [1.90, 2.10] of the original, level all",
    ]
    assert any("need not multiply to the whole" in text for text in told)
    assert not any("need not multiply" in text for text in attributed(VARIANT))


def test_nothing_is_told_of_parts_on_a_busy_machine() -> None:
    """Where the control is off, no worth is claimed."""
    assert "cannot tell, ×1.50 [1.45, 1.55]" in attributed(VARIANT, stable=False)[0]


def test_how_it_was_timed() -> None:
    """Warm-up and outliers are counted, and an outlier is explained; the machine is named."""
    measured = dataclasses.replace(MEASURED, warmup=6, outliers=2)
    machine = {"onnxruntime": "1.32.0", "platform": "linux-x86_64", "processors": "0 of 2, pinned"}
    report = dataclasses.replace(REPORT, measurements=(measured,), environment=machine)
    told = said(report)
    assert told[1].endswith("30 rounds, interleaved, after 6 runs to warm up; 2 outliers")
    assert "  onnxruntime 1.32.0, linux-x86_64, processors 0 of 2, pinned" in told
    assert told[-1].startswith("Note: an outlier is ")


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
    bare = dataclasses.replace(MEASURED, original_session_ms=0.0)
    assert said(SpeedReport((bare,), 0, ""))[-1].endswith("1 thread, input x 8x3")


def test_baseline() -> None:
    """Then and now, with the conditions."""
    facts = ("CPUExecutionProvider", "all", 1, {"x": (8, 3)})
    compared = Comparison(*facts, 1.3, (1.29, 1.31), 1.1, (1.09, 1.11), "less")
    assert [text_of(spans) for spans in render.baseline([compared], "then.json")][1:] == [
        "Speedup in then.json → now",
        "  Less than before:  ×1.30 [1.29, 1.31] → ×1.10 [1.09, 1.11]  CPUExecutionProvider, "
        "level all, 1 thread, input x 8x3",
    ]

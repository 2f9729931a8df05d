"""Is it still as fast as an earlier measurement says? Speedups are held against each other.

A speedup is a ratio of two models on one machine at one time, so it can be compared with that of
another day; milliseconds could not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bnfold.errors import InputError
from bnfold.timings import SpeedMeasurement, SpeedReport

Json = Mapping[str, Any]
Change = Literal["less", "as before", "more", "cannot tell"]

HINT = "give what `bnfold bench --json` or `bnfold optimize --json` printed"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measurement beside the earlier one under the same conditions."""

    provider: str
    level: str
    threads: int
    shapes: dict[str, tuple[int, ...]]
    before: float
    before_interval: tuple[float, float]
    now: float
    now_interval: tuple[float, float]
    change: Change
    """"less" and "more" where the two intervals do not overlap, and both controls were at 1."""


def compare(report: SpeedReport, document: Json) -> tuple[Comparison, ...]:
    """Each measurement that the earlier document has too.

    Raises InputError for a document that holds no measurement under the same conditions.
    """
    earlier = measurements(document)
    found = tuple(
        _compared(now, earlier[key])
        for now in report.measurements
        if (key := _key(now)) in earlier
    )
    if not found:
        raise InputError(
            "the baseline holds no measurement of the same provider, level, threads and shapes",
            "measure it anew under these conditions, or give it the same options",
        )
    return found


def measurements(document: Json) -> dict[Any, Json]:
    """The document's measurements by their conditions. Raises InputError."""
    try:
        held = document if "measurements" in document else document["speed"]
        entries = {_key_of(entry): entry for entry in held["measurements"]}
        for entry in entries.values():
            _figures(entry)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise InputError("the baseline holds no measurements", HINT) from None
    return entries


def _key(m: SpeedMeasurement) -> Any:
    return (
        m.provider,
        m.level,
        m.threads,
        tuple(sorted((k, tuple(v)) for k, v in m.shapes.items())),
    )


def _key_of(entry: Json) -> Any:
    shapes = tuple(sorted((name, tuple(shape)) for name, shape in entry["shapes"].items()))
    return entry["provider"], entry["level"], entry["threads"], shapes


def _figures(entry: Json) -> tuple[float, tuple[float, float], bool]:
    low, high = entry["interval"]
    return float(entry["speedup"]), (float(low), float(high)), bool(entry["stable"])


def _compared(now: SpeedMeasurement, entry: Json) -> Comparison:
    before, limits, was_stable = _figures(entry)
    return Comparison(
        provider=now.provider,
        level=now.level,
        threads=now.threads,
        shapes=now.shapes,
        before=before,
        before_interval=limits,
        now=now.speedup,
        now_interval=now.interval,
        change=_change(limits, now.interval) if now.stable and was_stable else "cannot tell",
    )


def _change(before: tuple[float, float], now: tuple[float, float]) -> Change:
    if now[1] < before[0]:
        return "less"
    return "more" if now[0] > before[1] else "as before"

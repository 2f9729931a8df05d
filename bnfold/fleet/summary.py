"""What became of a whole fleet? Totals over the records of its models."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from bnfold.fleet.record import FleetSpeed, Outcome, SweptModel
from bnfold.report import Report

Pace = Literal["faster", "as fast", "slower", "cannot tell"]


@dataclass(frozen=True, slots=True)
class FleetSummary(Report):
    """Counts and sums over the models of a fleet."""

    models: int
    skipped: int
    """Models that this sweep found done already; their figures are in the sums."""
    outcomes: dict[Outcome, int]
    failures: dict[str, int]
    """How many could not be done, for each kind of failure; those of timing included."""
    paces: dict[Pace, int]
    speedup: float | None
    """The median over the models of which timing could tell something."""
    sites: int = 0
    folded: int = 0
    merged: int = 0
    normalizations: int = 0
    normalizations_folded: int = 0
    rolled_back: int = 0
    kept: dict[str, int] = field(default_factory=dict)
    """How many sites were kept for each reason code, the most frequent first."""
    nodes_before: int = 0
    nodes_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    seconds: float = 0.0
    """Of all models together, as if done one after the other."""

    @property
    def not_equivalent(self) -> int:
        """Models of which no equivalent one could be made."""
        return self.outcomes["not_equivalent"]

    @property
    def could_not(self) -> int:
        """Models that could not be done, or not be timed where that was asked for."""
        return sum(self.failures.values())


SUMS = (
    "sites folded merged normalizations normalizations_folded rolled_back nodes_before "
    "nodes_after bytes_before bytes_after seconds"
).split()


def summarize(records: Iterable[SweptModel]) -> FleetSummary:
    """The totals of a fleet."""
    records = list(records)
    outcomes = Counter(record.outcome for record in records)
    speeds = [record.speed for record in records if record.speed is not None]
    told = [speed.speedup for speed in speeds if speed.stable]
    kept: Counter[str] = Counter()
    for record in records:
        kept.update(record.kept)
    return FleetSummary(
        models=len(records),
        skipped=sum(record.skipped for record in records),
        outcomes={outcome: outcomes[outcome] for outcome in get_args(Outcome)},
        failures=dict(Counter(_kinds(records)).most_common()),
        paces=dict(Counter(map(pace, speeds))),
        speedup=statistics.median(told) if told else None,
        kept=dict(kept.most_common()),
        **{name: sum(getattr(record, name) for record in records) for name in SUMS},
    )


def _kinds(records: Sequence[SweptModel]) -> Iterable[str]:
    for record in records:
        if record.outcome == "failed" and record.failure is not None:
            yield record.failure.kind
        elif record.speed_failure is not None:
            yield record.speed_failure.kind


def pace(speed: FleetSpeed) -> Pace:
    """What a measurement says, beyond what the original shows against itself."""
    if not speed.stable:
        return "cannot tell"
    if not speed.significant:
        return "as fast"
    return "faster" if speed.speedup > 1 else "slower"

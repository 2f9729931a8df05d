"""What was measured? Timings with their intervals, and what stands beside them."""

from __future__ import annotations

from dataclasses import dataclass, field

from bnfold.report import Report


@dataclass(frozen=True, slots=True)
class Variant:
    """A further model that took its turns in the rounds of a measurement.

    Where it is the candidate with one thing switched off, `worth` is what that thing gains: the
    median of the paired ratios variant/candidate with its 95 % interval. `speedup` and `interval`
    are what is left without it, original/variant; `ms` is the median time.
    """

    name: str
    ms: float
    speedup: float
    interval: tuple[float, float]
    worth: float
    worth_interval: tuple[float, float]
    significant: bool
    """Whether the worth is more than noise."""
    times_ms: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SpeedMeasurement:
    """Original, original again and candidate, interleaved, on one provider and level.

    Times are medians in milliseconds with their interquartile range, `speedup` is the median of
    the paired ratios original/candidate with a bootstrap 95 % interval, `control` and
    `control_interval` the same for the original against itself.
    """

    provider: str
    level: str
    threads: int
    shapes: dict[str, tuple[int, ...]]
    rounds: int
    original_ms: float
    original_spread_ms: float
    candidate_ms: float
    candidate_spread_ms: float
    speedup: float
    interval: tuple[float, float]
    control: float
    control_interval: tuple[float, float]
    significant: bool
    """Whether the speedup's interval lies outside of 1 and of what the control shows."""
    stable: bool
    """Whether the control is at 1; where it is not, nothing can be told."""
    outliers: int = 0
    warmup: int = 0
    """Runs of each model before the first one that counts."""
    original_session_ms: float = 0.0
    """How long a session takes to make; the median of several where they take little time."""
    candidate_session_ms: float = 0.0
    times_ms: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Every round: "original", "again" and "candidate"."""
    variants: tuple[Variant, ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """What the nodes of one operator type do; a multiply-add is two operations."""

    nodes: int
    operations: int
    bytes: int
    unknown: int
    """Nodes whose shapes could not be told; they are not in the sums."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a session costs in a new process, at the deployment level."""

    session_ms: float
    first_ms: float
    """The first run, which often is slower than those that follow."""
    peak_bytes: int | None
    """Memory above what the process held before; None on systems that do not tell."""


@dataclass(frozen=True, slots=True)
class SpeedReport(Report):
    """Measurements, the deployment level first; the properties speak of that one."""

    measurements: tuple[SpeedMeasurement, ...]
    seed: int
    sentence: str
    """What the runtime would have folded by itself, in plain words."""
    original_bytes: int = 0
    candidate_bytes: int = 0
    original_nodes: int = 0
    candidate_nodes: int = 0
    original_parameters: int = 0
    candidate_parameters: int = 0
    original_work: dict[str, Work] = field(default_factory=dict)
    candidate_work: dict[str, Work] = field(default_factory=dict)
    """By operator type, at the shapes that were timed first; empty where they are not known."""
    own_folds: SpeedMeasurement | None = None
    """The original with the runtime's own folds off against the original as it is: what these
    are worth. None where it makes none, or where that was not asked for."""
    original_footprint: Footprint | None = None
    candidate_footprint: Footprint | None = None
    notes: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def primary(self) -> SpeedMeasurement:
        """The first provider at the deployment level."""
        return self.measurements[0]

    @property
    def speedup(self) -> float:
        """Median of original/candidate; above 1 is faster."""
        return self.primary.speedup

    @property
    def interval(self) -> tuple[float, float]:
        """Bootstrap 95 % interval of the speedup."""
        return self.primary.interval

    @property
    def control(self) -> float:
        """The original against itself; its distance from 1 is the machine's noise."""
        return self.primary.control

    @property
    def significant(self) -> bool:
        """Whether the speedup is more than noise."""
        return self.primary.significant

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Further models that were timed: what each thing that they lack is worth."""
        return self.primary.variants

    @property
    def predicted(self) -> tuple[float, float] | None:
        """The speedup if only operations took time, and if only bytes did; None if unknown."""
        before, after = self.original_work.values(), self.candidate_work.values()
        if any(w.unknown for w in (*before, *after)):
            return None
        operations = [sum(w.operations for w in works) for works in (before, after)]
        moved = [sum(w.bytes for w in works) for works in (before, after)]
        if not (operations[1] and moved[1]):
            return None
        return operations[0] / operations[1], moved[0] / moved[1]

    @property
    def original_ms(self) -> float:
        """Median time of the original, in milliseconds."""
        return self.primary.original_ms

    @property
    def candidate_ms(self) -> float:
        """Median time of the candidate, in milliseconds."""
        return self.primary.candidate_ms

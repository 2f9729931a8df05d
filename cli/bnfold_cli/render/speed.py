"""How much faster is it, and how sure is that?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bnfold_cli.lines import Line, Span, columns, counted, line, notes

if TYPE_CHECKING:
    from bnfold.baseline import Comparison
    from bnfold.report import SpeedMeasurement, SpeedReport


def bench(report: SpeedReport) -> list[Line]:
    """Whether the candidate is faster, by how much, and how sure that is."""
    lines: list[Line] = []
    for measurement in report.measurements:
        if lines:
            lines.append(line())
        lines += _measurement(measurement)
    return [*lines, *_costs(report), *_speed_notes(report)]


def _costs(report: SpeedReport) -> list[Line]:
    """What a session costs, what the models hold, and what their counts would predict."""
    rows: list[list[str]] = []
    if report.own_folds is not None:
        rows.append(["runtime's own folds", _worth(report.own_folds)])
    before, after = report.original_footprint, report.candidate_footprint
    if before is not None and after is not None:
        starts = (f"{f.session_ms:.3g} + {f.first_ms:.3g}" for f in (before, after))
        rows.append(["load + first run", " → ".join(starts) + " ms"])
        if before.peak_bytes is not None and after.peak_bytes is not None:
            peaks = (f"{f / 1e6:.3g}" for f in (before.peak_bytes, after.peak_bytes))
            rows.append(["peak memory", " → ".join(peaks) + " MB"])
    if report.original_parameters:
        rows.append(
            ["parameters", f"{report.original_parameters:,} → {report.candidate_parameters:,}"]
        )
    if report.predicted is not None:
        by_operations, by_bytes = report.predicted
        rows.append(
            ["counts predict", f"×{by_operations:.2f} by operations, ×{by_bytes:.2f} by bytes"]
        )
    return [line(), *columns(rows)] if rows else []


def _worth(m: SpeedMeasurement) -> str:
    """What the runtime gains by its own folds of the original."""
    if not m.stable:
        return f"cannot tell, {_ratio(m)}"
    kind = "worth" if m.significant else "worth nothing that can be measured,"
    return f"{kind} {_interval(m.speedup, m.interval)} of the original, level {m.level}"


def _measurement(m: SpeedMeasurement) -> list[Line]:
    rounds = f"{counted(m.rounds, 'round')}, interleaved"
    rows = [
        ["original", f"{m.original_ms:.3g} ms, IQR {m.original_spread_ms:.2g}", rounds],
        ["folded", f"{m.candidate_ms:.3g} ms, IQR {m.candidate_spread_ms:.2g}"],
    ]
    where = f"  {m.provider}, optimization level {m.level}, {counted(m.threads, 'thread')}"
    return [
        line(_pace(m), f" {_ratio(m)}"),
        *columns(rows),
        line(f"{where}{_inputs(m.shapes)}"),
    ]


CHANGES: dict[str, Span] = {
    "less": Span("Less than before:", "bad"),
    "more": Span("More than before:", "good"),
    "as before": Span("As before:", "good"),
    "cannot tell": Span("Cannot tell:", "code"),
}


def baseline(compared: Sequence[Comparison], path: str) -> list[Line]:
    """What became of each speedup since an earlier measurement."""
    rows: list[list[str | Span]] = [
        [
            CHANGES[c.change],
            f"{_interval(c.before, c.before_interval)} → {_interval(c.now, c.now_interval)}",
            f"{c.provider}, level {c.level}, {counted(c.threads, 'thread')}{_inputs(c.shapes)}",
        ]
        for c in compared
    ]
    return [line(), line(f"Speedup in {path} → now"), *columns(rows)]


def _inputs(shapes: Mapping[str, Sequence[int]]) -> str:
    text = ", ".join(f"{name} {_shape(shape)}" for name, shape in shapes.items())
    return f", input {text}" if text else ""


def gain(report: SpeedReport) -> list[Line]:
    """A line for each provider and level, the deployment level first."""
    rows: list[list[str | Span]] = [
        [_pace(m), _ratio(m), f"{_times(m)}, {m.provider}, level {m.level}"]
        for m in report.measurements
    ]
    return [*columns(rows, indent=0), *_speed_notes(report)]


def _speed_notes(report: SpeedReport) -> list[Line]:
    """What the runtime does by itself, and once what to do where nothing can be told."""
    texts = [report.sentence, *report.notes]
    if not all(m.stable for m in report.measurements):
        texts.append("this machine is busy: close other programs, or give a longer --budget")
    return notes(filter(None, texts))


def _pace(m: SpeedMeasurement) -> Span:
    if not m.stable:
        return Span("Cannot tell:", "code")
    if not m.significant:
        return Span("As fast:", "good")
    return Span("Faster:", "good") if m.speedup > 1 else Span("Slower:", "bad")


def _ratio(m: SpeedMeasurement) -> str:
    """The speedup with its interval, and what the machine's noise is."""
    noise = ", within noise" if m.stable and not m.significant else ""
    control = f"original against itself {_interval(m.control, m.control_interval)}"
    return f"{_interval(m.speedup, m.interval)}{noise} ({control})"


def _interval(ratio: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"×{ratio:.2f} [{low:.2f}, {high:.2f}]"


def _times(m: SpeedMeasurement) -> str:
    return f"{m.original_ms:.3g} → {m.candidate_ms:.3g} ms"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"

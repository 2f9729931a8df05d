"""How much faster is it, and how sure is that?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bnfold_cli.lines import Line, Span, columns, counted, line, notes
from bnfold_cli.render.costs import costs, parts, ratio_of, work

if TYPE_CHECKING:
    from bnfold.timings import SpeedMeasurement, SpeedReport


def bench(report: SpeedReport, *, verbose: bool = False) -> list[Line]:
    """Whether the candidate is faster, by how much, and how sure that is."""
    lines: list[Line] = []
    for measurement in report.measurements:
        if lines:
            lines.append(line())
        lines += _measurement(measurement)
    blocks = [parts(report), costs(report), work(report) if verbose else [], where(report)]
    for block in filter(None, blocks):
        lines += [line(), *block]
    return [*lines, *_speed_notes(report, told=True)]


def where(report: SpeedReport) -> list[Line]:
    """The machine and what was installed."""
    facts = dict(report.environment)
    processors = facts.pop("processors", "")
    texts = [f"{name} {value}" for name, value in facts.items() if name != "platform"]
    texts += [facts.get("platform", ""), f"processors {processors}" if processors else ""]
    told = ", ".join(filter(None, texts))
    return [line(f"  {told}")] if told else []


def _measurement(m: SpeedMeasurement) -> list[Line]:
    rounds = f"{counted(m.rounds, 'round')}, interleaved"
    rounds += f", after {counted(m.warmup, 'run')} to warm up" if m.warmup else ""
    rounds += f"; {counted(m.outliers, 'outlier')}" if m.outliers else ""
    rows = [
        ["original", f"{m.original_ms:.3g} ms, IQR {m.original_spread_ms:.2g}", rounds],
        ["folded", f"{m.candidate_ms:.3g} ms, IQR {m.candidate_spread_ms:.2g}"],
    ]
    where = f"  {m.provider}, optimization level {m.level}, {counted(m.threads, 'thread')}"
    return [
        line(_pace(m), f" {ratio_of(m)}"),
        *columns(rows),
        line(f"{where}{inputs_of(m.shapes)}"),
    ]


OUTLIERS = (
    "an outlier is a time more than three interquartile ranges above the third quartile, when "
    "something else used the machine; none is dropped, medians hardly feel them"
)
LEANING = "parts lean on each other, so what they are worth need not multiply to the whole"


def inputs_of(shapes: Mapping[str, Sequence[int]]) -> str:
    """What was fed, by the names and shapes."""
    text = ", ".join(f"{name} {_shape(shape)}" for name, shape in shapes.items())
    return f", input {text}" if text else ""


def gain(report: SpeedReport, *, verbose: bool = False) -> list[Line]:
    """A line for each provider and level, the deployment level first; then what gained it."""
    rows: list[list[str | Span]] = [
        [_pace(m), ratio_of(m), f"{_times(m)}, {m.provider}, level {m.level}"]
        for m in report.measurements
    ]
    told = parts(report)
    return [
        *columns(rows, indent=0),
        *told,
        *(costs(report) + where(report) if verbose else []),
        *_speed_notes(report, told=verbose),
    ]


def _speed_notes(report: SpeedReport, *, told: bool) -> list[Line]:
    """What the runtime does by itself, and once what to do where nothing can be told."""
    texts = [report.sentence, *report.notes]
    if told and any(m.outliers for m in report.measurements):
        texts.append(OUTLIERS)
    if len(report.variants) > 1:
        texts.append(LEANING)
    if not all(m.stable for m in report.measurements):
        texts.append("this machine is busy: close other programs, or give a longer --budget")
    return notes(filter(None, texts))


def _pace(m: SpeedMeasurement) -> Span:
    if not m.stable:
        return Span("Cannot tell:", "code")
    if not m.significant:
        return Span("As fast:", "good")
    return Span("Faster:", "good") if m.speedup > 1 else Span("Slower:", "bad")


def _times(m: SpeedMeasurement) -> str:
    return f"{m.original_ms:.3g} → {m.candidate_ms:.3g} ms"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"

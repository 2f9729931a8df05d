"""What was gained by what, and what do the models cost beside the time of a run?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold_cli.lines import Line, Span, columns, line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bnfold.timings import SpeedMeasurement, SpeedReport, Variant, Work


def parts(report: SpeedReport) -> list[Line]:
    """What each part is worth, timed by switching it off, beside the runtime's own folds."""
    rows: list[list[str | Span]] = [
        [variant.name, _gained(variant, report.primary)]
        for variant in sorted(report.variants, key=lambda v: -v.worth)
    ]
    if report.own_folds is not None:
        rows.append(["runtime's own folds", _worth(report.own_folds)])
    if not report.variants:
        return columns(rows)
    return [line("What each part is worth, by switching it off:"), *columns(rows)]


def _gained(variant: Variant, m: SpeedMeasurement) -> str:
    """What a part gains, and what is left without it."""
    worth = interval_of(variant.worth, variant.worth_interval)
    left = f"without it ×{variant.speedup:.2f} is left of ×{m.speedup:.2f}"
    if not m.stable:
        return f"cannot tell, {worth}"
    if not variant.significant:
        return f"worth nothing that can be measured, {worth}; {left}"
    return f"{'worth' if variant.worth > 1 else 'costs time:'} {worth}; {left}"


def _worth(m: SpeedMeasurement) -> str:
    """What the runtime gains by its own folds of the original."""
    if not m.stable:
        return f"cannot tell, {ratio_of(m)}"
    kind = "worth" if m.significant else "worth nothing that can be measured,"
    return f"{kind} {interval_of(m.speedup, m.interval)} of the original, level {m.level}"


def costs(report: SpeedReport) -> list[Line]:
    """What a session costs, what the models hold, and what their counts would predict."""
    m = report.primary
    rows: list[list[str]] = []
    if m.original_session_ms and m.candidate_session_ms:
        made = f"{m.original_session_ms:.3g} → {m.candidate_session_ms:.3g} ms"
        rows.append(["session made in", made])
    before, after = report.original_footprint, report.candidate_footprint
    if before is not None and after is not None:
        starts = (f"{f.session_ms:.3g} + {f.first_ms:.3g}" for f in (before, after))
        rows.append(["load + first run", " → ".join(starts) + " ms, in a new process"])
        if before.peak_bytes is not None and after.peak_bytes is not None:
            peaks = (f"{f / 1e6:.3g}" for f in (before.peak_bytes, after.peak_bytes))
            rows.append(["peak memory", " → ".join(peaks) + " MB"])
    if report.original_bytes:
        sizes = (f"{size / 1e6:.3g}" for size in (report.original_bytes, report.candidate_bytes))
        rows.append(["model", " → ".join(sizes) + " MB"])
    if report.original_nodes:
        rows.append(["nodes", f"{report.original_nodes:,} → {report.candidate_nodes:,}"])
    if report.original_parameters:
        rows.append(
            ["parameters", f"{report.original_parameters:,} → {report.candidate_parameters:,}"]
        )
    if report.predicted is not None:
        by_operations, by_bytes = report.predicted
        told = f"×{by_operations:.2f} by operations, ×{by_bytes:.2f} by bytes"
        rows.append(["counts predict", f"{told}; measured ×{m.speedup:.2f}"])
    return columns(rows)


def work(report: SpeedReport) -> list[Line]:
    """Nodes, operations and bytes by operator type, as far as shapes are known."""
    before, after = report.original_work, report.candidate_work
    rows: list[list[str]] = []
    for op_type in dict.fromkeys((*before, *after)):
        both = (before.get(op_type), after.get(op_type))
        row = [op_type, f"{_both(w.nodes if w else 0 for w in both)} nodes"]
        if any(w is not None and w.unknown for w in both):
            rows.append([*row, "shapes or cost unknown"])
            continue
        row.append(f"{_both(_scaled(w, 'operations', 1e6) for w in both)} M operations")
        rows.append([*row, f"{_both(_scaled(w, 'bytes', 1e6) for w in both)} MB"])
    return (
        [line("Work by operator type, in the files as they stand:"), *columns(rows)]
        if rows
        else []
    )


def _scaled(work_: Work | None, figure: str, unit: float) -> str:
    return f"{getattr(work_, figure, 0) / unit:.3g}"


def _both(values: Iterable[object]) -> str:
    return " → ".join(map(str, values))


def ratio_of(m: SpeedMeasurement) -> str:
    """The speedup with its interval, and what the machine's noise is."""
    noise = ", within noise" if m.stable and not m.significant else ""
    control = f"original against itself {interval_of(m.control, m.control_interval)}"
    return f"{interval_of(m.speedup, m.interval)}{noise} ({control})"


def interval_of(ratio: float, interval: tuple[float, float]) -> str:
    """A speedup with its interval."""
    low, high = interval
    return f"×{ratio:.2f} [{low:.2f}, {high:.2f}]"

"""What became of many models? A line for each while they come, and their totals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnfold_cli.lines import Line, Span, columns, counted, line, listed
from bnfold_cli.render.outcome import sizes

if TYPE_CHECKING:
    from bnfold.fleet.record import FleetSpeed, SweptModel
    from bnfold.fleet.summary import FleetSummary

WORDS = {
    "equivalent": "equivalent",
    "unchanged": "nothing to fold",
    "unproven": "not verified",
    "not_equivalent": "not equivalent",
    "failed": "could not be done",
}


def model(record: SweptModel) -> Line:
    """One model: its name, what became of it, and how that was shown."""
    if record.skipped:
        return line(f"{record.model}  done before: {WORDS[record.outcome]}")
    if record.failure is not None:
        return line(record.model, "  ", Span(WORDS[record.outcome], "bad"), _why(record))
    facts = [_folded(record), _error(record), _speed(record.speed), f"{record.seconds:.1f} s"]
    told = ", ".join(filter(None, facts))
    return line(record.model, "  ", Span(WORDS[record.outcome], "good"), f": {told}")


def _folded(record: SweptModel) -> str:
    if not record.sites:
        return "no affine"
    if record.normalizations:
        done, of, what = record.normalizations_folded, record.normalizations, "BatchNormalization"
    else:
        done, of, what = record.folded, record.sites, "affines"
    return f"folded {done} of {of} {what}"


def _error(record: SweptModel) -> str:
    if record.candidate_error is None or record.original_error is None:
        return ""
    return f"error {record.candidate_error:.1e} (original {record.original_error:.1e})"


def _speed(speed: FleetSpeed | None) -> str:
    if speed is None:
        return ""
    low, high = speed.interval
    interval = f"×{speed.speedup:.2f} [{low:.2f}, {high:.2f}]"
    if not speed.stable:
        return f"cannot tell how fast, {interval}"
    return interval if speed.significant else f"as fast, {interval}"


def _why(record: SweptModel) -> str:
    failure = record.failure or record.speed_failure
    return f": {failure.message} [{failure.kind}]" if failure is not None else ""


def fleet(
    summary: FleetSummary,
    records: Sequence[SweptModel],
    manifest: str,
    *,
    found: int,
    verbose: bool = False,
) -> list[Line]:
    """The verdicts, what was gained, what needs a look, and what to do next."""
    lines = [_verdict(summary, found)]
    if summary.skipped:
        lines.append(line(f"{counted(summary.skipped, 'model')} did not change since earlier"))
    lines += _gain(summary)
    if verbose:
        lines += [line(), *map(model, records)]
    wrong = [r for r in records if r.outcome == "not_equivalent"]
    failed = [r for r in records if r.outcome == "failed" or r.speed_failure is not None]
    for title, some in (("Not equivalent", wrong), ("Could not be done", failed)):
        if some:
            lines += [line(), line(Span(title, "bad")), *columns(map(_row, some))]
    lines += [line(), line(f"Wrote {manifest}, and beside it manifest.csv")]
    return lines


def _row(record: SweptModel) -> list[str | Span]:
    failure = record.failure or record.speed_failure
    assert failure is not None
    timing = "while timed: " if record.failure is None else ""
    return [Span(failure.kind, "code"), record.model, f"{timing}{failure.message}"]


def _verdict(summary: FleetSummary, found: int) -> Line:
    kinds = [f"{count:,} {WORDS[name]}" for name, count in summary.outcomes.items() if count]
    left = f" of {found:,}" if summary.models < found else ""
    what = counted(summary.models, "model")
    return line(f"Swept {what}{left}: {listed(kinds) or 'none was done'}")


def _gain(summary: FleetSummary) -> list[Line]:
    lines = []
    if summary.normalizations:
        lines.append(
            line(
                f"Folded {summary.normalizations_folded:,} of {summary.normalizations:,} "
                f"BatchNormalization nodes; {summary.nodes_before:,} → {summary.nodes_after:,} "
                f"nodes, {sizes(summary.bytes_before, summary.bytes_after)}"
            )
        )
    if summary.paces:
        paces = listed([f"{count:,} {pace}" for pace, count in summary.paces.items()])
        median = f"; median ×{summary.speedup:.2f}" if summary.speedup is not None else ""
        lines.append(line(f"Timed: {paces}{median}"))
    return lines

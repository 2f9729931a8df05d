"""How does a test assert that two models are the same? For users' own pytest suites."""

from __future__ import annotations

from typing import Any

from bnfold.equivalence import Model, verify
from bnfold.report import EquivalenceReport, OutputComparison

SHOWN = 5
"""How many outputs an assertion message shows; the worst come first."""


def assert_equivalent(original: Model, candidate: Model, **as_verify: Any) -> EquivalenceReport:
    """Raise AssertionError unless `bnfold.verify` passes; the report comes back where it does.

    The keywords are those of `verify`. Its other exceptions (InputError and the like) pass
    through: they mean that nothing was compared.
    """
    __tracebackhide__ = True  # pytest shows the caller's line
    report = verify(original, candidate, **as_verify)
    if not report:
        raise AssertionError(failure_text(report))
    return report


def failure_text(report: EquivalenceReport) -> str:
    """What differs, the worst outputs first, in the manner of numpy.testing."""
    failed = sorted((c for c in report.outputs if not c.passed), key=_badness, reverse=True)
    lines = ["", "Not equivalent", _summary(report, len(failed))]
    for comparison in failed[:SHOWN]:
        lines += ["", *_describe(comparison)]
    if len(failed) > SHOWN:
        lines += ["", f"... and {len(failed) - SHOWN} more"]
    if report.culprit:
        lines += ["", f"First tensor to depart: {report.culprit}"]
    return "\n".join([*lines, *(f"Note: {note}" for note in report.notes)])


def _summary(report: EquivalenceReport, failed: int) -> str:
    measured = {
        "float64": "errors against a float64 evaluation of the original",
        "noise": "errors against the noise of the runtime",
        "tolerance": f"tolerance atol={report.atol or 0:g}, rtol={report.rtol or 0:g}",
    }[report.judge]
    return f"{failed} of {len(report.outputs)} comparisons failed; {measured}, seed {report.seed}"


def _badness(comparison: OutputComparison) -> float:
    if comparison.candidate_error is None:
        return float("inf")
    return comparison.candidate_error / comparison.limit if comparison.limit else float("inf")


def _describe(c: OutputComparison) -> list[str]:
    lines = [f"{c.tensor} ({c.dtype}) on {c.provider}, level {c.level}, sample {c.sample or '-'}"]
    if c.mismatched:
        share = 100 * c.mismatched / max(c.elements, 1)
        lines.append(f"Mismatched elements: {c.mismatched} / {c.elements} ({share:.3g}%)")
    if c.actual is not None:
        lines.append(f"Max absolute difference: {c.max_abs:.8g} at {list(c.index)}")
        lines.append(f"Max relative difference: {c.max_rel:.8g}")
        lines += [f" ACTUAL: {c.actual!r}", f" DESIRED: {c.expected!r}"]
    if c.candidate_error is not None and c.limit is not None:
        own = "" if c.original_error is None else f"original {c.original_error:.2g}, "
        lines.append(f"Error: {own}candidate {c.candidate_error:.2g}, allowed {c.limit:.2g}")
    return [*lines, *([c.detail] if c.detail else [])]

"""Are the models equivalent, and how was that judged?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold_cli.lines import Line, Span, columns, counted, line, notes

if TYPE_CHECKING:
    from bnfold.certificate import Audit
    from bnfold.report import EquivalenceReport, OutputComparison


def verify(report: EquivalenceReport, *, verbose: bool = False) -> list[Line]:
    """Whether two models are equivalent, and how that was judged."""
    runs = counted(len(report.samples), "sample")
    asked = f" ({runs}, seed {report.seed}, original at optimization level disable)"
    if report.passed:
        lines = [line(Span("Equivalent", "good"), f" {_judged(report)}{asked}")]
    else:
        lines = [line(Span("Not equivalent", "bad"), asked)]
    rows: list[list[str | Span]] = []
    for comparison in report.outputs if verbose else _worst_per_provider(report):
        level = [comparison.level] if verbose else []
        rows.append(
            [
                comparison.provider,
                *level,
                _where(comparison),
                _distance(report, comparison, "candidate"),
            ]
        )
        if not comparison.passed:
            rows += [["", *([""] * len(level)), text] for text in _failure(comparison)]
    lines += columns(rows)
    if report.culprit is not None and not any(report.culprit in note for note in report.notes):
        lines.append(line(f"  first tensor to differ {report.culprit}"))
    if verbose:
        lines += [line(f"  ran {sample}") for sample in report.samples]
    return [*lines, *notes(report.notes)]


def audit(found: Audit, *, verbose: bool = False) -> list[Line]:
    """Whether a certificate holds, and what was looked at."""
    if found:
        lines = [line(Span("The certificate holds", "good"), f": {found.certificate}")]
    else:
        lines = [line(Span("The certificate does not hold", "bad"), f": {found.certificate}")]
    lines += [line(f"  {problem}") for problem in found.problems]
    lines += [line(f"  {text}") for text in found.checked]
    if found.on_trust:
        lines.append(line(f"  taken on trust: {', '.join(found.on_trust)}"))
    lines += notes(found.notes)
    if found.equivalence is not None:
        lines += [line(), *verify(found.equivalence, verbose=verbose)]
    return lines


def evidence(report: EquivalenceReport, verbose: bool) -> list[Line]:
    """A line for each provider, under -v for each output at each level."""
    label = Span("Verified", "good") if report.passed else Span("Not equivalent", "bad")
    rows: list[list[str | Span]] = []
    for output in report.outputs if verbose else _worst_per_provider(report):
        where = [output.level, _where(output)] if verbose else []
        ran = "" if rows else f" ({counted(len(report.samples), 'sample')}, seed {report.seed})"
        rows.append(
            [
                Span("") if rows else label,
                output.provider,
                *where,
                _distance(report, output, "folded") + ran,
            ]
        )
    return [*columns(rows, indent=0), *notes(report.notes)]


def _judged(report: EquivalenceReport) -> str:
    if report.judge == "tolerance":
        return f"within atol {_tolerance(report.atol)} + rtol {_tolerance(report.rtol)}"
    if report.judge == "noise":
        return "within the noise between the runtime's own optimization levels"
    return "by distance to a float64 evaluation of the original"


def _worst_per_provider(report: EquivalenceReport) -> list[OutputComparison]:
    worst: dict[str, OutputComparison] = {}
    for output in report.outputs:
        seen = worst.get(output.provider)
        if seen is None or _badness(output) > _badness(seen):
            worst[output.provider] = output
    return list(worst.values())


def _badness(output: OutputComparison) -> tuple[bool, float, float]:
    share = (output.candidate_error or 0.0) / (output.limit or 1.0)
    return (not output.passed, share, output.max_abs)


def _distance(report: EquivalenceReport, output: OutputComparison, name: str) -> str:
    """How far the output is off, with the scale that says whether that is much."""
    if output.max_abs != output.max_abs:  # NaN: the models could not be compared
        return output.detail or "could not be compared"
    if not output.dtype.startswith(("float", "bfloat")):
        differ = f"{output.mismatched} of {output.elements} elements differ"
        if output.margin is None:
            return differ
        return f"{differ}, where what decided was within {_error(output.margin)} of a tie"
    if report.judge == "tolerance":
        return f"worst |Δ| {output.max_abs:.1e}, {_share(output.candidate_error)} tolerance"
    if output.candidate_error is None:
        return f"worst |Δ| {output.max_abs:.1e}"
    measured = "error against float64" if report.judge == "float64" else "error"
    own = f"original {_error(output.original_error)}"
    if report.judge == "noise":
        own = f"the runtime's own noise {_error(output.original_error)}"
    allowed = "" if output.passed else f", allowed {_error(output.limit)}"
    return f"{measured}: {own}, {name} {_error(output.candidate_error)}{allowed}{_apart(output)}"


def _apart(output: OutputComparison) -> str:
    """Whose error it is: where a candidate lies farther off, yet is the same function."""
    own, found, exact = output.original_error, output.candidate_error, output.exact_error
    if own is None or found is None or exact is None or found <= 2 * own:
        return ""
    return f" (evaluated in float64 the two lie {_error(exact)} apart)"


def _failure(output: OutputComparison) -> list[str]:
    """What else is known of an output that failed."""
    lines = []
    if output.expected is not None and output.actual is not None:
        lines.append(f"expected {_value(output.expected)}, got {_value(output.actual)}")
    if output.detail and output.max_abs == output.max_abs:
        lines.append(output.detail)
    sample = f", sample {output.sample}" if output.sample else ""
    return [*lines, f"at optimization level {output.level}{sample}"]


def _where(output: OutputComparison) -> str:
    index = f"[{', '.join(map(str, output.index))}]" if output.index else ""
    return output.tensor + index


def _error(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:.1e}" if value else "0"


def _share(value: float | None) -> str:
    """How much of the tolerance was used: percent as long as it is small, then times."""
    share = value or 0.0
    return f"{share:.0%} of" if share < 10 else f"{share:.0f}×"


def _tolerance(value: float | None) -> str:
    return f"{value or 0.0:g}"


def _value(value: float | int | bool | None) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)

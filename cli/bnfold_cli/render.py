"""What does a report say in words? Pure functions from reports to lines; no terminal here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from bnfold.report import (
        EquivalenceReport,
        FoldReport,
        FoldSite,
        OptimizeResult,
        OutputComparison,
        SpeedMeasurement,
        SpeedReport,
    )

Style = Literal["plain", "good", "bad", "code", "dim"]
NORMALIZATION = "BatchNormalization"
LISTED = 12
"""Kept sites that `optimize` lists before it refers to `inspect`."""


class Span(NamedTuple):
    """Some text in one style. The style adds to the words, it never replaces them."""

    text: str
    style: Style = "plain"


Line = tuple[Span, ...]


def line(*parts: str | Span) -> Line:
    """A line of text, plain where no style is given."""
    return tuple(part if isinstance(part, Span) else Span(part) for part in parts)


def text_of(spans: Line) -> str:
    """A line without its styles."""
    return "".join(span.text for span in spans).rstrip()


def columns(rows: Iterable[Sequence[str | Span]], indent: int = 2) -> list[Line]:
    """Rows with their cells aligned, except the last of a row; nothing is ever cut."""
    cells = [line(*row) for row in rows]
    count = max(map(len, cells), default=0)
    widths = [max(len(r[i].text) if i < len(r) - 1 else 0 for r in cells) for i in range(count)]
    lines = []
    for row in cells:
        padded = [Span(s.text.ljust(w), s.style) for s, w in zip(row[:-1], widths, strict=False)]
        spaced = chain.from_iterable((span, Span("  ")) for span in padded)
        lines.append(line(" " * indent, *spaced, *row[-1:]))
    return lines


# -- optimize -----------------------------------------------------------------------------------


def optimize(
    result: OptimizeResult, model: str, *, verbose: bool = False, dry_run: bool = False
) -> list[Line]:
    """The verdict, its evidence, and what to do next."""
    folds = result.folds
    lines = [*headline(folds), *_kept(folds, model, verbose)]
    if _is_multiline(folds):
        lines.append(line())
    if result.equivalence is not None:
        lines += _proof(result.equivalence, verbose)
    elif folds.folded or folds.merged:
        lines.append(line(Span("Not verified", "code"), ": equivalence was not proven"))
    if result.speed is not None:
        lines += _gain(result.speed)
    lines += [line(f"Note: {note}") for note in folds.notes]
    lines.append(_wrote(result, dry_run))
    codes = sorted({site.code for site in folds.kept if site.code and _is_listed(site, verbose)})
    if codes:
        lines.append(line(f"Run `bnfold explain {codes[0]}` to read about a reason."))
    return lines


def headline(folds: FoldReport) -> list[Line]:
    """What was folded, in one line, and a line for each other thing that changed."""
    all_nodes, others = folds.normalizations, _others(folds)
    folded = [site for site in all_nodes if site.verdict == "folded"]
    folded_others = [site for site in others if site.verdict == "folded"]
    lines = []
    if not (folds.folded or folds.merged):
        why = f": {_count(len(all_nodes), NORMALIZATION + ' node')} kept" if all_nodes else ""
        lines.append(line(Span("Nothing to fold", "good"), why or f": no {NORMALIZATION} here"))
    elif all_nodes:
        nodes = "node" if len(all_nodes) == 1 else "nodes"
        summary = f" {len(folded)} of {len(all_nodes)} {NORMALIZATION} {nodes}{_into(folded)}"
        lines.append(line(Span("Folded", "good"), summary))
    if folded_others:
        also = "Also folded" if all_nodes else "Folded"
        kinds = _list(sorted({site.op_type for site in folded_others}))
        lines.append(
            line(f"{also} {len(folded_others)} of {len(others)} nodes with constants ({kinds})")
        )
    if folds.merged:
        kinds = _list(sorted({block.op_type for block in folds.merged}))
        blocks = _count(len(folds.merged), "block")
        lines.append(line(f"Merged {blocks} of parallel branches, each into one {kinds}"))
    if folds.removed_movement:
        moved = _count(folds.removed_movement, "Transpose or Reshape", "Transposes or Reshapes")
        lines.append(line(f"Removed {moved} that stood around a folded node"))
    if folds.frozen_inputs:
        frozen = _count(
            len(folds.frozen_inputs),
            "weight is no longer a graph input",
            "weights are no longer graph inputs",
        )
        lines.append(line(f"{frozen}; --keep-overridable leaves such alone"))
    if folds.flushed:
        values = _count(folds.flushed, "folded value was", "folded values were")
        lines.append(line(f"{values} too small to matter (subnormal) and became zero"))
    return lines


def _into(sites: Sequence[FoldSite]) -> str:
    kinds = Counter(map(_target_kinds, sites))
    if not kinds:
        return ""
    if len(kinds) == 1:
        return f", {'all ' if len(sites) > 1 else ''}into {next(iter(kinds))}"
    return ": " + ", ".join(f"{count} into {kind}" for kind, count in kinds.most_common())


def _target_kinds(site: FoldSite) -> str:
    return _list(sorted({target.op_type for target in site.targets})) or "a constant"


def _kept(folds: FoldReport, model: str, verbose: bool) -> list[Line]:
    lines = []
    for title, verdict in (("Kept", "kept"), ("Rolled back", "rolled_back")):
        sites = [s for s in folds.sites if s.verdict == verdict and _is_listed(s, verbose)]
        if not sites:
            continue
        shown = sites if verbose else sites[:LISTED]
        lines.append(line(f"{title} {len(sites)}"))
        lines += columns([_reason(s), s.tensor, Span(s.detail or "", "dim")] for s in shown)
        if len(shown) < len(sites):
            more = len(sites) - len(shown)
            lines.append(line(f"  and {more} more; `bnfold inspect -v {model}` lists them"))
    return [line(), *lines] if lines else []


def _is_listed(site: FoldSite, verbose: bool) -> bool:
    """Plain constants that stay are common and rarely of interest."""
    return verbose or site.op_type == NORMALIZATION or site.verdict == "rolled_back"


def _is_multiline(folds: FoldReport) -> bool:
    return any(s.verdict != "folded" and _is_listed(s, False) for s in folds.sites)


def _reason(site: FoldSite) -> Span:
    return Span(f"{site.code or '-'} {site.reason or ''}".strip(), "code")


def _proof(report: EquivalenceReport, verbose: bool) -> list[Line]:
    """A line for each provider, under -v for each output at each level."""
    label = Span("Verified", "good") if report.passed else Span("Not equivalent", "bad")
    rows: list[list[str | Span]] = []
    for output in report.outputs if verbose else _worst_per_provider(report):
        where = [output.level, _where(output)] if verbose else []
        ran = "" if rows else f" ({_count(len(report.samples), 'sample')}, seed {report.seed})"
        evidence = _evidence(report, output, "folded") + ran
        rows.append([Span("") if rows else label, output.provider, *where, evidence])
    return [*columns(rows, indent=0), *(line(f"Note: {note}") for note in report.notes)]


def _gain(report: SpeedReport) -> list[Line]:
    """A line for each provider and level, the deployment level first."""
    rows: list[list[str | Span]] = [
        [_pace(m), _ratio(m), f"{_times(m)}, {m.provider}, level {m.level}"]
        for m in report.measurements
    ]
    return [*columns(rows, indent=0), *_speed_notes(report)]


def _wrote(result: OptimizeResult, dry_run: bool) -> Line:
    folds = result.folds
    nodes = f"{folds.nodes_before} → {folds.nodes_after} nodes"
    size = f", {_sizes(result.original_bytes, result.bytes)}" if result.bytes else ""
    unchanged = not (folds.folded or folds.merged)
    if result.output is None:
        would = "Wrote nothing (--dry-run)" if dry_run else "Wrote nothing"
        return line(f"{would}; it would be {nodes}{size}")
    if unchanged and folds.nodes_before == folds.nodes_after:
        return line(f"Wrote {result.output}, the same model, for what comes next in a pipeline")
    return line(f"Wrote {result.output} ({nodes}{size})")


# -- inspect ------------------------------------------------------------------------------------


def inspect(folds: FoldReport, model: str, *, verbose: bool = False) -> list[Line]:
    """What a fold would do."""
    title = f"{model}  opset {folds.opset}, {folds.nodes_before} nodes, "
    lines = [line(title + f"{len(folds.normalizations)} {NORMALIZATION}"), line()]
    body = _records(folds.sites) if verbose else _groups(folds)
    if body:
        lines += [*body, *([] if not verbose else [line()])]
    else:
        lines.pop()
    return [*lines, *_potential(folds, verbose)]


def _records(sites: Sequence[FoldSite]) -> list[Line]:
    """One site a line, in stable columns, for grep."""
    return columns(map(_record, sites), indent=0)


def _record(site: FoldSite) -> list[str | Span]:
    origin = "" if site.op_type == NORMALIZATION else f" ({site.op_type})"
    if site.verdict != "folded":
        code = Span(site.code or "-", "code")
        return ["keep", code, site.tensor, "-", (site.detail or site.reason or "") + origin]
    kind = "+".join(sorted({t.op_type for t in site.targets})) or "-"
    tensor = ",".join(t.tensor for t in site.targets) or site.target or "-"
    through = f" via {', '.join(site.path)}" if site.path else ""
    how = f"{site.direction or 'folded'}{through}{origin}"
    return [Span("fold", "good"), "-", site.tensor, kind, tensor, how]


def _groups(folds: FoldReport) -> list[Line]:
    """A line for each target type, for each reason, and for the plain constants."""
    rows: list[list[str | Span]] = []
    nodes = folds.normalizations
    kinds = Counter(_target_kinds(site) for site in nodes if site.verdict == "folded")
    for kind, count in kinds.most_common():
        paths = [s.path for s in nodes if s.verdict == "folded" and _target_kinds(s) == kind]
        rows.append([f"{count:>4}", Span(f"fold into {kind}", "good"), _routes(paths)])
    kept = [site for site in nodes if site.verdict != "folded"]
    for reason, count in Counter(map(_reason, kept)).most_common():
        names = [site.tensor for site in kept if _reason(site) == reason]
        more = f" and {count - 1} more" if count > 1 else ""
        rows.append([f"{count:>4}", reason, names[0] + more])
    others = _others(folds)
    if others:
        folded = sum(site.verdict == "folded" for site in others)
        kinds_text = _list(sorted({site.op_type for site in others}))
        what = f"{folded} can be folded" if folded else "none can be folded"
        rows.append([f"{len(others):>4}", f"constant {kinds_text}", what])
    return columns(rows, indent=0)


def _routes(paths: Sequence[tuple[str, ...]]) -> str:
    """How many fold directly, and through what the others do."""
    routes = Counter(", ".join(dict.fromkeys(path)) for path in paths)
    direct = routes.pop("", 0)
    parts = [f"{direct} directly"] if direct else []
    parts += [f"{count} through {route}" for route, count in routes.most_common(3)]
    rest = sum(routes.values()) - sum(count for _, count in routes.most_common(3))
    return ", ".join(parts + ([f"{rest} through others"] if rest else []))


def _potential(folds: FoldReport, verbose: bool) -> list[Line]:
    lines = []
    if folds.merged:
        blocks = _count(len(folds.merged), "block")
        lines.append(line(f"{blocks} of parallel branches can be merged"))
    lines += [line(f"Note: {note}") for note in folds.notes]
    nodes = folds.normalizations
    more = "" if verbose or not folds.sites else "; -v lists every site"
    if nodes:
        folded = sum(site.verdict == "folded" for site in nodes)
        verdict = f"{folded} of {len(nodes)} can be folded. "
    elif folds.folded or folds.merged:
        verdict = f"There is no {NORMALIZATION}, yet there is something to fold. "
    else:
        verdict = "Nothing to fold. "
    lines.append(line(f"{verdict}Nothing was changed{more}."))
    return lines


# -- verify -------------------------------------------------------------------------------------


def verify(report: EquivalenceReport, *, verbose: bool = False) -> list[Line]:
    """Whether two models are equivalent, and how that was judged."""
    runs = _count(len(report.samples), "sample")
    asked = f" ({runs}, seed {report.seed}, original at optimization level disable)"
    if report.passed:
        lines = [line(Span("Equivalent", "good"), f" {_judged(report)}{asked}")]
    else:
        lines = [line(Span("Not equivalent", "bad"), asked)]
    rows: list[list[str | Span]] = []
    for comparison in report.outputs if verbose else _worst_per_provider(report):
        evidence = _evidence(report, comparison, "candidate")
        level = [comparison.level] if verbose else []
        rows.append([comparison.provider, *level, _where(comparison), evidence])
        if not comparison.passed:
            rows += [["", *([""] * len(level)), text] for text in _failure(comparison)]
    lines += columns(rows)
    if report.culprit is not None and not any(report.culprit in note for note in report.notes):
        lines.append(line(f"  first tensor to differ {report.culprit}"))
    if verbose:
        lines += [line(f"  ran {sample}") for sample in report.samples]
    return [*lines, *(line(f"Note: {note}") for note in report.notes)]


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


def _evidence(report: EquivalenceReport, output: OutputComparison, name: str) -> str:
    """How far the output is off, with the scale that says whether that is much."""
    if output.max_abs != output.max_abs:  # NaN: the models could not be compared
        return output.detail or "could not be compared"
    if not output.dtype.startswith(("float", "bfloat")):
        return f"{output.mismatched} of {output.elements} elements differ"
    if report.judge == "tolerance":
        return f"worst |Δ| {output.max_abs:.1e}, {_share(output.candidate_error)} tolerance"
    if output.candidate_error is None:
        return f"worst |Δ| {output.max_abs:.1e}"
    measured = "error against float64" if report.judge == "float64" else "error"
    own = f"original {_error(output.original_error)}"
    if report.judge == "noise":
        own = f"the runtime's own noise {_error(output.original_error)}"
    allowed = "" if output.passed else f", allowed {_error(output.limit)}"
    return f"{measured}: {own}, {name} {_error(output.candidate_error)}{allowed}"


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


# -- bench --------------------------------------------------------------------------------------


def bench(report: SpeedReport) -> list[Line]:
    """Whether the candidate is faster, by how much, and how sure that is."""
    lines: list[Line] = []
    for measurement in report.measurements:
        if lines:
            lines.append(line())
        lines += _measurement(measurement)
    return [*lines, *_speed_notes(report)]


def _measurement(m: SpeedMeasurement) -> list[Line]:
    rounds = f"{_count(m.rounds, 'round')}, interleaved"
    rows = [
        ["original", f"{m.original_ms:.3g} ms, IQR {m.original_spread_ms:.2g}", rounds],
        ["folded", f"{m.candidate_ms:.3g} ms, IQR {m.candidate_spread_ms:.2g}"],
    ]
    shapes = ", ".join(f"{name} {_shape(shape)}" for name, shape in m.shapes.items())
    where = f"  {m.provider}, optimization level {m.level}, {_count(m.threads, 'thread')}"
    return [
        line(_pace(m), f" {_ratio(m)}"),
        *columns(rows),
        line(f"{where}{', input ' if shapes else ''}{shapes}"),
    ]


def _speed_notes(report: SpeedReport) -> list[Line]:
    notes = ([report.sentence] if report.sentence else []) + list(report.notes)
    return [line(f"Note: {note}") for note in notes]


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


# -- explain ------------------------------------------------------------------------------------


def reasons(rows: Iterable[tuple[str, str, str]]) -> list[Line]:
    """All codes with their slug and sentence."""
    return [
        *columns(([Span(code, "code"), slug, help] for code, slug, help in rows), indent=0),
        line("Run `bnfold explain CODE` to read more about one."),
    ]


# -- words --------------------------------------------------------------------------------------


def _others(folds: FoldReport) -> list[FoldSite]:
    return [site for site in folds.sites if site.op_type != NORMALIZATION]


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _list(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _sizes(before: int, after: int) -> str:
    """Two file sizes in one unit, that of the larger."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if max(before, after) >= size:
            digits = 1 if max(before, after) >= 10 * size else 2
            return f"{before / size:.{digits}f} → {after / size:.{digits}f} {unit}"
    return f"{before} → {after} bytes"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


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

"""What was folded, or would be, and what stays for which reason?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnfold_cli.lines import Line, Span, columns, counted, line, listed, notes

if TYPE_CHECKING:
    from bnfold.report import FoldReport, FoldSite

NORMALIZATION = "BatchNormalization"
LISTED = 12
"""Kept sites that `optimize` lists before it refers to `inspect`."""


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
        kinds_text = listed(sorted({site.op_type for site in others}))
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
        blocks = counted(len(folds.merged), "block")
        lines.append(line(f"{blocks} of parallel branches can be merged"))
    lines += [*flagged(folds), *notes(folds.notes)]
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


def headline(folds: FoldReport) -> list[Line]:
    """What was folded, in one line, and a line for each other thing that changed."""
    all_nodes, others = folds.normalizations, _others(folds)
    folded = [site for site in all_nodes if site.verdict == "folded"]
    folded_others = [site for site in others if site.verdict == "folded"]
    lines = []
    if not (folds.folded or folds.merged):
        why = f": {counted(len(all_nodes), NORMALIZATION + ' node')} kept" if all_nodes else ""
        lines.append(line(Span("Nothing to fold", "good"), why or f": no {NORMALIZATION} here"))
    elif all_nodes:
        nodes = "node" if len(all_nodes) == 1 else "nodes"
        summary = f" {len(folded)} of {len(all_nodes)} {NORMALIZATION} {nodes}{_into(folded)}"
        lines.append(line(Span("Folded", "good"), summary))
    if folded_others:
        also = "Also folded" if all_nodes else "Folded"
        kinds = listed(sorted({site.op_type for site in folded_others}))
        lines.append(
            line(f"{also} {len(folded_others)} of {len(others)} nodes with constants ({kinds})")
        )
    if folds.merged:
        kinds = listed(sorted({block.op_type for block in folds.merged}))
        blocks = counted(len(folds.merged), "block")
        lines.append(line(f"Merged {blocks} of parallel branches, each into one {kinds}"))
    if folds.removed_movement:
        moved = counted(folds.removed_movement, "Transpose or Reshape", "Transposes or Reshapes")
        lines.append(line(f"Removed {moved} that stood around a folded node"))
    if folds.frozen_inputs:
        frozen = counted(
            len(folds.frozen_inputs),
            "weight is no longer a graph input",
            "weights are no longer graph inputs",
        )
        lines.append(line(f"{frozen}; --keep-overridable leaves such alone"))
    if folds.flushed:
        values = counted(folds.flushed, "folded value was", "folded values were")
        lines.append(line(f"{values} too small to matter (subnormal) and became zero"))
    return lines + flagged(folds)


def flagged(folds: FoldReport) -> list[Line]:
    """A line for each fold whose affine is ill-conditioned, whatever the samples say."""
    lines = []
    for site in folds.folded:
        if site.flagged:
            low, high = site.scale_range or (0.0, 0.0)
            what = f" {site.tensor} scales by {low:.1e} to {high:.1e}"
            if site.bound is not None:
                what += f"; rounding alone may change {site.bound:.0e} of its magnitude"
            lines.append(line(Span("Ill-conditioned:", "code"), what))
    for block in folds.merged:
        if block.flagged and block.bound is not None:
            what = f" the merged branches of {block.tensor}; rounding alone may change "
            what += f"{block.bound:.0e} of their magnitude"
            lines.append(line(Span("Ill-conditioned:", "code"), what))
    return lines


def _into(sites: Sequence[FoldSite]) -> str:
    kinds = Counter(map(_target_kinds, sites))
    if not kinds:
        return ""
    if len(kinds) == 1:
        return f", {'all ' if len(sites) > 1 else ''}into {next(iter(kinds))}"
    return ": " + ", ".join(f"{count} into {kind}" for kind, count in kinds.most_common())


def _target_kinds(site: FoldSite) -> str:
    return listed(sorted({target.op_type for target in site.targets})) or "a constant"


def kept(folds: FoldReport, model: str, verbose: bool) -> list[Line]:
    """A block for what was kept and one for what was taken back, with their reasons."""
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
    return [line(), *lines, line()] if lines else []


def _is_listed(site: FoldSite, verbose: bool) -> bool:
    """Plain constants that stay are common and rarely of interest."""
    return verbose or site.op_type == NORMALIZATION or site.verdict == "rolled_back"


def explained(folds: FoldReport, verbose: bool) -> str | None:
    """The code of a reason that was listed."""
    codes = (site.code for site in folds.kept if site.code and _is_listed(site, verbose))
    return min(codes, default=None)


def _reason(site: FoldSite) -> Span:
    return Span(f"{site.code or '-'} {site.reason or ''}".strip(), "code")


def _others(folds: FoldReport) -> list[FoldSite]:
    return [site for site in folds.sites if site.op_type != NORMALIZATION]

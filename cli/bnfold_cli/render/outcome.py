"""What came of it all? The words of `optimize`, from those of its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold_cli.lines import Line, Span, line, notes
from bnfold_cli.render.folds import explained, headline, kept
from bnfold_cli.render.proof import evidence
from bnfold_cli.render.speed import gain

if TYPE_CHECKING:
    from bnfold.report import OptimizeResult


def optimize(
    result: OptimizeResult, model: str, *, verbose: bool = False, dry_run: bool = False
) -> list[Line]:
    """The verdict, its evidence, and what to do next."""
    folds = result.folds
    lines = [*headline(folds), *kept(folds, model, verbose)]
    if result.equivalence is not None:
        lines += evidence(result.equivalence, verbose)
    elif folds.folded or folds.merged:
        lines.append(line(Span("Not verified", "code"), ": equivalence was not proven"))
    if result.speed is not None:
        lines += gain(result.speed, verbose=verbose)
    lines += notes(folds.notes)
    lines.append(_wrote(result, dry_run))
    code = explained(folds, verbose)
    if code is not None:
        lines.append(line(f"Run `bnfold explain {code}` to read about a reason."))
    return lines


def _wrote(result: OptimizeResult, dry_run: bool) -> Line:
    folds = result.folds
    nodes = f"{folds.nodes_before} → {folds.nodes_after} nodes"
    size = f", {sizes(result.original_bytes, result.bytes)}" if result.bytes else ""
    changed = folds.folded or folds.merged or folds.frozen_inputs or folds.removed_movement
    if result.output is None:
        would = "Wrote nothing (--dry-run)" if dry_run else "Wrote nothing"
        return line(f"{would}; it would be {nodes}{size}")
    written = " and ".join(filter(None, (result.output, result.data)))
    if not changed:
        return line(f"Wrote {written}, the same model, for what comes next in a pipeline")
    return line(f"Wrote {written} ({nodes}{size})")


def sizes(before: int, after: int) -> str:
    """Two file sizes in one unit, that of the larger."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if max(before, after) >= size:
            digits = 1 if max(before, after) >= 10 * size else 2
            return f"{before / size:.{digits}f} → {after / size:.{digits}f} {unit}"
    return f"{before} → {after} bytes"

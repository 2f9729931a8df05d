"""Which folds are taken back where a proof fails? Those at the tensor that departs first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

from bnfold.errors import NotEquivalent
from bnfold.reasons import Reason
from bnfold.report import EquivalenceReport, FoldResult, FoldSite, OutputComparison

ATTEMPTS = 8
"""Folds that are taken back one at a time; after that many, everything is."""


def fold_until_proven(
    folds: FoldResult,
    refold: Callable[[Iterable[str]], FoldResult],
    prove: Callable[[FoldResult], EquivalenceReport],
) -> tuple[FoldResult, EquivalenceReport]:
    """The most that can be folded and passes, with its proof. Raises NotEquivalent.

    `folds` is where to start; `refold` folds the original without the named tensors.
    """
    taken_back: dict[str, str] = {}
    for attempt in range(ATTEMPTS + 1):
        report = prove(folds)
        if report:
            return marked(folds, taken_back), report
        suspects = _suspects(folds, report) if attempt < ATTEMPTS else _foldable(folds)
        fresh = [name for name in suspects or _foldable(folds) if name not in taken_back]
        if not fresh:
            raise _hopeless(report)
        taken_back |= dict.fromkeys(fresh, _failure(report))
        folds = refold(tuple(taken_back))
    report = prove(folds)
    if not report:
        raise _hopeless(report)
    return marked(folds, taken_back), report


def _foldable(folds: FoldResult) -> list[str]:
    """Every name that `keep` could hold back: folded sites and merged blocks."""
    return [site.tensor for site in folds.folded] + [block.tensor for block in folds.merged]


def _suspects(folds: FoldResult, report: EquivalenceReport) -> list[str]:
    """The folds that made the culprit; else the last ones upstream of it.

    A backward fold leaves its site's name on the operator that took it in, a forward fold shows
    at the operator that took it in.
    """
    culprit = report.culprit
    if culprit is None:
        return []
    makers = {site.tensor: _touched(site) for site in folds.folded}
    makers |= {block.tensor: {block.tensor} for block in folds.merged}
    direct = [name for name, touched in makers.items() if culprit in touched]
    if direct:
        return direct
    order = {
        name: index
        for index, node in enumerate(folds.stored.proto.graph.node)
        for name in node.output
    }
    reach = order.get(culprit, len(order))
    places = {
        name: max((order[t] for t in touched if order.get(t, reach + 1) <= reach), default=-1)
        for name, touched in makers.items()
    }
    nearest = max(places.values(), default=-1)
    return [name for name, place in places.items() if place == nearest >= 0]


def _touched(site: FoldSite) -> set[str]:
    """The tensors whose makers a fold changed."""
    named = {site.tensor, *(target.tensor for target in site.targets)}
    return named | ({site.target} if site.target else set())


def _failure(report: EquivalenceReport) -> str:
    """What failed, in one line: the worst output with its error and where."""
    failed = [c for c in report.outputs if not c.passed]
    worst = max(failed, key=lambda c: c.candidate_error or 0.0)
    return f"output {worst.tensor} on {worst.provider}, level {worst.level}: {_how_far(worst)}"


def _how_far(worst: OutputComparison) -> str:
    if worst.candidate_error is None or worst.limit is None:
        return worst.detail or "differs"
    return f"error {worst.candidate_error:.1e}, allowed {worst.limit:.1e}"


def marked(folds: FoldResult, taken_back: Mapping[str, str | None]) -> FoldResult:
    """The sites that were taken back, as such and not as kept by request.

    `taken_back` says of each tensor how the proof failed.
    """
    reason = Reason.NOT_EQUIVALENT
    sites = tuple(
        dataclasses.replace(
            site,
            verdict="rolled_back",
            code=reason.code,
            reason=reason.slug,
            detail=taken_back[site.tensor],
        )
        if site.tensor in taken_back and site.verdict != "folded"
        else site
        for site in folds.sites
    )
    asked = [name for name in folds.options["keep"] if name not in taken_back]
    options = {**folds.options, "keep": asked, "taken_back": list(taken_back)}
    return dataclasses.replace(folds, sites=sites, options=options)


def _hopeless(report: EquivalenceReport) -> NotEquivalent:
    return NotEquivalent(
        f"no equivalent model could be made: {_failure(report)}",
        "nothing was written; the model may be random, or so ill-conditioned that no two "
        "evaluations agree: see the report's notes, or set atol and rtol",
    )

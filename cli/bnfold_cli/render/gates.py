"""Was it fast enough, and is it as fast as it was? The words for --fail-below and --baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnfold_cli.exits import NO, YES
from bnfold_cli.lines import Line, Span, columns, counted, line
from bnfold_cli.render.costs import interval_of
from bnfold_cli.render.speed import inputs_of

if TYPE_CHECKING:
    from bnfold.baseline import Comparison

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
            f"{interval_of(c.before, c.before_interval)} → {interval_of(c.now, c.now_interval)}",
            f"{c.provider}, level {c.level}, {counted(c.threads, 'thread')}{inputs_of(c.shapes)}",
        ]
        for c in compared
    ]
    return [line(), line(f"Speedup in {path} → now"), *columns(rows)]


def gate(code: int, least: float) -> list[Line]:
    """What --fail-below answers; the measurements above are the evidence."""
    if code == YES:
        return [line(Span("Fast enough:", "good"), f" at least ×{least:g}, as --fail-below asks")]
    if code == NO:
        return [line(Span("Not fast enough:", "bad"), f" below the ×{least:g} of --fail-below")]
    told = f" whether it is below the ×{least:g} of --fail-below"
    return [line(Span("Cannot tell", "code"), told)]

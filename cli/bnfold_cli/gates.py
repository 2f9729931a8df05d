"""What do --fail-below and --baseline answer, as exit codes?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bnfold_cli.documents import read_result
from bnfold_cli.exits import COULD_NOT, NO, YES

if TYPE_CHECKING:
    from bnfold.baseline import Comparison
    from bnfold.timings import SpeedReport


def gate(report: SpeedReport, least: float) -> int:
    """The answer to --fail-below, for every measurement at the deployment level."""
    gated = [m for m in report.measurements if m.level == report.primary.level]
    if not all(m.stable for m in gated):
        return COULD_NOT
    return NO if any(m.speedup < least for m in gated) else YES


def baseline_of(path: Path) -> Callable[[SpeedReport], Sequence[Comparison]]:
    """An earlier measurement, read before any work: what holds a report against it."""
    from bnfold.baseline import compare, measurements

    document = read_result(path)
    measurements(document)
    return lambda report: compare(report, document)


def held(compared: Sequence[Comparison]) -> int:
    """The answer to --baseline."""
    changes = {comparison.change for comparison in compared}
    if "less" in changes:
        return NO
    return COULD_NOT if "cannot tell" in changes else YES

"""What do numbers say in words, and what do they not? Every sentence here is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bnfold_models.studies.curves import Finished

NEAR = 0.95
"""The share of the better final accuracy that a run must reach to count as trained."""


def percent(accuracy: float) -> str:
    """0.9321 as "93.2 %"."""
    return f"{100 * accuracy:.1f} %"


def margin(accuracy: float, images: int) -> float:
    """Two standard deviations of an accuracy that so many test images gave."""
    return 2 * math.sqrt(max(accuracy * (1 - accuracy), 1e-4) / images)


def differs(one: float, other: float, images: int) -> bool:
    """Whether two accuracies on so many images differ by more than chance."""
    return abs(one - other) > math.hypot(margin(one, images), margin(other, images))


def epochs_to(run: Finished, accuracy: float) -> int | None:
    """The first epoch after which the test accuracy was reached; None if it never was."""
    return next((e.number for e in run.history if e.test.accuracy >= accuracy), None)


def race(what: str, with_bn: Finished, without: Finished, images: int) -> str:
    """Who gets near the better final accuracy first, and where both end."""
    goal = NEAR * max(with_bn.last.accuracy, without.last.accuracy)
    fast, slow = epochs_to(with_bn, goal), epochs_to(without, goal)
    ends = (
        f"at the end {percent(with_bn.last.accuracy)} with and "
        f"{percent(without.last.accuracy)} without"
    )
    if not differs(with_bn.last.accuracy, without.last.accuracy, images):
        ends += f", which {images} test images cannot tell apart"
    reached = (
        f"{what}: {percent(goal)} is reached {_after(fast)} with BN and {_after(slow)} without"
    )
    return f"{reached}; {ends}. {_verdict(fast, slow)}"


def _after(epoch: int | None) -> str:
    if epoch is None:
        return "never"
    return "after the first epoch" if epoch == 1 else f"after {epoch} epochs"


def _verdict(fast: int | None, slow: int | None) -> str:
    if fast == slow:
        return "Counted in epochs, BN makes no difference here."
    if slow is None or (fast is not None and fast < slow):
        return "Here BN speeds training up."
    return "Here BN does **not** speed training up."


def best(runs: Sequence[Finished]) -> Finished:
    """The run with the highest final test accuracy; the first of equals."""
    return max(runs, key=lambda run: run.last.accuracy)

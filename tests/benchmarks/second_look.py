"""Why does a fold lie farther off than the original? One sample may be chance: look at more.

A float32 result is one draw of a random walk of roundings, so that the worst of a few samples is
now and then several times worse than the original there, whatever the fold did. This takes more
samples of the kind that was worst and tells, by medians of pairs, what remains:

    ratio    the candidate's error in units of the original's, both against float64
    runtime  the same for the original itself at the runtime's default level: another order
    fold     how far the two functions lie apart in float64, in units of the original's error
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import onnx

from bnfold.feeds import Sample, make_samples
from bnfold.judge import Judge
from bnfold.runtime import Level, open_session
from bnfold.yardstick import errors

SAMPLES = 15
FEWEST = 5
"""A median of fewer says nothing."""

USUAL = 1.5
"""The median of so many pairs of two right evaluations stays below this."""

TINY = 1e-300


@dataclass(frozen=True, slots=True)
class Look:
    """Medians over `samples` samples, and the largest of the pairs."""

    samples: int
    ratio: float
    largest: float
    runtime: float
    runtime_largest: float
    fold: float

    @property
    def reason(self) -> str:
        """What made the worst sample as bad as it was, in a word or two."""
        if self.samples < FEWEST:
            return "too slow to look at"
        if self.ratio <= USUAL:
            return "chance"
        if self.fold > 1 / USUAL:
            return "rounding of the weights"
        if self.ratio <= USUAL * self.runtime:
            return "the runtime's own optimizer"
        return "unexplained"

    def __str__(self) -> str:
        """One line: the reason, and the numbers behind it."""
        return (
            f"{self.reason}: of {self.samples} samples like it median {self.ratio:.2f}x "
            f"(largest {self.largest:.3g}x); the original at the default level "
            f"{self.runtime:.2f}x ({self.runtime_largest:.3g}x); the fold alone {self.fold:.2f}x"
        )


def look(
    model: onnx.ModelProto,
    folded: onnx.ModelProto,
    tensor: str,
    level: Level,
    like: str,
    samples: int,
    seconds: float,
) -> Look:
    """Compare `tensor` at `level` on further samples named `like`; ends after `seconds`.

    `samples` is how many verify had made: the same number gives samples of the same names.
    """
    end = time.process_time() + seconds
    plain = open_session(model, level="disable")
    others = open_session(model, level="all"), open_session(folded, level=level)
    judges = Judge(model), Judge(folded)
    pairs: list[tuple[float, ...]] = []
    for seed in range(1, SAMPLES + 1):
        if time.process_time() > end:
            break
        sample = _like(model, plain.run, like, samples, seed)
        truth, exact = (judge.run(sample.feeds)[tensor] for judge in judges)
        runtime, ours = (session.run(sample.feeds)[tensor] for session in others)
        own = max(errors(plain.run(sample.feeds)[tensor], truth, TINY).larger, TINY)
        pairs.append(tuple(errors(v, truth, TINY).larger / own for v in (ours, runtime, exact)))
    ratio, itself, fold = zip(*pairs, strict=True)
    return Look(
        len(pairs),
        statistics.median(ratio),
        max(ratio),
        statistics.median(itself),
        max(itself),
        statistics.median(fold),
    )


def _like(model: onnx.ModelProto, run: Any, name: str, samples: int, seed: int) -> Sample:
    made = make_samples(model, run, samples=samples, seed=seed).items
    return next(sample for sample in made if sample.name == name)

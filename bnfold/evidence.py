"""What are candidates held against? The samples, their float64 values, and the rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from bnfold.decisions import Deciding
from bnfold.feeds import Sample

if TYPE_CHECKING:
    from bnfold.sessions import IsolatedJudge

Array = NDArray[Any]
Values = dict[str, Array]
Yardstick = Literal["float64", "noise", "tolerance"]

JUDGE_SECONDS = 60.0


def as_tensors(values: Mapping[str, Any]) -> Values:
    """Outputs as arrays: sequences joined end to end, maps as rows of their sorted values."""
    return {name: _tensor(value) for name, value in values.items()}


def _tensor(value: Any) -> Array:
    if isinstance(value, dict):
        return np.array([value[key] for key in sorted(value)])
    if isinstance(value, list):
        return (
            np.concatenate([np.ravel(_tensor(item)) for item in value]) if value else np.zeros(0)
        )
    return np.asarray(value)


@dataclass
class Evidence:
    """What candidates are held against: samples, float64 values, and the rule.

    `truths` holds the original's float64 outputs of each sample, None where there are none;
    `exact` the candidate's.
    """

    outputs: list[str]
    samples: tuple[Sample, ...]
    seed: int
    atol: float | None
    rtol: float | None
    mode: Yardstick = "float64"
    deciding: Deciding = field(default_factory=Deciding)
    truths: list[Values | None] = field(init=False)
    exact: list[Values | None] = field(init=False)
    judge: IsolatedJudge | None = None
    notes: list[str] = field(default_factory=list)
    made: tuple[Sample, ...] = field(init=False)
    """The samples as they were made or given, before the judge cut any."""

    def __post_init__(self) -> None:
        self.made = self.samples
        self._forget_judge()

    def add(self, sample: Sample, truth: Values) -> None:
        """One more sample, made of another one for the judge."""
        self.samples += (sample,)
        self.truths.append(truth)
        self.exact.append(None)

    def _forget_judge(self) -> None:
        self.truths = [None] * len(self.samples)
        self.exact = [None] * len(self.samples)

    def note(self, text: str) -> None:
        """Add a note once."""
        if text not in self.notes:
            self.notes.append(text)

    def drop_judge(self, why: str) -> None:
        """Go on with the runtime's noise as the yardstick."""
        self._forget_judge()
        self.mode = "noise"
        self.note(why)

    def judge_in_float32(self, index: int) -> Values:
        """What the judge gives when it rounds; nothing where it fails."""
        from bnfold.judge import OutOfTime, Unjudgeable

        try:
            feeds = self.samples[index].feeds
            if self.judge is None:
                return {}
            return as_tensors(self.judge.run(feeds, JUDGE_SECONDS, single=True))
        except (OutOfTime, Unjudgeable):
            return {}

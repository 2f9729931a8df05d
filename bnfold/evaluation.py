"""What do both models give in float64, as far as the time allows?

Each sample is evaluated in turn. Where one does not end in half of the time, the largest batch
that does takes its place: so many of its first rows as fit, run as a sample of their own. What is
not reached at all is held against the runtime's noise, and a note says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import onnx

from bnfold.evidence import Evidence, Values, as_tensors
from bnfold.feeds import Sample
from bnfold.memory import shortage

if TYPE_CHECKING:
    from bnfold.sessions import IsolatedJudge
    from bnfold.stored import StoredModel

Say = Callable[[str, int, int], None]
MakeJudge = Callable[[Collection[str]], "IsolatedJudge"]

JUDGE_COPIES = 3
"""How often the judge holds a float32 weight's bytes: as it is read, and in float64."""


def evaluate(
    evidence: Evidence,
    models: tuple[StoredModel, StoredModel],
    judges: tuple[MakeJudge, MakeJudge],
    seconds: float,
    say: Say,
) -> None:
    """Fill `evidence` with the float64 values of both models; `seconds` bounds all of it.

    Each of `judges` makes the evaluation of one model, with some tensors as further outputs.
    """
    # Imported here: the reference evaluator takes a third of a second to load.
    from bnfold.judge import OutOfTime, Unjudgeable

    original, candidate = models

    deadline = time.monotonic() + seconds
    short = shortage(JUDGE_COPIES * original.byte_size)
    if short:
        evidence.drop_judge(f"no float64 evaluation: {short}; errors are held against the noise")
        return
    try:
        evidence.judge = judges[0](evidence.deciding.watched)
        front = front_inputs(original.proto)
        _Evaluation(evidence, evidence.judge, front, deadline, say).run()
    except OutOfTime:
        judged = sum(truth is not None for truth in evidence.truths)
        evidence.note(
            f"the float64 evaluation used its {seconds:g} s on {judged} of "
            f"{len(evidence.samples)} samples; the others are held against the runtime's noise"
        )
    except Unjudgeable as reason:
        evidence.drop_judge(f"no float64 evaluation: {reason}; errors are held against the noise")
    if not any(truth is not None for truth in evidence.truths):
        evidence.mode = "noise"
    elif evidence.mode == "float64" and not shortage(JUDGE_COPIES * candidate.byte_size):
        _evaluate_candidate(evidence, judges[1], deadline, say)


class _Evaluation:
    """The original on every sample, or on as much of each as fits."""

    def __init__(
        self,
        evidence: Evidence,
        judge: IsolatedJudge,
        front: frozenset[str],
        deadline: float,
        say: Say,
    ) -> None:
        self.evidence = evidence
        self.judge = judge
        self.front = front
        self.deadline = deadline
        self.say = say

    def run(self) -> None:
        """Raises OutOfTime at the sample that the time did not reach."""
        from bnfold.judge import OutOfTime

        rows: int | None = None
        for index, sample in enumerate(self.evidence.made):
            self.say("judge", index, 2 * len(self.evidence.made))
            if rows is not None:
                self.add(first_rows(sample, self.front, rows))
                continue
            room = self.left() / 2 if self.batch(sample) > 1 and not index else self.left()
            try:
                self.evidence.truths[index] = self.values(sample, room)
            except OutOfTime:
                rows = self.cut(sample)
                self.evidence.note(
                    f"the float64 evaluation of whole batches takes too long: it judged the first "
                    f"{rows} of each"
                )

    def cut(self, sample: Sample) -> int:
        """Judge the first row, and from its time as many as fit; how many those are."""
        from bnfold.judge import OutOfTime

        if self.batch(sample) < 2:
            raise OutOfTime
        one, start = first_rows(sample, self.front, 1), time.monotonic()
        truth = self.values(one, self.left())
        each = time.monotonic() - start
        rows = rows_that_fit(
            self.batch(sample), each, self.left(), samples=len(self.evidence.made)
        )
        if rows > 1:
            self.add(first_rows(sample, self.front, rows))
        else:
            self.evidence.add(one, truth)
        return rows

    def add(self, sample: Sample) -> None:
        """Judge a sample that was cut, and compare the models on it too."""
        self.evidence.add(sample, self.values(sample, self.left()))

    def values(self, sample: Sample, seconds: float) -> Values:
        """The float64 outputs. Raises OutOfTime."""
        from bnfold.judge import OutOfTime

        if seconds <= 0:
            raise OutOfTime
        return as_tensors(self.judge.run(sample.feeds, seconds))

    def left(self) -> float:
        """Seconds until the time is up."""
        return self.deadline - time.monotonic()

    def batch(self, sample: Sample) -> int:
        """How many rows the inputs have that share an open dimension in front."""
        return min((len(sample.feeds[name]) for name in self.front), default=1)


def rows_that_fit(batch: int, each: float, left: float, *, samples: int) -> int:
    """How many rows of `each` seconds fit into half of what is left; fewer than the batch."""
    return max(1, min(batch - 1, int(left / 2 / samples / max(each, 1e-6))))


def front_inputs(model: onnx.ModelProto) -> frozenset[str]:
    """The inputs whose first dimension is one open symbol, the batch; none where it is not one."""
    given = {tensor.name for tensor in model.graph.initializer}
    ports = [port for port in model.graph.input if port.name not in given]
    fronts = {
        port.name: dims[0].dim_param for port in ports if (dims := port.type.tensor_type.shape.dim)
    }
    symbols = {symbol for symbol in fronts.values() if symbol}
    return frozenset(n for n, s in fronts.items() if s) if len(symbols) == 1 else frozenset()


def first_rows(sample: Sample, inputs: frozenset[str], rows: int) -> Sample:
    """The sample with only the first rows of these inputs."""
    feeds: Mapping[str, Any] = {
        name: array[:rows] if name in inputs else array for name, array in sample.feeds.items()
    }
    return Sample(f"{sample.name}, first {rows}", feeds)


def _evaluate_candidate(
    evidence: Evidence, make_judge: MakeJudge, deadline: float, say: Say
) -> None:
    """The candidate too, in what is left of the time: how far apart the two functions are."""
    from bnfold.judge import OutOfTime, Unjudgeable

    count = len(evidence.samples)
    try:
        judge = make_judge(())
        for index, sample in enumerate(evidence.samples):
            say("judge", count + index, 2 * count)
            left = deadline - time.monotonic()
            if left <= 0:
                return
            if evidence.truths[index] is not None:
                evidence.exact[index] = as_tensors(judge.run(sample.feeds, left))
    except (OutOfTime, Unjudgeable):  # nothing rests on it
        return

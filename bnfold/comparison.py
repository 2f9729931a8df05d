"""Does one output of a candidate pass? The original's results, and what they allow."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold import flips, yardstick
from bnfold.errors import BnfoldError
from bnfold.evidence import Evidence, Values, as_tensors
from bnfold.report import OutputComparison
from bnfold.runtime import Level, Session
from bnfold.yardstick import SECOND_LOOK, Errors, Rule

Array = NDArray[Any]

HOPELESS = 100.0
"""How many times its limit an error may be for a longer look to be worth its time."""

WEAK = 1e-2
"""An output whose smallest limit is above one per cent proves little, and a note says so."""

DISTRUST = 1000.0
"""How many times its own sensitivity the original may lie from the judge before the judge is
the suspect: two evaluations of one function differ by rounding, not by a thousand roundings."""


@dataclass(slots=True)
class Runs:
    """What one model gave for each sample at one level; None where it could not run."""

    values: list[Values | None]
    error: BnfoldError | None = None


class Table:
    """The original's results on one provider, and what they allow a candidate."""

    def __init__(
        self, evidence: Evidence, session: Session, expected: list[Values], deployed: Runs
    ) -> None:
        self.evidence = evidence
        self.session = session
        self.expected = expected
        self.deployed = deployed
        self._perturbed: dict[int, list[Values]] = {}
        self._own: dict[str, list[Errors]] = {}

    def forget(self) -> None:
        """Errors that were taken against a judge that is not trusted any more."""
        self._own.clear()

    # -- what the original allows

    def rule(self, name: str) -> Rule:
        """The rule of an output's type."""
        return yardstick.rule_for(self.expected[0][name].dtype)

    def is_float(self, name: str) -> bool:
        """Whether the original computed a tensor, and it holds floating-point values."""
        return name in self.expected[0] and self.expected[0][name].dtype.kind in "fV"

    def truth(self, index: int, name: str) -> Array | None:
        """The float64 value of an output, if there is one of the right shape."""
        values = self.evidence.truths[index]
        found = None if values is None else values.get(name)
        if not isinstance(found, np.ndarray) or found.shape != self.expected[index][name].shape:
            return None
        return found

    def smallest_scale(self, name: str) -> float:
        """See `yardstick.scale_of`."""
        return yardstick.scale_of([values[name] for values in self.expected], self.rule(name))

    def own_errors(self, name: str) -> list[Errors]:
        """What the original is off by, per sample: against the judge, else its noise."""
        if name not in self._own:
            self._own[name] = self._measure_own(name)
        return self._own[name]

    def _measure_own(self, name: str) -> list[Errors]:
        scale = self.smallest_scale(name)
        truths = [self.truth(index, name) for index in range(len(self.expected))]
        found = [
            self.sensitivity(index, name, values[name])
            if truth is None
            else yardstick.errors(values[name], truth, scale)
            for index, (values, truth) in enumerate(zip(self.expected, truths, strict=True))
        ]
        usual = _median(found)
        return [
            own if truth is not None else own.joined(self._between_levels(index, name, usual))
            for index, (own, truth) in enumerate(zip(found, truths, strict=True))
        ]

    def _between_levels(self, index: int, name: str, usual: Errors) -> Errors:
        """Distance between the runtime's levels, unless its optimizer broke the model."""
        expected, values = self.expected[index][name], self.deployed.values[index]
        if values is None or name not in values or values[name].shape != expected.shape:
            return Errors()
        between = yardstick.errors(values[name], expected, self.smallest_scale(name))
        believable = 100 * (usual.larger + self.rule(name).floor)
        return between if between.larger <= believable else Errors()

    def sensitivity(self, index: int, name: str, reference: Array, draws: int = 2) -> Errors:
        """How far the output moves when each input moves by a rounding."""
        scale = self.smallest_scale(name)
        found = Errors()
        for values in self.perturbations(index, draws):
            if values[name].shape == reference.shape:
                found = found.joined(yardstick.errors(values[name], reference, scale))
        return found

    def perturbations(self, index: int, draws: int) -> list[Values]:
        """The original's outputs for inputs that were moved; made when first asked for."""
        made = self._perturbed.setdefault(index, [])
        feeds = self.evidence.samples[index].feeds
        while len(made) < draws:
            moved = _perturb(feeds, self.evidence.seed, len(made))
            made.append(as_tensors(self.session.run(moved)))
        return made[:draws]

    def disagreements(self, name: str) -> list[int]:
        """Samples where the judge lies farther from the original than rounding explains."""
        if self.expected[0][name].dtype.kind != "f":
            return []
        limit = DISTRUST * self.rule(name).eps
        suspect = [i for i, own in enumerate(self.own_errors(name)) if own.larger > limit]
        return [i for i in suspect if self._is_unexplained(i, name)]

    def _is_unexplained(self, index: int, name: str) -> bool:
        """Whether the original's error is more than what rounding does to the function here.

        Two witnesses: how far the original moves with its inputs, and how far the judge moves
        when it rounds to float32 itself.
        """
        truth = self.truth(index, name)
        if truth is None:
            return False
        own = self.own_errors(name)[index].larger / DISTRUST - self.rule(name).eps
        if own <= self.sensitivity(index, name, self.expected[index][name]).larger:
            return False
        rounded = self.evidence.judge_in_float32(index).get(name)
        if rounded is None or rounded.shape != truth.shape:
            return True
        return own > yardstick.errors(rounded, truth, self.smallest_scale(name)).larger

    # -- what the candidate gave

    def compare(self, name: str, level: Level, runs: Runs) -> OutputComparison:
        """One output of the candidate over all samples: the worst one speaks."""
        if runs.error is not None:
            return self._could_not_run(name, level, runs.error)
        found = [
            self._compare_sample(index, name, level, values)
            for index, values in enumerate(runs.values)
            if values is not None
        ]
        worst = max(found, key=lambda c: (not c.passed, _share(c)))
        if not worst.passed and level == "all" and self._breaks_alike(name, runs):
            return dataclasses.replace(
                worst,
                passed=True,
                detail="the runtime's optimizer breaks the original in the same way",
            )
        return worst

    def _could_not_run(self, name: str, level: Level, error: BnfoldError) -> OutputComparison:
        alike = level == "all" and self.deployed.error is not None
        if alike:
            self.evidence.note(
                f"at level {level} neither the original nor the candidate runs: {error}"
            )
        return self._comparison(name, level, passed=alike, detail=str(error))

    def _comparison(self, name: str, level: Level, **values: Any) -> OutputComparison:
        defaults: dict[str, Any] = {
            "tensor": name,
            "provider": self.session.provider,
            "level": level,
            "dtype": str(self.expected[0][name].dtype) if self.expected else "",
            "original_error": None,
            "candidate_error": None,
            "limit": None,
            "max_abs": float("nan"),
            "max_rel": float("nan"),
        }
        return OutputComparison(**{**defaults, **values})

    def _compare_sample(
        self, index: int, name: str, level: Level, values: Values
    ) -> OutputComparison:
        expected, sample = self.expected[index][name], self.evidence.samples[index].name
        actual = values.get(name)
        problem = _mismatch(expected, actual)
        if actual is None or problem:
            return self._comparison(name, level, passed=False, sample=sample, detail=problem)
        worst = yardstick.worst_element(actual, expected)
        verdict = self._verdict(index, name, actual)
        return self._comparison(
            name,
            level,
            sample=sample,
            elements=expected.size,
            max_abs=worst.max_abs,
            max_rel=worst.max_rel,
            index=worst.index,
            expected=worst.expected,
            actual=worst.actual,
            exact_error=self._exact_error(index, name),
            **verdict,
        )

    def _exact_error(self, index: int, name: str) -> float | None:
        """How far apart the two functions are: both in float64, no rounding of the runtime's."""
        truth, values = self.truth(index, name), self.evidence.exact[index]
        found = None if values is None else values.get(name)
        if truth is None or truth.dtype.kind != "f" or found is None or _mismatch(truth, found):
            return None
        return yardstick.errors(found, truth, self.smallest_scale(name)).larger

    def _verdict(self, index: int, name: str, actual: Array) -> dict[str, Any]:
        expected = self.expected[index][name]
        if expected.dtype.kind not in "fV":
            return flips.compare(self, index, name, actual)
        wrong = yardstick.misplaced(actual, expected, self.truth(index, name), self.rule(name))
        if wrong.any():
            return {
                "passed": False,
                "mismatched": int(wrong.sum()),
                "detail": f"NaN or infinity stands elsewhere in {int(wrong.sum())} elements",
            }
        if self.evidence.mode == "tolerance":
            return self._compare_plainly(expected, actual)
        return self._compare_errors(index, name, actual)

    def _compare_plainly(self, expected: Array, actual: Array) -> dict[str, Any]:
        atol, rtol = self.evidence.atol or 0.0, self.evidence.rtol or 0.0
        a, e = actual.astype(np.float64), expected.astype(np.float64)
        finite = np.isfinite(e) & np.isfinite(a)
        difference, allowed = np.abs(a - e)[finite], (atol + rtol * np.abs(e))[finite]
        outside = int((difference > allowed).sum())
        used = np.divide(
            difference, allowed, out=np.where(difference > 0, np.inf, 0.0), where=allowed > 0
        )
        return {
            "passed": outside == 0,
            "candidate_error": float(used.max(initial=0.0)),
            "limit": 1.0,
            "mismatched": outside,
            "detail": f"{outside} of {expected.size} elements outside of atol {atol:g} + "
            f"rtol {rtol:g} * |expected|"
            if outside
            else "",
        }

    def _compare_errors(self, index: int, name: str, actual: Array) -> dict[str, Any]:
        rule, own = self.rule(name), self.allowed(index, name)
        truth = self.truth(index, name)
        reference = self.expected[index][name] if truth is None else truth
        found = yardstick.errors(actual, reference, self.smallest_scale(name))
        verdict = _decide(found, own, rule)
        for draws in SECOND_LOOK:
            if verdict["passed"]:
                break
            # The original itself may jump here when its input moves by a rounding.
            own = own.joined(self.sensitivity(index, name, reference, draws))
            verdict = _decide(found, own, rule)
            if verdict["candidate_error"] > HOPELESS * verdict["limit"]:
                break
        return verdict

    def allowed(self, index: int, name: str) -> Errors:
        """The original's error here, but no less than what it usually is."""
        every = self.own_errors(name)
        return every[index].joined(_median(every))

    # -- the runtime itself

    def _breaks_alike(self, name: str, runs: Runs) -> bool:
        """Whether the runtime's optimizer gives the same wrong answer for both models."""
        if self.deployed.error is not None or self.evidence.mode == "tolerance":
            return False
        for index, (theirs, ours) in enumerate(
            zip(self.deployed.values, runs.values, strict=True)
        ):
            if theirs is None or ours is None or _mismatch(theirs[name], ours.get(name)):
                return False
            if not self._is_alike(index, name, theirs[name], ours[name]):
                return False
        return True

    def _is_alike(self, index: int, name: str, theirs: Array, ours: Array) -> bool:
        """Whether two deployed outputs are the same, however wrong both are."""
        if theirs.dtype.kind not in "fV":
            return bool(np.array_equal(theirs, ours))
        rule = self.rule(name)
        if yardstick.misplaced(ours, theirs, None, rule).any():
            return False
        limit = rule.limit(self.allowed(index, name).larger)
        return yardstick.errors(ours, theirs, self.smallest_scale(name)).larger <= limit

    def judge_the_runtime(self, candidate: Runs) -> None:
        """A note where the runtime's own optimizer breaks the original."""
        where = f"{self.session.provider} at level all"
        if self.deployed.error is not None:
            self.evidence.note(
                f"the runtime cannot run the original on {where}: {self.deployed.error}"
                + ("" if candidate.error else "; the candidate runs")
            )
            return
        for name in self.outputs_broken():
            repaired = candidate.error is None and self.compare(name, "all", candidate).passed
            alike = repaired and self._breaks_alike(name, candidate)
            self.evidence.note(
                f"the runtime's own optimizer breaks the original on {where}: output {name} is "
                "not what the model computes"
                + ("; the candidate avoids it" if repaired and not alike else "")
            )

    def note_what_proves_little(self) -> None:
        """Notes on outputs that could not tell a right candidate from a wrong one."""
        for name in self.evidence.outputs:
            values = [found[name] for found in self.expected]
            if values[0].dtype.kind not in "fV":
                continue
            if len(values) > 1 and all(np.array_equal(values[0], v) for v in values[1:]):
                self.evidence.note(f"output {name} is the same on every sample: it proves little")
            if self.evidence.mode == "tolerance":
                continue
            best = min(self.rule(name).limit(own.larger) for own in self.own_errors(name))
            if best > WEAK:
                self.evidence.note(
                    f"output {name} of the original is so far from exact that a difference below "
                    f"{best:.0e} of its scale cannot be told from rounding"
                )

    def outputs_broken(self) -> Iterator[str]:
        """The outputs that the deployment level gets wrong, by the candidate's own rule."""
        for name in self.evidence.outputs:
            for index, values in enumerate(self.deployed.values):
                if values is None or self.expected[index][name].dtype.kind not in "fV":
                    continue
                if _mismatch(self.expected[index][name], values.get(name)):
                    yield name
                    break
                if not self._verdict(index, name, values[name])["passed"]:
                    yield name
                    break


def _median(errors: Sequence[Errors]) -> Errors:
    """Median of each criterion."""
    return Errors(
        statistics.median(e.norm for e in errors), statistics.median(e.worst for e in errors)
    )


def _decide(found: Errors, own: Errors, rule: Rule) -> dict[str, Any]:
    """Both criteria; the one that is nearer to its limit is reported."""
    rows = [(e, o, rule.limit(o)) for e, o in ((found.norm, own.norm), (found.worst, own.worst))]
    error, mine, limit = max(rows, key=lambda row: row[0] / row[2])
    return {
        "passed": all(e <= bound for e, _, bound in rows),
        "original_error": mine,
        "candidate_error": error,
        "limit": limit,
    }


def _share(comparison: OutputComparison) -> float:
    """How much of its limit a comparison used; what has no limit counts by its flips."""
    if comparison.limit and comparison.candidate_error is not None:
        return comparison.candidate_error / comparison.limit
    return float(comparison.mismatched)


def _mismatch(expected: Array, actual: Array | None) -> str:
    """What is wrong with an output before any number is looked at; empty if nothing."""
    if actual is None:
        return "the candidate has no such output"
    if actual.dtype != expected.dtype:
        return f"expected {expected.dtype}, got {actual.dtype}"
    if actual.shape != expected.shape:
        return f"expected shape {expected.shape}, got {actual.shape}"
    return ""


def _perturb(feeds: Mapping[str, Array], seed: int, draw: int) -> dict[str, Array]:
    """A copy of the inputs, each number moved by a rounding or two."""
    rng = np.random.default_rng([seed, draw])
    return {name: _moved(array, rng) for name, array in feeds.items()}


def _moved(array: Array, rng: np.random.Generator) -> Array:
    if array.dtype.kind not in "fV":
        return array
    eps = yardstick.rule_for(array.dtype).eps
    signs = rng.choice(np.array([-1.0, 1.0]), array.shape)
    return (array.astype(np.float64) * (1.0 + eps * signs)).astype(array.dtype)

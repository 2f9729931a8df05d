"""How far may two results lie apart? Errors against a reference, and what they are allowed.

A float32 evaluation of a network is a random walk of roundings around the float64 one. A correct
fold takes other roundings, so its distance from the truth is another draw of the same size: it
may be a little larger or smaller than the original's, not ten times larger. A wrong weight moves
the result by a share of itself that does not depend on the type. Hence the rule

    e(candidate) <= FACTOR * e(original) + floor

with `e` relative to the reference, once by norm and once by worst element. The numbers, for
float32 (eps = 1.2e-7): honest models sit at e = 1e-7 to 1e-5 and fold to 0.3 to 3 times that;
one weight tensor that is off by 1 % moves an output by 1e-4 to 1e-2. FACTOR 10 and a floor of
8 eps = 1e-6 stand between the two. In the 16-bit types one per cent is only ten (float16)
or one (bfloat16) eps, so there the factor is 4 and the floor two eps or one; the floor is for
outputs whose original happens to be exact. The error of the original is taken per sample, yet
never below the median of all samples, so that one lucky sample does not accuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a floating-point type allows: `factor` times the original's error, plus `floor`."""

    factor: float
    floor: float
    eps: float
    tiny: float
    """The smallest normal number."""
    largest: float

    def limit(self, own: float) -> float:
        """What a candidate may be off by where the original is off by `own`."""
        return self.factor * own + self.floor


SECOND_LOOK = (2, 8)
"""How often the inputs are moved by a rounding before a candidate is called wrong."""

_ALLOWED = {"float64": (10.0, 64.0), "float32": (10.0, 8.0), "float16": (4.0, 2.0)}
_NARROW = (4.0, 1.0)  # bfloat16 and whatever is narrower: (factor, floor in eps)


def rule_for(dtype: np.dtype[Any]) -> Rule:
    """The rule of a floating-point type."""
    factor, ulps = _ALLOWED.get(dtype.name, _NARROW)
    info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    eps = float(info.eps)
    return Rule(factor, ulps * eps, eps, float(info.tiny), float(info.max))


@dataclass(frozen=True, slots=True)
class Errors:
    """Relative distance from a reference: by norm, and of the worst element against its scale."""

    norm: float = 0.0
    worst: float = 0.0

    @property
    def larger(self) -> float:
        """The worse of the two."""
        return max(self.norm, self.worst)

    def joined(self, other: Errors) -> Errors:
        """The larger of each."""
        return Errors(max(self.norm, other.norm), max(self.worst, other.worst))


def errors(actual: Array, reference: Array, smallest_scale: float) -> Errors:
    """Distance of two arrays of one shape, over the elements that are finite in both.

    `smallest_scale` keeps an output that is all zero, or far below what it is elsewhere, from
    dividing by nothing.
    """
    a, r = actual.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    both = np.isfinite(a) & np.isfinite(r)
    a, r = a[both], r[both]
    if not a.size:
        return Errors()
    difference = np.abs(a - r)
    scale = max(float(np.abs(r).max()), smallest_scale)
    # Divided by the scale first: squares of large values would overflow, of small ones vanish.
    length = max(float(np.linalg.norm(r / scale)), smallest_scale / scale)
    norm = float(np.linalg.norm(difference / scale)) / length
    return Errors(norm, float(difference.max()) / scale)


DYNAMIC_RANGE = 2.0**-10
"""How small a sample's output may be beside the largest of all samples before errors are taken
against the latter: a sigmoid that gives 1e-8 for one input and 1 for another is computed to an
absolute error, and its small value holds no digit. One per cent of a value a thousand times
smaller than this is still beyond the limits above."""


def scale_of(arrays: list[Array], rule: Rule) -> float:
    """The smallest scale to divide by, from an output's values on all samples."""
    finite = (a[np.isfinite(a)] for a in arrays)
    largest = max((float(np.abs(a).max(initial=0.0)) for a in finite), default=0.0)
    return max(DYNAMIC_RANGE * largest, rule.tiny)


def misplaced(actual: Array, original: Array, reference: Array | None, rule: Rule) -> Array:
    """Where NaN or infinity stands in one of the two and not in the other, as a mask.

    Where the original overflowed although the true value fits its type, or nearly does not fit,
    a candidate may do better or as badly.
    """
    a, o = actual.astype(np.float64), original.astype(np.float64)
    same = (np.isfinite(a) & np.isfinite(o)) | (np.isnan(a) & np.isnan(o)) | (a == o)
    if reference is None:
        return np.asarray(~same)
    fits = np.isfinite(reference) & (np.abs(reference) <= rule.largest)
    rescued = ~np.isfinite(o) & np.isfinite(a) & fits
    brink = np.isfinite(reference) & (np.abs(reference) > 0.9 * rule.largest)
    return np.asarray(~(same | rescued | brink))


@dataclass(frozen=True, slots=True)
class Worst:
    """The element where candidate and original differ most."""

    max_abs: float
    max_rel: float
    index: tuple[int, ...]
    expected: float | int | bool | None
    actual: float | int | bool | None


def worst_element(actual: Array, expected: Array) -> Worst:
    """Largest absolute and relative difference of two arrays of one shape, and where.

    Nothing is said of arrays that hold no numbers.
    """
    if not actual.size or actual.dtype.kind not in "fiubV":
        return Worst(0.0, 0.0, (), None, None)
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    same = (a == e) | (np.isnan(a) & np.isnan(e))
    with np.errstate(invalid="ignore"):  # infinity minus infinity stands in `same`
        difference = np.where(same, 0.0, np.abs(a - e))
    difference = np.where(np.isnan(difference), np.inf, difference)
    where = np.unravel_index(int(difference.argmax()), difference.shape)
    relative = np.divide(
        difference, np.abs(e), out=np.zeros_like(difference), where=(e != 0) & np.isfinite(e)
    )
    return Worst(
        float(difference.max()),
        float(relative.max()),
        tuple(int(i) for i in where),
        expected[where].item(),
        actual[where].item(),
    )

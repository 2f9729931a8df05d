"""What do paired timings say? Medians, bootstrap intervals, warm-up and outliers.

Every round times the original, the original again and the candidate next to each other, so that
what disturbs the machine disturbs all three alike; the ratio of a round cancels it. The median of
the ratios is the estimate, and resampling whole rounds gives its interval (the percentile
bootstrap: B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Ratio:
    """A median of paired ratios and its interval."""

    median: float
    interval: tuple[float, float]

    @property
    def half_width(self) -> float:
        """Half of the interval, relative to the median."""
        low, high = self.interval
        return (high - low) / (2 * self.median)

    @property
    def includes_one(self) -> bool:
        """Whether 'no difference' lies in the interval."""
        return self.interval[0] <= 1.0 <= self.interval[1]


def paired_ratio(numerator: Floats, denominator: Floats, seed: int) -> Ratio:
    """Median of numerator/denominator, pair by pair, with a bootstrap 95 % interval."""
    ratios = numerator / denominator
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(ratios), (RESAMPLES, len(ratios)))
    medians = np.median(ratios[draws], axis=1)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(medians, (tail, 100 - tail))
    return Ratio(float(np.median(ratios)), (float(low), float(high)))


def spread(times: Floats) -> float:
    """The interquartile range."""
    low, high = np.percentile(times, (25, 75))
    return float(high - low)


def count_outliers(times: Floats) -> int:
    """Times that are slower than three interquartile ranges above the third quartile (Tukey)."""
    third = float(np.percentile(times, 75))
    return int((times > third + 3 * spread(times)).sum())


def is_warm(times: list[float], window: int = 3, tolerance: float = 0.1) -> bool:
    """Whether the last runs are no faster than those before by more than `tolerance`."""
    if len(times) < 2 * window:
        return False
    recent, before = times[-window:], times[-2 * window : -window]
    return min(recent) >= (1 - tolerance) * min(before)


def is_beyond_noise(speedup: Ratio, control: Ratio) -> bool:
    """Whether a speedup exceeds 1 and what the original shows against itself.

    The speedup's interval must exclude 1 and lie on one side of the control's: a shift that the
    control shows too is the machine's.
    """
    low, high = speedup.interval
    above = low > max(1.0, control.interval[1])
    below = high < min(1.0, control.interval[0])
    return above or below


def is_stable(control: Ratio, tolerance: float = 0.05) -> bool:
    """Whether the original against itself is at 1: by its interval, or within `tolerance`."""
    near = abs(control.median - 1) <= tolerance and control.half_width <= 2 * tolerance
    return near or (control.includes_one and control.half_width <= 2 * tolerance)

"""The statistics of paired timings, on numbers whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from bnfold import pairing
from bnfold.pairing import Ratio


def noisy(center: float, count: int, seed: int) -> pairing.Floats:
    """Times with a long tail to the slow side, as machines give them."""
    rng = np.random.default_rng(seed)
    return np.asarray(center * (1 + 0.02 * rng.gamma(2.0, size=count)))


def test_a_doubled_cost_is_measured() -> None:
    """Twice the time is a ratio of one half, and the interval holds it."""
    ratio = pairing.paired_ratio(noisy(1, 100, 0), noisy(2, 100, 1), seed=0)
    assert ratio.median == pytest.approx(0.5, rel=0.02)
    assert ratio.interval[0] < 0.5 < ratio.interval[1]


def test_what_disturbs_both_cancels() -> None:
    """A machine that slows down tenfold in the middle does not move the paired ratio."""
    drift = np.concatenate([np.ones(50), 10 * np.ones(50)])
    ratio = pairing.paired_ratio(drift * noisy(1, 100, 0), drift * noisy(1, 100, 1), seed=0)
    assert ratio.median == pytest.approx(1, rel=0.02)


def test_equal_streams_are_rarely_significant() -> None:
    """A thing timed against itself is called faster or slower in under five of a hundred runs."""
    alarms = 0
    for seed in range(100):
        a, b, c = (noisy(1, 60, 3 * seed + k) for k in range(3))
        speedup = pairing.paired_ratio(a, c, seed)
        control = pairing.paired_ratio(a, b, seed)
        alarms += pairing.is_stable(control) and pairing.is_beyond_noise(speedup, control)
    assert alarms <= 5


def test_same_seed_same_interval() -> None:
    """The bootstrap is reproducible."""
    a, b = noisy(1, 50, 0), noisy(1, 50, 1)
    assert pairing.paired_ratio(a, b, 3) == pairing.paired_ratio(a, b, 3)


@pytest.mark.parametrize(
    ("speedup", "control", "beyond"),
    [
        ((1.2, 1.3), (0.99, 1.01), True),
        ((0.7, 0.8), (0.99, 1.01), True),
        ((0.9, 1.3), (0.99, 1.01), False),
        ((1.02, 1.05), (0.95, 1.06), False),
        ((1.2, 1.3), (1.15, 1.25), False),
    ],
)
def test_beyond_noise(
    speedup: tuple[float, float], control: tuple[float, float], beyond: bool
) -> None:
    """A claim needs an interval that leaves out 1 and what the control shows."""
    ratios = (Ratio(sum(i) / 2, i) for i in (speedup, control))
    assert pairing.is_beyond_noise(*ratios) is beyond


@pytest.mark.parametrize(
    ("interval", "stable"),
    [((0.99, 1.01), True), ((0.95, 1.04), True), ((1.2, 1.3), False), ((0.5, 1.6), False)],
)
def test_stable(interval: tuple[float, float], stable: bool) -> None:
    """A control that is off, or too wide to tell, is unstable."""
    assert pairing.is_stable(Ratio(sum(interval) / 2, interval)) is stable


def test_outliers() -> None:
    """Two spikes among even times are counted."""
    times = np.concatenate([np.linspace(1, 1.1, 50), [5, 9]])
    assert pairing.count_outliers(times) == 2


def test_warm_up_ends_when_nothing_gets_faster() -> None:
    """Falling times are cold, flat ones are warm."""
    assert not pairing.is_warm([9, 8, 7, 5, 4, 3])
    assert not pairing.is_warm([1, 1, 1])
    assert pairing.is_warm([9, 3, 3, 1, 1, 1, 1, 1.01, 1])

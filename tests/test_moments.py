"""Mean and variance over batches are those of the whole, and keep their digits."""

from __future__ import annotations

import numpy as np
import pytest

from bnfold import moments
from bnfold.moments import Moments


def moments_of(data: np.ndarray, sizes: list[int], axis: int | None = 1) -> Moments:
    found = Moments(axis)
    for part in np.split(data, np.cumsum(sizes)):
        found.add(part)
    return found


@pytest.mark.parametrize("sizes", [[], [1], [7, 1, 30], [0, 13, 0], [2] * 20])
@pytest.mark.parametrize("shape", [(50, 6), (50, 6, 5), (50, 6, 3, 2), (50, 6, 2, 3, 2)])
def test_any_cut_gives_the_whole(shape: tuple[int, ...], sizes: list[int]) -> None:
    """Of every channel, over all other axes, by the population's formula."""
    data = np.random.default_rng(0).normal(3, 2, shape)
    axes = tuple(axis for axis in range(len(shape)) if axis != 1)
    found = moments_of(data, sizes)
    assert found.count == data.size // 6
    np.testing.assert_allclose(found.mean, data.mean(axis=axes), rtol=1e-13)
    np.testing.assert_allclose(found.variance, data.var(axis=axes), rtol=1e-12)


def test_without_an_axis_every_element_is_a_channel() -> None:
    data = np.random.default_rng(0).normal(3, 2, (40, 4, 3))
    found = moments_of(data, [9, 9], axis=None)
    assert found.count == 40
    np.testing.assert_allclose(found.variance, data.var(axis=0), rtol=1e-12)


def test_a_large_mean_costs_no_digits() -> None:
    """The mean of squares minus the squared mean would say 0 here, or less."""
    data = np.array([[1e9 + step] for step in (-0.5, 0.5)] * 1000)
    naive = np.square(data).mean() - np.square(data.mean())
    assert abs(naive - 0.25) > 0.2
    assert moments_of(data, [10, 700]).variance[0] == pytest.approx(0.25, rel=1e-9)


def test_float16_is_summed_in_float64() -> None:
    """Its own sum would overflow at 65504, and stop growing long before."""
    data = np.full((10_000, 1), 60_000, np.float16)
    found = moments_of(data, [4_000])
    assert found.mean[0] == float(np.float16(60_000))
    assert found.variance[0] == 0


def test_a_large_batch_is_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which changes the memory it takes, and nothing else."""
    data = np.random.default_rng(0).normal(3, 2, (100, 6))
    whole = moments_of(data, [])
    monkeypatch.setattr(moments, "BLOCK_ELEMENTS", 50)
    np.testing.assert_allclose(moments_of(data, []).variance, whole.variance, rtol=1e-13)

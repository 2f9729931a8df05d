"""Bounds of magnitudes tell what a scale makes of a tensor, and never say yes where it fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bnfold.affine import Affine
from bnfold.constants import FLOATS, Constant
from bnfold.extents import BLOCK, Extent
from bnfold.reasons import Refusal

TYPES = list(FLOATS.values())


def numbers(rng: np.random.Generator, dtype: np.dtype[Any], count: int) -> np.ndarray:
    """Of very different magnitudes, some of them zero."""
    values = rng.standard_normal(count) * 10.0 ** rng.integers(-6, 3, count)
    values[rng.random(count) < 0.1] = 0
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, 7, 3 * BLOCK + 5])
def test_bounds_are_those_of_the_numbers(dtype: np.dtype[Any], count: int) -> None:
    """The smallest magnitude that is not zero, and the largest, wherever they stand."""
    array = numbers(np.random.default_rng(count), dtype, count)
    array[-1] = np.array(-(2.0**-9)).astype(dtype)
    found = Extent.of(array, adds=True)
    magnitudes = np.abs(array.astype(np.float64))
    assert found.smallest == magnitudes[magnitudes > 0].min()
    assert found.largest == magnitudes.max()
    assert found.total == pytest.approx(magnitudes.sum())
    assert found.count == count


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_seen(dtype: np.dtype[Any], bad: float) -> None:
    """One infinity or NaN among the numbers, and nothing fits."""
    array = np.ones(BLOCK + 3)
    array[BLOCK // 2] = bad
    found = Extent.of(array.astype(dtype))
    assert found.largest == np.inf
    assert not found.scaled(np.zeros((1,))).fits(dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_zeros(dtype: np.dtype[Any]) -> None:
    """Nothing is lost of a tensor of zeros, nor of one with no elements; transposed ones count."""
    assert Extent.of(np.zeros((3, 4)).astype(dtype)).scaled(np.ones((1, 4))).fits(dtype)
    assert Extent.of(np.zeros((0, 4)).astype(dtype)).fits(dtype)
    assert Extent.of(np.arange(1.0, 13).reshape(3, 4).T.astype(dtype)).smallest == 1


@pytest.mark.parametrize("dtype", TYPES)
def test_no_promise_is_broken(dtype: np.dtype[Any]) -> None:
    """Whatever fits by its bounds is stored with no refusal and nothing flushed, at any scale."""
    rng = np.random.default_rng(11)
    limit = {np.float16: 8, np.float64: 308}.get(dtype.type, 40)
    seen = {True: 0, False: 0}
    for _ in range(400):
        weight = numbers(rng, dtype, 60).reshape(6, 10)
        power = rng.integers(limit - 8, limit) * rng.choice([-1, 1])
        scale = rng.uniform(0.1, 9, (6, 1)) * 10.0**power
        scale[rng.random((6, 1)) < 0.1] = 0
        folded = Constant.of_array(weight).through(Affine.of_scale(scale))
        extent = folded.extent()
        assert extent is not None
        fits = extent.fits(dtype)
        seen[fits] += 1
        if fits:
            stored = Constant.of_array(weight).through(Affine.of_scale(scale))
            np.testing.assert_array_equal(stored.stored(), (scale * weight).astype(dtype))
            assert stored.flushed == 0
    assert min(seen.values()) > 40, "both answers were seen"


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_ordinary_weights_fit(dtype: type) -> None:
    """Of weights as networks have them nothing has to be computed to know that they are held."""
    weight = np.random.default_rng(0).normal(0, 0.02, (200, 300)).astype(dtype)
    scale = np.random.default_rng(1).uniform(0.2, 3, (200, 1))
    extent = Constant.of_array(weight).through(Affine.of_scale(scale)).extent()
    assert extent is not None
    assert extent.fits(np.dtype(dtype))


def test_a_shift_is_not_bounded() -> None:
    """It may cancel what was there, so such a constant is computed to be checked."""
    folded = Constant.of_array(np.float32([1, 2])).through(Affine.of_shift(np.array([-1.0])))
    assert folded.extent() is None
    with pytest.raises(Refusal):
        Constant.of_array(np.float32([1, 2])).through(Affine.of_shift(np.array([1e39]))).check()

"""What are mean and variance of data that comes in batches? In float64, one pass, no cancellation.

Each batch is summed around its own mean, and batches are merged by Chan's formula: there is no
difference of two large sums of squares, which loses all digits where the mean is far from zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float64 = NDArray[np.float64]

BLOCK_ELEMENTS = 1 << 20
"""So many values are held in float64 at a time."""


class Moments:
    """Count, mean and sum of squared deviations of every channel, over batches of any size."""

    def __init__(self, axis: int | None = 1) -> None:
        self.axis = axis
        """The channels' axis in the batches; None where every element of a row is a channel."""
        self.count = 0
        """Values a channel has had so far."""
        self.mean: Float64 = np.zeros(1)
        self._squares: Float64 = np.zeros(1)

    @property
    def variance(self) -> Float64:
        """Of the population, as a batch normalization divides by it: no n - 1."""
        return self._squares / max(self.count, 1)

    def add(self, batch: Array) -> None:
        """Take in a batch (N, C, ...) of any float type; an empty one changes nothing."""
        rows = max(1, BLOCK_ELEMENTS * len(batch) // max(batch.size, 1))
        for start in range(0, len(batch), rows):
            self._merge(batch[start : start + rows].astype(np.float64))

    def _merge(self, block: Float64) -> None:
        kept = set(range(1, block.ndim)) if self.axis is None else {self.axis}
        axes = tuple(axis for axis in range(block.ndim) if axis not in kept)
        count = int(np.prod([block.shape[axis] for axis in axes], dtype=np.int64))
        if not count:
            return
        mean = block.mean(axis=axes, keepdims=True)
        squares = np.square(block - mean).sum(axis=axes)
        step = mean.squeeze(axes) - self.mean
        total = self.count + count
        # Chan, Golub, LeVeque 1979: two groups' deviations, and that of their means.
        self._squares = self._squares + squares + np.square(step) * (self.count * count / total)
        self.mean = self.mean + step * (count / total)
        self.count = total

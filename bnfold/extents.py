"""How small and how large are the numbers of a tensor? So what a scale makes of them is known.

Rounding is monotonous: where the smallest and the largest magnitude come out as normal numbers,
every one between them does, and none of them has to be computed to know it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from bnfold import pool

Array = NDArray[Any]

SMALLEST_NORMAL: dict[np.dtype[Any], float] = {
    np.dtype(np.float64): 2.0**-1022,
    np.dtype(np.float32): 2.0**-126,
    np.dtype(ml_dtypes.bfloat16): 2.0**-126,
    np.dtype(np.float16): 2.0**-14,
}
"""Below this a number is subnormal (IEEE 754; bfloat16 has the exponent of float32)."""

LARGEST = {np.dtype(np.float16): 65504.0, np.dtype(ml_dtypes.bfloat16): 2.0**128 - 2.0**120}
"""The largest number of each 16-bit type."""

UNDERFLOW_SHARE = 1e-3
"""The largest share of a 16-bit weight's absolute sum that rounding to zero may take."""

HALVES_TO_ZERO = 2.0**-25
"""The largest magnitude that float16 rounds to zero."""
SLACK = 1.0 - 1e-6
"""Room for the rounding of a sum in float64."""

BLOCK = 1 << 18
"""Elements that are looked at together: they stay in the cache."""
BITS: dict[int, Any] = {2: np.uint16, 4: np.uint32, 8: np.uint64}


@dataclass(frozen=True, slots=True)
class Extent:
    """Bounds of the magnitudes of some numbers.

    `smallest` is of those that are not zero, infinite where all are; `largest` is infinite where
    one is not finite. `total` is a lower bound of their sum, 0 where nobody asked for it.
    """

    smallest: float
    largest: float
    total: float
    count: int

    @classmethod
    def of(cls, array: Array, *, adds: bool = False) -> Extent:
        """Look at every number of an array once, and add them up if asked for."""
        flat = array.ravel("K").astype(array.dtype.newbyteorder("="), copy=False)
        if flat.dtype not in SMALLEST_NORMAL:
            flat = flat.astype(np.float64)
        blocks = (flat[start : start + BLOCK] for start in range(0, flat.size, BLOCK))
        tasks = (partial(_extent, block, adds) for block in blocks)
        count = pool.threads() if flat.size > BLOCK else 1
        return reduce(cls.united, pool.run(tasks, count), cls(np.inf, 0.0, 0.0, 0))

    def united(self, other: Extent) -> Extent:
        """That of both together."""
        return Extent(
            min(self.smallest, other.smallest),
            max(self.largest, other.largest),
            self.total + other.total,
            self.count + other.count,
        )

    def scaled(self, scale: Array) -> Extent:
        """That of the products with a scale that broadcasts to the numbers, in float64."""
        factors = np.abs(scale)
        some = factors[factors > 0]
        with np.errstate(all="ignore"):
            return Extent(
                float(self.smallest * some.min(initial=np.inf)),
                float(self.largest * factors.max(initial=0.0))
                if self.largest < np.inf
                else np.inf,
                float(self.total * factors.min(initial=np.inf)) if self.total else 0.0,
                self.count,
            )

    def fits(self, dtype: np.dtype[Any]) -> bool:
        """Whether all are surely held by this type: finite, with no subnormal to be flushed and
        no underflow to be refused."""
        with np.errstate(all="ignore"):
            smallest, largest = np.array([self.smallest, self.largest]).astype(dtype)
        if not np.isfinite(largest):
            return False
        if dtype == np.float16:
            lost = self.count * HALVES_TO_ZERO
            return bool(smallest > 0) or lost <= SLACK * UNDERFLOW_SHARE * self.total
        return bool(smallest >= SMALLEST_NORMAL[dtype])

    def survives(self, dtype: np.dtype[Any]) -> bool:
        """Whether surely none that is not zero becomes zero."""
        with np.errstate(all="ignore"):
            return bool(np.float64(self.smallest).astype(dtype) > 0)


def _extent(block: Array, adds: bool) -> Extent:
    """By the bits: without the sign, those of larger numbers are larger, NaN above infinity."""
    bits = BITS[block.dtype.itemsize]
    magnitudes = block.view(bits) & bits(2 ** (8 * block.itemsize - 1) - 1)
    largest = magnitudes.max()
    magnitudes -= bits(1)  # zero becomes the largest of all
    smallest = magnitudes.min() + bits(1) if largest else largest
    low, high = np.array([smallest, largest], bits).view(block.dtype).astype(np.float64)
    return Extent(
        float(low) if low > 0 else np.inf,
        float(high) if np.isfinite(high) else np.inf,
        float(np.abs(block.astype(np.float64)).sum()) if adds else 0.0,
        block.size,
    )

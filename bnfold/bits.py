"""How many binary digits do some numbers need? What few digits hold, sums add up exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.constants import Constant, is_float, row_blocks

Array = NDArray[Any]

DIGITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
"""Binary digits that each type holds."""

FEW = {"float64": 16, "float32": 16, "float16": 9, "bfloat16": 8}
"""Digits up to which the numbers of a weight, taken together, are few: with a float32 weight of
so many, products with activations of 8 bits are exact. Numbers that were trained need more: one
alone 24, and several, each of another size, some more still."""

COARSE = 8
"""Digits after the point up to which a number of an addend may be meant to be met exactly."""


@dataclass(frozen=True, slots=True)
class Bits:
    """The places of the lowest and highest digits set in any of some numbers."""

    lowest: int
    highest: int

    @classmethod
    def of(cls, array: Array) -> Bits | None:
        """Those of finite numbers; None where all are zero. ValueError where one is not finite."""
        magnitudes = np.abs(np.asarray(array, np.float64))
        magnitudes = magnitudes[magnitudes != 0]
        if not magnitudes.size:
            return None
        if not np.isfinite(magnitudes).all():
            raise ValueError("not finite")
        return cls(int(lowest_digits(magnitudes).min()), int(np.frexp(magnitudes)[1].max()))

    def united(self, other: Bits | None) -> Bits:
        """Those of both together."""
        if other is None:
            return self
        return Bits(min(self.lowest, other.lowest), max(self.highest, other.highest))

    @property
    def span(self) -> int:
        """All are whole multiples of one power of two, and smaller than 2**span of it."""
        return self.highest - self.lowest


def lowest_digits(magnitudes: Array) -> Array:
    """The place of the lowest digit that is set in each number above zero; 0 is that of ones."""
    fractions, exponents = np.frexp(magnitudes)
    whole = np.ldexp(fractions, 53).astype(np.int64)
    return np.asarray(exponents - 53 + np.frexp((whole & -whole).astype(np.float64))[1] - 1)


def are_few(array: Array, limit: int) -> bool:
    """Whether so many digits hold all the numbers, as multiples of one power of two."""
    try:
        bits = Bits.of(array)
    except ValueError:
        return False
    return bits is None or bits.span <= limit


def has_few_bits(constant: Constant) -> bool:
    """Whether FEW digits hold a constant; read no further than to where they do not."""
    if not is_float(constant.dtype):
        return True
    limit = FEW[constant.dtype.name]
    if not constant.shape or not row_blocks(constant.shape):
        return are_few(constant.exact(), limit)
    rows, all_bits = constant.rows(), None
    for part in row_blocks(constant.shape):
        try:
            bits = Bits.of(rows(part))
        except ValueError:
            return False
        all_bits = bits if all_bits is None else all_bits.united(bits)
        if all_bits is not None and all_bits.span > limit:
            return False
    return True


def are_coarse(array: Array) -> Array:
    """Which numbers are multiples of 2**-COARSE, as a threshold or a bias by design is."""
    scaled = np.ldexp(np.asarray(array, np.float64), COARSE)
    return np.asarray(scaled == np.rint(scaled))


def are_powers_of_two(array: Array) -> bool:
    """Whether all numbers are powers of two, of either sign."""
    return bool((np.abs(np.frexp(array)[0]) == 0.5).all())


def largest_sum(array: Array) -> float:
    """The largest sum of magnitudes over a slice along the first two axes or the last one, in
    units of the lowest digit: no sum of products with ones is larger, whichever axis it is over.
    """
    bits = Bits.of(array)
    if bits is None:
        return 0.0
    units = np.ldexp(np.abs(np.asarray(array, np.float64)), -bits.lowest)
    if units.ndim < 2:
        return float(units.max())
    axes = {0, 1, units.ndim - 1}
    sums = (units.sum(tuple(a for a in range(units.ndim) if a != axis)) for axis in axes)
    return max(float(s.max()) for s in sums)

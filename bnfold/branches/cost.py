"""Is one operator cheaper than two? Floating-point operations plus bytes moved, per position.

All branches of a sum have the same output positions, so what one position costs decides, and
sizes that are not known cancel out. Weights are read once: their bytes are shared out over the
positions where these are known.
"""

from __future__ import annotations

from dataclasses import dataclass

from bnfold.branches.linear import Geometry


@dataclass(frozen=True, slots=True)
class Scale:
    """What the estimate depends on: bytes of an element, positions of the output (0: unknown)."""

    width: int
    positions: int = 0

    def operator(self, geometry: Geometry) -> float:
        """A convolution: it reads its input and writes its output once."""
        moved = geometry.channels * geometry.step + geometry.outputs
        weights = geometry.multiplications / self.positions if self.positions else 0.0
        return 2.0 * geometry.multiplications + self.width * (moved + weights)

    def affine(self, channels: int) -> float:
        """A scale and a shift, read and written."""
        return 2.0 * channels + self.width * 2.0 * channels

    def addition(self, channels: int) -> float:
        """Two operands are read, one result is written."""
        return channels + self.width * 3.0 * channels

    def copy(self, channels: int) -> float:
        """A part of a concatenation."""
        return self.width * 2.0 * channels

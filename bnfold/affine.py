"""What travels? `Affine`: x -> scale * x + shift, two float64 arrays that broadcast to x."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.reasons import Reason, Refusal

Array = NDArray[Any]
Float64 = NDArray[np.float64]


LARGEST = 1 << 24
"""Numbers that an affine may hold where nothing that it is made of holds half as many."""


def room_for(shape: Sequence[int], *parts: Array) -> None:
    """Raises Refusal where an array of this shape would be out of proportion to its parts.

    A file of some hundred bytes can ask for terabytes: by a Tile, or by a Slice of few channels.
    """
    count = math.prod(int(size) for size in shape)
    if count > LARGEST and count > 2 * max((part.size for part in parts), default=0):
        raise Refusal(Reason.TOO_LARGE, f"an affine of {count} numbers would be needed")


def joint_shape(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that all broadcast to. Raises Refusal where there is none.

    Sizes that a file does not tell may turn out to be different ones on two ways to one value.
    """
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        sizes = " and ".join("x".join(map(str, shape)) for shape in shapes)
        sentence = f"the sizes {sizes} contradict each other"
        raise Refusal(Reason.CONTRADICTION, sentence) from None


@cache
def constant(value: float, rank: int) -> Float64:
    """One number at a rank."""
    array = np.full((1,) * rank, value)
    array.flags.writeable = False
    return array


def collapse(array: Float64) -> Float64:
    """Shrink to 1 every dimension along which all elements are equal: what is uniform, shows."""
    if array.size == 1:
        return array
    for axis, size in enumerate(array.shape):
        if size > 1:
            first = array.take([0], axis)
            if (array == first).all():
                array = first
    return array


def is_all(array: Float64, value: float) -> bool:
    """Whether every element is this number. One alone is asked in Python, which is far quicker."""
    return array.item() == value if array.size == 1 else bool((array == value).all())


def is_same(first: Float64, second: Float64) -> bool:
    """Whether two arrays are equal, to the last bit."""
    if first.size == 1 == second.size:
        return first.ndim == second.ndim and first.item() == second.item()
    return np.array_equal(first, second)


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """`scale * x + shift`, each of the rank of x, each dimension 1 or that of x.

    Both are collapsed, so a dimension above 1 means that the values differ along it.
    """

    scale: Float64
    shift: Float64

    def __post_init__(self) -> None:
        scale, shift = (np.asarray(a, np.float64) for a in (self.scale, self.shift))
        if scale.ndim != shift.ndim:
            raise ValueError(f"scale has rank {scale.ndim}, shift {shift.ndim}")
        if not scale.size * shift.size:  # of no elements it is as good as any other
            scale, shift = np.ones((1,) * scale.ndim), np.zeros((1,) * scale.ndim)
        for name, array in (("scale", scale), ("shift", shift)):
            array = collapse(array)
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @classmethod
    def of_collapsed(cls, scale: Float64, shift: Float64) -> Affine:
        """Without another look at arrays that are collapsed already: a search makes thousands."""
        affine = object.__new__(cls)
        object.__setattr__(affine, "scale", scale)
        object.__setattr__(affine, "shift", shift)
        return affine

    @classmethod
    def identity(cls, rank: int) -> Affine:
        """The affine that changes nothing, for values of this rank."""
        return cls.of_collapsed(constant(1.0, rank), constant(0.0, rank))

    @classmethod
    def of_scale(cls, scale: Float64) -> Affine:
        """Scale only."""
        return cls(scale, constant(0.0, scale.ndim))

    @classmethod
    def of_shift(cls, shift: Float64) -> Affine:
        """Shift only."""
        return cls(constant(1.0, shift.ndim), shift)

    @property
    def size(self) -> int:
        """How many numbers the larger of its arrays holds."""
        return max(self.scale.size, self.shift.size)

    @property
    def rank(self) -> int:
        """The rank of the values it applies to."""
        return self.scale.ndim

    @property
    def axes(self) -> frozenset[int]:
        """The axes along which it is not uniform."""
        return frozenset(
            axis
            for axis in range(self.rank)
            if self.scale.shape[axis] > 1 or self.shift.shape[axis] > 1
        )

    @property
    def is_pure_scale(self) -> bool:
        """No shift."""
        return is_all(self.shift, 0)

    @property
    def is_pure_shift(self) -> bool:
        """Scale 1 everywhere."""
        return is_all(self.scale, 1)

    @property
    def is_identity(self) -> bool:
        """Changes nothing."""
        return self.is_pure_scale and self.is_pure_shift

    @property
    def is_invertible(self) -> bool:
        """No scale is zero."""
        return bool((self.scale != 0).all())

    @property
    def is_positive(self) -> bool:
        """Every scale is above zero."""
        return bool((self.scale > 0).all())

    @property
    def is_finite(self) -> bool:
        """Neither infinite nor NaN anywhere."""
        return bool(np.isfinite(self.scale).all() and np.isfinite(self.shift).all())

    @property
    def scale_part(self) -> Affine:
        """The same without the shift."""
        return Affine.of_collapsed(self.scale, constant(0.0, self.rank))

    @property
    def shift_part(self) -> Affine:
        """The same without the scale."""
        return Affine.of_collapsed(constant(1.0, self.rank), self.shift)

    def equals(self, other: Affine) -> bool:
        """The same function, to the last bit."""
        return is_same(self.scale, other.scale) and is_same(self.shift, other.shift)

    def after(self, first: Affine) -> Affine:
        """Composition, `self(first(x))`: `(s2, t2) ∘ (s1, t1) = (s2*s1, s2*t1 + t2)`."""
        parts = (self.scale, self.shift, first.scale, first.shift)
        shape = joint_shape(*(part.shape for part in parts))
        if self.size * first.size > LARGEST:
            room_for(shape, *parts)
        return Affine(self.scale * first.scale, self.scale * first.shift + self.shift)

    def inverse(self) -> Affine:
        """`y -> (y - shift) / scale`. Raises ZeroDivisionError where a scale is zero."""
        if not self.is_invertible:
            raise ZeroDivisionError("a scale is zero")
        if self.is_pure_shift:
            return Affine.of_collapsed(self.scale, -self.shift)
        return Affine(1 / self.scale, -self.shift / self.scale)

    def shift_before(self) -> Float64:
        """The shift u with `scale * (x + u) = scale * x + shift`; 0 where both are zero.

        Raises ZeroDivisionError where the scale is zero and the shift is not.
        """
        scale, shift = np.broadcast_arrays(self.scale, self.shift)
        if ((scale == 0) & (shift != 0)).any():
            raise ZeroDivisionError("a scale is zero where the shift is not")
        return np.asarray(np.divide(shift, scale, out=np.zeros(scale.shape), where=scale != 0))

    def apply(self, value: Array) -> Float64:
        """The affine of an array, in float64."""
        return np.asarray(self.scale * value.astype(np.float64) + self.shift)

    def moved(self, movement: Callable[[Float64], Float64]) -> Affine:
        """Both arrays through one movement (a transpose, a cut, ...)."""
        return Affine(movement(self.scale), movement(self.shift))

    def reranked(self, shape: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Affine:
        """With dimensions of 1 added or dropped: `shape` tells the new shape from the old one."""
        scale, shift = (a.reshape(shape(a.shape)) for a in (self.scale, self.shift))
        return Affine.of_collapsed(scale, shift)

    def transposed(self, permutation: Sequence[int]) -> Affine:
        """For `Transpose(x)`, given the affine of x."""
        scale, shift = (a.transpose(permutation) for a in (self.scale, self.shift))
        return Affine.of_collapsed(scale, shift)

    def reshaped(self, shape: Sequence[int], full: Sequence[int]) -> Affine:
        """Broadcast each array to `full`, then reshape it to `shape`."""
        room_for(full, self.scale, self.shift)
        return self.moved(lambda a: np.broadcast_to(a, full).reshape(shape))

    def taken(self, indices: Array, axis: int) -> Affine:
        """For a Gather, Slice or Split along `axis`; a uniform axis stays so."""
        return self.moved(lambda a: a.take(indices, axis) if a.shape[axis] > 1 else a)

    @staticmethod
    def joined(parts: Sequence[Affine], sizes: Sequence[int], axis: int) -> Affine:
        """For a Concat along `axis` of values with these sizes there."""

        ends = np.cumsum([0, *sizes])

        def join(arrays: Sequence[Float64], fill: float) -> Float64:
            shape = [max(a.shape[d] for a in arrays) for d in range(arrays[0].ndim)]
            shape[axis] = int(ends[-1])
            room_for(shape, *arrays)
            whole = np.full(shape, fill)
            for array, start, end in zip(arrays, ends[:-1], ends[1:], strict=True):
                if array.size > 1 or array.item() != fill:
                    whole[(slice(None),) * axis + (slice(start, end),)] = array
            return whole

        return Affine(join([p.scale for p in parts], 1.0), join([p.shift for p in parts], 0.0))

"""Which elements does a Slice take along an axis? As its specification clamps, and runtimes do.

Python's own slices differ from it: counting down, a start before the first element is the first
element here and nothing there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

ENDLESS = frozenset({(1 << 31) - 1, (1 << 63) - 1})
"""Ends that mean "all of it". Counting down, ONNX Runtime takes everything to the first element
there, where the specification takes nothing."""


def is_ambiguous(end: int, step: int) -> bool:
    """Whether runtimes and the specification differ in what is taken."""
    return step < 0 and end in ENDLESS


def cut_out(
    array: NDArray[Any],
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None,
    steps: Sequence[int] | None,
) -> NDArray[Any] | None:
    """What a Slice takes of an array; None where its bounds do not fit together."""
    places = [*range(len(starts))] if axes is None else [*axes]
    strides = [1] * len(starts) if steps is None else [*steps]
    fits = len(starts) == len(ends) == len(places) == len(strides) and 0 not in strides
    if not fits or any(not -array.ndim <= axis < array.ndim for axis in places):
        return None
    for axis, start, end, step in zip(places, starts, ends, strides, strict=True):
        array = array.take(taken(start, end, step, array.shape[axis]), axis)
    return array


def taken(start: int, end: int, step: int, size: int) -> range:
    """The indices that are taken of an axis of this size, in their order."""
    low, high = (0, size) if step > 0 else (-1, size - 1)
    first, last = (bound + size if bound < 0 else bound for bound in (start, end))
    first = min(max(first, 0), high) if size else 0
    last = -1 if is_ambiguous(end, step) else min(max(last, low), high)
    return range(first, last, step) if size else range(0)

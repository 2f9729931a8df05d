"""The arithmetic of merging: weights of convolutions, in float64, as arrays and nothing else.

A weight has the shape `(C_out, C_in / group, *taps)`. A matrix product is one without taps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.branches.windows import Window, positions

Array = NDArray[Any]


def diagonal(channels: int, spatial: int) -> Array:
    """The identity: group = channels, `(C, 1, 1, ...)`."""
    return np.ones((channels, 1, *(1,) * spatial))


def averaging(channels: int, shape: Sequence[int]) -> Array:
    """The mean over a window: group = channels, `(C, 1, *shape)`."""
    return np.full((channels, 1, *shape), 1.0 / float(np.prod(shape, dtype=np.int64)))


def scaled(weight: Array, scale: Array) -> Array:
    """The affine behind it: each output channel times its scale (one, or one for all)."""
    return np.asarray(weight * scale.reshape(-1, *(1,) * (weight.ndim - 1)))


def regrouped(weight: Array, group: int, fewer: int) -> Array:
    """The same function with fewer groups, of which each holds some of the old ones.

    `(C_out, C_in / group, *k) -> (C_out, C_in / fewer, *k)`, zero between the old groups.
    """
    if group == fewer:
        return weight
    ratio = group // fewer
    out, fan_in, *shape = weight.shape
    result = np.zeros((fewer, ratio, out // group, ratio, fan_in, *shape))
    parts = weight.reshape(fewer, ratio, out // group, fan_in, *shape)
    for index in range(ratio):
        result[:, index, :, index] = parts[:, index]
    return result.reshape(out, ratio * fan_in, *shape)


def embedded(weight: Array, part: Sequence[Window], whole: Sequence[Window]) -> Array:
    """The same function with the taps of a larger window, zero where it has none."""
    if tuple(part) == tuple(whole):
        return weight
    result = np.zeros((*weight.shape[:2], *(axis.count for axis in whole)))
    places = tuple(positions(p, w) for p, w in zip(part, whole, strict=True))
    result[(slice(None), slice(None), *places)] = weight
    return result


def composed(
    inner: Array,
    outer: Array,
    group: int,
    inner_windows: Sequence[Window],
    outer_windows: Sequence[Window],
    whole: Sequence[Window],
) -> Array:
    """`outer(inner(x))` as one weight; both have `group` groups.

    `(M, C/g, *p), (O, M/g, *q) -> (O, C/g, *r)`: tap `q` of the outer and `p` of the inner meet at
    the offset `stride * q + p`, so their products add up there.
    """
    middle, fan_in = inner.shape[:2]
    out = outer.shape[0]
    result = np.zeros((group, out // group, fan_in, *(axis.count for axis in whole)))
    first = inner.reshape(group, middle // group, fan_in, *inner.shape[2:])
    flat = first.reshape(group, middle // group, -1)
    second = outer.reshape(group, out // group, middle // group, *outer.shape[2:])
    for tap in np.ndindex(*outer.shape[2:]):
        product = (second[(..., *tap)] @ flat).reshape(group, out // group, *first.shape[2:])
        places = tuple(
            positions(moved(p, q, index), w)
            for p, q, index, w in zip(inner_windows, outer_windows, tap, whole, strict=True)
        )
        result[(slice(None), slice(None), slice(None), *places)] += product
    return result.reshape(out, fan_in, *result.shape[3:])


def moved(inner: Window, outer: Window, tap: int) -> Window:
    """The taps of the inner window as one tap of the outer sees them."""
    first = inner.first + inner.stride * (outer.first + tap * outer.step)
    return Window(first, inner.step, inner.count)


def carried(bias: Array, outer: Array, group: int) -> Array:
    """What a constant before the outer operator adds to its result: `(M,) -> (O,)`."""
    out, fan_in = outer.shape[:2]
    sums = outer.reshape(group, out // group, fan_in, -1).sum(-1)
    parts = np.broadcast_to(bias, group * fan_in).reshape(group, fan_in, 1)
    return np.asarray((sums @ parts).reshape(out))

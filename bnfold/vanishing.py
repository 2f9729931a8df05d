"""Does a fold lose a channel, because the products of its weights and a scale are too small?

Numbers below the smallest normal one of a type become zero (float16 keeps its subnormals). That
is meant for what carries nothing, and is a stop where a channel lives of it: no more than
UNDERFLOW_SHARE of the absolute sum of any slice of a weight, along an output or an input channel,
may vanish. Two kinds of numbers are not counted, since the original has nothing of them either:

- weights that are subnormal in the file, other than in float16;
- those of a channel that its normalization makes nothing of: by its statistics `|s| X` is below
  the smallest normal number, or below the rounding `u |t|` of the shift that it is added to.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bnfold.bounds import UNITS
from bnfold.constants import Array, Constant, is_float, row_blocks
from bnfold.extents import SMALLEST_NORMAL, UNDERFLOW_SHARE
from bnfold.reasons import Reason, Refusal
from bnfold.rules.registry import Source


def check_channels(constant: Constant, old: Constant | None, source: Source | None) -> None:
    """Raises Refusal where more than the share of a channel would vanish."""
    if not constant.vanished or not constant.size or not constant.rank:
        return
    share = worst_share(constant, old, least_scale(source, constant.dtype))
    if share > UNDERFLOW_SHARE:
        sentence = f"{100 * share:.2g} % of a weight's channel would be lost to underflow"
        raise Refusal(Reason.UNDERFLOW, sentence)


def least_scale(source: Source | None, dtype: np.dtype[np.generic]) -> float:
    """The smallest scale of a channel that carries something: weights that shrink by less than it
    belong to such as carry nothing. 0 where no statistics tell."""
    if source is None or source.typical is None:
        return 0.0
    scale, shift, typical = np.broadcast_arrays(
        np.abs(source.affine.scale), np.abs(source.affine.shift), source.typical
    )
    carries = scale * typical > np.maximum(SMALLEST_NORMAL[dtype], UNITS[dtype.name] * shift)
    return float(scale[carries].min(initial=np.inf))


def worst_share(constant: Constant, old: Constant | None, least: float) -> float:
    """The largest share of a slice that vanishes, of what counts."""
    axes = sorted({0, min(1, constant.rank - 1)})
    lost, total = ([np.zeros(constant.shape[axis]) for axis in axes] for _ in range(2))
    for part, exact, gone in vanishing(constant, old, least):
        for axis, sums, whole in zip(axes, lost, total, strict=True):
            others = tuple(a for a in range(constant.rank) if a != axis)
            at = part if axis == 0 else slice(None)
            sums[at] += np.where(gone, exact, 0).sum(others)
            whole[at] += exact.sum(others)
    pairs = zip(lost, total, strict=True)
    return max(float((a / np.where(b > 0, b, 1)).max(initial=0.0)) for a, b in pairs)


def vanishing(
    constant: Constant, old: Constant | None, least: float
) -> Iterator[tuple[slice, Array, Array]]:
    """Some rows after the others: their magnitudes, and which of them vanish and count."""
    rows = constant.rows()
    is_comparable = old is not None and old.shape == constant.shape and is_float(old.dtype)
    before = old.rows() if old is not None and is_comparable else None
    for part in row_blocks(constant.shape):
        exact = np.abs(rows(part))
        gone = (exact > 0) & is_lost(exact, constant.dtype)
        if before is not None:
            was = np.abs(before(part))
            gone &= ~is_lost(was, constant.dtype) & (exact >= least * was)
        yield part, exact, gone


def is_lost(magnitudes: Array, dtype: np.dtype[np.generic]) -> Array:
    """Which magnitudes become zero in a type."""
    with np.errstate(all="ignore"):
        rounded = magnitudes.astype(dtype)
    smallest = 0.0 if dtype == np.float16 else SMALLEST_NORMAL[dtype]
    return np.asarray((rounded == 0) | (rounded.astype(np.float64) < smallest))

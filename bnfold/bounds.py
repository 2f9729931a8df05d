"""How much can the rounding of a fold change, before anything is run?

A fold stores `fl(s W)` and `fl(s b + t)` for an affine `s x + t` of `x = sum(W_i a_i) + b`, or
going forward `fl(W s)` and `fl(b + sum(W t))`. Each stored number is off by at most the unit of
rounding `u` of its type, relative to itself. To first order the output `y` then moves by at most

    |change| <= u * (|s| * sum(|W_i a_i|) + |s b + t|) <= u * (k * |s| * X + |t|)

where `X` is the magnitude of `x` and `k = (sum(|W_i a_i|) + |b|) / |x|` the condition of the
operator's own sum. The fold multiplies a whole row of `W` by one number, so it leaves `k` as it
was: the original loses the same factor when it sums. What the fold answers for is the rest,

    bound = u * max_c(|s_c| X_c + |t_c|) / max_c(Y_c)

relative to the magnitude `Y` of the output, per unit of `k`. The magnitudes are those of the
statistics: `X = |mean| + sqrt(var)` and `Y = |beta| + |gamma| sqrt(var / (var + epsilon))`.
Forward, what the operator sums is `y`, channel by channel, and the same quotient bounds the sum.

`bound / u`, the condition of the affine, is 1 to 10 for trained networks. It is large where `s x`
and `t` cancel: a mean far above the standard deviation, as in channels whose variance is near
zero. Such a fold is flagged, and so is one whose bound is large because its type has few digits:
of such, 16 bits do not resolve those above RESOLVED (see `magnitudes`). Flagged is also a scale
that amplifies by AMPLIFIES or more: there any deviation of the input from its statistics, a
rounding included, grows by that factor.

Parallel branches that become one operator store `fl(sum(W_j))`, rounded once, and

    |change| <= u * sum_i(|sum_j(W_ij)| |a_i|) + ... <= sum_j(what branch j alone would change)

so relative to `sum_j(Y_j)` the bound is that of the worst branch: the condition of its affine, 1
where it has none, the product where affines stand in a row. What the branches cancel among
themselves the original loses as well, when it adds them.

A constant Mul or Add tells no magnitudes. A scale alone has the bound `u`; with a shift the bound
is not known and stays None.

Where a value `x` has other readers, the fold stores `s x + t` in its place and they take the
inverse. They saw `x` itself, and now see it off by `u |s x + t| / |s|`, which is

    lost = |t / s| / X

units more than before: a large shift leaves no digits of a small value. Up to LOST units pass, as
many as the proof lets pass, and the bound is then that of the worse side; beyond them the fold is
refused. Here a statistic is believed up to BELIEVED only. A fold that hides behind a variance of
1e30 would be right for values of 1e15, and is a fault of the file; everywhere else such a channel
is constant before and after, and nothing is lost. Where nothing tells the magnitude it is taken
to be 1, as networks keep their values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from bnfold.affine import Affine, Array
from bnfold.constants import Constant
from bnfold.plan import Plan
from bnfold.rules.registry import Source

CANCELS = 2.0**10
"""A condition from which on a fold is flagged: ten bits of its weights cancel."""
RESOLVED = {2.0**-11: 2.0**-4, 2.0**-8: 2.0**-3}
"""The largest bound with which float16 and bfloat16 resolve a result, by unit of rounding."""
COARSE = 2.0**-5
"""A bound from which on a fold is flagged, in any type."""
AMPLIFIES = 1e6
"""A scale from which on a fold is flagged, whatever the statistics say of its input."""

LOST = 2.0**4
"""Units of rounding that the other readers of a folded value may lose."""
BELIEVED = 2.0**16
"""Magnitudes that statistics may tell of a value: the range of float16."""

UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""The unit of rounding of each type that weights are stored in."""

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rounding:
    """The numbers of a fold, under the names that a site gives them."""

    scale_range: Range | None
    shift_range: Range | None
    bound: float | None
    flagged: bool


def rounding(source: Source, unit: float, lost: float = 0.0) -> Rounding:
    """What rounding can change where an affine is stored in this unit, relative to the output.

    `lost` are the units that other readers lose by it.
    """
    affine = source.affine
    known = condition(source)
    if known is not None:
        known = max(known, lost and 1 + lost)
    largest = float(np.abs(affine.scale).max(initial=0.0))
    return Rounding(
        scale_range=_range(affine.scale),
        shift_range=_range(affine.shift),
        bound=None if known is None else known * unit,
        flagged=largest >= AMPLIFIES or cancels(known, unit),
    )


def cancels(known: float | None, unit: float) -> bool:
    """Whether a condition is to be flagged: by itself, or by what its type leaves of a result."""
    return known is not None and (known >= CANCELS or known * unit >= COARSE)


def in_a_row(conditions: Iterable[float | None]) -> float | None:
    """The condition of affines one after the other; None where one is not known."""
    product = 1.0
    for known in conditions:
        if known is None:
            return None
        product *= known
    return product


def side_by_side(conditions: Iterable[float | None]) -> float | None:
    """The condition of a sum of branches, relative to their magnitudes: that of the worst."""
    found = list(conditions)
    return None if None in found else max((c for c in found if c is not None), default=1.0)


def condition(source: Source) -> float | None:
    """`max(|s| X + |t|) / max(Y)` over the channels; None where no magnitudes are known."""
    affine = source.affine
    if affine.is_pure_scale:
        return 1.0
    if source.typical is None or source.result is None:
        return None
    reach = float((np.abs(affine.scale) * source.typical + np.abs(affine.shift)).max(initial=0.0))
    scale = float(np.max(source.result, initial=0.0))
    return reach / scale if scale > 0 else (float("inf") if reach > 0 else 0.0)


def lost(affine: Affine, magnitude: Array | None) -> float:
    """Units of rounding that are lost where `affine(x)` is stored for those who read `x`.

    `magnitude` is that of x by channels, in any shape; None where it is not known.
    """
    if affine.is_pure_scale:
        return 0.0
    if not affine.is_invertible:
        return float("inf")
    shift = float(np.abs(affine.shift_before()).max(initial=0.0))
    if magnitude is None:
        return shift
    known = float(magnitude[magnitude <= BELIEVED].max(initial=0.0))
    return shift / known if known > 0 else float("inf")


def unit(plan: Plan) -> float:
    """The coarsest rounding of a constant that the plan stores; 0 where it stores none."""
    return max((UNITS.get(c.dtype.name, 0.0) for c in _stored(plan)), default=0.0)


def _stored(plan: Plan) -> Iterator[Constant]:
    for draft in plan.drafts.values():
        yield from draft.constants.values()
        if draft.bias is not None:
            yield draft.bias


def _range(values: Array) -> Range | None:
    """The least and the greatest; None where there are no values."""
    if not values.size:
        return None
    return float(values.min()), float(values.max())

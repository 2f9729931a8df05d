"""Do 16 bits hold and resolve what a fold lets pass through them?

A fold moves an affine: values on its way hold other numbers than before, of a size that the
statistics of the normalization tell. Backward they hold its result, of size `Y`; forward its
input, of size `X`; the other operands of a sum hold what they did over the scale. In float16 and
bfloat16 a fold is made only where

- a product holds what the shift is then added to, of size `|s| X + |t|`;
- REACH times that size is within the type, and times the count of what is added up: forward `n`
  elements at most that much larger, backward the elements of a mean `sqrt(n)` times, by chance;
- behind a Cast from a wider type the size is that of normal numbers, and the type resolves the
  affine there: by its condition (see `bounds`) no more than LOST units of rounding are lost;
- the bound on what rounding may change, `u` times the condition, is at most RESOLVED.

A constant Mul or Add tells no sizes. They are taken to be 1 behind a Cast, as networks keep their
values; over sums and means no value may grow at all, where nothing tells how large it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bnfold.bounds import LOST, RESOLVED, condition, unit
from bnfold.constants import FLOATS
from bnfold.extents import LARGEST, SMALLEST_NORMAL
from bnfold.graph import Dim, Shape, Value
from bnfold.plan import Draft, Plan
from bnfold.reasons import Reason, Refusal
from bnfold.rules.registry import Source

REACH = 8.0
"""How many times its typical size a value may be: a normal deviate is so once in 10**15."""

UNKNOWN = 64
"""Elements along an axis whose number is not known."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the source's input and result are, and the scale between them."""

    data: float
    result: float
    reach: float
    """How large the scaled input and the shift are, before they cancel."""
    largest: float
    """The largest scale."""
    is_told: bool
    """Whether statistics tell it."""

    @classmethod
    def of(cls, source: Source) -> Sizes:
        """Those of the statistics; without them, of values about 1."""
        scale = np.abs(source.affine.scale)
        least, largest = float(scale[scale > 0].min(initial=np.inf)), float(scale.max(initial=0))
        least = least if least < np.inf else 1.0
        shift = float(np.abs(source.affine.shift).max(initial=0))
        if source.typical is None or source.result is None:
            return cls(1 / least, largest + shift, largest + shift, largest, False)
        reach = (scale * source.typical + np.abs(source.affine.shift)).max()
        result, data = float(source.result.max()), float(source.typical.max())
        return cls(data, result, float(reach), largest, True)


def check_sixteen_bits(source: Source, plan: Plan) -> None:
    """Raises Refusal where 16 bits would not hold or resolve what the plan makes of them."""
    narrow = [value for value in plan.moved if is_narrow(value)]
    known = condition(source)
    check_bound(None if known is None else known * unit(plan), unit(plan))
    if not narrow:
        return
    wide = source_type(plan, source)
    sizes, growth = Sizes.of(source), growth_of(plan)
    for value in narrow:
        check_range(plan, value, sizes, growth, is_cast=wide.itemsize > 2)
        if wide.itemsize > 2 and value not in plan.made:
            check_digits(source, value)


def is_narrow(value: Value) -> bool:
    """Whether it is of a 16-bit float type."""
    return value.is_float and FLOATS[value.elem_type].itemsize == 2


def source_type(plan: Plan, source: Source) -> np.dtype[np.generic]:
    """The type that the affine is computed in: that of its result."""
    node = next(draft.node for draft in plan.bypassed if draft.bypass is source)
    value = node.outputs[0]
    known = FLOATS.get(value.elem_type) if value is not None else None
    return known if known is not None else np.dtype(np.float16)


def check_bound(bound: float | None, unit: float) -> None:
    """Raises Refusal where weights of 16 bits, of this unit of rounding, would not resolve an
    affine."""
    if bound is not None and bound > RESOLVED.get(unit, np.inf):
        sentence = f"rounding to 16 bits may change {bound:.2g} of the result's magnitude"
        raise Refusal(Reason.ILL_CONDITIONED, sentence)


def check_digits(source: Source, value: Value) -> None:
    """Raises Refusal where a value behind a Cast would lose what the subtraction saved."""
    known = condition(source)
    if known is not None and known > LOST:
        sentence = f"{value.name} would lose most digits: a shift {known:.2g} times the result"
        raise Refusal(Reason.ILL_CONDITIONED, sentence)


def check_range(plan: Plan, value: Value, sizes: Sizes, growth: float, *, is_cast: bool) -> None:
    """Raises Refusal where a value would be larger than its type holds, or too small."""
    is_made = value in plan.made
    if is_made and sizes.is_told and not sizes.reach <= LARGEST[FLOATS[value.elem_type]]:
        sentence = f"{value.name} would be about {sizes.reach:.2g} before its bias is added"
        raise Refusal(Reason.OVERFLOW, sentence)
    if not is_cast and growth == 1:  # the type has held these numbers before
        return
    factor = factor_of(plan, value)
    if not sizes.is_told and growth > 1 and factor > 1:
        sentence = f"nothing tells how large {value.name} is, which would grow {factor:.2g}-fold"
        raise Refusal(Reason.OVERFLOW, sentence)
    size = size_of(plan, value, sizes) * (math.sqrt(growth) if is_made else growth)
    dtype = FLOATS[value.elem_type]
    if not REACH * size <= LARGEST[dtype]:
        sentence = f"{value.name} would be about {size:.2g}, and {REACH:g} times that too large"
        raise Refusal(Reason.OVERFLOW, sentence)
    if is_cast and 0 < size < SMALLEST_NORMAL[dtype]:
        raise Refusal(Reason.UNDERFLOW, f"{value.name} would be about {size:.2g}, a subnormal")


def factor_of(plan: Plan, value: Value) -> float:
    """How many times larger a value would be than it is."""
    if value in plan.made:
        return float(np.abs(plan.made[value].scale).max(initial=0.0))
    scale = np.abs(plan.left[value].scale)
    return float(1 / scale[scale > 0].min(initial=1.0))


def size_of(plan: Plan, value: Value, sizes: Sizes) -> float:
    """How large a value would be: as the result, as the input, or as another operand over the
    scale, that is taken to be as large as the result, and 1 at least."""
    if value not in plan.made:
        return sizes.data
    factor = factor_of(plan, value)
    if factor <= sizes.largest * (1 + 1e-9):
        return sizes.result
    return factor * max(sizes.result, 1.0)


# ------------------------------------------------------------------------- growth


def growth_of(plan: Plan) -> float:
    """How many elements are added up, or stand for one, on the way of a plan; 1 for none."""
    drafts = (d for d in plan.drafts.values() if d.bypass is None and not d.absorbs)
    return math.prod(gathered(draft) for draft in drafts)


def gathered(draft: Draft) -> float:
    """Elements of the inputs for each of the output's, where there are more of them."""
    output = draft.node.outputs[0]
    computed = [v for v in draft.node.inputs if v is not None and v.is_float and not v.is_constant]
    if output is None or not computed:
        return 1.0
    counts = [ratio(value.shape, output.shape) for value in computed]
    return max(1.0, sum(counts))


def ratio(shape: Shape | None, result: Shape | None) -> float:
    """How many elements of one shape there are for each of another."""
    if shape is None or result is None:
        return 1.0
    if len(shape) == len(result):
        return math.prod(one_axis(a, b) for a, b in zip(shape, result, strict=True))
    known = [[d for d in dims if isinstance(d, int)] for dims in (shape, result)]
    if len(known[0]) < len(shape) or len(known[1]) < len(result):
        return 1.0
    return math.prod(known[0]) / max(1, math.prod(known[1]))


def one_axis(dim: Dim, result: Dim) -> float:
    """Elements along an axis for each of the result's; an equal symbol is as many."""
    if dim == result and dim is not None:
        return 1.0
    if isinstance(dim, int) and isinstance(result, int):
        return dim / max(1, result)
    return UNKNOWN if result == 1 else 1.0

"""Does a fold keep exact arithmetic exact, where a step looks at it?

A fold there is made only if every number that it stores is held without rounding and the sums
stay exact: weights times powers of two, or whole numbers so small that sums of their products
with activations of ACTIVATION fit into the type. Where a value was rounded on the way, powers of
two alone leave the rounding as it was. Behind anything else `5.0` may come out as `4.9999995`,
and a Floor makes it 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from bnfold.affine import Affine
from bnfold.bits import DIGITS, are_few, are_powers_of_two, largest_sum
from bnfold.constants import Array, Constant, is_float
from bnfold.graph import Value
from bnfold.plan import Draft, Plan
from bnfold.reasons import Reason, Refusal
from bnfold.wholeness import Grade, Wholeness, is_addend

ACTIVATION = 2.0**8
"""The largest activation that such networks compute with, in units of its lowest digit."""

WIDTH = 16
"""Digits of a scale or shift up to which it is a number by design."""


def check_plan(wholeness: Wholeness, plan: Plan) -> None:
    """Raises Refusal where a plan would round what a step looks at."""
    grades = [wholeness.grade(v) for v in changed(plan) if wholeness.decides(v)]
    if not grades:
        return
    is_exact = min(grades) is Grade.EXACT
    for draft in plan.bypassed:
        assert draft.bypass is not None
        check_affine(draft.node.name, draft.bypass.affine, is_exact)
    for draft in plan.drafts.values():
        if draft.bypass is None:
            check_draft(draft, is_exact)


def check_merge(wholeness: Wholeness, result: Value, made: Iterable[Constant]) -> None:
    """Raises Refusal where the constants of a merged operator would round what a step looks at."""
    if wholeness.decides(result):
        is_exact = wholeness.grade(result) is Grade.EXACT
        for constant in made:
            check_constant(constant, None, is_exact, is_addend=constant.rank < 2)


def changed(plan: Plan) -> Iterator[Value]:
    """The values that would be computed in another way than now."""
    yield from plan.moved
    for draft in plan.drafts.values():
        if draft.bypass is not None or draft.constants or draft.attributes or draft.bias:
            yield from (value for value in draft.node.outputs if value is not None)


def check_affine(name: str, affine: Affine, is_exact: bool) -> None:
    """Raises Refusal for an affine that is itself rounded: by 1/40, or by a trained number."""
    if is_exact:
        keeps = are_few(affine.scale, WIDTH) and are_few(affine.shift, WIDTH)
    else:
        keeps = affine.is_pure_scale and are_powers_of_two(affine.scale)
    if not keeps:
        raise inexact(f"{name} rounds")


def check_draft(draft: Draft, is_exact: bool) -> None:
    """Raises Refusal where the constants of an operator would be rounded, or its sums."""
    for index, constant in draft.constants.items():
        is_added = is_addend(draft.op_type, index)
        check_constant(constant, draft.former(index), is_exact, is_addend=is_added)
    if draft.bias is not None:
        check_constant(draft.bias, None, is_exact, is_addend=True)
    numbers = [v for v in draft.attributes.values() if isinstance(v, float)]
    if not are_few(np.array(numbers), WIDTH):
        raise inexact(f"an attribute of {draft.op_type} is rounded")


def check_constant(
    constant: Constant, old: Constant | None, is_exact: bool, *, is_addend: bool
) -> None:
    """Raises Refusal where a constant is not held exactly, or no longer adds up exactly.

    What is rounded already, and all that 16 bits hold, is rounded otherwise by anything but a
    power of two.
    """
    if not is_float(constant.dtype):
        return
    exact = constant.exact()
    with np.errstate(all="ignore"):
        if not np.array_equal(exact.astype(constant.dtype).astype(np.float64), exact):
            raise inexact("a folded parameter would be rounded")
    if (old is not None and is_rescaled(exact, old)) or not exact.any():
        return
    if not is_exact or constant.dtype.itemsize == 2:
        raise inexact("a folded parameter would have them rounded otherwise")
    factor = 1.0 if is_addend else ACTIVATION
    if factor * largest_sum(exact) > 2.0 ** DIGITS[constant.dtype.name]:
        raise inexact("sums with a folded parameter would no longer be exact")


def is_rescaled(exact: Array, old: Constant) -> bool:
    """Whether every number is its former self times a power of two: the same digits."""
    if old.shape != exact.shape or not is_float(old.dtype):
        return False
    before = old.exact()
    kept = before != 0
    if exact[~kept].any():
        return False
    with np.errstate(all="ignore"):
        ratio = exact[kept] / before[kept]
    return are_powers_of_two(ratio) and np.array_equal(ratio * before[kept], exact[kept])


def inexact(why: str) -> Refusal:
    """The refusal of a fold that would round exact numbers."""
    return Refusal(Reason.INEXACT, f"a step behind it looks at exact numbers, and {why}")

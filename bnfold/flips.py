"""May whole numbers and booleans differ? Where what decided them was a tie within rounding.

`bnfold.decisions` finds what decided. Where it cannot, the original is the measure: as many
elements may differ as a rounding of the inputs makes differ in it, times a factor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bnfold.decisions import CHOICES, Decision
from bnfold.yardstick import SECOND_LOOK, Errors

if TYPE_CHECKING:
    from bnfold.comparison import Table

Array = NDArray[Any]

FLIP_FACTOR, FLIP_FLOOR = 10.0, 1e-5
"""Where nothing tells what decided, ten times as many may flip as a rounding of the inputs flips,
and one in a hundred thousand where that shows none: a large map always holds some ties."""


def compare(table: Table, index: int, name: str, actual: Array) -> dict[str, Any]:
    """The verdict on one sample of an output that holds no floating-point numbers."""
    expected = table.expected[index][name]
    differing = int((actual != expected).sum())
    verdict: dict[str, Any] = {"passed": differing == 0, "mismatched": differing}
    if differing == 0 or table.evidence.mode == "tolerance":
        return verdict
    decision = table.evidence.deciding.sole(name)
    # An index says what was chosen only as long as it is a number.
    if decision and (expected.dtype.kind in "iu" or decision.op_type not in CHOICES):
        return verdict | _by_margin(table, index, decision, expected, actual)
    return verdict | _by_count(table, index, name, differing)


def _by_margin(
    table: Table, index: int, decision: Decision, expected: Array, actual: Array
) -> dict[str, Any]:
    values = [_looked_at(table, index, tensor) for tensor in decision.inputs]
    scale = max(decision.scale(values), float(np.finfo(np.float64).tiny))
    margins = decision.margins(values, expected, actual)
    margin = float(margins.max()) / scale
    own, limit = Errors(), 0.0
    for draws in (0, *SECOND_LOOK):
        own, limit = _what_rounding_moves(table, index, decision, draws)
        if margin <= limit:
            break
    return {
        "passed": margin <= limit,
        "original_error": own.worst,
        "candidate_error": margin,
        "limit": limit,
        "margin": margin,
        "detail": f"{margins.size} of {expected.size} elements differ: {decision.op_type} decided "
        f"there by up to {margin:.1e} of the scale of {' and '.join(decision.inputs)}, of which "
        f"rounding explains {limit:.1e}",
    }


def _what_rounding_moves(
    table: Table, index: int, decision: Decision, draws: int
) -> tuple[Errors, float]:
    """The original's own error of what was looked at, and the margin that this excuses."""
    own, limit = Errors(), 0.0
    for name in filter(table.is_float, decision.inputs):
        here = table.allowed(index, name)
        if draws:  # the original itself may jump here when its input moves by a rounding
            reference = table.expected[index][name]
            here = here.joined(table.sensitivity(index, name, reference, draws))
        own = own.joined(here)
        # Two values that are compared may be off in opposite directions.
        limit = max(limit, 2 * table.rule(name).limit(here.worst))
    return own, limit


def _looked_at(table: Table, index: int, name: str) -> Array:
    """What a decision saw, in float64: as the judge has it, as computed, given or constant."""
    truth = table.truth(index, name) if name in table.expected[index] else None
    if truth is not None:
        return np.asarray(truth, np.float64)
    feeds, constants = table.evidence.samples[index].feeds, table.evidence.deciding.constants
    found = ({**constants, **feeds, **table.expected[index]})[name]
    return np.asarray(found, np.float64)


def _by_count(table: Table, index: int, name: str, differing: int) -> dict[str, Any]:
    expected, truth = table.expected[index][name], table.truth(index, name)
    others = [values[name] for values in table.perturbations(index, SECOND_LOOK[-1])]
    others += [] if truth is None else [truth]
    counts = (int((o != expected).sum()) for o in others if o.shape == expected.shape)
    own, size = max(counts, default=0), max(expected.size, 1)
    limit = FLIP_FACTOR * own / size + FLIP_FLOOR
    return {
        "passed": differing / size <= limit,
        "original_error": own / size,
        "candidate_error": differing / size,
        "limit": limit,
        "detail": f"{differing} of {expected.size} elements differ; a rounding of the inputs "
        f"changes {own} of the original's",
    }

"""When do pools commute with an affine? It must be uniform over their windows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bnfold.affine import Affine
from bnfold.reasons import Reason, Refusal
from bnfold.rules.registry import Operator, Step, backward, commutes, forward, only
from bnfold.rules.shared import require_positive, require_scale, require_uniform

WINDOW = "auto_pad ceil_mode count_include_pad dilations kernel_shape pads storage_order strides p"


def require_window(op: Operator, affine: Affine) -> None:
    """The axes behind the channels are the window's."""
    require_uniform(affine, range(2, affine.rank), op.op_type)


@commutes("MaxPool GlobalMaxPool", attributes=WINDOW)
def max_pool(op: Operator, affine: Affine) -> None:
    """`max(s x + t) = s max(x) + t` for s >= 0. Padding never wins, so a shift is no harm."""
    require_window(op, affine)
    require_positive(affine, op)
    if op.has_output(1) and not affine.is_invertible:
        raise Refusal(Reason.ZERO_SCALE, f"a zero scale would change the indices of {op.op_type}")


def counts_padding(op: Operator) -> bool:
    """Whether an average may count zeros that are not there."""
    if op.op_type != "AveragePool":
        return False
    if op.version >= 7 and not op.attribute("count_include_pad", 0):
        return False
    padded = op.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return padded or any(op.attribute("pads", ())) or bool(op.attribute("ceil_mode", 0))


@commutes("AveragePool GlobalAveragePool", attributes=WINDOW)
def average_pool(op: Operator, affine: Affine) -> None:
    """The mean of affines is the affine of the mean, unless zeros are averaged in."""
    require_window(op, affine)
    if not affine.is_pure_scale and counts_padding(op):
        raise Refusal(Reason.PADDED_SHIFT, "AveragePool averages its zero padding in")


@backward("LpPool GlobalLpPool", attributes=WINDOW)
def lp_pool(op: Operator, affine: Affine) -> Step:
    """A norm is homogeneous: `s |x| = |s x|` for s >= 0."""
    require_window(op, affine)
    require_scale(affine, op)
    require_positive(affine, op)
    return Step(inputs={0: affine})


@forward("LpPool GlobalLpPool", attributes=WINDOW)
def lp_pool_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """`|s x| = |s| |x|`."""
    affine = only(affines)
    require_window(op, affine)
    require_scale(affine, op)
    return Step(outputs={0: affine.moved(np.abs)})

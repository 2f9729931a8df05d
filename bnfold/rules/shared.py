"""Questions that several families of rules ask of an affine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.affine import Affine
from bnfold.constants import Constant
from bnfold.reasons import Reason, Refusal
from bnfold.rules.registry import Dim, Operator, Shape, Step

Array = NDArray[Any]

DOUBLE = 11
"""ONNX's number for the type float64."""


def normal_axis(axis: int, rank: int) -> int:
    """The axis counted from the front. Raises Refusal when there is no such axis."""
    if not -rank <= axis < rank:
        raise Refusal(Reason.UNKNOWN_SHAPE, f"axis {axis} of a value of rank {rank}")
    return axis % rank


def require_uniform(affine: Affine, axes: Iterable[int], what: str) -> None:
    """Refuse an affine that differs along any of these axes."""
    mixed = sorted(affine.axes & set(axes))
    if mixed:
        raise Refusal(
            Reason.CHANNEL_LOST, f"{what} mixes axis {mixed[0]}, where the affine varies"
        )


def require_scale(affine: Affine, op: Operator) -> None:
    """Refuse a shift."""
    if not affine.is_pure_scale:
        raise Refusal(Reason.NOT_HOMOGENEOUS, f"{op.op_type} carries a scale but no shift")


def require_positive(affine: Affine, op: Operator) -> None:
    """Refuse a negative scale; zero is no harm to what is monotonous."""
    if (affine.scale < 0).any():
        raise Refusal(Reason.NEGATIVE_SCALE, f"{op.op_type} carries no negative scale")


def inverse(affine: Affine, op: Operator) -> Affine:
    """The inverse affine. Raises Refusal where a scale is zero."""
    if not affine.is_invertible:
        raise Refusal(Reason.ZERO_SCALE, f"{op.op_type} would have to divide by a zero scale")
    return affine.inverse()


def per_channel(affine: Affine, axis: int, op: Operator) -> tuple[Array, Array]:
    """Scale and shift as vectors along one axis. Raises Refusal if the affine has another one."""
    others = sorted(affine.axes - {axis})
    if others:
        raise Refusal(
            Reason.WRONG_AXIS,
            f"the affine varies along axis {others[0]}, {op.op_type} has one weight for all of it",
        )
    return affine.scale.reshape(-1), affine.shift.reshape(-1)


def along(vector: Array, axis: int, rank: int) -> Array:
    """A vector as an array of this rank that varies along one axis."""
    return vector.reshape([-1 if d == axis else 1 for d in range(rank)])


def lifted(affine: Affine, rank: int) -> Affine:
    """The same affine for a value with more leading dimensions (broadcasting)."""
    lead = (1,) * (rank - affine.rank)
    return affine.reranked(lambda shape: lead + shape) if lead else affine


def lowered(affine: Affine, shape: Shape, what: str) -> Affine:
    """The affine of a result, for an operand of this shape that broadcasts to it.

    Raises Refusal where the operand has one element for what the affine tells apart.
    """
    lead = affine.rank - len(shape)
    for axis in affine.axes:
        size: Dim = 1 if axis < lead else shape[axis - lead]
        if size == 1:
            raise Refusal(
                Reason.CHANNEL_LOST,
                f"{what} broadcasts along axis {axis}, where the affine varies",
            )
        if not isinstance(size, int):
            raise Refusal(
                Reason.UNKNOWN_SHAPE, f"{what} may broadcast along axis {axis} of unknown size"
            )
    return affine.reranked(lambda shape: shape[lead:]) if lead else affine


def size_of(shape: Shape, axis: int, what: str) -> int:
    """A static dimension. Raises Refusal."""
    size = shape[axis]
    if not isinstance(size, int):
        raise Refusal(Reason.UNKNOWN_SHAPE, f"the size of axis {axis} of {what} is not known")
    return size


def static(shape: Sequence[Dim], what: str) -> tuple[int, ...]:
    """A shape of which every dimension is known. Raises Refusal."""
    return tuple(size_of(tuple(shape), axis, what) for axis in range(len(shape)))


def vector(op: Operator, index: int) -> tuple[int, ...]:
    """A constant input of integers. Raises Refusal."""
    values = op.constant(index).value().reshape(-1)
    if values.size and values.dtype.kind not in "iu":
        raise Refusal(
            Reason.UNSUPPORTED_DTYPE, f"input {index} of {op.op_type} holds no whole numbers"
        )
    return tuple(int(v) for v in values)


def as_attribute(op: Operator, value: float) -> float:
    """A number as an attribute keeps it, which is in float32. Raises Refusal where it is not held.

    Beside data of a narrower or the same type that is the one rounding that any parameter has.
    """
    with np.errstate(all="ignore"):
        kept = float(np.float32(value))
    if np.isfinite(value) and not np.isfinite(kept):
        raise Refusal(Reason.OVERFLOW, f"an attribute of {op.op_type} would pass float32")
    if kept != value and op.elem_type(0) in (0, DOUBLE):
        raise Refusal(
            Reason.UNSUPPORTED_DTYPE, f"an attribute of {op.op_type} holds float32 alone"
        )
    return value


def combined(
    function: Callable[..., Array],
    shape: tuple[int, ...],
    like: Constant,
    *constants: Constant,
) -> Constant:
    """A function of several constants in float64, stored in the type of `like`."""
    return Constant(lambda: function(*(c.exact() for c in constants)), shape, like.dtype)


def zeros(size: int, like: Constant) -> Constant:
    """What an absent bias is worth."""
    return Constant.of_array(np.zeros(size), like.dtype)


def optional(op: Operator, index: int, size: int, like: Constant) -> Constant:
    """A constant input, or zeros where it is absent. Raises Refusal."""
    return op.constant(index) if op.has_input(index) else zeros(size, like)


def fitted(op: Operator, index: int, affine: Affine) -> Affine:
    """The result's affine for one operand; a constant operand may grow. Raises Refusal."""
    if op.is_constant(index) and not op.constant(index).is_quantized:
        return affine
    return lowered(affine, op.shape(index), f"an operand of {op.op_type}")


def choices(
    op: Operator,
    makers: Iterable[Callable[[], Step | list[Step]]],
    reason: Reason = Reason.CHANNEL_LOST,
) -> list[Step]:
    """All alternatives that can be had. Raises the first refusal if there is none."""
    steps: list[Step] = []
    stop: Refusal | None = None
    for make in makers:
        try:
            made = make()
            steps += [made] if isinstance(made, Step) else made
        except Refusal as refusal:
            stop = stop or refusal
    if not steps:
        raise stop or Refusal(reason, f"no operand of {op.op_type} can take the affine")
    return steps

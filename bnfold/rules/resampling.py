"""When do padding and resizing commute with an affine? Both make elements from others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bnfold.affine import Affine, room_for
from bnfold.constants import Constant
from bnfold.reasons import Reason, Refusal
from bnfold.rules.registry import Operator, Step, backward, commutes, forward, only
from bnfold.rules.shared import Array, as_attribute, require_scale, require_uniform, vector

# ------------------------------------------------------------------------- resize

RESIZE = """antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside
extrapolation_value keep_aspect_ratio_policy mode nearest_mode scales width_scale height_scale"""


def resized_axes(op: Operator, rank: int) -> list[int]:
    """The axes along which elements may come from others; what cannot be told counts.

    A size may stay where the scale is not 1: `floor(3 * 1.2)` is 3.
    """
    axes = op.attribute("axes")
    if axes is not None:
        return [axis % rank for axis in axes]
    source, target = op.shape(0), op.output_shape()
    scales, crops = factors(op, rank), cropped_axes(op, rank)
    stretches = op.attribute("keep_aspect_ratio_policy", "stretch") == "stretch"

    def stays(axis: int) -> bool:
        scale = scales[axis]
        if scale is not None:
            return scale == 1
        return stretches and source[axis] is not None and source[axis] == target[axis]

    return [axis for axis in range(rank) if axis in crops or not stays(axis)]


def is_crop(op: Operator) -> bool:
    """Whether a region of the input is resized."""
    return bool(op.attribute("coordinate_transformation_mode") == "tf_crop_and_resize")


def cropped_axes(op: Operator, rank: int) -> set[int]:
    """The axes of which a part is taken; all where that is not known."""
    if not is_crop(op):
        return set()
    region = op.constant(1).value().reshape(-1) if op.is_constant(1) else np.zeros(0)
    if len(region) != 2 * rank:
        return set(range(rank))
    return {axis for axis in range(rank) if (region[axis], region[axis + rank]) != (0, 1)}


def factors(op: Operator, rank: int) -> list[float | None]:
    """The scale of each axis, None where it is computed or given as a size."""
    given = op.attribute("scales")
    if given is None:
        index = 1 if op.op_type == "Upsample" or op.version < 11 else 2
        if op.has_input(index) and op.is_constant(index):
            given = op.constant(index).value().reshape(-1)
    if given is None or len(given) != rank:
        return [None] * rank
    return [float(v) for v in given]


@commutes("Resize Upsample", attributes=RESIZE)
def resize(op: Operator, affine: Affine) -> None:
    """A mean of affines with weights that sum to one is the affine of the mean.

    Refused: affines that vary along a resized axis, and a shift beside extrapolation.
    """
    require_uniform(affine, resized_axes(op, affine.rank), op.op_type)
    if is_crop(op):
        require_scale(affine, op)
        if op.attribute("extrapolation_value", 0.0) != 0:
            raise Refusal(Reason.PADDED_SHIFT, f"{op.op_type} fills in a constant")


# ---------------------------------------------------------------------------- pad

PAD = "mode pads paddings value"


def padding(op: Operator, rank: int) -> list[tuple[int, int]]:
    """(before, after) of each axis. Raises Refusal where it is computed."""
    pads = op.attribute("pads") or op.attribute("paddings")
    if pads is None:
        pads = vector(op, 1)
    if op.has_input(3):
        axes = [axis % rank for axis in vector(op, 3)]
        full = [0] * (2 * rank)
        for place, axis in enumerate(axes):
            full[axis], full[axis + rank] = pads[place], pads[place + len(axes)]
        pads = full
    return list(zip(pads[:rank], pads[rank:], strict=True))


def fill_value(op: Operator) -> float:
    """What a constant Pad fills in."""
    if op.version >= 11 and op.has_input(2):
        return float(op.constant(2).value().reshape(-1)[0])
    return float(op.attribute("value", 0.0))


def new_fill(op: Operator, value: float) -> dict[str, Any]:
    """The parts of a step that set it."""
    if value == fill_value(op):
        return {}
    if op.version < 11:
        return {"attributes": {"value": as_attribute(op, value)}}
    if not op.has_input(2):
        raise Refusal(Reason.PADDED_SHIFT, "Pad fills in zeros that the affine would move")
    old = op.constant(2)
    return {"constants": {2: Constant.of_array(np.full(old.shape, value), old.dtype)}}


def one_number(values: Array) -> float:
    """The number that all are. Raises Refusal."""
    first = float(values.reshape(-1)[0])
    if not (values == first).all():
        raise Refusal(Reason.PADDED_SHIFT, "Pad fills in one number, the affine wants several")
    return first


def is_filling(op: Operator) -> bool:
    """Whether the mode is constant."""
    return bool(op.attribute("mode", "constant") == "constant")


def padded_axes(op: Operator, affine: Affine) -> dict[int, tuple[int, int]]:
    """The padded axes along which the affine varies; negative pads there are refused."""
    pads = padding(op, affine.rank)
    mixed = {axis: pads[axis] for axis in affine.axes if pads[axis] != (0, 0)}
    if mixed and (not is_filling(op) or any(min(pair) < 0 for pair in mixed.values())):
        raise Refusal(Reason.CHANNEL_LOST, "Pad adds channels that the affine does not know")
    return mixed


@backward("Pad", attributes=PAD)
def pad(op: Operator, affine: Affine) -> Step:
    """`A(pad(x, v)) = pad(A(x), A(v))`, where A(v) is one number."""
    mixed = padded_axes(op, affine)
    if not is_filling(op):
        return Step(inputs={0: affine})
    filled: Array = affine.apply(np.asarray(fill_value(op)))
    inner = affine
    for axis, (before, after) in mixed.items():
        size = max(affine.scale.shape[axis], affine.shift.shape[axis])
        inner = inner.taken(np.arange(before, size - after), axis)
    if len(mixed) == 1 and only_padded(op, affine, mixed):
        ((axis, (before, after)),) = mixed.items()
        edge = np.r_[0:before, filled.shape[axis] - after : filled.shape[axis]]
        filled = filled.take(edge, axis) if filled.shape[axis] > 1 else filled
    return Step(inputs={0: inner}, **new_fill(op, one_number(filled)))


def only_padded(op: Operator, affine: Affine, mixed: Mapping[int, tuple[int, int]]) -> bool:
    """Whether nothing but these axes is padded."""
    return all(
        pair == (0, 0) or axis in mixed for axis, pair in enumerate(padding(op, affine.rank))
    )


@forward("Pad", attributes=PAD)
def pad_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """`pad(s x + t, v) = s pad(x, (v - t) / s) + t`, the fill being one number."""
    affine = only(affines)
    mixed = padded_axes(op, affine)
    if not is_filling(op):
        return Step(outputs={0: affine})
    value = fill_value(op)
    if mixed:
        if not only_padded(op, affine, mixed):
            raise Refusal(Reason.CHANNEL_LOST, "Pad adds channels that the affine does not know")
        return Step(outputs={0: extended(affine, mixed)})
    if value == 0 and affine.is_pure_scale:
        return Step(outputs={0: affine})
    if not affine.is_invertible:
        raise Refusal(Reason.ZERO_SCALE, "the fill of Pad would be divided by a zero scale")
    return Step(
        outputs={0: affine}, **new_fill(op, one_number((value - affine.shift) / affine.scale))
    )


def extended(affine: Affine, mixed: Mapping[int, tuple[int, int]]) -> Affine:
    """The affine with the identity on the channels that Pad adds."""

    def extend(array: Array, fill: float) -> Array:
        sizes = np.broadcast_shapes(affine.scale.shape, affine.shift.shape)
        shape = [sizes[axis] if axis in mixed else n for axis, n in enumerate(array.shape)]
        pads = [mixed.get(axis, (0, 0)) for axis in range(array.ndim)]
        room_for([n + sum(pair) for n, pair in zip(shape, pads, strict=True)], array)
        return np.pad(np.broadcast_to(array, shape), pads, constant_values=fill)

    return Affine(extend(affine.scale, 1.0), extend(affine.shift, 0.0))

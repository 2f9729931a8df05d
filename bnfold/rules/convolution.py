"""How do convolutions take an affine in? By output channel, and by input channel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bnfold.affine import Affine
from bnfold.reasons import Reason, Refusal
from bnfold.rules.registry import MICROSOFT, Operator, Step, backward, forward, only
from bnfold.rules.shared import Array, along, combined, optional, per_channel, size_of

CONV = "auto_pad dilations group kernel_shape pads strides"
TRANSPOSED = f"{CONV} output_padding output_shape"


@backward("Conv", attributes=CONV)
@backward("FusedConv", attributes=CONV, domain=MICROSOFT)
def conv(op: Operator, affine: Affine) -> Step:
    """`s * (W x + b) + t = (s W) x + (s b + t)`, by output channel."""
    refuse_sum(op)
    scale, shift = per_channel(affine, 1, op)
    channels = size_of(op.shape(1), 0, "the weight")
    return Step(
        inputs={1: Affine.of_scale(along(scale, 0, len(op.shape(1))))} | bias_input(op, affine),
        constants=new_bias(op, shift, channels),
    )


def bias_input(op: Operator, affine: Affine) -> dict[int, Affine]:
    """A bias that is there takes the whole affine."""
    scale, shift = per_channel(affine, 1, op)
    return {2: Affine(scale, shift)} if op.has_input(2) else {}


def new_bias(op: Operator, shift: Array, channels: int) -> dict:  # type: ignore[type-arg]
    """A bias that is not there is made where it is needed."""
    if op.has_input(2) or not shift.any():
        return {}
    zero = optional(op, 2, channels, op.constant(1))
    return {2: zero.derived(lambda b: b + shift)}


def refuse_sum(op: Operator) -> None:
    """com.microsoft's FusedConv may add a fourth operand."""
    if op.has_input(3):
        raise Refusal(Reason.OPAQUE_OP, f"{op.op_type} adds another value")


def reads_padding(op: Operator) -> bool:
    """Whether any tap of any output may stand on padding; unknown counts as yes."""
    mode = op.attribute("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        kernel = op.shape(1)[2:]
        return any(size != 1 for size in kernel)
    return mode != "VALID" and any(op.attribute("pads", ()))


@forward("Conv", attributes=CONV)
@forward("FusedConv", attributes=CONV, domain=MICROSOFT)
def conv_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """`W (s x + t) + b = (W s) x + (b + W t)`, where no tap reads padding or t is 0."""
    refuse_sum(op)
    scale, shift = per_channel(only(affines), 1, op)
    if shift.any() and reads_padding(op):
        raise Refusal(
            Reason.PADDED_SHIFT, f"{op.op_type} reads zero padding that the shift would move"
        )
    shape, group = op.shape(1), op.attribute("group", 1)
    out, fan_in = size_of(shape, 0, "the weight"), size_of(shape, 1, "the weight")
    step = Step(inputs={1: Affine.of_scale(by_input(scale, out, fan_in, group, len(shape)))})
    if not shift.any():
        return step
    weight = op.constant(1)

    def moved(bias: Array, weight: Array) -> Array:
        taps = weight.reshape(group, out // group, fan_in, -1).sum(-1)
        parts = np.broadcast_to(shift, group * fan_in).reshape(group, fan_in, 1)
        return np.asarray(bias + (taps @ parts).reshape(out))

    bias = optional(op, 2, out, weight)
    return Step(inputs=step.inputs, constants={2: combined(moved, (out,), weight, bias, weight)})


def by_input(scale: Array, out: int, fan_in: int, group: int, rank: int) -> Array:
    """`(C_in,) -> (C_out or 1, C_in / group, 1, ...)`: each group reads its own channels."""
    if scale.size == 1:
        return scale.reshape((1,) * rank)
    parts = scale.reshape(group, 1, fan_in)
    rows = np.broadcast_to(parts, (group, out // group if group > 1 else 1, fan_in))
    return rows.reshape(-1, fan_in, *(1,) * (rank - 2))


@backward("ConvTranspose", attributes=TRANSPOSED)
def conv_transpose(op: Operator, affine: Affine) -> Step:
    """As Conv, with the weight `(C_in, C_out / group, ...)`: group by group."""
    scale, shift = per_channel(affine, 1, op)
    group, rank = op.attribute("group", 1), len(op.shape(1))
    rows = size_of(op.shape(1), 0, "the weight")
    fan_out = size_of(op.shape(1), 1, "the weight")
    return Step(
        inputs={1: Affine.of_scale(by_output(scale, rows, fan_out, group, rank))}
        | bias_input(op, affine),
        constants=new_bias(op, shift, fan_out * group),
    )


def by_output(scale: Array, rows: int, fan_out: int, group: int, rank: int) -> Array:
    """`(C_out,) -> (C_in or 1, C_out / group, 1, ...)`: each group makes its own channels."""
    if scale.size == 1:
        return scale.reshape((1,) * rank)
    parts = scale.reshape(group, 1, fan_out)
    block = np.broadcast_to(parts, (group, rows // group if group > 1 else 1, fan_out))
    return block.reshape(-1, fan_out, *(1,) * (rank - 2))


@forward("ConvTranspose", attributes=TRANSPOSED)
def conv_transpose_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """The scale on axis 0; a shift never, since outputs at the border see fewer taps."""
    affine = only(affines)
    scale, shift = per_channel(affine, 1, op)
    if shift.any():
        raise Refusal(
            Reason.PADDED_SHIFT, f"{op.op_type} sees fewer taps at the border, a shift would show"
        )
    return Step(inputs={1: Affine.of_scale(along(scale, 0, len(op.shape(1))))})

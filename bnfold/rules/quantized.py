"""How does a quantized weight take a scale in? Into the scale that it is read with."""

from __future__ import annotations

from bnfold.affine import Affine
from bnfold.reasons import Reason, Refusal
from bnfold.rules.registry import Operator, Step, backward
from bnfold.rules.shared import normal_axis


@backward("DequantizeLinear", attributes="axis block_size output_dtype")
def dequantize(op: Operator, affine: Affine) -> Step:
    """`s (scale (q - zero)) = (s scale) (q - zero)`, for a constant q and s > 0."""
    if not op.is_constant(0) or op.attribute("block_size", 0):
        raise Refusal(Reason.QUANTIZED, "only a constant weight can be rescaled as it is read")
    if not affine.is_pure_scale:
        raise Refusal(Reason.QUANTIZED, "a quantized value has no room for a shift")
    if not affine.is_positive:
        raise Refusal(Reason.QUANTIZED, "the scale of a quantized weight must stay positive")
    axis = normal_axis(op.attribute("axis", 1), affine.rank)
    scale = op.constant(1)
    per_axis = scale.size > 1
    if affine.axes - ({axis} if per_axis else set()):
        raise Refusal(Reason.QUANTIZED, "the quantized weight has no scale for each channel")
    return Step(inputs={1: Affine.of_scale(affine.scale.reshape((-1,) if scale.rank else ()))})

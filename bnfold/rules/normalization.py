"""How do normalizations take an affine into their own scale and bias?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bnfold.affine import Affine
from bnfold.constants import Constant
from bnfold.reasons import Reason, Refusal
from bnfold.rules.registry import Operator, Step, backward, forward, only
from bnfold.rules.shared import (
    Array,
    combined,
    lowered,
    per_channel,
    require_scale,
    require_uniform,
    static,
)
from bnfold.rules.sources import (
    BATCH_NORM,
    check_shapes,
    epsilon,
    is_by_element,
    require_inference,
)


@backward("BatchNormalization", attributes=BATCH_NORM)
def batch_norm(op: Operator, affine: Affine) -> Step:
    """`gamma' = s gamma`, `beta' = s beta + t`."""
    require_inference(op)
    check_shapes(op)
    whole = of_parameters(affine, op)
    return Step(inputs={1: whole.scale_part, 2: whole})


def of_parameters(affine: Affine, op: Operator) -> Affine:
    """The affine at the rank of the parameters, which have one value a channel or an element."""
    if not is_by_element(op):
        return Affine(*per_channel(affine, 1, op))
    require_uniform(affine, [0], op.op_type)
    return affine.moved(lambda a: a.reshape(a.shape[1:]))


@forward("BatchNormalization", attributes=BATCH_NORM)
def batch_norm_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """`gamma' = s gamma`, `beta' = beta + gamma (t - (1 - s) mean) / sqrt(var + epsilon)`."""
    require_inference(op)
    check_shapes(op)
    whole = of_parameters(only(affines), op)
    scale, shift = whole.scale, whole.shift
    gamma, beta, mean, var = (op.constant(i) for i in range(1, 5))

    def moved(beta: Array, gamma: Array, mean: Array, var: Array) -> Array:
        return np.asarray(beta + gamma * (shift - (1 - scale) * mean) / np.sqrt(var + epsilon(op)))

    return Step(
        inputs={1: whole.scale_part},
        constants={2: combined(moved, beta.shape, beta, beta, gamma, mean, var)},
    )


@backward("LayerNormalization RMSNormalization", attributes="axis epsilon stash_type")
def layer_norm(op: Operator, affine: Affine) -> Step:
    """Its scale and bias take the affine on the axes that they have."""
    if op.op_type == "RMSNormalization":
        require_scale(affine, op)
    scale = op.constant(1)
    whole = lowered(affine, scale.shape, f"the scale of {op.op_type}")
    if op.has_input(2):
        bias = lowered(affine, op.shape(2), f"the bias of {op.op_type}")
        return Step(inputs={1: whole.scale_part, 2: bias})
    if affine.is_pure_scale:
        return Step(inputs={1: whole})
    shift = np.broadcast_to(whole.shift, scale.shape).copy()
    return Step(inputs={1: whole.scale_part}, constants={2: Constant.of_array(shift, scale.dtype)})


@backward("InstanceNormalization", attributes="epsilon consumed_inputs")
@backward("GroupNormalization", attributes="epsilon num_groups stash_type")
def channel_norm(op: Operator, affine: Affine) -> Step:
    """By channel; before opset 21 a GroupNormalization has one scale a group."""
    scale, shift = per_channel(affine, 1, op)
    (size,) = static(op.shape(1), "the scale")
    vectors = [by_group(v, size) for v in (scale, shift)]
    return Step(inputs={1: Affine.of_scale(vectors[0]), 2: Affine(vectors[0], vectors[1])})


def by_group(vector: Array, size: int) -> Array:
    """`(C,) -> (size,)`, where all channels of a group are alike. Raises Refusal."""
    if vector.size in (1, size):
        return vector
    groups = vector.reshape(size, -1)
    if not (groups == groups[:, :1]).all():
        raise Refusal(Reason.WRONG_AXIS, "the channels of a group have different affines")
    return groups[:, 0]

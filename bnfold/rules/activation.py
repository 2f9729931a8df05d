"""Which affines commute with what is applied to each element?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bnfold.affine import Affine
from bnfold.constants import FLOATS, Constant
from bnfold.reasons import Reason, Refusal
from bnfold.rules.registry import Operator, Step, backward, commutes, forward, only
from bnfold.rules.shared import Array, as_attribute, require_positive, require_scale

# ------------------------------------------------------------------- nothing done


@commutes("Identity Dropout", attributes="ratio seed is_test consumed_inputs")
def identity(op: Operator, _: Affine) -> None:
    """Any affine passes; a Dropout only in inference, which each opset says in its own way."""
    if op.op_type != "Dropout":
        return
    if op.version < 7 and not op.attribute("is_test", 0):
        raise Refusal(Reason.TRAINING_MODE, "Dropout is in training mode")
    if op.version >= 12 and op.has_input(2) and bool(op.constant(2).value().any()):
        raise Refusal(Reason.TRAINING_MODE, "Dropout is in training mode")


@commutes("Cast CastLike", attributes="to saturate round_mode")
def cast(op: Operator, _: Affine) -> None:
    """Any affine passes between float types; what rounding does, the proof decides."""
    if op.op_type == "Cast" and op.attribute("to") not in FLOATS:
        raise Refusal(Reason.OPAQUE_OP, "Cast to a type that is not float")
    if not op.is_float(0) or (op.op_type == "CastLike" and not op.is_float(1)):
        raise Refusal(Reason.OPAQUE_OP, f"{op.op_type} of a type that is not known to be float")


# -------------------------------------------------------------------- homogeneous


def slope(op: Operator) -> float:
    """Of the negative side."""
    return float(op.attribute("alpha", 0.01)) if op.op_type == "LeakyRelu" else 0.0


@backward("Relu LeakyRelu", attributes="alpha consumed_inputs")
def relu(op: Operator, affine: Affine) -> Step:
    """`s relu(x) = relu(s x)` for s >= 0; where s is 0, `t = relu(0 x + t)` for t >= 0."""
    require_positive(affine, op)
    scale, shift = np.broadcast_arrays(affine.scale, affine.shift)
    if ((scale != 0) & (shift != 0)).any() or (shift < 0).any():
        require_scale(affine, op)
    return Step(inputs={0: affine})


@forward("Relu LeakyRelu", attributes="alpha consumed_inputs")
def relu_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """`relu(s x) = s relu(x)` for s >= 0; where s is 0 the result is relu(t)."""
    affine = only(affines)
    require_positive(affine, op)
    scale, shift = np.broadcast_arrays(affine.scale, affine.shift)
    if ((scale != 0) & (shift != 0)).any():
        require_scale(affine, op)
    dead = np.where(shift > 0, shift, slope(op) * shift)
    return Step(outputs={0: Affine(affine.scale, dead)})


def slopes(op: Operator, rank: int) -> Constant:
    """PRelu's slopes, to be used at the rank of its input."""
    constant = op.constant(1)
    if constant.rank > rank:
        raise Refusal(Reason.CHANNEL_LOST, "the slope of PRelu has more axes than its input")
    return constant


def turned_slopes(op: Operator, affine: Affine) -> tuple[Array, Step]:
    """For negative scales: `s prelu(x, a) = prelu(s a x, 1 / a)`, for s < 0 and a > 0.

    Returns the scale that x takes, and the step with the new slopes.
    """
    constant = slopes(op, affine.rank)
    slope = constant.exact().reshape((1,) * (affine.rank - constant.rank) + constant.shape)
    scale, slope = np.broadcast_arrays(affine.scale, slope)
    negative = scale < 0
    if (slope[negative] <= 0).any():
        raise Refusal(Reason.NEGATIVE_SCALE, "PRelu with a slope of 0 carries no negative scale")
    taken = np.where(negative, scale * slope, scale)
    new = np.divide(1.0, slope, out=slope.copy(), where=negative)
    shape = new.shape[affine.rank - max(constant.rank, 1) :]
    if any(size != 1 for size in new.shape[: new.ndim - len(shape)]):
        shape = new.shape
    stored = Constant.of_array(new.reshape(shape), constant.dtype)
    return taken, Step(constants={1: stored})


@backward("PRelu", attributes="consumed_inputs")
def prelu(op: Operator, affine: Affine) -> Step:
    """As Relu; a negative scale turns the slope over."""
    require_scale(affine, op)
    if (affine.scale >= 0).all():
        return Step(inputs={0: affine})
    taken, step = turned_slopes(op, affine)
    return Step(inputs={0: Affine.of_scale(taken)}, constants=step.constants)


@forward("PRelu", attributes="consumed_inputs")
def prelu_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """`prelu(s x, a) = s a prelu(x, 1 / a)` for s < 0 and a > 0."""
    affine = only(affines)
    require_scale(affine, op)
    if (affine.scale >= 0).all():
        return Step(outputs={0: affine})
    given, step = turned_slopes(op, affine)
    return Step(outputs={0: Affine.of_scale(given)}, constants=step.constants)


@backward("Abs")
def absolute(op: Operator, affine: Affine) -> Step:
    """`s |x| = |s x|` for s >= 0."""
    require_scale(affine, op)
    require_positive(affine, op)
    return Step(inputs={0: affine})


@forward("Abs")
def absolute_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """`|s x| = |s| |x|`."""
    affine = only(affines)
    require_scale(affine, op)
    return Step(outputs={0: affine.moved(np.abs)})


# ------------------------------------------------------------------------- bounds


def bounds(op: Operator) -> dict[str, float]:
    """The bounds of a Clip that are there. Raises Refusal where one is computed."""
    if op.version < 11:
        return {n: float(v) for n in ("min", "max") if (v := op.attribute(n)) is not None}
    names = {1: "min", 2: "max"}
    return {
        name: float(op.constant(index).exact().reshape(-1)[0])
        for index, name in names.items()
        if op.has_input(index)
    }


def moved_bounds(op: Operator, move: Callable[[float], Array]) -> Step:
    """Both bounds through a function of one number, which must give one number."""
    attributes: dict[str, Any] = {}
    constants: dict[int, Constant] = {}
    for name, bound in bounds(op).items():
        values = np.asarray(move(bound))
        if not (values == values.reshape(-1)[0]).all():
            raise Refusal(Reason.CHANNEL_LOST, "Clip has one bound for all channels")
        new = values.reshape(-1)[0]
        if op.version < 11:
            attributes[name] = as_attribute(op, float(new))
        else:
            index = 1 if name == "min" else 2
            old = op.constant(index)
            constants[index] = Constant.of_array(np.full(old.shape, new), old.dtype)
    return Step(attributes=attributes, constants=constants)


@backward("Clip", attributes="min max consumed_inputs")
def clip(op: Operator, affine: Affine) -> Step:
    """`s clip(x, l, h) + t = clip(s x + t, s l + t, s h + t)` for s >= 0."""
    require_positive(affine, op)
    step = moved_bounds(op, lambda bound: affine.apply(np.asarray(bound)))
    return Step(inputs={0: affine}, attributes=step.attributes, constants=step.constants)


@forward("Clip", attributes="min max consumed_inputs")
def clip_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """`clip(s x + t, l, h) = s clip(x, (l - t) / s, (h - t) / s) + t` for s > 0."""
    affine = only(affines)
    require_positive(affine, op)
    if not affine.is_invertible and not (affine.is_pure_scale and set(bounds(op).values()) <= {0}):
        raise Refusal(Reason.ZERO_SCALE, "Clip would have to divide by a zero scale")

    def back(bound: float) -> Array:
        if bound == 0 and affine.is_pure_scale:
            return np.zeros(1)
        return (bound - affine.shift) / affine.scale

    step = moved_bounds(op, back)
    return Step(outputs={0: affine}, attributes=step.attributes, constants=step.constants)

"""Which nodes are an affine of one value by constants?"""

from __future__ import annotations

from typing import Any

import numpy as np

from bnfold.affine import Affine
from bnfold.constants import is_float
from bnfold.reasons import Reason, Refusal
from bnfold.rules.registry import Operator, Source, source

BATCH_NORM = "epsilon momentum training_mode is_test spatial consumed_inputs"
DEFAULT_EPSILON = float(np.float32(1e-5))
"""ONNX attributes are float32, and so is the default."""


def epsilon(op: Operator) -> float:
    """What is added to the variance."""
    return float(op.attribute("epsilon", DEFAULT_EPSILON))


def require_inference(op: Operator) -> None:
    """Refuse a batch normalization that uses the statistics of the batch.

    Opset 1-6 says so by `is_test`, 7-13 by outputs beyond the first, 14 on by `training_mode`.
    """
    if op.version < 7:
        trains = not op.attribute("is_test", 0)
    elif op.version < 14:
        trains = any(op.declares_output(i) for i in range(1, op.output_count))
    else:
        trains = bool(op.attribute("training_mode", 0))
    if trains and op.is_fixed(0):
        raise Refusal(
            Reason.NOT_EVALUATED,
            f"{op.op_type} normalizes a constant by its own statistics, and is not evaluated",
        )
    if trains:
        raise Refusal(Reason.TRAINING_MODE, f"{op.op_type} uses the statistics of the batch")


@source("BatchNormalization", attributes=BATCH_NORM)
def batch_norm(op: Operator) -> Source:
    """`scale = gamma / sqrt(var + epsilon)`, `shift = beta - mean * scale`.

    Source: the operator's specification, `Y = (X - mean) / sqrt(var + epsilon) * gamma + beta`.
    """
    require_inference(op)
    rank = data_rank(op)
    parameters = [op.constant(i).exact() for i in range(1, 5)]
    check_shapes(op)
    check_statistics(parameters, epsilon(op))
    gamma, beta, mean, var = (placed(p, op, rank) for p in parameters)
    scale = gamma / np.sqrt(var + epsilon(op))
    typical = np.abs(mean) + np.sqrt(np.abs(var))
    result = np.abs(beta) + np.abs(scale) * np.sqrt(np.abs(var))
    return Source(Affine(scale, beta - mean * scale), typical=typical, work=2, result=result)


def data_rank(op: Operator) -> int:
    """The rank of the input, which may be known from the output. Raises Refusal."""
    try:
        rank = len(op.shape(0))
    except Refusal:
        rank = len(op.output_shape())
    if not rank:
        raise Refusal(Reason.BAD_STATISTIC, "a single number has no channels")
    return rank


def check_statistics(parameters: list[Any], added: float) -> None:
    """Refuse parameters that are not finite, and variances of which there is no root."""
    if not all(np.isfinite(p).all() for p in parameters):
        raise Refusal(Reason.BAD_STATISTIC, "a parameter is infinite or not a number")
    if not (parameters[3] + added > 0).all():
        raise Refusal(Reason.BAD_STATISTIC, "a variance plus epsilon is not above zero")


def is_by_element(op: Operator) -> bool:
    """Whether the parameters have one value an element: before opset 9 with `spatial=0`."""
    return op.version < 9 and not op.attribute("spatial", 1)


def placed(parameter: Any, op: Operator, rank: int) -> Any:
    """`(C,) -> (1, C, 1, ...)`; before opset 9 with `spatial=0` one value an element."""
    if is_by_element(op):
        return parameter.reshape(1, *parameter.shape)
    return parameter.reshape(1, -1, *(1,) * (rank - 2)) if rank > 1 else parameter


def check_shapes(op: Operator) -> None:
    """Refuse parameters that are not one value a channel, or with `spatial=0` an element.

    A vector without a batch has one channel.
    """
    shapes = {op.constant(i).shape for i in range(1, 5)}
    if len(shapes) > 1:
        raise Refusal(Reason.BAD_STATISTIC, "the parameters have different shapes")
    (shape,), rank = shapes, data_rank(op)
    wanted = op.shape(0)[1:] if is_by_element(op) else op.shape(0)[1:2] if rank > 1 else (1,)
    if len(shape) != len(wanted):
        what = "one an element" if is_by_element(op) else "vectors"
        raise Refusal(Reason.BAD_STATISTIC, f"the parameters are not {what}")
    for size, dim in zip(shape, wanted, strict=True):
        if isinstance(dim, int) and dim != size:
            raise Refusal(Reason.BAD_STATISTIC, f"{size} parameters for {dim} elements")


# --------------------------------------------------------------------- arithmetic


@source("Mul Add Sub Div", attributes="axis broadcast consumed_inputs")
def arithmetic(op: Operator) -> Source | None:
    """A value with a constant that broadcasts into the value's shape."""
    sides = [i for i in range(2) if op.is_constant(i)]
    if len(sides) != 1:
        return None
    data = 1 - sides[0]
    if not is_float(op.constant(sides[0]).dtype):
        return None
    constant = broadcast_into(op, sides[0], op.shape(data))
    if constant is None or not np.isfinite(constant).all():
        return None
    affine = written(op.op_type, data, constant)
    return Source(affine, data) if affine is not None and affine.is_finite else None


def written(op_type: str, data: int, constant: Any) -> Affine | None:
    """The affine of `value op constant`, or `constant op value`."""
    one, zero = np.ones_like(constant), np.zeros_like(constant)
    if op_type == "Mul":
        return Affine(constant, zero)
    if op_type == "Add":
        return Affine(one, constant)
    if op_type == "Sub":
        return Affine(one, -constant) if data == 0 else Affine(-one, constant)
    if data == 1 or not constant.all():
        return None
    return Affine(1 / constant, zero)


def broadcast_into(op: Operator, index: int, shape: tuple[Any, ...]) -> Any:
    """A constant at the rank of the value, if it broadcasts into it for certain; else None."""
    constant = op.constant(index).exact()
    rank = len(shape)
    if op.version < 7 and op.attribute("broadcast"):
        axis = op.attribute("axis", rank - constant.ndim)
        axis += rank if axis < 0 else 0
        if index != 1 or axis + constant.ndim > rank:
            return None
        constant = constant.reshape(constant.shape + (1,) * (rank - axis - constant.ndim))
    if constant.ndim > rank:
        return None
    full = constant.reshape((1,) * (rank - constant.ndim) + constant.shape)
    fits = all(size in (1, dim) for size, dim in zip(full.shape, shape, strict=True))
    return full if fits else None


@source("Neg")
def negative(op: Operator) -> Source | None:
    """`-x`."""
    if not op.is_float(0) or op.is_constant(0):
        return None
    return Source(Affine.of_scale(-np.ones((1,) * len(op.shape(0)))))

"""When do reductions commute with an affine? It must be uniform over what they reduce."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bnfold.affine import Affine
from bnfold.reasons import Reason, Refusal
from bnfold.rules.registry import Operator, Step, backward, forward, only
from bnfold.rules.reshaping import added, dropped
from bnfold.rules.shared import (
    normal_axis,
    require_positive,
    require_scale,
    require_uniform,
    size_of,
    vector,
)

REDUCE = "axes keepdims noop_with_empty_axes"


def reduced_axes(op: Operator) -> list[int]:
    """The axes that go. Raises Refusal where they are computed."""
    rank = len(op.shape(0))
    axes = op.attribute("axes")
    if axes is None and op.has_input(1):
        axes = vector(op, 1)
    if op.attribute("keepdims", 1) not in (0, 1):  # runtimes differ in what that means
        raise Refusal(Reason.OPAQUE_OP, f"{op.op_type} keeps neither all dimensions nor none")
    if not axes:
        return [] if op.attribute("noop_with_empty_axes", 0) else list(range(rank))
    return sorted({normal_axis(axis, rank) for axis in axes})  # one named twice counts once


def before(op: Operator, affine: Affine) -> Affine:
    """The result's affine on the axes of the input."""
    axes = reduced_axes(op)
    if op.attribute("keepdims", 1):
        require_uniform(affine, axes, op.op_type)
        return affine
    return added(affine, axes)


def behind(op: Operator, affine: Affine) -> Affine:
    """The input's affine on the axes of the result."""
    axes = reduced_axes(op)
    require_uniform(affine, axes, op.op_type)
    return affine if op.attribute("keepdims", 1) else dropped(affine, axes)


def count(op: Operator) -> int:
    """How many elements are reduced to one. Raises Refusal."""
    shape = op.shape(0)
    return int(np.prod([size_of(shape, axis, "the input") for axis in reduced_axes(op)]))


def require_elements(op: Operator) -> None:
    """Refuse to reduce nothing to one number, which is whatever the operator begins with."""
    shape = op.shape(0)
    if any(shape[axis] == 0 for axis in reduced_axes(op)):
        raise Refusal(Reason.OPAQUE_OP, f"{op.op_type} reduces an axis without elements")


@backward("ReduceMean", attributes=REDUCE)
def mean(op: Operator, affine: Affine) -> Step:
    """The mean of affines is the affine of the mean."""
    return Step(inputs={0: before(op, affine)})


@forward("ReduceMean", attributes=REDUCE)
def mean_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """The mean of affines is the affine of the mean."""
    return Step(outputs={0: behind(op, only(affines))})


@backward("ReduceSum", attributes=REDUCE)
def total(op: Operator, affine: Affine) -> Step:
    """`s sum(x) + t = sum(s x + t / n)`."""
    moved = before(op, affine)
    if affine.is_pure_scale:
        return Step(inputs={0: moved})
    require_elements(op)
    return Step(inputs={0: Affine(moved.scale, moved.shift / count(op))})


@forward("ReduceSum", attributes=REDUCE)
def total_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """`sum(s x + t) = s sum(x) + n t`."""
    affine = only(affines)
    moved = behind(op, affine)
    if affine.is_pure_scale:
        return Step(outputs={0: moved})
    return Step(outputs={0: Affine(moved.scale, moved.shift * count(op))})


def turned(op: Operator, affine: Affine) -> str | None:
    """ReduceMax for ReduceMin and the reverse where all scales are negative."""
    require_elements(op)
    if (affine.scale < 0).all():
        return "ReduceMin" if op.op_type == "ReduceMax" else "ReduceMax"
    require_positive(affine, op)
    return None


@backward("ReduceMax ReduceMin", attributes=REDUCE)
def extremum(op: Operator, affine: Affine) -> Step:
    """`s max(x) + t = max(s x + t)` for s >= 0, min for s < 0."""
    return Step(inputs={0: before(op, affine)}, op_type=turned(op, affine))


@forward("ReduceMax ReduceMin", attributes=REDUCE)
def extremum_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """`max(s x + t) = s max(x) + t` for s >= 0, with min for s < 0."""
    affine = only(affines)
    return Step(outputs={0: behind(op, affine)}, op_type=turned(op, affine))


def require_norm(op: Operator) -> None:
    """Refuse a norm over no axis: to some it is the value, to some its magnitude."""
    if not reduced_axes(op) and op.shape(0):
        raise Refusal(Reason.OPAQUE_OP, f"{op.op_type} over no axis")


@backward("ReduceL1 ReduceL2", attributes=REDUCE)
def norm(op: Operator, affine: Affine) -> Step:
    """`s |x| = |s x|` for s >= 0."""
    require_norm(op)
    require_scale(affine, op)
    require_positive(affine, op)
    return Step(inputs={0: before(op, affine)})


@forward("ReduceL1 ReduceL2", attributes=REDUCE)
def norm_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """`|s x| = |s| |x|`."""
    require_norm(op)
    affine = only(affines)
    require_scale(affine, op)
    return Step(outputs={0: behind(op, affine).moved(np.abs)})

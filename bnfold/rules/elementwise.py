"""How do sums, products and choices of values carry an affine? Operands broadcast."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from bnfold.affine import Affine, joint_shape
from bnfold.reasons import Reason, Refusal
from bnfold.rules.registry import Operator, Step, backward, forward, only
from bnfold.rules.shared import (
    Array,
    choices,
    fitted,
    inverse,
    lifted,
    require_positive,
    require_scale,
)

LEGACY = "axis broadcast consumed_inputs"


def refuse_legacy(op: Operator) -> None:
    """Before opset 7 an attribute places the second operand."""
    if op.version < 7 and op.attribute("broadcast"):
        raise Refusal(Reason.OPAQUE_OP, f"{op.op_type} broadcasts as before opset 7")


def constants_first(op: Operator) -> list[int]:
    """The operands, those known before run time first."""
    return sorted(range(op.input_count), key=lambda i: not op.is_constant(i))


# --------------------------------------------------------------------------- sums


def sign(op: Operator, index: int) -> float:
    """The factor that an operand has in the sum."""
    if op.op_type == "Mean":
        return 1 / op.input_count
    return -1.0 if op.op_type == "Sub" and index == 1 else 1.0


@backward("Add Sub Sum Mean", attributes=LEGACY)
def add(op: Operator, affine: Affine) -> list[Step]:
    """`s (a + b) + t = (s a + t) + s b`: every operand takes the scale, one takes the shift."""
    refuse_legacy(op)
    scales = {i: fitted(op, i, affine.scale_part) for i in range(op.input_count)}
    if affine.is_pure_scale:
        return [Step(inputs=scales)]

    def taken_by(index: int) -> Step:
        whole = Affine(affine.scale, affine.shift / sign(op, index))
        return Step(inputs=scales | {index: fitted(op, index, whole)})

    return choices(op, [lambda i=i: taken_by(i) for i in constants_first(op)])  # type: ignore[misc]


@forward("Add Sub Sum Mean", attributes=LEGACY)
def add_inputs(op: Operator, affines: Mapping[int, Affine]) -> list[Step]:
    """`(s a + t) + b = s (a + b / s) + t`: the shift into another operand, or on."""
    refuse_legacy(op)
    rank = len(op.output_shape())
    full = {i: lifted(affine, rank) for i, affine in affines.items()}
    first, *rest = full.values()
    scale = first.scale_part
    if not all(np.array_equal(scale.scale, other.scale) for other in rest):
        raise Refusal(Reason.CONFLICT, f"the operands of {op.op_type} have different scales")
    shift: Array = sum(sign(op, i) * a.shift for i, a in full.items())  # type: ignore[assignment]
    others = [i for i in constants_first(op) if i not in full]
    back = inverse(scale, op) if others and not scale.is_identity else scale
    if not others:
        back = Affine.identity(rank)

    def taken_by(index: int) -> Step:
        whole = Affine(back.scale, back.scale * shift / sign(op, index))
        inputs = {i: fitted(op, i, back) for i in others} | {index: fitted(op, index, whole)}
        return Step(inputs=inputs, outputs={0: scale})

    def carried() -> Step:
        inputs = {i: fitted(op, i, back) for i in others}
        return Step(inputs=inputs, outputs={0: Affine(scale.scale, shift)})

    if not shift.any():
        return [carried()]
    takers: list[Callable[[], Step]] = [lambda i=i: taken_by(i) for i in others]  # type: ignore[misc]
    return choices(op, [*takers, carried])


# ----------------------------------------------------------------------- products


def operand(op: Operator, index: int, rank: int) -> Array:
    """A constant operand in float64, with leading dimensions of 1 up to the result's rank."""
    value = op.constant(index).exact()
    return value.reshape((1,) * (rank - value.ndim) + value.shape)


def product(first: Array, second: Array) -> Array:
    """`first * second`. Raises Refusal where their sizes are different ones."""
    joint_shape(first.shape, second.shape)
    return np.asarray(first * second)


def quotient(numerator: Array, denominator: Array) -> Array:
    """`numerator / denominator`, 0 where both are 0. Raises Refusal where only the latter is."""
    joint_shape(numerator.shape, denominator.shape)
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    if ((denominator == 0) & (numerator != 0)).any():
        raise Refusal(Reason.ZERO_SCALE, "the fold would have to divide by a zero constant")
    result = np.zeros(numerator.shape)
    return np.divide(numerator, denominator, out=result, where=denominator != 0)


@backward("Mul", attributes=LEGACY)
def mul(op: Operator, affine: Affine) -> list[Step]:
    """`s (a b) = (s a) b`; beside a constant c also `s (c a) + t = c (s a + t / c)`."""
    refuse_legacy(op)
    makers: list[Callable[[], Step]] = []
    order = constants_first(op)
    if affine.is_pure_scale:
        makers = [lambda i=i: Step(inputs={i: fitted(op, i, affine)}) for i in order]  # type: ignore[misc]
    elif op.is_constant(order[0]):

        def through() -> Step:
            inner = quotient(affine.shift, operand(op, order[0], affine.rank))
            return Step(inputs={order[1]: fitted(op, order[1], Affine(affine.scale, inner))})

        makers = [through]
    else:
        require_scale(affine, op)
    return choices(op, makers)


@forward("Mul", attributes=LEGACY)
def mul_inputs(op: Operator, affines: Mapping[int, Affine]) -> list[Step]:
    """`(s a) b = s (a b)`; beside a constant c also `c (s a + t) = s (c a) + c t`."""
    refuse_legacy(op)
    rank = len(op.output_shape())
    if len(affines) == 2:
        first, second = (lifted(a, rank) for a in affines.values())
        require_scale(first, op)
        require_scale(second, op)
        return [Step(outputs={0: Affine.of_scale(product(first.scale, second.scale))})]
    (data, lost), *_ = affines.items()
    affine, other = lifted(lost, rank), 1 - data
    if op.is_constant(other):
        shift = product(operand(op, other, rank), affine.shift)
        makers: list[Callable[[], Step]] = [
            lambda: Step(
                inputs={other: fitted(op, other, affine.scale_part)},
                outputs={0: Affine.of_shift(shift)},
            ),
            lambda: Step(outputs={0: Affine(affine.scale, shift)}),
        ]
        return choices(op, makers)
    require_scale(affine, op)
    return choices(
        op,
        [
            lambda: Step(outputs={0: affine}),
            lambda: Step(inputs={other: fitted(op, other, affine)}),
        ],
    )


@backward("Div", attributes=LEGACY)
def div(op: Operator, affine: Affine) -> list[Step]:
    """`s (a / b) = (s a) / b = a / (b / s)`; over a constant c also `(s a + t c) / c`."""
    refuse_legacy(op)
    if affine.is_pure_scale:
        makers: list[Callable[[], Step]] = [
            lambda: Step(inputs={0: fitted(op, 0, affine)}),
            lambda: Step(inputs={1: fitted(op, 1, inverse(affine, op))}),
        ]
        return choices(
            op, makers if op.is_constant(0) else makers[::-1] if op.is_constant(1) else makers
        )
    if not op.is_constant(1):
        require_scale(affine, op)
    inner = product(affine.shift, operand(op, 1, affine.rank))
    return [Step(inputs={0: fitted(op, 0, Affine(affine.scale, inner))})]


@forward("Div", attributes=LEGACY)
def div_inputs(op: Operator, affines: Mapping[int, Affine]) -> list[Step]:
    """`(s a) / b = s (a / b)`, `a / (s b) = (a / b) / s`; over c also `(s a + t) / c`."""
    refuse_legacy(op)
    rank = len(op.output_shape())
    if 1 in affines:
        affine = lifted(only(affines, 1), rank)
        require_scale(affine, op)
        back = inverse(affine, op)
        return choices(
            op,
            [
                lambda: Step(inputs={0: fitted(op, 0, back)}),
                lambda: Step(outputs={0: back}),
            ][:: 1 if op.is_constant(0) else -1],
        )
    affine = lifted(affines[0], rank)
    if op.is_constant(1):
        shift = quotient(affine.shift, operand(op, 1, rank))
        makers: list[Callable[[], Step]] = [lambda: Step(outputs={0: Affine(affine.scale, shift)})]
        if affine.is_invertible:
            back = affine.scale_part.inverse()
            absorbed = Step(inputs={1: back}, outputs={0: Affine.of_shift(shift)})
            makers.insert(0, lambda: absorbed)
        return choices(op, makers)
    require_scale(affine, op)
    return [Step(outputs={0: affine})]


@backward("Neg")
def neg(_: Operator, affine: Affine) -> Step:
    """`s (-x) + t = -(s x - t)`."""
    return Step(inputs={0: Affine(affine.scale, -affine.shift)})


@forward("Neg")
def neg_input(_: Operator, affines: Mapping[int, Affine]) -> Step:
    """`-(s x + t) = s (-x) - t`."""
    affine = only(affines)
    return Step(outputs={0: Affine(affine.scale, -affine.shift)})


# ------------------------------------------------------------------------ choices


def all_operands(op: Operator, affine: Affine, operands: range) -> dict[int, Affine]:
    """Every operand takes the same affine."""
    return {i: fitted(op, i, affine) for i in operands}


def others_back(op: Operator, affines: Mapping[int, Affine], operands: range) -> Step:
    """The affine goes on to the result; operands that have not lost it take the inverse."""
    rank = len(op.output_shape())
    first, *rest = (lifted(affine, rank) for affine in affines.values())
    if not all(first.equals(other) for other in rest):
        raise Refusal(Reason.CONFLICT, f"the operands of {op.op_type} have different affines")
    others = [i for i in operands if i not in affines]
    back = inverse(first, op) if others else first
    return Step(inputs={i: fitted(op, i, back) for i in others}, outputs={0: first})


@backward("Max Min", attributes="consumed_inputs")
def extremum(op: Operator, affine: Affine) -> Step:
    """`s max(a, b) + t = max(s a + t, s b + t)`; all scales below 0 turn it into the other."""
    kind = turned(op, affine)
    return Step(inputs=all_operands(op, affine, range(op.input_count)), op_type=kind)


def turned(op: Operator, affine: Affine) -> str | None:
    """Max for Min and the reverse where every scale is negative. Raises Refusal for some."""
    if (affine.scale < 0).all() and op.version >= 8:
        return "Min" if op.op_type == "Max" else "Max"
    require_positive(affine, op)
    return None


@forward("Max Min", attributes="consumed_inputs")
def extremum_inputs(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """`max(s a + t, b) = s max(a, (b - t) / s) + t`."""
    step = others_back(op, affines, range(op.input_count))
    return Step(inputs=step.inputs, outputs=step.outputs, op_type=turned(op, step.outputs[0]))


@backward("Where")
def where(op: Operator, affine: Affine) -> Step:
    """Both branches take it."""
    return Step(inputs=all_operands(op, affine, range(1, 3)))


@forward("Where")
def where_inputs(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """`where(m, A(a), b) = A(where(m, a, A^-1(b)))`."""
    if 0 in affines:
        raise Refusal(Reason.OPAQUE_OP, "the value decides a Where")
    return others_back(op, affines, range(1, 3))

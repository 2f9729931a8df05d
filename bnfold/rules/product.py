"""How do matrix products take an affine in? Gemm, MatMul and Einsum."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from bnfold.affine import Affine
from bnfold.constants import Constant
from bnfold.equation import read_equation
from bnfold.reasons import Reason, Refusal
from bnfold.rules.registry import MICROSOFT, Operator, Step, backward, forward
from bnfold.rules.shared import (
    Array,
    along,
    choices,
    fitted,
    lifted,
    lowered,
    per_channel,
    size_of,
)

GEMM = "activation activation_alpha activation_beta activation_gamma alpha beta broadcast"
GEMM += " transA transB"
FUSED = "alpha transA transB transBatchA transBatchB"


# --------------------------------------------------------------------------- Gemm


def refuse_activation(op: Operator) -> None:
    """com.microsoft's FusedGemm may have one, after which nothing is linear."""
    if op.attribute("activation"):
        raise Refusal(Reason.OPAQUE_OP, f"{op.op_type} has an activation")


@backward("Gemm", attributes=GEMM)
@backward("FusedGemm", attributes=GEMM, domain=MICROSOFT)
def gemm(op: Operator, affine: Affine) -> Step:
    """`s * (alpha A B + beta C) + t`: the scale into columns of B or rows of A, all into C."""
    refuse_activation(op)
    plain = affine.scale.size == 1 and not op.is_constant(1)
    side = 0 if affine.scale.shape[0] > 1 or (plain and op.is_constant(0)) else 1
    axis = 1 - side if op.attribute("transB" if side else "transA", 0) else side
    scale, _ = per_channel(affine.scale_part, side, op)
    inputs = {side: Affine.of_scale(along(scale, axis, 2))}
    return Step(inputs=inputs, **into_addend(op, affine))  # type: ignore[arg-type]


def into_addend(op: Operator, affine: Affine) -> dict[str, object]:
    """The affine of the product's C: `beta C' = s beta C + t`. Raises Refusal."""
    beta = op.attribute("beta", 1.0)
    if op.has_input(2) and beta != 0:
        scaled = Affine(affine.scale, affine.shift / beta)
        if not op.is_constant(2):
            raise Refusal(Reason.GEMM_BIAS, f"the addend of {op.op_type} is computed at run time")
        return {"constants": {2: legal_addend(op.constant(2), scaled)}, **broadcasting(op)}
    if not affine.shift.any():
        return {}
    zero = Constant.of_array(np.zeros(()), weight_of(op).dtype)
    attributes = {"beta": None} if beta != 1 else {}
    new = legal_addend(zero, affine.shift_part)
    return {"constants": {2: new}, "attributes": {**attributes, **legacy(op)}}


def legal_addend(addend: Constant, affine: Affine) -> Constant:
    """C after an affine of the result; it may grow from a scalar to a row, column or matrix."""
    grown = addend.through(affine)
    shape = grown.shape or (1,)
    return Constant(lambda: grown.exact().reshape(shape), shape, addend.dtype)


def legacy(op: Operator) -> dict[str, int]:
    """Before opset 7, C broadcasts only where an attribute says so."""
    return {"broadcast": 1} if op.version < 7 and op.op_type == "Gemm" else {}


def broadcasting(op: Operator) -> dict[str, object]:
    """The same as an entry of a step."""
    return {"attributes": legacy(op)} if legacy(op) else {}


def weight_of(op: Operator) -> Constant:
    """The constant factor. Raises Refusal when there is none."""
    return op.constant(1 if op.is_constant(1) else 0)


@forward("Gemm", attributes=GEMM)
@forward("FusedGemm", attributes=GEMM, domain=MICROSOFT)
def gemm_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """`alpha (s A + t) B + beta C`: the scale into B, `alpha (t B)` into `beta C`; or for B."""
    refuse_activation(op)
    data = lost_factor(affines)
    other = 1 - data
    inner = contracted(op, data)
    scale, shift = per_channel(affines[data], inner, op)
    axis = contracted(op, other)
    inputs = {other: Affine.of_scale(along(scale, axis, 2))}
    if not shift.any():
        return Step(inputs=inputs)
    weight, alpha = op.constant(other), op.attribute("alpha", 1.0)
    size = weight.shape[1 - axis]
    shape = (1, size) if other == 1 else (size, 1)

    def moved() -> Array:
        """`t B` as `(1, N)`, or `A t` as `(M, 1)`."""
        sums = weight.weighted_sum(along(shift, axis, 2), axis)
        return np.asarray(alpha * sums).reshape(shape)

    return Step(inputs=inputs, **beside_addend(op, moved, shape))  # type: ignore[arg-type]


def beside_addend(
    op: Operator, moved: Callable[[], Array], shape: tuple[int, ...]
) -> dict[str, object]:
    """`beta C' = moved + beta C`, of which the sums over a weight are computed when needed."""
    beta = op.attribute("beta", 1.0)
    if not op.has_input(2) or beta == 0:
        attributes = {"beta": None} if beta != 1 else {}
        shape, like = stripped(shape, 0), weight_of(op)
        new = Constant(lambda: moved().reshape(shape), shape, like.dtype)
        return {"constants": {2: new}, "attributes": {**attributes, **legacy(op)}}
    if not op.is_constant(2):
        raise Refusal(Reason.GEMM_BIAS, f"the addend of {op.op_type} is computed at run time")
    addend = op.constant(2)
    shape = stripped(np.broadcast_shapes(addend.shape, shape), addend.rank)
    new = Constant(lambda: (addend.exact() + moved() / beta).reshape(shape), shape, addend.dtype)
    return {"constants": {2: new}, **broadcasting(op)}


def stripped(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Without leading dimensions of 1, down to a rank; a row of one number at least."""
    while len(shape) > rank and shape[0] == 1:
        shape = shape[1:]
    return shape or (1,)


def lost_factor(affines: Mapping[int, Affine]) -> int:
    """Which factor changed. Raises Refusal for both, and for an addend."""
    if len(affines) != 1 or next(iter(affines)) not in (0, 1):
        raise Refusal(Reason.CONFLICT, "more than one operand of the product would change")
    return next(iter(affines))


def contracted(op: Operator, index: int) -> int:
    """The contracted axis of a Gemm's factor."""
    transposed = bool(op.attribute("transB" if index else "transA", 0))
    return int(transposed) if index else int(not transposed)


# ------------------------------------------------------------------------- MatMul


def factor_axes(op: Operator, index: int) -> tuple[int, int]:
    """(free axis, contracted axis) of a factor, counted from the back as -1 or -2."""
    rank = len(op.shape(index))
    if rank < 2:
        raise Refusal(Reason.WRONG_AXIS, f"{op.op_type} with a vector")
    if op.attribute("transBatchA", 0) or op.attribute("transBatchB", 0):
        raise Refusal(Reason.OPAQUE_OP, f"{op.op_type} moves the batch axis")
    flipped = bool(op.attribute("transB" if index else "transA", 0))
    return (-1, -2) if (index == 1) != flipped else (-2, -1)


def swapped(affine: Affine) -> Affine:
    """The last two axes exchanged."""
    return affine.moved(lambda a: a.swapaxes(-1, -2))


def onto_factor(op: Operator, index: int, affine: Affine) -> Affine:
    """The result's scale as one of a factor: on its free axis and its own batch axes."""
    free, _ = factor_axes(op, index)
    place, gone = (-1, -2) if index == 1 else (-2, -1)
    if affine.rank + gone in affine.axes:
        raise Refusal(
            Reason.WRONG_AXIS, f"the affine varies along axis {affine.rank + gone} of the product"
        )
    fitted = affine if free == place else swapped(affine)
    return lowered(fitted, op.shape(index), f"a factor of {op.op_type}")


@backward("MatMul")
@backward("FusedMatMul", attributes=FUSED, domain=MICROSOFT)
def matmul(op: Operator, affine: Affine) -> list[Step]:
    """The scale into either factor; a shift becomes the addend of a Gemm, or an Add after it.

    Where the rows of the other factor sum to one, as an attention's do, a factor takes both.
    """
    order = sorted((1, 0), key=lambda i: not op.is_constant(i))
    return choices(op, [lambda i=i: ways(op, i, affine) for i in order])  # type: ignore[misc]


def ways(op: Operator, index: int, affine: Affine) -> list[Step]:
    """How the result's affine goes into one factor. Raises Refusal."""
    if affine.is_pure_scale or not averages(op, 1 - index):
        inputs = {index: onto_factor(op, index, affine.scale_part)}
        return with_shift(op, inputs, affine.shift_part, Step(inputs=inputs))
    alpha = op.attribute("alpha", 1.0)
    if alpha == 0:
        raise Refusal(Reason.ZERO_SCALE, f"{op.op_type} is multiplied by zero")
    # P (s V + t) = s P V + t, since every row of P sums to one.
    return [
        Step(inputs={index: onto_factor(op, index, Affine(affine.scale, affine.shift / alpha))})
    ]


def averages(op: Operator, index: int) -> bool:
    """Whether this factor makes weighted means of the other: its rows sum to one."""
    return op.sums_to_one(index, factor_axes(op, index)[1])


def with_shift(
    op: Operator, inputs: Mapping[int, Affine], shift: Affine, plain: Step
) -> list[Step]:
    """The ways for a product to add a shift to its result."""
    if shift.is_identity:
        return [plain]
    like = next((op.constant(i) for i in range(op.input_count) if op.is_constant(i)), None)
    if like is None:
        raise Refusal(Reason.GEMM_BIAS, f"{op.op_type} of two computed values has no bias")
    bias = Constant.of_array(shift.shift.copy(), like.dtype)
    is_plain = op.op_type == "MatMul" and op.version >= 7
    if is_plain and shift.rank == 2 and len(op.shape(0)) == 2 and len(op.shape(1)) == 2:
        return [Step(inputs=inputs, constants={2: squeezed(bias)}, op_type="Gemm")]
    return [Step(inputs=inputs, bias=squeezed(bias))]


def squeezed(constant: Constant) -> Constant:
    """Without leading dimensions of 1, down to rank 1."""
    shape = constant.shape
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return Constant(lambda: constant.value().reshape(shape), shape, constant.dtype)


@forward("MatMul")
@forward("FusedMatMul", attributes=FUSED, domain=MICROSOFT)
def matmul_input(op: Operator, affines: Mapping[int, Affine]) -> list[Step]:
    """The scale of the contracted axis into the other factor, of other axes on to the result."""
    data = lost_factor(affines)
    affine = affines[data]
    scale = affine.scale_part
    free, inner = (affine.rank + axis for axis in factor_axes(op, data))
    if not affine.is_pure_scale and inner not in affine.axes and averages(op, 1 - data):
        return [Step(outputs={0: averaged(op, data, affine)})]
    steps: list[Step] = []
    if free not in scale.axes:
        steps += [Step(inputs={1 - data: into_other(op, data, scale)})]
    if inner not in scale.axes and (affine.is_pure_scale or not steps):
        turned = scale if free - affine.rank == (-2 if data == 0 else -1) else swapped(scale)
        steps += [Step(outputs={0: lifted(turned, len(op.output_shape()))})]
    if not steps:
        raise Refusal(Reason.WRONG_AXIS, "the scale varies along both axes of the factor")
    if affine.is_pure_scale:
        return steps if op.is_constant(1 - data) else steps[::-1]
    if steps[0].outputs and not scale.is_identity:
        raise Refusal(Reason.WRONG_AXIS, f"the scale stays beside the shift after {op.op_type}")
    shift = product_of_shift(op, data, affine.shift)
    carried = Step(inputs=steps[0].inputs, outputs={0: shift})
    return [carried, *with_shift(op, steps[0].inputs, shift, carried)]


def averaged(op: Operator, data: int, affine: Affine) -> Affine:
    """The affine of a factor, uniform along its contracted axis, as one of the result."""
    free, _ = factor_axes(op, data)
    whole = Affine(affine.scale, op.attribute("alpha", 1.0) * affine.shift)
    turned = whole if free == (-2 if data == 0 else -1) else swapped(whole)
    return lifted(turned, len(op.output_shape()))


def into_other(op: Operator, data: int, scale: Affine) -> Affine:
    """The scale of one factor as one of the other, along the contracted axis."""
    _, inner = factor_axes(op, data)
    _, inner_other = factor_axes(op, 1 - data)
    turned = scale if inner == inner_other else swapped(scale)
    return lowered(lifted_to(turned, op, 1 - data), op.shape(1 - data), "the other factor")


def lifted_to(affine: Affine, op: Operator, index: int) -> Affine:
    """Fitted to a factor of another rank: more leading dimensions, or fewer uniform ones."""
    rank = len(op.shape(index))
    return lifted(affine, rank) if affine.rank < rank else affine


def product_of_shift(op: Operator, data: int, shift: Array) -> Affine:
    """What a shift of one factor adds to the result: `alpha * shift @ weight`."""
    weight = op.constant(1 - data).exact()
    _, inner = factor_axes(op, data)
    _, inner_other = factor_axes(op, 1 - data)
    full = list(shift.shape)
    full[inner] = weight.shape[inner_other]
    filled = np.broadcast_to(shift, full)
    left = filled if inner == -1 else filled.swapaxes(-1, -2)
    right = weight if inner_other == -2 else weight.swapaxes(-1, -2)
    product = left @ right  # (..., free of data or 1, free of weight)
    if data == 1:
        product = product.swapaxes(-1, -2)
    alpha = op.attribute("alpha", 1.0)
    return lifted(Affine.of_shift(alpha * product), len(op.output_shape()))


# ------------------------------------------------------------------------- Einsum


def labels(op: Operator) -> tuple[list[str], str]:
    """The labels of operands and result. Raises Refusal for ellipses and repeated labels."""
    equation = op.attribute("equation", "")
    read = read_equation(equation)
    if read is None:
        raise Refusal(Reason.OPAQUE_OP, f"the equation {equation!r} is not read")
    return read


def relabelled(affine: Affine, source: str, target: str) -> Affine:
    """Axes by label: those not in the target must be uniform, new ones are 1."""
    kept = [label for label in target if label in source]
    order = [source.index(label) for label in kept]
    rest = [axis for axis in range(len(source)) if axis not in order]
    if affine.axes & set(rest):
        raise Refusal(Reason.WRONG_AXIS, "the affine varies along a label the operand has not")

    def move(array: Array) -> Array:
        arranged = array.transpose(order + rest)
        sizes = iter(arranged.shape)
        return arranged.reshape([next(sizes) if label in source else 1 for label in target])

    return affine.moved(move)


@backward("Einsum", attributes="equation")
def einsum(op: Operator, affine: Affine) -> list[Step]:
    """The scale into an operand that has its labels; a shift into an Add after it.

    Where the weights of a mean sum to one, what they average takes both.
    """
    operands, _ = labels(op)
    order = sorted(range(len(operands)), key=lambda i: not op.is_constant(i))
    return choices(op, [lambda i=i: einsum_ways(op, i, affine) for i in order])  # type: ignore[misc]


def einsum_ways(op: Operator, index: int, affine: Affine) -> list[Step]:
    """How the result's affine goes into one operand. Raises Refusal."""
    operands, result = labels(op)
    if not affine.is_pure_scale and einsum_averages(op, index):
        whole = fitted(op, index, relabelled(affine, result, operands[index]))
        return [Step(inputs={index: whole})]
    scale = relabelled(affine.scale_part, result, operands[index])
    inputs = {index: fitted(op, index, scale)}
    return with_shift(op, inputs, affine.shift_part, Step(inputs=inputs))


def einsum_averages(op: Operator, data: int) -> bool:
    """Whether the result is weighted means of this operand, by weights that sum to one."""
    operands, result = labels(op)
    if len(operands) != 2:
        return False
    other = operands[1 - data]
    summed = set("".join(operands)) - set(result)
    if len(summed) != 1 or not summed <= set(operands[data]) & set(other):
        return False
    label = summed.pop()
    sizes = [op.shape(i)[operands[i].index(label)] for i in range(2)]
    if sizes[0] is None or sizes[0] != sizes[1]:  # one of them may be 1, and be broadcast
        return False
    return op.sums_to_one(1 - data, other.index(label) - len(other))


@forward("Einsum", attributes="equation")
def einsum_input(op: Operator, affines: Mapping[int, Affine]) -> list[Step]:
    """The scale into the other operand or on to the result, and `einsum(shift, weight)` on to it.

    Where the weights of a mean sum to one, the affine of what they average goes on whole.
    """
    operands, result = labels(op)
    if len(affines) != 1 or len(operands) != 2:
        raise Refusal(Reason.OPAQUE_OP, f"{op.op_type} of more than two operands")
    data, affine = next(iter(affines.items()))
    term, other = operands[data], operands[1 - data]
    if not affine.is_pure_scale and einsum_averages(op, data):
        return [Step(outputs={0: relabelled(affine, term, result)})]
    scale = affine.scale_part
    makers: list[Callable[[], Step]] = [
        lambda: Step(inputs={1 - data: fitted(op, 1 - data, relabelled(scale, term, other))}),
        lambda: Step(outputs={0: relabelled(scale, term, result)}),
    ]
    steps = choices(op, makers if op.is_constant(1 - data) else makers[::-1])
    if affine.is_pure_scale:
        return steps
    shift = einsum_of_shift(op, data, affine.shift)
    return [way for step in steps for way in beside_shift(op, step, shift, 1 - data)]


def einsum_of_shift(op: Operator, data: int, shift: Array) -> Affine:
    """What a shift of one operand adds to the result: `einsum(shift, weight)`."""
    operands, result = labels(op)
    term, other = operands[data], operands[1 - data]
    weight = op.constant(1 - data)
    sizes = dict(zip(other, weight.shape, strict=True))
    for axis, label in enumerate(term):
        if sizes.get(label, 1) == 1:  # then the data tells how often the shift is summed
            summed = label not in result
            size = size_of(op.shape(data), axis, "the operand") if summed else None
            sizes[label] = shift.shape[axis] if size is None else size
    filled = np.broadcast_to(shift, [sizes[label] for label in term])
    equation = f"{term},{other}->{result}"
    return Affine.of_shift(np.asarray(np.einsum(equation, filled, weight.exact())))


def beside_shift(op: Operator, step: Step, shift: Affine, weight: int) -> list[Step]:
    """The ways to put a shift of the result beside what a step does with the scale."""
    if step.outputs:
        return [Step(outputs={0: Affine(step.outputs[0].scale, shift.shift)})]
    bias = Constant.of_array(shift.shift.copy(), op.constant(weight).dtype)
    return [
        Step(inputs=step.inputs, outputs={0: shift}),
        Step(inputs=step.inputs, bias=squeezed(bias)),
    ]

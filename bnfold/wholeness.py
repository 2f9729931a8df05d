"""Which values may be exact, and which of those does a step look at?

A network of whole numbers in a float type (whole weights, scales and shifts by design) computes
without rounding, or with a few roundings of exact values. A step (Floor, a comparison, a Cast to
whole numbers) then meets its ties by design and not by chance: what a fold rounds there, falls
to the other side.

A value may be exact unless something on the way to it leaves no exact number: a weight of many
digits, a learned shift that differs by channel, a function such as Sigmoid or a root. It is
rounded, and exact for some inputs only, behind a division or a trained factor. What a graph reads
is taken to be whole numbers, and operators that nobody knows to hand exactness on.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import numpy as np

from bnfold.bits import FEW, are_coarse, are_few, are_powers_of_two, has_few_bits
from bnfold.constants import FLOATS, Constant
from bnfold.graph import LOOKS_ASIDE, Graph, Node, Value
from bnfold.reasons import Refusal

MICROSOFT = "com.microsoft"
DEFAULT_EPSILON = float(np.float32(1e-5))
"""That of a batch normalization: ONNX attributes are float32, and so is the default."""

STEPS = frozenset(
    "ArgMax ArgMin Ceil DynamicQuantizeLinear Equal Floor Greater GreaterOrEqual GridSample "
    "Hardmax If IsInf IsNaN Less LessOrEqual Loop Mod NonZero QuantizeLinear Round Scan "
    "Shrink Sign ThresholdedRelu TopK Unique".split()
)
"""Operators that jump, or may hide one that does; so does all that makes whole numbers of floats.
"""

BLURS = frozenset(
    "Acos Acosh Asin Asinh Atan Atanh Attention Celu Cos Cosh Det Elu Erf Exp GRU Gelu "
    "GlobalLpPool GroupNormalization HardSigmoid HardSwish InstanceNormalization LRN LSTM "
    "LayerNormalization Log LogSoftmax LpNormalization LpPool MeanVarianceNormalization Mish RNN "
    "RMSNormalization Reciprocal ReduceL2 ReduceLogSum ReduceLogSumExp Selu Sigmoid Sin Sinh "
    "SkipLayerNormalization FastGelu BiasGelu QuickGelu Softmax Softplus Softsign Sqrt Swish Tan "
    "Tanh RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split()
)
"""Functions whose results are no exact numbers."""

ROUNDINGS = frozenset("Ceil Floor Round Sign".split())
"""Steps with whole results, whatever they read."""

ROUNDS = frozenset(
    "AveragePool Cast DequantizeLinear Div GlobalAveragePool GridSample LeakyRelu Mean Mod PRelu "
    "Pow ReduceMean Resize RoiAlign Shrink Upsample".split()
)
"""Operators that may round what is exact."""

PRODUCTS = frozenset(
    "Conv ConvTranspose Einsum Gemm MatMul FusedConv FusedGemm FusedMatMul".split()
)
"""Sums of products: exact where the constants among their operands have few digits."""
BIASED = frozenset("Conv ConvTranspose Gemm FusedConv FusedGemm".split())
BIAS = 2
"""Where their addend stands."""

ADDITIONS = frozenset("Add Mean Sub Sum".split())

TABLES = frozenset("Gather GatherElements GatherND".split())

CHOICES = frozenset("Concat Max Min Where ScatterElements ScatterND".split())
"""Results of which a part is exact where one operand is."""


class Grade(IntEnum):
    """What a value may hold."""

    BLURRED = 0
    """No exact number, but by chance."""
    ROUNDED = 1
    """A rounding of exact numbers, which for some of them is none."""
    EXACT = 2
    """Numbers that were never rounded."""


class Wholeness:
    """The values of one graph, as it was before anything was folded."""

    def __init__(self, graph: Graph) -> None:
        self.root = graph.root
        nodes = sorted(graph.nodes, key=lambda n: n.position)
        self.has_steps = any(is_step(node) for node in nodes)
        self._grades: dict[Value, Grade] = {}
        self._stepless: set[Value] = set()
        for node in nodes if self.has_steps else ():
            grade = grade_of(self, node)
            self._grades.update((v, grade) for v in node.outputs if v is not None)

    def grade(self, value: Value) -> Grade:
        """What the value may hold."""
        if value not in self._grades:
            node = value.producer
            self._grades[value] = Grade.EXACT if node is None else grade_of(self, node)
        return self._grades[value]

    def decides(self, value: Value) -> bool:
        """Whether a step looks at the value, which may be exact, or at what follows from it."""
        if not self.has_steps or not self._goes_on(value):
            return False
        seen, waiting = {value}, [value]
        while waiting:
            for reader, _ in waiting.pop().readers:
                if is_step(reader) or any(self._leaves(v) for v in reader.outputs):
                    return True
                fresh = {v for v in reader.outputs if v is not None and self._goes_on(v)} - seen
                seen |= fresh
                waiting += fresh
        self._stepless |= seen
        return False

    def _goes_on(self, value: Value) -> bool:
        return value not in self._stepless and self.grade(value) is not Grade.BLURRED

    def _leaves(self, value: Value | None) -> bool:
        """Whether the value goes out of a subgraph: to whom is not followed."""
        return value is not None and value.is_output and value.scope is not self.root


def is_whole(value: Value | None) -> bool:
    """Whether the value is known to be of a type that holds no float numbers."""
    return value is not None and value.elem_type != 0 and not value.is_float


def is_step(node: Node) -> bool:
    """Whether an operator jumps, or may: what is of no known domain, may."""
    if node.domain not in ("", MICROSOFT) or node.op_type in STEPS:
        return True
    makes = any(is_whole(v) and (v.uses or v.is_output) for v in node.outputs if v is not None)
    return makes and any(looks_at(node, i) for i in range(len(node.inputs)))


def looks_at(node: Node, index: int) -> bool:
    """Whether an operator reads the elements of an input that may be computed floats."""
    value = node.inputs[index]
    if value is None or value.is_constant or is_whole(value):
        return False
    return bool(node.domain) or (node.op_type, index) not in LOOKS_ASIDE


def grade_of(wholeness: Wholeness, node: Node) -> Grade:
    """What an operator's results may hold."""
    if is_whole(node.outputs[0]) or node.op_type in ROUNDINGS:
        return Grade.EXACT
    if node.op_type in BLURS:
        return Grade.BLURRED
    computed = [v for v in node.inputs if v is not None and not v.is_constant and not is_whole(v)]
    grades = [wholeness.grade(v) for v in computed]
    if node.op_type in CHOICES:
        grades = [g for g in grades if g is not Grade.BLURRED] or grades
    rule = NORMALIZATIONS.get(node.op_type, grade_of_constants)
    known = min(grades, default=Grade.EXACT)
    return known if known is Grade.BLURRED else min(known, rule(node))


def grade_of_constants(node: Node) -> Grade:
    """What an operator's constants make of exact numbers."""
    grade = Grade.ROUNDED if may_round(node) else Grade.EXACT
    for index, constant in constants(node):
        if node.op_type == "Div" and index == 1:
            grade = Grade.EXACT if are_powers_of_two(constant.exact()) else grade
        elif not has_few_bits(constant):
            grade = min(grade, Grade.BLURRED if blurs(node, index, constant) else Grade.ROUNDED)
    return grade


def may_round(node: Node) -> bool:
    """Whether an operator may round exact numbers; whole numbers become floats unrounded."""
    if node.domain not in ("", MICROSOFT) or node.op_type in {"If", "Loop", "Scan"}:
        return True
    return node.op_type in ROUNDS and any(looks_at(node, i) for i in range(len(node.inputs)))


def blurs(node: Node, index: int, constant: Constant) -> bool:
    """Whether a constant of many digits leaves no exact number."""
    if is_addend(node.op_type, index):
        return is_learned(constant)
    return node.op_type in PRODUCTS | TABLES


def is_addend(op_type: str, index: int) -> bool:
    """Whether an operator adds this operand, and multiplies by none."""
    return op_type in ADDITIONS or (op_type in BIASED and index == BIAS)


def constants(node: Node) -> Iterator[tuple[int, Constant]]:
    """The constant float operands."""
    for index, value in enumerate(node.inputs):
        if value is not None and value.elem_type in FLOATS and (known := value.constant):
            yield index, known


def grade_of_normalization(node: Node) -> Grade:
    """Trained statistics are met by chance only. But where a channel has a mean that exact numbers
    meet, and a beta by design, `x - mean` is exactly zero for some x."""
    parameters = [None if v is None else v.constant for v in node.inputs[1:]]
    try:
        gamma, beta, mean, var = (p.exact() for p in parameters if p is not None)
        if not np.any(are_coarse(beta) & are_coarse(mean)):
            return Grade.BLURRED
        scale = gamma / np.sqrt(var + node.attributes.get("epsilon", DEFAULT_EPSILON))
    except (ValueError, Refusal):  # not constant, of no float type, or of different sizes
        return Grade.BLURRED
    few = all(are_few(numbers, FEW["float32"]) for numbers in (scale, beta, mean))
    return Grade.EXACT if few else Grade.ROUNDED


def is_learned(constant: Constant) -> bool:
    """Whether an addend differs from channel to channel, and is nowhere a number by design."""
    return constant.size > 1 and not np.any(are_coarse(constant.exact()))


NORMALIZATIONS = {"BatchNormalization": grade_of_normalization}

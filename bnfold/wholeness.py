"""Which values may be exact, and which of those does a step look at?

A network of whole numbers in a float type (whole weights, scales and shifts by design) computes
without rounding, or with one rounding of an exact value. A step (Floor, a comparison, a Cast to
whole numbers) then meets its ties by design and not by chance: what a fold rounds there, falls
to the other side.

A value may be exact unless something on the way to it leaves no exact number: a weight of many
digits, a learned shift that differs by channel, a function such as Sigmoid or a root. What a
graph reads is taken to be whole numbers, and operators that nobody knows to hand exactness on.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bnfold.bits import are_coarse, has_few_bits
from bnfold.constants import FLOATS, Constant
from bnfold.graph import LOOKS_ASIDE, Graph, Node, Value

MICROSOFT = "com.microsoft"

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


class Wholeness:
    """The values of one graph, as it was before anything was folded."""

    def __init__(self, graph: Graph) -> None:
        self.root = graph.root
        nodes = sorted(graph.nodes, key=lambda n: n.position)
        self.has_steps = any(is_step(node) for node in nodes)
        self._exact: dict[Value, bool] = {}
        self._decides: dict[Value, bool] = {}
        for node in nodes if self.has_steps else ():
            for value in node.outputs:
                if value is not None:
                    self._exact[value] = is_exact(self, node)

    def may_be_exact(self, value: Value) -> bool:
        """Whether the value may be free of rounding, or be one rounding of an exact number."""
        if value not in self._exact:
            node = value.producer
            self._exact[value] = node is None or is_exact(self, node)
        return self._exact[value]

    def decides(self, value: Value) -> bool:
        """Whether a step looks at an exact value, or at what follows exactly from it."""
        if not self.has_steps or not self.may_be_exact(value):
            return False
        seen, waiting = {value}, [value]
        while waiting:
            for reader, _ in waiting.pop().readers:
                if is_step(reader) or any(self._leaves(v) for v in reader.outputs):
                    return True
                fresh = {v for v in reader.outputs if v is not None and self._goes_on(v)} - seen
                seen |= fresh
                waiting += fresh
        self._decides.update(dict.fromkeys(seen, False))
        return False

    def _goes_on(self, value: Value) -> bool:
        return self._decides.get(value, True) and self.may_be_exact(value)

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


def is_exact(wholeness: Wholeness, node: Node) -> bool:
    """Whether an operator makes exact numbers, or one rounding of such."""
    if node.domain not in ("", MICROSOFT) or is_step(node) or is_whole(node.outputs[0]):
        return True
    if node.op_type in BLURS:
        return False
    computed = [v for v in node.inputs if v is not None and not v.is_constant and not is_whole(v)]
    grades = [wholeness.may_be_exact(v) for v in computed]
    if not (any(grades) if node.op_type in CHOICES and grades else all(grades)):
        return False
    rule = CONSTANTS.get(node.op_type)
    return rule is None or rule(node)


def is_addend(op_type: str, index: int) -> bool:
    """Whether an operator adds this operand, and multiplies by none."""
    return op_type in ADDITIONS or (op_type in BIASED and index == BIAS)


def constants(node: Node) -> Iterator[tuple[int, Constant]]:
    """The constant float operands."""
    for index, value in enumerate(node.inputs):
        if value is not None and value.elem_type in FLOATS and (known := value.constant):
            yield index, known


def numbers_are_exact(node: Node) -> bool:
    """What is added is not learned, and what is multiplied or looked up has few digits."""
    return not any(
        is_learned(constant) if is_addend(node.op_type, index) else not has_few_bits(constant)
        for index, constant in constants(node)
    )


def normalization_is_exact(node: Node) -> bool:
    """Some channel has a mean that exact numbers meet, and a beta by design: there `x - mean` is
    exactly zero for some x. Trained statistics are met by chance only."""
    beta, mean = (node.inputs[i] for i in (2, 3))
    if beta is None or mean is None or not beta.constant or not mean.constant:
        return False
    try:
        return bool((are_coarse(beta.constant.exact()) & are_coarse(mean.constant.exact())).any())
    except ValueError:  # they contradict one another
        return False


def is_learned(constant: Constant) -> bool:
    """Whether an addend differs from channel to channel, and is nowhere a number by design."""
    return constant.size > 1 and not np.any(are_coarse(constant.exact()))


CONSTANTS = {
    **dict.fromkeys(PRODUCTS | ADDITIONS | TABLES, numbers_are_exact),
    "BatchNormalization": normalization_is_exact,
}
"""What the constants of an operator must be so that its results may be exact."""

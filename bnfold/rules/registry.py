"""What does each operator do with an affine? The tables, and the words that rules are written in.

A rule is a function of an operator (never of a graph) and an affine; it returns a `Step`, yields
several to choose from, or raises `Refusal`. The search knows no operator by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Protocol

from bnfold.affine import Affine
from bnfold.constants import Constant
from bnfold.reasons import Reason, Refusal

Dim = int | str | None
Shape = tuple[Dim, ...]


class Operator(Protocol):
    """What a rule may ask. Indices are positions in the node's inputs and outputs."""

    @property
    def op_type(self) -> str:
        """The operator's type."""

    @property
    def version(self) -> int:
        """The opset of its domain."""

    @property
    def input_count(self) -> int:
        """Number of inputs, absent ones included."""

    @property
    def output_count(self) -> int:
        """Number of outputs, absent ones included."""

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, or the default."""

    def has_input(self, index: int) -> bool:
        """Whether the input is there."""

    def has_output(self, index: int) -> bool:
        """Whether somebody reads the output."""

    def declares_output(self, index: int) -> bool:
        """Whether the output has a name, read or not."""

    def is_constant(self, index: int) -> bool:
        """Whether the input is known before run time."""

    def is_fixed(self, index: int) -> bool:
        """Whether the input follows from constants alone, known or not."""

    def constant(self, index: int) -> Constant:
        """The input's value. Raises Refusal (NOT_CONSTANT)."""

    def shape(self, index: int) -> Shape:
        """The input's shape. Raises Refusal (UNKNOWN_SHAPE) for an unknown rank."""

    def output_shape(self, index: int = 0) -> Shape:
        """The output's shape. Raises Refusal (UNKNOWN_SHAPE) for an unknown rank."""

    def is_float(self, index: int) -> bool:
        """Whether the input is of a type that weights have."""

    def elem_type(self, index: int) -> int:
        """ONNX's number for the input's type, 0 where it is not known."""

    def sums_to_one(self, index: int, axis: int) -> bool:
        """Whether the input's elements add up to one along an axis, whatever the model reads.

        The axis is counted from the back, -1 being the last one.
        """


@dataclass(frozen=True, slots=True)
class Step:
    """How one operator is rewritten so that the function stays the same.

    `inputs`: each of these inputs has to become `affine(input)`. `outputs`: each of these outputs
    was `affine(output)`, its readers have to take that in. `constants`: new constant inputs.
    `attributes`: changed ones (None: removed). `op_type`: the operator becomes another one.
    `bias`: a constant to add to output 0, in a node of its own.
    """

    inputs: Mapping[int, Affine] = field(default_factory=dict)
    outputs: Mapping[int, Affine] = field(default_factory=dict)
    constants: Mapping[int, Constant] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    op_type: str | None = None
    bias: Constant | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A node that is an affine of its input `data` by constants.

    `typical` is the magnitude that the input is known to have (|mean| + standard deviation, of
    the affine's rank), where it is known, and `result` that of the output.
    `work` counts the operations on each element.
    """

    affine: Affine
    data: int = 0
    typical: Any = None
    work: int = 1
    result: Any = None


Steps = Step | Iterable[Step]
Backward = Callable[[Operator, Affine], Steps]
"""(operator, affine) -> how the operator makes `affine(output 0)` instead."""
BackwardOutputs = Callable[[Operator, Affine, int], Steps]
"""The same for an operator with several outputs of which each can be asked."""
Forward = Callable[[Operator, Mapping[int, Affine]], Steps]
"""(operator, affines) -> how it copes with inputs that were `affine(input)`, by input index."""
Check = Callable[[Operator, Affine], None]
"""(operator, affine) -> nothing, or a Refusal where the two do not commute."""
Reader = Callable[[Operator], Source | None]

Key = tuple[str, str]
BACKWARD: dict[Key, BackwardOutputs] = {}
FORWARD: dict[Key, Forward] = {}
SOURCES: dict[Key, Reader] = {}
ATTRIBUTES: dict[Key, frozenset[str]] = {}
"""The attributes that an operator's rules have read; any other one stops the walk."""

MICROSOFT = "com.microsoft"


def register(table: dict[Key, Any], rule: Any, names: str, domain: str, attributes: str) -> None:
    """Enter a rule for each name; entering one twice is an error that names the first."""
    for name in names.split():
        key = (domain, name)
        if key in table:
            raise ValueError(f"{name} already has the rule {table[key].__name__}")
        table[key] = rule
        ATTRIBUTES[key] = ATTRIBUTES.get(key, frozenset()) | frozenset(attributes.split())


def backward(
    names: str, *, attributes: str = "", domain: str = ""
) -> Callable[[Backward], Backward]:
    """Enter a rule for an affine on the first output of these operators."""

    def enter(rule: Backward) -> Backward:
        @wraps(rule)
        def first_only(op: Operator, affine: Affine, output: int) -> Steps:
            if output:
                raise Refusal(Reason.OPAQUE_OP, f"output {output} of {op.op_type}")
            return rule(op, affine)

        register(BACKWARD, first_only, names, domain, attributes)
        return rule

    return enter


def backward_outputs(
    names: str, *, attributes: str = "", domain: str = ""
) -> Callable[[BackwardOutputs], BackwardOutputs]:
    """Enter a rule for an affine on any one output of these operators."""

    def enter(rule: BackwardOutputs) -> BackwardOutputs:
        register(BACKWARD, rule, names, domain, attributes)
        return rule

    return enter


def forward(names: str, *, attributes: str = "", domain: str = "") -> Callable[[Forward], Forward]:
    """Enter a rule for affines on inputs of these operators."""

    def enter(rule: Forward) -> Forward:
        register(FORWARD, rule, names, domain, attributes)
        return rule

    return enter


def commutes(names: str, *, attributes: str = "") -> Callable[[Check], Check]:
    """Enter a rule for operators that pass an affine unchanged, in both directions.

    The rule is the condition: it raises Refusal where it does not hold.
    """

    def enter(check: Check) -> Check:
        @wraps(check)
        def before(op: Operator, affine: Affine) -> Step:
            check(op, affine)
            return Step(inputs={0: affine})

        @wraps(check)
        def behind(op: Operator, affines: Mapping[int, Affine]) -> Step:
            affine = only(affines)
            check(op, affine)
            return Step(outputs={0: affine})

        backward(names, attributes=attributes)(before)
        forward(names, attributes=attributes)(behind)
        return check

    return enter


def source(names: str, *, attributes: str = "", domain: str = "") -> Callable[[Reader], Reader]:
    """Enter how these operators are read as an affine of one value."""

    def enter(rule: Reader) -> Reader:
        register(SOURCES, rule, names, domain, attributes)
        return rule

    return enter


def only(affines: Mapping[int, Affine], index: int = 0) -> Affine:
    """The affine of the one input that a rule can take it on. Raises Refusal for any other."""
    if set(affines) != {index}:
        raise Refusal(Reason.OPAQUE_OP, "the value enters as another operand than the data")
    return affines[index]
